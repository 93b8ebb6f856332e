//! What is left when a majority is gone for good: partitions and metadata that go on from one node, by an operator's
//! word and not without; and what becomes of the nodes that were given up.

#[path = "simulated/cluster.rs"]
mod cluster;
#[path = "simulated/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::time::Duration;

use broker::observe::Request;
use broker::operate::{Order, Outcome};
use cluster::World;
use protocol::ErrorCode;

const TOPIC: &str = "orders";
/// Longer than it takes to give a silent connection up, and `broker.session.timeout.ms` after that.
const SESSION: Duration = Duration::from_secs(15);

fn lost(nodes: &[i32]) -> BTreeSet<i32> {
    nodes.iter().copied().collect()
}

fn recover(nodes: &[i32], accept_data_loss: bool) -> Order {
    Order::RecoverPartition {
        topic: TOPIC.to_owned(),
        partition: 0,
        lost: lost(nodes),
        by: "ada@test".to_owned(),
        accept_data_loss,
    }
}

fn recover_metadata(nodes: &[i32], accept_data_loss: bool) -> Order {
    Order::RecoverMetadata {
        lost: lost(nodes),
        by: "ada@test".to_owned(),
        accept_data_loss,
    }
}

fn refused(outcome: Outcome, words: &str) {
    let sentence = outcome.expect_err(words);
    assert!(sentence.contains(words), "{words}: {sentence}");
}

/// The end of a log, as the node's core that owns it knows it.
fn log_end(world: &World, node: i32) -> i64 {
    let cores = 1 + node as usize % 2;
    let rows = (0..cores).flat_map(|core| {
        let page = world.ask(node, core, |reply| Request::Partitions {
            after: None,
            rows: true,
            reply,
        });
        page.rows
    });
    let mut rows = rows.filter(|row| row.topic == TOPIC);
    rows.next().map_or(-1, |row| row.log_end_offset)
}

/// Waits until a node has as many records.
fn await_log_end(world: &World, node: i32, end: i64) {
    for _ in 0..600 {
        if log_end(world, node) >= end {
            return;
        }
        world.sim.run_for(Duration::from_millis(100));
    }
    panic!("node {node} ends at {}, not {end}", log_end(world, node));
}

#[test]
fn one_of_three_goes_on_after_two_were_lost_and_they_come_back_as_others() {
    let mut world = World::new(3);
    world.create(1, TOPIC, &[1, 2, 3]);
    let led = world.until(1, TOPIC, "a leader", |told| told.leader_id > 0);
    for value in ["a", "b", "c"] {
        world.produce(led.leader_id, TOPIC, value);
    }
    await_log_end(&world, 1, 3);
    world.crash(2);
    world.crash(3);
    // Nothing happens by itself.
    world.sim.run_for(SESSION);
    assert!(world.partition(1, TOPIC).leader_id < 0);
    refused(world.order(1, recover(&[2, 3], true)), "recover-metadata");

    // The metadata first, and not before all is said.
    refused(
        world.order(1, recover_metadata(&[], true)),
        "nodes 2, 3 has a replica",
    );
    refused(
        world.order(1, recover_metadata(&[2], true)),
        "node 3 has a replica",
    );
    refused(
        world.order(1, recover_metadata(&[1, 2, 3], true)),
        "Node 1 runs",
    );
    let plan = world
        .order(1, recover_metadata(&[2, 3], false))
        .expect("a plan");
    assert_eq!(
        (&plan["survivor"]["node"], &plan["done"]),
        (&1.into(), &false.into())
    );
    world.sim.run_for(SESSION);
    refused(world.order(1, recover(&[2, 3], true)), "recover-metadata");
    let done = world
        .order(1, recover_metadata(&[2, 3], true))
        .expect("it goes on");
    assert_eq!(done["done"], true);

    // Then the partition.
    let plan = world.order(1, recover(&[2, 3], false)).expect("a plan");
    assert_eq!(
        (&plan["survivor"]["end_offset"], &plan["done"]),
        (&3.into(), &false.into())
    );
    assert!(
        world.partition(1, TOPIC).leader_id < 0,
        "a plan changes nothing"
    );
    let done = world.order(1, recover(&[2, 3], true)).expect("it goes on");
    assert_eq!(done["done"], true);
    let told = world.until(1, TOPIC, "a leader", |told| told.leader_id == 1);
    assert!(told.leader_epoch > led.leader_epoch + 1_000, "{told:?}");
    assert_eq!(world.produce(1, TOPIC, "d"), 3);
    assert_eq!(world.read(1, TOPIC), ["a", "b", "c", "d"]);
    let told = world.order(1, Order::Recoveries).expect("a list");
    let told: Vec<&str> = told
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["by"].as_str())
        .collect();
    assert_eq!(told, ["ada@test"; 2]);

    // One of the lost comes back as it was: it hears that it is none of them any more, and ends.
    world.start(2);
    let sentence = world.await_failure(2);
    assert!(sentence.contains("empty data directory"), "{sentence}");
    assert_eq!(world.partition(1, TOPIC).leader_id, 1);

    // With an empty directory each is welcome, and gets everything.
    for node in [2, 3] {
        world.wipe(node);
        world.start(node);
        world.await_ready(node);
        await_log_end(&world, node, 4);
    }
    world.produce(1, TOPIC, "e");
    world.sim.run_for(SESSION);
    // The survivor is not needed any more.
    world.crash(1);
    let told = world.until(2, TOPIC, "another leader", |told| told.leader_id > 1);
    assert_eq!(world.produce(told.leader_id, TOPIC, "f"), 5);
    assert_eq!(
        world.read(told.leader_id, TOPIC),
        ["a", "b", "c", "d", "e", "f"]
    );
}

#[test]
fn a_node_that_waits_for_its_cluster_can_be_stopped() {
    let world = World::new(3);
    for node in 1..=3 {
        world.crash(node);
    }
    // It finds nobody, and says again and again that it is there.
    for pause_ms in [5_000, 5_050, 5_100, 5_150] {
        world.start(1);
        world.sim.run_for(Duration::from_millis(pause_ms));
        world.stop(1);
        let node = world.members[0].node;
        let ended = world.sim.run_until_done(node, Duration::from_secs(5));
        assert!(ended, "told to stop after {pause_ms} ms");
    }
}

#[test]
fn a_partition_goes_on_while_the_metadata_has_its_majority() {
    let mut world = World::new(3);
    world.create(1, TOPIC, &[2, 3]);
    let led = world.until(1, TOPIC, "a leader", |told| told.leader_id > 0);
    for value in ["a", "b"] {
        world.produce(led.leader_id, TOPIC, value);
    }
    refused(world.order(1, recover(&[2], true)), "Node 2 runs");
    world.crash(2);
    refused(world.order(3, recover(&[2], true)), "Node 2 ");
    world.sim.run_for(SESSION);
    let tally = |world: &World, node: i32| {
        let cores = 1 + node as usize % 2;
        let pages = (0..cores).map(|core| {
            world.ask(node, core, |reply| Request::Partitions {
                after: None,
                rows: false,
                reply,
            })
        });
        let pages: Vec<_> = pages.collect();
        let sum = |read: fn(&broker::observe::ReplicationTally) -> u64| {
            pages
                .iter()
                .map(|page| read(&page.tally.replication))
                .sum::<u64>()
        };
        (
            sum(|t| t.leaderless),
            sum(|t| t.leaders),
            sum(|t| t.under_replicated),
        )
    };
    assert_eq!(tally(&world, 3), (1, 0, 0));
    refused(world.order(1, recover(&[3], true)), "Node 3 runs");
    refused(world.order(1, recover(&[], true)), "node 2 has a replica");
    refused(world.order(1, recover_metadata(&[2], true)), "leads it");
    let done = world.order(1, recover(&[2], true)).expect("it goes on");
    assert_eq!(
        (&done["survivor"]["node"], &done["done"]),
        (&3.into(), &true.into())
    );
    world.produce(3, TOPIC, "c");
    assert_eq!(tally(&world, 3), (0, 1, 1));

    // Power is lost right after it: what was decided holds.
    world.crash(3);
    world.start(3);
    world.await_ready(3);
    world.until(1, TOPIC, "the same leader", |told| told.leader_id == 3);
    assert_eq!(world.read(3, TOPIC), ["a", "b", "c"]);

    // It comes to other nodes by the ordinary way.
    let moved = world.client(1, async |_core, stream| {
        use protocol::messages::*;
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic {
                name: TOPIC.into(),
                partitions: vec![ReassignablePartition {
                    partition_index: 0,
                    replicas: Some(vec![1, 3]),
                }],
            }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let answer = cluster::call(&stream, 1, request).await;
        answer.responses[0].partitions[0].error_code
    });
    assert_eq!(moved, ErrorCode::NONE);
    let arrived = world.until(1, TOPIC, "the move to end", |told| {
        told.replica_nodes == [1, 3]
    });
    assert_eq!(arrived.isr_nodes, [1, 3]);
    await_log_end(&world, 1, 3);
    assert_eq!(tally(&world, 3).2 + tally(&world, 1).2, 0);
    // The old disk of node 2 is nobody's any more.
    world.start(2);
    world.await_failure(2);
}

#[test]
fn who_lags_is_told_in_records_and_time() {
    let mut world = World::new(3);
    world.create(1, TOPIC, &[1, 2, 3]);
    let led = world.until(1, TOPIC, "the preferred leader", |told| told.leader_id == 1);
    assert_eq!(led.replica_nodes, [1, 2, 3]);
    world.produce(1, TOPIC, "a");
    world.sim.run_for(SESSION);
    let report = |world: &World| {
        let reports = [0, 1].map(|core| world.ask(1, core, Request::Report));
        let lag = |node: i32| {
            let mut lag = broker::shard::lags::PeerLag::default();
            for report in &reports {
                lag.merge(&report.peers[&node].lag);
            }
            lag
        };
        (lag(2), lag(3), reports)
    };
    let (two, three, reports) = report(&world);
    assert_eq!((two, three), Default::default(), "everybody has everything");
    let links = reports
        .iter()
        .map(|report| report.peers[&2].links_up)
        .sum::<u64>();
    assert_eq!(links, 2);
    assert!(
        reports
            .iter()
            .any(|report| !report.peers[&2].links.round_trip.is_zero())
    );
    assert!(
        reports
            .iter()
            .map(|report| report.counters.elections)
            .sum::<u64>()
            > 0
    );
    assert_eq!(
        reports[0]
            .cluster
            .expect("core 0 tells of the cluster")
            .nodes,
        3
    );
    world.crash(3);
    for value in ["b", "c"] {
        world.produce(1, TOPIC, value);
    }
    world.sim.run_for(SESSION);
    let (two, three, reports) = report(&world);
    assert_eq!(two, Default::default());
    // Of the topic; and of the metadata, if it is led here, that node 3 is fenced.
    assert!((2..=3).contains(&three.records), "{three:?}");
    assert!(three.longest >= Duration::from_secs(2), "{three:?}");
    let cluster = reports[0].cluster.expect("core 0 tells of the cluster");
    assert_eq!(cluster.nodes_fenced, 1);
    world.start(3);
    world.await_ready(3);
    world.sim.run_for(SESSION);
    assert_eq!(report(&world).1, Default::default(), "it has caught up");
}
