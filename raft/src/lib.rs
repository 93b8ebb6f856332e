//! Raft groups: one replica as a value, and all the replicas of a core.
//!
//! Every partition is a Raft group, also on a single node, where the group has one voter and elects
//! it at once. This crate wraps the `raft` crate (tikv/raft-rs 0.7): what it decides is turned into
//! ordered outputs, its storage is our log, its messages travel in our own format, and its
//! randomness is replaced. Everything here is synchronous and deterministic: data in, data out.
//!
//! It must not know Kafka's requests, the network, the clock or the disk. See the README for a map.

mod backlog;
pub mod catch_up;
mod confirm;
mod forced;
pub mod heartbeats;
mod input;
mod install;
mod known;
pub mod members;
mod message;
mod mutated;
mod open;
mod proofs;
mod ready;
mod refusal;
mod replica;
mod replicas;
mod room;
mod sleep;
pub mod snapshot;
mod step;
mod store;
pub mod timing;
pub mod wire;

pub use catch_up::CatchUp;
pub use forced::{ForceError, Forced};
pub use members::{Change, ChangeError, Members, Membership, ReplicaId};
pub use message::{Append, Body, Entry, Message, Reject, TERM_MAX, Vote};
pub use open::{Configuration, Mutation, OpenError, ReplicaConfig, Unopened};
pub use proofs::Proofs;
pub use ready::{Collected, Event, Outputs};
pub use refusal::{MembersError, ProposeError, SnapshotRefused, StepError, TransferError};
pub use replica::{Proposed, Replica, Role};
pub use replicas::{DeliverError, Replicas};
pub use snapshot::Snapshot;
