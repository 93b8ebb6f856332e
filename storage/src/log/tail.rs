//! The newest entries of a log, in memory: all that are not in segments yet, and those before
//! them for as long as there is room, so that readers of the tail never touch the disk.

use bytes::Bytes;

use super::Entry;
use super::chunked::Chunked;
use crate::format::frame::{EntryKind, FrameHeader, FrameKind, frame_bytes};
use crate::partition::PartitionId;

/// What an entry costs in memory besides its data: the bookkeeping here and the slice's own.
pub(crate) const ENTRY_OVERHEAD_BYTES: u64 = 192;

/// One entry in memory; its index follows from its place.
#[derive(Debug, Clone)]
pub(crate) struct TailEntry {
    pub term: u64,
    pub base_offset: i64,
    pub max_timestamp: i64,
    pub offset_count: u32,
    pub data_crc: u32,
    /// The length of `data`, also while recovery has not read it yet.
    pub data_length: u32,
    pub kind: EntryKind,
    /// The journal block that holds it.
    pub sequence: u64,
    /// The buffer that `data` is a slice of; 0 when the entry has memory of its own.
    pub buffer: u64,
    /// Where it already lies in a segment, if it went there directly.
    pub place: Option<Place>,
    pub data: Bytes,
}

/// A frame in a segment that the log does not count as drained yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub generation: u64,
    pub position: u64,
}

impl TailEntry {
    pub fn end_offset(&self) -> i64 {
        self.base_offset + i64::from(self.offset_count)
    }

    pub fn cost(&self) -> u64 {
        u64::from(self.data_length) + ENTRY_OVERHEAD_BYTES
    }

    /// Header, data and padding in a segment.
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.data_length as usize) as u64
    }

    /// Whether the data is still to be read from the segment.
    pub fn is_hollow(&self) -> bool {
        self.data.len() != self.data_length as usize
    }

    pub fn entry(&self, index: u64) -> Entry {
        Entry {
            term: self.term,
            index,
            kind: self.kind,
            base_offset: self.base_offset,
            offset_count: self.offset_count,
            max_timestamp: self.max_timestamp,
            data: self.data.clone(),
        }
    }

    /// The frame of this entry in the segment of that generation.
    pub fn segment_frame(&self, id: PartitionId, index: u64, generation: u64) -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Entry(self.kind),
            flags: 0,
            id,
            term: self.term,
            index,
            base_offset: self.base_offset,
            offset_count: self.offset_count,
            max_timestamp: self.max_timestamp,
            epoch: generation,
            chain: 0,
            data_length: self.data_length,
            data_crc: self.data_crc,
        }
    }
}

/// A contiguous run of entries that ends with the log's last one.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    first: u64,
    entries: Chunked<TailEntry>,
    bytes: u64,
}

impl Tail {
    /// Empty; the next entry has the index `next`.
    pub fn new(next: u64) -> Tail {
        Tail {
            first: next,
            entries: Chunked::default(),
            bytes: 0,
        }
    }

    /// Index of the first entry here, or of the next one if there is none.
    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    /// Memory that the entries account for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn get(&self, index: u64) -> Option<&TailEntry> {
        self.entries
            .get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    pub fn get_mut(&mut self, index: u64) -> Option<&mut TailEntry> {
        self.entries
            .get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    pub fn push(&mut self, entry: TailEntry) {
        self.bytes += entry.cost();
        self.entries.push_back(entry);
    }

    /// Forgets the entries above `index`.
    pub fn truncate_to(&mut self, index: u64) {
        while self.last() > index && !self.entries.is_empty() {
            let gone = self.entries.pop_back().expect("not empty");
            self.bytes -= gone.cost();
        }
    }

    /// Drops entries from the front while `may_go` says so.
    pub fn evict(&mut self, mut may_go: impl FnMut(u64, &TailEntry) -> bool) {
        while let Some(front) = self.entries.front() {
            if !may_go(self.first, front) {
                break;
            }
            self.bytes -= front.cost();
            self.first += 1;
            self.entries.pop_front();
        }
    }

    /// Copies out of the buffers below `buffer` what still lies in them, so that one small entry
    /// does not hold a whole buffer.
    pub fn detach_below(&mut self, buffer: u64) {
        // Buffers are used in their order, all but: what a straggler holds goes with the next look.
        for entry in self.entries.iter_mut().take_while(|e| e.buffer < buffer) {
            if entry.buffer > 0 {
                entry.data = Bytes::copy_from_slice(&entry.data);
                entry.buffer = 0;
            }
        }
    }

    /// Entries from `low` on with their indexes.
    pub fn from(&self, low: u64) -> impl Iterator<Item = (u64, &TailEntry)> {
        let skip = usize::try_from(low.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let skip = skip.min(self.entries.len());
        let first = self.first + skip as u64;
        self.entries
            .iter_from(skip)
            .enumerate()
            .map(move |(i, e)| (first + i as u64, e))
    }

    /// Index of the first entry whose offsets end above `offset`.
    pub fn find_offset(&self, offset: i64) -> u64 {
        self.first + self.entries.partition_point(|e| e.end_offset() <= offset) as u64
    }

    /// The smallest offset that can be read from here; `next_offset` if there is nothing.
    pub fn start_offset(&self, next_offset: i64) -> i64 {
        self.entries.front().map_or(next_offset, |e| e.base_offset)
    }
}
