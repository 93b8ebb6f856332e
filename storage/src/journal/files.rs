//! The files of a journal: which one is written, which are ready, which are full. Files are
//! written with zeroes once, and then used in place for ever: a durable write into blocks that
//! were written before costs a third of one that extends a file.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use runtime::{ALIGN, AlignedBuf, Disk, Durability, File, OpenOptions};

use crate::options::Options;

/// One journal file on the disk.
#[derive(Clone)]
pub(crate) struct Slot {
    /// Its name: `<number>.journal`.
    pub number: u32,
    pub file: File,
    pub bytes: u64,
}

/// The file that is being written.
pub(crate) struct Active {
    pub slot: Slot,
    pub epoch: u64,
    /// Where the next block goes.
    pub offset: u64,
    /// The newest block in it.
    pub last_sequence: u64,
}

/// A file that is full.
pub(crate) struct Full {
    pub slot: Slot,
    pub last_sequence: u64,
}

pub(crate) struct JournalFiles {
    pub active: Option<Active>,
    /// May be written over, in this order.
    pub ready: VecDeque<Slot>,
    /// Hold what may still be needed, oldest first.
    pub full: VecDeque<Full>,
    /// The number that the next use of a file gets.
    pub next_number: u64,
    pub preparing: bool,
    /// A block of this size was refused because no file at hand could take it; 0 if none was.
    pub lacking: u64,
}

impl JournalFiles {
    pub fn new(next_number: u64) -> JournalFiles {
        JournalFiles {
            active: None,
            ready: VecDeque::new(),
            full: VecDeque::new(),
            next_number,
            preparing: false,
            lacking: 0,
        }
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        let active = self.active.iter().map(|a| &a.slot);
        active
            .chain(&self.ready)
            .chain(self.full.iter().map(|f| &f.slot))
    }

    pub fn total_bytes(&self) -> u64 {
        self.slots().map(|s| s.bytes).sum()
    }

    /// Bytes that can still be written, file headers taken off.
    pub fn free_bytes(&self) -> u64 {
        let active = self.active.as_ref().map_or(0, |a| a.slot.bytes - a.offset);
        active
            + self
                .ready
                .iter()
                .map(|s| s.bytes - ALIGN as u64)
                .sum::<u64>()
    }

    /// The size of the file to be prepared next; `None` when there are enough, or no room.
    pub fn wanted_bytes(&self, options: &Options) -> Option<u64> {
        let lacking = self.lacking > 0 && self.ready_for(self.lacking).is_none();
        if self.preparing || (self.ready.len() >= 2 && !lacking) {
            return None;
        }
        let largest = self.slots().map(|s| s.bytes).max();
        let bytes = match largest {
            None => options.journal_first_file_bytes,
            Some(largest) => (largest * 2).min(options.journal_file_bytes),
        };
        // The files of a young journal may be smaller than one large entry.
        let bytes = match lacking {
            true => bytes.max(self.lacking + ALIGN as u64),
            false => bytes,
        };
        (self.total_bytes() + bytes <= options.journal_bytes_max).then_some(bytes)
    }

    /// Where among the ready files the first one is that takes a block of `bytes`.
    pub fn ready_for(&self, bytes: u64) -> Option<usize> {
        let takes = |slot: &Slot| slot.bytes - ALIGN as u64 >= bytes;
        self.ready.iter().position(takes)
    }

    /// A number for a new file.
    pub fn next_slot(&self) -> u32 {
        self.slots().map(|s| s.number + 1).max().unwrap_or(0)
    }

    /// Makes the full files ready whose newest block lies below `sequence`.
    pub fn recycle_below(&mut self, sequence: u64) {
        while self
            .full
            .front()
            .is_some_and(|f| f.last_sequence < sequence)
        {
            let full = self.full.pop_front().expect("just seen");
            self.ready.push_back(full.slot);
        }
    }
}

pub(crate) fn slot_path(directory: &Path, slot: u32) -> PathBuf {
    directory.join(format!("{slot:06}.journal"))
}

pub(crate) fn parse_slot(name: &str) -> Option<u32> {
    name.strip_suffix(".journal")?.parse().ok()
}

/// Writes a new journal file.
#[derive(Debug)]
pub struct PrepareJob {
    pub(crate) directory: PathBuf,
    pub(crate) slot: u32,
    pub(crate) bytes: u64,
}

/// The outcome of a [`PrepareJob`].
pub struct PrepareDone {
    pub(crate) result: io::Result<Slot>,
}

impl PrepareJob {
    pub async fn run(self, disk: &Disk) -> PrepareDone {
        let path = slot_path(&self.directory, self.slot);
        let result = self.prepare(disk, &path).await;
        if result.is_err() {
            // Half a file is of no use, and on a full disk it is in the way.
            let _ = disk.remove_file(&path).await;
        }
        PrepareDone { result }
    }

    async fn prepare(&self, disk: &Disk, path: &Path) -> io::Result<Slot> {
        const PIECE_BYTES: u64 = 1 << 20;
        let file = disk.open(path, OpenOptions::CREATE.direct()).await?;
        let zeroes = AlignedBuf::zeroed(PIECE_BYTES.min(self.bytes) as usize).freeze();
        let mut at = 0;
        while at < self.bytes {
            let piece = zeroes.slice(..PIECE_BYTES.min(self.bytes - at) as usize);
            let length = piece.len() as u64;
            file.write_at(piece, at, Durability::Volatile).await?;
            at += length;
        }
        file.sync_all().await?;
        disk.sync_dir(&self.directory).await?;
        Ok(Slot {
            number: self.slot,
            file,
            bytes: self.bytes,
        })
    }
}
