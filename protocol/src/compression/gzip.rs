//! gzip (RFC 1952). A stream of several members is one stream, as Java's reader has it.

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Codec, DecompressError, Limit};

/// The buffer starts at this multiple of the input (JSON compresses about so) and then doubles.
const FIRST_GUESS_RATIO: usize = 4;
const STEP_BYTES_MIN: usize = 4096;

pub(super) fn decompress(input: &[u8], limit: Limit) -> Result<Vec<u8>, DecompressError> {
    let corrupt = |_| DecompressError::Corrupt {
        codec: Codec::Gzip,
        reason: "not gzip, cut off, or a wrong checksum",
    };
    let mut decoder = MultiGzDecoder::new(input);
    let mut output = Vec::new();
    let mut step = input
        .len()
        .saturating_mul(FIRST_GUESS_RATIO)
        .max(STEP_BYTES_MIN);
    loop {
        let filled = output.len();
        let room = step.min(limit.bytes - filled);
        if room == 0 {
            // The limit is reached: fine if nothing follows.
            let more = decoder.read(&mut [0]).map_err(corrupt)?;
            return if more == 0 {
                Ok(output)
            } else {
                Err(limit.exceeded())
            };
        }
        limit.extend(&mut output, room);
        let mut end = filled;
        while end < output.len() {
            match decoder.read(&mut output[end..]).map_err(corrupt)? {
                0 => {
                    output.truncate(end);
                    return Ok(output);
                }
                read => end += read,
            }
        }
        step = output.len().max(STEP_BYTES_MIN);
    }
}

pub(super) fn compress(level: i32, input: &[u8], output: &mut Vec<u8>) {
    let level = u32::try_from(level).map_or(flate2::Compression::default(), |level| {
        assert!(
            (1..=9).contains(&level),
            "gzip level {level} was never accepted"
        );
        flate2::Compression::new(level)
    });
    let mut encoder = GzEncoder::new(output, level);
    encoder
        .write_all(input)
        .and_then(|()| encoder.try_finish())
        .expect("writing to memory does not fail");
}
