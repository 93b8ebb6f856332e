//! DescribeQuorum (55) v0-2, UnregisterBroker (64) v0.
//!
//! Behaviour: both go to the leader of the metadata, whichever node is asked, as with Kafka's brokers. The metadata's
//! log has no offsets of its own that anybody reads: where Kafka tells offsets, these are indexes. When a node last
//! fetched is not known, since followers do not fetch here; one that has everything is caught up now.
//!
//! A node is unregistered when it does not run and holds no replica, since its id is then free for another disk.
//!
//! Version notes: DescribeQuorum v2 names the disks (their incarnations, as ids) and the peer listeners.

use super::Session;
use crate::cluster::decide::{Quorum, QuorumMember};
use crate::cluster::{ClusterAnswer, ClusterAsk, METADATA_CORE};
use crate::shard::view::View;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use uuid::Uuid;

/// Kafka's name for the topic of the metadata.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// What the listener for other nodes is called in answers.
const PEER_LISTENER: &str = "PEER";

pub async fn describe(
    session: &Session,
    version: i16,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let shard = &session.shard;
    let ask = ClusterAsk::DescribeQuorum;
    let quorum = match *shard.ask(METADATA_CORE, ask).await {
        ClusterAnswer::Quorum(quorum) => quorum,
        ClusterAnswer::Unavailable(code) => {
            return DescribeQuorumResponse {
                error_code: code,
                error_message: Some(code.description().into()),
                ..DescribeQuorumResponse::default()
            };
        }
        _ => unreachable!("the metadata's owner answers in kind"),
    };
    let now_ms = shard.core.wall_ms();
    let topics = request.topics.into_iter().map(|topic| {
        let is_metadata = &*topic.topic_name == METADATA_TOPIC;
        let partitions = topic.partitions.into_iter().map(|wanted| {
            match is_metadata && wanted.partition_index == 0 {
                true => described(&quorum, now_ms),
                false => {
                    let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                    DescribeQuorumResponsePartition {
                        partition_index: wanted.partition_index,
                        error_code: code,
                        error_message: Some(code.description().into()),
                        ..DescribeQuorumResponsePartition::default()
                    }
                }
            }
        });
        DescribeQuorumResponseTopic {
            partitions: partitions.collect(),
            topic_name: topic.topic_name,
        }
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: match version {
            2.. => nodes(&shard.view.borrow(), &quorum),
            _ => Vec::new(),
        },
        ..DescribeQuorumResponse::default()
    }
}

fn described(quorum: &Quorum, now_ms: i64) -> DescribeQuorumResponsePartition {
    let state = |member: &QuorumMember| QuorumReplicaState {
        replica_id: member.node,
        replica_directory_id: Uuid::from_u64_pair(member.node as u64, member.incarnation.into()),
        log_end_offset: member.log_end as i64,
        last_fetch_timestamp: -1,
        last_caught_up_timestamp: if member.is_caught_up { now_ms } else { -1 },
    };
    DescribeQuorumResponsePartition {
        partition_index: 0,
        leader_id: quorum.leader,
        leader_epoch: quorum.epoch,
        high_watermark: quorum.high_watermark as i64,
        current_voters: quorum.voters.iter().map(state).collect(),
        observers: quorum.observers.iter().map(state).collect(),
        ..DescribeQuorumResponsePartition::default()
    }
}

/// Where the members listen for one another.
fn nodes(view: &View, quorum: &Quorum) -> Vec<DescribeQuorumNode> {
    let members = quorum.voters.iter().chain(&quorum.observers);
    let known = members.filter_map(|member| view.cluster.nodes().get(&member.node));
    let reached = known.filter_map(|node| {
        let (host, port) = node.registration.peer.rsplit_once(':')?;
        let listener = DescribeQuorumListener {
            name: Str::copied(PEER_LISTENER),
            host: Str::copied(host.trim_matches(['[', ']'])),
            port: port.parse().ok()?,
        };
        Some(DescribeQuorumNode {
            node_id: node.registration.node,
            listeners: vec![listener],
        })
    });
    reached.collect()
}

pub async fn unregister(
    session: &Session,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let ask = ClusterAsk::UnregisterNode(request.broker_id);
    let refusal = match *session.shard.ask(METADATA_CORE, ask).await {
        ClusterAnswer::UnregisterNode(Ok(())) => return UnregisterBrokerResponse::default(),
        ClusterAnswer::UnregisterNode(Err(refusal)) => (refusal.code, refusal.message),
        ClusterAnswer::Unavailable(code) => (code, code.description().to_owned()),
        _ => unreachable!("the metadata's owner answers in kind"),
    };
    UnregisterBrokerResponse {
        error_code: refusal.0,
        error_message: Some(refusal.1.into()),
        ..UnregisterBrokerResponse::default()
    }
}
