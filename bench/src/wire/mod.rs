//! Kafka over TCP, from the client's side: readiness, connections that never block, and a blocking
//! client for what stands around a run.

mod connection;
mod control;
mod poll;

pub use connection::Connection;
pub use control::{Control, Placement, Topic, address_of, metadata_request};
pub use poll::{Event, Poll};
