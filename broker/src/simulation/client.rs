//! A Kafka client in the simulation, with a connection for each node: real frames over the simulated network.
//!
//! An exchange that gives no answer gives `None`: whether the broker has acted is then unknown, and the connection
//! is gone. Must not know what answers mean. Deliberately absent: retries (who sends again decides what to send), and
//! which node is to be asked (`route`).

use super::history::Place;
use bytes::{Bytes, BytesMut};
use protocol::api::{Message, RequestMessage};
use protocol::codec::{Decoder, Str};
use protocol::frame;
use protocol::messages::ResponseHeader;
use runtime::{Core, Stream, timeout};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const FRAME_BYTES_MAX: usize = 64 << 20;
const RECEIVE_BYTES: usize = 16 << 10;
/// Nothing in the simulation takes this long on a node that is up.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
const CONNECT_WITHIN: Duration = Duration::from_millis(200);

/// One client with at most one connection to each node.
pub(super) struct Client {
    pub core: Core,
    connections: Vec<Connection>,
    /// The node that is asked next.
    pub at: usize,
    /// Who leads what, and since which epoch, as far as the client believes to know.
    pub leaders: BTreeMap<Place, (usize, i32)>,
    next_id: i32,
}

/// To one node, if it is open.
struct Connection {
    address: SocketAddr,
    stream: Option<Stream>,
    received: BytesMut,
}

/// A request under way, by its correlation id.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    id: i32,
    version: i16,
}

impl Client {
    pub fn new(core: Core, addresses: &[SocketAddr]) -> Client {
        let connection = |address: &SocketAddr| Connection {
            address: *address,
            stream: None,
            received: BytesMut::new(),
        };
        Client {
            core,
            connections: addresses.iter().map(connection).collect(),
            at: 0,
            leaders: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Asks any node next. Without effect, and without a draw, if there is only one.
    pub fn roam(&mut self) {
        if self.connections.len() > 1 {
            self.at = self.below(self.connections.len() as u64) as usize;
        }
    }

    fn here(&mut self) -> &mut Connection {
        &mut self.connections[self.at]
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

    /// Ends the connection to the node that is asked. What the client knew of leaders may be out of date.
    pub fn hang_up(&mut self) {
        self.leaders.clear();
        if let Some(stream) = self.here().stream.take() {
            stream.shutdown();
        }
        self.here().received.clear();
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
        if self.here().stream.is_none() {
            let connect = self.core.connect(self.connections[self.at].address);
            match timeout(&self.core, CONNECT_WITHIN, connect).await {
                Ok(Ok(stream)) => self.here().stream = Some(stream),
                _ => {
                    self.leaders.clear();
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
        let connected = self.here().stream.as_ref();
        let stream = connected.expect("connected").try_clone();
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
        let connection = self.here();
        let stream = connection.stream.as_ref()?.try_clone();
        loop {
            if let Some(frame) = frame::cut(&mut connection.received, FRAME_BYTES_MAX)
                .expect("a frame of the broker")
            {
                return Some(frame);
            }
            let mut buffer = std::mem::take(&mut connection.received);
            buffer.reserve(RECEIVE_BYTES);
            let (read, buffer) = stream.read(buffer).await;
            connection.received = buffer;
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }
}
