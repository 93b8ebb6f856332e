//! Whether a cluster is whole: every node knows that every replica is in sync.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use protocol::messages::MetadataResponsePartition;

use crate::error::{BenchError, Result};
use crate::wire::Control;

const PAUSE: Duration = Duration::from_millis(100);
/// For one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks all of `brokers` until it is so with a replica on each of `nodes`. `preferred`: the first
/// replica of each partition leads.
pub fn wait(
    brokers: &[SocketAddr],
    topic: &str,
    nodes: usize,
    preferred: bool,
    patience: Duration,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    for broker in brokers {
        let mut control = None;
        while !ask(*broker, &mut control, topic, nodes, preferred) {
            if Instant::now() >= deadline {
                return Err(BenchError::TimedOut {
                    what: format!("making {topic} whole as {broker} sees it"),
                    seconds: patience.as_secs(),
                });
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// A connection that fails is made anew the next time.
fn ask(
    broker: SocketAddr,
    control: &mut Option<Control>,
    topic: &str,
    nodes: usize,
    preferred: bool,
) -> bool {
    if control.is_none() {
        *control = Control::connect(broker, ANSWER_TIMEOUT).ok();
    }
    let answer = control.as_mut().map(|control| control.partitions(topic));
    match answer {
        Some(Ok(partitions)) => is_whole(&partitions, nodes, preferred),
        _ => {
            *control = None;
            false
        }
    }
}

fn is_whole(partitions: &[MetadataResponsePartition], nodes: usize, preferred: bool) -> bool {
    let whole = |partition: &MetadataResponsePartition| {
        let leads = match preferred {
            true => partition.replica_nodes.first() == Some(&partition.leader_id),
            false => partition.leader_id >= 0,
        };
        leads && partition.error_code.is_none() && partition.isr_nodes.len() == nodes
    };
    !partitions.is_empty() && partitions.iter().all(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(leader_id: i32, isr_nodes: &[i32]) -> MetadataResponsePartition {
        MetadataResponsePartition {
            leader_id,
            replica_nodes: vec![2, 3, 1],
            isr_nodes: isr_nodes.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn all_replicas_must_be_in_sync_and_somebody_must_lead() {
        let good = partition(2, &[1, 2, 3]);
        assert!(is_whole(&[good.clone(), good.clone()], 3, true));
        assert!(!is_whole(&[], 3, false), "an unknown topic");
        assert!(!is_whole(&[good.clone(), partition(2, &[2, 3])], 3, true));
        let other = [good, partition(3, &[1, 2, 3])];
        assert!(is_whole(&other, 3, false) && !is_whole(&other, 3, true));
        assert!(!is_whole(&[partition(-1, &[1, 2, 3])], 3, false));
    }
}
