//! A client's connection: frames in, answers out, in order.
//!
//! Two tasks serve it. The reader cuts frames, reserves their memory before the body is read, and starts each
//! request; the writer awaits the answers in the order of the requests and writes what is ready in one go. A
//! request starts when those before it on the connection are answered, as in Kafka, except that a Produce may
//! follow Produces that are still under way: its mail to the owners leaves in order, so the batches of one
//! connection land in order too. What a slow or dead client can hold is bounded by [`IN_FLIGHT_MAX`], by the
//! budget of the core and by the idle limit.

use crate::admission::{Admission, Full};
use crate::handlers::{self, Answered, Session};
use crate::shard::Shard;
use crate::shard::limits::Reservation;
use crate::shard::mail::Mail;
use bytes::{Bytes, BytesMut};
use protocol::api::ApiKey;
use protocol::codec::Decoder;
use protocol::frame::{self, PREFIX_BYTES};
use protocol::messages::RequestHeader;
use runtime::{Instant, Notify, Parcel, Stream};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Requests of one connection that may be under way.
const IN_FLIGHT_MAX: usize = 64;
/// Receive buffer of an idle connection.
const RECEIVE_BYTES: usize = 8 << 10;
/// Receive buffer of a connection that has filled the smaller one: fewer, larger receives.
const RECEIVE_BYTES_BUSY: usize = 64 << 10;
/// How often a silent connection is looked at before it is cut for that, and how rarely at most.
const IDLE_LOOKS: u32 = 8;
const IDLE_LOOK_MAX: Duration = Duration::from_secs(30);
/// The log is told of refused connections at most this often.
const REFUSALS_TOLD_EACH: Duration = Duration::from_secs(10);
/// The core that accepts.
pub const ACCEPTING_CORE: usize = 0;

/// The connections of a core; on the accepting core also those of the others.
#[derive(Default)]
pub struct Connections {
    pub open: usize,
    pub accepted: u64,
    /// On the accepting core: those of all cores.
    admission: Admission,
    /// What is under way on a connection has the shard, so the shard does not keep the connection.
    lanes: std::collections::BTreeMap<u64, Weak<Lane>>,
    next_id: u64,
    /// Peers whose malformed frames were told to the log, so that each is told once.
    pub malformed: u64,
    /// Closed at once, as a limit was reached.
    pub refused: u64,
    /// When the log was last told of one.
    refusal_told: Option<Instant>,
}

impl Connections {
    /// Whether this core accepts clients.
    pub fn is_accepting(&self) -> bool {
        self.admission.is_accepting()
    }

    fn open_lanes(&self) -> impl Iterator<Item = Rc<Lane>> {
        self.lanes.values().filter_map(Weak::upgrade)
    }
}

/// What the two tasks of a connection share.
struct Lane {
    stream: Stream,
    answers: RefCell<VecDeque<InFlight>>,
    /// Requests are first polled by the reader, in the writer's name: who completes one wakes the writer.
    writer: RefCell<Option<Waker>>,
    /// The reader may start more.
    answered: Notify,
    closed: Cell<bool>,
    /// When the client was last heard.
    heard: Cell<Instant>,
    idle: Cell<bool>,
}

struct InFlight {
    key: ApiKey,
    work: Pin<Box<dyn Future<Output = Answered>>>,
    done: Option<Answered>,
    _memory: Reservation,
}

/// Why a connection ends.
enum End {
    ClosedByPeer,
    Idle,
    Stopping,
    Failed(std::io::Error),
    Malformed(String),
}

/// Lets clients in through these listeners, the node's in their order. On the accepting core.
pub fn begin_accepting(shard: &Rc<Shard>, listeners: Vec<runtime::Listener>) {
    shard.connections.borrow_mut().admission = Admission::new(shard.core.cores(), listeners.len());
    for (number, listener) in listeners.into_iter().enumerate() {
        shard
            .core
            .spawn("accept", accept(shard.clone(), listener, number));
    }
}

/// Gives each connection of a listener to the core that has the fewest.
async fn accept(shard: Rc<Shard>, listener: runtime::Listener, number: usize) {
    loop {
        let accepted = runtime::select(listener.accept(), shard.closing.wait()).await;
        let runtime::Either::Left(accepted) = accepted else {
            return; // Who comes now is refused by the system, and turns to another node.
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, mostly: waiting keeps the loop from spinning.
                tracing::warn!(%error, "a connection could not be accepted; raise the limit of open files if this persists");
                shard.core.sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let delay = shard.delay_of_connection(number);
        if !delay.is_zero() {
            shard.core.sleep(delay).await;
        }
        if shard.stopping.get() || shard.is_handing_over() {
            return;
        }
        let Ok(core) = shard.admit(stream.peer_addr().ip(), number) else {
            stream.shutdown();
            continue;
        };
        if core == shard.core.id() {
            start(&shard, stream, number);
        } else {
            match stream.into_parcel() {
                Ok(parcel) => {
                    let listener = number;
                    shard.post.send(core, Mail::Connection { parcel, listener });
                }
                Err(stream) => start(&shard, stream, number),
            }
        }
    }
}

/// A connection that the accepting core has given to this one.
pub fn adopt(shard: &Rc<Shard>, parcel: Parcel, listener: usize) {
    start(shard, shard.core.adopt(parcel), listener);
}

/// A core has one connection less.
pub fn closed_on(shard: &Shard, core: usize, address: IpAddr, listener: usize) {
    let mut connections = shard.connections.borrow_mut();
    connections.admission.closed(core, address, listener);
}

impl Shard {
    /// How long a connection that has just come through this listener waits.
    fn delay_of_connection(&self, listener: usize) -> Duration {
        let view = self.view.borrow();
        let limits = &self.settings.listeners[listener].limits;
        let mut connections = self.connections.borrow_mut();
        let now = self.core.now();
        let admission = &mut connections.admission;
        admission.delay(now, listener, view.broker(), limits)
    }

    /// The core for a connection from this address.
    fn admit(&self, address: IpAddr, listener: usize) -> Result<usize, Full> {
        let view = self.view.borrow();
        let limits = &self.settings.listeners[listener].limits;
        let mut connections = self.connections.borrow_mut();
        let admitted = connections
            .admission
            .admit(address, listener, view.broker(), limits);
        if let Err(full) = &admitted {
            connections.refused += 1;
            let now = self.core.now();
            let told = connections.refusal_told;
            if told.is_none_or(|told| now.since(told) >= REFUSALS_TOLD_EACH) {
                connections.refusal_told = Some(now);
                let refused = connections.refused;
                tracing::warn!(%address, refused, "connections are refused: {full}");
            }
        }
        admitted
    }
}

/// Cuts every connection, at a stop.
pub fn shut_all(shard: &Shard) {
    for lane in shard.connections.borrow().open_lanes() {
        lane.stream.shutdown();
    }
}

/// Cuts connections that have been silent for `connections.max.idle.ms`, for as long as the core runs. One look at
/// all of them now and then is cheaper than a timer for every receive.
pub async fn cut_idle(shard: Rc<Shard>) {
    loop {
        let limit = shard.view.borrow().broker().connections_max_idle_ms;
        let limit = limit.map_or(Duration::MAX, Duration::from_millis);
        let pause = (limit / IDLE_LOOKS).clamp(Duration::from_millis(10), IDLE_LOOK_MAX);
        shard.core.sleep(pause).await;
        let now = shard.core.now();
        for lane in shard.connections.borrow().open_lanes() {
            if now - lane.heard.get() >= limit {
                lane.idle.set(true);
                lane.stream.shutdown();
            }
        }
    }
}

fn start(shard: &Rc<Shard>, stream: Stream, listener: usize) {
    let peer = stream.peer_addr();
    let lane = Rc::new(Lane {
        stream,
        answers: RefCell::default(),
        writer: RefCell::default(),
        answered: Notify::new(),
        closed: Cell::new(false),
        heard: Cell::new(shard.core.now()),
        idle: Cell::new(false),
    });
    let id = {
        let mut connections = shard.connections.borrow_mut();
        connections.open += 1;
        connections.accepted += 1;
        connections.next_id += 1;
        let id = connections.next_id;
        connections.lanes.insert(id, Rc::downgrade(&lane));
        id
    };
    let session = Rc::new(Session::new(shard.clone(), peer, listener));
    shard
        .core
        .spawn("connection writer", write_answers(lane.clone()));
    let shard = shard.clone();
    shard.core.clone().spawn("connection", async move {
        let end = serve(&shard, &session, &lane).await;
        lane.closed.set(true);
        lane.stream.shutdown();
        lane.wake_writer();
        let mut connections = shard.connections.borrow_mut();
        connections.open -= 1;
        connections.lanes.remove(&id);
        match end {
            End::Malformed(reason) => {
                connections.malformed += 1;
                tracing::warn!(%peer, reason, "connection closed: what came is not a request of ours");
            }
            End::Failed(error) => tracing::debug!(%peer, %error, "connection failed"),
            End::Idle => tracing::debug!(%peer, "connection closed: idle"),
            End::ClosedByPeer | End::Stopping => {}
        }
        drop(connections);
        let address = peer.ip();
        let closed = Mail::ConnectionClosed { address, listener };
        shard.post.send(ACCEPTING_CORE, closed);
    });
}

/// Reads requests and starts them until the connection ends.
async fn serve(shard: &Rc<Shard>, session: &Rc<Session>, lane: &Rc<Lane>) -> End {
    let frame_bytes_max = shard.view.borrow().broker().socket_request_max_bytes;
    let mut buffer = BytesMut::with_capacity(RECEIVE_BYTES);
    let mut chunk = RECEIVE_BYTES;
    // Requests are started on its behalf: one that had to wait for it would be overtaken by those behind it.
    while lane.writer.borrow().is_none() {
        shard.core.yield_now().await;
    }
    loop {
        if shard.stopping.get() {
            return End::Stopping;
        }
        if lane.closed.get() {
            return End::ClosedByPeer;
        }
        let announced = match frame::announced_bytes(&buffer, frame_bytes_max) {
            Ok(announced) => announced,
            Err(error) => return End::Malformed(error.to_string()),
        };
        match announced {
            Some(bytes) => {
                // Memory first, body after: who gets none does not read on (back-pressure).
                let memory = shard.budget.reserve(bytes).await;
                let whole = PREFIX_BYTES + bytes;
                while buffer.len() < whole {
                    let missing = whole - buffer.len();
                    if buffer.capacity() - buffer.len() < missing.min(chunk) || bytes > chunk {
                        buffer.reserve(missing);
                    }
                    match receive(shard, lane, &mut buffer).await {
                        Ok(n) => {
                            if n >= chunk / 2 {
                                chunk = RECEIVE_BYTES_BUSY;
                            }
                        }
                        Err(end) => return end,
                    }
                }
                let frame = match frame::cut(&mut buffer, frame_bytes_max) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => unreachable!("the whole frame of {bytes} bytes is there"),
                    Err(error) => return End::Malformed(error.to_string()),
                };
                if let Err(end) = admit(session, lane, frame, memory).await {
                    return end;
                }
            }
            None => {
                if buffer.capacity() - buffer.len() < PREFIX_BYTES {
                    buffer.reserve(chunk);
                }
                if let Err(end) = receive(shard, lane, &mut buffer).await {
                    return end;
                }
            }
        }
    }
}

/// One receive into the buffer's spare room.
async fn receive(shard: &Shard, lane: &Lane, buffer: &mut BytesMut) -> Result<usize, End> {
    let (received, filled) = lane.stream.read(std::mem::take(buffer)).await;
    match received {
        Ok(0) if lane.idle.get() => Err(End::Idle),
        Ok(0) => Err(End::ClosedByPeer),
        Ok(n) => {
            lane.heard.set(shard.core.now());
            *buffer = filled;
            Ok(n)
        }
        Err(error) => Err(End::Failed(error)),
    }
}

/// Starts a request as soon as its place in the order allows.
async fn admit(
    session: &Rc<Session>,
    lane: &Rc<Lane>,
    frame: Bytes,
    memory: Reservation,
) -> Result<(), End> {
    let mut input = Decoder::new(frame);
    let header =
        RequestHeader::decode(&mut input).map_err(|error| End::Malformed(error.to_string()))?;
    let key = header.key;
    while !may_start(&lane.answers.borrow(), key) {
        lane.answered.wait().await;
        if lane.closed.get() {
            return Err(End::ClosedByPeer);
        }
    }
    let work = handlers::start(session, header, input).map_err(End::Malformed)?;
    let mut started = InFlight {
        key,
        work,
        done: None,
        _memory: memory,
    };
    // The first poll happens here, in the order of arrival: a Produce posts its mail before its first wait.
    let writer = lane.writer.borrow().clone();
    let writer = writer.expect("nothing is read before the writer waits");
    let done = started.poll(&mut Context::from_waker(&writer));
    lane.answers.borrow_mut().push_back(started);
    if done {
        lane.wake_writer();
    }
    Ok(())
}

fn may_start(answers: &VecDeque<InFlight>, key: ApiKey) -> bool {
    match answers.back() {
        None => true,
        Some(last) => {
            key == ApiKey::Produce && last.key == ApiKey::Produce && answers.len() < IN_FLIGHT_MAX
        }
    }
}

impl InFlight {
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        if self.done.is_none()
            && let Poll::Ready(answered) = self.work.as_mut().poll(context)
        {
            self.done = Some(answered);
        }
        self.done.is_some()
    }
}

/// Writes answers in the order of the requests, all that are ready at once.
async fn write_answers(lane: Rc<Lane>) {
    while let Some(parts) = std::future::poll_fn(|context| lane.poll_ready(context)).await {
        let written = match parts.is_empty() {
            true => Ok(()),
            false => lane.stream.write_all(parts).await,
        };
        lane.answered.notify_one();
        if written.is_err() {
            break;
        }
    }
    lane.closed.set(true);
    lane.stream.shutdown();
    // Whoever waits in a handler of this connection has nobody to answer any more.
    let abandoned = std::mem::take(&mut *lane.answers.borrow_mut());
    drop(abandoned);
    lane.answered.notify_one();
}

impl Lane {
    /// The parts of all answers that are ready, from the front. `None`: the connection ends.
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Option<Vec<Bytes>>> {
        if self.closed.get() {
            return Poll::Ready(None);
        }
        if self.writer.borrow().is_none() {
            *self.writer.borrow_mut() = Some(context.waker().clone());
        }
        let mut answers = self.answers.borrow_mut();
        let mut parts = Vec::new();
        let mut any = false;
        while let Some(front) = answers.front_mut() {
            if !front.poll(context) {
                break;
            }
            any = true;
            let ready = answers.pop_front().expect("front was there");
            match ready.done.expect("polled to its end") {
                Answered::Frame(frame) => parts.extend(frame),
                Answered::Nothing => {}
                // A handler wants the connection closed.
                Answered::Close => return Poll::Ready(None),
            }
        }
        if any {
            Poll::Ready(Some(parts))
        } else {
            Poll::Pending
        }
    }

    fn wake_writer(&self) {
        if let Some(writer) = &*self.writer.borrow() {
            writer.wake_by_ref();
        }
    }
}
