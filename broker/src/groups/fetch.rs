//! OffsetFetch: what stands in the log, nothing else. Who wants it stable waits for commits that
//! are on their way and is refused what an open transaction may still change.

use std::collections::BTreeMap;

use protocol::ErrorCode;

use super::coordinator::{Coordinator, Output, Token};
use super::group::Group;
use super::offsets::Slot;
use super::request::OffsetFetch;
use super::response::{
    OffsetFetchResponse, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};

impl Coordinator {
    /// Takes a request whose sender knows that this coordinator is still the one.
    pub fn fetch(&mut self, token: Token, request: OffsetFetch, out: &mut Vec<Output>) {
        let group = self.groups.get(&*request.group_id);
        let must_wait = request.require_stable
            && group.is_some_and(|group| group.offsets.has_commits_in_flight());
        let ready = match must_wait {
            true => self.writes.await_commits(token, request),
            false => Some((token, request)),
        };
        if let Some((token, request)) = ready {
            self.answer_fetch(token, &request, out);
        }
    }

    pub(super) fn answer_fetch(&self, token: Token, request: &OffsetFetch, out: &mut Vec<Output>) {
        let group = self.groups.get(&*request.group_id);
        let response = OffsetFetchResponse {
            error_code: ErrorCode::NONE,
            topics: match &request.topics {
                Some(_) => named(group, request),
                None => group
                    .map(|group| all(group, request.require_stable))
                    .unwrap_or_default(),
            },
        };
        out.push(Output::Reply {
            token,
            response: response.into(),
        });
    }
}

/// The partitions that were asked for, found or not.
fn named(group: Option<&Group>, request: &OffsetFetch) -> Vec<OffsetFetchResponseTopic> {
    let topics = request.topics.iter().flatten().map(|topic| {
        let slots = group.and_then(|group| group.offsets.topic(&topic.name));
        let slot = |partition: &i32| slots.and_then(|slots| slots.get(partition));
        let partitions = topic.partition_indexes.iter().map(|partition| {
            let found = slot(partition);
            answer(*partition, found, topic.topic_id, request.require_stable)
        });
        OffsetFetchResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    });
    topics.collect()
}

/// All partitions that the group has an offset of.
fn all(group: &Group, require_stable: bool) -> Vec<OffsetFetchResponseTopic> {
    let topics = group
        .offsets
        .topics()
        .filter_map(|(name, slots): (_, &BTreeMap<i32, Slot>)| {
            let committed = slots.iter().filter(|(_, slot)| slot.committed.is_some());
            let partitions: Vec<_> = committed
                .map(|(partition, slot)| answer(*partition, Some(slot), 0, require_stable))
                .collect();
            let topic = OffsetFetchResponseTopic {
                name: name.to_owned(),
                topic_id: 0,
                partitions,
            };
            (!topic.partitions.is_empty()).then_some(topic)
        });
    topics.collect()
}

fn answer(
    partition_index: i32,
    slot: Option<&Slot>,
    topic_id: u128,
    require_stable: bool,
) -> OffsetFetchResponsePartition {
    let unstable = require_stable && slot.is_some_and(Slot::has_open_transaction);
    let is_same_topic = |known: u128| known == 0 || topic_id == 0 || known == topic_id;
    let committed = slot
        .filter(|_| !unstable)
        .and_then(|slot| slot.committed.as_ref())
        .map(|committed| &committed.value)
        .filter(|value| is_same_topic(value.topic_id));
    OffsetFetchResponsePartition {
        partition_index,
        committed_offset: committed.map_or(-1, |value| value.offset),
        committed_leader_epoch: committed.map_or(-1, |value| value.leader_epoch),
        metadata: committed
            .map(|value| value.metadata.clone())
            .unwrap_or_default(),
        error_code: match unstable {
            true => ErrorCode::UNSTABLE_OFFSET_COMMIT,
            false => ErrorCode::NONE,
        },
    }
}
