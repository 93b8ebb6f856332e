//! Entries by index, for raft and for those who replay.

use std::rc::Rc;

use runtime::Disk;

use super::reader::SegmentReader;
use super::segment::Segment;
use super::{Entry, Log};
use crate::cache::SegmentCache;
use crate::error::{EntriesMissing, ReadError};
use crate::format::frame::FrameKind;
use crate::partition::PartitionId;

/// Where entries come from.
#[derive(Debug)]
pub enum EntriesPlan {
    Memory(Vec<Entry>),
    Disk(EntriesJob),
    /// They were removed: the follower needs a snapshot.
    Compacted,
}

impl Log {
    /// The entries of `low..high` from memory, as many as fit into `max_bytes` of data but at
    /// least one. Everything above the commit index, and above the applied one, is in memory.
    pub fn entries(
        &self,
        low: u64,
        high: u64,
        max_bytes: u64,
    ) -> Result<Vec<Entry>, EntriesMissing> {
        assert!(
            high <= self.last_index() + 1,
            "{}: high {high} of {}",
            self.id,
            self.last_index()
        );
        if low < self.first_index {
            return Err(EntriesMissing::Compacted);
        }
        if low < self.tail.first() {
            return Err(EntriesMissing::OnDisk);
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        for (index, entry) in self.tail.from(low).take_while(|(i, _)| *i < high) {
            bytes += entry.data.len() as u64;
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(entry.entry(index));
        }
        Ok(found)
    }

    /// As [`entries`](Self::entries), from segments where need be. A job may end early at the end
    /// of the segments; what it returns is never empty when `low < high`.
    pub fn plan_entries(&self, low: u64, high: u64, max_bytes: u64) -> EntriesPlan {
        match self.entries(low, high, max_bytes) {
            Ok(entries) => EntriesPlan::Memory(entries),
            Err(EntriesMissing::Compacted) => EntriesPlan::Compacted,
            Err(EntriesMissing::OnDisk) => {
                let from = self.segments.partition_point(|s| s.last_index < low);
                let segments = self.segments[from..]
                    .iter()
                    .take_while(|s| s.base_index < high);
                EntriesPlan::Disk(EntriesJob {
                    cache: Rc::clone(&self.cache),
                    id: self.id,
                    segments: segments.copied().collect(),
                    low,
                    high,
                    max_bytes,
                })
            }
        }
    }
}

/// Reads entries from segments.
#[derive(Debug)]
pub struct EntriesJob {
    cache: Rc<SegmentCache>,
    id: PartitionId,
    segments: Vec<Segment>,
    low: u64,
    high: u64,
    max_bytes: u64,
}

impl EntriesJob {
    pub async fn run(self, disk: &Disk) -> Result<Vec<Entry>, ReadError> {
        let mut found: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut next = self.low;
        for segment in &self.segments {
            let reader = SegmentReader::new(&self.cache, disk, self.id, *segment);
            let mut at = reader.position_of_index(next).await?;
            while let Some(frame) = reader.frame_at(at).await? {
                at = frame.next_position();
                let FrameKind::Entry(kind) = frame.header.kind else {
                    return Err(reader.damaged(frame.position, "a marker in a segment"));
                };
                if frame.header.index < next {
                    continue;
                }
                if frame.header.index != next {
                    return Err(reader.damaged(frame.position, "an index is missing"));
                }
                bytes += u64::from(frame.header.data_length);
                if next >= self.high || (bytes > self.max_bytes && !found.is_empty()) {
                    return Ok(found);
                }
                found.push(Entry {
                    term: frame.header.term,
                    index: next,
                    kind,
                    base_offset: frame.header.base_offset,
                    offset_count: frame.header.offset_count,
                    max_timestamp: frame.header.max_timestamp,
                    data: reader.data(&frame).await?,
                });
                next += 1;
            }
        }
        Ok(found)
    }
}
