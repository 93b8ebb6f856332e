//! The durability oracle: whether the simulated platter holds a batch at this very moment.
//!
//! It reads what would survive a power loss now, whatever the broker believes. It knows that batches lie in the files
//! as their producer sent them, but for base offset and leader epoch, and begin at multiples of eight bytes. So the third
//! word of eight bytes is the producer's own and is whole in one page: it is looked for in place, and what
//! surrounds it is compared where it is found.

use bytes::Bytes;
use runtime::sim::{Control, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

/// Bytes of a batch before its CRC: what the broker patches, the length and the magic.
const PATCHED_BYTES: usize = 17;
const WORD_BYTES: usize = 8;
/// Where the word begins by which a batch is looked for: magic, CRC and attributes.
const WORD_AT: usize = 16;
/// Places where batches were found last: each core has a journal of its own, and large batches go to segments.
const HINTS_MAX: usize = 4;
/// Words that may be meant, by some of their bits.
const SIEVE_WORDS: usize = 1 << 10;

/// Which of these batches the durable bytes of a node hold at their offsets, by index. One pass over the disk.
pub(super) fn held(control: &Control, node: NodeId, wanted: &[(i64, Bytes)]) -> Vec<bool> {
    let mut by_word: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut sieve = [0u64; SIEVE_WORDS];
    for (index, (_, batch)) in wanted.iter().enumerate() {
        by_word.entry(word(batch)).or_default().push(index);
        let (at, bit) = place_in_sieve(word(batch));
        sieve[at] |= bit;
    }
    let mut held = vec![false; wanted.len()];
    for path in control.durable_files(node) {
        control.look_through_durable(node, &path, 0, |(from, page)| {
            for (number, word) in words(page).enumerate() {
                let (at, bit) = place_in_sieve(word);
                if sieve[at] & bit == 0 {
                    continue;
                }
                let meant = by_word.get(&word).into_iter().flatten();
                for index in meant {
                    let (offset, batch) = &wanted[*index];
                    let start = start_of(from, number);
                    held[*index] |= start.is_some_and(|start| {
                        is_at(control, node, &path, start, batch, Some(*offset))
                    });
                }
            }
            None::<()>
        });
    }
    held
}

fn word(batch: &[u8]) -> u64 {
    let bytes = &batch[WORD_AT..WORD_AT + WORD_BYTES];
    u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
}

fn words(page: &[u8]) -> impl Iterator<Item = u64> {
    let words = page.chunks_exact(WORD_BYTES);
    words.map(|bytes| u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
}

/// Where the batch begins whose word is the one of this number of a page.
fn start_of(page: u64, number: usize) -> Option<u64> {
    (page + (number * WORD_BYTES) as u64).checked_sub(WORD_AT as u64)
}

/// Magic and attributes are the same for all: the CRC decides.
fn place_in_sieve(word: u64) -> (usize, u64) {
    let mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    (mixed as usize / 64, 1 << (mixed % 64))
}

/// Whether a batch lies there, at this offset of its log if one is given.
fn is_at(
    control: &Control,
    node: NodeId,
    path: &Path,
    start: u64,
    batch: &[u8],
    offset: Option<i64>,
) -> bool {
    let there = control.durable(node, path, start, batch.len());
    there.is_some_and(|there| {
        there.len() == batch.len()
            && there[PATCHED_BYTES..] == batch[PATCHED_BYTES..]
            && offset.is_none_or(|offset| there.starts_with(&offset.to_be_bytes()))
    })
}

/// Looks for batches, beginning where the last ones were.
#[derive(Default)]
pub(super) struct Platter {
    /// The newest first.
    hints: VecDeque<(PathBuf, u64)>,
}

impl Platter {
    /// Whether `batch` is among the durable bytes behind where batches were found before: seldom wrong if it says no.
    pub fn holds_nearby(&mut self, control: &Control, node: NodeId, batch: &Bytes) -> bool {
        let found = self.hints.iter().find_map(|(path, from)| {
            let found = find(control, node, path, *from, batch)?;
            Some((path.clone(), found))
        });
        self.note(found)
    }

    /// Whether the durable bytes of any file of `node` hold `batch`.
    pub fn holds(&mut self, control: &Control, node: NodeId, batch: &Bytes) -> bool {
        let files = control.durable_files(node);
        let found = files.into_iter().find_map(|path| {
            let found = find(control, node, &path, 0, batch)?;
            Some((path, found))
        });
        self.note(found)
    }

    fn note(&mut self, found: Option<(PathBuf, u64)>) -> bool {
        let Some((path, offset)) = found else {
            return false;
        };
        self.hints.retain(|(other, _)| *other != path);
        self.hints.truncate(HINTS_MAX - 1);
        self.hints.push_front((path, offset));
        true
    }
}

/// How many of these nodes have a batch among their durable bytes, up to `enough`.
pub(super) fn holders(
    control: &Control,
    nodes: &[NodeId],
    platters: &mut [Platter],
    batch: &Bytes,
    enough: usize,
) -> usize {
    let mut found = 0;
    let mut elsewhere = Vec::new();
    for (node, platter) in nodes.iter().zip(platters) {
        if found == enough {
            return found;
        }
        match platter.holds_nearby(control, *node, batch) {
            true => found += 1,
            false => elsewhere.push((*node, platter)),
        }
    }
    // Whoever does not have it, or not where it would be, is searched through only if it matters.
    let mut rest = elsewhere.into_iter();
    while found < enough
        && let Some((node, platter)) = rest.next()
    {
        found += usize::from(platter.holds(control, node, batch));
    }
    found
}

/// Where a batch begins in a file, not before `from`.
fn find(control: &Control, node: NodeId, path: &Path, from: u64, batch: &Bytes) -> Option<u64> {
    let wanted = word(batch);
    control.look_through_durable(node, path, from, |(first, page)| {
        let found = words(page).enumerate().filter(|(_, word)| *word == wanted);
        let mut starts = found.filter_map(|(number, _)| start_of(first, number));
        starts.find(|start| *start >= from && is_at(control, node, path, *start, batch, None))
    })
}
