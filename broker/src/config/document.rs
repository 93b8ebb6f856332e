//! Writes `docs/configuration.md` from the table. A test keeps the file fresh.

use std::fmt::Write;

use super::knob::{Effect, Knob, Valid};
use super::table::{self, Section, Unit};

/// The whole document.
pub fn markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("\n## Brokers\n\n");
    out.push_str(BROKERS);
    for section in table::broker_sections() {
        let _ = write!(out, "\n### {}\n\n", section.title);
        out.push_str("| name | type | default | valid | change | meaning |\n");
        out.push_str("|---|---|---|---|---|---|\n");
        for knob in section.knobs {
            broker_row(&mut out, knob);
        }
    }
    resource_section(&mut out, table::topic_section(), TOPICS, |knob| {
        let inherited = table::server_synonyms(knob.name).iter().map(|synonym| {
            let unit = match synonym.unit {
                Unit::AsIs => "",
                Unit::Minutes => " (minutes)",
                Unit::Hours => " (hours)",
            };
            format!("`{}`{unit}", synonym.name)
        });
        inherited.collect::<Vec<_>>().join(", ")
    });
    for (section, introduction) in table::group_sections()
        .into_iter()
        .zip([GROUPS, SUBSCRIPTIONS])
    {
        resource_section(&mut out, section, introduction, |knob| {
            table::broker_synonym(knob.name)
                .map(|name| format!("`{name}`"))
                .unwrap_or_default()
        });
    }
    out
}

fn resource_section(
    out: &mut String,
    section: &Section,
    introduction: &str,
    inherited: impl Fn(&Knob) -> String,
) {
    let _ = write!(out, "\n## {}\n\n{introduction}\n", section.title);
    out.push_str("| name | type | default | valid | inherited from | meaning |\n");
    out.push_str("|---|---|---|---|---|---|\n");
    for knob in section.knobs {
        let (kind, from) = (knob.kind.word(), inherited(knob));
        let (default, valid, meaning) = (default(knob), valid(knob), meaning(knob));
        let _ = writeln!(
            out,
            "| `{}` | {kind} | {default} | {valid} | {from} | {meaning} |",
            knob.name
        );
    }
}

fn broker_row(out: &mut String, knob: &Knob) {
    let (kind, change) = (knob.kind.word(), knob.scope.word());
    let (default, valid, meaning) = (default(knob), valid(knob), meaning(knob));
    let _ = writeln!(
        out,
        "| `{}` | {kind} | {default} | {valid} | {change} | {meaning} |",
        knob.name
    );
}

fn default(knob: &Knob) -> String {
    match knob.default {
        None => "unset".to_owned(),
        Some("") => "empty".to_owned(),
        Some("2147483647" | "9223372036854775807" | "1.7976931348623157E308") => "max".to_owned(),
        Some(value) => format!("`{value}`"),
    }
}

fn valid(knob: &Knob) -> String {
    match knob.valid {
        Valid::Any => String::new(),
        valid => valid.to_string().replace('<', "&lt;").replace('>', "&gt;"),
    }
}

fn meaning(knob: &Knob) -> String {
    match knob.effect {
        Effect::Honoured => knob.documentation().to_owned(),
        Effect::Reported(_) => format!("*No effect.* {}", knob.documentation()),
        Effect::Refused(_) => format!("*Default only.* {}", knob.documentation()),
    }
}

const INTRODUCTION: &str = "\
<!-- Generated from the table of knobs in broker/src/config/table. Do not edit: run
     WRITE_DOCS=1 cargo test -p broker config -->

# Configuration

A broker needs no configuration. Where it takes one, the names, types, units and defaults are
those of Apache Kafka 4.4, so that a `server.properties` and the tools around it keep working.
Names that begin with `corelane.` are this broker's own.

Values come from four places. The first that has one wins:

1. flags: `corelane start --set log.retention.hours=24`
2. the environment: `CORELANE_LOG_RETENTION_HOURS=24` (dots become underscores; the prefix
   stands for `corelane.` too, as in `CORELANE_CORES`)
3. the file of `--config`: TOML, or Kafka's syntax if its name ends in `.properties`
4. the default below

In TOML a name may be written dotted, or as a table; a name that begins another one needs
quotes:

```toml
log.dirs = \"/var/lib/corelane\"
listeners = [\"PLAINTEXT://0.0.0.0:9092\"]
\"max.connections\" = 10000
\"max.connections.per.ip\" = 100

[corelane]
overprovisioned = false
```

An unknown name or an invalid value stops the start, with a sentence that names it. No value is
accepted and silently ignored: what is marked *No effect* is stored and reported and the
sentence says why it changes nothing, and what is marked *Default only* refuses every other
value.
";

const BROKERS: &str = "\
Read at start from the places above. The column *change* says what an operator may alter while
the broker runs (AlterConfigs, `kafka-configs.sh`): `cluster-wide` for all brokers or one of
them, `per-broker` for one at a time, `read-only` not at all. A value for one broker beats one
for the cluster, and both beat what the broker was started with.

`max.connections` and `max.connection.creation.rate` can be set for one listener too, at start, and
hold beside those of the node: `listener.name.outside.max.connections=100` for the listener
`OUTSIDE`.
";

const TOPICS: &str = "\
Set when a topic is created, or later (`corelane topic alter`, AlterConfigs). A topic that does
not set a value inherits the broker's, from the first of the named configs that has one; hours
and minutes become milliseconds.
";

const GROUPS: &str = "\
Set for one group through AlterConfigs with the resource type GROUP. What a group does not set
it inherits from the broker; the broker's `group.*.min.*` and `group.*.max.*` bound what a group
may ask for.
";

const SUBSCRIPTIONS: &str = "\
Set through AlterConfigs with the resource type CLIENT_METRICS (KIP-714).
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let fresh = markdown();
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(path, &fresh).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == fresh,
            "docs/configuration.md is stale: WRITE_DOCS=1 cargo test -p broker config"
        );
    }

    #[test]
    fn every_row_is_in_it_and_breaks_no_table() {
        let document = markdown();
        for knob in table::broker().chain(table::topic()).chain(table::group()) {
            let row = document
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", knob.name)));
            let row = row.unwrap_or_else(|| panic!("{} is missing", knob.name));
            assert_eq!(row.matches('|').count(), 7, "{row}");
        }
    }
}
