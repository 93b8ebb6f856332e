//! The hand of fate: what a test does to a simulation from outside, or from one of its clients.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::NodeId;
use super::disk::SimDisk;
use super::network;
use super::tree::Platter;
use super::world::{End, World};
use crate::handle::Core;
use crate::mail::{Inbox, Post};
use crate::time::Instant;

/// Controls a simulation. Clones may be kept by its tasks. Asserts that the simulation still
/// exists. An order that ends the node whose task gives it takes effect when that task next waits.
#[derive(Clone)]
pub struct Control {
    world: Weak<World>,
}

impl Control {
    pub(crate) fn new(world: &Rc<World>) -> Control {
        Control {
            world: Rc::downgrade(world),
        }
    }

    fn world(&self) -> Rc<World> {
        self.world
            .upgrade()
            .expect("the simulation has been dropped")
    }

    fn disk(&self, node: NodeId) -> Rc<SimDisk> {
        Rc::clone(&self.world().nodes.borrow()[node.0].disk)
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.world().now()
    }

    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.world().options.seed
    }

    /// Hash over all that has happened: equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.world().trace().hash()
    }

    /// How much has happened.
    pub fn trace_events(&self) -> u64 {
        self.world().trace().events()
    }

    /// The node or client of this name, if it was ever started.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        let world = self.world();
        let nodes = world.nodes.borrow();
        nodes.iter().position(|n| n.name == name).map(NodeId)
    }

    /// The address of a node, at which it listens if it binds the unspecified address.
    pub fn ip(&self, node: NodeId) -> IpAddr {
        network::ip_of(node.0)
    }

    /// As [`Sim::start`](super::Sim::start), for tasks of the simulation.
    pub fn start<M, F, Fut>(&self, name: &str, cores: usize, main: F) -> NodeId
    where
        M: Send + 'static,
        F: Fn(Core, Post<M>, Inbox<M>) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        super::start_node(&self.world(), name, cores, main)
    }

    /// Whether a node is running: not crashed, and not ended by itself.
    pub fn is_up(&self, node: NodeId) -> bool {
        let world = self.world();
        world.life_of(node.0).is_some() && !self.is_done(node)
    }

    /// Whether every core of a node or client has ended.
    pub fn is_done(&self, node: NodeId) -> bool {
        let world = self.world();
        let lanes = world.lanes.borrow();
        !lanes.iter().any(|lane| lane.node == node.0)
    }

    /// Power loss: drops all tasks of the node and applies the disk's fault model; peers hear
    /// nothing. No effect on a node that is down.
    pub fn crash(&self, node: NodeId) {
        self.world().end(node.0, End::Power);
    }

    /// Kills the process: drops all tasks of the node. Completed writes stay, synced or not;
    /// connections end or are reset. No effect on a node that is down.
    pub fn kill(&self, node: NodeId) {
        self.world().end(node.0, End::Kill);
    }

    /// How many disk operations a node has begun in all its lives.
    pub fn disk_ops(&self, node: NodeId) -> u64 {
        self.disk(node).ops.get()
    }

    /// Power loss in the middle of the operation that brings [`disk_ops`](Self::disk_ops) to `n`.
    /// Forgotten when the node ends otherwise.
    pub fn crash_at_op(&self, node: NodeId, n: u64) {
        self.disk(node).crash_at.set(Some(n));
    }

    /// Lets the operation fail that brings [`disk_ops`](Self::disk_ops) to `n`.
    pub fn fail_op(&self, node: NodeId, n: u64, error: io::ErrorKind) {
        self.disk(node).fail_at.borrow_mut().insert(n, error);
    }

    /// Takes back every [`crash_at_op`](Self::crash_at_op) and [`fail_op`](Self::fail_op) that is still to come.
    pub fn forget_planned_faults(&self, node: NodeId) {
        let disk = self.disk(node);
        disk.crash_at.set(None);
        disk.fail_at.borrow_mut().clear();
    }

    /// From now on so many disk operations of a million fail with an I/O error.
    pub fn set_disk_errors(&self, node: NodeId, per_million: u32) {
        self.disk(node).error_per_million.set(per_million);
    }

    /// No disk operation of the node completes for a while.
    pub fn stall_disk(&self, node: NodeId, time: Duration) {
        self.disk(node).stalled_until.set(self.now() + time);
    }

    /// Disk operations take so many times as long; 1 is normal.
    pub fn slow_disk(&self, node: NodeId, factor: u32) {
        self.disk(node).slowdown.set(factor);
    }

    /// Bytes of the disk that are taken.
    pub fn disk_used_bytes(&self, node: NodeId) -> u64 {
        self.disk(node).tree.borrow().used_bytes()
    }

    /// Size of the disk in bytes; `None` for no limit. Less than is used means that it is full.
    pub fn set_capacity(&self, node: NodeId, bytes: Option<u64>) {
        self.disk(node).tree.borrow_mut().set_capacity(bytes);
    }

    /// Inverts one bit of a file, on the platter and as seen. False if there is no such byte.
    pub fn flip_bit(&self, node: NodeId, path: impl AsRef<Path>, offset: u64, bit: u8) -> bool {
        self.disk(node)
            .tree
            .borrow_mut()
            .flip(path.as_ref(), offset, bit)
    }

    /// What the platter of a node holds now, for [`replace_disk`](Self::replace_disk).
    pub fn copy_disk(&self, node: NodeId) -> DiskCopy {
        DiskCopy(self.disk(node).tree.borrow().copy_of_the_platter())
    }

    /// Gives a node that is down the disk that was copied.
    pub fn replace_disk(&self, node: NodeId, copy: &DiskCopy) {
        assert!(self.is_done(node), "the disk of a running node is replaced");
        self.disk(node).tree.borrow_mut().become_copy(&copy.0);
    }

    /// Replaces the disk of a node that is down by an empty one.
    pub fn wipe_disk(&self, node: NodeId) {
        let world = self.world();
        assert!(self.is_done(node), "the disk of a running node is wiped");
        let name = world.nodes.borrow()[node.0].name.clone();
        *self.disk(node).tree.borrow_mut() = world.new_tree(&name);
    }

    /// The oracle: what the platter of a node holds now of a file, whether the node is up or not.
    /// Up to `len` bytes at `offset`, fewer at the file's durable end; `None` if the platter knows
    /// no such name.
    pub fn durable(
        &self,
        node: NodeId,
        path: impl AsRef<Path>,
        offset: u64,
        len: usize,
    ) -> Option<Vec<u8>> {
        self.disk(node)
            .tree
            .borrow()
            .durable(path.as_ref(), offset, len)
    }

    /// The oracle, in place: calls `look` with the pages of a file as the platter of a node holds them now, beginning
    /// with the one with the byte at `from`, each with the offset where it begins, until it gives something. Pages of
    /// zeros may be left out, and the last one may have zeros beyond the file's end.
    pub fn look_through_durable<T>(
        &self,
        node: NodeId,
        path: impl AsRef<Path>,
        from: u64,
        look: impl FnMut((u64, &[u8])) -> Option<T>,
    ) -> Option<T> {
        self.disk(node)
            .tree
            .borrow()
            .look_through(path.as_ref(), from, look)
    }

    /// The oracle: length of a file on the platter.
    pub fn durable_len(&self, node: NodeId, path: impl AsRef<Path>) -> Option<u64> {
        self.disk(node).tree.borrow().durable_len(path.as_ref())
    }

    /// The oracle: all files whose names are on the platter, sorted.
    pub fn durable_files(&self, node: NodeId) -> Vec<PathBuf> {
        self.disk(node).tree.borrow().durable_files()
    }

    /// Resets every connection between two nodes.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        network::cut(&self.world(), a.0, b.0);
    }

    /// Holds up all that `from` sends to `to`: bytes wait, attempts to connect time out.
    pub fn block(&self, from: NodeId, to: NodeId) {
        self.world()
            .network
            .borrow_mut()
            .hold_up(from.0, to.0, true);
    }

    /// Ends a [`block`](Self::block); what was held up arrives.
    pub fn unblock(&self, from: NodeId, to: NodeId) {
        self.world()
            .network
            .borrow_mut()
            .hold_up(from.0, to.0, false);
    }

    /// Blocks both directions.
    pub fn partition(&self, a: NodeId, b: NodeId) {
        self.block(a, b);
        self.block(b, a);
    }

    /// Unblocks both directions.
    pub fn heal(&self, a: NodeId, b: NodeId) {
        self.unblock(a, b);
        self.unblock(b, a);
    }

    /// Ends every block and every extra delay.
    pub fn heal_all(&self) {
        self.world().network.borrow_mut().let_all_pass();
    }

    /// From now on connections are reset at so many segments of a million.
    pub fn set_resets(&self, per_million: u32) {
        self.world().network.borrow_mut().set_resets(per_million);
    }

    /// What `from` sends to `to` from now on takes so much longer.
    pub fn delay(&self, from: NodeId, to: NodeId, extra: Duration) {
        self.world()
            .network
            .borrow_mut()
            .set_extra_delay(from.0, to.0, extra);
    }

    /// Nothing of a node runs until [`thaw`](Self::thaw), as after SIGSTOP: its disks complete what they were
    /// given, its system takes what comes from the network. A start thaws, too.
    pub fn freeze(&self, node: NodeId) {
        self.world().nodes.borrow_mut()[node.0].frozen = true;
    }

    /// Ends a [`freeze`](Self::freeze).
    pub fn thaw(&self, node: NodeId) {
        let world = self.world();
        world.nodes.borrow_mut()[node.0].frozen = false;
        world.expect_timer(0);
    }

    /// Sets a node's wall clock off the world's, in ms.
    pub fn skew_wall_clock(&self, node: NodeId, ms: i64) {
        self.world().nodes.borrow_mut()[node.0].wall_skew_ms = ms;
    }
}

/// A copy of a platter: see [`Control::copy_disk`].
#[derive(Clone, Debug)]
pub struct DiskCopy(Platter);

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Control")
    }
}
