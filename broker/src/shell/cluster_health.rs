//! `corelane cluster health`: whether anything is wrong with the cluster, and what.
//!
//! Every node that should serve is asked for itself: one that is cut off from the others answers
//! its clients from what it knew before, and would call itself healthy.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResource, MetadataResponse, MetadataResponsePartition,
};
use serde_json::{Value, json};

use super::arguments::HealthArguments;
use super::client::{Client, topic_name};
use super::cluster::{Node, described, nodes};
use super::error::{ShellError, check, plain};
use super::output::Output;
use super::topic::{DESCRIBE_CONFIGS_NEWEST, TOPIC_RESOURCE};
use super::under_way::UnderWay;

/// Topics whose configs are asked for at a time.
const TOPICS_AT_A_TIME: usize = 500;
/// Partitions that a reason names; the others are counted.
const NAMED_MAX: usize = 5;
/// Pause before a cluster that is not healthy is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) fn run(
    arguments: &HealthArguments,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let began = Instant::now();
    let spinner = ProgressBar::new_spinner();
    let health = loop {
        let looked = look(arguments);
        let is_over = began.elapsed() >= arguments.wait;
        match looked {
            Ok(health) if is_over || health.reasons.is_empty() => break health,
            Err(error) if is_over => return Err(error),
            Ok(health) => spinner.set_message(health.reasons[0].sentence.clone()),
            Err(error) => spinner.set_message(error.to_string()),
        }
        spinner.tick();
        std::thread::sleep(LOOK_EVERY);
    };
    spinner.finish_and_clear();
    output.show(arguments.format.format, || health.text(), || health.json())?;
    output.flush()?;
    match health.reasons.len() {
        0 => Ok(()),
        reasons => Err(ShellError::Degraded { reasons }),
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reason {
    /// For programs.
    kind: &'static str,
    sentence: String,
}

struct Health {
    nodes: usize,
    partitions: usize,
    reasons: Vec<Reason>,
    /// What the cluster does, and is not wrong.
    under_way: Vec<String>,
}

impl Health {
    fn text(&self) -> String {
        let mut text = match self.reasons.len() {
            0 => "healthy".to_owned(),
            _ => "degraded".to_owned(),
        };
        text += &format!(": {} nodes, {} partitions\n", self.nodes, self.partitions);
        for reason in &self.reasons {
            text += &format!("  {}\n", reason.sentence);
        }
        for sentence in &self.under_way {
            text += &format!("  under way: {sentence}\n");
        }
        text
    }

    fn json(&self) -> Value {
        let reason = |reason: &Reason| json!({"kind": reason.kind, "what": reason.sentence});
        json!({
            "state": if self.reasons.is_empty() { "healthy" } else { "degraded" },
            "nodes": self.nodes,
            "partitions": self.partitions,
            "reasons": self.reasons.iter().map(reason).collect::<Vec<_>>(),
            "under_way": self.under_way,
        })
    }
}

fn look(arguments: &HealthArguments) -> Result<Health, ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let metadata = client.metadata(None, false)?;
    let nodes = nodes(&metadata, &described(&mut client)?);
    let serving = nodes.iter().filter(|node| !node.fenced);
    let opinions = serving.map(|node| (node.id, controller_of(&mut client, node.id)));
    let opinions = opinions.collect();
    let min_in_sync = min_in_sync(&mut client, &metadata)?;
    let under_way = UnderWay::ask(&mut client)?;
    let replicas = |id| {
        let known = nodes.iter().find(|node| node.id == id);
        known.map_or(0, |node| node.replicas)
    };
    let mut reasons = missing(nodes.len(), arguments.nodes);
    reasons.extend(judge(
        &metadata,
        &nodes,
        &opinions,
        &min_in_sync,
        &under_way,
    ));
    Ok(Health {
        nodes: nodes.len(),
        partitions: metadata
            .topics
            .iter()
            .map(|topic| topic.partitions.len())
            .sum(),
        reasons,
        under_way: under_way.sentences(replicas),
    })
}

/// Nodes that the operator expects and that the cluster has never heard of.
fn missing(known: usize, expected: Option<usize>) -> Vec<Reason> {
    let expected = expected.filter(|expected| known < *expected);
    let reason = expected.map(|expected| Reason {
        kind: "node_missing",
        sentence: format!("{known} of {expected} nodes have registered"),
    });
    reason.into_iter().collect()
}

/// Whom a node takes for the controller, or why it does not say.
fn controller_of(client: &mut Client, node: i32) -> Result<i32, String> {
    let said = |error: ShellError| match error {
        ShellError::NodeUnreachable { address, error, .. }
        | ShellError::Lost { address, error } => format!("{address}, {}", plain(&error)),
        error => error.to_string(),
    };
    let connection = client.node(node).map_err(said)?;
    let request = super::cluster::describe_request();
    let asked = connection.call(&request, super::cluster::DESCRIBE_CLUSTER_NEWEST);
    asked.map(|answer| answer.controller_id).map_err(said)
}

/// `min.insync.replicas` of each topic.
fn min_in_sync(
    client: &mut Client,
    metadata: &MetadataResponse,
) -> Result<BTreeMap<String, usize>, ShellError> {
    let names: Vec<String> = metadata.topics.iter().map(topic_name).collect();
    let mut found = BTreeMap::new();
    for names in names.chunks(TOPICS_AT_A_TIME) {
        let resource = |name: &String| DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: name.clone().into(),
            configuration_keys: Some(vec!["min.insync.replicas".into()]),
        };
        let request = DescribeConfigsRequest {
            resources: names.iter().map(resource).collect(),
            include_synonyms: false,
            include_documentation: false,
        };
        for result in client.ask(&request, DESCRIBE_CONFIGS_NEWEST)?.results {
            let name = String::from(&result.resource_name);
            // A topic that was deleted in between is nobody's trouble.
            if result.error_code == protocol::ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                continue;
            }
            let what = || format!("read the configs of topic {name}");
            check(what, result.error_code, result.error_message.as_deref())?;
            let value = result
                .configs
                .first()
                .and_then(|config| config.value.as_ref());
            let value = value.and_then(|value| value.as_str().parse().ok());
            found.insert(name, value.unwrap_or(1));
        }
    }
    Ok(found)
}

/// Everything that is wrong. `opinions`: whom each node takes for the controller.
fn judge(
    metadata: &MetadataResponse,
    nodes: &[Node],
    opinions: &BTreeMap<i32, Result<i32, String>>,
    min_in_sync: &BTreeMap<String, usize>,
    under_way: &UnderWay,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut reason = |kind, sentence| reasons.push(Reason { kind, sentence });
    for node in nodes.iter().filter(|node| node.fenced) {
        let (id, address) = (node.id, &node.address);
        reason(
            "node_fenced",
            format!("node {id} at {address} is not heard of by the others"),
        );
    }
    let mut controllers: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (node, opinion) in opinions {
        match opinion {
            Ok(controller) => controllers.entry(*controller).or_default().push(*node),
            Err(why) => reason(
                "node_silent",
                format!("node {node} does not answer at {why}"),
            ),
        }
    }
    match controllers.len() {
        1 if controllers.contains_key(&-1) => {
            reason(
                "no_controller",
                "no node leads the cluster's metadata".to_owned(),
            );
        }
        0 | 1 => {}
        _ => {
            let told = controllers
                .iter()
                .map(|(controller, nodes)| match controller {
                    -1 => format!("{nodes:?} know of none"),
                    controller => format!("{nodes:?} follow node {controller}"),
                });
            let told: Vec<String> = told.collect();
            let told = told.join(", ");
            reason(
                "disagreement",
                format!("the nodes do not agree who leads the metadata: {told}"),
            );
        }
    }
    let mut partitions = |kind, what: &str, is_so: &dyn Fn(&Placed) -> bool| {
        let found = placed(metadata)
            .filter(|one| is_so(one))
            .map(|one| one.name());
        let found: Vec<String> = found.collect();
        if !found.is_empty() {
            reason(kind, counted(&found, what));
        }
    };
    let below = |one: &Placed| {
        min_in_sync
            .get(&one.topic)
            .is_some_and(|min| one.in_sync() < *min)
    };
    partitions("no_leader", "without leader", &|one| {
        one.partition.leader_id < 0
    });
    partitions(
        "below_min_insync",
        "below min.insync.replicas: acks=all is refused",
        &below,
    );
    partitions("under_replicated", "under-replicated", &|one| {
        one.in_sync() < under_way.due(&one.topic, one.partition)
    });
    reasons
}

/// A partition with the name of its topic.
struct Placed<'a> {
    topic: String,
    partition: &'a MetadataResponsePartition,
}

impl Placed<'_> {
    fn name(&self) -> String {
        format!("{}-{}", self.topic, self.partition.partition_index)
    }

    fn in_sync(&self) -> usize {
        self.partition.isr_nodes.len()
    }
}

fn placed(metadata: &MetadataResponse) -> impl Iterator<Item = Placed<'_>> {
    metadata.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| Placed {
            topic: topic_name(topic),
            partition,
        })
    })
}

/// `7 partitions without leader: a-0, a-1, ...`
fn counted(names: &[String], what: &str) -> String {
    let count = names.len();
    let noun = if count == 1 {
        "partition"
    } else {
        "partitions"
    };
    let more = if count > NAMED_MAX { ", ..." } else { "" };
    let named = names[..count.min(NAMED_MAX)].join(", ");
    format!("{count} {noun} {what}: {named}{more}")
}

#[cfg(test)]
mod tests {
    use protocol::messages::{DescribeClusterBroker, MetadataResponseTopic};

    use super::*;

    /// Partitions of the topic `t` on nodes 1 to 3, by leader and nodes in sync.
    fn metadata(partitions: &[(i32, &[i32])]) -> MetadataResponse {
        let partitions = partitions.iter().enumerate();
        let partition =
            |(index, (leader, in_sync)): (usize, &(i32, &[i32]))| MetadataResponsePartition {
                partition_index: index as i32,
                leader_id: *leader,
                replica_nodes: vec![1, 2, 3],
                isr_nodes: in_sync.to_vec(),
                ..MetadataResponsePartition::default()
            };
        MetadataResponse {
            topics: vec![MetadataResponseTopic {
                name: Some("t".into()),
                partitions: partitions.map(partition).collect(),
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponse::default()
        }
    }

    fn judged(
        metadata: &MetadataResponse,
        fenced: &[i32],
        opinions: &[(i32, Result<i32, String>)],
    ) -> Vec<Reason> {
        let broker = |id: i32| DescribeClusterBroker {
            broker_id: id,
            host: "h".into(),
            port: 9092,
            is_fenced: fenced.contains(&id),
            ..DescribeClusterBroker::default()
        };
        let brokers: Vec<DescribeClusterBroker> = (1..=3).map(broker).collect();
        let nodes = nodes(metadata, &brokers);
        let opinions = opinions.iter().cloned().collect();
        judge(
            metadata,
            &nodes,
            &opinions,
            &BTreeMap::from([("t".to_owned(), 2)]),
            &UnderWay::default(),
        )
    }

    fn kinds(reasons: &[Reason]) -> Vec<&'static str> {
        reasons.iter().map(|reason| reason.kind).collect()
    }

    const AGREED: [(i32, Result<i32, String>); 3] = [(1, Ok(2)), (2, Ok(2)), (3, Ok(2))];

    #[test]
    fn nothing_is_wrong_with_a_whole_cluster() {
        let whole = metadata(&[(1, &[1, 2, 3]), (2, &[1, 2, 3])]);
        assert_eq!(judged(&whole, &[], &AGREED), []);
    }

    #[test]
    fn a_lost_node_leaves_partitions_under_replicated() {
        let reasons = judged(&metadata(&[(1, &[1, 2])]), &[3], &AGREED[..2]);
        assert_eq!(kinds(&reasons), ["node_fenced", "under_replicated"]);
        assert!(reasons[0].sentence.contains("node 3 at h:9092"));
        assert_eq!(reasons[1].sentence, "1 partition under-replicated: t-0");
    }

    #[test]
    fn two_lost_nodes_leave_partitions_without_leader() {
        let lost = metadata(&[(-1, [1].as_slice()); 6]);
        let reasons = judged(&lost, &[2, 3], &[(1, Ok(-1))]);
        let expected = [
            "node_fenced",
            "node_fenced",
            "no_controller",
            "no_leader",
            "below_min_insync",
            "under_replicated",
        ];
        assert_eq!(kinds(&reasons), expected);
        assert!(reasons[3].sentence.ends_with("t-4, ..."), "{reasons:?}");
        let health = Health {
            nodes: 3,
            partitions: 6,
            reasons,
            under_way: vec!["node 4 leaves".to_owned()],
        };
        assert!(
            health
                .text()
                .starts_with("degraded: 3 nodes, 6 partitions\n  node 2")
        );
        assert!(health.text().ends_with("\n  under way: node 4 leaves\n"));
        assert_eq!(health.json()["reasons"][2]["kind"], "no_controller");
        assert_eq!(health.json()["under_way"][0], "node 4 leaves");
    }

    #[test]
    fn a_node_that_never_came_is_missed() {
        assert_eq!((missing(3, None), missing(3, Some(3))), (vec![], vec![]));
        assert_eq!(kinds(&missing(2, Some(3))), ["node_missing"]);
    }

    #[test]
    fn a_node_that_lives_in_the_past_is_noticed() {
        let whole = metadata(&[(1, &[1, 2, 3])]);
        let reasons = judged(&whole, &[], &[(1, Ok(1)), (2, Ok(2)), (3, Ok(2))]);
        assert_eq!(kinds(&reasons), ["disagreement"]);
        assert!(
            reasons[0].sentence.contains("[2, 3] follow node 2"),
            "{reasons:?}"
        );
        let silent = [(1, Err("no".to_owned())), (2, Ok(2)), (3, Ok(2))];
        assert_eq!(kinds(&judged(&whole, &[], &silent)), ["node_silent"]);
    }
}
