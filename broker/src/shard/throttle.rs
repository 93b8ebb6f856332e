//! How fast replicas that are not in sync may catch up: the rates that `kafka-reassign-partitions` sets (KIP-73).
//!
//! A read for such a follower waits until both ends have room for it: this node, if the topic's
//! `leader.replication.throttled.replicas` names the replica here, and the follower's, if
//! `follower.replication.throttled.replicas` names the one there. The room of a node has one owner, its core 0, so a
//! rate holds for the whole node whatever cores are busy. What it grants is a debt, which shrinks at the rate that
//! holds now; nothing more is granted before it is paid. So a new rate, or none any more, counts at once, and a burst
//! is one read for each follower that waits.
//!
//! The leader of a topic that has throttled replicas sends what is committed by reads alone
//! ([`raft_group::Replica::pace`]), so that none of it goes round them. Deliberately absent: what is not committed yet.
//! It goes at once to whoever has everything before it.

use super::Shard;
use super::peer_mail::PeerMail;
use crate::cluster::METADATA_CORE;
use crate::handlers::metadata::by_presence;
use raft_group::{CatchUp, ReplicaId, Role};
use runtime::{Instant, oneshot, timeout};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;
use storage::PartitionId;
use uuid::Uuid;

/// Payload that one throttled read brings at most.
pub const THROTTLED_READ_BYTES: u64 = 256 << 10;
/// A rate from which on nothing is throttled: the default of the configs.
const UNLIMITED: u64 = i64::MAX as u64;
/// Who has to wait asks again after this time at the latest: the rate may have changed.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(1);
/// And not sooner than after this.
const ASK_AGAIN_MIN: Duration = Duration::from_millis(1);
/// Another node answers within this time, or is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Which end of a transfer a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Leader,
    Follower,
}

/// Asks a node's core 0 for room to move bytes. The answer: none if there is room, which is then taken; else how long
/// to wait before asking again.
#[derive(Clone, Copy, Debug)]
pub struct TakeRoom {
    pub side: Side,
    pub bytes: u64,
}

/// The room of a node, and what this core has asked other nodes for.
#[derive(Default)]
pub struct Throttles {
    /// On core 0 only.
    leading: Cell<Debt>,
    /// On core 0 only.
    following: Cell<Debt>,
    asked: RefCell<BTreeMap<u64, oneshot::Sender<Duration>>>,
}

/// Bytes that were granted and are not paid for by the time that has passed.
#[derive(Clone, Copy, Debug, Default)]
struct Debt {
    /// Bytes, times the nanoseconds of a second.
    byte_ns: u128,
    /// When that was worked out.
    at: Option<Instant>,
}

impl Debt {
    /// Grants the bytes, or says how long to wait.
    fn take(&mut self, bytes: u64, rate: u64, now: Instant) -> Result<(), Duration> {
        if rate >= UNLIMITED {
            *self = Debt::default();
            return Ok(());
        }
        let rate = u128::from(rate);
        let passed = self.at.map_or(Duration::ZERO, |at| now.since(at));
        self.at = Some(now);
        let paid = passed.as_nanos().saturating_mul(rate);
        self.byte_ns = self.byte_ns.saturating_sub(paid);
        if rate == 0 {
            return Err(ASK_AGAIN_MAX);
        }
        if self.byte_ns > 0 {
            let wait_ns = self.byte_ns.div_ceil(rate).min(ASK_AGAIN_MAX.as_nanos());
            return Err(Duration::from_nanos(wait_ns as u64).max(ASK_AGAIN_MIN));
        }
        self.byte_ns = u128::from(bytes) * Duration::from_secs(1).as_nanos();
        Ok(())
    }
}

impl Shard {
    /// Core 0's answer to [`TakeRoom`].
    pub(super) fn take_room(&self, wanted: TakeRoom) -> Option<Duration> {
        let view = self.view.borrow();
        let broker = view.broker();
        let (debt, rate) = match wanted.side {
            Side::Leader => (
                &self.throttles.leading,
                broker.leader_replication_throttled_rate,
            ),
            Side::Follower => (
                &self.throttles.following,
                broker.follower_replication_throttled_rate,
            ),
        };
        let mut left = debt.get();
        let taken = left.take(wanted.bytes, rate, self.core.now());
        debt.set(left);
        taken.err()
    }

    /// Another node's core wants to send bytes to a follower here.
    pub(super) fn on_take_room(&self, from: i32, number: u64, core: u16, bytes: u64) {
        let side = Side::Follower;
        let wait = self.take_room(TakeRoom { side, bytes });
        let wait_us = wait.map_or(0, |wait| wait.as_micros() as u32);
        let said = PeerMail::Room { number, wait_us };
        self.owned.borrow_mut().say(from, core, said);
        self.flush_peers();
    }

    /// The answer of another node.
    pub(super) fn on_room(&self, number: u64, wait_us: u32) {
        if let Some(asker) = self.throttles.asked.borrow_mut().remove(&number) {
            // An asker that has given up has asked again.
            let _ = asker.send(Duration::from_micros(wait_us.into()));
        }
    }

    /// Whether a read for a follower is throttled here, and there.
    pub(super) fn is_throttled(&self, id: PartitionId, to: ReplicaId) -> (bool, bool) {
        let view = self.view.borrow();
        let Some(topic) = view.cluster.topic_by_id(Uuid::from_u128(id.topic)) else {
            return (false, false);
        };
        let config = view.topic_config(topic.id);
        let here = config
            .leader_throttled_replicas
            .includes(id.partition, self.settings.node_id);
        let there = config
            .follower_throttled_replicas
            .includes(id.partition, to.node());
        if !here && !there {
            return (false, false);
        }
        let in_sync = by_presence(&view, topic, id.partition).0;
        match in_sync.contains(&to.node()) {
            true => (false, false),
            false => (here, there),
        }
    }

    /// Waits until there is room for a throttled read. False if nobody wants it any more.
    pub(super) async fn await_room(&self, id: PartitionId, read: &CatchUp) -> bool {
        let mut has_room_there = false;
        loop {
            let Some(bytes) = self.throttled_bytes(id, read) else {
                return false;
            };
            let (here, there) = self.is_throttled(id, read.to);
            let wait = if there && !has_room_there {
                let wait = self.take_room_at(read.to.node(), bytes).await;
                has_room_there = wait.is_none();
                wait
            } else if here {
                let side = Side::Leader;
                match self.ask(METADATA_CORE, TakeRoom { side, bytes }).await {
                    None => return true,
                    wait => wait,
                }
            } else {
                return true;
            };
            if let Some(wait) = wait {
                self.core.sleep(wait).await;
            }
        }
    }

    /// What the read is taken to bring; None if this node does not lead in its term any more.
    fn throttled_bytes(&self, id: PartitionId, read: &CatchUp) -> Option<u64> {
        let owned = self.owned.borrow();
        let replica = owned.replicas.get(id)?;
        let leads = replica.role() == Role::Leader && replica.term() == read.term;
        let bytes = replica.log().size_bytes().min(THROTTLED_READ_BYTES);
        leads.then_some(bytes)
    }

    async fn take_room_at(&self, node: i32, bytes: u64) -> Option<Duration> {
        let number = self.next_number();
        let (sender, receiver) = oneshot::oneshot();
        self.throttles.asked.borrow_mut().insert(number, sender);
        let core = self.core.id() as u16;
        let said = PeerMail::TakeRoom {
            number,
            core,
            bytes,
        };
        self.owned
            .borrow_mut()
            .say(node, METADATA_CORE as u16, said);
        self.flush_peers();
        match timeout(&self.core, ANSWER_WITHIN, receiver).await {
            Ok(Ok(wait)) => Some(wait).filter(|wait| !wait.is_zero()),
            _ => {
                self.throttles.asked.borrow_mut().remove(&number);
                Some(ASK_AGAIN_MIN)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// Takes whenever it may, for so many seconds; gives the bytes that were granted.
    fn taken(debt: &mut Debt, bytes: u64, rate: u64, from: Instant, seconds: u64) -> u64 {
        let (mut now, mut granted) = (from, 0);
        while now.0 < from.0 + seconds * SECOND_NS {
            match debt.take(bytes, rate, now) {
                Ok(()) => granted += bytes,
                Err(wait) => {
                    assert!((ASK_AGAIN_MIN..=ASK_AGAIN_MAX).contains(&wait), "{wait:?}");
                    now.0 += wait.as_nanos() as u64;
                }
            }
        }
        granted
    }

    #[test]
    fn a_rate_is_kept_whatever_the_reads() {
        for bytes in [1_000, 10_000, 300_000, 5_000_000] {
            let mut debt = Debt::default();
            let granted = taken(&mut debt, bytes, 1_000_000, Instant(0), 100);
            let expected = 100_000_000..=100_000_000 + bytes;
            // The shortest wait is a millisecond, in which a thousand bytes would go.
            let close = expected.contains(&granted) || granted + granted / 50 >= 100_000_000;
            assert!(
                close && granted <= *expected.end(),
                "{granted} of {bytes} each"
            );
        }
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let mut debt = Debt::default();
        taken(&mut debt, 1_000, 1_000, Instant(0), 1);
        let later = Instant(3_600 * SECOND_NS);
        let granted = taken(&mut debt, 1_000, 1_000, later, 10);
        assert!((10_000..=11_000).contains(&granted), "{granted}");
    }

    #[test]
    fn a_new_rate_counts_at_once() {
        let mut debt = Debt::default();
        assert_eq!(debt.take(1_000_000, 1, Instant(0)), Ok(()));
        assert_eq!(debt.take(1, 1, Instant(SECOND_NS)), Err(ASK_AGAIN_MAX));
        // A million bytes are paid within a second at that rate.
        let half_ns = SECOND_NS / 2;
        assert!(
            debt.take(1, 1_000_000, Instant(SECOND_NS + half_ns))
                .is_err()
        );
        assert_eq!(debt.take(1, 1_000_000, Instant(2 * SECOND_NS)), Ok(()));
        assert_eq!(debt.take(1, 0, Instant(9 * SECOND_NS)), Err(ASK_AGAIN_MAX));
        assert_eq!(
            debt.take(u64::MAX, UNLIMITED, Instant(9 * SECOND_NS)),
            Ok(())
        );
        assert_eq!(
            debt.take(1, 1, Instant(9 * SECOND_NS)),
            Ok(()),
            "nothing is owed"
        );
    }
}
