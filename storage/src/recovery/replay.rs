//! What the frames of a journal mean, one after another. Synchronous, and never in doubt: where
//! frames contradict each other, or are missing, the partition concerned is fenced and the rest
//! goes on.
//!
//! A log comes from its checkpoint record, if it has one. The frames up to the record's `chain`
//! are then in it already, except for the entries that were not drained: those are taken from
//! the journal, and their end must be the record's `last_index`. The frames behind it apply
//! fully, and their `chain` numbers must not have a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;

use super::RecoveryReport;
use crate::cache::SegmentCache;
use crate::format::checkpoint::{CheckpointFile, LogRecord, decode_segment};
use crate::format::codec::Reader;
use crate::format::frame::{
    EntryKind, FLAG_FIRST, FLAG_REFERENCE, FrameHeader, FrameKind, Reference,
};
use crate::log::append::Reset;
use crate::log::segment::Segment;
use crate::log::tail::{Place, Tail, TailEntry};
use crate::log::{HardState, Log, Retired};
use crate::partition::PartitionId;

pub(super) struct Replay {
    cache: Rc<SegmentCache>,
    /// Partitions that are not in the checkpoint and have frames in blocks before it are old.
    pub begun_at: u64,
    pub logs: BTreeMap<PartitionId, Replayed>,
    pub drops: BTreeSet<PartitionId>,
    /// Number of stretches that were lost behind the checkpoint.
    losses: u64,
    pub report: RecoveryReport,
}

pub(super) struct Replayed {
    pub log: Log,
    pub applied: u64,
    pub state: Bytes,
    source: Source,
    /// The commit index that was known when the record was made.
    commit: u64,
    /// Losses up to this number did not concern this log.
    cleared: u64,
    /// A rebuilt log that was dropped, unless it was begun again.
    dropped: bool,
    /// A rebuilt log as it was found, for when the journal turns to another life of it.
    found: Option<Box<LogRecord>>,
    /// A rebuilt log whose newest segment has to be measured again.
    pub recut: bool,
    /// It was fenced when its record was made: a reset has lifted that, or will.
    fenced_before: bool,
}

/// Where a log was begun from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From a record, whose frames are still being passed.
    Record {
        chain: u64,
        last_index: u64,
        last_term: u64,
    },
    /// From segments: chain numbers mean nothing, entries that continue it are taken.
    Segments,
    /// The journal alone counts from here on.
    Journal,
}

impl Replay {
    pub fn new(cache: &Rc<SegmentCache>, checkpoint: CheckpointFile) -> Replay {
        let mut replay = Replay {
            cache: Rc::clone(cache),
            begun_at: checkpoint.begun_at,
            logs: BTreeMap::new(),
            drops: checkpoint.drops.into_iter().collect(),
            losses: 0,
            report: RecoveryReport::default(),
        };
        for record in checkpoint.records {
            let LogRecord {
                chain,
                last_index,
                last_term,
                applied,
                commit,
                ..
            } = record;
            let state = record.state.clone();
            let source = Source::Record {
                chain,
                last_index,
                last_term,
            };
            let log = Log::from_record(record, Rc::clone(cache));
            let fenced_before = log.is_fenced();
            let replayed = Replayed {
                log,
                applied,
                state,
                source,
                commit,
                cleared: 0,
                dropped: false,
                found: None,
                recut: false,
                fenced_before,
            };
            replay.logs.insert(replayed.log.id(), replayed);
        }
        replay
    }

    /// Adds a log that was rebuilt from its segments.
    pub fn add_rebuilt(&mut self, log: Log) {
        let found = Some(Box::new(log.record(0, Bytes::new())));
        let replayed = Replayed {
            commit: log.commit(),
            log,
            applied: 0,
            state: Bytes::new(),
            source: Source::Segments,
            cleared: 0,
            dropped: false,
            found,
            recut: false,
            fenced_before: false,
        };
        self.logs.insert(replayed.log.id(), replayed);
    }

    /// Durable blocks that cannot be read: every log may have had frames in them, and has to
    /// prove by its next frame that it had not.
    pub fn on_lost_blocks(&mut self, from: u64, until: u64) {
        tracing::error!(from, until, "journal blocks are damaged");
        self.report.damaged = true;
        if until >= self.begun_at {
            self.losses += 1;
        }
    }

    /// A frame whose header is good and whose data is not.
    pub fn on_damaged_frame(&mut self, frame: &FrameHeader, sequence: u64) {
        self.report.damaged = true;
        let losses = self.losses;
        if let Some(replayed) = self.logs.get_mut(&frame.id) {
            if matches!(replayed.source, Source::Record { chain, .. } if frame.chain <= chain) {
                return replayed.lost_before_record(frame.chain);
            }
            replayed.log.chain = frame.chain;
            replayed.cleared = losses;
            replayed
                .log
                .fence(format!("journal block {sequence} is damaged"));
        }
    }

    pub fn on_frame(&mut self, frame: &FrameHeader, data: Bytes, sequence: u64, buffer: u64) {
        self.report.frames += 1;
        let Some(replayed) = self.logs.get_mut(&frame.id) else {
            return self.on_unknown(frame, data, sequence, buffer);
        };
        if let Source::Record { chain, .. } = replayed.source {
            if frame.chain <= chain {
                return replayed.apply_before_record(frame, data, sequence, buffer);
            }
            replayed.check_record();
        }
        if replayed.source == Source::Segments {
            return replayed.apply_to_rebuilt(frame, data, sequence, buffer);
        }
        if frame.flags & FLAG_FIRST != 0 {
            replayed
                .log
                .fence("it begins again without having been dropped".into());
        } else if frame.chain != replayed.log.chain + 1 {
            replayed.log.fence(format!(
                "journal frames are missing before block {sequence}"
            ));
        }
        replayed.log.chain = frame.chain;
        replayed.cleared = self.losses;
        if frame.kind == FrameKind::Dropped {
            self.logs.remove(&frame.id);
            self.drops.insert(frame.id);
            return;
        }
        if let Err(reason) = replayed.apply(frame, data, sequence, buffer) {
            replayed
                .log
                .fence(format!("{reason} in journal block {sequence}"));
        }
    }

    fn on_unknown(&mut self, frame: &FrameHeader, data: Bytes, sequence: u64, buffer: u64) {
        let first = frame.flags & FLAG_FIRST != 0;
        if sequence < self.begun_at {
            return; // Dropped before the checkpoint, which knows every other partition.
        }
        let mut replayed = Replayed {
            log: Log::new(frame.id, Rc::clone(&self.cache)),
            applied: 0,
            state: Bytes::new(),
            source: Source::Journal,
            commit: 0,
            cleared: self.losses,
            dropped: false,
            found: None,
            recut: false,
            fenced_before: false,
        };
        replayed.log.chain = frame.chain;
        if frame.kind == FrameKind::Dropped {
            self.drops.insert(frame.id);
            return;
        }
        if first {
            // It was begun anew, so the removal of its predecessor had ended.
            self.drops.remove(&frame.id);
        } else {
            replayed
                .log
                .fence(format!("its beginning is missing before block {sequence}"));
        }
        if let Err(reason) = replayed.apply(frame, data, sequence, buffer) {
            replayed
                .log
                .fence(format!("{reason} in journal block {sequence}"));
        }
        self.logs.insert(frame.id, replayed);
    }

    /// The journal ends here: what is still in doubt is decided.
    pub fn finish(&mut self) {
        let losses = self.losses;
        self.drops.extend(
            self.logs
                .iter()
                .filter(|(_, r)| r.dropped)
                .map(|(id, _)| *id),
        );
        self.logs.retain(|_, r| !r.dropped);
        for replayed in self.logs.values_mut() {
            replayed.check_record();
            if replayed.cleared < losses && replayed.source != Source::Segments {
                replayed
                    .log
                    .fence("journal blocks are damaged that may have held its state".into());
            }
            let log = &mut replayed.log;
            if replayed.source == Source::Segments {
                // It has a life already: its next frame is not the first.
                log.chain = log.chain.max(1);
            }
            let commit = replayed.commit.max(log.hard_state().commit);
            if commit > log.last_index() {
                log.fence(format!(
                    "it ends at {}, commit is {commit}",
                    log.last_index()
                ));
            }
            log.commit_to(commit);
            log.release_drained();
            log.close_torn_segment();
        }
    }
}

impl Replayed {
    /// All frames of the record were passed: the entries that it counts on must be there.
    fn check_record(&mut self) {
        let Source::Record {
            chain,
            last_index,
            last_term,
        } = self.source
        else {
            return;
        };
        self.source = Source::Journal;
        if self.log.chain != 0 && self.log.chain != chain {
            self.lost_before_record(chain);
        }
        self.log.chain = chain;
        let found = (self.log.last_index(), self.log.last_term());
        if found != (last_index, last_term) && !self.log.is_fenced() {
            self.log.fence(format!(
                "the journal brings back entries up to {} of term {}, the checkpoint has {} of {}",
                found.0, found.1, last_index, last_term
            ));
        }
    }

    /// Frames up to `chain` are missing, or an earlier life of the partition ends: they may have
    /// replaced any undrained entry that was seen so far. Those that were not will come again, or
    /// the log will end too early.
    fn lost_before_record(&mut self, chain: u64) {
        self.log.forget_above(self.log.drained);
        self.log.chain = chain;
    }

    /// A frame that the record knows of. Only undrained entries matter, and what cut them.
    fn apply_before_record(
        &mut self,
        frame: &FrameHeader,
        data: Bytes,
        sequence: u64,
        buffer: u64,
    ) {
        if self.log.chain != 0 && frame.chain != self.log.chain + 1 {
            self.lost_before_record(frame.chain);
        }
        let log = &mut self.log;
        log.chain = frame.chain;
        match frame.kind {
            FrameKind::Entry(kind) => {
                self.take_if_it_continues(frame, kind, data, sequence, buffer);
            }
            FrameKind::Truncate => drop(log.forget_above(frame.index.max(log.drained))),
            FrameKind::Reset | FrameKind::Dropped => drop(log.forget_above(log.drained)),
            FrameKind::HardState | FrameKind::Drained | FrameKind::Trimmed => {}
        }
    }

    /// A frame for a log that was rebuilt from segments: what continues it is taken.
    fn apply_to_rebuilt(&mut self, frame: &FrameHeader, data: Bytes, sequence: u64, buffer: u64) {
        self.log.chain = self.log.chain.max(frame.chain);
        if frame.flags & FLAG_FIRST != 0 {
            let found = self.found.as_ref().expect("a rebuilt log was found");
            self.log = Log::from_record((**found).clone(), Rc::clone(&self.log.cache));
            self.log.chain = frame.chain;
            (self.commit, self.recut, self.dropped) = (self.log.commit, false, false);
        }
        match frame.kind {
            FrameKind::Entry(kind) => {
                self.supersede_in_segments(frame);
                self.take_if_it_continues(frame, kind, data, sequence, buffer);
            }
            FrameKind::Truncate => {
                self.log.forget_above(frame.index.max(self.log.drained));
            }
            FrameKind::HardState => {
                let hard_state = read_hard_state(frame, &data);
                if hard_state.term >= self.log.hard_state().term {
                    self.log.set_hard_state(hard_state);
                }
            }
            FrameKind::Dropped => self.dropped = true,
            FrameKind::Reset => {
                if let Ok(reset) = Reset::decode(&mut Reader::new(&data))
                    && reset.last_index > self.log.drained
                {
                    let condition = self.log.condition.clone();
                    self.log.reset_to(&reset, 0);
                    self.log.condition = condition;
                    (self.commit, self.recut) = (reset.last_index, false);
                    (self.applied, self.state) = (reset.applied, reset.state);
                }
            }
            FrameKind::Drained | FrameKind::Trimmed => {}
        }
    }

    /// An entry that differs from the one in a segment was staged before or after it. In either
    /// case the journal holds what followed, so it has the last word on everything from there on.
    fn supersede_in_segments(&mut self, frame: &FrameHeader) {
        let log = &mut self.log;
        let known = frame.index >= log.first_index && frame.index <= log.drained;
        if known && log.terms.term(frame.index) != Some(frame.term) {
            log.undrain_from(frame.index, frame.base_offset);
            self.recut = true;
        }
    }

    /// Takes an entry above the drained ones if it fits; one that does not was superseded later.
    fn take_if_it_continues(
        &mut self,
        frame: &FrameHeader,
        kind: EntryKind,
        data: Bytes,
        sequence: u64,
        buffer: u64,
    ) {
        if self.place_again(frame, &data, sequence, false) {
            return;
        }
        let log = &mut self.log;
        log.forget_above((frame.index - 1).max(log.drained));
        let continues = frame.index == log.last_index() + 1
            && frame.base_offset == log.next_offset()
            && frame.term >= log.last_term();
        if !continues {
            return;
        }
        let Some((entry, _)) = tail_entry(frame, kind, data, sequence, buffer) else {
            return;
        };
        if entry.place.is_none_or(|p| log.knows_segment(p.generation)) {
            log.push(entry);
        }
    }

    /// Whether the frame only says that an entry lies in a segment now as well. A segment that a
    /// checkpoint record does not know (`may_be_new` is false) was cut off and retired, together
    /// with the entries in it.
    fn place_again(
        &mut self,
        frame: &FrameHeader,
        data: &[u8],
        sequence: u64,
        may_be_new: bool,
    ) -> bool {
        if frame.flags & FLAG_REFERENCE == 0 {
            return false;
        }
        let Some(reference) = Reference::decode(data) else {
            return false;
        };
        let log = &mut self.log;
        let same = log.tail.get(frame.index).is_some_and(|e| {
            e.term == frame.term && e.data_crc == reference.crc && e.data_length == reference.length
        });
        let known = may_be_new || log.knows_segment(reference.generation);
        if same && known && frame.index > log.drained {
            log.add_placed_segment(Some(reference.segment(frame.base_offset)));
            let entry = log.tail.get_mut(frame.index).expect("just seen");
            entry.place = Some(reference.place());
            // The frame before this one is not needed any more.
            entry.sequence = sequence;
        }
        same
    }

    /// A frame that the log does not know of yet.
    fn apply(
        &mut self,
        frame: &FrameHeader,
        data: Bytes,
        sequence: u64,
        buffer: u64,
    ) -> Result<(), String> {
        if self.log.is_fenced()
            && !matches!(
                frame.kind,
                FrameKind::Reset | FrameKind::Drained | FrameKind::Trimmed
            )
        {
            return Ok(());
        }
        match frame.kind {
            FrameKind::Entry(kind) => {
                if self.place_again(frame, &data, sequence, true) {
                    return Ok(());
                }
                let log = &mut self.log;
                log.check_append(frame.term, frame.index)
                    .map_err(|e| e.to_string())?;
                log.cut_to(frame.index - 1, 0);
                if frame.base_offset != log.next_offset() {
                    let expected = log.next_offset();
                    return Err(format!(
                        "offset {} where {expected} follows",
                        frame.base_offset
                    ));
                }
                let (entry, segment) = tail_entry(frame, kind, data, sequence, buffer)
                    .ok_or("a reference without a place")?;
                log.add_placed_segment(segment);
                log.push(entry);
            }
            FrameKind::HardState => self.log.set_hard_state(read_hard_state(frame, &data)),
            FrameKind::Truncate if frame.index < self.log.commit() => {
                return Err(format!("a cut to {} below commit", frame.index));
            }
            FrameKind::Truncate => self.log.cut_to(frame.index, 0),
            FrameKind::Drained => {
                let segment = decode_segment(&mut Reader::new(&data)).map_err(|e| e.to_string())?;
                self.log.drained_again(segment);
            }
            FrameKind::Trimmed => self.log.trimmed_again(frame.index),
            FrameKind::Reset => {
                let reset = Reset::decode(&mut Reader::new(&data)).map_err(|e| e.to_string())?;
                // A fence because of what this journal lacks stays: a vote may be lacking, too.
                let stays = self.log.is_fenced() && !self.fenced_before;
                let condition = self.log.condition.clone();
                self.log.reset_to(&reset, 0);
                if stays {
                    self.log.condition = condition;
                }
                self.fenced_before = false;
                self.commit = reset.last_index;
                (self.applied, self.state) = (reset.applied, reset.state);
            }
            FrameKind::Dropped => {}
        }
        Ok(())
    }
}

fn read_hard_state(frame: &FrameHeader, data: &[u8]) -> HardState {
    let vote = data.try_into().map_or(0, u64::from_le_bytes);
    HardState {
        term: frame.term,
        vote,
        commit: frame.index,
    }
}

/// The entry in a frame, and the segment it refers to if its data lies there.
fn tail_entry(
    frame: &FrameHeader,
    kind: EntryKind,
    data: Bytes,
    sequence: u64,
    buffer: u64,
) -> Option<(TailEntry, Option<Segment>)> {
    let mut entry = TailEntry {
        term: frame.term,
        base_offset: frame.base_offset,
        max_timestamp: frame.max_timestamp,
        offset_count: frame.offset_count,
        data_crc: frame.data_crc,
        data_length: frame.data_length,
        kind,
        sequence,
        buffer,
        place: None,
        data,
    };
    if frame.flags & FLAG_REFERENCE == 0 {
        return Some((entry, None));
    }
    let reference = Reference::decode(&entry.data)?;
    entry.data = Bytes::new();
    entry.buffer = 0;
    entry.data_crc = reference.crc;
    entry.data_length = reference.length;
    entry.place = Some(reference.place());
    Some((entry, Some(reference.segment(frame.base_offset))))
}

impl Reference {
    fn place(&self) -> Place {
        Place {
            generation: self.generation,
            position: self.position,
        }
    }

    /// The segment as it was when nothing had been put there yet, if the log does not know it.
    fn segment(&self, base_offset: i64) -> Segment {
        Segment::new(self.base_index, self.generation, base_offset, 0)
    }
}

impl Log {
    pub(super) fn from_record(record: LogRecord, cache: Rc<SegmentCache>) -> Log {
        let mut log = Log::new(record.id, cache);
        let retired = record.retired.iter();
        log.condition = record.condition;
        log.hard_state = record.hard_state;
        // A record is made of what is committed, or of what came with a reset.
        log.installed = match record.applied > record.commit {
            true => record.applied,
            false => 0,
        };
        log.log_start_offset = record.log_start_offset;
        log.first_index = record.first_index;
        log.drained = record.drained;
        log.drained_offset = record.drained_offset;
        log.noted = record.drained;
        log.commit = record.drained;
        log.high_watermark = record.drained_offset;
        log.next_offset = record.drained_offset;
        log.tail = Tail::new(record.drained + 1);
        log.next_generation = record.next_generation;
        log.terms = record.terms;
        log.segments = record.segments;
        log.retired = retired
            .map(|&(base_index, generation)| Retired {
                base_index,
                generation,
                turn: 0,
            })
            .collect();
        log
    }

    /// Forgets the entries in segments from `index` on. Nothing above them is in memory yet, or it
    /// goes, too.
    fn undrain_from(&mut self, index: u64, base_offset: i64) {
        let last = index - 1;
        self.segments.retain(|s| s.base_index < index);
        if let Some(newest) = self.segments.last_mut() {
            (newest.last_index, newest.end_offset, newest.closed) = (last, base_offset, true);
        }
        self.terms.truncate_to(last);
        self.tail = Tail::new(index);
        self.undrained_bytes = 0;
        self.drained = last;
        self.drained_offset = base_offset;
        self.noted = last;
        self.commit = last;
        self.next_offset = base_offset;
        self.high_watermark = base_offset;
        self.log_start_offset = self.log_start_offset.min(base_offset);
        self.hard_state.commit = self.hard_state.commit.min(last);
    }

    /// A drain that ended before the restart. One that does not continue what is known is done
    /// again instead.
    fn drained_again(&mut self, segment: Segment) {
        let grows = self
            .segments
            .iter()
            .any(|s| s.generation == segment.generation);
        let begins = segment.base_index == self.drained + 1;
        if (grows || begins)
            && segment.size > 0
            && segment.last_index > self.drained
            && segment.last_index <= self.last_index()
        {
            self.commit_to(segment.last_index);
            self.drained_to(segment);
            self.noted = self.drained;
            self.release_drained();
        }
    }

    /// Segments were retired before the restart. (All drains before that are noted.)
    fn trimmed_again(&mut self, first_index: u64) {
        if first_index <= self.drained + 1 {
            self.trim_to(first_index, 0);
        }
    }

    /// Where placed entries end in the middle of a page, what was written with them and then torn
    /// off may lie behind them. Nothing is appended there.
    fn close_torn_segment(&mut self) {
        let placed = self
            .tail
            .from(self.drained + 1)
            .any(|(_, e)| e.place.is_some());
        if let Some(newest) = self.segments.last_mut().filter(|_| placed) {
            newest.closed = true;
        }
    }

    fn knows_segment(&self, generation: u64) -> bool {
        self.segments.iter().any(|s| s.generation == generation)
    }

    /// A segment that only holds frames which are not drained yet.
    fn add_placed_segment(&mut self, segment: Option<Segment>) {
        let Some(mut segment) = segment else { return };
        if self
            .segments
            .iter()
            .any(|s| s.generation == segment.generation)
        {
            return;
        }
        // Its first entry may have been noted already, as one that was in the journal only.
        if let Some(first) = self.tail.get(segment.base_index) {
            segment.base_offset = first.base_offset;
            segment.end_offset = first.base_offset;
        }
        self.next_generation = self.next_generation.max(segment.generation + 1);
        self.segments.push(segment);
    }

    /// Lets go of the entries in memory that are in segments.
    pub(crate) fn release_drained(&mut self) {
        let drained = self.drained;
        self.tail.evict(|index, _| index <= drained);
    }
}
