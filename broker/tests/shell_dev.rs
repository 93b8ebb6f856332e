//! `corelane dev cluster` and `corelane cluster health` as an operator uses them: real processes,
//! real disks, the loopback.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use protocol::ErrorCode;
use protocol::messages::*;
use serde_json::Value;

#[path = "sockets/client.rs"]
mod client;

use client::Client;

const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster in the foreground of a process of its own; dropping it ends all of it.
struct DevCluster {
    foreground: Child,
    /// Beside the binary: the target directory is on a real disk, which `/tmp` may not be.
    directory: PathBuf,
    bootstrap: String,
}

impl DevCluster {
    fn start(name: &str, nodes: &str) -> DevCluster {
        let name = format!("dev-{name}-{}", std::process::id());
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&directory);
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["dev", "cluster", "start", "--port", "0", "--nodes", nodes]);
        command.args([
            "--memory",
            "128MiB",
            "--set",
            "corelane.journal.bytes=16777216",
        ]);
        command.args(["--set", "broker.session.timeout.ms=2000"]);
        // Whatever else is on this machine's disk.
        command.args(["--set", "corelane.balance.disk.full.percent=100"]);
        command.arg("--data").arg(&directory).stdout(Stdio::null());
        let mut cluster = DevCluster {
            foreground: command.spawn().expect("the binary runs"),
            directory,
            bootstrap: String::new(),
        };
        let is_up = |shown: &Value| {
            let nodes = shown["nodes"].as_array();
            nodes.is_some_and(|nodes| nodes.iter().all(|node| node["state"] == "running"))
        };
        let shown = until("all nodes run", || Some(cluster.shown()).filter(is_up));
        let clients = shown["nodes"].as_array().expect("nodes").iter();
        let clients = clients.map(|node| node["client"].as_str().expect("an address"));
        cluster.bootstrap = clients.collect::<Vec<_>>().join(",");
        cluster
    }

    fn command(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(line.split(' '));
        command.env("CORELANE_BOOTSTRAP", &self.bootstrap);
        if line.starts_with("dev cluster ") {
            command.arg("--data").arg(&self.directory);
        }
        command.output().expect("the binary runs")
    }

    /// What a command that goes well prints.
    fn tell(&self, line: &str) -> String {
        let output = self.command(line);
        let (said, erred) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}: {said} {erred}");
        said
    }

    /// What a command that fails says.
    fn refused(&self, line: &str) -> String {
        let output = self.command(line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        text(&output.stderr)
    }

    fn json(&self, line: &str) -> Value {
        let output = self.command(&format!("{line} --format json"));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn shown(&self) -> Value {
        self.json("dev cluster show")
    }

    fn node(&self, node: u64) -> Value {
        let shown = self.shown();
        let mut nodes = shown["nodes"].as_array().expect("nodes").iter();
        let found = nodes.find(|shown| shown["node"] == node);
        found.expect("a node of the cluster").clone()
    }

    /// The leader of the topic's only partition, if there is one.
    fn leader(&self) -> Option<u64> {
        self.json("topic describe t")[0]["partitions"][0]["leader"].as_u64()
    }
}

impl Drop for DevCluster {
    fn drop(&mut self) {
        if let Ok(None) = self.foreground.try_wait() {
            self.command("dev cluster down --timeout 20s");
            let _ = self.foreground.kill();
        }
        let _ = self.foreground.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lives(pid: &Value) -> bool {
    std::fs::exists(format!("/proc/{pid}")).expect("/proc")
}

#[test]
fn a_cluster_survives_its_leader_and_goes_down_whole() {
    let mut cluster = DevCluster::start("survives", "3");
    cluster.tell("topic create t --partitions 1");
    cluster.tell("produce t --count 10 --size 20");
    let leader = until("a leader", || cluster.leader());
    assert_eq!(cluster.tell("cluster health --wait 30s").lines().count(), 1);

    assert_eq!(
        cluster.tell(&format!("dev cluster kill {leader}")),
        format!("node {leader} is killed\n")
    );
    assert_eq!(cluster.node(leader)["state"], "killed");
    let again = cluster.refused(&format!("dev cluster kill {leader}"));
    assert!(
        again.contains(&format!("node {leader} is killed")),
        "{again}"
    );
    let next = until("another leader", || {
        cluster.leader().filter(|next| *next != leader)
    });
    cluster.tell("produce t --count 10 --size 20");
    let health = cluster.command("cluster health");
    assert_eq!(health.status.code(), Some(1), "{health:?}");
    assert!(text(&health.stdout).starts_with("degraded: "), "{health:?}");

    cluster.tell(&format!("dev cluster start-node {leader}"));
    cluster.tell("cluster health --wait 30s");
    let read = cluster.tell("consume t --from earliest --exit-at-end --format json");
    assert_eq!(read.lines().count(), 20);
    let nodes = cluster.json("cluster nodes");
    let leads = |node: &&Value| node["node"] == next && node["leads"] == 1;
    assert_eq!(
        nodes
            .as_array()
            .expect("nodes")
            .iter()
            .filter(leads)
            .count(),
        1,
        "{nodes}"
    );

    let shown = cluster.shown();
    let pids: Vec<Value> = shown["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| node["pid"].clone())
        .collect();
    assert!(pids.iter().all(lives), "{shown}");
    cluster.tell("dev cluster down --remove");
    assert!(!pids.iter().any(lives), "{pids:?}");
    assert!(cluster.foreground.wait().expect("it ends").success());
    assert!(!cluster.directory.exists());
}

#[test]
fn an_isolated_leader_is_replaced_and_found_out() {
    let cluster = DevCluster::start("isolated", "3");
    cluster.tell("topic create t --partitions 1");
    let leader = until("a leader", || cluster.leader());
    cluster.tell(&format!("dev cluster isolate {leader}"));
    let others: Vec<u64> = [1, 2, 3]
        .into_iter()
        .filter(|node| *node != leader)
        .collect();
    assert_eq!(cluster.node(leader)["cut_to"], serde_json::json!(others));
    // `show` believes the newest epoch, whatever the isolated one says.
    let leads = |node: u64| cluster.node(node)["leads"] == 1;
    until("another leader", || {
        others.iter().any(|node| leads(*node)).then_some(())
    });
    let degraded = || (cluster.command("cluster health").status.code() == Some(1)).then_some(());
    until("the loss is noticed", degraded);
    cluster.tell("dev cluster heal");
    cluster.tell("cluster health --wait 30s");
    let unknown = cluster.refused("dev cluster cut 1 9");
    assert!(
        unknown.contains("there is no node 9; there are 1, 2, 3."),
        "{unknown}"
    );
}

/// Creates a topic at a node, on that node, and asks another for it at once. True if that one knows it.
fn is_known_to(topic: &str, node: &Value, creator: &mut Client, other: &mut Client) -> bool {
    let on_itself = CreatableReplicaAssignment {
        partition_index: 0,
        broker_ids: vec![node["node"].as_i64().expect("an id") as i32],
    };
    let wanted = CreatableTopic {
        name: topic.to_owned().into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![on_itself],
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![wanted],
        timeout_ms: 30_000,
        ..Default::default()
    };
    let made = creator.call(5, request);
    assert_eq!(made.topics[0].error_code, ErrorCode::NONE, "{made:?}");
    let wanted = MetadataRequestTopic {
        name: Some(topic.to_owned().into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![wanted]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let told = other.call(8, request);
    told.topics[0].error_code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
}

#[test]
fn what_one_node_says_is_created_is_known_to_all() {
    let cluster = DevCluster::start("created", "3");
    cluster.tell("cluster health --wait 30s");
    let nodes = cluster.json("cluster nodes");
    let nodes = nodes.as_array().expect("nodes");
    let is_controller = |node: &&Value| node["controller"] == true;
    let (controller, others): (Vec<_>, Vec<_>) = nodes.iter().partition(is_controller);
    let connect = |node: &Value| {
        let address = node["address"].as_str().expect("an address");
        Client::connect(address.parse().expect("host and port"))
    };
    let (first, second) = (controller[0], others[0]);
    let (mut creator, mut other) = (connect(first), connect(second));
    let cut = format!(
        "dev cluster cut {} {} --one-way",
        first["node"], second["node"]
    );

    // The answer waits for who hears late, for a second; a slow machine may need more than one try to be in time.
    let is_waited_for = (0..5).any(|round| {
        cluster.tell(&cut);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                cluster.tell("dev cluster heal");
            });
            is_known_to(&format!("late{round}"), first, &mut creator, &mut other)
        })
    });
    assert!(is_waited_for);

    // And no longer than that: the topic is there, whoever has not heard of it.
    cluster.tell(&cut);
    assert!(!is_known_to("later", first, &mut creator, &mut other));
}

#[test]
fn a_node_that_is_added_is_filled_and_one_that_is_decommissioned_leaves() {
    let cluster = DevCluster::start("grows", "3");
    cluster.tell("topic create t --partitions 6");
    cluster.tell("produce t --count 100 --size 20");
    cluster.tell("dev cluster add");
    let replicas = || -> Vec<(u64, u64)> {
        let nodes = cluster.json("cluster nodes");
        let nodes = nodes.as_array().into_iter().flatten();
        let pairs =
            nodes.filter_map(|node| Some((node["node"].as_u64()?, node["replicas"].as_u64()?)));
        pairs.collect()
    };
    until("all hold as much", || {
        let mut held: Vec<u64> = replicas().into_iter().map(|(_, count)| count).collect();
        held.sort_unstable();
        (held == [4, 4, 5, 5]).then_some(())
    });
    cluster.tell("produce t --count 100 --size 20");

    // Also if it is the only node that the command is told of.
    let address = cluster.node(1)["client"]
        .as_str()
        .expect("an address")
        .to_owned();
    let decommission = format!("cluster decommission 1 --wait 100s --bootstrap {address}");
    let told = cluster.tell(&decommission);
    assert_eq!(told, "node 1 has left the cluster\n");
    until("its process ends", || {
        (cluster.node(1)["state"] == "stopped").then_some(())
    });
    until("the others hold everything", || {
        (replicas() == [(2, 6), (3, 6), (4, 6)]).then_some(())
    });
    cluster.tell("cluster health --wait 30s");
    let read = cluster.tell("consume t --from earliest --exit-at-end --format json");
    assert_eq!(read.lines().count(), 200);
    let refused = cluster.refused("cluster decommission 2");
    assert!(refused.contains("topic 't' has 3 replicas"), "{refused}");
}

#[test]
fn partitions_are_listed_handed_over_moved_and_recovered() {
    let cluster = DevCluster::start("partitions", "3");
    cluster.tell("topic create t --partitions 1 --replication-factor 2 -c min.insync.replicas=1");
    cluster.tell("produce t --count 10 --size 20");
    let admin = |node: u64| {
        cluster.node(node)["admin"]
            .as_str()
            .expect("an address")
            .to_owned()
    };
    let row = || {
        let rows = cluster.json("partition list --topic t");
        rows[0].clone()
    };
    let numbers = |value: &Value| -> Vec<u64> {
        let numbers = value.as_array().expect("a list").iter();
        numbers.filter_map(Value::as_u64).collect()
    };
    let replicas = numbers(
        &until("a leader", || {
            let row = row();
            (row["leader"] == row["replicas"][0]).then_some(row)
        })["replicas"],
    );
    let [first, second] = replicas[..] else {
        panic!("two replicas: {replicas:?}")
    };
    assert_eq!(row()["state"], "healthy");
    assert!(
        cluster
            .tell("partition list --offline")
            .starts_with("no such")
    );

    // To one that is not preferred only by an order.
    let at = admin(first);
    let said = cluster.tell(&format!(
        "partition transfer t 0 --to {second} --admin {at}"
    ));
    assert!(
        said.starts_with(&format!("node {second} leads now t-0")),
        "{said}"
    );
    // It goes back by itself soon, and at once if that is asked for.
    let said = cluster.tell("partition transfer t 0");
    assert!(said.contains(&format!("node {first} leads")), "{said}");
    let third = 6 - first - second;
    let refused = cluster.refused(&format!("partition transfer t 0 --to {third} --admin {at}"));
    assert!(refused.contains("has no replica of t-0"), "{refused}");

    let said = cluster.tell(&format!(
        "partition move t 0 --to {third},{first} --wait 60s"
    ));
    assert!(
        said.contains("has arrived") && said.contains(&format!("{third},{first}")),
        "{said}"
    );
    let refused = cluster.refused("partition move t 0 --cancel");
    assert!(refused.contains("NO_REASSIGNMENT_IN_PROGRESS"), "{refused}");

    // One of two is lost for good.
    let recover = format!("partition recover t 0 --lost {third} --by ada --admin {at}");
    let refused = cluster.refused(&recover);
    assert!(refused.contains(&format!("Node {third} runs")), "{refused}");
    cluster.tell(&format!("dev cluster kill {third}"));
    let plan = until("a plan", || {
        let output = cluster.command(&recover);
        output.status.success().then(|| text(&output.stdout))
    });
    assert!(
        plan.contains("nothing was changed") && plan.contains("up to offset 10"),
        "{plan}"
    );
    assert!(
        cluster
            .tell("partition list --offline")
            .contains("no leader")
    );
    // All that have no leader, which may be the consumers' offsets too.
    let all = format!("partition recover --offline --lost {third} --by ada --admin {at}");
    let plan = cluster.tell(&all);
    assert!(plan.contains("would go on alone"), "{plan}");
    let done = cluster.tell(&format!("{recover} --accept-data-loss"));
    assert!(
        done.starts_with(&format!("t-0 goes on from node {first} alone")),
        "{done}"
    );
    until("no partition without a leader", || {
        let told = text(&cluster.command(&all).stdout);
        told.starts_with("every partition has a leader")
            .then_some(())
    });
    cluster.tell("produce t --count 5 --size 20");
    let told = cluster.tell(&format!("partition recoveries --admin {at}"));
    assert!(told.contains("ada") && told.lines().count() == 2, "{told}");
    let state = row()["state"].clone();
    assert_eq!(state, "under-replicated");

    // The old disk is nobody's any more; an empty one is welcome.
    cluster.command(&format!("dev cluster start-node {third} --timeout 20s"));
    until("the node ends", || {
        (cluster.node(third)["state"] == "failed").then_some(())
    });
    cluster.tell(&format!("dev cluster wipe {third}"));
    cluster.tell(&format!("dev cluster start-node {third}"));
    until("all is well", || {
        (row()["state"] == "healthy").then_some(())
    });
    let read = cluster.tell("consume t --from earliest --exit-at-end --format json");
    assert_eq!(read.lines().count(), 15);
}
