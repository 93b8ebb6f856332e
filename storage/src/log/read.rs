//! Batches by offset, for consumers.

use std::rc::Rc;

use bytes::Bytes;
use runtime::Disk;

use super::reader::{SegmentReader, end_offset};
use super::segment::Segment;
use super::{EntryKind, Log};
use crate::cache::SegmentCache;
use crate::error::ReadError;
use crate::format::frame::FrameKind;
use crate::partition::PartitionId;

/// Where batches come from. Each [`Bytes`] is one whole record batch.
#[derive(Debug)]
pub enum ReadPlan {
    /// Read already. Empty when there is nothing at that offset yet.
    Memory(Vec<Bytes>),
    Disk(ReadJob),
    /// Below the log start offset or beyond the end.
    OutOfRange,
}

/// What may be returned.
#[derive(Debug, Clone, Copy)]
struct Want {
    offset: i64,
    max_bytes: usize,
    end_offset: i64,
    min_one: bool,
}

impl Want {
    /// Whether a batch of `bytes` ending at `end` may be added to what was taken.
    fn admits(&self, taken: &[Bytes], taken_bytes: usize, bytes: usize, end: i64) -> bool {
        let obligatory = self.min_one && taken.is_empty();
        end <= self.end_offset && (obligatory || taken_bytes + bytes <= self.max_bytes)
    }
}

impl Log {
    /// Batches from the one that contains `offset` on, whole, up to `max_bytes`; with `min_one`
    /// the first one is returned however large it is. Nothing at or above `end_offset` (high
    /// watermark or last stable offset) is returned.
    ///
    /// A job reads segments only and may return less than there is; the tail is a read of its
    /// own.
    pub fn read(&self, offset: i64, max_bytes: usize, end_offset: i64, min_one: bool) -> ReadPlan {
        if offset < self.log_start_offset || offset > self.next_offset {
            return ReadPlan::OutOfRange;
        }
        if offset >= end_offset {
            return ReadPlan::Memory(Vec::new());
        }
        let want = Want {
            offset,
            max_bytes,
            end_offset,
            min_one,
        };
        if offset >= self.tail.start_offset(self.next_offset) {
            self.cache.counters.add(|s| s.tail_reads += 1);
            return ReadPlan::Memory(self.read_tail(&want));
        }
        self.cache.counters.add(|s| s.disk_reads += 1);
        let from = self.segments.partition_point(|s| s.end_offset <= offset);
        let until = self
            .segments
            .partition_point(|s| s.base_offset < end_offset);
        let mut bytes = 0;
        let segments = self.segments[from..until.max(from)].iter().take_while(|s| {
            let wanted = bytes <= max_bytes as u64;
            bytes += s.size;
            wanted
        });
        // The first one may be read from its middle: one more, so that it does not end short.
        let count = segments.count() + 1;
        let segments = self.segments[from..].iter().take(count).copied().collect();
        ReadPlan::Disk(ReadJob {
            cache: Rc::clone(&self.cache),
            id: self.id,
            segments,
            want,
        })
    }

    fn read_tail(&self, want: &Want) -> Vec<Bytes> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        for (_, entry) in self.tail.from(self.tail.find_offset(want.offset)) {
            if entry.kind != EntryKind::Batch {
                continue;
            }
            if !want.admits(&batches, bytes, entry.data.len(), entry.end_offset()) {
                break;
            }
            bytes += entry.data.len();
            batches.push(entry.data.clone());
        }
        batches
    }
}

/// Reads batches from segments.
#[derive(Debug)]
pub struct ReadJob {
    cache: Rc<SegmentCache>,
    id: PartitionId,
    segments: Vec<Segment>,
    want: Want,
}

impl ReadJob {
    pub async fn run(self, disk: &Disk) -> Result<Vec<Bytes>, ReadError> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        for segment in &self.segments {
            let reader = SegmentReader::new(&self.cache, disk, self.id, *segment);
            reader.expect(self.want.max_bytes.saturating_sub(bytes));
            let mut at = reader.position_of_offset(self.want.offset).await?;
            while let Some(frame) = reader.frame_at(at).await? {
                at = frame.next_position();
                let end = end_offset(&frame.header);
                if end <= self.want.offset
                    || frame.header.kind != FrameKind::Entry(EntryKind::Batch)
                {
                    continue;
                }
                let length = frame.header.data_length as usize;
                if !self.want.admits(&batches, bytes, length, end) {
                    return Ok(batches);
                }
                bytes += length;
                batches.push(reader.data(&frame).await?);
            }
        }
        Ok(batches)
    }
}
