//! Frames: a length of four bytes, then a header, then a body.
//!
//! The length is a stranger's claim: it is checked against a limit before anything is reserved for
//! it. This module does not read sockets, and does not know what a frame says.

use crate::api::{Message, RequestMessage, ResponseMessage};
use crate::codec::{EncodeError, Encoder, Str};
use crate::messages::{RequestHeader, ResponseHeader};
use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Bytes of the length before a frame.
pub const PREFIX_BYTES: usize = 4;

/// Room for the small parts of an average message.
const SMALL_BYTES: usize = 512;

/// Why the next bytes are not a frame. The connection cannot go on: where the next frame begins is
/// unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("a frame of negative length ({0})")]
    Negative(i32),
    #[error("a frame of {bytes} bytes is larger than the limit of {bytes_max}")]
    Oversized { bytes: usize, bytes_max: usize },
}

/// The size of the frame at the start of `buffer`, prefix not included, as soon as the prefix is
/// there. Whoever receives reserves that much, and only then reads on.
pub fn announced_bytes(buffer: &[u8], bytes_max: usize) -> Result<Option<usize>, FrameError> {
    let Some(length) = crate::codec::peek_i32(buffer) else {
        return Ok(None);
    };
    let bytes = usize::try_from(length).map_err(|_| FrameError::Negative(length))?;
    if bytes > bytes_max {
        return Err(FrameError::Oversized { bytes, bytes_max });
    }
    Ok(Some(bytes))
}

/// Cuts the first frame off `buffer`, without its prefix, if all of it is there. Nothing is copied:
/// the frame shares the buffer's memory.
pub fn cut(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
    match announced_bytes(buffer, bytes_max)? {
        Some(bytes) if buffer.len() >= PREFIX_BYTES + bytes => {
            buffer.advance(PREFIX_BYTES);
            Ok(Some(buffer.split_to(bytes).freeze()))
        }
        _ => Ok(None),
    }
}

/// The frame of a request, as parts for a vectored write.
pub fn request<M: RequestMessage>(
    client_id: Option<&Str>,
    correlation_id: i32,
    version: i16,
    body: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let header = RequestHeader {
        key: M::KEY,
        version,
        correlation_id,
        client_id: client_id.cloned(),
    };
    framed(version, body, |out| header.encode(out))
}

/// The frame of a response, as parts for a vectored write. `version` is that of the request, or
/// [`RequestHeader::answer_version`].
pub fn response<M: ResponseMessage>(
    correlation_id: i32,
    version: i16,
    body: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    framed(version, body, |out| {
        ResponseHeader { correlation_id }.encode(out, M::KEY, version);
        Ok(())
    })
}

fn framed<M: Message>(
    version: i16,
    body: &M,
    header: impl FnOnce(&mut Encoder) -> Result<(), EncodeError>,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut out = Encoder::with_capacity(SMALL_BYTES);
    out.put_i32(0);
    header(&mut out)?;
    body.encode(&mut out, version)?;
    let bytes = out.len() - PREFIX_BYTES;
    out.set_i32(
        0,
        i32::try_from(bytes).map_err(|_| EncodeError::TooLong(bytes))?,
    );
    Ok(out.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiKey;
    use crate::codec::Decoder;
    use crate::messages::{FetchResponse, FetchableTopicResponse, MetadataRequest};

    #[test]
    fn frames_are_cut_one_by_one_as_they_arrive() {
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in [0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 1, b'c', 0, 0] {
            buffer.extend_from_slice(&[byte]);
            frames.extend(cut(&mut buffer, 2).unwrap());
        }
        assert_eq!(frames, [&b"ab"[..], b"", b"c"]);
        assert_eq!(buffer[..], [0, 0]);
    }

    #[test]
    fn a_length_is_judged_before_its_bytes_arrive() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 3][..]);
        assert_eq!(
            cut(&mut buffer, 2),
            Err(FrameError::Oversized {
                bytes: 3,
                bytes_max: 2
            })
        );
        assert_eq!(announced_bytes(&buffer, 3), Ok(Some(3)));
        assert_eq!(announced_bytes(&buffer[..3], 3), Ok(None));
        let mut buffer = BytesMut::from(&[0xff; 4][..]);
        assert_eq!(cut(&mut buffer, usize::MAX), Err(FrameError::Negative(-1)));
    }

    #[test]
    fn a_request_comes_back() {
        let client_id = Str::from("me");
        let body = MetadataRequest {
            topics: None,
            ..MetadataRequest::default()
        };
        let parts = request(Some(&client_id), 5, 12, &body).unwrap();
        let mut buffer = BytesMut::from(&parts.concat()[..]);
        let mut input = Decoder::new(cut(&mut buffer, 1000).unwrap().unwrap());
        let header = RequestHeader::decode(&mut input).unwrap();
        assert_eq!((header.key, header.version), (ApiKey::Metadata, 12));
        assert_eq!(
            (header.correlation_id, header.client_id),
            (5, Some(client_id))
        );
        assert_eq!(crate::api::Message::decode(&mut input, 12), Ok(body));
        assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn records_go_out_by_reference() {
        let records = Bytes::from(vec![1; 4096]);
        let mut topic = FetchableTopicResponse::default();
        topic.partitions.resize_with(2, Default::default);
        topic
            .partitions
            .iter_mut()
            .for_each(|it| it.records = Some(records.clone().into()));
        let body = FetchResponse {
            responses: vec![topic],
            ..FetchResponse::default()
        };
        let parts = response(1, 13, &body).unwrap();
        let shared = parts
            .iter()
            .filter(|part| part.as_ptr() == records.as_ptr());
        assert_eq!(shared.count(), 2);
        let total: usize = parts.iter().map(Bytes::len).sum();
        assert_eq!(
            announced_bytes(&parts[0], total),
            Ok(Some(total - PREFIX_BYTES))
        );
    }
}
