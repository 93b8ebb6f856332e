//! The LZ4 frame format (v1.6.1 of its specification), read block by block into the output.
//!
//! Batches of magic 2 carry standard frames; the wrong header checksum of Kafka's early clients
//! belongs to magic 0 and 1, which we do not serve. The frame is parsed here, and only its blocks
//! go to `lz4_flex`: its own frame reader takes a frame that breaks off for a whole one, and
//! reserves up to 12 MiB for a header that asks for large blocks. Linked blocks are read too
//! (Python clients write them); we write independent ones, since the Java client reads no others.
//! A declared content size is checked at the end but never reserved.

use std::hash::Hasher;
use std::io::Write;

use lz4_flex::block::{DecompressError as BlockError, decompress_into, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::{Codec, DecompressError, Limit};

const MAGIC: u32 = 0x184D_2204;
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;
const SKIPPABLE_MASK: u32 = 0xFFFF_FFF0;
const STORED_FLAG: u32 = 0x8000_0000;
const WINDOW_BYTES: usize = 64 * 1024;

/// A match of one more length byte stands for 255 more bytes: the densest that a block can be.
const EXPANSION_MAX: usize = 255;

/// The part of a frame's header that its blocks need.
struct Frame {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_bytes: Option<u64>,
    block_bytes_max: usize,
}

pub(super) fn decompress(input: &[u8], limit: Limit) -> Result<Vec<u8>, DecompressError> {
    if input.is_empty() {
        return Err(corrupt("there is no frame"));
    }
    let mut output = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let magic = take_u32(&mut rest)?;
        if magic & SKIPPABLE_MASK == SKIPPABLE_MAGIC {
            let length = take_u32(&mut rest)? as usize;
            take(&mut rest, length)?;
        } else if magic == MAGIC {
            let frame = read_header(&mut rest)?;
            read_blocks(&frame, &mut rest, limit, &mut output)?;
        } else {
            return Err(corrupt("no frame begins with these bytes"));
        }
    }
    Ok(output)
}

fn read_header(rest: &mut &[u8]) -> Result<Frame, DecompressError> {
    let start = *rest;
    let descriptor = take(rest, 2)?;
    let (flags, block_code) = (descriptor[0], descriptor[1]);
    if flags >> 6 != 1 || flags & 0b10 != 0 || block_code & 0b1000_1111 != 0 {
        return Err(corrupt("the frame's version or reserved bits are not ours"));
    }
    if flags & 0b1 != 0 {
        return Err(corrupt("the frame needs a dictionary"));
    }
    let block_bytes_max = match block_code >> 4 {
        code @ 4..=7 => 1 << (8 + 2 * u32::from(code)),
        _ => return Err(corrupt("the frame's block size is not defined")),
    };
    let content_bytes = if flags & 0b1000 != 0 {
        let bytes = take(rest, size_of::<u64>())?;
        Some(u64::from_le_bytes(
            bytes.try_into().expect("eight bytes were taken"),
        ))
    } else {
        None
    };
    let described = &start[..start.len() - rest.len()];
    let checksum = (xxh32(described) >> 8) as u8;
    if take(rest, 1)?[0] != checksum {
        return Err(corrupt("the frame's header has a wrong checksum"));
    }
    Ok(Frame {
        linked: flags & 0b10_0000 == 0,
        block_checksums: flags & 0b1_0000 != 0,
        content_checksum: flags & 0b100 != 0,
        content_bytes,
        block_bytes_max,
    })
}

fn read_blocks(
    frame: &Frame,
    rest: &mut &[u8],
    limit: Limit,
    output: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let start = output.len();
    loop {
        let word = take_u32(rest)?;
        if word == 0 {
            break;
        }
        let length = (word & !STORED_FLAG) as usize;
        if length > frame.block_bytes_max {
            return Err(corrupt("a block is larger than its frame allows"));
        }
        let block = take(rest, length)?;
        if frame.block_checksums && take_u32(rest)? != xxh32(block) {
            return Err(corrupt("a block has a wrong checksum"));
        }
        if word & STORED_FLAG == 0 {
            let history = if frame.linked { start } else { output.len() };
            read_block(frame.block_bytes_max, block, history, limit, output)?;
        } else if block.len() > limit.bytes - output.len() {
            return Err(limit.exceeded());
        } else {
            let filled = output.len();
            limit.extend(output, block.len());
            output[filled..].copy_from_slice(block);
        }
    }
    let content = &output[start..];
    if frame
        .content_bytes
        .is_some_and(|declared| declared != content.len() as u64)
    {
        return Err(corrupt(
            "the frame's content has another size than declared",
        ));
    }
    if frame.content_checksum && take_u32(rest)? != xxh32(content) {
        return Err(corrupt("the frame's content has a wrong checksum"));
    }
    Ok(())
}

/// Decompresses one block to the end of `output`; copies may reach back to `history`.
fn read_block(
    block_bytes_max: usize,
    block: &[u8],
    history: usize,
    limit: Limit,
    output: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let filled = output.len();
    let plausible = block_bytes_max.min(block.len().saturating_mul(EXPANSION_MAX));
    let room = plausible.min(limit.bytes - filled);
    limit.extend(output, room);
    let (before, target) = output.split_at_mut(filled);
    let window = &before[history.max(filled.saturating_sub(WINDOW_BYTES))..];
    let written = if window.is_empty() {
        decompress_into(block, target)
    } else {
        decompress_into_with_dict(block, target, window)
    };
    match written {
        Ok(written) => {
            output.truncate(filled + written);
            Ok(())
        }
        Err(BlockError::OutputTooSmall { .. }) if room < plausible => Err(limit.exceeded()),
        Err(_) => Err(corrupt("a block does not decode")),
    }
}

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) {
    // The Java client's own parameters: independent blocks of 64 KiB, no checksums, no size.
    let frame = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, output);
    encoder
        .write_all(input)
        .expect("writing to memory does not fail");
    encoder.finish().expect("writing to memory does not fail");
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], DecompressError> {
    let (taken, after) = rest
        .split_at_checked(bytes)
        .ok_or(corrupt("the frame breaks off"))?;
    *rest = after;
    Ok(taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, DecompressError> {
    let bytes = take(rest, size_of::<u32>())?;
    Ok(u32::from_le_bytes(
        bytes.try_into().expect("four bytes were taken"),
    ))
}

fn xxh32(bytes: &[u8]) -> u32 {
    let mut hasher = XxHash32::with_seed(0);
    hasher.write(bytes);
    hasher.finish() as u32
}

fn corrupt(reason: &'static str) -> DecompressError {
    DecompressError::Corrupt {
        codec: Codec::Lz4,
        reason,
    }
}
