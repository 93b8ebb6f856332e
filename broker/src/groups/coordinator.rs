//! The coordinator as a whole: which group a request, an outcome or a timer is for, and in which
//! order effects come about. What becomes of one group stands in the modules beside this one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::ErrorCode;
use runtime::Instant;

use super::fields::fits;
use super::group::{Group, GroupState};
use super::records::RecordToWrite;
use super::replay::ReplayCounts;
use super::request::{GroupRequest, Producer};
use super::response::{
    DescribeGroupResponse, GroupResponse, HeartbeatResponse, LeaveGroupResponse,
    LeaveGroupResponseMember, SyncGroupResponse,
};
use super::settings::Settings;
use super::timers::{GroupId, MemberId, Timer, Timers};
use super::writes::{Effect, Then, WriteId, Writes};

/// Names whoever awaits the answer to a request. Unique among those that are unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The time, as it is read by whoever calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For timeouts.
    pub now: Instant,
    /// For what is written down, Unix ms.
    pub wall_ms: i64,
}

/// What a coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The answer to a request.
    Reply {
        /// Who asked.
        token: Token,
        /// The answer.
        response: GroupResponse,
    },
    /// Records for the partition's log. Appends must enter the log in the order in which they come
    /// out, and each must be reported to [`Coordinator::committed`] or [`Coordinator::failed`].
    Append {
        /// Names it in that report.
        write: WriteId,
        /// At least one. They may become several batches; the write is one all the same.
        records: Vec<RecordToWrite>,
        /// Set if the batches are to be transactional ones of this producer.
        producer: Option<Producer>,
    },
}

/// What has happened so far, for metrics. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Generations that became stable.
    pub completed_rebalances: u64,
    /// Offsets committed by clients.
    pub offset_commits: u64,
    /// Offsets deleted by administrators.
    pub offset_deletions: u64,
    /// Offsets deleted since their time was over.
    pub offset_expirations: u64,
}

/// All groups of one partition of `__consumer_offsets`. See the module's documentation.
///
/// Life: [`new`](Self::new), [`replay`](Self::replay) of the partition's committed log,
/// [`loaded`](Self::loaded), then requests, outcomes and deadlines until leadership is lost and
/// [`resign`](Self::resign) answers those who still wait.
pub struct Coordinator {
    pub(super) settings: Settings,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// Which offsets each open transaction touches.
    pub(super) transactions: BTreeMap<i64, BTreeSet<(GroupId, String, i32)>>,
    pub(super) timers: Timers,
    pub(super) writes: Writes,
    pub(super) counters: Counters,
    pub(super) replayed: ReplayCounts,
    is_loaded: bool,
}

/// What a group needs to act on the world: one call of the coordinator, seen from within.
pub(super) struct Step<'a> {
    pub(super) settings: &'a Settings,
    pub(super) timers: &'a mut Timers,
    pub(super) writes: &'a mut Writes,
    pub(super) counters: &'a mut Counters,
    pub(super) at: Moment,
    pub(super) out: &'a mut Vec<Output>,
}

impl Step<'_> {
    pub(super) fn reply(&mut self, token: Token, response: impl Into<GroupResponse>) {
        self.out.push(Output::Reply {
            token,
            response: response.into(),
        });
    }

    pub(super) fn arm(&mut self, timer: Timer, after_ms: i32) {
        let after = Duration::from_millis(after_ms.max(0) as u64);
        self.timers.arm(timer, self.at.now + after);
    }

    pub(super) fn arm_session(&mut self, group: &GroupId, member: &MemberId, timeout_ms: i32) {
        self.arm(Timer::Session(group.clone(), member.clone()), timeout_ms);
    }

    pub(super) fn cancel_session(&mut self, group: &GroupId, member: &MemberId) {
        self.timers
            .cancel(&Timer::Session(group.clone(), member.clone()));
    }
}

impl Coordinator {
    /// A coordinator that knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        Coordinator {
            settings,
            groups: BTreeMap::new(),
            transactions: BTreeMap::new(),
            timers: Timers::default(),
            writes: Writes::default(),
            counters: Counters::default(),
            replayed: ReplayCounts::default(),
            is_loaded: false,
        }
    }

    /// The groups, and what they need to act.
    pub(super) fn split<'a>(
        &'a mut self,
        at: Moment,
        out: &'a mut Vec<Output>,
    ) -> (&'a mut BTreeMap<GroupId, Group>, Step<'a>) {
        let Coordinator {
            settings,
            groups,
            timers,
            writes,
            counters,
            ..
        } = self;
        (
            groups,
            Step {
                settings,
                timers,
                writes,
                counters,
                at,
                out,
            },
        )
    }

    /// Ends the replay. Members that the log knows have one session timeout from now to be heard
    /// of.
    pub fn loaded(&mut self, at: Moment, out: &mut Vec<Output>) {
        self.is_loaded = true;
        let (groups, mut step) = self.split(at, out);
        for group in groups.values_mut() {
            group.resume(&mut step);
        }
        self.forget_void_groups();
    }

    /// Takes one request. `token` names whoever awaits the answer, which may come from this call or
    /// from a later one. `ids` gives a fresh random number for a member's id.
    pub fn handle(
        &mut self,
        token: Token,
        request: GroupRequest,
        ids: &mut dyn FnMut() -> u128,
        at: Moment,
        out: &mut Vec<Output>,
    ) {
        if let Some(code) = self.code_at_once(&request) {
            let response = GroupResponse::refusal(&request, code);
            out.push(Output::Reply { token, response });
            return;
        }
        match request {
            GroupRequest::JoinGroup(join) => self.join_group(token, join, ids, at, out),
            GroupRequest::SyncGroup(sync) => {
                let group_id = sync.group_id.clone();
                let missing = SyncGroupResponse::failed(ErrorCode::UNKNOWN_MEMBER_ID);
                self.with_group(&group_id, token, missing, at, out, |group, step| {
                    group.sync(token, sync, step);
                });
            }
            GroupRequest::Heartbeat(beat) => {
                let missing = HeartbeatResponse {
                    error_code: ErrorCode::UNKNOWN_MEMBER_ID,
                };
                self.with_group(&beat.group_id, token, missing, at, out, |group, step| {
                    let error_code = group.heartbeat(&beat, step).err().unwrap_or_default();
                    step.reply(token, HeartbeatResponse { error_code });
                });
            }
            GroupRequest::LeaveGroup(leave) => {
                let unknown =
                    |member| LeaveGroupResponseMember::new(member, ErrorCode::UNKNOWN_MEMBER_ID);
                let members = leave.members.iter().map(unknown).collect();
                let missing = LeaveGroupResponse {
                    error_code: ErrorCode::NONE,
                    members,
                };
                self.with_group(&leave.group_id, token, missing, at, out, |group, step| {
                    group.leave(token, &leave, step);
                });
            }
            GroupRequest::OffsetCommit(commit) => self.commit(token, None, commit, at, out),
            GroupRequest::TxnOffsetCommit(producer, commit) => {
                self.commit(token, Some(producer), commit, at, out);
            }
            GroupRequest::OffsetFetch(fetch) => self.fetch(token, fetch, out),
            GroupRequest::OffsetDelete(delete) => self.delete_offsets(token, delete, at, out),
            GroupRequest::DeleteGroup(delete) => self.delete_group(token, delete, at, out),
            GroupRequest::DescribeGroup(describe) => {
                let response = match self.groups.get(&*describe.group_id) {
                    Some(group) => group.describe(),
                    None => DescribeGroupResponse::dead(&describe.group_id),
                };
                out.push(Output::Reply {
                    token,
                    response: response.into(),
                });
            }
            GroupRequest::ListGroups(list) => {
                let response = self.list(&list);
                out.push(Output::Reply {
                    token,
                    response: response.into(),
                });
            }
        }
    }

    /// The code that answers a request before any group is looked at.
    fn code_at_once(&self, request: &GroupRequest) -> Option<ErrorCode> {
        if !self.is_loaded {
            // A heartbeat is let off: to call its sender back would only cause a rebalance.
            return Some(match request {
                GroupRequest::Heartbeat(_) => ErrorCode::NONE,
                _ => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            });
        }
        let group_id = request.group_id()?;
        let may_be_empty = matches!(
            request,
            // Old clients that only store offsets may do so under no name.
            GroupRequest::OffsetCommit(_)
                | GroupRequest::OffsetFetch(_)
                | GroupRequest::DescribeGroup(_)
                | GroupRequest::DeleteGroup(_)
        );
        let valid = fits(group_id) && (may_be_empty || !group_id.is_empty());
        (!valid).then_some(ErrorCode::INVALID_GROUP_ID)
    }

    /// Lets a group that exists act; `missing` is the answer if it does not.
    fn with_group(
        &mut self,
        group_id: &str,
        token: Token,
        missing: impl Into<GroupResponse>,
        at: Moment,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut Group, &mut Step<'_>),
    ) {
        let (groups, mut step) = self.split(at, out);
        match groups.get_mut(group_id) {
            Some(group) => act(group, &mut step),
            None => step.reply(token, missing),
        }
        self.forget_if_void(group_id);
    }

    /// The group of that name, made if need be; `POLICY_VIOLATION` if there are too many.
    pub(super) fn group_or_new(
        &mut self,
        group_id: &str,
        wall_ms: i64,
    ) -> Result<&mut Group, ErrorCode> {
        if !self.groups.contains_key(group_id) {
            if self.groups.len() >= self.settings.max_groups {
                return Err(ErrorCode::POLICY_VIOLATION);
            }
            let id = GroupId::from(group_id);
            self.groups
                .insert(id.clone(), Group::new(id, Some(wall_ms)));
        }
        Ok(self
            .groups
            .get_mut(group_id)
            .expect("it was just put there"))
    }

    /// Forgets a group that holds nothing.
    pub(super) fn forget_if_void(&mut self, group_id: &str) {
        if self.groups.get(group_id).is_some_and(Group::is_void) {
            self.groups.remove(group_id);
        }
    }

    fn forget_void_groups(&mut self) {
        self.groups.retain(|_, group| !group.is_void());
    }

    /// The write is committed; its first record stands at `base_offset`.
    pub fn committed(
        &mut self,
        write: WriteId,
        base_offset: i64,
        at: Moment,
        out: &mut Vec<Output>,
    ) {
        self.writes.settle(write, Ok(base_offset));
        self.settle(at, out);
    }

    /// The write will never be in the log. Where that is not certain, the owner must not guess: it
    /// resigns and replays the log.
    pub fn failed(&mut self, write: WriteId, error: ErrorCode, at: Moment, out: &mut Vec<Output>) {
        self.writes.settle(write, Err(error));
        self.settle(at, out);
    }

    /// The marker of a transaction is committed at `marker_offset`.
    pub fn end_transaction(
        &mut self,
        producer_id: i64,
        committed: bool,
        marker_offset: i64,
        at: Moment,
        out: &mut Vec<Output>,
    ) {
        let effect = Effect::EndTransaction {
            producer_id,
            committed,
        };
        self.writes.push_settled(effect, marker_offset);
        self.settle(at, out);
    }

    /// The next time at which [`on_deadline`](Self::on_deadline) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Does what is due: delays, joins, syncs and sessions that have run out.
    pub fn on_deadline(&mut self, at: Moment, out: &mut Vec<Output>) {
        while let Some(timer) = self.timers.take_due(at.now) {
            let (Timer::Join(id) | Timer::Sync(id) | Timer::Session(id, _)) = &timer;
            let id = id.clone();
            let (groups, mut step) = self.split(at, out);
            if let Some(group) = groups.get_mut(&id) {
                match timer {
                    Timer::Join(_) => group.join_time_is_over(&mut step),
                    Timer::Sync(_) => group.sync_time_is_over(&mut step),
                    Timer::Session(_, member) => group.session_is_over(&member, &mut step),
                }
            }
            self.forget_if_void(&id);
        }
    }

    /// Leadership is lost: everybody who waits is sent to the new coordinator, and all is
    /// forgotten. What was being written may or may not be in the log.
    pub fn resign(&mut self, out: &mut Vec<Output>) {
        let error = ErrorCode::NOT_COORDINATOR;
        for write in self.writes.take_all() {
            if let Then::Reply { token, response } = write.then {
                out.push(Output::Reply {
                    token,
                    response: response.retracted(error),
                });
            }
            for (token, fetch) in write.fetches {
                let response = GroupResponse::refusal(&GroupRequest::OffsetFetch(fetch), error);
                out.push(Output::Reply { token, response });
            }
        }
        for group in std::mem::take(&mut self.groups).values_mut() {
            for member in group.members.values_mut() {
                member.answer_waiting(error, out);
            }
        }
        self.transactions.clear();
        self.timers.clear();
        self.replayed = ReplayCounts::default();
        self.is_loaded = false;
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many writes have no outcome yet.
    pub fn writes_under_way(&self) -> usize {
        self.writes.len()
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many groups are in each state.
    pub fn groups_by_state(&self) -> BTreeMap<GroupState, usize> {
        let mut counts = BTreeMap::new();
        for group in self.groups.values() {
            *counts.entry(group.state).or_insert(0) += 1;
        }
        counts
    }
}
