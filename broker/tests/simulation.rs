//! Some seeds of the simulation at every `cargo test`; continuous integration plays thousands
//! (`bench sim`, see docs/simulation.md).

use broker::simulation::{
    Mutation, Options, RED_CLUSTER_SEEDS, RED_LEAVING_SEEDS, RED_LOST_SEEDS, RED_SEEDS, run,
};

const SEEDS: u64 = 60;
/// Of three nodes.
const CLUSTER_SEEDS: u64 = 18;
/// Of four, of which one leaves.
const LEAVING_SEEDS: u64 = 8;
/// Of three, of which two are lost for good.
const LOST_SEEDS: u64 = 12;

fn play(seed: u64) -> broker::simulation::Outcome {
    play_nodes(seed, 1)
}

fn play_nodes(seed: u64, nodes: usize) -> broker::simulation::Outcome {
    play_options(cluster(seed, nodes))
}

fn cluster(seed: u64, nodes: usize) -> Options {
    Options {
        seed,
        nodes,
        majority_lost: false,
        mutation: None,
    }
}

fn play_options(options: Options) -> broker::simulation::Outcome {
    run(options).unwrap_or_else(|failure| panic!("{failure}"))
}

/// Each half on a thread of its own; together the seeds must have been through everything.
#[test]
fn seeds_hold() {
    let seeds = (0..SEEDS).chain(RED_SEEDS);
    let counts = play_all(seeds.map(|seed| cluster(seed, 1)).collect());
    let wanted = [
        "acknowledged",
        "commits of ended generations refused",
        "committed",
        "durable at the acknowledgement",
        "epoch ends",
        "fetch sessions",
        "full disks",
        "generations joined",
        "graceful stops",
        "gzip",
        "losses at a time",
        "losses at an operation",
        "lz4",
        "offsets fetched",
        "other numbers of cores",
        "reads on a full disk",
        "records deleted",
        "refused on a full disk",
        "retention set",
        "retries",
        "snappy",
        "stalls of the disk",
        "starts after a stop",
        "topics created",
        "topics deleted",
        "topics grown",
        "whole logs",
        "zstd",
    ];
    demand(&wanted, &counts);
}

#[test]
fn seeds_of_clusters_hold() {
    let seeds = (0..CLUSTER_SEEDS).chain(RED_CLUSTER_SEEDS);
    let counts = play_all(seeds.map(|seed| cluster(seed, 3)).collect());
    let wanted = [
        "NOT_LEADER_OR_FOLLOWER",
        "acknowledged",
        "answers in a known epoch",
        "committed",
        "durable at the acknowledgement",
        "fault: a clock jumps",
        "fault: a disk is full",
        "fault: a disk is wiped",
        "fault: a node is frozen",
        "fault: a node is cut off from the others",
        "fault: a node loses power at an operation",
        "fault: bits are flipped",
        "fault: one direction is cut off",
        "fault: two nodes lose power",
        "generations joined",
        "leaders looked up",
        "moves begun",
        "offsets fetched",
        "one full disk",
        "replicas compared",
        "retries",
        "served while one disk was full",
        "topics created",
        "views compared",
        "whole logs",
    ];
    demand(&wanted, &counts);
}

/// Of four nodes one is decommissioned meanwhile.
#[test]
fn seeds_of_nodes_that_leave_hold() {
    let seeds = (0..LEAVING_SEEDS).chain(RED_LEAVING_SEEDS);
    let counts = play_all(seeds.map(|seed| cluster(seed, 4)).collect());
    let wanted = [
        "acknowledged",
        "fault: a node loses power at an operation",
        "faults while a node is emptied",
        "nodes that left after the last fault",
        "nodes that left among faults",
        "nodes that were to stay after all",
        "orders to leave",
        "replicas compared",
        "starts refused to a node that left",
        "views compared",
        "whole logs",
    ];
    demand(&wanted, &counts);
}

/// Two of three disks are lost in the end, and the third goes on alone.
#[test]
fn seeds_of_lost_majorities_hold() {
    let seeds = (0..LOST_SEEDS).chain(RED_LOST_SEEDS);
    let options = seeds.map(|seed| Options {
        majority_lost: true,
        ..cluster(seed, 3)
    });
    let counts = play_all(options.collect());
    let wanted = [
        "acknowledged batches that nobody has",
        "acknowledged batches that the survivor has",
        "majorities lost",
        "partitions recovered",
        "replicas compared",
        "survivors that lost power",
        "survivors that went on",
        "whole logs",
    ];
    demand(&wanted, &counts);
}

type Counts = std::collections::BTreeMap<&'static str, u64>;

/// Each half on a thread of its own.
fn play_all(all: Vec<Options>) -> Counts {
    let halves = [0, 1].map(|half| {
        let mine: Vec<Options> = all.iter().skip(half).step_by(2).copied().collect();
        std::thread::spawn(move || {
            let played = mine.into_iter().map(play_options);
            played.collect::<Vec<_>>()
        })
    });
    let mut counts = Counts::new();
    for outcome in halves.into_iter().flat_map(|half| half.join().unwrap()) {
        for (what, count) in outcome.counts {
            *counts.entry(what).or_insert(0) += count;
        }
    }
    counts
}

fn demand(wanted: &[&str], counts: &Counts) {
    for what in wanted {
        assert!(counts.contains_key(what), "{what}: never, {counts:?}");
    }
}

#[test]
fn a_seed_replays_identically() {
    for seed in [1, 2, 7] {
        assert_eq!(play(seed), play(seed), "seed {seed}");
    }
    assert_eq!(play_nodes(2, 3), play_nodes(2, 3), "of three nodes");
}

/// Each known bug is found by one of the stated seeds, and by what it breaks, not by something beside it. The first
/// seeds hold without it: see `seeds_hold`.
#[test]
fn known_bugs_are_found() {
    for (name, mutation) in Mutation::ALL {
        let found = mutation.found_among().find_map(|seed| {
            let mutation = Some(mutation);
            let failure = run(Options {
                seed,
                nodes: mutation?.nodes(),
                majority_lost: false,
                mutation,
            })
            .err()?;
            mutation?
                .breaks()
                .contains(&failure.violation)
                .then_some(failure)
        });
        let failure = found.unwrap_or_else(|| panic!("{name} was not found by what it breaks"));
        let replay = match mutation.nodes() {
            1 => format!("--seed {} --mutation {name}", failure.options.seed),
            nodes => format!(
                "--seed {} --nodes {nodes} --mutation {name}",
                failure.options.seed
            ),
        };
        assert!(failure.to_string().ends_with(&replay), "{failure}");
    }
}
