//! A configuration that no majority has agreed to: how a group whose majority is gone for good goes on from one replica.
//!
//! # What is done
//!
//! The replica becomes a follower of nobody in a term that is higher than any that it has heard of, appends a
//! Membership entry of that term in which it is the only voter, takes everything up to there for committed, and counts
//! by that configuration at once. When this is on its disk it elects itself.
//!
//! # Why that is sound, and under what condition
//!
//! The condition is the owner's to ensure: *who is not in the forced configuration and was a voter before never speaks
//! to this group again under its identity.* Then nobody else can be elected: a candidate needs a majority of a
//! configuration that this log, or an older state of it, has held, and by the condition too few of its voters are
//! there. A replica that did survive, with a log that is not longer by (term, index), comes back as a learner of the
//! new leader: its term is lower, so it accepts the leader, and what its log has beyond the leader's is cut off. Nothing
//! that it knew to be committed is cut off, since the longest log has all that any survivor knows to be committed: it
//! was written, up to its last entry, by a leader whom a majority had elected.
//!
//! What is *kept* is all of this log, also what was never acknowledged. What is *lost* is whatever was acknowledged by
//! a majority that this replica was not part of.
//!
//! # A log that is behind its state
//!
//! A replica may have taken a snapshot's state in, and not yet the log that this stands for ([`crate::install`]). The rest
//! is with those that are lost. The state stays: it is as it was once committed, and knows more than the log. In place of
//! the entries that never came the log gets empty ones of the new term, so many that what comes after them is not in
//! the state. They are appended some at a time, as a journal has room for so many in a turn; none of them is
//! committed before the configuration is. Over a crash a part of them stays, and the rest is appended then.
//!
//! # A crash in between
//!
//! The entry, and behind it the hard state with the term and the commit index, are staged in one turn of the journal:
//! once that is durable, a start finds the forced configuration. Before it is, nothing has happened. A torn turn may
//! leave the entry without the hard state: then it is not committed, the replica opens with the configuration before,
//! and cannot win. The owner forces it again, which adds another such entry in a higher term; a second one changes
//! nothing for those who apply both.
//!
//! That is why the commit index does not wait for the election, as it otherwise would: it might not be on the disk
//! when the replica, alone, already acknowledges ([`crate::members`] says what that would break).
//!
//! This module must not know who decides this. Deliberately absent: any way to do it from within the group.

use bytes::Bytes;
use raft::INVALID_ID;

use crate::members::{Members, Membership, Step};
use crate::message::TERM_MAX;
use crate::open::Configuration;
use crate::refusal::ProposeError;
use crate::replica::Replica;
use storage::{Condition, EntryKind};

/// Why a replica cannot go on alone.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ForceError {
    #[error("it takes part in nothing: {0}")]
    Fenced(String),
    #[error("its journal has no room, or it is taking a snapshot in: later")]
    Busy,
    #[error(
        "its state stands at {installed}, but its log ends at {last_index}: more never came than can be made up for"
    )]
    BehindItsState { installed: u64, last_index: u64 },
    #[error("there is no term above {0}")]
    NoTermLeft(u64),
}

/// Entries that are put in place of missing ones in one turn of the journal: a fraction of the reserve of the smallest.
const FILLED_AT_ONCE: u64 = 1_024;
/// Who looks for records passes over what was put in place of missing entries, which must not take for ever.
const FILLED_MAX: u64 = 1 << 20;

/// How far a replica has come with going on alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Forced {
    /// Its log is behind its state still: it has to be told again.
    Partly,
    /// It is the only member.
    Whole,
}

impl Replica {
    /// Whether this replica could go on alone: see the module's head.
    ///
    /// # Errors
    /// [`ForceError`]; of these only [`ForceError::Busy`] passes by itself.
    pub fn check_force(&self) -> Result<(), ForceError> {
        if let Some(reason) = self.fenced() {
            return Err(ForceError::Fenced(reason.to_owned()));
        }
        if let Condition::Fenced(reason) = self.log().condition() {
            return Err(ForceError::Fenced(reason.clone()));
        }
        let (installed, last_index) = (self.installed, self.last_index());
        if self.lacks() > FILLED_MAX {
            return Err(ForceError::BehindItsState {
                installed,
                last_index,
            });
        }
        if !self.may_act() || self.is_installing() {
            return Err(ForceError::Busy);
        }
        Ok(())
    }

    /// Entries that its state, which came with a snapshot, stands for, and that its log has not got to.
    pub fn lacks(&self) -> u64 {
        self.installed.saturating_sub(self.last_index())
    }

    /// Makes this replica its group's only member, in `term` or a higher one. It leads some ticks after this is on its
    /// disk, at the latest when an election timeout has passed.
    ///
    /// # Errors
    /// [`ForceError`]: nothing has changed.
    pub fn force_alone(&mut self, term: u64) -> Result<Forced, ForceError> {
        self.check_force()?;
        let term = term.max(self.term() + 1);
        // One more is for the election.
        if term >= TERM_MAX {
            return Err(ForceError::NoTermLeft(term));
        }
        self.guarded("a forced follower", |node| {
            node.raft.become_follower(term, INVALID_ID);
        });
        self.settle();
        // No proposals of a leader that others could replace.
        let proposed_until = self.proposed_until;
        let forced = self.append_forced();
        self.proposed_until = proposed_until;
        self.stir();
        forced.map_err(|reason| {
            self.fence(reason.clone());
            ForceError::Fenced(reason)
        })
    }

    /// Fills the log up to its state; and if that is done, adds the configuration and commits all of it.
    fn append_forced(&mut self) -> Result<Forced, String> {
        let refused = |error: ProposeError| error.to_string();
        for _ in 0..self.lacks().min(FILLED_AT_ONCE) {
            self.append(EntryKind::NoOp, Bytes::new(), 0)
                .map_err(refused)?;
        }
        if self.lacks() > 0 {
            return Ok(Forced::Partly);
        }
        let members = Members::of_voters([self.id]);
        let record = Membership {
            step: Step::Declare,
            members: members.clone(),
        };
        let changes = record
            .step
            .to_conf_changes(&self.configuration.members, &members);
        let appended = self.append(EntryKind::Membership, record.encode(), 0);
        let appended = appended.map_err(refused)?;
        let states = self.guarded("a forced configuration", |node| {
            let states = changes.iter().map(|change| node.apply_conf_change(change));
            let states = states.collect::<raft::Result<Vec<_>>>();
            let last_index = node.raft.raft_log.last_index();
            node.raft.raft_log.commit_to(last_index);
            states
        });
        let agrees = matches!(&states, Some(Ok(states))
            if states.last().is_none_or(|state| members.agrees_with(state)));
        if !agrees {
            return Err(format!("a forced configuration leads to {states:?}"));
        }
        self.configuration = Configuration {
            index: appended.index,
            members,
        };
        Ok(Forced::Whole)
    }
}
