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
