//! The offsets of one group: committed ones, those of open transactions, and marks for those being
//! written. Must not know who may commit, nor when an offset expires.

use std::collections::BTreeMap;

use super::records::OffsetValue;

/// An offset that stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// What was committed.
    pub value: OffsetValue,
    /// Where its record stands; of a plain and a transactional commit the later record wins.
    pub record_offset: i64,
}

/// All that is known about one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) committed: Option<CommittedOffset>,
    /// By producer; the latest of each.
    transactional: Vec<(i64, CommittedOffset)>,
    /// Commits that are on their way to the log.
    in_flight: u32,
}

impl Slot {
    fn is_void(&self) -> bool {
        self.committed.is_none() && self.transactional.is_empty() && self.in_flight == 0
    }

    /// Whether something that is not settled yet may change the committed offset.
    pub(super) fn is_open(&self) -> bool {
        self.has_open_transaction() || self.in_flight > 0
    }

    pub(super) fn has_open_transaction(&self) -> bool {
        !self.transactional.is_empty()
    }

    /// Whether the topic id of anything here is `topic_id`, or not known.
    pub(super) fn may_belong_to(&self, topic_id: u128) -> bool {
        let transactional = self.transactional.iter().map(|(_, offset)| offset);
        let mut known = self.committed.iter().chain(transactional).peekable();
        // A commit that is only on its way has not told its id yet.
        known.peek().is_none()
            || known.any(|known| known.value.topic_id == 0 || known.value.topic_id == topic_id)
    }
}

/// The offsets of one group, by topic and partition. Holds no empty slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, Slot>>,
    /// The sum of the slots' commits in flight.
    in_flight: usize,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn slot(&self, topic: &str, partition: i32) -> Option<&Slot> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(super) fn topic(&self, topic: &str) -> Option<&BTreeMap<i32, Slot>> {
        self.topics.get(topic)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = (&str, &BTreeMap<i32, Slot>)> {
        self.topics
            .iter()
            .map(|(topic, slots)| (topic.as_str(), slots))
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = (&str, i32, &Slot)> {
        self.topics().flat_map(|(topic, slots)| {
            slots
                .iter()
                .map(move |(partition, slot)| (topic, *partition, slot))
        })
    }

    /// The offsets of open transactions, with their producers.
    pub(super) fn transactional(&self) -> impl Iterator<Item = (i64, &str, i32, &CommittedOffset)> {
        self.slots().flat_map(|(topic, partition, slot)| {
            slot.transactional
                .iter()
                .map(move |(producer, offset)| (*producer, topic, partition, offset))
        })
    }

    pub(super) fn has_commits_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    fn change(&mut self, topic: &str, partition: i32, change: impl FnOnce(&mut Slot)) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeMap::new());
        }
        let slots = self.topics.get_mut(topic).expect("it was just put there");
        let slot = slots.entry(partition).or_default();
        change(slot);
        if slot.is_void() {
            slots.remove(&partition);
            if slots.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// A commit has been sent to the log.
    pub(super) fn begin(&mut self, topic: &str, partition: i32) {
        self.in_flight += 1;
        self.change(topic, partition, |slot| slot.in_flight += 1);
    }

    /// A commit that was sent to the log is settled, one way or the other.
    pub(super) fn end(&mut self, topic: &str, partition: i32) {
        self.change(topic, partition, |slot| {
            assert!(
                slot.in_flight > 0,
                "a commit of partition {partition} ended twice"
            );
            slot.in_flight -= 1;
        });
        self.in_flight -= 1;
    }

    pub(super) fn put(&mut self, topic: &str, partition: i32, offset: CommittedOffset) {
        self.change(topic, partition, |slot| slot.committed = Some(offset));
    }

    pub(super) fn put_transactional(
        &mut self,
        producer: i64,
        topic: &str,
        partition: i32,
        offset: CommittedOffset,
    ) {
        self.change(topic, partition, |slot| {
            slot.transactional.retain(|(other, _)| *other != producer);
            slot.transactional.push((producer, offset));
        });
    }

    /// A tombstone: takes what transactions have there too.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        self.change(topic, partition, |slot| {
            slot.committed = None;
            slot.transactional.clear();
        });
    }

    /// The producer's transaction has ended.
    pub(super) fn end_transaction(
        &mut self,
        producer: i64,
        topic: &str,
        partition: i32,
        committed: bool,
    ) {
        self.change(topic, partition, |slot| {
            let found = slot
                .transactional
                .iter()
                .position(|(other, _)| *other == producer);
            let Some(found) = found else { return };
            let (_, offset) = slot.transactional.remove(found);
            let standing = slot
                .committed
                .as_ref()
                .map(|standing| standing.record_offset);
            if committed && standing.is_none_or(|standing| standing < offset.record_offset) {
                slot.committed = Some(offset);
            }
        });
    }
}
