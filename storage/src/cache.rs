//! What a core keeps open and in memory of its segments: file handles, pieces that were read, and
//! sparse indexes, each with a limit. A log itself holds none of them, so an idle one costs
//! nothing but its numbers.
//!
//! Shared by the logs of one core and by their jobs; no borrow is held across an await.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use runtime::{Disk, File, OpenOptions};

use crate::log::index::SegmentIndex;
use crate::log::segment::{Segment, SegmentFile, partition_directory};
use crate::lru::Lru;
use crate::options::Options;
use crate::partition::PartitionId;
use crate::stats::Counters;

/// The unit in which segments are read and kept.
pub(crate) const PIECE_BYTES: u64 = 128 << 10;

type SegmentKey = (PartitionId, u64);

pub(crate) struct SegmentCache {
    disk: Disk,
    data: PathBuf,
    state: RefCell<State>,
    pub counters: Counters,
    /// The journal is durable up to this block.
    pub durable_sequence: Cell<u64>,
    /// [`Options::drain_bytes`].
    pub drain_bytes: u64,
    /// Free space when it was looked at, and the bytes that had gone straight to segments then.
    space: Cell<(u64, u64)>,
}

struct State {
    files: Lru<(SegmentKey, SegmentFile), File>,
    pieces: Lru<(SegmentKey, u64), Bytes>,
    indexes: Lru<SegmentKey, Rc<RefCell<SegmentIndex>>>,
}

impl SegmentCache {
    pub fn new(disk: &Disk, data: &Path, options: &Options) -> Rc<SegmentCache> {
        Rc::new(SegmentCache {
            disk: disk.clone(),
            data: data.to_path_buf(),
            state: RefCell::new(State {
                files: Lru::new(options.files_max as u64),
                pieces: Lru::new(options.cache_bytes_max),
                indexes: Lru::new(options.cache_bytes_max),
            }),
            counters: Counters::default(),
            durable_sequence: Cell::new(0),
            drain_bytes: options.drain_bytes,
            space: Cell::new((0, 0)),
        })
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Takes note of the free space of the disk.
    pub async fn look_at_space(&self) {
        if let Ok(space) = self.disk.space(&self.data).await {
            self.space
                .set((space.available_bytes, self.counters.get().direct_bytes));
        }
    }

    /// About how much space is free.
    pub fn space_bytes(&self) -> u64 {
        let (available, direct_then) = self.space.get();
        available.saturating_sub(self.counters.get().direct_bytes - direct_then)
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The segment's file, opened if it is not open. Frames are read and written directly, the
    /// index through the page cache: it is small, and nothing depends on it.
    pub async fn open(
        &self,
        disk: &Disk,
        id: PartitionId,
        segment: &Segment,
        file: SegmentFile,
        create: bool,
    ) -> io::Result<File> {
        let key = ((id, segment.generation), file);
        let kept = self.state.borrow_mut().files.get(key);
        if let Some(open) = kept {
            return Ok(open);
        }
        let options = if create {
            OpenOptions::CREATE
        } else {
            OpenOptions::READ_WRITE
        };
        let options = match file {
            SegmentFile::Frames => options.direct(),
            SegmentFile::Index => options,
        };
        let path = segment.path(&partition_directory(&self.data, id), file);
        let open = disk.open(&path, options).await?;
        self.state.borrow_mut().files.put(key, open.clone(), 1);
        Ok(open)
    }

    /// A piece that was read before, if at least `bytes` of it are there.
    pub fn piece(&self, id: PartitionId, generation: u64, piece: u64, bytes: u64) -> Option<Bytes> {
        let found = self
            .state
            .borrow_mut()
            .pieces
            .get(((id, generation), piece));
        let found = found.filter(|b| b.len() as u64 >= bytes);
        self.counters.add(|s| match found {
            Some(_) => s.cache_hits += 1,
            None => s.cache_misses += 1,
        });
        found
    }

    pub fn keep_piece(&self, id: PartitionId, generation: u64, piece: u64, bytes: Bytes) {
        let weight = bytes.len() as u64;
        self.state
            .borrow_mut()
            .pieces
            .put(((id, generation), piece), bytes, weight);
    }

    pub fn index(&self, id: PartitionId, generation: u64) -> Option<Rc<RefCell<SegmentIndex>>> {
        self.state.borrow_mut().indexes.get((id, generation))
    }

    /// Keeps an index; also called after it grew.
    pub fn keep_index(&self, id: PartitionId, generation: u64, index: Rc<RefCell<SegmentIndex>>) {
        let weight = index.borrow().memory_bytes();
        self.state
            .borrow_mut()
            .indexes
            .put((id, generation), index, weight);
    }

    /// Forgets what is kept of one segment: its bytes have changed, or are gone.
    pub fn forget_segment(&self, id: PartitionId, generation: u64) {
        let mut state = self.state.borrow_mut();
        let key = (id, generation);
        state
            .files
            .remove_range((key, SegmentFile::Frames)..=(key, SegmentFile::Index));
        state.pieces.remove_range((key, 0)..=(key, u64::MAX));
        state.indexes.remove(key);
    }

    /// Forgets the index of one segment: it was found to be wrong.
    pub fn forget_index(&self, id: PartitionId, generation: u64) {
        self.state.borrow_mut().indexes.remove((id, generation));
    }

    /// Forgets everything of a partition.
    pub fn forget_partition(&self, id: PartitionId) {
        let mut state = self.state.borrow_mut();
        let (low, high) = ((id, 0), (id, u64::MAX));
        state
            .files
            .remove_range((low, SegmentFile::Frames)..=(high, SegmentFile::Index));
        state.pieces.remove_range((low, 0)..=(high, u64::MAX));
        state.indexes.remove_range(low..=high);
    }

    pub fn memory_bytes(&self) -> u64 {
        let state = self.state.borrow();
        state.pieces.weight() + state.indexes.weight()
    }
}

impl fmt::Debug for SegmentCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SegmentCache({}, {} bytes)",
            self.data.display(),
            self.memory_bytes()
        )
    }
}
