//! What a simulation is like. The default is quiet: seeded times, but no faults.

use std::time::Duration;

/// A range of seeded times, both ends included.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Latency {
    pub min: Duration,
    pub max: Duration,
}

impl Latency {
    /// From `min_us` to `max_us` microseconds.
    pub const fn micros(min_us: u64, max_us: u64) -> Latency {
        Latency {
            min: Duration::from_micros(min_us),
            max: Duration::from_micros(max_us),
        }
    }
}

/// A simulation: its seed and its faults. Probabilities are per million operations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Decides everything that is left to chance.
    pub seed: u64,
    pub disk: DiskOptions,
    pub network: NetworkOptions,
    /// Time that one poll of a task takes, so that waiting by yielding comes to an end.
    pub poll_cost: Duration,
    /// Mail between the cores of a node.
    pub mail: Latency,
    /// Unix time at the start, in ms.
    pub wall_start_ms: i64,
}

/// Times and faults of every disk, see the fault model in `sim/tree.rs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskOptions {
    pub read: Latency,
    pub write: Latency,
    /// Syncs, and writes that are synced.
    pub sync: Latency,
    /// Operations that take 20 times as long.
    pub slow_per_million: u32,
    /// Operations that fail with an I/O error.
    pub error_per_million: u32,
    /// Size of a new disk in bytes; none means that it never fills up.
    pub capacity_bytes: Option<u64>,
}

/// Times and faults of every connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkOptions {
    pub latency: Latency,
    /// Segments that are held up for `stall`; what follows on the connection waits behind them.
    pub stall_per_million: u32,
    pub stall: Latency,
    /// Segments at which the connection is reset.
    pub reset_per_million: u32,
    /// Bytes that may be under way or unread per direction; beyond that writers wait.
    pub window_bytes: usize,
    /// Largest segment in bytes.
    pub segment_bytes: usize,
    /// How long a connection attempt waits for an answer.
    pub connect_timeout: Duration,
    /// How often held-up segments and attempts are tried again.
    pub retry: Duration,
}

impl Options {
    /// A quiet world under this seed.
    pub fn seeded(seed: u64) -> Options {
        Options {
            seed,
            disk: DiskOptions::default(),
            network: NetworkOptions::default(),
            poll_cost: Duration::from_nanos(300),
            mail: Latency::micros(1, 30),
            wall_start_ms: 1_790_000_000_000,
        }
    }

    /// The same world with slow operations, stalls and resets now and then, and no disk errors.
    pub fn rough(seed: u64) -> Options {
        let mut options = Options::seeded(seed);
        options.disk.slow_per_million = 10_000;
        options.network.stall_per_million = 2_000;
        options.network.reset_per_million = 200;
        options
    }
}

impl Default for DiskOptions {
    fn default() -> DiskOptions {
        DiskOptions {
            read: Latency::micros(20, 120),
            write: Latency::micros(20, 150),
            sync: Latency::micros(80, 400),
            slow_per_million: 0,
            error_per_million: 0,
            capacity_bytes: None,
        }
    }
}

impl Default for NetworkOptions {
    fn default() -> NetworkOptions {
        NetworkOptions {
            latency: Latency::micros(15, 400),
            stall_per_million: 0,
            stall: Latency::micros(1_000, 300_000),
            reset_per_million: 0,
            window_bytes: 256 << 10,
            segment_bytes: 64 << 10,
            connect_timeout: Duration::from_secs(10),
            retry: Duration::from_millis(50),
        }
    }
}
