//! Links under random faults: whatever is heard was sent, in order and once; what the host is told makes sense; and
//! when nothing goes wrong any more, everything works again.
//!
//! `PEERS_SEED=n` plays one seed, `PEERS_SEEDS=n` the first n.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::ops::Range;

use broker::peers::{Destination, LinkEnd, RefusalCode, Sent};
use bytes::Bytes;
use runtime::sim::Options;

use crate::node::{Event, Spec, Told, World, ms};

const NODES: i32 = 3;
const STEPS: u32 = 60;

/// A stream of random numbers of the test's own, so that the world's draws do not shift it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    fn pick(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    fn node(&mut self) -> i32 {
        self.pick(1..NODES as u64 + 1) as i32
    }
}

/// A link by its two ends: the core that sends, and the node that receives.
type LinkName = (i32, u16, i32);

/// A frame that was taken to be sent.
struct Taken {
    to: Destination,
    kind: u8,
    bytes: usize,
}

/// What a core knows of a node from its host's calls.
#[derive(Default)]
struct Known {
    end: Option<LinkEnd>,
    up: bool,
    silent: bool,
}

struct Life {
    number: u32,
    incarnation: u32,
    cores: u16,
}

struct Test {
    world: World,
    random: Random,
    lives: BTreeMap<i32, Life>,
    next: BTreeMap<LinkName, u64>,
    taken: BTreeMap<(LinkName, u32, u64), Taken>,
    /// The life and number of the last frame of a link that was heard, in the receiver's present life.
    last: BTreeMap<LinkName, (u32, u64)>,
    known: BTreeMap<(i32, u16, i32), Known>,
    heard: usize,
    lost: usize,
}

/// The payload of a frame: its name, and bytes that follow from it.
fn payload(name: LinkName, life: u32, number: u64, bytes: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes);
    all.extend_from_slice(&life.to_be_bytes());
    all.extend_from_slice(&number.to_be_bytes());
    let mut random = Random(number ^ u64::from(life) << 32 ^ (name.0 as u64) << 48);
    while all.len() < bytes {
        all.extend_from_slice(&random.next().to_be_bytes());
    }
    all.truncate(bytes.max(12));
    all
}

impl Test {
    fn new(seed: u64) -> Test {
        let options = match seed % 2 {
            0 => Options::seeded(seed),
            _ => Options::rough(seed),
        };
        let mut world = World::new(options);
        world.settings.queue_bytes_max = 1 << 20;
        let mut test = Test {
            world,
            random: Random(seed),
            lives: BTreeMap::new(),
            next: BTreeMap::new(),
            taken: BTreeMap::new(),
            last: BTreeMap::new(),
            known: BTreeMap::new(),
            heard: 0,
            lost: 0,
        };
        for node in 1..=NODES {
            test.start(node);
        }
        test
    }

    fn start(&mut self, node: i32) {
        let before = self
            .lives
            .get(&node)
            .map_or((0, 1), |it| (it.number, it.incarnation));
        let life = Life {
            number: before.0 + 1,
            incarnation: before.1 + self.random.pick(0..2) as u32,
            cores: self.random.pick(1..4) as u16,
        };
        self.last.retain(|(.., to), _| *to != node);
        self.known.retain(|(at, ..), _| *at != node);
        let incarnation = life.incarnation;
        let spec = Spec {
            incarnation,
            ..Spec::new(node, life.cores)
        };
        self.world.start(&spec);
        self.lives.insert(node, life);
        self.world.sim.run_for(ms(2));
        self.take_in();
        for other in (1..=NODES).filter(|other| *other != node && self.lives.contains_key(other)) {
            self.world.reach(node, other);
            if self.world.sim.is_up(self.world.id(other)) {
                self.world.reach(other, node);
            }
        }
    }

    /// Sends a burst from a core of a node, in one turn.
    fn burst(&mut self) {
        let (from, to) = (self.random.node(), self.random.node());
        if from == to || !self.world.sim.is_up(self.world.id(from)) {
            return;
        }
        let (life, cores) = (self.lives[&from].number, self.lives[&from].cores);
        let core = self.random.pick(0..u64::from(cores)) as u16;
        let name = (from, core, to);
        let links = self.world.links(from, core);
        for _ in 0..self.random.pick(1..40) {
            let number = self.next.entry(name).or_default();
            *number += 1;
            let number = *number;
            let bytes = match self.random.pick(0..20) {
                0 => self.random.pick(0..300_000),
                1..5 => self.random.pick(0..5_000),
                _ => self.random.pick(12..100),
            };
            let payload = payload(name, life, number, bytes as usize);
            let bytes = payload.len();
            let kind = self.random.pick(0..240) as u8;
            let cores_there = links.cores_of(to).unwrap_or(1);
            let to_core = match self.random.pick(0..3) {
                0 => Destination::Landing,
                _ => Destination::Core(self.random.pick(0..u64::from(cores_there)) as u16),
            };
            // In pieces, as a user's frames are.
            let payload = Bytes::from(payload);
            let cut = self.random.pick(0..bytes as u64 + 1) as usize;
            let pieces = vec![payload.slice(..cut), payload.slice(cut..)];
            match links.send(to, to_core, kind, pieces) {
                Sent::Queued => {
                    let to = to_core;
                    let taken = Taken { to, kind, bytes };
                    self.taken.insert((name, life, number), taken);
                }
                Sent::Dropped => self.lost += 1,
                Sent::TooLarge => panic!("{bytes} bytes are not too many"),
            }
        }
    }

    fn fault(&mut self) {
        let (a, b) = (self.random.node(), self.random.node());
        let (ida, idb) = (self.world.id(a), self.world.id(b));
        let sim = &self.world.sim;
        match self.random.pick(0..12) {
            0 | 1 => sim.cut(ida, idb),
            2 => sim.partition(ida, idb),
            3 => sim.block(ida, idb),
            4..=6 => sim.heal_all(),
            7 => sim.delay(ida, idb, ms(self.random.pick(0..200))),
            8 if sim.is_up(ida) => sim.kill(ida),
            9 if sim.is_up(ida) => sim.crash(ida),
            _ => {
                if !sim.is_up(ida) {
                    self.start(a);
                }
            }
        }
    }

    /// Lets time pass, mostly a little, now and then enough for everything to time out.
    fn rest(&mut self) {
        let time = match self.random.pick(0..20) {
            0 => self.random.pick(5_000..15_000),
            1..6 => self.random.pick(100..2_000),
            _ => self.random.pick(0..20),
        };
        self.world.sim.run_for(ms(time));
        self.take_in();
    }

    /// Judges all that the hosts were told since the last time.
    fn take_in(&mut self) {
        let all = std::mem::take(&mut *self.world.shared.told.borrow_mut());
        for told in all {
            self.judge(told);
        }
    }

    fn judge(&mut self, told: Told) {
        let Told {
            node, core, event, ..
        } = told;
        let peer = match &event {
            Event::Up { node, .. } | Event::Down { node, .. } => *node,
            Event::Silent { node } | Event::HeardAgain { node } => *node,
            Event::Heard { origin, .. } => origin.node,
        };
        let known = self.known.entry((node, core, peer)).or_default();
        match event {
            Event::Up { cores, .. } => {
                assert!(!known.up, "up twice");
                known.up = true;
                known.end = None;
                assert_eq!(cores, self.lives[&peer].cores);
            }
            Event::Down { reason, .. } => {
                let is_news = |end: &LinkEnd| discriminant(end) != discriminant(&reason);
                assert!(
                    known.end.as_ref().is_none_or(is_news),
                    "{reason:?} told twice"
                );
                match &reason {
                    // A connection that was silent for too long is given up.
                    LinkEnd::Rejected(refusal) => assert_eq!(refusal.code, RefusalCode::NotReady),
                    LinkEnd::Malformed(_) => panic!("{reason:?}"),
                    _ => {}
                }
                known.up = false;
                known.end = Some(reason);
            }
            Event::Silent { .. } => {
                assert!(!std::mem::replace(&mut known.silent, true), "silent twice");
            }
            Event::HeardAgain { .. } => {
                assert!(
                    std::mem::replace(&mut known.silent, false),
                    "it was not silent"
                );
            }
            Event::Heard {
                origin,
                to,
                kind,
                payload: received,
            } => {
                assert!(!known.silent, "who is heard is not silent");
                let name = (origin.node, origin.core, node);
                let (life, rest) = received.split_first_chunk().expect("a life");
                let life = u32::from_be_bytes(*life);
                let number = u64::from_be_bytes(*rest.first_chunk().expect("a number"));
                let taken = &self.taken[&(name, life, number)];
                let cores = self.lives[&node].cores;
                let landing = origin.core % cores;
                assert_eq!(core, landing, "it landed on another core");
                match taken.to {
                    Destination::Core(core) => assert_eq!(to, core),
                    Destination::Landing => assert_eq!(to, landing),
                }
                assert_eq!(kind, taken.kind);
                assert_eq!(received, payload(name, life, number, taken.bytes));
                let last = self.last.insert(name, (life, number));
                assert!(
                    last < Some((life, number)),
                    "{last:?}, then {life} {number}"
                );
                self.heard += 1;
            }
        }
    }

    /// No faults any more: every core reaches every node, and all that is sent is heard.
    fn settle(&mut self) {
        self.world.sim.heal_all();
        for node in 1..=NODES {
            if !self.world.sim.is_up(self.world.id(node)) {
                self.start(node);
            }
        }
        self.world.sim.run_for(ms(30_000));
        self.take_in();
        let (taken, heard) = (self.taken.len(), self.heard);
        for _ in 0..20 {
            self.burst();
        }
        let (sent, lost) = (self.taken.len() - taken, self.lost);
        self.world.sim.run_for(ms(1_000));
        self.take_in();
        // In a rough world a connection may be reset even now.
        if self.world.sim.seed().is_multiple_of(2) {
            assert_eq!(self.heard - heard, sent);
            assert_eq!(self.lost, lost);
            for from in 1..=NODES {
                for core in 0..self.lives[&from].cores {
                    for to in (1..=NODES).filter(|to| *to != from) {
                        assert!(self.known[&(from, core, to)].up, "{from}/{core} to {to}");
                        assert!(self.world.links(from, core).is_up(to));
                    }
                }
            }
        } else {
            assert!(self.heard > heard);
        }
    }
}

/// Plays a seed; returns how much was heard, and a hash of all that happened.
fn play(seed: u64) -> (usize, u64) {
    let mut test = Test::new(seed);
    for _ in 0..STEPS {
        for _ in 0..test.random.pick(1..4) {
            test.burst();
        }
        if test.random.pick(0..3) == 0 {
            test.fault();
        }
        test.rest();
    }
    test.settle();
    (test.heard, test.world.sim.trace_hash())
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn whatever_is_heard_was_sent_in_order_and_once() {
    let seeds = match number("PEERS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PEERS_SEEDS").unwrap_or(30),
    };
    for seed in seeds {
        println!("PEERS_SEED={seed}");
        let (heard, _) = play(seed);
        assert!(heard > 100, "only {heard} frames were heard");
    }
}

#[test]
fn one_seed_is_one_run() {
    assert_eq!(play(5), play(5));
}
