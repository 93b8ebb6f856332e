//! What can go wrong, one small type per question asked.

use std::io;

pub use crate::format::batch::BatchError;

/// Why nothing more is accepted for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The journal is at its limit. Ends when drains and a checkpoint have freed a file.
    #[error("the journal is full until its oldest file is drained")]
    Full,
    /// The file system has no room for another journal file, a drain or a checkpoint, and the
    /// room that was prepared is used up. Ends by itself when there is space again.
    #[error("the disk is full")]
    DiskFull,
    /// A write or sync of the journal failed. Ends with a restart only: it is unknown what lies
    /// on the disk, and trying again proves nothing.
    #[error("a journal write failed")]
    Failed,
}

/// Why something was not staged. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log is fenced; the text says why.
    #[error("the partition is fenced: {0}")]
    Fenced(String),
    /// The entry does not follow the last one.
    #[error("entry {index} does not follow {last_index}")]
    Gap { index: u64, last_index: u64 },
    /// The entry would replace a committed one.
    #[error("entry {index} would replace a committed one, commit is {commit}")]
    BelowCommit { index: u64, commit: u64 },
    /// The term is lower than that of the entry before.
    #[error("term {term} follows term {last_term}")]
    Term { term: u64, last_term: u64 },
    #[error(transparent)]
    Malformed(#[from] BatchError),
    /// A LogStart entry whose data is not an offset.
    #[error("a log start entry of {0} bytes, 8 are an offset")]
    LogStart(usize),
    #[error("an entry of {bytes} bytes, at most {bytes_max} are accepted")]
    TooLarge { bytes: usize, bytes_max: usize },
}

/// A journal write or a checkpoint that failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal refuses everything from now on; nothing of that turn may be acknowledged.
    #[error("journal write failed: {0}")]
    Write(#[source] io::Error),
    /// The previous checkpoint stays; another one will be tried.
    #[error("checkpoint failed: {0}")]
    Checkpoint(#[source] io::Error),
}

/// A read that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the segment: {0}")]
    Io(#[from] io::Error),
    /// The bytes are not what was written. The owner fences the log with this text.
    #[error("segment {base_index} is damaged at {position}: {what}")]
    Damaged {
        base_index: u64,
        position: u64,
        what: &'static str,
    },
}

impl ReadError {
    /// Whether the segment was removed while the job was under way: ask the log again.
    pub fn is_removed(&self) -> bool {
        matches!(self, ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Why entries cannot be had from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntriesMissing {
    /// They were removed: the follower needs a snapshot.
    #[error("the entries are gone")]
    Compacted,
    /// They are in segments: use [`Log::plan_entries`](crate::Log::plan_entries).
    #[error("the entries are on disk")]
    OnDisk,
}

/// Start-up that cannot go on. Nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("cannot {what} {path}: {source}")]
    Io {
        what: &'static str,
        path: String,
        source: io::Error,
    },
    /// The journals are laid out for another number of cores.
    #[error(
        "the journals are for {found} cores, the node has {wanted}: open the data directory first"
    )]
    Layout { found: usize, wanted: usize },
    /// The directory does not hold what it should.
    #[error("{path}: {what}")]
    Damaged { path: String, what: String },
}

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{0} is in use by another broker: stop it, or choose another data directory")]
    InUse(String),
    #[error("{path} belongs to {found}, this node is {wanted}: choose another data directory")]
    Foreign {
        path: String,
        found: String,
        wanted: String,
    },
    #[error("{path} was written by a newer version (format {found}, this one reads {known})")]
    Newer {
        path: String,
        found: u32,
        known: u32,
    },
    #[error("{path} is damaged: {what}")]
    Damaged { path: String, what: String },
    #[error("cannot {what} {path}: {source}")]
    Io {
        what: &'static str,
        path: String,
        source: io::Error,
    },
    #[error(transparent)]
    Recover(#[from] RecoverError),
}
