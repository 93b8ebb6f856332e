//! Follows the metadata: opens the partitions that it brings to this core, drops those that it deletes.
//!
//! Views are taken in one after another, in order. Data goes only by a committed delete that names the topic's
//! id: a recovered log whose topic nobody knows is kept, told about, and not served.

use super::Shard;
use super::mail::Mail;
use super::view::View;
use super::{groups_host, kept};
use crate::cluster::{Change, METADATA_CORE, OFFSETS_TOPIC, Record, Resource, partition_id};
use crate::config::{BrokerConfig, TopicConfig};
use crate::groups::{self, Coordinator};
use crate::partition::{Partition, Producers};
use bytes::Bytes;
use raft_group::{Configuration, Members, Membership, Replica, ReplicaConfig, ReplicaId};
use runtime::Notify;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use storage::{Condition, Entry, EntryKind, LogConfig, PartitionId, RecoveredLog};
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
    fn keep(&self, log: storage::Log) {
        let (applied, state) = (log.commit(), Bytes::new());
        self.recovered.borrow_mut().insert(
            log.id(),
            RecoveredLog {
                log,
                applied,
                state,
            },
        );
    }

    /// Logs that were recovered and are not opened, as they were: a checkpoint must not forget them.
    pub fn add_unopened(&self, journal: &storage::Journal, checkpoint: &mut storage::Checkpoint) {
        for found in self.recovered.borrow().values() {
            checkpoint.add(journal, &found.log, found.applied, &found.state);
        }
    }
}

/// The replica configuration of every partition of a node with one disk incarnation.
pub fn replica_config(shard: &Shard, id: PartitionId) -> ReplicaConfig {
    let replica = ReplicaId::new(shard.settings.node_id, shard.settings.incarnation)
        .expect("node ids and incarnations are checked at start-up");
    let seed = id.topic as u64 ^ (id.topic >> 64) as u64 ^ u64::from(id.partition);
    ReplicaConfig::new(replica, Members::of_voters([replica]), seed)
}

/// A log as it was found, with what its checkpoint kept.
pub struct Found {
    pub log: storage::Log,
    /// The state stands for the entries up to here.
    pub applied: u64,
    pub state: Bytes,
    /// The newest configuration that the group has recorded up to there.
    pub recorded: Option<Configuration>,
}

impl Found {
    /// A log that has just been created.
    pub fn fresh(log: storage::Log) -> Found {
        Found {
            log,
            applied: 0,
            state: Bytes::new(),
            recorded: None,
        }
    }

    /// A log that was recovered.
    pub fn of(found: RecoveredLog) -> Found {
        match kept::decode(found.state) {
            Some((recorded, state)) => Found {
                log: found.log,
                applied: found.applied,
                state,
                recorded: Some(recorded),
            },
            // Never in a checkpoint, or one that cannot be read: all comes from the log.
            None => {
                let applied = found.log.first_index().saturating_sub(1);
                Found {
                    log: found.log,
                    applied,
                    state: Bytes::new(),
                    recorded: None,
                }
            }
        }
    }
}

/// A partition about to be opened.
struct Wanted {
    id: PartitionId,
    name: Rc<str>,
    config: Rc<TopicConfig>,
    offsets: bool,
}

impl Shard {
    /// Hands over what recovery found.
    pub fn recovered(&self, logs: impl IntoIterator<Item = RecoveredLog>) {
        self.views.recovered(logs);
    }

    /// Takes out what recovery found of one partition.
    pub fn take_recovered(&self, id: PartitionId) -> Option<RecoveredLog> {
        self.views.recovered.borrow_mut().remove(&id)
    }

    /// Takes views in for as long as the core runs.
    pub async fn follow_metadata(self: Rc<Shard>) {
        loop {
            let next = self.views.arrived.borrow_mut().pop_front();
            match next {
                Some((version, records)) => self.take_in(version, &records).await,
                None => self.views.more.wait().await,
            }
        }
    }

    async fn take_in(self: &Rc<Shard>, version: u64, records: &[Record]) {
        let changes = self.view.borrow_mut().apply(version, records);
        for change in changes {
            match change {
                Change::Replaced => self.take_in_all(version).await,
                Change::TopicCreated { id } => self.open_topic(id, 0, version).await,
                Change::PartitionsAdded { id, first } => self.open_topic(id, first, version).await,
                Change::TopicDeleted {
                    id,
                    name,
                    partitions,
                } => {
                    self.on_topic_deleted(id, name, partitions);
                }
                Change::ConfigChanged { resource } => self.reconfigure(&resource),
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
                .map(|(id, count)| (*id, *count))
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
        for (id, orphan) in self.views.recovered.borrow().iter() {
            tracing::warn!(
                topic = %Uuid::from_u128(id.topic),
                partition = id.partition,
                bytes = orphan.log.size_bytes(),
                "data of a topic that the metadata does not know: kept, not served"
            );
        }
    }

    async fn open_topic(self: &Rc<Shard>, topic: Uuid, first: u32, version: u64) {
        for (n, wanted) in self.wanted(topic, first).into_iter().enumerate() {
            self.open(wanted, version).await;
            if n % OPEN_PER_PASS == OPEN_PER_PASS - 1 {
                self.wake_turn();
                self.core.yield_now().await;
            }
        }
    }

    /// The partitions of a topic, from `first` on, that this core owns.
    fn wanted(&self, topic: Uuid, first: u32) -> Vec<Wanted> {
        let view = self.view.borrow();
        let Some(found) = view.cluster.topic_by_id(topic) else {
            return Vec::new();
        };
        let name: Rc<str> = found.name.as_str().into();
        let config = view.topic_config(topic);
        let offsets = found.name == OFFSETS_TOPIC;
        (first..found.partitions.len() as u32)
            .map(|partition| partition_id(topic, partition))
            .filter(|id| self.owner(*id) == self.core.id())
            .map(|id| Wanted {
                id,
                name: name.clone(),
                config: config.clone(),
                offsets,
            })
            .collect()
    }

    async fn open(self: &Rc<Shard>, wanted: Wanted, version: u64) {
        let id = wanted.id;
        if self.owned.borrow().partitions.contains_key(&id) {
            return;
        }
        let mut found = match self.take_recovered(id) {
            Some(found) => Found::of(found),
            None => Found::fresh(self.owned.borrow_mut().journal.create_log(id)),
        };
        found.log.configure(log_config(&wanted.config));
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
        if self.settings.forget_retries {
            producers.forget_retries();
        }
        // A state that this build cannot read is rebuilt from the log, which is the truth.
        if restored.is_err() {
            found.applied = found.log.first_index().saturating_sub(1);
        }
        let mut partition = Partition::new(id, wanted.name, wanted.config, producers);
        partition.inherited = found.log.last_index();
        let wall_ms = self.core.wall_ms();
        // Producers follow the log, coordinators what is committed: see `Owned::commit` for the rest.
        let to = if coordinator.is_some() {
            found.log.commit()
        } else {
            found.log.last_index()
        };
        let log_start = found.log.log_start_offset();
        let replayed = self
            .replay(&mut found, to, |entry| {
                match &mut coordinator {
                    // From before the log was begun anew.
                    Some(_) if entry.base_offset < log_start => {}
                    Some(coordinator) => groups_host::replay(coordinator, &entry.data)?,
                    None => partition.replay(&entry.data, entry.base_offset, entry.index, wall_ms),
                }
                Ok(())
            })
            .await;
        if let Err(reason) = replayed {
            found.log.fence(reason);
        }
        let Some(replica) = self.replica(id, found) else {
            return;
        };
        let mut owned = self.owned.borrow_mut();
        if let Some(coordinator) = coordinator {
            let bytes = replica.log().size_bytes();
            owned.groups.host(id, coordinator, bytes);
        }
        owned.open(partition, replica, version);
    }

    /// Makes a replica of a log that is fit for one. Another one is kept as it is, and what it holds with it; its
    /// partition answers KAFKA_STORAGE_ERROR.
    pub fn replica(&self, id: PartitionId, found: Found) -> Option<Replica> {
        let reason = match found.log.condition() {
            Condition::Healthy => None,
            Condition::Rebuilt => {
                Some("its log was rebuilt from segments, and how it voted is not known".to_owned())
            }
            Condition::Fenced(reason) => Some(reason.clone()),
        };
        if let Some(reason) = reason {
            self.fence(id, &reason);
            self.views.keep(found.log);
            return None;
        }
        let commit = found.log.commit();
        match Replica::open(found.log, &replica_config(self, id), found.recorded, commit) {
            Ok(replica) => Some(replica),
            Err(error) => {
                self.fence(id, &error.to_string());
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

    /// Feeds the batches and commands above `from`, up to `to`, to `take`, from memory or from disk.
    pub async fn replay(
        &self,
        found: &mut Found,
        to: u64,
        mut take: impl FnMut(&Entry) -> Result<(), String>,
    ) -> Result<(), String> {
        let Found {
            log,
            applied,
            recorded,
            ..
        } = found;
        let commit = log.commit();
        let mut next = (*applied + 1).max(log.first_index());
        while next <= to {
            let entries = match log.plan_entries(next, to + 1, REPLAY_BYTES) {
                storage::EntriesPlan::Memory(entries) => entries,
                storage::EntriesPlan::Disk(job) => {
                    job.run(self.core.disk()).await.map_err(|error| {
                        format!("entries from {next} on cannot be read for the replay: {error}")
                    })?
                }
                storage::EntriesPlan::Compacted => {
                    next = log.first_index();
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
                        *recorded = Some(Configuration {
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
        {
            let mut owned = self.owned.borrow_mut();
            for partition in 0..partitions {
                let id = partition_id(topic, partition);
                let log = match owned.close(id, self.core.now(), self.core.wall_ms()) {
                    Some(replica) => Some(replica.into_log()),
                    None => self
                        .views
                        .recovered
                        .borrow_mut()
                        .remove(&id)
                        .map(|found| found.log),
                };
                let Some(log) = log else { continue };
                if let Err((log, error)) = owned.journal.stage_drop(log) {
                    tracing::warn!(%error, "a deleted partition keeps its files until the next start");
                    self.views.keep(log);
                }
            }
        }
        self.wake_turn();
        let shard = self.clone();
        self.core.spawn("purge", async move {
            shard.finish_purge(topic, partitions).await
        });
    }

    /// Removes the files of dropped partitions, once their markers are on stable storage.
    async fn finish_purge(&self, topic: Uuid, partitions: u32) {
        let turn = self.owned.borrow().journal.last_turn();
        self.durable(turn).await;
        loop {
            let job = self.owned.borrow_mut().journal.begin_drop();
            if let Some(job) = job {
                let done = job.run(self.core.disk()).await;
                if let Err(error) = self.owned.borrow_mut().journal.finish_drop(done) {
                    tracing::warn!(%error, "files of a deleted partition stay until the next start");
                    return;
                }
                continue;
            }
            // A drain or another purge may still be at work on one of them.
            let busy = (0..partitions).any(|n| {
                self.owned
                    .borrow()
                    .journal
                    .is_dropping(partition_id(topic, n))
            });
            if !busy {
                break;
            }
            self.core.sleep(PURGE_RETRY).await;
        }
        self.post.send(METADATA_CORE, Mail::Purged { topic });
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
