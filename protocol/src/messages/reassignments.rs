//! ElectLeaders (43), AlterPartitionReassignments (45), ListPartitionReassignments (46): who leads and who holds
//! partitions.
//!
//! Versions: ElectLeaders 1 kinds of elections (KIP-460), 2 flexible. AlterPartitionReassignments (KIP-455) 1 lets
//! the client forbid a change of the number of replicas (KIP-860).

use crate::codec::{Str, describe, since};
use crate::error::ErrorCode;

describe! {
    /// Which partitions are to get another leader.
    pub struct ElectLeadersRequest {
        /// 0: the preferred replica. 1: any live one, whatever is lost.
        election_type: i8 [since(1)];
        /// The partitions; null for all.
        topic_partitions: Option<Vec<ElectLeadersTopicPartitions>> = Some(Vec::new());
        /// How long the client waits, in ms.
        timeout_ms: i32 = 60_000;
    }

    /// Partitions of one topic. (Kafka calls this `TopicPartitions`.)
    pub struct ElectLeadersTopicPartitions {
        /// The topic's name.
        topic: Str;
        /// Numbers of the partitions.
        partitions: Vec<i32>;
    }
}

describe! {
    /// What became of the elections.
    pub struct ElectLeadersResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// Error code, or 0.
        error_code: ErrorCode [since(1)];
        /// By topic.
        replica_election_results: Vec<ReplicaElectionResult>;
    }

    /// One topic.
    pub struct ReplicaElectionResult {
        /// Its name.
        topic: Str;
        /// Its partitions. If all were asked for, those that need no election are left out.
        partition_result: Vec<ElectLeadersPartitionResult>;
    }

    /// One partition. (Kafka calls this `PartitionResult`.)
    pub struct ElectLeadersPartitionResult {
        /// The partition's number.
        partition_id: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str>;
    }
}

describe! {
    /// Where partitions are to go.
    pub struct AlterPartitionReassignmentsRequest {
        /// How long the client waits, in ms.
        timeout_ms: i32 = 60_000;
        /// Whether a partition may get more or fewer replicas than it has.
        allow_replication_factor_change: bool [since(1)] = true;
        /// By topic.
        topics: Vec<ReassignableTopic>;
    }

    /// One topic.
    pub struct ReassignableTopic {
        /// Its name.
        name: Str;
        /// Its partitions.
        partitions: Vec<ReassignablePartition>;
    }

    /// One partition.
    pub struct ReassignablePartition {
        /// The partition's number.
        partition_index: i32;
        /// The nodes that are to hold it, the preferred leader first; null to cancel what is under way.
        replicas: Option<Vec<i32>> = None;
    }
}

describe! {
    /// Which of the changes were taken up.
    pub struct AlterPartitionReassignmentsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// As in the request.
        allow_replication_factor_change: bool [since(1).ignorable()] = true;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str>;
        /// By topic.
        responses: Vec<ReassignableTopicResponse>;
    }

    /// One topic.
    pub struct ReassignableTopicResponse {
        /// Its name.
        name: Str;
        /// Its partitions.
        partitions: Vec<ReassignablePartitionResponse>;
    }

    /// One partition.
    pub struct ReassignablePartitionResponse {
        /// The partition's number.
        partition_index: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str>;
    }
}

describe! {
    /// Whose moves are wanted.
    pub struct ListPartitionReassignmentsRequest {
        /// How long the client waits, in ms.
        timeout_ms: i32 = 60_000;
        /// The topics; null for all that is being moved.
        topics: Option<Vec<ListPartitionReassignmentsTopics>> = None;
    }

    /// Partitions of one topic.
    pub struct ListPartitionReassignmentsTopics {
        /// The topic's name.
        name: Str;
        /// Numbers of the partitions.
        partition_indexes: Vec<i32>;
    }
}

describe! {
    /// Partitions that are being moved.
    pub struct ListPartitionReassignmentsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str>;
        /// By topic.
        topics: Vec<OngoingTopicReassignment>;
    }

    /// One topic.
    pub struct OngoingTopicReassignment {
        /// Its name.
        name: Str;
        /// Its partitions that are being moved.
        partitions: Vec<OngoingPartitionReassignment>;
    }

    /// One partition.
    pub struct OngoingPartitionReassignment {
        /// The partition's number.
        partition_index: i32;
        /// All nodes that hold a replica, or are to.
        replicas: Vec<i32>;
        /// Those of them that are new.
        adding_replicas: Vec<i32>;
        /// Those of them that are to go.
        removing_replicas: Vec<i32>;
    }
}
