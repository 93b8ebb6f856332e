//! OffsetCommit (8), OffsetFetch (9), OffsetForLeaderEpoch (23), OffsetDelete (47): how far groups
//! have read, and where epochs end.
//!
//! Versions: OffsetCommit 5 drops the retention time, 6 leader epoch, 7 static members (KIP-345),
//! 8 flexible, 9 member epochs (KIP-848), 10 topic ids. OffsetFetch 2 all topics, 5 leader epoch,
//! 6 flexible, 7 stable offsets only, 8 several groups, 9 member epochs, 10 topic ids.
//! OffsetForLeaderEpoch 2 fencing, 3 replica id, 4 flexible. OffsetDelete (KIP-496) is never
//! flexible.

use crate::codec::{Str, describe, since, until};
use crate::error::ErrorCode;
use uuid::Uuid;

describe! {
    /// Offsets that a group has read up to.
    pub struct OffsetCommitRequest {
        /// The group.
        group_id: Str;
        /// Generation of a classic group, epoch of a member otherwise; -1 outside any generation.
        generation_id_or_member_epoch: i32 [since(1).ignorable()] = -1;
        /// Who commits.
        member_id: Str [since(1).ignorable()];
        /// The lasting name of a static member.
        group_instance_id: Option<Str> [since(7)];
        /// How long to keep the offsets, in ms; -1 for the broker's choice.
        retention_time_ms: i64 [since(2).until(4).ignorable()] = -1;
        /// By topic.
        topics: Vec<OffsetCommitRequestTopic>;
    }

    /// Offsets in one topic.
    pub struct OffsetCommitRequestTopic {
        /// The topic's name.
        name: Str [until(9).ignorable()];
        /// The topic's id.
        topic_id: Uuid [since(10).ignorable()];
        /// By partition.
        partitions: Vec<OffsetCommitRequestPartition>;
    }

    /// The offset in one partition.
    pub struct OffsetCommitRequestPartition {
        /// The partition's number.
        partition_index: i32;
        /// First offset that is not yet read.
        committed_offset: i64;
        /// Epoch of the last record that was read; -1 if unknown.
        committed_leader_epoch: i32 [since(6).ignorable()] = -1;
        /// Whatever the client wants to keep with the offset.
        committed_metadata: Option<Str>;
    }
}

describe! {
    /// Which commits went through.
    pub struct OffsetCommitResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(3).ignorable()];
        /// By topic.
        topics: Vec<OffsetCommitResponseTopic>;
    }

    /// Commits in one topic.
    pub struct OffsetCommitResponseTopic {
        /// The topic's name.
        name: Str [until(9).ignorable()];
        /// The topic's id.
        topic_id: Uuid [since(10).ignorable()];
        /// By partition.
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    /// The commit in one partition.
    pub struct OffsetCommitResponsePartition {
        /// The partition's number.
        partition_index: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
    }
}

describe! {
    /// Whose offsets are wanted.
    pub struct OffsetFetchRequest {
        /// The group.
        group_id: Str [until(7)];
        /// Its topics; null for all.
        topics: Option<Vec<OffsetFetchRequestTopic>> [until(7).null_since(2)] = Some(Vec::new());
        /// The groups.
        groups: Vec<OffsetFetchRequestGroup> [since(8)];
        /// Whether to be told to come again while a transaction has offsets pending.
        require_stable: bool [since(7)];
    }

    /// Partitions of one topic.
    pub struct OffsetFetchRequestTopic {
        /// The topic's name.
        name: Str [until(7)];
        /// Numbers of the partitions.
        partition_indexes: Vec<i32> [until(7)];
    }

    /// One group.
    pub struct OffsetFetchRequestGroup {
        /// The group.
        group_id: Str [since(8)];
        /// Who asks; null for an admin.
        member_id: Option<Str> [since(9).ignorable()];
        /// The epoch of who asks; -1 for an admin or a classic group.
        member_epoch: i32 [since(9).ignorable()] = -1;
        /// The group's topics; null for all.
        topics: Option<Vec<OffsetFetchRequestTopics>> [since(8)] = Some(Vec::new());
    }

    /// Partitions of one topic of a group.
    pub struct OffsetFetchRequestTopics {
        /// The topic's name.
        name: Str [since(8).until(9).ignorable()];
        /// The topic's id.
        topic_id: Uuid [since(10).ignorable()];
        /// Numbers of the partitions.
        partition_indexes: Vec<i32> [since(8)];
    }
}

describe! {
    /// The offsets.
    pub struct OffsetFetchResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(3).ignorable()];
        /// By topic.
        topics: Vec<OffsetFetchResponseTopic> [until(7)];
        /// Error of the whole request, or 0.
        error_code: ErrorCode [since(2).until(7).ignorable()];
        /// By group.
        groups: Vec<OffsetFetchResponseGroup> [since(8)];
    }

    /// Offsets in one topic.
    pub struct OffsetFetchResponseTopic {
        /// The topic's name.
        name: Str [until(7)];
        /// By partition.
        partitions: Vec<OffsetFetchResponsePartition> [until(7)];
    }

    /// The offset in one partition.
    pub struct OffsetFetchResponsePartition {
        /// The partition's number.
        partition_index: i32 [until(7)];
        /// First offset that is not yet read; -1 if none was committed.
        committed_offset: i64 [until(7)];
        /// Epoch of the last record that was read; -1 if unknown.
        committed_leader_epoch: i32 [since(5).until(7).ignorable()] = -1;
        /// What the client kept with the offset.
        metadata: Option<Str> [until(7)];
        /// Error code, or 0.
        error_code: ErrorCode [until(7)];
    }

    /// Offsets of one group.
    pub struct OffsetFetchResponseGroup {
        /// The group.
        group_id: Str [since(8)];
        /// By topic.
        topics: Vec<OffsetFetchResponseTopics> [since(8)];
        /// Error of the group, or 0.
        error_code: ErrorCode [since(8)];
    }

    /// Offsets of a group in one topic.
    pub struct OffsetFetchResponseTopics {
        /// The topic's name.
        name: Str [since(8).until(9).ignorable()];
        /// The topic's id.
        topic_id: Uuid [since(10).ignorable()];
        /// By partition.
        partitions: Vec<OffsetFetchResponsePartitions> [since(8)];
    }

    /// The offset of a group in one partition.
    pub struct OffsetFetchResponsePartitions {
        /// The partition's number.
        partition_index: i32 [since(8)];
        /// First offset that is not yet read; -1 if none was committed.
        committed_offset: i64 [since(8)];
        /// Epoch of the last record that was read; -1 if unknown.
        committed_leader_epoch: i32 [since(8).ignorable()] = -1;
        /// What the client kept with the offset.
        metadata: Option<Str> [since(8)];
        /// Error code, or 0.
        error_code: ErrorCode [since(8)];
    }
}

describe! {
    /// Epochs whose ends are wanted.
    pub struct OffsetForLeaderEpochRequest {
        /// Node id of a follower; -1 for a consumer, -2 if the client does not say.
        replica_id: i32 [since(3).ignorable()] = -2;
        /// By topic.
        topics: Vec<OffsetForLeaderTopic>;
    }

    /// Epochs in one topic.
    pub struct OffsetForLeaderTopic {
        /// The topic's name.
        topic: Str;
        /// By partition.
        partitions: Vec<OffsetForLeaderPartition>;
    }

    /// The epoch in one partition.
    pub struct OffsetForLeaderPartition {
        /// The partition's number.
        partition: i32;
        /// The leader epoch that the client knows, for fencing; -1 to skip the check.
        current_leader_epoch: i32 [since(2).ignorable()] = -1;
        /// The epoch whose end is wanted.
        leader_epoch: i32;
    }
}

describe! {
    /// Where the epochs end.
    pub struct OffsetForLeaderEpochResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(2).ignorable()];
        /// By topic.
        topics: Vec<OffsetForLeaderTopicResult>;
    }

    /// Ends in one topic.
    pub struct OffsetForLeaderTopicResult {
        /// The topic's name.
        topic: Str;
        /// By partition.
        partitions: Vec<EpochEndOffset>;
    }

    /// The end in one partition.
    pub struct EpochEndOffset {
        /// Error code, or 0.
        error_code: ErrorCode;
        /// The partition's number.
        partition: i32;
        /// The largest epoch of the log that is not larger than the one asked for; -1 if unknown.
        leader_epoch: i32 [since(1).ignorable()] = -1;
        /// Offset after that epoch's last record; -1 if unknown.
        end_offset: i64 = -1;
    }
}

describe! {
    /// Offsets that a group shall forget.
    pub struct OffsetDeleteRequest {
        /// The group.
        group_id: Str;
        /// By topic.
        topics: Vec<OffsetDeleteRequestTopic>;
    }

    /// Partitions of one topic.
    pub struct OffsetDeleteRequestTopic {
        /// The topic's name.
        name: Str;
        /// Its partitions.
        partitions: Vec<OffsetDeleteRequestPartition>;
    }

    /// One partition.
    pub struct OffsetDeleteRequestPartition {
        /// Its number.
        partition_index: i32;
    }
}

describe! {
    /// Which offsets are forgotten.
    pub struct OffsetDeleteResponse {
        /// Error of the whole request, or 0.
        error_code: ErrorCode;
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(0).ignorable()];
        /// By topic.
        topics: Vec<OffsetDeleteResponseTopic>;
    }

    /// Partitions of one topic.
    pub struct OffsetDeleteResponseTopic {
        /// The topic's name.
        name: Str;
        /// Its partitions.
        partitions: Vec<OffsetDeleteResponsePartition>;
    }

    /// One partition.
    pub struct OffsetDeleteResponsePartition {
        /// Its number.
        partition_index: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
    }
}
