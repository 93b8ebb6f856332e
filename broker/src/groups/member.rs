//! One member of a group. Must not know the group.

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::ErrorCode;

use super::coordinator::{Output, Token};
use super::request::{JoinGroup, JoinGroupProtocol};
use super::response::{JoinGroupResponse, SyncGroupResponse};
use super::timers::MemberId;

/// A member, with the requests of its that wait for the others.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) member_id: MemberId,
    pub(super) group_instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// In order of preference, each name once.
    pub(super) protocols: Vec<JoinGroupProtocol>,
    /// Of the latest generation that became stable.
    pub(super) assignment: Bytes,
    /// Its JoinGroup that waits for the others.
    pub(super) awaiting_join: Option<Token>,
    /// Its SyncGroup that waits for the leader.
    pub(super) awaiting_sync: Option<Token>,
    /// Until its first join completes: such a member cannot send heartbeats yet, and its waiting
    /// join is no sign of life.
    pub(super) is_new: bool,
}

/// Of several protocols with one name the first counts.
pub(super) fn distinct(protocols: Vec<JoinGroupProtocol>) -> Vec<JoinGroupProtocol> {
    let mut names = BTreeSet::new();
    let mut kept = protocols;
    kept.retain(|protocol| names.insert(protocol.name.clone()));
    kept
}

impl Member {
    /// A member that joins for the first time.
    pub(super) fn joining(member_id: MemberId, request: JoinGroup) -> Self {
        Member {
            member_id,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            group_instance_id: request.group_instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            protocols: request.protocols,
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: true,
        }
    }

    pub(super) fn is_static(&self) -> bool {
        self.group_instance_id.is_some()
    }

    /// What it says under `protocol`; empty if it does not know it.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self
            .protocols
            .iter()
            .find(|offered| offered.name == protocol);
        found
            .map(|offered| offered.metadata.clone())
            .unwrap_or_default()
    }

    /// Whether it needs no heartbeat now, as it waits for us.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// Answers what waits with an error. For members that are gone; a group counts its waiting
    /// members, see [`Group::take_join`](super::group::Group::take_join).
    pub(super) fn answer_waiting(&mut self, error: ErrorCode, out: &mut Vec<Output>) {
        if let Some(token) = self.awaiting_join.take() {
            // A member that is told to forget its id is told an empty one.
            let known = if error == ErrorCode::UNKNOWN_MEMBER_ID {
                ""
            } else {
                &self.member_id
            };
            let response = JoinGroupResponse::failed(error, known).into();
            out.push(Output::Reply { token, response });
        }
        if let Some(token) = self.awaiting_sync.take() {
            let response = SyncGroupResponse::failed(error).into();
            out.push(Output::Reply { token, response });
        }
    }
}
