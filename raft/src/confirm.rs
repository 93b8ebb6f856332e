//! Proof that a leader still leads: a round of heartbeats that began after it was asked (ReadIndex,
//! Ongaro's thesis, 6.4).
//!
//! A leader that was cut off, or stood still, does not know that another one has been elected and
//! has committed more. Whoever answers from its state, without an append, may answer what is not
//! true any more. So a read is given a number, heartbeats carry it, and when a majority has sent it
//! back in this term, no later leader had been elected at the moment the read began: a voter that
//! has helped to elect one answers in the newer term only. What is committed by then is at or below
//! the commit index of that moment.
//!
//! A heartbeat that is lost is made up for by the next one, which carries the newest number; its
//! confirmation confirms what is older as well. A leader that loses the lead forgets its reads.
//!
//! Must not know what is read. Deliberately absent: leases, which trade the round trip for trust in
//! clocks, and which a transfer of the lead breaks.

use bytes::Bytes;
use raft::{ReadState, StateRole};

use crate::ready::{Event, Outputs};
use crate::replica::Replica;

impl Replica {
    /// Begins to find out whether this replica still leads. The number that it gives comes back in
    /// [`Event::LeadConfirmed`], or never, if the lead is lost. `None` if it does not lead, is not
    /// [serving](Replica::is_serving), or waits for room in the journal.
    pub fn confirm_lead(&mut self) -> Option<u64> {
        if !self.may_act() || self.node.raft.state != StateRole::Leader || !self.is_serving() {
            return None;
        }
        self.stir();
        self.reads += 1;
        let context = context_of(self.reads);
        if self.mutated.believes_itself() {
            let (index, request_ctx) = (self.commit_index(), context.to_vec());
            let state = ReadState { index, request_ctx };
            self.node.raft.read_states.push(state);
            return Some(self.reads);
        }
        self.guarded("read", |node| node.read_index(context.to_vec()))?;
        self.settle();
        Some(self.reads)
    }

    pub(crate) fn tell_confirmed_reads(&self, states: Vec<ReadState>, out: &mut Outputs) {
        let events = states.into_iter().map(|state| Event::LeadConfirmed {
            read: read_of(&state.request_ctx),
            index: state.index,
        });
        out.events
            .extend(events.map(|event| (self.partition, event)));
    }
}

/// A read's number as the raft crate carries it: opaque, empty for none.
pub(crate) fn context_of(read: u64) -> Bytes {
    match read {
        0 => Bytes::new(),
        read => Bytes::copy_from_slice(&read.to_le_bytes()),
    }
}

/// The inverse of [`context_of`].
pub(crate) fn read_of(context: &[u8]) -> u64 {
    match context {
        [] => 0,
        bytes => u64::from_le_bytes(
            bytes
                .try_into()
                .expect("the crate carries what it was given"),
        ),
    }
}
