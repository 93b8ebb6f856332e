//! One full disk at a time, for long, and nothing else: the others are a majority that has room, so no producer waits
//! for more than a moment, wherever its leader was.
//!
//! Some runs are of this kind alone. Nothing can be asked of producers in the others, where a second fault may leave a
//! partition without a majority.

use super::character::Draw;
use super::cluster::{End, Fate, name};
use super::leave;
use super::violation::Violation;
use super::{Options, Stage};

/// One run in so many is of this kind. Each takes as long as thirty others.
const ONE_IN: u64 = 96;
/// Virtual time within which a batch is acknowledged, while and after a lead moves on.
const SERVED_WITHIN_US: u64 = 2_000_000;

/// Whether a run is of this kind, if it is of no other. Drawn apart, so that the other seeds are what they are.
pub(super) fn is_drawn(options: &Options) -> bool {
    let is_plain = options.nodes != leave::NODES && !options.majority_lost;
    is_plain && Draw(options.seed ^ 0x6675_6c6c).below(ONE_IN) == 0
}

impl Fate {
    /// A disk is full for some seconds, then has room again, and the node catches up; then another one.
    pub(super) fn fill_one_by_one(&mut self, rounds: u64) {
        // Each takes as much time as a whole run of another kind, and more.
        for _ in 0..=rounds.min(1) {
            let index = self.any_node();
            self.stage.history().count("one full disk");
            self.tell(format!("the disk of {} is full", name(index)));
            let from_us = self.now_us();
            self.fill(index);
            self.stage.one_full.set(Some((from_us, u64::MAX)));
            self.live_ms(1_000, 12_000);
            self.end(End::Room(index));
            let to_us = self.now_us();
            self.stage.one_full.set(Some((from_us, to_us)));
            self.live_ms(5_000, 8_000);
            if self.stage.is_over() {
                return;
            }
        }
    }

    fn now_us(&self) -> u64 {
        self.sim.now().0 / 1_000
    }
}

impl Stage {
    /// A producer's batches are acknowledged, or it has given up a topic that is deleted: did it wait too long while one
    /// disk of several was full?
    pub(super) fn judge_wait(&self, producer: u32, began_us: u64) {
        let Some((from_us, to_us)) = self.one_full.get() else {
            return;
        };
        let until_us = (self.control.now().0 / 1_000).min(to_us);
        let waited_us = until_us.saturating_sub(began_us.max(from_us));
        if waited_us > SERVED_WITHIN_US {
            let what = format!("producer {producer} for {waited_us} us, while one disk was full");
            self.history().violate(Violation::KeptWaiting, what);
        } else if waited_us > 0 {
            self.history().count("served while one disk was full");
        }
    }
}
