//! Arguments of `corelane topic`.

use clap::{Args, Subcommand};

use super::{ClientArguments, FormatArguments, parse_pair};

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create topics
    #[command(after_help = CREATE_EXAMPLES)]
    Create(TopicCreate),
    /// List topics
    #[command(visible_alias = "ls")]
    List(TopicList),
    /// Show partitions, offsets and configs of topics
    Describe(TopicDescribe),
    /// Change configs of a topic, or give it more partitions
    #[command(after_help = ALTER_EXAMPLES)]
    Alter(TopicAlter),
    /// Delete topics and everything in them
    #[command(visible_alias = "rm")]
    Delete(TopicDelete),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  corelane topic create orders
  corelane topic create orders returns -p 12 -r 3 -c retention.ms=86400000";

const ALTER_EXAMPLES: &str = "\
Examples:
  corelane topic alter orders -c retention.ms=-1
  corelane topic alter orders --delete-config retention.ms
  corelane topic alter orders --partitions 24";

#[derive(Debug, Args)]
pub(crate) struct TopicCreate {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Partitions of each; the broker's num.partitions if not given
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,
    /// Replicas of each partition; the broker's default.replication.factor if not given
    #[arg(short, long, value_name = "COUNT", value_parser = clap::value_parser!(i16).range(1..))]
    pub replication_factor: Option<i16>,
    /// A config of the topics; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub config: Vec<(String, String)>,
    /// Do not fail if a topic exists already
    #[arg(long)]
    pub if_not_exists: bool,
    /// Only say whether it would work
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TopicList {
    /// Show the broker's own topics too
    #[arg(short, long)]
    pub internal: bool,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TopicDescribe {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Show all configs, not only those that differ from their default
    #[arg(short, long)]
    pub all_configs: bool,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct TopicAlter {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Set a config; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse_pair, group = "change")]
    pub config: Vec<(String, String)>,
    /// Put a config back to its default; may be repeated
    #[arg(short, long, value_name = "NAME", group = "change")]
    pub delete_config: Vec<String>,
    /// Add values to a list config; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair, group = "change")]
    pub append_config: Vec<(String, String)>,
    /// Take values out of a list config; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair, group = "change")]
    pub subtract_config: Vec<(String, String)>,
    /// New number of partitions; there is no way back to fewer
    #[arg(
        short,
        long,
        value_name = "COUNT",
        value_parser = clap::value_parser!(i32).range(1..),
        group = "change"
    )]
    pub partitions: Option<i32>,
    /// Only say whether it would work
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TopicDelete {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Do not fail if a topic does not exist
    #[arg(long)]
    pub if_exists: bool,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}
