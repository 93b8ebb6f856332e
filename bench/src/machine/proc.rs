//! Reading the texts of /proc. Pure: text in, numbers out; `None` if the text is not what the
//! kernel writes.

use std::path::Path;

/// CPU time of one process, threads that have ended included, in clock ticks.
///
/// `/proc/PID/stat`: the name in parentheses may hold anything, so counting starts behind the last
/// parenthesis; there utime and stime are fields 14 and 15 of the line.
pub fn process_ticks(stat: &str) -> Option<u64> {
    let fields = stat.rsplit_once(')')?.1;
    let mut times = fields.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

/// What the CPUs of the machine did, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineTicks {
    /// Everything but idle, waiting for I/O and stolen.
    pub busy: u64,
    pub idle: u64,
    /// Taken by the hypervisor for others.
    pub steal: u64,
}

/// The first line of `/proc/stat`. The guest columns are part of user and nice already.
pub fn machine_ticks(stat: &str) -> Option<MachineTicks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let columns: Vec<u64> = line
        .split_whitespace()
        .map_while(|column| column.parse().ok())
        .collect();
    let [user, nice, system, idle, io_wait, irq, soft_irq, steal] = *columns.first_chunk::<8>()?;
    Some(MachineTicks {
        busy: user + nice + system + irq + soft_irq,
        idle: idle + io_wait,
        steal,
    })
}

/// A number of the lines `Name:   value kB` or `name: value`, as in `/proc/PID/status`,
/// `/proc/PID/io` and `/proc/meminfo`.
pub fn field(text: &str, name: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// The line `some` of a file in `/proc/pressure`: the share of time in which somebody waited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Of the last ten seconds, in percent.
    pub avg10_percent: f64,
    /// Since boot, in us.
    pub total_us: u64,
}

pub fn pressure(text: &str) -> Option<Pressure> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = |name: &str| {
        some.split_whitespace()
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    Some(Pressure {
        avg10_percent: value("avg10")?.parse().ok()?,
        total_us: value("total")?.parse().ok()?,
    })
}

/// The type of the filesystem that holds `path`, from `/proc/mounts`: of all mounts above it the
/// deepest, and of several in one place the last.
pub fn filesystem_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let mut fields = line.split_whitespace().skip(1);
        let place = Path::new(fields.next()?);
        path.starts_with(place)
            .then_some((place.components().count(), fields.next()?))
    };
    mounts
        .lines()
        .filter_map(mount)
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_parentheses_and_spaces() {
        let stat = "42 (a) R (b c) S 1 42 42 0 -1 4194304 100 0 0 0 250 31 0 0 20 0 3 0 9 1000 5";
        assert_eq!(process_ticks(stat), Some(281));
        assert_eq!(process_ticks("42 (short) S 1"), None);
        assert_eq!(process_ticks(""), None);
    }

    #[test]
    fn this_process_has_the_form_that_is_expected() {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(process_ticks(&text).is_some());
        assert!(machine_ticks(&std::fs::read_to_string("/proc/stat").unwrap()).is_some());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(field(&status, "VmRSS").unwrap() > 0);
    }

    #[test]
    fn stolen_and_idle_time_is_not_busy() {
        let stat = "cpu  10 1 20 500 7 2 3 40 5 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(
            machine_ticks(stat),
            Some(MachineTicks {
                busy: 36,
                idle: 507,
                steal: 40
            })
        );
        assert_eq!(machine_ticks("cpu  1 2 3\n"), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "VmRSSx: 1 kB\nVmRSS:\t  123 kB\nwrite_bytes: 77\n";
        assert_eq!(field(text, "VmRSS"), Some(123));
        assert_eq!(field(text, "write_bytes"), Some(77));
        assert_eq!(field(text, "bytes"), None);
    }

    #[test]
    fn the_deepest_mount_holds_a_path() {
        let mounts = "/dev/a / ext4 rw 0 0\nnone /data tmpfs rw 0 0\n/dev/b /data xfs rw 0 0\n";
        let of = |path: &str| filesystem_of(mounts, Path::new(path));
        assert_eq!(of("/data/x"), Some("xfs"));
        assert_eq!(of("/database"), Some("ext4"));
        assert_eq!(filesystem_of("", Path::new("/")), None);
    }

    #[test]
    fn pressure_is_that_of_some() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.00 total=941522125\n\
                    full avg10=1.00 avg60=0.00 avg300=0.00 total=5\n";
        let expected = Pressure {
            avg10_percent: 12.5,
            total_us: 941_522_125,
        };
        assert_eq!(pressure(text), Some(expected));
        assert_eq!(pressure("full avg10=1.00 total=5"), None);
    }
}
