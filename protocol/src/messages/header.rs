//! What stands before every request and every response.
//!
//! Request headers: version 1 (key, version, correlation id, client id), and version 2 with tagged
//! fields for flexible requests; the client id keeps its old form in both, so that any broker can
//! read the header of an ApiVersions request of any version. Response headers: version 0 (the
//! correlation id) and version 1 with tagged fields. No tagged field of either is defined; those
//! that come are skipped.

use crate::api::ApiKey;
use crate::codec::{DecodeError, Decoder, EncodeError, Encoder, Str};
use thiserror::Error;

/// Who asks for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The api.
    pub key: ApiKey,
    /// Version of the request's body, and of the answer's.
    pub version: i16,
    /// Chosen by the client; comes back in the answer.
    pub correlation_id: i32,
    /// Name that the client gave itself; for logs and quotas. Null means the same as empty.
    pub client_id: Option<Str>,
}

/// Why a request's header is refused. The connection is closed in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    #[error("api key {key} (version {version}) is not served")]
    UnknownApi { key: i16, version: i16 },
    #[error("{key} version {version} is not served")]
    UnsupportedVersion { key: ApiKey, version: i16 },
    #[error("the request's header is malformed: {0}")]
    Malformed(#[from] DecodeError),
}

impl RequestHeader {
    /// Reads a header and leaves `input` at the body.
    ///
    /// An ApiVersions request passes in any version, since it is the client's way to find out; see
    /// [`RequestHeader::is_supported`].
    pub fn decode(input: &mut Decoder) -> Result<RequestHeader, HeaderError> {
        let key = input.i16()?;
        let version = input.i16()?;
        let correlation_id = input.i32()?;
        let Some(key) = ApiKey::from_i16(key) else {
            return Err(HeaderError::UnknownApi { key, version });
        };
        if !key.api().versions.contains(version) && key != ApiKey::ApiVersions {
            return Err(HeaderError::UnsupportedVersion { key, version });
        }
        let client_id = input.string(false)?;
        if key.api().request_header_version(version) >= 2 {
            input.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(RequestHeader {
            key,
            version,
            correlation_id,
            client_id,
        })
    }

    pub fn encode(&self, out: &mut Encoder) -> Result<(), EncodeError> {
        out.put_i16(self.key as i16);
        out.put_i16(self.version);
        out.put_i32(self.correlation_id);
        out.put_string(self.client_id.as_deref(), false)?;
        if self.key.api().request_header_version(self.version) >= 2 {
            out.put_uvarint(0);
        }
        Ok(())
    }

    /// False only for ApiVersions in a version that we do not know. Such a request's body is not
    /// read, and the answer carries UNSUPPORTED_VERSION with the list of what we serve (KIP-511).
    pub fn is_supported(&self) -> bool {
        self.key.api().versions.contains(self.version)
    }

    /// The version in which the answer is written: that of the request, or 0 if it is not
    /// supported.
    pub fn answer_version(&self) -> i16 {
        if self.is_supported() { self.version } else { 0 }
    }
}

/// Which request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// As in the request's header.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of an answer to a request of `key` and `version`.
    pub fn decode(
        input: &mut Decoder,
        key: ApiKey,
        version: i16,
    ) -> Result<ResponseHeader, DecodeError> {
        let correlation_id = input.i32()?;
        if key.api().response_header_version(version) >= 1 {
            input.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(ResponseHeader { correlation_id })
    }

    /// Writes the header of an answer to a request of `key` and `version`.
    pub fn encode(&self, out: &mut Encoder, key: ApiKey, version: i16) {
        out.put_i32(self.correlation_id);
        if key.api().response_header_version(version) >= 1 {
            out.put_uvarint(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn decode(input: &'static [u8]) -> Result<(RequestHeader, usize), HeaderError> {
        let mut input = Decoder::new(Bytes::from_static(input));
        RequestHeader::decode(&mut input).map(|header| (header, input.remaining()))
    }

    #[test]
    fn the_client_id_is_never_compact() {
        let (header, left) = decode(b"\0\x12\0\x03\0\0\0\x07\0\x02me\0rest").unwrap();
        assert_eq!((header.key, header.version), (ApiKey::ApiVersions, 3));
        assert_eq!(header.correlation_id, 7);
        assert_eq!(header.client_id.unwrap(), "me");
        assert_eq!(left, 4, "the header's tagged fields are consumed");
    }

    #[test]
    fn an_old_header_has_no_tagged_fields() {
        let (header, left) = decode(b"\0\x03\0\x01\0\0\0\x07\xff\xffrest").unwrap();
        assert_eq!((header.key, header.version), (ApiKey::Metadata, 1));
        assert_eq!((header.client_id, left), (None, 4));
    }

    #[test]
    fn only_api_versions_may_come_in_an_unknown_version() {
        let (header, _) = decode(b"\0\x12\0\x63\0\0\0\x07\0\0\0").unwrap();
        assert!(!header.is_supported());
        assert_eq!(header.answer_version(), 0);
        assert_eq!(
            decode(b"\0\x03\0\x63\0\0\0\x07\0\0\0"),
            Err(HeaderError::UnsupportedVersion {
                key: ApiKey::Metadata,
                version: 99
            })
        );
        assert_eq!(
            decode(b"\x03\xe7\0\0\0\0\0\x07\0\0"),
            Err(HeaderError::UnknownApi {
                key: 999,
                version: 0
            })
        );
    }

    #[test]
    fn the_answer_to_api_versions_has_the_old_header() {
        let mut out = Encoder::new();
        ResponseHeader { correlation_id: 1 }.encode(&mut out, ApiKey::ApiVersions, 4);
        assert_eq!(out.len(), 4);
        ResponseHeader { correlation_id: 1 }.encode(&mut out, ApiKey::Metadata, 9);
        assert_eq!(out.len(), 4 + 5);
    }
}
