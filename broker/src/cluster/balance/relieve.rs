//! Disks that are full are relieved: of one of their largest partitions at a time, since what a node says about its
//! disk is some seconds old.

use super::Why;
use super::plan::Plan;
use std::collections::BTreeSet;

/// A disk that takes a partition over stays by so much below being full.
const SPARE_PERCENT: u64 = 5;

impl Plan<'_> {
    pub(super) fn relieve_disks(&mut self) {
        let full_percent = self.sight.rules.full_percent;
        let busy = self.nodes_that_give_something_away();
        for (node, disk) in &self.sight.disks {
            let stays = self.host(*node).is_some_and(|host| !host.is_to_be_left());
            if self.room > 0 && stays && disk.is_above(full_percent, 0) && !busy.contains(node) {
                self.relieve(*node);
            }
        }
    }

    /// Also by a step that was taken just now.
    fn nodes_that_give_something_away(&self) -> BTreeSet<i32> {
        let topics = self.state.topics();
        let under_way = topics.flat_map(|topic| {
            let partitions = topic.moves.keys();
            partitions.flat_map(|partition| topic.coming_and_going(*partition).1)
        });
        let shifts = self.shifts.iter().filter(|(_, shift)| **shift < 0);
        under_way
            .chain(shifts.map(|((_, node), _)| *node))
            .collect()
    }

    /// Its largest partition for which another node has room goes there.
    fn relieve(&mut self, node: i32) {
        let percent = self.sight.rules.full_percent.saturating_sub(SPARE_PERCENT);
        for held in &self.sight.disks[&node].largest {
            let Some(topic) = self.state.topic_by_id(held.topic) else {
                continue;
            };
            let is_free = !topic.moves.contains_key(&held.partition)
                && !self.taken.contains(&(held.topic, held.partition));
            let replicas = topic.partitions.get(held.partition as usize);
            let at = replicas.and_then(|all| all.iter().position(|other| *other == node));
            let (true, Some(replicas), Some(at)) = (is_free, replicas, at) else {
                continue;
            };
            let fits = self.sight.disks.iter().filter(|(to, disk)| {
                !replicas.contains(to)
                    && self.may_get_more(**to)
                    && !disk.is_above(percent, held.bytes)
                    && self.shares_no_more(replicas, at, **to)
            });
            // The emptiest, by its share.
            let emptiest = fits.max_by_key(|(to, disk)| {
                let share = u128::from(disk.available_bytes) << 32;
                (share / u128::from(disk.total_bytes.max(1)), -**to)
            });
            if let Some((to, _)) = emptiest {
                let mut moved = replicas.clone();
                moved[at] = *to;
                self.take(topic, held.partition, moved, Why::Relieve);
                self.room -= 1;
                return;
            }
        }
    }
}
