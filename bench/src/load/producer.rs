//! One producer: for each broker an accumulator, a connection, and the requests under way.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::ErrorCode;
use protocol::api::{ApiKey, Message};
use protocol::codec::{Decoder, Str};
use protocol::messages::{
    PartitionProduceData, ProduceRequest, ProduceResponse, ResponseHeader, TopicProduceData,
};
use protocol::records::{BatchBuilder, advance_sequence};

use super::accumulator::{Accumulator, Limits, Pending};
use super::stamp;
use super::tally::Tally;
use super::{Acks, Pace, Producing, Spec};
use crate::clock::{monotonic_ns, ns, wall_ms};
use crate::error::{BenchError, Result};
use crate::wire::{Connection, Poll, Topic};

/// Bytes that the format adds to a message, about: lengths, deltas, a key of eight bytes.
const RECORD_OVERHEAD_BYTES: usize = 20;
/// How long the broker may take, as in Kafka's producer.
const TIMEOUT_MS: i32 = 30_000;

/// Id and epoch of an idempotent producer.
pub type ProducerId = (i64, i16);

pub struct Producer {
    /// By broker.
    lanes: Vec<Lane>,
    topic: Topic,
    version: i16,
    pace: Pace,
    acks: Acks,
    in_flight_max: usize,
    keyed: bool,
    batch_messages: usize,
    id: Option<ProducerId>,
    /// Next sequence number, by partition.
    sequences: Vec<i32>,
    random: u64,
    /// The partition that messages without keys go to for now.
    sticky: i32,
    value: Vec<u8>,
}

/// What goes to one broker.
struct Lane {
    connection: Connection,
    accumulator: Accumulator,
    in_flight: VecDeque<InFlight>,
    /// The partitions that the broker leads, and which of them is filled next without a schedule.
    partitions: Vec<i32>,
    next: usize,
    /// Batches of a request that is filled without a schedule.
    greedy_batches: usize,
}

impl Lane {
    fn may_send(&self, acks: Acks, in_flight_max: usize) -> bool {
        match acks {
            // Nothing tells how far the broker is but the socket.
            Acks::None => !self.connection.is_blocked(),
            _ => self.in_flight.len() < in_flight_max,
        }
    }

    fn has_nothing(&self) -> bool {
        self.accumulator.is_empty() && self.in_flight.is_empty()
    }
}

/// A request that waits for its answer.
struct InFlight {
    correlation_id: i32,
    batches: Vec<Pending>,
}

impl Producer {
    /// `connections` are by broker; `seed` tells the producers of a run apart.
    pub fn new(
        connections: Vec<Connection>,
        version: i16,
        spec: &Spec,
        producing: &Producing,
        id: Option<ProducerId>,
        seed: u64,
    ) -> Producer {
        let record_bytes = spec.message_bytes + RECORD_OVERHEAD_BYTES;
        let Producing {
            batch_bytes,
            request_bytes,
            linger,
            ..
        } = producing;
        let limits = match producing.pace {
            Pace::OneByOne => Limits::of(record_bytes, 1, 1, 0),
            _ => Limits::of(record_bytes, *batch_bytes, *request_bytes, ns(*linger)),
        };
        let partitions = spec.topic.partitions;
        let lane = |(broker, connection)| {
            let led: Vec<i32> = spec.topic.led_by(broker).collect();
            Lane {
                connection,
                accumulator: Accumulator::new(partitions, limits),
                in_flight: VecDeque::new(),
                next: seed as usize % led.len(),
                greedy_batches: limits.request_batches_max.min(led.len()),
                partitions: led,
            }
        };
        Producer {
            lanes: connections.into_iter().enumerate().map(lane).collect(),
            topic: spec.topic.clone(),
            version,
            pace: producing.pace,
            acks: producing.acks,
            in_flight_max: producing.in_flight_max,
            keyed: producing.keyed,
            batch_messages: limits.batch_messages_max,
            id,
            sequences: vec![0; partitions as usize],
            random: seed,
            sticky: (seed % partitions as u64) as i32,
            value: stamp::blank(spec.message_bytes, seed),
        }
    }

    /// Takes a message of the schedule.
    pub fn push(&mut self, intended_ns: u64, now_ns: u64) {
        let partition = match self.keyed {
            true => self.random_partition(),
            false => {
                let lane = &self.lanes[self.leader(self.sticky)];
                if !lane.accumulator.has_open(self.sticky) {
                    self.sticky = self.random_partition();
                }
                self.sticky
            }
        };
        self.append(partition, intended_ns, now_ns);
    }

    fn append(&mut self, partition: i32, intended_ns: u64, now_ns: u64) {
        let lane = self.leader(partition);
        let accumulator = &mut self.lanes[lane].accumulator;
        accumulator.push(partition, intended_ns, now_ns);
    }

    fn leader(&self, partition: i32) -> usize {
        self.topic.leaders[partition as usize]
    }

    fn random_partition(&mut self) -> i32 {
        (stamp::next_random(&mut self.random) % self.topic.partitions as u64) as i32
    }

    /// Sends all that is ready and allowed. `generating` is over when the run is: then nothing new
    /// is made, but what waits is sent.
    pub fn send(
        &mut self,
        now_ns: u64,
        generating: bool,
        poll: &Poll,
        tally: &mut Tally,
    ) -> Result<()> {
        for lane in 0..self.lanes.len() {
            while self.lanes[lane].may_send(self.acks, self.in_flight_max) {
                if generating {
                    self.generate(lane, now_ns, tally);
                }
                let batches = self.lanes[lane].accumulator.take(now_ns);
                if batches.is_empty() {
                    break;
                }
                self.send_request(lane, batches, now_ns, tally)?;
            }
            self.flush(lane, poll)?;
        }
        Ok(())
    }

    /// Writes what the socket to a broker takes.
    pub fn flush(&mut self, lane: usize, poll: &Poll) -> Result<()> {
        self.lanes[lane].connection.flush(poll)
    }

    /// Makes the messages of the next request to a broker if no schedule does.
    fn generate(&mut self, lane: usize, now_ns: u64, tally: &mut Tally) {
        match self.pace {
            Pace::PerSecond(_) => {}
            Pace::OneByOne if self.lanes.iter().all(Lane::has_nothing) => {
                let partition = self.random_partition();
                self.append(partition, now_ns, now_ns);
                tally.generated += 1;
            }
            Pace::OneByOne => {}
            Pace::Unbounded => {
                let lane = &mut self.lanes[lane];
                for _ in 0..lane.greedy_batches {
                    lane.next = (lane.next + 1) % lane.partitions.len();
                    let partition = lane.partitions[lane.next];
                    for _ in 0..self.batch_messages {
                        lane.accumulator.push(partition, now_ns, now_ns);
                    }
                }
                tally.generated += (lane.greedy_batches * self.batch_messages) as u64;
            }
        }
    }

    fn send_request(
        &mut self,
        lane: usize,
        batches: Vec<Pending>,
        now_ns: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        let partition_data = batches
            .iter()
            .map(|batch| PartitionProduceData {
                index: batch.partition,
                records: Some(self.batch(batch)),
            })
            .collect();
        let request = ProduceRequest {
            acks: self.acks.on_the_wire(),
            timeout_ms: TIMEOUT_MS,
            topic_data: vec![TopicProduceData {
                name: Str::copied(&self.topic.name),
                topic_id: self.topic.id,
                partition_data,
            }],
            ..Default::default()
        };
        let lane = &mut self.lanes[lane];
        let correlation_id = lane.connection.request(&request, self.version)?;
        if self.acks == Acks::None {
            tally.request_answered(now_ns);
            batches
                .iter()
                .for_each(|batch| tally.batch_acked(&batch.intended_ns, now_ns));
        } else {
            lane.in_flight.push_back(InFlight {
                correlation_id,
                batches,
            });
        }
        Ok(())
    }

    /// The record batch of `pending`, with the next sequence number of its partition.
    fn batch(&mut self, pending: &Pending) -> Bytes {
        let mut builder = BatchBuilder::new();
        if let Some((id, epoch)) = self.id {
            let sequence = &mut self.sequences[pending.partition as usize];
            builder = builder.producer(id, epoch, *sequence);
            *sequence = advance_sequence(*sequence, pending.intended_ns.len() as i32);
        }
        let timestamp_ms = wall_ms();
        for intended_ns in &pending.intended_ns {
            stamp::put(&mut self.value, *intended_ns);
            let key = intended_ns.to_be_bytes();
            let key = self.keyed.then_some(&key[..]);
            builder.push(timestamp_ms, key, Some(&self.value), &[]);
        }
        builder.build().into_bytes()
    }

    /// Reads what has arrived of a broker.
    pub fn receive(&mut self, lane: usize, tally: &mut Tally) -> Result<()> {
        if !self.lanes[lane].connection.receive()? {
            return Err(BenchError::Unusable(
                "the broker closed a producer's connection".into(),
            ));
        }
        while let Some(frame) = self.lanes[lane].connection.frame()? {
            self.answered(lane, frame, monotonic_ns(), tally)?;
        }
        Ok(())
    }

    fn answered(
        &mut self,
        lane: usize,
        frame: Bytes,
        now_ns: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut input = Decoder::new(frame);
        let header = ResponseHeader::decode(&mut input, ApiKey::Produce, self.version)?;
        let response = ProduceResponse::decode(&mut input, self.version)?;
        let sent = self.lanes[lane].in_flight.pop_front();
        let sent = sent.filter(|sent| sent.correlation_id == header.correlation_id);
        let Some(sent) = sent else {
            let what = format!("answer {} out of turn", header.correlation_id);
            return Err(BenchError::Garbled(what));
        };
        tally.request_answered(now_ns);
        let answers: Vec<(i32, ErrorCode)> = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
            .map(|answer| (answer.index, answer.error_code))
            .collect();
        for (place, batch) in sent.batches.iter().enumerate() {
            // Brokers answer in the order of the request; only if one does not, the answer is
            // searched.
            let answer = answers
                .get(place)
                .filter(|(index, _)| *index == batch.partition)
                .or_else(|| answers.iter().find(|(index, _)| *index == batch.partition));
            match answer {
                Some((_, code)) if code.is_none() => tally.batch_acked(&batch.intended_ns, now_ns),
                Some((_, code)) => tally.batch_failed(batch.intended_ns.len(), *code),
                None => {
                    let what = format!("an answer without partition {}", batch.partition);
                    return Err(BenchError::Garbled(what));
                }
            }
        }
        Ok(())
    }

    /// When this producer wants to send next without an answer coming first.
    pub fn ready_ns(&self) -> Option<u64> {
        let lanes = self.lanes.iter();
        lanes
            .filter(|lane| lane.may_send(self.acks, self.in_flight_max))
            .filter_map(|lane| lane.accumulator.ready_ns())
            .min()
    }

    /// Whether everything was sent and answered.
    pub fn is_done(&self) -> bool {
        let is_done = |lane: &Lane| lane.has_nothing() && !lane.connection.is_blocked();
        self.lanes.iter().all(is_done)
    }
}
