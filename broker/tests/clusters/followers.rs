//! Reads from a follower in the reader's rack (KIP-392), on three simulated nodes.

use std::time::Duration;

use super::cluster::*;
use protocol::ErrorCode;
use protocol::messages::*;
use runtime::{Core, Stream};

const RACK_AWARE: (&str, &str) = (
    "replica.selector.class",
    "org.apache.kafka.common.replica.RackAwareReplicaSelector",
);
const FETCH: i16 = 12;

async fn fetch(stream: &Stream, rack: &str, offset: i64, epoch: i32) -> FetchablePartitionResponse {
    only(call(stream, FETCH, fetch_request(rack, offset, epoch, 0)).await)
}

/// The stream to a node.
fn to(streams: &[Stream], node: i32) -> &Stream {
    &streams[node as usize - 1]
}

/// A node that does not lead, and the other one.
fn followers(leader: i32) -> (i32, i32) {
    let mut others = (1..=NODES).filter(|node| *node != leader);
    let mut next = || others.next().expect("two follow");
    (next(), next())
}

/// A node follows up to here, and is in sync for those that it tells.
async fn follows_to(core: &Core, stream: &Stream, rack: &str, high_watermark: i64) {
    loop {
        let told = fetch(stream, rack, 0, -1).await;
        if told.error_code == ErrorCode::NONE && told.high_watermark == high_watermark {
            return;
        }
        core.sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_reader_is_sent_to_the_replica_in_its_rack_and_served_there() {
    let world = World::new(11, &[RACK_AWARE]);
    world.client(|core| async move {
        let streams = connect(&core).await;
        let (leader, epoch) = create_topic(&core, &streams).await;
        let (near, far) = followers(leader);
        let rack = &format!("r{near}");
        for _ in 0..5 {
            let (error, _) = produce(to(&streams, leader), batch(&core, 100)).await;
            assert_eq!(error, ErrorCode::NONE);
        }
        follows_to(&core, to(&streams, near), rack, 5).await;

        let sent = fetch(to(&streams, leader), rack, 0, epoch).await;
        assert_eq!(sent.error_code, ErrorCode::NONE);
        assert_eq!(sent.preferred_read_replica, near);
        assert_eq!(sent.high_watermark, 5);
        assert!(
            bytes_of(&sent).is_empty(),
            "the other one gives the records"
        );

        let served = fetch(to(&streams, near), rack, 0, epoch).await;
        assert_eq!(served.error_code, ErrorCode::NONE);
        assert_eq!(served.preferred_read_replica, -1);

        // Readers of the leader's rack, of none, and of one that holds no replica read from the leader.
        for rack in [&format!("r{leader}"), "", "elsewhere"] {
            let read = fetch(to(&streams, leader), rack, 0, epoch).await;
            assert_eq!(read.preferred_read_replica, -1, "rack {rack:?}");
            assert_eq!(bytes_of(&read), bytes_of(&served), "rack {rack:?}");
        }
        // A follower serves its own rack and nobody else.
        for rack in [&format!("r{far}"), "", "elsewhere"] {
            let refused = fetch(to(&streams, near), rack, 0, epoch).await;
            let told = (refused.error_code, refused.current_leader.leader_id);
            let expected = (ErrorCode::NOT_LEADER_OR_FOLLOWER, leader);
            assert_eq!(told, expected, "rack {rack:?}");
        }
        let request = fetch_request(rack, 0, epoch, 0);
        let early = only(call(to(&streams, near), 10, request).await);
        let expected = ErrorCode::NOT_LEADER_OR_FOLLOWER;
        assert_eq!(early.error_code, expected, "v10 knows no racks");

        // Epochs and offsets, as the follower knows them.
        let at = [
            (0, epoch - 1, ErrorCode::FENCED_LEADER_EPOCH),
            (0, epoch + 1, ErrorCode::UNKNOWN_LEADER_EPOCH),
            (5, epoch, ErrorCode::NONE),
            (6, epoch, ErrorCode::OFFSET_NOT_AVAILABLE),
            (-2, epoch, ErrorCode::OFFSET_OUT_OF_RANGE),
        ];
        for (offset, epoch, expected) in at {
            let told = fetch(to(&streams, near), rack, offset, epoch).await;
            assert_eq!(told.error_code, expected, "offset {offset} in {epoch}");
        }
        // The leader judges itself what lies beyond its log.
        let beyond = fetch(to(&streams, leader), rack, 6, epoch).await;
        assert_eq!(beyond.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
        list_offsets(
            to(&streams, near),
            -1,
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            -1,
        )
        .await;
        list_offsets(to(&streams, near), -2, ErrorCode::NONE, 5).await;
    });
}

async fn list_offsets(stream: &Stream, replica_id: i32, error: ErrorCode, latest: i64) {
    let request = ListOffsetsRequest {
        replica_id,
        topics: vec![ListOffsetsTopic {
            name: TOPIC.into(),
            partitions: vec![ListOffsetsPartition {
                timestamp: -1,
                current_leader_epoch: -1,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = call(stream, 5, request).await;
    let told = &answer.topics[0].partitions[0];
    assert_eq!((told.error_code, told.offset), (error, latest));
}

#[test]
fn without_a_selector_the_leader_serves_every_rack() {
    let world = World::new(12, &[]);
    world.client(|core| async move {
        let streams = connect(&core).await;
        let (leader, epoch) = create_topic(&core, &streams).await;
        let (near, _) = followers(leader);
        let rack = &format!("r{near}");
        produce(to(&streams, leader), batch(&core, 100)).await;
        let read = fetch(to(&streams, leader), rack, 0, epoch).await;
        assert_eq!(read.preferred_read_replica, -1);
        assert!(!bytes_of(&read).is_empty());
        let refused = fetch(to(&streams, near), rack, 0, epoch).await;
        assert_eq!(refused.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    });
}

#[test]
fn a_reader_that_waits_at_a_follower_is_woken_by_its_watermark() {
    let world = World::new(13, &[RACK_AWARE]);
    world.client(|core| async move {
        let streams = connect(&core).await;
        let (leader, epoch) = create_topic(&core, &streams).await;
        let (near, _) = followers(leader);
        let rack = &format!("r{near}");
        produce(to(&streams, leader), batch(&core, 100)).await;
        follows_to(&core, to(&streams, near), rack, 1).await;
        // A leader that has sent readers away tells their replicas at once what is committed.
        let sent = fetch(to(&streams, leader), rack, 1, epoch).await;
        assert_eq!(sent.preferred_read_replica, near);
        for offset in 1..4 {
            // The group falls asleep in between.
            core.sleep(Duration::from_secs(5)).await;
            let wait = fetch_request(rack, offset, epoch, 30_000);
            send(to(&streams, near), FETCH, wait).await;
            core.sleep(Duration::from_millis(50)).await;
            produce(to(&streams, leader), batch(&core, 100)).await;
            let acknowledged = core.now();
            let woken = receive::<FetchRequest>(to(&streams, near), FETCH).await;
            let woken = only(woken);
            assert_eq!(
                (woken.error_code, woken.high_watermark),
                (ErrorCode::NONE, offset + 1)
            );
            assert!(!bytes_of(&woken).is_empty());
            let late = core.now() - acknowledged;
            assert!(late < Duration::from_millis(20), "{late:?} of virtual time");
        }
    });
}

#[test]
fn a_follower_that_is_cut_off_serves_what_it_knows_and_then_sends_readers_back() {
    let world = World::new(14, &[RACK_AWARE]);
    let (sim, nodes) = (world.sim.clone(), world.nodes.clone());
    world.client(move |core| async move {
        let streams = connect(&core).await;
        let (leader, epoch) = create_topic(&core, &streams).await;
        let (near, far) = followers(leader);
        let rack = &format!("r{near}");
        let id = |node: i32| nodes[node as usize - 1];
        for _ in 0..3 {
            produce(to(&streams, leader), batch(&core, 100)).await;
        }
        follows_to(&core, to(&streams, near), rack, 3).await;
        for other in [leader, far] {
            sim.partition(id(near), id(other));
        }
        let (error, _) = produce(to(&streams, leader), batch(&core, 100)).await;
        assert_eq!(error, ErrorCode::NONE, "two of three are a majority");
        // It knows nothing of the fourth record, and does not pretend to.
        let old = fetch(to(&streams, near), rack, 0, epoch).await;
        assert_eq!((old.error_code, old.high_watermark), (ErrorCode::NONE, 3));
        let ahead = fetch(to(&streams, near), rack, 4, epoch).await;
        assert_eq!(ahead.error_code, ErrorCode::OFFSET_NOT_AVAILABLE);
        // Who waits there is told when it gives its leader up.
        let wait = fetch_request(rack, 3, epoch, 60_000);
        send(to(&streams, near), FETCH, wait).await;
        let told = only(receive::<FetchRequest>(to(&streams, near), FETCH).await);
        assert_eq!(told.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        // By then the leader serves the rack itself.
        loop {
            let read = fetch(to(&streams, leader), rack, 3, epoch).await;
            if read.preferred_read_replica == -1 {
                assert!(!bytes_of(&read).is_empty());
                break;
            }
            core.sleep(Duration::from_millis(100)).await;
        }
        sim.heal_all();
        loop {
            core.sleep(Duration::from_millis(100)).await;
            let current = describe(to(&streams, leader)).await;
            let leader = current.leader_id.max(1);
            let sent = fetch(to(&streams, leader), rack, 3, -1).await;
            if sent.preferred_read_replica == near {
                break;
            }
        }
        follows_to(&core, to(&streams, near), rack, 4).await;
    });
}
