//! A Kafka client's connection in the simulation: real frames over the simulated network.
//!
//! An exchange that gives no answer gives `None`: whether the broker has acted is then unknown, and the connection
//! is gone. Must not know what answers mean. Deliberately absent: retries; who sends again decides what to send.

use bytes::{Bytes, BytesMut};
use protocol::api::{Message, RequestMessage};
use protocol::codec::{Decoder, Str};
use protocol::frame;
use protocol::messages::ResponseHeader;
use runtime::{Core, Stream, timeout};
use std::net::SocketAddr;
use std::time::Duration;

const FRAME_BYTES_MAX: usize = 64 << 20;
const RECEIVE_BYTES: usize = 16 << 10;
/// Nothing in the simulation takes this long on a node that is up.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
const CONNECT_WITHIN: Duration = Duration::from_millis(200);

/// One client with at most one connection.
pub(super) struct Client {
    pub core: Core,
    address: SocketAddr,
    stream: Option<Stream>,
    received: BytesMut,
    next_id: i32,
}

/// A request under way, by its correlation id.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    id: i32,
    version: i16,
}

impl Client {
    pub fn new(core: Core, address: SocketAddr) -> Client {
        Client {
            core,
            address,
            stream: None,
            received: BytesMut::new(),
            next_id: 0,
        }
    }

    /// A number below `end`, by the client's seed.
    pub fn below(&self, end: u64) -> u64 {
        self.core.random() % end
    }

    /// One of the versions served, from `min` on.
    pub fn version<R: RequestMessage>(&self, min: i16) -> i16 {
        let versions = R::KEY.api().versions;
        let min = min.max(versions.min);
        min + self.below((versions.max - min + 1) as u64) as i16
    }

    /// Ends the connection.
    pub fn hang_up(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.shutdown();
        }
        self.received.clear();
    }

    /// A request and its answer.
    pub async fn call<R: RequestMessage>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Option<R::Response> {
        let sent = self.send(request, version).await?;
        self.receive::<R>(sent).await
    }

    /// Sends a request; answers come in the order of the requests.
    pub async fn send<R: RequestMessage>(&mut self, request: &R, version: i16) -> Option<Sent> {
        if self.stream.is_none() {
            let connect = self.core.connect(self.address);
            match timeout(&self.core, CONNECT_WITHIN, connect).await {
                Ok(Ok(stream)) => self.stream = Some(stream),
                _ => {
                    self.core
                        .sleep(Duration::from_millis(2 + self.below(10)))
                        .await;
                    return None;
                }
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        let name = Str::copied("simulation");
        let parts = frame::request(Some(&name), id, version, request).unwrap_or_else(|error| {
            panic!(
                "the simulation's own {} v{version} cannot be written: {error}",
                R::KEY
            )
        });
        let stream = self.stream.as_ref().expect("connected").try_clone();
        match timeout(&self.core, ANSWER_WITHIN, stream.write_all(parts)).await {
            Ok(Ok(())) => Some(Sent { id, version }),
            _ => {
                self.hang_up();
                None
            }
        }
    }

    /// The answer to the oldest request that has none.
    pub async fn receive<R: RequestMessage>(&mut self, sent: Sent) -> Option<R::Response> {
        let frame = match timeout(&self.core.clone(), ANSWER_WITHIN, self.frame()).await {
            Ok(Some(frame)) => frame,
            _ => {
                self.hang_up();
                return None;
            }
        };
        let mut input = Decoder::new(frame);
        let header = ResponseHeader::decode(&mut input, R::KEY, sent.version);
        let header = header.unwrap_or_else(|error| panic!("an answer's header: {error}"));
        assert_eq!(
            header.correlation_id, sent.id,
            "answers come in the order of the requests"
        );
        let response = R::Response::decode(&mut input, sent.version)
            .unwrap_or_else(|error| panic!("an answer to {} v{}: {error}", R::KEY, sent.version));
        assert_eq!(
            input.remaining(),
            0,
            "bytes behind the answer to {} v{}",
            R::KEY,
            sent.version
        );
        Some(response)
    }

    async fn frame(&mut self) -> Option<Bytes> {
        let stream = self.stream.as_ref()?.try_clone();
        loop {
            if let Some(frame) =
                frame::cut(&mut self.received, FRAME_BYTES_MAX).expect("a frame of the broker")
            {
                return Some(frame);
            }
            let mut buffer = std::mem::take(&mut self.received);
            buffer.reserve(RECEIVE_BYTES);
            let (read, buffer) = stream.read(buffer).await;
            self.received = buffer;
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }
}
