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

use raft::INVALID_ID;

use crate::members::{Members, Membership, Step};
use crate::message::TERM_MAX;
use crate::open::Configuration;
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
        "its state stands at {installed}, but its log ends at {last_index}: the rest never came"
    )]
    BehindItsState { installed: u64, last_index: u64 },
    #[error("there is no term above {0}")]
    NoTermLeft(u64),
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
        if installed > last_index {
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

    /// Makes this replica its group's only member, in `term` or a higher one. It leads some ticks after this is on its
    /// disk, at the latest when an election timeout has passed.
    ///
    /// # Errors
    /// [`ForceError`]: nothing has changed.
    pub fn force_alone(&mut self, term: u64) -> Result<(), ForceError> {
        self.check_force()?;
        let term = term.max(self.term() + 1);
        // One more is for the election.
        if term >= TERM_MAX {
            return Err(ForceError::NoTermLeft(term));
        }
        let members = Members::of_voters([self.id]);
        let record = Membership {
            step: Step::Declare,
            members: members.clone(),
        };
        let changes = record
            .step
            .to_conf_changes(&self.configuration.members, &members);
        self.guarded("a forced follower", |node| {
            node.raft.become_follower(term, INVALID_ID);
        });
        self.settle();
        let proposed_until = self.proposed_until;
        let appended = self.append(EntryKind::Membership, record.encode(), 0);
        // It is no proposal of a leader that others could replace.
        self.proposed_until = proposed_until;
        let states = self.guarded("a forced configuration", |node| {
            let states = changes.iter().map(|change| node.apply_conf_change(change));
            let states = states.collect::<raft::Result<Vec<_>>>();
            let last_index = node.raft.raft_log.last_index();
            node.raft.raft_log.commit_to(last_index);
            states
        });
        let agrees = matches!(&states, Some(Ok(states))
            if states.last().is_none_or(|state| members.agrees_with(state)));
        let (Ok(appended), true) = (appended, agrees) else {
            self.fence(format!("a forced configuration leads to {states:?}"));
            return Err(ForceError::Fenced(
                self.fenced().unwrap_or_default().to_owned(),
            ));
        };
        self.configuration = Configuration {
            index: appended.index,
            members,
        };
        self.stir();
        Ok(())
    }
}
