//! Bounded reading of bytes that a peer or a disk gave us, and how the same are written.
//!
//! Every length is checked against the bytes that are there before anything is taken or allocated.

/// The input ends before what it announces.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct CutShort;

/// What is left to read.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CutShort> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(CutShort)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CutShort> {
        Ok(self.take::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CutShort> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CutShort> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, CutShort> {
        Ok(u128::from_le_bytes(self.take()?))
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8], CutShort> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(CutShort)?;
        self.0 = rest;
        Ok(head)
    }

    /// A count of items of at least `bytes_min` each, if that many can still follow.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, CutShort> {
        let count = self.u32()? as usize;
        if count > self.0.len() / bytes_min {
            return Err(CutShort);
        }
        Ok(count)
    }

    /// An unsigned LEB128 number; one that does not fit 64 bits counts as cut short.
    pub(crate) fn varint(&mut self) -> Result<u64, CutShort> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(CutShort);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CutShort)
    }
}

/// The inverse of [`Input::varint`].
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bit of a flag that is set, else nothing.
pub(crate) fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for value in [
            0,
            1,
            127,
            128,
            300,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut input = Input(&bytes);
            assert_eq!(input.varint(), Ok(value));
            assert!(input.0.is_empty());
            assert_eq!(Input(&bytes[..bytes.len() - 1]).varint(), Err(CutShort));
        }
        assert_eq!(Input(&[0xff; 11]).varint(), Err(CutShort));
        // The tenth byte has room for one bit.
        assert_eq!(
            Input(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint(),
            Err(CutShort)
        );
    }

    #[test]
    fn counts_are_checked_against_what_is_there() {
        let mut bytes = 3u32.to_le_bytes().to_vec();
        bytes.extend([0; 6]);
        assert_eq!(Input(&bytes).count(2), Ok(3));
        assert_eq!(Input(&bytes).count(3), Err(CutShort));
    }
}
