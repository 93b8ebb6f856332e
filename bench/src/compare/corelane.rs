//! Corelane as a process: as it comes, with its own ports and folder.

use std::path::Path;
use std::process::Command;

use super::broker::Home;
use crate::error::{During, Result};

/// How to start the broker at `binary` with so many cores.
pub fn command(
    binary: &Path,
    settings: &[(String, String)],
    cores: usize,
    home: &Home,
) -> Result<Command> {
    // The program is named by its absolute path: the child has another working directory.
    let binary = std::path::absolute(binary).during("finding the broker's binary")?;
    let mut command = Command::new(binary);
    command.current_dir(&home.data);
    command.args(["start", "--cores", &cores.to_string()]);
    command.args(["--listen", &home.address().to_string()]);
    command.arg("--data").arg(home.data.join("data"));
    command.args(["--set", "corelane.admin.listener="]);
    command.args([
        "--set",
        &format!("corelane.peer.listener=127.0.0.1:{}", home.ports[1]),
    ]);
    for (name, value) in settings {
        command.args(["--set", &format!("{name}={value}")]);
    }
    Ok(command)
}
