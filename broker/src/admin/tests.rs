//! The server on a real socket, with cores that are played by the test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use storage::PartitionId;

use super::collect::LAG_ROWS_MAX;
use super::cores::OVERDUE_MAX;
use super::server::{CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_WITHIN, HEADERS_MAX};
use super::*;
use crate::groups::GroupState;
use crate::observe::{
    CoreReport, GroupsPage, OFFSETS_PER_PAGE, OffsetRow, OffsetsCursor, OffsetsPage, PartitionRow,
    PartitionState, PartitionTally, PartitionsPage, Pulse, Request,
};
use crate::operate::Order;

const TOPIC: u128 = 0x7a;
const ACCEPTING: Pulse = Pulse {
    is_accepting: true,
    is_stopping: false,
};

fn loopback() -> Endpoint {
    Endpoint {
        host: "127.0.0.1".to_owned(),
        port: 0,
    }
}

fn admin(cores: usize, ask: impl Fn(usize, Request) + Send + 'static) -> Admin {
    Admin::start(&loopback(), cores, ask).expect("a port of the loopback")
}

/// Sends raw bytes and reads until the server closes.
fn exchange(admin: &Admin, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(admin.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The server may close before it has taken everything in.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn get(admin: &Admin, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: corelane\r\n\r\n");
    let answer = exchange(admin, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.strip_prefix("HTTP/1.1 ").expect("a status line");
    (status[..3].parse().unwrap(), body.to_owned())
}

fn id(partition: u32) -> PartitionId {
    PartitionId {
        topic: TOPIC,
        partition,
    }
}

fn partition_row(partition: u32) -> PartitionRow {
    PartitionRow {
        topic: "orders".to_owned(),
        partition,
        state: PartitionState::Serving,
        leader_epoch: 1,
        log_start_offset: 0,
        high_watermark: 100,
        log_end_offset: 100,
        size_bytes: 10,
    }
}

fn offset_row(group: &str, partition: u32, committed_offset: i64) -> OffsetRow {
    OffsetRow {
        group: group.to_owned(),
        topic: "orders".to_owned(),
        partition: partition as i32,
        id: id(partition),
        committed_offset,
    }
}

fn cursor() -> OffsetsCursor {
    let (group, topic) = ("billing".to_owned(), "orders".to_owned());
    OffsetsCursor {
        coordinator: id(0),
        group,
        topic,
        partition: 1,
    }
}

/// Two cores of a healthy node. Core 0 has the coordinator and partition 0, core 1 the rest: both in
/// two pages. The high watermark of partition `n` is `100 + n`.
fn play(core: usize, request: Request) {
    match request {
        Request::Operate { order, reply } => {
            let _ = reply.send(match order {
                Order::Recoveries => Ok(serde_json::json!([])),
                other => Err(format!("not {other:?}")),
            });
        }
        Request::Pulse(reply) => {
            let _ = reply.send(Pulse {
                is_accepting: core == 0,
                ..ACCEPTING
            });
        }
        Request::Report(reply) => {
            let _ = reply.send(CoreReport {
                connections: core + 1,
                ..CoreReport::default()
            });
        }
        Request::Partitions { after, rows, reply } => {
            let (number, next) = match after {
                None => (core as u32 * 10, Some(id(1))),
                Some(_) => (core as u32 * 10 + 1, None),
            };
            let tally = PartitionTally {
                serving: 1,
                size_bytes: 10,
                ..PartitionTally::default()
            };
            let rows = if rows {
                vec![partition_row(number)]
            } else {
                Vec::new()
            };
            let _ = reply.send(PartitionsPage { tally, rows, next });
        }
        Request::Groups { after, reply } => {
            let states = [(GroupState::Stable, 1)].into();
            let next = (core == 0 && after.is_none()).then(|| id(0));
            let _ = reply.send(GroupsPage { states, next });
        }
        Request::Offsets { after, reply } => {
            let page = match (core, after) {
                (0, None) => {
                    let rows = vec![offset_row("billing", 0, 40), offset_row("billing", 1, 500)];
                    OffsetsPage {
                        rows,
                        next: Some(cursor()),
                    }
                }
                (0, Some(_)) => OffsetsPage {
                    rows: vec![offset_row("search", 1, 0)],
                    next: None,
                },
                _ => OffsetsPage::default(),
            };
            let _ = reply.send(page);
        }
        Request::HighWatermarks { partitions, reply } => {
            let here = |id: &PartitionId| storage::owner(*id, 2) == core;
            assert!(
                partitions.iter().all(here),
                "core {core} is asked for {partitions:?}"
            );
            let known = partitions
                .iter()
                .map(|id| Some(100 + i64::from(id.partition)));
            let _ = reply.send(known.collect());
        }
    }
}

#[test]
fn metrics_join_what_two_cores_know() {
    let admin = admin(2, play);
    let (status, page) = get(&admin, "/metrics");
    assert_eq!(status, 200);
    let has = |line: &str| assert!(page.lines().any(|told| told == line), "{line} in:\n{page}");
    has("corelane_core_up{core=\"1\"} 1");
    has("corelane_connections{core=\"1\"} 2");
    has("corelane_partitions{core=\"1\",state=\"serving\"} 2");
    has("corelane_groups{state=\"Stable\"} 3");
    let lag = "corelane_group_lag_offsets{group";
    has(&format!(
        "{lag}=\"billing\",topic=\"orders\",partition=\"0\"}} 60"
    ));
    has(&format!(
        "{lag}=\"billing\",topic=\"orders\",partition=\"1\"}} 0"
    ));
    has(&format!(
        "{lag}=\"search\",topic=\"orders\",partition=\"1\"}} 101"
    ));
    has("corelane_group_lag_truncated 0");
}

#[test]
fn partitions_come_in_pages_and_by_name() {
    let admin = admin(2, play);
    let (status, page) = get(&admin, "/metrics/partitions");
    assert_eq!(status, 200);
    let offsets = "corelane_partition_high_watermark_offset{";
    let listed: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix(offsets))
        .collect();
    let row = |partition| format!("topic=\"orders\",partition=\"{partition}\"}} 100");
    assert_eq!(listed, [row(0), row(1), row(10), row(11)]);
}

#[test]
fn rows_of_lag_have_a_limit_and_the_page_says_so() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let admin = admin(1, move |core, request| match request {
        Request::Offsets { reply, .. } => {
            // A coordinator without an end.
            let page = count.fetch_add(1, Ordering::Relaxed);
            let group = |n: usize| format!("group-{page}-{n}");
            let rows = (0..OFFSETS_PER_PAGE)
                .map(|n| offset_row(&group(n), 0, 0))
                .collect();
            let _ = reply.send(OffsetsPage {
                rows,
                next: Some(cursor()),
            });
        }
        Request::HighWatermarks { partitions, reply } => {
            let _ = reply.send(vec![Some(1); partitions.len()]);
        }
        request => play(core, request),
    });
    let (_, page) = get(&admin, "/metrics");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("corelane_group_lag_offsets{"));
    assert_eq!(rows.count(), LAG_ROWS_MAX);
    assert!(
        page.contains("\ncorelane_group_lag_truncated 1\n"),
        "the page says so"
    );
    assert_eq!(
        asked.load(Ordering::Relaxed),
        LAG_ROWS_MAX / OFFSETS_PER_PAGE + 1
    );
}

#[test]
fn health_and_readiness_tell_starting_serving_and_stopping_apart() {
    let pulse = Arc::new(Mutex::new(Pulse {
        is_accepting: false,
        is_stopping: false,
    }));
    let told = pulse.clone();
    let admin = admin(2, move |_, request| {
        let Request::Pulse(reply) = request else {
            panic!("{request:?}")
        };
        let _ = reply.send(*told.lock().unwrap());
    });
    assert_eq!(get(&admin, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&admin, "/readyz"), (503, "starting\n".to_owned()));
    *pulse.lock().unwrap() = ACCEPTING;
    assert_eq!(get(&admin, "/readyz"), (200, "ok\n".to_owned()));
    *pulse.lock().unwrap() = Pulse {
        is_stopping: true,
        ..ACCEPTING
    };
    assert_eq!(get(&admin, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&admin, "/readyz"), (503, "stopping\n".to_owned()));
}

#[test]
fn a_stalled_core_is_named_and_not_flooded() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let mailbox = kept.clone();
    let admin = admin(2, move |core, request| match core {
        1 => mailbox.lock().unwrap().push(request),
        _ => play(core, request),
    });
    let unhealthy = (503, "no answer from core 1\n".to_owned());
    std::thread::scope(|scope| {
        for _ in 0..2 * OVERDUE_MAX {
            scope.spawn(|| assert_eq!(get(&admin, "/healthz"), unhealthy));
        }
    });
    let asked = kept.lock().unwrap().len();
    assert_eq!(asked, 2 * OVERDUE_MAX, "those that came at the same time");
    assert_eq!(get(&admin, "/healthz"), unhealthy);
    let (status, page) = get(&admin, "/metrics");
    assert_eq!(status, 200);
    assert!(page.contains("corelane_core_up{core=\"0\"} 1\ncorelane_core_up{core=\"1\"} 0\n"));
    assert_eq!(
        kept.lock().unwrap().len(),
        asked,
        "no more while those are overdue"
    );
    // It comes round: late answers make room for new questions.
    let late: Vec<Request> = kept.lock().unwrap().drain(..).collect();
    late.into_iter().for_each(|request| play(1, request));
    let until = Instant::now() + Duration::from_secs(10);
    while kept.lock().unwrap().is_empty() {
        assert!(Instant::now() < until, "it is not asked any more");
        get(&admin, "/healthz");
    }
}

#[test]
fn a_core_that_has_gone_is_known_at_once() {
    let admin = admin(1, |_, request| drop(request));
    let began = Instant::now();
    assert_eq!(
        get(&admin, "/healthz"),
        (503, "no answer from core 0\n".to_owned())
    );
    assert!(
        began.elapsed() < cores::ANSWER_WITHIN,
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn other_paths_and_methods_are_refused() {
    let admin = admin(2, play);
    let (status, text) = get(&admin, "/metric");
    assert_eq!(status, 404);
    assert!(text.contains("/metrics/partitions\n"), "{text}");
    assert_eq!(get(&admin, "/").0, 200);
    let posted = exchange(
        &admin,
        b"POST /metrics HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    assert!(posted.contains("allow: GET, HEAD\r\n"), "{posted}");
    let head = exchange(&admin, b"HEAD /healthz HTTP/1.1\r\nHost: c\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn orders_are_posted_with_a_header_and_answered_with_json_or_a_sentence() {
    let admin = admin(2, play);
    let post = |path: &str, header: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: c\r\n{header}Content-Length: 0\r\n\r\n");
        exchange(&admin, head.as_bytes())
    };
    let done = post("/partitions/recoveries", "Corelane-Order: 1\r\n");
    assert!(
        done.starts_with("HTTP/1.1 200 ") && done.ends_with("\r\n[]\n"),
        "{done}"
    );
    let refused = post(
        "/partitions/transfer?topic=t&partition=0&to=2",
        "Corelane-Order: 1\r\n",
    );
    assert!(refused.starts_with("HTTP/1.1 409 "), "{refused}");
    assert!(refused.contains("not Transfer"), "{refused}");
    let forged = post("/partitions/recoveries", "");
    assert!(forged.starts_with("HTTP/1.1 403 "), "{forged}");
    let wrong = post("/metadata/recover", "Corelane-Order: 1\r\n");
    assert!(wrong.starts_with("HTTP/1.1 400 "), "{wrong}");
    // Looking is no order.
    assert_eq!(get(&admin, "/partitions/recoveries").0, 404);
}

#[test]
fn heads_have_limits() {
    let admin = admin(2, play);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(2 * HEAD_BYTES_MAX));
    let answer = exchange(&admin, long.as_bytes());
    assert!(
        !answer.contains(" 200 ") && !answer.contains(" 404 "),
        "{answer}"
    );
    let headers = "A: b\r\n".repeat(HEADERS_MAX + 1);
    let many = format!("GET /healthz HTTP/1.1\r\n{headers}\r\n");
    assert!(!exchange(&admin, many.as_bytes()).contains(" 200 "));
    assert_eq!(get(&admin, "/healthz").0, 200);
}

#[test]
fn one_connection_is_one_request() {
    let admin = admin(2, play);
    let one = "GET /healthz HTTP/1.1\r\nHost: c\r\n\r\n";
    let answer = exchange(&admin, one.repeat(3).as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[test]
fn who_says_nothing_is_cut_off_and_the_next_gets_the_place() {
    let admin = admin(2, play);
    let began = Instant::now();
    let silent: Vec<TcpStream> = (0..CONNECTIONS_MAX)
        .map(|_| TcpStream::connect(admin.address).unwrap())
        .collect();
    // Every place is taken, so this one waits until the silent ones have had their time.
    assert_eq!(get(&admin, "/healthz").0, 200);
    let waited = began.elapsed();
    assert!(
        waited >= HEAD_WITHIN / 2,
        "served after {waited:?}, past the limit of connections"
    );
    assert!(waited < HEAD_WITHIN * 3, "served after {waited:?}");
    drop(silent);
}

#[test]
fn a_port_in_use_is_an_error_of_the_start() {
    let first = admin(1, play);
    let taken = Endpoint {
        port: first.address.port(),
        ..loopback()
    };
    let error = Admin::start(&taken, 1, play).expect_err("the port is taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn dropping_it_frees_the_port() {
    let admin = admin(1, play);
    let address = admin.address;
    let open = TcpStream::connect(address).unwrap();
    drop(admin);
    assert!(
        TcpStream::connect(address).is_err(),
        "nobody listens at {address} any more"
    );
    drop(open);
}
