//! One outgoing link: a core of this node sends to another node over one connection at a time.
//!
//! A task of its own lives as long as the link: it resolves, connects, introduces itself, sends what is queued,
//! listens for echoes, and begins anew when that ends. What was queued then is lost, and the host is told. Nothing is
//! queued while the link is down: who sends is told at once that it is lost.

use super::frame::{self, Cutter, HEADER_BYTES, Malformed, PING, PONG, TO_LANDING};
use super::handshake::{self, Hello, Message, NotReceived, Unreadable, get_refusal};
use super::introduction::Introduction;
use super::queue::{Queue, WRITE_BYTES_MAX};
use super::refusal::{Refusal, RefusalCode, judge_welcome};
use super::{Destination, Host, LinkCounters, Names, Sent, Settings, Unresolved};
use bytes::{Buf, Bytes, BytesMut};
use runtime::{Core, Either, Instant, Notify, Stream, select, timeout};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::mem::{Discriminant, discriminant};
use std::rc::Rc;
use std::time::Duration;

/// What the receiving end sends back is never longer.
const BACK_BYTES_MAX: usize = 4 << 10;

/// Why a link is down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// The machine answers, and nobody listens there: the process is not running.
    #[error("the connection was refused: nothing listens there")]
    Refused,
    /// Nothing answers: the machine or the network is down, or too slow.
    #[error("there was no answer in time")]
    TimedOut,
    /// The other end has reset the connection, as the system does for a process that died.
    #[error("the connection was reset")]
    Reset,
    /// The other end has closed the connection.
    #[error("the connection was closed by the other end")]
    Closed,
    /// The other node, or this one, does not want the link.
    #[error("{0}")]
    Rejected(Refusal),
    #[error("the other end does not keep to the protocol: {0}")]
    Malformed(String),
    #[error("the connection failed: {0}")]
    Failed(String),
    /// The node has another address now, and is connected to there.
    #[error("the node has another address")]
    Redirected,
}

impl LinkEnd {
    /// Whether the other machine has answered that this connection has nobody at its other end: a process that died
    /// is known by that at once. After [`TimedOut`](LinkEnd::TimedOut) it may well live.
    pub fn is_gone(&self) -> bool {
        matches!(self, LinkEnd::Refused | LinkEnd::Reset | LinkEnd::Closed)
    }
}

impl From<io::Error> for LinkEnd {
    fn from(error: io::Error) -> LinkEnd {
        use io::ErrorKind::*;
        match error.kind() {
            ConnectionRefused => LinkEnd::Refused,
            ConnectionReset | ConnectionAborted | BrokenPipe => LinkEnd::Reset,
            TimedOut => LinkEnd::TimedOut,
            _ => LinkEnd::Failed(error.to_string()),
        }
    }
}

impl From<NotReceived> for LinkEnd {
    fn from(error: NotReceived) -> LinkEnd {
        match error {
            NotReceived::Closed => LinkEnd::Closed,
            NotReceived::Failed(error) => error.into(),
            NotReceived::Unreadable(Unreadable::TooOld(level)) => {
                LinkEnd::Rejected(Refusal::too_old(level))
            }
            NotReceived::Unreadable(error) => LinkEnd::Malformed(error.to_string()),
        }
    }
}

impl From<Malformed> for LinkEnd {
    fn from(error: Malformed) -> LinkEnd {
        LinkEnd::Malformed(error.to_string())
    }
}

/// Where a link goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `host:port`.
    pub address: String,
    /// None: any.
    pub incarnation: Option<u32>,
}

/// What the host was told last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Up,
    /// A refusal with another code is news: the host may have to act on that one.
    Down(Discriminant<LinkEnd>, Option<RefusalCode>),
}

/// An echo that is awaited, or when the last one was asked for.
#[derive(Clone, Copy)]
enum Echo {
    Awaited { stamp: Instant },
    Idle { since: Instant },
}

pub(super) struct Link {
    core: Core,
    host: Rc<dyn Host>,
    names: Names,
    settings: Rc<Settings>,
    node: i32,
    target: RefCell<Target>,
    /// Whom it has reached, while it is up.
    reached: RefCell<Option<Introduction>>,
    queue: RefCell<Queue>,
    /// Something was queued.
    queued: Notify,
    echo: Cell<Echo>,
    told: Cell<Told>,
    /// The refusal that the log was told last.
    refusal_told: RefCell<Option<Refusal>>,
    counters: Cell<LinkCounters>,
}

/// While this lives the link is up.
struct Up<'a>(&'a Link);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.reached.take();
        let lost = self.0.queue.borrow_mut().lose();
        self.0.count(|counters| counters.frames_dropped += lost);
    }
}

impl Link {
    pub(super) fn new(
        core: Core,
        host: Rc<dyn Host>,
        names: Names,
        settings: Rc<Settings>,
        node: i32,
        target: Target,
    ) -> Rc<Link> {
        let since = core.now();
        Rc::new(Link {
            core,
            host,
            names,
            settings,
            node,
            target: RefCell::new(target),
            reached: RefCell::default(),
            queue: RefCell::default(),
            queued: Notify::new(),
            echo: Cell::new(Echo::Idle { since }),
            told: Cell::new(Told::Nothing),
            refusal_told: RefCell::default(),
            counters: Cell::default(),
        })
    }

    /// Sets the target. Says whether the link has to begin anew: not if nothing changes, nor if it has reached that
    /// incarnation there already.
    pub(super) fn redirect(&self, target: Target) -> bool {
        let before = self.target.replace(target.clone());
        let is_reached = |reached: &Introduction| {
            let expected = target.incarnation;
            expected.is_none_or(|incarnation| incarnation == reached.incarnation)
        };
        let stays = before == target
            || before.address == target.address && self.reached(is_reached) == Some(true);
        !stays
    }

    /// Queues a frame.
    pub(super) fn send(&self, to: Destination, kind: u8, payload: Vec<Bytes>) -> Sent {
        let payload_bytes: usize = payload.iter().map(Bytes::len).sum();
        let bytes = HEADER_BYTES + payload_bytes;
        let sent = self.room_for(to, bytes);
        if sent == Sent::Queued {
            let to = match to {
                Destination::Core(core) => core,
                Destination::Landing => TO_LANDING,
            };
            self.queue.borrow_mut().put(kind, to, payload);
            self.queued.notify_one();
        } else {
            self.count(|counters| counters.frames_dropped += 1);
        }
        sent
    }

    fn room_for(&self, to: Destination, bytes: usize) -> Sent {
        if bytes > self.settings.frame_bytes_max {
            return Sent::TooLarge;
        }
        let reached = self.reached.borrow();
        let has_core = |reached: &Introduction| match to {
            Destination::Core(core) => core < reached.cores,
            Destination::Landing => true,
        };
        let queued = self.queue.borrow().bytes();
        // The largest frame gets through alone, however small the queue.
        let fits = queued == 0 || queued + bytes <= self.settings.queue_bytes_max;
        match reached.as_ref().is_some_and(has_core) && fits {
            true => Sent::Queued,
            false => Sent::Dropped,
        }
    }

    /// Whom the link has reached; nobody while it is down.
    pub(super) fn reached<T>(&self, look: impl FnOnce(&Introduction) -> T) -> Option<T> {
        self.reached.borrow().as_ref().map(look)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.borrow().bytes()
    }

    pub(super) fn counters(&self) -> LinkCounters {
        let queued_bytes = self.queued_bytes() as u64;
        LinkCounters {
            queued_bytes,
            ..self.counters.get()
        }
    }

    fn count(&self, change: impl FnOnce(&mut LinkCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    /// Keeps the link up for as long as the task runs.
    pub(super) async fn run(self: Rc<Link>) {
        if self.told.get() == Told::Up {
            self.tell_down(&LinkEnd::Redirected);
        }
        let mut pause = self.settings.retry_min;
        loop {
            let began = self.core.now();
            let Err(end) = self.connect_and_serve().await;
            self.count(|counters| counters.disconnected += 1);
            if self.told.get() == Told::Up && self.core.now() - began > self.settings.retry_max {
                pause = self.settings.retry_min;
            }
            self.tell_log(&end);
            self.tell_down(&end);
            let rest = match &end {
                LinkEnd::Rejected(refusal) if !refusal.code.is_transient() => {
                    self.settings.refused_retry
                }
                _ => self.upper_half(pause),
            };
            pause = (pause * 2).min(self.settings.retry_max);
            self.core.sleep(rest).await;
        }
    }

    /// Between a half of `pause` and all of it: those who lost the same node do not come back together.
    fn upper_half(&self, pause: Duration) -> Duration {
        let half = pause / 2;
        let spread = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.core.random() % spread)
    }

    /// Tells the host, if that is news.
    fn tell_down(&self, end: &LinkEnd) {
        let refused = match end {
            LinkEnd::Rejected(refusal) => Some(refusal.code),
            _ => None,
        };
        let told = Told::Down(discriminant(end), refused);
        if self.told.replace(told) != told {
            self.host.link_down(self.node, end);
        }
    }

    /// A refusal is told once, until it changes or the link was up.
    fn tell_log(&self, end: &LinkEnd) {
        let (node, core) = (self.node, self.core.id());
        match end {
            LinkEnd::Rejected(refusal) => {
                self.count(|counters| counters.refusals_received += 1);
                let told = self.refusal_told.replace(Some(refusal.clone()));
                if !refusal.code.is_transient() && told.as_ref() != Some(refusal) {
                    let address = &self.target.borrow().address;
                    tracing::warn!(node, %address, core, "no link to node {node}: {refusal}");
                }
            }
            end => tracing::debug!(node, core, "the link to node {node} is down: {end}"),
        }
    }

    async fn connect_and_serve(&self) -> Result<Infallible, LinkEnd> {
        let stream = self.connect().await?;
        let mut buffer = BytesMut::new();
        let asked_at = self.core.now();
        let reached = self.introduce(&stream, &mut buffer).await?;
        let up = self.come_up(reached, asked_at);
        let listening = self.listen(&stream, buffer);
        let end = match select(listening, self.drain(&stream)).await {
            Either::Left(end) | Either::Right(end) => end,
        };
        drop(up);
        end
    }

    async fn connect(&self) -> Result<Stream, LinkEnd> {
        let address = self.target.borrow().address.clone();
        let within = self.settings.connect_within;
        let resolved = timeout(&self.core, within, self.names.addresses(&address)).await;
        let addresses = resolved.map_err(|_| LinkEnd::TimedOut)??;
        let mut end = LinkEnd::TimedOut;
        for address in addresses {
            end = match timeout(&self.core, within, self.core.connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error.into(),
                Err(_) => LinkEnd::TimedOut,
            };
        }
        Err(end)
    }

    /// The handshake.
    async fn introduce(
        &self,
        stream: &Stream,
        buffer: &mut BytesMut,
    ) -> Result<Introduction, LinkEnd> {
        let me = self.host.introduction();
        let expects_incarnation = self.target.borrow().incarnation;
        let hello = Hello {
            who: me.clone(),
            core: self.core.id() as u16,
            expects_node: self.node,
            expects_incarnation,
        };
        let talk = async {
            stream
                .write_all(vec![Message::Hello(hello).encode()])
                .await?;
            handshake::receive(stream, buffer).await
        };
        let answer = timeout(&self.core, self.settings.handshake_within, talk).await;
        match answer.map_err(|_| LinkEnd::TimedOut)?? {
            Message::Welcome(reached) => {
                judge_welcome(&me, self.node, expects_incarnation, &reached)
                    .map_err(LinkEnd::Rejected)?;
                Ok(reached)
            }
            Message::Refused(refusal) => Err(LinkEnd::Rejected(refusal)),
            other => Err(LinkEnd::Malformed(format!(
                "HELLO was answered by {other:?}"
            ))),
        }
    }

    fn come_up(&self, reached: Introduction, asked_at: Instant) -> Up<'_> {
        let now = self.core.now();
        self.reached.replace(Some(reached.clone()));
        let up = Up(self);
        self.refusal_told.take();
        self.echo.set(Echo::Idle { since: now });
        self.count(|counters| {
            counters.connected += 1;
            counters.round_trip = now - asked_at;
        });
        self.told.set(Told::Up);
        self.host.link_up(&reached);
        up
    }

    /// Sends what is queued, and a PING when one is due.
    async fn drain(&self, stream: &Stream) -> Result<Infallible, LinkEnd> {
        let Settings {
            keep_alive,
            dead_after,
            ..
        } = *self.settings;
        let mut sent_at = self.core.now();
        loop {
            if self.is_echo_overdue() {
                // If it was this core that was busy, what has come meanwhile is heard first.
                self.core.yield_now().await;
                if self.is_echo_overdue() {
                    return Err(LinkEnd::TimedOut);
                }
            }
            let now = self.core.now();
            self.put_ping(now, sent_at);
            let pieces = self.queue.borrow_mut().take();
            if pieces.is_empty() {
                let due = self.core.sleep_until(sent_at + keep_alive);
                if let Either::Left(()) = select(self.queued.wait(), due).await {
                    // The others of this turn send too: one write takes it all.
                    self.core.yield_now().await;
                }
                continue;
            }
            let written = timeout(&self.core, dead_after, stream.write_all(pieces)).await;
            written.map_err(|_| LinkEnd::TimedOut)??;
            let (bytes, frames) = self.queue.borrow_mut().written();
            self.count(|counters| {
                counters.bytes_out += bytes;
                counters.frames_out += frames;
                counters.writes_out += 1;
            });
            sent_at = self.core.now();
        }
    }

    fn is_echo_overdue(&self) -> bool {
        match self.echo.get() {
            Echo::Awaited { stamp } => self.core.now() - stamp >= self.settings.dead_after,
            Echo::Idle { .. } => false,
        }
    }

    /// Puts a PING at the end of the queue: one that asks for its echo now and then, unless more waits than one write
    /// takes (then writes that end show that the other end reads); an empty one if nothing else is to be said.
    fn put_ping(&self, now: Instant, sent_at: Instant) {
        let mut queue = self.queue.borrow_mut();
        match self.echo.get() {
            Echo::Idle { since }
                if now - since >= self.settings.echo_every
                    && queue.waiting_bytes() < WRITE_BYTES_MAX =>
            {
                let stamp = Bytes::copy_from_slice(&now.as_nanos().to_be_bytes());
                queue.put(PING, TO_LANDING, vec![stamp]);
                self.echo.set(Echo::Awaited { stamp: now });
            }
            _ if queue.waiting_bytes() == 0 && now - sent_at >= self.settings.keep_alive => {
                queue.put(PING, TO_LANDING, Vec::new());
            }
            _ => {}
        }
    }

    /// Takes in the little that comes back: echoes, or why the connection ends.
    async fn listen(&self, stream: &Stream, buffer: BytesMut) -> Result<Infallible, LinkEnd> {
        let mut cutter = Cutter::new(buffer, BACK_BYTES_MAX);
        loop {
            while let Some(mut frame) = cutter.next_frame()? {
                self.count(|counters| counters.frames_in += 1);
                match frame.kind {
                    PONG if frame.payload.len() == 8 => self.on_echo(frame.payload.get_u64()),
                    frame::REFUSED => {
                        let refusal = get_refusal(&mut frame.payload);
                        return Err(match refusal {
                            Ok(refusal) => LinkEnd::Rejected(refusal),
                            Err(error) => LinkEnd::Malformed(error.to_string()),
                        });
                    }
                    kind => {
                        let bytes = frame.payload.len();
                        return Err(Malformed::Unknown { kind, bytes }.into());
                    }
                }
            }
            let (received, buffer) = stream.read(cutter.room()).await;
            let received = received?;
            if received == 0 {
                return Err(LinkEnd::Closed);
            }
            self.count(|counters| counters.bytes_in += received as u64);
            cutter.filled(buffer, received);
        }
    }

    /// An echo has come; one that nobody awaits says nothing.
    fn on_echo(&self, nanos: u64) {
        match self.echo.get() {
            Echo::Awaited { stamp } if stamp.as_nanos() == nanos => {
                let sample = self.core.now() - stamp;
                self.count(|counters| {
                    // As TCP smooths its own: an eighth of the news.
                    counters.round_trip = (counters.round_trip * 7 + sample) / 8;
                });
                self.echo.set(Echo::Idle { since: stamp });
            }
            _ => {}
        }
    }
}
