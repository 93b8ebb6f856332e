//! Groups led here are brought to the members that the metadata wants: one step after the other, as
//! [`super::membership`] says, and the leader's word when they are there ([`super::moves`]).
//!
//! A node that left a group may come back to it before it knows that it had left, with its old replica, and acknowledge
//! what it is sent just before it removes that: it would be a voter without a log. So it is taken in when all of its cores
//! have the metadata by which it is wanted ([`Newcomers`]), and with that everything before.
//!
//! Who is wanted for the metadata's own group is decided here, too: nobody places its voters.

use super::Shard;
use super::membership::{self, Next};
use super::owned::Owned;
use crate::cluster::{Cluster, METADATA, Node};
use raft_group::{Change, ReplicaId, Role};
use std::collections::{BTreeMap, BTreeSet};
use storage::PartitionId;
use uuid::Uuid;

/// How far behind the end of the log a learner may be to become a voter, in entries.
const CAUGHT_UP_WITHIN: u64 = 64;
/// Voters of the metadata, at most; the other nodes follow.
const METADATA_VOTERS_MAX: usize = 5;

/// Which nodes know by now that they are to have a replica.
#[derive(Default)]
pub(super) struct Newcomers {
    /// The version of the metadata that all cores of a node have.
    taken_in: BTreeMap<i32, u64>,
    /// The version that a newcomer to a group led here must have: that of the change by which it is wanted, or a later one.
    needed: BTreeMap<PartitionId, u64>,
}

impl Newcomers {
    pub(super) fn heard(&mut self, node: i32, version: u64) {
        self.taken_in.insert(node, version);
    }

    /// Other replicas are wanted, or the same ones anew.
    pub(super) fn changed(&mut self, id: PartitionId) {
        self.needed.remove(&id);
    }

    /// Whether a node may come to a group, of which the metadata in its present version says that it is to.
    fn may_come(&mut self, id: PartitionId, node: i32, version: u64) -> bool {
        let needed = *self.needed.entry(id).or_insert(version);
        self.taken_in.get(&node).is_some_and(|has| *has >= needed)
    }

    /// Leaves of a step what can be done now.
    fn leave_out_the_late(&mut self, id: PartitionId, next: Next, version: u64) -> Next {
        let Next::Propose(mut changes) = next else {
            return next;
        };
        changes.retain(|change| match change {
            Change::AddLearner(newcomer) => self.may_come(id, newcomer.node(), version),
            _ => true,
        });
        match changes.is_empty() {
            true => Next::Wait,
            false => Next::Propose(changes),
        }
    }
}

impl Shard {
    /// Takes the next step towards the members that the metadata wants, for groups led here.
    pub(super) fn settle_members(&self, owned: &mut Owned) {
        if owned.unsettled.is_empty() {
            return;
        }
        let view = self.view.borrow();
        for id in std::mem::take(&mut owned.unsettled) {
            if owned.go_on_alone(&view.cluster, id) {
                owned.unsettled.insert(id);
                continue;
            }
            let Some((voters, listening)) = wanted_members(&view.cluster, id, owned) else {
                owned.told_arrivals.remove(&id);
                continue;
            };
            let more = owned.settle_members_of(id, &voters, &listening, view.version)
                || owned.tell_arrival(&view.cluster, id, &voters);
            if more {
                owned.unsettled.insert(id);
            }
        }
    }
}

impl Owned {
    /// Members of groups may not be what the metadata wants any more.
    pub(super) fn unsettle_all(&mut self) {
        let led = self.replicas.iter();
        let led = led.filter(|replica| replica.role() == Role::Leader);
        let ids: Vec<PartitionId> = led.map(|replica| replica.partition()).collect();
        self.unsettled.extend(ids);
    }

    /// One step. True if more is to come.
    fn settle_members_of(
        &mut self,
        id: PartitionId,
        voters: &[ReplicaId],
        listening: &[ReplicaId],
        version: u64,
    ) -> bool {
        let Some(replica) = self.replicas.get(id) else {
            return false;
        };
        if !replica.is_serving() {
            return replica.role() == Role::Leader;
        }
        let last = replica.last_index();
        // Who has never answered is not near, however short the log is; and who is not there now may not be again.
        let near = |peer: ReplicaId| {
            let matched = replica.matched(peer).filter(|matched| *matched > 0);
            self.connected.contains_key(&peer.node())
                && matched.is_some_and(|matched| matched + CAUGHT_UP_WITHIN >= last)
        };
        let own = replica.id();
        let near = |peer| peer == own || near(peer);
        let next = membership::next(replica.members(), own, voters, listening, near);
        if next != Next::Nothing {
            tracing::trace!(partition = %id, members = ?replica.members(), ?next, "members change");
        }
        let next = match id == METADATA {
            // Nobody gives it up.
            true => next,
            false => self.newcomers.leave_out_the_late(id, next, version),
        };
        match next {
            Next::Nothing => false,
            Next::Wait => true,
            Next::Propose(changes) => {
                let replica = self.replicas.get_mut(id).expect("looked up above");
                if let Err(error) = replica.propose_members(&changes) {
                    tracing::debug!(%error, partition = ?id, "a change of members waits");
                }
                true
            }
            Next::HandOver(heirs) => {
                let may_have = |heir: &&ReplicaId| !self.decliners.contains(heir.node());
                let heir = *heirs.iter().find(may_have).unwrap_or(&heirs[0]);
                let replica = self.replicas.get_mut(id).expect("looked up above");
                match replica.transfer_leader(heir) {
                    Ok(()) => self.counters.transfers += 1,
                    Err(error) => {
                        tracing::debug!(%error, partition = ?id, "a lead is handed over later");
                    }
                }
                true
            }
        }
    }
}

/// The voters and the other members that a group should have; None if the metadata does not say.
fn wanted_members(
    cluster: &Cluster,
    id: PartitionId,
    owned: &Owned,
) -> Option<(Vec<ReplicaId>, Vec<ReplicaId>)> {
    if id == METADATA {
        let replica = owned.replicas.get(id)?;
        return (!cluster.nodes().is_empty())
            .then(|| metadata_members(cluster, replica.members().voters()));
    }
    let topic = cluster.topic_by_id(Uuid::from_u128(id.topic))?;
    let nodes = topic.wanted(id.partition)?;
    let voters: Option<Vec<ReplicaId>> =
        nodes.iter().map(|node| cluster.replica_id(*node)).collect();
    let mut voters = voters?;
    // A disk that was given up for lost never votes again; the node may come with another one.
    voters.retain(|id| !cluster.is_retired(*id));
    (!voters.is_empty()).then_some((voters, Vec::new()))
}

/// Who votes on the metadata: those who do, as long as they are heard of, and others up to an odd number of at most
/// five, in racks that have the fewest. Everybody else follows. A founder that has not registered yet keeps its vote, and
/// so does the third voter that nobody hears of if there is none to replace it: two voters cannot do without either of them,
/// and when the third is back they can.
fn metadata_members(cluster: &Cluster, voters: &[ReplicaId]) -> (Vec<ReplicaId>, Vec<ReplicaId>) {
    let unregistered = voters.iter().copied().filter(|id| {
        let known = cluster.nodes().contains_key(&id.node());
        !known && !cluster.is_retired(*id)
    });
    let mut chosen: Vec<ReplicaId> = unregistered.collect();
    let leaving = leaving_the_vote(cluster);
    let leaves = |node: &Node| leaving.contains(&node.registration.node);
    let nodes = cluster.nodes().values().filter(|node| !leaves(node));
    let (missed, heard): (Vec<&Node>, Vec<&Node>) = nodes.partition(|node| node.fenced);
    let missed = missed.iter().map(|node| node.replica_id());
    let missed = missed.filter(|id| voters.contains(id) && !cluster.is_retired(*id));
    let wanted = match chosen.len() + heard.len() {
        count @ 0..=2 => (count + missed.count()).clamp(1, 3),
        3 | 4 => 3,
        _ => METADATA_VOTERS_MAX,
    };
    let mut free: Vec<_> = cluster.nodes().values().collect();
    free.retain(|node| !cluster.is_retired(node.replica_id()));
    while chosen.len() < wanted && !free.is_empty() {
        let in_rack = |rack: &Option<String>| {
            let racks = chosen.iter().filter_map(|id| {
                let node = cluster.nodes().get(&id.node())?;
                node.registration.rack.as_ref()
            });
            rack.as_ref()
                .map_or(0, |rack| racks.filter(|other| *other == rack).count())
        };
        let best = (0..free.len())
            .min_by_key(|at| {
                let node = free[*at];
                let votes = voters.contains(&node.replica_id());
                let shared = in_rack(&node.registration.rack);
                (
                    leaves(node),
                    node.fenced,
                    !votes,
                    shared,
                    node.registration.node,
                )
            })
            .expect("some are left");
        chosen.push(free.remove(best).replica_id());
    }
    (chosen, free.iter().map(|node| node.replica_id()).collect())
}

/// The nodes that leave and need not vote on the metadata: there are three others, or all others are there.
fn leaving_the_vote(cluster: &Cluster) -> BTreeSet<i32> {
    let leaving = cluster.leaving();
    let nodes = cluster.nodes().values();
    let stay = nodes.filter(|node| !leaving.contains(&node.registration.node));
    let (missed, heard): (Vec<_>, Vec<_>) = stay.partition(|node| node.fenced);
    match missed.is_empty() || heard.len() >= 3 {
        true => leaving,
        false => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Record, Registration};
    use storage::Start;

    fn house(nodes: i32, missed: &[i32]) -> (Cluster, Vec<ReplicaId>) {
        let mut cluster = Cluster::default();
        for node in 1..=nodes {
            cluster.apply(&Record::NodeRegistered(Registration {
                node,
                incarnation: 1,
                start: Start::default(),
                peer: format!("node-{node}:9192"),
                endpoints: Vec::new(),
                rack: None,
                cores: 1,
                level: 1,
            }));
            if missed.contains(&node) {
                cluster.apply(&Record::NodeFenced { node, fenced: true });
            }
        }
        let ids = cluster.nodes().values().map(|node| node.replica_id());
        let ids = ids.collect();
        (cluster, ids)
    }

    /// Of three voters one was down, and left the vote; it came back, a second one lost its disk, and the third was
    /// alone with the metadata, for good. (Seed 6026 of three nodes.)
    #[test]
    fn a_voter_that_is_missed_keeps_its_vote_if_nobody_can_take_it() {
        let voting = |nodes, missed: &[i32], voters: usize| -> Vec<i32> {
            let (cluster, ids) = house(nodes, missed);
            let (voters, _) = metadata_members(&cluster, &ids[..voters]);
            let mut nodes: Vec<i32> = voters.iter().map(|id| id.node()).collect();
            nodes.sort_unstable();
            nodes
        };
        assert_eq!(voting(3, &[], 3), [1, 2, 3]);
        assert_eq!(voting(3, &[2], 3), [1, 2, 3], "nobody else");
        assert_eq!(voting(4, &[2], 3), [1, 3, 4], "it is replaced");
        assert_eq!(voting(3, &[3], 2), [1, 2], "it never had a vote");
        assert_eq!(voting(2, &[2], 2), [1, 2]);
        assert_eq!(voting(5, &[1, 5], 5), [2, 3, 4], "three are enough");
        assert_eq!(voting(5, &[1, 2, 5], 5).len(), 3);
    }

    #[test]
    fn who_does_not_know_that_it_is_wanted_is_not_taken_in() {
        let id = PartitionId {
            topic: 7,
            partition: 0,
        };
        let member = |node| ReplicaId::new(node, 1).expect("valid");
        let both = || {
            Next::Propose(
                vec![2, 3]
                    .into_iter()
                    .map(member)
                    .map(Change::AddLearner)
                    .collect(),
            )
        };
        let mut newcomers = Newcomers::default();
        newcomers.heard(2, 9);
        newcomers.heard(3, 10);
        assert_eq!(newcomers.leave_out_the_late(id, both(), 11), Next::Wait);
        newcomers.heard(3, 11);
        let one = Next::Propose(vec![Change::AddLearner(member(3))]);
        // What has come to the metadata since is of no concern.
        assert_eq!(newcomers.leave_out_the_late(id, both(), 12), one);
        // It is: they are wanted anew.
        newcomers.changed(id);
        assert_eq!(newcomers.leave_out_the_late(id, both(), 12), Next::Wait);
        newcomers.heard(2, 12);
        newcomers.heard(3, 12);
        assert_eq!(newcomers.leave_out_the_late(id, both(), 12), both());
        let removal = Next::Propose(vec![Change::Remove(member(4))]);
        assert_eq!(
            newcomers.leave_out_the_late(id, removal.clone(), 13),
            removal
        );
    }
}
