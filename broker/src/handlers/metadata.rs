//! Metadata (3), v0-13.
//!
//! Behaviour: answered from this core's own copy of the cluster's metadata. A topic that does not exist is created
//! if the client and `auto.create.topics.enable` allow it. A new topic is not listed before all its partitions serve;
//! who asks for it by name until then is told LEADER_NOT_AVAILABLE and tries again. Partitions that a topic has
//! grown by are shown when all of them serve. A
//! partition without a serving leader has leader -1 and LEADER_NOT_AVAILABLE. The in-sync replicas are the
//! replicas: with one node both are that node.
//!
//! Version notes: v4 auto-creation flag; v7 leader epoch; v8 authorised operations (everything, while there is no
//! authorisation); v10 topic ids; v12 lookup by id; v13 top-level error, never set here.

use super::Session;
use crate::cluster::decide::{NewTopic, check_topic_name};
use crate::cluster::{ClusterAsk, METADATA_CORE, OFFSETS_TOPIC, Topic, partition_id};
use crate::shard::view::View;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use uuid::Uuid;

/// Every operation on a topic that Kafka names: read 3, write 4, create 5, delete 6, alter 7, describe 8,
/// describe configs 10, alter configs 11.
pub const TOPIC_OPERATIONS: i32 = operations(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// Every operation on the cluster: create 5, alter 7, describe 8, cluster action 9, describe configs 10, alter
/// configs 11, idempotent write 12.
pub const CLUSTER_OPERATIONS: i32 = operations(&[5, 7, 8, 9, 10, 11, 12]);
/// Every operation on a group: read 3, delete 6, describe 8.
pub const GROUP_OPERATIONS: i32 = operations(&[3, 6, 8]);
/// "Not asked for."
pub const NO_OPERATIONS: i32 = i32::MIN;

const fn operations(codes: &[u32]) -> i32 {
    let mut bits = 0;
    let mut at = 0;
    while at < codes.len() {
        bits |= 1 << codes[at];
        at += 1;
    }
    bits
}

pub async fn handle(session: &Session, version: i16, request: MetadataRequest) -> MetadataResponse {
    let may_create = version < 4 || request.allow_auto_topic_creation;
    // v0 has no null: an empty list means every topic.
    let wanted = match request.topics {
        Some(topics) if version == 0 && topics.is_empty() => None,
        topics => topics,
    };
    if may_create && let Some(wanted) = &wanted {
        create_missing(session, wanted).await;
    }
    let mut response = about_cluster(session);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    let view = session.shard.view.borrow();
    let node = session.shard.settings.node_id;
    response.topics = match wanted {
        None => view
            .topics_shown()
            .map(|topic| describe(&view, node, topic))
            .collect(),
        Some(wanted) => wanted
            .iter()
            .map(|topic| find(&view, node, topic))
            .collect(),
    };
    if request.include_topic_authorized_operations {
        for topic in response
            .topics
            .iter_mut()
            .filter(|topic| topic.error_code == ErrorCode::NONE)
        {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    response
}

fn about_cluster(session: &Session) -> MetadataResponse {
    let settings = &session.shard.settings;
    let own = endpoint(session);
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: own.node_id,
            host: own.host,
            port: own.port,
            rack: own.rack,
        }],
        cluster_id: Some(Str::copied(&settings.cluster_id)),
        controller_id: settings.node_id,
        ..MetadataResponse::default()
    }
}

/// This node's address, as the clients of the session's listener are told it.
pub fn endpoint(session: &Session) -> NodeEndpoint {
    let settings = &session.shard.settings;
    let (host, port) = session.shard.advertised(session.listener);
    NodeEndpoint {
        node_id: settings.node_id,
        host: Str::copied(host),
        port: i32::from(port),
        rack: settings.rack.as_deref().map(Str::copied),
    }
}

/// Creates the named topics that do not exist, if the broker allows it.
async fn create_missing(session: &Session, wanted: &[MetadataRequestTopic]) {
    let missing: Vec<NewTopic> = {
        let view = session.shard.view.borrow();
        if !view.broker().auto_create_topics_enable {
            return;
        }
        wanted
            .iter()
            .filter_map(|topic| topic.name.as_ref())
            .filter(|name| view.cluster.topic(name).is_none() && check_topic_name(name).is_ok())
            .map(|name| automatic(name, &view))
            .collect()
    };
    if missing.is_empty() {
        return;
    }
    // Who lost a race for the same topic is told below what it has become.
    let ask = ClusterAsk::CreateTopics {
        topics: missing,
        validate_only: false,
    };
    session.shard.ask(METADATA_CORE, ask).await;
}

/// A topic as it is created by itself.
pub fn automatic(name: &str, view: &View) -> NewTopic {
    let internal = name == OFFSETS_TOPIC;
    let broker = view.broker();
    NewTopic {
        name: name.to_owned(),
        partitions: if internal {
            broker.offsets_topic_num_partitions
        } else {
            -1
        },
        replication_factor: -1,
        assignments: Vec::new(),
        configs: if internal {
            offsets_topic_configs(view)
        } else {
            Vec::new()
        },
        internal,
    }
}

/// The offsets topic is never trimmed by time or size: its coordinators rewrite it when it has grown.
fn offsets_topic_configs(view: &View) -> Vec<(String, Option<String>)> {
    let segment_bytes = view.broker().offsets_topic_segment_bytes.to_string();
    [
        ("retention.ms", "-1".to_owned()),
        ("retention.bytes", "-1".to_owned()),
        ("segment.bytes", segment_bytes),
    ]
    .map(|(name, value)| (name.to_owned(), Some(value)))
    .into()
}

fn find(view: &View, node: i32, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
    let by_id = wanted.name.is_none() || wanted.topic_id != Uuid::nil();
    let found = match &wanted.name {
        Some(name) if !by_id => view.cluster.topic(name),
        _ => view.cluster.topic_by_id(wanted.topic_id),
    };
    if let Some(topic) = found.filter(|topic| view.shown(topic) == 0) {
        return MetadataResponseTopic {
            error_code: ErrorCode::LEADER_NOT_AVAILABLE,
            name: Some(Str::copied(&topic.name)),
            topic_id: topic.id,
            is_internal: topic.internal,
            ..MetadataResponseTopic::default()
        };
    }
    if let Some(topic) = found {
        return describe(view, node, topic);
    }
    let error_code = match &wanted.name {
        _ if by_id => ErrorCode::UNKNOWN_TOPIC_ID,
        Some(name) if check_topic_name(name).is_err() => ErrorCode::INVALID_TOPIC_EXCEPTION,
        _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    };
    MetadataResponseTopic {
        error_code,
        name: wanted.name.clone(),
        topic_id: wanted.topic_id,
        ..MetadataResponseTopic::default()
    }
}

fn describe(view: &View, node: i32, topic: &Topic) -> MetadataResponseTopic {
    let shown = topic.partitions.iter().take(view.shown(topic));
    let partitions = shown.enumerate().map(|(index, replicas)| {
        let id = partition_id(topic.id, index as u32);
        let leader = view.leader(id);
        // A node that serves nothing now is not offline: it recovers, and says so by serving again.
        debug_assert!(
            replicas.contains(&node),
            "replicas of {index} are {replicas:?}"
        );
        MetadataResponsePartition {
            error_code: match leader {
                Some(_) => ErrorCode::NONE,
                None => ErrorCode::LEADER_NOT_AVAILABLE,
            },
            partition_index: index as i32,
            leader_id: leader.map_or(-1, |leader| leader.node),
            leader_epoch: leader.map_or(-1, |leader| leader.epoch),
            replica_nodes: replicas.clone(),
            isr_nodes: replicas.clone(),
            offline_replicas: Vec::new(),
        }
    });
    MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(Str::copied(&topic.name)),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}
