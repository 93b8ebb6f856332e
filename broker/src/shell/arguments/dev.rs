//! Arguments of `corelane dev`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{FormatArguments, parse_duration, parse_pair};

#[derive(Debug, Subcommand)]
pub(crate) enum DevCommand {
    /// A cluster on this machine: kill its nodes, cut its links, and see what happens
    #[command(subcommand, after_help = CLUSTER_EXAMPLES)]
    Cluster(DevClusterCommand),
}

const CLUSTER_EXAMPLES: &str = "\
Examples:
  corelane dev cluster start --nodes 3     (stays in the foreground; the rest in another terminal)
  corelane dev cluster show
  corelane dev cluster kill 2              as a crash does
  corelane dev cluster start-node 2
  corelane dev cluster cut 1 3             no bytes between nodes 1 and 3
  corelane dev cluster isolate 1
  corelane dev cluster heal
  corelane dev cluster down --remove";

#[derive(Debug, Subcommand)]
pub(crate) enum DevClusterCommand {
    /// Start a cluster and keep it running until Ctrl-C, SIGTERM or `down`
    Start(DevStart),
    /// Show what each node does, and which links are cut
    Show(DevPlace),
    /// Kill nodes (SIGKILL), as a crash does
    Kill(DevNodes),
    /// Stop nodes gracefully (SIGTERM)
    Stop(DevNodes),
    /// Start nodes that are stopped or were killed
    StartNode(DevNodes),
    /// Freeze nodes (SIGSTOP): they keep their connections and answer nothing
    Pause(DevNodes),
    /// Let frozen nodes go on (SIGCONT)
    Resume(DevNodes),
    /// Empty the data directories of nodes that do not run, as new disks would
    Wipe(DevNodes),
    /// Cut the links between two nodes
    Cut(DevCut),
    /// Cut all links between one node and the others; clients still reach it
    Isolate(DevIsolate),
    /// Mend all links
    Heal(DevPlace),
    /// Start one more node, which joins the cluster
    Add(DevWaiting),
    /// Stop the cluster, also one whose foreground process died
    Down(DevDown),
}

/// Which cluster is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevPlace {
    /// The cluster's directory
    #[arg(long, value_name = "DIRECTORY", default_value = "dev-cluster")]
    pub data: PathBuf,
    #[command(flatten)]
    pub format: FormatArguments,
}

/// The same for what takes a while.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevWaiting {
    /// How long to wait until it is done
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub place: DevPlace,
}

#[derive(Debug, Args)]
pub(crate) struct DevStart {
    /// How many nodes; by default 3, or those that the directory has
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub nodes: Option<u8>,
    /// Client port of the first node; those of the others follow. 0 looks for free ones
    ///
    /// Admin listeners are 1000 above the client ports, those between nodes 2000.
    #[arg(long, value_name = "PORT", default_value_t = 9092, value_parser = clap::value_parser!(u16).range(..=60_000))]
    pub port: u16,
    /// Cores of each node (corelane.cores)
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub cores: String,
    /// Memory of each node (corelane.memory)
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub memory: String,
    /// Set one config on every node, by the names of docs/configuration.md; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Forget the data of the cluster that was in the directory before
    #[arg(long)]
    pub fresh: bool,
    #[command(flatten)]
    pub place: DevPlace,
}

#[derive(Debug, Args)]
pub(crate) struct DevNodes {
    /// Ids of the nodes
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<i32>,
    #[command(flatten)]
    pub waiting: DevWaiting,
}

#[derive(Debug, Args)]
pub(crate) struct DevCut {
    /// One node
    #[arg(value_name = "NODE")]
    pub from: i32,
    /// The other node
    #[arg(value_name = "OTHER")]
    pub to: i32,
    /// Only what the first node sends to the other; the way back stays
    #[arg(long)]
    pub one_way: bool,
    /// Reset connections, as a firewall may, in place of the silence of a broken cable
    #[arg(long)]
    pub reset: bool,
    #[command(flatten)]
    pub place: DevPlace,
}

#[derive(Debug, Args)]
pub(crate) struct DevIsolate {
    /// Id of the node
    #[arg(value_name = "NODE")]
    pub node: i32,
    /// Reset connections, as a firewall may, in place of the silence of a broken cable
    #[arg(long)]
    pub reset: bool,
    #[command(flatten)]
    pub place: DevPlace,
}

#[derive(Debug, Args)]
pub(crate) struct DevDown {
    /// Delete the cluster's data and logs too
    #[arg(long)]
    pub remove: bool,
    #[command(flatten)]
    pub waiting: DevWaiting,
}
