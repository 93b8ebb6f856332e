//! Sealing a turn and writing it.

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use runtime::{Durability, File, join_all};

use super::Journal;
use super::direct::{ExtentWrite, write_extents};
use crate::cache::SegmentCache;
use crate::error::JournalError;
use crate::options::Mutation;

/// A sealed turn on its way to the disk.
pub struct JournalWrite {
    turn: u64,
    last_sequence: u64,
    extents: Vec<Vec<ExtentWrite>>,
    parts: Vec<(File, u64, Bytes)>,
    cache: Rc<SegmentCache>,
    durability: Durability,
}

/// The outcome of a [`JournalWrite`].
#[derive(Debug)]
pub struct JournalWritten {
    turn: u64,
    last_sequence: u64,
    result: io::Result<()>,
}

impl Journal {
    /// Closes the turn. `None` when nothing was staged, when the write of an earlier turn is
    /// still under way (what is staged then leaves together, after it), or after a failure.
    pub fn seal(&mut self) -> Option<JournalWrite> {
        if self.in_flight || self.failed || self.blocks.is_empty() {
            return None;
        }
        let extents = self.take_extents();
        let parts = self.take_blocks();
        let bytes: u64 = parts.iter().map(|(_, _, b)| b.len() as u64).sum();
        self.checkpoints.since.bytes += bytes;
        self.in_flight = true;
        let turn = self.staged_turn;
        self.staged_turn += 1;
        let last_sequence = self.next_sequence - 1;
        Some(JournalWrite {
            turn,
            last_sequence,
            extents,
            parts,
            cache: Rc::clone(&self.cache),
            durability: match self.options.mutation {
                Some(Mutation::AckBeforeSync) => Durability::Volatile,
                _ => Durability::Synced,
            },
        })
    }

    /// Takes in the outcome. On an error nothing of that turn may be acknowledged, and the
    /// journal refuses everything from now on.
    pub fn written(&mut self, done: JournalWritten) -> Result<(), JournalError> {
        assert!(
            self.in_flight,
            "turn {} was written, none was under way",
            done.turn
        );
        self.in_flight = false;
        self.held = false;
        if let Err(error) = done.result {
            self.failed = true;
            return Err(JournalError::Write(error));
        }
        assert_eq!(
            done.turn,
            self.durable_turn_expected(),
            "turns are written in order"
        );
        self.durable_turn = done.turn;
        self.durable_sequence = done.last_sequence;
        self.cache.durable_sequence.set(done.last_sequence);
        Ok(())
    }

    /// A turn waits for room on the disk: nothing new is accepted until it is written.
    pub fn hold(&mut self) {
        self.held = true;
    }

    fn durable_turn_expected(&self) -> u64 {
        self.durable_turn + 1
    }
}

impl JournalWrite {
    pub fn turn(&self) -> u64 {
        self.turn
    }

    /// Writes the turn, synced: first what goes straight to segments, then the journal, which
    /// refers to it. Several parts go one after another, each durable before the next:
    /// a later block never stands on an earlier one that may be missing.
    pub async fn run(self) -> JournalWritten {
        match self.try_run().await {
            Ok(written) => written,
            Err(held) => JournalWritten {
                turn: held.turn,
                last_sequence: held.last_sequence,
                result: Err(io::ErrorKind::StorageFull.into()),
            },
        }
    }

    /// As [`run`](Self::run), but a full disk is no failure: the journal's own files were written
    /// ahead of their use, only bulk needs new room, and without it nothing of the turn is
    /// durable. The write comes back, to be tried again when there is room; meanwhile the owner
    /// lets the journal [`hold`](Journal::hold).
    pub async fn try_run(self) -> Result<JournalWritten, JournalWrite> {
        let cache = &self.cache;
        let extents = self
            .extents
            .iter()
            .map(|extents| write_extents(extents, cache));
        let mut result = join_all(extents)
            .await
            .into_iter()
            .collect::<io::Result<()>>();
        if result
            .as_ref()
            .is_err_and(|e| e.kind() == io::ErrorKind::StorageFull)
        {
            return Err(self);
        }
        for (file, offset, bytes) in self.parts {
            if result.is_err() {
                break;
            }
            let length = bytes.len() as u64;
            result = file.write_at(bytes, offset, self.durability).await;
            cache.counters.add(|s| {
                s.journal_writes += 1;
                s.journal_bytes += length;
            });
        }
        Ok(JournalWritten {
            turn: self.turn,
            last_sequence: self.last_sequence,
            result,
        })
    }
}

impl JournalWritten {
    pub fn turn(&self) -> u64 {
        self.turn
    }

    pub fn is_ok(&self) -> bool {
        self.result.is_ok()
    }
}
