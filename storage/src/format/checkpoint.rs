//! The checkpoint of a core: per partition, what its journal need not tell any more.
//!
//! ```text
//!  0 magic "cckp"   4 crc u32 (8..)   8 version u32   12 core u32   16 cores u32   20 records u32
//! 24 number u64    32 replay from u64 40 begun at u64  then the records, one after another
//! ```
//! Two files alternate, so the previous checkpoint survives whatever happens to the newest.

use bytes::Bytes;

use super::VERSION;
use super::codec::{Damaged, Reader, Writer, get_u32};
use crate::log::segment::Segment;
use crate::log::terms::{TermRun, TermRuns};
use crate::log::{Condition, HardState};
use crate::partition::PartitionId;

const MAGIC: [u8; 4] = *b"cckp";
/// The least that a record takes: counts are checked against it.
const RECORD_BYTES_MIN: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckpointFile {
    pub core: u32,
    pub cores: u32,
    /// Checkpoints are numbered; the valid one with the highest number counts.
    pub number: u64,
    /// The first journal block that start-up has to read.
    pub replay_from: u64,
    /// The block that was open when the checkpoint was begun: whatever lies in earlier blocks is
    /// in the records, except for undrained entries.
    pub begun_at: u64,
    pub records: Vec<LogRecord>,
    /// Partitions whose directory is still to be removed.
    pub drops: Vec<PartitionId>,
}

/// One log. The entries above `drained` are in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogRecord {
    pub id: PartitionId,
    pub condition: Condition,
    pub hard_state: HardState,
    pub commit: u64,
    pub log_start_offset: i64,
    pub first_index: u64,
    /// The log's last entry when the record was made: the journal must bring it back.
    pub last_index: u64,
    pub last_term: u64,
    pub drained: u64,
    pub drained_offset: i64,
    pub next_generation: u64,
    /// The log's last frame in the journal when the record was made.
    pub chain: u64,
    /// Up to `drained`.
    pub terms: TermRuns,
    pub segments: Vec<Segment>,
    /// (base index, generation) of files that are to be removed.
    pub retired: Vec<(u64, u64)>,
    pub applied: u64,
    /// What the owner has made of the entries up to `applied`.
    pub state: Bytes,
}

impl CheckpointFile {
    /// The checkpoint of a core that has none: everything is in the journal.
    pub fn empty(core: usize, cores: usize) -> CheckpointFile {
        CheckpointFile {
            core: core as u32,
            cores: cores as u32,
            number: 0,
            replay_from: 0,
            begun_at: 0,
            records: Vec::new(),
            drops: Vec::new(),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.bytes.extend_from_slice(&MAGIC);
        w.u32(0);
        w.u32(u32::from(VERSION));
        w.u32(self.core);
        w.u32(self.cores);
        w.u32(self.records.len() as u32);
        w.u64(self.number);
        w.u64(self.replay_from);
        w.u64(self.begun_at);
        for record in &self.records {
            record.encode(&mut w);
        }
        w.u32(self.drops.len() as u32);
        for id in &self.drops {
            w.u128(id.topic);
            w.u32(id.partition);
        }
        let crc = crc32c::crc32c(&w.bytes[8..]);
        w.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        w.bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<CheckpointFile, Damaged> {
        if bytes.len() < 48 || bytes[..4] != MAGIC {
            return Err(Damaged("no checkpoint"));
        }
        if get_u32(bytes, 4) != crc32c::crc32c(&bytes[8..]) {
            return Err(Damaged("checksum of the checkpoint"));
        }
        let mut r = Reader::new(&bytes[8..]);
        if r.u32()? != u32::from(VERSION) {
            return Err(Damaged("checkpoint of another version"));
        }
        let (core, cores) = (r.u32()?, r.u32()?);
        let records = r.u32()? as usize;
        let (number, replay_from, begun_at) = (r.u64()?, r.u64()?, r.u64()?);
        if records
            .checked_mul(RECORD_BYTES_MIN)
            .is_none_or(|bytes| bytes > r.remaining())
        {
            return Err(Damaged("a count beyond the data"));
        }
        let records = (0..records)
            .map(|_| LogRecord::decode(&mut r))
            .collect::<Result<Vec<_>, _>>()?;
        let drops = r.count(20)?;
        let drops = (0..drops)
            .map(|_| {
                Ok(PartitionId {
                    topic: r.u128()?,
                    partition: r.u32()?,
                })
            })
            .collect::<Result<Vec<_>, Damaged>>()?;
        Ok(CheckpointFile {
            core,
            cores,
            number,
            replay_from,
            begun_at,
            records,
            drops,
        })
    }
}

impl LogRecord {
    fn encode(&self, w: &mut Writer) {
        w.u128(self.id.topic);
        w.u32(self.id.partition);
        match &self.condition {
            Condition::Healthy => w.u8(0),
            Condition::Rebuilt => w.u8(1),
            Condition::Fenced(reason) => {
                w.u8(2);
                w.slice(reason.as_bytes());
            }
        }
        let HardState { term, vote, commit } = self.hard_state;
        for v in [term, vote, commit, self.commit, self.first_index] {
            w.u64(v);
        }
        for v in [
            self.last_index,
            self.last_term,
            self.drained,
            self.next_generation,
            self.chain,
        ] {
            w.u64(v);
        }
        w.i64(self.log_start_offset);
        w.i64(self.drained_offset);
        encode_terms(&self.terms, w);
        w.u32(self.segments.len() as u32);
        for segment in &self.segments {
            encode_segment(segment, w);
        }
        w.u32(self.retired.len() as u32);
        for (base_index, generation) in &self.retired {
            w.u64(*base_index);
            w.u64(*generation);
        }
        w.u64(self.applied);
        w.slice(&self.state);
    }

    fn decode(r: &mut Reader<'_>) -> Result<LogRecord, Damaged> {
        let id = PartitionId {
            topic: r.u128()?,
            partition: r.u32()?,
        };
        let condition = match r.u8()? {
            0 => Condition::Healthy,
            1 => Condition::Rebuilt,
            2 => Condition::Fenced(String::from_utf8_lossy(r.slice()?).into_owned()),
            _ => return Err(Damaged("condition of a log")),
        };
        let hard_state = HardState {
            term: r.u64()?,
            vote: r.u64()?,
            commit: r.u64()?,
        };
        let (commit, first_index, last_index, last_term) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let (drained, next_generation, chain) = (r.u64()?, r.u64()?, r.u64()?);
        let (log_start_offset, drained_offset) = (r.i64()?, r.i64()?);
        let terms = decode_terms(r)?;
        let segments = r.count(SEGMENT_BYTES)?;
        let segments = (0..segments)
            .map(|_| decode_segment(r))
            .collect::<Result<Vec<_>, Damaged>>()?;
        let retired = r.count(16)?;
        let retired = (0..retired)
            .map(|_| Ok((r.u64()?, r.u64()?)))
            .collect::<Result<Vec<_>, Damaged>>()?;
        let applied = r.u64()?;
        let state = Bytes::copy_from_slice(r.slice()?);
        Ok(LogRecord {
            id,
            condition,
            hard_state,
            commit,
            log_start_offset,
            first_index,
            last_index,
            last_term,
            drained,
            drained_offset,
            next_generation,
            chain,
            terms,
            segments,
            retired,
            applied,
            state,
        })
    }
}

pub(crate) const SEGMENT_BYTES: usize = 73;

/// Also the data of a `Drained` marker.
pub(crate) fn encode_segment(s: &Segment, w: &mut Writer) {
    for v in [s.base_index, s.generation, s.size, s.last_index] {
        w.u64(v);
    }
    for v in [
        s.base_offset,
        s.end_offset,
        s.max_timestamp,
        s.max_timestamp_offset,
        s.created_ms,
    ] {
        w.i64(v);
    }
    w.u8(u8::from(s.closed));
}

pub(crate) fn decode_segment(r: &mut Reader<'_>) -> Result<Segment, Damaged> {
    let (base_index, generation, size, last_index) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
    if base_index == 0 || last_index < base_index - 1 {
        return Err(Damaged("indexes of a segment"));
    }
    Ok(Segment {
        base_index,
        generation,
        size,
        last_index,
        base_offset: r.i64()?,
        end_offset: r.i64()?,
        max_timestamp: r.i64()?,
        max_timestamp_offset: r.i64()?,
        created_ms: r.i64()?,
        closed: r.u8()? != 0,
    })
}

pub(crate) fn encode_terms(terms: &TermRuns, w: &mut Writer) {
    w.u32(terms.runs().len() as u32);
    for run in terms.runs() {
        w.u64(run.term);
        w.u64(run.index);
        w.i64(run.offset);
    }
}

pub(crate) fn decode_terms(r: &mut Reader<'_>) -> Result<TermRuns, Damaged> {
    let count = r.count(24)?;
    let runs = (0..count)
        .map(|_| {
            Ok(TermRun {
                term: r.u64()?,
                index: r.u64()?,
                offset: r.i64()?,
            })
        })
        .collect::<Result<Vec<_>, Damaged>>()?;
    TermRuns::from_runs(runs).ok_or(Damaged("terms of a log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> CheckpointFile {
        let mut terms = TermRuns::default();
        terms.push(3, 1, 0);
        terms.push(5, 9, 80);
        let record = |n: u32, condition| LogRecord {
            id: PartitionId {
                topic: 7,
                partition: n,
            },
            condition,
            hard_state: HardState {
                term: 5,
                vote: 2,
                commit: 11,
            },
            commit: 12,
            log_start_offset: 4,
            first_index: 2,
            last_index: 14,
            last_term: 5,
            drained: 10,
            drained_offset: 90,
            next_generation: 3,
            chain: 1 << 30,
            terms: terms.clone(),
            segments: vec![Segment::new(2, 1, 10, 99), Segment::new(8, 2, 70, 100)],
            retired: vec![(1, 1)],
            applied: 12,
            state: Bytes::from_static(b"producers"),
        };
        CheckpointFile {
            core: 1,
            cores: 2,
            number: 3,
            replay_from: 4,
            begun_at: 5,
            records: vec![
                record(0, Condition::Healthy),
                record(1, Condition::Fenced("bit rot".into())),
                record(2, Condition::Rebuilt),
            ],
            drops: vec![PartitionId {
                topic: 9,
                partition: 9,
            }],
        }
    }

    #[test]
    fn a_checkpoint_comes_back() {
        assert_eq!(CheckpointFile::decode(&file().encode()), Ok(file()));
    }

    #[test]
    fn damage_is_seen_and_never_panics() {
        let bytes = file().encode();
        for length in 0..bytes.len() {
            assert!(
                CheckpointFile::decode(&bytes[..length]).is_err(),
                "cut to {length}"
            );
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(CheckpointFile::decode(&bad).is_err(), "byte {at}");
            // Also when the checksum is right: the fields are checked on their own.
            let crc = crc32c::crc32c(&bad[8..]);
            bad[4..8].copy_from_slice(&crc.to_le_bytes());
            let _ = CheckpointFile::decode(&bad);
        }
    }

    #[test]
    fn the_sizes_that_counts_are_checked_against_are_right() {
        let mut w = Writer::default();
        encode_segment(&Segment::new(1, 1, 0, 0), &mut w);
        assert_eq!(w.bytes.len(), SEGMENT_BYTES);
        let mut empty = file().records.remove(0);
        empty.terms = TermRuns::default();
        empty.segments.clear();
        empty.retired.clear();
        empty.state = Bytes::new();
        let mut w = Writer::default();
        empty.encode(&mut w);
        assert!(w.bytes.len() >= RECORD_BYTES_MIN, "{}", w.bytes.len());
    }
}
