//! The limits of a core's storage and the settings of a log. Each says what happens at it.

/// Limits of one core. The defaults suit a core with 1 GiB of journal and 256 MiB of memory.
#[derive(Debug, Clone)]
pub struct Options {
    /// All journal files together. At the limit the journal refuses ([`Refusal::Full`]) until
    /// drains and a checkpoint have freed a file.
    ///
    /// [`Refusal::Full`]: crate::Refusal::Full
    pub journal_bytes_max: u64,
    /// The first journal file, written at the first start: small, so that it is ready at once.
    /// Each further file is twice as large, up to [`journal_file_bytes`](Self::journal_file_bytes).
    pub journal_first_file_bytes: u64,
    /// The largest journal file; a multiple of 4096, and so is the first.
    pub journal_file_bytes: u64,
    /// Journal bytes that are written between two checkpoints. Start-up replays at most about
    /// three times as much.
    pub checkpoint_bytes: u64,
    /// Memory for tails and for buffers that are being filled. Above it, drained entries leave
    /// memory, oldest first.
    pub memory_bytes_max: u64,
    /// Memory for what was read from segments, and the same again at most for their indexes.
    pub cache_bytes_max: u64,
    /// Open segment and index files. The one used least recently is closed.
    pub files_max: usize,
    /// A partition that brings this much in a turn goes straight to its segment.
    pub direct_bytes: u64,
    /// With less free space than this on the disk nothing goes straight to segments.
    pub direct_space_bytes: u64,
    /// A log with this much to drain asks for it ([`Log::wants_drain`](crate::Log::wants_drain)).
    pub drain_bytes: u64,
    /// The largest data of one entry. Larger ones are refused as `TooLarge`.
    pub entry_bytes_max: usize,
    /// The buffer that turns are staged in. Its memory is kept as long as any entry in it.
    pub buffer_bytes: usize,
    /// Random, new at each start: two runs never write the same journal header.
    pub salt: u64,
    /// A known bug, brought back so that a test can prove that it would be found. None but for
    /// that.
    pub mutation: Option<Mutation>,
}

/// Bugs that this crate must never have, on demand: the simulator shows that it would see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// A turn counts as durable when it is written, before it is synced.
    AckBeforeSync,
    /// A turn fills up the last block of the one before, rewriting what is acknowledged.
    TailRewrittenInPlace,
    /// Recovery takes a block whose length fits, whatever the checksums of its frames say.
    TruncationByLength,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            journal_bytes_max: 1 << 30,
            journal_first_file_bytes: 4 << 20,
            journal_file_bytes: 64 << 20,
            checkpoint_bytes: 128 << 20,
            memory_bytes_max: 256 << 20,
            cache_bytes_max: 64 << 20,
            files_max: 512,
            direct_bytes: 128 << 10,
            direct_space_bytes: 1 << 30,
            drain_bytes: 256 << 10,
            entry_bytes_max: 16 << 20,
            buffer_bytes: 1 << 20,
            salt: 0,
            mutation: None,
        }
    }
}

/// Settings of one log, from its topic's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is closed before it grows beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment older than this is closed at the next drain.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: up to this much is taken off `segment_ms`, differently per segment.
    pub segment_jitter_ms: i64,
    /// `index.interval.bytes`: bytes of a segment between two entries of its index, at least. Taken
    /// as 32 KiB where it is less and as 1 MiB where it is more: an index stays small enough for
    /// memory and dense enough to find damage by.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a segment is closed before its index grows beyond this.
    pub segment_index_bytes: u32,
    /// `retention.bytes`, -1 for none.
    pub retention_bytes: i64,
    /// `retention.ms`, -1 for none.
    pub retention_ms: i64,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            segment_jitter_ms: 0,
            index_interval_bytes: 32 << 10,
            segment_index_bytes: 10 << 20,
            retention_bytes: -1,
            retention_ms: 7 * 24 * 3600 * 1000,
        }
    }
}
