//! The bug of [`Mutation::TailRewrittenInPlace`], kept alive so that the simulator can show that
//! it finds it: a turn goes on in the block that the turn before ended with, and so rewrites what
//! was acknowledged.

use bytes::Bytes;
use runtime::{AppendBuf, File};

use super::Journal;
use super::stage::PendingBlock;
use crate::format::block::BLOCK_HEADER_BYTES;
use crate::format::{PAGE_BYTES, pages};
use crate::options::Mutation;

/// A block that was sealed, with a last page that is not full.
pub(crate) struct SealedTail {
    /// Its frames, without header and padding.
    frames: Bytes,
    frame_count: u32,
    file: File,
    /// Where its header lies.
    file_offset: u64,
    epoch: u64,
    sequence: u64,
    previous_crc: u32,
}

impl Journal {
    /// Remembers the block just sealed. No effect without the mutation.
    pub(super) fn remember_tail(&mut self, block: &PendingBlock, previous_crc: u32) {
        if self.options.mutation != Some(Mutation::TailRewrittenInPlace) {
            return;
        }
        let from = block.header + BLOCK_HEADER_BYTES;
        let frames = self.buffers[block.buffer].slice(from..from + block.length as usize);
        self.sealed_tail = Some(SealedTail {
            frames,
            frame_count: block.frames,
            file: block.file.clone(),
            file_offset: block.file_offset + (block.header - block.start) as u64,
            epoch: block.epoch,
            sequence: block.sequence,
            previous_crc,
        });
    }

    /// Opens the last sealed block again, with room for `bytes` more. False without the mutation,
    /// or if it cannot be.
    pub(super) fn reopen_tail(&mut self, bytes: u64) -> bool {
        let Some(tail) = self.sealed_tail.take() else {
            return false;
        };
        let Some(active) = self.files.active.as_mut() else {
            return false;
        };
        let sealed = (BLOCK_HEADER_BYTES + tail.frames.len()) as u64;
        let total = pages(sealed + bytes);
        let is_last = self.blocks.is_empty()
            && active.epoch == tail.epoch
            && active.offset == tail.file_offset + pages(sealed);
        let more = total - pages(sealed);
        let full = sealed.is_multiple_of(PAGE_BYTES as u64);
        if !is_last || full || more > active.slot.bytes - active.offset {
            return false;
        }
        active.offset += more;
        let buffer = AppendBuf::with_capacity((total as usize).max(self.options.buffer_bytes));
        self.open_buffer_number = self.memory.add(buffer.capacity() as u64);
        self.buffers.push(buffer);
        let buffer = self.buffers.last_mut().expect("just pushed");
        let header = buffer.reserve(BLOCK_HEADER_BYTES);
        buffer.append(&tail.frames);
        self.previous_crc = tail.previous_crc;
        self.blocks.push(PendingBlock {
            buffer: self.buffers.len() - 1,
            start: header,
            header,
            end: 0,
            file: tail.file,
            file_offset: tail.file_offset,
            claimed: total,
            epoch: tail.epoch,
            sequence: tail.sequence,
            length: tail.frames.len() as u32,
            frames: tail.frame_count,
        });
        true
    }
}
