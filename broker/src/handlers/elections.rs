//! ElectLeaders (43) v0-2.
//!
//! Behaviour: a preferred election asks whoever leads a partition to hand the lead over to its first replica, and waits
//! until that one is heard to lead. Nothing is elected that lacks committed entries, so an unclean election is refused:
//! there is none in Raft. A null list means all partitions; those whose preferred replica leads already are left out of
//! that answer, as Kafka does.
//!
//! Version notes: v0 knows preferred elections only and has no top-level error.

use super::Session;
use crate::cluster::partition_id;
use crate::shard::view::View;
use protocol::error::ErrorCode;
use protocol::messages::*;
use runtime::Instant;
use std::time::Duration;
use storage::PartitionId;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// A transfer takes milliseconds if the heir has everything; who waits longer waits for one that does not.
const TRANSFER_WITHIN: Duration = Duration::from_secs(5);

/// A lead that is to go to its preferred replica.
struct Wished {
    id: PartitionId,
    to: i32,
}

pub async fn elect(session: &Session, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let all = request.topic_partitions.is_none();
    let topics = request.topic_partitions.unwrap_or_else(|| every(session));
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let deadline = session.shard.core.now() + timeout.min(TRANSFER_WITHIN);
    let mut response = ElectLeadersResponse::default();
    let mut pending = Vec::new();
    for topic in topics {
        let mut results = Vec::new();
        for index in topic.partitions {
            let begun = match request.election_type {
                PREFERRED => begin(session, &topic.topic, index),
                UNCLEAN => Err(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE),
                _ => Err(ErrorCode::INVALID_REQUEST),
            };
            let error_code = match begun {
                Ok(wished) => {
                    pending.push((
                        response.replica_election_results.len(),
                        results.len(),
                        wished,
                    ));
                    ErrorCode::NONE
                }
                Err(ErrorCode::ELECTION_NOT_NEEDED) if all => continue,
                Err(code) => code,
            };
            results.push(result(index, error_code));
        }
        if !(all && results.is_empty()) {
            response
                .replica_election_results
                .push(ReplicaElectionResult {
                    topic: topic.topic,
                    partition_result: results,
                });
        }
    }
    for (topic, position, wished) in pending {
        if !becomes_leader(session, &wished, deadline).await {
            let results = &mut response.replica_election_results[topic].partition_result;
            let index = results[position].partition_id;
            results[position] = result(index, ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE);
        }
    }
    response
}

fn every(session: &Session) -> Vec<ElectLeadersTopicPartitions> {
    let view = session.shard.view.borrow();
    let topics = view
        .topics_shown()
        .map(|topic| ElectLeadersTopicPartitions {
            topic: protocol::codec::Str::copied(&topic.name),
            partitions: (0..topic.partitions.len() as i32).collect(),
        });
    topics.collect()
}

/// Asks the leader of a partition to give way, if there is need to.
fn begin(session: &Session, topic: &str, index: i32) -> Result<Wished, ErrorCode> {
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let (id, leader, to) = {
        let view = session.shard.view.borrow();
        let found = view.cluster.topic(topic).ok_or(unknown)?;
        let at = u32::try_from(index).map_err(|_| unknown)?;
        let replicas = found.partitions.get(at as usize).ok_or(unknown)?;
        let to = *replicas.first().ok_or(unknown)?;
        let id = partition_id(found.id, at);
        (id, leads(&view, id), to)
    };
    match leader {
        None => Err(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE),
        Some(leader) if leader == to => Err(ErrorCode::ELECTION_NOT_NEEDED),
        Some(leader) => {
            session.shard.ask_for_transfer(id, leader, to);
            Ok(Wished { id, to })
        }
    }
}

fn leads(view: &View, id: PartitionId) -> Option<i32> {
    view.leader(id).map(|leader| leader.node)
}

async fn becomes_leader(session: &Session, wished: &Wished, deadline: Instant) -> bool {
    let shard = &session.shard;
    loop {
        if leads(&shard.view.borrow(), wished.id) == Some(wished.to) {
            return true;
        }
        if shard.core.now() >= deadline {
            return false;
        }
        shard.hear_of_leaders(deadline).await;
    }
}

fn result(partition_id: i32, error_code: ErrorCode) -> ElectLeadersPartitionResult {
    ElectLeadersPartitionResult {
        partition_id,
        error_code,
        error_message: (error_code != ErrorCode::NONE).then(|| error_code.description().into()),
    }
}
