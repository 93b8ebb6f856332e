//! What a write brings about once its outcome is known: changes of what is durable, answers, and
//! the next step of a rebalance. Must not know who issued it.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ErrorCode;

use super::coordinator::{Coordinator, Moment, Output, Step};
use super::group::Group;
use super::offsets::CommittedOffset;
use super::records::OffsetValue;
use super::timers::GroupId;
use super::writes::{Effect, Then, Write, WriteId};

impl Coordinator {
    /// Brings about the effects of all writes up to the first whose outcome is not known.
    pub(super) fn settle(&mut self, at: Moment, out: &mut Vec<Output>) {
        while let Some((write, outcome)) = self.writes.take_settled() {
            self.settle_one(write, outcome, at, out);
        }
    }

    fn settle_one(
        &mut self,
        write: Write,
        outcome: Result<i64, ErrorCode>,
        at: Moment,
        out: &mut Vec<Output>,
    ) {
        let Write {
            id,
            producer,
            effects,
            then,
            fetches,
            ..
        } = write;
        let producer = producer.map(|producer| producer.id);
        let mut touched = BTreeSet::new();
        for (index, effect) in effects.into_iter().enumerate() {
            if let Effect::Offset {
                group: id,
                topic,
                partition,
                ..
            } = &effect
            {
                if let Some(group) = self.groups.get_mut(id) {
                    group.offsets.end(topic, *partition);
                }
                touched.insert(id.clone());
            }
            match outcome {
                Ok(base_offset) => self.apply(effect, producer, base_offset + index as i64),
                Err(_) => self.spare(&effect),
            }
        }
        let (groups, mut step) = self.split(at, out);
        step.after(id, then, outcome.err().map(as_answer), groups);
        for (token, fetch) in fetches {
            self.answer_fetch(token, &fetch, out);
        }
        for group in touched {
            self.forget_if_void(&group);
        }
    }

    /// Makes one committed change to what is durable, be it replayed or written by us.
    pub(super) fn apply(&mut self, effect: Effect, producer: Option<i64>, record_offset: i64) {
        match effect {
            Effect::Offset {
                group,
                topic,
                partition,
                value,
            } => {
                self.apply_offset(group, topic, partition, value, producer, record_offset);
            }
            Effect::Group {
                group: id,
                value: Some(encoded),
            } => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.durable = Some(encoded);
                }
            }
            Effect::Group {
                group: id,
                value: None,
            } => {
                let Some(group) = self.groups.remove(&id) else {
                    return;
                };
                // Offsets outlive the record of their group: they make a group that only has those.
                if !group.offsets.is_empty() {
                    let mut remnant = Group::new(id.clone(), None);
                    remnant.offsets = group.offsets;
                    self.groups.insert(id, remnant);
                }
            }
            Effect::EndTransaction {
                producer_id,
                committed,
            } => {
                let touched = self.transactions.remove(&producer_id).unwrap_or_default();
                for (id, topic, partition) in touched {
                    if let Some(group) = self.groups.get_mut(&id) {
                        group
                            .offsets
                            .end_transaction(producer_id, &topic, partition, committed);
                    }
                    self.forget_if_void(&id);
                }
            }
        }
    }

    fn apply_offset(
        &mut self,
        id: GroupId,
        topic: String,
        partition: i32,
        value: Option<OffsetValue>,
        producer: Option<i64>,
        record_offset: i64,
    ) {
        let new = || Group::new(id.clone(), None);
        let group = self.groups.entry(id.clone()).or_insert_with(new);
        let value = value.map(|value| CommittedOffset {
            value,
            record_offset,
        });
        match (value, producer) {
            (Some(offset), None) => group.offsets.put(&topic, partition, offset),
            (Some(offset), Some(producer)) => {
                group
                    .offsets
                    .put_transactional(producer, &topic, partition, offset);
                self.transactions
                    .entry(producer)
                    .or_default()
                    .insert((id, topic, partition));
            }
            (None, _) => group.offsets.remove(&topic, partition),
        }
    }

    /// A change did not come about.
    fn spare(&mut self, effect: &Effect) {
        if let Effect::Group { group, value: None } = effect
            && let Some(group) = self.groups.get_mut(group)
        {
            group.deleting = false;
        }
    }
}

impl Step<'_> {
    /// A write is settled: its consequences beside those of its records.
    fn after(
        &mut self,
        write: WriteId,
        then: Then,
        error: Option<ErrorCode>,
        groups: &mut BTreeMap<GroupId, Group>,
    ) {
        match then {
            Then::Nothing => {}
            Then::Reply { token, response } => {
                let response = match error {
                    Some(error) => response.retracted(error),
                    None => response,
                };
                self.reply(token, response);
            }
            Then::Assign { group, assignments } => {
                if let Some(group) = groups.get_mut(&group) {
                    group.assignment_settled(write, assignments, error, self);
                }
            }
            Then::ReplaceStatic(replacement) => {
                if let Some(group) = groups.get_mut(&replacement.group) {
                    group.replacement_settled(*replacement, error, self);
                }
            }
        }
    }
}

/// What a client is told when a write fails: the log's errors are not the client's.
fn as_answer(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => {
            ErrorCode::NOT_COORDINATOR
        }
        ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::INVALID_FETCH_SIZE => ErrorCode::UNKNOWN_SERVER_ERROR,
        other => other,
    }
}
