//! Memory that a direct write accepts: aligned, written by one owner, then frozen without a copy.
//! Must not know what it is written to. Deliberately absent: pooling; the allocator does that.

use std::alloc::{self, Layout};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::{fmt, slice};

use bytes::Bytes;

/// Alignment of memory, offset and length of direct I/O, in bytes.
pub const ALIGN: usize = 4096;

/// One allocation aligned to [`ALIGN`]. Tracks no length: its owners say which bytes are written.
pub(crate) struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: `Memory` is a plain allocation without thread affinity. It hands out raw pointers only;
// whoever turns them into references answers for aliasing.
unsafe impl Send for Memory {}
// SAFETY: as above; a shared `Memory` offers nothing but its address and its size.
unsafe impl Sync for Memory {}

impl Memory {
    /// At least `capacity` bytes, rounded up to [`ALIGN`]; not initialised.
    pub(crate) fn new(capacity: usize) -> Memory {
        let capacity = capacity
            .checked_next_multiple_of(ALIGN)
            .unwrap_or_else(|| panic!("a buffer of {capacity} bytes cannot be aligned"));
        if capacity == 0 {
            return Memory {
                start: NonNull::dangling(),
                capacity: 0,
            };
        }
        let layout = Memory::layout(capacity);
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc::alloc(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| alloc::handle_alloc_error(layout));
        Memory { start, capacity }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, ALIGN)
            .unwrap_or_else(|_| panic!("a buffer of {capacity} bytes is beyond the address space"))
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: allocated in `new` with this very layout, and freed once.
            unsafe { alloc::dealloc(self.start.as_ptr(), Memory::layout(self.capacity)) }
        }
    }
}

/// A growable byte buffer aligned to [`ALIGN`].
///
/// Written by one owner, then [frozen](AlignedBuf::freeze) into shared, immutable [`Bytes`]
/// without a copy. Frozen bytes of a length that is a multiple of [`ALIGN`] suit a direct write.
pub struct AlignedBuf {
    memory: Memory,
    /// Bytes `0..len` are initialised; `len <= memory.capacity()`.
    len: usize,
}

impl AlignedBuf {
    /// Empty, with room for `n` bytes rounded up to [`ALIGN`]. The caller has checked `n`.
    pub fn with_capacity(n: usize) -> AlignedBuf {
        AlignedBuf {
            memory: Memory::new(n),
            len: 0,
        }
    }

    /// `n` zero bytes.
    pub fn zeroed(n: usize) -> AlignedBuf {
        let mut buf = AlignedBuf::with_capacity(n);
        buf.resize(n, 0);
        buf
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that fit without moving the buffer.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// Appends, moving to a larger allocation if need be.
    pub fn extend_from_slice(&mut self, data: &[u8]) {
        self.reserve(data.len());
        // SAFETY: `reserve` made room for `data.len()` bytes after `len`, and `data` cannot
        // overlap them because `self` is borrowed exclusively.
        unsafe {
            let end = self.memory.start().add(self.len);
            end.copy_from_nonoverlapping(data.as_ptr(), data.len());
        }
        self.len += data.len();
    }

    /// Grows with `fill` bytes or shortens to `n` bytes.
    pub fn resize(&mut self, n: usize, fill: u8) {
        if n > self.len {
            let more = n - self.len;
            self.reserve(more);
            // SAFETY: `reserve` made room for `more` bytes after `len`.
            unsafe { self.memory.start().add(self.len).write_bytes(fill, more) }
        }
        self.len = n;
    }

    /// Appends zero bytes until the length is a multiple of `align` bytes.
    pub fn pad_to(&mut self, align: usize) {
        self.resize(self.len.next_multiple_of(align), 0);
    }

    /// What has been written.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: bytes `0..len` are initialised, and borrowed as long as `self` is.
        unsafe { slice::from_raw_parts(self.memory.start(), self.len) }
    }

    /// What has been written, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.memory.start(), self.len) }
    }

    /// Shares the content without copying it. The memory is freed with the last slice.
    pub fn freeze(self) -> Bytes {
        if self.len == 0 {
            Bytes::new()
        } else {
            Bytes::from_owner(self)
        }
    }

    /// Where a read may put bytes after `len`: address and room.
    pub(crate) fn spare(&mut self) -> (*mut u8, usize) {
        // SAFETY: `len <= capacity`, so the address is inside or one past the allocation.
        (
            unsafe { self.memory.start().add(self.len) },
            self.capacity() - self.len,
        )
    }

    /// # Safety
    /// Bytes `0..len` are initialised.
    pub(crate) unsafe fn set_len(&mut self, len: usize) {
        assert!(
            len <= self.capacity(),
            "length {len} over capacity {}",
            self.capacity()
        );
        self.len = len;
    }

    fn reserve(&mut self, more: usize) {
        let wanted = self
            .len
            .checked_add(more)
            .expect("buffer length overflows usize");
        if wanted <= self.capacity() {
            return;
        }
        let grown = Memory::new(wanted.max(self.capacity().saturating_mul(2)));
        // SAFETY: both allocations hold `len` bytes and are distinct.
        unsafe {
            grown
                .start()
                .copy_from_nonoverlapping(self.memory.start(), self.len)
        }
        self.memory = grown;
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Default for AlignedBuf {
    fn default() -> AlignedBuf {
        AlignedBuf::with_capacity(0)
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes)", self.len, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_keeps_content_and_alignment() {
        let mut buf = AlignedBuf::with_capacity(10);
        assert_eq!(buf.capacity(), ALIGN);
        let mut expected = Vec::new();
        for i in 0..3000u32 {
            buf.extend_from_slice(&i.to_le_bytes());
            expected.extend_from_slice(&i.to_le_bytes());
        }
        assert_eq!(buf.as_slice().as_ptr() as usize % ALIGN, 0);
        assert_eq!(&buf[..], &expected[..]);
        buf.pad_to(ALIGN);
        assert_eq!(buf.len() % ALIGN, 0);
        assert!(buf[expected.len()..].iter().all(|&b| b == 0));
        let shared = buf.freeze();
        let tail = shared.slice(4..8);
        drop(shared);
        assert_eq!(&tail[..], &1u32.to_le_bytes());
    }

    #[test]
    fn an_empty_buffer_owns_nothing() {
        let buf = AlignedBuf::with_capacity(0);
        assert_eq!((buf.capacity(), buf.len()), (0, 0));
        assert_eq!(buf.freeze(), Bytes::new());
    }
}
