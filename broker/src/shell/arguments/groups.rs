//! Arguments of `corelane group` and `corelane cluster`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::super::reset::TopicScope;
use super::partitions::MetadataRecover;
use super::{ClientArguments, FormatArguments, parse_duration};

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups
    #[command(visible_alias = "ls")]
    List(GroupList),
    /// Show members, offsets and lag of groups
    Describe(GroupDescribe),
    /// Move the offsets of a group; shows the plan and does nothing without --execute
    #[command(after_help = RESET_EXAMPLES)]
    Reset(GroupReset),
    /// Delete groups and their offsets
    #[command(visible_alias = "rm")]
    Delete(GroupDelete),
}

const RESET_EXAMPLES: &str = "\
Examples:
  corelane group reset billing --all-topics --to-earliest
  corelane group reset billing --topic orders:0,1 --to-offset 1000 --execute
  corelane group reset billing --topic orders --to-time 2026-01-01T08:00:00Z --execute
  corelane group reset billing --topic orders --shift-by -100 --execute

The group must have no members.";

#[derive(Debug, Args)]
pub(crate) struct GroupList {
    /// Only groups in this state, such as Stable or Empty
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct GroupDescribe {
    /// Names of the groups
    #[arg(required = true, value_name = "GROUP")]
    pub groups: Vec<String>,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("target").required(true),
    group = clap::ArgGroup::new("scope").required(true)
)]
pub(crate) struct GroupReset {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// A topic, or some of its partitions as TOPIC:NUMBER,...; may be repeated
    #[arg(short, long, value_name = "TOPIC", value_parser = TopicScope::parse, group = "scope")]
    pub topic: Vec<TopicScope>,
    /// Every topic that the group has offsets of
    #[arg(long, group = "scope")]
    pub all_topics: bool,
    /// To the first record that is there
    #[arg(long, group = "target", help_heading = "Target")]
    pub to_earliest: bool,
    /// To the end: only what comes from now on
    #[arg(long, group = "target", help_heading = "Target")]
    pub to_latest: bool,
    /// To this offset
    #[arg(long, value_name = "OFFSET", group = "target", help_heading = "Target")]
    pub to_offset: Option<i64>,
    /// To the first record at or after a time: 2026-01-01T08:00:00Z, Unix ms or -15m
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        group = "target",
        help_heading = "Target"
    )]
    pub to_time: Option<String>,
    /// Forward by so many records, or back if negative
    #[arg(
        long,
        value_name = "COUNT",
        allow_negative_numbers = true,
        group = "target",
        help_heading = "Target"
    )]
    pub shift_by: Option<i64>,
    /// Do it; without this the plan is only shown
    #[arg(long)]
    pub execute: bool,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct GroupDelete {
    /// Names of the groups
    #[arg(required = true, value_name = "GROUP")]
    pub groups: Vec<String>,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show nodes, topics, partitions and features
    Status(StatusArguments),
    /// Show nodes, what they lead, and whether the others hear of them
    Nodes(StatusArguments),
    /// Say whether anything is wrong: exit code 0 if not, 1 if so
    #[command(after_help = HEALTH_HELP)]
    Health(HealthArguments),
    /// Move everything from a node to the others, then let it go
    #[command(after_help = DECOMMISSION_HELP)]
    Decommission(DecommissionArguments),
    /// Let the cluster's metadata go on from this node, when its majority is gone for good
    #[command(after_help = RECOVER_METADATA_HELP)]
    RecoverMetadata(MetadataRecover),
}

const DECOMMISSION_HELP: &str = "\
Examples:
  corelane cluster decommission 4 --wait 1h
  corelane cluster decommission 4 --cancel

The node goes on serving while its replicas are rebuilt on the others, a few at a time, and ends
when it holds none. One that does not run any more can be decommissioned too. It is refused if
some topic has more replicas than nodes would be left.";

#[derive(Debug, Args)]
pub(crate) struct DecommissionArguments {
    /// Id of the node
    #[arg(value_name = "NODE")]
    pub node: i32,
    /// The node is to stay after all; what has been moved comes back by balancing
    #[arg(long)]
    pub cancel: bool,
    /// Look on for so long until it has left, such as 1h
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub wait: Duration,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

const RECOVER_METADATA_HELP: &str = "\
Examples:
  corelane cluster recover-metadata --lost 2,3          what would be kept, and what may be lost
  corelane cluster recover-metadata --lost 2,3 --accept-data-loss

On the machine of the node that has the most of it; another one refuses, and says which it is. Topics,
configs, users and committed moves that only the lost nodes knew are gone. Their disks are retired. After
this recover the partitions that have no majority: corelane partition list --offline.";

const HEALTH_HELP: &str = "\
Examples:
  corelane cluster health --wait 60s && ./restart-the-next-node
  corelane cluster health --nodes 3 --format json

Wrong is: a node that the others do not hear of, or that does not answer; nodes that do not agree
who leads the metadata; partitions without leader, under-replicated or below min.insync.replicas.";

#[derive(Debug, Args)]
pub(crate) struct HealthArguments {
    /// Look again for so long until nothing is wrong, such as 60s
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub wait: Duration,
    /// How many nodes there should be; by default those that have ever registered
    #[arg(long, value_name = "COUNT")]
    pub nodes: Option<usize>,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}
