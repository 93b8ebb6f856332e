//! Damaged disks, on three simulated nodes: what readers notice.

use std::time::Duration;

use super::cluster::*;
use protocol::ErrorCode;

const BATCH_BYTES: usize = 64 << 10;
const BATCHES: i64 = 40;

/// Its reads failed for ever, though two others had what it had lost: nothing took the lead from it.
#[test]
fn a_leader_whose_segment_is_damaged_leaves_its_readers_to_others() {
    let world = World::new(57, &[("log.segment.bytes", "1048576")]);
    let (sim, node) = (world.sim.clone(), world.nodes[0]);
    let stop = world.stopper(1);
    world.client(move |core| async move {
        let streams = connect(&core).await;
        create_topic(&core, &streams).await;
        for _ in 0..BATCHES {
            let (error, _) = produce(&streams[0], batch(&core, BATCH_BYTES)).await;
            assert_eq!(error, ErrorCode::NONE);
        }
        // What is in memory is not read from the disk.
        stop();
        has_ended(&core, &sim, node).await;
        let files = sim.durable_files(node);
        let segments = files
            .iter()
            .filter(|path| path.starts_with("/data/partitions"));
        let first = segments
            .max_by_key(|path| sim.durable_len(node, path))
            .expect("segments");
        let half = sim.durable_len(node, first).expect("a file") / 2;
        assert!(sim.flip_bit(node, first, half, 3));
        let (_, heard) = start(&sim, 1, &[("log.segment.bytes", "1048576")]);
        is_ready(&core, &heard).await;
        while describe(&streams[1]).await.leader_id != 1 {
            core.sleep(Duration::from_millis(100)).await;
        }

        let mut offset = 0;
        let mut damaged = false;
        while offset < BATCHES {
            let leader = describe(&streams[1]).await.leader_id;
            if leader < 1 {
                core.sleep(Duration::from_millis(10)).await;
                continue;
            }
            let stream = core.connect(address(leader)).await.expect("it is there");
            let fetched = only(call(&stream, 12, fetch_request("", offset, -1, 0)).await);
            match fetched.error_code {
                ErrorCode::NONE => {
                    let batches = bytes_of(&fetched).len() / BATCH_BYTES;
                    assert!(batches > 0, "nothing at {offset}");
                    offset += batches as i64;
                }
                error => {
                    damaged |= error == ErrorCode::KAFKA_STORAGE_ERROR;
                    core.sleep(Duration::from_millis(10)).await;
                }
            }
        }
        assert!(damaged, "the damage was not met");
        assert_ne!(describe(&streams[1]).await.leader_id, 1);
    });
}
