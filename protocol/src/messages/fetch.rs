//! Fetch (1): read record batches from partitions, waiting for them if asked to.
//!
//! Versions: 4 isolation level; 5 log start offset; 7 fetch sessions (KIP-227); 9 leader epoch
//! check; 10 allows zstd; 11 rack of the client (KIP-392); 12 flexible, divergence (KIP-595);
//! 13 topic ids; 15 replica state in a tagged field (KIP-903); 16 leader hints (KIP-951);
//! 17 and 18 are fields of followers only.

use super::{LeaderIdAndEpoch, NodeEndpoint};
use crate::codec::{Chunks, Str, describe, since, until};
use crate::error::ErrorCode;
use uuid::Uuid;

describe! {
    /// Which partitions to read from where, and how long to wait.
    pub struct FetchRequest {
        /// Node id of a follower; -1 for a consumer.
        replica_id: i32 [until(14)] = -1;
        /// How long to wait for `min_bytes`, in ms.
        max_wait_ms: i32;
        /// Answer as soon as so many bytes can be read.
        min_bytes: i32;
        /// Stop adding partitions to the answer beyond this size. A first batch that is larger is
        /// sent all the same, so that the client gets on.
        max_bytes: i32 [since(3).ignorable()] = i32::MAX;
        /// 0 read uncommitted, 1 read committed (stop at the last stable offset).
        isolation_level: i8 [since(4).ignorable()];
        /// The fetch session; 0 for none, or for a new one.
        session_id: i32 [since(7).ignorable()];
        /// Number of the request within its session; 0 begins one, -1 wants none or ends it.
        session_epoch: i32 [since(7).ignorable()] = -1;
        /// Partitions to read; within a session only what is new or changed.
        topics: Vec<FetchTopic>;
        /// Partitions to take out of the session.
        forgotten_topics_data: Vec<ForgottenTopic> [since(7)];
        /// The client's rack, so that a near follower can be recommended.
        rack_id: Str [since(11).ignorable()];
    } tagged {
        /// The cluster that a follower believes to talk to.
        0 => cluster_id: Option<Str> [since(12).ignorable()];
        /// Who the follower is.
        1 => replica_state: ReplicaState [since(15)];
    }

    /// Identity of a follower that fetches.
    pub struct ReplicaState {
        /// Node id of the follower; -1 for a consumer.
        replica_id: i32 [since(15)] = -1;
        /// Epoch of the follower's registration; -1 if unknown.
        replica_epoch: i64 [since(15)] = -1;
    }

    /// Partitions of one topic to read.
    pub struct FetchTopic {
        /// The topic's name.
        topic: Str [until(12).ignorable()];
        /// The topic's id.
        topic_id: Uuid [since(13).ignorable()];
        /// Its partitions.
        partitions: Vec<FetchPartition>;
    }

    /// From where to read one partition.
    pub struct FetchPartition {
        /// The partition's number.
        partition: i32;
        /// The leader epoch that the client knows, for fencing; -1 to skip the check.
        current_leader_epoch: i32 [since(9).ignorable()] = -1;
        /// First offset wanted.
        fetch_offset: i64;
        /// Epoch of the record before `fetch_offset`, to detect divergence; -1 to skip.
        last_fetched_epoch: i32 [since(12)] = -1;
        /// The follower's own log start offset; -1 for a consumer.
        log_start_offset: i64 [since(5).ignorable()] = -1;
        /// Bytes to return at most for this partition, with the same exception as `max_bytes`.
        partition_max_bytes: i32;
    } tagged {
        /// The directory of a follower that has several.
        0 => replica_directory_id: Uuid [since(17).ignorable()];
        /// The high watermark that the follower knows; the largest number if it does not care.
        1 => high_watermark: i64 [since(18).ignorable()] = i64::MAX;
    }

    /// Partitions that leave a fetch session.
    pub struct ForgottenTopic {
        /// The topic's name.
        topic: Str [since(7).until(12).ignorable()];
        /// The topic's id.
        topic_id: Uuid [since(13).ignorable()];
        /// Numbers of the partitions.
        partitions: Vec<i32> [since(7)];
    }
}

describe! {
    /// Batches, by topic and partition.
    pub struct FetchResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
        /// Error of the whole request, in practice of its session.
        error_code: ErrorCode [since(7).ignorable()];
        /// The fetch session; 0 if there is none.
        session_id: i32 [since(7)];
        /// By topic; within a session only partitions with news.
        responses: Vec<FetchableTopicResponse>;
    } tagged {
        /// Addresses of the leaders that `current_leader` names.
        0 => node_endpoints: Vec<NodeEndpoint> [since(16)];
    }

    /// Batches of one topic.
    pub struct FetchableTopicResponse {
        /// The topic's name.
        topic: Str [until(12).ignorable()];
        /// The topic's id.
        topic_id: Uuid [since(13).ignorable()];
        /// By partition.
        partitions: Vec<FetchablePartitionResponse>;
    }

    /// Batches of one partition. (Kafka calls this `PartitionData`.)
    pub struct FetchablePartitionResponse {
        /// The partition's number.
        partition_index: i32;
        /// Error code; 0 if the read went well, even when it found nothing.
        error_code: ErrorCode;
        /// Offset after the last record that is committed.
        high_watermark: i64;
        /// Offset of the first record of the oldest open transaction, or the high watermark.
        last_stable_offset: i64 [since(4).ignorable()] = -1;
        /// First offset that the log still has.
        log_start_offset: i64 [since(5).ignorable()] = -1;
        /// Aborted transactions among the records, for read committed; null for read uncommitted.
        aborted_transactions: Option<Vec<AbortedTransaction>> [since(4).ignorable()]
            = Some(Vec::new());
        /// The follower that the client should read from instead; -1 for none.
        preferred_read_replica: i32 [since(11)] = -1;
        /// Whole record batches, the last of them maybe cut off; the first may begin before the
        /// offset that was asked for.
        records: Option<Chunks>;
    } tagged {
        /// Where a follower's log leaves the leader's, if it does.
        0 => diverging_epoch: DivergingEpoch [since(12)];
        /// The leader, if it is not the node that was asked.
        1 => current_leader: LeaderIdAndEpoch [since(12)];
        /// The snapshot to load instead, if the offset is no longer in the log (KRaft only).
        2 => snapshot_id: SnapshotId [since(12)];
    }

    /// The largest epoch and its end that both logs may share. (Kafka calls this `EpochEndOffset`.)
    pub struct DivergingEpoch {
        /// The epoch; -1 if there is no divergence.
        epoch: i32 [since(12)] = -1;
        /// Offset after the epoch's last record.
        end_offset: i64 [since(12)] = -1;
    }

    /// A snapshot of a metadata log.
    pub struct SnapshotId {
        /// Offset after the last record that the snapshot holds.
        end_offset: i64 = -1;
        /// Epoch of that record.
        epoch: i32 = -1;
    }

    /// One aborted transaction.
    pub struct AbortedTransaction {
        /// Whose transaction it was.
        producer_id: i64 [since(4)];
        /// Its first offset in this partition.
        first_offset: i64 [since(4)];
    }
}
