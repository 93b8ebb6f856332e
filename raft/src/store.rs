//! The log of a partition as the raft crate's `Storage`.
//!
//! The crate reads its storage for four reasons; the context it gives only tells the first from the
//! other three:
//!
//! 1. *to send entries to a follower*: answered from memory, or from what [`crate::catch_up`] had
//!    read for just this append; else "temporarily unavailable", which the crate takes as "try
//!    again later", and a note that something is missing;
//! 2. *to hand out committed entries*, 3. *to look for unapplied changes of members before a
//!    campaign*, 4. *likewise after a vote message moved the commit index*: these three may never
//!    be told "unavailable", and none of them needs a payload.
//!
//! So the latter three get a **digest**: a single entry that stands for the whole range, with the
//! range's last index, and typed as a change of members if one lies unapplied in the range. The
//! crate takes from it exactly the two facts that it looks for (how far it has handed out, and
//! whether a change of members is in between). Committing a million entries therefore allocates
//! one, and a campaign after a restart does not read the whole unapplied log into memory
//! (tikv/raft-rs #530, which is not in 0.7.0).
//!
//! A digest of a range longer than one entry ends the crate's own collection early: what it still
//! holds outside of storage is not looked at. That is right for reason 2 (nothing unstaged is ever
//! handed out); for 3 and 4 [`crate::replica`] holds campaigns back while a change of members is
//! unstaged.
//!
//! A snapshot, too, is there only for the moment in which [`crate::catch_up`] lets it be sent; at
//! any other time the crate is told that there is none yet, and it is noted that one is missing.
//!
//! Deliberately absent: memory of what was read or offered; it is used at once or not at all.

use std::cell::Cell;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::members::Members;
use crate::message::raft_entry;
use storage::{EntriesMissing, EntryKind, HardState, Log};

/// The raft crate's view of one [`Log`].
pub(crate) struct Store {
    pub(crate) log: Log,
    /// The configuration and hard state that the replica starts with.
    start: Option<(Members, HardState)>,
    /// Membership entries of the log that are not applied, by index; nearly always empty.
    members_pending: Vec<(u64, Bytes)>,
    /// Most payload bytes in one message to a follower.
    append_bytes_max: u64,
    /// What the crate could not have since this was looked at last.
    missing: Cell<Missing>,
    /// Entries that were read from the disk, for the append that is being made.
    fetched: Cell<Vec<Entry>>,
    /// What is committed goes to followers only as it is read for them.
    pub(crate) paced: bool,
    /// A snapshot, for the messages that are being made.
    pub(crate) offered: Option<Snapshot>,
}

/// What could not be sent to some follower.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Missing {
    /// Entries that are on disk only.
    pub(crate) entries: bool,
    /// Entries that are gone.
    pub(crate) snapshot: bool,
}

impl Store {
    pub(crate) fn new(
        log: Log,
        members: Members,
        hard_state: HardState,
        append_bytes_max: u64,
    ) -> Store {
        let start = Some((members, hard_state));
        Store {
            log,
            start,
            members_pending: Vec::new(),
            append_bytes_max,
            missing: Cell::default(),
            fetched: Cell::default(),
            paced: false,
            offered: None,
        }
    }

    pub(crate) fn append_bytes_max(&self) -> u64 {
        self.append_bytes_max
    }

    /// Whether something could not be sent since [`Store::take_missing`] was called last.
    pub(crate) fn is_missing(&self) -> bool {
        self.missing.get() != Missing::default()
    }

    pub(crate) fn take_missing(&self) -> Missing {
        self.missing.take()
    }

    /// Puts entries in place for the append that is made next, or takes back what is left of them.
    pub(crate) fn set_fetched(&self, entries: Vec<Entry>) {
        self.fetched.set(entries);
    }

    fn note_missing_entries(&self) {
        self.missing.set(Missing {
            entries: true,
            ..self.missing.get()
        });
    }

    /// The starting state is asked for once.
    pub(crate) fn started(&mut self) {
        self.start = None;
    }

    /// Notes that the log now holds this Membership entry.
    pub(crate) fn members_staged(&mut self, index: u64, record: Bytes) {
        self.members_superseded(index);
        self.members_pending.push((index, record));
    }

    /// Notes that the log's entries from `index` on were replaced.
    pub(crate) fn members_superseded(&mut self, index: u64) {
        self.members_pending.retain(|(pending, _)| *pending < index);
    }

    pub(crate) fn has_members_pending(&self) -> bool {
        !self.members_pending.is_empty()
    }

    /// Takes the first unapplied Membership entry at or below `index`.
    pub(crate) fn next_members(&mut self, index: u64) -> Option<(u64, Bytes)> {
        let first = self.members_pending.first()?.0;
        (first <= index).then(|| self.members_pending.remove(0))
    }

    /// The payload of an entry as stored; `None` if it is not in memory.
    pub(crate) fn data(&self, index: u64) -> Option<Bytes> {
        let mut found = self.log.entries(index, index + 1, u64::MAX).ok()?;
        found.pop().map(|entry| entry.data)
    }

    fn digest(&self, low: u64, high: u64) -> raft::Result<Vec<Entry>> {
        let last = high - 1;
        let mut entry = Entry {
            index: last,
            term: self.term(last)?,
            ..Entry::default()
        };
        if self
            .members_pending
            .iter()
            .any(|(index, _)| (low..high).contains(index))
        {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
        }
        Ok(vec![entry])
    }

    fn entries_to_send(&self, low: u64, high: u64) -> raft::Result<Vec<Entry>> {
        if self.is_kept_back(low) {
            return self.entries_read(low, high);
        }
        match self.log.entries(low, high, self.append_bytes_max) {
            Ok(found) => Ok(found.into_iter().map(stored_entry).collect()),
            Err(EntriesMissing::Compacted) => Err(StorageError::Compacted.into()),
            Err(EntriesMissing::OnDisk) => self.entries_read(low, high),
        }
    }

    /// Those that were read for the append that is being made.
    fn entries_read(&self, low: u64, high: u64) -> raft::Result<Vec<Entry>> {
        let mut fetched = self.fetched.take();
        fetched.truncate((high - low) as usize);
        if fetched.first().is_some_and(|first| first.index == low) {
            return Ok(fetched);
        }
        self.note_missing_entries();
        Err(StorageError::LogTemporarilyUnavailable.into())
    }

    /// Whether followers get the entry only as it is read for them, wherever it is.
    pub(crate) fn is_kept_back(&self, index: u64) -> bool {
        self.paced && index <= self.log.commit()
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let (members, hard_state) = self
            .start
            .as_ref()
            .expect("the starting state, asked again");
        let state = raft::eraftpb::HardState {
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
            ..Default::default()
        };
        Ok(RaftState::new(state, members.to_conf_state()))
    }

    /// The crate's `max_size` counts protobuf bytes; ours counts payload bytes, from the config.
    fn entries(
        &self,
        low: u64,
        high: u64,
        _max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        assert!(
            low < high && high <= self.log.last_index() + 1,
            "entries {low}..{high} of a log that ends at {}",
            self.log.last_index()
        );
        if low < self.log.first_index() {
            return Err(StorageError::Compacted.into());
        }
        if context.can_async() {
            self.entries_to_send(low, high)
        } else {
            self.digest(low, high)
        }
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index + 1 < self.log.first_index() {
            return Err(StorageError::Compacted.into());
        }
        self.log
            .term(index)
            .ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.log.first_index())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.log.last_index())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        self.offered.clone().ok_or_else(|| {
            self.missing.set(Missing {
                snapshot: true,
                ..self.missing.get()
            });
            StorageError::SnapshotTemporarilyUnavailable.into()
        })
    }
}

/// An entry of the log in the raft crate's terms; its payload is shared.
pub(crate) fn stored_entry(entry: storage::Entry) -> Entry {
    raft_entry(entry.kind, entry.term, entry.index, entry.data)
}

/// The kind under which the raft crate's entry is kept in the log.
pub(crate) fn is_membership(entry: &Entry) -> bool {
    crate::message::kind_of(entry) == EntryKind::Membership
}
