//! What a core's storage has done since it started, for the metrics.

use std::cell::Cell;

/// Counters and gauges of one core. All but the gauges only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Synced journal writes.
    pub journal_writes: u64,
    /// Bytes of them, headers and padding included.
    pub journal_bytes: u64,
    /// Bytes written to segments, headers and padding included.
    pub segment_bytes: u64,
    /// Entry data that was staged.
    pub payload_bytes: u64,
    /// Entries staged.
    pub entries: u64,
    /// Entries moved to segments.
    pub drained_entries: u64,
    /// Entry data that went straight to a segment.
    pub direct_bytes: u64,
    /// Reads served from the tails.
    pub tail_reads: u64,
    /// Reads that needed segments.
    pub disk_reads: u64,
    /// Pieces of segments found in the cache.
    pub cache_hits: u64,
    /// Pieces of segments read from the disk.
    pub cache_misses: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Gauge: journal bytes that hold something still needed.
    pub journal_used_bytes: u64,
    /// Gauge: size of all journal files.
    pub journal_total_bytes: u64,
    /// Gauge: memory of tails and open buffers.
    pub memory_bytes: u64,
    /// Gauge: memory of the read cache.
    pub cache_bytes: u64,
}

/// Counters that jobs and logs of a core add to.
#[derive(Default)]
pub(crate) struct Counters(Cell<Stats>);

impl Counters {
    pub fn add(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.0.get();
        change(&mut stats);
        self.0.set(stats);
    }

    pub fn get(&self) -> Stats {
        self.0.get()
    }
}
