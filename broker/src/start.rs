//! `corelane start`: the process around a node. Logs, limits, cores, signals, exit code.

use crate::cluster::METADATA_CORE;
use crate::config::BrokerConfig;
use crate::node::{self, News, Plan, StartError, run_core};
use crate::shard::mail::Mail;
use runtime::uring;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

/// Share of the memory that is there which the broker takes, in percent.
const MEMORY_PERCENT: u64 = 80;
/// The least that a core can work with.
const MEMORY_PER_CORE_MIN: u64 = 64 << 20;
/// Descriptors below which many partitions cannot be served.
const OPEN_FILES_MIN: u64 = 4_096;

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
    let data = config.node.data_dir.clone();
    let unusable = |reason: String| StartError::Data {
        path: data.clone(),
        reason,
    };
    std::fs::create_dir_all(&data).map_err(|error| unusable(error.to_string()))?;
    let _lock = storage::DataDir::lock(&data).map_err(|error| unusable(error.to_string()))?;
    raise_open_files();
    let cpus = cpus(&config);
    let (news, heard) = mpsc::channel();
    let plan = plan(&config, cpus.len(), news)?;
    let advertised = format!("{}:{}", plan.advertised_host, plan.bind.port());
    let options = uring::Options {
        pin: !config.overprovisioned,
        spin: match config.overprovisioned {
            true => Duration::ZERO,
            false => Duration::from_micros(config.spin_us),
        },
        ring_entries: config.ring_entries,
        cores: cpus,
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
        std::thread::spawn(move || listen_to_news(&heard, began, &advertised, cores, memory_mib));
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
    advertised: &str,
    cores: usize,
    memory_mib: usize,
) -> Option<StartError> {
    while let Ok(news) = heard.recv() {
        match news {
            News::Ready { address } => {
                let ms = began.elapsed().as_secs_f64() * 1_000.0;
                tracing::info!(
                    "ready in {ms:.0} ms on {address}: {cores} cores, {memory_mib} MiB; \
                     try: corelane produce --bootstrap {advertised} hello"
                );
            }
            News::Recovered { .. } => {}
            News::Failed(error) => return Some(error),
        }
    }
    None
}

fn plan(config: &BrokerConfig, cores: usize, news: mpsc::Sender<News>) -> Result<Plan, StartError> {
    let listener = match config.node.listeners.as_slice() {
        [listener] => listener,
        several => return Err(StartError::Listeners(several.len())),
    };
    let name = format!("{}:{}", listener.bind.host, listener.bind.port);
    let resolved = listener.bind.addresses().and_then(|addresses| {
        addresses
            .into_iter()
            .next()
            .ok_or(std::io::ErrorKind::AddrNotAvailable.into())
    });
    let bind: SocketAddr = resolved.map_err(|source| StartError::Address {
        address: name,
        source,
    })?;
    let memory = match config.memory_bytes {
        0 => memory_available() * MEMORY_PERCENT / 100,
        bytes => bytes,
    };
    let memory_per_core = (memory / cores as u64).max(MEMORY_PER_CORE_MIN) as usize;
    Ok(Plan {
        bind,
        advertised_host: listener.advertised.host.clone(),
        advertised_port: listener.advertised.port,
        memory_per_core,
        storage: node::storage_limits(config, memory_per_core),
        forget_retries: false,
        config: Arc::new(config.clone()),
        news,
    })
}

/// CPU numbers for the executors: those that this process may use, as many as the configuration says.
fn cpus(config: &BrokerConfig) -> Vec<usize> {
    let allowed = allowed_cpus();
    match config.cores {
        0 => allowed,
        // More executors than CPUs share them; that is for tests, and not pinned then.
        wanted => (0..wanted).map(|n| allowed[n % allowed.len()]).collect(),
    }
}

/// The CPUs that this process may use, from the kernel's list such as `0-3,8`.
fn allowed_cpus() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpus: Vec<usize> = list
        .unwrap_or("")
        .trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
        })
        .flatten()
        .collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// What is free now, or what the cgroup leaves, in bytes.
fn memory_available() -> u64 {
    let free = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("MemAvailable:"))?;
            line.split_whitespace()
                .nth(1)?
                .parse::<u64>()
                .ok()
                .map(|kib| kib << 10)
        });
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let cgroup = limits.iter().find_map(|path| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    [free, cgroup]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(1 << 30)
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
