//! The simulated network: addresses, connections, and what is under way between their ends.
//!
//! # What may go wrong (the fault model)
//!
//! A connection is two ordered streams of bytes. Within a stream nothing is lost, reordered or
//! doubled; between connections any order is possible. Segments have seeded sizes and times, reads
//! return seeded parts of what has arrived, writes wait while the window is full. A test or the
//! seed may reset a connection (both ends fail, bytes under way are gone), hold up a direction
//! between two nodes (bytes wait, attempts to connect time out), or add delay. A killed node's
//! connections end or are reset; a node that lost power falls silent: its peers learn of it when
//! they send and it is up again, if ever. Bytes are never damaged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::random::Random;
use super::world::{End, World};
use crate::time::Instant;

/// First port that is given to listeners and callers who do not choose.
const FIRST_FREE_PORT: u16 = 30_000;

pub(crate) type ConnectionId = u64;

/// Which end of a connection: 0 has called, 1 has accepted.
pub(crate) type Side = usize;

enum Segment {
    Data(Bytes),
    /// No more data follows.
    Fin,
    /// The sender has dropped the connection.
    Reset,
}

/// What one end has sent.
#[derive(Default)]
struct Pipe {
    flying: VecDeque<(Instant, Segment)>,
    arrived: VecDeque<Bytes>,
    /// Data that is flying or unread.
    outstanding_bytes: usize,
    last_arrival: Instant,
    fin_sent: bool,
    fin_arrived: bool,
}

struct Endpoint {
    node: usize,
    life: u64,
    /// Someone holds a handle.
    open: bool,
    reset: bool,
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Connection {
    ends: [Endpoint; 2],
    /// By sender.
    pipes: [Pipe; 2],
}

pub(crate) struct Listening {
    node: usize,
    life: u64,
    backlog: usize,
    queue: VecDeque<(ConnectionId, SocketAddr)>,
    acceptor: Option<Waker>,
}

pub(crate) struct Network {
    random: Random,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: ConnectionId,
    listeners: BTreeMap<SocketAddr, Listening>,
    /// Which node has last listened at an address.
    owners: BTreeMap<SocketAddr, usize>,
    /// Nodes without power: they answer nothing.
    dark: BTreeSet<usize>,
    held_up: BTreeSet<(usize, usize)>,
    extra_delay: BTreeMap<(usize, usize), Duration>,
    next_port: u16,
    /// Segments at which the connection is reset, of a million.
    resets_per_million: u32,
    parcels: Vec<(Weak<()>, ConnectionId, Side)>,
}

/// A node's own address.
pub(crate) fn ip_of(node: usize) -> IpAddr {
    let [.., high, low] = (node as u32 + 1).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
}

/// What an attempt to connect met.
pub(crate) enum Answer {
    Connected(ConnectionId),
    Refused,
    Silence,
}

impl Network {
    pub(crate) fn new(random: Random, resets_per_million: u32) -> Network {
        Network {
            random,
            connections: BTreeMap::new(),
            next_connection: 1,
            listeners: BTreeMap::new(),
            owners: BTreeMap::new(),
            dark: BTreeSet::new(),
            held_up: BTreeSet::new(),
            extra_delay: BTreeMap::new(),
            next_port: FIRST_FREE_PORT,
            resets_per_million,
            parcels: Vec::new(),
        }
    }

    pub(crate) fn free_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
        port
    }

    pub(crate) fn node_started(&mut self, node: usize) {
        self.dark.remove(&node);
    }

    /// Holds up, or lets pass, what `from` sends to `to`.
    pub(crate) fn hold_up(&mut self, from: usize, to: usize, held_up: bool) {
        if held_up {
            self.held_up.insert((from, to));
        } else {
            self.held_up.remove(&(from, to));
        }
    }

    pub(crate) fn let_all_pass(&mut self) {
        self.held_up.clear();
        self.extra_delay.clear();
    }

    pub(crate) fn set_resets(&mut self, per_million: u32) {
        self.resets_per_million = per_million;
    }

    pub(crate) fn set_extra_delay(&mut self, from: usize, to: usize, delay: Duration) {
        self.extra_delay.insert((from, to), delay);
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.held_up.contains(&(from, to))
    }

    /// A seeded time for one trip.
    pub(crate) fn trip(&mut self, world: &World, from: usize, to: usize) -> Duration {
        let options = &world.options.network;
        let mut time = self
            .random
            .duration(options.latency.min, options.latency.max);
        if from == to {
            time /= 8;
        }
        if self.random.per_million(options.stall_per_million) {
            time += self.random.duration(options.stall.min, options.stall.max);
        }
        time + self
            .extra_delay
            .get(&(from, to))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn listen(
        &mut self,
        node: usize,
        life: u64,
        addr: SocketAddr,
        backlog: u32,
    ) -> io::Result<SocketAddr> {
        let ip = if addr.ip().is_unspecified() {
            ip_of(node)
        } else {
            addr.ip()
        };
        let port = if addr.port() == 0 {
            self.free_port()
        } else {
            addr.port()
        };
        let addr = SocketAddr::new(ip, port);
        if self.listeners.contains_key(&addr) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let backlog = backlog.max(1) as usize;
        let queue = VecDeque::new();
        let listening = Listening {
            node,
            life,
            backlog,
            queue,
            acceptor: None,
        };
        self.listeners.insert(addr, listening);
        self.owners.insert(addr, node);
        Ok(addr)
    }

    /// A connection that waits to be accepted.
    pub(crate) fn accept(
        &mut self,
        addr: SocketAddr,
        waker: &Waker,
    ) -> Option<(ConnectionId, SocketAddr)> {
        let listening = self.listeners.get_mut(&addr)?;
        let next = listening.queue.pop_front();
        if next.is_none() {
            listening.acceptor = Some(waker.clone());
        }
        next
    }

    /// A caller's request has reached an address.
    pub(crate) fn answer(
        &mut self,
        world: &World,
        caller: (usize, u64),
        from: SocketAddr,
        to: SocketAddr,
    ) -> Answer {
        let (node, life) = caller;
        // The loopback address of a node means the node itself.
        let own = SocketAddr::new(ip_of(node), to.port());
        let to = if to.ip().is_loopback() && !self.listeners.contains_key(&to) {
            own
        } else {
            to
        };
        let Some(&owner) = self.owners.get(&to) else {
            return Answer::Refused;
        };
        let reachable = self.passes(node, owner) && self.passes(owner, node);
        if !reachable || self.dark.contains(&owner) {
            return Answer::Silence;
        }
        let Some(listening) = self.listeners.get_mut(&to) else {
            return Answer::Refused;
        };
        if world.life_of(listening.node) != Some(listening.life) {
            return Answer::Refused;
        }
        if listening.queue.len() >= listening.backlog {
            return Answer::Silence;
        }
        let id = self.next_connection;
        self.next_connection += 1;
        listening.queue.push_back((id, from));
        if let Some(acceptor) = listening.acceptor.take() {
            acceptor.wake();
        }
        let ends = [
            Endpoint::new(node, life),
            Endpoint::new(listening.node, listening.life),
        ];
        self.connections.insert(
            id,
            Connection {
                ends,
                pipes: Default::default(),
            },
        );
        Answer::Connected(id)
    }

    /// Copies out what has arrived, up to `room` bytes: a seeded part of it. `None` means wait.
    pub(crate) fn read(
        &mut self,
        id: ConnectionId,
        side: Side,
        room: usize,
        waker: &Waker,
    ) -> Option<io::Result<Vec<u8>>> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let (end, pipe) = (&mut connection.ends[side], &mut connection.pipes[1 - side]);
        if end.reset {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let available: usize = pipe.arrived.iter().map(Bytes::len).sum();
        if available == 0 {
            if pipe.fin_arrived || end.shut {
                return Some(Ok(Vec::new()));
            }
            end.reader = Some(waker.clone());
            return None;
        }
        let mut count = available.min(room);
        if self.random.below(4) == 0 {
            count = self.random.between(1, count as u64) as usize;
        }
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let Some(front) = pipe.arrived.front_mut() else {
                break;
            };
            let piece = front.len().min(count - bytes.len());
            bytes.extend_from_slice(&front[..piece]);
            front.advance(piece);
            if front.is_empty() {
                pipe.arrived.pop_front();
            }
        }
        pipe.outstanding_bytes -= count;
        if let Some(writer) = connection.ends[1 - side].writer.take() {
            writer.wake();
        }
        Some(Ok(bytes))
    }

    /// Whether a read would not wait; if it would, `waker` is woken when that changes.
    pub(crate) fn is_readable(&mut self, id: ConnectionId, side: Side, waker: &Waker) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return true;
        };
        let (end, pipe) = (&mut connection.ends[side], &connection.pipes[1 - side]);
        if end.reset || end.shut || pipe.fin_arrived || !pipe.arrived.is_empty() {
            return true;
        }
        end.reader = Some(waker.clone());
        false
    }

    pub(crate) fn park_parcel(&mut self, letter: &Arc<()>, id: ConnectionId, side: Side) {
        self.parcels.push((Arc::downgrade(letter), id, side));
    }

    /// The parcel has arrived: its connection has a holder again.
    pub(crate) fn unpark_parcel(&mut self, id: ConnectionId, side: Side) {
        self.parcels.retain(|(_, i, s)| (*i, *s) != (id, side));
    }

    fn endpoint_lives(world: &World, end: &Endpoint) -> bool {
        world.life_of(end.node) == Some(end.life)
    }
}

impl Endpoint {
    fn new(node: usize, life: u64) -> Endpoint {
        let (reader, writer) = (None, None);
        Endpoint {
            node,
            life,
            open: true,
            reset: false,
            shut: false,
            reader,
            writer,
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

/// Puts as much of `data` on its way as the window has room for. `Ok(0)` means wait.
pub(crate) fn send(
    world: &Rc<World>,
    id: ConnectionId,
    side: Side,
    data: &Bytes,
    waker: &Waker,
) -> io::Result<usize> {
    let mut network = world.network.borrow_mut();
    let options = &world.options.network;
    let Some(connection) = network.connections.get_mut(&id) else {
        return Err(io::ErrorKind::ConnectionReset.into());
    };
    let end = &mut connection.ends[side];
    if end.reset {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    if end.shut {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let room = options
        .window_bytes
        .saturating_sub(connection.pipes[side].outstanding_bytes);
    if room == 0 {
        end.writer = Some(waker.clone());
        return Ok(0);
    }
    let resets_per_million = network.resets_per_million;
    if network.random.per_million(resets_per_million) {
        drop(network);
        reset(world, id);
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let largest = room.min(options.segment_bytes).min(data.len());
    // Mostly whole segments, now and then a short one.
    let count = match network.random.below(8) {
        0 => network.random.between(1, largest as u64) as usize,
        _ => largest,
    };
    network.launch(world, id, side, Segment::Data(data.slice(..count)));
    Ok(count)
}

impl Network {
    /// Sends a segment off; it arrives after whatever was sent before it.
    fn launch(&mut self, world: &Rc<World>, id: ConnectionId, side: Side, segment: Segment) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let (from, to) = (connection.ends[side].node, connection.ends[1 - side].node);
        let at = world.now() + self.trip(world, from, to);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let pipe = &mut connection.pipes[side];
        pipe.last_arrival = pipe.last_arrival.max(at);
        if let Segment::Data(data) = &segment {
            pipe.outstanding_bytes += data.len();
        }
        let at = pipe.last_arrival;
        pipe.flying.push_back((at, segment));
        world.plan(at, "segment", id << 1 | side as u64, move |world| {
            deliver(world, id, side)
        });
    }
}

/// Hands over what has arrived from `side`, in order.
fn deliver(world: &Rc<World>, id: ConnectionId, side: Side) {
    let mut network = world.network.borrow_mut();
    loop {
        let Some(connection) = network.connections.get(&id) else {
            return;
        };
        let (sender, receiver) = (&connection.ends[side], &connection.ends[1 - side]);
        let (from, to) = (sender.node, receiver.node);
        let due = connection.pipes[side]
            .flying
            .front()
            .is_some_and(|(at, _)| *at <= world.now());
        if !due {
            break;
        }
        if !network.passes(from, to) || network.dark.contains(&to) {
            // Held up, or nobody there: the sender's system goes on trying.
            let retry = world.options.network.retry;
            world.plan_in(retry, "retry", id, move |world| deliver(world, id, side));
            return;
        }
        let lives = Network::endpoint_lives(world, receiver);
        let Some(connection) = network.connections.get_mut(&id) else {
            return;
        };
        let Some((_, segment)) = connection.pipes[side].flying.pop_front() else {
            return;
        };
        if !lives || !connection.ends[1 - side].open {
            if matches!(segment, Segment::Data(_)) {
                // Nobody has this connection any more: the system answers with a reset.
                network.launch(world, id, 1 - side, Segment::Reset);
            }
            continue;
        }
        connection.take_in(side, segment);
    }
    network.forget_if_over(world, id);
}

impl Connection {
    fn take_in(&mut self, side: Side, segment: Segment) {
        let (receiver, pipe) = (&mut self.ends[1 - side], &mut self.pipes[side]);
        match segment {
            Segment::Data(data) => pipe.arrived.push_back(data),
            Segment::Fin => pipe.fin_arrived = true,
            Segment::Reset => {
                receiver.reset = true;
                pipe.arrived.clear();
            }
        }
        receiver.wake();
    }
}

impl Network {
    /// Drops a connection that has no end left, and nothing under way that could matter.
    fn forget_if_over(&mut self, world: &World, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let over = |end: &Endpoint| !end.open || !Network::endpoint_lives(world, end);
        if connection.ends.iter().all(over) {
            self.connections.remove(&id);
        }
    }
}

/// Ends both directions as seen from one end; its handle stays.
pub(crate) fn shut(world: &Rc<World>, id: ConnectionId, side: Side) {
    let mut network = world.network.borrow_mut();
    let Some(connection) = network.connections.get_mut(&id) else {
        return;
    };
    connection.ends[side].shut = true;
    connection.ends[side].wake();
    if !std::mem::replace(&mut connection.pipes[side].fin_sent, true) {
        network.launch(world, id, side, Segment::Fin);
    }
}

/// The last handle of one end is gone.
pub(crate) fn close(world: &Rc<World>, id: ConnectionId, side: Side) {
    let mut network = world.network.borrow_mut();
    let Some(connection) = network.connections.get_mut(&id) else {
        return;
    };
    let unread = !connection.pipes[1 - side].arrived.is_empty();
    connection.ends[side].open = false;
    let fin_sent = std::mem::replace(&mut connection.pipes[side].fin_sent, true);
    if unread {
        network.launch(world, id, side, Segment::Reset);
    } else if !fin_sent {
        network.launch(world, id, side, Segment::Fin);
    }
    network.forget_if_over(world, id);
}

/// Both ends fail at once; what was under way is gone.
fn reset(world: &Rc<World>, id: ConnectionId) {
    let mut network = world.network.borrow_mut();
    let Some(connection) = network.connections.get_mut(&id) else {
        return;
    };
    for end in &mut connection.ends {
        end.reset = true;
        end.wake();
    }
    for pipe in &mut connection.pipes {
        pipe.flying.clear();
        pipe.arrived.clear();
    }
    world.note("reset", id);
}

/// Resets every connection between two nodes.
pub(crate) fn cut(world: &Rc<World>, a: usize, b: usize) {
    let between: Vec<ConnectionId> = {
        let network = world.network.borrow();
        let joins = |c: &Connection| {
            let (x, y) = (c.ends[0].node, c.ends[1].node);
            (x, y) == (a, b) || (x, y) == (b, a)
        };
        network
            .connections
            .iter()
            .filter(|(_, c)| joins(c))
            .map(|(id, _)| *id)
            .collect()
    };
    for id in between {
        reset(world, id);
    }
}

/// A listener's handle is gone: connections that nobody has accepted are reset.
pub(crate) fn close_listener(world: &Rc<World>, addr: SocketAddr) {
    let listening = world.network.borrow_mut().listeners.remove(&addr);
    for (id, _) in listening.into_iter().flat_map(|l| l.queue) {
        reset(world, id);
        close(world, id, 1);
    }
}

/// What becomes of a node's connections when it ends.
pub(crate) fn node_ended(world: &Rc<World>, node: usize, end: End) {
    let mut network = world.network.borrow_mut();
    network
        .listeners
        .retain(|_, listening| listening.node != node);
    if end == End::Power {
        network.dark.insert(node);
    }
    let ids: Vec<ConnectionId> = network.connections.keys().copied().collect();
    for id in ids {
        for side in [0, 1] {
            let Some(connection) = network.connections.get_mut(&id) else {
                continue;
            };
            let endpoint = &mut connection.ends[side];
            if endpoint.node != node || !endpoint.open {
                continue;
            }
            endpoint.open = false;
            let fin_sent = connection.pipes[side].fin_sent;
            if end == End::Power {
                // What it had sent and not yet arrived is lost with it, or is not.
                if network.random.coin()
                    && let Some(connection) = network.connections.get_mut(&id)
                {
                    connection.pipes[side].flying.clear();
                }
            } else if network.random.coin() {
                network.launch(world, id, side, Segment::Reset);
            } else if !fin_sent {
                network.launch(world, id, side, Segment::Fin);
            }
        }
        network.forget_if_over(world, id);
    }
}

/// Closes connections whose parcel was dropped unopened.
pub(crate) fn close_lost_parcels(world: &Rc<World>) {
    let lost: Vec<(ConnectionId, Side)> = {
        let mut network = world.network.borrow_mut();
        if network.parcels.is_empty() {
            return;
        }
        let is_lost = |p: &&(Weak<()>, ConnectionId, Side)| p.0.strong_count() == 0;
        let lost = network
            .parcels
            .iter()
            .filter(is_lost)
            .map(|p| (p.1, p.2))
            .collect();
        network.parcels.retain(|p| p.0.strong_count() > 0);
        lost
    };
    for (id, side) in lost {
        close(world, id, side);
    }
}
