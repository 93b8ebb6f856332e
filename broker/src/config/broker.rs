//! The broker's configuration as the values that it acts on.
//!
//! Every field says which knob it comes from; a knob is documented as honoured exactly if it is
//! read here or by a topic (a test compares). What may change at run time is read anew by
//! [`BrokerConfig::with_dynamic`]; who the node is and where it listens is settled at start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use super::knob::{address_limit, elements};
use super::layers::{Layers, Overrides};
use super::listener::{
    Endpoint, InvalidAddress, Listener, ListenerTexts, SecurityProtocol, Voter, parse_listeners,
    parse_voters,
};
use super::machine::{Cores, Memory};
use super::per_listener::{self, ListenerLimits};

/// Declares the struct of settings and how each is read: by `Layers::read`, or by the function
/// after `via`.
macro_rules! settings {
    ($($(#[$meta:meta])* $field:ident: $type:ty = $knob:literal $(via $read:path)?;)*) => {
        /// What holds on one node now. Read once per change, shared by everything on a core.
        #[derive(Clone, Debug, PartialEq)]
        pub struct BrokerConfig {
            /// Who this node is and where it listens.
            pub node: NodeConfig,
            /// The explicit values behind the fields, for DescribeConfigs and for topics.
            pub layers: Layers,
            $(#[doc = concat!("`", $knob, "`")] $(#[$meta])* pub $field: $type,)*
        }

        impl BrokerConfig {
            fn read(node: NodeConfig, layers: Layers) -> BrokerConfig {
                BrokerConfig {
                    $($field: settings!(@read layers, $knob $(, $read)?),)*
                    node,
                    layers,
                }
            }
        }

        /// The fields, and the knobs behind them.
        #[cfg(test)]
        pub(super) const SETTINGS: &[(&str, &str)] = &[$((stringify!($field), $knob)),*];
    };
    (@read $layers:ident, $knob:literal) => { $layers.read($knob) };
    (@read $layers:ident, $knob:literal, $read:path) => { $read(&$layers, $knob) };
}

settings! {
    // The machine.
    cores: Cores = "corelane.cores";
    overprovisioned: bool = "corelane.overprovisioned" via unless_named;
    spin_us: u64 = "corelane.spin.us";
    memory: Memory = "corelane.memory";
    /// Per core.
    journal_bytes: u64 = "corelane.journal.bytes";
    ring_entries: u32 = "corelane.ring.entries";
    shutdown_timeout_ms: u64 = "corelane.shutdown.timeout.ms";

    // The cluster.
    broker_session_timeout_ms: u64 = "broker.session.timeout.ms";
    auto_leader_rebalance_enable: bool = "auto.leader.rebalance.enable";
    balance_enable: bool = "corelane.balance.enable";
    balance_moves_max: usize = "corelane.balance.moves.max";
    balance_node_gone_ms: u64 = "corelane.balance.node.gone.ms";
    balance_disk_full_percent: u64 = "corelane.balance.disk.full.percent";
    nodes_leaving: BTreeSet<i32> = "corelane.nodes.leaving" via node_ids;
    leader_replication_throttled_rate: u64 = "leader.replication.throttled.rate";
    follower_replication_throttled_rate: u64 = "follower.replication.throttled.rate";
    replica_lag_time_max_ms: u64 = "replica.lag.time.max.ms";
    replica_selector: ReplicaSelector = "replica.selector.class" via selector;
    raft_election_timeout_ms: u64 = "corelane.raft.election.timeout.ms";
    raft_heartbeat_interval_ms: u64 = "corelane.raft.heartbeat.interval.ms";

    // Connections and requests.
    socket_listen_backlog_size: u32 = "socket.listen.backlog.size";
    socket_request_max_bytes: usize = "socket.request.max.bytes";
    max_connections: u32 = "max.connections";
    max_connections_per_ip: u32 = "max.connections.per.ip";
    max_connections_per_ip_overrides: BTreeMap<IpAddr, u32> =
        "max.connections.per.ip.overrides" via address_limits;
    max_connections_per_core: u32 = "corelane.connections.max.per.core";
    /// New connections a second on the whole node.
    max_connection_creation_rate: u32 = "max.connection.creation.rate";
    /// `None`: never closed for being idle.
    connections_max_idle_ms: Option<u64> = "connections.max.idle.ms" via unless_negative;
    /// `None`: the share of the memory alone.
    queued_max_request_bytes: Option<u64> = "queued.max.request.bytes" via unless_negative;
    fetch_max_bytes: usize = "fetch.max.bytes";
    max_incremental_fetch_session_cache_slots: usize = "max.incremental.fetch.session.cache.slots";
    max_request_partition_size_limit: usize = "max.request.partition.size.limit";
    max_decompressed_message_bytes: usize = "max.decompressed.message.bytes";

    // Topics.
    num_partitions: i32 = "num.partitions";
    default_replication_factor: i32 = "default.replication.factor";
    auto_create_topics_enable: bool = "auto.create.topics.enable";
    delete_topic_enable: bool = "delete.topic.enable";
    log_retention_check_interval_ms: u64 = "log.retention.check.interval.ms";

    // Committed offsets and groups.
    offsets_topic_num_partitions: i32 = "offsets.topic.num.partitions";
    /// More than the cluster has nodes: as many as it has.
    offsets_topic_replication_factor: i32 = "offsets.topic.replication.factor";
    offsets_topic_segment_bytes: u32 = "offsets.topic.segment.bytes";
    offsets_commit_timeout_ms: u64 = "offsets.commit.timeout.ms";
    offset_metadata_max_bytes: usize = "offset.metadata.max.bytes" via not_negative;
    offsets_retention_minutes: u64 = "offsets.retention.minutes";
    offsets_retention_check_interval_ms: u64 = "offsets.retention.check.interval.ms";
    groups_max: usize = "corelane.groups.max";
    group_min_session_timeout_ms: i32 = "group.min.session.timeout.ms";
    group_max_session_timeout_ms: i32 = "group.max.session.timeout.ms";
    group_initial_rebalance_delay_ms: u64 = "group.initial.rebalance.delay.ms" via not_negative_u64;
    group_max_size: usize = "group.max.size";
    group_consumer_session_timeout_ms: i32 = "group.consumer.session.timeout.ms";
    group_consumer_min_session_timeout_ms: i32 = "group.consumer.min.session.timeout.ms";
    group_consumer_max_session_timeout_ms: i32 = "group.consumer.max.session.timeout.ms";
    group_consumer_heartbeat_interval_ms: i32 = "group.consumer.heartbeat.interval.ms";
    group_consumer_min_heartbeat_interval_ms: i32 = "group.consumer.min.heartbeat.interval.ms";
    group_consumer_max_heartbeat_interval_ms: i32 = "group.consumer.max.heartbeat.interval.ms";
    group_consumer_assignment_interval_ms: i32 = "group.consumer.assignment.interval.ms";
    group_consumer_min_assignment_interval_ms: i32 = "group.consumer.min.assignment.interval.ms";
    group_consumer_max_assignment_interval_ms: i32 = "group.consumer.max.assignment.interval.ms";
    group_consumer_max_size: usize = "group.consumer.max.size";
    /// In order of preference.
    group_consumer_assignors: Vec<String> = "group.consumer.assignors" via list;

    // Producer ids and transactions.
    producer_id_expiration_ms: u64 = "producer.id.expiration.ms";
    /// Per core.
    producer_ids_max: usize = "corelane.producer.ids.max";
    transaction_state_log_num_partitions: i32 = "transaction.state.log.num.partitions";
    /// More than the cluster has nodes: as many as it has.
    transaction_state_log_replication_factor: i32 = "transaction.state.log.replication.factor";
    transaction_state_log_min_isr: u32 = "transaction.state.log.min.isr";
    transaction_state_log_segment_bytes: u32 = "transaction.state.log.segment.bytes";
    transactional_id_expiration_ms: u64 = "transactional.id.expiration.ms";
    transaction_max_timeout_ms: i32 = "transaction.max.timeout.ms";
    transaction_abort_timed_out_cleanup_interval_ms: u64 =
        "transaction.abort.timed.out.transaction.cleanup.interval.ms";
    transaction_remove_expired_cleanup_interval_ms: u64 =
        "transaction.remove.expired.transaction.cleanup.interval.ms";
}

/// Kafka's name of the selector that finds readers a replica in their rack.
pub const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
/// Kafka's name of the selector that sends every reader to the leader.
pub const LEADER_SELECTOR: &str = "org.apache.kafka.common.replica.LeaderSelector";

/// Which replica a consumer is to read from (KIP-392).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaSelector {
    Leader,
    RackAware,
}

/// Who a node is and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// `node.id`, or `broker.id` if only that is set.
    pub id: i32,
    /// `broker.rack`
    pub rack: Option<String>,
    /// `log.dirs`, or `log.dir` if only that is set.
    pub data_dir: PathBuf,
    /// `corelane.cluster.id`: the identity the data directory must have.
    pub cluster_id: Option<String>,
    /// `listeners`, joined with `advertised.listeners`; at least one.
    pub listeners: Vec<Listener>,
    /// `corelane.peer.listener`
    pub peer_listener: Endpoint,
    /// Where the other nodes connect: what they are told of `peer_listener`.
    pub peer_address: Endpoint,
    /// `controller.quorum.voters`; empty for a cluster of one.
    pub voters: Vec<Voter>,
    /// `corelane.admin.listener`; `None` if it is off.
    pub admin_listener: Option<Endpoint>,
}

/// The fields of [`NodeConfig`], and the knobs behind them.
#[cfg(test)]
pub(super) const NODE_SETTINGS: &[(&str, &str)] = &[
    ("node.id", "node.id"),
    ("node.id", "broker.id"),
    ("node.rack", "broker.rack"),
    ("node.data_dir", "log.dir"),
    ("node.data_dir", "log.dirs"),
    ("node.cluster_id", "corelane.cluster.id"),
    ("node.listeners", "listeners"),
    ("node.listeners", "advertised.listeners"),
    ("node.listeners", "listener.security.protocol.map"),
    ("node.listeners", "controller.listener.names"),
    ("node.peer_listener", "corelane.peer.listener"),
    ("node.peer_address", "corelane.peer.listener"),
    ("node.voters", "controller.quorum.voters"),
    ("node.admin_listener", "corelane.admin.listener"),
];

/// Values that are fine one by one, but not together, or not on this broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableConfig {
    #[error("{0}")]
    Address(#[from] InvalidAddress),
    #[error(
        "listener {name} asks for {protocol}, and TLS and SASL are not available in this version; \
         use PLAINTEXT"
    )]
    Security {
        name: String,
        protocol: &'static str,
    },
    #[error("{name} is set, and listeners names no {listener}; correct one of the two")]
    NoSuchListener { name: String, listener: String },
    #[error("log.dirs names {0} directories, and a node keeps its data in one; name one")]
    Directories(usize),
    #[error(
        "node.id is {id}, but controller.quorum.voters lists only {voters}: correct the id, or, for \
         a node that joins later, set corelane.peer.listener to where the others reach it"
    )]
    NotAVoter { id: i32, voters: String },
    #[error(
        "corelane.cores={0} names CPUs, and corelane.overprovisioned=true pins nothing to them; \
         give a count of cores, or drop one of the two"
    )]
    NamedAndShared(String),
    #[error("{shorter} ({shorter_ms}) must be smaller than {longer} ({longer_ms})")]
    Timing {
        shorter: &'static str,
        shorter_ms: u64,
        longer: &'static str,
        longer_ms: u64,
    },
    #[error(
        "corelane.nodes.leaving is set while the cluster runs, not at start: drop it, and use \
         corelane cluster decommission"
    )]
    Leaving,
    #[error("node.id={node_id} and broker.id={broker_id} contradict each other; set one")]
    TwoIds { node_id: i32, broker_id: i32 },
}

impl BrokerConfig {
    /// Settles the configuration at start. `hostname` is what clients are told where a listener is
    /// bound to every interface and nothing is advertised.
    pub fn resolve(statics: Overrides, hostname: &str) -> Result<BrokerConfig, UnusableConfig> {
        let layers = Layers::started_with(statics);
        check_timing(&layers)?;
        if layers.statics.contains_key("corelane.nodes.leaving") {
            return Err(UnusableConfig::Leaving);
        }
        let node = NodeConfig::resolve(&layers, hostname)?;
        let config = BrokerConfig::read(node, layers);
        if matches!(config.cores, Cores::Named(_)) && config.overprovisioned {
            let cores = config.layers.read("corelane.cores");
            return Err(UnusableConfig::NamedAndShared(cores));
        }
        Ok(config)
    }

    /// This configuration under what operators have set since: `cluster` for all nodes, `node` for
    /// this one.
    pub fn with_dynamic(&self, cluster: &Overrides, node: &Overrides) -> BrokerConfig {
        let layers = Layers {
            statics: self.layers.statics.clone(),
            cluster: cluster.clone(),
            node: node.clone(),
        };
        BrokerConfig::read(self.node.clone(), layers)
    }
}

impl Default for BrokerConfig {
    /// What a node without any configuration does.
    fn default() -> Self {
        match BrokerConfig::resolve(Overrides::new(), "localhost") {
            Ok(config) => config,
            Err(error) => panic!("the built-in defaults contradict each other: {error}"),
        }
    }
}

impl NodeConfig {
    fn resolve(layers: &Layers, hostname: &str) -> Result<NodeConfig, UnusableConfig> {
        let id = node_id(layers)?;
        let voters = parse_voters(&layers.read::<String>("controller.quorum.voters"))?;
        let peer_listener = peer_listener(layers, id, &voters)?;
        Ok(NodeConfig {
            id,
            rack: layers.read_optional("broker.rack"),
            data_dir: data_dir(layers)?,
            cluster_id: layers.read_optional("corelane.cluster.id"),
            listeners: client_listeners(layers, hostname)?,
            peer_address: peer_address(&peer_listener, id, &voters, hostname),
            peer_listener,
            admin_listener: admin_listener(layers)?,
            voters,
        })
    }
}

/// A heartbeat that is not faster than the patience of those who wait for it never keeps anyone.
fn check_timing(layers: &Layers) -> Result<(), UnusableConfig> {
    let pairs = [(
        "corelane.raft.heartbeat.interval.ms",
        "corelane.raft.election.timeout.ms",
    )];
    for (shorter, longer) in pairs {
        let (shorter_ms, longer_ms) = (layers.read(shorter), layers.read(longer));
        if shorter_ms >= longer_ms {
            return Err(UnusableConfig::Timing {
                shorter,
                shorter_ms,
                longer,
                longer_ms,
            });
        }
    }
    Ok(())
}

fn node_id(layers: &Layers) -> Result<i32, UnusableConfig> {
    let node_id: i32 = layers.read("node.id");
    let broker_id: i32 = layers.read("broker.id");
    match (layers.statics.contains_key("node.id"), broker_id >= 0) {
        (true, true) if node_id != broker_id => Err(UnusableConfig::TwoIds { node_id, broker_id }),
        (false, true) => Ok(broker_id),
        _ => Ok(node_id),
    }
}

fn data_dir(layers: &Layers) -> Result<PathBuf, UnusableConfig> {
    let dirs: Option<String> = layers.read_optional("log.dirs");
    let dirs = dirs.unwrap_or_else(|| layers.read("log.dir"));
    let mut paths = elements(&dirs);
    match (paths.next(), paths.count()) {
        (Some(path), 0) => Ok(PathBuf::from(path)),
        (first, more) => Err(UnusableConfig::Directories(
            usize::from(first.is_some()) + more,
        )),
    }
}

fn client_listeners(layers: &Layers, hostname: &str) -> Result<Vec<Listener>, UnusableConfig> {
    let advertised: Option<String> = layers.read_optional("advertised.listeners");
    let mut listeners = parse_listeners(&ListenerTexts {
        listeners: &layers.read::<String>("listeners"),
        advertised: advertised.as_deref(),
        protocols: &layers.read::<String>("listener.security.protocol.map"),
        controllers: &layers.read::<String>("controller.listener.names"),
        hostname,
    })?;
    for name in layers.statics.keys() {
        let Some(listener) = per_listener::listener_of(name) else {
            continue;
        };
        if !listeners.iter().any(|known| known.name == listener) {
            let name = name.clone();
            return Err(UnusableConfig::NoSuchListener { name, listener });
        }
    }
    for listener in &mut listeners {
        listener.limits = ListenerLimits::of(&listener.name, &layers.statics);
    }
    let protected = listeners
        .iter()
        .find(|listener| listener.protocol != SecurityProtocol::Plaintext);
    match protected {
        Some(listener) => Err(UnusableConfig::Security {
            name: listener.name.clone(),
            protocol: listener.protocol.name(),
        }),
        None => Ok(listeners),
    }
}

/// Explicit, else this node's own entry among the voters, else the default.
fn peer_listener(layers: &Layers, id: i32, voters: &[Voter]) -> Result<Endpoint, UnusableConfig> {
    let own = voters.iter().find(|voter| voter.node_id == id);
    let explicit = layers.statics.contains_key("corelane.peer.listener");
    if own.is_none() && !voters.is_empty() && !explicit {
        let voters = voters
            .iter()
            .map(|voter| voter.node_id.to_string())
            .collect::<Vec<_>>();
        return Err(UnusableConfig::NotAVoter {
            id,
            voters: voters.join(", "),
        });
    }
    match own {
        Some(voter) if !explicit => Ok(voter.peer.clone()),
        _ => Ok(Endpoint::parse(
            &layers.read::<String>("corelane.peer.listener"),
        )?),
    }
}

/// What the list of voters says, else the listener's own address, with a name that others can reach.
fn peer_address(listener: &Endpoint, id: i32, voters: &[Voter], hostname: &str) -> Endpoint {
    match voters.iter().find(|voter| voter.node_id == id) {
        Some(voter) => voter.peer.clone(),
        None if listener.is_every_interface() => Endpoint {
            host: hostname.to_owned(),
            port: listener.port,
        },
        None => listener.clone(),
    }
}

fn admin_listener(layers: &Layers) -> Result<Option<Endpoint>, UnusableConfig> {
    match layers.read::<String>("corelane.admin.listener").as_str() {
        "" => Ok(None),
        text => Ok(Some(Endpoint::parse(text)?)),
    }
}

fn selector(layers: &Layers, knob: &str) -> ReplicaSelector {
    match layers.read_optional::<String>(knob) {
        Some(name) if name == RACK_AWARE_SELECTOR => ReplicaSelector::RackAware,
        _ => ReplicaSelector::Leader,
    }
}

/// Who names CPUs means these, and nobody else's.
fn unless_named(layers: &Layers, knob: &str) -> bool {
    let named = || matches!(layers.read("corelane.cores"), Cores::Named(_));
    layers.read_optional(knob).unwrap_or_else(|| !named())
}

fn node_ids(layers: &Layers, knob: &str) -> BTreeSet<i32> {
    let list: String = layers.read(knob);
    elements(&list).filter_map(|id| id.parse().ok()).collect()
}

fn unless_negative(layers: &Layers, knob: &str) -> Option<u64> {
    u64::try_from(layers.read::<i64>(knob)).ok()
}

fn not_negative(layers: &Layers, knob: &str) -> usize {
    usize::try_from(layers.read::<i64>(knob)).unwrap_or(0)
}

fn not_negative_u64(layers: &Layers, knob: &str) -> u64 {
    unless_negative(layers, knob).unwrap_or(0)
}

fn list(layers: &Layers, knob: &str) -> Vec<String> {
    elements(&layers.read::<String>(knob))
        .map(str::to_owned)
        .collect()
}

fn address_limits(layers: &Layers, knob: &str) -> BTreeMap<IpAddr, u32> {
    elements(&layers.read::<String>(knob))
        .filter_map(address_limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(pairs: &[(&str, &str)]) -> Result<BrokerConfig, UnusableConfig> {
        let statics = pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        BrokerConfig::resolve(statics, "node-1")
    }

    #[test]
    fn a_node_without_configuration_works() {
        let config = BrokerConfig::default();
        assert_eq!(config.node.id, 1);
        assert_eq!(config.node.data_dir, PathBuf::from("data"));
        assert_eq!(config.node.listeners[0].bind.to_string(), "127.0.0.1:9092");
        assert_eq!(config.num_partitions, 1);
        assert_eq!(config.offsets_topic_num_partitions, 50);
        assert_eq!(config.connections_max_idle_ms, Some(600_000));
        assert_eq!(config.group_consumer_assignors, ["uniform", "range"]);
        assert!(config.auto_create_topics_enable && config.delete_topic_enable);
        assert!(config.node.voters.is_empty());
    }

    #[test]
    fn identity_and_addresses_are_settled_at_start() {
        let config = resolve(&[
            ("broker.id", "2"),
            ("log.dirs", "/var/lib/corelane"),
            ("corelane.admin.listener", ""),
            ("max.connections.per.ip.overrides", "10.0.0.1:5,[::1]:7"),
        ])
        .unwrap();
        assert_eq!(config.node.id, 2);
        assert_eq!(config.node.data_dir, PathBuf::from("/var/lib/corelane"));
        assert_eq!(config.node.admin_listener, None);
        let limits = config.max_connections_per_ip_overrides;
        assert_eq!(limits.get(&"::1".parse().unwrap()), Some(&7));
    }

    #[test]
    fn contradictions_name_the_knob_to_change() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (
                &[("listener.name.outside.max.connections", "5")],
                "listeners names no OUTSIDE",
            ),
            (
                &[
                    ("corelane.cores", "0,1"),
                    ("corelane.overprovisioned", "true"),
                ],
                "corelane.cores=0,1 names CPUs",
            ),
            (
                &[("corelane.raft.election.timeout.ms", "150")],
                "must be smaller",
            ),
            (&[("listeners", "SSL://:9093")], "use PLAINTEXT"),
            (&[("log.dirs", "/a,/b")], "names 2 directories"),
            (&[("node.id", "1"), ("broker.id", "2")], "contradict"),
            (&[("corelane.admin.listener", "here")], "host:port"),
        ];
        for (statics, part) in cases {
            let error = resolve(statics).unwrap_err().to_string();
            assert!(error.contains(part), "{statics:?}: {error}");
        }
    }

    #[test]
    fn who_names_cpus_has_them_alone() {
        let shared = |statics| resolve(statics).unwrap().overprovisioned;
        assert!(shared(&[]) && shared(&[("corelane.cores", "2")]));
        assert!(!shared(&[("corelane.cores", "2-3")]));
        assert!(!shared(&[("corelane.overprovisioned", "false")]));
    }

    #[test]
    fn a_voter_listens_where_the_others_look_for_it() {
        let voters = parse_voters("1@127.0.0.1:9191,2@127.0.0.1:9192").unwrap();
        let nothing = Layers::default();
        let own = |id, voters: &[Voter]| peer_listener(&nothing, id, voters);
        assert_eq!(own(2, &voters).unwrap().port, 9192);
        assert_eq!(own(2, &[]).unwrap().to_string(), "127.0.0.1:9192");
        let error = own(3, &voters).unwrap_err().to_string();
        assert!(error.contains("lists only 1, 2"), "{error}");
        let newcomer = Endpoint::parse("0.0.0.0:9193").unwrap();
        let told = |id| peer_address(&newcomer, id, &voters, "here").to_string();
        assert_eq!(
            (told(3), told(1)),
            ("here:9193".into(), "127.0.0.1:9191".into())
        );
        let elsewhere = ("corelane.peer.listener".to_owned(), "10.0.0.1:7".to_owned());
        let layers = Layers::started_with(Overrides::from([elsewhere]));
        assert_eq!(
            peer_listener(&layers, 2, &voters).unwrap().to_string(),
            "10.0.0.1:7"
        );
        assert!(peer_listener(&layers, 3, &voters).is_ok(), "a newcomer");
    }

    #[test]
    fn dynamic_values_apply_and_vanish_again() {
        let base = resolve(&[("max.connections", "10")]).unwrap();
        let one = |name: &str, value: &str| Overrides::from([(name.to_owned(), value.to_owned())]);
        let nothing = Overrides::new();
        let changed = base.with_dynamic(&one("max.connections", "20"), &nothing);
        assert_eq!(changed.max_connections, 20);
        assert_eq!(changed.with_dynamic(&nothing, &nothing), base);
        // Read-only: a value that got into the cluster's metadata somehow does not count.
        let smuggled = base.with_dynamic(&one("num.partitions", "9"), &nothing);
        assert_eq!(smuggled.num_partitions, 1);
    }
}
