//! Addresses: where this node listens, what it tells clients to connect to, who its peers are.
//!
//! Grammar only. Resolving a name to addresses is the one thing here that asks the system, and only
//! [`Endpoint::addresses`] does it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use super::knob::elements;
use super::per_listener::ListenerLimits;

/// A host name or address with a port. An empty host is every interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// How the bytes of a listener are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

/// One place where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name, in capitals: the metadata of a connection speaks of its own listener.
    pub name: String,
    pub protocol: SecurityProtocol,
    pub bind: Endpoint,
    /// What clients of this listener are told. Port 0 stands for the port that was bound.
    pub advertised: Endpoint,
    pub limits: ListenerLimits,
}

/// One of the first nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    pub node_id: i32,
    /// Its peer listener.
    pub peer: Endpoint,
}

/// What is wrong with an address list; the sentence names the element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAddress(String);

impl Endpoint {
    /// Reads `host:port`, `[v6]:port` or `:port`.
    pub fn parse(text: &str) -> Result<Endpoint, InvalidAddress> {
        let invalid = || InvalidAddress(format!("{text:?} is not an address; write host:port"));
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(invalid)?,
            None if host.contains(':') => return Err(invalid()),
            None => host,
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        if !host.chars().all(is_name) {
            return Err(invalid());
        }
        Ok(Endpoint {
            host: host.to_owned(),
            port,
        })
    }

    /// True if this stands for every interface of the machine, which no client can connect to.
    pub fn is_every_interface(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }

    /// The socket addresses of this endpoint. Asks the system's resolver, so it may block.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let host = if self.host.is_empty() {
            "0.0.0.0"
        } else {
            &self.host
        };
        Ok((host, self.port).to_socket_addrs()?.collect())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl SecurityProtocol {
    /// Kafka's name of the protocol.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    fn from_name(name: &str) -> Option<SecurityProtocol> {
        use SecurityProtocol::*;
        [Plaintext, Ssl, SaslPlaintext, SaslSsl]
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }
}

/// The text of the four knobs that make up the listeners.
pub(crate) struct ListenerTexts<'a> {
    pub listeners: &'a str,
    pub advertised: Option<&'a str>,
    pub protocols: &'a str,
    /// Names that are left out: Kafka's controllers, whose work is done on the peer listener.
    pub controllers: &'a str,
    /// Told to clients where a listener is bound to every interface.
    pub hostname: &'a str,
}

/// Puts the listeners together. The sentence of an error names the knob to change.
pub(crate) fn parse_listeners(texts: &ListenerTexts<'_>) -> Result<Vec<Listener>, InvalidAddress> {
    let protocols = parse_protocols(texts.protocols)?;
    let controllers: Vec<String> = elements(texts.controllers)
        .map(str::to_ascii_uppercase)
        .collect();
    let mut bound = parse_named("listeners", texts.listeners)?;
    let mut advertised = parse_named("advertised.listeners", texts.advertised.unwrap_or(""))?;
    bound.retain(|(name, _)| !controllers.contains(name));
    advertised.retain(|(name, _)| !controllers.contains(name));
    if bound.is_empty() {
        return Err(InvalidAddress(
            "listeners names no listener for clients".into(),
        ));
    }
    refuse_strangers(&bound, &advertised)?;
    bound
        .into_iter()
        .map(|(name, bind)| {
            let protocol = *protocols.get(&name).ok_or_else(|| {
                InvalidAddress(format!(
                    "listener {name} has no security protocol; add {name}:PLAINTEXT to \
                     listener.security.protocol.map"
                ))
            })?;
            let told = advertised
                .iter()
                .find(|(other, _)| *other == name)
                .map(|(_, end)| end);
            let advertised = advertise(&bind, told, texts.hostname);
            Ok(Listener {
                name,
                protocol,
                bind,
                advertised,
                limits: ListenerLimits::default(),
            })
        })
        .collect()
}

fn advertise(bind: &Endpoint, told: Option<&Endpoint>, hostname: &str) -> Endpoint {
    match told {
        Some(told) if told.host.is_empty() => Endpoint {
            host: hostname.to_owned(),
            port: told.port,
        },
        Some(told) => told.clone(),
        None if bind.is_every_interface() => Endpoint {
            host: hostname.to_owned(),
            port: bind.port,
        },
        None => bind.clone(),
    }
}

fn refuse_strangers(
    bound: &[(String, Endpoint)],
    advertised: &[(String, Endpoint)],
) -> Result<(), InvalidAddress> {
    for (name, endpoint) in advertised {
        if !bound.iter().any(|(other, _)| other == name) {
            return Err(InvalidAddress(format!(
                "advertised.listeners names {name}, which listeners does not"
            )));
        }
        if matches!(endpoint.host.as_str(), "0.0.0.0" | "::") {
            return Err(InvalidAddress(format!(
                "advertised.listeners tells clients to connect to {endpoint}, which they cannot; \
                 name an address that they can reach"
            )));
        }
    }
    Ok(())
}

/// Reads `NAME://host:port, ...`.
fn parse_named(knob: &str, text: &str) -> Result<Vec<(String, Endpoint)>, InvalidAddress> {
    let mut listeners: Vec<(String, Endpoint)> = Vec::new();
    for element in elements(text) {
        let (name, address) = element.split_once("://").ok_or_else(|| {
            InvalidAddress(format!("{knob} has {element:?}; write NAME://host:port"))
        })?;
        let endpoint =
            Endpoint::parse(address).map_err(|error| InvalidAddress(format!("{knob}: {error}")))?;
        let name = name.to_ascii_uppercase();
        if listeners.iter().any(|(other, _)| *other == name) {
            return Err(InvalidAddress(format!("{knob} names {name} twice")));
        }
        let same_port = |(_, other): &(String, Endpoint)| other.port == endpoint.port;
        if knob == "listeners" && endpoint.port != 0 && listeners.iter().any(same_port) {
            return Err(InvalidAddress(format!(
                "{knob} uses port {} twice",
                endpoint.port
            )));
        }
        listeners.push((name, endpoint));
    }
    Ok(listeners)
}

fn parse_protocols(text: &str) -> Result<BTreeMap<String, SecurityProtocol>, InvalidAddress> {
    elements(text)
        .map(|element| {
            let pair = element.split_once(':').and_then(|(name, protocol)| {
                let protocol = SecurityProtocol::from_name(protocol.trim())?;
                Some((name.trim().to_ascii_uppercase(), protocol))
            });
            pair.ok_or_else(|| {
                InvalidAddress(format!(
                    "listener.security.protocol.map has {element:?}; write NAME:PLAINTEXT"
                ))
            })
        })
        .collect()
}

/// Reads `id@host:port, ...`.
pub(crate) fn parse_voters(text: &str) -> Result<Vec<Voter>, InvalidAddress> {
    let mut voters: Vec<Voter> = Vec::new();
    for element in elements(text) {
        let invalid = || {
            InvalidAddress(format!(
                "controller.quorum.voters has {element:?}; write id@host:port"
            ))
        };
        let (id, peer) = element.split_once('@').ok_or_else(invalid)?;
        let node_id: i32 = id.trim().parse().map_err(|_| invalid())?;
        let peer = Endpoint::parse(peer).map_err(|_| invalid())?;
        if node_id < 0 || peer.is_every_interface() {
            return Err(invalid());
        }
        if voters.iter().any(|voter| voter.node_id == node_id) {
            return Err(InvalidAddress(format!(
                "controller.quorum.voters names {node_id} twice"
            )));
        }
        voters.push(Voter { node_id, peer });
    }
    Ok(voters)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOLS: &str = "PLAINTEXT:PLAINTEXT,SSL:SSL,INSIDE:PLAINTEXT";

    fn parse(listeners: &str, advertised: Option<&str>) -> Result<Vec<Listener>, InvalidAddress> {
        parse_listeners(&ListenerTexts {
            listeners,
            advertised,
            protocols: PROTOCOLS,
            controllers: "CONTROLLER",
            hostname: "node-1",
        })
    }

    #[test]
    fn endpoints_read_and_print() {
        for text in ["localhost:9092", "10.0.0.1:0", "[::1]:9092", ":9092"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "localhost",
            "localhost:",
            "a:b:1",
            "[::1:9092",
            "ho st:1",
            "h:65536",
            "",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_clients_are_told_is_inferred() {
        let told = |listeners, advertised| {
            parse(listeners, advertised).unwrap()[0]
                .advertised
                .to_string()
        };
        assert_eq!(told("PLAINTEXT://127.0.0.1:9092", None), "127.0.0.1:9092");
        assert_eq!(told("PLAINTEXT://:9092", None), "node-1:9092");
        assert_eq!(told("plaintext://0.0.0.0:9092", None), "node-1:9092");
        assert_eq!(
            told("PLAINTEXT://:9092", Some("PLAINTEXT://kafka.example:443")),
            "kafka.example:443"
        );
        assert_eq!(
            told("PLAINTEXT://:9092", Some("PLAINTEXT://:443")),
            "node-1:443"
        );
    }

    #[test]
    fn each_listener_has_its_own_address_for_clients() {
        let listeners = parse(
            "INSIDE://127.0.0.1:9092, PLAINTEXT://0.0.0.0:9093",
            Some("PLAINTEXT://kafka.example:443"),
        );
        let told: Vec<(String, String)> = listeners
            .unwrap()
            .into_iter()
            .map(|listener| (listener.name, listener.advertised.to_string()))
            .collect();
        let expected = [
            ("INSIDE".to_owned(), "127.0.0.1:9092".to_owned()),
            ("PLAINTEXT".to_owned(), "kafka.example:443".to_owned()),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_combined_kafka_file_loses_its_controller_listener() {
        let listeners = parse(
            "PLAINTEXT://:9092,CONTROLLER://:9093",
            Some("PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093"),
        )
        .unwrap();
        assert_eq!(listeners.len(), 1);
        assert_eq!(listeners[0].name, "PLAINTEXT");
        assert_eq!(listeners[0].advertised.to_string(), "localhost:9092");
    }

    #[test]
    fn wrong_lists_say_what_to_change() {
        let cases = [
            ("localhost:9092", None, "NAME://host:port"),
            ("PLAINTEXT://a:1,PLAINTEXT://b:2", None, "twice"),
            ("PLAINTEXT://a:1,INSIDE://b:1", None, "port 1 twice"),
            ("OUTSIDE://a:1", None, "listener.security.protocol.map"),
            (
                "PLAINTEXT://a:1",
                Some("INSIDE://a:1"),
                "which listeners does not",
            ),
            (
                "PLAINTEXT://a:1",
                Some("PLAINTEXT://0.0.0.0:1"),
                "can reach",
            ),
            ("CONTROLLER://a:1", None, "no listener for clients"),
        ];
        for (listeners, advertised, part) in cases {
            let error = parse(listeners, advertised).unwrap_err().to_string();
            assert!(error.contains(part), "{listeners}: {error}");
        }
    }

    #[test]
    fn voters_are_distinct_and_reachable() {
        let voters = parse_voters("1@a:9192, 2@[::1]:9193").unwrap();
        assert_eq!(
            voters[1],
            Voter {
                node_id: 2,
                peer: Endpoint {
                    host: "::1".into(),
                    port: 9193
                }
            }
        );
        for text in ["a:9192", "x@a:1", "-1@a:1", "1@:1", "1@a:1,1@b:1"] {
            assert!(parse_voters(text).is_err(), "{text}");
        }
    }
}
