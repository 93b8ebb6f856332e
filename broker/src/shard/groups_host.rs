//! The group coordinators of a core: one for each partition of the offsets topic that the core owns.
//!
//! Carries their requests, writes and deadlines between the mail and the partition's log. What a group *is*
//! lives in [`crate::groups`]; its durable state is a replay of the partition (DESIGN D7).

use super::anew::Growth;
use super::group_reads::{Read, Reads};
use super::mail::{Answer, AskId, Mail};
use super::owned::Owned;
use crate::groups::{
    Coordinator, GroupRequest, GroupResponse, ListGroups, ListedGroup, Moment, Output,
    RecordToWrite, Token, WriteId,
};
use crate::partition::committed_entries;
use bytes::Bytes;
use protocol::compression::Budget;
use protocol::error::ErrorCode;
use protocol::records::{self, Batch, BatchBuilder};
use raft_group::{Replica, Role};
use runtime::{Instant, Post};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use storage::{EntryKind, PartitionId};

/// Decompressed bytes of one batch of the offsets topic; our own batches are not compressed.
const REPLAY_BUDGET_BYTES: usize = 64 << 20;

/// All coordinators of a core.
#[derive(Default)]
pub struct GroupsHost {
    pub(super) hosted: BTreeMap<PartitionId, Hosted>,
    /// Who awaits which answer.
    tokens: BTreeMap<Token, (usize, AskId)>,
    next_token: u64,
    /// Partitions to be begun anew once their writes have come to rest.
    pub(super) anew_due: BTreeSet<PartitionId>,
}

pub(super) struct Hosted {
    pub(super) coordinator: Coordinator,
    /// Appended and not committed, in order of their index.
    writes: VecDeque<(u64, i64, WriteId)>,
    /// False until the partition serves.
    serving: bool,
    growth: Growth,
    pub(super) reads: Reads,
}

impl GroupsHost {
    /// Takes in the coordinator of a partition, as replayed so far from a log of that many bytes.
    pub fn host(&mut self, id: PartitionId, coordinator: Coordinator, bytes: u64) {
        let hosted = Hosted {
            coordinator,
            writes: VecDeque::new(),
            serving: false,
            growth: Growth::of(bytes),
            reads: Reads::default(),
        };
        self.hosted.insert(id, hosted);
    }

    /// Entries are committed: a coordinator takes in as a replay what it has not written itself, as leader of the
    /// present term.
    ///
    /// # Errors
    /// A sentence: they cannot be read, and the partition must not be served.
    pub fn take_in(
        &mut self,
        id: PartitionId,
        replica: &Replica,
        first: u64,
        last: u64,
    ) -> Result<(), String> {
        let Some(hosted) = self.hosted.get_mut(&id) else {
            return Ok(());
        };
        let log = replica.log();
        let led = Some(replica.term()).filter(|_| replica.role() == Role::Leader);
        if led.is_some() && log.term(first) == led {
            return Ok(()); // Terms never fall: all of them are its own.
        }
        let entries = committed_entries(log, first, last)?;
        let others = entries.iter().filter(|entry| Some(entry.term) != led);
        for entry in others.filter(|entry| entry.kind == EntryKind::Batch) {
            replay(&mut hosted.coordinator, &entry.data)?;
        }
        Ok(())
    }

    /// The settings of the coordinator of a partition, if it has one.
    pub fn settings_of(&self, id: PartitionId) -> Option<crate::groups::Settings> {
        let hosted = self.hosted.get(&id)?;
        Some(hosted.coordinator.settings().clone())
    }

    /// A follower's coordinator begins from another state. It serves nobody, so nobody waits for it.
    pub fn replace(&mut self, id: PartitionId, coordinator: Coordinator) {
        if let Some(hosted) = self.hosted.get_mut(&id) {
            assert!(!hosted.serving, "{id:?} serves and is given a state");
            hosted.coordinator = coordinator;
        }
    }

    /// The partition is gone.
    pub fn forget(&mut self, id: PartitionId) {
        self.hosted.remove(&id);
    }

    pub fn coordinator(&self, id: PartitionId) -> Option<&Coordinator> {
        self.hosted.get(&id).map(|hosted| &hosted.coordinator)
    }

    /// The offsets partitions of this core.
    pub fn hosted_ids(&self) -> impl Iterator<Item = PartitionId> {
        self.hosted.keys().copied()
    }

    /// The coordinators of this core that serve, in the order of their partitions, for metrics.
    pub fn coordinators(&self) -> impl Iterator<Item = (PartitionId, &Coordinator)> {
        let serving = self.hosted.iter().filter(|(_, hosted)| hosted.serving);
        serving.map(|(id, hosted)| (*id, &hosted.coordinator))
    }

    /// How far the log of a coordinator that serves has grown.
    pub fn growth_if_serving(&mut self, id: PartitionId) -> Option<&mut Growth> {
        let hosted = self.hosted.get_mut(&id).filter(|hosted| hosted.serving)?;
        Some(&mut hosted.growth)
    }

    /// A coordinator that serves, if nothing that it wrote is still on its way to the disk.
    pub fn settled(&mut self, id: PartitionId) -> Option<(&Coordinator, &mut Growth)> {
        let hosted = self.hosted.get_mut(&id)?;
        let settled = hosted.serving
            && hosted.writes.is_empty()
            && hosted.coordinator.writes_under_way() == 0;
        settled.then_some((&hosted.coordinator, &mut hosted.growth))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.hosted
            .values()
            .filter_map(|hosted| hosted.coordinator.next_deadline())
            .min()
    }

    pub(super) fn token(&mut self, from: usize, ask: AskId) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.tokens.insert(token, (from, ask));
        token
    }

    fn reply(&mut self, token: Token, response: GroupResponse, post: &Post<Mail>) {
        let (from, ask) = self
            .tokens
            .remove(&token)
            .expect("a token is answered once");
        answer(post, from, ask, response);
    }
}

fn answer(post: &Post<Mail>, from: usize, ask: AskId, response: GroupResponse) {
    let answer = Answer::Group(Box::new(response));
    post.send(from, Mail::Answer { ask, answer });
}

/// The coordinator's durable state as one record batch in the topic's own format: for a checkpoint, and to begin the
/// topic anew. Empty if there is none.
pub fn snapshot(coordinator: &Coordinator, wall_ms: i64) -> Bytes {
    let records = coordinator.snapshot();
    if records.is_empty() {
        return Bytes::new();
    }
    let mut batch = BatchBuilder::new();
    for record in &records {
        batch.push(wall_ms, Some(&record.key), Some(&record.value), &[]);
    }
    batch.build().into_bytes()
}

/// Feeds a batch of the offsets topic, or a snapshot, to a coordinator.
///
/// # Errors
/// A sentence; the batch is not what we or Kafka write there.
pub fn replay(coordinator: &mut Coordinator, batch: &Bytes) -> Result<(), String> {
    let mut budget = Budget::new(REPLAY_BUDGET_BYTES);
    let batch = Batch::new(batch.clone()).map_err(|malformed| malformed.to_string())?;
    for record in records::records(&batch, &mut budget).map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        if let Some(key) = record.key {
            coordinator.replay(key, record.value, record.offset);
        }
    }
    Ok(())
}

impl Owned {
    /// A request to the coordinator of a group.
    #[allow(clippy::too_many_arguments, reason = "one place in the mail calls it")]
    pub fn group(
        &mut self,
        from: usize,
        ask: AskId,
        id: PartitionId,
        request: GroupRequest,
        now: Instant,
        wall_ms: i64,
        ids: &mut dyn FnMut() -> u128,
    ) {
        let leads = self
            .replicas
            .get(id)
            .is_some_and(|replica| replica.role() == Role::Leader);
        let code = match self.groups.hosted.get(&id) {
            None => Some(ErrorCode::NOT_COORDINATOR),
            Some(_) if !leads => Some(ErrorCode::NOT_COORDINATOR),
            Some(hosted) if !hosted.serving => Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            Some(_) if self.journal.refuses().is_some() => {
                Some(ErrorCode::COORDINATOR_NOT_AVAILABLE).filter(|_| writes(&request))
            }
            Some(_) => None,
        };
        if let Some(code) = code {
            return self.refuse_group(from, ask, &request, code);
        }
        let hosted = self.groups.hosted.get_mut(&id).expect("looked up above");
        let Some((from, ask, request)) = hosted.growth.hold(from, ask, request) else {
            return;
        };
        let request = match request {
            GroupRequest::OffsetFetch(fetch) => return self.begin_read(id, from, ask, fetch),
            request => request,
        };
        let token = self.groups.token(from, ask);
        let hosted = self.groups.hosted.get_mut(&id).expect("looked up above");
        let mut out = Vec::new();
        hosted
            .coordinator
            .handle(token, request, ids, Moment { now, wall_ms }, &mut out);
        self.carry_out(id, out, now, wall_ms);
    }

    pub(super) fn refuse_group(
        &self,
        from: usize,
        ask: AskId,
        request: &GroupRequest,
        code: ErrorCode,
    ) {
        answer(&self.post, from, ask, GroupResponse::refusal(request, code));
    }

    /// Sends the answers and appends the records that a coordinator gave.
    pub(super) fn carry_out(
        &mut self,
        id: PartitionId,
        out: Vec<Output>,
        now: Instant,
        wall_ms: i64,
    ) {
        let mut queue = VecDeque::from(out);
        while let Some(output) = queue.pop_front() {
            match output {
                Output::Reply { token, response } => {
                    self.groups.reply(token, response, &self.post);
                }
                // Transactional writes (`producer`) do not come up: nobody gets a transactional id.
                Output::Append {
                    write,
                    records,
                    producer: _,
                } => {
                    let appended = self.append_records(id, &records, wall_ms);
                    let hosted = self.groups.hosted.get_mut(&id).expect("it just wrote");
                    match appended {
                        Ok((index, offset)) => hosted.writes.push_back((index, offset, write)),
                        Err(error) => {
                            let mut more = Vec::new();
                            let moment = Moment { now, wall_ms };
                            hosted.coordinator.failed(write, error, moment, &mut more);
                            queue.extend(more);
                        }
                    }
                }
            }
        }
    }

    fn append_records(
        &mut self,
        id: PartitionId,
        records: &[RecordToWrite],
        wall_ms: i64,
    ) -> Result<(u64, i64), ErrorCode> {
        let replica = self
            .replicas
            .get_mut(id)
            .ok_or(ErrorCode::NOT_COORDINATOR)?;
        let mut batch = BatchBuilder::new();
        for record in records {
            batch.push(wall_ms, Some(&record.key), record.value.as_deref(), &[]);
        }
        let batch = batch.build().into_bytes();
        let size = batch.len();
        let proposed = replica
            .propose(EntryKind::Batch, batch)
            .map_err(|_| ErrorCode::NOT_COORDINATOR)?;
        let hosted = self.groups.hosted.get_mut(&id).expect("it writes");
        hosted.growth.add(size);
        Ok((proposed.index, proposed.base_offset))
    }

    /// Entries of a partition are committed: its coordinator, if it has one, goes on.
    pub(super) fn groups_committed(
        &mut self,
        id: PartitionId,
        range: RangeInclusive<u64>,
        now: Instant,
        wall_ms: i64,
    ) {
        let Some(hosted) = self.groups.hosted.get_mut(&id) else {
            return;
        };
        let moment = Moment { now, wall_ms };
        let mut out = Vec::new();
        while let Some((index, offset, write)) = hosted.writes.front().copied() {
            if index > *range.end() {
                break;
            }
            hosted.writes.pop_front();
            hosted
                .coordinator
                .committed(write, offset, moment, &mut out);
        }
        let replica: Option<&Replica> = self.replicas.get(id);
        if !hosted.serving && replica.is_some_and(Replica::is_serving) {
            hosted.serving = true;
            hosted.coordinator.loaded(moment, &mut out);
        }
        self.carry_out(id, out, now, wall_ms);
        self.read_groups(id, now, wall_ms);
    }

    /// The partition is fenced, gone, or led by another node: nothing that was asked can be promised any more.
    pub(super) fn groups_lost(&mut self, id: PartitionId, now: Instant, wall_ms: i64) {
        let Some(hosted) = self.groups.hosted.get_mut(&id) else {
            return;
        };
        hosted.serving = false;
        let mut sent_away: Vec<_> = hosted.growth.settle().into();
        sent_away.extend(hosted.reads.take_all().map(Read::request));
        self.groups.anew_due.remove(&id);
        // What becomes of writes under way is not known: everybody is sent away, nobody is told a result.
        hosted.writes.clear();
        // It goes on from what is committed, as a follower's.
        let committed = snapshot(&hosted.coordinator, wall_ms);
        let mut out = Vec::new();
        hosted.coordinator.resign(&mut out);
        if !committed.is_empty()
            && let Err(error) = replay(&mut hosted.coordinator, &committed)
        {
            tracing::error!(error, partition = ?id, "a coordinator cannot read its own state");
        }
        for (from, ask, request) in sent_away {
            self.refuse_group(from, ask, &request, ErrorCode::NOT_COORDINATOR);
        }
        self.carry_out(id, out, now, wall_ms);
    }

    /// Deadlines of groups that have come. True if something was appended or may have to be.
    pub(super) fn groups_deadline(&mut self, now: Instant, wall_ms: i64) -> bool {
        let due: Vec<PartitionId> = self
            .groups
            .hosted
            .iter()
            .filter(|(_, hosted)| {
                hosted
                    .coordinator
                    .next_deadline()
                    .is_some_and(|at| at <= now)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &due {
            let hosted = self.groups.hosted.get_mut(id).expect("listed above");
            let mut out = Vec::new();
            hosted
                .coordinator
                .on_deadline(Moment { now, wall_ms }, &mut out);
            self.carry_out(*id, out, now, wall_ms);
        }
        !due.is_empty()
    }

    /// Expired offsets of all groups leave (`offsets.retention.minutes`).
    pub fn expire_offsets(&mut self, now: Instant, wall_ms: i64) {
        let ids: Vec<PartitionId> = self.groups.hosted.keys().copied().collect();
        for id in ids {
            let hosted = self.groups.hosted.get_mut(&id).expect("listed above");
            if !hosted.serving {
                continue;
            }
            let mut out = Vec::new();
            hosted
                .coordinator
                .expire_offsets(Moment { now, wall_ms }, &mut out);
            self.carry_out(id, out, now, wall_ms);
        }
    }

    /// Committed offsets of deleted topics leave.
    pub fn forget_offsets_of(&mut self, topics: &[(String, u128)], now: Instant, wall_ms: i64) {
        let ids: Vec<PartitionId> = self.groups.hosted.keys().copied().collect();
        for id in ids {
            let hosted = self.groups.hosted.get_mut(&id).expect("listed above");
            let mut out = Vec::new();
            hosted
                .coordinator
                .topics_deleted(topics, Moment { now, wall_ms }, &mut out);
            self.carry_out(id, out, now, wall_ms);
        }
    }

    /// The groups of this core's coordinators.
    pub fn list_groups(&self, filter: &ListGroups) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut listed = Vec::new();
        for (id, hosted) in &self.groups.hosted {
            if !hosted.serving {
                let replica = self.replicas.get(*id);
                if replica.is_none_or(|replica| replica.role() != Role::Leader) {
                    continue; // Another node lists it.
                }
                return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
            }
            let own = hosted.coordinator.list(filter);
            if own.error_code != ErrorCode::NONE {
                return Err(own.error_code);
            }
            listed.extend(own.groups);
        }
        Ok(listed)
    }
}

/// Does this request need the log to take something in?
fn writes(request: &GroupRequest) -> bool {
    !matches!(
        request,
        GroupRequest::Heartbeat(_)
            | GroupRequest::OffsetFetch(_)
            | GroupRequest::DescribeGroup(_)
            | GroupRequest::ListGroups(_)
    )
}
