//! What other nodes send to one core: the connections that have landed here, by node and sending core.
//!
//! Nothing is sent back on them but the welcome, echoes, and a refusal that ends one. Memory of large frames that are
//! being received is lent from a budget per node; small ones share the receive buffer, which is bounded.

use super::frame::{Cutter, Frame, HEADER_BYTES, KIND_MAX, Malformed, PING, PONG, REFUSED};
use super::frame::{TO_LANDING, put_header};
use super::handshake::{Hello, Message, encode_refusal};
use super::introduction::Introduction;
use super::refusal::{Refusal, RefusalCode};
use super::{Host, LinkCounters, Origin, Settings};
use crate::shard::limits::{Budget, Reservation};
use bytes::{Bytes, BytesMut};
use runtime::{Core, Either, Instant, Parcel, Stream, oneshot, select, timeout};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Largest frames of one node that may be under way to this core at a time.
const FRAMES_AHEAD: usize = 2;

pub(super) struct Arrivals {
    core: Core,
    host: Rc<dyn Host>,
    settings: Rc<Settings>,
    /// Those that were ever admitted, so no more than the cluster has had nodes.
    peers: RefCell<BTreeMap<i32, Rc<Peer>>>,
}

/// A node that has connected to this core.
struct Peer {
    node: i32,
    /// By the core that sends.
    connections: RefCell<BTreeMap<u16, Rc<Arrival>>>,
    budget: Budget,
    heard_at: Cell<Instant>,
    silent: Cell<bool>,
    watched: Cell<bool>,
    /// The log was told that its bytes make no sense, and none have since.
    malformed_told: Cell<bool>,
    counters: Cell<LinkCounters>,
}

/// A connection. It ends when `farewell` is taken.
struct Arrival {
    origin: Origin,
    heard_at: Cell<Instant>,
    farewell: RefCell<Option<oneshot::Sender<Refusal>>>,
}

/// Why a connection ends by itself.
enum End {
    Closed,
    Failed(io::Error),
    Malformed(Malformed),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Failed(error)
    }
}

impl From<Malformed> for End {
    fn from(error: Malformed) -> End {
        End::Malformed(error)
    }
}

impl Arrivals {
    pub(super) fn new(core: Core, host: Rc<dyn Host>, settings: Rc<Settings>) -> Rc<Arrivals> {
        Rc::new(Arrivals {
            core,
            host,
            settings,
            peers: RefCell::default(),
        })
    }

    /// Takes a connection in, on a task of its own.
    pub(super) fn adopt(self: &Rc<Self>, parcel: Parcel, hello: Hello) {
        let stream = self.core.adopt(parcel);
        let arrivals = self.clone();
        let serve = async move { arrivals.admit_and_serve(stream, hello).await };
        self.core.spawn("peer arrival", serve);
    }

    pub(super) fn expel(&self, node: i32, refusal: &Refusal) {
        self.end_those(node, refusal, |_| true);
    }

    pub(super) fn expel_identity(&self, node: i32, incarnation: u32, refusal: &Refusal) {
        self.end_those(node, refusal, |origin| origin.incarnation == incarnation);
    }

    fn end_those(&self, node: i32, refusal: &Refusal, is_meant: impl Fn(&Origin) -> bool) {
        let Some(peer) = self.peers.borrow().get(&node).cloned() else {
            return;
        };
        let connections = peer.connections.take().into_iter();
        let (ended, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            connections.partition(|(_, arrival)| is_meant(&arrival.origin));
        *peer.connections.borrow_mut() = rest;
        for arrival in ended.values() {
            peer.count(|counters| counters.refusals_given += 1);
            arrival.end(refusal.clone());
        }
    }

    pub(super) fn shut(&self) {
        for peer in self.peers.borrow().values() {
            for arrival in peer.connections.take().values() {
                arrival.farewell.take();
            }
        }
    }

    pub(super) fn counters(&self) -> BTreeMap<i32, LinkCounters> {
        let peers = self.peers.borrow();
        let counted = peers.iter().map(|(node, it)| (*node, it.counters.get()));
        counted.collect()
    }

    fn peer(&self, node: i32) -> Rc<Peer> {
        let mut peers = self.peers.borrow_mut();
        let budget_bytes = FRAMES_AHEAD * (HEADER_BYTES + self.settings.frame_bytes_max);
        let peer = peers.entry(node).or_insert_with(|| {
            Rc::new(Peer {
                node,
                connections: RefCell::default(),
                budget: Budget::new(budget_bytes),
                heard_at: Cell::new(self.core.now()),
                silent: Cell::new(false),
                watched: Cell::new(false),
                malformed_told: Cell::new(false),
                counters: Cell::default(),
            })
        });
        peer.clone()
    }

    async fn admit_and_serve(self: Rc<Self>, stream: Stream, hello: Hello) {
        let within = self.settings.handshake_within;
        let me = self.host.introduction();
        if let Err(refusal) = self.host.admit(&hello.who) {
            if let Some(peer) = self.peers.borrow().get(&hello.who.node) {
                peer.count(|counters| counters.refusals_given += 1);
            }
            let message = Message::Refused(refusal).encode();
            // Who does not take it learns it at the next attempt.
            let _ = timeout(&self.core, within, stream.write_all(vec![message])).await;
            return;
        }
        let peer = self.peer(hello.who.node);
        let (ends, ended) = oneshot();
        let arrival = peer.take_in(self.core.now(), &me, &hello, ends);
        self.note_heard(&peer, &arrival);
        self.watch(&peer);
        let receiving = self.receive(&peer, &arrival, &stream, me);
        match select(ended, receiving).await {
            Either::Left(Ok(refusal)) => self.say_farewell(&stream, &refusal).await,
            // Another connection has taken its place, or all are shut.
            Either::Left(Err(_)) => {}
            Either::Right(Err(end)) => {
                peer.remove(&arrival);
                peer.tell_log(arrival.origin.core, &end);
                if let End::Malformed(error) = end {
                    let sentence = format!("{error}: one of the two nodes has a bug");
                    let refusal = Refusal::new(RefusalCode::Malformed, sentence);
                    self.say_farewell(&stream, &refusal).await;
                }
            }
        }
    }

    /// The other end is to know that it was not the process that died. It may not be able to hear it.
    async fn say_farewell(&self, stream: &Stream, refusal: &Refusal) {
        let within = self.settings.handshake_within;
        let farewell = stream.write_all(refused_frame(refusal));
        let _ = timeout(&self.core, within, farewell).await;
    }

    /// Receives frames until the connection ends.
    async fn receive(
        &self,
        peer: &Peer,
        arrival: &Arrival,
        stream: &Stream,
        me: Introduction,
    ) -> Result<Infallible, End> {
        let welcome = Message::Welcome(me).encode();
        stream.write_all(vec![welcome]).await?;
        let mut cutter = Cutter::new(BytesMut::new(), self.settings.frame_bytes_max);
        let mut memory: Option<Reservation> = None;
        loop {
            // Memory first, body after: while there is none nothing is read.
            if let Some(bytes) = cutter.wants_memory()
                && memory.is_none()
            {
                memory = Some(peer.budget.reserve(bytes).await);
            }
            let (received, buffer) = stream.read(cutter.room()).await;
            let received = received?;
            if received == 0 {
                return Err(End::Closed);
            }
            cutter.filled(buffer, received);
            peer.count(|counters| counters.bytes_in += received as u64);
            self.note_heard(peer, arrival);
            let mut stamp = None;
            while let Some(frame) = cutter.next_frame()? {
                memory = None;
                peer.count(|counters| counters.frames_in += 1);
                if arrival.farewell.borrow().is_none() {
                    // Expelled by the host while it heard the frame before this one: `ended` says so.
                    return std::future::pending().await;
                }
                stamp = self.take(arrival.origin, frame)?.or(stamp);
            }
            peer.malformed_told.set(false);
            if let Some(stamp) = stamp {
                stream.write_all(vec![pong(&stamp)]).await?;
            }
        }
    }

    /// Gives a frame to the host. A PING that asks for its echo gives its stamp back.
    fn take(&self, origin: Origin, frame: Frame) -> Result<Option<Bytes>, Malformed> {
        let Frame { kind, to, payload } = frame;
        match (kind, payload.len()) {
            (..=KIND_MAX, _) => {
                let cores = self.core.cores() as u16;
                let to = match to {
                    TO_LANDING => self.core.id() as u16,
                    to => to,
                };
                if to >= cores {
                    return Err(Malformed::NoSuchCore { to, cores });
                }
                self.host.heard(origin, to, kind, payload);
                Ok(None)
            }
            (PING, 0) => Ok(None),
            (PING, 8) => Ok(Some(payload)),
            (kind, bytes) => Err(Malformed::Unknown { kind, bytes }),
        }
    }

    fn note_heard(&self, peer: &Peer, arrival: &Arrival) {
        let now = self.core.now();
        arrival.heard_at.set(now);
        peer.heard_at.set(now);
        if peer.silent.replace(false) {
            self.host.heard_again(peer.node);
        }
    }

    /// Starts to watch a node for silence, if nobody does.
    fn watch(self: &Rc<Self>, peer: &Rc<Peer>) {
        if !peer.watched.replace(true) {
            let (arrivals, peer) = (self.clone(), peer.clone());
            let watch = async move { arrivals.look_for_silence(&peer).await };
            self.core.spawn("peer silence", watch);
        }
    }

    /// Says when a node falls silent, and cuts connections that are dead, until there are none.
    async fn look_for_silence(&self, peer: &Peer) {
        let Settings {
            keep_alive,
            silent_after,
            dead_after,
            ..
        } = *self.settings;
        loop {
            let due = peer.heard_at.get() + silent_after;
            if self.core.now() < due {
                self.core.sleep_until(due).await;
                if self.core.now() - due > keep_alive {
                    // This process, or the whole machine, stood still. Whoever did so with us could not speak either.
                    self.core.sleep(2 * keep_alive).await;
                }
            }
            // If it was this core that was busy, what has come meanwhile is heard first.
            self.core.yield_now().await;
            let now = self.core.now();
            peer.cut_dead(now, dead_after);
            if now < peer.heard_at.get() + silent_after {
                continue;
            }
            if !peer.silent.replace(true) {
                self.host.silent(peer.node);
            }
            if peer.connections.borrow().is_empty() {
                peer.watched.set(false);
                return;
            }
            self.core.sleep(silent_after).await;
        }
    }
}

impl Arrival {
    /// Ends the connection and says why.
    fn end(&self, refusal: Refusal) {
        if let Some(farewell) = self.farewell.take() {
            // It may have ended by itself just now.
            let _ = farewell.send(refusal);
        }
    }
}

impl Peer {
    fn count(&self, change: impl FnOnce(&mut LinkCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    /// Registers a connection. An earlier one from the same core is dead, since its sender has opened this one; those
    /// of another incarnation are too, since the host has admitted this one.
    fn take_in(
        &self,
        now: Instant,
        me: &Introduction,
        hello: &Hello,
        farewell: oneshot::Sender<Refusal>,
    ) -> Rc<Arrival> {
        let origin = Origin {
            node: self.node,
            incarnation: hello.who.incarnation,
            core: hello.core,
            level: me.level_with(&hello.who),
        };
        let arrival = Rc::new(Arrival {
            origin,
            heard_at: Cell::new(now),
            farewell: RefCell::new(Some(farewell)),
        });
        let mut connections = self.connections.borrow_mut();
        connections.retain(|core, earlier| {
            let stays = *core != origin.core && earlier.origin.incarnation == origin.incarnation;
            if !stays {
                earlier.farewell.take();
            }
            stays
        });
        connections.insert(origin.core, arrival.clone());
        self.count(|counters| counters.arrived += 1);
        arrival
    }

    /// Takes a connection out that has ended, unless another one has its place.
    fn remove(&self, arrival: &Rc<Arrival>) {
        let core = arrival.origin.core;
        let mut connections = self.connections.borrow_mut();
        if connections
            .get(&core)
            .is_some_and(|it| Rc::ptr_eq(it, arrival))
        {
            connections.remove(&core);
        }
    }

    fn cut_dead(&self, now: Instant, dead_after: Duration) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|_, arrival| {
            let lives = now - arrival.heard_at.get() < dead_after;
            if !lives {
                let sentence = format!("nothing was heard on the connection for {dead_after:?}");
                arrival.end(Refusal::not_ready(sentence));
            }
            lives
        });
    }

    fn tell_log(&self, core: u16, end: &End) {
        let node = self.node;
        match end {
            End::Malformed(error) => {
                self.count(|counters| counters.malformed += 1);
                if !self.malformed_told.replace(true) {
                    tracing::warn!(node, core, "connection of node {node} closed: {error}");
                }
            }
            End::Failed(error) => {
                tracing::debug!(node, core, %error, "connection of node {node} failed");
            }
            End::Closed => tracing::debug!(node, core, "connection of node {node} closed"),
        }
    }
}

fn pong(stamp: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + stamp.len());
    put_header(&mut out, PONG, TO_LANDING, stamp.len());
    out.extend_from_slice(stamp);
    out.freeze()
}

fn refused_frame(refusal: &Refusal) -> Vec<Bytes> {
    let body = encode_refusal(refusal);
    let mut header = BytesMut::with_capacity(HEADER_BYTES);
    put_header(&mut header, REFUSED, TO_LANDING, body.len());
    vec![header.freeze(), body]
}
