//! CreateTopics (19) v2-7, DeleteTopics (20) v1-6, CreatePartitions (37) v0-3, DeleteRecords (21) v0-2.
//!
//! Behaviour: the first three are decided by the leader of the metadata and answered when every core of this node
//! knows the result and new partitions have leaders (for at most five seconds), so a client can use a topic at once. CreateTopics answers with the topic's whole configuration from v5 on
//! (never null: Java tools rely on it). DeleteRecords is carried to the partitions' owners.
//!
//! Version notes: CreateTopics v4 counts of -1 (KIP-464); v7 topic ids. DeleteTopics v6 by id.

use super::Session;
use super::by_owner::{self, ByOwner};
use super::configs::described;
use crate::cluster::decide::{MorePartitions, NewTopic, TopicRef};
use crate::cluster::{ClusterAnswer, ClusterAsk, METADATA_CORE, Refusal, Topic, partition_id};
use crate::config::{DescribeOptions, ResourceKind};
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use runtime::Instant;
use std::time::Duration;
use storage::PartitionId;

/// New groups elect their first leaders in milliseconds, if a majority of their nodes is there.
pub(super) const LEADERS_WITHIN: Duration = Duration::from_secs(5);

pub async fn create(
    session: &Session,
    version: i16,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let topics: Vec<NewTopic> = request.topics.iter().map(new_topic).collect();
    let ask = ClusterAsk::CreateTopics {
        topics,
        validate_only: request.validate_only,
    };
    let outcomes = match *session.shard.ask(METADATA_CORE, ask).await {
        ClusterAnswer::CreateTopics(outcomes) => outcomes,
        other => unavailable(&other, request.topics.len()),
    };
    let names = request.topics.iter().map(|topic| &*topic.name);
    let deadline = leaders_within(session, request.timeout_ms);
    session.shard.await_leaders(names, deadline).await;
    let topics = request
        .topics
        .into_iter()
        .zip(outcomes)
        .map(|(wanted, outcome)| match outcome {
            Ok(topic) => created(session, version, wanted, &topic),
            Err(refusal) => CreatableTopicResult {
                name: wanted.name,
                error_code: refusal.code,
                error_message: Some(refusal.message.into()),
                ..CreatableTopicResult::default()
            },
        });
    CreateTopicsResponse {
        topics: topics.collect(),
        ..CreateTopicsResponse::default()
    }
}

/// Until when new partitions may take to have leaders before the client is answered without.
pub(super) fn leaders_within(session: &Session, timeout_ms: i32) -> Instant {
    let timeout = Duration::from_millis(timeout_ms.max(0) as u64);
    session.shard.core.now() + timeout.min(LEADERS_WITHIN)
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|one| (one.partition_index, one.broker_ids.clone()))
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| {
                (
                    config.name.to_string(),
                    config.value.as_ref().map(|v| v.to_string()),
                )
            })
            .collect(),
        internal: false,
    }
}

fn created(
    session: &Session,
    version: i16,
    wanted: CreatableTopic,
    topic: &Topic,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult {
        name: wanted.name,
        topic_id: topic.id,
        num_partitions: topic.partitions.len() as i32,
        replication_factor: topic
            .partitions
            .first()
            .map_or(-1, |replicas| replicas.len() as i16),
        ..CreatableTopicResult::default()
    };
    if version >= 5 {
        let overrides = wanted
            .configs
            .iter()
            .filter_map(|config| {
                Some((config.name.to_string(), config.value.as_ref()?.to_string()))
            })
            .collect();
        let view = session.shard.view.borrow();
        let options = DescribeOptions::default();
        let rows = described(ResourceKind::Topic, &overrides, view.broker(), &options);
        let configs = rows.into_iter().map(|row| CreatableTopicConfigs {
            name: row.name.into(),
            value: row.value.map(Str::from),
            read_only: row.read_only,
            config_source: row.source.code(),
            is_sensitive: row.sensitive,
        });
        result.configs = Some(configs.collect());
    }
    result
}

/// The same refusal for every part of a request that the metadata's owner could not take.
pub(super) fn unavailable<T>(answer: &ClusterAnswer, count: usize) -> Vec<Result<T, Refusal>> {
    let code = match answer {
        ClusterAnswer::Unavailable(code) => *code,
        _ => unreachable!("the metadata's owner answers in kind"),
    };
    (0..count)
        .map(|_| Err(Refusal::new(code, code.description())))
        .collect()
}

pub async fn delete(
    session: &Session,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let wanted: Vec<TopicRef> = match version {
        6.. => request
            .topics
            .iter()
            .map(|topic| match &topic.name {
                Some(name) => TopicRef::Name(name.to_string()),
                None => TopicRef::Id(topic.topic_id),
            })
            .collect(),
        _ => request
            .topic_names
            .iter()
            .map(|name| TopicRef::Name(name.to_string()))
            .collect(),
    };
    let ask = ClusterAsk::DeleteTopics(wanted.clone());
    let outcomes = match *session.shard.ask(METADATA_CORE, ask).await {
        ClusterAnswer::DeleteTopics(outcomes) => outcomes,
        other => unavailable(&other, wanted.len()),
    };
    let responses = wanted
        .into_iter()
        .zip(outcomes)
        .map(|(wanted, outcome)| match outcome {
            Ok((name, topic_id)) => DeletableTopicResult {
                name: Some(name.into()),
                topic_id,
                ..DeletableTopicResult::default()
            },
            Err(refusal) => {
                let mut result = DeletableTopicResult {
                    error_code: refusal.code,
                    error_message: Some(refusal.message.into()),
                    ..DeletableTopicResult::default()
                };
                match wanted {
                    TopicRef::Name(name) => result.name = Some(name.into()),
                    TopicRef::Id(id) => {
                        result.name = None;
                        result.topic_id = id;
                    }
                }
                result
            }
        });
    DeleteTopicsResponse {
        responses: responses.collect(),
        ..DeleteTopicsResponse::default()
    }
}

pub async fn grow(session: &Session, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let topics: Vec<MorePartitions> = request
        .topics
        .iter()
        .map(|topic| MorePartitions {
            name: topic.name.to_string(),
            count: topic.count,
            assignments: topic
                .assignments
                .as_ref()
                .filter(|given| !given.is_empty())
                .map(|given| given.iter().map(|one| one.broker_ids.clone()).collect()),
        })
        .collect();
    let count = topics.len();
    let ask = ClusterAsk::CreatePartitions {
        topics,
        validate_only: request.validate_only,
    };
    let outcomes = match *session.shard.ask(METADATA_CORE, ask).await {
        ClusterAnswer::CreatePartitions(outcomes) => outcomes,
        other => unavailable(&other, count),
    };
    let names = request.topics.iter().map(|topic| &*topic.name);
    let deadline = leaders_within(session, request.timeout_ms);
    session.shard.await_leaders(names, deadline).await;
    let results = request
        .topics
        .into_iter()
        .zip(outcomes)
        .map(|(wanted, outcome)| {
            let mut result = CreatePartitionsTopicResult {
                name: wanted.name,
                ..CreatePartitionsTopicResult::default()
            };
            if let Err(refusal) = outcome {
                result.error_code = refusal.code;
                result.error_message = Some(refusal.message.into());
            }
            result
        });
    CreatePartitionsResponse {
        results: results.collect(),
        ..CreatePartitionsResponse::default()
    }
}

pub async fn delete_records(
    session: &Session,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let shard = &session.shard;
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let mut response = DeleteRecordsResponse::default();
    let mut by_owner = ByOwner::new(shard.core.cores());
    for topic in request.topics {
        let mut results = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let mut result = DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark: -1,
                ..DeleteRecordsPartitionResult::default()
            };
            match resolve(session, &topic.name, wanted.partition_index) {
                Ok(id) => {
                    let place = (response.topics.len(), results.len());
                    by_owner.add(shard.owner(id), place, (id, wanted.offset));
                }
                Err(code) => result.error_code = code,
            }
            results.push(result);
        }
        response.topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions: results,
        });
    }
    let deadline = shard.core.now() + timeout;
    let pending = by_owner.begin(shard, |asks| asks);
    let late = Err(ErrorCode::REQUEST_TIMED_OUT);
    for ((topic, partition), outcome) in by_owner::until(shard, deadline, pending, late).await {
        let result = &mut response.topics[topic].partitions[partition];
        match outcome {
            Ok(low_watermark) => result.low_watermark = low_watermark,
            Err(code) => result.error_code = code,
        }
    }
    response
}

fn resolve(session: &Session, topic: &str, partition: i32) -> Result<PartitionId, ErrorCode> {
    let view = session.shard.view.borrow();
    let found = view
        .cluster
        .topic(topic)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if found.internal {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    if partition < 0 || partition as usize >= found.partitions.len() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    Ok(partition_id(found.id, partition as u32))
}
