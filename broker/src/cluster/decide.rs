//! Decisions about the cluster's metadata: a request and the state become records, or a refusal.
//!
//! Synchronous and without clock or randomness: ids come in with the context. The caller proposes the records
//! and gives the answer to the client once they are committed and applied. Requests are decided one after
//! another, each against the state that the one before left.

use super::placement;
use super::record::{Record, Registration, Resource};
use super::recovery::{Recovery, RecoveryAsk, RecoveryPlan};
use super::state::{Cluster, Topic};
use crate::config;
use protocol::error::ErrorCode;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Most partitions one node takes (a limit of memory: every partition costs a few KiB).
pub const PARTITIONS_MAX: usize = 200_000;
/// Most partitions that one topic or one request may create.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 50_000;
/// Producer ids are handed to cores in blocks of this size, as in Kafka.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;
/// Kafka's limit, which leaves room for a suffix in a file name.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// A request to the owner of the metadata.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ClusterAsk {
    CreateTopics {
        topics: Vec<NewTopic>,
        validate_only: bool,
    },
    DeleteTopics(Vec<TopicRef>),
    CreatePartitions {
        topics: Vec<MorePartitions>,
        validate_only: bool,
    },
    AlterConfigs {
        resources: Vec<ConfigAlteration>,
        validate_only: bool,
    },
    /// Moves partitions to other nodes, or cancels that.
    MovePartitions {
        moves: Vec<PartitionMove>,
        /// Whether a partition may get more or fewer replicas than it has.
        may_change_factor: bool,
    },
    /// The leader of a partition says that its group is what the move of that number wanted.
    MoveDone {
        topic: Uuid,
        partition: u32,
        number: u64,
        members: Vec<u64>,
    },
    AllocateProducerIds,
    /// A node has started.
    RegisterNode(Registration),
    /// A node holds nothing of a deleted topic any more.
    TopicPurged {
        topic: Uuid,
        node: i32,
    },
    /// A node is not heard of, or is again. Only the leader itself asks for this.
    FenceNode {
        node: i32,
        fenced: bool,
    },
    /// A node is gone for good.
    UnregisterNode(i32),
    /// What a node says about its disk. Changes nothing: the leader keeps it in mind.
    DiskUsed {
        node: i32,
        disk: super::balance::Disk,
    },
    /// What is left of a partition without a majority; and if that is wanted, it goes on from there.
    RecoverPartition(Box<RecoveryAsk>),
    /// The replica that was to go on alone serves.
    RecoveryDone {
        topic: Uuid,
        partition: u32,
        number: u64,
    },
    /// The leader of the metadata says that its group went on from one node alone.
    MetadataRecovered {
        recovery: Recovery,
        lost: BTreeSet<i32>,
    },
    /// Who holds the metadata, and how far. Changes nothing: its leader answers from its replica.
    DescribeQuorum,
}

impl ClusterAsk {
    fn validate_only(&self) -> bool {
        match self {
            ClusterAsk::CreateTopics { validate_only, .. }
            | ClusterAsk::CreatePartitions { validate_only, .. }
            | ClusterAsk::AlterConfigs { validate_only, .. } => *validate_only,
            _ => false,
        }
    }
}

/// The answer, in the order of what was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ClusterAnswer {
    /// The topics as they are now.
    CreateTopics(Vec<Result<Topic, Refusal>>),
    /// Name and id of what was deleted.
    DeleteTopics(Vec<Result<(String, Uuid), Refusal>>),
    CreatePartitions(Vec<Result<(), Refusal>>),
    AlterConfigs(Vec<Result<(), Refusal>>),
    MovePartitions(Vec<Result<(), Refusal>>),
    UnregisterNode(Result<(), Refusal>),
    Quorum(Quorum),
    Recovery(Result<Box<RecoveryPlan>, Refusal>),
    /// First id of a block of [`PRODUCER_ID_BLOCK`].
    ProducerIds(i64),
    RegisterNode(Result<(), Refusal>),
    /// Done, or there was nothing to do.
    Done,
    /// The metadata cannot be written now: no leader, or its disk refuses.
    Unavailable(#[serde(with = "code")] ErrorCode),
}

impl ClusterAnswer {
    /// Whether it is about what clients find on any node, and expect there as soon as they were told.
    pub fn is_seen_by_clients(&self) -> bool {
        match self {
            ClusterAnswer::CreateTopics(_)
            | ClusterAnswer::DeleteTopics(_)
            | ClusterAnswer::CreatePartitions(_)
            | ClusterAnswer::AlterConfigs(_)
            | ClusterAnswer::MovePartitions(_) => true,
            ClusterAnswer::UnregisterNode(_)
            | ClusterAnswer::Quorum(_)
            | ClusterAnswer::Recovery(_)
            | ClusterAnswer::ProducerIds(_)
            | ClusterAnswer::RegisterNode(_)
            | ClusterAnswer::Done
            | ClusterAnswer::Unavailable(_) => false,
        }
    }
}

/// Kafka's codes as numbers.
mod code {
    use protocol::error::ErrorCode;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(code: &ErrorCode, to: S) -> Result<S::Ok, S::Error> {
        code.0.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ErrorCode, D::Error> {
        i16::deserialize(from).map(ErrorCode)
    }
}

/// Why something was refused, in Kafka's code and a sentence for the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    #[serde(with = "code")]
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewTopic {
    pub name: String,
    /// -1: the broker's default (KIP-464).
    pub partitions: i32,
    /// -1: the broker's default.
    pub replication_factor: i16,
    /// Explicit placement by partition index; empty if the broker is to place.
    pub assignments: Vec<(i32, Vec<i32>)>,
    pub configs: Vec<(String, Option<String>)>,
    pub internal: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TopicRef {
    Name(String),
    Id(Uuid),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MorePartitions {
    pub name: String,
    /// The new total.
    pub count: i32,
    /// Placement of the added ones, if given.
    pub assignments: Option<Vec<Vec<i32>>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartitionMove {
    pub topic: String,
    pub partition: i32,
    /// The preferred leader first; None: back to where it was.
    pub target: Option<Vec<i32>>,
}

/// The metadata's group as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    pub leader: i32,
    pub epoch: i32,
    /// Index behind the last committed entry.
    pub high_watermark: u64,
    pub voters: Vec<QuorumMember>,
    pub observers: Vec<QuorumMember>,
}

/// A node's replica of the metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumMember {
    pub node: i32,
    pub incarnation: u32,
    /// Index behind the last entry that it is known to have.
    pub log_end: u64,
    /// It has all that the leader has.
    pub is_caught_up: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigAlteration {
    pub resource: Resource,
    /// True for AlterConfigs (the whole set is replaced), false for IncrementalAlterConfigs.
    pub replace: bool,
    pub operations: Vec<config::ops::Operation>,
}

/// What a decision needs beside the state.
pub struct Context<'a> {
    /// The node that decides: the leader of the metadata.
    pub node_id: i32,
    /// Nodes that are connected to it now, and as which incarnation.
    pub connected: &'a BTreeMap<i32, u32>,
    /// Nodes whose disks are full: they get replicas of new partitions only if there are no others.
    pub full: &'a BTreeSet<i32>,
    pub broker: &'a config::BrokerConfig,
    /// Fresh topic ids.
    pub next_id: &'a mut dyn FnMut() -> Uuid,
}

/// Turns a request into the records that carry it out, and the answer to give once they are applied.
///
/// `ahead` is the committed state plus all records decided so far; it takes the new records in at once, so
/// that the next request is decided against them. A caller whose proposal fails starts again from a copy of
/// the committed state.
pub fn decide(
    ahead: &mut Cluster,
    ask: &ClusterAsk,
    context: &mut Context,
) -> (Vec<Record>, ClusterAnswer) {
    if ask.validate_only() {
        let mut scratch = ahead.clone();
        let (_, answer) = decide_for_real(&mut scratch, ask, context);
        return (Vec::new(), answer);
    }
    decide_for_real(ahead, ask, context)
}

fn decide_for_real(
    ahead: &mut Cluster,
    ask: &ClusterAsk,
    context: &mut Context,
) -> (Vec<Record>, ClusterAnswer) {
    let mut draft = Draft::of(ahead);
    let answer = match ask {
        ClusterAsk::CreateTopics { topics, .. } => {
            let duplicated = duplicates(topics.iter().map(|topic| topic.name.as_str()));
            let mut answers = Vec::with_capacity(topics.len());
            let mut budget = PARTITIONS_PER_REQUEST_MAX;
            for topic in topics {
                answers.push(if duplicated.contains(topic.name.as_str()) {
                    Err(named_twice(&topic.name))
                } else {
                    draft.create_topic(topic, &mut budget, context)
                });
            }
            ClusterAnswer::CreateTopics(answers)
        }
        ClusterAsk::DeleteTopics(topics) => {
            let answers = topics
                .iter()
                .map(|topic| draft.delete_topic(topic, context))
                .collect();
            ClusterAnswer::DeleteTopics(answers)
        }
        ClusterAsk::CreatePartitions { topics, .. } => {
            let duplicated = duplicates(topics.iter().map(|topic| topic.name.as_str()));
            let mut answers = Vec::with_capacity(topics.len());
            for topic in topics {
                answers.push(if duplicated.contains(topic.name.as_str()) {
                    Err(named_twice(&topic.name))
                } else {
                    draft.create_partitions(topic, context)
                });
            }
            ClusterAnswer::CreatePartitions(answers)
        }
        ClusterAsk::AlterConfigs { resources, .. } => {
            let answers = resources
                .iter()
                .map(|alteration| draft.alter_configs(alteration, context))
                .collect();
            ClusterAnswer::AlterConfigs(answers)
        }
        ClusterAsk::MovePartitions {
            moves,
            may_change_factor,
        } => {
            let decided = moves
                .iter()
                .map(|wanted| draft.move_partition(wanted, *may_change_factor, context))
                .collect();
            ClusterAnswer::MovePartitions(decided)
        }
        ClusterAsk::MoveDone {
            topic,
            partition,
            number,
            members,
        } => {
            draft.move_done(*topic, *partition, *number, members);
            ClusterAnswer::Done
        }
        ClusterAsk::AllocateProducerIds => {
            let first = draft.state.next_producer_id();
            draft.push(Record::ProducerIdsAllocated {
                next: first + PRODUCER_ID_BLOCK,
            });
            ClusterAnswer::ProducerIds(first)
        }
        ClusterAsk::RegisterNode(registration) => {
            ClusterAnswer::RegisterNode(draft.register(registration, context))
        }
        ClusterAsk::TopicPurged { topic, node } => {
            let deleted = draft.state.deleted().get(topic);
            if deleted.is_some_and(|deleted| deleted.holders.contains(node)) {
                draft.push(Record::TopicPurged {
                    id: *topic,
                    node: *node,
                });
            }
            ClusterAnswer::Done
        }
        ClusterAsk::FenceNode { node, fenced } => {
            let known = draft.state.nodes().get(node);
            if known.is_some_and(|known| known.fenced != *fenced) {
                draft.push(Record::NodeFenced {
                    node: *node,
                    fenced: *fenced,
                });
            }
            ClusterAnswer::Done
        }
        ClusterAsk::UnregisterNode(node) => {
            ClusterAnswer::UnregisterNode(draft.unregister(*node, context))
        }
        ClusterAsk::DiskUsed { .. } => ClusterAnswer::Done,
        ClusterAsk::RecoverPartition(ask) => {
            ClusterAnswer::Recovery(draft.recover(ask, context).map(Box::new))
        }
        ClusterAsk::RecoveryDone {
            topic,
            partition,
            number,
        } => {
            draft.recovery_done(*topic, *partition, *number);
            ClusterAnswer::Done
        }
        ClusterAsk::MetadataRecovered { recovery, lost } => {
            draft.metadata_recovered(recovery, lost);
            ClusterAnswer::Done
        }
        // Not a decision: who holds the replica has answered it.
        ClusterAsk::DescribeQuorum => ClusterAnswer::Unavailable(ErrorCode::NOT_CONTROLLER),
    };
    (draft.records, answer)
}

/// The state with the records so far applied, so that the parts of one request see one another.
pub(super) struct Draft<'a> {
    pub(super) state: &'a mut Cluster,
    records: Vec<Record>,
}

impl<'a> Draft<'a> {
    pub(super) fn of(state: &'a mut Cluster) -> Draft<'a> {
        let records = Vec::new();
        Draft { state, records }
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.records
    }
}

impl Draft<'_> {
    pub(super) fn push(&mut self, record: Record) {
        self.state.apply(&record);
        self.records.push(record);
    }

    fn create_topic(
        &mut self,
        topic: &NewTopic,
        budget: &mut usize,
        context: &mut Context,
    ) -> Result<Topic, Refusal> {
        check_topic_name(&topic.name)?;
        if self.state.topic(&topic.name).is_some() {
            let message = format!("Topic '{}' already exists.", topic.name);
            return Err(Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, message));
        }
        if let Some(other) = self.state.colliding_topic(&topic.name) {
            let message = format!(
                "Topic '{}' collides with existing topic '{other}'.",
                topic.name
            );
            return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
        }
        let partitions = self.place(topic, context)?;
        if partitions.len() > *budget
            || self.state.partition_count() + partitions.len() > PARTITIONS_MAX
        {
            let message = format!(
                "{} partitions are too many: one request may create {PARTITIONS_PER_REQUEST_MAX}, one \
                 cluster of this size holds {PARTITIONS_MAX}.",
                partitions.len()
            );
            return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message));
        }
        let mut configs = BTreeMap::new();
        for (name, value) in &topic.configs {
            let value = value.as_deref().ok_or_else(|| {
                Refusal::new(
                    ErrorCode::INVALID_CONFIG,
                    format!("Null value not supported for topic configs: {name}"),
                )
            })?;
            let value = config::validate_topic(name, value)
                .map_err(|invalid| Refusal::new(ErrorCode::INVALID_CONFIG, invalid.to_string()))?;
            configs.insert(name.clone(), value);
        }
        config::validate_topic_set(&configs)
            .map_err(|invalid| Refusal::new(ErrorCode::INVALID_CONFIG, invalid.to_string()))?;
        *budget -= partitions.len();
        let id = (context.next_id)();
        let internal = topic.internal;
        let name = topic.name.clone();
        self.push(Record::TopicCreated {
            id,
            name,
            partitions,
            configs,
            internal,
        });
        Ok(self.state.topic_by_id(id).expect("just created").clone())
    }

    fn delete_topic(
        &mut self,
        topic: &TopicRef,
        context: &Context,
    ) -> Result<(String, Uuid), Refusal> {
        let found = match topic {
            TopicRef::Name(name) => self.state.topic(name),
            TopicRef::Id(id) => self.state.topic_by_id(*id),
        };
        let Some(found) = found else {
            let code = match topic {
                TopicRef::Name(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                TopicRef::Id(_) => ErrorCode::UNKNOWN_TOPIC_ID,
            };
            return Err(Refusal::new(code, "This server does not host this topic."));
        };
        if !context.broker.delete_topic_enable {
            let message = "Topic deletion is disabled (delete.topic.enable=false).";
            return Err(Refusal::new(ErrorCode::TOPIC_DELETION_DISABLED, message));
        }
        let (name, id) = (found.name.clone(), found.id);
        self.push(Record::TopicDeleted { id });
        Ok((name, id))
    }

    fn create_partitions(
        &mut self,
        topic: &MorePartitions,
        context: &Context,
    ) -> Result<(), Refusal> {
        let Some(found) = self.state.topic(&topic.name) else {
            let message = format!("The topic '{}' does not exist.", topic.name);
            return Err(Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message));
        };
        let (id, current) = (found.id, found.partitions.len());
        let wanted = usize::try_from(topic.count).unwrap_or(0);
        if wanted <= current {
            let message = format!(
                "The topic {} currently has {current} partition(s); {} would not be an increase.",
                topic.name, topic.count
            );
            return Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, message));
        }
        let added = wanted - current;
        if added > PARTITIONS_PER_REQUEST_MAX
            || self.state.partition_count() + added > PARTITIONS_MAX
        {
            let message = format!("{added} more partitions are too many at once.");
            return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message));
        }
        let partitions = match &topic.assignments {
            None => {
                let factor = found.wanted(0).map_or(1, Vec::len);
                let nodes = placement::candidates(self.state, context.node_id, context.full);
                if nodes.len() < factor {
                    return Err(too_few(factor as i64, nodes.len()));
                }
                placement::place(self.state, &nodes, added, factor)
            }
            Some(given) if given.len() != added => {
                let message = format!(
                    "{added} partition(s) would be added, but {} assignment(s) were given.",
                    given.len()
                );
                return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
            }
            Some(given) => {
                for replicas in given {
                    self.check_replicas(replicas, context)?;
                }
                given.clone()
            }
        };
        self.push(Record::PartitionsAdded { id, partitions });
        Ok(())
    }

    fn alter_configs(
        &mut self,
        alteration: &ConfigAlteration,
        context: &Context,
    ) -> Result<(), Refusal> {
        self.check_resource(&alteration.resource, context)?;
        let empty = BTreeMap::new();
        let current = self
            .state
            .configs(&alteration.resource)
            .unwrap_or(&empty)
            .clone();
        let kind = match &alteration.resource {
            Resource::Topic(_) => config::ResourceKind::Topic,
            Resource::Broker(_) => config::ResourceKind::Broker,
            Resource::BrokerDefault => config::ResourceKind::BrokerDefault,
            Resource::Group(_) => config::ResourceKind::Group,
        };
        let base = if alteration.replace {
            BTreeMap::new()
        } else {
            current.clone()
        };
        let wanted = config::ops::alter(kind, &base, &alteration.operations, context.broker)
            .map_err(|invalid| Refusal::new(invalid.code, invalid.message))?;
        if matches!(
            kind,
            config::ResourceKind::Broker | config::ResourceKind::BrokerDefault
        ) {
            self.check_leaving(&alteration.resource, &wanted)?;
        }
        for name in current.keys().filter(|name| !wanted.contains_key(*name)) {
            let (resource, name) = (alteration.resource.clone(), name.clone());
            self.push(Record::ConfigSet {
                resource,
                name,
                value: None,
            });
        }
        for (name, value) in wanted {
            if current.get(&name) != Some(&value) {
                let resource = alteration.resource.clone();
                self.push(Record::ConfigSet {
                    resource,
                    name,
                    value: Some(value),
                });
            }
        }
        Ok(())
    }

    fn check_resource(&self, resource: &Resource, context: &Context) -> Result<(), Refusal> {
        match resource {
            Resource::Topic(name) if self.state.topic(name).is_none() => Err(Refusal::new(
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                format!("The topic '{name}' does not exist."),
            )),
            Resource::Broker(node)
                if *node != context.node_id && !self.state.nodes().contains_key(node) =>
            {
                Err(Refusal::new(
                    ErrorCode::INVALID_REQUEST,
                    format!("Unexpected broker id {node}: no such node is registered."),
                ))
            }
            Resource::Group(name) if name.is_empty() => Err(Refusal::new(
                ErrorCode::INVALID_REQUEST,
                "The group name must not be empty.",
            )),
            _ => Ok(()),
        }
    }

    /// Where the partitions of a new topic go.
    fn place(&self, topic: &NewTopic, context: &Context) -> Result<Vec<Vec<i32>>, Refusal> {
        if topic.assignments.is_empty() {
            return self.place_freely(topic, context);
        }
        if topic.partitions != -1 || topic.replication_factor != -1 {
            let message = "A manual assignment needs num_partitions and replication_factor of -1.";
            return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
        }
        let given: BTreeMap<i32, &Vec<i32>> = topic
            .assignments
            .iter()
            .map(|(partition, replicas)| (*partition, replicas))
            .collect();
        let consecutive = given.keys().copied().eq(0..topic.assignments.len() as i32);
        if !consecutive {
            let message = "partitions should be a consecutive 0-based integer sequence";
            return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        }
        given
            .into_values()
            .map(|replicas| {
                self.check_replicas(replicas, context)
                    .map(|()| replicas.clone())
            })
            .collect()
    }

    fn place_freely(&self, topic: &NewTopic, context: &Context) -> Result<Vec<Vec<i32>>, Refusal> {
        let count = match topic.partitions {
            -1 => context.broker.num_partitions,
            given => given,
        };
        if count <= 0 {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, message));
        }
        let nodes = placement::candidates(self.state, context.node_id, context.full);
        let factor = match topic.replication_factor {
            // What the broker keeps for itself has as many replicas as are wanted, or as there are nodes.
            -1 if topic.internal => {
                let wanted = context.broker.offsets_topic_replication_factor;
                i64::from(wanted).min(nodes.len() as i64).max(1)
            }
            -1 => i64::from(context.broker.default_replication_factor),
            given => i64::from(given),
        };
        if factor <= 0 {
            return Err(Refusal::new(
                ErrorCode::INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            ));
        }
        if factor > nodes.len() as i64 {
            return Err(too_few(factor, nodes.len()));
        }
        // One more than may be: enough for the caller to refuse it.
        let count = (count as usize).min(PARTITIONS_MAX + 1);
        Ok(placement::place(self.state, &nodes, count, factor as usize))
    }

    pub(super) fn check_replicas(
        &self,
        replicas: &[i32],
        context: &Context,
    ) -> Result<(), Refusal> {
        let refused = |why: String| {
            let message =
                format!("The manual partition assignment {replicas:?} is not possible: {why}.");
            Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message))
        };
        if replicas.is_empty() {
            return refused("it names no broker".to_owned());
        }
        let known = |node: &i32| match self.state.nodes().is_empty() {
            true => *node == context.node_id,
            false => self.state.nodes().contains_key(node),
        };
        if let Some(unknown) = replicas.iter().find(|node| !known(node)) {
            return refused(format!("broker {unknown} is not registered"));
        }
        let distinct: BTreeSet<i32> = replicas.iter().copied().collect();
        match distinct.len() == replicas.len() {
            true => Ok(()),
            false => refused("it names a broker twice".to_owned()),
        }
    }
}

fn too_few(factor: i64, nodes: usize) -> Refusal {
    Refusal::new(
        ErrorCode::INVALID_REPLICATION_FACTOR,
        format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot \
             be reached because only {nodes} broker(s) are registered."
        ),
    )
}

fn named_twice(name: &str) -> Refusal {
    Refusal::new(
        ErrorCode::INVALID_REQUEST,
        format!("Duplicate topic name: {name}."),
    )
}

fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

/// Kafka's rules for topic names.
pub fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let reason = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > TOPIC_NAME_BYTES_MAX {
        format!("it is longer than {TOPIC_NAME_BYTES_MAX} characters")
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        "it may hold only ASCII letters, digits, '.', '_' and '-'".to_owned()
    } else {
        return Ok(());
    };
    let message = format!("Topic name is invalid: {reason}.");
    Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message))
}
