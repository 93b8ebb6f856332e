//! Three nodes in the simulator, each in a rack of its own, and clients that speak Kafka to any of them.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use broker::config::{BrokerConfig, Endpoint, Overrides, Voter};
use broker::node::{ClientListener, News, PeerPlan, Plan, run_core, storage_limits};
use broker::peers::{self, Names};
use broker::shard::mail::Mail;
use bytes::Bytes;
use protocol::ErrorCode;
use protocol::codec::{Chunks, Str};
use protocol::messages::*;
use protocol::records::BatchBuilder;
use runtime::sim::{Control, NodeId, Options, Sim};
use runtime::{Core, Inbox, Post, Stream};

pub use super::wire::{call, receive, send};

pub const NODES: i32 = 3;
pub const TOPIC: &str = "orders";
const PORT: u16 = 9092;
const PEER_PORT: u16 = 9093;
const CORES: usize = 2;
const MEMORY_BYTES: usize = 64 << 20;
/// Virtual time that a node takes from its start until it lets clients in, at most.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// Virtual time in which anything here comes to its end.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct World {
    pub sim: Sim,
    /// Of node 1, 2 and 3.
    pub nodes: Vec<NodeId>,
    signals: Vec<Rc<Cell<bool>>>,
}

impl World {
    /// Three nodes that are ready to serve, with these settings beside what makes them a cluster. Node 1 is in rack
    /// `r1`, and so on.
    pub fn new(seed: u64, settings: &[(&str, &str)]) -> World {
        let sim = Sim::new(Options::seeded(seed));
        let mut nodes = Vec::new();
        let mut starting = Vec::new();
        let mut signals = Vec::new();
        for id in 1..=NODES {
            let signal = Rc::new(Cell::new(false));
            let (node, heard) = start_until(&sim, id, settings, signal.clone());
            nodes.push(node);
            signals.push(signal);
            starting.push(heard);
        }
        let starts = sim.run_until(PATIENCE, || {
            let ready = |news| matches!(news, News::Ready { .. });
            starting.retain(|heard| !heard.try_iter().any(ready));
            starting.is_empty()
        });
        assert!(starts, "the nodes do not start");
        World {
            sim,
            nodes,
            signals,
        }
    }

    /// What gives a node the signal to stop.
    pub fn stopper(&self, id: i32) -> impl Fn() + 'static {
        let signal = self.signals[id as usize - 1].clone();
        move || signal.set(true)
    }

    /// Runs a client to its end.
    pub fn client<F, Fut>(&self, talk: F)
    where
        F: FnOnce(Core) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let client = self.sim.client("client", talk);
        let ends = self.sim.run_until_done(client, PATIENCE);
        assert!(ends, "the client does not come to its end");
    }
}

/// Starts a node, which tells when it is ready.
pub fn start(sim: &Control, id: i32, settings: &[(&str, &str)]) -> (NodeId, mpsc::Receiver<News>) {
    start_until(sim, id, settings, Rc::default())
}

/// As [`start`]; the node gets the signal to stop when `signal` is set.
fn start_until(
    sim: &Control,
    id: i32,
    settings: &[(&str, &str)],
    signal: Rc<Cell<bool>>,
) -> (NodeId, mpsc::Receiver<News>) {
    let (news, heard) = mpsc::channel();
    let plan = plan(id, settings, news);
    let main = move |core: Core, post: Post<Mail>, inbox: Inbox<Mail>| {
        let plan = plan.clone();
        if core.id() == 0 {
            let (signal, post, waiting) = (signal.clone(), post.clone(), core.clone());
            core.spawn("signal", async move {
                while !signal.get() {
                    waiting.sleep(Duration::from_millis(1)).await;
                }
                (0..CORES)
                    .rev()
                    .for_each(|core| post.send(core, Mail::Stop));
            });
        }
        async move { run_core(core, post, inbox, plan).await }
    };
    let node = sim.start(&format!("node-{id}"), CORES, main);
    assert_eq!(sim.ip(node), ip(id), "the addresses of the plan");
    (node, heard)
}

/// Waits until a node has told that it is ready.
pub async fn is_ready(core: &Core, heard: &mpsc::Receiver<News>) {
    let began = core.now();
    while !heard
        .try_iter()
        .any(|news| matches!(news, News::Ready { .. }))
    {
        let waited = core.now() - began;
        assert!(waited < READY_WITHIN, "not ready within {waited:?}");
        core.sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a node's process is over.
pub async fn has_ended(core: &Core, sim: &Control, node: NodeId) {
    while !sim.is_done(node) {
        core.sleep(Duration::from_millis(10)).await;
    }
}

/// Where clients connect to a node.
pub fn address(id: i32) -> SocketAddr {
    SocketAddr::new(ip(id), PORT)
}

fn ip(id: i32) -> IpAddr {
    IpAddr::from([10, 0, 0, id as u8])
}

fn plan(id: i32, settings: &[(&str, &str)], news: mpsc::Sender<News>) -> Plan {
    let voters: Vec<Voter> = (1..=NODES)
        .map(|id| Voter {
            node_id: id,
            peer: Endpoint {
                host: ip(id).to_string(),
                port: PEER_PORT,
            },
        })
        .collect();
    let listed = voters
        .iter()
        .map(|voter| format!("{}@{}", voter.node_id, voter.peer));
    let own = [
        ("node.id", id.to_string()),
        ("broker.rack", format!("r{id}")),
        (
            "controller.quorum.voters",
            listed.collect::<Vec<_>>().join(","),
        ),
        ("corelane.journal.bytes", "16777216".to_owned()),
        ("log.dirs", "/data".to_owned()),
        ("default.replication.factor", "3".to_owned()),
        ("broker.session.timeout.ms", "2000".to_owned()),
    ];
    let mut statics: Overrides = own.map(|(name, value)| (name.to_owned(), value)).into();
    statics.extend(
        settings
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string())),
    );
    let config = BrokerConfig::resolve(statics, "node").expect("a good configuration");
    let unspecified = IpAddr::from([0, 0, 0, 0]);
    Plan {
        peers: Some(PeerPlan {
            bind: SocketAddr::new(unspecified, PEER_PORT),
            address: format!("{}:{PEER_PORT}", ip(id)),
            voters,
            names: Names::literal(),
            settings: peers::Settings::default(),
        }),
        listeners: ClientListener::only(
            SocketAddr::new(unspecified, PORT),
            &ip(id).to_string(),
            PORT,
        ),
        memory_per_core: MEMORY_BYTES,
        storage: storage_limits(&config, MEMORY_BYTES),
        anew_bytes_min: broker::node::ANEW_BYTES_MIN,
        mutations: Default::default(),
        config: Arc::new(config),
        news,
    }
}

/// A client's connection to each node: of node 1 first.
pub async fn connect(core: &Core) -> Vec<Stream> {
    connect_to(core, NODES).await
}

/// As [`connect`], to so many nodes.
pub async fn connect_to(core: &Core, nodes: i32) -> Vec<Stream> {
    let mut streams = Vec::new();
    for id in 1..=nodes {
        streams.push(core.connect(address(id)).await.expect("a connection"));
    }
    streams
}

/// Creates the topic: one partition on all nodes, which node 1 leads by preference. Waits until every node knows who
/// leads, and gives the leader and its epoch.
pub async fn create_topic(core: &Core, streams: &[Stream]) -> (i32, i32) {
    create_topic_on(core, streams, &[1, 2, 3]).await
}

/// As [`create_topic`], on these nodes.
pub async fn create_topic_on(core: &Core, streams: &[Stream], nodes: &[i32]) -> (i32, i32) {
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![CreatableReplicaAssignment {
            partition_index: 0,
            broker_ids: nodes.to_vec(),
        }],
        ..CreatableTopic::default()
    };
    let create = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 30_000,
        ..CreateTopicsRequest::default()
    };
    let created = call(&streams[0], 7, create).await;
    assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
    let mut told = Vec::new();
    for stream in streams {
        loop {
            let partition = describe(stream).await;
            if partition.leader_id > 0 {
                told.push((partition.leader_id, partition.leader_epoch));
                break;
            }
            core.sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(told.iter().all(|leader| *leader == told[0]), "{told:?}");
    told[0]
}

/// What a node says of the partition.
pub async fn describe(stream: &Stream) -> MetadataResponsePartition {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(TOPIC.into()),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let mut answer = call(stream, 9, request).await;
    let mut topic = answer.topics.remove(0);
    match topic.partitions.is_empty() {
        true => MetadataResponsePartition {
            error_code: topic.error_code,
            leader_id: -1,
            ..MetadataResponsePartition::default()
        },
        false => topic.partitions.remove(0),
    }
}

/// The type and name of a resource that has configs.
pub const TOPIC_RESOURCE: (i8, &str) = (2, TOPIC);
/// All nodes.
pub const NODES_RESOURCE: (i8, &str) = (4, "");

/// Sets configs of a resource.
pub async fn set(stream: &Stream, resource: (i8, &'static str), configs: &[(&'static str, &str)]) {
    let configs = configs
        .iter()
        .map(|(name, value)| IncrementalAlterableConfig {
            name: (*name).into(),
            config_operation: 0,
            value: Some(Str::copied(value)),
        });
    let request = IncrementalAlterConfigsRequest {
        resources: vec![IncrementalAlterConfigsResource {
            resource_type: resource.0,
            resource_name: resource.1.into(),
            configs: configs.collect(),
        }],
        ..IncrementalAlterConfigsRequest::default()
    };
    let answer = call(stream, 1, request).await;
    let error = answer.responses[0].error_code;
    assert_eq!(error, ErrorCode::NONE, "{:?}", answer.responses[0]);
}

/// The partition is to be on these nodes.
pub async fn reassign(stream: &Stream, replicas: &[i32]) {
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: 30_000,
        topics: vec![ReassignableTopic {
            name: TOPIC.into(),
            partitions: vec![ReassignablePartition {
                partition_index: 0,
                replicas: Some(replicas.to_vec()),
            }],
        }],
        ..AlterPartitionReassignmentsRequest::default()
    };
    let answer = call(stream, 0, request).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::NONE);
}

/// A batch of one record with so many bytes.
pub fn batch(core: &Core, bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(core.wall_ms(), None, Some(&vec![7; bytes]), &[]);
    builder.build().into_bytes()
}

pub fn produce_request(batch: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: TOPIC.into(),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// The outcome of a batch with `acks=all`: the error and the offset.
pub async fn produce(stream: &Stream, batch: Bytes) -> (ErrorCode, i64) {
    let answer = call(stream, 9, produce_request(batch)).await;
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// A fetch from an offset by a client in a rack (empty: in none).
pub fn fetch_request(rack: &str, offset: i64, epoch: i32, wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        rack_id: Str::copied(rack),
        topics: vec![FetchTopic {
            topic: TOPIC.into(),
            partitions: vec![FetchPartition {
                partition: 0,
                fetch_offset: offset,
                current_leader_epoch: epoch,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// What is told of the partition.
pub fn only(answer: FetchResponse) -> FetchablePartitionResponse {
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let mut topics = answer.responses;
    topics.remove(0).partitions.remove(0)
}

pub fn bytes_of(partition: &FetchablePartitionResponse) -> Bytes {
    let records: Option<&Chunks> = partition.records.as_ref();
    records.map(Chunks::joined).unwrap_or_default()
}
