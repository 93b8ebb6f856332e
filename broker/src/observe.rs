//! What a core counts of itself, for metrics. Other threads ask for it by mail and get a copy.

use crate::shard::Shard;
use protocol::api::ApiKey;
use runtime::CoreStats;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

/// Upper bounds of the buckets of a latency histogram, in microseconds; the last bucket is open.
pub const LATENCY_BOUNDS_US: [u64; 16] = [
    50, 100, 200, 400, 800, 1_500, 3_000, 6_000, 12_500, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// A histogram of durations with fixed buckets, as Prometheus wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// By bucket; one more than [`LATENCY_BOUNDS_US`].
    pub counts: [u64; LATENCY_BOUNDS_US.len() + 1],
    pub sum_us: u64,
}

impl Latency {
    pub fn record(&mut self, took: Duration) {
        let us = took.as_micros() as u64;
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket] += 1;
        self.sum_us += us;
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn merge(&mut self, other: &Latency) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_us += other.sum_us;
    }
}

/// Requests of one api.
#[derive(Clone, Debug, Default)]
pub struct ApiMetrics {
    pub latency: Latency,
    pub response_bytes: u64,
}

/// The figures that a core keeps while it works.
#[derive(Clone, Debug, Default)]
pub struct CoreMetrics {
    pub apis: BTreeMap<ApiKey, ApiMetrics>,
    pub turns: Latency,
}

impl CoreMetrics {
    /// A request was answered.
    pub fn request(&mut self, key: ApiKey, took: Duration, response_bytes: usize) {
        let api = self.apis.entry(key).or_default();
        api.latency.record(took);
        api.response_bytes += response_bytes as u64;
    }

    /// A turn was written.
    pub fn turn(&mut self, took: Duration) {
        self.turns.record(took);
    }
}

/// A request for a core's figures.
pub struct Request {
    pub reply: mpsc::Sender<CoreReport>,
}

/// A core's figures at one moment.
#[derive(Clone, Debug)]
pub struct CoreReport {
    pub core: usize,
    pub metrics: CoreMetrics,
    pub runtime: CoreStats,
    pub journal: storage::Stats,
    pub counters: crate::shard::owned::Counters,
    pub connections: usize,
    pub partitions: usize,
    pub watches: usize,
    pub fetch_sessions: usize,
    pub memory_lent_bytes: usize,
}

/// Answers a request for figures.
pub fn answer(shard: &Rc<Shard>, request: Request) {
    let owned = shard.owned.borrow();
    let report = CoreReport {
        core: shard.core.id(),
        metrics: shard.metrics.borrow().clone(),
        runtime: shard.core.stats(),
        journal: owned.journal.stats(),
        counters: owned.counters,
        connections: shard.connections.borrow().open,
        partitions: owned.partitions.len(),
        watches: owned.watches.len(),
        fetch_sessions: shard.fetch_sessions.borrow().len(),
        memory_lent_bytes: shard.budget.used(),
    };
    // Nobody listens any more: the asker gave up.
    let _ = request.reply.send(report);
}
