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
use runtime::Instant;
use std::collections::VecDeque;
use storage::PartitionId;

/// Reads of one coordinator that wait, oldest first.
#[derive(Default)]
pub(super) struct Reads {
    waiting: VecDeque<Read>,
}

struct Read {
    /// Names the proof.
    number: u64,
    /// The proof is there; what is to be applied first.
    index: Option<u64>,
    from: usize,
    ask: AskId,
    fetch: OffsetFetch,
}

impl Reads {
    /// The lead is proved for this read, and so for all that came before it.
    fn confirmed(&mut self, number: u64, index: u64) {
        let reads = self.waiting.iter_mut();
        for read in reads.take_while(|read| read.number <= number) {
            read.index.get_or_insert(index);
        }
    }

    /// The oldest, if it need not wait any more.
    fn take_ready(&mut self, applied: u64) -> Option<Read> {
        let oldest = self.waiting.front()?;
        oldest.index.filter(|index| *index <= applied)?;
        self.waiting.pop_front()
    }

    /// Gives up on all of them.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (usize, AskId, GroupRequest)> {
        let reads = std::mem::take(&mut self.waiting).into_iter();
        reads.map(|read| (read.from, read.ask, GroupRequest::OffsetFetch(read.fetch)))
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
        hosted.reads.waiting.push_back(Read {
            number,
            index: None,
            from,
            ask,
            fetch,
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(number: u64) -> Read {
        Read {
            number,
            index: None,
            from: 0,
            ask: AskId {
                slot: 0,
                generation: 0,
            },
            fetch: OffsetFetch {
                group_id: "g".to_owned(),
                topics: None,
                require_stable: false,
            },
        }
    }

    fn numbers(reads: &mut Reads, applied: u64) -> Vec<u64> {
        std::iter::from_fn(|| reads.take_ready(applied))
            .map(|read| read.number)
            .collect()
    }

    #[test]
    fn a_read_waits_for_the_proof_and_for_what_was_committed_when_it_came() {
        let mut reads = Reads {
            waiting: (1..=3).map(read).collect(),
        };
        assert!(
            numbers(&mut reads, u64::MAX).is_empty(),
            "nothing is proved"
        );
        reads.confirmed(2, 10);
        assert!(numbers(&mut reads, 9).is_empty(), "10 is not applied");
        assert_eq!(numbers(&mut reads, 10), [1, 2]);
        reads.confirmed(3, 12);
        assert_eq!(reads.take_all().count(), 1);
    }

    #[test]
    fn an_earlier_proof_is_not_made_later() {
        let mut reads = Reads {
            waiting: (1..=2).map(read).collect(),
        };
        reads.confirmed(1, 5);
        reads.confirmed(2, 9);
        assert_eq!(numbers(&mut reads, 5), [1]);
    }
}
