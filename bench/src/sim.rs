//! `bench sim`: many seeds of the broker's simulation (`broker::simulation`), several at a time, one thread each.
//!
//! It stops at the first violation and prints its story, unless it is to keep going. With `--mutation` the sense is
//! reversed: a known bug is brought back, and some seed has to find it by what it breaks.

use std::collections::BTreeMap;
use std::panic;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use broker::simulation::{Failure, Mutation, Options, Outcome, RED_SEEDS, log_if_asked, run};
use clap::Args;

use crate::error::{BenchError, Result};

#[derive(Clone, Debug, Args)]
pub struct SimArguments {
    /// Seeds to play, after those that were red once
    #[arg(long, default_value_t = 2_000, value_name = "COUNT")]
    pub seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub from: u64,
    /// Simulations at a time
    #[arg(long, default_value_t = 2, value_name = "COUNT")]
    pub jobs: usize,
    /// Nodes of the cluster; of four one leaves
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = parse_nodes)]
    pub nodes: usize,
    /// Of three nodes: lose two disks for good in the end, and recover from the third
    #[arg(long)]
    pub majority_lost: bool,
    /// Play this seed alone, twice, and compare the traces
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Go on after a violation, and tell all of them
    #[arg(long)]
    pub keep_going: bool,
    /// Bring back a known bug; some seed has to find it by what it breaks
    #[arg(long, value_name = "NAME", value_parser = parse_mutation)]
    pub mutation: Option<Mutation>,
}

fn parse_mutation(name: &str) -> std::result::Result<Mutation, String> {
    let known = Mutation::ALL.iter().find(|(known, _)| *known == name);
    known.map(|(_, mutation)| *mutation).ok_or_else(|| {
        let names: Vec<&str> = Mutation::ALL.iter().map(|(name, _)| *name).collect();
        format!("no such bug; known are {}", names.join(", "))
    })
}

fn parse_nodes(text: &str) -> std::result::Result<usize, String> {
    let nodes = text.parse().ok();
    let nodes = nodes.filter(|nodes| [1, 3, 4, 5].contains(nodes));
    nodes.ok_or_else(|| "a simulation has 1, 3, 4 (of which one leaves) or 5 nodes".to_owned())
}

/// Plays what was asked for.
pub fn simulate(arguments: &SimArguments) -> Result<()> {
    // A panic of the broker is a finding, told with its seed and story.
    panic::set_hook(Box::new(|_| {}));
    let done = match arguments.seed {
        Some(seed) => replay(Options {
            seed,
            nodes: arguments.nodes,
            majority_lost: arguments.majority_lost,
            mutation: arguments.mutation,
        }),
        None => campaign(arguments),
    };
    let _ = panic::take_hook();
    done
}

fn replay(options: Options) -> Result<()> {
    let seed = options.seed;
    log_if_asked();
    let first = run(options).map_err(|failure| BenchError::Unusable(failure.to_string()))?;
    let second = run(options).map_err(|failure| BenchError::Unusable(failure.to_string()))?;
    if first != second {
        let traces = format!("{:x} and {:x}", first.trace_hash, second.trace_hash);
        let what = format!("seed {seed} is not deterministic: traces {traces}");
        return Err(BenchError::Unusable(what));
    }
    println!(
        "seed {seed}: trace {:x}, {} events, the same twice",
        first.trace_hash, first.trace_events
    );
    print_counts(&first.counts);
    Ok(())
}

#[derive(Default)]
struct Totals {
    played: u64,
    events: u64,
    counts: BTreeMap<&'static str, u64>,
    failures: Vec<Failure>,
}

impl Totals {
    fn add(&mut self, outcome: std::result::Result<Outcome, Box<Failure>>) {
        self.played += 1;
        match outcome {
            Ok(outcome) => {
                self.events += outcome.trace_events;
                for (what, count) in outcome.counts {
                    *self.counts.entry(what).or_default() += count;
                }
            }
            Err(failure) => self.failures.push(*failure),
        }
    }
}

fn campaign(arguments: &SimArguments) -> Result<()> {
    let fresh = arguments.from..arguments.from + arguments.seeds;
    let seeds: Vec<u64> = match arguments.mutation {
        None if arguments.nodes == 1 => RED_SEEDS.into_iter().chain(fresh).collect(),
        _ => fresh.collect(),
    };
    let began = Instant::now();
    let totals = play(&seeds, arguments);
    let seconds = began.elapsed().as_secs_f64();
    let per_minute = totals.played as f64 / seconds * 60.0;
    println!(
        "{} seeds in {seconds:.1} s ({per_minute:.0} a minute), {} events",
        totals.played, totals.events
    );
    match (arguments.mutation, told(&totals.failures, arguments)) {
        (None, None) => {
            print_counts(&totals.counts);
            Ok(())
        }
        (None, Some(failures)) => Err(BenchError::Unusable(failures)),
        (Some(_), Some(found)) => {
            println!("found: {found}");
            Ok(())
        }
        (Some(mutation), None) => {
            let name = mutation.name();
            let kinds: Vec<String> = mutation
                .breaks()
                .iter()
                .map(|kind| format!("\"{kind}\""))
                .collect();
            let kinds = kinds.join(" or ");
            let (played, others) = (totals.played, totals.failures.len());
            let what = format!(
                "{name} was not found in {played} seeds: nothing was {kinds} ({others} other violations)"
            );
            Err(BenchError::Unusable(what))
        }
    }
}

/// Whether a failure is what was looked for.
fn counts(failure: &Failure) -> bool {
    let mutation = failure.options.mutation;
    mutation.is_none_or(|mutation| mutation.breaks().contains(&failure.violation))
}

fn told(failures: &[Failure], arguments: &SimArguments) -> Option<String> {
    let wanted = failures
        .iter()
        .filter(|failure| counts(failure) || arguments.keep_going);
    let stories: Vec<String> = wanted.map(ToString::to_string).collect();
    let found = failures.iter().any(counts);
    found.then(|| stories.join("\n\n"))
}

/// Plays the seeds on several threads, up to the first failure or all of them.
fn play(seeds: &[u64], arguments: &SimArguments) -> Totals {
    let jobs = arguments.jobs.max(1);
    let (nodes, mutation) = (arguments.nodes, arguments.mutation);
    let mut totals = Totals::default();
    let (outcomes, played) = mpsc::sync_channel(jobs);
    thread::scope(|scope| {
        for job in 0..jobs {
            let outcomes = outcomes.clone();
            scope.spawn(move || {
                for &seed in seeds.iter().skip(job).step_by(jobs) {
                    // Nobody listens any more: another thread has failed.
                    let options = Options {
                        seed,
                        nodes,
                        majority_lost: arguments.majority_lost,
                        mutation,
                    };
                    if outcomes.send(run(options)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(outcomes);
        while (!totals.failures.last().is_some_and(counts) || arguments.keep_going)
            && let Ok(outcome) = played.recv()
        {
            totals.add(outcome);
        }
        drop(played);
    });
    totals
}

fn print_counts(counts: &BTreeMap<&'static str, u64>) {
    for (what, count) in counts {
        println!("{count:>10}  {what}");
    }
}
