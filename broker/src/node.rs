//! A node from start to stop: checks, cores, recovery, the metadata, the listener, and the way down.
//!
//! Everything that can be wrong with a machine or a data directory is told in one sentence with its remedy
//! ([`StartError`]), before anything is changed on disk.

use crate::cluster::{
    self, ClientEndpoint, Cluster, ClusterAnswer, ClusterAsk, METADATA, METADATA_CORE, Registration,
};
use crate::config::{BrokerConfig, ListenerLimits, Voter};
use crate::connection;
use crate::founding::{self, Standing, Verdict};
use crate::peers::{self, Door, Hello, Identity, Introduction, Names, PeerServer, Refusal};
use crate::shard::metadata::MetadataOwner;
use crate::shard::owned::Owned;
use crate::shard::peering::PeerHost;
use crate::shard::remembered::Remembered;
use crate::shard::view::View;
use crate::shard::{RaftTiming, Settings, Shard, background, mail::Mail, turn};
use bytes::Bytes;
use raft_group::ReplicaId;
use runtime::{Core, Inbox, Listener, Parcel, Post};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Runtime(#[from] runtime::uring::Unsupported),
    #[error("{0}")]
    Machine(#[from] crate::machine::Unavailable),
    #[error("the data directory {path} cannot be used: {reason}")]
    Data { path: PathBuf, reason: String },
    #[error(
        "cannot listen on {address}: {source}; stop what uses the port, or set another one with --listen or \
         listeners"
    )]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(
        "the address {address} of a listener cannot be resolved: {source}; name an address of this machine"
    )]
    Address {
        address: String,
        source: std::io::Error,
    },
    #[error("the cores cannot be started: {0}")]
    Cores(std::io::Error),
    #[error("core {core} stopped unexpectedly; the log above says why")]
    Died { core: usize },
    #[error("{0}")]
    Confusion(#[from] crate::founding::Confusion),
    #[error("the cluster does not take this node in: {0}")]
    NotTakenIn(String),
}

/// What every core of a node is told at its start. Plain values, shared between threads.
#[derive(Clone)]
pub struct Plan {
    pub config: Arc<BrokerConfig>,
    /// At least one.
    pub listeners: Vec<ClientListener>,
    /// Bytes of memory for each core.
    pub memory_per_core: usize,
    /// Limits of each core's storage; the salt is drawn at each start.
    pub storage: storage::Options,
    /// See [`Settings::anew_bytes_min`]; [`ANEW_BYTES_MIN`] outside the simulator.
    pub anew_bytes_min: u64,
    /// None but in the simulator.
    pub mutations: Mutations,
    /// How the node finds the others; None if it is alone.
    pub peers: Option<PeerPlan>,
    /// Tells the outside what happens; dropped at the end.
    pub news: mpsc::Sender<News>,
}

/// Known bugs that a simulation brings back, to prove that it finds them. A node has none of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutations {
    /// See [`crate::partition::Producers::forget_retries`].
    pub forget_retries: bool,
    /// A batch is acknowledged when it is appended.
    pub ack_uncommitted: bool,
    /// No bug, but a network that is worse than ours: see `shard::echoes`.
    pub frames_come_again: bool,
    /// A node whose disk is full keeps its leads, and tells nobody.
    pub full_leader_stays: bool,
    pub raft: Option<raft_group::Mutation>,
}

/// How a node of a cluster finds the others.
#[derive(Clone)]
pub struct PeerPlan {
    /// Where it listens for them.
    pub bind: SocketAddr,
    /// Where they connect, as `host:port`.
    pub address: String,
    /// The first nodes of the cluster.
    pub voters: Vec<Voter>,
    pub names: Names,
    pub settings: crate::peers::Settings,
}

/// One place where clients connect, its names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientListener {
    pub name: String,
    pub bind: SocketAddr,
    /// What clients that came through it are told to connect to.
    pub advertised_host: String,
    /// 0: the port that the listener got.
    pub advertised_port: u16,
    pub limits: ListenerLimits,
}

impl ClientListener {
    /// The listener of a node that has no other.
    pub fn only(bind: SocketAddr, advertised_host: &str, advertised_port: u16) -> Vec<Self> {
        vec![ClientListener {
            name: "PLAINTEXT".to_owned(),
            bind,
            advertised_host: advertised_host.to_owned(),
            advertised_port,
            limits: ListenerLimits::default(),
        }]
    }
}

/// What a node tells while it starts.
pub enum News {
    /// It serves clients at these addresses, one for each listener.
    Ready { addresses: Vec<SocketAddr> },
    /// A core has recovered what it owns.
    Recovered {
        core: usize,
        report: storage::RecoveryReport,
    },
    /// It cannot start.
    Failed(StartError),
}

/// Bytes from which on the offsets topic's partitions and the metadata are begun anew.
pub const ANEW_BYTES_MIN: u64 = 16 << 20;

const METADATA_SEGMENT_BYTES: u64 = 16 << 20;
/// Connections of other nodes that may wait to be accepted.
const PEER_BACKLOG: u32 = 128;

/// How long the sockets of a killed process may take to be closed.
const LISTENING_WITHIN: Duration = Duration::from_secs(2);
/// Pause before an address that is in use is tried again.
const LISTEN_AGAIN: Duration = Duration::from_millis(5);

/// How long the first answer to a registration is waited for: a node that asks twice is registered once.
const REGISTERED_WITHIN: Duration = Duration::from_secs(1);
/// An answer that takes longer is worth a word.
const WARNED_AFTER: Duration = Duration::from_secs(4);
/// Pause before a node that was not heard says again that it is there.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);
/// Pause between two rounds of asking the other nodes who they are.
const SEEK_AGAIN: Duration = Duration::from_millis(200);
/// How long another node may take to say who it is.
const SEEK_WITHIN: Duration = Duration::from_secs(2);

/// Shares of a core's memory: the rest is for the executor, state and slack.
const REQUEST_SHARE: usize = 4;
const TAIL_SHARE: usize = 3;
const CACHE_SHARE: usize = 8;
/// Tails are read within seconds of their append, or from disk. More memory would only be touched for the first
/// time for longer, which costs more than all else that is done with a batch.
const TAIL_BYTES_MAX: usize = 512 << 20;

/// What one core of a node runs, on any backend.
pub async fn run_core(core: Core, post: Post<Mail>, mut inbox: Inbox<Mail>, plan: Plan) {
    let mut early = Vec::new();
    let mut server = None;
    let up = bring_up(&core, &post, &mut inbox, &plan, &mut early, &mut server).await;
    let shard = match up {
        Ok(shard) => shard,
        Err(error) => {
            let _ = plan.news.send(News::Failed(error));
            for other in 0..core.cores() {
                post.send(other, Mail::Stop);
            }
            core.yield_now().await;
            return core.stop();
        }
    };
    let Some(shard) = shard else {
        return core.stop();
    };
    if let Some(server) = &server {
        server.set_door(PeerHost::of(&shard));
    }
    match &plan.peers {
        Some(peers) => shard.join_others(peers),
        None => shard.set_abreast(),
    }
    core.spawn("mail", shard.clone().receive(inbox, early));
    core.spawn("turn", turn::run(shard.clone()));
    core.spawn("deadlines", shard.clone().keep_deadlines());
    core.spawn("metadata", shard.clone().follow_metadata());
    core.spawn("idle connections", connection::cut_idle(shard.clone()));
    core.spawn("background", background::run(shard.clone()));
    core.spawn("housekeeping", background::run_periodically(shard.clone()));
    shard.wake_turn();
    if core.id() == METADATA_CORE
        && serves(&shard).await
        && let Err(error) = let_clients_in(&shard, &plan).await
    {
        let _ = plan.news.send(News::Failed(error));
        for other in 0..core.cores() {
            post.send(other, Mail::Stop);
        }
    }
    if !shard.stopping.get() {
        shard.stopped.wait().await;
    }
    if let Some(error) = shard.failed.take() {
        let _ = plan.news.send(News::Failed(error));
    }
    go_down(&shard).await;
    core.stop();
}

/// Listens where nobody else does, or where one that was killed has only just ended: its sockets are closed a little
/// later than its process.
async fn listen(core: &Core, address: SocketAddr, backlog: u32) -> Result<Listener, StartError> {
    let began = core.now();
    loop {
        match core.listen(address, backlog).await {
            Ok(listener) => return Ok(listener),
            Err(source)
                if source.kind() == ErrorKind::AddrInUse
                    && core.now() < began + LISTENING_WITHIN =>
            {
                core.sleep(LISTEN_AGAIN).await;
            }
            Err(source) => return Err(StartError::Listen { address, source }),
        }
    }
}

/// Opens all listeners, or none: who connects is told an address that works.
async fn let_clients_in(shard: &Rc<Shard>, plan: &Plan) -> Result<(), StartError> {
    let backlog = shard.view.borrow().broker().socket_listen_backlog_size;
    let mut open = Vec::with_capacity(plan.listeners.len());
    for listener in &plan.listeners {
        open.push(listen(&shard.core, listener.bind, backlog).await?);
    }
    let addresses: Vec<SocketAddr> = open.iter().map(Listener::local_addr).collect();
    let ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
    shard.listening(&ports);
    if let Some(peers) = &plan.peers
        && !register(shard, peers).await?
    {
        return Ok(());
    }
    for core in 0..shard.core.cores() {
        shard.post.send(core, Mail::Abreast);
    }
    for core in (0..shard.core.cores()).filter(|core| *core != shard.core.id()) {
        let ports = ports.clone();
        shard.post.send(core, Mail::Listening { ports });
    }
    connection::begin_accepting(shard, open);
    let _ = plan.news.send(News::Ready { addresses });
    Ok(())
}

/// Tells the cluster that this node is there, and waits until this node knows what the cluster knew then. False if it
/// is to stop before that.
async fn register(shard: &Rc<Shard>, peers: &PeerPlan) -> Result<bool, StartError> {
    let settings = &shard.settings;
    let endpoints = (0..settings.listeners.len()).map(|listener| {
        let (host, port) = shard.advertised(listener);
        ClientEndpoint {
            listener: settings.listeners[listener].name.clone(),
            host: host.to_owned(),
            port,
        }
    });
    let registration = Registration {
        node: settings.node_id,
        incarnation: settings.incarnation,
        start: settings.start,
        peer: peers.address.clone(),
        endpoints: endpoints.collect(),
        rack: settings.rack.clone(),
        cores: shard.core.cores() as u16,
        level: crate::peers::LEVEL,
    };
    let mut told = false;
    let mut tell = || {
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(
                "no leader of the cluster's metadata is reached: waiting until a majority of its nodes runs"
            );
        }
    };
    let mut patience = REGISTERED_WITHIN;
    // Who waits here is told of a stop at any moment, or finds that it was.
    while !shard.stopping.get() {
        let ask = ClusterAsk::RegisterNode(registration.clone());
        let asked = runtime::timeout(&shard.core, patience, shard.ask(METADATA_CORE, ask));
        let answer = match runtime::select(asked, shard.stopped.wait()).await {
            runtime::Either::Left(Ok(answer)) => *answer,
            // The answer went the way of a connection that broke, or it takes long to get as far as the cluster.
            runtime::Either::Left(Err(_)) => {
                if patience >= WARNED_AFTER {
                    tell();
                }
                patience *= 2;
                continue;
            }
            runtime::Either::Right(()) => return Ok(false),
        };
        match answer {
            ClusterAnswer::RegisterNode(Ok(())) => return Ok(true),
            ClusterAnswer::RegisterNode(Err(refusal)) => {
                return Err(StartError::NotTakenIn(refusal.message));
            }
            _ => {
                tell();
                let pause = shard.core.sleep(REGISTER_AGAIN);
                runtime::select(pause, shard.stopped.wait()).await;
            }
        }
    }
    Ok(false)
}

/// Waits until every core serves. False if the node is to stop before that.
async fn serves(shard: &Shard) -> bool {
    runtime::select(shard.serving.wait(), shard.stopped.wait()).await;
    !shard.stopping.get()
}

/// Recovers what this core owns. `None`: the node stops before it has started. What others say before that goes
/// to `early`: they may have started faster, and their mail comes once.
async fn bring_up(
    core: &Core,
    post: &Post<Mail>,
    inbox: &mut Inbox<Mail>,
    plan: &Plan,
    early: &mut Vec<(usize, Mail)>,
    server: &mut Option<PeerServer>,
) -> Result<Option<Rc<Shard>>, StartError> {
    let data = plan.config.node.data_dir.clone();
    let path = data.clone();
    let unusable = |reason: String| StartError::Data {
        path: path.clone(),
        reason,
    };
    if core.id() == METADATA_CORE {
        let wanted = storage::NodeIdentity {
            node_id: plan.config.node.id,
            cluster_id: plan.config.node.cluster_id.clone(),
            fresh: u128::from(core.random()) << 64 | u128::from(core.random()),
        };
        if let Some(peers) = &plan.peers {
            let found = find_cluster(core, inbox, plan, peers, &wanted, early, server).await?;
            if !found {
                return Ok(None);
            }
        }
        let options = storage_options(core, plan);
        let opened =
            storage::DataDir::open(core.disk(), &data, &wanted, core.cores(), &options).await;
        let opened = opened.map_err(|error| unusable(error.to_string()))?;
        for other in 0..core.cores() {
            post.send(
                other,
                Mail::Begin(opened.identity().clone(), opened.start()),
            );
        }
    }
    let mut begun = None;
    while begun.is_none() {
        for (from, mail) in inbox.take().await {
            match mail {
                Mail::Begin(identity, start) => begun = Some((identity, start)),
                Mail::Stop => return Ok(None),
                other => early.push((from, other)),
            }
        }
    }
    let (identity, start) = begun.expect("the loop ends with it");
    let recovered = storage::recover(
        core.disk(),
        &data,
        core.id(),
        core.cores(),
        storage_options(core, plan),
    )
    .await
    .map_err(|error| unusable(error.to_string()))?;
    tracing::debug!(core = core.id(), report = ?recovered.report, "recovered");
    let _ = plan.news.send(News::Recovered {
        core: core.id(),
        report: recovered.report,
    });
    let settings = Settings {
        node_id: identity.node_id,
        incarnation: identity.incarnation,
        start,
        cluster_id: identity.cluster_id.clone(),
        data,
        listeners: plan.listeners.clone(),
        rack: plan.config.node.rack.clone(),
        request_bytes_max: request_bytes(&plan.config, plan.memory_per_core, core.cores()),
        anew_bytes_min: plan.anew_bytes_min,
        mutations: plan.mutations,
        raft: RaftTiming::of(
            plan.config.raft_heartbeat_interval_ms,
            plan.config.raft_election_timeout_ms,
        ),
        founders: identity.founders.clone(),
    };
    let view = View::new(Rc::new((*plan.config).clone()), settings.node_id);
    let owned = Owned::new(
        core.id(),
        core.cores(),
        settings.node_id,
        post.clone(),
        recovered.journal,
        Remembered::up_to(plan.config.producer_ids_max),
    );
    let shard = Shard::new(core.clone(), post.clone(), settings, view, owned);
    shard.recovered(recovered.logs);
    if core.id() == METADATA_CORE {
        open_metadata(&shard).await.map_err(unusable)?;
    }
    Ok(Some(shard))
}

/// Listens for other nodes, and finds the cluster that this one belongs to, unless its directory says so already.
/// False if the node is to stop before that.
async fn find_cluster(
    core: &Core,
    inbox: &mut Inbox<Mail>,
    plan: &Plan,
    peers: &PeerPlan,
    wanted: &storage::NodeIdentity,
    early: &mut Vec<(usize, Mail)>,
    server: &mut Option<PeerServer>,
) -> Result<bool, StartError> {
    let data = &plan.config.node.data_dir;
    let unusable = |error: storage::DataDirError| StartError::Data {
        path: data.clone(),
        reason: error.to_string(),
    };
    let drafted = storage::DataDir::draft(core.disk(), data, wanted).await;
    let mut identity = drafted.map_err(unusable)?;
    let listener = listen(core, peers.bind, PEER_BACKLOG).await?;
    let entrance = Rc::new(Entrance {
        standing: RefCell::new(Standing::of(&identity)),
    });
    *server = Some(PeerServer::start(
        core,
        listener,
        entrance.clone(),
        peers.settings.clone(),
    ));
    let mut told = false;
    while identity.cluster_id.is_empty() {
        let own = Standing::of(&identity);
        let answers = ask_around(core, peers, &own).await;
        match founding::judge(&own, &peers.voters, &answers)? {
            Verdict::Belongs {
                cluster_id,
                founders,
            } => (identity.cluster_id, identity.founders) = (cluster_id, founders),
            Verdict::Founds { founders } => {
                let random = u128::from(core.random()) << 64 | u128::from(core.random());
                let given = wanted.cluster_id.clone();
                identity.cluster_id = given.unwrap_or_else(|| storage::cluster_id(random));
                identity.founders = founders;
                tracing::info!(cluster = identity.cluster_id, "a cluster is founded");
            }
            Verdict::Waits { silent } => {
                if !silent.is_empty() && !std::mem::replace(&mut told, true) {
                    tracing::info!(
                        "looking for the other nodes of the cluster: {silent:?} did not answer yet"
                    );
                }
                for (from, mail) in inbox_for(core, inbox, SEEK_AGAIN).await {
                    match mail {
                        Mail::Stop => return Ok(false),
                        other => early.push((from, other)),
                    }
                }
            }
        }
    }
    let settled = storage::DataDir::settle(core.disk(), data, &identity).await;
    settled.map_err(unusable)?;
    *entrance.standing.borrow_mut() = Standing::of(&identity);
    Ok(true)
}

/// What comes in within this time.
async fn inbox_for(core: &Core, inbox: &mut Inbox<Mail>, pause: Duration) -> Vec<(usize, Mail)> {
    match runtime::timeout(core, pause, inbox.take()).await {
        Ok(mail) => mail.into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

/// Asks every other node that the configuration names who it is.
async fn ask_around(core: &Core, peers: &PeerPlan, own: &Standing) -> BTreeMap<i32, Standing> {
    let others = peers
        .voters
        .iter()
        .filter(|voter| voter.node_id != own.node);
    let mut answers = BTreeMap::new();
    for voter in others {
        let address = voter.peer.to_string();
        let asked = peers::exchange(core, &peers.names, &address, own.encode(), SEEK_WITHIN).await;
        match asked {
            Ok(answer) => match Standing::decode(&answer) {
                Ok(standing) => {
                    answers.insert(voter.node_id, standing);
                }
                Err(error) => {
                    tracing::warn!(node = voter.node_id, %error, "another node's answer is not readable");
                }
            },
            Err(error) => tracing::debug!(node = voter.node_id, %error, "another node is silent"),
        }
    }
    answers
}

/// Says who this node is before it has recovered. Links have to wait until then.
struct Entrance {
    standing: RefCell<Standing>,
}

impl Identity for Entrance {
    fn introduction(&self) -> Introduction {
        let standing = self.standing.borrow();
        Introduction {
            cluster_id: standing.cluster_id.clone(),
            node: standing.node,
            incarnation: standing.incarnation,
            // Who is called before it has recovered refuses, so nobody looks at it.
            start: storage::Start::default(),
            cores: 1,
            level: peers::LEVEL,
        }
    }

    fn admit(&self, _who: &Introduction) -> Result<(), Refusal> {
        let node = self.standing.borrow().node;
        Err(Refusal::not_ready(format!("node {node} is starting")))
    }
}

impl Door for Entrance {
    fn sought(&self, _request: Bytes) -> Pin<Box<dyn Future<Output = Bytes>>> {
        Box::pin(std::future::ready(self.standing.borrow().encode()))
    }

    fn hand_over(&self, _core: u16, _parcel: Parcel, _hello: Hello) {
        unreachable!("nobody is admitted before the node has recovered")
    }
}

/// What a core may lend to requests: its share of the memory, or less if an operator says so.
fn request_bytes(config: &BrokerConfig, memory_per_core: usize, cores: usize) -> usize {
    let share = memory_per_core / REQUEST_SHARE;
    match config.queued_max_request_bytes {
        Some(queued) => share.min(usize::try_from(queued).unwrap_or(usize::MAX) / cores),
        None => share,
    }
}

/// What a core's storage may use of the disk and of the core's memory.
pub fn storage_limits(config: &BrokerConfig, memory_per_core: usize) -> storage::Options {
    storage::Options {
        journal_bytes_max: config.journal_bytes,
        memory_bytes_max: (memory_per_core / TAIL_SHARE).min(TAIL_BYTES_MAX) as u64,
        cache_bytes_max: (memory_per_core / CACHE_SHARE) as u64,
        ..storage::Options::default()
    }
}

fn storage_options(core: &Core, plan: &Plan) -> storage::Options {
    storage::Options {
        salt: core.random(),
        ..plan.storage.clone()
    }
}

/// The metadata replica: its state from the checkpoint, its log above that.
async fn open_metadata(shard: &Rc<Shard>) -> Result<(), String> {
    let mut found = shard.find(METADATA);
    let log = shard.configure_found(
        METADATA,
        storage::LogConfig {
            segment_bytes: METADATA_SEGMENT_BYTES,
            ..storage::LogConfig::default()
        },
    );
    let mut restored = Cluster::default();
    if !found.state.is_empty() {
        match serde_json::from_slice(&found.state) {
            Ok(image) => {
                restored.apply(&cluster::Record::Snapshot {
                    state: Box::new(image),
                });
            }
            // The log is the truth; what the checkpoint remembers only makes the start short.
            Err(error) => {
                tracing::warn!(%error, "the metadata of the checkpoint cannot be read; replaying the whole log");
                found.applied = 0;
            }
        }
    }
    let mut is_whole = log.first_index <= found.applied + 1;
    shard
        .replay(METADATA, &mut found, log.commit, |entry| {
            if entry.base_offset < log.start_offset {
                return Ok(()); // From before the log was begun anew.
            }
            let records = cluster::Records::decode(&entry.data, entry.index)
                .map_err(|unreadable| unreadable.to_string())?;
            for record in &records.0 {
                is_whole |= matches!(record, cluster::Record::Snapshot { .. });
                if !is_whole {
                    return Err(format!(
                        "entries between the checkpoint and {} are gone",
                        entry.index
                    ));
                }
                restored.apply(record);
            }
            Ok(())
        })
        .await?;
    restored.verify();
    let founders = shard.settings.founders.iter();
    let founders = founders.filter_map(|(node, incarnation)| ReplicaId::new(*node, *incarnation));
    let founders: Vec<u64> = founders.map(ReplicaId::as_u64).collect();
    let replica = shard
        .replica(METADATA, found.recorded, &founders)
        .ok_or("the metadata cannot be served; the log above says why")?;
    let (alone, applied) = (
        replica.members().is_sole_voter(replica.id()),
        replica.applied_index(),
    );
    let mut owned = shard.owned.borrow_mut();
    let number = shard.settings.first_number();
    let metadata = MetadataOwner::new(restored, found.applied, log.size_bytes, number);
    owned.metadata = Some(metadata);
    owned.replicas.insert(replica);
    if !alone {
        owned.establish(applied);
        let first = shard.settings.founders.iter().map(|(node, _)| *node).min();
        if log.last_index == 0 && first == Some(shard.settings.node_id) {
            owned.lead_first(METADATA);
        }
    }
    Ok(())
}

/// Answers what is under way, writes a checkpoint so that the next start is short, and ends.
async fn go_down(shard: &Rc<Shard>) {
    connection::shut_all(shard);
    shard.wake_turn();
    let grace = Duration::from_millis(shard.view.borrow().broker().shutdown_timeout_ms);
    let down = async {
        shard.settle().await;
        shard.last_checkpoint().await;
        // Drains that ended meanwhile have been noted: no write is cut off.
        shard.settle().await;
    };
    if runtime::timeout(&shard.core, grace, down).await.is_err() {
        tracing::warn!(
            core = shard.core.id(),
            "the last checkpoint did not finish in time; the next start replays the journal instead"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    #[test]
    fn requests_get_their_share_or_less_if_an_operator_says_so() {
        let bytes = |queued: &str, cores| {
            let name = "queued.max.request.bytes".to_owned();
            let statics = Overrides::from([(name, queued.to_owned())]);
            let config = BrokerConfig::resolve(statics, "node").unwrap();
            request_bytes(&config, 64 << 20, cores)
        };
        assert_eq!(bytes("-1", 2), 16 << 20);
        assert_eq!(bytes("8388608", 2), 4 << 20);
        assert_eq!(bytes("9223372036854775807", 2), 16 << 20);
    }
}
