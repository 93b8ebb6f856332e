//! Fetch (1), v4-18.
//!
//! Behaviour: one mail to each owner core, with its share of the byte budget; an owner answers as soon as it has
//! `min_bytes`, an error or a divergence, and at the latest at `max_wait`. As soon as one owner has enough, the
//! others are told to answer with what they have. The records of an answer are the very memory that was written to
//! the journal, or read from a segment: nothing is copied.
//!
//! A client that names its rack (KIP-392) is sent from the leader to an in-sync replica there, if
//! `replica.selector.class` says so, and a node serves those of its own rack as a follower. Differs from Kafka: a
//! follower sends everybody else to the leader, and its readers too when it is not in sync any more; asked for an
//! offset behind the end of its log it says OFFSET_NOT_AVAILABLE, since the leader may have it.
//!
//! Version notes: v7 sessions (KIP-227, `fetch_session`); v9 leader epoch checks; v11 rack; v12 divergence (KIP-320/595);
//! v13 topic ids; v16 leader hints (KIP-951). `replica_id` >= 0 is a broker's fetch: replication has a protocol
//! of its own here, so it is refused (CVE-2018-1288's class).
//! With several owners, `min_bytes` is each one's goal on its own: an answer may come later than it could (never
//! later than `max_wait`), and holds what all have by then.

use super::Session;
use super::by_owner::ByOwner;
use super::fetch_session::{Entry, Plan};
use super::metadata::by_presence;
use crate::cluster::{Topic, partition_id};
use crate::config::ReplicaSelector;
use crate::shard::mail::{Fetch, FetchPartition as OwnerPartition, Fetched, ReadFrom};
use crate::shard::view::View;
use crate::shard::{Pending, Shard};
use protocol::codec::Chunks;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

pub async fn handle(session: &Session, version: i16, request: FetchRequest) -> FetchResponse {
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        return refused(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
    let shard = &session.shard;
    let (slots, bytes_max) = {
        let view = shard.view.borrow();
        let broker = view.broker();
        (
            broker.max_incremental_fetch_session_cache_slots,
            broker.fetch_max_bytes,
        )
    };
    let plan = {
        let mut sessions = shard.fetch_sessions.borrow_mut();
        sessions.plan(version, &request, shard.core.now(), slots, || {
            shard.core.random()
        })
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(code) => return refused(code),
    };
    let budget = usize::try_from(request.max_bytes)
        .unwrap_or(0)
        .min(bytes_max);
    let fetched = read(shard, version, &request, &plan, budget).await;
    let tell = shard.fetch_sessions.borrow_mut().finish(&plan, &fetched);
    answer(session, version, &plan, fetched, &tell)
}

fn refused(code: ErrorCode) -> FetchResponse {
    FetchResponse {
        error_code: code,
        ..FetchResponse::default()
    }
}

/// Reads what the plan names; the results in its order.
async fn read(
    shard: &Shard,
    version: i16,
    request: &FetchRequest,
    plan: &Plan,
    budget: usize,
) -> Vec<Fetched> {
    let mut fetched: Vec<Option<Fetched>> = vec![None; plan.entries.len()];
    let mut by_owner = ByOwner::new(shard.core.cores());
    let mut hopeless = false;
    let rack = Some(&*request.rack_id).filter(|rack| version >= 11 && !rack.is_empty());
    for (position, entry) in plan.entries.iter().enumerate() {
        match resolve(shard, version, entry, rack) {
            Ok(partition) => {
                by_owner.add(shard.owner(partition.partition), position, partition);
            }
            Err(code) => {
                hopeless = true;
                fetched[position] = Some(Fetched::refused(code, -1));
            }
        }
    }
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let may_wait = !hopeless && request.min_bytes > 0 && !wait.is_zero();
    let deadline = may_wait.then(|| shard.core.now() + wait);
    let owners = by_owner.count();
    let mut asked = Vec::with_capacity(owners);
    for (core, positions, partitions) in by_owner.into_owners() {
        let fetch = Fetch {
            partitions,
            max_bytes: (budget / owners).max(1),
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
            deadline,
            read_committed: request.isolation_level == 1,
        };
        asked.push((positions, Some(shard.ask_later(core, fetch))));
    }
    for (position, one) in gather(asked).await {
        fetched[position] = Some(one);
    }
    fetched
        .into_iter()
        .map(|one| one.expect("every entry was refused or asked for"))
        .collect()
}

type Asked<'a> = (Vec<usize>, Option<Pending<'a, Fetch>>);

/// Awaits all owners; the first that has something to tell hurries the others.
async fn gather(mut asked: Vec<Asked<'_>>) -> Vec<(usize, Fetched)> {
    let mut gathered = Vec::new();
    let mut hurried = false;
    std::future::poll_fn(move |context| {
        let mut news = false;
        for (positions, slot) in &mut asked {
            let Some(pending) = slot else { continue };
            if let Poll::Ready(answer) = Pin::new(pending).poll(context) {
                news |= answer.iter().any(is_worth_telling);
                gathered.extend(std::mem::take(positions).into_iter().zip(answer));
                *slot = None;
            }
        }
        let mut waiting = asked
            .iter()
            .filter_map(|(_, slot)| slot.as_ref())
            .peekable();
        if waiting.peek().is_none() {
            return Poll::Ready(std::mem::take(&mut gathered));
        }
        if news && !hurried {
            hurried = true;
            waiting.for_each(Pending::hurry);
        }
        Poll::Pending
    })
    .await
}

fn is_worth_telling(fetched: &Fetched) -> bool {
    !fetched.records.is_empty()
        || fetched.error != ErrorCode::NONE
        || fetched.diverging.is_some()
        || fetched.preferred_replica >= 0
}

/// The topic of an entry, by its id or, before v13, by its name.
fn named<'a>(view: &'a View, version: i16, entry: &Entry) -> Option<&'a Topic> {
    match version {
        13.. => view.cluster.topic_by_id(entry.topic.id),
        _ => view.cluster.topic(&entry.topic.name),
    }
}

/// The owner's name of a partition.
fn resolve(
    shard: &Shard,
    version: i16,
    entry: &Entry,
    rack: Option<&str>,
) -> Result<OwnerPartition, ErrorCode> {
    let view = shard.view.borrow();
    let topic = named(&view, version, entry).ok_or(match version {
        13.. => ErrorCode::UNKNOWN_TOPIC_ID,
        _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    })?;
    let wanted = &entry.wanted;
    if wanted.partition < 0 || wanted.partition as usize >= topic.partitions.len() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    Ok(OwnerPartition {
        partition: partition_id(topic.id, wanted.partition as u32),
        offset: wanted.fetch_offset,
        max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
        current_leader_epoch: wanted.current_leader_epoch,
        last_fetched_epoch: wanted.last_fetched_epoch,
        from: rack.map_or(ReadFrom::Leader, |rack| {
            read_from(shard, &view, topic, wanted.partition as u32, rack)
        }),
    })
}

/// Which replica serves a client in this rack.
fn read_from(shard: &Shard, view: &View, topic: &Topic, partition: u32, rack: &str) -> ReadFrom {
    if view.broker().replica_selector != ReplicaSelector::RackAware {
        return ReadFrom::Leader;
    }
    let (mut near, _) = by_presence(view, topic, partition);
    let own = shard.settings.node_id;
    if shard.settings.rack.as_deref() == Some(rack) {
        return match near.contains(&own) {
            true => ReadFrom::Here,
            false => ReadFrom::Leader,
        };
    }
    let nodes = view.cluster.nodes();
    near.retain(|node| {
        let known = nodes.get(node);
        known.and_then(|known| known.registration.rack.as_deref()) == Some(rack)
    });
    match near.is_empty() {
        true => ReadFrom::Leader,
        false => ReadFrom::OneOf(near),
    }
}

fn answer(
    session: &Session,
    version: i16,
    plan: &Plan,
    fetched: Vec<Fetched>,
    tell: &[bool],
) -> FetchResponse {
    let mut response = FetchResponse {
        session_id: plan.session_id,
        ..FetchResponse::default()
    };
    let mut hinted = Vec::new();
    for ((entry, fetched), tell) in plan.entries.iter().zip(fetched).zip(tell) {
        if !tell {
            continue;
        }
        let same = response
            .responses
            .last()
            .is_some_and(|topic: &FetchableTopicResponse| {
                topic.topic_id == entry.topic.id && topic.topic == entry.topic.name
            });
        if !same {
            response.responses.push(FetchableTopicResponse {
                topic: entry.topic.name.clone(),
                topic_id: entry.topic.id,
                partitions: Vec::new(),
            });
        }
        let partition = partition(session, version, entry, fetched);
        hinted.push(partition.current_leader.leader_id);
        let topic = response.responses.last_mut().expect("pushed above");
        topic.partitions.push(partition);
    }
    if version >= 16 {
        response.node_endpoints = super::metadata::endpoints_of(session, hinted.into_iter());
    }
    response
}

fn partition(
    session: &Session,
    version: i16,
    entry: &Entry,
    fetched: Fetched,
) -> FetchablePartitionResponse {
    let mut partition = FetchablePartitionResponse {
        partition_index: entry.wanted.partition,
        error_code: fetched.error,
        high_watermark: fetched.high_watermark,
        last_stable_offset: fetched.last_stable_offset,
        log_start_offset: fetched.log_start_offset,
        preferred_read_replica: fetched.preferred_replica,
        records: Some(Chunks::from(fetched.records)),
        ..FetchablePartitionResponse::default()
    };
    if let Some((epoch, end_offset)) = fetched.diverging {
        partition.diverging_epoch = DivergingEpoch { epoch, end_offset };
    }
    let about_leadership = matches!(
        fetched.error,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH
    );
    if version >= 12 && about_leadership {
        let index = u32::try_from(entry.wanted.partition).unwrap_or(u32::MAX);
        let view = session.shard.view.borrow();
        let topic = named(&view, version, entry);
        let leader = topic.and_then(|topic| view.leader(partition_id(topic.id, index)));
        if let Some(leader) = leader {
            partition.current_leader = LeaderIdAndEpoch {
                leader_id: leader.node,
                leader_epoch: leader.epoch,
            };
        }
    }
    partition
}
