//! Kafka's primitive field types, as far as the coordinator's records need them: bounded reading
//! from borrowed bytes and plain writing. Must not know any record. No length is trusted before it
//! is compared with the bytes that are there, and nothing is allocated by one.

use bytes::Bytes;

use super::records::Malformed;

/// Reads fields from the front of a buffer; byte fields are slices of it.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(rest: Bytes) -> Self {
        Reader { rest }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.take(N)?;
        Ok(taken
            .as_ref()
            .try_into()
            .expect("take() gave the length that was asked for"))
    }

    fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.rest.len() {
            return Err(Malformed::Truncated);
        }
        Ok(self.rest.split_to(len))
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(super) fn u128(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    pub(super) fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(Malformed::Length);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Length)
    }

    /// The length of a string, byte or array field; `None` is null.
    fn length(&mut self, kind: Kind, flexible: bool) -> Result<Option<usize>, Malformed> {
        let length = if flexible {
            i64::from(self.unsigned_varint()?) - 1
        } else if kind == Kind::Text {
            i64::from(self.i16()?)
        } else {
            i64::from(self.i32()?)
        };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| Malformed::Length),
        }
    }

    pub(super) fn nullable_string(&mut self, flexible: bool) -> Result<Option<String>, Malformed> {
        let Some(len) = self.length(Kind::Text, flexible)? else {
            return Ok(None);
        };
        // Compact lengths could say more, but Kafka's strings may not.
        if len > i16::MAX as usize {
            return Err(Malformed::Length);
        }
        let text = self.take(len)?;
        std::str::from_utf8(&text)
            .map(|text| Some(text.to_owned()))
            .map_err(|_| Malformed::NotUtf8)
    }

    pub(super) fn string(&mut self, flexible: bool) -> Result<String, Malformed> {
        self.nullable_string(flexible)?.ok_or(Malformed::Null)
    }

    pub(super) fn bytes(&mut self, flexible: bool) -> Result<Bytes, Malformed> {
        let len = self.length(Kind::Other, flexible)?.ok_or(Malformed::Null)?;
        self.take(len)
    }

    /// The number of elements that follow. Each takes a byte at least, so a larger number than
    /// there are bytes is refused here.
    pub(super) fn count(&mut self, flexible: bool) -> Result<usize, Malformed> {
        let count = self.length(Kind::Other, flexible)?.ok_or(Malformed::Null)?;
        if count > self.rest.len() {
            Err(Malformed::Truncated)
        } else {
            Ok(count)
        }
    }

    /// Hands each tagged field to `known`; what that leaves alone is skipped.
    pub(super) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, Reader) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let len = self.unsigned_varint()? as usize;
            known(tag, Reader::new(self.take(len)?))?;
        }
        Ok(())
    }
}

#[derive(PartialEq)]
enum Kind {
    Text,
    Other,
}

/// Whether a text is short enough for Kafka's strings.
pub(super) fn fits(text: &str) -> bool {
    text.len() <= i16::MAX as usize
}

pub(super) fn put_string(buf: &mut Vec<u8>, text: &str) {
    assert!(fits(text), "a string of {} bytes was let in", text.len());
    buf.extend((text.len() as i16).to_be_bytes());
    buf.extend(text.as_bytes());
}

pub(super) fn put_nullable_string(buf: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_string(buf, text),
        None => buf.extend((-1i16).to_be_bytes()),
    }
}

pub(super) fn put_bytes(buf: &mut Vec<u8>, bytes: &[u8]) {
    let len = i32::try_from(bytes.len()).expect("frames are far below 2 GiB");
    buf.extend(len.to_be_bytes());
    buf.extend(bytes);
}

pub(super) fn put_unsigned_varint(buf: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        buf.push(value as u8 | 0x80);
        value >>= 7;
    }
    buf.push(value as u8);
}

pub(super) fn put_compact_string(buf: &mut Vec<u8>, text: &str) {
    assert!(fits(text), "a string of {} bytes was let in", text.len());
    put_unsigned_varint(buf, text.len() as u32 + 1);
    buf.extend(text.as_bytes());
}
