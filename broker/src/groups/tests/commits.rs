//! Offsets: who may commit, what is read when, what is refused.

use protocol::ErrorCode;

use super::driver::{Client, Driver, bare_commit, fetch};
use crate::groups::*;

fn stable(request: OffsetFetch) -> OffsetFetch {
    OffsetFetch {
        require_stable: true,
        ..request
    }
}

#[test]
fn an_offset_is_read_once_it_is_in_the_log() {
    let mut world = Driver::new();
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    world.commits_at_once = false;
    let token = world.ask(ann.commit("orders", 3, 42));
    assert!(world.is_waiting(token));
    assert_eq!(
        world.fetched(fetch("g", "orders", 3)),
        (ErrorCode::NONE, -1)
    );
    world.commit_next();
    assert_eq!(world.code_of(token), ErrorCode::NONE);
    assert_eq!(
        world.fetched(fetch("g", "orders", 3)),
        (ErrorCode::NONE, 42)
    );
}

#[test]
fn a_fetch_of_stable_offsets_waits_for_commits_on_their_way() {
    let mut world = Driver::new();
    world.commits_at_once = false;
    world.ask(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, 1)));
    world.ask(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, 2)));
    world.ask(GroupRequest::OffsetCommit(bare_commit("h", "t", 0, 9)));
    let token = world.ask(GroupRequest::OffsetFetch(stable(fetch("g", "t", 0))));
    world.commit_next();
    assert!(world.is_waiting(token));
    world.commit_next();
    assert_eq!(
        world.fetched_by(token),
        (ErrorCode::NONE, 2),
        "h is not waited for"
    );
}

#[test]
fn a_failed_commit_changes_nothing_and_its_error_is_the_clients() {
    let cases = [
        (
            ErrorCode::NOT_ENOUGH_REPLICAS,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ),
        (
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ),
        (
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ),
        (
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::NOT_COORDINATOR,
        ),
        (ErrorCode::KAFKA_STORAGE_ERROR, ErrorCode::NOT_COORDINATOR),
        (
            ErrorCode::MESSAGE_TOO_LARGE,
            ErrorCode::UNKNOWN_SERVER_ERROR,
        ),
        (
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ),
    ];
    for (error, told) in cases {
        let mut world = Driver::new();
        world.code(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, 1)));
        world.commits_at_once = false;
        let commit = world.ask(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, 2)));
        let read = world.ask(GroupRequest::OffsetFetch(stable(fetch("g", "t", 0))));
        world.fail_next(error);
        assert_eq!(world.code_of(commit), told);
        assert_eq!(world.fetched_by(read), (ErrorCode::NONE, 1));
    }
}

#[test]
fn outcomes_that_are_reported_out_of_order_take_effect_in_order() {
    let mut world = Driver::new();
    world.commits_at_once = false;
    let tokens: Vec<Token> = (1..=3)
        .map(|offset| world.ask(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, offset))))
        .collect();
    let writes: Vec<WriteId> = world.pending.iter().map(|pending| pending.write).collect();
    let mut offsets = vec![];
    while let Some(pending) = world.pending.pop_front() {
        offsets.push(world.store(pending));
    }
    for index in [2, 0] {
        world.step(|coordinator, at, out| {
            coordinator.committed(writes[index], offsets[index], at, out);
        });
    }
    assert_eq!(world.committed("g", "t", 0), 1);
    assert!(world.is_waiting(tokens[2]));
    // The first report counts, and the second write goes in before the third.
    world.step(|coordinator, at, out| {
        coordinator.failed(writes[1], ErrorCode::NOT_ENOUGH_REPLICAS, at, out);
        coordinator.committed(writes[1], 77, at, out);
    });
    assert_eq!(world.committed("g", "t", 0), 3);
    assert_eq!(
        world.code_of(tokens[1]),
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    );
    assert_eq!(world.code_of(tokens[2]), ErrorCode::NONE);
}

#[test]
fn a_commit_survives_the_rebalance_that_follows_it() {
    let mut world = Driver::new();
    let (mut ann, mut bob) = (Client::new("ann"), Client::new("bob"));
    world.stabilise(&mut [&mut ann]);
    world.commits_at_once = false;
    let commit = world.ask(ann.commit("orders", 0, 5));
    let second = world.join(&mut bob);
    let first = world.ask(ann.join());
    world.joined(first, &mut ann);
    world.joined(second, &mut bob);
    assert!(world.is_waiting(commit));
    world.commit_next();
    assert_eq!(world.code_of(commit), ErrorCode::NONE);
    assert_eq!(world.committed("g", "orders", 0), 5);
}

#[test]
fn groups_that_only_store_offsets_need_no_members() {
    let mut world = Driver::new();
    assert_eq!(
        world.code(GroupRequest::OffsetCommit(bare_commit("tool", "t", 0, 1))),
        ErrorCode::NONE
    );
    let group = world
        .coordinator
        .describe("tool")
        .expect("it holds an offset");
    assert_eq!(
        (group.group_state, group.protocol_type.as_str()),
        (GroupState::Empty, "")
    );
    // Even without a name, as old clients do it.
    assert_eq!(
        world.code(GroupRequest::OffsetCommit(bare_commit("", "t", 0, 2))),
        ErrorCode::NONE
    );
    assert_eq!(world.committed("", "t", 0), 2);
    // A group with members is closed to outsiders,
    let mut ann = Client::new("ann");
    world.stabilise(&mut [&mut ann]);
    let outside = GroupRequest::OffsetCommit(bare_commit("g", "orders", 0, 1));
    assert_eq!(world.code(outside.clone()), ErrorCode::UNKNOWN_MEMBER_ID);
    // and open again when they are gone.
    world.code(ann.leave());
    assert_eq!(world.code(outside), ErrorCode::NONE);
}

#[test]
fn a_members_commit_to_a_missing_group_fails_as_its_version_knows() {
    let mut world = Driver::new();
    let commit = OffsetCommit {
        generation_id: 1,
        member_id: "ann".into(),
        ..bare_commit("g", "orders", 0, 1)
    };
    let of = |api_version| OffsetCommit {
        api_version,
        ..commit.clone()
    };
    let code = world.code(GroupRequest::OffsetCommit(of(9)));
    assert_eq!(code, ErrorCode::GROUP_ID_NOT_FOUND);
    let code = world.code(GroupRequest::OffsetCommit(of(8)));
    assert_eq!(code, ErrorCode::ILLEGAL_GENERATION);
    let producer = Producer { id: 1, epoch: 0 };
    let code = world.code(GroupRequest::TxnOffsetCommit(producer, of(6)));
    assert_eq!(code, ErrorCode::GROUP_ID_NOT_FOUND);
    let code = world.code(GroupRequest::TxnOffsetCommit(producer, of(5)));
    assert_eq!(code, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(world.state("g"), GroupState::Dead);
}

#[test]
fn metadata_that_is_too_large_is_refused_by_partition() {
    let mut world = Driver::with(Settings {
        offset_metadata_max_bytes: 4,
        ..Settings::default()
    });
    let mut commit = bare_commit("g", "t", 0, 1);
    let partitions = &mut commit.topics[0].partitions;
    for (partition, metadata) in [
        (1, "12345"),
        (2, "\u{e9}\u{e9}\u{e9}\u{e9}"),
        (3, "\u{1d11e}\u{1d11e}\u{1d11e}"),
    ] {
        partitions.push(OffsetCommitPartition {
            partition_index: partition,
            committed_metadata: Some(metadata.into()),
            ..partitions[0].clone()
        });
    }
    partitions.push(OffsetCommitPartition {
        partition_index: 4,
        committed_metadata: None,
        ..partitions[0].clone()
    });
    let GroupResponse::OffsetCommit(answer) = world.get(GroupRequest::OffsetCommit(commit)) else {
        panic!("not of its kind")
    };
    let codes: Vec<ErrorCode> = answer.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    let (fine, too_large) = (ErrorCode::NONE, ErrorCode::OFFSET_METADATA_TOO_LARGE);
    // Counted are UTF-16 units: four of two bytes each pass, three of two units each do not.
    assert_eq!(codes, [fine, too_large, fine, too_large, fine]);
    assert_eq!(world.committed("g", "t", 1), -1);
    assert_eq!(world.committed("g", "t", 2), 1);
    assert_eq!(world.coordinator.counters().offset_commits, 3);

    // If nothing is left to write, nothing is written.
    let mut commit = bare_commit("h", "t", 0, 1);
    commit.topics[0].partitions[0].committed_metadata = Some("12345".into());
    let before = world.log.len();
    let code = world.code(GroupRequest::OffsetCommit(commit));
    assert_eq!(code, ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(world.log.len(), before);
    assert_eq!(world.state("h"), GroupState::Dead);
}

#[test]
fn metadata_stays_within_what_a_record_can_hold_whatever_the_setting() {
    let settings = Settings {
        offset_metadata_max_bytes: usize::MAX,
        ..Settings::default()
    };
    let mut world = Driver::with(settings);
    let mut commit = bare_commit("g", "t", 0, 1);
    commit.topics[0].partitions[0].committed_metadata = Some("x".repeat(32_768));
    let code = world.code(GroupRequest::OffsetCommit(commit.clone()));
    assert_eq!(code, ErrorCode::OFFSET_METADATA_TOO_LARGE);
    commit.topics[0].partitions[0].committed_metadata = Some("x".repeat(32_767));
    assert_eq!(
        world.code(GroupRequest::OffsetCommit(commit.clone())),
        ErrorCode::NONE
    );
    commit.topics[0].name = "x".repeat(32_768);
    let code = world.code(GroupRequest::OffsetCommit(commit));
    assert_eq!(code, ErrorCode::INVALID_TOPIC_EXCEPTION);
}

#[test]
fn a_fetch_names_partitions_or_takes_all() {
    let mut world = Driver::new();
    for (topic, partition, offset) in [("b", 1, 11), ("a", 2, 2), ("a", 0, 0)] {
        world.code(GroupRequest::OffsetCommit(bare_commit(
            "g", topic, partition, offset,
        )));
    }
    let all = OffsetFetch {
        group_id: "g".into(),
        topics: None,
        require_stable: false,
    };
    let GroupResponse::OffsetFetch(answer) = world.get(GroupRequest::OffsetFetch(all.clone()))
    else {
        panic!("not of its kind")
    };
    let seen: Vec<(&str, i32, i64)> = answer
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| (topic.name.as_str(), p)))
        .map(|(name, p)| (name, p.partition_index, p.committed_offset))
        .collect();
    assert_eq!(seen, [("a", 0, 0), ("a", 2, 2), ("b", 1, 11)]);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(
        (
            partition.committed_leader_epoch,
            partition.metadata.as_str()
        ),
        (3, "m")
    );

    let missing = OffsetFetchResponsePartition {
        partition_index: 7,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: String::new(),
        error_code: ErrorCode::NONE,
    };
    for (group, topic) in [("g", "a"), ("g", "z"), ("nowhere", "a")] {
        let request = GroupRequest::OffsetFetch(fetch(group, topic, 7));
        let GroupResponse::OffsetFetch(answer) = world.get(request) else {
            panic!("another kind")
        };
        assert_eq!(answer.topics[0].partitions, std::slice::from_ref(&missing));
    }
    let nowhere = OffsetFetch {
        group_id: "nowhere".into(),
        ..all
    };
    let GroupResponse::OffsetFetch(answer) = world.get(GroupRequest::OffsetFetch(nowhere)) else {
        panic!("not of its kind")
    };
    assert_eq!(answer.topics, []);
}

#[test]
fn an_offset_of_another_topic_with_the_same_name_is_not_shown() {
    let mut world = Driver::new();
    let mut commit = bare_commit("g", "t", 0, 5);
    commit.topics[0].topic_id = 0xaaaa;
    world.code(GroupRequest::OffsetCommit(commit));
    for (topic_id, seen) in [(0xaaaa, 5), (0, 5), (0xbbbb, -1)] {
        let mut request = fetch("g", "t", 0);
        request.topics.as_mut().expect("it names one")[0].topic_id = topic_id;
        assert_eq!(world.fetched(request), (ErrorCode::NONE, seen));
    }
}

#[test]
fn an_offset_may_be_committed_backwards() {
    let mut world = Driver::new();
    for offset in [9, 4] {
        world.code(GroupRequest::OffsetCommit(bare_commit("g", "t", 0, offset)));
    }
    assert_eq!(
        world.committed("g", "t", 0),
        4,
        "a reset is the client's right"
    );
}
