//! What 1,000 groups of three cost a node per tick: under way to sleep, and asleep; and how long it
//! takes until somebody leads them when their leaders' node is lost.
//!
//! Three nodes of one core each, in one thread; journals are real, their writes go to a simulated
//! disk and are not counted. Run with
//! `cargo run --release -p raft-group --example sleeping_groups`.

use std::path::Path;
use std::time::Duration;

use raft_group::{Members, Outputs, Replica, ReplicaConfig, ReplicaId, Replicas, Role};
use runtime::Core;
use runtime::sim;
use storage::{Journal, Options, PartitionId, recover};

const GROUPS: u32 = 1_000;

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

fn id(node: i32) -> ReplicaId {
    ReplicaId::new(node, 1).expect("a node and its first disk")
}

struct Node {
    journal: Journal,
    replicas: Replicas,
    out: Outputs,
    /// Time in ticks and passes.
    spent: Duration,
}

impl Node {
    async fn new(core: &Core, node: i32) -> Node {
        let data = format!("/{}/{node}", core.random());
        let options = Options {
            journal_first_file_bytes: 64 << 20,
            ..Options::default()
        };
        let recovered = recover(core.disk(), Path::new(&data), 0, 1, options).await;
        let mut journal = recovered.expect("an empty disk").journal;
        let mut replicas = Replicas::new();
        for group in 0..GROUPS {
            let log = journal.create_log(PartitionId {
                topic: 1,
                partition: group,
            });
            let bootstrap = Members::of_voters((1..=3).map(id));
            let config = ReplicaConfig::new(id(node), bootstrap, u64::from(group));
            replicas.insert(Replica::open(log, &config, None, 0).expect("a new log"));
        }
        Node {
            journal,
            replicas,
            out: Outputs::default(),
            spent: Duration::ZERO,
        }
    }

    fn pass(&mut self) {
        let start = cpu_time();
        self.replicas.pass(&mut self.journal, &mut self.out);
        self.spent += cpu_time() - start;
        for (partition, range) in self.out.committed.drain(..) {
            self.replicas.applied(partition, *range.end());
        }
    }

    async fn turn(&mut self) {
        self.pass();
        if let Some(write) = self.journal.seal() {
            let done = write.run().await;
            let written = self.journal.written(done);
            written.expect("the simulated disk takes everything");
        }
        self.replicas.persisted(self.journal.durable_turn());
        self.pass();
    }

    fn count(&self, which: impl Fn(&Replica) -> bool) -> usize {
        self.replicas
            .iter()
            .filter(|replica| which(replica))
            .count()
    }
}

/// Bytes of heartbeats and number of other messages.
#[derive(Default)]
struct Sent {
    beat_bytes: usize,
    messages: usize,
}

/// A tick at every node and what follows from it.
async fn tick(nodes: &mut [Node]) -> Sent {
    let mut sent = Sent::default();
    for node in nodes.iter_mut() {
        let start = cpu_time();
        node.replicas.tick();
        node.spent += cpu_time() - start;
    }
    for _ in 0..6 {
        for at in 0..nodes.len() {
            nodes[at].turn().await;
            let messages = std::mem::take(&mut nodes[at].out.messages);
            let frames = nodes[at].out.beats.take();
            nodes[at].out.clear();
            sent.messages += messages.len();
            for (partition, message) in messages {
                if let Some(to) = nodes.get_mut(message.to.node() as usize - 1) {
                    let _ = to.replicas.step(partition, message);
                }
            }
            for frame in frames {
                sent.beat_bytes += frame.encode().len();
                if let Some(to) = nodes.get_mut(frame.to.node() as usize - 1) {
                    to.replicas.step_beats(frame);
                }
            }
        }
    }
    sent
}

fn report(name: &str, nodes: &mut [Node], ticks: u32, sent: &Sent) {
    let spent: Duration = nodes.iter().map(|node| node.spent).sum();
    let per_tick = spent / ticks / nodes.len() as u32;
    println!(
        "{name}: {ticks} ticks, {} ns per tick and node, {} messages, {} bytes of heartbeats",
        per_tick.as_nanos(),
        sent.messages,
        sent.beat_bytes
    );
    nodes
        .iter_mut()
        .for_each(|node| node.spent = Duration::ZERO);
}

/// Ticks until nobody is awake.
async fn fall_asleep(name: &str, nodes: &mut [Node]) {
    let (mut ticks, mut all) = (0, Sent::default());
    while nodes.iter().any(|node| node.replicas.wants_ticks()) {
        let sent = tick(nodes).await;
        all.messages += sent.messages;
        all.beat_bytes += sent.beat_bytes;
        ticks += 1;
        assert!(ticks < 1_000, "the groups never sleep");
    }
    report(name, nodes, ticks, &all);
}

async fn measure(core: &Core) {
    let mut nodes = Vec::new();
    for node in 1..=3 {
        nodes.push(Node::new(core, node).await);
    }
    fall_asleep("elected, then asleep", &mut nodes).await;
    // Without the clock in between, which would cost more than what it measures.
    let start = cpu_time();
    for _ in 0..1_000 {
        for node in &mut nodes {
            node.replicas.tick();
            node.replicas.pass(&mut node.journal, &mut node.out);
            assert!(node.out.is_empty(), "somebody talks in his sleep");
        }
    }
    let per_tick = (cpu_time() - start) / 3_000;
    println!("asleep: {} ns per tick and pass", per_tick.as_nanos());

    let leads = |replica: &Replica| replica.role() == Role::Leader;
    let led = nodes.pop().expect("three nodes").count(leads);
    nodes.iter_mut().for_each(|node| node.replicas.peer_lost(3));
    let mut ticks = 0;
    let serving = |nodes: &[Node]| -> usize {
        let serving = nodes.iter().map(|node| node.count(Replica::is_serving));
        serving.sum()
    };
    while serving(&nodes) < GROUPS as usize {
        tick(&mut nodes).await;
        ticks += 1;
    }
    println!("a node that led {led} groups is lost: all are led again after {ticks} ticks");
    fall_asleep("and sleep again", &mut nodes).await;
}

fn main() {
    let world = sim::Sim::new(sim::Options::seeded(1));
    let node = world.client("bench", async |core| measure(&core).await);
    assert!(
        world.run_until_done(node, Duration::from_secs(36_000)),
        "the measurement ends"
    );
}
