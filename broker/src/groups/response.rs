//! What a group coordinator answers, free of wire versions.
//!
//! Fields carry the names of Kafka's messages; what a version cannot say, the handler leaves out.
//! Must not know how any of this is encoded.

use bytes::Bytes;
use protocol::ErrorCode;

use super::group::GroupState;
use super::request::{GroupRequest, MemberIdentity, OffsetCommit};

/// The answer to the [`GroupRequest`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupResponse {
    /// See [`GroupRequest::JoinGroup`].
    JoinGroup(JoinGroupResponse),
    /// See [`GroupRequest::SyncGroup`].
    SyncGroup(SyncGroupResponse),
    /// See [`GroupRequest::Heartbeat`].
    Heartbeat(HeartbeatResponse),
    /// See [`GroupRequest::LeaveGroup`].
    LeaveGroup(LeaveGroupResponse),
    /// See [`GroupRequest::OffsetCommit`].
    OffsetCommit(OffsetCommitResponse),
    /// See [`GroupRequest::TxnOffsetCommit`].
    TxnOffsetCommit(OffsetCommitResponse),
    /// See [`GroupRequest::OffsetFetch`].
    OffsetFetch(OffsetFetchResponse),
    /// See [`GroupRequest::OffsetDelete`].
    OffsetDelete(OffsetDeleteResponse),
    /// See [`GroupRequest::DeleteGroup`].
    DeleteGroup(DeleteGroupResponse),
    /// See [`GroupRequest::DescribeGroup`].
    DescribeGroup(DescribeGroupResponse),
    /// See [`GroupRequest::ListGroups`].
    ListGroups(ListGroupsResponse),
}

/// JoinGroup (11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupResponse {
    /// What went wrong.
    pub error_code: ErrorCode,
    /// -1 with most errors.
    pub generation_id: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol that the generation uses; an empty string before version 7.
    pub protocol_name: Option<String>,
    /// Member id of the leader.
    pub leader: String,
    /// Tells a leader that came back that nothing needs to be assigned (KIP-814).
    pub skip_assignment: bool,
    /// The member's id, given by us on its first join.
    pub member_id: String,
    /// All members, for the leader only.
    pub members: Vec<JoinGroupResponseMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupResponseMember {
    /// The member.
    pub member_id: String,
    /// Set for static members.
    pub group_instance_id: Option<String>,
    /// What it said under the chosen protocol.
    pub metadata: Bytes,
}

/// SyncGroup (14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupResponse {
    /// What went wrong.
    pub error_code: ErrorCode,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The protocol of the generation.
    pub protocol_name: Option<String>,
    /// What the leader assigned.
    pub assignment: Bytes,
}

/// Heartbeat (12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// What went wrong; `REBALANCE_IN_PROGRESS` calls the member to join again.
    pub error_code: ErrorCode,
}

/// LeaveGroup (13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupResponse {
    /// What went wrong with the whole. Before version 3 the handler puts the one member's error
    /// here.
    pub error_code: ErrorCode,
    /// In the order of the request.
    pub members: Vec<LeaveGroupResponseMember>,
}

/// What became of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupResponseMember {
    /// As in the request.
    pub member_id: String,
    /// As in the request.
    pub group_instance_id: Option<String>,
    /// What went wrong.
    pub error_code: ErrorCode,
}

/// OffsetCommit (8) and TxnOffsetCommit (28).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitResponse {
    /// In the order of the request.
    pub topics: Vec<TopicResult>,
}

/// Results for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicResult {
    /// As in the request.
    pub name: String,
    /// As in the request.
    pub topic_id: u128,
    /// In the order of the request.
    pub partitions: Vec<PartitionResult>,
}

/// The result for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionResult {
    /// The partition.
    pub partition_index: i32,
    /// What went wrong.
    pub error_code: ErrorCode,
}

/// OffsetFetch (9), of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchResponse {
    /// What went wrong with the whole.
    pub error_code: ErrorCode,
    /// In the order of the request; sorted by name when all were asked for.
    pub topics: Vec<OffsetFetchResponseTopic>,
}

/// Offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchResponseTopic {
    /// The topic.
    pub name: String,
    /// As in the request; zero when all were asked for.
    pub topic_id: u128,
    /// In the order of the request.
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

/// The offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchResponsePartition {
    /// The partition.
    pub partition_index: i32,
    /// -1: none.
    pub committed_offset: i64,
    /// -1: not known.
    pub committed_leader_epoch: i32,
    /// Empty when there is none.
    pub metadata: String,
    /// `UNSTABLE_OFFSET_COMMIT` where an open transaction may still change it.
    pub error_code: ErrorCode,
}

/// OffsetDelete (47).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDeleteResponse {
    /// What went wrong with the whole.
    pub error_code: ErrorCode,
    /// In the order of the request; ids are zero.
    pub topics: Vec<TopicResult>,
}

/// DeleteGroups (42), one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroupResponse {
    /// What went wrong.
    pub error_code: ErrorCode,
}

/// DescribeGroups (15), one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeGroupResponse {
    /// What went wrong. Not set for an unknown group.
    pub error_code: ErrorCode,
    /// As in the request.
    pub group_id: String,
    /// `Dead` for a group that does not exist: from version 6 the handler makes that
    /// `GROUP_ID_NOT_FOUND`.
    pub group_state: GroupState,
    /// Empty for groups that only store offsets.
    pub protocol_type: String,
    /// The chosen protocol of a stable group, otherwise empty.
    pub protocol_data: String,
    /// Sorted by id.
    pub members: Vec<DescribedGroupMember>,
}

/// A member as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroupMember {
    /// The member.
    pub member_id: String,
    /// Set for static members.
    pub group_instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// What it said under the chosen protocol; empty unless the group is stable.
    pub member_metadata: Bytes,
    /// What the leader assigned.
    pub member_assignment: Bytes,
}

/// ListGroups (16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListGroupsResponse {
    /// What went wrong.
    pub error_code: ErrorCode,
    /// Sorted by id.
    pub groups: Vec<ListedGroup>,
}

/// One line of the list. Its type is always `classic`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group_id: String,
    /// Empty for groups that only store offsets.
    pub protocol_type: String,
    /// The group's state.
    pub group_state: GroupState,
}

/// Kafka's name for the type of all groups here.
pub const CLASSIC_GROUP_TYPE: &str = "classic";

impl GroupResponse {
    /// The answer to `request` when nothing was done because of `error`.
    pub fn refusal(request: &GroupRequest, error: ErrorCode) -> GroupResponse {
        match request {
            GroupRequest::JoinGroup(join) => {
                GroupResponse::JoinGroup(JoinGroupResponse::failed(error, &join.member_id))
            }
            GroupRequest::SyncGroup(_) => {
                GroupResponse::SyncGroup(SyncGroupResponse::failed(error))
            }
            GroupRequest::Heartbeat(_) => {
                GroupResponse::Heartbeat(HeartbeatResponse { error_code: error })
            }
            GroupRequest::LeaveGroup(_) => GroupResponse::LeaveGroup(LeaveGroupResponse {
                error_code: error,
                members: vec![],
            }),
            GroupRequest::OffsetCommit(commit) => {
                GroupResponse::OffsetCommit(OffsetCommitResponse::uniform(commit, error))
            }
            GroupRequest::TxnOffsetCommit(_, commit) => {
                GroupResponse::TxnOffsetCommit(OffsetCommitResponse::uniform(commit, error))
            }
            GroupRequest::OffsetFetch(_) => GroupResponse::OffsetFetch(OffsetFetchResponse {
                error_code: error,
                topics: vec![],
            }),
            GroupRequest::OffsetDelete(_) => GroupResponse::OffsetDelete(OffsetDeleteResponse {
                error_code: error,
                topics: vec![],
            }),
            GroupRequest::DeleteGroup(_) => {
                GroupResponse::DeleteGroup(DeleteGroupResponse { error_code: error })
            }
            GroupRequest::DescribeGroup(describe) => {
                GroupResponse::DescribeGroup(DescribeGroupResponse {
                    error_code: error,
                    ..DescribeGroupResponse::dead(&describe.group_id)
                })
            }
            GroupRequest::ListGroups(_) => GroupResponse::ListGroups(ListGroupsResponse {
                error_code: error,
                groups: vec![],
            }),
        }
    }

    /// What this answer becomes when the write that it promises has failed with `error`.
    pub(super) fn retracted(self, error: ErrorCode) -> GroupResponse {
        match self {
            GroupResponse::OffsetCommit(response) => {
                GroupResponse::OffsetCommit(response.overruled(error))
            }
            GroupResponse::TxnOffsetCommit(response) => {
                GroupResponse::TxnOffsetCommit(response.overruled(error))
            }
            GroupResponse::OffsetDelete(_) => GroupResponse::OffsetDelete(OffsetDeleteResponse {
                error_code: error,
                topics: vec![],
            }),
            GroupResponse::DeleteGroup(_) => {
                GroupResponse::DeleteGroup(DeleteGroupResponse { error_code: error })
            }
            GroupResponse::LeaveGroup(_) => GroupResponse::LeaveGroup(LeaveGroupResponse {
                error_code: error,
                members: vec![],
            }),
            GroupResponse::JoinGroup(response) => {
                GroupResponse::JoinGroup(JoinGroupResponse::failed(error, &response.member_id))
            }
            GroupResponse::SyncGroup(_) => {
                GroupResponse::SyncGroup(SyncGroupResponse::failed(error))
            }
            // Reads and heartbeats promise no write.
            read @ (GroupResponse::Heartbeat(_)
            | GroupResponse::OffsetFetch(_)
            | GroupResponse::DescribeGroup(_)
            | GroupResponse::ListGroups(_)) => read,
        }
    }
}

impl JoinGroupResponse {
    pub(super) fn failed(error: ErrorCode, member_id: &str) -> Self {
        JoinGroupResponse {
            error_code: error,
            generation_id: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: vec![],
        }
    }
}

impl SyncGroupResponse {
    pub(super) fn failed(error: ErrorCode) -> Self {
        SyncGroupResponse {
            error_code: error,
            protocol_type: None,
            protocol_name: None,
            assignment: Bytes::new(),
        }
    }
}

impl LeaveGroupResponseMember {
    pub(super) fn new(member: &MemberIdentity, error: ErrorCode) -> Self {
        LeaveGroupResponseMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            error_code: error,
        }
    }
}

impl OffsetCommitResponse {
    /// The same result for every partition of the request.
    pub(super) fn uniform(commit: &OffsetCommit, error: ErrorCode) -> Self {
        let topics = commit.topics.iter().map(|topic| TopicResult {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|p| PartitionResult {
                    partition_index: p.partition_index,
                    error_code: error,
                })
                .collect(),
        });
        OffsetCommitResponse {
            topics: topics.collect(),
        }
    }

    fn overruled(mut self, error: ErrorCode) -> Self {
        for topic in &mut self.topics {
            for partition in &mut topic.partitions {
                partition.error_code = error;
            }
        }
        self
    }
}

impl DescribeGroupResponse {
    /// What a group that does not exist looks like.
    pub(super) fn dead(group_id: &str) -> Self {
        DescribeGroupResponse {
            error_code: ErrorCode::NONE,
            group_id: group_id.to_owned(),
            group_state: GroupState::Dead,
            protocol_type: String::new(),
            protocol_data: String::new(),
            members: vec![],
        }
    }
}

macro_rules! answers {
    ($($variant:ident($response:ty))*) => {
        $(impl From<$response> for GroupResponse {
            fn from(response: $response) -> Self {
                GroupResponse::$variant(response)
            }
        })*
    };
}

answers! {
    JoinGroup(JoinGroupResponse)
    SyncGroup(SyncGroupResponse)
    Heartbeat(HeartbeatResponse)
    LeaveGroup(LeaveGroupResponse)
    OffsetFetch(OffsetFetchResponse)
    OffsetDelete(OffsetDeleteResponse)
    DeleteGroup(DeleteGroupResponse)
    DescribeGroup(DescribeGroupResponse)
    ListGroups(ListGroupsResponse)
}
