//! How a follower takes a snapshot in.
//!
//! # The order, and why it is safe
//!
//! The raft crate decides whether a snapshot is for us: not if its index lies below the commit
//! index, and not if the log has that entry already (then it only moves the commit index). What it
//! takes comes with a Ready, and [`crate::ready`] stages it before the entries of the same Ready:
//!
//! 1. **One frame in the journal says everything**: that the log is empty after `index`, the term
//!    there, the next offset, and the owner's state (`Journal::stage_reset`). The journal's blocks
//!    are taken by recovery in order and whole, so a crash leads back to the old log, untouched
//!    (its files are removed only when the frame is durable), or to the new, empty one with its
//!    state. The hard state follows in the same turn: if that is torn off, the term that follows
//!    from the log is taken with no vote, which is right, since nothing of that turn was answered.
//! 2. **In memory everything changes at that moment**: the log, the configuration, and by
//!    [`Event::Installed`] the owner's state. So a checkpoint, which is written only when the turn
//!    is durable that the log was last staged in, has either all of the old or all of the new.
//! 3. **The answer waits** like every other until the Ready is confirmed, and those before it: the
//!    leader counts on nothing that a crash could take back. Answers to earlier appends that are
//!    still held are let go in their order. They speak of a log that is gone, but what they
//!    acknowledge is known to be committed (it lies at or below `index`), or to a leader of an
//!    earlier term, who is not listened to.
//! 4. **Confirmed, `index` counts as applied**. Until then nothing is handed out, and this replica
//!    neither campaigns nor is elected: the crate would look for unapplied changes of members in
//!    entries that are gone.
//!
//! The entries above `index` arrive as ordinary appends and commit as always. Those up to `applied`
//! are in the state and are not handed out again; changes of members up to the snapshot's
//! configuration are in force and are not made again. A log that is behind its state stays so over
//! a restart: the storage remembers it (`Log::installed`). Such a replica cannot win an election,
//! since a majority has what it lacks.
//!
//! This module must not know what the state means. Deliberately absent: a way back to the old log.

use crate::ready::{Event, Outputs};
use crate::replica::Replica;
use crate::snapshot::Snapshot;
use storage::{Journal, Reset, StageError};

impl Replica {
    /// Replaces the log by the empty one that the snapshot speaks of.
    pub(crate) fn install(
        &mut self,
        journal: &mut Journal,
        snapshot: &Snapshot,
        out: &mut Outputs,
    ) -> Result<(), StageError> {
        let Snapshot {
            index,
            term,
            next_offset,
            applied,
            ..
        } = *snapshot;
        let reset = Reset {
            last_index: index,
            last_term: term,
            next_offset,
            epochs: snapshot.epochs.clone(),
            applied,
            state: snapshot.state.clone(),
        };
        let store = self.node.mut_store();
        journal.stage_reset(&mut store.log, reset)?;
        store.members_superseded(0);
        self.flight.begin_after(index);
        self.configuration = snapshot.configuration.clone();
        self.installed = applied;
        self.proposed_until = 0;
        // Handed out in this very pass, and contained in the state.
        let partition = self.partition;
        out.committed
            .retain(|(committed, _)| *committed != partition);
        let state = snapshot.state.clone();
        let installed = Event::Installed {
            index,
            applied,
            state,
        };
        out.events.push((self.partition, installed));
        Ok(())
    }

    /// A log that was installed is on stable storage: what lies before it counts as applied.
    pub(crate) fn begin_installed_log(&mut self) -> Option<()> {
        let before = self.log().first_index() - 1;
        let raft_log = &self.node.raft.raft_log;
        if raft_log.applied < before && raft_log.persisted >= before {
            self.advance_applied(before)?;
        }
        Some(())
    }

    /// Whether a log was installed and is not on stable storage yet.
    pub(crate) fn is_installing(&self) -> bool {
        let raft_log = &self.node.raft.raft_log;
        raft_log.unstable_snapshot().is_some() || raft_log.applied + 1 < raft_log.first_index()
    }
}
