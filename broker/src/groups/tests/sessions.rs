//! Sessions: who is not heard of goes, who waits for us does not.

use protocol::ErrorCode;

use super::driver::{Client, Driver};
use crate::groups::*;

#[test]
fn a_member_that_is_not_heard_of_is_removed() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    world.stabilise(&mut [&mut ann, &mut bob]);
    world.pass(9_000);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
    world.pass(999);
    assert_eq!(world.state("g"), GroupState::Stable);
    world.pass(1);
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    assert_eq!(world.code(bob.heartbeat()), ErrorCode::UNKNOWN_MEMBER_ID);
    let token = world.ask(ann.join());
    assert_eq!(world.joined(token, &mut ann).generation_id, 2);
}

#[test]
fn heartbeats_and_commits_keep_a_session_alive() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    for round in 0..5 {
        world.pass(6_000);
        assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
        world.pass(6_000);
        assert_eq!(world.code(ann.commit("orders", 0, round)), ErrorCode::NONE);
    }
    world.pass(10_000);
    assert_eq!(world.state("g"), GroupState::Empty);
}

#[test]
fn a_group_whose_members_all_go_silent_becomes_empty_and_says_so_in_the_log() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    world.stabilise(&mut [&mut ann, &mut bob]);
    let before = world.log.len();
    world.pass(10_000);
    assert_eq!(world.state("g"), GroupState::Empty);
    assert_eq!(world.log.len(), before + 1);
    assert_eq!(
        world.coordinator.next_deadline(),
        None,
        "an empty group waits for nothing"
    );
}

#[test]
fn who_waits_in_a_join_needs_no_heartbeat() {
    let mut world = Driver::new();
    let (mut ann, mut bob, mut cid) = (Client::new("ann"), Client::new("bob"), Client::new("cid"));
    world.stabilise(&mut [&mut ann, &mut bob]);
    let first = world.ask(ann.join());
    let third = world.join(&mut cid);
    for _ in 0..8 {
        world.pass(7_000);
        assert_eq!(
            world.code(bob.heartbeat()),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
    }
    assert!(
        world.is_waiting(first) && world.is_waiting(third),
        "56 s of 60"
    );
    let second = world.ask(bob.join());
    for (token, client) in [(first, &mut ann), (second, &mut bob), (third, &mut cid)] {
        assert_eq!(world.joined(token, client).generation_id, 2);
    }
    // From the answer on they need them again.
    world.pass(10_000);
    assert_eq!(world.state("g"), GroupState::Empty);
}

#[test]
fn who_waits_in_a_sync_needs_no_heartbeat() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    let (first, second) = (world.join(&mut ann), world.join(&mut bob));
    world.pass(0);
    world.joined(first, &mut ann);
    world.joined(second, &mut bob);
    let syncing = world.ask(bob.sync(&[]));
    for _ in 0..5 {
        world.pass(8_000);
        assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
    }
    let leading = world.ask(ann.sync(&[(&bob.member_id, "all")]));
    assert_eq!(world.sync_answer(syncing).assignment, "all");
    assert_eq!(world.code_of(leading), ErrorCode::NONE);
    world.pass(10_000);
    assert_eq!(world.state("g"), GroupState::Empty);
}

#[test]
fn a_new_member_waits_five_minutes_at_most() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    ann.rebalance_timeout_ms = 600_000;
    world.stabilise(&mut [&mut ann]);
    let joining = world.join(&mut bob);
    for _ in 0..37 {
        world.pass(8_000);
        assert_eq!(
            world.code(ann.heartbeat()),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
    }
    world.pass(3_999);
    assert!(world.is_waiting(joining), "299.999 s");
    world.pass(1);
    let answer = world.join_answer(joining);
    assert_eq!(
        (answer.error_code, answer.member_id.as_str()),
        (ErrorCode::UNKNOWN_MEMBER_ID, "")
    );
}

#[test]
fn a_member_may_change_its_timeouts() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    ann.session_timeout_ms = 20_000;
    world.stabilise(&mut [&mut ann]);
    world.pass(19_999);
    assert_eq!(world.state("g"), GroupState::Stable);
    world.pass(1);
    assert_eq!(world.state("g"), GroupState::Empty);
}

#[test]
fn a_version_that_has_no_rebalance_timeout_uses_its_session_timeout() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    for client in [&mut ann, &mut bob] {
        (client.join_version, client.rebalance_timeout_ms) = (0, -1);
    }
    world.stabilise(&mut [&mut ann]);
    world.pass(5_000);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
    let joining = world.join(&mut bob);
    world.pass(9_000);
    assert_eq!(
        world.code(ann.heartbeat()),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    world.pass(1_000);
    assert_eq!(world.joined(joining, &mut bob).generation_id, 2);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::UNKNOWN_MEMBER_ID);
}
