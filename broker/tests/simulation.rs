//! Some seeds of the simulation at every `cargo test`; continuous integration plays thousands (`bench sim`).

use broker::simulation::{Mutation, Options, run};

#[test]
fn seeds_hold() {
    let count = std::env::var("SIMX").map_or(60, |text| text.parse().unwrap());
    let from: u64 = std::env::var("SIMF").map_or(0, |text| text.parse().unwrap());
    let mutation = std::env::var("SIMM")
        .ok()
        .map(|name| Mutation::ALL.iter().find(|(n, _)| *n == name).unwrap().1);
    let mut counts = std::collections::BTreeMap::new();
    let mut bad = 0;
    for seed in from..from + count {
        let began = std::time::Instant::now();
        match run(Options { seed, mutation }) {
            Ok(outcome) => {
                if count < 20 {
                    println!(
                        "{seed} {:x} {} {:?}",
                        outcome.trace_hash,
                        outcome.trace_events,
                        began.elapsed()
                    );
                }
                for (what, n) in outcome.counts {
                    *counts.entry(what).or_insert(0) += n;
                }
            }
            Err(failure) => {
                bad += 1;
                if bad < 4 {
                    println!("{failure}\n")
                } else {
                    println!("seed {} {}", failure.options.seed, failure.violation)
                }
            }
        }
    }
    println!("{counts:#?} {bad} bad");
}
