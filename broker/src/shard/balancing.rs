//! What the node that leads the metadata sees of the others, and when it looks whether replicas should move by
//! themselves. What is to move is decided by [`crate::cluster::balance`].
//!
//! Nothing here outlives the lead: whoever leads next waits anew for nodes that it does not hear, and is told by the
//! nodes what their disks hold. That only delays.

use super::Shard;
use super::metadata::Asker;
use super::owned::Owned;
use crate::cluster::balance::{Disk, Held, Rules, Sight, Step};
use crate::cluster::{Cluster, ClusterAsk, METADATA, leaving};
use crate::config::BrokerConfig;
use runtime::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use storage::PartitionId;
use uuid::Uuid;

/// How often it is looked whether something should move.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a node must have been connected before it counts as being there: one that starts has much to do.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// Partitions that a full disk names.
const LARGEST: usize = 32;

/// How often a node tells what its disk holds.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What the leader of the metadata keeps in mind.
#[derive(Default)]
pub(super) struct Balancing {
    look_at: Instant,
    /// The version of the metadata and the sight at the last look: as long as they stay, so does what came of it.
    looked: Option<(u64, Sight)>,
    disks: BTreeMap<i32, Disk>,
}

impl Balancing {
    pub(super) fn disk_used(&mut self, node: i32, disk: Disk, broker: &BrokerConfig) {
        let percent = broker.balance_disk_full_percent;
        let is_full = disk.is_above(percent, 0);
        let before = self.disks.insert(node, disk);
        if is_full && before.is_none_or(|before| !before.is_above(percent, 0)) {
            tracing::warn!(
                node,
                "the disk of a node is more than {percent} % full: it gets no replicas, and gives some away if others \
                 have room"
            );
        }
    }

    /// The nodes whose disks are full.
    pub(super) fn full(&self, broker: &BrokerConfig) -> BTreeSet<i32> {
        let percent = broker.balance_disk_full_percent;
        let full = self
            .disks
            .iter()
            .filter(|(_, disk)| disk.is_above(percent, 0));
        full.map(|(node, _)| *node).collect()
    }
}

impl Owned {
    /// Takes the next steps towards even numbers, if it is time to look and this node decides.
    pub(super) fn balance(&mut self, now: Instant, broker: &BrokerConfig) {
        let full_journal = self.journal.refuses().is_some();
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let nodes = metadata.committed().nodes().len();
        let is_due = metadata.balancing.look_at <= now && metadata.is_settled();
        if !is_due || nodes < 2 || full_journal {
            return;
        }
        metadata.balancing.look_at = now + LOOK_EVERY;
        let sight = self.sight(now, broker);
        let metadata = self.metadata.as_mut().expect("looked up above");
        let look = (metadata.told, sight);
        if metadata.balancing.looked.as_ref() == Some(&look) {
            return;
        }
        let (steps, records) = leaving::rebalance(&mut metadata.ahead, &look.1);
        for step in &steps {
            tell(step, &metadata.ahead);
        }
        metadata.balancing.looked = Some(look);
        if !records.is_empty() {
            self.propose_records(records, None);
        }
    }

    /// What this node sees, which leads the metadata.
    fn sight(&self, now: Instant, broker: &BrokerConfig) -> Sight {
        let metadata = self.metadata.as_ref().expect("its owner is here");
        let members = self.replicas.get(METADATA).expect("its owner is here");
        let members = members.members();
        let voters = members.voters().iter().chain(members.outgoing());
        let mut since = self.connected_at.values();
        let patience = Duration::from_millis(broker.balance_node_gone_ms);
        let unheard = metadata.unheard.iter();
        let gone = unheard.filter(|(_, since)| broker.balance_enable && now - **since >= patience);
        Sight {
            heard: self
                .connected
                .keys()
                .copied()
                .chain([self.node_id])
                .collect(),
            is_settled: since.all(|since| *since + SETTLED_AFTER <= now),
            gone: gone.map(|(node, _)| *node).collect(),
            voters: voters.map(|id| id.node()).collect(),
            disks: metadata.balancing.disks.clone(),
            rules: Rules {
                evens_out: broker.balance_enable,
                moves_max: broker.balance_moves_max,
                full_percent: broker.balance_disk_full_percent,
                internal_factor: broker.offsets_topic_replication_factor.max(1) as usize,
            },
        }
    }
}

fn tell(step: &Step, cluster: &Cluster) {
    match step {
        Step::Replicas {
            topic,
            partition,
            replicas,
            why,
        } => {
            let topic = cluster.topic_by_id(*topic).map_or("", |topic| &topic.name);
            let why = why.sentence();
            tracing::info!(
                topic,
                partition,
                ?replicas,
                "a partition gets other replicas: {why}"
            );
        }
        Step::LetGo(node) => {
            tracing::info!(node, "a node holds nothing any more and is let go");
        }
    }
}

impl Shard {
    /// Tells the leader of the metadata how full the disk is. Lost, it is told again soon.
    pub(super) async fn report_disk(self: &Rc<Shard>) {
        if self.view.borrow().controller() < 0 {
            return;
        }
        let space = match self.core.disk().space(&self.settings.data).await {
            Ok(space) => space,
            Err(error) => {
                tracing::debug!(%error, "the size of the data directory's volume cannot be read");
                return;
            }
        };
        let mut disk = Disk {
            total_bytes: space.total_bytes,
            available_bytes: space.available_bytes,
            largest: Vec::new(),
        };
        let full_percent = self.view.borrow().broker().balance_disk_full_percent;
        if disk.is_above(full_percent, 0) {
            disk.largest = self.largest().await;
        }
        let node = self.settings.node_id;
        self.on_cluster(Asker::Nobody, ClusterAsk::DiskUsed { node, disk }, 0);
    }

    /// The largest partitions of this node, the largest first.
    async fn largest(&self) -> Vec<Held> {
        let everything = || None::<Vec<PartitionId>>;
        let asks = (0..self.core.cores()).map(|core| self.ask_later(core, everything()));
        let mut held = Vec::new();
        for ask in asks.collect::<Vec<_>>() {
            let sizes = ask.await.into_iter();
            held.extend(sizes.map(|(id, bytes)| Held {
                topic: Uuid::from_u128(id.topic),
                partition: id.partition,
                bytes,
            }));
        }
        held.sort_by_key(|held| (std::cmp::Reverse(held.bytes), held.topic, held.partition));
        held.truncate(LARGEST);
        held
    }

    /// This node is to leave, as far as it knows. Turned away by another one, it has left: it is told so by this, unless
    /// the record has come through in time.
    pub(super) fn leaves(&self) -> bool {
        let node = self.settings.node_id;
        self.view.borrow().broker().nodes_leaving.contains(&node)
    }

    /// What the metadata says of this node has changed: perhaps that it was let go, under the identity that it has.
    pub(super) fn own_node_changed(&self) {
        let was_let_go = {
            let cluster = &self.view.borrow().cluster;
            let is_registered = cluster.nodes().contains_key(&self.settings.node_id);
            !is_registered && cluster.is_retired(self.settings.replica_id())
        };
        if was_let_go {
            self.end();
        }
    }

    pub(super) fn end(&self) {
        if self.stopping.get() || self.is_handing_over() {
            return;
        }
        tracing::info!("this node has left the cluster and ends; nothing needs its data directory");
        for core in (0..self.core.cores()).rev() {
            self.post.send(core, super::mail::Mail::Stop);
        }
    }
}
