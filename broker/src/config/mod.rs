//! Configuration: one table of knobs, from which everything else is made.
//!
//! - [`table`]: the rows; [`knob`]: what a row is, and the grammar of its value.
//! - [`load`]: file, environment and flags into checked values; [`layers`]: which of several values
//!   holds.
//! - [`BrokerConfig`] and [`TopicConfig`]: the values that the broker and its partitions act on.
//! - [`ops`] and [`describe`]: what the admin apis do; [`document`]: `docs/configuration.md`.
//!
//! All of it is pure except reading the file. Nothing here knows a topic, a socket or a handler;
//! who stores the dynamic values is `cluster`'s business.

mod broker;
pub mod describe;
pub mod document;
#[cfg(test)]
mod honesty;
pub mod knob;
pub mod layers;
mod listener;
pub mod load;
mod machine;
mod nearest;
pub mod ops;
mod per_listener;
mod properties;
pub mod table;
mod topic;

pub use broker::{BrokerConfig, NodeConfig, ReplicaSelector, UnusableConfig};
pub use describe::{DescribeOptions, Described, describe};
pub use knob::{Cause, InvalidConfig};
pub use layers::{Overrides, Source};
pub use listener::{Endpoint, InvalidAddress, Listener, SecurityProtocol, Voter};
pub use load::{ConfigError, Loaded, load, read_file};
pub use machine::{Cores, Memory, Size};
pub use ops::{ResourceKind, validate, validate_topic, validate_topic_set};
pub use per_listener::ListenerLimits;
pub use topic::{Codec, Compression, ThrottledReplicas, TimestampType, TopicConfig};
