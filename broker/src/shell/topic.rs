//! `corelane topic`: create, list, describe, delete. (`alter` is in `topic_alter`.)

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use protocol::ErrorCode;
use protocol::messages::{
    CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreateTopicsRequest,
    DeleteTopicState, DeleteTopicsRequest, DescribeConfigsRequest, DescribeConfigsResource,
    DescribeConfigsResourceResult, MetadataResponseTopic,
};
use serde_json::{Value, json};

use super::arguments::{TopicCommand, TopicCreate, TopicDelete, TopicDescribe, TopicList};
use super::client::{Client, topic_name};
use super::error::{ShellError, check};
use super::offsets::{self, Place, Wanted};
use super::output::Output;
use super::table::{Table, known, list};
use super::topic_alter;

/// The resource type of topics in the config apis.
pub(super) const TOPIC_RESOURCE: i8 = 2;

const CREATE_NEWEST: i16 = 7;
const DELETE_NEWEST: i16 = 6;
/// The first version that names topics in structs.
const DELETE_BY_STATE: i16 = 6;
pub(super) const DESCRIBE_CONFIGS_NEWEST: i16 = 4;

/// Sources of a config's value that say "nobody set it for the topic".
const CONFIG_SOURCE_TOPIC: i8 = 1;

pub(crate) fn run(
    command: TopicCommand,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    match command {
        TopicCommand::Create(arguments) => create(&arguments, output),
        TopicCommand::List(arguments) => list_topics(&arguments, output),
        TopicCommand::Describe(arguments) => describe(&arguments, output),
        TopicCommand::Alter(arguments) => topic_alter::run(&arguments, output),
        TopicCommand::Delete(arguments) => delete(&arguments, output),
    }
}

fn create(arguments: &TopicCreate, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let config = |(name, value): &(String, String)| CreatableTopicConfig {
        name: name.clone().into(),
        value: Some(value.clone().into()),
    };
    let topic = |name: &String| CreatableTopic {
        name: name.clone().into(),
        num_partitions: arguments.partitions.unwrap_or(-1),
        replication_factor: arguments.replication_factor.unwrap_or(-1),
        configs: arguments.config.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: arguments.topics.iter().map(topic).collect(),
        timeout_ms: client.timeout_ms(),
        validate_only: arguments.dry_run,
    };
    let response = client.ask(&request, CREATE_NEWEST)?;
    let mut failure = None;
    let mut created = Vec::new();
    for result in &response.topics {
        let exists = result.error_code == ErrorCode::TOPIC_ALREADY_EXISTS;
        let what = || format!("create topic {}", result.name.as_str());
        match check(what, result.error_code, result.error_message.as_deref()) {
            Ok(()) => created.push((result, "created")),
            Err(_) if exists && arguments.if_not_exists => created.push((result, "exists already")),
            // The others are reported all the same; the first failure decides the exit code.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    output.show(
        arguments.format.format,
        || {
            created
                .iter()
                .map(|(result, how)| created_line(result, how, arguments.dry_run))
                .collect()
        },
        || {
            created
                .iter()
                .map(|(result, how)| created_json(result, how))
                .collect()
        },
    )?;
    failure.map_or(Ok(()), Err)
}

fn created_line(result: &CreatableTopicResult, how: &str, dry_run: bool) -> String {
    let name = result.name.as_str();
    match (how, result.num_partitions) {
        ("created", count) if count > 0 => {
            let would = if dry_run { "would be " } else { "" };
            let factor = result.replication_factor;
            format!("topic {name} {would}created: {count} partition(s), {factor} replica(s) each\n")
        }
        _ => format!("topic {name} {how}\n"),
    }
}

fn created_json(result: &CreatableTopicResult, how: &str) -> Value {
    json!({
        "topic": result.name.as_str(),
        "id": result.topic_id.to_string(),
        "outcome": how,
        "partitions": result.num_partitions,
        "replication_factor": result.replication_factor,
    })
}

fn list_topics(arguments: &TopicList, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let mut topics = client.metadata(None, false)?.topics;
    topics.retain(|topic| arguments.internal || !topic.is_internal);
    topics.sort_by_key(topic_name);
    output.show(
        arguments.format.format,
        || {
            if topics.is_empty() {
                return "no topics; `corelane topic create NAME` makes one\n".to_owned();
            }
            let mut table = Table::new(&["TOPIC", ">PARTITIONS", ">REPLICAS", "STATE"]);
            for topic in &topics {
                let replicas = replication_factor(topic).to_string();
                let count = topic.partitions.len().to_string();
                table.row([topic_name(topic), count, replicas, state(topic)]);
            }
            table.to_string()
        },
        || {
            let json = |topic: &MetadataResponseTopic| {
                json!({
                    "topic": topic_name(topic),
                    "id": topic.topic_id.to_string(),
                    "internal": topic.is_internal,
                    "partitions": topic.partitions.len(),
                    "replication_factor": replication_factor(topic),
                    "state": state(topic),
                })
            };
            topics.iter().map(json).collect()
        },
    )?;
    Ok(())
}

fn replication_factor(topic: &MetadataResponseTopic) -> usize {
    topic
        .partitions
        .iter()
        .map(|partition| partition.replica_nodes.len())
        .max()
        .unwrap_or(0)
}

/// Healthy, or how many partitions are not.
fn state(topic: &MetadataResponseTopic) -> String {
    let partitions = &topic.partitions;
    let leaderless = partitions
        .iter()
        .filter(|partition| partition.leader_id < 0)
        .count();
    let behind = partitions
        .iter()
        .filter(|partition| partition.isr_nodes.len() < partition.replica_nodes.len())
        .count();
    match (leaderless, behind) {
        (0, 0) => "healthy".to_owned(),
        (0, behind) => format!("{behind} under-replicated"),
        (leaderless, _) => format!("{leaderless} without leader"),
    }
}

/// Everything that `describe` shows of one topic.
struct Description {
    topic: MetadataResponseTopic,
    starts: BTreeMap<Place, i64>,
    ends: BTreeMap<Place, i64>,
    configs: Vec<DescribeConfigsResourceResult>,
}

fn describe(arguments: &TopicDescribe, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let mut descriptions = Vec::new();
    for topic in client.metadata(Some(&arguments.topics), false)?.topics {
        let name = topic_name(&topic);
        check(|| format!("describe topic {name}"), topic.error_code, None)?;
        let led: Vec<Place> = topic
            .partitions
            .iter()
            .filter(|partition| partition.leader_id >= 0)
            .map(|partition| (name.clone(), partition.partition_index))
            .collect();
        let starts = offsets::list(&mut client, &led, Wanted::Start)?;
        let ends = offsets::list(&mut client, &led, Wanted::End)?;
        let mut configs = topic_configs(&mut client, &name)?;
        configs
            .retain(|config| arguments.all_configs || config.config_source == CONFIG_SOURCE_TOPIC);
        descriptions.push(Description {
            topic,
            starts,
            ends,
            configs,
        });
    }
    output.show(
        arguments.format.format,
        || {
            let texts: Vec<String> = descriptions.iter().map(Description::text).collect();
            texts.join("\n")
        },
        || descriptions.iter().map(Description::json).collect(),
    )?;
    Ok(())
}

/// The configs of one topic, as the broker sees them.
fn topic_configs(
    client: &mut Client,
    name: &str,
) -> Result<Vec<DescribeConfigsResourceResult>, ShellError> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: name.to_owned().into(),
            configuration_keys: None,
        }],
        include_synonyms: false,
        include_documentation: false,
    };
    let response = client.ask(&request, DESCRIBE_CONFIGS_NEWEST)?;
    let Some(mut result) = response.results.into_iter().next() else {
        return Ok(Vec::new());
    };
    let message = result.error_message.as_deref();
    check(
        || format!("read the configs of {name}"),
        result.error_code,
        message,
    )?;
    result
        .configs
        .sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    Ok(result.configs)
}

impl Description {
    fn text(&self) -> String {
        let name = topic_name(&self.topic);
        let mut text = format!(
            "topic {name}\n  id            {}\n  partitions    {}\n  replicas      {}\n  \
             state         {}\n",
            self.topic.topic_id,
            self.topic.partitions.len(),
            replication_factor(&self.topic),
            state(&self.topic),
        );
        let heads = [
            ">PARTITION",
            ">LEADER",
            ">EPOCH",
            "REPLICAS",
            "IN SYNC",
            ">START",
            ">END",
            ">RECORDS",
        ];
        let mut table = Table::new(&heads);
        for partition in &self.topic.partitions {
            let (start, end) = self.bounds(partition.partition_index);
            table.row([
                partition.partition_index.to_string(),
                known(Some(partition.leader_id.into()).filter(|leader| *leader >= 0)),
                partition.leader_epoch.to_string(),
                list(&partition.replica_nodes),
                list(&partition.isr_nodes),
                known(start),
                known(end),
                known(start.zip(end).map(|(start, end)| end - start)),
            ]);
        }
        let _ = write!(text, "\n{table}");
        if !self.configs.is_empty() {
            let mut table = Table::new(&["CONFIG", "VALUE", "SOURCE"]);
            for config in &self.configs {
                let value = config.value.as_ref().map_or("-".to_owned(), String::from);
                let source = source_name(config.config_source).to_owned();
                table.row([String::from(&config.name), value, source]);
            }
            let _ = write!(text, "\n{table}");
        }
        text
    }

    fn json(&self) -> Value {
        let partitions: Vec<Value> = self
            .topic
            .partitions
            .iter()
            .map(|partition| {
                let (start, end) = self.bounds(partition.partition_index);
                json!({
                    "partition": partition.partition_index,
                    "leader": partition.leader_id,
                    "leader_epoch": partition.leader_epoch,
                    "replicas": partition.replica_nodes,
                    "in_sync_replicas": partition.isr_nodes,
                    "offline_replicas": partition.offline_replicas,
                    "start_offset": start,
                    "end_offset": end,
                })
            })
            .collect();
        let configs: Vec<Value> = self
            .configs
            .iter()
            .map(|config| {
                json!({
                    "name": config.name.as_str(),
                    "value": config.value.as_deref(),
                    "source": source_name(config.config_source),
                })
            })
            .collect();
        json!({
            "topic": topic_name(&self.topic),
            "id": self.topic.topic_id.to_string(),
            "internal": self.topic.is_internal,
            "partitions": partitions,
            "configs": configs,
        })
    }

    fn bounds(&self, partition: i32) -> (Option<i64>, Option<i64>) {
        let place = (topic_name(&self.topic), partition);
        (
            self.starts.get(&place).copied(),
            self.ends.get(&place).copied(),
        )
    }
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "broker, dynamic",
        3 => "cluster, dynamic",
        4 => "broker, static",
        5 => "default",
        _ => "unknown",
    }
}

fn delete(arguments: &TopicDelete, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let by_state = client
        .first()
        .version::<DeleteTopicsRequest>(DELETE_NEWEST)?
        >= DELETE_BY_STATE;
    let names = || arguments.topics.iter().map(|name| name.clone().into());
    let state = |name| DeleteTopicState {
        name: Some(name),
        ..DeleteTopicState::default()
    };
    let request = DeleteTopicsRequest {
        topics: if by_state {
            names().map(state).collect()
        } else {
            Vec::new()
        },
        topic_names: if by_state {
            Vec::new()
        } else {
            names().collect()
        },
        timeout_ms: client.timeout_ms(),
    };
    let response = client.ask(&request, DELETE_NEWEST)?;
    let mut failure = None;
    let mut outcomes = Vec::new();
    for result in &response.responses {
        let name = result.name.as_ref().map(String::from).unwrap_or_default();
        let unknown = result.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let what = || format!("delete topic {name}");
        match check(what, result.error_code, result.error_message.as_deref()) {
            Ok(()) => outcomes.push((name, "deleted")),
            Err(_) if unknown && arguments.if_exists => outcomes.push((name, "does not exist")),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    output.show(
        arguments.format.format,
        || {
            outcomes
                .iter()
                .map(|(name, outcome)| format!("topic {name} {outcome}\n"))
                .collect()
        },
        || {
            outcomes
                .iter()
                .map(|(name, how)| json!({"topic": name, "outcome": how}))
                .collect()
        },
    )?;
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use protocol::messages::MetadataResponsePartition;

    use super::*;

    fn topic(partitions: &[(i32, usize)]) -> MetadataResponseTopic {
        let partition = |(leader_id, in_sync): &(i32, usize)| MetadataResponsePartition {
            leader_id: *leader_id,
            replica_nodes: vec![1, 2, 3],
            isr_nodes: vec![1, 2, 3][..*in_sync].to_vec(),
            ..MetadataResponsePartition::default()
        };
        MetadataResponseTopic {
            partitions: partitions.iter().map(partition).collect(),
            ..MetadataResponseTopic::default()
        }
    }

    #[test]
    fn the_worst_thing_about_a_topic_is_its_state() {
        assert_eq!(state(&topic(&[(1, 3), (2, 3)])), "healthy");
        assert_eq!(state(&topic(&[(1, 3), (2, 2)])), "1 under-replicated");
        assert_eq!(state(&topic(&[(-1, 1), (2, 2)])), "1 without leader");
        assert_eq!(replication_factor(&topic(&[(1, 3)])), 3);
        assert_eq!(replication_factor(&topic(&[])), 0);
    }

    #[test]
    fn a_description_has_a_row_for_each_partition() {
        let mut described = topic(&[(1, 3), (-1, 0)]);
        described.name = Some("t".into());
        described.partitions[1].partition_index = 1;
        let description = Description {
            topic: described,
            starts: BTreeMap::from([(("t".to_owned(), 0), 5)]),
            ends: BTreeMap::from([(("t".to_owned(), 0), 9)]),
            configs: vec![DescribeConfigsResourceResult {
                name: "retention.ms".into(),
                value: Some("1".into()),
                config_source: 1,
                ..DescribeConfigsResourceResult::default()
            }],
        };
        let text = description.text();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(
            rows.contains(&vec!["0", "1", "-1", "1,2,3", "1,2,3", "5", "9", "4"]),
            "{text}"
        );
        assert!(
            rows.contains(&vec!["1", "-", "-1", "1,2,3", "-", "-", "-", "-"]),
            "{text}"
        );
        assert!(rows.contains(&vec!["retention.ms", "1", "topic"]), "{text}");
        let json = description.json();
        assert_eq!(json["partitions"][0]["end_offset"], 9);
        assert_eq!(json["partitions"][1]["end_offset"], Value::Null);
    }
}
