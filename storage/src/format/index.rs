//! The entry of a segment's sparse index.
//!
//! ```text
//! 0 offset i64   8 index u64   16 max timestamp before i64   24 position u32
//! 28 crc u32 (generation of the segment, then 0..28)
//! ```
//! An index file is a sequence of entries. It is never synced: each entry stands or falls by its
//! own checksum, and whatever is missing is rebuilt from the segment's frames.

use super::codec::{get_u32, get_u64};

pub(crate) const INDEX_ENTRY_BYTES: usize = 32;

/// A frame of a segment: what it begins with and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Base offset of the frame.
    pub offset: i64,
    /// Raft index of the frame.
    pub index: u64,
    /// The largest timestamp of the frames before this one in the segment; `i64::MIN` for none.
    pub max_timestamp_before: i64,
    /// Position of the frame header in the segment file.
    pub position: u32,
}

impl IndexEntry {
    pub fn encode(&self, generation: u64) -> [u8; INDEX_ENTRY_BYTES] {
        let mut b = [0u8; INDEX_ENTRY_BYTES];
        b[0..8].copy_from_slice(&self.offset.to_le_bytes());
        b[8..16].copy_from_slice(&self.index.to_le_bytes());
        b[16..24].copy_from_slice(&self.max_timestamp_before.to_le_bytes());
        b[24..28].copy_from_slice(&self.position.to_le_bytes());
        let crc = entry_crc(generation, &b);
        b[28..32].copy_from_slice(&crc.to_le_bytes());
        b
    }

    pub fn decode(bytes: &[u8], generation: u64) -> Option<IndexEntry> {
        let b = bytes.first_chunk::<INDEX_ENTRY_BYTES>()?;
        (get_u32(b, 28) == entry_crc(generation, b)).then(|| IndexEntry {
            offset: get_u64(b, 0) as i64,
            index: get_u64(b, 8),
            max_timestamp_before: get_u64(b, 16) as i64,
            position: get_u32(b, 24),
        })
    }
}

fn entry_crc(generation: u64, b: &[u8; INDEX_ENTRY_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&generation.to_le_bytes()), &b[..28])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_for_its_own_generation_only() {
        let e = IndexEntry {
            offset: 1,
            index: 2,
            max_timestamp_before: i64::MIN,
            position: 3,
        };
        assert_eq!(IndexEntry::decode(&e.encode(4), 4), Some(e));
        assert_eq!(IndexEntry::decode(&e.encode(4), 5), None);
        assert_eq!(IndexEntry::decode(&[0; 32], 0), None);
    }
}
