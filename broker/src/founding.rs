//! How a node finds its cluster, or founds it with others, before it has one.
//!
//! The configuration names the first nodes (`controller.quorum.voters`) with the addresses where they listen for
//! other nodes. A node without a cluster asks all of them who they are:
//!
//! - If one belongs to a cluster, this node belongs to it too: as a founder if the founders name its very disk, else
//!   as a newcomer, which the cluster's metadata has to take in ([`crate::cluster::ClusterAsk::RegisterNode`]).
//! - If *all* of them have answered, none belongs to a cluster, and this node has the lowest id among them, it founds
//!   one with all of them: it draws the cluster's id, and writes both down before it tells anybody.
//! - Else it asks again.
//!
//! Why there is one cluster and not two: only the node with the lowest id founds, and only while every other one
//! says that it has no cluster. What it has founded it has written down, and it tells nothing else ever after; the
//! others take over the first that they hear of. A founder whose disk is lost before anybody has heard founds again,
//! which is fine; after somebody has heard, that one tells it that there is a cluster.
//!
//! Synchronous but for [`seek`], which asks around. Must not know what a cluster is for.

use crate::config::Voter;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use storage::DataIdentity;

/// What one node says to another that asks who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub node: i32,
    pub incarnation: u32,
    /// Empty: none yet.
    #[serde(default)]
    pub cluster_id: String,
    #[serde(default)]
    pub founders: Vec<(i32, u32)>,
}

impl Standing {
    pub fn of(identity: &DataIdentity) -> Standing {
        Standing {
            node: identity.node_id,
            incarnation: identity.incarnation,
            cluster_id: identity.cluster_id.clone(),
            founders: identity.founders.clone(),
        }
    }

    pub fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("numbers and text"))
    }

    pub fn decode(bytes: &[u8]) -> Result<Standing, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// What is to be done after a round of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node belongs to this cluster from now on.
    Belongs {
        cluster_id: String,
        founders: Vec<(i32, u32)>,
    },
    /// The node founds a cluster with these; whoever calls draws its id.
    Founds { founders: Vec<(i32, u32)> },
    /// Not yet: these have not answered, or it is for another one to found.
    Waits { silent: Vec<i32> },
}

/// Why a node cannot find its cluster, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Confusion {
    #[error(
        "the node at the address of node {expected} says that it is node {found}: correct \
         controller.quorum.voters, or that node's node.id"
    )]
    WrongNode { expected: i32, found: i32 },
    #[error(
        "nodes {one} and {other} belong to different clusters ({one_cluster} and {other_cluster}): start one of \
         them with an empty data directory, or correct controller.quorum.voters"
    )]
    TwoClusters {
        one: i32,
        one_cluster: String,
        other: i32,
        other_cluster: String,
    },
}

/// Judges what the other named nodes have answered. `own` has no cluster yet; `voters` are the nodes that the
/// configuration names, with or without this one; `answers` are theirs, by the id that was asked for.
pub fn judge(
    own: &Standing,
    voters: &[Voter],
    answers: &BTreeMap<i32, Standing>,
) -> Result<Verdict, Confusion> {
    for (expected, answer) in answers {
        if answer.node != *expected {
            let (expected, found) = (*expected, answer.node);
            return Err(Confusion::WrongNode { expected, found });
        }
    }
    let mut members = answers.values().filter(|one| !one.cluster_id.is_empty());
    if let Some(one) = members.next() {
        if let Some(other) = members.find(|other| other.cluster_id != one.cluster_id) {
            return Err(Confusion::TwoClusters {
                one: one.node,
                one_cluster: one.cluster_id.clone(),
                other: other.node,
                other_cluster: other.cluster_id.clone(),
            });
        }
        return Ok(Verdict::Belongs {
            cluster_id: one.cluster_id.clone(),
            founders: one.founders.clone(),
        });
    }
    let others = voters.iter().map(|voter| voter.node_id);
    let others = others.filter(|node| *node != own.node);
    let silent: Vec<i32> = others.filter(|node| !answers.contains_key(node)).collect();
    let lowest = voters.iter().map(|voter| voter.node_id).min();
    if !silent.is_empty() || lowest != Some(own.node) {
        return Ok(Verdict::Waits { silent });
    }
    let mut founders: Vec<(i32, u32)> = answers
        .values()
        .map(|one| (one.node, one.incarnation))
        .collect();
    founders.push((own.node, own.incarnation));
    founders.sort_unstable();
    Ok(Verdict::Founds { founders })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Endpoint;

    fn voters(ids: &[i32]) -> Vec<Voter> {
        let voter = |id: &i32| Voter {
            node_id: *id,
            peer: Endpoint::parse(&format!("127.0.0.1:{}", 9190 + id)).expect("an address"),
        };
        ids.iter().map(voter).collect()
    }

    fn standing(node: i32, cluster: &str) -> Standing {
        Standing {
            node,
            incarnation: 100 + node as u32,
            cluster_id: cluster.to_owned(),
            founders: Vec::new(),
        }
    }

    fn judged(own: i32, named: &[i32], answers: &[Standing]) -> Result<Verdict, Confusion> {
        let answers = answers.iter().map(|one| (one.node, one.clone())).collect();
        judge(&standing(own, ""), &voters(named), &answers)
    }

    #[test]
    fn the_lowest_founds_when_all_have_answered() {
        let all = [standing(2, ""), standing(3, "")];
        let founders = vec![(1, 101), (2, 102), (3, 103)];
        assert_eq!(
            judged(1, &[3, 1, 2], &all),
            Ok(Verdict::Founds { founders })
        );
        let silent = vec![3];
        assert_eq!(
            judged(1, &[1, 2, 3], &all[..1]),
            Ok(Verdict::Waits { silent })
        );
        let others = [standing(1, ""), standing(3, "")];
        let silent = vec![];
        assert_eq!(
            judged(2, &[1, 2, 3], &others),
            Ok(Verdict::Waits { silent })
        );
        // A newcomer that the list does not name never founds.
        let all = [standing(1, ""), standing(2, ""), standing(3, "")];
        let silent = vec![];
        assert_eq!(judged(0, &[1, 2, 3], &all), Ok(Verdict::Waits { silent }));
        let alone = vec![(1, 101)];
        assert_eq!(
            judged(1, &[1], &[]),
            Ok(Verdict::Founds { founders: alone })
        );
    }

    #[test]
    fn a_cluster_that_is_there_is_joined_whoever_else_is_silent() {
        let mut member = standing(3, "abc");
        member.founders = vec![(1, 5), (3, 103)];
        let expected = Verdict::Belongs {
            cluster_id: "abc".to_owned(),
            founders: member.founders.clone(),
        };
        assert_eq!(
            judged(1, &[1, 2, 3], &[member.clone()]),
            Ok(expected.clone())
        );
        assert_eq!(
            judged(9, &[1, 2, 3], &[standing(2, ""), member]),
            Ok(expected)
        );
    }

    #[test]
    fn confusion_is_said() {
        let two = judged(1, &[1, 2, 3], &[standing(2, "a"), standing(3, "b")]);
        assert!(matches!(two, Err(Confusion::TwoClusters { .. })), "{two:?}");
        let answers = BTreeMap::from([(2, standing(7, ""))]);
        let wrong = judge(&standing(1, ""), &voters(&[1, 2]), &answers);
        let (expected, found) = (2, 7);
        assert_eq!(wrong, Err(Confusion::WrongNode { expected, found }));
    }

    #[test]
    fn a_standing_comes_back() {
        let mut member = standing(3, "abc");
        member.founders = vec![(1, 5), (3, 103)];
        assert_eq!(
            Standing::decode(&member.encode()).expect("own encoding"),
            member
        );
    }
}
