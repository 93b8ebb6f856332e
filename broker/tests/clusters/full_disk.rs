//! Full disks, on three simulated nodes: who leads then, and what clients notice.

use std::time::Duration;

use super::cluster::*;
use protocol::ErrorCode;
use protocol::messages::*;
use runtime::sim::{Control, NodeId};
use runtime::{Core, Stream};

/// What a batch of the load has: the disk's last room is used up soon.
const BATCH_BYTES: usize = 64 << 10;
/// Far more of them than fit into what a node has reserved.
const BATCHES_MAX: usize = 2_000;
/// No client waits longer than this while one disk of three is full, in virtual time.
const GAP_MAX: Duration = Duration::from_millis(500);

/// The node that leads the metadata, by the word of another one.
async fn controller(stream: &Stream) -> i32 {
    let request = MetadataRequest {
        topics: Some(Vec::new()),
        ..MetadataRequest::default()
    };
    call(stream, 9, request).await.controller_id
}

fn fill(sim: &Control, node: NodeId) {
    sim.set_capacity(node, Some(sim.disk_used_bytes(node)));
}

fn id(nodes: &[NodeId], node: i32) -> NodeId {
    nodes[node as usize - 1]
}

/// Who leads by the word of a node that is there.
async fn leader(core: &Core, witness: &Stream) -> i32 {
    loop {
        let leader = describe(witness).await.leader_id;
        if leader > 0 {
            return leader;
        }
        core.sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a batch until somebody acknowledges it. Gives who that was, and how long it took.
async fn acknowledged(core: &Core, streams: &[Stream], witness: &Stream) -> (i32, Duration) {
    let began = core.now();
    loop {
        let leader = leader(core, witness).await;
        let to = &streams[leader as usize - 1];
        let (error, _) = produce(to, batch(core, BATCH_BYTES)).await;
        match error {
            ErrorCode::NONE => return (leader, core.now() - began),
            error if error.retriable() => core.sleep(Duration::from_millis(20)).await,
            error => panic!("{error:?} is no right refusal"),
        }
    }
}

/// Writes until another node than this one leads; says how long a batch took at most.
async fn write_until_led_elsewhere(
    core: &Core,
    streams: &[Stream],
    witness: &Stream,
    node: i32,
) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..BATCHES_MAX {
        let (leader, took) = acknowledged(core, streams, witness).await;
        longest = longest.max(took);
        if leader != node {
            return longest;
        }
    }
    panic!("node {node} took {BATCHES_MAX} batches with a full disk, and leads on");
}

#[test]
fn a_node_whose_disk_is_full_gives_its_leads_away_and_takes_them_back_when_it_has_room() {
    let world = World::new(31, &[]);
    let (sim, nodes) = (world.sim.clone(), world.nodes.clone());
    world.client(move |core| async move {
        let streams = connect(&core).await;
        assert_eq!(create_topic(&core, &streams).await.0, 1);
        let witness = &streams[2];
        fill(&sim, id(&nodes, 1));
        let mut longest = write_until_led_elsewhere(&core, &streams, witness, 1).await;
        // It is the preferred leader, is there, and has what was written, but no room for more.
        for _ in 0..200 {
            let (leader, took) = acknowledged(&core, &streams, witness).await;
            assert_ne!(leader, 1);
            assert_ne!(controller(witness).await, 1);
            longest = longest.max(took);
            core.sleep(Duration::from_millis(100)).await;
        }
        assert!(longest < GAP_MAX, "a client waited {longest:?}");

        sim.set_capacity(id(&nodes, 1), None);
        while leader(&core, witness).await != 1 {
            core.sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(acknowledged(&core, &streams, witness).await.0, 1);
    });
}

#[test]
fn who_does_not_lead_says_so_though_its_disk_is_full() {
    let world = World::new(32, &[]);
    let (sim, nodes) = (world.sim.clone(), world.nodes.clone());
    world.client(move |core| async move {
        let streams = connect(&core).await;
        create_topic(&core, &streams).await;
        fill(&sim, id(&nodes, 1));
        write_until_led_elsewhere(&core, &streams, &streams[2], 1).await;
        for _ in 0..BATCHES_MAX {
            let (error, _) = produce(&streams[0], batch(&core, 100)).await;
            assert_eq!(error, ErrorCode::NOT_LEADER_OR_FOLLOWER);
            acknowledged(&core, &streams, &streams[2]).await;
        }
    });
}

/// The lead goes past the full node, whichever of the others loses it.
#[test]
fn a_full_node_is_not_elected_while_another_one_can_be() {
    for seed in 40..48 {
        let world = World::new(seed, &[]);
        let (sim, nodes) = (world.sim.clone(), world.nodes.clone());
        world.client(move |core| async move {
            let streams = connect(&core).await;
            create_topic(&core, &streams).await;
            fill(&sim, id(&nodes, 1));
            let witness = &streams[2];
            write_until_led_elsewhere(&core, &streams, witness, 1).await;
            let before = leader(&core, witness).await;
            let (left, epoch) = (5 - before, describe(witness).await.leader_epoch);
            let witness = &streams[left as usize - 1];
            sim.kill(id(&nodes, before));
            loop {
                let told = describe(witness).await;
                if told.leader_epoch > epoch && told.leader_id > 0 {
                    assert_eq!(told.leader_id, left);
                    break;
                }
                core.sleep(Duration::from_millis(5)).await;
            }
            // Two are a majority only when the full one has room.
            sim.set_capacity(id(&nodes, 1), None);
            acknowledged(&core, &streams, witness).await;
        });
    }
}

#[test]
fn when_all_disks_are_full_leads_stay_where_they_are() {
    let world = World::new(33, &[]);
    let (sim, nodes) = (world.sim.clone(), world.nodes.clone());
    world.client(move |core| async move {
        let streams = connect(&core).await;
        let (_, epoch) = create_topic(&core, &streams).await;
        nodes.iter().for_each(|node| fill(&sim, *node));
        let mut taken = 0;
        let refusal = loop {
            let (error, _) = produce(&streams[0], batch(&core, BATCH_BYTES)).await;
            if error != ErrorCode::NONE {
                break error;
            }
            taken += 1;
            assert!(taken < BATCHES_MAX, "all was taken");
        };
        assert!(refusal.retriable(), "{refusal:?}");
        // Disks do not become full at the same moment, so the lead may go round once.
        core.sleep(Duration::from_secs(10)).await;
        let before = describe(&streams[0]).await;
        core.sleep(Duration::from_secs(20)).await;
        let after = describe(&streams[0]).await;
        assert!(before.leader_epoch <= epoch + 3, "{before:?}");
        assert_eq!(
            (after.leader_id, after.leader_epoch),
            (before.leader_id, before.leader_epoch)
        );
        for node in &nodes {
            sim.set_capacity(*node, None);
        }
        acknowledged(&core, &streams, &streams[0]).await;
        let leader = leader(&core, &streams[0]).await;
        let to = &streams[leader as usize - 1];
        let (error, offset) = produce(to, batch(&core, 100)).await;
        assert!(
            error == ErrorCode::NONE && offset > taken as i64,
            "{offset}"
        );
    });
}
