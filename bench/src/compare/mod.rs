//! The same workloads on Corelane and on Apache Kafka: one machine, one client, in turn.
//!
//! Every figure stands with its durability class, as a ratio, and where there is one beside the
//! physical limit measured in the same run. Kafka runs twice: as it comes, acknowledging from the
//! page cache, and with `flush.messages=1`, the promise that Corelane makes by default.

mod broker;
mod brokers;
mod corelane;
mod failing;
mod figures;
mod idle;
mod kafka;
mod lab;
mod report;
mod standing;
mod traffic;
mod whole;

use std::time::Duration;

use crate::arguments::{BrokerName, CompareArguments, Layout};
use crate::echo::write_section;
use crate::error::{BenchError, Result};
use crate::machine::measure_limits;
use figures::Figures;
use lab::Lab;

/// What can be asked for of one node. W7 and W8 are one scenario and share their brokers.
const WORKLOADS: [&str; 6] = ["W1", "W2", "W4", "W5", "W7", "W8"];
/// And of a cluster.
const CLUSTER_WORKLOADS: [&str; 6] = ["W1", "W2", "W4", "W7", "W9", "W9L"];
/// A cluster that loses one node has to have a majority left.
const NODES: [i32; 3] = [1, 3, 5];

/// How large and how long everything is.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: usize,
    warm_up: Duration,
    /// Of runs at a fixed rate that tell percentiles.
    latency_time: Duration,
    /// Of runs that tell a rate.
    rate_time: Duration,
    /// Of one step on the way up to the largest sustainable rate.
    step_time: Duration,
    /// Partitions of the topics over which single records are spread.
    spreads: &'static [i32],
    /// What readers from the beginning read.
    backlog_bytes: usize,
    /// Topics of [`standing::TOPIC_PARTITIONS`] partitions each, idle.
    idle_topics: usize,
    /// Time for a broker to come to rest, and to be watched at rest.
    idle_time: Duration,
    /// For a cluster to be watched at rest.
    rest_time: Duration,
    /// How often a node of a cluster is killed, and how often it is stopped.
    incidents: usize,
    /// Batches put into each idle partition before the broker is killed.
    idle_rounds: usize,
    limit_time: Duration,
    limit_bytes: u64,
}

impl Plan {
    fn of(arguments: &CompareArguments) -> Plan {
        let seconds = Duration::from_secs;
        let plan = match arguments.quick {
            true => Plan {
                rounds: 1,
                warm_up: seconds(3),
                latency_time: seconds(8),
                rate_time: seconds(4),
                step_time: seconds(2),
                spreads: &[100],
                backlog_bytes: 256 << 20,
                idle_topics: 1,
                idle_time: seconds(5),
                rest_time: seconds(10),
                incidents: 2,
                idle_rounds: 1,
                limit_time: seconds(1),
                limit_bytes: 256 << 20,
            },
            false => Plan {
                rounds: 3,
                warm_up: seconds(30),
                latency_time: seconds(120),
                rate_time: seconds(20),
                step_time: seconds(20),
                spreads: &[1, 100, 1000],
                backlog_bytes: 1 << 30,
                idle_topics: 10,
                idle_time: seconds(20),
                rest_time: seconds(60),
                incidents: 20,
                idle_rounds: 6,
                limit_time: seconds(5),
                limit_bytes: 1 << 30,
            },
        };
        let scaled = |time: Duration| time.mul_f64(arguments.times.clamp(0.1, 10.0));
        Plan {
            rounds: arguments.rounds.unwrap_or(plan.rounds),
            warm_up: scaled(plan.warm_up),
            latency_time: scaled(plan.latency_time),
            rate_time: scaled(plan.rate_time),
            step_time: scaled(plan.step_time),
            idle_time: scaled(plan.idle_time),
            rest_time: scaled(plan.rest_time),
            incidents: arguments.incidents.unwrap_or(plan.incidents),
            ..plan
        }
    }
}

/// Runs what was asked for, prints the tables, and writes them where it was asked for.
pub fn compare(arguments: CompareArguments) -> Result<()> {
    if !NODES.contains(&arguments.nodes) {
        let what = "--nodes is 1, 3 or 5: the others must have a majority when one fails";
        return Err(BenchError::Unusable(what.to_owned()));
    }
    let chosen = chosen_workloads(&arguments.workloads, arguments.nodes)?;
    let plan = Plan::of(&arguments);
    let mut lab = Lab::open(&arguments, plan)?;
    let mut figures = Figures::default();
    let cpus = crate::machine::available_cpus();
    let limits = measure_limits(lab.root(), plan.limit_bytes, plan.limit_time, &cpus)?;
    lab.pin_client()?;
    lab.generator_floor()?;
    for workload in chosen {
        for round in 1..=plan.rounds {
            for broker in &arguments.brokers {
                lab.begin(workload, round, *broker)?;
                match workload {
                    "W1" => traffic::fixed_rate(&mut lab, *broker, &mut figures)?,
                    "W2" => traffic::largest_rate(&mut lab, *broker, &mut figures)?,
                    "W4" => traffic::single_records(&mut lab, *broker, &mut figures)?,
                    "W5" => traffic::readers(&mut lab, *broker, &mut figures)?,
                    // Without load, or with a small one, syncs make no difference.
                    _ if *broker == BrokerName::KafkaSync => {}
                    "W9" => failing::outages(&mut lab, *broker, &mut figures)?,
                    "W9L" => failing::many_leaders(&mut lab, *broker, &mut figures)?,
                    _ if arguments.nodes > 1 => {
                        idle::replicated(&mut lab, *broker, &mut figures)?;
                    }
                    _ => standing::many_partitions(&mut lab, *broker, &mut figures)?,
                }
            }
        }
    }
    let text = report::report(&lab, &figures, &limits, &arguments.brokers);
    print!("{text}");
    match &arguments.write {
        Some(path) => write_section(path, section(arguments.layout, arguments.nodes), &text),
        None => Ok(()),
    }
}

fn section(layout: Layout, nodes: i32) -> &'static str {
    match (layout, nodes) {
        (Layout::A, 1) => "compare",
        (Layout::B, 1) => "compare-b",
        (Layout::A, _) => "compare-nodes",
        (Layout::B, _) => "compare-nodes-b",
    }
}

/// In their order, W7 and W8 of one node as one. All that there are if none is asked for.
fn chosen_workloads(asked: &[String], nodes: i32) -> Result<Vec<&'static str>> {
    let known = if nodes > 1 {
        CLUSTER_WORKLOADS
    } else {
        WORKLOADS
    };
    if let Some(unknown) = asked.iter().find(|asked| !known.contains(&asked.as_str())) {
        let nodes = if nodes > 1 {
            "several nodes"
        } else {
            "one node"
        };
        return Err(BenchError::Unusable(format!(
            "workload {unknown} is not known for {nodes}; choose from {}",
            known.join(", ")
        )));
    }
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let mut chosen: Vec<&str> = known.into_iter().filter(|name| is_asked(name)).collect();
    if chosen.contains(&"W8") {
        chosen.retain(|name| *name != "W7");
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_chosen_by_name() {
        let chosen = |names: &[&str], nodes| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen_workloads(&names, nodes)
        };
        assert_eq!(chosen(&["W4", "W1"], 1).unwrap(), ["W1", "W4"]);
        assert_eq!(chosen(&["W7", "W8"], 1).unwrap(), ["W8"], "one scenario");
        assert_eq!(chosen(&["W7"], 1).unwrap(), ["W7"]);
        assert!(chosen(&["W3"], 1).is_err());
        assert_eq!(chosen(&["W9", "W7"], 3).unwrap(), ["W7", "W9"]);
        assert_eq!(chosen(&[], 3).unwrap(), CLUSTER_WORKLOADS);
        assert!(chosen(&["W9"], 1).is_err() && chosen(&["W8"], 3).is_err());
    }

    #[test]
    fn each_kind_of_run_has_a_section_of_its_own() {
        let sections = [
            section(Layout::A, 1),
            section(Layout::B, 1),
            section(Layout::A, 3),
            section(Layout::B, 3),
        ];
        let distinct: std::collections::BTreeSet<_> = sections.into_iter().collect();
        assert_eq!(distinct.len(), sections.len());
    }
}
