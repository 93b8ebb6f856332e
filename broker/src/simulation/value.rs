//! Values of records: each is unique and tells who sent it, so that any record can be judged by itself.

use bytes::Bytes;
use protocol::compression::{Codec, Compression};
use protocol::records::BatchBuilder;

/// Bytes of a value before its filling: producer, number, length.
const HEAD_BYTES: usize = 4 + 4 + 4;

/// The `number`th record of a producer of the simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Value {
    pub producer: u32,
    pub number: u32,
}

impl Value {
    /// The bytes, `bytes` of them, at least the head's.
    fn encode(self, bytes: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.max(HEAD_BYTES));
        out.extend(self.producer.to_be_bytes());
        out.extend(self.number.to_be_bytes());
        out.extend((bytes.max(HEAD_BYTES) as u32).to_be_bytes());
        let mut state = u64::from(self.producer) << 32 | u64::from(self.number);
        // Half of the values compress well, the others not at all.
        let repeats = self.number.is_multiple_of(2);
        while out.len() < bytes {
            state = if repeats && out.len() > HEAD_BYTES {
                state
            } else {
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407)
            };
            let left = bytes - out.len();
            let piece = (state ^ state >> 29).to_le_bytes();
            out.extend(&piece[..left.min(8)]);
        }
        out
    }

    /// Reads a value back. `None`: these are not bytes that anybody sent.
    pub fn decode(bytes: &[u8]) -> Option<Value> {
        let word = |at: usize| {
            let word = bytes.get(at..at + 4)?;
            Some(u32::from_be_bytes(word.try_into().expect("four bytes")))
        };
        let value = Value {
            producer: word(0)?,
            number: word(4)?,
        };
        (word(8)? as usize == bytes.len() && value.encode(bytes.len()) == bytes).then_some(value)
    }
}

/// Producer id, epoch and first sequence of an idempotent batch.
pub(super) type Sequence = (i64, i16, i32);

/// A batch of these values, each with so many bytes.
pub(super) fn batch(
    values: &[(Value, usize)],
    codec: Codec,
    sequence: Option<Sequence>,
    wall_ms: i64,
) -> Bytes {
    let mut builder = BatchBuilder::new().compression(Compression::of(codec));
    if let Some((id, epoch, first)) = sequence {
        builder = builder.producer(id, epoch, first);
    }
    for (value, bytes) in values {
        builder.push(wall_ms, None, Some(&value.encode(*bytes)), &[]);
    }
    builder.build().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_damage_is_seen() {
        let value = Value {
            producer: 3,
            number: 9,
        };
        let bytes = value.encode(1_000);
        assert_eq!(Value::decode(&bytes), Some(value));
        for at in [0, 5, 11, 12, 999] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Value::decode(&bad), None, "byte {at}");
        }
        assert_eq!(Value::decode(&bytes[..999]), None);
    }
}
