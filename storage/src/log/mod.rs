//! The log of one partition: which entries there are, what they mean in offsets, terms and time,
//! and where each of them lies. Synchronous; what waits goes out as a job and comes back as data.
//!
//! An entry is staged into the journal and readable from the *tail* at once. When it is committed
//! a drain moves it into a *segment*; from then on the journal need not keep it, and the tail may
//! let it go. So at any time:
//!
//! ```text
//!  first_index ..... drained ..... commit ..... last_index
//!  [ segments             ]
//!              [ tail: a suffix of all; everything above drained is in it ]
//! ```
//!
//! Must not know topics' names, records, producers or watermarks of other replicas. Deliberately
//! absent: file handles (a core's cache of open files has them) and any wish to be told the time.

pub(crate) mod append;
mod chunked;
pub(crate) mod drain;
mod entries;
pub(crate) mod index;
mod read;
pub(crate) mod reader;
mod retention;
pub(crate) mod segment;
pub(crate) mod tail;
pub(crate) mod terms;
mod timestamp;

use std::rc::Rc;

use bytes::Bytes;

pub use self::drain::{DrainDone, DrainJob};
pub use self::entries::{EntriesJob, EntriesPlan};
pub use self::read::{ReadJob, ReadPlan};
pub use self::retention::{RemovalDone, RemovalJob};
use self::segment::Segment;
use self::tail::Tail;
use self::terms::TermRuns;
pub use self::timestamp::{TimestampFound, TimestampJob, TimestampPlan};
use crate::cache::SegmentCache;
pub use crate::format::frame::EntryKind;
use crate::options::LogConfig;
use crate::partition::PartitionId;

/// What a replica must not forget between two answers (raft's hard state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    pub term: u64,
    /// The candidate voted for in this term; 0 for none.
    pub vote: u64,
    /// A lower bound of the commit index.
    pub commit: u64,
}

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub term: u64,
    pub index: u64,
    pub kind: EntryKind,
    /// The first offset it takes; the next free offset if it takes none.
    pub base_offset: i64,
    /// Number of offsets it takes.
    pub offset_count: u32,
    /// The largest timestamp of its records, Unix ms.
    pub max_timestamp: i64,
    /// For a batch: the record batch as consumers get it.
    pub data: Bytes,
}

/// Whether a log may take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Healthy,
    /// Both checkpoints were damaged and the log was rebuilt from its segments: entries are
    /// complete up to the last drain, but the vote is not known. It must not vote or campaign
    /// under its old identity.
    Rebuilt,
    /// Something durable is missing or contradicts itself. Nothing can be staged; what is there
    /// can be read. [`Journal::stage_reset`](crate::Journal::stage_reset) lifts it.
    Fenced(String),
}

/// The log of one partition.
#[derive(Debug)]
pub struct Log {
    pub(crate) id: PartitionId,
    pub(crate) cache: Rc<SegmentCache>,
    pub(crate) condition: Condition,
    pub(crate) config: LogConfig,
    pub(crate) hard_state: HardState,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
    /// The owner's state came with a reset and stands up to here, perhaps above the commit index.
    pub(crate) installed: u64,
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
    /// Entries below it are gone.
    pub(crate) first_index: u64,
    pub(crate) next_offset: i64,
    pub(crate) segments: Vec<Segment>,
    /// Entries up to here are in segments, and the offset after them.
    pub(crate) drained: u64,
    pub(crate) drained_offset: i64,
    /// Drains up to here are noted in the journal or in a checkpoint.
    pub(crate) noted: u64,
    pub(crate) tail: Tail,
    /// Bytes of the entries above `drained`, as frames.
    pub(crate) undrained_bytes: u64,
    pub(crate) terms: TermRuns,
    /// Files that are no segments any more and not yet removed.
    pub(crate) retired: Vec<Retired>,
    pub(crate) next_generation: u64,
    /// Number of the last frame of this log in the journal.
    pub(crate) chain: u64,
    /// Cloned into each job that writes or removes files of this partition.
    pub(crate) busy: Rc<()>,
    /// Changes when a job that is under way has become meaningless.
    pub(crate) incarnation: u32,
    /// The turn in which much was announced, and how much.
    pub(crate) bulk_turn: u64,
    pub(crate) bulk_bytes: u64,
}

/// Ten thousand idle logs a core are a normal day: an idle log with one segment and one term takes
/// this much, 120 bytes more for those two, and nothing else.
const _: () = assert!(size_of::<Log>() <= 512);

/// A file to be removed once the frame that retired it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retired {
    pub base_index: u64,
    pub generation: u64,
    /// The turn that must be durable first.
    pub turn: u64,
}

impl Log {
    pub(crate) fn new(id: PartitionId, cache: Rc<SegmentCache>) -> Log {
        Log {
            id,
            cache,
            condition: Condition::Healthy,
            config: LogConfig::default(),
            hard_state: HardState::default(),
            commit: 0,
            applied: 0,
            installed: 0,
            high_watermark: 0,
            log_start_offset: 0,
            first_index: 1,
            next_offset: 0,
            segments: Vec::new(),
            drained: 0,
            drained_offset: 0,
            noted: 0,
            tail: Tail::new(1),
            undrained_bytes: 0,
            terms: TermRuns::default(),
            retired: Vec::new(),
            next_generation: 1,
            chain: 0,
            busy: Rc::new(()),
            incarnation: 0,
            bulk_turn: 0,
            bulk_bytes: 0,
        }
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Takes the log out of service. The reason is kept across restarts. The first one stays.
    pub fn fence(&mut self, reason: String) {
        if !matches!(self.condition, Condition::Fenced(_)) {
            tracing::error!(partition = %self.id, reason, "partition fenced");
            self.condition = Condition::Fenced(reason);
        }
    }

    /// The hard state as it was staged last.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Index of the first entry that can still be had; `last_index() + 1` when there is none.
    pub fn first_index(&self) -> u64 {
        self.first_index
    }

    /// Index of the last entry, 0 for a log that never had one.
    pub fn last_index(&self) -> u64 {
        self.tail.last()
    }

    /// The term of an entry, for `first_index() - 1 ..= last_index()`; `None` outside.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == 0 {
            return (self.first_index == 1).then_some(0);
        }
        if index + 1 < self.first_index || index > self.last_index() {
            return None;
        }
        self.terms.term(index)
    }

    /// The term of the last entry, also after everything was removed.
    pub fn last_term(&self) -> u64 {
        self.terms.last_term()
    }

    /// Everything up to here is committed.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// Everything up to here was applied by the owner.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The index up to which the owner's state stands by a reset: a snapshot's state may be ahead
    /// of its log, which follows. Says nothing once the commit index is there.
    pub fn installed(&self) -> u64 {
        self.installed
    }

    /// The offset that follows the entry before `first_index`: no record below it is here.
    pub fn first_offset(&self) -> i64 {
        match self.tail.get(self.first_index) {
            Some(first) => first.base_offset,
            None => self
                .segments
                .first()
                .map_or(self.next_offset, |s| s.base_offset),
        }
    }

    /// The offset that the next record gets: Kafka's log end offset.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The smallest offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// The offset after the last committed record.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The offset after entry `index`. `None` when the entry is not in memory.
    pub fn offset_after(&self, index: u64) -> Option<i64> {
        if index == self.drained {
            return Some(self.drained_offset);
        }
        self.tail.get(index).map(|e| e.end_offset())
    }

    /// About the offset after entry `index`, for those who want to know how far behind somebody is: exact for what is
    /// in memory; in a segment as if its entries had equally many offsets.
    pub fn offset_near(&self, index: u64) -> i64 {
        if index >= self.last_index() {
            return self.next_offset;
        }
        if let Some(exact) = self.offset_after(index) {
            return exact;
        }
        let at = self.segments.partition_point(|s| s.last_index < index);
        let segment = self.segments.get(at).filter(|s| s.base_index <= index);
        segment.map_or(self.first_offset(), |segment| segment.offset_near(index))
    }

    /// The answer to OffsetForLeaderEpoch (KIP-320): the largest epoch not above `epoch` and the
    /// offset at which it ended. `None` where Kafka answers "undefined".
    pub fn epoch_end_offset(&self, epoch: i32) -> Option<(i32, i64)> {
        let (found, end) = self
            .terms
            .epoch_end(u64::try_from(epoch).ok()?, self.next_offset)?;
        Some((i32::try_from(found).ok()?, end.max(self.log_start_offset)))
    }

    /// The leader epoch of the last entry; `None` for an empty log.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.terms
            .runs()
            .last()
            .and_then(|r| i32::try_from(r.term).ok())
    }

    /// The start of each leader epoch that the log still knows: (epoch, start offset), for a
    /// [`Reset`](crate::Reset) on another replica.
    pub fn epochs(&self) -> Vec<(u64, i64)> {
        self.terms
            .runs()
            .iter()
            .map(|r| (r.term, r.offset))
            .collect()
    }

    /// Bytes in segments and in the undrained tail.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.size).sum::<u64>() + self.undrained_bytes
    }

    /// Bytes of memory that the tail accounts for.
    pub fn memory_bytes(&self) -> u64 {
        self.tail.bytes()
    }

    /// The settings of the partition's topic. They apply from the next drain on.
    pub fn configure(&mut self, config: LogConfig) {
        // A segment ends by its own size or by that of its index, whatever comes first.
        let segment_bytes = config.segment_bytes.min(index::indexed_bytes(&config));
        self.config = LogConfig {
            segment_bytes,
            ..config
        };
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Whether a drain or a removal is under way.
    pub(crate) fn is_busy(&self) -> bool {
        Rc::strong_count(&self.busy) > 1
    }

    pub(crate) fn is_fenced(&self) -> bool {
        matches!(self.condition, Condition::Fenced(_))
    }

    /// The journal block that the oldest undrained entry lies in.
    pub(crate) fn oldest_undrained_sequence(&self) -> Option<u64> {
        self.tail.get(self.drained + 1).map(|e| e.sequence)
    }

    /// Asserts what holds between the parts.
    pub(crate) fn verify(&self) {
        let last = self.last_index();
        assert!(
            self.drained <= self.commit && self.commit <= last,
            "{}: drained {} commit {} last {last}",
            self.id,
            self.drained,
            self.commit
        );
        assert!(
            self.tail.first() <= self.drained + 1,
            "{}: the tail begins at {}, drained is {}",
            self.id,
            self.tail.first(),
            self.drained
        );
        assert!(
            self.log_start_offset <= self.high_watermark,
            "{}: log start {} above high watermark {}",
            self.id,
            self.log_start_offset,
            self.high_watermark
        );
        for pair in self.segments.windows(2) {
            // A segment with placed entries begins behind placed entries of the one before.
            let ends = pair[0].last_index;
            let next = if pair[1].size > 0 {
                ends + 1
            } else {
                pair[1].base_index
            };
            assert!(
                ends < next && next == pair[1].base_index,
                "{}: segments {pair:?}",
                self.id
            );
        }
        if let Some(segment) = self.segments.last() {
            let placed = self
                .tail
                .get(segment.last_index + 1)
                .is_some_and(|e| e.place.is_some());
            assert!(
                segment.last_index <= self.drained || placed,
                "{}: drained {}, {segment:?}",
                self.id,
                self.drained
            );
        }
    }
}
