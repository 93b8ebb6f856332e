//! Writing what we send.
//!
//! Everything small goes into one growing buffer. A byte field of at least [`GATHER_MIN_BYTES`] is
//! not copied: the encoder notes where it belongs and keeps a reference. The result is a list of
//! parts for a vectored write, so a fetch response never copies the records it carries.

use bytes::{BufMut, Bytes};
use thiserror::Error;

/// From this size on a byte field is sent by reference: below it, copying is cheaper than one more
/// entry in the vectored write.
pub const GATHER_MIN_BYTES: usize = 1024;

/// Why a value cannot be written. All of these are mistakes of ours, not of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Only reported in debug builds; in release builds the value is dropped.
    #[error("{message} version {version} has no field {field}, but it is set")]
    FieldAbsent {
        message: &'static str,
        field: &'static str,
        version: i16,
    },
    #[error("null where version {version} allows none")]
    Null { version: i16 },
    #[error("{0} bytes or elements do not fit the length before them")]
    TooLong(usize),
    #[error("version {0} of the message is unknown")]
    UnknownVersion(i16),
}

type Result<T> = std::result::Result<T, EncodeError>;

/// Gathers one message.
#[derive(Debug, Default)]
pub struct Encoder {
    small: Vec<u8>,
    /// Each with the position in `small` before which it belongs.
    large: Vec<(usize, Bytes)>,
    large_bytes: usize,
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder::default()
    }

    pub fn with_capacity(small_bytes: usize) -> Encoder {
        Encoder {
            small: Vec::with_capacity(small_bytes),
            ..Encoder::default()
        }
    }

    /// Bytes written so far, referenced ones included.
    pub fn len(&self) -> usize {
        self.small.len() + self.large_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message as parts, in order, none of them empty.
    pub fn finish(self) -> Vec<Bytes> {
        let small = Bytes::from(self.small);
        let mut parts = Vec::with_capacity(self.large.len() * 2 + 1);
        let mut from = 0;
        for (position, bytes) in self.large {
            if position > from {
                parts.push(small.slice(from..position));
                from = position;
            }
            parts.push(bytes);
        }
        if from < small.len() {
            parts.push(small.slice(from..));
        }
        parts
    }

    /// The message as one piece; copies what was gathered by reference.
    pub fn into_bytes(self) -> Bytes {
        if self.large.is_empty() {
            return Bytes::from(self.small);
        }
        let mut whole = Vec::with_capacity(self.len());
        self.finish()
            .iter()
            .for_each(|part| whole.extend_from_slice(part));
        Bytes::from(whole)
    }

    pub fn put_bool(&mut self, value: bool) {
        self.small.put_u8(value.into());
    }

    pub fn put_i8(&mut self, value: i8) {
        self.small.put_i8(value);
    }

    pub fn put_i16(&mut self, value: i16) {
        self.small.put_i16(value);
    }

    pub fn put_u16(&mut self, value: u16) {
        self.small.put_u16(value);
    }

    pub fn put_i32(&mut self, value: i32) {
        self.small.put_i32(value);
    }

    pub fn put_i64(&mut self, value: i64) {
        self.small.put_i64(value);
    }

    pub fn put_uuid(&mut self, value: uuid::Uuid) {
        self.small.extend_from_slice(value.as_bytes());
    }

    /// An unsigned varint, in 1 to 5 bytes.
    pub fn put_uvarint(&mut self, value: u32) {
        let (bytes, length) = uvarint(value);
        self.small.extend_from_slice(&bytes[..length]);
    }

    /// Bytes without a length, by reference if they are many.
    pub fn put_raw(&mut self, bytes: &Bytes) {
        if bytes.len() < GATHER_MIN_BYTES {
            self.small.extend_from_slice(bytes);
        } else {
            self.large.push((self.small.len(), bytes.clone()));
            self.large_bytes += bytes.len();
        }
    }

    /// A string with its length before it, or null.
    pub fn put_string(&mut self, value: Option<&str>, flexible: bool) -> Result<()> {
        let length = value.map(str::len);
        if let Some(length) = length.filter(|length| *length > i16::MAX as usize) {
            return Err(EncodeError::TooLong(length));
        }
        match (length, flexible) {
            (None, true) => self.put_uvarint(0),
            (None, false) => self.put_i16(-1),
            (Some(length), true) => self.put_uvarint(length as u32 + 1),
            (Some(length), false) => self.put_i16(length as i16),
        }
        self.small
            .extend_from_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// Bytes (or records) with their length before them, or null.
    pub fn put_bytes(&mut self, value: Option<&Bytes>, flexible: bool) -> Result<()> {
        self.put_array_count(value.map(Bytes::len), flexible)?;
        if let Some(bytes) = value {
            self.put_raw(bytes);
        }
        Ok(())
    }

    /// The count before an array's elements, or null.
    pub fn put_array_count(&mut self, count: Option<usize>, flexible: bool) -> Result<()> {
        if let Some(count) = count.filter(|count| *count >= i32::MAX as usize) {
            return Err(EncodeError::TooLong(count));
        }
        match (count, flexible) {
            (None, true) => self.put_uvarint(0),
            (None, false) => self.put_i32(-1),
            (Some(count), true) => self.put_uvarint(count as u32 + 1),
            (Some(count), false) => self.put_i32(count as i32),
        }
        Ok(())
    }

    /// One tagged field: the tag, the size of what `value` writes, and that.
    pub fn put_tagged(
        &mut self,
        tag: u32,
        value: impl FnOnce(&mut Encoder) -> Result<()>,
    ) -> Result<()> {
        self.put_uvarint(tag);
        let (mark, large_mark, len_mark) = (self.small.len(), self.large.len(), self.len());
        value(self)?;
        // The size stands before the value, and is known only now.
        let size = self.len() - len_mark;
        let size = u32::try_from(size).map_err(|_| EncodeError::TooLong(size))?;
        let (bytes, length) = uvarint(size);
        self.small
            .splice(mark..mark, bytes[..length].iter().copied());
        for (position, _) in &mut self.large[large_mark..] {
            *position += length;
        }
        Ok(())
    }

    /// Writes over four bytes that were put before; for the length in front of a frame.
    pub(crate) fn set_i32(&mut self, position: usize, value: i32) {
        self.small[position..position + 4].copy_from_slice(&value.to_be_bytes());
    }
}

fn uvarint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut length = 0;
    while value >= 0x80 {
        bytes[length] = value as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = value as u8;
    (bytes, length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Decoder;

    #[test]
    fn large_bytes_are_referenced_where_they_belong() {
        let records = Bytes::from(vec![7; GATHER_MIN_BYTES]);
        let mut out = Encoder::new();
        out.put_i8(1);
        out.put_bytes(Some(&records), false).unwrap();
        out.put_raw(&records);
        out.put_i8(2);
        assert_eq!(out.len(), 1 + 4 + 2 * GATHER_MIN_BYTES + 1);
        let parts = out.finish();
        assert_eq!(
            parts.iter().map(Bytes::len).collect::<Vec<_>>(),
            [5, 1024, 1024, 1]
        );
        assert_eq!(parts[1].as_ptr(), records.as_ptr());
        assert_eq!(parts[2].as_ptr(), records.as_ptr());
    }

    #[test]
    fn small_bytes_are_copied() {
        let mut out = Encoder::new();
        out.put_bytes(Some(&Bytes::from(vec![7; GATHER_MIN_BYTES - 1])), true)
            .unwrap();
        assert_eq!(out.finish().len(), 1);
        assert!(Encoder::new().finish().is_empty());
    }

    #[test]
    fn the_size_of_a_tagged_field_includes_what_is_referenced() {
        let records = Bytes::from(vec![7; 2000]);
        let mut out = Encoder::new();
        out.put_tagged(3, |out| {
            out.put_i8(9);
            out.put_bytes(Some(&records), true)
        })
        .unwrap();
        let parts = out.finish();
        // Tag, size 2003 in two bytes, the i8, length 2001 in two bytes; then the records.
        assert_eq!(parts[0], [3, 0xd3, 0x0f, 9, 0xd1, 0x0f][..]);
        assert_eq!(parts[1].as_ptr(), records.as_ptr());
    }

    #[test]
    fn varints_come_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 21, 1 << 28, u32::MAX] {
            let mut out = Encoder::new();
            out.put_uvarint(value);
            assert_eq!(Decoder::new(out.into_bytes()).uvarint(), Ok(value));
        }
    }

    #[test]
    fn a_string_has_a_limit() {
        let text = "x".repeat(i16::MAX as usize + 1);
        for flexible in [false, true] {
            let mut out = Encoder::new();
            assert!(out.put_string(Some(&text[1..]), flexible).is_ok());
            assert_eq!(
                out.put_string(Some(&text), flexible),
                Err(EncodeError::TooLong(32_768))
            );
        }
    }
}
