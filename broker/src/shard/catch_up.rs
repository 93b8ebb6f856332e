//! Brings followers up that need more than a leader has in memory: entries from segments, or a state to start from.
//!
//! Reads for followers run beside the hot path, a few at a time, and each is followed by a rest as long as the read
//! took: live traffic has the disk at least half of the time. Reads that are throttled ([`super::throttle`]) wait
//! before that, and keep nobody else from reading.

use super::Shard;
use super::groups_host;
use super::kept;
use super::owned::Owned;
use super::throttle::THROTTLED_READ_BYTES;
use crate::cluster::{Image, METADATA};
use crate::groups::Coordinator;
use crate::partition::Producers;
use bytes::Bytes;
use raft_group::CatchUp;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use storage::{Entry, PartitionId};

/// Reads under way at once.
const READS_MAX: usize = 4;

/// Reads that wait for their turn.
#[derive(Default)]
pub struct CatchUps {
    /// With the payload that they may bring at most.
    waiting: RefCell<VecDeque<(PartitionId, CatchUp, u64)>>,
    running: Cell<usize>,
}

impl Shard {
    /// Starts the reads that followers need, as far as there is room for them.
    pub(super) fn start_reads(self: &Rc<Shard>) {
        let wanted = std::mem::take(&mut self.owned.borrow_mut().reads);
        for (id, read) in wanted {
            match self.is_throttled(id, read.to) {
                (false, false) => self.queue_read(id, read, read.bytes_max),
                _ => self.queue_read_later(id, read),
            }
        }
        while self.catch_ups.running.get() < READS_MAX {
            let next = self.catch_ups.waiting.borrow_mut().pop_front();
            let Some((id, read, bytes_max)) = next else {
                return;
            };
            self.catch_ups.running.set(self.catch_ups.running.get() + 1);
            let shard = self.clone();
            self.core.spawn("catch-up", async move {
                let began = shard.core.now();
                let entries = shard.read_for_follower(id, &read, bytes_max).await;
                {
                    let mut owned = shard.owned.borrow_mut();
                    let bytes = entries.iter().map(|entry| entry.data.len() as u64);
                    owned.counters.catch_up_reads += 1;
                    owned.counters.catch_up_bytes += bytes.sum::<u64>();
                    owned.replicas.fetched(id, &read, entries);
                }
                shard.wake_turn();
                shard.core.sleep(shard.core.now() - began).await;
                shard
                    .catch_ups
                    .running
                    .set(shard.catch_ups.running.get() - 1);
                shard.start_reads();
            });
        }
    }

    fn queue_read(&self, id: PartitionId, read: CatchUp, bytes_max: u64) {
        let mut waiting = self.catch_ups.waiting.borrow_mut();
        waiting.push_back((id, read, bytes_max));
    }

    /// Queues a read when there is room for it. As with all reads there is one for each follower.
    fn queue_read_later(self: &Rc<Shard>, id: PartitionId, read: CatchUp) {
        let shard = self.clone();
        self.core.spawn("throttled catch-up", async move {
            if shard.await_room(id, &read).await {
                shard.queue_read(id, read, read.bytes_max.min(THROTTLED_READ_BYTES));
                shard.start_reads();
                return;
            }
            // It is not led here any more.
            let mut owned = shard.owned.borrow_mut();
            owned.replicas.fetched(id, &read, Vec::new());
        });
    }

    /// Nothing if they cannot be read: the follower is served by another read, or a snapshot.
    async fn read_for_follower(
        &self,
        id: PartitionId,
        read: &CatchUp,
        bytes_max: u64,
    ) -> Vec<Entry> {
        let plan = {
            let mut owned = self.owned.borrow_mut();
            let Some(log) = owned.replicas.log_mut(id) else {
                return Vec::new();
            };
            log.plan_entries(read.low, read.high, bytes_max)
        };
        match plan {
            storage::EntriesPlan::Memory(entries) => entries,
            storage::EntriesPlan::Disk(job) => match job.run(self.core.disk()).await {
                Ok(entries) => entries,
                Err(error) => {
                    self.read_failed(id, &error);
                    Vec::new()
                }
            },
            storage::EntriesPlan::Compacted => Vec::new(),
        }
    }
}

impl Owned {
    /// A follower needs entries that are gone: it gets the state instead, and goes on from there.
    pub(super) fn offer_snapshot(&mut self, id: PartitionId, wall_ms: i64) {
        let Some((applied, state)) = self.state_of(id, wall_ms) else {
            return;
        };
        let Some(replica) = self.replicas.get_mut(id) else {
            return;
        };
        let bytes = state.len() as u64;
        match replica.offer_snapshot(state, applied) {
            Ok(()) => {
                self.counters.catch_up_snapshots += 1;
                self.counters.catch_up_bytes += bytes;
            }
            Err(error) => {
                tracing::warn!(%error, partition = ?id, "a follower cannot be given a state to start from");
            }
        }
    }

    /// This replica's log was replaced by an empty one, and this is the state that stands for what was before.
    pub(super) fn take_snapshot(&mut self, id: PartitionId, applied: u64, state: Bytes) {
        let Err(reason) = self.try_take_snapshot(id, applied, state) else {
            return;
        };
        if let Some(replica) = self.replicas.get_mut(id) {
            replica.fence(format!(
                "the state from the leader cannot be read: {reason}"
            ));
        }
    }

    fn try_take_snapshot(
        &mut self,
        id: PartitionId,
        applied: u64,
        state: Bytes,
    ) -> Result<(), String> {
        let (_, state) = kept::decode(state).ok_or("it is of another release")?;
        if id == METADATA {
            let image: Image = match state.is_empty() {
                true => Image::default(),
                false => serde_json::from_slice(&state).map_err(|error| error.to_string())?,
            };
            self.metadata_replaced(image, applied);
            return Ok(());
        }
        if let Some(settings) = self.groups.settings_of(id) {
            let mut coordinator = Coordinator::new(settings);
            if !state.is_empty() {
                groups_host::replay(&mut coordinator, &state)?;
            }
            self.groups.replace(id, coordinator);
        }
        let is_coordinator = self.groups.coordinator(id).is_some();
        let Some(partition) = self.partitions.get_mut(&id) else {
            return Ok(());
        };
        let producers = match is_coordinator {
            true => Producers::default(),
            false => Producers::restore(&state).map_err(|error| error.to_string())?,
        };
        partition.installed(producers, applied);
        self.watches.touch(&partition.watches);
        Ok(())
    }
}
