//! A blocking client for what stands around a run: topics, producer ids, offsets, first records.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use protocol::ErrorCode;
use protocol::api::{ApiKey, Message, RequestMessage, Versions};
use protocol::codec::{Decoder, Str};
use protocol::frame;
use protocol::messages::*;
use protocol::records::BatchBuilder;
use uuid::Uuid;

use super::connection::{CLIENT_ID, FRAME_BYTES_MAX};
use crate::clock::wall_ms;
use crate::error::{BenchError, During, Result, accepted};

const RETRY_PAUSE: Duration = Duration::from_millis(2);
/// The question for the end of a log in ListOffsets.
const LATEST: i64 = -1;

/// A topic that is ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: i32,
    /// The brokers that lead its partitions, each once.
    pub brokers: Vec<SocketAddr>,
    /// Which of `brokers` leads, by partition.
    pub leaders: Vec<usize>,
}

impl Topic {
    /// The partitions that one of `brokers` leads.
    pub fn led_by(&self, broker: usize) -> impl Iterator<Item = i32> {
        let leaders = self.leaders.iter().enumerate();
        leaders
            .filter_map(move |(partition, leader)| (*leader == broker).then_some(partition as i32))
    }
}

/// How the replicas of a topic that is to be created are placed.
#[derive(Clone, Copy, Debug)]
pub enum Placement<'a> {
    /// So many of each partition, wherever the brokers like.
    Anywhere(i16),
    /// Of every partition on these nodes, of which the first is to lead.
    On(&'a [i32]),
}

/// One blocking connection, after the exchange of versions.
pub struct Control {
    stream: TcpStream,
    received: BytesMut,
    served: BTreeMap<i16, Versions>,
    next_correlation_id: i32,
    timeout: Duration,
}

impl Control {
    /// Connects once. `timeout` bounds every later wait, for an answer or for a leader.
    pub fn connect(address: SocketAddr, timeout: Duration) -> Result<Control> {
        let stream = TcpStream::connect_timeout(&address, timeout)
            .and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                Ok(stream)
            })
            .during(format!("connecting to {address}"))?;
        let mut control = Control {
            stream,
            received: BytesMut::new(),
            served: BTreeMap::new(),
            next_correlation_id: 0,
            timeout,
        };
        // Version 0 is served by everybody; nothing that newer ones tell is needed here.
        let greeting = control.exchange(&ApiVersionsRequest::default(), 0)?;
        accepted(
            || "asking for api versions".to_owned(),
            greeting.error_code,
            None,
        )?;
        let row = |api: &ApiVersion| {
            (
                api.api_key,
                Versions {
                    min: api.min_version,
                    max: api.max_version,
                },
            )
        };
        control.served = greeting.api_keys.iter().map(row).collect();
        Ok(control)
    }

    /// The broker's.
    pub fn address(&self) -> Result<SocketAddr> {
        self.stream.peer_addr().during("looking at a connection")
    }

    /// The newest version of an api that both sides know.
    pub fn version(&self, key: ApiKey) -> Result<i16> {
        let api = key.api();
        let served = self.served.get(&(key as i16));
        served
            .and_then(|served| api.versions.newest_in_both(*served))
            .ok_or(BenchError::Unsupported(api.name))
    }

    /// One request and its answer, in the newest version that both sides know.
    pub fn call<R: RequestMessage>(&mut self, request: &R) -> Result<R::Response> {
        let version = self.version(R::KEY)?;
        self.exchange(request, version)
    }

    fn exchange<R: RequestMessage>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        let id = self.next_correlation_id;
        self.next_correlation_id = id.wrapping_add(1);
        let parts = frame::request(Some(&CLIENT_ID), id, version, request)?;
        self.stream
            .write_all(&parts.concat())
            .during(format!("sending {}", R::KEY))?;
        let mut answer = Decoder::new(self.frame().during(format!("waiting for {}", R::KEY))?);
        let header = ResponseHeader::decode(&mut answer, R::KEY, version)?;
        if header.correlation_id != id {
            let what = format!("answer {} instead of {id}", header.correlation_id);
            return Err(BenchError::Garbled(what));
        }
        Ok(R::Response::decode(&mut answer, version)?)
    }

    fn frame(&mut self) -> io::Result<Bytes> {
        loop {
            match frame::cut(&mut self.received, FRAME_BYTES_MAX) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.received.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Creates a topic. One that is there already is taken as it is. It is ready after
    /// [`Control::topic`].
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        placement: Placement<'_>,
        configs: &[(String, String)],
    ) -> Result<()> {
        let topic = creatable(name, partitions, placement, configs);
        let timeout_ms = i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX);
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms,
            ..Default::default()
        };
        self.until_served(
            |control| {
                let response = control.call(&request)?;
                for topic in &response.topics {
                    if topic.error_code != ErrorCode::TOPIC_ALREADY_EXISTS {
                        let what = || format!("creating topic {name}");
                        accepted(what, topic.error_code, topic.error_message.as_deref())?;
                    }
                }
                Ok(())
            },
            // Right after its start Kafka has no broker to place a replica on.
            |code| code.retriable() || code == ErrorCode::INVALID_REPLICATION_FACTOR,
        )
    }

    /// A topic whose partitions all have a leader; waits for it.
    pub fn topic(&mut self, name: &str) -> Result<Topic> {
        let asked = self.address()?;
        let request = metadata_request(name);
        // A topic that was just created may be unknown for a moment.
        let passes =
            |code: ErrorCode| code.retriable() || code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        self.until_served(
            |control| {
                let response = control.call(&request)?;
                let topic = response.topics.first().ok_or_else(|| {
                    BenchError::Garbled("metadata without the topic asked for".to_owned())
                })?;
                let what = || format!("looking up topic {name}");
                accepted(what, topic.error_code, None)?;
                for partition in &topic.partitions {
                    accepted(what, partition.error_code, None)?;
                }
                let (brokers, leaders) = leaders(asked, &response.brokers, &topic.partitions)?;
                Ok(Topic {
                    name: name.to_owned(),
                    id: topic.topic_id,
                    partitions: topic.partitions.len() as i32,
                    brokers,
                    leaders,
                })
            },
            passes,
        )
    }

    /// What the broker knows of a topic's partitions at the moment, in the order of their numbers;
    /// empty while it does not know the topic.
    pub fn partitions(&mut self, name: &str) -> Result<Vec<MetadataResponsePartition>> {
        let mut response = self.call(&metadata_request(name))?;
        let mut partitions = match response.topics.first_mut() {
            Some(topic) if topic.error_code.is_none() => std::mem::take(&mut topic.partitions),
            _ => Vec::new(),
        };
        partitions.sort_by_key(|partition| partition.partition_index);
        Ok(partitions)
    }

    /// Id and epoch of a new idempotent producer.
    pub fn producer_id(&mut self) -> Result<(i64, i16)> {
        let request = InitProducerIdRequest {
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        self.until_served(
            |control| {
                let response = control.call(&request)?;
                accepted(
                    || "asking for a producer id".to_owned(),
                    response.error_code,
                    None,
                )?;
                Ok((response.producer_id, response.producer_epoch))
            },
            ErrorCode::retriable,
        )
    }

    /// The end of each partition's log, by partition. Brokers other than the one of this connection
    /// are asked over connections of their own.
    pub fn end_offsets(&mut self, topic: &Topic) -> Result<Vec<i64>> {
        let mut ends = vec![0; topic.partitions as usize];
        self.at_leaders(topic, |control, partitions| {
            for (partition, end) in control.ends_here(topic, partitions)? {
                if let Some(known) = ends.get_mut(partition as usize) {
                    *known = end;
                }
            }
            Ok(())
        })?;
        Ok(ends)
    }

    /// Does something at each broker that leads partitions of `topic`, with these.
    fn at_leaders(
        &mut self,
        topic: &Topic,
        mut act: impl FnMut(&mut Control, Vec<i32>) -> Result<()>,
    ) -> Result<()> {
        let here = self.address()?;
        for (broker, address) in topic.brokers.iter().enumerate() {
            let partitions = topic.led_by(broker).collect();
            if *address == here {
                act(self, partitions)?;
            } else {
                act(&mut Control::connect(*address, self.timeout)?, partitions)?;
            }
        }
        Ok(())
    }

    fn ends_here(&mut self, topic: &Topic, partitions: Vec<i32>) -> Result<Vec<(i32, i64)>> {
        let partition = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: LATEST,
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: Str::copied(&topic.name),
                partitions: partitions.into_iter().map(partition).collect(),
            }],
            ..Default::default()
        };
        self.until_served(
            |control| {
                let response = control.call(&request)?;
                let mut ends = Vec::new();
                for found in response.topics.iter().flat_map(|topic| &topic.partitions) {
                    let what = || format!("asking for the end of {}", topic.name);
                    accepted(what, found.error_code, None)?;
                    ends.push((found.partition_index, found.offset));
                }
                Ok(ends)
            },
            ErrorCode::retriable,
        )
    }

    /// Appends one batch of `records` records of `bytes` bytes to each of `partitions`, in one
    /// request to each leader, and tries again while leaders are not ready. `acks` is all.
    pub fn fill(
        &mut self,
        topic: &Topic,
        partitions: std::ops::Range<i32>,
        records: usize,
        bytes: usize,
    ) -> Result<()> {
        self.at_leaders(topic, |control, led| {
            let led = led
                .into_iter()
                .filter(|partition| partitions.contains(partition));
            control.fill_here(topic, led.collect(), records, bytes)
        })
    }

    fn fill_here(
        &mut self,
        topic: &Topic,
        mut left: Vec<i32>,
        records: usize,
        bytes: usize,
    ) -> Result<()> {
        if left.is_empty() {
            return Ok(());
        }
        let mut batch = BatchBuilder::new();
        let value = vec![0; bytes];
        (0..records).for_each(|_| batch.push(wall_ms(), None, Some(&value), &[]));
        let batch = batch.build().into_bytes();
        // Only those that failed are sent again: their neighbours have the batch already.
        self.until_served(
            |control| {
                let response = control.call(&produce_request(topic, &left, &batch))?;
                left.clear();
                let mut last = Ok(());
                for answer in response
                    .responses
                    .iter()
                    .flat_map(|it| &it.partition_responses)
                {
                    let what = || format!("producing to {}-{}", topic.name, answer.index);
                    let message = answer.error_message.as_deref();
                    if let Err(error) = accepted(what, answer.error_code, message) {
                        left.push(answer.index);
                        last = Err(error);
                    }
                }
                last
            },
            |code| code.retriable() || code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        )
    }

    /// Tries until the broker serves the request, or says something that does not pass, or the
    /// time is over.
    fn until_served<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Control) -> Result<T>,
        passes: impl Fn(ErrorCode) -> bool,
    ) -> Result<T> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match attempt(self) {
                Err(BenchError::Refused { code, .. })
                    if passes(code) && Instant::now() < deadline =>
                {
                    thread::sleep(RETRY_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }
}

fn produce_request(topic: &Topic, partitions: &[i32], batch: &Bytes) -> ProduceRequest {
    let partition = |index: &i32| PartitionProduceData {
        index: *index,
        records: Some(batch.clone()),
    };
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: Str::copied(&topic.name),
            topic_id: topic.id,
            partition_data: partitions.iter().map(partition).collect(),
        }],
        ..Default::default()
    }
}

fn creatable(
    name: &str,
    partitions: i32,
    placement: Placement<'_>,
    configs: &[(String, String)],
) -> CreatableTopic {
    let config = |(name, value): &(String, String)| CreatableTopicConfig {
        name: name.clone().into(),
        value: Some(value.clone().into()),
    };
    let mut topic = CreatableTopic {
        name: Str::copied(name),
        num_partitions: partitions,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    match placement {
        Placement::Anywhere(replicas) => topic.replication_factor = replicas,
        Placement::On(nodes) => {
            // Kafka wants either counts or places.
            (topic.num_partitions, topic.replication_factor) = (-1, -1);
            let place = |partition_index| CreatableReplicaAssignment {
                partition_index,
                broker_ids: nodes.to_vec(),
            };
            topic.assignments = (0..partitions).map(place).collect();
        }
    }
    topic
}

pub fn metadata_request(topic: &str) -> MetadataRequest {
    let wanted = MetadataRequestTopic {
        name: Some(Str::copied(topic)),
        ..Default::default()
    };
    MetadataRequest {
        topics: Some(vec![wanted]),
        allow_auto_topic_creation: false,
        ..Default::default()
    }
}

/// The brokers that lead, each once, and which of them leads, by partition. A cluster of one broker
/// is reached where it was asked, whatever address it gives out.
fn leaders(
    asked: SocketAddr,
    brokers: &[MetadataResponseBroker],
    partitions: &[MetadataResponsePartition],
) -> Result<(Vec<SocketAddr>, Vec<usize>)> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut leaders = vec![0; partitions.len()];
    for partition in partitions {
        let place = usize::try_from(partition.partition_index).ok();
        let place = place.and_then(|place| leaders.get_mut(place));
        let broker = brokers
            .iter()
            .find(|broker| broker.node_id == partition.leader_id);
        let (Some(place), Some(broker)) = (place, broker) else {
            let what = format!("metadata of partition {}", partition.partition_index);
            return Err(BenchError::Garbled(what));
        };
        let address = match brokers {
            [_] => asked,
            _ => address_of(broker)?,
        };
        let known = addresses.iter().position(|known| *known == address);
        *place = known.unwrap_or_else(|| {
            addresses.push(address);
            addresses.len() - 1
        });
    }
    Ok((addresses, leaders))
}

/// Where a broker says that it is.
pub fn address_of(broker: &MetadataResponseBroker) -> Result<SocketAddr> {
    let what = || format!("finding broker {} at {}", broker.node_id, &*broker.host);
    let port = u16::try_from(broker.port).unwrap_or(0);
    let mut found = (&*broker.host, port).to_socket_addrs().during(what())?;
    found.next().ok_or_else(|| BenchError::Unusable(what()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(node_id: i32, port: i32) -> MetadataResponseBroker {
        MetadataResponseBroker {
            node_id,
            host: Str::copied("127.0.0.1"),
            port,
            ..Default::default()
        }
    }

    fn partition(partition_index: i32, leader_id: i32) -> MetadataResponsePartition {
        MetadataResponsePartition {
            partition_index,
            leader_id,
            ..Default::default()
        }
    }

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn each_partition_knows_its_leader() {
        let brokers = [broker(1, 10), broker(2, 20), broker(3, 30)];
        let partitions = [partition(1, 1), partition(0, 3), partition(2, 3)];
        let (brokers, leaders) = leaders(at(99), &brokers, &partitions).unwrap();
        assert_eq!(brokers, [at(10), at(30)], "broker 2 leads nothing");
        assert_eq!(leaders, [1, 0, 1]);
        let topic = Topic {
            name: "t".into(),
            id: Uuid::nil(),
            partitions: 3,
            brokers,
            leaders,
        };
        assert_eq!(topic.led_by(1).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn a_single_broker_is_reached_where_it_was_asked() {
        let (brokers, _) = leaders(at(99), &[broker(1, 10)], &[partition(0, 1)]).unwrap();
        assert_eq!(brokers, [at(99)]);
    }

    #[test]
    fn metadata_that_makes_no_sense_is_refused() {
        assert!(leaders(at(9), &[broker(1, 10)], &[partition(0, 2)]).is_err());
        assert!(leaders(at(9), &[broker(1, 10)], &[partition(7, 1)]).is_err());
    }

    #[test]
    fn replicas_are_placed_by_count_or_by_node() {
        let counted = creatable("t", 2, Placement::Anywhere(3), &[]);
        assert_eq!((counted.num_partitions, counted.replication_factor), (2, 3));
        let placed = creatable("t", 2, Placement::On(&[2, 3, 1]), &[]);
        assert_eq!((placed.num_partitions, placed.replication_factor), (-1, -1));
        let places: Vec<_> = placed
            .assignments
            .iter()
            .map(|it| &it.broker_ids[..])
            .collect();
        assert_eq!(places, [[2, 3, 1], [2, 3, 1]]);
    }
}
