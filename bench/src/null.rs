//! A broker that keeps a little in memory and nothing on disk, on one thread.
//!
//! What the load generator measures against it is the generator's own floor: the network, the
//! client, and the least that a broker must do. It also is the broker of this crate's tests. It
//! serves what the generator asks for and no more: api versions, metadata, topics, producer ids,
//! offsets, produce and fetch. A partition keeps its last batches only.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use bytes::{Bytes, BytesMut};
use protocol::ErrorCode;
use protocol::api::{Request, Response, advertised_versions};
use protocol::codec::{Decoder, Str};
use protocol::messages::*;
use protocol::records::{BatchView, patch_header};
use uuid::Uuid;

use crate::error::{BenchError, During, Result};
use crate::wire::{Connection, Poll};

/// Batches that a partition keeps for readers.
const BATCHES_KEPT: usize = 1000;
const NODE_ID: i32 = 0;
const LISTENER: usize = 0;

/// Serves until an error ends it. `listener` is bound already.
pub fn serve(listener: TcpListener) -> Result<()> {
    let address = listener
        .local_addr()
        .during("reading the listener's address")?;
    listener
        .set_nonblocking(true)
        .during("preparing the listener")?;
    let mut poll = Poll::new().during("creating an epoll")?;
    poll.add(listener.as_raw_fd(), LISTENER)
        .during("watching the listener")?;
    let mut connections: BTreeMap<usize, Connection> = BTreeMap::new();
    let mut broker = Broker {
        address,
        topics: BTreeMap::new(),
        next_producer_id: 0,
    };
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut next_token = LISTENER + 1;
    loop {
        for event in poll.wait(None).during("waiting for clients")? {
            if event.token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    connections.insert(next_token, Connection::adopt(stream, &poll, next_token)?);
                    next_token += 1;
                }
                continue;
            }
            let Some(connection) = connections.get_mut(&event.token) else {
                continue;
            };
            let token = event.token;
            if event.readable && !serve_connection(&mut broker, connection, token, &mut waiting) {
                connections.remove(&event.token);
                waiting.retain(|fetch| fetch.token != event.token);
            }
        }
        waiting.retain(|fetch| match broker.fetch(&fetch.request) {
            None => true,
            Some(response) => {
                if let Some(connection) = connections.get_mut(&fetch.token) {
                    let parts = response.frame(fetch.header.correlation_id, fetch.header.version);
                    connection.queue(parts.unwrap_or_default());
                }
                false
            }
        });
        connections.retain(|_, connection| connection.flush(&poll).is_ok());
    }
}

/// A fetch that found nothing: it is answered when it finds something, however long that takes.
struct Waiting {
    token: usize,
    header: RequestHeader,
    request: FetchRequest,
}

/// Answers what has arrived. False if the connection is over.
fn serve_connection(
    broker: &mut Broker,
    connection: &mut Connection,
    token: usize,
    waiting: &mut Vec<Waiting>,
) -> bool {
    let alive = connection.receive();
    while let Ok(Some(frame)) = connection.frame() {
        let mut input = Decoder::new(frame);
        let Ok(header) = RequestHeader::decode(&mut input) else {
            return false;
        };
        let Ok(request) = Request::decode(&header, &mut input) else {
            return false;
        };
        if let Request::Fetch(request) = request {
            waiting.push(Waiting {
                token,
                header,
                request,
            });
            continue;
        }
        let is_answered = !matches!(&request, Request::Produce(produce) if produce.acks == 0);
        let Ok(response) = broker.answer(request) else {
            return false;
        };
        let parts = response.frame(header.correlation_id, header.answer_version());
        match parts {
            Ok(parts) if is_answered => connection.queue(parts),
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    alive.unwrap_or(false)
}

struct Broker {
    address: SocketAddr,
    topics: BTreeMap<String, Vec<Log>>,
    next_producer_id: i64,
}

/// The end of a partition's log.
#[derive(Clone, Default)]
struct Log {
    batches: VecDeque<Bytes>,
    end: i64,
}

impl Broker {
    fn answer(&mut self, request: Request) -> Result<Response> {
        Ok(match request {
            Request::ApiVersions(_) => ApiVersionsResponse {
                api_keys: advertised_versions(),
                ..Default::default()
            }
            .into(),
            Request::CreateTopics(request) => self.create_topics(request).into(),
            Request::Metadata(request) => self.metadata(request).into(),
            Request::InitProducerId(_) => {
                self.next_producer_id += 1;
                let producer_id = self.next_producer_id;
                InitProducerIdResponse {
                    producer_id,
                    ..Default::default()
                }
                .into()
            }
            Request::ListOffsets(request) => self.list_offsets(request).into(),
            Request::Produce(request) => self.produce(request)?.into(),
            other => {
                let what = format!("{} is not served by the null broker", other.key());
                return Err(BenchError::Unusable(what));
            }
        })
    }

    fn create_topics(&mut self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let mut topics = Vec::new();
        for topic in request.topics {
            let partitions = topic.num_partitions.clamp(1, 100_000) as usize;
            let logs = || vec![Log::default(); partitions];
            self.topics
                .entry(String::from(&topic.name))
                .or_insert_with(logs);
            topics.push(CreatableTopicResult {
                name: topic.name,
                ..Default::default()
            });
        }
        CreateTopicsResponse {
            topics,
            ..Default::default()
        }
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let names = request
            .topics
            .unwrap_or_default()
            .into_iter()
            .filter_map(|topic| topic.name);
        let topic = |name: Str| {
            let logs = self.topics.get(name.as_str());
            let error_code = match logs {
                Some(_) => ErrorCode::NONE,
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            };
            let partition = |partition_index: i32| MetadataResponsePartition {
                partition_index,
                leader_id: NODE_ID,
                ..Default::default()
            };
            MetadataResponseTopic {
                error_code,
                topic_id: topic_id(&name),
                name: Some(name),
                partitions: (0..logs.map_or(0, Vec::len) as i32)
                    .map(partition)
                    .collect(),
                ..Default::default()
            }
        };
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: NODE_ID,
                host: self.address.ip().to_string().into(),
                port: self.address.port().into(),
                ..Default::default()
            }],
            topics: names.map(topic).collect(),
            ..Default::default()
        }
    }

    fn list_offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let topic = |topic: ListOffsetsTopic| {
            let partition = |partition: &ListOffsetsPartition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: self
                    .log(&topic.name, partition.partition_index)
                    .map_or(-1, |log| log.end),
                ..Default::default()
            };
            let partitions = topic.partitions.iter().map(partition).collect();
            ListOffsetsTopicResponse {
                name: topic.name.clone(),
                partitions,
            }
        };
        let topics = request.topics.into_iter().map(topic).collect();
        ListOffsetsResponse {
            topics,
            ..Default::default()
        }
    }

    fn produce(&mut self, request: ProduceRequest) -> Result<ProduceResponse> {
        let mut responses = Vec::new();
        for topic in request.topic_data {
            let name = self.name(&topic.name, topic.topic_id);
            let mut partition_responses = Vec::new();
            for partition in topic.partition_data {
                let logs = self.topics.get_mut(&name);
                let log = logs.and_then(|logs| logs.get_mut(partition.index as usize));
                let mut answer = PartitionProduceResponse {
                    index: partition.index,
                    ..Default::default()
                };
                match log.zip(partition.records) {
                    Some((log, records)) => answer.base_offset = log.append(&records)?,
                    None => answer.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                }
                partition_responses.push(answer);
            }
            let (name, topic_id) = (topic.name, topic.topic_id);
            responses.push(TopicProduceResponse {
                name,
                topic_id,
                partition_responses,
            });
        }
        Ok(ProduceResponse {
            responses,
            ..Default::default()
        })
    }

    /// The answer if there is something to read. Never begins a session.
    fn fetch(&self, request: &FetchRequest) -> Option<Response> {
        let mut responses = Vec::new();
        for topic in &request.topics {
            let name = self.name(&topic.topic, topic.topic_id);
            let mut partitions = Vec::new();
            for wanted in &topic.partitions {
                let log = self.log(&name, wanted.partition)?;
                let batches = log.from(wanted.fetch_offset);
                if batches.is_empty() {
                    continue;
                }
                partitions.push(FetchablePartitionResponse {
                    partition_index: wanted.partition,
                    high_watermark: log.end,
                    records: Some(batches.into()),
                    ..Default::default()
                });
            }
            if !partitions.is_empty() {
                responses.push(FetchableTopicResponse {
                    topic: topic.topic.clone(),
                    topic_id: topic.topic_id,
                    partitions,
                });
            }
        }
        let found = !responses.is_empty();
        found.then(|| {
            FetchResponse {
                responses,
                ..Default::default()
            }
            .into()
        })
    }

    /// Requests name a topic by name or by id, as their version has it.
    fn name(&self, name: &Str, id: Uuid) -> String {
        match id.is_nil() {
            true => String::from(name),
            false => {
                let found = self.topics.keys().find(|name| topic_id(name) == id);
                found.cloned().unwrap_or_default()
            }
        }
    }

    fn log(&self, topic: &str, partition: i32) -> Option<&Log> {
        self.topics
            .get(topic)?
            .get(usize::try_from(partition).ok()?)
    }
}

impl Log {
    /// Gives the base offset.
    fn append(&mut self, records: &Bytes) -> Result<i64> {
        let base = self.end;
        let count = i64::from(BatchView::first(records)?.last_offset_delta()) + 1;
        let mut batch = BytesMut::from(&records[..]);
        patch_header(&mut batch, base, 0);
        self.end += count;
        self.batches.push_back(batch.freeze());
        if self.batches.len() > BATCHES_KEPT {
            self.batches.pop_front();
        }
        Ok(base)
    }

    /// The batches that have `offset` or something after it.
    fn from(&self, offset: i64) -> Vec<Bytes> {
        let next = |batch: &Bytes| BatchView::first(batch).map_or(0, BatchView::next_offset);
        let skipped = self.batches.partition_point(|batch| next(batch) <= offset);
        self.batches.iter().skip(skipped).cloned().collect()
    }
}

/// Made from the name: the same name has the same id, and nothing else is needed here.
fn topic_id(name: &str) -> Uuid {
    let mut bytes = [1u8; 16];
    for (place, byte) in name.bytes().enumerate() {
        bytes[place % 16] = bytes[place % 16].wrapping_mul(31).wrapping_add(byte);
    }
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{self, Acks, Outcome, Pace, Producing, ReadFrom, Reading, Spec};
    use crate::wire::{Control, Placement};
    use std::time::Duration;

    /// A broker of its own on a thread that ends with the test process.
    fn broker() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(listener));
        address
    }

    fn spec(address: SocketAddr, partitions: i32, pace: Pace) -> Spec {
        let mut control = Control::connect(address, Duration::from_secs(10)).unwrap();
        control
            .create_topic("t", partitions, Placement::Anywhere(1), &[])
            .unwrap();
        Spec {
            address,
            topic: control.topic("t").unwrap(),
            message_bytes: 100,
            producing: Some(Producing {
                producers: 2,
                pace,
                linger: Duration::from_millis(1),
                batch_bytes: 4096,
                request_bytes: 16 << 10,
                in_flight_max: 5,
                acks: Acks::All,
                idempotent: true,
                keyed: false,
            }),
            reading: None,
            warm_up: Duration::from_millis(50),
            duration: Duration::from_millis(450),
            brokers: Vec::new(),
        }
    }

    fn without_trouble(outcome: &Outcome) {
        assert_eq!(
            (outcome.failed, outcome.unanswered, outcome.missing),
            (0, 0, 0)
        );
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    }

    #[test]
    fn an_open_loop_makes_every_message_and_every_reader_gets_it() {
        let mut spec = spec(broker(), 3, Pace::PerSecond(2000.0));
        spec.reading = Some(Reading::new(2, ReadFrom::End));
        let outcome = load::run(&spec).unwrap();
        without_trouble(&outcome);
        // How many are acknowledged inside the window depends on the machine; the plan does not.
        assert_eq!(outcome.target_per_s, Some(2000.0));
        let mut control = Control::connect(spec.address, Duration::from_secs(10)).unwrap();
        let ends = control.end_offsets(&spec.topic).unwrap();
        assert_eq!(
            ends.iter().sum::<i64>(),
            1000,
            "2000/s over 500 ms: {ends:?}"
        );
    }

    #[test]
    fn a_closed_loop_sends_batches_of_one() {
        let mut spec = spec(broker(), 10, Pace::OneByOne);
        spec.producing.as_mut().unwrap().keyed = true;
        let outcome = load::run(&spec).unwrap();
        without_trouble(&outcome);
        assert_eq!(outcome.target_per_s, None);
        assert!(outcome.achieved_per_s > 0.0);
        assert_eq!(outcome.messages_per_batch, 1.0);
        assert_eq!(outcome.requests_per_s, outcome.achieved_per_s);
    }

    #[test]
    fn an_unbounded_load_fills_its_batches() {
        let spec = spec(broker(), 4, Pace::Unbounded);
        let outcome = load::run(&spec).unwrap();
        without_trouble(&outcome);
        assert_eq!(outcome.messages_per_batch, (4096 / 120) as f64);
    }

    #[test]
    fn readers_from_the_beginning_start_over_at_the_end() {
        let mut spec = spec(broker(), 2, Pace::OneByOne);
        let mut control = Control::connect(spec.address, Duration::from_secs(10)).unwrap();
        control.fill(&spec.topic, 0..2, 10, 100).unwrap();
        assert_eq!(control.end_offsets(&spec.topic).unwrap(), [10, 10]);
        spec.producing = None;
        spec.reading = Some(Reading::new(1, ReadFrom::Beginning));
        let outcome = load::run(&spec).unwrap();
        without_trouble(&outcome);
        assert!(outcome.received_per_s > 0.0 && outcome.achieved_per_s == 0.0);
    }

    #[test]
    fn a_message_without_acknowledgement_counts_when_it_is_written() {
        let mut spec = spec(broker(), 2, Pace::PerSecond(1000.0));
        let producing = spec.producing.as_mut().unwrap();
        (producing.acks, producing.idempotent) = (Acks::None, false);
        without_trouble(&load::run(&spec).unwrap());
    }

    #[test]
    fn a_topic_that_is_not_there_is_waited_for_in_vain() {
        let mut control = Control::connect(broker(), Duration::from_millis(50)).unwrap();
        let error = control.topic("nowhere").unwrap_err();
        assert!(
            error.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"),
            "{error}"
        );
    }

    #[test]
    fn an_impossible_load_is_refused() {
        let mut small = spec(broker(), 1, Pace::OneByOne);
        small.message_bytes = 7;
        assert!(load::run(&small).is_err());
        let mut unasked = small.clone();
        unasked.message_bytes = 8;
        unasked.producing.as_mut().unwrap().acks = Acks::None;
        assert!(load::run(&unasked).is_err());
    }
}
