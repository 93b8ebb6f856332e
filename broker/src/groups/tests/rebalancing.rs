//! Rebalances: the first one's delay, members that come and go, those who are late.

use protocol::ErrorCode;

use super::driver::{Client, Driver, leave, subscription};
use crate::groups::*;

fn delayed() -> Driver {
    Driver::with(Settings {
        initial_rebalance_delay_ms: 3_000,
        ..Settings::default()
    })
}

#[test]
fn a_first_rebalance_waits_for_more_members() {
    let mut world = delayed();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    let first = world.join(&mut ann);
    world.pass(2_999);
    assert!(world.is_waiting(first));
    world.pass(1);
    assert_eq!(world.joined(first, &mut ann).generation_id, 1);

    // In a group that has members nobody waits for strangers.
    world.sync_all(&mut [&mut ann], 0);
    let second = world.join(&mut bob);
    let first = world.ask(ann.join());
    assert_eq!(world.joined(first, &mut ann).generation_id, 2);
    assert_eq!(world.joined(second, &mut bob).generation_id, 2);
}

#[test]
fn each_newcomer_extends_the_delay_up_to_the_rebalance_timeout() {
    let mut world = delayed();
    let client = |name| Client {
        rebalance_timeout_ms: 8_000,
        ..Client::new(name)
    };
    let mut clients: Vec<Client> = ["a", "b", "c", "d"].into_iter().map(client).collect();
    let mut tokens = vec![world.join(&mut clients[0])];
    world.pass(2_000);
    tokens.push(world.join(&mut clients[1]));
    world.pass(1_000);
    assert!(
        world.is_waiting(tokens[0]),
        "3 s: b came, so 3 s more (2 s would then be left)"
    );
    world.pass(1_000);
    tokens.push(world.join(&mut clients[2]));
    world.pass(2_000);
    assert!(world.is_waiting(tokens[0]), "6 s: c came, so the last 2 s");
    world.pass(1_000);
    tokens.push(world.join(&mut clients[3]));
    world.pass(999);
    assert!(world.is_waiting(tokens[0]));
    world.pass(1);
    for (token, client) in tokens.into_iter().zip(&mut clients) {
        assert_eq!(
            world.joined(token, client).generation_id,
            1,
            "8 s and no longer"
        );
    }
}

#[test]
fn without_newcomers_the_delay_is_not_extended() {
    let mut world = delayed();
    let mut clients = [Client::new("a"), Client::new("b")];
    let mut tokens = vec![world.join(&mut clients[0])];
    world.pass(1_000);
    tokens.push(world.join(&mut clients[1]));
    world.pass(5_000);
    for (token, client) in tokens.into_iter().zip(&mut clients) {
        assert_eq!(world.joined(token, client).generation_id, 1);
    }
}

#[test]
fn a_first_rebalance_that_all_have_left_ends_in_an_empty_group() {
    let mut world = delayed();
    let mut ann = Client::new("ann");
    let token = world.join(&mut ann);
    assert_eq!(world.code(ann.leave()), ErrorCode::NONE);
    assert_eq!(world.code_of(token), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    world.pass(3_000);
    assert_eq!(world.state("g"), GroupState::Empty);
    assert_eq!(world.log.len(), 1, "the empty generation is written down");
}

#[test]
fn eager_members_are_called_back_and_get_a_new_generation() {
    let mut world = Driver::new();
    let (mut ann, mut bob, mut cid) = (Client::new("ann"), Client::new("bob"), Client::new("cid"));
    world.stabilise(&mut [&mut ann, &mut bob]);

    let joining = world.join(&mut cid);
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    for member in [&ann, &bob] {
        assert_eq!(
            world.code(member.heartbeat()),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        assert_eq!(
            world.code(member.sync(&[])),
            ErrorCode::REBALANCE_IN_PROGRESS
        );
        assert_eq!(
            world.code(member.commit("orders", 0, 7)),
            ErrorCode::NONE,
            "they may commit"
        );
    }
    let first = world.ask(ann.join());
    assert!(
        world.is_waiting(first) && world.is_waiting(joining),
        "bob is missing"
    );
    let second = world.ask(bob.join());
    let answers = [
        world.joined(first, &mut ann),
        world.joined(second, &mut bob),
        world.joined(joining, &mut cid),
    ];
    assert!(answers.iter().all(|answer| answer.generation_id == 2));
    assert!(
        answers
            .iter()
            .all(|answer| answer.leader == answers[0].leader)
    );
    let leader = answers
        .iter()
        .position(|answer| !answer.members.is_empty())
        .expect("one leads");
    world.sync_all(&mut [&mut ann, &mut bob, &mut cid], leader);
    assert_eq!(world.code(cid.commit("orders", 0, 8)), ErrorCode::NONE);
}

#[test]
fn a_member_may_join_while_the_others_wait_for_their_assignment() {
    let mut world = Driver::new();
    let (mut ann, mut bob, mut cid) = (Client::new("ann"), Client::new("bob"), Client::new("cid"));
    let (first, second) = (world.join(&mut ann), world.join(&mut bob));
    world.pass(0);
    let ann_leads = !world.joined(first, &mut ann).members.is_empty();
    world.joined(second, &mut bob);
    let follower = if ann_leads { &bob } else { &ann };
    let syncing = world.ask(follower.sync(&[]));
    let third = world.join(&mut cid);
    assert_eq!(world.code_of(syncing), ErrorCode::REBALANCE_IN_PROGRESS);
    let (first, second) = (world.ask(ann.join()), world.ask(bob.join()));
    for (token, client) in [(first, &mut ann), (second, &mut bob), (third, &mut cid)] {
        assert_eq!(world.joined(token, client).generation_id, 2);
    }
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut world = Driver::new();
    let (mut ann, mut bob, mut cid) = (Client::new("ann"), Client::new("bob"), Client::new("cid"));
    for client in [&mut ann, &mut bob] {
        client.session_timeout_ms = 300_000;
    }
    world.stabilise(&mut [&mut ann, &mut bob]);
    let joining = world.join(&mut cid);
    let first = world.ask(ann.join());
    world.pass(59_999);
    assert!(world.is_waiting(joining));
    world.pass(1);
    assert_eq!(world.joined(joining, &mut cid).generation_id, 2);
    assert_eq!(world.joined(first, &mut ann).generation_id, 2);
    assert_eq!(world.code(bob.heartbeat()), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(world.code(bob.join()), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_leader_that_does_not_rejoin_is_replaced() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    ann.session_timeout_ms = 300_000;
    world.stabilise(&mut [&mut ann]);
    let token = world.join(&mut bob);
    world.pass(60_000);
    let answer = world.joined(token, &mut bob);
    assert_eq!(answer.leader, bob.member_id);
    assert_eq!(answer.members.len(), 1);
}

#[test]
fn who_does_not_sync_in_time_is_out() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    for client in [&mut ann, &mut bob] {
        client.session_timeout_ms = 300_000;
    }
    let (first, second) = (world.join(&mut ann), world.join(&mut bob));
    world.pass(0);
    world.joined(first, &mut ann);
    world.joined(second, &mut bob);
    // ann leads (her id comes first) and syncs; bob does not.
    let syncing = world.ask(ann.sync(&[(&ann.member_id, "all")]));
    assert_eq!(world.sync_answer(syncing).assignment, "all");
    world.pass(59_999);
    assert_eq!(world.state("g"), GroupState::Stable);
    world.pass(1);
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    assert_eq!(world.code(bob.heartbeat()), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        world.code(ann.heartbeat()),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
}

#[test]
fn a_leader_that_does_not_sync_in_time_is_out_and_the_waiting_are_called_back() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    for client in [&mut ann, &mut bob] {
        client.session_timeout_ms = 300_000;
    }
    let (first, second) = (world.join(&mut ann), world.join(&mut bob));
    world.pass(0);
    assert_eq!(world.joined(first, &mut ann).leader, ann.member_id);
    world.joined(second, &mut bob);
    let syncing = world.ask(bob.sync(&[]));
    world.pass(60_000);
    assert_eq!(world.code_of(syncing), ErrorCode::REBALANCE_IN_PROGRESS);
    let second = world.ask(bob.join());
    let answer = world.joined(second, &mut bob);
    assert_eq!(
        (answer.generation_id, answer.leader),
        (2, bob.member_id.clone())
    );
}

#[test]
fn a_join_repeated_while_the_generation_is_young_is_answered_from_it() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    let (first, second) = (world.join(&mut ann), world.join(&mut bob));
    world.pass(0);
    let (of_ann, of_bob) = (world.join_answer(first), world.join_answer(second));
    for (client, before) in [(&ann, of_ann), (&bob, of_bob)] {
        let token = world.ask(client.join());
        assert_eq!(world.join_answer(token), before);
    }
    // With something new to say it is another matter.
    let changed = Client {
        protocols: vec![("range".into(), subscription(&["more"]))],
        ..ann
    };
    let token = world.ask(changed.join());
    assert!(world.is_waiting(token));
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
}

#[test]
fn in_a_stable_group_only_the_leader_and_changes_cause_a_rebalance() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    let leader = world.stabilise(&mut [&mut ann, &mut bob]);
    assert_eq!(leader, 0);
    let token = world.ask(bob.join());
    let answer = world.join_answer(token);
    assert_eq!((answer.generation_id, answer.members.len()), (1, 0));
    assert_eq!(answer.leader, ann.member_id);
    assert_eq!(world.state("g"), GroupState::Stable);

    let changed = Client {
        protocols: vec![("range".into(), subscription(&["more"]))],
        ..bob
    };
    let second = world.ask(changed.join());
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    let first = world.ask(ann.join());
    assert_eq!(world.join_answer(second).generation_id, 2);
    assert_eq!(world.joined(first, &mut ann).generation_id, 2);
    let mut bob = Client {
        generation_id: 2,
        ..changed
    };
    world.sync_all(&mut [&mut ann, &mut bob], 0);

    let first = world.ask(ann.join());
    assert!(
        world.is_waiting(first),
        "the leader saw something that the members do not say"
    );
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
}

#[test]
fn a_join_displaces_an_earlier_one_of_the_same_member() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    world.stabilise(&mut [&mut ann, &mut bob]);
    let first = world.ask(ann.join());
    let again = world.ask(ann.join());
    assert_eq!(world.code_of(first), ErrorCode::REBALANCE_IN_PROGRESS);
    let second = world.ask(bob.join());
    assert_eq!(world.joined(again, &mut ann).generation_id, 2);
    assert_eq!(world.joined(second, &mut bob).generation_id, 2);
}

#[test]
fn cooperative_members_come_twice_and_keep_what_they_have_meanwhile() {
    let mut world = Driver::new();
    let cooperative = |name| Client::new(name).with_protocols(&["cooperative-sticky"]);
    let (mut ann, mut bob) = (cooperative("ann"), cooperative("bob"));
    world.stabilise(&mut [&mut ann]);

    // First rebalance: ann keeps consuming, says what she owns, and is to give up a part of it.
    let joining = world.join(&mut bob);
    assert_eq!(
        world.code(ann.heartbeat()),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    assert_eq!(world.code(ann.commit("orders", 0, 10)), ErrorCode::NONE);
    ann.protocols[0].1 = subscription(&["orders", "owns-0-1"]);
    let first = world.ask(ann.join());
    let answer = world.joined(first, &mut ann);
    world.joined(joining, &mut bob);
    assert_eq!(answer.protocol_name.as_deref(), Some("cooperative-sticky"));
    let metadata: Vec<_> = answer
        .members
        .into_iter()
        .map(|member| member.metadata)
        .collect();
    assert!(
        metadata.contains(&subscription(&["orders", "owns-0-1"])),
        "the leader sees it"
    );
    // Between the join and the assignment a commit must not be lost on the old generation.
    assert_eq!(
        world.code(ann.commit("orders", 0, 11)),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    world.sync_all(&mut [&mut ann, &mut bob], 0);

    // Second rebalance: ann has given up her part and calls for it herself.
    ann.protocols[0].1 = subscription(&["orders", "owns-0"]);
    let first = world.ask(ann.join());
    assert_eq!(
        world.code(bob.heartbeat()),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    let second = world.ask(bob.join());
    assert_eq!(world.joined(first, &mut ann).generation_id, 3);
    assert_eq!(world.joined(second, &mut bob).generation_id, 3);
    world.sync_all(&mut [&mut ann, &mut bob], 0);
    assert_eq!(world.coordinator.counters().completed_rebalances, 3);
}

#[test]
fn leaving_causes_a_rebalance_and_the_last_one_turns_off_the_light() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    world.stabilise(&mut [&mut ann, &mut bob]);
    assert_eq!(world.code(ann.leave()), ErrorCode::NONE);
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    let second = world.ask(bob.join());
    let answer = world.joined(second, &mut bob);
    assert_eq!(
        (answer.generation_id, answer.leader),
        (2, bob.member_id.clone())
    );

    world.commits_at_once = false;
    let leaving = world.ask(bob.leave());
    assert_eq!(world.state("g"), GroupState::Empty);
    assert!(world.is_waiting(leaving), "not before the log knows");
    world.commit_next();
    assert_eq!(world.code_of(leaving), ErrorCode::NONE);
    let group = world
        .coordinator
        .describe("g")
        .expect("an empty group is a group");
    assert_eq!(
        (group.protocol_type.as_str(), group.members.len()),
        ("consumer", 0)
    );
}

#[test]
fn many_may_leave_at_once_and_each_is_told() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (
        Client::new("ann"),
        Client::new("bob").with_instance("rack-7"),
    );
    let mut cid = Client::new("cid");
    world.stabilise(&mut [&mut ann, &mut bob, &mut cid]);
    let mut pending = Client::new("dan");
    world.introduce(&mut pending);
    let request = leave(
        "g",
        &[
            (&ann.member_id, None),
            ("nobody", None),
            ("", Some("rack-7")),
            ("", Some("rack-8")),
            (&cid.member_id, Some("rack-9")),
            (&pending.member_id, None),
            (&ann.member_id, None),
            ("", None),
        ],
    );
    let GroupResponse::LeaveGroup(answer) = world.get(request) else {
        panic!("not of its kind")
    };
    let codes: Vec<ErrorCode> = answer
        .members
        .iter()
        .map(|member| member.error_code)
        .collect();
    let (fine, unknown) = (ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        codes,
        [
            fine, unknown, fine, unknown, unknown, fine, unknown, unknown
        ]
    );
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert_eq!(
        answer.members[2].group_instance_id.as_deref(),
        Some("rack-7")
    );
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    let token = world.ask(cid.join());
    assert_eq!(world.joined(token, &mut cid).generation_id, 2);
}

#[test]
fn leaving_a_group_that_does_not_exist_is_an_error_of_each_member() {
    let mut world = Driver::new();
    let request = leave("nowhere", &[("a", None), ("b", Some("i"))]);
    let GroupResponse::LeaveGroup(answer) = world.get(request) else {
        panic!("not of its kind")
    };
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert!(
        answer
            .members
            .iter()
            .all(|m| m.error_code == ErrorCode::UNKNOWN_MEMBER_ID)
    );
    assert_eq!(answer.members.len(), 2);
}

#[test]
fn who_is_removed_while_waiting_is_told() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    world.stabilise(&mut [&mut ann, &mut bob]);
    let joining = world.ask(ann.join());
    assert_eq!(
        world.code(leave("g", &[(&ann.member_id, None)])),
        ErrorCode::NONE
    );
    let answer = world.join_answer(joining);
    assert_eq!(
        (answer.error_code, answer.member_id.as_str()),
        (ErrorCode::UNKNOWN_MEMBER_ID, "")
    );

    let second = world.ask(bob.join());
    world.joined(second, &mut bob);
    let mut cid = Client::new("cid");
    let third = world.join(&mut cid);
    let second = world.ask(bob.join());
    world.joined(second, &mut bob);
    world.joined(third, &mut cid);
    let syncing = world.ask(cid.sync(&[]));
    assert_eq!(
        world.code(leave("g", &[(&cid.member_id, None)])),
        ErrorCode::NONE
    );
    assert_eq!(world.code_of(syncing), ErrorCode::UNKNOWN_MEMBER_ID);
}
