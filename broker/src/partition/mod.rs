//! One partition as its owner core holds it, beside its [`Replica`]: producers, waiting acknowledgements,
//! waiting fetches.
//!
//! Synchronous: batches and commits come in, outcomes go out. It must not know who asked (a ticket stands
//! for that) nor wait for anything. Deliberately absent: the log and Raft, which belong to the replica that
//! is passed in; open transactions.

mod departing;
mod producers;

pub use departing::Departing;
pub use producers::{ProducerBatch, Producers, SnapshotError, Verdict};

use crate::config::TopicConfig;
use bytes::Bytes;
use protocol::error::ErrorCode;
use protocol::records::BatchView;
use raft_group::{Proofs, ProposeError, Replica};
use std::collections::VecDeque;
use std::rc::Rc;
use storage::{Entry, EntryKind, Log, PartitionId};

/// Who awaits the commit of an entry: the owner core's slot of a produce, and the place in its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub slot: u32,
    pub position: u32,
}

/// An append that was accepted, or the known place of a retried one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    pub index: u64,
    pub term: u64,
    /// A retry of a batch that is committed already: there is nothing to wait for.
    pub committed: bool,
}

/// Why a batch was not appended.
#[derive(Debug)]
pub struct Refused {
    /// Kafka's code for the producer.
    pub code: ErrorCode,
    /// The batch, if the code says what only a leader can know, and ends a producer's sequence.
    pub for_good: Option<Bytes>,
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Refused {
        Refused {
            code,
            for_good: None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Ack {
    index: u64,
    term: u64,
    ticket: Ticket,
}

/// Up to where the state in the two checkpoints on the disk stands for the entries, newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Covered([u64; 2]);

impl Covered {
    /// A checkpoint with the state up to `applied` is on the disk.
    pub fn checkpointed(&mut self, applied: u64) {
        self.0 = [applied, self.0[0]];
    }

    /// Entries from here on are needed to rebuild the state, whichever of the two can be read.
    pub fn keep_index(&self) -> u64 {
        self.0[1] + 1
    }
}

/// What the owner core knows of a partition beside its replica.
pub struct Partition {
    pub id: PartitionId,
    pub name: Rc<str>,
    pub config: Rc<TopicConfig>,
    pub producers: Producers,
    /// In order of their index.
    acks: VecDeque<Ack>,
    /// Batches that are to be refused for good, if this replica still leads.
    pub doubts: Proofs<(Ticket, Bytes)>,
    pub departing: Departing,
    /// Slots of the core's watches that wait for this partition.
    pub watches: Vec<u32>,
    /// The producers' state stands for the entries up to this index: those that this replica proposed, and those
    /// that it has replayed. What another leader decided is taken from the log when it commits.
    stands: u64,
    covered: Covered,
    /// The view's version that brought the partition, until it serves for the first time.
    pub opening: Option<u64>,
    /// The last term in which this replica served; 0: none.
    pub served_term: u64,
    /// Never but in the simulator: an append counts as committed.
    pub ack_uncommitted: bool,
}

impl Partition {
    pub fn new(
        id: PartitionId,
        name: Rc<str>,
        config: Rc<TopicConfig>,
        producers: Producers,
    ) -> Partition {
        Partition {
            id,
            name,
            config,
            producers,
            acks: VecDeque::new(),
            doubts: Proofs::default(),
            departing: Departing::default(),
            watches: Vec::new(),
            stands: 0,
            covered: Covered::default(),
            opening: None,
            served_term: 0,
            ack_uncommitted: false,
        }
    }

    /// A checkpoint whose state stands for the entries up to `applied` is on the disk.
    pub fn checkpointed(&mut self, applied: u64) {
        self.covered.checkpointed(applied);
    }

    /// Entries from here on are needed to rebuild the partition's state, whichever of the two checkpoints can be
    /// read; no retention removes them.
    pub fn keep_index(&self) -> u64 {
        self.covered.keep_index()
    }

    /// Puts a validated batch at the end of the log, unless it is there already or out of sequence.
    ///
    /// # Errors
    /// NOT_LEADER_OR_FOLLOWER is given only if nothing was appended.
    pub fn append(
        &mut self,
        replica: &mut Replica,
        batch: Bytes,
        wall_ms: i64,
    ) -> Result<Appended, Refused> {
        let producer = ProducerBatch::of(&batch);
        let appended = self.try_append(replica, batch, producer, wall_ms);
        if let (Err(refused), Some(producer)) = (&appended, &producer)
            && refused.code.retriable()
        {
            self.producers.refused(producer, wall_ms);
        }
        appended
    }

    /// A batch is not taken for now.
    pub fn refuse(&mut self, batch: &Bytes, wall_ms: i64) {
        if let Some(producer) = ProducerBatch::of(batch) {
            self.producers.refused(&producer, wall_ms);
        }
    }

    fn try_append(
        &mut self,
        replica: &mut Replica,
        batch: Bytes,
        producer: Option<ProducerBatch>,
        wall_ms: i64,
    ) -> Result<Appended, Refused> {
        if replica.fenced().is_some() {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR.into());
        }
        if !replica.is_serving() {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER.into());
        }
        let for_good = |code, batch| {
            let for_good = Some(batch);
            Err(Refused { code, for_good })
        };
        if let Some(producer) = &producer {
            match self.producers.judge(producer) {
                Verdict::Append => {}
                Verdict::Duplicate { base_offset, index } => {
                    let committed = index <= replica.commit_index();
                    let term = replica.term();
                    return Ok(Appended {
                        base_offset,
                        index,
                        term,
                        committed,
                    });
                }
                Verdict::OutOfOrder { .. } => {
                    return for_good(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, batch);
                }
                Verdict::Fenced { .. } => {
                    return for_good(ErrorCode::INVALID_PRODUCER_EPOCH, batch);
                }
            }
        }
        let committed = replica.commit_index();
        let proposed = replica.propose(EntryKind::Batch, batch).map_err(refused)?;
        if let Some(producer) = &producer {
            let (offset, index) = (proposed.base_offset, proposed.index);
            self.producers
                .appended(producer, offset, index, committed, wall_ms);
        }
        self.stands = proposed.index;
        let (base_offset, index, term) = (proposed.base_offset, proposed.index, proposed.term);
        Ok(Appended {
            base_offset,
            index,
            term,
            committed: self.ack_uncommitted,
        })
    }

    /// Notes who awaits an entry.
    pub fn await_commit(&mut self, appended: Appended, ticket: Ticket) {
        let ack = Ack {
            index: appended.index,
            term: appended.term,
            ticket,
        };
        // A retry of an entry still in flight lands before newer ones: keep the order.
        let at = self.acks.partition_point(|known| known.index <= ack.index);
        self.acks.insert(at, ack);
    }

    /// Everything up to `index` is committed: gives the tickets whose entries are, with whether the entry
    /// at that index is still the one that was proposed.
    pub fn committed(&mut self, index: u64, replica: &Replica, out: &mut Vec<(Ticket, bool)>) {
        while let Some(ack) = self.acks.front().filter(|ack| ack.index <= index) {
            // A sole voter never loses an entry; with peers another leader's entry may stand there.
            let same = replica
                .log()
                .term(ack.index)
                .is_none_or(|term| term == ack.term);
            out.push((ack.ticket, same));
            self.acks.pop_front();
        }
    }

    /// The partition cannot say any more what becomes of its entries (it was fenced or deleted): gives up
    /// everyone who waits.
    pub fn abandon(&mut self, out: &mut Vec<Ticket>) {
        out.extend(self.acks.drain(..).map(|ack| ack.ticket));
        out.extend(self.doubts.take_all().map(|(ticket, _)| ticket));
    }

    /// The producers were replayed up to here.
    pub fn stands_at(&mut self, index: u64) {
        self.stands = index;
    }

    /// Entries from this index on are not in the log any more.
    pub fn truncated(&mut self, from: u64) {
        let last = from.saturating_sub(1);
        self.producers.truncate(last);
        self.stands = self.stands.min(last);
    }

    /// The log begins anew, and this is the state as of an index of it.
    pub fn installed(&mut self, producers: Producers, applied: u64) {
        self.producers = producers;
        self.stands = applied;
    }

    /// Entries are committed: takes in what those say that this replica did not propose.
    ///
    /// # Errors
    /// A sentence: they cannot be read, and the partition must not be served.
    pub fn take_in(
        &mut self,
        log: &Log,
        first: u64,
        last: u64,
        wall_ms: i64,
    ) -> Result<(), String> {
        let from = first.max(self.stands + 1);
        if from > last {
            return Ok(());
        }
        for entry in committed_entries(log, from, last)? {
            if entry.kind == EntryKind::Batch {
                self.replay(&entry.data, entry.base_offset, entry.index, wall_ms);
            }
        }
        self.stands = last;
        Ok(())
    }

    /// Rebuilds what a replayed batch says about its producer. Called for committed entries above the
    /// snapshot, at start-up.
    pub fn replay(&mut self, batch: &Bytes, base_offset: i64, index: u64, wall_ms: i64) {
        if let Some(producer) = ProducerBatch::of(batch) {
            self.producers
                .appended(&producer, base_offset, index, index, wall_ms);
        }
    }
}

/// Entries that have just been committed: no drain takes them out of memory before they are applied.
pub fn committed_entries(log: &Log, first: u64, last: u64) -> Result<Vec<Entry>, String> {
    let entries = log.entries(first, last + 1, u64::MAX);
    entries.map_err(|missing| {
        format!("committed entries {first}..={last} are not in memory: {missing:?}")
    })
}

impl ProducerBatch {
    /// The producer's fields of a batch; None without a producer id.
    fn of(batch: &Bytes) -> Option<ProducerBatch> {
        let view = BatchView::new(batch).ok()?;
        (view.producer_id() >= 0).then(|| ProducerBatch {
            producer_id: view.producer_id(),
            producer_epoch: view.producer_epoch(),
            base_sequence: view.base_sequence(),
            record_count: view.record_count(),
        })
    }
}

fn refused(error: ProposeError) -> ErrorCode {
    match error {
        // Nothing was assigned: the client may well say "not written".
        ProposeError::NotLeader { .. } | ProposeError::Dropped => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ProposeError::TooMuchUncommitted { .. } => ErrorCode::NOT_ENOUGH_REPLICAS,
        ProposeError::JournalFull => ErrorCode::KAFKA_STORAGE_ERROR,
        ProposeError::Fenced => ErrorCode::KAFKA_STORAGE_ERROR,
        ProposeError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        ProposeError::Malformed(_) => ErrorCode::CORRUPT_MESSAGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        let id = PartitionId {
            topic: 7,
            partition: 0,
        };
        let config = Rc::new(TopicConfig::default());
        Partition::new(id, "t".into(), config, Producers::default())
    }

    /// Retention once removed entries whose producers were in the newest checkpoint only: after a power loss that took
    /// it, the next batch in a sequence was refused.
    #[test]
    fn what_either_checkpoint_needs_is_kept() {
        let mut partition = partition();
        assert_eq!(partition.keep_index(), 1);
        partition.checkpointed(10);
        assert_eq!(
            partition.keep_index(),
            1,
            "the older checkpoint has nothing"
        );
        partition.checkpointed(25);
        assert_eq!(partition.keep_index(), 11);
        partition.checkpointed(25);
        assert_eq!(partition.keep_index(), 26);
    }
}
