//! What a cluster on this machine consists of: nodes, ports, settings, and the file that says so.
//!
//! `cluster.json` in the cluster's directory outlives the foreground process: it says which nodes
//! the data belongs to, and which processes may be left over if that one died.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::error::ShellError;
use super::process::ProcessId;

/// Distance of the ports of the admin listeners from those for clients.
const ADMIN_ABOVE: u16 = 1000;
/// Distance of the ports where the nodes listen for each other.
const PEER_ABOVE: u16 = 2000;
/// Below the ports that the kernel gives to outgoing connections.
const PROBED_PORTS: std::ops::Range<u16> = 20_000..28_000;

const FILE: &str = "cluster.json";

/// A cluster in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClusterFile {
    /// The foreground process, while it runs.
    pub process: Option<ProcessId>,
    /// The nodes that found the cluster together: the same list on each of them, for good.
    pub founders: Vec<i32>,
    pub nodes: BTreeMap<i32, NodeEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeEntry {
    pub process: Option<ProcessId>,
    /// Where clients connect.
    pub client: SocketAddr,
    /// Where `/metrics` and `/readyz` are.
    pub admin: SocketAddr,
    /// Where it listens for the other nodes; they are told another address.
    pub peer: SocketAddr,
    pub data: PathBuf,
    pub log: PathBuf,
}

impl NodeEntry {
    /// The entry of a node of a cluster whose first client port is `port`.
    pub(super) fn new(directory: &Path, id: i32, port: u16) -> NodeEntry {
        let [client, admin, peer] = ports(id, port).map(|port| ([127, 0, 0, 1], port).into());
        NodeEntry {
            process: None,
            client,
            admin,
            peer,
            data: directory.join(format!("node-{id}")),
            log: directory.join(format!("node-{id}.log")),
        }
    }
}

/// Of a node: for clients, for administration, for the other nodes.
fn ports(id: i32, port: u16) -> [u16; 3] {
    let client = port + (id - 1) as u16;
    [client, client + ADMIN_ABOVE, client + PEER_ABOVE]
}

/// The first client port: as wanted, or one whose followers are free, too.
///
/// # Errors
/// Something else uses one of the ports.
pub(super) fn first_port(ids: &[i32], wanted: u16) -> Result<u16, ShellError> {
    let taken = |port: u16| {
        let mut all = ids.iter().flat_map(|id| ports(*id, port));
        all.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_err())
    };
    if wanted == 0 {
        // Two clusters that start at once begin to look at different places.
        let places = PROBED_PORTS.len() / 50;
        let begin = std::process::id() as usize * 7;
        return (0..places)
            .map(|turn| PROBED_PORTS.start + ((begin + turn) % places) as u16 * 50)
            .find(|port| taken(*port).is_none())
            .ok_or_else(|| {
                let reason = "no ports are free between 20000 and 30000; name one with --port.";
                ShellError::impossible("start the cluster", reason)
            });
    }
    match taken(wanted) {
        None => Ok(wanted),
        Some(port) => Err(ShellError::impossible(
            "start the cluster",
            format!("port {port} is taken. Stop what uses it, or choose others with --port."),
        )),
    }
}

/// Whether a node can be added to a cluster whose first client port is `port`.
///
/// # Errors
/// Something else uses one of its ports.
pub(super) fn node_ports_free(id: i32, port: u16) -> Result<(), ShellError> {
    first_port(&[id], port).map(drop)
}

impl ClusterFile {
    /// What the directory says of itself; `None` if no cluster was ever there.
    pub(super) fn read(directory: &Path) -> Result<Option<ClusterFile>, ShellError> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ShellError::File { path, error }),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let reason = format!("{error}. Remove the directory if nothing of it is needed.");
            ShellError::impossible(format!("understand {}", path.display()), reason)
        })
    }

    /// Writes it whole, or leaves what was there.
    pub(super) fn write(&self, directory: &Path) -> Result<(), ShellError> {
        let path = directory.join(FILE);
        let new = directory.join("cluster.json.new");
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        text.and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| failed("write", &path, &error))
    }

    /// Deletes the nodes' data and logs and this file: what the cluster made, and nothing else.
    pub(super) fn remove(&self, directory: &Path) -> Result<(), ShellError> {
        for node in self.nodes.values() {
            absent_is_fine(fs::remove_dir_all(&node.data))
                .map_err(|error| failed("remove", &node.data, &error))?;
            absent_is_fine(fs::remove_file(&node.log))
                .map_err(|error| failed("remove", &node.log, &error))?;
        }
        let path = directory.join(FILE);
        absent_is_fine(fs::remove_file(&path)).map_err(|error| failed("remove", &path, &error))
    }

    /// The processes that this file tells of and that still live.
    pub(super) fn living(&self) -> Vec<(i32, ProcessId)> {
        let nodes = self.nodes.iter();
        let known = nodes.filter_map(|(id, node)| Some((*id, node.process?)));
        known.filter(|(_, process)| process.lives()).collect()
    }

    pub(super) fn ids(&self) -> Vec<i32> {
        self.nodes.keys().copied().collect()
    }
}

pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> ShellError {
    ShellError::impossible(format!("{what} {}", path.display()), format!("{error}."))
}

/// What all nodes are started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub cores: String,
    pub memory: String,
    /// What the operator has set beside; wins.
    pub set: Vec<(String, String)>,
}

impl Settings {
    /// Name and value of each config of a node. `doors` are the addresses that nodes have for each
    /// other.
    pub(super) fn of_node(
        &self,
        id: i32,
        node: &NodeEntry,
        founders: &[i32],
        doors: &BTreeMap<i32, SocketAddr>,
    ) -> Vec<(String, String)> {
        let replicas = founders.len().min(3);
        // A node that came later names itself beside the founders, as where the others find it.
        let named = doors
            .iter()
            .filter(|(other, _)| founders.contains(other) || **other == id);
        let voters: Vec<String> = named.map(|(id, door)| format!("{id}@{door}")).collect();
        let own = [
            ("node.id", id.to_string()),
            ("log.dirs", node.data.display().to_string()),
            ("listeners", format!("PLAINTEXT://{}", node.client)),
            ("corelane.admin.listener", node.admin.to_string()),
            ("corelane.peer.listener", node.peer.to_string()),
            ("controller.quorum.voters", voters.join(",")),
            ("default.replication.factor", replicas.to_string()),
            ("offsets.topic.replication.factor", replicas.to_string()),
            ("min.insync.replicas", replicas.min(2).to_string()),
            ("corelane.cores", self.cores.clone()),
            ("corelane.memory", self.memory.clone()),
            ("corelane.journal.bytes", (64 << 20).to_string()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        own.into_iter().chain(self.set.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let name = format!("corelane-layout-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn cluster(directory: &Path) -> ClusterFile {
        let node = |id| (id, NodeEntry::new(directory, id, 9092));
        ClusterFile {
            process: ProcessId::of(std::process::id()),
            founders: vec![1, 2, 3],
            nodes: (1..=4).map(node).collect(),
        }
    }

    #[test]
    fn the_file_comes_back_and_what_it_names_goes() {
        let directory = directory("file");
        assert_eq!(ClusterFile::read(&directory).unwrap(), None);
        let cluster = cluster(&directory);
        cluster.write(&directory).unwrap();
        assert_eq!(
            ClusterFile::read(&directory).unwrap(),
            Some(cluster.clone())
        );
        fs::create_dir_all(&cluster.nodes[&2].data).unwrap();
        fs::write(directory.join("letter"), "kept").unwrap();
        cluster.remove(&directory).unwrap();
        let left: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        fs::write(directory.join(FILE), "{").unwrap();
        let error = ClusterFile::read(&directory).unwrap_err().to_string();
        assert!(error.contains(FILE), "{error}");
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn only_the_living_are_left_over() {
        let mut cluster = cluster(Path::new("d"));
        assert_eq!(cluster.living(), []);
        let me = ProcessId::of(std::process::id()).unwrap();
        cluster.nodes.get_mut(&3).unwrap().process = Some(me);
        assert_eq!(cluster.living(), [(3, me)]);
    }

    #[test]
    fn every_node_is_told_the_same_founders() {
        let cluster = cluster(Path::new("d"));
        let door = |id: i32| (id, SocketAddr::from(([127, 0, 0, 1], 100 + id as u16)));
        let doors: BTreeMap<i32, SocketAddr> = (1..=4).map(door).collect();
        let settings = Settings {
            cores: "1".into(),
            memory: "512MiB".into(),
            set: vec![("min.insync.replicas".into(), "1".into())],
        };
        let told = |id: i32| -> BTreeMap<String, String> {
            let pairs = settings.of_node(id, &cluster.nodes[&id], &cluster.founders, &doors);
            pairs.into_iter().collect()
        };
        let voters = "1@127.0.0.1:101,2@127.0.0.1:102,3@127.0.0.1:103";
        let (second, fourth) = (told(2), told(4));
        assert_eq!(second["controller.quorum.voters"], voters);
        assert_eq!(second["listeners"], "PLAINTEXT://127.0.0.1:9093");
        assert_eq!(second["corelane.peer.listener"], "127.0.0.1:11093");
        assert_eq!(second["min.insync.replicas"], "1", "what is set wins");
        let later = format!("{voters},4@127.0.0.1:104");
        assert_eq!(fourth["controller.quorum.voters"], later);
        assert_eq!(fourth["default.replication.factor"], "3");
    }

    #[test]
    fn a_taken_port_is_named() {
        let port = first_port(&[1, 2, 3], 0).unwrap();
        let _taken = TcpListener::bind(("127.0.0.1", port + 1001)).unwrap();
        let error = first_port(&[1, 2, 3], port).unwrap_err().to_string();
        assert!(error.contains(&(port + 1001).to_string()), "{error}");
    }
}
