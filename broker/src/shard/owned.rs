//! What a core owns: its partitions with their replicas, and the journal that they share.
//!
//! Synchronous (law 1): mail comes in, a turn is passed, mail goes out. Whatever has to wait for a disk leaves as
//! a job in the return value and is run by [`super::Shard`], which then brings its result back.

use super::between_leads::BetweenLeads;
use super::decliners::Decliners;
use super::groups_host::GroupsHost;
use super::in_sync::InSync;
use super::mail::*;
use super::metadata::MetadataOwner;
use super::peer_mail::PeerMail;
use super::produces::Produces;
use super::remembered::Remembered;
use super::settling::Newcomers;
use super::watch::{Watch, Watches};
use crate::cluster::METADATA;
use crate::partition::{Appended, Partition, Refused};
use protocol::error::ErrorCode;
use raft_group::{CatchUp, Event, Outputs, Replica, Replicas, Role};
use runtime::{Instant, Post};
use std::collections::{BTreeMap, BTreeSet};
use storage::{Condition, EntryKind, Journal, JournalWritten, PartitionId};

/// The partitions of a core and all that hangs on them.
pub struct Owned {
    pub core: usize,
    pub cores: usize,
    pub node_id: i32,
    pub post: Post<Mail>,
    pub journal: Journal,
    pub replicas: Replicas,
    pub partitions: BTreeMap<PartitionId, Partition>,
    /// Partitions whose logs were found unfit at the start: kept, and not served.
    pub fenced: BTreeSet<PartitionId>,
    pub watches: Watches,
    /// On core [`crate::cluster::METADATA_CORE`] only.
    pub metadata: Option<MetadataOwner>,
    pub groups: GroupsHost,
    pub(super) produces: Produces,
    outputs: Outputs,
    changed_leaders: Vec<Leadership>,
    pub(super) between_leads: BetweenLeads,
    /// Partitions whose tails are worth draining, found in passes since this was last taken.
    pub drains: Vec<PartitionId>,
    /// Partitions still to serve for the first time, by the view's version that brought them.
    opening: BTreeMap<u64, usize>,
    pub counters: Counters,
    /// Producers of all partitions.
    pub remembered: Remembered,
    /// Nodes that a link of this core reaches now, with the incarnation that it has found there.
    pub connected: BTreeMap<i32, u32>,
    /// Since when.
    pub(super) connected_at: BTreeMap<i32, Instant>,
    /// Frames for other nodes since this was last taken.
    pub to_peers: Vec<ToPeer>,
    /// Entries that followers need and that are not in memory.
    pub(super) reads: Vec<(PartitionId, CatchUp)>,
    /// New groups that this node is to lead first, with how many ticks it may still try to.
    pub(super) to_lead: BTreeMap<PartitionId, u32>,
    /// Groups led here whose members may not be what the metadata wants.
    pub(super) unsettled: BTreeSet<PartitionId>,
    pub(super) newcomers: Newcomers,
    /// Partitions led here of which it was said that they have arrived where they were to go.
    pub(super) told_arrivals: BTreeMap<PartitionId, super::moves::Told>,
    pub(super) in_sync: InSync,
    pub(super) decliners: Decliners,
    /// Bytes of entries that followers have taken since the last pass.
    pub(super) taken_bytes: u64,
    pub lags: super::lags::Lags,
    /// Recoveries that were said to be over: ticks until that is said again.
    pub(super) told_recoveries: BTreeMap<PartitionId, u32>,
}

/// A frame for another node.
#[derive(Debug)]
pub struct ToPeer {
    pub node: i32,
    /// The core that is to get it; None: whichever the link leads to.
    pub core: Option<u16>,
    pub kind: u8,
    pub payload: Vec<bytes::Bytes>,
}

/// What the owner counts for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub turns: u64,
    pub batches_appended: u64,
    pub bytes_appended: u64,
    pub bytes_fetched: u64,
    /// Of those, for clients in this node's rack, of partitions that another node leads.
    pub bytes_fetched_following: u64,
    pub cold_reads: u64,
    /// How often a replica of this core was elected, and how often one did not lead any more.
    pub elections: u64,
    pub leaderships_lost: u64,
    /// Leads that were asked to go to another replica.
    pub transfers: u64,
    /// What followers needed that memory did not have: reads, states to start from, and the bytes of both.
    pub catch_up_reads: u64,
    pub catch_up_snapshots: u64,
    pub catch_up_bytes: u64,
}

impl Owned {
    pub fn new(
        core: usize,
        cores: usize,
        node_id: i32,
        post: Post<Mail>,
        journal: Journal,
        remembered: Remembered,
    ) -> Owned {
        Owned {
            core,
            cores,
            node_id,
            post,
            journal,
            replicas: Replicas::new(),
            partitions: BTreeMap::new(),
            fenced: BTreeSet::new(),
            watches: Watches::default(),
            metadata: None,
            groups: GroupsHost::default(),
            produces: Produces::default(),
            outputs: Outputs::default(),
            changed_leaders: Vec::new(),
            between_leads: BetweenLeads::default(),
            drains: Vec::new(),
            opening: BTreeMap::new(),
            counters: Counters::default(),
            remembered,
            connected: BTreeMap::new(),
            connected_at: BTreeMap::new(),
            to_peers: Vec::new(),
            reads: Vec::new(),
            to_lead: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            newcomers: Newcomers::default(),
            told_arrivals: BTreeMap::new(),
            in_sync: InSync::default(),
            decliners: Decliners::default(),
            taken_bytes: 0,
            lags: super::lags::Lags::default(),
            told_recoveries: BTreeMap::new(),
        }
    }

    /// Takes a partition in. `version` is the view's that brought it.
    pub fn open(&mut self, mut partition: Partition, replica: Replica, version: u64) {
        let id = partition.id;
        // Where others have a say, it may take long until somebody leads: nobody waits for that.
        let alone = replica.members().is_sole_voter(replica.id());
        let healthy = matches!(replica.log().condition(), Condition::Healthy);
        if alone && healthy && replica.fenced().is_none() {
            partition.opening = Some(version);
            *self.opening.entry(version).or_default() += 1;
        }
        self.remembered.grown(partition.producers.len());
        self.replicas.insert(replica);
        self.partitions.insert(id, partition);
    }

    /// How many partitions of that version do not serve yet.
    pub fn still_opening(&self, version: u64) -> usize {
        self.opening.get(&version).copied().unwrap_or(0)
    }

    pub(super) fn append(
        &mut self,
        id: PartitionId,
        batch: bytes::Bytes,
        wall_ms: i64,
    ) -> Result<Appended, Refused> {
        let absent = self.absent(id);
        let partition = self.partitions.get_mut(&id).ok_or(absent)?;
        let replica = self
            .replicas
            .get_mut(id)
            .expect("every partition has its replica");
        // Who does not lead says so, whatever the disk: others may have room.
        if self.journal.refuses().is_some() && replica.role() == Role::Leader {
            partition.refuse(&batch, wall_ms);
            return Err(ErrorCode::KAFKA_STORAGE_ERROR.into());
        }
        let producers = partition.producers.len();
        let appended = partition.append(replica, batch, wall_ms);
        if partition.producers.len() > producers {
            self.remembered.grown(1);
            self.bound_producers();
        }
        appended
    }

    /// Proposes a new log start; gives it back with the entry to wait for, if one is needed.
    pub fn move_log_start(
        &mut self,
        id: PartitionId,
        offset: i64,
    ) -> Result<(i64, Option<Appended>), ErrorCode> {
        if !self.partitions.contains_key(&id) {
            return Err(self.absent(id));
        }
        if self.journal.refuses().is_some() {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        let replica = self
            .replicas
            .get_mut(id)
            .expect("every partition has its replica");
        check_leader(replica, -1)?;
        let high_watermark = replica.log().high_watermark();
        let start = if offset == -1 { high_watermark } else { offset };
        if start > high_watermark || start < 0 {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let current = replica.log().log_start_offset();
        if start <= current {
            return Ok((current, None));
        }
        let payload = bytes::Bytes::copy_from_slice(&start.to_le_bytes());
        let proposed = replica
            .propose(EntryKind::LogStart, payload)
            .map_err(|_| ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        let (index, term) = (proposed.index, proposed.term);
        let appended = Appended {
            base_offset: start,
            index,
            term,
            committed: false,
        };
        Ok((start, Some(appended)))
    }

    /// What to say of a partition that is not open here. The metadata names it, or the asker would not ask: so it
    /// is about to be opened, or was found damaged.
    pub fn absent(&self, id: PartitionId) -> ErrorCode {
        match self.fenced.contains(&id) {
            true => ErrorCode::KAFKA_STORAGE_ERROR,
            false => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        }
    }

    /// One pass over everything dirty: stages entries into the journal's open turn, applies what is committed,
    /// answers who waited for it.
    pub fn pass(&mut self, now: Instant, wall_ms: i64) {
        self.counters.turns += 1;
        self.taken_bytes = 0;
        self.admit_waiting(wall_ms);
        self.decide_held();
        let mut outputs = std::mem::take(&mut self.outputs);
        self.replicas.pass(&mut self.journal, &mut outputs);
        self.gather_for_peers(&mut outputs);
        self.reads.append(&mut outputs.reads);
        // Who lost the lead, and what was taken back, must be known before what took its place is applied.
        for (id, event) in outputs.events.drain(..) {
            self.on_event(id, event, now, wall_ms);
        }
        for (id, range) in outputs.committed.drain(..) {
            if id == METADATA {
                self.metadata_committed(range);
            } else {
                self.commit(id, range, now, wall_ms);
            }
        }
        outputs.clear();
        self.outputs = outputs;
        self.tell_leaders();
        self.release_held(now, wall_ms);
    }

    /// The write of a turn has come back.
    pub fn written(&mut self, written: JournalWritten) {
        match self.journal.written(written) {
            Ok(()) => self.replicas.persisted(self.journal.durable_turn()),
            Err(error) => {
                tracing::error!(core = self.core, %error, "the journal failed: this core's partitions are fenced");
                self.replicas.journal_failed(&error.to_string());
            }
        }
    }

    /// The disk is full and a turn waits for room: nothing new is accepted, and who waits for an acknowledgement is
    /// told so now, by a code that is retried and does not say whether the batch will be in the log.
    pub fn hold(&mut self, wall_ms: i64) {
        self.journal.hold();
        self.admit_waiting(wall_ms);
        let mut tickets = Vec::new();
        for partition in self.partitions.values_mut() {
            partition.abandon(&mut tickets);
        }
        for ticket in tickets {
            self.settle(ticket, ErrorCode::KAFKA_STORAGE_ERROR);
        }
    }

    fn commit(
        &mut self,
        id: PartitionId,
        range: std::ops::RangeInclusive<u64>,
        now: Instant,
        wall_ms: i64,
    ) {
        let (first, last) = (*range.start(), *range.end());
        let replica = self.replicas.get_mut(id).expect("only our replicas commit");
        replica.applied(last);
        let partition = self
            .partitions
            .get_mut(&id)
            .expect("every replica has its partition");
        let taken = self.groups.take_in(id, replica, first, last);
        let taken = taken.and_then(|()| partition.take_in(replica.log(), first, last, wall_ms));
        if let Err(reason) = taken {
            replica.fence(reason);
        }
        let mut tickets = Vec::new();
        partition.committed(last, replica, &mut tickets);
        self.watches.touch(&partition.watches);
        let wants_drain = replica.log().wants_drain();
        if wants_drain {
            self.drains.push(id);
        }
        let term = replica.term();
        if replica.is_serving() && partition.served_term != term {
            partition.served_term = term;
            if let Some(version) = partition.opening.take() {
                count_opened(&mut self.opening, version);
            }
            self.lead(id);
        }
        for (ticket, same) in tickets {
            let error = if same {
                ErrorCode::NONE
            } else {
                ErrorCode::NOT_LEADER_OR_FOLLOWER
            };
            self.settle(ticket, error);
        }
        self.groups_committed(id, first..=last, now, wall_ms);
    }

    /// This node's replica serves its partition from now on.
    pub(super) fn lead(&mut self, id: PartitionId) {
        self.unsettled.insert(id);
        self.in_sync.lead(id, self.node_id);
        self.tell_lead(id);
    }

    /// Tells who leads a partition that is led here, and who lags.
    pub(super) fn tell_lead(&mut self, id: PartitionId) {
        let replica = self.replicas.get(id);
        self.changed_leaders.push(Leadership {
            partition: id,
            leader: replica.map(Replica::id),
            epoch: replica.map_or(-1, |replica| replica.term() as i32),
            lagging: Some(self.in_sync.lagging(id)),
        });
    }

    fn on_event(&mut self, id: PartitionId, event: Event, now: Instant, wall_ms: i64) {
        let (leader, epoch) = match event {
            // Leadership is told once the replica serves: see `commit`.
            Event::BecameLeader { .. } => {
                self.counters.elections += 1;
                return;
            }
            Event::MembersChanged { .. } => return,
            Event::LeadConfirmed { read, index } if id == METADATA => {
                return self.metadata_lead_confirmed(read, index);
            }
            Event::LeadConfirmed { read, index } => {
                self.refuse_proved(id, read, wall_ms);
                return self.group_lead_confirmed(id, read, index, now, wall_ms);
            }
            Event::Truncated { from } => {
                if let Some(partition) = self.partitions.get_mut(&id) {
                    partition.truncated(from);
                }
                return;
            }
            Event::SnapshotWanted => return self.offer_snapshot(id, wall_ms),
            Event::Installed { applied, state, .. } => {
                return self.take_snapshot(id, applied, state);
            }
            Event::LostLeadership { term, leader } => {
                self.counters.leaderships_lost += 1;
                self.lost_leadership(id, now, wall_ms);
                (leader, term as i32)
            }
            Event::LeaderChanged { term, leader } => {
                if id == METADATA {
                    self.send_early_on(now);
                }
                // Who waits for a follower's data may have to ask somebody else now.
                if let Some(partition) = self.partitions.get(&id) {
                    self.watches.touch(&partition.watches);
                }
                (leader, term as i32)
            }
            Event::Fenced { reason } => {
                self.fenced(id, &reason, now, wall_ms);
                // If it led, the loss of the lead has a word of its own; others may go on.
                (None, -1)
            }
        };
        self.changed_leaders.push(Leadership {
            partition: id,
            leader,
            epoch,
            lagging: None,
        });
    }

    /// Another replica leads, or none: what becomes of entries that nobody has committed is for it to say.
    fn lost_leadership(&mut self, id: PartitionId, now: Instant, wall_ms: i64) {
        if id == METADATA {
            return self.metadata_unseated();
        }
        self.in_sync.unseated(id);
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        let doubts = partition.doubts.take_all().collect();
        let mut tickets = Vec::new();
        partition.abandon(&mut tickets);
        self.watches.touch(&partition.watches);
        self.lost_lead(id, tickets, doubts, now);
        self.groups_lost(id, now, wall_ms);
    }

    fn fenced(&mut self, id: PartitionId, reason: &str, now: Instant, wall_ms: i64) {
        if id == METADATA {
            tracing::error!(
                reason,
                "the metadata replica is fenced: no topic can be changed"
            );
            self.metadata_fenced();
            return;
        }
        let Some(partition) = self.partitions.get_mut(&id) else {
            return;
        };
        tracing::error!(
            topic = &*partition.name,
            partition = id.partition,
            reason,
            "partition fenced: it is not served until its log is repaired; the others go on"
        );
        self.watches.touch(&partition.watches);
        if let Some(version) = partition.opening.take() {
            count_opened(&mut self.opening, version);
        }
        self.abandon_acks(id);
        self.groups_lost(id, now, wall_ms);
    }

    /// Who waits for a commit in this partition is told so by a code that is retried and does not say whether the batch
    /// is in the log.
    pub(super) fn abandon_acks(&mut self, id: PartitionId) {
        let mut tickets = Vec::new();
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.abandon(&mut tickets);
        }
        for ticket in tickets {
            self.settle(ticket, ErrorCode::KAFKA_STORAGE_ERROR);
        }
    }

    fn tell_leaders(&mut self) {
        if self.changed_leaders.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.changed_leaders);
        let own = |word: &&Leadership| word.leader.is_some_and(|id| id.node() == self.node_id);
        let led: Vec<Leadership> = word.iter().filter(own).cloned().collect();
        if !led.is_empty() {
            self.say_to_all(PeerMail::Leaders(led));
        }
        let word = std::sync::Arc::new(word);
        for core in 0..self.cores {
            self.post.send(core, Mail::Leaders(word.clone()));
        }
    }

    /// Gives a deleted partition's replica away; everyone who waits for it is told.
    pub fn close(&mut self, id: PartitionId, now: Instant, wall_ms: i64) -> Option<Replica> {
        let mut partition = self.partitions.remove(&id)?;
        let mut tickets = Vec::new();
        partition.abandon(&mut tickets);
        self.opened(&mut partition);
        self.watches.touch(&partition.watches);
        for ticket in tickets {
            self.settle(ticket, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        self.groups_lost(id, now, wall_ms);
        self.groups.forget(id);
        self.in_sync.forget(id);
        // What it has said until now goes before.
        self.tell_leaders();
        for core in 0..self.cores {
            self.post.send(core, Mail::ReplicaClosed(id));
        }
        self.replicas.remove(id)
    }

    /// The partition serves, or will not: nobody needs to wait for it any more.
    fn opened(&mut self, partition: &mut Partition) {
        if let Some(version) = partition.opening.take() {
            count_opened(&mut self.opening, version);
        }
    }

    /// Lets a fetch wait for more.
    pub fn watch(&mut self, from: usize, ask: AskId, fetch: Fetch) {
        let ids: Vec<PartitionId> = fetch
            .partitions
            .iter()
            .map(|wanted| wanted.partition)
            .collect();
        let slot = self.watches.insert(Watch { from, ask, fetch });
        for id in ids {
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.watches.push(slot);
            }
        }
    }

    /// Ends a watch.
    pub fn unwatch(&mut self, slot: u32) -> Option<Watch> {
        let watch = self.watches.remove(slot)?;
        for wanted in &watch.fetch.partitions {
            if let Some(partition) = self.partitions.get_mut(&wanted.partition) {
                partition.watches.retain(|known| *known != slot);
            }
        }
        Some(watch)
    }

    /// Where an epoch ends (KIP-320).
    pub fn epoch_end(&mut self, ask: &EpochEnd) -> Result<(i32, i64), ErrorCode> {
        if !self.partitions.contains_key(&ask.partition) {
            return Err(self.absent(ask.partition));
        }
        let replica = self
            .replicas
            .get(ask.partition)
            .expect("every partition has its replica");
        check_leader(replica, ask.current_leader_epoch)?;
        Ok(replica
            .log()
            .epoch_end_offset(ask.epoch)
            .unwrap_or((-1, -1)))
    }

    pub fn log_sizes(&self, which: Option<Vec<PartitionId>>) -> Vec<(PartitionId, u64)> {
        let size = |id: PartitionId| {
            self.replicas
                .get(id)
                .map(|replica| (id, replica.log().size_bytes()))
        };
        match which {
            Some(ids) => ids.into_iter().filter_map(size).collect(),
            None => self.partitions.keys().copied().filter_map(size).collect(),
        }
    }
}

/// One partition less that a version of the view waits for.
fn count_opened(opening: &mut BTreeMap<u64, usize>, version: u64) {
    let left = opening
        .get_mut(&version)
        .expect("counted when it was opened");
    *left -= 1;
    if *left == 0 {
        opening.remove(&version);
    }
}

/// May this replica answer a client that believes in `current_leader_epoch`?
pub fn check_leader(replica: &Replica, current_leader_epoch: i32) -> Result<(), ErrorCode> {
    if replica.fenced().is_some() {
        return Err(ErrorCode::KAFKA_STORAGE_ERROR);
    }
    if !replica.is_serving() {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    check_epoch(replica, current_leader_epoch)
}

/// Is this replica in the epoch that a client believes in?
pub fn check_epoch(replica: &Replica, current_leader_epoch: i32) -> Result<(), ErrorCode> {
    let epoch = replica.term() as i32;
    match current_leader_epoch {
        -1 => Ok(()),
        known if known < epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
        known if known > epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}
