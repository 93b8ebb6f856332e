//! What a core says of itself, page by page: a node of two cores in the simulator, a client that
//! speaks Kafka to it, and a prober that asks as the side thread does.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use broker::config::{BrokerConfig, Overrides};
use broker::node::{News, Plan, run_core, storage_limits};
use broker::observe::{
    CoreReport, OFFSETS_PER_PAGE, OffsetRow, PARTITIONS_PER_PAGE, PartitionRow, PartitionState,
    Reply, Request,
};
use broker::shard::mail::Mail;
use bytes::BytesMut;
use protocol::ErrorCode;
use protocol::api::{ApiKey, Message, RequestMessage};
use protocol::codec::Decoder;
use protocol::frame;
use protocol::messages::{
    CreatableTopic, CreateTopicsRequest, FindCoordinatorRequest, OffsetCommitRequest,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use runtime::sim::{NodeId, Options, Sim};
use runtime::{Core, Inbox, Post, Stream};
use tokio::sync::oneshot;

const CORES: usize = 2;
const PORT: u16 = 9092;
/// More than a page on each core.
const PARTITIONS: i32 = 1_300;
const MEMORY_BYTES: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

type Asked = Rc<RefCell<Vec<(usize, Request)>>>;

struct World {
    sim: Sim,
    node: NodeId,
    asked: Asked,
}

impl World {
    fn new() -> World {
        let sim = Sim::new(Options::seeded(7));
        let knobs = [
            ("corelane.journal.bytes", "16777216"),
            ("log.dirs", "/data"),
        ];
        let statics: Overrides = knobs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let (news, heard) = mpsc::channel();
        let config = BrokerConfig::resolve(statics, "node").expect("a good configuration");
        let plan = Plan {
            bind: SocketAddr::from(([0, 0, 0, 0], PORT)),
            advertised_host: "node".to_owned(),
            advertised_port: PORT,
            memory_per_core: MEMORY_BYTES,
            storage: storage_limits(&config, MEMORY_BYTES),
            forget_retries: false,
            config: Arc::new(config),
            news,
        };
        let asked = Asked::default();
        let questions = asked.clone();
        let node = sim.start(
            "node",
            CORES,
            move |core: Core, post: Post<Mail>, inbox: Inbox<Mail>| {
                let (plan, questions) = (plan.clone(), questions.clone());
                if core.id() == 0 {
                    core.spawn("prober", probe(core.clone(), post.clone(), questions));
                }
                async move { run_core(core, post, inbox, plan).await }
            },
        );
        let ready = |news| matches!(news, News::Ready { .. });
        let starts = sim.run_until(PATIENCE, || heard.try_recv().is_ok_and(ready));
        assert!(starts, "the node does not start");
        World { sim, node, asked }
    }

    /// What a core answers.
    fn ask<T>(&self, core: usize, request: impl FnOnce(Reply<T>) -> Request) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.asked.borrow_mut().push((core, request(reply)));
        let mut told = None;
        let arrived = self.sim.run_until(PATIENCE, || {
            told = answer.try_recv().ok();
            told.is_some()
        });
        assert!(arrived, "core {core} does not answer");
        told.expect("it arrived")
    }

    /// Runs a client to its end.
    fn client<F, Fut>(&self, talk: F)
    where
        F: FnOnce(Core, Stream) -> Fut + 'static,
        Fut: Future<Output = ()>,
    {
        let ip: IpAddr = self.sim.ip(self.node);
        let client = self.sim.client("client", move |core| async move {
            let stream = core
                .connect(SocketAddr::new(ip, PORT))
                .await
                .expect("a connection");
            talk(core, stream).await;
        });
        assert!(
            self.sim.run_until_done(client, PATIENCE),
            "the client does not come to its end"
        );
    }
}

/// Posts what the test asks, from within the node.
async fn probe(core: Core, post: Post<Mail>, asked: Asked) {
    loop {
        for (to, request) in asked.take() {
            post.send(to, Mail::Observe(request));
        }
        core.sleep(Duration::from_millis(1)).await;
    }
}

/// One request, one answer.
async fn call<R: RequestMessage>(stream: &Stream, version: i16, request: R) -> R::Response {
    let parts =
        frame::request(None, 1, version, &request).expect("a request that fits its version");
    stream.write_all(parts).await.expect("the node takes it");
    let mut received = BytesMut::new();
    loop {
        if let Some(answer) = frame::cut(&mut received, 16 << 20).expect("a frame") {
            let mut input = Decoder::new(answer);
            assert_eq!(input.i32().expect("a correlation id"), 1);
            if R::KEY.api().response_header_version(version) >= 1 {
                input
                    .tagged_fields(|_, _| Ok(false))
                    .expect("tagged fields");
            }
            return R::Response::decode(&mut input, version).expect("an answer");
        }
        received.reserve(64 << 10);
        let (got, buffer) = stream.read(received).await;
        received = buffer;
        assert_ne!(
            got.expect("the node answers"),
            0,
            "the node closed the connection"
        );
    }
}

/// A topic, and a group that has committed an offset in each of its partitions.
async fn create_and_commit(core: Core, stream: Stream) {
    let topic = CreatableTopic {
        name: "orders".into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let create = CreateTopicsRequest {
        topics: vec![topic],
        ..CreateTopicsRequest::default()
    };
    let created = call(&stream, 7, create).await;
    assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["billing".into()],
        ..FindCoordinatorRequest::default()
    };
    loop {
        let found = call(&stream, 4, find.clone()).await;
        if found.coordinators[0].error_code == ErrorCode::NONE {
            break;
        }
        core.sleep(Duration::from_millis(10)).await;
    }
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 0,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "orders".into(),
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..OffsetCommitRequestTopic::default()
    };
    let commit = OffsetCommitRequest {
        group_id: "billing".into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    };
    loop {
        let committed = call(&stream, 8, commit.clone()).await;
        let codes = committed.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: BTreeSet<i16> = codes.map(|partition| partition.error_code.0).collect();
        if codes == BTreeSet::from([ErrorCode::NONE.0]) {
            return;
        }
        assert_eq!(
            codes,
            BTreeSet::from([ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.0])
        );
        core.sleep(Duration::from_millis(10)).await;
    }
}

/// All partitions of a core, with the number of pages that they took.
fn partitions(world: &World, core: usize) -> (Vec<PartitionRow>, usize) {
    let (mut rows, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = world.ask(core, |reply| Request::Partitions {
            after,
            rows: true,
            reply,
        });
        assert!(
            page.rows.len() <= PARTITIONS_PER_PAGE,
            "{} rows",
            page.rows.len()
        );
        assert_eq!(page.tally.serving, page.rows.len() as u64);
        rows.extend(page.rows);
        pages += 1;
        after = page.next;
        if after.is_none() {
            return (rows, pages);
        }
    }
}

/// All committed offsets of a core, with the number of pages that they took.
fn offsets(world: &World, core: usize) -> (Vec<OffsetRow>, usize) {
    let (mut rows, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = world.ask(core, |reply| Request::Offsets { after, reply });
        assert!(
            page.rows.len() <= OFFSETS_PER_PAGE,
            "{} rows",
            page.rows.len()
        );
        rows.extend(page.rows);
        pages += 1;
        after = page.next;
        if after.is_none() {
            return (rows, pages);
        }
    }
}

#[test]
fn pages_hold_everything_once() {
    let world = World::new();
    world.client(create_and_commit);

    let (mut all, mut pages) = (Vec::new(), Vec::new());
    for core in 0..CORES {
        let (rows, count) = partitions(&world, core);
        all.extend(rows.into_iter().filter(|row| row.topic == "orders"));
        pages.push(count);
    }
    assert_eq!(pages, [2, 2], "each core has between one page and two");
    let numbers: BTreeSet<u32> = all.iter().map(|row| row.partition).collect();
    assert_eq!(
        (all.len(), numbers.len()),
        (PARTITIONS as usize, PARTITIONS as usize)
    );
    assert!(
        all.iter()
            .all(|row| row.state == PartitionState::Serving && row.leader_epoch > 0)
    );

    let mut told: Vec<(Vec<OffsetRow>, usize)> =
        (0..CORES).map(|core| offsets(&world, core)).collect();
    told.sort_by_key(|(rows, _)| rows.len());
    let [(others, 1), (rows, 3)] = &told[..] else {
        let found: Vec<_> = told
            .iter()
            .map(|(rows, pages)| (rows.len(), pages))
            .collect();
        panic!("one coordinator has all, in three pages: {found:?}");
    };
    assert!(others.is_empty());
    let committed: BTreeSet<i32> = rows.iter().map(|row| row.partition).collect();
    assert_eq!(
        (rows.len(), committed.len()),
        (PARTITIONS as usize, PARTITIONS as usize)
    );
    assert!(
        rows.iter()
            .all(|row| row.group == "billing" && row.committed_offset == 0)
    );

    let groups: usize = (0..CORES)
        .map(|core| world.ask(core, |reply| Request::Groups { after: None, reply }))
        .map(|page| page.states.values().sum::<usize>())
        .sum();
    assert_eq!(groups, 1);

    let id = rows[0].id;
    let owner = storage::owner(id, CORES);
    let ask = |core| {
        let partitions = vec![id];
        world.ask(core, |reply| Request::HighWatermarks { partitions, reply })
    };
    assert_eq!(ask(owner), [Some(0)]);
    assert_eq!(ask(1 - owner), [None], "only the owner knows");
}

#[test]
fn a_report_counts_what_a_client_did() {
    let world = World::new();
    let accepting = [0, 1].map(|core| world.ask(core, Request::Pulse).is_accepting);
    assert_eq!(accepting, [true, false], "one core accepts for all");
    world.client(create_and_commit);
    let reports: Vec<CoreReport> = (0..CORES)
        .map(|core| world.ask(core, Request::Report))
        .collect();
    let sum = |figure: fn(&CoreReport) -> u64| reports.iter().map(figure).sum::<u64>();
    assert_eq!(sum(|report| report.connections_accepted), 1);
    assert_eq!(
        sum(|report| report.groups.offset_commits),
        PARTITIONS as u64
    );
    assert!(sum(|report| report.journal.journal_writes) > 0);
    assert!(sum(|report| report.metrics.turns.count()) > 0);
    assert!(
        reports.iter().all(|report| report.topics == 2),
        "the topic and the offsets topic"
    );
    let commits = reports
        .iter()
        .find_map(|report| report.metrics.apis.get(&ApiKey::OffsetCommit));
    let commits = commits.expect("somebody committed");
    assert!(commits.latency.count() > 0);
    let least = PARTITIONS as u64 * 8;
    assert!(
        commits.request_bytes > least,
        "{} bytes",
        commits.request_bytes
    );
    assert!(
        commits.response_bytes > PARTITIONS as u64 * 2,
        "{} bytes",
        commits.response_bytes
    );
}
