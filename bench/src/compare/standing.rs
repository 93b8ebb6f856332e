//! W7 and W8: what a broker costs that only stands there with many partitions, and how long it is
//! away when it restarts.

use std::thread;

use super::broker::Running;
use super::figures::{Figures, Unit};
use super::lab::Lab;
use crate::arguments::BrokerName;
use crate::error::{BenchError, Result};
use crate::wire::{Control, Topic};

/// Partitions of each idle topic: Kafka creates no more than ten thousand in one request.
pub const TOPIC_PARTITIONS: i32 = 1000;
/// Records of a batch that is put into an idle partition, and bytes of each.
const BATCH_MESSAGES: usize = 16;
const MESSAGE_BYTES: usize = 1000;

/// Starts empty, creates partitions, rests; restarts after a clean stop; takes data, is killed and
/// restarts again. What was acknowledged must be there.
pub fn many_partitions(lab: &mut Lab, broker: BrokerName, figures: &mut Figures) -> Result<()> {
    let home = lab.home()?;
    let mut running = lab.start(broker, &home)?;
    let mut control = running.control()?;
    let first = lab.topic(broker, &mut control, "first", 1)?;
    figures.add(
        broker,
        "W8",
        "exec to first ack, empty",
        Unit::Seconds,
        Some(running.age_s()),
    );
    thread::sleep(lab.plan.idle_time);
    let empty_mib = resident_mib(&running);
    figures.add(
        broker,
        "W8",
        "resident after an empty start",
        Unit::MiB,
        empty_mib,
    );

    let topics = create_topics(lab, broker, &running, &mut control, figures)?;
    rest(lab, broker, &running, empty_mib, figures);

    let stopped_s = running.stop()?;
    let many = partitions(lab);
    let figure = |what: &str| format!("{many} partitions, {what}");
    figures.add(
        broker,
        "W8",
        figure("clean stop"),
        Unit::Seconds,
        Some(stopped_s),
    );
    let mut running = lab.start(broker, &home)?;
    let mut control = first_ack(&mut running, &first)?;
    add_start(
        figures,
        broker,
        &running,
        &figure("exec to first ack after a clean stop"),
    );
    every_partition_acks(&mut control, &topics)?;
    add_start(
        figures,
        broker,
        &running,
        &figure("exec to an ack of every partition after a clean stop"),
    );

    for _ in 0..lab.plan.idle_rounds {
        for topic in &topics {
            control.fill(topic, 0..topic.partitions, BATCH_MESSAGES, MESSAGE_BYTES)?;
        }
    }
    let acknowledged = ends(&mut control, &topics)?;
    running.kill()?;
    let mut running = lab.start(broker, &home)?;
    let mut control = first_ack(&mut running, &first)?;
    add_start(
        figures,
        broker,
        &running,
        &figure("exec to first ack after kill -9 with data"),
    );
    nothing_lost(&acknowledged, &ends(&mut control, &topics)?)?;
    every_partition_acks(&mut control, &topics)?;
    add_start(
        figures,
        broker,
        &running,
        &figure("exec to an ack of every partition after kill -9 with data"),
    );
    running.kill()
}

/// Time and CPU from the start until now. CPU is what other programs disturb least.
fn add_start(figures: &mut Figures, broker: BrokerName, running: &Running, what: &str) {
    figures.add(broker, "W8", what, Unit::Seconds, Some(running.age_s()));
    let cpu_s = running.process().cpu_s();
    figures.add(
        broker,
        "W8",
        format!("{what}, broker CPU"),
        Unit::CpuSeconds,
        cpu_s,
    );
}

fn partitions(lab: &Lab) -> usize {
    lab.plan.idle_topics * TOPIC_PARTITIONS as usize
}

fn resident_mib(running: &Running) -> Option<f64> {
    running
        .process()
        .resident_bytes()
        .map(|bytes| bytes as f64 / f64::from(1 << 20))
}

fn create_topics(
    lab: &Lab,
    broker: BrokerName,
    running: &Running,
    control: &mut Control,
    figures: &mut Figures,
) -> Result<Vec<Topic>> {
    let (before_s, before_age_s) = (running.process().cpu_s(), running.age_s());
    let create = |number| lab.topic(broker, control, &format!("idle-{number}"), TOPIC_PARTITIONS);
    let topics = (0..lab.plan.idle_topics)
        .map(create)
        .collect::<Result<Vec<_>>>()?;
    let many = partitions(lab);
    let cpu_s = running
        .process()
        .cpu_s()
        .zip(before_s)
        .map(|(after, before)| after - before);
    let took_s = running.age_s() - before_age_s;
    let name = |what: &str| format!("creating {many} partitions, {what}");
    figures.add(
        broker,
        "W7",
        name("time to a first ack of each"),
        Unit::Seconds,
        Some(took_s),
    );
    figures.add(broker, "W7", name("broker CPU"), Unit::CpuSeconds, cpu_s);
    Ok(topics)
}

/// What it costs to do nothing.
fn rest(
    lab: &Lab,
    broker: BrokerName,
    running: &Running,
    empty_mib: Option<f64>,
    figures: &mut Figures,
) {
    thread::sleep(lab.plan.idle_time);
    let (before_s, before_age_s) = (running.process().cpu_s(), running.age_s());
    thread::sleep(lab.plan.idle_time);
    let cpu_s = running
        .process()
        .cpu_s()
        .zip(before_s)
        .map(|(after, before)| after - before);
    let percent = cpu_s.map(|cpu_s| 100.0 * cpu_s / (running.age_s() - before_age_s));
    let many = partitions(lab);
    let mut add = |what: &str, unit, value| {
        figures.add(
            broker,
            "W7",
            format!("{many} idle partitions, {what}"),
            unit,
            value,
        );
    };
    add("CPU of a core", Unit::PercentOfACore, percent);
    let full_mib = resident_mib(running);
    add("resident", Unit::MiB, full_mib);
    let each_kib = full_mib
        .zip(empty_mib)
        .map(|(full, empty)| (full - empty) * 1024.0 / many as f64);
    add("resident for each", Unit::KiBEach, each_kib);
    let descriptors = running.process().descriptors().map(|count| count as f64);
    add("descriptors", Unit::Count, descriptors);
}

/// Connects as soon as that goes, and produces until it is acknowledged.
fn first_ack(running: &mut Running, topic: &Topic) -> Result<Control> {
    let mut control = running.control()?;
    control.fill(topic, 0..1, 1, MESSAGE_BYTES)?;
    Ok(control)
}

fn every_partition_acks(control: &mut Control, topics: &[Topic]) -> Result<()> {
    topics
        .iter()
        .try_for_each(|topic| control.fill(topic, 0..topic.partitions, 1, MESSAGE_BYTES))
}

fn ends(control: &mut Control, topics: &[Topic]) -> Result<Vec<Vec<i64>>> {
    topics
        .iter()
        .map(|topic| control.end_offsets(topic))
        .collect()
}

/// Every log is at least as long as what was acknowledged before the kill.
fn nothing_lost(acknowledged: &[Vec<i64>], recovered: &[Vec<i64>]) -> Result<()> {
    let pairs = acknowledged
        .iter()
        .flatten()
        .zip(recovered.iter().flatten());
    let lost: i64 = pairs
        .map(|(acknowledged, recovered)| (acknowledged - recovered).max(0))
        .sum();
    match lost {
        0 => Ok(()),
        lost => Err(BenchError::Unusable(format!(
            "{lost} acknowledged messages are lost after kill -9"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_became_shorter_is_a_loss() {
        let before = [vec![5, 7], vec![1]];
        assert!(nothing_lost(&before, &[vec![5, 9], vec![1]]).is_ok());
        let error = nothing_lost(&before, &[vec![5, 4], vec![2]]).unwrap_err();
        assert!(error.to_string().starts_with("3 acknowledged"), "{error}");
    }
}
