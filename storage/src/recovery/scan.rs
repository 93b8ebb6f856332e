//! Reading a journal: which blocks count, and what is missing between them.
//!
//! A block counts when it has the next sequence number, repeats the checksum of its predecessor
//! and all its frames are whole. The first block that does not is either torn, the end of what
//! was promised, or damaged. It is damaged if and only if a later block says that it was durable
//! (`durable_sequence`). So the search goes on behind it, through the rest of the file and the
//! later files; what lies there without such a claim is the remains of an earlier run.

use std::io;

use bytes::Bytes;
use runtime::File;

use super::replay::Replay;
use crate::format::block::{BLOCK_HEADER_BYTES, BlockHeader, FileHeader};
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::format::{PAGE_BYTES, pages};
use crate::journal::Memory;
use crate::journal::files::Slot;
use crate::options::Mutation;

/// Journals are read in pieces of this size.
const READ_BYTES: u64 = 1 << 20;
const PAGE: u64 = PAGE_BYTES as u64;

/// A journal file that may hold something needed.
pub(super) struct Source {
    pub slot: Slot,
    pub header: FileHeader,
    /// The header is made up from the blocks: its page could not be read.
    pub header_lost: bool,
    /// Behind the last block that counts; 0 if there is none.
    pub end: u64,
    pub last_sequence: u64,
}

pub(super) struct Scanner<'a> {
    pub replay: &'a mut Replay,
    pub memory: &'a mut Memory,
    /// Blocks below it are walked over.
    pub replay_from: u64,
    /// The next block's sequence number.
    pub expected: u64,
    /// Checksum of the last block that counted, if that is the one before `expected`.
    pub previous_crc: Option<u32>,
    pub torn: bool,
    /// The block `expected`, whose header is good and whose frames are not all.
    doubtful: Option<Doubtful>,
    mutation: Option<Mutation>,
}

/// A block with damaged frames: torn, unless a later block claims that it was durable.
struct Doubtful {
    header: BlockHeader,
    frames: Bytes,
    buffer: u64,
}

/// A file that is read forwards.
struct Cursor<'a> {
    file: &'a File,
    file_bytes: u64,
    start: u64,
    bytes: Bytes,
    buffer: u64,
}

impl Cursor<'_> {
    /// The file's bytes at `position`, at least `length` of them where the file has them.
    async fn at(&mut self, position: u64, length: u64, memory: &mut Memory) -> io::Result<Bytes> {
        let wanted = length.min(self.file_bytes - position);
        let held = self.start + self.bytes.len() as u64;
        if position < self.start || position + wanted > held {
            let ask = READ_BYTES
                .max(pages(wanted))
                .min(self.file_bytes - position);
            self.bytes = self.file.read_at(position, ask as usize).await?;
            self.start = position;
            self.buffer = memory.add(ask);
        }
        let from = (position - self.start) as usize;
        Ok(self.bytes.slice(from.min(self.bytes.len())..))
    }
}

impl<'a> Scanner<'a> {
    pub fn new(
        replay: &'a mut Replay,
        memory: &'a mut Memory,
        replay_from: u64,
        expected: u64,
        mutation: Option<Mutation>,
    ) -> Scanner<'a> {
        let (previous_crc, torn, doubtful) = (None, false, None);
        Scanner {
            replay,
            memory,
            replay_from,
            expected,
            previous_crc,
            torn,
            doubtful,
            mutation,
        }
    }

    /// Reads one file. `next_first_sequence` is what the file after it begins with.
    pub async fn file(
        &mut self,
        source: &mut Source,
        next_first_sequence: Option<u64>,
    ) -> io::Result<()> {
        let file = source.slot.file.clone();
        let file_bytes = source.slot.bytes;
        let mut cursor = Cursor {
            file: &file,
            file_bytes,
            start: 0,
            bytes: Bytes::new(),
            buffer: 0,
        };
        let mut position = PAGE;
        while position < file_bytes {
            let bytes = cursor.at(position, PAGE, self.memory).await?;
            let header = BlockHeader::decode(&bytes).filter(|h| {
                h.epoch == source.header.epoch && position + h.block_bytes() <= file_bytes
            });
            let Some(header) = header.filter(|h| self.is_candidate(h)) else {
                let elsewhere = next_first_sequence == Some(self.expected);
                if elsewhere && self.doubtful.is_none() {
                    return Ok(());
                }
                position += PAGE;
                continue;
            };
            let bytes = cursor
                .at(position, header.block_bytes(), self.memory)
                .await?;
            let length = BLOCK_HEADER_BYTES + header.length as usize;
            let frames = bytes.slice(BLOCK_HEADER_BYTES.min(bytes.len())..length.min(bytes.len()));
            position += header.block_bytes();
            if self.take(header, frames, cursor.buffer) {
                source.end = position;
                source.last_sequence = header.sequence;
            }
        }
        Ok(())
    }

    /// Whether a block may be the next one, or proves that the next one is lost.
    fn is_candidate(&self, header: &BlockHeader) -> bool {
        let linked = self
            .previous_crc
            .is_none_or(|crc| crc == header.previous_crc);
        // Also behind a doubtful one: if that was torn, the next run wrote its own in its stead.
        let next = header.sequence == self.expected && linked;
        next || (header.sequence > self.expected && header.durable_sequence >= self.expected)
    }

    /// Takes a candidate. Says whether the block counts.
    fn take(&mut self, header: BlockHeader, frames: Bytes, buffer: u64) -> bool {
        if header.sequence > self.expected {
            // Its header vouches for what is missing, whatever became of its frames.
            self.give_up_until(header.sequence);
            self.expected = header.sequence;
            self.previous_crc = None;
        }
        if !frames_are_whole(&header, &frames, self.mutation) {
            self.torn = true;
            self.doubtful = Some(Doubtful {
                header,
                frames,
                buffer,
            });
            return false;
        }
        if header.sequence >= self.replay_from {
            self.replay.report.blocks += 1;
            let mut at = 0;
            while let Some(frame) = FrameHeader::decode(&frames[at..]) {
                let data = at + FRAME_HEADER_BYTES;
                let data = frames.slice(data..data + frame.data_length as usize);
                self.replay.on_frame(&frame, data, header.sequence, buffer);
                at += frame.frame_bytes();
            }
        }
        self.expected = header.sequence + 1;
        self.previous_crc = Some(header.crc());
        self.torn = false;
        self.doubtful = None;
        true
    }

    /// Everything was read. The checkpoint, too, says which blocks were durable: those before the
    /// one that was open when it was begun. If they are missing, so may be any after them.
    pub fn finish(&mut self) {
        let begun_at = self.replay.begun_at;
        if self.expected < begun_at {
            self.give_up_until(begun_at);
            self.replay.on_lost_blocks(begun_at, begun_at);
            self.expected = begun_at;
            self.previous_crc = None;
        }
    }

    /// The blocks from `expected` up to `sequence` were durable and cannot be read.
    fn give_up_until(&mut self, sequence: u64) {
        let mut lost_from = self.expected;
        if let Some(doubtful) = self.doubtful.take() {
            lost_from += 1;
            if doubtful.header.sequence >= self.replay_from {
                self.salvage(&doubtful);
            }
        }
        if lost_from < sequence {
            self.replay.on_lost_blocks(lost_from, sequence - 1);
        }
        self.torn = false;
    }

    /// Replays the good frames of a damaged block, and tells what is not good. Where a header is
    /// damaged the next good one is looked for.
    fn salvage(&mut self, block: &Doubtful) {
        let (frames, sequence) = (&block.frames, block.header.sequence);
        let (mut at, mut lost) = (0, false);
        while at + FRAME_HEADER_BYTES <= frames.len() {
            let frame = FrameHeader::decode(&frames[at..])
                .filter(|f| f.epoch == block.header.epoch && at + f.frame_bytes() <= frames.len());
            let Some(frame) = frame else {
                lost = true;
                at += 8;
                continue;
            };
            if std::mem::take(&mut lost) {
                self.replay.on_lost_blocks(sequence, sequence);
            }
            let data = at + FRAME_HEADER_BYTES;
            let data = frames.slice(data..data + frame.data_length as usize);
            if crc32c::crc32c(&data) == frame.data_crc {
                self.replay.on_frame(&frame, data, sequence, block.buffer);
            } else {
                self.replay.on_damaged_frame(&frame, sequence);
            }
            at += frame.frame_bytes();
        }
        if lost || frames.len() < block.header.length as usize {
            self.replay.on_lost_blocks(sequence, sequence);
        }
    }
}

/// Whether a block holds what its header says: so many frames, whole, up to its very end.
fn frames_are_whole(header: &BlockHeader, frames: &[u8], mutation: Option<Mutation>) -> bool {
    if frames.len() != header.length as usize {
        return false;
    }
    if mutation == Some(Mutation::TruncationByLength) {
        return true;
    }
    let (mut at, mut count) = (0, 0);
    while at < frames.len() {
        let Some(frame) = FrameHeader::decode(&frames[at..]) else {
            return false;
        };
        let data = at + FRAME_HEADER_BYTES;
        let end = data + frame.data_length as usize;
        if frame.epoch != header.epoch || at + frame.frame_bytes() > frames.len() {
            return false;
        }
        if crc32c::crc32c(&frames[data..end]) != frame.data_crc {
            return false;
        }
        at += frame.frame_bytes();
        count += 1;
    }
    count == header.frames
}

/// What a file without a readable header holds, judged by its blocks: the epoch of the newest.
pub(super) async fn probe_blocks(slot: &Slot, core: u32) -> io::Result<Option<FileHeader>> {
    let mut newest: Option<BlockHeader> = None;
    let mut firsts = std::collections::BTreeMap::new();
    let mut position = PAGE;
    while position < slot.bytes {
        let bytes = slot
            .file
            .read_at(position, READ_BYTES.min(slot.bytes - position) as usize)
            .await?;
        for page in bytes.chunks(PAGE_BYTES) {
            if let Some(header) = BlockHeader::decode(page) {
                let first = firsts.entry(header.epoch).or_insert(header.sequence);
                *first = header.sequence.min(*first);
                if newest.is_none_or(|n| n.sequence < header.sequence) {
                    newest = Some(header);
                }
            }
        }
        position += READ_BYTES;
    }
    Ok(newest.map(|n| FileHeader {
        core,
        number: 0,
        epoch: n.epoch,
        first_sequence: firsts[&n.epoch],
    }))
}
