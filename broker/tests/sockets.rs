//! The binary as a process on this machine: what only real cores and real sockets can show.

#[path = "sockets/client.rs"]
mod client;
#[path = "sockets/node.rs"]
mod node;

use client::Client;
use node::{Node, refused};
use protocol::ErrorCode;
use protocol::compression::{Codec, Compression};
use protocol::messages::*;
use protocol::records::BatchBuilder;
use std::net::TcpListener;
use std::time::Duration;

/// The CPUs that a process or thread may use, as `/proc` tells it.
fn allowed(status: &str) -> String {
    let text = std::fs::read_to_string(status).expect("the process lives");
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.expect("the kernel tells it").trim().to_owned()
}

/// The last CPU that this test may use.
fn last_cpu() -> String {
    let list = allowed("/proc/self/status");
    let last = list.rsplit([',', '-']).next().expect("at least one CPU");
    last.to_owned()
}

/// What the cores' threads may use, in the order of the cores.
fn cpus_of_cores(node: &Node) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.id())).expect("it lives");
    let mut cores: Vec<(String, String)> = tasks
        .map(|task| task.expect("a thread").path())
        .map(|task| {
            let name = std::fs::read_to_string(task.join("comm")).expect("a name");
            let status = task.join("status").display().to_string();
            (name.trim().to_owned(), allowed(&status))
        })
        .filter(|(name, _)| name.starts_with("core-"))
        .collect();
    cores.sort();
    cores.into_iter().map(|(_, cpus)| cpus).collect()
}

#[test]
fn named_cpus_get_a_core_each_that_stays_there() {
    let cpu = last_cpu();
    let node = Node::start("named", &["--cores", &format!("{cpu}-{cpu}")]);
    assert_eq!(cpus_of_cores(&node), [cpu]);
    let told = node.client().call(12, MetadataRequest::default());
    assert_eq!(told.brokers[0].port, i32::from(node.addresses[0].port()));
}

#[test]
fn a_count_is_pinned_only_where_cpus_are_not_shared() {
    let all = allowed("/proc/self/status");
    let shared = Node::start("shared", &["--cores", "2", "--overprovisioned"]);
    assert_eq!(cpus_of_cores(&shared), [all.clone(), all.clone()]);
    drop(shared);
    let first = all.split([',', '-']).next().expect("a CPU");
    let alone = Node::start("alone", &["--cores", "1", "--overprovisioned=false"]);
    assert_eq!(cpus_of_cores(&alone), [first]);
}

#[test]
fn what_the_machine_lacks_is_one_sentence() {
    let cases: [(&str, &[&str], &str); 5] = [
        ("cpu", &["--cores", "1000-1000"], "names CPU 1000"),
        (
            "range",
            &["--cores", "3-1"],
            "corelane.cores: it must be a count",
        ),
        (
            "memory",
            &["--cores", "2", "--memory", "100MiB"],
            "comes to 100 MiB, and 2 cores need 128 MiB",
        ),
        ("much", &["--memory", "900TiB"], "more than the"),
        ("unit", &["--memory", "lots"], "512MiB or 2GiB"),
    ];
    for (name, arguments, part) in cases {
        let output = refused(name, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// The sockets of a process that was killed are closed a little later than it ends.
#[test]
fn a_port_that_becomes_free_is_taken() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = other.local_addr().expect("it is bound");
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(other);
    });
    let listeners = format!("listeners=PLAINTEXT://{address}");
    let node = Node::start("port", &["--set", &listeners]);
    assert_eq!(node.addresses, [address]);
    ends.join().expect("it only sleeps");
}

/// All addresses that a client is told, by every api that tells one.
fn told(client: &mut Client) -> Vec<(String, i32)> {
    let metadata = client.call(12, MetadataRequest::default());
    let cluster = client.call(0, DescribeClusterRequest::default());
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["billing".into()],
        ..FindCoordinatorRequest::default()
    };
    let coordinator = loop {
        let found = client.call(4, find.clone()).coordinators.remove(0);
        if found.error_code == ErrorCode::NONE {
            break found;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    vec![
        (
            metadata.brokers[0].host.to_string(),
            metadata.brokers[0].port,
        ),
        (cluster.brokers[0].host.to_string(), cluster.brokers[0].port),
        (coordinator.host.to_string(), coordinator.port),
    ]
}

#[test]
fn clients_are_told_the_address_of_the_listener_they_came_through() {
    let listeners = "listeners=INTERNAL://127.0.0.1:0,EXTERNAL://127.0.0.1:0";
    let protocols = "listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT";
    let advertised = "advertised.listeners=EXTERNAL://kafka.example:443";
    let settings = ["--set", listeners, "--set", protocols, "--set", advertised];
    let node = Node::start("listeners", &[&settings[..], &["--cores", "2"]].concat());
    let [inside, outside] = node.addresses[..] else {
        panic!("two listeners: {:?}", node.addresses)
    };
    // Connections alternate between the cores; every core knows every listener.
    for _ in 0..2 {
        let expected = ("127.0.0.1".to_owned(), i32::from(inside.port()));
        assert_eq!(told(&mut Client::connect(inside)), vec![expected; 3]);
        let expected = ("kafka.example".to_owned(), 443);
        assert_eq!(told(&mut Client::connect(outside)), vec![expected; 3]);
    }
}

/// Whether the broker answers on a connection; it closes one that is beyond a limit.
fn is_let_in(client: &mut Client) -> bool {
    client.try_call(12, MetadataRequest::default()).is_some()
}

#[test]
fn connections_beyond_a_limit_are_closed_until_another_one_ends() {
    let listeners = "listeners=INTERNAL://127.0.0.1:0,EXTERNAL://127.0.0.1:0";
    let protocols = "listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT";
    let per_ip = "max.connections.per.ip=0";
    let overrides = "max.connections.per.ip.overrides=127.0.0.1:3";
    let external = "listener.name.external.max.connections=1";
    let settings = [listeners, protocols, per_ip, overrides, external];
    let settings: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    let node = Node::start("limits", &[&settings[..], &["--cores", "2"]].concat());
    let [inside, outside] = node.addresses[..] else {
        panic!("two listeners: {:?}", node.addresses)
    };
    let mut first = Client::connect(outside);
    assert!(is_let_in(&mut first), "the first one");
    assert!(
        !is_let_in(&mut Client::connect(outside)),
        "its listener takes one"
    );
    let mut others = [Client::connect(inside), Client::connect(inside)];
    assert!(others.iter_mut().all(is_let_in));
    assert!(
        !is_let_in(&mut Client::connect(inside)),
        "the address has three"
    );
    drop(first);
    let again = std::iter::repeat_with(|| is_let_in(&mut Client::connect(inside)));
    assert!(again.take(1_000).any(|is_in| is_in), "there is room again");
    assert!(others.iter_mut().all(is_let_in), "nobody else has noticed");
}

#[test]
fn new_connections_wait_for_their_rate() {
    let node = Node::start("rate", &["--set", "max.connection.creation.rate=20"]);
    let began = std::time::Instant::now();
    for _ in 0..30 {
        assert!(is_let_in(&mut node.client()));
    }
    // Twenty at once, then one each twentieth of a second.
    let took = began.elapsed();
    assert!(took.as_millis() >= 450, "{took:?}");
}

#[test]
fn a_batch_that_unpacks_to_more_than_allowed_is_refused() {
    let node = Node::start(
        "unpacked",
        &["--set", "max.decompressed.message.bytes=100000"],
    );
    let mut client = node.client();
    create(&mut client, "unpacked", 1, &[]);
    let mut produced = |value_bytes| {
        let zstd = Compression::of(Codec::Zstd);
        let batch = BatchBuilder::new().compression(zstd);
        produce(&mut client, "unpacked", batch, value_bytes)
    };
    assert_eq!(produced(90_000), ErrorCode::NONE);
    assert_ne!(produced(110_000), ErrorCode::NONE);
}

#[test]
fn producers_unused_for_longest_are_forgotten() {
    let node = Node::start("producers", &["--set", "corelane.producer.ids.max=2"]);
    let mut client = node.client();
    create(&mut client, "producers", 1, &[]);
    let mut produced = |id, sequence| {
        let batch = BatchBuilder::new().producer(id, 0, sequence);
        produce(&mut client, "producers", batch, 10)
    };
    assert_eq!([1, 2].map(|id| produced(id, 0)), [ErrorCode::NONE; 2]);
    let gap = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
    assert_eq!(produced(1, 7), gap, "two are remembered");
    assert_eq!([3, 4].map(|id| produced(id, 0)), [ErrorCode::NONE; 2]);
    assert_eq!(produced(4, 7), gap, "the newest still is");
    assert_eq!(produced(1, 7), ErrorCode::NONE, "the oldest is as if new");
}

/// Segment files of all partitions of a node that has one topic.
fn segments(node: &Node) -> usize {
    let mut open = vec![node.data.clone()];
    let mut found = 0;
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).expect("it is there") {
            let path = entry.expect("it is there").path();
            found += usize::from(path.extension().is_some_and(|kind| kind == "segment"));
            open.extend(path.is_dir().then_some(path));
        }
    }
    found
}

/// Waits until something is so; says whether it ever was.
fn becomes(is_so: impl FnMut() -> bool) -> bool {
    let mut tries = std::iter::repeat_with(is_so).take(400);
    tries.any(|is_so| {
        std::thread::sleep(Duration::from_millis(50));
        is_so
    })
}

#[test]
fn files_of_deleted_records_stay_for_as_long_as_the_topic_says() {
    let node = Node::start("files", &["--set", "log.retention.check.interval.ms=100"]);
    let mut client = node.client();
    let configs = [
        ("segment.bytes", "1048576"),
        ("file.delete.delay.ms", "3600000"),
    ];
    create(&mut client, "files", 1, &configs);
    for _ in 0..4 {
        let batch = BatchBuilder::new();
        assert_eq!(
            produce(&mut client, "files", batch, 900_000),
            ErrorCode::NONE
        );
    }
    assert!(
        becomes(|| segments(&node) >= 3),
        "{} segments",
        segments(&node)
    );
    let partition = DeleteRecordsPartition {
        partition_index: 0,
        offset: -1,
    };
    let topic = DeleteRecordsTopic {
        name: "files".into(),
        partitions: vec![partition],
    };
    let deleted = client.call(
        2,
        DeleteRecordsRequest {
            topics: vec![topic],
            timeout_ms: 30_000,
        },
    );
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 4);
    let before = segments(&node);
    std::thread::sleep(Duration::from_millis(1_000));
    assert!(segments(&node) >= before, "they stay");
    alter(&mut client, "files", "file.delete.delay.ms", "0");
    assert!(becomes(|| segments(&node) < before), "they go");
}

fn alter(client: &mut Client, topic: &'static str, name: &'static str, value: &'static str) {
    let config = IncrementalAlterableConfig {
        name: name.into(),
        config_operation: 0,
        value: Some(value.into()),
    };
    let resource = IncrementalAlterConfigsResource {
        resource_type: 2,
        resource_name: topic.into(),
        configs: vec![config],
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    };
    let altered = client.call(1, request);
    assert_eq!(altered.responses[0].error_code, ErrorCode::NONE);
}

/// One record of so many bytes to partition 0.
fn produce(
    client: &mut Client,
    topic: &'static str,
    mut batch: BatchBuilder,
    value_bytes: usize,
) -> ErrorCode {
    batch.push(-1, None, Some(&vec![0; value_bytes]), &[]);
    let partition = PartitionProduceData {
        index: 0,
        records: Some(batch.build().into_bytes()),
    };
    let topic = TopicProduceData {
        name: topic.into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
        ..ProduceRequest::default()
    };
    let answer = client.call(9, request);
    answer.responses[0].partition_responses[0].error_code
}

#[test]
fn partitions_are_described_page_by_page() {
    let node = Node::start("pages", &["--set", "max.request.partition.size.limit=2"]);
    let mut client = node.client();
    create(&mut client, "pages", 3, &[]);
    let request = DescribeTopicPartitionsRequest {
        response_partition_limit: 100,
        ..DescribeTopicPartitionsRequest::default()
    };
    let page = client.call(0, request);
    assert_eq!(page.topics[0].partitions.len(), 2);
    assert_eq!(page.next_cursor.expect("there is more").partition_index, 2);
}

/// Partitions that have a leader, by topic, as the list of all topics tells them; what it tells without a
/// leader is a failure.
fn listed(client: &mut Client) -> Vec<(String, usize)> {
    let every = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let told = client.call(12, every);
    let topics = told.topics.into_iter().map(|topic| {
        let name = topic.name.expect("it has a name").to_string();
        assert_eq!(topic.error_code, ErrorCode::NONE, "{name}");
        for partition in &topic.partitions {
            let code = partition.error_code;
            assert_eq!(
                code,
                ErrorCode::NONE,
                "{name}-{}",
                partition.partition_index
            );
        }
        (name, topic.partitions.len())
    });
    topics.collect()
}

#[test]
fn a_new_topic_is_listed_when_all_of_it_serves() {
    let node = Node::start("fresh", &["--cores", "2"]);
    let mut watcher = node.client();
    let address = node.addresses[0];
    let creator = std::thread::spawn(move || {
        let mut client = Client::connect(address);
        for name in ["first", "second", "third"] {
            create(&mut client, name, 200, &[]);
            let all = listed(&mut client);
            assert!(all.contains(&(name.to_owned(), 200)), "{name}: {all:?}");
        }
        // Created by the question itself: told to ask again until it serves.
        let wanted = MetadataRequestTopic {
            name: Some("automatic".into()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![wanted]),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        assert!(becomes(|| {
            let topic = client.call(12, request.clone()).topics.remove(0);
            let code = topic.error_code;
            assert!([ErrorCode::NONE, ErrorCode::LEADER_NOT_AVAILABLE].contains(&code));
            code == ErrorCode::NONE && topic.partitions.len() == 1
        }));
    });
    let mut looks = 0;
    while !creator.is_finished() {
        listed(&mut watcher);
        looks += 1;
    }
    creator.join().expect("what was created is listed");
    assert!(looks > 10, "{looks}");
    assert_eq!(listed(&mut watcher).len(), 4);
}

fn create(
    client: &mut Client,
    name: &'static str,
    partitions: i32,
    configs: &[(&'static str, &'static str)],
) {
    let config = |(name, value): &(&'static str, &'static str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 30_000,
        ..CreateTopicsRequest::default()
    };
    let created = client.call(7, request);
    assert_eq!(created.topics[0].error_code, ErrorCode::NONE);
}

#[test]
fn a_listener_that_cannot_be_protected_is_refused_by_name() {
    let listeners = "listeners=INTERNAL://127.0.0.1:0,EXTERNAL://127.0.0.1:0";
    let protocols = "listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:SASL_SSL";
    let output = refused("protected", &["--set", listeners, "--set", protocols]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("listener EXTERNAL asks for SASL_SSL") && said.contains("use PLAINTEXT"),
        "{said}"
    );
}
