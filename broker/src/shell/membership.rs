//! Being a member of a classic consumer group: join, share out, stay, commit, leave.
//!
//! One member, one thread: whoever owns it calls [`Member::keep`] between fetches, often enough for
//! the session. When that says that the group is being rebalanced, the owner commits and joins
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use protocol::ErrorCode;
use protocol::api::RequestMessage;
use protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
    LeaveGroupRequest, MemberIdentity, SyncGroupRequest, SyncGroupRequestAssignment,
};

use super::assignor::{self, Partitions, RANGE};
use super::client::{Attempts, Client, topic_name};
use super::committed::{self, Committer};
use super::error::ShellError;
use super::offsets::Place;

/// Without a heartbeat for this long the group goes on without this member.
const SESSION: Duration = Duration::from_secs(10);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// How long the others get to join a rebalance.
const REBALANCE: Duration = Duration::from_secs(30);

const JOIN_NEWEST: i16 = 7;
const SYNC_NEWEST: i16 = 5;
const HEARTBEAT_NEWEST: i16 = 4;
const LEAVE_NEWEST: i16 = 4;
/// The first version that lets several members leave.
const LEAVE_SEVERAL: i16 = 3;

/// A member of a group that reads some topics.
pub(crate) struct Member {
    group: String,
    topics: Vec<String>,
    committer: Committer,
    heartbeat_due: Instant,
}

impl Member {
    /// A member that has not joined yet.
    pub(crate) fn new(group: &str, topics: &[String]) -> Member {
        let committer = Committer {
            member_id: String::new(),
            generation: -1,
        };
        let (group, topics) = (group.to_owned(), topics.to_vec());
        Member {
            group,
            topics,
            committer,
            heartbeat_due: Instant::now(),
        }
    }

    /// Joins, or joins again, and returns this member's share once the group is stable.
    pub(crate) fn join(&mut self, client: &mut Client) -> Result<Partitions, ShellError> {
        let mut attempts = Attempts::new(client.timeout() + REBALANCE);
        loop {
            let joined = self.ask(client, &self.join_request(), JOIN_NEWEST, |it| {
                it.error_code
            })?;
            let code = match joined.error_code.ok() {
                Ok(()) => match self.sync(client, &joined)? {
                    Ok(share) => return Ok(share),
                    Err(code) => code,
                },
                Err(code) => code,
            };
            match code {
                // The broker has given us an id: join with it (KIP-394).
                ErrorCode::MEMBER_ID_REQUIRED => {
                    self.committer.member_id = String::from(&joined.member_id);
                    continue;
                }
                ErrorCode::UNKNOWN_MEMBER_ID => self.committer.member_id.clear(),
                ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => {}
                code if code.retriable() => {}
                code => return Err(self.refused("join", code)),
            }
            if !attempts.again() {
                return Err(self.refused("join", code));
            }
        }
    }

    /// Sends a heartbeat if one is due. False if the group is being rebalanced.
    pub(crate) fn keep(&mut self, client: &mut Client) -> Result<bool, ShellError> {
        if Instant::now() < self.heartbeat_due {
            return Ok(true);
        }
        self.heartbeat_due = Instant::now() + HEARTBEAT_INTERVAL;
        let request = HeartbeatRequest {
            group_id: self.group.clone().into(),
            generation_id: self.committer.generation,
            member_id: self.committer.member_id.clone().into(),
            group_instance_id: None,
        };
        let response = self.ask(client, &request, HEARTBEAT_NEWEST, |it| it.error_code)?;
        match response.error_code.ok() {
            Ok(()) => Ok(true),
            Err(code) if is_rebalance(code) => Ok(false),
            Err(code) => Err(self.refused("stay in", code)),
        }
    }

    /// Commits offsets. False if the group is being rebalanced and did not take them.
    pub(crate) fn commit(
        &self,
        client: &mut Client,
        offsets: &BTreeMap<Place, i64>,
    ) -> Result<bool, ShellError> {
        match committed::commit(client, &self.group, &self.committer, offsets)? {
            Ok(()) => Ok(true),
            Err(code) if is_rebalance(code) => Ok(false),
            Err(code) => Err(self.refused("commit offsets of", code)),
        }
    }

    /// Leaves, so that the others get the partitions at once.
    pub(crate) fn leave(&self, client: &mut Client) -> Result<(), ShellError> {
        let node = client.coordinator(&self.group)?;
        let connection = client.node(node)?;
        let several = connection.version::<LeaveGroupRequest>(LEAVE_NEWEST)? >= LEAVE_SEVERAL;
        let member_id = || self.committer.member_id.clone().into();
        let identity = MemberIdentity {
            member_id: member_id(),
            ..MemberIdentity::default()
        };
        let request = LeaveGroupRequest {
            group_id: self.group.clone().into(),
            member_id: if several { "".into() } else { member_id() },
            members: if several { vec![identity] } else { Vec::new() },
        };
        // Nothing depends on the answer: a member that is gone already has left, too.
        connection.call(&request, LEAVE_NEWEST).map(drop)
    }

    fn join_request(&self) -> JoinGroupRequest {
        JoinGroupRequest {
            group_id: self.group.clone().into(),
            session_timeout_ms: SESSION.as_millis() as i32,
            rebalance_timeout_ms: REBALANCE.as_millis() as i32,
            member_id: self.committer.member_id.clone().into(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: RANGE.into(),
                metadata: assignor::subscription(&self.topics),
            }],
            ..JoinGroupRequest::default()
        }
    }

    /// Gives the assignments if this member leads, and takes its own.
    fn sync(
        &mut self,
        client: &mut Client,
        joined: &JoinGroupResponse,
    ) -> Result<Result<Partitions, ErrorCode>, ShellError> {
        let member_id = String::from(&joined.member_id);
        self.committer = Committer {
            member_id,
            generation: joined.generation_id,
        };
        let leads = joined.leader == joined.member_id;
        let assignments = if leads {
            self.share_out(client, joined)?
        } else {
            Vec::new()
        };
        let request = SyncGroupRequest {
            group_id: self.group.clone().into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: None,
            protocol_type: Some("consumer".into()),
            protocol_name: Some(RANGE.into()),
            assignments,
        };
        let response = self.ask(client, &request, SYNC_NEWEST, |it| it.error_code)?;
        if let Err(code) = response.error_code.ok() {
            return Ok(Err(code));
        }
        self.heartbeat_due = Instant::now() + HEARTBEAT_INTERVAL;
        match assignor::read_assignment(&response.assignment) {
            Ok(share) => Ok(Ok(share)),
            Err(error) => {
                let what = format!("join group {}", self.group);
                let reason = format!("its leader sent an assignment that cannot be read: {error}.");
                Err(ShellError::impossible(what, reason))
            }
        }
    }

    fn share_out(
        &self,
        client: &mut Client,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ShellError> {
        let mut members = BTreeMap::new();
        for member in &joined.members {
            // A subscription that cannot be read gets nothing, which its owner will notice.
            let topics = assignor::read_subscription(&member.metadata).unwrap_or_default();
            members.insert(String::from(&member.member_id), topics);
        }
        let wanted: BTreeSet<String> = members.values().flatten().cloned().collect();
        let wanted: Vec<String> = wanted.into_iter().collect();
        let known = client.metadata(Some(&wanted), false)?.topics;
        let counts: BTreeMap<String, i32> = known
            .iter()
            .filter(|topic| topic.error_code.is_none())
            .map(|topic| {
                (
                    topic_name(topic),
                    i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
                )
            })
            .collect();
        let shares = assignor::range(&members, &counts);
        let assignment = |(member_id, share): (String, Partitions)| SyncGroupRequestAssignment {
            member_id: member_id.into(),
            assignment: assignor::assignment(&share),
        };
        Ok(shares.into_iter().map(assignment).collect())
    }

    /// Asks the coordinator, which may hold the answer back until a rebalance is over.
    fn ask<R: RequestMessage>(
        &self,
        client: &mut Client,
        request: &R,
        newest: i16,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ShellError> {
        client.ask_coordinator_patiently(&self.group, request, newest, REBALANCE, code)
    }

    fn refused(&self, what: &str, code: ErrorCode) -> ShellError {
        ShellError::refused(format!("{what} group {}", self.group), code, None)
    }
}

/// Codes that say "join again".
fn is_rebalance(code: ErrorCode) -> bool {
    let codes = [
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::UNKNOWN_MEMBER_ID,
    ];
    codes.contains(&code)
}
