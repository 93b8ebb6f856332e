//! Who leads: leads go to where they belong, and to others when this node stops. Always by transfer, from a leader to
//! a voter that has everything, so that no election timeout passes.
//!
//! A partition's first replica is its preferred leader. When that node has been connected for a while, and has caught
//! up, whoever leads in its place hands the lead over, a few partitions at a time. A node that is to stop hands over
//! all that it leads, and serves clients until then; it tells the others first, who would give leads back to it. One
//! whose disk is full does the same, to those that have room ([`super::decliners`]).
//!
//! Deliberately absent: moving leads by traffic. Placement spreads the preferred leaders evenly.

use super::Shard;
use super::decliners::Why;
use super::mail::Mail;
use super::owned::Owned;
use super::peer_mail::PeerMail;
use raft_group::{Replica, ReplicaId, Role};
use runtime::Instant;
use std::rc::Rc;
use std::time::Duration;
use storage::PartitionId;

/// How long a node must have been connected before leads go back to it: one that starts has much to do.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// How often leads are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Leads of a core that are handed over at a look.
const TRANSFERS_PER_LOOK: usize = 32;
/// A stopping node hands over within this time, or stops without.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);
/// A stopping node that has handed over waits at most this long to tell clients to whom.
const NAME_SUCCESSORS_WITHIN: Duration = Duration::from_secs(1);
/// Pause between two looks at what is still led while a node stops.
const HAND_OVER_LOOK: Duration = Duration::from_millis(10);
/// A transfer that has not happened by then is tried again, perhaps to another one.
const HAND_OVER_AGAIN: Duration = Duration::from_millis(500);

impl Owned {
    /// Hands a lead over to a node's replica, if it votes, has everything and does not stop. False if not.
    pub(super) fn transfer(&mut self, id: PartitionId, to: i32) -> bool {
        if self.decliners.is(to, Why::Stopping) {
            return false;
        }
        let heir = self.replicas.get(id).and_then(|replica| {
            let voters = replica.members().voters().iter();
            let mut heirs = voters.filter(|voter| voter.node() == to);
            heirs.find(|voter| may_inherit(replica, **voter)).copied()
        });
        let Some(heir) = heir else { return false };
        let replica = self.replicas.get_mut(id).expect("looked up above");
        match replica.transfer_leader(heir) {
            Ok(()) => {
                self.counters.transfers += 1;
                true
            }
            Err(error) => {
                tracing::debug!(%error, partition = ?id, to, "a lead is not handed over");
                false
            }
        }
    }

    /// As [`Owned::transfer`], but not to a node that would give the lead away again.
    pub(super) fn transfer_if_wanted(&mut self, id: PartitionId, to: i32) -> bool {
        !self.decliners.contains(to) && self.transfer(id, to)
    }

    /// Everything that this core's replicas lead and others could.
    pub(super) fn led_with_others(&self) -> Vec<PartitionId> {
        let led = self.replicas.iter().filter(|replica| {
            replica.role() == Role::Leader && !replica.members().is_sole_voter(replica.id())
        });
        led.map(Replica::partition).collect()
    }

    /// The voter that is nearest to having everything, of those that are connected and do not stop, and of those that
    /// have room if one of them can take the lead at once.
    fn nearest_heir(&self, id: PartitionId) -> Option<i32> {
        let replica = self.replicas.get(id)?;
        let others = replica.members().voters().iter();
        let others = others.filter(|voter| {
            let node = voter.node();
            node != self.node_id
                && self.connected.contains_key(&node)
                && !self.decliners.is(node, Why::Stopping)
        });
        others
            .max_by_key(|voter| {
                let has_room = !self.decliners.contains(voter.node());
                (
                    has_room && may_inherit(replica, **voter),
                    replica.matched(**voter),
                )
            })
            .map(|voter| voter.node())
    }
}

/// Whether a voter has so much that it can lead as soon as it is told to.
pub(super) fn may_inherit(replica: &Replica, to: ReplicaId) -> bool {
    // The raft crate brings it up to the end before it lets it campaign; far behind, that would take too long.
    let matched = replica.matched(to);
    matched.is_some_and(|matched| matched >= replica.commit_index())
}

impl Shard {
    /// Asks whoever leads a partition to hand the lead over to a node. Nothing tells whether it does: the lead that is
    /// told afterwards does.
    pub fn ask_for_transfer(&self, id: PartitionId, leader: i32, to: i32) {
        if leader == self.settings.node_id {
            let transfer = Mail::Transfer { partition: id, to };
            return self.post.send(self.owner(id), transfer);
        }
        let said = PeerMail::Transfer { partition: id, to };
        self.owned.borrow_mut().say(leader, 0, said);
        self.flush_peers();
    }

    /// Hands leads to their preferred leaders, if it is time to look.
    pub(super) fn prefer_leaders(&self, owned: &mut Owned, now: Instant) {
        let due = self.leads_looked_at.get() + LOOK_EVERY <= now;
        let view = self.view.borrow();
        if !due || self.stopping.get() || !view.broker().auto_leader_rebalance_enable {
            return;
        }
        self.leads_looked_at.set(now);
        let mut moved = 0;
        for id in owned.led_with_others() {
            if moved == TRANSFERS_PER_LOOK {
                break;
            }
            let topic = view.cluster.topic_by_id(uuid::Uuid::from_u128(id.topic));
            let replicas = topic.and_then(|topic| topic.partitions.get(id.partition as usize));
            let Some(preferred) = replicas.and_then(|replicas| replicas.first().copied()) else {
                continue;
            };
            let since = owned.connected_at.get(&preferred);
            let settled = since.is_some_and(|since| *since + SETTLED_AFTER <= now);
            let fenced = view.cluster.nodes().get(&preferred);
            if preferred == self.settings.node_id
                || !settled
                || fenced.is_none_or(|node| node.fenced)
            {
                continue;
            }
            moved += usize::from(owned.transfer_if_wanted(id, preferred));
        }
    }

    /// Hands over all that this core leads, so that clients go on without waiting for an election.
    pub(super) async fn hand_over(&self) {
        let deadline = self.core.now() + HAND_OVER_WITHIN;
        self.owned.borrow_mut().decline_to_stop(self.core.now());
        self.flush_peers();
        loop {
            if self.leads_nothing() {
                self.name_successors().await;
                // What was on its way to this node when it began has come meanwhile.
                if self.leads_nothing() {
                    return;
                }
            }
            let now = self.core.now();
            if now >= deadline || !self.offer_all() {
                let count = self.owned.borrow().led_with_others().len();
                tracing::warn!(
                    count,
                    "some leads could not be handed over; others elect a leader"
                );
                return self.name_successors().await;
            }
            self.wake_turn();
            let again = now + HAND_OVER_AGAIN;
            while !self.leads_nothing() && self.core.now() < again {
                self.core.sleep(HAND_OVER_LOOK).await;
            }
        }
    }

    /// Whether others could lead nothing that this core leads.
    fn leads_nothing(&self) -> bool {
        self.owned.borrow().led_with_others().is_empty()
    }

    /// Offers each lead to who is nearest to having everything. False if there is nobody for any of them.
    fn offer_all(&self) -> bool {
        let mut owned = self.owned.borrow_mut();
        let led = owned.led_with_others();
        let heirs = led.into_iter().map(|id| (id, owned.nearest_heir(id)));
        let heirs: Vec<_> = heirs.filter_map(|(id, to)| Some((id, to?))).collect();
        for (id, to) in &heirs {
            owned.transfer(*id, *to);
        }
        !heirs.is_empty()
    }

    /// Those who have produced here learn from this node who leads now, before it goes: they turn there at once,
    /// while others have to find out.
    async fn name_successors(&self) {
        let deadline = self.core.now() + NAME_SUCCESSORS_WITHIN;
        while !self.owned.borrow().between_leads.is_empty() && self.core.now() < deadline {
            self.core.sleep(HAND_OVER_LOOK).await;
            self.wake_turn();
        }
        self.core.sleep(HAND_OVER_LOOK).await;
    }

    /// Whether this core gives away what it leads, to stop then.
    pub fn is_handing_over(&self) -> bool {
        self.handing_over.get()
    }

    /// The node is to stop: hands over first what others can lead.
    pub(super) fn begin_to_stop(self: &Rc<Shard>) {
        if self.links.get().is_none() || self.handing_over.replace(true) {
            return self.stop();
        }
        self.closing.notify_all();
        let shard = self.clone();
        self.core.spawn("hand over", async move {
            shard.hand_over().await;
            shard.stop();
        });
    }
}
