//! One simulated file: what readers see, what the platter holds, and the changes in between.
//!
//! Each change is *in flight* from its submission to its completion and *done* from then until a
//! sync makes it durable. A crash decides for each change, in flight or done, what became of it.
//! Pure state: knows neither time nor names.

use std::ops::Range;

use bytes::Bytes;

use super::content::{Content, PAGE};
use super::extents::Extents;
use super::random::Random;

/// What a device writes whole or not at all, in bytes.
pub(crate) const SECTOR: u64 = 512;

/// Names a change of a file; grows in order of submission.
pub(crate) type ChangeId = u64;

#[derive(Clone, Debug)]
enum Kind {
    /// `dead` ranges were overtaken by a later change that is durable.
    Write {
        offset: u64,
        data: Bytes,
        dead: Vec<Range<u64>>,
    },
    /// The length grows (`set_len` upwards).
    Grow(u64),
    /// The length shrinks.
    Cut(u64),
    Allocate(Range<u64>),
}

#[derive(Clone, Debug)]
struct Change {
    id: ChangeId,
    kind: Kind,
    /// Order of completion; `None` while in flight.
    done: Option<u64>,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Inode {
    /// What readers see.
    live: Content,
    /// What the platter holds.
    durable: Content,
    live_blocks: Extents,
    durable_blocks: Extents,
    /// Not durable, in order of submission.
    changes: Vec<Change>,
    next_id: ChangeId,
    completions: u64,
}

impl Inode {
    /// The file as a reader finds it whose system knows nothing but the platter.
    pub(crate) fn copy_of_the_platter(&self) -> Inode {
        Inode {
            live: self.durable.clone(),
            durable: self.durable.clone(),
            live_blocks: self.durable_blocks.clone(),
            durable_blocks: self.durable_blocks.clone(),
            ..Inode::default()
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.live.len()
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        self.live.read(offset, len)
    }

    pub(crate) fn durable(&self) -> &Content {
        &self.durable
    }

    /// Space taken, in bytes.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.live_blocks.total() * PAGE
    }

    /// Space that a write or allocation of this range would take in addition, in bytes.
    pub(crate) fn missing_bytes(&self, range: Range<u64>) -> u64 {
        self.live_blocks.missing(blocks(&range)) * PAGE
    }

    /// Submits a write.
    pub(crate) fn begin_write(&mut self, offset: u64, data: Bytes) -> ChangeId {
        self.begin(Kind::Write {
            offset,
            data,
            dead: Vec::new(),
        })
    }

    /// Submits a change of length.
    pub(crate) fn begin_set_len(&mut self, len: u64) -> ChangeId {
        self.begin(if len < self.live.len() {
            Kind::Cut(len)
        } else {
            Kind::Grow(len)
        })
    }

    /// Submits an allocation.
    pub(crate) fn begin_allocate(&mut self, range: Range<u64>) -> ChangeId {
        self.begin(Kind::Allocate(range))
    }

    fn begin(&mut self, kind: Kind) -> ChangeId {
        let id = self.next_id;
        self.next_id += 1;
        self.changes.push(Change {
            id,
            kind,
            done: None,
        });
        id
    }

    /// Completes a change: readers see it.
    pub(crate) fn finish(&mut self, id: ChangeId) {
        let done = self.completions;
        self.completions += 1;
        let change = self.change_mut(id);
        change.done = Some(done);
        let kind = change.kind.clone();
        show(&mut self.live, &mut self.live_blocks, &kind);
    }

    /// Completes a synced write: it is durable, and so is a cut before it, without which the
    /// write could not be found again. Other earlier changes stay as they are.
    pub(crate) fn finish_synced(&mut self, id: ChangeId) {
        self.finish(id);
        let due = |c: &Change| {
            c.id == id || (c.id < id && c.done.is_some() && matches!(c.kind, Kind::Cut(_)))
        };
        self.persist(due);
    }

    /// A change failed. Of a write, some sectors may have been written nevertheless.
    pub(crate) fn fail(&mut self, id: ChangeId, random: &mut Random) {
        let change = self.change_mut(id);
        let Kind::Write { offset, data, dead } = &mut change.kind else {
            self.changes.retain(|c| c.id != id);
            return;
        };
        for sector in sectors(*offset, data.len()) {
            if random.coin() {
                dead.push(sector);
            }
        }
        self.finish(id);
    }

    /// Takes note of what a sync that begins now will cover.
    pub(crate) fn begin_sync(&self) -> u64 {
        self.completions
    }

    /// Completes a sync that began at `mark`: what was done by then is durable.
    pub(crate) fn finish_sync(&mut self, mark: u64) {
        self.persist(|c| c.done.is_some_and(|done| done < mark));
    }

    /// A sync failed: what it covered may be durable or not, and the system has forgotten that it
    /// was to be written. Readers go on seeing it.
    pub(crate) fn fail_sync(&mut self, mark: u64, random: &mut Random) {
        let covered = |c: &Change| c.done.is_some_and(|done| done < mark);
        let (covered, rest): (Vec<_>, Vec<_>) = self.changes.drain(..).partition(covered);
        self.changes = rest;
        replay(
            &mut self.durable,
            &mut self.durable_blocks,
            &covered,
            random,
        );
    }

    /// Power loss: what is not durable is kept in part, as the device and the journal of the file
    /// system happened to have written it. Says whether any change was lost or torn.
    pub(crate) fn lose_power(&mut self, random: &mut Random) {
        let changes = std::mem::take(&mut self.changes);
        replay(
            &mut self.durable,
            &mut self.durable_blocks,
            &changes,
            random,
        );
        self.live = self.durable.clone();
        self.live_blocks = self.durable_blocks.clone();
    }

    /// The process ends, the system lives: each change in flight happens or does not.
    pub(crate) fn lose_process(&mut self, random: &mut Random) {
        let flying: Vec<_> = self.changes.iter().filter(|c| c.done.is_none()).collect();
        let flying: Vec<ChangeId> = flying.into_iter().map(|c| c.id).collect();
        for id in flying {
            if random.coin() {
                self.finish(id);
            } else {
                self.changes.retain(|c| c.id != id);
            }
        }
    }

    /// Damages what readers see and what the platter holds. False beyond the end.
    pub(crate) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        let seen = self.live.flip(offset, bit);
        let held = self.durable.flip(offset, bit);
        seen || held
    }

    fn change_mut(&mut self, id: ChangeId) -> &mut Change {
        let found = self.changes.iter_mut().find(|c| c.id == id);
        found.unwrap_or_else(|| panic!("change {id} is not in flight"))
    }

    /// Moves the changes that are due to the platter, in order.
    fn persist(&mut self, due: impl Fn(&Change) -> bool) {
        let mut at = 0;
        while at < self.changes.len() {
            if !due(&self.changes[at]) {
                at += 1;
                continue;
            }
            let change = self.changes.remove(at);
            let overtaken = match &change.kind {
                Kind::Write { offset, data, .. } => Some(*offset..*offset + data.len() as u64),
                Kind::Cut(len) => Some(*len..u64::MAX),
                Kind::Grow(_) | Kind::Allocate(_) => None,
            };
            if let Some(overtaken) = overtaken {
                for earlier in &mut self.changes[..at] {
                    if let Kind::Write { dead, .. } = &mut earlier.kind {
                        dead.push(overtaken.clone());
                    }
                }
            }
            show(&mut self.durable, &mut self.durable_blocks, &change.kind);
        }
    }
}

/// Applies a whole change, but for what has overtaken it.
fn show(content: &mut Content, allocated: &mut Extents, kind: &Kind) {
    match kind {
        Kind::Write { offset, data, dead } => {
            let end = *offset + data.len() as u64;
            allocated.insert(blocks(&(*offset..end)));
            if dead.is_empty() {
                content.write(*offset, data);
                return;
            }
            for sector in sectors(*offset, data.len()) {
                put_sector(content, *offset, data, dead, sector);
            }
            content.grow(end);
        }
        Kind::Grow(len) => content.grow(*len),
        Kind::Cut(len) => {
            content.set_len(*len);
            allocated.cut(len.div_ceil(PAGE));
        }
        Kind::Allocate(range) => {
            allocated.insert(blocks(range));
            content.grow(range.end);
        }
    }
}

fn put_sector(
    content: &mut Content,
    offset: u64,
    data: &Bytes,
    dead: &[Range<u64>],
    sector: Range<u64>,
) {
    if dead
        .iter()
        .any(|d| d.start < sector.end && sector.start < d.end)
    {
        return;
    }
    let inside = (sector.start - offset) as usize..(sector.end - offset) as usize;
    content.put(sector.start, &data[inside]);
}

/// How much of one write reached the platter.
enum Fate {
    Nothing,
    All,
    /// The sectors before this one.
    Prefix(u64),
    /// Each sector by the toss of a coin.
    Some,
}

/// Applies a part of the changes, as a power loss may leave it. The changes of length and
/// allocation that survive are the first so many of them, since a file system journals them in
/// order; of the data any sectors survive.
fn replay(content: &mut Content, allocated: &mut Extents, changes: &[Change], random: &mut Random) {
    // Often all or nothing: the extremes are where the bugs are.
    let journaled = match random.below(4) {
        0 => 0,
        1 => changes.len() as u64,
        _ => random.between(0, changes.len() as u64),
    };
    for (order, change) in changes.iter().enumerate() {
        let in_journal = (order as u64) < journaled;
        let Kind::Write { offset, data, dead } = &change.kind else {
            if in_journal {
                show(content, allocated, &change.kind);
            }
            continue;
        };
        let count = sectors(*offset, data.len()).count() as u64;
        let fate = match random.below(4) {
            0 => Fate::Nothing,
            1 => Fate::All,
            2 => Fate::Prefix(random.between(0, count)),
            _ => Fate::Some,
        };
        for (number, sector) in sectors(*offset, data.len()).enumerate() {
            let kept = match fate {
                Fate::Nothing => false,
                Fate::All => true,
                Fate::Prefix(before) => (number as u64) < before,
                Fate::Some => random.coin(),
            };
            if kept {
                put_sector(content, *offset, data, dead, sector);
            }
        }
        if in_journal {
            let end = *offset + data.len() as u64;
            allocated.insert(blocks(&(*offset..end)));
            content.grow(end);
        }
    }
    content.settle();
}

/// The sectors that a write touches, each clipped to the write.
fn sectors(offset: u64, len: usize) -> impl Iterator<Item = Range<u64>> {
    let end = offset + len as u64;
    (offset / SECTOR..end.div_ceil(SECTOR))
        .map(move |s| (s * SECTOR).max(offset)..((s + 1) * SECTOR).min(end))
}

fn blocks(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE..range.end.div_ceil(PAGE)
}
