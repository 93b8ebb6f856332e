//! `corelane partition move`: to other nodes, or back; and how far it has come.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribableLogDirTopic, DescribeLogDirsRequest,
    ReassignablePartition, ReassignableTopic,
};
use serde_json::json;

use super::arguments::PartitionMove;
use super::client::Client;
use super::error::{ShellError, check};
use super::output::Output;
use super::partition::{find, moves};
use super::table::{list, size};

const ALTER_NEWEST: i16 = 1;
const DESCRIBE_LOG_DIRS_NEWEST: i16 = 4;
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) fn run(
    arguments: &PartitionMove,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let (topic, partition) = (&arguments.topic, arguments.partition);
    let mut client = Client::connect(&arguments.client)?;
    ask(&mut client, arguments)?;
    let is_there = wait(&mut client, arguments)?;
    let found = find(&mut client, topic, partition)?;
    let outcome = match (is_there, arguments.cancel) {
        (true, false) => "has arrived",
        (true, true) => "is back",
        (false, false) => "moves",
        (false, true) => "moves back",
    };
    output.show(
        arguments.format.format,
        || {
            let replicas = list(&found.replica_nodes);
            let hint = match is_there {
                true => "",
                false => "; `corelane partition list --moving` shows when it is there",
            };
            format!("{topic}-{partition} {outcome}: replicas {replicas}{hint}\n")
        },
        || {
            json!({
                "topic": topic,
                "partition": partition,
                "outcome": outcome,
                "replicas": found.replica_nodes,
                "leader": found.leader_id,
            })
        },
    )?;
    match is_there || arguments.wait.is_zero() {
        true => Ok(()),
        false => Err(ShellError::impossible(
            format!("wait any longer for {topic}-{partition}"),
            format!(
                "it has not arrived within {:?}; it goes on.",
                arguments.wait
            ),
        )),
    }
}

fn ask(client: &mut Client, arguments: &PartitionMove) -> Result<(), ShellError> {
    let (topic, partition) = (&arguments.topic, arguments.partition);
    let wanted = ReassignablePartition {
        partition_index: partition,
        replicas: (!arguments.cancel).then(|| arguments.to.clone()),
    };
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: client.timeout_ms(),
        topics: vec![ReassignableTopic {
            name: topic.clone().into(),
            partitions: vec![wanted],
        }],
        ..AlterPartitionReassignmentsRequest::default()
    };
    let response = client.ask(&request, ALTER_NEWEST)?;
    let what = || match arguments.cancel {
        true => format!("cancel the move of {topic}-{partition}"),
        false => format!("move {topic}-{partition}"),
    };
    check(what, response.error_code, response.error_message.as_deref())?;
    for result in response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
    {
        check(what, result.error_code, result.error_message.as_deref())?;
    }
    Ok(())
}

/// Whether it has arrived, within the time that the operator gives it. A terminal sees how it goes.
fn wait(client: &mut Client, arguments: &PartitionMove) -> Result<bool, ShellError> {
    let key = (arguments.topic.clone(), arguments.partition);
    let began = Instant::now();
    let spinner = ProgressBar::new_spinner();
    let is_there = loop {
        let Some(moving) = moves(client)?.remove(&key) else {
            break true;
        };
        if began.elapsed() >= arguments.wait {
            break false;
        }
        if !spinner.is_hidden() {
            let (adding, removing) = (&moving.adding_replicas, &moving.removing_replicas);
            spinner.set_message(progress(client, &key, adding, removing));
            spinner.tick();
        }
        std::thread::sleep(LOOK_EVERY);
    };
    spinner.finish_and_clear();
    Ok(is_there)
}

/// How much each newcomer has, beside how much there is.
fn progress(client: &mut Client, key: &(String, i32), adding: &[i32], removing: &[i32]) -> String {
    let leader = find(client, &key.0, key.1).map_or(-1, |found| found.leader_id);
    let whole = bytes_on(client, leader, key);
    let mut words: Vec<String> = Vec::new();
    for node in adding {
        let has = bytes_on(client, *node, key).unwrap_or(0);
        words.push(match whole {
            Some(whole) => format!("node {node} has {} of {}", size(has), size(whole)),
            None => format!("node {node} has {}", size(has)),
        });
    }
    if adding.is_empty() || !removing.is_empty() {
        words.push(format!("{} to leave", list(removing)));
    }
    words.join(", ")
}

/// What a node stores of the partition; `None` if it does not say.
fn bytes_on(client: &mut Client, node: i32, key: &(String, i32)) -> Option<u64> {
    let topic = DescribableLogDirTopic {
        topic: key.0.clone().into(),
        partitions: vec![key.1],
    };
    let request = DescribeLogDirsRequest {
        topics: Some(vec![topic]),
    };
    let response = client
        .ask_node(node, &request, DESCRIBE_LOG_DIRS_NEWEST)
        .ok()?;
    let topics = response
        .results
        .iter()
        .flat_map(|directory| &directory.topics);
    let partitions = topics.flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| u64::try_from(partition.partition_size).unwrap_or(0))
        .next()
}
