//! The owner's side of what may have to wait: fetches (for data, or for the disk) and offsets by time.

use super::Shard;
use super::mail::*;
use super::owned::{Owned, check_epoch, check_leader};
use super::reading::Reading;
use crate::cluster::METADATA;
use crate::node::StartError;
use bytes::Bytes;
use protocol::compression::Budget as DecodeBudget;
use protocol::error::ErrorCode;
use protocol::records::{self, Batch};
use raft_group::Replica;
use std::rc::Rc;
use storage::{PartitionId, ReadError, TimestampFound, TimestampJob, TimestampPlan};

/// Decompressed bytes that one lookup by time may produce.
const TIMESTAMP_BUDGET_BYTES: usize = 64 << 20;

impl Shard {
    pub(super) fn on_fetch(self: &Rc<Shard>, from: usize, ask: AskId, fetch: Fetch) {
        let mut owned = self.owned.borrow_mut();
        let reading = owned.read(&fetch);
        if reading.suffices(&fetch) || fetch.deadline.is_none_or(|at| at <= self.core.now()) {
            drop(owned);
            self.answer_fetch(from, ask, reading);
        } else {
            owned.watch(from, ask, fetch);
            drop(owned);
            self.note_deadline();
        }
    }

    pub(super) fn on_unwatch(self: &Rc<Shard>, from: usize, ask: AskId) {
        let slot = self.owned.borrow().watches.find(from, ask);
        if let Some(slot) = slot {
            self.finish_watch(slot);
        }
    }

    /// Looks at the watches whose partitions have moved.
    pub(super) fn look_at_watches(self: &Rc<Shard>) {
        let touched = self.owned.borrow_mut().watches.take_touched();
        for slot in touched {
            let mut owned = self.owned.borrow_mut();
            let Some(watch) = owned.watches.get(slot) else {
                continue;
            };
            let fetch = watch.fetch.clone();
            let reading = owned.read(&fetch);
            if reading.suffices(&fetch) {
                let watch = owned.unwatch(slot).expect("looked up above");
                drop(owned);
                self.answer_fetch(watch.from, watch.ask, reading);
            }
        }
    }

    /// Ends a watch with what there is.
    pub(super) fn finish_watch(self: &Rc<Shard>, slot: u32) {
        let mut owned = self.owned.borrow_mut();
        let Some(watch) = owned.unwatch(slot) else {
            return;
        };
        let reading = owned.read(&watch.fetch);
        drop(owned);
        self.answer_fetch(watch.from, watch.ask, reading);
    }

    fn answer_fetch(self: &Rc<Shard>, from: usize, ask: AskId, reading: Reading) {
        if reading.jobs.is_empty() {
            self.post.send(
                from,
                Mail::Answer {
                    ask,
                    answer: Answer::Fetch(reading.fetched),
                },
            );
            return;
        }
        let shard = self.clone();
        self.core.spawn("cold read", async move {
            let Reading {
                mut fetched, jobs, ..
            } = reading;
            // The memory of what is read is lent like that of requests, so cold readers queue up here.
            let bytes = jobs.iter().map(|read| read.bytes).sum();
            let _reservation = shard.budget.reserve(bytes).await;
            for read in jobs {
                let position = read.position;
                match read.job.run(shard.core.disk()).await {
                    Ok(records) => fetched[position].records = records,
                    Err(error) => {
                        shard.read_failed(read.partition, &error);
                        let epoch = fetched[position].leader_epoch;
                        fetched[position] = Fetched::refused(ErrorCode::KAFKA_STORAGE_ERROR, epoch);
                    }
                }
            }
            shard.post.send(
                from,
                Mail::Answer {
                    ask,
                    answer: Answer::Fetch(fetched),
                },
            );
        });
    }

    pub(super) fn on_list_offsets(
        self: &Rc<Shard>,
        from: usize,
        ask: AskId,
        wanted: Vec<ListOffset>,
    ) {
        let mut listed = Vec::with_capacity(wanted.len());
        let mut jobs = Vec::new();
        let unpacked_max = self.view.borrow().broker().max_decompressed_message_bytes;
        {
            let mut owned = self.owned.borrow_mut();
            for wanted in &wanted {
                let (answer, job) = owned.list_offset(wanted, unpacked_max);
                if let Some((timestamp, job)) = job {
                    jobs.push((listed.len(), timestamp, job));
                }
                listed.push(answer);
            }
        }
        if jobs.is_empty() {
            self.post.send(
                from,
                Mail::Answer {
                    ask,
                    answer: Answer::ListOffsets(listed),
                },
            );
            return;
        }
        let shard = self.clone();
        self.core.spawn("offset by time", async move {
            for (position, timestamp, job) in jobs {
                let id = wanted[position].partition;
                match shard.search(id, timestamp, job).await {
                    Ok(batch) => listed[position].found(timestamp, batch.as_ref(), unpacked_max),
                    Err(error) => {
                        shard.read_failed(id, &error);
                        listed[position].error = ErrorCode::KAFKA_STORAGE_ERROR;
                    }
                }
            }
            shard.post.send(
                from,
                Mail::Answer {
                    ask,
                    answer: Answer::ListOffsets(listed),
                },
            );
        });
    }
}

impl Shard {
    /// What a log has on disk could not be read.
    pub(super) fn read_failed(&self, id: PartitionId, error: &ReadError) {
        tracing::warn!(%error, partition = ?id, "what is on disk cannot be read");
        if matches!(error, ReadError::Damaged { .. }) {
            self.damaged(id, error);
        }
    }

    /// Damage does not heal, so a replica that others can do without ends its part in its group, and these serve what
    /// they have of it; any other one serves what is left to it. A node that cannot follow the metadata would tell
    /// clients of what was, for ever: it ends.
    pub(super) fn damaged(&self, id: PartitionId, error: &dyn std::fmt::Display) {
        let mut owned = self.owned.borrow_mut();
        if !owned.others_are_enough(id) {
            return;
        }
        if let Some(replica) = owned.replicas.get_mut(id) {
            replica.fence(error.to_string());
            self.wake_turn();
        }
        drop(owned);
        if id == METADATA {
            let path = self.settings.data.clone();
            let reason = format!(
                "the cluster's metadata in it is damaged ({error}), and the other nodes go on without this one; give it an \
                 empty directory, and it copies everything from them"
            );
            self.fail(StartError::Data { path, reason });
        }
    }

    /// Follows a lookup by time from segment to segment until it finds its batch or the end.
    async fn search(
        &self,
        id: PartitionId,
        timestamp: i64,
        mut job: TimestampJob,
    ) -> Result<Option<Bytes>, storage::ReadError> {
        loop {
            let from = match job.run(self.core.disk()).await? {
                TimestampFound::Batch(batch) => return Ok(Some(batch)),
                TimestampFound::SearchFrom(offset) => offset,
            };
            let mut owned = self.owned.borrow_mut();
            let Some(log) = owned.replicas.log_mut(id) else {
                return Ok(None);
            };
            match log.find_by_timestamp(timestamp, from) {
                TimestampPlan::Memory(batch) => return Ok(batch),
                TimestampPlan::Disk(next) => job = next,
            }
        }
    }
}

impl Owned {
    /// Whether a majority of a group's voters is there without this node's.
    fn others_are_enough(&self, id: PartitionId) -> bool {
        let Some(replica) = self.replicas.get(id) else {
            return false;
        };
        let voters = replica.members().voters();
        let others = voters.iter().filter(|voter| **voter != replica.id());
        let there = others.filter(|voter| self.is_there(voter.node()));
        there.count() > voters.len() / 2
    }

    /// An offset by its description; with a job if the answer lies on disk.
    fn list_offset(
        &mut self,
        wanted: &ListOffset,
        unpacked_max: usize,
    ) -> (ListedOffset, Option<(i64, TimestampJob)>) {
        let mut listed = ListedOffset {
            error: ErrorCode::NONE,
            offset: -1,
            timestamp: -1,
            leader_epoch: -1,
        };
        let Some(replica) = self.replicas.get(wanted.partition) else {
            listed.error = self.absent(wanted.partition);
            return (listed, None);
        };
        let checked = match wanted.debugging {
            true => check_replica(replica, wanted.current_leader_epoch),
            false => check_leader(replica, wanted.current_leader_epoch),
        };
        if let Err(error) = checked {
            // KIP-207: a new leader must not name a smaller end than its predecessor did.
            let opening = error == ErrorCode::NOT_LEADER_OR_FOLLOWER
                && replica.role() == raft_group::Role::Leader
                && wanted.spec == OffsetSpec::Latest;
            listed.error = if opening {
                ErrorCode::OFFSET_NOT_AVAILABLE
            } else {
                error
            };
            return (listed, None);
        }
        let epoch = replica.term() as i32;
        let log = self
            .replicas
            .log_mut(wanted.partition)
            .expect("looked up above");
        let end = match wanted.debugging {
            true => log.next_offset(),
            false => log.high_watermark(),
        };
        match wanted.spec {
            OffsetSpec::Earliest => {
                listed.offset = log.log_start_offset();
                listed.leader_epoch = epoch;
            }
            OffsetSpec::Latest => {
                listed.offset = end;
                listed.leader_epoch = epoch;
            }
            OffsetSpec::MaxTimestamp => {
                let Some((timestamp, _)) = log.max_timestamp() else {
                    return (listed, None);
                };
                listed.leader_epoch = epoch;
                let from = log.log_start_offset();
                return listed.by_plan(
                    timestamp,
                    log.find_by_timestamp(timestamp, from),
                    unpacked_max,
                );
            }
            OffsetSpec::Timestamp(timestamp) => {
                listed.leader_epoch = epoch;
                let from = log.log_start_offset();
                return listed.by_plan(
                    timestamp,
                    log.find_by_timestamp(timestamp, from),
                    unpacked_max,
                );
            }
        }
        (listed, None)
    }
}

/// May this replica, which need not lead, be looked into?
fn check_replica(replica: &Replica, current_leader_epoch: i32) -> Result<(), ErrorCode> {
    match replica.fenced() {
        Some(_) => Err(ErrorCode::KAFKA_STORAGE_ERROR),
        None => check_epoch(replica, current_leader_epoch),
    }
}

impl ListedOffset {
    fn by_plan(
        mut self,
        timestamp: i64,
        plan: TimestampPlan,
        unpacked_max: usize,
    ) -> (ListedOffset, Option<(i64, TimestampJob)>) {
        match plan {
            TimestampPlan::Memory(batch) => {
                self.found(timestamp, batch.as_ref(), unpacked_max);
                (self, None)
            }
            TimestampPlan::Disk(job) => (self, Some((timestamp, job))),
        }
    }

    /// Looks into the batch that holds the answer.
    fn found(&mut self, timestamp: i64, batch: Option<&Bytes>, unpacked_max: usize) {
        let Some(batch) = batch else {
            // Nothing at or after that time: offset -1, without an error, as in Kafka.
            self.leader_epoch = -1;
            return;
        };
        let mut budget = DecodeBudget::new(unpacked_max.max(TIMESTAMP_BUDGET_BYTES));
        let found = Batch::new(batch.clone())
            .map_err(|malformed| malformed.to_string())
            .and_then(|batch| {
                records::find_by_timestamp(&batch, timestamp, &mut budget)
                    .map_err(|error| error.to_string())
            });
        match found {
            Ok(Some(found)) => {
                self.offset = found.offset;
                self.timestamp = found.timestamp;
            }
            Ok(None) => self.leader_epoch = -1,
            Err(error) => {
                tracing::warn!(%error, "a batch in the log cannot be searched by time");
                self.error = ErrorCode::CORRUPT_MESSAGE;
            }
        }
    }
}
