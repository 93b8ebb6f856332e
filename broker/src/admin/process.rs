//! What the kernel says about this process, from `/proc/self`.
//!
//! Deliberately absent: anything about the machine as a whole; the node exporter tells that.

use std::fs;

/// Ticks of the clock in which the kernel shows CPU time to programs (`USER_HZ`). It is 100 on every
/// architecture that this broker is built for, whatever the kernel's own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Figures of this process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Process {
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
    /// User and system time of all threads.
    pub(super) cpu_seconds: f64,
    pub(super) open_fds: u64,
    /// The soft limit; `None` if there is none.
    pub(super) max_fds: Option<u64>,
}

impl Process {
    /// Reads the figures; `None` where `/proc` is not to be had.
    pub(super) fn read() -> Option<Process> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        // One of them is the directory that is being read.
        let open_fds = fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1);
        Some(Process {
            resident_bytes: status_figure(&status, "VmRSS:")? << 10,
            threads: status_figure(&status, "Threads:")?,
            cpu_seconds: cpu_seconds(&stat)?,
            open_fds: open_fds as u64,
            max_fds: max_fds(&limits),
        })
    }
}

/// The number in the line that begins with `name`.
fn status_figure(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 (`utime`, `stime`). The second field is the program's name in parentheses, which
/// may hold spaces and parentheses itself, so they are counted from its end.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields
        .split_whitespace()
        .skip(11)
        .map(|ticks| ticks.parse::<u64>().ok());
    let ticks = times.next()?? + times.next()??;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (cut off) S 1"), None);
    }

    #[test]
    fn a_limit_may_be_absent() {
        let line =
            |limit| format!("Max open files            {limit}              4096     files\n");
        assert_eq!(max_fds(&line("1024")), Some(1024));
        assert_eq!(max_fds(&line("unlimited")), None);
    }

    #[test]
    fn this_process_is_there() {
        let process = Process::read().expect("Linux has /proc");
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(process.threads >= 1 && process.open_fds >= 3, "{process:?}");
        assert!(process.cpu_seconds >= 0.0, "{process:?}");
    }
}
