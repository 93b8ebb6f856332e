//! The table against a copy of Kafka's numbers, and against itself.

use std::collections::BTreeSet;

use super::super::knob::{Effect, Kind, Knob, Scope};
use super::*;

/// Where we differ from Kafka on purpose.
const DIFFERENT: [(&str, Option<&str>); 5] = [
    // A newcomer finds the data beside the program, not in a directory that a reboot empties.
    ("log.dir", Some("data")),
    // Nobody but this machine may talk to a broker that was just started.
    ("listeners", Some("PLAINTEXT://127.0.0.1:9092")),
    // Required by Kafka.
    ("node.id", Some("1")),
    ("process.roles", Some("broker,controller")),
    ("controller.listener.names", Some("CONTROLLER")),
];

/// Dynamic in Kafka, read at start here.
const FIXED_AT_START: [&str; 2] = ["listeners", "listener.security.protocol.map"];

/// The default as Kafka's documentation spells it, as the table spells it.
fn table_spelling(knob: &Knob, documented: &str) -> Option<String> {
    let value = match documented {
        "null" | "(JVM default)" => return None,
        "(empty list)" | "(empty)" | "(empty: no dead-letter queue)" => "",
        "0 (none)" => "0",
        "max" => match knob.kind {
            Kind::Int => "2147483647",
            Kind::Long => "9223372036854775807",
            Kind::Double => "1.7976931348623157E308",
            other => panic!("{} has no maximum of type {other:?}", knob.name),
        },
        value => value,
    };
    Some(value.to_owned())
}

fn documented() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    include_str!("kafka_defaults.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut parts = line.splitn(3, '|');
            (
                parts.next().unwrap(),
                parts.next().unwrap(),
                parts.next().unwrap(),
            )
        })
}

#[test]
fn every_kafka_config_is_there_with_its_default_and_scope() {
    let mut count = [0; 3];
    for (name, kind, default) in documented() {
        let (place, found) = match kind {
            "topic" => (0, topic().iter().find(|knob| knob.name == name)),
            "group" => (1, group().iter().find(|knob| knob.name == name)),
            _ => (2, broker_knob(name)),
        };
        count[place] += 1;
        let knob = found.unwrap_or_else(|| panic!("{name} is missing"));
        match DIFFERENT
            .iter()
            .find(|(other, _)| *other == name && place == 2)
        {
            Some((_, ours)) => assert_eq!(knob.default, *ours, "{name}"),
            None => assert_eq!(
                knob.default.map(str::to_owned),
                table_spelling(knob, default),
                "{name}"
            ),
        }
        let scope = match kind {
            _ if FIXED_AT_START.contains(&name) => Scope::Static,
            "static" => Scope::Static,
            "node" => Scope::Node,
            _ => Scope::Cluster,
        };
        assert_eq!(knob.scope, scope, "{name}");
    }
    assert_eq!(count, [36, 21, 359]);
}

#[test]
fn defaults_are_valid_and_canonical() {
    let all = broker()
        .chain(topic())
        .chain(group())
        .chain(client_metrics());
    for knob in all {
        if let Some(default) = knob.default {
            assert_eq!(
                knob.canonical(default).as_deref(),
                Ok(default),
                "{}",
                knob.name
            );
        }
        assert!(
            !knob.documentation().is_empty(),
            "{} says nothing about itself",
            knob.name
        );
    }
}

#[test]
fn names_are_unique_and_our_own_are_few() {
    for table in [topic(), group(), client_metrics()] {
        let names: BTreeSet<_> = table.iter().map(|knob| knob.name).collect();
        assert_eq!(names.len(), table.len());
    }
    let names: Vec<_> = broker().map(|knob| knob.name).collect();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(names.len(), distinct.len());
    let kafkas: BTreeSet<_> = documented().map(|(name, ..)| name).collect();
    let own = names.iter().filter(|name| !kafkas.contains(*name)).count();
    assert!(own <= 60, "{own} knobs of our own");
}

/// A topic takes the default of its server synonym, so both rows must say the same.
#[test]
fn synonyms_exist_and_agree() {
    for knob in topic() {
        let synonyms = server_synonyms(knob.name);
        let inherited = synonyms.iter().find_map(|synonym| {
            let server = broker_knob(synonym.name).unwrap();
            server
                .default
                .map(|value| synonym.unit.to_topic_value(value))
        });
        if !synonyms.is_empty() {
            assert_eq!(inherited.as_deref(), knob.default, "{}", knob.name);
        }
        for synonym in synonyms {
            let server = broker_knob(synonym.name).unwrap();
            let same =
                std::mem::discriminant(&server.effect) == std::mem::discriminant(&knob.effect);
            assert!(
                same,
                "{} and {} are treated differently",
                knob.name, server.name
            );
        }
    }
    for knob in group() {
        if let Some(server) = broker_synonym(knob.name) {
            assert_eq!(
                broker_knob(server).unwrap().default,
                knob.default,
                "{}",
                knob.name
            );
        }
    }
}

/// A topic config that changes nothing is met already by what this broker does anyway, or it is about
/// something that cannot be switched on: whoever tries is refused. Nothing else may be accepted and ignored.
#[test]
fn no_topic_config_is_ignored() {
    let row = |name: &str| topic().iter().find(|knob| knob.name == name).unwrap();
    let refuses = |name, value| row(name).canonical(value).is_err();
    assert!(refuses("cleanup.policy", "compact") && refuses("remote.storage.enable", "true"));
    let met = [
        "flush.messages",
        "flush.ms",
        "preallocate",
        "unclean.leader.election.enable",
    ];
    for knob in topic() {
        let Effect::Reported(why) = knob.effect else {
            continue;
        };
        let name = knob.name;
        let known = why.contains("cleanup.policy=compact is refused")
            || why.contains("remote.storage.enable=true is refused")
            || met.contains(&name);
        assert!(known, "{name} is accepted and ignored: {why}");
    }
}

#[test]
fn refusals_leave_the_default_open() {
    for knob in broker().chain(topic()).chain(group()) {
        if let Effect::Refused(why) = knob.effect {
            assert!(why.ends_with('.'), "{}: {why}", knob.name);
            assert!(
                knob.default
                    .is_none_or(|default| knob.canonical(default).is_ok())
            );
        }
    }
}
