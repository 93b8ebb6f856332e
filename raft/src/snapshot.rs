//! What a follower gets in place of entries that its leader's log has removed.
//!
//! A snapshot is no copy of the log. It says how a log goes on that begins after `index`, and
//! brings the owner's state; the records above `index` follow as ordinary appends. `index` is the
//! last entry before the leader's first, so that a follower keeps as much of the log as its leader
//! does. The state stands at `applied`, usually far above `index`: what lies between is in the
//! state already, and is not handed out again when it arrives.
//!
//! The members are those in force at the leader when the snapshot was made, perhaps from an entry
//! above `index`. That is safe: the entry is committed, and a configuration may be known early, as
//! it is to everybody who appends it; what must not happen is that one is known too late.
//!
//! The log start offset needs no field. Logs are trimmed by whole segments that lie below it, so it
//! is `next_offset` or more; and if it is more, the entry that moved it there lies above `index`
//! and arrives like the others.
//!
//! # Format, version 1
//!
//! Little-endian: version u8, index u64, its term u64, next offset i64, `applied` u64; number of
//! epochs u32, each epoch u64 and its first offset i64, ascending; index of the configuration u64,
//! length u32 and bytes of its membership record; length u32 and bytes of the state. Migration: as
//! that of the frames that snapshots travel in ([`crate::wire`]).
//!
//! This module must not know what the state means. Deliberately absent: a checksum (the link's, and
//! the journal's), snapshots in pieces (a state is bounded), and snapshots that lie on a disk.

use bytes::Bytes;

use crate::input::{CutShort, Input};
use crate::members::{Membership, MembershipError, Step};
use crate::open::Configuration;

/// The largest state that is offered or accepted.
pub const STATE_BYTES_MAX: usize = 16 << 20;

const VERSION: u8 = 1;
const EPOCH_BYTES: usize = 16;

/// How a log goes on, and the state that belongs to it. See the module's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The last entry that the log has not, and its term.
    pub index: u64,
    pub term: u64,
    /// The offset that follows that entry.
    pub next_offset: i64,
    /// The entries up to here are in the state; at or above `index`.
    pub applied: u64,
    /// (epoch, first offset) ascending, up to `term`: what OffsetForLeaderEpoch (KIP-320) answers.
    pub epochs: Vec<(u64, i64)>,
    pub configuration: Configuration,
    /// The owner's, as it would put it into a checkpoint.
    pub state: Bytes,
}

/// Why a snapshot cannot be read.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("snapshot of version {0}; this build reads version {VERSION}")]
    Version(u8),
    #[error("snapshot is damaged: {0}")]
    Damaged(&'static str),
    #[error("snapshot has no readable members: {0}")]
    Members(#[from] MembershipError),
}

impl From<CutShort> for SnapshotError {
    fn from(_: CutShort) -> SnapshotError {
        SnapshotError::Damaged("cut short")
    }
}

impl Snapshot {
    /// Everything before the bytes of the state.
    pub(crate) fn encode_head(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        for number in [self.index, self.term, self.next_offset as u64, self.applied] {
            out.extend(number.to_le_bytes());
        }
        let epochs = u32::try_from(self.epochs.len()).expect("fewer epochs than terms");
        out.extend(epochs.to_le_bytes());
        for (epoch, offset) in &self.epochs {
            out.extend(epoch.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        let record = Membership {
            step: Step::Declare,
            members: self.configuration.members.clone(),
        };
        let record = record.encode();
        out.extend(self.configuration.index.to_le_bytes());
        put_len(out, record.len());
        out.extend_from_slice(&record);
        put_len(out, self.state.len());
    }

    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(256 + EPOCH_BYTES * self.epochs.len() + self.state.len());
        self.encode_head(&mut out);
        out.extend_from_slice(&self.state);
        Bytes::from(out)
    }

    /// The snapshot in these bytes, all of them. Its state is a slice of them.
    pub fn decode(bytes: &Bytes) -> Result<Snapshot, SnapshotError> {
        let mut input = Input(bytes);
        let snapshot = Snapshot::read(&mut input, bytes)?;
        match input.0 {
            [] => Ok(snapshot),
            _ => Err(SnapshotError::Damaged("bytes left over")),
        }
    }

    /// Takes a snapshot from `input`, which reads `bytes`.
    pub(crate) fn read(input: &mut Input<'_>, bytes: &Bytes) -> Result<Snapshot, SnapshotError> {
        match input.u8()? {
            VERSION => {}
            other => return Err(SnapshotError::Version(other)),
        }
        let (index, term) = (input.u64()?, input.u64()?);
        let (next_offset, applied) = (input.u64()? as i64, input.u64()?);
        let count = input.count(EPOCH_BYTES)?;
        let epochs = (0..count)
            .map(|_| Ok((input.u64()?, input.u64()? as i64)))
            .collect::<Result<Vec<_>, CutShort>>()?;
        let configured = input.u64()?;
        let record = input.u32()? as usize;
        let members = Membership::decode(input.slice(record)?)?.members;
        let len = input.u32()? as usize;
        if len > STATE_BYTES_MAX {
            return Err(SnapshotError::Damaged("the state is too large"));
        }
        let state = bytes.slice_ref(input.slice(len)?);
        let snapshot = Snapshot {
            index,
            term,
            next_offset,
            applied,
            epochs,
            configuration: Configuration {
                index: configured,
                members,
            },
            state,
        };
        match snapshot.is_sound() {
            true => Ok(snapshot),
            false => Err(SnapshotError::Damaged("its numbers contradict each other")),
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        let begins = self.index > 0 && self.index < u64::MAX && self.term > 0;
        begins
            && self.next_offset >= 0
            && self.applied >= self.index
            && self.epochs.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1)
            && self
                .epochs
                .last()
                .is_none_or(|(epoch, offset)| *epoch <= self.term && *offset <= self.next_offset)
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("bounded far below 4 GiB");
    out.extend(len.to_le_bytes());
}
