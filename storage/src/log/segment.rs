//! What a log knows of its segment files: numbers only, no handle and no content.

use std::path::{Path, PathBuf};

use crate::format::pages;
use crate::partition::PartitionId;

/// One segment file: a run of entries by index, of which the first `size` bytes count. Whatever
/// lies behind them in the file is the remains of an unfinished drain and is written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Index of the first entry.
    pub base_index: u64,
    /// Number of the file within its partition; never used twice.
    pub generation: u64,
    /// Base offset of the first entry.
    pub base_offset: i64,
    /// Bytes that count.
    pub size: u64,
    /// Index of the last entry; `base_index - 1` while there is none.
    pub last_index: u64,
    /// Offset after the last entry.
    pub end_offset: i64,
    /// The largest timestamp, `i64::MIN` while there is none.
    pub max_timestamp: i64,
    /// Base offset of the batch that holds it.
    pub max_timestamp_offset: i64,
    /// Wall clock when the file was begun, Unix ms.
    pub created_ms: i64,
    /// No more entries go here: the file was cut by a raft conflict.
    pub closed: bool,
}

/// A file that belongs to a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SegmentFile {
    Frames,
    Index,
}

impl Segment {
    pub fn new(base_index: u64, generation: u64, base_offset: i64, created_ms: i64) -> Segment {
        Segment {
            base_index,
            generation,
            base_offset,
            size: 0,
            last_index: base_index - 1,
            end_offset: base_offset,
            max_timestamp: i64::MIN,
            max_timestamp_offset: -1,
            created_ms,
            closed: false,
        }
    }

    /// Where the next write goes: a page is never written twice.
    pub fn append_position(&self) -> u64 {
        pages(self.size)
    }

    /// Notes one more entry, whose frame ends at `end_position`.
    pub fn push(&mut self, index: u64, base_offset: i64, end_offset: i64, max_timestamp: i64) {
        let expected = self.last_index + 1;
        assert_eq!(
            index, expected,
            "segment {} takes the next index",
            self.base_index
        );
        self.last_index = index;
        self.end_offset = end_offset;
        if max_timestamp >= 0 && max_timestamp > self.max_timestamp {
            self.max_timestamp = max_timestamp;
            self.max_timestamp_offset = base_offset;
        }
    }

    /// About the offset after entry `index`, which is in here: as if all entries had equally many offsets.
    pub fn offset_near(&self, index: u64) -> i64 {
        let entries = i128::from(self.last_index - self.base_index + 1);
        let up_to = i128::from(index - self.base_index + 1);
        let offsets = i128::from(self.end_offset - self.base_offset);
        self.base_offset + (offsets * up_to / entries) as i64
    }

    pub fn path(&self, directory: &Path, file: SegmentFile) -> PathBuf {
        segment_path(directory, self.base_index, self.generation, file)
    }
}

pub(crate) fn segment_path(
    directory: &Path,
    base_index: u64,
    generation: u64,
    file: SegmentFile,
) -> PathBuf {
    let extension = match file {
        SegmentFile::Frames => "segment",
        SegmentFile::Index => "index",
    };
    directory.join(format!("{base_index:020}-{generation:08}.{extension}"))
}

/// The base index and generation in the name of a segment's frames file.
pub(crate) fn parse_segment_name(name: &str) -> Option<(u64, u64)> {
    let (index, generation) = name.strip_suffix(".segment")?.split_once('-')?;
    Some((index.parse().ok()?, generation.parse().ok()?))
}

/// The directory of a partition's segments.
pub(crate) fn partition_directory(data: &Path, id: PartitionId) -> PathBuf {
    let topic = format!("{:032x}", id.topic);
    data.join("partitions")
        .join(topic)
        .join(id.partition.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let segment = Segment::new(17, 3, 100, 0);
        let path = segment.path(Path::new("d"), SegmentFile::Frames);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(parse_segment_name(name), Some((17, 3)));
        for bad in [
            "17.segment",
            "a-3.segment",
            "17-3.index",
            "17-3.segment.tmp",
        ] {
            assert_eq!(parse_segment_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn entries_without_timestamps_do_not_count() {
        let mut segment = Segment::new(1, 1, 0, 0);
        segment.push(1, 0, 0, -1);
        assert_eq!(segment.max_timestamp, i64::MIN);
        segment.push(2, 0, 5, 50);
        segment.push(3, 5, 6, 40);
        assert_eq!(
            (segment.max_timestamp, segment.max_timestamp_offset),
            (50, 0)
        );
        assert_eq!((segment.last_index, segment.end_offset), (3, 6));
    }

    #[test]
    fn an_offset_within_is_estimated_and_the_last_is_exact() {
        let mut segment = Segment::new(10, 1, 100, 0);
        for index in 10..20 {
            let base_offset = 100 + (index as i64 - 10) * 7;
            segment.push(index, base_offset, base_offset + 7, -1);
        }
        assert_eq!(segment.offset_near(10), 107);
        assert_eq!(segment.offset_near(14), 135);
        assert_eq!(segment.offset_near(19), 170);
        // Far more offsets than a product of two numbers of their size has room for.
        let mut large = Segment::new(1, 1, 0, 0);
        large.push(1, 0, i64::MAX / 2, -1);
        large.push(2, i64::MAX / 2, i64::MAX - 1, -1);
        assert_eq!(large.offset_near(2), i64::MAX - 1);
    }
}
