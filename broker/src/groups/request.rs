//! What clients ask of a group coordinator, free of wire versions.
//!
//! Fields carry the names of Kafka's messages. Topics come as names; an id that the client gave
//! travels along as a number (zero: none). Behaviour that depends on the request's version gets
//! that version in `api_version`. Must not know how any of this is encoded.

use bytes::Bytes;

/// One request for one group (or, for [`ListGroups`], for all of them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRequest {
    /// Joins a group or joins it again.
    JoinGroup(JoinGroup),
    /// Brings (leader) or fetches (follower) the assignment of a generation.
    SyncGroup(SyncGroup),
    /// Keeps a session alive and asks whether a rebalance is under way.
    Heartbeat(Heartbeat),
    /// Ends memberships.
    LeaveGroup(LeaveGroup),
    /// Stores offsets.
    OffsetCommit(OffsetCommit),
    /// Stores offsets that count when the producer's transaction commits.
    TxnOffsetCommit(Producer, OffsetCommit),
    /// Reads offsets.
    OffsetFetch(OffsetFetch),
    /// Forgets offsets (KIP-496).
    OffsetDelete(OffsetDelete),
    /// Deletes an empty group with its offsets.
    DeleteGroup(DeleteGroup),
    /// Describes a group.
    DescribeGroup(DescribeGroup),
    /// Lists groups.
    ListGroups(ListGroups),
}

/// JoinGroup (11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroup {
    /// Decides about the two-step join (4 and up) and `skip_assignment` (9 and up).
    pub api_version: i16,
    /// The group.
    pub group_id: String,
    /// Without a heartbeat for this long the member is removed.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for this member; negative (version 0): as long as a session.
    pub rebalance_timeout_ms: i32,
    /// Empty when the member has none yet.
    pub member_id: String,
    /// Set for static members (KIP-345).
    pub group_instance_id: Option<String>,
    /// "consumer", "connect", ...
    pub protocol_type: String,
    /// In order of preference; of two with one name the first counts.
    pub protocols: Vec<JoinGroupProtocol>,
    /// From the request's header.
    pub client_id: String,
    /// Kafka writes it with a leading slash: "/127.0.0.1".
    pub client_host: String,
}

/// One assignment strategy that a member offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupProtocol {
    /// "range", "cooperative-sticky", ...
    pub name: String,
    /// Opaque to us, save for the subscription in those of type "consumer".
    pub metadata: Bytes,
}

/// SyncGroup (14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group_id: String,
    /// The generation that the join answered.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// Set for static members.
    pub group_instance_id: Option<String>,
    /// Checked when present (version 5 and up).
    pub protocol_type: Option<String>,
    /// Checked when present (version 5 and up).
    pub protocol_name: Option<String>,
    /// From the leader; empty from all others.
    pub assignments: Vec<SyncGroupAssignment>,
}

/// What the leader assigned to one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupAssignment {
    /// The member.
    pub member_id: String,
    /// Opaque to us.
    pub assignment: Bytes,
}

/// Heartbeat (12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group_id: String,
    /// The member's generation.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// Set for static members.
    pub group_instance_id: Option<String>,
}

/// LeaveGroup (13); versions 0 to 2 name one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroup {
    /// The group.
    pub group_id: String,
    /// Who leaves.
    pub members: Vec<MemberIdentity>,
}

/// A member by id, or (with an empty id) a static member by its instance id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberIdentity {
    /// Empty when an administrator removes a static member.
    pub member_id: String,
    /// Set for static members.
    pub group_instance_id: Option<String>,
}

/// The transactional producer that an offset commit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// The producer's id.
    pub id: i64,
    /// The producer's epoch; fencing is the partition's business.
    pub epoch: i16,
}

/// OffsetCommit (8) and the group's part of TxnOffsetCommit (28).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Decides which error a missing group gets.
    pub api_version: i16,
    /// The group.
    pub group_id: String,
    /// -1 for consumers that are not members of a group.
    pub generation_id: i32,
    /// Empty for consumers that are not members of a group.
    pub member_id: String,
    /// Set for static members.
    pub group_instance_id: Option<String>,
    /// -1: as the broker is configured.
    pub retention_time_ms: i64,
    /// What to store.
    pub topics: Vec<OffsetCommitTopic>,
}

/// Offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitTopic {
    /// The topic.
    pub name: String,
    /// Zero: unknown.
    pub topic_id: u128,
    /// Its partitions.
    pub partitions: Vec<OffsetCommitPartition>,
}

/// The offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitPartition {
    /// The partition.
    pub partition_index: i32,
    /// The next offset to read.
    pub committed_offset: i64,
    /// Leader epoch of the last record read, -1 when not known.
    pub committed_leader_epoch: i32,
    /// Any text of the client's.
    pub committed_metadata: Option<String>,
}

/// OffsetFetch (9), of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetch {
    /// The group.
    pub group_id: String,
    /// `None`: all that the group has.
    pub topics: Option<Vec<OffsetFetchTopic>>,
    /// Waits for commits under way and refuses what an open transaction may still change (KIP-447).
    pub require_stable: bool,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchTopic {
    /// The topic.
    pub name: String,
    /// Zero: unknown. Another id than the stored one hides the stored offset.
    pub topic_id: u128,
    /// Its partitions.
    pub partition_indexes: Vec<i32>,
}

/// OffsetDelete (47).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDelete {
    /// The group.
    pub group_id: String,
    /// What to forget.
    pub topics: Vec<OffsetDeleteTopic>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDeleteTopic {
    /// The topic.
    pub name: String,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// DeleteGroups (42), one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroup {
    /// The group.
    pub group_id: String,
}

/// DescribeGroups (15), one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeGroup {
    /// The group.
    pub group_id: String,
}

/// ListGroups (16).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListGroups {
    /// Names of states, case aside; empty: all.
    pub states_filter: Vec<String>,
    /// Names of group types, case aside; empty: all.
    pub types_filter: Vec<String>,
}

impl GroupRequest {
    /// The group that the request is for; none if it is for all.
    pub fn group_id(&self) -> Option<&str> {
        Some(match self {
            GroupRequest::JoinGroup(join) => &join.group_id,
            GroupRequest::SyncGroup(sync) => &sync.group_id,
            GroupRequest::Heartbeat(beat) => &beat.group_id,
            GroupRequest::LeaveGroup(leave) => &leave.group_id,
            GroupRequest::OffsetCommit(commit) | GroupRequest::TxnOffsetCommit(_, commit) => {
                &commit.group_id
            }
            GroupRequest::OffsetFetch(fetch) => &fetch.group_id,
            GroupRequest::OffsetDelete(delete) => &delete.group_id,
            GroupRequest::DeleteGroup(delete) => &delete.group_id,
            GroupRequest::DescribeGroup(describe) => &describe.group_id,
            GroupRequest::ListGroups(_) => return None,
        })
    }
}
