//! Truth in the simulator: one node or a cluster under random load from real clients, with power losses at any disk
//! operation and cuts between nodes, and a judge that remembers everything that was ever answered.
//!
//! [`run`] plays one seed. The production broker ([`crate::node::run_core`]) runs unchanged on the simulated cores,
//! disk and network of [`runtime::sim`]; nothing in the broker knows of this module. In the first phase faults happen,
//! in the second nothing goes wrong any more: everything has to work again, and all that was acknowledged is read.
//! docs/simulation.md says what is checked, and how a seed is played again.
//!
//! Deliberately absent: damage of what is durable on a single node (storage's own model test has that).

mod admin;
mod character;
mod client;
mod cluster;
mod disks;
mod fate;
mod fault;
mod group;
mod hand;
mod history;
mod leave;
mod log;
mod moves;
mod one_full;
mod platter;
mod produce;
mod read;
mod rescue;
mod route;
mod value;
mod views;
mod violation;

use bytes::Bytes;
use client::Client;
use history::{Floor, History, Place};
use leave::Leaver;
pub use log::log_if_asked;
use platter::Platter;
use runtime::sim::{Control, NodeId};
use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use uuid::Uuid;
pub use violation::Violation;

const PORT: u16 = 9092;
const DATA: &str = "/data";
const MEMORY_PER_CORE: usize = 8 << 20;
/// Topics that are never deleted and lose nothing: one is created, one creates itself.
const LEDGER: &str = "ledger";
const AUTO: &str = "auto";
/// Replicas of every partition, in a cluster.
const REPLICAS: usize = 3;
/// The clients of a cluster are slower: its faults last longer.
const CLUSTER_PACE: u64 = 12;

/// Seeds that were red once, and stay in every run.
pub const RED_SEEDS: [u64; 21] = [
    401, 439, 462, 512, 377, 410, 120, 482, 1037, 170, 174, 256, 4, 108, 496, 586, 861, 1167, 1686,
    7215, 28959,
];

/// Seeds of three nodes that were red once.
pub const RED_CLUSTER_SEEDS: [u64; 23] = [
    3, 6, 9, 13, 72, 180, 841, 142, 239, 1308, 1882, 2531, 2810, 3520, 6026, 14735, 14878, 15494,
    16180, 23517, 23730, 27648, 38746,
];

/// Seeds of four nodes, of which one leaves, that were red once.
pub const RED_LEAVING_SEEDS: [u64; 1] = [21];

/// Seeds of lost majorities that were red once.
pub const RED_LOST_SEEDS: [u64; 10] = [6, 25, 36, 37, 44, 75, 123, 161, 416, 422];

/// What to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// One, or a cluster of three or five, or of four of which one leaves.
    pub nodes: usize,
    /// Of a cluster of three: in the end two disks are lost for good, and an operator has the third go on alone.
    pub majority_lost: bool,
    /// A bug to bring back.
    pub mutation: Option<Mutation>,
}

/// Known bugs that the simulation must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Turns count as durable before they are synced.
    AckBeforeSync,
    /// The last block of a turn is rewritten by the next one.
    TailRewrittenInPlace,
    /// Recovery believes lengths and does not look at checksums.
    TruncationByLength,
    /// No retry of an idempotent producer is recognised.
    DuplicateWindowZero,
    /// Clusters: a batch is acknowledged before it is committed.
    AckBeforeMajority,
    /// Clusters: a follower acknowledges before its sync.
    FollowerAcksBeforeSync,
    /// Clusters: a leader serves before an entry of its own term is committed.
    ServeBeforeCommit,
    /// Clusters: an append that comes again takes away what is behind it.
    StaleAppendTruncates,
    /// Clusters: a leader whose disk is full keeps its leads.
    FullLeaderStays,
}

impl Mutation {
    /// All, with their names on the command line.
    pub const ALL: [(&'static str, Mutation); 9] = [
        ("ack-before-sync", Mutation::AckBeforeSync),
        ("tail-rewritten-in-place", Mutation::TailRewrittenInPlace),
        ("truncation-by-length", Mutation::TruncationByLength),
        ("duplicate-window-zero", Mutation::DuplicateWindowZero),
        ("ack-before-majority", Mutation::AckBeforeMajority),
        (
            "follower-acks-before-sync",
            Mutation::FollowerAcksBeforeSync,
        ),
        ("serve-before-commit", Mutation::ServeBeforeCommit),
        ("stale-append-truncates", Mutation::StaleAppendTruncates),
        ("full-leader-stays", Mutation::FullLeaderStays),
    ];

    pub fn name(self) -> &'static str {
        let found = Mutation::ALL.iter().find(|(_, mutation)| *mutation == self);
        found.expect("all are listed").0
    }

    /// What it breaks. It breaks other things too, further on: those do not count as finding it.
    pub fn breaks(self) -> &'static [Violation] {
        match self {
            Mutation::AckBeforeSync => &[Violation::NotOnThePlatter],
            Mutation::TailRewrittenInPlace => &[Violation::OffsetTakenTwice],
            // What was torn is read, or a retry of it is answered as if it were there.
            Mutation::TruncationByLength => &[Violation::Damaged, Violation::NotOnThePlatter],
            Mutation::DuplicateWindowZero => &[Violation::RefusedInSequence],
            Mutation::AckBeforeMajority | Mutation::FollowerAcksBeforeSync => {
                &[Violation::NotOnThePlatter]
            }
            // It tells less than was told before.
            Mutation::ServeBeforeCommit => &[Violation::WentBack, Violation::Lost],
            Mutation::StaleAppendTruncates => &[Violation::NotOnThePlatter, Violation::Lost],
            Mutation::FullLeaderStays => &[Violation::KeptWaiting],
        }
    }

    /// Seeds among which at least one finds it by that. The rarest begins shortly before the first that does.
    pub fn found_among(self) -> Range<u64> {
        match self {
            Mutation::AckBeforeSync => 0..10,
            Mutation::TailRewrittenInPlace => 0..60,
            Mutation::TruncationByLength => 180..240,
            Mutation::DuplicateWindowZero => 0..60,
            Mutation::AckBeforeMajority => 0..10,
            Mutation::FollowerAcksBeforeSync => 0..10,
            Mutation::ServeBeforeCommit => 40..80,
            Mutation::StaleAppendTruncates => 39..50,
            Mutation::FullLeaderStays => 14..20,
        }
    }

    /// Nodes that it takes.
    pub fn nodes(self) -> usize {
        match self {
            Mutation::AckBeforeMajority
            | Mutation::FollowerAcksBeforeSync
            | Mutation::ServeBeforeCommit
            | Mutation::StaleAppendTruncates
            | Mutation::FullLeaderStays => 3,
            _ => 1,
        }
    }

    fn in_broker(mutation: Option<Mutation>) -> crate::node::Mutations {
        crate::node::Mutations {
            forget_retries: mutation == Some(Mutation::DuplicateWindowZero),
            ack_uncommitted: mutation == Some(Mutation::AckBeforeMajority),
            frames_come_again: false,
            full_leader_stays: mutation == Some(Mutation::FullLeaderStays),
            raft: match mutation {
                Some(Mutation::FollowerAcksBeforeSync) => Some(raft_group::Mutation::AckBeforeSync),
                Some(Mutation::ServeBeforeCommit) => Some(raft_group::Mutation::ServeBeforeCommit),
                Some(Mutation::StaleAppendTruncates) => {
                    Some(raft_group::Mutation::StaleAppendTruncates)
                }
                _ => None,
            },
        }
    }

    fn in_storage(self) -> Option<storage::Mutation> {
        match self {
            Mutation::AckBeforeSync => Some(storage::Mutation::AckBeforeSync),
            Mutation::TailRewrittenInPlace => Some(storage::Mutation::TailRewrittenInPlace),
            Mutation::TruncationByLength => Some(storage::Mutation::TruncationByLength),
            _ => None,
        }
    }
}

/// A run without violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Equal for equal runs.
    pub trace_hash: u64,
    pub trace_events: u64,
    /// How often things happened, error codes among them.
    pub counts: BTreeMap<&'static str, u64>,
}

/// A violation, with what is needed to look into it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub options: Options,
    pub violation: Violation,
    /// What happened where.
    pub details: String,
    /// The last events, oldest first.
    pub story: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            seed,
            nodes,
            majority_lost,
            mutation,
        } = self.options;
        writeln!(f, "seed {seed}: {}: {}", self.violation, self.details)?;
        for event in &self.story {
            writeln!(f, "  {event}")?;
        }
        write!(
            f,
            "again: cargo run --release -p bench -- sim --seed {seed}"
        )?;
        if nodes > 1 {
            write!(f, " --nodes {nodes}")?;
        }
        if majority_lost {
            f.write_str(" --majority-lost")?;
        }
        match mutation {
            Some(mutation) => write!(f, " --mutation {}", mutation.name()),
            None => Ok(()),
        }
    }
}

/// Plays a seed.
///
/// # Errors
/// The first violation of an invariant. A panic of the broker is one.
pub fn run(options: Options) -> Result<Outcome, Box<Failure>> {
    let history = Rc::new(RefCell::new(History::default()));
    let played = catch_unwind(AssertUnwindSafe(|| match options.nodes {
        1 => fate::play(options, &history),
        _ => cluster::play(options, &history),
    }));
    let failed = |violation: Violation, details: String, history: &History| {
        Err(Box::new(Failure {
            options,
            violation,
            details,
            story: history.story(),
        }))
    };
    let history = history.try_borrow();
    let empty = History::default();
    let history = history.as_deref().unwrap_or(&empty);
    match (history.violation(), played) {
        (Some((violation, details)), _) => failed(*violation, details.clone(), history),
        (None, Ok(outcome)) => Ok(outcome),
        (None, Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("without a message");
            failed(Violation::Panic, text.to_owned(), history)
        }
    }
}

/// What the clients of a simulation share.
struct Stage {
    history: Rc<RefCell<History>>,
    control: Control,
    nodes: Vec<NodeId>,
    /// One for each node.
    platters: RefCell<Vec<Platter>>,
    /// How much longer clients pause than those of a single node.
    pace: u64,
    /// By name: id and number of partitions, as last acknowledged or seen.
    topics: RefCell<BTreeMap<String, (Uuid, i32)>>,
    /// Names of topics that were ever told to retain little.
    retain_little: RefCell<BTreeSet<String>>,
    /// No more faults.
    healed: Cell<bool>,
    /// The disk has little or no room.
    full: Cell<bool>,
    /// From when to when the disk of one node was full, and nothing else was wrong, us.
    one_full: Cell<Option<(u64, u64)>>,
    commits: Cell<i64>,
    /// When a disk was last replaced or damaged, us.
    wiped_us: Cell<Option<u64>>,
    /// Replicas that a partition has at least, wherever it is moved.
    replicas_min: Cell<usize>,
    /// A node whose disk was damaged and is not replaced: it may lack what it does not serve.
    damaged: Cell<Option<usize>>,
    /// The node that is to leave, if one is.
    leaver: Cell<Option<Leaver>>,
    /// By partition: the nodes that hold it, as all of them say in the end.
    replicas: RefCell<BTreeMap<Place, Vec<usize>>>,
    /// Batches that were acknowledged, with their first offset: every replica has to have them in the end.
    promised: RefCell<Vec<(Place, i64, Bytes)>>,
}

impl Stage {
    fn new(history: &Rc<RefCell<History>>, control: &Control, nodes: Vec<NodeId>) -> Stage {
        Stage {
            history: history.clone(),
            control: control.clone(),
            platters: RefCell::new(nodes.iter().map(|_| Platter::default()).collect()),
            pace: if nodes.len() > 1 { CLUSTER_PACE } else { 1 },
            nodes,
            topics: RefCell::default(),
            retain_little: RefCell::default(),
            healed: Cell::new(false),
            full: Cell::new(false),
            one_full: Cell::new(None),
            commits: Cell::new(0),
            wiped_us: Cell::new(None),
            replicas_min: Cell::new(REPLICAS),
            damaged: Cell::new(None),
            leaver: Cell::new(None),
            replicas: RefCell::default(),
            promised: RefCell::default(),
        }
    }

    fn history(&self) -> RefMut<'_, History> {
        let mut history = self.history.borrow_mut();
        history.now_us = self.control.now().0 / 1_000;
        history
    }

    /// A violation was found: whoever plays goes home.
    fn is_over(&self) -> bool {
        self.history.borrow().violation().is_some()
    }

    fn counted(&self, what: &'static str) -> u64 {
        let history = self.history.borrow();
        history.counts.get(what).copied().unwrap_or(0)
    }

    fn next_commit(&self) -> i64 {
        self.commits.set(self.commits.get() + 1);
        self.commits.get()
    }

    fn is_lasting(&self, topic: &str) -> bool {
        topic == LEDGER || topic == AUTO
    }

    fn knows(&self, topic: &str) -> bool {
        self.topics.borrow().contains_key(topic)
    }

    fn has_lasting_topics(&self) -> bool {
        self.knows(LEDGER) && self.knows(AUTO)
    }

    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        self.topics.borrow().get(name).copied()
    }

    fn topics(&self) -> BTreeMap<String, (Uuid, i32)> {
        self.topics.borrow().clone()
    }

    fn add_topic(&self, name: &str, id: Uuid, partitions: i32) {
        self.topics
            .borrow_mut()
            .insert(name.to_owned(), (id, partitions));
    }

    fn retains_little(&self, name: &str) {
        self.retain_little.borrow_mut().insert(name.to_owned());
    }

    fn may_retain_little(&self, name: &str) -> bool {
        self.retain_little.borrow().contains(name)
    }

    fn remove_topic(&self, id: Uuid) {
        self.topics
            .borrow_mut()
            .retain(|_, (known, _)| *known != id);
    }

    /// A partition; one time in `passing_one_in` of a topic that may be deleted at any time, if there is one.
    fn any_place(&self, client: &Client, passing_one_in: u64) -> Option<(String, Place)> {
        let topics = self.topics.borrow();
        let passing = client.below(passing_one_in) == 0;
        let fitting: Vec<_> = topics
            .iter()
            .filter(|(name, _)| self.is_lasting(name) != passing)
            .collect();
        if fitting.is_empty() {
            return None;
        }
        let (name, (id, partitions)) = fitting[client.below(fitting.len() as u64) as usize];
        Some((name.clone(), (*id, client.below(*partitions as u64) as i32)))
    }

    /// All partitions that must be there.
    fn all_places(&self) -> Vec<(String, Place)> {
        let topics = self.topics.borrow();
        let there = topics
            .iter()
            .filter(|(_, (id, _))| !self.history.borrow().is_doomed(*id));
        there
            .flat_map(|(name, (id, partitions))| {
                (0..*partitions).map(move |partition| (name.clone(), (*id, partition)))
            })
            .collect()
    }

    fn floors(&self) -> BTreeMap<Place, Floor> {
        let history = self.history.borrow();
        self.all_places()
            .into_iter()
            .map(|(_, place)| (place, history.floor(place)))
            .collect()
    }

    /// A batch that was acknowledged and that a replica still lacks.
    fn missing_copy(&self) -> Option<String> {
        let promised = self.promised.borrow();
        let history = self.history.borrow();
        let replicas = self.replicas.borrow();
        for (index, node) in self.nodes.iter().enumerate() {
            if self.damaged.get() == Some(index) {
                continue;
            }
            let due = promised.iter().filter(|(place, ..)| {
                let here = replicas
                    .get(place)
                    .is_some_and(|nodes| nodes.contains(&index));
                here && history.keeps_all(*place)
            });
            let (places, wanted): (Vec<Place>, Vec<(i64, Bytes)>) = due
                .map(|(place, offset, batch)| (*place, (*offset, batch.clone())))
                .unzip();
            let held = platter::held(&self.control, *node, &wanted);
            if let Some(missing) = held.iter().position(|held| !held) {
                let (place, offset) = (places[missing], wanted[missing].0);
                let what = format!("offset {offset} of {place:?} is not on node {}", index + 1);
                return Some(what);
            }
        }
        None
    }

    /// At the acknowledgement the platter must hold the batch: now, not after some later sync.
    fn check_durable(&self, place: Place, batch: &Bytes, offset: i64, made_us: u64) {
        if !self.history.borrow().keeps_all(place) {
            return;
        }
        let replicas = self.nodes.len().min(REPLICAS);
        // What was sent before a disk was replaced may have been promised by that one.
        let gone = self
            .wiped_us
            .get()
            .is_some_and(|wiped_us| made_us <= wiped_us);
        let majority = replicas / 2 + 1 - usize::from(gone);
        let mut platters = self.platters.borrow_mut();
        let found = platter::holders(&self.control, &self.nodes, &mut platters, batch, majority);
        if found < majority {
            let what = format!("offset {offset} of {place:?} is on {found} of {replicas} disks");
            self.history().violate(Violation::NotOnThePlatter, what);
        }
        self.history().count("durable at the acknowledgement");
        if self.is_cluster() {
            let mut promised = self.promised.borrow_mut();
            promised.push((place, offset, batch.clone()));
        }
    }
}
