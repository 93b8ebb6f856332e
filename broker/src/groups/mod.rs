//! Classic consumer groups: the coordinator of one partition of `__consumer_offsets`.
//!
//! [`Coordinator`] is a value. It is fed requests, the outcomes of its own writes and the passing
//! of time, and gives back answers and records to append. What it holds is a replay of the
//! partition's committed log plus the soft state of rebalances under way (who has joined, who
//! waits for an assignment), which a change of leadership forgets on purpose: clients then join
//! again.
//!
//! One rule carries the rest: **the log's order is the order of effects.** Each change that must
//! survive goes out as an [`Output::Append`]; it becomes visible, and is answered, when the owner
//! reports that write as committed, and outcomes take effect in the order in which the writes were
//! issued, however they are reported. Durable state is changed by one function only, which applies
//! a record, whether it comes from a replay or from a write of our own.
//!
//! Behaviour and error codes are those of Apache Kafka 4.4's classic groups (KIP-62, KIP-134,
//! KIP-211, KIP-345, KIP-394, KIP-447, KIP-496, KIP-814); the records are Kafka's own.
//!
//! This module must not know: topic ids other than as opaque numbers, request versions other than
//! where behaviour depends on them, authorisation, where the log lies or how it replicates.
//!
//! Deliberately absent or different:
//! * Consumer groups of KIP-848, share groups and streams groups. Their records are counted and
//!   left alone ([`ReplayCounts::unknown_types`]).
//! * A record for a group that nobody has joined yet. Kafka writes one when the first member asks
//!   for an id; it says nothing that a restart would miss.
//! * Waiters that nobody answers. Where Kafka lets a second request of a member displace a parked
//!   one silently, the displaced one is told `REBALANCE_IN_PROGRESS`.

mod admin;
mod commit;
mod coordinator;
mod fetch;
mod fields;
mod group;
mod join;
mod leave;
mod member;
mod offsets;
mod rebalance;
mod records;
mod replay;
mod request;
mod response;
mod settings;
mod settle;
mod subscription;
mod sync;
mod timers;
mod writes;

#[cfg(test)]
mod tests;

pub use coordinator::{Coordinator, Counters, Moment, Output, Token};
pub use group::GroupState;
pub use offsets::CommittedOffset;
pub use records::{
    Decoded, GroupValue, Malformed, MemberValue, OffsetValue, Record, RecordToWrite, is_classic,
};
pub use replay::{ReplayCounts, SnapshotRecord};
pub use request::*;
pub use response::*;
pub use settings::Settings;
pub use writes::WriteId;

/// The partition of `__consumer_offsets` that holds a group: Java's `String.hashCode` of the id
/// (over UTF-16 units), made positive, modulo the number of partitions.
///
/// # Panics
/// If `partitions` is zero.
pub fn partition_for(group_id: &str, partitions: u32) -> u32 {
    assert!(partitions > 0, "the offsets topic has no partitions");
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // The one number without a positive twin counts as zero, as it does in Kafka.
    hash.checked_abs().unwrap_or(0).unsigned_abs() % partitions
}
