//! What a new coordinator knows from the log, and what a snapshot keeps of it.

use bytes::Bytes;
use protocol::ErrorCode;

use super::driver::{Client, Driver, Entry, as_log, bare_commit, delete_group, replayed};
use crate::groups::*;

/// The durable state: what a snapshot says, and what administrators see.
fn durable(coordinator: &Coordinator) -> (Vec<SnapshotRecord>, Vec<DescribeGroupResponse>) {
    let listed = coordinator.list(&ListGroups::default()).groups;
    let described = listed
        .iter()
        .filter_map(|group| coordinator.describe(&group.group_id));
    let snapshot = coordinator.snapshot();
    (snapshot, described.collect())
}

#[test]
fn a_stable_group_goes_on_where_it_was() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann").with_protocols(&["range", "robin"]);
    let mut bob = Client::new("bob")
        .with_instance("i-bob")
        .with_protocols(&["range", "robin"]);
    world.stabilise(&mut [&mut ann, &mut bob]);
    world.code(ann.commit("orders", 0, 5));
    let before = durable(&world.coordinator);
    world.restart();
    assert_eq!(durable(&world.coordinator), before);
    for client in [&ann, &bob] {
        assert_eq!(world.code(client.heartbeat()), ErrorCode::NONE);
        let token = world.ask(client.sync(&[]));
        assert_eq!(
            world.sync_answer(token).assignment,
            client.client_id.as_bytes()
        );
    }
    assert_eq!(world.code(ann.commit("orders", 0, 6)), ErrorCode::NONE);
    // Subscriptions are known again, and who has an instance.
    let code = world.code(super::driver::offset_delete("g", "orders", 0));
    assert_eq!(code, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
    let mut again = Client {
        member_id: String::new(),
        ..bob.clone()
    };
    again.protocols.truncate(1);
    let token = world.ask(again.join());
    let answer = world.joined(token, &mut again);
    assert_eq!(
        (answer.generation_id, answer.leader),
        (1, ann.member_id.clone())
    );
    assert_eq!(world.code(bob.heartbeat()), ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn sessions_begin_anew() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    world.pass(9_000);
    world.restart();
    world.pass(9_999);
    assert_eq!(world.state("g"), GroupState::Stable);
    world.pass(1);
    assert_eq!(world.state("g"), GroupState::Empty);
}

#[test]
fn a_rebalance_is_forgotten_and_what_was_before_it_is_known() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    world.stabilise(&mut [&mut ann]);
    let joining = world.join(&mut bob);
    world.restart();
    assert_eq!(world.code_of(joining), ErrorCode::NOT_COORDINATOR);
    assert_eq!(world.state("g"), GroupState::Stable);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
    assert_eq!(
        world.code(bob.join()),
        ErrorCode::UNKNOWN_MEMBER_ID,
        "bob's id was soft state"
    );
    world.join(&mut Client {
        member_id: String::new(),
        ..bob
    });
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
}

#[test]
fn an_assignment_counts_if_it_reached_the_log() {
    for reached in [true, false] {
        let mut world = Driver::new();
        let mut ann = Client::new("ann");
        let token = world.join(&mut ann);
        world.pass(0);
        world.joined(token, &mut ann);
        world.commits_at_once = false;
        let syncing = world.ask(ann.sync(&[(&ann.member_id, "all")]));
        if reached {
            // The report of it does not arrive any more.
            let pending = world
                .pending
                .pop_front()
                .expect("the assignment is under way");
            world.store(pending);
        }
        world.restart();
        assert_eq!(world.code_of(syncing), ErrorCode::NOT_COORDINATOR);
        let (state, code) = match reached {
            true => (GroupState::Stable, ErrorCode::NONE),
            false => (GroupState::Dead, ErrorCode::UNKNOWN_MEMBER_ID),
        };
        assert_eq!(
            (world.state("g"), world.code(ann.heartbeat())),
            (state, code)
        );
    }
}

#[test]
fn an_empty_group_keeps_its_generation_and_the_time_of_its_end() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    world.code(ann.commit("orders", 0, 1));
    world.code(ann.leave());
    world.pass(6 * 24 * 3_600_000);
    world.restart();
    world.pass(24 * 3_600_000 - 1);
    world.expire();
    assert_eq!(world.committed("g", "orders", 0), 1);
    ann.member_id.clear();
    let token = world.join(&mut ann);
    world.pass(0);
    assert_eq!(world.joined(token, &mut ann).generation_id, 3);
}

#[test]
fn every_prefix_of_a_log_replays_and_its_snapshot_says_the_same() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (
        Client::new("ann"),
        Client::new("bob").with_instance("i-bob"),
    );
    world.stabilise(&mut [&mut ann]);
    world.code(ann.commit("orders", 0, 1));
    let (second, first) = (world.join(&mut bob), world.ask(ann.join()));
    world.joined(first, &mut ann);
    world.joined(second, &mut bob);
    world.sync_all(&mut [&mut ann, &mut bob], 0);
    world.code(GroupRequest::OffsetCommit(bare_commit("tool", "t", 0, 4)));
    let mut again = Client {
        member_id: String::new(),
        ..bob
    };
    let token = world.ask(again.join());
    world.joined(token, &mut again);
    let producer = Producer { id: 9, epoch: 0 };
    world.code(GroupRequest::TxnOffsetCommit(
        producer,
        bare_commit("tool", "t", 0, 5),
    ));
    world.code(ann.commit("orders", 0, 2));
    world.end_transaction(9, true);
    world.code(ann.leave());
    let token = world.ask(again.join());
    world.joined(token, &mut again);
    world.sync_all(&mut [&mut again], 0);
    world.code(again.leave());
    world.code(delete_group("tool"));
    world.code(delete_group("g"));

    let log = world.log.clone();
    assert!(log.len() >= 14);
    for length in 0..=log.len() {
        let mut coordinator = replayed(&world.settings, &log[..length]);
        coordinator.loaded(world.at, &mut vec![]);
        let snapshot = as_log(coordinator.snapshot());
        let mut from_snapshot = replayed(&world.settings, &snapshot);
        from_snapshot.loaded(world.at, &mut vec![]);
        assert_eq!(
            durable(&from_snapshot),
            durable(&coordinator),
            "of {length} records"
        );
    }
    let (snapshot, groups) = durable(&replayed(&world.settings, &log));
    assert_eq!(
        (snapshot.len(), groups.len()),
        (0, 0),
        "of deleted groups nothing is left"
    );
}

#[test]
fn a_snapshot_holds_nothing_of_writes_under_way() {
    let mut world = Driver::new();
    world.commits_at_once = false;
    world.ask(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, 1)));
    assert_eq!(world.coordinator.writes_under_way(), 1);
    assert_eq!(world.coordinator.snapshot(), []);
    world.commit_next();
    let settled = world.coordinator.snapshot();
    assert_eq!(settled.len(), 1);
    world.ask(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, 2)));
    assert_eq!(world.coordinator.snapshot(), settled);
}

#[test]
fn what_cannot_be_read_is_counted_and_passed_over() {
    let record = |key: &[u8], value: Option<&[u8]>| Entry::Record {
        producer: None,
        key: Bytes::copy_from_slice(key),
        value: value.map(Bytes::copy_from_slice),
    };
    let log = [
        record(&[0, 3, 0, 1, b'g', 0, 0, 0, 0], Some(&[0, 0])), // a KIP-848 group
        record(&[0, 17], None),                                 // a type of the future
        record(&[], Some(&[0])),
        record(&[0], None),
        record(&[0, 2, 0, 9, b'g'], None),
        record(&[0, 2, 0, 1, b'g'], Some(&[0, 5, 0, 0])), // a version of the future
        record(&[0, 2, 0, 1, b'g'], Some(&[0, 3, 0xff, 0xff])),
        record(&[0, 2, 0, 1, b'g'], None),
    ];
    let coordinator = replayed(&Settings::default(), &log);
    let expected = ReplayCounts {
        records: 1,
        tombstones: 1,
        unknown_types: 2,
        malformed: 5,
    };
    assert_eq!(coordinator.replay_counts(), expected);
    assert!(is_classic(&[0, 2, 0]) && is_classic(&[0, 1]) && is_classic(&[0, 0]));
    assert!(!is_classic(&[0, 3]) && !is_classic(&[0]) && !is_classic(&[]));
}

#[test]
fn odd_groups_in_a_log_are_taken_as_far_as_they_make_sense() {
    let member = |id: &str, instance: Option<&str>| MemberValue {
        member_id: id.into(),
        group_instance_id: instance.map(str::to_owned),
        client_id: "c".into(),
        client_host: "/h".into(),
        rebalance_timeout: -1,
        session_timeout: 7_000,
        subscription: Bytes::new(),
        assignment: Bytes::new(),
    };
    let value = GroupValue {
        protocol_type: "consumer".into(),
        generation: i32::MAX,
        protocol: None,
        leader: Some("gone".into()),
        current_state_timestamp: -1,
        // One id twice, one instance twice.
        members: vec![
            member("a", None),
            member("a", None),
            member("b", Some("i")),
            member("c", Some("i")),
        ],
    };
    let write = Record::Group {
        group: "g".into(),
        value: Some(value),
    }
    .encode();
    let entry = Entry::Record {
        producer: None,
        key: write.key,
        value: write.value,
    };
    let mut world = Driver::new();
    world.log = vec![entry];
    world.restart();
    assert_eq!(world.state("g"), GroupState::Stable);
    world.pass(7_000);
    assert_eq!(
        world.state("g"),
        GroupState::Empty,
        "and it comes to an end"
    );
}
