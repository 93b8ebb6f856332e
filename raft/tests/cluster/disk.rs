//! A node's disk: a real journal on the simulated disk, and what of it is durable.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use runtime::sim::{Options as World, Sim};
use runtime::{Core, Disk};
use storage::{
    EntryKind, HardState, Journal, JournalWrite, Log, LogConfig, Options, PartitionId,
    RecoveredLog, recover,
};

/// The facts of a log that promises are about.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Image {
    hard_state: HardState,
    first_index: u64,
    /// The terms of the entries, from the one before the first on.
    terms: Vec<u64>,
}

impl Image {
    fn of(log: &Log) -> Image {
        let first_index = log.first_index();
        let terms = (first_index - 1..=log.last_index())
            .map(|index| log.term(index).unwrap())
            .collect();
        Image {
            hard_state: log.hard_state(),
            first_index,
            terms,
        }
    }
}

pub struct NodeDisk {
    pub journal: Journal,
    pub disk: Disk,
    data: PathBuf,
    partition: PartitionId,
    /// The write that is under way, and what will be durable once it is done.
    write: Option<(JournalWrite, Image)>,
    durable: Image,
    /// Whether the journal gets the files that it asks for.
    pub may_grow: bool,
}

/// Small, because every restart reads all of them.
pub const FILE_BYTES: u64 = 256 << 10;

fn options() -> Options {
    Options {
        journal_first_file_bytes: FILE_BYTES,
        journal_file_bytes: FILE_BYTES,
        // So little that drained entries leave memory at every sweep.
        buffer_bytes: 8 << 10,
        memory_bytes_max: 16 << 10,
        ..Options::default()
    }
}

/// Small segments, so that logs are soon long enough to be trimmed.
fn configured(mut log: Log) -> Log {
    log.configure(LogConfig {
        segment_bytes: 8 << 10,
        ..LogConfig::default()
    });
    log
}

/// Runs a test on a simulated core. Its seed decides how long writes take and nothing else.
pub fn run<F, Fut>(body: F)
where
    F: FnOnce(Core) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let sim = Sim::new(World::seeded(1));
    let node = sim.client("test", body);
    assert!(
        sim.run_until_done(node, Duration::from_secs(3_600)),
        "the test does not end"
    );
}

impl NodeDisk {
    /// An empty disk and the log of its partition.
    pub async fn new(core: &Core, data: PathBuf, partition: PartitionId) -> (NodeDisk, Log) {
        let disk = core.disk().clone();
        let recovered = recover(&disk, &data, 0, 1, options()).await.unwrap();
        assert!(recovered.report.fresh && recovered.logs.is_empty());
        let mut journal = recovered.journal;
        let log = configured(journal.create_log(partition));
        let durable = Image::of(&log);
        (
            NodeDisk {
                journal,
                disk,
                data,
                partition,
                write: None,
                durable,
                may_grow: true,
            },
            log,
        )
    }

    /// Seals the journal's turn, if nothing is under way.
    pub fn seal(&mut self, log: &Log) {
        if let Some(write) = self.journal.seal() {
            self.write = Some((write, Image::of(log)));
        }
    }

    pub fn writing(&self) -> bool {
        self.write.is_some()
    }

    /// Finishes the write that is under way.
    pub async fn finish_write(&mut self) {
        let Some((write, image)) = self.write.take() else {
            return;
        };
        let done = write.run().await;
        self.journal.written(done).unwrap();
        self.durable = image;
        if self.may_grow {
            self.grow().await;
        }
    }

    /// Another log takes what is left of the journal, until it refuses what is new.
    pub async fn fill(&mut self) {
        self.may_grow = false;
        let mut other = self.journal.create_log(PartitionId {
            topic: u128::MAX,
            partition: 0,
        });
        let data = Bytes::from(vec![7; 4_000]);
        for index in 1.. {
            if self.journal.refuses().is_some() {
                break;
            }
            let kind = EntryKind::Command;
            let staged = self.journal.stage_entry(&mut other, 1, index, kind, &data);
            staged.expect("it does not refuse yet");
            let write = self.journal.seal().expect("an entry was staged");
            self.journal.written(write.run().await).unwrap();
        }
    }

    /// Gives the journal another file, if it wants one.
    pub async fn grow(&mut self) {
        if let Some(job) = self.journal.begin_prepare() {
            let done = job.run(&self.disk).await;
            self.journal.finish_prepare(done).unwrap();
        }
    }

    /// The node dies, perhaps just after its write was done and before it could know. Returns the
    /// log as it is found again, with the owner's state.
    pub async fn crash(&mut self, write_was_done: bool) -> RecoveredLog {
        if let Some((write, image)) = self.write.take()
            && write_was_done
        {
            assert!(write.run().await.is_ok());
            self.durable = image;
        }
        let recovered = recover(&self.disk, &self.data, 0, 1, options())
            .await
            .unwrap();
        self.journal = recovered.journal;
        let found = recovered
            .logs
            .into_iter()
            .find(|found| found.log.id() == self.partition);
        let mut found = found.unwrap_or_else(|| RecoveredLog {
            log: self.journal.create_log(self.partition),
            applied: 0,
            state: Bytes::new(),
        });
        assert_eq!(
            Image::of(&found.log),
            self.durable,
            "recovery brings back what was durable"
        );
        found.log = configured(found.log);
        found
    }

    /// Whether the entry is on the disk, or was removed after it was committed.
    pub fn holds(&self, index: u64, term: u64) -> bool {
        let first = self.durable.first_index - 1;
        match index.checked_sub(first) {
            None => true,
            Some(at) => self.durable.terms.get(at as usize) == Some(&term),
        }
    }

    pub fn durable_last_index(&self) -> u64 {
        self.durable.first_index + self.durable.terms.len() as u64 - 2
    }

    pub fn durable_hard_state(&self) -> HardState {
        self.durable.hard_state
    }
}
