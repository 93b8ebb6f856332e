//! The throttles that `kafka-reassign-partitions` sets, on three simulated nodes and in their time.

use std::time::Duration;

use super::cluster::*;
use protocol::ErrorCode;
use runtime::{Core, Stream};

/// What is to be moved, and at which rate.
const BATCHES: i64 = 50;
const BATCH_BYTES: usize = 100_000;
const RATE: &str = "1000000";
/// So long the log takes at the rate, at least. The leader has all of it in memory.
const THROTTLED: Duration = Duration::from_secs(4);

/// Moves the partition, and gives how long it took.
async fn move_to(core: &Core, stream: &Stream, replicas: &[i32]) -> Duration {
    let began = core.now();
    reassign(stream, replicas).await;
    loop {
        let told = describe(stream).await;
        if told.replica_nodes == replicas && told.isr_nodes.len() == replicas.len() {
            return core.now() - began;
        }
        core.sleep(Duration::from_millis(20)).await;
    }
}

async fn throttle(stream: &Stream, leaders: &str, followers: &str) {
    let configs = [
        ("leader.replication.throttled.replicas", leaders),
        ("follower.replication.throttled.replicas", followers),
    ];
    set(stream, TOPIC_RESOURCE, &configs).await;
}

async fn rates(stream: &Stream, leader: &str, follower: &str) {
    let configs = [
        ("leader.replication.throttled.rate", leader),
        ("follower.replication.throttled.rate", follower),
    ];
    set(stream, NODES_RESOURCE, &configs).await;
}

#[test]
fn a_move_is_as_slow_as_its_throttles() {
    let world = World::new(31, &[]);
    world.client(|core| async move {
        let streams = connect(&core).await;
        let stream = &streams[0];
        create_topic_on(&core, &streams, &[1]).await;
        for number in 0..BATCHES {
            let produced = produce(stream, batch(&core, BATCH_BYTES)).await;
            assert_eq!(produced, (ErrorCode::NONE, number));
        }
        rates(stream, RATE, RATE).await;

        let free = move_to(&core, stream, &[1, 2]).await;
        assert!(free < Duration::from_secs(2), "nobody is named: {free:?}");
        throttle(stream, "0:1", "0:9").await;
        let slow = move_to(&core, stream, &[1, 3]).await;
        assert!(slow > THROTTLED, "by the leader: {slow:?}");
        throttle(stream, "0:9", "0:2").await;
        let slow = move_to(&core, stream, &[1, 2]).await;
        assert!(slow > THROTTLED, "by the follower: {slow:?}");
        throttle(stream, "*", "*").await;
        let slow = move_to(&core, stream, &[1, 3]).await;
        assert!(slow > THROTTLED, "by both: {slow:?}");
        assert!(slow < 3 * THROTTLED, "both at once: {slow:?}");

        // A follower in sync is not held back by any rate.
        rates(stream, "0", "0").await;
        let (error, _) = produce(stream, batch(&core, BATCH_BYTES)).await;
        assert_eq!(error, ErrorCode::NONE);
        // Nothing moves without a rate, until there is one.
        reassign(stream, &[1, 2]).await;
        core.sleep(3 * THROTTLED).await;
        let told = describe(stream).await;
        assert!(!told.isr_nodes.contains(&2), "{told:?}");
        rates(stream, "100000000", "100000000").await;
        let lifted = move_to(&core, stream, &[1, 2]).await;
        assert!(lifted < Duration::from_secs(4), "{lifted:?}");
    });
}
