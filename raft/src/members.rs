//! Who belongs to a Raft group: identities, configurations, and their record in the log.
//!
//! A configuration is changed by joint consensus with an explicit end (Ongaro's thesis, 4.3): one
//! Membership entry enters the joint configuration, a second one leaves it. Each entry records both
//! the change and the configuration that results, so that a restart needs one entry and not the
//! history, and so that the writer and the reader of the fact check each other.
//!
//! A configuration counts from the moment it is *committed and handed out* (raft-rs applies it
//! then), not from the moment it is appended. That is safe only because a replica that holds an
//! entry proposed under the new configuration also knows, durably, that the change is committed:
//! the leader proposes under it only after the change committed, append messages carry the commit
//! index, and `ready` stages the commit index in the same write as the entries that came
//! with it. After a crash the newest Membership entry at or below the durable commit index is
//! therefore never older than the configuration in which anything durable above it was decided.
//!
//! This module must not know how entries travel or where they lie. Deliberately absent: addresses,
//! racks and placement (the cluster's metadata) and single-step changes.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
};

use crate::input::{CutShort, Input};

/// More replicas than any group may have; a record that claims more is damaged.
pub const MEMBERS_MAX: usize = 64;

/// A member of a Raft group: a node together with the incarnation of its disk.
///
/// A node that lost its disk has also lost its votes and its log, so it must not return under its
/// old name (KIP-853 has the same rule): it comes back with the next incarnation, as a learner.
/// The same identity is used in every group that the node takes part in.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(u64);

impl ReplicaId {
    /// `None` for a negative node or for incarnation 0 (incarnations count from 1, so that no
    /// identity is 0, which means "nobody" in Raft).
    pub fn new(node: i32, incarnation: u32) -> Option<ReplicaId> {
        let node = u32::try_from(node).ok()?;
        (incarnation > 0).then_some(ReplicaId(u64::from(node) << 32 | u64::from(incarnation)))
    }

    /// The inverse of [`ReplicaId::as_u64`]; `None` if no identity has this number.
    pub fn from_u64(number: u64) -> Option<ReplicaId> {
        ReplicaId::new(i32::try_from(number >> 32).ok()?, number as u32)
    }

    pub fn node(self) -> i32 {
        (self.0 >> 32) as i32
    }

    pub fn incarnation(self) -> u32 {
        self.0 as u32
    }

    /// Never 0.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node(), self.incarnation())
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One step of a change of members.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Adds a voter, or promotes a learner.
    AddVoter(ReplicaId),
    /// Adds a learner, or demotes a voter.
    AddLearner(ReplicaId),
    /// Removes a voter or a learner.
    Remove(ReplicaId),
}

impl Change {
    fn replica(self) -> ReplicaId {
        match self {
            Change::AddVoter(id) | Change::AddLearner(id) | Change::Remove(id) => id,
        }
    }
}

/// Why a change of members is refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("the group is still in a joint configuration")]
    Joint,
    #[error("the change would leave the group without a voter")]
    NoVoters,
    #[error("replica {0} appears twice in the change")]
    Twice(ReplicaId),
    #[error("the change changes nothing")]
    Unchanged,
    #[error("the group would have {0} members; {MEMBERS_MAX} is the most")]
    TooMany(usize),
}

/// A configuration of a group. All lists are sorted and free of duplicates.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Members {
    voters: Vec<ReplicaId>,
    outgoing: Vec<ReplicaId>,
    learners: Vec<ReplicaId>,
    learners_next: Vec<ReplicaId>,
}

impl Members {
    /// A group with these voters and no learners.
    pub fn of_voters(ids: impl IntoIterator<Item = ReplicaId>) -> Members {
        Members {
            voters: sorted(ids),
            ..Members::default()
        }
    }

    /// The voters; in a joint configuration those of the incoming half.
    pub fn voters(&self) -> &[ReplicaId] {
        &self.voters
    }

    /// In a joint configuration the voters of the outgoing half, else empty.
    pub fn outgoing(&self) -> &[ReplicaId] {
        &self.outgoing
    }

    pub fn learners(&self) -> &[ReplicaId] {
        &self.learners
    }

    /// Voters of the outgoing half that become learners when the joint configuration is left.
    pub fn learners_next(&self) -> &[ReplicaId] {
        &self.learners_next
    }

    /// Whether two majorities must agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` votes, in either half.
    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    pub fn contains(&self, id: ReplicaId) -> bool {
        self.is_voter(id) || self.learners.contains(&id) || self.learners_next.contains(&id)
    }

    /// Whether a member lives on the node.
    pub fn has_node(&self, node: i32) -> bool {
        let lists = [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.learners_next,
        ];
        lists.into_iter().flatten().any(|id| id.node() == node)
    }

    /// Whether `id` decides alone.
    pub fn is_sole_voter(&self, id: ReplicaId) -> bool {
        self.voters == [id] && !self.is_joint()
    }

    /// Whether `id` is the whole group: nobody to send to, nobody to wait for.
    pub fn is_alone(&self, id: ReplicaId) -> bool {
        self.is_sole_voter(id) && self.learners.is_empty()
    }

    /// Everybody except `id`, each once, in order.
    pub fn peers_of(&self, id: ReplicaId) -> Vec<ReplicaId> {
        let lists = [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.learners_next,
        ];
        sorted(
            lists
                .into_iter()
                .flatten()
                .copied()
                .filter(|peer| *peer != id),
        )
    }

    /// The joint configuration that the change leads into.
    pub fn enter_joint(&self, changes: &[Change]) -> Result<Members, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::Joint);
        }
        let mut next = self.clone();
        next.outgoing = self.voters.clone();
        for (at, change) in changes.iter().enumerate() {
            let id = change.replica();
            if changes[..at].iter().any(|earlier| earlier.replica() == id) {
                return Err(ChangeError::Twice(id));
            }
            next.apply(*change);
        }
        if next.voters.is_empty() {
            return Err(ChangeError::NoVoters);
        }
        if next.voters == self.voters && next.learners == self.learners {
            return Err(ChangeError::Unchanged);
        }
        let count = next.peers_of(ReplicaId(0)).len();
        if count > MEMBERS_MAX {
            return Err(ChangeError::TooMany(count));
        }
        next.verify();
        Ok(next)
    }

    fn apply(&mut self, change: Change) {
        let id = change.replica();
        self.voters.retain(|voter| *voter != id);
        self.learners.retain(|learner| *learner != id);
        match change {
            Change::AddVoter(_) => insert(&mut self.voters, id),
            // Nobody votes and learns at once: a voter of the outgoing half waits for its end.
            Change::AddLearner(_) if self.outgoing.contains(&id) => {
                insert(&mut self.learners_next, id);
            }
            Change::AddLearner(_) => insert(&mut self.learners, id),
            Change::Remove(_) => {}
        }
    }

    /// The configuration after the joint one is left; `None` if this one is not joint.
    pub fn leave_joint(&self) -> Option<Members> {
        if !self.is_joint() {
            return None;
        }
        let next = Members {
            voters: self.voters.clone(),
            outgoing: Vec::new(),
            learners: sorted(self.learners.iter().chain(&self.learners_next).copied()),
            learners_next: Vec::new(),
        };
        next.verify();
        Some(next)
    }

    /// Changes that lead to `other`, neither being joint.
    fn changes_to(&self, other: &Members) -> Vec<Change> {
        let gone = self
            .voters
            .iter()
            .chain(&self.learners)
            .filter(|id| !other.contains(**id));
        let removed = gone.map(|id| Change::Remove(*id));
        let voters = other.voters.iter().map(|id| Change::AddVoter(*id));
        let learners = other.learners.iter().map(|id| Change::AddLearner(*id));
        removed.chain(voters).chain(learners).collect()
    }

    /// Re-asserts what must hold between the lists.
    pub fn verify(&self) {
        for list in [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.learners_next,
        ] {
            assert!(
                list.is_sorted_by(|a, b| a < b),
                "members out of order: {self:?}"
            );
        }
        assert!(!self.voters.is_empty(), "a group without voters: {self:?}");
        for id in &self.learners {
            assert!(!self.is_voter(*id), "{id} votes and learns: {self:?}");
        }
        for id in &self.learners_next {
            assert!(
                self.outgoing.contains(id),
                "{id} waits without having voted: {self:?}"
            );
            assert!(
                !self.voters.contains(id),
                "{id} votes on and waits to learn: {self:?}"
            );
        }
    }

    pub(crate) fn to_conf_state(&self) -> ConfState {
        let numbers = |list: &[ReplicaId]| list.iter().map(|id| id.as_u64()).collect::<Vec<_>>();
        ConfState {
            voters: numbers(&self.voters),
            voters_outgoing: numbers(&self.outgoing),
            learners: numbers(&self.learners),
            learners_next: numbers(&self.learners_next),
            ..ConfState::default()
        }
    }

    /// Whether raft-rs came to the same configuration.
    pub(crate) fn agrees_with(&self, state: &ConfState) -> bool {
        let same = |list: &[ReplicaId], numbers: &[u64]| {
            let mut numbers = numbers.to_vec();
            numbers.sort_unstable();
            list.iter().map(|id| id.as_u64()).eq(numbers)
        };
        same(&self.voters, &state.voters)
            && same(&self.outgoing, &state.voters_outgoing)
            && same(&self.learners, &state.learners)
            && same(&self.learners_next, &state.learners_next)
            && !state.auto_leave
    }
}

fn sorted(ids: impl IntoIterator<Item = ReplicaId>) -> Vec<ReplicaId> {
    let mut ids: Vec<ReplicaId> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn insert(list: &mut Vec<ReplicaId>, id: ReplicaId) {
    if let Err(at) = list.binary_search(&id) {
        list.insert(at, id);
    }
}

/// What a Membership entry does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Writes a configuration into the log as it is: the one that the group was created with, so that
    /// from then on the log, and not the creator, is the authority; or one that was forced upon it.
    Declare,
    /// Enters a joint configuration.
    Enter(Vec<Change>),
    /// Leaves the joint configuration.
    Leave,
}

impl Step {
    /// What raft-rs is told, in order, when the entry is applied; `before` is the configuration
    /// that was in force.
    pub(crate) fn to_conf_changes(&self, before: &Members, after: &Members) -> Vec<ConfChangeV2> {
        // Without a transition and without changes: "leave" in raft-rs.
        let leave = ConfChangeV2::default();
        match self {
            Step::Leave => vec![leave],
            Step::Enter(changes) => vec![enter(changes)],
            Step::Declare if before == after => Vec::new(),
            // A replica that joined later was opened with a configuration that need not be the
            // one in which the log begins. And one that is forced may find any in force: see
            // [`crate::forced`].
            Step::Declare => match before.leave_joint() {
                Some(left) if left == *after => vec![leave],
                Some(left) => vec![leave.clone(), enter(&left.changes_to(after)), leave],
                None => vec![enter(&before.changes_to(after)), leave],
            },
        }
    }
}

fn enter(changes: &[Change]) -> ConfChangeV2 {
    let mut change = ConfChangeV2::default();
    // Explicit, because raft-rs may never leave by itself if the leader steps down before it
    // applies the entry (a known gap of its auto-leave).
    change.set_transition(ConfChangeTransition::Explicit);
    change.set_changes(
        changes
            .iter()
            .map(|change| single(*change))
            .collect::<Vec<_>>()
            .into(),
    );
    change
}

fn single(change: Change) -> ConfChangeSingle {
    let node_id = change.replica().as_u64();
    let mut single = ConfChangeSingle {
        node_id,
        ..Default::default()
    };
    single.set_change_type(match change {
        Change::AddVoter(_) => ConfChangeType::AddNode,
        Change::AddLearner(_) => ConfChangeType::AddLearnerNode,
        Change::Remove(_) => ConfChangeType::RemoveNode,
    });
    single
}

/// The content of a Membership entry: what it does and the configuration that results.
///
/// Layout, little-endian: version u8 (1), step u8 (0 declare, 1 enter, 2 leave), number of changes
/// u8, per change kind u8 (0 voter, 1 learner, 2 remove) and replica u64; then the lists voters,
/// outgoing, learners, learners_next: each a count u8 and replicas u64. A later version must stay
/// readable by the version before it until every node of a cluster writes the later one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    pub step: Step,
    pub members: Members,
}

/// Why a Membership record cannot be read.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembershipError {
    #[error("membership record of version {0}; this build reads version 1")]
    Version(u8),
    #[error("membership record is damaged: {0}")]
    Damaged(&'static str),
}

const VERSION: u8 = 1;

impl Membership {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(VERSION);
        let (tag, changes): (u8, &[Change]) = match &self.step {
            Step::Declare => (0, &[]),
            Step::Enter(changes) => (1, changes),
            Step::Leave => (2, &[]),
        };
        out.put_u8(tag);
        out.put_u8(changes.len() as u8);
        for change in changes {
            out.put_u8(match change {
                Change::AddVoter(_) => 0,
                Change::AddLearner(_) => 1,
                Change::Remove(_) => 2,
            });
            out.put_u64_le(change.replica().as_u64());
        }
        let members = &self.members;
        for list in [
            &members.voters,
            &members.outgoing,
            &members.learners,
            &members.learners_next,
        ] {
            assert!(
                list.len() <= MEMBERS_MAX,
                "{} members in one list",
                list.len()
            );
            out.put_u8(list.len() as u8);
            list.iter().for_each(|id| out.put_u64_le(id.as_u64()));
        }
        out.freeze()
    }

    pub fn decode(record: &[u8]) -> Result<Membership, MembershipError> {
        let mut input = Input(record);
        match input.u8()? {
            VERSION => {}
            other => return Err(MembershipError::Version(other)),
        }
        let tag = input.u8()?;
        let changes = changes(&mut input)?;
        let step = match (tag, changes.is_empty()) {
            (0, true) => Step::Declare,
            (1, false) => Step::Enter(changes),
            (2, true) => Step::Leave,
            _ => return Err(MembershipError::Damaged("unknown step")),
        };
        let members = Members {
            voters: replicas(&mut input)?,
            outgoing: replicas(&mut input)?,
            learners: replicas(&mut input)?,
            learners_next: replicas(&mut input)?,
        };
        if !input.0.is_empty() {
            return Err(MembershipError::Damaged("bytes left over"));
        }
        if !members.is_sound() {
            return Err(MembershipError::Damaged("the lists contradict each other"));
        }
        Ok(Membership { step, members })
    }
}

impl Members {
    /// [`Members::verify`] for input from a disk or a peer.
    fn is_sound(&self) -> bool {
        !self.voters.is_empty()
            && self.learners.iter().all(|id| !self.is_voter(*id))
            && self
                .learners_next
                .iter()
                .all(|id| self.outgoing.contains(id) && !self.voters.contains(id))
    }
}

impl From<CutShort> for MembershipError {
    fn from(_: CutShort) -> MembershipError {
        MembershipError::Damaged("cut short")
    }
}

fn count(input: &mut Input<'_>) -> Result<usize, MembershipError> {
    let count = usize::from(input.u8()?);
    if count > MEMBERS_MAX {
        return Err(MembershipError::Damaged("too many members"));
    }
    Ok(count)
}

fn replica(input: &mut Input<'_>) -> Result<ReplicaId, MembershipError> {
    ReplicaId::from_u64(input.u64()?).ok_or(MembershipError::Damaged("no such replica identity"))
}

fn replicas(input: &mut Input<'_>) -> Result<Vec<ReplicaId>, MembershipError> {
    let list = (0..count(input)?)
        .map(|_| replica(input))
        .collect::<Result<Vec<_>, _>>()?;
    if !list.is_sorted_by(|a, b| a < b) {
        return Err(MembershipError::Damaged("members out of order"));
    }
    Ok(list)
}

fn changes(input: &mut Input<'_>) -> Result<Vec<Change>, MembershipError> {
    let mut list = Vec::new();
    for _ in 0..count(input)? {
        let kind = input.u8()?;
        let id = replica(input)?;
        list.push(match kind {
            0 => Change::AddVoter(id),
            1 => Change::AddLearner(id),
            2 => Change::Remove(id),
            _ => return Err(MembershipError::Damaged("unknown change")),
        });
    }
    Ok(list)
}
