//! The loop: what is due is sent to whoever leads, what fails is sent again, and who leads is asked
//! of somebody who lives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use protocol::ErrorCode;
use protocol::api::{ApiKey, Message};
use protocol::codec::{Decoder, Str};
use protocol::messages::*;
use protocol::records::BatchBuilder;

use super::acks::{Acks, Incident};
use super::stream::{Batch, Stream};
use crate::clock::{NS_PER_S, monotonic_ns, wall_ms};
use crate::error::{BenchError, During, Result, accepted};
use crate::schedule::Schedule;
use crate::wire::{Connection, Control, Poll, Topic, address_of, metadata_request};

/// `retry.backoff.ms` of Kafka's clients, and the bounds of their `reconnect.backoff.ms`.
const RETRY_NS: u64 = 100_000_000;
const RECONNECT_MIN_NS: u64 = 50_000_000;
const RECONNECT_MAX_NS: u64 = 1_000_000_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// `max.in.flight.requests.per.connection`, `batch.size` and `max.request.size`.
const IN_FLIGHT_MAX: usize = 5;
const BATCH_BYTES: usize = 16 << 10;
const REQUEST_BYTES: usize = 1 << 20;
const TIMEOUT_MS: i32 = 30_000;
/// How long setting up may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is produced.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub message_bytes: usize,
    /// Of all partitions together.
    pub messages_per_s: f64,
}

/// A producer of one topic, which is not given up by anybody.
pub struct Client {
    settings: Settings,
    topic: Topic,
    poll: Poll,
    nodes: BTreeMap<i32, Node>,
    versions: Versions,
    producer: (i64, i16),
    schedule: Option<Schedule>,
    next_partition: usize,
    streams: Vec<Stream>,
    /// Partitions that may have something to send, and those that wait for a time.
    stirred: BTreeSet<usize>,
    pauses: BTreeSet<(u64, usize)>,
    news: News,
    acks: Acks,
    /// Answers with errors, by code.
    pub errors: BTreeMap<ErrorCode, u64>,
    value: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Versions {
    produce: i16,
    metadata: i16,
}

/// One broker.
struct Node {
    address: SocketAddr,
    produce: Link,
    metadata: Link,
}

/// A connection that comes and goes, and what was asked over it and not answered yet: the
/// partitions of each request.
#[derive(Default)]
struct Link {
    connection: Option<Connection>,
    unanswered: VecDeque<(i32, Vec<usize>)>,
    connect_at_ns: u64,
    pause_ns: u64,
}

/// The search for leaders.
#[derive(Default)]
struct News {
    wanted: bool,
    /// Not before; and whom the question went to.
    at_ns: u64,
    asked: Option<i32>,
    /// The last node that was asked; the next one is next.
    last: i32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Produce,
    Metadata,
}

impl Client {
    /// Knows the brokers that `control` names.
    pub fn open(control: &mut Control, topic: &Topic, settings: Settings) -> Result<Client> {
        let poll = Poll::new().during("creating an epoll")?;
        let response = control.call(&metadata_request(&topic.name))?;
        let mut nodes = BTreeMap::new();
        for broker in &response.brokers {
            let node = Node {
                address: address_of(broker)?,
                produce: Link::default(),
                metadata: Link::default(),
            };
            nodes.insert(broker.node_id, node);
        }
        let partitions = topic.partitions as usize;
        let mut client = Client {
            settings,
            poll,
            nodes,
            versions: Versions {
                produce: control.version(ApiKey::Produce)?,
                metadata: control.version(ApiKey::Metadata)?,
            },
            producer: control.producer_id()?,
            schedule: None,
            next_partition: 0,
            streams: (0..partitions).map(|_| Stream::default()).collect(),
            stirred: BTreeSet::new(),
            pauses: BTreeSet::new(),
            news: News::default(),
            acks: Acks::new(partitions, monotonic_ns()),
            errors: BTreeMap::new(),
            value: vec![7; settings.message_bytes],
            topic: topic.clone(),
        };
        client.take_news(&response);
        client.push_all();
        client.settle()?;
        Ok(client)
    }

    /// From now on messages are due at the rate of the settings.
    pub fn go(&mut self) {
        let now_ns = monotonic_ns();
        self.acks.rested(now_ns);
        self.schedule = Some(Schedule::new(
            now_ns,
            u64::MAX,
            self.settings.messages_per_s,
        ));
    }

    /// From now on no schedule makes anything due; waits until everything is acknowledged.
    pub fn rest(&mut self) -> Result<()> {
        self.schedule = None;
        self.settle()
    }

    fn settle(&mut self) -> Result<()> {
        let is_idle = |client: &Client| client.streams.iter().all(Stream::is_idle);
        match self.run(PATIENCE, is_idle)? {
            true => Ok(()),
            false => Err(BenchError::TimedOut {
                what: format!(
                    "an acknowledgement of every partition of {}",
                    self.topic.name
                ),
                seconds: PATIENCE.as_secs(),
            }),
        }
    }

    /// One message more is due in each partition.
    pub fn push_all(&mut self) {
        self.streams.iter_mut().for_each(Stream::push);
        self.stirred.extend(0..self.streams.len());
    }

    pub fn leader(&self, partition: usize) -> Option<i32> {
        self.streams.get(partition)?.leader()
    }

    /// The node that leads most.
    pub fn greatest_leader(&self) -> Option<i32> {
        let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
        for leader in self.streams.iter().filter_map(Stream::leader) {
            *counts.entry(leader).or_default() += 1;
        }
        let greatest = counts.into_iter().max_by_key(|(_, count)| *count);
        greatest.map(|(node, _)| node)
    }

    /// `node` fails now.
    pub fn begin(&mut self, node: i32) {
        let (streams, now_ns) = (&self.streams, monotonic_ns());
        let leads = |partition: usize| streams[partition].leader() == Some(node);
        self.acks.begin(node, leads, now_ns);
    }

    /// Waits count from now on, since nothing was sent before.
    pub fn rested(&mut self) {
        self.acks.rested(monotonic_ns());
    }

    pub fn all_elsewhere(&self) -> bool {
        self.acks.all_elsewhere()
    }

    pub fn incident(&self) -> Option<Incident> {
        self.acks.incident(monotonic_ns())
    }

    /// Messages acknowledged, by partition.
    pub fn acked(&self) -> Vec<u64> {
        self.streams.iter().map(|stream| stream.acked).collect()
    }

    /// Works until `is_done`, or until the time is over; says whether it was done.
    pub fn run(
        &mut self,
        time: Duration,
        mut is_done: impl FnMut(&Client) -> bool,
    ) -> Result<bool> {
        let until_ns = monotonic_ns() + crate::clock::ns(time);
        loop {
            if is_done(self) {
                return Ok(true);
            }
            let now_ns = monotonic_ns();
            if now_ns >= until_ns {
                return Ok(false);
            }
            self.take_due(now_ns);
            self.send(now_ns)?;
            self.ask(now_ns)?;
            let deadline_ns = self.next_ns(now_ns).min(until_ns);
            let events = self.poll.wait(Some(deadline_ns));
            for event in events.during("waiting for the brokers")? {
                let (node, purpose) = owner(event.token);
                self.ready(node, purpose, event.writable)?;
            }
        }
    }

    fn take_due(&mut self, now_ns: u64) {
        if let Some(schedule) = &mut self.schedule {
            while schedule.take(now_ns).is_some() {
                self.streams[self.next_partition].push();
                self.stirred.insert(self.next_partition);
                self.next_partition = (self.next_partition + 1) % self.streams.len();
            }
        }
        while let Some((at_ns, partition)) = self.pauses.first().copied() {
            if at_ns > now_ns {
                break;
            }
            self.pauses.pop_first();
            self.stirred.insert(partition);
        }
    }

    fn next_ns(&self, now_ns: u64) -> u64 {
        let message_ns = self.schedule.as_ref().and_then(Schedule::next_ns);
        let pause_ns = self.pauses.first().map(|(at_ns, _)| *at_ns);
        let asks = self.news.wanted && self.news.asked.is_none();
        let news_ns = asks.then_some(self.news.at_ns);
        let all = [message_ns, pause_ns, news_ns].into_iter().flatten();
        all.fold(now_ns + NS_PER_S / 10, u64::min)
    }

    /// Sends what is ready: one request to each broker that has room.
    fn send(&mut self, now_ns: u64) -> Result<()> {
        let mut ready: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        let mut blocked = BTreeSet::new();
        for partition in std::mem::take(&mut self.stirred) {
            let Some(node) = self.streams[partition].wants(now_ns) else {
                continue;
            };
            let link = self.nodes.get(&node).map(|node| &node.produce);
            let full = link.is_some_and(|link| link.unanswered.len() >= IN_FLIGHT_MAX);
            let partitions = ready.entry(node).or_default();
            if full || partitions.len() >= REQUEST_BYTES / BATCH_BYTES {
                blocked.insert(partition);
            } else {
                partitions.push(partition);
            }
        }
        self.stirred.extend(blocked);
        for (node, partitions) in ready {
            if !partitions.is_empty() {
                self.send_to(node, partitions, now_ns)?;
            }
        }
        Ok(())
    }

    fn send_to(&mut self, node: i32, partitions: Vec<usize>, now_ns: u64) -> Result<()> {
        if !self.connect(node, Purpose::Produce, now_ns) {
            // Marked as sent to be given up at once, so that all failures go one way.
            let max = self.messages_max();
            for partition in &partitions {
                self.streams[*partition].take(now_ns, max);
                self.give_up(*partition, node, now_ns);
            }
            return Ok(());
        }
        let mut partition_data = Vec::with_capacity(partitions.len());
        let max = self.messages_max();
        for partition in &partitions {
            if let Some(batch) = self.streams[*partition].take(now_ns, max) {
                partition_data.push(PartitionProduceData {
                    index: *partition as i32,
                    records: Some(self.records(batch)),
                });
            }
        }
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: TIMEOUT_MS,
            topic_data: vec![TopicProduceData {
                name: Str::copied(&self.topic.name),
                topic_id: self.topic.id,
                partition_data,
            }],
            ..Default::default()
        };
        let version = self.versions.produce;
        let link = &mut self.link(node, Purpose::Produce);
        if let Some(connection) = &mut link.connection {
            let id = connection.request(&request, version)?;
            link.unanswered.push_back((id, partitions));
        }
        self.flush(node, Purpose::Produce);
        Ok(())
    }

    fn messages_max(&self) -> u32 {
        (BATCH_BYTES / self.settings.message_bytes.max(1)).max(1) as u32
    }

    fn records(&self, batch: Batch) -> Bytes {
        let (id, epoch) = self.producer;
        let mut builder = BatchBuilder::new().producer(id, epoch, batch.sequence);
        for _ in 0..batch.messages {
            builder.push(wall_ms(), None, Some(&self.value), &[]);
        }
        builder.build().into_bytes()
    }

    fn link(&mut self, node: i32, purpose: Purpose) -> &mut Link {
        let node = self.nodes.get_mut(&node).expect("only known nodes lead");
        match purpose {
            Purpose::Produce => &mut node.produce,
            Purpose::Metadata => &mut node.metadata,
        }
    }

    /// Whether there is a connection; tries to make one if it is time.
    fn connect(&mut self, node: i32, purpose: Purpose, now_ns: u64) -> bool {
        let Some(address) = self.nodes.get(&node).map(|node| node.address) else {
            return false;
        };
        let link = self.link(node, purpose);
        if link.connection.is_some() {
            return true;
        }
        if link.connect_at_ns > now_ns {
            return false;
        }
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT);
        let token = node as usize * 2 + usize::from(purpose == Purpose::Metadata);
        let connection = stream
            .ok()
            .and_then(|stream| Connection::adopt(stream, &self.poll, token).ok());
        let link = self.link(node, purpose);
        link.connection = connection;
        match link.connection {
            Some(_) => link.pause_ns = 0,
            None => link.back_off(now_ns),
        }
        link.connection.is_some()
    }

    /// Writes; a connection that breaks is given up.
    fn flush(&mut self, node: i32, purpose: Purpose) -> bool {
        let Client { nodes, poll, .. } = self;
        let link = nodes.get_mut(&node).map(|node| match purpose {
            Purpose::Produce => &mut node.produce,
            Purpose::Metadata => &mut node.metadata,
        });
        let connection = link.and_then(|link| link.connection.as_mut());
        let flushed = connection.is_none_or(|connection| connection.flush(poll).is_ok());
        if !flushed {
            self.broken(node, purpose);
        }
        flushed
    }

    fn ready(&mut self, node: i32, purpose: Purpose, writable: bool) -> Result<()> {
        if writable && !self.flush(node, purpose) {
            return Ok(());
        }
        let Some(connection) = &mut self.link(node, purpose).connection else {
            return Ok(());
        };
        let is_open = matches!(connection.receive(), Ok(true));
        // What came before the end still counts.
        self.answers(node, purpose)?;
        if !is_open {
            self.broken(node, purpose);
        }
        Ok(())
    }

    fn broken(&mut self, node: i32, purpose: Purpose) {
        let now_ns = monotonic_ns();
        let link = self.link(node, purpose);
        link.connection = None;
        link.back_off(now_ns);
        let unanswered = std::mem::take(&mut link.unanswered);
        match purpose {
            Purpose::Produce => {
                for partition in unanswered
                    .into_iter()
                    .flat_map(|(_, partitions)| partitions)
                {
                    self.give_up(partition, node, now_ns);
                }
            }
            Purpose::Metadata => {
                if self.news.asked == Some(node) {
                    self.news.asked = None;
                }
            }
        }
    }

    /// The batch that went to `node` is repeated later, or when somebody else leads.
    fn give_up(&mut self, partition: usize, node: i32, now_ns: u64) {
        if self.streams[partition].lost(node, now_ns + RETRY_NS) {
            self.pauses.insert((now_ns + RETRY_NS, partition));
            self.want_news(now_ns);
        }
    }

    fn want_news(&mut self, now_ns: u64) {
        if !self.news.wanted {
            self.news.wanted = true;
            self.news.at_ns = self.news.at_ns.max(now_ns);
        }
    }

    /// Asks the next node that can be reached who leads.
    fn ask(&mut self, now_ns: u64) -> Result<()> {
        if !self.news.wanted || self.news.asked.is_some() || self.news.at_ns > now_ns {
            return Ok(());
        }
        let last = self.news.last;
        let later = self.nodes.keys().filter(|node| **node > last);
        let earlier = self.nodes.keys().filter(|node| **node <= last);
        let candidates: Vec<i32> = later.chain(earlier).copied().collect();
        for node in candidates {
            self.news.last = node;
            if !self.connect(node, Purpose::Metadata, now_ns) {
                continue;
            }
            let request = metadata_request(&self.topic.name);
            let version = self.versions.metadata;
            let link = self.link(node, Purpose::Metadata);
            if let Some(connection) = &mut link.connection {
                let id = connection.request(&request, version)?;
                link.unanswered.push_back((id, Vec::new()));
            }
            if self.flush(node, Purpose::Metadata) {
                self.news.asked = Some(node);
                return Ok(());
            }
        }
        self.news.at_ns = now_ns + RECONNECT_MIN_NS;
        Ok(())
    }

    /// Takes the answers that have come.
    fn answers(&mut self, node: i32, purpose: Purpose) -> Result<()> {
        loop {
            let link = self.link(node, purpose);
            let frame = match &mut link.connection {
                Some(connection) => connection.frame()?,
                None => None,
            };
            let Some(frame) = frame else {
                return Ok(());
            };
            let Some((id, partitions)) = link.unanswered.pop_front() else {
                return Err(BenchError::Garbled("an answer to no question".to_owned()));
            };
            let mut input = Decoder::new(frame);
            let (key, version) = match purpose {
                Purpose::Produce => (ApiKey::Produce, self.versions.produce),
                Purpose::Metadata => (ApiKey::Metadata, self.versions.metadata),
            };
            let header = ResponseHeader::decode(&mut input, key, version)?;
            if header.correlation_id != id {
                let what = format!("answer {} instead of {id}", header.correlation_id);
                return Err(BenchError::Garbled(what));
            }
            let now_ns = monotonic_ns();
            match purpose {
                Purpose::Produce => {
                    let response = ProduceResponse::decode(&mut input, version)?;
                    self.produced(node, &partitions, &response, now_ns)?;
                }
                Purpose::Metadata => {
                    let response = MetadataResponse::decode(&mut input, version)?;
                    self.news.asked = None;
                    self.news.at_ns = now_ns + RETRY_NS;
                    self.take_news(&response);
                }
            }
        }
    }

    fn produced(
        &mut self,
        node: i32,
        sent: &[usize],
        response: &ProduceResponse,
        now_ns: u64,
    ) -> Result<()> {
        let topics = response.responses.iter();
        for answer in topics.flat_map(|topic| &topic.partition_responses) {
            let partition = answer.index as usize;
            if !sent.contains(&partition) {
                let what = format!("an answer for partition {}", answer.index);
                return Err(BenchError::Garbled(what));
            }
            let stream = &mut self.streams[partition];
            let code = answer.error_code;
            // A batch that is there already was acknowledged by somebody who could not say so.
            if code.is_none() || code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
                stream.acknowledged();
                self.acks.acknowledged(partition, node, now_ns);
                self.stirred.insert(partition);
                continue;
            }
            *self.errors.entry(code).or_default() += 1;
            if !code.retriable() {
                let message = answer.error_message.as_deref();
                let what = || format!("producing to {}-{partition}", self.topic.name);
                return accepted(what, code, message);
            }
            stream.refused(now_ns + RETRY_NS);
            let hint = &answer.current_leader;
            if stream.led_by(hint.leader_id, hint.leader_epoch) {
                self.stirred.insert(partition);
            } else {
                self.pauses.insert((now_ns + RETRY_NS, partition));
                self.want_news(now_ns);
            }
        }
        Ok(())
    }

    fn take_news(&mut self, response: &MetadataResponse) {
        for found in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let partition = found.partition_index as usize;
            let Some(stream) = self.streams.get_mut(partition) else {
                continue;
            };
            if stream.led_by(found.leader_id, found.leader_epoch) {
                self.stirred.insert(partition);
            }
        }
        self.news.wanted = self.streams.iter().any(Stream::wants_news);
    }
}

impl Link {
    fn back_off(&mut self, now_ns: u64) {
        self.pause_ns = (2 * self.pause_ns).clamp(RECONNECT_MIN_NS, RECONNECT_MAX_NS);
        self.connect_at_ns = now_ns + self.pause_ns;
    }
}

fn owner(token: usize) -> (i32, Purpose) {
    let purpose = match token % 2 {
        0 => Purpose::Produce,
        _ => Purpose::Metadata,
    };
    ((token / 2) as i32, purpose)
}
