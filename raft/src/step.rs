//! What a replica takes of what others say, and what it refuses.
//!
//! A message is checked before the raft crate sees it: that one trusts its input, and answers what cannot be with a panic.
//! Refused is what forms no log, what is of another life of this replica or its sender, and what would turn a leader
//! back for no reason. Must not know how messages travel.

use raft::ProgressState;

use crate::message::{Append, Body, Message, TERM_MAX, offsets_of, to_raft};
use crate::refusal::StepError;
use crate::replica::{Replica, Role};
use crate::sleep::SleepTalk;
use crate::snapshot::Snapshot;

impl Replica {
    /// Takes a message of another replica.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        self.check(&message)?;
        let ours = self.node.raft.term;
        if let Body::Heartbeat { commit, .. } = message.body {
            let last_index = self.last_index();
            if commit > last_index && message.term >= ours {
                if !self.configuration.members.contains(self.id) {
                    // Said to the replica that was here before this one and was given up. This one has no say yet,
                    // and has acknowledged nothing.
                    return Ok(());
                }
                // The leader sends at most what this replica once acknowledged.
                self.fence(format!(
                    "acknowledged entries are gone: the leader knows of {commit}, the log ends at \
                     {last_index}"
                ));
                return Err(StepError::Fenced);
            }
        }
        let may_start_campaign = matches!(
            message.body,
            Body::Vote(_) | Body::VoteReply { .. } | Body::TimeoutNow
        );
        if self.parked.is_some() {
            self.hear_while_parked(&message);
            return Ok(());
        }
        if may_start_campaign && !self.may_campaign() {
            return Ok(()); // as if lost; its sender lives with that
        }
        if self.is_of_an_earlier_life(&message) {
            return Ok(());
        }
        let Some(message) = self.without_stale_rejection(message) else {
            return Ok(());
        };
        let (from, term) = (message.from, message.term);
        let talk = SleepTalk::of(&message.body);
        self.wake_for(&message);
        let repeated = self.mutated.repeats(&message);
        let stepped = self.guarded("message", |node| node.step(to_raft(message)));
        self.settle();
        self.append_again(repeated);
        match stepped {
            None => return Err(StepError::Fenced),
            Some(Err(raft::Error::StepPeerNotFound)) => return Err(StepError::Stranger(from)),
            // Whatever else the crate refuses is a message without effect.
            Some(_) => {}
        }
        if let Some(talk) = talk {
            self.sleep_for(from, term, talk);
        }
        Ok(())
    }

    /// A parked replica takes no message; it is as if they were lost. But its log may learn from the leader's heartbeat
    /// what is committed of the entries that it has acknowledged: only committed entries are drained, and the journal
    /// that it waits for may be full of nothing else.
    fn hear_while_parked(&mut self, message: &Message) {
        let Body::Heartbeat { commit, .. } = message.body else {
            return;
        };
        if message.term == self.term() && self.leader() == Some(message.from) {
            self.node.mut_store().log.commit_to(commit);
        }
    }

    fn check(&self, message: &Message) -> Result<(), StepError> {
        if self.fence.is_some() {
            return Err(StepError::Fenced);
        }
        if message.to != self.id {
            return Err(StepError::NotForUs(message.to));
        }
        if message.from == self.id {
            return Err(StepError::FromOurselves);
        }
        if message.term == 0 || message.term > TERM_MAX {
            return Err(StepError::Term(message.term));
        }
        match &message.body {
            Body::Append(append) if !is_log(append, message.term, self.entry_bytes_max) => {
                Err(StepError::Entries {
                    prev_index: append.prev_index,
                })
            }
            Body::Snapshot(snapshot)
                if !is_from(snapshot, message.term)
                    || snapshot.state.len() > self.state_bytes_max() =>
            {
                let index = snapshot.index;
                Err(StepError::Snapshot { index })
            }
            Body::AppendReply { index, .. }
                if message.term == self.node.raft.term
                    && self.role() == Role::Leader
                    && *index > self.last_index() =>
            {
                let last_index = self.last_index();
                Err(StepError::Acknowledged {
                    from: message.from,
                    index: *index,
                    last_index,
                })
            }
            _ => Ok(()),
        }
    }

    /// A member that left and came back begins with an empty log, as a learner under its old identity. What it
    /// acknowledged before may still come: it is below everything that was asked of it since it is back.
    fn is_of_an_earlier_life(&self, message: &Message) -> bool {
        let Body::AppendReply {
            index,
            reject: None,
            ..
        } = message.body
        else {
            return false;
        };
        let ours = self.role() == Role::Leader && message.term == self.node.raft.term;
        if !ours || self.configuration.members.is_voter(message.from) {
            return false;
        }
        let progress = self.node.raft.prs().get(message.from.as_u64());
        progress.is_some_and(|progress| {
            let answered = progress.matched > 0 || progress.state != ProgressState::Probe;
            !answered && index < progress.next_idx
        })
    }

    /// tikv/raft-rs #557: while probing, the crate moves a follower's `next` to a rejected index
    /// without looking at what that follower has already acknowledged. What it has acknowledged it
    /// still holds, so a rejection at or below that is an old message, and a hint below it is
    /// worse than what is known.
    fn without_stale_rejection(&self, mut message: Message) -> Option<Message> {
        let Body::AppendReply {
            index,
            reject: Some(reject),
            ..
        } = &mut message.body
        else {
            return Some(message);
        };
        let Some(progress) = self.node.raft.prs().get(message.from.as_u64()) else {
            return Some(message);
        };
        if self.role() != Role::Leader || message.term != self.node.raft.term {
            return Some(message);
        }
        let matched = progress.matched;
        if *index <= matched {
            return None;
        }
        if reject.hint_index <= matched {
            reject.hint_index = matched;
            reject.hint_term = self.node.raft.raft_log.term(matched).unwrap_or(0);
        }
        Some(message)
    }
}

/// Whether the append can have come from a sound leader's log.
fn is_log(append: &Append, term: u64, entry_bytes_max: usize) -> bool {
    let fits = append
        .prev_index
        .checked_add(append.entries.len() as u64 + 1)
        .is_some();
    let mut before = append.prev_term;
    fits && append.entries.iter().all(|entry| {
        let in_order = before <= entry.term && entry.term <= term && entry.term > 0;
        before = entry.term;
        in_order
            && entry.data.len() <= entry_bytes_max
            && offsets_of(entry.kind, &entry.data).is_some()
    })
}

/// Whether the snapshot can have come from the leader of this term.
fn is_from(snapshot: &Snapshot, term: u64) -> bool {
    snapshot.is_sound() && snapshot.term <= term
}
