//! A blocking client of the binary's sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use protocol::api::{Message, RequestMessage};
use protocol::codec::Decoder;
use protocol::frame;

const PATIENCE: Duration = Duration::from_secs(60);

/// One connection, one request at a time.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client { stream }
    }

    /// Asks, and gives the answer; `None` if the broker has closed the connection.
    pub fn try_call<R: RequestMessage>(&mut self, version: i16, request: R) -> Option<R::Response> {
        let parts = frame::request(None, 1, version, &request).expect("it fits its version");
        for part in parts {
            self.stream.write_all(&part).ok()?;
        }
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut answer = BytesMut::zeroed(u32::from_be_bytes(length) as usize);
        self.stream.read_exact(&mut answer).ok()?;
        let mut input = Decoder::new(answer.freeze());
        assert_eq!(input.i32().expect("a correlation id"), 1);
        if R::KEY.api().response_header_version(version) >= 1 {
            input
                .tagged_fields(|_, _| Ok(false))
                .expect("tagged fields");
        }
        Some(R::Response::decode(&mut input, version).expect("an answer"))
    }

    pub fn call<R: RequestMessage>(&mut self, version: i16, request: R) -> R::Response {
        self.try_call(version, request)
            .expect("the broker keeps the connection")
    }
}
