//! One node of the cluster as a process of this one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::control::NodeState;
use super::layout::NodeEntry;
use super::process::{ProcessId, Signal};

/// How long a node may take to say whether it is ready.
const PROBE_WITHIN: Duration = Duration::from_millis(300);

/// How much of the end of a log is looked at.
const LAST_WORDS_BYTES: u64 = 4 << 10;

/// A node, whether it runs or not.
pub(super) struct Node {
    pub entry: NodeEntry,
    running: Option<Running>,
    /// What it came to, while it does not run.
    ended: NodeState,
}

struct Running {
    child: Child,
    id: ProcessId,
    since: Instant,
    state: NodeState,
    /// What it will have come to, once it has ended.
    ends_as: NodeState,
}

impl Node {
    pub(super) fn new(entry: NodeEntry) -> Node {
        Node {
            entry,
            running: None,
            ended: NodeState::Stopped,
        }
    }

    pub(super) fn state(&self) -> NodeState {
        let running = self.running.as_ref();
        running.map_or(self.ended, |running| running.state)
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.id.pid)
    }

    pub(super) fn uptime(&self) -> Option<Duration> {
        let running = self.running.as_ref();
        running.map(|running| running.since.elapsed())
    }

    /// Starts the process: this very program, with the node's settings. It gets a group of its
    /// own, so that a Ctrl-C in the terminal does not stop it before it is asked to.
    pub(super) fn start(&mut self, settings: &[(String, String)]) -> io::Result<()> {
        std::fs::create_dir_all(&self.entry.data)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.entry.log)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("corelane").arg("start").process_group(0);
        for (name, value) in settings {
            command.arg("--set").arg(format!("{name}={value}"));
        }
        command.env_remove("CORELANE_CONFIG");
        command.stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        let Some(id) = ProcessId::of(child.id()) else {
            let _ = child.kill();
            child.wait()?;
            return Err(io::Error::other("/proc does not show the new process"));
        };
        self.entry.process = Some(id);
        self.running = Some(Running {
            child,
            id,
            since: Instant::now(),
            state: NodeState::Starting,
            ends_as: NodeState::Failed,
        });
        Ok(())
    }

    /// Stops, kills, freezes or thaws it, if it runs.
    pub(super) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.id.signal(signal)?;
        match signal {
            Signal::TERM => {
                running.state = NodeState::Stopping;
                running.ends_as = NodeState::Stopped;
            }
            Signal::KILL => running.ends_as = NodeState::Killed,
            Signal::STOP => running.state = NodeState::Paused,
            // Whether it is ready is asked anew.
            Signal::CONT if running.state == NodeState::Paused => {
                running.state = NodeState::Starting;
            }
            _ => {}
        }
        Ok(())
    }

    /// Notices that the process has ended. True if it just did.
    pub(super) fn notice_end(&mut self) -> bool {
        let Some(running) = &mut self.running else {
            return false;
        };
        let Ok(Some(status)) = running.child.try_wait() else {
            return false;
        };
        // One that has left the cluster ends by itself, and in order.
        self.ended = match running.ends_as {
            NodeState::Failed if status.success() => NodeState::Stopped,
            ends_as => ends_as,
        };
        self.running = None;
        self.entry.process = None;
        true
    }

    /// Asks a node that starts whether it is ready.
    pub(super) async fn notice_readiness(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        if running.state == NodeState::Starting && is_ready(self.entry.admin).await {
            running.state = NodeState::Running;
        }
    }

    /// The last thing that its log says.
    pub(super) fn last_words(&self) -> String {
        let end = File::open(&self.entry.log).and_then(|mut log| {
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
            let mut end = Vec::new();
            log.take(LAST_WORDS_BYTES).read_to_end(&mut end)?;
            Ok(end)
        });
        let end = end.unwrap_or_default();
        let end = String::from_utf8_lossy(&end);
        let last = end.lines().rfind(|line| !line.trim().is_empty());
        last.unwrap_or("nothing").to_owned()
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(admin).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        io::Result::Ok(status == *b"HTTP/1.1 200")
    };
    matches!(timeout(PROBE_WITHIN, asked).await, Ok(Ok(true)))
}
