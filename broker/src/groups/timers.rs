//! What happens to groups when nothing else does. A queue of named deadlines; arming a timer again
//! moves it. Must not know what a timer means, nor read a clock.

use std::collections::BTreeMap;
use std::rc::Rc;

use runtime::Instant;

/// A group's id, shared by all that point at the group.
pub(super) type GroupId = Rc<str>;
/// A member's id, shared by all that point at the member.
pub(super) type MemberId = Rc<str>;

/// The name of a timer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Ends the wait for members to join; in a first rebalance its delay.
    Join(GroupId),
    /// Ends the wait for members to ask for their assignment.
    Sync(GroupId),
    /// A member, or one that was only given an id, has not been heard of for too long.
    Session(GroupId, MemberId),
}

/// Armed timers, in order of their deadlines and, among equals, of their arming.
#[derive(Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Instant, u64), Timer>,
    places: BTreeMap<Timer, (Instant, u64)>,
    armed: u64,
}

impl Timers {
    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        self.cancel(&timer);
        self.armed += 1;
        let place = (at, self.armed);
        self.queue.insert(place, timer.clone());
        self.places.insert(timer, place);
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(place) = self.places.remove(timer) {
            self.queue.remove(&place);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first timer whose time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        self.next_deadline().filter(|at| *at <= now)?;
        let (_, timer) = self.queue.pop_first()?;
        self.places.remove(&timer);
        Some(timer)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.places.clear();
    }

    #[cfg(test)]
    pub(super) fn is_armed(&self, timer: &Timer) -> bool {
        self.places.contains_key(timer)
    }
}
