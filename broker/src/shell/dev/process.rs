//! Processes of this machine: who they are, beyond their number, and how they are told something.
//!
//! The kernel gives the number of a process that has ended to another one. A process is therefore
//! known by its number *and* the moment of its start, and is signalled through a descriptor that
//! belongs to it: nobody else can be hit.

use std::io;

use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

pub(super) use rustix::process::Signal;

/// One process, and never its successor of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub pid: u32,
    /// Clock ticks from the boot of the machine to the start of the process.
    started_ticks: u64,
}

impl ProcessId {
    /// The process that has this number now; `None` if there is none.
    pub(super) fn of(pid: u32) -> Option<ProcessId> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started_ticks = started_ticks(&stat)?;
        Some(ProcessId { pid, started_ticks })
    }

    /// Whether it is still there and has not ended.
    pub(super) fn lives(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.is_ok_and(|stat| !is_dead(&stat) && started_ticks(&stat) == Some(self.started_ticks))
    }

    /// Signals it. False if it has ended.
    pub(super) fn signal(self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(false);
        };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        // Looked at after the descriptor was opened: what lives now is what the descriptor means.
        if !self.lives() {
            return Ok(false);
        }
        match pidfd_send_signal(descriptor, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The fields of `/proc/PID/stat` behind the name, which may hold blanks and brackets.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_ascii_whitespace()
}

/// Field 22 (proc_pid_stat(5)); the first one behind the name is field 3.
fn started_ticks(stat: &str) -> Option<u64> {
    fields(stat).nth(22 - 3)?.parse().ok()
}

fn is_dead(stat: &str) -> bool {
    matches!(fields(stat).next(), None | Some("Z" | "X"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 123456 1 1";
        assert_eq!(started_ticks(stat), Some(123_456));
        assert!(!is_dead(stat) && is_dead("7 (x) Z 1") && is_dead(""));
        let me = ProcessId::of(std::process::id()).expect("this process");
        assert!(me.lives());
        let before = ProcessId {
            started_ticks: me.started_ticks - 1,
            ..me
        };
        assert!(!before.lives());
        // SIGKILL, which this process would notice.
        assert!(!before.signal(Signal::KILL).expect("nobody is hit"));
    }

    #[test]
    fn signals_reach_the_living_only() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let id = ProcessId::of(child.id()).expect("it lives");
        assert!(id.signal(Signal::KILL).expect("allowed"));
        child.wait().expect("it ends");
        assert!(!id.lives());
        assert!(!id.signal(Signal::KILL).expect("nobody is there"));
    }
}
