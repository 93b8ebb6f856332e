//! How far the followers of what this core leads are behind, by node: in records, and in time.
//!
//! At each look a follower that lacks something is given the end of the log as a mark. As long as it has not reached
//! its mark it has been behind since then; when it has, and lacks newer entries, it gets a new mark. So a follower that
//! keeps up with a busy leader is never behind for longer than the pause between two looks, although it always lacks
//! the newest entries.
//!
//! Groups that sleep are looked at only while somebody in them is behind: what has everything costs nothing.

use super::owned::Owned;
use raft_group::{Replica, ReplicaId, Role};
use runtime::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use storage::PartitionId;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who is behind, as of the last look.
#[derive(Default)]
pub struct Lags {
    looked_at: Option<Instant>,
    behind: BTreeMap<(PartitionId, ReplicaId), Mark>,
    by_node: BTreeMap<i32, PeerLag>,
}

/// What a follower lacked when it was marked.
#[derive(Clone, Copy)]
struct Mark {
    index: u64,
    since: Instant,
}

/// How far the replicas on a node are behind their leaders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerLag {
    /// Replicas that lack something.
    pub replicas: u64,
    /// Records that they lack, together. A number that is near where they are not in memory any more.
    pub records: u64,
    /// For how long the one that is behind for the longest has been.
    pub longest: Duration,
}

impl PeerLag {
    /// Adds another core's figures.
    pub fn merge(&mut self, other: &PeerLag) {
        self.replicas += other.replicas;
        self.records = self.records.saturating_add(other.records);
        self.longest = self.longest.max(other.longest);
    }
}

impl Lags {
    /// Nodes with replicas that are behind.
    pub fn by_node(&self) -> &BTreeMap<i32, PeerLag> {
        &self.by_node
    }

    /// Notes the followers of a leader, by the marks of the look before.
    fn note(
        &mut self,
        before: &BTreeMap<(PartitionId, ReplicaId), Mark>,
        led: &Replica,
        now: Instant,
    ) {
        if led.role() != Role::Leader {
            return;
        }
        let last_index = led.last_index();
        for peer in led.members().peers_of(led.id()) {
            let matched = led.matched(peer).unwrap_or(0);
            if matched >= last_index {
                continue;
            }
            let key = (led.partition(), peer);
            let mark = before.get(&key).filter(|mark| matched < mark.index);
            let mark = mark.copied().unwrap_or(Mark {
                index: last_index,
                since: now,
            });
            self.behind.insert(key, mark);
            let records = led.next_offset() - led.log().offset_near(matched);
            let lag = PeerLag {
                replicas: 1,
                records: records.max(0) as u64,
                longest: now - mark.since,
            };
            self.by_node.entry(peer.node()).or_default().merge(&lag);
        }
    }
}

impl Owned {
    /// Looks who is behind, if it is time to.
    pub(super) fn look_at_lags(&mut self, now: Instant) {
        let lags = &mut self.lags;
        if lags.looked_at.is_some_and(|last| last + LOOK_EVERY > now) {
            return;
        }
        lags.looked_at = Some(now);
        lags.by_node.clear();
        let before = std::mem::take(&mut lags.behind);
        for replica in self.replicas.awake() {
            lags.note(&before, replica, now);
        }
        let marked: BTreeSet<PartitionId> = before.keys().map(|(id, _)| *id).collect();
        let marked = marked.into_iter().filter_map(|id| self.replicas.get(id));
        for replica in marked.filter(|replica| replica.is_asleep()) {
            lags.note(&before, replica, now);
        }
    }
}
