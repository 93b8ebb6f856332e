//! Kafka's requests, one file for each family of apis.
//!
//! A handler reads as a story: look up, ask the owners by mail, await, answer. It holds no state of its own and
//! touches no storage. Each file's head says which versions it serves, how it behaves, and what is not done and
//! why. The body is decoded before the first wait, so a malformed one closes the connection at once.

pub mod api_versions;
mod by_owner;
pub mod cluster;
pub mod configs;
mod elections;
mod errors;
pub mod features;
pub mod fetch;
pub mod fetch_session;
pub mod groups;
pub mod leader_epochs;
pub mod list_offsets;
pub mod metadata;
pub mod offsets;
pub mod produce;
pub mod producer_ids;
pub mod quorum;
pub mod reassignments;
pub mod topics;

use crate::shard::Shard;
use bytes::Bytes;
use protocol::api::{Request, Response};
use protocol::codec::{Decoder, Str};
use protocol::messages::RequestHeader;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

/// What a request came to.
pub enum Answered {
    /// The parts of the answer's frame.
    Frame(Vec<Bytes>),
    /// No answer is due (acks=0).
    Nothing,
    /// The connection is to be closed.
    Close,
}

/// What a handler decided.
pub enum Reply {
    Answer(Response),
    /// No answer is due.
    Nothing,
    /// The connection is to be closed.
    Close,
}

/// One client connection as handlers see it.
pub struct Session {
    pub shard: Rc<Shard>,
    pub peer: SocketAddr,
    /// Through which of the node's listeners it came: its answers name that listener's address.
    pub listener: usize,
    /// Name and version of the client's software, once it has told (KIP-511).
    pub software: RefCell<Option<(Str, Str)>>,
}

impl Session {
    pub fn new(shard: Rc<Shard>, peer: SocketAddr, listener: usize) -> Session {
        Session {
            shard,
            peer,
            listener,
            software: RefCell::new(None),
        }
    }
}

/// Starts a request whose body is next in `input`.
///
/// # Errors
/// A sentence: the body is malformed and the connection is to be closed.
pub fn start(
    session: &Rc<Session>,
    header: RequestHeader,
    mut input: Decoder,
) -> Result<Pin<Box<dyn Future<Output = Answered>>>, String> {
    let request_bytes = input.remaining();
    let request = Request::decode(&header, &mut input)
        .map_err(|error| format!("{} v{}: {error}", header.key, header.version))?;
    let session = session.clone();
    Ok(Box::pin(async move {
        let started = session.shard.core.now();
        let mut errors = Vec::new();
        let answered = match handle(&session, &header, request).await {
            Reply::Answer(response) => {
                errors = errors::errors(&response);
                encode(&header, &response)
            }
            Reply::Nothing => Answered::Nothing,
            Reply::Close => Answered::Close,
        };
        let bytes = match &answered {
            Answered::Frame(parts) => parts.iter().map(Bytes::len).sum(),
            Answered::Nothing | Answered::Close => 0,
        };
        let took = session.shard.core.now() - started;
        let mut metrics = session.shard.metrics.borrow_mut();
        metrics.request(header.key, took, request_bytes, bytes);
        metrics.errors(header.key, &errors);
        drop(metrics);
        answered
    }))
}

/// All but Produce are boxed: the future of a request is as large as the largest that it can become, and it is moved.
async fn handle(session: &Session, header: &RequestHeader, request: Request) -> Reply {
    let version = header.version;
    let response: Pin<Box<dyn Future<Output = Response> + '_>> = match request {
        Request::Produce(request) => return produce::handle(session, version, request).await,
        Request::ApiVersions(request) => {
            return Reply::Answer(api_versions::handle(session, header, request).into());
        }
        Request::DescribeCluster(request) => {
            return Reply::Answer(cluster::describe(session, version, request).into());
        }
        Request::DescribeTopicPartitions(request) => {
            return Reply::Answer(cluster::describe_topic_partitions(session, request).into());
        }
        Request::ListPartitionReassignments(request) => {
            return Reply::Answer(reassignments::list(session, request).into());
        }
        Request::UpdateFeatures(request) => {
            return Reply::Answer(features::update(session, version, request).into());
        }
        Request::Fetch(request) => boxed(fetch::handle(session, version, request)),
        Request::ListOffsets(request) => boxed(list_offsets::handle(session, version, request)),
        Request::Metadata(request) => boxed(metadata::handle(session, version, request)),
        Request::InitProducerId(request) => boxed(producer_ids::handle(session, request)),
        Request::OffsetForLeaderEpoch(request) => boxed(leader_epochs::handle(session, request)),
        Request::CreateTopics(request) => boxed(topics::create(session, version, request)),
        Request::DeleteTopics(request) => boxed(topics::delete(session, version, request)),
        Request::CreatePartitions(request) => boxed(topics::grow(session, request)),
        Request::DeleteRecords(request) => boxed(topics::delete_records(session, request)),
        Request::DescribeConfigs(request) => boxed(configs::describe(session, version, request)),
        Request::AlterConfigs(request) => boxed(configs::alter(session, request)),
        Request::IncrementalAlterConfigs(request) => {
            boxed(configs::alter_incrementally(session, request))
        }
        Request::AlterPartitionReassignments(request) => {
            boxed(reassignments::alter(session, request))
        }
        Request::DescribeQuorum(request) => boxed(quorum::describe(session, version, request)),
        Request::UnregisterBroker(request) => boxed(quorum::unregister(session, request)),
        Request::DescribeLogDirs(request) => boxed(cluster::describe_log_dirs(session, request)),
        Request::FindCoordinator(request) => {
            boxed(groups::find_coordinator(session, version, request))
        }
        Request::JoinGroup(request) => boxed(groups::join(session, header, request)),
        Request::SyncGroup(request) => boxed(groups::sync(session, version, request)),
        Request::Heartbeat(request) => boxed(groups::heartbeat(session, request)),
        Request::LeaveGroup(request) => boxed(groups::leave(session, version, request)),
        Request::ListGroups(request) => boxed(groups::list(session, request)),
        Request::DescribeGroups(request) => boxed(groups::describe(session, version, request)),
        Request::DeleteGroups(request) => boxed(groups::delete(session, request)),
        Request::OffsetCommit(request) => boxed(offsets::commit(session, version, request)),
        Request::OffsetFetch(request) => boxed(offsets::fetch(session, version, request)),
        Request::OffsetDelete(request) => boxed(offsets::delete(session, request)),
        Request::ElectLeaders(request) => boxed(elections::elect(session, request)),
    };
    Reply::Answer(response.await)
}

fn boxed<'a, R: Into<Response>>(
    answer: impl Future<Output = R> + 'a,
) -> Pin<Box<dyn Future<Output = Response> + 'a>> {
    Box::pin(async move { answer.await.into() })
}

fn encode(header: &RequestHeader, response: &Response) -> Answered {
    match response.frame(header.correlation_id, header.answer_version()) {
        Ok(parts) => Answered::Frame(parts),
        Err(error) => {
            // Our own mistake, and the client would wait for ever: it is told by the closed connection.
            tracing::error!(%error, api = %header.key, version = header.version, "an answer cannot be encoded");
            Answered::Close
        }
    }
}
