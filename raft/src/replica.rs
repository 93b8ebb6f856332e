//! One replica of one partition's Raft group, as a value.
//!
//! It is given messages, proposals, ticks and confirmations of the disk, and gives ordered outputs
//! ([`crate::ready`]). It owns the partition's [`Log`] and the raft crate's state machine; it,
//! `open`, `ready`, `install`, `catch_up`, `sleep` and `store` are the only modules that drive that
//! crate.
//!
//! It must not know the clock, the network or any message of a client. Deliberately absent:
//! forwarding of proposals, and follower reads.
//!
//! What is guarded here because the crate (0.7.0) does not:
//!
//! - A panic in the crate (`fatal!` in about a dozen places) **fences** this replica: it takes part
//!   in nothing any more, says so once, and its neighbours on the core live on.
//! - Election timeouts are overwritten after every call ([`crate::timing`]).
//! - A rejected append may push a follower's `next` to or below what it is known to hold
//!   (tikv/raft-rs #557): such rejections are stale; [`Replica::step`] drops or corrects them.
//! - A campaign scans all unapplied entries (#530): see [`crate::store`].
//! - The uncommitted bytes of a leader are counted here, since the crate would count them from
//!   payloads of committed entries that it is never shown.
//! - A leader that leaves the configuration would look for its own progress and panic: it steps
//!   down at that moment instead.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{any::Any, fmt, slice};

use bytes::Bytes;
use raft::{RawNode, StateRole};

use crate::backlog::Backlog;
use crate::catch_up::CatchUps;
use crate::known::Shown;
use crate::members::{Change, Members, Membership, ReplicaId, Step};
use crate::message::{TERM_MAX, offsets_of, raft_entry};
use crate::mutated::Mutated;
use crate::open::{Configuration, ReplicaConfig};
use crate::ready::{Flight, Taken};
use crate::refusal::{MembersError, ProposeError, TransferError};
use crate::sleep::Rest;
use crate::snapshot::STATE_BYTES_MAX;
use crate::store::{Store, is_membership};
use crate::timing::election_timeout_ticks;
use storage::{EntryKind, HardState, Log, PartitionId};

/// What this replica believes to be in its group.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Role {
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

impl From<StateRole> for Role {
    fn from(role: StateRole) -> Role {
        match role {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }
}

/// Where a proposal stands in the log, if this leader stays leader. It is committed if and only if
/// the commit index reaches `index` while the entry there still has this `term`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Proposed {
    pub index: u64,
    pub term: u64,
    /// The first offset that the entry takes, if it takes any; else the next that will be taken.
    pub base_offset: i64,
}

/// What the rest of the node is told about when it changes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) term: u64,
    pub(crate) leader: Option<ReplicaId>,
}

pub(crate) struct Fence {
    pub(crate) reason: String,
    pub(crate) told: bool,
}

/// A replica. See the module's head.
pub struct Replica {
    pub(crate) node: RawNode<Store>,
    pub(crate) id: ReplicaId,
    pub(crate) partition: PartitionId,
    pub(crate) configuration: Configuration,
    pub(crate) flight: Flight,
    pub(crate) told: Standing,
    pub(crate) fence: Option<Box<Fence>>,
    /// A Ready that the journal had no room for.
    pub(crate) parked: Option<Box<Taken>>,
    /// Proposals that no append message has been made for yet; one message takes all of a turn.
    pub(crate) append_due: bool,
    /// The next offset, with the proposals that are not staged yet. Counts while leader.
    pub(crate) next_offset: i64,
    /// The last index that this replica proposed, unless what it proposed was replaced.
    pub(crate) proposed_until: u64,
    /// What came with a snapshot's state is applied up to here, although the log may be behind.
    pub(crate) installed: u64,
    /// The commit index that the last appends to all followers carried.
    pub(crate) commit_carried: u64,
    pub(crate) catch_ups: CatchUps,
    /// The number of the last read: [`crate::confirm`].
    pub(crate) reads: u64,
    /// The entry whose holders know the members: [`crate::known`].
    pub(crate) shown: Option<Shown>,
    pub(crate) rest: Rest,
    pub(crate) seed: u64,
    pub(crate) election_ticks: usize,
    pub(crate) heartbeat_ticks: usize,
    pub(crate) mutated: Mutated,
    pub(crate) entry_bytes_max: usize,
    backlog: Backlog,
    /// The last term that this replica led since it was opened (0: none), and the index of the
    /// no-op that opened it.
    pub(crate) led_term: u64,
    led_from: u64,
}

impl Replica {
    /// A replica around a node that has just been started; see [`Replica::open`].
    pub(crate) fn new(
        node: RawNode<Store>,
        partition: PartitionId,
        config: &ReplicaConfig,
        configuration: Configuration,
        applied: u64,
    ) -> Replica {
        let state = node.raft.hard_state();
        let hard_state = HardState {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
        };
        let installed = node.store().log.installed();
        let mut replica = Replica {
            node,
            id: config.id,
            partition,
            configuration,
            flight: Flight::new(hard_state, applied),
            told: Standing {
                role: Role::Follower,
                term: hard_state.term,
                leader: None,
            },
            fence: None,
            parked: None,
            append_due: false,
            next_offset: 0,
            proposed_until: 0,
            installed,
            commit_carried: 0,
            catch_ups: CatchUps::default(),
            reads: 0,
            shown: None,
            rest: Rest::default(),
            led_term: 0,
            led_from: 0,
            seed: config.seed,
            election_ticks: config.election_ticks,
            heartbeat_ticks: config.heartbeat_ticks,
            mutated: Mutated::by(config.mutation),
            entry_bytes_max: config.entry_bytes_max,
            backlog: Backlog::new(config.uncommitted_bytes_max),
        };
        replica.settle();
        replica
    }

    /// Appends an entry at the leader. The payload is taken by reference; the journal copies it
    /// once, at the next [`Replica::collect`], and fills in offsets and the leader epoch then.
    pub fn propose(&mut self, kind: EntryKind, data: Bytes) -> Result<Proposed, ProposeError> {
        assert!(
            !matches!(kind, EntryKind::Membership | EntryKind::NoOp),
            "{kind:?} entries are proposed by the replica itself"
        );
        self.check_leads()?;
        let offsets = offsets_of(kind, &data).ok_or(ProposeError::Malformed(kind))?;
        let (bytes, bytes_max) = (data.len(), self.entry_bytes_max);
        if bytes > bytes_max {
            return Err(ProposeError::TooLarge { bytes, bytes_max });
        }
        self.backlog.admit(bytes as u64)?;
        self.append(kind, data, offsets)
    }

    /// Enters a joint configuration with the changes; the leader leaves it by itself as soon as
    /// that is safe. One change at a time.
    pub fn propose_members(&mut self, changes: &[Change]) -> Result<Proposed, MembersError> {
        self.check_leads()?;
        if self.node.raft.has_pending_conf() {
            return Err(MembersError::Pending);
        }
        let members = self.configuration.members.enter_joint(changes)?;
        if !members.voters().contains(&self.id) {
            return Err(MembersError::WouldUnseatLeader);
        }
        let record = Membership {
            step: Step::Enter(changes.to_vec()),
            members,
        };
        Ok(self.append_membership(&record)?)
    }

    /// Leaves the joint configuration once its beginning is applied. Whoever leads does this, so a
    /// change of leader in between delays it and nothing more.
    pub(crate) fn leave_joint_if_due(&mut self) {
        if !self.configuration.members.is_joint()
            || self.role() != Role::Leader
            || self.node.raft.has_pending_conf()
            || self.check_leads().is_err()
        {
            return;
        }
        let left = self.configuration.members.leave_joint();
        let members = left.expect("the configuration is joint");
        // A refusal means that the replica was fenced just now; it says so itself.
        let _ = self.append_membership(&Membership {
            step: Step::Leave,
            members,
        });
    }

    fn append_membership(&mut self, record: &Membership) -> Result<Proposed, ProposeError> {
        record.members.verify();
        let proposed = self.append(EntryKind::Membership, record.encode(), 0)?;
        // As the raft crate does for changes that are proposed through it: no other change until
        // this one is applied.
        self.node.raft.pending_conf_index = proposed.index;
        Ok(proposed)
    }

    pub(crate) fn append(
        &mut self,
        kind: EntryKind,
        data: Bytes,
        offsets: u32,
    ) -> Result<Proposed, ProposeError> {
        let bytes = data.len() as u64;
        let mut entry = raft_entry(kind, 0, 0, data);
        // Not as a message: that would allocate two vectors and send to every follower once per
        // proposal. The followers' message is made once per turn, from the log's own copy.
        let appended = self.guarded("append", |node| {
            node.raft.append_entry(slice::from_mut(&mut entry))
        });
        let appended = appended.ok_or(ProposeError::Fenced)?;
        assert!(
            appended,
            "the raft crate has a limit that we did not give it"
        );
        self.append_due = true;
        self.proposed_until = entry.index;
        self.stir();
        self.backlog.add(entry.index, bytes);
        let base_offset = self.next_offset;
        self.next_offset += i64::from(offsets);
        Ok(Proposed {
            index: entry.index,
            term: entry.term,
            base_offset,
        })
    }

    pub(crate) fn check_leads(&self) -> Result<(), ProposeError> {
        let raft = &self.node.raft;
        if self.fence.is_some() {
            Err(ProposeError::Fenced)
        } else if raft.state != StateRole::Leader {
            Err(ProposeError::NotLeader {
                leader: self.leader(),
            })
        } else if self.parked.is_some() {
            Err(ProposeError::JournalFull)
        } else if raft.lead_transferee.is_some() {
            Err(ProposeError::Dropped)
        } else {
            Ok(())
        }
    }

    /// Whether the journal has no room for what this replica has decided: it takes no message and decides nothing
    /// until there is some.
    pub fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Whether leadership is being handed over, so that nothing can be proposed for now.
    pub fn is_transferring(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// Hands leadership to another voter. Until that one campaigns, or an election timeout has
    /// passed, proposals are [`ProposeError::Dropped`].
    pub fn transfer_leader(&mut self, to: ReplicaId) -> Result<(), TransferError> {
        self.check_leads()?;
        if to == self.id || !self.configuration.members.voters().contains(&to) {
            return Err(TransferError::NotVoter(to));
        }
        self.stir();
        self.guarded("transfer of leadership", |node| {
            node.transfer_leader(to.as_u64())
        });
        self.settle();
        Ok(())
    }

    /// Campaigns now instead of at the next election timeout; asks for pre-votes first.
    pub fn campaign(&mut self) {
        if self.may_act() && self.may_campaign() && self.term_is_left() {
            self.stir();
            self.guarded("campaign", |node| node.campaign().is_ok());
            self.settle();
        }
    }

    /// Whether [`Replica::collect`] would find anything new. A joint configuration may be left at
    /// any call, so it counts.
    pub(crate) fn wants_collect(&self) -> bool {
        match &self.fence {
            Some(fence) => !fence.told,
            None => {
                self.parked.is_none()
                    && (self.node.has_ready()
                        || self.node.store().is_missing()
                        || self.configuration.members.is_joint())
            }
        }
    }

    /// The largest state of a snapshot: it has to fit into the journals of all replicas.
    pub(crate) fn state_bytes_max(&self) -> usize {
        STATE_BYTES_MAX.min(self.entry_bytes_max)
    }

    /// Whether the raft crate may be given anything new now.
    pub(crate) fn may_act(&self) -> bool {
        self.fence.is_none() && self.parked.is_none()
    }

    /// Whether a campaign may begin at this very moment. If not, it will at a later tick.
    pub(crate) fn may_campaign(&self) -> bool {
        let log = &self.node.raft.raft_log;
        // The store answers for staged entries only; see there. And a campaign looks for changes of
        // members from the applied index on, which a log that was just installed does not reach.
        if log.unstable_entries().iter().any(is_membership) || self.is_installing() {
            return false;
        }
        // A sole voter wins on the spot, and a leader must have its whole log on stable storage.
        !self.configuration.members.is_sole_voter(self.id) || log.persisted == log.last_index()
    }

    /// A leader epoch is an `i32`; pre-votes keep terms from running away, so this never happens
    /// by itself.
    pub(crate) fn term_is_left(&mut self) -> bool {
        let term = self.node.raft.term;
        if term >= TERM_MAX {
            self.fence(format!(
                "term {term} is the last one; no leader can be elected"
            ));
        }
        term < TERM_MAX
    }

    /// The caller has applied everything up to `index`, which was handed out to it.
    pub fn applied(&mut self, index: u64) {
        if self.fence.is_some() || index <= self.applied_index() {
            return;
        }
        let handed = self.flight.handed();
        assert!(
            index <= handed,
            "applied {index}, but only {handed} was handed out"
        );
        // A refusal means that the replica was fenced just now; it says so itself.
        let _ = self.advance_applied(index);
    }

    /// Everything up to `index`, which was handed out, is applied.
    pub(crate) fn advance_applied(&mut self, index: u64) -> Option<()> {
        self.guarded("apply", |node| node.advance_apply_to(index))?;
        self.node.mut_store().log.applied_to(index);
        Some(())
    }

    /// Calls into the raft crate; a panic there fences this replica and gives `None`.
    pub(crate) fn guarded<T>(
        &mut self,
        doing: &'static str,
        call: impl FnOnce(&mut RawNode<Store>) -> T,
    ) -> Option<T> {
        // The crate's state may be torn after a panic; it is not used again once fenced.
        match catch_unwind(AssertUnwindSafe(|| call(&mut self.node))) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.fence(format!("{doing}: {}", panic_text(&*panic)));
                None
            }
        }
    }

    /// What must follow every call into the raft crate that may change role or term.
    pub(crate) fn settle(&mut self) {
        if self.fence.is_some() {
            return;
        }
        let term = self.node.raft.term;
        let ticks = election_timeout_ticks(self.seed, self.id, term, self.election_ticks);
        self.node.raft.set_randomized_election_timeout(ticks);
        self.heed_alarm();
        if self.node.raft.state == StateRole::Leader && self.led_term != term {
            self.begin_to_lead(term);
        }
    }

    fn begin_to_lead(&mut self, term: u64) {
        let raft_log = &self.node.raft.raft_log;
        let last_index = raft_log.last_index();
        let unstaged = raft_log.unstable_entries().len();
        if unstaged != 1 {
            // Votes leave after what they vouch for is staged, so only the no-op can be left.
            self.fence(format!(
                "{unstaged} unstaged entries, not 1, at the start of term {term}"
            ));
            return;
        }
        if last_index <= self.installed {
            // A majority has what came with a snapshot's state, or the group has lost it.
            let installed = self.installed;
            self.fence(format!(
                "elected with a log up to {last_index}, but the state stands at {installed}"
            ));
            return;
        }
        self.led_term = term;
        self.node.raft.skip_bcast_commit(true);
        self.led_from = last_index;
        self.next_offset = self.log().next_offset();
        self.backlog.clear();
        if self.configuration.index == 0 && !self.node.store().has_members_pending() {
            let members = self.configuration.members.clone();
            // A refusal means that the replica was fenced just now; it says so itself.
            let _ = self.append_membership(&Membership {
                step: Step::Declare,
                members,
            });
        }
    }

    /// Ends this replica's part in its group, for good or until it is opened anew. Said once by
    /// the next [`Replica::collect`]. A leader asks the follower that has most to take over.
    pub fn fence(&mut self, reason: String) {
        if self.fence.is_none() {
            self.fence = Some(Box::new(Fence {
                reason,
                told: false,
            }));
        }
    }

    /// Why the replica is fenced, if it is.
    pub fn fenced(&self) -> Option<&str> {
        self.fence.as_ref().map(|fence| fence.reason.as_str())
    }

    pub fn id(&self) -> ReplicaId {
        self.id
    }

    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// A fenced replica is a follower of nobody.
    pub fn role(&self) -> Role {
        if self.fence.is_some() {
            Role::Follower
        } else {
            self.node.raft.state.into()
        }
    }

    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// Whom this replica takes for the leader of its term.
    pub fn leader(&self) -> Option<ReplicaId> {
        match self.fence {
            Some(_) => None,
            None => ReplicaId::from_u64(self.node.raft.leader_id),
        }
    }

    /// Leader, and an entry of its own term is committed *and applied*: only then does its state
    /// contain everything that any leader before it acknowledged (DESIGN, D3).
    pub fn is_serving(&self) -> bool {
        let early = self.mutated.serves_early();
        self.role() == Role::Leader && (early || self.node.raft.raft_log.applied >= self.led_from)
    }

    /// As the raft crate knows it; may be ahead of what was handed out.
    pub fn commit_index(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// How far the owner's state stands. May be ahead of the commit index after a snapshot.
    pub fn applied_index(&self) -> u64 {
        self.node.raft.raft_log.applied.max(self.installed)
    }

    /// Including proposals that are not staged yet.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// The offset that the next record gets, including proposals that are not staged yet.
    pub fn next_offset(&self) -> i64 {
        if self.role() == Role::Leader {
            self.next_offset
        } else {
            self.log().next_offset()
        }
    }

    /// Up to where another member is known to hold this leader's log; None if this replica does not lead, or has no
    /// such member.
    pub fn matched(&self, peer: ReplicaId) -> Option<u64> {
        if self.role() != Role::Leader {
            return None;
        }
        let progress = self.node.raft.prs().get(peer.as_u64())?;
        Some(progress.matched)
    }

    /// Payload bytes proposed here and not committed, rounded up.
    pub fn uncommitted_bytes(&self) -> u64 {
        self.backlog.bytes()
    }

    pub fn members(&self) -> &Members {
        &self.configuration.members
    }

    /// The configuration in force, for the partition's checkpoint.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    pub fn log(&self) -> &Log {
        &self.node.store().log
    }

    /// For reads, draining, retention and checkpoints. Entries are staged by the replica alone.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.node.mut_store().log
    }

    /// Gives the log back, to drop it or to open it anew.
    pub fn into_log(self) -> Log {
        self.node.raft.r.raft_log.store.log
    }

    pub(crate) fn committed(&mut self, index: u64) {
        let last_index = self.last_index();
        self.backlog.committed(index, last_index);
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("id", &self.id)
            .field("partition", &self.partition)
            .field("role", &self.role())
            .field("term", &self.term())
            .field("commit", &self.commit_index())
            .field("last_index", &self.last_index())
            .field("fenced", &self.fenced())
            .finish_non_exhaustive()
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use runtime::sim;
    use storage::{Journal, Options, recover};

    use super::*;
    use crate::ready::{Event, Outputs};

    fn open(journal: &mut Journal, partition: u32) -> Replica {
        let id = ReplicaId::new(1, 1).unwrap();
        let log = journal.create_log(PartitionId {
            topic: 1,
            partition,
        });
        let config = ReplicaConfig::new(id, Members::of_voters([id]), 1);
        Replica::open(log, &config, None, 0).unwrap()
    }

    #[test]
    fn a_panic_in_the_raft_crate_fences_this_replica_and_says_so_once() {
        let world = sim::Sim::new(sim::Options::seeded(1));
        let node = world.client("test", async |core| {
            let recovered = recover(core.disk(), Path::new("/data"), 0, 1, Options::default());
            let mut journal = recovered.await.unwrap().journal;
            let mut broken = open(&mut journal, 0);
            let mut sound = open(&mut journal, 1);
            let last_index = broken.last_index();
            // Beyond the log: one of the crate's own fatal errors.
            broken.guarded("test", |node| node.raft.raft_log.commit_to(last_index + 1));
            let reason = broken.fenced().unwrap().to_owned();
            assert!(
                reason.starts_with("test: to_commit 3 is out of range"),
                "{reason}"
            );
            assert_eq!(broken.role(), Role::Follower);

            let mut out = Outputs::default();
            broken.collect(&mut journal, &mut out);
            let fenced = (broken.partition(), Event::Fenced { reason });
            assert!(out.events.contains(&fenced));
            out.clear();
            broken.tick(&Default::default(), false);
            broken.applied(1);
            broken.persisted(0);
            assert_eq!(broken.collect(&mut journal, &mut out).staged, None);
            assert!(out.is_empty(), "{out:?}");

            assert!(sound.collect(&mut journal, &mut out).staged.is_some());
            assert_eq!(
                out.events,
                [(sound.partition(), Event::BecameLeader { term: 1 })]
            );
        });
        assert!(world.run_until_done(node, Duration::from_secs(60)));
    }
}
