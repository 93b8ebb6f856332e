//! Kafka's compression codecs, with a bound on what decompression may produce.
//!
//! Compressed bytes come from strangers: a few hundred of them can claim gigabytes. [`decompress`]
//! therefore works under a [`Budget`], trusts no declared size, and holds no more than it has
//! produced (doubling its buffer, at most up to the budget). What the formats are, and what Kafka's
//! clients do to them, stands in the module of each codec.
//!
//! Deliberately absent: record batches (see [`crate::records`]) and any choice of codec by topic.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use thiserror::Error;

/// The codec of a batch, the three low bits of its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// All codecs in the order of their ids.
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// The codec with this id, `None` for the ids 5 to 7 that Kafka has not given out.
    pub const fn from_id(id: u8) -> Option<Codec> {
        match id {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// The id on the wire.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The name in producer configs (`compression.type`); topics say `uncompressed` for `none`.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// Reads a name of `compression.type`, of producers or topics; `producer` is not a codec.
    pub fn from_name(name: &str) -> Option<Codec> {
        match name {
            "uncompressed" => Some(Codec::None),
            _ => Codec::ALL.into_iter().find(|codec| codec.name() == name),
        }
    }
}

/// A codec with its level, as `compression.type` and `compression.<codec>.level` give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    codec: Codec,
    level: i32,
}

/// The level is outside what Kafka's config of the codec accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("compression level {level} is not one of {}'s ({allowed})", codec.name())]
pub struct LevelOutOfRange {
    pub codec: Codec,
    pub level: i32,
    pub allowed: &'static str,
}

impl Compression {
    pub const NONE: Compression = Compression::of(Codec::None);

    /// The codec at Kafka's default level.
    pub const fn of(codec: Codec) -> Compression {
        let level = match codec {
            Codec::None | Codec::Snappy => 0,
            Codec::Gzip => -1,
            Codec::Lz4 => 9,
            Codec::Zstd => 3,
        };
        Compression { codec, level }
    }

    /// The codec at a level in Kafka's range: gzip 1..=9 or -1, lz4 1..=17, zstd -131072..=22.
    /// `none` and `snappy` have no levels and ignore it. Every lz4 level compresses alike here:
    /// the high-compression search has no well-kept Rust encoder, and Kafka's default level is the
    /// fast one too.
    pub fn with_level(codec: Codec, level: i32) -> Result<Compression, LevelOutOfRange> {
        let (legal, allowed) = match codec {
            Codec::None | Codec::Snappy => return Ok(Compression::of(codec)),
            Codec::Gzip => (level == -1 || (1..=9).contains(&level), "1 to 9, or -1"),
            Codec::Lz4 => ((1..=17).contains(&level), "1 to 17"),
            Codec::Zstd => ((-131_072..=22).contains(&level), "-131072 to 22"),
        };
        if legal {
            Ok(Compression { codec, level })
        } else {
            Err(LevelOutOfRange {
                codec,
                level,
                allowed,
            })
        }
    }

    pub const fn codec(self) -> Codec {
        self.codec
    }

    pub const fn level(self) -> i32 {
        self.level
    }
}

/// What decompression may still produce, in bytes. One budget may serve many batches of a request:
/// every call takes from it what it produced.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes_left: usize,
    ratio_max: Option<usize>,
    ratio_free_bytes: usize,
}

impl Budget {
    /// A budget of `bytes` without a limit on the ratio.
    pub const fn new(bytes: usize) -> Budget {
        Budget {
            bytes_left: bytes,
            ratio_max: None,
            ratio_free_bytes: 0,
        }
    }

    /// Also refuses an output above `ratio_max` times its input, once it exceeds `free_bytes`:
    /// honest small batches (a thousand equal records) have wild ratios too.
    pub const fn with_ratio_max(self, ratio_max: usize, free_bytes: usize) -> Budget {
        Budget {
            ratio_max: Some(ratio_max),
            ratio_free_bytes: free_bytes,
            ..self
        }
    }

    pub const fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// The most bytes that an input of `input_bytes` may become.
    fn limit_for(&self, input_bytes: usize) -> Limit {
        let by_ratio = match self.ratio_max {
            Some(ratio) => input_bytes.saturating_mul(ratio).max(self.ratio_free_bytes),
            None => usize::MAX,
        };
        Limit {
            bytes: self.bytes_left.min(by_ratio),
            is_ratio: by_ratio < self.bytes_left,
        }
    }

    fn spend(&mut self, bytes: usize) {
        assert!(
            bytes <= self.bytes_left,
            "spent {bytes} of {} bytes",
            self.bytes_left
        );
        self.bytes_left -= bytes;
    }
}

/// The limit of one call, and which of the budget's two rules it comes from.
#[derive(Clone, Copy, Debug)]
struct Limit {
    bytes: usize,
    is_ratio: bool,
}

impl Limit {
    fn exceeded(self) -> DecompressError {
        if self.is_ratio {
            DecompressError::OverRatio {
                limit_bytes: self.bytes,
            }
        } else {
            DecompressError::OverBudget {
                limit_bytes: self.bytes,
            }
        }
    }

    /// Appends `room` zeroed bytes for a decoder to write into. The buffer doubles like any vector
    /// but, unlike one, never beyond the limit.
    fn extend(self, output: &mut Vec<u8>, room: usize) {
        let needed = output.len() + room;
        let limit = self.bytes;
        assert!(needed <= limit, "{needed} bytes wanted, {limit} allowed");
        if needed > output.capacity() {
            let doubled = output.capacity().saturating_mul(2).min(limit);
            output.reserve_exact(needed.max(doubled) - output.len());
        }
        output.resize(needed, 0);
    }
}

/// Why compressed bytes did not become plain ones.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecompressError {
    /// The bytes are not what their codec writes, or carry a wrong checksum.
    #[error("the {} stream is damaged: {reason}", codec.name())]
    Corrupt { codec: Codec, reason: &'static str },
    /// More would have come out than the budget holds.
    #[error("the decompressed size exceeds the limit of {limit_bytes} bytes")]
    OverBudget { limit_bytes: usize },
    /// More would have come out than the input's size can honestly hold.
    #[error("the compression ratio is implausible: more than {limit_bytes} bytes would come out")]
    OverRatio { limit_bytes: usize },
}

/// Decompresses `input`, all of it. On success the budget is less by the size of the result; on
/// failure it is unchanged, since what was produced is gone.
pub fn decompress(
    codec: Codec,
    input: &[u8],
    budget: &mut Budget,
) -> Result<Vec<u8>, DecompressError> {
    let limit = budget.limit_for(input.len());
    let output = match codec {
        Codec::None if input.len() > limit.bytes => Err(limit.exceeded()),
        Codec::None => Ok(input.to_vec()),
        Codec::Gzip => gzip::decompress(input, limit),
        Codec::Snappy => snappy::decompress(input, limit),
        Codec::Lz4 => lz4::decompress(input, limit),
        Codec::Zstd => zstd::decompress(input, limit),
    }?;
    budget.spend(output.len());
    Ok(output)
}

/// Compresses `input` in the framing that Kafka's Java client writes, appending to `output`.
pub fn compress(compression: Compression, input: &[u8], output: &mut Vec<u8>) {
    match compression.codec {
        Codec::None => output.extend_from_slice(input),
        Codec::Gzip => gzip::compress(compression.level, input, output),
        Codec::Snappy => snappy::compress(input, output),
        Codec::Lz4 => lz4::compress(input, output),
        Codec::Zstd => zstd::compress(compression.level, input, output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_lead_back() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_id(codec.id()), Some(codec));
            assert_eq!(Codec::from_name(codec.name()), Some(codec));
        }
        assert_eq!(Codec::from_name("uncompressed"), Some(Codec::None));
        assert_eq!(Codec::from_name("producer"), None);
        assert!((5..=7).all(|id| Codec::from_id(id).is_none()));
    }

    #[test]
    fn levels_are_those_of_the_topic_configs() {
        let legal = |codec, level| Compression::with_level(codec, level).is_ok();
        assert!(legal(Codec::Gzip, -1) && legal(Codec::Gzip, 9) && !legal(Codec::Gzip, 0));
        assert!(legal(Codec::Lz4, 17) && !legal(Codec::Lz4, 18) && !legal(Codec::Lz4, 0));
        assert!(legal(Codec::Zstd, -131_072) && legal(Codec::Zstd, 22) && !legal(Codec::Zstd, 23));
        let default = Compression::of(Codec::Lz4);
        assert_eq!(Compression::with_level(Codec::Lz4, 9), Ok(default));
    }

    #[test]
    fn a_budget_is_shared_by_calls_and_untouched_by_failures() {
        let mut budget = Budget::new(100);
        assert_eq!(
            decompress(Codec::None, &[7; 60], &mut budget),
            Ok(vec![7; 60])
        );
        assert_eq!(budget.bytes_left(), 40);
        let refused = decompress(Codec::None, &[7; 41], &mut budget);
        assert_eq!(
            refused,
            Err(DecompressError::OverBudget { limit_bytes: 40 })
        );
        assert_eq!(budget.bytes_left(), 40);
    }
}
