//! The table of knobs: every name a client or an operator may use, once.
//!
//! A row reads `name, type, default, valid, scope, effect[, sentence];`. The rows are written in a
//! macro so that they stay a table. The sentence says what an honoured knob does; for the others
//! their effect carries the reason (`reasons`), and a sentence waits for the day they are honoured.
//! Topic, group and client-metrics tables hold what those resources can override; the `broker_*`
//! tables are Kafka's broker configs, and `own` is what only this broker has.

/// Declares a static slice of [`Knob`](crate::config::knob::Knob) with the title of its section.
macro_rules! knobs {
    ($table:ident: $title:literal,
     $($name:literal, $kind:ident, $default:tt, $valid:expr, $scope:ident, $effect:expr
       $(, $doc:literal)?;)*) => {
        pub(super) static $table: Section = Section {
            title: $title,
            knobs: &[$(Knob::new(
                $name,
                Kind::$kind,
                knobs!(@default $default),
                $valid,
                Scope::$scope,
                $effect,
                concat!($($doc)?),
            ),)*],
        };
    };
    (@default unset) => { None };
    (@default $value:literal) => { Some($value) };
}

mod broker_balance;
mod broker_cluster;
mod broker_groups;
mod broker_log;
mod broker_security;
mod broker_server;
mod broker_tiering;
mod broker_transactions;
mod group;
mod own;
mod reasons;
mod topic;

#[cfg(test)]
mod tests;

use super::knob::Knob;

pub use group::broker_synonym;
pub use topic::server_synonyms;

/// What the tables need in scope.
mod prelude {
    pub(super) use super::super::knob::Effect::{Honoured, Refused, Reported};
    pub(super) use super::super::knob::Valid::*;
    pub(super) use super::super::knob::{Kind, Knob, Scope};
    pub(super) use super::Section;
    pub(super) use super::reasons::*;

    pub(super) const CODECS: &[&str] =
        &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
    pub(super) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
    pub(super) const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
    pub(super) const REPLICA_SELECTORS: &[&str] = &[
        crate::config::broker::RACK_AWARE_SELECTOR,
        crate::config::broker::LEADER_SELECTOR,
    ];
    pub(super) const MIGRATION_POLICIES: &[&str] =
        &["disabled", "downgrade", "upgrade", "bidirectional"];
    pub(super) const SECURITY_PROTOCOLS: &[&str] =
        &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
}

/// A run of knobs that belong together, with the heading they get in the documentation.
#[derive(Debug)]
pub struct Section {
    pub title: &'static str,
    pub knobs: &'static [Knob],
}

/// The unit that a broker knob counts in, where its topic knob counts in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    AsIs,
    Minutes,
    Hours,
}

/// A broker knob that supplies a topic's value, converted from `unit` to milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub unit: Unit,
}

impl Unit {
    /// A broker value in the topic's unit. Negative is "no limit" in every unit; too large
    /// saturates.
    pub fn to_topic_value(self, value: &str) -> String {
        let ms_per_unit = match self {
            Unit::AsIs => return value.to_owned(),
            Unit::Minutes => 60_000,
            Unit::Hours => 3_600_000,
        };
        match value.parse::<i64>() {
            Ok(count) if count < 0 => "-1".to_owned(),
            Ok(count) => count.saturating_mul(ms_per_unit).to_string(),
            Err(_) => value.to_owned(),
        }
    }
}

/// The 36 topic configs.
pub fn topic() -> &'static [Knob] {
    topic::TOPIC.knobs
}

/// The 21 configs of a group.
pub fn group() -> &'static [Knob] {
    group::GROUP.knobs
}

/// The configs of a client-metrics subscription (KIP-714).
pub fn client_metrics() -> &'static [Knob] {
    group::CLIENT_METRICS.knobs
}

/// The topic table as a section.
pub fn topic_section() -> &'static Section {
    &topic::TOPIC
}

/// The group and client-metrics tables as sections.
pub fn group_sections() -> [&'static Section; 2] {
    [&group::GROUP, &group::CLIENT_METRICS]
}

/// The broker's knobs by section: our own first, then Kafka's in the order of its sources.
pub fn broker_sections() -> [&'static Section; 21] {
    [
        &own::OWN,
        &broker_balance::BALANCING,
        &broker_cluster::NODE,
        &broker_cluster::QUORUM,
        &broker_cluster::REPLICATION,
        &broker_cluster::METADATA_LOG,
        &broker_server::SOCKETS,
        &broker_server::SERVER,
        &broker_log::LOG,
        &broker_log::CLEANER,
        &broker_groups::GROUPS,
        &broker_groups::SHARE_GROUPS,
        &broker_groups::SHARE_COORDINATOR,
        &broker_transactions::TRANSACTIONS,
        &broker_server::QUOTA,
        &broker_security::PROTECTION,
        &broker_security::AUTHORIZATION,
        &broker_security::DELEGATION_TOKENS,
        &broker_server::REPORTING,
        &broker_tiering::REMOTE_LOG,
        &broker_tiering::REMOTE_METADATA,
    ]
}

/// All knobs of a broker.
pub fn broker() -> impl Iterator<Item = &'static Knob> {
    broker_sections()
        .into_iter()
        .flat_map(|section| section.knobs)
}

/// The broker knob of this name.
pub fn broker_knob(name: &str) -> Option<&'static Knob> {
    broker().find(|knob| knob.name == name)
}
