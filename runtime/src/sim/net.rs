//! Simulated sockets: handles on the ends that the [network](super::network) keeps.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::network::{self, Answer, ConnectionId, Side, ip_of};
use super::port::Port;
use crate::net::{Listener, ListenerBackend, Parcel, ParcelBackend, Stream, StreamBackend};
use crate::sync::oneshot::oneshot;

pub(crate) struct SimListener {
    port: Rc<Port>,
    local: SocketAddr,
}

pub(crate) fn listen(port: &Rc<Port>, addr: SocketAddr, backlog: u32) -> io::Result<Listener> {
    if !port.is_alive() {
        return Err(io::ErrorKind::NetworkDown.into());
    }
    let mut network = port.world.network.borrow_mut();
    let local = network.listen(port.node, port.life, addr, backlog)?;
    Ok(Listener(ListenerBackend::Sim(SimListener {
        port: Rc::clone(port),
        local,
    })))
}

impl SimListener {
    pub(crate) async fn accept(&self) -> io::Result<SimStream> {
        let (id, peer) = poll_fn(|cx| {
            let mut network = self.port.world.network.borrow_mut();
            match network.accept(self.local, cx.waker()) {
                Some(next) => Poll::Ready(next),
                None => Poll::Pending,
            }
        })
        .await;
        Ok(SimStream::new(&self.port, id, 1, peer))
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if self.port.is_alive() {
            network::close_listener(&self.port.world, self.local);
        }
    }
}

/// Waits for a time of the world, without a timer of the core.
async fn pass_time(port: &Port, time: Duration) {
    let (done, outcome) = oneshot();
    port.world
        .plan_in(time, "connect", port.node as u64, move |_| {
            // A caller that has given up is not waiting.
            let _ = done.send(());
        });
    let _ = outcome.await;
}

pub(crate) async fn connect(port: &Rc<Port>, addr: SocketAddr) -> io::Result<Stream> {
    if !port.is_alive() {
        return pending().await;
    }
    let world = &port.world;
    let deadline = world.now() + world.options.network.connect_timeout;
    let from = SocketAddr::new(ip_of(port.node), world.network.borrow_mut().free_port());
    let there = world
        .network
        .borrow_mut()
        .trip(world, port.node, usize::MAX);
    pass_time(port, there).await;
    loop {
        let caller = (port.node, port.life);
        let answer = world.network.borrow_mut().answer(world, caller, from, addr);
        let back = world
            .network
            .borrow_mut()
            .trip(world, usize::MAX, port.node);
        match answer {
            Answer::Connected(id) => {
                let stream = SimStream::new(port, id, 0, addr);
                pass_time(port, back).await;
                return Ok(Stream(StreamBackend::Sim(stream)));
            }
            Answer::Refused => {
                pass_time(port, back).await;
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Answer::Silence if world.now() >= deadline => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Answer::Silence => pass_time(port, world.options.network.retry).await,
        }
    }
}

pub(crate) fn adopt(port: &Rc<Port>, parcel: Parcel) -> Stream {
    let ParcelBackend::Sim(SimParcel { id, side, peer, .. }) = parcel.0 else {
        panic!("a real connection was sent to a simulated core");
    };
    port.world.network.borrow_mut().unpark_parcel(id, side);
    Stream(StreamBackend::Sim(SimStream::new(port, id, side, peer)))
}

/// A connection between two cores. The world watches the letter: when it is dropped unopened the
/// connection closes.
pub(crate) struct SimParcel {
    id: ConnectionId,
    side: Side,
    peer: SocketAddr,
    _letter: Arc<()>,
}

#[derive(Clone)]
pub(crate) struct SimStream(Rc<SimSocket>);

struct SimSocket {
    port: Rc<Port>,
    id: ConnectionId,
    side: Side,
    peer: SocketAddr,
    reading: Cell<bool>,
    writing: Cell<bool>,
    /// Mailed away: dropping this handle closes nothing.
    parcelled: Cell<bool>,
}

impl SimStream {
    fn new(port: &Rc<Port>, id: ConnectionId, side: Side, peer: SocketAddr) -> SimStream {
        SimStream(Rc::new(SimSocket {
            port: Rc::clone(port),
            id,
            side,
            peer,
            reading: Cell::new(false),
            writing: Cell::new(false),
            parcelled: Cell::new(false),
        }))
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.0.peer
    }

    pub(crate) async fn read(&self, mut buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        let socket = &*self.0;
        assert!(
            !socket.reading.replace(true),
            "two reads at once from {}",
            socket.peer
        );
        let _reading = Busy {
            socket,
            write: false,
            done: true,
        };
        let room = buf.capacity() - buf.len();
        let received = poll_fn(|cx| {
            if !socket.port.is_alive() {
                return Poll::Pending;
            }
            let mut network = socket.port.world.network.borrow_mut();
            match network.read(socket.id, socket.side, room, cx.waker()) {
                Some(received) => Poll::Ready(received),
                None => Poll::Pending,
            }
        })
        .await;
        let result = received.map(|bytes| {
            buf.extend_from_slice(&bytes);
            bytes.len()
        });
        (result, buf)
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        let socket = &*self.0;
        poll_fn(|cx| {
            let mut network = socket.port.world.network.borrow_mut();
            match network.is_readable(socket.id, socket.side, cx.waker()) {
                true if socket.port.is_alive() => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
        .await
    }

    pub(crate) async fn write_all(&self, parts: Vec<Bytes>) -> io::Result<()> {
        let socket = &*self.0;
        assert!(
            !socket.writing.replace(true),
            "two writes at once to {}",
            socket.peer
        );
        let mut writing = Busy {
            socket,
            write: true,
            done: false,
        };
        let result = socket.write_parts(parts).await;
        writing.done = true;
        result
    }

    pub(crate) fn shutdown(&self) {
        self.0.shutdown();
    }

    pub(crate) fn into_parcel(self) -> Result<SimParcel, SimStream> {
        if Rc::strong_count(&self.0) > 1 || !self.0.port.is_alive() {
            return Err(self);
        }
        let socket = &self.0;
        let letter = Arc::new(());
        socket.parcelled.set(true);
        let mut network = socket.port.world.network.borrow_mut();
        network.park_parcel(&letter, socket.id, socket.side);
        Ok(SimParcel {
            id: socket.id,
            side: socket.side,
            peer: socket.peer,
            _letter: letter,
        })
    }
}

impl SimSocket {
    async fn write_parts(&self, parts: Vec<Bytes>) -> io::Result<()> {
        for mut part in parts {
            while !part.is_empty() {
                let sent = poll_fn(|cx| {
                    if !self.port.is_alive() {
                        return Poll::Pending;
                    }
                    let world = &self.port.world;
                    match network::send(world, self.id, self.side, &part, cx.waker()) {
                        Ok(0) => Poll::Pending,
                        sent => Poll::Ready(sent),
                    }
                })
                .await?;
                part = part.slice(sent..);
            }
        }
        // As from a completion: never within the call.
        let port = Rc::clone(&self.port);
        pass_time(&port, Duration::from_nanos(500)).await;
        Ok(())
    }

    fn shutdown(&self) {
        if self.port.is_alive() {
            network::shut(&self.port.world, self.id, self.side);
        }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if self.port.is_alive() && !self.parcelled.get() {
            network::close(&self.port.world, self.id, self.side);
        }
    }
}

/// An operation in flight. A write that is dropped early ends the connection.
struct Busy<'a> {
    socket: &'a SimSocket,
    write: bool,
    done: bool,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if self.write {
            self.socket.writing.set(false);
        } else {
            self.socket.reading.set(false);
        }
        if !self.done {
            self.socket.shutdown();
        }
    }
}
