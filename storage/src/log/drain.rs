//! Moving committed entries from the tail into segments: large aligned writes in the background.
//! The segment counts only as far as the journal has been told (the `Drained` marker), so a drain
//! that was cut off by a crash is simply done again, over the same place.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use runtime::{ALIGN, AlignedBuf, Disk, Durability};

use super::Log;
use super::index::{self, SegmentIndex};
use super::reader::SegmentReader;
use super::segment::{Segment, SegmentFile, partition_directory};
use super::tail::TailEntry;
use crate::cache::SegmentCache;
use crate::error::ReadError;
use crate::partition::{PartitionId, mix};

/// One job writes about this much: more would hold up the core while it is copied.
const JOB_BYTES_MAX: u64 = 1 << 20;
/// A segment closes here at the latest, since its index counts positions in 32 bits.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 3 << 30;

impl Log {
    /// Bytes of entries that are in no segment yet, as frames.
    pub fn undrained_bytes(&self) -> u64 {
        self.undrained_bytes
    }

    /// The next portion of committed entries to be written to a segment. Without `force` only
    /// when it is worth a write. `None` also while another job of this log is under way.
    pub fn begin_drain(&mut self, now_wall_ms: i64, force: bool) -> Option<DrainJob> {
        let due = force || self.drain_is_due();
        if !due || self.drained >= self.commit || self.is_busy() {
            return None;
        }
        let first = self
            .tail
            .get(self.drained + 1)
            .expect("undrained entries are in memory");
        let placed = first.place;
        let durable = self.cache.durable_sequence.get();
        if placed.is_some() && first.sequence > durable {
            return None; // It is on its way to the segment.
        }
        let mut segment = match placed {
            Some(place) => *self
                .segments
                .iter()
                .find(|s| s.generation == place.generation)
                .expect("a placed entry has its segment"),
            None => self.drain_target(first, now_wall_ms),
        };
        let create = self
            .segments
            .iter()
            .all(|s| s.generation != segment.generation);
        let mut entries = Vec::new();
        let mut bytes = 0;
        let limit = segment_bytes(&self.config);
        let undrained = (self.commit - self.drained) as usize;
        for (index, entry) in self.tail.from(self.drained + 1).take(undrained) {
            let same = entry.place.map(|p| p.generation) == placed.map(|p| p.generation);
            if !same || (placed.is_some() && entry.sequence > durable) {
                break;
            }
            let more = entry.frame_bytes();
            let full = bytes + more > JOB_BYTES_MAX
                || (placed.is_none() && segment.append_position() + bytes + more > limit);
            if full && !entries.is_empty() {
                break;
            }
            bytes += more;
            entries.push((index, entry.clone()));
        }
        if segment.created_ms == 0 {
            segment.created_ms = now_wall_ms;
        }
        Some(DrainJob {
            cache: Rc::clone(&self.cache),
            id: self.id,
            incarnation: self.incarnation,
            segment,
            create,
            create_directory: self.segments.is_empty(),
            index_interval_bytes: index::interval_bytes(&self.config),
            entries,
            busy: Rc::clone(&self.busy),
        })
    }

    /// Nothing more goes to this segment. What lies in it and is not drained is written once more, to the next one.
    pub(crate) fn close_segment(&mut self, generation: u64) {
        let mut segments = self.segments.iter_mut();
        if let Some(segment) = segments.find(|s| s.generation == generation) {
            segment.closed = true;
        }
        for index in self.drained + 1..=self.last_index() {
            let entry = self.tail.get_mut(index);
            let entry = entry.expect("undrained entries are in memory");
            entry.place = entry.place.filter(|place| place.generation != generation);
        }
    }

    /// The segment that takes `first`: the newest one, or a new one if that is full or old.
    fn drain_target(&self, first: &TailEntry, now_wall_ms: i64) -> Segment {
        if let Some(newest) = self.segments.last() {
            let more = first.frame_bytes();
            let fits = newest.append_position() + more <= segment_bytes(&self.config);
            let age = now_wall_ms.saturating_sub(newest.created_ms);
            let jitter = match self.config.segment_jitter_ms {
                ..=0 => 0,
                limit => {
                    (mix(self.id.topic as u64 ^ newest.created_ms as u64) % limit as u64) as i64
                }
            };
            let young = age <= self.config.segment_ms.saturating_sub(jitter);
            if !newest.closed && (newest.size == 0 || (fits && young)) {
                return *newest;
            }
        }
        Segment::new(
            self.drained + 1,
            self.next_generation,
            first.base_offset,
            now_wall_ms,
        )
    }
}

fn segment_bytes(config: &crate::LogConfig) -> u64 {
    config.segment_bytes.min(SEGMENT_BYTES_MAX)
}

/// Writes entries to a segment.
#[derive(Debug)]
pub struct DrainJob {
    cache: Rc<SegmentCache>,
    id: PartitionId,
    incarnation: u32,
    segment: Segment,
    create: bool,
    /// The partition has no segment yet, so perhaps no directory.
    create_directory: bool,
    index_interval_bytes: u64,
    entries: Vec<(u64, TailEntry)>,
    busy: Rc<()>,
}

/// The outcome of a [`DrainJob`].
#[derive(Debug)]
pub struct DrainDone {
    pub(crate) id: PartitionId,
    pub(crate) incarnation: u32,
    /// The segment as it is with the new entries.
    pub(crate) segment: Segment,
    pub(crate) entries: u64,
    pub(crate) result: io::Result<()>,
    /// Until the outcome is taken in, nothing else may write to the same files.
    _busy: Rc<()>,
}

impl DrainDone {
    pub fn id(&self) -> PartitionId {
        self.id
    }
}

/// The entries of a drain as they lie in the segment.
struct Layout {
    /// What is written, and where; nothing if it is there already.
    write: Option<(u64, Bytes)>,
    /// Position of each entry's frame.
    positions: Vec<u64>,
    segment: Segment,
}

impl DrainJob {
    pub async fn run(self, disk: &Disk) -> DrainDone {
        let layout = self.lay_out();
        let result = self.write(disk, &layout).await;
        self.cache.look_at_space().await;
        DrainDone {
            id: self.id,
            incarnation: self.incarnation,
            segment: layout.segment,
            entries: self.entries.len() as u64,
            result,
            _busy: self.busy,
        }
    }

    fn lay_out(&self) -> Layout {
        let mut segment = self.segment;
        let placed = self.entries.iter().all(|(_, e)| e.place.is_some());
        let start = segment.append_position();
        let bytes: usize = self
            .entries
            .iter()
            .map(|(_, e)| e.frame_bytes() as usize)
            .sum();
        let mut buffer = AlignedBuf::with_capacity(if placed { 0 } else { bytes + ALIGN });
        let mut positions = Vec::with_capacity(self.entries.len());
        for (index, entry) in &self.entries {
            let position = match entry.place {
                Some(place) => place.position,
                None => {
                    let position = start + buffer.len() as u64;
                    let frame = entry.segment_frame(self.id, *index, segment.generation);
                    buffer.extend_from_slice(&frame.encode());
                    buffer.extend_from_slice(&entry.data);
                    buffer.pad_to(8);
                    position
                }
            };
            positions.push(position);
            segment.push(
                *index,
                entry.base_offset,
                entry.end_offset(),
                entry.max_timestamp,
            );
            segment.size = position + entry.frame_bytes();
        }
        buffer.pad_to(ALIGN);
        let write = (!placed).then(|| (start, buffer.freeze()));
        Layout {
            write,
            positions,
            segment,
        }
    }

    async fn write(&self, disk: &Disk, layout: &Layout) -> io::Result<()> {
        let index = self.index(disk).await?;
        let directory = partition_directory(self.cache.data(), self.id);
        if self.create_directory {
            create_directory(disk, self.cache.data(), &directory).await?;
        }
        if let Some((position, bytes)) = &layout.write {
            let frames = SegmentFile::Frames;
            let file = self
                .cache
                .open(disk, self.id, &self.segment, frames, self.create)
                .await?;
            self.cache
                .counters
                .add(|s| s.segment_bytes += bytes.len() as u64);
            file.write_at(bytes.clone(), *position, Durability::Synced)
                .await?;
        }
        if self.create {
            disk.sync_dir(&directory).await?;
        }
        let interval = self.index_interval_bytes;
        for ((i, entry), position) in self.entries.iter().zip(&layout.positions) {
            index.borrow_mut().note(
                *position,
                *i,
                entry.base_offset,
                entry.max_timestamp,
                interval,
            );
        }
        self.cache
            .keep_index(self.id, self.segment.generation, Rc::clone(&index));
        if let Err(error) = self.write_index(disk, &index).await {
            // The index is made from the frames again when it is needed.
            tracing::warn!(partition = %self.id, %error, "segment index not written");
        }
        Ok(())
    }

    async fn index(&self, disk: &Disk) -> io::Result<Rc<RefCell<SegmentIndex>>> {
        if self.create || self.segment.size == 0 {
            self.cache.forget_segment(self.id, self.segment.generation);
            return Ok(Rc::new(RefCell::new(SegmentIndex::default())));
        }
        let reader = SegmentReader::new(&self.cache, disk, self.id, self.segment);
        reader.index().await.map_err(|error| match error {
            ReadError::Io(error) => error,
            damaged => io::Error::new(io::ErrorKind::InvalidData, damaged.to_string()),
        })
    }

    async fn write_index(&self, disk: &Disk, index: &RefCell<SegmentIndex>) -> io::Result<()> {
        let generation = self.segment.generation;
        let ((position, bytes), entries) = {
            let index = index.borrow();
            (index.unwritten(generation), index.len())
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let file = self
            .cache
            .open(disk, self.id, &self.segment, SegmentFile::Index, true)
            .await?;
        file.write_at(Bytes::from(bytes), position, Durability::Volatile)
            .await?;
        index.borrow_mut().set_written(entries);
        Ok(())
    }
}

/// Creates the directory of a partition, durably. Every name on the way is synced, not only those
/// that are made here: another partition's job may have made one and not synced it yet.
pub(crate) async fn create_directory(disk: &Disk, data: &Path, directory: &Path) -> io::Result<()> {
    disk.create_dir_all(directory).await?;
    let parents = directory
        .ancestors()
        .skip(1)
        .take_while(|parent| parent.starts_with(data));
    for parent in parents {
        disk.sync_dir(parent).await?;
    }
    Ok(())
}
