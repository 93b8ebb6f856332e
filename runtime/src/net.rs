//! TCP listeners and streams, as a seam: what callers hold, and which backend serves it.
//! Must not know frames or protocols. Deliberately absent: UDP, TLS, name resolution.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use crate::{sim, uring};

/// A listening socket.
pub struct Listener(pub(crate) ListenerBackend);

pub(crate) enum ListenerBackend {
    Uring(uring::net::RingListener),
    Sim(sim::net::SimListener),
}

impl Listener {
    /// The next connection. An error says nothing about later ones: with `EMFILE` wait a while
    /// before the next try. Dropping the future loses no connection that is still queued.
    pub async fn accept(&self) -> io::Result<Stream> {
        let backend = match &self.0 {
            ListenerBackend::Uring(listener) => StreamBackend::Uring(listener.accept().await?),
            ListenerBackend::Sim(listener) => StreamBackend::Sim(listener.accept().await?),
        };
        Ok(Stream(backend))
    }

    /// The address with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0 {
            ListenerBackend::Uring(listener) => listener.local_addr(),
            ListenerBackend::Sim(listener) => listener.local_addr(),
        }
    }
}

/// One TCP connection, without Nagle's delay. A read and a write may be in flight together, from
/// two tasks that hold two handles; two reads or two writes may not (asserted). It closes when the
/// last handle drops.
pub struct Stream(pub(crate) StreamBackend);

pub(crate) enum StreamBackend {
    Uring(uring::net::RingStream),
    Sim(sim::net::SimStream),
}

impl Stream {
    /// The other end.
    pub fn peer_addr(&self) -> SocketAddr {
        match &self.0 {
            StreamBackend::Uring(stream) => stream.peer_addr(),
            StreamBackend::Sim(stream) => stream.peer_addr(),
        }
    }

    /// Receives into the spare capacity of `buf` (asserts that there is some) and gives it back,
    /// longer by the count. 0 means that the peer has closed its end. Dropping the future loses
    /// no bytes (the next read gets them), but it does lose `buf` with what it held.
    pub async fn read(&self, buf: BytesMut) -> (io::Result<usize>, BytesMut) {
        assert!(
            buf.capacity() > buf.len(),
            "read into {} bytes without room",
            buf.len()
        );
        match &self.0 {
            StreamBackend::Uring(stream) => stream.read(buf).await,
            StreamBackend::Sim(stream) => stream.read(buf).await,
        }
    }

    /// Waits until a [`read`](Stream::read) would have something to say, without holding a buffer
    /// meanwhile: for thousands of idle connections. May return early; the read then waits.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.0 {
            StreamBackend::Uring(stream) => stream.readable().await,
            StreamBackend::Sim(stream) => stream.readable().await,
        }
    }

    /// Sends all parts in order, gathered. Done means accepted by the socket, not received by the
    /// peer. Dropping the future half-way ends the connection, since nobody knows what was sent.
    pub async fn write_all(&self, parts: Vec<Bytes>) -> io::Result<()> {
        match &self.0 {
            StreamBackend::Uring(stream) => stream.write_all(parts).await,
            StreamBackend::Sim(stream) => stream.write_all(parts).await,
        }
    }

    /// Ends both directions. What was written before is still sent; operations in flight end.
    pub fn shutdown(&self) {
        match &self.0 {
            StreamBackend::Uring(stream) => stream.shutdown(),
            StreamBackend::Sim(stream) => stream.shutdown(),
        }
    }

    /// Another handle of the same connection.
    pub fn try_clone(&self) -> Stream {
        match &self.0 {
            StreamBackend::Uring(stream) => Stream(StreamBackend::Uring(stream.clone())),
            StreamBackend::Sim(stream) => Stream(StreamBackend::Sim(stream.clone())),
        }
    }

    /// Wraps the connection to be mailed to another core of the node, which
    /// [adopts](crate::Core::adopt) it. Gives the stream back if there is another handle of it or
    /// an operation was started on it that has not ended.
    pub fn into_parcel(self) -> Result<Parcel, Stream> {
        match self.0 {
            StreamBackend::Uring(stream) => match stream.into_parcel() {
                Ok(parcel) => Ok(Parcel(ParcelBackend::Uring(parcel))),
                Err(stream) => Err(Stream(StreamBackend::Uring(stream))),
            },
            StreamBackend::Sim(stream) => match stream.into_parcel() {
                Ok(parcel) => Ok(Parcel(ParcelBackend::Sim(parcel))),
                Err(stream) => Err(Stream(StreamBackend::Sim(stream))),
            },
        }
    }
}

/// A connection on its way to another core. Dropping it closes the connection.
pub struct Parcel(pub(crate) ParcelBackend);

pub(crate) enum ParcelBackend {
    Uring(uring::net::RingParcel),
    Sim(sim::net::SimParcel),
}
