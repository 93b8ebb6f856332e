//! CreateTopics (19), DeleteTopics (20), DeleteRecords (21), CreatePartitions (37): the life of
//! topics.
//!
//! Versions: CreateTopics 4 allows -1 for counts (KIP-464), 5 flexible, with what was created in
//! the answer (KIP-525), 7 topic ids. DeleteTopics 4 flexible, 5 error messages, 6 by id.
//! DeleteRecords 2 flexible. CreatePartitions 2 flexible. From CreateTopics 6, CreatePartitions 3
//! and DeleteTopics 5 on THROTTLING_QUOTA_EXCEEDED is understood (KIP-599).

use crate::codec::{Str, describe, since, until};
use crate::error::ErrorCode;
use uuid::Uuid;

describe! {
    /// Topics to create.
    pub struct CreateTopicsRequest {
        /// The topics.
        topics: Vec<CreatableTopic>;
        /// How long to wait until they exist, in ms.
        timeout_ms: i32 = 60_000;
        /// Only say whether it would work.
        validate_only: bool [since(1)];
    }

    /// One topic to create.
    pub struct CreatableTopic {
        /// Its name.
        name: Str;
        /// How many partitions; -1 for the broker's default, or if `assignments` are given.
        num_partitions: i32;
        /// How many replicas of each; -1 for the broker's default, or if `assignments` are given.
        replication_factor: i16;
        /// Where the replicas shall be; empty to leave it to the broker.
        assignments: Vec<CreatableReplicaAssignment>;
        /// Configs that differ from the defaults.
        configs: Vec<CreatableTopicConfig>;
    }

    /// Where one partition's replicas shall be.
    pub struct CreatableReplicaAssignment {
        /// The partition's number.
        partition_index: i32;
        /// The nodes; the first is the preferred leader.
        broker_ids: Vec<i32>;
    }

    /// One config of a new topic.
    pub struct CreatableTopicConfig {
        /// Its key.
        name: Str;
        /// Its value; null for the default.
        value: Option<Str>;
    }
}

describe! {
    /// What became of the topics.
    pub struct CreateTopicsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(2).ignorable()];
        /// The topics.
        topics: Vec<CreatableTopicResult>;
    }

    /// What became of one topic.
    pub struct CreatableTopicResult {
        /// Its name.
        name: Str;
        /// Its id.
        topic_id: Uuid [since(7).ignorable()];
        /// Error code; 0 if it was created.
        error_code: ErrorCode;
        /// Why it was not, for people.
        error_message: Option<Str> [since(1).ignorable()];
        /// How many partitions it has; -1 if unknown.
        num_partitions: i32 [since(5).ignorable()] = -1;
        /// How many replicas each has; -1 if unknown.
        replication_factor: i16 [since(5).ignorable()] = -1;
        /// Its configs. Never null on success: Kafka's own tools fall over it.
        configs: Option<Vec<CreatableTopicConfigs>> [since(5).ignorable()] = Some(Vec::new());
    } tagged {
        /// Why the configs are withheld, if the client may not see them.
        0 => topic_config_error_code: ErrorCode [since(5).ignorable()];
    }

    /// One config of the new topic.
    pub struct CreatableTopicConfigs {
        /// Its key.
        name: Str [since(5)];
        /// Its value.
        value: Option<Str> [since(5)];
        /// Whether it can never be changed.
        read_only: bool [since(5)];
        /// Where the value comes from; numbers as in DescribeConfigs.
        config_source: i8 [since(5).ignorable()] = -1;
        /// Whether the value is a secret, and therefore not shown.
        is_sensitive: bool [since(5)];
    }
}

describe! {
    /// Topics to delete.
    pub struct DeleteTopicsRequest {
        /// The topics, by name or by id.
        topics: Vec<DeleteTopicState> [since(6)];
        /// The topics, by name.
        topic_names: Vec<Str> [until(5).ignorable()];
        /// How long to wait until they are gone, in ms.
        timeout_ms: i32;
    }

    /// One topic to delete.
    pub struct DeleteTopicState {
        /// Its name; null if the id is given.
        name: Option<Str> [since(6)];
        /// Its id; all zeros if the name is given.
        topic_id: Uuid [since(6)];
    }
}

describe! {
    /// What became of the topics.
    pub struct DeleteTopicsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
        /// The topics.
        responses: Vec<DeletableTopicResult>;
    }

    /// What became of one topic.
    pub struct DeletableTopicResult {
        /// Its name; null if an id was asked for that the client may not, or cannot, know.
        name: Option<Str> [since(0).null_since(6)] = Some(Str::new());
        /// Its id.
        topic_id: Uuid [since(6).ignorable()];
        /// Error code; 0 if it is deleted.
        error_code: ErrorCode;
        /// Why it is not, for people.
        error_message: Option<Str> [since(5).ignorable()];
    }
}

describe! {
    /// Up to where to drop the beginning of partitions.
    pub struct DeleteRecordsRequest {
        /// By topic.
        topics: Vec<DeleteRecordsTopic>;
        /// How long to wait, in ms.
        timeout_ms: i32;
    }

    /// Partitions of one topic.
    pub struct DeleteRecordsTopic {
        /// The topic's name.
        name: Str;
        /// Its partitions.
        partitions: Vec<DeleteRecordsPartition>;
    }

    /// Up to where to drop one partition's beginning.
    pub struct DeleteRecordsPartition {
        /// The partition's number.
        partition_index: i32;
        /// First offset to keep; -1 to keep only what is not yet committed.
        offset: i64;
    }
}

describe! {
    /// Where partitions begin now.
    pub struct DeleteRecordsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// By topic.
        topics: Vec<DeleteRecordsTopicResult>;
    }

    /// Partitions of one topic.
    pub struct DeleteRecordsTopicResult {
        /// The topic's name.
        name: Str;
        /// Its partitions.
        partitions: Vec<DeleteRecordsPartitionResult>;
    }

    /// Where one partition begins now.
    pub struct DeleteRecordsPartitionResult {
        /// The partition's number.
        partition_index: i32;
        /// First offset that all replicas still have; -1 with an error.
        low_watermark: i64;
        /// Error code, or 0.
        error_code: ErrorCode;
    }
}

describe! {
    /// Topics that shall have more partitions.
    pub struct CreatePartitionsRequest {
        /// The topics.
        topics: Vec<CreatePartitionsTopic>;
        /// How long to wait until the partitions exist, in ms.
        timeout_ms: i32;
        /// Only say whether it would work.
        validate_only: bool;
    }

    /// One topic that shall have more partitions.
    pub struct CreatePartitionsTopic {
        /// Its name.
        name: Str;
        /// How many partitions it shall have in all.
        count: i32;
        /// Where the new partitions' replicas shall be; null to leave it to the broker.
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Vec::new());
    }

    /// Where one new partition's replicas shall be.
    pub struct CreatePartitionsAssignment {
        /// The nodes; the first is the preferred leader.
        broker_ids: Vec<i32>;
    }
}

describe! {
    /// What became of it.
    pub struct CreatePartitionsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// By topic.
        results: Vec<CreatePartitionsTopicResult>;
    }

    /// What became of one topic.
    pub struct CreatePartitionsTopicResult {
        /// Its name.
        name: Str;
        /// Error code; 0 if the partitions were added.
        error_code: ErrorCode;
        /// Why they were not, for people.
        error_message: Option<Str>;
    }
}
