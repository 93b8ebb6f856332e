//! One group: its members, its state, what they agree on. Everything here is arithmetic on values;
//! what a request, a timer or a write makes of it stands in the modules beside this one. Must not
//! know answers, writes or timers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use protocol::ErrorCode;

use super::coordinator::Token;
use super::member::Member;
use super::offsets::Offsets;
use super::records::{GroupValue, MemberValue};
use super::request::JoinGroupProtocol;
use super::response::{DescribeGroupResponse, DescribedGroupMember};
use super::subscription::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};
use super::timers::{GroupId, MemberId};
use super::writes::WriteId;

/// The states of a classic group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    /// No members; offsets perhaps.
    Empty,
    /// Waits for members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// Does not exist.
    Dead,
}

impl GroupState {
    /// All of them.
    pub const ALL: [GroupState; 5] = [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
        GroupState::Dead,
    ];

    /// Kafka's name of the state.
    pub const fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }

    fn may_follow(self, before: GroupState) -> bool {
        use GroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};
        match self {
            Empty | CompletingRebalance => before == PreparingRebalance,
            PreparingRebalance => matches!(before, Stable | CompletingRebalance | Empty),
            Stable => before == CompletingRebalance,
            Dead => true,
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long the first members of an empty group still wait for others.
#[derive(Clone, Copy, Debug)]
pub(super) struct InitialDelay {
    /// The delay that runs now.
    pub(super) delay_ms: i32,
    /// What may be added to it.
    pub(super) remaining_ms: i32,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) state: GroupState,
    /// When it came into its state, Unix ms.
    pub(super) state_since_ms: Option<i64>,
    /// `None` in a group that has only ever stored offsets.
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) generation_id: i32,
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    /// Static members by instance id.
    pub(super) static_members: BTreeMap<String, MemberId>,
    /// Ids that were given out (KIP-394) and have not joined yet.
    pub(super) pending_join: BTreeSet<MemberId>,
    /// Members that have not asked for the assignment of this generation yet.
    pub(super) pending_sync: BTreeSet<MemberId>,
    /// How many members support each protocol.
    votes: BTreeMap<String, usize>,
    /// How many members wait in a join.
    awaiting_join: usize,
    /// `None` where that cannot be known.
    pub(super) subscribed_topics: Option<BTreeSet<String>>,
    /// The rebalance under way is the first since the group was empty.
    pub(super) initial_rebalance: bool,
    /// While such a rebalance is being delayed.
    pub(super) initial_delay: Option<InitialDelay>,
    /// A member came while it was.
    pub(super) new_member_added: bool,
    /// The leader's assignment of this generation, on its way to the log.
    pub(super) assignment_write: Option<WriteId>,
    /// The group's tombstone is on its way to the log.
    pub(super) deleting: bool,
    /// The group's record as it stands in the log.
    pub(super) durable: Option<Bytes>,
    pub(super) offsets: Offsets,
}

impl Group {
    /// A group that nobody knew so far.
    pub(super) fn new(id: GroupId, state_since_ms: Option<i64>) -> Self {
        Group {
            id,
            state: GroupState::Empty,
            state_since_ms,
            protocol_type: None,
            protocol_name: None,
            generation_id: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            votes: BTreeMap::new(),
            awaiting_join: 0,
            subscribed_topics: None,
            initial_rebalance: false,
            initial_delay: None,
            new_member_added: false,
            assignment_write: None,
            deleting: false,
            durable: None,
            offsets: Offsets::default(),
        }
    }

    /// A group as its record says; offsets are not part of it.
    pub(super) fn restored(id: GroupId, value: GroupValue, encoded: Bytes) -> Self {
        let since = Some(value.current_state_timestamp).filter(|since| *since != -1);
        let mut group = Group::new(id, since);
        group.generation_id = value.generation;
        for member in value.members {
            let protocol = value.protocol.clone().unwrap_or_default();
            let timeout = match member.rebalance_timeout {
                -1 => member.session_timeout,
                timeout => timeout,
            };
            group.add(Member {
                member_id: member.member_id.into(),
                group_instance_id: member.group_instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: timeout,
                session_timeout_ms: member.session_timeout,
                protocols: vec![JoinGroupProtocol {
                    name: protocol,
                    metadata: member.subscription,
                }],
                assignment: member.assignment,
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
            });
        }
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
        }
        if let Some(leader) = value.leader.and_then(|id| group.member_id(&id)) {
            group.leader = Some(leader);
        }
        group.protocol_type = Some(value.protocol_type).filter(|name| !name.is_empty());
        group.protocol_name = value.protocol;
        group.durable = Some(encoded);
        group.refresh_subscribed_topics();
        group
    }

    /// The group's record. `assignments` are those that the leader brought, if it just did.
    pub(super) fn to_value(&self, assignments: Option<&BTreeMap<MemberId, Bytes>>) -> GroupValue {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| MemberValue {
            member_id: member.member_id.to_string(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: match assignments {
                Some(brought) => brought.get(&member.member_id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            },
        });
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation_id,
            protocol: self.protocol_name.clone(),
            leader: self.leader.as_ref().map(|leader| leader.to_string()),
            current_state_timestamp: self.state_since_ms.unwrap_or(-1),
            members: members.collect(),
        }
    }

    /// Whether nothing would be missed if the group were forgotten.
    pub(super) fn is_void(&self) -> bool {
        self.state == GroupState::Empty
            && self.generation_id == 0
            && self.pending_join.is_empty()
            && !self.deleting
            && self.durable.is_none()
            && self.offsets.is_empty()
    }

    /// Changes the state.
    pub(super) fn enter(&mut self, state: GroupState, wall_ms: i64) {
        assert!(
            state.may_follow(self.state),
            "group {} generation {} cannot go from {} to {state}",
            self.id,
            self.generation_id,
            self.state,
        );
        self.state = state;
        self.state_since_ms = Some(wall_ms);
    }

    /// The shared form of a member's id.
    pub(super) fn member_id(&self, member_id: &str) -> Option<MemberId> {
        self.members
            .get_key_value(member_id)
            .map(|(id, _)| id.clone())
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Whether `member_id` is a member; for a static one, whether it is the instance's latest.
    pub(super) fn validate_member(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<MemberId, ErrorCode> {
        if let Some(instance_id) = group_instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if **current != *member_id => {
                    return Err(ErrorCode::FENCED_INSTANCE_ID);
                }
                Some(_) => {}
            }
        }
        self.member_id(member_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
    }

    /// Adds a member. It must share a protocol with all others.
    pub(super) fn add(&mut self, member: Member) {
        let id = member.member_id.clone();
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members.insert(instance_id.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.pending_join.remove(&id);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.count_votes(&member.protocols);
        if let Some(displaced) = self.members.insert(id, member) {
            self.forget(&displaced);
        }
    }

    /// Removes a member, and with it its place as a leader.
    pub(super) fn remove(&mut self, member_id: &str) -> Option<Member> {
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        let member = self.members.remove(member_id)?;
        self.forget(&member);
        if let Some(instance_id) = &member.group_instance_id
            && self
                .static_members
                .get(instance_id)
                .is_some_and(|id| **id == *member_id)
        {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    fn forget(&mut self, member: &Member) {
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        self.discount_votes(&member.protocols);
    }

    /// Gives a static member another id; all else of it stays, save that it waits for nothing.
    pub(super) fn rename(&mut self, old_id: &str, new_id: MemberId) -> Member {
        let was_leader = self.is_leader(old_id);
        let leader = self.leader.clone();
        let owed_sync = self.pending_sync.contains(old_id);
        let previous = self.remove(old_id).expect("only members are renamed");
        self.leader = if was_leader {
            Some(new_id.clone())
        } else {
            leader
        };
        if owed_sync {
            self.pending_sync.insert(new_id.clone());
        }
        self.add(Member {
            member_id: new_id,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            ..previous.clone()
        });
        previous
    }

    /// Takes over what a member says in another join.
    pub(super) fn update(
        &mut self,
        member_id: &str,
        protocols: Vec<JoinGroupProtocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let member = self
            .members
            .get_mut(member_id)
            .expect("only members are updated");
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        let before = std::mem::replace(&mut member.protocols, protocols.clone());
        self.discount_votes(&before);
        self.count_votes(&protocols);
    }

    /// Lets a member's join wait. Hands back the one that waited so far.
    pub(super) fn park_join(&mut self, member_id: &str, token: Token) -> Option<Token> {
        let member = self.members.get_mut(member_id).expect("only members wait");
        let displaced = member.awaiting_join.replace(token);
        self.awaiting_join += usize::from(displaced.is_none());
        displaced
    }

    /// Ends the wait of a member's join.
    pub(super) fn take_join(&mut self, member_id: &str) -> Option<Token> {
        let token = self.members.get_mut(member_id)?.awaiting_join.take();
        self.awaiting_join -= usize::from(token.is_some());
        token
    }

    pub(super) fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    pub(super) fn all_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_join.is_empty()
    }

    /// Makes sure that the leader is one that has joined. False if there is none.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &Member| member.awaiting_join.is_some();
        let leader = self
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader));
        if leader.is_some_and(joined) {
            return true;
        }
        let elected = self.members.values().find(|member| joined(member));
        match elected.map(|member| member.member_id.clone()) {
            Some(elected) => {
                self.leader = Some(elected);
                true
            }
            None => false,
        }
    }

    /// The longest time that a member wants to have for joining.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
            .max(0)
    }

    fn count_votes(&mut self, protocols: &[JoinGroupProtocol]) {
        for protocol in protocols {
            *self.votes.entry(protocol.name.clone()).or_insert(0) += 1;
        }
    }

    fn discount_votes(&mut self, protocols: &[JoinGroupProtocol]) {
        for protocol in protocols {
            let count = self
                .votes
                .get_mut(&protocol.name)
                .expect("each name was counted");
            *count -= 1;
            if *count == 0 {
                self.votes.remove(&protocol.name);
            }
        }
    }

    fn supported_by_all(&self, protocol: &str) -> bool {
        self.votes.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// Whether somebody with these protocols fits into the group.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[JoinGroupProtocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|protocol| self.supported_by_all(&protocol.name))
    }

    /// Each member votes for the first of its protocols that all know. Among protocols with equally
    /// many votes the leader's preference decides.
    ///
    /// # Panics
    /// If the group has no members.
    pub(super) fn select_protocol(&self) -> String {
        let mut ballot: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find(|offered| self.supported_by_all(&offered.name));
            let choice = choice.expect("members that share no protocol are not let in");
            *ballot.entry(&choice.name).or_insert(0) += 1;
        }
        let most = ballot.values().copied().max().unwrap_or(0);
        let leader = self
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader));
        let leader = leader.expect("a group with members has a leader");
        let preferred = leader.protocols.iter().map(|offered| offered.name.as_str());
        let mut chosen = preferred.filter(|name| ballot.get(name).copied() == Some(most));
        chosen
            .next()
            .expect("the leader knows what all know")
            .to_owned()
    }

    /// Moves on to the next generation with the members that there are.
    pub(super) fn begin_generation(&mut self, wall_ms: i64) {
        self.generation_id = self.generation_id.wrapping_add(1).max(0);
        self.pending_sync.clear();
        self.assignment_write = None;
        self.initial_delay = None;
        self.initial_rebalance = false;
        if self.members.is_empty() {
            self.protocol_name = None;
            self.enter(GroupState::Empty, wall_ms);
        } else {
            self.protocol_name = Some(self.select_protocol());
            self.enter(GroupState::CompletingRebalance, wall_ms);
        }
        self.refresh_subscribed_topics();
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Reads the members' subscriptions anew.
    pub(super) fn refresh_subscribed_topics(&mut self) {
        self.subscribed_topics = None;
        if !self.uses_consumer_protocol() {
            return;
        }
        let Some(protocol) = self.protocol_name.as_deref() else {
            self.subscribed_topics = self.members.is_empty().then(BTreeSet::new);
            return;
        };
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            match subscribed_topics(&member.metadata(protocol)) {
                Ok(subscribed) => topics.extend(subscribed),
                // Somebody calls itself a consumer and is none: nothing is known then.
                Err(_) => return,
            }
        }
        self.subscribed_topics = Some(topics);
    }

    /// Whether a member may be reading `topic`.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// The group as an administrator sees it.
    pub(super) fn describe(&self) -> DescribeGroupResponse {
        let chosen = self
            .protocol_name
            .as_deref()
            .filter(|_| self.state == GroupState::Stable);
        let members = self.members.values().map(|member| DescribedGroupMember {
            member_id: member.member_id.to_string(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            member_metadata: chosen
                .map(|chosen| member.metadata(chosen))
                .unwrap_or_default(),
            member_assignment: member.assignment.clone(),
        });
        DescribeGroupResponse {
            error_code: ErrorCode::NONE,
            group_id: self.id.to_string(),
            group_state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_data: chosen.unwrap_or_default().to_owned(),
            members: members.collect(),
        }
    }
}
