//! A broker under test: a process with a folder and ports of its own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::monotonic_ns;
use crate::error::{BenchError, During, Result};
use crate::machine::Process;
use crate::wire::Control;

/// How long a broker may take to start, to stop, or to answer.
pub const PATIENCE: Duration = Duration::from_secs(300);
const START_PAUSE: Duration = Duration::from_millis(1);
const STOP_PAUSE: Duration = Duration::from_millis(20);
/// Of a log that explains why a broker did not start.
const LOG_TAIL_LINES: usize = 20;

/// Where a broker lives over its restarts. The folder goes when this value does.
pub struct Home {
    /// Its number in its cluster, from 1.
    pub node: i32,
    pub data: PathBuf,
    /// For clients, and for the other nodes or the controller.
    pub ports: [u16; 2],
}

impl Home {
    /// An empty folder in `root`, and ports that are free at the moment.
    pub fn new(root: &Path) -> Result<Home> {
        Home::at(1, root.join("broker"), free_ports()?)
    }

    /// One for each node of a cluster, with ports from `first_port` on. They are named, since a
    /// node that restarts needs its own again: one that the kernel gives out could be somebody
    /// else's by then.
    pub fn of_cluster(root: &Path, nodes: i32, first_port: u16) -> Result<Vec<Home>> {
        let home = |node: i32| {
            let port = u16::try_from(2 * (node - 1))
                .ok()
                .and_then(|offset| first_port.checked_add(offset)?.checked_add(1));
            let Some(last) = port else {
                let what = format!("there are no ports for {nodes} nodes from {first_port} on");
                return Err(BenchError::Unusable(what));
            };
            Home::at(node, root.join(format!("broker-{node}")), [last - 1, last])
        };
        (1..=nodes).map(home).collect()
    }

    fn at(node: i32, data: PathBuf, ports: [u16; 2]) -> Result<Home> {
        let cleared = match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&data),
        };
        cleared.during(format!("clearing {}", data.display()))?;
        Ok(Home { node, data, ports })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[0]).into()
    }

    /// The broker's output, of all its starts.
    fn log(&self) -> PathBuf {
        self.data.join("output.log")
    }

    /// Starts `command` as the broker of this home.
    pub fn start(&self, mut command: Command) -> Result<Running> {
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.during("creating the broker's log")?;
        let errors = log.try_clone().during("creating the broker's log")?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let started_ns = monotonic_ns();
        let what = format!("starting {}", command.get_program().display());
        let child = command.spawn().during(what)?;
        Ok(Running {
            child,
            started_ns,
            address: self.address(),
            log: self.log(),
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Best effort: the next home in this place clears it again.
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// All free at the same moment.
fn free_ports() -> Result<[u16; 2]> {
    let bind = || TcpListener::bind("127.0.0.1:0").during("looking for a free port");
    let listeners = [bind()?, bind()?];
    let mut ports = [0; 2];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener
            .local_addr()
            .during("looking for a free port")?
            .port();
    }
    Ok(ports)
}

/// A broker that runs. It is killed when this value goes, unless it was stopped before.
pub struct Running {
    child: Child,
    started_ns: u64,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Running {
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Seconds since it was started.
    pub fn age_s(&self) -> f64 {
        (monotonic_ns() - self.started_ns) as f64 / 1e9
    }

    /// A connection, as soon as it serves one.
    pub fn control(&mut self) -> Result<Control> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Control::connect(self.address, PATIENCE) {
                Ok(control) => return Ok(control),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => {}
            }
            let status = self.child.try_wait().during("watching the broker")?;
            if let Some(status) = status {
                let log = self.log_tail();
                return Err(BenchError::Unusable(format!(
                    "the broker ended with {status}:\n{log}"
                )));
            }
            thread::sleep(START_PAUSE);
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Asks it to stop, as an operator would.
    pub fn terminate(&self) {
        // SAFETY: no pointers are involved; the child was not waited for, so the pid is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
    }

    /// Whether its process is over. Once it is, its number may be somebody else's.
    pub fn has_ended(&mut self) -> Result<bool> {
        let status = self.child.try_wait().during("watching the broker")?;
        Ok(status.is_some())
    }

    /// Stops it as an operator would; gives the seconds that took.
    pub fn stop(mut self) -> Result<f64> {
        let began = Instant::now();
        self.terminate();
        while began.elapsed() < PATIENCE {
            if self.has_ended()? {
                return Ok(began.elapsed().as_secs_f64());
            }
            thread::sleep(STOP_PAUSE);
        }
        let seconds = PATIENCE.as_secs();
        Err(BenchError::TimedOut {
            what: "stopping the broker".to_owned(),
            seconds,
        })
    }

    /// kill -9.
    pub fn kill(mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait().map(drop))
            .during("killing the broker")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("bench-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_home_begins_empty_and_goes() {
        let root = root("home");
        fs::create_dir_all(root.join("broker/old")).unwrap();
        let home = Home::new(&root).unwrap();
        assert_eq!(fs::read_dir(&home.data).unwrap().count(), 0);
        let [a, b] = home.ports;
        assert_ne!(a, b);
        let data = home.data.clone();
        drop(home);
        assert!(!data.exists());
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn nodes_of_a_cluster_have_homes_apart() {
        let root = root("cluster");
        let homes = Home::of_cluster(&root, 3, 24_000).unwrap();
        let ports: Vec<_> = homes.iter().map(|home| home.ports).collect();
        assert_eq!(
            ports,
            [[24_000, 24_001], [24_002, 24_003], [24_004, 24_005]]
        );
        let nodes: Vec<_> = homes.iter().map(|home| home.node).collect();
        assert_eq!(nodes, [1, 2, 3]);
        assert_ne!(homes[0].data, homes[1].data);
        assert!(Home::of_cluster(&root, 3, u16::MAX - 2).is_err());
        drop(homes);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_broker_that_ends_says_why() {
        let root = root("ends");
        let home = Home::new(&root).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no disk >&2; exit 3"]);
        let error = home
            .start(command)
            .unwrap()
            .control()
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("no disk"),
            "{error}"
        );
        drop(home);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_broker_stops_when_it_is_told_to() {
        let root = root("stops");
        let home = Home::new(&root).unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        assert!(home.start(command).unwrap().stop().unwrap() < PATIENCE.as_secs_f64());
        drop(home);
        fs::remove_dir_all(&root).unwrap();
    }
}
