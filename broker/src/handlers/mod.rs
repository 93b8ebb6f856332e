//! Kafka's requests, one file for each family of apis.
//!
//! A handler reads as a story: look up, ask the owners by mail, await, answer. It holds no state of its own and
//! touches no storage. Each file's head says which versions it serves, how it behaves, and what is not done and
//! why. The body is decoded before the first wait, so a malformed one closes the connection at once.

pub mod api_versions;
mod by_owner;
pub mod cluster;
pub mod configs;
mod errors;
pub mod fetch;
pub mod fetch_session;
pub mod groups;
pub mod leader_epochs;
pub mod list_offsets;
pub mod metadata;
pub mod offsets;
pub mod produce;
pub mod producer_ids;
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

async fn handle(session: &Session, header: &RequestHeader, request: Request) -> Reply {
    let version = header.version;
    Reply::Answer(match request {
        Request::Produce(request) => return produce::handle(session, version, request).await,
        Request::Fetch(request) => fetch::handle(session, version, request).await.into(),
        Request::ListOffsets(request) => {
            list_offsets::handle(session, version, request).await.into()
        }
        Request::Metadata(request) => metadata::handle(session, version, request).await.into(),
        Request::ApiVersions(request) => api_versions::handle(session, header, request).into(),
        Request::InitProducerId(request) => producer_ids::handle(session, request).await.into(),
        Request::OffsetForLeaderEpoch(request) => {
            leader_epochs::handle(session, request).await.into()
        }
        Request::CreateTopics(request) => topics::create(session, version, request).await.into(),
        Request::DeleteTopics(request) => topics::delete(session, version, request).await.into(),
        Request::CreatePartitions(request) => topics::grow(session, request).await.into(),
        Request::DeleteRecords(request) => topics::delete_records(session, request).await.into(),
        Request::DescribeConfigs(request) => {
            configs::describe(session, version, request).await.into()
        }
        Request::AlterConfigs(request) => configs::alter(session, request).await.into(),
        Request::IncrementalAlterConfigs(request) => {
            configs::alter_incrementally(session, request).await.into()
        }
        Request::DescribeCluster(request) => cluster::describe(session, version, request).into(),
        Request::DescribeTopicPartitions(request) => {
            cluster::describe_topic_partitions(session, request).into()
        }
        Request::DescribeLogDirs(request) => {
            cluster::describe_log_dirs(session, request).await.into()
        }
        Request::FindCoordinator(request) => groups::find_coordinator(session, version, request)
            .await
            .into(),
        Request::JoinGroup(request) => groups::join(session, header, request).await.into(),
        Request::SyncGroup(request) => groups::sync(session, version, request).await.into(),
        Request::Heartbeat(request) => groups::heartbeat(session, request).await.into(),
        Request::LeaveGroup(request) => groups::leave(session, version, request).await.into(),
        Request::ListGroups(request) => groups::list(session, request).await.into(),
        Request::DescribeGroups(request) => {
            groups::describe(session, version, request).await.into()
        }
        Request::DeleteGroups(request) => groups::delete(session, request).await.into(),
        Request::OffsetCommit(request) => offsets::commit(session, version, request).await.into(),
        Request::OffsetFetch(request) => offsets::fetch(session, version, request).await.into(),
        Request::OffsetDelete(request) => offsets::delete(session, request).await.into(),
    })
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
