//! Whole pages, read back by a parser of the format that knows no more than its specification.

use std::collections::BTreeSet;

use super::*;
use crate::observe::{ClusterFigures, PartitionTally, PeerFigures, ReplicationTally};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/metrics.md");
const RULES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/prometheus/corelane.rules.yml"
);

const DASHBOARD: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/grafana/corelane.json"
);
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/README.md");

/// A page as a scraper sees it.
#[derive(Default)]
struct Read {
    /// Name and type of each family, in order.
    families: Vec<(String, String)>,
    /// Series, labels included, to their values.
    samples: BTreeMap<String, f64>,
}

/// Reads a page and holds it to the rules of the format and of this house.
fn read(page: &str) -> Read {
    let mut read = Read::default();
    let mut introduced = BTreeSet::new();
    let mut helped = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split_once(' ').expect("a help text").0;
            assert!(introduced.insert(helped), "{helped} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, helped, "the type follows its help");
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "{name} is a {kind}"
            );
            assert!(name.starts_with("corelane_"), "{name}");
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(plain), "{name}");
            read.families.push((name.to_owned(), kind.to_owned()));
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (family, kind) = read.families.last().expect("a family before its samples");
            let suffix = series
                .split('{')
                .next()
                .unwrap()
                .strip_prefix(family.as_str());
            let suffixes: &[&str] = match kind.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(
                suffix.is_some_and(|s| suffixes.contains(&s)),
                "{series} in {family}"
            );
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let twice = read.samples.insert(series.to_owned(), value);
            assert!(twice.is_none(), "{series} comes twice");
        }
    }
    assert!(page.ends_with('\n'), "the last line ends too");
    read
}

fn report(busy_ns: u64) -> CoreReport {
    let mut report = CoreReport {
        connections: 3,
        topics: 2,
        ..CoreReport::default()
    };
    report.runtime.busy_ns = busy_ns;
    report.journal.journal_writes = 9;
    report
        .metrics
        .request(ApiKey::Fetch, Duration::from_millis(2), 100, 4_000);
    report
        .metrics
        .request(ApiKey::Produce, Duration::from_micros(70), 500, 60);
    let refused = [
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ];
    report.metrics.errors(ApiKey::Produce, &refused);
    report.metrics.errors(ApiKey::Produce, &refused[1..]);
    report.metrics.turn(Duration::from_micros(130));
    report.metrics.pass(Duration::from_micros(30));
    report.counters.elections = 4;
    let mut peer = PeerFigures {
        links_up: 1,
        ..PeerFigures::default()
    };
    peer.links.round_trip = Duration::from_micros(busy_ns / 1_000_000 + 400);
    peer.links.bytes_out = 1_000;
    peer.lag.records = 7;
    peer.lag.longest = Duration::from_millis(busy_ns / 1_000_000);
    report.peers.insert(2, peer);
    report.cluster = (busy_ns > 0).then_some(ClusterFigures {
        metadata_leader: 3,
        nodes: 5,
        nodes_fenced: 1,
        ..ClusterFigures::default()
    });
    report
}

fn snapshot() -> Snapshot {
    let tally = PartitionTally {
        serving: 5,
        not_serving: 1,
        fenced: 2,
        size_bytes: 77,
        replication: ReplicationTally {
            replicas: 8,
            under_replicated: 3,
            ..ReplicationTally::default()
        },
    };
    let mut snapshot = Snapshot::default();
    let figures = |report| CoreFigures {
        report,
        partitions: tally,
    };
    snapshot.cores = vec![
        figures(Some(report(1_500_000_000))),
        CoreFigures::default(),
        figures(Some(report(0))),
    ];
    snapshot.states.insert(GroupState::Stable, 4);
    let key = |group: &str| (group.to_owned(), "orders".to_owned(), 3);
    snapshot.lag.rows = BTreeMap::from([(key("billing"), 12), (key("a\"b"), 0)]);
    snapshot
}

fn host() -> Host {
    Host {
        uptime: Duration::from_millis(2_500),
        process: Process::read(),
    }
}

#[test]
fn a_page_follows_the_format_and_tells_what_the_cores_said() {
    let text = page(&host(), &snapshot(), &[Some(0.25), None, Some(1.0)]);
    let read = read(&text);
    let told = |series: &str| {
        *read
            .samples
            .get(series)
            .unwrap_or_else(|| panic!("{series}"))
    };
    assert_eq!(told("corelane_uptime_seconds"), 2.5);
    assert_eq!(told("corelane_core_up{core=\"1\"}"), 0.0);
    assert_eq!(told("corelane_core_busy_ratio{core=\"0\"}"), 0.25);
    assert_eq!(told("corelane_core_busy_seconds_total{core=\"0\"}"), 1.5);
    assert_eq!(told("corelane_journal_syncs_total{core=\"2\"}"), 9.0);
    assert_eq!(told("corelane_connections{core=\"2\"}"), 3.0);
    assert_eq!(
        told("corelane_partitions{core=\"0\",state=\"fenced\"}"),
        2.0
    );
    assert_eq!(told("corelane_log_size_bytes{core=\"2\"}"), 77.0);
    assert_eq!(told("corelane_groups{state=\"Stable\"}"), 4.0);
    assert_eq!(told("corelane_groups{state=\"Empty\"}"), 0.0);
    let lag = "corelane_group_lag_offsets{group=\"billing\",topic=\"orders\",partition=\"3\"}";
    assert_eq!(told(lag), 12.0);
    // A core that does not answer has no figures, rather than old or empty ones.
    let silent = read
        .samples
        .keys()
        .filter(|series| series.contains("core=\"1\""));
    assert_eq!(silent.count(), 1, "only whether it is up");
}

#[test]
fn requests_are_summed_over_the_cores() {
    let read = read(&page(&host(), &snapshot(), &[None, None, None]));
    let told = |series: &str| read.samples[series];
    assert_eq!(
        told("corelane_request_duration_seconds_count{api=\"Fetch\"}"),
        2.0
    );
    assert_eq!(
        told("corelane_request_duration_seconds_sum{api=\"Fetch\"}"),
        0.004
    );
    let bucket =
        |le| format!("corelane_request_duration_seconds_bucket{{api=\"Fetch\",le=\"{le}\"}}");
    assert_eq!(
        (told(&bucket("0.0015")), told(&bucket("0.003"))),
        (0.0, 2.0)
    );
    assert_eq!(
        told("corelane_request_bytes_total{api=\"Produce\"}"),
        1_000.0
    );
    assert_eq!(
        told("corelane_response_bytes_total{api=\"Fetch\"}"),
        8_000.0
    );
    let errors = |error| {
        let labels = format!("{{api=\"Produce\",error=\"{error}\"}}");
        told(&format!("corelane_request_errors_total{labels}"))
    };
    assert_eq!(errors("NOT_LEADER_OR_FOLLOWER"), 4.0);
    assert_eq!(errors("UNKNOWN_SERVER_ERROR"), 2.0);
}

#[test]
fn the_other_nodes_are_summed_over_the_cores() {
    let read = read(&page(&host(), &snapshot(), &[None, None, None]));
    let told = |series: &str| read.samples[series];
    assert_eq!(
        told("corelane_partitions_under_replicated{core=\"2\"}"),
        3.0
    );
    assert_eq!(told("corelane_replicas{core=\"0\"}"), 8.0);
    assert_eq!(told("corelane_elections_total{core=\"0\"}"), 4.0);
    assert_eq!(
        told("corelane_pass_duration_seconds_count{core=\"2\"}"),
        1.0
    );
    assert_eq!(told("corelane_peer_links_up{peer=\"2\"}"), 2.0);
    assert_eq!(told("corelane_peer_sent_bytes_total{peer=\"2\"}"), 2_000.0);
    assert_eq!(told("corelane_replication_lag_records{peer=\"2\"}"), 14.0);
    // Of times the longest counts.
    assert_eq!(told("corelane_peer_round_trip_seconds{peer=\"2\"}"), 0.0019);
    assert_eq!(told("corelane_replication_lag_seconds{peer=\"2\"}"), 1.5);
    // Only the core with the metadata tells of the cluster.
    assert_eq!(told("corelane_metadata_leader"), 3.0);
    assert_eq!(told("corelane_nodes"), 5.0);
    assert_eq!(told("corelane_nodes_fenced"), 1.0);
}

#[test]
fn partitions_are_listed_by_name() {
    let row = PartitionRow {
        topic: "orders".into(),
        partition: 7,
        state: PartitionState::Serving,
        leader_epoch: 4,
        log_start_offset: 10,
        high_watermark: 90,
        log_end_offset: 95,
        size_bytes: 1_234,
    };
    let fenced = PartitionRow {
        partition: 8,
        state: PartitionState::Fenced,
        ..row.clone()
    };
    let partitions = Partitions {
        rows: vec![row, fenced],
        is_truncated: true,
    };
    let read = read(&partitions_page(&partitions));
    let told = |name: &str, partition: u32| {
        read.samples[&format!("{name}{{topic=\"orders\",partition=\"{partition}\"}}")]
    };
    assert_eq!(told("corelane_partition_high_watermark_offset", 7), 90.0);
    assert_eq!(told("corelane_partition_log_end_offset", 7), 95.0);
    assert_eq!(told("corelane_partition_log_size_bytes", 7), 1_234.0);
    assert_eq!(told("corelane_partition_serving", 8), 0.0);
    assert_eq!(told("corelane_partition_fenced", 8), 1.0);
    assert_eq!(read.samples["corelane_partitions_truncated"], 1.0);
}

/// Whoever writes an alert looks names up in the document.
#[test]
fn the_document_names_every_figure_and_no_other() {
    let document = std::fs::read_to_string(DOCUMENT).expect(DOCUMENT);
    let documented: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `corelane_")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let families = families();
    let told: BTreeSet<&str> = families
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("corelane_"))
        .collect();
    assert_eq!(
        told, documented,
        "add the missing names to deploy/metrics.md, remove the others"
    );
}

/// An alert on a name that nobody tells never fires, and a panel shows nothing.
#[test]
fn rules_and_dashboard_ask_for_figures_that_are_there() {
    let mut series = BTreeSet::new();
    for (name, kind) in families() {
        let suffixes: &[&str] = match kind.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        series.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
    }
    let rules = std::fs::read_to_string(RULES).expect(RULES);
    let recorded = rules.lines().filter_map(|line| {
        let (_, name) = line.split_once("- record: ")?;
        Some(name.trim().to_owned())
    });
    series.extend(recorded);
    for (path, least) in [(RULES, 5), (DASHBOARD, 30), (PAGE, 5)] {
        let text = std::fs::read_to_string(path).expect(path);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let of_ours = |word: &&str| {
            ["corelane_", "corelane:"]
                .iter()
                .any(|p| word.starts_with(p))
        };
        let asked: BTreeSet<&str> = words.filter(of_ours).collect();
        assert!(asked.len() >= least, "{path}: {asked:?}");
        let missing: Vec<_> = asked
            .iter()
            .filter(|name| !series.contains(**name))
            .collect();
        assert!(missing.is_empty(), "{path} asks for {missing:?}");
    }
}

/// Grafana takes what it can read and is silent about the rest.
#[test]
fn the_dashboard_is_whole() {
    let text = std::fs::read_to_string(DASHBOARD).expect(DASHBOARD);
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}");
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(at("x") + at("w") <= 24, "{title} is too wide");
        for row in at("y")..at("y") + at("h") {
            for column in at("x")..at("x") + at("w") {
                assert!(places.insert((row, column)), "{title} covers another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            panel["description"].as_str().is_some_and(|d| !d.is_empty()),
            "{title}"
        );
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title} has no unit"
        );
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            assert!(expression.contains("$instance"), "{title}: {expression}");
            assert_eq!(
                expression.matches('(').count(),
                expression.matches(')').count(),
                "{title}"
            );
        }
    }
    assert!(panels.len() > 15, "{}", panels.len());
}

/// Name and type of everything that either page tells.
fn families() -> Vec<(String, String)> {
    let pages = [
        page(&host(), &snapshot(), &[Some(0.5), None, None]),
        partitions_page(&Partitions::default()),
    ];
    pages.iter().flat_map(|page| read(page).families).collect()
}
