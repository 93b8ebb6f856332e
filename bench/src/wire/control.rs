//! A blocking client for what stands around a run: topics, producer ids, offsets, first records.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
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

    /// Creates a topic, one replica for each partition. One that is there already is taken as it
    /// is. It is ready after [`Control::topic`].
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(String, String)],
    ) -> Result<()> {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: name.clone().into(),
            value: Some(value.clone().into()),
        };
        let topic = CreatableTopic {
            name: Str::copied(name),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
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
        let wanted = MetadataRequestTopic {
            name: Some(Str::copied(name)),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![wanted]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
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
                let leaders = topic.partitions.iter().map(|partition| partition.leader_id);
                one_leader(name, leaders)?;
                let partitions = topic.partitions.len() as i32;
                Ok(Topic {
                    name: name.to_owned(),
                    id: topic.topic_id,
                    partitions,
                })
            },
            passes,
        )
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

    /// The end of each partition's log, by partition.
    pub fn end_offsets(&mut self, topic: &Topic) -> Result<Vec<i64>> {
        let partition = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: LATEST,
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: Str::copied(&topic.name),
                partitions: (0..topic.partitions).map(partition).collect(),
            }],
            ..Default::default()
        };
        self.until_served(
            |control| {
                let response = control.call(&request)?;
                let mut ends = vec![0; topic.partitions as usize];
                for found in response.topics.iter().flat_map(|topic| &topic.partitions) {
                    let what = || format!("asking for the end of {}", topic.name);
                    accepted(what, found.error_code, None)?;
                    let place = usize::try_from(found.partition_index).ok();
                    if let Some(end) = place.and_then(|place| ends.get_mut(place)) {
                        *end = found.offset;
                    }
                }
                Ok(ends)
            },
            ErrorCode::retriable,
        )
    }

    /// Appends one batch of `records` records of `bytes` bytes to each of `partitions`, in one
    /// request, and tries again while leaders are not ready. `acks` is all.
    pub fn fill(
        &mut self,
        topic: &Topic,
        partitions: std::ops::Range<i32>,
        records: usize,
        bytes: usize,
    ) -> Result<()> {
        let mut batch = BatchBuilder::new();
        let value = vec![0; bytes];
        (0..records).for_each(|_| batch.push(wall_ms(), None, Some(&value), &[]));
        let batch = batch.build().into_bytes();
        let mut left: Vec<i32> = partitions.collect();
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

/// Each producer here has one connection, so one broker must lead everything.
fn one_leader(topic: &str, leaders: impl Iterator<Item = i32>) -> Result<()> {
    let mut leaders: Vec<i32> = leaders.collect();
    leaders.sort_unstable();
    leaders.dedup();
    match leaders.as_slice() {
        [_] => Ok(()),
        several => Err(BenchError::Unusable(format!(
            "topic {topic} is led by the brokers {several:?}; the load generator drives one broker"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_several_brokers_is_refused() {
        assert!(one_leader("t", [3, 3, 3].into_iter()).is_ok());
        let error = one_leader("t", [1, 2, 1].into_iter()).unwrap_err();
        assert!(error.to_string().contains("[1, 2]"), "{error}");
    }
}
