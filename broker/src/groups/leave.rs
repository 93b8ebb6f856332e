//! LeaveGroup: members go, of their own accord or removed by an administrator.

use protocol::ErrorCode;

use super::coordinator::{Step, Token};
use super::group::{Group, GroupState};
use super::request::{LeaveGroup, MemberIdentity};
use super::response::{LeaveGroupResponse, LeaveGroupResponseMember};
use super::writes::Then;

impl Group {
    pub(super) fn leave(&mut self, token: Token, request: &LeaveGroup, step: &mut Step<'_>) {
        let mut members = Vec::with_capacity(request.members.len());
        for identity in &request.members {
            let error = self.leave_one(identity, step).err().unwrap_or_default();
            members.push(LeaveGroupResponseMember::new(identity, error));
        }
        let somebody_left = members.iter().any(|member| member.error_code.is_none());
        let write = match self.state {
            _ if !somebody_left => None,
            GroupState::Empty | GroupState::Dead => None,
            _ => self.rebalance(step),
        };
        let response = LeaveGroupResponse {
            error_code: ErrorCode::NONE,
            members,
        };
        match write {
            // Who left last is told when the log knows that the group is empty.
            Some(write) => {
                let response = response.into();
                step.writes.then(write, Then::Reply { token, response });
            }
            None => step.reply(token, response),
        }
    }

    fn leave_one(
        &mut self,
        identity: &MemberIdentity,
        step: &mut Step<'_>,
    ) -> Result<(), ErrorCode> {
        let instance_id = identity.group_instance_id.as_deref();
        let member_id = if identity.member_id.is_empty() {
            let member_id = instance_id.and_then(|id| self.static_members.get(id));
            member_id.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?.clone()
        } else if let Some(pending) = self.pending_join.take(&*identity.member_id) {
            step.cancel_session(&self.id, &pending);
            return Ok(());
        } else {
            self.validate_member(&identity.member_id, instance_id)?
        };
        self.expel(&member_id, ErrorCode::UNKNOWN_MEMBER_ID, step);
        Ok(())
    }
}
