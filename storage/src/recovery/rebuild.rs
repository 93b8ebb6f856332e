//! The slow way: logs from the frames in their segments, when no checkpoint can be read.
//!
//! Everything that was drained comes back; what was not may come back from the journal. What
//! does not come back is the vote, so these logs are marked `Rebuilt`.

use std::io;
use std::path::Path;
use std::rc::Rc;

use runtime::Disk;

use super::io_error;
use crate::cache::SegmentCache;
use crate::error::{ReadError, RecoverError};
use crate::format::frame::{EntryKind, FrameKind};
use crate::log::reader::{SegmentReader, end_offset};
use crate::log::segment::{Segment, SegmentFile, parse_segment_name, partition_directory};
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

/// Reads one file up to the first frame that does not continue the log.
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
    let whole = Segment {
        size: bytes,
        ..Segment::new(base_index, generation, 0, 0)
    };
    let cache = Rc::clone(&log.cache);
    let reader = SegmentReader::new(&cache, disk, log.id, whole);
    reader.expect(usize::MAX);
    let first_of_all = log.segments.is_empty();
    let mut taken: Option<Segment> = None;
    let mut position = 0;
    loop {
        let frame = match reader.frame_at(position).await {
            Ok(Some(frame)) => frame,
            Err(ReadError::Io(error)) => return Err(error),
            Ok(None) | Err(ReadError::Damaged { .. }) => break,
        };
        let data = match reader.data(&frame).await {
            Ok(data) => data,
            Err(ReadError::Io(error)) => return Err(error),
            Err(ReadError::Damaged { .. }) => break,
        };
        let header = frame.header;
        let expected = taken.map_or(base_index, |s| s.last_index + 1);
        if header.index != expected || header.index >= superseded_from {
            break;
        }
        if taken.is_none() {
            if !first_of_all && header.index != log.drained + 1 {
                log.fence(format!(
                    "segments end at {} and go on at {base_index}",
                    log.drained
                ));
                return Ok(());
            }
            if first_of_all {
                log.first_index = base_index;
                log.log_start_offset = header.base_offset;
            }
            taken = Some(Segment::new(base_index, generation, header.base_offset, 0));
        }
        let segment = taken.as_mut().expect("just made");
        let end = end_offset(&header);
        segment.push(header.index, header.base_offset, end, header.max_timestamp);
        segment.size = frame.next_position();
        if header.term < log.terms.last_term() {
            break;
        }
        log.terms
            .push(header.term, header.index, header.base_offset);
        if header.kind == FrameKind::Entry(EntryKind::LogStart)
            && let Ok(bytes) = data[..].try_into()
        {
            log.log_start_offset = log.log_start_offset.max(i64::from_le_bytes(bytes));
        }
        (log.drained, log.drained_offset) = (header.index, end);
        position = frame.next_position();
    }
    cache.forget_segment(log.id, generation);
    if let Some(segment) = taken {
        let path = segment.path(
            &partition_directory(cache.data(), log.id),
            SegmentFile::Frames,
        );
        tracing::warn!(path = %path.display(), last = segment.last_index, "segment read");
        log.segments.push(segment);
    }
    Ok(())
}
