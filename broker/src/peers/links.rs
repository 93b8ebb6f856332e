//! The links of one core: those it sends on, by node, and those it receives on.

use super::arrivals::Arrivals;
use super::frame::{KIND_MAX, TO_LANDING};
use super::handshake::Hello;
use super::link::{Link, Target};
use super::refusal::Refusal;
use super::{Host, LinkCounters, Names, Settings};
use bytes::Bytes;
use runtime::{Core, Parcel, Task};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// For which core of the other node a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// This one. A number that the other node does not have, as far as is known now, loses the frame.
    Core(u16),
    /// Whichever core the link lands on: no hop between cores of the other node.
    Landing,
}

/// What became of a frame.
#[must_use = "a frame that was not queued is lost"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It will leave in the order of the queue, unless the connection ends before.
    Queued,
    /// Lost: the link is down, or its queue is full.
    Dropped,
    /// Lost: longer than [`Settings::frame_bytes_max`]. Sending it again is in vain.
    TooLarge,
}

/// The links of one core.
pub struct Links {
    core: Core,
    host: Rc<dyn Host>,
    names: Names,
    settings: Rc<Settings>,
    outgoing: RefCell<BTreeMap<i32, Outgoing>>,
    arrivals: Rc<Arrivals>,
}

struct Outgoing {
    link: Rc<Link>,
    /// Cancelled when it is dropped.
    _running: Task<()>,
}

impl Links {
    /// A core without links. They hold on to the host: a host that holds on to them in turn outlives its core.
    pub fn new(core: &Core, host: Rc<dyn Host>, names: Names, settings: Settings) -> Rc<Links> {
        assert!(core.cores() < usize::from(TO_LANDING), "{core:?}");
        let settings = Rc::new(settings);
        Rc::new(Links {
            arrivals: Arrivals::new(core.clone(), host.clone(), settings.clone()),
            core: core.clone(),
            host,
            names,
            settings,
            outgoing: RefCell::default(),
        })
    }

    /// Keeps a link to a node at `address` (`host:port`) from now on, and if `incarnation` is given, only to that
    /// one. If there is a link that has reached something else, it begins anew there, and what it had queued is lost.
    pub fn reach(&self, node: i32, address: impl Into<String>, incarnation: Option<u32>) {
        let address = address.into();
        let target = Target {
            address,
            incarnation,
        };
        let known = self.outgoing.borrow().get(&node).map(|it| it.link.clone());
        let link = match known {
            Some(link) if !link.redirect(target.clone()) => return,
            Some(link) => link,
            None => Link::new(
                self.core.clone(),
                self.host.clone(),
                self.names.clone(),
                self.settings.clone(),
                node,
                target,
            ),
        };
        // The old task first: what its connection had queued goes with it.
        drop(self.outgoing.borrow_mut().remove(&node));
        let _running = self.core.spawn_task("peer link", link.clone().run());
        let outgoing = Outgoing { link, _running };
        self.outgoing.borrow_mut().insert(node, outgoing);
    }

    /// Ends the link to a node. The host is not told: it has asked for it. What the node itself sends still arrives,
    /// unless it is [expelled](Links::expel) too.
    pub fn forget(&self, node: i32) {
        let ended = self.outgoing.borrow_mut().remove(&node);
        drop(ended);
    }

    /// Ends the connections from a node to this core; it is told why. To keep it out is for [`admit`] to do.
    ///
    /// [`admit`]: super::Identity::admit
    pub fn expel(&self, node: i32, refusal: &Refusal) {
        self.arrivals.expel(node, refusal);
    }

    /// The same of those that it opened with one of its disks: with another one it is somebody else.
    pub fn expel_identity(&self, node: i32, incarnation: u32, refusal: &Refusal) {
        self.arrivals.expel_identity(node, incarnation, refusal);
    }

    /// Ends all links in both directions, at a stop. Whoever stops drops the [`PeerServer`](super::PeerServer) first,
    /// or the other nodes come back.
    pub fn shut(&self) {
        let ended = self.outgoing.take();
        drop(ended);
        self.arrivals.shut();
    }

    /// Queues a frame for a node. Never waits: who sends more than the link takes loses it, and knows. Asserts that
    /// `kind` is at most [`KIND_MAX`].
    pub fn send(&self, node: i32, to: Destination, kind: u8, payload: Vec<Bytes>) -> Sent {
        assert!(
            kind <= KIND_MAX,
            "frames of kind {kind:#x} are the links' own"
        );
        match self.outgoing.borrow().get(&node) {
            Some(outgoing) => outgoing.link.send(to, kind, payload),
            None => Sent::Dropped,
        }
    }

    /// Whether the link to a node is up.
    pub fn is_up(&self, node: i32) -> bool {
        self.cores_of(node).is_some()
    }

    /// How many cores a node has, while the link to it is up.
    pub fn cores_of(&self, node: i32) -> Option<u16> {
        self.reached(node, |reached| reached.cores)
    }

    /// The incarnation of a node, while the link to it is up.
    pub fn incarnation_of(&self, node: i32) -> Option<u32> {
        self.reached(node, |reached| reached.incarnation)
    }

    /// The core of a node where this core's link to it lands, while it is up.
    pub fn landing_of(&self, node: i32) -> Option<u16> {
        let core = self.core.id() as u16;
        self.reached(node, |reached| reached.landing(core))
    }

    /// The level at which the link to a node speaks, while it is up.
    pub fn level_of(&self, node: i32) -> Option<u16> {
        let me = self.host.introduction();
        self.reached(node, |reached| reached.level_with(&me))
    }

    fn reached<T>(&self, node: i32, look: impl FnOnce(&super::Introduction) -> T) -> Option<T> {
        self.outgoing.borrow().get(&node)?.link.reached(look)
    }

    /// Bytes that wait to leave for a node.
    pub fn queued_bytes(&self, node: i32) -> usize {
        let outgoing = self.outgoing.borrow();
        outgoing.get(&node).map_or(0, |it| it.link.queued_bytes())
    }

    /// Takes in a connection that [`Door::hand_over`](super::Door::hand_over) has given to this core. It is admitted
    /// by this core's host, welcomed, and takes the place of an earlier one from the same core of the same node.
    pub fn adopt(&self, parcel: Parcel, hello: Hello) {
        self.arrivals.adopt(parcel, hello);
    }

    /// What this core has sent to and received from each node; of a link that is [forgotten](Links::forget) only what
    /// was received.
    pub fn counters(&self) -> BTreeMap<i32, LinkCounters> {
        let mut all = self.arrivals.counters();
        for (node, outgoing) in &*self.outgoing.borrow() {
            *all.entry(*node).or_default() += outgoing.link.counters();
        }
        all
    }
}
