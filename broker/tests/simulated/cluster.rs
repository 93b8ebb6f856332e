//! Nodes of a cluster in the simulator, clients that speak Kafka to them, and orders as the admin server gives them.
#![allow(dead_code)] // each test file uses a part of it

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use broker::config::{BrokerConfig, Endpoint, Overrides, Voter};
use broker::node::{ClientListener, News, PeerPlan, Plan, run_core, storage_limits};
use broker::observe::{Reply, Request};
use broker::operate::{Order, Outcome};
use broker::peers::{self, Names};
use broker::shard::mail::Mail;
use protocol::ErrorCode;
use protocol::compression::Budget;
use protocol::messages::*;
use protocol::records::{self, BatchBuilder};
use runtime::sim::{NodeId, Options, Sim};
use runtime::{Core, Inbox, Post, Stream};
use tokio::sync::oneshot;

pub use super::wire::call;

const PORT: u16 = 9092;
const PEER_PORT: u16 = 9192;
const MEMORY_BYTES: usize = 64 << 20;
pub const PATIENCE: Duration = Duration::from_secs(60);

type Asked = Rc<RefCell<Vec<(usize, Mail)>>>;

pub struct Member {
    pub node: NodeId,
    plan: Plan,
    news: mpsc::Receiver<News>,
    asked: Asked,
}

pub struct World {
    pub sim: Sim,
    pub members: Vec<Member>,
    clients: usize,
}

fn ip(node: i32) -> IpAddr {
    IpAddr::from([10, 0, 0, node as u8])
}

impl World {
    /// So many nodes, with ids from 1 on, that have founded a cluster.
    pub fn new(nodes: i32) -> World {
        let mut world = World {
            sim: Sim::new(Options::seeded(11)),
            members: Vec::new(),
            clients: 0,
        };
        for node in 1..=nodes {
            let (news, heard) = mpsc::channel();
            let plan = plan(node, nodes, news);
            let asked = Asked::default();
            let started = start(&world.sim, node, &plan, &asked);
            assert_eq!(world.sim.ip(started), ip(node), "the addresses of the plan");
            world.members.push(Member {
                node: started,
                plan,
                news: heard,
                asked,
            });
        }
        for node in 1..=nodes {
            world.await_ready(node);
        }
        world
    }

    fn member(&self, node: i32) -> &Member {
        &self.members[node as usize - 1]
    }

    /// Power is lost.
    pub fn crash(&self, node: i32) {
        self.sim.crash(self.member(node).node);
    }

    /// The signal to stop.
    pub fn stop(&self, node: i32) {
        let Member { asked, .. } = self.member(node);
        let cores = (0..cores_of(node)).rev();
        asked
            .borrow_mut()
            .extend(cores.map(|core| (core, Mail::Stop)));
    }

    /// The node never comes back with this disk.
    pub fn wipe(&self, node: i32) {
        self.sim.crash(self.member(node).node);
        self.sim.wipe_disk(self.member(node).node);
    }

    pub fn start(&self, node: i32) {
        let Member { plan, asked, .. } = self.member(node);
        asked.take();
        start(&self.sim, node, plan, asked);
    }

    pub fn await_ready(&self, node: i32) {
        let heard = &self.member(node).news;
        let mut failed = None;
        let ready = self.sim.run_until(PATIENCE, || match heard.try_recv() {
            Ok(News::Ready { .. }) => true,
            Ok(News::Failed(error)) => {
                failed = Some(error.to_string());
                true
            }
            _ => false,
        });
        assert!(
            ready && failed.is_none(),
            "node {node} does not start: {failed:?}"
        );
    }

    /// Why a node ends, which it has to.
    pub fn await_failure(&self, node: i32) -> String {
        let heard = &self.member(node).news;
        let mut failed = None;
        self.sim.run_until(PATIENCE, || {
            if let Ok(News::Failed(error)) = heard.try_recv() {
                failed = Some(error.to_string());
            }
            failed.is_some()
        });
        failed.unwrap_or_else(|| panic!("node {node} goes on"))
    }

    /// What a core of a node answers.
    pub fn ask<T>(&self, node: i32, core: usize, request: impl FnOnce(Reply<T>) -> Request) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.member(node)
            .asked
            .borrow_mut()
            .push((core, Mail::Observe(request(reply))));
        let mut told = None;
        let arrived = self.sim.run_until(PATIENCE, || {
            told = answer.try_recv().ok();
            told.is_some()
        });
        assert!(arrived, "node {node} does not answer");
        told.expect("it arrived")
    }

    /// What comes of an order to a node.
    pub fn order(&self, node: i32, order: Order) -> Outcome {
        self.ask(node, 0, |reply| Request::Operate { order, reply })
    }

    /// Runs a client of a node to its end.
    pub fn client<T: 'static, F, Fut>(&mut self, node: i32, talk: F) -> T
    where
        F: FnOnce(Core, Stream) -> Fut + 'static,
        Fut: Future<Output = T>,
    {
        self.clients += 1;
        let name = format!("client {}", self.clients);
        let said = Rc::new(RefCell::new(None));
        let told = said.clone();
        let client = self.sim.client(&name, move |core| async move {
            let address = SocketAddr::new(ip(node), PORT);
            let stream = core.connect(address).await.expect("a connection");
            let outcome = talk(core, stream).await;
            told.replace(Some(outcome));
        });
        let done = self.sim.run_until_done(client, PATIENCE);
        assert!(done, "{name} does not come to its end");
        let outcome = said.take();
        outcome.expect("it came to its end")
    }

    /// A topic of one partition on these nodes.
    pub fn create(&mut self, at: i32, name: &'static str, replicas: &[i32]) {
        let broker_ids = replicas.to_vec();
        self.client(at, async move |core, stream| {
            let topic = CreatableTopic {
                name: name.into(),
                num_partitions: -1,
                replication_factor: -1,
                assignments: vec![CreatableReplicaAssignment {
                    partition_index: 0,
                    broker_ids,
                }],
                ..CreatableTopic::default()
            };
            let create = CreateTopicsRequest {
                topics: vec![topic],
                timeout_ms: 10_000,
                ..CreateTopicsRequest::default()
            };
            let created = call(&stream, 7, create).await;
            assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
            core.sleep(Duration::from_millis(10)).await;
        });
    }

    /// Who leads partition 0, as a node tells it.
    pub fn partition(&mut self, at: i32, name: &'static str) -> MetadataResponsePartition {
        self.client(at, async move |_core, stream| {
            let topic = MetadataRequestTopic {
                name: Some(name.into()),
                ..MetadataRequestTopic::default()
            };
            let request = MetadataRequest {
                topics: Some(vec![topic]),
                ..MetadataRequest::default()
            };
            let mut told = call(&stream, 12, request).await;
            told.topics.remove(0).partitions.remove(0)
        })
    }

    /// Waits until a node says that of partition 0.
    pub fn until(
        &mut self,
        at: i32,
        name: &'static str,
        what: &str,
        holds: impl Fn(&MetadataResponsePartition) -> bool,
    ) -> MetadataResponsePartition {
        for _ in 0..600 {
            let told = self.partition(at, name);
            if holds(&told) {
                return told;
            }
            self.sim.run_for(Duration::from_millis(100));
        }
        panic!("{what}: never, but {:?}", self.partition(at, name));
    }

    /// Produces one record with `acks=all` at the leader, and tries again until it is acknowledged.
    pub fn produce(&mut self, leader: i32, name: &'static str, value: &'static str) -> i64 {
        self.client(leader, async move |core, stream| {
            loop {
                let mut batch = BatchBuilder::new();
                batch.push(1_000, None, Some(value.as_bytes()), &[]);
                let request = ProduceRequest {
                    acks: -1,
                    timeout_ms: 5_000,
                    topic_data: vec![TopicProduceData {
                        name: name.into(),
                        partition_data: vec![PartitionProduceData {
                            index: 0,
                            records: Some(batch.build().into_bytes()),
                        }],
                        ..TopicProduceData::default()
                    }],
                    ..ProduceRequest::default()
                };
                let answer = call(&stream, 9, request).await;
                let answer = &answer.responses[0].partition_responses[0];
                if answer.error_code == ErrorCode::NONE {
                    return answer.base_offset;
                }
                core.sleep(Duration::from_millis(100)).await;
            }
        })
    }

    /// The values of all records, in order, as the leader has them.
    pub fn read(&mut self, leader: i32, name: &'static str) -> Vec<String> {
        self.client(leader, async move |_core, stream| {
            let request = FetchRequest {
                max_wait_ms: 100,
                min_bytes: 1,
                topics: vec![FetchTopic {
                    topic: name.into(),
                    partitions: vec![FetchPartition {
                        partition: 0,
                        partition_max_bytes: 1 << 20,
                        ..FetchPartition::default()
                    }],
                    ..FetchTopic::default()
                }],
                ..FetchRequest::default()
            };
            let answer = call(&stream, 11, request).await;
            let partition = &answer.responses[0].partitions[0];
            assert_eq!(partition.error_code, ErrorCode::NONE);
            let fetched = partition.records.clone().unwrap_or_default().joined();
            let mut values = Vec::new();
            for batch in records::split(fetched) {
                let batch = batch.expect("whole batches");
                let mut budget = Budget::new(1 << 20);
                for record in records::records(&batch, &mut budget).expect("readable records") {
                    let value = record.expect("a readable record").value.expect("a value");
                    values.push(String::from_utf8(value.to_vec()).expect("text"));
                }
            }
            values
        })
    }
}

fn plan(node: i32, nodes: i32, news: mpsc::Sender<News>) -> Plan {
    let voters = (1..=nodes).map(|id| Voter {
        node_id: id,
        peer: Endpoint {
            host: ip(id).to_string(),
            port: PEER_PORT,
        },
    });
    let voters: Vec<Voter> = voters.collect();
    let named: Vec<String> = voters
        .iter()
        .map(|voter| format!("{}@{}", voter.node_id, voter.peer))
        .collect();
    let knobs = [
        ("log.dirs", "/data".to_owned()),
        ("corelane.journal.bytes", "16777216".to_owned()),
        ("node.id", node.to_string()),
        ("controller.quorum.voters", named.join(",")),
        ("broker.session.timeout.ms", "2000".to_owned()),
        ("corelane.raft.heartbeat.interval.ms", "40".to_owned()),
        ("corelane.raft.election.timeout.ms", "300".to_owned()),
    ];
    let statics: Overrides = knobs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let config = BrokerConfig::resolve(statics, "node").expect("a good configuration");
    let any = IpAddr::from([0, 0, 0, 0]);
    Plan {
        peers: Some(PeerPlan {
            bind: SocketAddr::new(any, PEER_PORT),
            address: format!("{}:{PEER_PORT}", ip(node)),
            voters,
            names: Names::literal(),
            settings: peers::Settings::default(),
        }),
        listeners: ClientListener::only(SocketAddr::new(any, PORT), &ip(node).to_string(), PORT),
        memory_per_core: MEMORY_BYTES,
        storage: storage_limits(&config, MEMORY_BYTES),
        anew_bytes_min: broker::node::ANEW_BYTES_MIN,
        mutations: Default::default(),
        config: Arc::new(config),
        news,
    }
}

fn start(sim: &Sim, node: i32, plan: &Plan, asked: &Asked) -> NodeId {
    let (plan, asked) = (plan.clone(), asked.clone());
    sim.start(
        &format!("node-{node}"),
        cores_of(node),
        move |core: Core, post: Post<Mail>, inbox: Inbox<Mail>| {
            if core.id() == 0 {
                core.spawn("prober", probe(core.clone(), post.clone(), asked.clone()));
            }
            run_core(core, post, inbox, plan.clone())
        },
    )
}

/// Two on some, one on the others.
fn cores_of(node: i32) -> usize {
    1 + node as usize % 2
}

/// Posts what the test asks, from within the node.
async fn probe(core: Core, post: Post<Mail>, asked: Asked) {
    loop {
        for (to, mail) in asked.take() {
            post.send(to, mail);
        }
        core.sleep(Duration::from_millis(1)).await;
    }
}
