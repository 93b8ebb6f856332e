//! What this machine gives to the process: CPUs and memory, and what a node takes of them.
//!
//! Reads `/proc` and the cgroup at start; nothing here runs on a core.

use crate::config::{BrokerConfig, Cores, Memory, Size};
use std::path::{Path, PathBuf};

/// The least that a core can work with.
pub const MEMORY_PER_CORE_MIN: u64 = 64 << 20;
/// Taken if the machine does not say what it has.
const MEMORY_ASSUMED: u64 = 1 << 30;

/// What a node takes of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// CPU numbers, one executor each.
    pub cpus: Vec<usize>,
    /// Whether each executor stays on its CPU.
    pub pinned: bool,
    /// For all cores together.
    pub memory_bytes: u64,
}

/// Why a machine cannot give what the configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error(
        "corelane.cores names CPU {cpu}, and this process may use {allowed} only; name others, or \
         widen its affinity (taskset, cpuset)"
    )]
    Cpu { cpu: usize, allowed: String },
    #[error(
        "corelane.cores={wanted} cannot each have a CPU, as this process may use {allowed}; ask \
         for fewer, or let them share with --overprovisioned"
    )]
    Cpus { wanted: usize, allowed: String },
    #[error(
        "corelane.memory comes to {memory}, and {cores} cores need {needed}; give them more, or \
         use fewer cores with --cores"
    )]
    TooLittle {
        memory: Size,
        cores: usize,
        needed: Size,
    },
    #[error(
        "corelane.memory={memory} is more than the {limit} that this process may have; give it \
         less, or leave it out"
    )]
    TooMuch { memory: Size, limit: Size },
}

/// The part of this machine that a configuration asks for.
pub fn share(config: &BrokerConfig) -> Result<Share, Unavailable> {
    let cpus = allowed_cpus();
    let (cpus, pinned) = choose(&config.cores, config.overprovisioned, &cpus)?;
    let memory_bytes = measure(config.memory, cpus.len(), &Room::now())?;
    Ok(Share {
        cpus,
        pinned,
        memory_bytes,
    })
}

/// CPUs out of those `allowed`, and whether the executors stay on them.
fn choose(
    cores: &Cores,
    overprovisioned: bool,
    allowed: &[usize],
) -> Result<(Vec<usize>, bool), Unavailable> {
    let chosen = match cores {
        Cores::All => allowed.to_vec(),
        Cores::Count(wanted) if *wanted > allowed.len() && !overprovisioned => {
            return Err(Unavailable::Cpus {
                wanted: *wanted,
                allowed: list(allowed),
            });
        }
        // More executors than CPUs share them.
        Cores::Count(wanted) => allowed.iter().copied().cycle().take(*wanted).collect(),
        Cores::Named(cpus) => {
            if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                return Err(Unavailable::Cpu {
                    cpu: *cpu,
                    allowed: list(allowed),
                });
            }
            cpus.clone()
        }
    };
    Ok((chosen, !overprovisioned))
}

/// CPU numbers for a sentence: `CPU 0`, `CPUs 0, 1`.
fn list(cpus: &[usize]) -> String {
    let numbers: Vec<String> = cpus.iter().map(usize::to_string).collect();
    let word = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    format!("{word} {}", numbers.join(", "))
}

/// The CPUs that this process may use.
fn allowed_cpus() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpus = cpu_list(list.unwrap_or(""));
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// The numbers in a list of the kernel's, such as `0-3,8`.
fn cpu_list(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

/// Memory as the machine tells of it, in bytes; `None` where it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Room {
    /// What can be had now without swapping.
    available: Option<u64>,
    /// What the machine has.
    total: Option<u64>,
    /// The lowest limit among the process's cgroups.
    cgroup: Option<u64>,
}

impl Room {
    fn now() -> Room {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = cgroup_files(&groups).into_iter().filter_map(|path| {
            let limit = std::fs::read_to_string(path).ok()?;
            // `max`, which is no number, is no limit.
            limit.trim().parse::<u64>().ok()
        });
        Room {
            available: meminfo_bytes(&meminfo, "MemAvailable:"),
            total: meminfo_bytes(&meminfo, "MemTotal:"),
            cgroup: limits.min(),
        }
    }

    /// What a percentage is taken of.
    fn available(&self) -> u64 {
        let known = [self.available, self.cgroup].into_iter().flatten();
        known.min().unwrap_or(MEMORY_ASSUMED)
    }

    /// What cannot be had at all beyond this.
    fn limit(&self) -> u64 {
        let known = [self.total, self.cgroup].into_iter().flatten();
        known.min().unwrap_or(u64::MAX)
    }
}

/// Bytes for so many cores in this room.
fn measure(memory: Memory, cores: usize, room: &Room) -> Result<u64, Unavailable> {
    let bytes = match memory {
        Memory::Percent(percent) => {
            (u128::from(room.available()) * u128::from(percent) / 100) as u64
        }
        Memory::Bytes(bytes) if bytes > room.limit() => {
            return Err(Unavailable::TooMuch {
                memory: Size(bytes),
                limit: Size(room.limit()),
            });
        }
        Memory::Bytes(bytes) => bytes,
    };
    let needed = MEMORY_PER_CORE_MIN * cores as u64;
    if bytes < needed {
        return Err(Unavailable::TooLittle {
            memory: Size(bytes),
            cores,
            needed: Size(needed),
        });
    }
    Ok(bytes)
}

fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    let kib = line.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    Some(kib << 10)
}

/// The files that may limit the memory of a process in these groups (`/proc/self/cgroup`): each
/// group's own and those of the groups around it, in both versions of the interface. Within a
/// container the paths lead nowhere but to the root, which is then the container's own group.
fn cgroup_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            named if named.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(root).join(path.trim_start_matches('/'));
        let around = group
            .ancestors()
            .take_while(|above| above.starts_with(root));
        files.extend(around.map(|above| above.join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn cpus_are_those_that_were_asked_for() {
        let allowed = [0, 1, 4, 5];
        let named = Cores::Named(vec![5, 0]);
        assert_eq!(choose(&named, false, &allowed), Ok((vec![5, 0], true)));
        let all = choose(&Cores::All, false, &allowed);
        assert_eq!(all, Ok((allowed.to_vec(), true)));
        let first = choose(&Cores::Count(3), false, &allowed);
        assert_eq!(first, Ok((vec![0, 1, 4], true)));
        let shared = choose(&Cores::Count(6), true, &allowed);
        assert_eq!(shared, Ok((vec![0, 1, 4, 5, 0, 1], false)));
    }

    #[test]
    fn cpus_that_are_not_there_are_told() {
        let said = |cores| {
            let error = choose(&cores, false, &[0, 1]).unwrap_err().to_string();
            assert!(
                error.contains("CPUs 0, 1") && !error.contains('\n'),
                "{error}"
            );
            error
        };
        assert!(said(Cores::Named(vec![1, 2])).contains("names CPU 2"));
        assert!(said(Cores::Count(3)).contains("--overprovisioned"));
    }

    #[test]
    fn memory_is_a_share_of_what_can_be_had() {
        let room = Room {
            available: Some(10 * GIB),
            total: Some(16 * GIB),
            cgroup: None,
        };
        let of = |memory, cores, room: &Room| measure(memory, cores, room).map(|bytes| bytes >> 20);
        assert_eq!(of(Memory::Percent(50), 2, &room), Ok(5 << 10));
        assert_eq!(of(Memory::Bytes(12 * GIB), 2, &room), Ok(12 << 10));
        let limited = Room {
            cgroup: Some(GIB),
            ..room
        };
        assert_eq!(of(Memory::Percent(100), 2, &limited), Ok(1 << 10));
        let silent = Room::default();
        assert_eq!(of(Memory::Percent(100), 2, &silent), Ok(1 << 10));
    }

    #[test]
    fn memory_that_does_not_do_is_told() {
        let room = Room {
            available: Some(GIB),
            total: Some(2 * GIB),
            cgroup: None,
        };
        let said = |memory, cores| measure(memory, cores, &room).unwrap_err().to_string();
        let little = said(Memory::Bytes(100 << 20), 2);
        assert!(
            little.contains("100 MiB, and 2 cores need 128 MiB"),
            "{little}"
        );
        assert!(said(Memory::Percent(80), 16).contains("16 cores need 1 GiB"));
        let much = said(Memory::Bytes(3 * GIB), 1);
        assert!(much.contains("3 GiB is more than the 2 GiB"), "{much}");
    }

    #[test]
    fn limits_are_looked_for_in_all_groups_around() {
        let shown = |groups: &str| -> Vec<String> {
            let files = cgroup_files(groups).into_iter();
            files.map(|path| path.display().to_string()).collect()
        };
        assert_eq!(
            shown("0::/system.slice/corelane.service\n"),
            [
                "/sys/fs/cgroup/system.slice/corelane.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            shown("5:cpu,cpuacct:/a\n4:memory:/b\n"),
            [
                "/sys/fs/cgroup/memory/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert!(shown("nonsense").is_empty());
    }

    #[test]
    fn the_kernels_lists_are_read() {
        assert_eq!(cpu_list("\t0-2,5\n"), [0, 1, 2, 5]);
        assert!(cpu_list("").is_empty());
        let text = "MemTotal:  4 kB\nMemAvailable:   2 kB\n";
        assert_eq!(meminfo_bytes(text, "MemAvailable:"), Some(2048));
    }
}
