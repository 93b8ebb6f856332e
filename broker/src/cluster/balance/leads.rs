//! Preferred leaders are evened out: the same replicas in another order, which moves no data.
//!
//! A node can give a lead only to one that holds a replica of the same partition, so the way from the node that is
//! preferred most to the one that is preferred least may lead over others: each gives one on. Where no such way leads
//! to a better sum of squares there is none that is better (Harvey, Ladner, Lovász and Tamir, "Semi-matchings for
//! bipartite graphs and load balancing", 2003).

use super::super::state::Topic;
use super::Why;
use super::plan::{Plan, cost_of_next, is_worth_it};
use std::collections::{BTreeMap, VecDeque};

/// Leads that are given elsewhere at a look.
const LEADS_PER_LOOK: usize = 16;

/// From a preferred node to the others of its partitions, with a partition that goes that way.
type Ways<'a> = BTreeMap<i32, BTreeMap<i32, (&'a Topic, u32)>>;

impl<'a> Plan<'a> {
    /// Done when nothing else is to be done: every move changes who can lead what.
    pub(super) fn even_out_leads(&mut self) {
        if !self.is_at_rest || !self.steps.is_empty() {
            return;
        }
        while self.steps.len() < LEADS_PER_LOOK {
            let Some(path) = self.best_path() else { return };
            for (topic, partition, to) in path {
                let mut replicas = topic.partitions[partition as usize].clone();
                let at = replicas.iter().position(|node| *node == to);
                replicas[..=at.expect("it holds a replica")].rotate_right(1);
                self.take(topic, partition, replicas, Why::Leads);
            }
        }
    }

    fn ways(&self) -> Ways<'a> {
        let mut ways: Ways = BTreeMap::new();
        let stays = |node: i32| {
            let host = self.host(node);
            host.is_some_and(|host| !host.is_to_be_left())
        };
        for (topic, partition, replicas) in self.free() {
            let Some((first, others)) = replicas.split_first() else {
                continue;
            };
            if !stays(*first) {
                continue;
            }
            let of_first = ways.entry(*first).or_default();
            for other in others.iter().filter(|other| stays(**other)) {
                of_first.entry(*other).or_insert((topic, partition));
            }
        }
        ways
    }

    /// The partitions whose leads are to be given on, and to whom: from the node with the most of which there is a way
    /// to one with enough fewer.
    fn best_path(&self) -> Option<Vec<(&'a Topic, u32, i32)>> {
        let ways = self.ways();
        let load = |node: i32| (self.hosts[&node].preferred, self.hosts[&node].cores);
        let cost = |node: i32| cost_of_next(load(node).0, load(node).1);
        let mut from: Vec<i32> = ways.keys().copied().collect();
        from.sort_by_key(|node| (std::cmp::Reverse(cost(*node)), *node));
        from.into_iter().find_map(|from| {
            let came_from = reachable(&ways, from);
            let worth = came_from.keys().copied();
            let worth = worth.filter(|to| is_worth_it(load(from), load(*to)));
            let mut to = worth.min_by_key(|to| (cost(*to), *to))?;
            let mut path = Vec::new();
            while to != from {
                let before = came_from[&to];
                let (topic, partition) = ways[&before][&to];
                path.push((topic, partition, to));
                to = before;
            }
            Some(path)
        })
    }
}

/// All nodes that can be reached, but for the first, each with the one before it on a shortest way.
fn reachable(ways: &Ways, from: i32) -> BTreeMap<i32, i32> {
    let mut came_from = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        for to in ways.get(&at).into_iter().flat_map(BTreeMap::keys) {
            if *to != from && !came_from.contains_key(to) {
                came_from.insert(*to, at);
                next.push_back(*to);
            }
        }
    }
    came_from
}
