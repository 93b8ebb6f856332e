//! What administrators and the passing of time do: listing, deleting, expiring.

use std::collections::BTreeSet;

use protocol::ErrorCode;

use super::coordinator::{Coordinator, Moment, Output, Step, Token};
use super::group::{Group, GroupState};
use super::offsets::CommittedOffset;
use super::records::Record;
use super::request::{DeleteGroup, ListGroups};
use super::response::{
    CLASSIC_GROUP_TYPE, DeleteGroupResponse, DescribeGroupResponse, ListGroupsResponse, ListedGroup,
};
use super::timers::GroupId;
use super::writes::Then;

impl Coordinator {
    /// The groups that a filter lets through.
    pub fn list(&self, filter: &ListGroups) -> ListGroupsResponse {
        let normal = |name: &String| name.trim().to_lowercase();
        let states: BTreeSet<String> = filter.states_filter.iter().map(normal).collect();
        let types: BTreeSet<String> = filter.types_filter.iter().map(normal).collect();
        let type_passes = types.is_empty() || types.contains(CLASSIC_GROUP_TYPE);
        let passes = |group: &&Group| {
            type_passes
                && (states.is_empty() || states.contains(&group.state.name().to_lowercase()))
        };
        let groups = self
            .groups
            .values()
            .filter(passes)
            .map(|group| ListedGroup {
                group_id: group.id.to_string(),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                group_state: group.state,
            });
        ListGroupsResponse {
            error_code: ErrorCode::NONE,
            groups: groups.collect(),
        }
    }

    /// One group, if it exists.
    pub fn describe(&self, group_id: &str) -> Option<DescribeGroupResponse> {
        self.groups.get(group_id).map(Group::describe)
    }

    /// All committed offsets as (group, topic, partition, offset), sorted.
    pub fn committed_offsets(&self) -> impl Iterator<Item = (&str, &str, i32, &CommittedOffset)> {
        self.groups.values().flat_map(|group| {
            group
                .offsets
                .slots()
                .filter_map(|(topic, partition, slot)| {
                    let committed = slot.committed.as_ref()?;
                    Some((&*group.id, topic, partition, committed))
                })
        })
    }

    pub(super) fn delete_group(
        &mut self,
        token: Token,
        request: DeleteGroup,
        at: Moment,
        out: &mut Vec<Output>,
    ) {
        let (groups, mut step) = self.split(at, out);
        let error = match groups.get_mut(&*request.group_id) {
            None => ErrorCode::GROUP_ID_NOT_FOUND,
            Some(group) if group.deleting => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            Some(group) if group.state != GroupState::Empty => ErrorCode::NON_EMPTY_GROUP,
            Some(group) => {
                let records = group.tombstones();
                step.counters.offset_deletions += records.len() as u64 - 1;
                let response = DeleteGroupResponse {
                    error_code: ErrorCode::NONE,
                };
                return step.append_for(token, records, None, response.into());
            }
        };
        step.reply(token, DeleteGroupResponse { error_code: error });
    }

    /// Deletes the offsets whose time is over, and the groups that nothing is left of. To be called
    /// every `offsets.retention.check.interval.ms`.
    ///
    /// An offset with an expiry of its own goes by that. Otherwise `offsets_retention_ms` must have
    /// passed: since the group became empty; since the commit, if the group is stable and its
    /// consumers no longer subscribe to the topic, or if it has never had members.
    pub fn expire_offsets(&mut self, at: Moment, out: &mut Vec<Output>) {
        let (groups, mut step) = self.split(at, out);
        let mut tombstones = Tombstones::default();
        for group in groups.values_mut().filter(|group| !group.deleting) {
            let expired = group.expired(step.settings.offsets_retention_ms, at.wall_ms);
            let all = group.offsets.slots().count();
            step.counters.offset_expirations += expired.len() as u64;
            let nothing_left = expired.len() == all
                && group.state == GroupState::Empty
                && group.pending_join.is_empty();
            for (topic, partition) in expired {
                tombstones.add(group.offset_record(&topic, partition, None), &mut step);
            }
            if nothing_left {
                tombstones.add(group.own_tombstone(), &mut step);
            }
        }
        tombstones.flush(&mut step);
    }

    /// Deletes the offsets of topics that no longer exist, given as name and id. Offsets that are
    /// known to belong to another topic of the name stay.
    pub fn topics_deleted(&mut self, topics: &[(String, u128)], at: Moment, out: &mut Vec<Output>) {
        let (groups, mut step) = self.split(at, out);
        let mut tombstones = Tombstones::default();
        for group in groups.values_mut() {
            for (topic, topic_id) in topics {
                let slots = group.offsets.topic(topic).into_iter().flatten();
                let gone = slots.filter(|(_, slot)| slot.may_belong_to(*topic_id));
                let gone: Vec<i32> = gone.map(|(partition, _)| *partition).collect();
                for partition in gone {
                    tombstones.add(group.offset_record(topic, partition, None), &mut step);
                }
            }
        }
        tombstones.flush(&mut step);
    }
}

/// Tombstones that nobody waits for, gathered into writes of bounded size.
#[derive(Default)]
struct Tombstones {
    records: Vec<(GroupId, Record)>,
}

impl Tombstones {
    fn add(&mut self, record: (GroupId, Record), step: &mut Step<'_>) {
        self.records.push(record);
        if self.records.len() >= step.settings.max_tombstones_per_write {
            self.flush(step);
        }
    }

    fn flush(&mut self, step: &mut Step<'_>) {
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            step.writes.append(records, None, Then::Nothing, step.out);
        }
    }
}

impl Group {
    /// The group's own tombstone; it must be appended.
    fn own_tombstone(&mut self) -> (GroupId, Record) {
        self.deleting = true;
        (
            self.id.clone(),
            Record::Group {
                group: self.id.to_string(),
                value: None,
            },
        )
    }

    /// Tombstones of everything that the group has or is about to have.
    fn tombstones(&mut self) -> Vec<(GroupId, Record)> {
        let slots = self.offsets.slots();
        let slots: Vec<(String, i32)> = slots
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect();
        let mut records: Vec<(GroupId, Record)> = slots
            .into_iter()
            .map(|(topic, partition)| self.offset_record(&topic, partition, None))
            .collect();
        records.push(self.own_tombstone());
        records
    }

    /// The offsets whose time is over.
    fn expired(&self, retention_ms: i64, wall_ms: i64) -> Vec<(String, i32)> {
        let Some(since_empty) = self.expires_since() else {
            return vec![];
        };
        let is_over = |committed: &CommittedOffset| {
            let CommittedOffset { value, .. } = committed;
            match value.expire_timestamp {
                Some(at) => wall_ms >= at,
                None => {
                    let since = since_empty.unwrap_or(value.commit_timestamp);
                    wall_ms.saturating_sub(since) >= retention_ms
                }
            }
        };
        self.offsets
            .slots()
            .filter(|(topic, _, slot)| {
                !slot.is_open()
                    && slot.committed.as_ref().is_some_and(is_over)
                    && !self.is_subscribed_to(topic)
            })
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect()
    }

    /// Whether offsets expire at all now; if so, since when, or (`Some(None)`) each since its
    /// commit.
    fn expires_since(&self) -> Option<Option<i64>> {
        match (&self.protocol_type, self.state) {
            (None, _) => Some(None),
            (Some(_), GroupState::Empty) => Some(self.state_since_ms),
            (Some(_), GroupState::Stable)
                if self.uses_consumer_protocol() && self.subscribed_topics.is_some() =>
            {
                Some(None)
            }
            _ => None,
        }
    }
}
