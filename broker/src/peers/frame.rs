//! Frames of a link: `length u32, kind u8, to u16, payload`, big-endian; the length counts what follows it.
//!
//! [`Cutter`] turns received bytes into frames. A payload is a slice of the receive buffer. The length is a peer's
//! claim: the buffer grows by it only as far as bytes have come, or as frames of that size have come whole before.
//! This module knows neither sockets nor what a kind means, except that some are the link's own.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The kinds above this one belong to the links.
pub const KIND_MAX: u8 = 0xef;
/// "I am here." Empty, or a stamp of 8 bytes that the receiver sends back.
pub(super) const PING: u8 = 0xf0;
/// The stamp of a PING, on the same connection.
pub(super) const PONG: u8 = 0xf1;
/// The receiver ends the connection, and this is why.
pub(super) const REFUSED: u8 = 0xf2;

/// The destination of a frame that is for whichever core it lands on.
pub(super) const TO_LANDING: u16 = u16::MAX;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = LENGTH_BYTES + COUNTED_BYTES;
const LENGTH_BYTES: usize = 4;
/// Kind and destination.
const COUNTED_BYTES: usize = 3;

/// What may be allocated for bytes that have only been announced.
const UNPROVEN_BYTES: usize = 64 << 10;
/// A first receive buffer; small, for links that only say that they are there.
const CHUNK_BYTES: usize = 8 << 10;
/// A receive buffer for small frames is at most this large, however many come.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A frame as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    /// A core, or all ones: the core where the connection lands.
    pub to: u16,
    pub payload: Bytes,
}

/// Why bytes are not a frame. Where the next one begins is unknown, so the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a frame announces {0} bytes, fewer than its header has")]
    Short(usize),
    #[error("a frame announces {bytes} bytes, {bytes_max} are the most")]
    Oversized { bytes: usize, bytes_max: usize },
    #[error("a frame of kind {kind:#x} with {bytes} bytes, which the link does not know")]
    Unknown { kind: u8, bytes: usize },
    #[error("a frame for core {to}, this node has {cores}")]
    NoSuchCore { to: u16, cores: u16 },
}

/// Writes the header of a frame.
pub(super) fn put_header(out: &mut impl BufMut, kind: u8, to: u16, payload_bytes: usize) {
    let bytes = payload_bytes + COUNTED_BYTES;
    out.put_u32(u32::try_from(bytes).expect("a frame is shorter than 4 GiB"));
    out.put_u8(kind);
    out.put_u16(to);
}

/// Makes room for more of `whole` bytes that begin at the start of `buffer`. So an announcement alone costs its maker
/// as much as it costs us.
pub(super) fn reserve_as_bytes_arrive(buffer: &mut BytesMut, whole: usize) {
    let missing = whole.saturating_sub(buffer.len()).max(1);
    grow(buffer, missing, UNPROVEN_BYTES);
}

/// Makes room for `missing` bytes if they are at most `at_once`. For more: once the buffer is full, for as many again
/// as it has, so that little is copied while it grows.
fn grow(buffer: &mut BytesMut, missing: usize, at_once: usize) {
    let spare = buffer.capacity() - buffer.len();
    if spare >= missing {
        return;
    }
    if missing <= at_once {
        buffer.reserve(missing);
    } else if spare == 0 {
        buffer.reserve(missing.min(buffer.len().max(UNPROVEN_BYTES)));
    }
}

/// Cuts frames from what is received.
pub struct Cutter {
    buffer: BytesMut,
    bytes_max: usize,
    /// The size of frames that have lately come whole: so much is allocated at once, and not copied while it grows.
    proven: usize,
    /// The largest frame since that was last looked at.
    largest: usize,
    /// Size of the next receive buffer.
    chunk: usize,
}

impl Cutter {
    /// For frames of a length up to `bytes_max`; `buffer` holds what has come already.
    pub fn new(buffer: BytesMut, bytes_max: usize) -> Cutter {
        Cutter {
            buffer,
            bytes_max,
            proven: 0,
            largest: 0,
            chunk: CHUNK_BYTES,
        }
    }

    /// The size, header included, of the frame at the front, as soon as its length is there.
    ///
    /// # Errors
    /// A length that no frame has.
    pub fn announced_bytes(&self) -> Result<Option<usize>, Malformed> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes(*length) as usize;
        if bytes < COUNTED_BYTES {
            return Err(Malformed::Short(bytes));
        }
        if bytes > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(Malformed::Oversized { bytes, bytes_max });
        }
        Ok(Some(LENGTH_BYTES + bytes))
    }

    /// The next frame, if all of it is there.
    ///
    /// # Errors
    /// A length that no frame has.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some(whole) = self.announced_bytes()? else {
            return Ok(None);
        };
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(whole);
        frame.advance(LENGTH_BYTES);
        let (kind, to) = (frame.get_u8(), frame.get_u16());
        self.largest = self.largest.max(whole);
        self.proven = self.proven.max(whole);
        Ok(Some(Frame {
            kind,
            to,
            payload: frame.freeze(),
        }))
    }

    /// The buffer for the next receive, with room in it; [`filled`](Cutter::filled) takes it back.
    pub fn room(&mut self) -> BytesMut {
        let whole = match self.announced_bytes() {
            Ok(Some(whole)) => whole,
            // The cutter ends at the next frame in case of an error.
            _ => HEADER_BYTES,
        };
        let missing = whole.saturating_sub(self.buffer.len()).max(1);
        if missing > self.chunk {
            grow(&mut self.buffer, missing, self.proven.max(UNPROVEN_BYTES));
        } else {
            self.make_room_for_small(missing);
        }
        std::mem::take(&mut self.buffer)
    }

    /// Room for many small frames, or for the end of a larger one.
    fn make_room_for_small(&mut self, missing: usize) {
        let spare = self.buffer.capacity() - self.buffer.len();
        // A receive into the last bytes of a buffer is wasted, if what is in it is moved for little.
        let low = self.chunk / 8;
        if spare < missing || (spare < low && self.buffer.len() < low) {
            self.buffer.reserve(self.chunk);
            // Frames that are small again are given small buffers again.
            self.proven = self.largest.max(self.proven / 2);
            self.largest = 0;
        }
    }

    /// Takes the buffer back with `received` bytes more in it.
    pub fn filled(&mut self, buffer: BytesMut, received: usize) {
        self.buffer = buffer;
        if received >= self.chunk / 2 {
            let largest = self.proven.clamp(UNPROVEN_BYTES, CHUNK_BYTES_MAX);
            self.chunk = (self.chunk * 4).min(largest);
        }
    }

    /// Whether a frame has begun and is not whole, and is large: its memory is to be reserved.
    pub fn wants_memory(&self) -> Option<usize> {
        let whole = self.announced_bytes().ok()??;
        (whole > UNPROVEN_BYTES && whole > self.buffer.len()).then_some(whole)
    }

    /// Bytes that wait for the rest of their frame.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, to: u16, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_header(&mut out, kind, to, payload.len());
        out.extend_from_slice(payload);
        out
    }

    /// Feeds bytes as they fit, and gives back the frames.
    fn feed(cutter: &mut Cutter, mut wire: &[u8]) -> Result<Vec<Frame>, Malformed> {
        let mut frames = Vec::new();
        while !wire.is_empty() {
            let mut buffer = cutter.room();
            let room = (buffer.capacity() - buffer.len()).min(wire.len());
            buffer.extend_from_slice(&wire[..room]);
            wire = &wire[room..];
            cutter.filled(buffer, room);
            while let Some(frame) = cutter.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn the_bytes_are_those_of_the_page() {
        assert_eq!(frame(7, 3, b"hi"), b"\0\0\0\x05\x07\0\x03hi");
        assert_eq!(frame(PING, TO_LANDING, b""), b"\0\0\0\x03\xf0\xff\xff");
    }

    #[test]
    fn frames_come_back_whatever_the_pieces() {
        let payloads: Vec<Vec<u8>> = [0, 1, 5_000, 70_000, 3, 300_000, 0, 300_000, 9]
            .iter()
            .map(|size| (0..*size).map(|at| at as u8).collect())
            .collect();
        let mut wire = Vec::new();
        for (at, payload) in payloads.iter().enumerate() {
            wire.extend(frame(at as u8, at as u16, payload));
        }
        for piece in [1, 7, 1_000, 1 << 20] {
            let mut cutter = Cutter::new(BytesMut::new(), 1 << 20);
            let mut frames = Vec::new();
            for piece in wire.chunks(piece) {
                frames.extend(feed(&mut cutter, piece).expect("they were written here"));
            }
            assert_eq!(frames.len(), payloads.len());
            for (at, (frame, payload)) in frames.iter().zip(&payloads).enumerate() {
                assert_eq!((frame.kind, frame.to), (at as u8, at as u16));
                assert_eq!(frame.payload, payload);
            }
            assert_eq!(cutter.pending_bytes(), 0);
        }
    }

    #[test]
    fn a_length_is_judged_before_its_bytes_come() {
        let mut cutter = Cutter::new(BytesMut::from(&b"\0\0\0\x02"[..]), 100);
        assert_eq!(cutter.next_frame(), Err(Malformed::Short(2)));
        let mut cutter = Cutter::new(BytesMut::from(&b"\0\0\0\x65"[..]), 100);
        let (bytes, bytes_max) = (101, 100);
        let oversized = Err(Malformed::Oversized { bytes, bytes_max });
        assert_eq!(cutter.next_frame(), oversized);
        let mut cutter = Cutter::new(BytesMut::from(&b"\0\0\0\x64"[..]), 100);
        assert_eq!(cutter.next_frame(), Ok(None));
        assert_eq!(cutter.announced_bytes(), Ok(Some(104)));
    }

    #[test]
    fn an_announcement_gets_no_more_memory_than_its_bytes() {
        let bytes_max = 64 << 20;
        let mut cutter = Cutter::new(BytesMut::new(), bytes_max);
        let mut wire = Vec::new();
        put_header(&mut wire, 1, 0, bytes_max - COUNTED_BYTES);
        wire.resize(3 << 20, 7);
        let mut received = 0;
        for piece in wire.chunks(1_000) {
            assert!(feed(&mut cutter, piece).expect("a frame").is_empty());
            received += piece.len();
            let capacity = cutter.buffer.capacity();
            assert!(
                capacity <= 2 * received + UNPROVEN_BYTES,
                "{capacity} for {received}"
            );
        }
        assert_eq!(cutter.wants_memory(), Some(LENGTH_BYTES + bytes_max));
    }

    #[test]
    fn large_frames_in_a_row_are_received_in_place() {
        let wire = frame(1, 0, &vec![7; 4 << 20]);
        let mut cutter = Cutter::new(BytesMut::new(), 64 << 20);
        for _ in 0..3 {
            feed(&mut cutter, &wire).expect("frames");
        }
        // All of the frame but what a first receive brought is received into its last place.
        feed(&mut cutter, &wire[..CHUNK_BYTES_MAX]).expect("a part");
        let buffer = cutter.room();
        let place = buffer.as_ptr();
        cutter.filled(buffer, 0);
        let frames = feed(&mut cutter, &wire[CHUNK_BYTES_MAX..]).expect("the rest");
        assert_eq!(frames[0].payload.as_ptr(), place.wrapping_add(HEADER_BYTES));
        // Many small frames later the memory for large ones is no longer set aside.
        for _ in 0..100_000 {
            feed(&mut cutter, &frame(1, 0, &[0; 100])).expect("small frames");
        }
        assert!(cutter.proven < 2 * UNPROVEN_BYTES, "{}", cutter.proven);
    }

    #[test]
    fn many_small_frames_share_a_receive() {
        let wire: Vec<u8> = (0..1_000).flat_map(|_| frame(2, 1, b"beat")).collect();
        let mut cutter = Cutter::new(BytesMut::new(), 1 << 20);
        let mut receives = 0;
        let mut at = 0;
        while at < wire.len() {
            let mut buffer = cutter.room();
            let room = (buffer.capacity() - buffer.len()).min(wire.len() - at);
            buffer.extend_from_slice(&wire[at..at + room]);
            at += room;
            cutter.filled(buffer, room);
            while cutter.next_frame().expect("a frame").is_some() {}
            receives += 1;
        }
        assert!(receives <= 3, "{receives} receives of {} bytes", wire.len());
    }
}
