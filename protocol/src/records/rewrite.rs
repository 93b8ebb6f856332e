//! Batches made from batches: other timestamps, another codec, offset deltas put right.

use std::borrow::Cow;

use super::build::{BatchBuilder, with_body};
use super::header::{Attributes, Batch, BatchView, HEADER_BYTES, TimestampType, at, put, seal};
use super::iterate::{ReadError, body};
use super::record::{FramingError, RecordRefs};
use crate::compression::{Budget, Compression};

/// Timestamp type and maximum timestamp that a batch is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    timestamp_type: TimestampType,
    pub(super) max_timestamp: i64,
}

impl Stamp {
    pub(super) const fn create_time(max_timestamp: i64) -> Stamp {
        Stamp {
            timestamp_type: TimestampType::CreateTime,
            max_timestamp,
        }
    }

    pub(super) const fn log_append_time(now_ms: i64) -> Stamp {
        Stamp {
            timestamp_type: TimestampType::LogAppendTime,
            max_timestamp: now_ms,
        }
    }

    fn of(batch: BatchView<'_>) -> Stamp {
        Stamp {
            timestamp_type: batch.attributes().timestamp_type(),
            max_timestamp: batch.max_timestamp(),
        }
    }

    fn put(self, header: &mut [u8], attributes: Attributes) {
        let attributes = attributes.with_timestamp_type(self.timestamp_type);
        put(header, at::ATTRIBUTES, attributes.0.to_be_bytes());
        put(header, at::MAX_TIMESTAMP, self.max_timestamp.to_be_bytes());
    }
}

/// A copy of the batch with the stamp and a new CRC; `None` if it has the stamp already.
pub(super) fn restamp(batch: BatchView<'_>, stamp: Stamp) -> Option<Batch> {
    if Stamp::of(batch) == stamp {
        return None;
    }
    let mut copy = batch.bytes().to_vec();
    stamp.put(&mut copy, batch.attributes());
    seal(&mut copy);
    Some(Batch::new(copy.into()).expect("a copy of a batch is a batch"))
}

/// The batch with its plain `body` under another codec. Deltas, offsets and producer state stay.
pub(super) fn repack(
    batch: BatchView<'_>,
    body: &[u8],
    stamp: Stamp,
    compression: Compression,
) -> Batch {
    let mut header: [u8; HEADER_BYTES] = batch.bytes()[..HEADER_BYTES]
        .try_into()
        .expect("a batch is at least a header");
    stamp.put(
        &mut header,
        batch.attributes().with_codec(compression.codec()),
    );
    let mut buffer = Vec::with_capacity(HEADER_BYTES + body.len());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(body);
    let bytes = with_body(&header, compression, buffer);
    Batch::new(bytes).expect("a repacked batch is a batch")
}

/// The batch with offset deltas 0, 1, 2 … whatever its producer wrote.
pub(super) fn renumber(
    batch: BatchView<'_>,
    body: &[u8],
    stamp: Stamp,
    compression: Compression,
) -> Result<Batch, FramingError> {
    let mut builder = BatchBuilder::like(batch).compression(compression);
    for (delta, record) in (0..).zip(RecordRefs::new(body, batch.record_count())?) {
        let record = record?;
        let timestamp = batch.base_timestamp().wrapping_add(record.timestamp_delta);
        builder.push_at(delta, timestamp, &record);
    }
    let batch = builder.build();
    Ok(restamp(batch.view(), stamp).unwrap_or(batch))
}

/// The batch under another codec, for `compression.type` other than `producer`. Everything but
/// codec, length and CRC stays, the base offset too.
pub fn recompress(
    batch: &Batch,
    compression: Compression,
    budget: &mut Budget,
) -> Result<Batch, ReadError> {
    let view = batch.view();
    let body: Cow<'_, [u8]> = body(view, budget)?;
    Ok(repack(view, &body, Stamp::of(view), compression))
}
