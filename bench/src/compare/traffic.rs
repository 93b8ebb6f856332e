//! W1, W2, W4 and W5: messages in, messages out.

use std::net::SocketAddr;
use std::time::Duration;

use super::brokers::Brokers;
use super::figures::{Figures, Unit};
use super::lab::Lab;
use crate::arguments::BrokerName;
use crate::error::Result;
use crate::latency::Quantiles;
use crate::load::{Acks, Outcome, Pace, Producing, ReadFrom, Reading, Spec};
use crate::machine::Spent;
use crate::wire::{Control, Placement, Topic};

const PARTITIONS: i32 = 16;
const MESSAGE_BYTES: usize = 1024;
const PRODUCERS: usize = 4;
const SMALL_BATCH_BYTES: usize = 16 << 10;
const LARGE_BATCH_BYTES: usize = 256 << 10;
const LINGER: Duration = Duration::from_millis(1);
const FIXED_MB_PER_S: f64 = 10.0;

/// Rates tried one after the other in W2, in MB/s.
const STEPS_MB_PER_S: [f64; 14] = [
    10.0, 25.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 500.0, 600.0, 800.0, 1000.0,
];
/// A rate with a larger p99 does not count as sustained.
const P99_MAX_US: u64 = 50_000;

const CONNECTIONS: usize = 50;
const SMALL_MESSAGE_BYTES: usize = 100;

/// W5: what is read while it is produced, and by how many.
const TAIL_MB_PER_S: f64 = 20.0;
const TAIL_BATCH_BYTES: usize = 64 << 10;
const TAIL_READERS: usize = 4;
/// Messages of one batch of the backlog.
const BACKLOG_BATCH_MESSAGES: usize = 250;

/// Four producers with small batches, as fast as `pace` says.
fn producing(pace: Pace, batch_bytes: usize) -> Producing {
    Producing {
        producers: PRODUCERS,
        pace,
        linger: LINGER,
        batch_bytes,
        request_bytes: 1 << 20,
        in_flight_max: 5,
        acks: Acks::All,
        idempotent: true,
        keyed: false,
    }
}

fn at_rate(mb_per_s: f64) -> Pace {
    Pace::PerSecond(mb_per_s * 1e6 / MESSAGE_BYTES as f64)
}

fn spec(brokers: &Brokers, topic: Topic, producing: Producing, time: (Duration, Duration)) -> Spec {
    Spec {
        address: brokers.homes[0].address(),
        topic,
        message_bytes: MESSAGE_BYTES,
        producing: Some(producing),
        reading: None,
        warm_up: time.0,
        duration: time.1,
        brokers: brokers.processes(),
    }
}

/// CPU of the broker and of the machine for each GB.
fn add_cpu(figures: &mut Figures, run: (BrokerName, &'static str, &str), spent: &Spent, gb: f64) {
    let (broker, workload, what) = run;
    let figure = |who: &str| format!("{what}{who} CPU");
    let broker_s = spent.broker_cpu_s.map(|cpu_s| cpu_s / gb);
    figures.add(
        broker,
        workload,
        figure("broker"),
        Unit::CpuSPerGb,
        broker_s,
    );
    let machine_s = spent.machine_cpu_s.map(|cpu_s| cpu_s / gb);
    figures.add(
        broker,
        workload,
        figure("machine"),
        Unit::CpuSPerGb,
        machine_s,
    );
}

/// W1: a fixed rate, far from the limits, and what each message waits.
pub fn fixed_rate(lab: &mut Lab, broker: BrokerName, figures: &mut Figures) -> Result<()> {
    let mut brokers = lab.brokers(broker)?;
    let mut control = brokers.control()?;
    let topic = lab.topic(broker, &mut control, "w1", PARTITIONS)?;
    let time = (lab.plan.warm_up, lab.plan.latency_time);
    let producing = producing(at_rate(FIXED_MB_PER_S), SMALL_BATCH_BYTES);
    let mut spec = spec(&brokers, topic, producing, time);
    spec.reading = Some(Reading::new(1, ReadFrom::End));
    let outcome = lab.load("10 MB/s", &spec)?;
    add_latencies(figures, broker, "W1", &outcome);
    add_cpu(
        figures,
        (broker, "W1", ""),
        &outcome.spent,
        outcome.produced_gb(),
    );
    if lab.nodes > 1 {
        let figure = "resident, all brokers";
        figures.add(broker, "W1", figure, Unit::MiB, brokers.resident_mib());
    }
    brokers.stop()
}

fn add_latencies(
    figures: &mut Figures,
    broker: BrokerName,
    workload: &'static str,
    outcome: &Outcome,
) {
    for (kind, quantiles) in [("ack", &outcome.ack), ("end to end", &outcome.end_to_end)] {
        match quantiles {
            Some(quantiles) => {
                for (quantile, us) in quantiles.told() {
                    let name = format!("{kind} {quantile}");
                    figures.add(broker, workload, name, Unit::Us, Some(us as f64));
                }
            }
            None => figures.add(broker, workload, format!("{kind} p50"), Unit::Us, None),
        }
    }
}

/// W1 against the null broker: what is left for a broker to be better at.
pub fn floor(lab: &mut Lab, address: SocketAddr) -> Result<()> {
    let mut control = Control::connect(address, super::broker::PATIENCE)?;
    control.create_topic("floor", PARTITIONS, Placement::Anywhere(1), &[])?;
    let spec = Spec {
        address,
        topic: control.topic("floor")?,
        message_bytes: MESSAGE_BYTES,
        producing: Some(producing(at_rate(FIXED_MB_PER_S), SMALL_BATCH_BYTES)),
        reading: Some(Reading::new(1, ReadFrom::End)),
        warm_up: Duration::from_secs(1),
        duration: lab.plan.rate_time,
        brokers: Vec::new(),
    };
    let outcome = lab.load("null broker", &spec)?;
    lab.floor_ack_us = outcome.ack.map(|ack| ack.p50_us as f64);
    Ok(())
}

/// W2: the largest rate that holds, and what comes through without a limit.
pub fn largest_rate(lab: &mut Lab, broker: BrokerName, figures: &mut Figures) -> Result<()> {
    let mut brokers = lab.brokers(broker)?;
    let mut control = brokers.control()?;
    let steps = lab.topic(broker, &mut control, "steps", PARTITIONS)?;
    let mut best = None;
    let mut warm_up = lab.plan.warm_up;
    for mb_per_s in STEPS_MB_PER_S {
        let producing = producing(at_rate(mb_per_s), SMALL_BATCH_BYTES);
        let time = (warm_up, lab.plan.step_time);
        let outcome = lab.load("step", &spec(&brokers, steps.clone(), producing, time))?;
        let p99_us = outcome.ack.and_then(|ack| ack.p99_us);
        if !outcome.sustained || p99_us.is_none_or(|p99_us| p99_us > P99_MAX_US) {
            break;
        }
        best = Some(mb_per_s);
        warm_up = Duration::from_secs(1);
    }
    let name = "largest step with p99 <= 50 ms, 16 KiB batches";
    figures.add(broker, "W2", name, Unit::MbPerS, best);
    for (name, batch_bytes) in [
        ("16 KiB", SMALL_BATCH_BYTES),
        ("256 KiB", LARGE_BATCH_BYTES),
    ] {
        let topic = lab.topic(
            broker,
            &mut control,
            &format!("w2-{batch_bytes}"),
            PARTITIONS,
        )?;
        let producing = producing(Pace::Unbounded, batch_bytes);
        let time = (Duration::from_secs(2), lab.plan.rate_time);
        let what = format!("unbounded, {name} batches");
        let outcome = lab.load(&what, &spec(&brokers, topic, producing, time))?;
        let rate = outcome.sustained.then_some(outcome.achieved_mb_s);
        figures.add(broker, "W2", what.clone(), Unit::MbPerS, rate);
        let run = (broker, "W2", &*format!("{what}, "));
        add_cpu(figures, run, &outcome.spent, outcome.produced_gb());
        let figure = format!("{what}, per broker CPU-second");
        let per_s = outcome
            .spent
            .broker_cpu_s
            .map(|cpu_s| outcome.produced_gb() * 1e3 / cpu_s);
        figures.add(broker, "W2", figure, Unit::Mb, per_s);
    }
    brokers.stop()
}

/// W4: many connections with one record at a time.
pub fn single_records(lab: &mut Lab, broker: BrokerName, figures: &mut Figures) -> Result<()> {
    let mut brokers = lab.brokers(broker)?;
    let mut control = brokers.control()?;
    let mut warm_up = lab.plan.warm_up;
    for partitions in lab.plan.spreads {
        let topic = lab.topic(
            broker,
            &mut control,
            &format!("w4-{partitions}"),
            *partitions,
        )?;
        let producing = Producing {
            producers: CONNECTIONS,
            keyed: true,
            ..producing(Pace::OneByOne, SMALL_BATCH_BYTES)
        };
        let mut spec = spec(&brokers, topic, producing, (warm_up, lab.plan.rate_time));
        spec.message_bytes = SMALL_MESSAGE_BYTES;
        let what = match partitions {
            1 => "1 partition".to_owned(),
            many => format!("{many} partitions"),
        };
        let outcome = lab.load(&what, &spec)?;
        add_single_records(figures, broker, &what, &outcome);
        warm_up = Duration::from_secs(2);
    }
    brokers.stop()
}

fn add_single_records(figures: &mut Figures, broker: BrokerName, what: &str, outcome: &Outcome) {
    let mut add = |name: &str, unit, value| {
        figures.add(broker, "W4", format!("{what}, {name}"), unit, value);
    };
    let Spent {
        broker_cpu_s,
        machine_cpu_s,
        wall_s,
        disk_written_bytes,
        ..
    } = outcome.spent;
    let rate = outcome.sustained.then_some(outcome.requests_per_s);
    let requests = outcome.requests_per_s * wall_s;
    let each = |cpu_s: Option<f64>| cpu_s.map(|cpu_s| cpu_s * 1e6 / requests);
    add("requests", Unit::RequestsPerS, rate);
    add("broker CPU each", Unit::CpuUsEach, each(broker_cpu_s));
    let per_s = broker_cpu_s.map(|cpu_s| requests / cpu_s);
    add("requests per broker CPU-second", Unit::More, per_s);
    add("machine CPU each", Unit::CpuUsEach, each(machine_cpu_s));
    for (quantile, us) in outcome.ack.iter().flat_map(Quantiles::told) {
        if matches!(quantile, "p50" | "p99") {
            add(&format!("ack {quantile}"), Unit::Us, Some(us as f64));
        }
    }
    let payload_bytes = outcome.produced_gb() * 1e9;
    let amplification = disk_written_bytes.map(|written| written as f64 / payload_bytes);
    add("disk bytes for a byte", Unit::Amplification, amplification);
}

/// W5: readers at the tail, and readers of a backlog that fits in memory.
pub fn readers(lab: &mut Lab, broker: BrokerName, figures: &mut Figures) -> Result<()> {
    let mut brokers = lab.brokers(broker)?;
    let mut control = brokers.control()?;
    let tail = lab.topic(broker, &mut control, "tail", PARTITIONS)?;
    let time = (lab.plan.warm_up, lab.plan.rate_time);
    let producing = producing(at_rate(TAIL_MB_PER_S), TAIL_BATCH_BYTES);
    let mut at_tail = spec(&brokers, tail, producing, time);
    at_tail.reading = Some(Reading::new(TAIL_READERS, ReadFrom::End));
    let what = "20 MB/s in, 4 readers at the tail";
    let outcome = lab.load(what, &at_tail)?;
    let p99_us = outcome.end_to_end.and_then(|quantiles| quantiles.p99_us);
    let p99_us = p99_us.map(|us| us as f64);
    figures.add(
        broker,
        "W5",
        format!("{what}, end to end p99"),
        Unit::Us,
        p99_us,
    );
    let run = (broker, "W5", &*format!("{what}, per GB out, "));
    add_cpu(figures, run, &outcome.spent, outcome.received_gb());
    add_disk_reads(figures, broker, what, &outcome.spent);

    let backlog = lab.topic(broker, &mut control, "backlog", PARTITIONS)?;
    fill_backlog(&mut control, &backlog, lab.plan.backlog_bytes)?;
    for readers in [1, 4] {
        let what = match readers {
            1 => "backlog, 1 reader".to_owned(),
            many => format!("backlog, {many} readers"),
        };
        let spec = Spec {
            producing: None,
            reading: Some(Reading::new(readers, ReadFrom::Beginning)),
            topic: backlog.clone(),
            warm_up: Duration::from_secs(1),
            ..at_tail.clone()
        };
        let outcome = lab.load(&what, &spec)?;
        let rate = Some(outcome.received_mb_s).filter(|rate| *rate > 0.0);
        figures.add(broker, "W5", what.clone(), Unit::MbPerS, rate);
        let run = (broker, "W5", &*format!("{what}, "));
        add_cpu(figures, run, &outcome.spent, outcome.received_gb());
        add_disk_reads(figures, broker, &what, &outcome.spent);
    }
    brokers.stop()
}

fn add_disk_reads(figures: &mut Figures, broker: BrokerName, what: &str, spent: &Spent) {
    let mib = spent
        .disk_read_bytes
        .map(|bytes| bytes as f64 / f64::from(1 << 20));
    figures.add(
        broker,
        "W5",
        format!("{what}, read from disk"),
        Unit::MiB,
        mib,
    );
}

fn fill_backlog(control: &mut Control, topic: &Topic, bytes: usize) -> Result<()> {
    let round_bytes = PARTITIONS as usize * BACKLOG_BATCH_MESSAGES * MESSAGE_BYTES;
    for _ in 0..bytes.div_ceil(round_bytes) {
        control.fill(topic, 0..PARTITIONS, BACKLOG_BATCH_MESSAGES, MESSAGE_BYTES)?;
    }
    Ok(())
}
