//! What `deploy/` ships is true: units, images and compositions name configs that there are, and
//! three nodes with the variables of the composition are a cluster.
//!
//! No parser of YAML, units or container files: each is read as far as it is used there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use broker::config::{self, BrokerConfig};

fn deployed(path: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("../deploy").join(path)
}

fn text(path: &str) -> String {
    let path = deployed(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

type Variables = BTreeMap<String, String>;

fn resolve(file: Option<PathBuf>, variables: Variables) -> BrokerConfig {
    let file = file.map(|path| config::read_file(&path).expect("a readable file"));
    let loaded = config::load(file.as_ref(), variables, &[]).expect("configs that there are");
    assert_eq!(loaded.notices, [""; 0], "nothing is set that has no effect");
    BrokerConfig::resolve(loaded.statics, "host").expect("a configuration that holds together")
}

/// The values of a unit's keys, in order.
fn unit_values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    let of_key = lines.filter(|(name, _)| *name == key);
    of_key.map(|(_, value)| value).collect()
}

#[test]
fn the_unit_starts_a_broker_that_can_write_where_it_shall() {
    let unit = text("systemd/corelane.service");
    assert_eq!(unit_values(&unit, "Type"), ["exec"]);
    let start = unit_values(&unit, "ExecStart")[0];
    assert!(
        start.ends_with("corelane start --config /etc/corelane/corelane.toml"),
        "{start}"
    );
    let sample = resolve(Some(deployed("systemd/corelane.toml")), Variables::new());
    let state = format!("/var/lib/{}", unit_values(&unit, "StateDirectory")[0]);
    assert_eq!(sample.node.data_dir, PathBuf::from(&state));
    assert_eq!(unit_values(&unit, "WorkingDirectory"), [state]);
    let stop_s: u64 = unit_values(&unit, "TimeoutStopSec")[0]
        .parse()
        .expect("seconds");
    assert!(
        stop_s * 1000 > sample.shutdown_timeout_ms,
        "systemd kills too early"
    );
    assert_eq!(unit_values(&unit, "LimitMEMLOCK"), ["infinity"]);
    let open_files: u64 = unit_values(&unit, "LimitNOFILE")[0]
        .parse()
        .expect("a number");
    assert!(open_files >= 1 << 20, "{open_files}");
    // io_uring is part of this set, by way of @aio.
    assert_eq!(unit_values(&unit, "SystemCallFilter"), ["@system-service"]);
}

/// The sample with the lines for a cluster, which it has as comments.
#[test]
fn the_sample_for_a_cluster_is_valid() {
    let sample = text("systemd/corelane.toml");
    let uncommented = |line: &str| match line.strip_prefix("# \"") {
        Some(setting) => format!("\"{setting}\n"),
        None => format!("{line}\n"),
    };
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("deploy-{}.toml", std::process::id()));
    std::fs::write(&path, sample.lines().map(uncommented).collect::<String>()).unwrap();
    let cluster = resolve(Some(path.clone()), Variables::new());
    std::fs::remove_file(path).unwrap();
    assert_eq!((cluster.node.id, cluster.node.voters.len()), (1, 3));
    assert_eq!(cluster.node.peer_listener.to_string(), "0.0.0.0:9192");
    assert_eq!(
        cluster.node.peer_address.to_string(),
        "broker-1.example.net:9192"
    );
    assert_eq!(
        cluster.node.listeners[0].advertised.host,
        "broker-1.example.net"
    );
    assert_eq!(cluster.default_replication_factor, 3);
}

#[test]
fn the_image_is_built_from_all_crates_and_starts_with_configs_that_there_are() {
    let file = text("container/Containerfile");
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|line| line.starts_with("members = "));
    let members: BTreeSet<&str> = members
        .expect("members")
        .split('"')
        .skip(1)
        .step_by(2)
        .collect();
    let copied = file.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copied: BTreeSet<&str> = copied
        .filter(|line| !line.starts_with("--") && !line.starts_with("Cargo"))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(copied, members);
    let shown = text("container/Containerfile.dockerignore");
    assert!(
        members
            .iter()
            .all(|member| shown.contains(&format!("!{member}\n"))),
        "{shown}"
    );
    resolve(None, image_variables());
}

/// What `ENV` sets.
fn image_variables() -> Variables {
    let file = text("container/Containerfile");
    let words = file
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    let ours = words.filter(|(name, _)| name.starts_with("CORELANE_"));
    ours.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The variables of each service: those of all, then its own.
fn services() -> BTreeMap<String, Variables> {
    let file = text("compose/compose.yaml");
    let (mut all, mut services) = (image_variables(), BTreeMap::new());
    let mut service = None;
    for line in file.lines() {
        let indent = line.len() - line.trim_start().len();
        if let (2, Some(name)) = (indent, line.trim().strip_suffix(':')) {
            service = name.starts_with("corelane-").then(|| name.to_owned());
        }
        let Some((name, value)) = line.trim().split_once(": ") else {
            continue;
        };
        if !name.starts_with("CORELANE_") {
            continue;
        }
        let variable = (name.to_owned(), value.trim_matches('"').to_owned());
        match &service {
            None => all.extend([variable]),
            Some(service) => {
                let own: &mut Variables = services.entry(service.clone()).or_default();
                own.extend([variable]);
            }
        }
    }
    let inherit = |(name, own): (String, Variables)| {
        let inherited = all.clone().into_iter().chain(own).collect();
        (name, inherited)
    };
    services.into_iter().map(inherit).collect()
}

#[test]
fn every_service_is_the_node_that_the_others_look_for() {
    let services = services();
    assert_eq!(services.len(), 3);
    for (name, variables) in services {
        let node = resolve(None, variables).node;
        let own = node.voters.iter().find(|voter| voter.node_id == node.id);
        assert_eq!(own.expect("it is a founder").peer.host, name);
        assert!(node.peer_listener.is_every_interface());
        assert_eq!(
            node.listeners[0].advertised.to_string(),
            format!("{name}:9092")
        );
        assert_eq!(node.data_dir, PathBuf::from("/var/lib/corelane"));
    }
}

/// Three plain processes; dropping them ends them.
struct Composed {
    nodes: Vec<Child>,
    directory: PathBuf,
    bootstrap: String,
}

impl Composed {
    /// The services with addresses, directories and memory of this machine.
    fn start() -> Composed {
        let name = format!("deploy-{}", std::process::id());
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&directory);
        let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        // All are held at once, so that they differ.
        let held: Vec<TcpListener> = (0..9).map(|_| free()).collect();
        let port = |at: usize| held[at].local_addr().expect("bound").port();
        let ports: Vec<[u16; 3]> = (0..3).map(|at| [at, at + 3, at + 6].map(port)).collect();
        drop(held);
        let inside = ports
            .iter()
            .map(|[_, inside, _]| format!("127.0.0.1:{inside}"));
        let mut composed = Composed {
            nodes: Vec::new(),
            directory,
            bootstrap: inside.collect::<Vec<_>>().join(","),
        };
        for ((name, mut variables), own) in services().into_iter().zip(&ports) {
            let voters = variables["CORELANE_CONTROLLER_QUORUM_VOTERS"].clone();
            let here = |voters: String, at: usize| {
                let peer = format!("127.0.0.1:{}", ports[at][0]);
                voters.replace(&format!("corelane-{}:9192", at + 1), &peer)
            };
            let [peer, inside, outside] = own;
            let listeners = format!("INSIDE://127.0.0.1:{inside},OUTSIDE://127.0.0.1:{outside}");
            let data = composed.directory.join(&name);
            let changed = [
                ("CONTROLLER_QUORUM_VOTERS", (0..3).fold(voters, here)),
                ("PEER_LISTENER", format!("127.0.0.1:{peer}")),
                ("LISTENERS", listeners.clone()),
                ("ADVERTISED_LISTENERS", listeners),
                ("LOG_DIRS", data.display().to_string()),
                ("ADMIN_LISTENER", String::new()),
                ("MEMORY", "128MiB".to_owned()),
                ("JOURNAL_BYTES", (16 << 20).to_string()),
            ];
            variables.extend(changed.map(|(name, value)| (format!("CORELANE_{name}"), value)));
            let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
            command.arg("start").envs(variables);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            composed
                .nodes
                .push(command.spawn().expect("the binary runs"));
        }
        composed
    }

    fn command(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command
            .args(line.split(' '))
            .env("CORELANE_BOOTSTRAP", &self.bootstrap);
        command.output().expect("the binary runs")
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn three_nodes_with_the_variables_of_the_composition_are_a_cluster() {
    let composed = Composed::start();
    let tell = |line: &str| {
        let output = composed.command(line);
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let healthy = tell("cluster health --nodes 3 --wait 60s");
    assert!(healthy.starts_with("healthy: 3 nodes"), "{healthy}");
    let created = tell("topic create t --partitions 3");
    assert!(created.contains("3 replica(s) each"), "{created}");
    tell("produce t --count 5 --size 10");
    tell("cluster health --wait 60s");
}
