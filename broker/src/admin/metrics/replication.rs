//! The figures of replication: by core what it leads and follows, by other node the way there and how far its
//! replicas are behind, and what this node knows of the cluster.
//!
//! By node, not by core and node: the links of all cores to a node share its network, and a series for each pair would
//! be too many. Of times the longest counts.

use std::collections::BTreeMap;

use super::super::collect::CoreFigures;
use super::super::exposition::{Exposition, Kind, Value};
use super::{CoreFigure, answering, counter, reports};
use crate::observe::{ClusterFigures, PeerFigures, ReplicationTally};

const CORE_COUNTERS: &[CoreFigure] = &[
    counter(
        "corelane_elections_total",
        "How often a replica on this core became leader, at a transfer too.",
        |core| core.counters.elections.into(),
    ),
    counter(
        "corelane_leaderships_lost_total",
        "How often a replica on this core ceased to lead, at a transfer too.",
        |core| core.counters.leaderships_lost.into(),
    ),
    counter(
        "corelane_leadership_transfers_total",
        "Leads that this core asked another replica to take over.",
        |core| core.counters.transfers.into(),
    ),
    counter(
        "corelane_catch_up_reads_total",
        "Reads of segments for followers.",
        |core| core.counters.catch_up_reads.into(),
    ),
    counter(
        "corelane_catch_up_snapshots_total",
        "States given to followers in place of entries that are gone.",
        |core| core.counters.catch_up_snapshots.into(),
    ),
    counter(
        "corelane_catch_up_bytes_total",
        "Bytes read from segments for followers, and of states given to them.",
        |core| core.counters.catch_up_bytes.into(),
    ),
];

/// A figure of what is on a core, from its partitions.
struct TallyFigure {
    name: &'static str,
    help: &'static str,
    read: fn(&ReplicationTally) -> u64,
}

const TALLY_FIGURES: &[TallyFigure] = &[
    TallyFigure {
        name: "corelane_replicas",
        help: "Replicas of partitions on this core.",
        read: |tally| tally.replicas,
    },
    TallyFigure {
        name: "corelane_leaders",
        help: "Replicas on this core that lead their partition.",
        read: |tally| tally.leaders,
    },
    TallyFigure {
        name: "corelane_partitions_under_replicated",
        help: "Partitions led here of which a replica is not in sync.",
        read: |tally| tally.under_replicated,
    },
    TallyFigure {
        name: "corelane_partitions_below_min_isr",
        help: "Partitions led here with fewer replicas in sync than min.insync.replicas.",
        read: |tally| tally.below_min_isr,
    },
    TallyFigure {
        name: "corelane_partitions_leaderless",
        help: "Replicas on this core that know of no leader of their partition.",
        read: |tally| tally.leaderless,
    },
];

/// A figure of another node.
struct PeerFigure {
    kind: Kind,
    name: &'static str,
    help: &'static str,
    read: fn(&PeerFigures) -> Value,
}

const fn peer_counter(
    name: &'static str,
    help: &'static str,
    read: fn(&PeerFigures) -> Value,
) -> PeerFigure {
    PeerFigure {
        kind: Kind::Counter,
        name,
        help,
        read,
    }
}

const fn peer_gauge(
    name: &'static str,
    help: &'static str,
    read: fn(&PeerFigures) -> Value,
) -> PeerFigure {
    PeerFigure {
        kind: Kind::Gauge,
        name,
        help,
        read,
    }
}

const PEER_FIGURES: &[PeerFigure] = &[
    peer_gauge(
        "corelane_replication_lag_replicas",
        "Replicas on the node that lack something of what this node leads.",
        |peer| peer.lag.replicas.into(),
    ),
    peer_gauge(
        "corelane_replication_lag_records",
        "Records that those replicas lack, together.",
        |peer| peer.lag.records.into(),
    ),
    peer_gauge(
        "corelane_replication_lag_seconds",
        "For how long the replica that lags the longest has lacked something.",
        |peer| peer.lag.longest.as_secs_f64().into(),
    ),
    peer_gauge(
        "corelane_peer_links_up",
        "Cores of this node whose link to the node is up.",
        |peer| peer.links_up.into(),
    ),
    peer_gauge(
        "corelane_peer_round_trip_seconds",
        "Smoothed time from a ping to its echo, of the slowest link; 0 before the first.",
        |peer| peer.links.round_trip.as_secs_f64().into(),
    ),
    peer_gauge(
        "corelane_peer_queued_bytes",
        "Bytes that wait to leave for the node.",
        |peer| peer.links.queued_bytes.into(),
    ),
    peer_counter(
        "corelane_peer_sent_frames_total",
        "Frames given to the sockets whole.",
        |peer| peer.links.frames_out.into(),
    ),
    peer_counter(
        "corelane_peer_sent_bytes_total",
        "Bytes given to the sockets.",
        |peer| peer.links.bytes_out.into(),
    ),
    peer_counter(
        "corelane_peer_writes_total",
        "Writes to the sockets.",
        |peer| peer.links.writes_out.into(),
    ),
    peer_counter(
        "corelane_peer_received_frames_total",
        "Frames received.",
        |peer| peer.links.frames_in.into(),
    ),
    peer_counter(
        "corelane_peer_received_bytes_total",
        "Bytes received.",
        |peer| peer.links.bytes_in.into(),
    ),
    peer_counter(
        "corelane_peer_dropped_frames_total",
        "Frames lost here: the link was down, its queue full, or its connection ended.",
        |peer| peer.links.frames_dropped.into(),
    ),
    peer_counter(
        "corelane_peer_connects_total",
        "How often a link came up.",
        |peer| peer.links.connected.into(),
    ),
    peer_counter(
        "corelane_peer_disconnects_total",
        "How often an attempt to connect failed, or a connection ended.",
        |peer| peer.links.disconnected.into(),
    ),
    peer_counter(
        "corelane_peer_arrivals_total",
        "Connections of the node that were taken in.",
        |peer| peer.links.arrived.into(),
    ),
    peer_counter(
        "corelane_peer_refusals_received_total",
        "How often the node refused this one.",
        |peer| peer.links.refusals_received.into(),
    ),
    peer_counter(
        "corelane_peer_refusals_given_total",
        "How often this node refused the other.",
        |peer| peer.links.refusals_given.into(),
    ),
    peer_counter(
        "corelane_peer_malformed_total",
        "Connections of the node that ended since their bytes made no sense.",
        |peer| peer.links.malformed.into(),
    ),
];

/// A figure of the cluster, as this node knows it.
struct ClusterFigure {
    name: &'static str,
    help: &'static str,
    read: fn(&ClusterFigures) -> Value,
}

const CLUSTER_FIGURES: &[ClusterFigure] = &[
    ClusterFigure {
        name: "corelane_metadata_leader",
        help: "Id of the node that leads the metadata; -1 if none is known.",
        read: |cluster| i64::from(cluster.metadata_leader).into(),
    },
    ClusterFigure {
        name: "corelane_metadata_epoch",
        help: "The epoch in which it leads.",
        read: |cluster| i64::from(cluster.metadata_epoch).into(),
    },
    ClusterFigure {
        name: "corelane_metadata_leading",
        help: "1 if it is this node.",
        read: |cluster| cluster.is_leading.into(),
    },
    ClusterFigure {
        name: "corelane_nodes",
        help: "Registered nodes; 0 for a node that was never part of a cluster.",
        read: |cluster| cluster.nodes.into(),
    },
    ClusterFigure {
        name: "corelane_nodes_fenced",
        help: "Nodes that were not heard of for a session.",
        read: |cluster| cluster.nodes_fenced.into(),
    },
    ClusterFigure {
        name: "corelane_partitions_moving",
        help: "Partitions of the cluster that are on their way to other nodes.",
        read: |cluster| cluster.partitions_moving.into(),
    },
];

pub(super) fn put(page: &mut Exposition, cores: &[CoreFigures]) {
    for figure in TALLY_FIGURES {
        let mut family = page.family(Kind::Gauge, figure.name, figure.help);
        for (core, figures) in answering(cores) {
            let value = (figure.read)(&figures.partitions.replication);
            family.sample(&[("core", &core.to_string())], value);
        }
    }
    for figure in CORE_COUNTERS {
        let mut family = page.family(figure.kind, figure.name, figure.help);
        for (core, report) in reports(cores) {
            family.sample(&[("core", &core.to_string())], (figure.read)(report));
        }
    }
    let help = "Passes over what had changed: stepping Raft and deciding, without the write.";
    let mut passes = page.family(Kind::Histogram, "corelane_pass_duration_seconds", help);
    for (core, report) in reports(cores) {
        passes.histogram(&[("core", &core.to_string())], &report.metrics.passes);
    }
    put_peers(page, cores);
    if let Some(cluster) = reports(cores).find_map(|(_, report)| report.cluster) {
        for figure in CLUSTER_FIGURES {
            page.single(
                Kind::Gauge,
                figure.name,
                figure.help,
                (figure.read)(&cluster),
            );
        }
    }
}

fn put_peers(page: &mut Exposition, cores: &[CoreFigures]) {
    let mut peers: BTreeMap<i32, PeerFigures> = BTreeMap::new();
    for (_, report) in reports(cores) {
        for (node, figures) in &report.peers {
            peers.entry(*node).or_default().merge(figures);
        }
    }
    for figure in PEER_FIGURES {
        let mut family = page.family(figure.kind, figure.name, figure.help);
        for (node, figures) in &peers {
            family.sample(&[("peer", &node.to_string())], (figure.read)(figures));
        }
    }
}
