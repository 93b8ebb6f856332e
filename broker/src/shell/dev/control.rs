//! How the other commands tell the foreground process what to do: one line of JSON there, one
//! back, on a Unix socket in the cluster's directory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::super::error::ShellError;

const SOCKET: &str = "control.sock";
/// Longest line that is read from either side.
const LINE_BYTES_MAX: u64 = 1 << 20;
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Orders that wait while one is carried out.
const ORDERS_MAX: usize = 16;

/// What the foreground process is told to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    Show,
    Kill(Vec<i32>),
    Stop(Vec<i32>),
    Start(Vec<i32>),
    Pause(Vec<i32>),
    Resume(Vec<i32>),
    Wipe(Vec<i32>),
    Cut {
        from: i32,
        to: i32,
        one_way: bool,
        reset: bool,
    },
    Isolate {
        node: i32,
        reset: bool,
    },
    Heal,
    Add,
    Down,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// A sentence for each thing that was done; or why nothing was.
    pub outcome: Result<Vec<String>, String>,
    /// The cluster after that.
    pub nodes: Vec<NodeReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeReport {
    pub node: i32,
    pub state: NodeState,
    pub pid: Option<u32>,
    pub uptime_ms: Option<u64>,
    pub client: SocketAddr,
    pub admin: SocketAddr,
    pub log: PathBuf,
    /// The links on which nothing goes from this node to another: whom to.
    pub cut_to: Vec<i32>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NodeState {
    /// It recovers, or looks for the others.
    Starting,
    /// It serves clients.
    Running,
    Paused,
    Stopping,
    Stopped,
    Killed,
    /// It ended by itself; its log says why.
    Failed,
}

impl NodeState {
    pub(super) fn name(self) -> &'static str {
        match self {
            NodeState::Starting => "starting",
            NodeState::Running => "running",
            NodeState::Paused => "paused",
            NodeState::Stopping => "stopping",
            NodeState::Stopped => "stopped",
            NodeState::Killed => "killed",
            NodeState::Failed => "failed",
        }
    }
}

/// The path of a socket in a directory, short enough for the kernel (108 bytes) wherever that is.
/// The file keeps it valid.
fn socket(directory: &Path) -> io::Result<(PathBuf, File)> {
    let file = File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", file.as_raw_fd());
    Ok((path.into(), file))
}

/// Tells the foreground process of the cluster in `directory`; `None` if there is no such process.
pub(super) fn tell(directory: &Path, order: &Order) -> Result<Option<Answer>, ShellError> {
    let connected = socket(directory).and_then(|(path, _file)| UnixStream::connect(path));
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
            _ => return Err(unanswered(directory, &error)),
        },
    };
    match exchange(&stream, order) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => Err(unanswered(directory, &error)),
    }
}

fn exchange(mut stream: &UnixStream, order: &Order) -> io::Result<Answer> {
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn unanswered(directory: &Path, error: &io::Error) -> ShellError {
    ShellError::impossible(
        format!("talk to the cluster in {}", directory.display()),
        format!("{error}. Look at the terminal where it runs."),
    )
}

/// An order, and where its answer goes.
pub(super) type Asked = (Order, oneshot::Sender<Answer>);

/// Listens for orders, which come out of the receiver one by one.
pub(super) fn listen(directory: &Path) -> io::Result<mpsc::Receiver<Asked>> {
    let (path, file) = socket(directory)?;
    // Nobody listens there any more: who starts a cluster has made sure of that.
    super::layout::absent_is_fine(std::fs::remove_file(directory.join(SOCKET)))?;
    let listener = UnixListener::bind(&path)?;
    let (asked, orders) = mpsc::channel(ORDERS_MAX);
    tokio::spawn(async move {
        let _file = file;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let asked = asked.clone();
                    tokio::spawn(async move {
                        // Whoever does not keep to one line within the time gets no answer.
                        let _ = timeout(ANSWER_WITHIN, serve(stream, asked)).await;
                    });
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(orders)
}

/// The socket is of no use any more.
pub(super) fn forget(directory: &Path) {
    let _ = std::fs::remove_file(directory.join(SOCKET));
}

async fn serve(mut stream: tokio::net::UnixStream, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    let mut reading = tokio::io::BufReader::new(reading.take(LINE_BYTES_MAX));
    reading.read_line(&mut line).await?;
    let order: Order = serde_json::from_str(&line)?;
    let (answered, answer) = oneshot::channel();
    if asked.send((order, answered)).await.is_err() {
        return Ok(());
    }
    if let Ok(answer) = answer.await {
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        writing.write_all(&line).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_answered_from_a_directory_of_any_length() {
        let name = format!("corelane-control-{}", std::process::id());
        let top = std::env::temp_dir().join(name);
        let directory = top.join("d".repeat(200));
        std::fs::create_dir_all(&directory).unwrap();
        assert_eq!(tell(&directory, &Order::Show).unwrap(), None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let asking = directory.clone();
        let answer = runtime.block_on(async move {
            let mut orders = listen(&asking).unwrap();
            let told = std::thread::spawn(move || tell(&asking, &Order::Kill(vec![2])));
            let (order, answered) = orders.recv().await.unwrap();
            assert_eq!(order, Order::Kill(vec![2]));
            let answer = Answer {
                outcome: Err("no such node".into()),
                nodes: Vec::new(),
            };
            answered.send(answer).unwrap();
            while !told.is_finished() {
                sleep(Duration::from_millis(5)).await;
            }
            told.join().unwrap().unwrap()
        });
        let expected = Some(Err("no such node".to_owned()));
        assert_eq!(answer.map(|answer| answer.outcome), expected);
        std::fs::remove_dir_all(top).unwrap();
    }
}
