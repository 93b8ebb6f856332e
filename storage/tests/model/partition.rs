//! What one partition should be: plain vectors, and every state that a crash may lead back to.

use std::collections::BTreeSet;

use bytes::Bytes;
use storage::{EntryKind, HardState, Reset};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelEntry {
    pub term: u64,
    pub kind: EntryKind,
    pub base_offset: i64,
    pub end_offset: i64,
    pub timestamp: i64,
    pub data: Bytes,
}

/// A partition at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub exists: bool,
    /// The log begins after this index and offset (a reset, or the very beginning).
    pub base_index: u64,
    pub base_term: u64,
    pub base_offset: i64,
    pub entries: Vec<ModelEntry>,
    pub hard_state: HardState,
    /// How far the owner's state stood that came with the last reset.
    pub installed: u64,
}

impl State {
    pub fn last_index(&self) -> u64 {
        self.base_index + self.entries.len() as u64
    }

    pub fn next_offset(&self) -> i64 {
        self.entries
            .last()
            .map_or(self.base_offset, |e| e.end_offset)
    }

    pub fn last_term(&self) -> u64 {
        self.entries.last().map_or(self.base_term, |e| e.term)
    }

    pub fn term(&self, index: u64) -> u64 {
        match index.checked_sub(self.base_index + 1) {
            None => self.base_term,
            Some(i) => self.entries[i as usize].term,
        }
    }

    pub fn offset_after(&self, index: u64) -> i64 {
        match index.checked_sub(self.base_index + 1) {
            None => self.base_offset,
            Some(i) => self.entries[i as usize].end_offset,
        }
    }

    pub fn cut_to(&mut self, index: u64) {
        self.entries.truncate((index - self.base_index) as usize);
    }

    /// Appends as the log does: offsets follow, batches are patched.
    pub fn push(&mut self, term: u64, kind: EntryKind, data: &Bytes) {
        let base_offset = self.next_offset();
        let (count, timestamp, data) = match kind {
            EntryKind::Batch => {
                let mut patched = data.to_vec();
                patched[..8].copy_from_slice(&base_offset.to_be_bytes());
                patched[12..16].copy_from_slice(&(term as i32).to_be_bytes());
                let delta = i32::from_be_bytes(data[23..27].try_into().unwrap());
                let timestamp = i64::from_be_bytes(data[35..43].try_into().unwrap());
                (i64::from(delta) + 1, timestamp, Bytes::from(patched))
            }
            EntryKind::Command => (1, -1, data.clone()),
            _ => (0, -1, data.clone()),
        };
        let end_offset = base_offset + count;
        self.entries.push(ModelEntry {
            term,
            kind,
            base_offset,
            end_offset,
            timestamp,
            data,
        });
    }

    pub fn reset(&mut self, reset: &Reset) {
        self.base_index = reset.last_index;
        self.base_term = reset.last_term;
        self.base_offset = reset.next_offset;
        self.entries.clear();
        self.installed = reset.applied;
        self.hard_state.commit = self.hard_state.commit.max(reset.last_index);
    }

    pub fn batches(&self) -> impl Iterator<Item = &ModelEntry> {
        self.entries.iter().filter(|e| e.kind == EntryKind::Batch)
    }
}

/// A partition with its past: `versions[0]` is durable, each later one may or may not survive.
pub struct Partition {
    pub versions: Vec<(u64, State)>,
    pub commit: u64,
    /// (index, term) of all entries ever.
    pub used: BTreeSet<(u64, u64)>,
}

impl Partition {
    pub fn new() -> Partition {
        Partition {
            versions: vec![(0, State::default())],
            commit: 0,
            used: BTreeSet::new(),
        }
    }

    pub fn now(&self) -> &State {
        &self.versions.last().unwrap().1
    }

    /// Notes a change that was staged in `turn`.
    pub fn change(&mut self, turn: u64, change: impl FnOnce(&mut State)) {
        let mut state = self.now().clone();
        change(&mut state);
        self.versions.push((turn, state));
    }

    /// Everything up to `turn` is durable.
    pub fn durable(&mut self, turn: u64) {
        let keep = self
            .versions
            .iter()
            .rposition(|(t, _)| *t <= turn)
            .unwrap_or(0);
        self.versions.drain(..keep);
        self.versions[0].0 = 0;
    }

    /// The node was restarted and `state` is what survived.
    pub fn survived(&mut self, state: State, commit: u64) {
        self.versions = vec![(0, state)];
        self.commit = commit;
    }
}

/// A well-shaped record batch; the records are noise.
pub fn batch(count: u32, timestamp: i64, body: usize, mark: u64) -> Bytes {
    let mut b = vec![0u8; 61];
    b[8..12].copy_from_slice(&((61 + body - 12) as i32).to_be_bytes());
    b[16] = 2;
    b[23..27].copy_from_slice(&(count as i32 - 1).to_be_bytes());
    b[35..43].copy_from_slice(&timestamp.to_be_bytes());
    b[57..61].copy_from_slice(&(count as i32).to_be_bytes());
    let mut random = super::Random(mark);
    while b.len() < 61 + body {
        b.extend_from_slice(&random.draw().to_le_bytes());
    }
    b.truncate(61 + body);
    Bytes::from(b)
}
