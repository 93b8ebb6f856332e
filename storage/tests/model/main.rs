//! A core's storage against a model, on a simulated disk that loses what was not synced. Each
//! case is a seed: a few lives of one node, with random work of all kinds and jobs that run while
//! the work goes on, each ended by a power loss in the middle of some disk operation, or by a
//! kill. After each restart every partition must be in a state that the model allows: at least
//! what was durable, at most what was staged, and nothing in between that never was.

mod checks;
mod partition;
mod scenario;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::{Options as SimOptions, Sim};

use scenario::{Shared, World};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
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
    shared.borrow().coverage
}

/// One life, then damage to one file of a kind, then a look at what is left.
fn run_damaged(seed: u64, kind: &str) -> scenario::Coverage {
    let sim = Sim::new(SimOptions::seeded(seed));
    let shared: Shared = Rc::new(RefCell::new(World::new(seed, 150)));
    let start = || {
        let world = Rc::clone(&shared);
        sim.start::<(), _, _>("node", 1, move |core, _post, _inbox| {
            scenario::live(core, Rc::clone(&world))
        })
    };
    let node = start();
    assert!(
        sim.run_until_done(node, Duration::from_secs(600)),
        "seed {seed}: does not end"
    );
    sim.kill(node);
    let files: Rc<RefCell<Vec<(PathBuf, u64)>>> = Rc::default();
    let list = Rc::clone(&files);
    let client = sim.start::<(), _, _>("node", 1, move |core, _post, _inbox| {
        let list = Rc::clone(&list);
        async move {
            let mut stack = vec![PathBuf::from("/data")];
            while let Some(path) = stack.pop() {
                for entry in core.disk().read_dir(&path).await.expect("it is there") {
                    let inner = path.join(&entry.name);
                    match entry.is_dir {
                        true => stack.push(inner),
                        false => list.borrow_mut().push((inner, entry.len)),
                    }
                }
            }
        }
    });
    sim.run_until_done(client, Duration::from_secs(60));
    sim.kill(client);
    let mut files = files.take();
    files.sort();
    files.retain(|(path, bytes)| path.to_string_lossy().contains(kind) && *bytes > 0);
    let mut fate = Random(seed ^ 0xda3a9e);
    let all = kind == "checkpoint" && fate.one_in(2);
    let chosen = fate.below(files.len() as u64) as usize;
    for (i, (path, bytes)) in files.iter().enumerate() {
        if all || i == chosen {
            // All in one page: of two blocks at the very end nobody could tell that they were.
            let page = fate.below(*bytes) & !4095;
            for _ in 0..1 + fate.below(3) {
                let at = page + fate.below(4096.min(*bytes - page));
                sim.flip_bit(node, path, at, fate.below(8) as u8);
            }
        }
    }
    shared.borrow_mut().damaged = true;
    let node = start();
    assert!(
        sim.run_until_done(node, Duration::from_secs(600)),
        "seed {seed}: does not end"
    );
    shared.borrow().coverage
}

fn run_seeds(seeds: std::ops::Range<u64>, lives: u32, ops: u32) {
    let total = total(seeds, |seed| run_case(seed, lives, ops));
    println!("{total:?}");
    total.check();
}

fn total(
    seeds: std::ops::Range<u64>,
    run: impl Fn(u64) -> scenario::Coverage + std::panic::RefUnwindSafe,
) -> scenario::Coverage {
    let mut total = scenario::Coverage::default();
    for seed in seeds {
        let case = std::panic::catch_unwind(|| run(seed));
        match case {
            Ok(coverage) => total.add(&coverage),
            Err(panic) => {
                eprintln!("seed {seed} failed");
                std::panic::resume_unwind(panic);
            }
        }
    }
    total
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

/// Seeds that once found a bug.
#[test]
fn seeds_that_were_red_stay_green() {
    for seed in [2, 4, 66, 98, 101, 161, 262, 334, 463, 22_948] {
        run_case(seed, 4, 120);
    }
    for seed in [85, 317, 571, 778, 16_071] {
        run_damaged(seed, ".journal");
        run_damaged(seed, "checkpoint");
    }
}

#[test]
fn long_lives() {
    run_seeds(seeds(1_000_000..1_000_010), 2, 3000);
}

#[test]
fn damage_to_the_journal_fences_and_never_lies() {
    let total = total(seeds(0..150), |seed| run_damaged(seed, ".journal"));
    println!("{total:?}");
    assert!(
        total.fenced > 0 && total.healthy_beside_damage > total.fenced,
        "{total:?}"
    );
}

#[test]
fn damage_to_a_checkpoint_falls_back() {
    let total = total(seeds(0..150), |seed| run_damaged(seed, "checkpoint"));
    println!("{total:?}");
    assert!(
        total.rebuilt > 0 && total.healthy_beside_damage > 0,
        "{total:?}"
    );
}

#[test]
fn damage_to_segments_is_seen_by_readers() {
    let total = total(seeds(0..150), |seed| run_damaged(seed, ".segment"));
    println!("{total:?}");
    assert!(
        total.failed_reads > 0 && total.healthy_beside_damage > 0,
        "{total:?}"
    );
}

#[test]
fn damage_to_an_index_does_not_matter() {
    let total = total(seeds(0..150), |seed| run_damaged(seed, ".index"));
    println!("{total:?}");
    assert_eq!((total.fenced, total.failed_reads), (0, 0));
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
