//! Nodes that are told to stop, one of three in the simulator or all of them.

use std::time::Duration;

use super::cluster::*;
use protocol::ErrorCode;
use protocol::messages::*;
use runtime::{Core, Stream};

/// No producer waits longer than this while a node stops, in virtual time.
const GAP_MAX: Duration = Duration::from_millis(50);

/// The preferred leader is to have its lead back. Nobody waits for the answer.
async fn wish_back(stream: &Stream) {
    let request = ElectLeadersRequest {
        election_type: 0,
        topic_partitions: Some(vec![ElectLeadersTopicPartitions {
            topic: TOPIC.into(),
            partitions: vec![0],
        }]),
        timeout_ms: 1_000,
    };
    send(stream, 2, request).await;
}

/// Produces to nodes 1 and 3, whoever leads, until an acknowledgement.
async fn acknowledged(core: &Core, streams: &[Stream]) {
    loop {
        let leader = describe(&streams[0]).await.leader_id;
        if leader == 1 || leader == 3 {
            let to = &streams[leader as usize - 1];
            let (error, _) = produce(to, batch(core, 1_000)).await;
            if error == ErrorCode::NONE {
                return;
            }
            assert!(error.retriable(), "{error:?}");
        }
        core.sleep(Duration::from_millis(1)).await;
    }
}

/// It had handed its lead over. Whoever had it looked for preferred leaders just then, and gave it back to a node that
/// was about to end: clients waited for an election.
#[test]
fn a_node_that_stops_gets_no_lead_back() {
    let world = World::new(54, &[]);
    let (stop, node) = (world.stopper(2), world.nodes[1]);
    let sim = world.sim.clone();
    world.client(move |core| async move {
        let streams = connect(&core).await;
        let wishes = connect_to(&core, 1).await;
        let (leader, _) = create_topic_on(&core, &streams, &[2, 1, 3]).await;
        assert_eq!(leader, 2, "the preferred leader");
        core.sleep(Duration::from_secs(6)).await;
        stop();
        acknowledged(&core, &streams).await;
        wish_back(&wishes[0]).await;
        assert!(
            !sim.is_done(node),
            "it ends before anybody could give it a lead"
        );
        let (began, mut longest) = (core.now(), Duration::ZERO);
        while core.now() - began < Duration::from_secs(2) {
            let asked = core.now();
            acknowledged(&core, &streams).await;
            longest = longest.max(core.now() - asked);
        }
        assert!(sim.is_done(node), "it goes on");
        assert!(longest < GAP_MAX, "a producer waited {longest:?}");
    });
}

/// The last ones have nobody to hand over to, and do not wait for somebody.
#[test]
fn nodes_that_stop_together_do_not_hand_leads_to_one_another() {
    let world = World::new(55, &[]);
    let stops: Vec<_> = (1..=NODES).map(|id| world.stopper(id)).collect();
    let (sim, nodes) = (world.sim.clone(), world.nodes.clone());
    world.client(move |core| async move {
        let streams = connect(&core).await;
        create_topic(&core, &streams).await;
        let began = core.now();
        stops.iter().for_each(|stop| stop());
        for node in nodes {
            has_ended(&core, &sim, node).await;
        }
        let took = core.now() - began;
        assert!(took < Duration::from_millis(150), "they take {took:?}");
    });
}
