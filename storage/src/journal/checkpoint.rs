//! Checkpoints: what start-up would otherwise have to learn from the journal. A journal file is
//! recycled only when a durable checkpoint covers it, and so does the one before it: if the
//! newest is damaged, the previous one still finds every block that it needs.

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use runtime::Disk;

use super::{Journal, Since};
use crate::cache::SegmentCache;
use crate::error::JournalError;
use crate::format::checkpoint::{CheckpointFile, LogRecord};
use crate::log::Log;
use crate::partition::PartitionId;

/// A checkpoint that is being put together. Logs may be added over several turns, each as it is
/// at that moment.
#[derive(Debug)]
pub struct Checkpoint {
    file: CheckpointFile,
    added: BTreeSet<PartitionId>,
    /// What the records say must be durable in the journal before the checkpoint is written.
    turn: u64,
    covers: Since,
}

impl Checkpoint {
    /// Adds a log, with what the owner has made of its entries up to `applied`. Every log that
    /// existed when the checkpoint was begun must be added (unless it was dropped since). The state
    /// may be ahead of the commit index only as far as a reset brought it along.
    pub fn add(&mut self, journal: &Journal, log: &Log, applied: u64, state: &[u8]) {
        assert!(
            self.added.insert(log.id()),
            "{} is in the checkpoint already",
            log.id()
        );
        let covered = log.commit().max(log.installed());
        assert!(applied <= covered, "{}: applied {applied}", log.id());
        self.turn = self.turn.max(journal.last_turn());
        if log.chain() == 0 {
            return; // Nothing of it was ever staged.
        }
        if let Some(sequence) = log.oldest_undrained_sequence() {
            self.file.replay_from = self.file.replay_from.min(sequence);
        }
        self.file
            .records
            .push(log.record(applied, Bytes::copy_from_slice(state)));
    }

    /// Whether this log was added.
    pub fn contains(&self, id: PartitionId) -> bool {
        self.added.contains(&id)
    }

    /// Number of logs added so far.
    pub fn len(&self) -> usize {
        self.added.len()
    }

    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
    }
}

/// Writes a checkpoint.
#[derive(Debug)]
pub struct CheckpointJob {
    path: PathBuf,
    bytes: Vec<u8>,
    number: u64,
    replay_from: u64,
    covers: Since,
    cache: Rc<SegmentCache>,
}

/// The outcome of a [`CheckpointJob`].
#[derive(Debug)]
pub struct CheckpointDone {
    number: u64,
    replay_from: u64,
    covers: Since,
    result: io::Result<()>,
}

impl Journal {
    /// Begins a checkpoint; `None` while another one is under way.
    pub fn begin_checkpoint(&mut self) -> Option<Checkpoint> {
        if self.checkpoints.running || self.failed {
            return None;
        }
        self.checkpoints.running = true;
        let covers = mem::take(&mut self.checkpoints.since);
        let begun_at = self
            .blocks
            .last()
            .map_or(self.next_sequence, |b| b.sequence);
        Some(Checkpoint {
            file: CheckpointFile {
                core: self.core,
                cores: self.cores,
                number: self.checkpoints.number + 1,
                replay_from: begun_at,
                begun_at,
                records: Vec::new(),
                drops: Vec::new(),
            },
            added: BTreeSet::new(),
            turn: 0,
            covers,
        })
    }

    /// Ends a checkpoint. Gives it back as long as the journal is not durable up to what it says:
    /// try again when the next turn is written.
    #[allow(
        clippy::result_large_err,
        reason = "the checkpoint comes back, and is made seldom"
    )]
    pub fn begin_checkpoint_write(
        &mut self,
        mut checkpoint: Checkpoint,
    ) -> Result<CheckpointJob, Checkpoint> {
        // The drop of a log that was added is in the journal behind its record.
        let drops = self
            .drops
            .iter()
            .filter(|(id, _)| !checkpoint.added.contains(id));
        let turn = drops
            .clone()
            .map(|(_, drop)| drop.turn)
            .max()
            .unwrap_or(0)
            .max(checkpoint.turn);
        let nothing_staged = self.blocks.is_empty() && !self.in_flight;
        // After a failure it is not known what is durable: then no checkpoint may say anything.
        if self.failed || (self.durable_turn < turn && !nothing_staged) {
            return Err(checkpoint);
        }
        checkpoint.file.drops = drops.map(|(id, _)| *id).collect();
        Ok(CheckpointJob {
            path: checkpoint_path(&self.directory, checkpoint.file.number),
            number: checkpoint.file.number,
            replay_from: checkpoint.file.replay_from,
            covers: checkpoint.covers,
            bytes: checkpoint.file.encode(),
            cache: Rc::clone(&self.cache),
        })
    }

    /// Gives up a checkpoint that was begun.
    pub fn abandon_checkpoint(&mut self, checkpoint: Checkpoint) {
        self.checkpoints.since.add(checkpoint.covers);
        self.checkpoints.running = false;
    }

    /// Takes in the outcome. Journal files that neither this checkpoint nor the one before it
    /// needs may be used again. After an error the previous checkpoints stand.
    pub fn finish_checkpoint(&mut self, done: CheckpointDone) -> Result<(), JournalError> {
        self.checkpoints.running = false;
        self.note_space(&done.result);
        if let Err(error) = done.result {
            // Full journals write nothing more: this is all that calls for the next one.
            self.checkpoints.since.add(done.covers);
            return Err(JournalError::Checkpoint(error));
        }
        self.checkpoints.number = done.number;
        self.checkpoints.replay_from = [done.replay_from, self.checkpoints.replay_from[0]];
        let [newest, previous] = self.checkpoints.replay_from;
        self.files.recycle_below(newest.min(previous));
        Ok(())
    }
}

impl CheckpointJob {
    pub async fn run(self, disk: &Disk) -> CheckpointDone {
        let result = disk.replace(&self.path, &self.bytes).await;
        self.cache.look_at_space().await;
        if result.is_ok() {
            self.cache.counters.add(|s| s.checkpoints += 1);
        }
        CheckpointDone {
            number: self.number,
            replay_from: self.replay_from,
            covers: self.covers,
            result,
        }
    }
}

/// Two files take turns.
pub(crate) fn checkpoint_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("checkpoint-{}", number % 2))
}

impl Log {
    pub(crate) fn record(&self, applied: u64, state: Bytes) -> LogRecord {
        let mut terms = self.terms.clone();
        terms.truncate_to(self.drained);
        LogRecord {
            id: self.id,
            condition: self.condition.clone(),
            hard_state: self.hard_state,
            commit: self.commit,
            log_start_offset: self.log_start_offset,
            first_index: self.first_index,
            last_index: self.last_index(),
            last_term: self
                .term(self.last_index())
                .unwrap_or_else(|| self.last_term()),
            drained: self.drained,
            drained_offset: self.drained_offset,
            next_generation: self.next_generation,
            chain: self.chain,
            terms,
            segments: self.segments.clone(),
            retired: self
                .retired
                .iter()
                .map(|r| (r.base_index, r.generation))
                .collect(),
            applied,
            state,
        }
    }
}
