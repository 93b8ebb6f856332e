//! Background work: preparing files, freeing memory and journal, taking in what jobs have done.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use runtime::Disk;

use super::Journal;
use super::files::{PrepareDone, PrepareJob};
use crate::error::JournalError;
use crate::log::segment::partition_directory;
use crate::log::{DrainDone, Log, RemovalDone, RemovalJob};
use crate::partition::PartitionId;

/// What background work is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chores {
    /// [`Journal::begin_prepare`] would return a job.
    pub prepare: bool,
    /// [`Journal::sweep`] would free memory or journal space.
    pub sweep: bool,
    /// A checkpoint is due.
    pub checkpoint: bool,
    /// [`Journal::begin_drop`] would return a job.
    pub drop: bool,
}

/// What a [`Journal::sweep`] did, and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Logs to be drained now.
    pub drains: Vec<PartitionId>,
    /// Something was staged: the journal should be sealed.
    pub carried: bool,
}

impl Journal {
    /// What is due. Cheap enough for every turn.
    pub fn chores(&self) -> Chores {
        let since = self.checkpoints.since.bytes;
        let due = since >= self.options.checkpoint_bytes || self.is_tight();
        Chores {
            prepare: self.files.wanted_bytes(&self.options).is_some() && !self.failed,
            sweep: due || self.memory.bytes > self.options.memory_bytes_max,
            checkpoint: due
                && self.checkpoints.would_help()
                && !self.checkpoints.running
                && !self.failed,
            drop: self.droppable().is_some(),
        }
    }

    /// At most a quarter of the journal is left, and no new file will come. The reserve is never larger, so
    /// a journal that refuses is tight: nothing but its chores can make room again.
    fn is_tight(&self) -> bool {
        let file_comes = self.files.preparing || self.files.wanted_bytes(&self.options).is_some();
        self.files.free_bytes() <= self.files.total_bytes() / 4 && (!file_comes || self.disk_full)
    }

    /// The next journal file to be written ahead of its use.
    pub fn begin_prepare(&mut self) -> Option<PrepareJob> {
        let bytes = self
            .files
            .wanted_bytes(&self.options)
            .filter(|_| !self.failed)?;
        self.files.preparing = true;
        Some(PrepareJob {
            directory: self.directory.clone(),
            slot: self.files.next_slot(),
            bytes,
        })
    }

    /// Takes the file in. After an error (a full disk, mostly) it is tried again when the owner
    /// next looks at [`chores`](Self::chores); wait a second in between.
    pub fn finish_prepare(&mut self, done: PrepareDone) -> io::Result<()> {
        self.files.preparing = false;
        self.note_space(&done.result);
        self.files.ready.push_back(done.result?);
        Ok(())
    }

    /// Something that needs room on the disk had it, or had not.
    pub(super) fn note_space<T>(&mut self, result: &io::Result<T>) {
        match result {
            Ok(_) => self.disk_full = false,
            Err(error) => self.disk_full |= error.kind() == io::ErrorKind::StorageFull,
        }
    }

    /// Frees memory: drained entries leave it, oldest first, until the rest fits the limit; what
    /// must stay is copied out of the buffers that go. Tells the logs that should be drained
    /// now (with `force`), since they hold back memory or a journal file. One that cannot be, since
    /// nothing of it is committed that is not drained, gets out of the way of a tight journal: see
    /// [`carry_forward`](Self::carry_forward).
    pub fn sweep<'a>(&mut self, logs: impl Iterator<Item = &'a mut Log>) -> Swept {
        let buffers_below = self.buffers_to_leave();
        let chores = self.chores();
        // Whatever was staged before the last checkpoint was begun holds back a journal file.
        let blocks_below = if chores.checkpoint || self.is_tight() {
            self.next_sequence
        } else {
            self.checkpoints.replay_from[0].max(1)
        };
        let held_back = match self.is_tight() {
            true => self.files.full.back().map_or(0, |full| full.last_sequence),
            false => 0,
        };
        let mut swept = Swept::default();
        for log in logs {
            let oldest = log.oldest_undrained_sequence();
            let old = oldest.is_some_and(|s| s < blocks_below);
            let heavy = buffers_below.is_some_and(|buffer| log.leave_buffers_below(buffer));
            if (old || heavy) && log.can_drain() {
                swept.drains.push(log.id());
            } else if oldest.is_some_and(|s| s <= held_back) && log.waits_for_commit() {
                swept.carried |= self.carry_forward(log);
            }
        }
        if let Some(buffer) = buffers_below {
            self.memory.release_below(buffer);
        }
        swept
    }

    /// The number below which buffers have to go. More than just the excess goes at once: every log is looked at for
    /// it.
    fn buffers_to_leave(&self) -> Option<u64> {
        let limit = self.options.memory_bytes_max;
        match self.memory.bytes > limit {
            true => self.memory.excess_below(limit - limit / 8),
            false => None,
        }
    }

    /// Takes in a drain: its entries count as drained, and the journal is told so. After `InvalidData` the segment is
    /// damaged, and the next drain begins another one: what is not in it yet must not hold the journal for ever.
    pub fn finish_drain(&mut self, log: &mut Log, done: DrainDone) -> io::Result<()> {
        self.note_space(&done.result);
        let is_of_log = done.id == log.id() && done.incarnation == log.incarnation();
        if let Err(error) = done.result {
            if is_of_log && error.kind() == io::ErrorKind::InvalidData {
                log.close_segment(done.segment.generation);
            }
            return Err(error);
        }
        if !is_of_log {
            return Ok(());
        }
        log.drained_to(done.segment);
        self.checkpoints.since.drained = true;
        if let Err(error) = self.note_drains(log) {
            tracing::debug!(partition = %log.id(), %error, "drain not noted in the journal");
        }
        log.verify();
        self.cache
            .counters
            .add(|s| s.drained_entries += done.entries);
        Ok(())
    }

    /// Removes what may go: segments wholly below the log start offset whose entries are applied
    /// and below `keep_index` (the next index that the slowest follower needs; `u64::MAX` for
    /// none), and what a reset or a conflict left behind. Segments leave the log at once; their
    /// files are removed by the job of a later call, when that is durable.
    pub fn begin_removal(&mut self, log: &mut Log, keep_index: u64) -> Option<RemovalJob> {
        if let Some(first_index) = log.trim_target(keep_index)
            && self.note_drains(log).is_ok()
            && self.stage_trimmed(log, first_index).is_ok()
        {
            log.trim_to(first_index, self.staged_turn);
            log.verify();
        }
        log.begin_removal(self.durable_turn)
    }

    /// Takes in a removal. After an error it will be begun again.
    pub fn finish_removal(&mut self, log: &mut Log, done: RemovalDone) -> io::Result<()> {
        done.result?;
        if done.id == log.id() {
            log.end_removal(&done.files);
        }
        Ok(())
    }

    fn droppable(&self) -> Option<PartitionId> {
        let mut drops = self.drops.iter();
        let ready = |d: &super::PendingDrop| {
            !d.running && d.turn <= self.durable_turn && Rc::strong_count(&d.busy) == 1
        };
        drops.find(|(_, d)| ready(d)).map(|(id, _)| *id)
    }

    /// The next partition whose drop is durable and whose directory can be removed.
    pub fn begin_drop(&mut self) -> Option<DropJob> {
        let id = self.droppable()?;
        self.drops.get_mut(&id).expect("just found").running = true;
        let directory = partition_directory(self.cache.data(), id);
        Some(DropJob { id, directory })
    }

    /// Takes in a removed directory. After an error it will be begun again.
    pub fn finish_drop(&mut self, done: DropDone) -> io::Result<()> {
        match done.result {
            Ok(()) => {
                self.drops.remove(&done.id);
                Ok(())
            }
            Err(error) => {
                if let Some(pending) = self.drops.get_mut(&done.id) {
                    pending.running = false;
                }
                Err(error)
            }
        }
    }

    /// Whether the partition was dropped and its directory is not gone yet. Until then no log of
    /// that name can be created.
    pub fn is_dropping(&self, id: PartitionId) -> bool {
        self.drops.contains_key(&id)
    }

    /// Whether the journal has failed for good.
    pub fn failure(&self) -> Option<JournalError> {
        self.failed
            .then(|| JournalError::Write(io::Error::other("an earlier write failed")))
    }
}

/// Removes the directory of a dropped partition.
#[derive(Debug)]
pub struct DropJob {
    id: PartitionId,
    directory: PathBuf,
}

/// The outcome of a [`DropJob`].
#[derive(Debug)]
pub struct DropDone {
    id: PartitionId,
    result: io::Result<()>,
}

impl DropJob {
    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub async fn run(self, disk: &Disk) -> DropDone {
        DropDone {
            id: self.id,
            result: self.remove(disk).await,
        }
    }

    async fn remove(&self, disk: &Disk) -> io::Result<()> {
        if !disk.exists(&self.directory).await? {
            return Ok(());
        }
        disk.remove_dir_all(&self.directory).await?;
        match self.directory.parent() {
            Some(topic) => disk.sync_dir(topic).await,
            None => Ok(()),
        }
    }
}

impl Log {
    /// Whether a forced drain would find something to do.
    pub(crate) fn can_drain(&self) -> bool {
        self.drained < self.commit && !self.is_busy()
    }

    /// Whether what is not drained is not committed either.
    fn waits_for_commit(&self) -> bool {
        self.drained == self.commit && !self.is_busy()
    }

    pub(crate) fn drain_is_due(&self) -> bool {
        self.undrained_bytes >= self.drain_bytes()
    }

    /// Whether enough committed entries have gathered to be worth a write.
    pub fn wants_drain(&self) -> bool {
        self.drain_is_due() && self.can_drain()
    }

    fn drain_bytes(&self) -> u64 {
        self.cache.drain_bytes
    }
}
