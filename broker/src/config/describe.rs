//! DescribeConfigs: every config of a resource with its value, where it comes from, and its
//! synonyms.
//!
//! Values in the answer are canonical; secrets are never in it. Sources and the order of synonyms
//! are Kafka's, with one difference: a topic's synonyms include the other units
//! (`log.retention.hours` under `retention.ms`), where Kafka drops them if the unit with priority
//! is not set.

use super::broker::BrokerConfig;
use super::knob::{Kind, Knob, Scope};
use super::layers::{Layers, Overrides, Source, broker_knob};
use super::ops::{ResourceKind, knobs};
use super::table;

/// What the request asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct DescribeOptions<'a> {
    /// Only these configs; `None` is all. Unknown names are passed over, as in Kafka.
    pub names: Option<&'a [String]>,
    pub synonyms: bool,
    pub documentation: bool,
}

/// One config in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: Source,
    pub kind: Kind,
    pub read_only: bool,
    pub sensitive: bool,
    /// The one in force first; empty unless asked for.
    pub synonyms: Vec<Synonym>,
    pub documentation: Option<&'static str>,
}

/// A place where the value is, or could be, set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: Source,
}

/// Describes a resource. `overrides` are the resource's own; for a broker pass nothing, since its
/// values are in `broker`.
pub fn describe(
    kind: ResourceKind,
    overrides: &Overrides,
    broker: &BrokerConfig,
    options: &DescribeOptions<'_>,
) -> Vec<Described> {
    let wanted = |knob: &Knob| match options.names {
        Some(names) => names.iter().any(|name| name == knob.name),
        None => true,
    };
    let layers = &broker.layers;
    knobs(kind)
        .filter(|knob| wanted(knob))
        .filter(|knob| {
            // Of the cluster's defaults Kafka tells only what is set.
            kind != ResourceKind::BrokerDefault || layers.cluster.contains_key(knob.name)
        })
        .map(|knob| match kind {
            ResourceKind::Broker => of_broker(knob, layers, |_| true, options),
            ResourceKind::BrokerDefault => of_broker(
                knob,
                layers,
                |source| source == Source::DynamicDefaultBroker,
                options,
            ),
            _ => of_resource(kind, knob, overrides, layers, options),
        })
        .collect()
}

fn of_broker(
    knob: &'static Knob,
    layers: &Layers,
    counts: impl Fn(Source) -> bool,
    options: &DescribeOptions<'_>,
) -> Described {
    let synonyms: Vec<Synonym> = broker_names(knob.name)
        .into_iter()
        .flat_map(|name| of_layers(name, layers))
        .skip_while(|synonym| synonym.name != knob.name)
        .filter(|synonym| counts(synonym.source))
        .collect();
    let own = synonyms.iter().find(|synonym| synonym.name == knob.name);
    let value = own.and_then(|synonym| synonym.value.clone());
    row(knob, value, knob.scope == Scope::Static, synonyms, options)
}

fn of_resource(
    kind: ResourceKind,
    knob: &'static Knob,
    overrides: &Overrides,
    layers: &Layers,
    options: &DescribeOptions<'_>,
) -> Described {
    let (own_source, inherited_from, inherited) = match kind {
        ResourceKind::Topic => {
            let names = table::server_synonyms(knob.name)
                .iter()
                .map(|synonym| synonym.name);
            (
                Source::Topic,
                names.collect::<Vec<_>>(),
                layers.topic_value(knob),
            )
        }
        ResourceKind::Group => {
            let names = table::broker_synonym(knob.name).into_iter().collect();
            (Source::Group, names, layers.group_value(knob))
        }
        _ => (
            Source::ClientMetrics,
            Vec::new(),
            knob.default.map(str::to_owned),
        ),
    };
    let own = overrides.get(knob.name).cloned();
    let mut synonyms = Vec::new();
    if let Some(value) = &own {
        let value = Some(value.clone());
        synonyms.push(Synonym {
            name: knob.name,
            value,
            source: own_source,
        });
    }
    synonyms.extend(
        inherited_from
            .into_iter()
            .flat_map(|name| of_layers(name, layers)),
    );
    row(knob, own.or(inherited), false, synonyms, options)
}

fn row(
    knob: &'static Knob,
    value: Option<String>,
    read_only: bool,
    mut synonyms: Vec<Synonym>,
    options: &DescribeOptions<'_>,
) -> Described {
    let source = synonyms
        .first()
        .map_or(Source::Default, |synonym| synonym.source);
    let sensitive = knob.is_sensitive();
    if !options.synonyms {
        synonyms.clear();
    }
    Described {
        name: knob.name,
        value: value.filter(|_| !sensitive),
        source,
        kind: knob.kind,
        read_only,
        sensitive,
        synonyms,
        documentation: options.documentation.then(|| knob.documentation()),
    }
}

/// Where a broker config is set, the layer in force first.
fn of_layers(name: &'static str, layers: &Layers) -> Vec<Synonym> {
    let knob = broker_knob(name);
    let told = |value: &str| (!knob.is_sensitive()).then(|| value.to_owned());
    layers
        .chain(knob)
        .map(|(source, value)| Synonym {
            name,
            value: told(value),
            source,
        })
        .collect()
}

/// The broker configs that say the same in other units, the one with priority first.
fn broker_names(name: &'static str) -> Vec<&'static str> {
    let units = [
        "retention.ms",
        "segment.ms",
        "segment.jitter.ms",
        "flush.ms",
    ]
    .into_iter()
    .map(table::server_synonyms)
    .find(|synonyms| synonyms.iter().any(|synonym| synonym.name == name));
    match units {
        Some(synonyms) => synonyms.iter().map(|synonym| synonym.name).collect(),
        None => vec![name],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: DescribeOptions<'_> = DescribeOptions {
        names: None,
        synonyms: true,
        documentation: true,
    };

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn broker(statics: &[(&str, &str)]) -> BrokerConfig {
        BrokerConfig::resolve(overrides(statics), "node-1").unwrap()
    }

    fn find(rows: Vec<Described>, name: &str) -> Described {
        rows.into_iter().find(|row| row.name == name).unwrap()
    }

    fn sources(row: &Described) -> Vec<(&str, i8)> {
        row.synonyms
            .iter()
            .map(|synonym| (synonym.name, synonym.source.code()))
            .collect()
    }

    #[test]
    fn a_topic_value_lists_everything_beneath_it() {
        let broker = broker(&[("log.retention.hours", "1")])
            .with_dynamic(&overrides(&[("log.retention.ms", "5")]), &Overrides::new());
        let own = overrides(&[("retention.ms", "7")]);
        let row = find(
            describe(ResourceKind::Topic, &own, &broker, &ALL),
            "retention.ms",
        );
        assert_eq!(row.value.as_deref(), Some("7"));
        assert_eq!(
            (row.source, row.kind, row.read_only),
            (Source::Topic, Kind::Long, false)
        );
        assert_eq!(
            sources(&row),
            [
                ("retention.ms", 1),
                ("log.retention.ms", 3),
                ("log.retention.hours", 4),
                ("log.retention.hours", 5),
            ]
        );
        let row = find(
            describe(ResourceKind::Topic, &Overrides::new(), &broker, &ALL),
            "retention.ms",
        );
        assert_eq!(
            (row.value.as_deref(), row.source),
            (Some("5"), Source::DynamicDefaultBroker)
        );
    }

    #[test]
    fn a_topic_without_anything_set_has_defaults() {
        let rows = describe(
            ResourceKind::Topic,
            &Overrides::new(),
            &BrokerConfig::default(),
            &ALL,
        );
        assert_eq!(rows.len(), 36);
        for row in rows {
            let knob = table::topic()
                .iter()
                .find(|knob| knob.name == row.name)
                .unwrap();
            assert_eq!(row.value.as_deref(), knob.default, "{}", row.name);
            assert_eq!(row.source, Source::Default, "{}", row.name);
            assert!(!row.documentation.unwrap().is_empty(), "{}", row.name);
        }
    }

    #[test]
    fn broker_rows_say_what_may_change() {
        let broker = broker(&[("num.partitions", "3")]);
        let nothing = Overrides::new();
        let rows = describe(ResourceKind::Broker, &nothing, &broker, &ALL);
        let row = find(rows.clone(), "num.partitions");
        assert_eq!(row.value.as_deref(), Some("3"));
        assert_eq!((row.read_only, row.source), (true, Source::StaticBroker));
        assert_eq!(
            sources(&row),
            [("num.partitions", 4), ("num.partitions", 5)]
        );
        let row = find(rows.clone(), "log.retention.ms");
        assert_eq!(
            (row.value.clone(), row.source, row.read_only),
            (None, Source::Default, false)
        );
        let row = find(rows, "log.retention.hours");
        assert_eq!(row.value.as_deref(), Some("168"));
    }

    #[test]
    fn cluster_defaults_are_only_what_is_set() {
        let none = Overrides::new();
        let config = broker(&[("max.connections", "1")])
            .with_dynamic(&overrides(&[("max.connections", "2")]), &none);
        let rows = describe(ResourceKind::BrokerDefault, &none, &config, &ALL);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].name, rows[0].value.as_deref()),
            ("max.connections", Some("2"))
        );
        assert_eq!(sources(&rows[0]), [("max.connections", 3)]);
    }

    #[test]
    fn secrets_are_never_told() {
        let rows = describe(
            ResourceKind::Broker,
            &Overrides::new(),
            &BrokerConfig::default(),
            &ALL,
        );
        let secrets: Vec<_> = rows.iter().filter(|row| row.sensitive).collect();
        assert!(secrets.len() >= 8, "{}", secrets.len());
        assert!(secrets.iter().all(|row| row.value.is_none()));
    }

    #[test]
    fn groups_inherit_from_the_broker() {
        let broker = broker(&[("group.consumer.session.timeout.ms", "50000")]);
        let own = overrides(&[("consumer.heartbeat.interval.ms", "6000")]);
        let rows = describe(ResourceKind::Group, &own, &broker, &ALL);
        assert_eq!(rows.len(), 21);
        let row = find(rows.clone(), "consumer.session.timeout.ms");
        assert_eq!(
            (row.value.as_deref(), row.source),
            (Some("50000"), Source::StaticBroker)
        );
        let row = find(rows, "consumer.heartbeat.interval.ms");
        assert_eq!(
            (row.value.as_deref(), row.source),
            (Some("6000"), Source::Group)
        );
    }

    #[test]
    fn names_and_extras_are_as_asked() {
        let names = ["retention.ms".to_owned(), "no.such.config".to_owned()];
        let options = DescribeOptions {
            names: Some(&names),
            ..DescribeOptions::default()
        };
        let rows = describe(
            ResourceKind::Topic,
            &Overrides::new(),
            &BrokerConfig::default(),
            &options,
        );
        assert_eq!(rows.len(), 1);
        assert!(rows[0].synonyms.is_empty() && rows[0].documentation.is_none());
    }
}
