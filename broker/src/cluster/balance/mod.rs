//! Evening out without an operator: which replicas go elsewhere next. A pure function of the metadata and of what the
//! deciding node sees beside it ([`Sight`]), so that every decision can be replayed.
//!
//! In this order: what lies on nodes that are gone is rebuilt elsewhere, nodes that leave are emptied, topics that the
//! cluster keeps for itself get the replicas that they lack, replicas that share a rack without need are parted, full
//! disks are relieved, and then the numbers of replicas, and after them those of preferred leaders, are evened out by
//! the nodes' cores. A few partitions at a time: what is under way counts, whoever asked for it.
//!
//! It ends: a replica moves for the sake of numbers only if no rack gets another replica of the same partition and the
//! sum of the squared numbers, each divided by its node's cores, becomes less. So nothing moves where numbers differ by
//! one, and two looks at the same state come to the same. What an operator moves is left alone until it has arrived.
//! As long as a node is missed that may come back nothing moves, except to rebuild.
//!
//! Must not know: clocks (how long is "gone" is for the caller to say), how a move is carried out. Deliberately absent:
//! traffic; sizes, except on disks that are full.

mod even;
mod leads;
mod plan;
mod relieve;
#[cfg(test)]
mod tests;

use super::state::Cluster;
use plan::Plan;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What an operator says about balancing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// False: only nodes that leave are emptied.
    pub evens_out: bool,
    /// Partitions that are on their way at once.
    pub moves_max: usize,
    /// A disk that is fuller gets nothing and is relieved; 100: none is.
    pub full_percent: u64,
    /// Replicas of the topics that the cluster keeps for itself, if it has as many nodes.
    pub internal_factor: usize,
}

/// What a node says about its disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub total_bytes: u64,
    pub available_bytes: u64,
    /// Its largest partitions, the largest first; told by a disk that is full.
    #[serde(default)]
    pub largest: Vec<Held>,
}

/// What a node has of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub topic: Uuid,
    pub partition: u32,
    pub bytes: u64,
}

impl Disk {
    /// Whether more than so many percent would be in use with so many bytes more.
    pub fn is_above(&self, percent: u64, more_bytes: u64) -> bool {
        let used = self.total_bytes.saturating_sub(self.available_bytes);
        let used = u128::from(used.saturating_add(more_bytes)) * 100;
        percent < 100 && used > u128::from(self.total_bytes) * u128::from(percent)
    }
}

/// What the deciding node knows beside the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Nodes that are connected to it, and itself.
    pub heard: BTreeSet<i32>,
    /// All nodes that are heard of have been for a while.
    pub is_settled: bool,
    /// Nodes that are not heard of for so long that they are not waited for.
    pub gone: BTreeSet<i32>,
    /// Nodes that vote on the metadata, or did before a change that is under way.
    pub voters: BTreeSet<i32>,
    /// What nodes have said about their disks.
    pub disks: BTreeMap<i32, Disk>,
    pub rules: Rules,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A partition is to have these replicas, the preferred leader first.
    Replicas {
        topic: Uuid,
        partition: u32,
        replicas: Vec<i32>,
        why: Why,
    },
    /// A node that leaves holds nothing any more, and nobody needs it.
    LetGo(i32),
}

/// What a step is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A replica is on a node that is gone.
    Rebuild,
    /// A replica is on a node that leaves.
    Empty,
    /// A topic of the cluster's own has fewer replicas than are wanted.
    Grow,
    /// Replicas share a rack, and need not.
    Racks,
    /// A disk is full.
    Relieve,
    /// Nodes hold more replicas than others.
    Even,
    /// Nodes are preferred for more leads than others.
    Leads,
}

impl Why {
    /// For the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Why::Rebuild => "a node is gone",
            Why::Empty => "a node leaves",
            Why::Grow => "it has fewer replicas than are wanted",
            Why::Racks => "its replicas share a rack",
            Why::Relieve => "a disk is full",
            Why::Even => "a node holds more than others",
            Why::Leads => "a node is preferred more often than others",
        }
    }
}

/// What is to be done next; nothing if everything is as it should be, or has to wait.
pub fn next(state: &Cluster, sight: &Sight) -> Vec<Step> {
    let mut plan = Plan::new(state, sight);
    plan.redirect();
    plan.leave_nodes();
    if sight.rules.evens_out && plan.is_calm() {
        plan.grow();
        plan.part_racks();
        plan.relieve_disks();
        plan.even_out();
        plan.even_out_leads();
    }
    plan.let_nodes_go();
    plan.steps
}
