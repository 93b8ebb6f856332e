//! Bytes and meaning: the Kafka protocol as a broker needs it, in both directions.
//!
//! - [`codec`]: bounded decoding, gathering encoding, and the language that describes messages.
//! - [`messages`]: the messages, one file for each family of apis.
//! - [`api`]: the table of apis and their versions; dispatch.
//! - [`frame`]: cutting frames from a receive buffer, and building them.
//! - [`compression`]: the five codecs, decompressing within a budget.
//! - [`records`]: record batches as views over bytes.
//! - [`error`]: error codes and what clients do about them.
//!
//! Every byte from a stranger passes through here, so nothing in here panics on input, and nothing
//! is allocated by a length that was not checked. This crate decides nothing: it knows no topic, no
//! log and no socket. Messages that are only spoken between brokers of Apache Kafka are absent.

pub mod api;
pub mod codec;
pub mod compression;
pub mod error;
pub mod frame;
pub mod messages;
pub mod records;

pub use codec::Str;
pub use error::ErrorCode;
