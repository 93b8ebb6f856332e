//! DescribeGroups (15), ListGroups (16), DeleteGroups (42): groups as admins see them.
//!
//! Versions: DescribeGroups 3 authorised operations, 4 static members, 5 flexible, 6 tells an
//! unknown group by an error (KIP-1043). ListGroups 3 flexible, 4 states (KIP-518), 5 types
//! (KIP-848). DeleteGroups 2 flexible, 3 error messages (KIP-1331).

use crate::codec::{Str, describe, since};
use crate::error::ErrorCode;
use bytes::Bytes;

describe! {
    /// Groups to describe.
    pub struct DescribeGroupsRequest {
        /// The groups.
        groups: Vec<Str>;
        /// Whether to say what the client may do with each.
        include_authorized_operations: bool [since(3)];
    }
}

describe! {
    /// The groups.
    pub struct DescribeGroupsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
        /// By group.
        groups: Vec<DescribedGroup>;
    }

    /// One group.
    pub struct DescribedGroup {
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str> [since(6)];
        /// The group.
        group_id: Str;
        /// Its state: "Stable", "Empty" and so on; "Dead" before version 6 if it is unknown.
        group_state: Str;
        /// What kind of group it is.
        protocol_type: Str;
        /// The chosen assignor; empty if there is none.
        protocol_data: Str;
        /// Its members.
        members: Vec<DescribedGroupMember>;
        /// Bit set of the operations that the client may do on the group; the smallest number if it
        /// did not ask.
        authorized_operations: i32 [since(3)] = i32::MIN;
    }

    /// One member.
    pub struct DescribedGroupMember {
        /// Its id.
        member_id: Str;
        /// The lasting name of a static member.
        group_instance_id: Option<Str> [since(4).ignorable()];
        /// The name that its client gave itself.
        client_id: Str;
        /// From where it connects.
        client_host: Str;
        /// What it said about itself to the chosen assignor.
        member_metadata: Bytes;
        /// Its share.
        member_assignment: Bytes;
    }
}

describe! {
    /// Which groups to list.
    pub struct ListGroupsRequest {
        /// Only groups in one of these states; empty for any.
        states_filter: Vec<Str> [since(4)];
        /// Only groups of one of these types ("classic", "consumer" …); empty for any.
        types_filter: Vec<Str> [since(5)];
    }
}

describe! {
    /// The groups that this broker coordinates.
    pub struct ListGroupsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
        /// Error code, or 0.
        error_code: ErrorCode;
        /// The groups.
        groups: Vec<ListedGroup>;
    }

    /// One group.
    pub struct ListedGroup {
        /// The group.
        group_id: Str;
        /// What kind of group it is.
        protocol_type: Str;
        /// Its state.
        group_state: Str [since(4).ignorable()];
        /// Its type: "classic", "consumer" and so on.
        group_type: Str [since(5).ignorable()];
    }
}

describe! {
    /// Groups to delete.
    pub struct DeleteGroupsRequest {
        /// The groups.
        groups_names: Vec<Str>;
    }
}

describe! {
    /// What became of them.
    pub struct DeleteGroupsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// By group.
        results: Vec<DeletableGroupResult>;
    }

    /// What became of one group.
    pub struct DeletableGroupResult {
        /// The group.
        group_id: Str;
        /// Error code; 0 if it is deleted.
        error_code: ErrorCode;
        /// Why it is not, for people.
        error_message: Option<Str> [since(3).ignorable()];
    }
}
