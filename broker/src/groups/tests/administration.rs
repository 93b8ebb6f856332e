//! Listing, describing, deleting, expiring.

use protocol::ErrorCode;

use super::driver::{Client, Driver, bare_commit, delete_group, fetch, offset_delete};
use crate::groups::*;

const DAY_MS: u64 = 24 * 3_600_000;

fn commit(group: &str, topic: &str, partition: i32) -> GroupRequest {
    GroupRequest::OffsetCommit(bare_commit(group, topic, partition, 1))
}

fn names(world: &Driver, states: &[&str], types: &[&str]) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let filter = ListGroups {
        states_filter: owned(states),
        types_filter: owned(types),
    };
    world
        .coordinator
        .list(&filter)
        .groups
        .into_iter()
        .map(|group| group.group_id)
        .collect()
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut world = Driver::new();
    world.code(commit("tool", "t", 0));
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    let mut bob = Client {
        group_id: "h".into(),
        ..Client::new("bob")
    };
    world.join(&mut bob);
    assert_eq!(names(&world, &[], &[]), ["g", "h", "tool"]);
    assert_eq!(names(&world, &["Stable"], &[]), ["g"]);
    assert_eq!(
        names(&world, &["stable", " EMPTY "], &["Classic"]),
        ["g", "tool"]
    );
    assert_eq!(names(&world, &["preparingrebalance"], &[]), ["h"]);
    assert_eq!(names(&world, &["Assigning"], &[]), [""; 0]);
    assert_eq!(names(&world, &[], &["consumer"]), [""; 0]);
    assert_eq!(
        names(&world, &[], &["consumer", "classic"]),
        ["g", "h", "tool"]
    );
    let listed = world.coordinator.list(&ListGroups::default()).groups;
    let types: Vec<&str> = listed
        .iter()
        .map(|group| group.protocol_type.as_str())
        .collect();
    assert_eq!(types, ["consumer", "consumer", ""]);
    let counts = world.coordinator.groups_by_state();
    let expected = [
        (GroupState::Empty, 1),
        (GroupState::PreparingRebalance, 1),
        (GroupState::Stable, 1),
    ];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_stable_group_shows_what_its_members_said_and_got() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann").with_instance("i-ann");
    let describe = || {
        GroupRequest::DescribeGroup(DescribeGroup {
            group_id: "g".into(),
        })
    };
    let GroupResponse::DescribeGroup(answer) = world.get(describe()) else {
        panic!("another kind")
    };
    assert_eq!(answer.group_state.name(), "Dead");
    assert_eq!(
        (answer.error_code, answer.members.len()),
        (ErrorCode::NONE, 0)
    );

    let token = world.join(&mut ann);
    world.pass(0);
    world.joined(token, &mut ann);
    let GroupResponse::DescribeGroup(answer) = world.get(describe()) else {
        panic!("another kind")
    };
    assert_eq!(answer.group_state.name(), "CompletingRebalance");
    assert_eq!(
        (answer.protocol_type.as_str(), answer.protocol_data.as_str()),
        ("consumer", "")
    );
    assert_eq!(answer.members[0].member_metadata, "");

    world.sync_all(&mut [&mut ann], 0);
    let GroupResponse::DescribeGroup(answer) = world.get(describe()) else {
        panic!("another kind")
    };
    assert_eq!(answer.group_state.name(), "Stable");
    assert_eq!(answer.protocol_data, "range");
    let expected = DescribedGroupMember {
        member_id: ann.member_id.clone(),
        group_instance_id: Some("i-ann".into()),
        client_id: "ann".into(),
        client_host: "/127.0.0.1".into(),
        member_metadata: ann.protocols[0].1.clone(),
        member_assignment: "ann".into(),
    };
    assert_eq!(answer.members, [expected]);
}

#[test]
fn only_empty_groups_are_deleted() {
    let mut world = Driver::new();
    assert_eq!(world.code(delete_group("g")), ErrorCode::GROUP_ID_NOT_FOUND);
    let mut ann = Client::new("ann");
    let token = world.join(&mut ann);
    assert_eq!(world.code(delete_group("g")), ErrorCode::NON_EMPTY_GROUP);
    world.pass(0);
    world.joined(token, &mut ann);
    assert_eq!(world.code(delete_group("g")), ErrorCode::NON_EMPTY_GROUP);
    world.sync_all(&mut [&mut ann], 0);
    assert_eq!(world.code(delete_group("g")), ErrorCode::NON_EMPTY_GROUP);
    world.code(ann.commit("orders", 0, 5));
    world.code(ann.leave());
    assert_eq!(world.code(delete_group("g")), ErrorCode::NONE);
    assert_eq!(world.state("g"), GroupState::Dead);
    assert_eq!(world.committed("g", "orders", 0), -1);
    assert_eq!(world.code(delete_group("g")), ErrorCode::GROUP_ID_NOT_FOUND);
    world.restart();
    assert_eq!(names(&world, &[], &[]), [""; 0], "and it stays deleted");
    // A new group of the name begins anew.
    let mut again = Client::new("ann");
    world.stabilise(&mut [&mut again]);
    assert_eq!(again.generation_id, 1);
}

#[test]
fn while_its_tombstone_is_on_the_way_a_group_is_closed() {
    let mut world = Driver::new();
    world.code(commit("g", "t", 0));
    world.commits_at_once = false;
    let deleting = world.ask(delete_group("g"));
    let closed = ErrorCode::COORDINATOR_NOT_AVAILABLE;
    assert_eq!(world.code(Client::new("ann").join()), closed);
    assert_eq!(world.code(commit("g", "t", 0)), closed);
    assert_eq!(world.code(offset_delete("g", "t", 0)), closed);
    assert_eq!(world.code(delete_group("g")), closed);
    assert_eq!(
        world.fetched(fetch("g", "t", 0)),
        (ErrorCode::NONE, 1),
        "it is not deleted yet"
    );
    world.expire();
    assert_eq!(world.pending.len(), 1, "nor is it deleted twice");
    world.fail_next(ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(world.code_of(deleting), closed);
    assert_eq!(
        world.code(Client::new("ann").join()),
        ErrorCode::MEMBER_ID_REQUIRED
    );
}

#[test]
fn a_deletion_covers_commits_that_are_on_their_way() {
    let mut world = Driver::new();
    world.commits_at_once = false;
    let committing = world.ask(commit("g", "t", 0));
    let deleting = world.ask(delete_group("g"));
    world.commit_next();
    assert_eq!(world.code_of(committing), ErrorCode::NONE);
    world.commit_next();
    assert_eq!(world.code_of(deleting), ErrorCode::NONE);
    assert_eq!(world.state("g"), GroupState::Dead);
    world.restart();
    assert_eq!(world.committed("g", "t", 0), -1);
}

#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann").with_subscription(&["orders", "bills"]);
    world.stabilise(&mut [&mut ann]);
    for topic in ["orders", "bills", "former"] {
        world.code(ann.commit(topic, 0, 1));
    }
    let subscribed = ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC;
    assert_eq!(world.code(offset_delete("g", "orders", 0)), subscribed);
    assert_eq!(world.code(offset_delete("g", "bills", 9)), subscribed);
    assert_eq!(world.code(offset_delete("g", "former", 0)), ErrorCode::NONE);
    assert_eq!(world.committed("g", "former", 0), -1);
    assert_eq!(world.committed("g", "orders", 0), 1);
    // What was never there is deleted without a word, and without a record.
    let before = world.log.len();
    assert_eq!(world.code(offset_delete("g", "former", 0)), ErrorCode::NONE);
    assert_eq!(world.log.len(), before);
    assert_eq!(
        world.code(offset_delete("nowhere", "t", 0)),
        ErrorCode::GROUP_ID_NOT_FOUND
    );
    world.code(ann.leave());
    assert_eq!(world.code(offset_delete("g", "orders", 0)), ErrorCode::NONE);
    assert_eq!(world.coordinator.counters().offset_deletions, 2);
}

#[test]
fn of_members_that_are_no_consumers_nothing_is_known() {
    let mut world = Driver::new();
    let mut worker = Client {
        protocol_type: "connect".into(),
        ..Client::new("worker")
    };
    world.stabilise(&mut [&mut worker]);
    assert_eq!(
        world.code(offset_delete("g", "orders", 0)),
        ErrorCode::NON_EMPTY_GROUP
    );

    // One that says it is a consumer and is not: all topics may be subscribed to.
    for damaged in [
        &b""[..],
        &[0, 0, 0, 0, 0, 9],
        &[0, 0, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0x7f],
    ] {
        let mut world = Driver::new();
        let mut odd = Client::new("odd");
        odd.protocols[0].1 = bytes::Bytes::copy_from_slice(damaged);
        world.stabilise(&mut [&mut odd]);
        let code = world.code(offset_delete("g", "orders", 0));
        assert_eq!(code, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
    }
}

#[test]
fn offsets_of_an_empty_group_expire_from_when_it_became_empty() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    ann.session_timeout_ms = 1_800_000;
    world.stabilise(&mut [&mut ann]);
    world.code(ann.commit("orders", 0, 1));
    world.code(ann.commit("orders", 1, 1));
    for _ in 0..(4 * 24 * 2) {
        world.pass(30 * 60_000 - 1);
        world.code(ann.heartbeat());
    }
    world.code(ann.leave());
    world.pass(7 * DAY_MS - 1);
    world.expire();
    assert_eq!(world.committed("g", "orders", 0), 1);
    world.pass(1);
    world.expire();
    assert_eq!(
        world.state("g"),
        GroupState::Dead,
        "with its offsets the group goes"
    );
    assert_eq!(world.coordinator.counters().offset_expirations, 2);
    world.restart();
    assert_eq!(names(&world, &[], &[]), [""; 0]);
}

#[test]
fn in_a_stable_group_offsets_of_topics_that_nobody_reads_expire() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    ann.session_timeout_ms = 1_800_000;
    world.stabilise(&mut [&mut ann]);
    world.code(ann.commit("orders", 0, 1));
    world.code(ann.commit("former", 0, 1));
    for _ in 0..(7 * 24 * 2 + 1) {
        world.pass(30 * 60_000 - 1);
        world.code(ann.heartbeat());
    }
    // During a rebalance nothing expires.
    let token = world.ask(ann.join());
    world.expire();
    assert_eq!(world.committed("g", "former", 0), 1);
    world.joined(token, &mut ann);
    world.sync_all(&mut [&mut ann], 0);
    world.expire();
    assert_eq!(world.committed("g", "former", 0), -1);
    assert_eq!(world.committed("g", "orders", 0), 1);
    assert_eq!(world.state("g"), GroupState::Stable);
}

#[test]
fn offsets_without_members_expire_each_on_its_own() {
    let mut world = Driver::new();
    world.code(commit("tool", "t", 0));
    world.pass(DAY_MS);
    world.code(commit("tool", "t", 1));
    world.pass(6 * DAY_MS);
    world.expire();
    assert_eq!(
        (
            world.committed("tool", "t", 0),
            world.committed("tool", "t", 1)
        ),
        (-1, 1)
    );
    world.pass(DAY_MS);
    world.expire();
    assert_eq!(world.state("tool"), GroupState::Dead);
}

#[test]
fn a_retention_of_the_clients_own_is_honoured() {
    let mut world = Driver::new();
    let short = OffsetCommit {
        retention_time_ms: 1_000,
        ..bare_commit("tool", "t", 0, 1)
    };
    world.code(GroupRequest::OffsetCommit(short));
    world.restart();
    world.pass(999);
    world.expire();
    assert_eq!(world.committed("tool", "t", 0), 1);
    world.pass(1);
    world.expire();
    assert_eq!(world.committed("tool", "t", 0), -1);
}

#[test]
fn a_commit_on_its_way_keeps_an_offset_from_expiring() {
    let mut world = Driver::new();
    world.code(commit("tool", "t", 0));
    world.pass(7 * DAY_MS);
    world.commits_at_once = false;
    world.ask(commit("tool", "t", 0));
    world.expire();
    assert_eq!(world.pending.len(), 1);
    world.commit_next();
    assert_eq!(world.committed("tool", "t", 0), 1);
}

#[test]
fn a_group_that_somebody_is_about_to_join_does_not_expire() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    world.code(ann.leave());
    let mut bob = Client::new("bob");
    world.introduce(&mut bob);
    world.expire();
    assert_eq!(world.state("g"), GroupState::Empty);
    let token = world.ask(bob.join());
    world.pass(0);
    assert_eq!(world.joined(token, &mut bob).generation_id, 3);
}

#[test]
fn large_clean_ups_are_written_in_parts() {
    let mut world = Driver::with(Settings {
        max_tombstones_per_write: 10,
        ..Settings::default()
    });
    for group in ["a", "b", "c"] {
        for partition in 0..8 {
            world.code(commit(group, "t", partition));
        }
    }
    world.pass(7 * DAY_MS);
    world.commits_at_once = false;
    world.expire();
    let sizes: Vec<usize> = world
        .pending
        .iter()
        .map(|pending| pending.records.len())
        .collect();
    assert_eq!(sizes, [10, 10, 7], "8 offsets and a group, three times");
    world.fail_next(ErrorCode::NOT_ENOUGH_REPLICAS);
    world.commit_next();
    world.commit_next();
    assert_eq!(
        names(&world, &[], &[]),
        ["a", "b"],
        "of b one offset is left"
    );
    assert_eq!(world.coordinator.committed_offsets().count(), 8 + 1);
    world.commits_at_once = true;
    world.expire();
    assert_eq!(names(&world, &[], &[]), [""; 0]);
}

#[test]
fn offsets_go_with_their_topic() {
    let mut world = Driver::new();
    let mut known = bare_commit("g", "t", 0, 1);
    known.topics[0].topic_id = 0xaaaa;
    world.code(GroupRequest::OffsetCommit(known.clone()));
    world.code(commit("g", "t", 1));
    known.topics[0].partitions[0].partition_index = 2;
    known.topics[0].topic_id = 0xbbbb;
    world.code(GroupRequest::OffsetCommit(known));
    world.code(commit("g", "u", 0));
    world.code(commit("h", "t", 0));
    world.step(|coordinator, at, out| {
        coordinator.topics_deleted(&[("t".into(), 0xaaaa), ("v".into(), 1)], at, out);
    });
    let left: Vec<(&str, &str, i32)> = world
        .coordinator
        .committed_offsets()
        .map(|(group, topic, partition, _)| (group, topic, partition))
        .collect();
    assert_eq!(
        left,
        [("g", "t", 2), ("g", "u", 0)],
        "the other t is another topic"
    );
    assert_eq!(world.state("h"), GroupState::Dead);
}

#[test]
fn offsets_on_their_way_go_with_their_topic() {
    let mut world = Driver::new();
    world.commits_at_once = false;
    world.ask(commit("g", "t", 0));
    world.step(|coordinator, at, out| {
        coordinator.topics_deleted(&[("t".into(), 1)], at, out);
    });
    world.commit_next();
    assert_eq!(world.committed("g", "t", 0), 1);
    world.commit_next();
    assert_eq!(world.committed("g", "t", 0), -1);
}
