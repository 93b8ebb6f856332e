//! Gathers what the operator wrote: a file, the environment, flags. Flags beat the environment, the
//! environment beats the file, the file beats the defaults.
//!
//! Text in, checked values out: files are read by [`read_file`], nothing else here touches the
//! system. Every problem is one sentence that says where it is and what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::broker::UnusableConfig;
use super::knob::{Effect, InvalidConfig};
use super::layers::Overrides;
use super::ops::{ResourceKind, unknown};
use super::per_listener;
use super::properties;
use super::table;

/// Environment variables that start with this set a knob.
pub const ENVIRONMENT_PREFIX: &str = "CORELANE_";

/// Variables with the prefix that are read elsewhere: by the command line, the log and the scripts
/// of continuous integration.
const NOT_KNOBS: [&str; 6] = [
    "BOOTSTRAP",
    "CACHE",
    "CONFIG",
    "FORMAT",
    "LOG",
    "LOG_FORMAT",
];

/// What is wrong with the configuration of a starting node.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Unreadable {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{origin}, line {line}: {message}")]
    Syntax {
        origin: String,
        line: usize,
        message: String,
    },
    #[error("{origin}: {error}")]
    Invalid {
        origin: String,
        error: InvalidConfig,
    },
    #[error(transparent)]
    Unusable(#[from] UnusableConfig),
}

/// How a file spells its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSyntax {
    Toml,
    /// Kafka's `server.properties`.
    Properties,
}

impl FileSyntax {
    /// By the file's name: `.properties`, or else TOML.
    pub fn of(path: &Path) -> FileSyntax {
        match path
            .extension()
            .is_some_and(|extension| extension == "properties")
        {
            true => FileSyntax::Properties,
            false => FileSyntax::Toml,
        }
    }
}

/// A configuration file, as text.
#[derive(Clone, Debug)]
pub struct FileText {
    /// How messages call it.
    pub origin: String,
    pub syntax: FileSyntax,
    pub text: String,
}

/// Reads a configuration file.
pub fn read_file(path: &Path) -> Result<FileText, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    Ok(FileText {
        origin: path.display().to_string(),
        syntax: FileSyntax::of(path),
        text,
    })
}

/// Explicit values in canonical spelling, and what the operator should know about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub statics: Overrides,
    /// One sentence for each value that has no effect; for the log.
    pub notices: Vec<String>,
}

/// Merges the three sources. `flags` are `name=value` pairs in the order given; the last one wins.
pub fn load(
    file: Option<&FileText>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let mut values: BTreeMap<String, (String, String)> = BTreeMap::new();
    if let Some(file) = file {
        for (name, value) in parse(file)? {
            values.insert(name, (value, file.origin.clone()));
        }
    }
    for (variable, value) in environment {
        if let Some(name) = knob_of_variable(&variable, &value) {
            values.insert(name, (value, format!("environment variable {variable}")));
        }
    }
    for (name, value) in flags {
        values.insert(name.clone(), (value.clone(), "--set".to_owned()));
    }
    let mut loaded = Loaded::default();
    for (name, (value, origin)) in values {
        let value = loaded_value(&name, &value, &mut loaded.notices)
            .map_err(|error| ConfigError::Invalid { origin, error })?;
        loaded.statics.insert(name, value);
    }
    Ok(loaded)
}

fn loaded_value(
    name: &str,
    value: &str,
    notices: &mut Vec<String>,
) -> Result<String, InvalidConfig> {
    if let Some(checked) = per_listener::canonical(name, value) {
        return checked;
    }
    let Some(knob) = table::broker_knob(name) else {
        return Err(unknown(ResourceKind::Broker, name));
    };
    let value = knob.canonical(value)?;
    if let Effect::Reported(why) = knob.effect
        && knob.default != Some(value.as_str())
    {
        let shown = if knob.is_sensitive() {
            "[hidden]"
        } else {
            &value
        };
        notices.push(format!("{name}={shown} has no effect. {why}"));
    }
    Ok(value)
}

/// The knob that a variable sets: `CORELANE_LOG_DIRS` is `log.dirs`, and our own knobs do not
/// repeat the prefix (`CORELANE_CORES` is `corelane.cores`).
fn knob_of_variable(variable: &str, value: &str) -> Option<String> {
    let rest = variable.strip_prefix(ENVIRONMENT_PREFIX)?;
    if NOT_KNOBS.contains(&rest) || is_service_link(rest, value) {
        return None;
    }
    let name = rest.to_ascii_lowercase().replace('_', ".");
    let own = format!("corelane.{name}");
    match table::broker_knob(&name).is_none() && table::broker_knob(&own).is_some() {
        true => Some(own),
        false => Some(name),
    }
}

/// Kubernetes tells pods about a service named `corelane` or `corelane-x` in variables that look
/// like ours: `CORELANE_SERVICE_HOST`, `CORELANE_PORT=tcp://...`, `CORELANE_X_PORT_9092_TCP_ADDR`.
fn is_service_link(rest: &str, value: &str) -> bool {
    let words: Vec<&str> = rest.split('_').collect();
    let service = |pair: &[&str]| pair[0] == "SERVICE" && matches!(pair[1], "HOST" | "PORT");
    let port = words.iter().position(|word| *word == "PORT");
    let numbered = port
        .and_then(|at| words.get(at + 1))
        .is_some_and(|next| next.bytes().all(|byte| byte.is_ascii_digit()));
    words.windows(2).any(service)
        || numbered
        || words.last() == Some(&"PORT") && value.starts_with("tcp://")
}

fn parse(file: &FileText) -> Result<Vec<(String, String)>, ConfigError> {
    let syntax = |(line, message)| ConfigError::Syntax {
        origin: file.origin.clone(),
        line,
        message,
    };
    match file.syntax {
        FileSyntax::Properties => properties::parse(&file.text).map_err(syntax),
        FileSyntax::Toml => parse_toml(&file.text).map_err(syntax),
    }
}

/// Reads TOML: tables become the parts of a dotted name, arrays become lists.
fn parse_toml(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        let hint = match message.contains("duplicate key") || message.contains("extend") {
            true => " (a name that begins another one needs quotes: \"max.connections\" = 5)",
            false => "",
        };
        (line_of(text, offset), format!("{message}{hint}"))
    })?;
    let mut values = Vec::new();
    flatten("", &table, &mut values).map_err(|name| {
        let place = name
            .rsplit('.')
            .next()
            .and_then(|last| text.find(last))
            .unwrap_or(0);
        let message = format!("{name} must be a string, a number, a boolean or a list of them");
        (line_of(text, place), message)
    })?;
    Ok(values)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// The error is the name of a value that no knob can take.
fn flatten(
    prefix: &str,
    table: &toml::Table,
    values: &mut Vec<(String, String)>,
) -> Result<(), String> {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, values)?,
            toml::Value::Array(items) => {
                let items: Option<Vec<String>> = items.iter().map(scalar).collect();
                let list = items.ok_or_else(|| name.clone())?.join(",");
                values.push((name, list));
            }
            other => {
                let value = scalar(other).ok_or_else(|| name.clone())?;
                values.push((name, value));
            }
        }
    }
    Ok(())
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> FileText {
        FileText {
            origin: "a.toml".into(),
            syntax: FileSyntax::Toml,
            text: text.into(),
        }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn load_file(text: &str) -> Result<Loaded, ConfigError> {
        load(Some(&toml(text)), [], &[])
    }

    #[test]
    fn flags_beat_environment_beats_file() {
        let file = toml("num.partitions = 1\nlog.retention.hours = 1\nmessage.max.bytes = 1");
        let environment = pairs(&[
            ("CORELANE_LOG_RETENTION_HOURS", "2"),
            ("CORELANE_MESSAGE_MAX_BYTES", "2"),
            ("HOME", "/root"),
        ]);
        let flags = pairs(&[("message.max.bytes", "9"), ("message.max.bytes", "3")]);
        let loaded = load(Some(&file), environment, &flags).unwrap();
        assert_eq!(loaded.statics["num.partitions"], "1");
        assert_eq!(loaded.statics["log.retention.hours"], "2");
        assert_eq!(loaded.statics["message.max.bytes"], "3");
        assert!(loaded.notices.is_empty());
    }

    #[test]
    fn toml_takes_tables_dotted_names_and_lists() {
        let loaded = load_file(
            "listeners = [\"PLAINTEXT://:9092\", \"INSIDE://:9093\"]\n\
             \"max.connections\" = 5\n\
             \"max.connections.per.ip\" = 2\n\
             [log]\ndirs = \"/d\"\nretention.ms = -1\n[corelane]\noverprovisioned = false\n",
        )
        .unwrap();
        assert_eq!(
            loaded.statics["listeners"],
            "PLAINTEXT://:9092,INSIDE://:9093"
        );
        assert_eq!(loaded.statics["log.retention.ms"], "-1");
        assert_eq!(loaded.statics["log.dirs"], "/d");
        assert_eq!(loaded.statics["corelane.overprovisioned"], "false");
        assert_eq!(loaded.statics["max.connections.per.ip"], "2");
    }

    #[test]
    fn errors_say_where_and_what() {
        let cases = [
            (
                "num.partition = 1",
                "a.toml: Unknown broker config name: num.partition. Did you mean num.partitions?",
            ),
            ("\n\nnum.partitions = ", "a.toml, line 3: "),
            (
                "max.connections = 5\nmax.connections.per.ip = 2",
                "needs quotes",
            ),
            (
                "num.partitions = 1979-05-27",
                "a.toml, line 1: num.partitions must be",
            ),
            (
                "num.partitions = \"two\"",
                "a.toml: Invalid value two for configuration num.partitions: not a valid int.",
            ),
        ];
        for (text, part) in cases {
            let error = load_file(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let environment = pairs(&[("CORELANE_LOG_DIR_S", "x")]);
        let error = load(None, environment, &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("environment variable CORELANE_LOG_DIR_S: Unknown"),
            "{error}"
        );
    }

    #[test]
    fn values_without_effect_are_mentioned() {
        let loaded = load_file("num.io.threads = 16\nnum.network.threads = 3").unwrap();
        assert_eq!(loaded.notices.len(), 1);
        assert!(loaded.notices[0].starts_with("num.io.threads=16 has no effect."));
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let environment = pairs(&[
            ("CORELANE_SERVICE_HOST", "10.0.0.1"),
            ("CORELANE_SERVICE_PORT_KAFKA", "9092"),
            ("CORELANE_PORT", "tcp://10.0.0.1:9092"),
            ("CORELANE_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("CORELANE_HEADLESS_PORT_9092_TCP", "tcp://10.0.0.1:9092"),
            ("CORELANE_BOOTSTRAP", "localhost:9092"),
            ("CORELANE_LOG_FORMAT", "json"),
            ("CORELANE_CORES", "2"),
        ]);
        let loaded = load(None, environment, &[]).unwrap();
        assert_eq!(
            loaded.statics,
            Overrides::from([("corelane.cores".into(), "2".into())])
        );
    }

    #[test]
    fn a_kafka_file_is_understood() {
        let text = "# a broker and controller in one\n\
            process.roles=broker,controller\nnode.id=1\n\
            controller.quorum.bootstrap.servers=localhost:9093\n\
            listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
            inter.broker.listener.name=PLAINTEXT\n\
            advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
            controller.listener.names=CONTROLLER\n\
            num.network.threads=3\nnum.io.threads=8\n\
            socket.send.buffer.bytes=102400\nlog.dirs=/tmp/logs\nnum.partitions=1\n\
            offsets.topic.replication.factor=1\nlog.segment.bytes=1073741824\n";
        let file = FileText {
            origin: "server.properties".into(),
            syntax: FileSyntax::of(Path::new("server.properties")),
            text: text.into(),
        };
        let loaded = load(Some(&file), [], &[]).unwrap();
        let config = super::super::BrokerConfig::resolve(loaded.statics, "node-1").unwrap();
        assert_eq!(config.node.listeners.len(), 1);
        assert_eq!(config.offsets_topic_replication_factor, 1);
        let mentioned = |name: &str| loaded.notices.iter().any(|notice| notice.starts_with(name));
        assert!(mentioned(
            "controller.quorum.bootstrap.servers=localhost:9093 has no effect."
        ));
        assert!(!mentioned("num.io.threads"), "a default needs no notice");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_file(Path::new("/no/such/file.toml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/no/such/file.toml"), "{error}");
    }
}
