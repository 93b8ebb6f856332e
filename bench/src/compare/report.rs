//! The text around the figures: which machine, which rules, what was wrong.

use super::figures::{Figures, title};
use super::lab::Lab;
use crate::arguments::{BrokerName, Layout};
use crate::machine::{Limits, describe, filesystem};
use crate::table::{number, time_us};

/// The report as Markdown, without dates and paths.
pub fn report(lab: &Lab, figures: &Figures, limits: &Limits, brokers: &[BrokerName]) -> String {
    let latency = lab.plan.latency_time.as_secs();
    let rate = lab.plan.rate_time.as_secs();
    let mut text = format!(
        "{}, {}. {} Median of {}{}.\n\n",
        describe(),
        filesystem(lab.root()),
        layout(lab.layout, lab.nodes),
        match lab.plan.rounds {
            1 => format!("1 run of {latency} s (W1), {rate} s (others)"),
            rounds => format!(
                "{rounds} runs of {latency} s (W1), {rate} s (others) in turn (least - greatest)"
            ),
        },
        if lab.quick {
            ", shortened: for orientation only"
        } else {
            ""
        },
    );
    if brokers.iter().any(|broker| *broker != BrokerName::Corelane) {
        text += &format!(
            "Apache Kafka {}, KRaft, heap of 1 GiB, G1. ",
            lab.kafka_version
        );
    }
    text += "A factor above 1 is in favour of Corelane. MB and GB are powers of ten, of message \
             values.\n\n";
    text += &figures.table(brokers).to_string();
    text += "\nLimits of the machine, measured in the same run:\n\n";
    text += &crate::limits_table(limits).to_string();
    let shares = shares(lab, figures, limits, brokers);
    if !shares.is_empty() {
        text += &format!("\n{}\n", shares.join("\n"));
    }
    if !lab.notes.is_empty() {
        let notes: Vec<String> = lab.notes.iter().map(|note| format!("- {note}")).collect();
        text += &format!("\nNotes:\n\n{}\n", notes.join("\n"));
    }
    text
}

fn layout(layout: Layout, nodes: i32) -> String {
    let who = match nodes {
        1 => "The broker has".to_owned(),
        nodes => format!("{nodes} nodes with a replica of everything on each. Together they have"),
    };
    let share = match (layout, nodes) {
        (Layout::A, 1) => "one core, the client another.",
        (Layout::A, _) => "all cores but the last, which the client has (W7, W9 and W9L: all).",
        (Layout::B, _) => "all cores, as has the client: the latencies say little.",
    };
    format!("{who} {share}")
}

/// Figures as shares of physical limits.
fn shares(lab: &Lab, figures: &Figures, limits: &Limits, brokers: &[BrokerName]) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(floor_us) = lab.floor_ack_us {
        lines.push(format!(
            "- The load generator's own floor, W1 against a broker that does nothing: ack p50 {}.",
            time_us(floor_us)
        ));
    }
    for broker in brokers {
        let title = title(*broker);
        if let Some(us) = figures.median(*broker, "W1", "ack p50") {
            let floor_us = limits.loopback_rtt_p50_us + limits.durable_write_p50_us;
            lines.push(format!(
                "- W1, {title}: ack p50 is {} x (round trip + durable write of 16 KiB), linger \
                 included.",
                number(us / floor_us)
            ));
        }
        for batches in ["16 KiB", "256 KiB"] {
            let name = format!("unbounded, {batches} batches");
            if let Some(mb_s) = figures.median(*broker, "W2", &name) {
                let share = 100.0 * mb_s / limits.direct_write_mb_s.min(limits.loopback_mb_s);
                lines.push(format!(
                    "- W2, {title}: {name}, {} % of the slower of disk and loopback.",
                    number(share)
                ));
            }
        }
    }
    lines
}
