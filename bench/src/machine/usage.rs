//! What the broker, the client and the whole machine spent between two moments.
//!
//! The broker's own figure is incomplete on loopback: the kernel charges TCP work to either end.
//! So the CPU of the whole machine stands beside it. A figure that cannot be read is absent.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::proc::{self, MachineTicks, Pressure};
use crate::clock::{NS_PER_S, monotonic_ns};

/// A process under observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub u32);

impl Process {
    fn read(self, file: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).ok()
    }

    /// User and system time since its start, kernel workers of its io_urings included, in s.
    pub fn cpu_s(self) -> Option<f64> {
        proc::process_ticks(&self.read("stat")?).map(seconds)
    }

    pub fn resident_bytes(self) -> Option<u64> {
        proc::field(&self.read("status")?, "VmRSS").map(|kib| kib << 10)
    }

    /// Bytes that it made the kernel write to, or read from, a block device.
    fn disk_bytes(self) -> Option<(u64, u64)> {
        let io = self.read("io")?;
        Some((
            proc::field(&io, "write_bytes")?,
            proc::field(&io, "read_bytes")?,
        ))
    }

    /// Open file descriptors.
    pub fn descriptors(self) -> Option<u64> {
        fs::read_dir(format!("/proc/{}/fd", self.0))
            .ok()
            .map(|list| list.count() as u64)
    }
}

/// All counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    at_ns: u64,
    broker_cpu_s: Option<f64>,
    broker_disk_bytes: Option<(u64, u64)>,
    machine: Option<MachineTicks>,
    client_cpu_s: f64,
    pressure: Option<Pressure>,
}

impl Usage {
    /// The broker is one process or more, all of whose counters are added up; none is unknown.
    pub fn now(broker: &[Process]) -> Usage {
        let stat = fs::read_to_string("/proc/stat").ok();
        Usage {
            at_ns: monotonic_ns(),
            broker_cpu_s: total(broker, Process::cpu_s, |a, b| a + b),
            broker_disk_bytes: total(broker, Process::disk_bytes, |a, b| (a.0 + b.0, a.1 + b.1)),
            machine: stat.as_deref().and_then(proc::machine_ticks),
            client_cpu_s: thread_cpu_s(),
            pressure: cpu_pressure(),
        }
    }

    /// What was spent since `earlier`.
    pub fn since(&self, earlier: &Usage) -> Spent {
        let ticks = |pick: fn(&MachineTicks) -> u64| {
            Some(seconds(
                pick(&self.machine?).saturating_sub(pick(&earlier.machine?)),
            ))
        };
        let disk = |pick: fn((u64, u64)) -> u64| {
            Some(pick(self.broker_disk_bytes?).saturating_sub(pick(earlier.broker_disk_bytes?)))
        };
        let wall_s = (self.at_ns - earlier.at_ns) as f64 / NS_PER_S as f64;
        let waited_us = || Some(self.pressure?.total_us - earlier.pressure?.total_us);
        Spent {
            wall_s,
            broker_cpu_s: self
                .broker_cpu_s
                .zip(earlier.broker_cpu_s)
                .map(|(now, then)| now - then),
            machine_cpu_s: ticks(|machine| machine.busy),
            steal_s: ticks(|machine| machine.steal),
            client_cpu_s: self.client_cpu_s - earlier.client_cpu_s,
            disk_written_bytes: disk(|(written, _)| written),
            disk_read_bytes: disk(|(_, read)| read),
            cpu_pressure_percent: waited_us().map(|us| us as f64 / 1e4 / wall_s),
        }
    }
}

/// A figure of all processes together; absent if one of them lacks it, or if there are none.
pub fn total<T>(
    processes: &[Process],
    figure: impl Fn(Process) -> Option<T>,
    add: impl Fn(T, T) -> T,
) -> Option<T> {
    let mut all = processes.iter().map(|process| figure(*process));
    let first = all.next()??;
    all.try_fold(first, |sum, next| Some(add(sum, next?)))
}

/// What was spent in a time span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    pub wall_s: f64,
    pub broker_cpu_s: Option<f64>,
    /// All CPUs together, client and strangers included.
    pub machine_cpu_s: Option<f64>,
    pub steal_s: Option<f64>,
    /// The client's thread alone.
    pub client_cpu_s: f64,
    pub disk_written_bytes: Option<u64>,
    pub disk_read_bytes: Option<u64>,
    /// Share of the time in which some task waited for a CPU.
    pub cpu_pressure_percent: Option<f64>,
}

/// How long somebody waited for a CPU lately; `None` on a kernel without PSI.
pub fn cpu_pressure() -> Option<Pressure> {
    proc::pressure(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

/// Waits until the machine is quiet enough to measure, at most for `patience`; gives the pressure
/// (`some avg10`, in percent) with which the measurement begins.
pub fn wait_until_quiet(percent_max: f64, patience: Duration) -> Option<f64> {
    let deadline = Instant::now() + patience;
    loop {
        let percent = cpu_pressure()?.avg10_percent;
        if percent < percent_max || Instant::now() >= deadline {
            return Some(percent);
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// Kernel, cores and memory, as one phrase.
pub fn describe() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").ok();
    let memory_gib = memory
        .and_then(|text| proc::field(&text, "MemTotal"))
        .unwrap_or(0)
        >> 20;
    // SAFETY: no pointers are involved.
    let cores = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    format!(
        "Linux {}, {cores} cores, {memory_gib} GiB of memory",
        kernel.trim()
    )
}

/// The type of the filesystem that holds `path`, which is absolute and without links.
pub fn filesystem(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    proc::filesystem_of(&mounts, path)
        .unwrap_or("an unknown filesystem")
        .to_owned()
}

fn thread_cpu_s() -> f64 {
    // SAFETY: all zeros is a valid `rusage`, which is writable.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn seconds(ticks: u64) -> f64 {
    // SAFETY: no pointers are involved.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    ticks as f64 / per_second.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(at_ns: u64, broker_cpu_s: Option<f64>, busy: u64) -> Usage {
        Usage {
            at_ns,
            broker_cpu_s,
            broker_disk_bytes: Some((at_ns / 10, 7)),
            machine: Some(MachineTicks {
                busy,
                idle: 0,
                steal: 0,
            }),
            client_cpu_s: 0.5,
            pressure: Some(Pressure {
                avg10_percent: 0.0,
                total_us: at_ns / 2000,
            }),
        }
    }

    #[test]
    fn spending_is_a_difference() {
        let spent = usage(3 * NS_PER_S, Some(2.5), 300).since(&usage(NS_PER_S, Some(1.0), 100));
        assert_eq!((spent.wall_s, spent.broker_cpu_s), (2.0, Some(1.5)));
        assert_eq!(spent.disk_written_bytes, Some(200_000_000));
        assert_eq!(spent.disk_read_bytes, Some(0));
        assert_eq!(spent.cpu_pressure_percent, Some(50.0));
        assert_eq!(spent.machine_cpu_s, Some(seconds(200)));
    }

    #[test]
    fn what_one_side_lacks_is_absent() {
        let spent = usage(2, None, 0).since(&usage(1, Some(1.0), 0));
        assert_eq!(spent.broker_cpu_s, None);
    }

    #[test]
    fn a_total_needs_all_its_parts() {
        let figure = |process: Process| (process.0 != 9).then_some(process.0);
        let sum = |ids: &[u32]| {
            let processes: Vec<Process> = ids.iter().copied().map(Process).collect();
            total(&processes, figure, |a, b| a + b)
        };
        assert_eq!(sum(&[1, 2, 3]), Some(6));
        assert_eq!(sum(&[1, 9]), None);
        assert_eq!(sum(&[]), None);
    }

    #[test]
    fn this_process_can_be_observed() {
        let this = Process(std::process::id());
        assert!(this.resident_bytes().unwrap() > 0);
        assert!(this.descriptors().unwrap() > 0);
        assert!(this.cpu_s().is_some());
    }
}
