//! Partitions on their way to other nodes: who comes opens a replica, the leader says when the group is where it was
//! to go, and who is not in it any more gives its files up.
//!
//! The steps in between are those of [`super::membership`]; when they are to be taken is said by
//! [`crate::cluster::Topic::moves`].
//!
//! A replica that was given up and opens again must not vote with what it has forgotten. So it has no say until the
//! group's log gives it one ([`crate::cluster::Topic::founders`] names those who have held theirs all the time), and
//! a move is done only when each member knows for good that it is one ([`raft_group::Replica::members_are_known`]). And
//! a node that starts does not believe what its own, perhaps old, metadata says of replicas that come and go before it
//! has got as far as the others: until then it opens what it has a log of, and gives nothing up.

use super::Shard;
use super::metadata::Asker;
use super::owned::Owned;
use crate::cluster::{Cluster, ClusterAsk, partition_id};
use raft_group::{ReplicaId, Role};
use std::collections::BTreeSet;
use std::rc::Rc;
use storage::PartitionId;
use uuid::Uuid;

/// For how many ticks the leader of a moved partition waits to see that its word was taken up before it says it
/// again.
const SAY_AGAIN_TICKS: u32 = 100;

/// The leader's word that a partition has arrived.
#[derive(Debug)]
pub struct Told {
    /// The move's number.
    number: u64,
    ticks_left: u32,
}

impl Owned {
    /// Says that a partition led here has arrived where it was to go, if it has. True if there is more to do or to say
    /// about it.
    pub(super) fn tell_arrival(
        &mut self,
        cluster: &Cluster,
        id: PartitionId,
        wanted: &[ReplicaId],
    ) -> bool {
        let topic = Uuid::from_u128(id.topic);
        let found = cluster.topic_by_id(topic);
        let moving = found.and_then(|topic| topic.moves.get(&id.partition));
        let led = self.replicas.get(id);
        let led = led.filter(|replica| replica.role() == Role::Leader);
        let (Some(moving), Some(replica)) = (moving, led) else {
            self.told_arrivals.remove(&id);
            return false;
        };
        let members = replica.members();
        let in_place = !members.is_joint()
            && members.learners().is_empty()
            && members.voters().len() == wanted.len()
            && wanted.iter().all(|id| members.is_voter(*id));
        if !in_place {
            tracing::trace!(partition = %id, ?members, "has not arrived");
            return true;
        }
        // Who is not wanted any more removes its files at the word.
        let replica = self.replicas.get_mut(id).expect("looked up above");
        if !replica.members_are_known() {
            tracing::trace!(partition = %id, "has arrived, and not all of its members know");
            return true;
        }
        if let Some(told) = self.told_arrivals.get_mut(&id)
            && told.number == moving.number
            && told.ticks_left > 0
        {
            told.ticks_left -= 1;
            return true;
        }
        let told = Told {
            number: moving.number,
            ticks_left: SAY_AGAIN_TICKS,
        };
        self.told_arrivals.insert(id, told);
        tracing::debug!(partition = %id, number = moving.number, "has arrived");
        let done = ClusterAsk::MoveDone {
            topic,
            partition: id.partition,
            number: moving.number,
            members: wanted.iter().map(|id| id.as_u64()).collect(),
        };
        self.decide_behind_mail(Asker::Nobody, done, 0);
        true
    }
}

impl Shard {
    /// A partition is to go to other nodes, or has gone there.
    pub(super) async fn replicas_changed(
        self: &Rc<Shard>,
        topic: Uuid,
        partition: u32,
        version: u64,
    ) {
        let id = partition_id(topic, partition);
        if self.owner(id) != self.core.id() {
            return;
        }
        {
            let mut owned = self.owned.borrow_mut();
            owned.unsettled.insert(id);
            owned.newcomers.changed(id);
        }
        match self.is_replica(id) {
            Some(true) => {
                self.open_partitions(topic, partition..partition + 1, version)
                    .await;
            }
            Some(false) if self.is_abreast() => self.give_up(BTreeSet::from([id])),
            Some(false) | None => {}
        }
    }

    /// Whether the metadata has a replica of a partition on this node; None if it does not know the partition.
    fn is_replica(&self, id: PartitionId) -> Option<bool> {
        let view = self.view.borrow();
        let topic = view.cluster.topic_by_id(Uuid::from_u128(id.topic))?;
        let replicas = topic.partitions.get(id.partition as usize)?;
        Some(replicas.contains(&self.settings.node_id))
    }

    /// This node knows what the cluster knew when it registered, or was told all of it anew: what came and went without
    /// its knowledge is made up for.
    pub(super) async fn catch_up_with_moves(self: &Rc<Shard>) {
        let (topics, version): (Vec<Uuid>, u64) = {
            let view = self.view.borrow();
            let topics = view.cluster.topics().map(|topic| topic.id);
            (topics.collect(), view.version)
        };
        for topic in topics {
            self.open_partitions(topic, 0..u32::MAX, version).await;
        }
        let held = self.held().into_iter();
        // Also if there is nothing: what was given up before the stop may still have files.
        self.give_up(
            held.filter(|id| self.is_replica(*id) == Some(false))
                .collect(),
        );
    }

    /// Gives up what this core holds of partitions that are elsewhere now.
    fn give_up(self: &Rc<Shard>, ids: BTreeSet<PartitionId>) {
        for id in &ids {
            tracing::info!(
                topic = %Uuid::from_u128(id.topic),
                partition = id.partition,
                "a partition has moved to other nodes: its files here are removed"
            );
        }
        self.drop_logs(ids.iter().copied());
        let shard = self.clone();
        self.core.spawn("give up", async move {
            shard.removed(&ids).await;
        });
    }
}
