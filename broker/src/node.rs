//! A node from start to stop: checks, cores, recovery, the metadata, the listener, and the way down.
//!
//! Everything that can be wrong with a machine or a data directory is told in one sentence with its remedy
//! ([`StartError`]), before anything is changed on disk.

use crate::cluster::{self, Cluster, METADATA, METADATA_CORE};
use crate::config::BrokerConfig;
use crate::connection;
use crate::shard::metadata::MetadataOwner;
use crate::shard::owned::Owned;
use crate::shard::view::View;
use crate::shard::{Settings, Shard, background, mail::Mail, turn};
use runtime::{Core, Inbox, Post};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Runtime(#[from] runtime::uring::Unsupported),
    #[error("the data directory {path} cannot be used: {reason}")]
    Data { path: PathBuf, reason: String },
    #[error(
        "cannot listen on {address}: {source}; stop what uses the port or set another one with --listen"
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
    #[error("{0} listeners are configured, and this version serves one; name one in listeners")]
    Listeners(usize),
    #[error("the cores cannot be started: {0}")]
    Cores(std::io::Error),
    #[error("core {core} stopped unexpectedly; the log above says why")]
    Died { core: usize },
}

/// What every core of a node is told at its start. Plain values, shared between threads.
#[derive(Clone)]
pub struct Plan {
    pub config: Arc<BrokerConfig>,
    pub bind: SocketAddr,
    pub advertised_host: String,
    /// 0: the port that the listener got.
    pub advertised_port: u16,
    /// Bytes of memory for each core.
    pub memory_per_core: usize,
    /// Limits of each core's storage; the salt is drawn at each start.
    pub storage: storage::Options,
    /// Never but in the simulator: see [`crate::partition::Producers::forget_retries`].
    pub forget_retries: bool,
    /// Tells the outside what happens; dropped at the end.
    pub news: mpsc::Sender<News>,
}

/// What a node tells while it starts.
pub enum News {
    /// It serves clients at this address.
    Ready { address: SocketAddr },
    /// A core has recovered what it owns.
    Recovered {
        core: usize,
        report: storage::RecoveryReport,
    },
    /// It cannot start.
    Failed(StartError),
}

/// Shares of a core's memory: the rest is for the executor, state and slack.
const REQUEST_SHARE: usize = 4;
const TAIL_SHARE: usize = 3;
const CACHE_SHARE: usize = 8;

/// What one core of a node runs, on any backend.
pub async fn run_core(core: Core, post: Post<Mail>, mut inbox: Inbox<Mail>, plan: Plan) {
    let mut early = Vec::new();
    let shard = match bring_up(&core, &post, &mut inbox, &plan, &mut early).await {
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
    core.spawn("mail", shard.clone().receive(inbox, early));
    core.spawn("turn", turn::run(shard.clone()));
    core.spawn("deadlines", shard.clone().keep_deadlines());
    core.spawn("metadata", shard.clone().follow_metadata());
    core.spawn("background", background::run(shard.clone()));
    core.spawn("housekeeping", background::run_periodically(shard.clone()));
    shard.wake_turn();
    if core.id() == METADATA_CORE && serves(&shard).await {
        let backlog = shard.view.borrow().broker().socket_listen_backlog_size;
        match core.listen(plan.bind, backlog).await {
            Ok(listener) => {
                let address = listener.local_addr();
                shard.told_port.set(address.port());
                for other in 0..core.cores() {
                    post.send(
                        other,
                        Mail::Listening {
                            port: address.port(),
                        },
                    );
                }
                core.spawn("accept", connection::accept(shard.clone(), listener));
                let _ = plan.news.send(News::Ready { address });
            }
            Err(source) => {
                let error = StartError::Listen {
                    address: plan.bind,
                    source,
                };
                let _ = plan.news.send(News::Failed(error));
                for other in 0..core.cores() {
                    post.send(other, Mail::Stop);
                }
            }
        }
    }
    if !shard.stopping.get() {
        shard.stopped.wait().await;
    }
    go_down(&shard).await;
    core.stop();
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
        let options = storage_options(core, plan);
        let opened =
            storage::DataDir::open(core.disk(), &data, &wanted, core.cores(), &options).await;
        let opened = opened.map_err(|error| unusable(error.to_string()))?;
        for other in 0..core.cores() {
            post.send(other, Mail::Begin(opened.identity().clone()));
        }
    }
    let mut identity = None;
    while identity.is_none() {
        for (from, mail) in inbox.take().await {
            match mail {
                Mail::Begin(begun) => identity = Some(begun),
                Mail::Stop => return Ok(None),
                other => early.push((from, other)),
            }
        }
    }
    let identity = identity.expect("the loop ends with it");
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
        cluster_id: identity.cluster_id.clone(),
        data,
        advertised_host: plan.advertised_host.clone(),
        rack: plan.config.node.rack.clone(),
        request_bytes_max: plan.memory_per_core / REQUEST_SHARE,
        forget_retries: plan.forget_retries,
    };
    let view = View::new(Rc::new((*plan.config).clone()), settings.node_id);
    let owned = Owned::new(
        core.id(),
        core.cores(),
        settings.node_id,
        post.clone(),
        recovered.journal,
    );
    let shard = Shard::new(core.clone(), post.clone(), settings, view, owned);
    shard.told_port.set(plan.advertised_port);
    shard.recovered(recovered.logs);
    if core.id() == METADATA_CORE {
        open_metadata(&shard).await.map_err(unusable)?;
    }
    Ok(Some(shard))
}

/// What a core's storage may use of the disk and of the core's memory.
pub fn storage_limits(config: &BrokerConfig, memory_per_core: usize) -> storage::Options {
    storage::Options {
        journal_bytes_max: config.journal_bytes,
        memory_bytes_max: (memory_per_core / TAIL_SHARE) as u64,
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
    let commit = shard.found_commit(METADATA);
    shard
        .replay(METADATA, &mut found, commit, |entry| {
            let records = cluster::Records::decode(&entry.data, entry.index)
                .map_err(|unreadable| unreadable.to_string())?;
            for record in &records.0 {
                restored.apply(record);
            }
            Ok(())
        })
        .await?;
    restored.verify();
    let replica = shard
        .replica(METADATA, found.recorded)
        .ok_or("the metadata cannot be served; the log above says why")?;
    let mut owned = shard.owned.borrow_mut();
    owned.metadata = Some(MetadataOwner::new(restored));
    owned.replicas.insert(replica);
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
