//! How often a node was started with its data directory.
//!
//! `<data>/starts` has two slots of 512 bytes, written in turn and in place: a write that is torn leaves the other one, and
//! a full disk has room for it. A slot holds the number of a start and what was drawn for it (`u32` each, little-endian),
//! and their CRC-32C; the higher number counts. What cannot be read counts as nothing, so a node whose file is damaged is
//! taken for an older copy by those who have heard of it.

use std::io;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use runtime::{Disk, Durability, OpenOptions};

use crate::data_dir::failed;
use crate::error::DataDirError;

const FILE: &str = "starts";
const SLOT_BYTES: usize = 512;

/// One start of a node with a data directory. An older copy of the directory gives itself away by it: it counts on from
/// an older start, and where it reaches the number that another one had, it has drawn something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// From 1 on; 0: none yet.
    pub number: u32,
    pub drawn: u32,
}

impl Start {
    fn next(self, drawn: u32) -> Start {
        let number = self.number.saturating_add(1);
        Start { number, drawn }
    }

    /// Whether whoever has heard of this start knows that the other one was made with an older copy.
    pub fn rules_out(self, other: Start) -> bool {
        self != other && self.number >= other.number
    }

    fn encode(self) -> Bytes {
        let mut slot = BytesMut::with_capacity(SLOT_BYTES);
        slot.put_u32_le(self.number);
        slot.put_u32_le(self.drawn);
        slot.put_u32_le(crc32c::crc32c(&slot));
        slot.resize(SLOT_BYTES, 0);
        slot.freeze()
    }

    fn decode(mut slot: &[u8]) -> Option<Start> {
        let checksum = crc32c::crc32c(slot.get(..8)?);
        let (number, drawn) = (slot.get_u32_le(), slot.get_u32_le());
        let is_whole = slot.try_get_u32_le().ok()? == checksum;
        (is_whole && number > 0).then_some(Start { number, drawn })
    }

    fn slot(self) -> u64 {
        u64::from(self.number % 2) * SLOT_BYTES as u64
    }
}

/// Counts a start, which is on stable storage when this returns: before the node speaks with anybody.
pub(crate) async fn begin(disk: &Disk, path: &Path, drawn: u32) -> Result<Start, DataDirError> {
    let file_path = path.join(FILE);
    let begun = async {
        let content = match disk.read_to_end(&file_path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let start = last(&content).next(drawn);
        let file = disk.open(&file_path, OpenOptions::CREATE).await?;
        if content.len() < 2 * SLOT_BYTES {
            file.write_at(
                Bytes::from(vec![0; 2 * SLOT_BYTES]),
                0,
                Durability::Volatile,
            )
            .await?;
        }
        let offset = start.slot();
        file.write_at(start.encode(), offset, Durability::Volatile)
            .await?;
        file.sync_all().await?;
        disk.sync_dir(path).await?;
        Ok(start)
    };
    begun.await.map_err(failed("write", &file_path))
}

fn last(content: &[u8]) -> Start {
    let starts = content.chunks(SLOT_BYTES).filter_map(Start::decode);
    starts.max_by_key(|start| start.number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_copy_is_known_by_its_start() {
        let taken = Start::default().next(7);
        let (went_on, copy) = (taken.next(8), taken.next(9));
        assert!(went_on.rules_out(taken) && went_on.rules_out(copy));
        assert!(!went_on.rules_out(went_on), "it comes again");
        assert!(!taken.rules_out(went_on), "it was started again");
        assert!(
            copy.next(1).rules_out(went_on),
            "whoever was first is right"
        );
    }

    #[test]
    fn a_torn_slot_leaves_the_start_before() {
        let (one, two) = (Start::default().next(7), Start::default().next(7).next(8));
        assert_ne!(one.slot(), two.slot());
        let mut content = vec![0; 2 * SLOT_BYTES];
        assert_eq!(last(&content), Start::default());
        for start in [one, two] {
            let at = start.slot() as usize;
            content[at..at + SLOT_BYTES].copy_from_slice(&start.encode());
            assert_eq!(last(&content), start);
        }
        content[two.slot() as usize + 5] ^= 1;
        assert_eq!(last(&content), one);
        assert_eq!(last(&content[..SLOT_BYTES - 1]), Start::default());
        assert_eq!(last(b"short"), Start::default());
    }
}
