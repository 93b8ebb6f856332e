//! The administrator: topics come, grow, change and go; records are deleted; every look at the metadata and at configs
//! is compared with what was acknowledged.

use super::client::Client;
use super::history::{Floor, Place};
use super::violation::Violation;
use super::{AUTO, LEDGER, REPLICAS, Stage, produce::OVERSIZED_BYTES};
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

/// Names of topics that come and go.
const PASSING: [&str; 2] = ["passing-0", "passing-1"];
const PARTITIONS_MAX: i32 = 4;
const TOPIC: i8 = 2;
const SET: i8 = 0;

struct Admin {
    stage: Rc<Stage>,
    client: Client,
    /// Of the ledger's `segment.ms`: acknowledged, and sent without an answer since.
    segment_ms: (Option<String>, BTreeSet<String>),
    /// The node that acknowledged it.
    altered_at: usize,
    /// Deletions, with the node that acknowledged it: another one may learn of it later.
    told_gone: BTreeSet<(usize, Uuid)>,
}

/// Sees to it that the topics are there that everybody needs.
pub(super) async fn create_lasting(stage: Rc<Stage>, client: Client) {
    Admin::new(stage, client).create_lasting().await;
}

/// Does one thing after the other until the end.
pub(super) async fn administer(stage: Rc<Stage>, client: Client, _number: u32) {
    let mut admin = Admin::new(stage, client);
    admin.create_lasting().await;
    let mut healed_rounds = 0;
    while healed_rounds < 4 && !admin.stage.is_over() {
        admin.pause(12_000).await;
        admin.client.roam();
        let name = PASSING[admin.client.below(2) as usize];
        let done = match admin.client.below(9) {
            0 | 1 => admin.create(name, 1 + (admin.client.below(2) as i32)).await,
            2 => admin.delete(name).await,
            3 => admin.grow().await,
            4 => admin.delete_records(name).await,
            5 => admin.alter_ledger().await,
            6 => admin.describe_ledger().await,
            7 => admin.retain_little(name).await,
            _ => admin.look(&[]).await,
        };
        healed_rounds += u32::from(done.is_some() && admin.stage.healed.get());
    }
    // Every topic that is there must be known to the last reading.
    while !admin.stage.is_over() && admin.look(&[]).await.is_none() {
        admin.pause(5_000).await;
        // The node that was asked may have left.
        admin.client.roam();
    }
}

impl Admin {
    fn new(stage: Rc<Stage>, client: Client) -> Admin {
        Admin {
            stage,
            client,
            segment_ms: (None, BTreeSet::new()),
            altered_at: 0,
            told_gone: BTreeSet::new(),
        }
    }

    async fn create_lasting(&mut self) {
        while !self.stage.is_over() && !self.stage.has_lasting_topics() {
            self.pause(2_000).await;
            self.client.roam();
            if !self.stage.knows(LEDGER) {
                self.create(LEDGER, 2).await;
            }
            self.look(&[LEDGER, AUTO]).await;
        }
    }

    async fn pause(&self, us_max: u64) {
        let us = self.client.below(us_max) * self.stage.pace;
        self.client.core.sleep(Duration::from_micros(us)).await;
    }

    async fn create(&mut self, name: &str, partitions: i32) -> Option<()> {
        let config = |name: &str, value: String| CreatableTopicConfig {
            name: Str::copied(name),
            value: Some(value.into()),
        };
        let segment_ms = 1 + self.client.below(40);
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::copied(name),
                num_partitions: partitions,
                replication_factor: self.stage.nodes.len().min(REPLICAS) as i16,
                configs: vec![
                    config("segment.ms", segment_ms.to_string()),
                    config("max.message.bytes", (OVERSIZED_BYTES - 500).to_string()),
                ],
                ..CreatableTopic::default()
            }],
            timeout_ms: 1_000,
            ..CreateTopicsRequest::default()
        };
        let version = self.client.version::<CreateTopicsRequest>(7);
        self.stage
            .history()
            .tell(|| format!("creates {name} with {partitions} partitions"));
        let response = self.client.call(&request, version).await?;
        let answer = &response.topics[0];
        let code = self.stage.history().code("CreateTopics", answer.error_code);
        if code == ErrorCode::NONE {
            self.stage.history().count("topics created");
            self.stage.add_topic(name, answer.topic_id, partitions);
        }
        code.ok().ok()
    }

    async fn delete(&mut self, name: &str) -> Option<()> {
        let (id, _) = self.stage.topic(name)?;
        let state = DeleteTopicState {
            name: None,
            topic_id: id,
        };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            timeout_ms: 1_000,
            ..DeleteTopicsRequest::default()
        };
        self.stage.history().deleting(id);
        self.stage
            .history()
            .tell(|| format!("deletes {name} ({id})"));
        let version = self.client.version::<DeleteTopicsRequest>(6);
        let response = self.client.call(&request, version).await?;
        let code = self
            .stage
            .history()
            .code("DeleteTopics", response.responses[0].error_code);
        // What is unknown was deleted by an attempt whose answer was lost.
        let unknown = code == ErrorCode::UNKNOWN_TOPIC_ID;
        if code == ErrorCode::NONE || (unknown && !self.stage.is_cluster()) {
            self.stage.history().deleted(id);
            self.told_gone.insert((self.client.at, id));
        }
        if code == ErrorCode::NONE || unknown {
            self.stage.remove_topic(id);
        }
        Some(())
    }

    async fn grow(&mut self) -> Option<()> {
        let name = [AUTO, PASSING[0]][self.client.below(2) as usize];
        let (id, partitions) = self.stage.topic(name)?;
        let count = partitions + 1;
        if count > PARTITIONS_MAX {
            return Some(());
        }
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: Str::copied(name),
                count,
                assignments: None,
            }],
            timeout_ms: 1_000,
            validate_only: false,
        };
        let version = self.client.version::<CreatePartitionsRequest>(0);
        let response = self.client.call(&request, version).await?;
        let code = self
            .stage
            .history()
            .code("CreatePartitions", response.results[0].error_code);
        if code == ErrorCode::NONE {
            self.stage.history().count("topics grown");
            self.stage.add_topic(name, id, count);
        }
        Some(())
    }

    async fn delete_records(&mut self, name: &str) -> Option<()> {
        let (id, partitions) = self.stage.topic(name)?;
        let place: Place = (id, self.client.below(partitions as u64) as i32);
        let before = self.stage.history().floor(place);
        if before.high_watermark == 0 {
            return None;
        }
        let offset = 1 + self.client.below(before.high_watermark as u64) as i64;
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: Str::copied(name),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: place.1,
                    offset,
                }],
            }],
            timeout_ms: 1_000,
        };
        let led = self.stage.go_to_leader(&mut self.client, name, place);
        if !led.await {
            return None;
        }
        self.stage.history().deletable(place, offset);
        let version = self.client.version::<DeleteRecordsRequest>(0);
        let response = self.client.call(&request, version).await?;
        let answer = &response.topics[0].partitions[0];
        self.stage.follow(&mut self.client, answer.error_code);
        let mut history = self.stage.history();
        if history.code("DeleteRecords", answer.error_code) == ErrorCode::NONE {
            let told = Floor {
                high_watermark: -1,
                log_start: answer.low_watermark,
                leader_epoch: -1,
            };
            history.stands(
                "DeleteRecords",
                place,
                Floor {
                    log_start: offset,
                    ..before
                },
                told,
            );
            history.count("records deleted");
        }
        Some(())
    }

    async fn alter(&mut self, name: &str, configs: &[(&str, String)]) -> Option<ErrorCode> {
        let config = |(name, value): &(&str, String)| IncrementalAlterableConfig {
            name: Str::copied(name),
            config_operation: SET,
            value: Some(Str::copied(value)),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![IncrementalAlterConfigsResource {
                resource_type: TOPIC,
                resource_name: Str::copied(name),
                configs: configs.iter().map(config).collect(),
            }],
            validate_only: false,
        };
        let version = self.client.version::<IncrementalAlterConfigsRequest>(0);
        let response = self.client.call(&request, version).await?;
        let code = response.responses[0].error_code;
        Some(self.stage.history().code("IncrementalAlterConfigs", code))
    }

    async fn alter_ledger(&mut self) -> Option<()> {
        let value = (1 + self.client.below(1_000)).to_string();
        self.segment_ms.1.insert(value.clone());
        let code = self.alter(LEDGER, &[("segment.ms", value.clone())]).await?;
        if code == ErrorCode::NONE {
            self.altered_at = self.client.at;
            self.segment_ms.0 = Some(value);
            // Of a cluster, one that was held up between nodes may still come.
            if !self.stage.is_cluster() {
                self.segment_ms.1.clear();
            }
        }
        code.ok().ok()
    }

    async fn describe_ledger(&mut self) -> Option<()> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: Str::copied(LEDGER),
                configuration_keys: Some(vec![Str::copied("segment.ms")]),
            }],
            ..DescribeConfigsRequest::default()
        };
        let version = self.client.version::<DescribeConfigsRequest>(1);
        let response = self.client.call(&request, version).await?;
        let answer = &response.results[0];
        self.stage
            .history()
            .code("DescribeConfigs", answer.error_code)
            .ok()
            .ok()?;
        let value = answer.configs.first()?.value.as_ref()?.as_str();
        if self.client.at != self.altered_at {
            return Some(());
        }
        let (acked, unknown) = &self.segment_ms;
        let right = acked.as_deref().is_none_or(|acked| acked == value) || unknown.contains(value);
        if !right {
            let what = format!(
                "segment.ms is {value}; {acked:?} was acknowledged, {unknown:?} sent since"
            );
            self.stage.history().violate(Violation::MetadataWrong, what);
        }
        Some(())
    }

    /// Retention by time and size on a topic that may lose records.
    async fn retain_little(&mut self, name: &str) -> Option<()> {
        let (id, _) = self.stage.topic(name)?;
        self.stage.retains_little(name);
        self.may_be_deleted(id);
        let config = match self.client.below(2) {
            0 => ("retention.ms", "1".to_owned()),
            _ => ("retention.bytes", "2000".to_owned()),
        };
        self.alter(name, &[config, ("segment.ms", "1".to_owned())])
            .await?;
        self.stage.history().count("retention set");
        Some(())
    }

    fn may_be_deleted(&self, id: Uuid) {
        for partition in 0..PARTITIONS_MAX {
            self.stage.history().deletable((id, partition), i64::MAX);
        }
    }

    /// The metadata of these topics (created if they may be), or of all. What it says of topics is taken over.
    async fn look(&mut self, names: &[&str]) -> Option<()> {
        let topic = |name: &&str| MetadataRequestTopic {
            name: Some(Str::copied(name)),
            topic_id: Uuid::nil(),
        };
        let request = MetadataRequest {
            topics: (!names.is_empty()).then(|| names.iter().map(topic).collect()),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        let at = self.client.at;
        let gone = self.stage.history().gone();
        let known = match self.stage.is_cluster() {
            true => BTreeMap::new(),
            false => self.stage.topics(),
        };
        let floors = self.stage.floors();
        let version = self.client.version::<MetadataRequest>(10);
        let response = self.client.call(&request, version).await?;
        for topic in &response.topics {
            let name = topic.name.as_deref().unwrap_or_default();
            let code = self.stage.history().code("Metadata", topic.error_code);
            if code != ErrorCode::NONE {
                continue;
            }
            if gone.contains(&topic.topic_id) && !self.told_gone.contains(&(at, topic.topic_id)) {
                continue;
            }
            if gone.contains(&topic.topic_id) {
                let what = format!("{name} ({}) is back after its deletion", topic.topic_id);
                self.stage.history().violate(Violation::MetadataWrong, what);
            }
            for partition in &topic.partitions {
                let place = (topic.topic_id, partition.partition_index);
                let before = floors.get(&place).copied().unwrap_or_default();
                let leader_epoch = partition.leader_epoch;
                if let Some(leader) = self.stage.node_of(partition.leader_id) {
                    self.stage.history().leads(place, leader_epoch, leader);
                }
                // Every node hears of a leader in its own time.
                if self.stage.is_cluster() {
                    continue;
                }
                let told = Floor {
                    high_watermark: -1,
                    log_start: -1,
                    leader_epoch,
                };
                self.stage.history().stands("Metadata", place, before, told);
            }
            if !name.starts_with("__") {
                let count = topic.partitions.len() as i32;
                let counted = self.stage.topic(name);
                let counted = counted.filter(|(id, _)| *id == topic.topic_id);
                let count = counted.map_or(count, |(_, counted)| count.max(counted));
                self.stage.add_topic(name, topic.topic_id, count);
                // A config goes to who has the name when it arrives, perhaps one whose creation was not answered.
                if self.stage.may_retain_little(name) {
                    self.may_be_deleted(topic.topic_id);
                }
            }
        }
        for (name, (id, partitions)) in known.into_iter().filter(|_| names.is_empty()) {
            let found = response.topics.iter().find(|topic| topic.topic_id == id);
            let count = found.map_or(0, |topic| topic.partitions.len() as i32);
            if count < partitions && !self.stage.history().is_doomed(id) {
                let what = format!("{name} ({id}) had {partitions} partitions and has {count}");
                self.stage.history().violate(Violation::MetadataWrong, what);
            }
        }
        Some(())
    }
}
