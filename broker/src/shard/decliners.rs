//! Nodes that want no leads, and what that means for those that they have.
//!
//! A node whose disk is full: its journal cannot grow, so it will refuse its clients soon, while the other replicas of
//! its partitions may have room, and two of three can go on without it. It hands over what it leads, the metadata too,
//! to voters that have room. A node that is to stop: what others gave it they would lose with it, after it has handed
//! everything over ([`super::leading`]). Both leave elections to others for as long as these can win them
//! ([`raft_group::Replicas::hesitate`]), and nobody hands a lead to them if there is anybody else. What nobody else can
//! lead they keep.
//!
//! A core that finds its node so tells it to all cores of all nodes, and again twice a second while it lasts. Nobody
//! says that it is over: the word counts for [`COUNTS_FOR`], so that a lost one costs little, and a disk at its limit,
//! which has room for a moment now and then, does not send leads back and forth.
//!
//! Must not know why a journal has no room. Deliberately absent: what the balancer makes of disks that are nearly full,
//! which moves replicas and takes its time ([`super::balancing`]).

use super::Shard;
use super::leading::may_inherit;
use super::mail::Mail;
use super::owned::Owned;
use super::peer_mail::PeerMail;
use raft_group::Role;
use runtime::Instant;
use std::collections::BTreeMap;
use std::time::Duration;
use storage::PartitionId;

/// For so long a word counts.
const COUNTS_FOR: Duration = Duration::from_secs(2);
/// How often it is said.
const SAY_EVERY: Duration = Duration::from_millis(500);
/// A lead that was not taken is offered again after this time: while an offer stands, its clients wait.
const OFFER_AGAIN: Duration = Duration::from_secs(2);

/// Why a node wants no leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    DiskFull,
    Stopping,
}

/// What a core knows of them.
#[derive(Default)]
pub(super) struct Decliners {
    /// Until when the last word of a node counts.
    until: BTreeMap<(i32, Why), Instant>,
    /// The own node is to stop.
    stops: bool,
    say_at: Instant,
    /// Leads that were offered to others, and when they may be again.
    offered: BTreeMap<PartitionId, Instant>,
}

impl Decliners {
    /// Whether the node wants no leads, as far as is known.
    pub(super) fn contains(&self, node: i32) -> bool {
        self.is(node, Why::DiskFull) || self.is(node, Why::Stopping)
    }

    /// Whether that is so for this reason.
    pub(super) fn is(&self, node: i32, why: Why) -> bool {
        self.until.contains_key(&(node, why))
    }

    fn hear(&mut self, node: i32, why: Why, now: Instant) {
        self.until.insert((node, why), now + COUNTS_FOR);
    }

    fn forget(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
    }

    /// Whether a lead may be offered to another node now; it is, then.
    fn offer(&mut self, id: PartitionId, now: Instant) -> bool {
        let free = self.offered.get(&id).is_none_or(|again| *again <= now);
        if free {
            self.offered.insert(id, now + OFFER_AGAIN);
        }
        free
    }
}

impl Owned {
    /// Tells the others if this node wants no leads, and hands over what they can lead if its disk is full.
    pub(super) fn look_at_own_leads(&mut self, now: Instant, disk_matters: bool) {
        self.decliners.forget(now);
        let node = self.node_id;
        let is_due = self.decliners.say_at <= now;
        if is_due {
            self.decliners.say_at = now + SAY_EVERY;
        }
        let disk_is_full = disk_matters && self.journal.disk_is_full();
        if disk_is_full && (is_due || !self.decliners.is(node, Why::DiskFull)) {
            self.decline(Why::DiskFull, now);
        }
        if self.decliners.stops && is_due {
            self.decline(Why::Stopping, now);
        }
        self.replicas.hesitate(self.decliners.contains(node));
        if self.decliners.is(node, Why::DiskFull) {
            self.hand_over_for_room(now);
        } else {
            self.decliners.offered.clear();
        }
    }

    /// This node is to stop, and gets no lead from now on.
    pub(super) fn decline_to_stop(&mut self, now: Instant) {
        self.decliners.stops = true;
        self.decline(Why::Stopping, now);
    }

    fn decline(&mut self, why: Why, now: Instant) {
        let node = self.node_id;
        if why == Why::DiskFull && !self.decliners.is(node, why) {
            tracing::warn!("the disk is full: what this core leads goes to nodes that have room");
        }
        self.decliners.hear(node, why, now);
        let core = self.core as u16;
        self.say_to_all(PeerMail::Declines { core, why });
        for core in (0..self.cores).filter(|core| *core != self.core) {
            self.post.send(core, Mail::Declines { node, why });
        }
    }

    fn hand_over_for_room(&mut self, now: Instant) {
        for id in self.led_with_others() {
            self.release_parked(id);
            let replica = self.replicas.get(id).expect("just listed");
            if replica.is_transferring() {
                continue;
            }
            let Some(heir) = self.heir_with_room(id) else {
                continue;
            };
            if self.decliners.offer(id, now) {
                self.transfer(id, heir);
            }
        }
    }

    /// The voter that is nearest to having everything, of those that are there, can take the lead at once and have
    /// room.
    fn heir_with_room(&self, id: PartitionId) -> Option<i32> {
        let replica = self.replicas.get(id)?;
        let heirs = replica.members().voters().iter().filter(|voter| {
            let node = voter.node();
            node != self.node_id
                && self.is_there(node)
                && !self.decliners.contains(node)
                && may_inherit(replica, **voter)
        });
        let nearest = heirs.max_by_key(|voter| replica.matched(**voter));
        nearest.map(|voter| voter.node())
    }

    /// A leader that waits for room in the middle of what it has decided hears nobody, not even the one that is elected
    /// in its place. Those who wait for it ask elsewhere.
    fn release_parked(&mut self, id: PartitionId) {
        let replica = self.replicas.get(id).expect("just listed");
        let parked = replica.role() == Role::Leader && replica.is_parked();
        if parked {
            self.abandon_acks(id);
        }
    }
}

impl Shard {
    /// A core says that its node wants no leads.
    pub(super) fn on_declines(&self, node: i32, why: Why) {
        let now = self.core.now();
        self.owned.borrow_mut().decliners.hear(node, why, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_until_its_time_is_over_and_a_later_one_counts_longer() {
        let mut decliners = Decliners::default();
        let now = Instant::ZERO;
        decliners.hear(2, Why::DiskFull, now);
        decliners.hear(2, Why::Stopping, now + SAY_EVERY);
        decliners.hear(3, Why::DiskFull, now + SAY_EVERY);
        decliners.forget(now + COUNTS_FOR);
        assert!(!decliners.is(2, Why::DiskFull) && decliners.contains(2) && decliners.contains(3));
        decliners.hear(3, Why::DiskFull, now + 2 * SAY_EVERY);
        decliners.forget(now + SAY_EVERY + COUNTS_FOR);
        assert!(!decliners.contains(2) && decliners.contains(3));
        decliners.forget(now + 2 * SAY_EVERY + COUNTS_FOR);
        assert!(!decliners.contains(3));
    }

    #[test]
    fn a_lead_is_not_offered_again_at_once() {
        let mut decliners = Decliners::default();
        let now = Instant::ZERO;
        let id = |partition| PartitionId {
            topic: 7,
            partition,
        };
        assert!(decliners.offer(id(1), now));
        assert!(!decliners.offer(id(1), now + OFFER_AGAIN / 2));
        assert!(decliners.offer(id(2), now + OFFER_AGAIN / 2));
        assert!(decliners.offer(id(1), now + OFFER_AGAIN));
    }
}
