//! Which nodes get the replicas of new partitions. A pure function of the state, so that every decision can be
//! replayed.
//!
//! Replicas of a partition never share a node, and share a rack only if there are too few. Among the nodes that
//! fit, the one with the fewest replicas for each of its cores is taken; the first replica, which is the preferred
//! leader, is the one whose node prefers the fewest leaders. Nodes that leave get none, and those with full disks only
//! if there are too few others. Deliberately absent: traffic, which the state does not know.

use super::state::Cluster;
use std::collections::{BTreeMap, BTreeSet};

/// A node that may get replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node: i32,
    pub rack: Option<String>,
    /// At least 1.
    pub cores: u16,
    /// Its disk is full: better another one.
    pub is_full: bool,
}

/// The nodes that may get replicas: all that are registered, heard of and to stay; the deciding one alone if none is
/// registered.
pub fn candidates(state: &Cluster, deciding: i32, full: &BTreeSet<i32>) -> Vec<Candidate> {
    if state.nodes().is_empty() {
        return vec![Candidate {
            node: deciding,
            rack: None,
            cores: 1,
            is_full: false,
        }];
    }
    let leaving = state.leaving();
    let nodes = state.nodes().iter();
    let staying = nodes.filter(|(id, node)| !node.fenced && !leaving.contains(id));
    staying
        .map(|(id, node)| Candidate {
            node: *id,
            rack: node.registration.rack.clone(),
            cores: node.registration.cores.max(1),
            is_full: full.contains(id),
        })
        .collect()
}

/// What a node carries.
#[derive(Clone, Copy, Default)]
struct Load {
    replicas: u64,
    preferred: u64,
}

/// Places `count` new partitions with `factor` replicas each; the preferred leader comes first.
///
/// `factor` is at least 1 and at most the number of candidates.
pub fn place(
    state: &Cluster,
    candidates: &[Candidate],
    count: usize,
    factor: usize,
) -> Vec<Vec<i32>> {
    assert!(
        (1..=candidates.len()).contains(&factor),
        "{factor} replicas on {} nodes",
        candidates.len()
    );
    let mut loads: BTreeMap<i32, Load> = BTreeMap::new();
    if candidates.len() > 1 {
        for replicas in state.topics().flat_map(|topic| &topic.partitions) {
            for (rank, node) in replicas.iter().enumerate() {
                let load = loads.entry(*node).or_default();
                load.replicas += 1;
                load.preferred += u64::from(rank == 0);
            }
        }
    }
    (0..count)
        .map(|_| place_one(candidates, &mut loads, factor))
        .collect()
}

fn place_one(candidates: &[Candidate], loads: &mut BTreeMap<i32, Load>, factor: usize) -> Vec<i32> {
    let mut chosen: Vec<&Candidate> = Vec::with_capacity(factor);
    let mut racks: BTreeSet<&str> = BTreeSet::new();
    while chosen.len() < factor {
        let free = candidates
            .iter()
            .filter(|candidate| chosen.iter().all(|taken| taken.node != candidate.node));
        let next = free
            .min_by_key(|candidate| {
                let shares_rack = candidate
                    .rack
                    .as_deref()
                    .is_some_and(|rack| racks.contains(rack));
                let load = loads.get(&candidate.node).copied().unwrap_or_default();
                // In thousandths, so that nodes of different sizes compare.
                let for_each_core = load.replicas * 1_000 / u64::from(candidate.cores);
                (
                    candidate.is_full,
                    shares_rack,
                    for_each_core,
                    load.preferred,
                    candidate.node,
                )
            })
            .expect("there are as many candidates as replicas");
        racks.extend(next.rack.as_deref());
        loads.entry(next.node).or_default().replicas += 1;
        chosen.push(next);
    }
    let preferred = |candidate: &&Candidate| {
        let load = loads.get(&candidate.node).copied().unwrap_or_default();
        load.preferred * 1_000 / u64::from(candidate.cores)
    };
    let at = (0..chosen.len())
        .min_by_key(|at| (preferred(&chosen[*at]), *at))
        .expect("at least one replica");
    chosen[..=at].rotate_right(1);
    loads.entry(chosen[0].node).or_default().preferred += 1;
    chosen.into_iter().map(|candidate| candidate.node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(racks: &[Option<&str>]) -> Vec<Candidate> {
        let numbered = (1..).zip(racks);
        numbered
            .map(|(node, rack)| Candidate {
                node,
                rack: rack.map(str::to_owned),
                cores: 2,
                is_full: false,
            })
            .collect()
    }

    fn count(partitions: &[Vec<i32>], counts: impl Fn(&[i32]) -> Vec<i32>) -> BTreeMap<i32, usize> {
        let mut by_node = BTreeMap::new();
        for node in partitions.iter().flat_map(|replicas| counts(replicas)) {
            *by_node.entry(node).or_default() += 1;
        }
        by_node
    }

    #[test]
    fn replicas_and_preferred_leaders_are_even() {
        for (nodes_count, factor) in [(3, 3), (3, 2), (5, 3), (1, 1), (4, 1)] {
            let candidates = nodes(&vec![None; nodes_count]);
            let placed = place(&Cluster::default(), &candidates, 60, factor);
            for replicas in &placed {
                let distinct: BTreeSet<&i32> = replicas.iter().collect();
                assert_eq!(distinct.len(), factor, "{replicas:?}");
            }
            let replicas = count(&placed, |replicas| replicas.to_vec());
            let leaders = count(&placed, |replicas| vec![replicas[0]]);
            for node in 1..=nodes_count as i32 {
                assert_eq!(replicas[&node], 60 * factor / nodes_count, "{replicas:?}");
                let even = 60 / nodes_count;
                assert!(leaders[&node].abs_diff(even) <= 1, "{leaders:?}");
            }
        }
    }

    #[test]
    fn replicas_share_a_rack_only_if_there_are_too_few() {
        let candidates = nodes(&[Some("a"), Some("a"), Some("b"), Some("b"), None]);
        for replicas in place(&Cluster::default(), &candidates, 40, 3) {
            let racks: Vec<_> = replicas
                .iter()
                .map(|node| candidates[*node as usize - 1].rack.as_deref())
                .collect();
            for rack in ["a", "b"] {
                let same = racks.iter().filter(|found| **found == Some(rack)).count();
                assert!(same <= 1, "{replicas:?}");
            }
        }
        let in_one = nodes(&[Some("a"), Some("a"), Some("a")]);
        assert_eq!(place(&Cluster::default(), &in_one, 1, 3)[0].len(), 3);
    }

    #[test]
    fn full_disks_are_used_last() {
        let mut candidates = nodes(&[Some("a"), Some("b"), Some("b")]);
        candidates[0].is_full = true;
        for replicas in place(&Cluster::default(), &candidates, 10, 2) {
            assert!(!replicas.contains(&1), "{replicas:?}");
        }
        let all = place(&Cluster::default(), &candidates, 1, 3);
        assert_eq!(all[0].len(), 3, "there is no other");
    }

    #[test]
    fn a_larger_node_gets_more() {
        let mut candidates = nodes(&[None, None, None]);
        candidates[2].cores = 4;
        let placed = place(&Cluster::default(), &candidates, 80, 1);
        let replicas = count(&placed, |replicas| replicas.to_vec());
        assert_eq!(replicas, BTreeMap::from([(1, 20), (2, 20), (3, 40)]));
    }
}
