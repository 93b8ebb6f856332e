//! The load generator: one thread, one epoll, producers and consumers of one topic. A producer and a
//! reader have a connection to each broker that leads partitions of it.
//!
//! The intended time of each message travels in its value ([`stamp`]), so a latency counts from the
//! moment when the message was meant to leave, however late the generator or the broker is.
//! Deliberately absent: leaders that move, transactions, consumer groups (a reader here stands for a
//! group: it reads all partitions), compression, and retries: a run in which the broker refused
//! something is reported with the errors and counts as unsustained. After a refusal an idempotent
//! producer's later batches fail as well (OUT_OF_ORDER_SEQUENCE_NUMBER); the first code matters.

mod accumulator;
mod consumer;
mod drive;
mod outcome;
mod producer;
mod stamp;
mod tally;

use std::net::SocketAddr;
use std::time::Duration;

pub use drive::run;
pub use outcome::Outcome;

use crate::error::{BenchError, Result};
use crate::machine::Process;
use crate::wire::Topic;

/// What to do to a broker.
#[derive(Clone, Debug)]
pub struct Spec {
    pub address: SocketAddr,
    pub topic: Topic,
    /// Size of each message's value.
    pub message_bytes: usize,
    pub producing: Option<Producing>,
    pub reading: Option<Reading>,
    /// Runs before the measured time, and does not count.
    pub warm_up: Duration,
    pub duration: Duration,
    /// The brokers' processes if their CPU is to be measured.
    pub brokers: Vec<Process>,
}

/// How messages are produced.
#[derive(Clone, Debug)]
pub struct Producing {
    /// Each has connections of its own.
    pub producers: usize,
    pub pace: Pace,
    /// How long a batch waits for more messages.
    pub linger: Duration,
    /// Size at which a batch is full.
    pub batch_bytes: usize,
    /// Size at which a request is full; it has one batch of a partition at most.
    pub request_bytes: usize,
    /// Requests that a producer may have sent without an answer.
    pub in_flight_max: usize,
    pub acks: Acks,
    pub idempotent: bool,
    /// Each message has a key of its own, which chooses the partition; else a producer stays with
    /// one partition until a batch has left.
    pub keyed: bool,
}

/// When messages are meant to leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Open loop: so many messages a second, all producers together.
    PerSecond(f64),
    /// As fast as answers come: each producer keeps all its requests under way full.
    Unbounded,
    /// Closed loop: each producer sends one message and waits for its answer.
    OneByOne,
}

/// Whose storage must have a batch before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Acks {
    /// Nobody's, and no answer is sent.
    None,
    /// The leader's.
    Leader,
    /// That of all in sync.
    All,
}

impl Acks {
    fn on_the_wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// How messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Each reads all partitions over connections of its own.
    pub readers: usize,
    pub from: ReadFrom,
    pub wait_ms: i32,
    /// Bytes wanted of one partition, and of all in one answer.
    pub partition_bytes: i32,
    pub answer_bytes: i32,
}

/// Where readers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the ends of the logs: they read what is produced, and its latency is measured.
    End,
    /// At the beginnings, and there again at the end, until the time is over: throughput only.
    Beginning,
}

impl Reading {
    /// Readers with the defaults of Kafka's consumer.
    pub fn new(readers: usize, from: ReadFrom) -> Reading {
        Reading {
            readers,
            from,
            wait_ms: 500,
            partition_bytes: 1 << 20,
            answer_bytes: 50 << 20,
        }
    }
}

impl Spec {
    /// Whether it can be run at all.
    fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(BenchError::Unusable(what.to_owned()));
        if self.message_bytes < stamp::BYTES {
            return refuse(
                "a message needs at least 8 bytes, for the time when it was meant to leave",
            );
        }
        let Some(producing) = &self.producing else {
            return match self.reading {
                Some(Reading {
                    from: ReadFrom::Beginning,
                    ..
                }) => Ok(()),
                _ => refuse("without producers, only readers from the beginning have work"),
            };
        };
        if producing.producers == 0 || producing.in_flight_max == 0 {
            return refuse("at least one producer and one request in flight are needed");
        }
        if producing.acks != Acks::All && producing.idempotent {
            return refuse("an idempotent producer needs acks=all");
        }
        if producing.acks == Acks::None && !matches!(producing.pace, Pace::PerSecond(_)) {
            return refuse("without acknowledgements only an open loop has a pace");
        }
        match producing.pace {
            Pace::PerSecond(rate) if !(rate.is_finite() && rate > 0.0) => {
                refuse("the rate must be a positive number")
            }
            _ => Ok(()),
        }
    }
}
