//! What a core counts of itself, and how it is asked for that.
//!
//! Whoever asks stands on another thread and asks by mail; the answer is a copy. Answering never
//! waits, and the work of one answer is bounded: what grows with partitions or groups is handed out
//! in pages ([`PARTITIONS_PER_PAGE`], [`OFFSETS_PER_PAGE`]), so that watching a core with ten
//! thousand partitions does not hold up its clients.
//!
//! Must not know: HTTP, Prometheus, or what other cores hold. Deliberately absent: averages, rates
//! and quantiles; whoever stores the figures works them out of counters and histograms.

mod replication;

pub use replication::{ClusterFigures, PeerFigures, ReplicationTally};

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use protocol::api::ApiKey;
use protocol::error::ErrorCode;
use raft_group::Replica;
use runtime::CoreStats;
use storage::{Condition, PartitionId};
use tokio::sync::oneshot;

use crate::cluster::partition_id;
use crate::groups::{self, GroupState};
use crate::operate::{self, Order, Outcome};
use crate::shard::Shard;
use crate::shard::owned::{Counters, Owned};
use crate::shard::view::View;

/// Partitions that one page looks at.
pub const PARTITIONS_PER_PAGE: usize = 512;
/// Committed offsets on one page, at most.
pub const OFFSETS_PER_PAGE: usize = 512;
/// A page of groups ends after the coordinator that brings it to this many.
pub const GROUPS_PER_PAGE: usize = 2_048;

/// Upper bounds of the buckets of a latency histogram, in microseconds; the last bucket is open.
pub const LATENCY_BOUNDS_US: [u64; 16] = [
    50, 100, 200, 400, 800, 1_500, 3_000, 6_000, 12_500, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// A histogram of durations with fixed buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// By bucket, not cumulative; one more than [`LATENCY_BOUNDS_US`].
    pub counts: [u64; LATENCY_BOUNDS_US.len() + 1],
    pub sum_us: u64,
}

impl Latency {
    /// Counts one duration. A bound belongs to the bucket that it ends.
    pub fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds another core's figures.
    pub fn merge(&mut self, other: &Latency) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }
}

/// Requests of one api.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiMetrics {
    /// From the decoded request to the encoded answer, waiting (long polls) included.
    pub latency: Latency,
    /// Bodies of requests, as they came.
    pub request_bytes: u64,
    /// Whole answers.
    pub response_bytes: u64,
    /// How often each error code stood in an answer, by code.
    pub errors: BTreeMap<i16, u64>,
}

impl ApiMetrics {
    /// Adds another core's figures.
    pub fn merge(&mut self, other: &ApiMetrics) {
        self.latency.merge(&other.latency);
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        for (code, count) in &other.errors {
            *self.errors.entry(*code).or_default() += count;
        }
    }
}

/// The figures that a core keeps while it works.
#[derive(Clone, Debug, Default)]
pub struct CoreMetrics {
    pub apis: BTreeMap<ApiKey, ApiMetrics>,
    /// Turns that wrote: from the decision to the end of the synced write.
    pub turns: Latency,
    /// Passes over what changed: deciding alone, without the write.
    pub passes: Latency,
}

impl CoreMetrics {
    /// A request was answered.
    pub fn request(
        &mut self,
        key: ApiKey,
        took: Duration,
        request_bytes: usize,
        response_bytes: usize,
    ) {
        let api = self.apis.entry(key).or_default();
        api.latency.record(took);
        api.request_bytes += request_bytes as u64;
        api.response_bytes += response_bytes as u64;
    }

    /// Codes that an answer to this api had in it.
    pub fn errors(&mut self, key: ApiKey, codes: &[ErrorCode]) {
        if codes.is_empty() {
            return;
        }
        let errors = &mut self.apis.entry(key).or_default().errors;
        for code in codes {
            *errors.entry(code.0).or_default() += 1;
        }
    }

    /// What had changed was decided.
    pub fn pass(&mut self, took: Duration) {
        self.passes.record(took);
    }

    /// A turn was written.
    pub fn turn(&mut self, took: Duration) {
        self.turns.record(took);
    }
}

/// Where an answer goes. If the asker has given up, nothing is worked out for it.
pub type Reply<T> = oneshot::Sender<T>;

/// What a core may be asked, each with the way back.
#[derive(Debug)]
pub enum Request {
    /// Does the core run, and does the node serve?
    Pulse(Reply<Pulse>),
    /// The figures whose number does not grow.
    Report(Reply<CoreReport>),
    /// The next partitions in the order of their ids; with `rows`, each of them by name.
    Partitions {
        after: Option<PartitionId>,
        rows: bool,
        reply: Reply<PartitionsPage>,
    },
    /// The groups of the next coordinators of this core.
    Groups {
        after: Option<PartitionId>,
        reply: Reply<GroupsPage>,
    },
    /// The next committed offsets of the groups that this core coordinates.
    Offsets {
        after: Option<OffsetsCursor>,
        reply: Reply<OffsetsPage>,
    },
    /// What an operator wants done; to the core that has the metadata.
    Operate { order: Order, reply: Reply<Outcome> },
    /// The high watermarks of some partitions, at most [`OFFSETS_PER_PAGE`], in the given order.
    /// `None` where the partition is not here, or not served.
    HighWatermarks {
        partitions: Vec<PartitionId>,
        reply: Reply<Vec<Option<i64>>>,
    },
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// This core accepts clients; true on one core of a node only.
    pub is_accepting: bool,
    /// The node is on its way down.
    pub is_stopping: bool,
}

/// A core's figures at one moment.
#[derive(Clone, Debug, Default)]
pub struct CoreReport {
    pub metrics: CoreMetrics,
    pub runtime: CoreStats,
    pub journal: storage::Stats,
    pub counters: Counters,
    /// Summed over the coordinators of this core.
    pub groups: groups::Counters,
    /// Open now.
    pub connections: usize,
    pub connections_accepted: u64,
    /// Closed at once, as a limit was reached; on the accepting core only.
    pub connections_refused: u64,
    /// Closed since what came was no request.
    pub connections_malformed: u64,
    /// Fetches that wait for data.
    pub watches: usize,
    pub fetch_sessions: usize,
    /// Memory lent to requests and cold reads.
    pub memory_lent_bytes: usize,
    /// Requests that wait for memory.
    pub memory_waiters: usize,
    /// Topics that this core's view knows.
    pub topics: usize,
    /// Index of the metadata log that this core's view has reached.
    pub metadata_version: u64,
    /// By node: what this core has to do with the others.
    pub peers: BTreeMap<i32, PeerFigures>,
    /// From the core that has the metadata.
    pub cluster: Option<ClusterFigures>,
}

/// How partitions are, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionTally {
    pub serving: u64,
    /// Neither serving nor fenced: follows another node, or has no leader yet.
    pub not_serving: u64,
    /// Not served until someone repairs them.
    pub fenced: u64,
    pub size_bytes: u64,
    pub replication: ReplicationTally,
}

impl PartitionTally {
    fn add(&mut self, state: PartitionState, size_bytes: u64) {
        match state {
            PartitionState::Serving => self.serving += 1,
            PartitionState::NotServing => self.not_serving += 1,
            PartitionState::Fenced => self.fenced += 1,
        }
        self.size_bytes += size_bytes;
    }

    /// Adds another page's figures.
    pub fn merge(&mut self, other: &PartitionTally) {
        self.serving += other.serving;
        self.not_serving += other.not_serving;
        self.fenced += other.fenced;
        self.size_bytes += other.size_bytes;
        self.replication.merge(&other.replication);
    }
}

/// Whether clients can use a partition through this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionState {
    Serving,
    NotServing,
    Fenced,
}

impl PartitionState {
    fn of(replica: &Replica) -> PartitionState {
        let is_fenced =
            replica.fenced().is_some() || matches!(replica.log().condition(), Condition::Fenced(_));
        match (is_fenced, replica.is_serving()) {
            (true, _) => PartitionState::Fenced,
            (false, true) => PartitionState::Serving,
            (false, false) => PartitionState::NotServing,
        }
    }
}

/// One partition at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRow {
    pub topic: String,
    pub partition: u32,
    pub state: PartitionState,
    pub leader_epoch: u64,
    pub log_start_offset: i64,
    pub high_watermark: i64,
    pub log_end_offset: i64,
    pub size_bytes: u64,
}

/// Some partitions of a core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionsPage {
    pub tally: PartitionTally,
    /// Empty unless asked for.
    pub rows: Vec<PartitionRow>,
    /// Ask on after this one; `None` on the last page.
    pub next: Option<PartitionId>,
}

/// Groups of some coordinators of a core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupsPage {
    pub states: BTreeMap<GroupState, usize>,
    /// Ask on after this coordinator; `None` on the last page.
    pub next: Option<PartitionId>,
}

/// A place among the committed offsets of a core: the last one seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsCursor {
    /// The partition of `__consumer_offsets` whose coordinator has the group.
    pub coordinator: PartitionId,
    pub group: String,
    pub topic: String,
    pub partition: i32,
}

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetRow {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    /// Where the high watermark is to be had.
    pub id: PartitionId,
    pub committed_offset: i64,
}

/// Some committed offsets of a core. Those of topics that are not there are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetsPage {
    pub rows: Vec<OffsetRow>,
    /// Ask on from here; `None` on the last page.
    pub next: Option<OffsetsCursor>,
}

/// Answers what the side thread asks.
pub fn answer(shard: &Rc<Shard>, request: Request) {
    match request {
        Request::Pulse(reply) => send(reply, || pulse(shard)),
        Request::Report(reply) => send(reply, || report(shard)),
        Request::Partitions { after, rows, reply } => {
            send(reply, || {
                partitions_page(&shard.owned.borrow(), &shard.view.borrow(), after, rows)
            });
        }
        Request::Groups { after, reply } => {
            send(reply, || groups_page(&shard.owned.borrow(), after));
        }
        Request::Offsets { after, reply } => {
            send(reply, || {
                offsets_page(&shard.owned.borrow(), &shard.view.borrow(), after)
            });
        }
        Request::Operate { order, reply } => operate::carry_out(shard, order, reply),
        Request::HighWatermarks { partitions, reply } => {
            send(reply, || {
                high_watermarks(&shard.owned.borrow(), &partitions)
            });
        }
    }
}

fn send<T>(reply: Reply<T>, answer: impl FnOnce() -> T) {
    if !reply.is_closed() {
        // The asker may give up at any moment; then nobody misses the answer.
        let _ = reply.send(answer());
    }
}

fn pulse(shard: &Shard) -> Pulse {
    Pulse {
        is_accepting: shard.connections.borrow().is_accepting(),
        is_stopping: shard.stopping.get(),
    }
}

fn report(shard: &Shard) -> CoreReport {
    let owned = shard.owned.borrow();
    let connections = shard.connections.borrow();
    let view = shard.view.borrow();
    let mut groups = groups::Counters::default();
    for (_, coordinator) in owned.groups.coordinators() {
        let counters = coordinator.counters();
        groups.completed_rebalances += counters.completed_rebalances;
        groups.offset_commits += counters.offset_commits;
        groups.offset_deletions += counters.offset_deletions;
        groups.offset_expirations += counters.offset_expirations;
    }
    CoreReport {
        metrics: shard.metrics.borrow().clone(),
        runtime: shard.core.stats(),
        journal: owned.journal.stats(),
        counters: owned.counters,
        groups,
        connections: connections.open,
        connections_accepted: connections.accepted,
        connections_refused: connections.refused,
        connections_malformed: connections.malformed,
        watches: owned.watches.len(),
        fetch_sessions: shard.fetch_sessions.borrow().len(),
        memory_lent_bytes: shard.budget.used(),
        memory_waiters: shard.budget.waiting(),
        topics: view.cluster.topic_count(),
        metadata_version: view.version,
        peers: replication::peers(shard, &owned, &view),
        cluster: replication::cluster(shard, &view),
    }
}

fn partitions_page(
    owned: &Owned,
    view: &View,
    after: Option<PartitionId>,
    rows: bool,
) -> PartitionsPage {
    let mut page = PartitionsPage::default();
    let first = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = owned.partitions.range((first, Bound::Unbounded));
    for (id, partition) in rest.by_ref().take(PARTITIONS_PER_PAGE) {
        page.next = Some(*id);
        let replica = owned
            .replicas
            .get(*id)
            .expect("every partition has its replica");
        let (log, state) = (replica.log(), PartitionState::of(replica));
        page.tally.add(state, log.size_bytes());
        page.tally.replication.add(replica, partition, view);
        if rows {
            page.rows.push(PartitionRow {
                topic: partition.name.to_string(),
                partition: id.partition,
                state,
                leader_epoch: replica.term(),
                log_start_offset: log.log_start_offset(),
                high_watermark: log.high_watermark(),
                log_end_offset: log.next_offset(),
                size_bytes: log.size_bytes(),
            });
        }
    }
    if rest.next().is_none() {
        page.next = None;
    }
    page
}

fn groups_page(owned: &Owned, after: Option<PartitionId>) -> GroupsPage {
    let mut page = GroupsPage::default();
    let mut groups = 0;
    let unseen = |id: PartitionId| after.is_none_or(|after| id > after);
    for (id, coordinator) in owned.groups.coordinators().filter(|(id, _)| unseen(*id)) {
        if groups >= GROUPS_PER_PAGE {
            return page;
        }
        for (state, count) in coordinator.groups_by_state() {
            *page.states.entry(state).or_default() += count;
            groups += count;
        }
        page.next = Some(id);
    }
    page.next = None;
    page
}

fn offsets_page(owned: &Owned, view: &View, after: Option<OffsetsCursor>) -> OffsetsPage {
    let mut page = OffsetsPage::default();
    let from = after.as_ref().map(|cursor| cursor.coordinator);
    let reached = |id: PartitionId| from.is_none_or(|from| id >= from);
    for (id, coordinator) in owned.groups.coordinators().filter(|(id, _)| reached(*id)) {
        let seen = after.as_ref().filter(|cursor| cursor.coordinator == id);
        let seen = seen.map(|cursor| (&*cursor.group, &*cursor.topic, cursor.partition));
        let unseen = coordinator
            .committed_offsets()
            .skip_while(|(group, topic, partition, _)| {
                seen.is_some_and(|seen| (*group, *topic, *partition) <= seen)
            });
        for (group, topic, partition, committed) in unseen {
            let Some(topic_id) = view.cluster.topic(topic).map(|topic| topic.id) else {
                continue;
            };
            let Ok(number) = u32::try_from(partition) else {
                continue;
            };
            let (group, topic) = (group.to_owned(), topic.to_owned());
            page.rows.push(OffsetRow {
                group: group.clone(),
                topic: topic.clone(),
                partition,
                id: partition_id(topic_id, number),
                committed_offset: committed.value.offset,
            });
            if page.rows.len() == OFFSETS_PER_PAGE {
                page.next = Some(OffsetsCursor {
                    coordinator: id,
                    group,
                    topic,
                    partition,
                });
                return page;
            }
        }
    }
    page
}

fn high_watermarks(owned: &Owned, partitions: &[PartitionId]) -> Vec<Option<i64>> {
    let serving = |id: &PartitionId| {
        owned
            .replicas
            .get(*id)
            .filter(|replica| replica.is_serving())
    };
    partitions
        .iter()
        .map(|id| Some(serving(id)?.log().high_watermark()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_that_it_ends() {
        let mut latency = Latency::default();
        for us in [0, 50, 51, 5_000_000, 5_000_001] {
            latency.record(Duration::from_micros(us));
        }
        assert_eq!(latency.counts[..2], [2, 1]);
        assert_eq!(latency.counts[LATENCY_BOUNDS_US.len() - 1..], [1, 1]);
        assert_eq!((latency.count(), latency.sum_us), (5, 10_000_102));
    }

    #[test]
    fn merging_adds_bucket_by_bucket() {
        let mut one = ApiMetrics {
            request_bytes: 1,
            response_bytes: 2,
            ..ApiMetrics::default()
        };
        one.latency.record(Duration::from_micros(10));
        let mut two = ApiMetrics {
            request_bytes: 10,
            response_bytes: 20,
            ..one.clone()
        };
        two.latency.record(Duration::from_secs(60));
        one.merge(&two);
        assert_eq!((one.request_bytes, one.response_bytes), (11, 22));
        assert_eq!((one.latency.counts[0], one.latency.count()), (2, 3));
        assert_eq!(one.latency.sum_us, 60_000_020);
    }
}
