//! InitProducerId (22): identity and epoch of an idempotent or transactional producer.
//!
//! Versions: 2 flexible; 3 a producer may ask for a new epoch of its old id (KIP-360); 4 and 5 new
//! error codes (KIP-890). Version 6, two-phase commit, is unstable in Kafka 4.4 and absent here.

use crate::codec::{Str, describe, since};
use crate::error::ErrorCode;

describe! {
    /// Who wants to produce.
    pub struct InitProducerIdRequest {
        /// The transaction's id; null for a producer that is only idempotent.
        transactional_id: Option<Str>;
        /// After which time an open transaction is aborted, in ms.
        transaction_timeout_ms: i32;
        /// The id that the producer already has; -1 for none.
        producer_id: i64 [since(3)] = -1;
        /// The epoch that the producer already has; -1 for none.
        producer_epoch: i16 [since(3)] = -1;
    }
}

describe! {
    /// The identity.
    pub struct InitProducerIdResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(0).ignorable()];
        /// Error code, or 0.
        error_code: ErrorCode;
        /// The id; -1 with an error.
        producer_id: i64 = -1;
        /// The epoch.
        producer_epoch: i16;
    }
}
