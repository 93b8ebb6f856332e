//! W7 of a cluster: what a thousand partitions cost that have a replica on each node and nothing to
//! do.

use std::thread;
use std::time::Instant;

use super::figures::{Figures, Unit};
use super::lab::Lab;
use crate::arguments::BrokerName;
use crate::error::Result;

const PARTITIONS: i32 = 1000;

pub fn replicated(lab: &mut Lab, broker: BrokerName, figures: &mut Figures) -> Result<()> {
    let mut brokers = lab.brokers_everywhere(broker)?;
    let mut control = brokers.control()?;
    thread::sleep(lab.plan.idle_time);
    let empty_mib = brokers.resident_mib();
    let (cpu_s, began) = (brokers.cpu_s(), Instant::now());
    lab.topic(broker, &mut control, "idle", PARTITIONS)?;
    let took_s = began.elapsed().as_secs_f64();
    let spent_s = brokers
        .cpu_s()
        .zip(cpu_s)
        .map(|(after, before)| after - before);
    let replicas = lab.nodes;
    let topic = format!("{PARTITIONS} partitions of {replicas} replicas");
    let mut add = |what: &str, unit, value| {
        figures.add(broker, "W7", format!("{topic}, {what}"), unit, value);
    };
    add("time to a first ack of each", Unit::Seconds, Some(took_s));
    add("the same, CPU of all brokers", Unit::CpuSeconds, spent_s);
    thread::sleep(lab.plan.idle_time);
    let (cpu_s, began) = (brokers.cpu_s(), Instant::now());
    thread::sleep(lab.plan.rest_time);
    let rest_s = began.elapsed().as_secs_f64();
    let percent = brokers
        .cpu_s()
        .zip(cpu_s)
        .map(|(after, before)| 100.0 * (after - before) / rest_s);
    add(
        "idle, CPU of a core, all brokers",
        Unit::PercentOfACore,
        percent,
    );
    let full_mib = brokers.resident_mib();
    add("idle, resident, all brokers", Unit::MiB, full_mib);
    let each_kib = full_mib
        .zip(empty_mib)
        .map(|(full, empty)| (full - empty) * 1024.0 / f64::from(PARTITIONS * replicas));
    add("idle, resident for each replica", Unit::KiBEach, each_kib);
    let descriptors = brokers.descriptors().map(|count| count as f64);
    add("idle, descriptors, all brokers", Unit::Count, descriptors);
    brokers.stop()
}
