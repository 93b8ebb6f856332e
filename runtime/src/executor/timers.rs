//! Wakers ordered by time. Must not read a clock. One tree is enough: a core has thousands of
//! timers, not millions, and an idle partition has none.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::time::Instant;

/// Names a timer: its time, and a number that tells apart those of the same time.
pub(crate) type TimerKey = (Instant, u64);

#[derive(Default)]
pub(crate) struct Timers {
    wakers: BTreeMap<TimerKey, Waker>,
    next_number: u64,
}

impl Timers {
    pub(crate) fn insert(&mut self, at: Instant, waker: Waker) -> TimerKey {
        let key = (at, self.next_number);
        self.next_number += 1;
        self.wakers.insert(key, waker);
        key
    }

    /// Replaces the waker of a timer that has not fired; says whether there was one.
    pub(crate) fn update(&mut self, key: TimerKey, waker: &Waker) -> bool {
        match self.wakers.get_mut(&key) {
            Some(current) => {
                current.clone_from(waker);
                true
            }
            None => false,
        }
    }

    pub(crate) fn remove(&mut self, key: TimerKey) {
        self.wakers.remove(&key);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.wakers.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Waker> {
        let entry = self.wakers.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}
