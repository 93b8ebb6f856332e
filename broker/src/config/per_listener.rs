//! Configs of one listener: `listener.name.<listener>.<config>`, as Kafka writes them.
//!
//! Two configs can be set so, the limits of connections; they are read at start, and a listener's
//! value holds beside that of the node. Every other one is refused by name.

use super::knob::{Cause, InvalidConfig};
use super::layers::Overrides;
use super::ops::{ResourceKind, unknown};
use super::table;

const PREFIX: &str = "listener.name.";

/// The configs that a listener can have of its own.
const OWN: [&str; 2] = [MAX_CONNECTIONS, MAX_CONNECTION_CREATION_RATE];
const MAX_CONNECTIONS: &str = "max.connections";
const MAX_CONNECTION_CREATION_RATE: &str = "max.connection.creation.rate";

/// Limits of one listener, beside those of the node. `None`: the node's alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerLimits {
    pub max_connections: Option<u32>,
    /// New connections a second.
    pub max_connection_creation_rate: Option<u32>,
}

impl ListenerLimits {
    /// The limits that were set for a listener. Its name may be spelled in any case.
    pub(crate) fn of(listener: &str, statics: &Overrides) -> ListenerLimits {
        let prefix = format!("{PREFIX}{}.", listener.to_ascii_lowercase());
        let own = |config: &str| statics.get(&format!("{prefix}{config}"))?.parse().ok();
        ListenerLimits {
            max_connections: own(MAX_CONNECTIONS),
            max_connection_creation_rate: own(MAX_CONNECTION_CREATION_RATE),
        }
    }
}

/// The listener, in capitals, that a config is set for.
pub(crate) fn listener_of(name: &str) -> Option<String> {
    let (listener, _) = name.strip_prefix(PREFIX)?.split_once('.')?;
    Some(listener.to_ascii_uppercase())
}

/// Checks a value that was set for one listener; `None` if the name is not of that form.
pub(crate) fn canonical(name: &str, value: &str) -> Option<Result<String, InvalidConfig>> {
    let (listener, config) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let Some(knob) = table::broker_knob(config) else {
        return Some(Err(unknown(ResourceKind::Broker, name)));
    };
    if !OWN.contains(&config) || listener.is_empty() {
        let message = format!(
            "{name} is not supported: a listener can have {} of its own; set {config} for the node.",
            OWN.join(" and ")
        );
        return Some(Err(InvalidConfig::new(name, Cause::Refused, message)));
    }
    Some(knob.canonical(value).map_err(|error| InvalidConfig {
        message: error.message.replace(config, name),
        name: name.to_owned(),
        ..error
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_the_listeners_own() {
        let statics = Overrides::from([
            ("listener.name.outside.max.connections".into(), "5".into()),
            ("max.connections".into(), "9".into()),
        ]);
        let limits = ListenerLimits::of("OUTSIDE", &statics);
        assert_eq!(limits.max_connections, Some(5));
        assert_eq!(limits.max_connection_creation_rate, None);
        assert_eq!(
            ListenerLimits::of("INSIDE", &statics),
            ListenerLimits::default()
        );
        let name = "listener.name.outside.max.connections";
        assert_eq!(listener_of(name).as_deref(), Some("OUTSIDE"));
        assert_eq!(listener_of("max.connections"), None);
    }

    #[test]
    fn values_are_checked_and_others_refused_by_name() {
        assert_eq!(canonical("max.connections", "5"), None);
        let name = "listener.name.outside.max.connections";
        assert_eq!(canonical(name, " 5 "), Some(Ok("5".to_owned())));
        let cases = [
            (
                name,
                "many",
                "for configuration listener.name.outside.max.connections: not",
            ),
            (
                "listener.name.outside.ssl.client.auth",
                "none",
                "is not supported",
            ),
            (
                "listener.name.outside.max.conections",
                "1",
                "Unknown broker config",
            ),
        ];
        for (name, value, part) in cases {
            let error = canonical(name, value).unwrap().unwrap_err();
            assert!(error.message.contains(part), "{error}");
            assert_eq!(error.name, name);
        }
    }
}
