//! Begins logs anew whose whole meaning is a state: the offsets topic's partitions, and the metadata.
//!
//! The state is appended as the log's own records, and behind it an entry that moves the log start there; so the
//! one takes no effect without the other. For the offsets topic this is the form of compaction: a reader of the
//! topic still finds the newest record of every key (DESIGN D7, decision 0003). Segments that lie below the start
//! go as those of any partition do.
//!
//! A state must not undo what stands before it in the log, so it is written when nothing else is under way: a
//! coordinator's requests wait for the moment that takes.

use super::groups_host;
use super::owned::Owned;
use super::{Shard, mail::AskId};
use crate::cluster::{METADATA, Record, Records};
use crate::groups::GroupRequest;
use bytes::Bytes;
use raft_group::Replica;
use runtime::Instant;
use std::collections::VecDeque;
use storage::{EntryKind, PartitionId};

/// A state is worth to be written again when the log has grown by this many times its size since.
const GROWTH_MIN: u64 = 4;
/// A larger state is not put into one entry; its log is kept as it is.
const STATE_BYTES_MAX: usize = 8 << 20;

/// How far a log has grown beyond its state.
#[derive(Default)]
pub struct Growth {
    /// Bytes appended since the log was begun anew, or opened.
    bytes: u64,
    /// Wanted, as soon as nothing is under way.
    due: bool,
    /// Requests that wait for that.
    held: VecDeque<(usize, AskId, GroupRequest)>,
}

impl Growth {
    /// Of a log with that many bytes.
    pub fn of(bytes: u64) -> Growth {
        Growth {
            bytes,
            ..Growth::default()
        }
    }

    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Keeps a request back while the log is about to be begun anew; gives it back otherwise.
    pub fn hold(
        &mut self,
        from: usize,
        ask: AskId,
        request: GroupRequest,
    ) -> Option<(usize, AskId, GroupRequest)> {
        if !self.due {
            return Some((from, ask, request));
        }
        self.held.push_back((from, ask, request));
        None
    }

    fn wants(&self, state: usize, bytes_min: u64) -> bool {
        let state = state as u64;
        self.bytes >= bytes_min && self.bytes / GROWTH_MIN >= state
    }

    /// Not due any more; gives the requests that waited.
    pub fn settle(&mut self) -> VecDeque<(usize, AskId, GroupRequest)> {
        self.due = false;
        std::mem::take(&mut self.held)
    }
}

impl Shard {
    /// Looks for logs that have grown.
    pub(super) fn look_for_grown_logs(&self) {
        let bytes_min = self.settings.anew_bytes_min;
        let mut owned = self.owned.borrow_mut();
        let ids: Vec<PartitionId> = owned.groups.hosted_ids().collect();
        for id in ids {
            if let Some(growth) = owned.groups.growth_if_serving(id)
                && growth.bytes >= bytes_min
            {
                growth.due = true;
                owned.groups.anew_due.insert(id);
            }
        }
        owned.begin_metadata_anew(bytes_min);
    }

    /// Begins those anew whose writes have come to rest; called after every pass.
    pub(super) fn begin_logs_anew(&self) {
        let mut owned = self.owned.borrow_mut();
        if owned.groups.anew_due.is_empty() {
            return;
        }
        let (now, wall_ms) = (self.core.now(), self.core.wall_ms());
        let mut ids = || u128::from(self.core.random()) << 64 | u128::from(self.core.random());
        let due: Vec<PartitionId> = owned.groups.anew_due.iter().copied().collect();
        for id in due {
            let bytes_min = self.settings.anew_bytes_min;
            owned.begin_offsets_anew(id, bytes_min, now, wall_ms, &mut ids);
        }
        drop(owned);
        self.wake_turn();
    }
}

impl Owned {
    /// If nothing is under way: appends a coordinator's state, then lets requests go on.
    fn begin_offsets_anew(
        &mut self,
        id: PartitionId,
        bytes_min: u64,
        now: Instant,
        wall_ms: i64,
        ids: &mut dyn FnMut() -> u128,
    ) {
        let room = self.journal.refuses().is_none();
        let Some((coordinator, growth)) = self.groups.settled(id) else {
            return;
        };
        let counts = coordinator.replay_counts();
        // Records of other kinds of groups would be lost with the log that they stand in.
        let readable = counts.unknown_types == 0 && counts.malformed == 0;
        let state = groups_host::snapshot(coordinator, wall_ms);
        let fits = state.len() <= STATE_BYTES_MAX && growth.wants(state.len(), bytes_min);
        let held = growth.settle();
        self.groups.anew_due.remove(&id);
        if room && readable && fits && self.replicas.get(id).is_some_and(Replica::is_serving) {
            self.groups
                .growth_if_serving(id)
                .expect("it is settled")
                .bytes = state.len() as u64;
            let replica = self.replicas.get_mut(id).expect("looked up above");
            begin_anew(replica, EntryKind::Batch, state);
        }
        for (from, ask, request) in held {
            self.group(from, ask, id, request, now, wall_ms, ids);
        }
    }

    /// The same of the metadata, which keeps nobody waiting: it looks again later.
    fn begin_metadata_anew(&mut self, bytes_min: u64) {
        let room = self.journal.refuses().is_none();
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        if !room || !metadata.is_settled() || metadata.grown < bytes_min {
            return;
        }
        let state = Box::new(metadata.committed().image());
        let state = Bytes::from(Records(vec![Record::Snapshot { state }]).encode());
        if state.len() > STATE_BYTES_MAX || metadata.grown / GROWTH_MIN < state.len() as u64 {
            return;
        }
        metadata.grown = state.len() as u64;
        let replica = self.replicas.get_mut(METADATA).expect("its owner is here");
        begin_anew(replica, EntryKind::Command, state);
    }
}

/// Appends a state, and behind it what makes it the log's first record.
fn begin_anew(replica: &mut Replica, kind: EntryKind, state: Bytes) {
    let start = match state.is_empty() {
        true => Ok(replica.next_offset()),
        false => replica.propose(kind, state).map(|state| state.base_offset),
    };
    let moved = start.and_then(|start| {
        let start = Bytes::copy_from_slice(&start.to_le_bytes());
        replica.propose(EntryKind::LogStart, start)
    });
    if let Err(error) = moved {
        tracing::debug!(%error, "a log is begun anew later");
    }
}
