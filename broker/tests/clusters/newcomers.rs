//! A fourth node comes and goes, on simulated nodes.

use std::time::Duration;

use super::cluster::*;
use broker::node::News;
use protocol::ErrorCode;
use protocol::messages::*;
use runtime::Stream;

const FOURTH: i32 = 4;
/// No producer waits longer than this while leads move, in virtual time.
const GAP_MAX: Duration = Duration::from_millis(300);

/// The others have ended the links to the one that was let go, so nothing told them that these are down. What they had to
/// say to the next one of that id was sent into the void, and it waited for an answer until its patience was over.
#[test]
fn the_id_of_a_node_that_was_let_go_is_taken_up_at_once() {
    let world = World::new(51, &[]);
    let sim = world.sim.clone();
    let settings = [("corelane.peer.listener", "10.0.0.4:9093")];
    // Before any client, which would get its address.
    let (node, first) = start(&sim, FOURTH, &settings);
    world.client(move |core| async move {
        let streams = connect(&core).await;
        is_ready(&core, &first).await;
        for _ in 0..4 {
            let leaving = ("corelane.nodes.leaving", "4");
            set(&streams[0], NODES_RESOURCE, &[leaving]).await;
            has_ended(&core, &sim, node).await;
            sim.wipe_disk(node);
            let (_, heard) = start(&sim, FOURTH, &settings);
            is_ready(&core, &heard).await;
        }
    });
}

/// It was told so while it was cut off, and hears only that it is not known any more, in the words for a disk that was
/// given up: it took itself for a failure, and said so by its exit code.
#[test]
fn a_node_that_was_let_go_while_it_was_cut_off_has_left() {
    let world = World::new(53, &[]);
    let sim = world.sim.clone();
    let others = world.nodes.clone();
    let settings = [("corelane.peer.listener", "10.0.0.4:9093")];
    let (node, heard) = start(&sim, FOURTH, &settings);
    world.client(move |core| async move {
        let streams = connect(&core).await;
        is_ready(&core, &heard).await;
        set(
            &streams[0],
            NODES_RESOURCE,
            &[("corelane.nodes.leaving", "4")],
        )
        .await;
        for other in others {
            sim.block(node, other);
            sim.block(other, node);
        }
        // Until both sides have given their connections up.
        core.sleep(Duration::from_secs(15)).await;
        assert!(!sim.is_done(node), "it has heard of it");
        sim.heal_all();
        has_ended(&core, &sim, node).await;
        let failed = heard.try_iter().find_map(|news| match news {
            News::Failed(error) => Some(error.to_string()),
            _ => None,
        });
        assert_eq!(failed, None);
    });
}

/// The first replica of a partition leads it, moves away and comes back, while a producer is at work.
#[test]
fn a_lead_that_moves_keeps_no_producer_waiting() {
    let world = World::new(52, &[]);
    let sim = world.sim.clone();
    let settings = [("corelane.peer.listener", "10.0.0.4:9093")];
    let (_, heard) = start(&sim, FOURTH, &settings);
    world.client(move |core| async move {
        is_ready(&core, &heard).await;
        let streams = connect_to(&core, FOURTH).await;
        create_topic(&core, &streams[..3]).await;
        let mut longest = Duration::ZERO;
        for round in 0..6 {
            let replicas = [[FOURTH, 2, 3], [1, 2, 3]][round % 2];
            reassign(&streams[1], &replicas).await;
            let mut settled = 0;
            while settled < 50 {
                let began = core.now();
                let leader = loop {
                    let leader = describe(&streams[1]).await.leader_id;
                    if leader > 0 {
                        let to = &streams[leader as usize - 1];
                        let (error, _) = produce(to, batch(&core, 1_000)).await;
                        if error == ErrorCode::NONE {
                            break leader;
                        }
                        assert!(error.retriable(), "{error:?}");
                    }
                    core.sleep(Duration::from_millis(5)).await;
                };
                longest = longest.max(core.now() - began);
                settled += usize::from(leader == replicas[0]);
                core.sleep(Duration::from_millis(5)).await;
            }
        }
        assert!(longest < GAP_MAX, "a producer waited {longest:?}");
    });
}

/// A backup that was taken between two starts: it has forgotten what the node has promised since, and may not vote.
#[test]
fn an_older_copy_of_a_disk_is_turned_away() {
    let world = World::new(56, &[]);
    let sim = world.sim.clone();
    let node = world.nodes[2];
    let stop = world.stopper(3);
    world.client(move |core| async move {
        stop();
        has_ended(&core, &sim, node).await;
        let copy = sim.copy_disk(node);
        let (_, heard) = start(&sim, 3, &[]);
        is_ready(&core, &heard).await;
        sim.crash(node);
        has_ended(&core, &sim, node).await;
        let own = sim.copy_disk(node);
        sim.replace_disk(node, &copy);
        let (_, heard) = start(&sim, 3, &[]);
        has_ended(&core, &sim, node).await;
        let refused = heard.try_iter().find_map(|news| match news {
            News::Failed(error) => Some(error.to_string()),
            News::Ready { .. } => panic!("it was let in"),
            _ => None,
        });
        let refused = refused.expect("a sentence");
        assert!(refused.contains("older copy"), "{refused}");
        sim.replace_disk(node, &own);
        let (_, heard) = start(&sim, 3, &[]);
        is_ready(&core, &heard).await;
    });
}

fn create(name: &'static str) -> CreateTopicsRequest {
    CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: 1,
            replication_factor: 3,
            ..CreatableTopic::default()
        }],
        timeout_ms: 30_000,
        ..CreateTopicsRequest::default()
    }
}

/// Who leads the metadata.
async fn controller(stream: &Stream) -> i32 {
    call(stream, 12, MetadataRequest::default())
        .await
        .controller_id
}

/// The controller kept the answer until all nodes had the topic, and gave it to whoever had the asker's id by then: it has
/// asked for something else under the same number.
#[test]
fn what_a_node_asked_before_it_was_killed_is_not_answered_to_its_next_life() {
    let world = World::new(57, &[]);
    let (sim, nodes) = (world.sim.clone(), world.nodes.clone());
    world.client(move |core| async move {
        let streams = connect(&core).await;
        let leader = controller(&streams[0]).await;
        let (asker, slow) = ((leader % NODES) + 1, ((leader + 1) % NODES) + 1);
        sim.freeze(nodes[slow as usize - 1]);
        send(&streams[asker as usize - 1], 7, create("before")).await;
        core.sleep(Duration::from_millis(10)).await;
        let node = nodes[asker as usize - 1];
        sim.crash(node);
        has_ended(&core, &sim, node).await;
        let (_, heard) = start(&sim, asker, &[]);
        is_ready(&core, &heard).await;
        let stream = core.connect(address(asker)).await.expect("a connection");
        let created = call(&stream, 7, create("after")).await;
        sim.thaw(nodes[slow as usize - 1]);
        assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some("after".into()),
                ..MetadataRequestTopic::default()
            }]),
            ..MetadataRequest::default()
        };
        let known = call(&stream, 12, request).await;
        assert_eq!(known.topics[0].topic_id, created.topics[0].topic_id);
    });
}
