//! The rebalance: gathering the members, beginning a generation, and what happens to those who are
//! late. Both kinds look the same from here: an eager member gives up its partitions before it
//! joins, a cooperative one says in its metadata what it still owns and comes back once more.

use protocol::ErrorCode;

use super::coordinator::Step;
use super::group::{Group, GroupState, InitialDelay};
use super::member::Member;
use super::response::SyncGroupResponse;
use super::timers::{MemberId, Timer};
use super::writes::{Then, WriteId};

impl Group {
    /// Takes up the group after a replay.
    pub(super) fn resume(&mut self, step: &mut Step<'_>) {
        for member in self.members.values() {
            step.arm_session(&self.id, &member.member_id, member.session_timeout_ms);
        }
        if self.members.len() > step.settings.max_size {
            // The limit is lower than it was. A rebalance lets members commit before some must go.
            self.prepare_rebalance(step);
        }
    }

    /// Begins a rebalance, or looks whether the one under way is complete. If that empties the
    /// group, the write of its record is returned.
    pub(super) fn rebalance(&mut self, step: &mut Step<'_>) -> Option<WriteId> {
        match self.state {
            GroupState::PreparingRebalance if self.initial_rebalance => None,
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(step),
            _ => self.prepare_rebalance(step),
        }
    }

    /// Begins a rebalance.
    pub(super) fn prepare_rebalance(&mut self, step: &mut Step<'_>) -> Option<WriteId> {
        if self.state == GroupState::CompletingRebalance {
            self.fail_syncs(ErrorCode::REBALANCE_IN_PROGRESS, step);
        }
        self.pending_sync.clear();
        self.assignment_write = None;
        step.timers.cancel(&Timer::Sync(self.id.clone()));
        self.initial_rebalance = self.state == GroupState::Empty;
        self.enter(GroupState::PreparingRebalance, step.at.wall_ms);
        if self.initial_rebalance {
            let delay_ms = step.settings.initial_rebalance_delay_ms;
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.new_member_added = false;
            self.delay(
                InitialDelay {
                    delay_ms,
                    remaining_ms,
                },
                step,
            );
            return None;
        }
        if self.all_joined() {
            return self.complete_join(step);
        }
        step.arm(Timer::Join(self.id.clone()), self.rebalance_timeout_ms());
        None
    }

    fn delay(&mut self, delay: InitialDelay, step: &mut Step<'_>) {
        self.initial_delay = Some(delay);
        step.arm(Timer::Join(self.id.clone()), delay.delay_ms);
    }

    /// The time to join is over, or the delay of a first rebalance.
    pub(super) fn join_time_is_over(&mut self, step: &mut Step<'_>) {
        if let Some(InitialDelay {
            delay_ms,
            remaining_ms,
        }) = self.initial_delay
            && self.new_member_added
            && remaining_ms > 0
        {
            self.new_member_added = false;
            let next = InitialDelay {
                delay_ms: step.settings.initial_rebalance_delay_ms.min(remaining_ms),
                remaining_ms: (remaining_ms - delay_ms).max(0),
            };
            return self.delay(next, step);
        }
        if self.state == GroupState::PreparingRebalance {
            self.complete_join(step);
        }
    }

    /// Completes the join if nobody is missing.
    pub(super) fn complete_join_if_all_joined(&mut self, step: &mut Step<'_>) -> Option<WriteId> {
        if self.state == GroupState::PreparingRebalance && self.all_joined() {
            self.complete_join(step)
        } else {
            None
        }
    }

    /// Begins a generation with those who have joined, and with the static members that have not.
    fn complete_join(&mut self, step: &mut Step<'_>) -> Option<WriteId> {
        step.timers.cancel(&Timer::Join(self.id.clone()));
        self.initial_delay = None;
        let late = |member: &&Member| member.awaiting_join.is_none() && !member.is_static();
        let late: Vec<MemberId> = self
            .members
            .values()
            .filter(late)
            .map(|member| member.member_id.clone())
            .collect();
        for member_id in late {
            self.expel(&member_id, ErrorCode::UNKNOWN_MEMBER_ID, step);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members, and none of them has come: their sessions decide.
            step.arm(Timer::Join(self.id.clone()), self.rebalance_timeout_ms());
            return None;
        }
        self.begin_generation(step.at.wall_ms);
        if self.state == GroupState::Empty {
            return Some(self.write_record(None, Then::Nothing, step));
        }
        self.announce_generation(step);
        None
    }

    fn announce_generation(&mut self, step: &mut Step<'_>) {
        let members: Vec<MemberId> = self.members.keys().cloned().collect();
        for member_id in members {
            let token = self.take_join(&member_id);
            if let Some(token) = token {
                step.reply(token, self.joined(&member_id));
            }
            let member = self
                .members
                .get_mut(&member_id)
                .expect("it was just listed");
            member.is_new = false;
            step.arm_session(&self.id, &member_id, member.session_timeout_ms);
            self.pending_sync.insert(member_id);
        }
        step.arm(Timer::Sync(self.id.clone()), self.rebalance_timeout_ms());
    }

    /// Tells all who wait for an assignment that there will be none.
    pub(super) fn fail_syncs(&mut self, error: ErrorCode, step: &mut Step<'_>) {
        for member in self.members.values_mut() {
            member.assignment.clear();
            if let Some(token) = member.awaiting_sync.take() {
                step.reply(token, SyncGroupResponse::failed(error));
                step.arm_session(&self.id, &member.member_id, member.session_timeout_ms);
            }
        }
    }

    /// The time to ask for the assignment is over: who has not is out.
    pub(super) fn sync_time_is_over(&mut self, step: &mut Step<'_>) {
        let late = std::mem::take(&mut self.pending_sync);
        if late.is_empty() {
            return;
        }
        for member_id in late {
            self.expel(&member_id, ErrorCode::UNKNOWN_MEMBER_ID, step);
        }
        self.prepare_rebalance(step);
    }

    /// A member, or one that was only given an id, has not been heard of for too long.
    pub(super) fn session_is_over(&mut self, member_id: &MemberId, step: &mut Step<'_>) {
        if self.pending_join.remove(member_id) {
            self.complete_join_if_all_joined(step);
            return;
        }
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        if member.is_waiting() {
            // Its next session begins with the answer.
            return;
        }
        self.expel(member_id, ErrorCode::UNKNOWN_MEMBER_ID, step);
        match self.state {
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(step),
            _ => self.prepare_rebalance(step),
        };
    }

    /// Removes a member and answers what it waits for.
    pub(super) fn expel(&mut self, member_id: &str, error: ErrorCode, step: &mut Step<'_>) {
        if let Some(mut member) = self.remove(member_id) {
            step.cancel_session(&self.id, &member.member_id);
            member.answer_waiting(error, step.out);
        }
    }
}
