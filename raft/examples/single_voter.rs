//! What Raft costs a single node, where every group has one voter: nanoseconds per entry from the
//! proposal to the commit, and bytes per idle replica.
//!
//! The journal is real and its staging (one copy, two checksums) is counted; its writes go to a
//! simulated disk and are not. Run with
//! `cargo run --release -p raft-group --example single_voter`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft_group::{Members, Outputs, Replica, ReplicaConfig, ReplicaId, Replicas};
use runtime::Core;
use runtime::sim;
use storage::{EntryKind, Journal, Log, Options, PartitionId, recover};

/// Counts what is allocated; the example has one thread.
struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<usize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_add(layout.size()));
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as required of our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: as required of our caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TURNS: u32 = 3_000;

/// CPU time of this thread, so that a busy machine does not count.
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists on Linux, and `time` is ours to be written.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "the thread has a CPU clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn batch(bytes: usize) -> Bytes {
    let mut batch = BytesMut::zeroed(bytes);
    batch[8..12].copy_from_slice(&(bytes as i32 - 12).to_be_bytes());
    batch[16] = 2;
    batch.freeze()
}

fn partition(number: u32) -> PartitionId {
    PartitionId {
        topic: 7,
        partition: number,
    }
}

struct Bench {
    core: Core,
    journal: Journal,
    replicas: Replicas,
    out: Outputs,
}

impl Bench {
    async fn new(core: &Core, groups: u32) -> Bench {
        let data = format!("/{}", core.random());
        let options = Options {
            journal_bytes_max: 4 << 30,
            ..Options::default()
        };
        let recovered = recover(core.disk(), Path::new(&data), 0, 1, options).await;
        let journal = recovered.expect("an empty disk").journal;
        let (replicas, out) = (Replicas::new(), Outputs::default());
        let mut bench = Bench {
            core: core.clone(),
            journal,
            replicas,
            out,
        };
        let id = ReplicaId::new(1, 1).expect("a node and its first disk");
        for number in 0..groups {
            let log = bench.journal.create_log(partition(number));
            let config = ReplicaConfig::new(id, Members::of_voters([id]), u64::from(number));
            let replica = Replica::open(log, &config, None, 0).expect("a new log");
            bench.replicas.insert(replica);
        }
        bench
    }

    /// Writes what is sealed, on time that is not counted.
    async fn write(&mut self) {
        if let Some(write) = self.journal.seal() {
            let done = write.run().await;
            self.journal
                .written(done)
                .expect("the simulated disk takes everything");
        }
        if let Some(job) = self.journal.begin_prepare() {
            let done = job.run(self.core.disk()).await;
            self.journal
                .finish_prepare(done)
                .expect("the simulated disk has room");
        }
    }

    /// Lets everybody be elected.
    async fn settle(&mut self) {
        self.replicas.pass(&mut self.journal, &mut self.out);
        self.write().await;
        self.replicas.persisted(self.journal.durable_turn());
        self.replicas.pass(&mut self.journal, &mut self.out);
        self.apply();
    }

    /// Applies what is committed; returns how many entries that were.
    fn apply(&mut self) -> u64 {
        let mut committed = 0;
        for (partition, range) in self.out.committed.drain(..) {
            committed += range.end() - range.start() + 1;
            self.replicas.applied(partition, *range.end());
        }
        self.out.clear();
        committed
    }

    /// One turn with this many entries, spread over the groups; the time of its parts.
    async fn turn(&mut self, entries: u32, groups: u32, data: &Bytes) -> [Duration; 3] {
        let start = cpu_time();
        for number in 0..entries {
            let replica = self
                .replicas
                .get_mut(partition(number % groups))
                .expect("it is here");
            replica
                .propose(EntryKind::Batch, data.clone())
                .expect("a sole voter leads");
        }
        let proposed = cpu_time() - start;
        let start = cpu_time();
        self.replicas.pass(&mut self.journal, &mut self.out);
        let staged = cpu_time() - start;
        self.write().await;
        let start = cpu_time();
        self.replicas.persisted(self.journal.durable_turn());
        self.replicas.pass(&mut self.journal, &mut self.out);
        let committed = self.apply();
        assert_eq!(
            committed,
            u64::from(entries),
            "everything commits in its turn"
        );
        [proposed, staged, cpu_time() - start]
    }
}

async fn measure(core: &Core, groups: u32, entries: u32, bytes: usize) {
    let mut bench = Bench::new(core, groups).await;
    let data = batch(bytes);
    bench.settle().await;
    let turns = (200_000 / entries).min(TURNS);
    let mut spent = [Duration::ZERO; 3];
    for _ in 0..turns {
        let parts = bench.turn(entries, groups, &data).await;
        spent
            .iter_mut()
            .zip(parts)
            .for_each(|(sum, part)| *sum += part);
    }
    let [propose, stage, commit] =
        spent.map(|sum| sum.as_nanos() as u64 / u64::from(turns * entries));
    let all = propose + stage + commit;
    println!(
        "{groups:>5} groups, {entries:>5} entries of {bytes} bytes a turn: {all:>5} ns per entry \
         (propose {propose}, stage {stage}, persisted to applied {commit})"
    );
}

async fn idle(core: &Core) {
    const GROUPS: usize = 10_000;
    let mut bench = Bench::new(core, 0).await;
    let id = ReplicaId::new(1, 1).expect("a node and its first disk");
    let empty = LIVE_BYTES.get();
    let logs: Vec<Log> = (0..GROUPS)
        .map(|number| bench.journal.create_log(partition(number as u32)))
        .collect();
    let with_logs = LIVE_BYTES.get();
    for (log, seed) in logs.into_iter().zip(0..) {
        let config = ReplicaConfig::new(id, Members::of_voters([id]), seed);
        bench
            .replicas
            .insert(Replica::open(log, &config, None, 0).expect("a new log"));
    }
    bench.settle().await;
    bench.out = Outputs::default();
    let after = LIVE_BYTES.get();
    println!(
        "{GROUPS} idle leaders: {} bytes each, with a log that had {} before its first entries",
        (after - empty) / GROUPS,
        (with_logs - empty) / GROUPS,
    );
    println!(
        "of these in one piece: {} (Replica, with its log)",
        size_of::<Replica>()
    );
    let allocations = ALLOCATIONS.get();
    let start = cpu_time();
    bench.replicas.tick();
    bench.replicas.pass(&mut bench.journal, &mut bench.out);
    println!(
        "a tick and a pass over them: {} ns, {} allocations",
        (cpu_time() - start).as_nanos(),
        ALLOCATIONS.get() - allocations
    );
}

fn main() {
    let world = sim::Sim::new(sim::Options::seeded(1));
    let node = world.client("bench", async |core| {
        for (groups, entries) in [(1, 1), (1, 64), (64, 64), (64, 640), (1_000, 1_000)] {
            measure(&core, groups, entries, 200).await;
        }
        idle(&core).await;
    });
    assert!(
        world.run_until_done(node, Duration::from_secs(36_000)),
        "the benchmark ends"
    );
}
