//! The journal file's header and the block, the unit that one turn appends.
//!
//! File header, in a page of its own:
//! ```text
//!  0 magic "cjnl"   4 crc u32 (8..64)   8 version u32   12 core u32
//! 16 number u64    24 epoch u64        32 first sequence u64, zeroes to 64
//! ```
//! Block header; frames follow, then zeroes up to 4 KiB:
//! ```text
//!  0 magic "cblk"   4 crc u32 (8..64)   8 epoch u64   16 sequence u64
//! 24 durable u64   32 run u64          40 length u32  44 frames u32
//! 48 previous u32  52 version u32, zeroes to 64
//! ```

use super::VERSION;
use super::codec::{get_u32, get_u64};

pub(crate) const BLOCK_HEADER_BYTES: usize = 64;
const FILE_MAGIC: [u8; 4] = *b"cjnl";
const BLOCK_MAGIC: [u8; 4] = *b"cblk";

/// What a journal file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub core: u32,
    /// Files are used in the order of their numbers; a recycled file gets a new one.
    pub number: u64,
    /// Stands in every block and frame of this use of the file.
    pub epoch: u64,
    /// Sequence number of the file's first block.
    pub first_sequence: u64,
}

impl FileHeader {
    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut b = [0u8; BLOCK_HEADER_BYTES];
        b[0..4].copy_from_slice(&FILE_MAGIC);
        b[8..12].copy_from_slice(&u32::from(VERSION).to_le_bytes());
        b[12..16].copy_from_slice(&self.core.to_le_bytes());
        b[16..24].copy_from_slice(&self.number.to_le_bytes());
        b[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        b[32..40].copy_from_slice(&self.first_sequence.to_le_bytes());
        seal(b)
    }

    pub fn decode(bytes: &[u8]) -> Option<FileHeader> {
        let b = checked(bytes, FILE_MAGIC)?;
        (get_u32(b, 8) == u32::from(VERSION)).then(|| FileHeader {
            core: get_u32(b, 12),
            number: get_u64(b, 16),
            epoch: get_u64(b, 24),
            first_sequence: get_u64(b, 32),
        })
    }
}

/// The head of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// The epoch of the file that it was written to.
    pub epoch: u64,
    /// Blocks are numbered without a gap, across files and restarts.
    pub sequence: u64,
    /// Every block up to this sequence was on stable storage when this one was written: if one of
    /// them cannot be read, that is corruption. Blocks above it may be torn.
    pub durable_sequence: u64,
    /// Random, new at each start: no two runs write the same header.
    pub run: u64,
    /// Bytes of frames behind the header, padding not counted.
    pub length: u32,
    /// Number of frames.
    pub frames: u32,
    /// [`BlockHeader::crc`] of the block before this one; 0 for the first of a journal.
    pub previous_crc: u32,
}

impl BlockHeader {
    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut b = [0u8; BLOCK_HEADER_BYTES];
        b[0..4].copy_from_slice(&BLOCK_MAGIC);
        b[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        b[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        b[24..32].copy_from_slice(&self.durable_sequence.to_le_bytes());
        b[32..40].copy_from_slice(&self.run.to_le_bytes());
        b[40..44].copy_from_slice(&self.length.to_le_bytes());
        b[44..48].copy_from_slice(&self.frames.to_le_bytes());
        b[48..52].copy_from_slice(&self.previous_crc.to_le_bytes());
        b[52..56].copy_from_slice(&u32::from(VERSION).to_le_bytes());
        seal(b)
    }

    pub fn decode(bytes: &[u8]) -> Option<BlockHeader> {
        let b = checked(bytes, BLOCK_MAGIC)?;
        (get_u32(b, 52) == u32::from(VERSION)).then(|| BlockHeader {
            epoch: get_u64(b, 8),
            sequence: get_u64(b, 16),
            durable_sequence: get_u64(b, 24),
            run: get_u64(b, 32),
            length: get_u32(b, 40),
            frames: get_u32(b, 44),
            previous_crc: get_u32(b, 48),
        })
    }

    /// The checksum that the next block repeats.
    pub fn crc(&self) -> u32 {
        get_u32(&self.encode(), 4)
    }

    /// Header, frames and padding.
    pub fn block_bytes(&self) -> u64 {
        super::pages((BLOCK_HEADER_BYTES + self.length as usize) as u64)
    }
}

fn seal(mut b: [u8; BLOCK_HEADER_BYTES]) -> [u8; BLOCK_HEADER_BYTES] {
    let crc = crc32c::crc32c(&b[8..]);
    b[4..8].copy_from_slice(&crc.to_le_bytes());
    b
}

fn checked(bytes: &[u8], magic: [u8; 4]) -> Option<&[u8; BLOCK_HEADER_BYTES]> {
    let b = bytes.first_chunk::<BLOCK_HEADER_BYTES>()?;
    (b[0..4] == magic && get_u32(b, 4) == crc32c::crc32c(&b[8..])).then_some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_damage_is_seen() {
        let file = FileHeader {
            core: 1,
            number: 2,
            epoch: 3,
            first_sequence: 4,
        };
        assert_eq!(FileHeader::decode(&file.encode()), Some(file));
        let block = BlockHeader {
            epoch: 1,
            sequence: 2,
            durable_sequence: 3,
            run: 4,
            length: 5000,
            frames: 6,
            previous_crc: 7,
        };
        let bytes = block.encode();
        assert_eq!(BlockHeader::decode(&bytes), Some(block));
        assert_eq!(block.block_bytes(), 8192);
        assert_eq!(
            FileHeader::decode(&bytes),
            None,
            "a block is no file header"
        );
        for bit in 0..BLOCK_HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BlockHeader::decode(&bad), None, "bit {bit}");
        }
    }
}
