//! Corelane as a process: as it comes, with its own ports and folder.

use std::path::Path;
use std::process::Command;

use super::broker::Home;
use crate::error::{During, Result};

/// What three nodes of one machine take of its memory: as much as Kafka's heap.
const CLUSTER_MEMORY: &str = "1GiB";

/// How to start the broker at `binary` with so many cores, as the node of `home` in `cluster`.
pub fn command(
    binary: &Path,
    settings: &[(String, String)],
    cores: usize,
    home: &Home,
    cluster: &[Home],
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
    for (name, value) in membership(home, cluster) {
        command.args(["--set", &format!("{name}={value}")]);
    }
    for (name, value) in settings {
        command.args(["--set", &format!("{name}={value}")]);
    }
    Ok(command)
}

/// What makes a node one of several; a node alone needs nothing.
fn membership(home: &Home, cluster: &[Home]) -> Vec<(&'static str, String)> {
    if cluster.len() < 2 {
        return Vec::new();
    }
    let voter = |home: &Home| format!("{}@127.0.0.1:{}", home.node, home.ports[1]);
    let voters: Vec<String> = cluster.iter().map(voter).collect();
    vec![
        ("node.id", home.node.to_string()),
        ("controller.quorum.voters", voters.join(",")),
        ("corelane.memory", CLUSTER_MEMORY.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_name_each_other() {
        let root = std::env::temp_dir().join(format!("bench-voters-{}", std::process::id()));
        let homes = Home::of_cluster(&root, 3, 24_100).unwrap();
        let settings = membership(&homes[1], &homes);
        assert!(settings.contains(&("node.id", "2".to_owned())));
        let voters = "1@127.0.0.1:24101,2@127.0.0.1:24103,3@127.0.0.1:24105".to_owned();
        assert!(settings.contains(&("controller.quorum.voters", voters)));
        assert!(membership(&homes[0], &homes[..1]).is_empty());
        drop(homes);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
