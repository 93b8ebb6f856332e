//! Time, and when it need not pass: ticks, the sleep of idle groups, and what wakes them.
//!
//! A group in which nothing happens costs nothing: no tick, no beat, no timer (DESIGN, D5). When a
//! leader has been quiet for a while, and everything it has is committed, its heartbeats ask the
//! followers to sleep. A follower that has the same, durably, and knows that it is committed, stops
//! ticking and says so in its answer. When all have, the leader stops as well. Each beat that asks
//! can be lost: it is sent again until it is answered.
//!
//! Anything wakes: a proposal, any message of a member but those of falling asleep, and the owner,
//! who watches nodes in place of groups ([`crate::Replicas::peer_lost`] and its neighbours). Who
//! wakes begins to count from zero: a follower its election timeout, a leader the time that its
//! followers have to show themselves, of which it cannot have heard while it slept. A leader that
//! wakes beats at once.
//!
//! **Those who cannot agree** (they lag, or do not answer) keep no group awake for ever. If a
//! majority of the voters sleeps, the leader *dozes*: it makes no ticks in the crate, and beats
//! only those others, after pauses that double. An answer that moves anything wakes it. Members on
//! a node that is known to be lost are not waited for at all.
//!
//! What is given up by sleeping is the detection of failures per group; safety does not rest on it.
//! A sleeping leader that was cut off goes on believing until its owner wakes it.
//!
//! The module has also what else a tick does: a commit index that no append carried is told with a
//! beat at the next tick, and not only when the heartbeat is due.
//!
//! Must not know how long a tick is, or how nodes watch each other. Deliberately absent: a lease.

use std::collections::BTreeSet;

use raft::StateRole;
use raft::eraftpb::{self, MessageType};

use crate::members::ReplicaId;
use crate::message::{Body, Message};
use crate::replica::{Replica, Role};
use crate::timing::alarm_ticks;

/// A leader asks its group to sleep after so many election timeouts without anything happening.
const QUIET_TIMEOUTS: usize = 1;
/// It dozes off if some have not agreed after so many.
const PATIENCE_TIMEOUTS: usize = 4;
/// So often a group that lost its leader's node tries to elect another one soon. Afterwards it waits
/// like others: with nobody left to vote, trying is in vain.
const ALARM_ROUNDS: u32 = 6;
/// The longest pause between two beats of a leader that dozes, in heartbeats.
const PAUSE_HEARTBEATS_MAX: usize = 64;

/// Whether time passes for a replica.
#[derive(Default)]
pub(crate) struct Rest {
    state: State,
    /// Followers that said they sleep. Counts while the leader asks or dozes.
    agreed: Vec<ReplicaId>,
    /// The leader's heartbeats ask for sleep.
    asks: bool,
    alarm: Option<Alarm>,
    /// Ticks at which a replica that hesitates could have come nearer to a campaign.
    left_to_others: usize,
}

/// The leader's node is known to be lost, and nobody is known to lead yet.
#[derive(Copy, Clone)]
struct Alarm {
    node: i32,
    /// Attempts before the one that is waited for.
    round: u32,
}

enum State {
    /// Nothing happened for so many ticks.
    Awake {
        quiet: usize,
    },
    /// The next beat goes out in so many ticks, and the one after it after this pause.
    Dozing {
        left: usize,
        pause: usize,
    },
    Asleep,
}

impl Default for State {
    fn default() -> State {
        State::Awake { quiet: 0 }
    }
}

impl Replica {
    /// Time passes. Needed only if the group has other members. `away` are the nodes that are known
    /// to be lost. A replica that `hesitates` would rather not lead: it campaigns an election timeout
    /// later than it would, so that whoever else can be elected has been. Says whether there is
    /// something to collect.
    pub fn tick(&mut self, away: &BTreeSet<i32>, hesitates: bool) -> bool {
        match self.rest.state {
            State::Asleep => {}
            State::Dozing { .. } => self.tick_dozing(away),
            State::Awake { .. } => self.tick_awake(away, hesitates),
        }
        self.wants_collect()
    }

    fn tick_awake(&mut self, away: &BTreeSet<i32>, hesitates: bool) {
        let leads = self.node.raft.state == StateRole::Leader;
        let waits = !leads && hesitates && self.leaves_campaign_to_others();
        let ticks = leads || (!waits && self.may_campaign() && self.term_is_left());
        if self.may_act() && ticks {
            self.guarded("tick", |node| node.tick());
            self.settle();
        }
        if self.may_act() && self.role() == Role::Leader {
            self.tick_catch_ups();
            self.tell_commit();
            self.grow_quiet(away);
        }
    }

    /// One more tick of a replica that hesitates: false as long as others would not be elected, since it takes a leader
    /// for alive, and when it has given them an election timeout.
    fn leaves_campaign_to_others(&mut self) -> bool {
        let raft = &mut self.node.raft;
        let follows = raft.leader_id != raft::INVALID_ID;
        if follows && raft.election_elapsed + 1 < self.election_ticks {
            self.rest.left_to_others = 0;
            return false;
        }
        // From here on the raft crate refuses nobody a pre-vote for the leader's sake.
        raft.election_elapsed = raft.election_elapsed.max(self.election_ticks);
        self.rest.left_to_others += 1;
        self.rest.left_to_others <= self.election_ticks
    }

    /// Whether ticks matter: a replica that is its group's only member has nothing to wait for, and
    /// one that sleeps waits to be woken.
    pub fn wants_ticks(&self) -> bool {
        let alone = self.configuration.members.is_alone(self.id);
        self.fence.is_none()
            && !self.is_asleep()
            && !(alone && self.node.raft.state == StateRole::Leader)
    }

    /// Whether this replica makes no ticks until it is woken.
    pub fn is_asleep(&self) -> bool {
        matches!(self.rest.state, State::Asleep)
    }

    /// From now on, as long as this replica leads, followers are told of each commit at once, with
    /// an append of its own if need be: somebody waits there for what is committed.
    pub fn tell_commits_at_once(&mut self) {
        if self.role() == Role::Leader {
            self.node.raft.skip_bcast_commit(false);
        }
    }

    /// Followers that have the newest entries learn at the next tick that these are committed, if
    /// no append told them. So all of them sleep the sooner, and a new leader has less to find out.
    fn tell_commit(&mut self) {
        let raft = &self.node.raft;
        let committed = raft.raft_log.committed;
        let beaten = raft.heartbeat_elapsed() == 0;
        if committed <= self.commit_carried || beaten {
            return;
        }
        let own = self.id.as_u64();
        let late = raft.prs().iter().any(|(id, progress)| {
            let known = progress.committed_index;
            *id != own && progress.recent_active && known < committed.min(progress.matched)
        });
        if late {
            self.guarded("heartbeat", |node| node.ping());
        }
    }

    /// One more tick of a leader in which nothing happened.
    fn grow_quiet(&mut self, away: &BTreeSet<i32>) {
        let State::Awake { quiet } = &mut self.rest.state else {
            return;
        };
        *quiet += 1;
        let quiet = *quiet;
        if quiet < QUIET_TIMEOUTS * self.election_ticks || !self.is_settled() {
            self.rest.asks = false;
            self.rest.agreed.clear();
            return;
        }
        self.rest.asks = true;
        if !self.majority_sleeps() {
            return;
        }
        if self.missing_sleepers(away).is_empty() {
            self.fall_asleep();
        } else if quiet >= PATIENCE_TIMEOUTS * self.election_ticks && !self.is_catching_up() {
            let pause = 2 * self.heartbeat_ticks;
            self.rest.state = State::Dozing { left: pause, pause };
        }
    }

    fn tick_dozing(&mut self, away: &BTreeSet<i32>) {
        self.tick_catch_ups();
        let State::Dozing { left, pause } = &mut self.rest.state else {
            return;
        };
        *left -= 1;
        if *left > 0 {
            return;
        }
        *pause = (2 * *pause).min(PAUSE_HEARTBEATS_MAX * self.heartbeat_ticks);
        *left = *pause;
        let missing = self.missing_sleepers(away);
        if missing.is_empty() {
            self.fall_asleep();
        }
        for peer in missing {
            self.beat(peer);
        }
    }

    /// A heartbeat to one follower; the crate knows only those to all.
    fn beat(&mut self, peer: ReplicaId) {
        let raft = &mut self.node.raft;
        let Some(progress) = raft.prs().get(peer.as_u64()) else {
            return;
        };
        let mut message = eraftpb::Message {
            from: self.id.as_u64(),
            to: peer.as_u64(),
            term: raft.term,
            commit: progress.matched.min(raft.raft_log.committed),
            ..Default::default()
        };
        message.set_msg_type(MessageType::MsgHeartbeat);
        raft.msgs.push(message);
    }

    fn fall_asleep(&mut self) {
        self.rest = Rest {
            state: State::Asleep,
            ..Rest::default()
        };
        // A window of 256 appends per follower is most of what an idle leader would keep.
        self.node.raft.maybe_free_inflight_buffers();
    }

    /// Members that do not sleep, and may be waited for.
    fn missing_sleepers(&self, away: &BTreeSet<i32>) -> Vec<ReplicaId> {
        let mut peers = self.configuration.members.peers_of(self.id);
        peers.retain(|peer| !away.contains(&peer.node()) && !self.rest.agreed.contains(peer));
        peers
    }

    fn majority_sleeps(&self) -> bool {
        let voters = self.configuration.members.voters();
        let sleeps = |voter: &&ReplicaId| **voter == self.id || self.rest.agreed.contains(voter);
        voters.iter().filter(sleeps).count() > voters.len() / 2
    }

    /// Nothing is under way here: everything is committed, durable and handed out.
    fn is_settled(&self) -> bool {
        let raft = &self.node.raft;
        let last_index = raft.raft_log.last_index();
        self.may_act()
            && !self.append_due
            && self.flight.is_empty()
            && self.flight.handed() == last_index
            && raft.raft_log.persisted == last_index
            && raft.raft_log.committed == last_index
            && raft.lead_transferee.is_none()
            && raft.read_only.pending_read_count() == 0
            && !self.configuration.members.is_joint()
            && !self.is_installing()
            && (self.role() != Role::Leader || self.is_serving())
    }

    /// Whether the follower has everything, and knows that it is committed.
    fn is_caught_up(&self, peer: ReplicaId) -> bool {
        let last_index = self.last_index();
        let progress = self.node.raft.prs().get(peer.as_u64());
        progress.is_some_and(|p| p.matched == last_index && p.committed_index == last_index)
    }

    /// What a message about to leave says about sleep.
    pub(crate) fn mark_sleep(&self, message: &mut Message) {
        match &mut message.body {
            Body::Heartbeat { sleep, .. } => {
                // A beat may be due at the very tick at which the leader fell asleep: it must not wake those
                // who agreed, whom nobody would beat then.
                let asks = self.rest.asks || self.is_asleep();
                *sleep = asks && self.is_caught_up(message.to);
            }
            Body::HeartbeatReply { sleep, .. } => *sleep = self.is_asleep(),
            _ => {}
        }
    }

    /// A message is about to be taken: does it wake?
    pub(crate) fn wake_for(&mut self, message: &Message) {
        let same_term = message.term == self.term();
        let of_sleep = match message.body {
            Body::Heartbeat { sleep, .. } => {
                sleep && same_term && self.leader() == Some(message.from)
            }
            // What a follower makes of it shows in its answers to appends.
            Body::HeartbeatReply { .. } => same_term,
            // One that was removed and does not know it may ask for ever.
            Body::Vote(_) => !self.configuration.members.contains(message.from),
            _ => false,
        };
        if !of_sleep {
            self.stir();
        }
    }

    /// A message was taken: does it send to sleep? It was addressed to us, and its sender is known.
    pub(crate) fn sleep_for(&mut self, from: ReplicaId, term: u64, body: SleepTalk) {
        if term != self.term() {
            return;
        }
        match body {
            SleepTalk::Asked { commit }
                if self.role() == Role::Follower
                    && self.leader() == Some(from)
                    && commit == self.last_index()
                    && self.is_settled() =>
            {
                self.fall_asleep();
            }
            SleepTalk::Agreed { commit }
                if self.rest.asks
                    && self.role() == Role::Leader
                    && commit == self.last_index()
                    && self.is_caught_up(from)
                    && !self.rest.agreed.contains(&from) =>
            {
                self.rest.agreed.push(from);
            }
            _ => {}
        }
    }

    /// Something happens: whoever rests is awake, and the quiet begins anew.
    pub(crate) fn stir(&mut self) {
        if let State::Awake { quiet } = &mut self.rest.state {
            *quiet = 0;
            self.rest.asks = false;
            self.rest.agreed.clear();
            return;
        }
        self.rest = Rest::default();
        if self.fence.is_some() {
            return;
        }
        self.node.raft.election_elapsed = 0;
        if self.role() == Role::Leader {
            // What was heard before the sleep says nothing about who is there now.
            for (_, progress) in self.node.raft.mut_prs().iter_mut() {
                progress.recent_active = false;
            }
            self.guarded("waking", |node| node.ping());
        }
    }

    /// Ticks again, if it slept: see the module's head. Call [`Replica::collect`] afterwards.
    pub fn wake(&mut self) {
        self.stir();
    }

    /// Messages to this peer are known to be lost: stop sending ahead of its answers.
    pub fn unreachable(&mut self, peer: ReplicaId) {
        if self.may_act() {
            self.guarded("unreachable peer", |node| {
                node.report_unreachable(peer.as_u64())
            });
            self.snapshot_lost(peer);
            self.settle();
        }
    }

    /// The node is lost, probably: the link to it was reset. A leader stops sending ahead to its
    /// members there; followers of a leader there are alarmed.
    pub(crate) fn peer_lost(&mut self, node: i32, news: bool) {
        if !self.may_act() {
            return;
        }
        if self.role() == Role::Leader {
            // If it is only the link, a beat keeps a follower from campaigning.
            if news {
                self.stir();
            }
            for peer in self.configuration.members.peers_of(self.id) {
                if peer.node() == node {
                    self.unreachable(peer);
                }
            }
        } else {
            self.alarm(node);
        }
    }

    /// A follower of a leader on the node forgets it, so that it does not refuse the pre-votes of
    /// others for the leader's sake, and campaigns soon: at a tick that differs between the members
    /// of the group, and not before a beat of a leader that lives would have come.
    pub(crate) fn alarm(&mut self, node: i32) {
        let led = self.leader().is_some_and(|leader| leader.node() == node);
        if !self.may_act() || self.role() != Role::Follower || !led {
            return;
        }
        self.stir();
        self.guarded("loss of the leader", |raw| {
            let term = raw.raft.term;
            raw.raft.become_follower(term, raft::INVALID_ID);
        });
        self.settle();
        self.rest.alarm = Some(Alarm { node, round: 0 });
        self.campaign_soon();
    }

    /// What must follow whatever may have begun the election timeout anew: while the alarm lasts, an
    /// attempt that came to nothing (votes were split, or the other voter had not heard of the loss
    /// yet) is not followed by a whole timeout.
    pub(crate) fn heed_alarm(&mut self) {
        let Some(alarm) = &mut self.rest.alarm else {
            return;
        };
        let raft = &self.node.raft;
        if raft.state == StateRole::Leader || raft.leader_id != raft::INVALID_ID {
            self.rest.alarm = None;
        } else if raft.election_elapsed == 0 {
            alarm.round += 1;
            self.campaign_soon();
        }
    }

    fn campaign_soon(&mut self) {
        let Some(Alarm { node, round }) = self.rest.alarm else {
            return;
        };
        if round >= ALARM_ROUNDS {
            self.rest.alarm = None;
            return;
        }
        let voters = self.configuration.members.voters();
        let timeout = self.node.raft.randomized_election_timeout();
        let (seed, heartbeat) = (self.seed, self.heartbeat_ticks);
        if let Some(ticks) = alarm_ticks(seed, voters, self.id, node, heartbeat, round) {
            self.node.raft.election_elapsed = timeout.saturating_sub(ticks);
        }
    }

    /// The other voter that is known to have most of this leader's log: it is to campaign when this one ends.
    pub(crate) fn follower_with_most(&self) -> Option<ReplicaId> {
        let tracker = self.node.raft.prs();
        let voters = self.configuration.members.voters().iter();
        let others = voters.copied().filter(|voter| *voter != self.id);
        let known = others.filter_map(|voter| Some((tracker.get(voter.as_u64())?.matched, voter)));
        known.max().map(|(_, voter)| voter)
    }

    /// A leader resigns if those that are left when the nodes that are `gone` are taken away are no majority.
    /// It need not wait for raft's own check of the quorum, which takes an election timeout and more.
    ///
    /// Before it goes it asks the follower that has most to campaign: if only the way here is cut,
    /// that one hears it, and the group does not wait for a timeout either.
    pub(crate) fn resign_without_majority(&mut self, gone: &BTreeSet<i32>) {
        if !self.may_act() || self.role() != Role::Leader {
            return;
        }
        let tracker = self.node.raft.prs();
        let is_heard = |id: &u64| {
            ReplicaId::from_u64(*id).is_some_and(|member| !gone.contains(&member.node()))
        };
        let heard = tracker.iter().map(|(id, _)| *id).filter(is_heard).collect();
        if tracker.has_quorum(&heard) {
            return;
        }
        let next = self.follower_with_most().map(ReplicaId::as_u64);
        self.stir();
        self.guarded("silence of a majority", |raw| {
            if let Some(next) = next {
                raw.raft.send_timeout_now(next);
            }
            let term = raw.raft.term;
            raw.raft.become_follower(term, raft::INVALID_ID);
        });
        self.settle();
    }
}

/// What a heartbeat or its answer said about sleep.
#[derive(Copy, Clone)]
pub(crate) enum SleepTalk {
    /// The leader, whose commit index is this, asks us to sleep.
    Asked { commit: u64 },
    /// A follower, whose commit index is this, sleeps.
    Agreed { commit: u64 },
}

impl SleepTalk {
    pub(crate) fn of(body: &Body) -> Option<SleepTalk> {
        match *body {
            Body::Heartbeat {
                commit,
                sleep: true,
                ..
            } => Some(SleepTalk::Asked { commit }),
            Body::HeartbeatReply {
                commit,
                sleep: true,
                ..
            } => Some(SleepTalk::Agreed { commit }),
            _ => None,
        }
    }
}
