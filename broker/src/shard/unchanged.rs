//! Answers of the metadata's leader that change nothing: a config that has the value already, a topic that exists.
//!
//! A change is answered once it is committed, and that proves that this node led when it was decided. What changes
//! nothing is decided on what this node believes, and on changes that are not committed yet: a leader that was cut off
//! or stood still would tell what is not true any more, and one that stops what never came to be. So such an answer
//! waits until a majority has confirmed the lead ([`Replica::confirm_lead`]) and until everything that it was decided
//! on is committed. If the lead is lost meanwhile, the ask goes to who has it now: nothing was done.
//!
//! What this node asks for itself is not answered, hence not proved.
//!
//! [`Replica::confirm_lead`]: raft_group::Replica::confirm_lead

use super::metadata::{Asker, Waiting};
use super::owned::Owned;
use crate::cluster::{ClusterAnswer, METADATA};
use raft_group::Proofs;

/// Answers that wait.
pub(super) type Unchanged = Proofs<Answered>;

pub(super) struct Answered {
    pub(super) ask: Waiting,
    reply: ClusterAnswer,
}

impl Owned {
    /// Gives an answer that changes nothing, once it is sure.
    pub(super) fn reply_unchanged(&mut self, ask: Waiting, reply: ClusterAnswer) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        if ask.asker == Asker::Nobody {
            return;
        }
        let replica = self.replicas.get_mut(METADATA);
        let Some(number) = replica.and_then(|replica| replica.confirm_lead()) else {
            // The journal is full, or the lead is lost and the next pass says so.
            return metadata.early.push(ask);
        };
        let index = metadata.last_proposed();
        metadata
            .unchanged
            .push(number, index, Answered { ask, reply });
    }

    /// A majority has confirmed that this node led when the proof of that number was asked for.
    pub(super) fn metadata_lead_confirmed(&mut self, number: u64, index: u64) {
        if let Some(metadata) = self.metadata.as_mut() {
            metadata.unchanged.confirmed(number, index);
            self.give_unchanged();
        }
    }

    /// Gives the answers that need not wait any more.
    pub(super) fn give_unchanged(&mut self) {
        let applied = self.replicas.get(METADATA).map_or(0, |r| r.applied_index());
        while let Some(metadata) = self.metadata.as_mut()
            && let Some(answered) = metadata.unchanged.take_ready(applied)
        {
            let version = metadata.told;
            self.reply(answered.ask.asker, version, answered.reply);
        }
    }
}
