//! One request to a node that is not linked yet, and its answer: discovery and joining.

use super::handshake::{self, Message, NotReceived, Unreadable};
use super::refusal::Refusal;
use super::{Names, Settings, Unresolved};
use bytes::{Bytes, BytesMut};
use runtime::{Core, Stream, timeout};
use std::io;
use std::time::Duration;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    #[error("{address} cannot be reached: {source}")]
    Unreachable { address: String, source: io::Error },
    #[error("{address} did not answer in time")]
    TimedOut { address: String },
    #[error("{address} refuses: {refusal}")]
    Refused { address: String, refusal: Refusal },
    #[error("{address} does not keep to the protocol between nodes: {reason}")]
    Malformed { address: String, reason: String },
    #[error("a request of {bytes} bytes is longer than {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
}

/// Asks the node at `address` (`host:port`) and gives its answer back, within `within` for all of it. Whether the
/// request was taken is not known if this fails, except for [`ExchangeError::Refused`].
///
/// # Errors
/// See [`ExchangeError`]; only [`ExchangeError::TooLarge`] is in vain to try again as it is.
pub async fn exchange(
    core: &Core,
    names: &Names,
    address: &str,
    request: Bytes,
    within: Duration,
) -> Result<Bytes, ExchangeError> {
    let limits = Settings::default();
    let (bytes, bytes_max) = (request.len(), limits.request_bytes_max);
    if bytes > bytes_max {
        return Err(ExchangeError::TooLarge { bytes, bytes_max });
    }
    let talk = async {
        let stream = connect(core, names, address).await?;
        ask(&stream, request, limits.answer_bytes_max)
            .await
            .map_err(|failure| failure.at(address))
    };
    match timeout(core, within, talk).await {
        Ok(answer) => answer,
        Err(_) => Err(ExchangeError::TimedOut {
            address: address.to_owned(),
        }),
    }
}

async fn connect(core: &Core, names: &Names, address: &str) -> Result<Stream, ExchangeError> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for resolved in names.addresses(address).await? {
        match core.connect(resolved).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(ExchangeError::Unreachable {
        address: address.to_owned(),
        source: failed,
    })
}

enum Failure {
    NotReceived(NotReceived),
    Refused(Refusal),
    Wrong(String),
}

impl From<NotReceived> for Failure {
    fn from(error: NotReceived) -> Failure {
        Failure::NotReceived(error)
    }
}

impl Failure {
    fn at(self, address: &str) -> ExchangeError {
        let address = address.to_owned();
        match self {
            Failure::Refused(refusal) => ExchangeError::Refused { address, refusal },
            Failure::Wrong(reason) => ExchangeError::Malformed { address, reason },
            Failure::NotReceived(NotReceived::Closed) => ExchangeError::Unreachable {
                address,
                source: io::ErrorKind::UnexpectedEof.into(),
            },
            Failure::NotReceived(NotReceived::Failed(source)) => {
                ExchangeError::Unreachable { address, source }
            }
            Failure::NotReceived(NotReceived::Unreadable(Unreadable::TooOld(level))) => {
                let refusal = Refusal::too_old(level);
                ExchangeError::Refused { address, refusal }
            }
            Failure::NotReceived(NotReceived::Unreadable(error)) => ExchangeError::Malformed {
                address,
                reason: error.to_string(),
            },
        }
    }
}

async fn ask(stream: &Stream, request: Bytes, bytes_max: usize) -> Result<Bytes, Failure> {
    let request_bytes = u32::try_from(request.len()).expect("it is within its limit");
    let head = Message::Seek { request_bytes }.encode();
    let sent = stream.write_all(vec![head, request]).await;
    let mut buffer = BytesMut::new();
    // A node that refuses may have closed before it took all: its reason counts, not that.
    let answer = match (handshake::receive(stream, &mut buffer).await, sent) {
        (Ok(answer), _) => answer,
        (Err(_), Err(error)) => return Err(NotReceived::Failed(error).into()),
        (Err(error), Ok(())) => return Err(error.into()),
    };
    match answer {
        Message::Found { answer_bytes } if answer_bytes as usize <= bytes_max => {
            Ok(handshake::receive_bytes(stream, &mut buffer, answer_bytes as usize).await?)
        }
        Message::Found { answer_bytes } => Err(Failure::Wrong(format!(
            "an answer of {answer_bytes} bytes is longer than {bytes_max}"
        ))),
        Message::Refused(refusal) => Err(Failure::Refused(refusal)),
        other => Err(Failure::Wrong(format!(
            "a request was answered by {other:?}"
        ))),
    }
}
