//! OffsetCommit, TxnOffsetCommit and OffsetDelete: who may change a group's offsets, and how that
//! goes through the log.

use protocol::ErrorCode;

use super::coordinator::{Coordinator, Moment, Output, Step, Token};
use super::fields::fits;
use super::group::{Group, GroupState};
use super::records::{OffsetValue, Record};
use super::request::{OffsetCommit, OffsetCommitPartition, OffsetDelete, Producer};
use super::response::{
    GroupResponse, OffsetCommitResponse, OffsetDeleteResponse, PartitionResult, TopicResult,
};
use super::settings::Settings;
use super::timers::GroupId;
use super::writes::Then;

/// The first versions in which a missing group is called that.
const FIRST_NOT_FOUND_VERSION: i16 = 9;
const FIRST_TXN_NOT_FOUND_VERSION: i16 = 6;

impl Coordinator {
    pub(super) fn commit(
        &mut self,
        token: Token,
        producer: Option<Producer>,
        request: OffsetCommit,
        at: Moment,
        out: &mut Vec<Output>,
    ) {
        let wrap = match producer {
            None => GroupResponse::OffsetCommit,
            Some(_) => GroupResponse::TxnOffsetCommit,
        };
        if let Err(error) = self.admit_commit(producer, &request, at, out) {
            let response = wrap(OffsetCommitResponse::uniform(&request, error));
            out.push(Output::Reply { token, response });
            self.forget_if_void(&request.group_id);
            return;
        }
        let (groups, mut step) = self.split(at, out);
        let group = groups
            .get_mut(&*request.group_id)
            .expect("the commit was admitted to it");
        let mut response = OffsetCommitResponse::uniform(&request, ErrorCode::NONE);
        let mut records = vec![];
        for (topic, result) in request.topics.into_iter().zip(&mut response.topics) {
            for (partition, result) in topic.partitions.into_iter().zip(&mut result.partitions) {
                let retention_ms = producer.map_or(request.retention_time_ms, |_| -1);
                match to_value(partition, topic.topic_id, retention_ms, &step) {
                    Ok(value) => {
                        let partition = result.partition_index;
                        records.push(group.offset_record(&topic.name, partition, Some(value)));
                    }
                    Err(error) => result.error_code = error,
                }
            }
        }
        step.counters.offset_commits += records.len() as u64;
        step.append_for(token, records, producer, wrap(response));
        self.forget_if_void(&request.group_id);
    }

    /// Whether the sender may commit now. Makes the group if it is only to hold offsets.
    fn admit_commit(
        &mut self,
        producer: Option<Producer>,
        request: &OffsetCommit,
        at: Moment,
        out: &mut Vec<Output>,
    ) -> Result<(), ErrorCode> {
        if request.topics.iter().any(|topic| !fits(&topic.name)) {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        if !self.groups.contains_key(&*request.group_id) {
            if request.generation_id >= 0 {
                let first = match producer {
                    None => FIRST_NOT_FOUND_VERSION,
                    Some(_) => FIRST_TXN_NOT_FOUND_VERSION,
                };
                let says_so = request.api_version >= first;
                let found = ErrorCode::GROUP_ID_NOT_FOUND;
                return Err(if says_so {
                    found
                } else {
                    ErrorCode::ILLEGAL_GENERATION
                });
            }
            self.group_or_new(&request.group_id, at.wall_ms)?;
        }
        let (groups, mut step) = self.split(at, out);
        let group = groups
            .get_mut(&*request.group_id)
            .expect("it was just looked for");
        group.validate_commit(request, producer.is_some())?;
        group.note_commit(request, producer.is_some(), &mut step);
        Ok(())
    }

    pub(super) fn delete_offsets(
        &mut self,
        token: Token,
        request: OffsetDelete,
        at: Moment,
        out: &mut Vec<Output>,
    ) {
        let (groups, mut step) = self.split(at, out);
        let refused = |error| OffsetDeleteResponse {
            error_code: error,
            topics: vec![],
        };
        let Some(group) = groups.get_mut(&*request.group_id) else {
            return step.reply(token, refused(ErrorCode::GROUP_ID_NOT_FOUND));
        };
        if let Err(error) = group.validate_offset_delete() {
            return step.reply(token, refused(error));
        }
        let mut records = vec![];
        let mut topics = vec![];
        for topic in request.topics {
            let subscribed = group.is_subscribed_to(&topic.name);
            let error_code = match subscribed {
                true => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
                false => ErrorCode::NONE,
            };
            for &partition in &topic.partitions {
                if !subscribed && group.offsets.slot(&topic.name, partition).is_some() {
                    records.push(group.offset_record(&topic.name, partition, None));
                }
            }
            let result = |partition_index| PartitionResult {
                partition_index,
                error_code,
            };
            let partitions = topic.partitions.into_iter().map(result).collect();
            topics.push(TopicResult {
                name: topic.name,
                topic_id: 0,
                partitions,
            });
        }
        step.counters.offset_deletions += records.len() as u64;
        let response = OffsetDeleteResponse {
            error_code: ErrorCode::NONE,
            topics,
        };
        step.append_for(token, records, None, response.into());
    }
}

impl Step<'_> {
    /// Sends records to the log; the answer follows them. Without records it goes out at once.
    pub(super) fn append_for(
        &mut self,
        token: Token,
        records: Vec<(GroupId, Record)>,
        producer: Option<Producer>,
        response: GroupResponse,
    ) {
        if records.is_empty() {
            return self.reply(token, response);
        }
        self.writes
            .append(records, producer, Then::Reply { token, response }, self.out);
    }
}

/// What is written down of one partition's commit.
fn to_value(
    partition: OffsetCommitPartition,
    topic_id: u128,
    retention_ms: i64,
    step: &Step<'_>,
) -> Result<OffsetValue, ErrorCode> {
    let metadata = partition.committed_metadata.unwrap_or_default();
    if is_too_large(&metadata, step.settings) {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    let now = step.at.wall_ms;
    Ok(OffsetValue {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata,
        commit_timestamp: now,
        expire_timestamp: (retention_ms != -1).then(|| now.saturating_add(retention_ms)),
        topic_id,
    })
}

fn is_too_large(metadata: &str, settings: &Settings) -> bool {
    !fits(metadata) || metadata.encode_utf16().count() > settings.offset_metadata_max_bytes
}

impl Group {
    fn validate_commit(&self, request: &OffsetCommit, in_txn: bool) -> Result<(), ErrorCode> {
        if self.deleting {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let is_empty = self.state == GroupState::Empty;
        if request.generation_id < 0 && is_empty {
            // From an administrator, or a consumer that manages its partitions itself.
            return Ok(());
        }
        let instance_id = request.group_instance_id.as_deref();
        let has_identity =
            request.generation_id >= 0 || !request.member_id.is_empty() || instance_id.is_some();
        if has_identity {
            self.validate_member(&request.member_id, instance_id)?;
            if request.generation_id != self.generation_id {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else if !in_txn {
            // Old transactional producers do not say for whom they commit; all others must.
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if !in_txn && self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// A member's commit is a sign of life.
    fn note_commit(&mut self, request: &OffsetCommit, in_txn: bool, step: &mut Step<'_>) {
        let counts = matches!(
            self.state,
            GroupState::Stable | GroupState::PreparingRebalance
        );
        if !in_txn
            && counts
            && let Some(member_id) = self.member_id(&request.member_id)
        {
            self.heard_of(&member_id, step);
        }
    }

    fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        if self.deleting {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        match self.state {
            GroupState::Empty => Ok(()),
            GroupState::Dead => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            _ if self.uses_consumer_protocol() => Ok(()),
            _ => Err(ErrorCode::NON_EMPTY_GROUP),
        }
    }

    /// A record that changes an offset; it must be appended.
    pub(super) fn offset_record(
        &mut self,
        topic: &str,
        partition: i32,
        value: Option<OffsetValue>,
    ) -> (GroupId, Record) {
        self.offsets.begin(topic, partition);
        let group = self.id.to_string();
        let topic = topic.to_owned();
        (
            self.id.clone(),
            Record::Offset {
                group,
                topic,
                partition,
                value,
            },
        )
    }
}
