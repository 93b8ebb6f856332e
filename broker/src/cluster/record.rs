//! The records of the cluster's metadata log.
//!
//! One Raft entry (kind `Command`) carries one [`Records`] value as JSON: a list that takes effect whole. JSON,
//! since this log is small, is read by people in bad hours, and has to be extended for years: a reader
//! ignores fields that it does not know, and a new field has a default. An unknown *record* stops the node
//! instead, since what it cannot interpret it must not skip; a feature level gates writing new kinds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use storage::Start;
use uuid::Uuid;

/// What one entry of the metadata log holds. Applied as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Records(pub Vec<Record>);

/// A change of the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// A topic came to be. Its partitions' replicas are in order of preference.
    TopicCreated {
        id: Uuid,
        name: String,
        /// For each partition the ids of the nodes that hold a replica.
        partitions: Vec<Vec<i32>>,
        #[serde(default)]
        configs: BTreeMap<String, String>,
        /// Kept by the broker for itself, as `__consumer_offsets` is.
        #[serde(default)]
        internal: bool,
    },
    /// Partitions were added at the end of a topic.
    PartitionsAdded { id: Uuid, partitions: Vec<Vec<i32>> },
    /// The one record that allows data to be deleted. The id stays known until every node that held a replica has
    /// purged it.
    TopicDeleted { id: Uuid },
    /// This node holds nothing of a deleted topic any more.
    TopicPurged { id: Uuid, node: i32 },
    /// A partition is to go to these nodes, the preferred leader first. Nodes that are to come hold a replica from here
    /// on; those that are to go hold theirs until [`Record::ReplicasSettled`].
    ReplicasChanged {
        id: Uuid,
        partition: u32,
        replicas: Vec<i32>,
        /// The cluster has decided so by itself: nobody asked for it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        automatic: bool,
    },
    /// A partition is where it was to go: these identities are its group, by an entry that is committed and that each
    /// of them has on its disk. What other nodes hold of it may go.
    ReplicasSettled {
        id: Uuid,
        partition: u32,
        members: Vec<u64>,
    },
    /// A dynamic config was set, or unset if `value` is absent.
    ConfigSet {
        resource: Resource,
        name: String,
        value: Option<String>,
    },
    /// Producer ids below `next` have been handed to cores and are never handed out again.
    ProducerIdsAllocated { next: i64 },
    /// A node says who it is and where it can be reached, at each of its starts; the newest word counts. Another
    /// incarnation than before retires the one before for good: that disk is gone.
    NodeRegistered(Registration),
    /// A node was let go: it holds no replica any more, and does not come back under this identity.
    NodeUnregistered { node: i32 },
    /// A node was not heard of for a session, or is heard of again.
    NodeFenced { node: i32, fenced: bool },
    /// An operator says that a node never comes back with the disk that it had: that one is retired for good.
    NodeLost { node: i32, incarnation: u32 },
    /// A partition's majority is gone for good, and one replica goes on alone. Which records that may have lost is not
    /// known to anybody.
    PartitionRecovered {
        id: Uuid,
        recovery: super::recovery::Recovery,
    },
    /// The replica that was to go on alone serves.
    RecoveryEnded { id: Uuid, partition: u32 },
    /// The metadata's own majority was gone for good: from here on it is what one node had.
    MetadataRecovered { recovery: super::recovery::Recovery },
    /// Everything up to here, in one entry: a replay starts from nothing at this record.
    Snapshot { state: Box<super::state::Image> },
}

/// What a node says of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub node: i32,
    /// Which disk of the node this is: at least 1, drawn when its data directory was founded.
    pub incarnation: u32,
    /// Which start of the node with this disk it is.
    #[serde(default, with = "start")]
    pub start: Start,
    /// Where the other nodes connect, as `host:port`.
    pub peer: String,
    /// Where clients connect, one for each listener.
    pub endpoints: Vec<ClientEndpoint>,
    pub rack: Option<String>,
    /// Cores that own partitions.
    pub cores: u16,
    /// The newest protocol between nodes that it speaks, and records that it understands.
    pub level: u16,
}

/// A start as its number and what was drawn for it.
mod start {
    use super::*;

    pub fn serialize<S: Serializer>(start: &Start, to: S) -> Result<S::Ok, S::Error> {
        (start.number, start.drawn).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Start, D::Error> {
        let (number, drawn) = Deserialize::deserialize(from)?;
        Ok(Start { number, drawn })
    }
}

/// What clients that come through a listener are told to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientEndpoint {
    /// The listener's name.
    pub listener: String,
    pub host: String,
    pub port: u16,
}

/// What a dynamic config belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Resource {
    Topic(String),
    Broker(i32),
    /// The cluster-wide default of every broker: the BROKER resource with an empty name.
    BrokerDefault,
    Group(String),
}

/// An entry of the metadata log that this build cannot interpret.
#[derive(Debug, thiserror::Error)]
#[error(
    "metadata entry at index {index} cannot be read ({source}); it was written by a newer release: start that one"
)]
pub struct Unreadable {
    pub index: u64,
    #[source]
    pub source: serde_json::Error,
}

impl Records {
    /// The entry's bytes. An entry that cannot be read back would stop the metadata of every node.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = serde_json::to_vec(self).expect("records hold only maps with text keys");
        debug_assert!(
            serde_json::from_slice::<Records>(&bytes).is_ok(),
            "{self:?} cannot be read back"
        );
        bytes
    }

    /// Reads the entry at `index`.
    pub fn decode(bytes: &[u8], index: u64) -> Result<Records, Unreadable> {
        serde_json::from_slice(bytes).map_err(|source| Unreadable { index, source })
    }
}
