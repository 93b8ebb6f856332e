//! ListOffsets (2), v1-11.
//!
//! Behaviour: earliest (-2), latest (-1), the offset of the largest timestamp (-3, KIP-734), and the first offset at or
//! after a time. One mail to each owner core. Looking by time may read one batch from disk at the owner. The leader
//! answers, except to a tool that looks into one replica (`replica_id` -2): that is told of this node's log, to its end.
//!
//! Version notes: v2 isolation (the last stable offset is the high watermark while there are no transactions); v4
//! leader epochs; v8 the earliest local offset (-4) is the earliest, since nothing is remote; v9 the latest tiered
//! one (-5) and v11 the earliest pending upload (-6) are -1 without an error, as in Kafka without tiered storage.

use super::Session;
use super::by_owner::ByOwner;
use crate::cluster::partition_id;
use crate::shard::mail::{ListOffset, ListedOffset, OffsetSpec};
use protocol::error::ErrorCode;
use protocol::messages::*;

/// Special timestamps of the wire.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The `replica_id` of Kafka's tools that look into one replica.
const DEBUGGING_REPLICA: i32 = -2;

/// Who asks.
#[derive(Clone, Copy)]
struct Reader {
    read_committed: bool,
    debugging: bool,
}

pub async fn handle(
    session: &Session,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let shard = &session.shard;
    let mut response = ListOffsetsResponse::default();
    let mut by_owner = ByOwner::new(shard.core.cores());
    for topic in request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let mut answer = ListOffsetsPartitionResponse {
                partition_index: wanted.partition_index,
                ..ListOffsetsPartitionResponse::default()
            };
            match resolve(
                session,
                version,
                &topic.name,
                wanted,
                Reader {
                    read_committed: request.isolation_level == 1,
                    debugging: request.replica_id == DEBUGGING_REPLICA,
                },
            ) {
                Ok(Some(offset)) => {
                    let place = (response.topics.len(), answers.len());
                    by_owner.add(shard.owner(offset.partition), place, offset);
                }
                Ok(None) => {}
                Err(code) => answer.error_code = code,
            }
            answers.push(answer);
        }
        response.topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions: answers,
        });
    }
    for ((topic, partition), listed) in by_owner.ask(shard, |asks| asks).await {
        let answer = &mut response.topics[topic].partitions[partition];
        fill(answer, listed, version);
    }
    response
}

/// What to ask of the owner; `None` if the answer is "nothing" without asking.
fn resolve(
    session: &Session,
    version: i16,
    topic: &str,
    wanted: &ListOffsetsPartition,
    reader: Reader,
) -> Result<Option<ListOffset>, ErrorCode> {
    let view = session.shard.view.borrow();
    let found = view
        .cluster
        .topic(topic)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if wanted.partition_index < 0 || wanted.partition_index as usize >= found.partitions.len() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let spec = match wanted.timestamp {
        LATEST => OffsetSpec::Latest,
        EARLIEST => OffsetSpec::Earliest,
        MAX_TIMESTAMP if version >= 7 => OffsetSpec::MaxTimestamp,
        EARLIEST_LOCAL if version >= 8 => OffsetSpec::Earliest,
        LATEST_TIERED if version >= 9 => return Ok(None),
        EARLIEST_PENDING_UPLOAD if version >= 11 => return Ok(None),
        timestamp if timestamp >= 0 => OffsetSpec::Timestamp(timestamp),
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    Ok(Some(ListOffset {
        partition: partition_id(found.id, wanted.partition_index as u32),
        spec,
        current_leader_epoch: wanted.current_leader_epoch,
        read_committed: reader.read_committed,
        debugging: reader.debugging,
    }))
}

fn fill(answer: &mut ListOffsetsPartitionResponse, listed: ListedOffset, version: i16) {
    answer.error_code = listed.error;
    answer.offset = listed.offset;
    answer.timestamp = listed.timestamp;
    if version >= 4 {
        answer.leader_epoch = listed.leader_epoch;
    }
}
