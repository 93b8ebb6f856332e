//! FindCoordinator (10), JoinGroup (11), Heartbeat (12), LeaveGroup (13), SyncGroup (14): the life
//! of a member of a classic group.
//!
//! Versions: FindCoordinator 1 key types, 3 flexible, 4 several keys (KIP-699), 6 share groups.
//! JoinGroup 1 rebalance timeout, 4 the member id is assigned before joining (KIP-394), 5 static
//! members (KIP-345), 6 flexible, 7 protocol type, 8 reason (KIP-800), 9 leaders that need not
//! assign (KIP-814). SyncGroup 3 static members, 4 flexible, 5 protocol. Heartbeat 3 static
//! members, 4 flexible. LeaveGroup 3 several members, 4 flexible, 5 reason.
//!
//! Metadata and assignments are opaque: Connect and Streams put formats of their own there.

use crate::codec::{Str, describe, since, until};
use crate::error::ErrorCode;
use bytes::Bytes;

describe! {
    /// Whose coordinator is wanted.
    pub struct FindCoordinatorRequest {
        /// The group or the transaction's id.
        key: Str [until(3)];
        /// What the keys are: 0 groups, 1 transactions, 2 share groups (`group:topicId:partition`).
        key_type: i8 [since(1)];
        /// The groups or the transactions' ids.
        coordinator_keys: Vec<Str> [since(4)];
    }
}

describe! {
    /// The coordinators.
    pub struct FindCoordinatorResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
        /// Error code, or 0.
        error_code: ErrorCode [until(3)];
        /// What is wrong, for people.
        error_message: Option<Str> [since(1).until(3).ignorable()];
        /// Node id of the coordinator; -1 with an error.
        node_id: i32 [until(3)];
        /// Its advertised host name or address.
        host: Str [until(3)];
        /// Its advertised port.
        port: i32 [until(3)];
        /// By key.
        coordinators: Vec<Coordinator> [since(4)];
    }

    /// The coordinator of one key.
    pub struct Coordinator {
        /// The key.
        key: Str [since(4)];
        /// Node id of the coordinator; -1 with an error.
        node_id: i32 [since(4)];
        /// Its advertised host name or address.
        host: Str [since(4)];
        /// Its advertised port.
        port: i32 [since(4)];
        /// Error code, or 0.
        error_code: ErrorCode [since(4)];
        /// What is wrong, for people.
        error_message: Option<Str> [since(4).ignorable()];
    }
}

describe! {
    /// Who wants to be in which group.
    pub struct JoinGroupRequest {
        /// The group.
        group_id: Str;
        /// A member that is silent for so long is taken for dead, in ms.
        session_timeout_ms: i32;
        /// How long a rebalance waits for the member to join again, in ms; -1 before version 1,
        /// where the session timeout serves.
        rebalance_timeout_ms: i32 [since(1).ignorable()] = -1;
        /// The member; empty for a new one.
        member_id: Str;
        /// The lasting name of a static member.
        group_instance_id: Option<Str> [since(5)];
        /// What kind of group it is: "consumer", "connect" and so on.
        protocol_type: Str;
        /// Assignors that the member supports, best first.
        protocols: Vec<JoinGroupRequestProtocol>;
        /// Why it joins, for people.
        reason: Option<Str> [since(8).ignorable()];
    }

    /// One assignor.
    pub struct JoinGroupRequestProtocol {
        /// Its name.
        name: Str;
        /// What the assignor wants to know of the member, such as its subscription.
        metadata: Bytes;
    }
}

describe! {
    /// The new generation.
    pub struct JoinGroupResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(2).ignorable()];
        /// Error code, or 0.
        error_code: ErrorCode;
        /// The generation's number; -1 with an error.
        generation_id: i32 = -1;
        /// What kind of group it is.
        protocol_type: Option<Str> [since(7).ignorable()];
        /// The assignor that all support; null (before version 7: empty) with an error.
        protocol_name: Option<Str> [since(0).null_since(7)] = Some(Str::new());
        /// The member that assigns.
        leader: Str;
        /// Whether the leader may keep the assignment as it is.
        skip_assignment: bool [since(9)];
        /// The id of the member that asked.
        member_id: Str;
        /// All members; only for the leader.
        members: Vec<JoinGroupResponseMember>;
    }

    /// One member, for the leader's eyes.
    pub struct JoinGroupResponseMember {
        /// Its id.
        member_id: Str;
        /// The lasting name of a static member.
        group_instance_id: Option<Str> [since(5).ignorable()];
        /// What it said about itself to the chosen assignor.
        metadata: Bytes;
    }
}

describe! {
    /// The leader's assignment; of the other members, the wish to hear theirs.
    pub struct SyncGroupRequest {
        /// The group.
        group_id: Str;
        /// The generation.
        generation_id: i32;
        /// Who asks.
        member_id: Str;
        /// The lasting name of a static member.
        group_instance_id: Option<Str> [since(3)];
        /// What kind of group the member takes it for.
        protocol_type: Option<Str> [since(5).ignorable()];
        /// The assignor that the member believes to be chosen.
        protocol_name: Option<Str> [since(5).ignorable()];
        /// By member; only from the leader.
        assignments: Vec<SyncGroupRequestAssignment>;
    }

    /// What one member gets.
    pub struct SyncGroupRequestAssignment {
        /// The member.
        member_id: Str;
        /// Its share.
        assignment: Bytes;
    }
}

describe! {
    /// What the member gets.
    pub struct SyncGroupResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What kind of group it is.
        protocol_type: Option<Str> [since(5).ignorable()];
        /// The chosen assignor.
        protocol_name: Option<Str> [since(5).ignorable()];
        /// The member's share.
        assignment: Bytes;
    }
}

describe! {
    /// A sign of life.
    pub struct HeartbeatRequest {
        /// The group.
        group_id: Str;
        /// The generation.
        generation_id: i32;
        /// Who lives.
        member_id: Str;
        /// The lasting name of a static member.
        group_instance_id: Option<Str> [since(3)];
    }
}

describe! {
    /// Whether all is well, or a rebalance is on.
    pub struct HeartbeatResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
        /// Error code, or 0.
        error_code: ErrorCode;
    }
}

describe! {
    /// Who goes. Admins use it too, to remove members.
    pub struct LeaveGroupRequest {
        /// The group.
        group_id: Str;
        /// The member.
        member_id: Str [until(2)];
        /// The members.
        members: Vec<MemberIdentity> [since(3)];
    }

    /// One member that goes.
    pub struct MemberIdentity {
        /// Its id; empty if an admin names a static member.
        member_id: Str [since(3)];
        /// The lasting name of a static member.
        group_instance_id: Option<Str> [since(3)];
        /// Why, for people.
        reason: Option<Str> [since(5).ignorable()];
    }
}

describe! {
    /// Who has gone.
    pub struct LeaveGroupResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
        /// Error of the whole request, or 0.
        error_code: ErrorCode;
        /// By member.
        members: Vec<LeaveGroupResponseMember> [since(3)];
    }

    /// One member. (Kafka calls this `MemberResponse`.)
    pub struct LeaveGroupResponseMember {
        /// Its id.
        member_id: Str [since(3)];
        /// The lasting name of a static member.
        group_instance_id: Option<Str> [since(3)];
        /// Error code, or 0.
        error_code: ErrorCode [since(3)];
    }
}
