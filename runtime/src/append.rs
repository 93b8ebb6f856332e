//! Memory that one owner still appends to while others already read what was appended.
//! Must not know what the bytes mean. Deliberately absent: growth (slices must never move) and
//! taking bytes back.
//!
//! Soundness: every byte below `len` is either *sealed* (never written again, may be shared) or
//! part of exactly one open hole (may be written, cannot be shared). `slice` hands out sealed
//! ranges only, writes touch open holes and bytes at or above `len` only, so no byte is ever
//! written while a reference to it exists.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::aligned::Memory;

/// A fixed-capacity, [`ALIGN`](crate::ALIGN)ed buffer that is appended to by one owner while
/// regions already written are handed out as shared [`Bytes`]. The memory lives until the buffer
/// and the last slice are gone.
pub struct AppendBuf {
    memory: Arc<Memory>,
    /// Bytes `0..len` are initialised.
    len: usize,
    /// Reserved and not yet filled, in ascending order, disjoint, all below `len`.
    holes: Vec<Range<usize>>,
}

impl AppendBuf {
    /// Empty, with room for `n` bytes rounded up to 4096. The caller has checked `n`.
    pub fn with_capacity(n: usize) -> AppendBuf {
        AppendBuf {
            memory: Arc::new(Memory::new(n)),
            len: 0,
            holes: Vec::new(),
        }
    }

    /// Bytes appended, holes and padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.capacity() - self.len
    }

    /// Bytes that fit in all.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Appends `data` and says where it lies. Asserts that it fits.
    pub fn append(&mut self, data: &[u8]) -> Range<usize> {
        let range = self.claim(data.len());
        // SAFETY: `claim` returned fresh bytes inside the allocation, above every sealed byte.
        unsafe { self.write(range.start, data) }
        range
    }

    /// Appends a hole of `n` zero bytes and returns its offset. It can be [filled](Self::fill)
    /// once; until then it cannot be sliced.
    pub fn reserve(&mut self, n: usize) -> usize {
        let range = self.claim(n);
        self.zero(&range);
        if n > 0 {
            self.holes.push(range.clone());
        }
        range.start
    }

    /// Writes the hole at `at`, whole. Asserts that it is one, of just this length.
    pub fn fill(&mut self, at: usize, data: &[u8]) {
        let hole = at..at + data.len();
        let Some(index) = self.holes.iter().position(|h| *h == hole) else {
            panic!("{hole:?} is no open hole; open: {:?}", self.holes);
        };
        self.holes.remove(index);
        // SAFETY: the range was an open hole: inside the allocation and never handed out.
        unsafe { self.write(at, data) }
    }

    /// Appends zero bytes until the length is a multiple of `align` bytes.
    pub fn pad_to(&mut self, align: usize) {
        let range = self.claim(self.len.next_multiple_of(align) - self.len);
        self.zero(&range);
    }

    /// Shares a written range without a copy. Asserts that it lies below `len` and holds no open
    /// hole.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "slice {range:?} of {} bytes appended",
            self.len
        );
        let open = self
            .holes
            .iter()
            .find(|h| h.start < range.end && range.start < h.end);
        assert!(
            open.is_none(),
            "slice {range:?} meets the open hole {open:?}"
        );
        if range.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(Sealed {
            memory: Arc::clone(&self.memory),
            range,
        })
    }

    fn claim(&mut self, n: usize) -> Range<usize> {
        assert!(
            n <= self.remaining(),
            "{n} bytes over the {} that remain",
            self.remaining()
        );
        let start = self.len;
        self.len += n;
        start..self.len
    }

    fn zero(&mut self, range: &Range<usize>) {
        // SAFETY: just claimed: inside the allocation and above every sealed byte.
        unsafe {
            self.memory
                .start()
                .add(range.start)
                .write_bytes(0, range.len())
        }
    }

    /// # Safety
    /// `at..at + data.len()` lies inside the allocation, and no slice of it was handed out.
    unsafe fn write(&mut self, at: usize, data: &[u8]) {
        // SAFETY: by contract the target is unshared; `data` cannot lie in it for the same reason.
        unsafe {
            self.memory
                .start()
                .add(at)
                .copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
    }
}

impl fmt::Debug for AppendBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "AppendBuf({} of {} bytes, holes {:?})",
            self.len,
            self.capacity(),
            self.holes
        )
    }
}

/// A range that is never written again.
struct Sealed {
    memory: Arc<Memory>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the range was initialised and sealed when this value was made; the allocation
        // lives as long as `memory`.
        unsafe {
            let start = self.memory.start().add(self.range.start);
            std::slice::from_raw_parts(start, self.range.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ALIGN;

    #[test]
    fn slices_survive_the_buffer_and_later_appends() {
        let mut buf = AppendBuf::with_capacity(100);
        let head = buf.reserve(8);
        let body = buf.append(b"records");
        let early = buf.slice(body.clone());
        buf.fill(head, b"frame-01");
        let whole = buf.slice(head..body.end);
        buf.pad_to(ALIGN);
        assert_eq!(buf.remaining(), 0);
        drop(buf);
        assert_eq!(&early[..], b"records");
        assert_eq!(&whole[..], b"frame-01records");
    }

    #[test]
    fn a_slice_for_a_direct_write_is_aligned() {
        let mut buf = AppendBuf::with_capacity(3 * ALIGN);
        buf.append(&[7; 10]);
        buf.pad_to(ALIGN);
        let second = buf.append(&[8; ALIGN]);
        assert_eq!(second, ALIGN..2 * ALIGN);
        assert_eq!(buf.slice(second).as_ptr() as usize % ALIGN, 0);
    }

    #[test]
    #[should_panic(expected = "open hole")]
    fn an_open_hole_cannot_be_shared() {
        let mut buf = AppendBuf::with_capacity(100);
        buf.append(b"ab");
        let at = buf.reserve(4);
        buf.slice(at + 3..at + 4);
    }

    #[test]
    #[should_panic(expected = "no open hole")]
    fn a_hole_is_filled_once() {
        let mut buf = AppendBuf::with_capacity(100);
        let at = buf.reserve(2);
        buf.fill(at, b"xy");
        buf.fill(at, b"zz");
    }

    #[test]
    #[should_panic(expected = "remain")]
    fn it_never_grows() {
        AppendBuf::with_capacity(1).append(&[0; ALIGN + 1]);
    }
}
