//! Who is in sync, on three simulated nodes: what every node says of it, and what `min.insync.replicas` makes of it.

use std::time::Duration;

use super::cluster::*;
use protocol::ErrorCode;
use protocol::messages::*;
use runtime::{Core, Stream};

const LAG_MAX: Duration = Duration::from_secs(3);
/// Nodes are heard of all the time, so that nobody is out for another reason than its lag.
const SETTINGS: &[(&str, &str)] = &[
    ("replica.lag.time.max.ms", "3000"),
    ("broker.session.timeout.ms", "600000"),
];

/// What a node says is in sync, by Metadata and by DescribeTopicPartitions.
async fn in_sync(stream: &Stream) -> Vec<i32> {
    let request = DescribeTopicPartitionsRequest {
        topics: vec![DescribeTopicPartitionsRequestTopic { name: TOPIC.into() }],
        response_partition_limit: 10,
        ..DescribeTopicPartitionsRequest::default()
    };
    let told = call(stream, 0, request).await;
    let described = &told.topics[0].partitions[0];
    assert_eq!(described.eligible_leader_replicas, Some(Vec::new()));
    let metadata = describe(stream).await;
    if metadata.isr_nodes == described.isr_nodes {
        assert!(metadata.offline_replicas.is_empty(), "{metadata:?}");
    }
    metadata.isr_nodes
}

/// Waits until all of these nodes say that these replicas are in sync; gives how long that took.
async fn becomes(core: &Core, streams: &[&Stream], expected: &[i32]) -> Duration {
    let began = core.now();
    for stream in streams {
        loop {
            let mut told = in_sync(stream).await;
            told.sort_unstable();
            if told == expected {
                break;
            }
            core.sleep(Duration::from_millis(20)).await;
        }
    }
    core.now() - began
}

async fn demand(stream: &Stream, min_insync: &str) {
    set(
        stream,
        TOPIC_RESOURCE,
        &[("min.insync.replicas", min_insync)],
    )
    .await;
}

/// A batch with `acks=all`, sent again for as long as that is the answer.
async fn produce_until_not(core: &Core, stream: &Stream, refusal: ErrorCode) -> ErrorCode {
    loop {
        let (error, _) = produce(stream, batch(core, 100)).await;
        if error != refusal {
            return error;
        }
        core.sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn who_lags_is_out_everywhere_until_it_has_caught_up() {
    let world = World::new(21, SETTINGS);
    let (sim, nodes) = (world.sim.clone(), world.nodes.clone());
    world.client(move |core| async move {
        let streams = connect(&core).await;
        let (leader, _) = create_topic(&core, &streams).await;
        let all: Vec<&Stream> = streams.iter().collect();
        let to_leader = &streams[leader as usize - 1];
        becomes(&core, &all, &[1, 2, 3]).await;
        let behind = leader % NODES + 1;
        let other = (1..=NODES).find(|node| ![leader, behind].contains(node));
        let other = other.expect("there are three");
        let mut left = [leader, other];
        left.sort_unstable();

        // It does not hear its leader, and misses nothing.
        let id = |node: i32| nodes[node as usize - 1];
        sim.partition(id(leader), id(behind));
        core.sleep(2 * LAG_MAX).await;
        becomes(&core, &all, &[1, 2, 3]).await;

        assert_eq!(
            produce(to_leader, batch(&core, 100)).await.0,
            ErrorCode::NONE
        );
        core.sleep(LAG_MAX / 2).await;
        becomes(&core, &all, &[1, 2, 3]).await;
        // Its own node hears of it from nobody but the leader, so it is not asked.
        let others = [to_leader, &streams[other as usize - 1]];
        let took = becomes(&core, &others, &left).await;
        assert!(took < LAG_MAX, "{took:?} of virtual time after half of it");

        // It lags, so fewer are in sync than all.
        demand(to_leader, "3").await;
        let refused = produce_until_not(&core, to_leader, ErrorCode::NONE).await;
        assert_eq!(refused, ErrorCode::NOT_ENOUGH_REPLICAS);
        demand(to_leader, "2").await;
        let told = produce_until_not(&core, to_leader, ErrorCode::NOT_ENOUGH_REPLICAS).await;
        assert_eq!(told, ErrorCode::NONE, "two are in sync");

        sim.heal_all();
        let took = becomes(&core, &all, &[1, 2, 3]).await;
        assert!(took < Duration::from_secs(10), "{took:?} of virtual time");
        // More than there are asks for all.
        demand(to_leader, "7").await;
        let told = produce_until_not(&core, to_leader, ErrorCode::NOT_ENOUGH_REPLICAS).await;
        assert_eq!(told, ErrorCode::NONE);
    });
}

#[test]
fn a_new_leader_knows_who_lagged() {
    let world = World::new(22, SETTINGS);
    let (sim, nodes) = (world.sim.clone(), world.nodes.clone());
    world.client(move |core| async move {
        let streams = connect(&core).await;
        let (leader, _) = create_topic(&core, &streams).await;
        let behind = leader % NODES + 1;
        let heir = (1..=NODES).find(|node| ![leader, behind].contains(node));
        let heir = heir.expect("there are three");
        let id = |node: i32| nodes[node as usize - 1];
        for other in [leader, heir] {
            sim.partition(id(behind), id(other));
        }
        let to_leader = &streams[leader as usize - 1];
        assert_eq!(
            produce(to_leader, batch(&core, 100)).await.0,
            ErrorCode::NONE
        );
        let mut left = [leader, heir];
        left.sort_unstable();
        let to_heir = &streams[heir as usize - 1];
        becomes(&core, &[to_leader, to_heir], &left).await;
        // The lead goes to the other one that has everything.
        // Who comes first is to lead.
        let others = (1..=NODES).filter(|node| *node != heir);
        let replicas: Vec<i32> = [heir].into_iter().chain(others).collect();
        reassign(to_leader, &replicas).await;
        loop {
            let told = describe(to_heir).await;
            assert!(!told.isr_nodes.contains(&behind), "{told:?}");
            if told.leader_id == heir {
                break;
            }
            core.sleep(Duration::from_millis(20)).await;
        }
        core.sleep(LAG_MAX / 2).await;
        becomes(&core, &[to_leader, to_heir], &left).await;
        sim.heal_all();
        let all: Vec<&Stream> = streams.iter().collect();
        becomes(&core, &all, &[1, 2, 3]).await;
    });
}

/// A group that has slept for longer than a replica may lag.
#[test]
fn nobody_lags_because_little_is_written() {
    let world = World::new(24, SETTINGS);
    world.client(move |core| async move {
        let streams = connect(&core).await;
        let (leader, _) = create_topic(&core, &streams).await;
        let to_leader = &streams[leader as usize - 1];
        becomes(&core, &[to_leader], &[1, 2, 3]).await;
        for record in 0..9 {
            core.sleep(LAG_MAX + Duration::from_millis(2_000 + record * 29))
                .await;
            let told = produce(to_leader, batch(&core, 100)).await;
            assert_eq!(told.0, ErrorCode::NONE);
            for _ in 0..40 {
                core.sleep(Duration::from_millis(10)).await;
                assert_eq!(in_sync(to_leader).await.len(), 3, "record {record}");
            }
        }
    });
}
