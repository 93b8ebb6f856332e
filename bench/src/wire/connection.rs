//! One TCP connection that never blocks: frames in, parts out.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::api::RequestMessage;
use protocol::codec::Str;
use protocol::frame;

use super::Poll;
use crate::error::{During, Result};

/// Largest answer that is read: a fetch of fifty mebibytes and whatever stands around it.
pub const FRAME_BYTES_MAX: usize = 256 << 20;
/// The least room for one receive.
const RECEIVE_BYTES_MIN: usize = 64 << 10;
/// Parts of one vectored write; the kernel allows 1024.
const PARTS_MAX: usize = 256;

pub const CLIENT_ID: Str = Str::from_static("bench");

/// A non-blocking connection, watched by a [`Poll`].
pub struct Connection {
    stream: TcpStream,
    token: usize,
    received: BytesMut,
    outgoing: VecDeque<Bytes>,
    watches_writing: bool,
    next_correlation_id: i32,
}

impl Connection {
    pub fn open(address: SocketAddr, poll: &Poll, token: usize) -> Result<Connection> {
        let stream = TcpStream::connect(address).during(format!("connecting to {address}"))?;
        Connection::adopt(stream, poll, token)
    }

    /// Takes over a stream that is connected already.
    pub fn adopt(stream: TcpStream, poll: &Poll, token: usize) -> Result<Connection> {
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_nonblocking(true))
            .and_then(|()| poll.add(stream.as_raw_fd(), token));
        prepared.during("preparing a connection")?;
        Ok(Connection {
            stream,
            token,
            received: BytesMut::new(),
            outgoing: VecDeque::new(),
            watches_writing: false,
            next_correlation_id: 0,
        })
    }

    /// Queues a request; gives its correlation id. It leaves with the next [`Connection::flush`].
    pub fn request<R: RequestMessage>(&mut self, request: &R, version: i16) -> Result<i32> {
        let id = self.next_correlation_id;
        self.next_correlation_id = id.wrapping_add(1);
        self.queue(frame::request(Some(&CLIENT_ID), id, version, request)?);
        Ok(id)
    }

    /// Queues parts as they are.
    pub fn queue(&mut self, parts: Vec<Bytes>) {
        self.outgoing.extend(parts);
    }

    /// Whether something waits for the socket to take more.
    pub fn is_blocked(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Writes what the socket takes, and watches for more room if it does not take all.
    pub fn flush(&mut self, poll: &Poll) -> Result<()> {
        while !self.outgoing.is_empty() {
            let slices: Vec<IoSlice<'_>> = self
                .outgoing
                .iter()
                .take(PARTS_MAX)
                .map(|part| IoSlice::new(part))
                .collect();
            match (&self.stream).write_vectored(&slices) {
                Ok(count) => self.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).during("sending to the broker"),
            }
        }
        if self.is_blocked() != self.watches_writing {
            self.watches_writing = self.is_blocked();
            poll.watch(self.fd(), self.token, self.watches_writing)
                .during("watching a socket")?;
        }
        Ok(())
    }

    fn sent(&mut self, mut count: usize) {
        while let Some(part) = self.outgoing.front_mut() {
            if part.len() > count {
                return part.advance(count);
            }
            count -= part.len();
            self.outgoing.pop_front();
        }
    }

    /// Receives once what is there. False if the peer has hung up.
    pub fn receive(&mut self) -> Result<bool> {
        let announced = frame::announced_bytes(&self.received, FRAME_BYTES_MAX)?.unwrap_or(0);
        let missing = (frame::PREFIX_BYTES + announced).saturating_sub(self.received.len());
        self.received.reserve(missing.max(RECEIVE_BYTES_MIN));
        let fd = self.fd();
        let room = self.received.chunk_mut();
        // SAFETY: the room is writable and of that length; recv writes no more than it returns.
        let count =
            unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(true),
                _ => Err(error).during("receiving from the broker"),
            };
        }
        // SAFETY: so many bytes of the room were just written.
        unsafe { self.received.advance_mut(count as usize) };
        Ok(count > 0)
    }

    /// The next whole frame that has arrived.
    pub fn frame(&mut self) -> Result<Option<Bytes>> {
        Ok(frame::cut(&mut self.received, FRAME_BYTES_MAX)?)
    }

    fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn more_than_the_socket_takes_leaves_when_it_can() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut poll = Poll::new().unwrap();
        let mut connection = Connection::open(listener.local_addr().unwrap(), &poll, 0).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let part = Bytes::from(vec![7; 8 << 20]);
        connection.queue(vec![part.clone(), Bytes::from_static(b"end"), part]);
        connection.flush(&poll).unwrap();
        assert!(connection.is_blocked(), "16 MiB do not fit a socket");
        let total = (16 << 20) + 3;
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; total];
            peer.read_exact(&mut all).map(|()| all)
        });
        while connection.is_blocked() {
            assert!(poll.wait(None).unwrap()[0].writable);
            connection.flush(&poll).unwrap();
        }
        let all = reader.join().unwrap().unwrap();
        assert_eq!(&all[8 << 20..][..4], b"end\x07");
    }

    #[test]
    fn frames_are_cut_from_what_arrives() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut poll = Poll::new().unwrap();
        let mut connection = Connection::open(listener.local_addr().unwrap(), &poll, 0).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"\0\0\0\x02ab\0\0\0\x01").unwrap();
        poll.wait(None).unwrap();
        assert!(connection.receive().unwrap());
        assert_eq!(connection.frame().unwrap().unwrap(), &b"ab"[..]);
        assert_eq!(connection.frame().unwrap(), None);
        drop(peer);
        poll.wait(None).unwrap();
        assert!(!connection.receive().unwrap(), "the peer has hung up");
    }
}
