//! Building record batches: coordinators, compaction, the command line, the load generator, tests.

use bytes::Bytes;

use super::header::{
    Attributes, Batch, BatchView, HEADER_BYTES, MAGIC_V2, NO_PARTITION_LEADER_EPOCH,
    NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType, at, put, seal,
};
use super::record::{RecordRef, put_record};
use crate::compression::{Compression, compress};

/// A header of a record to be written: key and value.
pub type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// Collects records and gives one batch. Set what the header says in any order, push records,
/// then [`build`](BatchBuilder::build).
///
/// The first timestamp pushed becomes the base timestamp unless one was set. The batch may be
/// empty if [`last_offset_delta`](BatchBuilder::last_offset_delta) was set, as compaction needs it.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the plain records.
    buffer: Vec<u8>,
    compression: Compression,
    attributes: Attributes,
    base_offset: i64,
    partition_leader_epoch: i32,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    max_timestamp_if_empty: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    record_count: i32,
    last_pushed_delta: i32,
    last_offset_delta: Option<i32>,
    log_append_time: Option<i64>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// An uncompressed batch at offset 0, of nobody's producer id.
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            buffer: vec![0; HEADER_BYTES],
            compression: Compression::NONE,
            attributes: Attributes::default(),
            base_offset: 0,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            base_timestamp: None,
            max_timestamp: NO_TIMESTAMP,
            max_timestamp_if_empty: NO_TIMESTAMP,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            record_count: 0,
            last_pushed_delta: -1,
            last_offset_delta: None,
            log_append_time: None,
        }
    }

    /// A batch with the header of `batch` but without its records: for compaction and repacking,
    /// which keep offsets, producer state and the range of offsets. LogAppendTime, a delete horizon
    /// and the base timestamp are taken over, the codec is not. If nothing is pushed the maximum
    /// timestamp stays too: time-based retention still goes by it.
    pub fn like(batch: BatchView<'_>) -> BatchBuilder {
        let attributes = batch.attributes();
        let appended = attributes.timestamp_type() == TimestampType::LogAppendTime;
        BatchBuilder {
            attributes,
            base_offset: batch.base_offset(),
            partition_leader_epoch: batch.partition_leader_epoch(),
            base_timestamp: Some(batch.base_timestamp()),
            max_timestamp_if_empty: batch.max_timestamp(),
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
            last_offset_delta: Some(batch.last_offset_delta()),
            log_append_time: appended.then(|| batch.max_timestamp()),
            ..BatchBuilder::new()
        }
    }

    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    pub fn base_offset(mut self, offset: i64) -> Self {
        self.base_offset = offset;
        self
    }

    pub fn partition_leader_epoch(mut self, epoch: i32) -> Self {
        self.partition_leader_epoch = epoch;
        self
    }

    /// Idempotent producer: id, epoch and the sequence number of the first record.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    pub fn transactional(mut self, on: bool) -> Self {
        self.attributes = self.attributes.with_transactional(on);
        self
    }

    pub fn control(mut self, on: bool) -> Self {
        self.attributes = self.attributes.with_control(on);
        self
    }

    /// All records have this timestamp, whatever they are pushed with.
    pub fn log_append_time(mut self, timestamp_ms: i64) -> Self {
        self.attributes = self
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        self.log_append_time = Some(timestamp_ms);
        self
    }

    /// Marks tombstones and markers of the batch as removable from then on (KIP-534).
    ///
    /// # Panics
    /// If records were pushed before: their timestamps are relative to another base.
    pub fn delete_horizon(mut self, timestamp_ms: i64) -> Self {
        assert_eq!(
            self.record_count, 0,
            "the delete horizon comes before the records"
        );
        self.attributes = self.attributes.with_delete_horizon(true);
        self.base_timestamp = Some(timestamp_ms);
        self
    }

    /// Fixes the range of offsets, which else ends with the last record pushed.
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.last_offset_delta = Some(delta);
        self
    }

    /// Appends a record at the next offset.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) {
        let delta = self.last_pushed_delta + 1;
        self.put(timestamp_ms, delta, key, value, headers.iter().copied());
    }

    /// Appends a record that was read from another batch, at the offset delta given; deltas must
    /// ascend but may leave gaps.
    pub fn push_at(&mut self, offset_delta: i32, timestamp_ms: i64, record: &RecordRef<'_>) {
        self.put(
            timestamp_ms,
            offset_delta,
            record.key,
            record.value,
            record.headers.into_iter(),
        );
    }

    fn put<'h, H>(
        &mut self,
        timestamp_ms: i64,
        offset_delta: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) where
        H: ExactSizeIterator<Item = HeaderRef<'h>> + Clone,
    {
        let last = self.last_pushed_delta;
        assert!(
            offset_delta > last,
            "offset delta {offset_delta} does not follow {last}"
        );
        let base = *self.base_timestamp.get_or_insert(timestamp_ms);
        let timestamp_delta = timestamp_ms.wrapping_sub(base);
        put_record(
            &mut self.buffer,
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers,
        );
        self.last_pushed_delta = offset_delta;
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        self.record_count += 1;
    }

    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Size of the batch if it were built uncompressed.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// The batch, sealed with length and CRC.
    ///
    /// # Panics
    /// If there are neither records nor a range of offsets: such a batch has no place in a log.
    pub fn build(self) -> Batch {
        let last_offset_delta = self.last_offset_delta.unwrap_or(self.last_pushed_delta);
        let last = self.last_pushed_delta;
        assert!(
            last_offset_delta >= last.max(0),
            "a range of offsets up to delta {last_offset_delta} with records up to {last}"
        );
        let codec = self.compression.codec();
        let attributes = self.attributes.with_codec(codec);
        let mut header = [0; HEADER_BYTES];
        put(&mut header, at::BASE_OFFSET, self.base_offset.to_be_bytes());
        put(
            &mut header,
            at::PARTITION_LEADER_EPOCH,
            self.partition_leader_epoch.to_be_bytes(),
        );
        put(&mut header, at::MAGIC, MAGIC_V2.to_be_bytes());
        put(&mut header, at::ATTRIBUTES, attributes.0.to_be_bytes());
        put(
            &mut header,
            at::LAST_OFFSET_DELTA,
            last_offset_delta.to_be_bytes(),
        );
        let base_timestamp = self.base_timestamp.unwrap_or(NO_TIMESTAMP);
        put(
            &mut header,
            at::BASE_TIMESTAMP,
            base_timestamp.to_be_bytes(),
        );
        let max_timestamp = self.log_append_time.unwrap_or(match self.record_count {
            0 => self.max_timestamp_if_empty,
            _ => self.max_timestamp,
        });
        put(&mut header, at::MAX_TIMESTAMP, max_timestamp.to_be_bytes());
        put(&mut header, at::PRODUCER_ID, self.producer_id.to_be_bytes());
        put(
            &mut header,
            at::PRODUCER_EPOCH,
            self.producer_epoch.to_be_bytes(),
        );
        put(
            &mut header,
            at::BASE_SEQUENCE,
            self.base_sequence.to_be_bytes(),
        );
        put(
            &mut header,
            at::RECORD_COUNT,
            self.record_count.to_be_bytes(),
        );
        let bytes = with_body(&header, self.compression, self.buffer);
        Batch::new(bytes).expect("a batch just built has the form of one")
    }
}

/// Puts `header` before the records in `buffer` (whose first bytes are room for it), compresses
/// them if asked to, and seals the batch.
pub(super) fn with_body(
    header: &[u8; HEADER_BYTES],
    compression: Compression,
    mut buffer: Vec<u8>,
) -> Bytes {
    if compression != Compression::NONE {
        let mut compressed = vec![0; HEADER_BYTES];
        compress(compression, &buffer[HEADER_BYTES..], &mut compressed);
        // The codec's worst case was reserved; what a log or a tail keeps should not hold it.
        compressed.shrink_to_fit();
        buffer = compressed;
    }
    buffer[..HEADER_BYTES].copy_from_slice(header);
    seal(&mut buffer);
    Bytes::from(buffer)
}
