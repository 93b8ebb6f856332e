//! The few fields of a Kafka record batch (magic 2, KIP-98) that a log needs, and the two it sets.
//! Must not look at records: what lies behind the header may be compressed.

/// The header of a record batch: everything before the first record, in bytes.
pub(crate) const BATCH_HEADER_BYTES: usize = 61;
/// Base offset, batch length, leader epoch: the part that lies before magic and CRC, and that the
/// CRC does not cover. The first and the last of the three are set when the batch is appended.
pub(crate) const BATCH_PATCH_BYTES: usize = 16;

/// A batch that cannot be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Shorter than a batch header, or the length field does not name the whole of it.
    #[error("a record batch of {bytes} bytes says it has {said}")]
    Length { bytes: usize, said: i64 },
    /// Not the format that Kafka has written since 0.11.
    #[error("record batch with magic {0}, only 2 is stored")]
    Magic(i8),
    /// `last_offset_delta` is negative.
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
    let said = |bytes: &[u8]| match bytes.get(8..12) {
        Some(b) => i64::from(i32::from_be_bytes(b.try_into().expect("four bytes"))) + 12,
        None => -1,
    };
    if batch.len() < BATCH_HEADER_BYTES || said(batch) != batch.len() as i64 {
        return Err(BatchError::Length {
            bytes: batch.len(),
            said: said(batch),
        });
    }
    if batch[16] != 2 {
        return Err(BatchError::Magic(batch[16] as i8));
    }
    let delta = i32::from_be_bytes(batch[23..27].try_into().expect("four bytes"));
    if !(0..i32::MAX).contains(&delta) {
        return Err(BatchError::OffsetDelta(delta));
    }
    Ok(BatchFields {
        offset_count: delta as u32 + 1,
        max_timestamp: i64::from_be_bytes(batch[35..43].try_into().expect("eight bytes")),
    })
}

/// The first 16 bytes of `batch` with the base offset and the leader epoch set.
pub(crate) fn patched_head(batch: &[u8], base_offset: i64, epoch: i32) -> [u8; BATCH_PATCH_BYTES] {
    let mut head: [u8; BATCH_PATCH_BYTES] = batch[..BATCH_PATCH_BYTES]
        .try_into()
        .expect("a batch has a header");
    head[..8].copy_from_slice(&base_offset.to_be_bytes());
    head[12..].copy_from_slice(&epoch.to_be_bytes());
    head
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A well-shaped batch of `count` offsets with `body` bytes of payload derived from `mark`.
    pub(crate) fn batch(count: u32, max_timestamp: i64, body: usize, mark: u64) -> Vec<u8> {
        let mut b = vec![0u8; BATCH_HEADER_BYTES];
        b[8..12].copy_from_slice(&((BATCH_HEADER_BYTES + body - 12) as i32).to_be_bytes());
        b[16] = 2;
        b[23..27].copy_from_slice(&(count as i32 - 1).to_be_bytes());
        b[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        b[57..61].copy_from_slice(&(count as i32).to_be_bytes());
        let mut state = mark.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..body {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            b.push((state >> 56) as u8);
        }
        b
    }

    #[test]
    fn fields_are_read_and_the_head_is_patched() {
        let b = batch(7, 1234, 10, 1);
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
        assert_eq!(head[12..], 5i32.to_be_bytes());
    }

    #[test]
    fn malformed_batches_are_refused() {
        let good = batch(1, 0, 4, 1);
        assert!(matches!(
            read_fields(&good[..60]),
            Err(BatchError::Length { .. })
        ));
        assert!(matches!(
            read_fields(&good[..64]),
            Err(BatchError::Length { .. })
        ));
        assert!(matches!(
            read_fields(&[]),
            Err(BatchError::Length { said: -1, .. })
        ));
        let mut old = good.clone();
        old[16] = 1;
        assert_eq!(read_fields(&old), Err(BatchError::Magic(1)));
        let mut negative = good;
        negative[23..27].copy_from_slice(&(-1i32).to_be_bytes());
        assert_eq!(read_fields(&negative), Err(BatchError::OffsetDelta(-1)));
    }
}
