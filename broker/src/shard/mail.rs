//! What the cores of a node say to one another.
//!
//! Each variant says who sends it, what answers it and what heals its loss. Mail within a node is not lost
//! (the runtime delivers in order, per pair of cores); what can happen is that the sender has gone away in the
//! meantime, so answers to unknown asks are dropped silently. The number of asks in flight is bounded by the
//! requests that the connections have admitted.

use super::throttle::TakeRoom;
use crate::cluster::{ClusterAnswer, ClusterAsk, Record};
use crate::groups::{GroupRequest, GroupResponse, ListGroups, ListedGroup};
use bytes::Bytes;
use protocol::error::ErrorCode;
use runtime::{Instant, Parcel};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use storage::PartitionId;
use uuid::Uuid;

/// One piece of mail.
pub enum Mail {
    /// A core asks the owner of a partition, a group or the metadata. Answered by `Answer` with the same
    /// `ask`; the asker's own timeout heals a slow owner.
    Ask { ask: AskId, question: Question },
    /// The owner answers.
    Answer { ask: AskId, answer: Answer },
    /// A fetch waits at an owner, and the asker has enough from others or has given up: the owner answers
    /// at once with what it has. No answer of its own.
    Unwatch { ask: AskId },
    /// The metadata owner's core sends committed records, in order, to every core. Answered by
    /// `ViewApplied` once the core has taken them in and the partitions that they brought it can serve.
    View {
        version: u64,
        records: Arc<Vec<Record>>,
    },
    /// See `View`.
    ViewApplied { version: u64 },
    /// A core holds nothing of a deleted topic any more. To the metadata's core; said again at the next
    /// start if the node stops in between.
    Purged { topic: Uuid },
    /// To core 0 from itself: a request to the metadata's owner, to be taken up behind mail that it has just sent.
    DecideAgain {
        asker: super::metadata::Asker,
        request: Box<ClusterAsk>,
        hops: u8,
    },
    /// The core that accepts other nodes gives a connection to the core on which it is to land.
    PeerConnection {
        parcel: Parcel,
        hello: Box<crate::peers::Hello>,
    },
    /// What another node said to a core, from the core that heard it.
    Peer {
        from: i32,
        mail: super::peer_mail::PeerMail,
    },
    /// Raft messages of another node for partitions of the core that gets this.
    Raft(Vec<(PartitionId, raft_group::Message)>),
    /// A frame of beats for partitions of the core that gets this.
    Beats(raft_group::heartbeats::BeatFrame),
    /// A lead is wanted elsewhere: to the owner of a partition, which hands it over if it can.
    Transfer { partition: PartitionId, to: i32 },
    /// Core 0 has not heard from a node for a while, or hears it again.
    Heard { node: i32, heard: bool },
    /// All cores of another node have taken in the metadata up to a version: to every core.
    TakenIn { node: i32, version: u64 },
    /// A node wants no leads, this one or another: to every core. Said again while it lasts.
    Declines {
        node: i32,
        why: super::decliners::Why,
    },
    /// A node wants to know what this one has of a partition: to its owner. Answered to the asking node's core 0, by
    /// `Surveyed` if it is this one; who asked goes on without a lost answer.
    Survey {
        asker: i32,
        number: u64,
        partition: PartitionId,
    },
    /// See `Survey`.
    Surveyed {
        number: u64,
        holding: Box<crate::cluster::recovery::Holding>,
    },
    /// Where nodes listen for others, as another node knows it: to every core, which has links of its own.
    Nodes(std::sync::Arc<Vec<(i32, String)>>),
    /// An owner tells every core who leads its partitions since when, and who lags. Repeated on every change only:
    /// mail is not lost.
    Leaders(Arc<Vec<Leadership>>),
    /// A replica of the sender is closed.
    ReplicaClosed(PartitionId),
    /// The accepting core gives a fresh connection to the core with the fewest, and says through which
    /// of the node's listeners it came.
    Connection { parcel: Parcel, listener: usize },
    /// A core has one connection less, of this address and listener. To the accepting core, which
    /// counts them.
    ConnectionClosed { address: IpAddr, listener: usize },
    /// Core 0 has opened the data directory; every core may recover its part. Once, at the start.
    Begin(storage::DataIdentity, storage::Start),
    /// Core 0 listens on these ports, one for each listener; clients are told them where no others are
    /// advertised. Once, at the start.
    Listening { ports: Vec<u16> },
    /// This node knows what the cluster knew when it registered. From core 0, once, at the start.
    Abreast,
    /// The side thread wants this core's figures; answered through the channel inside.
    Observe(crate::observe::Request),
    /// The node stops: finish what was admitted, write a checkpoint, end. Sent by the signal watcher.
    Stop,
}

/// Names an ask of one core; a slot that is reused has a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId {
    pub slot: u32,
    pub generation: u32,
}

/// Who leads a partition, as its owner core knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub partition: PartitionId,
    /// The replica, as node and disk; None while there is no serving leader.
    pub leader: Option<raft_group::ReplicaId>,
    /// The Raft term.
    pub epoch: i32,
    /// The nodes whose replicas lag behind the leader; None if it is not the leader who says this.
    pub lagging: Option<Vec<i32>>,
}

/// What is asked of an owner.
pub enum Question {
    Produce(Produce),
    Fetch(Fetch),
    ListOffsets(Vec<ListOffset>),
    DeleteRecords(Vec<(PartitionId, i64)>),
    EpochEnds(Vec<EpochEnd>),
    /// Sizes on disk of these partitions, or of all that the core owns.
    LogSizes(Option<Vec<PartitionId>>),
    /// To core 0, which knows what the node may still move for replicas that catch up.
    TakeRoom(TakeRoom),
    /// To the core that owns the partition of `__consumer_offsets` that the group hashes to.
    Group {
        partition: PartitionId,
        request: Box<GroupRequest>,
    },
    /// Groups of all coordinators on the core.
    Groups(ListGroups),
    /// To core 0, which owns the metadata replica.
    Cluster(Box<ClusterAsk>),
}

/// Answers, in the order of [`Question`].
pub enum Answer {
    Produce(Vec<Produced>),
    Fetch(Vec<Fetched>),
    ListOffsets(Vec<ListedOffset>),
    DeleteRecords(Vec<Result<i64, ErrorCode>>),
    EpochEnds(Vec<Result<(i32, i64), ErrorCode>>),
    LogSizes(Vec<(PartitionId, u64)>),
    TakeRoom(Option<Duration>),
    Group(Box<GroupResponse>),
    Groups(Result<Vec<ListedGroup>, ErrorCode>),
    Cluster(Box<ClusterAnswer>),
}

/// Batches for partitions of one owner, validated by the asking core.
pub struct Produce {
    pub partitions: Vec<(PartitionId, Bytes)>,
    /// False for acks=0: append and forget.
    pub answer: bool,
}

/// The outcome for one partition of a [`Produce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub error: ErrorCode,
    /// -1 if there is none.
    pub base_offset: i64,
    pub log_start_offset: i64,
    /// The leader's epoch for the client's KIP-951 hint; -1 unless the error is about leadership.
    pub leader_epoch: i32,
}

/// A fetch from partitions of one owner.
#[derive(Clone)]
pub struct Fetch {
    pub partitions: Vec<FetchPartition>,
    /// Over all partitions; the first batch comes whole even if it is larger.
    pub max_bytes: usize,
    /// Answer when this much is there, at the latest at `deadline`.
    pub min_bytes: usize,
    /// None: answer with what there is now.
    pub deadline: Option<Instant>,
    pub read_committed: bool,
}

#[derive(Clone, Debug)]
pub struct FetchPartition {
    pub partition: PartitionId,
    pub offset: i64,
    pub max_bytes: usize,
    /// -1: the client does not know.
    pub current_leader_epoch: i32,
    /// -1: not given (KIP-320, v12).
    pub last_fetched_epoch: i32,
    pub from: ReadFrom,
}

/// Which replica a reader may be served by (KIP-392).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The leader.
    Leader,
    /// This node's, whether it leads or follows: it is in the reader's rack, and in sync.
    Here,
    /// These nodes are in the reader's rack, and in sync, and this one is not there: if it leads it names one of them.
    OneOf(Vec<i32>),
}

/// One partition of a fetch answer.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub leader_epoch: i32,
    /// The fetcher's log diverged: its last epoch ends at this offset in ours (KIP-320).
    pub diverging: Option<(i32, i64)>,
    /// The node that the reader is to ask instead; -1: this one.
    pub preferred_replica: i32,
    /// Whole batches, as they lie in memory or came from disk.
    pub records: Vec<Bytes>,
}

/// Which offset is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    Earliest,
    Latest,
    MaxTimestamp,
    /// The first offset whose timestamp is at or above this, in ms.
    Timestamp(i64),
}

#[derive(Clone, Copy, Debug)]
pub struct ListOffset {
    pub partition: PartitionId,
    pub spec: OffsetSpec,
    pub current_leader_epoch: i32,
    pub read_committed: bool,
    /// A tool that looks into this very replica, led or not, and beyond the high watermark.
    pub debugging: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    pub error: ErrorCode,
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

#[derive(Clone, Copy, Debug)]
pub struct EpochEnd {
    pub partition: PartitionId,
    pub epoch: i32,
    pub current_leader_epoch: i32,
}

/// Ties a question to the answer that it gets, so that an asker need not match.
pub trait Asks: Sized {
    type Answer;
    fn question(self) -> Question;
    /// None if the answer is of another kind, which would be our own mistake.
    fn answer(answer: Answer) -> Option<Self::Answer>;
}

macro_rules! asks {
    ($($question:ty => $variant:ident -> $answer:ty;)*) => {$(
        impl Asks for $question {
            type Answer = $answer;
            fn question(self) -> Question {
                Question::$variant(self.into())
            }
            fn answer(answer: Answer) -> Option<$answer> {
                match answer {
                    Answer::$variant(answer) => Some(answer),
                    _ => None,
                }
            }
        }
    )*};
}

asks! {
    Produce => Produce -> Vec<Produced>;
    Fetch => Fetch -> Vec<Fetched>;
    Vec<ListOffset> => ListOffsets -> Vec<ListedOffset>;
    Vec<(PartitionId, i64)> => DeleteRecords -> Vec<Result<i64, ErrorCode>>;
    Vec<EpochEnd> => EpochEnds -> Vec<Result<(i32, i64), ErrorCode>>;
    Option<Vec<PartitionId>> => LogSizes -> Vec<(PartitionId, u64)>;
    TakeRoom => TakeRoom -> Option<Duration>;
    ListGroups => Groups -> Result<Vec<ListedGroup>, ErrorCode>;
    ClusterAsk => Cluster -> Box<ClusterAnswer>;
}

/// A request to the coordinator of a group, in the owner core of its partition of the offsets topic.
pub struct AskGroup {
    /// Of the offsets topic.
    pub partition: PartitionId,
    pub request: GroupRequest,
}

impl Asks for AskGroup {
    type Answer = Box<GroupResponse>;

    fn question(self) -> Question {
        Question::Group {
            partition: self.partition,
            request: Box::new(self.request),
        }
    }

    fn answer(answer: Answer) -> Option<Box<GroupResponse>> {
        match answer {
            Answer::Group(response) => Some(response),
            _ => None,
        }
    }
}
