//! One connection from one node to another, on its way through this process.
//!
//! What a cut does is what a broken cable does to TCP: nothing goes through, nobody is told, and
//! what was under way arrives when the cable is mended, unless both ends have given up by then.
//! Must not know who the nodes are.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const BUFFER_BYTES: usize = 64 << 10;
/// How often a connection that is cut is looked at for ends that have given up.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a connection may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Gate {
    #[default]
    Open,
    /// Nothing goes through and nobody is told.
    Held,
    /// Both ends are told that there is nobody.
    Reset,
}

/// Tells a connection what it may do, and when that changes.
pub(super) trait Watch: Send {
    fn gate(&mut self) -> Gate;
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// Bytes on their way in one direction.
struct Direction {
    buffer: Vec<u8>,
    sent: usize,
    filled: usize,
}

impl Direction {
    /// A direction in which `first` was read already.
    fn beginning_with(first: &[u8]) -> Direction {
        let mut buffer = vec![0; BUFFER_BYTES.max(first.len())];
        buffer[..first.len()].copy_from_slice(first);
        Direction {
            buffer,
            sent: 0,
            filled: first.len(),
        }
    }

    /// Moves bytes until `from` has no more. May be dropped at any time and called again: what was
    /// read and not yet written is kept here.
    async fn carry(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        loop {
            while self.sent < self.filled {
                to.writable().await?;
                match to.try_write(&self.buffer[self.sent..self.filled]) {
                    Ok(bytes) => self.sent += bytes,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            from.readable().await?;
            match from.try_read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(bytes) => (self.sent, self.filled) = (0, bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Relays between `caller` and whoever listens on `address`, for as long as both want to and the
/// gate lets them. `first` was read from the caller already.
pub(super) async fn relay(
    caller: TcpStream,
    first: &[u8],
    address: SocketAddr,
    mut watch: impl Watch,
) {
    let mut there = Direction::beginning_with(first);
    let mut back = Direction::beginning_with(&[]);
    let mut callee = None;
    loop {
        match watch.gate() {
            Gate::Open => {}
            Gate::Held => {
                tokio::select! {
                    () = watch.changed() => continue,
                    () = given_up(&caller, callee.as_ref()) => return,
                }
            }
            Gate::Reset => {
                reset(&caller);
                callee.iter().for_each(reset);
                return;
            }
        }
        let ended = tokio::select! {
            () = watch.changed() => continue,
            ended = pass(&caller, &mut callee, address, &mut there, &mut back) => ended,
        };
        if ended.is_err() {
            reset(&caller);
            callee.iter().for_each(reset);
        }
        return;
    }
}

/// Connects if that is still to be done, then moves bytes until one end has no more.
async fn pass(
    caller: &TcpStream,
    callee: &mut Option<TcpStream>,
    address: SocketAddr,
    there: &mut Direction,
    back: &mut Direction,
) -> io::Result<()> {
    if callee.is_none() {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        *callee = Some(stream);
    }
    let Some(callee) = callee else {
        return Ok(());
    };
    tokio::select! {
        ended = there.carry(caller, callee) => ended,
        ended = back.carry(callee, caller) => ended,
    }
}

/// The end is told at once that there is nobody, as by the system of a process that died.
fn reset(stream: &TcpStream) {
    // If it cannot be said so, it is said by an orderly end.
    let _ = stream.set_zero_linger();
}

/// Comes back when no end waits any more for the gate to open.
async fn given_up(caller: &TcpStream, callee: Option<&TcpStream>) {
    loop {
        let callee_gone = match callee {
            Some(callee) => is_closed(callee).await,
            None => true,
        };
        if callee_gone && is_closed(caller).await {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Whether the other end has closed, known without reading what it has sent before.
async fn is_closed(stream: &TcpStream) -> bool {
    let interest = Interest::READABLE | Interest::WRITABLE;
    match timeout(Duration::ZERO, stream.ready(interest)).await {
        Ok(Ok(ready)) => ready.is_read_closed() || ready.is_write_closed(),
        Ok(Err(_)) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::task::JoinHandle;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Told(watch::Receiver<Gate>);

    impl Watch for Told {
        fn gate(&mut self) -> Gate {
            *self.0.borrow_and_update()
        }

        async fn changed(&mut self) {
            self.0.changed().await.expect("the test holds the gate");
        }
    }

    struct Line {
        caller: TcpStream,
        listener: TcpListener,
        gate: watch::Sender<Gate>,
        relay: JoinHandle<()>,
    }

    async fn listen() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.expect("a free port")
    }

    async fn line(gate: Gate) -> Line {
        let (listener, door) = (listen().await, listen().await);
        let caller = TcpStream::connect(door.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = door.accept().await.unwrap();
        let (gate, told) = watch::channel(gate);
        let address = listener.local_addr().unwrap();
        let relay =
            tokio::spawn(async move { relay(accepted, b"first ", address, Told(told)).await });
        Line {
            caller,
            listener,
            gate,
            relay,
        }
    }

    async fn read(stream: &mut TcpStream, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        let read = timeout(PATIENCE, stream.read_exact(&mut bytes)).await;
        read.expect("bytes come in time").expect("bytes come");
        assert_eq!(bytes, expected);
    }

    /// Long enough for bytes that get through to arrive.
    async fn is_silent(stream: &mut TcpStream) -> bool {
        let mut byte = [0; 1];
        timeout(Duration::from_millis(150), stream.read(&mut byte))
            .await
            .is_err()
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn a_cut_is_silent_and_what_was_under_way_arrives_when_it_is_mended() {
        run(async {
            let mut line = line(Gate::Open).await;
            let (mut callee, _) = line.listener.accept().await.unwrap();
            line.caller.write_all(b"one").await.unwrap();
            read(&mut callee, b"first one").await;
            callee.write_all(b"two").await.unwrap();
            read(&mut line.caller, b"two").await;
            line.gate.send_replace(Gate::Held);
            line.caller.write_all(b"three").await.unwrap();
            assert!(is_silent(&mut callee).await);
            line.gate.send_replace(Gate::Open);
            read(&mut callee, b"three").await;
            drop(line.caller);
            timeout(PATIENCE, line.relay)
                .await
                .expect("it ends")
                .unwrap();
        });
    }

    #[test]
    fn a_new_connection_is_held_until_its_caller_gives_up() {
        run(async {
            let line = line(Gate::Held).await;
            let accepted = timeout(Duration::from_millis(150), line.listener.accept()).await;
            assert!(accepted.is_err(), "nobody is called through a cut");
            drop(line.caller);
            timeout(PATIENCE, line.relay)
                .await
                .expect("it ends")
                .unwrap();
        });
    }

    #[test]
    fn an_end_learns_of_the_other_ones_end_only_when_the_cut_is_mended() {
        run(async {
            let line = line(Gate::Open).await;
            let (mut callee, _) = line.listener.accept().await.unwrap();
            read(&mut callee, b"first ").await;
            line.gate.send_replace(Gate::Held);
            drop(line.caller);
            assert!(is_silent(&mut callee).await);
            line.gate.send_replace(Gate::Open);
            let end = timeout(PATIENCE, callee.read(&mut [0; 1])).await;
            assert_eq!(end.expect("it ends").unwrap_or(0), 0);
        });
    }

    #[test]
    fn a_reset_is_told_to_both() {
        run(async {
            let mut line = line(Gate::Open).await;
            let (mut callee, _) = line.listener.accept().await.unwrap();
            read(&mut callee, b"first ").await;
            line.gate.send_replace(Gate::Reset);
            for stream in [&mut callee, &mut line.caller] {
                let end = timeout(PATIENCE, stream.read(&mut [0; 1])).await;
                let error = end.expect("it ends").expect_err("not in order");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        });
    }

    #[test]
    fn nobody_there_is_a_reset() {
        run(async {
            let free = listen().await;
            let (listener, address) = (listen().await, free.local_addr().unwrap());
            drop(free);
            let mut caller = TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            let (_gate, told) = watch::channel(Gate::Open);
            relay(accepted, b"x", address, Told(told)).await;
            let error = caller.read(&mut [0; 1]).await.expect_err("a reset");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    }
}
