//! Follows the metadata: opens the partitions that it brings to this core, drops those that it deletes.
//!
//! Views are taken in one after another, in order. Data goes only by a committed delete that names the topic's
//! id: a recovered log whose topic nobody knows is kept, told about, and not served.

use super::Shard;
use super::mail::Mail;
use super::owned::Owned;
use super::view::View;
use super::{groups_host, kept};
use crate::cluster::{Change, METADATA_CORE, OFFSETS_TOPIC, Record, Resource, partition_id};
use crate::config::{BrokerConfig, TopicConfig};
use crate::groups::{self, Coordinator};
use crate::partition::{Partition, Producers};
use bytes::Bytes;
use raft_group::{Configuration, Members, Membership, Replica, ReplicaConfig, ReplicaId};
use runtime::Notify;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use storage::{
    Condition, Entry, EntryKind, Journal, Log, LogConfig, PartitionId, RecoveredLog, Swept,
};
use uuid::Uuid;

/// Most bytes of entries read at once while a log is replayed.
const REPLAY_BYTES: u64 = 4 << 20;
/// Partitions opened before others get their turn on the core.
const OPEN_PER_PASS: usize = 64;
/// How long a purge waits for jobs that still use a file.
const PURGE_RETRY: Duration = Duration::from_millis(20);

/// Views that have arrived and are not taken in yet, and logs that were recovered and are not opened yet.
#[derive(Default)]
pub struct ViewQueue {
    arrived: RefCell<VecDeque<(u64, Arc<Vec<Record>>)>>,
    more: Notify,
    recovered: RefCell<BTreeMap<PartitionId, RecoveredLog>>,
    /// Taken in; acknowledged once their partitions serve.
    taken: RefCell<BTreeSet<u64>>,
    /// This node has got as far as the others were when it registered; or there are no others.
    abreast: Cell<bool>,
    /// That was not known before, and what follows from it is still to be done.
    abreast_now: Cell<bool>,
}

impl ViewQueue {
    pub fn push(&self, version: u64, records: Arc<Vec<Record>>) {
        self.arrived.borrow_mut().push_back((version, records));
        self.more.notify_one();
    }

    pub fn recovered(&self, logs: impl IntoIterator<Item = RecoveredLog>) {
        let logs = logs.into_iter().map(|log| (log.log.id(), log));
        self.recovered.borrow_mut().extend(logs);
    }

    /// Puts back a log that could not be dropped.
    fn keep(&self, log: Log) {
        let (applied, state) = (log.commit(), Bytes::new());
        let kept = RecoveredLog {
            log,
            applied,
            state,
        };
        self.recovered([kept]);
    }

    /// Looks at a log that is here until its replica is.
    fn with<R>(&self, id: PartitionId, look: impl FnOnce(&mut Log) -> R) -> R {
        let mut recovered = self.recovered.borrow_mut();
        let found = recovered.get_mut(&id);
        look(&mut found.expect("a log stays until its replica is there").log)
    }
}

/// How this node's replica of a partition is set up. `founders` are the identities that its group was founded with:
/// who is not among them has no say until the group's log says so.
pub fn replica_config(shard: &Shard, id: PartitionId, founders: &[u64]) -> ReplicaConfig {
    let own = shard.settings.replica_id();
    let founders = founders.iter().filter_map(|id| ReplicaId::from_u64(*id));
    let founders: Vec<ReplicaId> = founders.collect();
    let bootstrap = match founders.is_empty() {
        true => Members::of_voters([own]),
        false => Members::of_voters(founders),
    };
    let seed = id.topic as u64 ^ (id.topic >> 64) as u64 ^ u64::from(id.partition);
    let timing = &shard.settings.raft;
    ReplicaConfig {
        heartbeat_ticks: timing.heartbeat_ticks,
        election_ticks: timing.election_ticks,
        mutation: shard.settings.mutations.raft,
        ..ReplicaConfig::new(own, bootstrap, seed)
    }
}

/// What the checkpoint kept of a log.
pub struct Found {
    /// The state stands for the entries up to here.
    pub applied: u64,
    pub state: Bytes,
    /// The newest configuration that the group has recorded up to there.
    pub recorded: Option<Configuration>,
}

impl Found {
    fn of(found: &RecoveredLog) -> Found {
        match kept::decode(found.state.clone()) {
            Some((recorded, state)) => Found {
                applied: found.applied,
                state,
                recorded: Some(recorded),
            },
            // Never in a checkpoint, or one that cannot be read: all comes from the log.
            None => Found {
                applied: 0,
                state: Bytes::new(),
                recorded: None,
            },
        }
    }
}

/// A log before it has its replica.
pub struct FoundLog {
    pub commit: u64,
    pub first_index: u64,
    pub last_index: u64,
    pub start_offset: i64,
    pub size_bytes: u64,
}

/// A partition about to be opened.
struct Wanted {
    id: PartitionId,
    name: Rc<str>,
    config: Rc<TopicConfig>,
    offsets: bool,
    /// See [`crate::cluster::Topic::founders`].
    founders: Vec<u64>,
    /// This node's replica is the preferred leader.
    preferred: bool,
}

impl Shard {
    /// Hands over what recovery found.
    pub fn recovered(&self, logs: impl IntoIterator<Item = RecoveredLog>) {
        self.views.recovered(logs);
    }

    /// What recovery found of a partition, or a new log for it. The log itself stays in the queue until it has a
    /// replica: a checkpoint that is written meanwhile must not forget it.
    pub fn find(&self, id: PartitionId) -> Found {
        let mut recovered = self.views.recovered.borrow_mut();
        let found = recovered.entry(id).or_insert_with(|| RecoveredLog {
            log: self.owned.borrow_mut().journal.create_log(id),
            applied: 0,
            state: Bytes::new(),
        });
        Found::of(found)
    }

    /// Adds the logs that have no replica, as they were found: a checkpoint must not forget them.
    pub fn add_unopened(&self, checkpoint: &mut storage::Checkpoint) {
        let owned = self.owned.borrow();
        for (id, found) in self.views.recovered.borrow().iter() {
            if !checkpoint.contains(*id) {
                checkpoint.add(&owned.journal, &found.log, found.applied, &found.state);
            }
        }
    }

    /// Looks at a log, whether it has a replica or not.
    pub(super) fn with_log<R>(
        &self,
        id: PartitionId,
        look: impl FnOnce(&mut Journal, &mut Log) -> R,
    ) -> Option<R> {
        let mut owned = self.owned.borrow_mut();
        let Owned {
            journal, replicas, ..
        } = &mut *owned;
        let mut recovered = self.views.recovered.borrow_mut();
        let log = match replicas.log_mut(id) {
            Some(log) => log,
            None => &mut recovered.get_mut(&id)?.log,
        };
        Some(look(journal, log))
    }

    /// Frees memory and journal of all logs. One that has no replica, and may never get one, must not hold the
    /// journal either.
    pub(super) fn sweep(&self) -> Swept {
        let mut owned = self.owned.borrow_mut();
        let Owned {
            journal, replicas, ..
        } = &mut *owned;
        let mut recovered = self.views.recovered.borrow_mut();
        let unopened = recovered.values_mut().map(|found| &mut found.log);
        journal.sweep(replicas.logs_mut().chain(unopened))
    }

    /// Configures a log that has no replica yet, and looks at it.
    pub fn configure_found(&self, id: PartitionId, config: LogConfig) -> FoundLog {
        self.views.with(id, |log| {
            log.configure(config);
            FoundLog {
                commit: log.commit(),
                first_index: log.first_index(),
                last_index: log.last_index(),
                start_offset: log.log_start_offset(),
                size_bytes: log.size_bytes(),
            }
        })
    }

    /// This node knows what the cluster knew when it registered, or is alone.
    pub fn set_abreast(&self) {
        if !self.views.abreast.replace(true) {
            self.views.abreast_now.set(true);
            self.views.more.notify_one();
        }
    }

    /// Whether what the metadata here says of replicas that come and go may be acted on.
    pub(super) fn is_abreast(&self) -> bool {
        self.views.abreast.get()
    }

    /// Everything that this core has a log of, with a replica or without.
    pub(super) fn held(&self) -> BTreeSet<PartitionId> {
        let mut held: BTreeSet<PartitionId> =
            self.views.recovered.borrow().keys().copied().collect();
        held.extend(self.owned.borrow().partitions.keys());
        held
    }

    /// Takes views in for as long as the core runs.
    pub async fn follow_metadata(self: Rc<Shard>) {
        loop {
            if self.views.abreast_now.take() {
                self.catch_up_with_moves().await;
            }
            let next = self.views.arrived.borrow_mut().pop_front();
            match next {
                Some((version, records)) => self.take_in(version, &records).await,
                None => self.views.more.wait().await,
            }
        }
    }

    async fn take_in(self: &Rc<Shard>, version: u64, records: &[Record]) {
        self.tell_recoveries(records);
        let changes = self.view.borrow_mut().apply(version, records);
        if !self.is_abreast() {
            // This is news to this node only: nobody may be about to serve it, and that is to be seen.
            self.view.borrow_mut().show_all();
        }
        for change in changes {
            match change {
                Change::Replaced => {
                    self.all_nodes_changed();
                    self.take_in_all(version).await;
                    if self.is_abreast() {
                        self.catch_up_with_moves().await;
                    }
                }
                Change::TopicCreated { id } => self.open_topic(id, 0, version).await,
                Change::PartitionsAdded { id, first } => self.open_topic(id, first, version).await,
                Change::TopicDeleted {
                    id,
                    name,
                    partitions,
                } => {
                    self.on_topic_deleted(id, name, partitions);
                }
                Change::ReplicasChanged { id, partition } => {
                    self.replicas_changed(id, partition, version).await;
                }
                Change::ConfigChanged { resource } => self.reconfigure(&resource),
                Change::NodeChanged { node } => self.node_changed(node),
            }
        }
        self.views.taken.borrow_mut().insert(version);
        self.wake_turn();
    }

    /// The first view of a start: opens everything that this core owns.
    async fn take_in_all(self: &Rc<Shard>, version: u64) {
        let (ids, deleted): (Vec<Uuid>, Vec<(Uuid, u32)>) = {
            let view = self.view.borrow();
            let deleted = view
                .cluster
                .deleted()
                .iter()
                .map(|(id, deleted)| (*id, deleted.partitions))
                .collect();
            (
                view.cluster.topics().map(|topic| topic.id).collect(),
                deleted,
            )
        };
        for id in ids {
            self.open_topic(id, 0, version).await;
        }
        for (id, partitions) in deleted {
            self.purge(id, partitions);
        }
        let recovered = self.views.recovered.borrow();
        let view = self.view.borrow();
        let known = |id: &PartitionId| {
            let topic = Uuid::from_u128(id.topic);
            view.cluster.topic_by_id(topic).is_some()
        };
        for (id, orphan) in recovered.iter().filter(|(id, _)| !known(id)) {
            tracing::warn!(
                topic = %Uuid::from_u128(id.topic),
                partition = id.partition,
                bytes = orphan.log.size_bytes(),
                "data of a topic that the metadata does not know: kept, not served"
            );
        }
    }

    async fn open_topic(self: &Rc<Shard>, topic: Uuid, first: u32, version: u64) {
        self.open_partitions(topic, first..u32::MAX, version).await;
    }

    /// Opens those of a topic's partitions that are not open.
    pub(super) async fn open_partitions(
        self: &Rc<Shard>,
        topic: Uuid,
        which: Range<u32>,
        version: u64,
    ) {
        for (n, wanted) in self.wanted(topic, which).into_iter().enumerate() {
            self.open(wanted, version).await;
            if n % OPEN_PER_PASS == OPEN_PER_PASS - 1 {
                self.wake_turn();
                self.core.yield_now().await;
            }
        }
    }

    /// Those of a topic's partitions that have a replica on this node, and that this core owns.
    fn wanted(&self, topic: Uuid, which: Range<u32>) -> Vec<Wanted> {
        let view = self.view.borrow();
        let Some(found) = view.cluster.topic_by_id(topic) else {
            return Vec::new();
        };
        let name: Rc<str> = found.name.as_str().into();
        let config = view.topic_config(topic);
        let offsets = found.name == OFFSETS_TOPIC;
        let node = self.settings.node_id;
        (which.start..which.end.min(found.partitions.len() as u32))
            .filter(|index| found.partitions[*index as usize].contains(&node))
            .map(|index| (index, partition_id(topic, index)))
            .filter(|(_, id)| self.owner(*id) == self.core.id())
            .map(|(index, id)| Wanted {
                id,
                name: name.clone(),
                config: config.clone(),
                offsets,
                founders: found
                    .founders
                    .get(index as usize)
                    .cloned()
                    .unwrap_or_default(),
                preferred: found.partitions[index as usize].first() == Some(&node),
            })
            .collect()
    }

    async fn open(self: &Rc<Shard>, wanted: Wanted, version: u64) {
        let id = wanted.id;
        if self.owned.borrow().partitions.contains_key(&id) {
            return;
        }
        let is_new = !self.views.recovered.borrow().contains_key(&id);
        // What this node is told of it may be old, and the replica given up since: see [`super::moves`].
        if is_new && !self.is_abreast() {
            return;
        }
        // A replica that was given up here comes back.
        let is_dropping = self.owned.borrow().journal.is_dropping(id);
        if is_dropping && !self.removed(&BTreeSet::from([id])).await {
            return self.fence(id, "files of its former replica could not be removed");
        }
        let mut found = self.find(id);
        let log = self.configure_found(id, log_config(&wanted.config));
        let mut coordinator = wanted
            .offsets
            .then(|| Coordinator::new(group_settings(self.view.borrow().broker())));
        let mut producers = Producers::default();
        let restored = match &mut coordinator {
            Some(coordinator) if !found.state.is_empty() => {
                groups_host::replay(coordinator, &found.state)
            }
            Some(_) => Ok(()),
            None => Producers::restore(&found.state)
                .map(|restored| producers = restored)
                .map_err(|error| error.to_string()),
        };
        if self.settings.mutations.forget_retries {
            producers.forget_retries();
        }
        // A state that this build cannot read is rebuilt from the log, which is the truth.
        if restored.is_err() {
            found.applied = 0;
        }
        let mut partition = Partition::new(id, wanted.name, wanted.config, producers);
        partition.ack_uncommitted = self.settings.mutations.ack_uncommitted;
        partition.stands_at(log.last_index);
        partition.checkpointed(found.applied);
        let wall_ms = self.core.wall_ms();
        // Producers follow the log, coordinators what is committed: see `Owned::commit` for the rest.
        let to = match &coordinator {
            Some(_) => log.commit,
            None => log.last_index,
        };
        let replayed = self
            .replay(id, &mut found, to, |entry| {
                match &mut coordinator {
                    // From before the log was begun anew.
                    Some(_) if entry.base_offset < log.start_offset => {}
                    Some(coordinator) => groups_host::replay(coordinator, &entry.data)?,
                    None => partition.replay(&entry.data, entry.base_offset, entry.index, wall_ms),
                }
                Ok(())
            })
            .await;
        if let Err(reason) = replayed {
            // Nothing is written down of it: what could not be read now may be at the next start.
            return self.fence(id, &reason);
        }
        let Some(mut replica) = self.replica(id, found.recorded, &wanted.founders) else {
            return;
        };
        replica.pace(partition.config.throttles());
        let own = self.settings.replica_id().as_u64();
        let is_founder = wanted.founders.contains(&own);
        let mut owned = self.owned.borrow_mut();
        if let Some(coordinator) = coordinator {
            owned.groups.host(id, coordinator, log.size_bytes);
        }
        if wanted.preferred && log.last_index == 0 && is_founder {
            owned.lead_first(id);
        }
        owned.open(partition, replica, version);
        // Its recovery may have been decided before the start.
        owned.unsettled.insert(id);
    }

    /// Makes a replica of a log that is fit for one. Another one is kept as it is, and what it holds with it; its
    /// partition answers KAFKA_STORAGE_ERROR.
    pub fn replica(
        &self,
        id: PartitionId,
        recorded: Option<Configuration>,
        founders: &[u64],
    ) -> Option<Replica> {
        let reason = self.views.with(id, |log| match log.condition() {
            Condition::Healthy => None,
            Condition::Rebuilt => {
                Some("its log was rebuilt from segments, and how it voted is not known".to_owned())
            }
            Condition::Fenced(reason) => Some(reason.clone()),
        });
        if let Some(reason) = reason {
            self.fence(id, &reason);
            return None;
        }
        let found = self.views.recovered.borrow_mut().remove(&id);
        let RecoveredLog {
            log,
            applied,
            state,
        } = found.expect("just looked at");
        let commit = log.commit();
        match Replica::open(log, &replica_config(self, id, founders), recorded, commit) {
            Ok(replica) => Some(replica),
            Err(unopened) => {
                self.fence(id, &unopened.to_string());
                let kept = unopened.log.map(|log| RecoveredLog {
                    log: *log,
                    applied,
                    state,
                });
                self.views.recovered(kept);
                None
            }
        }
    }

    fn fence(&self, id: PartitionId, reason: &str) {
        tracing::error!(
            topic = %Uuid::from_u128(id.topic),
            partition = id.partition,
            reason,
            "partition fenced: it is not served until its log is repaired; the others go on"
        );
        self.owned.borrow_mut().fenced.insert(id);
    }

    /// Feeds the batches and commands of a log that has no replica yet, above what its checkpoint kept and up to `to`,
    /// to `take`, from memory or from disk.
    pub async fn replay(
        &self,
        id: PartitionId,
        found: &mut Found,
        to: u64,
        mut take: impl FnMut(&Entry) -> Result<(), String>,
    ) -> Result<(), String> {
        let (first, commit) = self.views.with(id, |log| (log.first_index(), log.commit()));
        let mut next = (found.applied + 1).max(first);
        while next <= to {
            let plan = self
                .views
                .with(id, |log| log.plan_entries(next, to + 1, REPLAY_BYTES));
            let entries = match plan {
                storage::EntriesPlan::Memory(entries) => entries,
                storage::EntriesPlan::Disk(job) => {
                    job.run(self.core.disk()).await.map_err(|error| {
                        format!("entries from {next} on cannot be read for the replay: {error}")
                    })?
                }
                storage::EntriesPlan::Compacted => {
                    next = first;
                    continue;
                }
            };
            let Some(last) = entries.last() else {
                return Err(format!(
                    "the log ends before index {next}, but goes to {to}"
                ));
            };
            next = last.index + 1;
            for entry in &entries {
                match entry.kind {
                    EntryKind::Batch | EntryKind::Command => take(entry)?,
                    EntryKind::Membership if entry.index <= commit => {
                        let membership = Membership::decode(&entry.data)
                            .map_err(|error| format!("entry {}: {error}", entry.index))?;
                        let members = membership.members;
                        found.recorded = Some(Configuration {
                            index: entry.index,
                            members,
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn on_topic_deleted(self: &Rc<Shard>, id: Uuid, name: String, partitions: u32) {
        let (now, wall_ms) = (self.core.now(), self.core.wall_ms());
        {
            let mut owned = self.owned.borrow_mut();
            owned.topic_deleted(id);
            owned.forget_offsets_of(&[(name, id.as_u128())], now, wall_ms);
        }
        self.purge(id, partitions);
    }

    /// Removes what this core holds of a deleted topic, then says so.
    fn purge(self: &Rc<Shard>, topic: Uuid, partitions: u32) {
        let ids: BTreeSet<PartitionId> = (0..partitions).map(|n| partition_id(topic, n)).collect();
        self.drop_logs(ids.iter().copied());
        let shard = self.clone();
        self.core.spawn("purge", async move {
            if shard.removed(&ids).await {
                shard.post.send(METADATA_CORE, Mail::Purged { topic });
            }
        });
    }

    /// Drops the logs that this core has of these partitions; the files go later, see [`Shard::removed`].
    pub(super) fn drop_logs(&self, ids: impl Iterator<Item = PartitionId>) {
        let mut owned = self.owned.borrow_mut();
        for id in ids {
            owned.fenced.remove(&id);
            let log = match owned.close(id, self.core.now(), self.core.wall_ms()) {
                Some(replica) => Some(replica.into_log()),
                None => {
                    let mut recovered = self.views.recovered.borrow_mut();
                    recovered.remove(&id).map(|found| found.log)
                }
            };
            let Some(log) = log else { continue };
            if let Err((log, error)) = owned.journal.stage_drop(log) {
                tracing::warn!(%error, "a dropped partition keeps its files until the next start");
                self.views.keep(log);
            }
        }
        drop(owned);
        self.wake_turn();
    }

    /// Removes the files of dropped partitions, once their markers are on stable storage. False if some are left.
    pub(super) async fn removed(&self, ids: &BTreeSet<PartitionId>) -> bool {
        let turn = self.owned.borrow().journal.last_turn();
        self.durable(turn).await;
        loop {
            let job = self.owned.borrow_mut().journal.begin_drop();
            if let Some(job) = job {
                let done = job.run(self.core.disk()).await;
                if let Err(error) = self.owned.borrow_mut().journal.finish_drop(done) {
                    tracing::warn!(%error, "files of a dropped partition stay until the next start");
                    return false;
                }
                continue;
            }
            // A drain or another purge may still be at work on one of them.
            let busy = |id: &PartitionId| self.owned.borrow().journal.is_dropping(*id);
            if !ids.iter().any(busy) {
                return true;
            }
            self.core.sleep(PURGE_RETRY).await;
        }
    }

    /// Applies a changed config to what this core owns.
    fn reconfigure(&self, resource: &Resource) {
        let view = self.view.borrow();
        let mut owned = self.owned.borrow_mut();
        let topics: Vec<Uuid> = match resource {
            Resource::Topic(name) => view
                .cluster
                .topic(name)
                .map(|topic| topic.id)
                .into_iter()
                .collect(),
            Resource::Broker(_) | Resource::BrokerDefault => {
                // Who leaves has no vote on the metadata.
                owned.unsettle_all();
                view.cluster.topics().map(|topic| topic.id).collect()
            }
            Resource::Group(_) => return,
        };
        for topic in topics {
            configure_topic(&view, &mut owned, topic);
        }
    }

    /// Tells the metadata's owner which views this core has taken in and serves.
    pub(super) fn acknowledge_views(&self) {
        let mut taken = self.views.taken.borrow_mut();
        if taken.is_empty() {
            return;
        }
        let owned = self.owned.borrow();
        taken.retain(|version| {
            if owned.still_opening(*version) > 0 {
                return true;
            }
            self.post
                .send(METADATA_CORE, Mail::ViewApplied { version: *version });
            false
        });
    }
}

fn configure_topic(view: &View, owned: &mut super::owned::Owned, topic: Uuid) {
    let Some(found) = view.cluster.topic_by_id(topic) else {
        return;
    };
    let config = view.topic_config(topic);
    for partition in 0..found.partitions.len() as u32 {
        let id = partition_id(topic, partition);
        if let Some(partition) = owned.partitions.get_mut(&id) {
            partition.config = config.clone();
            if let Some(log) = owned.replicas.log_mut(id) {
                log.configure(log_config(&config));
            }
            let paced = config.throttles();
            let replica = owned.replicas.get(id);
            if replica.is_some_and(|replica| replica.is_paced() != paced) {
                let replica = owned.replicas.get_mut(id).expect("looked up above");
                replica.pace(paced);
            }
        }
    }
}

/// The coordinators' knobs.
fn group_settings(broker: &BrokerConfig) -> groups::Settings {
    let minute_ms = 60_000;
    groups::Settings {
        initial_rebalance_delay_ms: broker.group_initial_rebalance_delay_ms.min(i32::MAX as u64)
            as i32,
        min_session_timeout_ms: broker.group_min_session_timeout_ms,
        max_session_timeout_ms: broker.group_max_session_timeout_ms,
        max_size: broker.group_max_size,
        max_groups: broker.groups_max,
        offset_metadata_max_bytes: broker.offset_metadata_max_bytes,
        offsets_retention_ms: broker
            .offsets_retention_minutes
            .saturating_mul(minute_ms)
            .min(i64::MAX as u64) as i64,
        ..groups::Settings::default()
    }
}

/// What the log itself needs of a topic's config.
fn log_config(config: &TopicConfig) -> LogConfig {
    let signed = |limit: Option<u64>| limit.map_or(-1, |limit| limit.min(i64::MAX as u64) as i64);
    LogConfig {
        segment_bytes: u64::from(config.segment_bytes),
        segment_ms: config.segment_ms.min(i64::MAX as u64) as i64,
        segment_jitter_ms: config.segment_jitter_ms.min(i64::MAX as u64) as i64,
        index_interval_bytes: config.index_interval_bytes,
        segment_index_bytes: config.segment_index_bytes,
        retention_bytes: signed(config.retention_bytes),
        retention_ms: signed(config.retention_ms),
    }
}
