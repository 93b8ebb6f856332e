//! Snappy, in both dresses that Kafka knows: bare blocks (librdkafka, Go clients) and the framing
//! of xerial's snappy-java, which the Java client writes: a 16-byte header (magic, version, oldest
//! compatible version), then blocks, each behind its length as a big-endian 32-bit number.
//!
//! Kafka reads either and so do its clients; we write the framed form, whose blocks of 32 KiB let
//! a reader work in pieces.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{Codec, DecompressError, Limit};

const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_VERSION: u32 = 1;
const BLOCK_BYTES: usize = 32 * 1024;

/// The densest element is a copy: 3 bytes that stand for at most 64.
const EXPANSION_MAX: usize = 22;

const _: () = assert!(XERIAL_HEADER_BYTES == XERIAL_MAGIC.len() + 2 * size_of::<u32>());
const _: () = assert!(EXPANSION_MAX * 3 >= 64);

pub(super) fn decompress(input: &[u8], limit: Limit) -> Result<Vec<u8>, DecompressError> {
    let mut output = Vec::new();
    if !input.starts_with(&XERIAL_MAGIC) {
        decompress_block(input, limit, &mut output)?;
        return Ok(output);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // Concatenated streams are legal, so a header may stand wherever a block may.
        if rest.starts_with(&XERIAL_MAGIC) {
            rest = rest
                .get(XERIAL_HEADER_BYTES..)
                .ok_or(corrupt("the header is cut off"))?;
            continue;
        }
        let (length, after) = rest
            .split_first_chunk()
            .ok_or(corrupt("a block's length is cut off"))?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > after.len() {
            return Err(corrupt("a block is longer than what is there"));
        }
        let (block, after) = after.split_at(length);
        decompress_block(block, limit, &mut output)?;
        rest = after;
    }
    Ok(output)
}

fn decompress_block(
    block: &[u8],
    limit: Limit,
    output: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let claimed = decompress_len(block).map_err(|_| corrupt("a block states no legal size"))?;
    if claimed > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(corrupt("a block claims more than its bytes can hold"));
    }
    let filled = output.len();
    if claimed > limit.bytes - filled {
        return Err(limit.exceeded());
    }
    limit.extend(output, claimed);
    let written = Decoder::new()
        .decompress(block, &mut output[filled..])
        .map_err(|_| corrupt("a block does not decode"))?;
    assert_eq!(
        written, claimed,
        "snappy wrote another size than the one it checked"
    );
    Ok(())
}

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) {
    output.extend_from_slice(&XERIAL_MAGIC);
    output.extend_from_slice(&XERIAL_VERSION.to_be_bytes());
    output.extend_from_slice(&XERIAL_VERSION.to_be_bytes());
    let mut encoder = Encoder::new();
    for block in input.chunks(BLOCK_BYTES) {
        let length_at = output.len();
        let data_at = length_at + size_of::<u32>();
        output.resize(data_at + max_compress_len(block.len()), 0);
        let written = encoder
            .compress(block, &mut output[data_at..])
            .expect("a block of 32 KiB fits the size that snappy asked for");
        output.truncate(data_at + written);
        let length = u32::try_from(written).expect("a block of 32 KiB stays far below 4 GiB");
        output[length_at..data_at].copy_from_slice(&length.to_be_bytes());
    }
}

fn corrupt(reason: &'static str) -> DecompressError {
    DecompressError::Corrupt {
        codec: Codec::Snappy,
        reason,
    }
}
