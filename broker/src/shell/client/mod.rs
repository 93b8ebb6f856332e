//! A small blocking Kafka client: enough of one for an operator's commands.
//!
//! It learns the cluster from the brokers that it is given, sends each request to the node that
//! answers it, and tries again while a leader or a coordinator is moving. Deliberately absent:
//! pipelining beyond one request per node, idempotence, transactions, security.

mod connection;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use protocol::ErrorCode;
use protocol::api::RequestMessage;
use protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataRequestTopic, MetadataResponse,
    MetadataResponseTopic,
};

use super::arguments::ClientArguments;
use super::error::{ShellError, check};
pub(crate) use connection::Connection;

/// Pause before a request is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Newest version of Metadata with topics by name.
const METADATA_NEWEST: i16 = 12;

/// Newest version of FindCoordinator that asks for a single key.
const FIND_COORDINATOR_NEWEST: i16 = 3;

/// A cluster, by way of its brokers.
pub(crate) struct Client {
    bootstrap: Vec<String>,
    timeout: Duration,
    addresses: BTreeMap<i32, String>,
    connections: BTreeMap<i32, Connection>,
    /// To whoever answered first.
    first: Connection,
}

impl Client {
    /// Connects to the first of the bootstrap brokers that answers.
    pub(crate) fn connect(arguments: &ClientArguments) -> Result<Client, ShellError> {
        let bootstrap: Vec<String> = arguments
            .bootstrap
            .split(',')
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(with_port)
            .collect();
        let first = open_first(&bootstrap, arguments.timeout)?;
        Ok(Client {
            bootstrap,
            timeout: arguments.timeout,
            addresses: BTreeMap::new(),
            connections: BTreeMap::new(),
            first,
        })
    }

    /// How long the operator wants to wait.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long a broker may take for what it was asked, in the unit of the protocol.
    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// The connection to the broker that was asked first.
    pub(crate) fn first(&mut self) -> &mut Connection {
        &mut self.first
    }

    /// Asks any broker.
    pub(crate) fn ask<R: RequestMessage>(
        &mut self,
        request: &R,
        newest: i16,
    ) -> Result<R::Response, ShellError> {
        match self.first.call(request, newest) {
            Err(ShellError::Lost { .. }) => {
                self.first = open_first(&self.bootstrap, self.timeout)?;
                self.first.call(request, newest)
            }
            result => result,
        }
    }

    /// The connection to a node, opened when it is first needed.
    pub(crate) fn node(&mut self, id: i32) -> Result<&mut Connection, ShellError> {
        if !self.connections.contains_key(&id) {
            if !self.addresses.contains_key(&id) {
                self.metadata(Some(&[]), false)?;
            }
            let address = self.addresses.get(&id).ok_or_else(|| {
                ShellError::impossible(
                    format!("talk to node {id}"),
                    "the cluster does not know its address. \
                     `corelane cluster status` shows which nodes live.",
                )
            })?;
            let connection =
                Connection::open(address, self.timeout).map_err(|error| match error {
                    ShellError::Unreachable { address, error } => ShellError::NodeUnreachable {
                        node: id,
                        address,
                        error,
                    },
                    error => error,
                })?;
            self.connections.insert(id, connection);
        }
        Ok(self
            .connections
            .get_mut(&id)
            .expect("the connection was just opened"))
    }

    /// Forgets the connection to a node, for example because it broke.
    pub(crate) fn forget(&mut self, id: i32) {
        self.connections.remove(&id);
    }

    /// Sends a request to one node and reads its answer.
    pub(crate) fn ask_node<R: RequestMessage>(
        &mut self,
        id: i32,
        request: &R,
        newest: i16,
    ) -> Result<R::Response, ShellError> {
        let result = self.node(id)?.call(request, newest);
        if matches!(
            result,
            Err(ShellError::Lost { .. } | ShellError::Garbled { .. })
        ) {
            self.forget(id);
        }
        result
    }

    /// Brokers and topics; `None` is all topics.
    pub(crate) fn metadata(
        &mut self,
        topics: Option<&[String]>,
        create: bool,
    ) -> Result<MetadataResponse, ShellError> {
        let by_name = |name: &String| MetadataRequestTopic {
            name: Some(name.clone().into()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(by_name).collect()),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        let response = self.ask(&request, METADATA_NEWEST)?;
        check(|| "read the metadata".to_owned(), response.error_code, None)?;
        for broker in &response.brokers {
            let host = broker.host.as_str();
            let address = match host.contains(':') {
                true => format!("[{host}]:{}", broker.port),
                false => format!("{host}:{}", broker.port),
            };
            if self.addresses.insert(broker.node_id, address.clone()) != Some(address) {
                self.connections.remove(&broker.node_id);
            }
        }
        Ok(response)
    }

    /// Topics by name, each with a leader for every partition: waits while leaders are elected.
    /// `create` asks the broker to create what is not there, if it does such things.
    pub(crate) fn topics(
        &mut self,
        names: &[String],
        create: bool,
    ) -> Result<Vec<MetadataResponseTopic>, ShellError> {
        let mut attempts = Attempts::new(self.timeout);
        loop {
            let topics = self.metadata(Some(names), create)?.topics;
            let trouble = topics.iter().find_map(|topic| {
                let partitions = topic
                    .partitions
                    .iter()
                    .map(|partition| partition.error_code);
                let code = [topic.error_code]
                    .into_iter()
                    .chain(partitions)
                    .find(is_error)?;
                Some((topic_name(topic), code))
            });
            match trouble {
                None => return Ok(topics),
                // A topic that is being created is unknown for a moment.
                Some((_, code)) if may_pass(code, create) && attempts.again() => {}
                Some((name, code)) => {
                    return Err(ShellError::refused(
                        format!("find topic {name}"),
                        code,
                        None,
                    ));
                }
            }
        }
    }

    /// The node that coordinates a group.
    pub(crate) fn coordinator(&mut self, group: &str) -> Result<i32, ShellError> {
        let mut attempts = Attempts::new(self.timeout);
        let request = FindCoordinatorRequest {
            key: group.to_owned().into(),
            ..FindCoordinatorRequest::default()
        };
        loop {
            let found = self.ask(&request, FIND_COORDINATOR_NEWEST)?;
            if found.error_code.is_none() {
                if !self.addresses.contains_key(&found.node_id) {
                    self.metadata(Some(&[]), false)?;
                }
                return Ok(found.node_id);
            }
            if !found.error_code.retriable() || !attempts.again() {
                let what = format!("find the coordinator of group {group}");
                let message = found.error_message.as_deref();
                return Err(ShellError::refused(what, found.error_code, message));
            }
        }
    }

    /// Sends a request to a group's coordinator until it gives an answer that is not about moving
    /// coordinators. `code` picks the error out of an answer.
    pub(crate) fn ask_coordinator<R: RequestMessage>(
        &mut self,
        group: &str,
        request: &R,
        newest: i16,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ShellError> {
        self.ask_coordinator_patiently(group, request, newest, Duration::ZERO, code)
    }

    /// The same for a request whose answer the coordinator may hold back for as long as `patience`.
    pub(crate) fn ask_coordinator_patiently<R: RequestMessage>(
        &mut self,
        group: &str,
        request: &R,
        newest: i16,
        patience: Duration,
        code: impl Fn(&R::Response) -> ErrorCode,
    ) -> Result<R::Response, ShellError> {
        let mut attempts = Attempts::new(self.timeout);
        loop {
            let node = self.coordinator(group)?;
            let connection = self.node(node)?;
            connection.send(request, newest)?;
            let response = connection.receive::<R>(patience)?;
            let moving = [
                ErrorCode::NOT_COORDINATOR,
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ];
            if !moving.contains(&code(&response)) || !attempts.again() {
                return Ok(response);
            }
        }
    }
}

/// Tries until the time is over, with pauses.
#[derive(Debug)]
pub(crate) struct Attempts {
    deadline: Instant,
}

impl Attempts {
    pub(crate) fn new(timeout: Duration) -> Attempts {
        Attempts {
            deadline: Instant::now() + timeout,
        }
    }

    /// Pauses, and says whether another attempt is due.
    pub(crate) fn again(&mut self) -> bool {
        std::thread::sleep(RETRY_PAUSE);
        Instant::now() < self.deadline
    }
}

/// Unix time in ms.
pub(crate) fn now_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn topic_name(topic: &MetadataResponseTopic) -> String {
    topic.name.as_ref().map(String::from).unwrap_or_default()
}

fn is_error(code: &ErrorCode) -> bool {
    !code.is_none()
}

fn may_pass(code: ErrorCode, create: bool) -> bool {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => create,
        code => code.retriable(),
    }
}

fn open_first(bootstrap: &[String], timeout: Duration) -> Result<Connection, ShellError> {
    let mut last = None;
    for address in bootstrap {
        match Connection::open(address, timeout) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        ShellError::impossible("connect", "--bootstrap names no broker; write HOST:PORT.")
    }))
}

/// Kafka's port, for an address without one.
fn with_port(address: &str) -> String {
    let has_port = match address.rsplit_once(':') {
        Some((host, port)) => {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']'))
        }
        None => false,
    };
    match (has_port, address.contains(':') && !address.starts_with('[')) {
        (true, _) => address.to_owned(),
        (false, true) => format!("[{address}]:9092"),
        (false, false) => format!("{address}:9092"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_left_out() {
        let cases = [
            ("localhost", "localhost:9092"),
            ("localhost:1", "localhost:1"),
            ("10.0.0.1", "10.0.0.1:9092"),
            ("::1", "[::1]:9092"),
            ("[::1]", "[::1]:9092"),
            ("[::1]:1", "[::1]:1"),
        ];
        for (given, expected) in cases {
            assert_eq!(with_port(given), expected);
        }
    }

    #[test]
    fn unknown_topics_are_only_waited_for_when_they_are_being_created() {
        assert!(may_pass(ErrorCode::LEADER_NOT_AVAILABLE, false));
        assert!(may_pass(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, true));
        assert!(!may_pass(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, false));
        assert!(!may_pass(ErrorCode::INVALID_TOPIC_EXCEPTION, true));
    }
}
