//! Bulk: what a partition brings in large amounts goes straight to its segment, synced before the
//! journal block that refers to it. It is written once instead of twice.
//!
//! Entries must lie in a segment in the order of their indexes. So when a log begins to go direct,
//! what is staged of it and not in a segment yet is copied along; that is little, or the log does
//! not go direct. Entries that were written but not drained count as *placed*: they are in the
//! segment, the segment does not count them yet (they may still be cut), and a drain of them has
//! nothing to write.
//!
//! The same way is taken by entries that wait for their commit so long that they hold back the
//! journal's old files: a group without a majority must not stop the other partitions of its core.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use runtime::{ALIGN, AppendBuf, Durability};

use super::Journal;
use super::stage::Room;
use crate::cache::SegmentCache;
use crate::error::StageError;
use crate::format::frame::{FRAME_HEADER_BYTES, REFERENCE_BYTES, Reference, frame_bytes};
use crate::format::pages;
use crate::log::Log;
use crate::log::drain::{SEGMENT_BYTES_MAX, create_directory};
use crate::log::segment::{Segment, SegmentFile, partition_directory};
use crate::log::tail::{Place, TailEntry};
use crate::partition::PartitionId;

/// The part of a segment that one turn writes.
pub(super) struct Extent {
    segment: Segment,
    create: bool,
    create_directory: bool,
    /// Buffers in the order of the file, with the position and the number of each.
    buffers: Vec<(u64, u64, AppendBuf)>,
}

/// An extent on its way to the disk.
pub(super) struct ExtentWrite {
    id: PartitionId,
    segment: Segment,
    create: bool,
    create_directory: bool,
    parts: Vec<(u64, Bytes)>,
}

impl Journal {
    /// Tells that a turn will bring about `bytes` of this log, in several entries: if that is
    /// much, they go straight to the segment, as a single large entry does by itself.
    pub fn announce(&mut self, log: &mut Log, entries: usize, bytes: u64) {
        if bytes >= self.options.direct_bytes {
            log.bulk_turn = self.staged_turn();
            log.bulk_bytes = bytes + (entries * frame_bytes(0)) as u64;
        }
    }

    /// Whether an entry of `bytes` should go straight to the segment, and can.
    pub(super) fn goes_direct(&self, log: &Log, index: u64, bytes: usize) -> bool {
        let bulk = log.bulk_turn == self.staged_turn() || bytes as u64 >= self.options.direct_bytes;
        bulk && bytes >= ALIGN / 2
            && !log.is_busy()
            && !log.is_fenced()
            // A full disk must not fail a write of the journal.
            && self.cache.space_bytes() > bytes as u64 + self.options.direct_space_bytes
            && log.unplaced_bytes(index) <= 2 * self.options.direct_bytes
    }

    /// Brings what is undrained of a log out of the journal's old files: into its segment, as far as
    /// it is in none, with references to all of it at the journal's end. They are a fraction of the
    /// entries, and stay behind as references when their files grow old in turn. Says whether
    /// anything was staged; not if the disk or the journal has no room for it.
    pub(super) fn carry_forward(&mut self, log: &mut Log) -> bool {
        let undrained: Vec<u64> = log.tail.from(log.drained + 1).map(|e| e.0).collect();
        let unplaced = log.unplaced_bytes(u64::MAX);
        let space =
            unplaced == 0 || self.cache.space_bytes() > unplaced + self.options.direct_space_bytes;
        let room = undrained.len() * frame_bytes(REFERENCE_BYTES) + 2 * ALIGN;
        if !space || self.make_room(room, Room::AboveMarkerReserve).is_err() {
            return false;
        }
        for index in undrained {
            let entry = log.tail.get(index).expect("just listed").clone();
            let placed = match entry.place {
                Some(_) => entry,
                None => {
                    self.begin_extent(log, &entry);
                    self.append_to_extent(log, index, &entry, [&entry.data, &[]])
                }
            };
            let staged = self.stage_reference(log, index, &placed);
            let kept = log.tail.get_mut(index).expect("just listed");
            kept.place = placed.place;
            kept.sequence = staged.expect("room was made for all of them");
        }
        true
    }

    /// Puts the entry into its segment, behind what is not in it yet. Returns where it lies and
    /// its data, which can be read at once. The log does not have the entry yet.
    pub(super) fn place(
        &mut self,
        log: &mut Log,
        entry: &TailEntry,
        parts: [&[u8]; 2],
    ) -> Result<TailEntry, StageError> {
        let unplaced: Vec<u64> = log
            .tail
            .from(log.drained + 1)
            .filter(|(_, e)| e.place.is_none())
            .map(|e| e.0)
            .collect();
        self.begin_extent(log, entry);
        let placed = self.place_after(log, &unplaced, entry, parts);
        if placed.is_err() {
            // A frame lies in the extent that nothing refers to: nothing is appended behind it.
            log.segments
                .last_mut()
                .expect("the extent has its segment")
                .closed = true;
        }
        placed
    }

    fn place_after(
        &mut self,
        log: &mut Log,
        unplaced: &[u64],
        entry: &TailEntry,
        parts: [&[u8]; 2],
    ) -> Result<TailEntry, StageError> {
        for &index in unplaced {
            let copied = log.tail.get(index).expect("just listed").clone();
            let placed = self.append_to_extent(log, index, &copied, [&copied.data, &[]]);
            let sequence = self.stage_reference(log, index, &placed)?;
            let kept = log.tail.get_mut(index).expect("just listed");
            kept.place = placed.place;
            kept.sequence = sequence;
        }
        let index = log.last_index() + 1;
        let mut placed = self.append_to_extent(log, index, entry, parts);
        placed.sequence = self.stage_reference(log, index, &placed)?;
        let bytes = u64::from(placed.data_length);
        self.cache.counters.add(|s| s.direct_bytes += bytes);
        Ok(placed)
    }

    /// Journal room for the references that [`place`](Self::place) stages.
    pub(super) fn reference_room(log: &Log) -> usize {
        let unplaced = log
            .tail
            .from(log.drained + 1)
            .filter(|(_, e)| e.place.is_none())
            .count();
        (unplaced + 1) * frame_bytes(REFERENCE_BYTES) + 2 * ALIGN
    }

    fn stage_reference(
        &mut self,
        log: &mut Log,
        index: u64,
        entry: &TailEntry,
    ) -> Result<u64, StageError> {
        let place = entry.place.expect("it was placed");
        let segment = log
            .segments
            .iter()
            .find(|s| s.generation == place.generation);
        let reference = Reference {
            base_index: segment.expect("a placed entry has its segment").base_index,
            generation: place.generation,
            position: place.position,
            length: entry.data_length,
            crc: entry.data_crc,
        };
        self.stage_reference_frame(log, index, entry, &reference.encode())
    }

    /// Makes sure that the turn has an extent for this log, in a segment that takes the entry.
    fn begin_extent(&mut self, log: &mut Log, entry: &TailEntry) {
        let bytes = pages(entry.frame_bytes()) + log.unplaced_bytes(u64::MAX);
        let limit = log.config.segment_bytes.min(SEGMENT_BYTES_MAX);
        let newest = log
            .segments
            .last()
            .filter(|s| !s.closed)
            .map(|s| s.generation);
        let open = self.extents.get(&log.id).is_some_and(|extent| {
            Some(extent.segment.generation) == newest && extent.end() + bytes <= limit
        });
        if open {
            return;
        }
        if let Some(ended) = self.extents.remove(&log.id) {
            self.ended_extents.push((log.id, ended));
        }
        let position = log.placed_end();
        let (create, create_directory) = match position {
            Some(position) if position + bytes <= limit || position == 0 => (false, false),
            _ => {
                let create_directory = log.segments.is_empty();
                log.begin_segment_for_placed(entry);
                (true, create_directory)
            }
        };
        let position = if create {
            0
        } else {
            position.expect("an open segment")
        };
        let segment = *log.segments.last().expect("just made sure");
        let mut extent = Extent {
            segment,
            create,
            create_directory,
            buffers: Vec::new(),
        };
        let announced = match log.bulk_turn == self.staged_turn() {
            true => log.bulk_bytes,
            false => 0,
        };
        self.add_buffer(&mut extent, position, bytes.max(announced) as usize);
        self.extents.insert(log.id, extent);
    }

    /// Room for at least `bytes`. It stays in memory with the entries, so it is no larger than what
    /// is known to come; each further buffer of a turn is twice as large, since it is a write more.
    fn add_buffer(&mut self, extent: &mut Extent, position: u64, bytes: usize) {
        let last = extent.buffers.last();
        let twice = last.map_or(0, |(_, _, buffer)| 2 * buffer.capacity());
        let buffer = AppendBuf::with_capacity(bytes.max(twice.min(self.options.buffer_bytes)));
        let number = self.memory.add(buffer.capacity() as u64);
        extent.buffers.push((position, number, buffer));
    }

    fn append_to_extent(
        &mut self,
        log: &Log,
        index: u64,
        entry: &TailEntry,
        parts: [&[u8]; 2],
    ) -> TailEntry {
        let mut extent = self.extents.remove(&log.id).expect("it was begun");
        let bytes = entry.frame_bytes() as usize;
        if extent.newest().remaining() < bytes {
            extent.newest().pad_to(ALIGN);
            let position = extent.end();
            self.add_buffer(&mut extent, position, bytes);
        }
        let generation = extent.segment.generation;
        let (start, number, buffer) = extent.buffers.last_mut().expect("there is one");
        let position = *start + buffer.len() as u64;
        let header = entry.segment_frame(log.id, index, generation).encode();
        debug_assert_eq!(header.len(), FRAME_HEADER_BYTES);
        buffer.append(&header);
        let data = buffer.append(parts[0]).start..buffer.append(parts[1]).end;
        buffer.pad_to(8);
        let placed = TailEntry {
            place: Some(Place {
                generation,
                position,
            }),
            buffer: *number,
            data: buffer.slice(data),
            ..entry.clone()
        };
        self.extents.insert(log.id, extent);
        placed
    }

    /// The extents of this turn, ready to be written. Those of one log stay together: they go
    /// one after another, since the first may have to create what the next one needs.
    pub(super) fn take_extents(&mut self) -> Vec<Vec<ExtentWrite>> {
        let open = std::mem::take(&mut self.extents);
        let ended = std::mem::take(&mut self.ended_extents);
        let mut by_log: BTreeMap<PartitionId, Vec<ExtentWrite>> = BTreeMap::new();
        for (id, extent) in ended.into_iter().chain(open) {
            by_log.entry(id).or_default().push(extent.seal(id));
        }
        by_log.into_values().collect()
    }
}

impl Extent {
    fn newest(&mut self) -> &mut AppendBuf {
        &mut self.buffers.last_mut().expect("an extent has a buffer").2
    }

    /// The position behind the last whole page.
    fn end(&self) -> u64 {
        self.buffers
            .last()
            .map_or(0, |(at, _, buffer)| at + pages(buffer.len() as u64))
    }

    fn seal(mut self, id: PartitionId) -> ExtentWrite {
        self.newest().pad_to(ALIGN);
        let parts = self
            .buffers
            .into_iter()
            .map(|(at, _, buffer)| (at, buffer.slice(0..buffer.len())));
        ExtentWrite {
            id,
            segment: self.segment,
            create: self.create,
            create_directory: self.create_directory,
            parts: parts.collect(),
        }
    }
}

/// Writes the extents of one log, in order, durably.
pub(super) async fn write_extents(
    extents: &[ExtentWrite],
    cache: &Rc<SegmentCache>,
) -> io::Result<()> {
    for extent in extents {
        extent.run(cache).await?;
    }
    Ok(())
}

impl ExtentWrite {
    /// May be run again after a failure: it then writes the same bytes to the same places.
    async fn run(&self, cache: &Rc<SegmentCache>) -> io::Result<()> {
        let disk = cache.disk();
        let directory = partition_directory(cache.data(), self.id);
        if self.create_directory {
            create_directory(disk, cache.data(), &directory).await?;
        }
        if self.create {
            cache.forget_segment(self.id, self.segment.generation);
        }
        let frames = SegmentFile::Frames;
        let file = cache
            .open(disk, self.id, &self.segment, frames, self.create)
            .await?;
        for (position, bytes) in &self.parts {
            cache
                .counters
                .add(|s| s.segment_bytes += bytes.len() as u64);
            file.write_at(bytes.clone(), *position, Durability::Synced)
                .await?;
        }
        if self.create {
            disk.sync_dir(&directory).await?;
        }
        Ok(())
    }
}

impl Log {
    /// Bytes of the undrained entries below `index` that are in no segment.
    fn unplaced_bytes(&self, index: u64) -> u64 {
        let undrained = self
            .tail
            .from(self.drained + 1)
            .take_while(|(i, _)| *i < index);
        undrained
            .filter(|(_, e)| e.place.is_none())
            .map(|(_, e)| e.frame_bytes())
            .sum()
    }

    /// Where the next placed entry goes in the newest segment; `None` if it takes no more.
    fn placed_end(&self) -> Option<u64> {
        let newest = self.segments.last().filter(|s| !s.closed)?;
        let last = self
            .tail
            .from(self.drained + 1)
            .filter_map(|(_, e)| Some((e.place?, e)));
        let last = last
            .filter(|(p, _)| p.generation == newest.generation)
            .last();
        Some(match last {
            Some((place, entry)) => pages(place.position + entry.frame_bytes()),
            None => newest.append_position(),
        })
    }

    /// Begins a segment with the first undrained entry that is in none, or with `entry`.
    fn begin_segment_for_placed(&mut self, entry: &TailEntry) {
        let first = self
            .tail
            .from(self.drained + 1)
            .find(|(_, e)| e.place.is_none());
        let (index, base_offset) = match first {
            Some((index, first)) => (index, first.base_offset),
            None => (self.last_index() + 1, entry.base_offset),
        };
        // When it was begun is noted by the first drain, which knows the time.
        self.segments
            .push(Segment::new(index, self.next_generation, base_offset, 0));
        self.next_generation += 1;
    }
}
