//! FindCoordinator (10) v0-6, JoinGroup (11) v0-9, SyncGroup (14) v0-5, Heartbeat (12) v0-4, LeaveGroup (13) v0-5,
//! ListGroups (16) v0-5, DescribeGroups (15) v0-6, DeleteGroups (42) v0-3.
//!
//! Behaviour: a group lives in the partition of `__consumer_offsets` that its id hashes to; its coordinator runs on
//! the core that owns that partition, and decides there (`crate::groups`). These handlers translate and carry. The
//! offsets topic comes to be with the first FindCoordinator.
//!
//! Not done: transaction coordinators (see `producer_ids` for what clients are told), share groups (key type 2:
//! UNSUPPORTED_VERSION), consumer groups of KIP-848.

use super::Session;
use super::metadata::{GROUP_OPERATIONS, automatic};
use super::topics::LEADERS_WITHIN;
use crate::cluster::{ClusterAsk, METADATA_CORE, OFFSETS_TOPIC};
use crate::groups::{self as core, CLASSIC_GROUP_TYPE, GroupRequest, GroupResponse};
use crate::shard::mail::AskGroup;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::time::Duration;

/// What a client with a transactional id is told.
const NO_TRANSACTIONS: &str = "Transactions are not supported by this version of the broker.";
/// FindCoordinator's key types.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

pub async fn find_coordinator(
    session: &Session,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = match version {
        4.. => request.coordinator_keys,
        _ => vec![request.key],
    };
    let error = match request.key_type {
        GROUP => offsets_topic(session)
            .await
            .err()
            .unwrap_or(ErrorCode::NONE),
        TRANSACTION => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        SHARE => ErrorCode::UNSUPPORTED_VERSION,
        _ => ErrorCode::INVALID_REQUEST,
    };
    let found = keys.into_iter().map(|key| {
        let error = match error {
            ErrorCode::NONE if request.key_type == GROUP && key.is_empty() => {
                ErrorCode::INVALID_GROUP_ID
            }
            error => error,
        };
        coordinator(session, key, error)
    });
    let mut response = FindCoordinatorResponse::default();
    match version {
        4.. => response.coordinators = found.collect(),
        _ => {
            for found in found {
                response.error_code = found.error_code;
                response.error_message = found.error_message;
                response.node_id = found.node_id;
                response.host = found.host;
                response.port = found.port;
            }
        }
    }
    response
}

fn coordinator(session: &Session, key: Str, error: ErrorCode) -> Coordinator {
    if error != ErrorCode::NONE {
        let sentence = match error {
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => NO_TRANSACTIONS,
            error => error.description(),
        };
        let error_message = Some(sentence.into());
        return Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: error,
            error_message,
            ..Coordinator::default()
        };
    }
    let Some(endpoint) = coordinator_node(session, &key) else {
        return coordinator(session, key, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    };
    Coordinator {
        key,
        node_id: endpoint.node_id,
        host: endpoint.host,
        port: endpoint.port,
        ..Coordinator::default()
    }
}

/// The node that leads the partition of the offsets topic in which the group lives.
fn coordinator_node(session: &Session, group: &str) -> Option<NodeEndpoint> {
    let (partition, _) = session.shard.coordinator_of(group)?;
    let view = session.shard.view.borrow();
    let leader = view.leader(partition)?;
    super::metadata::endpoint_of(session, &view, leader.node)
}

/// Makes sure that there is an offsets topic.
async fn offsets_topic(session: &Session) -> Result<(), ErrorCode> {
    let wanted = {
        let view = session.shard.view.borrow();
        if view.cluster.topic(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        automatic(OFFSETS_TOPIC, &view)
    };
    let ask = ClusterAsk::CreateTopics {
        topics: vec![wanted],
        validate_only: false,
    };
    session.shard.ask(METADATA_CORE, ask).await;
    let deadline = session.shard.core.now() + LEADERS_WITHIN;
    let names = [OFFSETS_TOPIC].into_iter();
    session.shard.await_leaders(names, deadline).await;
    let exists = session
        .shard
        .view
        .borrow()
        .cluster
        .topic(OFFSETS_TOPIC)
        .is_some();
    // Two sessions may have raced for it: what counts is that it is there now.
    if exists {
        Ok(())
    } else {
        Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }
}

/// Carries a request to the coordinator of its group.
pub(super) async fn ask(session: &Session, group_id: &str, request: GroupRequest) -> GroupResponse {
    match session.shard.coordinator_of(group_id) {
        Some((partition, owner)) => {
            *session
                .shard
                .ask(owner, AskGroup { partition, request })
                .await
        }
        None => GroupResponse::refusal(&request, ErrorCode::NOT_COORDINATOR),
    }
}

/// As [`ask`], but answers COORDINATOR_NOT_AVAILABLE after a while: the outcome is not known then, and the client
/// tries again.
pub(super) async fn ask_within(
    session: &Session,
    group_id: &str,
    request: GroupRequest,
    patience: Duration,
) -> GroupResponse {
    let late = GroupResponse::refusal(&request, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let asked = ask(session, group_id, request);
    let answered = runtime::timeout(&session.shard.core, patience, asked).await;
    answered.unwrap_or(late)
}

/// Takes the one variant that a request is answered with.
macro_rules! answer {
    ($ask:expr, $variant:ident) => {
        match $ask {
            crate::groups::GroupResponse::$variant(response) => response,
            other => unreachable!("a coordinator answers in kind, not {other:?}"),
        }
    };
}
pub(super) use answer;

pub async fn join(
    session: &Session,
    header: &RequestHeader,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let group_id = request.group_id.clone();
    let ask_for = GroupRequest::JoinGroup(core::JoinGroup {
        api_version: header.version,
        group_id: request.group_id.to_string(),
        session_timeout_ms: request.session_timeout_ms,
        // Before v1 one timeout served both purposes.
        rebalance_timeout_ms: match header.version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(protocol).collect(),
        client_id: header.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: format!("/{}", session.peer.ip()),
    });
    let joined = answer!(ask(session, &group_id, ask_for).await, JoinGroup);
    let protocol_name = joined.protocol_name.map(Str::from);
    JoinGroupResponse {
        error_code: joined.error_code,
        generation_id: joined.generation_id,
        protocol_type: joined.protocol_type.map(Str::from),
        // Null came with v7.
        protocol_name: match header.version {
            7.. => protocol_name,
            _ => Some(protocol_name.unwrap_or_default()),
        },
        leader: joined.leader.into(),
        skip_assignment: header.version >= 9 && joined.skip_assignment,
        member_id: joined.member_id.into(),
        members: joined
            .members
            .into_iter()
            .map(|member| JoinGroupResponseMember {
                member_id: member.member_id.into(),
                group_instance_id: member.group_instance_id.map(Str::from),
                metadata: member.metadata,
            })
            .collect(),
        ..JoinGroupResponse::default()
    }
}

fn protocol(protocol: JoinGroupRequestProtocol) -> core::JoinGroupProtocol {
    // The bytes outlive the request by far, and must not hold its frame.
    let metadata = bytes::Bytes::copy_from_slice(&protocol.metadata);
    core::JoinGroupProtocol {
        name: protocol.name.to_string(),
        metadata,
    }
}

pub async fn sync(session: &Session, version: i16, request: SyncGroupRequest) -> SyncGroupResponse {
    let group_id = request.group_id.clone();
    // From v5 on both are to be given (KIP-559).
    if version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return SyncGroupResponse {
            error_code: ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
            ..SyncGroupResponse::default()
        };
    }
    let ask_for = GroupRequest::SyncGroup(core::SyncGroup {
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol_name: request.protocol_name.map(|name| name.to_string()),
        assignments: request
            .assignments
            .into_iter()
            .map(|one| core::SyncGroupAssignment {
                member_id: one.member_id.to_string(),
                assignment: bytes::Bytes::copy_from_slice(&one.assignment),
            })
            .collect(),
    });
    let synced = answer!(ask(session, &group_id, ask_for).await, SyncGroup);
    SyncGroupResponse {
        error_code: synced.error_code,
        protocol_type: synced.protocol_type.map(Str::from),
        protocol_name: synced.protocol_name.map(Str::from),
        assignment: synced.assignment,
        ..SyncGroupResponse::default()
    }
}

pub async fn heartbeat(session: &Session, request: HeartbeatRequest) -> HeartbeatResponse {
    let ask_for = GroupRequest::Heartbeat(core::Heartbeat {
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.as_deref().map(str::to_owned),
    });
    let beaten = answer!(ask(session, &request.group_id, ask_for).await, Heartbeat);
    HeartbeatResponse {
        error_code: beaten.error_code,
        ..HeartbeatResponse::default()
    }
}

pub async fn leave(
    session: &Session,
    version: i16,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let members = match version {
        3.. => request
            .members
            .into_iter()
            .map(|member| core::MemberIdentity {
                member_id: member.member_id.to_string(),
                group_instance_id: member.group_instance_id.map(|id| id.to_string()),
            })
            .collect(),
        _ => vec![core::MemberIdentity {
            member_id: request.member_id.to_string(),
            group_instance_id: None,
        }],
    };
    let group_id = request.group_id.to_string();
    let ask_for = GroupRequest::LeaveGroup(core::LeaveGroup { group_id, members });
    let left = answer!(ask(session, &request.group_id, ask_for).await, LeaveGroup);
    let mut response = LeaveGroupResponse {
        error_code: left.error_code,
        ..LeaveGroupResponse::default()
    };
    let members = left
        .members
        .into_iter()
        .map(|member| LeaveGroupResponseMember {
            member_id: member.member_id.into(),
            group_instance_id: member.group_instance_id.map(Str::from),
            error_code: member.error_code,
        });
    match version {
        3.. => response.members = members.collect(),
        // One member, whose error is the answer's.
        _ => {
            for member in members {
                if response.error_code == ErrorCode::NONE {
                    response.error_code = member.error_code;
                }
            }
        }
    }
    response
}

pub async fn list(session: &Session, request: ListGroupsRequest) -> ListGroupsResponse {
    let shard = &session.shard;
    let filter = core::ListGroups {
        states_filter: request
            .states_filter
            .iter()
            .map(|state| state.to_string())
            .collect(),
        types_filter: request
            .types_filter
            .iter()
            .map(|kind| kind.to_string())
            .collect(),
    };
    let asks: Vec<_> = (0..shard.core.cores())
        .map(|core| shard.ask_later(core, filter.clone()))
        .collect();
    let mut response = ListGroupsResponse::default();
    for ask in asks {
        match ask.await {
            Ok(listed) => response
                .groups
                .extend(listed.into_iter().map(|group| ListedGroup {
                    group_id: group.group_id.into(),
                    protocol_type: group.protocol_type.into(),
                    group_state: group.group_state.to_string().into(),
                    group_type: CLASSIC_GROUP_TYPE.into(),
                })),
            Err(code) => response.error_code = code,
        }
    }
    response
}

pub async fn describe(
    session: &Session,
    version: i16,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut response = DescribeGroupsResponse::default();
    for group_id in request.groups {
        let ask_for = GroupRequest::DescribeGroup(core::DescribeGroup {
            group_id: group_id.to_string(),
        });
        let described = answer!(ask(session, &group_id, ask_for).await, DescribeGroup);
        let mut group = described_group(group_id, described);
        let dead = group.error_code == ErrorCode::NONE && group.group_state.as_str() == "Dead";
        if version >= 6 && dead {
            group.error_code = ErrorCode::GROUP_ID_NOT_FOUND;
            let sentence = format!("Group {} not found.", group.group_id.as_str());
            group.error_message = Some(sentence.into());
        }
        if request.include_authorized_operations && group.error_code == ErrorCode::NONE {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        response.groups.push(group);
    }
    response
}

fn described_group(group_id: Str, described: core::DescribeGroupResponse) -> DescribedGroup {
    DescribedGroup {
        error_code: described.error_code,
        group_id,
        group_state: described.group_state.to_string().into(),
        protocol_type: described.protocol_type.into(),
        protocol_data: described.protocol_data.into(),
        members: described
            .members
            .into_iter()
            .map(|member| DescribedGroupMember {
                member_id: member.member_id.into(),
                group_instance_id: member.group_instance_id.map(Str::from),
                client_id: member.client_id.into(),
                client_host: member.client_host.into(),
                member_metadata: member.member_metadata,
                member_assignment: member.member_assignment,
            })
            .collect(),
        ..DescribedGroup::default()
    }
}

pub async fn delete(session: &Session, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut response = DeleteGroupsResponse::default();
    for group_id in request.groups_names {
        let ask_for = GroupRequest::DeleteGroup(core::DeleteGroup {
            group_id: group_id.to_string(),
        });
        let deleted = answer!(ask(session, &group_id, ask_for).await, DeleteGroup);
        response.results.push(DeletableGroupResult {
            group_id,
            error_code: deleted.error_code,
            ..DeletableGroupResult::default()
        });
    }
    response
}
