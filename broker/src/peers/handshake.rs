//! The messages before the frames: who calls, what is wanted, and the answer.
//!
//! `length u32, magic, kind u8, level u16, body`, all numbers big-endian. A message of a higher level than ours may
//! have more at its end than we know, which is passed over; one of ours may not. This module judges form only: who is
//! let in is said in `refusal`, and by the host.

use super::frame::reserve_as_bytes_arrive;
use super::introduction::{Introduction, LEVEL, LEVEL_MIN};
use super::refusal::{Refusal, RefusalCode, SENTENCE_BYTES_MAX};
use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use runtime::Stream;
use std::io;
use storage::Start;

/// What follows the length is never longer.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;

const MAGIC: [u8; 8] = *b"CORELANE";
const LENGTH_BYTES: usize = 4;

const HELLO: u8 = 1;
const SEEK: u8 = 2;
const WELCOME: u8 = 3;
const REFUSED: u8 = 4;
const FOUND: u8 = 5;

/// Who calls, from which core, and whom it expects to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub who: Introduction,
    /// The core that calls.
    pub core: u16,
    pub expects_node: i32,
    /// None: any.
    pub expects_incarnation: Option<u32>,
}

/// A message of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Opens a link.
    Hello(Hello),
    /// A request for discovery or joining of so many bytes follows.
    Seek { request_bytes: u32 },
    /// The link is open, and this is who was reached.
    Welcome(Introduction),
    /// The connection ends here.
    Refused(Refusal),
    /// The answer to a request follows, of so many bytes.
    Found { answer_bytes: u32 },
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("what came is not the protocol between nodes; connect a client to the client listener")]
    NotOurs,
    #[error("a message of {0} bytes is longer than {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
    #[error("level {0} of the protocol between nodes is too old, {LEVEL_MIN} is needed")]
    TooOld(u16),
    #[error("a message ends before its fields do")]
    Short,
    #[error("a message has {0} bytes behind its last field")]
    Trailing(usize),
    #[error("a message of the unknown kind {0}")]
    Kind(u8),
    #[error("a text in a message is not UTF-8")]
    Text,
    #[error("a node introduces itself without cores, or from a core that it does not have")]
    Cores,
    #[error("a cluster id of {0} bytes is too long")]
    ClusterId(usize),
    #[error("a flag has the value {0}")]
    Flag(u8),
}

impl From<TryGetError> for Unreadable {
    fn from(_: TryGetError) -> Unreadable {
        Unreadable::Short
    }
}

impl Message {
    /// The bytes on the wire.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u32(0);
        out.put_slice(&MAGIC);
        match self {
            Message::Hello(hello) => {
                put_head(&mut out, HELLO, hello.who.level);
                put_introduction(&mut out, &hello.who);
                out.put_u16(hello.core);
                out.put_i32(hello.expects_node);
                out.put_u8(u8::from(hello.expects_incarnation.is_some()));
                out.put_u32(hello.expects_incarnation.unwrap_or(0));
            }
            Message::Seek { request_bytes } => {
                put_head(&mut out, SEEK, LEVEL);
                out.put_u32(*request_bytes);
            }
            Message::Welcome(who) => {
                put_head(&mut out, WELCOME, who.level);
                put_introduction(&mut out, who);
            }
            Message::Refused(refusal) => {
                put_head(&mut out, REFUSED, LEVEL);
                out.put_slice(&encode_refusal(refusal));
            }
            Message::Found { answer_bytes } => {
                put_head(&mut out, FOUND, LEVEL);
                out.put_u32(*answer_bytes);
            }
        }
        let bytes = out.len() - LENGTH_BYTES;
        assert!(bytes <= MESSAGE_BYTES_MAX, "a message of {bytes} bytes");
        out[..LENGTH_BYTES].copy_from_slice(&(bytes as u32).to_be_bytes());
        out.freeze()
    }

    /// Cuts the first message off `buffer`, if all of it is there.
    ///
    /// # Errors
    /// What comes is not a message. Nothing that follows on the connection can be understood.
    pub fn cut(buffer: &mut BytesMut) -> Result<Option<Message>, Unreadable> {
        let Some(bytes) = announced_bytes(buffer)? else {
            return Ok(None);
        };
        if buffer.len() < LENGTH_BYTES + bytes {
            return Ok(None);
        }
        buffer.advance(LENGTH_BYTES);
        let mut body = buffer.split_to(bytes).freeze();
        if body.len() < MAGIC.len() || body.split_to(MAGIC.len())[..] != MAGIC {
            return Err(Unreadable::NotOurs);
        }
        let kind = body.try_get_u8()?;
        let level = body.try_get_u16()?;
        if level < LEVEL_MIN {
            return Err(Unreadable::TooOld(level));
        }
        let message = match kind {
            HELLO => Message::Hello(get_hello(&mut body, level)?),
            SEEK => Message::Seek {
                request_bytes: body.try_get_u32()?,
            },
            WELCOME => Message::Welcome(get_introduction(&mut body, level)?),
            REFUSED => Message::Refused(get_refusal(&mut body)?),
            FOUND => Message::Found {
                answer_bytes: body.try_get_u32()?,
            },
            kind => return Err(Unreadable::Kind(kind)),
        };
        if level <= LEVEL && !body.is_empty() {
            return Err(Unreadable::Trailing(body.len()));
        }
        Ok(Some(message))
    }
}

/// The length of the message that begins here; a length that cannot be one shows that a stranger speaks.
fn announced_bytes(buffer: &[u8]) -> Result<Option<usize>, Unreadable> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let begins = &buffer[LENGTH_BYTES..buffer.len().min(LENGTH_BYTES + MAGIC.len())];
    if !MAGIC.starts_with(begins) {
        return Err(Unreadable::NotOurs);
    }
    match u32::from_be_bytes(*length) as usize {
        bytes if bytes <= MESSAGE_BYTES_MAX => Ok(Some(bytes)),
        bytes => Err(Unreadable::TooLong(bytes)),
    }
}

fn put_head(out: &mut BytesMut, kind: u8, level: u16) {
    out.put_u8(kind);
    out.put_u16(level);
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn put_introduction(out: &mut BytesMut, who: &Introduction) {
    assert!(who.is_sound(), "this node introduces itself as {who:?}");
    put_text(out, &who.cluster_id);
    out.put_i32(who.node);
    out.put_u32(who.incarnation);
    out.put_u32(who.start.number);
    out.put_u32(who.start.drawn);
    out.put_u16(who.cores);
}

fn get_text(body: &mut Bytes) -> Result<String, Unreadable> {
    let bytes = usize::from(body.try_get_u16()?);
    if body.len() < bytes {
        return Err(Unreadable::Short);
    }
    let text = str::from_utf8(&body[..bytes]).map_err(|_| Unreadable::Text)?;
    let text = text.to_owned();
    body.advance(bytes);
    Ok(text)
}

fn get_introduction(body: &mut Bytes, level: u16) -> Result<Introduction, Unreadable> {
    let who = Introduction {
        cluster_id: get_text(body)?,
        node: body.try_get_i32()?,
        incarnation: body.try_get_u32()?,
        start: Start {
            number: body.try_get_u32()?,
            drawn: body.try_get_u32()?,
        },
        cores: body.try_get_u16()?,
        level,
    };
    match who.is_sound() {
        true => Ok(who),
        false if who.cores == 0 => Err(Unreadable::Cores),
        false => Err(Unreadable::ClusterId(who.cluster_id.len())),
    }
}

fn get_hello(body: &mut Bytes, level: u16) -> Result<Hello, Unreadable> {
    let who = get_introduction(body, level)?;
    let core = body.try_get_u16()?;
    if core >= who.cores {
        return Err(Unreadable::Cores);
    }
    let expects_node = body.try_get_i32()?;
    let is_expected = body.try_get_u8()?;
    let incarnation = body.try_get_u32()?;
    let expects_incarnation = match is_expected {
        0 => None,
        1 => Some(incarnation),
        flag => return Err(Unreadable::Flag(flag)),
    };
    Ok(Hello {
        who,
        core,
        expects_node,
        expects_incarnation,
    })
}

/// A refusal as it stands in a message, and in a frame of a link that ends.
pub(super) fn encode_refusal(refusal: &Refusal) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + refusal.sentence.len());
    out.put_u16(refusal.code.to_wire());
    let end = refusal.sentence.floor_char_boundary(SENTENCE_BYTES_MAX);
    put_text(&mut out, &refusal.sentence[..end]);
    out.freeze()
}

pub(super) fn get_refusal(body: &mut Bytes) -> Result<Refusal, Unreadable> {
    let code = RefusalCode::from_wire(body.try_get_u16()?);
    let text = get_text(body)?;
    // It goes to a log: whatever could pretend to be another line of it is taken out.
    let end = text.floor_char_boundary(SENTENCE_BYTES_MAX);
    let sentence = text[..end].replace(char::is_control, " ");
    Ok(Refusal { code, sentence })
}

/// Why a message, or what follows it, did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReceived {
    #[error("the connection was closed")]
    Closed,
    #[error(transparent)]
    Failed(#[from] io::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Receives one message. What came behind it stays in `buffer`.
pub(super) async fn receive(
    stream: &Stream,
    buffer: &mut BytesMut,
) -> Result<Message, NotReceived> {
    loop {
        if let Some(message) = Message::cut(buffer)? {
            return Ok(message);
        }
        let whole = LENGTH_BYTES + announced_bytes(buffer)?.unwrap_or(MAGIC.len());
        reserve_as_bytes_arrive(buffer, whole);
        receive_some(stream, buffer).await?;
    }
}

/// Receives until there are `bytes` in `buffer`, and cuts them off.
pub(super) async fn receive_bytes(
    stream: &Stream,
    buffer: &mut BytesMut,
    bytes: usize,
) -> Result<Bytes, NotReceived> {
    while buffer.len() < bytes {
        reserve_as_bytes_arrive(buffer, bytes);
        receive_some(stream, buffer).await?;
    }
    Ok(buffer.split_to(bytes).freeze())
}

async fn receive_some(stream: &Stream, buffer: &mut BytesMut) -> Result<(), NotReceived> {
    let (received, filled) = stream.read(std::mem::take(buffer)).await;
    *buffer = filled;
    match received? {
        0 => Err(NotReceived::Closed),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction() -> Introduction {
        Introduction {
            cluster_id: "blue".into(),
            node: 3,
            incarnation: 0x0102_0304,
            start: Start {
                number: 5,
                drawn: 6,
            },
            cores: 4,
            level: 1,
        }
    }

    fn hello() -> Hello {
        Hello {
            who: introduction(),
            core: 2,
            expects_node: -5,
            expects_incarnation: Some(9),
        }
    }

    fn messages() -> Vec<Message> {
        let anybody = Hello {
            expects_incarnation: None,
            ..hello()
        };
        vec![
            Message::Hello(hello()),
            Message::Hello(anybody),
            Message::Seek { request_bytes: 7 },
            Message::Welcome(introduction()),
            Message::Refused(Refusal::not_admitted("node 3 was removed")),
            Message::Found {
                answer_bytes: u32::MAX,
            },
        ]
    }

    #[test]
    fn messages_come_back_as_they_arrive() {
        let wire: Vec<u8> = messages().iter().flat_map(Message::encode).collect();
        let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            read.extend(Message::cut(&mut buffer).expect("it was written here"));
        }
        assert_eq!(read, messages());
        assert!(buffer.is_empty());
    }

    #[test]
    fn the_bytes_are_those_of_the_page() {
        let golden: [&[u8]; 2] = [
            b"\0\0\0\x2eCORELANE\x01\0\x01\0\x04blue\0\0\0\x03\x01\x02\x03\x04\
              \0\0\0\x05\0\0\0\x06\0\x04\0\x02\xff\xff\xff\xfb\x01\0\0\0\x09",
            b"\0\0\0\x11CORELANE\x04\0\x01\0\x03\0\x02no",
        ];
        assert_eq!(Message::Hello(hello()).encode()[..], golden[0][..]);
        let refused = Message::Refused(Refusal::not_admitted("no"));
        assert_eq!(refused.encode()[..], golden[1][..]);
        let seek = Message::Seek { request_bytes: 258 }.encode();
        assert_eq!(seek[..], b"\0\0\0\x0fCORELANE\x02\0\x01\0\0\x01\x02"[..]);
    }

    #[test]
    fn a_stranger_is_known_by_its_first_bytes() {
        let cut = |bytes: &[u8]| Message::cut(&mut BytesMut::from(bytes));
        assert_eq!(cut(b"GET / HTTP/1.1\r\n"), Err(Unreadable::NotOurs));
        assert_eq!(cut(b"\0\0\0\x09CORELINE\x01"), Err(Unreadable::NotOurs));
        assert_eq!(cut(b"\0\0\0\x03CORE"), Err(Unreadable::NotOurs));
        assert_eq!(cut(b"\0\x01\0\x01CO"), Err(Unreadable::TooLong(65_537)));
        assert_eq!(cut(b"\0\0\0\x08CORELANE"), Err(Unreadable::Short));
        let old = b"\0\0\0\x0bCORELANE\x01\0\0";
        assert_eq!(cut(old), Err(Unreadable::TooOld(0)));
        let unknown = b"\0\0\0\x0bCORELANE\x63\0\x01";
        assert_eq!(cut(unknown), Err(Unreadable::Kind(99)));
    }

    #[test]
    fn a_later_level_may_say_more_than_we_know() {
        let mut later = hello();
        later.who.level = 2;
        let longer = |hello: &Hello| {
            let mut wire = BytesMut::from(&Message::Hello(hello.clone()).encode()[..]);
            wire.put_slice(b"more");
            wire[3] += 4;
            Message::cut(&mut wire)
        };
        assert_eq!(longer(&later), Ok(Some(Message::Hello(later))));
        assert_eq!(longer(&hello()), Err(Unreadable::Trailing(4)));
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        let changed = |at: usize, value: u8| {
            let mut wire = BytesMut::from(&Message::Hello(hello()).encode()[..]);
            wire[at] = value;
            Message::cut(&mut wire)
        };
        let cores = 4 + 8 + 3 + 2 + 4 + 4 + 4 + 8;
        assert_eq!(changed(cores + 1, 0), Err(Unreadable::Cores));
        assert_eq!(changed(cores + 3, 4), Err(Unreadable::Cores));
        assert_eq!(changed(cores + 8, 2), Err(Unreadable::Flag(2)));
        assert_eq!(changed(17, 0xff), Err(Unreadable::Text));
        assert_eq!(changed(16, 0xff), Err(Unreadable::Short));
    }

    #[test]
    fn a_refusal_fits_into_one_line_of_a_log() {
        let sentence = format!("a\nb{}", "\u{e9}".repeat(SENTENCE_BYTES_MAX));
        let mut wire = encode_refusal(&Refusal::not_ready(sentence));
        let read = get_refusal(&mut wire).expect("it was written here");
        assert!(read.sentence.starts_with("a b\u{e9}"));
        assert_eq!(read.sentence.len(), SENTENCE_BYTES_MAX - 1);
    }
}
