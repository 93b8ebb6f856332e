//! Produce (0), v3-13.
//!
//! Behaviour: every batch is checked here, on the connection's core, where load is spread already: CRC, framing,
//! timestamps, size (`protocol::records::validate`); what the topic demands of its form (LogAppendTime, another
//! codec) is done here too. The owners then only give offsets. One mail goes to each owner core. `acks=1` and
//! `acks=-1` both answer after the entry is committed, hence synced by a majority (law 7); `acks=0` is not answered,
//! and an error closes the connection so that the client looks again, as in Kafka.
//!
//! Version notes: v8 error by record; v10 the leader's hint (KIP-951); v13 topic ids.
//! Not done: transactions. A request or batch that belongs to one is refused with INVALID_TXN_STATE; no client gets
//! that far, since no transactional id is given out (see `producer_ids`).

use super::by_owner::{self, ByOwner};
use super::metadata::by_presence;
use super::{Reply, Session};
use crate::cluster::{Topic, partition_id};
use crate::config::{Codec, TimestampType, TopicConfig};
use crate::shard::mail::{Produce, Produced};
use crate::shard::view::View;
use bytes::Bytes;
use protocol::compression::{Budget, Codec as WireCodec, Compression};
use protocol::error::ErrorCode;
use protocol::messages::*;
use protocol::records::{self, Invalid, Rules, Validated};
use std::rc::Rc;
use std::time::Duration;
use storage::PartitionId;

/// Decompressed bytes that the batches of one request may have together, unless one alone may have more.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// What a request may still unpack to.
struct Unpacking {
    batch_bytes_max: usize,
    left_bytes: usize,
}

/// Where the answer for a partition stands, and what was decided about it here.
struct Wanted {
    topic: usize,
    partition: usize,
    id: PartitionId,
    batch: Bytes,
    log_append_time_ms: i64,
}

pub async fn handle(session: &Session, version: i16, request: ProduceRequest) -> Reply {
    let acks = request.acks;
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let (mut response, wanted) = check(session, version, &request);
    drop(request);
    let outcomes = append(session, wanted, acks, timeout).await;
    for (wanted, outcome) in outcomes {
        let topic = &mut response.responses[wanted.0];
        settle(
            session,
            version,
            &mut topic.partition_responses[wanted.1],
            outcome,
            wanted.2,
            wanted.3,
        );
    }
    tell_leaders(session, &mut response);
    if acks != 0 {
        return Reply::Answer(response.into());
    }
    let refused = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    if refused
        .into_iter()
        .any(|answer| answer.error_code != ErrorCode::NONE)
    {
        // The client expects no answer; the closed connection makes it look at the metadata again.
        return Reply::Close;
    }
    Reply::Nothing
}

/// Looks everything up and checks the batches; what is refused has its answer already.
fn check(
    session: &Session,
    version: i16,
    request: &ProduceRequest,
) -> (ProduceResponse, Vec<Wanted>) {
    let mut response = ProduceResponse::default();
    let mut wanted = Vec::new();
    let wall_ms = session.shard.core.wall_ms();
    let refusal = match request {
        _ if !matches!(request.acks, -1..=1) => Some(ErrorCode::INVALID_REQUIRED_ACKS),
        _ if request.transactional_id.is_some() => Some(ErrorCode::INVALID_TXN_STATE),
        _ => None,
    };
    let view = session.shard.view.borrow();
    let mut unpacking = Unpacking::up_to(view.broker().max_decompressed_message_bytes);
    for topic in &request.topic_data {
        let found = match version {
            13.. => view.cluster.topic_by_id(topic.topic_id),
            _ => view.cluster.topic(&topic.name),
        };
        let unknown = match version {
            13.. => ErrorCode::UNKNOWN_TOPIC_ID,
            _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        };
        let facts = found.map(|found| {
            let config = view.topic_config(found.id);
            let rules = rules(&config);
            (found, config, rules)
        });
        let mut answers = Vec::with_capacity(topic.partition_data.len());
        for data in &topic.partition_data {
            let mut answer = PartitionProduceResponse {
                index: data.index,
                base_offset: -1,
                ..PartitionProduceResponse::default()
            };
            let place = (response.responses.len(), answers.len());
            match (&facts, refusal) {
                (_, Some(code)) => answer.refuse(code, None),
                (None, _) => answer.refuse(unknown, None),
                (Some((found, ..)), _)
                    if data.index < 0 || data.index as usize >= found.partitions.len() =>
                {
                    answer.refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None);
                }
                (Some((found, ..)), _) if found.internal => {
                    let why = "Internal topics are written by the broker only.";
                    answer.refuse(ErrorCode::INVALID_TOPIC_EXCEPTION, Some(why));
                }
                (Some((found, config, _)), _)
                    if request.acks == -1 && lacks_replicas(&view, found, data.index, config) =>
                {
                    answer.refuse(ErrorCode::NOT_ENOUGH_REPLICAS, None);
                }
                (Some((found, config, rules)), _) => {
                    let records = data.records.clone().unwrap_or_default();
                    match accept(&records, version, rules, wall_ms, &mut unpacking) {
                        Ok(validated) => {
                            let appended_at = config.timestamp_type == TimestampType::LogAppendTime;
                            wanted.push(Wanted {
                                topic: place.0,
                                partition: place.1,
                                id: partition_id(found.id, data.index as u32),
                                batch: validated.batch.into_bytes(),
                                log_append_time_ms: if appended_at { wall_ms } else { -1 },
                            });
                        }
                        Err(invalid) => answer.refuse_invalid(&invalid),
                    }
                }
            }
            answers.push(answer);
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: answers,
        });
    }
    (response, wanted)
}

/// Fewer replicas are in sync than `min.insync.replicas` asks for, or than there are if it asks for more.
fn lacks_replicas(view: &View, topic: &Topic, partition: i32, config: &TopicConfig) -> bool {
    let Ok(index) = u32::try_from(partition) else {
        return false; // Refused for another reason.
    };
    let replicas = topic.partitions.get(index as usize).map_or(0, Vec::len);
    let wanted = replicas.min(config.min_insync_replicas as usize);
    by_presence(view, topic, index).0.len() < wanted
}

fn accept(
    records: &Bytes,
    version: i16,
    rules: &Rules,
    wall_ms: i64,
    unpacking: &mut Unpacking,
) -> Result<Validated, Invalid> {
    let batch = records::produced_batch(records, version)?;
    let bytes_max = unpacking.batch_bytes_max.min(unpacking.left_bytes);
    let mut budget = Budget::new(bytes_max);
    let validated = records::validate(&batch, rules, wall_ms, &mut budget);
    unpacking.left_bytes -= bytes_max - budget.bytes_left();
    validated
}

impl Unpacking {
    fn up_to(batch_bytes_max: usize) -> Unpacking {
        Unpacking {
            batch_bytes_max,
            left_bytes: batch_bytes_max.max(DECOMPRESSED_BYTES_MAX),
        }
    }
}

/// What a topic's config demands of a batch.
fn rules(config: &Rc<TopicConfig>) -> Rules {
    Rules {
        max_message_bytes: config.max_message_bytes as usize,
        timestamp_type: match config.timestamp_type {
            TimestampType::CreateTime => records::TimestampType::CreateTime,
            TimestampType::LogAppendTime => records::TimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: config.timestamp_before_max_ms.min(i64::MAX as u64) as i64,
        timestamp_after_max_ms: config.timestamp_after_max_ms.min(i64::MAX as u64) as i64,
        require_key: false,
        compression: compression(config),
    }
}

/// The codec that the topic wants; None keeps the producer's.
fn compression(config: &TopicConfig) -> Option<Compression> {
    let wanted = &config.compression;
    let with_level = |codec, level| {
        // Levels were checked when the config was set.
        Compression::with_level(codec, level).unwrap_or(Compression::of(codec))
    };
    match wanted.codec {
        Codec::Producer => None,
        Codec::Uncompressed => Some(Compression::NONE),
        Codec::Gzip => Some(with_level(WireCodec::Gzip, wanted.gzip_level)),
        Codec::Snappy => Some(Compression::of(WireCodec::Snappy)),
        Codec::Lz4 => Some(with_level(WireCodec::Lz4, wanted.lz4_level)),
        Codec::Zstd => Some(with_level(WireCodec::Zstd, wanted.zstd_level)),
    }
}

type Place = (usize, usize, i64, PartitionId);

/// One mail to each owner; the outcomes by their place in the answer.
async fn append(
    session: &Session,
    wanted: Vec<Wanted>,
    acks: i16,
    timeout: Duration,
) -> Vec<(Place, Produced)> {
    let shard = &session.shard;
    let mut by_owner = ByOwner::new(shard.core.cores());
    for wanted in wanted {
        let place = (
            wanted.topic,
            wanted.partition,
            wanted.log_append_time_ms,
            wanted.id,
        );
        by_owner.add(shard.owner(wanted.id), place, (wanted.id, wanted.batch));
    }
    let answer = acks != 0;
    let pending = by_owner.begin(shard, |partitions| Produce { partitions, answer });
    if !answer {
        return Vec::new();
    }
    // Late: appended, perhaps, and not known to be committed: the client has to find out (never NOT_LEADER).
    let deadline = shard.core.now() + timeout;
    by_owner::until(shard, deadline, pending, Produced::timed_out()).await
}

fn settle(
    session: &Session,
    version: i16,
    answer: &mut PartitionProduceResponse,
    outcome: Produced,
    log_append_time_ms: i64,
    id: PartitionId,
) {
    answer.log_start_offset = outcome.log_start_offset;
    if outcome.error == ErrorCode::NONE {
        answer.base_offset = outcome.base_offset;
        answer.log_append_time_ms = log_append_time_ms;
        return;
    }
    answer.refuse(outcome.error, None);
    let about_leadership = matches!(
        outcome.error,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
    );
    let leader = session.shard.view.borrow().leader(id);
    if let Some(leader) = leader.filter(|_| version >= 10 && about_leadership) {
        answer.current_leader = LeaderIdAndEpoch {
            leader_id: leader.node,
            leader_epoch: leader.epoch,
        };
    }
}

/// Addresses of the leaders that the answer hints at (KIP-951).
fn tell_leaders(session: &Session, response: &mut ProduceResponse) {
    let answers = response.responses.iter();
    let answers = answers.flat_map(|topic| &topic.partition_responses);
    let hinted = answers.map(|answer| answer.current_leader.leader_id);
    response.node_endpoints = super::metadata::endpoints_of(session, hinted);
}

trait Refuse {
    fn refuse(&mut self, code: ErrorCode, why: Option<&'static str>);
    fn refuse_invalid(&mut self, invalid: &Invalid);
}

impl Refuse for PartitionProduceResponse {
    fn refuse(&mut self, code: ErrorCode, why: Option<&'static str>) {
        self.error_code = code;
        self.base_offset = -1;
        self.error_message = Some(why.unwrap_or(code.description()).into());
    }

    fn refuse_invalid(&mut self, invalid: &Invalid) {
        self.error_code = invalid.code();
        self.error_message = Some(invalid.to_string().into());
        self.record_errors = invalid
            .record_faults()
            .iter()
            .map(|fault| BatchIndexAndErrorMessage {
                batch_index: fault.batch_index,
                batch_index_error_message: Some(fault.reason.to_string().into()),
            })
            .collect();
    }
}

impl Produced {
    fn timed_out() -> Produced {
        Produced {
            error: ErrorCode::REQUEST_TIMED_OUT,
            base_offset: -1,
            log_start_offset: -1,
            leader_epoch: -1,
        }
    }
}
