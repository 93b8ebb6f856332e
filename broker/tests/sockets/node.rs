//! A broker as a process of its own, with its data in a directory of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::client::Client;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running broker; dropping it ends the process and removes the data.
pub struct Node {
    child: Child,
    /// Its data directory.
    pub data: PathBuf,
    /// Where it says that it listens, in the order of its listeners.
    pub addresses: Vec<SocketAddr>,
}

/// The command of a broker that shares nothing with others on this machine.
fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["start", "--data"]).arg(data);
    command.args(["--set", "corelane.admin.listener="]);
    command.args(["--set", "corelane.journal.bytes=16777216"]);
    command.args(arguments);
    command.env_remove("CORELANE_LOG");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A directory beside the binary: the target directory is on a real disk, which `/tmp` may not be.
fn data_of(name: &str) -> PathBuf {
    let name = format!("sockets-{name}-{}", std::process::id());
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&data);
    data
}

/// What a broker that does not start says.
pub fn refused(name: &str, arguments: &[&str]) -> Output {
    let data = data_of(name);
    let output = command(&data, arguments).output().expect("the binary runs");
    let _ = std::fs::remove_dir_all(&data);
    output
}

impl Node {
    /// Starts a broker and waits until it is ready. `--memory` and a listener on a free port of the
    /// loopback are given; `arguments` may overrule them.
    pub fn start(name: &str, arguments: &[&str]) -> Node {
        let data = data_of(name);
        let mut all = vec!["--set", "listeners=PLAINTEXT://127.0.0.1:0"];
        for default in [["--memory", "256MiB"], ["--cores", "1"]] {
            if !arguments.contains(&default[0]) {
                all.extend(default);
            }
        }
        all.extend(arguments);
        let mut child = command(&data, &all).spawn().expect("the binary runs");
        let log = child.stderr.take().expect("it is piped");
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for text in BufReader::new(log).lines().map_while(Result::ok) {
                let _ = line.send(text);
            }
        });
        let mut node = Node {
            child,
            data,
            addresses: Vec::new(),
        };
        let mut said = Vec::new();
        while node.addresses.is_empty() {
            match lines.recv_timeout(PATIENCE) {
                Ok(text) => {
                    node.addresses = addresses(&text);
                    said.push(text);
                }
                Err(_) => panic!("the broker does not come up: {said:?}"),
            }
        }
        node
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A client of the first listener.
    pub fn client(&self) -> Client {
        Client::connect(self.addresses[0])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// The addresses in the line that says that the broker is ready; of another line none.
fn addresses(line: &str) -> Vec<SocketAddr> {
    let Some((_, told)) = line.split_once(" ms on ") else {
        return Vec::new();
    };
    let listeners = told.split(' ').map(|word| {
        let word = word.trim_end_matches([',', ':']);
        word.split_once("://").map_or(word, |(_, address)| address)
    });
    listeners.map_while(|word| word.parse().ok()).collect()
}
