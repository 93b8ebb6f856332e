//! Who is let in, who is refused and learns why, and what is answered without a link.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use broker::peers::{
    Destination, ExchangeError, LinkEnd, Names, Refusal, RefusalCode, Sent, exchange,
};
use bytes::{Bytes, BytesMut};
use runtime::Core;
use runtime::sim::Options;

use crate::node::{Event, PORT, Spec, World, ms};
use crate::{PATIENCE, ends, send};

#[test]
fn a_node_of_another_cluster_is_refused_and_rarely_tries_again() {
    let mut world = World::new(Options::seeded(12));
    world.start(&Spec::new(1, 1));
    world.start(&Spec {
        cluster_id: "red",
        ..Spec::new(2, 1)
    });
    world.sim.run_for(ms(5));
    world.reach(1, 2);
    world.sim.run_for(ms(21_000));
    let ends = ends(&world, 1, 0);
    let [LinkEnd::Rejected(refusal)] = &ends[..] else {
        panic!("told once: {ends:?}");
    };
    assert_eq!(refusal.code, RefusalCode::OtherCluster);
    let part = "this node belongs to cluster red, you belong to blue: ";
    assert!(refusal.sentence.starts_with(part), "{refusal}");
    let server = world.server(2);
    assert_eq!(
        (server.accepted, server.refusals_given, server.handed_over),
        (5, 5, 0)
    );
    assert_eq!(world.links(1, 0).counters()[&2].refusals_received, 5);
    assert_eq!(world.take_told(2, 0), []);
}

#[test]
fn a_wrong_address_is_told_as_such() {
    let mut world = World::new(Options::seeded(13));
    for node in [1, 2] {
        world.start(&Spec::new(node, 1));
    }
    world.sim.run_for(ms(5));
    let links = world.links(1, 0);
    links.reach(3, world.address(2), None);
    links.reach(1, world.address(1), None);
    links.reach(2, world.address(2), Some(8));
    links.reach(4, "nowhere:9192", None);
    world.sim.run_for(ms(3_000));
    let mut sentences = BTreeMap::new();
    for event in world.take_told(1, 0) {
        if let Event::Down { node, reason } = event {
            let earlier = sentences.insert(node, reason.to_string());
            assert_eq!(earlier, None, "told once");
        }
    }
    let parts = [
        (1, "the same id"),
        (2, "with the disk of incarnation 8"),
        (3, "expected node 3, reached node 2: check the addresses"),
        (4, "only addresses are known here"),
    ];
    for (node, part) in parts {
        assert!(sentences[&node].contains(part), "{node}: {sentences:?}");
    }
    // With the right particulars all is well.
    links.reach(2, world.address(2), Some(1));
    world.sim.run_for(ms(100));
    assert_eq!(world.take_told(1, 0), [Event::Up { node: 2, cores: 1 }]);
}

#[test]
fn a_retired_node_is_expelled_and_stays_out() {
    let world = World::of(2, 14);
    world.clear_told();
    world.shared.expelled_by.set(Some(66));
    let links = world.links(1, 0);
    // Nothing is heard behind the frame at which it is expelled.
    for kind in [7, 66, 7] {
        assert_eq!(
            links.send(2, Destination::Core(0), kind, Vec::new()),
            Sent::Queued
        );
    }
    world.shared.retired.borrow_mut().insert((1, 1));
    world.sim.run_for(ms(10_500));
    assert_eq!(world.heard(2, 0).len(), 2);
    let ends = ends(&world, 1, 0);
    let [LinkEnd::Rejected(refusal)] = &ends[..] else {
        panic!("told once: {ends:?}");
    };
    assert_eq!(
        (refusal.code, &*refusal.sentence),
        (RefusalCode::NotAdmitted, "go away")
    );
    assert_eq!(world.server(2).refusals_given, 2);
    let counters = links.counters()[&2];
    assert_eq!(counters.refusals_received, 3);
    assert_eq!(world.links(2, 0).counters()[&1].refusals_given, 1);
    // The other core's link was not touched, and what it sends is still heard.
    assert!(world.links(1, 1).is_up(2));
}

#[test]
fn who_comes_back_with_another_disk_is_not_expelled_with_the_old_one() {
    let world = World::of(2, 16);
    world.clear_told();
    let replaced = Refusal::retired("the disk was replaced");
    // Every node here has incarnation 1.
    world.links(2, 0).expel_identity(1, 7, &replaced);
    world.sim.run_for(ms(1_000));
    assert!(world.links(1, 0).is_up(2));
    assert_eq!(ends(&world, 1, 0).len(), 0);
    world.links(2, 0).expel_identity(1, 1, &replaced);
    world.sim.run_for(ms(1_000));
    let ends = ends(&world, 1, 0);
    let [LinkEnd::Rejected(refusal)] = &ends[..] else {
        panic!("told once: {ends:?}");
    };
    assert_eq!(refusal.code, RefusalCode::Retired);
}

#[test]
fn requests_are_answered_before_links_are_let_in() {
    let mut world = World::new(Options::seeded(15));
    world.shared.recovering.borrow_mut().insert(2);
    for node in [1, 2] {
        world.start(&Spec::new(node, 2));
    }
    world.sim.run_for(ms(5));
    world.link_all();
    let address = world.address(2);
    let answers = Rc::new(RefCell::new(Vec::new()));
    let given = answers.clone();
    let asker = world.sim.client("asker", move |core| async move {
        let request = Bytes::from(vec![200; 1 << 18]);
        let refused = Bytes::from(vec![255; 1 << 20]);
        let silent = Bytes::from_static(&[0]);
        let long = Bytes::from(vec![1; (1 << 20) + 1]);
        for request in [Bytes::new(), request, refused, silent, long] {
            let names = Names::literal();
            let answer = exchange(&core, &names, &address, request, ms(10_000)).await;
            given.borrow_mut().push(answer);
        }
    });
    assert!(world.sim.run_until_done(asker, PATIENCE));
    let answers = answers.take();
    assert_eq!(answers[0].as_ref().expect("an answer").len(), 0);
    assert_eq!(answers[1].as_ref().expect("an answer").len(), 200 << 18);
    let sentence = answers[2].as_ref().unwrap_err().to_string();
    assert!(
        sentence.contains("an answer of 267386880 bytes"),
        "{sentence}"
    );
    assert!(
        matches!(answers[3], Err(ExchangeError::TimedOut { .. })),
        "{:?}",
        answers[3]
    );
    assert!(
        matches!(answers[4], Err(ExchangeError::TooLarge { .. })),
        "{:?}",
        answers[4]
    );
    assert_eq!(world.server(2).requests_answered, 2);
    // Links were refused all the while, for a time: they come up soon after it has recovered.
    assert!(!world.links(1, 0).is_up(2) && world.links(2, 1).is_up(1));
    world.shared.recovering.borrow_mut().clear();
    world.sim.run_for(ms(1_100));
    assert!(world.links(1, 0).is_up(2) && world.links(1, 1).is_up(2));
}

#[test]
fn an_exchange_says_why_it_failed() {
    let mut world = World::new(Options::seeded(16));
    let id = world.start(&Spec::new(1, 1));
    let ip = world.sim.ip(id);
    let (control, told) = (world.sim.clone(), Rc::new(RefCell::new(Vec::new())));
    let tell = told.clone();
    let asker = world.sim.client("asker", move |core: Core| async move {
        core.sleep(ms(10)).await;
        let ask = async |address: String| {
            let names = Names::literal();
            let failed = exchange(&core, &names, &address, Bytes::from_static(&[1]), ms(500)).await;
            tell.borrow_mut().push(failed.unwrap_err().to_string());
        };
        ask(format!("{ip}:1")).await;
        ask("somewhere:9192".into()).await;
        let here = control.node("asker").expect("this one");
        control.partition(here, id);
        ask(format!("{ip}:{PORT}")).await;
    });
    assert!(world.sim.run_until_done(asker, PATIENCE));
    let expected = [
        format!("{ip}:1 cannot be reached: connection refused"),
        "somewhere:9192 cannot be resolved: only addresses are known here".into(),
        format!("{ip}:{PORT} did not answer in time"),
    ];
    assert_eq!(told.take(), expected);
}

#[test]
fn strangers_get_little_and_keep_nobody_out() {
    let mut world = World::new(Options::seeded(17));
    world.settings.strangers_max = 4;
    for node in [1, 2] {
        world.start(&Spec::new(node, 1));
    }
    let ip = world.sim.ip(world.id(2));
    let closed = Rc::new(RefCell::new(BTreeMap::new()));
    let starts: [&'static [u8]; 4] = [b"", b"GET / HTTP/1.1\r\n", b"\0\0\xff\xffCORE", b"\0"];
    for number in 0..8 {
        let closed = closed.clone();
        world
            .sim
            .client(&format!("stranger {number}"), move |core| async move {
                core.sleep(ms(10 * (number + 1))).await;
                let began = core.now();
                let stream = core
                    .connect(SocketAddr::new(ip, PORT))
                    .await
                    .expect("it listens");
                let bytes = Bytes::from_static(starts[number as usize % 4]);
                stream.write_all(vec![bytes]).await.expect("it is taken");
                let (received, _) = stream.read(BytesMut::with_capacity(100)).await;
                assert!(
                    matches!(received, Ok(0) | Err(_)),
                    "a stranger is told {received:?}"
                );
                closed.borrow_mut().insert(number, core.now() - began);
            });
    }
    world.sim.run_for(ms(200));
    world.link_all();
    world.sim.run_for(ms(100));
    assert!(world.links(1, 0).is_up(2));
    world.sim.run_for(ms(6_000));
    let closed = closed.take();
    for number in [1, 5] {
        assert!(
            closed[&number] < ms(5),
            "what is no hello is closed at once: {closed:?}"
        );
    }
    assert_eq!(closed.len(), 8);
    let server = world.server(2);
    assert_eq!(
        (server.evicted, server.malformed, server.handed_over),
        (3, 5, 1)
    );
    let latest = closed.values().max().expect("eight");
    assert!((ms(4_990)..ms(5_010)).contains(latest), "{closed:?}");
}

#[test]
fn nodes_of_different_levels_speak_the_lower_one() {
    let mut world = World::new(Options::seeded(18));
    let spec = |node, level| Spec {
        level,
        ..Spec::new(node, 1)
    };
    for spec in [spec(1, 1), spec(2, 4), spec(3, 3), spec(4, 0)] {
        world.start(&spec);
    }
    world.sim.run_for(ms(5));
    world.link_all();
    world.sim.run_for(ms(200));
    assert_eq!(world.links(1, 0).level_of(2), Some(1));
    assert_eq!(world.links(2, 0).level_of(1), Some(1));
    assert_eq!(world.links(2, 0).level_of(3), Some(3));
    assert_eq!(send(&world, (3, 0), (2, 0), "later"), Sent::Queued);
    world.sim.run_for(ms(50));
    let level = world
        .take_told(2, 0)
        .into_iter()
        .find_map(|event| match event {
            Event::Heard { origin, .. } => Some(origin.level),
            _ => None,
        });
    assert_eq!(level, Some(3));
    // Neither calls the other: the one that is too old says so of itself.
    for (from, to) in [(1, 4), (4, 1)] {
        let told = world.take_told(from, 0);
        let refusal = told.iter().find_map(|event| match event {
            Event::Down {
                node,
                reason: LinkEnd::Rejected(refusal),
            } if *node == to => Some(refusal.clone()),
            _ => None,
        });
        let refusal = refusal.expect("told");
        assert_eq!(refusal.code, RefusalCode::TooOld);
        assert!(
            refusal.sentence.contains("upgrade that node first"),
            "{refusal}"
        );
    }
}
