//! The bytes of a simulated file, sparse: a page that is not there reads as zeros.
//! Knows nothing of durability.

use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) const PAGE: u64 = 4096;

type Page = Box<[u8; PAGE as usize]>;

/// Bytes and length. Bytes at or beyond the length are zeros, except between a write of
/// [`put`](Content::put) and the next [`settle`](Content::settle).
#[derive(Clone, Default, Debug)]
pub(crate) struct Content {
    pages: BTreeMap<u64, Page>,
    len: u64,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Up to `len` bytes at `offset`; fewer at the end.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len as u64).min(self.len);
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        for (page, inside) in pieces(offset..end.max(offset)) {
            match self.pages.get(&page) {
                Some(data) => bytes.extend_from_slice(&data[inside]),
                None => bytes.resize(bytes.len() + inside.len(), 0),
            }
        }
        bytes
    }

    /// The pages that hold anything, from the one with this offset on: where each begins, and its bytes.
    pub(crate) fn pages_from(&self, offset: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let pages = self.pages.range(offset / PAGE..);
        pages.map(|(number, page)| (number * PAGE, &page[..]))
    }

    /// Writes, and extends the length to the end of the write.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        self.put(offset, data);
        self.len = self.len.max(offset + data.len() as u64);
    }

    /// Writes without extending the length.
    pub(crate) fn put(&mut self, offset: u64, data: &[u8]) {
        let mut rest = data;
        for (page, inside) in pieces(offset..offset + data.len() as u64) {
            let (piece, after) = rest.split_at(inside.len());
            rest = after;
            let zeros = piece.iter().all(|&b| b == 0);
            if zeros && (inside.len() as u64 == PAGE || !self.pages.contains_key(&page)) {
                // Files that are written full of zeros ahead of use cost nothing.
                self.pages.remove(&page);
                continue;
            }
            if inside.len() as u64 == PAGE {
                let whole: Page = piece.try_into().map(Box::new).expect("a whole page");
                self.pages.insert(page, whole);
                continue;
            }
            let target = self
                .pages
                .entry(page)
                .or_insert_with(|| Box::new([0; PAGE as usize]));
            target[inside].copy_from_slice(piece);
        }
    }

    /// Cuts or extends.
    pub(crate) fn set_len(&mut self, len: u64) {
        self.len = len;
        self.settle();
    }

    /// Extends to at least `len`.
    pub(crate) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Drops bytes beyond the length.
    pub(crate) fn settle(&mut self) {
        let first_beyond = self.len.div_ceil(PAGE);
        self.pages.split_off(&first_beyond);
        let inside = (self.len % PAGE) as usize;
        if inside > 0
            && let Some(page) = self.pages.get_mut(&(self.len / PAGE))
        {
            page[inside..].fill(0);
        }
    }

    /// Inverts one bit. False if the offset is beyond the end.
    pub(crate) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        if offset >= self.len {
            return false;
        }
        let byte = self.read(offset, 1)[0] ^ (1 << (bit & 7));
        self.put(offset, &[byte]);
        true
    }
}

/// The pages that a range touches, each with the part of the page.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>)> {
    let Range { mut start, end } = range;
    std::iter::from_fn(move || {
        if start >= end {
            return None;
        }
        let page = start / PAGE;
        let stop = end.min((page + 1) * PAGE);
        let inside = (start % PAGE) as usize..(stop - page * PAGE) as usize;
        start = stop;
        Some((page, inside))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_read_as_zeros_and_cuts_are_final() {
        let mut content = Content::default();
        content.write(5000, b"abc");
        assert_eq!(content.len(), 5003);
        assert_eq!(content.read(4998, 100), b"\0\0abc");
        content.set_len(5001);
        content.set_len(5003);
        assert_eq!(content.read(4998, 100), b"\0\0a\0\0");
        assert_eq!(content.read(6000, 10), b"");
    }

    #[test]
    fn zero_pages_take_no_memory() {
        let mut content = Content::default();
        content.write(0, &[0; 10 * PAGE as usize]);
        assert_eq!((content.len(), content.pages.len()), (10 * PAGE, 0));
        content.write(PAGE, &[1; PAGE as usize]);
        content.write(PAGE, &[0; PAGE as usize]);
        assert_eq!(content.pages.len(), 0);
    }
}
