//! A queue in pieces: it grows and shrinks without moving what it holds. A log's tail has a hundred
//! thousand entries at times, and doubling one flat buffer for them costs more than all else that an
//! append does.

use std::collections::VecDeque;

/// Elements of a piece.
const CHUNK: usize = 64;

/// A double-ended queue. Every chunk is full but the first, which is eaten from the front, and the
/// last, which grows; no chunk is empty.
#[derive(Debug)]
pub(crate) struct Chunked<T> {
    chunks: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Chunked<T> {
        Chunked {
            chunks: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Chunked<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Chunk and place in it. `None` beyond the end.
    fn place(&self, index: usize) -> Option<(usize, usize)> {
        let first = self.chunks.front()?.len();
        let place = match index.checked_sub(first) {
            None => (0, index),
            Some(behind) => (1 + behind / CHUNK, behind % CHUNK),
        };
        (index < self.len).then_some(place)
    }

    pub fn get(&self, index: usize) -> Option<&T> {
        let (chunk, place) = self.place(index)?;
        self.chunks[chunk].get(place)
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let (chunk, place) = self.place(index)?;
        self.chunks[chunk].get_mut(place)
    }

    pub fn front(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    pub fn push_back(&mut self, value: T) {
        self.len += 1;
        if let Some(last) = self.chunks.back_mut().filter(|last| last.len() < CHUNK) {
            return last.push_back(value);
        }
        // A short queue stays small; a long one takes its chunks whole.
        let mut chunk = match self.chunks.is_empty() {
            true => VecDeque::new(),
            false => VecDeque::with_capacity(CHUNK),
        };
        chunk.push_back(value);
        self.chunks.push_back(chunk);
    }

    pub fn pop_front(&mut self) -> Option<T> {
        let first = self.chunks.front_mut()?;
        let value = first.pop_front();
        if first.is_empty() {
            self.chunks.pop_front();
        }
        self.len -= 1;
        value
    }

    pub fn pop_back(&mut self) -> Option<T> {
        let last = self.chunks.back_mut()?;
        let value = last.pop_back();
        if last.is_empty() {
            self.chunks.pop_back();
        }
        self.len -= 1;
        value
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }

    /// From the element at `index` on; nothing if that is beyond the end.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = &T> {
        let (chunk, place) = self.place(index).unwrap_or((self.chunks.len(), 0));
        let mut chunks = self.chunks.range(chunk..);
        let first = chunks.next();
        let head = first
            .into_iter()
            .flat_map(move |first| first.range(place..));
        head.chain(chunks.flatten())
    }

    /// How many elements, all at the front, satisfy the predicate.
    pub fn partition_point(&self, mut pred: impl FnMut(&T) -> bool) -> usize {
        let whole = self
            .chunks
            .partition_point(|chunk| chunk.back().is_some_and(&mut pred));
        let Some(chunk) = self.chunks.get(whole) else {
            return self.len;
        };
        let before = match whole {
            0 => 0,
            _ => self.chunks[0].len() + (whole - 1) * CHUNK,
        };
        before + chunk.partition_point(pred)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a flat queue, over every mix of pushes and pops that the steps make.
    #[test]
    fn it_is_a_queue() {
        let (mut chunked, mut flat) = (Chunked::default(), VecDeque::new());
        let mut state = 7u64;
        for step in 0..40_000u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Long phases of growth and of decline.
            let grows = (step / 1_000) % 3 != 2;
            match (state >> 33) % 8 {
                0 => assert_eq!(chunked.pop_back(), flat.pop_back()),
                1 => assert_eq!(chunked.pop_front(), flat.pop_front()),
                2..6 if !grows => assert_eq!(chunked.pop_front(), flat.pop_front()),
                _ => {
                    chunked.push_back(step);
                    flat.push_back(step);
                }
            }
            assert_eq!(chunked.len(), flat.len());
            assert_eq!(chunked.is_empty(), flat.is_empty());
            assert_eq!(chunked.front(), flat.front());
            let at = (state >> 20) as usize % (flat.len() + 2);
            assert_eq!(chunked.get(at), flat.get(at));
            assert_eq!(chunked.get_mut(at), flat.get_mut(at));
            if step % 97 == 0 {
                let behind: Vec<u64> = chunked.iter_from(at).copied().collect();
                let wanted: Vec<u64> = flat.iter().skip(at).copied().collect();
                assert_eq!(behind, wanted);
                let all: Vec<u64> = chunked.iter_mut().map(|v| *v).collect();
                assert_eq!(all, Vec::from(flat.clone()));
                let limit = flat.get(at).copied().unwrap_or(step + 1);
                let point = chunked.partition_point(|v| *v < limit);
                assert_eq!(point, flat.partition_point(|v| *v < limit));
            }
        }
    }
}
