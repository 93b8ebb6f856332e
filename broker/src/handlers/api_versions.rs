//! ApiVersions (18), v0-5.
//!
//! Behaviour: the table of `protocol::api`, Produce with a minimum of 0 (KAFKA-18659). A version that we do not
//! know is answered as v0 with UNSUPPORTED_VERSION and the whole list. v3 takes note of the client's software
//! (KIP-511) and refuses names that are not names; v5 refuses a client that meant another cluster or node
//! (KIP-1242).
//!
//! Features: only what we do (see `features`). `group.version`, `share.version`, `streams.version` and `transaction.version` are at
//! level 0 and not listed, so that clients use the classic protocols.

use super::Session;
use protocol::api::advertised_versions;
use protocol::error::ErrorCode;
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader};

pub fn handle(
    session: &Session,
    header: &RequestHeader,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let mut response = ApiVersionsResponse {
        api_keys: advertised_versions(),
        ..ApiVersionsResponse::default()
    };
    super::features::tell(&session.shard.view.borrow(), &mut response);
    let error = if !header.is_supported() {
        ErrorCode::UNSUPPORTED_VERSION
    } else if header.version >= 3
        && !(is_software_word(&request.client_software_name)
            && is_software_word(&request.client_software_version))
    {
        ErrorCode::INVALID_REQUEST
    } else if meant_another(session, &request) {
        ErrorCode::REBOOTSTRAP_REQUIRED
    } else {
        let software = (
            request.client_software_name.detached(),
            request.client_software_version.detached(),
        );
        *session.software.borrow_mut() = Some(software);
        ErrorCode::NONE
    };
    if error == ErrorCode::INVALID_REQUEST {
        response = ApiVersionsResponse::default();
    }
    response.error_code = error;
    response
}

fn meant_another(session: &Session, request: &ApiVersionsRequest) -> bool {
    let settings = &session.shard.settings;
    request
        .cluster_id
        .as_deref()
        .is_some_and(|id| id != settings.cluster_id || request.node_id != settings.node_id)
}

/// KIP-511: letters and digits, with dots and dashes inside.
fn is_software_word(word: &str) -> bool {
    let alphanumeric = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    alphanumeric(word.bytes().next())
        && alphanumeric(word.bytes().last())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
