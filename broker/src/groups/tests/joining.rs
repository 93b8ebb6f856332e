//! Becoming a member: ids, protocols, leaders, limits.

use protocol::ErrorCode;

use super::driver::{Client, Driver, subscription};
use crate::groups::*;

#[test]
fn a_member_gets_an_id_first_and_joins_with_it() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    let token = world.ask(ann.join());
    let answer = world.join_answer(token);
    assert_eq!(answer.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    assert_eq!(answer.generation_id, -1);
    // Our first random number is 1; version and variant are those of a random UUID.
    assert_eq!(answer.member_id, "ann-00000000-0000-4000-8000-000000000001");
    assert_eq!(world.state("g"), GroupState::Empty);

    ann.member_id = answer.member_id;
    let token = world.ask(ann.join());
    assert_eq!(world.state("g"), GroupState::PreparingRebalance);
    world.pass(0);
    let answer = world.joined(token, &mut ann);
    assert_eq!(answer.generation_id, 1);
    assert_eq!(answer.leader, ann.member_id);
    assert_eq!(answer.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(answer.protocol_name.as_deref(), Some("range"));
    assert!(!answer.skip_assignment);
    let expected = JoinGroupResponseMember {
        member_id: ann.member_id.clone(),
        group_instance_id: None,
        metadata: subscription(&["orders"]),
    };
    assert_eq!(answer.members, [expected]);
    assert_eq!(world.state("g"), GroupState::CompletingRebalance);
    assert!(
        world.pending.is_empty() && world.log.is_empty(),
        "nothing is durable yet"
    );
}

#[test]
fn before_version_four_one_step_is_enough() {
    let mut world = Driver::new();
    let mut old = Client {
        join_version: 3,
        ..Client::new("old")
    };
    let token = world.ask(old.join());
    world.pass(0);
    assert_eq!(world.joined(token, &mut old).generation_id, 1);
    assert!(old.member_id.starts_with("old-"));
}

#[test]
fn an_id_that_nobody_gave_is_unknown() {
    let mut world = Driver::new();
    let stray = Client {
        member_id: "stray-1".into(),
        ..Client::new("stray")
    };
    assert_eq!(world.code(stray.join()), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        world.state("g"),
        GroupState::Dead,
        "a stray does not found a group"
    );

    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    let token = world.ask(stray.join());
    let answer = world.join_answer(token);
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(answer.member_id, "stray-1");
}

#[test]
fn an_id_that_was_given_expires() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.introduce(&mut ann);
    world.pass(9_999);
    assert_eq!(world.state("g"), GroupState::Empty);
    world.pass(1);
    assert_eq!(
        world.state("g"),
        GroupState::Dead,
        "nothing keeps the group any more"
    );
    assert_eq!(world.code(ann.join()), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_pending_member_holds_a_rebalance_up() {
    let mut world = Driver::new();
    let (mut ann, mut bob, mut cid) = (Client::new("ann"), Client::new("bob"), Client::new("cid"));
    world.stabilise(&mut [&mut ann]);
    world.introduce(&mut bob);
    world.introduce(&mut cid);
    let first = world.ask(bob.join());
    let second = world.ask(ann.join());
    assert!(
        world.is_waiting(first) && world.is_waiting(second),
        "cid was given an id"
    );
    let third = world.ask(cid.join());
    for (token, client) in [(first, &mut bob), (second, &mut ann), (third, &mut cid)] {
        assert_eq!(world.joined(token, client).generation_id, 2);
    }
}

#[test]
fn a_pending_member_that_leaves_frees_the_rebalance() {
    let mut world = Driver::new();
    let (mut ann, mut bob, mut cid) = (Client::new("ann"), Client::new("bob"), Client::new("cid"));
    world.stabilise(&mut [&mut ann]);
    world.introduce(&mut bob);
    world.introduce(&mut cid);
    let first = world.ask(bob.join());
    let second = world.ask(ann.join());
    assert_eq!(world.code(cid.leave()), ErrorCode::NONE);
    assert_eq!(world.joined(first, &mut bob).generation_id, 2);
    assert_eq!(world.joined(second, &mut ann).generation_id, 2);
}

#[test]
fn sessions_outside_of_the_limits_are_refused() {
    let mut world = Driver::new();
    for session_timeout_ms in [5_999, 1_800_001, -1, 0] {
        let odd = Client {
            session_timeout_ms,
            ..Client::new("odd")
        };
        assert_eq!(world.code(odd.join()), ErrorCode::INVALID_SESSION_TIMEOUT);
    }
    for session_timeout_ms in [6_000, 1_800_000] {
        let good = Client {
            session_timeout_ms,
            ..Client::new("good")
        };
        assert_eq!(world.code(good.join()), ErrorCode::MEMBER_ID_REQUIRED);
    }
}

#[test]
fn the_protocol_is_the_one_that_most_prefer_among_those_that_all_know() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann").with_protocols(&["sticky", "range", "robin"]);
    let mut bob = Client::new("bob").with_protocols(&["robin", "range"]);
    let mut cid = Client::new("cid").with_protocols(&["range", "robin"]);
    let clients = [&mut ann, &mut bob, &mut cid];
    let tokens: Vec<Token> = clients
        .into_iter()
        .map(|client| world.join(client))
        .collect();
    world.pass(0);
    for token in tokens {
        // "sticky" is not known to all; ann's vote then goes to "range", and cid's too.
        assert_eq!(
            world.join_answer(token).protocol_name.as_deref(),
            Some("range")
        );
    }
}

#[test]
fn among_equal_votes_the_leader_decides() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann").with_protocols(&["robin", "range"]);
    let mut bob = Client::new("bob").with_protocols(&["range", "robin"]);
    let tokens = [world.join(&mut ann), world.join(&mut bob)];
    world.pass(0);
    for token in tokens {
        let answer = world.join_answer(token);
        assert_eq!(answer.leader, ann.member_id);
        assert_eq!(answer.protocol_name.as_deref(), Some("robin"));
    }
}

#[test]
fn who_shares_no_protocol_stays_out() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann").with_protocols(&["range", "robin"]);
    world.stabilise(&mut [&mut ann]);
    let refused = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
    assert_eq!(
        world.code(Client::new("bob").with_protocols(&["sticky"]).join()),
        refused
    );
    let connect = Client {
        protocol_type: "connect".into(),
        ..Client::new("worker")
    };
    assert_eq!(world.code(connect.join()), refused);
    // Nor may a member turn to what the others do not know.
    let turned = Client { ..ann.clone() }.with_protocols(&["sticky"]);
    assert_eq!(world.code(turned.join()), refused);
    assert_eq!(world.state("g"), GroupState::Stable);
    // An empty group asks for a type and a protocol.
    let nameless = Client {
        protocol_type: String::new(),
        group_id: "h".into(),
        ..Client::new("x")
    };
    assert_eq!(world.code(nameless.join()), refused);
    let empty = Client {
        protocols: vec![],
        group_id: "h".into(),
        ..Client::new("x")
    };
    assert_eq!(world.code(empty.join()), refused);
    assert_eq!(
        world.state("h"),
        GroupState::Dead,
        "a refused join leaves no group behind"
    );
}

#[test]
fn a_full_group_lets_nobody_in() {
    let settings = Settings {
        max_size: 2,
        initial_rebalance_delay_ms: 0,
        ..Settings::default()
    };
    let mut world = Driver::with(settings);
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    world.stabilise(&mut [&mut ann, &mut bob]);
    let token = world.ask(Client::new("cid").join());
    let answer = world.join_answer(token);
    assert_eq!(answer.error_code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(answer.member_id, "");
    assert_eq!(world.state("g"), GroupState::Stable);
}

#[test]
fn in_a_rebalance_the_places_go_to_those_who_come_first() {
    let settings = Settings {
        max_size: 2,
        initial_rebalance_delay_ms: 3_000,
        ..Settings::default()
    };
    let mut world = Driver::with(settings);
    let (mut ann, mut bob, mut cid) = (Client::new("ann"), Client::new("bob"), Client::new("cid"));
    for client in [&mut ann, &mut bob, &mut cid] {
        world.introduce(client);
    }
    let first = world.ask(ann.join());
    let second = world.ask(bob.join());
    assert_eq!(world.code(cid.join()), ErrorCode::GROUP_MAX_SIZE_REACHED);
    world.pass(3_000);
    assert_eq!(world.joined(first, &mut ann).generation_id, 1);
    assert_eq!(world.joined(second, &mut bob).generation_id, 1);
}

#[test]
fn a_group_that_became_too_large_loses_the_last_to_rejoin() {
    let mut world = Driver::new();
    let (mut ann, mut bob, mut cid) = (Client::new("ann"), Client::new("bob"), Client::new("cid"));
    world.stabilise(&mut [&mut ann, &mut bob, &mut cid]);
    world.settings.max_size = 2;
    world.restart();
    assert_eq!(
        world.state("g"),
        GroupState::PreparingRebalance,
        "they may commit before"
    );
    assert_eq!(
        world.code(cid.heartbeat()),
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    let first = world.ask(cid.join());
    let second = world.ask(ann.join());
    assert_eq!(world.code(bob.join()), ErrorCode::GROUP_MAX_SIZE_REACHED);
    // bob is out, so nobody is missing.
    assert_eq!(world.joined(first, &mut cid).generation_id, 2);
    assert_eq!(world.joined(second, &mut ann).generation_id, 2);
}

#[test]
fn ids_and_groups_are_not_given_out_without_end() {
    let settings = Settings {
        max_pending_members: 2,
        max_groups: 2,
        ..Settings::default()
    };
    let mut world = Driver::with(settings);
    for _ in 0..2 {
        assert_eq!(
            world.code(Client::new("a").join()),
            ErrorCode::MEMBER_ID_REQUIRED
        );
    }
    assert_eq!(
        world.code(Client::new("a").join()),
        ErrorCode::GROUP_MAX_SIZE_REACHED
    );
    let other = |group: &str| Client {
        group_id: group.into(),
        ..Client::new("a")
    };
    assert_eq!(world.code(other("h").join()), ErrorCode::MEMBER_ID_REQUIRED);
    assert_eq!(world.code(other("i").join()), ErrorCode::POLICY_VIOLATION);
    let commit = super::driver::bare_commit("i", "t", 0, 1);
    assert_eq!(
        world.code(GroupRequest::OffsetCommit(commit)),
        ErrorCode::POLICY_VIOLATION
    );
}

#[test]
fn names_that_the_records_cannot_hold_are_refused() {
    let mut world = Driver::new();
    let long = "x".repeat(32_768);
    let refused = [
        Client {
            protocol_type: long.clone(),
            ..Client::new("a")
        },
        Client {
            protocols: vec![(long.clone(), subscription(&[]))],
            ..Client::new("a")
        },
        Client::new("a").with_instance(&long),
    ];
    for client in refused {
        assert_eq!(world.code(client.join()), ErrorCode::INVALID_REQUEST);
    }
    for group_id in [String::new(), long] {
        let client = Client {
            group_id,
            ..Client::new("a")
        };
        assert_eq!(world.code(client.join()), ErrorCode::INVALID_GROUP_ID);
        assert_eq!(world.code(client.sync(&[])), ErrorCode::INVALID_GROUP_ID);
        assert_eq!(world.code(client.heartbeat()), ErrorCode::INVALID_GROUP_ID);
        assert_eq!(world.code(client.leave()), ErrorCode::INVALID_GROUP_ID);
    }
    // A long client id is no reason to refuse anybody: the member's id takes its beginning.
    let mut talkative = Client::new(&"\u{e9}".repeat(200));
    world.introduce(&mut talkative);
    assert_eq!(talkative.member_id.len(), 254 + 37);
}

#[test]
fn of_a_protocol_named_twice_the_first_counts() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    ann.protocols
        .push(("range".into(), subscription(&["other"])));
    let token = world.join(&mut ann);
    world.pass(0);
    let answer = world.joined(token, &mut ann);
    assert_eq!(answer.members[0].metadata, subscription(&["orders"]));
}

#[test]
fn while_the_log_is_being_read_only_heartbeats_are_let_off() {
    let mut world = Driver::new();
    world.coordinator = Coordinator::new(Settings::default());
    let mut ann = Client::new("ann");
    ann.member_id = "ann-1".into();
    let loading = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    assert_eq!(world.code(ann.heartbeat()), ErrorCode::NONE);
    assert_eq!(world.code(ann.join()), loading);
    assert_eq!(world.code(ann.sync(&[])), loading);
    assert_eq!(world.code(ann.leave()), loading);
    assert_eq!(world.code(ann.commit("orders", 0, 1)), loading);
    assert_eq!(world.code(super::driver::delete_group("g")), loading);
    assert_eq!(
        world.code(super::driver::offset_delete("g", "orders", 0)),
        loading
    );
    let fetch = super::driver::fetch("g", "orders", 0);
    assert_eq!(world.code(GroupRequest::OffsetFetch(fetch)), loading);
    assert_eq!(
        world.code(GroupRequest::ListGroups(ListGroups::default())),
        loading
    );
    let describe = DescribeGroup {
        group_id: "g".into(),
    };
    assert_eq!(world.code(GroupRequest::DescribeGroup(describe)), loading);
}
