//! Control records: what ends a transaction in a partition's log.
//!
//! A control batch holds one record. Its key is a version and a type, both 16 bits; the value of
//! an end-of-transaction marker is a version and the coordinator's epoch.

use super::build::BatchBuilder;
use super::header::{Batch, NO_SEQUENCE};

const KEY_VERSION: i16 = 0;
const MARKER_VERSION: i16 = 0;

/// The type in the key of a control record. Kafka's numbers 2 to 6 belong to its own controller
/// log and appear in no partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    Abort = 0,
    Commit = 1,
}

impl ControlType {
    /// Reads the key of a control record; `None` for types that a reader has to skip and for keys
    /// that are none.
    pub fn from_key(key: &[u8]) -> Option<ControlType> {
        let (version, rest) = key.split_first_chunk()?;
        let kind = rest.first_chunk()?;
        // Later versions may only add fields, so a newer key is read like an old one.
        if i16::from_be_bytes(*version) < KEY_VERSION {
            return None;
        }
        match i16::from_be_bytes(*kind) {
            0 => Some(ControlType::Abort),
            1 => Some(ControlType::Commit),
            _ => None,
        }
    }

    fn key(self) -> [u8; 4] {
        let [a, b] = KEY_VERSION.to_be_bytes();
        let [c, d] = (self as i16).to_be_bytes();
        [a, b, c, d]
    }
}

/// The marker that commits or aborts the open transaction of a producer in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    pub control_type: ControlType,
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads key and value of a control record; `None` if it is no such marker.
    pub fn from_record(key: &[u8], value: &[u8]) -> Option<EndTxnMarker> {
        let control_type = ControlType::from_key(key)?;
        let (version, rest) = value.split_first_chunk()?;
        let epoch = rest.first_chunk()?;
        (i16::from_be_bytes(*version) >= MARKER_VERSION).then(|| EndTxnMarker {
            control_type,
            coordinator_epoch: i32::from_be_bytes(*epoch),
        })
    }

    /// The control batch that writes this marker; offset and leader epoch are patched at append.
    pub fn batch(self, producer_id: i64, producer_epoch: i16, timestamp_ms: i64) -> Batch {
        let mut value = [0; 6];
        value[..2].copy_from_slice(&MARKER_VERSION.to_be_bytes());
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let mut builder = BatchBuilder::new()
            .producer(producer_id, producer_epoch, NO_SEQUENCE)
            .transactional(true)
            .control(true);
        builder.push(
            timestamp_ms,
            Some(&self.control_type.key()),
            Some(&value),
            &[],
        );
        builder.build()
    }
}
