//! Fate of a cluster: what happens to its nodes and between them, and the healing after the last of it.
//!
//! A run has a few kinds of faults, drawn from the seed: often one alone, often a pair, sometimes any of them. Each
//! fault that lasts ends by itself, so several may be under way at a time.

use super::character::{Character, Draw, cluster_config};
use super::client::Client;
use super::disks::Changed;
use super::fault::{Fault, draw_kinds};
use super::hand::Hand;
use super::history::History;
use super::leave::{self, Leaver, Standing};
use super::violation::Violation;
use super::{MEMORY_PER_CORE, Mutation, Options, Outcome, PORT, REPLICAS, Stage};
use super::{admin, group, moves, one_full, produce, read, views};
use crate::config::{Endpoint, Voter};
use crate::node::{ClientListener, News, PeerPlan, Plan, StartError};
use crate::peers::{self, Names};
use runtime::Instant;
use runtime::sim::{NodeId, Sim};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

pub(super) const PEER_PORT: u16 = 9192;
/// A leader that was deposed and does not know it yet answers from what it knew for so long at most: it gives up the
/// lead when it has not heard of a majority for two election timeouts.
const STALE: Duration = Duration::from_millis(1_500);
/// Virtual time in which the first start is through.
const FOUNDED_WITHIN: Duration = Duration::from_secs(20);
/// Virtual time in which everything must work again after the last fault.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
const LAST_READING_WITHIN: Duration = Duration::from_secs(30);
/// Virtual time in which every replica has what was acknowledged.
const SAME_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// No load of these clients makes so many events in the window, for each node; a task that never waits makes 33,000.
const BUSY_WINDOW: Duration = Duration::from_millis(10);
const BUSY_EVENTS: u64 = 12_000;
/// Less than what a broker lets timestamps be off, and than any retention of what is kept for ever here.
const CLOCK_JUMP_MS: u64 = 30 * 60_000;

/// What ends a fault.
pub(super) enum End {
    Start(usize),
    Unblock(Vec<(NodeId, NodeId)>),
    OnTime(NodeId, NodeId),
    Room(usize),
    Thaw(usize),
    RightTime(usize),
    Swift(usize),
    /// The operation of this number was to fail.
    Failed(usize, u64),
    OwnDisk,
}

pub(super) struct Member {
    pub node: NodeId,
    plan: Plan,
    cores: usize,
    pub hand: Rc<Hand>,
    news: mpsc::Receiver<News>,
    /// A full disk may keep it from starting.
    excused: bool,
    /// Its disk was replaced.
    pub is_another: bool,
    pub starts: u64,
    /// Its disk is lost for good, and nobody has given it another one yet.
    pub is_lost: bool,
    /// Starts with what it has on its disk since that was changed from outside.
    pub starts_as_is: u64,
    /// It was started although it had left.
    has_left: bool,
}

pub(super) struct Fate {
    pub sim: Sim,
    pub stage: Rc<Stage>,
    pub draw: Draw,
    pub members: Vec<Member>,
    pub clients: Vec<(String, NodeId)>,
    kinds: Vec<Fault>,
    /// Faults that last, with their ends.
    pub under_way: Vec<(Instant, End)>,
    /// The one disk of the run that was replaced or damaged.
    pub changed: Option<Changed>,
    /// A client moves partitions.
    moves: bool,
    /// Nothing happens but that one disk after another is full.
    one_full: bool,
    /// Segments at which connections are reset, of a million.
    pub resets_per_million: u32,
    /// In the end all disks but one are lost.
    loses_majority: bool,
}

pub(super) fn play(options: Options, history: &Rc<RefCell<History>>) -> Outcome {
    let config = cluster_config(1, options.nodes);
    let mut draw = Draw(options.seed);
    let mut character = Character::draw(options, &config, &mut draw);
    let one_full = one_full::is_drawn(&options);
    if one_full {
        // A link that is down for a moment leaves no majority beside a full disk.
        character.world.network.reset_per_million = 0;
    }
    let resets_per_million = character.world.network.reset_per_million;
    let sim = Sim::new(character.world);
    history.borrow_mut().stale_us = STALE.as_micros() as u64;
    let mut members = Vec::new();
    // Replicas that come back under their old identity rely on what connections promise.
    let (frames_come_again, moves) = match draw.below(4) {
        0 => (true, false),
        1 => (false, false),
        _ => (false, true),
    };
    for index in 0..options.nodes {
        let (news, heard) = mpsc::channel();
        let mut plan = plan(options, index, &character.storage, news);
        plan.mutations.frames_come_again = frames_come_again;
        let cores = 1 + draw.below(2) as usize;
        let (node, hand) = super::fate::start(&sim, &name(index), cores, &plan);
        assert_eq!(sim.ip(node), ip(index), "the addresses of the plan");
        members.push(Member {
            node,
            plan,
            cores,
            hand,
            news: heard,
            excused: false,
            is_another: false,
            starts: 0,
            is_lost: false,
            starts_as_is: 0,
            has_left: false,
        });
    }
    let nodes = members.iter().map(|member| member.node).collect();
    let stage = Rc::new(Stage::new(history, &sim, nodes));
    let mut kinds = draw_kinds(&mut draw);
    if options.majority_lost {
        // What is lost is lost at once, and of what every replica holds.
        kinds.retain(|kind| !kind.forgets());
        kinds.push(Fault::Isolation);
    }
    if options.nodes == leave::NODES {
        let index = draw.below(leave::NODES as u64) as usize;
        let stands = Standing::Stays;
        stage.leaver.set(Some(Leaver { index, stands }));
    }
    // Of two replicas one that forgets is a majority that is lost.
    let forgets = [Fault::WipedDisk, Fault::FlippedBits];
    if !kinds.iter().any(|kind| forgets.contains(kind)) {
        stage.replicas_min.set(REPLICAS - 1);
    }
    let mut fate = Fate {
        sim,
        stage,
        draw,
        members,
        clients: Vec::new(),
        kinds,
        under_way: Vec::new(),
        changed: None,
        moves: moves && !one_full && !options.majority_lost,
        one_full,
        resets_per_million,
        loses_majority: options.majority_lost,
    };
    fate.run(character.lives);
    fate.outcome()
}

pub(super) fn name(index: usize) -> String {
    format!("node-{}", index + 1)
}

/// Nodes are started first and in order.
fn ip(index: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, index as u8 + 1])
}

fn plan(
    options: Options,
    index: usize,
    storage: &storage::Options,
    news: mpsc::Sender<News>,
) -> Plan {
    let voters = (0..options.nodes).map(|index| Voter {
        node_id: index as i32 + 1,
        peer: Endpoint {
            host: ip(index).to_string(),
            port: PEER_PORT,
        },
    });
    let unspecified = IpAddr::from([0, 0, 0, 0]);
    Plan {
        peers: Some(PeerPlan {
            bind: SocketAddr::new(unspecified, PEER_PORT),
            address: format!("{}:{PEER_PORT}", ip(index)),
            voters: voters.collect(),
            names: Names::literal(),
            settings: peers::Settings::default(),
        }),
        config: Arc::new(cluster_config(index + 1, options.nodes)),
        listeners: ClientListener::only(
            SocketAddr::new(unspecified, PORT),
            &ip(index).to_string(),
            PORT,
        ),
        memory_per_core: MEMORY_PER_CORE,
        storage: storage.clone(),
        anew_bytes_min: 1_024,
        mutations: Mutation::in_broker(options.mutation),
        news,
    }
}

impl Fate {
    fn run(&mut self, rounds: u64) {
        if !self.wait_until_founded() {
            return;
        }
        self.invite();
        self.live_ms(50, 400);
        if self.one_full {
            self.fill_one_by_one(rounds);
        } else {
            self.strike_often(rounds);
        }
        if self.stage.is_over() {
            return;
        }
        let goes_on = match self.loses_majority {
            true => self.lose_majority(),
            false => {
                self.heal();
                true
            }
        };
        if goes_on && !self.stage.is_over() {
            self.finish();
        }
    }

    fn strike_often(&mut self, rounds: u64) {
        let calm = self.draw_calm(rounds);
        for round in 0..=rounds {
            if calm == Some(round) {
                self.let_it_begin();
            }
            let kind = self.kinds[self.draw.below(self.kinds.len() as u64) as usize];
            self.strike(kind);
            self.live_ms(20, 900);
            if self.stage.is_over() {
                return;
            }
        }
    }

    /// Before which fault a node that is to leave has time to begin.
    fn draw_calm(&mut self, rounds: u64) -> Option<u64> {
        let leaves = self.stage.leaver.get().is_some();
        leaves.then(|| self.draw.below(rounds))
    }

    fn wait_until_founded(&mut self) -> bool {
        let end = self.sim.now() + FOUNDED_WITHIN;
        while self.sim.now() < end && !self.stage.is_over() {
            self.run_for(LOOK_AGAIN);
            if self.members.iter().all(|member| member.starts > 0) {
                return true;
            }
        }
        self.not_served("nodes that found a cluster", FOUNDED_WITHIN);
        false
    }

    fn invite(&mut self) {
        self.clients = vec![
            self.client("admin", 0, admin::administer),
            self.client("idempotent", 1, produce::idempotent),
            self.client("idempotent", 2, produce::idempotent),
            self.client("plain", 3, produce::plain),
            self.client("reader", 4, read::reader),
            self.client("reader", 5, read::reader),
            self.client("committer", 6, group::committer),
            self.client("member", 7, group::member),
            self.client("member", 8, group::member),
            self.client("asker", 11, read::asker),
        ];
        if self.stage.leaver.get().is_some() {
            let operator = self.client("operator", 13, leave::operator);
            self.clients.push(operator);
        }
        if self.moves {
            let mover = self.client("mover", 12, moves::mover);
            self.clients.push(mover);
        }
    }

    pub(super) fn client<F, Fut>(&self, kind: &str, number: u32, main: F) -> (String, NodeId)
    where
        F: FnOnce(Rc<Stage>, Client, u32) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let name = format!("{kind} {number}");
        let stage = self.stage.clone();
        let addresses: Vec<SocketAddr> = (0..self.members.len())
            .map(|index| SocketAddr::new(ip(index), PORT))
            .collect();
        let node = self.sim.client(&name, move |core| {
            main(stage, Client::new(core, &addresses), number)
        });
        (name, node)
    }

    // --- time --------------------------------------------------------------------------------

    pub(super) fn live_ms(&mut self, min_ms: u64, max_ms: u64) {
        let us = 1_000 * min_ms + self.draw.below(1_000 * (max_ms - min_ms));
        self.run_for(Duration::from_micros(us));
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass, ends faults whose time has come, starts what has died, and looks whether anybody turns round.
    pub(super) fn run_until(&mut self, limit: Duration, done: impl Fn(&Fate) -> bool) -> bool {
        let end = self.sim.now() + limit;
        loop {
            if self.stage.is_over() || done(self) {
                return true;
            }
            let now = self.sim.now();
            if now >= end {
                return false;
            }
            let events = self.sim.trace_events();
            let stage = self.stage.clone();
            self.sim
                .run_until(BUSY_WINDOW.min(end - now), || stage.is_over());
            let events = self.sim.trace_events() - events;
            if events > BUSY_EVENTS * self.members.len() as u64 {
                let what = format!("{events} events within {:?}", self.sim.now() - now);
                self.stage.history().violate(Violation::TurnsRound, what);
            }
            self.hear_news();
            self.end_due();
            self.mourn();
        }
    }

    fn end_due(&mut self) {
        let now = self.sim.now();
        let (due, left) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.under_way = left;
        let due: Vec<(Instant, End)> = due;
        for (_, end) in due {
            self.end(end);
        }
    }

    pub(super) fn end(&mut self, end: End) {
        match end {
            End::Start(index) => self.start(index),
            End::Unblock(ways) => {
                for (from, to) in ways {
                    self.sim.unblock(from, to);
                }
                self.tell("a cut is healed".to_owned());
            }
            End::OnTime(from, to) => self.sim.delay(from, to, Duration::ZERO),
            End::Room(index) => {
                self.sim.set_capacity(self.members[index].node, None);
                self.tell(format!("{} has room again", name(index)));
                self.stage.full.set(false);
            }
            End::Thaw(index) => {
                self.sim.thaw(self.members[index].node);
                self.tell(format!("{} thaws", name(index)));
            }
            End::RightTime(index) => self.sim.skew_wall_clock(self.members[index].node, 0),
            End::Swift(index) => self.sim.slow_disk(self.members[index].node, 1),
            End::Failed(index, operation) => {
                let node = self.members[index].node;
                self.sim.forget_planned_faults(node);
                if self.sim.disk_ops(node) >= operation && self.sim.is_up(node) {
                    self.tell(format!("{} had an error and is started again", name(index)));
                    self.sim.kill(node);
                    self.start_later(index);
                }
            }
            End::OwnDisk => self.put_own_disk_in(),
        }
    }

    /// A node that has died of something that was drawn earlier is started again some time.
    fn mourn(&mut self) {
        for index in 0..self.members.len() {
            let waits =
                |(_, end): &(Instant, End)| matches!(end, End::Start(other) if *other == index);
            let is_missed = !self.stage.has_left(index) && !self.members[index].is_lost;
            let is_down = is_missed && self.sim.is_done(self.members[index].node);
            if is_down && !self.under_way.iter().any(waits) {
                self.tell(format!("{} is down", name(index)));
                self.sim.crash(self.members[index].node);
                self.start_later(index);
            }
        }
    }

    pub(super) fn start_later(&mut self, index: usize) {
        let longest_ms = [30, 500, 2_000][self.draw.below(3) as usize];
        self.later(longest_ms, End::Start(index));
    }

    pub(super) fn later(&mut self, longest_ms: u64, end: End) {
        let us = 1_000 + self.draw.below(1_000 * longest_ms);
        let at = self.sim.now() + Duration::from_micros(us);
        self.under_way.push((at, end));
    }

    pub(super) fn start(&mut self, index: usize) {
        let cores = match self.draw.below(4) {
            0 => 1 + self.draw.below(2) as usize,
            _ => self.members[index].cores,
        };
        let member = &mut self.members[index];
        if !self.sim.is_done(member.node) {
            return;
        }
        member.cores = cores;
        member.has_left = self.stage.has_left(index);
        (_, member.hand) = super::fate::start(&self.sim, &name(index), cores, &member.plan);
        self.tell(format!("{} is started again", name(index)));
    }

    pub(super) fn tell(&self, event: String) {
        self.stage.history().tell_fate(event);
    }

    fn hear_news(&mut self) {
        for index in 0..self.members.len() {
            let (has_old_disk, is_damaged) = (self.has_old_disk(index), self.is_damaged(index));
            let is_to_leave = self.stage.is_to_leave(index);
            let mut ended = false;
            let member = &mut self.members[index];
            while let Ok(news) = member.news.try_recv() {
                match news {
                    News::Ready { .. } if has_old_disk => {
                        let what = format!("{} is ready with it", name(index));
                        self.stage.history().violate(Violation::OldDiskTaken, what);
                    }
                    News::Ready { .. } if member.has_left => {
                        let what = format!("{} had left and is ready", name(index));
                        self.stage.history().violate(Violation::OldDiskTaken, what);
                    }
                    News::Failed(StartError::NotTakenIn(_)) if is_to_leave => {
                        let mut history = self.stage.history();
                        history.count("starts refused to a node that left");
                    }
                    News::Failed(StartError::NotTakenIn(_)) if has_old_disk => {
                        self.stage.history().count("old disks refused");
                    }
                    News::Ready { .. } => {
                        member.starts_as_is += 1;
                        member.starts += 1;
                        let mut history = self.stage.history();
                        history.count("starts");
                        history.tell_fate(format!("{} is ready", name(index)));
                    }
                    News::Recovered { .. } => {}
                    News::Failed(_) if is_damaged => {
                        let mut history = self.stage.history();
                        history.count("damaged nodes do not start or end by themselves");
                        drop(history);
                        // It was left as it is for the rest of the run.
                        ended |= self.stage.damaged.get() == Some(index);
                    }
                    News::Failed(StartError::Data { .. }) if member.excused => {
                        self.stage.history().count("starts refused by the disk");
                    }
                    // The others may take the one before for alive: its connections have lost power, too.
                    News::Failed(StartError::NotTakenIn(_)) if member.is_another => {
                        let mut history = self.stage.history();
                        history.count("starts refused to a new disk");
                    }
                    News::Failed(error) => {
                        let what = format!("{}: {error}", name(index));
                        self.stage.history().violate(Violation::NotStarted, what);
                    }
                }
            }
            if ended {
                self.replace_damaged_one(index);
            }
        }
    }

    // --- faults ------------------------------------------------------------------------------

    pub(super) fn any_node(&mut self) -> usize {
        self.draw.below(self.members.len() as u64) as usize
    }

    fn two_nodes(&mut self) -> (usize, usize) {
        let one = self.any_node();
        let other = self.draw.below(self.members.len() as u64 - 1) as usize;
        (one, other + usize::from(other >= one))
    }

    fn strike(&mut self, kind: Fault) {
        let (one, two) = self.two_nodes();
        let (first, second) = (self.members[one].node, self.members[two].node);
        self.note_fault();
        self.stage.history().count(kind.name());
        self.tell(format!("{}: {}", kind.name(), self.whom(kind, one, two)));
        match kind {
            Fault::Kill => {
                self.sim.kill(first);
                self.start_later(one);
            }
            Fault::Stop => self.members[one].hand.stop(),
            Fault::PowerLoss => self.lose_power(&[one]),
            Fault::PowerLossAtOperation => {
                let span = [20, 100, 400][self.draw.below(3) as usize];
                let operation = self.sim.disk_ops(first) + 1 + self.draw.below(span);
                self.sim.crash_at_op(first, operation);
            }
            Fault::PowerLossOfTwo => self.lose_power(&[one, two]),
            Fault::PowerLossOfAll => {
                let all: Vec<usize> = (0..self.members.len()).collect();
                self.lose_power(&all);
            }
            Fault::Freeze => {
                self.sim.freeze(first);
                let longest_ms = [100, 1_000, 6_000][self.draw.below(3) as usize];
                self.later(longest_ms, End::Thaw(one));
            }
            Fault::ClockJump => {
                let ms = self.draw.below(2 * CLOCK_JUMP_MS) as i64 - CLOCK_JUMP_MS as i64;
                self.sim.skew_wall_clock(first, ms);
                self.later(2_000, End::RightTime(one));
            }
            Fault::SlowDisk => {
                let factor = 2 + self.draw.below(40) as u32;
                self.sim.slow_disk(first, factor);
                self.later(2_000, End::Swift(one));
            }
            Fault::FailedOperation => {
                let operation = self.sim.disk_ops(first) + 1 + self.draw.below(100);
                self.sim
                    .fail_op(first, operation, std::io::ErrorKind::Other);
                self.members[one].excused = true;
                self.later(1_500, End::Failed(one, operation));
            }
            Fault::Stall => {
                let longest_ms = [40, 400, 2_500][self.draw.below(3) as usize];
                let stall = Duration::from_millis(1 + self.draw.below(longest_ms));
                self.sim.stall_disk(first, stall);
            }
            Fault::Cut => self.cut(vec![(first, second), (second, first)]),
            Fault::OneWayCut => self.cut(vec![(first, second)]),
            Fault::Isolation => {
                let others = self.members.iter().map(|member| member.node);
                let ways = both_ways(first, others.filter(|other| *other != first));
                self.cut(ways);
            }
            Fault::IsolationFromAll => {
                let others = self.members.iter().map(|member| member.node);
                let clients = self.clients.iter().map(|(_, node)| *node);
                let others = others.chain(clients).filter(|other| *other != first);
                let ways = both_ways(first, others);
                self.cut(ways);
            }
            Fault::Delay => {
                let longest_us = [2_000, 30_000, 400_000][self.draw.below(3) as usize];
                let extra = Duration::from_micros(self.draw.below(longest_us));
                self.sim.delay(first, second, extra);
                self.later(2_000, End::OnTime(first, second));
            }
            Fault::Reset => self.sim.cut(first, second),
            Fault::WipedDisk => self.wipe(one),
            Fault::ReturnedDisk => self.put_old_disk_in(),
            Fault::FlippedBits => self.flip_bits(one),
            Fault::FullDisk => {
                self.fill(one);
                self.later(2_000, End::Room(one));
            }
        }
    }

    fn whom(&self, kind: Fault, one: usize, two: usize) -> String {
        match kind {
            Fault::PowerLossOfAll | Fault::ReturnedDisk => String::new(),
            Fault::PowerLossOfTwo | Fault::Cut | Fault::OneWayCut | Fault::Delay | Fault::Reset => {
                format!("{} and {}", name(one), name(two))
            }
            _ => name(one),
        }
    }

    fn lose_power(&mut self, whose: &[usize]) {
        for index in whose {
            self.sim.crash(self.members[*index].node);
            self.start_later(*index);
        }
    }

    fn cut(&mut self, ways: Vec<(NodeId, NodeId)>) {
        for (from, to) in &ways {
            self.sim.block(*from, *to);
        }
        let longest_ms = [100, 1_000, 4_000][self.draw.below(3) as usize];
        self.later(longest_ms, End::Unblock(ways));
    }

    pub(super) fn fill(&mut self, index: usize) {
        let node = self.members[index].node;
        let left = [0, 8_192, 100_000][self.draw.below(3) as usize];
        let capacity = self.sim.disk_used_bytes(node) + left;
        self.sim.set_capacity(node, Some(capacity));
        self.members[index].excused = true;
        self.stage.full.set(true);
    }

    // --- afterwards --------------------------------------------------------------------------

    /// Ends every fault; then every client has to finish its work.
    fn heal(&mut self) {
        for (_, end) in std::mem::take(&mut self.under_way) {
            self.end(end);
        }
        self.sim.heal_all();
        for member in &self.members {
            self.sim.forget_planned_faults(member.node);
        }
        if self.stage.leaver.get().is_some() {
            // Nodes are emptied only while all the others have been connected for a while.
            self.sim.set_resets(0);
        }
        self.replace_damaged();
        self.stage.healed.set(true);
        self.tell("no more faults".to_owned());
        let began = self.sim.now();
        let is_at_work = |fate: &Fate| {
            fate.clients
                .iter()
                .any(|(_, node)| !fate.sim.is_done(*node))
        };
        self.run_until(HEALED_WITHIN, |fate| !is_at_work(fate));
        let late = self.clients.iter();
        let late = late.filter(|(_, node)| !self.sim.is_done(*node));
        let late: Vec<&str> = late.map(|(name, _)| name.as_str()).collect();
        if !late.is_empty() {
            return self.not_served(&late.join(", "), HEALED_WITHIN);
        }
        let ms = (self.sim.now() - began).as_millis() as u64;
        let slow = if ms > 10_000 {
            "healed after 10 s"
        } else {
            "healed within 10 s"
        };
        self.stage.history().count(slow);
    }

    /// Everything is read, and is the same everywhere.
    fn finish(&mut self) {
        let reader = self.client("last reader", 9, |stage, client, _| {
            read::last_reading(stage, client)
        });
        if !self.run_until(LAST_READING_WITHIN, |fate| fate.sim.is_done(reader.1)) {
            return self.not_served("the last reading", LAST_READING_WITHIN);
        }
        self.see_it_gone();
        let viewer = self.client("viewer", 10, |stage, client, _| {
            views::compare(stage, client)
        });
        if !self.run_until(SAME_WITHIN, |fate| fate.sim.is_done(viewer.1)) {
            let what = format!("the metadata, after {SAME_WITHIN:?}");
            self.stage
                .history()
                .violate(Violation::ReplicasDiffer, what);
            return;
        }
        let end = self.sim.now() + SAME_WITHIN;
        while let Some(missing) = self.stage.missing_copy() {
            if self.stage.is_over() {
                return;
            }
            if self.sim.now() >= end {
                self.stage
                    .history()
                    .violate(Violation::ReplicasDiffer, missing);
                return;
            }
            self.run_for(Duration::from_millis(500));
        }
        self.stage.history().count("replicas compared");
    }

    pub(super) fn not_served(&self, who: &str, within: Duration) {
        if !self.stage.is_over() {
            let what = format!("{who}, within {within:?}");
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

fn both_ways(one: NodeId, others: impl Iterator<Item = NodeId>) -> Vec<(NodeId, NodeId)> {
    others
        .flat_map(|other| [(one, other), (other, one)])
        .collect()
}
