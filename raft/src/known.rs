//! When those who left a group may be forgotten.
//!
//! A change of members is over for its leader as soon as its last entry is committed, which the others hear later, and
//! have on their disks with the next entry only (see [`crate::members`]). If all of them lose power before, they find
//! that entry in their logs and do not know that it is committed: they go by the configuration before it, in which those
//! who left have a vote. A group of two that has one of its replicas replaced cannot elect anybody then without the
//! replica that left. So its log is kept until every voter holds an entry that was proposed after the commit.

use bytes::Bytes;

use crate::replica::Replica;
use storage::EntryKind;

/// The entry that shows it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    /// The leader's term, and the index of the configuration.
    of: (u64, u64),
    index: u64,
}

impl Replica {
    /// Whether every voter knows the configuration in force, and will after a crash: only then may the log of a replica
    /// that left the group be removed. Proposes the entry that shows it, once. False unless this replica leads, and
    /// while a change of members is under way.
    pub fn members_are_known(&mut self) -> bool {
        let since = self.configuration().index;
        let in_force =
            self.is_serving() && !self.members().is_joint() && since <= self.commit_index();
        if !in_force {
            return false;
        }
        let of = (self.term(), since);
        let shown = match self.shown.filter(|shown| shown.of == of) {
            Some(shown) => shown,
            None => {
                if self.check_leads().is_err() {
                    return false;
                }
                let Ok(proposed) = self.append(EntryKind::NoOp, Bytes::new(), 0) else {
                    return false;
                };
                let index = proposed.index;
                *self.shown.insert(Shown { of, index })
            }
        };
        let has = |voter| {
            self.matched(voter)
                .is_some_and(|matched| matched >= shown.index)
        };
        self.members().voters().iter().copied().all(has)
    }
}
