//! Record batches of magic 2: views over their bytes, checks at produce, reading, building.
//!
//! A batch travels through the broker as the bytes that its producer sent; [`Batch`] shares them
//! and [`BatchView`] reads the header in place. Base offset and leader epoch lie outside the CRC
//! and are patched at append ([`patch_header`]). The records inside are read only where something
//! depends on them: at produce ([`validate`]), by coordinators ([`records`]), by compaction
//! ([`body`] and [`RecordRefs`]) and for time look-ups.
//!
//! Law: no length, count or size from a batch is believed before it is compared with the bytes
//! that are there, and decompression always runs under a [`Budget`](crate::compression::Budget).
//!
//! Deliberately absent: magic 0 and 1 (Kafka 4 accepts neither), logs, and who may write what.

mod build;
mod control;
mod header;
mod iterate;
mod record;
mod rewrite;
mod split;
mod timestamps;
mod validate;
mod varint;

pub use build::{BatchBuilder, HeaderRef};
pub use control::{ControlType, EndTxnMarker};
pub use header::{
    Attributes, Batch, BatchView, CrcMismatch, HEADER_BYTES, LOG_OVERHEAD_BYTES, MAGIC_V2,
    Malformed, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE,
    NO_TIMESTAMP, TimestampType, advance_sequence, at, patch_header,
};
pub use iterate::{ReadError, Records, body, records};
pub use record::{
    Bases, FramingError, HeadersIter, HeadersRef, Record, RecordHeader, RecordRef, RecordRefs,
};
pub use rewrite::recompress;
pub use split::{Batches, produced_batch, split};
pub use timestamps::{TimestampedOffset, find_by_timestamp, max_timestamp_offset};
pub use validate::{
    FaultReason, Invalid, RECORD_FAULTS_MAX, RecordFault, Rules, Validated, validate,
};
