//! What a cluster is about to do by itself or because it was told to: which nodes leave, and which partitions are on
//! their way.

use std::collections::{BTreeMap, BTreeSet};

use protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResource, ListPartitionReassignmentsRequest,
    MetadataResponsePartition, OngoingTopicReassignment,
};

use super::client::Client;
use super::error::{ShellError, check};
use super::topic::DESCRIBE_CONFIGS_NEWEST;

/// The config of all brokers that lists the nodes that leave.
pub(super) const LEAVING: &str = "corelane.nodes.leaving";
const LIST_REASSIGNMENTS_NEWEST: i16 = 0;
/// DescribeConfigs' and AlterConfigs' type of brokers; with an empty name it is all of them.
pub(super) const BROKER_RESOURCE: i8 = 4;

/// What is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub(super) leaving: BTreeSet<i32>,
    /// Partitions that are on their way to other nodes, with the nodes that they come to.
    pub(super) partitions: BTreeMap<(String, i32), Vec<i32>>,
    /// By node: replicas that it is to get.
    pub(super) coming: BTreeMap<i32, usize>,
    /// By node: replicas that it is to lose.
    pub(super) going: BTreeMap<i32, usize>,
}

impl UnderWay {
    pub(super) fn ask(client: &mut Client) -> Result<UnderWay, ShellError> {
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: client.timeout_ms(),
            topics: None,
        };
        let response = client.ask(&request, LIST_REASSIGNMENTS_NEWEST)?;
        let what = || "list what is on its way".to_owned();
        check(what, response.error_code, response.error_message.as_deref())?;
        Ok(UnderWay {
            leaving: leaving(client)?,
            ..UnderWay::of(&response.topics)
        })
    }

    fn of(topics: &[OngoingTopicReassignment]) -> UnderWay {
        let mut found = UnderWay::default();
        let partitions = topics.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(move |partition| (&topic.name, partition))
        });
        for (topic, partition) in partitions {
            let (name, index) = (String::from(topic), partition.partition_index);
            let coming = partition.adding_replicas.clone();
            found.partitions.insert((name, index), coming);
            for node in &partition.adding_replicas {
                *found.coming.entry(*node).or_default() += 1;
            }
            for node in &partition.removing_replicas {
                *found.going.entry(*node).or_default() += 1;
            }
        }
        found
    }

    /// How many replicas of a partition should be in sync: those that are still to come are not missing.
    pub(super) fn due(&self, topic: &str, partition: &MetadataResponsePartition) -> usize {
        let replicas = &partition.replica_nodes;
        let place = (topic.to_owned(), partition.partition_index);
        let coming = self.partitions.get(&place).map_or(&[][..], Vec::as_slice);
        let here = replicas.iter().filter(|node| !coming.contains(node));
        here.count()
    }

    /// For people, one sentence for each thing. `replicas` says how many a node has.
    pub(super) fn sentences(&self, replicas: impl Fn(i32) -> usize) -> Vec<String> {
        let leaving = self.leaving.iter().map(|node| {
            let left = replicas(*node);
            format!("node {node} leaves: {left} replicas are still there")
        });
        let mut sentences: Vec<String> = leaving.collect();
        match self.partitions.len() {
            0 => {}
            1 => sentences.push("1 partition is on its way to other nodes".to_owned()),
            count => sentences.push(format!(
                "{count} partitions are on their way to other nodes"
            )),
        }
        sentences
    }
}

/// The nodes that leave.
fn leaving(client: &mut Client) -> Result<BTreeSet<i32>, ShellError> {
    let all_brokers = DescribeConfigsResource {
        resource_type: BROKER_RESOURCE,
        resource_name: "".into(),
        configuration_keys: Some(vec![LEAVING.into()]),
    };
    let request = DescribeConfigsRequest {
        resources: vec![all_brokers],
        include_synonyms: false,
        include_documentation: false,
    };
    let response = client.ask(&request, DESCRIBE_CONFIGS_NEWEST)?;
    let mut leaving = BTreeSet::new();
    for result in &response.results {
        let what = || "read which nodes leave".to_owned();
        check(what, result.error_code, result.error_message.as_deref())?;
        // A broker that does not know the config tells others, or none.
        let listed = result
            .configs
            .iter()
            .filter(|config| config.name.as_str() == LEAVING);
        let values = listed.filter_map(|config| config.value.as_ref());
        let ids = values.flat_map(|value| value.as_str().split(','));
        leaving.extend(ids.filter_map(|id| id.trim().parse::<i32>().ok()));
    }
    Ok(leaving)
}

#[cfg(test)]
mod tests {
    use protocol::messages::OngoingPartitionReassignment;

    use super::*;

    #[test]
    fn what_is_on_its_way_is_counted_by_node() {
        let partition = |index, adding: &[i32], removing: &[i32]| OngoingPartitionReassignment {
            partition_index: index,
            adding_replicas: adding.to_vec(),
            removing_replicas: removing.to_vec(),
            ..OngoingPartitionReassignment::default()
        };
        let topic = OngoingTopicReassignment {
            name: "t".into(),
            partitions: vec![partition(0, &[4], &[1]), partition(1, &[4, 5], &[])],
        };
        let mut found = UnderWay::of(&[topic]);
        assert_eq!(found.coming, BTreeMap::from([(4, 2), (5, 1)]));
        assert_eq!(found.going, BTreeMap::from([(1, 1)]));
        let of = |index, nodes: &[i32]| MetadataResponsePartition {
            partition_index: index,
            replica_nodes: nodes.to_vec(),
            ..MetadataResponsePartition::default()
        };
        assert_eq!(found.due("t", &of(0, &[4, 2, 1])), 2);
        assert_eq!(found.due("t", &of(1, &[1, 4, 5])), 1);
        assert_eq!(found.due("u", &of(0, &[4, 2, 1])), 3);
        found.leaving.insert(1);
        let sentences = found.sentences(|_| 7);
        let expected = [
            "node 1 leaves: 7 replicas are still there",
            "2 partitions are on their way to other nodes",
        ];
        assert_eq!(sentences, expected);
        assert!(UnderWay::default().sentences(|_| 0).is_empty());
    }
}
