//! What can go wrong in a benchmark. All of it ends the run with one sentence and exit code 1.

use std::io;

use protocol::ErrorCode;
use protocol::codec::{DecodeError, EncodeError};
use protocol::frame::FrameError;
use protocol::records::{FramingError, Malformed};
use thiserror::Error;

/// Why a run could not be made, or does not count.
#[derive(Debug, Error)]
pub enum BenchError {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{what} was answered with {}: {explanation}", code.name())]
    Refused {
        what: String,
        code: ErrorCode,
        /// The broker's, or that of the code.
        explanation: String,
    },
    #[error("the broker does not serve {0} in a version that is known here")]
    Unsupported(&'static str),
    #[error("the broker's answer cannot be read: {0}")]
    Garbled(String),
    #[error("{what} took longer than {seconds} s")]
    TimedOut { what: String, seconds: u64 },
    #[error("{0}")]
    Unusable(String),
}

pub type Result<T> = std::result::Result<T, BenchError>;

/// Says what was being done when an I/O error came.
pub trait During<T> {
    fn during(self, what: impl Into<String>) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| BenchError::Io {
            what: what.into(),
            source,
        })
    }
}

macro_rules! garbled_by {
    ($($error:ty),*) => {
        $(impl From<$error> for BenchError {
            fn from(error: $error) -> BenchError {
                BenchError::Garbled(error.to_string())
            }
        })*
    };
}

garbled_by!(
    DecodeError,
    EncodeError,
    FrameError,
    FramingError,
    Malformed
);

/// An error unless `code` is none.
pub fn accepted(
    what: impl FnOnce() -> String,
    code: ErrorCode,
    message: Option<&str>,
) -> Result<()> {
    if code.is_none() {
        return Ok(());
    }
    let explanation = message.unwrap_or(code.description()).to_owned();
    Err(BenchError::Refused {
        what: what(),
        code,
        explanation,
    })
}
