//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::Acks;
use crate::sim::SimArguments;

/// Measures Kafka brokers: open-loop load, comparison with Apache Kafka, micro benchmarks
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Produce and consume at a broker, and measure latencies, rates and CPU
    Load(LoadArguments),
    /// Run the same workloads on Corelane and on Apache Kafka, and print the ratios
    Compare(CompareArguments),
    /// Compare the CPU cost of a TCP echo: this runtime against glommio
    Echo(EchoArguments),
    /// Measure the physical limits of this machine: disk and loopback
    Limits(LimitsArguments),
    /// Run a broker that keeps nothing on disk: the floor of what the load generator can measure
    Null(NullArguments),
    /// Play seeds of the broker's simulation: random load, power losses, every answer judged
    Sim(SimArguments),
    /// Serve echoes for `bench echo`, which starts this itself
    #[command(hide = true)]
    EchoServe(EchoServeArguments),
}

/// By default an open loop at a fixed rate; see --unbounded and --closed.
#[derive(Clone, Debug, Args)]
pub struct LoadArguments {
    /// A broker; those that lead partitions are found through it
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub bootstrap: SocketAddr,
    /// Topic, created if it does not exist
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Partitions of a topic that is created
    #[arg(long, default_value_t = 16, value_name = "COUNT")]
    pub partitions: i32,
    /// Replicas of each partition of a topic that is created
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub replicas: i16,
    /// Config of a topic that is created; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub config: Vec<(String, String)>,
    /// Bytes of each message's value
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    pub size: usize,
    /// Producers, each with its own connection; 0 only reads
    #[arg(long, default_value_t = 4, value_name = "COUNT")]
    pub producers: usize,
    /// Messages a second, of all producers together
    #[arg(long, default_value_t = 1000.0, value_name = "MESSAGES")]
    pub rate: f64,
    /// As fast as answers come, with full batches
    #[arg(long, conflicts_with = "closed")]
    pub unbounded: bool,
    /// Closed loop: each producer sends one message and waits for its answer
    #[arg(long)]
    pub closed: bool,
    /// How long a batch waits for more messages
    #[arg(long, default_value_t = 1000, value_name = "US")]
    pub linger_us: u64,
    /// Size at which a batch is full
    #[arg(long, default_value_t = 16 << 10, value_name = "BYTES")]
    pub batch_bytes: usize,
    /// Size at which a request is full
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES")]
    pub request_bytes: usize,
    /// Unanswered requests of one producer
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    pub in_flight: usize,
    /// Who must have a batch before it is acknowledged
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// Produce without ids and sequence numbers
    #[arg(long)]
    pub not_idempotent: bool,
    /// Give each message a key, which chooses its partition
    #[arg(long)]
    pub keyed: bool,
    /// Readers of the whole topic, each standing for a consumer group
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub readers: usize,
    /// Read from the beginnings of the logs, over and over, and measure throughput only
    #[arg(long)]
    pub from_beginning: bool,
    /// Time before the measurement
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = parse_seconds)]
    pub warm_up: Duration,
    /// Time of the measurement
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Duration,
    /// Processes of the brokers, to measure their CPU and disk writes
    #[arg(long, value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// CPU that the generator is pinned to
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Which cores broker and client have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// The broker on the first core, the client on the second
    A,
    /// Everybody on all cores; for CPU figures, not for latencies
    B,
}

#[derive(Clone, Debug, Args)]
pub struct CompareArguments {
    /// Version of Apache Kafka, from Maven Central
    #[arg(long, default_value = "4.3.1")]
    pub kafka_version: String,
    /// Folder with Kafka's jars, instead of fetching them
    #[arg(long, value_name = "DIRECTORY")]
    pub kafka_jars: Option<PathBuf>,
    /// Brokers in a cluster, with a replica of everything on each; 1, 3 or 5
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub nodes: i32,
    /// Which workloads: of W1, W2, W4, W5, W7, W8 for one node, of W1, W2, W4, W7, W9, W9L for several
    /// [default: all]
    #[arg(long, value_delimiter = ',')]
    pub workloads: Vec<String>,
    /// How often W9 kills a node and stops one, W9L a fifth and Kafka a quarter of it [default: 20, or
    /// 2 with --quick]
    #[arg(long, value_name = "COUNT")]
    pub incidents: Option<usize>,
    /// First of the ports of several nodes, two for each; below those that the kernel gives out
    #[arg(long, default_value_t = 24_000, value_name = "PORT")]
    pub first_port: u16,
    /// Which brokers
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "corelane,kafka-sync,kafka"
    )]
    pub brokers: Vec<BrokerName>,
    /// Seconds instead of minutes, and one round: for trying out, not for quoting
    #[arg(long)]
    pub quick: bool,
    /// How often each workload runs on each broker, in turn [default: 3, or 1 with --quick]
    #[arg(long, value_name = "COUNT")]
    pub rounds: Option<usize>,
    /// Factor on the times of all runs, warm-up included; the report tells it
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub times: f64,
    #[arg(long, value_enum, default_value_t = Layout::A)]
    pub layout: Layout,
    /// The broker's binary [default: `corelane` beside this one]
    #[arg(long, value_name = "FILE")]
    pub corelane: Option<PathBuf>,
    /// Config of Corelane, as `corelane start --set`; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub corelane_set: Vec<(String, String)>,
    /// Where brokers keep their data; emptied [default: bench-data above this binary]
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<PathBuf>,
    /// CPU pressure in percent above which a run waits before it starts
    #[arg(long, default_value_t = 2.0, value_name = "PERCENT")]
    pub pressure_max: f64,
    /// How long it waits; then it runs all the same, and its row says so [default: 120, or 0]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub patience: Option<Duration>,
    /// Put the tables into this document, between its markers
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Print every run as JSON too, one a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum BrokerName {
    Corelane,
    /// Apache Kafka with flush.messages=1
    KafkaSync,
    /// Apache Kafka as it comes
    Kafka,
}

#[derive(Clone, Debug, Args)]
pub struct EchoArguments {
    /// Time of each measurement
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Duration,
    /// How often each is measured, in turn
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    pub rounds: usize,
    /// Bytes of an echo
    #[arg(long, default_value_t = 512, value_name = "BYTES")]
    pub size: usize,
    /// How long to wait for a quiet machine
    #[arg(long, default_value = "0", value_name = "SECONDS", value_parser = parse_seconds)]
    pub patience: Duration,
    /// Connections, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "1,32")]
    pub connections: Vec<usize>,
    /// Put the table into this document, between its markers
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum EchoRuntime {
    /// The crate `runtime`
    Ours,
    Glommio,
}

#[derive(Clone, Debug, Args)]
pub struct EchoServeArguments {
    #[arg(long, value_enum)]
    pub runtime: EchoRuntime,
    #[arg(long)]
    pub port: u16,
    #[arg(long)]
    pub cpu: usize,
}

#[derive(Clone, Debug, Args)]
pub struct LimitsArguments {
    /// Folder on the disk to measure
    #[arg(long, default_value = ".", value_name = "DIRECTORY")]
    pub data: PathBuf,
    /// Time of each measurement
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = parse_seconds)]
    pub duration: Duration,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct NullArguments {
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// CPU that it is pinned to
    #[arg(long)]
    pub cpu: Option<usize>,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("{text} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| format!("{text} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn one_node_is_compared_unless_more_are_asked_for() {
        let compare = |arguments: &[&str]| {
            let all = ["bench", "compare"].iter().chain(arguments);
            match Arguments::try_parse_from(all).unwrap().command {
                Command::Compare(arguments) => arguments,
                other => panic!("{other:?}"),
            }
        };
        let one = compare(&[]);
        assert_eq!((one.nodes, one.incidents), (1, None));
        assert!(one.workloads.is_empty());
        let three = compare(&["--nodes", "3", "--workloads", "W7,W9", "--incidents", "5"]);
        assert_eq!((three.nodes, three.incidents), (3, Some(5)));
        assert_eq!(three.workloads, ["W7", "W9"]);
    }

    #[test]
    fn seconds_may_be_fractions() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(parse_seconds("-1").is_err());
        assert!(parse_seconds("soon").is_err());
    }

    #[test]
    fn a_config_has_a_name() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_pair("=b").is_err());
        assert!(parse_pair("a").is_err());
    }
}
