//! The simulated disk against a model of what a disk may do, over many seeds, and its faults one
//! by one. A disk that is too kind fails here as well as one that is too cruel.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use runtime::sim::{NodeId, Options, Sim};
use runtime::{ALIGN, Core, Durability, File, Inbox, OpenOptions, Post, join_all, timeout};

const SECOND: Duration = Duration::from_secs(1);
const SECTOR: usize = 512;
/// Sectors of the model's file.
const SECTORS: usize = 64;

/// Runs `main` on a single-core node until it ends by itself or the node crashes.
fn run<F, Fut>(sim: &Sim, name: &str, main: F) -> NodeId
where
    F: Fn(Core) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let node = sim.start(name, 1, move |core: Core, _: Post<()>, _: Inbox<()>| {
        main(core)
    });
    assert!(
        sim.run_until_done(node, SECOND * 1000),
        "seed {}",
        sim.seed()
    );
    node
}

async fn open(core: &Core, path: &str) -> File {
    core.disk()
        .open(Path::new(path), OpenOptions::CREATE)
        .await
        .unwrap()
}

/// What the disk may hold: per sector the value that is durable and those that may be.
#[derive(Clone, Default)]
struct Model {
    durable: BTreeMap<usize, u64>,
    perhaps: BTreeMap<usize, BTreeSet<u64>>,
    seen: BTreeMap<usize, u64>,
    /// Sectors of completed, unsynced writes.
    dirty: BTreeMap<usize, u64>,
    durable_len: usize,
    seen_len: usize,
    next_value: u64,
}

impl Model {
    fn submit(&mut self, sectors: std::ops::Range<usize>) -> u64 {
        self.next_value += 1;
        for sector in sectors {
            self.perhaps
                .entry(sector)
                .or_default()
                .insert(self.next_value);
        }
        self.next_value
    }

    fn complete(&mut self, sectors: std::ops::Range<usize>, value: u64, durability: Durability) {
        self.seen_len = self.seen_len.max(sectors.end);
        if durability == Durability::Synced {
            self.durable_len = self.durable_len.max(sectors.end);
        }
        for sector in sectors {
            self.seen.insert(sector, value);
            self.dirty.insert(sector, value);
            if durability == Durability::Synced {
                self.settle(sector, value);
            }
        }
    }

    fn settle(&mut self, sector: usize, value: u64) {
        self.durable.insert(sector, value);
        self.perhaps.remove(&sector);
        self.dirty.remove(&sector);
    }

    /// A sync that was awaited after every write before it.
    fn sync(&mut self) {
        self.durable_len = self.seen_len;
        for (sector, value) in std::mem::take(&mut self.dirty) {
            self.settle(sector, value);
        }
    }
}

fn fill(value: u64, sectors: usize) -> Bytes {
    Bytes::from(value.to_le_bytes().repeat(sectors * SECTOR / 8))
}

/// The value of one sector, which must be whole.
fn value_of(sector: &[u8]) -> u64 {
    let value = u64::from_le_bytes(sector[..8].try_into().unwrap());
    assert_eq!(sector, &fill(value, 1)[..], "a sector is torn");
    value
}

/// Random writes and syncs until the power fails; one of them may be in flight then, with others.
async fn work(core: Core, model: Rc<RefCell<Model>>) {
    let file = open(&core, "/file").await;
    core.disk().sync_dir(Path::new("/")).await.unwrap();
    loop {
        match core.random() % 8 {
            0 => {
                file.sync_data().await.unwrap();
                model.borrow_mut().sync();
            }
            1 => {
                let content = file.read_at(0, SECTORS * SECTOR).await.unwrap();
                let model = model.borrow();
                assert_eq!(content.len(), model.seen_len * SECTOR);
                for (number, sector) in content.chunks(SECTOR).enumerate() {
                    assert_eq!(value_of(sector), *model.seen.get(&number).unwrap_or(&0));
                }
            }
            kind => {
                let durability = if kind == 2 {
                    Durability::Synced
                } else {
                    Durability::Volatile
                };
                // Two disjoint writes at once, so that they may overtake each other.
                let halves = [0, SECTORS / 2].map(|base| {
                    let start = base + core.random() as usize % (SECTORS / 2);
                    let room = base + SECTORS / 2 - start;
                    start..start + 1 + core.random() as usize % room
                });
                join_all(halves.map(|sectors| {
                    let (file, model) = (&file, &model);
                    async move {
                        let value = model.borrow_mut().submit(sectors.clone());
                        let offset = (sectors.start * SECTOR) as u64;
                        let data = fill(value, sectors.len());
                        file.write_at(data, offset, durability).await.unwrap();
                        model.borrow_mut().complete(sectors, value, durability);
                    }
                }))
                .await;
            }
        }
    }
}

/// What became of unsynced data at a crash, summed over seeds.
#[derive(Default, Debug)]
struct Fates {
    kept: usize,
    lost: usize,
    torn: usize,
    shortened: usize,
    lengthened: usize,
}

/// Compares the disk after a crash with the model; returns the model of what is there now.
fn check(content: &[u8], model: &Model, fates: &mut Fates, seed: u64) -> Model {
    let len = content.len() / SECTOR;
    assert_eq!(content.len() % SECTOR, 0);
    assert!(
        len >= model.durable_len,
        "seed {seed}: {len} < {} durable",
        model.durable_len
    );
    fates.shortened += usize::from(len < model.seen_len);
    fates.lengthened += usize::from(len > model.durable_len);
    let mut found: BTreeMap<u64, usize> = BTreeMap::new();
    // Values that were beaten in a sector by an older one: not overtaken, but torn.
    let mut beaten: BTreeSet<u64> = BTreeSet::new();
    let mut now = Model {
        durable_len: len,
        seen_len: len,
        ..Model::default()
    };
    now.next_value = model.next_value;
    for (number, sector) in content.chunks(SECTOR).enumerate() {
        let value = value_of(sector);
        let durable = *model.durable.get(&number).unwrap_or(&0);
        let perhaps = model.perhaps.get(&number);
        let allowed = value == durable || perhaps.is_some_and(|p| p.contains(&value));
        assert!(
            allowed,
            "seed {seed}: sector {number} holds {value}, not {durable} or {perhaps:?}"
        );
        beaten.extend(
            perhaps
                .into_iter()
                .flatten()
                .filter(|newer| **newer > value),
        );
        if value != durable {
            *found.entry(value).or_default() += 1;
        }
        if value != 0 {
            now.durable.insert(number, value);
            now.seen.insert(number, value);
        }
    }
    let mut pending: BTreeMap<u64, usize> = BTreeMap::new();
    for value in model.perhaps.values().flatten() {
        *pending.entry(*value).or_default() += 1;
    }
    for (value, count) in pending {
        match found.get(&value) {
            Some(&kept) if kept == count => fates.kept += 1,
            Some(_) => fates.torn += usize::from(beaten.contains(&value)),
            None => fates.lost += 1,
        }
    }
    now
}

#[test]
fn crashes_keep_what_is_durable_and_nothing_else_for_sure() {
    let mut fates = Fates::default();
    for seed in 0..300 {
        let sim = Sim::new(Options::seeded(seed));
        let model = Rc::new(RefCell::new(Model::default()));
        for life in 1..=3u64 {
            let node = sim.node("n");
            let begun = node.map_or(0, |node| sim.disk_ops(node));
            let (shared, crash_after) = (Rc::clone(&model), seed % 60 + 4 * life);
            let control = sim.clone();
            let node = sim.start("n", 1, move |core: Core, _: Post<()>, _| {
                let shared = Rc::clone(&shared);
                control.crash_at_op(control.node("n").unwrap(), begun + crash_after);
                work(core, shared)
            });
            assert!(
                sim.run_until_done(node, SECOND * 100),
                "seed {seed} never crashed"
            );
            let content = sim.durable(node, "/file", 0, 1 << 20).unwrap_or_default();
            let known = model.replace(Model::default());
            *model.borrow_mut() = check(&content, &known, &mut fates, seed);
        }
    }
    println!("{fates:?}");
    let Fates {
        kept,
        lost,
        torn,
        shortened,
        lengthened,
    } = fates;
    let counts = [kept, lost, torn, shortened, lengthened];
    assert!(
        counts.iter().all(|&n| n > 20),
        "the disk is too kind or too cruel: {counts:?}"
    );
}

#[test]
fn the_oracle_sees_a_synced_write_at_its_completion_and_no_other() {
    let sim = Sim::new(Options::seeded(1));
    let control = sim.clone();
    let node = run(&sim, "n", move |core| {
        let control = control.clone();
        async move {
            let me = control.node("n").unwrap();
            let held = |len| control.durable(me, "/f", 0, len);
            let file = open(&core, "/f").await;
            assert_eq!(held(9), None, "a name before its directory's sync");
            core.disk().sync_dir(Path::new("/")).await.unwrap();
            assert_eq!(held(9), Some(Vec::new()));
            file.write_at(Bytes::from_static(b"one"), 0, Durability::Volatile)
                .await
                .unwrap();
            assert_eq!(held(9), Some(Vec::new()));
            file.write_at(Bytes::from_static(b"two"), 3, Durability::Synced)
                .await
                .unwrap();
            assert_eq!(held(9), Some(b"\0\0\0two".to_vec()));
            file.sync_data().await.unwrap();
            assert_eq!(held(9), Some(b"onetwo".to_vec()));
            assert_eq!(control.durable_len(me, "/f"), Some(6));
            file.set_len(3).await.unwrap();
            assert_eq!(held(9), Some(b"onetwo".to_vec()));
            file.write_at(Bytes::from_static(b"T"), 0, Durability::Synced)
                .await
                .unwrap();
            assert_eq!(
                held(9),
                Some(b"Tne".to_vec()),
                "a cut goes with a later synced write"
            );
        }
    });
    assert_eq!(sim.durable(node, "/f", 0, 9), Some(b"Tne".to_vec()));
}

#[test]
fn a_write_in_flight_during_a_sync_is_not_covered_by_it() {
    let mut uncovered = 0;
    for seed in 0..50 {
        let sim = Sim::new(Options::seeded(seed));
        run(&sim, "n", |core| async move {
            let file = open(&core, "/f").await;
            core.disk().sync_dir(Path::new("/")).await.unwrap();
            let data = Bytes::from_static(b"late");
            let (write, sync) = (
                file.write_at(data, 0, Durability::Volatile),
                file.sync_data(),
            );
            let (write, sync) = (Box::pin(write), Box::pin(sync));
            let both: Vec<std::pin::Pin<Box<dyn Future<Output = _>>>> = vec![write, sync];
            for done in join_all(both).await {
                done.unwrap();
            }
        });
        let node = sim.node("n").unwrap();
        uncovered += usize::from(sim.durable(node, "/f", 0, 9) == Some(Vec::new()));
    }
    assert_eq!(uncovered, 50);
}

#[test]
fn names_are_durable_after_the_sync_of_their_directory() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..200 {
        let sim = Sim::new(Options::seeded(seed));
        let node = run(&sim, "n", |core| async move {
            let disk = core.disk();
            disk.create_dir_all(Path::new("/d")).await.unwrap();
            for name in ["/d/a", "/d/b", "/d/c"] {
                open(&core, name).await.sync_all().await.unwrap();
            }
            disk.sync_dir(Path::new("/d")).await.unwrap();
            disk.rename(Path::new("/d/a"), Path::new("/d/a2"))
                .await
                .unwrap();
            disk.remove_file(Path::new("/d/b")).await.unwrap();
            open(&core, "/d/new").await.sync_all().await.unwrap();
        });
        // The node has ended by itself, and its disk has lost nothing yet.
        assert_eq!(sim.durable_len(node, "/d/a"), Some(0));
        let names = Rc::new(RefCell::new(Vec::new()));
        let found = Rc::clone(&names);
        sim.crash(node);
        run(&sim, "n", move |core| {
            let found = Rc::clone(&found);
            async move {
                let entries = core.disk().read_dir(Path::new("/d")).await.unwrap();
                *found.borrow_mut() = entries.into_iter().map(|e| e.name).collect();
            }
        });
        let names: Vec<String> = names.take();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // A prefix of rename, remove, create; each of them whole.
        match names[..] {
            ["a", "b", "c"] => lost += 1,
            ["a2", "b", "c"] | ["a2", "c"] => {}
            ["a2", "c", "new"] => kept += 1,
            _ => panic!("seed {seed}: {names:?}"),
        }
    }
    assert!(lost > 20 && kept > 20, "{lost} lost, {kept} kept");
}

#[test]
fn replace_is_atomic_wherever_the_power_fails() {
    for seed in 0..40 {
        let mut crashed = 0;
        for nth in 1.. {
            let sim = Sim::new(Options::seeded(seed));
            let returned = Rc::new(Cell::new(false));
            let path = Path::new("/conf/state");
            let node = run(&sim, "n", move |core| async move {
                core.disk()
                    .create_dir_all(Path::new("/conf"))
                    .await
                    .unwrap();
                core.disk().replace(path, &[1; 3000]).await.unwrap();
            });
            let begun = sim.disk_ops(node);
            sim.crash(node);
            sim.crash_at_op(node, begun + nth);
            let flag = Rc::clone(&returned);
            run(&sim, "n", move |core| {
                let flag = Rc::clone(&flag);
                async move {
                    core.disk().replace(path, &[2; 2000]).await.unwrap();
                    flag.set(true);
                }
            });
            sim.crash(node);
            let content = sim.durable(node, path, 0, 9999).expect("the file is gone");
            if returned.get() {
                assert_eq!(
                    content, [2; 2000],
                    "seed {seed}: an acknowledged state is lost"
                );
                break;
            }
            crashed += 1;
            assert!(
                content == [1; 3000] || content == [2; 2000],
                "seed {seed}, operation {nth}: {} bytes of neither state",
                content.len()
            );
        }
        assert!(crashed >= 5, "only {crashed} operations");
    }
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next() {
    let mut lost = 0;
    for seed in 0..50 {
        let sim = Sim::new(Options::seeded(seed));
        let control = sim.clone();
        let node = run(&sim, "n", move |core| {
            let control = control.clone();
            async move {
                let me = control.node("n").unwrap();
                let file = open(&core, "/f").await;
                core.disk().sync_dir(Path::new("/")).await.unwrap();
                file.write_at(fill(7, 4), 0, Durability::Volatile)
                    .await
                    .unwrap();
                control.fail_op(me, control.disk_ops(me) + 1, ErrorKind::Other);
                assert!(file.sync_data().await.is_err());
                file.sync_data().await.unwrap();
                assert_eq!(
                    file.read_at(0, 4096).await.unwrap(),
                    fill(7, 4),
                    "readers see it"
                );
            }
        });
        lost += usize::from(sim.durable(node, "/f", 0, 4096).unwrap() != fill(7, 4));
    }
    assert!(lost > 20, "{lost} of 50");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let sim = Sim::new(Options::seeded(1));
    let control = sim.clone();
    run(&sim, "n", move |core| {
        let control = control.clone();
        async move {
            let me = control.node("n").unwrap();
            control.set_capacity(me, Some(10 * ALIGN as u64));
            let disk = core.disk();
            let old = open(&core, "/old").await;
            old.allocate(0, 8 * ALIGN as u64).await.unwrap();
            let space = disk.space(Path::new("/")).await.unwrap();
            assert_eq!(space.available_bytes, 2 * ALIGN as u64);
            let new = open(&core, "/new").await;
            let block = |n| Bytes::from(vec![1; n * ALIGN]);
            new.write_at(block(2), 0, Durability::Synced).await.unwrap();
            let full = new
                .write_at(block(1), 2 * ALIGN as u64, Durability::Synced)
                .await;
            assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
            assert_eq!(new.len().await.unwrap(), 2 * ALIGN as u64);
            let full = old.allocate(8 * ALIGN as u64, 1).await.unwrap_err();
            assert_eq!(full.kind(), ErrorKind::StorageFull);
            // Space that is taken already can be rewritten.
            new.write_at(block(1), 0, Durability::Synced).await.unwrap();
            old.write_at(block(8), 0, Durability::Synced).await.unwrap();
            drop(old);
            disk.remove_file(Path::new("/old")).await.unwrap();
            disk.sync_dir(Path::new("/")).await.unwrap();
            new.write_at(block(1), 2 * ALIGN as u64, Durability::Synced)
                .await
                .unwrap();
        }
    });
}

#[test]
fn disks_stall_slow_down_and_err_when_told_to() {
    let sim = Sim::new(Options::seeded(1));
    let control = sim.clone();
    run(&sim, "n", move |core| {
        let control = control.clone();
        async move {
            let me = control.node("n").unwrap();
            let file = open(&core, "/f").await;
            let write = || file.write_at(fill(1, 1), 0, Durability::Synced);
            control.stall_disk(me, SECOND);
            let begun = core.now();
            assert!(timeout(&core, SECOND / 2, write()).await.is_err());
            write().await.unwrap();
            assert!(core.now() - begun >= SECOND);
            control.slow_disk(me, 1000);
            let begun = core.now();
            write().await.unwrap();
            assert!(core.now() - begun >= Duration::from_millis(80));
            control.slow_disk(me, 1);
            control.set_disk_errors(me, 500_000);
            let mut failed = 0;
            for _ in 0..100 {
                failed += usize::from(write().await.is_err());
            }
            assert!((20..80).contains(&failed), "{failed}");
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_that_was_completed() {
    for seed in 0..50 {
        let sim = Sim::new(Options::seeded(seed));
        let written = Rc::new(Cell::new(0u64));
        let count = Rc::clone(&written);
        let node = sim.start("n", 1, move |core: Core, _: Post<()>, _| {
            let count = Rc::clone(&count);
            async move {
                let file = open(&core, "/f").await;
                loop {
                    let n = count.get();
                    file.write_at(fill(n + 1, 1), n * 512, Durability::Volatile)
                        .await
                        .unwrap();
                    count.set(n + 1);
                }
            }
        });
        sim.run_for(Duration::from_micros(1000 + seed * 97));
        sim.kill(node);
        let count = written.get() as usize;
        assert!(count > 3);
        run(&sim, "n", move |core| async move {
            let content = open(&core, "/f").await.read_at(0, 1 << 20).await.unwrap();
            assert!(content.len() / 512 == count || content.len() / 512 == count + 1);
            for (i, sector) in content.chunks(512).enumerate() {
                assert_eq!(value_of(sector), i as u64 + 1);
            }
        });
    }
}

#[test]
fn nothing_happens_after_the_operation_that_crashes() {
    for seed in 0..20 {
        let sim = Sim::new(Options::seeded(seed));
        let after = Rc::new(Cell::new(false));
        let flag = Rc::clone(&after);
        let control = sim.clone();
        let node = sim.start("n", 2, move |core: Core, _: Post<()>, _| {
            let (flag, control) = (Rc::clone(&flag), control.clone());
            async move {
                let me = control.node("n").unwrap();
                let path = format!("/{}", core.id());
                let file = open(&core, &path).await;
                core.disk().sync_dir(Path::new("/")).await.unwrap();
                if core.id() == 0 {
                    control.crash_at_op(me, control.disk_ops(me) + 3);
                    let fatal =
                        (0..5).map(|i| file.write_at(fill(i, 1), i * 512, Durability::Synced));
                    join_all(fatal).await;
                    flag.set(true);
                }
                pending::<()>().await;
            }
        });
        sim.run_for(SECOND);
        assert!(!sim.is_up(node) && !after.get(), "seed {seed}");
        let content = sim.durable(node, "/0", 0, 9999).unwrap();
        assert!(
            content.len() <= 3 * 512,
            "seed {seed}: a later operation took place"
        );
    }
}

#[test]
fn damage_is_done_where_it_is_ordered() {
    let sim = Sim::new(Options::seeded(1));
    let node = run(&sim, "n", |core| async move {
        core.disk()
            .replace(Path::new("/f"), &[0; 10])
            .await
            .unwrap();
    });
    assert!(sim.flip_bit(node, "/f", 4, 3));
    assert!(!sim.flip_bit(node, "/f", 10, 0));
    assert_eq!(sim.durable(node, "/f", 3, 3), Some(vec![0, 8, 0]));
    sim.wipe_disk(node);
    assert_eq!(sim.durable(node, "/f", 0, 9), None);
}

#[test]
fn a_copy_of_a_disk_has_what_was_durable_and_can_be_put_back() {
    let sim = Sim::new(Options::seeded(1));
    let write = |content: &'static [u8; 3]| {
        move |core: Core| async move {
            let disk = core.disk();
            disk.replace(Path::new("/f"), content).await.unwrap();
            // Its name is never synced.
            open(&core, "/unsynced").await;
        }
    };
    let node = run(&sim, "n", write(b"old"));
    let old = sim.copy_disk(node);
    sim.wipe_disk(node);
    run(&sim, "n", write(b"new"));
    let new = sim.copy_disk(node);
    for (copy, content) in [(&old, b"old"), (&new, b"new"), (&old, b"old")] {
        sim.replace_disk(node, copy);
        assert_eq!(sim.durable(node, "/f", 0, 9), Some(content.to_vec()));
        run(&sim, "n", move |core| async move {
            let read = core.disk().read_to_end(Path::new("/f")).await.unwrap();
            assert_eq!(read, content.to_vec());
            let exists = core.disk().exists(Path::new("/unsynced")).await;
            assert!(!exists.unwrap(), "what was not synced is in no copy");
        });
    }
}

#[test]
fn open_files_outlive_their_names() {
    let sim = Sim::new(Options::seeded(1));
    run(&sim, "n", |core| async move {
        let file = open(&core, "/f").await;
        file.write_at(fill(5, 1), 0, Durability::Volatile)
            .await
            .unwrap();
        core.disk().remove_file(Path::new("/f")).await.unwrap();
        core.disk().sync_dir(Path::new("/")).await.unwrap();
        assert!(!core.disk().exists(Path::new("/f")).await.unwrap());
        let (read, other) = (file.clone(), file);
        drop(other);
        assert_eq!(read.read_at(0, 512).await.unwrap(), fill(5, 1));
        // A read whose file is closed before it completes.
        let reading = core.spawn_task("reader", async move { read.read_at(0, 512).await });
        core.yield_now().await;
        drop(reading);
        core.sleep(SECOND).await;
        assert_eq!(core.stats().ops_in_flight, 0);
    });
}

#[test]
fn directory_operations_answer_like_the_kernel() {
    let sim = Sim::new(Options::seeded(1));
    run(&sim, "n", |core| async move {
        let disk = core.disk();
        let p = Path::new;
        disk.create_dir_all(p("data/x/y")).await.unwrap();
        disk.create_dir_all(p("/data/x")).await.unwrap();
        open(&core, "data/x/f").await;
        let kinds = [
            disk.open(p("/data/none"), OpenOptions::READ).await.err(),
            disk.open(p("/data/x/f"), OpenOptions::CREATE_NEW)
                .await
                .err(),
            disk.open(p("/data/x/f/g"), OpenOptions::CREATE).await.err(),
            disk.remove_file(p("/data/x")).await.err(),
            disk.rename(p("/data/x/f"), p("/data/x/y")).await.err(),
        ];
        let kinds: Vec<ErrorKind> = kinds.into_iter().map(|e| e.unwrap().kind()).collect();
        assert_eq!(
            kinds,
            [
                ErrorKind::NotFound,
                ErrorKind::AlreadyExists,
                ErrorKind::NotADirectory,
                ErrorKind::IsADirectory,
                ErrorKind::IsADirectory,
            ]
        );
        let read_only = disk.open(p("/data/x/f"), OpenOptions::READ).await.unwrap();
        let refused = read_only
            .write_at(fill(1, 1), 0, Durability::Volatile)
            .await;
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(9));
        disk.remove_dir_all(p("/data")).await.unwrap();
        assert!(disk.read_dir(p("/")).await.unwrap().is_empty());
    });
}
