//! What a replica has decided, turned into ordered outputs: the one place where that happens.
//!
//! # The order, and why it is safe
//!
//! [`Replica::collect`] may be called at any time and any number of times, also while the writes of
//! earlier calls are still under way. Each round of it takes one `Ready` of the raft crate and, in
//! one synchronous step, in this order:
//!
//! 1. **Entries are staged** into the journal's open turn. From then on the log answers for them,
//!    which the crate demands before it is told that it may forget them. Nothing is durable yet. A
//!    snapshot goes before them: see [`crate::install`].
//! 2. **The hard state is staged** behind them, into the same turn, if its term or vote changed or
//!    if entries were staged. Behind, so that no commit index is ever on disk without the entries
//!    that it covers. A commit index alone is kept back for the next turn that writes anyway:
//!    losing one costs nothing, since the next leader tells it again. It is never kept back beyond
//!    the next staged entry, which [`crate::members`] relies on.
//! 3. **The crate is told that the Ready is taken** (`advance_append_async`). No message is stepped
//!    and nothing proposed between taking a Ready and this: it all happens in here.
//! 4. **Messages of a leader leave at once.** They promise nothing about the leader's own disk; the
//!    followers may write while the leader does (Ongaro's thesis, 10.2.1). Their payloads are taken
//!    from the log, so what is sent are the very bytes that are written.
//! 5. **All other messages wait** (votes, acknowledgements, refusals: each promises something about
//!    this disk) until [`Replica::persisted`] has confirmed this Ready *and every one before it*.
//!    Appends are never among them: a replica that was deposed before its Ready was taken sends none.
//!    They wait inside the replica, so nobody can send them too early. If nothing is under way and
//!    nothing was staged there is nothing to wait for.
//! 6. **Committed entries are handed out** as a range of indexes. The crate hands out only what is
//!    both committed and on this replica's own stable storage. Changes of members in the range
//!    take effect here.
//!
//! A write that fails is never confirmed: its replicas are fenced, and what waited is dropped.
//!
//! A journal without room refuses to stage. The Ready is then **parked** between steps 1 and 2, as
//! far as it got, and every later call goes on where it stopped. Until it is through, the replica
//! takes no message, no proposal and no tick (the crate forbids them while a Ready is open): to the
//! others it is as slow as its disk. A good owner stops proposing before that: what it accepted
//! while the journal had room fits a reserve.
//!
//! The raft crate asserts that a replica which becomes leader has nothing unconfirmed. That holds
//! because votes are asked for by messages of kind 5, and because a sole voter, which needs no
//! vote, campaigns only when its log is confirmed.
//!
//! This module must not know how the journal writes. Deliberately absent: retries.

use std::collections::VecDeque;
use std::mem;
use std::ops::RangeInclusive;

use bytes::Bytes;
use raft::eraftpb;
use raft::{Ready, StateRole};

use crate::catch_up::CatchUp;
use crate::heartbeats::Beats;
use crate::members::{Membership, ReplicaId};
use crate::message::{Body, Message, from_raft, kind_of, snapshot_of};
use crate::open::Configuration;
use crate::replica::{Replica, Role, Standing};
use crate::snapshot::Snapshot;
use crate::store::is_membership;
use storage::{EntryKind, HardState, Journal, PartitionId, Refusal, StageError};

/// What the replicas of a core want done; the caller owns it, drains it and uses it again.
///
/// Everything in it may be acted on at once and in any order, except that the messages to one
/// replica of one partition should be sent in the order in which they are listed, and that events
/// come before what is committed: a snapshot's state contains what was committed before it.
#[derive(Default, Debug)]
pub struct Outputs {
    /// Messages other than heartbeats, each to `message.to`.
    pub messages: Vec<(PartitionId, Message)>,
    /// Heartbeats and their answers, by peer.
    pub beats: Beats,
    /// Indexes that are committed and durable here: each once, without gaps, in order. To be
    /// applied, then confirmed with [`Replica::applied`].
    pub committed: Vec<(PartitionId, RangeInclusive<u64>)>,
    /// Entries to be read for followers: see [`crate::catch_up`]. Each is given back once, with
    /// [`crate::Replicas::fetched`].
    pub reads: Vec<(PartitionId, CatchUp)>,
    /// In the order in which it happened.
    pub events: Vec<(PartitionId, Event)>,
}

impl Outputs {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.beats.is_empty()
            && self.committed.is_empty()
            && self.reads.is_empty()
            && self.events.is_empty()
    }

    /// Empties everything, keeping the memory.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.beats.clear();
        self.committed.clear();
        self.reads.clear();
        self.events.clear();
    }
}

/// A change in how a replica stands in its group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Leader of `term`, but not yet serving: see [`Replica::is_serving`].
    BecameLeader { term: u64 },
    /// No longer leader; proposals that are not committed may or may not survive.
    LostLeadership {
        term: u64,
        leader: Option<ReplicaId>,
    },
    /// Somebody else leads now, or nobody is known to.
    LeaderChanged {
        term: u64,
        leader: Option<ReplicaId>,
    },
    /// The configuration recorded at `index` is in force.
    MembersChanged { index: u64 },
    /// This replica led when [`Replica::confirm_lead`] gave this number, and what was committed then
    /// ends at or below `index`. It may not be applied yet.
    LeadConfirmed { read: u64, index: u64 },
    /// The entries from this index on, staged or proposed here, were replaced by a leader's. What
    /// the owner made of them is to be taken back.
    Truncated { from: u64 },
    /// A follower needs entries that are gone: see [`Replica::offer_snapshot`].
    SnapshotWanted,
    /// The log was replaced by an empty one that goes on after `index`, and the owner's state is to
    /// be replaced by this one, which stands at `applied`. Entries between the two arrive later and
    /// are not handed out. The configuration is the snapshot's.
    Installed {
        index: u64,
        applied: u64,
        state: Bytes,
    },
    /// This replica takes part in nothing any more. The operator should hear of it.
    Fenced { reason: String },
}

/// The result of [`Replica::collect`].
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Collected {
    /// The journal's open turn holds something of this replica: once that turn is durable, give
    /// this number to [`Replica::persisted`].
    pub staged: Option<u64>,
    /// There is more to collect; the work of one call is bounded.
    pub more: bool,
    /// The journal has no room for the rest.
    pub journal_full: bool,
}

/// Readies that one call takes at most. One or two are usual.
const ROUNDS_MAX: usize = 8;

/// Readies on their way to the disk and what waits for them.
#[derive(Default)]
pub(crate) struct Flight {
    /// Numbers of Readies that staged something and are not confirmed, oldest first.
    staged: VecDeque<u64>,
    /// The last Ready that was taken.
    taken: u64,
    /// The last Ready that is confirmed, with all before it.
    confirmed: u64,
    /// Messages that wait until the Ready of that number is confirmed, in order.
    held: VecDeque<(u64, Vec<eraftpb::Message>)>,
    /// The newest hard state, and whether the journal has yet to get it.
    hard_state: HardState,
    hard_state_due: bool,
    /// The last index that was handed out as committed.
    handed: u64,
}

impl Flight {
    pub(crate) fn new(hard_state: HardState, applied: u64) -> Flight {
        Flight {
            hard_state,
            handed: applied,
            ..Flight::default()
        }
    }

    pub(crate) fn handed(&self) -> u64 {
        self.handed
    }

    /// A log was installed that begins after `index`.
    pub(crate) fn begin_after(&mut self, index: u64) {
        assert!(
            self.handed <= index,
            "a log that begins after {index} is installed, but {} was handed out",
            self.handed
        );
        self.handed = index;
    }

    /// Whether everything that was staged is confirmed.
    pub(crate) fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.held.is_empty()
    }

    /// Everything before the oldest unconfirmed Ready counts as confirmed.
    fn confirm(&mut self, number: u64) {
        while self.staged.front().is_some_and(|staged| *staged <= number) {
            self.staged.pop_front();
        }
        self.confirmed = self.staged.front().map_or(self.taken, |oldest| oldest - 1);
    }
}

/// A Ready that is being taken, and what of it is not staged yet.
pub(crate) struct Taken {
    ready: Ready,
    snapshot: Option<Box<Snapshot>>,
    entries: VecDeque<eraftpb::Entry>,
    /// Where the raft crate's own entries began when it was taken.
    unstaged_from: u64,
}

/// Why something of a Ready was not staged.
#[derive(Debug, thiserror::Error)]
enum StagingError {
    #[error(transparent)]
    Journal(#[from] StageError),
    #[error("batch {index} has offset {sent:?} at its leader and {found} here")]
    Offset {
        index: u64,
        sent: Option<i64>,
        found: i64,
    },
}

/// How far a round came.
enum Round {
    /// Through; the number that must be confirmed, if something was staged.
    Through(Option<u64>),
    JournalFull,
}

impl Replica {
    /// Takes what the replica has decided since the last call: stages entries and hard state into
    /// the journal's open turn and adds the rest to `out`. See the module's head for the order.
    pub fn collect(&mut self, journal: &mut Journal, out: &mut Outputs) -> Collected {
        let mut collected = Collected::default();
        self.leave_joint_if_due();
        for round in 0.. {
            let due = self.parked.is_some() || self.append_due || self.node.has_ready();
            if self.fence.is_some() || !due {
                break;
            }
            if round == ROUNDS_MAX {
                collected.more = true;
                break;
            }
            match self.collect_round(journal, out) {
                Some(Round::Through(Some(number))) => collected.staged = Some(number),
                Some(Round::Through(None)) => {}
                Some(Round::JournalFull) => {
                    collected.journal_full = true;
                    break;
                }
                None => break, // fenced in the middle
            }
        }
        self.release(out);
        self.tell_missing(out);
        self.tell(out);
        collected
    }

    /// The journal has on stable storage what the Ready of this number, and all before it, staged.
    /// Call [`Replica::collect`] afterwards.
    pub fn persisted(&mut self, number: u64) {
        if self.fence.is_some() {
            return;
        }
        let taken = self.flight.taken;
        assert!(
            number <= taken,
            "Ready {number} confirmed, but only {taken} were taken"
        );
        self.flight.confirm(number);
        self.tell_confirmed(self.flight.confirmed);
    }

    /// Tells the raft crate how far its Readies are on stable storage.
    fn tell_confirmed(&mut self, number: u64) -> Option<()> {
        self.guarded("confirmation", |node| node.on_persist_ready(number))?;
        self.begin_installed_log()
    }

    /// One Ready, or the rest of the parked one. `None` if the replica was fenced on the way.
    fn collect_round(&mut self, journal: &mut Journal, out: &mut Outputs) -> Option<Round> {
        let mut taken = match self.parked.take() {
            Some(parked) => *parked,
            None => self.take_ready()?,
        };
        match self.stage(journal, &mut taken, out) {
            Ok(()) => {}
            Err(StagingError::Journal(StageError::Refused(Refusal::Full | Refusal::DiskFull))) => {
                self.parked = Some(Box::new(taken));
                return Some(Round::JournalFull);
            }
            Err(error) => {
                let first = taken.entries.front().map(|entry| (entry.index, entry.term));
                self.fence(format!("staging (index, term) {first:?}: {error}"));
                return None;
            }
        }
        self.check_offsets()?;
        let Taken {
            mut ready,
            unstaged_from,
            ..
        } = taken;
        self.tell_confirmed_reads(ready.take_read_states(), out);
        let (number, must_sync) = (ready.number(), ready.must_sync());
        let committed = ready.committed_entries().last().map(|digest| digest.index);
        let at_once = ready.take_messages();
        let mut later = ready.take_persisted_messages();
        // Made while this replica still led: they may carry proposals as they were before they were staged, without
        // their offsets. Who leads no more sends none.
        later.retain(|message| message.msg_type != eraftpb::MessageType::MsgAppend);
        self.guarded("advance", |node| node.advance_append_async(ready))?;
        self.flight.taken = number;
        if must_sync {
            self.flight.staged.push_back(number);
        } else if self.flight.staged.is_empty() {
            self.flight.confirmed = number;
            self.tell_confirmed(number)?;
        }
        self.send(at_once, unstaged_from, out);
        if self.mutated.acks_early() {
            self.send(later, unstaged_from, out);
        } else if !later.is_empty() {
            self.flight.held.push_back((number, later));
        }
        if mem::take(&mut self.append_due) && self.node.raft.state == StateRole::Leader {
            self.guarded("broadcast", |node| node.raft.bcast_append())?;
            self.commit_carried = self.commit_index();
            let messages = mem::take(&mut self.node.raft.msgs);
            self.send(messages, u64::MAX, out);
        }
        if let Some(index) = committed {
            self.hand_out(index, out)?;
        }
        Some(Round::Through(must_sync.then_some(number)))
    }

    fn take_ready(&mut self) -> Option<Taken> {
        let unstaged_from = self.node.raft.raft_log.unstable.offset;
        let mut ready = self.guarded("ready", |node| node.ready())?;
        let entries = ready.take_entries().into();
        let snapshot = match ready.snapshot() {
            none if none.is_empty() => None,
            snapshot => Some(Box::new(snapshot_of(snapshot))),
        };
        if let Some(state) = ready.hs() {
            self.flight.hard_state = HardState {
                term: state.term,
                vote: state.vote,
                commit: state.commit,
            };
            self.flight.hard_state_due = true;
        }
        Some(Taken {
            ready,
            snapshot,
            entries,
            unstaged_from,
        })
    }

    /// Stages a snapshot, the entries and then the hard state; goes on where an earlier call was
    /// refused.
    fn stage(
        &mut self,
        journal: &mut Journal,
        taken: &mut Taken,
        out: &mut Outputs,
    ) -> Result<(), StagingError> {
        if let Some(snapshot) = &taken.snapshot {
            self.install(journal, snapshot, out)?;
            taken.snapshot = None;
        }
        if taken.entries.len() > 1 {
            let bytes = taken
                .entries
                .iter()
                .map(|entry| entry.data.len() as u64)
                .sum();
            let entries = taken.entries.len();
            journal.announce(&mut self.node.mut_store().log, entries, bytes);
        }
        while let Some(entry) = taken.entries.front() {
            self.stage_entry(journal, entry, out)?;
            taken.entries.pop_front();
        }
        if self.flight.hard_state_due && taken.ready.must_sync() {
            let state = self.flight.hard_state;
            journal.stage_hard_state(&mut self.node.mut_store().log, state)?;
            self.flight.hard_state_due = false;
        }
        Ok(())
    }

    fn stage_entry(
        &mut self,
        journal: &mut Journal,
        entry: &eraftpb::Entry,
        out: &mut Outputs,
    ) -> Result<(), StagingError> {
        let (term, index, kind) = (entry.term, entry.index, kind_of(entry));
        let own = term == self.led_term;
        let store = self.node.mut_store();
        let replaces = index <= store.log.last_index();
        let staged = journal.stage_entry(&mut store.log, term, index, kind, &entry.data)?;
        if replaces {
            store.members_superseded(index);
        }
        // A proposal is known to the owner before it is staged, and may never be.
        if replaces || (index <= self.proposed_until && !own) {
            self.proposed_until = 0;
            let truncated = Event::Truncated { from: index };
            out.events.push((self.partition, truncated));
        }
        let store = self.node.mut_store();
        // A leader's batch carries its base offset, which must be the one that follows from this
        // log: else the two logs differ below, and nothing here may be trusted. Own proposals get
        // theirs only now.
        let sent = entry
            .data
            .first_chunk::<8>()
            .map(|bytes| i64::from_be_bytes(*bytes));
        let found = staged.base_offset;
        if kind == EntryKind::Batch && !own && sent != Some(found) {
            return Err(StagingError::Offset { index, sent, found });
        }
        if is_membership(entry) {
            store.members_staged(index, entry.data.clone());
        }
        Ok(())
    }

    /// What a leader promised to its clients is what it staged.
    fn check_offsets(&mut self) -> Option<()> {
        let staged = self.log().next_offset();
        if self.node.raft.state == StateRole::Leader && staged != self.next_offset {
            let promised = self.next_offset;
            self.fence(format!(
                "offsets up to {promised} were promised, {staged} staged"
            ));
            return None;
        }
        Some(())
    }

    /// Hands messages of the raft crate over. Entries from `unstaged_from` on were not yet in the
    /// log when the crate made the message: they leave as the log has them now.
    fn send(&mut self, messages: Vec<eraftpb::Message>, unstaged_from: u64, out: &mut Outputs) {
        for message in messages {
            let mut message = from_raft(message);
            self.mark_sleep(&mut message);
            match &mut message.body {
                Body::Append(append) => {
                    let first = append.prev_index + 1;
                    let store = self.node.store();
                    let indexes = first..;
                    for (entry, index) in append.entries.iter_mut().zip(indexes) {
                        if index >= unstaged_from {
                            entry.data = store.data(index).expect("staged a moment ago");
                        }
                    }
                    out.messages.push((self.partition, message));
                }
                Body::Heartbeat { .. } | Body::HeartbeatReply { .. } => {
                    out.beats.push(self.partition, &message);
                }
                _ => out.messages.push((self.partition, message)),
            }
        }
    }

    /// Lets go of what waited for confirmed Readies.
    fn release(&mut self, out: &mut Outputs) {
        if self.fence.is_some() {
            self.flight.held.clear();
            return;
        }
        let confirmed = self.flight.confirmed;
        while self
            .flight
            .held
            .front()
            .is_some_and(|(number, _)| *number <= confirmed)
        {
            if let Some((_, messages)) = self.flight.held.pop_front() {
                self.send(messages, u64::MAX, out);
            }
        }
    }

    fn hand_out(&mut self, index: u64, out: &mut Outputs) -> Option<()> {
        let from = self.flight.handed + 1;
        assert!(
            from <= index,
            "{index} handed out again; {} was before",
            self.flight.handed
        );
        self.flight.handed = index;
        self.committed(index);
        let store = self.node.mut_store();
        store.log.commit_to(index);
        while let Some((at, record)) = self.node.mut_store().next_members(index) {
            self.apply_members(at, &record, out)?;
        }
        // What came with a snapshot's state is applied already.
        if from <= self.installed {
            self.advance_applied(index.min(self.installed))?;
        }
        let from = from.max(self.installed + 1);
        if from <= index {
            out.committed.push((self.partition, from..=index));
        }
        Some(())
    }

    fn apply_members(&mut self, index: u64, record: &Bytes, out: &mut Outputs) -> Option<()> {
        // A configuration that came with a snapshot or a checkpoint may be ahead of the log.
        if index <= self.configuration.index {
            return Some(());
        }
        let membership = match Membership::decode(record) {
            Ok(membership) => membership,
            Err(error) => {
                self.fence(format!("entry {index}: {error}"));
                return None;
            }
        };
        let before = &self.configuration.members;
        let changes = membership.step.to_conf_changes(before, &membership.members);
        let applied = self.guarded("change of members", |node| {
            let states = changes.iter().map(|change| node.apply_conf_change(change));
            states.collect::<raft::Result<Vec<_>>>()
        })?;
        let agreed = match &applied {
            // Nothing changed: the record is what was in force.
            Ok(states) => states
                .last()
                .is_none_or(|state| membership.members.agrees_with(state)),
            Err(_) => false,
        };
        if !agreed {
            let recorded = &membership.members;
            self.fence(format!(
                "entry {index} leads to {applied:?}, recorded is {recorded:?}"
            ));
            return None;
        }
        self.configuration = Configuration {
            index,
            members: membership.members,
        };
        out.events
            .push((self.partition, Event::MembersChanged { index }));
        let unseated = self.node.raft.state == StateRole::Leader
            && !self.configuration.members.is_voter(self.id);
        if unseated {
            // The crate would look for this replica among its followers and panic. The others are
            // told of the commit first, so that they leave the old configuration as well.
            self.guarded("leaving the group", |node| {
                node.raft.bcast_append();
                let term = node.raft.term;
                node.raft.become_follower(term, raft::INVALID_ID);
            })?;
            self.settle();
        }
        Some(())
    }

    /// Tells what changed in how this replica stands.
    fn tell(&mut self, out: &mut Outputs) {
        if let Some(fence) = &mut self.fence
            && !mem::replace(&mut fence.told, true)
        {
            let reason = fence.reason.clone();
            out.events.push((self.partition, Event::Fenced { reason }));
            // The others may be asleep, or hear from its node for as long as that lives.
            if self.node.raft.state == StateRole::Leader
                && let Some(to) = self.follower_with_most()
            {
                let message = Message {
                    from: self.id,
                    to,
                    term: self.node.raft.term,
                    body: Body::TimeoutNow,
                };
                out.messages.push((self.partition, message));
            }
        }
        let now = Standing {
            role: self.role(),
            term: self.term(),
            leader: self.leader(),
        };
        let before = mem::replace(&mut self.told, now);
        if now == before {
            return;
        }
        let (term, leader) = (now.term, now.leader);
        let led = before.role == Role::Leader;
        let leads = now.role == Role::Leader;
        if led && (!leads || before.term != term) {
            out.events
                .push((self.partition, Event::LostLeadership { term, leader }));
        }
        if leads && (!led || before.term != term) {
            out.events
                .push((self.partition, Event::BecameLeader { term }));
        } else if !leads && leader != before.leader && !led {
            out.events
                .push((self.partition, Event::LeaderChanged { term, leader }));
        }
    }
}
