//! What the leader checks before it appends a client's batch.
//!
//! The rules are those of Kafka's log validator for magic 2, in its order, with its codes. Every
//! record is read: timestamps and keys are the client's word until then, and a batch whose
//! framing lies would break consumers and compaction later. An uncompressed batch is read in
//! place without allocating.
//!
//! Stricter than Kafka, since nothing honest is lost: LogAppendTime and delete-horizon bits that a
//! client set, transactional batches without a producer id, producer ids without an epoch.
//! Offset deltas that do not run 0, 1, 2 are put right by rewriting the batch; Kafka does so for
//! compressed batches and stores the wrong deltas of others.
//!
//! Deliberately absent: sequence numbers against the producer's state, and the log's offsets.

use thiserror::Error;

use super::header::{Batch, BatchView, CrcMismatch, Malformed, NO_TIMESTAMP, TimestampType};
use super::iterate::{ReadError, body};
use super::record::{RecordRef, RecordRefs};
use super::rewrite::{Stamp, renumber, repack, restamp};
use crate::compression::{Budget, Codec, Compression};
use crate::error::ErrorCode;

/// How many faulty records a rejection names; a batch can hold millions.
pub const RECORD_FAULTS_MAX: usize = 100;

/// What a topic's configuration demands of a batch.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `max.message.bytes`: the size of the whole batch, compressed.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` contains `compact`.
    pub require_key: bool,
    /// `compression.type` with its level; `None` for `producer`, which leaves the codec alone.
    pub compression: Option<Compression>,
}

impl Default for Rules {
    /// Kafka's defaults of these configs.
    fn default() -> Self {
        Rules {
            max_message_bytes: 1024 * 1024 + 12,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            require_key: false,
            compression: None,
        }
    }
}

/// A batch fit for the log, and what was learnt on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// The client's bytes where possible; offset and leader epoch are still the client's.
    pub batch: Batch,
    pub record_count: i32,
    /// -1 if no record has a timestamp.
    pub max_timestamp: i64,
    /// Offset delta of the first record that has the maximum timestamp.
    pub max_timestamp_offset_delta: i32,
    /// Size of the records once decompressed.
    pub plain_bytes: usize,
    /// Whether the bytes are ours, because of the topic's settings or the client's mistakes.
    pub rewritten: bool,
}

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("the request holds no whole batch for the partition")]
    NoBatch,
    #[error("the request holds more than one batch for the partition")]
    SeveralBatches,
    #[error("zstd is not allowed in Produce version {api_version}")]
    ZstdNotAllowed { api_version: i16 },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the base offset is {base_offset}; a producer has to leave it 0")]
    BaseOffset { base_offset: i64 },
    #[error("the batch has {size} bytes, the topic allows {max}")]
    TooLarge { size: usize, max: usize },
    #[error(transparent)]
    Crc(#[from] CrcMismatch),
    #[error("the batch declares {count} records up to offset delta {last_offset_delta}")]
    Count { count: i32, last_offset_delta: i32 },
    #[error("clients may not write control records")]
    Control,
    #[error("clients may not set a delete horizon")]
    DeleteHorizon,
    #[error("clients may not set the timestamp type LogAppendTime")]
    LogAppendTime,
    #[error("producer {producer_id} sent epoch {epoch} and base sequence {sequence}")]
    Producer {
        producer_id: i64,
        epoch: i16,
        sequence: i32,
    },
    #[error("a transactional batch needs a producer id")]
    NoProducerId,
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    #[error("{} or more records are refused, the first: {}", faults.len(), faults[0])]
    Records { faults: Vec<RecordFault> },
}

/// A record that the topic does not accept; for `record_errors` of the produce response.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("record {batch_index}: {reason}")]
pub struct RecordFault {
    /// Index of the record in the batch.
    pub batch_index: i32,
    pub reason: FaultReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FaultReason {
    #[error("a compacted topic needs a key")]
    NoKey,
    #[error("the timestamp {timestamp} is outside what the topic accepts")]
    Timestamp { timestamp: i64 },
}

impl Invalid {
    /// The code that Kafka answers with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Invalid::ZstdNotAllowed { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            Invalid::Malformed(malformed) => malformed.code(),
            Invalid::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            Invalid::Crc(_) => ErrorCode::CORRUPT_MESSAGE,
            Invalid::LogAppendTime => ErrorCode::INVALID_TIMESTAMP,
            Invalid::Unreadable(error) => error.code(),
            Invalid::Records { faults } => {
                let time =
                    |fault: &RecordFault| matches!(fault.reason, FaultReason::Timestamp { .. });
                if faults.iter().any(time) {
                    ErrorCode::INVALID_TIMESTAMP
                } else {
                    ErrorCode::INVALID_RECORD
                }
            }
            Invalid::NoBatch
            | Invalid::SeveralBatches
            | Invalid::BaseOffset { .. }
            | Invalid::Count { .. }
            | Invalid::Control
            | Invalid::DeleteHorizon
            | Invalid::Producer { .. }
            | Invalid::NoProducerId => ErrorCode::INVALID_RECORD,
        }
    }

    /// The records to name in the response; empty if the batch as a whole is at fault.
    pub fn record_faults(&self) -> &[RecordFault] {
        match self {
            Invalid::Records { faults } => faults,
            _ => &[],
        }
    }
}

/// Checks a client's batch against the topic's rules at wall-clock time `now_wall_ms`, and
/// rewrites it where the rules say so (timestamp type, codec) or its producer erred (maximum
/// timestamp, offset deltas). Decompression is charged to `budget`.
pub fn validate(
    batch: &Batch,
    rules: &Rules,
    now_wall_ms: i64,
    budget: &mut Budget,
) -> Result<Validated, Invalid> {
    let view = batch.view();
    let codec = check_header(view, rules)?;
    let body = body(view, budget)?;
    let facts = check_records(view, &body, rules, now_wall_ms)?;
    let (stamp, max_timestamp_offset_delta) = match rules.timestamp_type {
        TimestampType::CreateTime => (
            Stamp::create_time(facts.max_timestamp),
            facts.max_timestamp_offset_delta,
        ),
        TimestampType::LogAppendTime => (Stamp::log_append_time(now_wall_ms), 0),
    };
    let target = rules.compression.unwrap_or(Compression::of(codec));
    let rewritten = if !facts.deltas_in_order {
        Some(renumber(view, &body, stamp, target).map_err(ReadError::from)?)
    } else if target.codec() != codec {
        Some(repack(view, &body, stamp, target))
    } else {
        restamp(view, stamp)
    };
    if let Some(batch) = &rewritten {
        check_size(batch.view(), rules)?;
    }
    Ok(Validated {
        record_count: view.record_count(),
        max_timestamp: stamp.max_timestamp,
        max_timestamp_offset_delta,
        plain_bytes: body.len(),
        rewritten: rewritten.is_some(),
        batch: rewritten.unwrap_or_else(|| batch.clone()),
    })
}

fn check_header(batch: BatchView<'_>, rules: &Rules) -> Result<Codec, Invalid> {
    if batch.base_offset() != 0 {
        return Err(Invalid::BaseOffset {
            base_offset: batch.base_offset(),
        });
    }
    check_size(batch, rules)?;
    batch.check_crc()?;
    let attributes = batch.attributes();
    let codec = attributes
        .codec()
        .map_err(|id| ReadError::UnknownCodec { id })?;
    let (count, last_offset_delta) = (batch.record_count(), batch.last_offset_delta());
    if count <= 0 || last_offset_delta != count - 1 {
        return Err(Invalid::Count {
            count,
            last_offset_delta,
        });
    }
    if attributes.is_control() {
        return Err(Invalid::Control);
    }
    if attributes.has_delete_horizon() {
        return Err(Invalid::DeleteHorizon);
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(Invalid::LogAppendTime);
    }
    if batch.has_producer_id() {
        let (epoch, sequence) = (batch.producer_epoch(), batch.base_sequence());
        if epoch < 0 || sequence < 0 {
            let producer_id = batch.producer_id();
            return Err(Invalid::Producer {
                producer_id,
                epoch,
                sequence,
            });
        }
    } else if attributes.is_transactional() {
        return Err(Invalid::NoProducerId);
    }
    Ok(codec)
}

fn check_size(batch: BatchView<'_>, rules: &Rules) -> Result<(), Invalid> {
    let (size, max) = (batch.size(), rules.max_message_bytes);
    if size > max {
        Err(Invalid::TooLarge { size, max })
    } else {
        Ok(())
    }
}

/// What reading all records taught.
struct Facts {
    max_timestamp: i64,
    max_timestamp_offset_delta: i32,
    deltas_in_order: bool,
}

fn check_records(
    batch: BatchView<'_>,
    body: &[u8],
    rules: &Rules,
    now_wall_ms: i64,
) -> Result<Facts, Invalid> {
    let mut facts = Facts {
        max_timestamp: NO_TIMESTAMP,
        max_timestamp_offset_delta: 0,
        deltas_in_order: true,
    };
    let mut faults = Vec::new();
    let base_timestamp = batch.base_timestamp();
    let records = RecordRefs::new(body, batch.record_count()).map_err(ReadError::from)?;
    for (batch_index, record) in (0..).zip(records) {
        let record = record.map_err(ReadError::from)?;
        let timestamp = base_timestamp.wrapping_add(record.timestamp_delta);
        match check_record(&record, timestamp, rules, now_wall_ms) {
            Err(reason) if faults.len() < RECORD_FAULTS_MAX => {
                faults.push(RecordFault {
                    batch_index,
                    reason,
                });
            }
            _ => {}
        }
        if timestamp > facts.max_timestamp {
            facts.max_timestamp = timestamp;
            facts.max_timestamp_offset_delta = batch_index;
        }
        facts.deltas_in_order &= record.offset_delta == batch_index;
    }
    if faults.is_empty() {
        Ok(facts)
    } else {
        Err(Invalid::Records { faults })
    }
}

fn check_record(
    record: &RecordRef<'_>,
    timestamp: i64,
    rules: &Rules,
    now_wall_ms: i64,
) -> Result<(), FaultReason> {
    if rules.require_key && record.key.is_none() {
        return Err(FaultReason::NoKey);
    }
    if rules.timestamp_type == TimestampType::CreateTime && timestamp != NO_TIMESTAMP {
        // Wrapping like Kafka's arithmetic: a timestamp near i64::MIN then lies in the future.
        let age_ms = now_wall_ms.wrapping_sub(timestamp);
        let too_old = age_ms > rules.timestamp_before_max_ms;
        if too_old || age_ms.wrapping_neg() > rules.timestamp_after_max_ms {
            return Err(FaultReason::Timestamp { timestamp });
        }
    }
    Ok(())
}
