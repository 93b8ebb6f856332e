//! Which connections are let in, when, and by which core they are served.
//!
//! Counts what is open by core, address and listener against the limits of the configuration. A
//! value: it takes addresses and the time and gives a verdict. Deliberately absent: sockets, which
//! belong to [`crate::connection`], and quotas by address (KIP-612), which this version has not.

use crate::config::{BrokerConfig, ListenerLimits};
use runtime::Instant;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// No connection waits longer for `max.connection.creation.rate`, as in Kafka: a rate of 0 is one
/// each second.
const DELAY_MAX: Duration = Duration::from_secs(1);
/// A listener that has let nobody in for this long may let a second's worth in at once.
const BURST: Duration = Duration::from_secs(1);

/// The connections of a node, on the core that accepts them.
#[derive(Debug, Default)]
pub struct Admission {
    per_core: Vec<usize>,
    per_listener: Vec<usize>,
    /// Addresses with open connections.
    per_address: BTreeMap<IpAddr, usize>,
    rate: Rate,
    listener_rates: Vec<Rate>,
}

/// Which limit a connection is beyond.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("max.connections ({0}) is reached")]
    Node(usize),
    #[error("max.connections ({0}) of its listener is reached")]
    Listener(usize),
    #[error("the address has as many as max.connections.per.ip allows it ({0})")]
    Address(usize),
    #[error("corelane.connections.max.per.core ({0}) is reached on every core")]
    Cores(usize),
}

impl Admission {
    /// Of a node that has no connection yet.
    pub fn new(cores: usize, listeners: usize) -> Admission {
        Admission {
            per_core: vec![0; cores],
            per_listener: vec![0; listeners],
            listener_rates: vec![Rate::default(); listeners],
            ..Admission::default()
        }
    }

    /// Whether this core accepts.
    pub fn is_accepting(&self) -> bool {
        !self.per_core.is_empty()
    }

    /// How long a connection that has just come through `listener` has to wait before it is looked
    /// at. The next ones of that listener wait behind it, in the kernel's queue.
    pub fn delay(
        &mut self,
        now: Instant,
        listener: usize,
        broker: &BrokerConfig,
        own: &ListenerLimits,
    ) -> Duration {
        let node = self.rate.take(now, broker.max_connection_creation_rate);
        let own = match own.max_connection_creation_rate {
            Some(rate) => self.listener_rates[listener].take(now, rate),
            None => Duration::ZERO,
        };
        node.max(own)
    }

    /// Lets a connection in: gives the core with the fewest, and counts it there.
    ///
    /// # Errors
    /// The limit that it is beyond.
    pub fn admit(
        &mut self,
        address: IpAddr,
        listener: usize,
        broker: &BrokerConfig,
        own: &ListenerLimits,
    ) -> Result<usize, Full> {
        let address = address.to_canonical();
        let open: usize = self.per_core.iter().sum();
        let below = |count: usize, limit: u32, full: fn(usize) -> Full| {
            let limit = limit as usize;
            (count < limit).then_some(()).ok_or(full(limit))
        };
        below(open, broker.max_connections, Full::Node)?;
        if let Some(limit) = own.max_connections {
            below(self.per_listener[listener], limit, Full::Listener)?;
        }
        let overrides = &broker.max_connections_per_ip_overrides;
        let per_ip = overrides.get(&address);
        let per_ip = per_ip.unwrap_or(&broker.max_connections_per_ip);
        let known = self.per_address.get(&address).copied().unwrap_or(0);
        below(known, *per_ip, Full::Address)?;
        let cores = self.per_core.iter().enumerate();
        let (core, fewest) = cores
            .min_by_key(|(_, open)| **open)
            .expect("at least one core");
        below(*fewest, broker.max_connections_per_core, Full::Cores)?;
        self.per_core[core] += 1;
        self.per_listener[listener] += 1;
        *self.per_address.entry(address).or_default() += 1;
        Ok(core)
    }

    /// A connection that was let in has ended.
    pub fn closed(&mut self, core: usize, address: IpAddr, listener: usize) {
        let address = address.to_canonical();
        let less = |count: &mut usize| {
            assert!(
                *count > 0,
                "a connection of {address} ends on core {core} uncounted"
            );
            *count -= 1;
        };
        less(&mut self.per_core[core]);
        less(&mut self.per_listener[listener]);
        let of_address = self.per_address.entry(address).or_default();
        less(of_address);
        if *of_address == 0 {
            self.per_address.remove(&address);
        }
    }
}

/// A token bucket that holds a second's worth, kept as the time at which it is full again.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    full_at: Instant,
}

impl Rate {
    /// Takes a token; says how long to wait for it.
    fn take(&mut self, now: Instant, per_second: u32) -> Duration {
        let Some(nanos) = 1_000_000_000_u64.checked_div(per_second.into()) else {
            return DELAY_MAX;
        };
        self.full_at = self.full_at.max(now) + Duration::from_nanos(nanos);
        let wait = self.full_at.since(now).saturating_sub(BURST);
        wait.min(DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn broker(knobs: &[(&str, &str)]) -> BrokerConfig {
        let statics: Overrides = knobs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        BrokerConfig::resolve(statics, "node").unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const FREE: ListenerLimits = ListenerLimits {
        max_connections: None,
        max_connection_creation_rate: None,
    };

    #[test]
    fn connections_go_to_the_core_with_the_fewest() {
        let (mut admission, broker) = (Admission::new(2, 1), broker(&[]));
        let mut admit = |address: &str| admission.admit(ip(address), 0, &broker, &FREE);
        assert_eq!(
            [admit("::1"), admit("::1"), admit("::1")],
            [Ok(0), Ok(1), Ok(0)]
        );
        admission.closed(0, ip("::1"), 0);
        admission.closed(0, ip("::1"), 0);
        assert_eq!(admission.admit(ip("::1"), 0, &broker, &FREE), Ok(0));
    }

    #[test]
    fn each_limit_is_told_by_its_name_and_lifted_by_a_close() {
        let cases: [(&[(&str, &str)], Full); 4] = [
            (&[("max.connections", "2")], Full::Node(2)),
            (&[("max.connections.per.ip", "2")], Full::Address(2)),
            (
                &[
                    ("max.connections.per.ip", "0"),
                    ("max.connections.per.ip.overrides", "10.0.0.1:2"),
                ],
                Full::Address(2),
            ),
            (
                &[("corelane.connections.max.per.core", "1")],
                Full::Cores(1),
            ),
        ];
        for (knobs, full) in cases {
            let (mut admission, broker) = (Admission::new(2, 1), broker(knobs));
            // An IPv4 address that came over IPv6 is the same address.
            for address in ["10.0.0.1", "::ffff:10.0.0.1"] {
                admission.admit(ip(address), 0, &broker, &FREE).unwrap();
            }
            let more = admission.admit(ip("10.0.0.1"), 0, &broker, &FREE);
            assert_eq!(more, Err(full), "{knobs:?}");
            admission.closed(0, ip("10.0.0.1"), 0);
            let again = admission.admit(ip("10.0.0.1"), 0, &broker, &FREE);
            assert_eq!(again, Ok(0), "{knobs:?}");
        }
    }

    #[test]
    fn a_listener_has_limits_of_its_own() {
        let (mut admission, broker) = (Admission::new(1, 2), broker(&[]));
        let own = ListenerLimits {
            max_connections: Some(1),
            max_connection_creation_rate: Some(1),
        };
        let here = ip("127.0.0.1");
        assert_eq!(admission.admit(here, 0, &broker, &own), Ok(0));
        assert_eq!(
            admission.admit(here, 0, &broker, &own),
            Err(Full::Listener(1))
        );
        assert_eq!(admission.admit(here, 1, &broker, &FREE), Ok(0));
        let mut delay = |listener, own: &ListenerLimits| {
            let delay = admission.delay(Instant::default(), listener, &broker, own);
            delay.as_millis()
        };
        assert_eq!([delay(0, &own), delay(0, &own)], [0, 1_000]);
        assert_eq!(delay(1, &FREE), 0);
    }

    #[test]
    fn new_connections_come_no_faster_than_their_rate() {
        let (mut admission, broker) = (Admission::new(1, 1), self::broker(&[]));
        assert_eq!(broker.max_connection_creation_rate, i32::MAX as u32);
        let mut now = Instant::default();
        for _ in 0..100_000 {
            assert_eq!(admission.delay(now, 0, &broker, &FREE), Duration::ZERO);
        }
        let broker = self::broker(&[("max.connection.creation.rate", "10")]);
        let mut admission = Admission::new(1, 1);
        // A second's worth at once, then one each tenth of a second.
        for connection in 0..30 {
            now += admission.delay(now, 0, &broker, &FREE);
            let expected = if connection < 10 {
                0
            } else {
                (connection - 9) * 100
            };
            assert_eq!(now.as_millis(), expected, "connection {connection}");
        }
        let broker = self::broker(&[("max.connection.creation.rate", "0")]);
        assert_eq!(admission.delay(now, 0, &broker, &FREE), DELAY_MAX);
    }
}
