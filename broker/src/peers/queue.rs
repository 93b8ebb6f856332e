//! What waits to leave on one connection, and how much of it has left.
//!
//! Frames are kept as the pieces of a gathering write. Small pieces are copied together, since a piece of its own
//! costs more than they do; large ones are sent by reference. Every byte counts against the limit until it is with
//! the socket. Knows neither sockets nor clocks.

use super::frame::{HEADER_BYTES, put_header};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Payload pieces up to this size are copied beside the header.
const SMALL_BYTES: usize = 512;
/// What small pieces are gathered in.
const GATHER_BYTES: usize = 16 << 10;
/// One write takes so much: large enough to cost nothing, small enough to see that a slow link moves.
pub(super) const WRITE_BYTES_MAX: usize = 4 << 20;

/// The queue of one link.
#[derive(Default)]
pub(super) struct Queue {
    pieces: VecDeque<Bytes>,
    /// Small pieces behind all others.
    gathered: BytesMut,
    /// Where each frame ends that has not left whole, counted from the first byte of the connection.
    ends: VecDeque<u64>,
    /// Bytes ever put in, and of those the ones that the socket has.
    put: u64,
    left: u64,
    /// Bytes of the write under way.
    leaving: u64,
}

impl Queue {
    /// Bytes that the socket does not have yet.
    pub(super) fn bytes(&self) -> usize {
        (self.put - self.left) as usize
    }

    /// Bytes that are not in the write under way.
    pub(super) fn waiting_bytes(&self) -> usize {
        (self.put - self.left - self.leaving) as usize
    }

    /// Puts a frame at the end.
    pub(super) fn put(&mut self, kind: u8, to: u16, payload: Vec<Bytes>) {
        let payload_bytes: usize = payload.iter().map(Bytes::len).sum();
        let bytes = HEADER_BYTES + payload_bytes;
        self.room(HEADER_BYTES);
        put_header(&mut self.gathered, kind, to, payload_bytes);
        for piece in payload {
            if piece.len() <= SMALL_BYTES {
                self.room(piece.len());
                self.gathered.extend_from_slice(&piece);
            } else {
                self.close_gathered();
                self.pieces.push_back(piece);
            }
        }
        self.put += bytes as u64;
        self.ends.push_back(self.put);
    }

    /// Room for a small piece, so that those gathered before are not moved.
    fn room(&mut self, bytes: usize) {
        if self.gathered.capacity() - self.gathered.len() < bytes {
            self.close_gathered();
            self.gathered.reserve(GATHER_BYTES);
        }
    }

    fn close_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push_back(self.gathered.split().freeze());
        }
    }

    /// Takes the pieces of the next write; nothing if nothing waits.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        assert_eq!(self.leaving, 0, "a write began before the last one ended");
        self.close_gathered();
        let mut taken = Vec::with_capacity(self.pieces.len());
        let mut room = WRITE_BYTES_MAX;
        while room > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                break;
            };
            if piece.len() > room {
                taken.push(piece.split_to(room));
                room = 0;
            } else {
                room -= piece.len();
                taken.extend(self.pieces.pop_front());
            }
        }
        self.leaving = (WRITE_BYTES_MAX - room) as u64;
        taken
    }

    /// The write has ended well. Returns the bytes and the whole frames that left.
    pub(super) fn written(&mut self) -> (u64, u64) {
        let bytes = std::mem::take(&mut self.leaving);
        self.left += bytes;
        let mut frames = 0;
        while self.ends.front().is_some_and(|end| *end <= self.left) {
            self.ends.pop_front();
            frames += 1;
        }
        (bytes, frames)
    }

    /// The connection has ended: forgets everything. Returns how many frames had not left whole.
    pub(super) fn lose(&mut self) -> u64 {
        let lost = self.ends.len() as u64;
        *self = Queue::default();
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::frame::Cutter;

    fn payload(sizes: &[usize]) -> Vec<Bytes> {
        let piece = |(at, size): (usize, &usize)| Bytes::from(vec![at as u8 + 1; *size]);
        sizes.iter().enumerate().map(piece).collect()
    }

    #[test]
    fn all_that_waits_leaves_in_one_write_and_in_order() {
        let mut queue = Queue::default();
        let frames: [&[usize]; 4] = [&[], &[10, 20], &[600, 5, 4_000], &[1]];
        for (at, sizes) in frames.iter().enumerate() {
            queue.put(at as u8, 9, payload(sizes));
        }
        let bytes = queue.bytes();
        assert_eq!(bytes, 4 * HEADER_BYTES + 10 + 20 + 600 + 5 + 4_000 + 1);
        let parts = queue.take();
        // Two pieces by reference, and what is small around them.
        assert_eq!(parts.len(), 5);
        assert_eq!((queue.bytes(), queue.waiting_bytes()), (bytes, 0));
        let mut cutter = Cutter::new(BytesMut::from(&parts.concat()[..]), 1 << 20);
        for (at, sizes) in frames.iter().enumerate() {
            let frame = cutter.next_frame().unwrap().expect("whole");
            assert_eq!((frame.kind, frame.to), (at as u8, 9));
            assert_eq!(frame.payload, payload(sizes).concat());
        }
        assert_eq!(queue.written(), (bytes as u64, 4));
        assert_eq!(queue.bytes(), 0);
        assert!(queue.take().is_empty());
        assert_eq!(queue.written(), (0, 0));
    }

    #[test]
    fn large_pieces_are_not_copied() {
        let mut queue = Queue::default();
        let batch = Bytes::from(vec![7; 100_000]);
        queue.put(1, 0, vec![Bytes::from_static(b"head"), batch.clone()]);
        assert_eq!(queue.take()[1].as_ptr(), batch.as_ptr());
    }

    #[test]
    fn a_large_frame_leaves_in_several_writes_and_counts_when_it_is_whole() {
        let mut queue = Queue::default();
        queue.put(1, 0, payload(&[WRITE_BYTES_MAX + 10]));
        let whole = queue.bytes();
        queue.put(2, 0, payload(&[1]));
        assert_eq!(queue.take().concat().len(), WRITE_BYTES_MAX);
        let waiting = whole + HEADER_BYTES + 1 - WRITE_BYTES_MAX;
        assert_eq!(queue.waiting_bytes(), waiting);
        assert_eq!(queue.written(), (WRITE_BYTES_MAX as u64, 0));
        assert_eq!(queue.take().concat().len(), waiting);
        assert_eq!(queue.written(), (waiting as u64, 2));
    }

    #[test]
    fn what_had_not_left_whole_is_lost_with_the_connection() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            queue.put(1, 0, payload(&[WRITE_BYTES_MAX / 2]));
        }
        queue.take();
        queue.written();
        queue.take();
        assert_eq!(queue.lose(), 2);
        assert_eq!(queue.bytes(), 0);
        assert!(queue.take().is_empty());
    }
}
