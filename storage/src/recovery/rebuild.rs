//! The slow way: logs from the frames in their segments, when no checkpoint can be read.
//!
//! Everything that was drained comes back; what was not may come back from the journal. What
//! does not come back is the vote, so these logs are marked `Rebuilt`.

use std::io;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use runtime::Disk;

use super::io_error;
use crate::cache::SegmentCache;
use crate::error::{ReadError, RecoverError};
use crate::format::frame::{EntryKind, FrameKind};
use crate::log::reader::{FoundFrame, SegmentReader, end_offset};
use crate::log::segment::{Segment, parse_segment_name, partition_directory};
use crate::log::tail::Tail;
use crate::log::{Condition, HardState, Log};
use crate::partition::{PartitionId, owner};

/// The logs of this core's partitions that have segments.
pub(super) async fn logs(
    disk: &Disk,
    data: &Path,
    core: usize,
    cores: usize,
    cache: &Rc<SegmentCache>,
) -> Result<Vec<Log>, RecoverError> {
    let mut logs = Vec::new();
    for id in partitions(disk, data)
        .await
        .map_err(|e| io_error("read", data, e))?
    {
        if owner(id, cores) == core {
            let directory = partition_directory(data, id);
            let log = rebuild(disk, &directory, id, cache).await;
            logs.extend(log.map_err(|e| io_error("read", &directory, e))?);
        }
    }
    Ok(logs)
}

/// Every partition that has a directory.
async fn partitions(disk: &Disk, data: &Path) -> io::Result<Vec<PartitionId>> {
    let root = data.join("partitions");
    if !disk.exists(&root).await? {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for topic in disk.read_dir(&root).await? {
        let Ok(id) = u128::from_str_radix(&topic.name, 16) else {
            continue;
        };
        for partition in disk.read_dir(&root.join(&topic.name)).await? {
            if let Ok(partition) = partition.name.parse() {
                found.push(PartitionId {
                    topic: id,
                    partition,
                });
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A segment file that was found.
struct Candidate {
    base_index: u64,
    generation: u64,
    bytes: u64,
}

async fn rebuild(
    disk: &Disk,
    directory: &Path,
    id: PartitionId,
    cache: &Rc<SegmentCache>,
) -> io::Result<Option<Log>> {
    let mut candidates: Vec<Candidate> = disk
        .read_dir(directory)
        .await?
        .into_iter()
        .filter_map(|e| {
            let (base_index, generation) = parse_segment_name(&e.name)?;
            (base_index > 0).then_some(Candidate {
                base_index,
                generation,
                bytes: e.len,
            })
        })
        .collect();
    candidates.sort_by_key(|c| (c.base_index, c.generation));
    let mut log = Log::new(id, Rc::clone(cache));
    for (i, candidate) in candidates.iter().enumerate() {
        // A later generation that begins within an earlier file supersedes the rest of it.
        let superseded_from = candidates[i..]
            .iter()
            .filter(|c| c.generation > candidate.generation)
            .map(|c| c.base_index)
            .min()
            .unwrap_or(u64::MAX);
        log.next_generation = log.next_generation.max(candidate.generation + 1);
        if superseded_from > candidate.base_index && candidate.bytes > 0 {
            take_segment(disk, &mut log, candidate, superseded_from).await?;
        }
    }
    if log.segments.is_empty() {
        return Ok(None);
    }
    log.next_offset = log.drained_offset;
    log.high_watermark = log.drained_offset;
    log.log_start_offset = log.log_start_offset.min(log.high_watermark);
    log.commit = log.drained;
    log.noted = log.drained;
    log.tail = Tail::new(log.drained + 1);
    log.hard_state = HardState {
        term: log.last_term(),
        vote: 0,
        commit: log.drained,
    };
    if !log.is_fenced() {
        log.condition = Condition::Rebuilt;
    }
    Ok(Some(log))
}

/// Takes the entries of one file up to the first frame that does not continue the log.
async fn take_segment(
    disk: &Disk,
    log: &mut Log,
    candidate: &Candidate,
    superseded_from: u64,
) -> io::Result<()> {
    let Candidate {
        base_index,
        generation,
        bytes,
    } = *candidate;
    if log.segments.is_empty() {
        log.first_index = base_index;
        log.drained = base_index - 1;
    } else if base_index != log.drained + 1 {
        log.fence(format!(
            "segments end at {} and go on at {base_index}",
            log.drained
        ));
        return Ok(());
    }
    let mut frames = Frames::open(disk, log, base_index, generation, bytes);
    let mut taken: Option<Segment> = None;
    while let Some((frame, data)) = frames.next().await? {
        let header = frame.header;
        let first = log.segments.is_empty() && taken.is_none();
        let continues = header.index == log.drained + 1
            && header.index < superseded_from
            && header.term >= log.terms.last_term()
            && (first || header.base_offset == log.drained_offset);
        if !continues {
            break;
        }
        if first {
            log.log_start_offset = header.base_offset;
        }
        let end = end_offset(&header);
        let segment = taken
            .get_or_insert_with(|| Segment::new(base_index, generation, header.base_offset, 0));
        segment.push(header.index, header.base_offset, end, header.max_timestamp);
        segment.size = frame.next_position();
        log.terms
            .push(header.term, header.index, header.base_offset);
        if header.kind == FrameKind::Entry(EntryKind::LogStart)
            && let Ok(bytes) = data[..].try_into()
        {
            log.log_start_offset = log.log_start_offset.max(i64::from_le_bytes(bytes));
        }
        (log.drained, log.drained_offset) = (header.index, end);
    }
    log.cache.forget_segment(log.id, generation);
    log.segments.extend(taken);
    Ok(())
}

/// Measures the newest segment of a log again, after the journal has shown that some of the
/// entries in it had been superseded.
pub(super) async fn measure(disk: &Disk, log: &mut Log) -> io::Result<()> {
    let Some(cut) = log.segments.pop() else {
        return Ok(());
    };
    let Segment {
        base_index,
        generation,
        base_offset,
        last_index,
        size,
        ..
    } = cut;
    let mut frames = Frames::open(disk, log, base_index, generation, size);
    let mut segment = Segment {
        closed: true,
        ..Segment::new(base_index, generation, base_offset, 0)
    };
    while segment.last_index < last_index
        && let Some((frame, _)) = frames.next().await?
    {
        let header = frame.header;
        let end = end_offset(&header);
        segment.push(header.index, header.base_offset, end, header.max_timestamp);
        segment.size = frame.next_position();
    }
    log.cache.forget_segment(log.id, generation);
    log.segments.push(segment);
    Ok(())
}

/// The good frames of a file, from its beginning to the first that is not.
struct Frames {
    cache: Rc<SegmentCache>,
    disk: Disk,
    id: PartitionId,
    whole: Segment,
    position: u64,
}

impl Frames {
    fn open(disk: &Disk, log: &Log, base_index: u64, generation: u64, bytes: u64) -> Frames {
        let whole = Segment {
            size: bytes,
            ..Segment::new(base_index, generation, 0, 0)
        };
        let cache = Rc::clone(&log.cache);
        Frames {
            cache,
            disk: disk.clone(),
            id: log.id,
            whole,
            position: 0,
        }
    }

    async fn next(&mut self) -> io::Result<Option<(FoundFrame, Bytes)>> {
        let reader = SegmentReader::new(&self.cache, &self.disk, self.id, self.whole);
        reader.expect(usize::MAX);
        let frame = match reader.frame_at(self.position).await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(ReadError::Damaged { .. }) => return Ok(None),
            Err(ReadError::Io(error)) => return Err(error),
        };
        match reader.data(&frame).await {
            Ok(data) => {
                self.position = frame.next_position();
                Ok(Some((frame, data)))
            }
            Err(ReadError::Damaged { .. }) => Ok(None),
            Err(ReadError::Io(error)) => Err(error),
        }
    }
}
