//! What a simulated core has of the world: which node and life it belongs to, its own random
//! stream, and the way of its mail.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::random::Random;
use super::world::World;
use crate::handle::CoreStats;
use crate::mail::Desk;
use crate::time::Instant;

/// A core's place in the world.
pub(crate) struct Port {
    pub(crate) world: Rc<World>,
    pub(crate) node: usize,
    pub(crate) core: usize,
    /// The life of the node that this core belongs to.
    pub(crate) life: u64,
    random: RefCell<Random>,
    passes: Cell<u64>,
    ops: Cell<usize>,
}

impl Port {
    pub(crate) fn new(world: &Rc<World>, node: usize, core: usize, life: u64) -> Rc<Port> {
        let purpose = {
            let nodes = world.nodes.borrow();
            format!("core {core} of {} in life {life}", nodes[node].name)
        };
        Rc::new(Port {
            world: Rc::clone(world),
            node,
            core,
            life,
            random: RefCell::new(Random::new(world.options.seed, &purpose)),
            passes: Cell::new(0),
            ops: Cell::new(0),
        })
    }

    /// Whether this core may still act on the world.
    pub(crate) fn is_alive(&self) -> bool {
        self.world.life_of(self.node) == Some(self.life) && !self.world.is_ending(self.node)
    }

    pub(crate) fn now(&self) -> Instant {
        self.world.now()
    }

    pub(crate) fn wall_ms(&self) -> i64 {
        let skew = self.world.nodes.borrow()[self.node].wall_skew_ms;
        self.world.options.wall_start_ms + self.world.now().as_millis() as i64 + skew
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().next()
    }

    pub(crate) fn count_pass(&self) {
        self.passes.set(self.passes.get() + 1);
    }

    pub(crate) fn op_begins(&self) {
        self.ops.set(self.ops.get() + 1);
    }

    pub(crate) fn op_ends(&self) {
        self.ops.set(self.ops.get() - 1);
    }

    pub(crate) fn stats(&self) -> CoreStats {
        let (passes, ops_in_flight) = (self.passes.get(), self.ops.get());
        CoreStats {
            passes,
            ops_in_flight,
            ..CoreStats::default()
        }
    }
}

/// The way of mail between the simulated cores of a node: each batch takes a seeded time, and the
/// batches of one (from, to) pair keep their order.
pub(crate) struct Route<M> {
    port: Rc<Port>,
    desks: Rc<RefCell<Vec<Weak<Desk<M>>>>>,
    delays: RefCell<Random>,
    last_arrivals: RefCell<Vec<Instant>>,
}

impl<M: Send + 'static> Route<M> {
    pub(crate) fn new(
        port: &Rc<Port>,
        cores: usize,
        desks: &Rc<RefCell<Vec<Weak<Desk<M>>>>>,
    ) -> Route<M> {
        let purpose = format!("mail of core {} of node {}", port.core, port.node);
        Route {
            port: Rc::clone(port),
            desks: Rc::clone(desks),
            delays: RefCell::new(Random::new(port.world.options.seed, &purpose)),
            last_arrivals: RefCell::new(vec![Instant::ZERO; cores]),
        }
    }

    pub(crate) fn send(&self, from: usize, to: usize, batch: Vec<M>) {
        if !self.port.is_alive() {
            return;
        }
        let world = &self.port.world;
        let latency = world.options.mail;
        let delay = self.delays.borrow_mut().duration(latency.min, latency.max);
        let last = &mut self.last_arrivals.borrow_mut()[to];
        *last = (*last).max(world.now() + delay);
        let desk = self.desks.borrow().get(to).cloned().unwrap_or_default();
        let which = (from as u64) << 32 | to as u64;
        world.plan(*last, "mail", which, move |_| {
            // A core that has ended has dropped its desk, and reads no mail.
            if let Some(desk) = desk.upgrade() {
                desk.deliver(from, batch);
            }
        });
    }
}
