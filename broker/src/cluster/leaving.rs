//! Nodes that leave: an operator names them, the cluster empties them ([`super::balance`]) and lets them go.
//!
//! They are a list among the cluster-wide configs of brokers ([`LEAVING`]), so that every client that can change
//! configs can begin and end it, and every one can read it. `corelane cluster decommission` is such a client.

use super::balance::{self, Sight, Step};
use super::decide::{Draft, Refusal};
use super::record::{Record, Resource};
use super::state::Cluster;
use protocol::error::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};

/// The config that lists the nodes that leave.
pub const LEAVING: &str = "corelane.nodes.leaving";

impl Cluster {
    /// The nodes that leave: nothing new is placed on them, and what they hold goes elsewhere.
    pub fn leaving(&self) -> BTreeSet<i32> {
        let configs = self.configs(&Resource::BrokerDefault);
        let list = configs.and_then(|configs| configs.get(LEAVING));
        list.map_or_else(BTreeSet::new, |list| nodes_of(list))
    }
}

/// What is no number names no node.
fn nodes_of(list: &str) -> BTreeSet<i32> {
    let nodes = list.split(',').map(str::trim);
    nodes.filter_map(|node| node.parse().ok()).collect()
}

/// The steps that the cluster takes about its own balance, with the records that they are.
pub fn rebalance(ahead: &mut Cluster, sight: &Sight) -> (Vec<Step>, Vec<Record>) {
    let steps = balance::next(ahead, sight);
    let mut draft = Draft::of(ahead);
    for step in &steps {
        match step {
            Step::Replicas {
                topic,
                partition,
                replicas,
                ..
            } => draft.push(Record::ReplicasChanged {
                id: *topic,
                partition: *partition,
                replicas: replicas.clone(),
                automatic: true,
            }),
            Step::LetGo(node) => draft.let_go(*node),
        }
    }
    (steps, draft.into_records())
}

impl Draft<'_> {
    /// Whether the nodes that are to leave by these configs of brokers can.
    pub(super) fn check_leaving(
        &self,
        resource: &Resource,
        wanted: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let Some(list) = wanted.get(LEAVING) else {
            return Ok(());
        };
        if *resource != Resource::BrokerDefault {
            let message = format!("{LEAVING} is set for all brokers, not for one: it is a list.");
            return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
        }
        let leaving = nodes_of(list);
        if leaving.len()
            != list
                .split(',')
                .filter(|part| !part.trim().is_empty())
                .count()
        {
            let message = format!("Invalid value {list} for {LEAVING}: it lists ids of nodes.");
            return Err(Refusal::new(ErrorCode::INVALID_CONFIG, message));
        }
        let new: BTreeSet<i32> = leaving.difference(&self.state.leaving()).copied().collect();
        if let Some(node) = new
            .iter()
            .find(|node| !self.state.nodes().contains_key(node))
        {
            let message = format!("Node {node} cannot leave: it is not registered.");
            return Err(Refusal::new(ErrorCode::BROKER_ID_NOT_REGISTERED, message));
        }
        match new.first() {
            Some(node) => self.check_that_all_fit(*node, &leaving),
            None => Ok(()),
        }
    }

    fn check_that_all_fit(&self, node: i32, leaving: &BTreeSet<i32>) -> Result<(), Refusal> {
        let nodes = self.state.nodes().iter();
        let stay = nodes.filter(|(id, known)| !known.fenced && !leaving.contains(id));
        let stay = stay.count();
        // The cluster's own topics do with as many replicas as there are nodes.
        let topics = self.state.topics().filter(|topic| !topic.internal);
        let factors = topics.map(|topic| {
            let indexes = 0..topic.partitions.len() as u32;
            let factors = indexes.filter_map(|index| Some(topic.wanted(index)?.len()));
            (factors.max().unwrap_or(0), topic.name.as_str())
        });
        let message = match factors.max_by_key(|(factor, _)| *factor) {
            _ if stay == 0 => format!("Node {node} cannot leave: no other node would be left."),
            Some((factor, topic)) if factor > stay => format!(
                "Node {node} cannot leave: topic '{topic}' has {factor} replicas, and only {stay} node(s) that are \
                 heard of would be left; add a node first, or give the topic fewer replicas."
            ),
            _ => return Ok(()),
        };
        Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message))
    }

    /// A node is let go. If it comes back, with an empty directory, it is to stay.
    pub(super) fn let_go(&mut self, node: i32) {
        let mut leaving = self.state.leaving();
        if leaving.remove(&node) {
            let left: Vec<String> = leaving.iter().map(i32::to_string).collect();
            self.push(Record::ConfigSet {
                resource: Resource::BrokerDefault,
                name: LEAVING.to_owned(),
                value: Some(left.join(",")).filter(|left| !left.is_empty()),
            });
        }
        self.push(Record::NodeUnregistered { node });
    }
}

#[cfg(test)]
mod tests {
    use super::super::decide::{
        ClusterAnswer, ClusterAsk, ConfigAlteration, Context, TopicRef, decide,
    };
    use super::super::record::Registration;
    use super::*;
    use crate::config::BrokerConfig;
    use crate::config::ops::{Change, Operation};
    use uuid::Uuid;

    const ID: Uuid = Uuid::from_u128(7);

    /// Nodes 1 to 4, and a topic with three replicas beside one of the cluster's own.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        for node in 1..=4 {
            cluster.apply(&Record::NodeRegistered(Registration {
                node,
                incarnation: 1,
                start: storage::Start::default(),
                peer: String::new(),
                endpoints: Vec::new(),
                rack: None,
                cores: 1,
                level: 1,
            }));
        }
        for (id, name, internal) in [(ID, "orders", false), (Uuid::from_u128(8), "own", true)] {
            cluster.apply(&Record::TopicCreated {
                id,
                name: name.to_owned(),
                partitions: vec![vec![1, 2, 3]],
                configs: BTreeMap::new(),
                internal,
            });
        }
        cluster
    }

    fn ask(cluster: &mut Cluster, ask: &ClusterAsk) -> ClusterAnswer {
        let broker = BrokerConfig::default();
        let mut context = Context {
            node_id: 1,
            connected: &BTreeMap::new(),
            full: &BTreeSet::new(),
            broker: &broker,
            next_id: &mut || Uuid::from_u128(9),
        };
        decide(cluster, ask, &mut context).1
    }

    fn alter(cluster: &mut Cluster, resource: Resource, change: Change) -> Result<(), Refusal> {
        let alteration = ConfigAlteration {
            resource,
            replace: false,
            operations: vec![Operation {
                name: LEAVING.to_owned(),
                change,
            }],
        };
        let request = ClusterAsk::AlterConfigs {
            resources: vec![alteration],
            validate_only: false,
        };
        match ask(cluster, &request) {
            ClusterAnswer::AlterConfigs(mut outcomes) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn leave(cluster: &mut Cluster, node: &str) -> Result<(), Refusal> {
        let change = Change::Append(node.to_owned());
        alter(cluster, Resource::BrokerDefault, change)
    }

    fn code(outcome: Result<(), Refusal>) -> ErrorCode {
        outcome.map_or_else(|refusal| refusal.code, |()| ErrorCode::NONE)
    }

    #[test]
    fn a_node_may_leave_if_the_others_can_hold_everything() {
        let mut cluster = cluster();
        leave(&mut cluster, "4").expect("three are left");
        assert_eq!(cluster.leaving(), [4].into());
        leave(&mut cluster, "4").expect("it leaves already");
        let refused = leave(&mut cluster, "3").expect_err("two are left");
        assert_eq!(refused.code, ErrorCode::INVALID_REPLICATION_FACTOR);
        assert!(
            refused.message.contains("topic 'orders' has 3 replicas"),
            "{refused:?}"
        );
        assert_eq!(cluster.leaving(), [4].into());
        let change = Change::Subtract("4".to_owned());
        alter(&mut cluster, Resource::BrokerDefault, change).expect("it may stay");
        assert!(cluster.leaving().is_empty());
        // Who is not heard of is not counted on.
        let (node, fenced) = (2, true);
        cluster.apply(&Record::NodeFenced { node, fenced });
        assert_eq!(
            code(leave(&mut cluster, "4")),
            ErrorCode::INVALID_REPLICATION_FACTOR
        );
        leave(&mut cluster, "2").expect("three are left that run");
    }

    #[test]
    fn the_clusters_own_topics_keep_nobody_but_the_last() {
        let mut cluster = cluster();
        ask(
            &mut cluster,
            &ClusterAsk::DeleteTopics(vec![TopicRef::Id(ID)]),
        );
        for node in ["4", "3", "2"] {
            leave(&mut cluster, node).expect("one is left");
        }
        let refused = leave(&mut cluster, "1").expect_err("none is left");
        assert!(refused.message.contains("no other node"), "{refused:?}");
    }

    #[test]
    fn only_ids_of_registered_nodes_are_listed_and_only_for_all_brokers() {
        let mut cluster = cluster();
        assert_eq!(
            code(leave(&mut cluster, "9")),
            ErrorCode::BROKER_ID_NOT_REGISTERED
        );
        assert_eq!(code(leave(&mut cluster, "four")), ErrorCode::INVALID_CONFIG);
        let change = Change::Append("4".to_owned());
        let of_one = alter(&mut cluster, Resource::Broker(4), change);
        assert_eq!(code(of_one), ErrorCode::INVALID_REQUEST);
        assert!(cluster.leaving().is_empty());
    }

    #[test]
    fn who_is_let_go_is_not_listed_any_more() {
        let mut cluster = cluster();
        leave(&mut cluster, "4").expect("three are left");
        ask(&mut cluster, &ClusterAsk::UnregisterNode(4));
        assert!(!cluster.nodes().contains_key(&4));
        assert!(cluster.leaving().is_empty());
    }
}
