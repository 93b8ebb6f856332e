//! Truth in the simulator: one node under random load from real clients, with power losses at any disk operation, and
//! a judge that remembers everything that was ever answered.
//!
//! [`run`] plays one seed. The production broker ([`crate::node::run_core`]) runs unchanged on the simulated cores,
//! disk and network of [`runtime::sim`]; nothing in the broker knows of this module. In the first phase faults happen,
//! in the second nothing goes wrong any more: everything has to work again, and all that was acknowledged is read.
//! docs/simulation.md says what is checked, and how a seed is played again.
//!
//! Deliberately absent: several nodes, and damage of what is durable (storage's own model test has that).

mod admin;
mod client;
mod group;
mod history;
mod platter;
mod produce;
mod read;
mod value;
mod violation;

use crate::config::{BrokerConfig, load};
use crate::node::{ClientListener, News, Plan, StartError, run_core, storage_limits};
use bytes::Bytes;
use client::Client;
use history::{Floor, History, Place};
use platter::Platter;
use runtime::sim::{self, Control, NodeId, Sim};
use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use uuid::Uuid;
pub use violation::Violation;

const PORT: u16 = 9092;
const DATA: &str = "/data";
const MEMORY_PER_CORE: usize = 8 << 20;
/// Topics that are never deleted and lose nothing: one is created, one creates itself.
const LEDGER: &str = "ledger";
const AUTO: &str = "auto";
/// Virtual time in which everything must work again after the last fault.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Virtual time in which an operation that is to fail is reached.
const LAST_FAULT_WITHIN: Duration = Duration::from_secs(20);
const LAST_READING_WITHIN: Duration = Duration::from_secs(30);

/// Seeds that were red once, and stay in every run.
pub const RED_SEEDS: [u64; 9] = [401, 439, 462, 512, 377, 410, 120, 482, 1037];

/// What to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
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
}

impl Mutation {
    /// All, with their names on the command line.
    pub const ALL: [(&'static str, Mutation); 4] = [
        ("ack-before-sync", Mutation::AckBeforeSync),
        ("tail-rewritten-in-place", Mutation::TailRewrittenInPlace),
        ("truncation-by-length", Mutation::TruncationByLength),
        ("duplicate-window-zero", Mutation::DuplicateWindowZero),
    ];

    pub fn name(self) -> &'static str {
        let found = Mutation::ALL.iter().find(|(_, mutation)| *mutation == self);
        found.expect("all are listed").0
    }

    /// What it breaks. It breaks other things too, further on: those do not count as finding it.
    pub fn breaks(self) -> Violation {
        match self {
            Mutation::AckBeforeSync => Violation::NotOnThePlatter,
            Mutation::TailRewrittenInPlace => Violation::OffsetTakenTwice,
            Mutation::TruncationByLength => Violation::Damaged,
            Mutation::DuplicateWindowZero => Violation::RefusedInSequence,
        }
    }

    /// Seeds, from 0 on, among which at least one finds it by that.
    pub fn found_within(self) -> u64 {
        match self {
            Mutation::AckBeforeSync => 10,
            Mutation::TailRewrittenInPlace => 60,
            Mutation::TruncationByLength => 200,
            Mutation::DuplicateWindowZero => 60,
        }
    }

    fn in_storage(self) -> Option<storage::Mutation> {
        match self {
            Mutation::AckBeforeSync => Some(storage::Mutation::AckBeforeSync),
            Mutation::TailRewrittenInPlace => Some(storage::Mutation::TailRewrittenInPlace),
            Mutation::TruncationByLength => Some(storage::Mutation::TruncationByLength),
            Mutation::DuplicateWindowZero => None,
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
        let Options { seed, mutation } = self.options;
        writeln!(f, "seed {seed}: {}: {}", self.violation, self.details)?;
        for event in &self.story {
            writeln!(f, "  {event}")?;
        }
        write!(
            f,
            "again: cargo run --release -p bench -- sim --seed {seed}"
        )?;
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
    let played = catch_unwind(AssertUnwindSafe(|| play(options, &history)));
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
    node: NodeId,
    platter: RefCell<Platter>,
    /// By name: id and number of partitions, as last acknowledged or seen.
    topics: RefCell<BTreeMap<String, (Uuid, i32)>>,
    /// No more faults.
    healed: Cell<bool>,
    commits: Cell<i64>,
}

impl Stage {
    fn history(&self) -> RefMut<'_, History> {
        let mut history = self.history.borrow_mut();
        history.now_us = self.control.now().0 / 1_000;
        history
    }

    /// A violation was found: whoever plays goes home.
    fn is_over(&self) -> bool {
        self.history.borrow().violation().is_some()
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

    /// At the acknowledgement the platter must hold the batch: now, not after some later sync.
    fn check_durable(&self, place: Place, batch: &Bytes, offset: i64) {
        if !self.history.borrow().keeps_all(place) {
            return;
        }
        if !self
            .platter
            .borrow_mut()
            .holds(&self.control, self.node, batch)
        {
            let what = format!("offset {offset} of {place:?}");
            self.history().violate(Violation::NotOnThePlatter, what);
        }
        self.history().count("durable at the acknowledgement");
    }
}

/// What is drawn for a seed.
struct Character {
    cores: usize,
    lives: u64,
    storage: storage::Options,
    world: sim::Options,
}

/// A small generator for what is drawn before the simulation exists.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }
}

impl Character {
    fn draw(options: Options, config: &BrokerConfig, draw: &mut Draw) -> Character {
        let file = 32_768 << draw.below(2);
        let storage = storage::Options {
            journal_bytes_max: file * (10 + draw.below(16)),
            journal_first_file_bytes: file,
            journal_file_bytes: file * 2,
            checkpoint_bytes: file,
            memory_bytes_max: 131_072 << draw.below(3),
            cache_bytes_max: 65_536 << draw.below(4),
            files_max: 4 + draw.below(8) as usize,
            direct_bytes: 3_000 << draw.below(4),
            direct_space_bytes: 0,
            drain_bytes: 1_024 << draw.below(5),
            entry_bytes_max: 16_384,
            buffer_bytes: 32_768,
            mutation: options.mutation.and_then(Mutation::in_storage),
            ..storage_limits(config, MEMORY_PER_CORE)
        };
        let mut world = sim::Options::rough(options.seed);
        world.network.stall = sim::Latency::micros(1_000, 40_000);
        world.network.reset_per_million = [0, 500, 5_000][draw.below(3) as usize];
        Character {
            cores: 1 + draw.below(2) as usize,
            lives: 2 + draw.below(4),
            storage,
            world,
        }
    }
}

fn config() -> BrokerConfig {
    let flags = [
        ("log.dirs", DATA),
        ("num.partitions", "2"),
        ("offsets.topic.num.partitions", "2"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.min.session.timeout.ms", "300"),
        ("log.retention.check.interval.ms", "100"),
        // Files are removed within a life, as retention asks for it.
        ("log.segment.delete.delay.ms", "100"),
        ("message.max.bytes", "4500"),
    ];
    let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let loaded = load(None, [], &flags).expect("the simulation's configuration is right");
    BrokerConfig::resolve(loaded.statics, "broker")
        .expect("the simulation's configuration is right")
}

/// One simulation: the node, its clients, and fate.
struct World {
    sim: Sim,
    stage: Rc<Stage>,
    draw: Draw,
    cores: usize,
    plan: Plan,
    news: mpsc::Receiver<News>,
    /// The disk operation that was told to fail, until it has.
    failing: Option<u64>,
}

fn play(options: Options, history: &Rc<RefCell<History>>) -> Outcome {
    let config = config();
    let mut draw = Draw(options.seed);
    let character = Character::draw(options, &config, &mut draw);
    let sim = Sim::new(character.world);
    let (news, heard) = mpsc::channel();
    let plan = Plan {
        config: Arc::new(config),
        listeners: ClientListener::only(
            SocketAddr::new(IpAddr::from([0, 0, 0, 0]), PORT),
            "broker",
            PORT,
        ),
        memory_per_core: MEMORY_PER_CORE,
        storage: character.storage,
        anew_bytes_min: 1_024,
        forget_retries: options.mutation == Some(Mutation::DuplicateWindowZero),
        news,
    };
    let node = start(&sim, character.cores, &plan);
    let stage = Rc::new(Stage {
        history: history.clone(),
        control: sim.clone(),
        node,
        platter: RefCell::default(),
        topics: RefCell::default(),
        healed: Cell::new(false),
        commits: Cell::new(0),
    });
    let mut world = World {
        sim,
        stage,
        draw,
        cores: character.cores,
        plan,
        news: heard,
        failing: None,
    };
    let clients = world.invite();
    for life in 0..character.lives {
        world.live_and_die(life);
        if world.stage.is_over() {
            return world.outcome();
        }
    }
    world.let_the_last_fault_happen();
    world.heal(&clients);
    world.outcome()
}

fn start(sim: &Control, cores: usize, plan: &Plan) -> NodeId {
    let plan = plan.clone();
    sim.start("broker", cores, move |core, post, inbox| {
        run_core(core, post, inbox, plan.clone())
    })
}

impl World {
    /// All clients: what they do is in their modules.
    fn invite(&self) -> Vec<(String, NodeId)> {
        vec![
            self.client("admin", 0, admin::administer),
            self.client("idempotent", 1, produce::idempotent),
            self.client("idempotent", 2, produce::idempotent),
            self.client("plain", 3, produce::plain),
            self.client("reader", 4, read::reader),
            self.client("reader", 5, read::reader),
            self.client("committer", 6, group::committer),
            self.client("member", 7, group::member),
            self.client("member", 8, group::member),
        ]
    }

    fn client<F, Fut>(&self, kind: &str, number: u32, main: F) -> (String, NodeId)
    where
        F: FnOnce(Rc<Stage>, Client, u32) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let name = format!("{kind} {number}");
        let (stage, address) = (self.stage.clone(), self.address());
        let node = self.sim.client(&name, move |core| {
            main(stage, Client::new(core, address), number)
        });
        (name, node)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.sim.ip(self.stage.node), PORT)
    }

    /// Lets the node live until a power loss or a kill, and starts it again.
    fn live_and_die(&mut self, life: u64) {
        let node = self.stage.node;
        let before = self.sim.disk_ops(node);
        // Few operations: the loss falls into the start itself.
        let span = [20, 100, 400][self.draw.below(3) as usize];
        let after = before + 1 + self.draw.below(span);
        let kind = self.draw.below(8);
        match kind {
            0 => {}
            1 if self.failing.is_none() => {
                self.sim.fail_op(node, after, std::io::ErrorKind::Other);
                self.failing = Some(after);
            }
            _ => self.sim.crash_at_op(node, after),
        }
        let time = Duration::from_micros(1_000 + self.draw.below(60_000));
        let stage = self.stage.clone();
        self.sim
            .run_until(time, || !self.sim.is_up(node) || stage.is_over());
        let up = self.sim.is_up(node);
        match kind {
            0 => self.sim.kill(node),
            _ => self.sim.crash(node),
        }
        let ops = self.sim.disk_ops(node);
        let failed = self.failing.take_if(|failing| *failing <= ops).is_some();
        let mut history = self.stage.history();
        history.count(if up {
            "losses at a time"
        } else {
            "losses at an operation"
        });
        let how = if kind == 0 {
            "is killed"
        } else {
            "loses power"
        };
        let failed_too = if failed { ", one of which failed" } else { "" };
        let ops = ops - before;
        history.tell_fate(format!(
            "life {life}: the node {how} after {ops} disk operations{failed_too}"
        ));
        drop(history);
        self.hear_news(failed);
        self.sim
            .run_for(Duration::from_micros(self.draw.below(20_000)));
        self.start_again();
    }

    fn start_again(&self) {
        start(&self.sim, self.cores, &self.plan);
        self.stage
            .history()
            .tell_fate("the node is started again".to_owned());
    }

    /// An operation that is still to fail does so, and the node starts once more: it takes nothing in after that.
    fn let_the_last_fault_happen(&mut self) {
        let Some(failing) = self.failing.take() else {
            return;
        };
        let (node, stage) = (self.stage.node, self.stage.clone());
        let due =
            || self.sim.disk_ops(node) >= failing || stage.is_over() || self.sim.is_done(node);
        self.sim.run_until(LAST_FAULT_WITHIN, due);
        self.sim.run_for(Duration::from_millis(5));
        self.sim.crash(node);
        self.hear_news(true);
        self.start_again();
    }

    /// A node must be able to start on whatever a power loss left; an operation that failed may prevent it once.
    fn hear_news(&self, excused: bool) {
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Ready { .. } => self.stage.history().count("starts"),
                News::Failed(error) if !excused || !matches!(error, StartError::Data { .. }) => {
                    self.stage
                        .history()
                        .violate(Violation::NotStarted, error.to_string());
                }
                News::Failed(_) => self
                    .stage
                    .history()
                    .count("starts refused after an I/O error"),
            }
        }
    }

    /// No more faults: every client finishes its work, then everything is read.
    fn heal(&mut self, clients: &[(String, NodeId)]) {
        self.stage.healed.set(true);
        self.stage.history().tell_fate("no more faults".to_owned());
        let (sim, stage) = (&self.sim, self.stage.clone());
        let at_work = || clients.iter().find(|(_, node)| !sim.is_done(*node));
        sim.run_until(HEALED_WITHIN, || at_work().is_none() || stage.is_over());
        self.hear_news(false);
        if let (Some((name, _)), false) = (at_work(), self.stage.is_over()) {
            let what = format!("{name}, within {HEALED_WITHIN:?}");
            return self.stage.history().violate(Violation::NotServed, what);
        }
        let reader = self.client("last reader", 9, |stage, client, _| {
            read::last_reading(stage, client)
        });
        let done = self.sim.run_until_done(reader.1, LAST_READING_WITHIN);
        if !done && !self.stage.is_over() {
            let what = format!("the last reading, within {LAST_READING_WITHIN:?}");
            self.stage.history().violate(Violation::NotServed, what);
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            trace_hash: self.sim.trace_hash(),
            trace_events: self.sim.trace_events(),
            counts: self.stage.history.borrow().counts.clone(),
        }
    }
}
