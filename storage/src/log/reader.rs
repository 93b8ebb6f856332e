//! Reading the frames of one segment file: in pieces of 128 KiB that are kept for the next
//! reader, several at once when much is wanted.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use runtime::Disk;

use super::index::{INDEX_INTERVAL_BYTES, SegmentIndex};
use super::segment::{Segment, SegmentFile, partition_directory};
use crate::cache::{PIECE_BYTES, SegmentCache};
use crate::error::ReadError;
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::format::index::IndexEntry;
use crate::format::{PAGE_BYTES, pages};
use crate::partition::PartitionId;

/// At most so many pieces are read at once.
const AHEAD_PIECES_MAX: u64 = 8;

/// The offset after the entry that a frame holds.
pub(crate) fn end_offset(header: &FrameHeader) -> i64 {
    header.base_offset + i64::from(header.offset_count)
}

/// A frame that was found; its data is not read yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundFrame {
    pub header: FrameHeader,
    pub position: u64,
}

impl FoundFrame {
    pub fn next_position(&self) -> u64 {
        self.position + self.header.frame_bytes() as u64
    }
}

pub(crate) struct SegmentReader<'a> {
    cache: &'a SegmentCache,
    disk: &'a Disk,
    id: PartitionId,
    segment: Segment,
    /// The caller will want about this much.
    expected_bytes: Cell<usize>,
}

impl<'a> SegmentReader<'a> {
    pub fn new(
        cache: &'a SegmentCache,
        disk: &'a Disk,
        id: PartitionId,
        segment: Segment,
    ) -> SegmentReader<'a> {
        SegmentReader {
            cache,
            disk,
            id,
            segment,
            expected_bytes: Cell::new(0),
        }
    }

    /// How much the caller is going to read: pieces are read ahead accordingly.
    pub fn expect(&self, bytes: usize) {
        self.expected_bytes.set(bytes);
    }

    pub fn damaged(&self, position: u64, what: &'static str) -> ReadError {
        ReadError::Damaged {
            base_index: self.segment.base_index,
            position,
            what,
        }
    }

    pub async fn position_of_offset(&self, offset: i64) -> Result<u64, ReadError> {
        self.position(|index| index.by_offset(offset)).await
    }

    pub async fn position_of_index(&self, index: u64) -> Result<u64, ReadError> {
        self.position(|entries| entries.by_index(index)).await
    }

    /// For the first frame that is late enough and ends above `offset`.
    pub async fn position_of_timestamp(
        &self,
        timestamp: i64,
        offset: i64,
    ) -> Result<u64, ReadError> {
        let later = |a: Option<IndexEntry>, b: Option<IndexEntry>| match (a, b) {
            (Some(a), Some(b)) if a.position > b.position => Some(a),
            (a, b) => b.or(a),
        };
        self.position(|i| later(i.by_timestamp(timestamp), i.by_offset(offset)))
            .await
    }

    async fn position(
        &self,
        find: impl Fn(&SegmentIndex) -> Option<IndexEntry>,
    ) -> Result<u64, ReadError> {
        let index = self.index().await?;
        let found = find(&index.borrow());
        let Some(entry) = found else { return Ok(0) };
        let position = u64::from(entry.position);
        if let Ok(Some(frame)) = self.frame_at(position).await
            && frame.position == position
            && frame.header.index == entry.index
            && frame.header.base_offset == entry.offset
        {
            return Ok(position);
        }
        // The index does not match its segment: it is made from the frames again.
        let rebuilt = self.rebuild_index().await?;
        let found = find(&rebuilt.borrow());
        Ok(found.map_or(0, |e| u64::from(e.position)))
    }

    /// The index, from memory, from its file, or from the frames.
    pub async fn index(&self) -> Result<Rc<RefCell<SegmentIndex>>, ReadError> {
        if let Some(index) = self.cache.index(self.id, self.segment.generation) {
            return Ok(index);
        }
        let directory = partition_directory(self.cache.data(), self.id);
        let path = self.segment.path(&directory, SegmentFile::Index);
        let bytes = self.disk.read_to_end(&path).await.unwrap_or_default();
        match SegmentIndex::from_file(&bytes, &self.segment) {
            Some(index) => Ok(self.keep(index)),
            None => self.rebuild_index().await,
        }
    }

    fn keep(&self, index: SegmentIndex) -> Rc<RefCell<SegmentIndex>> {
        // Another job may have been faster; its index may have grown since.
        if let Some(kept) = self.cache.index(self.id, self.segment.generation) {
            return kept;
        }
        let index = Rc::new(RefCell::new(index));
        self.cache
            .keep_index(self.id, self.segment.generation, Rc::clone(&index));
        index
    }

    /// Makes the index from the frames. The file is written anew by the next drain.
    async fn rebuild_index(&self) -> Result<Rc<RefCell<SegmentIndex>>, ReadError> {
        self.cache.forget_index(self.id, self.segment.generation);
        let wanted = self.expected_bytes.replace(usize::MAX);
        let mut index = SegmentIndex::default();
        let mut at = 0;
        while let Some(frame) = self.frame_at(at).await? {
            let FrameHeader {
                index: i,
                base_offset,
                max_timestamp,
                ..
            } = frame.header;
            index.note(
                frame.position,
                i,
                base_offset,
                max_timestamp,
                INDEX_INTERVAL_BYTES,
            );
            at = frame.next_position();
        }
        self.expected_bytes.set(wanted);
        Ok(self.keep(index))
    }

    /// The frame at `position` or behind the padding there; `None` at the end of the segment.
    pub async fn frame_at(&self, mut position: u64) -> Result<Option<FoundFrame>, ReadError> {
        while position + FRAME_HEADER_BYTES as u64 <= self.segment.size {
            let bytes = self.bytes(position, FRAME_HEADER_BYTES).await?;
            let page_end = pages(position + 1);
            let rest_of_page = FRAME_HEADER_BYTES.min((page_end - position) as usize);
            if bytes[..rest_of_page].iter().all(|b| *b == 0) {
                position = page_end;
                continue;
            }
            let Some(header) = FrameHeader::decode(&bytes) else {
                return Err(self.damaged(position, "a frame header"));
            };
            let frame = FoundFrame { header, position };
            if header.id != self.id || header.epoch != self.segment.generation {
                return Err(self.damaged(position, "a frame of another file"));
            }
            if frame.next_position() > self.segment.size {
                return Err(self.damaged(position, "a frame beyond the end"));
            }
            return Ok(Some(frame));
        }
        Ok(None)
    }

    /// The data of a frame, its checksum verified.
    pub async fn data(&self, frame: &FoundFrame) -> Result<Bytes, ReadError> {
        let at = frame.position + FRAME_HEADER_BYTES as u64;
        let data = self.bytes(at, frame.header.data_length as usize).await?;
        if crc32c::crc32c(&data) != frame.header.data_crc {
            return Err(self.damaged(frame.position, "frame data"));
        }
        Ok(data)
    }

    async fn bytes(&self, position: u64, length: usize) -> Result<Bytes, ReadError> {
        let end = position + length as u64;
        if length as u64 > PIECE_BYTES {
            return self.read_directly(position, length).await;
        }
        let piece = position / PIECE_BYTES;
        let head = self
            .piece(piece, end.min((piece + 1) * PIECE_BYTES))
            .await?;
        let from = (position % PIECE_BYTES) as usize;
        if end <= (piece + 1) * PIECE_BYTES {
            return Ok(head.slice(from..from + length));
        }
        let rest = self.piece(piece + 1, end).await?;
        let mut both = BytesMut::with_capacity(length);
        both.extend_from_slice(&head[from..]);
        let missing = length - both.len();
        both.extend_from_slice(&rest[..missing]);
        Ok(both.freeze())
    }

    /// A piece that holds the file's bytes at least up to position `end`.
    async fn piece(&self, piece: u64, end: u64) -> Result<Bytes, ReadError> {
        let start = piece * PIECE_BYTES;
        let generation = self.segment.generation;
        if let Some(kept) = self.cache.piece(self.id, generation, piece, end - start) {
            return Ok(kept);
        }
        let ahead = (self.expected_bytes.get() as u64 / PIECE_BYTES + 1).min(AHEAD_PIECES_MAX);
        let until = (start + ahead * PIECE_BYTES).min(pages(self.segment.size));
        let bytes = self.read_pages(start, (until - start) as usize).await?;
        if (bytes.len() as u64) < end - start {
            return Err(self.damaged(end, "the file is too short"));
        }
        for i in 0..ahead {
            let from = (i * PIECE_BYTES) as usize;
            let to = bytes.len().min(from + PIECE_BYTES as usize);
            if from < to {
                self.cache
                    .keep_piece(self.id, generation, piece + i, bytes.slice(from..to));
            }
        }
        Ok(bytes.slice(..bytes.len().min(PIECE_BYTES as usize)))
    }

    async fn read_directly(&self, position: u64, length: usize) -> Result<Bytes, ReadError> {
        let skip = (position % PAGE_BYTES as u64) as usize;
        let wanted = pages((skip + length) as u64) as usize;
        let bytes = self.read_pages(position - skip as u64, wanted).await?;
        if bytes.len() < skip + length {
            return Err(self.damaged(position, "the file is too short"));
        }
        Ok(bytes.slice(skip..skip + length))
    }

    async fn read_pages(&self, position: u64, length: usize) -> Result<Bytes, ReadError> {
        let file = SegmentFile::Frames;
        let open = self
            .cache
            .open(self.disk, self.id, &self.segment, file, false)
            .await?;
        Ok(open.read_at(position, length).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::rc::Rc;
    use std::time::Duration;

    use bytes::Bytes;
    use runtime::sim::{Options as SimOptions, Sim};

    use super::*;
    use crate::{EntryKind, LogConfig, Options, recover};

    /// Drains batches of many sizes in many jobs, then compares the index that the drains kept
    /// with what the file holds and with what the frames give.
    #[test]
    fn an_index_rebuilt_equals_the_index_kept() {
        let sim = Sim::new(SimOptions::seeded(1));
        let node = sim.start::<(), _, _>("node", 1, |core, _post, _inbox| async move {
            let (disk, data) = (core.disk().clone(), Path::new("/data"));
            let recovered = recover(&disk, data, 0, 1, Options::default())
                .await
                .unwrap();
            let mut journal = recovered.journal;
            let id = PartitionId {
                topic: 1,
                partition: 1,
            };
            let mut log = journal.create_log(id);
            log.configure(LogConfig {
                segment_bytes: 300_000,
                ..LogConfig::default()
            });
            for i in 1..=400u64 {
                let data = Bytes::from(vec![7; (i * 37 % 5000) as usize]);
                journal
                    .stage_entry(&mut log, 1, i, EntryKind::Command, &data)
                    .unwrap();
                if i % 23 == 0 {
                    log.commit_to(i);
                    let done = log
                        .begin_drain(1, true)
                        .expect("it is due")
                        .run(&disk)
                        .await;
                    journal.finish_drain(&mut log, done).unwrap();
                }
            }
            assert!(log.segments.len() >= 3, "{:?}", log.segments);
            for segment in &log.segments {
                let cache = Rc::clone(&log.cache);
                let reader = SegmentReader::new(&cache, &disk, id, *segment);
                let entries = |index: &RefCell<SegmentIndex>| index.borrow().entries().to_vec();
                let kept = entries(&reader.index().await.unwrap());
                assert!(kept.len() >= 3, "{kept:?}");
                let rebuilt = entries(&reader.rebuild_index().await.unwrap());
                assert_eq!(kept, rebuilt);
                cache.forget_index(id, segment.generation);
                assert_eq!(
                    kept,
                    entries(&reader.index().await.unwrap()),
                    "from the file"
                );
            }
        });
        assert!(sim.run_until_done(node, Duration::from_secs(60)));
    }
}
