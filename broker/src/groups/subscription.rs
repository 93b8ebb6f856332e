//! Which topics a member of a "consumer" group reads: the head of ConsumerProtocolSubscription,
//! which is the same in all versions. Must not know the rest of it.

use bytes::Bytes;

use super::fields::Reader;
use super::records::Malformed;

/// Protocol type of consumers; of all other types the metadata is opaque.
pub(super) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The topics that `metadata` subscribes to.
pub(super) fn subscribed_topics(metadata: &Bytes) -> Result<Vec<String>, Malformed> {
    let mut reader = Reader::new(metadata.clone());
    let _version = reader.i16()?;
    let count = reader.count(false)?;
    (0..count).map(|_| reader.string(false)).collect()
}
