//! Links between nodes on the simulated network: what holds while it is cut, held up, and nodes die.

#[path = "peers/admission.rs"]
mod admission;
#[path = "peers/node.rs"]
mod node;
#[path = "peers/random.rs"]
mod random;

use std::net::SocketAddr;
use std::time::Duration;

use broker::peers::{
    Destination, Hello, Introduction, LEVEL, LinkEnd, Message, Origin, RefusalCode, Sent, Settings,
};
use bytes::{Bytes, BytesMut};
use node::{Event, PORT, Spec, World, ms};
use runtime::sim::{Latency, Options};
use runtime::{Core, Stream};

const PATIENCE: Duration = Duration::from_secs(60);

fn send(world: &World, from: (i32, u16), to: (i32, u16), payload: impl Into<Bytes>) -> Sent {
    let links = world.links(from.0, from.1);
    links.send(to.0, Destination::Core(to.1), 7, vec![payload.into()])
}

fn is_down(event: &Event) -> bool {
    matches!(event, Event::Down { .. })
}

fn is_up(event: &Event) -> bool {
    matches!(event, Event::Up { .. })
}

fn is_silent(event: &Event) -> bool {
    matches!(event, Event::Silent { .. })
}

/// The reasons of all ends that a core was told.
fn ends(world: &World, node: i32, core: u16) -> Vec<LinkEnd> {
    let reason = |event| match event {
        Event::Down { reason, .. } => Some(reason),
        _ => None,
    };
    let told = world.take_told(node, core);
    told.into_iter().filter_map(reason).collect()
}

#[test]
fn a_frame_reaches_its_core_and_says_where_it_comes_from() {
    let mut world = World::new(Options::seeded(1));
    world.start(&Spec::new(1, 3));
    world.start(&Spec {
        incarnation: 9,
        ..Spec::new(2, 2)
    });
    world.sim.run_for(ms(5));
    world.link_all();
    world.sim.run_for(ms(20));
    for core in 0..3 {
        let up = Event::Up { node: 2, cores: 2 };
        assert_eq!(world.take_told(1, core), [up], "core {core}");
    }
    for core in 0..2 {
        let up = Event::Up { node: 1, cores: 3 };
        assert_eq!(world.take_told(2, core), [up], "core {core}");
    }
    let links = world.links(1, 2);
    assert_eq!(links.cores_of(2), Some(2));
    assert_eq!(links.incarnation_of(2), Some(9));
    assert_eq!(links.landing_of(2), Some(0));
    assert_eq!(links.level_of(2), Some(LEVEL));
    // Core 2 of node 1 lands on core 0 of node 2, wherever the frame is to go.
    let payload = vec![Bytes::from_static(b"a"), Bytes::from(vec![b'b'; 100_000])];
    let whole = Bytes::from(payload.concat());
    for to in [
        Destination::Landing,
        Destination::Core(0),
        Destination::Core(1),
    ] {
        assert_eq!(links.send(2, to, 7, payload.clone()), Sent::Queued);
    }
    assert_eq!(
        links.send(2, Destination::Core(2), 7, Vec::new()),
        Sent::Dropped
    );
    assert_eq!(
        links.send(3, Destination::Landing, 7, Vec::new()),
        Sent::Dropped
    );
    world.sim.run_for(ms(20));
    let heard = |to| {
        let (node, incarnation, core, level) = (1, 1, 2, LEVEL);
        let origin = Origin {
            node,
            incarnation,
            core,
            level,
        };
        let (kind, payload) = (7, whole.clone());
        Event::Heard {
            origin,
            to,
            kind,
            payload,
        }
    };
    assert_eq!(world.take_told(2, 0), [heard(0), heard(0), heard(1)]);
    assert_eq!(world.take_told(2, 1), []);
    let counters = links.counters()[&2];
    assert!(
        counters.frames_out >= 3 && counters.bytes_out > 300_000,
        "{counters:?}"
    );
    assert_eq!((counters.frames_dropped, counters.queued_bytes), (1, 0));
    let received = world.links(2, 0).counters()[&1];
    assert!(
        received.frames_in >= 3 && received.bytes_in > 300_000,
        "{received:?}"
    );
}

#[test]
fn frames_of_one_turn_leave_in_one_write() {
    for seed in 0..20 {
        let world = World::of(2, seed);
        let (core, links) = (world.core(1, 0), world.links(1, 0));
        let before = links.counters()[&2];
        // Tasks of their own, in seeded order; the link's is somewhere among them.
        for beat in 0..100u8 {
            let links = links.clone();
            core.spawn("beat", async move {
                let sent = links.send(2, Destination::Core(0), 7, vec![Bytes::from(vec![beat])]);
                assert_eq!(sent, Sent::Queued);
            });
        }
        world.sim.run_for(ms(5));
        let after = links.counters()[&2];
        assert_eq!(after.writes_out - before.writes_out, 1);
        assert_eq!(after.frames_out - before.frames_out, 100);
        assert_eq!(world.heard(2, 0).len(), 100);
    }
}

/// A connection of node 9, spoken by hand.
struct Caller {
    stream: Stream,
}

impl Caller {
    /// Says hello to node 1 from a core, and is welcomed.
    async fn welcomed(core: &Core, address: SocketAddr, from: u16, incarnation: u32) -> Caller {
        let stream = core.connect(address).await.expect("it listens");
        let hello = Hello {
            who: Introduction {
                cluster_id: "blue".into(),
                node: 9,
                incarnation,
                start: storage::Start::default(),
                cores: 2,
                level: LEVEL,
            },
            core: from,
            expects_node: 1,
            expects_incarnation: None,
        };
        let hello = Message::Hello(hello).encode();
        stream.write_all(vec![hello]).await.expect("it is taken");
        let mut buffer = BytesMut::new();
        loop {
            match Message::cut(&mut buffer).expect("an answer") {
                Some(Message::Welcome(_)) => break,
                Some(other) => panic!("{other:?}"),
                None => buffer.reserve(1_000),
            }
            let (received, filled) = stream.read(buffer).await;
            assert!(received.expect("an answer") > 0);
            buffer = filled;
        }
        Caller { stream }
    }

    /// Sends a frame of one byte. It may come to nothing.
    async fn say(&self, what: u8) {
        let frame = Bytes::from(vec![0, 0, 0, 4, 7, 0, 0, what]);
        let _ = self.stream.write_all(vec![frame]).await;
    }

    async fn is_closed(&self) -> bool {
        let (received, _) = self.stream.read(BytesMut::with_capacity(1_000)).await;
        !received.is_ok_and(|received| received > 0)
    }
}

#[test]
fn nothing_is_heard_of_a_connection_that_another_one_has_replaced() {
    for seed in 0..20 {
        let mut world = World::new(Options::seeded(seed));
        let id = world.start(&Spec::new(1, 1));
        let address = SocketAddr::new(world.sim.ip(id), PORT);
        let caller = world.sim.client("caller", move |core| async move {
            core.sleep(ms(5)).await;
            let first = Caller::welcomed(&core, address, 0, 1).await;
            let other = Caller::welcomed(&core, address, 1, 1).await;
            first.say(1).await;
            core.sleep(ms(5)).await;
            let second = Caller::welcomed(&core, address, 0, 1).await;
            first.say(2).await;
            second.say(3).await;
            assert!(first.is_closed().await);
            // Another core's connection stays, until the node has another disk.
            other.say(4).await;
            core.sleep(ms(5)).await;
            let reborn = Caller::welcomed(&core, address, 0, 2).await;
            second.say(5).await;
            other.say(6).await;
            reborn.say(7).await;
            assert!(second.is_closed().await && other.is_closed().await);
            core.sleep(ms(5)).await;
        });
        assert!(world.sim.run_until_done(caller, PATIENCE));
        let mut heard = world.heard(1, 0).concat();
        // Those of different connections may overtake each other.
        heard.sort();
        assert_eq!(heard, [1, 3, 4, 7], "seed {seed}");
        assert_eq!(world.links(1, 0).counters()[&9].arrived, 4);
    }
}

#[test]
fn whoever_sends_nonsense_is_told_so() {
    let nonsense: [(&[u8], &str); 5] = [
        (b"\0\0\0\x02\x07\0", "a frame announces 2 bytes"),
        (b"\xff\xff\xff\xff", "a frame announces 4294967295 bytes"),
        (b"\0\0\0\x03\xff\0\0", "a frame of kind 0xff with 0 bytes"),
        (
            b"\0\0\0\x04\xf0\0\0\x01",
            "a frame of kind 0xf0 with 1 bytes",
        ),
        (
            b"\0\0\0\x03\x07\0\x01",
            "a frame for core 1, this node has 1",
        ),
    ];
    let mut world = World::new(Options::seeded(23));
    let id = world.start(&Spec::new(1, 1));
    let address = SocketAddr::new(world.sim.ip(id), PORT);
    let caller = world.sim.client("caller", move |core| async move {
        core.sleep(ms(5)).await;
        for (bytes, sentence) in nonsense {
            let caller = Caller::welcomed(&core, address, 0, 1).await;
            // A good frame before it is heard.
            caller.say(1).await;
            let bytes = Bytes::from_static(bytes);
            caller.stream.write_all(vec![bytes]).await.expect("taken");
            let mut told = BytesMut::new();
            loop {
                told.reserve(1_000);
                let (received, filled) = caller.stream.read(told).await;
                told = filled;
                if !received.is_ok_and(|received| received > 0) {
                    break;
                }
            }
            // REFUSED, for the core where it landed, of code 6.
            assert_eq!(told[4..9], [0xf2, 0xff, 0xff, 0, 6]);
            let text = String::from_utf8_lossy(&told[11..]);
            assert!(text.starts_with(sentence), "{text}");
        }
    });
    assert!(world.sim.run_until_done(caller, PATIENCE));
    assert_eq!(world.heard(1, 0).len(), nonsense.len());
    assert_eq!(
        world.links(1, 0).counters()[&9].malformed,
        nonsense.len() as u64
    );
}

#[test]
fn an_idle_link_says_that_it_is_there_and_measures_the_way() {
    let mut options = Options::seeded(4);
    options.network.latency = Latency::micros(5_000, 5_000);
    let mut world = World::new(options);
    for node in [1, 2] {
        world.start(&Spec::new(node, 1));
    }
    world.sim.run_for(ms(50));
    world.link_all();
    world.sim.run_for(ms(100));
    world.clear_told();
    let before = world.links(1, 0).counters()[&2];
    world.sim.run_for(ms(10_000));
    let after = world.links(1, 0).counters()[&2];
    let frames = after.frames_out - before.frames_out;
    assert!(
        (95..=105).contains(&frames),
        "{frames} frames in ten seconds"
    );
    let round_trip = after.round_trip.as_micros();
    assert!((10_000..10_500).contains(&round_trip), "{round_trip} us");
    assert_eq!(world.take_told(1, 0), []);
}

#[test]
fn a_process_that_dies_is_noticed_at_once() {
    let mut seen = Vec::new();
    for seed in 0..10 {
        let mut world = World::of(3, seed);
        world.clear_told();
        let killed_at = world.sim.now();
        world.sim.kill(world.id(2));
        world.sim.run_for(ms(500));
        for node in [1, 3] {
            let noticed = world.first(node, is_down).expect("told") - killed_at;
            assert!(noticed < ms(5), "{noticed:?}");
            for core in 0..2 {
                let reasons = ends(&world, node, core);
                assert!(reasons.iter().all(LinkEnd::is_gone), "{reasons:?}");
                // Nobody listens there: that is what it comes to, and it is not said at each attempt.
                assert_eq!(reasons.last(), Some(&LinkEnd::Refused));
                assert!(reasons.len() <= 2, "{reasons:?}");
                seen.push(reasons[0].clone());
            }
        }
        assert!(!world.links(1, 0).is_up(2));
        assert_eq!(send(&world, (1, 0), (2, 0), "lost"), Sent::Dropped);
        // It comes back with another disk.
        let incarnation = 2;
        world.start(&Spec {
            incarnation,
            ..Spec::new(2, 2)
        });
        let began = world.sim.now();
        let up = || world.links(1, 0).incarnation_of(2) == Some(2);
        assert!(world.sim.run_until(PATIENCE, up));
        assert!(
            world.sim.now() - began < ms(1_200),
            "{:?}",
            world.sim.now() - began
        );
        assert_eq!(send(&world, (1, 0), (2, 0), "found"), Sent::Queued);
        world.sim.run_for(ms(50));
        assert_eq!(world.heard(2, 0), ["found"]);
    }
    assert!(seen.contains(&LinkEnd::Reset) && seen.contains(&LinkEnd::Closed));
}

#[test]
fn a_machine_that_dies_falls_silent() {
    let mut world = World::of(2, 5);
    world.clear_told();
    let crashed_at = world.sim.now();
    world.sim.crash(world.id(2));
    world.sim.run_for(ms(9_000));
    let silent = world.first(1, is_silent).expect("told") - crashed_at;
    assert!((ms(300)..ms(500)).contains(&silent), "{silent:?}");
    assert_eq!(
        world.first(1, is_down),
        None,
        "nobody knows that it is dead"
    );
    world.sim.run_for(ms(2_000));
    let down = world.first(1, is_down).expect("told") - crashed_at;
    assert!((ms(9_400)..ms(10_700)).contains(&down), "{down:?}");
    assert_eq!(ends(&world, 1, 0), [LinkEnd::TimedOut]);
    world.start(&Spec::new(2, 2));
    world.sim.run_for(ms(5));
    world.reach(2, 1);
    assert!(world.sim.run_until(PATIENCE, || world.links(1, 0).is_up(2)));
    let told = world.take_told(1, 0);
    assert!(told.contains(&Event::HeardAgain { node: 2 }), "{told:?}");
}

/// Each finds at once that it has not heard the other, who could no more speak than it could listen.
#[test]
fn nodes_that_stood_still_together_do_not_call_each_other_silent() {
    for seed in 0..20 {
        let world = World::of(2, 50 + seed);
        world.sim.run_for(ms(1_000));
        world.clear_told();
        for node in [1, 2] {
            world.sim.freeze(world.id(node));
        }
        world.sim.run_for(ms(1_500));
        for node in [1, 2] {
            world.sim.thaw(world.id(node));
        }
        world.sim.run_for(ms(2_000));
        for node in [1, 2] {
            assert_eq!(world.first(node, is_silent), None, "seed {seed}");
        }
    }
}

#[test]
fn a_short_partition_loses_nothing() {
    let world = World::of(3, 6);
    world.clear_told();
    world.sim.partition(world.id(1), world.id(2));
    for number in 0..50u8 {
        assert_eq!(send(&world, (1, 0), (2, 0), vec![number]), Sent::Queued);
    }
    world.sim.run_for(ms(3_000));
    assert_eq!(world.take_told(1, 0), [Event::Silent { node: 2 }]);
    assert_eq!(world.take_told(2, 0), [Event::Silent { node: 1 }]);
    assert_eq!(world.take_told(3, 0), []);
    world.sim.heal(world.id(1), world.id(2));
    world.sim.run_for(ms(200));
    assert_eq!(world.take_told(1, 0), [Event::HeardAgain { node: 2 }]);
    assert_eq!(world.first(2, is_down), None);
    let heard: Vec<u8> = world.heard(2, 0).concat();
    assert_eq!(heard, (0..50).collect::<Vec<u8>>());
}

#[test]
fn silence_is_told_in_the_direction_in_which_it_is() {
    let world = World::of(2, 7);
    world.clear_told();
    world.sim.block(world.id(1), world.id(2));
    world.sim.run_for(ms(5_000));
    assert_eq!(world.take_told(2, 1), [Event::Silent { node: 1 }]);
    // Node 2 is heard, though no echo comes from it.
    assert_eq!(world.take_told(1, 1), []);
    world.sim.run_for(ms(6_000));
    // The echoes that node 2 awaits do not come. What node 1 sends does not arrive, so that node 2 gives up the
    // connection and can still say so: nobody takes node 2 for dead.
    let [LinkEnd::Rejected(refusal), ..] = &ends(&world, 1, 1)[..] else {
        panic!("it is told why");
    };
    assert_eq!(refusal.code, RefusalCode::NotReady);
    assert!(refusal.sentence.contains("for 10s"), "{refusal}");
    assert_eq!(ends(&world, 2, 1)[0], LinkEnd::TimedOut);
    world.sim.unblock(world.id(1), world.id(2));
    world.sim.run_for(ms(5_000));
    assert!(world.links(1, 1).is_up(2) && world.links(2, 1).is_up(1));
    assert_eq!(send(&world, (1, 1), (2, 1), "again"), Sent::Queued);
    world.sim.run_for(ms(50));
    assert_eq!(world.heard(2, 1), ["again"]);
}

#[test]
fn a_reset_connection_is_opened_again_and_its_queue_is_lost() {
    let world = World::of(2, 8);
    world.clear_told();
    world.sim.block(world.id(1), world.id(2));
    assert_eq!(send(&world, (1, 0), (2, 0), "lost"), Sent::Queued);
    world.sim.run_for(ms(10));
    // The window is full with this, so that the next one stays in the queue.
    assert_eq!(send(&world, (1, 0), (2, 0), vec![1; 1 << 20]), Sent::Queued);
    assert_eq!(send(&world, (1, 0), (2, 0), "lost"), Sent::Queued);
    world.sim.run_for(ms(10));
    assert!(world.links(1, 0).queued_bytes(2) > 1 << 20);
    world.sim.cut(world.id(1), world.id(2));
    world.sim.heal_all();
    world.sim.run_for(ms(1));
    assert_eq!(world.take_told(1, 0).len(), 1);
    assert_eq!(world.links(1, 0).queued_bytes(2), 0);
    assert_eq!(world.links(1, 0).counters()[&2].frames_dropped, 2);
    assert_eq!(send(&world, (1, 0), (2, 0), "lost"), Sent::Dropped);
    world.sim.run_for(ms(150));
    assert_eq!(world.take_told(1, 0), [Event::Up { node: 2, cores: 2 }]);
    assert_eq!(send(&world, (1, 0), (2, 0), "found"), Sent::Queued);
    world.sim.run_for(ms(50));
    assert_eq!(world.heard(2, 0), ["found"]);
}

#[test]
fn a_new_connection_takes_the_place_of_one_that_is_half_open() {
    let mut world = World::of(2, 9);
    world.sim.crash(world.id(1));
    world.sim.run_for(ms(100));
    // Its machine comes back before anybody has noticed.
    world.start(&Spec::new(1, 2));
    world.sim.run_for(ms(5));
    world.clear_told();
    world.link_all();
    world.sim.run_for(ms(100));
    let counters = world.links(2, 0).counters()[&1];
    assert_eq!(counters.arrived, 2);
    assert_eq!(send(&world, (1, 0), (2, 0), "new life"), Sent::Queued);
    world.sim.run_for(ms(50));
    assert_eq!(world.heard(2, 0), ["new life"]);
    assert_eq!(world.first(2, is_silent), None);
}

#[test]
fn a_full_queue_takes_no_more_and_keeps_its_order() {
    let mut world = World::new(Options::seeded(10));
    world.settings.queue_bytes_max = 1 << 20;
    for node in [1, 2] {
        world.start(&Spec::new(node, 1));
    }
    world.sim.run_for(ms(5));
    world.link_all();
    world.sim.run_for(ms(50));
    world.sim.block(world.id(1), world.id(2));
    let mut taken = Vec::new();
    for number in 0..10_000u32 {
        let mut payload = vec![0; 1_000];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        if send(&world, (1, 0), (2, 0), payload) == Sent::Queued {
            taken.push(number);
        }
        let queued = world.links(1, 0).queued_bytes(2);
        assert!(queued <= world.settings.queue_bytes_max, "{queued}");
        if number % 100 == 0 {
            world.sim.run_for(ms(1));
        }
    }
    assert!(
        (1_000..2_000).contains(&taken.len()),
        "{} taken",
        taken.len()
    );
    let dropped = world.links(1, 0).counters()[&2].frames_dropped;
    assert_eq!(dropped, 10_000 - taken.len() as u64);
    let too_large = vec![0; world.settings.frame_bytes_max];
    assert_eq!(send(&world, (1, 0), (2, 0), too_large), Sent::TooLarge);
    world.sim.heal_all();
    world.sim.run_for(ms(2_000));
    let number = |payload: &Bytes| u32::from_be_bytes(*payload.first_chunk().expect("four"));
    let heard: Vec<u32> = world.heard(2, 0).iter().map(number).collect();
    assert_eq!(heard, taken);
    assert_eq!(world.links(1, 0).queued_bytes(2), 0);
}

#[test]
fn the_largest_frame_gets_through_and_one_waits_for_another() {
    let mut world = World::new(Options::seeded(11));
    world.settings.frame_bytes_max = 3 << 20;
    world.settings.queue_bytes_max = 1 << 20;
    // All four cores of node 1 land on the only core of node 2, which lends two frames' memory.
    world.start(&Spec::new(1, 4));
    world.start(&Spec::new(2, 1));
    world.sim.run_for(ms(5));
    world.link_all();
    world.sim.run_for(ms(50));
    world.clear_told();
    for core in 0..4 {
        let payload = vec![core as u8; (3 << 20) - 7];
        assert_eq!(send(&world, (1, core), (2, 0), payload), Sent::Queued);
        assert_eq!(send(&world, (1, core), (2, 0), vec![9]), Sent::Dropped);
    }
    world.sim.run_for(ms(9_000));
    let mut heard = world.heard(2, 0);
    heard.sort();
    let sizes: Vec<(u8, usize)> = heard.iter().map(|it| (it[0], it.len())).collect();
    let size = (3 << 20) - 7;
    assert_eq!(sizes, [(0, size), (1, size), (2, size), (3, size)]);
    assert_eq!(world.first(1, is_down), None);
}

#[test]
fn a_link_can_be_redirected_and_forgotten() {
    let mut world = World::of(2, 19);
    world.clear_told();
    let links = world.links(1, 0);
    links.reach(2, world.address(2), None);
    links.reach(2, world.address(2), Some(1));
    world.sim.run_for(ms(20));
    assert_eq!(
        world.take_told(1, 0),
        [],
        "the same address changes nothing"
    );
    // Node 2 is moved: for now node 3 is at its new address.
    world.start(&Spec::new(3, 1));
    world.sim.run_for(ms(5));
    links.reach(2, world.address(3), None);
    assert!(!links.is_up(2));
    assert_eq!(send(&world, (1, 0), (2, 0), "lost"), Sent::Dropped);
    world.sim.run_for(ms(20));
    let reasons = ends(&world, 1, 0);
    assert_eq!(reasons[0], LinkEnd::Redirected);
    assert!(
        reasons[1].to_string().contains("reached node 3"),
        "{reasons:?}"
    );
    links.reach(2, world.address(2), None);
    world.sim.run_for(ms(20));
    assert_eq!(world.take_told(1, 0), [Event::Up { node: 2, cores: 2 }]);
    links.forget(2);
    assert!(!links.is_up(2));
    world.sim.run_for(ms(2_000));
    assert_eq!(world.take_told(1, 0), [], "who forgets is told no more");
    // Each core tells of what it hears itself.
    assert_eq!(
        world.take_told(2, 0).last(),
        Some(&Event::Silent { node: 1 })
    );
    assert!(world.first(2, is_silent).is_none());
    world.links(1, 1).shut();
    world.sim.run_for(ms(2_000));
    assert!(world.first(2, is_silent).is_some());
    assert!(!world.links(1, 1).is_up(2));
    // What it ends, it closes: the other side knows that nobody is there to hear it.
    assert_eq!(ends(&world, 2, 1)[0], LinkEnd::Closed);
}

#[test]
fn a_process_that_restarts_with_more_cores_is_known_by_them() {
    let mut world = World::of(2, 20);
    world.sim.kill(world.id(2));
    world.sim.run_for(ms(10));
    world.start(&Spec::new(2, 5));
    world.clear_told();
    world.sim.run_for(ms(1_200));
    assert_eq!(world.links(1, 1).cores_of(2), Some(5));
    assert!(world.first(1, is_up).is_some());
    assert_eq!(
        send(&world, (1, 1), (2, 4), "to the new core"),
        Sent::Queued
    );
    world.sim.run_for(ms(50));
    assert_eq!(world.heard(2, 1), ["to the new core"]);
}

#[test]
fn scaled_times_keep_their_proportions() {
    let scaled = Settings::default().scaled(0.1);
    assert_eq!(scaled.keep_alive, ms(10));
    assert_eq!(scaled.dead_after, ms(1_000));
    assert_eq!(scaled.queue_bytes_max, Settings::default().queue_bytes_max);
    let mut world = World::new(Options::seeded(21));
    world.settings = scaled;
    for node in [1, 2] {
        world.start(&Spec::new(node, 1));
    }
    world.sim.run_for(ms(5));
    world.link_all();
    world.sim.run_for(ms(50));
    world.clear_told();
    let cut_at = world.sim.now();
    world.sim.partition(world.id(1), world.id(2));
    world.sim.run_for(ms(2_000));
    let silent = world.first(1, is_silent).expect("told") - cut_at;
    assert!((ms(28)..ms(55)).contains(&silent), "{silent:?}");
    let down = world.first(1, is_down).expect("told") - cut_at;
    assert!((ms(930)..ms(1_050)).contains(&down), "{down:?}");
}
