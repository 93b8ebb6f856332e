//! Why a replica refuses what it is asked for, one small type per question.
//!
//! Must not know error codes of any protocol.

use crate::members::{ChangeError, ReplicaId};
use storage::EntryKind;

/// Why a proposal was refused. Nothing was appended and no offset assigned.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    #[error("this replica is not the leader; the leader is {leader:?}")]
    NotLeader { leader: Option<ReplicaId> },
    #[error("leadership is being handed over")]
    Dropped,
    #[error("the journal has no room for what was proposed before")]
    JournalFull,
    #[error("{bytes} bytes are uncommitted already; {bytes_max} is the most")]
    TooMuchUncommitted { bytes: u64, bytes_max: u64 },
    #[error("{0:?} entry whose content is none")]
    Malformed(EntryKind),
    #[error("an entry of {bytes} bytes; {bytes_max} is the most")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("this replica is fenced")]
    Fenced,
}

/// Why a change of members was refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembersError {
    #[error(transparent)]
    Refused(#[from] ProposeError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("an earlier change, or what the new leader found in its log, is not yet applied")]
    Pending,
    #[error("the leader cannot leave the voters; hand leadership over first")]
    WouldUnseatLeader,
}

/// Why leadership cannot be handed over.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Refused(#[from] ProposeError),
    #[error("replica {0} is not another voter of the group")]
    NotVoter(ReplicaId),
}

/// Why a snapshot was not taken from its owner. It will be wanted again if it is still needed.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotRefused {
    #[error("a state of {bytes} bytes; {bytes_max} is the most that a follower accepts")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(
        "the state stands at {applied}: it must reach {index}, where the log begins, and not pass \
         {handed}, the last index that was handed out"
    )]
    Applied {
        applied: u64,
        index: u64,
        handed: u64,
    },
    #[error("this replica does not lead, or its journal is full: nobody is sent a snapshot now")]
    NotLeader,
}

/// Why a message was not taken. The sender is not told: Raft lives with lost messages.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StepError {
    #[error("the message is for replica {0}")]
    NotForUs(ReplicaId),
    #[error("the message claims to come from its receiver")]
    FromOurselves,
    #[error("term {0} is out of range")]
    Term(u64),
    #[error("the entries after index {prev_index} do not form a log")]
    Entries { prev_index: u64 },
    #[error("a snapshot of index {index} that is too large or contradicts its message")]
    Snapshot { index: u64 },
    #[error("replica {from} acknowledges index {index}; the log ends at {last_index}")]
    Acknowledged {
        from: ReplicaId,
        index: u64,
        last_index: u64,
    },
    #[error("replica {0} is not a member of the group")]
    Stranger(ReplicaId),
    #[error("this replica is fenced")]
    Fenced,
}
