//! AlterPartitionReassignments (45) v0-1, ListPartitionReassignments (46) v0.
//!
//! Behaviour: a move is decided by the leader of the metadata and answered when this node knows it; it is carried out
//! by the partition's leader ([`crate::shard::moves`]). While it lasts, the partition's replicas are those that it has
//! and those that it is to get. A cancelled move is a move back, which is listed until nobody is left over.
//! Rearranging the same replicas takes effect at once.
//!
//! Version notes: v1 of the first refuses changes of the number of replicas, if the client wants that (KIP-860).

use super::Session;
use super::topics::unavailable;
use crate::cluster::decide::PartitionMove;
use crate::cluster::{ClusterAnswer, ClusterAsk, METADATA_CORE, Refusal, Topic};
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::collections::BTreeSet;

pub async fn alter(
    session: &Session,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let topics = request.topics.iter();
    let moves: Vec<PartitionMove> = topics
        .flat_map(|topic| topic.partitions.iter().map(|wanted| (&topic.name, wanted)))
        .map(|(topic, wanted)| PartitionMove {
            topic: topic.to_string(),
            partition: wanted.partition_index,
            target: wanted.replicas.clone(),
        })
        .collect();
    let count = moves.len();
    let may_change_factor = request.allow_replication_factor_change;
    let outcomes: Vec<Result<(), Refusal>> = match count {
        0 => Vec::new(),
        _ => {
            let ask = ClusterAsk::MovePartitions {
                moves,
                may_change_factor,
            };
            match *session.shard.ask(METADATA_CORE, ask).await {
                ClusterAnswer::MovePartitions(outcomes) => outcomes,
                other => unavailable(&other, count),
            }
        }
    };
    let mut outcomes = outcomes.into_iter();
    let mut respond = |wanted: ReassignablePartition| {
        let outcome = outcomes.next().expect("one for each that was asked");
        let mut response = ReassignablePartitionResponse {
            partition_index: wanted.partition_index,
            ..ReassignablePartitionResponse::default()
        };
        if let Err(refusal) = outcome {
            response.error_code = refusal.code;
            response.error_message = Some(refusal.message.into());
        }
        response
    };
    let topics = request.topics.into_iter();
    let responses = topics.map(|topic| ReassignableTopicResponse {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(&mut respond).collect(),
    });
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_factor,
        responses: responses.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }
}

pub fn list(
    session: &Session,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let view = session.shard.view.borrow();
    let listed: Vec<OngoingTopicReassignment> = match request.topics {
        None => {
            let topics = view.cluster.topics();
            topics.map(|topic| ongoing(topic, |_| true)).collect()
        }
        Some(wanted) => {
            let known = wanted
                .iter()
                .filter_map(|wanted| Some((wanted, view.cluster.topic(&wanted.name)?)));
            known
                .map(|(wanted, topic)| {
                    let indexes: BTreeSet<i32> = wanted.partition_indexes.iter().copied().collect();
                    ongoing(topic, |index| indexes.contains(&index))
                })
                .collect()
        }
    };
    let under_way = listed.into_iter();
    ListPartitionReassignmentsResponse {
        error_code: ErrorCode::NONE,
        topics: under_way
            .filter(|topic| !topic.partitions.is_empty())
            .collect(),
        ..ListPartitionReassignmentsResponse::default()
    }
}

fn ongoing(topic: &Topic, is_wanted: impl Fn(i32) -> bool) -> OngoingTopicReassignment {
    let moving = topic.moves.keys().copied();
    let partitions = moving
        .filter(|index| is_wanted(*index as i32))
        .map(|index| {
            let (adding_replicas, removing_replicas) = topic.coming_and_going(index);
            OngoingPartitionReassignment {
                partition_index: index as i32,
                replicas: topic.partitions[index as usize].clone(),
                adding_replicas,
                removing_replicas,
            }
        });
    OngoingTopicReassignment {
        name: Str::copied(&topic.name),
        partitions: partitions.collect(),
    }
}
