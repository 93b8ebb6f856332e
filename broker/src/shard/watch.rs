//! Fetches that wait at the owner for more data.
//!
//! A watch is registered in every partition that it reads. It is looked at again when one of them commits
//! something, when its deadline comes, or when the asker has had enough (`Unwatch`): never by polling. Its
//! deadline bounds its life, and the number of watches is bounded by the fetches that connections admitted.

use super::mail::{AskId, Fetch};
use runtime::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// A waiting fetch.
pub struct Watch {
    pub from: usize,
    pub ask: AskId,
    pub fetch: Fetch,
}

/// All watches of a core.
#[derive(Default)]
pub struct Watches {
    slots: Vec<Option<Watch>>,
    free: Vec<u32>,
    by_ask: BTreeMap<(usize, AskId), u32>,
    deadlines: BTreeSet<(Instant, u32)>,
    /// Watches of partitions that moved since the last look.
    touched: BTreeSet<u32>,
}

impl Watches {
    /// Registers a fetch that has a deadline; the caller puts the slot into its partitions.
    pub fn insert(&mut self, watch: Watch) -> u32 {
        let deadline = watch
            .fetch
            .deadline
            .expect("only fetches with a deadline wait");
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.deadlines.insert((deadline, slot));
        self.by_ask.insert((watch.from, watch.ask), slot);
        self.slots[slot as usize] = Some(watch);
        slot
    }

    pub fn get(&self, slot: u32) -> Option<&Watch> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    /// Ends a watch. The caller takes the slot out of its partitions.
    pub fn remove(&mut self, slot: u32) -> Option<Watch> {
        let watch = self.slots.get_mut(slot as usize)?.take()?;
        let deadline = watch
            .fetch
            .deadline
            .expect("only fetches with a deadline wait");
        self.deadlines.remove(&(deadline, slot));
        self.by_ask.remove(&(watch.from, watch.ask));
        self.touched.remove(&slot);
        self.free.push(slot);
        Some(watch)
    }

    pub fn find(&self, from: usize, ask: AskId) -> Option<u32> {
        self.by_ask.get(&(from, ask)).copied()
    }

    /// A partition that these watches read has moved.
    pub fn touch(&mut self, slots: &[u32]) {
        self.touched.extend(slots);
    }

    /// The watches to look at now.
    pub fn take_touched(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.touched)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A watch whose deadline has come.
    pub fn overdue(&self, now: Instant) -> Option<u32> {
        self.deadlines
            .first()
            .filter(|(deadline, _)| *deadline <= now)
            .map(|(_, slot)| *slot)
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
