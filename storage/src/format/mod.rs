//! Every byte that lies on a disk, and nothing else: encoding, decoding, sizes, checksums.
//! Must not know files, logs or time.
//!
//! All integers are little-endian; all checksums are CRC-32C. The files of a node:
//!
//! ```text
//! <data>/node                                          text: format, cluster, node, incarnation
//! <data>/starts                                        how often the node was started: see `starts`
//! <data>/journal/layout                                text: number of cores the journals are for
//! <data>/journal/core-<k>/<slot>.journal               file header, then blocks of frames
//! <data>/journal/core-<k>/checkpoint-<0|1>             what the journal need not tell any more
//! <data>/partitions/<topic>/<partition>/<i>-<g>.segment  frames; i = base index, g = generation
//! <data>/partitions/<topic>/<partition>/<i>-<g>.index    sparse index; rebuilt when damaged
//! ```
//!
//! A **frame** ([`frame`]) is one raft entry, or one marker that changes a log without being an
//! entry. The same header serves journal and segments. A **block** ([`block`]) is what one turn
//! appends to the journal: a header, frames, zeroes up to 4 KiB. Each block names the sequence
//! number up to which the journal was durable when it was written, which is what tells a torn
//! tail (nothing durable is missing) from corruption (something durable is), and the checksum of
//! its predecessor, which is what refuses the remains of an earlier run in the same file.
//!
//! # Migration from version N to N + 1
//!
//! Version 1 is the only one so far. The version stands in every frame, in every block, in the
//! header of each journal file, in each checkpoint and in the `node` file. To change the format:
//!
//! 1. Raise `VERSION`. Keep the decoder of version N beside the new one; a decoder chooses by the
//!    version byte, never by guessing.
//! 2. Segments are never rewritten: a log may hold segments of both versions for as long as
//!    retention keeps them, so the decoder of N stays until no supported upgrade starts at N.
//! 3. The journal is left behind at once: the first start of the new version recovers with the
//!    old decoder, drains everything, and writes its first checkpoint in version N + 1.
//! 4. The `node` file is raised last. A binary that meets a higher format than its own refuses to
//!    start and says which version wrote the directory.

pub(crate) mod batch;
pub(crate) mod block;
pub(crate) mod checkpoint;
pub(crate) mod codec;
pub(crate) mod frame;
pub(crate) mod index;

/// The version of every structure in this module.
pub const VERSION: u8 = 1;

/// Direct I/O, and the unit that is never rewritten once it was acknowledged.
pub(crate) const PAGE_BYTES: usize = 4096;

const _: () = assert!(PAGE_BYTES == runtime::ALIGN);

/// Rounds up to a whole page.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES as u64)
}
