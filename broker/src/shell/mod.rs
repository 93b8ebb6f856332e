//! The operator's commands: everything that `corelane` does besides being a broker.
//!
//! A command is a Kafka client like any other, but for orders: it knows nothing of the broker's inside, so it works
//! against every broker that speaks the protocol, and a broker can be judged by it. It is blocking
//! and on one thread. Whatever goes wrong ends as one sentence with a remedy on stderr and exit
//! code 1; wrong usage is explained by the command line itself, with exit code 2.
//!
//! - [`arguments`]: the command line; [`client`]: connections and requests.
//! - [`topic`], [`partition`], [`produce`], [`consume`], [`group`], [`cluster`]: one file for each command.
//! - [`orders`]: what Kafka's protocol has no words for, to a node on this machine.
//! - [`dev`]: clusters on this machine.
//! - [`membership`], [`assignor`]: being a member of a consumer group.
//! - [`output`], [`table`], [`template`]: what is printed; [`moment`]: times as people write them.

mod arguments;
mod assignor;
mod client;
mod cluster;
mod cluster_health;
mod committed;
mod consume;
mod decommission;
mod dev;
mod error;
mod fetching;
mod generate;
mod group;
mod group_reset;
mod membership;
mod moment;
mod offsets;
mod orders;
mod output;
mod partition;
mod partition_move;
mod partition_recover;
mod partitioner;
mod produce;
mod reset;
mod table;
mod template;
mod topic;
mod topic_alter;
mod under_way;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::config::{self, BrokerConfig};
use arguments::{Cli, Command, StartArguments};
use error::ShellError;
use output::Output;

/// What `corelane start` runs: the broker, until it is told to stop. The strings are notices about
/// the configuration, one sentence each, for the log.
pub type Start = fn(BrokerConfig, Vec<String>) -> ExitCode;

/// Reads the command line and carries it out. `arguments` begin with the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>, start: Start) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with code 0, mistakes to stderr with code 2. If not
            // even that can be printed, there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    let command = cli.command.unwrap_or(Command::Start(cli.start));
    if let Command::Start(arguments) = command {
        return match settle(&arguments) {
            Ok((config, notices)) => start(config, notices),
            Err(error) => report(&error),
        };
    }
    let stdout = io::stdout();
    let mut output = Output::new(io::BufWriter::new(stdout.lock()));
    let result = run(command, &mut output).and_then(|()| Ok(output.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(command: Command, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    match command {
        Command::Start(_) => Ok(()),
        Command::Topic(command) => topic::run(command, output),
        Command::Partition(command) => partition::run(command, output),
        Command::Produce(arguments) => produce::run(&arguments, output),
        Command::Consume(arguments) => consume::run(&arguments, output),
        Command::Group(command) => group::run(command, output),
        Command::Cluster(command) => cluster::run(command, output),
        Command::Dev(command) => dev::run(command, output),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "corelane", &mut script);
            Ok(output.write_all(&script)?)
        }
    }
}

/// The configuration that a node starts with.
fn settle(arguments: &StartArguments) -> Result<(BrokerConfig, Vec<String>), ShellError> {
    let file = arguments
        .config
        .as_deref()
        .map(config::read_file)
        .transpose()?;
    let loaded = config::load(file.as_ref(), std::env::vars(), &arguments.settings())?;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hostname = match hostname.trim() {
        "" => "localhost",
        name => name,
    };
    let config = BrokerConfig::resolve(loaded.statics, hostname)
        .map_err(|error| ShellError::Config(error.into()))?;
    Ok((config, loaded.notices))
}

/// Says what went wrong and gives the exit code. A reader that has gone away (`| head`) is no
/// error.
fn report(error: &ShellError) -> ExitCode {
    if error.is_broken_pipe() {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(io::stderr(), "corelane: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests;
