//! What a core does beside the hot path: drains tails into segments, prepares journal files, writes checkpoints,
//! enforces retention, expires producers and offsets.
//!
//! Every job follows one pattern: the owner begins it and gives it away, it runs without any borrow, and its
//! result is brought back. At most [`DRAINS_MAX`] drains and one of each other job are under way.

use super::balancing::REPORT_EVERY;
use super::owned::Owned;
use super::{Shard, groups_host, kept};
use crate::cluster::{METADATA, METADATA_CORE};
use bytes::Bytes;
use runtime::{Instant, Notify};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use storage::PartitionId;

/// Drains under way at once. Each that makes its file grow ends with a commit of the file system's journal, and a
/// write of ours that meets one waits for it; drains that end together share one.
const DRAINS_MAX: usize = 64;
/// Logs added to a checkpoint before others get their turn on the core.
const CHECKPOINT_PER_PASS: usize = 256;
/// How long a failed background job waits before it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What background work is wanted.
#[derive(Default)]
pub struct Background {
    wanted: RefCell<BTreeSet<PartitionId>>,
    draining: RefCell<BTreeSet<PartitionId>>,
    chores: Cell<bool>,
    /// A checkpoint is wanted though the journal wants none.
    checkpoint: Cell<bool>,
    more: Notify,
    drained: Notify,
}

impl Background {
    /// Called after every pass, so it must be quick: are there chores?
    pub fn look(&self, owned: &mut Owned) {
        for id in owned.drains.drain(..) {
            self.want_drain(id);
        }
        let chores = owned.journal.chores();
        if chores.prepare || chores.checkpoint || chores.sweep {
            self.chores.set(true);
            self.more.notify_one();
        }
    }

    /// Segments wait for a checkpoint before they can go.
    fn want_checkpoint(&self) {
        self.checkpoint.set(true);
        self.chores.set(true);
        self.more.notify_one();
    }

    /// A log has enough to be drained. False if that is known, or its drain is under way or waits to be tried again.
    pub fn want_drain(&self, id: PartitionId) -> bool {
        let is_new = !self.draining.borrow().contains(&id) && self.wanted.borrow_mut().insert(id);
        if is_new {
            self.more.notify_one();
        }
        is_new
    }
}

/// Drains logs and does the journal's chores for as long as the core runs.
pub async fn run(shard: Rc<Shard>) {
    loop {
        shard.background.more.wait().await;
        loop {
            shard.start_drains();
            if !shard.background.chores.take() {
                break;
            }
            if shard.chores().await {
                // Room in the journal may be what others wait for, and one checkpoint may call for the next.
                shard.wake_turn();
            }
        }
    }
}

/// Retention and expiry, by the clock.
pub async fn run_periodically(shard: Rc<Shard>) {
    let mut retention_due = shard.core.now();
    let mut offsets_due = retention_due;
    let mut report_due = retention_due;
    loop {
        let (retention_ms, offsets_ms, producers_ms) = {
            let view = shard.view.borrow();
            let broker = view.broker();
            (
                broker.log_retention_check_interval_ms,
                broker.offsets_retention_check_interval_ms,
                broker.producer_id_expiration_ms.min(i64::MAX as u64) as i64,
            )
        };
        let pause_ms = retention_ms.min(offsets_ms).clamp(100, 5_000);
        shard.core.sleep(Duration::from_millis(pause_ms)).await;
        let now = shard.core.now();
        if now >= retention_due {
            retention_due = now + Duration::from_millis(retention_ms);
            shard.retain().await;
            shard.expire_producers(producers_ms);
        }
        if now >= offsets_due {
            offsets_due = now + Duration::from_millis(offsets_ms);
            let wall_ms = shard.core.wall_ms();
            shard.owned.borrow_mut().expire_offsets(now, wall_ms);
        }
        let has_others = shard.links.get().is_some() && shard.core.id() == METADATA_CORE;
        if has_others && now >= report_due && !shard.stopping.get() {
            report_due = now + REPORT_EVERY;
            shard.report_disk().await;
        }
        shard.view.borrow_mut().show_late();
        shard.remove_segments().await;
        shard.look_for_grown_logs();
        shard.wake_turn();
    }
}

impl Shard {
    fn start_drains(self: &Rc<Shard>) {
        while self.background.draining.borrow().len() < DRAINS_MAX {
            let next = self.background.wanted.borrow_mut().pop_first();
            let Some(id) = next else { return };
            let wall_ms = self.core.wall_ms();
            let job = self.with_log(id, |_, log| log.begin_drain(wall_ms, true));
            let Some(job) = job.flatten() else { continue };
            self.background.draining.borrow_mut().insert(id);
            let shard = self.clone();
            self.core.spawn("drain", async move {
                let done = job.run(shard.core.disk()).await;
                let failed = shard.finish_drain(id, done);
                if failed {
                    // Who waits for room in the journal is told if it is the disk that is full.
                    shard.wake_turn();
                    shard.core.sleep(RETRY).await;
                }
                shard.background.draining.borrow_mut().remove(&id);
                let again = failed || shard.wants_drain(id);
                if again {
                    shard.background.wanted.borrow_mut().insert(id);
                }
                shard.background.drained.notify_all();
                shard.background.chores.set(true);
                shard.background.more.notify_one();
            });
        }
    }

    fn wants_drain(&self, id: PartitionId) -> bool {
        let owned = self.owned.borrow();
        owned
            .replicas
            .get(id)
            .is_some_and(|replica| replica.log().wants_drain())
    }

    /// True if the drain failed and should be tried again.
    fn finish_drain(&self, id: PartitionId, done: storage::DrainDone) -> bool {
        let finished = self.with_log(id, |journal, log| journal.finish_drain(log, done));
        match finished {
            // A partition deleted meanwhile has nothing to finish.
            None | Some(Ok(())) => false,
            Some(Err(error)) => {
                tracing::warn!(%error, partition = ?id, "a tail could not be drained; it is tried again");
                if error.kind() == io::ErrorKind::InvalidData {
                    self.damaged(id, &error);
                }
                true
            }
        }
    }

    /// Does what is due. False if nothing could be done: looking again at once would not help.
    async fn chores(self: &Rc<Shard>) -> bool {
        let mut progress = false;
        let chores = self.owned.borrow().journal.chores();
        if chores.prepare {
            let job = self.owned.borrow_mut().journal.begin_prepare();
            if let Some(job) = job {
                progress = true;
                let done = job.run(self.core.disk()).await;
                let finished = self.owned.borrow_mut().journal.finish_prepare(done);
                if let Err(error) = finished {
                    tracing::warn!(%error, "a journal file cannot be prepared; it is tried again");
                    self.wake_turn();
                    self.core.sleep(RETRY).await;
                }
            }
        }
        if chores.sweep {
            let swept = self.sweep();
            progress |= swept.carried;
            for id in swept.drains {
                // One that failed and waits is listed again and again: that is no progress.
                progress |= self.background.want_drain(id);
            }
            self.start_drains();
        }
        if chores.checkpoint | self.background.checkpoint.take() {
            progress = true;
            self.checkpoint().await;
        }
        progress
    }

    /// Waits until nothing is left to be staged or on its way to the disk.
    pub async fn settle(&self) {
        loop {
            {
                let owned = self.owned.borrow();
                let journal = &owned.journal;
                let durable = journal.durable_turn() == journal.last_turn();
                if (durable && !owned.replicas.wants_pass()) || journal.failure().is_some() {
                    return;
                }
            }
            self.wake_turn();
            self.core.sleep(Duration::from_millis(1)).await;
        }
    }

    /// A checkpoint that is begun now, whatever is under way.
    pub async fn last_checkpoint(self: &Rc<Shard>) {
        while self.owned.borrow().journal.failure().is_none() && !self.checkpoint().await {
            self.core.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Writes the state of every log, so that journal files can be recycled and a start is short. False if none could
    /// be begun: another one is under way.
    async fn checkpoint(self: &Rc<Shard>) -> bool {
        let begun = self.owned.borrow_mut().journal.begin_checkpoint();
        let Some(checkpoint) = begun else {
            return false;
        };
        self.write_checkpoint(checkpoint).await;
        true
    }

    async fn write_checkpoint(self: &Rc<Shard>, mut checkpoint: storage::Checkpoint) {
        // A log that is opened meanwhile has left these, and is not among the partitions listed here.
        self.add_unopened(&mut checkpoint);
        let mut ids: Vec<PartitionId> = self.owned.borrow().partitions.keys().copied().collect();
        if self.owned.borrow().metadata.is_some() {
            ids.push(METADATA);
        }
        let mut covered = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHECKPOINT_PER_PASS) {
            for id in chunk {
                let wall_ms = self.core.wall_ms();
                let mut owned = self.owned.borrow_mut();
                let added = owned.add_to_checkpoint(&mut checkpoint, *id, wall_ms);
                covered.extend(added.map(|applied| (*id, applied)));
            }
            self.core.yield_now().await;
        }
        // One that could not be dropped meanwhile has come back to these.
        self.add_unopened(&mut checkpoint);
        let job = loop {
            let begun = self
                .owned
                .borrow_mut()
                .journal
                .begin_checkpoint_write(checkpoint);
            match begun {
                Ok(job) => break job,
                Err(early) if self.owned.borrow().journal.failure().is_some() => {
                    self.owned.borrow_mut().journal.abandon_checkpoint(early);
                    return;
                }
                Err(early) => {
                    checkpoint = early;
                    self.wake_turn();
                    self.core.sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let done = job.run(self.core.disk()).await;
        let finished = self.owned.borrow_mut().journal.finish_checkpoint(done);
        match finished {
            Ok(()) => self.owned.borrow_mut().checkpointed(&covered),
            Err(error) => {
                tracing::warn!(%error, "a checkpoint could not be written; it is tried again");
                self.core.sleep(RETRY).await;
            }
        }
    }

    /// Waits until everything staged in `turn` is on stable storage.
    pub async fn durable(&self, turn: u64) {
        while self.owned.borrow().journal.durable_turn() < turn {
            self.wake_turn();
            self.core.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Moves log starts by time and size.
    async fn retain(self: &Rc<Shard>) {
        let ids: Vec<PartitionId> = self.owned.borrow().partitions.keys().copied().collect();
        for chunk in ids.chunks(CHECKPOINT_PER_PASS) {
            for id in chunk {
                let mut owned = self.owned.borrow_mut();
                let wall_ms = self.core.wall_ms();
                let start = owned
                    .replicas
                    .get(*id)
                    .filter(|replica| replica.is_serving())
                    .and_then(|replica| replica.log().retention_candidate(wall_ms));
                if let Some(start) = start
                    && let Err(error) = owned.move_log_start(*id, start)
                {
                    tracing::debug!(?error, partition = ?id, "retention waits");
                }
            }
            self.wake_turn();
            self.core.yield_now().await;
        }
    }

    /// Deletes segment files that lie below the log start, have for as long as the topic says, and whose entries no
    /// start needs any more.
    async fn remove_segments(self: &Rc<Shard>) {
        let mut ids: Vec<PartitionId> = self.owned.borrow().partitions.keys().copied().collect();
        if self.owned.borrow().metadata.is_some() {
            ids.push(METADATA);
        }
        for id in ids {
            let job = self.owned.borrow_mut().begin_removal(id, self.core.now());
            let job = match job {
                Removal::Now(job) => job,
                Removal::AfterCheckpoint => {
                    self.background.want_checkpoint();
                    continue;
                }
                Removal::None => continue,
            };
            let done = job.run(self.core.disk()).await;
            let mut owned = self.owned.borrow_mut();
            let Owned {
                journal, replicas, ..
            } = &mut *owned;
            let Some(log) = replicas.log_mut(id) else {
                continue;
            };
            if let Err(error) = journal.finish_removal(log, done) {
                tracing::warn!(%error, partition = ?id, "old segments could not be removed");
            }
        }
    }

    fn expire_producers(&self, producers_ms: i64) {
        let wall_ms = self.core.wall_ms();
        let mut owned = self.owned.borrow_mut();
        let Owned {
            partitions,
            replicas,
            ..
        } = &mut *owned;
        for (id, partition) in partitions
            .iter_mut()
            .filter(|(_, p)| !p.producers.is_empty())
        {
            let committed = replicas
                .get(*id)
                .map_or(0, |replica| replica.commit_index());
            partition.producers.expire(wall_ms, producers_ms, committed);
        }
    }
}

/// What can be removed of a log.
enum Removal {
    None,
    Now(storage::RemovalJob),
    /// What could go is still needed to rebuild the partition's state at a start.
    AfterCheckpoint,
}

impl Owned {
    /// The first index that is to be kept of a partition: what is not applied, or was deleted only lately. A log that
    /// is begun anew when it has grown holds its own state; its past goes at once.
    fn keep_from(&mut self, id: PartitionId, now: Instant) -> Option<u64> {
        let replica = self.replicas.get(id)?;
        let Some(partition) = self.partitions.get_mut(&id) else {
            return (id == METADATA).then(|| replica.applied_index());
        };
        let delay = match self.groups.coordinator(id) {
            Some(_) => Duration::ZERO,
            None => Duration::from_millis(partition.config.file_delete_delay_ms),
        };
        let log = replica.log();
        let due = partition.departing.due(log.log_start_offset(), delay, now);
        Some(replica.applied_index().min(log.kept_above(due)))
    }

    fn begin_removal(&mut self, id: PartitionId, now: Instant) -> Removal {
        let Some(keep) = self.keep_from(id, now) else {
            return Removal::None;
        };
        // Of the metadata, too, though it holds its state: after a start it may not be known that this is committed.
        let covered = match (self.partitions.get(&id), &self.metadata) {
            (Some(partition), _) => partition.keep_index(),
            (None, Some(metadata)) => metadata.covered.keep_index(),
            (None, None) => return Removal::None,
        };
        let Some(log) = self.replicas.log_mut(id) else {
            return Removal::None;
        };
        match self.journal.begin_removal(log, keep.min(covered)) {
            Some(job) => Removal::Now(job),
            None if log.can_trim(keep) => Removal::AfterCheckpoint,
            None => Removal::None,
        }
    }

    /// A checkpoint with the state of these, up to these indexes, is on the disk.
    fn checkpointed(&mut self, covered: &[(PartitionId, u64)]) {
        for (id, applied) in covered {
            if let Some(partition) = self.partitions.get_mut(id) {
                partition.checkpointed(*applied);
            } else if *id == METADATA
                && let Some(metadata) = &mut self.metadata
            {
                metadata.covered.checkpointed(*applied);
            }
        }
    }

    /// Adds a partition's log; gives back up to where its state stands for the entries.
    fn add_to_checkpoint(
        &mut self,
        checkpoint: &mut storage::Checkpoint,
        id: PartitionId,
        wall_ms: i64,
    ) -> Option<u64> {
        let (applied, kept) = self.state_of(id, wall_ms)?;
        let replica = self.replicas.get(id)?;
        checkpoint.add(&self.journal, replica.log(), applied, &kept);
        Some(applied)
    }

    /// What a checkpoint, or a follower that starts in the middle, needs beside the log: the configuration and what
    /// was made of the entries up to an index.
    pub(super) fn state_of(&self, id: PartitionId, wall_ms: i64) -> Option<(u64, Bytes)> {
        let replica = self.replicas.get(id)?;
        let applied = replica.applied_index();
        let state = if id == METADATA {
            let metadata = self.metadata.as_ref().expect("its owner is here");
            let image = metadata.committed().image();
            serde_json::to_vec(&image).expect("an image has text keys only")
        } else if let Some(coordinator) = self.groups.coordinator(id) {
            // What its writes under way change is not in it: they stand above `applied`.
            groups_host::snapshot(coordinator, wall_ms).to_vec()
        } else {
            let partition = self.partitions.get(&id);
            partition.map_or_else(Vec::new, |p| p.producers.snapshot(applied))
        };
        Some((applied, kept::encode(replica.configuration(), &state)))
    }
}
