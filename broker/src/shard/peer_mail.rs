//! What the nodes of a cluster say to one another, beside Raft messages and beats.
//!
//! Each kind says who sends it, what answers it and what heals its loss: a connection may die at any time, and what
//! was on it with it. Asks about the metadata are rare and travel as JSON, like the records that they lead to; who
//! leads what is told often and travels as numbers.
//!
//! Must not know how frames travel ([`crate::peers`]).

use super::decliners::Why;
use super::mail::Leadership;
use crate::cluster::recovery::Holding;
use crate::cluster::{ClusterAnswer, ClusterAsk};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_group::ReplicaId;
use serde::{Deserialize, Serialize};
use storage::PartitionId;

/// The kinds of frames between nodes, version 1.
pub mod kind {
    /// A frame of [`raft_group::wire`], from core to core.
    pub const RAFT: u8 = 1;
    /// A frame of [`raft_group::heartbeats`], from core to core.
    pub const BEATS: u8 = 2;
    pub const ASK: u8 = 3;
    pub const ANSWER: u8 = 4;
    pub const LEADERS: u8 = 5;
    pub const TRANSFER: u8 = 6;
    pub const TAKEN_IN: u8 = 7;
    pub const TAKE_ROOM: u8 = 8;
    pub const ROOM: u8 = 9;
    pub const SURVEY: u8 = 10;
    pub const SURVEYED: u8 = 11;
    pub const NODES: u8 = 12;
    pub const DECLINES: u8 = 13;
}

/// Bytes of one leadership: topic, partition, leader (0: none), epoch, how many nodes lag. Those nodes follow.
const LEADERSHIP_BYTES: usize = 16 + 4 + 8 + 4 + 2;
/// In place of how many nodes lag: it is not said.
const NOT_SAID: u16 = u16::MAX;

/// One thing said.
#[derive(Clone, Debug)]
pub enum PeerMail {
    /// A node's metadata core asks the leader's. Answered by `Answer` with the same number; the asker's own patience
    /// heals a loss.
    Ask {
        number: u64,
        /// How often it has been sent on.
        hops: u8,
        request: ClusterAsk,
    },
    /// The outcome, as of a version of the metadata that the asker waits for.
    Answer {
        number: u64,
        version: u64,
        answer: ClusterAnswer,
    },
    /// A core tells what it leads, and who lags there, to every other node: all of it when a link comes up, changes after that. Whoever
    /// misses one is told again by the next link, or by the next leader.
    Leaders(Vec<Leadership>),
    /// A node wants the lead of a partition to go to a node. To whoever leads it; lost, it is wished for again.
    Transfer { partition: PartitionId, to: i32 },
    /// All cores of a node have taken in the metadata up to a version. To every other node; said again over a new link,
    /// and now and then, which heals a loss.
    TakenIn { version: u64 },
    /// A leader's core wants to send bytes to a throttled follower: to core 0 of its node. Answered by `Room` with the
    /// same number, to that core; lost, it is asked again.
    TakeRoom { number: u64, core: u16, bytes: u64 },
    /// The bytes may be sent (0), or are asked for again after this time.
    Room { number: u64, wait_us: u32 },
    /// A node's metadata core wants to know what another node has of a partition. Answered by `Surveyed` with the same
    /// number; who asked goes on without an answer that does not come in time.
    Survey { number: u64, partition: PartitionId },
    /// See `Survey`.
    Surveyed { number: u64, holding: Box<Holding> },
    /// Where nodes listen for others, by id: from core 0 to core 0 when a link comes up. Who is new, or was away, has
    /// to answer nodes that its own metadata does not know yet. Lost, it is said again by the next link.
    Nodes(Vec<(i32, String)>),
    /// A core says that its node wants no leads: to every other node. Said again twice a second while it lasts, which
    /// heals a loss; nobody says that it is over.
    Declines { core: u16, why: Why },
}

#[derive(Serialize, Deserialize)]
struct Surveyed {
    number: u64,
    holding: Box<Holding>,
}

/// Bytes of a survey: number, topic, partition.
const SURVEY_BYTES: usize = 8 + 16 + 4;

/// Bytes of a word that a node wants no leads: core, reason.
const DECLINES_BYTES: usize = 2 + 1;
const DISK_FULL: u8 = 1;
const STOPPING: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Ask {
    number: u64,
    hops: u8,
    request: ClusterAsk,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    number: u64,
    version: u64,
    answer: ClusterAnswer,
}

/// Bytes of a wish for a transfer: topic, partition, node.
const TRANSFER_BYTES: usize = 16 + 4 + 4;

/// Bytes of a wish for room: number, core, bytes.
const TAKE_ROOM_BYTES: usize = 8 + 2 + 8;
/// Bytes of its answer: number, time.
const ROOM_BYTES: usize = 8 + 4;

/// Not what a node of this release says.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("kind {0} is not known")]
    Kind(u8),
    #[error("reason {0} to want no leads is not known")]
    Reason(u8),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("it ends inside a record")]
    CutShort,
}

impl PeerMail {
    /// The frame's kind and payload.
    pub fn encode(self) -> (u8, Bytes) {
        let json = |encoded: serde_json::Result<Vec<u8>>| {
            Bytes::from(encoded.expect("asks and answers hold only maps with text keys"))
        };
        match self {
            PeerMail::Ask {
                number,
                hops,
                request,
            } => {
                let ask = Ask {
                    number,
                    hops,
                    request,
                };
                (kind::ASK, json(serde_json::to_vec(&ask)))
            }
            PeerMail::Answer {
                number,
                version,
                answer,
            } => {
                let answer = Answer {
                    number,
                    version,
                    answer,
                };
                (kind::ANSWER, json(serde_json::to_vec(&answer)))
            }
            PeerMail::Transfer { partition, to } => {
                let mut out = BytesMut::with_capacity(TRANSFER_BYTES);
                out.put_u128_le(partition.topic);
                out.put_u32_le(partition.partition);
                out.put_i32_le(to);
                (kind::TRANSFER, out.freeze())
            }
            PeerMail::TakenIn { version } => {
                let version = version.to_le_bytes();
                (kind::TAKEN_IN, Bytes::copy_from_slice(&version))
            }
            PeerMail::TakeRoom {
                number,
                core,
                bytes,
            } => {
                let mut out = BytesMut::with_capacity(TAKE_ROOM_BYTES);
                out.put_u64_le(number);
                out.put_u16_le(core);
                out.put_u64_le(bytes);
                (kind::TAKE_ROOM, out.freeze())
            }
            PeerMail::Room { number, wait_us } => {
                let mut out = BytesMut::with_capacity(ROOM_BYTES);
                out.put_u64_le(number);
                out.put_u32_le(wait_us);
                (kind::ROOM, out.freeze())
            }
            PeerMail::Survey { number, partition } => {
                let mut out = BytesMut::with_capacity(SURVEY_BYTES);
                out.put_u64_le(number);
                out.put_u128_le(partition.topic);
                out.put_u32_le(partition.partition);
                (kind::SURVEY, out.freeze())
            }
            PeerMail::Surveyed { number, holding } => {
                let surveyed = Surveyed { number, holding };
                (kind::SURVEYED, json(serde_json::to_vec(&surveyed)))
            }
            PeerMail::Declines { core, why } => {
                let why = match why {
                    Why::DiskFull => DISK_FULL,
                    Why::Stopping => STOPPING,
                };
                let mut out = BytesMut::with_capacity(DECLINES_BYTES);
                out.put_u16_le(core);
                out.put_u8(why);
                (kind::DECLINES, out.freeze())
            }
            PeerMail::Nodes(nodes) => (kind::NODES, json(serde_json::to_vec(&nodes))),
            PeerMail::Leaders(leaders) => {
                let mut out = BytesMut::with_capacity(leaders.len() * LEADERSHIP_BYTES);
                for leadership in leaders {
                    put_leadership(&mut out, leadership);
                }
                (kind::LEADERS, out.freeze())
            }
        }
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Unreadable`]: nothing of it is used.
    pub fn decode(kind: u8, mut payload: Bytes) -> Result<PeerMail, Unreadable> {
        match kind {
            kind::ASK => {
                let Ask {
                    number,
                    hops,
                    request,
                } = serde_json::from_slice(&payload)?;
                Ok(PeerMail::Ask {
                    number,
                    hops,
                    request,
                })
            }
            kind::ANSWER => {
                let Answer {
                    number,
                    version,
                    answer,
                } = serde_json::from_slice(&payload)?;
                Ok(PeerMail::Answer {
                    number,
                    version,
                    answer,
                })
            }
            kind::LEADERS => {
                let mut leaders = Vec::with_capacity(payload.len() / LEADERSHIP_BYTES);
                while payload.has_remaining() {
                    leaders.push(take_leadership(&mut payload)?);
                }
                Ok(PeerMail::Leaders(leaders))
            }
            kind::TRANSFER => {
                if payload.len() != TRANSFER_BYTES {
                    return Err(Unreadable::CutShort);
                }
                let (topic, partition) = (payload.get_u128_le(), payload.get_u32_le());
                let partition = PartitionId { topic, partition };
                let to = payload.get_i32_le();
                Ok(PeerMail::Transfer { partition, to })
            }
            kind::TAKEN_IN => {
                let version = payload.as_ref().try_into();
                let version = version.map_err(|_| Unreadable::CutShort)?;
                Ok(PeerMail::TakenIn {
                    version: u64::from_le_bytes(version),
                })
            }
            kind::TAKE_ROOM => {
                if payload.len() != TAKE_ROOM_BYTES {
                    return Err(Unreadable::CutShort);
                }
                Ok(PeerMail::TakeRoom {
                    number: payload.get_u64_le(),
                    core: payload.get_u16_le(),
                    bytes: payload.get_u64_le(),
                })
            }
            kind::ROOM => {
                if payload.len() != ROOM_BYTES {
                    return Err(Unreadable::CutShort);
                }
                let (number, wait_us) = (payload.get_u64_le(), payload.get_u32_le());
                Ok(PeerMail::Room { number, wait_us })
            }
            kind::SURVEY => {
                if payload.len() != SURVEY_BYTES {
                    return Err(Unreadable::CutShort);
                }
                let number = payload.get_u64_le();
                let (topic, partition) = (payload.get_u128_le(), payload.get_u32_le());
                let partition = PartitionId { topic, partition };
                Ok(PeerMail::Survey { number, partition })
            }
            kind::SURVEYED => {
                let Surveyed { number, holding } = serde_json::from_slice(&payload)?;
                Ok(PeerMail::Surveyed { number, holding })
            }
            kind::DECLINES => {
                if payload.len() != DECLINES_BYTES {
                    return Err(Unreadable::CutShort);
                }
                let core = payload.get_u16_le();
                let why = match payload.get_u8() {
                    DISK_FULL => Why::DiskFull,
                    STOPPING => Why::Stopping,
                    other => return Err(Unreadable::Reason(other)),
                };
                Ok(PeerMail::Declines { core, why })
            }
            kind::NODES => Ok(PeerMail::Nodes(serde_json::from_slice(&payload)?)),
            other => Err(Unreadable::Kind(other)),
        }
    }
}

fn put_leadership(out: &mut BytesMut, leadership: Leadership) {
    out.put_u128_le(leadership.partition.topic);
    out.put_u32_le(leadership.partition.partition);
    out.put_u64_le(leadership.leader.map_or(0, ReplicaId::as_u64));
    out.put_i32_le(leadership.epoch);
    match leadership.lagging {
        // A partition has fewer replicas than that.
        Some(lagging) if lagging.len() < usize::from(NOT_SAID) => {
            out.put_u16_le(lagging.len() as u16);
            lagging.into_iter().for_each(|node| out.put_i32_le(node));
        }
        _ => out.put_u16_le(NOT_SAID),
    }
}

fn take_leadership(payload: &mut Bytes) -> Result<Leadership, Unreadable> {
    if payload.len() < LEADERSHIP_BYTES {
        return Err(Unreadable::CutShort);
    }
    let partition = PartitionId {
        topic: payload.get_u128_le(),
        partition: payload.get_u32_le(),
    };
    let leader = ReplicaId::from_u64(payload.get_u64_le());
    let epoch = payload.get_i32_le();
    let lagging = match payload.get_u16_le() {
        NOT_SAID => None,
        count if payload.len() < usize::from(count) * 4 => return Err(Unreadable::CutShort),
        count => Some((0..count).map(|_| payload.get_i32_le()).collect()),
    };
    Ok(Leadership {
        partition,
        leader,
        epoch,
        lagging,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Refusal;
    use protocol::error::ErrorCode;

    #[test]
    fn what_was_said_is_heard() {
        let leadership = Leadership {
            partition: PartitionId {
                topic: u128::MAX - 5,
                partition: 7,
            },
            leader: ReplicaId::new(3, 7),
            epoch: 42,
            lagging: None,
        };
        let unled = Leadership {
            leader: None,
            ..leadership.clone()
        };
        let lagging = |nodes: &[i32]| Leadership {
            lagging: Some(nodes.to_vec()),
            ..leadership.clone()
        };
        let refusal = Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, "there");
        let said = [
            PeerMail::Ask {
                number: 3,
                hops: 1,
                request: ClusterAsk::AllocateProducerIds,
            },
            PeerMail::Answer {
                number: 3,
                version: 9,
                answer: ClusterAnswer::DeleteTopics(vec![Err(refusal)]),
            },
            PeerMail::Leaders(vec![
                unled,
                leadership.clone(),
                lagging(&[]),
                lagging(&[5, -6]),
            ]),
            PeerMail::Transfer {
                partition: leadership.partition,
                to: 3,
            },
            PeerMail::TakenIn { version: 1 << 40 },
            PeerMail::TakeRoom {
                number: 1 << 40,
                core: 513,
                bytes: 1 << 33,
            },
            PeerMail::Room {
                number: 1 << 41,
                wait_us: 1_000_000,
            },
            PeerMail::Survey {
                number: 9,
                partition: leadership.partition,
            },
            PeerMail::Surveyed {
                number: 9,
                holding: Box::new(Holding {
                    node: 2,
                    voters: vec![1 << 32 | 1, 2 << 32 | 1],
                    unfit: Some("fenced".to_owned()),
                    ..Holding::default()
                }),
            },
            PeerMail::Declines {
                core: 515,
                why: Why::DiskFull,
            },
            PeerMail::Declines {
                core: 0,
                why: Why::Stopping,
            },
            PeerMail::Nodes(vec![(4, "broker-4:9192".to_owned())]),
        ];
        for mail in said {
            let (kind, payload) = mail.clone().encode();
            let heard = PeerMail::decode(kind, payload.clone()).expect("own encoding");
            assert_eq!(format!("{mail:?}"), format!("{heard:?}"));
            let cut = payload.slice(..payload.len() - 1);
            assert!(PeerMail::decode(kind, cut).is_err());
        }
        assert!(PeerMail::decode(200, Bytes::new()).is_err());
    }
}
