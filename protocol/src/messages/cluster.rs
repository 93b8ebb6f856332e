//! DescribeLogDirs (35), DescribeCluster (60), DescribeTopicPartitions (75): what admin tools ask
//! about the cluster.
//!
//! Versions: DescribeLogDirs 2 flexible, 3 top-level error, 4 sizes of the volume (KIP-827),
//! 5 cordoned directories (KIP-1066). DescribeCluster 1 endpoint type (KIP-919), 2 fenced brokers
//! (KIP-1073). DescribeTopicPartitions (KIP-966) pages through what Metadata tells at once.

use crate::codec::{Nullable, Str, describe, since};
use crate::error::ErrorCode;
use uuid::Uuid;

describe! {
    /// Which partitions' sizes are wanted.
    pub struct DescribeLogDirsRequest {
        /// The topics; null for all.
        topics: Option<Vec<DescribableLogDirTopic>> = Some(Vec::new());
    }

    /// Partitions of one topic.
    pub struct DescribableLogDirTopic {
        /// The topic's name.
        topic: Str;
        /// Numbers of the partitions.
        partitions: Vec<i32>;
    }
}

describe! {
    /// The broker's log directories.
    pub struct DescribeLogDirsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// Error code, or 0.
        error_code: ErrorCode [since(3).ignorable()];
        /// By directory.
        results: Vec<DescribeLogDirsResult>;
    }

    /// One directory.
    pub struct DescribeLogDirsResult {
        /// Error code, or 0.
        error_code: ErrorCode;
        /// Its absolute path.
        log_dir: Str;
        /// What it holds.
        topics: Vec<DescribeLogDirsTopic>;
        /// Size of its volume in bytes; -1 if unknown.
        total_bytes: i64 [since(4).ignorable()] = -1;
        /// Free bytes of its volume; -1 if unknown.
        usable_bytes: i64 [since(4).ignorable()] = -1;
        /// Whether it takes no new partitions.
        is_cordoned: bool [since(5).ignorable()];
    }

    /// Partitions of one topic.
    pub struct DescribeLogDirsTopic {
        /// The topic's name.
        name: Str;
        /// Its partitions.
        partitions: Vec<DescribeLogDirsPartition>;
    }

    /// One replica.
    pub struct DescribeLogDirsPartition {
        /// The partition's number.
        partition_index: i32;
        /// Bytes of its segments.
        partition_size: i64;
        /// How far it is behind, in offsets.
        offset_lag: i64;
        /// Whether it is about to replace the replica in another directory.
        is_future_key: bool;
    }
}

describe! {
    /// What is wanted beyond the brokers.
    pub struct DescribeClusterRequest {
        /// Whether to say what the client may do with the cluster.
        include_cluster_authorized_operations: bool;
        /// Whose addresses: 1 brokers, 2 controllers.
        endpoint_type: i8 [since(1)] = 1;
        /// Whether to name fenced brokers too.
        include_fenced_brokers: bool [since(2)];
    }
}

describe! {
    /// The cluster and its brokers.
    pub struct DescribeClusterResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str>;
        /// Whose addresses follow: 1 brokers, 2 controllers.
        endpoint_type: i8 [since(1)] = 1;
        /// The cluster's id.
        cluster_id: Str;
        /// The broker to send cluster changes to; -1 if unknown.
        controller_id: i32 = -1;
        /// The brokers.
        brokers: Vec<DescribeClusterBroker>;
        /// Bit set of the operations that the client may do on the cluster; the smallest number if
        /// it did not ask.
        cluster_authorized_operations: i32 = i32::MIN;
    }

    /// One broker.
    pub struct DescribeClusterBroker {
        /// Its node id.
        broker_id: i32;
        /// Its advertised host name or address.
        host: Str;
        /// Its advertised port.
        port: i32;
        /// The rack it stands in, if configured.
        rack: Option<Str>;
        /// Whether it is shut out for now.
        is_fenced: bool [since(2)];
    }
}

describe! {
    /// Which topics' partitions are wanted, and from where on.
    pub struct DescribeTopicPartitionsRequest {
        /// The topics; empty for all.
        topics: Vec<DescribeTopicPartitionsRequestTopic>;
        /// How many partitions the answer may have at most.
        response_partition_limit: i32 = 2000;
        /// Where the page before this one ended; null for the first.
        cursor: Option<TopicPartitionsCursor>;
    }

    /// One topic. (Kafka calls this `TopicRequest`.)
    pub struct DescribeTopicPartitionsRequestTopic {
        /// Its name.
        name: Str;
    }

    /// A place in the list of all partitions. (Kafka calls this `Cursor`.)
    pub struct TopicPartitionsCursor {
        /// The topic of the first partition that is not yet told.
        topic_name: Str;
        /// The number of that partition.
        partition_index: i32;
    }
}

impl Nullable for TopicPartitionsCursor {}

describe! {
    /// One page of partitions.
    pub struct DescribeTopicPartitionsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(0).ignorable()];
        /// The topics.
        topics: Vec<DescribeTopicPartitionsResponseTopic>;
        /// Where the next page begins; null after the last.
        next_cursor: Option<TopicPartitionsCursor>;
    }

    /// One topic.
    pub struct DescribeTopicPartitionsResponseTopic {
        /// Error code, or 0.
        error_code: ErrorCode;
        /// Its name.
        name: Option<Str>;
        /// Its id.
        topic_id: Uuid [since(0).ignorable()];
        /// Whether it belongs to the broker itself.
        is_internal: bool [since(0).ignorable()];
        /// Its partitions, or those of them that fit on the page.
        partitions: Vec<DescribeTopicPartitionsResponsePartition>;
        /// Bit set of the operations that the client may do on the topic.
        topic_authorized_operations: i32 = i32::MIN;
    }

    /// One partition.
    pub struct DescribeTopicPartitionsResponsePartition {
        /// Error code, or 0.
        error_code: ErrorCode;
        /// The partition's number.
        partition_index: i32;
        /// Node id of the leader; -1 if there is none.
        leader_id: i32;
        /// The leader's epoch.
        leader_epoch: i32 [since(0).ignorable()] = -1;
        /// Nodes that hold a replica.
        replica_nodes: Vec<i32>;
        /// Those of them that are in sync.
        isr_nodes: Vec<i32>;
        /// Nodes outside the set in sync that may still lead without loss (KIP-966). Kafka's Java
        /// client falls over null here.
        eligible_leader_replicas: Option<Vec<i32>> = Some(Vec::new());
        /// The last nodes that were in sync. Kafka's Java client falls over null here too.
        last_known_elr: Option<Vec<i32>> = Some(Vec::new());
        /// Replica nodes that are down.
        offline_replicas: Vec<i32> [since(0).ignorable()];
    }
}
