//! Reading what a stranger sent.
//!
//! Rules: no length is believed before it was compared with the bytes that are left; no array is
//! allocated for more elements than those bytes can hold; the sum of all arrays stays within a
//! budget; varints and tagged fields are limited; a decoded string or byte field is a slice of the
//! frame. A violation is a [`DecodeError`], never a panic.

use super::string::Str;
use bytes::{Buf, Bytes};
use thiserror::Error;

/// What the arrays of a message may take in memory for each byte of input. A one-byte string in an
/// array takes 32 bytes as a [`Str`]; messages of real clients stay below 8.
pub const BUDGET_BYTES_PER_INPUT_BYTE: usize = 16;

/// What the arrays of any message may take in memory, however short it is.
pub const BUDGET_FLOOR_BYTES: usize = 64 * 1024;

/// The longest string that Kafka's wire format allows, in compact form too.
pub const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// The most tagged fields that one struct may carry. Kafka's own messages define at most four.
pub const MAX_TAGGED_FIELDS: u32 = 64;

/// Why bytes are not a message, and where in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{problem} at byte {offset}")]
pub struct DecodeError {
    pub problem: DecodeProblem,
    /// Position in the decoder's input.
    pub offset: usize,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeProblem {
    #[error("{needed} bytes are needed and {left} are left")]
    Truncated { needed: usize, left: usize },
    #[error("negative length {0}")]
    NegativeLength(i32),
    #[error("null where the version allows none")]
    Null,
    #[error("a varint that does not fit its type")]
    VarintTooLong,
    #[error("a string of {0} bytes is longer than {MAX_STRING_BYTES}")]
    StringTooLong(usize),
    #[error("a string that is not UTF-8")]
    NotUtf8,
    #[error("an array of {count} elements cannot fit into {left} bytes")]
    ArrayTooLong { count: usize, left: usize },
    #[error("the arrays need more memory than {budget_bytes} bytes")]
    OverBudget { budget_bytes: usize },
    #[error("{0} tagged fields are more than {MAX_TAGGED_FIELDS}")]
    TooManyTaggedFields(u32),
    #[error("tagged field {0} is out of order")]
    TagOutOfOrder(u32),
    #[error("tagged field {tag} is {left} bytes longer than its value")]
    TagTooLong { tag: u32, left: usize },
    #[error("{0} bytes follow the end of the message")]
    TrailingBytes(usize),
    #[error("version {0} of the message is unknown")]
    UnknownVersion(i16),
}

type Result<T> = std::result::Result<T, DecodeError>;

/// A cursor over one frame.
#[derive(Debug)]
pub struct Decoder {
    input: Bytes,
    at: usize,
    /// End of what may be read now: of the input, or of the tagged field at hand.
    end: usize,
    budget_bytes: usize,
    budget_left: usize,
}

impl Decoder {
    /// With the usual budget: [`BUDGET_FLOOR_BYTES`] plus [`BUDGET_BYTES_PER_INPUT_BYTE`] for each
    /// byte of input.
    pub fn new(input: Bytes) -> Decoder {
        let scaled = input.len().saturating_mul(BUDGET_BYTES_PER_INPUT_BYTE);
        Decoder::with_budget(input, scaled.saturating_add(BUDGET_FLOOR_BYTES))
    }

    /// `budget_bytes` is the most that the arrays of the decoded message may take in memory.
    pub fn with_budget(input: Bytes, budget_bytes: usize) -> Decoder {
        let end = input.len();
        Decoder {
            input,
            at: 0,
            end,
            budget_bytes,
            budget_left: budget_bytes,
        }
    }

    /// Bytes that were not yet read.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// Position in the input, in bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Memory that arrays have taken so far, in bytes.
    pub fn budget_spent(&self) -> usize {
        self.budget_bytes - self.budget_left
    }

    /// What was not yet read, as a slice of the input.
    pub fn rest(&self) -> Bytes {
        self.input.slice(self.at..self.end)
    }

    /// Errs if anything is left. Kafka itself overlooks bytes after a request, so a broker does not
    /// call this on what clients send; tests do.
    pub fn finish(self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error(DecodeProblem::TrailingBytes(left))),
        }
    }

    pub(crate) fn error(&self, problem: DecodeProblem) -> DecodeError {
        DecodeError {
            problem,
            offset: self.at,
        }
    }

    /// Moves past `count` bytes and returns where they began.
    fn advance(&mut self, count: usize) -> Result<usize> {
        let left = self.remaining();
        if count > left {
            return Err(self.error(DecodeProblem::Truncated {
                needed: count,
                left,
            }));
        }
        let start = self.at;
        self.at += count;
        Ok(start)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let start = self.advance(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.input[start..start + N]);
        Ok(bytes)
    }

    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    pub fn i8(&mut self) -> Result<i8> {
        self.array().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// A 16-byte UUID, most significant byte first.
    pub fn uuid(&mut self) -> Result<uuid::Uuid> {
        self.array().map(uuid::Uuid::from_bytes)
    }

    /// An unsigned varint of at most 32 bits, in at most 5 bytes.
    pub fn uvarint(&mut self) -> Result<u32> {
        let start = self.at;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.array::<1>()?[0];
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError {
            problem: DecodeProblem::VarintTooLong,
            offset: start,
        })
    }

    /// A slice of the input.
    pub fn take(&mut self, count: usize) -> Result<Bytes> {
        let start = self.advance(count)?;
        Ok(self.input.slice(start..start + count))
    }

    /// A length in compact form (one more than the length; zero is null).
    fn compact_length(&mut self) -> Result<Option<usize>> {
        Ok(self.uvarint()?.checked_sub(1).map(|length| length as usize))
    }

    /// A length in the old form (-1 is null), already widened.
    fn plain_length(&self, length: i32) -> Result<Option<usize>> {
        match length {
            -1 => Ok(None),
            0.. => Ok(Some(length as usize)),
            _ => Err(self.error(DecodeProblem::NegativeLength(length))),
        }
    }

    /// A string with its length before it, or null.
    pub fn string(&mut self, flexible: bool) -> Result<Option<Str>> {
        let length = if flexible {
            self.compact_length()?
        } else {
            let length = self.i16()?;
            self.plain_length(length.into())?
        };
        let Some(length) = length else {
            return Ok(None);
        };
        if length > MAX_STRING_BYTES {
            return Err(self.error(DecodeProblem::StringTooLong(length)));
        }
        let bytes = self.take(length)?;
        Str::from_utf8(bytes)
            .map(Some)
            .map_err(|_| self.error(DecodeProblem::NotUtf8))
    }

    /// Bytes (or records) with their length before them, or null.
    pub fn bytes(&mut self, flexible: bool) -> Result<Option<Bytes>> {
        match self.long_length(flexible)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    fn long_length(&mut self, flexible: bool) -> Result<Option<usize>> {
        if flexible {
            self.compact_length()
        } else {
            let length = self.i32()?;
            self.plain_length(length)
        }
    }

    /// The count of an array whose elements take at least `wire_bytes_min` each on the wire and
    /// `memory_bytes` each in memory, or null. The memory is taken from the budget: the caller may
    /// allocate it.
    pub fn array_count(
        &mut self,
        flexible: bool,
        wire_bytes_min: usize,
        memory_bytes: usize,
    ) -> Result<Option<usize>> {
        let Some(count) = self.long_length(flexible)? else {
            return Ok(None);
        };
        let left = self.remaining();
        if count > left / wire_bytes_min.max(1) {
            return Err(self.error(DecodeProblem::ArrayTooLong { count, left }));
        }
        self.spend(count.saturating_mul(memory_bytes))?;
        Ok(Some(count))
    }

    /// Takes memory that the caller is about to allocate from the budget.
    pub fn spend(&mut self, bytes: usize) -> Result<()> {
        let Some(budget_left) = self.budget_left.checked_sub(bytes) else {
            let budget_bytes = self.budget_bytes;
            return Err(self.error(DecodeProblem::OverBudget { budget_bytes }));
        };
        self.budget_left = budget_left;
        Ok(())
    }

    /// The tagged fields at the end of a flexible struct. `known` reads the value of a tag that it
    /// knows and returns true, or returns false without reading, and the field is skipped.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Decoder) -> Result<bool>,
    ) -> Result<()> {
        let count = self.uvarint()?;
        if count > MAX_TAGGED_FIELDS {
            return Err(self.error(DecodeProblem::TooManyTaggedFields(count)));
        }
        let mut next_tag = 0u64;
        for _ in 0..count {
            let tag = self.uvarint()?;
            if u64::from(tag) < next_tag {
                return Err(self.error(DecodeProblem::TagOutOfOrder(tag)));
            }
            next_tag = u64::from(tag) + 1;
            let size = self.uvarint()? as usize;
            let start = self.advance(size)?;
            let outer_end = std::mem::replace(&mut self.end, start + size);
            self.at = start;
            if !known(tag, self)? {
                self.at = self.end;
            }
            let left = self.remaining();
            if left > 0 {
                return Err(self.error(DecodeProblem::TagTooLong { tag, left }));
            }
            self.end = outer_end;
        }
        Ok(())
    }
}

impl From<Bytes> for Decoder {
    fn from(input: Bytes) -> Decoder {
        Decoder::new(input)
    }
}

/// The first four bytes of an input as a length, without reading them.
pub(crate) fn peek_i32(mut input: &[u8]) -> Option<i32> {
    (input.len() >= 4).then(|| input.get_i32())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(input: &'static [u8]) -> Decoder {
        Decoder::new(Bytes::from_static(input))
    }

    fn problem<T: std::fmt::Debug>(result: Result<T>) -> DecodeProblem {
        result.expect_err("a problem").problem
    }

    #[test]
    fn varints_are_limited_to_32_bits() {
        assert_eq!(decoder(&[0x00]).uvarint(), Ok(0));
        assert_eq!(decoder(&[0xac, 0x02]).uvarint(), Ok(300));
        assert_eq!(
            decoder(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint(),
            Ok(u32::MAX)
        );
        for too_long in [&[0xff, 0xff, 0xff, 0xff, 0x1f][..], &[0x80; 5], &[0x80; 10]] {
            let result = Decoder::new(Bytes::copy_from_slice(too_long)).uvarint();
            assert_eq!(
                problem(result),
                DecodeProblem::VarintTooLong,
                "{too_long:x?}"
            );
        }
        let result = decoder(&[0x80]).uvarint();
        assert_eq!(
            problem(result),
            DecodeProblem::Truncated { needed: 1, left: 0 }
        );
    }

    #[test]
    fn lengths_are_compared_with_what_is_left() {
        assert_eq!(decoder(&[0xff, 0xff]).string(false), Ok(None));
        assert_eq!(decoder(&[0]).string(true), Ok(None));
        assert_eq!(
            problem(decoder(&[0xff, 0xfe]).string(false)),
            DecodeProblem::NegativeLength(-2)
        );
        assert_eq!(
            problem(decoder(&[0, 3, b'a', b'b']).string(false)),
            DecodeProblem::Truncated { needed: 3, left: 2 }
        );
        assert_eq!(
            problem(decoder(&[0x7f, 0xff, 0xff, 0xff, 1]).bytes(false)),
            DecodeProblem::Truncated {
                needed: 0x7fff_ffff,
                left: 1
            }
        );
        assert_eq!(
            problem(decoder(&[0xff, 0xff, 0xff, 0xff, 0x0f]).string(true)),
            DecodeProblem::StringTooLong(u32::MAX as usize - 1)
        );
        assert_eq!(
            problem(decoder(&[2, 0xff]).string(true)),
            DecodeProblem::NotUtf8
        );
    }

    #[test]
    fn an_array_cannot_be_longer_than_its_bytes() {
        let mut input = decoder(&[0, 0, 0, 3, 1, 2, 3, 4, 5, 6]);
        assert_eq!(
            problem(input.array_count(false, 4, 4)),
            DecodeProblem::ArrayTooLong { count: 3, left: 6 }
        );
        let mut input = decoder(&[0, 0, 0, 3, 1, 2, 3, 4, 5, 6]);
        assert_eq!(input.array_count(false, 2, 2), Ok(Some(3)));
        assert_eq!(input.budget_spent(), 6);
    }

    #[test]
    fn arrays_share_one_budget() {
        let mut input = Decoder::with_budget(Bytes::from_static(&[4, 0, 0, 0, 4, 0, 0, 0]), 100);
        assert_eq!(input.array_count(true, 1, 30), Ok(Some(3)));
        input.take(3).unwrap();
        assert_eq!(
            problem(input.array_count(true, 1, 30)),
            DecodeProblem::OverBudget { budget_bytes: 100 }
        );
    }

    #[test]
    fn a_tagged_field_keeps_to_its_size() {
        // Two fields: tag 0 of 2 bytes, tag 5 of 1 byte; then one byte of something else.
        let input = &[2, 0, 2, 0xaa, 0xbb, 5, 1, 0xcc, 0xdd];
        let mut seen = Vec::new();
        let mut skipping = decoder(input);
        skipping
            .tagged_fields(|tag, field| {
                seen.push((tag, field.remaining()));
                Ok(false)
            })
            .unwrap();
        assert_eq!(seen, [(0, 2), (5, 1)]);
        assert_eq!(skipping.remaining(), 1);

        let greedy = decoder(input).tagged_fields(|_, field| field.i32().map(|_| true));
        assert_eq!(
            problem(greedy),
            DecodeProblem::Truncated { needed: 4, left: 2 }
        );
        let lazy = decoder(input).tagged_fields(|_, field| field.i8().map(|_| true));
        assert_eq!(problem(lazy), DecodeProblem::TagTooLong { tag: 0, left: 1 });
    }

    #[test]
    fn tagged_fields_are_counted_and_ordered() {
        let skip = |_: u32, _: &mut Decoder| Ok(false);
        assert_eq!(
            problem(decoder(&[65]).tagged_fields(skip)),
            DecodeProblem::TooManyTaggedFields(65)
        );
        for unordered in [&[2, 1, 0, 1, 0], &[2, 1, 0, 0, 0]] {
            assert!(matches!(
                problem(decoder(unordered).tagged_fields(skip)),
                DecodeProblem::TagOutOfOrder(_)
            ));
        }
        assert!(
            decoder(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0])
                .tagged_fields(skip)
                .is_ok()
        );
    }

    #[test]
    fn finish_minds_what_is_left() {
        assert_eq!(decoder(&[]).finish(), Ok(()));
        assert_eq!(
            problem(decoder(&[1, 2]).finish()),
            DecodeProblem::TrailingBytes(2)
        );
    }
}
