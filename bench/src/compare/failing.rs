//! W9 and W9L: how long clients wait when a node of a cluster dies or is stopped, and when it led a
//! thousand partitions.
//!
//! An incident begins only when the cluster is whole again. The client is [`crate::failover`]'s.
//! What was acknowledged must be there at the end.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::broker::PATIENCE;
use super::brokers::Brokers;
use super::figures::{Figures, Unit};
use super::lab::Lab;
use super::whole;
use crate::arguments::BrokerName;
use crate::error::{BenchError, Result};
use crate::failover::{Client, Incident, Settings, quantile};
use crate::table::time_us;
use crate::wire::{Control, Placement, Topic};

const PARTITIONS: i32 = 16;
/// 5 MB/s of 1 KiB: half of W1.
const OUTAGES: Settings = Settings {
    message_bytes: 1024,
    messages_per_s: 5e6 / 1024.0,
};
/// Partitions whose leaders fail together, and the load on them: two small messages a second each.
const LEADERS: i32 = 1000;
const MANY: Settings = Settings {
    message_bytes: 100,
    messages_per_s: 2000.0,
};
/// A load runs so long before something happens to it.
const STEADY: Duration = Duration::from_secs(2);
/// How long an incident is watched at least.
const WATCHED: Duration = Duration::from_secs(2);
/// Without any load for so long, everything that can sleep does.
const ASLEEP: Duration = Duration::from_secs(10);
/// How long an incident may last.
const INCIDENT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Killed,
    Stopped,
}

/// A cluster with a topic, and who produces to it.
struct Scene<'a> {
    lab: &'a Lab,
    broker: BrokerName,
    brokers: Brokers,
    topic: Topic,
    client: Client,
}

/// W9: one node after the other is killed, and then stopped, under load.
pub fn outages(lab: &mut Lab, broker: BrokerName, figures: &mut Figures) -> Result<()> {
    let times = incidents(lab, broker);
    let mut scene = Scene::open(lab, broker, PARTITIONS, Anywhere, OUTAGES)?;
    for (ending, what) in [(Ending::Killed, "kill -9"), (Ending::Stopped, "SIGTERM")] {
        scene.client.go();
        let mut seen = Vec::with_capacity(times);
        for number in 0..times {
            scene.client.run(STEADY, |_| false)?;
            let victim = scene.client.leader(number % PARTITIONS as usize);
            let victim = victim.ok_or_else(nobody_leads)?;
            seen.push(scene.incident(ending, victim, what)?);
        }
        scene.client.rest()?;
        add_waits(figures, broker, what, &seen);
    }
    scene.nothing_lost()
}

/// Where the replicas are.
use Place::{Anywhere, FirstOn};
#[derive(Clone, Copy)]
enum Place {
    Anywhere,
    /// All are led by this node.
    FirstOn(i32),
}

/// W9L: the node that leads most of a thousand partitions is killed.
pub fn many_leaders(lab: &mut Lab, broker: BrokerName, figures: &mut Figures) -> Result<()> {
    let times = incidents(lab, broker).div_ceil(5);
    for (place, share) in [(Anywhere, "a third"), (FirstOn(2), "all")] {
        let mut scene = Scene::open(lab, broker, LEADERS, place, MANY)?;
        for (asleep, state) in [(true, "idle"), (false, "under load")] {
            let what = format!("kill -9 of the leader of {share} of {LEADERS} partitions, {state}");
            let mut seen = Vec::with_capacity(times);
            for _ in 0..times {
                match asleep {
                    true => {
                        // Who leads now is found out before the rest, as nobody asks during it.
                        scene.client.push_all();
                        scene.client.rest()?;
                        thread::sleep(ASLEEP);
                        scene.client.rested();
                    }
                    false => {
                        scene.client.go();
                        scene.client.run(STEADY, |_| false)?;
                    }
                }
                let victim = scene.client.greatest_leader().ok_or_else(nobody_leads)?;
                seen.push(scene.incident(Ending::Killed, victim, &what)?);
                scene.client.rest()?;
            }
            add_recovery(figures, broker, &what, &seen);
        }
        scene.nothing_lost()?;
    }
    Ok(())
}

/// Kafka takes ten times as long for each, so fewer have to do.
fn incidents(lab: &Lab, broker: BrokerName) -> usize {
    match broker {
        BrokerName::Corelane => lab.plan.incidents,
        _ => lab.plan.incidents.div_ceil(4),
    }
}

fn nobody_leads() -> BenchError {
    BenchError::Unusable("no partition has a leader".to_owned())
}

impl Scene<'_> {
    fn open<'a>(
        lab: &'a Lab,
        broker: BrokerName,
        partitions: i32,
        place: Place,
        settings: Settings,
    ) -> Result<Scene<'a>> {
        let mut brokers = lab.brokers_everywhere(broker)?;
        let mut control = brokers.control()?;
        let first = |first: i32| {
            let others = (1..=lab.nodes).filter(move |node| *node != first);
            std::iter::once(first).chain(others).collect::<Vec<i32>>()
        };
        let topic = match place {
            Anywhere => lab.topic(broker, &mut control, "failing", partitions)?,
            FirstOn(node) => {
                let nodes = first(node);
                let placement = Placement::On(&nodes);
                lab.topic_placed(broker, &mut control, "failing", partitions, placement)?
            }
        };
        let client = Client::open(&mut control, &topic, settings)?;
        Ok(Scene {
            lab,
            broker,
            brokers,
            topic,
            client,
        })
    }

    /// A node fails, and what clients see until it is back and everything is as it was.
    fn incident(&mut self, ending: Ending, victim: i32, what: &str) -> Result<Incident> {
        self.client.begin(victim);
        match ending {
            Ending::Killed => self.brokers.kill(victim)?,
            Ending::Stopped => self.brokers.terminate(victim)?,
        }
        // Every partition is wanted now, whether or not its next message is due.
        self.client.push_all();
        let began = Instant::now();
        let brokers = &mut self.brokers;
        let mut failed = None;
        let ended = self.client.run(INCIDENT, |client| {
            if began.elapsed() < WATCHED || !client.all_elsewhere() {
                return false;
            }
            brokers.has_ended(victim).unwrap_or_else(|error| {
                failed = Some(error);
                true
            })
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let incident = self.client.incident().ok_or_else(nobody_leads)?;
        eprintln!(
            "{what}: node {victim} led {}, longest wait {}, all elsewhere after {}",
            incident.partitions,
            time_us(incident.longest_ns as f64 / 1e3),
            time_us(incident.elsewhere_ns as f64 / 1e3),
        );
        if !ended {
            return Err(BenchError::TimedOut {
                what: format!("{what}: an acknowledgement in every partition"),
                seconds: INCIDENT.as_secs(),
            });
        }
        self.mend(victim)?;
        Ok(incident)
    }

    /// Starts the node again and produces on until the cluster is whole.
    fn mend(&mut self, victim: i32) -> Result<()> {
        self.lab
            .start_again(self.broker, &mut self.brokers, victim)?;
        let addresses = self.brokers.addresses();
        let (name, nodes) = (self.topic.name.clone(), self.lab.nodes as usize);
        // Kafka gives the lead back after five minutes only.
        let preferred = self.broker == BrokerName::Corelane;
        let done = Arc::new(());
        let working = Arc::clone(&done);
        let waiting = thread::spawn(move || {
            let _working = working;
            whole::wait(&addresses, &name, nodes, preferred, PATIENCE)
        });
        // The thread has the other one until it ends.
        self.client
            .run(2 * PATIENCE, |_| Arc::strong_count(&done) == 1)?;
        let outcome = waiting.join();
        outcome.unwrap_or_else(|_| Err(BenchError::Unusable("the watch has died".to_owned())))
    }

    /// Every message that was acknowledged is in a log, and none twice.
    fn nothing_lost(mut self) -> Result<()> {
        self.client.rest()?;
        let mut control = Control::connect(self.brokers.homes[0].address(), PATIENCE)?;
        let topic = control.topic(&self.topic.name)?;
        let ends = control.end_offsets(&topic)?;
        for (partition, (acked, end)) in self.client.acked().iter().zip(ends).enumerate() {
            // Each partition had a record before the client came.
            let expected = *acked as i64 + 1;
            if end != expected {
                return Err(BenchError::Unusable(format!(
                    "partition {partition} ends at {end} instead of {expected} after failures"
                )));
            }
        }
        Ok(())
    }
}

/// Quantiles over incidents: of the partition that waited longest in each.
fn add_waits(figures: &mut Figures, broker: BrokerName, what: &str, seen: &[Incident]) {
    let sorted = |pick: fn(&Incident) -> u64| {
        let mut all: Vec<u64> = seen.iter().map(pick).collect();
        all.sort_unstable();
        all
    };
    let longest = sorted(|incident| incident.longest_ns);
    let mut add = |figure: &str, ns: Option<u64>| {
        let us = ns.map(|ns| ns as f64 / 1e3);
        let figure = format!("{what}, longest wait for an acknowledgement, {figure}");
        figures.add(broker, "W9", figure, Unit::Us, us);
    };
    add("p50", quantile(&longest, 0.5));
    add("p99", quantile(&longest, 0.99));
    add("max", longest.last().copied());
    let median = sorted(|incident| incident.median_ns);
    add("median partition, p50", quantile(&median, 0.5));
    let count = Some(seen.len() as f64);
    figures.add(broker, "W9", format!("{what}, times"), Unit::Times, count);
}

fn add_recovery(figures: &mut Figures, broker: BrokerName, what: &str, seen: &[Incident]) {
    let mut all: Vec<u64> = seen.iter().map(|incident| incident.elsewhere_ns).collect();
    all.sort_unstable();
    for (figure, ns) in [("p50", quantile(&all, 0.5)), ("max", all.last().copied())] {
        let us = ns.map(|ns| ns as f64 / 1e3);
        let figure = format!("{what}: every partition acknowledges again, {figure}");
        figures.add(broker, "W9L", figure, Unit::Us, us);
    }
    let count = Some(seen.len() as f64);
    figures.add(broker, "W9L", format!("{what}: times"), Unit::Times, count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(longest_ns: u64) -> Incident {
        Incident {
            partitions: 5,
            longest_ns,
            median_ns: longest_ns / 2,
            elsewhere_ns: longest_ns / 4,
        }
    }

    #[test]
    fn incidents_become_quantiles_of_the_worst_partition() {
        let seen: Vec<Incident> = [4000, 2000, 100_000, 3000].map(incident).to_vec();
        let mut figures = Figures::default();
        add_waits(&mut figures, BrokerName::Corelane, "SIGTERM", &seen);
        add_recovery(&mut figures, BrokerName::Corelane, "kill", &seen);
        let figure = |workload, name: &str| figures.median(BrokerName::Corelane, workload, name);
        let wait = "SIGTERM, longest wait for an acknowledgement,";
        assert_eq!(figure("W9", &format!("{wait} p50")), Some(3.0));
        assert_eq!(figure("W9", &format!("{wait} p99")), Some(100.0));
        assert_eq!(
            figure("W9", &format!("{wait} median partition, p50")),
            Some(1.5)
        );
        assert_eq!(figure("W9", "SIGTERM, times"), Some(4.0));
        let again = "kill: every partition acknowledges again, max";
        assert_eq!(figure("W9L", again), Some(25.0));
    }
}
