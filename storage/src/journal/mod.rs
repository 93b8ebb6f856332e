//! The journal of a core: group commit for all its partitions. Whatever its logs and replicas
//! have to remember in a turn is staged, and leaves in one write with one sync, however many
//! partitions take part.
//!
//! ```text
//! stage_entry, stage_hard_state, ...   copy into the open buffer, readable at once
//! seal                                 closes the turn: a JournalWrite
//! JournalWrite::run                    one synced write, usually; the next turn stages meanwhile
//! written                              the turn is durable: its promises may leave
//! ```
//!
//! A failed write fails the journal for good: what lies on the disk is unknown, and a retry that
//! succeeds proves nothing about the pages that the first attempt lost.
//!
//! Files are used in turn and recycled in place once a checkpoint covers them (`checkpoint`).
//! Must not know what a batch or a replica is. Deliberately absent: a timer; a turn ends when the
//! owner says so.

pub(crate) mod checkpoint;
mod direct;
pub(crate) mod files;
mod mutated;
mod stage;
mod upkeep;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use runtime::AppendBuf;

pub use self::checkpoint::{Checkpoint, CheckpointDone, CheckpointJob};
use self::direct::Extent;
use self::files::JournalFiles;
pub use self::files::{PrepareDone, PrepareJob};
use self::stage::PendingBlock;
pub use self::stage::Staged;
pub use self::upkeep::{Chores, DropDone, DropJob, Swept};
pub use self::write::{JournalWrite, JournalWritten};
use crate::cache::SegmentCache;
use crate::error::Refusal;
use crate::format::block::BlockHeader;
use crate::log::Log;
use crate::options::Options;
use crate::partition::{PartitionId, mix};
use crate::stats::Stats;

/// The journal of one core.
pub struct Journal {
    pub(crate) core: u32,
    pub(crate) cores: u32,
    pub(crate) directory: PathBuf,
    pub(crate) options: Options,
    pub(crate) cache: Rc<SegmentCache>,
    pub(crate) files: JournalFiles,
    pub(crate) next_sequence: u64,
    pub(crate) durable_sequence: u64,
    /// Checksum of the newest sealed block.
    pub(crate) previous_crc: u32,
    pub(crate) drops: BTreeMap<PartitionId, PendingDrop>,
    pub(crate) checkpoints: Checkpoints,
    run: u64,
    staged_turn: u64,
    /// A turn waits for room on the disk.
    held: bool,
    durable_turn: u64,
    in_flight: bool,
    failed: bool,
    disk_full: bool,
    blocks: Vec<PendingBlock>,
    /// The buffers of this turn; the last one is open, and has this number.
    buffers: Vec<AppendBuf>,
    open_buffer_number: u64,
    memory: Memory,
    /// What this turn writes straight to segments, by log.
    extents: BTreeMap<PartitionId, Extent>,
    ended_extents: Vec<(PartitionId, Extent)>,
    sealed_tail: Option<mutated::SealedTail>,
}

/// A partition whose directory is to be removed.
pub(crate) struct PendingDrop {
    /// The turn that must be durable first.
    pub turn: u64,
    /// Jobs of the log that are still under way hold a clone.
    pub busy: Rc<()>,
    pub running: bool,
}

/// What is known of the checkpoints on the disk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Checkpoints {
    /// Number of the newest one.
    pub number: u64,
    /// The first block that the newest one needs, and the one before it.
    pub replay_from: [u64; 2],
    /// What the newest one does not have.
    pub since: Since,
    pub running: bool,
}

/// What happened since a checkpoint was begun.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Since {
    /// Journal bytes written.
    pub bytes: u64,
    /// Something was drained.
    pub drained: bool,
}

impl Since {
    /// Takes in what another checkpoint would have had, had it been written.
    pub fn add(&mut self, given_up: Since) {
        self.bytes += given_up.bytes;
        self.drained |= given_up.drained;
    }
}

impl Checkpoints {
    /// Would another one need less of the journal? A full journal writes nothing any more, so
    /// bytes alone do not say: drains free room too, and what the newest one freed stays until the
    /// one before it has gone.
    pub fn would_help(&self) -> bool {
        self.since.bytes > 0 || self.since.drained || self.replay_from[0] > self.replay_from[1]
    }
}

/// The buffers that slices may still refer to: their numbers and sizes, oldest first.
#[derive(Default)]
pub(crate) struct Memory {
    buffers: VecDeque<(u64, u64)>,
    next_number: u64,
    bytes: u64,
}

impl Memory {
    /// Notes a new buffer and returns its number. 0 is no buffer's number.
    pub fn add(&mut self, bytes: u64) -> u64 {
        self.next_number += 1;
        self.buffers.push_back((self.next_number, bytes));
        self.bytes += bytes;
        self.next_number
    }

    /// Counts bookkeeping that lives as long as the newest buffer.
    pub fn charge(&mut self, bytes: u64) {
        if let Some((_, size)) = self.buffers.back_mut() {
            *size += bytes;
            self.bytes += bytes;
        }
    }

    /// The number below which buffers have to go so that the rest fits into `bytes_max`. The
    /// newest one stays.
    fn excess_below(&self, bytes_max: u64) -> Option<u64> {
        let mut bytes = self.bytes;
        let mut below = None;
        for pair in self.buffers.iter().zip(self.buffers.iter().skip(1)) {
            if bytes <= bytes_max {
                break;
            }
            let ((_, size), (next, _)) = pair;
            bytes -= size;
            below = Some(*next);
        }
        below
    }

    /// Forgets all buffers: nothing refers to them any more.
    pub fn clear(&mut self) {
        self.buffers.clear();
        self.bytes = 0;
    }

    fn release_below(&mut self, number: u64) {
        while self.buffers.front().is_some_and(|(n, _)| *n < number) {
            let (_, size) = self.buffers.pop_front().expect("just seen");
            self.bytes -= size;
        }
    }
}

/// What recovery, or the first start, knows of a journal.
pub(crate) struct Opened {
    pub core: u32,
    pub cores: u32,
    pub directory: PathBuf,
    pub cache: Rc<SegmentCache>,
    pub files: JournalFiles,
    pub last_sequence: u64,
    pub previous_crc: u32,
    pub checkpoints: Checkpoints,
    pub drops: Vec<PartitionId>,
    pub memory: Memory,
}

impl Journal {
    pub(crate) fn new(opened: Opened, options: Options) -> Journal {
        let run = mix(options.salt ^ mix(u64::from(opened.core) << 32 | opened.last_sequence));
        opened.cache.durable_sequence.set(opened.last_sequence);
        let drop = |id| {
            (
                id,
                PendingDrop {
                    turn: 0,
                    busy: Rc::new(()),
                    running: false,
                },
            )
        };
        Journal {
            core: opened.core,
            cores: opened.cores,
            directory: opened.directory,
            options,
            cache: opened.cache,
            files: opened.files,
            next_sequence: opened.last_sequence + 1,
            durable_sequence: opened.last_sequence,
            previous_crc: opened.previous_crc,
            drops: opened.drops.into_iter().map(drop).collect(),
            checkpoints: opened.checkpoints,
            run,
            staged_turn: 1,
            held: false,
            durable_turn: 0,
            in_flight: false,
            failed: false,
            disk_full: false,
            blocks: Vec::new(),
            buffers: Vec::new(),
            open_buffer_number: 0,
            memory: opened.memory,
            extents: BTreeMap::new(),
            ended_extents: Vec::new(),
            sealed_tail: None,
        }
    }

    /// A log for a partition that is new on this node. Nothing lies on the disk until something
    /// is staged. Asserts that no drop of the same partition is pending: see
    /// [`is_dropping`](Self::is_dropping).
    pub fn create_log(&mut self, id: PartitionId) -> Log {
        assert!(!self.is_dropping(id), "{id} is being dropped");
        Log::new(id, Rc::clone(&self.cache))
    }

    /// Entry data that can be accepted now, about; 0 when the journal refuses.
    pub fn room(&self) -> u64 {
        match self.failed {
            true => 0,
            false => self.files.free_bytes().saturating_sub(self.entry_reserve()),
        }
    }

    /// Why nothing new should be accepted. What was accepted before can still be staged: it fits
    /// a reserve that was written beforehand.
    pub fn refuses(&self) -> Option<Refusal> {
        if self.failed {
            return Some(Refusal::Failed);
        }
        if self.held {
            return Some(Refusal::DiskFull);
        }
        (self.room() == 0).then(|| self.full())
    }

    /// The disk has no room for what the journal or its logs needed last: the journal cannot grow, and what it has
    /// left will not last. Known before [`refuses`](Self::refuses) says so.
    pub fn disk_is_full(&self) -> bool {
        self.held || self.disk_full
    }

    fn full(&self) -> Refusal {
        if self.disk_full {
            Refusal::DiskFull
        } else {
            Refusal::Full
        }
    }

    /// Kept for entries that were accepted before the journal was found to be full.
    fn entry_reserve(&self) -> u64 {
        (self.files.total_bytes() / 4).min(16 << 20)
    }

    /// Kept for markers: they are what makes room again.
    fn marker_reserve(&self) -> u64 {
        (self.files.total_bytes() / 64).max(2 * crate::format::PAGE_BYTES as u64)
    }

    /// The number of the turn that is being staged.
    pub fn staged_turn(&self) -> u64 {
        self.staged_turn
    }

    /// The last turn that anything was staged in: once it is durable, so is everything.
    pub fn last_turn(&self) -> u64 {
        if self.blocks.is_empty() {
            self.staged_turn - 1
        } else {
            self.staged_turn
        }
    }

    /// Everything staged in turns up to this one is on stable storage.
    pub fn durable_turn(&self) -> u64 {
        self.durable_turn
    }

    /// Whether a write is under way.
    pub fn is_writing(&self) -> bool {
        self.in_flight
    }

    pub fn stats(&self) -> Stats {
        let mut stats = self.cache.counters.get();
        let unused: u64 = self.files.ready.iter().map(|s| s.bytes).sum();
        stats.journal_total_bytes = self.files.total_bytes();
        stats.journal_used_bytes = stats.journal_total_bytes - unused;
        stats.memory_bytes = self.memory.bytes;
        stats.cache_bytes = self.cache.memory_bytes();
        stats
    }

    fn block_header(&self, block: &PendingBlock) -> BlockHeader {
        BlockHeader {
            epoch: block.epoch,
            sequence: block.sequence,
            durable_sequence: self.durable_sequence,
            run: self.run,
            length: block.length,
            frames: block.frames,
            previous_crc: self.previous_crc,
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Journal(core {}, turn {} staged, {} durable)",
            self.core, self.staged_turn, self.durable_turn
        )
    }
}
