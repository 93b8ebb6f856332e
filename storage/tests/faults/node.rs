//! A core's storage with every step spelled out, one after another.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use runtime::sim::{NodeId, Options as SimOptions, Sim};
use runtime::{Core, Disk};
use storage::{
    EntriesPlan, EntryKind, HardState, Journal, Log, Options, PartitionId, Recovered, recover,
};

pub const DATA: &str = "/data";

pub fn id(partition: u32) -> PartitionId {
    PartitionId {
        topic: 0xfeed << 64 | 7,
        partition,
    }
}

pub fn options() -> Options {
    Options {
        journal_bytes_max: 256 << 10,
        journal_first_file_bytes: 32 << 10,
        journal_file_bytes: 64 << 10,
        checkpoint_bytes: 64 << 10,
        memory_bytes_max: 1 << 20,
        direct_bytes: u64::MAX,
        buffer_bytes: 64 << 10,
        entry_bytes_max: 16 << 10,
        ..Options::default()
    }
}

/// A record batch of one record; `mark` makes it unlike others.
pub fn batch(mark: u64, body: usize) -> Bytes {
    let mut b = vec![0u8; 61];
    b[8..12].copy_from_slice(&((61 + body - 12) as i32).to_be_bytes());
    b[16] = 2;
    b[35..43].copy_from_slice(&(mark as i64).to_be_bytes());
    b[57..61].copy_from_slice(&1i32.to_be_bytes());
    b.extend((0..body).map(|i| (mark as usize * 31 + i) as u8));
    Bytes::from(b)
}

pub struct Node {
    pub disk: Disk,
    pub journal: Journal,
    pub logs: BTreeMap<PartitionId, Log>,
    pub states: BTreeMap<PartitionId, (u64, Bytes)>,
}

impl Node {
    pub async fn start(core: &Core, options: Options) -> Node {
        Node::start_core(core, 0, 1, options).await
    }

    pub async fn start_core(core: &Core, index: usize, cores: usize, options: Options) -> Node {
        let recovered = recover(core.disk(), Path::new(DATA), index, cores, options).await;
        let Recovered {
            logs,
            journal,
            report,
        } = recovered.expect("recovers");
        assert!(!report.damaged && report.fenced.is_empty(), "{report:?}");
        let mut node = Node {
            disk: core.disk().clone(),
            journal,
            logs: BTreeMap::new(),
            states: BTreeMap::new(),
        };
        for recovered in logs {
            node.states
                .insert(recovered.log.id(), (recovered.applied, recovered.state));
            node.logs.insert(recovered.log.id(), recovered.log);
        }
        node
    }

    pub fn log(&mut self, id: PartitionId) -> &mut Log {
        let journal = &mut self.journal;
        self.logs
            .entry(id)
            .or_insert_with(|| journal.create_log(id))
    }

    /// Stages a batch at the end of the log.
    pub fn append(
        &mut self,
        id: PartitionId,
        mark: u64,
        body: usize,
    ) -> Result<i64, storage::StageError> {
        self.log(id);
        let log = self.logs.get_mut(&id).unwrap();
        let index = log.last_index() + 1;
        let data = batch(mark, body);
        let staged = self
            .journal
            .stage_entry(log, 1, index, EntryKind::Batch, &data)?;
        Ok(staged.base_offset)
    }

    /// Appends until the journal refuses, with all of its files.
    pub async fn fill(&mut self) {
        let mut mark = 0;
        while self.journal.refuses().is_none() {
            mark += 1;
            self.append(id(0), mark, 2000).unwrap();
            self.turn().await.unwrap();
            self.prepare().await.unwrap();
        }
    }

    pub fn vote(&mut self, id: PartitionId, hard_state: HardState) {
        self.log(id);
        let log = self.logs.get_mut(&id).unwrap();
        self.journal
            .stage_hard_state(log, hard_state)
            .expect("room for a hard state");
    }

    /// Writes the turn.
    pub async fn turn(&mut self) -> Result<(), storage::JournalError> {
        match self.journal.seal() {
            Some(write) => self.journal.written(write.run().await),
            None => Ok(()),
        }
    }

    pub fn commit_all(&mut self) {
        for log in self.logs.values_mut() {
            log.commit_to(log.last_index());
            log.applied_to(log.commit());
        }
    }

    /// Drains whatever is committed.
    pub async fn drain_all(&mut self) -> std::io::Result<()> {
        for log in self.logs.values_mut() {
            while let Some(job) = log.begin_drain(1_000, true) {
                let done = job.run(&self.disk).await;
                self.journal.finish_drain(log, done)?;
            }
        }
        Ok(())
    }

    pub async fn checkpoint(&mut self) -> Result<(), storage::JournalError> {
        self.turn().await?;
        let mut draft = self.journal.begin_checkpoint().expect("none is under way");
        for log in self.logs.values() {
            draft.add(
                &self.journal,
                log,
                log.applied(),
                &log.applied().to_le_bytes(),
            );
        }
        let job = self
            .journal
            .begin_checkpoint_write(draft)
            .expect("all is durable");
        let done = job.run(&self.disk).await;
        self.journal.finish_checkpoint(done)
    }

    pub async fn prepare(&mut self) -> std::io::Result<()> {
        while let Some(job) = self.journal.begin_prepare() {
            let done = job.run(&self.disk).await;
            self.journal.finish_prepare(done)?;
        }
        Ok(())
    }

    /// The marks of all batches in the log, from its first index on.
    pub async fn marks(&self, id: PartitionId) -> Vec<u64> {
        let log = &self.logs[&id];
        let (mut low, high) = (log.first_index(), log.last_index() + 1);
        let mut marks = Vec::new();
        while low < high {
            let entries = match log.plan_entries(low, high, 64 << 10) {
                EntriesPlan::Memory(entries) => entries,
                EntriesPlan::Disk(job) => job.run(&self.disk).await.expect("readable"),
                EntriesPlan::Compacted => panic!("{low} is gone"),
            };
            low += entries.len() as u64;
            for entry in entries {
                let mark = i64::from_be_bytes(entry.data[35..43].try_into().unwrap()) as u64;
                assert_eq!(entry.data[61..], batch(mark, entry.data.len() - 61)[61..]);
                marks.push(mark);
            }
        }
        marks
    }
}

/// Runs one life of a node of one core, up to its end or to a planned crash.
pub fn live<Fut: Future<Output = ()> + 'static>(
    sim: &Sim,
    main: impl Fn(Core) -> Fut + 'static,
) -> NodeId {
    let main = Rc::new(main);
    let node = sim.start::<(), _, _>("node", 1, move |core, _post, _inbox| main(core));
    assert!(
        sim.run_until_done(node, Duration::from_secs(3600)),
        "the life does not end"
    );
    sim.kill(node);
    node
}

pub fn world(seed: u64) -> Sim {
    Sim::new(SimOptions::seeded(seed))
}
