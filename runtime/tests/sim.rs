//! The simulated backend: determinism, time, network, mail, panics.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::sim::{Options, Sim};
use runtime::{Core, Durability, Inbox, OpenOptions, Post, Stream, join_all, timeout};

const SECOND: Duration = Duration::from_secs(1);

async fn read_exactly(stream: &Stream, count: usize) -> std::io::Result<Vec<u8>> {
    let mut buf = BytesMut::with_capacity(count.max(1));
    while buf.len() < count {
        let (got, back) = stream.read(buf).await;
        buf = back;
        if got? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buf.to_vec())
}

/// Answers every connection with what it sends.
async fn echo(core: Core, addr: SocketAddr) {
    let listener = core.listen(addr, 128).await.unwrap();
    loop {
        let stream = listener.accept().await.unwrap();
        core.spawn("echo", async move {
            loop {
                let (got, buf) = stream.read(BytesMut::with_capacity(4096)).await;
                if !got.is_ok_and(|n| n > 0) || stream.write_all(vec![buf.freeze()]).await.is_err()
                {
                    return;
                }
            }
        });
    }
}

/// Two echo nodes that also write files and mail each other; clients that talk to them.
fn busy_world(options: Options) -> (u64, u64, Vec<String>) {
    let sim = Sim::new(options);
    let log = Rc::new(RefCell::new(Vec::new()));
    for name in ["a", "b"] {
        sim.start(
            name,
            2,
            |core: Core, post: Post<u64>, mut inbox: Inbox<u64>| async move {
                let addr: SocketAddr = format!("0.0.0.0:{}", 9000 + core.id()).parse().unwrap();
                core.spawn("server", echo(core.clone(), addr));
                let path = format!("/core-{}", core.id());
                let file = core
                    .disk()
                    .open(Path::new(&path), OpenOptions::CREATE)
                    .await
                    .unwrap();
                post.send(1 - core.id(), 0);
                loop {
                    for (from, hops) in inbox.take().await {
                        let line = Bytes::from(hops.to_le_bytes().to_vec());
                        file.write_at(line, hops * 8, Durability::Synced)
                            .await
                            .unwrap();
                        post.send(from, hops + 1);
                    }
                }
            },
        );
    }
    for client in 0..4u8 {
        let log = Rc::clone(&log);
        let ip = sim.ip(sim_node(client as usize % 2, &sim));
        sim.client(&format!("client {client}"), move |core| async move {
            let addr = SocketAddr::new(ip, 9000 + u16::from(client) / 2);
            core.sleep(Duration::from_millis(1)).await;
            let stream = core.connect(addr).await.unwrap();
            for round in 0..20u8 {
                let size = (core.random() % 5000) as usize + 1;
                let sent = vec![round ^ client; size];
                stream
                    .write_all(vec![Bytes::from(sent.clone())])
                    .await
                    .unwrap();
                assert_eq!(read_exactly(&stream, size).await.unwrap(), sent);
                log.borrow_mut()
                    .push(format!("{client} {round} {size} {:?}", core.now()));
            }
        });
    }
    sim.run_for(SECOND);
    let log = log.take();
    assert_eq!(log.len(), 80);
    (sim.trace_hash(), sim.trace_events(), log)
}

fn sim_node(number: usize, sim: &Sim) -> runtime::sim::NodeId {
    let names = ["a", "b"];
    sim.node(names[number]).unwrap()
}

#[test]
fn one_seed_gives_one_run() {
    let first = busy_world(Options::seeded(11));
    assert!(first.1 > 1000, "only {} events", first.1);
    assert_eq!(first, busy_world(Options::seeded(11)));
    assert_ne!(first.0, busy_world(Options::seeded(12)).0);
}

#[test]
fn time_leaps_over_what_nobody_waits_for() {
    let sim = Sim::new(Options::seeded(1));
    let began = std::time::Instant::now();
    let client = sim.client("sleeper", |core| async move {
        core.sleep(Duration::from_secs(86_400)).await;
        assert!(core.now().as_millis() >= 86_400_000);
        assert_eq!(
            core.wall_ms() - 1_790_000_000_000,
            core.now().as_millis() as i64
        );
    });
    assert!(!sim.run_until_done(client, SECOND));
    assert_eq!(sim.now().as_millis(), 1000);
    assert!(sim.run_until_done(client, Duration::from_secs(90_000)));
    assert!(began.elapsed() < SECOND);
    assert!(!sim.step(), "something is left to do");
}

#[test]
fn a_frozen_node_does_nothing_until_it_thaws() {
    let sim = Sim::new(Options::seeded(4));
    let ticks = Rc::new(Cell::new(0));
    let told = ticks.clone();
    let node = sim.client("n", move |core| async move {
        loop {
            core.sleep(Duration::from_millis(10)).await;
            told.set(told.get() + 1);
        }
    });
    sim.run_for(Duration::from_millis(105));
    assert_eq!(ticks.get(), 10);
    sim.freeze(node);
    sim.run_for(Duration::from_secs(5));
    assert_eq!(ticks.get(), 10);
    sim.thaw(node);
    // The timer that is overdue fires at once, and the next one in its own time.
    sim.run_for(Duration::from_millis(15));
    assert_eq!(ticks.get(), 12);
    assert!(sim.is_up(node));
}

#[test]
fn ready_tasks_run_in_seeded_order() {
    let order = |seed| {
        let sim = Sim::new(Options::seeded(seed));
        let log = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&log);
        let client = sim.client("main", move |core| async move {
            for i in 0..10 {
                let log = Rc::clone(&log);
                core.spawn("numbered", async move { log.borrow_mut().push(i) });
            }
            core.yield_now().await;
            assert_eq!(log.borrow().len(), 10, "the turn ended too early");
        });
        assert!(sim.run_until_done(client, SECOND));
        seen.take()
    };
    assert_eq!(order(1), order(1));
    assert!((2..20).any(|seed| order(seed) != order(1)));
}

#[test]
fn mail_keeps_its_order_per_pair() {
    for seed in 0..20 {
        let sim = Sim::new(Options::seeded(seed));
        let done = Rc::new(Cell::new(0));
        let count = Rc::clone(&done);
        sim.start(
            "node",
            3,
            move |core: Core, post: Post<u64>, mut inbox: Inbox<u64>| {
                let count = Rc::clone(&count);
                async move {
                    for n in 0..100 {
                        (0..core.cores()).for_each(|to| post.send(to, n));
                        if core.random().is_multiple_of(3) {
                            core.yield_now().await;
                        }
                    }
                    let mut next = [0; 3];
                    while next.iter().any(|&n| n < 100) {
                        for (from, n) in inbox.take().await {
                            assert_eq!(n, next[from]);
                            next[from] += 1;
                        }
                    }
                    count.set(count.get() + 1);
                }
            },
        );
        assert!(sim.run_until(SECOND, || done.get() == 3), "seed {seed}");
    }
}

#[test]
#[should_panic(expected = "seed 77: task \"doomed\" of node \"n\", core 1")]
fn a_panic_names_its_seed() {
    let sim = Sim::new(Options::seeded(77));
    sim.start("n", 2, |core: Core, _: Post<()>, _| async move {
        if core.id() == 1 {
            core.spawn("doomed", async { panic!("as planned") });
        }
        pending::<()>().await;
    });
    sim.run_for(SECOND);
}

#[test]
fn writers_wait_for_slow_readers() {
    let sim = Sim::new(Options::seeded(5));
    let written = Rc::new(Cell::new(0usize));
    let server = sim.start("server", 1, |core: Core, _: Post<()>, _| async move {
        let listener = core.listen("0.0.0.0:1".parse().unwrap(), 1).await.unwrap();
        let stream = listener.accept().await.unwrap();
        core.sleep(SECOND).await;
        let total = read_exactly(&stream, 4 << 20).await.unwrap().len();
        assert_eq!(total, 4 << 20);
    });
    let (addr, count) = (SocketAddr::new(sim.ip(server), 1), Rc::clone(&written));
    sim.client("writer", move |core| async move {
        let stream = core.connect(addr).await.unwrap();
        for _ in 0..64 {
            stream
                .write_all(vec![Bytes::from(vec![1; 64 << 10])])
                .await
                .unwrap();
            count.set(count.get() + (64 << 10));
        }
        pending::<()>().await;
    });
    sim.run_for(SECOND / 2);
    assert!(
        written.get() <= 256 << 10,
        "{} bytes without a reader",
        written.get()
    );
    assert!(sim.run_until_done(server, SECOND * 10));
    assert_eq!(written.get(), 4 << 20);
}

#[test]
fn connections_end_as_their_faults_say() {
    let sim = Sim::new(Options::seeded(9));
    let serve = |core: Core, _: Post<()>, _| echo(core, "0.0.0.0:9".parse().unwrap());
    let node = sim.start("server", 1, serve);
    let addr = SocketAddr::new(sim.ip(node), 9);
    let control = sim.clone();
    let client = sim.client("client", move |core| async move {
        let me = control.node("client").unwrap();
        let ms = Duration::from_millis;
        let refused = core
            .connect(SocketAddr::new(addr.ip(), 10))
            .await
            .err()
            .unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        let stream = core.connect(addr).await.unwrap();
        let ping = |stream: Stream| async move {
            stream.write_all(vec![Bytes::from_static(b"ping")]).await?;
            read_exactly(&stream, 4).await
        };
        assert_eq!(ping(stream.try_clone()).await.unwrap(), b"ping");
        assert!(timeout(&core, ms(5), stream.readable()).await.is_err());
        stream
            .write_all(vec![Bytes::from_static(b"x")])
            .await
            .unwrap();
        stream.readable().await.unwrap();
        assert_eq!(read_exactly(&stream, 1).await.unwrap(), b"x");

        control.partition(me, node);
        let silent = timeout(&core, ms(500), ping(stream.try_clone())).await;
        assert!(silent.is_err(), "an answer through a partition");
        let attempt = core.connect(addr).await.err().unwrap();
        assert_eq!(attempt.kind(), std::io::ErrorKind::TimedOut);
        control.heal(me, node);
        assert_eq!(
            read_exactly(&stream, 4).await.unwrap(),
            b"ping",
            "held up, not lost"
        );

        control.cut(me, node);
        let kind = ping(stream).await.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset);

        let stream = core.connect(addr).await.unwrap();
        control.crash(node);
        let nothing = timeout(&core, ms(5000), ping(stream.try_clone())).await;
        assert!(nothing.is_err(), "a dead machine answered");
        assert!(!control.is_up(node));
        control.start("server", 1, serve);
        core.sleep(ms(500)).await;
        let kind = ping(stream).await.unwrap_err().kind();
        assert_eq!(
            kind,
            std::io::ErrorKind::ConnectionReset,
            "half-open after the restart"
        );

        let stream = core.connect(addr).await.unwrap();
        assert_eq!(ping(stream.try_clone()).await.unwrap(), b"ping");
        control.kill(node);
        assert!(ping(stream).await.is_err());
        let refused = core.connect(addr).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
    assert!(sim.run_until_done(client, Duration::from_secs(100)));
}

#[test]
fn connections_travel_between_cores() {
    let sim = Sim::new(Options::seeded(4));
    let node = sim.start(
        "n",
        2,
        |core: Core, post: Post<_>, mut inbox: Inbox<_>| async move {
            if core.id() == 0 {
                let listener = core.listen("0.0.0.0:5".parse().unwrap(), 8).await.unwrap();
                for turn in 0.. {
                    let parcel = listener.accept().await.unwrap().into_parcel();
                    // Every other connection is dropped on the way.
                    if turn % 2 == 0 {
                        post.send(1, parcel.ok().unwrap());
                    }
                }
            }
            loop {
                for (from, parcel) in inbox.take().await {
                    assert_eq!(from, 0);
                    let stream = core.adopt(parcel);
                    let hello = format!("core {}", core.id());
                    stream.write_all(vec![Bytes::from(hello)]).await.unwrap();
                }
            }
        },
    );
    let addr = SocketAddr::new(sim.ip(node), 5);
    let client = sim.client("client", move |core| async move {
        core.sleep(Duration::from_millis(1)).await;
        for turn in 0..6 {
            let stream = core.connect(addr).await.unwrap();
            let (got, buf) = stream.read(BytesMut::with_capacity(1)).await;
            assert_eq!(
                got.is_ok_and(|n| n > 0),
                turn % 2 == 0,
                "turn {turn}: {buf:?}"
            );
        }
    });
    assert!(sim.run_until_done(client, SECOND * 10));
}

#[test]
fn a_rough_network_resets_and_stalls_but_never_corrupts() {
    let mut resets = 0;
    for seed in 0..30 {
        let mut options = Options::rough(seed);
        options.network.reset_per_million = 5_000;
        let sim = Sim::new(options);
        let node = sim.start("n", 1, |core: Core, _: Post<()>, _| {
            echo(core, "0.0.0.0:9".parse().unwrap())
        });
        let addr = SocketAddr::new(sim.ip(node), 9);
        let failures = Rc::new(Cell::new(0));
        let count = Rc::clone(&failures);
        let client = sim.client("c", move |core| async move {
            core.sleep(Duration::from_millis(1)).await;
            join_all((0..4u8).map(|i| {
                let (core, count) = (core.clone(), Rc::clone(&count));
                async move {
                    let stream = core.connect(addr).await.unwrap();
                    for n in 0..50u8 {
                        let sent = vec![n ^ i; 3000];
                        let parts = vec![Bytes::from(sent.clone())];
                        let written = stream.write_all(parts).await;
                        let got = read_exactly(&stream, 3000).await;
                        match (written, got) {
                            (Ok(()), Ok(bytes)) => assert_eq!(bytes, sent),
                            _ => return count.set(count.get() + 1),
                        }
                    }
                }
            }))
            .await;
        });
        assert!(sim.run_until_done(client, SECOND * 600), "seed {seed}");
        resets += failures.get();
    }
    assert!(resets > 5, "{resets} connections failed in all");
}
