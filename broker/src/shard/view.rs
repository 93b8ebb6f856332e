//! A core's own copy of what the cluster knows: the metadata, who leads, and configs resolved for use.
//!
//! Every core applies the same committed records in the same order ([`super::mail::Mail::View`]), so the copies
//! differ only in age. `version` is the index of the metadata log up to which this one goes. Read by handlers
//! without asking anybody.

use super::mail::Leadership;
use crate::cluster::{Change, Cluster, Record, Resource, Topic, partition_id};
use crate::config::{BrokerConfig, TopicConfig};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use storage::PartitionId;
use uuid::Uuid;

/// What handlers look things up in.
pub struct View {
    /// Index of the metadata log that this copy has reached; 0 before the first word from core 0.
    pub version: u64,
    pub cluster: Cluster,
    /// Static settings, without the dynamic ones.
    base: Rc<BrokerConfig>,
    /// Static settings under the dynamic ones of this node.
    broker: Rc<BrokerConfig>,
    node_id: i32,
    /// Resolved configs of topics that have overrides; the others share `topic_defaults`.
    topic_configs: BTreeMap<Uuid, Rc<TopicConfig>>,
    topic_defaults: Rc<TopicConfig>,
    /// Looked up by key only, never iterated: the order of a hash map must not show.
    leaders: HashMap<PartitionId, Leader, crate::shard::FixedHasher>,
}

/// Who leads a partition, as far as this core has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// -1: nobody serves it now.
    pub node: i32,
    pub epoch: i32,
}

impl View {
    pub fn new(base: Rc<BrokerConfig>, node_id: i32) -> View {
        let nothing = BTreeMap::new();
        let topic_defaults = Rc::new(TopicConfig::resolve(&nothing, &base));
        View {
            version: 0,
            cluster: Cluster::default(),
            broker: base.clone(),
            base,
            node_id,
            topic_configs: BTreeMap::new(),
            topic_defaults,
            leaders: HashMap::default(),
        }
    }

    /// Takes committed records in; says what changed.
    pub fn apply(&mut self, version: u64, records: &[Record]) -> Vec<Change> {
        assert!(
            version >= self.version,
            "the view goes back from {} to {version}",
            self.version
        );
        self.version = version;
        let changes: Vec<Change> = records
            .iter()
            .filter_map(|record| self.cluster.apply(record))
            .collect();
        for change in &changes {
            self.follow(change);
        }
        changes
    }

    /// The settings that hold now.
    pub fn broker(&self) -> &Rc<BrokerConfig> {
        &self.broker
    }

    /// The resolved config of a topic.
    pub fn topic_config(&self, id: Uuid) -> Rc<TopicConfig> {
        self.topic_configs
            .get(&id)
            .unwrap_or(&self.topic_defaults)
            .clone()
    }

    pub fn leader(&self, partition: PartitionId) -> Option<Leader> {
        self.leaders
            .get(&partition)
            .copied()
            .filter(|leader| leader.node >= 0)
    }

    /// An owner's word on its partitions.
    pub fn lead(&mut self, word: &[Leadership]) {
        for leadership in word {
            let leader = Leader {
                node: leadership.leader,
                epoch: leadership.epoch,
            };
            self.leaders.insert(leadership.partition, leader);
        }
    }

    fn follow(&mut self, change: &Change) {
        match change {
            Change::TopicCreated { id } => self.resolve_topic(*id),
            Change::PartitionsAdded { .. } => {}
            Change::TopicDeleted { id, partitions, .. } => {
                self.topic_configs.remove(id);
                for partition in 0..*partitions {
                    self.leaders.remove(&partition_id(*id, partition));
                }
            }
            Change::ConfigChanged {
                resource: Resource::Topic(name),
            } => {
                if let Some(id) = self.cluster.topic(name).map(|topic| topic.id) {
                    self.resolve_topic(id);
                }
            }
            Change::ConfigChanged {
                resource: Resource::Group(_),
            } => {}
            Change::ConfigChanged { .. } | Change::Replaced => self.resolve_all(),
        }
    }

    fn resolve_all(&mut self) {
        let nothing = BTreeMap::new();
        let defaults = self
            .cluster
            .configs(&Resource::BrokerDefault)
            .unwrap_or(&nothing);
        let own = self
            .cluster
            .configs(&Resource::Broker(self.node_id))
            .unwrap_or(&nothing);
        self.broker = Rc::new(self.base.with_dynamic(defaults, own));
        self.topic_defaults = Rc::new(TopicConfig::resolve(&nothing, &self.broker));
        self.topic_configs.clear();
        let ids: Vec<Uuid> = self
            .cluster
            .topics()
            .map(|topic: &Topic| topic.id)
            .collect();
        for id in ids {
            self.resolve_topic(id);
        }
    }

    fn resolve_topic(&mut self, id: Uuid) {
        let Some(topic) = self.cluster.topic_by_id(id) else {
            return;
        };
        let overrides = self.cluster.configs(&Resource::Topic(topic.name.clone()));
        match overrides.filter(|overrides| !overrides.is_empty()) {
            Some(overrides) => {
                let config = Rc::new(TopicConfig::resolve(overrides, &self.broker));
                self.topic_configs.insert(id, config);
            }
            None => {
                self.topic_configs.remove(&id);
            }
        }
    }
}
