//! `corelane cluster status` and `nodes`: nodes, topics, partitions, features. (`health` is in
//! `cluster_health`.)

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use protocol::messages::{
    ApiVersionsResponse, DescribeClusterBroker, DescribeClusterRequest, DescribeLogDirsRequest,
    MetadataResponse, MetadataResponseTopic,
};
use serde_json::{Value, json};

use super::arguments::{ClusterCommand, StatusArguments};
use super::client::{Client, topic_name};
use super::cluster_health;
use super::decommission;
use super::error::{ShellError, check};
use super::output::Output;
use super::partition_recover;
use super::table::{Table, size};
use super::under_way::UnderWay;

const DESCRIBE_LOG_DIRS_NEWEST: i16 = 4;
/// The first version that tells of fenced nodes.
pub(super) const DESCRIBE_CLUSTER_NEWEST: i16 = 2;

pub(crate) fn run(
    command: ClusterCommand,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    match command {
        ClusterCommand::Status(arguments) => status(&arguments, output),
        ClusterCommand::Nodes(arguments) => show_nodes(&arguments, output),
        ClusterCommand::Health(arguments) => cluster_health::run(&arguments, output),
        ClusterCommand::Decommission(arguments) => decommission::run(&arguments, output),
        ClusterCommand::RecoverMetadata(arguments) => {
            partition_recover::metadata(&arguments, output)
        }
    }
}

fn show_nodes(
    arguments: &StatusArguments,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let metadata = client.metadata(None, false)?;
    let nodes = nodes(&metadata, &described(&mut client)?);
    let under_way = UnderWay::ask(&mut client)?;
    let count = |of: &BTreeMap<i32, usize>, node: &Node| of.get(&node.id).copied().unwrap_or(0);
    let controller = metadata.controller_id;
    let text = || {
        let heads = [
            ">NODE",
            "ADDRESS",
            "RACK",
            "ROLE",
            ">LEADS",
            ">REPLICAS",
            ">COMING",
            ">GOING",
            "STATE",
        ];
        let mut table = Table::new(&heads);
        for node in &nodes {
            table.row([
                node.id.to_string(),
                node.address.clone(),
                node.rack.clone().unwrap_or_else(|| "-".to_owned()),
                node.role(controller).to_owned(),
                node.leads.to_string(),
                node.replicas.to_string(),
                count(&under_way.coming, node).to_string(),
                count(&under_way.going, node).to_string(),
                match (node.fenced, under_way.leaving.contains(&node.id)) {
                    (false, false) => "heard",
                    (true, false) => "fenced",
                    (false, true) => "leaving",
                    (true, true) => "fenced, leaving",
                }
                .to_owned(),
            ]);
        }
        table.to_string()
    };
    let json = || {
        let nodes = nodes.iter().map(|node| {
            let mut json = node.json(controller);
            json["coming"] = json!(count(&under_way.coming, node));
            json["going"] = json!(count(&under_way.going, node));
            json["leaving"] = json!(under_way.leaving.contains(&node.id));
            json
        });
        nodes.collect()
    };
    output.show(arguments.format.format, text, json)?;
    Ok(())
}

/// Asks for all nodes, also those that are not heard of.
pub(super) fn describe_request() -> DescribeClusterRequest {
    DescribeClusterRequest {
        include_fenced_brokers: true,
        ..DescribeClusterRequest::default()
    }
}

/// All nodes that the cluster knows, as far as the broker tells of fenced ones.
pub(super) fn described(client: &mut Client) -> Result<Vec<DescribeClusterBroker>, ShellError> {
    let response = client.ask(&describe_request(), DESCRIBE_CLUSTER_NEWEST)?;
    let what = || "read which nodes there are".to_owned();
    check(what, response.error_code, response.error_message.as_deref())?;
    Ok(response.brokers)
}

fn status(arguments: &StatusArguments, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let metadata = client.metadata(None, false)?;
    let mut disks = BTreeMap::new();
    for broker in &metadata.brokers {
        // A node that does not answer is still part of the picture.
        if let Ok(disk) = disk_of(&mut client, broker.node_id) {
            disks.insert(broker.node_id, disk);
        }
    }
    let brokers = described(&mut client)?;
    let under_way = UnderWay::ask(&mut client)?;
    let greeting = &client.first().greeting;
    let status = Status::of(&metadata, &brokers, greeting, disks, &under_way);
    output.show(arguments.format.format, || status.text(), || status.json())?;
    Ok(())
}

/// What a node stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disk {
    used_bytes: u64,
    /// `None` if the broker does not know.
    free_bytes: Option<u64>,
}

fn disk_of(client: &mut Client, node: i32) -> Result<Disk, ShellError> {
    let request = DescribeLogDirsRequest { topics: None };
    let response = client.ask_node(node, &request, DESCRIBE_LOG_DIRS_NEWEST)?;
    let partitions = response
        .results
        .iter()
        .flat_map(|directory| &directory.topics)
        .flat_map(|topic| &topic.partitions);
    let used = partitions.map(|partition| u64::try_from(partition.partition_size).unwrap_or(0));
    let free = response
        .results
        .iter()
        .map(|directory| u64::try_from(directory.usable_bytes).ok());
    Ok(Disk {
        used_bytes: used.sum(),
        free_bytes: free.sum(),
    })
}

pub(super) struct Node {
    pub(super) id: i32,
    pub(super) address: String,
    rack: Option<String>,
    leads: usize,
    pub(super) replicas: usize,
    /// The others do not hear of it.
    pub(super) fenced: bool,
}

impl Node {
    fn role(&self, controller: i32) -> &'static str {
        match self.id == controller {
            true => "controller",
            false => "broker",
        }
    }

    fn json(&self, controller: i32) -> Value {
        json!({
            "node": self.id,
            "address": self.address,
            "rack": self.rack,
            "controller": self.id == controller,
            "leads": self.leads,
            "replicas": self.replicas,
            "fenced": self.fenced,
        })
    }
}

/// What the nodes have of the partitions, by the id of the node.
pub(super) fn nodes(metadata: &MetadataResponse, brokers: &[DescribeClusterBroker]) -> Vec<Node> {
    let partitions = || metadata.topics.iter().flat_map(|topic| &topic.partitions);
    let mut nodes: Vec<Node> = brokers
        .iter()
        .map(|broker| {
            let id = broker.broker_id;
            let has = |nodes: &[i32]| nodes.contains(&id);
            Node {
                id,
                address: format!("{}:{}", broker.host.as_str(), broker.port),
                rack: broker.rack.as_ref().map(String::from),
                leads: partitions().filter(|p| p.leader_id == id).count(),
                replicas: partitions().filter(|p| has(&p.replica_nodes)).count(),
                fenced: broker.is_fenced,
            }
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    nodes
}

struct Status {
    cluster_id: Option<String>,
    controller: i32,
    nodes: Vec<Node>,
    /// Of the nodes that answered.
    disks: BTreeMap<i32, Disk>,
    topics: usize,
    internal_topics: usize,
    partitions: usize,
    leaderless: usize,
    under_replicated: usize,
    features: Vec<(String, i16)>,
}

impl Status {
    fn of(
        metadata: &MetadataResponse,
        brokers: &[DescribeClusterBroker],
        greeting: &ApiVersionsResponse,
        disks: BTreeMap<i32, Disk>,
        under_way: &UnderWay,
    ) -> Status {
        let partitions = || metadata.topics.iter().flat_map(|topic| &topic.partitions);
        let misses_replicas = |topic: &MetadataResponseTopic| {
            let name = topic_name(topic);
            let partitions = topic.partitions.iter();
            let short = partitions.filter(|p| p.isr_nodes.len() < under_way.due(&name, p));
            short.count()
        };
        let features = greeting.finalized_features.iter();
        Status {
            cluster_id: metadata.cluster_id.as_ref().map(String::from),
            controller: metadata.controller_id,
            nodes: nodes(metadata, brokers),
            disks,
            topics: metadata
                .topics
                .iter()
                .filter(|topic| !topic.is_internal)
                .count(),
            internal_topics: metadata
                .topics
                .iter()
                .filter(|topic| topic.is_internal)
                .count(),
            partitions: partitions().count(),
            leaderless: partitions().filter(|p| p.leader_id < 0).count(),
            under_replicated: metadata.topics.iter().map(misses_replicas).sum(),
            features: features
                .map(|feature| (String::from(&feature.name), feature.max_version_level))
                .collect(),
        }
    }

    fn health(&self) -> &'static str {
        match (self.leaderless, self.under_replicated) {
            (0, 0) => "healthy",
            (0, _) => "degraded: some partitions miss replicas",
            _ => "unhealthy: some partitions have no leader",
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "cluster {}\n  state             {}\n  topics            {} (and {} internal)\n  \
             partitions        {}\n  without leader    {}\n  under-replicated  {}\n\n",
            self.cluster_id.as_deref().unwrap_or("-"),
            self.health(),
            self.topics,
            self.internal_topics,
            self.partitions,
            self.leaderless,
            self.under_replicated,
        );
        let heads = [
            ">NODE",
            "ADDRESS",
            "RACK",
            "ROLE",
            ">LEADS",
            ">REPLICAS",
            ">DATA",
            ">FREE",
        ];
        let mut table = Table::new(&heads);
        for node in &self.nodes {
            let role = match node.fenced {
                true => "fenced",
                false => node.role(self.controller),
            };
            let disk = self.disks.get(&node.id);
            let free = disk.and_then(|disk| disk.free_bytes);
            table.row([
                node.id.to_string(),
                node.address.clone(),
                node.rack.clone().unwrap_or_else(|| "-".to_owned()),
                role.to_owned(),
                node.leads.to_string(),
                node.replicas.to_string(),
                disk.map_or("-".to_owned(), |disk| size(disk.used_bytes)),
                free.map_or("-".to_owned(), size),
            ]);
        }
        let _ = write!(text, "{table}");
        if !self.features.is_empty() {
            let mut table = Table::new(&["FEATURE", ">LEVEL"]);
            for (name, level) in &self.features {
                table.row([name.clone(), level.to_string()]);
            }
            let _ = write!(text, "\n{table}");
        }
        text
    }

    fn json(&self) -> Value {
        let node = |node: &Node| {
            let disk = self.disks.get(&node.id);
            let mut json = node.json(self.controller);
            json["data_bytes"] = json!(disk.map(|disk| disk.used_bytes));
            json["free_bytes"] = json!(disk.and_then(|disk| disk.free_bytes));
            json
        };
        let features: BTreeMap<&str, i16> = self
            .features
            .iter()
            .map(|(name, level)| (name.as_str(), *level))
            .collect();
        json!({
            "cluster_id": self.cluster_id,
            "state": self.health().split(':').next(),
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "topics": self.topics,
            "internal_topics": self.internal_topics,
            "partitions": self.partitions,
            "partitions_without_leader": self.leaderless,
            "partitions_under_replicated": self.under_replicated,
            "features": features,
        })
    }
}

#[cfg(test)]
mod tests {
    use protocol::messages::MetadataResponsePartition;

    use super::*;

    fn cluster(leaders: &[i32]) -> MetadataResponse {
        let partition = |leader: &i32| MetadataResponsePartition {
            leader_id: *leader,
            replica_nodes: vec![1, 2],
            isr_nodes: if *leader < 0 { vec![] } else { vec![1, 2] },
            ..MetadataResponsePartition::default()
        };
        MetadataResponse {
            cluster_id: Some("c".into()),
            controller_id: 2,
            topics: vec![MetadataResponseTopic {
                name: Some("t".into()),
                partitions: leaders.iter().map(partition).collect(),
                ..MetadataResponseTopic::default()
            }],
            ..MetadataResponse::default()
        }
    }

    fn brokers() -> Vec<DescribeClusterBroker> {
        let broker = |id| DescribeClusterBroker {
            broker_id: id,
            host: "h".into(),
            port: 9092,
            is_fenced: id == 1,
            ..DescribeClusterBroker::default()
        };
        [2, 1].map(broker).into()
    }

    #[test]
    fn partitions_are_counted_by_node_and_by_trouble() {
        let greeting = ApiVersionsResponse::default();
        let disk = Disk {
            used_bytes: 2048,
            free_bytes: None,
        };
        let status = Status::of(
            &cluster(&[1, 1, 2, -1]),
            &brokers(),
            &greeting,
            BTreeMap::from([(1, disk)]),
            &UnderWay::default(),
        );
        assert_eq!(
            status.nodes.iter().map(|node| node.id).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!((status.nodes[0].leads, status.nodes[0].replicas), (2, 4));
        assert_eq!(
            (
                status.partitions,
                status.leaderless,
                status.under_replicated
            ),
            (4, 1, 1)
        );
        let text = status.text();
        assert!(
            text.contains("unhealthy") && text.contains("2.0 KiB") && text.contains("fenced"),
            "{text}"
        );
        assert_eq!(status.json()["nodes"][1]["controller"], true);
    }

    #[test]
    fn a_whole_cluster_is_healthy() {
        let status = Status::of(
            &cluster(&[1, 2]),
            &brokers(),
            &ApiVersionsResponse::default(),
            BTreeMap::new(),
            &UnderWay::default(),
        );
        assert_eq!(status.json()["state"], "healthy");
    }
}
