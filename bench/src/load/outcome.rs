//! What came of a run, as numbers, JSON and a table.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tally::Tally;
use super::{ReadFrom, Spec};
use crate::latency::Quantiles;
use crate::machine::Spent;
use crate::schedule::{Schedule, is_sustained};
use crate::table::{Table, number, time_us};

/// The result of one run. MB are 10^6 bytes, of message values.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Messages a second that were meant to leave; absent without an open loop.
    pub target_per_s: Option<f64>,
    /// Messages acknowledged a second while the window was open.
    pub achieved_per_s: f64,
    pub achieved_mb_s: f64,
    /// Whether the target was reached without errors. Without an open loop: without errors.
    pub sustained: bool,
    pub requests_per_s: f64,
    pub messages_per_batch: f64,
    /// From intended time to acknowledgement; absent if unsustained.
    pub ack: Option<Quantiles>,
    /// From intended time to receipt, of all readers; absent if unsustained.
    pub end_to_end: Option<Quantiles>,
    /// Received a second, by all readers together.
    pub received_per_s: f64,
    /// With the format's share.
    pub received_mb_s: f64,
    /// Messages that the broker refused.
    pub failed: u64,
    /// Messages without an answer at the end of the grace period.
    pub unanswered: u64,
    /// Acknowledged messages that some reader had not received by then.
    pub missing: u64,
    /// Answers with errors, by the code's name.
    pub errors: BTreeMap<String, u64>,
    pub spent: Spent,
}

/// All that an outcome is made of.
pub(super) struct Finished<'a> {
    pub spec: &'a Spec,
    pub schedule: Option<&'a Schedule>,
    pub tally: &'a Tally,
    /// Messages of each reader in the whole run.
    pub received: Vec<u64>,
    pub spent: Spent,
}

impl Outcome {
    pub(super) fn of(finished: Finished<'_>) -> Outcome {
        let Finished {
            spec,
            schedule,
            tally,
            received,
            spent,
        } = finished;
        let seconds = tally.window.seconds();
        let per_s = |count: u64| count as f64 / seconds;
        let achieved_per_s = per_s(tally.acked_in_window);
        let planned =
            schedule.map(|schedule| schedule.planned(tally.window.start_ns, tally.window.end_ns));
        let target_per_s = planned.map(per_s);
        let unanswered = tally.generated - tally.acked - tally.failed;
        let tailing = spec
            .reading
            .is_some_and(|reading| reading.from == ReadFrom::End);
        let behind = received
            .iter()
            .map(|count| tally.acked.saturating_sub(*count));
        let missing = if tailing {
            behind.max().unwrap_or(0)
        } else {
            0
        };
        let sustained = tally.errors.is_empty()
            && unanswered == 0
            && missing == 0
            && target_per_s.is_none_or(|target| is_sustained(achieved_per_s, target));
        let told = |quantiles: Option<Quantiles>| quantiles.filter(|_| sustained);
        Outcome {
            target_per_s,
            achieved_per_s,
            achieved_mb_s: achieved_per_s * spec.message_bytes as f64 / 1e6,
            sustained,
            requests_per_s: per_s(tally.requests_in_window),
            messages_per_batch: ratio(tally.acked_in_window, tally.batches_in_window),
            ack: told(tally.ack.quantiles()),
            end_to_end: told(tally.end_to_end.quantiles()),
            received_per_s: per_s(tally.received_in_window),
            received_mb_s: per_s(tally.received_bytes_in_window) / 1e6,
            failed: tally.failed,
            unanswered,
            missing,
            errors: tally
                .errors
                .iter()
                .map(|(code, n)| (code.name().to_owned(), *n))
                .collect(),
            spent,
        }
    }

    /// GB produced in the window.
    pub fn produced_gb(&self) -> f64 {
        self.achieved_mb_s * self.spent.wall_s / 1e3
    }

    /// GB received in the window, by all readers together.
    pub fn received_gb(&self) -> f64 {
        self.received_mb_s * self.spent.wall_s / 1e3
    }

    /// For people.
    pub fn table(&self) -> Table {
        let mut table = Table::new(["figure", "value"]);
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        if let Some(target) = self.target_per_s {
            let verdict = if self.sustained {
                "sustained"
            } else {
                "UNSUSTAINED"
            };
            row(
                "target",
                format!("{} messages/s, {verdict}", number(target)),
            );
        }
        row(
            "acknowledged",
            per_second(self.achieved_per_s, self.achieved_mb_s),
        );
        row("requests", format!("{}/s", number(self.requests_per_s)));
        row("messages in a batch", number(self.messages_per_batch));
        for (name, quantiles) in [("ack", self.ack), ("end to end", self.end_to_end)] {
            for (quantile, us) in quantiles.iter().flat_map(Quantiles::told) {
                row(&format!("{name} {quantile}"), time_us(us as f64));
            }
        }
        if self.received_per_s > 0.0 {
            row(
                "received",
                per_second(self.received_per_s, self.received_mb_s),
            );
        }
        let troubles = [
            ("failed", self.failed),
            ("unanswered", self.unanswered),
            ("missing", self.missing),
        ];
        for (name, count) in troubles.into_iter().filter(|(_, count)| *count > 0) {
            row(name, format!("{count} messages"));
        }
        for (code, count) in &self.errors {
            row(code, format!("{count} answers"));
        }
        let gb = if self.received_gb() > 0.0 && self.produced_gb() == 0.0 {
            self.received_gb()
        } else {
            self.produced_gb()
        };
        let Spent {
            broker_cpu_s,
            machine_cpu_s,
            client_cpu_s,
            cpu_pressure_percent,
            ..
        } = self.spent;
        let cpus = [
            ("broker CPU", broker_cpu_s),
            ("machine CPU", machine_cpu_s),
            ("client CPU", Some(client_cpu_s)),
        ];
        for (name, cpu_s) in cpus {
            if let Some(cpu_s) = cpu_s {
                let share = 100.0 * cpu_s / self.spent.wall_s;
                let per_gb = number(cpu_s / gb);
                row(
                    name,
                    format!("{} % of a core, {per_gb} s/GB", number(share)),
                );
            }
        }
        if let Some(percent) = cpu_pressure_percent {
            row("CPU pressure", format!("{} %", number(percent)));
        }
        table
    }
}

fn per_second(messages: f64, mb: f64) -> String {
    format!("{} messages/s, {} MB/s", number(messages), number(mb))
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NS_PER_S;
    use crate::load::{Acks, Pace, Producing};
    use crate::schedule::Window;
    use crate::wire::Topic;
    use std::time::Duration;

    fn spec() -> Spec {
        Spec {
            address: ([127, 0, 0, 1], 9).into(),
            topic: Topic {
                name: "t".into(),
                id: Default::default(),
                partitions: 1,
                brokers: vec![([127, 0, 0, 1], 9).into()],
                leaders: vec![0],
            },
            message_bytes: 1000,
            producing: Some(Producing {
                producers: 1,
                pace: Pace::PerSecond(1000.0),
                linger: Duration::ZERO,
                batch_bytes: 1,
                request_bytes: 1,
                in_flight_max: 1,
                acks: Acks::All,
                idempotent: true,
                keyed: false,
            }),
            reading: None,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(2),
            brokers: Vec::new(),
        }
    }

    fn outcome(acked: u64) -> Outcome {
        let window = Window {
            start_ns: NS_PER_S,
            end_ns: 3 * NS_PER_S,
        };
        let schedule = Schedule::new(0, window.end_ns, 1000.0);
        let mut tally = Tally::new(window);
        let times: Vec<u64> = (1000..1000 + acked)
            .map(|i| schedule.intended_ns(i))
            .collect();
        tally.batch_acked(&times, 2 * NS_PER_S);
        tally.generated = acked;
        let spent = Spent {
            wall_s: 2.0,
            ..Spent::default()
        };
        Outcome::of(Finished {
            spec: &spec(),
            schedule: Some(&schedule),
            tally: &tally,
            received: vec![],
            spent,
        })
    }

    #[test]
    fn an_unsustained_row_has_no_latencies() {
        let good = outcome(1980);
        assert_eq!(
            (good.target_per_s, good.achieved_per_s),
            (Some(1000.0), 990.0)
        );
        assert!(good.sustained && good.ack.is_some());
        assert_eq!(good.produced_gb(), 0.00198);
        let bad = outcome(1979);
        assert!(!bad.sustained && bad.ack.is_none());
        assert!(bad.table().to_string().contains("UNSUSTAINED"));
    }
}
