//! Fate: lives and how they end, faults of disks, and the healing after the last of them.
//!
//! A life has one ending and may have a stall of its disk; everything is drawn from the seed. Deliberately absent:
//! faults of the network, which the simulated network draws by itself.

use super::character::{Character, Draw, config};
use super::client::Client;
use super::hand::Hand;
use super::history::History;
use super::violation::Violation;
use super::{MEMORY_PER_CORE, Mutation, Options, Outcome, PORT, Stage};
use super::{admin, group, produce, read};
use crate::cluster::METADATA_CORE;
use crate::node::{ClientListener, News, Plan, StartError, run_core};
use runtime::sim::{Control, NodeId, Sim};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

const NAME: &str = "broker";
/// Virtual time in which everything must work again after the last fault.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// Virtual time in which an operation that is to fail is reached.
const LAST_FAULT_WITHIN: Duration = Duration::from_secs(20);
const LAST_READING_WITHIN: Duration = Duration::from_secs(30);
/// Virtual time in which a node that is told to stop has stopped.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// Virtual time in which a producer is served again when a full disk has room again.
const ROOM_USED_WITHIN: Duration = Duration::from_secs(10);
/// In so much virtual time no load of these clients makes so many events; a task that never waits makes 33,000.
const BUSY_WINDOW: Duration = Duration::from_millis(10);
const BUSY_EVENTS: u64 = 10_000;
/// Virtual time in which a reader that waited for a node that was lost asks the next one.
const READ_WITHIN: Duration = Duration::from_secs(3);

/// One simulation: the node, its clients, and fate.
struct World {
    sim: Sim,
    stage: Rc<Stage>,
    draw: Draw,
    cores: usize,
    plan: Plan,
    /// Tells the node to stop, as a signal does.
    hand: Rc<Hand>,
    news: mpsc::Receiver<News>,
    /// The disk operation that was told to fail, until it has.
    failing: Option<u64>,
    /// The node was told to stop and did so: nothing may be torn at its next start.
    stopped: bool,
}

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    PowerLoss,
    /// In the middle of the disk operation with this number, unless the life ends before it.
    PowerLossAt(u64),
    /// This operation fails if it comes; then a power loss.
    FailedOperation(u64),
    /// The disk is full for a while; then a power loss.
    FullDisk,
    Kill,
    /// As by SIGTERM.
    Stop,
}

pub(super) fn play(options: Options, history: &Rc<RefCell<History>>) -> Outcome {
    let config = config();
    let mut draw = Draw(options.seed);
    let character = Character::draw(options, &config, &mut draw);
    let sim = Sim::new(character.world);
    let (news, heard) = mpsc::channel();
    let plan = Plan {
        peers: None,
        config: Arc::new(config),
        listeners: ClientListener::only(
            SocketAddr::new(IpAddr::from([0, 0, 0, 0]), PORT),
            "broker",
            PORT,
        ),
        memory_per_core: MEMORY_PER_CORE,
        storage: character.storage,
        anew_bytes_min: 1_024,
        mutations: Mutation::in_broker(options.mutation),
        news,
    };
    let (node, hand) = start(&sim, NAME, character.cores, &plan);
    let stage = Rc::new(Stage::new(history, &sim, vec![node]));
    let mut world = World {
        sim,
        stage,
        draw,
        cores: character.cores,
        plan,
        hand,
        news: heard,
        failing: None,
        stopped: false,
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

pub(super) fn start(sim: &Control, name: &str, cores: usize, plan: &Plan) -> (NodeId, Rc<Hand>) {
    let plan = plan.clone();
    let hand = Rc::new(Hand::default());
    let moved = hand.clone();
    let node = sim.start(name, cores, move |core, post, inbox| {
        if core.id() == METADATA_CORE {
            core.spawn("signal", moved.clone().pass_on(post.clone(), cores));
        }
        run_core(core, post, inbox, plan.clone())
    });
    (node, hand)
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
            main(stage, Client::new(core, &[address]), number)
        });
        (name, node)
    }

    fn node(&self) -> NodeId {
        self.stage.nodes[0]
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.sim.ip(self.node()), PORT)
    }

    /// Lets the node live until its end, and starts it again.
    fn live_and_die(&mut self, life: u64) {
        let node = self.node();
        let before = self.sim.disk_ops(node);
        let ending = self.draw_ending(before);
        match ending {
            Ending::PowerLossAt(operation) => self.sim.crash_at_op(node, operation),
            Ending::FailedOperation(operation) => {
                self.sim.fail_op(node, operation, std::io::ErrorKind::Other);
                self.failing = Some(operation);
            }
            _ => {}
        }
        self.live();
        let was_full = ending == Ending::FullDisk && self.fill_the_disk();
        let up = self.sim.is_up(node);
        let how = self.end(ending);
        let ops = self.sim.disk_ops(node);
        let failed = self.failing.take_if(|failing| *failing <= ops).is_some();
        let mut history = self.stage.history();
        history.count(if up {
            "losses at a time"
        } else {
            "losses at an operation"
        });
        let failed_too = if failed { ", one of which failed" } else { "" };
        let ops = ops - before;
        history.tell_fate(format!(
            "life {life}: the node {how} after {ops} disk operations{failed_too}"
        ));
        drop(history);
        let was_ready = self.hear_news(failed || was_full);
        // One that had not finished its start may have left what the loss before it had torn.
        self.stopped = ending == Ending::Stop && up && was_ready && !failed;
        let down_us = self.draw.below(20_000);
        self.sim.run_for(Duration::from_micros(down_us));
        self.start_again();
    }

    fn draw_ending(&mut self, operations: u64) -> Ending {
        // Few operations: the loss falls into the start itself.
        let span = [20, 100, 400][self.draw.below(3) as usize];
        let after = operations + 1 + self.draw.below(span);
        let undisturbed = self.failing.is_none();
        match self.draw.below(24) {
            0 | 1 => Ending::Kill,
            2 | 3 if undisturbed => Ending::FailedOperation(after),
            4..=7 => Ending::Stop,
            8 if undisturbed => Ending::FullDisk,
            9 | 10 => Ending::PowerLoss,
            _ => Ending::PowerLossAt(after),
        }
    }

    /// Some time, perhaps with a stall of the disk in it.
    fn live(&mut self) {
        // The shorter ones end while partitions are still opened.
        let longest_us = [6_000, 60_000, 60_000][self.draw.below(3) as usize];
        let time_us = 1_000 + self.draw.below(longest_us);
        if self.draw.below(4) > 0 {
            return self.run_for_us(time_us);
        }
        let calm_us = self.draw.below(time_us);
        // The longest outlast the patience of every client.
        let longest_us = [5_000, 40_000, 2_500_000][self.draw.below(3) as usize];
        let stall = Duration::from_micros(1_000 + self.draw.below(longest_us));
        self.run_for_us(calm_us);
        if !self.sim.is_up(self.node()) {
            return;
        }
        self.sim.stall_disk(self.node(), stall);
        self.stage.history().count("stalls of the disk");
        self.stage
            .history()
            .tell_fate(format!("the disk stalls for {stall:?}"));
        self.run_for_us(stall.as_micros() as u64 + time_us - calm_us);
    }

    /// As [`Sim::run_until`], and looks whether the node does anything but turn round meanwhile.
    fn run_until(&self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let end = self.sim.now() + limit;
        loop {
            let (began, events) = (self.sim.now(), self.sim.trace_events());
            let is_done = self.sim.run_until(BUSY_WINDOW.min(end - began), &mut done);
            let events = self.sim.trace_events() - events;
            if events > BUSY_EVENTS {
                let what = format!("{events} events within {:?}", self.sim.now() - began);
                self.stage.history().violate(Violation::TurnsRound, what);
            }
            if is_done || self.sim.now() >= end {
                return is_done;
            }
        }
    }

    /// Up to the end of the node, or of the simulation.
    fn run_for_us(&self, time_us: u64) {
        let is_over = || !self.sim.is_up(self.node()) || self.stage.is_over();
        self.run_until(Duration::from_micros(time_us), is_over);
    }

    /// False if it does not happen within the time, or before the node ends.
    fn run_until_counted(&self, what: &'static str, within: Duration) -> bool {
        let before = self.stage.counted(what);
        let counted = || self.stage.counted(what) > before;
        let is_over = || self.sim.is_done(self.node()) || self.stage.is_over();
        self.run_until(within, || counted() || is_over());
        counted()
    }

    /// The disk has little or no room for a while. Reads go on; afterwards everything does, by itself. False if the
    /// node did not serve before.
    fn fill_the_disk(&mut self) -> bool {
        let node = self.node();
        let is_up = self.sim.is_up(node);
        // An answer of its former life may come late: it has to be ready, too.
        let served = is_up && self.run_until_counted("acknowledged", READ_WITHIN);
        if !served || !self.hear_news(false) {
            return false;
        }
        let left = [0, 8_192, 100_000][self.draw.below(3) as usize];
        let capacity = self.sim.disk_used_bytes(node) + left;
        self.sim.set_capacity(node, Some(capacity));
        self.stage.full.set(true);
        let mut history = self.stage.history();
        history.count("full disks");
        history.tell_fate(format!("the disk has {left} bytes left"));
        drop(history);
        let longest_us = [100_000, 800_000][self.draw.below(2) as usize];
        let full_us = 20_000 + self.draw.below(longest_us);
        self.run_for_us(full_us);
        if !self.run_until_counted("reads on a full disk", READ_WITHIN) {
            self.not_served("readers, while the disk is full", READ_WITHIN);
        }
        if self.draw.below(3) == 0 {
            self.sim.crash(node);
            self.stage
                .history()
                .tell_fate("the node loses power and is started on the full disk".to_owned());
            self.start_again();
            let full_us = 1_000 + self.draw.below(300_000);
            self.run_for_us(full_us);
        }
        let before = self.stage.counted("acknowledged");
        self.sim.set_capacity(node, None);
        self.stage.full.set(false);
        self.stage
            .history()
            .tell_fate("the disk has room again".to_owned());
        if !self.run_until_counted("acknowledged", ROOM_USED_WITHIN) && self.sim.is_done(node) {
            // It could not start on the full disk; whoever looks after it starts it again.
            self.hear_news(true);
            self.sim.kill(node);
            self.start_again();
            self.run_until_counted("acknowledged", ROOM_USED_WITHIN);
        }
        if self.stage.counted("acknowledged") == before {
            let who = "producers, after the disk had room again";
            self.not_served(who, ROOM_USED_WITHIN);
        }
        true
    }

    fn not_served(&self, who: &str, within: Duration) {
        if !self.stage.is_over() {
            let what = format!("{who}, within {within:?}");
            self.stage.history().violate(Violation::NotServed, what);
        }
    }

    /// Ends a life; says how.
    fn end(&mut self, ending: Ending) -> &'static str {
        let node = self.node();
        match ending {
            Ending::Kill => {
                self.sim.kill(node);
                "is killed"
            }
            Ending::Stop if self.sim.is_up(node) => {
                self.hand.stop();
                let is_done = || self.sim.is_done(node);
                let is_over = || is_done() || self.stage.is_over();
                self.run_until(STOPPED_WITHIN, is_over);
                if !is_done() && !self.stage.is_over() && self.failing.is_none() {
                    let what = format!("it goes on for {STOPPED_WITHIN:?}");
                    self.stage.history().violate(Violation::NotStopped, what);
                }
                self.stage.history().count("graceful stops");
                // What it has written is on the platter.
                self.sim.crash(node);
                "stops, and loses power then"
            }
            _ => {
                self.sim.crash(node);
                "loses power"
            }
        }
    }

    fn start_again(&mut self) {
        if self.draw.below(4) == 0 {
            let cores = 1 + self.draw.below(3) as usize;
            if cores != std::mem::replace(&mut self.cores, cores) {
                self.stage.history().count("other numbers of cores");
            }
        }
        let (_, hand) = start(&self.sim, NAME, self.cores, &self.plan);
        self.hand = hand;
        self.stage
            .history()
            .tell_fate("the node is started again".to_owned());
    }

    /// An operation that is still to fail does so, and the node starts once more: it takes nothing in after that.
    fn let_the_last_fault_happen(&mut self) {
        let Some(failing) = self.failing.take() else {
            return;
        };
        let (node, stage) = (self.node(), self.stage.clone());
        let due =
            || self.sim.disk_ops(node) >= failing || stage.is_over() || self.sim.is_done(node);
        self.run_until(LAST_FAULT_WITHIN, due);
        self.sim.run_for(Duration::from_millis(5));
        self.sim.crash(node);
        self.hear_news(true);
        self.start_again();
    }

    /// A node must be able to start on whatever a power loss left; an operation that failed may prevent it once, and so
    /// may a full disk. True if the node was ready to serve.
    fn hear_news(&mut self, excused: bool) -> bool {
        let stopped = std::mem::take(&mut self.stopped);
        let mut is_ready = false;
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Ready { .. } => {
                    is_ready = true;
                    self.stage.history().count("starts");
                }
                News::Recovered { core, report } if stopped => {
                    self.stage.history().count("starts after a stop");
                    if report.torn || report.damaged || report.damaged_checkpoints > 0 {
                        let what = format!("core {core} then found {report:?}");
                        self.stage.history().violate(Violation::NotStopped, what);
                    }
                }
                News::Recovered { .. } => {}
                News::Failed(error) if !excused || !matches!(error, StartError::Data { .. }) => {
                    self.stage
                        .history()
                        .violate(Violation::NotStarted, error.to_string());
                }
                News::Failed(_) => self.stage.history().count("starts refused by the disk"),
            }
        }
        is_ready
    }

    /// No more faults: every client finishes its work, then everything is read.
    fn heal(&mut self, clients: &[(String, NodeId)]) {
        self.stage.healed.set(true);
        self.stage.history().tell_fate("no more faults".to_owned());
        let (control, stage) = ((*self.sim).clone(), self.stage.clone());
        let at_work = || clients.iter().find(|(_, node)| !control.is_done(*node));
        self.run_until(HEALED_WITHIN, || at_work().is_none() || stage.is_over());
        self.hear_news(false);
        if let (Some((name, _)), false) = (at_work(), self.stage.is_over()) {
            return self.not_served(name, HEALED_WITHIN);
        }
        let reader = self.client("last reader", 9, |stage, client, _| {
            read::last_reading(stage, client)
        });
        let done = self.run_until(LAST_READING_WITHIN, || self.sim.is_done(reader.1));
        if !done {
            self.not_served("the last reading", LAST_READING_WITHIN);
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
