//! The same workloads on Corelane and on Apache Kafka: one machine, one client, in turn.
//!
//! Every figure stands with its durability class, as a ratio, and where there is one beside the
//! physical limit measured in the same run. Kafka runs twice: as it comes, acknowledging from the
//! page cache, and with `flush.messages=1`, the promise that Corelane makes by default.

mod broker;
mod corelane;
mod figures;
mod kafka;
mod lab;
mod report;
mod standing;
mod traffic;

use std::time::Duration;

use crate::arguments::{BrokerName, CompareArguments, Layout};
use crate::echo::write_section;
use crate::error::{BenchError, Result};
use crate::machine::measure_limits;
use figures::Figures;
use lab::Lab;

/// What can be asked for. W7 and W8 are one scenario and share their brokers.
const WORKLOADS: [&str; 6] = ["W1", "W2", "W4", "W5", "W7", "W8"];

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
            ..plan
        }
    }
}

/// Runs what was asked for, prints the tables, and writes them where it was asked for.
pub fn compare(arguments: CompareArguments) -> Result<()> {
    let chosen = chosen_workloads(&arguments.workloads)?;
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
                    _ if *broker == BrokerName::KafkaSync => {}
                    _ => standing::many_partitions(&mut lab, *broker, &mut figures)?,
                }
            }
        }
    }
    let text = report::report(&lab, &figures, &limits, &arguments.brokers);
    print!("{text}");
    match &arguments.write {
        Some(path) => write_section(path, section(arguments.layout), &text),
        None => Ok(()),
    }
}

fn section(layout: Layout) -> &'static str {
    match layout {
        Layout::A => "compare",
        Layout::B => "compare-b",
    }
}

/// In their order, W7 and W8 as one.
fn chosen_workloads(asked: &[String]) -> Result<Vec<&'static str>> {
    if let Some(unknown) = asked
        .iter()
        .find(|asked| !WORKLOADS.contains(&asked.as_str()))
    {
        return Err(BenchError::Unusable(format!(
            "workload {unknown} is not known; choose from {}",
            WORKLOADS.join(", ")
        )));
    }
    let is_asked = |name: &str| asked.iter().any(|asked| asked == name);
    let mut chosen: Vec<&str> = WORKLOADS
        .into_iter()
        .filter(|name| is_asked(name))
        .collect();
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
        let chosen = |names: &[&str]| {
            chosen_workloads(
                &names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(chosen(&["W4", "W1"]).unwrap(), ["W1", "W4"]);
        assert_eq!(chosen(&["W7", "W8"]).unwrap(), ["W8"], "one scenario");
        assert_eq!(chosen(&["W7"]).unwrap(), ["W7"]);
        assert!(chosen(&["W3"]).is_err());
    }
}
