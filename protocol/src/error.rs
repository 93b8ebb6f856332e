//! Kafka's error codes: number, name, what a client does about it, and one sentence for people.
//!
//! The numbers and names are a wire contract (Apache Kafka 4.4, `Errors`); the sentences are ours
//! and may be sent as `error_message`. This module decides nothing: which code answers which
//! situation is the business of the one who answers. A code that we do not know (from a newer
//! peer) stays representable, since the type wraps the number instead of enumerating it.

use std::fmt;

/// An error code as it stands in responses. `ErrorCode::NONE` is success.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrorCode(pub i16);

/// What a well-behaved client does when it sees a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Not an error.
    Proceed,
    /// Gives up on this request, or handles the code in a way of its own.
    Fail,
    /// Sends the same request again after its back-off.
    Retry,
    /// Asks for fresh metadata first, then sends the request again, perhaps to another broker.
    RefreshAndRetry,
}

macro_rules! error_codes {
    ($($code:literal $name:ident $reaction:ident $text:literal;)*) => {
        impl ErrorCode {
            $(#[doc = $text] pub const $name: ErrorCode = ErrorCode($code);)*

            /// Every code of Kafka 4.4 in ascending order.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),*];

            const fn entry(self) -> Option<(&'static str, Reaction, &'static str)> {
                match self.0 {
                    $($code => Some((stringify!($name), Reaction::$reaction, $text)),)*
                    _ => None,
                }
            }
        }
    };
}

impl ErrorCode {
    /// Kafka's name of the code, `UNRECOGNIZED` when Kafka 4.4 has none.
    pub const fn name(self) -> &'static str {
        match self.entry() {
            Some((name, _, _)) => name,
            None => "UNRECOGNIZED",
        }
    }

    /// One sentence for people; fit for `error_message` fields.
    pub const fn description(self) -> &'static str {
        match self.entry() {
            Some((_, _, text)) => text,
            None => "The code is not among those of Kafka 4.4.",
        }
    }

    /// What the Java client does on this code; codes that we do not know are final.
    pub const fn reaction(self) -> Reaction {
        match self.entry() {
            Some((_, reaction, _)) => reaction,
            None => Reaction::Fail,
        }
    }

    /// Whether a client may send the same request again and hope.
    pub const fn retriable(self) -> bool {
        matches!(self.reaction(), Reaction::Retry | Reaction::RefreshAndRetry)
    }

    /// Whether the code says "success".
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// `Ok` for `NONE`, the code itself otherwise.
    pub const fn ok(self) -> Result<(), ErrorCode> {
        if self.is_none() { Ok(()) } else { Err(self) }
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        ErrorCode(code)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> Self {
        code.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ErrorCode {}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR Fail "The server failed in a way that it has no code for.";
    0 NONE Proceed "Success.";
    1 OFFSET_OUT_OF_RANGE Fail "The offset lies outside what the partition holds.";
    2 CORRUPT_MESSAGE Retry "The batch is damaged: its checksum or its length is wrong.";
    3 UNKNOWN_TOPIC_OR_PARTITION RefreshAndRetry "The server knows no such topic or partition.";
    4 INVALID_FETCH_SIZE Fail "The requested fetch size is not acceptable.";
    5 LEADER_NOT_AVAILABLE RefreshAndRetry "The partition has no leader at the moment.";
    6 NOT_LEADER_OR_FOLLOWER RefreshAndRetry
        "This broker does not lead the partition, or holds no replica of it.";
    7 REQUEST_TIMED_OUT Retry "The request was not finished in the time it allowed.";
    8 BROKER_NOT_AVAILABLE Fail "The broker is not available.";
    9 REPLICA_NOT_AVAILABLE RefreshAndRetry "The replica of the partition is not available here.";
    10 MESSAGE_TOO_LARGE Fail "The batch is larger than the topic allows.";
    11 STALE_CONTROLLER_EPOCH Fail "The controller has moved to another node.";
    12 OFFSET_METADATA_TOO_LARGE Fail "The metadata string of a committed offset is too long.";
    13 NETWORK_EXCEPTION RefreshAndRetry "The connection broke before the response was there.";
    14 COORDINATOR_LOAD_IN_PROGRESS Retry "The coordinator is still reading its state.";
    15 COORDINATOR_NOT_AVAILABLE Retry "There is no coordinator at the moment.";
    16 NOT_COORDINATOR Retry "This broker is not the coordinator for the key.";
    17 INVALID_TOPIC_EXCEPTION Fail "The topic name is not legal, or the topic may not be used so.";
    18 RECORD_LIST_TOO_LARGE Fail "The batch is larger than a segment of the log.";
    19 NOT_ENOUGH_REPLICAS Retry "Fewer replicas are in sync than the topic demands.";
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND Retry
        "The batch was appended, but on fewer replicas than the topic demands.";
    21 INVALID_REQUIRED_ACKS Fail "The value of acks is none of -1, 0 and 1.";
    22 ILLEGAL_GENERATION Fail "The generation is not the current one of the group.";
    23 INCONSISTENT_GROUP_PROTOCOL Fail
        "The member shares no protocol with the group, or named none at all.";
    24 INVALID_GROUP_ID Fail "The group id is not acceptable.";
    25 UNKNOWN_MEMBER_ID Fail "The group has no member with this id.";
    26 INVALID_SESSION_TIMEOUT Fail "The session timeout is outside the broker's bounds.";
    27 REBALANCE_IN_PROGRESS Fail "The group is rebalancing; join again.";
    28 INVALID_COMMIT_OFFSET_SIZE Fail "The committed offset with its metadata is too large.";
    29 TOPIC_AUTHORIZATION_FAILED Fail "The principal may not do this to the topic.";
    30 GROUP_AUTHORIZATION_FAILED Fail "The principal may not do this to the group.";
    31 CLUSTER_AUTHORIZATION_FAILED Fail "The principal may not do this to the cluster.";
    32 INVALID_TIMESTAMP Fail "A record's timestamp is outside what the topic accepts.";
    33 UNSUPPORTED_SASL_MECHANISM Fail "The SASL mechanism is not enabled on this listener.";
    34 ILLEGAL_SASL_STATE Fail "The request does not fit the state of the authentication.";
    35 UNSUPPORTED_VERSION Fail "The server does not serve this version of the API.";
    36 TOPIC_ALREADY_EXISTS Fail "A topic with this name exists.";
    37 INVALID_PARTITIONS Fail "The number of partitions is not acceptable.";
    38 INVALID_REPLICATION_FACTOR Fail
        "The replication factor is below one or above the number of usable brokers.";
    39 INVALID_REPLICA_ASSIGNMENT Fail "The assignment of replicas is not acceptable.";
    40 INVALID_CONFIG Fail "The configuration is not valid.";
    41 NOT_CONTROLLER Retry "This node is not the controller.";
    42 INVALID_REQUEST Fail "The request contradicts itself or the protocol.";
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT Fail "The record format cannot carry what was asked for.";
    44 POLICY_VIOLATION Fail "A policy of this cluster forbids the request.";
    45 OUT_OF_ORDER_SEQUENCE_NUMBER Fail "The producer's sequence number leaves a gap.";
    46 DUPLICATE_SEQUENCE_NUMBER Fail "The producer's sequence number was used before.";
    47 INVALID_PRODUCER_EPOCH Fail "The producer's epoch is older than the current one.";
    48 INVALID_TXN_STATE Fail "The transaction's state does not allow this operation.";
    49 INVALID_PRODUCER_ID_MAPPING Fail
        "The producer id is not the one assigned to the transactional id.";
    50 INVALID_TRANSACTION_TIMEOUT Fail
        "The transaction timeout is above the broker's limit.";
    51 CONCURRENT_TRANSACTIONS Retry
        "Another operation on the same transaction is not finished yet.";
    52 TRANSACTION_COORDINATOR_FENCED Fail
        "The coordinator that sent the marker is no longer in charge of the producer.";
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED Fail
        "The principal may not use the transactional id.";
    54 SECURITY_DISABLED Fail "Security is not enabled on this cluster.";
    55 OPERATION_NOT_ATTEMPTED Fail
        "The operation was not tried, since an earlier one in the same request failed.";
    56 KAFKA_STORAGE_ERROR RefreshAndRetry "The broker's disk failed for this partition.";
    57 LOG_DIR_NOT_FOUND Fail "The broker has no such log directory.";
    58 SASL_AUTHENTICATION_FAILED Fail "Authentication failed.";
    59 UNKNOWN_PRODUCER_ID Fail "The partition remembers nothing of this producer.";
    60 REASSIGNMENT_IN_PROGRESS Fail "The partition is being moved to other brokers.";
    61 DELEGATION_TOKEN_AUTH_DISABLED Fail "Delegation tokens are not enabled.";
    62 DELEGATION_TOKEN_NOT_FOUND Fail "There is no such delegation token.";
    63 DELEGATION_TOKEN_OWNER_MISMATCH Fail
        "The principal is neither owner nor renewer of the token.";
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED Fail
        "Tokens may not be handled over this kind of connection.";
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED Fail
        "The principal may not do this to the delegation token.";
    66 DELEGATION_TOKEN_EXPIRED Fail "The delegation token has expired.";
    67 INVALID_PRINCIPAL_TYPE Fail "The type of principal is not supported.";
    68 NON_EMPTY_GROUP Fail "The group still has members.";
    69 GROUP_ID_NOT_FOUND Fail "There is no group with this id.";
    70 FETCH_SESSION_ID_NOT_FOUND Retry "The fetch session is gone; start a new one.";
    71 INVALID_FETCH_SESSION_EPOCH Retry "The epoch of the fetch session is not the next one.";
    72 LISTENER_NOT_FOUND RefreshAndRetry
        "The leader has no listener of the name that the request came in on.";
    73 TOPIC_DELETION_DISABLED Fail "Deleting topics is switched off.";
    74 FENCED_LEADER_EPOCH RefreshAndRetry
        "The client's leader epoch is older than the broker's.";
    75 UNKNOWN_LEADER_EPOCH Retry "The client's leader epoch is newer than the broker's.";
    76 UNSUPPORTED_COMPRESSION_TYPE Fail
        "The compression is unknown or not allowed in this version of the API.";
    77 STALE_BROKER_EPOCH Fail "The broker's registration has been replaced by a newer one.";
    78 OFFSET_NOT_AVAILABLE Retry
        "A new leader does not know its high watermark yet; ask again.";
    79 MEMBER_ID_REQUIRED Fail "Join again with the member id of this response.";
    80 PREFERRED_LEADER_NOT_AVAILABLE RefreshAndRetry "The preferred leader is not available.";
    81 GROUP_MAX_SIZE_REACHED Fail "The group has as many members as it may have.";
    82 FENCED_INSTANCE_ID Fail
        "Another member has joined with the same group instance id.";
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE RefreshAndRetry
        "No replica that may become leader is available.";
    84 ELECTION_NOT_NEEDED RefreshAndRetry "The partition already has the leader asked for.";
    85 NO_REASSIGNMENT_IN_PROGRESS Fail "The partition is not being moved.";
    86 GROUP_SUBSCRIBED_TO_TOPIC Fail
        "Offsets cannot be deleted while the group is subscribed to the topic.";
    87 INVALID_RECORD Fail "A record or batch was rejected by the broker's checks.";
    88 UNSTABLE_OFFSET_COMMIT Retry "A transaction that commits these offsets is still open.";
    89 THROTTLING_QUOTA_EXCEEDED Retry "The quota is used up for now.";
    90 PRODUCER_FENCED Fail "A newer producer with the same transactional id has taken over.";
    91 RESOURCE_NOT_FOUND Fail "The request names something that does not exist.";
    92 DUPLICATE_RESOURCE Fail "The request names the same thing twice.";
    93 UNACCEPTABLE_CREDENTIAL Fail "The credential does not meet the requirements.";
    94 INCONSISTENT_VOTER_SET Fail "Sender or receiver is not among the expected voters.";
    95 INVALID_UPDATE_VERSION Fail "The version of the update is not acceptable.";
    96 FEATURE_UPDATE_FAILED Fail "The feature levels could not be changed.";
    97 PRINCIPAL_DESERIALIZATION_FAILURE Fail
        "The principal of a forwarded request could not be read.";
    98 SNAPSHOT_NOT_FOUND Fail "There is no such snapshot.";
    99 POSITION_OUT_OF_RANGE Fail "The position lies outside the snapshot.";
    100 UNKNOWN_TOPIC_ID RefreshAndRetry "The server knows no topic with this id.";
    101 DUPLICATE_BROKER_REGISTRATION Fail "Another broker is registered under this id.";
    102 BROKER_ID_NOT_REGISTERED Fail "No broker is registered under this id.";
    103 INCONSISTENT_TOPIC_ID RefreshAndRetry
        "The topic id of the request is not that of the log.";
    104 INCONSISTENT_CLUSTER_ID Fail "The request was meant for another cluster.";
    105 TRANSACTIONAL_ID_NOT_FOUND Fail "There is no such transactional id.";
    106 FETCH_SESSION_TOPIC_ID_ERROR Retry
        "The fetch session mixes topics by name with topics by id.";
    107 INELIGIBLE_REPLICA Fail "A replica of the proposed in-sync set may not be in it.";
    108 NEW_LEADER_ELECTED Fail "The change was made, and the leader changed with it.";
    109 OFFSET_MOVED_TO_TIERED_STORAGE Fail "The offset is now in tiered storage.";
    110 FENCED_MEMBER_EPOCH Fail
        "The member's epoch is fenced: give up all partitions and join again.";
    111 UNRELEASED_INSTANCE_ID Fail
        "Another member still holds this group instance id.";
    112 UNSUPPORTED_ASSIGNOR Fail "The group does not support the assignor.";
    113 STALE_MEMBER_EPOCH Fail
        "The member's epoch is out of date: retry with the one from the next heartbeat.";
    114 MISMATCHED_ENDPOINT_TYPE Fail "The request was sent to the wrong kind of endpoint.";
    115 UNSUPPORTED_ENDPOINT_TYPE Fail "The kind of endpoint is not supported.";
    116 UNKNOWN_CONTROLLER_ID Fail "There is no controller with this id.";
    117 UNKNOWN_SUBSCRIPTION_ID Fail "The telemetry subscription is unknown or out of date.";
    118 TELEMETRY_TOO_LARGE Fail "The pushed telemetry is larger than the broker accepts.";
    119 INVALID_REGISTRATION Fail "The controller refused the broker's registration.";
    120 TRANSACTION_ABORTABLE Fail
        "The transaction cannot go on; abort it, then the transactional id is usable again.";
    121 INVALID_RECORD_STATE Fail
        "The record is not in a state in which it can be acknowledged so.";
    122 SHARE_SESSION_NOT_FOUND Retry "The share session is gone.";
    123 INVALID_SHARE_SESSION_EPOCH Retry "The epoch of the share session is not the next one.";
    124 FENCED_STATE_EPOCH Fail "The state epoch of the request is out of date.";
    125 INVALID_VOTER_KEY Fail "The voter's key is not that of the receiving replica.";
    126 DUPLICATE_VOTER Fail "The voter is already in the set.";
    127 VOTER_NOT_FOUND Fail "The voter is not in the set.";
    128 INVALID_REGULAR_EXPRESSION Fail "The regular expression does not parse.";
    129 REBOOTSTRAP_REQUIRED Fail
        "The client's view of the cluster is too old: start again from the bootstrap servers.";
    130 STREAMS_INVALID_TOPOLOGY Fail "The streams topology is not valid.";
    131 STREAMS_INVALID_TOPOLOGY_EPOCH Fail "The epoch of the streams topology is not valid.";
    132 STREAMS_TOPOLOGY_FENCED Fail "The epoch of the streams topology is out of date.";
    133 SHARE_SESSION_LIMIT_REACHED Retry "The broker holds as many share sessions as it may.";
    134 GROUP_DELETION_FAILED Fail
        "The group could not be deleted; its own message says why.";
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED Fail
        "The description of the streams topology could not be stored; the message says why.";
    136 CONTROLLER_ID_NOT_REGISTERED Fail "No controller is registered under this id.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_in_order() {
        let codes: Vec<i16> = ErrorCode::ALL.iter().map(|code| code.0).collect();
        assert_eq!(codes, (-1..=136).collect::<Vec<i16>>());
        assert!(
            ErrorCode::ALL
                .iter()
                .all(|code| code.description().ends_with('.'))
        );
    }

    #[test]
    fn the_retriable_set_is_that_of_the_java_client() {
        let retriable: Vec<i16> = ErrorCode::ALL
            .iter()
            .filter(|code| code.retriable())
            .map(|code| code.0)
            .collect();
        let expected = [
            2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83,
            84, 88, 89, 100, 103, 106, 122, 123, 133,
        ];
        assert_eq!(retriable, expected);
    }

    #[test]
    fn an_unknown_code_keeps_its_number_and_is_final() {
        let code = ErrorCode::from(999);
        assert_eq!(code.to_string(), "UNRECOGNIZED (999)");
        assert!(!code.retriable());
        assert_eq!(code.ok(), Err(ErrorCode(999)));
        assert_eq!(ErrorCode::NONE.ok(), Ok(()));
    }
}
