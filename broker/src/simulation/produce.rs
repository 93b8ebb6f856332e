//! Producers: idempotent ones with several batches under way that retry until all are acknowledged, plain ones that
//! retry or give up, and `acks=0`. At each acknowledgement the platter is asked (`platter`).

use super::Stage;
use super::client::{Client, Sent};
use super::history::Place;
use super::value::{Value, batch};
use super::violation::Violation;
use bytes::Bytes;
use protocol::codec::Str;
use protocol::compression::Codec;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::rc::Rc;
use std::time::Duration;

/// Batches of an idempotent producer under way: within what a broker has to remember.
const IN_FLIGHT_MAX: u64 = 5;
/// Rounds that must succeed after the last fault.
const ROUNDS_HEALED: u32 = 3;
const PLAIN_ATTEMPTS_MAX: u32 = 4;
/// More than `max.message.bytes` of every topic here.
pub(super) const OVERSIZED_BYTES: usize = 5_000;

struct Producer {
    stage: Rc<Stage>,
    client: Client,
    number: u32,
    next_value: u32,
}

/// A batch with everything needed to send it again.
struct Parcel {
    place: Place,
    topic: String,
    values: Vec<Value>,
    codec: Codec,
    bytes: Bytes,
    made_us: u64,
}

impl Producer {
    fn new(stage: Rc<Stage>, client: Client, number: u32) -> Producer {
        Producer {
            stage,
            client,
            number,
            next_value: 0,
        }
    }

    fn parcel(&mut self, topic: &str, place: Place, sequence: Option<(i64, i16, i32)>) -> Parcel {
        let records = 1 + self.client.below(3) as usize;
        let bytes = match self.client.below(4) {
            0 => 900 + self.client.below(300) as usize,
            _ => 16 + self.client.below(200) as usize,
        };
        let first = self.next_value;
        self.next_value += records as u32;
        let values: Vec<Value> = (first..self.next_value)
            .map(|number| Value {
                producer: self.number,
                number,
            })
            .collect();
        let sized: Vec<_> = values.iter().map(|value| (*value, bytes)).collect();
        let codec = match self.client.below(2) {
            0 => Codec::None,
            _ => Codec::ALL[self.client.below(Codec::ALL.len() as u64) as usize],
        };
        let bytes = batch(&sized, codec, sequence, self.client.core.wall_ms());
        Parcel {
            place,
            topic: topic.to_owned(),
            values,
            codec,
            bytes,
            made_us: self.client.core.now().0 / 1_000,
        }
    }

    async fn send(&mut self, parcel: &Parcel, acks: i16, idempotent: bool) -> Option<Sent> {
        // A name may mean another incarnation of the topic by now, an id cannot.
        let min = if self.stage.is_lasting(&parcel.topic) {
            3
        } else {
            13
        };
        // Older clients know no zstd (KIP-110).
        let min = if parcel.codec == Codec::Zstd {
            min.max(7)
        } else {
            min
        };
        let version = self.client.version::<ProduceRequest>(min);
        for value in &parcel.values {
            self.stage.history().sent(*value, parcel.place, idempotent);
        }
        let (values, place) = (&parcel.values, parcel.place);
        let number = self.number;
        self.stage.history().tell(|| {
            let numbers: Vec<u32> = values.iter().map(|value| value.number).collect();
            format!(
                "producer {number} sends {numbers:?} to {}/{}",
                parcel.topic, place.1
            )
        });
        let request = ProduceRequest {
            acks,
            timeout_ms: 1_000,
            topic_data: vec![TopicProduceData {
                name: Str::copied(&parcel.topic),
                topic_id: parcel.place.0,
                partition_data: vec![PartitionProduceData {
                    index: parcel.place.1,
                    records: Some(parcel.bytes.clone()),
                }],
            }],
            ..ProduceRequest::default()
        };
        self.client.send(&request, version).await
    }

    /// What the broker says of a parcel, judged where it says yes. `None`: nothing.
    async fn answer(&mut self, sent: Sent, parcel: &Parcel) -> Option<ErrorCode> {
        let response = self.client.receive::<ProduceRequest>(sent).await?;
        let answer = &response.responses[0].partition_responses[0];
        let code = self.stage.history().code("Produce", answer.error_code);
        self.stage.follow(&mut self.client, code);
        if code == ErrorCode::KAFKA_STORAGE_ERROR && self.stage.full.get() {
            self.stage.history().count("refused on a full disk");
        }
        if code == ErrorCode::NONE {
            self.stage.check_durable(
                parcel.place,
                &parcel.bytes,
                answer.base_offset,
                parcel.made_us,
            );
            let number = self.number;
            let mut history = self.stage.history();
            history.count(parcel.codec.name());
            history.tell(|| {
                let first = parcel.values[0].number;
                format!(
                    "producer {number}: {first} is acknowledged at {}",
                    answer.base_offset
                )
            });
            for (value, offset) in parcel.values.iter().zip(answer.base_offset..) {
                history.acked(*value, offset);
            }
        }
        Some(code)
    }

    async fn go_to_leader(&mut self, topic: &str, place: Place) -> bool {
        let client = &mut self.client;
        self.stage.go_to_leader(client, topic, place).await
    }

    async fn pause(&self) {
        let us = match self.client.below(5) {
            0 => 5_000 + self.client.below(20_000),
            _ => self.client.below(2_000),
        };
        let us = us * self.stage.pace;
        self.client.core.sleep(Duration::from_micros(us)).await;
    }
}

/// An idempotent producer that never gives up.
pub(super) async fn idempotent(stage: Rc<Stage>, client: Client, number: u32) {
    let mut producer = Producer::new(stage, client, number);
    let Some((id, epoch)) = producer.begin().await else {
        return;
    };
    let mut next_sequence = std::collections::BTreeMap::new();
    let mut healed_rounds = 0;
    while healed_rounds < ROUNDS_HEALED && !producer.stage.is_over() {
        healed_rounds += u32::from(producer.stage.healed.get());
        producer.pause().await;
        let Some((topic, place)) = producer.stage.any_place(&producer.client, 5) else {
            continue;
        };
        let sequence = next_sequence.entry(place).or_insert(0);
        let mut parcels = Vec::new();
        for _ in 0..=producer.client.below(IN_FLIGHT_MAX) {
            let parcel = producer.parcel(&topic, place, Some((id, epoch, *sequence)));
            *sequence += parcel.values.len() as i32;
            parcels.push(parcel);
        }
        let began_us = parcels[0].made_us;
        producer.deliver(parcels).await;
        producer.stage.judge_wait(number, began_us);
    }
}

impl Producer {
    /// A producer id; once in a while a bumped epoch.
    async fn begin(&mut self) -> Option<(i64, i16)> {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: 1_000,
            ..Default::default()
        };
        while !self.stage.is_over() {
            self.client.roam();
            let version = self.client.version::<InitProducerIdRequest>(0);
            let Some(response) = self.client.call(&request, version).await else {
                continue;
            };
            let code = self
                .stage
                .history()
                .code("InitProducerId", response.error_code);
            if code == ErrorCode::NONE {
                let given = (response.producer_id, response.producer_epoch);
                self.stage.history().producer_id(given.0, given.1);
                return Some(given);
            }
            self.pause().await;
        }
        None
    }

    /// Sends all parcels, one behind the other, until each is acknowledged.
    async fn deliver(&mut self, mut parcels: Vec<Parcel>) {
        let mut first_try = true;
        while !parcels.is_empty() && !self.stage.is_over() {
            if !std::mem::take(&mut first_try) {
                self.stage.history().count("retries");
                self.pause().await;
            }
            let (topic, place) = (parcels[0].topic.clone(), parcels[0].place);
            if !self.go_to_leader(&topic, place).await {
                if self.stage.history().is_doomed(place.0) {
                    return;
                }
                continue;
            }
            let mut under_way = Vec::new();
            for parcel in &parcels {
                match self.send(parcel, -1, true).await {
                    Some(sent) => under_way.push(sent),
                    None => break,
                }
            }
            let (mut left, mut broken) = (Vec::new(), false);
            let mut under_way = under_way.into_iter();
            for parcel in parcels {
                let sent = under_way.next().filter(|_| !broken);
                let code = match sent {
                    Some(sent) => self.answer(sent, &parcel).await,
                    None => None,
                };
                broken |= code.is_none();
                match code {
                    Some(ErrorCode::NONE) => {}
                    Some(ErrorCode::UNKNOWN_TOPIC_ID)
                        if self.stage.history().is_doomed(parcel.place.0) =>
                    {
                        // With the answers that nobody will read.
                        return self.client.hang_up();
                    }
                    // A node that did not know the topic yet has made the producer give a batch up, and the deletion
                    // never came: the sequence has a gap of the producer's own making.
                    Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
                        if self.stage.is_cluster()
                            && self.stage.history().is_doomed(parcel.place.0) =>
                    {
                        return self.client.hang_up();
                    }
                    // Behind one that was not taken this is right.
                    Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) if !left.is_empty() => {
                        left.push(parcel)
                    }
                    Some(code) if !code.retriable() => {
                        let what = format!(
                            "an idempotent batch of {:?} that is next in its sequence was refused with {code}",
                            parcel.values
                        );
                        return self
                            .stage
                            .history()
                            .violate(Violation::RefusedInSequence, what);
                    }
                    _ => left.push(parcel),
                }
            }
            parcels = left;
        }
    }
}

/// A producer without sequence numbers: at least once, at most once or no answer at all, by the batch.
pub(super) async fn plain(stage: Rc<Stage>, client: Client, number: u32) {
    let mut producer = Producer::new(stage, client, number);
    let mut healed_rounds = 0;
    while healed_rounds < ROUNDS_HEALED && !producer.stage.is_over() {
        producer.pause().await;
        let Some((topic, place)) = producer.stage.any_place(&producer.client, 3) else {
            continue;
        };
        let done = match producer.client.below(8) {
            0 => producer.forget(&topic, place).await,
            1 => producer.offend(&topic, place).await,
            _ => producer.insist(&topic, place).await,
        };
        healed_rounds += u32::from(done && producer.stage.healed.get());
    }
}

impl Producer {
    /// `acks=0`: no answer comes, so none is read.
    async fn forget(&mut self, topic: &str, place: Place) -> bool {
        if !self.go_to_leader(topic, place).await {
            return false;
        }
        let parcel = self.parcel(topic, place, None);
        self.send(&parcel, 0, false).await.is_some()
    }

    /// A batch that must be refused, and never be seen.
    async fn offend(&mut self, topic: &str, place: Place) -> bool {
        let mut parcel = self.parcel(topic, place, None);
        if self.client.below(2) == 0 {
            let mut bytes = parcel.bytes.to_vec();
            let last = bytes.len() - 1;
            bytes[last] ^= 0x55;
            parcel.bytes = bytes.into();
        } else {
            let wall_ms = self.client.core.wall_ms();
            parcel.values.truncate(1);
            let oversized = [(parcel.values[0], OVERSIZED_BYTES)];
            parcel.codec = Codec::None;
            parcel.bytes = batch(&oversized, parcel.codec, None, wall_ms);
        }
        if !self.go_to_leader(topic, place).await {
            return false;
        }
        let Some(sent) = self.send(&parcel, -1, false).await else {
            return false;
        };
        let code = self.answer(sent, &parcel).await;
        if code == Some(ErrorCode::NONE) {
            let what = format!("a batch that cannot be taken was: {:?}", parcel.values);
            self.stage
                .history()
                .violate(Violation::TakenAgainstTheRules, what);
        }
        self.settle(&parcel, code);
        code.is_some()
    }

    /// Retries what may pass.
    async fn insist(&mut self, topic: &str, place: Place) -> bool {
        let parcel = self.parcel(topic, place, None);
        let acks = if self.client.below(3) == 0 { 1 } else { -1 };
        for _ in 0..=self.client.below(PLAIN_ATTEMPTS_MAX.into()) {
            if !self.go_to_leader(topic, place).await {
                continue;
            }
            let code = match self.send(&parcel, acks, false).await {
                Some(sent) => self.answer(sent, &parcel).await,
                None => None,
            };
            self.settle(&parcel, code);
            match code {
                Some(ErrorCode::NONE) => return true,
                // Settled as never written: to send it again would make it another record.
                Some(code) if is_definite(code) => return false,
                _ => self.pause().await,
            }
        }
        false
    }

    fn settle(&self, parcel: &Parcel, code: Option<ErrorCode>) {
        let Some(code) = code.filter(|code| is_definite(*code)) else {
            return;
        };
        for value in &parcel.values {
            self.stage.history().refused(*value, code);
        }
    }
}

/// Whether a code promises that nothing was written. NOT_LEADER_OR_FOLLOWER does here.
fn is_definite(code: ErrorCode) -> bool {
    let damaged = matches!(
        code,
        ErrorCode::CORRUPT_MESSAGE | ErrorCode::NOT_LEADER_OR_FOLLOWER
    );
    code != ErrorCode::NONE && (damaged || !code.retriable())
}
