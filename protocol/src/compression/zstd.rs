//! Zstandard (RFC 8878), through the C library.
//!
//! Its streaming reader would reserve the window that a frame's header asks for, up to 2 GiB for
//! ten bytes of input. So the frames' block headers are walked first: they bound the output, and
//! with that bound one call decompresses straight into a buffer of the right size, which serves as
//! the window. Windows above 128 MiB are refused although we could read them, since the clients
//! that fetch the batch (and Kafka itself) cannot.

use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall;
use zstd::zstd_safe::{DCtx, compress as zstd_compress, compress_bound};

use super::{Codec, DecompressError, Limit};

const MAGIC: u32 = 0xFD2F_B528;
const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;
const SKIPPABLE_MASK: u32 = 0xFFFF_FFF0;
const BLOCK_BYTES_MAX: u64 = 128 * 1024;
/// The default limit of every zstd reader; the sender would have to ask its readers for more.
const WINDOW_BYTES_MAX: u64 = 1 << 27;

/// What the headers of all frames say about the output, without decoding anything.
#[derive(Clone, Copy, Default)]
struct Extent {
    /// At least this much comes out, if the stream decodes at all.
    bytes_min: u64,
    /// At most this much.
    bytes_max: u64,
}

pub(super) fn decompress(input: &[u8], limit: Limit) -> Result<Vec<u8>, DecompressError> {
    let extent = measure(input)?;
    if extent.bytes_min > limit.bytes as u64 {
        return Err(limit.exceeded());
    }
    let capacity = usize::try_from(extent.bytes_max)
        .unwrap_or(usize::MAX)
        .min(limit.bytes);
    let mut output: Vec<u8> = Vec::with_capacity(capacity);
    match DCtx::create().decompress(&mut output, input) {
        Ok(_) => {
            // The bound counts 128 KiB for each compressed block: do not keep what stayed empty.
            if output.capacity() / 2 > output.len() {
                output.shrink_to_fit();
            }
            Ok(output)
        }
        Err(code) if is_too_small(code) && extent.bytes_max > limit.bytes as u64 => {
            Err(limit.exceeded())
        }
        Err(_) => Err(corrupt("it does not decode, or has a wrong checksum")),
    }
}

/// The library returns errors as negated numbers in an unsigned size.
fn is_too_small(code: usize) -> bool {
    code.wrapping_neg() == ZSTD_error_dstSize_tooSmall as usize
}

fn measure(input: &[u8]) -> Result<Extent, DecompressError> {
    if input.is_empty() {
        return Err(corrupt("there is no frame"));
    }
    let mut rest = input;
    let mut total = Extent::default();
    while !rest.is_empty() {
        let magic = take_le(&mut rest, 4)? as u32;
        if magic & SKIPPABLE_MASK == SKIPPABLE_MAGIC {
            let length = take_le(&mut rest, 4)?;
            take(&mut rest, length)?;
        } else if magic == MAGIC {
            let frame = measure_frame(&mut rest)?;
            total.bytes_min = total.bytes_min.saturating_add(frame.bytes_min);
            total.bytes_max = total.bytes_max.saturating_add(frame.bytes_max);
        } else {
            return Err(corrupt("no frame begins with these bytes"));
        }
    }
    Ok(total)
}

fn measure_frame(rest: &mut &[u8]) -> Result<Extent, DecompressError> {
    let descriptor = take(rest, 1)?[0];
    let single_segment = descriptor & 0b10_0000 != 0;
    let checksum = descriptor & 0b100 != 0;
    let declared_window = if single_segment {
        None
    } else {
        Some(window(take(rest, 1)?[0]))
    };
    let dictionary_id = take_le(rest, [0, 1, 2, 4][usize::from(descriptor & 0b11)])?;
    let content_bytes = match descriptor >> 6 {
        0 if single_segment => Some(take_le(rest, 1)?),
        0 => None,
        1 => Some(take_le(rest, 2)? + 256),
        2 => Some(take_le(rest, 4)?),
        _ => Some(take_le(rest, 8)?),
    };
    if dictionary_id != 0 {
        return Err(corrupt("the frame needs a dictionary"));
    }
    let window = declared_window.or(content_bytes).unwrap_or(0);
    if declared_window.is_some_and(|bytes| bytes > WINDOW_BYTES_MAX) {
        return Err(corrupt("the frame's window is larger than readers accept"));
    }
    let mut blocks = measure_blocks(rest, window.min(BLOCK_BYTES_MAX))?;
    if let Some(content_bytes) = content_bytes {
        if content_bytes < blocks.bytes_min || content_bytes > blocks.bytes_max {
            return Err(corrupt("the frame's blocks cannot have the declared size"));
        }
        blocks = Extent {
            bytes_min: content_bytes,
            bytes_max: content_bytes,
        };
    }
    if checksum {
        take(rest, 4)?;
    }
    Ok(blocks)
}

fn measure_blocks(rest: &mut &[u8], block_bytes_max: u64) -> Result<Extent, DecompressError> {
    const STORED: u64 = 0;
    const REPEATED_BYTE: u64 = 1;
    const COMPRESSED: u64 = 2;
    let mut extent = Extent::default();
    loop {
        let header = take_le(rest, 3)?;
        let (last, kind, size) = (header & 1 == 1, header >> 1 & 0b11, header >> 3);
        if size > block_bytes_max {
            return Err(corrupt("a block is larger than its frame allows"));
        }
        match kind {
            STORED | REPEATED_BYTE => {
                take(rest, if kind == STORED { size } else { 1 })?;
                extent.bytes_min += size;
                extent.bytes_max += size;
            }
            COMPRESSED => {
                take(rest, size)?;
                extent.bytes_max += block_bytes_max;
            }
            _ => return Err(corrupt("a block is of no known kind")),
        }
        if last {
            return Ok(extent);
        }
    }
}

/// Window size of a window descriptor (RFC 8878, 3.1.1.1.2).
fn window(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 0b111)
}

pub(super) fn compress(level: i32, input: &[u8], output: &mut Vec<u8>) {
    let start = output.len();
    output.resize(start + compress_bound(input.len()), 0);
    let written = zstd_compress(&mut output[start..], input, level)
        .expect("zstd compresses any input into the bound that it stated");
    output.truncate(start + written);
}

fn take<'a>(rest: &mut &'a [u8], bytes: u64) -> Result<&'a [u8], DecompressError> {
    let (taken, after) = usize::try_from(bytes)
        .ok()
        .and_then(|bytes| rest.split_at_checked(bytes))
        .ok_or(corrupt("the frame breaks off"))?;
    *rest = after;
    Ok(taken)
}

/// A little-endian number of up to eight bytes.
fn take_le(rest: &mut &[u8], bytes: u64) -> Result<u64, DecompressError> {
    let taken = take(rest, bytes)?;
    Ok(taken
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn corrupt(reason: &'static str) -> DecompressError {
    DecompressError::Corrupt {
        codec: Codec::Zstd,
        reason,
    }
}
