//! How a leader brings up a follower that its memory alone cannot serve.
//!
//! The raft crate asks the store for entries that are on disk only, or gone, and is told that they
//! are not there yet. What is missing is noted, and handed to the owner with the next
//! [`Replica::collect`]:
//!
//! - **Entries on disk**: a [`CatchUp`] in [`Outputs::reads`]. The owner plans it
//!   (`log.plan_entries(read.low, read.high, read.bytes_max)`, which never panics for a read that
//!   it was given, however late), runs the job in the background at a rate of its choice, and gives
//!   the entries back with [`Replica::fetched`]; an empty list if the read failed or the entries
//!   are gone. Each read is to be given back once. The leader makes one append of what was read,
//!   forgets it, and asks for more only when the follower has answered: there is one read per
//!   follower, and one append behind it.
//! - **Entries that are gone**: [`Event::SnapshotWanted`]. The owner answers with
//!   [`Replica::offer_snapshot`]; the state goes to every follower that needs it at that moment,
//!   and is forgotten. An owner that does not answer is asked again after an election timeout.
//!
//! Nothing here wedges a follower. A read that gave nothing is asked for again when the follower
//! answers a heartbeat, and if its entries were removed meanwhile the crate finds them gone and
//! wants a snapshot. A snapshot that is not answered in time, or whose receiver is unreachable,
//! counts as lost; the crate would wait for it for ever.
//!
//! The crate's own way back (`on_entries_fetched`) takes a context that says which follower it is
//! for, but to the crate only. So followers are found by their progress: those that may be sent
//! something, and whose next entry is not in memory.
//!
//! This module must not know disks, rates or what a state means. Deliberately absent: reading ahead
//! of the follower's answers, which would hold more than one read in memory.

use bytes::Bytes;
use raft::{ProgressState, SnapshotStatus};

use crate::members::ReplicaId;
use crate::message::raft_snapshot;
use crate::ready::{Event, Outputs};
use crate::refusal::SnapshotRefused;
use crate::replica::{Replica, Role};
use crate::snapshot::Snapshot;
use crate::store::{Missing, stored_entry};
use storage::Entry;

/// A snapshot counts as lost after so many election timeouts (of at least so many ticks).
const SNAPSHOT_TIMEOUTS: usize = 5;

/// Entries `low..high` that a follower needs and that are on disk only, or are kept back
/// ([`Replica::pace`]), as many of them as fit
/// into `bytes_max` of payload, but at least one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CatchUp {
    pub to: ReplicaId,
    /// The term in which the leader wanted them.
    pub term: u64,
    pub low: u64,
    pub high: u64,
    pub bytes_max: u64,
}

/// What is under way for followers that lag. Empty unless there are some.
#[derive(Default)]
pub(crate) struct CatchUps {
    reads: Vec<CatchUp>,
    /// Snapshots that were sent: to whom, and how many ticks are left to answer.
    snapshots: Vec<(ReplicaId, usize)>,
    /// Ticks until the owner is asked again for a snapshot; 0 if it was not asked.
    asked: usize,
}

impl CatchUps {
    /// Nothing that was asked for is of use any more. Reads that come back are not expected.
    fn clear(&mut self) {
        *self = CatchUps::default();
    }

    /// Whether the read was expected.
    fn end(&mut self, read: &CatchUp) -> bool {
        let at = self.reads.iter().position(|known| known == read);
        at.map(|at| self.reads.swap_remove(at)).is_some()
    }
}

impl Replica {
    /// Whether what is committed goes to followers by reads alone, which the owner may hold up, even
    /// if it is in memory. What is not committed goes at once to whoever has everything before it.
    pub fn pace(&mut self, paced: bool) {
        self.node.mut_store().paced = paced;
    }

    /// See [`Replica::pace`].
    pub fn is_paced(&self) -> bool {
        self.node.store().paced
    }

    /// Takes entries that were read for a follower, from `read.low` on; none if they could not be
    /// read. They are sent at once, in one append. Call [`Replica::collect`] afterwards.
    pub fn fetched(&mut self, read: &CatchUp, entries: Vec<Entry>) {
        if !self.catch_ups.end(read) || !self.may_act() || !self.leads_in(read.term) {
            return;
        }
        self.stir();
        let gone = read.low < self.log().first_index();
        let sound = entries.iter().zip(read.low..).all(|(entry, index)| {
            entry.index == index && self.log().term(index) == Some(entry.term)
        });
        if (gone || (sound && !entries.is_empty())) && !self.is_paused(read.to) {
            let entries = entries.into_iter().map(stored_entry).collect();
            self.node.store().set_fetched(entries);
            self.guarded("append of entries read", |node| {
                node.raft.send_append(read.to.as_u64());
            });
            self.node.store().set_fetched(Vec::new());
            self.settle();
        }
    }

    /// Answers [`Event::SnapshotWanted`]: the owner's state, and the index up to which it stands.
    /// The state must be what the owner puts into its checkpoints, with the configuration: after a
    /// crash of the follower, recovery hands it back as if it came from one.
    pub fn offer_snapshot(&mut self, state: Bytes, applied: u64) -> Result<(), SnapshotRefused> {
        let (bytes, bytes_max) = (state.len(), self.state_bytes_max());
        if bytes > bytes_max {
            return Err(SnapshotRefused::TooLarge { bytes, bytes_max });
        }
        if self.role() != Role::Leader || !self.may_act() {
            return Err(SnapshotRefused::NotLeader);
        }
        let index = self.log().first_index() - 1;
        let handed = self.flight.handed();
        if applied < index || applied > handed {
            return Err(SnapshotRefused::Applied {
                applied,
                index,
                handed,
            });
        }
        self.catch_ups.asked = 0;
        // A log that was never trimmed needs none.
        let Some(term) = self.log().term(index).filter(|term| *term > 0) else {
            return Ok(());
        };
        let mut epochs = self.log().epochs();
        epochs.retain(|(epoch, _)| *epoch <= term);
        let snapshot = Snapshot {
            index,
            term,
            next_offset: self.log().first_offset(),
            applied,
            epochs,
            configuration: self.configuration.clone(),
            state,
        };
        self.send_snapshot(&snapshot);
        Ok(())
    }

    fn send_snapshot(&mut self, snapshot: &Snapshot) {
        let wanting: Vec<ReplicaId> = self.configuration.members.peers_of(self.id);
        let wanting = wanting
            .into_iter()
            .filter(|peer| self.may_send(*peer) && self.next_of(*peer) <= snapshot.index);
        let wanting: Vec<ReplicaId> = wanting.collect();
        if wanting.is_empty() {
            return;
        }
        self.stir();
        self.node.mut_store().offered = Some(raft_snapshot(snapshot));
        for peer in wanting {
            self.guarded("snapshot", |node| node.raft.send_append(peer.as_u64()));
            if self.has_snapshot_under_way(peer) {
                let ticks = SNAPSHOT_TIMEOUTS * self.election_ticks;
                self.catch_ups.snapshots.push((peer, ticks));
            }
        }
        self.node.mut_store().offered = None;
        self.settle();
    }

    /// Tells the owner what the raft crate could not have.
    pub(crate) fn tell_missing(&mut self, out: &mut Outputs) {
        if self.role() != Role::Leader {
            self.node.store().take_missing();
            self.catch_ups.clear();
            return;
        }
        let Missing { entries, snapshot } = self.node.store().take_missing();
        if entries {
            self.want_entries(out);
        }
        if snapshot && self.catch_ups.asked == 0 {
            self.catch_ups.asked = self.election_ticks;
            out.events.push((self.partition, Event::SnapshotWanted));
        }
    }

    fn want_entries(&mut self, out: &mut Outputs) {
        let log = self.log();
        // What is on disk is committed; the owner may look when more is.
        let (first, high) = (log.first_index(), log.commit() + 1);
        let bytes_max = self.node.store().append_bytes_max();
        let term = self.term();
        self.catch_ups.reads.retain(|read| read.term == term);
        for to in self.configuration.members.peers_of(self.id) {
            let low = self.next_of(to);
            let under_way = self.catch_ups.reads.iter().any(|read| read.to == to);
            if under_way || low < first || low >= high || !self.may_send(to) {
                continue;
            }
            let store = self.node.store();
            if store.is_kept_back(low) || store.data(low).is_none() {
                let read = CatchUp {
                    to,
                    term,
                    low,
                    high,
                    bytes_max,
                };
                self.catch_ups.reads.push(read);
                out.reads.push((self.partition, read));
            }
        }
    }

    /// Time passes for a leader: what takes too long is given up.
    pub(crate) fn tick_catch_ups(&mut self) {
        self.catch_ups.asked = self.catch_ups.asked.saturating_sub(1);
        if self.catch_ups.snapshots.is_empty() {
            return;
        }
        let mut under_way = std::mem::take(&mut self.catch_ups.snapshots);
        under_way.retain_mut(|(peer, ticks)| {
            *ticks -= 1;
            if *ticks == 0 {
                self.snapshot_lost(*peer);
            }
            *ticks > 0 && self.has_snapshot_under_way(*peer)
        });
        self.catch_ups.snapshots = under_way;
    }

    /// A snapshot that was on its way to this peer will not be answered.
    pub(crate) fn snapshot_lost(&mut self, peer: ReplicaId) {
        if self.has_snapshot_under_way(peer) {
            self.guarded("lost snapshot", |node| {
                node.report_snapshot(peer.as_u64(), SnapshotStatus::Failure);
            });
        }
    }

    /// Whether reads or snapshots are under way.
    pub(crate) fn is_catching_up(&self) -> bool {
        !self.catch_ups.reads.is_empty() || !self.catch_ups.snapshots.is_empty()
    }

    fn has_snapshot_under_way(&self, peer: ReplicaId) -> bool {
        let progress = self.node.raft.prs().get(peer.as_u64());
        self.role() == Role::Leader && progress.is_some_and(|p| p.state == ProgressState::Snapshot)
    }

    /// Whether the peer may be sent entries and has been heard of lately.
    fn may_send(&self, peer: ReplicaId) -> bool {
        let progress = self.node.raft.prs().get(peer.as_u64());
        progress.is_some_and(|p| p.recent_active) && !self.is_paused(peer)
    }

    /// Whether the peer has to answer before it is sent more; one that left the group never will.
    fn is_paused(&self, peer: ReplicaId) -> bool {
        let progress = self.node.raft.prs().get(peer.as_u64());
        progress.is_none_or(|progress| progress.is_paused())
    }

    fn next_of(&self, peer: ReplicaId) -> u64 {
        let progress = self.node.raft.prs().get(peer.as_u64());
        progress.map_or(u64::MAX, |progress| progress.next_idx)
    }

    fn leads_in(&self, term: u64) -> bool {
        self.role() == Role::Leader && self.term() == term
    }
}
