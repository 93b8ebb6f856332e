//! The simulated world: time, events, cores and whose turn it is.
//!
//! One step either lets one task of one core run, both drawn from the seed, or, if no task is
//! ready, moves time to the next event. Everything that happens passes through here and into the
//! trace. Knows neither files nor connections: those are events that it is given.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::network::Network;
use super::options::Options;
use super::port::Port;
use super::random::Random;
use super::trace::Trace;
use super::tree::Tree;
use crate::handle::Core;
use crate::mail::Courier;
use crate::time::{Instant, nanos};

/// Polls of one pass beyond the tasks that were ready at its start, as in the uring driver.
const EXTRA_POLLS: usize = 256;

/// What a simulation lets run, or has run last.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Running {
    pub now: Instant,
    /// Nodes and clients, in the order of their first starts, from 0.
    pub node: usize,
    pub core: usize,
}

thread_local! {
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
}

/// Whose turn it is in the simulation that this thread runs: for log lines, which several nodes write.
pub fn running() -> Option<Running> {
    RUNNING.get()
}

/// How a node ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The power fails: unsynced data is at the mercy of the disk, peers hear nothing.
    Power,
    /// The process is killed: the system keeps its data and resets its connections.
    Kill,
}

/// One core of a node.
pub(crate) struct SimLane {
    pub(crate) node: usize,
    pub(crate) core: Core,
    pub(crate) port: Rc<Port>,
    courier: Rc<dyn Courier>,
    /// Polls left in this pass.
    budget: Cell<usize>,
    /// Something ran since the last end of a pass.
    in_pass: Cell<bool>,
}

impl SimLane {
    pub(crate) fn new(
        node: usize,
        core: Core,
        port: Rc<Port>,
        courier: Rc<dyn Courier>,
    ) -> SimLane {
        let (budget, in_pass) = (Cell::new(EXTRA_POLLS), Cell::new(false));
        SimLane {
            node,
            core,
            port,
            courier,
            budget,
            in_pass,
        }
    }

    fn is_runnable(&self) -> bool {
        let executor = self.core.executor();
        self.in_pass.get() || executor.ready().len() > 0 || executor.ready().has_remote()
    }
}

/// What outlives a node's restarts, and which life it is in.
pub(crate) struct SimNode {
    pub(crate) name: String,
    pub(crate) disk: Rc<super::disk::SimDisk>,
    pub(crate) up: bool,
    /// Counts starts.
    pub(crate) life: u64,
    pub(crate) wall_skew_ms: i64,
    /// Its tasks do not run, as after SIGSTOP. Time passes, and disks and networks go on.
    pub(crate) frozen: bool,
}

/// What happens then.
type Deed = dyn FnOnce(&Rc<World>);

/// Something that will happen. Those of one time happen in the order in which they were planned.
struct Event {
    at: u64,
    number: u64,
    kind: &'static str,
    which: u64,
    run: Box<Deed>,
}

impl Event {
    fn order(&self) -> (u64, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The next one is the greatest, as a [`BinaryHeap`] wants it.
impl Ord for Event {
    fn cmp(&self, other: &Event) -> Ordering {
        other.order().cmp(&self.order())
    }
}

pub(crate) struct World {
    pub(crate) options: Options,
    now: Cell<u64>,
    events: RefCell<BinaryHeap<Event>>,
    next_event: Cell<u64>,
    /// No timer of a lane that is not frozen is due before this time: timers are looked at only from then on. A core
    /// sets timers only while it runs.
    timers_from: Cell<u64>,
    /// Lanes that may run, by their places: kept for its memory.
    runnable: RefCell<Vec<usize>>,
    trace: Cell<Trace>,
    schedule: RefCell<Random>,
    pub(crate) nodes: RefCell<Vec<SimNode>>,
    pub(crate) lanes: RefCell<Vec<Rc<SimLane>>>,
    pub(crate) network: RefCell<Network>,
    /// A task runs: nodes end only when it has returned.
    polling: Cell<bool>,
    endings: RefCell<Vec<(usize, End)>>,
}

impl World {
    pub(crate) fn new(options: Options) -> Rc<World> {
        let schedule = Random::new(options.seed, "schedule");
        let network = Random::new(options.seed, "network");
        let network = Network::new(network, options.network.reset_per_million);
        Rc::new(World {
            options,
            now: Cell::new(0),
            events: RefCell::new(BinaryHeap::new()),
            next_event: Cell::new(0),
            timers_from: Cell::new(0),
            runnable: RefCell::new(Vec::new()),
            trace: Cell::new(Trace::default()),
            schedule: RefCell::new(schedule),
            nodes: RefCell::new(Vec::new()),
            lanes: RefCell::new(Vec::new()),
            network: RefCell::new(network),
            polling: Cell::new(false),
            endings: RefCell::new(Vec::new()),
        })
    }

    pub(crate) fn now(&self) -> Instant {
        Instant(self.now.get())
    }

    pub(crate) fn trace(&self) -> Trace {
        self.trace.get()
    }

    pub(crate) fn note(&self, kind: &str, which: u64) {
        let mut trace = self.trace.get();
        trace.note(self.now.get(), kind, which);
        self.trace.set(trace);
    }

    /// Lets `run` happen at a time, after what was planned for the same time before.
    pub(crate) fn plan(
        &self,
        at: Instant,
        kind: &'static str,
        which: u64,
        run: impl FnOnce(&Rc<World>) + 'static,
    ) {
        let number = self.next_event.get();
        self.next_event.set(number + 1);
        let event = Event {
            at: at.0.max(self.now.get()),
            number,
            kind,
            which,
            run: Box::new(run),
        };
        self.events.borrow_mut().push(event);
    }

    pub(crate) fn plan_in(
        &self,
        delay: Duration,
        kind: &'static str,
        which: u64,
        run: impl FnOnce(&Rc<World>) + 'static,
    ) {
        self.plan(self.now() + delay, kind, which, run);
    }

    /// Which life of a node this is, if it is up.
    pub(crate) fn life_of(&self, node: usize) -> Option<u64> {
        let nodes = self.nodes.borrow();
        nodes.get(node).filter(|n| n.up).map(|n| n.life)
    }

    /// One step. False if nothing will ever happen again without help from outside.
    pub(crate) fn step(self: &Rc<World>) -> bool {
        self.step_within(None)
    }

    /// One step, unless nothing happens by itself up to `deadline`: then nothing is done, and it says false.
    pub(crate) fn step_within(self: &Rc<World>, deadline: Option<Instant>) -> bool {
        // The end of a node is due at once.
        let deadline = deadline.filter(|_| self.endings.borrow().is_empty());
        self.carry_out_endings();
        let lane = self.choose_lane();
        if lane.is_none()
            && let Some(deadline) = deadline
            && self.next_due().is_none_or(|next| next > deadline.0)
        {
            return false;
        }
        self.close_lost_parcels();
        let Some(lane) = lane else {
            return self.leap();
        };
        self.run_lane(&lane);
        let timer = lane.core.executor().next_timer();
        self.expect_timer(timer.map_or(u64::MAX, |at| at.0));
        self.now.set(self.now.get() + nanos(self.options.poll_cost));
        self.fire_due();
        true
    }

    fn choose_lane(&self) -> Option<Rc<SimLane>> {
        let lanes = self.lanes.borrow();
        let nodes = self.nodes.borrow();
        let mut runnable = self.runnable.borrow_mut();
        runnable.clear();
        for (place, lane) in lanes.iter().enumerate() {
            if lane.is_runnable() && !nodes[lane.node].frozen {
                runnable.push(place);
            }
        }
        if runnable.is_empty() {
            return None;
        }
        let chosen = self.schedule.borrow_mut().below(runnable.len() as u64);
        Some(Rc::clone(&lanes[runnable[chosen as usize]]))
    }

    fn is_frozen(&self, lane: &SimLane) -> bool {
        self.nodes.borrow()[lane.node].frozen
    }

    /// A timer may be due from this time on. 0 for a lane that comes in, or back, with timers that nobody has looked at.
    pub(crate) fn expect_timer(&self, at: u64) {
        self.timers_from.set(self.timers_from.get().min(at));
    }

    /// Polls one task of a core, or ends its pass.
    fn run_lane(self: &Rc<World>, lane: &Rc<SimLane>) {
        let executor = lane.core.executor();
        executor.set_now(self.now());
        RUNNING.set(Some(Running {
            now: self.now(),
            node: lane.node,
            core: lane.core.id(),
        }));
        let ready = executor.ready().len();
        if ready == 0 || lane.budget.get() == 0 || executor.is_stopping() {
            self.end_pass(lane);
            return;
        }
        lane.budget.set(lane.budget.get() - 1);
        lane.in_pass.set(true);
        let chosen = self.schedule.borrow_mut().below(ready as u64) as usize;
        let Some(key) = executor.ready().pop_at(chosen) else {
            return;
        };
        let which = (lane.node as u64) << 48 | (lane.core.id() as u64) << 40;
        self.note(
            "poll",
            which ^ u64::from(key.index) << 20 ^ u64::from(key.generation),
        );
        self.polling.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| executor.poll(key)));
        self.polling.set(false);
        if let Err(panic) = outcome {
            self.report(lane, executor.name_of(key), panic);
        }
    }

    fn end_pass(self: &Rc<World>, lane: &Rc<SimLane>) {
        let executor = lane.core.executor();
        self.note("pass", (lane.node as u64) << 32 | lane.core.id() as u64);
        lane.port.count_pass();
        lane.courier.flush();
        lane.in_pass.set(false);
        if executor.is_stopping() {
            executor.close();
            self.lanes
                .borrow_mut()
                .retain(|other| !Rc::ptr_eq(other, lane));
            return;
        }
        executor.ready().collect_remote();
        executor.fire_timers();
        executor.wake_yielded();
        lane.budget.set(executor.ready().len() + EXTRA_POLLS);
    }

    /// Moves time to the next event or timer.
    fn leap(self: &Rc<World>) -> bool {
        let Some(next) = self.next_due() else {
            return false;
        };
        self.now.set(self.now.get().max(next));
        self.fire_due();
        true
    }

    /// When something will happen by itself, tasks that are ready aside.
    fn next_due(&self) -> Option<u64> {
        let event = self.events.borrow().peek().map(|event| event.at);
        // The first timer is not asked for if an event comes before any.
        let timer = match event {
            Some(at) if at <= self.timers_from.get() => None,
            _ => self.next_timer(),
        };
        event.into_iter().chain(timer).min()
    }

    /// Moves time forward when nothing happens before `at`.
    pub(crate) fn idle_until(&self, at: Instant) {
        self.now.set(self.now.get().max(at.0));
    }

    fn next_timer(&self) -> Option<u64> {
        let lanes = self.lanes.borrow();
        let timers = lanes
            .iter()
            .filter(|lane| !self.is_frozen(lane))
            .filter_map(|lane| lane.core.executor().next_timer());
        let next = timers.map(|at| at.0).min();
        self.timers_from.set(next.unwrap_or(u64::MAX));
        next
    }

    /// Lets everything happen whose time has come.
    fn fire_due(self: &Rc<World>) {
        loop {
            let due = {
                let mut events = self.events.borrow_mut();
                match events.peek() {
                    Some(event) if event.at <= self.now.get() => events.pop(),
                    _ => None,
                }
            };
            let Some(event) = due else { break };
            self.note(event.kind, event.which);
            (event.run)(self);
        }
        if self.timers_from.get() <= self.now.get() {
            self.fire_timers();
        }
    }

    fn fire_timers(&self) {
        let lanes = self.lanes.borrow();
        for lane in lanes.iter().filter(|lane| !self.is_frozen(lane)) {
            let executor = lane.core.executor();
            if executor.next_timer().is_some_and(|at| at <= self.now()) {
                executor.set_now(self.now());
                let fired = executor.fire_timers();
                self.note("timers", fired as u64);
            }
        }
        drop(lanes);
        self.next_timer();
    }

    /// Ends a node, at once or as soon as the running task returns.
    pub(crate) fn end(self: &Rc<World>, node: usize, end: End) {
        self.endings.borrow_mut().push((node, end));
        if !self.polling.get() {
            self.carry_out_endings();
        }
    }

    /// Whether a node is about to end: what its running task still asks for does not happen.
    pub(crate) fn is_ending(&self, node: usize) -> bool {
        self.endings
            .borrow()
            .iter()
            .any(|(ending, _)| *ending == node)
    }

    fn carry_out_endings(self: &Rc<World>) {
        loop {
            let next = self.endings.borrow_mut().pop();
            let Some((node, end)) = next else { return };
            let disk = {
                let mut nodes = self.nodes.borrow_mut();
                if !nodes[node].up {
                    continue;
                }
                nodes[node].up = false;
                Rc::clone(&nodes[node].disk)
            };
            self.note("end", (node as u64) << 1 | u64::from(end == End::Power));
            let (gone, rest): (Vec<_>, Vec<_>) = self
                .lanes
                .take()
                .into_iter()
                .partition(|lane| lane.node == node);
            *self.lanes.borrow_mut() = rest;
            // The node is marked as down, so whatever these destructors do has no effect.
            for lane in &gone {
                lane.core.executor().close();
            }
            super::network::node_ended(self, node, end);
            disk.node_ended(end);
        }
    }

    /// Connections that were mailed to a core that dropped the letter.
    fn close_lost_parcels(self: &Rc<World>) {
        super::network::close_lost_parcels(self);
    }

    /// A task panicked: says where, when, and with which seed it happens again.
    fn report(&self, lane: &SimLane, task: &str, panic: Box<dyn std::any::Any + Send>) -> ! {
        let message = match panic.downcast_ref::<String>() {
            Some(message) => message.as_str(),
            None => panic
                .downcast_ref::<&'static str>()
                .copied()
                .unwrap_or("no message"),
        };
        let name = self.nodes.borrow()[lane.node].name.clone();
        panic!(
            "seed {}: task {task:?} of node {name:?}, core {}, at {} us (trace {:016x}): {message}",
            self.options.seed,
            lane.core.id(),
            self.now().as_micros(),
            self.trace().hash(),
        );
    }

    /// Drops all tasks without any effect on disks and networks.
    pub(crate) fn dissolve(self: &Rc<World>) {
        for node in self.nodes.borrow_mut().iter_mut() {
            node.up = false;
        }
        for lane in self.lanes.take() {
            lane.core.executor().close();
        }
        self.events.take();
        self.endings.take();
    }

    /// A new, empty disk for a node.
    pub(crate) fn new_tree(&self, name: &str) -> Tree {
        let random = Random::new(self.options.seed, &format!("disk of {name}"));
        Tree::new(random, self.options.disk.capacity_bytes)
    }
}
