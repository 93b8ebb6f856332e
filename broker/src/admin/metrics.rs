//! The figures by name: what each is called, what it means, where it comes from.
//!
//! Names begin with `corelane_` and end in their unit; counters end in `_total`. Every name here is
//! explained in `deploy/metrics.md`, which a test compares with this file. A name is a promise to
//! dashboards and alerts: figures are added and retired, not renamed.

mod replication;

use std::collections::BTreeMap;
use std::time::Duration;

use super::collect::{CoreFigures, Lag, Partitions, Snapshot};
use super::exposition::{Exposition, Kind, Value};
use super::process::Process;
use crate::groups::GroupState;
use crate::observe::{ApiMetrics, CoreReport, PartitionRow, PartitionState};
use protocol::api::ApiKey;
use protocol::error::ErrorCode;

/// The figures of this process that no core knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub(super) uptime: Duration,
    pub(super) process: Option<Process>,
}

/// A figure that each core reports, labelled with the core.
struct CoreFigure {
    kind: Kind,
    name: &'static str,
    help: &'static str,
    read: fn(&CoreReport) -> Value,
}

const fn counter(
    name: &'static str,
    help: &'static str,
    read: fn(&CoreReport) -> Value,
) -> CoreFigure {
    CoreFigure {
        kind: Kind::Counter,
        name,
        help,
        read,
    }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    read: fn(&CoreReport) -> Value,
) -> CoreFigure {
    CoreFigure {
        kind: Kind::Gauge,
        name,
        help,
        read,
    }
}

/// One row for each, in the order of the page.
const CORE_FIGURES: &[CoreFigure] = &[
    counter(
        "corelane_core_busy_seconds_total",
        "Time that the core's loop spent outside the kernel's wait, spinning included.",
        |core| seconds(core.runtime.busy_ns).into(),
    ),
    counter(
        "corelane_core_parked_seconds_total",
        "Time that the core's loop slept in the kernel's wait.",
        |core| seconds(core.runtime.parked_ns).into(),
    ),
    counter(
        "corelane_core_loop_passes_total",
        "Passes of the core's loop.",
        |core| core.runtime.passes.into(),
    ),
    counter(
        "corelane_core_ring_enters_total",
        "Calls of io_uring_enter.",
        |core| core.runtime.ring_enters.into(),
    ),
    gauge("corelane_core_tasks", "Tasks alive.", |core| {
        core.runtime.tasks.into()
    }),
    gauge(
        "corelane_core_operations_in_flight",
        "Disk and network operations that the kernel has not completed.",
        |core| core.runtime.ops_in_flight.into(),
    ),
    counter(
        "corelane_turn_passes_total",
        "Passes over everything that changed, those with nothing to write included.",
        |core| core.counters.turns.into(),
    ),
    counter(
        "corelane_journal_syncs_total",
        "Synced writes of the journal.",
        |core| core.journal.journal_writes.into(),
    ),
    counter(
        "corelane_journal_written_bytes_total",
        "Bytes written to the journal, headers and padding included.",
        |core| core.journal.journal_bytes.into(),
    ),
    counter(
        "corelane_journal_payload_bytes_total",
        "Bytes of entries that went into the journal, without headers and padding.",
        |core| core.journal.payload_bytes.into(),
    ),
    counter(
        "corelane_journal_entries_total",
        "Entries that went into the journal.",
        |core| core.journal.entries.into(),
    ),
    gauge(
        "corelane_journal_used_bytes",
        "Bytes of the journal that hold something still needed.",
        |core| core.journal.journal_used_bytes.into(),
    ),
    gauge(
        "corelane_journal_size_bytes",
        "Size of all files of the journal.",
        |core| core.journal.journal_total_bytes.into(),
    ),
    counter(
        "corelane_checkpoints_total",
        "Checkpoints written.",
        |core| core.journal.checkpoints.into(),
    ),
    counter(
        "corelane_segment_written_bytes_total",
        "Bytes written to segments, headers and padding included.",
        |core| core.journal.segment_bytes.into(),
    ),
    counter(
        "corelane_segment_direct_bytes_total",
        "Bytes of entries that went straight to a segment, past the journal.",
        |core| core.journal.direct_bytes.into(),
    ),
    counter(
        "corelane_drained_entries_total",
        "Entries moved from memory to segments.",
        |core| core.journal.drained_entries.into(),
    ),
    counter(
        "corelane_tail_reads_total",
        "Reads of logs that memory served.",
        |core| core.journal.tail_reads.into(),
    ),
    counter(
        "corelane_disk_reads_total",
        "Reads of logs that needed segments.",
        |core| core.journal.disk_reads.into(),
    ),
    counter(
        "corelane_cache_hits_total",
        "Pieces of segments found in the read cache.",
        |core| core.journal.cache_hits.into(),
    ),
    counter(
        "corelane_cache_misses_total",
        "Pieces of segments read from the disk.",
        |core| core.journal.cache_misses.into(),
    ),
    gauge(
        "corelane_tail_memory_bytes",
        "Memory of the logs' tails and open buffers.",
        |core| core.journal.memory_bytes.into(),
    ),
    gauge(
        "corelane_cache_memory_bytes",
        "Memory of the read cache.",
        |core| core.journal.cache_bytes.into(),
    ),
    gauge(
        "corelane_request_memory_bytes",
        "Memory lent to requests and cold reads.",
        |core| core.memory_lent_bytes.into(),
    ),
    gauge(
        "corelane_request_memory_waiters",
        "Requests that wait for memory before they are read.",
        |core| core.memory_waiters.into(),
    ),
    counter(
        "corelane_produced_batches_total",
        "Record batches appended for producers.",
        |core| core.counters.batches_appended.into(),
    ),
    counter(
        "corelane_produced_bytes_total",
        "Bytes of record batches appended for producers.",
        |core| core.counters.bytes_appended.into(),
    ),
    counter(
        "corelane_fetched_bytes_total",
        "Bytes of record batches read for consumers.",
        |core| core.counters.bytes_fetched.into(),
    ),
    counter(
        "corelane_fetched_following_bytes_total",
        "Bytes read for consumers in this node's rack, of partitions that other nodes lead.",
        |core| core.counters.bytes_fetched_following.into(),
    ),
    counter(
        "corelane_fetch_cold_reads_total",
        "Reads for consumers that needed segments.",
        |core| core.counters.cold_reads.into(),
    ),
    gauge(
        "corelane_fetch_waiters",
        "Fetches that wait for data.",
        |core| core.watches.into(),
    ),
    gauge(
        "corelane_fetch_sessions",
        "Incremental fetch sessions (KIP-227).",
        |core| core.fetch_sessions.into(),
    ),
    counter(
        "corelane_connections_refused_total",
        "Client connections closed at once since a limit was reached.",
        |core| core.connections_refused.into(),
    ),
    gauge("corelane_connections", "Client connections.", |core| {
        core.connections.into()
    }),
    counter(
        "corelane_connections_accepted_total",
        "Client connections that this core was given.",
        |core| core.connections_accepted.into(),
    ),
    counter(
        "corelane_connections_malformed_total",
        "Client connections closed since what came was no request.",
        |core| core.connections_malformed.into(),
    ),
    gauge(
        "corelane_metadata_version",
        "Index of the metadata log that this core's view has reached.",
        |core| core.metadata_version.into(),
    ),
    counter(
        "corelane_group_rebalances_total",
        "Rebalances of consumer groups that came to an end.",
        |core| core.groups.completed_rebalances.into(),
    ),
    counter(
        "corelane_group_offset_commits_total",
        "Offsets committed by clients.",
        |core| core.groups.offset_commits.into(),
    ),
    counter(
        "corelane_group_offset_deletions_total",
        "Committed offsets deleted by administrators.",
        |core| core.groups.offset_deletions.into(),
    ),
    counter(
        "corelane_group_offset_expirations_total",
        "Committed offsets deleted since their time was over.",
        |core| core.groups.offset_expirations.into(),
    ),
];

/// The page of `/metrics`. `busy` is each core's share of time at work since the last page.
pub(super) fn page(host: &Host, snapshot: &Snapshot, busy: &[Option<f64>]) -> String {
    let mut page = Exposition::default();
    put_host(&mut page, host);
    put_cores(&mut page, &snapshot.cores, busy);
    put_requests(&mut page, &snapshot.cores);
    put_partition_tally(&mut page, &snapshot.cores);
    replication::put(&mut page, &snapshot.cores);
    put_groups(&mut page, &snapshot.states, &snapshot.lag);
    page.into_text()
}

fn put_host(page: &mut Exposition, host: &Host) {
    page.family(
        Kind::Gauge,
        "corelane_build_info",
        "Always 1; the label says which build this is.",
    )
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], true);
    page.single(
        Kind::Gauge,
        "corelane_uptime_seconds",
        "Time since the cores were started.",
        host.uptime.as_secs_f64(),
    );
    let Some(process) = host.process else { return };
    page.single(
        Kind::Gauge,
        "corelane_process_resident_memory_bytes",
        "Memory of the process that is in RAM.",
        process.resident_bytes,
    );
    page.single(
        Kind::Counter,
        "corelane_process_cpu_seconds_total",
        "CPU time of all threads, in user mode and in the kernel.",
        process.cpu_seconds,
    );
    page.single(
        Kind::Gauge,
        "corelane_process_threads",
        "Threads.",
        process.threads,
    );
    page.single(
        Kind::Gauge,
        "corelane_process_open_fds",
        "Open file descriptors.",
        process.open_fds,
    );
    if let Some(max_fds) = process.max_fds {
        page.single(
            Kind::Gauge,
            "corelane_process_max_fds",
            "File descriptors that may be open.",
            max_fds,
        );
    }
}

fn put_cores(page: &mut Exposition, cores: &[CoreFigures], busy: &[Option<f64>]) {
    let help = "Whether the core answered in time; if not, its other figures are missing here.";
    let mut up = page.family(Kind::Gauge, "corelane_core_up", help);
    for (core, figures) in cores.iter().enumerate() {
        up.sample(&[("core", &core.to_string())], figures.report.is_some());
    }
    let help = "Share of time that the core was busy since the last scrape by anyone, 0 to 1.";
    let mut share = page.family(Kind::Gauge, "corelane_core_busy_ratio", help);
    for (core, busy) in busy.iter().enumerate() {
        if let Some(busy) = busy {
            share.sample(&[("core", &core.to_string())], *busy);
        }
    }
    for figure in CORE_FIGURES {
        let mut family = page.family(figure.kind, figure.name, figure.help);
        for (core, report) in reports(cores) {
            family.sample(&[("core", &core.to_string())], (figure.read)(report));
        }
    }
    let help = "Turns that wrote: from the decision to the end of the synced write.";
    let mut turns = page.family(Kind::Histogram, "corelane_turn_duration_seconds", help);
    for (core, report) in reports(cores) {
        turns.histogram(&[("core", &core.to_string())], &report.metrics.turns);
    }
}

/// By api, summed over the cores: a series for each core as well would be a thousand more.
fn put_requests(page: &mut Exposition, cores: &[CoreFigures]) {
    let mut apis: BTreeMap<ApiKey, ApiMetrics> = BTreeMap::new();
    for (_, report) in reports(cores) {
        for (key, figures) in &report.metrics.apis {
            apis.entry(*key).or_default().merge(figures);
        }
    }
    let help = "Requests, from decoded to answered; a Fetch includes its wait for data.";
    let mut family = page.family(Kind::Histogram, "corelane_request_duration_seconds", help);
    for (key, figures) in &apis {
        family.histogram(&[("api", &key.to_string())], &figures.latency);
    }
    let help = "Bytes of the bodies of requests.";
    let mut family = page.family(Kind::Counter, "corelane_request_bytes_total", help);
    for (key, figures) in &apis {
        family.sample(&[("api", &key.to_string())], figures.request_bytes);
    }
    let help = "Error codes in answers, one for each partition, topic or group that got one.";
    let mut family = page.family(Kind::Counter, "corelane_request_errors_total", help);
    for (key, figures) in &apis {
        for (code, count) in &figures.errors {
            let error = ErrorCode(*code).name();
            family.sample(&[("api", &key.to_string()), ("error", error)], *count);
        }
    }
    let help = "Bytes of answers.";
    let mut family = page.family(Kind::Counter, "corelane_response_bytes_total", help);
    for (key, figures) in &apis {
        family.sample(&[("api", &key.to_string())], figures.response_bytes);
    }
}

fn put_partition_tally(page: &mut Exposition, cores: &[CoreFigures]) {
    if let Some((_, report)) = reports(cores).next() {
        page.single(
            Kind::Gauge,
            "corelane_topics",
            "Topics of the cluster.",
            report.topics,
        );
    }
    let help = "Partitions on this core: serving; not_serving, as they follow or have no leader; \
                fenced, until someone repairs them.";
    let mut family = page.family(Kind::Gauge, "corelane_partitions", help);
    for (core, figures) in answering(cores) {
        let (core, tally) = (core.to_string(), figures.partitions);
        let states = [
            (PartitionState::Serving, tally.serving),
            (PartitionState::NotServing, tally.not_serving),
            (PartitionState::Fenced, tally.fenced),
        ];
        for (state, count) in states {
            family.sample(&[("core", &core), ("state", state_name(state))], count);
        }
    }
    let help = "Bytes of the logs of all partitions on this core.";
    let mut family = page.family(Kind::Gauge, "corelane_log_size_bytes", help);
    for (core, figures) in answering(cores) {
        family.sample(
            &[("core", &core.to_string())],
            figures.partitions.size_bytes,
        );
    }
}

fn put_groups(page: &mut Exposition, states: &BTreeMap<GroupState, usize>, lag: &Lag) {
    let help = "Consumer groups that this node coordinates.";
    let mut family = page.family(Kind::Gauge, "corelane_groups", help);
    for state in GroupState::ALL {
        let count = states.get(&state).copied().unwrap_or(0);
        family.sample(&[("state", state.name())], count);
    }
    let help = "Offsets between a group's committed offset and the partition's high watermark.";
    let mut family = page.family(Kind::Gauge, "corelane_group_lag_offsets", help);
    for ((group, topic, partition), behind) in &lag.rows {
        let partition = partition.to_string();
        family.sample(
            &[
                ("group", group),
                ("topic", topic),
                ("partition", &partition),
            ],
            *behind,
        );
    }
    page.single(
        Kind::Gauge,
        "corelane_group_lag_truncated",
        "1 if there are more rows of lag than one scrape tells.",
        lag.is_truncated,
    );
}

/// A figure of each partition.
struct PartitionFigure {
    name: &'static str,
    help: &'static str,
    read: fn(&PartitionRow) -> Value,
}

const PARTITION_FIGURES: &[PartitionFigure] = &[
    PartitionFigure {
        name: "corelane_partition_serving",
        help: "1 if clients can use the partition through this node.",
        read: |row| (row.state == PartitionState::Serving).into(),
    },
    PartitionFigure {
        name: "corelane_partition_fenced",
        help: "1 if the partition is not served until someone repairs it.",
        read: |row| (row.state == PartitionState::Fenced).into(),
    },
    PartitionFigure {
        name: "corelane_partition_leader_epoch",
        help: "The leader epoch, which is the Raft term.",
        read: |row| row.leader_epoch.into(),
    },
    PartitionFigure {
        name: "corelane_partition_log_start_offset",
        help: "The first offset that can be read.",
        read: |row| row.log_start_offset.into(),
    },
    PartitionFigure {
        name: "corelane_partition_high_watermark_offset",
        help: "The first offset that is not committed.",
        read: |row| row.high_watermark.into(),
    },
    PartitionFigure {
        name: "corelane_partition_log_end_offset",
        help: "The offset that the next record gets.",
        read: |row| row.log_end_offset.into(),
    },
    PartitionFigure {
        name: "corelane_partition_log_size_bytes",
        help: "Bytes of the partition's log.",
        read: |row| row.size_bytes.into(),
    },
];

/// The page of `/metrics/partitions`.
pub(super) fn partitions_page(partitions: &Partitions) -> String {
    let mut page = Exposition::default();
    for figure in PARTITION_FIGURES {
        let mut family = page.family(Kind::Gauge, figure.name, figure.help);
        for row in &partitions.rows {
            let partition = row.partition.to_string();
            let labels = [("topic", row.topic.as_str()), ("partition", &partition)];
            family.sample(&labels, (figure.read)(row));
        }
    }
    page.single(
        Kind::Gauge,
        "corelane_partitions_truncated",
        "1 if there are more partitions than one scrape lists.",
        partitions.is_truncated,
    );
    page.into_text()
}

fn answering(cores: &[CoreFigures]) -> impl Iterator<Item = (usize, &CoreFigures)> {
    cores
        .iter()
        .enumerate()
        .filter(|(_, figures)| figures.report.is_some())
}

fn reports(cores: &[CoreFigures]) -> impl Iterator<Item = (usize, &CoreReport)> {
    cores
        .iter()
        .enumerate()
        .filter_map(|(core, figures)| Some((core, figures.report.as_ref()?)))
}

fn state_name(state: PartitionState) -> &'static str {
    match state {
        PartitionState::Serving => "serving",
        PartitionState::NotServing => "not_serving",
        PartitionState::Fenced => "fenced",
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests;
