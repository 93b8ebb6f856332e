//! Groups whose majority is gone for good: which replica goes on alone, what that keeps, and what it may lose.
//!
//! Nothing here happens by itself. An operator says which nodes are lost for good and asks for a plan; only with an
//! explicit word is it carried out. From then on the disks of those nodes are retired: whoever comes back with one is
//! refused by every node, so nobody can vote, or answer, from what it held. That is the condition under which one
//! replica may go on alone (`raft_group`'s `forced` has the argument), and it is why a plan is refused while one of the
//! nodes runs, and while enough others may still be there to elect a leader as usual.
//!
//! The survivor is the replica with the longest log, by (term, index) of its last entry: it has everything that any
//! survivor knows to be committed. Each replica on a node that is not lost has to say what it has before one is chosen.
//!
//! Pure: what nodes hold comes in as [`Holding`]s. Must not know how they are asked ([`crate::shard::survey`]) or how a
//! replica is made to go on alone ([`crate::shard::recovering`]).

use super::decide::{Context, Draft, Refusal};
use super::record::Record;
use super::state::Cluster;
use protocol::error::ErrorCode;
use raft_group::ReplicaId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// How far the term of a survivor is beyond all that were heard of: those that are lost may have elected leaders that
/// no survivor knows, and their epochs must not come a second time with other records.
const TERM_JUMP: u64 = 1_000;
/// Recoveries that are remembered; the oldest go.
pub const REMEMBERED_MAX: usize = 1_000;
/// Bytes of what an operator says of himself.
pub const BY_BYTES_MAX: usize = 200;

/// What a node's replica of a partition has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    pub node: i32,
    pub incarnation: u32,
    pub term: u64,
    /// Of the last entry.
    pub last_term: u64,
    pub last_index: u64,
    pub commit_index: u64,
    pub log_start_offset: i64,
    /// Below it everything is known to be committed.
    pub high_watermark: i64,
    pub end_offset: i64,
    /// The configuration in force, as numbers of [`ReplicaId`]s.
    pub voters: Vec<u64>,
    /// In a joint configuration the other half.
    pub outgoing: Vec<u64>,
    /// Who leads, as far as it knows.
    pub leader: Option<i32>,
    /// Entries that its state stands for and that never came: they are lost if it goes on alone.
    #[serde(default)]
    pub lacks: u64,
    /// Other nodes that it reaches.
    #[serde(default)]
    pub reaches: Vec<i32>,
    /// Why it cannot go on alone, if it cannot.
    pub unfit: Option<String>,
}

/// An operator's wish to recover a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryAsk {
    pub topic: String,
    pub partition: i32,
    /// Nodes that never come back with the disks that they had.
    pub lost: BTreeSet<i32>,
    /// Of the nodes that answered.
    pub holdings: Vec<Holding>,
    /// Leader epoch that the asking node has heard of.
    pub epoch: i32,
    /// Who asks, and when (ms since 1970).
    pub by: String,
    pub at_ms: i64,
    /// False: only the plan is wanted.
    pub accept_data_loss: bool,
}

/// What recovering a group means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPlan {
    /// The node whose replica goes on alone, and its log.
    pub survivor: Holding,
    /// The others that are there; they follow it.
    pub followers: Vec<Holding>,
    /// Identities of the survivor's configuration that are gone.
    pub gone: Vec<u64>,
    /// The term of the forced configuration.
    pub term: u64,
}

/// A recovery that was decided: kept for ever, or until many others came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The topic's name; of the metadata itself `__cluster_metadata`.
    pub topic: String,
    pub partition: u32,
    /// The identity that goes on alone.
    pub survivor: u64,
    pub gone: Vec<u64>,
    pub term: u64,
    /// Where the survivor's log ended, and up to where it knew everything to be committed.
    pub last_term: u64,
    pub last_index: u64,
    pub high_watermark: i64,
    pub end_offset: i64,
    pub by: String,
    pub at_ms: i64,
}

impl Recovery {
    pub fn of(topic: &str, partition: u32, plan: &RecoveryPlan, by: &str, at_ms: i64) -> Recovery {
        let survivor = &plan.survivor;
        Recovery {
            topic: topic.to_owned(),
            partition,
            survivor: identity(survivor).map_or(0, ReplicaId::as_u64),
            gone: plan.gone.clone(),
            term: plan.term,
            last_term: survivor.last_term,
            last_index: survivor.last_index,
            high_watermark: survivor.high_watermark,
            end_offset: survivor.end_offset,
            by: by.to_owned(),
            at_ms,
        }
    }
}

/// A recovery of a partition that its survivor has not carried out yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRecovery {
    pub partition: u32,
    /// Of all recoveries.
    pub number: u64,
    pub survivor: u64,
    pub gone: Vec<u64>,
    pub term: u64,
}

fn identity(holding: &Holding) -> Option<ReplicaId> {
    ReplicaId::new(holding.node, holding.incarnation)
}

/// Chooses who goes on alone.
///
/// `replicas` are the nodes that have a replica or are to, the preferred leader first; `is_gone` says of an identity
/// that it never speaks again.
///
/// # Errors
/// A sentence that says why not, and what to do.
pub fn plan(
    replicas: &[i32],
    lost: &BTreeSet<i32>,
    holdings: &[Holding],
    epoch: i32,
    is_gone: impl Fn(ReplicaId) -> bool,
) -> Result<RecoveryPlan, String> {
    let there: Vec<&Holding> = replicas
        .iter()
        .filter(|node| !lost.contains(node))
        .filter_map(|node| holdings.iter().find(|holding| holding.node == *node))
        .collect();
    let silent: Vec<i32> = replicas
        .iter()
        .copied()
        .filter(|node| !lost.contains(node) && !there.iter().any(|holding| holding.node == *node))
        .collect();
    if !silent.is_empty() {
        return Err(format!(
            "{} has a replica and did not say what it holds, which may be more than the others have: start it, or name \
             it among the lost if it never comes back",
            nodes(&silent)
        ));
    }
    for holding in &there {
        if let Some(alive) = holding.reaches.iter().find(|node| lost.contains(node)) {
            let by = holding.node;
            return Err(format!(
                "node {alive} is not lost: node {by} reaches it. Nothing was changed"
            ));
        }
    }
    let led = there.iter().filter_map(|holding| holding.leader);
    let mut led = led.filter(|leader| !lost.contains(leader));
    if let Some(leader) = led.next() {
        return Err(format!(
            "node {leader} leads it: there is nothing to recover"
        ));
    }
    let fit = there.iter().filter(|holding| holding.unfit.is_none());
    // Of equal ones the first: the more preferred leader.
    let best = fit
        .rev()
        .max_by_key(|holding| (holding.last_term, holding.last_index));
    let Some(survivor) = best else {
        let reasons = there.iter().map(|holding| {
            let why = holding.unfit.as_deref().unwrap_or_default();
            format!("node {}: {why}", holding.node)
        });
        let reasons: Vec<String> = reasons.collect();
        return Err(match reasons.is_empty() {
            true => {
                "every node that has a replica is named as lost: nothing is left of it".to_owned()
            }
            false => format!("no replica can go on ({})", reasons.join("; ")),
        });
    };
    let gone = gone_of(survivor, lost, &is_gone)?;
    let terms = there
        .iter()
        .map(|holding| holding.term.max(holding.last_term));
    let newest = terms
        .max()
        .unwrap_or(0)
        .max(u64::try_from(epoch).unwrap_or(0));
    let followers = there.iter().filter(|other| other.node != survivor.node);
    Ok(RecoveryPlan {
        survivor: (*survivor).clone(),
        followers: followers.map(|holding| (*holding).clone()).collect(),
        gone,
        term: newest + TERM_JUMP,
    })
}

/// Who of the survivor's configuration is gone; refused while the others could be a majority.
fn gone_of(
    survivor: &Holding,
    lost: &BTreeSet<i32>,
    is_gone: &impl Fn(ReplicaId) -> bool,
) -> Result<Vec<u64>, String> {
    let known = |ids: &[u64]| -> Vec<ReplicaId> {
        ids.iter()
            .filter_map(|id| ReplicaId::from_u64(*id))
            .collect()
    };
    let gone = |id: &ReplicaId| lost.contains(&id.node()) || is_gone(*id);
    let (voters, outgoing) = (known(&survivor.voters), known(&survivor.outgoing));
    let is_possible = |half: &[ReplicaId]| {
        half.is_empty() || half.iter().filter(|id| !gone(id)).count() > half.len() / 2
    };
    if is_possible(&voters) && is_possible(&outgoing) {
        let left = voters.iter().chain(&outgoing).filter(|id| !gone(id));
        let left: BTreeSet<i32> = left.map(|id| id.node()).collect();
        let left: Vec<i32> = left.into_iter().collect();
        return Err(format!(
            "a majority may still be there ({}): a leader is elected as soon as these run and reach each other, and \
             then nothing is lost",
            nodes(&left)
        ));
    }
    let all = voters.into_iter().chain(outgoing).filter(gone);
    let all: BTreeSet<u64> = all.map(ReplicaId::as_u64).collect();
    Ok(all.into_iter().collect())
}

fn nodes(ids: &[i32]) -> String {
    let names: Vec<String> = ids.iter().map(i32::to_string).collect();
    match names.as_slice() {
        [one] => format!("node {one}"),
        _ => format!("nodes {}", names.join(", ")),
    }
}

impl Draft<'_> {
    /// Plans a recovery, and decides it if that is wanted.
    pub(super) fn recover(
        &mut self,
        ask: &RecoveryAsk,
        context: &Context,
    ) -> Result<RecoveryPlan, Refusal> {
        let unknown = |what: String| Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what);
        let refused = |what: String| Refusal::new(ErrorCode::INVALID_REQUEST, what);
        let Some(topic) = self.state.topic(&ask.topic) else {
            return Err(unknown(format!("There is no topic {}", ask.topic)));
        };
        let partition = u32::try_from(ask.partition).ok();
        let found = partition.and_then(|at| Some((at, topic.partitions.get(at as usize)?)));
        let Some((partition, replicas)) = found else {
            let (name, index) = (&ask.topic, ask.partition);
            return Err(unknown(format!("There is no partition {name}-{index}")));
        };
        check_by(&ask.by).map_err(refused)?;
        for node in &ask.lost {
            self.check_lost(*node, context).map_err(refused)?;
        }
        let retired = |id| self.state.is_retired(id);
        if let Some(pending) = topic
            .recoveries
            .iter()
            .find(|one| one.partition == partition)
            && let Some(survivor) = ReplicaId::from_u64(pending.survivor)
            && !ask.lost.contains(&survivor.node())
            && !retired(survivor)
        {
            let node = survivor.node();
            return Err(refused(format!(
                "Node {node} is about to go on alone already: wait for it, or name it among the lost"
            )));
        }
        let old = |holding: &&Holding| {
            self.state
                .replica_id(holding.node)
                .is_some_and(|id| Some(id) != identity(holding))
        };
        if let Some(holding) = ask.holdings.iter().find(old) {
            let node = holding.node;
            return Err(refused(format!(
                "Node {node} has another disk than it had: ask again"
            )));
        }
        let plan = plan(replicas, &ask.lost, &ask.holdings, ask.epoch, retired).map_err(refused)?;
        if ask.accept_data_loss {
            let id = topic.id;
            let recovery = Recovery::of(&ask.topic, partition, &plan, &ask.by, ask.at_ms);
            self.retire(&ask.lost);
            self.push(Record::PartitionRecovered { id, recovery });
        }
        Ok(plan)
    }

    /// Whether a node may be taken for lost.
    fn check_lost(&self, node: i32, context: &Context) -> Result<(), String> {
        let Some(known) = self.state.nodes().get(&node) else {
            return Err(format!(
                "Node {node} is not known: name nodes of the cluster"
            ));
        };
        if node == context.node_id || context.connected.contains_key(&node) {
            return Err(format!(
                "Node {node} runs: it is not lost. Nothing was changed"
            ));
        }
        match known.fenced {
            true => Ok(()),
            false => Err(format!(
                "Node {node} was heard of a moment ago: wait until it is fenced (broker.session.timeout.ms), and make \
                 sure that it does not run"
            )),
        }
    }

    /// The disks that these nodes had do not come back.
    fn retire(&mut self, lost: &BTreeSet<i32>) {
        for node in lost {
            let known = self.state.nodes().get(node);
            let Some(incarnation) = known.map(|known| known.registration.incarnation) else {
                continue;
            };
            if !known.is_some_and(|known| known.retired.contains(&incarnation)) {
                let node = *node;
                self.push(Record::NodeLost { node, incarnation });
            }
        }
    }

    /// The survivor of a recovery serves. A word about another one comes too late.
    pub(super) fn recovery_done(&mut self, id: Uuid, partition: u32, number: u64) {
        let topic = self.state.topic_by_id(id);
        let is_meant = |one: &&PendingRecovery| one.partition == partition && one.number == number;
        if topic.is_some_and(|topic| topic.recoveries.iter().any(|one| is_meant(&one))) {
            self.push(Record::RecoveryEnded { id, partition });
        }
    }

    /// This metadata is what one node went on alone with.
    pub(super) fn metadata_recovered(&mut self, recovery: &Recovery, lost: &BTreeSet<i32>) {
        self.retire(lost);
        let recovery = recovery.clone();
        self.push(Record::MetadataRecovered { recovery });
    }
}

/// Whether this can be written down as who asked.
///
/// # Errors
/// A sentence.
pub fn check_by(by: &str) -> Result<(), String> {
    match by.trim().is_empty() || by.len() > BY_BYTES_MAX || by.chars().any(char::is_control) {
        true => Err(format!(
            "Say who asks for this, in at most {BY_BYTES_MAX} bytes: it is written down"
        )),
        false => Ok(()),
    }
}

impl Cluster {
    /// The plan for the metadata itself, whose group has nobody to decide: `connected` are the nodes that are heard of.
    ///
    /// # Errors
    /// A sentence that says why not, and what to do.
    pub fn plan_metadata(
        &self,
        members: &[i32],
        lost: &BTreeSet<i32>,
        holdings: &[Holding],
        own: i32,
        connected: impl Fn(i32) -> bool,
    ) -> Result<RecoveryPlan, String> {
        if let Some(node) = lost.iter().find(|node| **node == own || connected(**node)) {
            return Err(format!(
                "Node {node} runs: it is not lost. Nothing was changed"
            ));
        }
        if let Some(node) = lost.iter().find(|node| !self.nodes().contains_key(node)) {
            return Err(format!(
                "Node {node} is not known: name nodes of the cluster"
            ));
        }
        let plan = plan(members, lost, holdings, -1, |id| self.is_retired(id))?;
        let best = plan.survivor.node;
        if best != own {
            return Err(format!(
                "Node {best} has more of the metadata than this one, node {own}: ask there"
            ));
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests;
