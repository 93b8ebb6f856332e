//! A core's storage against a model, on a simulated disk that loses what was not synced. Each
//! case is a seed: a few lives of one node, with random work of all kinds and jobs that run while
//! the work goes on, each ended by a power loss in the middle of some disk operation, or by a
//! kill. After each restart every partition must be in a state that the model allows: at least
//! what was durable, at most what was staged, and nothing in between that never was.

mod partition;
mod scenario;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::{Options as SimOptions, Sim};

use scenario::{Shared, World};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// One seed, and what it did.
fn run_case(seed: u64, lives: u32, ops: u32) -> scenario::Coverage {
    let sim = Sim::new(SimOptions::seeded(seed));
    let shared: Shared = Rc::new(RefCell::new(World::new(seed, ops)));
    let mut fate = Random(seed ^ 0x5eed);
    for life in 0..=lives {
        let last = life == lives;
        shared.borrow_mut().begin_life(last);
        let world = Rc::clone(&shared);
        let node = sim.start::<(), _, _>("node", 1, move |core, _post, _inbox| {
            scenario::live(core, Rc::clone(&world))
        });
        if !last && !fate.one_in(5) {
            sim.crash_at_op(node, sim.disk_ops(node) + 1 + fate.below(250));
        }
        let ended = sim.run_until_done(node, Duration::from_secs(600));
        assert!(ended, "seed {seed}: life {life} does not end");
        sim.kill(node);
    }
    let coverage = shared.borrow().coverage;
    coverage
}

fn run_seeds(seeds: std::ops::Range<u64>, lives: u32, ops: u32) {
    let mut total = scenario::Coverage::default();
    for seed in seeds {
        let case = std::panic::catch_unwind(|| run_case(seed, lives, ops));
        match case {
            Ok(coverage) => total.add(&coverage),
            Err(panic) => {
                eprintln!("seed {seed} failed");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{total:?}");
    total.check();
}

/// The seeds to run: `STORAGE_SEEDS=from..to` or a single one, else `default`.
fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("STORAGE_SEEDS") else {
        return default;
    };
    let (from, to) = text.split_once("..").unwrap_or((&text, ""));
    let from = from.parse().expect("a seed");
    from..to.parse().unwrap_or(from + 1)
}

#[test]
fn every_crash_leads_back_to_a_state_that_was() {
    run_seeds(seeds(0..400), 4, 120);
}

#[test]
fn long_lives() {
    run_seeds(seeds(1_000_000..1_000_010), 2, 3000);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let hash = || {
        let sim = Sim::new(SimOptions::seeded(7));
        let shared: Shared = Rc::new(RefCell::new(World::new(7, 200)));
        shared.borrow_mut().begin_life(true);
        let node = sim.start::<(), _, _>("node", 1, move |core, _post, _inbox| {
            scenario::live(core, Rc::clone(&shared))
        });
        sim.run_until_done(node, Duration::from_secs(600));
        sim.trace_hash()
    };
    assert_eq!(hash(), hash());
}
