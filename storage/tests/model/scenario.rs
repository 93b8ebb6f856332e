//! One life of the node: recover, compare with the model, work at random.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use runtime::Core;
use storage::{
    Checkpoint, CheckpointDone, DrainDone, DropDone, EntryKind, HardState, Journal, JournalWritten,
    Log, LogConfig, Options, PartitionId, PrepareDone, Recovered, RemovalDone, Reset, recover,
};

use crate::Random;
use crate::partition::{Partition, State, batch};

pub type Shared = Rc<RefCell<World>>;

/// What the lives of a node have in common.
pub struct World {
    pub random: Random,
    pub partitions: BTreeMap<PartitionId, Partition>,
    pub coverage: Coverage,
    /// The disk was damaged before this life: partitions may be fenced, reads may fail.
    pub damaged: bool,
    ops: u32,
    last: bool,
    mark: u64,
}

/// What happened, so that a quiet test is noticed.
#[derive(Clone, Copy, Default, Debug)]
pub struct Coverage {
    pub entries: u64,
    pub conflicts: u64,
    pub drains: u64,
    pub removals: u64,
    pub checkpoints: u64,
    pub resets: u64,
    pub drops: u64,
    pub disk_reads: u64,
    pub memory_reads: u64,
    pub refusals: u64,
    pub torn: u64,
    pub recoveries: u64,
    pub replayed: u64,
    pub survived_late: u64,
    pub direct_bytes: u64,
    pub fenced: u64,
    pub failed_reads: u64,
    pub rebuilt: u64,
    pub healthy_beside_damage: u64,
}

impl Coverage {
    pub fn add(&mut self, o: &Coverage) {
        self.entries += o.entries;
        self.conflicts += o.conflicts;
        self.drains += o.drains;
        self.removals += o.removals;
        self.checkpoints += o.checkpoints;
        self.resets += o.resets;
        self.drops += o.drops;
        self.disk_reads += o.disk_reads;
        self.memory_reads += o.memory_reads;
        self.refusals += o.refusals;
        self.torn += o.torn;
        self.recoveries += o.recoveries;
        self.replayed += o.replayed;
        self.survived_late += o.survived_late;
        self.direct_bytes += o.direct_bytes;
        self.fenced += o.fenced;
        self.failed_reads += o.failed_reads;
        self.rebuilt += o.rebuilt;
        self.healthy_beside_damage += o.healthy_beside_damage;
    }

    pub fn check(&self) {
        let all = [
            self.entries,
            self.conflicts,
            self.drains,
            self.removals,
            self.checkpoints,
            self.resets,
            self.drops,
            self.disk_reads,
            self.memory_reads,
            self.replayed,
        ];
        if self.recoveries > 20 {
            assert!(
                all.iter().all(|n| *n > 0),
                "something never happened: {self:?}"
            );
        }
    }
}

impl World {
    pub fn new(seed: u64, ops: u32) -> World {
        World {
            random: Random(seed),
            partitions: BTreeMap::new(),
            coverage: Coverage::default(),
            damaged: false,
            ops,
            last: false,
            mark: 0,
        }
    }

    pub fn begin_life(&mut self, last: bool) {
        self.last = last;
    }
}

enum Done {
    Written(JournalWritten),
    Drain(DrainDone),
    Removal(RemovalDone),
    Checkpoint(CheckpointDone),
    Prepare(PrepareDone),
    Drop(DropDone),
}

/// The owner of a core's storage.
pub struct Owner {
    pub core: Core,
    pub world: Shared,
    journal: Journal,
    pub logs: BTreeMap<PartitionId, Log>,
    /// How far the owner's states stood that recovery, or a reset, brought.
    pub applied: BTreeMap<PartitionId, u64>,
    /// A checkpoint to which these logs are still to be added, and those dropped meanwhile.
    begun: Option<(Checkpoint, Vec<PartitionId>)>,
    dropped: Vec<PartitionId>,
    /// A checkpoint that waits for the journal.
    draft: Option<Checkpoint>,
    done: Rc<RefCell<Vec<Done>>>,
}

fn options(random: &mut Random) -> Options {
    let file = 16384 << random.below(3);
    Options {
        journal_bytes_max: file * (8 + random.below(24)),
        journal_first_file_bytes: file,
        journal_file_bytes: file * 2,
        checkpoint_bytes: file,
        memory_bytes_max: 65536 << random.below(4),
        cache_bytes_max: 32768 << random.below(5),
        files_max: 2 + random.below(6) as usize,
        direct_bytes: 2048 << random.below(5),
        direct_space_bytes: 0,
        drain_bytes: 1024 << random.below(5),
        entry_bytes_max: 6000,
        buffer_bytes: 8192 << random.below(4),
        salt: random.draw(),
        mutation: None,
    }
}

fn config(random: &mut Random) -> LogConfig {
    LogConfig {
        segment_bytes: 8192 << random.below(4),
        segment_ms: if random.one_in(3) { 5 } else { i64::MAX / 4 },
        segment_jitter_ms: if random.one_in(2) { 2 } else { 0 },
        retention_bytes: if random.one_in(2) { 20_000 } else { -1 },
        retention_ms: -1,
        ..LogConfig::default()
    }
}

pub async fn live(core: Core, world: Shared) {
    let options = options(&mut world.borrow_mut().random);
    let disk = core.disk().clone();
    let recovered = recover(&disk, Path::new("/data"), 0, 1, options)
        .await
        .expect("recovers");
    let mut owner = Owner::new(core, Rc::clone(&world), recovered);
    owner.compare_all(true).await;
    let ops = world.borrow().ops;
    if world.borrow().last && world.borrow().coverage.recoveries > 1 {
        return;
    }
    if world.borrow().damaged {
        return;
    }
    for _ in 0..ops {
        owner.step().await;
    }
    owner.compare_all(false).await;
    owner.settle().await;
    world.borrow_mut().coverage.direct_bytes += owner.journal.stats().direct_bytes;
}

impl Owner {
    fn new(core: Core, world: Shared, recovered: Recovered) -> Owner {
        let Recovered {
            logs,
            journal,
            report,
        } = recovered;
        let mut w = world.borrow_mut();
        if !w.damaged {
            assert!(!report.damaged && !report.rebuilt, "{report:?}");
            assert!(report.fenced.is_empty(), "{:?}", report.fenced);
        }
        w.coverage.fenced += report.fenced.len() as u64;
        w.coverage.rebuilt += u64::from(report.rebuilt);
        w.coverage.recoveries += 1;
        w.coverage.torn += u64::from(report.torn);
        w.coverage.replayed += report.frames;
        let mut found = BTreeMap::new();
        let mut applied = BTreeMap::new();
        for recovered in logs {
            let id = recovered.log.id();
            let covered = recovered.log.commit().max(recovered.log.installed());
            assert!(recovered.applied <= covered, "{id}");
            if recovered.applied > 0 && !w.damaged {
                assert_eq!(recovered.state, state_of(recovered.applied), "{id}");
            }
            applied.insert(id, recovered.applied);
            found.insert(id, recovered.log);
        }
        drop(w);
        Owner {
            core,
            world,
            journal,
            logs: found,
            applied,
            begun: None,
            dropped: Vec::new(),
            draft: None,
            done: Rc::default(),
        }
    }

    /// Writes what is staged, and one turn more: of a last block that is damaged nobody can tell
    /// whether it was ever whole.
    async fn settle(&mut self) {
        for turn in 0..2 {
            let id = PartitionId {
                topic: 8,
                partition: 0,
            };
            let log = self
                .logs
                .entry(id)
                .or_insert_with(|| self.journal.create_log(id));
            let hard_state = HardState {
                term: 1,
                vote: turn,
                commit: 0,
            };
            if self.journal.stage_hard_state(log, hard_state).is_ok() {
                let mut world = self.world.borrow_mut();
                let partition = world.partitions.entry(id).or_insert_with(Partition::new);
                partition.change(self.journal.staged_turn(), |s| {
                    s.exists = true;
                    s.hard_state = hard_state;
                });
            }
            while self.journal.is_writing() {
                self.core.sleep(Duration::from_millis(1)).await;
                self.take_done();
            }
            self.write();
            while self.journal.is_writing() {
                self.core.sleep(Duration::from_millis(1)).await;
                self.take_done();
            }
        }
    }

    async fn step(&mut self) {
        self.take_done();
        if self.begun.is_some() && self.world.borrow_mut().random.one_in(3) {
            self.checkpoint();
        }
        let choice = self.world.borrow_mut().random.below(100);
        match choice {
            0..40 => self.stage_some(),
            40..55 => self.write(),
            55..65 => self.commit_some(),
            65..73 => self.drain_some(),
            73..79 => self.background(),
            79..80 => self.checkpoint(),
            80..82 => self.remove_some(),
            82..83 => self.rare(),
            83..93 => self.read_some().await,
            _ => {
                let micros = self.world.borrow_mut().random.below(2000);
                self.core.sleep(Duration::from_micros(micros)).await;
            }
        }
    }

    fn spawn(&self, work: impl Future<Output = Done> + 'static) {
        let done = Rc::clone(&self.done);
        self.core.spawn("job", async move {
            let outcome = work.await;
            done.borrow_mut().push(outcome);
        });
    }

    fn take_done(&mut self) {
        let arrived = std::mem::take(&mut *self.done.borrow_mut());
        for done in arrived {
            match done {
                Done::Written(written) => {
                    self.journal.written(written).expect("no disk errors here");
                    let turn = self.journal.durable_turn();
                    for partition in self.world.borrow_mut().partitions.values_mut() {
                        partition.durable(turn);
                    }
                    if let Some(draft) = self.draft.take() {
                        self.write_checkpoint(draft);
                    }
                }
                Done::Drain(drain) => {
                    if let Some(log) = self.logs.get_mut(&drain.id()) {
                        self.journal
                            .finish_drain(log, drain)
                            .expect("no disk errors here");
                        self.world.borrow_mut().coverage.drains += 1;
                    }
                }
                Done::Removal(removal) => {
                    if let Some(log) = self.logs.get_mut(&removal.id()) {
                        self.journal
                            .finish_removal(log, removal)
                            .expect("no disk errors here");
                        self.world.borrow_mut().coverage.removals += 1;
                    }
                }
                Done::Checkpoint(checkpoint) => {
                    self.journal
                        .finish_checkpoint(checkpoint)
                        .expect("no disk errors here");
                    self.world.borrow_mut().coverage.checkpoints += 1;
                }
                Done::Prepare(prepare) => {
                    self.journal
                        .finish_prepare(prepare)
                        .expect("no disk errors here");
                }
                Done::Drop(drop) => {
                    self.journal.finish_drop(drop).expect("no disk errors here");
                    self.world.borrow_mut().coverage.drops += 1;
                }
            }
        }
    }

    /// A partition, mostly one that is there.
    fn pick(&mut self) -> Option<PartitionId> {
        let mut world = self.world.borrow_mut();
        let id = PartitionId {
            topic: 7,
            partition: world.random.below(4) as u32,
        };
        if self.journal.is_dropping(id) {
            return None;
        }
        world.partitions.entry(id).or_insert_with(Partition::new);
        if !self.logs.contains_key(&id) {
            let mut log = self.journal.create_log(id);
            log.configure(config(&mut world.random));
            self.logs.insert(id, log);
        }
        Some(id)
    }

    fn stage_some(&mut self) {
        let Some(id) = self.pick() else { return };
        let owned = Rc::clone(&self.world);
        let mut shared = owned.borrow_mut();
        let world = &mut *shared;
        if self.journal.refuses().is_some() {
            world.coverage.refusals += 1;
            return;
        }
        let partition = world.partitions.get_mut(&id).unwrap();
        let log = self.logs.get_mut(&id).unwrap();
        let random = &mut world.random;
        let count = 1 + random.below(4);
        let heavy = random.one_in(4);
        if random.one_in(4) {
            let entries = random.below(8) as usize;
            self.journal.announce(log, entries, random.below(100_000));
        }
        for i in 0..count {
            let now = partition.versions.last().unwrap().1.clone();
            let last = now.last_index();
            let mut index = last + 1;
            let mut term = now.last_term().max(1);
            if i == 0 && last > partition.commit && random.one_in(6) {
                index = partition.commit + 1 + random.below(last - partition.commit);
                term = now.term(index - 1).max(1) + random.below(3);
                world.coverage.conflicts += 1;
            } else if random.one_in(10) {
                term += 1;
            }
            // In raft no two entries share index and term.
            while !partition.used.insert((index, term)) {
                term += 1;
            }
            world.mark += 1;
            let mark = world.mark;
            let (kind, data) = entry(random, now.next_offset(), heavy, mark);
            let Ok(staged) = self.journal.stage_entry(log, term, index, kind, &data) else {
                return;
            };
            partition.change(self.journal.staged_turn(), |s| {
                s.exists = true;
                s.cut_to(index - 1);
                s.push(term, kind, &data);
            });
            let entry = partition.now().entries.last().unwrap();
            assert_eq!(
                (staged.base_offset, staged.next_offset),
                (entry.base_offset, entry.end_offset)
            );
            world.coverage.entries += 1;
        }
        if world.random.one_in(3) {
            self.vote(id, &mut shared);
        }
    }

    fn vote(&mut self, id: PartitionId, world: &mut World) {
        let partition = world.partitions.get_mut(&id).unwrap();
        let log = self.logs.get_mut(&id).unwrap();
        let hard_state = HardState {
            term: partition.now().last_term() + world.random.below(2),
            vote: world.random.below(4),
            commit: partition.commit,
        };
        if self.journal.stage_hard_state(log, hard_state).is_ok() {
            partition.change(self.journal.staged_turn(), |s| {
                s.exists = true;
                s.hard_state = hard_state;
            });
        }
    }

    fn write(&mut self) {
        if let Some(write) = self.journal.seal() {
            self.spawn(async move { Done::Written(write.run().await) });
        }
    }

    fn commit_some(&mut self) {
        let mut world = self.world.borrow_mut();
        let World {
            random, partitions, ..
        } = &mut *world;
        for (id, log) in &mut self.logs {
            let partition = partitions.get_mut(id).unwrap();
            let behind = partition.now().last_index() - partition.commit;
            partition.commit += if random.one_in(2) {
                behind
            } else {
                random.below(behind + 1)
            };
            log.commit_to(partition.commit);
            assert_eq!(
                log.high_watermark(),
                partition.now().offset_after(partition.commit)
            );
            if random.one_in(2) {
                log.applied_to(partition.commit);
            }
        }
    }

    fn drain_some(&mut self) {
        let now = self.core.wall_ms();
        let disk = self.core.disk().clone();
        let (all, force) = {
            let random = &mut self.world.borrow_mut().random;
            (random.one_in(3), random.one_in(2))
        };
        let only = self.world.borrow_mut().random.below(4) as u32;
        let mut jobs = Vec::new();
        for (id, log) in &mut self.logs {
            if all || id.partition == only {
                jobs.extend(log.begin_drain(now, force));
            }
        }
        for job in jobs {
            let disk = disk.clone();
            self.spawn(async move { Done::Drain(job.run(&disk).await) });
        }
    }

    fn background(&mut self) {
        let disk = self.core.disk().clone();
        let chores = self.journal.chores();
        if chores.prepare {
            let job = self.journal.begin_prepare().expect("it is due");
            let disk = disk.clone();
            self.spawn(async move { Done::Prepare(job.run(&disk).await) });
        }
        if chores.drop {
            let job = self.journal.begin_drop().expect("it is due");
            let disk = disk.clone();
            self.spawn(async move { Done::Drop(job.run(&disk).await) });
        }
        if chores.sweep {
            let now = self.core.wall_ms();
            for id in self.journal.sweep(self.logs.values_mut()).drains {
                if let Some(job) = self.logs.get_mut(&id).unwrap().begin_drain(now, true) {
                    let disk = disk.clone();
                    self.spawn(async move { Done::Drain(job.run(&disk).await) });
                }
            }
        }
        if chores.checkpoint {
            self.checkpoint();
        }
    }

    /// Begins a checkpoint, or goes on with one: logs are added in several turns.
    fn checkpoint(&mut self) {
        let (mut draft, mut missing) = match self.begun.take() {
            Some(begun) => begun,
            None => match self.journal.begin_checkpoint() {
                Some(draft) => {
                    self.dropped.clear();
                    (draft, self.logs.keys().copied().collect())
                }
                None => return,
            },
        };
        let count = self.world.borrow_mut().random.below(6) as usize;
        let now = missing.len().saturating_sub(count);
        for id in missing.split_off(now) {
            // One that was dropped meanwhile needs no record, nor does its successor.
            if let Some(log) = self.logs.get(&id).filter(|_| !self.dropped.contains(&id)) {
                let known = self.applied.get(&id).copied().unwrap_or(0);
                let applied = log.applied().max(known);
                draft.add(&self.journal, log, applied, &state_of(applied));
            }
        }
        if missing.is_empty() {
            self.write_checkpoint(draft);
        } else {
            self.begun = Some((draft, missing));
        }
    }

    fn write_checkpoint(&mut self, draft: Checkpoint) {
        match self.journal.begin_checkpoint_write(draft) {
            Ok(job) => {
                let disk = self.core.disk().clone();
                self.spawn(async move { Done::Checkpoint(job.run(&disk).await) });
            }
            Err(early) if self.world.borrow_mut().random.one_in(20) => {
                self.journal.abandon_checkpoint(early);
            }
            Err(early) => self.draft = Some(early),
        }
    }

    fn remove_some(&mut self) {
        let now = self.core.wall_ms();
        let disk = self.core.disk().clone();
        let mut jobs = Vec::new();
        for log in self.logs.values_mut() {
            if let Some(start) = log.retention_candidate(now) {
                assert!(start > log.log_start_offset() && start <= log.high_watermark());
            }
            jobs.extend(self.journal.begin_removal(log, u64::MAX));
        }
        for job in jobs {
            let disk = disk.clone();
            self.spawn(async move { Done::Removal(job.run(&disk).await) });
        }
    }

    /// Drops and resets.
    fn rare(&mut self) {
        let Some(id) = self.pick() else { return };
        let mut shared = self.world.borrow_mut();
        let world = &mut *shared;
        let partition = world.partitions.get_mut(&id).unwrap();
        let turn = self.journal.staged_turn();
        if world.random.one_in(2) {
            let log = self.logs.remove(&id).unwrap();
            match self.journal.stage_drop(log) {
                Ok(()) => {
                    self.dropped.push(id);
                    self.applied.remove(&id);
                    partition.change(turn, |s| *s = State::default());
                    partition.commit = 0;
                    partition.used.clear();
                }
                Err((log, _)) => {
                    self.logs.insert(id, log);
                }
            }
            return;
        }
        let now = partition.now();
        let last_index = now.last_index() + 1 + world.random.below(20);
        // Mostly ahead of the log, as a leader's state is.
        let applied = last_index + world.random.below(20);
        let reset = Reset {
            last_index,
            last_term: now.last_term() + 1,
            next_offset: now.next_offset() + world.random.below(50) as i64,
            epochs: vec![(now.last_term() + 1, now.next_offset())],
            applied,
            state: state_of(applied),
        };
        let log = self.logs.get_mut(&id).unwrap();
        if self.journal.stage_reset(log, reset.clone()).is_ok() {
            partition.change(turn, |s| {
                s.exists = true;
                s.reset(&reset);
            });
            partition.commit = reset.last_index;
            self.applied.insert(id, reset.applied);
            world.coverage.resets += 1;
        }
    }
}

/// What the owner has made of the entries up to there.
fn state_of(applied: u64) -> Bytes {
    Bytes::copy_from_slice(&applied.to_le_bytes())
}

/// An entry of any kind, mostly a batch; `mark` makes it unlike all others.
fn entry(random: &mut Random, next_offset: i64, heavy: bool, mark: u64) -> (EntryKind, Bytes) {
    match random.below(12) {
        0 => (EntryKind::NoOp, Bytes::new()),
        1 => (EntryKind::Membership, Bytes::from(vec![1, 2, 3])),
        2 => (EntryKind::Command, Bytes::from(mark.to_le_bytes().to_vec())),
        3 => {
            let offset = random.below(next_offset as u64 + 1) as i64;
            (
                EntryKind::LogStart,
                Bytes::from(offset.to_le_bytes().to_vec()),
            )
        }
        _ => {
            let body = random.below(if heavy { 5500 } else { 300 }) as usize;
            let timestamp = 1000 + random.below(5000) as i64;
            (
                EntryKind::Batch,
                batch(1 + random.below(9) as u32, timestamp, body, mark),
            )
        }
    }
}
