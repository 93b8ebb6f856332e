//! What a partition remembers of its idempotent producers (KIP-98, KIP-360).
//!
//! For each producer id: the epoch, and the last [`WINDOW`] batches with the offsets they were given, so that
//! a retry is answered with its original offset and a gap is refused. Clients keep at most five requests in
//! flight per connection, hence five.
//!
//! The state follows the *log*, not the acknowledgements: [`Producers::appended`] is called when the leader
//! puts a batch at the end of its log, and for every entry when a replica replays its log. Batches above the
//! commit index are kept beyond the window, so that [`Producers::truncate`] can take them back without
//! forgetting older ones. Deliberately absent: clocks, I/O, transactions (an open transaction will be a
//! neighbour of this file, not a part of it).

use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Batches remembered per producer; `max.in.flight.requests.per.connection` of an idempotent client is at
/// most this.
pub const WINDOW: usize = 5;

/// Refused producers remembered per partition; beyond that a refusal is not remembered.
const REFUSED_MAX: usize = 1_000;

/// Bytes of one producer in a snapshot before its batches: id, epoch, last seen, batch count.
const PRODUCER_HEADER_BYTES: usize = 8 + 2 + 8 + 1;
/// Bytes of one batch in a snapshot: first and last sequence, base offset, raft index.
const BATCH_BYTES: usize = 4 + 4 + 8 + 8;
const SNAPSHOT_VERSION: u8 = 1;

/// The producer fields of a batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// -1 for a batch outside any sequence (control batches).
    pub base_sequence: i32,
    /// Records in the batch, at least 1.
    pub record_count: i32,
}

impl ProducerBatch {
    /// The sequence of the last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        wrapping_sequence(self.base_sequence, self.record_count - 1)
    }
}

/// What to do with a batch that a producer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Next in its sequence: append it.
    Append,
    /// Already in the log: answer with the original offset, once `index` is committed.
    Duplicate { base_offset: i64, index: u64 },
    /// A gap or a batch from before the window (OUT_OF_ORDER_SEQUENCE_NUMBER).
    OutOfOrder { expected: i32 },
    /// A newer instance of this producer has written here (INVALID_PRODUCER_EPOCH).
    Fenced { current_epoch: i16 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remembered {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    index: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Oldest first. Never empty.
    batches: VecDeque<Remembered>,
    /// Wall time of the newest batch, ms; decides expiry.
    last_seen_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused {
    epoch: i16,
    sequence: i32,
    wall_ms: i64,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// By id: the earliest batch that was refused for now, of producers without state.
    refused: BTreeMap<i64, Refused>,
    /// The window is zero: see [`Producers::forget_retries`].
    forgetful: bool,
}

/// A snapshot that cannot be read; the partition then rebuilds its producers from the whole log.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    #[error("producer snapshot of version {0}; this build reads version {SNAPSHOT_VERSION}")]
    Version(u8),
    #[error("producer snapshot ends inside a record")]
    Truncated,
}

impl Producers {
    /// Recognises no retry from now on, as if the window were zero. A known bug on demand: the simulator
    /// shows that it would find it.
    pub fn forget_retries(&mut self) {
        self.forgetful = true;
    }

    /// Producers remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.refused.is_empty()
    }

    /// Judges a batch against the end of the log. Nothing changes until [`Producers::appended`].
    ///
    /// A producer id without state is accepted at any sequence, as in Kafka: its state may have expired or
    /// its records may have left by retention. But not ahead of a batch that was [refused](Self::refused).
    pub fn judge(&self, batch: &ProducerBatch) -> Verdict {
        let Some(producer) = self.by_id.get(&batch.producer_id) else {
            let refused = self.refused.get(&batch.producer_id);
            return match refused.filter(|refused| refused.is_before(batch)) {
                Some(refused) => Verdict::OutOfOrder {
                    expected: refused.sequence,
                },
                None => Verdict::Append,
            };
        };
        if batch.producer_epoch < producer.epoch {
            return Verdict::Fenced {
                current_epoch: producer.epoch,
            };
        }
        if batch.producer_epoch > producer.epoch {
            return match batch.base_sequence {
                0 | -1 => Verdict::Append,
                _ => Verdict::OutOfOrder { expected: 0 },
            };
        }
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        let expected = match producer.batches.back() {
            Some(newest) => wrapping_sequence(newest.last_sequence, 1),
            None => 0,
        };
        // The usual case first. It is no retry: between two equal sequences lie two billion records.
        if first == expected || first == -1 {
            return Verdict::Append;
        }
        let mut known = producer.batches.iter().filter(|_| !self.forgetful);
        match known.find(|known| known.first_sequence == first && known.last_sequence == last) {
            Some(known) => Verdict::Duplicate {
                base_offset: known.base_offset,
                index: known.index,
            },
            None => Verdict::OutOfOrder { expected },
        }
    }

    /// Takes note of a batch that was not appended and will be sent again: the journal had no room, or the
    /// partition did not serve yet. Those sent behind it must not be appended first. Of a producer without state
    /// nothing else would tell, and the refused batch could never follow them.
    pub fn refused(&mut self, batch: &ProducerBatch, wall_ms: i64) {
        let known = self.refused.get(&batch.producer_id);
        let has_room = known.is_some() || self.refused.len() < REFUSED_MAX;
        if self.by_id.contains_key(&batch.producer_id)
            || known.is_some_and(|known| known.is_before(batch))
            || batch.base_sequence < 0
            || !has_room
        {
            return;
        }
        let refused = Refused {
            epoch: batch.producer_epoch,
            sequence: batch.base_sequence,
            wall_ms,
        };
        self.refused.insert(batch.producer_id, refused);
    }

    /// Takes note of a batch that is now in the log at `index`. `committed` is the commit index: batches
    /// above it stay beyond the window until they are committed or truncated.
    pub fn appended(
        &mut self,
        batch: &ProducerBatch,
        base_offset: i64,
        index: u64,
        committed: u64,
        wall_ms: i64,
    ) {
        self.refused.remove(&batch.producer_id);
        let producer = self
            .by_id
            .entry(batch.producer_id)
            .or_insert_with(|| Producer {
                epoch: batch.producer_epoch,
                batches: VecDeque::with_capacity(WINDOW),
                last_seen_ms: wall_ms,
            });
        if batch.producer_epoch != producer.epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        producer.last_seen_ms = wall_ms;
        producer.batches.push_back(Remembered {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset,
            index,
        });
        // One more than the window is committed: the oldest is not needed any more.
        while producer
            .batches
            .get(WINDOW)
            .is_some_and(|batch| batch.index <= committed)
        {
            producer.batches.pop_front();
        }
    }

    /// Forgets what lay above `last_index`, which a new leader has replaced. The epoch that a truncated
    /// batch brought is forgotten with it only if nothing older is known, so a caller that truncates
    /// across an epoch bump rebuilds from the log instead.
    pub fn truncate(&mut self, last_index: u64) {
        self.by_id.retain(|_, producer| {
            producer.batches.retain(|batch| batch.index <= last_index);
            !producer.batches.is_empty()
        });
    }

    /// Forgets producers that have not written for `expiration_ms` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, wall_ms: i64, expiration_ms: i64, committed: u64) {
        self.refused
            .retain(|_, refused| wall_ms.saturating_sub(refused.wall_ms) < expiration_ms);
        self.by_id.retain(|_, producer| {
            wall_ms.saturating_sub(producer.last_seen_ms) < expiration_ms
                || producer
                    .batches
                    .back()
                    .is_some_and(|batch| batch.index > committed)
        });
    }

    /// Producers without a batch above the commit index, with when each was last seen (wall time, ms).
    pub fn idle(&self, committed: u64) -> impl Iterator<Item = (i64, i64)> {
        let idle = self.by_id.iter().filter(move |(_, producer)| {
            let newest = producer.batches.back();
            newest.is_none_or(|batch| batch.index <= committed)
        });
        idle.map(|(id, producer)| (*id, producer.last_seen_ms))
    }

    /// Forgets a producer: its next batch is taken at any sequence, as that of a new one.
    pub fn forget(&mut self, producer_id: i64) {
        self.by_id.remove(&producer_id);
    }

    /// The state as of `applied`: what a checkpoint stores. Batches above it are left out, since the
    /// replay that follows brings them again.
    pub fn snapshot(&self, applied: u64) -> Vec<u8> {
        let mut out = vec![SNAPSHOT_VERSION];
        for (producer_id, producer) in &self.by_id {
            let known: Vec<&Remembered> = producer
                .batches
                .iter()
                .filter(|batch| batch.index <= applied)
                .collect();
            let known = &known[known.len().saturating_sub(WINDOW)..];
            if known.is_empty() {
                continue;
            }
            out.extend_from_slice(&producer_id.to_le_bytes());
            out.extend_from_slice(&producer.epoch.to_le_bytes());
            out.extend_from_slice(&producer.last_seen_ms.to_le_bytes());
            out.push(known.len() as u8);
            for batch in known {
                out.extend_from_slice(&batch.first_sequence.to_le_bytes());
                out.extend_from_slice(&batch.last_sequence.to_le_bytes());
                out.extend_from_slice(&batch.base_offset.to_le_bytes());
                out.extend_from_slice(&batch.index.to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`Producers::snapshot`] wrote. An empty slice is an empty state.
    pub fn restore(bytes: &[u8]) -> Result<Producers, SnapshotError> {
        let Some((version, mut rest)) = bytes.split_first() else {
            return Ok(Producers::default());
        };
        if *version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version(*version));
        }
        let mut by_id = BTreeMap::new();
        while !rest.is_empty() {
            if rest.len() < PRODUCER_HEADER_BYTES {
                return Err(SnapshotError::Truncated);
            }
            let producer_id = i64::from_le_bytes(take(&mut rest));
            let epoch = i16::from_le_bytes(take(&mut rest));
            let last_seen_ms = i64::from_le_bytes(take(&mut rest));
            let [count] = take::<1>(&mut rest);
            if rest.len() < count as usize * BATCH_BYTES {
                return Err(SnapshotError::Truncated);
            }
            let batches = (0..count)
                .map(|_| Remembered {
                    first_sequence: i32::from_le_bytes(take(&mut rest)),
                    last_sequence: i32::from_le_bytes(take(&mut rest)),
                    base_offset: i64::from_le_bytes(take(&mut rest)),
                    index: u64::from_le_bytes(take(&mut rest)),
                })
                .collect();
            by_id.insert(
                producer_id,
                Producer {
                    epoch,
                    batches,
                    last_seen_ms,
                },
            );
        }
        Ok(Producers {
            by_id,
            ..Producers::default()
        })
    }
}

impl Refused {
    /// Whether `batch` comes behind it in the same sequence.
    fn is_before(&self, batch: &ProducerBatch) -> bool {
        let steps = batch.base_sequence.wrapping_sub(self.sequence) & i32::MAX;
        self.epoch == batch.producer_epoch && (1..=i32::MAX / 2).contains(&steps)
    }
}

/// Splits `N` bytes off the front. The caller has checked the length.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, tail) = rest
        .split_first_chunk::<N>()
        .expect("length was checked by the caller");
    *rest = tail;
    *head
}

/// `sequence + steps`, wrapping from `i32::MAX` to 0 as Kafka's sequences do.
fn wrapping_sequence(sequence: i32, steps: i32) -> i32 {
    if sequence < 0 {
        return sequence;
    }
    ((i64::from(sequence) + i64::from(steps)) % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base_sequence: i32, record_count: i32) -> ProducerBatch {
        ProducerBatch {
            producer_id: 7,
            producer_epoch: 0,
            base_sequence,
            record_count,
        }
    }

    fn append(producers: &mut Producers, batch: ProducerBatch, base_offset: i64, index: u64) {
        assert_eq!(producers.judge(&batch), Verdict::Append);
        producers.appended(&batch, base_offset, index, index, 0);
    }

    #[test]
    fn a_retry_inside_the_window_gets_its_original_offset() {
        let mut producers = Producers::default();
        for i in 0..8 {
            append(
                &mut producers,
                batch(i * 10, 10),
                i64::from(i) * 10 + 100,
                i as u64 + 1,
            );
        }
        for i in 3..8 {
            let verdict = producers.judge(&batch(i * 10, 10));
            let base_offset = i64::from(i) * 10 + 100;
            assert_eq!(
                verdict,
                Verdict::Duplicate {
                    base_offset,
                    index: i as u64 + 1
                }
            );
        }
        assert_eq!(
            producers.judge(&batch(20, 10)),
            Verdict::OutOfOrder { expected: 80 }
        );
    }

    #[test]
    fn a_gap_is_refused_and_an_unknown_producer_is_not() {
        let mut producers = Producers::default();
        append(&mut producers, batch(40, 1), 0, 1);
        assert_eq!(
            producers.judge(&batch(42, 1)),
            Verdict::OutOfOrder { expected: 41 }
        );
        assert_eq!(producers.judge(&batch(41, 1)), Verdict::Append);
    }

    #[test]
    fn nothing_overtakes_a_refused_batch_of_an_unknown_producer() {
        let mut producers = Producers::default();
        let behind_five = Verdict::OutOfOrder { expected: 5 };
        producers.refused(&batch(5, 2), 1_000);
        assert_eq!(producers.judge(&batch(7, 1)), behind_five);
        producers.refused(&batch(7, 1), 1_000);
        assert_eq!(producers.judge(&batch(8, 1)), behind_five);
        let other = ProducerBatch {
            producer_id: 8,
            ..batch(7, 1)
        };
        assert_eq!(producers.judge(&other), Verdict::Append);
        append(&mut producers, batch(5, 2), 0, 1);
        append(&mut producers, batch(7, 1), 2, 2);
        // Known now: what was refused once says nothing any more.
        producers.refused(&batch(8, 1), 1_000);
        assert_eq!(producers.judge(&batch(8, 1)), Verdict::Append);
    }

    #[test]
    fn refusals_expire_and_are_counted_out() {
        let mut producers = Producers::default();
        producers.refused(&batch(i32::MAX, 1), 1_000);
        let wrapped = Verdict::OutOfOrder { expected: i32::MAX };
        assert_eq!(producers.judge(&batch(0, 1)), wrapped);
        producers.expire(2_000, 1_000, 0);
        assert!(producers.is_empty());
        assert_eq!(producers.judge(&batch(0, 1)), Verdict::Append);
        for producer_id in 0..2 * REFUSED_MAX as i64 {
            let batch = ProducerBatch {
                producer_id,
                ..batch(0, 1)
            };
            producers.refused(&batch, 1_000);
        }
        assert_eq!(producers.refused.len(), REFUSED_MAX);
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero() {
        let mut producers = Producers::default();
        let at = |producer_epoch, base_sequence| ProducerBatch {
            producer_id: 7,
            producer_epoch,
            base_sequence,
            record_count: 1,
        };
        append(&mut producers, at(3, 0), 0, 1);
        assert_eq!(
            producers.judge(&at(2, 1)),
            Verdict::Fenced { current_epoch: 3 }
        );
        assert_eq!(
            producers.judge(&at(4, 1)),
            Verdict::OutOfOrder { expected: 0 }
        );
        append(&mut producers, at(4, 0), 1, 2);
        assert_eq!(producers.judge(&at(4, 1)), Verdict::Append);
        assert_eq!(
            producers.judge(&at(3, 1)),
            Verdict::Fenced { current_epoch: 4 }
        );
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        append(&mut producers, batch(i32::MAX - 1, 3), 0, 1);
        assert_eq!(producers.judge(&batch(1, 1)), Verdict::Append);
        assert_eq!(
            producers.judge(&batch(2, 1)),
            Verdict::OutOfOrder { expected: 1 }
        );
    }

    #[test]
    fn uncommitted_batches_can_be_taken_back_without_forgetting_the_window() {
        let mut producers = Producers::default();
        for i in 0..5 {
            producers.appended(&batch(i, 1), i64::from(i), i as u64 + 1, i as u64 + 1, 0);
        }
        for i in 5..9 {
            producers.appended(&batch(i, 1), i64::from(i), i as u64 + 1, 5, 0);
        }
        producers.truncate(5);
        for i in 0..5 {
            let verdict = producers.judge(&batch(i, 1));
            let expected = Verdict::Duplicate {
                base_offset: i64::from(i),
                index: i as u64 + 1,
            };
            assert_eq!(verdict, expected);
        }
        assert_eq!(producers.judge(&batch(5, 1)), Verdict::Append);
    }

    #[test]
    fn a_snapshot_restores_what_was_applied_and_nothing_above() {
        let mut producers = Producers::default();
        for i in 0..7 {
            producers.appended(&batch(i, 1), i64::from(i), i as u64 + 1, i as u64 + 1, 9);
        }
        let restored = Producers::restore(&producers.snapshot(7)).expect("own snapshot");
        assert_eq!(restored, producers);
        let mut earlier = Producers::restore(&producers.snapshot(6)).expect("own snapshot");
        assert_eq!(earlier.judge(&batch(6, 1)), Verdict::Append);
        earlier.appended(&batch(6, 1), 6, 7, 7, 9);
        assert_eq!(earlier.judge(&batch(6, 1)), producers.judge(&batch(6, 1)));
        let snapshot = producers.snapshot(7);
        for cut in 1..snapshot.len() {
            let short = Producers::restore(&snapshot[..cut]);
            assert!(
                cut == 1 || short == Err(SnapshotError::Truncated),
                "cut at {cut}"
            );
        }
        assert_eq!(Producers::restore(&[9]), Err(SnapshotError::Version(9)));
    }

    #[test]
    fn silent_producers_expire_unless_a_batch_is_in_flight() {
        let mut producers = Producers::default();
        producers.appended(&batch(0, 1), 0, 1, 1, 1_000);
        producers.expire(1_999, 1_000, 1);
        assert_eq!(producers.len(), 1);
        producers.expire(2_000, 1_000, 0);
        assert_eq!(
            producers.len(),
            1,
            "the batch at index 1 is not committed yet"
        );
        producers.expire(2_000, 1_000, 1);
        assert!(producers.is_empty());
    }
}
