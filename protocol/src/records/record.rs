//! One record of a batch: its bytes on the wire, read in place.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//! | key length varint (below 0: null) | key | value length varint (below 0: null) | value
//! | header count varint | for each: key length varint | key | value length varint | value
//! ```

use bytes::Bytes;
use thiserror::Error;

use super::header::{BatchView, TimestampType};
use super::varint::{put_i32, put_i64, size_i32, size_i64, take_i32, take_i64};

/// The smallest header of a record: an empty key and a null value.
const RECORD_HEADER_BYTES_MIN: usize = 2;

/// Why the bytes of a batch are not the records that its header declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    #[error("the batch declares a record count of {count}")]
    Count { count: i32 },
    #[error("the batch ends before its declared records do")]
    EndsEarly,
    #[error("{bytes} bytes are left behind the declared records")]
    Leftover { bytes: usize },
    #[error("a record's length is {length}, {have} bytes are left")]
    RecordLength { length: i32, have: usize },
    #[error("a record's fields end before or after its length")]
    FieldsDoNotFill,
    #[error("a record's {field} runs beyond the record")]
    Field { field: &'static str },
    #[error("a record declares {count} headers, {have} bytes are left")]
    HeaderCount { count: i32, have: usize },
}

/// A record as it lies in the decompressed body of a batch. Deltas are relative to the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: HeadersRef<'a>,
}

/// The headers of a record, checked but not unpacked: in order, duplicates kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HeadersRef<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> HeadersRef<'a> {
    pub const fn len(self) -> usize {
        self.count
    }

    pub const fn is_empty(self) -> bool {
        self.count == 0
    }
}

impl<'a> IntoIterator for HeadersRef<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        HeadersIter(self)
    }
}

/// Iterates (key, value) of a record's headers.
#[derive(Clone, Debug)]
pub struct HeadersIter<'a>(HeadersRef<'a>);

impl<'a> Iterator for HeadersIter<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.count = self.0.count.checked_sub(1)?;
        let header = take_header(&mut self.0.bytes);
        Some(header.expect("the record's headers were checked when it was read"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.count, Some(self.0.count))
    }
}

impl ExactSizeIterator for HeadersIter<'_> {}

/// Cuts the next record from the body of a batch and checks that its fields fill its length.
pub(super) fn take_record<'a>(body: &mut &'a [u8]) -> Result<RecordRef<'a>, FramingError> {
    let length = take_i32(body).ok_or(FramingError::EndsEarly)?;
    let have = body.len();
    let (mut fields, rest) = usize::try_from(length)
        .ok()
        .and_then(|length| body.split_at_checked(length))
        .ok_or(FramingError::RecordLength { length, have })?;
    // The attributes of a record are unused; Kafka does not look at them either.
    fields = fields.get(1..).ok_or(FramingError::Field {
        field: "attributes",
    })?;
    let timestamp_delta = take_i64(&mut fields).ok_or(FramingError::Field {
        field: "timestamp delta",
    })?;
    let offset_delta = take_i32(&mut fields).ok_or(FramingError::Field {
        field: "offset delta",
    })?;
    let key = take_nullable(&mut fields).ok_or(FramingError::Field { field: "key" })?;
    let value = take_nullable(&mut fields).ok_or(FramingError::Field { field: "value" })?;
    let headers = take_headers(&mut fields)?;
    if !fields.is_empty() {
        return Err(FramingError::FieldsDoNotFill);
    }
    *body = rest;
    Ok(RecordRef {
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers,
    })
}

fn take_headers<'a>(fields: &mut &'a [u8]) -> Result<HeadersRef<'a>, FramingError> {
    let declared = take_i32(fields).ok_or(FramingError::Field {
        field: "header count",
    })?;
    let have = fields.len();
    let count = usize::try_from(declared)
        .ok()
        .filter(|count| *count <= have / RECORD_HEADER_BYTES_MIN)
        .ok_or(FramingError::HeaderCount {
            count: declared,
            have,
        })?;
    let bytes = *fields;
    for _ in 0..count {
        take_header(fields).ok_or(FramingError::Field { field: "header" })?;
    }
    let bytes = &bytes[..bytes.len() - fields.len()];
    Ok(HeadersRef { count, bytes })
}

fn take_header<'a>(fields: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    // A key may be empty but not null, unlike everything else.
    let key = take_nullable(fields)??;
    let value = take_nullable(fields)?;
    Some((key, value))
}

/// Every negative length means null, as for Kafka. The outer `None` says that bytes are missing.
fn take_nullable<'a>(fields: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Ok(length) = usize::try_from(take_i32(fields)?) else {
        return Some(None);
    };
    let (taken, rest) = fields.split_at_checked(length)?;
    *fields = rest;
    Some(Some(taken))
}

/// Appends a record.
///
/// # Panics
/// If a key, a value, a header or the whole record is longer than `i32::MAX`: no caller can have
/// got such from the wire, nor could anybody read it.
pub(super) fn put_record<'h, H>(
    output: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: H,
) where
    H: ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
{
    let fixed = 1 + size_i64(timestamp_delta) + size_i32(offset_delta);
    let header_bytes: usize = headers
        .clone()
        .map(|(key, value)| size_nullable(Some(key)) + size_nullable(value))
        .sum();
    let header_count = length_field(headers.len());
    let size =
        fixed + size_nullable(key) + size_nullable(value) + size_i32(header_count) + header_bytes;
    put_i32(output, length_field(size));
    let start = output.len();
    output.push(0);
    put_i64(output, timestamp_delta);
    put_i32(output, offset_delta);
    put_nullable(output, key);
    put_nullable(output, value);
    put_i32(output, header_count);
    for (key, value) in headers {
        put_nullable(output, Some(key));
        put_nullable(output, value);
    }
    assert_eq!(
        output.len() - start,
        size,
        "a record has another size than was computed"
    );
}

fn put_nullable(output: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_i32(output, length_field(bytes.len()));
            output.extend_from_slice(bytes);
        }
        None => put_i32(output, -1),
    }
}

fn size_nullable(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => size_i32(length_field(bytes.len())) + bytes.len(),
        None => size_i32(-1),
    }
}

fn length_field(length: usize) -> i32 {
    i32::try_from(length).unwrap_or_else(|_| panic!("no record can hold {length} bytes"))
}

/// The records in the decompressed body of a batch, in order. Ends after the declared count, with
/// an error if the bytes end elsewhere, or after the first error.
#[derive(Clone, Debug)]
pub struct RecordRefs<'a> {
    body: &'a [u8],
    left: i32,
}

impl<'a> RecordRefs<'a> {
    /// Reads `body`, the decompressed body of a batch that declares `record_count` records.
    pub fn new(body: &'a [u8], record_count: i32) -> Result<RecordRefs<'a>, FramingError> {
        if record_count < 0 {
            return Err(FramingError::Count {
                count: record_count,
            });
        }
        if record_count == 0 && !body.is_empty() {
            return Err(FramingError::Leftover { bytes: body.len() });
        }
        Ok(RecordRefs {
            body,
            left: record_count,
        })
    }

    /// Goes on where another iterator over the same body stood.
    pub(super) fn resume(body: &'a [u8], left: i32) -> RecordRefs<'a> {
        RecordRefs { body, left }
    }

    pub(super) fn bytes_left(&self) -> usize {
        self.body.len()
    }

    pub(super) fn records_left(&self) -> i32 {
        self.left
    }
}

impl<'a> Iterator for RecordRefs<'a> {
    type Item = Result<RecordRef<'a>, FramingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let mut record = take_record(&mut self.body);
        if self.left == 0 && record.is_ok() && !self.body.is_empty() {
            record = Err(FramingError::Leftover {
                bytes: self.body.len(),
            });
        }
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

/// What turns a record's deltas into its offset and timestamp.
#[derive(Clone, Copy, Debug)]
pub struct Bases {
    pub offset: i64,
    pub timestamp: i64,
    /// Under LogAppendTime every record has this timestamp.
    pub log_append_time: Option<i64>,
}

impl Bases {
    pub fn of(batch: BatchView<'_>) -> Bases {
        let appended = batch.attributes().timestamp_type() == TimestampType::LogAppendTime;
        Bases {
            offset: batch.base_offset(),
            timestamp: batch.base_timestamp(),
            log_append_time: appended.then(|| batch.max_timestamp()),
        }
    }

    pub fn offset_of(self, record: &RecordRef<'_>) -> i64 {
        self.offset.wrapping_add(i64::from(record.offset_delta))
    }

    pub fn timestamp_of(self, record: &RecordRef<'_>) -> i64 {
        self.log_append_time
            .unwrap_or_else(|| self.timestamp.wrapping_add(record.timestamp_delta))
    }
}

/// A record that owns its place in shared bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In the order of the producer, duplicates kept.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record. Kafka's clients take keys for UTF-8; the format does not demand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Record {
    /// `body` is what `record` was read from.
    pub(super) fn share(record: &RecordRef<'_>, bases: Bases, body: &Bytes) -> Record {
        let share = |bytes: &[u8]| body.slice_ref(bytes);
        let headers = record
            .headers
            .into_iter()
            .map(|(key, value)| RecordHeader {
                key: share(key),
                value: value.map(share),
            })
            .collect();
        Record {
            offset: bases.offset_of(record),
            timestamp: bases.timestamp_of(record),
            key: record.key.map(share),
            value: record.value.map(share),
            headers,
        }
    }
}
