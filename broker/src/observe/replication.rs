//! How the partitions of a core are replicated, and what it has to do with the other nodes.
//!
//! A partition with too few replicas is counted by its leader, so that the sum over a cluster counts it once. One
//! without a leader is counted by each replica that knows of none: there is nobody else to do it.

use std::collections::BTreeMap;

use raft_group::{Replica, Role};
use uuid::Uuid;

use crate::cluster::{METADATA, METADATA_CORE};
use crate::handlers::metadata::by_presence;
use crate::partition::Partition;
use crate::peers::LinkCounters;
use crate::shard::Shard;
use crate::shard::lags::PeerLag;
use crate::shard::owned::Owned;
use crate::shard::view::View;

/// How partitions are replicated, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicationTally {
    /// Replicas on this core, leaders or not.
    pub replicas: u64,
    /// Those that lead.
    pub leaders: u64,
    /// Led here, and some replica is not in sync.
    pub under_replicated: u64,
    /// Led here, and fewer replicas are in sync than `min.insync.replicas` asks for.
    pub below_min_isr: u64,
    /// Replicas that know of no leader, and are not fenced.
    pub leaderless: u64,
}

impl ReplicationTally {
    pub(super) fn add(&mut self, replica: &Replica, partition: &Partition, view: &View) {
        self.replicas += 1;
        let is_led = replica.leader().is_some() || replica.fenced().is_some();
        self.leaderless += u64::from(!is_led);
        if replica.role() != Role::Leader {
            return;
        }
        self.leaders += 1;
        let id = replica.partition();
        let Some(topic) = view.cluster.topic_by_id(Uuid::from_u128(id.topic)) else {
            return;
        };
        let Some(all) = topic.partitions.get(id.partition as usize) else {
            return;
        };
        let in_sync = by_presence(view, topic, id.partition).0.len();
        // Who is on its way in is not missed.
        let coming = topic.coming_and_going(id.partition).0.len();
        self.under_replicated += u64::from(in_sync + coming < all.len());
        let wanted = u64::from(partition.config.min_insync_replicas);
        self.below_min_isr += u64::from((in_sync as u64) < wanted);
    }

    /// Adds another page's figures.
    pub(super) fn merge(&mut self, other: &ReplicationTally) {
        self.replicas += other.replicas;
        self.leaders += other.leaders;
        self.under_replicated += other.under_replicated;
        self.below_min_isr += other.below_min_isr;
        self.leaderless += other.leaderless;
    }
}

/// A core and another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerFigures {
    pub links: LinkCounters,
    /// Cores of this node whose link to it is up: of one core none or one.
    pub links_up: u64,
    pub lag: PeerLag,
}

impl PeerFigures {
    /// Adds another core's figures.
    pub fn merge(&mut self, other: &PeerFigures) {
        self.links += other.links;
        self.links_up += other.links_up;
        self.lag.merge(&other.lag);
    }
}

/// What a node knows of the cluster as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterFigures {
    /// -1: nobody that this node has heard of.
    pub metadata_leader: i32,
    pub metadata_epoch: i32,
    /// It is this node.
    pub is_leading: bool,
    pub nodes: usize,
    pub nodes_fenced: usize,
    /// Partitions that are on their way to other nodes.
    pub partitions_moving: usize,
}

pub(super) fn peers(shard: &Shard, owned: &Owned, view: &View) -> BTreeMap<i32, PeerFigures> {
    let mut peers: BTreeMap<i32, PeerFigures> = BTreeMap::new();
    if let Some(links) = shard.links.get() {
        for (node, counters) in links.counters() {
            let peer = peers.entry(node).or_default();
            peer.links = counters;
            peer.links_up = u64::from(links.is_up(node));
        }
    }
    for (node, lag) in owned.lags.by_node() {
        peers.entry(*node).or_default().lag = *lag;
    }
    // Of one that was let go links remember what they had received.
    peers.retain(|node, _| view.cluster.nodes().contains_key(node));
    peers
}

pub(super) fn cluster(shard: &Shard, view: &View) -> Option<ClusterFigures> {
    if shard.core.id() != METADATA_CORE {
        return None;
    }
    let leader = view.leader(METADATA);
    let node = leader.map_or(-1, |leader| leader.node);
    let nodes = view.cluster.nodes().values();
    Some(ClusterFigures {
        metadata_leader: node,
        metadata_epoch: leader.map_or(-1, |leader| leader.epoch),
        is_leading: node == shard.settings.node_id,
        nodes: nodes.len(),
        nodes_fenced: nodes.filter(|node| node.fenced).count(),
        partitions_moving: view.cluster.topics().map(|topic| topic.moves.len()).sum(),
    })
}
