//! `corelane start`: the process around a node. Logs, limits, cores, signals, exit code.

use crate::cluster::METADATA_CORE;
use crate::config::{BrokerConfig, Endpoint, Listener};
use crate::machine::{self, Share};
use crate::node::{self, ClientListener, News, PeerPlan, Plan, StartError, run_core};
use crate::peers::Names;
use crate::shard::mail::Mail;
use runtime::uring;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

/// Descriptors below which many partitions cannot be served.
const OPEN_FILES_MIN: u64 = 4_096;
/// How long what a killed process has begun may take to end: its last writes, if the disk is slow.
const LOCKED_WITHIN: Duration = Duration::from_secs(5);

/// Runs a node until it is told to stop.
pub fn start(config: BrokerConfig, notices: Vec<String>) -> ExitCode {
    let began = Instant::now();
    start_logging();
    for notice in notices {
        tracing::warn!("{notice}");
    }
    match run(config, began) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelane: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging() {
    let filter = EnvFilter::try_from_env("CORELANE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A log that is read by a machine is JSON; one on a terminal is for a person.
    let json = std::env::var("CORELANE_LOG_FORMAT").is_ok_and(|format| format == "json");
    let started = match json {
        true => builder.json().try_init(),
        false => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
    };
    if let Err(error) = started {
        eprintln!("corelane: the log cannot be started: {error}");
    }
}

fn run(config: BrokerConfig, began: Instant) -> Result<(), StartError> {
    uring::probe()?;
    let share = machine::share(&config)?;
    let data = config.node.data_dir.clone();
    let unusable = |reason: String| StartError::Data {
        path: data.clone(),
        reason,
    };
    std::fs::create_dir_all(&data).map_err(|error| unusable(error.to_string()))?;
    let lock = storage::DataDir::lock(&data, LOCKED_WITHIN);
    let lock = lock.map_err(|error| unusable(error.to_string()))?;
    raise_open_files();
    if let Err(error) = uring::fault_small_pages() {
        tracing::debug!(%error, "huge pages stay as the kernel has them");
    }
    let (news, heard) = mpsc::channel();
    let plan = plan(&config, &share, news)?;
    let listeners = plan.listeners.clone();
    let options = uring::Options {
        pin: share.pinned,
        spin: match share.pinned {
            true => Duration::from_micros(config.spin_us),
            false => Duration::ZERO,
        },
        ring_entries: config.ring_entries,
        closed_last: Some(lock.file()),
        cores: share.cpus,
    };
    let cores = options.cores.len();
    let memory_mib = (plan.memory_per_core * cores) >> 20;
    let node = uring::launch(options, move |core, post, inbox| {
        run_core(core, post, inbox, plan.clone())
    })
    .map_err(StartError::Cores)?;
    let gateway = node.gateway();
    watch_signals(node.gateway(), cores);
    let _admin = crate::admin::start(config.node.admin_listener.clone(), gateway, cores);
    let listening =
        std::thread::spawn(move || listen_to_news(&heard, began, &listeners, cores, memory_mib));
    let ended = node.join();
    if let Err(panicked) = ended {
        tracing::error!(core = panicked.core, "{}", panicked.message);
        return Err(StartError::Died {
            core: panicked.core,
        });
    }
    match listening.join() {
        Ok(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Tells the log what the node says of itself; gives back why it could not start.
fn listen_to_news(
    heard: &mpsc::Receiver<News>,
    began: Instant,
    listeners: &[ClientListener],
    cores: usize,
    memory_mib: usize,
) -> Option<StartError> {
    while let Ok(news) = heard.recv() {
        match news {
            News::Ready { addresses } => {
                let ms = began.elapsed().as_secs_f64() * 1_000.0;
                let (places, bootstrap) = (places(listeners, &addresses), &listeners[0]);
                let host = &bootstrap.advertised_host;
                let port = match bootstrap.advertised_port {
                    0 => addresses[0].port(),
                    port => port,
                };
                tracing::info!(
                    "ready in {ms:.0} ms on {places}: {cores} cores, {memory_mib} MiB; \
                     try: corelane produce --bootstrap {host}:{port} hello"
                );
            }
            News::Recovered { .. } => {}
            News::Failed(error) => return Some(error),
        }
    }
    None
}

/// Where clients connect, for the log: with names where there are several.
fn places(listeners: &[ClientListener], addresses: &[SocketAddr]) -> String {
    if let [only] = addresses {
        return only.to_string();
    }
    let named = listeners.iter().zip(addresses);
    let named: Vec<String> = named
        .map(|(listener, address)| format!("{}://{address}", listener.name))
        .collect();
    named.join(", ")
}

fn plan(
    config: &BrokerConfig,
    share: &Share,
    news: mpsc::Sender<News>,
) -> Result<Plan, StartError> {
    let listeners = config.node.listeners.iter().map(resolve);
    let listeners = listeners.collect::<Result<_, _>>()?;
    let memory_per_core = share.memory_bytes as usize / share.cpus.len();
    Ok(Plan {
        peers: peers(config)?,
        listeners,
        memory_per_core,
        storage: node::storage_limits(config, memory_per_core),
        anew_bytes_min: node::ANEW_BYTES_MIN,
        mutations: node::Mutations::default(),
        config: Arc::new(config.clone()),
        news,
    })
}

/// A listener with an address in place of its name.
fn resolve(listener: &Listener) -> Result<ClientListener, StartError> {
    Ok(ClientListener {
        name: listener.name.clone(),
        bind: address_of(&listener.bind)?,
        advertised_host: listener.advertised.host.clone(),
        advertised_port: listener.advertised.port,
        limits: listener.limits,
    })
}

fn address_of(endpoint: &Endpoint) -> Result<SocketAddr, StartError> {
    let resolved = endpoint.addresses().and_then(|addresses| {
        let first = addresses.into_iter().next();
        first.ok_or(std::io::ErrorKind::AddrNotAvailable.into())
    });
    resolved.map_err(|source| StartError::Address {
        address: endpoint.to_string(),
        source,
    })
}

/// How the node finds the others, if the configuration names some. Names are resolved on a thread of their own.
fn peers(config: &BrokerConfig) -> Result<Option<PeerPlan>, StartError> {
    let node = &config.node;
    if node.voters.is_empty() {
        return Ok(None);
    }
    let (names, desk) = Names::asking();
    std::thread::spawn(move || desk.serve());
    let election_timeout = Duration::from_millis(config.raft_election_timeout_ms);
    Ok(Some(PeerPlan {
        bind: address_of(&node.peer_listener)?,
        address: node.peer_address.to_string(),
        voters: node.voters.clone(),
        names,
        settings: crate::peers::Settings::for_elections_after(election_timeout),
    }))
}

/// Every partition that is read or drained needs a descriptor for a while.
fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= OPEN_FILES_MIN => {}
        Ok(limit) => tracing::warn!(
            "only {limit} files may be open; raise the limit (ulimit -n) before serving many connections"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

/// SIGTERM and SIGINT stop the node gracefully; a second one ends it at once.
fn watch_signals(gateway: runtime::Gateway<Mail>, cores: usize) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = match signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::warn!(%error, "signals cannot be watched: a stop will look like a crash");
            return;
        }
    };
    std::thread::spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            if count > 0 {
                std::process::exit(130);
            }
            tracing::info!("stopping; once more to end at once");
            // The metadata's core last: the others may still want something of it.
            for core in (0..cores).rev() {
                debug_assert!(core > 0 || core == METADATA_CORE);
                gateway.send(core, Mail::Stop);
            }
        }
    });
}
