//! A core's own copy of what the cluster knows: the metadata, who leads, and configs resolved for use.
//!
//! Every core applies the same committed records in the same order ([`super::mail::Mail::View`]), so the copies
//! differ only in age. `version` is the index of the metadata log up to which this one goes. Read by handlers
//! without asking anybody.

use super::mail::Leadership;
use crate::cluster::{Change, Cluster, METADATA, Record, Resource, Topic, partition_id};
use crate::config::{BrokerConfig, TopicConfig};
use raft_group::ReplicaId;
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
    leaders: HashMap<PartitionId, Led, crate::shard::FixedHasher>,
    /// Partitions of which this node's own replica says that nobody leads them, as of an epoch. It may only have been
    /// cut off, and it may be given up before it hears better; so what leaders have said is kept beside it.
    unled: HashMap<PartitionId, i32, crate::shard::FixedHasher>,
    /// Nodes whose replicas lag behind the leader, by its last word; those partitions only that have some.
    lagging: HashMap<PartitionId, Vec<i32>, crate::shard::FixedHasher>,
    /// Topics with partitions that have never been heard of.
    fresh: BTreeMap<Uuid, Fresh>,
}

/// A topic that was created or has grown, until all its partitions have served.
struct Fresh {
    /// Partitions below this one have.
    shown: u32,
    /// How many of the others have not.
    silent: u32,
    /// They were looked for before.
    late: bool,
}

/// What was heard of a leader last.
#[derive(Clone, Copy)]
struct Led {
    by: ReplicaId,
    epoch: i32,
}

/// Who leads a partition, as far as this core has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
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
            unled: HashMap::default(),
            lagging: HashMap::default(),
            fresh: BTreeMap::new(),
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
        let Led { by, epoch } = *self.leaders.get(&partition)?;
        let unled = self.unled.get(&partition);
        let leads = unled.is_none_or(|unled| *unled < epoch);
        // Nobody may be there to say that a disk that is gone for good does not lead any more.
        let node = by.node();
        (leads && !self.cluster.is_retired(by)).then_some(Leader { node, epoch })
    }

    /// The nodes whose replicas lag behind the partition's leader, as far as this core has heard.
    pub fn lagging(&self, partition: PartitionId) -> &[i32] {
        self.lagging.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// How many partitions of a topic clients are told of: those that are new to a node serve a few
    /// milliseconds later, and until then nobody needs to know of them.
    pub fn shown(&self, topic: &Topic) -> usize {
        match self.fresh.get(&topic.id) {
            Some(fresh) => fresh.shown as usize,
            None => topic.partitions.len(),
        }
    }

    /// Clients are told of everything that is known by now, whether anybody serves it or not.
    pub fn show_all(&mut self) {
        self.fresh.clear();
    }

    /// The topics that clients are told of without asking for them.
    pub fn topics_shown(&self) -> impl Iterator<Item = &Topic> {
        let topics = self.cluster.topics();
        topics.filter(|topic| self.shown(topic) > 0)
    }

    /// The node that decides what becomes of the metadata, as far as this core has heard.
    pub fn controller(&self) -> i32 {
        self.leader(METADATA).map_or(-1, |leader| leader.node)
    }

    /// An owner's word on its partitions. The first one on a partition says that it serves, or that it will not
    /// without a repair.
    pub fn lead(&mut self, word: &[Leadership]) {
        for leadership in word {
            let (id, epoch) = (leadership.partition, leadership.epoch);
            let known = self.leaders.get(&id).map(|leader| leader.epoch);
            let unled = self.unled.get(&id).copied();
            let newest = known.max(unled);
            if newest.is_some_and(|newest| newest > epoch) {
                continue; // From before: words of several nodes do not come in order.
            }
            match leadership.leader {
                None => _ = self.unled.insert(id, epoch),
                Some(by) => {
                    self.unled.remove(&id);
                    self.leaders.insert(id, Led { by, epoch });
                }
            }
            if newest.is_none() {
                self.heard_of(id);
            }
            match &leadership.lagging {
                None => {}
                Some(lagging) if lagging.is_empty() => {
                    self.lagging.remove(&leadership.partition);
                }
                Some(lagging) => {
                    self.lagging.insert(leadership.partition, lagging.clone());
                }
            }
        }
    }

    /// Called now and then: what has not served between two calls is shown as it is. It may have no majority, and who
    /// is to repair it has to see it.
    pub fn show_late(&mut self) {
        self.fresh
            .retain(|_, fresh| !std::mem::replace(&mut fresh.late, true));
    }

    /// This node's replica is closed, and with it what it had to say.
    pub fn replica_closed(&mut self, id: PartitionId) {
        self.unled.remove(&id);
    }

    fn heard_of(&mut self, partition: PartitionId) {
        let topic = Uuid::from_u128(partition.topic);
        let Some(fresh) = self.fresh.get_mut(&topic) else {
            return;
        };
        if partition.partition >= fresh.shown {
            fresh.silent -= 1;
        }
        if fresh.silent == 0 {
            self.fresh.remove(&topic);
        }
    }

    /// The partitions of a topic from `first` on are new. Their owners may have been faster than this word.
    fn await_partitions(&mut self, id: Uuid, first: u32) {
        let Some(topic) = self.cluster.topic_by_id(id) else {
            return;
        };
        // Who grows again before the first growth serves shows what it has shown before.
        let shown = self.fresh.get(&id).map_or(first, |fresh| fresh.shown);
        let new = (shown..topic.partitions.len() as u32).map(|index| partition_id(id, index));
        let silent = new
            .filter(|id| !self.leaders.contains_key(id) && !self.unled.contains_key(id))
            .count() as u32;
        match silent {
            0 => self.fresh.remove(&id),
            _ => {
                let late = false;
                let fresh = Fresh {
                    shown,
                    silent,
                    late,
                };
                self.fresh.insert(id, fresh)
            }
        };
    }

    fn follow(&mut self, change: &Change) {
        match change {
            Change::TopicCreated { id } => {
                self.resolve_topic(*id);
                self.await_partitions(*id, 0);
            }
            Change::PartitionsAdded { id, first } => self.await_partitions(*id, *first),
            Change::TopicDeleted { id, partitions, .. } => {
                self.topic_configs.remove(id);
                self.fresh.remove(id);
                for partition in 0..*partitions {
                    self.leaders.remove(&partition_id(*id, partition));
                    self.unled.remove(&partition_id(*id, partition));
                    self.lagging.remove(&partition_id(*id, partition));
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
            }
            | Change::ReplicasChanged { .. }
            | Change::NodeChanged { .. } => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Record, Registration};
    use storage::Start;

    const ID: Uuid = Uuid::from_u128(7);
    const DISK: u32 = 5;

    fn view() -> View {
        View::new(Rc::new(BrokerConfig::default()), 1)
    }

    fn created(partitions: usize) -> Record {
        Record::TopicCreated {
            id: ID,
            name: "orders".to_owned(),
            partitions: vec![vec![1]; partitions],
            configs: BTreeMap::new(),
            internal: false,
        }
    }

    fn word(partition: u32, leader: i32) -> [Leadership; 1] {
        [Leadership {
            partition: partition_id(ID, partition),
            leader: ReplicaId::new(leader, DISK),
            epoch: 1,
            lagging: None,
        }]
    }

    #[test]
    fn a_disk_that_is_gone_for_good_leads_nothing() {
        let mut view = view();
        let registered = |incarnation| {
            Record::NodeRegistered(Registration {
                node: 3,
                incarnation,
                start: Start::default(),
                peer: String::new(),
                endpoints: Vec::new(),
                rack: None,
                cores: 1,
                level: 1,
            })
        };
        let led = |view: &View| view.leader(partition_id(ID, 0)).map(|leader| leader.node);
        view.apply(1, &[created(1), registered(DISK)]);
        view.lead(&word(0, 3));
        assert_eq!(led(&view), Some(3));
        let (node, incarnation) = (3, DISK);
        view.apply(2, &[Record::NodeLost { node, incarnation }]);
        assert_eq!(led(&view), None, "it is lost");
        // Words and records do not come in order.
        let mut other = word(0, 3);
        other[0].leader = ReplicaId::new(3, DISK + 1);
        view.lead(&other);
        view.apply(3, &[registered(DISK + 1)]);
        assert_eq!(led(&view), Some(3), "it has another disk");
    }

    #[test]
    fn who_lags_is_for_the_leader_to_say() {
        let mut view = view();
        view.apply(1, &[created(1)]);
        let id = partition_id(ID, 0);
        let mut said = word(0, 1);
        said[0].lagging = Some(vec![3]);
        view.lead(&said);
        assert_eq!(view.lagging(id), [3]);
        // A follower says only whom it follows.
        view.lead(&word(0, 1));
        assert_eq!(view.lagging(id), [3]);
        said[0].epoch = 0;
        said[0].lagging = Some(vec![2]);
        view.lead(&said);
        assert_eq!(view.lagging(id), [3], "a word from before");
        said[0].epoch = 2;
        said[0].lagging = Some(Vec::new());
        view.lead(&said);
        assert!(view.lagging(id).is_empty());
    }

    #[test]
    fn what_a_replica_of_this_node_does_not_hear_ends_with_it() {
        let mut view = view();
        view.apply(1, &[created(1)]);
        let id = partition_id(ID, 0);
        let led = |view: &View| view.leader(id).map(|leader| (leader.node, leader.epoch));
        view.lead(&word(0, 3));
        assert_eq!(led(&view), Some((3, 1)));
        // It is cut off, and hears again.
        view.lead(&word(0, -1));
        assert_eq!(led(&view), None);
        view.lead(&word(0, 3));
        assert_eq!(led(&view), Some((3, 1)));
        // It is cut off, campaigns in vain, and has moved away before it hears anything.
        let mut alone = word(0, -1);
        alone[0].epoch = 2;
        view.lead(&alone);
        assert_eq!(led(&view), None);
        view.replica_closed(id);
        assert_eq!(led(&view), Some((3, 1)));
    }

    fn shown(view: &View) -> (usize, usize) {
        let topic = view.cluster.topic("orders").expect("it was created");
        (view.shown(topic), view.topics_shown().count())
    }

    #[test]
    fn a_topic_is_shown_once_all_its_partitions_were_heard_of() {
        let mut view = view();
        // The owner of partition 1 is faster than the word that there is one.
        view.lead(&word(1, 1));
        view.apply(1, &[created(3)]);
        assert_eq!(shown(&view), (0, 0));
        view.lead(&word(0, 1));
        view.lead(&word(0, 1));
        assert_eq!(shown(&view), (0, 0));
        // A partition that was fenced at once will not serve: the topic is shown without a leader there.
        view.lead(&word(2, -1));
        assert_eq!(shown(&view), (3, 1));
        view.lead(&word(0, -1));
        assert_eq!(shown(&view), (3, 1), "once shown it stays");
    }

    #[test]
    fn a_topic_that_nobody_serves_is_shown_in_the_end() {
        let mut view = view();
        view.apply(1, &[created(2)]);
        view.lead(&word(0, 1));
        view.show_late();
        assert_eq!(shown(&view), (0, 0));
        view.show_late();
        assert_eq!(shown(&view), (2, 1));
        view.lead(&word(1, 1));
        assert_eq!(shown(&view), (2, 1));
    }

    #[test]
    fn a_topic_that_grows_shows_what_it_had() {
        let mut view = view();
        view.apply(1, &[created(1)]);
        view.lead(&word(0, 1));
        let grow = |to: u32| Record::PartitionsAdded {
            id: ID,
            partitions: vec![vec![1]; to as usize],
        };
        view.apply(2, &[grow(2)]);
        view.apply(3, &[grow(1)]);
        assert_eq!(shown(&view), (1, 1));
        for partition in [3, 1, 2] {
            assert_eq!(shown(&view), (1, 1));
            view.lead(&word(partition, 1));
        }
        assert_eq!(shown(&view), (4, 1));
    }
}
