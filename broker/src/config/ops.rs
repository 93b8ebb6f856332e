//! What the admin apis do to configs: check a value, carry out AlterConfigs, describe. Pure.

use super::broker::BrokerConfig;
use super::knob::{Cause, InvalidConfig, Kind, Knob, Scope, elements};
use super::layers::Overrides;
use super::nearest::nearest;
use super::table;
use serde::{Deserialize, Serialize};

/// Longest value that Kafka stores.
const VALUE_MAX_BYTES: usize = i16::MAX as usize;

/// Whose configs: a resource without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    Topic,
    /// One node.
    Broker,
    /// All nodes of the cluster: Kafka's broker resource with an empty name.
    BrokerDefault,
    Group,
    ClientMetrics,
}

/// One step of an alteration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub name: String,
    pub change: Change,
}

/// What a step does to its config (KIP-339).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Set(String),
    /// Back to what is inherited.
    Delete,
    /// Adds elements to a list, at the end, unless they are there.
    Append(String),
    /// Takes elements out of a list.
    Subtract(String),
}

impl Operation {
    /// A SET, the only operation of AlterConfigs.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Operation {
        Operation {
            name: name.into(),
            change: Change::Set(value.into()),
        }
    }

    /// An operation as IncrementalAlterConfigs spells it: 0 SET, 1 DELETE, 2 APPEND, 3 SUBTRACT.
    pub fn from_wire(
        name: &str,
        code: i8,
        value: Option<&str>,
    ) -> Result<Operation, InvalidConfig> {
        let invalid = |message| {
            let mut error = InvalidConfig::new(name, Cause::Malformed, message);
            error.code = protocol::error::ErrorCode::INVALID_REQUEST;
            error
        };
        let change = match (code, value) {
            (1, _) => Change::Delete,
            (0 | 2 | 3, None) => {
                return Err(invalid(format!("Null value not supported for : {name}")));
            }
            (0, Some(value)) => Change::Set(value.to_owned()),
            (2, Some(value)) => Change::Append(value.to_owned()),
            (3, Some(value)) => Change::Subtract(value.to_owned()),
            _ => return Err(invalid(format!("Unknown operation {code} for {name}."))),
        };
        Ok(Operation {
            name: name.to_owned(),
            change,
        })
    }
}

/// Checks one value that a client wants to set and returns its canonical spelling.
pub fn validate(kind: ResourceKind, name: &str, value: &str) -> Result<String, InvalidConfig> {
    let knob = settable(kind, name)?;
    if value.len() > VALUE_MAX_BYTES {
        let message = format!("The value of {name} is longer than {VALUE_MAX_BYTES} bytes.");
        return Err(InvalidConfig::new(name, Cause::OutOfRange, message));
    }
    knob.canonical(value)
}

/// [`validate`] for a topic.
pub fn validate_topic(name: &str, value: &str) -> Result<String, InvalidConfig> {
    validate(ResourceKind::Topic, name, value)
}

/// Checks a topic's overrides against each other; each is canonical.
pub fn validate_topic_set(overrides: &Overrides) -> Result<(), InvalidConfig> {
    let value = |name: &str| {
        let knob = table::topic().iter().find(|knob| knob.name == name)?;
        let value = overrides.get(name).map(String::as_str).or(knob.default)?;
        value.parse::<i64>().ok()
    };
    let (least, most) = (
        value("min.compaction.lag.ms"),
        value("max.compaction.lag.ms"),
    );
    if least > most {
        let message = format!(
            "min.compaction.lag.ms ({}) is larger than max.compaction.lag.ms ({}).",
            least.unwrap_or_default(),
            most.unwrap_or_default()
        );
        return Err(InvalidConfig::new(
            "min.compaction.lag.ms",
            Cause::Conflict,
            message,
        ));
    }
    Ok(())
}

/// Carries out `operations` on the overrides of a resource, all or none. For AlterConfigs start
/// from nothing, for IncrementalAlterConfigs from what is set now.
pub fn alter(
    kind: ResourceKind,
    current: &Overrides,
    operations: &[Operation],
    broker: &BrokerConfig,
) -> Result<Overrides, InvalidConfig> {
    let mut wanted = current.clone();
    for Operation { name, change } in operations {
        match change {
            Change::Set(value) => {
                wanted.insert(name.clone(), validate(kind, name, value)?);
            }
            // A config that a later version left behind can be deleted without being known.
            Change::Delete if current.contains_key(name) => {
                wanted.remove(name);
            }
            Change::Delete => {
                settable(kind, name)?;
            }
            Change::Append(value) => {
                let mut list = list_now(kind, name, &wanted, "APPEND")?;
                for element in elements(value) {
                    if !list.iter().any(|known| known == element) {
                        list.push(element.to_owned());
                    }
                }
                wanted.insert(name.clone(), validate(kind, name, &list.join(","))?);
            }
            Change::Subtract(value) => {
                let mut list = list_now(kind, name, &wanted, "SUBTRACT")?;
                list.retain(|known| !elements(value).any(|element| element == known));
                wanted.insert(name.clone(), validate(kind, name, &list.join(","))?);
            }
        }
    }
    match kind {
        ResourceKind::Topic => validate_topic_set(&wanted)?,
        ResourceKind::Group => validate_group_set(&wanted, broker)?,
        _ => {}
    }
    Ok(wanted)
}

/// The rows that a kind of resource has.
pub(crate) fn knobs(kind: ResourceKind) -> Box<dyn Iterator<Item = &'static Knob>> {
    match kind {
        ResourceKind::Topic => Box::new(table::topic().iter()),
        ResourceKind::Group => Box::new(table::group().iter()),
        ResourceKind::ClientMetrics => Box::new(table::client_metrics().iter()),
        ResourceKind::Broker | ResourceKind::BrokerDefault => Box::new(table::broker()),
    }
}

/// The row of a name, if a client may set it while the broker runs.
fn settable(kind: ResourceKind, name: &str) -> Result<&'static Knob, InvalidConfig> {
    let of_broker = matches!(kind, ResourceKind::Broker | ResourceKind::BrokerDefault);
    if of_broker && name.starts_with("listener.name.") {
        let message =
            format!("{name} is not supported. Listeners have no settings of their own here.");
        return Err(InvalidConfig::new(name, Cause::Refused, message));
    }
    let Some(knob) = knobs(kind).find(|knob| knob.name == name) else {
        return Err(unknown(kind, name));
    };
    match (of_broker, knob.scope) {
        (true, Scope::Static) => {
            let message =
                format!("Cannot update {name} dynamically: it is read when the broker starts.");
            Err(InvalidConfig::new(name, Cause::ReadOnly, message))
        }
        (true, Scope::Node) if kind == ResourceKind::BrokerDefault => {
            let message = format!(
                "Cannot update {name} at default cluster level: the broker id must be specified."
            );
            Err(InvalidConfig::new(name, Cause::PerBroker, message))
        }
        _ => Ok(knob),
    }
}

/// The refusal of a name that no row has, with the nearest one that exists.
pub(crate) fn unknown(kind: ResourceKind, name: &str) -> InvalidConfig {
    let what = match kind {
        ResourceKind::Topic => "topic",
        ResourceKind::Group => "group",
        ResourceKind::ClientMetrics => "client metrics",
        ResourceKind::Broker | ResourceKind::BrokerDefault => "broker",
    };
    let hint = match nearest(name, knobs(kind).map(|knob| knob.name)) {
        Some(known) => format!(" Did you mean {known}?"),
        None => String::new(),
    };
    let message = format!("Unknown {what} config name: {name}.{hint}");
    InvalidConfig::new(name, Cause::Unknown, message)
}

/// The elements that APPEND and SUBTRACT work on: what is set, or else the default, as in Kafka.
fn list_now(
    kind: ResourceKind,
    name: &str,
    overrides: &Overrides,
    operation: &str,
) -> Result<Vec<String>, InvalidConfig> {
    let knob = settable(kind, name)?;
    if knob.kind != Kind::List {
        let message = format!("Can't {operation} to key {name} because its type is not LIST.");
        return Err(InvalidConfig::new(name, Cause::NotAList, message));
    }
    let now = overrides
        .get(name)
        .map(String::as_str)
        .or(knob.default)
        .unwrap_or("");
    Ok(elements(now).map(str::to_owned).collect())
}

/// A group's values lie within what the broker allows to any group.
fn validate_group_set(overrides: &Overrides, broker: &BrokerConfig) -> Result<(), InvalidConfig> {
    let bounds = [
        (
            "consumer.session.timeout.ms",
            broker.group_consumer_min_session_timeout_ms,
            broker.group_consumer_max_session_timeout_ms,
        ),
        (
            "consumer.heartbeat.interval.ms",
            broker.group_consumer_min_heartbeat_interval_ms,
            broker.group_consumer_max_heartbeat_interval_ms,
        ),
        (
            "consumer.assignment.interval.ms",
            broker.group_consumer_min_assignment_interval_ms,
            broker.group_consumer_max_assignment_interval_ms,
        ),
    ];
    let value = |name: &str| {
        overrides
            .get(name)
            .and_then(|value| value.parse::<i32>().ok())
    };
    for (name, least, most) in bounds {
        if let Some(number) = value(name)
            && !(least..=most).contains(&number)
        {
            let message =
                format!("{name} must be between {least} and {most} on this broker, not {number}.");
            return Err(InvalidConfig::new(name, Cause::OutOfRange, message));
        }
    }
    let session =
        value("consumer.session.timeout.ms").unwrap_or(broker.group_consumer_session_timeout_ms);
    let heartbeat = value("consumer.heartbeat.interval.ms")
        .unwrap_or(broker.group_consumer_heartbeat_interval_ms);
    if heartbeat >= session {
        let message = format!(
            "consumer.heartbeat.interval.ms ({heartbeat}) must be smaller than \
             consumer.session.timeout.ms ({session})."
        );
        let name = "consumer.heartbeat.interval.ms";
        return Err(InvalidConfig::new(name, Cause::Conflict, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, change: Change) -> Vec<Operation> {
        vec![Operation {
            name: name.to_owned(),
            change,
        }]
    }

    fn throttle(current: &Overrides, change: Change) -> Result<Overrides, InvalidConfig> {
        let name = "leader.replication.throttled.replicas";
        let broker = BrokerConfig::default();
        alter(ResourceKind::Topic, current, &one(name, change), &broker)
    }

    #[test]
    fn lists_grow_and_shrink_without_repetition() {
        let name = "leader.replication.throttled.replicas";
        let grown = throttle(&Overrides::new(), Change::Append("0:1,0:2".into())).unwrap();
        assert_eq!(grown[name], "0:1,0:2");
        let grown = throttle(&grown, Change::Append(" 0:2, 1:1 ".into())).unwrap();
        assert_eq!(grown[name], "0:1,0:2,1:1");
        let shrunk = throttle(&grown, Change::Subtract("0:1,9:9".into())).unwrap();
        assert_eq!(shrunk[name], "0:2,1:1");
        let gone = throttle(&shrunk, Change::Subtract("0:2,1:1".into())).unwrap();
        assert_eq!(gone[name], "");
        let deleted = throttle(&gone, Change::Delete).unwrap();
        assert!(deleted.is_empty());
        assert!(throttle(&grown, Change::Append("zero:one".into())).is_err());
    }

    #[test]
    fn appending_to_the_default_starts_from_it() {
        let broker = BrokerConfig::default();
        let operations = one("cleanup.policy", Change::Append("delete".into()));
        let wanted = alter(ResourceKind::Topic, &Overrides::new(), &operations, &broker).unwrap();
        assert_eq!(wanted["cleanup.policy"], "delete");
        let operations = one("retention.ms", Change::Append("1".into()));
        let error =
            alter(ResourceKind::Topic, &Overrides::new(), &operations, &broker).unwrap_err();
        assert_eq!(error.cause, Cause::NotAList);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name_and_reason() {
        let cases = [
            ("cleanup.policy", "compact", "compaction"),
            ("cleanup.policy", "compact,delete", "compaction"),
            ("remote.storage.enable", "true", "Tiered storage"),
            (
                "errors.deadletterqueue.group.enable",
                "TRUE",
                "Share groups",
            ),
        ];
        for (name, value, reason) in cases {
            let error = validate_topic(name, value).unwrap_err();
            assert_eq!(error.cause, Cause::Refused, "{name}={value}");
            assert!(
                error.message.contains(name) && error.message.contains(reason),
                "{error}"
            );
        }
        assert_eq!(
            validate_topic("cleanup.policy", " delete ").unwrap(),
            "delete"
        );
        assert_eq!(
            validate_topic("remote.storage.enable", "False").unwrap(),
            "false"
        );
        let class = validate(
            ResourceKind::Broker,
            "principal.builder.class",
            "com.example.Mine",
        );
        assert_eq!(class.unwrap_err().cause, Cause::Refused);
    }

    #[test]
    fn the_scope_of_a_broker_config_is_kept() {
        use protocol::error::ErrorCode;
        let cause = |kind, name, value| validate(kind, name, value).unwrap_err().cause;
        let (node, cluster) = (ResourceKind::Broker, ResourceKind::BrokerDefault);
        assert_eq!(cause(node, "num.partitions", "3"), Cause::ReadOnly);
        assert_eq!(
            cause(cluster, "ssl.keystore.location", "/k"),
            Cause::PerBroker
        );
        assert_eq!(
            cause(node, "listener.name.a.ssl.keystore.location", "/k"),
            Cause::Refused
        );
        assert_eq!(validate(cluster, "log.retention.ms", "5").unwrap(), "5");
        let error = validate(node, "num.partitions", "3").unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
        let error = validate_topic("retention.ms", "x").unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_CONFIG);
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        let error = validate_topic("retention.mss", "1").unwrap_err();
        assert_eq!(error.cause, Cause::Unknown);
        assert!(
            error.message.contains("Did you mean retention.ms?"),
            "{error}"
        );
        let error = validate_topic("entirely.different.thing", "1").unwrap_err();
        assert!(!error.message.contains("Did you mean"), "{error}");
    }

    #[test]
    fn one_bad_step_changes_nothing() {
        let broker = BrokerConfig::default();
        let operations = [
            Operation::set("retention.ms", "5"),
            Operation::set("retention.bytes", "many"),
        ];
        let result = alter(ResourceKind::Topic, &Overrides::new(), &operations, &broker);
        assert_eq!(result.unwrap_err().name, "retention.bytes");
    }

    #[test]
    fn configs_are_checked_against_each_other() {
        let broker = BrokerConfig::default();
        let lags = [
            Operation::set("min.compaction.lag.ms", "10"),
            Operation::set("max.compaction.lag.ms", "9"),
        ];
        let error = alter(ResourceKind::Topic, &Overrides::new(), &lags, &broker).unwrap_err();
        assert_eq!(error.cause, Cause::Conflict);
        let short = [Operation::set("consumer.session.timeout.ms", "1000")];
        let error = alter(ResourceKind::Group, &Overrides::new(), &short, &broker).unwrap_err();
        assert_eq!(error.cause, Cause::OutOfRange);
        let fine = [Operation::set("consumer.session.timeout.ms", "50000")];
        assert!(alter(ResourceKind::Group, &Overrides::new(), &fine, &broker).is_ok());
    }

    #[test]
    fn operations_come_from_the_wire() {
        assert_eq!(
            Operation::from_wire("a", 0, Some("1")).unwrap(),
            Operation::set("a", "1")
        );
        assert_eq!(
            Operation::from_wire("a", 1, None).unwrap().change,
            Change::Delete
        );
        assert!(Operation::from_wire("a", 0, None).is_err());
        assert!(Operation::from_wire("a", 4, Some("1")).is_err());
    }
}
