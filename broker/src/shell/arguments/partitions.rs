//! Arguments of `corelane partition`, and of `corelane cluster recover-metadata`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{ClientArguments, FormatArguments, parse_duration};

#[derive(Debug, Subcommand)]
pub(crate) enum PartitionCommand {
    /// Show partitions: who leads them, who holds them, and what is wrong with them
    #[command(visible_alias = "ls", after_help = LIST_EXAMPLES)]
    List(PartitionList),
    /// Move a partition to other nodes, or cancel that
    #[command(after_help = MOVE_EXAMPLES)]
    Move(PartitionMove),
    /// Hand the lead of a partition to its preferred replica, or to another one
    #[command(after_help = TRANSFER_EXAMPLES)]
    Transfer(PartitionTransfer),
    /// Let a partition go on from a minority of its replicas, when its majority is gone for good
    #[command(after_help = RECOVER_HELP)]
    Recover(PartitionRecover),
    /// Show what was recovered from a minority, by whom and when
    Recoveries(Recoveries),
}

const LIST_EXAMPLES: &str = "\
Examples:
  corelane partition list --offline
  corelane partition list --topic orders --node 3 --format json";

const MOVE_EXAMPLES: &str = "\
Examples:
  corelane partition move orders 0 --to 4,1,5           the preferred leader first
  corelane partition move orders 0 --to 4,1,5 --wait 1h
  corelane partition move orders 0 --cancel

A partition stays served while it moves. Newcomers copy it first; only then do others leave.";

const TRANSFER_EXAMPLES: &str = "\
Examples:
  corelane partition transfer orders 0                  to the preferred replica
  corelane partition transfer orders 0 --to 2           on the machine of a node

Kafka's protocol can ask for the preferred replica only. For another one the order goes to the admin
listener of a node of the cluster, which takes orders from its own machine only. A lead that is not at
its preferred replica goes back there by itself, unless auto.leader.rebalance.enable is false; to make
another one preferred, name the same nodes in another order: corelane partition move orders 0 --to 2,1,3";

const RECOVER_HELP: &str = "\
Examples:
  corelane partition recover orders 0 --lost 2,3        what would be kept, and what may be lost
  corelane partition recover orders 0 --lost 2,3 --accept-data-loss
  corelane partition recover --offline --lost 2,3       the same of all partitions without a leader

On the machine of a node that runs. Without --accept-data-loss nothing is changed. With it the replica
with the longest log goes on alone, and what only the lost nodes had is gone. Their disks are retired:
they are refused if they come back, and need empty directories.

It is refused while a lost node runs, while others may still be a majority, and while a node that may
have more than the others does not say what it holds.";

#[derive(Debug, Args)]
pub(crate) struct PartitionList {
    /// Only partitions of this topic; may be repeated
    #[arg(short, long, value_name = "TOPIC")]
    pub topic: Vec<String>,
    /// Only partitions with a replica on this node
    #[arg(short, long, value_name = "NODE")]
    pub node: Option<i32>,
    /// Only partitions of which a replica is not in sync
    #[arg(long)]
    pub under_replicated: bool,
    /// Only partitions without a leader
    #[arg(long)]
    pub offline: bool,
    /// Only partitions that are on their way to other nodes
    #[arg(long)]
    pub moving: bool,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true))]
pub(crate) struct PartitionMove {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Number of the partition
    #[arg(value_name = "PARTITION")]
    pub partition: i32,
    /// The nodes that are to hold it, the preferred leader first
    #[arg(long, value_name = "NODE,...", value_delimiter = ',', group = "where")]
    pub to: Vec<i32>,
    /// Back to where it was before the move that is under way
    #[arg(long, group = "where")]
    pub cancel: bool,
    /// Wait for so long until it has arrived, such as 1h, and show how it goes
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub wait: Duration,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PartitionTransfer {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Number of the partition
    #[arg(value_name = "PARTITION")]
    pub partition: i32,
    /// The node that is to lead; the preferred one if not given
    #[arg(long, value_name = "NODE")]
    pub to: Option<i32>,
    #[command(flatten)]
    pub admin: AdminArguments,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PartitionRecover {
    /// Name of the topic
    #[arg(value_name = "TOPIC", required_unless_present = "offline")]
    pub topic: Option<String>,
    /// Number of the partition
    #[arg(value_name = "PARTITION", required_unless_present = "offline")]
    pub partition: Option<i32>,
    /// All partitions that have no leader, or those of the topic
    #[arg(long, conflicts_with = "partition")]
    pub offline: bool,
    #[command(flatten)]
    pub loss: LossArguments,
    #[command(flatten)]
    pub admin: AdminArguments,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct MetadataRecover {
    #[command(flatten)]
    pub loss: LossArguments,
    #[command(flatten)]
    pub admin: AdminArguments,
    #[command(flatten)]
    pub format: FormatArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Recoveries {
    #[command(flatten)]
    pub admin: AdminArguments,
    #[command(flatten)]
    pub format: FormatArguments,
}

/// What is lost, and who says so.
#[derive(Debug, Args)]
pub(crate) struct LossArguments {
    /// Nodes that never come back with the disks that they had
    #[arg(long, value_name = "NODE,...", value_delimiter = ',')]
    pub lost: Vec<i32>,
    /// Do it; without this the plan is only shown
    #[arg(long)]
    pub accept_data_loss: bool,
    /// Who asks for this: it is written down. By default the user of this machine
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// Where orders go.
#[derive(Clone, Debug, Args)]
pub(crate) struct AdminArguments {
    /// Admin listener of a node on this machine (its corelane.admin.listener)
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "CORELANE_ADMIN",
        default_value = "localhost:9644",
        help_heading = "Connection"
    )]
    pub admin: String,
}
