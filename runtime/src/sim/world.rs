//! The simulated world: time, events, cores and whose turn it is.
//!
//! One step either lets one task of one core run, both drawn from the seed, or, if no task is
//! ready, moves time to the next event. Everything that happens passes through here and into the
//! trace. Knows neither files nor connections: those are events that it is given.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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

type Event = (&'static str, u64, Box<dyn FnOnce(&Rc<World>)>);

pub(crate) struct World {
    pub(crate) options: Options,
    now: Cell<u64>,
    events: RefCell<BTreeMap<(u64, u64), Event>>,
    next_event: Cell<u64>,
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
        let network = Network::new(Random::new(options.seed, "network"));
        Rc::new(World {
            options,
            now: Cell::new(0),
            events: RefCell::new(BTreeMap::new()),
            next_event: Cell::new(0),
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
        let at = at.0.max(self.now.get());
        self.events
            .borrow_mut()
            .insert((at, number), (kind, which, Box::new(run)));
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
        self.carry_out_endings();
        self.close_lost_parcels();
        let Some(lane) = self.choose_lane() else {
            return self.leap();
        };
        self.run_lane(&lane);
        self.now.set(self.now.get() + nanos(self.options.poll_cost));
        self.fire_due();
        true
    }

    fn choose_lane(&self) -> Option<Rc<SimLane>> {
        let lanes = self.lanes.borrow();
        let mut runnable = lanes.iter().filter(|lane| self.may_run(lane));
        let count = runnable.clone().count() as u64;
        if count == 0 {
            return None;
        }
        let chosen = self.schedule.borrow_mut().below(count) as usize;
        runnable.nth(chosen).cloned()
    }

    fn is_frozen(&self, lane: &SimLane) -> bool {
        self.nodes.borrow()[lane.node].frozen
    }

    fn may_run(&self, lane: &SimLane) -> bool {
        lane.is_runnable() && !self.is_frozen(lane)
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
        let name = executor.name_of(key);
        self.polling.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| executor.poll(key)));
        self.polling.set(false);
        if let Err(panic) = outcome {
            self.report(lane, name, panic);
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
        let event = self
            .events
            .borrow()
            .first_key_value()
            .map(|((at, _), _)| *at);
        let timer = self.next_timer();
        let Some(next) = event.into_iter().chain(timer).min() else {
            return false;
        };
        self.now.set(self.now.get().max(next));
        self.fire_due();
        true
    }

    /// When something will happen by itself, tasks that are ready aside.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let event = self
            .events
            .borrow()
            .first_key_value()
            .map(|((at, _), _)| *at);
        event
            .into_iter()
            .chain(self.next_timer())
            .min()
            .map(Instant)
    }

    pub(crate) fn has_runnable(&self) -> bool {
        !self.endings.borrow().is_empty() || self.lanes.borrow().iter().any(|l| self.may_run(l))
    }

    /// Moves time forward when nothing happens before `at`.
    pub(crate) fn idle_until(&self, at: Instant) {
        self.now.set(self.now.get().max(at.0));
    }

    fn next_timer(&self) -> Option<u64> {
        let lanes = self.lanes.borrow();
        lanes
            .iter()
            .filter(|lane| !self.is_frozen(lane))
            .filter_map(|lane| lane.core.executor().next_timer())
            .map(|at| at.0)
            .min()
    }

    /// Lets everything happen whose time has come.
    fn fire_due(self: &Rc<World>) {
        loop {
            let due = {
                let mut events = self.events.borrow_mut();
                match events.first_entry() {
                    Some(entry) if entry.key().0 <= self.now.get() => entry.remove(),
                    _ => break,
                }
            };
            let (kind, which, run) = due;
            self.note(kind, which);
            run(self);
        }
        let lanes = self.lanes.borrow();
        for lane in lanes.iter().filter(|lane| !self.is_frozen(lane)) {
            let executor = lane.core.executor();
            if executor.next_timer().is_some_and(|at| at <= self.now()) {
                executor.set_now(self.now());
                let fired = executor.fire_timers();
                self.note("timers", fired as u64);
            }
        }
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
