//! Numbers of replicas are evened out, and replicas that share a rack are parted.

use super::super::state::Topic;
use super::Why;
use super::plan::{Plan, cost_of_next, is_worth_it};
use std::collections::BTreeMap;

/// A replica that could go to another node, and how good that is.
struct Found<'a> {
    topic: &'a Topic,
    partition: u32,
    /// Its place among the replicas.
    at: usize,
    to: i32,
    /// The larger the better: what the sum of squares loses, then by how much its topic is there more often.
    gain: (u64, i64),
}

impl<'a> Plan<'a> {
    /// Moves replicas from nodes that hold much to those that hold little, the largest difference first; of a topic of
    /// which they hold most.
    pub(super) fn even_out(&mut self) {
        while self.room > 0 {
            let Some(found) = self.best_to_even_out() else {
                return;
            };
            let mut replicas = found.topic.partitions[found.partition as usize].clone();
            replicas[found.at] = found.to;
            self.take(found.topic, found.partition, replicas, Why::Even);
            self.room -= 1;
        }
    }

    fn best_to_even_out(&self) -> Option<Found<'a>> {
        let mut receivers: Vec<i32> = self.hosts.keys().copied().collect();
        receivers.retain(|node| self.may_get_more(*node));
        let load = |node: i32| (self.hosts[&node].replicas, self.hosts[&node].cores);
        receivers.sort_by_key(|node| (cost_of_next(load(*node).0, load(*node).1), *node));
        let mut best: Option<Found> = None;
        let mut of_topic = (None, BTreeMap::new());
        for (topic, partition, replicas) in self.free() {
            for (at, from) in replicas.iter().enumerate() {
                let from = *from;
                let Some(host) = self.host(from).filter(|host| !host.is_to_be_left()) else {
                    continue;
                };
                let from_load = (host.replicas, host.cores);
                let fits = receivers.iter().copied().find(|to| {
                    !replicas.contains(to)
                        && is_worth_it(from_load, load(*to))
                        && self.shares_no_more(replicas, at, *to)
                });
                let Some(to) = fits else { continue };
                if of_topic.0 != Some(topic.id) {
                    of_topic = (Some(topic.id), self.counts_of(topic));
                }
                let has = |node: i32| of_topic.1.get(&node).copied().unwrap_or(0);
                let saved = cost_of_next(from_load.0 - 1, from_load.1);
                let cost = cost_of_next(load(to).0, load(to).1);
                let gain = (saved.saturating_sub(cost), has(from) - has(to));
                if best.as_ref().is_none_or(|best| best.gain < gain) {
                    best = Some(Found {
                        topic,
                        partition,
                        at,
                        to,
                        gain,
                    });
                }
            }
        }
        best
    }

    /// How many replicas of a topic each node is to have.
    fn counts_of(&self, topic: &Topic) -> BTreeMap<i32, i64> {
        let mut counts = BTreeMap::new();
        for partition in 0..topic.partitions.len() as u32 {
            for node in topic.wanted(partition).into_iter().flatten() {
                *counts.entry(*node).or_default() += 1;
            }
        }
        let ids = (topic.id, i32::MIN)..=(topic.id, i32::MAX);
        for ((_, node), shift) in self.shifts.range(ids) {
            *counts.entry(*node).or_default() += shift;
        }
        counts
    }

    /// No rack gets another replica of this partition if the one at this place goes to that node.
    pub(super) fn shares_no_more(&self, replicas: &[i32], at: usize, to: i32) -> bool {
        self.shared_with(replicas, at, to) <= self.shared_racks(replicas)
    }

    fn shared_with(&self, replicas: &[i32], at: usize, to: i32) -> usize {
        let mut moved = replicas.to_vec();
        moved[at] = to;
        self.shared_racks(&moved)
    }

    /// Replicas of a partition that share a rack go to racks that have none, if there are any.
    pub(super) fn part_racks(&mut self) {
        let crowded = self.free().filter(|(_, _, replicas)| {
            let known = replicas.iter().all(|node| self.host(*node).is_some());
            known && self.shared_racks(replicas) > 0
        });
        let crowded: Vec<(&Topic, u32, &Vec<i32>)> = crowded.collect();
        for (topic, partition, replicas) in crowded {
            if self.room == 0 {
                return;
            }
            let shared = self.shared_racks(replicas);
            let others = self.hosts.keys().copied();
            let others = others.filter(|to| !replicas.contains(to) && self.may_get_more(*to));
            let pairs = others.flat_map(|to| (0..replicas.len()).map(move |at| (at, to)));
            let parting = pairs.filter(|(at, to)| {
                let leaves = self.host(replicas[*at]);
                leaves.is_some_and(|host| !host.is_to_be_left())
                    && self.shared_with(replicas, *at, *to) < shared
            });
            let best = parting.min_by_key(|(at, to)| {
                let (from, host) = (&self.hosts[&replicas[*at]], &self.hosts[to]);
                let saved = cost_of_next(from.replicas.saturating_sub(1), from.cores);
                let cost = cost_of_next(host.replicas, host.cores);
                (i128::from(cost) - i128::from(saved), *at, *to)
            });
            if let Some((at, to)) = best {
                let mut moved = replicas.clone();
                moved[at] = to;
                self.take(topic, partition, moved, Why::Racks);
                self.room -= 1;
            }
        }
    }
}
