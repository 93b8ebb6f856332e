//! Writes that do not reach the log, and leadership that goes.

use protocol::ErrorCode;

use super::driver::{Client, Driver, bare_commit, delete_group, fetch, offset_delete};
use crate::groups::*;

#[test]
fn an_assignment_that_is_not_written_is_not_handed_out() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    let (first, second) = (world.join(&mut ann), world.join(&mut bob));
    world.pass(0);
    world.joined(first, &mut ann);
    world.joined(second, &mut bob);
    world.commits_at_once = false;
    let of_bob = world.ask(bob.sync(&[]));
    let of_ann = world.ask(ann.sync(&[(&ann.member_id, "all")]));
    world.fail_next(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(world.code_of(of_ann), ErrorCode::NOT_COORDINATOR);
    assert_eq!(world.code_of(of_bob), ErrorCode::NOT_COORDINATOR);
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    // If leadership stays after all, they join again.
    world.commits_at_once = true;
    let (first, second) = (world.ask(ann.join()), world.ask(bob.join()));
    assert_eq!(world.joined(first, &mut ann).generation_id, 2);
    assert_eq!(world.joined(second, &mut bob).generation_id, 2);
    world.sync_all(&mut [&mut ann, &mut bob], 0);
}

#[test]
fn whoever_leaves_last_learns_that_the_log_does_not_know() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    world.commits_at_once = false;
    let leaving = world.ask(ann.leave());
    world.fail_next(ErrorCode::NOT_ENOUGH_REPLICAS);
    let GroupResponse::LeaveGroup(answer) = world.answer(leaving) else {
        panic!("another kind")
    };
    assert_eq!(answer.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(answer.members, []);
    assert_eq!(
        world.state("g"),
        GroupState::Empty,
        "it has left all the same"
    );
    world.commits_at_once = true;
    ann.member_id.clear();
    world.stabilise(&mut [&mut ann]);
    assert_eq!(ann.generation_id, 3);
}

#[test]
fn a_deletion_of_offsets_that_is_not_written_leaves_them() {
    let mut world = Driver::new();
    world.code(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, 1)));
    world.commits_at_once = false;
    let deleting = world.ask(offset_delete("g", "t", 0));
    world.fail_next(ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(
        world.code_of(deleting),
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    );
    assert_eq!(world.committed("g", "t", 0), 1);
}

#[test]
fn a_group_that_was_only_meant_to_be_leaves_nothing_behind() {
    let mut world = Driver::new();
    world.commits_at_once = false;
    world.ask(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, 1)));
    assert_eq!(world.state("g"), GroupState::Empty);
    world.fail_next(ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(world.state("g"), GroupState::Dead);
}

#[test]
fn with_leadership_everybody_who_waits_is_sent_away() {
    let mut world = Driver::new();
    world.commits_at_once = false;
    let committing = world.ask(GroupRequest::OffsetCommit(bare_commit("tool", "t", 0, 1)));
    let stable = OffsetFetch {
        require_stable: true,
        ..fetch("tool", "t", 0)
    };
    let fetching = world.ask(GroupRequest::OffsetFetch(stable));
    let deleting = world.ask(delete_group("tool"));
    let mut ann = Client::new("ann");
    let joining = world.join(&mut ann);
    let mut bob = Client {
        group_id: "h".into(),
        ..Client::new("bob")
    };
    let token = world.join(&mut bob);
    world.pass(0);
    world.code_of(joining);
    world.joined(token, &mut bob);
    let syncing = world.ask(bob.sync(&[(&bob.member_id, "all")]));
    let mut cid = Client {
        group_id: "i".into(),
        ..Client::new("cid")
    };
    let joining = world.join(&mut cid);
    world.step(|coordinator, _, out| coordinator.resign(out));
    for token in [committing, fetching, deleting, joining, syncing] {
        assert_eq!(
            world.code_of(token),
            ErrorCode::NOT_COORDINATOR,
            "{token:?}"
        );
    }
    assert_eq!(world.unanswered(), 0);
    assert_eq!(world.coordinator.next_deadline(), None);
    assert_eq!(world.coordinator.writes_under_way(), 0);
    // Reports that come late are nobody's.
    let write = world.pending[0].write;
    world.step(|coordinator, at, out| {
        coordinator.committed(write, 0, at, out);
        coordinator.failed(WriteId(999), ErrorCode::NOT_ENOUGH_REPLICAS, at, out);
    });
    assert_eq!(world.coordinator.committed_offsets().count(), 0);
}
