//! JoinGroup: who becomes a member, under which id, and when that makes a rebalance.
//!
//! A dynamic member joins in two steps (KIP-394): it is given an id first and counts only when it
//! comes back with it, so that a client which times out and tries again does not leave ghosts. A
//! static member (KIP-345) that comes back without its id takes the place of its former self; if
//! the group is stable and agrees on the same protocol as before, nobody else notices.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::ErrorCode;

use super::coordinator::{Coordinator, Moment, Output, Step, Token};
use super::fields::fits;
use super::group::{Group, GroupState};
use super::member::{Member, distinct};
use super::records::Record;
use super::request::JoinGroup;
use super::response::{JoinGroupResponse, JoinGroupResponseMember};
use super::settings::Settings;
use super::timers::MemberId;
use super::writes::{StaticReplacement, Then, WriteId};

/// The first version in which a dynamic member must come back with the id that it was given.
const FIRST_TWO_STEP_VERSION: i16 = 4;
/// The first version whose leaders understand that nothing needs to be assigned.
const FIRST_SKIPPING_VERSION: i16 = 9;
/// What of a client's id becomes part of its members' ids, in bytes.
const CLIENT_ID_PREFIX_BYTES: usize = 255;

impl Coordinator {
    pub(super) fn join_group(
        &mut self,
        token: Token,
        mut request: JoinGroup,
        ids: &mut dyn FnMut() -> u128,
        at: Moment,
        out: &mut Vec<Output>,
    ) {
        let mut refuse = |error: ErrorCode| {
            let response = JoinGroupResponse::failed(error, &request.member_id).into();
            out.push(Output::Reply { token, response });
        };
        if let Err(error) = validate(&request, &self.settings) {
            return refuse(error);
        }
        // Only who has no id yet may found a group.
        if !request.member_id.is_empty() && !self.groups.contains_key(&*request.group_id) {
            return refuse(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if let Err(error) = self.group_or_new(&request.group_id, at.wall_ms) {
            return refuse(error);
        }
        request.protocols = distinct(request.protocols);
        if request.rebalance_timeout_ms < 0 {
            request.rebalance_timeout_ms = request.session_timeout_ms;
        }
        let group_id = request.group_id.clone();
        let (groups, mut step) = self.split(at, out);
        if let Some(group) = groups.get_mut(&*group_id) {
            group.join(token, request, ids, &mut step);
        }
        self.forget_if_void(&group_id);
    }
}

fn validate(request: &JoinGroup, settings: &Settings) -> Result<(), ErrorCode> {
    let allowed = settings.min_session_timeout_ms..=settings.max_session_timeout_ms;
    if !allowed.contains(&request.session_timeout_ms) {
        return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
    }
    let instance_id = request.group_instance_id.as_deref().unwrap_or_default();
    let texts = [
        &request.protocol_type,
        &request.client_id,
        &request.client_host,
    ];
    let all_fit = texts.into_iter().all(|text| fits(text))
        // The member's id is the instance's with something behind it.
        && instance_id.len() <= i16::MAX as usize - 64
        && request.protocols.iter().all(|protocol| fits(&protocol.name));
    if all_fit {
        Ok(())
    } else {
        Err(ErrorCode::INVALID_REQUEST)
    }
}

/// "<client id>-<uuid>", or with the instance's id in front if there is one.
fn new_member_id(request: &JoinGroup, random: u128) -> MemberId {
    let prefix = request.group_instance_id.as_deref().unwrap_or_else(|| {
        let mut end = request.client_id.len().min(CLIENT_ID_PREFIX_BYTES);
        while !request.client_id.is_char_boundary(end) {
            end -= 1;
        }
        &request.client_id[..end]
    });
    // Version 4, variant 1, as RFC 9562 wants it of random ones.
    let uuid = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{uuid:032x}");
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    format!("{prefix}-{a}-{b}-{c}-{d}-{e}").into()
}

impl Group {
    fn join(
        &mut self,
        token: Token,
        request: JoinGroup,
        ids: &mut dyn FnMut() -> u128,
        step: &mut Step<'_>,
    ) {
        let member_id = request.member_id.clone();
        if self.deleting {
            // Its tombstone is on the way; after that the name is free.
            let error = ErrorCode::COORDINATOR_NOT_AVAILABLE;
            return step.reply(token, JoinGroupResponse::failed(error, &member_id));
        }
        if !self.has_room_for(&member_id, step.settings) {
            let error = ErrorCode::GROUP_MAX_SIZE_REACHED;
            step.reply(token, JoinGroupResponse::failed(error, ""));
            self.expel(&member_id, ErrorCode::GROUP_MAX_SIZE_REACHED, step);
            self.complete_join_if_all_joined(step);
            return;
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            let error = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
            return step.reply(token, JoinGroupResponse::failed(error, &member_id));
        }
        if member_id.is_empty() {
            let new_id = new_member_id(&request, ids());
            return self.join_new(token, request, new_id, step);
        }
        if request.group_instance_id.is_none()
            && let Some(pending) = self.pending_join.get(&*member_id).cloned()
        {
            return self.admit(token, pending, request, step);
        }
        match self.validate_member(&member_id, request.group_instance_id.as_deref()) {
            Ok(member_id) => self.rejoin(token, member_id, request, step),
            Err(error) => step.reply(token, JoinGroupResponse::failed(error, &member_id)),
        }
    }

    /// Whether one more may come. In a rebalance the places go to those who come first, so that a
    /// group which became too large gets smaller.
    fn has_room_for(&self, member_id: &str, settings: &Settings) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.awaiting_join() < settings.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.members.len() < settings.max_size
            }
        }
    }

    fn join_new(
        &mut self,
        token: Token,
        request: JoinGroup,
        new_id: MemberId,
        step: &mut Step<'_>,
    ) {
        if let Some(instance_id) = &request.group_instance_id {
            return match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.rejoin_static(token, &old_id, new_id, request, step),
                None => self.admit(token, new_id, request, step),
            };
        }
        if request.api_version < FIRST_TWO_STEP_VERSION {
            return self.admit(token, new_id, request, step);
        }
        if self.pending_join.len() >= step.settings.max_pending_members {
            let error = ErrorCode::GROUP_MAX_SIZE_REACHED;
            return step.reply(token, JoinGroupResponse::failed(error, ""));
        }
        step.arm_session(&self.id, &new_id, request.session_timeout_ms);
        let response = JoinGroupResponse::failed(ErrorCode::MEMBER_ID_REQUIRED, &new_id);
        step.reply(token, response);
        self.pending_join.insert(new_id);
    }

    /// Makes somebody a member.
    fn admit(
        &mut self,
        token: Token,
        member_id: MemberId,
        request: JoinGroup,
        step: &mut Step<'_>,
    ) {
        if self.initial_delay.is_some() {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        self.add(Member::joining(member_id.clone(), request));
        self.park_join(&member_id, token);
        // It does not know its id yet and sends no heartbeats, and whether its client still listens
        // cannot be seen from here. So it has some time to come in, and then must ask again.
        step.arm_session(
            &self.id,
            &member_id,
            step.settings.new_member_join_timeout_ms,
        );
        self.rebalance(step);
    }

    /// A member joins again under its id.
    fn rejoin(
        &mut self,
        token: Token,
        member_id: MemberId,
        request: JoinGroup,
        step: &mut Step<'_>,
    ) {
        let unchanged = self.members[&member_id].protocols == request.protocols;
        let is_leader = self.is_leader(&member_id);
        let knows_all = match self.state {
            // It may not have got the answer to its first try.
            GroupState::CompletingRebalance => unchanged,
            // A leader that joins wants a rebalance: it sees changes that the members' metadata do
            // not show, such as new partitions.
            GroupState::Stable => unchanged && !is_leader,
            GroupState::PreparingRebalance => false,
            GroupState::Empty | GroupState::Dead => {
                let error = ErrorCode::UNKNOWN_MEMBER_ID;
                return step.reply(token, JoinGroupResponse::failed(error, &member_id));
            }
        };
        if knows_all {
            return step.reply(token, self.joined(&member_id));
        }
        let JoinGroup {
            protocols,
            rebalance_timeout_ms,
            session_timeout_ms,
            ..
        } = request;
        self.update(
            &member_id,
            protocols,
            rebalance_timeout_ms,
            session_timeout_ms,
        );
        self.await_join(&member_id, token, step);
        self.rebalance(step);
    }

    /// Lets a join wait in the place of an earlier one.
    fn await_join(&mut self, member_id: &MemberId, token: Token, step: &mut Step<'_>) {
        if let Some(displaced) = self.park_join(member_id, token) {
            let error = ErrorCode::REBALANCE_IN_PROGRESS;
            step.reply(displaced, JoinGroupResponse::failed(error, member_id));
        }
    }

    /// A static member has lost its id and gets a new one.
    fn rejoin_static(
        &mut self,
        token: Token,
        old_id: &MemberId,
        new_id: MemberId,
        request: JoinGroup,
        step: &mut Step<'_>,
    ) {
        let previous_leader = self.leader.clone();
        let previous = self.replace(old_id, new_id.clone(), step);
        let can_skip_assignment = request.api_version >= FIRST_SKIPPING_VERSION;
        self.update(
            &new_id,
            request.protocols,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
        );
        step.arm_session(&self.id, &new_id, request.session_timeout_ms);
        self.park_join(&new_id, token);
        match self.state {
            GroupState::Stable if self.protocol_name.as_ref() == Some(&self.select_protocol()) => {
                self.refresh_subscribed_topics();
                let then = Then::ReplaceStatic(Box::new(StaticReplacement {
                    group: self.id.clone(),
                    token,
                    new_id,
                    previous,
                    previous_leader,
                    can_skip_assignment,
                }));
                self.write_record(None, then, step);
            }
            // The leader may be at work with the old id already.
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(step);
            }
            GroupState::PreparingRebalance => {
                self.rebalance(step);
            }
            GroupState::Empty | GroupState::Dead => {
                unreachable!("group {} has a member and is {}", self.id, self.state)
            }
        }
    }

    /// Puts a static member under another id. Whoever still uses the old one is fenced.
    fn replace(&mut self, old_id: &MemberId, new_id: MemberId, step: &mut Step<'_>) -> Member {
        step.cancel_session(&self.id, old_id);
        let mut previous = self.rename(old_id, new_id);
        previous.answer_waiting(ErrorCode::FENCED_INSTANCE_ID, step.out);
        previous
    }

    /// The new id of a static member is in the log, or is not.
    pub(super) fn replacement_settled(
        &mut self,
        replacement: StaticReplacement,
        error: Option<ErrorCode>,
        step: &mut Step<'_>,
    ) {
        let StaticReplacement {
            token, ref new_id, ..
        } = replacement;
        let member = self.members.get(new_id);
        let awaits = member.is_some_and(|member| member.awaiting_join == Some(token));
        if !awaits || self.state != GroupState::Stable {
            // It was fenced, removed, or has become part of a rebalance, whose outcome is written
            // in its turn.
            if error.is_some() && member.is_none() {
                step.writes.rebase_replacements(&replacement);
            }
            return;
        }
        self.take_join(new_id);
        match error {
            None => self.welcome_back(&replacement, step),
            Some(error) => self.undo_replacement(replacement, error, step),
        }
    }

    fn welcome_back(&mut self, replacement: &StaticReplacement, step: &mut Step<'_>) {
        let StaticReplacement { token, new_id, .. } = replacement;
        let session_timeout_ms = self.members[new_id].session_timeout_ms;
        step.arm_session(&self.id, new_id, session_timeout_ms);
        let mut response = self.joined(new_id);
        if replacement.can_skip_assignment {
            response.skip_assignment = self.is_leader(new_id);
        } else {
            // Such a client, told that it leads, would assign anew and so cause the rebalance that
            // static membership is there to avoid. It is told of the leader as it was.
            response.members = vec![];
            let leader = replacement.previous_leader.as_deref();
            response.leader = leader.unwrap_or_default().to_owned();
        }
        step.reply(*token, response);
    }

    fn undo_replacement(
        &mut self,
        replacement: StaticReplacement,
        error: ErrorCode,
        step: &mut Step<'_>,
    ) {
        let StaticReplacement {
            token,
            new_id,
            previous,
            previous_leader,
            ..
        } = replacement;
        let old_id = previous.member_id.clone();
        self.replace(&new_id, old_id.clone(), step);
        let Member {
            protocols,
            rebalance_timeout_ms,
            session_timeout_ms,
            ..
        } = previous;
        self.update(&old_id, protocols, rebalance_timeout_ms, session_timeout_ms);
        self.refresh_subscribed_topics();
        step.arm_session(&self.id, &old_id, session_timeout_ms);
        let leader = previous_leader.as_deref().unwrap_or_default().to_owned();
        let response = JoinGroupResponse {
            error_code: error,
            leader,
            member_id: String::new(),
            members: vec![],
            ..self.joined(&old_id)
        };
        step.reply(token, response);
    }

    /// The answer to a join that has completed.
    pub(super) fn joined(&self, member_id: &str) -> JoinGroupResponse {
        let members = if self.is_leader(member_id) {
            self.members_for_leader()
        } else {
            vec![]
        };
        JoinGroupResponse {
            error_code: ErrorCode::NONE,
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members,
        }
    }

    fn members_for_leader(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| JoinGroupResponseMember {
            member_id: member.member_id.to_string(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(protocol),
        });
        members.collect()
    }

    /// Sends the group's record to the log.
    pub(super) fn write_record(
        &mut self,
        assignments: Option<&BTreeMap<MemberId, Bytes>>,
        then: Then,
        step: &mut Step<'_>,
    ) -> WriteId {
        let value = Some(self.to_value(assignments));
        let record = Record::Group {
            group: self.id.to_string(),
            value,
        };
        step.writes
            .append(vec![(self.id.clone(), record)], None, then, step.out)
    }
}
