//! The frame: one entry of a partition's log, or one marker about it.
//!
//! ```text
//!  0  magic [2] "cf"   2 version u8   3 kind u8    4 header crc u32 (0..4 and 8..96)
//!  8  data crc u32    12 data length u32
//! 16  topic u128      32 partition u32            36 flags u32
//! 40  term u64        48 index u64                56 base offset i64
//! 64  offset count u32                            68 zero u32
//! 72  max timestamp i64                           80 epoch u64       88 chain u64
//! 96  data, then zeroes up to a multiple of 8
//! ```
//!
//! `epoch` names the file: the epoch of the journal file, or the generation of the segment. Bytes
//! that an earlier life left in the same place carry another one and are refused. `chain` counts
//! the frames of one partition in the journal without a gap, so that a lost frame is noticed by
//! its successor; it is 0 in segments, where indexes do the same.

use super::VERSION;
use super::codec::{get_u32, get_u64};
use crate::partition::PartitionId;

pub(crate) const FRAME_HEADER_BYTES: usize = 96;
const MAGIC: [u8; 2] = *b"cf";

const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(8));

/// What a raft entry is to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// One Kafka record batch. Takes `last_offset_delta + 1` offsets.
    Batch = 1,
    /// The empty entry of a new leader. Takes no offset.
    NoOp = 2,
    /// A change of the replica set. Takes no offset.
    Membership = 3,
    /// Moves the log start offset to the i64 (little-endian) in its data. Takes no offset.
    LogStart = 4,
    /// Opaque; a command of the cluster's metadata. Takes one offset.
    Command = 5,
}

/// What a frame is: an entry, or a marker that only the journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Entry(EntryKind),
    /// term = term, index = commit, data = vote.
    HardState,
    /// Entries above `index` are gone.
    Truncate,
    /// Entries up to `index` are in segments; data = the segment they went to.
    Drained,
    /// Segments below `index` are removed.
    Trimmed,
    /// The log was replaced by a snapshot; data = what it is now.
    Reset,
    /// The partition was deleted on this node.
    Dropped,
}

impl FrameKind {
    fn to_byte(self) -> u8 {
        match self {
            FrameKind::Entry(kind) => kind as u8,
            FrameKind::HardState => 16,
            FrameKind::Truncate => 17,
            FrameKind::Drained => 18,
            FrameKind::Trimmed => 19,
            FrameKind::Reset => 20,
            FrameKind::Dropped => 21,
        }
    }

    fn from_byte(byte: u8) -> Option<FrameKind> {
        Some(match byte {
            1 => FrameKind::Entry(EntryKind::Batch),
            2 => FrameKind::Entry(EntryKind::NoOp),
            3 => FrameKind::Entry(EntryKind::Membership),
            4 => FrameKind::Entry(EntryKind::LogStart),
            5 => FrameKind::Entry(EntryKind::Command),
            16 => FrameKind::HardState,
            17 => FrameKind::Truncate,
            18 => FrameKind::Drained,
            19 => FrameKind::Trimmed,
            20 => FrameKind::Reset,
            21 => FrameKind::Dropped,
            _ => return None,
        })
    }
}

/// The first frame of a partition in this journal: before it the journal knows nothing of it.
pub(crate) const FLAG_FIRST: u32 = 1;
/// The data is a [`Reference`](crate::format::frame::Reference): the entry lies in a segment.
pub(crate) const FLAG_REFERENCE: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub kind: FrameKind,
    pub flags: u32,
    pub id: PartitionId,
    pub term: u64,
    pub index: u64,
    pub base_offset: i64,
    pub offset_count: u32,
    pub max_timestamp: i64,
    pub epoch: u64,
    pub chain: u64,
    pub data_length: u32,
    pub data_crc: u32,
}

/// Header, data and padding of a frame with `data_length` bytes of data.
pub(crate) fn frame_bytes(data_length: usize) -> usize {
    FRAME_HEADER_BYTES + data_length.next_multiple_of(8)
}

impl FrameHeader {
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut b = [0u8; FRAME_HEADER_BYTES];
        b[0..2].copy_from_slice(&MAGIC);
        b[2] = VERSION;
        b[3] = self.kind.to_byte();
        b[8..12].copy_from_slice(&self.data_crc.to_le_bytes());
        b[12..16].copy_from_slice(&self.data_length.to_le_bytes());
        b[16..32].copy_from_slice(&self.id.topic.to_le_bytes());
        b[32..36].copy_from_slice(&self.id.partition.to_le_bytes());
        b[36..40].copy_from_slice(&self.flags.to_le_bytes());
        b[40..48].copy_from_slice(&self.term.to_le_bytes());
        b[48..56].copy_from_slice(&self.index.to_le_bytes());
        b[56..64].copy_from_slice(&self.base_offset.to_le_bytes());
        b[64..68].copy_from_slice(&self.offset_count.to_le_bytes());
        b[72..80].copy_from_slice(&self.max_timestamp.to_le_bytes());
        b[80..88].copy_from_slice(&self.epoch.to_le_bytes());
        b[88..96].copy_from_slice(&self.chain.to_le_bytes());
        let crc = header_crc(&b);
        b[4..8].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// The header at the start of `bytes`, if one with a good checksum is there.
    pub fn decode(bytes: &[u8]) -> Option<FrameHeader> {
        let b: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
        if b[0..2] != MAGIC || b[2] != VERSION || get_u32(b, 4) != header_crc(b) {
            return None;
        }
        Some(FrameHeader {
            kind: FrameKind::from_byte(b[3])?,
            flags: get_u32(b, 36),
            id: PartitionId {
                topic: u128::from_le_bytes(b[16..32].try_into().expect("sixteen bytes")),
                partition: get_u32(b, 32),
            },
            term: get_u64(b, 40),
            index: get_u64(b, 48),
            base_offset: get_u64(b, 56) as i64,
            offset_count: get_u32(b, 64),
            max_timestamp: get_u64(b, 72) as i64,
            epoch: get_u64(b, 80),
            chain: get_u64(b, 88),
            data_length: get_u32(b, 12),
            data_crc: get_u32(b, 8),
        })
    }

    /// Header, data and padding, in bytes.
    pub fn frame_bytes(&self) -> usize {
        frame_bytes(self.data_length as usize)
    }
}

fn header_crc(b: &[u8; FRAME_HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&b[0..4]), &b[8..])
}

/// Where the data of an entry lies that went straight to its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Base index of the segment file.
    pub base_index: u64,
    /// Generation of the segment file.
    pub generation: u64,
    /// Position of the frame header in the file.
    pub position: u64,
    /// Data length and checksum, as in the frame there.
    pub length: u32,
    pub crc: u32,
}

pub(crate) const REFERENCE_BYTES: usize = 32;

impl Reference {
    pub fn encode(&self) -> [u8; REFERENCE_BYTES] {
        let mut b = [0u8; REFERENCE_BYTES];
        b[0..8].copy_from_slice(&self.base_index.to_le_bytes());
        b[8..16].copy_from_slice(&self.generation.to_le_bytes());
        b[16..24].copy_from_slice(&self.position.to_le_bytes());
        b[24..28].copy_from_slice(&self.length.to_le_bytes());
        b[28..32].copy_from_slice(&self.crc.to_le_bytes());
        b
    }

    pub fn decode(b: &[u8]) -> Option<Reference> {
        if b.len() != REFERENCE_BYTES {
            return None;
        }
        Some(Reference {
            base_index: get_u64(b, 0),
            generation: get_u64(b, 8),
            position: get_u64(b, 16),
            length: get_u32(b, 24),
            crc: get_u32(b, 28),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Entry(EntryKind::Batch),
            flags: FLAG_FIRST,
            id: PartitionId {
                topic: 1 << 100 | 7,
                partition: 3,
            },
            term: 4,
            index: 5,
            base_offset: 6,
            offset_count: 7,
            max_timestamp: -8,
            epoch: 9,
            chain: 10,
            data_length: 11,
            data_crc: 12,
        }
    }

    #[test]
    fn a_header_comes_back_and_every_flipped_bit_is_seen() {
        let bytes = header().encode();
        assert_eq!(FrameHeader::decode(&bytes), Some(header()));
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&bad), None, "bit {bit}");
        }
        assert_eq!(FrameHeader::decode(&bytes[..95]), None);
    }

    #[test]
    fn kinds_come_back() {
        for byte in 0..=255 {
            if let Some(kind) = FrameKind::from_byte(byte) {
                assert_eq!(kind.to_byte(), byte);
            }
        }
    }

    #[test]
    fn a_frame_is_padded_to_eight() {
        assert_eq!(frame_bytes(0), 96);
        assert_eq!(frame_bytes(1), 104);
        assert_eq!(frame_bytes(8), 104);
    }

    #[test]
    fn a_reference_comes_back() {
        let r = Reference {
            base_index: 1,
            generation: 2,
            position: 3,
            length: 4,
            crc: 5,
        };
        assert_eq!(Reference::decode(&r.encode()), Some(r));
        assert_eq!(Reference::decode(&r.encode()[1..]), None);
    }
}
