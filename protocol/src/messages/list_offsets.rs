//! ListOffsets (2): offsets by time, and the special ones.
//!
//! Versions: 1 one offset for each partition; 2 isolation level; 4 leader epoch; 6 flexible;
//! 7 max timestamp (KIP-734); 8 and 9 tiered storage; 10 timeout for remote reads (KIP-1075);
//! 11 earliest pending upload.

use crate::codec::{Str, describe, since};
use crate::error::ErrorCode;

describe! {
    /// Which offsets are wanted.
    pub struct ListOffsetsRequest {
        /// Node id of a follower; -1 for a consumer, -2 for a debugging client.
        replica_id: i32;
        /// 0 read uncommitted, 1 read committed: then "latest" is the last stable offset.
        isolation_level: i8 [since(2)];
        /// By topic.
        topics: Vec<ListOffsetsTopic>;
        /// How long to wait for remote storage, in ms.
        timeout_ms: i32 [since(10).ignorable()];
    }

    /// Partitions of one topic.
    pub struct ListOffsetsTopic {
        /// The topic's name.
        name: Str;
        /// Its partitions.
        partitions: Vec<ListOffsetsPartition>;
    }

    /// What is wanted of one partition.
    pub struct ListOffsetsPartition {
        /// The partition's number.
        partition_index: i32;
        /// The leader epoch that the client knows, for fencing; -1 to skip the check.
        current_leader_epoch: i32 [since(4).ignorable()] = -1;
        /// Unix time in ms: the first record at or after it; or -1 latest, -2 earliest, -3 the
        /// record with the largest timestamp, -4 earliest local, -5 latest tiered, -6 earliest
        /// pending upload.
        timestamp: i64;
    }
}

describe! {
    /// The offsets.
    pub struct ListOffsetsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(2).ignorable()];
        /// By topic.
        topics: Vec<ListOffsetsTopicResponse>;
    }

    /// Offsets of one topic.
    pub struct ListOffsetsTopicResponse {
        /// The topic's name.
        name: Str;
        /// By partition.
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    /// The offset of one partition.
    pub struct ListOffsetsPartitionResponse {
        /// The partition's number.
        partition_index: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// Timestamp of the record found; -1 for latest and earliest, or if nothing was found.
        timestamp: i64 [since(1)] = -1;
        /// The offset; -1 if nothing was found.
        offset: i64 [since(1)] = -1;
        /// Epoch of the record found; -1 if unknown.
        leader_epoch: i32 [since(4)] = -1;
    }
}
