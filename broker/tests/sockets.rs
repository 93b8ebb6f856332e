//! The binary as a process on this machine: what only real cores and real sockets can show.

#[path = "sockets/node.rs"]
mod node;

use node::{Client, Node, refused};
use protocol::ErrorCode;
use protocol::messages::{DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest};

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
        std::thread::sleep(std::time::Duration::from_millis(10));
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
