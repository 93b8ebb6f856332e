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
use runtime::Instant;
use std::collections::VecDeque;

/// Answers that wait, oldest first.
#[derive(Default)]
pub(super) struct Unchanged {
    waiting: VecDeque<Answered>,
}

struct Answered {
    /// Names the proof.
    number: u64,
    /// The proof is there.
    proved: bool,
    /// What is to be committed first.
    index: u64,
    ask: Waiting,
    reply: ClusterAnswer,
}

impl Unchanged {
    /// The lead is proved for this answer, and so for all that were decided before it.
    fn confirmed(&mut self, number: u64, index: u64) {
        let waiting = self.waiting.iter_mut();
        for answered in waiting.take_while(|answered| answered.number <= number) {
            // Of an earlier proof, what was committed then is enough.
            if !std::mem::replace(&mut answered.proved, true) {
                answered.index = answered.index.max(index);
            }
        }
    }

    /// The oldest, if it need not wait any more.
    fn take_ready(&mut self, applied: u64) -> Option<Answered> {
        let oldest = self.waiting.front()?;
        if !oldest.proved || oldest.index > applied {
            return None;
        }
        self.waiting.pop_front()
    }

    /// Gives up on those that have waited too long: what was asked.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Waiting> {
        let late = |answered: &Answered| answered.ask.deadline <= now;
        let late = self.waiting.partition_point(late);
        let late = self.waiting.drain(..late);
        late.map(|answered| answered.ask).collect()
    }

    /// Gives up on all of them: what was asked.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Waiting> {
        let answered = std::mem::take(&mut self.waiting).into_iter();
        answered.map(|answered| answered.ask)
    }
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
        metadata.unchanged.waiting.push_back(Answered {
            number,
            proved: false,
            index: metadata.last_proposed(),
            ask,
            reply,
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterAsk;

    fn answered(number: u64, index: u64) -> Answered {
        Answered {
            number,
            proved: false,
            index,
            ask: Waiting {
                asker: Asker::Nobody,
                request: ClusterAsk::AllocateProducerIds,
                hops: 0,
                deadline: Instant::ZERO,
            },
            reply: ClusterAnswer::Done,
        }
    }

    fn numbers(unchanged: &mut Unchanged, applied: u64) -> Vec<u64> {
        std::iter::from_fn(|| unchanged.take_ready(applied))
            .map(|answered| answered.number)
            .collect()
    }

    /// A leader that stops once answered that a config has its value already; the change that had set it was never
    /// proposed. (Seed 27648 of three nodes.)
    #[test]
    fn an_answer_waits_for_the_proof_and_for_what_it_was_decided_on() {
        let mut unchanged = Unchanged {
            waiting: [answered(1, 0), answered(2, 12), answered(3, 12)].into(),
        };
        assert!(
            numbers(&mut unchanged, u64::MAX).is_empty(),
            "nothing is proved"
        );
        unchanged.confirmed(2, 10);
        assert!(numbers(&mut unchanged, 9).is_empty(), "10 is not applied");
        assert_eq!(numbers(&mut unchanged, 11), [1], "12 is not committed");
        unchanged.confirmed(3, 13);
        assert_eq!(numbers(&mut unchanged, 12), [2]);
        assert_eq!(unchanged.take_all().count(), 1);
    }
}
