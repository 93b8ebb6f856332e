//! The peer listener: who connects introduces itself first, and is then let in, answered or refused.
//!
//! On the accepting core. A stranger gets little: one message of at most 64 KiB within
//! [`Settings::handshake_within`], and memory only as its bytes arrive. At most [`Settings::strangers_max`]
//! connections are attended to; when another comes the oldest is closed, so those who only hold connections open
//! cannot keep a node out that introduces itself at once.

use super::handshake::{self, Hello, Message, NotReceived, Unreadable};
use super::refusal::{Refusal, RefusalCode, judge_hello};
use super::{Door, ServerCounters, Settings};
use bytes::{Bytes, BytesMut};
use runtime::{Core, Listener, Stream, Task, oneshot, select, timeout};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long the accept loop rests when it cannot accept.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// What a refused stranger has still sent is read in pieces of this.
const LINGER_BYTES: usize = 4 << 10;

/// Accepts connections of other nodes until it is dropped.
pub struct PeerServer {
    reception: Rc<Reception>,
    address: SocketAddr,
    _accepting: Task<()>,
}

struct Reception {
    core: Core,
    settings: Settings,
    door: RefCell<Rc<dyn Door>>,
    /// Who is attended to, oldest first. Dropping an entry's sender closes the connection.
    strangers: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    next_stranger: Cell<u64>,
    /// Requests that are being answered.
    requests: Cell<usize>,
    counters: Cell<ServerCounters>,
}

/// Holds a place among the requests.
struct Place<'a>(&'a Reception);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
    }
}

impl PeerServer {
    /// Lets nodes in through this listener.
    pub fn start(
        core: &Core,
        listener: Listener,
        door: Rc<dyn Door>,
        settings: Settings,
    ) -> PeerServer {
        let reception = Rc::new(Reception {
            core: core.clone(),
            settings,
            door: RefCell::new(door),
            strangers: RefCell::default(),
            next_stranger: Cell::new(0),
            requests: Cell::new(0),
            counters: Cell::default(),
        });
        let address = listener.local_addr();
        let accept = reception.clone().accept(listener);
        PeerServer {
            reception,
            address,
            _accepting: core.spawn_task("accept peers", accept),
        }
    }

    /// From now on another door decides; who is being answered is answered by the one before.
    pub fn set_door(&self, door: Rc<dyn Door>) {
        let before = self.reception.door.replace(door);
        drop(before);
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub fn counters(&self) -> ServerCounters {
        self.reception.counters.get()
    }
}

impl Reception {
    fn count(&self, change: impl FnOnce(&mut ServerCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    fn door(&self) -> Rc<dyn Door> {
        self.door.borrow().clone()
    }

    async fn accept(self: Rc<Self>, listener: Listener) {
        loop {
            match listener.accept().await {
                Ok(stream) => {
                    self.count(|counters| counters.accepted += 1);
                    let reception = self.clone();
                    let attend = async move { reception.attend(stream).await };
                    self.core.spawn("peer stranger", attend);
                }
                Err(error) => {
                    // Out of descriptors, mostly: waiting keeps the loop from spinning.
                    tracing::warn!(%error, "a connection of a node could not be accepted; raise the limit of open files if this persists");
                    self.core.sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    /// A place among the strangers; the oldest goes if there are too many.
    fn enter(&self) -> (u64, oneshot::Receiver<()>) {
        let (stays, evicted) = oneshot();
        let number = self.next_stranger.get();
        self.next_stranger.set(number + 1);
        let mut strangers = self.strangers.borrow_mut();
        strangers.push_back((number, stays));
        let oldest = match strangers.len() > self.settings.strangers_max {
            true => strangers.pop_front(),
            false => None,
        };
        drop(strangers);
        if oldest.is_some() {
            self.count(|counters| counters.evicted += 1);
        }
        (number, evicted)
    }

    fn leave(&self, number: u64) {
        let mut strangers = self.strangers.borrow_mut();
        if let Ok(at) = strangers.binary_search_by_key(&number, |(number, _)| *number) {
            strangers.remove(at);
        }
    }

    /// From the first byte to the hand-over or the end.
    async fn attend(&self, stream: Stream) {
        let (number, evicted) = self.enter();
        select(evicted, self.talk(stream)).await;
        self.leave(number);
    }

    async fn talk(&self, stream: Stream) {
        let mut buffer = BytesMut::new();
        let receive = handshake::receive(&stream, &mut buffer);
        let received = timeout(&self.core, self.settings.handshake_within, receive).await;
        match received {
            Ok(Ok(Message::Hello(hello))) if buffer.is_empty() => self.greet(stream, hello).await,
            Ok(Ok(Message::Seek { request_bytes })) => {
                self.answer(&stream, request_bytes as usize, &mut buffer)
                    .await;
            }
            Ok(Err(NotReceived::Unreadable(Unreadable::TooOld(level)))) => {
                self.refuse(&stream, Refusal::too_old(level)).await;
            }
            other => {
                self.count(|counters| counters.malformed += 1);
                let peer = stream.peer_addr();
                match other {
                    Ok(Ok(_)) => tracing::debug!(%peer, "a connection began with another message"),
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection did not begin"),
                    Err(_) => tracing::debug!(%peer, "a connection did not begin in time"),
                }
            }
        }
    }

    /// Says why, and reads on until the other end has taken it: a connection that is closed with bytes unread is
    /// reset, and the reset would overtake the reason.
    async fn refuse(&self, stream: &Stream, refusal: Refusal) {
        self.count(|counters| counters.refusals_given += 1);
        let peer = stream.peer_addr();
        tracing::debug!(%peer, "a connection is refused: {refusal}");
        let message = vec![Message::Refused(refusal).encode()];
        let say = async {
            stream.write_all(message).await?;
            let mut unread = BytesMut::with_capacity(LINGER_BYTES);
            loop {
                let (received, buffer) = stream.read(unread).await;
                if received? == 0 {
                    return Ok::<(), std::io::Error>(());
                }
                unread = buffer;
                unread.clear();
            }
        };
        // Who does not take it learns it at the next attempt.
        let _ = timeout(&self.core, self.settings.handshake_within, say).await;
    }

    /// A link is wanted.
    async fn greet(&self, stream: Stream, hello: Hello) {
        let door = self.door();
        let me = door.introduction();
        let judged = judge_hello(&me, &hello).and_then(|()| door.admit(&hello.who));
        if let Err(refusal) = judged {
            return self.refuse(&stream, refusal).await;
        }
        // Nothing is in flight on it, and there is no other handle, so it can be sent away.
        if let Ok(parcel) = stream.into_parcel() {
            self.count(|counters| counters.handed_over += 1);
            door.hand_over(me.landing(hello.core), parcel, hello);
        }
    }

    /// A request is to be answered.
    async fn answer(&self, stream: &Stream, request_bytes: usize, buffer: &mut BytesMut) {
        if request_bytes > self.settings.request_bytes_max {
            let bytes_max = self.settings.request_bytes_max;
            let sentence = format!("a request of {request_bytes} bytes is longer than {bytes_max}");
            return self
                .refuse(stream, Refusal::new(RefusalCode::Malformed, sentence))
                .await;
        }
        if self.requests.get() >= self.settings.requests_max {
            let busy = "this node answers as many requests as it can; try again";
            return self.refuse(stream, Refusal::not_ready(busy)).await;
        }
        self.requests.set(self.requests.get() + 1);
        let _place = Place(self);
        let within = self.settings.handshake_within;
        let receive = handshake::receive_bytes(stream, buffer, request_bytes);
        let Ok(Ok(request)) = timeout(&self.core, within, receive).await else {
            return self.count(|counters| counters.malformed += 1);
        };
        let within = self.settings.answer_within;
        let answer = match timeout(&self.core, within, self.door().sought(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                let late = "this node found no answer in time; try again";
                return self.refuse(stream, Refusal::not_ready(late)).await;
            }
        };
        if let Err(refusal) = self.give(stream, answer).await {
            self.refuse(stream, refusal).await;
        }
    }

    async fn give(&self, stream: &Stream, answer: Bytes) -> Result<(), Refusal> {
        let (bytes, bytes_max) = (answer.len(), self.settings.answer_bytes_max);
        let answer_bytes = match u32::try_from(bytes) {
            Ok(answer_bytes) if bytes <= bytes_max => answer_bytes,
            _ => {
                tracing::error!(
                    bytes,
                    bytes_max,
                    "an answer to a node is too long to be sent"
                );
                let sentence = format!("an answer of {bytes} bytes is longer than {bytes_max}");
                return Err(Refusal::new(RefusalCode::Malformed, sentence));
            }
        };
        let head = Message::Found { answer_bytes }.encode();
        let sending = stream.write_all(vec![head, answer]);
        if let Ok(Ok(())) = timeout(&self.core, self.settings.answer_within, sending).await {
            self.count(|counters| counters.requests_answered += 1);
        }
        Ok(())
    }
}
