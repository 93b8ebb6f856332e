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
    /// Not worth another look before it has this many: the state was too large for it last time.
    look_at: u64,
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
                && growth.bytes >= bytes_min.max(growth.look_at)
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
        let mut begun = false;
        for id in due {
            let bytes_min = self.settings.anew_bytes_min;
            begun |= owned.begin_offsets_anew(id, bytes_min, now, wall_ms, &mut ids);
        }
        if begun {
            self.wake_turn();
        }
    }
}

impl Owned {
    /// If nothing is under way: appends a coordinator's state, then lets requests go on. False if something is.
    fn begin_offsets_anew(
        &mut self,
        id: PartitionId,
        bytes_min: u64,
        now: Instant,
        wall_ms: i64,
        ids: &mut dyn FnMut() -> u128,
    ) -> bool {
        let room = self.journal.refuses().is_none();
        let Some((coordinator, growth)) = self.groups.settled(id) else {
            return false;
        };
        let counts = coordinator.replay_counts();
        // Records of other kinds of groups would be lost with the log that they stand in.
        let readable = counts.unknown_types == 0 && counts.malformed == 0;
        let state = groups_host::snapshot(coordinator, wall_ms);
        let fits = state.len() <= STATE_BYTES_MAX && growth.wants(state.len(), bytes_min);
        let held = growth.settle();
        let replica = self
            .replicas
            .get_mut(id)
            .filter(|replica| replica.is_serving());
        match replica {
            Some(replica) if room && readable && fits => {
                growth.bytes = state.len() as u64;
                growth.look_at = 0;
                begin_anew(replica, EntryKind::Batch, state);
            }
            _ => growth.look_at = growth.bytes + bytes_min / GROWTH_MIN,
        }
        self.groups.anew_due.remove(&id);
        for (from, ask, request) in held {
            self.group(from, ask, id, request, now, wall_ms, ids);
        }
        true
    }

    /// The same of the metadata, which keeps nobody waiting: it looks again later.
    fn begin_metadata_anew(&mut self, bytes_min: u64) {
        let room = self.journal.refuses().is_none();
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let grown = metadata.growth.bytes >= bytes_min.max(metadata.growth.look_at);
        if !room || !metadata.is_settled() || !grown {
            return;
        }
        let state = Box::new(metadata.committed().image());
        let state = Bytes::from(Records(vec![Record::Snapshot { state }]).encode());
        let growth = &mut metadata.growth;
        if state.len() > STATE_BYTES_MAX || !growth.wants(state.len(), bytes_min) {
            growth.look_at = growth.bytes + bytes_min / GROWTH_MIN;
            return;
        }
        *growth = Growth::of(state.len() as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_begun_anew_when_it_has_grown_by_much_more_than_its_state() {
        let mut growth = Growth::of(1_000);
        assert!(!growth.wants(10, 1_001), "too short");
        growth.add(1);
        assert!(growth.wants(10, 1_001));
        assert!(growth.wants(250, 1_001));
        assert!(!growth.wants(251, 1_001), "mostly state");
    }

    #[test]
    fn requests_wait_only_while_it_is_due_and_leave_in_order() {
        let ask = |slot| AskId {
            slot,
            generation: 0,
        };
        let request = || {
            GroupRequest::DescribeGroup(crate::groups::DescribeGroup {
                group_id: "g".into(),
            })
        };
        let mut growth = Growth::default();
        assert!(growth.hold(0, ask(1), request()).is_some());
        growth.due = true;
        assert!(growth.hold(0, ask(2), request()).is_none());
        assert!(growth.hold(1, ask(3), request()).is_none());
        let held: Vec<_> = growth.settle().into_iter().map(|(_, ask, _)| ask).collect();
        assert_eq!(held, [ask(2), ask(3)]);
        assert!(growth.hold(0, ask(4), request()).is_some());
    }
}
