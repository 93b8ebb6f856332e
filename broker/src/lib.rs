//! The broker: shards, handlers, partitions, groups, the cluster's metadata, configuration and commands.
//!
//! Who may know whom: `shell` is a client like any other; `handlers` reach owners only through the mail of `shard`;
//! `partition`, `groups` and `cluster` are synchronous replays of their own committed logs and know neither each
//! other nor a handler. Nothing here names the ring: files, sockets and cores come from `runtime`.

pub mod admin;
pub mod admission;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod founding;
pub mod groups;
pub mod handlers;
pub mod machine;
pub mod node;
pub mod observe;
pub mod operate;
pub mod partition;
pub mod peers;
pub mod shard;
pub mod shell;
pub mod simulation;
pub mod start;
