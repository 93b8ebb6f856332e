//! What the clients of a simulation have sent and been told, and the judgement of every answer against it
//! (docs/simulation.md has the invariants).
//!
//! Synchronous and outside the broker: it knows answers, never the broker's state. The first violation is kept, with
//! the story of the last events; the run then ends.

use super::value::Value;
use super::violation::Violation;
use bytes::Bytes;
use protocol::compression::Budget;
use protocol::error::ErrorCode;
use protocol::records;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use uuid::Uuid;

/// Events that a failure tells.
const STORY_EVENTS: usize = 60;
/// An event equal to one of so many before it is counted there: clients that wait in vain say the same in turns.
const REPEATED_WITHIN: usize = 8;
const DECOMPRESSED_BYTES_MAX: usize = 16 << 20;

/// A partition of one incarnation of a topic.
pub(super) type Place = (Uuid, i32);

/// What is known of a value's fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Unknown,
    Acked,
    /// Refused for good at the first attempt: it must never be seen.
    Refused,
}

struct SentValue {
    place: Place,
    idempotent: bool,
    attempts: u32,
    fate: Fate,
    offset: Option<i64>,
}

/// By leader epoch: who served, and up to which high watermark.
pub(super) type Served = BTreeMap<i32, (usize, i64)>;

/// What may never go back on a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Floor {
    pub high_watermark: i64,
    pub log_start: i64,
    pub leader_epoch: i32,
}

#[derive(Default)]
struct PartitionHistory {
    at: BTreeMap<i64, Value>,
    floor: Floor,
    /// What became of the floor, by time, as long as a leader may not know that it was deposed.
    floors: Since<Floor>,
    served: Served,
    /// Records may have been deleted up to here: asked for, answered or not. `i64::MAX` with retention.
    deletable: i64,
    /// Leader epoch of records by offset, where it changes.
    epochs: BTreeMap<i64, i32>,
    /// What was sent once and acknowledged: when, us, and its offset. Whoever appended it has acknowledged it.
    acks: Vec<(u64, i64)>,
    doubts: Vec<Doubt>,
}

/// An answer that told less than had been acknowledged. It is right if the epoch it was given for ended before.
struct Doubt {
    asked_us: u64,
    epoch: i32,
    node: usize,
    told: i64,
}

impl PartitionHistory {
    /// The leader epoch of the record at an offset, in that part of a log that was read as a whole.
    fn epoch_of(&self, offset: i64) -> Option<i32> {
        let before = self.epochs.range(..=offset).next_back();
        before.map(|(_, epoch)| *epoch)
    }

    /// An acknowledgement that an answer in the same or a later epoch, asked for after it, did not know of. The log was
    /// read from `start` on; of which epochs the records before it were is not known.
    fn unknown_ack(&self, start: i64) -> Option<(&Doubt, i64, i32)> {
        self.doubts.iter().find_map(|doubt| {
            let mut read = self.acks.iter().filter(|(_, offset)| *offset >= start);
            read.find_map(|(at, offset)| {
                let epoch = self.epoch_of(*offset)?;
                let due = *at < doubt.asked_us && epoch <= doubt.epoch;
                (due && *offset >= doubt.told).then_some((doubt, *offset, epoch))
            })
        })
    }
}

/// Values by the time from which on they hold, us.
#[derive(Default)]
struct Since<T>(VecDeque<(u64, T)>);

impl<T: Copy + Default> Since<T> {
    fn note(&mut self, now_us: u64, stale_us: u64, value: T) {
        let sure_us = now_us.saturating_sub(stale_us);
        while self.0.get(1).is_some_and(|(at, _)| *at <= sure_us) {
            self.0.pop_front();
        }
        self.0.push_back((now_us, value));
    }

    /// The newest that held at a time.
    fn at(&self, us: u64) -> T {
        let before = self.0.iter().rev().find(|(at, _)| *at <= us);
        before.map_or(T::default(), |(_, value)| *value)
    }
}

#[derive(Default)]
struct Committed {
    acked: i64,
    /// Sent without an answer: may have happened, or happen still.
    unknown: BTreeSet<i64>,
}

/// An event of the story.
struct Told {
    first_us: u64,
    last_us: u64,
    times: u32,
    event: String,
    /// A fault or a start. Nothing is counted across it.
    is_fate: bool,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10} us  {}", self.first_us, self.event)?;
        match self.times {
            1 => Ok(()),
            times => write!(f, " ... x {times}, until {} us", self.last_us),
        }
    }
}

/// All that was sent and answered in one simulation.
#[derive(Default)]
pub(super) struct History {
    values: BTreeMap<Value, SentValue>,
    partitions: BTreeMap<Place, PartitionHistory>,
    committed: BTreeMap<(String, i32), Committed>,
    producer_ids: BTreeSet<(i64, i16)>,
    /// Topics whose deletion was asked for, answered or not; and those where it was acknowledged.
    doomed: BTreeSet<Uuid>,
    gone: BTreeSet<Uuid>,
    story: VecDeque<Told>,
    /// Faults and starts that the story has forgotten: few, and always told.
    old_fates: Vec<Told>,
    violation: Option<(Violation, String)>,
    /// Virtual time of the event under way, us.
    pub now_us: u64,
    /// How long a leader that was deposed may answer from what it knew, us. 0 for a single node.
    pub stale_us: u64,
    /// How often things happened, so that a quiet simulation is noticed.
    pub counts: BTreeMap<&'static str, u64>,
}

/// The high watermark that a leader of an epoch has to know, of what was told until then.
pub(super) fn served_up_to(told: &BTreeMap<Place, Served>, place: Place, epoch: i32) -> i64 {
    told.get(&place).map_or(0, |served| up_to(served, epoch))
}

fn up_to(served: &Served, epoch: i32) -> i64 {
    let marks = served.range(..=epoch).map(|(_, (_, told))| *told);
    marks.max().unwrap_or(0)
}

impl History {
    /// Adds to the story.
    pub fn tell(&mut self, event: impl FnOnce() -> String) {
        self.add(event(), false);
    }

    /// Adds a fault or a start to the story.
    pub fn tell_fate(&mut self, event: String) {
        self.add(event, true);
    }

    fn add(&mut self, event: String, is_fate: bool) {
        let recent = self.story.iter_mut().rev().take(REPEATED_WITHIN);
        let mut recent = recent.take_while(|told| !told.is_fate);
        if let Some(told) = recent.find(|told| told.event == event && !is_fate) {
            told.times += 1;
            told.last_us = self.now_us;
            return;
        }
        if self.story.len() == STORY_EVENTS {
            let forgotten = self.story.pop_front().filter(|told| told.is_fate);
            self.old_fates.extend(forgotten);
        }
        self.story.push_back(Told {
            first_us: self.now_us,
            last_us: self.now_us,
            times: 1,
            event,
            is_fate,
        });
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The first one is kept.
    pub fn violate(&mut self, violation: Violation, details: String) {
        self.tell(|| format!("VIOLATION: {violation}: {details}"));
        self.violation.get_or_insert((violation, details));
    }

    pub fn violation(&self) -> Option<&(Violation, String)> {
        self.violation.as_ref()
    }

    pub fn story(&self) -> Vec<String> {
        let told = self.old_fates.iter().chain(&self.story);
        told.map(Told::to_string).collect()
    }

    /// Every error code of every answer comes by here.
    pub fn code(&mut self, api: &'static str, code: ErrorCode) -> ErrorCode {
        if code == ErrorCode::UNKNOWN_SERVER_ERROR {
            let what = format!("{api} was answered with UNKNOWN_SERVER_ERROR");
            self.violate(Violation::WrongAnswer, what);
        }
        if code != ErrorCode::NONE {
            self.count(code.name());
            self.tell(|| format!("{api} was answered with {code}"));
        }
        code
    }

    // --- values ------------------------------------------------------------------------------

    /// A value leaves its producer, for the first time or again.
    pub fn sent(&mut self, value: Value, place: Place, idempotent: bool) {
        let new = SentValue {
            place,
            idempotent,
            attempts: 0,
            fate: Fate::Unknown,
            offset: None,
        };
        let sent = self.values.entry(value).or_insert(new);
        sent.attempts += 1;
    }

    /// A value was refused for good: it was sent once and the code says that it was not written.
    pub fn refused(&mut self, value: Value, code: ErrorCode) {
        let sent = self
            .values
            .get_mut(&value)
            .expect("refused values were sent");
        if sent.attempts > 1 {
            return;
        }
        sent.fate = Fate::Refused;
        if let Some(offset) = sent.offset {
            self.violate(
                Violation::RefusedAndWritten,
                format!("{value:?} stands at offset {offset} and was refused with {code}"),
            );
        }
    }

    /// A value was acknowledged at this offset.
    pub fn acked(&mut self, value: Value, offset: i64) {
        let sent = self
            .values
            .get_mut(&value)
            .expect("acknowledged values were sent");
        sent.fate = Fate::Acked;
        let (place, once) = (sent.place, sent.attempts == 1);
        self.seen(place, offset, value, "acknowledged");
        let partition = self.partitions.entry(place).or_default();
        if once {
            partition.acks.push((self.now_us, offset));
        }
        partition.floor.high_watermark = partition.floor.high_watermark.max(offset + 1);
        let floor = partition.floor;
        partition.floors.note(self.now_us, self.stale_us, floor);
        self.count("acknowledged");
    }

    /// One value per offset, one offset per idempotent value.
    fn seen(&mut self, place: Place, offset: i64, value: Value, how: &str) {
        let partition = self.partitions.entry(place).or_default();
        let there = *partition.at.entry(offset).or_insert(value);
        if there != value {
            let (topic, number) = place;
            return self.violate(Violation::OffsetTakenTwice, format!(
                "{topic}/{number} offset {offset}: {value:?} is {how} where {there:?} was before"
            ));
        }
        let Some(sent) = self.values.get_mut(&value) else {
            return self.violate(
                Violation::NeverSent,
                format!("{value:?} is {how} at offset {offset} and was never sent"),
            );
        };
        let known = *sent.offset.get_or_insert(offset);
        let (idempotent, attempts, fate) = (sent.idempotent, sent.attempts, sent.fate);
        if sent.place != place {
            let home = sent.place;
            self.violate(
                Violation::NeverSent,
                format!("{value:?} was sent to {home:?} and is {how} in {place:?}"),
            );
        } else if fate == Fate::Refused {
            self.violate(
                Violation::RefusedAndWritten,
                format!("{value:?} was refused for good and is {how} at offset {offset}"),
            );
        } else if known != offset && (idempotent || attempts == 1) {
            self.violate(Violation::WrittenTwice, format!(
                "{value:?} is {how} at offset {offset}, and stands at {known}: sent {attempts} times, idempotent: \
                 {idempotent}"
            ));
        }
    }

    // --- reading -----------------------------------------------------------------------------

    /// What must not go back from now on: taken before a request leaves.
    pub fn floor(&self, place: Place) -> Floor {
        let Some(partition) = self.partitions.get(&place) else {
            return Floor::default();
        };
        match self.stale_us {
            0 => partition.floor,
            stale_us => partition.floors.at(self.now_us.saturating_sub(stale_us)),
        }
    }

    /// A node says who leads a partition in an epoch.
    pub fn leads(&mut self, place: Place, epoch: i32, node: usize) {
        let served = &mut self.partitions.entry(place).or_default().served;
        let (leader, _) = *served.entry(epoch).or_insert((node, 0));
        if leader != node {
            let what = format!("epoch {epoch} of {place:?}: node {leader}, and node {node}");
            self.violate(Violation::TwoLeaders, what);
        }
    }

    /// The high watermark that a leader of an epoch has to know by now: taken before a request leaves.
    pub fn served_floor(&self, place: Place, epoch: i32) -> i64 {
        let partition = self.partitions.get(&place);
        partition.map_or(0, |partition| up_to(&partition.served, epoch))
    }

    /// The same of all partitions and epochs.
    pub fn served_by_now(&self) -> BTreeMap<Place, Served> {
        let partitions = self.partitions.iter();
        let served = partitions.map(|(place, partition)| (*place, partition.served.clone()));
        served.collect()
    }

    /// A node answered as the leader of an epoch, whatever it may have missed since.
    pub fn served(
        &mut self,
        place: Place,
        epoch: i32,
        node: usize,
        asked_us: u64,
        before: i64,
        told: i64,
    ) {
        self.leads(place, epoch, node);
        let partition = self.partitions.entry(place).or_default();
        let mark = partition.served.get_mut(&epoch).expect("entered above");
        mark.1 = mark.1.max(told);
        let acked = partition.acks.iter().rev();
        let mut acked = acked.filter(|(at, _)| *at < asked_us);
        if acked.any(|(_, offset)| *offset >= told) {
            partition.doubts.push(Doubt {
                asked_us,
                epoch,
                node,
                told,
            });
        }
        if told < before {
            let what = format!(
                "the high watermark of {place:?} is {told} in epoch {epoch}; it was {before} in that or an earlier one"
            );
            self.violate(Violation::WentBack, what);
        }
        self.count("answers in a known epoch");
    }

    /// An answer said where a partition stands. -1 for what it did not say.
    pub fn stands(&mut self, api: &str, place: Place, before: Floor, told: Floor) {
        let partition = self.partitions.entry(place).or_default();
        let floor = &mut partition.floor;
        floor.high_watermark = floor.high_watermark.max(told.high_watermark);
        floor.log_start = floor.log_start.max(told.log_start);
        floor.leader_epoch = floor.leader_epoch.max(told.leader_epoch);
        let floor = *floor;
        partition.floors.note(self.now_us, self.stale_us, floor);
        let deletable = partition.deletable;
        let below = |told: i64, before: i64| told >= 0 && told < before;
        let back = below(told.high_watermark, before.high_watermark)
            || below(told.log_start, before.log_start)
            || below(told.leader_epoch.into(), before.leader_epoch.into());
        if back {
            self.violate(
                Violation::WentBack,
                format!("{api} went back on {place:?}: {told:?} after {before:?}"),
            );
        }
        if told.log_start > deletable {
            self.violate(Violation::DeletedUnasked, format!(
                "{api}: the log of {place:?} begins at {}; nothing above {deletable} was ever to be deleted",
                told.log_start
            ));
        }
    }

    /// Records up to `offset` were asked to be deleted.
    pub fn deletable(&mut self, place: Place, offset: i64) {
        let partition = self.partitions.entry(place).or_default();
        partition.deletable = partition.deletable.max(offset);
    }

    /// Whether everything that was ever acknowledged in this partition has to be there.
    pub fn keeps_all(&self, place: Place) -> bool {
        !self.doomed.contains(&place.0)
            && self
                .partitions
                .get(&place)
                .is_none_or(|partition| partition.deletable == 0)
    }

    /// Judges fetched bytes. Returns the offset after the last record, `from` if there is none.
    pub fn fetched(&mut self, place: Place, from: i64, bytes: Bytes) -> i64 {
        let mut next = from;
        for batch in records::split(bytes) {
            let Ok(batch) = batch else {
                // Cut off by the size limit: only the last one may be.
                return next;
            };
            if let Err(error) = batch.view().check_crc() {
                self.violate(
                    Violation::Damaged,
                    format!(
                        "a batch at {} of {place:?}: {error}",
                        batch.view().base_offset()
                    ),
                );
                return next;
            }
            let (base, epoch) = (
                batch.view().base_offset(),
                batch.view().partition_leader_epoch(),
            );
            self.epoch_at(place, base, epoch);
            let mut budget = Budget::new(DECOMPRESSED_BYTES_MAX);
            let Ok(records) = records::records(&batch, &mut budget) else {
                self.violate(
                    Violation::Damaged,
                    format!("the batch at {base} of {place:?} cannot be read"),
                );
                return next;
            };
            for record in records {
                let value = record
                    .ok()
                    .and_then(|record| Some((record.offset, record.value?)));
                let Some((offset, value)) = value else {
                    self.violate(
                        Violation::Damaged,
                        format!("a record behind {base} of {place:?} cannot be read"),
                    );
                    return next;
                };
                if offset < from {
                    continue;
                }
                if offset != next {
                    self.violate(
                        Violation::Gap,
                        format!("{place:?} goes from offset {next} to {offset}"),
                    );
                }
                next = offset + 1;
                match Value::decode(&value) {
                    Some(value) => self.seen(place, offset, value, "read"),
                    None => self.violate(
                        Violation::NeverSent,
                        format!("nobody sent what {place:?} has at {offset}"),
                    ),
                }
                self.count("read");
            }
        }
        next
    }

    /// Leader epochs of records: never smaller at a larger offset, never another one later.
    fn epoch_at(&mut self, place: Place, offset: i64, epoch: i32) {
        let epochs = &mut self.partitions.entry(place).or_default().epochs;
        let before = epochs.range(..=offset).next_back().map(|(_, epoch)| *epoch);
        let after = epochs.range(offset..).next().map(|(_, epoch)| *epoch);
        if before.is_some_and(|before| before > epoch) || after.is_some_and(|after| after < epoch) {
            self.violate(Violation::EpochsDisordered, format!(
                "{place:?} has leader epoch {epoch} at {offset}, between {before:?} and {after:?}"
            ));
        } else {
            self.partitions
                .entry(place)
                .or_default()
                .epochs
                .insert(offset, epoch);
        }
    }

    /// Judges a complete reading of a partition from `start` to `end`. False if a leader that was deposed and does not
    /// know it may have answered: `floor` is the least that anybody could know when it was begun.
    pub fn read_whole(&mut self, place: Place, start: i64, end: i64, floor: Floor) -> bool {
        let lost = self.values.iter().find(|(_, sent)| {
            let offset = sent.offset.unwrap_or(-1);
            sent.place == place && sent.fate == Fate::Acked && offset >= start && offset >= end
        });
        if let Some((value, sent)) = lost {
            let offset = sent.offset;
            if end >= floor.high_watermark {
                return false;
            }
            let told = format!(
                "{value:?} was acknowledged at {offset:?} of {place:?}, which ends at {end}"
            );
            self.violate(Violation::Lost, told);
            return true;
        }
        let partition = self.partitions.entry(place).or_default();
        if let Some((doubt, offset, epoch)) = partition.unknown_ack(start) {
            let Doubt {
                epoch: later,
                node,
                told,
                ..
            } = doubt;
            let what = format!(
                "node {} told a high watermark of {told} of {place:?} in epoch {later}; offset {offset}, of epoch \
                 {epoch}, had been acknowledged before it was asked",
                node + 1
            );
            self.violate(Violation::WentBack, what);
            return true;
        }
        let mut last: BTreeMap<u32, (i64, u32)> = BTreeMap::new();
        let mut disordered = None;
        for (offset, value) in &partition.at {
            let sent = self.values.get(value);
            if sent.is_none_or(|sent| !sent.idempotent) {
                continue;
            }
            if let Some(before) = last.insert(value.producer, (*offset, value.number))
                && before.1 >= value.number
            {
                disordered = Some((before, *offset, *value));
            }
        }
        if let Some((before, offset, value)) = disordered {
            self.violate(
                Violation::OutOfOrder,
                format!(
                    "{place:?} offset {offset}: {value:?} stands behind number {} at {}",
                    before.1, before.0
                ),
            );
        }
        true
    }

    /// What was sent once and acknowledged at this offset: it has been in one log, and has not been taken back.
    pub fn was_acked_at_once(&self, place: Place, offset: i64) -> bool {
        let partition = self.partitions.get(&place);
        partition.is_some_and(|partition| partition.acks.iter().any(|(_, acked)| *acked == offset))
    }

    /// Most disks are lost. All that was told may be taken back, but for the values at these offsets: they have to stand
    /// there, and every other one may, where it was sent to.
    pub fn begin_anew(&mut self, kept: &BTreeMap<Place, BTreeSet<i64>>) {
        for sent in self.values.values_mut() {
            sent.offset = None;
            if sent.fate == Fate::Acked {
                sent.fate = Fate::Unknown;
            }
        }
        for (place, partition) in &mut self.partitions {
            let kept = kept.get(place);
            let mut at = std::mem::take(&mut partition.at);
            at.retain(|offset, _| kept.is_some_and(|kept| kept.contains(offset)));
            for (offset, value) in &at {
                if let Some(sent) = self.values.get_mut(value) {
                    (sent.offset, sent.fate) = (Some(*offset), Fate::Acked);
                }
            }
            *partition = PartitionHistory {
                at,
                deletable: partition.deletable,
                ..PartitionHistory::default()
            };
        }
        self.committed.clear();
        self.producer_ids.clear();
    }

    // --- groups, ids, topics --------------------------------------------------------------------

    /// A commit leaves its client.
    pub fn committing(&mut self, group: &str, partition: i32, offset: i64) {
        let committed = self
            .committed
            .entry((group.to_owned(), partition))
            .or_default();
        committed.unknown.insert(offset);
    }

    pub fn committed(&mut self, group: &str, partition: i32, offset: i64) {
        let committed = self
            .committed
            .entry((group.to_owned(), partition))
            .or_default();
        committed.unknown.remove(&offset);
        committed.acked = committed.acked.max(offset);
        self.count("committed");
    }

    /// A commit was refused, so it has not happened.
    pub fn not_committed(&mut self, group: &str, partition: i32, offset: i64) {
        let committed = self
            .committed
            .entry((group.to_owned(), partition))
            .or_default();
        committed.unknown.remove(&offset);
    }

    /// The newest acknowledged commit: taken before a request leaves. Whoever answers has proved by then that he leads.
    pub fn committed_floor(&self, group: &str, partition: i32) -> i64 {
        let committed = self.committed.get(&(group.to_owned(), partition));
        committed.map_or(0, |committed| committed.acked)
    }

    /// A committed offset was read; -1 for none. Commits of a group only grow here.
    pub fn offset_fetched(&mut self, group: &str, partition: i32, offset: i64, before: i64) {
        let committed = self
            .committed
            .entry((group.to_owned(), partition))
            .or_default();
        let possible = committed.unknown.contains(&offset);
        let invented = offset.max(0) > committed.acked && !possible;
        if (offset.max(0) < before && !possible) || invented {
            let acked = committed.acked;
            let violation = match invented {
                true => Violation::OffsetInvented,
                false => Violation::WentBack,
            };
            self.violate(violation, format!(
                "group {group} partition {partition} has offset {offset}; {before} was acknowledged, by now {acked}"
            ));
        }
        self.count("offsets fetched");
    }

    /// A producer id was given out.
    pub fn producer_id(&mut self, id: i64, epoch: i16) {
        if !self.producer_ids.insert((id, epoch)) {
            self.violate(
                Violation::IdGivenTwice,
                format!("producer id {id} epoch {epoch} was given out twice"),
            );
        }
    }

    pub fn deleting(&mut self, topic: Uuid) {
        self.doomed.insert(topic);
    }

    pub fn deleted(&mut self, topic: Uuid) {
        self.gone.insert(topic);
        self.count("topics deleted");
    }

    /// Topics whose deletion was acknowledged so far.
    pub fn gone(&self) -> BTreeSet<Uuid> {
        self.gone.clone()
    }

    pub fn is_doomed(&self, topic: Uuid) -> bool {
        self.doomed.contains(&topic)
    }
}
