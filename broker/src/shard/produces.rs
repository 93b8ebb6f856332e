//! Requests that append and wait: produces, and moves of log starts.
//!
//! A request has a slot until every partition in it has its outcome; a [`Ticket`] names one of them. While the
//! journal waits for its oldest file to be drained, appends wait too, in order and in the middle of a request if need
//! be: their handlers hold the requests' memory, so back-pressure reaches the clients, and their timeouts bound the
//! wait.

use super::mail::{Answer, AskId, Mail, Produce, Produced};
use super::owned::Owned;
use crate::partition::{Appended, Refused, Ticket};
use bytes::Bytes;
use protocol::error::ErrorCode;
use std::collections::VecDeque;
use storage::{PartitionId, Refusal};

/// Requests with outcomes still to come.
#[derive(Default)]
pub struct Produces {
    slots: Vec<Option<Pending>>,
    free: Vec<u32>,
    /// What waits for room in the journal, oldest first.
    waiting: VecDeque<Rest>,
}

struct Pending {
    purpose: Purpose,
    from: usize,
    ask: AskId,
    outcomes: Vec<Produced>,
    remaining: usize,
}

/// What an append was for, hence how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Produce,
    /// `acks=0`: nobody waits, not even for the commit.
    ProduceUnanswered,
    /// The log start moves; `base_offset` of an outcome stands for the new start.
    DeleteRecords,
}

/// What is still to be appended of a request.
struct Rest {
    slot: u32,
    batches: std::iter::Enumerate<std::vec::IntoIter<(PartitionId, Bytes)>>,
}

impl Produces {
    fn open(&mut self, purpose: Purpose, from: usize, ask: AskId, partitions: usize) -> u32 {
        let nothing = Produced {
            error: ErrorCode::NONE,
            base_offset: -1,
            log_start_offset: -1,
            leader_epoch: -1,
        };
        let pending = Pending {
            purpose,
            from,
            ask,
            outcomes: vec![nothing; partitions],
            remaining: partitions,
        };
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(pending);
                slot
            }
            None => {
                self.slots.push(Some(pending));
                (self.slots.len() - 1) as u32
            }
        }
    }

    fn get_mut(&mut self, slot: u32) -> &mut Pending {
        self.slots[slot as usize]
            .as_mut()
            .expect("a ticket names an open request")
    }

    fn outcome(&mut self, ticket: Ticket) -> &mut Produced {
        &mut self.get_mut(ticket.slot).outcomes[ticket.position as usize]
    }

    fn close(&mut self, slot: u32) -> Pending {
        self.free.push(slot);
        self.slots[slot as usize].take().expect("closed once")
    }
}

impl Owned {
    /// Appends what a handler brought; answers at once or when all of it is committed.
    pub fn produce(&mut self, from: usize, ask: AskId, produce: Produce, wall_ms: i64) {
        let purpose = match produce.answer {
            true => Purpose::Produce,
            false => Purpose::ProduceUnanswered,
        };
        let partitions = produce.partitions.len();
        let slot = self.produces.open(purpose, from, ask, partitions);
        if partitions == 0 {
            return self.answer_pending(slot);
        }
        let rest = Rest {
            slot,
            batches: produce.partitions.into_iter().enumerate(),
        };
        let left = match self.produces.waiting.is_empty() {
            true => self.append_rest(rest, wall_ms),
            false => Some(rest),
        };
        self.produces.waiting.extend(left);
    }

    /// Takes up what waited for the journal.
    pub(super) fn admit_waiting(&mut self, wall_ms: i64) {
        while let Some(rest) = self.produces.waiting.pop_front() {
            if let Some(left) = self.append_rest(rest, wall_ms) {
                return self.produces.waiting.push_front(left);
            }
        }
    }

    /// Appends until the journal is full; gives back what is left then.
    fn append_rest(&mut self, mut rest: Rest, wall_ms: i64) -> Option<Rest> {
        while rest.batches.len() > 0 {
            if self.journal.refuses() == Some(Refusal::Full) {
                return Some(rest);
            }
            let (position, (id, batch)) = rest.batches.next()?;
            let position = position as u32;
            let slot = rest.slot;
            self.append_one(Ticket { slot, position }, id, batch, wall_ms);
        }
        None
    }

    fn append_one(&mut self, ticket: Ticket, id: PartitionId, batch: Bytes, wall_ms: i64) {
        if let Some(batch) = self.hold_for_lead(ticket, id, batch) {
            self.append_now(ticket, id, batch, wall_ms);
        }
    }

    /// Appends or refuses. A refusal after which no client asks again waits until a majority has confirmed that this
    /// replica leads: one that was cut off, or stood still, does not know what another leader has taken since, and
    /// would call the next batch in a sequence a gap.
    pub(super) fn append_now(
        &mut self,
        ticket: Ticket,
        id: PartitionId,
        batch: Bytes,
        wall_ms: i64,
    ) {
        let size = batch.len() as u64;
        let mut outcome = self.append(id, batch, wall_ms);
        if let Err(refused) = &mut outcome
            && let Some(batch) = refused.for_good.take()
        {
            let replica = self.replicas.get_mut(id);
            match replica.and_then(|replica| replica.confirm_lead()) {
                Some(number) => {
                    let partition = self.partitions.get_mut(&id).expect("it refuses");
                    return partition.doubts.push(number, 0, (ticket, batch));
                }
                // It waits for room in the journal. Nothing was appended.
                None => refused.code = ErrorCode::NOT_LEADER_OR_FOLLOWER,
            }
        }
        self.conclude(ticket, id, size, outcome);
    }

    /// This replica led when it was asked for the proof of that number: what it was to refuse for good by then is
    /// refused, unless what it lacked has come since.
    pub(super) fn refuse_proved(&mut self, id: PartitionId, number: u64, wall_ms: i64) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.doubts.confirmed(number, 0);
        }
        while let Some(partition) = self.partitions.get_mut(&id)
            && let Some((ticket, batch)) = partition.doubts.take_ready(0)
        {
            let size = batch.len() as u64;
            let outcome = self.append(id, batch, wall_ms);
            self.conclude(ticket, id, size, outcome);
        }
    }

    /// Answers what was refused, or is to wait for nothing more; notes who awaits the commit of the rest.
    fn conclude(
        &mut self,
        ticket: Ticket,
        id: PartitionId,
        size: u64,
        outcome: Result<Appended, Refused>,
    ) {
        let replica = self.replicas.get(id);
        let log_start_offset = replica.map_or(-1, |replica| replica.log().log_start_offset());
        let epoch = replica.map_or(-1, |replica| replica.term() as i32);
        let produced = self.produces.outcome(ticket);
        produced.log_start_offset = log_start_offset;
        match outcome {
            Ok(appended) => {
                produced.base_offset = appended.base_offset;
                self.counters.batches_appended += 1;
                self.counters.bytes_appended += size;
                let answered = self.produces.get_mut(ticket.slot).purpose == Purpose::Produce;
                if appended.committed || !answered {
                    self.has_outcome(ticket);
                } else {
                    self.await_commit(id, appended, ticket);
                }
            }
            Err(refused) => {
                produced.error = refused.code;
                produced.leader_epoch = epoch;
                self.has_outcome(ticket);
            }
        }
    }

    fn await_commit(&mut self, id: PartitionId, appended: Appended, ticket: Ticket) {
        let partition = self.partitions.get_mut(&id).expect("appended to it");
        partition.await_commit(appended, ticket);
    }

    /// Moves log starts up (DeleteRecords); an offset of -1 stands for the high watermark.
    pub fn delete_records(&mut self, from: usize, ask: AskId, wanted: Vec<(PartitionId, i64)>) {
        let purpose = Purpose::DeleteRecords;
        let slot = self.produces.open(purpose, from, ask, wanted.len());
        if wanted.is_empty() {
            return self.answer_pending(slot);
        }
        for (position, (id, offset)) in wanted.into_iter().enumerate() {
            let position = position as u32;
            let ticket = Ticket { slot, position };
            let moved = self.move_log_start(id, offset);
            let outcome = self.produces.outcome(ticket);
            match moved {
                Ok((start, appended)) => {
                    outcome.base_offset = start;
                    match appended {
                        Some(appended) => self.await_commit(id, appended, ticket),
                        None => self.has_outcome(ticket),
                    }
                }
                Err(error) => {
                    outcome.error = error;
                    self.has_outcome(ticket);
                }
            }
        }
    }

    /// What a request waited for in one partition has come, or will not.
    pub(super) fn settle(&mut self, ticket: Ticket, error: ErrorCode) {
        if error != ErrorCode::NONE {
            let produced = self.produces.outcome(ticket);
            produced.error = error;
            produced.base_offset = -1;
        }
        self.has_outcome(ticket);
    }

    fn has_outcome(&mut self, ticket: Ticket) {
        let pending = self.produces.get_mut(ticket.slot);
        pending.remaining -= 1;
        if pending.remaining == 0 {
            self.answer_pending(ticket.slot);
        }
    }

    fn answer_pending(&mut self, slot: u32) {
        let Pending {
            purpose,
            from,
            ask,
            outcomes,
            ..
        } = self.produces.close(slot);
        let answer = match purpose {
            Purpose::Produce => Answer::Produce(outcomes),
            Purpose::ProduceUnanswered => return,
            Purpose::DeleteRecords => {
                let low_watermark = |outcome: Produced| match outcome.error {
                    ErrorCode::NONE => Ok(outcome.base_offset),
                    error => Err(error),
                };
                Answer::DeleteRecords(outcomes.into_iter().map(low_watermark).collect())
            }
        };
        self.post.send(from, Mail::Answer { ask, answer });
    }
}
