//! TCP through the ring, over loopback.

use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::{Core, Inbox, Post, Stream, join_all, timeout, uring};

fn on_core<F, Fut>(test: F)
where
    F: Fn(Core) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let main = move |core, _post, _inbox| test(core);
    let node = uring::launch::<(), _, _>(uring::Options::cores(1), main).unwrap();
    if let Err(panic) = node.join() {
        panic!("{panic}");
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn pair(core: &Core) -> (Stream, Stream) {
    let listener = core.listen(any_port(), 16).await.unwrap();
    let addr = listener.local_addr();
    let near = core.connect(addr).await.unwrap();
    let far = listener.accept().await.unwrap();
    assert_eq!(near.peer_addr(), addr);
    assert!(far.peer_addr().ip().is_loopback());
    (near, far)
}

async fn read_exactly(stream: &Stream, count: usize) -> BytesMut {
    let mut buf = BytesMut::with_capacity(count);
    while buf.len() < count {
        let (got, back) = stream.read(buf).await;
        assert_ne!(
            got.unwrap(),
            0,
            "the stream ended after {} bytes",
            back.len()
        );
        buf = back;
    }
    buf
}

/// A stream of bytes in which every position tells itself apart from its neighbours.
fn pattern(from: usize, count: usize) -> Vec<u8> {
    (from..from + count)
        .map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8)
        .collect()
}

#[test]
fn gathering_writes_of_thousands_of_parts_arrive_whole() {
    on_core(|core| async move {
        let (near, far) = pair(&core).await;
        let mut parts = Vec::new();
        let mut total = 0;
        for i in 0..5000 {
            // Empty parts, tiny parts, and some that fill the socket's buffer many times.
            let count = if i % 1000 == 999 { 1 << 20 } else { i % 7 };
            parts.push(Bytes::from(pattern(total, count)));
            total += count;
        }
        let sender = core.spawn_task("sender", async move {
            near.write_all(parts).await.unwrap();
            near
        });
        let mut got = 0;
        while got < total {
            let (count, buf) = far.read(BytesMut::with_capacity(100_000)).await;
            assert_eq!(buf[..], pattern(got, count.unwrap()), "after {got} bytes");
            got += buf.len();
        }
        drop(sender.await);
        let (end, _) = far.read(BytesMut::with_capacity(1)).await;
        assert_eq!(end.unwrap(), 0);
        assert_eq!(core.stats().ops_in_flight, 0);
    });
}

#[test]
fn many_connections_echo_at_once() {
    on_core(|core| async move {
        let listener = core.listen(any_port(), 256).await.unwrap();
        let addr = listener.local_addr();
        let server = core.clone();
        let accepting = core.spawn_task("accept", async move {
            loop {
                let stream = listener.accept().await.unwrap();
                server.spawn("echo", async move {
                    loop {
                        let (got, buf) = stream.read(BytesMut::with_capacity(777)).await;
                        if got.unwrap_or(0) == 0 {
                            return;
                        }
                        stream.write_all(vec![buf.freeze()]).await.unwrap();
                    }
                });
            }
        });
        join_all((0..100usize).map(|i| {
            let core = core.clone();
            async move {
                let stream = core.connect(addr).await.unwrap();
                for round in 0..20 {
                    let sent = pattern(i * 1000 + round, 1 + (i * 37 + round * 311) % 3000);
                    let parts = vec![Bytes::from(sent[..1].to_vec()), Bytes::from(sent.clone())];
                    stream.write_all(parts).await.unwrap();
                    let got = read_exactly(&stream, sent.len() + 1).await;
                    assert_eq!(got[1..], sent);
                }
            }
        }))
        .await;
        drop(accepting);
        core.sleep(Duration::from_millis(20)).await;
        assert_eq!(core.stats().ops_in_flight, 0, "an operation was leaked");
    });
}

#[test]
fn a_dropped_read_loses_no_bytes() {
    on_core(|core| async move {
        let (near, far) = pair(&core).await;
        let mut received = Vec::new();
        let sender = core.spawn_task("sender", {
            let core = core.clone();
            async move {
                for i in 0..200 {
                    near.write_all(vec![Bytes::from(pattern(i * 10, 10))])
                        .await
                        .unwrap();
                    core.sleep(Duration::from_micros(200)).await;
                }
                near
            }
        });
        let mut given_up = 0;
        while received.len() < 2000 {
            // The later buffer is smaller than what the dropped read may have received.
            let limit = Duration::from_micros(150);
            let read = timeout(&core, limit, far.read(BytesMut::with_capacity(64))).await;
            let (got, buf) = match read {
                Ok(done) => done,
                Err(_) => {
                    given_up += 1;
                    far.read(BytesMut::with_capacity(3)).await
                }
            };
            assert!(got.unwrap() > 0);
            received.extend_from_slice(&buf);
        }
        assert_eq!(received, pattern(0, 2000));
        assert!(given_up > 10, "only {given_up} reads were given up");
        drop(sender.await);
    });
}

#[test]
fn bytes_of_a_completed_but_dropped_read_go_to_the_next() {
    on_core(|core| async move {
        let (near, far) = pair(&core).await;
        for round in 0..20u8 {
            let mut read = Box::pin(far.read(BytesMut::with_capacity(64)));
            poll_fn(|cx| {
                assert!(read.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            near.write_all(vec![Bytes::from(vec![round; 5])])
                .await
                .unwrap();
            core.sleep(Duration::from_millis(2)).await;
            drop(read);
            let first = far.read(BytesMut::with_capacity(2)).await.1;
            let second = far.read(BytesMut::with_capacity(64)).await.1;
            assert_eq!(
                (&first[..], &second[..]),
                (&[round; 2][..], &[round; 3][..])
            );
        }
        assert_eq!(core.stats().ops_in_flight, 0);
    });
}

#[test]
fn readable_waits_without_a_buffer() {
    on_core(|core| async move {
        let (near, far) = pair(&core).await;
        let limit = Duration::from_millis(10);
        assert!(timeout(&core, limit, far.readable()).await.is_err());
        near.write_all(vec![Bytes::from_static(b"ab")])
            .await
            .unwrap();
        far.readable().await.unwrap();
        let first = far.read(BytesMut::with_capacity(1)).await.1;
        far.readable().await.unwrap();
        let second = far.read(BytesMut::with_capacity(1)).await.1;
        assert_eq!((&first[..], &second[..]), (&b"a"[..], &b"b"[..]));
        drop(near);
        far.readable().await.unwrap();
        assert_eq!(far.read(BytesMut::with_capacity(1)).await.0.unwrap(), 0);
        core.sleep(limit).await;
        assert_eq!(core.stats().ops_in_flight, 0);
    });
}

#[test]
fn a_read_kept_in_a_buffer_grows_it() {
    on_core(|core| async move {
        let (near, far) = pair(&core).await;
        let mut buf = BytesMut::with_capacity(100);
        buf.extend_from_slice(b"kept:");
        near.write_all(vec![Bytes::from_static(b"new")])
            .await
            .unwrap();
        let (got, buf) = far.read(buf).await;
        assert_eq!((got.unwrap(), &buf[..]), (3, &b"kept:new"[..]));
    });
}

#[test]
fn a_dropped_write_ends_the_connection() {
    on_core(|core| async move {
        let (near, far) = pair(&core).await;
        let endless = vec![Bytes::from(vec![0; 64 << 20])];
        let limit = Duration::from_millis(20);
        assert!(
            timeout(&core, limit, near.write_all(endless))
                .await
                .is_err()
        );
        let again = near.write_all(vec![Bytes::from_static(b"more")]).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::BrokenPipe);
        drop(far);
        core.sleep(Duration::from_millis(20)).await;
        assert_eq!(core.stats().ops_in_flight, 0);
    });
}

#[test]
fn shutdown_ends_a_pending_read() {
    on_core(|core| async move {
        let (near, far) = pair(&core).await;
        let reader = near.try_clone();
        let reading = core.spawn_task("reader", async move {
            reader.read(BytesMut::with_capacity(10)).await.0
        });
        core.sleep(Duration::from_millis(5)).await;
        near.shutdown();
        assert_eq!(reading.await.unwrap(), 0);
        assert_eq!(far.read(BytesMut::with_capacity(10)).await.0.unwrap(), 0);
    });
}

#[test]
fn dropping_accepts_and_connects_leaves_nothing_behind() {
    on_core(|core| async move {
        let listener = core.listen(any_port(), 16).await.unwrap();
        let addr = listener.local_addr();
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        for _ in 0..50 {
            assert!(
                timeout(&core, Duration::ZERO, listener.accept())
                    .await
                    .is_err()
            );
            drop(core.connect(addr));
            // A connection that arrives at an accept that nobody awaits any more.
            drop(timeout(&core, Duration::ZERO, core.connect(addr)).await);
            core.sleep(Duration::from_micros(500)).await;
        }
        while timeout(&core, Duration::from_millis(20), listener.accept())
            .await
            .is_ok()
        {}
        core.sleep(Duration::from_millis(50)).await;
        assert_eq!(core.stats().ops_in_flight, 0);
        // Other tests of this process open and close some too, the more the busier the machine is.
        for _ in 0..100 {
            if descriptors() < before + 40 {
                break;
            }
            core.sleep(Duration::from_millis(50)).await;
        }
        assert!(
            descriptors() < before + 40,
            "{} descriptors, {before} before",
            descriptors()
        );
    });
}

#[test]
fn errors_are_the_callers() {
    on_core(|core| async move {
        let listener = core.listen(any_port(), 1).await.unwrap();
        let taken = core.listen(listener.local_addr(), 1).await.err().unwrap();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let addr = listener.local_addr();
        drop(listener);
        let refused = core.connect(addr).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn plain_blocking_peers_are_served_over_ipv6_too() {
    on_core(|core| async move {
        let Ok(local) = "[::1]:0".parse::<SocketAddr>() else {
            unreachable!()
        };
        let listener = match core.listen(local, 8).await {
            Ok(listener) => listener,
            Err(e) => return println!("SKIPPED (1): no IPv6 loopback here: {e}"),
        };
        let addr = listener.local_addr();
        let peer = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"question").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let stream = listener.accept().await.unwrap();
        assert_eq!(read_exactly(&stream, 8).await[..], b"question"[..]);
        stream
            .write_all(vec![Bytes::from_static(b"answer")])
            .await
            .unwrap();
        stream.shutdown();
        drop(stream);
        assert_eq!(peer.join().unwrap(), "answer");
    });
}

#[test]
fn a_connection_moves_to_another_core() {
    let std_listener = TcpListener::bind(any_port()).unwrap();
    let addr = std_listener.local_addr().unwrap();
    drop(std_listener);
    let main = move |core: Core, post: Post<runtime::Parcel>, mut inbox: Inbox<_>| async move {
        if core.id() == 0 {
            let listener = core.listen(addr, 8).await.unwrap();
            for _ in 0..10 {
                let stream = listener.accept().await.unwrap();
                let other = stream.try_clone();
                let stream = stream
                    .into_parcel()
                    .err()
                    .expect("two handles in one parcel");
                drop(other);
                // What this core has begun to receive travels along.
                let limit = Duration::from_micros(100);
                let early = timeout(&core, limit, stream.read(BytesMut::with_capacity(1))).await;
                let mut first = early.map_or(BytesMut::new(), |(_, buf)| buf);
                if first.is_empty() {
                    first = stream.read(BytesMut::with_capacity(1)).await.1;
                }
                assert_eq!(first[..], b"x"[..]);
                post.send(1, stream.into_parcel().ok().expect("a quiet stream"));
            }
            return;
        }
        let mut served = 0;
        while served < 10 {
            for (_, parcel) in inbox.take().await {
                let stream = core.adopt(parcel);
                assert_eq!(read_exactly(&stream, 4).await[..], b"rest"[..]);
                stream
                    .write_all(vec![Bytes::from_static(b"bye")])
                    .await
                    .unwrap();
                served += 1;
            }
        }
    };
    let node = uring::launch(uring::Options::cores(2), main).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..10 {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"xrest").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "bye");
    }
    node.join().unwrap();
}
