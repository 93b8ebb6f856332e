//! OffsetForLeaderEpoch (23), v2-4.
//!
//! Behaviour: where the records of a leader epoch end, so that a client sees whether what it read was truncated
//! (KIP-320). Answered by the leader alone, as in Kafka, from the log's own table of terms; an epoch is a Raft term. A follower's request
//! (`replica_id` >= 0) is refused: replication has a protocol of its own here.

use super::Session;
use super::by_owner::ByOwner;
use crate::cluster::partition_id;
use crate::shard::mail::EpochEnd;
use protocol::error::ErrorCode;
use protocol::messages::*;

pub async fn handle(
    session: &Session,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let shard = &session.shard;
    let mut response = OffsetForLeaderEpochResponse::default();
    let mut by_owner = ByOwner::new(shard.core.cores());
    for topic in request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let mut answer = EpochEndOffset {
                partition: wanted.partition,
                leader_epoch: -1,
                end_offset: -1,
                ..EpochEndOffset::default()
            };
            match resolve(session, request.replica_id, &topic.topic, wanted) {
                Ok(ask) => {
                    let place = (response.topics.len(), answers.len());
                    by_owner.add(shard.owner(ask.partition), place, ask);
                }
                Err(code) => answer.error_code = code,
            }
            answers.push(answer);
        }
        response.topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions: answers,
        });
    }
    for ((topic, partition), end) in by_owner.ask(shard, |asks| asks).await {
        let answer = &mut response.topics[topic].partitions[partition];
        match end {
            Ok((epoch, end_offset)) => {
                answer.leader_epoch = epoch;
                answer.end_offset = end_offset;
            }
            Err(code) => answer.error_code = code,
        }
    }
    response
}

fn resolve(
    session: &Session,
    replica_id: i32,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<EpochEnd, ErrorCode> {
    if replica_id >= 0 {
        return Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
    let view = session.shard.view.borrow();
    let found = view
        .cluster
        .topic(topic)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if wanted.partition < 0 || wanted.partition as usize >= found.partitions.len() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    Ok(EpochEnd {
        partition: partition_id(found.id, wanted.partition as u32),
        epoch: wanted.leader_epoch,
        current_leader_epoch: wanted.current_leader_epoch,
    })
}
