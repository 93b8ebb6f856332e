//! Finding records by time within a batch, as ListOffsets asks for it.

use super::header::{Batch, NO_TIMESTAMP, TimestampType};
use super::iterate::{ReadError, body};
use super::record::{Bases, RecordRefs};
use crate::compression::Budget;

/// Where a record stands and when it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    pub offset: i64,
    pub timestamp: i64,
}

/// The first record of the batch whose timestamp is `target` or later. The caller has seen from
/// the header that one may be there; a batch under LogAppendTime is answered without reading it.
pub fn find_by_timestamp(
    batch: &Batch,
    target: i64,
    budget: &mut Budget,
) -> Result<Option<TimestampedOffset>, ReadError> {
    if batch.view().max_timestamp() < target {
        return Ok(None);
    }
    first_where(batch, budget, |timestamp| timestamp >= target)
}

/// The first record that has the batch's maximum timestamp (KIP-734); `None` for a batch without
/// timestamps.
pub fn max_timestamp_offset(
    batch: &Batch,
    budget: &mut Budget,
) -> Result<Option<TimestampedOffset>, ReadError> {
    let max = batch.view().max_timestamp();
    if max == NO_TIMESTAMP {
        return Ok(None);
    }
    first_where(batch, budget, |timestamp| timestamp == max)
}

fn first_where(
    batch: &Batch,
    budget: &mut Budget,
    wanted: impl Fn(i64) -> bool,
) -> Result<Option<TimestampedOffset>, ReadError> {
    let view = batch.view();
    let bases = Bases::of(view);
    if view.attributes().timestamp_type() == TimestampType::LogAppendTime {
        let timestamp = view.max_timestamp();
        let first = TimestampedOffset {
            offset: view.base_offset(),
            timestamp,
        };
        return Ok(wanted(timestamp).then_some(first));
    }
    let body = body(view, budget)?;
    for record in RecordRefs::new(&body, view.record_count())? {
        let record = record?;
        let timestamp = bases.timestamp_of(&record);
        if wanted(timestamp) {
            return Ok(Some(TimestampedOffset {
                offset: bases.offset_of(&record),
                timestamp,
            }));
        }
    }
    Ok(None)
}
