//! The client that moves partitions of a cluster as long as there are faults: to other nodes, to more and to fewer, back
//! to where they were (a cancelled move), and leads to their preferred leaders.
//!
//! What becomes of a move is judged in the end (`views`): none may be left over, and every replica has to have all that
//! was acknowledged.

use super::Stage;
use super::client::Client;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::rc::Rc;
use std::time::Duration;

const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Its partitions in every simulation.
const OFFSETS_PARTITIONS: i32 = 2;
const PREFERRED: i8 = 0;
/// The longest pause between two of its requests.
const PAUSE_US: u64 = 250_000;

struct Mover {
    stage: Rc<Stage>,
    client: Client,
}

pub(super) async fn mover(stage: Rc<Stage>, client: Client, _number: u32) {
    let mut mover = Mover { stage, client };
    while !mover.stage.healed.get() && !mover.stage.is_over() {
        let pause = Duration::from_micros(mover.client.below(PAUSE_US));
        mover.client.core.sleep(pause).await;
        mover.client.roam();
        let Some((topic, partition)) = mover.any_partition() else {
            continue;
        };
        match mover.client.below(8) {
            0 => mover.elect(&topic, partition).await,
            1 => mover.alter(&topic, partition, None).await,
            _ => {
                let target = mover.any_nodes();
                mover.alter(&topic, partition, Some(target)).await
            }
        };
    }
}

impl Mover {
    fn any_partition(&self) -> Option<(String, i32)> {
        if self.client.below(5) == 0 {
            let partition = self.client.below(OFFSETS_PARTITIONS as u64) as i32;
            return Some((OFFSETS_TOPIC.to_owned(), partition));
        }
        let (topic, (_, partition)) = self.stage.any_place(&self.client, 4)?;
        Some((topic, partition))
    }

    /// As many nodes as a partition may have, in any order.
    fn any_nodes(&self) -> Vec<i32> {
        let mut free: Vec<i32> = (1..=self.stage.nodes.len() as i32).collect();
        let least = self.stage.replicas_min.get();
        let count = least + self.client.below((4 - least) as u64) as usize;
        let draw = |_| free.remove(self.client.below(free.len() as u64) as usize);
        (0..count).map(draw).collect()
    }

    /// Moves a partition, or cancels a move.
    async fn alter(&mut self, topic: &str, partition: i32, target: Option<Vec<i32>>) -> Option<()> {
        let cancels = target.is_none();
        self.stage.history().tell(|| match &target {
            Some(target) => format!("moves {topic}/{partition} to {target:?}"),
            None => format!("cancels the move of {topic}/{partition}"),
        });
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: 1_000,
            topics: vec![ReassignableTopic {
                name: Str::copied(topic),
                partitions: vec![ReassignablePartition {
                    partition_index: partition,
                    replicas: target,
                }],
            }],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let version = self.client.version::<AlterPartitionReassignmentsRequest>(0);
        let response = self.client.call(&request, version).await?;
        let mut history = self.stage.history();
        let api = "AlterPartitionReassignments";
        history.code(api, response.error_code).ok().ok()?;
        let answer = response.responses.first()?.partitions.first()?;
        if history.code(api, answer.error_code) == ErrorCode::NONE {
            history.count(match cancels {
                true => "moves cancelled",
                false => "moves begun",
            });
        }
        Some(())
    }

    async fn elect(&mut self, topic: &str, partition: i32) -> Option<()> {
        let request = ElectLeadersRequest {
            election_type: PREFERRED,
            topic_partitions: Some(vec![ElectLeadersTopicPartitions {
                topic: Str::copied(topic),
                partitions: vec![partition],
            }]),
            timeout_ms: 500,
        };
        let version = self.client.version::<ElectLeadersRequest>(1);
        let response = self.client.call(&request, version).await?;
        let mut history = self.stage.history();
        let code = history.code("ElectLeaders", response.error_code);
        code.ok().ok()?;
        let results = response.replica_election_results.first()?;
        let answer = results.partition_result.first()?;
        if history.code("ElectLeaders", answer.error_code) == ErrorCode::NONE {
            history.count("preferred leaders elected");
        }
        Some(())
    }
}
