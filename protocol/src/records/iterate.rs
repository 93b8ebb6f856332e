//! Reading the records of a batch.

use std::borrow::Cow;

use bytes::Bytes;
use thiserror::Error;

use super::header::{Batch, BatchView};
use super::record::{Bases, FramingError, Record, RecordRefs};
use crate::compression::{Budget, Codec, DecompressError, decompress};
use crate::error::ErrorCode;

/// Why the records of a batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error("codec {id} is not defined")]
    UnknownCodec { id: u8 },
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error(transparent)]
    Framing(#[from] FramingError),
}

impl ReadError {
    /// The code for a client. A batch that is too large once decompressed is answered like one
    /// that is too large on the wire: the Java client then splits it. Kafka answers a stream that
    /// does not decode with UNKNOWN_SERVER_ERROR; the batch had the CRC of its producer, so
    /// sending it again cannot help and INVALID_RECORD says so.
    pub const fn code(&self) -> ErrorCode {
        match self {
            ReadError::UnknownCodec { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            ReadError::Decompress(DecompressError::Corrupt { .. }) => ErrorCode::INVALID_RECORD,
            ReadError::Decompress(_) => ErrorCode::MESSAGE_TOO_LARGE,
            ReadError::Framing(_) => ErrorCode::INVALID_RECORD,
        }
    }
}

/// The body of a batch in plain: borrowed where the batch is not compressed.
pub fn body<'a>(batch: BatchView<'a>, budget: &mut Budget) -> Result<Cow<'a, [u8]>, ReadError> {
    match batch.attributes().codec() {
        Ok(Codec::None) => Ok(Cow::Borrowed(batch.body())),
        Ok(codec) => Ok(Cow::Owned(decompress(codec, batch.body(), budget)?)),
        Err(id) => Err(ReadError::UnknownCodec { id }),
    }
}

/// The records of a batch; keys, values and headers share the batch's bytes, or those of one
/// buffer into which it was decompressed under `budget`.
pub fn records(batch: &Batch, budget: &mut Budget) -> Result<Records, ReadError> {
    let view = batch.view();
    let body = match body(view, budget)? {
        Cow::Borrowed(bytes) => batch.bytes().slice_ref(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let count = view.record_count();
    RecordRefs::new(&body, count)?;
    Ok(Records {
        body,
        at: 0,
        left: count,
        bases: Bases::of(view),
    })
}

/// Iterator of [`records`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    body: Bytes,
    at: usize,
    left: i32,
    bases: Bases,
}

impl Iterator for Records {
    type Item = Result<Record, FramingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut refs = RecordRefs::resume(&self.body[self.at..], self.left);
        let record = refs.next()?;
        (self.at, self.left) = (self.body.len() - refs.bytes_left(), refs.records_left());
        Some(record.map(|record| Record::share(&record, self.bases, &self.body)))
    }

    /// The declared count is the header's word, so it is no lower bound.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.left).ok())
    }
}
