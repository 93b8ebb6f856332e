//! A random walk: clients that do what comes to their minds, a log that is late, out of order or
//! broken, and coordinators that come and go. After each step the invariants are checked; at the
//! end everything is let run out, and nobody may be left waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use protocol::ErrorCode;

use super::driver::{Client, Driver, Entry, as_log, bare_commit, delete_group, fetch, replayed};
use super::driver::{leave, offset_delete};
use crate::groups::group::Group;
use crate::groups::timers::Timer;
use crate::groups::*;

const STEPS: usize = 2_000;
const SEEDS: u64 = 20;
const GROUPS: [&str; 3] = ["g", "h", "i"];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// What a request was, to make sense of its answer.
enum Asked {
    Join(usize),
    Sync(usize, i32, String),
    Heartbeat(usize),
    Fetch(String, String),
    Other,
}

/// How far a client believes to have come.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Outside,
    Joined,
    Stable,
}

struct Walk {
    dice: Dice,
    world: Driver,
    clients: Vec<Client>,
    phases: Vec<Phase>,
    asked: BTreeMap<Token, Asked>,
    /// Outcomes that were decided and not reported yet.
    reports: Vec<(WriteId, Result<i64, ErrorCode>)>,
    next_offset: i64,
    /// Since when a generation is counted: changes with restarts and deletions.
    incarnation: u64,
    generations: BTreeMap<String, i32>,
    /// Who was given the task of assigning, by incarnation, group and generation.
    assigners: BTreeMap<(u64, String, i32), String>,
    /// What was assigned, by incarnation, group, generation and member.
    assignments: BTreeMap<(u64, String, i32, String), Bytes>,
    /// The largest offset that was read.
    read: BTreeMap<(String, String), i64>,
    seen: BTreeMap<&'static str, u64>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let settings = Settings {
            initial_rebalance_delay_ms: [0, 500, 3_000][dice.below(3)],
            max_size: [3, 5, 100][dice.below(3)],
            max_tombstones_per_write: 1 + dice.below(4),
            offsets_retention_ms: 60_000,
            ..Settings::default()
        };
        let client = |index: usize| {
            let protocols: &[&str] = [&["range", "robin"][..], &["robin", "range"]][index % 2];
            let mut client = Client::new(&format!("c{index}")).with_protocols(protocols);
            client.group_id = GROUPS[index % 2].into();
            client.session_timeout_ms = 6_000 + 2_000 * (index as i32 % 3);
            client.rebalance_timeout_ms = 10_000;
            client.join_version = [9, 3, 9, 8][index % 4];
            client.group_instance_id = index.is_multiple_of(3).then(|| format!("i{index}"));
            client
        };
        let mut world = Driver::with(settings);
        world.commits_at_once = false;
        Walk {
            world,
            clients: (0..8).map(client).collect(),
            phases: vec![Phase::Outside; 8],
            dice,
            asked: BTreeMap::new(),
            reports: vec![],
            next_offset: 0,
            incarnation: 0,
            generations: BTreeMap::new(),
            assigners: BTreeMap::new(),
            assignments: BTreeMap::new(),
            read: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_insert(0) += 1;
    }

    fn ask(&mut self, request: GroupRequest, asked: Asked) {
        let token = self.world.ask(request);
        self.asked.insert(token, asked);
    }

    fn step(&mut self) {
        let client = self.dice.below(self.clients.len());
        match self.dice.below(100) {
            0..40 => self.proceed(client),
            40 => self.calm(),
            41 => self.ask(self.clients[client].join(), Asked::Join(client)),
            42..44 => self.sync(client),
            44..50 => self.ask(self.clients[client].heartbeat(), Asked::Heartbeat(client)),
            50..60 => self.commit(client),
            60..64 => self.fetch(),
            64..66 => self.leave(client),
            66..68 => self.misbehave(client),
            68..69 => self.administer(),
            69..81 => self.pass(),
            81..99 => self.decide(),
            _ if self.dice.once_in(4) => self.restart(),
            _ => self.fetch(),
        }
        while !self.reports.is_empty() && !self.dice.once_in(3) {
            self.report();
        }
        self.take_answers();
        self.check();
    }

    /// For a while everybody behaves, so that groups become stable now and then.
    fn calm(&mut self) {
        for _ in 0..12 {
            for client in 0..self.clients.len() {
                self.proceed(client);
            }
            self.write_all();
            self.take_answers();
            self.check();
            self.world.pass(700);
        }
        // The calm before a static member's return, which then meets whatever comes.
        let client = [0, 3, 6][self.dice.below(3)];
        self.clients[client].member_id.clear();
        self.phases[client] = Phase::Outside;
        self.proceed(client);
    }

    fn write_all(&mut self) {
        while !self.world.pending.is_empty() || !self.reports.is_empty() {
            self.decide();
            while !self.reports.is_empty() {
                self.report();
            }
        }
    }

    /// The client does what a client would do next, if it does not wait for an answer.
    fn proceed(&mut self, client: usize) {
        let waits = self.asked.values().any(|asked| match asked {
            Asked::Join(who) | Asked::Sync(who, ..) => *who == client,
            _ => false,
        });
        match self.phases[client] {
            _ if waits => {}
            Phase::Outside => self.ask(self.clients[client].join(), Asked::Join(client)),
            Phase::Joined => self.sync(client),
            Phase::Stable => {
                self.ask(self.clients[client].heartbeat(), Asked::Heartbeat(client));
            }
        }
    }

    fn sync(&mut self, client: usize) {
        let client_view = &self.clients[client];
        let members = self.world.coordinator.describe(&client_view.group_id);
        let brought: Vec<(String, String)> = members
            .into_iter()
            .flat_map(|group| group.members)
            .map(|member| (member.member_id, format!("a{}", self.dice.below(1_000))))
            .collect();
        let brought: Vec<(&str, &str)> = brought
            .iter()
            .map(|(id, what)| (id.as_str(), what.as_str()))
            .collect();
        let who = (client_view.generation_id, client_view.member_id.clone());
        self.ask(
            client_view.sync(&brought),
            Asked::Sync(client, who.0, who.1),
        );
    }

    fn commit(&mut self, client: usize) {
        self.next_offset += 1;
        let topic = ["orders", "former"][self.dice.below(2)];
        let commit = match self.dice.below(4) {
            0 => bare_commit(GROUPS[self.dice.below(3)], topic, 0, self.next_offset),
            _ => self.clients[client].offset_commit(topic, 0, self.next_offset),
        };
        let request = match self.dice.below(5) {
            0 => {
                let producer = Producer {
                    id: self.dice.below(2) as i64,
                    epoch: 0,
                };
                GroupRequest::TxnOffsetCommit(producer, commit)
            }
            _ => GroupRequest::OffsetCommit(commit),
        };
        self.ask(request, Asked::Other);
        if self.dice.once_in(5) && self.world.pending.is_empty() && self.reports.is_empty() {
            let committed = self.dice.once_in(2);
            self.world
                .end_transaction(self.dice.below(2) as i64, committed);
        }
    }

    fn fetch(&mut self) {
        let (group, topic) = (
            GROUPS[self.dice.below(3)],
            ["orders", "former"][self.dice.below(2)],
        );
        let request = OffsetFetch {
            require_stable: self.dice.once_in(2),
            ..fetch(group, topic, 0)
        };
        let asked = Asked::Fetch(group.into(), topic.into());
        self.ask(GroupRequest::OffsetFetch(request), asked);
    }

    fn leave(&mut self, client: usize) {
        let client = &self.clients[client];
        let request = match (&client.group_instance_id, self.dice.once_in(2)) {
            (Some(instance), true) => leave(&client.group_id, &[("", Some(instance))]),
            _ => client.leave(),
        };
        self.ask(request, Asked::Other);
    }

    /// A client loses its memory, changes its mind, or speaks in a wrong generation.
    fn misbehave(&mut self, index: usize) {
        let die = self.dice.below(4);
        let client = &mut self.clients[index];
        match die {
            0 | 1 => {
                client.member_id.clear();
                self.phases[index] = Phase::Outside;
            }
            2 => client.protocols.reverse(),
            _ => client.generation_id += 1,
        }
    }

    fn administer(&mut self) {
        let group = GROUPS[self.dice.below(3)];
        match self.dice.below(4) {
            0 => self.ask(delete_group(group), Asked::Other),
            1 => self.ask(offset_delete(group, "former", 0), Asked::Other),
            2 => self.world.expire(),
            _ => self.world.step(|coordinator, at, out| {
                coordinator.topics_deleted(&[("former".into(), 7)], at, out);
            }),
        }
    }

    fn pass(&mut self) {
        let ms = [0, 10, 100, 100, 1_000, 1_000, 3_000, 20_000][self.dice.below(8)];
        self.world.pass(ms);
    }

    /// The log takes the oldest write, or loses it.
    fn decide(&mut self) {
        let Some(pending) = self.world.pending.pop_front() else {
            return;
        };
        let write = pending.write;
        let outcome = match self.dice.once_in(12) {
            true => Err(ErrorCode::NOT_ENOUGH_REPLICAS),
            false => Ok(self.world.store(pending)),
        };
        self.reports.push((write, outcome));
    }

    fn report(&mut self) {
        let (write, outcome) = self
            .reports
            .swap_remove(self.dice.below(self.reports.len()));
        self.world.step(|coordinator, at, out| match outcome {
            Ok(base_offset) => coordinator.committed(write, base_offset, at, out),
            Err(error) => coordinator.failed(write, error, at, out),
        });
    }

    /// Leadership moves. Of what was being written a part has reached the log.
    fn restart(&mut self) {
        for pending in self.world.pending.clone() {
            if self.dice.once_in(3) {
                break;
            }
            self.world.store(pending);
        }
        self.reports.clear();
        self.world.restart();
        self.incarnation += 1;
        self.generations.clear();
        self.note("restarts");
    }

    fn take_answers(&mut self) {
        for (token, response) in std::mem::take(&mut self.world.answers) {
            let asked = self
                .asked
                .remove(&token)
                .expect("only what was asked is answered");
            match (asked, response) {
                (Asked::Join(client), GroupResponse::JoinGroup(answer)) => {
                    self.take_join(client, answer);
                }
                (Asked::Sync(client, generation, member), GroupResponse::SyncGroup(answer)) => {
                    self.take_sync(client, generation, member, answer);
                }
                (Asked::Fetch(group, topic), GroupResponse::OffsetFetch(answer)) => {
                    self.take_fetch(group, topic, &answer);
                }
                (Asked::Heartbeat(client), GroupResponse::Heartbeat(answer)) => {
                    if answer.error_code != ErrorCode::NONE {
                        self.phases[client] = Phase::Outside;
                    }
                }
                (Asked::Other, _) => {}
                (_, response) => panic!("{response:?} answers something else"),
            }
        }
    }

    fn take_join(&mut self, client: usize, answer: JoinGroupResponse) {
        self.phases[client] = match answer.error_code {
            ErrorCode::NONE => Phase::Joined,
            _ => Phase::Outside,
        };
        let client = &mut self.clients[client];
        match answer.error_code {
            ErrorCode::NONE => {
                // A static member without an id that finds itself in the generation it was in.
                let returns =
                    client.member_id.is_empty() && client.generation_id == answer.generation_id;
                client.member_id = answer.member_id.clone();
                client.generation_id = answer.generation_id;
                let group = client.group_id.clone();
                if !answer.members.is_empty() && !answer.skip_assignment {
                    assert_eq!(answer.leader, answer.member_id);
                    let key = (self.incarnation, group, answer.generation_id);
                    let assigner = self.assigners.entry(key).or_insert(answer.leader.clone());
                    assert_eq!(*assigner, answer.leader, "a generation has one assigner");
                }
                self.note(if returns { "returns" } else { "joins" });
            }
            ErrorCode::MEMBER_ID_REQUIRED => client.member_id = answer.member_id,
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => {
                client.member_id.clear();
            }
            _ => {}
        }
    }

    fn take_sync(
        &mut self,
        client: usize,
        generation: i32,
        member: String,
        answer: SyncGroupResponse,
    ) {
        self.phases[client] = Phase::Outside;
        if answer.error_code == ErrorCode::NONE {
            self.phases[client] = Phase::Stable;
            let group = self.clients[client].group_id.clone();
            let key = (self.incarnation, group, generation, member);
            let first = self
                .assignments
                .entry(key)
                .or_insert(answer.assignment.clone());
            assert_eq!(*first, answer.assignment, "a generation has one assignment");
            self.note("syncs");
        }
    }

    fn take_fetch(&mut self, group: String, topic: String, answer: &OffsetFetchResponse) {
        // Who asked a coordinator that resigned is told of no topic at all.
        let partition = answer
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .next();
        if let Some(partition) = partition
            && partition.error_code == ErrorCode::NONE
        {
            let offset = partition.committed_offset;
            // Clients count upwards here, so what is read does too, through failures and changes of
            // leadership; unless it was deleted.
            let before = self
                .read
                .insert((group.clone(), topic.clone()), offset)
                .unwrap_or(-1);
            let deleted = || offset == -1 && self.was_deleted(&group, &topic);
            assert!(
                offset >= before || deleted(),
                "{offset} was read after {before}"
            );
            self.note("fetches");
        }
    }

    fn was_deleted(&self, group: &str, topic: &str) -> bool {
        let tombstone = Record::Offset {
            group: group.into(),
            topic: topic.into(),
            partition: 0,
            value: None,
        };
        let tombstone = tombstone.encode();
        self.world.log.iter().any(|entry| match entry {
            Entry::Record { key, value, .. } => *key == tombstone.key && *value == tombstone.value,
            Entry::Marker { .. } => false,
        })
    }

    fn check(&mut self) {
        let coordinator = &self.world.coordinator;
        for group in coordinator.groups.values() {
            check_group(group, coordinator);
            let known = self.generations.entry(group.id.to_string()).or_insert(0);
            if group.generation_id == 0 && group.durable.is_none() && *known > 0 {
                // It was deleted, and only an offset keeps its name in use.
                self.incarnation += 1;
                *known = 0;
            }
            assert!(group.generation_id >= *known, "generations do not go back");
            *known = group.generation_id;
        }
        let before = self.generations.len();
        self.generations
            .retain(|group, _| coordinator.groups.contains_key(group.as_str()));
        if self.generations.len() < before {
            self.incarnation += 1;
        }
        let waits = self.world.unanswered() > 0;
        let has_a_reason =
            coordinator.next_deadline().is_some() || coordinator.writes_under_way() > 0;
        assert!(!waits || has_a_reason, "somebody waits for nothing");
        if coordinator.writes_under_way() == 0 {
            self.check_against_the_log();
        }
    }

    /// What the coordinator holds is what its log says, and a snapshot says the same.
    fn check_against_the_log(&mut self) {
        if !self.dice.once_in(60) {
            return;
        }
        let coordinator = &self.world.coordinator;
        let held = coordinator.snapshot();
        let mut from_log = replayed(&self.world.settings, &self.world.log);
        from_log.loaded(self.world.at, &mut vec![]);
        assert_eq!(held, from_log.snapshot());
        let mut from_snapshot = replayed(&self.world.settings, &as_log(held.clone()));
        from_snapshot.loaded(self.world.at, &mut vec![]);
        assert_eq!(held, from_snapshot.snapshot());
        self.note("comparisons");
    }

    /// Lets everything run out.
    fn finish(&mut self) {
        for _ in 0..4 {
            self.write_all();
            self.world.pass(1_000_000);
        }
        self.take_answers();
        self.check();
        assert_eq!(self.world.unanswered(), 0);
        assert!(self.asked.is_empty());
        for group in GROUPS {
            let state = self.world.state(group);
            assert!(
                matches!(state, GroupState::Empty | GroupState::Dead),
                "{group} is {state}"
            );
        }
    }
}

fn check_group(group: &Group, coordinator: &Coordinator) {
    let id = &group.id;
    let is_empty = group.members.is_empty();
    match group.state {
        GroupState::Empty => assert!(is_empty, "{id} is empty with members"),
        GroupState::PreparingRebalance => {}
        GroupState::CompletingRebalance | GroupState::Stable => assert!(!is_empty, "{id}"),
        GroupState::Dead => panic!("{id} is dead and here"),
    }
    match &group.leader {
        Some(leader) => assert!(
            group.members.contains_key(leader),
            "{id} is led from outside"
        ),
        None => assert!(is_empty, "{id} has no leader"),
    }
    let waiting = group
        .members
        .values()
        .filter(|member| member.awaiting_join.is_some())
        .count();
    assert_eq!(waiting, group.awaiting_join(), "{id}");
    let statics: BTreeMap<_, _> = group
        .members
        .values()
        .filter_map(|member| Some((member.group_instance_id.clone()?, member.member_id.clone())))
        .collect();
    assert_eq!(statics, group.static_members, "{id}");
    let known: BTreeSet<_> = group.members.keys().cloned().collect();
    assert!(group.pending_sync.is_subset(&known), "{id}");
    assert!(group.pending_join.is_disjoint(&known), "{id}");
    assert!(
        group.members.len() <= coordinator.settings.max_size.max(8),
        "{id}"
    );
    if !is_empty {
        // Asserts that there is a protocol that all know.
        group.select_protocol();
    }
    let is_armed = |timer| coordinator.timers.is_armed(&timer);
    for pending in &group.pending_join {
        assert!(
            is_armed(Timer::Session(id.clone(), pending.clone())),
            "{id}: {pending}"
        );
    }
    for member in group.members.values() {
        let watched = is_armed(Timer::Session(id.clone(), member.member_id.clone()));
        assert!(
            watched || member.is_waiting(),
            "{id}: {} may stay for ever",
            member.member_id
        );
        if member.awaiting_sync.is_some() {
            let will_be_answered =
                group.assignment_write.is_some() || !group.pending_sync.is_empty();
            assert!(will_be_answered, "{id}: nobody brings an assignment");
        }
    }
    assert_eq!(
        group.state == GroupState::PreparingRebalance,
        is_armed(Timer::Join(id.clone())),
        "{id} in {}",
        group.state
    );
    if !group.pending_sync.is_empty() {
        assert!(
            is_armed(Timer::Sync(id.clone())),
            "{id}: syncs are waited for without end"
        );
    }
}

#[test]
fn nothing_that_clients_and_logs_do_breaks_the_invariants() {
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        // A failure names the seed by this line, which is only shown then.
        println!("seed {seed}");
        let mut walk = Walk::new(seed);
        for _ in 0..STEPS {
            walk.step();
        }
        walk.finish();
        for (what, count) in walk.seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    // The walk must get somewhere, or it shows nothing.
    let least = [
        ("joins", 2_000),
        ("returns", 100),
        ("syncs", 500),
        ("fetches", 1_000),
        ("restarts", 40),
        ("comparisons", 200),
    ];
    for (what, least) in least {
        assert!(
            seen.get(what).copied().unwrap_or(0) >= least,
            "{what}: {seen:?}"
        );
    }
}

#[test]
fn a_walk_is_the_same_each_time() {
    let trace = || {
        let mut walk = Walk::new(7);
        let mut queue = VecDeque::new();
        for _ in 0..500 {
            walk.step();
            queue.push_back(walk.world.log.len());
        }
        (queue, walk.world.coordinator.snapshot(), walk.seen)
    };
    assert_eq!(trace(), trace());
}
