//! The whole corpus through an idempotent producer in all codecs, read back and sought by time.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::Session;
use crate::checks::{Checks, Outcome, eventually, same};
use crate::corpus;

const WAIT: Duration = Duration::from_secs(30);

pub fn run(session: &Session, checks: &Checks) {
    let topic = session.name("content");
    checks.run("content: create topic", || {
        // The corpus is dated in the past, so retention by time would take it away.
        session.create_topic(&topic, corpus::PARTITIONS as i32, &[("retention.ms", "-1")])
    });
    for codec in corpus::CODECS {
        let name = format!("content: produce {codec}");
        checks.run(&name, || produce(session, &topic, codec));
    }
    checks.run("content: every record once, in order, unchanged", || {
        consume(session, &topic)
    });
    checks.run("content: earliest and latest offsets", || {
        ends(session, &topic)
    });
    checks.run("content: offsets for times", || times(session, &topic));
}

/// Holds every delivery against the one offset that it may have.
struct Deliveries {
    outcome: Mutex<(usize, Option<String>)>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<i64>;

    fn delivery(&self, result: &DeliveryResult<'_>, expected: Box<i64>) {
        let problem = match result {
            Ok(message) => same("offset", *expected, message.offset())
                .err()
                .map(|e| e.to_string()),
            Err((error, _)) => Some(error.to_string()),
        };
        let mut outcome = self.outcome.lock().expect("no delivery panics");
        outcome.0 += 1;
        outcome.1 = outcome.1.take().or(problem);
    }
}

fn produce(session: &Session, topic: &str, codec: &str) -> Outcome {
    let mut config = session.config();
    config
        .set("enable.idempotence", "true")
        .set("compression.type", codec)
        .set("linger.ms", "5")
        .set(
            "queue.buffering.max.messages",
            (2 * corpus::PER_CODEC).to_string(),
        );
    let deliveries = Deliveries {
        outcome: Mutex::new((0, None)),
    };
    let producer = BaseProducer::from_config_and_context(&config, deliveries)?;
    let codec = corpus::CODECS
        .iter()
        .position(|known| *known == codec)
        .expect("a known codec");
    let first = codec * corpus::PER_CODEC;
    for number in first..first + corpus::PER_CODEC {
        send(&producer, topic, number)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(WAIT)?;
    let outcome = producer
        .context()
        .outcome
        .lock()
        .expect("no delivery panics");
    match &outcome.1 {
        Some(problem) => Err(problem.clone().into()),
        None => same("deliveries", corpus::PER_CODEC, outcome.0),
    }
}

fn send(producer: &BaseProducer<Deliveries>, topic: &str, number: usize) -> Outcome {
    let (key, value) = (corpus::key(number), corpus::value(number));
    let mut record = BaseRecord::with_opaque_to(topic, Box::new(corpus::offset(number)))
        .partition(corpus::partition(number))
        .timestamp(corpus::timestamp(number))
        .headers(corpus::headers(number));
    if let Some(key) = &key {
        record = record.key(key);
    }
    if let Some(value) = &value {
        record = record.payload(value);
    }
    producer
        .send(record)
        .map_err(|(error, _): (KafkaError, _)| error.into())
}

fn partitions(topic: &str, offset: Offset) -> Outcome<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in 0..corpus::PARTITIONS as i32 {
        list.add_partition_offset(topic, partition, offset)?;
    }
    Ok(list)
}

fn consume(session: &Session, topic: &str) -> Outcome {
    let consumer: BaseConsumer = session.consumer(&session.name("unused")).create()?;
    consumer.assign(&partitions(topic, Offset::Beginning)?)?;
    let mut following = [0_i64; corpus::PARTITIONS];
    let mut seen = 0;
    while seen < corpus::TOTAL {
        let message = consumer
            .poll(WAIT)
            .ok_or_else(|| format!("silence after {seen} records"))??;
        let next = &mut following[message.partition() as usize];
        same("next offset", *next, message.offset())?;
        corpus::verify(&message)?;
        *next += 1;
        seen += 1;
    }
    let more = consumer.poll(Duration::from_millis(300)).is_some();
    same("a record after the last one", false, more)
}

fn ends(session: &Session, topic: &str) -> Outcome {
    let consumer: BaseConsumer = session.consumer(&session.name("unused")).create()?;
    for partition in 0..corpus::PARTITIONS as i32 {
        let found = consumer.fetch_watermarks(topic, partition, WAIT)?;
        same("earliest and latest", (0, corpus::length(partition)), found)?;
    }
    Ok(())
}

fn times(session: &Session, topic: &str) -> Outcome {
    let consumer: BaseConsumer = session.consumer(&session.name("unused")).create()?;
    for wanted in [
        0,
        1,
        19_999,
        20_000,
        43_210,
        77_777,
        corpus::TOTAL - 1,
        corpus::TOTAL,
    ] {
        let query = partitions(topic, Offset::Offset(corpus::timestamp(wanted)))?;
        let found = consumer.offsets_for_times(query, WAIT)?;
        for at in found.elements() {
            let mut number = wanted;
            while corpus::partition(number) != at.partition() {
                number += 1;
            }
            let expected = match number < corpus::TOTAL {
                true => Offset::Offset(corpus::offset(number)),
                false => Offset::End,
            };
            same(
                &format!("at or after {wanted} in {}", at.partition()),
                expected,
                at.offset(),
            )?;
        }
    }
    seek(&consumer, topic, 43_210)
}

/// Reading from the offset of a time must give the record of that time first.
fn seek(consumer: &BaseConsumer, topic: &str, wanted: usize) -> Outcome {
    let mut start = TopicPartitionList::new();
    let time = Offset::Offset(corpus::timestamp(wanted));
    start.add_partition_offset(topic, corpus::partition(wanted), time)?;
    consumer.assign(&consumer.offsets_for_times(start, WAIT)?)?;
    let mut first = None;
    eventually("a record after the seek", WAIT, || {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                corpus::verify(&message)?;
                first = first.or(Some(message.offset()));
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BrokerTransportFailure))) => {
            }
            Some(Err(error)) => return Err(error.into()),
        }
        Ok(first.is_some())
    })?;
    same(
        "first offset after the seek",
        Some(corpus::offset(wanted)),
        first,
    )
}
