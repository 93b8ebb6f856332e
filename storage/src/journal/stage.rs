//! Staging: what a turn has to remember is copied once, into the buffer that will be written.

use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use runtime::{ALIGN, AppendBuf, File};

use super::files::Active;
use super::{Journal, PendingDrop};
use crate::error::{Refusal, StageError};
use crate::format::batch::{patched_head, read_fields};
use crate::format::block::{BLOCK_HEADER_BYTES, FileHeader};
use crate::format::checkpoint::encode_segment;
use crate::format::codec::Writer;
use crate::format::frame::{
    EntryKind, FLAG_FIRST, FLAG_REFERENCE, FRAME_HEADER_BYTES, FrameHeader, FrameKind, frame_bytes,
};
use crate::format::pages;
use crate::log::append::Reset;
use crate::log::tail::{ENTRY_OVERHEAD_BYTES, TailEntry};
use crate::log::{HardState, Log};
use crate::partition::mix;

/// Where a staged entry stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// The first offset of the entry.
    pub base_offset: i64,
    /// The offset after it.
    pub next_offset: i64,
}

/// A block of this turn. It is open while `end` is 0.
pub(crate) struct PendingBlock {
    /// Which of the turn's buffers it lies in.
    pub(super) buffer: usize,
    /// The file header if there is one, else the block header.
    pub(super) start: usize,
    /// The block header, a hole until the turn is sealed.
    pub(super) header: usize,
    pub(super) end: usize,
    pub(super) file: File,
    pub(super) file_offset: u64,
    /// Bytes of the file that are kept for it, from the block header on.
    pub(super) claimed: u64,
    pub epoch: u64,
    pub sequence: u64,
    pub length: u32,
    pub frames: u32,
}

/// A frame before it has a place.
struct Frame<'a> {
    kind: FrameKind,
    flags: u32,
    term: u64,
    index: u64,
    base_offset: i64,
    offset_count: u32,
    max_timestamp: i64,
    /// The data, in one or two parts.
    parts: [&'a [u8]; 2],
}

impl<'a> Frame<'a> {
    fn marker(kind: FrameKind, term: u64, index: u64, data: &'a [u8]) -> Frame<'a> {
        Frame {
            kind,
            flags: 0,
            term,
            index,
            base_offset: 0,
            offset_count: 0,
            max_timestamp: 0,
            parts: [data, &[]],
        }
    }

    fn entry(entry: &TailEntry, index: u64, parts: [&'a [u8]; 2]) -> Frame<'a> {
        Frame {
            base_offset: entry.base_offset,
            offset_count: entry.offset_count,
            max_timestamp: entry.max_timestamp,
            parts,
            ..Frame::marker(FrameKind::Entry(entry.kind), entry.term, index, &[])
        }
    }

    fn data_bytes(&self) -> usize {
        self.parts[0].len() + self.parts[1].len()
    }
}

/// Where a frame came to lie.
struct Place {
    data: Range<usize>,
    sequence: u64,
}

/// What the frame may use of the room that is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    AboveMarkerReserve,
    All,
}

impl Journal {
    /// Stages one entry: copies its data once, sets base offset and leader epoch of a batch while
    /// copying, and makes it readable from `log`. An index at or below the last one supersedes
    /// what was there (raft conflict); one at or below the commit index is an error.
    ///
    /// On an error nothing has changed.
    pub fn stage_entry(
        &mut self,
        log: &mut Log,
        term: u64,
        index: u64,
        kind: EntryKind,
        data: &Bytes,
    ) -> Result<Staged, StageError> {
        log.check_append(term, index)?;
        let (offset_count, max_timestamp) = self.measure(kind, data)?;
        let direct = self.goes_direct(log, index, data.len());
        if direct {
            self.make_room(Self::reference_room(log), Room::AboveMarkerReserve)?;
        } else {
            self.make_room(frame_bytes(data.len()), Room::AboveMarkerReserve)?;
        }
        log.cut_to(index - 1, self.staged_turn);
        let base_offset = log.next_offset();
        let head;
        let parts: [&[u8]; 2] = match kind {
            EntryKind::Batch => {
                head = patched_head(data, base_offset, leader_epoch(term));
                [&head, &data[head.len()..]]
            }
            _ => [data, &[]],
        };
        let mut entry = TailEntry {
            term,
            base_offset,
            max_timestamp,
            offset_count,
            data_crc: crc32c::crc32c_append(crc32c::crc32c(parts[0]), parts[1]),
            data_length: data.len() as u32,
            kind,
            sequence: 0,
            buffer: self.open_buffer_number,
            place: None,
            data: Bytes::new(),
        };
        if direct {
            entry = self.place(log, &entry, parts)?;
        } else {
            let place = self.put(log, Frame::entry(&entry, index, parts), entry.data_crc);
            entry.sequence = place.sequence;
            entry.data = self.open_buffer().slice(place.data);
        }
        log.push(entry);
        self.memory.charge(ENTRY_OVERHEAD_BYTES);
        self.cache.counters.add(|s| {
            s.entries += 1;
            s.payload_bytes += data.len() as u64;
        });
        Ok(Staged {
            base_offset,
            next_offset: log.next_offset(),
        })
    }

    /// How many offsets an entry takes, and its largest timestamp.
    fn measure(&self, kind: EntryKind, data: &Bytes) -> Result<(u32, i64), StageError> {
        let (bytes, bytes_max) = (data.len(), self.options.entry_bytes_max);
        if bytes > bytes_max {
            return Err(StageError::TooLarge { bytes, bytes_max });
        }
        match kind {
            EntryKind::Batch => {
                let fields = read_fields(data)?;
                Ok((fields.offset_count, fields.max_timestamp))
            }
            EntryKind::LogStart if bytes != 8 => Err(StageError::LogStart(bytes)),
            EntryKind::Command => Ok((1, -1)),
            EntryKind::LogStart | EntryKind::NoOp | EntryKind::Membership => Ok((0, -1)),
        }
    }

    /// Stages the replica's hard state.
    pub fn stage_hard_state(
        &mut self,
        log: &mut Log,
        hard_state: HardState,
    ) -> Result<(), StageError> {
        let HardState { term, vote, commit } = hard_state;
        let data = vote.to_le_bytes();
        self.stage_marker(
            log,
            Frame::marker(FrameKind::HardState, term, commit, &data),
        )?;
        log.set_hard_state(hard_state);
        Ok(())
    }

    /// Cuts the log to `last_index` without an entry that supersedes the rest. Not below commit.
    pub fn stage_truncate(&mut self, log: &mut Log, last_index: u64) -> Result<(), StageError> {
        if last_index < log.commit() {
            return Err(StageError::BelowCommit {
                index: last_index,
                commit: log.commit(),
            });
        }
        if last_index >= log.last_index() {
            return Ok(());
        }
        self.stage_marker(log, Frame::marker(FrameKind::Truncate, 0, last_index, &[]))?;
        log.cut_to(last_index, self.staged_turn);
        Ok(())
    }

    /// Replaces the whole log by what a snapshot says, in one frame. Until that is durable a crash
    /// leads back to the old log, whose files are still there; afterwards to the new one, with the
    /// owner's state. The old files are removed by a later removal job. Not below the commit index,
    /// unless the log is fenced, which this lifts.
    ///
    /// On an error nothing has changed.
    pub fn stage_reset(&mut self, log: &mut Log, reset: Reset) -> Result<(), StageError> {
        log.check_reset(&reset)?;
        let mut w = Writer::default();
        reset.encode(&mut w);
        let (bytes, bytes_max) = (reset.state.len(), self.options.entry_bytes_max);
        if bytes > bytes_max {
            return Err(StageError::TooLarge { bytes, bytes_max });
        }
        // A state is as large as an entry, so it must not use up what markers need.
        let room = match reset.state.is_empty() {
            true => Room::All,
            false => Room::AboveMarkerReserve,
        };
        self.make_room(frame_bytes(w.bytes.len()), room)?;
        self.put_marker(
            log,
            Frame::marker(
                FrameKind::Reset,
                reset.last_term,
                reset.last_index,
                &w.bytes,
            ),
        );
        log.reset_to(&reset, self.staged_turn);
        self.cache.forget_partition(log.id());
        Ok(())
    }

    /// Deletes a partition on this node. Its directory is removed by a [`DropJob`] once this turn
    /// is durable: see [`begin_drop`](Self::begin_drop). On an error the log comes back.
    ///
    /// [`DropJob`]: super::DropJob
    #[allow(
        clippy::result_large_err,
        reason = "the log comes back, and deletions are rare"
    )]
    pub fn stage_drop(&mut self, mut log: Log) -> Result<(), (Log, StageError)> {
        if let Err(refusal) = self.make_room(frame_bytes(0), Room::All) {
            return Err((log, refusal.into()));
        }
        self.put_marker(&mut log, Frame::marker(FrameKind::Dropped, 0, 0, &[]));
        let pending = PendingDrop {
            turn: self.staged_turn,
            busy: log.busy(),
            running: false,
        };
        self.drops.insert(log.id(), pending);
        self.cache.forget_partition(log.id());
        Ok(())
    }

    /// Stages what is not drained of a log that comes from another journal, as it is.
    pub(crate) fn stage_again(&mut self, log: &mut Log) -> Result<(), StageError> {
        // It has a record in the first checkpoint of this journal: no frame is its first.
        log.chain = 1;
        for index in log.drained + 1..=log.last_index() {
            let entry = log
                .tail
                .get(index)
                .expect("undrained entries are in memory")
                .clone();
            self.make_room(frame_bytes(entry.data.len()), Room::All)?;
            let frame = Frame::entry(&entry, index, [&entry.data, &[]]);
            let place = self.put(log, frame, entry.data_crc);
            let moved = log.tail.get_mut(index).expect("just seen");
            moved.sequence = place.sequence;
            moved.place = None;
        }
        // Frames that were written straight to a segment are in this journal now.
        log.close_placed_segments(self.staged_turn);
        Ok(())
    }

    /// Notes the drains that are not noted yet, as far as there is room. A drain that is not
    /// noted is done again after a restart, over the same place.
    pub(super) fn note_drains(&mut self, log: &mut Log) -> Result<(), StageError> {
        for i in 0..log.segments.len() {
            let segment = log.segments[i];
            if segment.size == 0 || segment.last_index <= log.noted {
                continue;
            }
            let mut w = Writer::default();
            encode_segment(&segment, &mut w);
            self.make_room(frame_bytes(w.bytes.len()), Room::All)?;
            self.put_marker(
                log,
                Frame::marker(FrameKind::Drained, 0, segment.last_index, &w.bytes),
            );
            log.noted = segment.last_index;
        }
        Ok(())
    }

    pub(super) fn stage_trimmed(
        &mut self,
        log: &mut Log,
        first_index: u64,
    ) -> Result<(), StageError> {
        self.make_room(frame_bytes(0), Room::All)?;
        self.put_marker(log, Frame::marker(FrameKind::Trimmed, 0, first_index, &[]));
        Ok(())
    }

    fn stage_marker(&mut self, log: &mut Log, marker: Frame<'_>) -> Result<(), StageError> {
        if let crate::log::Condition::Fenced(reason) = log.condition() {
            return Err(StageError::Fenced(reason.clone()));
        }
        self.make_room(frame_bytes(marker.data_bytes()), Room::All)?;
        self.put_marker(log, marker);
        Ok(())
    }

    /// Stages that an entry lies in a segment. Returns the block that says so.
    pub(super) fn stage_reference_frame(
        &mut self,
        log: &mut Log,
        index: u64,
        entry: &TailEntry,
        reference: &[u8],
    ) -> Result<u64, StageError> {
        self.make_room(frame_bytes(reference.len()), Room::All)?;
        let frame = Frame {
            flags: FLAG_REFERENCE,
            ..Frame::entry(entry, index, [reference, &[]])
        };
        Ok(self.put(log, frame, crc32c::crc32c(reference)).sequence)
    }

    fn put_marker(&mut self, log: &mut Log, marker: Frame<'_>) {
        let crc = crc32c::crc32c(marker.parts[0]);
        self.put(log, marker, crc);
    }

    /// Copies a frame into the open block, which has room for it.
    fn put(&mut self, log: &mut Log, frame: Frame<'_>, data_crc: u32) -> Place {
        let block = self.blocks.last_mut().expect("room was made");
        assert_eq!(block.end, 0, "the last block is open");
        let first = log.next_chain(block.sequence);
        let buffer = self.buffers.last_mut().expect("room was made");
        let header_at = buffer.reserve(FRAME_HEADER_BYTES);
        let data = buffer.append(frame.parts[0]).start..buffer.append(frame.parts[1]).end;
        buffer.pad_to(8);
        let header = FrameHeader {
            kind: frame.kind,
            flags: frame.flags | if first { FLAG_FIRST } else { 0 },
            id: log.id(),
            term: frame.term,
            index: frame.index,
            base_offset: frame.base_offset,
            offset_count: frame.offset_count,
            max_timestamp: frame.max_timestamp,
            epoch: block.epoch,
            chain: log.chain(),
            data_length: frame.data_bytes() as u32,
            data_crc,
        };
        buffer.fill(header_at, &header.encode());
        block.length = (buffer.len() - block.header - BLOCK_HEADER_BYTES) as u32;
        block.frames += 1;
        Place {
            data,
            sequence: block.sequence,
        }
    }

    fn open_buffer(&self) -> &AppendBuf {
        self.buffers.last().expect("room was made")
    }

    /// Makes sure that the open block has room for a frame of `bytes`: in its buffer, in its file.
    pub(super) fn make_room(&mut self, bytes: usize, room: Room) -> Result<(), Refusal> {
        if self.failed {
            return Err(Refusal::Failed);
        }
        let reserve = match room {
            Room::AboveMarkerReserve => self.marker_reserve(),
            Room::All => 0,
        };
        let alone = pages((BLOCK_HEADER_BYTES + bytes) as u64);
        let more = match self.blocks.last().filter(|b| b.end == 0) {
            Some(block) => {
                let wanted = self.open_buffer().len() - block.header + bytes;
                pages(wanted as u64).saturating_sub(block.claimed)
            }
            None => alone,
        };
        if self.files.free_bytes() < more + reserve {
            return Err(self.lacks(alone));
        }
        if self.grow_block(bytes, more) {
            return Ok(());
        }
        self.close_block();
        if self.reopen_tail(bytes as u64) {
            return Ok(());
        }
        self.open_block(alone)
    }

    /// A block of that many bytes cannot be opened. A file that takes it is asked for.
    fn lacks(&mut self, bytes: u64) -> Refusal {
        self.files.lacking = bytes;
        self.full()
    }

    /// Claims more of the file for the open block. Says whether there is one that has room.
    fn grow_block(&mut self, bytes: usize, more: u64) -> bool {
        let Some(block) = self.blocks.last_mut().filter(|b| b.end == 0) else {
            return false;
        };
        let buffer = self.buffers.last().expect("an open block has a buffer");
        let active = self
            .files
            .active
            .as_mut()
            .expect("an open block has a file");
        let fits = more <= active.slot.bytes - active.offset && bytes <= buffer.remaining();
        if fits {
            active.offset += more;
            block.claimed += more;
        }
        fits
    }

    /// Opens a block with at least `bytes`, which are whole pages, and takes them from its file.
    fn open_block(&mut self, bytes: u64) -> Result<(), Refusal> {
        let active_free = self
            .files
            .active
            .as_ref()
            .map_or(0, |a| a.slot.bytes - a.offset);
        let switch = active_free < bytes;
        if switch {
            let Some(at) = self.files.ready_for(bytes) else {
                return Err(self.lacks(bytes));
            };
            self.files.ready.swap(0, at);
            self.files.lacking = 0;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let file_header = switch.then(|| self.switch_file(sequence));
        let needed = bytes as usize + if switch { ALIGN } else { 0 };
        if self.buffers.last().is_none_or(|b| b.remaining() < needed) {
            let buffer = AppendBuf::with_capacity(needed.max(self.options.buffer_bytes));
            self.open_buffer_number = self.memory.add(buffer.capacity() as u64);
            self.buffers.push(buffer);
        }
        let buffer = self.buffers.last_mut().expect("just made sure");
        let start = buffer.len();
        let active = self.files.active.as_mut().expect("a file was chosen");
        let file_offset = if file_header.is_some() {
            0
        } else {
            active.offset
        };
        if let Some(header) = file_header {
            buffer.append(&header.encode());
            buffer.pad_to(ALIGN);
        }
        active.offset += bytes;
        active.last_sequence = sequence;
        let header = buffer.reserve(BLOCK_HEADER_BYTES);
        self.blocks.push(PendingBlock {
            buffer: self.buffers.len() - 1,
            start,
            header,
            end: 0,
            file: active.slot.file.clone(),
            file_offset,
            claimed: bytes,
            epoch: active.epoch,
            sequence,
            length: 0,
            frames: 0,
        });
        Ok(())
    }

    /// The next ready file becomes the active one.
    fn switch_file(&mut self, first_sequence: u64) -> FileHeader {
        if let Some(Active {
            slot,
            last_sequence,
            ..
        }) = self.files.active.take()
        {
            self.files.full.push_back(super::files::Full {
                slot,
                last_sequence,
            });
        }
        let slot = self.files.ready.pop_front().expect("a ready file was seen");
        let number = self.files.next_number;
        self.files.next_number += 1;
        let epoch = mix(self.run ^ mix(number));
        let offset = ALIGN as u64;
        self.files.active = Some(Active {
            slot,
            epoch,
            offset,
            last_sequence: first_sequence,
        });
        FileHeader {
            core: self.core,
            number,
            epoch,
            first_sequence,
        }
    }

    pub(super) fn close_block(&mut self) {
        let (Some(block), Some(buffer)) = (self.blocks.last_mut(), self.buffers.last_mut()) else {
            return;
        };
        if block.end > 0 {
            return;
        }
        buffer.pad_to(ALIGN);
        block.end = buffer.len();
        // What was claimed and not used goes back: the next block follows without a gap.
        let active = self
            .files
            .active
            .as_mut()
            .expect("an open block has a file");
        active.offset -= block.claimed - (block.end - block.header) as u64;
    }

    /// Writes the headers of this turn's blocks, and returns what goes where. Blocks that follow
    /// each other in file and buffer become one write.
    pub(super) fn take_blocks(&mut self) -> Vec<(File, u64, Bytes)> {
        self.close_block();
        let mut parts = Vec::new();
        for block in std::mem::take(&mut self.blocks) {
            let header = self.block_header(&block);
            self.remember_tail(&block, self.previous_crc);
            self.previous_crc = header.crc();
            let buffer = &mut self.buffers[block.buffer];
            buffer.fill(block.header, &header.encode());
            parts.push((
                block.file,
                block.file_offset,
                buffer.slice(block.start..block.end),
            ));
        }
        let open = self.buffers.pop();
        self.buffers.clear();
        self.buffers.extend(open.filter(|b| b.remaining() > ALIGN));
        parts
    }
}

/// The leader epoch of a term. Terms grow by one per election (pre-vote), so 2^31 of them are out
/// of reach; one that came from a damaged peer is cut.
fn leader_epoch(term: u64) -> i32 {
    i32::try_from(term).unwrap_or(i32::MAX)
}

impl Log {
    /// Counts a frame of this log. Says whether it is the first in this life of the partition.
    ///
    /// A life begins at the number of the journal block times 2^24: above any number that an
    /// earlier life of the same partition can have reached, since no block holds 2^24 frames.
    pub(crate) fn next_chain(&mut self, sequence: u64) -> bool {
        let first = self.chain == 0;
        self.chain = if first {
            sequence << 24
        } else {
            self.chain + 1
        };
        first
    }

    pub(crate) fn chain(&self) -> u64 {
        self.chain
    }

    pub(crate) fn busy(&self) -> Rc<()> {
        Rc::clone(&self.busy)
    }
}
