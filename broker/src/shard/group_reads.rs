//! Reads of committed offsets. They append nothing, so nothing would tell a coordinator that was cut off, or stood
//! still, that another one has taken its place and has committed more: a member would begin where it had been long ago.
//! So a read waits until a majority has confirmed the lead ([`Replica::confirm_lead`]), and until everything that was
//! committed when it came is applied. That is a round trip between nodes, and none where there is one replica.
//!
//! Heartbeats, descriptions and lists of groups are answered at once: what they say may always have changed when it
//! arrives, and nobody builds on it.
//!
//! [`Replica::confirm_lead`]: raft_group::Replica::confirm_lead

use super::mail::AskId;
use super::owned::Owned;
use crate::groups::{GroupRequest, OffsetFetch};
use protocol::error::ErrorCode;
use raft_group::Proofs;
use runtime::Instant;
use storage::PartitionId;

/// Reads of one coordinator that wait.
pub(super) type Reads = Proofs<Read>;

pub(super) struct Read {
    from: usize,
    ask: AskId,
    fetch: OffsetFetch,
}

impl Read {
    /// What was asked.
    pub(super) fn request(self) -> (usize, AskId, GroupRequest) {
        (self.from, self.ask, GroupRequest::OffsetFetch(self.fetch))
    }
}

impl Owned {
    /// A coordinator that serves, as far as it knows, is asked for offsets.
    pub(super) fn begin_read(
        &mut self,
        id: PartitionId,
        from: usize,
        ask: AskId,
        fetch: OffsetFetch,
    ) {
        let replica = self.replicas.get_mut(id);
        let Some(number) = replica.and_then(|replica| replica.confirm_lead()) else {
            // The journal is full, or the lead is lost and the next pass says so. Of the answers that every client
            // takes as "later", this is the one after which it does not search.
            let request = GroupRequest::OffsetFetch(fetch);
            let code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
            return self.refuse_group(from, ask, &request, code);
        };
        let hosted = self.groups.hosted.get_mut(&id).expect("it serves");
        hosted.reads.push(number, 0, Read { from, ask, fetch });
    }

    /// A majority has confirmed that this node led when the read came.
    pub(super) fn group_lead_confirmed(
        &mut self,
        id: PartitionId,
        number: u64,
        index: u64,
        now: Instant,
        wall_ms: i64,
    ) {
        if let Some(hosted) = self.groups.hosted.get_mut(&id) {
            hosted.reads.confirmed(number, index);
            self.read_groups(id, now, wall_ms);
        }
    }

    /// Answers the reads that need not wait any more.
    pub(super) fn read_groups(&mut self, id: PartitionId, now: Instant, wall_ms: i64) {
        let applied = self.replicas.get(id).map_or(0, |r| r.applied_index());
        let mut out = Vec::new();
        while let Some(hosted) = self.groups.hosted.get_mut(&id)
            && let Some(read) = hosted.reads.take_ready(applied)
        {
            let token = self.groups.token(read.from, read.ask);
            if let Some(hosted) = self.groups.hosted.get_mut(&id) {
                hosted.coordinator.fetch(token, read.fetch, &mut out);
            }
        }
        self.carry_out(id, out, now, wall_ms);
    }
}
