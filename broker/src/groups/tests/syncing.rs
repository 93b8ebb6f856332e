//! SyncGroup and generation fencing.

use protocol::ErrorCode;

use super::driver::{Client, Driver};
use crate::groups::*;

#[test]
fn nobody_gets_an_assignment_before_it_is_in_the_log() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    let (first, second) = (world.join(&mut ann), world.join(&mut bob));
    world.pass(0);
    world.joined(first, &mut ann);
    world.joined(second, &mut bob);
    world.commits_at_once = false;
    let of_ann = world.ask(ann.sync(&[(&ann.member_id, "0"), ("stranger", "9")]));
    let of_bob = world.ask(bob.sync(&[]));
    assert!(world.is_waiting(of_ann) && world.is_waiting(of_bob));
    assert_eq!(world.state("g"), GroupState::CompletingRebalance);
    assert_eq!(
        world.code(bob.commit("orders", 0, 1)),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    world.commit_next();
    assert_eq!(world.sync_answer(of_ann).assignment, "0");
    let answer = world.sync_answer(of_bob);
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert_eq!(answer.assignment, "", "the leader gave bob nothing");
    assert_eq!(answer.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(answer.protocol_name.as_deref(), Some("range"));
    assert_eq!(world.state("g"), GroupState::Stable);
    // Who asks later gets it from the group.
    let token = world.ask(ann.sync(&[]));
    assert_eq!(world.sync_answer(token).assignment, "0");
}

#[test]
fn a_leader_that_asks_twice_gets_what_is_being_written() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    let first = world.join(&mut ann);
    world.pass(0);
    world.joined(first, &mut ann);
    world.commits_at_once = false;
    let once = world.ask(ann.sync(&[(&ann.member_id, "first")]));
    let twice = world.ask(ann.sync(&[(&ann.member_id, "second")]));
    assert_eq!(world.code_of(once), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(world.pending.len(), 1, "one generation, one assignment");
    world.commit_next();
    assert_eq!(world.sync_answer(twice).assignment, "first");
}

#[test]
fn a_rebalance_overtakes_the_assignment_that_is_being_written() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    let first = world.join(&mut ann);
    world.pass(0);
    world.joined(first, &mut ann);
    world.commits_at_once = false;
    let syncing = world.ask(ann.sync(&[(&ann.member_id, "old")]));
    let joining = world.join(&mut bob);
    assert_eq!(world.code_of(syncing), ErrorCode::REBALANCE_IN_PROGRESS);
    world.commit_next();
    assert_eq!(
        world.state("g"),
        GroupState::PreparingRebalance,
        "what was written is history"
    );
    let first = world.ask(ann.join());
    assert_eq!(world.joined(first, &mut ann).generation_id, 2);
    world.joined(joining, &mut bob);
    world.commits_at_once = true;
    world.sync_all(&mut [&mut ann, &mut bob], 0);
}

#[test]
fn what_a_member_says_of_its_generation_must_be_true() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    for generation_id in [-1, 0, 2] {
        let wrong = Client {
            generation_id,
            ..ann.clone()
        };
        assert_eq!(world.code(wrong.heartbeat()), ErrorCode::ILLEGAL_GENERATION);
        assert_eq!(world.code(wrong.sync(&[])), ErrorCode::ILLEGAL_GENERATION);
        assert_eq!(
            world.code(wrong.commit("orders", 0, 1)),
            ErrorCode::ILLEGAL_GENERATION
        );
    }
    let stranger = Client {
        member_id: "stranger".into(),
        ..ann.clone()
    };
    assert_eq!(
        world.code(stranger.heartbeat()),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert_eq!(world.code(stranger.sync(&[])), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        world.code(stranger.commit("orders", 0, 1)),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert_eq!(world.committed("g", "orders", 0), -1);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
}

#[test]
fn the_protocol_that_a_sync_names_must_be_the_groups() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    let GroupRequest::SyncGroup(good) = ann.sync(&[]) else {
        panic!("not of its kind")
    };
    let wrong_type = SyncGroup {
        protocol_type: Some("connect".into()),
        ..good.clone()
    };
    let wrong_name = SyncGroup {
        protocol_name: Some("sticky".into()),
        ..good.clone()
    };
    for wrong in [wrong_type, wrong_name] {
        let code = world.code(GroupRequest::SyncGroup(wrong));
        assert_eq!(code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    let silent = SyncGroup {
        protocol_type: None,
        protocol_name: None,
        ..good.clone()
    };
    let exact = SyncGroup {
        protocol_name: Some("range".into()),
        ..good
    };
    for right in [silent, exact] {
        assert_eq!(world.code(GroupRequest::SyncGroup(right)), ErrorCode::NONE);
    }
}

#[test]
fn in_groups_that_are_empty_or_missing_nobody_is_known() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
    assert_eq!(world.code(ann.sync(&[])), unknown);
    assert_eq!(world.code(ann.heartbeat()), unknown);
    world.stabilise(&mut [&mut ann]);
    assert_eq!(world.code(ann.leave()), ErrorCode::NONE);
    assert_eq!(world.state("g"), GroupState::Empty);
    assert_eq!(world.code(ann.sync(&[])), unknown);
    assert_eq!(world.code(ann.heartbeat()), unknown);
    assert_eq!(world.code(ann.join()), unknown);
    assert_eq!(world.code(ann.commit("orders", 0, 1)), unknown);
}

#[test]
fn generations_go_on_after_a_group_was_empty() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    world.code(ann.leave());
    ann.member_id.clear();
    world.stabilise(&mut [&mut ann]);
    assert_eq!(ann.generation_id, 3, "1, empty 2, 3");
}
