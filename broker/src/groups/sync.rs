//! SyncGroup and Heartbeat: the leader's assignment goes through the log before anybody gets it.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::ErrorCode;

use super::coordinator::{Step, Token};
use super::group::{Group, GroupState};
use super::request::{Heartbeat, SyncGroup, SyncGroupAssignment};
use super::response::SyncGroupResponse;
use super::timers::{MemberId, Timer};
use super::writes::{Then, WriteId};

impl Group {
    pub(super) fn sync(&mut self, token: Token, request: SyncGroup, step: &mut Step<'_>) {
        let member_id = match self.validate_sync(&request) {
            Ok(member_id) => member_id,
            Err(error) => return step.reply(token, SyncGroupResponse::failed(error)),
        };
        self.pending_sync.remove(&member_id);
        if self.pending_sync.is_empty() {
            step.timers.cancel(&Timer::Sync(self.id.clone()));
        }
        if self.state == GroupState::Stable {
            return step.reply(token, self.synced(&member_id));
        }
        let member = self
            .members
            .get_mut(&member_id)
            .expect("it was just validated");
        if let Some(displaced) = member.awaiting_sync.replace(token) {
            let error = ErrorCode::REBALANCE_IN_PROGRESS;
            step.reply(displaced, SyncGroupResponse::failed(error));
        }
        // A leader that asks again while its assignment is being written gets that one.
        if self.is_leader(&member_id) && self.assignment_write.is_none() {
            self.write_assignment(request.assignments, step);
        }
    }

    fn validate_sync(&self, request: &SyncGroup) -> Result<MemberId, ErrorCode> {
        if self.state == GroupState::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        let instance_id = request.group_instance_id.as_deref();
        let member_id = self.validate_member(&request.member_id, instance_id)?;
        if request.generation_id != self.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = |asked: &Option<String>, ours: &Option<String>| {
            asked.is_some() && ours.is_some() && asked != ours
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if self.state == GroupState::PreparingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(member_id)
    }

    fn synced(&self, member_id: &MemberId) -> SyncGroupResponse {
        SyncGroupResponse {
            error_code: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: self.members[member_id].assignment.clone(),
        }
    }

    /// Sends the leader's assignment to the log. Members that it does not name get nothing.
    fn write_assignment(&mut self, brought: Vec<SyncGroupAssignment>, step: &mut Step<'_>) {
        let mut assignments = BTreeMap::new();
        for SyncGroupAssignment {
            member_id,
            assignment,
        } in brought
        {
            if let Some(member_id) = self.member_id(&member_id) {
                assignments.insert(member_id, assignment);
            }
        }
        let write = self.write_record(Some(&assignments), Then::Nothing, step);
        step.writes.then(
            write,
            Then::Assign {
                group: self.id.clone(),
                assignments,
            },
        );
        self.assignment_write = Some(write);
    }

    /// The assignment is in the log, or is not. If the group has moved on since, that is of no
    /// consequence any more.
    pub(super) fn assignment_settled(
        &mut self,
        write: WriteId,
        mut assignments: BTreeMap<MemberId, Bytes>,
        error: Option<ErrorCode>,
        step: &mut Step<'_>,
    ) {
        if self.assignment_write != Some(write) {
            return;
        }
        self.assignment_write = None;
        if let Some(error) = error {
            self.fail_syncs(error, step);
            self.prepare_rebalance(step);
            return;
        }
        self.enter(GroupState::Stable, step.at.wall_ms);
        step.counters.completed_rebalances += 1;
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.member_id).unwrap_or_default();
        }
        let waiting: Vec<MemberId> = self.members.keys().cloned().collect();
        for member_id in waiting {
            let member = self
                .members
                .get_mut(&member_id)
                .expect("it was just listed");
            if let Some(token) = member.awaiting_sync.take() {
                step.arm_session(&self.id, &member_id, member.session_timeout_ms);
                step.reply(token, self.synced(&member_id));
            }
        }
    }

    /// Keeps a session alive. The error tells the member what to do.
    pub(super) fn heartbeat(
        &mut self,
        request: &Heartbeat,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        let instance_id = request.group_instance_id.as_deref();
        let member_id = self.validate_member(&request.member_id, instance_id)?;
        if request.generation_id != self.generation_id {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        self.heard_of(&member_id, step);
        match self.state {
            GroupState::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// Begins a member's session anew.
    pub(super) fn heard_of(&mut self, member_id: &MemberId, step: &mut Step<'_>) {
        let session_timeout_ms = self.members[member_id].session_timeout_ms;
        step.arm_session(&self.id, member_id, session_timeout_ms);
    }
}
