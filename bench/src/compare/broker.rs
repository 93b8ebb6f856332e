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
    pub data: PathBuf,
    pub ports: [u16; 3],
}

impl Home {
    /// An empty folder in `root`.
    pub fn new(root: &Path) -> Result<Home> {
        let data = root.join("broker");
        let cleared = match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&data),
        };
        cleared.during(format!("clearing {}", data.display()))?;
        Ok(Home {
            data,
            ports: free_ports()?,
        })
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
fn free_ports() -> Result<[u16; 3]> {
    let bind = || TcpListener::bind("127.0.0.1:0").during("looking for a free port");
    let listeners = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
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

    /// Stops it as an operator would; gives the seconds that took.
    pub fn stop(mut self) -> Result<f64> {
        let began = Instant::now();
        // SAFETY: no pointers are involved; the child was not waited for, so the pid is its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        while began.elapsed() < PATIENCE {
            if self
                .child
                .try_wait()
                .during("waiting for the broker to stop")?
                .is_some()
            {
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
        let [a, b, c] = home.ports;
        assert!(a != b && b != c && a != c);
        let data = home.data.clone();
        drop(home);
        assert!(!data.exists());
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
