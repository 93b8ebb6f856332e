//! The way into a coordinator from the log, and back.
//!
//! A replay feeds every committed record in the order of the log. A snapshot is the shortest log
//! that replays to the same durable state; appending it and then forgetting what stands before it
//! is how the topic stays small.

use bytes::Bytes;

use super::coordinator::Coordinator;
use super::group::Group;
use super::records::{Decoded, GroupValue, Record, group_key, offset_key};
use super::timers::GroupId;
use super::writes::Effect;

/// What a replay has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    /// Records that were taken in.
    pub records: u64,
    /// Those among them that delete something.
    pub tombstones: u64,
    /// Records of other kinds of groups, left alone.
    pub unknown_types: u64,
    /// Records that cannot be read. Not zero: better do not rewrite this log.
    pub malformed: u64,
}

/// A record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Set if it must be written within an open transaction of this producer.
    pub producer_id: Option<i64>,
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

impl Coordinator {
    /// Takes in one committed record; a value of `None` is a tombstone.
    pub fn replay(&mut self, key: Bytes, value: Option<Bytes>, offset: i64) {
        self.replay_record(None, key, value, offset);
    }

    /// Takes in one committed record of a transactional batch.
    pub fn replay_transactional(
        &mut self,
        producer_id: i64,
        key: Bytes,
        value: Option<Bytes>,
        offset: i64,
    ) {
        self.replay_record(Some(producer_id), key, value, offset);
    }

    /// Takes in the marker that ends a producer's transaction.
    pub fn replay_end_transaction(&mut self, producer_id: i64, committed: bool, offset: i64) {
        self.apply(
            Effect::EndTransaction {
                producer_id,
                committed,
            },
            None,
            offset,
        );
    }

    /// What the replay has seen.
    pub fn replay_counts(&self) -> ReplayCounts {
        self.replayed
    }

    fn replay_record(
        &mut self,
        producer: Option<i64>,
        key: Bytes,
        value: Option<Bytes>,
        offset: i64,
    ) {
        let is_tombstone = value.is_none();
        // What is kept of a value must not keep the batch in memory that it is a slice of.
        let value = value.map(|value| Bytes::copy_from_slice(&value));
        let record = match Record::decode(key, value.clone()) {
            Ok(Decoded::Record(record)) => record,
            Ok(Decoded::UnknownType(_)) => {
                self.replayed.unknown_types += 1;
                return;
            }
            Err(_) => {
                self.replayed.malformed += 1;
                return;
            }
        };
        self.replayed.records += 1;
        self.replayed.tombstones += u64::from(is_tombstone);
        match record {
            Record::Offset {
                group,
                topic,
                partition,
                value,
            } => {
                let group = self.shared_id(&group);
                let effect = Effect::Offset {
                    group,
                    topic,
                    partition,
                    value,
                };
                self.apply(effect, producer, offset);
            }
            Record::Group {
                group,
                value: Some(read),
            } => {
                self.restore(&group, read, value.unwrap_or_default());
            }
            Record::Group { group, value: None } => {
                let group = self.shared_id(&group);
                self.apply(Effect::Group { group, value: None }, None, offset);
            }
        }
    }

    fn shared_id(&self, group: &str) -> GroupId {
        match self.groups.get_key_value(group) {
            Some((id, _)) => id.clone(),
            None => group.into(),
        }
    }

    /// Puts a group as its record says in the place of what was known of it, its offsets aside.
    fn restore(&mut self, group: &str, read: GroupValue, encoded: Bytes) {
        let id = self.shared_id(group);
        let mut restored = Group::restored(id.clone(), read, encoded);
        if let Some(known) = self.groups.remove(&id) {
            restored.offsets = known.offsets;
        }
        self.groups.insert(id, restored);
    }

    /// Everything that is durable, as records in the order in which they must be appended: what
    /// committed writes have made, and nothing of those under way. Who appends it to the log waits
    /// until [`writes_under_way`](Self::writes_under_way) is zero, and lets nothing else through
    /// before: it would undo what they put between here and the log's end.
    pub fn snapshot(&self) -> Vec<SnapshotRecord> {
        let mut records = vec![];
        let mut offsets = vec![];
        for group in self.groups.values() {
            if let Some(value) = &group.durable {
                let (key, value) = (group_key(&group.id), value.clone());
                records.push(SnapshotRecord {
                    producer_id: None,
                    key,
                    value,
                });
            }
            for (topic, partition, slot) in group.offsets.slots() {
                let key = || offset_key(&group.id, topic, partition);
                if let Some(committed) = &slot.committed {
                    offsets.push((committed, None, key()));
                }
            }
            for (producer, topic, partition, offset) in group.offsets.transactional() {
                let key = offset_key(&group.id, topic, partition);
                offsets.push((offset, Some(producer), key));
            }
        }
        // A transaction that ends later must find the same order of commits as before.
        offsets.sort_by_key(|(offset, _, _)| offset.record_offset);
        records.extend(
            offsets
                .into_iter()
                .map(|(offset, producer_id, key)| SnapshotRecord {
                    producer_id,
                    key,
                    value: offset.value.encode(),
                }),
        );
        records
    }
}
