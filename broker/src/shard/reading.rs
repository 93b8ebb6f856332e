//! What a fetch reads of the partitions that a core owns, as their leader or as a follower in the reader's rack
//! (KIP-392).
//!
//! A follower serves up to the high watermark that it knows itself, which is behind the leader's or equal to it. What
//! lies below is committed, so it is in the log of every leader to come, and Raft never truncates it: no reader sees a
//! record here that is taken back. What lies above may be truncated, and is neither read nor compared with what a
//! reader has seen (KIP-320's divergence).
//!
//! A leader that does not share the reader's rack names a replica there that does, if it has what the reader wants;
//! who is asked for more than it has, or follows nobody, sends the reader back. Which replicas are in the rack is for
//! the handler to say, who knows the cluster. Deliberately absent: waiting, which is [`super::fetching`]'s.

use super::mail::{Fetch, FetchPartition, Fetched, ReadFrom};
use super::owned::{Owned, check_epoch, check_leader};
use protocol::error::ErrorCode;
use raft_group::{Replica, Role};
use storage::{PartitionId, ReadJob, ReadPlan};

/// A fetch that was read: what memory had, and the jobs for what lies on disk.
pub struct Reading {
    pub fetched: Vec<Fetched>,
    pub jobs: Vec<ColdRead>,
    pub bytes: usize,
    /// Of those, read as a follower.
    following_bytes: usize,
    /// An error, a divergence, or another node to go to: the client should hear of it at once.
    pub urgent: bool,
}

/// Records that lie on disk.
pub struct ColdRead {
    pub partition: PartitionId,
    /// Its place in what was fetched.
    pub position: usize,
    pub job: ReadJob,
    /// The most that it brings.
    pub bytes: usize,
}

/// What was read of one partition.
struct PartitionReading {
    fetched: Fetched,
    job: Option<ReadJob>,
    bytes: usize,
    following: bool,
}

impl Owned {
    /// Reads for a fetch what is there now.
    pub fn read(&mut self, fetch: &Fetch) -> Reading {
        let mut reading = Reading {
            fetched: Vec::with_capacity(fetch.partitions.len()),
            jobs: Vec::new(),
            bytes: 0,
            following_bytes: 0,
            urgent: false,
        };
        for wanted in &fetch.partitions {
            let left = fetch.max_bytes.saturating_sub(reading.bytes);
            let read = self.read_partition(wanted, left, reading.bytes == 0);
            reading.add(wanted.partition, read);
        }
        self.counters.bytes_fetched += reading.bytes as u64;
        self.counters.bytes_fetched_following += reading.following_bytes as u64;
        self.counters.cold_reads += reading.jobs.len() as u64;
        reading
    }

    fn read_partition(
        &mut self,
        wanted: &FetchPartition,
        bytes_left: usize,
        first: bool,
    ) -> PartitionReading {
        if !self.partitions.contains_key(&wanted.partition) {
            return Fetched::refused(self.absent(wanted.partition), -1).into();
        }
        let replica = self
            .replicas
            .get(wanted.partition)
            .expect("every partition has its replica");
        let epoch = replica.term() as i32;
        let following = match check_reader(replica, wanted) {
            Ok(following) => following,
            Err(error) => return Fetched::refused(error, epoch).into(),
        };
        let log = replica.log();
        let high_watermark = log.high_watermark();
        let mut fetched = Fetched {
            error: ErrorCode::NONE,
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: log.log_start_offset(),
            leader_epoch: epoch,
            diverging: None,
            preferred_replica: -1,
            records: Vec::new(),
        };
        // A follower that restarted may know of less than it did: what is behind its watermark now is not judged.
        let judged = !following || wanted.offset <= high_watermark;
        if judged && wanted.last_fetched_epoch >= 0 {
            match log.epoch_end_offset(wanted.last_fetched_epoch) {
                Some((epoch, end)) if epoch < wanted.last_fetched_epoch || end < wanted.offset => {
                    fetched.diverging = Some((epoch, end));
                    return fetched.into();
                }
                _ => {}
            }
        }
        if wanted.offset < fetched.log_start_offset || wanted.offset > log.next_offset() {
            // Only the leader knows that an offset is beyond every log: a reader of a follower goes back to it.
            fetched.error = match following && wanted.offset > log.next_offset() {
                true => ErrorCode::OFFSET_NOT_AVAILABLE,
                false => ErrorCode::OFFSET_OUT_OF_RANGE,
            };
            return fetched.into();
        }
        if let ReadFrom::OneOf(near) = &wanted.from
            && let Some(node) = self.nearer_replica(replica, near, wanted.offset)
        {
            fetched.preferred_replica = node;
            let replica = self.replicas.get_mut(wanted.partition);
            replica.expect("looked up above").tell_commits_at_once();
            return fetched.into();
        }
        // Between the high watermark and the end of the log there is nothing to see yet.
        let room = bytes_left.min(wanted.max_bytes);
        if wanted.offset >= high_watermark || (room == 0 && !first) {
            return fetched.into();
        }
        let mut reading = PartitionReading::from(fetched);
        reading.following = following;
        match log.read(wanted.offset, room, high_watermark, first) {
            ReadPlan::Memory(records) => {
                reading.bytes = records.iter().map(bytes::Bytes::len).sum();
                reading.fetched.records = records;
            }
            ReadPlan::Disk(job) => {
                reading.job = Some(job);
                reading.bytes = room.max(1);
            }
            ReadPlan::OutOfRange => reading.fetched.error = ErrorCode::OFFSET_OUT_OF_RANGE,
        }
        reading
    }

    /// Of these nodes, which are near the reader and in sync, the one with the longest log, if a link reaches it and it
    /// has what the reader wants next.
    fn nearer_replica(&self, replica: &Replica, near: &[i32], offset: i64) -> Option<i32> {
        let log = replica.log();
        if offset > log.high_watermark() {
            return None;
        }
        let has = |matched: u64| match log.offset_after(matched) {
            Some(end) => end >= offset,
            None => matched >= replica.commit_index(),
        };
        let voters = replica.members().voters().iter();
        let near = voters.filter(|voter| {
            near.contains(&voter.node()) && self.connected.contains_key(&voter.node())
        });
        let logs = near.filter_map(|voter| Some((replica.matched(*voter)?, voter.node())));
        let best = logs.filter(|(matched, _)| has(*matched));
        best.max_by_key(|(matched, node)| (*matched, std::cmp::Reverse(*node)))
            .map(|(_, node)| node)
    }
}

/// May this replica answer the reader, and does it as a follower?
fn check_reader(replica: &Replica, wanted: &FetchPartition) -> Result<bool, ErrorCode> {
    if wanted.from == ReadFrom::Here && follows(replica) {
        return check_epoch(replica, wanted.current_leader_epoch).map(|()| true);
    }
    check_leader(replica, wanted.current_leader_epoch).map(|()| false)
}

/// A follower that knows of no leader may be cut off, and not hear of anything new.
fn follows(replica: &Replica) -> bool {
    replica.fenced().is_none() && replica.role() == Role::Follower && replica.leader().is_some()
}

impl Reading {
    fn add(&mut self, partition: PartitionId, of: PartitionReading) {
        let fetched = &of.fetched;
        self.urgent |= fetched.error != ErrorCode::NONE
            || fetched.diverging.is_some()
            || fetched.preferred_replica >= 0;
        self.bytes += of.bytes;
        if of.following {
            self.following_bytes += of.bytes;
        }
        if let Some(job) = of.job {
            self.jobs.push(ColdRead {
                partition,
                position: self.fetched.len(),
                job,
                bytes: of.bytes,
            });
        }
        self.fetched.push(of.fetched);
    }

    /// Is this enough to answer before the deadline?
    pub fn suffices(&self, fetch: &Fetch) -> bool {
        self.urgent || self.bytes >= fetch.min_bytes
    }
}

impl From<Fetched> for PartitionReading {
    fn from(fetched: Fetched) -> PartitionReading {
        PartitionReading {
            fetched,
            job: None,
            bytes: 0,
            following: false,
        }
    }
}

impl Fetched {
    /// An answer without data.
    pub fn refused(error: ErrorCode, leader_epoch: i32) -> Fetched {
        Fetched {
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            leader_epoch,
            diverging: None,
            preferred_replica: -1,
            records: Vec::new(),
        }
    }
}
