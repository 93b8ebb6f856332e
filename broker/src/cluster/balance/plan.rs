//! The state with the steps taken so far, and the steps that cannot wait: what is on nodes that are gone or leave.

use super::super::state::{Cluster, Topic};
use super::{Sight, Step, Why};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A disk that was full gets replicas again, for the sake of numbers, when it is so much emptier: what was taken from
/// it does not come back at once.
const EMPTIER_PERCENT: u64 = 10;
/// Costs are compared as whole numbers: of nodes with up to so many cores, exactly enough to rank them.
const SCALE: u64 = 1_000_000;

/// A registered node.
pub(super) struct Host<'a> {
    pub(super) rack: Option<&'a str>,
    /// At least 1.
    pub(super) cores: u64,
    /// It runs, and is heard of.
    pub(super) is_sound: bool,
    /// It does not run, and is not waited for.
    pub(super) is_lost: bool,
    pub(super) is_leaving: bool,
    /// Replicas that it is to have when all that is under way has arrived.
    pub(super) replicas: u64,
    /// Partitions whose preferred leader it is then.
    pub(super) preferred: u64,
}

impl Host<'_> {
    /// Nothing is to stay on it.
    pub(super) fn is_to_be_left(&self) -> bool {
        self.is_lost || self.is_leaving
    }
}

/// What one more adds to the sum of squares over cores, but for a constant factor.
pub(super) fn cost_of_next(count: u64, cores: u64) -> u64 {
    (2 * count + 1) * SCALE / cores
}

/// Whether one more on the one node costs less than one on the other gives back. Exact, so that nothing moves in
/// circles.
pub(super) fn is_worth_it(from: (u64, u64), to: (u64, u64)) -> bool {
    let ((from, from_cores), (to, to_cores)) = (from, to);
    from > 0 && (2 * to + 1) * from_cores < (2 * from - 1) * to_cores
}

pub(super) struct Plan<'a> {
    pub(super) state: &'a Cluster,
    pub(super) sight: &'a Sight,
    pub(super) hosts: BTreeMap<i32, Host<'a>>,
    /// Partitions that a step was taken for already: one is enough.
    pub(super) taken: BTreeSet<(Uuid, u32)>,
    /// What steps have changed in how many replicas of a topic a node has.
    pub(super) shifts: BTreeMap<(Uuid, i32), i64>,
    /// How many more partitions may be on their way.
    pub(super) room: usize,
    /// Nothing was on its way before.
    pub(super) is_at_rest: bool,
    pub(super) steps: Vec<Step>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(state: &'a Cluster, sight: &'a Sight) -> Plan<'a> {
        let leaving = state.leaving();
        let hosts = state.nodes().iter().map(|(id, node)| {
            let is_leaving = leaving.contains(id);
            let is_sound = !node.fenced && sight.heard.contains(id);
            let is_lost = node.fenced && (is_leaving || sight.gone.contains(id));
            let host = Host {
                rack: node.registration.rack.as_deref(),
                cores: u64::from(node.registration.cores.max(1)),
                is_sound,
                is_lost,
                is_leaving,
                replicas: 0,
                preferred: 0,
            };
            (*id, host)
        });
        let mut plan = Plan {
            state,
            sight,
            hosts: hosts.collect(),
            taken: BTreeSet::new(),
            shifts: BTreeMap::new(),
            room: 0,
            is_at_rest: true,
            steps: Vec::new(),
        };
        let mut under_way = 0;
        for topic in state.topics() {
            under_way += topic.moves.len();
            for partition in 0..topic.partitions.len() as u32 {
                let replicas = topic.wanted(partition).expect("it is one of the topic's");
                plan.count(replicas, 1);
            }
        }
        plan.room = sight.rules.moves_max.saturating_sub(under_way);
        plan.is_at_rest = under_way == 0;
        plan
    }

    fn count(&mut self, replicas: &[i32], change: i64) {
        for (rank, node) in replicas.iter().enumerate() {
            // A partition may name a node that was let go by an older release: nobody's load.
            let Some(host) = self.hosts.get_mut(node) else {
                continue;
            };
            host.replicas = host.replicas.saturating_add_signed(change);
            if rank == 0 {
                host.preferred = host.preferred.saturating_add_signed(change);
            }
        }
    }

    /// Takes a step for a partition.
    pub(super) fn take(&mut self, topic: &Topic, partition: u32, replicas: Vec<i32>, why: Why) {
        let before = topic.wanted(partition).expect("it is one of the topic's");
        self.count(before, -1);
        self.count(&replicas, 1);
        for (nodes, change) in [(before, -1), (&replicas, 1)] {
            for node in nodes {
                *self.shifts.entry((topic.id, *node)).or_default() += change;
            }
        }
        let is_new = self.taken.insert((topic.id, partition));
        assert!(
            is_new,
            "two steps for partition {partition} of {}",
            topic.name
        );
        self.steps.push(Step::Replicas {
            topic: topic.id,
            partition,
            replicas,
            why,
        });
    }

    /// Partitions that may be moved: with their topic, index and replicas.
    pub(super) fn free(
        &self,
    ) -> impl Iterator<Item = (&'a Topic, u32, &'a Vec<i32>)> + use<'_, 'a> {
        self.state.topics().flat_map(move |topic| {
            let indexed = (0..).zip(&topic.partitions);
            indexed.filter_map(move |(partition, replicas)| {
                let is_free = !topic.moves.contains_key(&partition)
                    && !self.taken.contains(&(topic.id, partition));
                is_free.then_some((topic, partition, replicas))
            })
        })
    }

    pub(super) fn host(&self, node: i32) -> Option<&Host<'a>> {
        self.hosts.get(&node)
    }

    fn is_to_be_left(&self, node: i32) -> bool {
        self.host(node).is_none_or(Host::is_to_be_left)
    }

    fn is_lost(&self, node: i32) -> bool {
        self.host(node).is_none_or(|host| host.is_lost)
    }

    /// Whether a node may get replicas: it runs, stays, and has room.
    pub(super) fn may_get(&self, node: i32) -> bool {
        let full_percent = self.sight.rules.full_percent;
        let disk = self.sight.disks.get(&node);
        let host = self.host(node);
        host.is_some_and(|host| host.is_sound && !host.is_to_be_left())
            && disk.is_none_or(|disk| !disk.is_above(full_percent, 0))
    }

    /// The same for what need not be: a disk that is nearly full gets nothing.
    pub(super) fn may_get_more(&self, node: i32) -> bool {
        let percent = match self.sight.rules.full_percent {
            100.. => 100,
            full => full.saturating_sub(EMPTIER_PERCENT),
        };
        let disk = self.sight.disks.get(&node);
        self.may_get(node) && disk.is_none_or(|disk| !disk.is_above(percent, 0))
    }

    /// How many of these nodes share a rack with an earlier one. A node without a rack shares none.
    pub(super) fn shared_racks(&self, replicas: &[i32]) -> usize {
        let racks = replicas.iter().filter_map(|node| self.host(*node)?.rack);
        let racks: Vec<&str> = racks.collect();
        let distinct: BTreeSet<&str> = racks.iter().copied().collect();
        racks.len() - distinct.len()
    }

    /// The node that is best for one more replica: in a rack of its own if there is one, and with the least to carry.
    fn best_for(&self, others: &[i32]) -> Option<i32> {
        let free = self.hosts.iter();
        let free = free.filter(|(node, _)| !others.contains(node) && self.may_get(**node));
        let best = free.min_by_key(|(node, host)| {
            let mut all = others.to_vec();
            all.push(**node);
            let cost = cost_of_next(host.replicas, host.cores);
            (self.shared_racks(&all), cost, host.preferred, **node)
        });
        best.map(|(node, _)| *node)
    }

    /// How many nodes are to stay.
    fn staying(&self) -> usize {
        let hosts = self.hosts.values();
        hosts.filter(|host| !host.is_to_be_left()).count()
    }

    /// The same replicas, with others in the places of those that are to be left: of as many as there are nodes for.
    /// A topic of the cluster's own does with fewer if there are too few nodes that stay.
    fn replaced(&self, topic: &Topic, replicas: &[i32]) -> Option<Vec<i32>> {
        let mut result = replicas.to_vec();
        let mut left: Vec<i32> = replicas.to_vec();
        left.retain(|node| self.is_to_be_left(*node));
        left.sort_by_key(|node| !self.is_lost(*node));
        for node in left {
            let at = result.iter().position(|other| *other == node);
            let at = at.expect("each is there once");
            match self.best_for(&result) {
                Some(to) => result[at] = to,
                None if topic.internal && result.len() > self.staying().max(1) => {
                    result.remove(at);
                }
                None => {}
            }
        }
        (result != replicas).then_some(result)
    }

    /// Moves of our own that can never arrive, or should not, since their target is to be left, get another one. They
    /// are under way already: that takes no room.
    pub(super) fn redirect(&mut self) {
        for topic in self.state.topics() {
            let own = topic.moves.iter().filter(|(_, moving)| moving.automatic);
            for (partition, moving) in own {
                if !moving.target.iter().any(|node| self.is_to_be_left(*node)) {
                    continue;
                }
                let back = || Some(&moving.origin).filter(|origin| **origin != moving.target);
                let target = self.replaced(topic, &moving.target);
                if let Some(target) = target.or_else(|| back().cloned()) {
                    let lost = moving.target.iter().any(|node| self.is_lost(*node));
                    let why = if lost { Why::Rebuild } else { Why::Empty };
                    self.take(topic, *partition, target, why);
                }
            }
        }
    }

    /// What is on nodes that are gone is rebuilt elsewhere, what is on nodes that leave goes elsewhere.
    pub(super) fn leave_nodes(&mut self) {
        let hosts = self.hosts.values();
        let held = |host: &&Host| host.is_to_be_left() && host.replicas > 0;
        if hosts.filter(held).count() == 0 {
            return;
        }
        let nobody_is_missed = self.nobody_is_missed();
        for why in [Why::Rebuild, Why::Empty] {
            let may = why == Why::Rebuild || nobody_is_missed;
            let wanted: Vec<(&Topic, u32, &Vec<i32>)> = self.free().collect();
            for (topic, partition, replicas) in wanted {
                if self.room == 0 || !may {
                    break;
                }
                let concerns = |node: &i32| match why {
                    Why::Rebuild => self.is_lost(*node),
                    _ => self.is_to_be_left(*node),
                };
                // Without a majority nobody carries it out.
                if !replicas.iter().any(concerns) || !self.has_majority(replicas) {
                    continue;
                }
                if let Some(replaced) = self.replaced(topic, replicas) {
                    self.take(topic, partition, replaced, why);
                    self.room -= 1;
                }
            }
        }
    }

    fn has_majority(&self, replicas: &[i32]) -> bool {
        let sound = |node: &&i32| self.host(**node).is_some_and(|host| host.is_sound);
        replicas.iter().filter(sound).count() * 2 > replicas.len()
    }

    /// All nodes run, and have for a while, except those that are not waited for.
    fn nobody_is_missed(&self) -> bool {
        let mut hosts = self.hosts.values();
        self.sight.is_settled && hosts.all(|host| host.is_sound || host.is_lost)
    }

    /// Nobody is missed, and nothing is on nodes that are lost: replicas may move that need not.
    pub(super) fn is_calm(&self) -> bool {
        let mut hosts = self.hosts.values();
        self.nobody_is_missed() && hosts.all(|host| !host.is_lost || host.replicas == 0)
    }

    /// Topics of the cluster's own get the replicas that they lack.
    pub(super) fn grow(&mut self) {
        let factor = self.sight.rules.internal_factor.min(self.staying());
        let internal = self.free().filter(|(topic, _, replicas)| {
            topic.internal
                && replicas.len() < factor
                && !replicas.iter().any(|node| self.is_to_be_left(*node))
        });
        let lacking: Vec<(&Topic, u32, &Vec<i32>)> = internal.collect();
        for (topic, partition, replicas) in lacking {
            if self.room == 0 {
                break;
            }
            let mut grown = replicas.clone();
            while grown.len() < factor
                && let Some(to) = self.best_for(&grown)
            {
                grown.push(to);
            }
            if grown.len() > replicas.len() {
                self.take(topic, partition, grown, Why::Grow);
                self.room -= 1;
            }
        }
    }

    /// Who leaves, holds nothing and has no vote on the metadata is let go.
    pub(super) fn let_nodes_go(&mut self) {
        let leaving = self.hosts.iter().filter(|(_, host)| host.is_leaving);
        let mut leaving: BTreeSet<i32> = leaving.map(|(node, _)| *node).collect();
        leaving.retain(|node| !self.sight.voters.contains(node));
        if leaving.is_empty() {
            return;
        }
        // Also what is on its way holds a node: it has files, and may be what makes a majority.
        for node in self
            .state
            .topics()
            .flat_map(|topic| topic.partitions.iter().flatten())
        {
            leaving.remove(node);
        }
        self.steps.extend(leaving.into_iter().map(Step::LetGo));
    }
}
