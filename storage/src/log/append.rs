//! How a log changes: entries arrive, are cut by a raft conflict, commit, and leave memory.
//! The journal calls these in the same breath as it stages the frame; recovery calls them with
//! the frames that it finds.

use bytes::Bytes;

use super::segment::Segment;
use super::tail::{Tail, TailEntry};
use super::terms::{TermRun, TermRuns};
use super::{Condition, EntryKind, HardState, Log, Retired};
use crate::error::StageError;
use crate::format::codec::{Damaged, Reader, Writer};

/// What a log becomes when a snapshot is installed: empty, and to be continued after `last_index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// The snapshot's index and term.
    pub last_index: u64,
    pub last_term: u64,
    /// The offset after the entry at that index, and the new log start offset: what lies below
    /// cannot be read here, and what moved the log start further is an entry behind that index.
    pub next_offset: i64,
    /// (epoch, start offset) ascending, up to `last_term`: answers for OffsetForLeaderEpoch.
    pub epochs: Vec<(u64, i64)>,
    /// The owner's state, and the index up to which it stands: at or above `last_index`. Recovery
    /// hands both out like those of a checkpoint, so a crash right after the reset loses neither.
    pub applied: u64,
    pub state: Bytes,
}

impl Log {
    /// Whether an entry with this term and index can be taken now.
    pub(crate) fn check_append(&self, term: u64, index: u64) -> Result<(), StageError> {
        if let Condition::Fenced(reason) = &self.condition {
            return Err(StageError::Fenced(reason.clone()));
        }
        if index > self.last_index() + 1 {
            return Err(StageError::Gap {
                index,
                last_index: self.last_index(),
            });
        }
        if index <= self.commit {
            return Err(StageError::BelowCommit {
                index,
                commit: self.commit,
            });
        }
        match self.terms.term(index - 1) {
            Some(last_term) if last_term > term => Err(StageError::Term { term, last_term }),
            _ => Ok(()),
        }
    }

    /// Forgets the entries above `index`, which are not committed. Where they were written
    /// straight to a segment, their place is not used again: the segment is closed, and its file
    /// removed if it holds nothing else.
    pub(crate) fn cut_to(&mut self, index: u64, turn: u64) {
        let placed = self.forget_above(index);
        let generations = (placed.iter().min(), placed.iter().max());
        if let (Some(&first), Some(&last)) = generations {
            for segment in &mut self.segments {
                segment.closed |= (first..=last).contains(&segment.generation);
            }
            self.retire_empty_segments(turn);
        }
    }

    /// Forgets the entries above `index`, and nothing more. Returns the generations of the
    /// segments that they were placed in.
    pub(crate) fn forget_above(&mut self, index: u64) -> Vec<u64> {
        let Some(first_gone) = self.tail.get(index + 1) else {
            return Vec::new();
        };
        assert!(
            index >= self.commit,
            "{}: cut to {index}, commit {}",
            self.id,
            self.commit
        );
        self.next_offset = first_gone.base_offset;
        let mut placed = Vec::new();
        for (_, gone) in self.tail.from(index + 1) {
            self.undrained_bytes -= gone.frame_bytes();
            placed.extend(gone.place.map(|p| p.generation));
        }
        self.tail.truncate_to(index);
        self.terms.truncate_to(index);
        placed
    }

    /// No undrained entry lies in a segment any more: the place that such entries took is not
    /// used again.
    pub(crate) fn close_placed_segments(&mut self, turn: u64) {
        if let Some(newest) = self.segments.last_mut() {
            newest.closed = true;
        }
        self.retire_empty_segments(turn);
    }

    /// Retires the newest segments as long as they hold nothing.
    fn retire_empty_segments(&mut self, turn: u64) {
        let placed = |log: &Log, generation| {
            log.tail
                .from(log.drained + 1)
                .any(|(_, e)| e.place.is_some_and(|p| p.generation == generation))
        };
        while let Some(Segment {
            base_index,
            generation,
            size: 0,
            ..
        }) = self.segments.last()
        {
            let (base_index, generation) = (*base_index, *generation);
            if placed(self, generation) {
                break;
            }
            self.segments.pop();
            self.retired.push(Retired {
                base_index,
                generation,
                turn,
            });
        }
    }

    /// Takes the entry as the last one. Its index is `last_index() + 1`.
    pub(crate) fn push(&mut self, entry: TailEntry) {
        let index = self.last_index() + 1;
        assert_eq!(
            entry.base_offset, self.next_offset,
            "{}: entry {index}",
            self.id
        );
        self.terms.push(entry.term, index, entry.base_offset);
        self.next_offset = entry.end_offset();
        self.undrained_bytes += entry.frame_bytes();
        self.tail.push(entry);
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Everything up to `index` is committed. Moves the high watermark, and the log start offset
    /// where a LogStart entry says so. A commit beyond the log counts up to its end; one below
    /// the present one changes nothing.
    pub fn commit_to(&mut self, index: u64) {
        let index = index.min(self.last_index());
        if index <= self.commit {
            return;
        }
        let mut log_start = self.log_start_offset;
        let mut high_watermark = self.high_watermark;
        let fresh = (index - self.commit) as usize;
        for (_, entry) in self.tail.from(self.commit + 1).take(fresh) {
            high_watermark = entry.end_offset();
            if entry.kind == EntryKind::LogStart {
                log_start = log_start.max(read_offset(&entry.data).min(high_watermark));
            }
        }
        self.commit = index;
        self.high_watermark = high_watermark;
        self.log_start_offset = log_start;
    }

    /// The owner has applied everything up to `index`: it will not ask memory for it again.
    pub fn applied_to(&mut self, index: u64) {
        assert!(
            index <= self.commit,
            "{}: applied {index}, commit {}",
            self.id,
            self.commit
        );
        self.applied = self.applied.max(index);
    }

    /// Everything up to the end of `segment` is in segments. The segment is the last one, or new.
    pub(crate) fn drained_to(&mut self, segment: Segment) {
        let fresh = (segment.last_index - self.drained) as usize;
        let gone: u64 = self
            .tail
            .from(self.drained + 1)
            .take(fresh)
            .map(|(_, e)| e.frame_bytes())
            .sum();
        self.undrained_bytes -= gone;
        self.drained = segment.last_index;
        self.drained_offset = segment.end_offset;
        self.next_generation = self.next_generation.max(segment.generation + 1);
        match self
            .segments
            .iter_mut()
            .find(|s| s.generation == segment.generation)
        {
            Some(known) => {
                *known = Segment {
                    closed: known.closed || segment.closed,
                    ..segment
                }
            }
            None => self.segments.push(segment),
        }
    }

    /// Lets go of entries that are drained and applied and lie in buffers below `buffer`, and
    /// copies the others out of those buffers.
    /// Says whether undrained entries have memory of their own now, which only a drain frees.
    pub(crate) fn leave_buffers_below(&mut self, buffer: u64) -> bool {
        let removable = self.drained.min(self.applied);
        self.tail
            .evict(|index, e| index <= removable && e.buffer < buffer);
        self.tail.detach_below(buffer);
        let oldest = self.tail.get(self.drained + 1);
        oldest.is_some_and(|e| e.buffer == 0)
    }

    /// Whether the log can become what `reset` says. A fenced one can become anything: what it
    /// knew is in doubt.
    pub(crate) fn check_reset(&self, reset: &Reset) -> Result<(), StageError> {
        if reset.last_index < self.commit && !self.is_fenced() {
            return Err(StageError::BelowCommit {
                index: reset.last_index,
                commit: self.commit,
            });
        }
        Ok(())
    }

    /// Becomes what `reset` says; every file of the past is retired.
    pub(crate) fn reset_to(&mut self, reset: &Reset, turn: u64) {
        // A drain may be writing a segment that the log does not have yet.
        self.retired.push(Retired {
            base_index: self.drained + 1,
            generation: self.next_generation,
            turn,
        });
        self.next_generation += 1;
        for s in &self.segments {
            let Segment {
                base_index,
                generation,
                ..
            } = *s;
            self.retired.push(Retired {
                base_index,
                generation,
                turn,
            });
        }
        let Reset {
            last_index,
            last_term,
            next_offset,
            applied,
            ..
        } = *reset;
        let mut runs: Vec<TermRun> = reset
            .epochs
            .iter()
            .filter(|(term, _)| *term < last_term)
            .map(|&(term, offset)| TermRun {
                term,
                index: 0,
                offset,
            })
            .collect();
        let start = reset
            .epochs
            .iter()
            .find(|e| e.0 == last_term)
            .map_or(next_offset, |e| e.1);
        runs.push(TermRun {
            term: last_term,
            index: last_index,
            offset: start,
        });
        self.terms = TermRuns::from_runs(runs).unwrap_or_default();
        if self.terms.runs().is_empty() {
            self.terms.push(last_term, last_index, next_offset);
        }
        self.condition = Condition::Healthy;
        self.segments.clear();
        self.tail = Tail::new(last_index + 1);
        self.undrained_bytes = 0;
        self.first_index = last_index + 1;
        self.drained = last_index;
        self.drained_offset = next_offset;
        self.noted = last_index;
        self.commit = last_index;
        self.applied = last_index;
        self.high_watermark = next_offset;
        self.next_offset = next_offset;
        self.log_start_offset = next_offset;
        self.installed = applied;
        self.incarnation += 1;
        self.hard_state.commit = self.hard_state.commit.max(last_index);
    }
}

/// The offset in a LogStart entry; 0, which moves nothing, when it is none.
fn read_offset(data: &[u8]) -> i64 {
    data.try_into().map_or(0, i64::from_le_bytes)
}

impl Reset {
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.u64(self.last_index);
        w.u64(self.last_term);
        w.i64(self.next_offset);
        w.u32(self.epochs.len() as u32);
        for (epoch, offset) in &self.epochs {
            w.u64(*epoch);
            w.i64(*offset);
        }
        w.u64(self.applied);
        w.slice(&self.state);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Reset, Damaged> {
        Ok(Reset {
            last_index: r.u64()?,
            last_term: r.u64()?,
            next_offset: r.i64()?,
            epochs: {
                let count = r.count(16)?;
                (0..count)
                    .map(|_| Ok((r.u64()?, r.i64()?)))
                    .collect::<Result<_, Damaged>>()?
            },
            applied: r.u64()?,
            state: Bytes::copy_from_slice(r.slice()?),
        })
    }
}
