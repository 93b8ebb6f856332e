//! `corelane partition list` and `transfer`. (`move` is in `partition_move`, `recover` in `partition_recover`.)

use std::collections::BTreeMap;
use std::io::Write;

use protocol::ErrorCode;
use protocol::messages::{
    ElectLeadersRequest, ElectLeadersTopicPartitions, ListPartitionReassignmentsRequest,
    MetadataResponse, MetadataResponsePartition, OngoingPartitionReassignment,
};
use serde_json::{Value, json};

use super::arguments::{PartitionCommand, PartitionList, PartitionTransfer};
use super::client::{Client, topic_name};
use super::error::{ShellError, check};
use super::orders::Order;
use super::output::Output;
use super::table::{Table, known, list};
use super::{partition_move, partition_recover};

const ELECT_LEADERS_NEWEST: i16 = 2;
const LIST_REASSIGNMENTS_NEWEST: i16 = 0;

pub(crate) fn run(
    command: PartitionCommand,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    match command {
        PartitionCommand::List(arguments) => list_partitions(&arguments, output),
        PartitionCommand::Move(arguments) => partition_move::run(&arguments, output),
        PartitionCommand::Transfer(arguments) => transfer(&arguments, output),
        PartitionCommand::Recover(arguments) => partition_recover::run(&arguments, output),
        PartitionCommand::Recoveries(arguments) => partition_recover::list(&arguments, output),
    }
}

/// What is on its way, by topic and partition.
pub(super) fn moves(
    client: &mut Client,
) -> Result<BTreeMap<(String, i32), OngoingPartitionReassignment>, ShellError> {
    let request = ListPartitionReassignmentsRequest {
        timeout_ms: client.timeout_ms(),
        topics: None,
    };
    let response = client.ask(&request, LIST_REASSIGNMENTS_NEWEST)?;
    let what = || "read what is being moved".to_owned();
    check(what, response.error_code, response.error_message.as_deref())?;
    let mut moves = BTreeMap::new();
    for topic in response.topics {
        let name = String::from(&topic.name);
        let partitions = topic.partitions.into_iter();
        moves.extend(partitions.map(|moving| ((name.clone(), moving.partition_index), moving)));
    }
    Ok(moves)
}

/// A partition and what is to be known of it.
struct Row {
    topic: String,
    partition: MetadataResponsePartition,
    moving: Option<OngoingPartitionReassignment>,
}

impl Row {
    fn is_offline(&self) -> bool {
        self.partition.leader_id < 0
    }

    /// Somebody is missing; who is on its way in is not.
    fn is_under_replicated(&self) -> bool {
        let coming = self
            .moving
            .as_ref()
            .map_or(0, |moving| moving.adding_replicas.len());
        self.partition.isr_nodes.len() + coming < self.partition.replica_nodes.len()
    }

    fn state(&self) -> String {
        let mut words = Vec::new();
        if self.is_offline() {
            words.push("no leader".to_owned());
        } else if self.is_under_replicated() {
            words.push("under-replicated".to_owned());
        }
        if let Some(moving) = &self.moving {
            let (adding, removing) = (&moving.adding_replicas, &moving.removing_replicas);
            words.push(match (adding.is_empty(), removing.is_empty()) {
                (_, true) => format!("moving to {}", list(adding)),
                (true, false) => format!("moving from {}", list(removing)),
                (false, false) => format!("moving from {} to {}", list(removing), list(adding)),
            });
        }
        match words.is_empty() {
            true => "healthy".to_owned(),
            false => words.join(", "),
        }
    }

    fn json(&self) -> Value {
        let partition = &self.partition;
        let moving = self.moving.as_ref();
        json!({
            "topic": self.topic,
            "partition": partition.partition_index,
            "leader": partition.leader_id,
            "leader_epoch": partition.leader_epoch,
            "replicas": partition.replica_nodes,
            "in_sync_replicas": partition.isr_nodes,
            "offline_replicas": partition.offline_replicas,
            "adding_replicas": moving.map_or(Vec::new(), |moving| moving.adding_replicas.clone()),
            "removing_replicas": moving.map_or(Vec::new(), |moving| moving.removing_replicas.clone()),
            "state": self.state(),
        })
    }
}

/// All partitions, in order.
fn rows(
    metadata: MetadataResponse,
    mut moves: BTreeMap<(String, i32), OngoingPartitionReassignment>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for topic in metadata.topics {
        let name = topic_name(&topic);
        for partition in topic.partitions {
            let moving = moves.remove(&(name.clone(), partition.partition_index));
            let topic = name.clone();
            rows.push(Row {
                topic,
                partition,
                moving,
            });
        }
    }
    rows.sort_by(|a, b| {
        (&a.topic, a.partition.partition_index).cmp(&(&b.topic, b.partition.partition_index))
    });
    rows
}

fn is_wanted(row: &Row, arguments: &PartitionList) -> bool {
    let node = arguments.node;
    node.is_none_or(|node| row.partition.replica_nodes.contains(&node))
        && (!arguments.offline || row.is_offline())
        && (!arguments.under_replicated || row.is_under_replicated())
        && (!arguments.moving || row.moving.is_some())
}

fn list_partitions(
    arguments: &PartitionList,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let named = (!arguments.topic.is_empty()).then_some(arguments.topic.as_slice());
    let metadata = metadata(&mut client, named)?;
    let mut rows = rows(metadata, moves(&mut client)?);
    rows.retain(|row| is_wanted(row, arguments));
    let text = || {
        if rows.is_empty() {
            return "no such partitions\n".to_owned();
        }
        let heads = [
            "TOPIC",
            ">PARTITION",
            ">LEADER",
            ">EPOCH",
            "REPLICAS",
            "IN SYNC",
            "OFFLINE",
            "STATE",
        ];
        let mut table = Table::new(&heads);
        for row in &rows {
            let partition = &row.partition;
            let number = |number: i32| known(Some(i64::from(number)).filter(|n| *n >= 0));
            table.row([
                row.topic.clone(),
                partition.partition_index.to_string(),
                number(partition.leader_id),
                number(partition.leader_epoch),
                list(&partition.replica_nodes),
                list(&partition.isr_nodes),
                list(&partition.offline_replicas),
                row.state(),
            ]);
        }
        table.to_string()
    };
    let json = || rows.iter().map(Row::json).collect();
    output.show(arguments.format.format, text, json)?;
    Ok(())
}

/// The partitions without a leader, in order: of a topic, or of all.
pub(super) fn offline(
    client: &mut Client,
    topic: Option<&str>,
) -> Result<Vec<(String, i32)>, ShellError> {
    let named = topic.map(|topic| vec![topic.to_owned()]);
    let rows = rows(metadata(client, named.as_deref())?, BTreeMap::new());
    let offline = rows.into_iter().filter(Row::is_offline);
    let places = offline.map(|row| (row.topic, row.partition.partition_index));
    Ok(places.collect())
}

/// The metadata of these topics, which there have to be, or of all.
fn metadata(client: &mut Client, named: Option<&[String]>) -> Result<MetadataResponse, ShellError> {
    let metadata = client.metadata(named, false)?;
    for topic in &metadata.topics {
        let is_unknown = topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        if is_unknown || topic.error_code == ErrorCode::INVALID_TOPIC_EXCEPTION {
            let what = format!("list partitions of {}", topic_name(topic));
            return Err(ShellError::refused(what, topic.error_code, None));
        }
    }
    Ok(metadata)
}

/// The replicas and the leader of a partition, as the cluster tells them.
pub(super) fn find(
    client: &mut Client,
    topic: &str,
    partition: i32,
) -> Result<MetadataResponsePartition, ShellError> {
    let what = || format!("find partition {topic}-{partition}");
    let metadata = client.metadata(Some(&[topic.to_owned()]), false)?;
    let mut topics = metadata.topics.into_iter();
    let found = topics
        .next()
        .ok_or_else(|| ShellError::refused(what(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None))?;
    check(what, found.error_code, None)?;
    let mut partitions = found.partitions.into_iter();
    partitions
        .find(|known| known.partition_index == partition)
        .ok_or_else(|| ShellError::refused(what(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None))
}

fn transfer(
    arguments: &PartitionTransfer,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let (topic, partition) = (&arguments.topic, arguments.partition);
    let mut client = Client::connect(&arguments.client)?;
    let found = find(&mut client, topic, partition)?;
    let preferred = found.replica_nodes.first().copied();
    let to = arguments.to.or(preferred).unwrap_or(-1);
    let leader = found.leader_id;
    let outcome = if leader == to {
        "leads already"
    } else if Some(to) == preferred {
        elect(&mut client, topic, partition)?;
        "leads now"
    } else {
        let what = format!("transfer the lead of {topic}-{partition} to node {to}");
        let order = Order::new(what, "/partitions/transfer").with("topic", topic);
        let order = order
            .with("partition", &partition.to_string())
            .with("to", &to.to_string());
        order.give(&arguments.admin)?;
        "leads now"
    };
    output.show(
        arguments.format.format,
        || {
            let back = match Some(to) == preferred {
                true => "",
                false => "; it is not the preferred leader",
            };
            format!("node {to} {outcome} {topic}-{partition}{back}\n")
        },
        || {
            json!({
                "topic": topic,
                "partition": partition,
                "from": leader,
                "leader": to,
                "preferred": preferred,
                "outcome": outcome,
            })
        },
    )?;
    Ok(())
}

/// Asks for the preferred replica to lead.
fn elect(client: &mut Client, topic: &str, partition: i32) -> Result<(), ShellError> {
    let wanted = ElectLeadersTopicPartitions {
        topic: topic.to_owned().into(),
        partitions: vec![partition],
    };
    let request = ElectLeadersRequest {
        topic_partitions: Some(vec![wanted]),
        timeout_ms: client.timeout_ms(),
        ..ElectLeadersRequest::default()
    };
    let response = client.ask(&request, ELECT_LEADERS_NEWEST)?;
    let what = || format!("transfer the lead of {topic}-{partition}");
    check(what, response.error_code, None)?;
    let results = response.replica_election_results.iter();
    for result in results.flat_map(|result| &result.partition_result) {
        if result.error_code != ErrorCode::ELECTION_NOT_NEEDED {
            check(what, result.error_code, result.error_message.as_deref())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(leader_id: i32, in_sync: &[i32]) -> Row {
        Row {
            topic: "t".to_owned(),
            partition: MetadataResponsePartition {
                leader_id,
                replica_nodes: vec![1, 2, 3],
                isr_nodes: in_sync.to_vec(),
                ..MetadataResponsePartition::default()
            },
            moving: None,
        }
    }

    fn moving(mut row: Row, adding: &[i32], removing: &[i32]) -> Row {
        row.partition.replica_nodes.extend(adding);
        row.moving = Some(OngoingPartitionReassignment {
            adding_replicas: adding.to_vec(),
            removing_replicas: removing.to_vec(),
            ..OngoingPartitionReassignment::default()
        });
        row
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        assert_eq!(row(1, &[1, 2, 3]).state(), "healthy");
        assert_eq!(row(1, &[1, 2]).state(), "under-replicated");
        assert_eq!(row(-1, &[1]).state(), "no leader");
        // Who is on its way in is not missed.
        let row = moving(row(1, &[1, 2, 3]), &[4], &[1]);
        assert_eq!(row.state(), "moving from 1 to 4");
        assert!(!row.is_under_replicated());
    }

    #[test]
    fn filters_leave_what_they_name() {
        let all = PartitionList {
            topic: Vec::new(),
            node: None,
            under_replicated: false,
            offline: false,
            moving: false,
            format: super::super::arguments::FormatArguments {
                format: super::super::output::Format::Table,
            },
            client: super::super::arguments::ClientArguments {
                bootstrap: String::new(),
                timeout: std::time::Duration::ZERO,
            },
        };
        let (healthy, offline) = (row(1, &[1, 2, 3]), row(-1, &[1]));
        let wanted = |row: &Row, arguments: &PartitionList| is_wanted(row, arguments);
        assert!(wanted(&healthy, &all) && wanted(&offline, &all));
        let only = PartitionList {
            offline: true,
            ..all
        };
        assert!(!wanted(&healthy, &only) && wanted(&offline, &only));
        let elsewhere = PartitionList {
            node: Some(9),
            offline: false,
            ..only
        };
        assert!(!wanted(&healthy, &elsewhere));
        let on_the_move = PartitionList {
            node: None,
            moving: true,
            ..elsewhere
        };
        assert!(!wanted(&healthy, &on_the_move));
        assert!(wanted(&moving(healthy, &[4], &[]), &on_the_move));
    }
}
