//! Batches whose partition's lead is on its way from one node to another.
//!
//! A client that is refused pauses before it asks again, by default for 100 ms: longer than it takes to hand a lead
//! over. So a batch is not refused while this node gives the lead away, nor while it has been elected and its first
//! entry is not committed yet, nor for a moment after it has lost the lead and does not know to whom. Then the batch
//! is appended after all, or refused with the new leader's name, to which the client turns at once (KIP-951).
//! The same holds for the word that an append may have come to nothing.
//!
//! What is held keeps its order, and whatever comes for the same partition stands behind it. It is bounded by the
//! requests that connections admitted, and by time: a leader that cannot hand over, or cannot commit, serves again
//! or loses the lead within an election timeout, and [`SUCCESSOR_WITHIN`] bounds the rest.
//!
//! Must not know: what a batch is. Deliberately absent: a pause of its own for partitions without a majority; their
//! clients are refused as before.

use super::owned::Owned;
use crate::partition::Ticket;
use bytes::Bytes;
use protocol::error::ErrorCode;
use raft_group::Role;
use runtime::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use storage::{PartitionId, Refusal};

/// For so long after a loss of the lead somebody is expected to say who has it now.
const SUCCESSOR_WITHIN: Duration = Duration::from_millis(300);

/// What waits for a leader.
#[derive(Default)]
pub(super) struct BetweenLeads {
    /// Oldest first.
    held: VecDeque<Held>,
    /// Leads that were lost lately, and until when a successor is waited for.
    lost: BTreeMap<PartitionId, Instant>,
}

struct Held {
    ticket: Ticket,
    partition: PartitionId,
    what: What,
}

enum What {
    /// Not appended.
    Batch(Bytes),
    /// Appended by a leader that is none any more.
    Appended,
}

impl BetweenLeads {
    /// Forgets losses whose successor is known, or was waited for long enough.
    fn forget(&mut self, now: Instant, is_led: impl Fn(PartitionId) -> bool) {
        self.lost.retain(|id, until| *until > now && !is_led(*id));
    }

    fn holds(&self, id: PartitionId) -> bool {
        self.held.iter().any(|held| held.partition == id)
    }

    /// Whether nothing is held and no successor is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.lost.is_empty()
    }
}

impl Owned {
    /// Keeps a batch that can be neither appended nor refused yet; gives it back otherwise.
    pub(super) fn hold_for_lead(
        &mut self,
        ticket: Ticket,
        partition: PartitionId,
        batch: Bytes,
    ) -> Option<Bytes> {
        let between = &self.between_leads;
        if !self.is_on_its_way(partition, &between.lost) && !between.holds(partition) {
            return Some(batch);
        }
        let what = What::Batch(batch);
        self.between_leads.held.push_back(Held {
            ticket,
            partition,
            what,
        });
        None
    }

    /// The lead is lost, and with it what is known of these appends, and any right to refuse these batches for good.
    pub(super) fn lost_lead(
        &mut self,
        partition: PartitionId,
        appended: Vec<Ticket>,
        doubts: Vec<(Ticket, Bytes)>,
        now: Instant,
    ) {
        let between = &mut self.between_leads;
        between.lost.insert(partition, now + SUCCESSOR_WITHIN);
        let appended = appended.into_iter().map(|ticket| (ticket, What::Appended));
        let doubts = doubts.into_iter();
        let doubts = doubts.map(|(ticket, batch)| (ticket, What::Batch(batch)));
        between
            .held
            .extend(appended.chain(doubts).map(|(ticket, what)| Held {
                ticket,
                partition,
                what,
            }));
    }

    fn is_on_its_way(&self, id: PartitionId, lost: &BTreeMap<PartitionId, Instant>) -> bool {
        let Some(replica) = self.replicas.get(id) else {
            return false;
        };
        match replica.role() {
            _ if replica.fenced().is_some() => false,
            Role::Leader => !replica.is_serving() || replica.is_transferring(),
            _ => lost.contains_key(&id),
        }
    }

    /// Lets go what has waited enough. After the word on new leaders has left, so that answers can name them.
    pub(super) fn release_held(&mut self, now: Instant, wall_ms: i64) {
        if self.between_leads.is_empty() {
            return;
        }
        // Out of its place, as the replicas beside it are looked at meanwhile.
        let mut between = std::mem::take(&mut self.between_leads);
        between.forget(now, |id| {
            let replica = self.replicas.get(id);
            replica.is_none_or(|replica| replica.leader().is_some())
        });
        let lost = &between.lost;
        let released = take_released(&mut between.held, |id| self.is_on_its_way(id, lost));
        self.between_leads = between;
        for held in released {
            match held.what {
                What::Batch(_) if self.journal.refuses() == Some(Refusal::Full) => {
                    self.between_leads.held.push_back(held);
                }
                What::Batch(batch) => self.append_now(held.ticket, held.partition, batch, wall_ms),
                // Perhaps replicated: retriable, and no definite failure.
                What::Appended => {
                    self.settle(held.ticket, ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND);
                }
            }
        }
    }
}

/// Takes out what need not wait any more, oldest first.
fn take_released(held: &mut VecDeque<Held>, waits: impl Fn(PartitionId) -> bool) -> VecDeque<Held> {
    let all = std::mem::take(held).into_iter();
    let (waiting, released) = all.partition(|held| waits(held.partition));
    *held = waiting;
    released
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(partition: u32) -> PartitionId {
        PartitionId {
            topic: 7,
            partition,
        }
    }

    fn held(partition: u32, position: u32) -> Held {
        Held {
            ticket: Ticket { slot: 0, position },
            partition: id(partition),
            what: What::Appended,
        }
    }

    #[test]
    fn what_is_released_keeps_its_order_and_leaves_the_rest() {
        let mut all: VecDeque<Held> = [held(1, 0), held(2, 1), held(1, 2), held(3, 3)].into();
        let released = take_released(&mut all, |partition| partition == id(2));
        let positions = |held: &VecDeque<Held>| -> Vec<u32> {
            held.iter().map(|held| held.ticket.position).collect()
        };
        assert_eq!(positions(&released), [0, 2, 3]);
        assert_eq!(positions(&all), [1]);
    }

    #[test]
    fn a_successor_is_waited_for_until_it_is_known_and_not_for_ever() {
        let now = Instant::ZERO;
        let mut between = BetweenLeads::default();
        between.lost.insert(id(1), now + SUCCESSOR_WITHIN);
        between.lost.insert(id(2), now + SUCCESSOR_WITHIN);
        between.forget(now, |partition| partition == id(2));
        assert_eq!(between.lost.keys().copied().collect::<Vec<_>>(), [id(1)]);
        assert!(!between.is_empty());
        between.forget(now + SUCCESSOR_WITHIN, |_| false);
        assert!(between.is_empty());
    }

    #[test]
    fn whatever_comes_behind_what_is_held_waits_too() {
        let mut between = BetweenLeads::default();
        between.held.push_back(held(1, 0));
        assert!(between.holds(id(1)) && !between.holds(id(2)));
    }
}
