//! Arguments of `corelane produce` and `corelane consume`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use protocol::compression::Codec;

use super::{ClientArguments, FormatArguments, parse_pair};

pub(crate) const PRODUCE_EXAMPLES: &str = "\
Examples:
  echo hello | corelane produce greetings
  corelane produce orders --key-separator : --file orders.txt -H source=import
  corelane produce load --count 1000000 --size 512 --compression lz4";

pub(crate) const CONSUME_EXAMPLES: &str = "\
Examples:
  corelane consume orders                        everything, then whatever comes
  corelane consume orders --from end --format json
  corelane consume orders --from -10 --exit-at-end
  corelane consume orders --from @2026-01-01T08:00:00Z --count 5
  corelane consume orders --from @-15m -f '%T %k=%v\\n'
  corelane consume orders returns --group billing

Template: %t topic, %p partition, %o offset, %T timestamp, %k key, %v value, %h headers,
  %K and %S length of key and value (-1 for null), %% and \\n \\t \\r \\0 \\\\";

#[derive(Debug, Args)]
pub(crate) struct ProduceArguments {
    /// The topic to write to
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Read lines from this file instead of the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "count")]
    pub file: Option<PathBuf>,
    /// What parts key and value in a line; without it lines are values
    #[arg(
        short,
        long,
        value_name = "TEXT",
        conflicts_with = "count",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub key_separator: Option<String>,
    /// One key for all records
    #[arg(long, value_name = "TEXT", conflicts_with = "key_separator")]
    pub key: Option<String>,
    /// A key or value that stands for null; a null value is a tombstone
    #[arg(long, value_name = "TEXT", conflicts_with = "count")]
    pub null: Option<String>,
    /// A header of every record; may be repeated
    #[arg(short = 'H', long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub header: Vec<(String, String)>,
    /// Write to this partition only; else by key, or evenly
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// When a record counts as written
    #[arg(short, long, value_enum, default_value = "all")]
    pub acks: Acks,
    /// Codec of the batches: none, gzip, snappy, lz4 or zstd
    #[arg(short, long, value_name = "CODEC", default_value = "none", value_parser = parse_codec)]
    pub compression: Codec,
    /// Generate so many records instead of reading lines
    #[arg(
        short = 'n',
        long,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub count: Option<u64>,
    /// Bytes of a generated value
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 100,
        requires = "count",
        value_parser = clap::value_parser!(u32).range(..=100_000_000)
    )]
    pub size: u32,
    /// Largest batch before compression
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000_000)
    )]
    pub batch_bytes: u32,
    #[command(flatten)]
    pub format: FormatArguments,
    #[command(flatten)]
    pub client: ClientArguments,
}

/// When the broker answers a produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Acks {
    /// When a majority of the replicas has it on stable storage
    #[value(alias = "-1")]
    All,
    /// When the leader has it
    #[value(name = "1", alias = "leader")]
    Leader,
    /// Never: nobody tells whether it arrived
    #[value(name = "0", alias = "none")]
    None,
}

impl Acks {
    /// The number on the wire.
    pub(crate) fn code(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ConsumeArguments {
    /// The topics to read
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Where to begin: beginning, end, an offset, -N (N before the end) or @TIME
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "beginning",
        allow_hyphen_values = true,
        value_parser = Begin::parse
    )]
    pub from: Begin,
    /// Only these partitions, as NUMBER,...
    #[arg(
        short,
        long,
        value_name = "NUMBERS",
        value_delimiter = ',',
        conflicts_with = "group"
    )]
    pub partition: Vec<i32>,
    /// Be a member of this group: share the partitions and go on where it stopped
    #[arg(short, long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Stop after so many records
    #[arg(
        short = 'n',
        long,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub count: Option<u64>,
    /// Stop at the end that the partitions have at the start
    #[arg(short, long)]
    pub exit_at_end: bool,
    /// Which records of transactions to show
    #[arg(long, value_enum, default_value = "read_uncommitted")]
    pub isolation: Isolation,
    /// How to print a record
    #[arg(long, value_enum, default_value = "value")]
    pub format: RecordFormat,
    /// Print records by a template, such as '%k: %v\n'
    #[arg(short = 'f', long, value_name = "TEMPLATE", conflicts_with = "format")]
    pub template: Option<String>,
    #[command(flatten)]
    pub client: ClientArguments,
}

/// How `consume` prints records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordFormat {
    /// The value and a line feed
    Value,
    /// One JSON object on a line: topic, partition, offset, timestamp, headers, key, value
    Json,
}

/// What a reader sees of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// Everything, as soon as it is committed to the log
    #[value(name = "read_uncommitted")]
    ReadUncommitted,
    /// Nothing of open and aborted transactions
    #[value(name = "read_committed")]
    ReadCommitted,
}

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Beginning,
    End,
    Offset(i64),
    BeforeEnd(i64),
    /// As written, since "15 minutes ago" needs a clock.
    Time(String),
}

impl Begin {
    fn parse(text: &str) -> Result<Begin, String> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
        match text {
            "beginning" | "start" | "earliest" => return Ok(Begin::Beginning),
            "end" | "latest" => return Ok(Begin::End),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return match super::super::moment::parse(time, 0) {
                Some(_) => Ok(Begin::Time(time.to_owned())),
                None => Err(format!(
                    "{time:?} is no time; write 2026-01-01T08:00:00Z, Unix ms or -15m"
                )),
            };
        }
        match text.strip_prefix('-') {
            Some(count) => number(count).map(Begin::BeforeEnd),
            None => number(text).map(Begin::Offset),
        }
        .ok_or_else(|| "write beginning, end, an offset, -N or @TIME".to_owned())
    }
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    Codec::from_name(text).ok_or_else(|| "write none, gzip, snappy, lz4 or zstd".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin() {
        let cases = [
            ("beginning", Begin::Beginning),
            ("latest", Begin::End),
            ("0", Begin::Offset(0)),
            ("-10", Begin::BeforeEnd(10)),
            ("@-15m", Begin::Time("-15m".into())),
            ("@2026-01-01", Begin::Time("2026-01-01".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(Begin::parse(text), Ok(expected), "{text}");
        }
        for text in ["middle", "--1", "@", "@soon", "1.5", ""] {
            assert!(Begin::parse(text).is_err(), "{text}");
        }
    }
}
