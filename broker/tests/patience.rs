//! How long a node lets a client wait when its disk does not answer, in virtual time.

#[path = "simulated/node.rs"]
mod node;

use std::time::Duration;

use node::{World, call};
use protocol::ErrorCode;
use protocol::messages::*;
use runtime::{Core, Stream};

async fn commit(stream: &Stream, offset: i64) -> ErrorCode {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "orders".into(),
        partitions: vec![partition],
        ..OffsetCommitRequestTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: "billing".into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    let answer = call(stream, 8, request).await;
    answer.topics[0].partitions[0].error_code
}

/// Creates the topic and the coordinator, and commits once they serve.
async fn prepare(core: &Core, stream: &Stream) {
    let topic = CreatableTopic {
        name: "orders".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let create = CreateTopicsRequest {
        topics: vec![topic],
        ..CreateTopicsRequest::default()
    };
    call(stream, 7, create).await;
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["billing".into()],
        ..FindCoordinatorRequest::default()
    };
    call(stream, 4, find).await;
    while commit(stream, 1).await != ErrorCode::NONE {
        core.sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_commit_that_takes_too_long_is_to_be_tried_again() {
    let world = World::new(|_, _| {});
    let (control, node) = (world.sim.clone(), world.node);
    world.client(move |core, stream| async move {
        prepare(&core, &stream).await;
        control.stall_disk(node, Duration::from_secs(8));
        let asked = core.now();
        let told = commit(&stream, 2).await;
        assert_eq!(told, ErrorCode::COORDINATOR_NOT_AVAILABLE);
        let waited = core.now() - asked;
        // offsets.commit.timeout.ms is five seconds.
        let expected = Duration::from_secs(5)..Duration::from_millis(5_500);
        assert!(expected.contains(&waited), "{waited:?}");
        // The second try waits for the disk behind the first, and both take effect.
        assert_eq!(commit(&stream, 3).await, ErrorCode::NONE);
        let fetch = OffsetFetchRequest {
            group_id: "billing".into(),
            topics: None,
            ..OffsetFetchRequest::default()
        };
        let fetched = call(&stream, 5, fetch).await;
        assert_eq!(fetched.topics[0].partitions[0].committed_offset, 3);
    });
}
