//! Offsets that are committed within transactions (KIP-447).

use protocol::ErrorCode;

use super::driver::{Client, Driver, bare_commit, fetch, offset_delete};
use crate::groups::*;

const PRODUCER: Producer = Producer {
    id: 4_000,
    epoch: 2,
};

fn in_transaction(producer: i64, offset: i64) -> GroupRequest {
    let producer = Producer {
        id: producer,
        epoch: 0,
    };
    GroupRequest::TxnOffsetCommit(producer, bare_commit("g", "t", 0, offset))
}

fn plain(offset: i64) -> GroupRequest {
    GroupRequest::OffsetCommit(bare_commit("g", "t", 0, offset))
}

fn stable() -> OffsetFetch {
    OffsetFetch {
        require_stable: true,
        ..fetch("g", "t", 0)
    }
}

#[test]
fn the_append_names_the_producer() {
    let mut world = Driver::new();
    world.commits_at_once = false;
    let commit = bare_commit("g", "t", 0, 1);
    let token = world.ask(GroupRequest::TxnOffsetCommit(PRODUCER, commit));
    assert_eq!(world.pending[0].producer, Some(PRODUCER));
    world.commit_next();
    assert_eq!(world.code_of(token), ErrorCode::NONE);
}

#[test]
fn an_offset_counts_when_its_transaction_commits() {
    let mut world = Driver::new();
    world.code(plain(1));
    assert_eq!(world.code(in_transaction(1, 5)), ErrorCode::NONE);
    assert_eq!(world.fetched(fetch("g", "t", 0)), (ErrorCode::NONE, 1));
    assert_eq!(
        world.fetched(stable()),
        (ErrorCode::UNSTABLE_OFFSET_COMMIT, -1)
    );
    world.end_transaction(1, true);
    assert_eq!(world.fetched(stable()), (ErrorCode::NONE, 5));
}

#[test]
fn an_aborted_one_never_does() {
    let mut world = Driver::new();
    world.code(plain(1));
    world.code(in_transaction(1, 5));
    world.end_transaction(1, false);
    assert_eq!(world.fetched(stable()), (ErrorCode::NONE, 1));
    // The marker of a producer that nobody knows changes nothing.
    world.end_transaction(77, true);
    assert_eq!(world.fetched(stable()), (ErrorCode::NONE, 1));
}

#[test]
fn of_a_plain_and_a_transactional_commit_the_later_record_wins() {
    let mut world = Driver::new();
    world.code(in_transaction(1, 5));
    world.code(plain(9));
    world.end_transaction(1, true);
    assert_eq!(
        world.committed("g", "t", 0),
        9,
        "the plain one was written later"
    );

    world.code(in_transaction(1, 20));
    world.code(in_transaction(2, 30));
    world.end_transaction(2, true);
    world.end_transaction(1, true);
    assert_eq!(world.committed("g", "t", 0), 30);

    world.code(in_transaction(1, 40));
    world.code(in_transaction(1, 41));
    world.end_transaction(1, true);
    assert_eq!(world.committed("g", "t", 0), 41, "of one producer the last");
}

#[test]
fn a_deletion_takes_what_is_open_with_it() {
    let mut world = Driver::new();
    world.code(in_transaction(1, 5));
    assert_eq!(world.code(offset_delete("g", "t", 0)), ErrorCode::NONE);
    world.end_transaction(1, true);
    assert_eq!(world.committed("g", "t", 0), -1);
    assert_eq!(world.state("g"), GroupState::Dead, "nothing is left of it");
}

#[test]
fn an_open_transaction_keeps_an_offset_from_expiring() {
    let mut world = Driver::new();
    world.code(plain(1));
    world.code(in_transaction(1, 2));
    world.pass(8 * 24 * 3_600_000);
    world.expire();
    assert_eq!(world.committed("g", "t", 0), 1);
    world.end_transaction(1, false);
    world.expire();
    assert_eq!(world.committed("g", "t", 0), -1);
}

#[test]
fn open_transactions_survive_a_restart_and_a_snapshot() {
    let mut world = Driver::new();
    world.code(plain(1));
    world.code(in_transaction(1, 5));
    world.code(in_transaction(2, 6));
    world.code(plain(7));
    world.restart();
    assert_eq!(
        world.fetched(stable()),
        (ErrorCode::UNSTABLE_OFFSET_COMMIT, -1)
    );
    world.log = super::driver::as_log(world.coordinator.snapshot());
    assert_eq!(world.log.len(), 3);
    world.restart();
    world.end_transaction(1, true);
    assert_eq!(
        world.fetched(fetch("g", "t", 0)),
        (ErrorCode::NONE, 7),
        "7 was the latest"
    );
    world.code(in_transaction(3, 8));
    world.end_transaction(3, true);
    world.end_transaction(2, true);
    assert_eq!(world.fetched(stable()), (ErrorCode::NONE, 8));
}

#[test]
fn a_marker_takes_effect_behind_the_commits_before_it() {
    let mut world = Driver::new();
    world.commits_at_once = false;
    let token = world.ask(in_transaction(1, 5));
    let pending = world.pending.pop_front().expect("the commit is under way");
    let (write, offset) = (pending.write, world.store(pending));
    world.end_transaction(1, true);
    assert_eq!(world.committed("g", "t", 0), -1);
    world.step(|coordinator, at, out| coordinator.committed(write, offset, at, out));
    assert_eq!(world.code_of(token), ErrorCode::NONE);
    assert_eq!(world.committed("g", "t", 0), 5);
}

#[test]
fn a_producer_is_held_to_the_generation_that_it_names() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    let commit = ann.offset_commit("orders", 0, 5);
    let of = |commit: OffsetCommit| GroupRequest::TxnOffsetCommit(PRODUCER, commit);
    assert_eq!(world.code(of(commit.clone())), ErrorCode::NONE);
    let old = OffsetCommit {
        generation_id: 0,
        ..commit.clone()
    };
    assert_eq!(world.code(of(old)), ErrorCode::ILLEGAL_GENERATION);
    let stranger = OffsetCommit {
        member_id: "stranger".into(),
        ..commit.clone()
    };
    assert_eq!(world.code(of(stranger)), ErrorCode::UNKNOWN_MEMBER_ID);
    // Old producers name none, and that must do.
    assert_eq!(
        world.code(of(bare_commit("g", "orders", 0, 6))),
        ErrorCode::NONE
    );
    // The group's rebalance is none of the transaction's business.
    let first = world.ask(ann.join());
    world.joined(first, &mut ann);
    assert_eq!(world.state("g"), GroupState::CompletingRebalance);
    assert_eq!(
        world.code(ann.commit("orders", 0, 7)),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    assert_eq!(
        world.code(of(ann.offset_commit("orders", 0, 7))),
        ErrorCode::NONE
    );
    // It is no sign of life either.
    world.sync_all(&mut [&mut ann], 0);
    world.pass(9_000);
    world.code(of(ann.offset_commit("orders", 0, 8)));
    world.pass(1_000);
    assert_eq!(world.state("g"), GroupState::Empty);
}

#[test]
fn a_group_is_needed_by_name() {
    let mut world = Driver::new();
    let commit = bare_commit("", "t", 0, 1);
    let code = world.code(GroupRequest::TxnOffsetCommit(PRODUCER, commit));
    assert_eq!(code, ErrorCode::INVALID_GROUP_ID);
}
