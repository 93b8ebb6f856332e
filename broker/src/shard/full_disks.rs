//! Nodes whose disk is full, and what that means for leads.
//!
//! A leader whose journal cannot grow will refuse its clients soon, while the other replicas of its partitions may have
//! room: two of three can go on without it. So a node whose disk is full hands over what it leads, the metadata too, to
//! voters that have room; it leaves elections to others for as long as these can win them
//! ([`raft_group::Replicas::hesitate`]); and nobody hands a lead to it. What nobody else can lead it keeps.
//!
//! A core whose journal finds the disk full tells so to all cores of all nodes, and again twice a second while it lasts.
//! Nobody says that there is room again: the word counts for [`COUNTS_FOR`], so that a lost one costs little, and a disk
//! at its limit, which has room for a moment now and then, does not send leads back and forth.
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

/// What a core knows of full disks.
#[derive(Default)]
pub(super) struct FullDisks {
    /// Until when the last word of a node counts.
    until: BTreeMap<i32, Instant>,
    say_at: Instant,
    /// Leads that were offered to others, and when they may be again.
    offered: BTreeMap<PartitionId, Instant>,
}

impl FullDisks {
    /// Whether the node's disk is full, as far as is known.
    pub(super) fn contains(&self, node: i32) -> bool {
        self.until.contains_key(&node)
    }

    fn hear(&mut self, node: i32, now: Instant) {
        self.until.insert(node, now + COUNTS_FOR);
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
    /// Tells the others if the disk is full, and hands over what they can lead.
    pub(super) fn look_at_disk(&mut self, now: Instant) {
        self.full_disks.forget(now);
        if self.journal.disk_is_full() && self.full_disks.say_at <= now {
            self.full_disks.say_at = now + SAY_EVERY;
            self.say_full(now);
        }
        let is_full = self.full_disks.contains(self.node_id);
        self.replicas.hesitate(is_full);
        if is_full {
            self.hand_over_for_room(now);
        } else {
            self.full_disks.offered.clear();
        }
    }

    fn say_full(&mut self, now: Instant) {
        let node = self.node_id;
        if !self.full_disks.contains(node) {
            tracing::warn!("the disk is full: what this core leads goes to nodes that have room");
        }
        self.full_disks.hear(node, now);
        let core = self.core as u16;
        self.say_to_all(PeerMail::DiskFull { core });
        for core in (0..self.cores).filter(|core| *core != self.core) {
            self.post.send(core, Mail::DiskFull { node });
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
            if self.full_disks.offer(id, now) {
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
                && self.connected.contains_key(&node)
                && self.replicas.is_heard(node)
                && !self.full_disks.contains(node)
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
    /// A core of a node has found its disk full.
    pub(super) fn on_disk_full(&self, node: i32) {
        let now = self.core.now();
        self.owned.borrow_mut().full_disks.hear(node, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_until_its_time_is_over_and_a_later_one_counts_longer() {
        let mut disks = FullDisks::default();
        let now = Instant::ZERO;
        disks.hear(2, now);
        disks.hear(3, now + SAY_EVERY);
        disks.forget(now + COUNTS_FOR);
        assert!(!disks.contains(2) && disks.contains(3));
        disks.hear(3, now + 2 * SAY_EVERY);
        disks.forget(now + SAY_EVERY + COUNTS_FOR);
        assert!(disks.contains(3));
        disks.forget(now + 2 * SAY_EVERY + COUNTS_FOR);
        assert!(!disks.contains(3));
    }

    #[test]
    fn a_lead_is_not_offered_again_at_once() {
        let mut disks = FullDisks::default();
        let now = Instant::ZERO;
        let id = |partition| PartitionId {
            topic: 7,
            partition,
        };
        assert!(disks.offer(id(1), now));
        assert!(!disks.offer(id(1), now + OFFER_AGAIN / 2));
        assert!(disks.offer(id(2), now + OFFER_AGAIN / 2));
        assert!(disks.offer(id(1), now + OFFER_AGAIN));
    }
}
