//! The client of the echo comparison: on each connection one frame under way, in a closed loop.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use protocol::frame;

use crate::clock::{monotonic_ns, ns};
use crate::error::{BenchError, During, Result};
use crate::wire::{Connection, Poll};

/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Client {
    poll: Poll,
    connections: Vec<Connection>,
    echo: Bytes,
}

impl Client {
    /// Connects as soon as the server listens. `bytes` is the size of an echo on the wire.
    pub fn connect(address: SocketAddr, connections: usize, bytes: usize) -> Result<Client> {
        let poll = Poll::new().during("creating an epoll")?;
        let open = |token| Connection::adopt(patiently(address)?, &poll, token);
        let connections = (0..connections).map(open).collect::<Result<Vec<_>>>()?;
        let mut client = Client {
            poll,
            connections,
            echo: echo(bytes)?,
        };
        for connection in &mut client.connections {
            connection.queue(vec![client.echo.clone()]);
            connection.flush(&client.poll)?;
        }
        Ok(client)
    }

    /// Counts the echoes that come back in `time`.
    pub fn run(&mut self, time: Duration) -> Result<u64> {
        let end_ns = monotonic_ns() + ns(time);
        let mut echoes = 0;
        while monotonic_ns() < end_ns {
            for event in self.poll.wait(Some(end_ns)).during("waiting for echoes")? {
                let connection = &mut self.connections[event.token];
                if event.readable && !connection.receive()? {
                    return Err(BenchError::Unusable("the echo server hung up".to_owned()));
                }
                while connection.frame()?.is_some() {
                    echoes += 1;
                    connection.queue(vec![self.echo.clone()]);
                }
                connection.flush(&self.poll)?;
            }
        }
        Ok(echoes)
    }
}

/// A frame of `bytes` bytes, its length included.
fn echo(bytes: usize) -> Result<Bytes> {
    let body = bytes.checked_sub(frame::PREFIX_BYTES);
    let Some(body) = body.and_then(|body| i32::try_from(body).ok()) else {
        return Err(BenchError::Unusable(format!(
            "an echo cannot have {bytes} bytes"
        )));
    };
    let mut echo = BytesMut::with_capacity(bytes);
    echo.put_i32(body);
    echo.resize(bytes, 7);
    Ok(echo.freeze())
}

fn patiently(address: SocketAddr) -> Result<TcpStream> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match TcpStream::connect(address) {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            outcome => return outcome.during("connecting to the echo server"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn echoes_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut echo = [0; 64];
                    while stream.read_exact(&mut echo).is_ok() {
                        stream.write_all(&echo).unwrap();
                    }
                });
            }
        });
        let mut client = Client::connect(address, 3, 64).unwrap();
        assert!(client.run(Duration::from_millis(50)).unwrap() > 0);
    }

    #[test]
    fn an_echo_has_the_size_asked_for() {
        let whole = echo(512).unwrap();
        assert_eq!(whole.len(), 512);
        assert_eq!(frame::announced_bytes(&whole, 512), Ok(Some(508)));
        assert!(echo(3).is_err());
    }
}
