//! One life of the node: recover, compare with the model, work at random.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use runtime::Core;
use storage::{
    Checkpoint, CheckpointDone, Condition, DrainDone, DropDone, EntriesPlan, EntryKind, HardState,
    Journal, JournalWritten, Log, LogConfig, Options, PartitionId, PrepareDone, ReadPlan,
    Recovered, RemovalDone, Reset, TimestampFound, TimestampPlan, recover,
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
struct Owner {
    core: Core,
    world: Shared,
    journal: Journal,
    logs: BTreeMap<PartitionId, Log>,
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
        for recovered in logs {
            let id = recovered.log.id();
            assert!(recovered.applied <= recovered.log.commit(), "{id}");
            if recovered.applied > 0 && !w.damaged {
                assert_eq!(recovered.state, recovered.applied.to_le_bytes()[..], "{id}");
            }
            found.insert(id, recovered.log);
        }
        drop(w);
        Owner {
            core,
            world,
            journal,
            logs: found,
            draft: None,
            done: Rc::default(),
        }
    }

    /// Every partition is in a state that the model allows. After a restart that state is what
    /// counts from now on, else only the newest one will do.
    async fn compare_all(&mut self, restarted: bool) {
        let ids: Vec<PartitionId> = {
            let world = self.world.borrow();
            for id in self.logs.keys() {
                assert!(world.partitions.contains_key(id), "{id} was never staged");
            }
            world.partitions.keys().copied().collect()
        };
        for id in ids {
            if self.world.borrow().damaged {
                self.compare_beside_damage(id).await;
                continue;
            }
            let found = match self.logs.get(&id) {
                // A log that was created and of which nothing was staged.
                Some(log) if !restarted && log.last_index() == 0 && log.first_index() == 1 => {
                    let found = self.read_state(id).await;
                    let pristine = State {
                        exists: true,
                        ..State::default()
                    };
                    (found != pristine || self.world.borrow().partitions[&id].now().exists)
                        .then_some(found)
                }
                Some(_) => Some(self.read_state(id).await),
                None => None,
            };
            let mut world = self.world.borrow_mut();
            let partition = world.partitions.get_mut(&id).unwrap();
            let allowed = partition.versions.iter().rposition(|(_, s)| match &found {
                None => !s.exists,
                Some(found) => s.exists && matches(found, s),
            });
            let Some(i) = allowed else {
                panic!(
                    "{id}: found {}, allowed {}",
                    found.map_or("nothing".into(), |f| summary(&f)),
                    partition
                        .versions
                        .iter()
                        .map(|v| summary(&v.1))
                        .collect::<Vec<_>>()
                        .join(" ")
                );
            };
            let state = partition.versions[i].1.clone();
            if !restarted {
                assert_eq!(state, *partition.now(), "{id}");
                continue;
            }
            let commit = self.logs.get(&id).map_or(0, |l| l.commit());
            if found.is_some() {
                assert!(state.hard_state.commit.min(state.last_index()) <= commit);
                self.logs[&id].high_watermark();
                assert_eq!(
                    self.logs[&id].high_watermark(),
                    state.offset_after(commit),
                    "{id}"
                );
            }
            partition.survived(state, commit);
            world.coverage.survived_late += u64::from(i > 0);
        }
    }

    /// After damage a partition may be fenced or unreadable, but never wrong.
    async fn compare_beside_damage(&self, id: PartitionId) {
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        let closing = id.topic == 8; // Its last turn is the one that nobody can vouch for.
        if closing || matches!(log.condition(), Condition::Fenced(_)) {
            return;
        }
        let found = self.try_read_state(id).await;
        let mut shared = self.world.borrow_mut();
        let world = &mut *shared;
        let Ok(found) = found else {
            world.coverage.failed_reads += 1;
            return;
        };
        let rebuilt = *log.condition() == Condition::Rebuilt;
        let versions = &world.partitions[&id].versions;
        let allowed = versions.iter().any(|(_, s)| s.exists && matches(&found, s));
        // What was rebuilt may lack what was not drained, and the vote.
        let partly = rebuilt && versions.iter().any(|(_, s)| begins_like(&found, s));
        assert!(
            allowed || partly,
            "{id}: found {}, allowed {}",
            summary(&found),
            versions
                .iter()
                .map(|v| summary(&v.1))
                .collect::<Vec<_>>()
                .join(" ")
        );
        world.coverage.healthy_beside_damage += 1;
    }

    /// Everything that can be read of a log, by index.
    async fn read_state(&self, id: PartitionId) -> State {
        assert_eq!(*self.logs[&id].condition(), Condition::Healthy, "{id}");
        self.try_read_state(id).await.expect("readable")
    }

    async fn try_read_state(&self, id: PartitionId) -> Result<State, storage::ReadError> {
        let log = &self.logs[&id];
        let mut state = State {
            exists: true,
            base_index: log.first_index() - 1,
            base_term: log.term(log.first_index() - 1).unwrap_or(u64::MAX),
            hard_state: log.hard_state(),
            ..State::default()
        };
        let mut low = log.first_index();
        let high = log.last_index() + 1;
        while low < high {
            let max_bytes = self.world.borrow_mut().random.below(20_000);
            let entries = match log.plan_entries(low, high, max_bytes) {
                EntriesPlan::Memory(entries) => entries,
                EntriesPlan::Disk(job) => job.run(self.core.disk()).await?,
                EntriesPlan::Compacted => panic!("{id}: {low} is not below the first index"),
            };
            assert!(!entries.is_empty(), "{id}: nothing at {low} of {high}");
            for entry in entries {
                assert_eq!(entry.index, low);
                if state.entries.is_empty() {
                    state.base_offset = entry.base_offset;
                }
                assert_eq!(log.term(low), Some(entry.term), "{id}: term of {low}");
                state.entries.push(crate::partition::ModelEntry {
                    term: entry.term,
                    kind: entry.kind,
                    base_offset: entry.base_offset,
                    end_offset: entry.base_offset + i64::from(entry.offset_count),
                    timestamp: entry.max_timestamp,
                    data: entry.data,
                });
                low += 1;
            }
        }
        if state.entries.is_empty() {
            state.base_offset = log.next_offset();
        }
        assert_eq!(state.next_offset(), log.next_offset(), "{id}");
        Ok(state)
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
        let mut shared = self.world.borrow_mut();
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
            self.journal.announce(log, random.below(100_000));
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
            let (kind, data) = match random.below(12) {
                0 => (EntryKind::NoOp, Bytes::new()),
                1 => (EntryKind::Membership, Bytes::from(vec![1, 2, 3])),
                2 => (EntryKind::Command, Bytes::from(mark.to_le_bytes().to_vec())),
                3 => {
                    let offset = random.below(now.next_offset() as u64 + 1) as i64;
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
            };
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
        if random.one_in(3) {
            let hard_state = HardState {
                term: partition.now().last_term() + random.below(2),
                vote: random.below(4),
                commit: partition.commit,
            };
            if self.journal.stage_hard_state(log, hard_state).is_ok() {
                partition.change(self.journal.staged_turn(), |s| {
                    s.exists = true;
                    s.hard_state = hard_state;
                });
            }
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
            for id in self.journal.sweep(self.logs.values_mut()) {
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

    fn checkpoint(&mut self) {
        let Some(mut checkpoint) = self.journal.begin_checkpoint() else {
            return;
        };
        for log in self.logs.values() {
            let applied = log.applied();
            checkpoint.add(&self.journal, log, applied, &applied.to_le_bytes());
        }
        self.write_checkpoint(checkpoint);
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
        let reset = Reset {
            last_index: now.last_index() + 1 + world.random.below(20),
            last_term: now.last_term() + 1,
            next_offset: now.next_offset() + world.random.below(50) as i64,
            epochs: vec![(now.last_term() + 1, now.next_offset())],
        };
        let log = self.logs.get_mut(&id).unwrap();
        if self.journal.stage_reset(log, reset.clone()).is_ok() {
            partition.change(turn, |s| {
                s.exists = true;
                s.reset(&reset);
            });
            partition.commit = reset.last_index;
            world.coverage.resets += 1;
        }
    }

    async fn read_some(&mut self) {
        let ids: Vec<PartitionId> = self.logs.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.world.borrow_mut().random.below(ids.len() as u64) as usize];
        let disk = self.core.disk().clone();
        let log = &self.logs[&id];
        let (offset, plan, expected, by_time) = {
            let mut world = self.world.borrow_mut();
            let World {
                random, partitions, ..
            } = &mut *world;
            let state = partitions[&id].now();
            let start = log.log_start_offset();
            let offset = start + random.below((log.next_offset() - start) as u64 + 1) as i64;
            let max_bytes = random.below(12_000) as usize;
            let min_one = random.one_in(2);
            let end = log.high_watermark();
            assert!(matches!(
                log.read(start - 1, 1, end, true),
                ReadPlan::OutOfRange
            ));
            let plan = log.read(offset, max_bytes, end, min_one);
            let mut expected = Vec::new();
            let mut bytes = 0;
            for e in state.batches().filter(|e| e.end_offset > offset) {
                let fits = bytes + e.data.len() <= max_bytes || (min_one && expected.is_empty());
                if e.end_offset > end || !fits {
                    break;
                }
                bytes += e.data.len();
                expected.push(e.data.clone());
            }
            let timestamp = 900 + random.below(5200) as i64;
            let found = state
                .batches()
                .find(|e| e.end_offset > start && e.timestamp >= timestamp);
            (
                offset,
                plan,
                expected,
                (timestamp, found.map(|e| e.data.clone())),
            )
        };
        match plan {
            ReadPlan::OutOfRange => panic!("{id}: in range"),
            ReadPlan::Memory(found) => {
                assert_eq!(found, expected, "{id}");
                self.world.borrow_mut().coverage.memory_reads += 1;
            }
            ReadPlan::Disk(job) => {
                let found = job.run(&disk).await.expect("readable");
                assert!(
                    found.len() <= expected.len() && found == expected[..found.len()],
                    "{id}"
                );
                // Between batches (commands take offsets, too) the next one may be in memory.
                if found.is_empty() && !expected.is_empty() {
                    let base = i64::from_be_bytes(expected[0][..8].try_into().unwrap());
                    assert!(base > offset, "{id}: nothing at {offset}");
                }
                self.world.borrow_mut().coverage.disk_reads += 1;
            }
        }
        self.read_by_time(id, by_time).await;
    }

    async fn read_by_time(&self, id: PartitionId, (timestamp, expected): (i64, Option<Bytes>)) {
        let disk = self.core.disk().clone();
        let mut from = 0;
        let found = loop {
            match self.logs[&id].find_by_timestamp(timestamp, from) {
                TimestampPlan::Memory(found) => break found,
                TimestampPlan::Disk(job) => match job.run(&disk).await.expect("readable") {
                    TimestampFound::Batch(found) => break Some(found),
                    TimestampFound::SearchFrom(offset) => from = offset,
                },
            }
        };
        assert_eq!(found, expected, "{id} at {timestamp}");
        let log = &self.logs[&id];
        let world = self.world.borrow();
        let state = world.partitions[&id].now();
        let newest = state
            .batches()
            .filter(|e| e.end_offset > log.log_start_offset())
            .map(|e| (e.timestamp, -e.base_offset))
            .max();
        // A segment's own maximum may lie below the log start offset: it is a bound then.
        if log.log_start_offset() == 0 {
            assert_eq!(log.max_timestamp(), newest.map(|(t, o)| (t, -o)), "{id}");
        }
        let epoch = state.last_term() as i32;
        if !state.entries.is_empty() {
            assert_eq!(
                log.epoch_end_offset(epoch),
                Some((epoch, log.next_offset())),
                "{id}"
            );
        }
    }
}

/// Whether what was found (which may begin later, where segments were removed) is `state`.
fn matches(found: &State, state: &State) -> bool {
    let skip = match found.base_index.checked_sub(state.base_index) {
        Some(skip) if skip as usize <= state.entries.len() => skip as usize,
        _ => return false,
    };
    found.hard_state == state.hard_state
        && found.entries == state.entries[skip..]
        && found.next_offset() == state.next_offset()
        && found.base_term == state.term(found.base_index)
}

/// Whether the entries that were found are the first ones of `state`.
fn begins_like(found: &State, state: &State) -> bool {
    let skip = found.base_index.checked_sub(state.base_index);
    let entries = skip.and_then(|skip| state.entries.get(skip as usize..));
    entries.is_some_and(|entries| entries.starts_with(&found.entries))
}

fn summary(s: &State) -> String {
    if !s.exists {
        return "(absent)".into();
    }
    format!(
        "({}..={} of terms {}..{}, next offset {}, {:?})",
        s.base_index + 1,
        s.last_index(),
        s.base_term,
        s.last_term(),
        s.next_offset(),
        s.hard_state
    )
}
