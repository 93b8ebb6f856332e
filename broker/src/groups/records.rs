//! The records of `__consumer_offsets` that belong to classic groups, byte for byte as Kafka has
//! them. A key begins with its type (0 and 1: an offset, 2: a group), a value with its version.
//!
//! All versions are read. Written are those that Kafka 4.4 writes: offsets in version 4 (in
//! version 1 when the client set a retention of its own, since only that one has the field), groups
//! in version 3, offset keys of type 1. Must not know what the records mean.

use std::fmt;

use bytes::Bytes;

use super::fields::{
    Reader, put_bytes, put_compact_string, put_nullable_string, put_string, put_unsigned_varint,
};

const LEGACY_OFFSET_KEY: i16 = 0;
const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;

const HIGHEST_VALUE_VERSION: i16 = 4;
const FIRST_FLEXIBLE_VERSION: i16 = 4;
const GROUP_VALUE_VERSION: i16 = 3;
const OFFSET_VALUE_VERSION: i16 = 4;
const EXPIRING_OFFSET_VALUE_VERSION: i16 = 1;

const TOPIC_ID_TAG: u32 = 0;

/// A record with its meaning; a value of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// OffsetCommitKey and OffsetCommitValue.
    Offset {
        /// The group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What is committed.
        value: Option<OffsetValue>,
    },
    /// GroupMetadataKey and GroupMetadataValue.
    Group {
        /// The group.
        group: String,
        /// What is known of it.
        value: Option<GroupValue>,
    },
}

/// OffsetCommitValue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read; -1 when not known (always, before version 3).
    pub leader_epoch: i32,
    /// Any text of the client's.
    pub metadata: String,
    /// When it was committed, Unix ms.
    pub commit_timestamp: i64,
    /// When it expires, Unix ms; only where the client set a retention (version 1).
    pub expire_timestamp: Option<i64>,
    /// Zero when not known (always, before version 4).
    pub topic_id: u128,
}

/// GroupMetadataValue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue {
    /// "consumer" and others; empty when the group has none.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The chosen protocol, `None` in an empty group.
    pub protocol: Option<String>,
    /// Member id of the leader.
    pub leader: Option<String>,
    /// When the group came into its state, Unix ms; -1 when not known (always, before version 2).
    pub current_state_timestamp: i64,
    /// The members of the generation.
    pub members: Vec<MemberValue>,
}

/// MemberMetadata of a GroupMetadataValue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    /// The member.
    pub member_id: String,
    /// Set for static members (version 3 and up).
    pub group_instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Milliseconds; -1 when not known (version 0).
    pub rebalance_timeout: i32,
    /// Milliseconds.
    pub session_timeout: i32,
    /// What the member said under the chosen protocol.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

/// A record ready for a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordToWrite {
    /// The key.
    pub key: Bytes,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// What a record turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// One of ours.
    Record(Record),
    /// A key of a type that is not a classic group's.
    UnknownType(i16),
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It ends within a field.
    Truncated,
    /// A length is negative or absurd.
    Length,
    /// A text is not UTF-8.
    NotUtf8,
    /// A field is null that must not be.
    Null,
    /// The value has a version that nobody has defined yet.
    Version(i16),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Truncated => f.write_str("the record ends within a field"),
            Malformed::Length => f.write_str("the record has a field of an impossible length"),
            Malformed::NotUtf8 => f.write_str("the record has a text that is not UTF-8"),
            Malformed::Null => f.write_str("the record has a null where there can be none"),
            Malformed::Version(version) => write!(f, "unknown version {version} of the value"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Whether a key is that of a classic group's record. Who rewrites the log copies the records for
/// which this is false.
pub fn is_classic(key: &[u8]) -> bool {
    let key_type = key.first_chunk().map(|bytes| i16::from_be_bytes(*bytes));
    matches!(key_type, Some(LEGACY_OFFSET_KEY | OFFSET_KEY | GROUP_KEY))
}

impl Record {
    /// Reads a record.
    pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<Decoded, Malformed> {
        let mut key = Reader::new(key);
        let record = match key.i16()? {
            LEGACY_OFFSET_KEY | OFFSET_KEY => Record::Offset {
                group: key.string(false)?,
                topic: key.string(false)?,
                partition: key.i32()?,
                value: value.map(OffsetValue::decode).transpose()?,
            },
            GROUP_KEY => Record::Group {
                group: key.string(false)?,
                value: value.map(GroupValue::decode).transpose()?,
            },
            unknown => return Ok(Decoded::UnknownType(unknown)),
        };
        Ok(Decoded::Record(record))
    }

    /// Writes a record.
    pub fn encode(&self) -> RecordToWrite {
        match self {
            Record::Offset {
                group,
                topic,
                partition,
                value,
            } => RecordToWrite {
                key: offset_key(group, topic, *partition),
                value: value.as_ref().map(OffsetValue::encode),
            },
            Record::Group { group, value } => RecordToWrite {
                key: group_key(group),
                value: value.as_ref().map(GroupValue::encode),
            },
        }
    }
}

pub(super) fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut buf = Vec::with_capacity(10 + group.len() + topic.len());
    buf.extend(OFFSET_KEY.to_be_bytes());
    put_string(&mut buf, group);
    put_string(&mut buf, topic);
    buf.extend(partition.to_be_bytes());
    buf.into()
}

pub(super) fn group_key(group: &str) -> Bytes {
    let mut buf = Vec::with_capacity(4 + group.len());
    buf.extend(GROUP_KEY.to_be_bytes());
    put_string(&mut buf, group);
    buf.into()
}

fn value_version(value: &mut Reader) -> Result<i16, Malformed> {
    match value.i16()? {
        version @ 0..=HIGHEST_VALUE_VERSION => Ok(version),
        unknown => Err(Malformed::Version(unknown)),
    }
}

impl OffsetValue {
    fn decode(value: Bytes) -> Result<Self, Malformed> {
        let mut value = Reader::new(value);
        let version = value_version(&mut value)?;
        let flexible = version >= FIRST_FLEXIBLE_VERSION;
        let mut read = OffsetValue {
            offset: value.i64()?,
            leader_epoch: if version >= 3 { value.i32()? } else { -1 },
            metadata: value.string(flexible)?,
            commit_timestamp: value.i64()?,
            expire_timestamp: None,
            topic_id: 0,
        };
        if version == EXPIRING_OFFSET_VALUE_VERSION {
            read.expire_timestamp = Some(value.i64()?).filter(|at| *at != -1);
        }
        if flexible {
            value.tagged_fields(|tag, mut field| {
                if tag == TOPIC_ID_TAG {
                    read.topic_id = field.u128()?;
                }
                Ok(())
            })?;
        }
        Ok(read)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut buf = Vec::with_capacity(48 + self.metadata.len());
        if let Some(expire_timestamp) = self.expire_timestamp {
            buf.extend(EXPIRING_OFFSET_VALUE_VERSION.to_be_bytes());
            buf.extend(self.offset.to_be_bytes());
            put_string(&mut buf, &self.metadata);
            buf.extend(self.commit_timestamp.to_be_bytes());
            buf.extend(expire_timestamp.to_be_bytes());
            return buf.into();
        }
        buf.extend(OFFSET_VALUE_VERSION.to_be_bytes());
        buf.extend(self.offset.to_be_bytes());
        buf.extend(self.leader_epoch.to_be_bytes());
        put_compact_string(&mut buf, &self.metadata);
        buf.extend(self.commit_timestamp.to_be_bytes());
        if self.topic_id == 0 {
            put_unsigned_varint(&mut buf, 0);
        } else {
            put_unsigned_varint(&mut buf, 1);
            put_unsigned_varint(&mut buf, TOPIC_ID_TAG);
            put_unsigned_varint(&mut buf, 16);
            buf.extend(self.topic_id.to_be_bytes());
        }
        buf.into()
    }
}

impl GroupValue {
    fn decode(value: Bytes) -> Result<Self, Malformed> {
        let mut value = Reader::new(value);
        let version = value_version(&mut value)?;
        let flexible = version >= FIRST_FLEXIBLE_VERSION;
        let mut read = GroupValue {
            protocol_type: value.string(flexible)?,
            generation: value.i32()?,
            protocol: value.nullable_string(flexible)?,
            leader: value.nullable_string(flexible)?,
            current_state_timestamp: if version >= 2 { value.i64()? } else { -1 },
            members: vec![],
        };
        for _ in 0..value.count(flexible)? {
            read.members.push(MemberValue::decode(&mut value, version)?);
        }
        if flexible {
            value.tagged_fields(|_, _| Ok(()))?;
        }
        Ok(read)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut buf = Vec::new();
        buf.extend(GROUP_VALUE_VERSION.to_be_bytes());
        put_string(&mut buf, &self.protocol_type);
        buf.extend(self.generation.to_be_bytes());
        put_nullable_string(&mut buf, self.protocol.as_deref());
        put_nullable_string(&mut buf, self.leader.as_deref());
        buf.extend(self.current_state_timestamp.to_be_bytes());
        let count = i32::try_from(self.members.len()).expect("group.max.size is an i32");
        buf.extend(count.to_be_bytes());
        for member in &self.members {
            member.encode(&mut buf);
        }
        buf.into()
    }
}

impl MemberValue {
    fn decode(value: &mut Reader, version: i16) -> Result<Self, Malformed> {
        let flexible = version >= FIRST_FLEXIBLE_VERSION;
        let read = MemberValue {
            member_id: value.string(flexible)?,
            group_instance_id: match version {
                ..3 => None,
                _ => value.nullable_string(flexible)?,
            },
            client_id: value.string(flexible)?,
            client_host: value.string(flexible)?,
            rebalance_timeout: if version >= 1 { value.i32()? } else { -1 },
            session_timeout: value.i32()?,
            subscription: value.bytes(flexible)?,
            assignment: value.bytes(flexible)?,
        };
        if flexible {
            value.tagged_fields(|_, _| Ok(()))?;
        }
        Ok(read)
    }

    fn encode(&self, buf: &mut Vec<u8>) {
        put_string(buf, &self.member_id);
        put_nullable_string(buf, self.group_instance_id.as_deref());
        put_string(buf, &self.client_id);
        put_string(buf, &self.client_host);
        buf.extend(self.rebalance_timeout.to_be_bytes());
        buf.extend(self.session_timeout.to_be_bytes());
        put_bytes(buf, &self.subscription);
        put_bytes(buf, &self.assignment);
    }
}
