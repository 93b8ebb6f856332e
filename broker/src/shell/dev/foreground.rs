//! `corelane dev cluster start`: the process that all nodes are children of.
//!
//! It owns what is known of the nodes and the cuts, carries out orders one by one, and ends when
//! every node has. Orders do not wait for what they have begun; who gives one looks again.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::super::arguments::DevStart;
use super::super::error::ShellError;
use super::super::output::Output;
use super::control::{self, Answer, NodeReport, NodeState, Order};
use super::doors::{self, Cuts};
use super::layout::{self, ClusterFile, NodeEntry, Settings};
use super::node::Node;
use super::process::{ProcessId, Signal};
use super::relay::Gate;
use super::show;

/// How often nodes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const NODES_MAX: usize = 64;

/// What each node is given a value of its own for.
const SET_BY_NODE: [&str; 8] = [
    "node.id",
    "broker.id",
    "log.dirs",
    "listeners",
    "advertised.listeners",
    "corelane.admin.listener",
    "corelane.peer.listener",
    "controller.quorum.voters",
];

pub(super) fn run(arguments: &DevStart, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    if let Some((name, _)) = arguments
        .set
        .iter()
        .find(|(name, _)| SET_BY_NODE.contains(&&**name))
    {
        let reason = "each node has a value of its own for it. Leave it out.";
        return Err(ShellError::impossible(format!("set {name}"), reason));
    }
    let directory = prepare(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ShellError::impossible("start the cluster", error.to_string()))?;
    runtime.block_on(async {
        let mut cluster = Cluster::open(arguments, directory).await?;
        let result = cluster.serve(arguments, output).await;
        cluster.end();
        result
    })
}

/// Makes the directory usable, or says why it is not. Gives its absolute path.
fn prepare(arguments: &DevStart) -> Result<PathBuf, ShellError> {
    let data = &arguments.place.data;
    std::fs::create_dir_all(data).map_err(|error| layout::failed("create", data, &error))?;
    let directory = data.canonicalize();
    let directory = directory.map_err(|error| layout::failed("find", data, &error))?;
    let Some(before) = ClusterFile::read(&directory)? else {
        return Ok(directory);
    };
    let refused = |reason: String| ShellError::impossible("start the cluster", reason);
    if before.process.is_some_and(ProcessId::lives) {
        let place = data.display();
        return Err(refused(format!(
            "one runs in {place} already. `corelane dev cluster down` stops it; --data names \
             another directory."
        )));
    }
    if !before.living().is_empty() {
        return Err(refused(
            "nodes of one whose foreground process died still run. `corelane dev cluster down` \
             stops them."
                .to_owned(),
        ));
    }
    if arguments.fresh {
        before.remove(&directory)?;
    } else if arguments
        .nodes
        .is_some_and(|count| usize::from(count) != before.nodes.len())
    {
        let there = before.nodes.len();
        return Err(refused(format!(
            "the directory has the data of {there} nodes. Leave --nodes out to start them again, \
             or forget them with --fresh."
        )));
    }
    Ok(directory)
}

struct Cluster {
    directory: PathBuf,
    settings: Settings,
    /// Client port of node 1.
    port: u16,
    founders: Vec<i32>,
    nodes: BTreeMap<i32, Node>,
    /// Where each node is reached by the others.
    doors: BTreeMap<i32, SocketAddr>,
    cuts: watch::Sender<Arc<Cuts>>,
    /// The cluster is to end.
    stopping: bool,
}

impl Cluster {
    /// The cluster of a directory, with its doors open and no node running.
    async fn open(arguments: &DevStart, directory: PathBuf) -> Result<Cluster, ShellError> {
        let before = ClusterFile::read(&directory)?;
        let count = i32::from(arguments.nodes.unwrap_or(3));
        let (founders, ids) = match before {
            Some(before) => (before.founders.clone(), before.ids()),
            None => ((1..=count).collect(), (1..=count).collect()),
        };
        let port = layout::first_port(&ids, arguments.port)?;
        let mut cluster = Cluster {
            settings: Settings {
                cores: arguments.cores.clone(),
                memory: arguments.memory.clone(),
                set: arguments.set.clone(),
            },
            port,
            founders,
            nodes: BTreeMap::new(),
            doors: BTreeMap::new(),
            cuts: watch::channel(Arc::default()).0,
            stopping: false,
            directory,
        };
        for id in ids {
            cluster.admit(id).await?;
        }
        Ok(cluster)
    }

    /// Gives a node its entry and its door.
    async fn admit(&mut self, id: i32) -> Result<(), ShellError> {
        let entry = NodeEntry::new(&self.directory, id, self.port);
        let door = doors::open(id, entry.peer, self.cuts.subscribe()).await;
        let door = door.map_err(|error| {
            ShellError::impossible(format!("listen for node {id}"), error.to_string())
        })?;
        self.doors.insert(id, door);
        self.nodes.insert(id, Node::new(entry));
        Ok(())
    }

    /// Starts all nodes and does what it is told until the last one has ended.
    async fn serve(
        &mut self,
        arguments: &DevStart,
        output: &mut Output<impl Write>,
    ) -> Result<(), ShellError> {
        let listening = control::listen(&self.directory);
        let mut orders =
            listening.map_err(|error| layout::failed("listen in", &self.directory, &error))?;
        let mut signals = watch_signals()?;
        let ids: Vec<i32> = self.nodes.keys().copied().collect();
        if let Err(reason) = ids.iter().try_for_each(|id| self.start_node(*id)) {
            self.tell_all(Signal::KILL);
            return Err(ShellError::impossible("start the cluster", reason));
        }
        self.note();
        let spinner = show::spinner();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut shown, mut failure) = (false, None);
        while !(self.stopping && self.nodes.values().all(|node| !node.is_up())) {
            tokio::select! {
                _ = looks.tick() => {
                    self.look(shown).await;
                    spinner.set_message(self.progress());
                    if shown || self.stopping {
                        continue;
                    }
                    if let Some(reason) = self.failed_to_start() {
                        failure = Some(ShellError::impossible("start the cluster", reason));
                        self.begin_stop();
                    } else if self.nodes.values().all(|node| node.state() == NodeState::Running) {
                        shown = true;
                        spinner.finish_and_clear();
                        let format = arguments.place.format.format;
                        if let Err(error) = show::welcome(format, &self.reports(), output) {
                            failure = Some(error);
                            self.begin_stop();
                        }
                    }
                }
                Some((order, answered)) = orders.recv() => {
                    let outcome = self.carry_out(order).await;
                    self.note();
                    let nodes = self.reports();
                    // Whoever asked may have gone.
                    let _ = answered.send(Answer { outcome, nodes });
                }
                Some(()) = signals.recv() => match self.stopping {
                    false => {
                        eprintln!("stopping all nodes; once more to kill them");
                        self.begin_stop();
                    }
                    true => self.tell_all(Signal::KILL),
                },
            }
        }
        spinner.finish_and_clear();
        failure.map_or(Ok(()), Err)
    }

    async fn look(&mut self, shown: bool) {
        let mut ended = false;
        for (id, node) in &mut self.nodes {
            if node.notice_end() {
                ended = true;
                if shown && node.state() == NodeState::Failed {
                    eprintln!(
                        "node {id} ended by itself; it said last: {}",
                        node.last_words()
                    );
                }
            }
            node.notice_readiness().await;
        }
        if ended {
            self.note();
        }
    }

    /// How far the start or the stop is.
    fn progress(&self) -> String {
        let count = |state| {
            let states = self.nodes.values().map(Node::state);
            states.filter(|is| *is == state).count()
        };
        let all = self.nodes.len();
        match self.stopping {
            false => format!("{} of {all} nodes are ready", count(NodeState::Running)),
            true => format!(
                "{} of {all} nodes have stopped",
                all - count(NodeState::Stopping)
            ),
        }
    }

    fn failed_to_start(&self) -> Option<String> {
        let mut nodes = self.nodes.iter();
        let (id, node) = nodes.find(|(_, node)| node.state() == NodeState::Failed)?;
        let words = node.last_words();
        let log = node.entry.log.display();
        Some(format!(
            "node {id} ended, and its log {log} ends with: {words}"
        ))
    }

    /// Tells all nodes to stop, and mends the network, so that they can do so in order.
    fn begin_stop(&mut self) {
        self.stopping = true;
        self.cuts.send_replace(Arc::default());
        for node in self.nodes.values_mut() {
            // A frozen process takes note of nothing.
            let _ = node.signal(Signal::CONT);
            let _ = node.signal(Signal::TERM);
        }
    }

    fn tell_all(&mut self, signal: Signal) {
        for node in self.nodes.values_mut() {
            let _ = node.signal(signal);
        }
    }

    /// Does what the order says. A sentence for each thing done, or why nothing was.
    async fn carry_out(&mut self, order: Order) -> Result<Vec<String>, String> {
        self.check(&order)?;
        let gate = |reset| if reset { Gate::Reset } else { Gate::Held };
        match order {
            Order::Show => Ok(Vec::new()),
            Order::Kill(ids) => self.signal(&ids, Signal::KILL, "killed"),
            Order::Stop(ids) => self.signal(&ids, Signal::TERM, "told to stop"),
            Order::Pause(ids) => self.signal(&ids, Signal::STOP, "paused"),
            Order::Resume(ids) => self.signal(&ids, Signal::CONT, "resumed"),
            Order::Start(ids) => self.each(&ids, |cluster, id| {
                cluster.start_node(id)?;
                Ok(format!("node {id} started"))
            }),
            Order::Wipe(ids) => self.each(&ids, |cluster, id| {
                let data = &cluster.nodes[&id].entry.data;
                let wiped = layout::absent_is_fine(std::fs::remove_dir_all(data));
                wiped.map_err(|error| format!("{} stays: {error}", data.display()))?;
                Ok(format!("node {id} has lost its disk"))
            }),
            Order::Cut {
                from,
                to,
                one_way,
                reset,
            } => {
                self.cuts.send_modify(|cuts| {
                    let cuts = Arc::make_mut(cuts);
                    cuts.cut(from, to, gate(reset));
                    if !one_way {
                        cuts.cut(to, from, gate(reset));
                    }
                });
                let arrow = if one_way { "to" } else { "and" };
                Ok(vec![format!(
                    "nothing goes between node {from} {arrow} node {to}"
                )])
            }
            Order::Isolate { node, reset } => {
                let isolate = |cuts: &mut Arc<Cuts>| Arc::make_mut(cuts).isolate(node, gate(reset));
                self.cuts.send_modify(isolate);
                Ok(vec![format!(
                    "node {node} is isolated from the other nodes"
                )])
            }
            Order::Heal => {
                self.cuts.send_replace(Arc::default());
                Ok(vec!["all links are mended".to_owned()])
            }
            Order::Add => self.add().await,
            Order::Down => {
                self.begin_stop();
                Ok(vec!["all nodes are told to stop".to_owned()])
            }
        }
    }

    /// Whether the order can be carried out: all of it or nothing.
    fn check(&self, order: &Order) -> Result<(), String> {
        if self.stopping && *order != Order::Show {
            return Err("the cluster is stopping.".to_owned());
        }
        let (ids, wanted): (&[i32], Option<bool>) = match order {
            Order::Kill(ids) | Order::Stop(ids) => (ids, Some(true)),
            Order::Pause(ids) | Order::Resume(ids) => (ids, Some(true)),
            Order::Start(ids) | Order::Wipe(ids) => (ids, Some(false)),
            Order::Cut { from, to, .. } if from == to => {
                return Err("a node has no link to itself; name two nodes.".to_owned());
            }
            Order::Cut { from, to, .. } => (&[*from, *to], None),
            Order::Isolate { node, .. } => (&[*node], None),
            Order::Show | Order::Heal | Order::Add | Order::Down => (&[], None),
        };
        for id in ids {
            let Some(node) = self.nodes.get(id) else {
                let known: Vec<String> = self.nodes.keys().map(i32::to_string).collect();
                return Err(format!(
                    "there is no node {id}; there are {}.",
                    known.join(", ")
                ));
            };
            let state = node.state();
            let pausing = matches!(order, Order::Resume(_)) != (state == NodeState::Paused);
            let is_wrong = match order {
                Order::Pause(_) | Order::Resume(_) => pausing || !node.is_up(),
                _ => wanted.is_some_and(|up| up != node.is_up()),
            };
            if is_wrong {
                return Err(format!("node {id} is {}.", state.name()));
            }
        }
        Ok(())
    }

    fn each(
        &mut self,
        ids: &[i32],
        act: impl Fn(&mut Cluster, i32) -> Result<String, String>,
    ) -> Result<Vec<String>, String> {
        ids.iter().map(|id| act(self, *id)).collect()
    }

    fn signal(&mut self, ids: &[i32], signal: Signal, how: &str) -> Result<Vec<String>, String> {
        self.each(ids, |cluster, id| {
            let node = cluster.nodes.get_mut(&id);
            let node = node.ok_or_else(|| format!("there is no node {id}."))?;
            if signal == Signal::TERM && node.state() == NodeState::Paused {
                // A frozen process takes note of nothing.
                let _ = node.signal(Signal::CONT);
            }
            let told = node.signal(signal);
            told.map_err(|error| format!("node {id} cannot be signalled: {error}."))?;
            Ok(format!("node {id} {how}"))
        })
    }

    fn start_node(&mut self, id: i32) -> Result<(), String> {
        let node = self.nodes.get_mut(&id);
        let node = node.ok_or_else(|| format!("there is no node {id}."))?;
        let settings = &self.settings;
        let settings = settings.of_node(id, &node.entry, &self.founders, &self.doors);
        let started = node.start(&settings);
        started.map_err(|error| format!("node {id} cannot be started: {error}."))
    }

    /// One more node, behind all that there are.
    async fn add(&mut self) -> Result<Vec<String>, String> {
        let id = self.nodes.keys().max().map_or(1, |id| id + 1);
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("{NODES_MAX} nodes are enough for one machine."));
        }
        let said = |error: ShellError| error.to_string();
        layout::node_ports_free(id, self.port).map_err(said)?;
        self.admit(id).await.map_err(said)?;
        self.start_node(id)?;
        Ok(vec![format!("node {id} started")])
    }

    fn reports(&self) -> Vec<NodeReport> {
        let cuts = self.cuts.borrow();
        let report = |(id, node): (&i32, &Node)| {
            let others = self.nodes.keys().filter(|other| *other != id);
            let cut = others.filter(|other| cuts.gate(Some(*id), **other) != Gate::Open);
            NodeReport {
                node: *id,
                state: node.state(),
                pid: node.pid(),
                uptime_ms: node.uptime().map(|uptime| uptime.as_millis() as u64),
                client: node.entry.client,
                admin: node.entry.admin,
                log: node.entry.log.clone(),
                cut_to: cut.copied().collect(),
            }
        };
        self.nodes.iter().map(report).collect()
    }

    /// Writes down which processes there are, for the case that this one dies and they do not.
    fn note(&self) {
        if let Err(error) = self
            .file(ProcessId::of(std::process::id()))
            .write(&self.directory)
        {
            eprintln!("corelane: {error}");
        }
    }

    fn file(&self, process: Option<ProcessId>) -> ClusterFile {
        let entry = |(id, node): (&i32, &Node)| (*id, node.entry.clone());
        ClusterFile {
            process,
            founders: self.founders.clone(),
            nodes: self.nodes.iter().map(entry).collect(),
        }
    }

    /// Nothing runs any more; the file and the socket say so.
    fn end(&self) {
        control::forget(&self.directory);
        if let Err(error) = self.file(None).write(&self.directory) {
            eprintln!("corelane: {error}");
        }
    }
}

impl Drop for Cluster {
    /// However this ends: no node stays behind.
    fn drop(&mut self) {
        self.tell_all(Signal::KILL);
    }
}

/// Each SIGINT and SIGTERM, and the end of the terminal, as a message.
fn watch_signals() -> Result<mpsc::Receiver<()>, ShellError> {
    let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let mut signals =
        signals.map_err(|error| ShellError::impossible("watch for Ctrl-C", error.to_string()))?;
    let (tell, told) = mpsc::channel(4);
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if tell.blocking_send(()).is_err() {
                return;
            }
        }
    });
    Ok(told)
}

/// Where a cluster is, for messages.
pub(super) fn nothing_runs(directory: &Path) -> ShellError {
    ShellError::impossible(
        format!("find a cluster in {}", directory.display()),
        "none runs there. `corelane dev cluster start` starts one; --data names another directory.",
    )
}
