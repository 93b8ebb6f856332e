//! Which replicas of the partitions led here lag behind, as Kafka means it: those that have not had the end of the
//! leader's log at any time within `replica.lag.time.max.ms`. The others are in sync.
//!
//! A replica is caught up when it has what was the end of the log at the last look, and was then caught up at the time
//! of that look. It is in sync again when it has everything that is committed. One on a node that is not heard of is
//! out as soon as it misses something, and stays out until it has caught up; so is a disk that was replaced.
//!
//! What this says decides nothing about commits, which are a majority's. It is told to every core of every node with
//! the word on who leads ([`Leadership`](super::mail::Leadership)), when it changes and when a link comes up: nothing
//! is written for it. A new leader begins with what the one before it said. After a start of all nodes nobody
//! remembers: everybody is in sync until the time is over.
//!
//! Looked at are groups that are awake, and those in which somebody is behind: where nothing happens nothing is
//! looked at, and a replica that has everything is in sync however long ago it was heard of.

use super::Shard;
use super::mail::Leadership;
use super::owned::Owned;
use super::view::View;
use raft_group::{Replica, Role};
use runtime::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use storage::PartitionId;
use uuid::Uuid;

/// How often the followers of groups that are awake are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The lagging replicas of a core's partitions.
#[derive(Default)]
pub struct InSync {
    /// Nodes whose replicas lag, by the last word of the partition's leader: this core, if it leads. Partitions
    /// without any are left out.
    lagging: BTreeMap<PartitionId, BTreeSet<i32>>,
    /// Replicas of partitions led here that are behind, and in sync for now.
    trailing: BTreeMap<PartitionId, Trailing>,
    looked_at: Option<Instant>,
}

/// Of one partition, in one term of this leader.
#[derive(Default)]
struct Trailing {
    term: u64,
    replicas: BTreeMap<i32, Behind>,
}

/// How far a replica was when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Behind {
    /// When it had the end of the log, as far as is known.
    caught_up_at: Instant,
    looked_at: Instant,
    /// The end of the log then.
    last_index: u64,
}

/// The leader's log at a look.
#[derive(Clone, Copy)]
struct Led {
    term: u64,
    last_index: u64,
    commit_index: u64,
}

/// A follower at a look.
#[derive(Clone, Copy)]
struct Follower {
    node: i32,
    /// Up to where it is known to have the leader's log; None: it does not vote, whatever it has.
    matched: Option<u64>,
    /// Its node is heard of.
    heard: bool,
}

impl InSync {
    /// Nodes whose replicas lag.
    pub fn lagging(&self, id: PartitionId) -> Vec<i32> {
        let lagging = self.lagging.get(&id);
        lagging.map_or_else(Vec::new, |nodes| nodes.iter().copied().collect())
    }

    /// The leader of a partition that is followed here has said who lags.
    pub fn heard(&mut self, id: PartitionId, lagging: &[i32]) {
        match lagging.is_empty() {
            true => self.lagging.remove(&id),
            false => self.lagging.insert(id, lagging.iter().copied().collect()),
        };
    }

    /// This node leads the partition from now on: it lags behind nobody.
    pub fn lead(&mut self, id: PartitionId, own_node: i32) {
        self.change(id, |lagging| {
            lagging.remove(&own_node);
        });
    }

    /// The partition is not led here any more.
    pub fn unseated(&mut self, id: PartitionId) {
        self.trailing.remove(&id);
    }

    /// The partition is not here any more.
    pub fn forget(&mut self, id: PartitionId) {
        self.lagging.remove(&id);
        self.trailing.remove(&id);
    }

    /// Whether a partition in which everybody has everything is to be looked at.
    fn concerns(&self, id: PartitionId) -> bool {
        self.lagging.contains_key(&id) || self.trailing.contains_key(&id)
    }

    /// Looks at the followers of a partition. True if others lag than before.
    fn look(
        &mut self,
        id: PartitionId,
        led: Led,
        followers: &[Follower],
        now: Instant,
        lag_max: Duration,
    ) -> bool {
        let before = self.lagging.get(&id).cloned().unwrap_or_default();
        let mut lagging = BTreeSet::new();
        let trailing = self.trailing.entry(id).or_default();
        if trailing.term != led.term {
            *trailing = Trailing {
                term: led.term,
                ..Trailing::default()
            };
        }
        trailing
            .replicas
            .retain(|node, _| followers.iter().any(|follower| follower.node == *node));
        for follower in followers {
            let node = follower.node;
            let behind = trailing.replicas.remove(&node);
            let matched = follower.matched.unwrap_or(0);
            if before.contains(&node) && matched < led.commit_index {
                lagging.insert(node);
                continue;
            }
            if matched >= led.last_index {
                continue;
            }
            let caught_up_at = match behind {
                Some(behind) if matched >= behind.last_index => behind.looked_at,
                Some(behind) => behind.caught_up_at,
                None => now,
            };
            let late = now.since(caught_up_at) > lag_max;
            if late || !follower.heard || follower.matched.is_none() {
                lagging.insert(node);
                continue;
            }
            let behind = Behind {
                caught_up_at,
                looked_at: now,
                last_index: led.last_index,
            };
            trailing.replicas.insert(node, behind);
        }
        if trailing.replicas.is_empty() {
            self.trailing.remove(&id);
        }
        let changed = lagging != before;
        self.change(id, |known| *known = lagging);
        changed
    }

    fn change(&mut self, id: PartitionId, change: impl FnOnce(&mut BTreeSet<i32>)) {
        let mut lagging = self.lagging.remove(&id).unwrap_or_default();
        change(&mut lagging);
        if !lagging.is_empty() {
            self.lagging.insert(id, lagging);
        }
    }
}

impl Shard {
    /// Looks at the followers of what is led here, if it is time to.
    pub(super) fn look_at_followers(&self, owned: &mut Owned, now: Instant) {
        let looked_at = owned.in_sync.looked_at;
        if looked_at.is_some_and(|looked_at| now.since(looked_at) < LOOK_EVERY) {
            return;
        }
        owned.in_sync.looked_at = Some(now);
        let mut looked = BTreeSet::new();
        for replica in owned.replicas.awake().filter(|replica| leads(replica)) {
            let id = replica.partition();
            if !all_have_everything(replica) || owned.in_sync.concerns(id) {
                looked.insert(id);
            }
        }
        looked.extend(owned.in_sync.trailing.keys().copied());
        looked.extend(owned.unsettled.iter().copied());
        let view = self.view.borrow();
        for id in looked {
            owned.look_at_followers_of(&view, id, now);
        }
    }

    /// Who leads a partition that is followed here has said who lags behind it.
    pub(super) fn heard_of_lagging(&self, word: &[Leadership]) {
        let own = self.settings.node_id;
        let mut owned = self.owned.borrow_mut();
        let other = |word: &&Leadership| word.leader.is_none_or(|leader| leader.node() != own);
        for leadership in word.iter().filter(other) {
            let id = leadership.partition;
            let Some(lagging) = &leadership.lagging else {
                continue;
            };
            let replica = owned.replicas.get(id);
            if replica.is_some_and(|replica| replica.term() as i32 <= leadership.epoch) {
                owned.in_sync.heard(id, lagging);
            }
        }
    }
}

impl Owned {
    fn look_at_followers_of(&mut self, view: &View, id: PartitionId, now: Instant) {
        let topic = view.cluster.topic_by_id(Uuid::from_u128(id.topic));
        let replicas = topic.and_then(|topic| topic.partitions.get(id.partition as usize));
        let replica = self.replicas.get(id).filter(|replica| leads(replica));
        let (Some(topic), Some(replicas), Some(replica)) = (topic, replicas, replica) else {
            return;
        };
        let (coming, _) = topic.coming_and_going(id.partition);
        let others = replicas
            .iter()
            .copied()
            .filter(|node| *node != self.node_id && !coming.contains(node));
        let follower = |node: i32| {
            let known = view.cluster.nodes().get(&node);
            let voter = known.map(|known| known.replica_id());
            let voter = voter.filter(|voter| replica.members().is_voter(*voter));
            Follower {
                node,
                matched: voter.and_then(|voter| replica.matched(voter)),
                heard: known.is_some_and(|known| !known.fenced),
            }
        };
        let followers: Vec<Follower> = others.map(follower).collect();
        let led = Led {
            term: replica.term(),
            last_index: replica.last_index(),
            commit_index: replica.commit_index(),
        };
        let lag_max = Duration::from_millis(view.broker().replica_lag_time_max_ms);
        if self.in_sync.look(id, led, &followers, now, lag_max) {
            let lagging = self.in_sync.lagging(id);
            let name = &topic.name;
            tracing::info!(
                topic = name,
                partition = id.partition,
                ?lagging,
                "who lags behind the leader has changed"
            );
            self.tell_lead(id);
        }
    }
}

fn leads(replica: &Replica) -> bool {
    replica.role() == Role::Leader && replica.is_serving()
}

fn all_have_everything(replica: &Replica) -> bool {
    let (own, last_index) = (replica.id(), replica.last_index());
    let mut voters = replica.members().voters().iter();
    voters.all(|voter| *voter == own || replica.matched(*voter) >= Some(last_index))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PartitionId = PartitionId {
        topic: 7,
        partition: 0,
    };
    const LAG_MAX: Duration = Duration::from_secs(10);

    /// A partition led by node 1, whose log grows.
    struct House {
        in_sync: InSync,
        led: Led,
        now_s: u64,
    }

    impl House {
        fn new() -> House {
            House {
                in_sync: InSync::default(),
                led: Led {
                    term: 3,
                    last_index: 100,
                    commit_index: 100,
                },
                now_s: 1_000,
            }
        }

        /// So many seconds later the log ends there, and everything is committed.
        fn later(&mut self, seconds: u64, last_index: u64) {
            self.now_s += seconds;
            self.led.last_index = last_index;
            self.led.commit_index = last_index;
        }

        /// Node 2 has everything, node 3 this; gives who lags, and whether that is new.
        fn look(&mut self, matched: u64) -> (Vec<i32>, bool) {
            self.look_at(Some(matched), true)
        }

        fn look_at(&mut self, matched: Option<u64>, heard: bool) -> (Vec<i32>, bool) {
            let followers = [
                Follower {
                    node: 2,
                    matched: Some(self.led.last_index),
                    heard: true,
                },
                Follower {
                    node: 3,
                    matched,
                    heard,
                },
            ];
            let now = Instant(self.now_s * 1_000_000_000);
            let changed = self.in_sync.look(ID, self.led, &followers, now, LAG_MAX);
            (self.in_sync.lagging(ID), changed)
        }
    }

    #[test]
    fn who_misses_the_end_for_too_long_lags_until_it_has_what_is_committed() {
        let mut house = House::new();
        assert_eq!(house.look(100), (vec![], false));
        assert!(
            !house.in_sync.concerns(ID),
            "nothing is kept of who is in sync"
        );
        house.later(1, 200);
        assert_eq!(house.look(100), (vec![], false));
        house.later(10, 300);
        assert_eq!(house.look(150), (vec![], false), "ten seconds are allowed");
        house.later(1, 300);
        assert_eq!(house.look(160), (vec![3], true));
        house.later(1, 400);
        assert_eq!(house.look(399), (vec![3], false));
        house.later(1, 500);
        house.led.commit_index = 450;
        assert_eq!(house.look(450), (vec![], true));
        // Its time begins anew.
        house.later(10, 600);
        assert_eq!(house.look(450), (vec![], false));
        house.later(1, 600);
        assert_eq!(house.look(450), (vec![3], true));
        house.later(1, 600);
        assert_eq!(house.look(600), (vec![], true));
    }

    #[test]
    fn who_follows_a_log_that_grows_without_pause_is_in_sync() {
        let mut house = House::new();
        for step in 1..50 {
            house.later(4, 100 + step * 100);
            // It has the end that there was at the last look, and never the end that there is.
            assert_eq!(
                house.look(100 + step * 100 - 100),
                (vec![], false),
                "{step}"
            );
        }
    }

    #[test]
    fn a_log_that_stands_still_gives_no_second_chance() {
        let mut house = House::new();
        house.look(90);
        for _ in 0..10 {
            house.later(1, 100);
            assert_eq!(house.look(90), (vec![], false));
        }
        house.later(1, 100);
        assert_eq!(house.look(90), (vec![3], true));
    }

    #[test]
    fn on_a_node_that_is_not_heard_of_only_who_has_everything_is_in_sync() {
        let mut house = House::new();
        assert_eq!(house.look_at(Some(100), false), (vec![], false));
        house.later(1, 101);
        assert_eq!(house.look_at(Some(100), false), (vec![3], true));
        // It is heard of again, and has to catch up first.
        assert_eq!(house.look_at(Some(100), true), (vec![3], false));
        assert_eq!(house.look_at(Some(101), true), (vec![], true));
        // A disk that was replaced does not vote, or is another replica altogether.
        assert_eq!(house.look_at(None, true), (vec![3], true));
    }

    #[test]
    fn a_new_leader_begins_with_the_word_of_the_last_one() {
        let mut house = House::new();
        house.in_sync.heard(ID, &[1, 3]);
        house.in_sync.lead(ID, 1);
        assert_eq!(house.in_sync.lagging(ID), [3]);
        assert_eq!(house.look(99), (vec![3], false));
        house.later(1, 100);
        assert_eq!(house.look(100), (vec![], true));
        // Another term, another time: what was behind under the leader before counts from now on.
        house.later(1, 200);
        house.look(100);
        house.later(9, 200);
        house.led.term = 4;
        assert_eq!(house.look(100), (vec![], false));
        house.later(10, 200);
        assert_eq!(house.look(100), (vec![], false));
        house.later(1, 200);
        assert_eq!(house.look(100), (vec![3], true));
        house.in_sync.heard(ID, &[]);
        assert!(house.in_sync.lagging(ID).is_empty());
    }
}
