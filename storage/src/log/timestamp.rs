//! Batches by time, for ListOffsets (KIP-33, KIP-734).

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

/// Where the batch comes from.
#[derive(Debug)]
pub enum TimestampPlan {
    /// The first batch from the offset on that holds a record at or after the time, if any.
    Memory(Option<Bytes>),
    Disk(TimestampJob),
}

impl Log {
    /// The first batch that ends above `from_offset` (taken as at least the log start offset) and
    /// whose largest timestamp is at or after `timestamp`. The caller looks into its records, and
    /// at the high watermark.
    pub fn find_by_timestamp(&self, timestamp: i64, from_offset: i64) -> TimestampPlan {
        let from_offset = from_offset.max(self.log_start_offset);
        let tail_start = self.tail.start_offset(self.next_offset);
        let candidate = self.segments.iter().find(|s| {
            s.end_offset > from_offset && s.base_offset < tail_start && s.max_timestamp >= timestamp
        });
        if let Some(segment) = candidate {
            return TimestampPlan::Disk(TimestampJob {
                cache: Rc::clone(&self.cache),
                id: self.id,
                segment: *segment,
                timestamp,
                from_offset,
            });
        }
        let first = self.tail.find_offset(from_offset);
        let found = self
            .tail
            .from(first)
            .find(|(_, e)| e.kind == EntryKind::Batch && e.max_timestamp >= timestamp);
        TimestampPlan::Memory(found.map(|(_, e)| e.data.clone()))
    }

    /// The largest timestamp at or above the log start, and the base offset of its batch.
    pub fn max_timestamp(&self) -> Option<(i64, i64)> {
        let sealed = self
            .segments
            .iter()
            .filter(|s| s.end_offset > self.log_start_offset && s.max_timestamp != i64::MIN)
            .map(|s| (s.max_timestamp, s.max_timestamp_offset));
        let recent = self
            .tail
            .from(self.drained + 1)
            .filter(|(_, e)| e.max_timestamp >= 0 && e.end_offset() > self.log_start_offset)
            .map(|(_, e)| (e.max_timestamp, e.base_offset));
        // Of equal timestamps the earliest offset wins, as in Kafka.
        sealed
            .chain(recent)
            .max_by_key(|&(timestamp, offset)| (timestamp, -offset))
    }
}

/// Looks for a batch in one segment.
#[derive(Debug)]
pub struct TimestampJob {
    cache: Rc<SegmentCache>,
    id: PartitionId,
    segment: Segment,
    timestamp: i64,
    from_offset: i64,
}

/// What the search of one segment found.
#[derive(Debug)]
pub enum TimestampFound {
    Batch(Bytes),
    /// Not here: ask the log again from this offset.
    SearchFrom(i64),
}

impl TimestampJob {
    pub async fn run(self, disk: &Disk) -> Result<TimestampFound, ReadError> {
        let reader = SegmentReader::new(&self.cache, disk, self.id, self.segment);
        let mut at = reader
            .position_of_timestamp(self.timestamp, self.from_offset)
            .await?;
        while let Some(frame) = reader.frame_at(at).await? {
            at = frame.next_position();
            if frame.header.kind == FrameKind::Entry(EntryKind::Batch)
                && end_offset(&frame.header) > self.from_offset
                && frame.header.max_timestamp >= self.timestamp
            {
                return Ok(TimestampFound::Batch(reader.data(&frame).await?));
            }
        }
        Ok(TimestampFound::SearchFrom(self.segment.end_offset))
    }
}
