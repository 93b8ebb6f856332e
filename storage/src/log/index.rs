//! The sparse index of a segment: one entry per 32 KiB of frames or more, by offset, raft index and
//! time.
//! What it says is checked against the frame that it leads to, so a stale or damaged entry costs
//! a rebuild and never a wrong answer.

use super::segment::Segment;
use crate::format::index::{INDEX_ENTRY_BYTES, IndexEntry};
use crate::options::LogConfig;

/// Bytes of frames between two entries, at least; an index that is made again has so many.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 32 << 10;
/// Wider intervals could not be told from lost entries.
const INDEX_INTERVAL_BYTES_MAX: u64 = 1 << 20;
/// A stretch without entries beyond which the file is taken to have lost some.
const GAP_BYTES_MAX: u64 = 2 << 20;

/// Bytes of frames between two entries of the indexes that a log writes.
pub(crate) fn interval_bytes(config: &LogConfig) -> u64 {
    u64::from(config.index_interval_bytes).clamp(INDEX_INTERVAL_BYTES, INDEX_INTERVAL_BYTES_MAX)
}

/// Size of a segment whose index is as large as the log allows.
pub(crate) fn indexed_bytes(config: &LogConfig) -> u64 {
    let entries = u64::from(config.segment_index_bytes) / INDEX_ENTRY_BYTES as u64;
    entries.max(1) * interval_bytes(config)
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    entries: Vec<IndexEntry>,
    /// The largest timestamp of all frames noted, also between entries.
    max_timestamp: Option<i64>,
    /// The file holds just the first so many entries.
    file_entries: usize,
}

impl SegmentIndex {
    /// Notes the frame at `position`, which follows all that were noted before. It gets an entry if
    /// it lies `interval_bytes` behind the last one that has.
    pub fn note(
        &mut self,
        position: u64,
        index: u64,
        offset: i64,
        timestamp: i64,
        interval_bytes: u64,
    ) {
        let due = match self.entries.last() {
            None => true,
            Some(last) => position >= u64::from(last.position) + interval_bytes,
        };
        if due {
            let max_timestamp_before = self.max_timestamp.unwrap_or(i64::MIN);
            let position = u32::try_from(position).expect("segments stay below 4 GiB");
            self.entries.push(IndexEntry {
                offset,
                index,
                max_timestamp_before,
                position,
            });
        }
        if timestamp >= 0 {
            self.max_timestamp = self.max_timestamp.max(Some(timestamp));
        }
    }

    /// What a file holds about `segment`. `None` when too much is missing.
    pub fn from_file(bytes: &[u8], segment: &Segment) -> Option<SegmentIndex> {
        let mut entries: Vec<IndexEntry> = Vec::new();
        let mut intact = true;
        for chunk in bytes.chunks(INDEX_ENTRY_BYTES) {
            match IndexEntry::decode(chunk, segment.generation) {
                Some(entry) if u64::from(entry.position) < segment.size => {
                    // A drain that was repeated after a crash wrote its entries again.
                    while entries
                        .last()
                        .is_some_and(|last| last.position >= entry.position)
                    {
                        entries.pop();
                        intact = false;
                    }
                    entries.push(entry);
                }
                _ => intact = false,
            }
        }
        let ends = entries
            .iter()
            .skip(1)
            .map(|e| u64::from(e.position))
            .chain([segment.size]);
        let gap = entries
            .iter()
            .zip(ends)
            .map(|(e, end)| end - u64::from(e.position))
            .max();
        if segment.size > 0 && gap.is_none_or(|gap| gap > GAP_BYTES_MAX) {
            return None;
        }
        if entries
            .first()
            .is_some_and(|first| first.index != segment.base_index)
        {
            return None;
        }
        let file_entries = if intact { entries.len() } else { 0 };
        let max_timestamp = (segment.max_timestamp != i64::MIN).then_some(segment.max_timestamp);
        Some(SegmentIndex {
            entries,
            max_timestamp,
            file_entries,
        })
    }

    /// Where to begin a search for the frame that contains `offset`.
    pub fn by_offset(&self, offset: i64) -> Option<IndexEntry> {
        self.before(self.entries.partition_point(|e| e.offset <= offset))
    }

    /// Where to begin a search for the frame of entry `index`.
    pub fn by_index(&self, index: u64) -> Option<IndexEntry> {
        self.before(self.entries.partition_point(|e| e.index <= index))
    }

    /// Where to begin a search for the first frame with a timestamp at or after `timestamp`.
    pub fn by_timestamp(&self, timestamp: i64) -> Option<IndexEntry> {
        self.before(
            self.entries
                .partition_point(|e| e.max_timestamp_before < timestamp),
        )
    }

    fn before(&self, after: usize) -> Option<IndexEntry> {
        after.checked_sub(1).map(|i| self.entries[i])
    }

    /// What has to be written to the file, and where, so that it holds all entries.
    pub fn unwritten(&self, generation: u64) -> (u64, Vec<u8>) {
        let from = self.file_entries;
        let bytes = self.entries[from..]
            .iter()
            .flat_map(|e| e.encode(generation))
            .collect();
        ((from * INDEX_ENTRY_BYTES) as u64, bytes)
    }

    /// What [`unwritten`](Self::unwritten) returned is in the file.
    pub fn set_written(&mut self, entries: usize) {
        self.file_entries = entries;
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn memory_bytes(&self) -> u64 {
        (self.entries.capacity() * size_of::<IndexEntry>() + 128) as u64
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(size: u64) -> Segment {
        Segment {
            size,
            max_timestamp: 7,
            ..Segment::new(10, 4, 100, 0)
        }
    }

    fn index() -> SegmentIndex {
        let mut index = SegmentIndex::default();
        for i in 0..100u64 {
            let offset = 100 + i as i64;
            index.note(
                i * 8192,
                10 + i,
                offset,
                (i % 8) as i64,
                INDEX_INTERVAL_BYTES,
            );
        }
        index
    }

    #[test]
    fn intervals_and_sizes_are_those_of_the_topic() {
        let config = |index_interval_bytes, segment_index_bytes| LogConfig {
            index_interval_bytes,
            segment_index_bytes,
            ..LogConfig::default()
        };
        assert_eq!(interval_bytes(&config(4096, 1)), 32 << 10);
        assert_eq!(interval_bytes(&config(u32::MAX, 1)), 1 << 20);
        assert_eq!(indexed_bytes(&config(64 << 10, 4)), 64 << 10);
        assert_eq!(indexed_bytes(&config(64 << 10, 3 * 32)), 3 * (64 << 10));

        let limit = indexed_bytes(&config(64 << 10, 5 * 32));
        let mut index = SegmentIndex::default();
        for position in (0..limit).step_by(10_000) {
            index.note(position, position, position as i64, -1, 64 << 10);
        }
        assert_eq!(index.len(), 5, "as many as the file may hold");
        let gaps = index.entries.windows(2);
        let least = gaps.map(|pair| pair[1].position - pair[0].position).min();
        assert!(least >= Some(64 << 10), "{least:?}");
    }

    #[test]
    fn entries_are_sparse_and_found() {
        let index = index();
        assert_eq!(index.len(), 25);
        assert_eq!(index.by_offset(105).unwrap().offset, 104);
        assert_eq!(index.by_offset(99), None);
        assert_eq!(index.by_index(17).unwrap().index, 14);
        assert_eq!(index.by_timestamp(i64::MIN), None);
        assert_eq!(index.by_timestamp(0).unwrap().index, 10);
        assert_eq!(
            index.by_timestamp(7).unwrap().index,
            14,
            "0..8 lie between 14 and 18"
        );
    }

    #[test]
    fn the_file_brings_back_the_same_index() {
        let mut index = index();
        let (at, bytes) = index.unwritten(4);
        assert_eq!(at, 0);
        index.set_written(index.len());
        assert_eq!(
            SegmentIndex::from_file(&bytes, &segment(100 * 8192)),
            Some(index)
        );
    }

    #[test]
    fn repeated_entries_replace_and_damage_is_skipped() {
        let whole = index();
        let (_, mut bytes) = whole.unwritten(4);
        let again = bytes[20 * INDEX_ENTRY_BYTES..].to_vec();
        bytes.extend_from_slice(&again);
        bytes[3 * INDEX_ENTRY_BYTES] ^= 1;
        let read = SegmentIndex::from_file(&bytes, &segment(100 * 8192)).unwrap();
        assert_eq!(read.len(), 24);
        assert_eq!(read.unwritten(4).0, 0, "the file is to be written anew");
        assert_eq!(
            SegmentIndex::from_file(&bytes, &segment(90 * 8192))
                .unwrap()
                .len(),
            22
        );
    }

    #[test]
    fn an_index_with_a_large_hole_is_rebuilt() {
        assert_eq!(SegmentIndex::from_file(&[], &segment(1)), None);
        let (_, bytes) = index().unwritten(4);
        assert_eq!(
            SegmentIndex::from_file(&bytes, &segment(100 * 8192 + GAP_BYTES_MAX)),
            None
        );
        assert_eq!(
            SegmentIndex::from_file(&bytes[32..], &segment(100 * 8192)),
            None
        );
    }
}
