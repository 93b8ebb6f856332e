//! The backend for tests: whole nodes on one thread, in virtual time, in an order drawn from a
//! seed. The same seed gives the same run, to the last event ([`Control::trace_hash`] tells).
//!
//! A [`Sim`] runs *nodes* (a broker: cores, mail, a disk that survives restarts) and *clients*
//! (single cores outside any node under test, for load and for checkers). Its [`Control`] is the
//! hand of fate: crashes, faults of disks and networks, and the oracle that knows what each
//! platter holds. What can go wrong is said in prose in `sim/tree.rs` (disks) and
//! `sim/network.rs` (connections).
//!
//! A panic in a task becomes a panic of the step that ran it, with the seed in its message.
//! Deliberately absent: memory ordering between cores (the mesh is tested on real threads), CPU
//! cost (a poll takes a fixed time), and threads of the outside.

mod content;
mod control;
pub(crate) mod disk;
mod extents;
mod inode;
pub(crate) mod net;
mod network;
mod options;
mod port;
mod random;
mod trace;
mod tree;
mod world;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::disk::{Disk, DiskBackend};
use crate::executor::Executor;
use crate::executor::ready::Bell;
use crate::handle::{Backend, Core, CoreState};
use crate::mail::{Courier, Desk, Inbox, Post, Route as MailRoute};
use world::{SimLane, SimNode, World};

pub use control::{Control, DiskCopy};
pub use options::{DiskOptions, Latency, NetworkOptions, Options};
pub(crate) use port::{Port, Route};
pub use world::{Running, running};

/// A node or client of a simulation. Stays the same over restarts.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeId(pub(crate) usize);

/// A simulation. Dereferences to its [`Control`]. Dropping it drops all tasks.
pub struct Sim {
    world: Rc<World>,
    control: Control,
}

impl Sim {
    /// An empty world.
    pub fn new(options: Options) -> Sim {
        let world = World::new(options);
        let control = Control::new(&world);
        Sim { world, control }
    }

    /// Starts a node, or starts it again: a name that was used before means the same node with
    /// the same disk. `main` runs on each of its cores, as with
    /// [`uring::launch`](crate::uring::launch). Asserts that the node is not up.
    pub fn start<M, F, Fut>(&self, name: &str, cores: usize, main: F) -> NodeId
    where
        M: Send + 'static,
        F: Fn(Core, Post<M>, Inbox<M>) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        start_node(&self.world, name, cores, main)
    }

    /// Starts a task outside the nodes under test, on a pseudo node of its own: for load and for
    /// checkers. Ends when `main` does.
    pub fn client<F, Fut>(&self, name: &str, main: F) -> NodeId
    where
        F: FnOnce(Core) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        start_client(&self.world, name, main)
    }

    /// One step: one task runs once, or time moves to the next event. False if nothing is left
    /// that could ever happen.
    pub fn step(&self) -> bool {
        self.world.step()
    }

    /// Steps until `done` says so; false if that does not come to pass within `limit` of virtual
    /// time (which then has passed).
    pub fn run_until(&self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let deadline = self.world.now() + limit;
        loop {
            if done() {
                return true;
            }
            if self.world.now() > deadline || !self.world.step_within(Some(deadline)) {
                self.world.idle_until(deadline);
                return done();
            }
        }
    }

    /// Lets `time` of virtual time pass.
    pub fn run_for(&self, time: Duration) {
        self.run_until(time, || false);
    }

    /// Steps until a client or node has ended by itself; false if it has not within `limit`.
    pub fn run_until_done(&self, node: NodeId, limit: Duration) -> bool {
        self.run_until(limit, || self.control.is_done(node))
    }
}

impl Deref for Sim {
    type Target = Control;
    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // After a panic the tasks' own state may be anything: better leak it than panic again.
        if !thread::panicking() {
            self.world.dissolve();
        }
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Sim(seed {}, at {:?})",
            self.world.options.seed,
            self.world.now()
        )
    }
}

/// Finds the node of this name, or makes it; begins a new life.
fn begin_life(world: &Rc<World>, name: &str) -> (usize, u64) {
    let known = world.nodes.borrow().iter().position(|n| n.name == name);
    let index = match known {
        Some(index) => index,
        None => {
            let disk = Rc::new(disk::SimDisk::new(world, name));
            let mut nodes = world.nodes.borrow_mut();
            let name = name.to_string();
            nodes.push(SimNode {
                name,
                disk,
                up: false,
                life: 0,
                wall_skew_ms: 0,
                frozen: false,
            });
            nodes.len() - 1
        }
    };
    let mut nodes = world.nodes.borrow_mut();
    let node = &mut nodes[index];
    let running = world.lanes.borrow().iter().any(|lane| lane.node == index);
    assert!(
        !node.up || !running,
        "node {name:?} is started while it runs"
    );
    node.up = true;
    node.frozen = false;
    node.life += 1;
    world.network.borrow_mut().node_started(index);
    (index, node.life)
}

fn make_core(world: &Rc<World>, node: usize, life: u64, id: usize, cores: usize) -> Core {
    let port = Port::new(world, node, id, life);
    Core(Rc::new(CoreState {
        id,
        cores,
        executor: Executor::new(Arc::new(Bell::new(None))),
        disk: Disk(DiskBackend::Sim(Rc::clone(&port))),
        backend: Backend::Sim(port),
    }))
}

fn port_of(core: &Core) -> &Rc<Port> {
    match &core.0.backend {
        Backend::Sim(port) => port,
        Backend::Uring(_) => unreachable!("a simulated core runs on the machine"),
    }
}

fn run_main(
    world: &Rc<World>,
    node: usize,
    core: &Core,
    courier: Rc<dyn Courier>,
    main: impl Future<Output = ()> + 'static,
) {
    let handle = core.clone();
    core.spawn("main", async move {
        main.await;
        handle.stop();
    });
    let port = Rc::clone(port_of(core));
    let lane = SimLane::new(node, core.clone(), port, courier);
    world.expect_timer(0);
    world.lanes.borrow_mut().push(Rc::new(lane));
}

fn start_node<M, F, Fut>(world: &Rc<World>, name: &str, cores: usize, main: F) -> NodeId
where
    M: Send + 'static,
    F: Fn(Core, Post<M>, Inbox<M>) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    assert!(cores > 0, "node {name:?} is started without cores");
    let (node, life) = begin_life(world, name);
    world.note("start", node as u64);
    let desks: Rc<RefCell<Vec<Weak<Desk<M>>>>> = Rc::new(RefCell::new(Vec::new()));
    let mut starts = Vec::with_capacity(cores);
    for id in 0..cores {
        let core = make_core(world, node, life, id, cores);
        let route = Route::new(port_of(&core), cores, &desks);
        let desk = Desk::new(id, cores, MailRoute::Sim(route));
        desks.borrow_mut().push(Rc::downgrade(&desk));
        starts.push((core, desk));
    }
    for (core, desk) in starts {
        let main = main(
            core.clone(),
            Post(Rc::clone(&desk)),
            Inbox(Rc::clone(&desk)),
        );
        run_main(world, node, &core, desk, main);
    }
    NodeId(node)
}

fn start_client<F, Fut>(world: &Rc<World>, name: &str, main: F) -> NodeId
where
    F: FnOnce(Core) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let (node, life) = begin_life(world, name);
    world.note("start", node as u64);
    let core = make_core(world, node, life, 0, 1);
    let desks: Rc<RefCell<Vec<Weak<Desk<()>>>>> = Rc::new(RefCell::new(Vec::new()));
    let desk = Desk::new(0, 1, MailRoute::Sim(Route::new(port_of(&core), 1, &desks)));
    let main = main(core.clone());
    run_main(world, node, &core, desk, main);
    NodeId(node)
}
