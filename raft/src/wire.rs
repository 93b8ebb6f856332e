//! Raft messages as bytes between nodes: our own format, versioned and bounded.
//!
//! A frame holds any number of messages for any partitions of the receiver. Batches of records are
//! neither copied on the way out (the frame is a list of slices, ready for a gathering write) nor
//! on the way in (they are slices of the received frame).
//!
//! # Frame, version 1
//!
//! Little-endian. Version u8, then messages until the end. A message: topic u128, partition u32,
//! sender u64, receiver u64, term u64, kind u8, and by kind:
//!
//! - 1 append: previous index u64, its term u64, commit u64, count u32; per entry term u64, kind
//!   u8, length u32, payload
//! - 2 append reply: index u64, commit u64
//! - 3 append rejected: index u64, commit u64, hint index u64, hint term u64
//! - 4 vote: flags u8 (1 pre-vote, 2 transfer), last index u64, last term u64, commit u64, commit
//!   term u64
//! - 5 vote reply: flags u8 (1 pre-vote, 4 refused), commit u64, commit term u64
//! - 6 heartbeat, 7 its answer: flags u8 (8 sleep), commit u64, read u64 (they travel in
//!   [`crate::heartbeats`] frames, and are known here so that every message has a form)
//! - 8 campaign now: nothing
//! - 9 snapshot: see [`crate::snapshot`]
//!
//! Migration: a node writes the version that its peer has said it reads, and reads this version and
//! the one before. A message is read in full or the frame is refused; what was read before stays
//! valid. Whether a message makes sense is judged by [`crate::Replica::step`].
//!
//! Deliberately absent: length of the frame, checksums, compression, encryption: all the link's.

use bytes::Bytes;

use crate::input::{CutShort, Input, flag};
use crate::members::ReplicaId;
use crate::message::{Append, Body, Entry, Message, Reject, Vote, kind_code, kind_of_code};
use crate::snapshot::{Snapshot, SnapshotError};
use storage::PartitionId;

const VERSION: u8 = 1;

const APPEND: u8 = 1;
const APPEND_REPLY: u8 = 2;
const APPEND_REJECTED: u8 = 3;
const VOTE: u8 = 4;
const VOTE_REPLY: u8 = 5;
const HEARTBEAT: u8 = 6;
const HEARTBEAT_REPLY: u8 = 7;
const TIMEOUT_NOW: u8 = 8;
const SNAPSHOT: u8 = 9;

const PRE: u8 = 1;
const TRANSFER: u8 = 2;
const REFUSED: u8 = 4;
const SLEEP: u8 = 8;

/// Term, kind and length.
const ENTRY_BYTES_MIN: usize = 8 + 1 + 4;

/// Payloads shorter than this are copied into the frame: a slice of its own costs more than the
/// copy in the gathering write.
const COPY_BYTES_MAX: usize = 256;

/// Writes a frame.
pub struct FrameWriter {
    parts: Vec<Bytes>,
    head: Vec<u8>,
    len: usize,
}

impl Default for FrameWriter {
    fn default() -> FrameWriter {
        FrameWriter::new()
    }
}

impl FrameWriter {
    pub fn new() -> FrameWriter {
        FrameWriter {
            parts: Vec::new(),
            head: vec![VERSION],
            len: 0,
        }
    }

    /// Whether no message was written yet.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.head.len() == 1
    }

    /// Bytes of the frame so far.
    pub fn len(&self) -> usize {
        self.len + self.head.len()
    }

    pub fn push(&mut self, partition: PartitionId, message: &Message) {
        let out = &mut self.head;
        out.extend(partition.topic.to_le_bytes());
        out.extend(partition.partition.to_le_bytes());
        put(
            out,
            [message.from.as_u64(), message.to.as_u64(), message.term],
        );
        match &message.body {
            Body::Append(append) => self.push_append(append),
            Body::AppendReply {
                index,
                commit,
                reject: None,
            } => {
                out.push(APPEND_REPLY);
                put(out, [*index, *commit]);
            }
            Body::AppendReply {
                index,
                commit,
                reject: Some(reject),
            } => {
                out.push(APPEND_REJECTED);
                put(out, [*index, *commit, reject.hint_index, reject.hint_term]);
            }
            Body::Vote(vote) => {
                out.push(VOTE);
                out.push(flag(vote.pre, PRE) | flag(vote.transfer, TRANSFER));
                put(
                    out,
                    [
                        vote.last_index,
                        vote.last_term,
                        vote.commit,
                        vote.commit_term,
                    ],
                );
            }
            Body::VoteReply {
                pre,
                reject,
                commit,
                commit_term,
            } => {
                out.push(VOTE_REPLY);
                out.push(flag(*pre, PRE) | flag(*reject, REFUSED));
                put(out, [*commit, *commit_term]);
            }
            Body::Heartbeat {
                commit,
                sleep,
                read,
            } => {
                out.push(HEARTBEAT);
                out.push(flag(*sleep, SLEEP));
                put(out, [*commit, *read]);
            }
            Body::HeartbeatReply {
                commit,
                sleep,
                read,
            } => {
                out.push(HEARTBEAT_REPLY);
                out.push(flag(*sleep, SLEEP));
                put(out, [*commit, *read]);
            }
            Body::TimeoutNow => out.push(TIMEOUT_NOW),
            Body::Snapshot(snapshot) => {
                out.push(SNAPSHOT);
                snapshot.encode_head(out);
                self.push_payload(&snapshot.state);
            }
        }
    }

    fn push_append(&mut self, append: &Append) {
        self.head.push(APPEND);
        put(
            &mut self.head,
            [append.prev_index, append.prev_term, append.commit],
        );
        let count = u32::try_from(append.entries.len()).expect("bounded by bytes per message");
        self.head.extend(count.to_le_bytes());
        for entry in &append.entries {
            put(&mut self.head, [entry.term]);
            self.head.push(kind_code(entry.kind));
            let len = u32::try_from(entry.data.len()).expect("bounded by the size of a batch");
            self.head.extend(len.to_le_bytes());
            self.push_payload(&entry.data);
        }
    }

    fn push_payload(&mut self, payload: &Bytes) {
        if payload.len() <= COPY_BYTES_MAX {
            self.head.extend_from_slice(payload);
        } else {
            self.flush();
            self.len += payload.len();
            self.parts.push(payload.clone());
        }
    }

    fn flush(&mut self) {
        self.len += self.head.len();
        self.parts.push(Bytes::from(std::mem::take(&mut self.head)));
    }

    /// The frame, in slices to be written one after the other.
    pub fn finish(mut self) -> Vec<Bytes> {
        if !self.head.is_empty() {
            self.flush();
        }
        self.parts
    }
}

fn put<const N: usize>(out: &mut Vec<u8>, numbers: [u64; N]) {
    for number in numbers {
        out.extend(number.to_le_bytes());
    }
}

/// Why a frame cannot be read. The link should be closed: its peer errs or is not ours.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    #[error("raft frame of version {0}; this build reads version {VERSION}")]
    Version(u8),
    #[error("raft frame is damaged: {0}")]
    Damaged(&'static str),
    #[error("raft frame: {0}")]
    Snapshot(#[from] SnapshotError),
}

impl From<CutShort> for FrameError {
    fn from(_: CutShort) -> FrameError {
        FrameError::Damaged("cut short")
    }
}

/// Reads the messages of a frame, one after the other.
pub struct FrameReader {
    rest: Bytes,
}

impl FrameReader {
    pub fn new(frame: Bytes) -> Result<FrameReader, FrameError> {
        match frame.first() {
            None => Err(FrameError::Damaged("empty")),
            Some(&VERSION) => Ok(FrameReader {
                rest: frame.slice(1..),
            }),
            Some(other) => Err(FrameError::Version(*other)),
        }
    }

    fn read(&mut self) -> Result<(PartitionId, Message), FrameError> {
        let mut input = Input(&self.rest);
        let partition = PartitionId {
            topic: input.u128()?,
            partition: input.u32()?,
        };
        let from = replica(&mut input)?;
        let to = replica(&mut input)?;
        let term = input.u64()?;
        let body = match input.u8()? {
            APPEND => Body::Append(self.read_append(&mut input)?),
            kind @ (APPEND_REPLY | APPEND_REJECTED) => {
                let (index, commit) = (input.u64()?, input.u64()?);
                let reject = match kind == APPEND_REJECTED {
                    true => Some(Reject {
                        hint_index: input.u64()?,
                        hint_term: input.u64()?,
                    }),
                    false => None,
                };
                Body::AppendReply {
                    index,
                    commit,
                    reject,
                }
            }
            VOTE => {
                let flags = flags(&mut input, PRE | TRANSFER)?;
                Body::Vote(Vote {
                    pre: flags & PRE != 0,
                    transfer: flags & TRANSFER != 0,
                    last_index: input.u64()?,
                    last_term: input.u64()?,
                    commit: input.u64()?,
                    commit_term: input.u64()?,
                })
            }
            VOTE_REPLY => {
                let flags = flags(&mut input, PRE | REFUSED)?;
                let (pre, reject) = (flags & PRE != 0, flags & REFUSED != 0);
                Body::VoteReply {
                    pre,
                    reject,
                    commit: input.u64()?,
                    commit_term: input.u64()?,
                }
            }
            kind @ (HEARTBEAT | HEARTBEAT_REPLY) => {
                let sleep = flags(&mut input, SLEEP)? & SLEEP != 0;
                let (commit, read) = (input.u64()?, input.u64()?);
                Body::beat(kind == HEARTBEAT_REPLY, commit, sleep, read)
            }
            TIMEOUT_NOW => Body::TimeoutNow,
            SNAPSHOT => Body::Snapshot(Box::new(Snapshot::read(&mut input, &self.rest)?)),
            _ => return Err(FrameError::Damaged("unknown kind of message")),
        };
        self.rest = self.rest.slice_ref(input.0);
        Ok((
            partition,
            Message {
                from,
                to,
                term,
                body,
            },
        ))
    }

    fn read_append(&self, input: &mut Input<'_>) -> Result<Append, FrameError> {
        let (prev_index, prev_term, commit) = (input.u64()?, input.u64()?, input.u64()?);
        let count = input.count(ENTRY_BYTES_MIN)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let term = input.u64()?;
            let kind =
                kind_of_code(input.u8()?).ok_or(FrameError::Damaged("unknown kind of entry"))?;
            let len = input.u32()? as usize;
            let data = self.rest.slice_ref(input.slice(len)?);
            entries.push(Entry { term, kind, data });
        }
        Ok(Append {
            prev_index,
            prev_term,
            commit,
            entries,
        })
    }
}

impl Iterator for FrameReader {
    type Item = Result<(PartitionId, Message), FrameError>;

    /// After an error the rest of the frame is dropped.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = Bytes::new();
        }
        Some(read)
    }
}

fn replica(input: &mut Input<'_>) -> Result<ReplicaId, FrameError> {
    ReplicaId::from_u64(input.u64()?).ok_or(FrameError::Damaged("no such replica identity"))
}

fn flags(input: &mut Input<'_>, known: u8) -> Result<u8, FrameError> {
    let flags = input.u8()?;
    if flags & !known != 0 {
        return Err(FrameError::Damaged("unknown flags"));
    }
    Ok(flags)
}
