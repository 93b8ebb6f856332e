//! Metadata (3): brokers, topics, and who leads what.
//!
//! Versions: 1 rack, controller, null for all topics; 2 cluster id; 4 auto-creation; 5 offline
//! replicas; 7 leader epoch; 8 authorised operations; 9 flexible; 10 topic ids in answers;
//! 12 lookup by topic id; 13 a top-level error, to tell a client to bootstrap again (KIP-1102).

use crate::codec::{Str, describe, since};
use crate::error::ErrorCode;
use uuid::Uuid;

describe! {
    /// Which topics the client wants to know about.
    pub struct MetadataRequest {
        /// Null for all topics; empty for none. In version 0 empty means all.
        topics: Option<Vec<MetadataRequestTopic>> [since(0).null_since(1)] = Some(Vec::new());
        /// Whether a topic that does not exist may be created.
        allow_auto_topic_creation: bool [since(4)] = true;
        /// Whether to say what the client may do with the cluster.
        include_cluster_authorized_operations: bool [since(8).until(10)];
        /// Whether to say what the client may do with each topic.
        include_topic_authorized_operations: bool [since(8)];
    }

    /// One topic, by id or by name.
    pub struct MetadataRequestTopic {
        /// The topic's id; all zeros to look it up by name.
        topic_id: Uuid [since(10).ignorable()];
        /// The topic's name; null to look it up by id.
        name: Option<Str> [since(0).null_since(10)] = Some(Str::new());
    }
}

describe! {
    /// Brokers and topics.
    pub struct MetadataResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(3).ignorable()];
        /// All brokers that live.
        brokers: Vec<MetadataResponseBroker>;
        /// The cluster's id.
        cluster_id: Option<Str> [since(2).ignorable()];
        /// The broker to send cluster changes to; -1 if unknown.
        controller_id: i32 [since(1).ignorable()] = -1;
        /// The topics.
        topics: Vec<MetadataResponseTopic>;
        /// Bit set of the operations that the client may do on the cluster; the smallest number if
        /// it did not ask.
        cluster_authorized_operations: i32 [since(8).until(10)] = i32::MIN;
        /// Error of the whole request.
        error_code: ErrorCode [since(13).ignorable()];
    }

    /// One broker.
    pub struct MetadataResponseBroker {
        /// Its node id.
        node_id: i32;
        /// Its advertised host name or address.
        host: Str;
        /// Its advertised port.
        port: i32;
        /// The rack it stands in, if configured.
        rack: Option<Str> [since(1).ignorable()];
    }

    /// One topic.
    pub struct MetadataResponseTopic {
        /// Error code, or 0.
        error_code: ErrorCode;
        /// Its name; null if it was looked up by an id that is unknown.
        name: Option<Str> [since(0).null_since(12)] = Some(Str::new());
        /// Its id.
        topic_id: Uuid [since(10).ignorable()];
        /// Whether it belongs to the broker itself.
        is_internal: bool [since(1).ignorable()];
        /// Its partitions.
        partitions: Vec<MetadataResponsePartition>;
        /// Bit set of the operations that the client may do on the topic; the smallest number if it
        /// did not ask.
        topic_authorized_operations: i32 [since(8)] = i32::MIN;
    }

    /// One partition.
    pub struct MetadataResponsePartition {
        /// Error code, or 0.
        error_code: ErrorCode;
        /// The partition's number.
        partition_index: i32;
        /// Node id of the leader; -1 if there is none.
        leader_id: i32;
        /// The leader's epoch.
        leader_epoch: i32 [since(7).ignorable()] = -1;
        /// Nodes that hold a replica.
        replica_nodes: Vec<i32>;
        /// Those of them that are in sync.
        isr_nodes: Vec<i32>;
        /// Those of them that are down.
        offline_replicas: Vec<i32> [since(5).ignorable()];
    }
}
