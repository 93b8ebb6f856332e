//! The machine under the benchmark: what it spends, where threads run, what it could do at best.

mod affinity;
mod limits;
mod proc;
mod usage;

pub use affinity::{available_cpus, pin_command, pin_thread};
pub use limits::{Limits, measure_limits};
pub use usage::{Process, Spent, Usage, describe, filesystem, total, wait_until_quiet};
