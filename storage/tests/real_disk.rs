//! The same storage through io_uring, in a real directory: what the simulator cannot show is that
//! the real file system takes our direct I/O, and how long things take.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bytes::Bytes;
use runtime::{Core, uring};
use storage::{
    DataDir, EntryKind, Journal, Log, NodeIdentity, Options, PartitionId, ReadPlan, Recovered,
    recover,
};

/// A directory of its own for each test, removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Not the system's temporary directory: that is often tmpfs, without direct I/O.
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Scratch(base.join(format!("storage-{}-{number}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn on_core<F, Fut>(data: &Path, test: F)
where
    F: Fn(Core, PathBuf) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let path = data.to_path_buf();
    let main = move |core, _post, _inbox| test(core, path.clone());
    let node = uring::launch::<(), _, _>(uring::Options::cores(1), main).expect("io_uring");
    if let Err(panic) = node.join() {
        panic!("{panic}");
    }
}

async fn start(core: &Core, data: &Path) -> (Recovered, BTreeMap<PartitionId, Log>) {
    let identity = NodeIdentity {
        node_id: 1,
        cluster_id: None,
        fresh: 1 << 70,
    };
    let options = Options {
        salt: core.random(),
        ..Options::default()
    };
    DataDir::open(core.disk(), data, &identity, 1, &options)
        .await
        .expect("it opens");
    let mut recovered = recover(core.disk(), data, 0, 1, options)
        .await
        .expect("it recovers");
    let logs = std::mem::take(&mut recovered.logs);
    let logs = logs.into_iter().map(|r| (r.log.id(), r.log)).collect();
    (recovered, logs)
}

fn batch(mark: u64, body: usize) -> Bytes {
    let mut b = vec![mark as u8; 61 + body];
    b[8..12].copy_from_slice(&((61 + body - 12) as i32).to_be_bytes());
    b[16] = 2;
    b[23..27].copy_from_slice(&0i32.to_be_bytes());
    b[35..43].copy_from_slice(&(mark as i64).to_be_bytes());
    Bytes::from(b)
}

fn id(partition: u32) -> PartitionId {
    PartitionId {
        topic: 0xabc,
        partition,
    }
}

#[test]
fn what_was_written_is_read_back_after_a_restart() {
    let scratch = Scratch::new();
    let sizes = [10, 3_000, 40_000, 200_000, 1_000_000];
    on_core(&scratch.0, move |core, data| async move {
        let (mut recovered, mut logs) = start(&core, &data).await;
        assert!(recovered.report.fresh);
        let journal = &mut recovered.journal;
        let log = logs
            .entry(id(0))
            .or_insert_with(|| journal.create_log(id(0)));
        for mark in 0..100u64 {
            let data = batch(mark, sizes[mark as usize % sizes.len()]);
            journal
                .stage_entry(log, 1, mark + 1, EntryKind::Batch, &data)
                .expect("room");
            if mark % 3 == 0 {
                write(journal).await;
            }
            if mark == 50 {
                log.commit_to(log.last_index());
                while let Some(job) = log.begin_drain(1, true) {
                    journal
                        .finish_drain(log, job.run(core.disk()).await)
                        .expect("drained");
                }
            }
            while let Some(job) = journal.begin_prepare() {
                journal
                    .finish_prepare(job.run(core.disk()).await)
                    .expect("prepared");
            }
        }
        assert!(
            journal.stats().direct_bytes > 20_000_000,
            "{:?}",
            journal.stats()
        );
    });
    on_core(&scratch.0, move |core, data| async move {
        let (recovered, mut logs) = start(&core, &data).await;
        assert!(recovered.report.fenced.is_empty(), "{:?}", recovered.report);
        let log = logs.get_mut(&id(0)).expect("it is there");
        log.commit_to(log.last_index());
        for mark in 0..100i64 {
            let found = match log.read(mark, 1, 100, true) {
                ReadPlan::Memory(found) => found,
                ReadPlan::Disk(job) => job.run(core.disk()).await.expect("readable"),
                ReadPlan::OutOfRange => panic!("{mark} is in range"),
            };
            assert_eq!(found.len(), 1);
            let want = batch(mark as u64, sizes[mark as usize % sizes.len()]);
            assert_eq!(found[0][16..], want[16..], "batch {mark}");
            assert_eq!(found[0][..8], mark.to_be_bytes());
        }
    });
}

async fn write(journal: &mut Journal) {
    let turn = journal.seal().expect("something is staged");
    journal.written(turn.run().await).expect("written");
}

/// The target is three seconds in a release build; this allows as much for a debug build.
#[test]
fn ten_thousand_partitions_are_ready_in_time() {
    let scratch = Scratch::new();
    on_core(&scratch.0, |core, data| async move {
        let (mut recovered, mut logs) = start(&core, &data).await;
        let journal = &mut recovered.journal;
        for round in 0..5u64 {
            while let Some(job) = journal.begin_prepare() {
                journal
                    .finish_prepare(job.run(core.disk()).await)
                    .expect("prepared");
            }
            for partition in 0..10_000 {
                let log = logs
                    .entry(id(partition))
                    .or_insert_with(|| journal.create_log(id(partition)));
                let data = batch(round, 100);
                journal
                    .stage_entry(log, 1, round + 1, EntryKind::Batch, &data)
                    .expect("room");
            }
            write(journal).await;
        }
        let mut draft = journal.begin_checkpoint().expect("none is under way");
        for log in logs.values() {
            draft.add(journal, log, 0, b"");
        }
        let job = journal
            .begin_checkpoint_write(draft)
            .expect("all is durable");
        journal
            .finish_checkpoint(job.run(core.disk()).await)
            .expect("written");
    });
    on_core(&scratch.0, |core, data| async move {
        let began = Instant::now();
        let (_recovered, logs) = start(&core, &data).await;
        let took = began.elapsed();
        assert_eq!(logs.len(), 10_000);
        assert!(logs.values().all(|log| log.last_index() == 5));
        println!("10,000 partitions with 50,000 entries are ready after {took:?}");
        assert!(took.as_secs() < 3, "ready after {took:?}");
    });
}
