//! The loop of a run: what is due is handed to producers, what is ready is sent, what has arrived
//! is read; then it sleeps until the next of these can happen.

use std::time::Duration;

use protocol::api::ApiKey;

use super::consumer::Consumer;
use super::outcome::{Finished, Outcome};
use super::producer::Producer;
use super::tally::Tally;
use super::{Pace, Producing, ReadFrom, Reading, Spec};
use crate::clock::{monotonic_ns, ns};
use crate::error::{During, Result};
use crate::machine::Usage;
use crate::schedule::{Schedule, Window};
use crate::wire::{Connection, Control, Event, Poll};

const CONTROL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long messages of the window may still be acknowledged and received after it.
const GRACE: Duration = Duration::from_secs(20);

/// Runs `spec` on this thread, and gives what came of it.
pub fn run(spec: &Spec) -> Result<Outcome> {
    spec.check()?;
    let mut control = Control::connect(spec.address, CONTROL_TIMEOUT)?;
    let poll = Poll::new().during("creating an epoll")?;
    let mut producers = Vec::new();
    if let Some(producing) = &spec.producing {
        producers = open_producers(spec, producing, &mut control, &poll)?;
    }
    let mut readers = Vec::new();
    if let Some(reading) = spec.reading {
        let first_token = producers.len() * spec.topic.brokers.len();
        readers = open_readers(spec, reading, &mut control, &poll, first_token)?;
    }
    let start_ns = monotonic_ns();
    let window_ns = start_ns + ns(spec.warm_up);
    let window = Window {
        start_ns: window_ns,
        end_ns: window_ns + ns(spec.duration),
    };
    let schedule = match spec.producing.as_ref().map(|producing| producing.pace) {
        Some(Pace::PerSecond(rate)) => Some(Schedule::new(start_ns, window.end_ns, rate)),
        _ => None,
    };
    let drive = Drive {
        spec,
        poll,
        producers,
        readers,
        schedule,
        tally: Tally::new(window),
        usage: Vec::with_capacity(2),
    };
    drive.run()
}

fn open_producers(
    spec: &Spec,
    producing: &Producing,
    control: &mut Control,
    poll: &Poll,
) -> Result<Vec<Producer>> {
    let version = control.version(ApiKey::Produce)?;
    let open = |number: usize| {
        let connections = connections(spec, poll, number * spec.topic.brokers.len())?;
        let id = match producing.idempotent {
            true => Some(control.producer_id()?),
            false => None,
        };
        Ok(Producer::new(
            connections,
            version,
            spec,
            producing,
            id,
            number as u64,
        ))
    };
    (0..producing.producers).map(open).collect()
}

/// One to each broker that leads something, with tokens from `first_token` on.
fn connections(spec: &Spec, poll: &Poll, first_token: usize) -> Result<Vec<Connection>> {
    let brokers = spec.topic.brokers.iter().enumerate();
    brokers
        .map(|(broker, address)| Connection::open(*address, poll, first_token + broker))
        .collect()
}

/// The parts of all readers, one for each broker; those of one reader stand together.
fn open_readers(
    spec: &Spec,
    reading: Reading,
    control: &mut Control,
    poll: &Poll,
    first_token: usize,
) -> Result<Vec<Consumer>> {
    let version = control.version(ApiKey::Fetch)?;
    let ends = control.end_offsets(&spec.topic)?;
    let brokers = spec.topic.brokers.len();
    let mut readers = Vec::with_capacity(reading.readers * brokers);
    for number in 0..reading.readers {
        let connections = connections(spec, poll, first_token + number * brokers)?;
        for (broker, connection) in connections.into_iter().enumerate() {
            let topic = spec.topic.clone();
            let reader = Consumer::new(connection, version, topic, broker, reading, &ends);
            readers.push(reader);
        }
    }
    Ok(readers)
}

struct Drive<'a> {
    spec: &'a Spec,
    poll: Poll,
    producers: Vec<Producer>,
    readers: Vec<Consumer>,
    schedule: Option<Schedule>,
    tally: Tally,
    /// At the beginning of the window, and at its end.
    usage: Vec<Usage>,
}

impl Drive<'_> {
    fn run(mut self) -> Result<Outcome> {
        loop {
            let now_ns = monotonic_ns();
            self.observe(now_ns);
            let Window { end_ns, .. } = self.tally.window;
            self.take_due(now_ns);
            for producer in &mut self.producers {
                producer.send(now_ns, now_ns < end_ns, &self.poll, &mut self.tally)?;
            }
            for reader in &mut self.readers {
                reader.send(&self.poll)?;
            }
            let is_measured = self.usage.len() == 2;
            if is_measured && (now_ns >= end_ns + ns(GRACE) || self.is_done()) {
                break;
            }
            let deadline_ns = self.next_ns(now_ns);
            for event in self
                .poll
                .wait(Some(deadline_ns))
                .during("waiting for the broker")?
            {
                self.ready(event)?;
            }
        }
        Ok(self.finish())
    }

    /// Reads all counters when the window opens, and when it closes.
    fn observe(&mut self, now_ns: u64) {
        let Window { start_ns, end_ns } = self.tally.window;
        if (self.usage.is_empty() && now_ns >= start_ns)
            || (self.usage.len() == 1 && now_ns >= end_ns)
        {
            self.usage.push(Usage::now(&self.spec.brokers));
        }
    }

    /// Hands every message that is due to its producer: in turn, so that each has an equal share.
    fn take_due(&mut self, now_ns: u64) {
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        let producers = self.producers.len() as u64;
        while let Some((number, intended_ns)) = schedule.take(now_ns) {
            self.producers[(number % producers) as usize].push(intended_ns, now_ns);
            self.tally.generated += 1;
        }
    }

    /// When something is to be done even if nothing arrives.
    fn next_ns(&self, now_ns: u64) -> u64 {
        let Window { start_ns, end_ns } = self.tally.window;
        let next_phase_ns = [start_ns, end_ns, end_ns + ns(GRACE)]
            .into_iter()
            .find(|at_ns| *at_ns > now_ns)
            .unwrap_or(now_ns);
        let next_message_ns = self.schedule.as_ref().and_then(Schedule::next_ns);
        let next_batch_ns = self.producers.iter().filter_map(Producer::ready_ns).min();
        [next_message_ns, next_batch_ns]
            .into_iter()
            .flatten()
            .fold(next_phase_ns, u64::min)
    }

    fn ready(&mut self, event: Event) -> Result<()> {
        let brokers = self.spec.topic.brokers.len();
        let (owner, lane) = (event.token / brokers, event.token % brokers);
        match owner.checked_sub(self.producers.len()) {
            None => {
                let producer = &mut self.producers[owner];
                if event.writable {
                    producer.flush(lane, &self.poll)?;
                }
                if event.readable {
                    producer.receive(lane, &mut self.tally)?;
                }
            }
            Some(reader) => {
                let reader = &mut self.readers[reader * brokers + lane];
                if event.writable {
                    reader.connection.flush(&self.poll)?;
                }
                if event.readable {
                    reader.receive(&mut self.tally)?;
                }
            }
        }
        Ok(())
    }

    /// Whether nothing of the window can still arrive.
    fn is_done(&self) -> bool {
        let tailing = self
            .spec
            .reading
            .is_some_and(|reading| reading.from == ReadFrom::End);
        let acked = self.tally.acked;
        self.producers.iter().all(Producer::is_done)
            && (!tailing || self.received().all(|received| received >= acked))
    }

    /// Messages of each reader.
    fn received(&self) -> impl Iterator<Item = u64> {
        let brokers = self.spec.topic.brokers.len();
        let readers = self.readers.chunks(brokers);
        readers.map(|parts| parts.iter().map(|part| part.received).sum())
    }

    fn finish(self) -> Outcome {
        let spent = match self.usage.as_slice() {
            [start, end] => end.since(start),
            _ => unreachable!("the loop ends after the window, where counters are read"),
        };
        let received = self.received().collect();
        Outcome::of(Finished {
            spec: self.spec,
            schedule: self.schedule.as_ref(),
            tally: &self.tally,
            received,
            spent,
        })
    }
}
