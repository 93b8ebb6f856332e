//! What may go: segments that lie wholly below the log start offset, and where the leader should
//! move that offset by `retention.ms` and `retention.bytes`. Time and size decide on the leader
//! only; it proposes a LogStart entry, and each replica removes files when that is committed.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use runtime::Disk;

use super::segment::{Segment, SegmentFile, partition_directory, segment_path};
use super::{Log, Retired};
use crate::cache::SegmentCache;
use crate::partition::PartitionId;

impl Log {
    /// The log start offset that the topic's retention asks for at this wall clock (Unix ms);
    /// `None` when nothing has to go.
    pub fn retention_candidate(&self, now_wall_ms: i64) -> Option<i64> {
        // A segment that is still empty holds what is not drained.
        let filled = self.segments.iter().take_while(|s| s.size > 0).count();
        let last = filled.checked_sub(1)?;
        let mut excess_bytes = match self.config.retention_bytes {
            limit if limit < 0 => i64::MIN,
            limit => self.size_bytes() as i64 - limit,
        };
        let mut start = self.log_start_offset;
        for (i, segment) in self.segments[..filled].iter().enumerate() {
            // The newest segment goes only when nothing is behind it, and by time only.
            let newest = i == last;
            if newest && self.drained != self.last_index() {
                break;
            }
            let newest_ms = if segment.max_timestamp >= 0 {
                segment.max_timestamp
            } else {
                segment.created_ms
            };
            let expired = self.config.retention_ms >= 0
                && now_wall_ms.saturating_sub(newest_ms) > self.config.retention_ms;
            let oversize = !newest && excess_bytes >= segment.size as i64;
            if !expired && !oversize {
                break;
            }
            excess_bytes = excess_bytes.saturating_sub(segment.size as i64);
            start = start.max(segment.end_offset);
        }
        (start > self.log_start_offset).then_some(start)
    }

    /// The first index to keep so that no segment goes that reaches above `offset`.
    pub fn kept_above(&self, offset: i64) -> u64 {
        let below = self.segments.iter().take_while(|s| s.end_offset <= offset);
        below.last().map_or(self.first_index, |s| s.last_index + 1)
    }

    /// Whether segments can go if entries from `keep_index` on are kept.
    pub fn can_trim(&self, keep_index: u64) -> bool {
        self.trim_target(keep_index).is_some()
    }

    /// The first index that is to be kept, if segments can go: those wholly below the log start
    /// offset whose entries are applied and below `keep_index` (what the slowest follower needs).
    pub(crate) fn trim_target(&self, keep_index: u64) -> Option<u64> {
        if self.is_busy() {
            return None;
        }
        let keep_index = keep_index.min(self.applied + 1);
        let placed = self.tail.get(self.drained + 1).and_then(|e| e.place);
        let goes = |s: &&Segment| {
            s.end_offset <= self.log_start_offset
                && s.last_index < keep_index
                && placed.is_none_or(|p| p.generation != s.generation)
        };
        self.segments
            .iter()
            .take_while(goes)
            .last()
            .map(|s| s.last_index + 1)
    }

    /// Entries below `first_index` cannot be had any more; whole segments of them are retired.
    pub(crate) fn trim_to(&mut self, first_index: u64, turn: u64) {
        self.first_index = self.first_index.max(first_index);
        self.terms.trim_below(self.first_index - 1);
        let first_index = self.first_index;
        self.tail.evict(|index, _| index < first_index);
        let gone = self
            .segments
            .partition_point(|s| s.last_index < first_index);
        // A segment that is still empty has no entry to lose.
        let gone = self.segments[..gone]
            .iter()
            .take_while(|s| s.size > 0)
            .count();
        for Segment {
            base_index,
            generation,
            end_offset,
            ..
        } in self.segments.drain(..gone)
        {
            // After a restart the entry that moved the log start may not be known as committed.
            self.log_start_offset = self.log_start_offset.max(end_offset);
            self.retired.push(Retired {
                base_index,
                generation,
                turn,
            });
        }
    }

    /// Removes the retired files whose turn is durable.
    pub(crate) fn begin_removal(&mut self, durable_turn: u64) -> Option<RemovalJob> {
        let due = self.retired.iter().filter(|r| r.turn <= durable_turn);
        let files: Vec<(u64, u64)> = due.map(|r| (r.base_index, r.generation)).collect();
        if files.is_empty() || self.is_busy() {
            return None;
        }
        Some(RemovalJob {
            cache: Rc::clone(&self.cache),
            id: self.id,
            files,
            busy: Rc::clone(&self.busy),
        })
    }

    pub(crate) fn end_removal(&mut self, files: &[(u64, u64)]) {
        self.retired
            .retain(|r| !files.contains(&(r.base_index, r.generation)));
    }

    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation
    }
}

/// Removes files of one partition.
#[derive(Debug)]
pub struct RemovalJob {
    cache: Rc<SegmentCache>,
    id: PartitionId,
    files: Vec<(u64, u64)>,
    busy: Rc<()>,
}

/// The outcome of a [`RemovalJob`].
#[derive(Debug)]
pub struct RemovalDone {
    pub(crate) id: PartitionId,
    pub(crate) files: Vec<(u64, u64)>,
    pub(crate) result: io::Result<()>,
    /// Until the outcome is taken in, nothing else may write to the same files.
    _busy: Rc<()>,
}

impl RemovalDone {
    pub fn id(&self) -> PartitionId {
        self.id
    }
}

impl RemovalJob {
    pub async fn run(self, disk: &Disk) -> RemovalDone {
        let result = self.remove(disk).await;
        RemovalDone {
            id: self.id,
            files: self.files,
            result,
            _busy: self.busy,
        }
    }

    async fn remove(&self, disk: &Disk) -> io::Result<()> {
        let directory = partition_directory(self.cache.data(), self.id);
        for &(base_index, generation) in &self.files {
            self.cache.forget_segment(self.id, generation);
            for file in [SegmentFile::Frames, SegmentFile::Index] {
                let path: PathBuf = segment_path(&directory, base_index, generation, file);
                match disk.remove_file(&path).await {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        match disk.sync_dir(&directory).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}
