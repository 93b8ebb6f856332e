//! Static members (KIP-345, KIP-814): they come back without a rebalance, and their former selves
//! are fenced.

use protocol::ErrorCode;

use super::driver::{Client, Driver};
use crate::groups::*;

/// ann leads, bob follows; both are static and the group is stable.
fn pair(world: &mut Driver) -> (Client, Client) {
    let mut ann = Client::new("ann").with_instance("i-ann");
    let mut bob = Client::new("bob").with_instance("i-bob");
    let leader = world.stabilise(&mut [&mut ann, &mut bob]);
    assert_eq!(leader, 0);
    (ann, bob)
}

fn reborn(client: &Client) -> Client {
    Client {
        member_id: String::new(),
        generation_id: -1,
        ..client.clone()
    }
}

#[test]
fn a_static_member_joins_in_one_step() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann").with_instance("i-ann");
    let token = world.ask(ann.join());
    world.pass(0);
    let answer = world.joined(token, &mut ann);
    assert!(
        answer.member_id.starts_with("i-ann-"),
        "its id begins with the instance's"
    );
    assert_eq!(
        answer.members[0].group_instance_id.as_deref(),
        Some("i-ann")
    );
}

#[test]
fn a_follower_that_comes_back_disturbs_nobody() {
    let mut world = Driver::new();
    let (ann, bob) = pair(&mut world);
    world.commits_at_once = false;
    let mut again = reborn(&bob);
    let token = world.ask(again.join());
    assert!(
        world.is_waiting(token),
        "its new id must be in the log first"
    );
    world.commit_next();
    world.commits_at_once = true;
    let answer = world.joined(token, &mut again);
    assert_ne!(again.member_id, bob.member_id);
    assert_eq!(answer.generation_id, 1);
    assert_eq!(
        (answer.leader.as_str(), answer.members.len()),
        (ann.member_id.as_str(), 0)
    );
    assert!(!answer.skip_assignment);
    assert_eq!(world.state("g"), GroupState::Stable);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE, "no rebalance");
    let token = world.ask(again.sync(&[]));
    assert_eq!(
        world.sync_answer(token).assignment,
        "bob",
        "it has what it had"
    );
}

#[test]
fn a_leader_that_comes_back_is_told_that_nothing_is_to_be_assigned() {
    let mut world = Driver::new();
    let (ann, _) = pair(&mut world);
    let mut again = reborn(&ann);
    let token = world.ask(again.join());
    let answer = world.joined(token, &mut again);
    assert!(answer.skip_assignment);
    assert_eq!(
        (answer.leader.as_str(), answer.members.len()),
        (again.member_id.as_str(), 2)
    );
    let token = world.ask(again.sync(&[]));
    assert_eq!(world.sync_answer(token).assignment, "ann");
}

#[test]
fn an_old_client_that_led_is_told_that_its_former_self_does() {
    let mut world = Driver::new();
    let (ann, _) = pair(&mut world);
    let mut again = Client {
        join_version: 8,
        ..reborn(&ann)
    };
    let token = world.ask(again.join());
    let answer = world.joined(token, &mut again);
    assert_eq!(answer.leader, ann.member_id);
    assert_eq!((answer.members.len(), answer.skip_assignment), (0, false));
    assert_eq!(world.state("g"), GroupState::Stable);
}

#[test]
fn the_former_self_is_fenced_everywhere() {
    let mut world = Driver::new();
    let (_, bob) = pair(&mut world);
    let mut again = reborn(&bob);
    let token = world.ask(again.join());
    world.joined(token, &mut again);
    let fenced = ErrorCode::FENCED_INSTANCE_ID;
    assert_eq!(world.code(bob.heartbeat()), fenced);
    assert_eq!(world.code(bob.sync(&[])), fenced);
    assert_eq!(world.code(bob.join()), fenced);
    assert_eq!(world.code(bob.commit("orders", 0, 1)), fenced);
    assert_eq!(world.code(bob.leave()), fenced);
    assert_eq!(world.code(again.heartbeat()), ErrorCode::NONE);
    let stranger = Client {
        group_instance_id: Some("i-nobody".into()),
        ..bob
    };
    assert_eq!(
        world.code(stranger.heartbeat()),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
}

#[test]
fn a_former_self_that_waits_is_fenced_at_once() {
    let mut world = Driver::new();
    let (ann, bob) = pair(&mut world);
    let waiting = world.ask(ann.join());
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    let mut again = reborn(&ann);
    let token = world.ask(again.join());
    assert_eq!(world.code_of(waiting), ErrorCode::FENCED_INSTANCE_ID);
    let mut bob = bob;
    let second = world.ask(bob.join());
    assert_eq!(world.joined(token, &mut again).generation_id, 2);
    assert_eq!(world.joined(second, &mut bob).generation_id, 2);
    world.sync_all(&mut [&mut again, &mut bob], 0);

    // The same in a sync.
    let third = world.ask(again.join());
    let second = world.ask(bob.join());
    world.joined(third, &mut again);
    world.joined(second, &mut bob);
    let waiting = world.ask(bob.sync(&[]));
    let token = world.ask(reborn(&bob).join());
    assert_eq!(world.code_of(waiting), ErrorCode::FENCED_INSTANCE_ID);
    assert!(world.is_waiting(token));
    let state = world.state("g");
    assert_eq!(
        state,
        GroupState::PreparingRebalance,
        "the leader may have seen the old id"
    );
}

#[test]
fn another_protocol_is_a_reason_for_a_rebalance() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann")
        .with_instance("i-ann")
        .with_protocols(&["range", "robin"]);
    let mut bob = Client::new("bob")
        .with_instance("i-bob")
        .with_protocols(&["range", "robin"]);
    world.stabilise(&mut [&mut ann, &mut bob]);
    let mut again = reborn(&bob).with_protocols(&["robin"]);
    let token = world.ask(again.join());
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    let first = world.ask(ann.join());
    assert_eq!(
        world.joined(first, &mut ann).protocol_name.as_deref(),
        Some("robin")
    );
    assert_eq!(world.joined(token, &mut again).generation_id, 2);
}

#[test]
fn a_static_member_that_stays_away_keeps_its_place_until_its_session_ends() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    let mut bob = Client::new("bob").with_instance("i-bob");
    (bob.session_timeout_ms, bob.rebalance_timeout_ms) = (300_000, 20_000);
    ann.rebalance_timeout_ms = 20_000;
    world.stabilise(&mut [&mut ann, &mut bob]);
    let mut cid = Client {
        rebalance_timeout_ms: 20_000,
        ..Client::new("cid")
    };
    let third = world.join(&mut cid);
    let first = world.ask(ann.join());
    world.pass(20_000);
    let of_ann = world.joined(first, &mut ann);
    let of_cid = world.joined(third, &mut cid);
    let members = if of_ann.members.is_empty() {
        of_cid.members
    } else {
        of_ann.members
    };
    assert_eq!(members.len(), 3, "bob counts although he has not come");
}

#[test]
fn only_static_members_that_all_stay_away_postpone_the_rebalance() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann").with_instance("i-ann");
    let mut bob = Client::new("bob").with_instance("i-bob");
    for client in [&mut ann, &mut bob] {
        (client.session_timeout_ms, client.rebalance_timeout_ms) = (100_000, 20_000);
    }
    world.stabilise(&mut [&mut ann, &mut bob]);
    let mut cid = Client {
        rebalance_timeout_ms: 20_000,
        ..Client::new("cid")
    };
    let token = world.join(&mut cid);
    world.code(cid.leave());
    assert_eq!(world.code_of(token), ErrorCode::UNKNOWN_MEMBER_ID);
    world.pass(60_000);
    assert_eq!(
        world.state("g"),
        GroupState::PreparingRebalance,
        "nobody came, nobody is thrown out"
    );
    let first = world.ask(ann.join());
    world.pass(20_000);
    assert_eq!(world.joined(first, &mut ann).generation_id, 2);
}

#[test]
fn a_write_that_fails_brings_the_former_self_back() {
    let mut world = Driver::new();
    let (ann, bob) = pair(&mut world);
    world.commits_at_once = false;
    let token = world.ask(reborn(&ann).join());
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::FENCED_INSTANCE_ID);
    world.fail_next(ErrorCode::NOT_ENOUGH_REPLICAS);
    let answer = world.join_answer(token);
    assert_eq!(answer.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!((answer.member_id.as_str(), answer.generation_id), ("", 1));
    assert_eq!(answer.leader, ann.member_id);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
    assert_eq!(world.code(bob.heartbeat()), ErrorCode::NONE);
    let token = world.ask(ann.sync(&[]));
    assert_eq!(world.sync_answer(token).assignment, "ann");
}

#[test]
fn two_returns_whose_writes_fail_lead_back_to_the_one_that_the_log_knows() {
    let mut world = Driver::new();
    let (_, bob) = pair(&mut world);
    world.commits_at_once = false;
    let once = world.ask(reborn(&bob).join());
    let twice = world.ask(reborn(&bob).join());
    assert_eq!(world.code_of(once), ErrorCode::FENCED_INSTANCE_ID);
    world.fail_next(ErrorCode::NOT_ENOUGH_REPLICAS);
    world.fail_next(ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(world.code_of(twice), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(world.code(bob.heartbeat()), ErrorCode::NONE);
}

#[test]
fn a_return_that_a_rebalance_overtakes_becomes_part_of_it() {
    for commits in [true, false] {
        let mut world = Driver::new();
        let (mut ann, bob) = pair(&mut world);
        world.commits_at_once = false;
        let mut again = reborn(&bob);
        let token = world.ask(again.join());
        let first = world.ask(ann.join());
        // ann leads, so her join is a rebalance; the one who came back waits in it already.
        assert_eq!(world.joined(first, &mut ann).generation_id, 2);
        assert_eq!(world.joined(token, &mut again).generation_id, 2);
        match commits {
            true => world.commit_next(),
            false => world.fail_next(ErrorCode::NOT_ENOUGH_REPLICAS),
        }
        world.commits_at_once = true;
        world.sync_all(&mut [&mut ann, &mut again], 0);
        assert_eq!(world.code(bob.heartbeat()), ErrorCode::FENCED_INSTANCE_ID);
    }
}

#[test]
fn a_session_goes_on_after_a_return_that_took_long_to_write() {
    let mut world = Driver::new();
    let (mut ann, bob) = pair(&mut world);
    ann.session_timeout_ms = 10_000;
    world.commits_at_once = false;
    let mut again = reborn(&bob);
    let token = world.ask(again.join());
    world.pass(9_000);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
    world.pass(9_000);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
    world.commit_next();
    world.joined(token, &mut again);
    world.pass(9_999);
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
    assert_eq!(world.state("g"), GroupState::Stable);
    world.pass(1);
    assert_eq!(
        world.state("g"),
        GroupState::PreparingRebalance,
        "it was not heard of again"
    );
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut world = Driver::new();
    let (ann, bob) = pair(&mut world);
    assert_eq!(
        world.code(super::driver::leave("g", &[("", Some("i-bob"))])),
        ErrorCode::NONE
    );
    assert_eq!(world.code(bob.heartbeat()), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        world.code(ann.heartbeat()),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
}
