//! Open loop: message `i` is meant to leave at `t0 + i / rate`, whatever the broker does.
//!
//! A generator that falls behind skips nothing: what it missed is due at once, and its latency
//! counts from the time when it was meant to leave. Coordinated omission is thus impossible.

use crate::clock::NS_PER_S;

/// The plan of an open loop. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Debug)]
pub struct Schedule {
    start_ns: u64,
    end_ns: u64,
    messages_per_s: f64,
    next: u64,
}

impl Schedule {
    /// `messages_per_s` messages a second from `start_ns` until before `end_ns`.
    ///
    /// # Panics
    /// If the rate is not a positive number.
    pub fn new(start_ns: u64, end_ns: u64, messages_per_s: f64) -> Schedule {
        assert!(
            messages_per_s.is_finite() && messages_per_s > 0.0,
            "a rate of {messages_per_s} messages/s"
        );
        Schedule {
            start_ns,
            end_ns,
            messages_per_s,
            next: 0,
        }
    }

    /// When message `number` is meant to leave. Computed from the start, so that no rounding error
    /// grows with the number.
    pub fn intended_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * NS_PER_S as f64 / self.messages_per_s) as u64
    }

    /// The next message if it is due at `now_ns`: its number and its intended time.
    pub fn take(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let due_ns = self.next_ns()?;
        if due_ns > now_ns {
            return None;
        }
        let number = self.next;
        self.next += 1;
        Some((number, due_ns))
    }

    /// When the next message is due; `None` once the schedule has ended.
    pub fn next_ns(&self) -> Option<u64> {
        Some(self.intended_ns(self.next)).filter(|due_ns| *due_ns < self.end_ns)
    }

    /// How many messages are meant to leave from `from_ns` until before `to_ns`.
    pub fn planned(&self, from_ns: u64, to_ns: u64) -> u64 {
        let before = |at_ns: u64| {
            let seconds = at_ns.saturating_sub(self.start_ns) as f64 / NS_PER_S as f64;
            (seconds * self.messages_per_s).ceil() as u64
        };
        before(to_ns.min(self.end_ns)).saturating_sub(before(from_ns))
    }
}

/// The part of a run that is measured: what is meant to leave in it, the warm-up being over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start_ns: u64,
    pub end_ns: u64,
}

impl Window {
    pub fn contains(&self, at_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&at_ns)
    }

    pub fn seconds(&self) -> f64 {
        (self.end_ns - self.start_ns) as f64 / NS_PER_S as f64
    }
}

/// The share of its target that a rate must reach to count as sustained.
const SUSTAINED_SHARE: f64 = 0.99;

/// Whether `achieved` is enough of `target`; below, a row carries no latencies.
pub fn is_sustained(achieved: f64, target: f64) -> bool {
    achieved >= target * SUSTAINED_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_leave_at_equal_distances_from_the_start() {
        let mut schedule = Schedule::new(500, NS_PER_S + 500, 4.0);
        assert_eq!(schedule.take(499), None);
        assert_eq!(schedule.take(500), Some((0, 500)));
        assert_eq!(schedule.take(250_000_499), None);
        assert_eq!(schedule.next_ns(), Some(250_000_500));
        assert_eq!(schedule.take(250_000_500), Some((1, 250_000_500)));
    }

    #[test]
    fn what_was_missed_is_due_at_once_with_its_intended_time() {
        let mut schedule = Schedule::new(0, NS_PER_S, 4.0);
        let late: Vec<_> = std::iter::from_fn(|| schedule.take(900_000_000)).collect();
        assert_eq!(
            late,
            [(0, 0), (1, 250_000_000), (2, 500_000_000), (3, 750_000_000)]
        );
        assert_eq!(schedule.next_ns(), None, "the fifth would leave at the end");
        assert_eq!(schedule.take(u64::MAX), None);
    }

    #[test]
    fn an_odd_rate_does_not_drift() {
        let schedule = Schedule::new(0, u64::MAX, 9765.625);
        assert_eq!(schedule.intended_ns(9_765_625), 1000 * NS_PER_S);
        assert_eq!(schedule.intended_ns(9_765_625 * 24), 24_000 * NS_PER_S);
    }

    #[test]
    fn the_plan_of_a_window_counts_what_leaves_inside_it() {
        let schedule = Schedule::new(0, 10 * NS_PER_S, 3.0);
        assert_eq!(schedule.planned(0, NS_PER_S), 3);
        assert_eq!(schedule.planned(NS_PER_S, 4 * NS_PER_S), 9);
        assert_eq!(
            schedule.planned(9 * NS_PER_S, 20 * NS_PER_S),
            3,
            "it ends at ten seconds"
        );
        let inside = (0..30).filter(|i| (1..=2).contains(&(schedule.intended_ns(*i) / NS_PER_S)));
        assert_eq!(
            inside.count() as u64,
            schedule.planned(NS_PER_S, 3 * NS_PER_S)
        );
    }

    #[test]
    fn a_rate_is_sustained_from_99_percent_on() {
        assert!(is_sustained(99.0, 100.0));
        assert!(!is_sustained(98.9, 100.0));
    }
}
