//! Scenarios for the coordinator, told by a [`driver`] that plays the clients, the clock and the
//! log; the bytes of the records; and a random walk that looks for what the scenarios forgot.

mod administration;
mod commits;
mod driver;
mod failures;
mod formats;
mod joining;
mod rebalancing;
mod restart;
mod sessions;
mod static_members;
mod syncing;
mod transactions;
mod walk;

use super::partition_for;

#[test]
fn a_group_lies_where_java_would_look_for_it() {
    // Hash codes as Java computes them: positive, negative, and the one without a positive twin.
    assert_eq!(partition_for("hello", 50), 99_162_322 % 50);
    assert_eq!(partition_for("analytics", 50), 1_693_017_210 % 50);
    assert_eq!(partition_for("polygenelubricants", 50), 0);
    // Beyond the basic plane Java counts two units: 0xd834 * 31 + 0xdd1e.
    assert_eq!(partition_for("\u{1d11e}", 1_000_000_007), 1_772_394);
    assert_eq!(partition_for("", 50), 0);
}
