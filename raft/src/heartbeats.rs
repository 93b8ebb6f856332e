//! One frame of heartbeats per peer, instead of one message per group.
//!
//! A leader's heartbeats for thousands of groups go to a handful of nodes, all at the same tick.
//! They are stripped out of the groups' messages here and travel together, a few bytes each; so do
//! the answers. What a beat says stays exactly what Raft says, but for the wish to sleep.
//!
//! # Frame
//!
//! Little-endian: version u8 (1), sender u64, receiver u64, number of beats u32. Then per beat:
//! flags u8 (1: an answer; 2: the topic of the beat before; 4: sleep, or asleep; 8: with a read), the
//! topic u128 unless flag 2, and as LEB128 the partition, the term, the commit index, and with flag 8
//! the number of the read. The beats of a core come in the order of its replicas, so the topic is
//! rarely repeated and a beat takes about eight bytes.
//!
//! This module must not know who sends frames, or when. Deliberately absent: beats that say
//! "nothing changed" for whole ranges; that needs a memory on the other side.

use crate::input::{CutShort, Input, flag, put_varint};
use crate::members::ReplicaId;
use crate::message::{Body, Message};
use storage::PartitionId;

const VERSION: u8 = 1;
const ANSWER: u8 = 1;
const SAME_TOPIC: u8 = 2;
const SLEEP: u8 = 4;
const READ: u8 = 8;
/// Flags, partition, term and commit take a byte each at least.
const BEAT_BYTES_MIN: usize = 4;

/// Heartbeats and answers of a pass, by sender and receiver, in order.
#[derive(Default, Debug)]
pub struct Beats {
    frames: Vec<BeatFrame>,
    /// Emptied frames' memory.
    spare: Vec<Vec<Beat>>,
}

/// All beats from one replica identity to another. On a node every group has the same identity, so
/// this is one frame per pair of nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BeatFrame {
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub beats: Vec<Beat>,
}

/// A heartbeat of one group, or the answer to one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Beat {
    pub partition: PartitionId,
    pub answer: bool,
    /// In a heartbeat: the group may sleep now. In an answer: its sender does.
    pub sleep: bool,
    pub term: u64,
    pub commit: u64,
    /// The read that the answer confirms; 0 for none.
    pub read: u64,
}

impl Beat {
    /// The message that the beat stands for.
    pub fn into_message(self, from: ReplicaId, to: ReplicaId) -> Message {
        let Beat {
            commit,
            sleep,
            read,
            ..
        } = self;
        Message {
            from,
            to,
            term: self.term,
            body: Body::beat(self.answer, commit, sleep, read),
        }
    }
}

impl Beats {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frames, one per pair of identities.
    pub fn frames(&self) -> &[BeatFrame] {
        &self.frames
    }

    /// Takes the frames out.
    pub fn take(&mut self) -> Vec<BeatFrame> {
        std::mem::take(&mut self.frames)
    }

    pub fn clear(&mut self) {
        for mut frame in self.frames.drain(..) {
            frame.beats.clear();
            self.spare.push(frame.beats);
        }
    }

    /// Adds a heartbeat or an answer; no other message belongs here.
    pub(crate) fn push(&mut self, partition: PartitionId, message: &Message) {
        let (answer, commit, sleep, read) = match message.body {
            Body::Heartbeat {
                commit,
                sleep,
                read,
            } => (false, commit, sleep, read),
            Body::HeartbeatReply {
                commit,
                sleep,
                read,
            } => (true, commit, sleep, read),
            ref other => unreachable!("{other:?} is no heartbeat"),
        };
        let beat = Beat {
            partition,
            answer,
            sleep,
            term: message.term,
            commit,
            read,
        };
        let (from, to) = (message.from, message.to);
        match self
            .frames
            .iter_mut()
            .find(|frame| frame.from == from && frame.to == to)
        {
            Some(frame) => frame.beats.push(beat),
            None => {
                let mut beats = self.spare.pop().unwrap_or_default();
                beats.push(beat);
                self.frames.push(BeatFrame { from, to, beats });
            }
        }
    }
}

/// Why a frame of heartbeats cannot be read. Nothing of it is used.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BeatFrameError {
    #[error("heartbeat frame of version {0}; this build reads version {VERSION}")]
    Version(u8),
    #[error("heartbeat frame is damaged: {0}")]
    Damaged(&'static str),
}

impl From<CutShort> for BeatFrameError {
    fn from(_: CutShort) -> BeatFrameError {
        BeatFrameError::Damaged("cut short")
    }
}

impl BeatFrame {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + 16 * self.beats.len());
        out.push(VERSION);
        out.extend(self.from.as_u64().to_le_bytes());
        out.extend(self.to.as_u64().to_le_bytes());
        let count = u32::try_from(self.beats.len()).expect("fewer beats than replicas of a core");
        out.extend(count.to_le_bytes());
        let mut topic = None;
        for beat in &self.beats {
            let same = topic == Some(beat.partition.topic);
            let of_beat = flag(beat.answer, ANSWER) | flag(beat.sleep, SLEEP);
            out.push(of_beat | flag(same, SAME_TOPIC) | flag(beat.read > 0, READ));
            if !same {
                out.extend(beat.partition.topic.to_le_bytes());
                topic = Some(beat.partition.topic);
            }
            put_varint(&mut out, beat.partition.partition.into());
            put_varint(&mut out, beat.term);
            put_varint(&mut out, beat.commit);
            if beat.read > 0 {
                put_varint(&mut out, beat.read);
            }
        }
        out
    }

    pub fn decode(frame: &[u8]) -> Result<BeatFrame, BeatFrameError> {
        let mut input = Input(frame);
        match input.u8()? {
            VERSION => {}
            other => return Err(BeatFrameError::Version(other)),
        }
        let stranger = BeatFrameError::Damaged("no such replica identity");
        let from = ReplicaId::from_u64(input.u64()?).ok_or(stranger)?;
        let to = ReplicaId::from_u64(input.u64()?).ok_or(stranger)?;
        let count = input.count(BEAT_BYTES_MIN)?;
        let mut beats = Vec::with_capacity(count);
        let mut topic = None;
        for _ in 0..count {
            let flags = input.u8()?;
            if flags & !(ANSWER | SAME_TOPIC | SLEEP | READ) != 0 {
                return Err(BeatFrameError::Damaged("unknown flags"));
            }
            let topic = match (flags & SAME_TOPIC != 0, topic) {
                (true, Some(before)) => before,
                (true, None) => return Err(BeatFrameError::Damaged("no topic before")),
                (false, _) => *topic.insert(input.u128()?),
            };
            let partition = u32::try_from(input.varint()?)
                .map_err(|_| BeatFrameError::Damaged("no such partition"))?;
            let partition = PartitionId { topic, partition };
            let (term, commit) = (input.varint()?, input.varint()?);
            let read = match flags & READ {
                0 => 0,
                _ => input.varint()?,
            };
            beats.push(Beat {
                partition,
                answer: flags & ANSWER != 0,
                sleep: flags & SLEEP != 0,
                term,
                commit,
                read,
            });
        }
        if !input.0.is_empty() {
            return Err(BeatFrameError::Damaged("bytes left over"));
        }
        Ok(BeatFrame { from, to, beats })
    }
}
