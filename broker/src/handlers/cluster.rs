//! DescribeCluster (60) v0-2, DescribeTopicPartitions (75) v0, DescribeLogDirs (35) v1-5.
//!
//! Behaviour: from this core's copy of the metadata; sizes come from the partitions' owners. There is one log
//! directory. Replicas on nodes that are heard of are in sync: a Raft leader is always among those that have
//! everything committed, so there is no separate list of eligible leaders (the fields are empty).

use super::Session;
use super::metadata::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS, by_presence, nodes};
use crate::cluster::{Topic, partition_id};
use crate::shard::view::View;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::collections::BTreeMap;
use storage::PartitionId;

/// DescribeCluster's endpoint type for brokers.
const BROKERS: i8 = 1;

pub fn describe(
    session: &Session,
    version: i16,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let settings = &session.shard.settings;
    let mut response = DescribeClusterResponse {
        cluster_id: Str::copied(&settings.cluster_id),
        controller_id: session.shard.view.borrow().controller(),
        ..DescribeClusterResponse::default()
    };
    if version >= 1 && request.endpoint_type != BROKERS {
        response.error_code = match request.endpoint_type {
            2 => ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            _ => ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
        };
        response.error_message = Some(response.error_code.description().into());
        response.controller_id = -1;
        return response;
    }
    // Fenced ones only for who asks for them, which v2 made possible.
    let wanted = nodes(session)
        .into_iter()
        .filter(|(_, fenced)| !fenced || request.include_fenced_brokers);
    response.brokers = wanted
        .map(|(node, is_fenced)| DescribeClusterBroker {
            broker_id: node.node_id,
            host: node.host,
            port: node.port,
            rack: node.rack,
            is_fenced,
        })
        .collect();
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

pub fn describe_topic_partitions(
    session: &Session,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let view = session.shard.view.borrow();
    let mut names: Vec<Str> = match request.topics.is_empty() {
        true => view
            .topics_shown()
            .map(|topic| Str::copied(&topic.name))
            .collect(),
        false => request.topics.into_iter().map(|topic| topic.name).collect(),
    };
    names.sort();
    names.dedup();
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = limit.clamp(1, view.broker().max_request_partition_size_limit);
    let mut response = DescribeTopicPartitionsResponse::default();
    let cursor = request.cursor.unwrap_or_default();
    for name in names.into_iter().filter(|name| *name >= cursor.topic_name) {
        let first = match name == cursor.topic_name {
            true => usize::try_from(cursor.partition_index).unwrap_or(0),
            false => 0,
        };
        if left == 0 {
            let next = TopicPartitionsCursor {
                topic_name: name,
                partition_index: first as i32,
            };
            response.next_cursor = Some(next);
            break;
        }
        let found = view.cluster.topic(&name);
        let Some(topic) = found.filter(|topic| view.shown(topic) > 0) else {
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: match found {
                    Some(_) => ErrorCode::LEADER_NOT_AVAILABLE,
                    None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                },
                name: Some(name),
                ..DescribeTopicPartitionsResponseTopic::default()
            });
            continue;
        };
        let shown = view.shown(topic);
        let count = shown.saturating_sub(first).min(left);
        response.topics.push(page(&view, topic, first, count));
        left -= count;
        let next = first + count;
        if next < shown {
            let next = TopicPartitionsCursor {
                topic_name: name,
                partition_index: next as i32,
            };
            response.next_cursor = Some(next);
            break;
        }
    }
    response
}

fn page(
    view: &View,
    topic: &Topic,
    first: usize,
    count: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = (first..first + count).map(|index| {
        let leader = view.leader(partition_id(topic.id, index as u32));
        let replicas = &topic.partitions[index];
        let (in_sync, offline) = by_presence(view, topic, index as u32);
        DescribeTopicPartitionsResponsePartition {
            error_code: match leader {
                Some(_) => ErrorCode::NONE,
                None => ErrorCode::LEADER_NOT_AVAILABLE,
            },
            partition_index: index as i32,
            leader_id: leader.map_or(-1, |leader| leader.node),
            leader_epoch: leader.map_or(-1, |leader| leader.epoch),
            replica_nodes: replicas.clone(),
            isr_nodes: in_sync,
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: offline,
        }
    });
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(Str::copied(&topic.name)),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

pub async fn describe_log_dirs(
    session: &Session,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let shard = &session.shard;
    let wanted = request
        .topics
        .map(|topics| wanted(&shard.view.borrow(), topics));
    let mut asks = Vec::new();
    for core in 0..shard.core.cores() {
        let own = wanted.as_ref().map(|all| {
            all.iter()
                .copied()
                .filter(|id| shard.owner(*id) == core)
                .collect::<Vec<PartitionId>>()
        });
        asks.push(shard.ask_later(core, own));
    }
    let mut sizes = BTreeMap::new();
    for ask in asks {
        sizes.extend(ask.await);
    }
    let mut result = DescribeLogDirsResult {
        log_dir: Str::copied(&shard.settings.data.display().to_string()),
        topics: by_topic(&shard.view.borrow(), &sizes),
        ..DescribeLogDirsResult::default()
    };
    match shard.core.disk().space(&shard.settings.data).await {
        Ok(space) => {
            result.total_bytes = space.total_bytes as i64;
            result.usable_bytes = space.available_bytes as i64;
        }
        Err(error) => {
            tracing::warn!(%error, "the size of the data directory's volume cannot be read");
            result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
        }
    }
    DescribeLogDirsResponse {
        results: vec![result],
        ..DescribeLogDirsResponse::default()
    }
}

fn wanted(view: &View, topics: Vec<DescribableLogDirTopic>) -> Vec<PartitionId> {
    let known = topics.iter().filter_map(|wanted| {
        let topic = view.cluster.topic(&wanted.topic)?;
        let partitions = wanted
            .partitions
            .iter()
            .filter_map(|index| u32::try_from(*index).ok());
        Some(partitions.map(|index| partition_id(topic.id, index)))
    });
    known.flatten().collect()
}

fn by_topic(view: &View, sizes: &BTreeMap<PartitionId, u64>) -> Vec<DescribeLogDirsTopic> {
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    let mut last = None;
    for (id, size) in sizes {
        let Some(topic) = view.cluster.topic_by_id(uuid::Uuid::from_u128(id.topic)) else {
            continue;
        };
        if last != Some(id.topic) {
            last = Some(id.topic);
            let name = Str::copied(&topic.name);
            topics.push(DescribeLogDirsTopic {
                name,
                partitions: Vec::new(),
            });
        }
        let partitions = &mut topics.last_mut().expect("pushed above").partitions;
        partitions.push(DescribeLogDirsPartition {
            partition_index: id.partition as i32,
            partition_size: *size as i64,
            offset_lag: 0,
            is_future_key: false,
        });
    }
    topics
}
