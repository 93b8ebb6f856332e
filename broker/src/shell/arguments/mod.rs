//! The command line: what can be asked, and how it is explained.

mod dev;
mod groups;
mod partitions;
mod records;
mod start;
mod topics;

pub(crate) use dev::{
    DevClusterCommand, DevCommand, DevDown, DevNodes, DevPlace, DevStart, DevWaiting,
};
pub(crate) use groups::{
    ClusterCommand, DecommissionArguments, GroupCommand, GroupDelete, GroupDescribe, GroupList,
    GroupReset, HealthArguments, StatusArguments,
};
pub(crate) use partitions::{
    AdminArguments, LossArguments, MetadataRecover, PartitionCommand, PartitionList, PartitionMove,
    PartitionRecover, PartitionTransfer, Recoveries,
};
pub(crate) use records::{
    Acks, Begin, ConsumeArguments, Isolation, ProduceArguments, RecordFormat,
};
pub(crate) use start::StartArguments;
pub(crate) use topics::{
    TopicAlter, TopicCommand, TopicCreate, TopicDelete, TopicDescribe, TopicList,
};

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::output::Format;

const EXAMPLES: &str = "\
Examples:
  corelane                                        a broker on 127.0.0.1:9092, data in ./data
  corelane topic create orders --partitions 6
  echo hello | corelane produce orders
  corelane consume orders --exit-at-end
  corelane group describe billing
  corelane cluster status --bootstrap broker-1:9092
  corelane dev cluster start                      three nodes on this machine

Exit codes: 0 done, 1 failed (one sentence says why), 2 wrong usage.";

/// A streaming broker that speaks the Apache Kafka protocol, and the tools to work with it
///
/// Without a command it starts a broker.
#[derive(Debug, Parser)]
#[command(
    name = "corelane",
    bin_name = "corelane",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_help_heading = "Commands",
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub start: StartArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a broker (this is what happens without a command, too)
    Start(StartArguments),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// List and move partitions, hand leads over, go on after a loss
    #[command(subcommand)]
    Partition(PartitionCommand),
    /// Write records to a topic: lines of text, or generated load
    #[command(after_help = records::PRODUCE_EXAMPLES)]
    Produce(ProduceArguments),
    /// Read records from topics
    #[command(after_help = records::CONSUME_EXAMPLES)]
    Consume(ConsumeArguments),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(GroupCommand),
    /// Look at the cluster as a whole
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Try things out on this machine: a cluster whose nodes and links can be broken
    #[command(subcommand)]
    Dev(DevCommand),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETION_HELP)]
    Completion {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

const COMPLETION_HELP: &str = "\
Examples:
  corelane completion bash > /etc/bash_completion.d/corelane
  corelane completion zsh > \"${fpath[1]}/_corelane\"
  corelane completion fish > ~/.config/fish/completions/corelane.fish";

/// Which cluster to talk to, and how long to wait for it.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArguments {
    /// Brokers to begin with, as HOST:PORT,...; the rest is learnt from them
    #[arg(
        short,
        long,
        value_name = "HOST:PORT",
        env = "CORELANE_BOOTSTRAP",
        default_value = "localhost:9092",
        help_heading = "Connection"
    )]
    pub bootstrap: String,
    /// How long to try before giving up, such as 30s
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        value_parser = parse_duration,
        help_heading = "Connection"
    )]
    pub timeout: Duration,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct FormatArguments {
    /// How to print the result
    #[arg(long, value_enum, env = "CORELANE_FORMAT", default_value = "table")]
    pub format: Format,
}

/// Reads `30s`, `500ms`, `2m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    super::moment::duration_ms(text)
        .and_then(|ms| u64::try_from(ms).ok())
        .map(Duration::from_millis)
        .ok_or_else(|| "write a number and a unit: 500ms, 30s, 2m".to_owned())
}

/// Reads `name=value`.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
