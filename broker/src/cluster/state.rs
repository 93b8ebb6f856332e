//! The cluster's metadata as a value: the replay of the metadata log.
//!
//! Every core of every node holds a copy and applies the same committed records to it; only the leader of
//! the metadata group decides ([`super::decide`]) what is appended. Deliberately absent: anything that a node
//! knows for itself (which core owns what, what is on disk).

use super::record::{Record, Registration, Resource};
use super::recovery::{PendingRecovery, REMEMBERED_MAX, Recovery};
use raft_group::ReplicaId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

/// One topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    pub id: Uuid,
    pub name: String,
    /// Replicas by partition, in order of preference.
    pub partitions: Vec<Vec<i32>>,
    #[serde(default)]
    pub internal: bool,
    /// By partition the identities ([`ReplicaId`] as numbers) that its Raft group was founded with, or was last moved
    /// to: who is among them has held its log ever since. Empty for a partition from before its cluster had a
    /// registered node: its first replica founded it alone.
    #[serde(default)]
    pub founders: Vec<Vec<u64>>,
    /// Partitions that are on their way to other nodes.
    #[serde(default, with = "pairs", skip_serializing_if = "BTreeMap::is_empty")]
    pub moves: BTreeMap<u32, Move>,
    /// Nodes that held some partition once, and may still have its files.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub former: BTreeSet<i32>,
    /// Partitions that one replica is to go on alone with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recoveries: Vec<PendingRecovery>,
}

/// A map whose keys are numbers, as a list: see [`Image`].
mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    pub fn serialize<V: Serialize, S: Serializer>(
        map: &BTreeMap<u32, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<u32, V>, D::Error> {
        let pairs = Vec::<(u32, V)>::deserialize(from)?;
        Ok(pairs.into_iter().collect())
    }
}

/// A partition on its way. As long as it is, [`Topic::partitions`] names all nodes that hold a replica or are to:
/// first those of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which change of replicas this is: a word about another one is too late.
    pub number: u64,
    pub target: Vec<i32>,
    /// Where it was before, and is to be again if the move is cancelled.
    pub origin: Vec<i32>,
    /// Begun by the cluster itself ([`super::balance`]), not by an operator.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
}

impl Topic {
    /// The nodes that a partition's group should consist of.
    pub fn wanted(&self, partition: u32) -> Option<&Vec<i32>> {
        match self.moves.get(&partition) {
            Some(moving) => Some(&moving.target),
            None => self.partitions.get(partition as usize),
        }
    }

    /// The nodes that a partition comes to, and those that it goes from.
    pub fn coming_and_going(&self, partition: u32) -> (Vec<i32>, Vec<i32>) {
        let Some(moving) = self.moves.get(&partition) else {
            return (Vec::new(), Vec::new());
        };
        let without = |all: &[i32], others: &[i32]| {
            let left = all.iter().filter(|node| !others.contains(node));
            left.copied().collect::<Vec<i32>>()
        };
        let all = &self.partitions[partition as usize];
        (
            without(&moving.target, &moving.origin),
            without(all, &moving.target),
        )
    }

    fn change_replicas(&mut self, partition: u32, target: &[i32], number: u64, automatic: bool) {
        let current = &mut self.partitions[partition as usize];
        let before = self.moves.remove(&partition);
        let is_rearranged = before.is_none()
            && current.len() == target.len()
            && current.iter().all(|node| target.contains(node));
        let origin = before.map_or_else(|| current.clone(), |before| before.origin);
        let others = current.iter().filter(|node| !target.contains(node));
        *current = target.iter().chain(others).copied().collect();
        // Who holds it stays the same: there is nothing to wait for.
        if !is_rearranged {
            let target = target.to_vec();
            let moving = Move {
                number,
                target,
                origin,
                automatic,
            };
            self.moves.insert(partition, moving);
        }
    }

    /// One replica goes on alone: from here on the group is what it makes of it.
    fn recover(&mut self, recovery: &Recovery, number: u64) {
        let partition = recovery.partition;
        self.recoveries.retain(|one| one.partition != partition);
        self.recoveries.push(PendingRecovery {
            partition,
            number,
            survivor: recovery.survivor,
            gone: recovery.gone.clone(),
            term: recovery.term,
        });
        self.founders.resize(self.partitions.len(), Vec::new());
        self.founders[partition as usize] = vec![recovery.survivor];
    }

    fn settle_replicas(&mut self, partition: u32, members: &[u64]) {
        let moving = self.moves.remove(&partition);
        let moving = moving.unwrap_or_else(|| panic!("partition {partition} does not move"));
        let at = partition as usize;
        let before = std::mem::replace(&mut self.partitions[at], moving.target);
        let left = before.into_iter();
        self.former
            .extend(left.filter(|node| !self.partitions[at].contains(node)));
        self.founders.resize(self.partitions.len(), Vec::new());
        self.founders[at] = members.to_vec();
    }
}

/// A node of the cluster, as it registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    #[serde(flatten)]
    pub registration: Registration,
    /// Incarnations that came before and must not come back: their votes and logs are gone, or old.
    #[serde(default)]
    pub retired: BTreeSet<u32>,
    /// Not heard of for a session: nothing new is placed on it.
    #[serde(default)]
    pub fenced: bool,
}

impl Node {
    /// The identity under which this node's replicas take part in their groups.
    pub fn replica_id(&self) -> ReplicaId {
        let Registration {
            node, incarnation, ..
        } = self.registration;
        ReplicaId::new(node, incarnation).expect("checked when it registered")
    }
}

/// A deleted topic whose data may still lie somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// How many partitions it had.
    pub partitions: u32,
    /// The nodes that may hold some.
    pub holders: BTreeSet<i32>,
}

/// What a snapshot record holds: the whole state, in a form that outlives our structs. Only text may be the key of a
/// map: a record is read by its `type`, and then numbers in keys are not told from text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    pub topics: Vec<Topic>,
    pub configs: Vec<(Resource, BTreeMap<String, String>)>,
    pub deleted: BTreeMap<Uuid, Deleted>,
    #[serde(default)]
    pub nodes: Vec<Node>,
    #[serde(default)]
    pub departed: Vec<(i32, BTreeSet<u32>)>,
    pub next_producer_id: i64,
    #[serde(default)]
    pub changes_of_replicas: u64,
    #[serde(default)]
    pub recoveries: Vec<Recovery>,
}

/// The metadata of the cluster, as of some index of the metadata log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    topics: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, String>,
    /// Names with '.' or '_' by the form in which both are '_': metric names cannot tell them apart, so
    /// Kafka lets only one of them exist.
    confusable: BTreeMap<String, String>,
    configs: BTreeMap<Resource, BTreeMap<String, String>>,
    /// Deleted topics whose data may still lie on some node.
    deleted: BTreeMap<Uuid, Deleted>,
    nodes: BTreeMap<i32, Node>,
    /// Nodes that were let go, with all their incarnations.
    departed: BTreeMap<i32, BTreeSet<u32>>,
    next_producer_id: i64,
    /// How many there were: each has a number of its own.
    changes_of_replicas: u64,
    /// What was recovered from a minority, oldest first, at most [`REMEMBERED_MAX`].
    recoveries: VecDeque<Recovery>,
}

/// What a record changed, for those who keep something beside the state (partitions, resolved configs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    TopicCreated {
        id: Uuid,
    },
    PartitionsAdded {
        id: Uuid,
        first: u32,
    },
    TopicDeleted {
        id: Uuid,
        name: String,
        partitions: u32,
    },
    /// A partition is to go to other nodes, or has gone there.
    ReplicasChanged {
        id: Uuid,
        partition: u32,
    },
    ConfigChanged {
        resource: Resource,
    },
    /// A node registered, left, or was fenced.
    NodeChanged {
        node: i32,
    },
    /// A snapshot replaced everything.
    Replaced,
}

impl Cluster {
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<&Topic> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// A topic whose name differs from `name` only in '.' against '_'.
    pub fn colliding_topic(&self, name: &str) -> Option<&str> {
        let other = self.confusable.get(&confusable_form(name)?)?;
        (other != name).then_some(other.as_str())
    }

    /// All topics by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub fn partition_count(&self) -> usize {
        self.topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum()
    }

    /// The registered nodes. Empty while a single node was never part of a cluster.
    pub fn nodes(&self) -> &BTreeMap<i32, Node> {
        &self.nodes
    }

    /// The identity that counts of a node, if it is registered.
    pub fn replica_id(&self, node: i32) -> Option<ReplicaId> {
        self.nodes.get(&node).map(Node::replica_id)
    }

    /// Whether this identity belongs to a disk that was replaced, or to a node that was let go.
    pub fn is_retired(&self, id: ReplicaId) -> bool {
        let retired = match self.nodes.get(&id.node()) {
            Some(node) => Some(&node.retired),
            None => self.departed.get(&id.node()),
        };
        retired.is_some_and(|retired| retired.contains(&id.incarnation()))
    }

    /// Dynamic configs of a resource: names to values.
    pub fn configs(&self, resource: &Resource) -> Option<&BTreeMap<String, String>> {
        self.configs.get(resource)
    }

    /// The first producer id that nobody was given.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Deleted topics that some node may still hold data of.
    pub fn deleted(&self) -> &BTreeMap<Uuid, Deleted> {
        &self.deleted
    }

    /// Takes one committed record in.
    ///
    /// Records are decided against this very state, so one that does not fit it (a topic that is
    /// already there) is ours to have prevented: it is asserted.
    pub fn apply(&mut self, record: &Record) -> Option<Change> {
        match record {
            Record::TopicCreated {
                id,
                name,
                partitions,
                configs,
                internal,
            } => {
                let topic = Topic {
                    id: *id,
                    name: name.clone(),
                    partitions: partitions.clone(),
                    internal: *internal,
                    founders: self.founders(partitions),
                    moves: BTreeMap::new(),
                    former: BTreeSet::new(),
                    recoveries: Vec::new(),
                };
                self.insert_topic(topic);
                if !configs.is_empty() {
                    self.configs
                        .insert(Resource::Topic(name.clone()), configs.clone());
                }
                Some(Change::TopicCreated { id: *id })
            }
            Record::PartitionsAdded { id, partitions } => {
                let founders = self.founders(partitions);
                let topic = self.topic_mut(*id);
                let first = topic.partitions.len() as u32;
                topic.founders.resize(first as usize, Vec::new());
                topic.founders.extend(founders);
                topic.partitions.extend(partitions.iter().cloned());
                Some(Change::PartitionsAdded { id: *id, first })
            }
            Record::TopicDeleted { id } => {
                let name = self
                    .names
                    .remove(id)
                    .unwrap_or_else(|| panic!("no topic {id}"));
                let topic = self.topics.remove(&name).expect("names and topics agree");
                self.configs.remove(&Resource::Topic(name.clone()));
                if let Some(form) = confusable_form(&name) {
                    self.confusable.remove(&form);
                }
                let partitions = topic.partitions.len() as u32;
                let holders = topic.partitions.iter().flatten().chain(&topic.former);
                let holders = holders.copied().collect();
                let deleted = Deleted {
                    partitions,
                    holders,
                };
                self.deleted.insert(*id, deleted);
                Some(Change::TopicDeleted {
                    id: *id,
                    name,
                    partitions,
                })
            }
            Record::TopicPurged { id, node } => {
                if let Some(deleted) = self.deleted.get_mut(id) {
                    deleted.holders.remove(node);
                    if deleted.holders.is_empty() {
                        self.deleted.remove(id);
                    }
                }
                None
            }
            Record::ReplicasChanged {
                id,
                partition,
                replicas,
                automatic,
            } => {
                self.changes_of_replicas += 1;
                let number = self.changes_of_replicas;
                let topic = self.topic_mut(*id);
                topic.change_replicas(*partition, replicas, number, *automatic);
                let (id, partition) = (*id, *partition);
                Some(Change::ReplicasChanged { id, partition })
            }
            Record::ReplicasSettled {
                id,
                partition,
                members,
            } => {
                self.topic_mut(*id).settle_replicas(*partition, members);
                let (id, partition) = (*id, *partition);
                Some(Change::ReplicasChanged { id, partition })
            }
            Record::ConfigSet {
                resource,
                name,
                value,
            } => {
                self.set_config(resource, name, value.as_deref());
                Some(Change::ConfigChanged {
                    resource: resource.clone(),
                })
            }
            Record::ProducerIdsAllocated { next } => {
                assert!(
                    *next >= self.next_producer_id,
                    "producer ids go back from {} to {next}",
                    self.next_producer_id
                );
                self.next_producer_id = *next;
                None
            }
            Record::NodeRegistered(registration) => {
                self.register(registration);
                let node = registration.node;
                Some(Change::NodeChanged { node })
            }
            Record::NodeUnregistered { node } => {
                if let Some(known) = self.nodes.remove(node) {
                    let departed = self.departed.entry(*node).or_default();
                    departed.extend(known.retired);
                    departed.insert(known.registration.incarnation);
                }
                self.deleted.retain(|_, deleted| {
                    deleted.holders.remove(node);
                    !deleted.holders.is_empty()
                });
                for topic in self.topics.values_mut() {
                    topic.former.remove(node);
                }
                Some(Change::NodeChanged { node: *node })
            }
            Record::NodeFenced { node, fenced } => {
                let known = self.nodes.get_mut(node);
                known.unwrap_or_else(|| panic!("no node {node}")).fenced = *fenced;
                Some(Change::NodeChanged { node: *node })
            }
            Record::NodeLost { node, incarnation } => {
                let known = self.nodes.get_mut(node);
                let known = known.unwrap_or_else(|| panic!("no node {node}"));
                known.retired.insert(*incarnation);
                known.fenced = true;
                Some(Change::NodeChanged { node: *node })
            }
            Record::PartitionRecovered { id, recovery } => {
                self.changes_of_replicas += 1;
                let number = self.changes_of_replicas;
                self.topic_mut(*id).recover(recovery, number);
                self.remember(recovery);
                let (id, partition) = (*id, recovery.partition);
                Some(Change::ReplicasChanged { id, partition })
            }
            Record::RecoveryEnded { id, partition } => {
                let topic = self.topic_mut(*id);
                topic.recoveries.retain(|one| one.partition != *partition);
                let (id, partition) = (*id, *partition);
                Some(Change::ReplicasChanged { id, partition })
            }
            Record::MetadataRecovered { recovery } => {
                self.remember(recovery);
                None
            }
            Record::Snapshot { state } => {
                *self = Cluster::from_image(state);
                Some(Change::Replaced)
            }
        }
    }

    /// The whole state for a snapshot record.
    pub fn image(&self) -> Image {
        Image {
            topics: self.topics.values().cloned().collect(),
            configs: self
                .configs
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            deleted: self.deleted.clone(),
            nodes: self.nodes.values().cloned().collect(),
            departed: self
                .departed
                .iter()
                .map(|(node, incarnations)| (*node, incarnations.clone()))
                .collect(),
            next_producer_id: self.next_producer_id,
            changes_of_replicas: self.changes_of_replicas,
            recoveries: self.recoveries.iter().cloned().collect(),
        }
    }

    /// What was recovered from a minority of its replicas, oldest first.
    pub fn recoveries(&self) -> impl Iterator<Item = &Recovery> {
        self.recoveries.iter()
    }

    fn remember(&mut self, recovery: &Recovery) {
        self.recoveries.push_back(recovery.clone());
        while self.recoveries.len() > REMEMBERED_MAX {
            self.recoveries.pop_front();
        }
    }

    fn from_image(image: &Image) -> Cluster {
        let nodes = image.nodes.iter();
        let mut cluster = Cluster {
            configs: image.configs.iter().cloned().collect(),
            deleted: image.deleted.clone(),
            nodes: nodes
                .map(|node| (node.registration.node, node.clone()))
                .collect(),
            departed: image.departed.iter().cloned().collect(),
            next_producer_id: image.next_producer_id,
            changes_of_replicas: image.changes_of_replicas,
            recoveries: image.recoveries.iter().cloned().collect(),
            ..Cluster::default()
        };
        for topic in &image.topics {
            cluster.insert_topic(topic.clone());
        }
        cluster
    }

    /// Who founds the groups of partitions that are placed like this now.
    fn founders(&self, partitions: &[Vec<i32>]) -> Vec<Vec<u64>> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        let identity = |node: &i32| {
            let known = self.replica_id(*node);
            known
                .unwrap_or_else(|| panic!("a replica is placed on node {node}, which is unknown"))
                .as_u64()
        };
        let of_one = |replicas: &Vec<i32>| replicas.iter().map(identity).collect();
        partitions.iter().map(of_one).collect()
    }

    fn register(&mut self, registration: &Registration) {
        let mut retired = self.departed.remove(&registration.node).unwrap_or_default();
        if let Some(before) = self.nodes.remove(&registration.node) {
            retired.extend(before.retired);
            if before.registration.incarnation != registration.incarnation {
                retired.insert(before.registration.incarnation);
            }
        } else if self.nodes.is_empty() {
            // The first to register is the node that was alone until now: all that there is, it has founded.
            let id = ReplicaId::new(registration.node, registration.incarnation);
            let id = id.expect("checked when it registered").as_u64();
            for topic in self.topics.values_mut() {
                topic.founders = vec![vec![id]; topic.partitions.len()];
            }
        }
        let node = Node {
            registration: registration.clone(),
            retired,
            fenced: false,
        };
        self.nodes.insert(registration.node, node);
    }

    fn insert_topic(&mut self, topic: Topic) {
        if let Some(form) = confusable_form(&topic.name) {
            self.confusable.insert(form, topic.name.clone());
        }
        let known = self.names.insert(topic.id, topic.name.clone());
        assert!(
            known.is_none(),
            "topic id {} is taken by {known:?}",
            topic.id
        );
        let known = self.topics.insert(topic.name.clone(), topic);
        assert!(
            known.is_none(),
            "topic name is taken by {:?}",
            known.map(|topic| topic.id)
        );
    }

    fn topic_mut(&mut self, id: Uuid) -> &mut Topic {
        let name = self
            .names
            .get(&id)
            .unwrap_or_else(|| panic!("no topic {id}"));
        self.topics.get_mut(name).expect("names and topics agree")
    }

    fn set_config(&mut self, resource: &Resource, name: &str, value: Option<&str>) {
        match value {
            Some(value) => {
                let configs = self.configs.entry(resource.clone()).or_default();
                configs.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(configs) = self.configs.get_mut(resource) {
                    configs.remove(name);
                    if configs.is_empty() {
                        self.configs.remove(resource);
                    }
                }
            }
        }
    }

    /// Names and topics, two views of one fact, agree.
    pub fn verify(&self) {
        assert_eq!(self.names.len(), self.topics.len(), "names and topics");
        let live: BTreeSet<Uuid> = self.topics.values().map(|topic| topic.id).collect();
        for id in self.deleted.keys() {
            assert!(!live.contains(id), "topic {id} is both there and deleted");
        }
    }
}

/// The name with every '.' as '_'; None if it has neither.
fn confusable_form(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}
