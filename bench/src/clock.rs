//! The clocks of a run: CLOCK_MONOTONIC in ns, which all processes of a host share, and Unix time.

use std::time::{Duration, SystemTime};

pub const NS_PER_S: u64 = 1_000_000_000;

/// CLOCK_MONOTONIC in ns. Unlike `std::time::Instant` it can be written into a record.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, writable timespec.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(code, 0, "CLOCK_MONOTONIC exists on every Linux");
    time.tv_sec as u64 * NS_PER_S + time.tv_nsec as u64
}

/// Unix time in ms, for the timestamps of records.
pub fn wall_ms() -> i64 {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
