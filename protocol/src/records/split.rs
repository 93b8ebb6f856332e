//! Cutting a sequence of batches into batches: produce fields, segments, fetch responses.

use bytes::Bytes;

use super::header::{Batch, BatchView, Head, Malformed, measure};
use super::validate::Invalid;
use crate::compression::Codec;

/// The batches in `records`, each sharing its bytes. A batch that breaks off at the end, and every
/// other damage, is an error and the last item.
pub fn split(records: Bytes) -> Batches {
    Batches {
        rest: records,
        failed: false,
    }
}

/// Iterator of [`split`].
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    failed: bool,
}

impl Batches {
    /// What has not been handed out: after an error, the bytes from the damage on.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let batch = BatchView::first(&self.rest)
            .map(BatchView::size)
            .and_then(|size| Batch::new(self.rest.split_to(size)));
        self.failed = batch.is_err();
        Some(batch)
    }
}

/// Versions of Produce from this one on may carry zstd (KIP-110).
const PRODUCE_VERSION_ZSTD_MIN: i16 = 7;

/// The one batch of a partition in a produce request (v3 and later): exactly one, of magic 2.
///
/// Like Kafka, this drops a batch that breaks off behind the first one, and refuses bytes there
/// that cannot be the start of one. `null` records are passed as empty.
pub fn produced_batch(records: &Bytes, api_version: i16) -> Result<Batch, Invalid> {
    let size = match measure(records)? {
        Head::Whole(size) => size,
        Head::Partial(_) => return Err(Invalid::NoBatch),
    };
    let batch = Batch::new(records.slice(..size))?;
    if api_version < PRODUCE_VERSION_ZSTD_MIN
        && batch.view().attributes().codec() == Ok(Codec::Zstd)
    {
        return Err(Invalid::ZstdNotAllowed { api_version });
    }
    match measure(&records[size..]) {
        Ok(Head::Partial(_)) => Ok(batch),
        Ok(Head::Whole(_)) | Err(Malformed::OldMagic { .. }) => Err(Invalid::SeveralBatches),
        Err(error) => Err(error.into()),
    }
}
