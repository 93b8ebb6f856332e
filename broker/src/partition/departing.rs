//! How long the files below a log start stay (`file.delete.delay.ms`).
//!
//! A value beside the log: it sees the log start and the time, and says below which offset files may
//! go. It is not kept over a restart, which begins the delay anew.

use runtime::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Moves of the log start that are waited for one by one; more count as late as the latest of them.
const MOVES_MAX: usize = 64;

/// Log starts whose files are too young to go.
#[derive(Debug)]
pub struct Departing {
    /// When the log start moved, and to which offset; oldest first.
    moves: VecDeque<(Instant, i64)>,
    /// Files below it may go.
    gone: i64,
}

impl Default for Departing {
    fn default() -> Self {
        Departing {
            moves: VecDeque::new(),
            gone: i64::MIN,
        }
    }
}

impl Departing {
    /// The offset below which files may go now.
    pub fn due(&mut self, log_start: i64, delay: Duration, now: Instant) -> i64 {
        let newest = self.moves.back().map_or(self.gone, |(_, offset)| *offset);
        if log_start > newest {
            if self.moves.len() == MOVES_MAX {
                self.moves.pop_back();
            }
            self.moves.push_back((now, log_start));
        }
        while let Some((since, offset)) = self.moves.front().copied()
            && now.since(since) >= delay
        {
            self.gone = offset;
            self.moves.pop_front();
        }
        self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn each_move_waits_for_itself() {
        let mut departing = Departing::default();
        assert!(departing.due(10, DELAY, at(0)) < 0);
        assert!(departing.due(20, DELAY, at(60)) < 10);
        assert_eq!(departing.due(20, DELAY, at(100)), 10);
        assert_eq!(departing.due(20, DELAY, at(159)), 10);
        assert_eq!(departing.due(20, DELAY, at(160)), 20);
        assert_eq!(departing.due(20, DELAY, at(1_000)), 20);
    }

    #[test]
    fn without_a_delay_nothing_waits() {
        let mut departing = Departing::default();
        assert_eq!(departing.due(7, Duration::ZERO, at(0)), 7);
        // A delay that is set later holds for later moves.
        assert_eq!(departing.due(9, DELAY, at(0)), 7);
        assert_eq!(departing.due(9, Duration::ZERO, at(1)), 9);
    }

    #[test]
    fn moves_are_bounded_and_the_first_ones_still_on_time() {
        let mut departing = Departing::default();
        let last = MOVES_MAX as u64 + 30;
        for ms in 0..last {
            departing.due(ms as i64, DELAY, at(ms));
        }
        assert_eq!(departing.moves.len(), MOVES_MAX);
        assert_eq!(departing.due(0, DELAY, at(100)), 0);
        assert_eq!(departing.due(0, DELAY, at(last + 99)), last as i64 - 1);
    }
}
