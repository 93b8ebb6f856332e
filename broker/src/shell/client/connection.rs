//! One connection to one broker: requests out, responses in, in order.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::api::{Message, RequestMessage, Versions};
use protocol::codec::{Decoder, Str};
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::{ErrorCode, frame};

use super::super::error::ShellError;

/// Largest answer that is read: a fetch of fifty mebibytes and whatever stands around it.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// The name that brokers log for this client.
const CLIENT_ID: Str = Str::from_static("corelane");

/// A connection after the exchange of versions. Blocking; answers come in the order of requests.
pub(crate) struct Connection {
    stream: TcpStream,
    address: String,
    received: BytesMut,
    served: BTreeMap<i16, Versions>,
    /// What the broker said first.
    pub greeting: ApiVersionsResponse,
    next_correlation_id: i32,
    /// Requests whose answers are still to be read.
    awaited: VecDeque<Awaited>,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    correlation_id: i32,
    version: i16,
}

impl Connection {
    /// Connects to `host:port` and learns what it serves.
    pub(crate) fn open(address: &str, timeout: Duration) -> Result<Connection, ShellError> {
        let unreachable = |error| ShellError::Unreachable {
            address: address.to_owned(),
            error,
        };
        let stream = connect(address, timeout).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream
            .set_read_timeout(Some(timeout))
            .map_err(unreachable)?;
        stream
            .set_write_timeout(Some(timeout))
            .map_err(unreachable)?;
        let mut connection = Connection {
            stream,
            address: address.to_owned(),
            received: BytesMut::new(),
            served: BTreeMap::new(),
            greeting: ApiVersionsResponse::default(),
            next_correlation_id: 0,
            awaited: VecDeque::new(),
            timeout,
        };
        connection.greet()?;
        Ok(connection)
    }

    /// Sends a request in the newest version that both sides know, up to `newest`, and reads its
    /// answer.
    pub(crate) fn call<R: RequestMessage>(
        &mut self,
        request: &R,
        newest: i16,
    ) -> Result<R::Response, ShellError> {
        self.send(request, newest)?;
        self.receive::<R>(Duration::ZERO)
    }

    /// Sends a request whose answer is read later.
    pub(crate) fn send<R: RequestMessage>(
        &mut self,
        request: &R,
        newest: i16,
    ) -> Result<(), ShellError> {
        let version = self.version::<R>(newest)?;
        let correlation_id = self.write(request, version)?;
        self.awaited.push_back(Awaited {
            correlation_id,
            version,
        });
        Ok(())
    }

    /// Sends a request that has no answer (produce with acks=0).
    pub(crate) fn send_unanswered<R: RequestMessage>(
        &mut self,
        request: &R,
        newest: i16,
    ) -> Result<(), ShellError> {
        let version = self.version::<R>(newest)?;
        self.write(request, version).map(drop)
    }

    /// Reads the answer to the oldest request that was sent. `patience` comes on top of the usual
    /// timeout, for requests that the broker holds back on purpose.
    pub(crate) fn receive<R: RequestMessage>(
        &mut self,
        patience: Duration,
    ) -> Result<R::Response, ShellError> {
        let Some(awaited) = self.awaited.pop_front() else {
            return Err(self.garbled("an answer was read that nobody asked for"));
        };
        let mut body = Decoder::new(self.answer(awaited, patience, R::KEY.api())?);
        R::Response::decode(&mut body, awaited.version).map_err(|error| self.garbled(error))
    }

    /// The newest version of an api that both sides know, up to `newest`.
    pub(crate) fn version<R: RequestMessage>(&self, newest: i16) -> Result<i16, ShellError> {
        let api = R::KEY.api();
        let ours = Versions {
            min: api.versions.min,
            max: api.versions.max.min(newest),
        };
        self.served
            .get(&(R::KEY as i16))
            .and_then(|served| ours.newest_in_both(*served))
            .ok_or_else(|| ShellError::Unsupported {
                address: self.address.clone(),
                api: api.name,
            })
    }

    fn write<R: RequestMessage>(&mut self, request: &R, version: i16) -> Result<i32, ShellError> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = correlation_id.wrapping_add(1);
        let parts = frame::request(Some(&CLIENT_ID), correlation_id, version, request)
            .map_err(|error| ShellError::impossible("send the request", format!("{error}.")))?;
        write_all(&mut self.stream, &parts).map_err(|error| self.lost(error))?;
        Ok(correlation_id)
    }

    /// ApiVersions: version 3, or version 0 if the broker does not know that one. Such a broker
    /// answers in version 0, whose first field is the error code.
    fn greet(&mut self) -> Result<(), ShellError> {
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_ID,
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..ApiVersionsRequest::default()
        };
        let mut version = 3;
        loop {
            let correlation_id = self.write(&request, version)?;
            let awaited = Awaited {
                correlation_id,
                version,
            };
            let api = ApiVersionsRequest::KEY.api();
            let body = self.answer(awaited, Duration::ZERO, api)?;
            let unknown = body.starts_with(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
            if unknown && version > 0 {
                version = 0;
                continue;
            }
            let greeting = ApiVersionsResponse::decode(&mut Decoder::new(body), version)
                .map_err(|error| self.garbled(error))?;
            self.served = greeting
                .api_keys
                .iter()
                .map(|api| {
                    let versions = Versions {
                        min: api.min_version,
                        max: api.max_version,
                    };
                    (api.api_key, versions)
                })
                .collect();
            self.greeting = greeting;
            return Ok(());
        }
    }

    /// The body of the next answer.
    fn answer(
        &mut self,
        awaited: Awaited,
        patience: Duration,
        api: &protocol::api::Api,
    ) -> Result<Bytes, ShellError> {
        let timeout = self.timeout + patience;
        self.stream
            .set_read_timeout(Some(timeout))
            .map_err(|error| self.lost(error))?;
        let answer = self.frame()?;
        let mut input = Decoder::new(answer);
        let correlation_id = input.i32().map_err(|error| self.garbled(error))?;
        if correlation_id != awaited.correlation_id {
            let expected = awaited.correlation_id;
            return Err(self.garbled(format!("answer {correlation_id} instead of {expected}")));
        }
        if api.response_header_version(awaited.version) >= 1 {
            input
                .tagged_fields(|_, _| Ok(false))
                .map_err(|error| self.garbled(error))?;
        }
        Ok(input.rest())
    }

    fn frame(&mut self) -> Result<Bytes, ShellError> {
        loop {
            match frame::cut(&mut self.received, ANSWER_BYTES_MAX) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(self.garbled(error)),
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
    }

    fn lost(&self, error: io::Error) -> ShellError {
        ShellError::Lost {
            address: self.address.clone(),
            error,
        }
    }

    fn garbled(&self, what: impl ToString) -> ShellError {
        ShellError::Garbled {
            address: self.address.clone(),
            what: what.to_string(),
        }
    }
}

/// Tries each address of a name in turn; the error is that of the last one.
fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for socket in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Writes all parts with as few system calls as the kernel allows.
fn write_all(stream: &mut TcpStream, parts: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
