//! `corelane produce`: lines or generated records into a topic.
//!
//! Records gather in one batch for each partition. All batches are sent when one is full, when the
//! input pauses (so that a line typed at a terminal arrives at once), and at the end. A batch whose
//! leader has moved is sent again; one whose connection broke is not, since it may have arrived.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use protocol::ErrorCode;
use protocol::compression::Compression;
use protocol::messages::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use protocol::records::{BatchBuilder, HeaderRef};
use serde_json::json;

use super::arguments::{Acks, ProduceArguments};
use super::client::{Attempts, Client, now_ms};
use super::error::ShellError;
use super::generate::Generator;
use super::output::Output;
use super::partitioner::partition_of_key;
use super::table::size;

/// Newest version with topics by name.
const PRODUCE_NEWEST: i16 = 12;

/// Longest line that is read: larger records than this no broker takes.
const LINE_BYTES_MAX: u64 = 100 << 20;

pub(crate) fn run(
    arguments: &ProduceArguments,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let mut producer = Producer::new(arguments)?;
    match (arguments.count, &arguments.file) {
        (Some(count), _) => generate(&mut producer, count, arguments.size as usize)?,
        (None, Some(path)) => {
            let cannot = |error| ShellError::File {
                path: path.clone(),
                error,
            };
            let file = File::open(path).map_err(cannot)?;
            let bytes = file.metadata().map_err(cannot)?.len();
            let bar = bar(bytes, "{bytes}/{total_bytes}");
            let read = |error| ShellError::File {
                path: path.clone(),
                error,
            };
            lines(&mut producer, arguments, bar.wrap_read(file), read)?;
            bar.finish_and_clear();
        }
        (None, None) => lines(
            &mut producer,
            arguments,
            io::stdin().lock(),
            ShellError::Input,
        )?,
    }
    producer.flush()?;
    let written = producer.written;
    let elapsed = producer.began.elapsed();
    output.show(
        arguments.format.format,
        || written.sentence(&arguments.topic, elapsed),
        || written.json(&arguments.topic, elapsed),
    )?;
    Ok(())
}

fn generate(producer: &mut Producer<'_>, count: u64, size: usize) -> Result<(), ShellError> {
    let bar = bar(count, "{human_pos}/{human_len} records");
    let mut generator = Generator::new(size);
    for _ in 0..count {
        producer.push(None, Some(generator.value()))?;
        bar.inc(1);
    }
    producer.flush()?;
    bar.finish_and_clear();
    Ok(())
}

/// A bar on stderr; it stays away by itself if that is no terminal.
fn bar(length: u64, figures: &str) -> ProgressBar {
    let template = format!("{{wide_bar}} {figures} {{eta}}");
    let style = ProgressStyle::with_template(&template);
    let bar = ProgressBar::new(length);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn lines(
    producer: &mut Producer<'_>,
    arguments: &ProduceArguments,
    input: impl Read,
    failed: impl Fn(io::Error) -> ShellError,
) -> Result<(), ShellError> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if read.map_err(&failed)? == 0 {
            return Ok(());
        }
        number += 1;
        if line.len() as u64 == LINE_BYTES_MAX {
            let reason = format!("it is longer than {LINE_BYTES_MAX} bytes.");
            return Err(ShellError::impossible(
                format!("send line {number}"),
                reason,
            ));
        }
        let (key, value) = split(trim_end(&line), arguments.key_separator.as_deref());
        if arguments.key_separator.is_some() && key.is_none() {
            let reason = "it has no key separator. Correct it, or leave out --key-separator.";
            return Err(ShellError::impossible(
                format!("send line {number}"),
                reason,
            ));
        }
        let key = key.or(arguments.key.as_ref().map(|key| key.as_bytes()));
        let null = arguments.null.as_ref().map(|null| null.as_bytes());
        let unless_null = |part: &&[u8]| Some(*part) != null;
        producer.push(key.filter(unless_null), Some(value).filter(unless_null))?;
        if input.buffer().is_empty() {
            producer.flush()?;
        }
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Key and value of a line, parted by the first separator.
fn split<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let separator = separator
        .map(str::as_bytes)
        .filter(|separator| !separator.is_empty());
    let found = separator.and_then(|separator| {
        let at = line
            .windows(separator.len())
            .position(|window| window == separator)?;
        Some((&line[..at], &line[at + separator.len()..]))
    });
    match found {
        Some((key, value)) => (Some(key), value),
        None => (None, line),
    }
}

/// What went out.
#[derive(Clone, Debug, Default)]
struct Written {
    records: u64,
    /// Keys and values, before batching and compression.
    bytes: u64,
    /// How long each request took.
    latencies: Vec<Duration>,
}

struct Producer<'a> {
    arguments: &'a ProduceArguments,
    client: Client,
    /// Leader of each partition.
    leaders: BTreeMap<i32, i32>,
    partitions: i32,
    /// Where records without a key go until the next flush.
    sticky: i32,
    open: BTreeMap<i32, BatchBuilder>,
    written: Written,
    began: Instant,
}

impl<'a> Producer<'a> {
    fn new(arguments: &'a ProduceArguments) -> Result<Producer<'a>, ShellError> {
        let mut producer = Producer {
            arguments,
            client: Client::connect(&arguments.client)?,
            leaders: BTreeMap::new(),
            partitions: 0,
            sticky: 0,
            open: BTreeMap::new(),
            written: Written::default(),
            began: Instant::now(),
        };
        producer.find_leaders()?;
        match arguments.partition {
            Some(partition) if partition >= producer.partitions => {
                let what = format!("write to partition {partition} of {}", arguments.topic);
                let reason = format!(
                    "the topic has {} partition(s), counted from 0.",
                    producer.partitions
                );
                Err(ShellError::impossible(what, reason))
            }
            _ => Ok(producer),
        }
    }

    fn find_leaders(&mut self) -> Result<(), ShellError> {
        let topics = self
            .client
            .topics(std::slice::from_ref(&self.arguments.topic), true)?;
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        self.leaders = partitions
            .map(|partition| (partition.partition_index, partition.leader_id))
            .collect();
        self.partitions = i32::try_from(self.leaders.len()).unwrap_or(i32::MAX);
        if self.partitions == 0 {
            let what = format!("write to topic {}", self.arguments.topic);
            return Err(ShellError::impossible(
                what,
                "the broker tells no partitions of it.",
            ));
        }
        Ok(())
    }

    fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), ShellError> {
        let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        let partition = match (self.arguments.partition, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, self.partitions),
            (None, None) => self.sticky,
        };
        let batch_bytes = self.arguments.batch_bytes as usize;
        let full =
            |batch: &BatchBuilder| batch.record_count() > 0 && batch.size() + bytes > batch_bytes;
        if self.open.get(&partition).is_some_and(full) {
            self.flush()?;
        }
        let headers: Vec<HeaderRef<'_>> = self
            .arguments
            .header
            .iter()
            .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())))
            .collect();
        let compression = Compression::of(self.arguments.compression);
        let batch = self
            .open
            .entry(partition)
            .or_insert_with(|| BatchBuilder::new().compression(compression));
        batch.push(now_ms(), key, value, &headers);
        self.written.records += 1;
        self.written.bytes += bytes as u64;
        Ok(())
    }

    /// Sends all open batches and waits until they are written.
    fn flush(&mut self) -> Result<(), ShellError> {
        self.sticky = (self.sticky + 1) % self.partitions;
        let mut batches: BTreeMap<i32, Bytes> = std::mem::take(&mut self.open)
            .into_iter()
            .map(|(partition, batch)| (partition, batch.build().into_bytes()))
            .collect();
        let mut attempts = Attempts::new(self.client.timeout());
        while !batches.is_empty() {
            let began = Instant::now();
            let trouble = self.send(&mut batches)?;
            self.written.latencies.push(began.elapsed());
            let Some((partition, code, message)) = trouble else {
                break;
            };
            if !code.retriable() || !attempts.again() {
                let what = format!("write to partition {partition} of {}", self.arguments.topic);
                return Err(ShellError::refused(what, code, message.as_deref()));
            }
            self.find_leaders()?;
        }
        Ok(())
    }

    /// Sends each batch to its leader and takes out those that are written. Returns one of the
    /// errors, if there were any; one that nothing can be done about before the others.
    fn send(
        &mut self,
        batches: &mut BTreeMap<i32, Bytes>,
    ) -> Result<Option<(i32, ErrorCode, Option<String>)>, ShellError> {
        let mut by_leader: BTreeMap<i32, Vec<PartitionProduceData>> = BTreeMap::new();
        for (index, records) in batches.iter() {
            let leader = self.leaders.get(index).copied().unwrap_or(-1);
            let data = PartitionProduceData {
                index: *index,
                records: Some(records.clone()),
            };
            by_leader.entry(leader).or_default().push(data);
        }
        let mut answering = Vec::new();
        for (leader, partition_data) in by_leader {
            let request = self.request(partition_data);
            let connection = self.client.node(leader)?;
            if self.arguments.acks == Acks::None {
                connection.send_unanswered(&request, PRODUCE_NEWEST)?;
            } else {
                connection.send(&request, PRODUCE_NEWEST)?;
                answering.push(leader);
            }
        }
        if self.arguments.acks == Acks::None {
            batches.clear();
        }
        let mut trouble = None;
        for leader in answering {
            // The broker itself may wait for replicas for the timeout that it was given.
            let patience = self.client.timeout();
            let response = self
                .client
                .node(leader)?
                .receive::<ProduceRequest>(patience)?;
            take_out(&response, batches, &mut trouble);
        }
        Ok(trouble)
    }

    fn request(&self, partition_data: Vec<PartitionProduceData>) -> ProduceRequest {
        ProduceRequest {
            transactional_id: None,
            acks: self.arguments.acks.code(),
            timeout_ms: self.client.timeout_ms(),
            topic_data: vec![TopicProduceData {
                name: self.arguments.topic.clone().into(),
                partition_data,
                ..TopicProduceData::default()
            }],
        }
    }
}

fn take_out(
    response: &ProduceResponse,
    batches: &mut BTreeMap<i32, Bytes>,
    trouble: &mut Option<(i32, ErrorCode, Option<String>)>,
) {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    for partition in partitions {
        match partition.error_code.ok() {
            Ok(()) => {
                batches.remove(&partition.index);
            }
            Err(code) => {
                let final_one = trouble
                    .as_ref()
                    .is_some_and(|(_, code, _)| !code.retriable());
                if !final_one {
                    let message = partition.error_message.as_ref().map(String::from);
                    *trouble = Some((partition.index, code, message));
                }
            }
        }
    }
}

impl Written {
    fn sentence(&self, topic: &str, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let (records, bytes) = (self.records, size(self.bytes));
        let mut text = format!("{records} record(s), {bytes} written to {topic}");
        if records > 1 {
            let (rate, bytes_rate) = (self.records as f64 / seconds, self.bytes as f64 / seconds);
            text += &format!(
                " in {seconds:.2} s: {rate:.0} records/s, {}/s\nrequests: {}, latency {:.1} ms \
                 median, {:.1} ms 99 %, {:.1} ms maximum",
                size(bytes_rate as u64),
                self.latencies.len(),
                self.latency_ms(0.5),
                self.latency_ms(0.99),
                self.latency_ms(1.0),
            );
        }
        text + "\n"
    }

    fn json(&self, topic: &str, elapsed: Duration) -> serde_json::Value {
        json!({
            "topic": topic,
            "records": self.records,
            "bytes": self.bytes,
            "seconds": elapsed.as_secs_f64(),
            "requests": self.latencies.len(),
            "latency_ms": {
                "median": self.latency_ms(0.5),
                "p99": self.latency_ms(0.99),
                "max": self.latency_ms(1.0),
            },
        })
    }

    /// The latency that this share of requests did not exceed.
    fn latency_ms(&self, share: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        let latency = sorted
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        latency.as_secs_f64() * 1e3
    }
}

#[cfg(test)]
mod tests {
    use protocol::messages::{PartitionProduceResponse, TopicProduceResponse};

    use super::*;

    #[test]
    fn lines_have_keys_if_asked() {
        assert_eq!(split(b"a:b:c", Some(":")), (Some(&b"a"[..]), &b"b:c"[..]));
        assert_eq!(split(b"a => b", Some(" => ")), (Some(&b"a"[..]), &b"b"[..]));
        assert_eq!(split(b"abc", Some(":")), (None, &b"abc"[..]));
        assert_eq!(split(b"a:b", None), (None, &b"a:b"[..]));
        assert_eq!(split(b":b", Some(":")), (Some(&b""[..]), &b"b"[..]));
        assert_eq!(trim_end(b"a\r\n"), b"a");
        assert_eq!(trim_end(b"a\n\n"), b"a\n");
    }

    #[test]
    fn written_batches_go_and_final_errors_win() {
        let partition = |index, error_code| PartitionProduceResponse {
            index,
            error_code,
            ..PartitionProduceResponse::default()
        };
        let response = ProduceResponse {
            responses: vec![TopicProduceResponse {
                partition_responses: vec![
                    partition(0, ErrorCode::NONE),
                    partition(1, ErrorCode::MESSAGE_TOO_LARGE),
                    partition(2, ErrorCode::NOT_LEADER_OR_FOLLOWER),
                ],
                ..TopicProduceResponse::default()
            }],
            ..ProduceResponse::default()
        };
        let mut batches: BTreeMap<i32, Bytes> = (0..3).map(|index| (index, Bytes::new())).collect();
        let mut trouble = None;
        take_out(&response, &mut batches, &mut trouble);
        assert_eq!(batches.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(trouble.unwrap().1, ErrorCode::MESSAGE_TOO_LARGE);
    }

    #[test]
    fn latencies_are_ranked() {
        let latencies = (1..=100).map(Duration::from_millis).collect();
        let written = Written {
            latencies,
            ..Written::default()
        };
        assert_eq!(written.latency_ms(0.5), 50.0);
        assert_eq!(written.latency_ms(0.99), 99.0);
        assert_eq!(written.latency_ms(1.0), 100.0);
        assert_eq!(Written::default().latency_ms(0.5), 0.0);
    }
}
