//! The durability oracle: whether the simulated platter holds a batch at this very moment.
//!
//! It reads what would survive a power loss now, whatever the broker believes. It knows that batches lie in the files
//! as their producer sent them, but for base offset and leader epoch, and begin at multiples of eight bytes.

use bytes::Bytes;
use runtime::sim::{Control, NodeId};
use std::path::PathBuf;

/// Bytes of a batch before its CRC: what the broker patches, the length and the magic.
const PATCHED_BYTES: usize = 17;
const ALIGN_BYTES: usize = 8;
const PIECE_BYTES: usize = 64 << 10;

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
