//! Writes on their way to the log, in the order in which they were issued. Must not know groups.
//!
//! Outcomes may be reported in any order; they are taken out in the order of issue, which is the
//! order of the log. So an earlier commit can never overwrite a later one.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protocol::ErrorCode;

use super::coordinator::{Output, Token};
use super::member::Member;
use super::records::{OffsetValue, Record, RecordToWrite};
use super::request::{OffsetFetch, Producer};
use super::response::GroupResponse;
use super::timers::{GroupId, MemberId};

/// Names a write between its [`Output::Append`] and its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What a record changes once it is committed.
#[derive(Debug)]
pub(super) enum Effect {
    Offset {
        group: GroupId,
        topic: String,
        partition: i32,
        value: Option<OffsetValue>,
    },
    /// A group's record, encoded; `None` is its tombstone.
    Group {
        group: GroupId,
        value: Option<Bytes>,
    },
    /// Not a record of ours but a transaction's marker.
    EndTransaction { producer_id: i64, committed: bool },
}

/// What else happens once a write is settled.
#[derive(Debug)]
pub(super) enum Then {
    Nothing,
    /// Somebody is answered: as it stands, or with the error.
    Reply {
        token: Token,
        response: GroupResponse,
    },
    /// A generation becomes stable.
    Assign {
        group: GroupId,
        assignments: BTreeMap<MemberId, Bytes>,
    },
    /// A static member that came back has its new id.
    ReplaceStatic(Box<StaticReplacement>),
}

/// What is needed to complete the return of a static member, or to undo it.
#[derive(Debug)]
pub(super) struct StaticReplacement {
    pub(super) group: GroupId,
    pub(super) token: Token,
    pub(super) new_id: MemberId,
    /// The member as it was.
    pub(super) previous: Member,
    pub(super) previous_leader: Option<MemberId>,
    /// Whether the client understands `skip_assignment`.
    pub(super) can_skip_assignment: bool,
}

/// One write.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) id: WriteId,
    pub(super) producer: Option<Producer>,
    pub(super) effects: Vec<Effect>,
    pub(super) then: Then,
    /// Fetches of stable offsets that wait for this write.
    pub(super) fetches: Vec<(Token, OffsetFetch)>,
    /// The base offset in the log, or why the write is not in it.
    outcome: Option<Result<i64, ErrorCode>>,
}

/// The queue of writes.
#[derive(Debug, Default)]
pub(super) struct Writes {
    issued: u64,
    queue: VecDeque<Write>,
}

impl Writes {
    /// Sends records to the log.
    pub(super) fn append(
        &mut self,
        records: Vec<(GroupId, Record)>,
        producer: Option<Producer>,
        then: Then,
        out: &mut Vec<Output>,
    ) -> WriteId {
        let mut effects = Vec::with_capacity(records.len());
        let mut encoded = Vec::with_capacity(records.len());
        for (group, record) in records {
            let to_write = record.encode();
            effects.push(Effect::of(group, record, &to_write));
            encoded.push(to_write);
        }
        let write = self.push(effects, producer, then);
        out.push(Output::Append {
            write,
            records: encoded,
            producer,
        });
        write
    }

    /// Puts something that stands in the log already behind all that was issued before.
    pub(super) fn push_settled(&mut self, effect: Effect, base_offset: i64) {
        let id = self.push(vec![effect], None, Then::Nothing);
        self.settle(id, Ok(base_offset));
    }

    fn push(&mut self, effects: Vec<Effect>, producer: Option<Producer>, then: Then) -> WriteId {
        self.issued += 1;
        let id = WriteId(self.issued);
        let (fetches, outcome) = (vec![], None);
        self.queue.push_back(Write {
            id,
            producer,
            effects,
            then,
            fetches,
            outcome,
        });
        id
    }

    fn get_mut(&mut self, write: WriteId) -> Option<&mut Write> {
        let first = self.queue.front()?.id;
        self.queue
            .get_mut(usize::try_from(write.0.checked_sub(first.0)?).ok()?)
    }

    /// Notes an outcome. The first one counts; that of an unknown write is none.
    pub(super) fn settle(&mut self, write: WriteId, outcome: Result<i64, ErrorCode>) {
        if let Some(write) = self.get_mut(write) {
            write.outcome.get_or_insert(outcome);
        }
    }

    /// Takes the oldest write if its outcome is known.
    pub(super) fn take_settled(&mut self) -> Option<(Write, Result<i64, ErrorCode>)> {
        let outcome = self.queue.front()?.outcome?;
        self.queue.pop_front().map(|write| (write, outcome))
    }

    /// Replaces what happens after a write that was just issued.
    pub(super) fn then(&mut self, write: WriteId, then: Then) {
        let write = self
            .get_mut(write)
            .expect("a write that was just issued is in the queue");
        write.then = then;
    }

    /// Lets a fetch wait for all commits of its group that are under way. Hands it back if there
    /// are none.
    pub(super) fn await_commits(
        &mut self,
        token: Token,
        fetch: OffsetFetch,
    ) -> Option<(Token, OffsetFetch)> {
        let touches = |effect: &Effect| match effect {
            Effect::Offset { group, .. } => **group == *fetch.group_id,
            Effect::Group { .. } | Effect::EndTransaction { .. } => false,
        };
        let last = self
            .queue
            .iter_mut()
            .rev()
            .find(|write| write.effects.iter().any(touches));
        match last {
            Some(write) => {
                write.fetches.push((token, fetch));
                None
            }
            None => Some((token, fetch)),
        }
    }

    /// The return of a static member is undone: a later return of the same member, if one is under
    /// way, has to fall back to where the undone one fell back to.
    pub(super) fn rebase_replacements(&mut self, undone: &StaticReplacement) {
        for write in &mut self.queue {
            if let Then::ReplaceStatic(later) = &mut write.then
                && later.group == undone.group
                && later.previous.member_id == undone.new_id
            {
                later.previous = undone.previous.clone();
                later.previous_leader = undone.previous_leader.clone();
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Gives up on all of them.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Write> {
        std::mem::take(&mut self.queue).into_iter()
    }
}

impl Effect {
    fn of(group: GroupId, record: Record, encoded: &RecordToWrite) -> Self {
        match record {
            Record::Offset {
                topic,
                partition,
                value,
                ..
            } => Effect::Offset {
                group,
                topic,
                partition,
                value,
            },
            Record::Group { .. } => Effect::Group {
                group,
                value: encoded.value.clone(),
            },
        }
    }
}
