//! Produce (0): append record batches to partitions.
//!
//! Versions: 3 first with batches of format v2; 5 log start offset; 7 allows zstd; 8 errors by
//! record; 9 flexible; 10 leader hints (KIP-951); 11 and 12 transactions (KIP-890: from 12 on the
//! partition joins the transaction by being written to); 13 topic ids instead of names.

use super::{LeaderIdAndEpoch, NodeEndpoint};
use crate::codec::{Str, describe, since, until};
use crate::error::ErrorCode;
use bytes::Bytes;
use uuid::Uuid;

describe! {
    /// Batches to append, by topic and partition.
    pub struct ProduceRequest {
        /// The transaction's id if the batches belong to one.
        transactional_id: Option<Str>;
        /// When to answer: 0 never, 1 once the leader has the batches, -1 once all in sync have.
        acks: i16;
        /// How long the broker may wait for the replicas, in ms.
        timeout_ms: i32;
        /// What to append.
        topic_data: Vec<TopicProduceData>;
    }

    /// Batches for one topic.
    pub struct TopicProduceData {
        /// The topic's name.
        name: Str [until(12).ignorable()];
        /// The topic's id.
        topic_id: Uuid [since(13).ignorable()];
        /// Its partitions.
        partition_data: Vec<PartitionProduceData>;
    }

    /// Batches for one partition.
    pub struct PartitionProduceData {
        /// The partition's number.
        index: i32;
        /// One record batch of format v2 in practice; the wire would allow several, or null.
        records: Option<Bytes>;
    }
}

describe! {
    /// What became of the batches. Not sent at all for `acks = 0`.
    pub struct ProduceResponse {
        /// By topic, in the order of the request.
        responses: Vec<TopicProduceResponse>;
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
    } tagged {
        /// Addresses of the leaders that `current_leader` names.
        0 => node_endpoints: Vec<NodeEndpoint> [since(10)];
    }

    /// What became of one topic's batches.
    pub struct TopicProduceResponse {
        /// The topic's name.
        name: Str [until(12).ignorable()];
        /// The topic's id.
        topic_id: Uuid [since(13).ignorable()];
        /// By partition.
        partition_responses: Vec<PartitionProduceResponse>;
    }

    /// What became of one partition's batches.
    pub struct PartitionProduceResponse {
        /// The partition's number.
        index: i32;
        /// Error code; 0 if the batches are appended.
        error_code: ErrorCode;
        /// Offset of the first record; -1 with an error.
        base_offset: i64;
        /// The broker's append time if the topic uses it, else -1. Unix time in ms.
        log_append_time_ms: i64 [since(2).ignorable()] = -1;
        /// First offset that the log still has; -1 if unknown.
        log_start_offset: i64 [since(5).ignorable()] = -1;
        /// Records that made the broker refuse the batch.
        record_errors: Vec<BatchIndexAndErrorMessage> [since(8).ignorable()];
        /// Why the batch was refused, for people.
        error_message: Option<Str> [since(8).ignorable()];
    } tagged {
        /// The leader, if it is not the node that was asked.
        0 => current_leader: LeaderIdAndEpoch [since(10)];
    }

    /// One record that was refused.
    pub struct BatchIndexAndErrorMessage {
        /// The record's position in its batch.
        batch_index: i32 [since(8)];
        /// Why, for people.
        batch_index_error_message: Option<Str> [since(8)];
    }
}
