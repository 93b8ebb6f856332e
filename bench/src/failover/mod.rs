//! A producer that does not give up, and what it saw of an outage.
//!
//! [`Client`] is an open loop at a fixed rate, round robin over the partitions of a topic, with one
//! idempotent producer: at most one batch of a partition is under way, and it is sent again until
//! it is acknowledged. It retries as Kafka's own producer does by default: 100 ms before a batch is
//! repeated and between two requests for metadata; at once if an answer names another leader
//! (KIP-951) or metadata has a newer one; 50 ms to 1 s between attempts to connect. `acks` keeps
//! when each partition was acknowledged. Unlike [`crate::load`] this measures no rates and no
//! percentiles of messages: it measures how long nothing is acknowledged.
//!
//! Deliberately absent: several producers, readers, and brokers that come or go for good.

mod acks;
mod client;
mod stream;

pub use acks::{Incident, quantile};
pub use client::{Client, Settings};
