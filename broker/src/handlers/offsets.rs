//! OffsetCommit (8) v2-10, OffsetFetch (9) v1-10, OffsetDelete (47) v0.
//!
//! Behaviour: carried to the group's coordinator (see `groups`). Commits are answered when they are committed in the
//! log; if that takes longer than `offsets.commit.timeout.ms`, with COORDINATOR_NOT_AVAILABLE as in Kafka. Coordinators store topic names, as Kafka's records do; a topic id (v10) is resolved here, and an id that
//! nobody knows is answered with UNKNOWN_TOPIC_ID. Commits for topics that do not exist are refused with
//! UNKNOWN_TOPIC_OR_PARTITION.
//!
//! Version notes: OffsetFetch v2 null for all topics; v7 require stable (always so: there are no transactions); v8
//! several groups.

use super::Session;
use super::groups::{answer, ask, ask_within};
use crate::groups::{self as core, GroupRequest};
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::time::Duration;
use uuid::Uuid;

pub async fn commit(
    session: &Session,
    version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let mut response = OffsetCommitResponse::default();
    let mut topics = Vec::new();
    for topic in request.topics {
        match resolve(session, version, &topic) {
            Ok((name, partitions_known)) => {
                let (good, bad): (Vec<_>, Vec<_>) = topic.partitions.into_iter().partition(|p| {
                    p.partition_index >= 0 && (p.partition_index as usize) < partitions_known
                });
                refuse(
                    &mut response,
                    &name,
                    topic.topic_id,
                    &bad,
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                );
                topics.push(core::OffsetCommitTopic {
                    name: name.to_string(),
                    topic_id: topic.topic_id.as_u128(),
                    partitions: good.into_iter().map(partition).collect(),
                });
            }
            Err(code) => {
                refuse(
                    &mut response,
                    &topic.name,
                    topic.topic_id,
                    &topic.partitions,
                    code,
                );
            }
        }
    }
    let ask_for = GroupRequest::OffsetCommit(core::OffsetCommit {
        api_version: version,
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        retention_time_ms: request.retention_time_ms,
        topics,
    });
    let patience = session
        .shard
        .view
        .borrow()
        .broker()
        .offsets_commit_timeout_ms;
    let patience = Duration::from_millis(patience);
    let committed = ask_within(session, &request.group_id, ask_for, patience).await;
    let committed = answer!(committed, OffsetCommit);
    for topic in committed.topics {
        let partitions = topic
            .partitions
            .into_iter()
            .map(|one| OffsetCommitResponsePartition {
                partition_index: one.partition_index,
                error_code: one.error_code,
            });
        let (name, id) = (Str::from(topic.name), Uuid::from_u128(topic.topic_id));
        answers_of(&mut response, &name, id).extend(partitions);
    }
    response
}

fn resolve(
    session: &Session,
    version: i16,
    topic: &OffsetCommitRequestTopic,
) -> Result<(Str, usize), ErrorCode> {
    let view = session.shard.view.borrow();
    match version {
        10.. => {
            let found = view
                .cluster
                .topic_by_id(topic.topic_id)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
            Ok((Str::copied(&found.name), found.partitions.len()))
        }
        _ => {
            let found = view
                .cluster
                .topic(&topic.name)
                .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
            Ok((topic.name.clone(), found.partitions.len()))
        }
    }
}

fn partition(partition: OffsetCommitRequestPartition) -> core::OffsetCommitPartition {
    core::OffsetCommitPartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        committed_metadata: partition.committed_metadata.map(|text| text.to_string()),
    }
}

fn refuse(
    response: &mut OffsetCommitResponse,
    name: &Str,
    id: Uuid,
    partitions: &[OffsetCommitRequestPartition],
    code: ErrorCode,
) {
    if partitions.is_empty() {
        return;
    }
    let refused = partitions.iter().map(|one| OffsetCommitResponsePartition {
        partition_index: one.partition_index,
        error_code: code,
    });
    answers_of(response, name, id).extend(refused);
}

/// The answers of one topic, which may come in two parts.
fn answers_of<'a>(
    response: &'a mut OffsetCommitResponse,
    name: &Str,
    id: Uuid,
) -> &'a mut Vec<OffsetCommitResponsePartition> {
    let known = response
        .topics
        .iter()
        .position(|topic| topic.name == *name && topic.topic_id == id);
    let at = known.unwrap_or_else(|| {
        response.topics.push(OffsetCommitResponseTopic {
            name: name.clone(),
            topic_id: id,
            partitions: Vec::new(),
        });
        response.topics.len() - 1
    });
    &mut response.topics[at].partitions
}

pub async fn fetch(
    session: &Session,
    version: i16,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if version >= 8 {
        let mut response = OffsetFetchResponse::default();
        for group in request.groups {
            response
                .groups
                .push(fetch_group(session, version, group, request.require_stable).await);
        }
        return response;
    }
    let topics = request.topics.map(|topics| {
        topics.into_iter().map(|topic| core::OffsetFetchTopic {
            name: topic.name.to_string(),
            topic_id: 0,
            partition_indexes: topic.partition_indexes,
        })
    });
    let ask_for = core::OffsetFetch {
        group_id: request.group_id.to_string(),
        topics: topics.map(Iterator::collect),
        require_stable: request.require_stable,
    };
    let fetched = answer!(
        ask(
            session,
            &request.group_id,
            GroupRequest::OffsetFetch(ask_for)
        )
        .await,
        OffsetFetch
    );
    let topics = fetched
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopic {
            name: topic.name.into(),
            partitions: topic
                .partitions
                .into_iter()
                .map(|one| OffsetFetchResponsePartition {
                    partition_index: one.partition_index,
                    committed_offset: one.committed_offset,
                    committed_leader_epoch: one.committed_leader_epoch,
                    metadata: Some(one.metadata.into()),
                    error_code: one.error_code,
                })
                .collect(),
        });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: fetched.error_code,
        ..OffsetFetchResponse::default()
    }
}

async fn fetch_group(
    session: &Session,
    version: i16,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let mut unknown = Vec::new();
    let topics = group.topics.map(|topics| {
        let mut known = Vec::new();
        for topic in topics {
            match named(session, version, &topic) {
                Some(name) => known.push(core::OffsetFetchTopic {
                    name,
                    topic_id: topic.topic_id.as_u128(),
                    partition_indexes: topic.partition_indexes,
                }),
                None => unknown.push(unknown_topic(topic)),
            }
        }
        known
    });
    let ask_for = core::OffsetFetch {
        group_id: group.group_id.to_string(),
        topics,
        require_stable,
    };
    let fetched = answer!(
        ask(session, &group.group_id, GroupRequest::OffsetFetch(ask_for)).await,
        OffsetFetch
    );
    let mut response = OffsetFetchResponseGroup {
        group_id: group.group_id,
        error_code: fetched.error_code,
        topics: unknown,
    };
    for topic in fetched.topics {
        let mut topic_id = Uuid::from_u128(topic.topic_id);
        if version >= 10 && topic_id.is_nil() {
            // Asked for all topics: the coordinator knows names only. One that is gone cannot be named by id.
            let view = session.shard.view.borrow();
            match view.cluster.topic(&topic.name) {
                Some(found) => topic_id = found.id,
                None => continue,
            }
        }
        response.topics.push(OffsetFetchResponseTopics {
            name: topic.name.into(),
            topic_id,
            partitions: topic
                .partitions
                .into_iter()
                .map(|one| OffsetFetchResponsePartitions {
                    partition_index: one.partition_index,
                    committed_offset: one.committed_offset,
                    committed_leader_epoch: one.committed_leader_epoch,
                    metadata: Some(one.metadata.into()),
                    error_code: one.error_code,
                })
                .collect(),
        });
    }
    response
}

fn named(session: &Session, version: i16, topic: &OffsetFetchRequestTopics) -> Option<String> {
    match version {
        10.. => {
            let view = session.shard.view.borrow();
            view.cluster
                .topic_by_id(topic.topic_id)
                .map(|found| found.name.clone())
        }
        _ => Some(topic.name.to_string()),
    }
}

fn unknown_topic(topic: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    OffsetFetchResponseTopics {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic
            .partition_indexes
            .into_iter()
            .map(|partition_index| OffsetFetchResponsePartitions {
                partition_index,
                committed_offset: -1,
                metadata: Some(Str::new()),
                error_code: ErrorCode::UNKNOWN_TOPIC_ID,
                ..OffsetFetchResponsePartitions::default()
            })
            .collect(),
    }
}

pub async fn delete(session: &Session, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let ask_for = GroupRequest::OffsetDelete(core::OffsetDelete {
        group_id: request.group_id.to_string(),
        topics: request
            .topics
            .into_iter()
            .map(|topic| core::OffsetDeleteTopic {
                name: topic.name.to_string(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|one| one.partition_index)
                    .collect(),
            })
            .collect(),
    });
    let deleted = answer!(ask(session, &request.group_id, ask_for).await, OffsetDelete);
    let topics = deleted
        .topics
        .into_iter()
        .map(|topic| OffsetDeleteResponseTopic {
            name: topic.name.into(),
            partitions: topic
                .partitions
                .into_iter()
                .map(|one| OffsetDeleteResponsePartition {
                    partition_index: one.partition_index,
                    error_code: one.error_code,
                })
                .collect(),
        });
    OffsetDeleteResponse {
        error_code: deleted.error_code,
        topics: topics.collect(),
        ..OffsetDeleteResponse::default()
    }
}
