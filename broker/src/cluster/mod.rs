//! The cluster's metadata (DESIGN D6): a replay of its own committed log, and the decisions about it.
//!
//! [`state`] is what every core holds, [`record`] what the log holds, [`decide`] turns a request into records
//! or a refusal, [`moves`] those about where partitions are, [`recovery`] those about groups without a majority,
//! [`placement`] chooses nodes, [`balance`] says what is to move by itself, `joining` takes nodes in, [`leaving`]
//! empties them. Deliberately absent: who owns the replica, how records travel, Kafka's wire structs.

pub mod balance;
pub mod decide;
mod joining;
pub mod leaving;
mod moves;
pub mod placement;
pub mod record;
pub mod recovery;
pub mod state;

pub use decide::{ClusterAnswer, ClusterAsk, Refusal};
pub use record::{ClientEndpoint, Record, Records, Registration, Resource};
pub use state::{Change, Cluster, Image, Move, Node, Topic};

use storage::PartitionId;
use uuid::Uuid;

/// The metadata's own partition. The topic id is the one that Kafka reserves for `__cluster_metadata`.
pub const METADATA: PartitionId = PartitionId {
    topic: 1,
    partition: 0,
};

/// The core that owns the metadata replica of a node.
pub const METADATA_CORE: usize = 0;

/// The topic of the group coordinators.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The storage's name of a topic's partition.
pub fn partition_id(topic: Uuid, partition: u32) -> PartitionId {
    PartitionId {
        topic: topic.as_u128(),
        partition,
    }
}
