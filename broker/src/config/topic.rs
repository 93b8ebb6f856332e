//! A topic's configuration as the values that partitions act on.
//!
//! Resolved once per change, read on every append.

use super::broker::BrokerConfig;
use super::knob::elements;
use super::layers::{Layers, Overrides};
use super::table;

/// What the configs of one topic come to, after its overrides, the broker's dynamic and static
/// values and the built-in defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// Age beyond which records may be deleted; `None` keeps them for ever.
    pub retention_ms: Option<u64>,
    /// Bytes per partition beyond which the oldest segments are deleted; `None` is no limit.
    pub retention_bytes: Option<u64>,
    pub segment_bytes: u32,
    pub segment_ms: u64,
    /// Upper bound of the random time taken off `segment_ms`.
    pub segment_jitter_ms: u64,
    /// How long the file of a deleted segment stays.
    pub file_delete_delay_ms: u64,
    /// Largest batch as it arrives, with its 12 bytes of log overhead.
    pub max_message_bytes: u32,
    pub index_interval_bytes: u32,
    pub segment_index_bytes: u32,
    /// Replicas that must be alive for `acks=all`.
    pub min_insync_replicas: u32,
    pub compression: Compression,
    pub timestamp_type: TimestampType,
    /// How far before the broker's clock a timestamp may lie, for `CreateTime`.
    pub timestamp_before_max_ms: u64,
    /// How far after the broker's clock a timestamp may lie, for `CreateTime`.
    pub timestamp_after_max_ms: u64,
    /// Where a node that leads sends slowly to followers that are not in sync.
    pub leader_throttled_replicas: ThrottledReplicas,
    /// Which replicas are sent to slowly while they are not in sync.
    pub follower_throttled_replicas: ThrottledReplicas,
}

/// Replicas of a topic that a throttle holds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThrottledReplicas {
    All,
    /// Partition and node of each.
    Listed(Vec<(u32, i32)>),
}

impl ThrottledReplicas {
    /// Reads a canonical value: `*`, or a list of `partition:broker`.
    fn parse(value: &str) -> ThrottledReplicas {
        if value == "*" {
            return ThrottledReplicas::All;
        }
        let replica = |element: &str| {
            let (partition, node) = element.split_once(':')?;
            Some((partition.parse().ok()?, node.parse().ok()?))
        };
        ThrottledReplicas::Listed(elements(value).filter_map(replica).collect())
    }

    pub fn includes(&self, partition: u32, node: i32) -> bool {
        match self {
            ThrottledReplicas::All => true,
            ThrottledReplicas::Listed(replicas) => replicas.contains(&(partition, node)),
        }
    }
}

/// Who says when a record happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The codec that batches are stored with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As the producer sent them, byte for byte.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// The codec of a topic, and the level of each codec that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    pub codec: Codec,
    /// 1 to 9, or -1 for the codec's own default.
    pub gzip_level: i32,
    pub lz4_level: i32,
    pub zstd_level: i32,
}

impl Codec {
    /// The codec of this name in `compression.type`.
    pub fn from_name(name: &str) -> Option<Codec> {
        Some(match name {
            "producer" => Codec::Producer,
            "uncompressed" => Codec::Uncompressed,
            "gzip" => Codec::Gzip,
            "snappy" => Codec::Snappy,
            "lz4" => Codec::Lz4,
            "zstd" => Codec::Zstd,
            _ => return None,
        })
    }
}

impl TopicConfig {
    /// The configuration of a topic with these overrides on this broker.
    pub fn resolve(overrides: &Overrides, broker: &BrokerConfig) -> TopicConfig {
        Self::inherited(&broker.layers).overridden(overrides)
    }

    /// The configuration of a topic without overrides. Inheriting is the larger part of resolving:
    /// with many topics do it once, and [`overridden`](Self::overridden) for each.
    pub fn inherited(layers: &Layers) -> TopicConfig {
        let mut config = BLANK;
        for knob in table::topic() {
            if let Some(value) = layers.topic_value(knob) {
                config.set(knob.name, &value);
            }
        }
        config
    }

    /// This configuration with a topic's own values on top. A value that this version cannot read
    /// is left out.
    pub fn overridden(mut self, overrides: &Overrides) -> TopicConfig {
        for knob in table::topic() {
            if let Some(Ok(value)) = overrides.get(knob.name).map(|value| knob.canonical(value)) {
                self.set(knob.name, &value);
            }
        }
        self
    }

    /// Whether any of the topic's replicas are throttled.
    pub fn throttles(&self) -> bool {
        let nobody = ThrottledReplicas::Listed(Vec::new());
        self.leader_throttled_replicas != nobody || self.follower_throttled_replicas != nobody
    }

    /// Takes one canonical value. False if no field depends on the config.
    fn set(&mut self, name: &str, value: &str) -> bool {
        match name {
            "retention.ms" => self.retention_ms = unless_negative(value),
            "retention.bytes" => self.retention_bytes = unless_negative(value),
            "segment.bytes" => self.segment_bytes = number(value),
            "segment.ms" => self.segment_ms = number(value),
            "segment.jitter.ms" => self.segment_jitter_ms = number(value),
            "file.delete.delay.ms" => self.file_delete_delay_ms = number(value),
            "max.message.bytes" => self.max_message_bytes = number(value),
            "segment.index.bytes" => self.segment_index_bytes = number(value),
            "index.interval.bytes" => self.index_interval_bytes = number(value),
            "min.insync.replicas" => self.min_insync_replicas = number(value),
            "compression.type" => {
                self.compression.codec = Codec::from_name(value).unwrap_or(Codec::Producer);
            }
            "compression.gzip.level" => self.compression.gzip_level = signed(value),
            "compression.lz4.level" => self.compression.lz4_level = signed(value),
            "compression.zstd.level" => self.compression.zstd_level = signed(value),
            "message.timestamp.type" => {
                self.timestamp_type = match value {
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => TimestampType::CreateTime,
                };
            }
            "message.timestamp.before.max.ms" => self.timestamp_before_max_ms = number(value),
            "message.timestamp.after.max.ms" => self.timestamp_after_max_ms = number(value),
            "leader.replication.throttled.replicas" => {
                self.leader_throttled_replicas = ThrottledReplicas::parse(value);
            }
            "follower.replication.throttled.replicas" => {
                self.follower_throttled_replicas = ThrottledReplicas::parse(value);
            }
            _ => return false,
        }
        true
    }
}

impl Default for TopicConfig {
    /// Kafka's defaults: no broker configuration, no overrides.
    fn default() -> Self {
        TopicConfig::inherited(&Layers::default())
    }
}

/// The fields, and the configs behind them.
#[cfg(test)]
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("retention_ms", "retention.ms"),
    ("retention_bytes", "retention.bytes"),
    ("segment_bytes", "segment.bytes"),
    ("segment_ms", "segment.ms"),
    ("segment_jitter_ms", "segment.jitter.ms"),
    ("file_delete_delay_ms", "file.delete.delay.ms"),
    ("max_message_bytes", "max.message.bytes"),
    ("segment_index_bytes", "segment.index.bytes"),
    ("index_interval_bytes", "index.interval.bytes"),
    ("min_insync_replicas", "min.insync.replicas"),
    ("compression", "compression.type"),
    ("gzip_level", "compression.gzip.level"),
    ("lz4_level", "compression.lz4.level"),
    ("zstd_level", "compression.zstd.level"),
    ("timestamp_type", "message.timestamp.type"),
    ("timestamp_before_max_ms", "message.timestamp.before.max.ms"),
    ("timestamp_after_max_ms", "message.timestamp.after.max.ms"),
    (
        "leader_throttled_replicas",
        "leader.replication.throttled.replicas",
    ),
    (
        "follower_throttled_replicas",
        "follower.replication.throttled.replicas",
    ),
];

/// Overwritten field by field before anybody sees it.
const BLANK: TopicConfig = TopicConfig {
    retention_ms: None,
    retention_bytes: None,
    segment_bytes: 0,
    segment_ms: 0,
    segment_jitter_ms: 0,
    file_delete_delay_ms: 0,
    max_message_bytes: 0,
    index_interval_bytes: 0,
    segment_index_bytes: 0,
    min_insync_replicas: 0,
    compression: Compression {
        codec: Codec::Producer,
        gzip_level: 0,
        lz4_level: 0,
        zstd_level: 0,
    },
    timestamp_type: TimestampType::CreateTime,
    timestamp_before_max_ms: 0,
    timestamp_after_max_ms: 0,
    leader_throttled_replicas: ThrottledReplicas::Listed(Vec::new()),
    follower_throttled_replicas: ThrottledReplicas::Listed(Vec::new()),
};

/// A number of a knob whose range is not negative. A broker synonym may have a wider range than the
/// topic's config (`log.roll.ms` takes any long): out of range counts as the nearest bound.
fn number<T: TryFrom<i64> + MaxValue>(value: &str) -> T {
    let wide = value.parse::<i64>().unwrap_or(0).max(0);
    T::try_from(wide).unwrap_or(T::MAX)
}

trait MaxValue {
    const MAX: Self;
}

impl MaxValue for u32 {
    const MAX: u32 = u32::MAX;
}

impl MaxValue for u64 {
    const MAX: u64 = u64::MAX;
}

fn signed(value: &str) -> i32 {
    value.parse().unwrap_or(-1)
}

/// Kafka's "negative is no limit".
fn unless_negative(value: &str) -> Option<u64> {
    value
        .parse::<i64>()
        .ok()
        .and_then(|number| u64::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn defaults_are_kafkas() {
        let config = TopicConfig::default();
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.segment_bytes, 1_073_741_824);
        assert_eq!(config.segment_ms, 604_800_000);
        assert_eq!(config.max_message_bytes, 1_048_588);
        assert_eq!(config.min_insync_replicas, 1);
        assert_eq!(config.compression.codec, Codec::Producer);
        assert_eq!(config.compression.gzip_level, -1);
        assert_eq!(config.timestamp_type, TimestampType::CreateTime);
        assert_eq!(config.timestamp_before_max_ms, i64::MAX as u64);
        assert_eq!(config.timestamp_after_max_ms, 3_600_000);
    }

    #[test]
    fn every_field_has_its_config() {
        for (field, name) in SETTINGS {
            let knob = table::topic()
                .iter()
                .find(|knob| knob.name == *name)
                .unwrap();
            let mut config = BLANK;
            assert!(
                config.set(name, knob.default.unwrap_or_default()),
                "{field} {name}"
            );
        }
        let read = table::topic()
            .iter()
            .filter(|knob| BLANK.clone().set(knob.name, "1"))
            .count();
        assert_eq!(read, SETTINGS.len());
    }

    #[test]
    fn a_topics_own_value_beats_the_brokers() {
        let statics = overrides(&[("log.retention.hours", "1"), ("compression.type", "zstd")]);
        let layers = Layers::started_with(statics);
        let config =
            TopicConfig::inherited(&layers).overridden(&overrides(&[("retention.ms", "-1")]));
        assert_eq!(config.retention_ms, None);
        assert_eq!(config.compression.codec, Codec::Zstd);
        assert_eq!(
            TopicConfig::inherited(&layers).retention_ms,
            Some(3_600_000)
        );
    }

    #[test]
    fn throttles_are_for_those_that_are_named() {
        let list = |value| {
            let name = "leader.replication.throttled.replicas";
            let config = TopicConfig::default().overridden(&overrides(&[(name, value)]));
            config.leader_throttled_replicas
        };
        let named = list("0:101,3:7");
        assert!(named.includes(0, 101) && named.includes(3, 7));
        assert!(!named.includes(0, 7) && !named.includes(101, 0));
        assert!(list("*").includes(9, 9));
        assert!(!list("").includes(0, 0));
        assert!(
            !list("0:99999999999").includes(0, i32::MAX),
            "no node has it"
        );
    }

    #[test]
    fn an_unreadable_override_is_left_out() {
        let broken = overrides(&[("retention.ms", "soon"), ("segment.bytes", "1")]);
        let config = TopicConfig::default().overridden(&broken);
        assert_eq!(config, TopicConfig::default());
    }
}
