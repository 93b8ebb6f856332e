//! The header of a record batch of magic 2, read in place.
//!
//! Everything in it is big-endian. The CRC-32C covers the bytes from the attributes to the end of
//! the batch; base offset, length, leader epoch and magic lie before it, so that a broker can
//! assign offsets without touching the rest.

use bytes::Bytes;
use thiserror::Error;

use crate::compression::Codec;
use crate::error::ErrorCode;

/// Offsets of the header's fields from the start of the batch, in bytes.
pub mod at {
    pub const BASE_OFFSET: usize = 0;
    pub const BATCH_LENGTH: usize = BASE_OFFSET + 8;
    pub const PARTITION_LEADER_EPOCH: usize = BATCH_LENGTH + 4;
    pub const MAGIC: usize = PARTITION_LEADER_EPOCH + 4;
    pub const CRC: usize = MAGIC + 1;
    pub const ATTRIBUTES: usize = CRC + 4;
    pub const LAST_OFFSET_DELTA: usize = ATTRIBUTES + 2;
    pub const BASE_TIMESTAMP: usize = LAST_OFFSET_DELTA + 4;
    pub const MAX_TIMESTAMP: usize = BASE_TIMESTAMP + 8;
    pub const PRODUCER_ID: usize = MAX_TIMESTAMP + 8;
    pub const PRODUCER_EPOCH: usize = PRODUCER_ID + 8;
    pub const BASE_SEQUENCE: usize = PRODUCER_EPOCH + 2;
    pub const RECORD_COUNT: usize = BASE_SEQUENCE + 4;
    pub const RECORDS: usize = RECORD_COUNT + 4;
}

/// Size of the whole header; the smallest batch (all records compacted away) is just this.
pub const HEADER_BYTES: usize = at::RECORDS;
/// Base offset and length: what the field `batch_length` does not count.
pub const LOG_OVERHEAD_BYTES: usize = at::PARTITION_LEADER_EPOCH;
/// The magic of the only record format that Kafka 4 writes.
pub const MAGIC_V2: i8 = 2;
/// The smallest `batch_length` of any magic: a record of magic 0 without key and value.
const BATCH_LENGTH_MIN: i32 = 14;

pub const NO_PRODUCER_ID: i64 = -1;
pub const NO_PRODUCER_EPOCH: i16 = -1;
pub const NO_SEQUENCE: i32 = -1;
pub const NO_TIMESTAMP: i64 = -1;
pub const NO_PARTITION_LEADER_EPOCH: i32 = -1;

const _: () = assert!(HEADER_BYTES == 61 && LOG_OVERHEAD_BYTES == 12);
const _: () = assert!(at::MAGIC == 16 && at::CRC == 17 && at::ATTRIBUTES == 21);
const _: () = assert!(at::PRODUCER_ID == 43 && at::RECORD_COUNT == 57);

/// Whose clock the timestamps of a batch come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's; each record has its own.
    CreateTime,
    /// The broker's; every record has the batch's maximum timestamp.
    LogAppendTime,
}

/// The attributes of a batch. Kafka reads the low byte only; the high byte is carried along.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC_MASK: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec, or the id that is none (5 to 7).
    pub const fn codec(self) -> Result<Codec, u8> {
        let id = (self.0 & Self::CODEC_MASK) as u8;
        match Codec::from_id(id) {
            Some(codec) => Ok(codec),
            None => Err(id),
        }
    }

    pub const fn timestamp_type(self) -> TimestampType {
        if self.has(Self::LOG_APPEND_TIME) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    pub const fn is_transactional(self) -> bool {
        self.has(Self::TRANSACTIONAL)
    }

    pub const fn is_control(self) -> bool {
        self.has(Self::CONTROL)
    }

    /// Compaction has set a time after which tombstones and markers of the batch may go (KIP-534);
    /// it stands in the base timestamp.
    pub const fn has_delete_horizon(self) -> bool {
        self.has(Self::DELETE_HORIZON)
    }

    pub const fn with_codec(self, codec: Codec) -> Attributes {
        Attributes(self.0 & !Self::CODEC_MASK | codec.id() as i16)
    }

    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        let on = matches!(timestamp_type, TimestampType::LogAppendTime);
        self.with(Self::LOG_APPEND_TIME, on)
    }

    pub const fn with_transactional(self, on: bool) -> Attributes {
        self.with(Self::TRANSACTIONAL, on)
    }

    pub const fn with_control(self, on: bool) -> Attributes {
        self.with(Self::CONTROL, on)
    }

    pub const fn with_delete_horizon(self, on: bool) -> Attributes {
        self.with(Self::DELETE_HORIZON, on)
    }

    const fn has(self, flag: i16) -> bool {
        self.0 & flag != 0
    }

    const fn with(self, flag: i16, on: bool) -> Attributes {
        Attributes(if on { self.0 | flag } else { self.0 & !flag })
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attributes({:#06x})", self.0)
    }
}

/// Why bytes are not one whole batch of magic 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error("the batch breaks off: {have} bytes are here, {need} are needed")]
    Partial { have: usize, need: usize },
    #[error("the length field says {length}, which no batch can have")]
    Length { length: i32 },
    #[error("the batch is {size} bytes long but stands in {have} bytes")]
    Trailing { size: usize, have: usize },
    #[error("the magic byte is {magic}, which no version of Kafka has")]
    UnknownMagic { magic: i8 },
    #[error("the batch has magic {magic}; only magic 2 is accepted")]
    OldMagic { magic: i8 },
}

impl Malformed {
    /// The code that Kafka answers a produce request with.
    pub const fn code(self) -> ErrorCode {
        match self {
            Malformed::OldMagic { .. } => ErrorCode::INVALID_RECORD,
            _ => ErrorCode::CORRUPT_MESSAGE,
        }
    }
}

/// What stands at the head of a sequence of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A whole batch of magic 2, of this many bytes.
    Whole(usize),
    /// The start of a batch; so many bytes are needed to go on (the batch, or its first fields).
    Partial(usize),
}

/// Measures the batch at the head of `bytes` without reading its records.
pub(super) fn measure(bytes: &[u8]) -> Result<Head, Malformed> {
    if bytes.len() < LOG_OVERHEAD_BYTES {
        return Ok(Head::Partial(LOG_OVERHEAD_BYTES));
    }
    let length = i32::from_be_bytes(field(bytes, at::BATCH_LENGTH));
    if length < BATCH_LENGTH_MIN {
        return Err(Malformed::Length { length });
    }
    if bytes.len() <= at::MAGIC {
        return Ok(Head::Partial(at::MAGIC + 1));
    }
    let size = LOG_OVERHEAD_BYTES + length as usize;
    match bytes[at::MAGIC] as i8 {
        MAGIC_V2 if size < HEADER_BYTES => Err(Malformed::Length { length }),
        MAGIC_V2 if size > bytes.len() => Ok(Head::Partial(size)),
        MAGIC_V2 => Ok(Head::Whole(size)),
        magic @ (0 | 1) => Err(Malformed::OldMagic { magic }),
        magic => Err(Malformed::UnknownMagic { magic }),
    }
}

/// One batch of magic 2, borrowed. Its length field agrees with the bytes; nothing else has been
/// checked: not the CRC (see [`BatchView::check_crc`]), not the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchView<'a> {
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// A view of `bytes`, which must be one batch and nothing more.
    pub fn new(bytes: &'a [u8]) -> Result<BatchView<'a>, Malformed> {
        match measure(bytes)? {
            Head::Whole(size) if size == bytes.len() => Ok(BatchView { bytes }),
            Head::Whole(size) => Err(Malformed::Trailing {
                size,
                have: bytes.len(),
            }),
            Head::Partial(need) => Err(Malformed::Partial {
                have: bytes.len(),
                need,
            }),
        }
    }

    /// A view of the batch at the head of `bytes`; more may follow it.
    pub fn first(bytes: &'a [u8]) -> Result<BatchView<'a>, Malformed> {
        match measure(bytes)? {
            Head::Whole(size) => Ok(BatchView {
                bytes: &bytes[..size],
            }),
            Head::Partial(need) => Err(Malformed::Partial {
                have: bytes.len(),
                need,
            }),
        }
    }

    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Size of the whole batch in bytes, header and log overhead included.
    pub const fn size(self) -> usize {
        self.bytes.len()
    }

    /// What stands behind the header: the records, compressed if the attributes say so.
    pub fn body(self) -> &'a [u8] {
        &self.bytes[at::RECORDS..]
    }

    pub fn base_offset(self) -> i64 {
        i64::from_be_bytes(self.get(at::BASE_OFFSET))
    }

    /// The length field: the size without base offset and length itself.
    pub fn batch_length(self) -> i32 {
        i32::from_be_bytes(self.get(at::BATCH_LENGTH))
    }

    pub fn partition_leader_epoch(self) -> i32 {
        i32::from_be_bytes(self.get(at::PARTITION_LEADER_EPOCH))
    }

    pub fn magic(self) -> i8 {
        i8::from_be_bytes(self.get(at::MAGIC))
    }

    /// The CRC-32C as the batch states it.
    pub fn crc(self) -> u32 {
        u32::from_be_bytes(self.get(at::CRC))
    }

    pub fn attributes(self) -> Attributes {
        Attributes(i16::from_be_bytes(self.get(at::ATTRIBUTES)))
    }

    pub fn last_offset_delta(self) -> i32 {
        i32::from_be_bytes(self.get(at::LAST_OFFSET_DELTA))
    }

    /// What the records' timestamps are relative to; the delete horizon where there is one.
    pub fn base_timestamp(self) -> i64 {
        i64::from_be_bytes(self.get(at::BASE_TIMESTAMP))
    }

    pub fn max_timestamp(self) -> i64 {
        i64::from_be_bytes(self.get(at::MAX_TIMESTAMP))
    }

    pub fn producer_id(self) -> i64 {
        i64::from_be_bytes(self.get(at::PRODUCER_ID))
    }

    pub fn producer_epoch(self) -> i16 {
        i16::from_be_bytes(self.get(at::PRODUCER_EPOCH))
    }

    pub fn base_sequence(self) -> i32 {
        i32::from_be_bytes(self.get(at::BASE_SEQUENCE))
    }

    /// How many records the header declares; may be fewer than offsets after compaction.
    pub fn record_count(self) -> i32 {
        i32::from_be_bytes(self.get(at::RECORD_COUNT))
    }

    pub fn last_offset(self) -> i64 {
        self.base_offset()
            .wrapping_add(i64::from(self.last_offset_delta()))
    }

    /// The offset that the batch after this one begins with.
    pub fn next_offset(self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    pub fn has_producer_id(self) -> bool {
        self.producer_id() > NO_PRODUCER_ID
    }

    /// The sequence number of the last offset; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(self) -> i32 {
        match self.base_sequence() {
            NO_SEQUENCE => NO_SEQUENCE,
            base => advance_sequence(base, self.last_offset_delta()),
        }
    }

    pub fn delete_horizon_ms(self) -> Option<i64> {
        self.attributes()
            .has_delete_horizon()
            .then(|| self.base_timestamp())
    }

    /// The CRC-32C of the bytes as they are.
    pub fn compute_crc(self) -> u32 {
        crc32c::crc32c(&self.bytes[at::ATTRIBUTES..])
    }

    /// Whether the batch is what its producer summed up.
    pub fn check_crc(self) -> Result<(), CrcMismatch> {
        let (stated, computed) = (self.crc(), self.compute_crc());
        if stated == computed {
            Ok(())
        } else {
            Err(CrcMismatch { stated, computed })
        }
    }

    fn get<const N: usize>(self, offset: usize) -> [u8; N] {
        field(self.bytes, offset)
    }
}

/// The stated CRC of a batch is not the CRC of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the batch states CRC {stated:#010x}, its bytes have {computed:#010x}")]
pub struct CrcMismatch {
    pub stated: u32,
    pub computed: u32,
}

/// One batch of magic 2 that shares its bytes with the frame, file block or tail it was cut from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch(Bytes);

impl Batch {
    /// Takes `bytes`, which must be one batch and nothing more.
    pub fn new(bytes: Bytes) -> Result<Batch, Malformed> {
        BatchView::new(&bytes)?;
        Ok(Batch(bytes))
    }

    pub fn view(&self) -> BatchView<'_> {
        BatchView { bytes: &self.0 }
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// Sets base offset and leader epoch of the batch at the head of `batch`. Both lie outside the
/// CRC, which stays right.
///
/// # Panics
/// If `batch` is shorter than a header: it was a batch a moment ago.
pub fn patch_header(batch: &mut [u8], base_offset: i64, partition_leader_epoch: i32) {
    let have = batch.len();
    assert!(
        have >= HEADER_BYTES,
        "{have} bytes are too few for a batch header"
    );
    put(batch, at::BASE_OFFSET, base_offset.to_be_bytes());
    put(
        batch,
        at::PARTITION_LEADER_EPOCH,
        partition_leader_epoch.to_be_bytes(),
    );
}

/// The sequence number `steps` after `sequence`; after `i32::MAX` comes 0.
pub fn advance_sequence(sequence: i32, steps: i32) -> i32 {
    if sequence > i32::MAX.wrapping_sub(steps) {
        steps
            .wrapping_sub(i32::MAX.wrapping_sub(sequence))
            .wrapping_sub(1)
    } else {
        sequence.wrapping_add(steps)
    }
}

pub(super) fn put<const N: usize>(batch: &mut [u8], offset: usize, value: [u8; N]) {
    batch[offset..offset + N].copy_from_slice(&value);
}

/// Recomputes the length and the CRC of a batch whose other fields are final.
pub(super) fn seal(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - LOG_OVERHEAD_BYTES)
        .unwrap_or_else(|_| panic!("a batch of {} bytes has no length field", batch.len()));
    put(batch, at::BATCH_LENGTH, length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[at::ATTRIBUTES..]);
    put(batch, at::CRC, crc.to_be_bytes());
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N]
        .try_into()
        .expect("a slice of N bytes becomes an array of N")
}
