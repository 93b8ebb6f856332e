//! What a log needs of a Kafka record batch, and the two fields that it sets in one.
//! Must not look at records: what lies behind the header may be compressed.

use protocol::records::{BatchView, HEADER_BYTES, Malformed, patch_header};

/// A batch that cannot be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not one whole batch of the format that Kafka has written since 0.11.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// `last_offset_delta` is negative, or takes more offsets than a frame can say.
    #[error("record batch with last offset delta {0}")]
    OffsetDelta(i32),
}

/// What the log keeps about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchFields {
    /// Offsets taken: `last_offset_delta + 1`. Can exceed the number of records after compaction.
    pub offset_count: u32,
    /// The largest record timestamp, Unix ms; -1 when the producer set none.
    pub max_timestamp: i64,
}

pub(crate) fn read_fields(batch: &[u8]) -> Result<BatchFields, BatchError> {
    let view = BatchView::new(batch)?;
    let delta = view.last_offset_delta();
    if !(0..i32::MAX).contains(&delta) {
        return Err(BatchError::OffsetDelta(delta));
    }
    Ok(BatchFields {
        offset_count: delta as u32 + 1,
        max_timestamp: view.max_timestamp(),
    })
}

/// The header of `batch` with base offset and leader epoch set. Its CRC covers neither.
pub(crate) fn patched_head(batch: &[u8], base_offset: i64, epoch: i32) -> [u8; HEADER_BYTES] {
    let mut head: [u8; HEADER_BYTES] = *batch.first_chunk().expect("a batch has a header");
    patch_header(&mut head, base_offset, epoch);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A well-shaped batch of `count` offsets with `body` bytes of payload.
    fn batch(count: i32, max_timestamp: i64, body: usize) -> Vec<u8> {
        let mut b = vec![0u8; HEADER_BYTES + body];
        b[8..12].copy_from_slice(&((HEADER_BYTES + body - 12) as i32).to_be_bytes());
        b[16] = 2;
        b[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        b[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        b
    }

    #[test]
    fn fields_are_read_and_the_head_is_patched() {
        let b = batch(7, 1234, 10);
        let fields = read_fields(&b).unwrap();
        assert_eq!(
            fields,
            BatchFields {
                offset_count: 7,
                max_timestamp: 1234
            }
        );
        let head = patched_head(&b, 99, 5);
        assert_eq!(head[..8], 99i64.to_be_bytes());
        assert_eq!(head[8..12], b[8..12]);
        assert_eq!(head[12..16], 5i32.to_be_bytes());
        assert_eq!(head[16..], b[16..HEADER_BYTES]);
    }

    #[test]
    fn malformed_batches_are_refused() {
        let good = batch(1, 0, 4);
        for length in 0..good.len() {
            assert!(matches!(
                read_fields(&good[..length]),
                Err(BatchError::Malformed(_))
            ));
        }
        let mut old = good.clone();
        old[16] = 1;
        assert!(matches!(read_fields(&old), Err(BatchError::Malformed(_))));
        assert_eq!(
            read_fields(&batch(0, 0, 4)),
            Err(BatchError::OffsetDelta(-1))
        );
    }
}
