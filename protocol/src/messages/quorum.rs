//! DescribeQuorum (55), UpdateFeatures (57), UnregisterBroker (64): the nodes that hold the metadata, and what the
//! cluster knows of its nodes.
//!
//! Versions: DescribeQuorum 1 times of the last fetches (KIP-836), 2 directories and listeners (KIP-853).
//! UpdateFeatures 1 kinds of changes (KIP-778), 2 without a result for each feature (KIP-1022).

use crate::codec::{Str, describe, since, until};
use crate::error::ErrorCode;
use uuid::Uuid;

describe! {
    /// Which groups are wanted: Kafka has one, `__cluster_metadata`.
    pub struct DescribeQuorumRequest {
        /// By topic.
        topics: Vec<DescribeQuorumRequestTopic>;
    }

    /// One topic. (Kafka calls this `TopicData`.)
    pub struct DescribeQuorumRequestTopic {
        /// Its name.
        topic_name: Str;
        /// Its partitions.
        partitions: Vec<DescribeQuorumRequestPartition>;
    }

    /// One partition. (Kafka calls this `PartitionData`.)
    pub struct DescribeQuorumRequestPartition {
        /// The partition's number.
        partition_index: i32;
    }
}

describe! {
    /// Who holds the groups' logs, and how far.
    pub struct DescribeQuorumResponse {
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str> [since(2).ignorable()];
        /// By topic.
        topics: Vec<DescribeQuorumResponseTopic>;
        /// Where the nodes listen.
        nodes: Vec<DescribeQuorumNode> [since(2)];
    }

    /// One topic. (Kafka calls this `TopicData`.)
    pub struct DescribeQuorumResponseTopic {
        /// Its name.
        topic_name: Str;
        /// Its partitions.
        partitions: Vec<DescribeQuorumResponsePartition>;
    }

    /// One partition. (Kafka calls this `PartitionData`.)
    pub struct DescribeQuorumResponsePartition {
        /// The partition's number.
        partition_index: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str> [since(2).ignorable()];
        /// Node id of the leader; -1 if there is none.
        leader_id: i32;
        /// The leader's epoch.
        leader_epoch: i32;
        /// The end of what is committed.
        high_watermark: i64;
        /// Those who vote.
        current_voters: Vec<QuorumReplicaState>;
        /// Those who only follow.
        observers: Vec<QuorumReplicaState>;
    }

    /// One member. (Kafka calls this `ReplicaState`.)
    pub struct QuorumReplicaState {
        /// Its node id.
        replica_id: i32;
        /// Which disk of that node it is on.
        replica_directory_id: Uuid [since(2)];
        /// The end of its log; -1 if unknown.
        log_end_offset: i64;
        /// When it last fetched, in ms since 1970 by the leader's clock; -1 for the leader, or if unknown.
        last_fetch_timestamp: i64 [since(1).ignorable()] = -1;
        /// When it last had everything, by the same clock; -1 if unknown.
        last_caught_up_timestamp: i64 [since(1).ignorable()] = -1;
    }

    /// One node. (Kafka calls this `Node`.)
    pub struct DescribeQuorumNode {
        /// Its node id.
        node_id: i32;
        /// Where it listens.
        listeners: Vec<DescribeQuorumListener>;
    }

    /// One listener. (Kafka calls this `Listener`.)
    pub struct DescribeQuorumListener {
        /// Its name.
        name: Str [since(2)];
        /// Host name or address.
        host: Str [since(2)];
        /// Port.
        port: u16 [since(2)];
    }
}

describe! {
    /// Which feature levels are to hold.
    pub struct UpdateFeaturesRequest {
        /// How long the client waits, in ms.
        timeout_ms: i32 = 60_000;
        /// The changes.
        feature_updates: Vec<FeatureUpdateKey>;
        /// Whether the changes are only checked.
        validate_only: bool [since(1)];
    }

    /// One change.
    pub struct FeatureUpdateKey {
        /// The feature's name.
        feature: Str;
        /// The level; below 1 to be without the feature.
        max_version_level: i16;
        /// Whether a lower level than now is meant.
        allow_downgrade: bool [until(0)];
        /// 1: to a higher level only. 2: to a lower one if nothing is lost. 3: to a lower one.
        upgrade_type: i8 [since(1)] = 1;
    }
}

describe! {
    /// What became of the changes.
    pub struct UpdateFeaturesResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str>;
        /// By feature.
        results: Vec<UpdatableFeatureResult> [until(1).ignorable()];
    }

    /// One feature.
    pub struct UpdatableFeatureResult {
        /// Its name.
        feature: Str;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str>;
    }
}

describe! {
    /// Which node is gone for good.
    pub struct UnregisterBrokerRequest {
        /// Its node id.
        broker_id: i32;
    }
}

describe! {
    /// Whether it was let go.
    pub struct UnregisterBrokerResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str>;
    }
}
