//! TCP through the ring: received straight into the caller's buffer, sent by gathering.
//! Must not know frames.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use io_uring::{cqueue, opcode};

use super::address::{decode, encode};
use super::driver::{Driver, fd_of};
use super::op::{Held, Message, Op};
use crate::net::{Listener, ListenerBackend, Parcel, ParcelBackend, Stream, StreamBackend};

/// Pieces per gathering send: the kernel's IOV_MAX.
const MAX_PIECES: usize = 1024;

/// Ask for readiness before the first try (IORING_RECVSEND_POLL_FIRST).
const POLL_FIRST: u16 = 1;

/// Data, the peer's end, or an error: whatever a read would report.
const POLL_EVENTS: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;

/// The kernel goes on until all is sent, and answers a closed connection with an error.
const SEND_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

pub(crate) struct RingListener {
    driver: Rc<Driver>,
    fd: Rc<OwnedFd>,
    local: SocketAddr,
}

pub(crate) fn listen(driver: &Rc<Driver>, addr: SocketAddr, backlog: u32) -> io::Result<Listener> {
    let fd = socket(&addr)?;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    // Accepted sockets inherit it.
    set_option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    let address = encode(&addr);
    let raw = fd.as_raw_fd();
    // SAFETY: the address is `len` readable bytes; the descriptor is open.
    check(unsafe { libc::bind(raw, (&raw const address.storage).cast(), address.len) })?;
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: no memory is involved.
    check(unsafe { libc::listen(raw, backlog) })?;
    let mut bound = encode(&addr);
    // SAFETY: `storage` is writable and `len` says at most its size.
    check(unsafe { libc::getsockname(raw, (&raw mut bound.storage).cast(), &mut bound.len) })?;
    let local = decode(&bound)?;
    let listener = RingListener {
        driver: Rc::clone(driver),
        fd: Rc::new(fd),
        local,
    };
    Ok(Listener(ListenerBackend::Uring(listener)))
}

impl RingListener {
    pub(crate) async fn accept(&self) -> io::Result<RingStream> {
        let build = |held: &mut Held| {
            let Held::Address(address) = held else {
                unreachable!("accept holds an address")
            };
            let storage = (&raw mut address.storage).cast();
            opcode::Accept::new(fd_of(&self.fd), storage, &mut address.len)
                .flags(libc::SOCK_CLOEXEC)
                .build()
        };
        let held = Held::Address(Box::new(super::address::room()));
        let mut done = self.driver.start_opening(Some(&self.fd), held, build).await;
        let held = std::mem::replace(&mut done.held, Held::Nothing);
        let fd = done.into_fd()?;
        let Held::Address(address) = held else {
            unreachable!("accept holds an address")
        };
        Ok(RingStream::new(
            &self.driver,
            fd,
            decode(&address)?,
            BytesMut::new(),
        ))
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

pub(crate) async fn connect(driver: &Rc<Driver>, addr: SocketAddr) -> io::Result<Stream> {
    let fd = Rc::new(socket(&addr)?);
    set_option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    let build = |held: &mut Held| {
        let Held::Address(address) = held else {
            unreachable!("connect holds an address")
        };
        opcode::Connect::new(fd_of(&fd), (&raw const address.storage).cast(), address.len).build()
    };
    let held = Held::Address(Box::new(encode(&addr)));
    driver.start(Some(&fd), held, build).await.result?;
    let fd = Rc::try_unwrap(fd).expect("the finished connect was the descriptor's only user");
    Ok(Stream(StreamBackend::Uring(RingStream::new(
        driver,
        fd,
        addr,
        BytesMut::new(),
    ))))
}

pub(crate) fn adopt(driver: &Rc<Driver>, parcel: Parcel) -> Stream {
    let ParcelBackend::Uring(RingParcel { fd, peer, early }) = parcel.0 else {
        panic!("a simulated connection was sent to a core of the machine");
    };
    Stream(StreamBackend::Uring(RingStream::new(
        driver, fd, peer, early,
    )))
}

/// A connection between two cores.
pub(crate) struct RingParcel {
    fd: OwnedFd,
    peer: SocketAddr,
    early: BytesMut,
}

#[derive(Clone)]
pub(crate) struct RingStream(Rc<Socket>);

struct Socket {
    driver: Rc<Driver>,
    fd: Rc<OwnedFd>,
    peer: SocketAddr,
    /// A receive whose future was dropped: it goes on, and the next read takes its bytes.
    orphan: RefCell<Option<Op>>,
    /// Bytes received that did not fit the reader's buffer.
    early: RefCell<BytesMut>,
    reading: Cell<bool>,
    writing: Cell<bool>,
    /// The last receive emptied the socket, so that trying before polling would be in vain.
    drained: Cell<bool>,
}

impl RingStream {
    fn new(driver: &Rc<Driver>, fd: OwnedFd, peer: SocketAddr, early: BytesMut) -> RingStream {
        RingStream(Rc::new(Socket {
            driver: Rc::clone(driver),
            fd: Rc::new(fd),
            peer,
            orphan: RefCell::new(None),
            early: RefCell::new(early),
            reading: Cell::new(false),
            writing: Cell::new(false),
            drained: Cell::new(true),
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
        let mut reading = Reading {
            socket,
            op: socket.orphan.borrow_mut().take(),
        };
        if let Some(op) = &mut reading.op {
            let done = op.await;
            reading.op = None;
            match socket.received(done.result, done.flags, done.held) {
                (Ok(0), _) => return (Ok(0), buf),
                (Ok(got), mut bytes) => {
                    let fresh = bytes.split_off(bytes.len() - got);
                    socket.early.borrow_mut().unsplit(fresh);
                }
                (Err(e), _) => return (Err(e), buf),
            }
        }
        let early = socket.take_early(&mut buf);
        if early > 0 {
            return (Ok(early), buf);
        }
        loop {
            let op = reading.op.insert(socket.receive(buf));
            let done = op.await;
            reading.op = None;
            let (result, back) = socket.received(done.result, done.flags, done.held);
            match result {
                Err(e) if is_retry(&e) => buf = back,
                result => return (result, back),
            }
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        let socket = &*self.0;
        let has_early = !socket.early.borrow().is_empty() || socket.orphan.borrow().is_some();
        if has_early {
            return Ok(());
        }
        let build = |_: &mut Held| opcode::PollAdd::new(fd_of(&socket.fd), POLL_EVENTS).build();
        socket
            .driver
            .start(Some(&socket.fd), Held::Nothing, build)
            .await
            .result
            .map(drop)
    }

    pub(crate) async fn write_all(&self, mut parts: Vec<Bytes>) -> io::Result<()> {
        let socket = &*self.0;
        assert!(
            !socket.writing.replace(true),
            "two writes at once to {}",
            socket.peer
        );
        let mut writing = Writing {
            socket,
            done: false,
        };
        parts.retain(|part| !part.is_empty());
        let result = match parts.len() {
            0 => Ok(()),
            1 => socket.send(parts.remove(0)).await,
            _ => socket.gather(parts).await,
        };
        writing.done = true;
        result
    }

    pub(crate) fn shutdown(&self) {
        self.0.shutdown();
    }

    pub(crate) fn into_parcel(self) -> Result<RingParcel, RingStream> {
        let busy = self.0.orphan.borrow().is_some() || Rc::strong_count(&self.0.fd) > 1;
        if busy || Rc::strong_count(&self.0) > 1 {
            return Err(self);
        }
        let socket = Rc::try_unwrap(self.0).map_err(RingStream)?;
        let fd = Rc::try_unwrap(socket.fd).expect("counted above");
        Ok(RingParcel {
            fd,
            peer: socket.peer,
            early: socket.early.into_inner(),
        })
    }
}

impl Socket {
    fn receive(&self, buf: BytesMut) -> Op {
        let poll_first = if self.drained.get() { POLL_FIRST } else { 0 };
        let build = |held: &mut Held| {
            let Held::Buffer(buf) = held else {
                unreachable!("a receive holds its buffer")
            };
            let spare = buf.spare_capacity_mut();
            let room = u32::try_from(spare.len()).unwrap_or(u32::MAX);
            opcode::Recv::new(fd_of(&self.fd), spare.as_mut_ptr().cast(), room)
                .ioprio(poll_first)
                .build()
        };
        self.driver.start(Some(&self.fd), Held::Buffer(buf), build)
    }

    /// Takes the buffer back from a completed receive.
    fn received(
        &self,
        result: io::Result<u32>,
        flags: u32,
        held: Held,
    ) -> (io::Result<usize>, BytesMut) {
        let Held::Buffer(mut buf) = held else {
            unreachable!("a receive holds its buffer")
        };
        self.drained.set(!cqueue::sock_nonempty(flags));
        let result = result.map(|got| got as usize);
        if let Ok(got) = result {
            // SAFETY: the kernel has written `got` bytes into the spare capacity.
            unsafe { buf.set_len(buf.len() + got) };
        }
        (result, buf)
    }

    /// Hands over bytes that an earlier, dropped read has received.
    fn take_early(&self, buf: &mut BytesMut) -> usize {
        let mut early = self.early.borrow_mut();
        let count = early.len().min(buf.capacity() - buf.len());
        buf.extend_from_slice(&early[..count]);
        early.advance(count);
        count
    }

    async fn send(&self, mut data: Bytes) -> io::Result<()> {
        while !data.is_empty() {
            let start = data.as_ptr();
            let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let build = |_: &mut Held| {
                opcode::Send::new(fd_of(&self.fd), start, len)
                    .flags(SEND_FLAGS)
                    .build()
            };
            let done = self
                .driver
                .start(Some(&self.fd), Held::Bytes(data.clone()), build)
                .await;
            match done.result {
                Err(e) if is_retry(&e) => {}
                result => data.advance(sent(result)?),
            }
        }
        Ok(())
    }

    async fn gather(&self, parts: Vec<Bytes>) -> io::Result<()> {
        let mut parts = parts.into_iter();
        let mut window: Vec<Bytes> = parts.by_ref().take(MAX_PIECES).collect();
        while !window.is_empty() {
            let held = Held::Message(Box::new(message(window)));
            let build = |held: &mut Held| {
                let Held::Message(message) = held else {
                    unreachable!("it holds its message")
                };
                opcode::SendMsg::new(fd_of(&self.fd), &message.header)
                    .flags(SEND_FLAGS as u32)
                    .build()
            };
            let done = self.driver.start(Some(&self.fd), held, build).await;
            let Held::Message(message) = done.held else {
                unreachable!("it holds its message")
            };
            window = message.parts;
            match done.result {
                Err(e) if is_retry(&e) => {}
                result => consume(&mut window, sent(result)?),
            }
            let room = MAX_PIECES - window.len();
            window.extend(parts.by_ref().take(room));
        }
        Ok(())
    }

    fn shutdown(&self) {
        // SAFETY: the descriptor is open; no memory is involved. An error means that the
        // connection is gone already.
        unsafe { libc::shutdown(self.fd.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

/// A read in flight. Dropped early, it leaves its operation to the next read.
struct Reading<'a> {
    socket: &'a Socket,
    op: Option<Op>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.socket.reading.set(false);
        *self.socket.orphan.borrow_mut() = self.op.take();
    }
}

/// A write in flight. Dropped early, it ends the connection: nobody knows what was sent.
struct Writing<'a> {
    socket: &'a Socket,
    done: bool,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.socket.writing.set(false);
        if !self.done {
            self.socket.shutdown();
        }
    }
}

fn message(parts: Vec<Bytes>) -> Message {
    let piece = |part: &Bytes| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    };
    let mut pieces: Vec<libc::iovec> = parts.iter().map(piece).collect();
    // SAFETY: all zeros is an empty message header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = pieces.as_mut_ptr();
    header.msg_iovlen = pieces.len() as _;
    Message {
        header,
        pieces,
        parts,
    }
}

/// Drops the first `count` bytes.
fn consume(parts: &mut Vec<Bytes>, mut count: usize) {
    let whole = parts
        .iter()
        .take_while(|part| {
            let fits = part.len() <= count;
            if fits {
                count -= part.len();
            }
            fits
        })
        .count();
    parts.drain(..whole);
    if count > 0 {
        parts[0].advance(count);
    }
}

fn sent(result: io::Result<u32>) -> io::Result<usize> {
    match result? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count as usize),
    }
}

fn socket(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    check(fd.min(0))?;
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(fd: &OwnedFd, level: i32, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of_val(&on) as libc::socklen_t;
    let on: *const libc::c_int = &on;
    // SAFETY: the value is `size` readable bytes; the descriptor is open.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, on.cast(), size) })
}

fn is_retry(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
