//! The durability oracle: whether the simulated platter holds a batch at this very moment.
//!
//! It reads what would survive a power loss now, whatever the broker believes. It knows that batches lie in the files
//! as their producer sent them, but for base offset and leader epoch, and begin at multiples of eight bytes.

use bytes::Bytes;
use runtime::sim::{Control, NodeId};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bytes of a batch before its CRC: what the broker patches, the length and the magic.
const PATCHED_BYTES: usize = 17;
const CRC_BYTES: usize = 4;
const ALIGN_BYTES: usize = 8;
const PIECE_BYTES: usize = 64 << 10;

/// Which of these batches the durable bytes of a node hold at their offsets, by index. One pass over the disk.
pub(super) fn held(control: &Control, node: NodeId, wanted: &[(i64, Bytes)]) -> Vec<bool> {
    let mut by_head: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (index, (_, batch)) in wanted.iter().enumerate() {
        by_head.entry(head(batch)).or_default().push(index);
    }
    let mut held = vec![false; wanted.len()];
    for path in control.durable_files(node) {
        let len = control.durable_len(node, &path).unwrap_or(0) as usize;
        let bytes = control.durable(node, &path, 0, len).unwrap_or_default();
        for at in (0..bytes.len().saturating_sub(PATCHED_BYTES + CRC_BYTES)).step_by(ALIGN_BYTES) {
            let Some(found) = by_head.get(head(&bytes[at..])) else {
                continue;
            };
            for index in found {
                let (offset, batch) = &wanted[*index];
                let here = bytes[at..].starts_with(&offset.to_be_bytes())
                    && bytes[at + PATCHED_BYTES..].starts_with(&batch[PATCHED_BYTES..]);
                held[*index] |= here;
            }
        }
    }
    held
}

/// A batch's magic and CRC.
fn head(batch: &[u8]) -> &[u8] {
    &batch[PATCHED_BYTES - 1..PATCHED_BYTES + CRC_BYTES]
}

/// Looks for batches, beginning where the last one was.
#[derive(Default)]
pub(super) struct Platter {
    hint: Option<(PathBuf, u64)>,
}

impl Platter {
    /// Whether the durable bytes of any file of `node` hold `batch`.
    pub fn holds(&mut self, control: &Control, node: NodeId, batch: &Bytes) -> bool {
        if let Some((path, offset)) = self.hint.take()
            && let Some(found) = find(control, node, &path, offset, batch)
        {
            self.hint = Some((path, found));
            return true;
        }
        for path in control.durable_files(node) {
            if let Some(found) = find(control, node, &path, 0, batch) {
                self.hint = Some((path, found));
                return true;
            }
        }
        false
    }
}

fn find(control: &Control, node: NodeId, path: &PathBuf, from: u64, batch: &Bytes) -> Option<u64> {
    let needle = &batch[PATCHED_BYTES..];
    let mut offset = from;
    loop {
        // Pieces overlap, so that a batch across a border is whole in one of them.
        let bytes = control.durable(node, path, offset, PIECE_BYTES + batch.len())?;
        let last = (bytes.len().checked_sub(batch.len())?).min(PIECE_BYTES - ALIGN_BYTES);
        let mut at = 0;
        while at <= last {
            let here = at + PATCHED_BYTES;
            if bytes[here..here + 4] == needle[..4] && bytes[here..].starts_with(needle) {
                return Some(offset + at as u64);
            }
            at += ALIGN_BYTES;
        }
        offset += PIECE_BYTES as u64;
    }
}
