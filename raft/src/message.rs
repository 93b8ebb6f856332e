//! What replicas of a group say to each other, in our own types.
//!
//! The raft crate speaks protobuf structs. They stay inside this crate: nothing outside sees them,
//! nothing from the network is parsed into them by the protobuf crate (its parser recurses without
//! a bound, RUSTSEC-2024-0437), and the raft crate can be replaced without touching the wire.
//!
//! Deliberately absent: forwarded proposals and read-index messages (a client is sent to the leader
//! instead).

use bytes::Bytes;
use raft::eraftpb;
use raft::eraftpb::MessageType;
use storage::EntryKind;

use crate::confirm;
use crate::members::{Membership, ReplicaId};
use crate::snapshot::Snapshot;

/// Terms are leader epochs, and a leader epoch is an `i32` on the wire of Kafka clients.
pub const TERM_MAX: u64 = i32::MAX as u64;

/// A message from one replica of a group to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub from: ReplicaId,
    pub to: ReplicaId,
    /// The sender's term; of a (pre-)vote the term that is campaigned for.
    pub term: u64,
    pub body: Body,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Leader to follower. Heals its own loss: a later message is rejected and the leader probes.
    Append(Append),
    /// Answers `Append`, after what it acknowledges is on stable storage.
    AppendReply {
        index: u64,
        commit: u64,
        reject: Option<Reject>,
    },
    /// Candidate to voters; lost ones are made up for by the next campaign.
    Vote(Vote),
    /// Answers `Vote`, after the vote is on stable storage.
    VoteReply {
        pre: bool,
        reject: bool,
        commit: u64,
        commit_term: u64,
    },
    /// Leader to followers, periodically, unless the group sleeps. Travels in frames of its own:
    /// [`crate::heartbeats`]. With `sleep` the follower is asked to sleep until it is woken.
    /// `read` is the number of the read that the answer is to confirm, 0 for none:
    /// [`crate::confirm`].
    Heartbeat { commit: u64, sleep: bool, read: u64 },
    /// Answers `Heartbeat`, with its `read`; with `sleep` the sender sleeps from now on.
    HeartbeatReply { commit: u64, sleep: bool, read: u64 },
    /// Leader to a follower that needs entries which are gone. Answered by an `AppendReply`, after
    /// the log that it begins is on stable storage. If it is lost, the leader sends another one
    /// when it has waited long enough.
    Snapshot(Box<Snapshot>),
    /// Leader to the voter that shall campaign at once (transfer of leadership). If it is lost the
    /// leader takes its leadership up again after an election timeout.
    TimeoutNow,
}

impl Body {
    /// A heartbeat, or the answer to one: they say the same things.
    pub(crate) fn beat(answer: bool, commit: u64, sleep: bool, read: u64) -> Body {
        match answer {
            true => Body::HeartbeatReply {
                commit,
                sleep,
                read,
            },
            false => Body::Heartbeat {
                commit,
                sleep,
                read,
            },
        }
    }
}

/// Entries that follow `prev_index` without a gap; none in a probe or a mere commit notice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    pub prev_index: u64,
    pub prev_term: u64,
    pub commit: u64,
    pub entries: Vec<Entry>,
}

/// An entry on its way; its index is its place in the [`Append`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub term: u64,
    pub kind: EntryKind,
    /// Shared with the log of the sender; as stored, so with offsets and leader epoch in place.
    pub data: Bytes,
}

/// The follower's log does not hold `(index, term)` of the append; where to try next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Reject {
    pub hint_index: u64,
    pub hint_term: u64,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Vote {
    /// A pre-vote: "would you vote for me?", without anybody's term moving.
    pub pre: bool,
    /// The leader has asked the sender to take over, so the receiver ignores its leader lease.
    pub transfer: bool,
    pub last_index: u64,
    pub last_term: u64,
    pub commit: u64,
    pub commit_term: u64,
}

/// One static byte per kind: the raft crate carries it in the entry's context, allocation-free.
static KINDS: [u8; 5] = [0, 1, 2, 3, 4];

const fn code(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Batch => 0,
        EntryKind::NoOp => 1,
        EntryKind::Membership => 2,
        EntryKind::LogStart => 3,
        EntryKind::Command => 4,
    }
}

/// The number of an entry kind on the wire.
pub(crate) fn kind_code(kind: EntryKind) -> u8 {
    code(kind)
}

/// The inverse of [`kind_code`].
pub(crate) fn kind_of_code(number: u8) -> Option<EntryKind> {
    let kinds = [
        EntryKind::Batch,
        EntryKind::NoOp,
        EntryKind::Membership,
        EntryKind::LogStart,
        EntryKind::Command,
    ];
    kinds.into_iter().find(|kind| code(*kind) == number)
}

/// How many offsets an entry takes; `None` if its content is not what its kind asks for. Nobody
/// else looks: what passes here must be acceptable to the journal of every replica.
pub(crate) fn offsets_of(kind: EntryKind, data: &[u8]) -> Option<u32> {
    match kind {
        EntryKind::Batch => batch_offsets(data),
        EntryKind::Command => Some(1),
        EntryKind::NoOp => Some(0),
        EntryKind::LogStart => (data.len() == 8).then_some(0),
        EntryKind::Membership => Membership::decode(data).is_ok().then_some(0),
    }
}

/// A record batch of magic 2 (KIP-98): its length field names the whole of it, and the delta of its
/// last offset is not negative.
fn batch_offsets(batch: &[u8]) -> Option<u32> {
    const HEADER_BYTES: usize = 61;
    const BEFORE_LENGTH_BYTES: usize = 12;
    if batch.len() < HEADER_BYTES || batch[16] != 2 {
        return None;
    }
    let number = |at: usize| i32::from_be_bytes([0, 1, 2, 3].map(|i| batch[at + i]));
    let length = usize::try_from(number(8)).ok()? + BEFORE_LENGTH_BYTES;
    let delta = u32::try_from(number(23))
        .ok()
        .filter(|delta| *delta < i32::MAX as u32)?;
    (length == batch.len()).then_some(delta + 1)
}

/// An entry in the raft crate's terms. `data` is shared, not copied.
pub(crate) fn raft_entry(kind: EntryKind, term: u64, index: u64, data: Bytes) -> eraftpb::Entry {
    let at = usize::from(code(kind));
    let context = Bytes::from_static(&KINDS[at..=at]);
    let mut entry = eraftpb::Entry {
        term,
        index,
        data,
        context,
        ..Default::default()
    };
    if kind == EntryKind::Membership {
        entry.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
    }
    entry
}

/// The kind of an entry of the raft crate. Without a context it is the no-op with which the crate
/// itself opens a term.
pub(crate) fn kind_of(entry: &eraftpb::Entry) -> EntryKind {
    match entry.context.first() {
        None => EntryKind::NoOp,
        Some(number) => kind_of_code(*number)
            .unwrap_or_else(|| panic!("entry {} of unknown kind {number}", entry.index)),
    }
}

/// The message in the raft crate's terms.
pub(crate) fn to_raft(message: Message) -> eraftpb::Message {
    let (from, to) = (message.from.as_u64(), message.to.as_u64());
    let mut out = eraftpb::Message {
        from,
        to,
        term: message.term,
        ..Default::default()
    };
    match message.body {
        Body::Append(append) => append_to_raft(append, &mut out),
        Body::AppendReply {
            index,
            commit,
            reject,
        } => {
            out.set_msg_type(MessageType::MsgAppendResponse);
            out.index = index;
            out.commit = commit;
            if let Some(reject) = reject {
                out.reject = true;
                out.reject_hint = reject.hint_index;
                out.log_term = reject.hint_term;
            }
        }
        Body::Vote(vote) => vote_to_raft(vote, &mut out),
        Body::VoteReply {
            pre,
            reject,
            commit,
            commit_term,
        } => {
            out.set_msg_type(if pre {
                MessageType::MsgRequestPreVoteResponse
            } else {
                MessageType::MsgRequestVoteResponse
            });
            out.reject = reject;
            out.commit = commit;
            out.commit_term = commit_term;
        }
        Body::Heartbeat { commit, read, .. } => {
            out.set_msg_type(MessageType::MsgHeartbeat);
            out.commit = commit;
            out.context = confirm::context_of(read);
        }
        Body::HeartbeatReply { commit, read, .. } => {
            out.set_msg_type(MessageType::MsgHeartbeatResponse);
            out.commit = commit;
            out.context = confirm::context_of(read);
        }
        Body::Snapshot(snapshot) => {
            out.set_msg_type(MessageType::MsgSnapshot);
            out.set_snapshot(raft_snapshot(&snapshot));
        }
        Body::TimeoutNow => out.set_msg_type(MessageType::MsgTimeoutNow),
    }
    out
}

/// A snapshot in the raft crate's terms, which looks at the members and where the log begins; the
/// rest is opaque to it.
pub(crate) fn raft_snapshot(snapshot: &Snapshot) -> eraftpb::Snapshot {
    let mut out = eraftpb::Snapshot {
        data: snapshot.encode(),
        ..Default::default()
    };
    let metadata = out.mut_metadata();
    metadata.index = snapshot.index;
    metadata.term = snapshot.term;
    metadata.set_conf_state(snapshot.configuration.members.to_conf_state());
    out
}

/// The inverse of [`raft_snapshot`].
pub(crate) fn snapshot_of(snapshot: &eraftpb::Snapshot) -> Snapshot {
    Snapshot::decode(&snapshot.data).unwrap_or_else(|error| panic!("our own encoding: {error}"))
}

fn append_to_raft(append: Append, out: &mut eraftpb::Message) {
    out.set_msg_type(MessageType::MsgAppend);
    out.index = append.prev_index;
    out.log_term = append.prev_term;
    out.commit = append.commit;
    let first = append.prev_index + 1;
    let entries = append.entries.into_iter().zip(first..);
    out.entries = entries
        .map(|(entry, index)| raft_entry(entry.kind, entry.term, index, entry.data))
        .collect::<Vec<_>>()
        .into();
}

fn vote_to_raft(vote: Vote, out: &mut eraftpb::Message) {
    out.set_msg_type(if vote.pre {
        MessageType::MsgRequestPreVote
    } else {
        MessageType::MsgRequestVote
    });
    out.index = vote.last_index;
    out.log_term = vote.last_term;
    out.commit = vote.commit;
    out.commit_term = vote.commit_term;
    if vote.transfer {
        out.context = Bytes::from_static(raft::CAMPAIGN_TRANSFER);
    }
}

/// The message of the raft crate in our terms. Panics on what we never let it say: the caller
/// fences the replica.
pub(crate) fn from_raft(mut message: eraftpb::Message) -> Message {
    let identity = |number| {
        ReplicaId::from_u64(number).unwrap_or_else(|| panic!("no replica has identity {number}"))
    };
    let reject = message.reject.then_some(Reject {
        hint_index: message.reject_hint,
        hint_term: message.log_term,
    });
    let pre = matches!(
        message.get_msg_type(),
        MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse
    );
    let body = match message.get_msg_type() {
        MessageType::MsgAppend => Body::Append(Append {
            prev_index: message.index,
            prev_term: message.log_term,
            commit: message.commit,
            entries: message
                .take_entries()
                .into_iter()
                .map(|entry| Entry {
                    term: entry.term,
                    kind: kind_of(&entry),
                    data: entry.data,
                })
                .collect(),
        }),
        MessageType::MsgAppendResponse => Body::AppendReply {
            index: message.index,
            commit: message.commit,
            reject,
        },
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => Body::Vote(Vote {
            pre,
            transfer: message.context == raft::CAMPAIGN_TRANSFER,
            last_index: message.index,
            last_term: message.log_term,
            commit: message.commit,
            commit_term: message.commit_term,
        }),
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            Body::VoteReply {
                pre,
                reject: message.reject,
                commit: message.commit,
                commit_term: message.commit_term,
            }
        }
        kind @ (MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse) => {
            let answer = kind == MessageType::MsgHeartbeatResponse;
            let read = confirm::read_of(&message.context);
            Body::beat(answer, message.commit, false, read)
        }
        MessageType::MsgSnapshot => Body::Snapshot(Box::new(snapshot_of(message.get_snapshot()))),
        MessageType::MsgTimeoutNow => Body::TimeoutNow,
        other => panic!("the raft crate says {other:?}, which no group of ours uses"),
    };
    Message {
        from: identity(message.from),
        to: identity(message.to),
        term: message.term,
        body,
    }
}
