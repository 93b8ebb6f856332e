//! Where a value comes from: the layers below a topic's or group's own overrides.
//!
//! From strong to weak: what an operator set for this node, what an operator set for the cluster,
//! what the node was started with, the built-in default. A value that this version cannot read (it
//! may have been committed by another version) does not count: the next layer answers.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::knob::{Knob, Scope};
use super::table;

/// Names and canonical values that were set explicitly.
pub type Overrides = BTreeMap<String, String>;

/// Where a value was set; the numbers are Kafka's in DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    ClientMetrics = 7,
    Group = 8,
}

impl Source {
    /// The code of this source in a DescribeConfigs response.
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// The broker's configuration as explicit values, by origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// Flags, environment and file, merged at start.
    pub statics: Overrides,
    /// Set by an operator for the whole cluster.
    pub cluster: Overrides,
    /// Set by an operator for this node.
    pub node: Overrides,
}

impl Layers {
    /// What a node was started with, before anyone changed anything.
    pub fn started_with(statics: Overrides) -> Layers {
        Layers {
            statics,
            ..Layers::default()
        }
    }

    /// Every layer's value of a broker knob, the one in force first.
    pub fn chain(&self, knob: &'static Knob) -> impl Iterator<Item = (Source, &str)> {
        let layers = [
            (Source::DynamicBroker, &self.node),
            (Source::DynamicDefaultBroker, &self.cluster),
            (Source::StaticBroker, &self.statics),
        ];
        let counts = move |source| source == Source::StaticBroker || knob.scope != Scope::Static;
        let set = layers.into_iter().filter_map(move |(source, layer)| {
            layer
                .get(knob.name)
                .filter(|value| counts(source) && knob.canonical(value).is_ok())
                .map(|value| (source, value.as_str()))
        });
        set.chain(knob.default.map(|value| (Source::Default, value)))
    }

    /// The value in force of a broker knob; `None` is Kafka's null.
    pub fn value(&self, knob: &'static Knob) -> Option<&str> {
        self.chain(knob).next().map(|(_, value)| value)
    }

    /// The value that a topic inherits for one of its configs.
    pub fn topic_value(&self, knob: &Knob) -> Option<String> {
        let inherited = table::server_synonyms(knob.name)
            .iter()
            .find_map(|synonym| {
                let value = self.value(broker_knob(synonym.name))?;
                Some(synonym.unit.to_topic_value(value))
            });
        inherited.or_else(|| knob.default.map(str::to_owned))
    }

    /// The value that a group inherits for one of its configs.
    pub fn group_value(&self, knob: &Knob) -> Option<String> {
        match table::broker_synonym(knob.name) {
            Some(name) => self.value(broker_knob(name)).map(str::to_owned),
            None => knob.default.map(str::to_owned),
        }
    }

    /// The typed value in force of a knob that has a default.
    pub(crate) fn read<T: FromStr>(&self, name: &str) -> T {
        match self.read_optional(name) {
            Some(value) => value,
            None => panic!("the knob {name} has no default of the type it is read as"),
        }
    }

    /// The typed value in force, or `None` if the knob is null.
    pub(crate) fn read_optional<T: FromStr>(&self, name: &str) -> Option<T> {
        let knob = broker_knob(name);
        self.chain(knob).find_map(|(_, value)| value.parse().ok())
    }
}

/// The row of a name that stands in this crate's source.
pub(crate) fn broker_knob(name: &str) -> &'static Knob {
    table::broker_knob(name).unwrap_or_else(|| panic!("no broker knob is named {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(layer: &mut Overrides, name: &str, value: &str) {
        layer.insert(name.to_owned(), value.to_owned());
    }

    #[test]
    fn the_stronger_layer_wins() {
        let mut layers = Layers::default();
        let value = |layers: &Layers| {
            layers
                .value(broker_knob("message.max.bytes"))
                .map(str::to_owned)
        };
        assert_eq!(value(&layers).as_deref(), Some("1048588"));
        set(&mut layers.statics, "message.max.bytes", "1");
        assert_eq!(value(&layers).as_deref(), Some("1"));
        set(&mut layers.cluster, "message.max.bytes", "2");
        assert_eq!(value(&layers).as_deref(), Some("2"));
        set(&mut layers.node, "message.max.bytes", "3");
        assert_eq!(value(&layers).as_deref(), Some("3"));
        let sources: Vec<_> = layers.chain(broker_knob("message.max.bytes")).collect();
        assert_eq!(
            sources,
            [
                (Source::DynamicBroker, "3"),
                (Source::DynamicDefaultBroker, "2"),
                (Source::StaticBroker, "1"),
                (Source::Default, "1048588"),
            ]
        );
    }

    #[test]
    fn the_smaller_unit_wins_and_is_converted() {
        let retention = table::topic()
            .iter()
            .find(|knob| knob.name == "retention.ms")
            .unwrap();
        let mut layers = Layers::default();
        assert_eq!(layers.topic_value(retention).as_deref(), Some("604800000"));
        set(&mut layers.statics, "log.retention.hours", "2");
        assert_eq!(layers.topic_value(retention).as_deref(), Some("7200000"));
        set(&mut layers.statics, "log.retention.minutes", "3");
        assert_eq!(layers.topic_value(retention).as_deref(), Some("180000"));
        set(&mut layers.cluster, "log.retention.ms", "4");
        assert_eq!(layers.topic_value(retention).as_deref(), Some("4"));
        layers = Layers::default();
        set(&mut layers.statics, "log.retention.hours", "-1");
        assert_eq!(layers.topic_value(retention).as_deref(), Some("-1"));
        set(&mut layers.statics, "log.retention.hours", "2147483647");
        assert_eq!(
            layers.topic_value(retention).as_deref(),
            Some("7730941129200000")
        );
    }

    #[test]
    fn a_value_nobody_can_read_does_not_count() {
        let mut layers = Layers::default();
        set(&mut layers.statics, "message.max.bytes", "7");
        set(&mut layers.node, "message.max.bytes", "seven");
        assert_eq!(layers.read::<u32>("message.max.bytes"), 7);
    }
}
