//! Metadata (3), v0-13.
//!
//! Behaviour: answered from this core's own copy of the cluster's metadata. A topic that does not exist is created
//! if the client and `auto.create.topics.enable` allow it. A new topic is not listed before all its partitions serve;
//! who asks for it by name until then is told LEADER_NOT_AVAILABLE and tries again. Partitions that a topic has
//! grown by are shown when all of them serve. A
//! partition without a serving leader has leader -1 and LEADER_NOT_AVAILABLE. The in-sync replicas are those that do
//! not lag, as the leader last said, on nodes that are heard of; those on other nodes are offline. Brokers are the nodes that are heard of, each with the address of the
//! listener that the client came through.
//!
//! Version notes: v4 auto-creation flag; v7 leader epoch; v8 authorised operations (everything, while there is no
//! authorisation); v10 topic ids; v12 lookup by id; v13 top-level error, never set here.

use super::Session;
use super::topics::LEADERS_WITHIN;
use crate::cluster::decide::{NewTopic, check_topic_name};
use crate::cluster::{ClusterAsk, METADATA_CORE, OFFSETS_TOPIC, Topic, partition_id};
use crate::shard::view::View;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::collections::BTreeSet;
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
    response.topics = match wanted {
        None => view
            .topics_shown()
            .map(|topic| describe(&view, topic))
            .collect(),
        Some(wanted) => wanted.iter().map(|topic| find(&view, topic)).collect(),
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
    let brokers = live_nodes(session)
        .into_iter()
        .map(|node| MetadataResponseBroker {
            node_id: node.node_id,
            host: node.host,
            port: node.port,
            rack: node.rack,
        });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(Str::copied(&session.shard.settings.cluster_id)),
        controller_id: session.shard.view.borrow().controller(),
        ..MetadataResponse::default()
    }
}

/// The nodes that are heard of, as the clients of the session's listener are told them. This one is among them.
fn live_nodes(session: &Session) -> Vec<NodeEndpoint> {
    let nodes = nodes(session).into_iter();
    nodes
        .filter(|(_, fenced)| !fenced)
        .map(|(node, _)| node)
        .collect()
}

/// All nodes that have a listener of the name of the session's, and whether each is fenced.
pub fn nodes(session: &Session) -> Vec<(NodeEndpoint, bool)> {
    let own = session.shard.settings.node_id;
    let view = session.shard.view.borrow();
    let others = view
        .cluster
        .nodes()
        .iter()
        .filter(|(node, _)| **node != own);
    let mut all: Vec<(NodeEndpoint, bool)> = others
        .filter_map(|(node, known)| Some((endpoint_of(session, &view, *node)?, known.fenced)))
        .collect();
    all.push((endpoint(session), false));
    all.sort_by_key(|(node, _)| node.node_id);
    all
}

/// A node's address, as the clients of the session's listener are told it.
pub fn endpoint_of(session: &Session, view: &View, node: i32) -> Option<NodeEndpoint> {
    if node == session.shard.settings.node_id {
        return Some(endpoint(session));
    }
    let known = &view.cluster.nodes().get(&node)?.registration;
    let name = &session.shard.settings.listeners[session.listener].name;
    let mut endpoints = known.endpoints.iter();
    let found = endpoints.find(|endpoint| endpoint.listener == *name)?;
    Some(NodeEndpoint {
        node_id: node,
        host: Str::copied(&found.host),
        port: i32::from(found.port),
        rack: known.rack.as_deref().map(Str::copied),
    })
}

/// The addresses of the leaders that an answer hints at (KIP-951), each once; -1 stands for no hint.
pub fn endpoints_of(session: &Session, leaders: impl Iterator<Item = i32>) -> Vec<NodeEndpoint> {
    let leaders: BTreeSet<i32> = leaders.filter(|leader| *leader >= 0).collect();
    let view = session.shard.view.borrow();
    let endpoints = leaders.into_iter();
    endpoints
        .filter_map(|leader| endpoint_of(session, &view, leader))
        .collect()
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
    let names: Vec<String> = missing.iter().map(|topic| topic.name.clone()).collect();
    // Who lost a race for the same topic is told below what it has become.
    let ask = ClusterAsk::CreateTopics {
        topics: missing,
        validate_only: false,
    };
    session.shard.ask(METADATA_CORE, ask).await;
    let deadline = session.shard.core.now() + LEADERS_WITHIN;
    let names = names.iter().map(String::as_str);
    session.shard.await_leaders(names, deadline).await;
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

fn find(view: &View, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
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
        return describe(view, topic);
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

fn describe(view: &View, topic: &Topic) -> MetadataResponseTopic {
    let shown = topic.partitions.iter().take(view.shown(topic));
    let partitions = shown.enumerate().map(|(index, replicas)| {
        let leader = view.leader(partition_id(topic.id, index as u32));
        let (in_sync, offline) = by_presence(view, topic, index as u32);
        MetadataResponsePartition {
            error_code: match leader {
                Some(_) => ErrorCode::NONE,
                None => ErrorCode::LEADER_NOT_AVAILABLE,
            },
            partition_index: index as i32,
            leader_id: leader.map_or(-1, |leader| leader.node),
            leader_epoch: leader.map_or(-1, |leader| leader.epoch),
            replica_nodes: replicas.clone(),
            isr_nodes: in_sync,
            offline_replicas: offline,
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

/// The replicas of a partition that are in sync, and those on nodes that are not heard of. In sync are the others, but
/// for those that lag, as their leader says (`shard::in_sync`). A node that serves nothing now is not offline: it
/// recovers, and says so by serving again. A node that the partition is on its way to is not in sync before it has
/// arrived.
pub fn by_presence(view: &View, topic: &Topic, partition: u32) -> (Vec<i32>, Vec<i32>) {
    let Some(replicas) = topic.partitions.get(partition as usize) else {
        return (Vec::new(), Vec::new());
    };
    let fenced = |node: &i32| {
        let known = view.cluster.nodes().get(node);
        known.is_some_and(|known| known.fenced)
    };
    let (mut in_sync, offline): (Vec<i32>, Vec<i32>) =
        replicas.iter().partition(|node| !fenced(node));
    let (coming, _) = topic.coming_and_going(partition);
    let lagging = view.lagging(partition_id(topic.id, partition));
    in_sync.retain(|node| !coming.contains(node) && !lagging.contains(node));
    (in_sync, offline)
}
