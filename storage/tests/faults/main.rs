//! What happens at the limits: disks that fail or fill up, journals that fill up, a changed
//! number of cores, ten thousand partitions. Each test says one sentence about it.

mod node;
mod reset;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use node::{DATA, Node, id, live, options, world};
use runtime::Core;
use storage::{
    Condition, DataDir, EntryKind, HardState, JournalError, NodeIdentity, Options, PartitionId,
    Refusal, StageError, owner,
};

#[test]
fn a_failed_journal_write_fences_and_is_never_retried() {
    let sim = world(1);
    let name = live(&sim, |core| async move {
        let mut node = Node::start(&core, options()).await;
        node.append(id(0), 1, 10).unwrap();
        node.turn().await.unwrap();
    });
    let control = (*sim).clone();
    live(&sim, move |core| {
        let control = control.clone();
        async move {
            let mut node = Node::start(&core, options()).await;
            node.append(id(0), 2, 10).unwrap();
            control.fail_op(name, control.disk_ops(name) + 1, ErrorKind::Other);
            assert!(matches!(node.turn().await, Err(JournalError::Write(_))));
            assert_eq!(node.journal.refuses(), Some(Refusal::Failed));
            let refused = node.append(id(0), 3, 10);
            assert_eq!(refused, Err(StageError::Refused(Refusal::Failed)));
            assert!(
                node.journal.seal().is_none(),
                "nothing is written after a failure"
            );
            assert_eq!(node.journal.durable_turn(), 0);
        }
    });
    live(&sim, |core| async move {
        let node = Node::start(&core, options()).await;
        let marks = node.marks(id(0)).await;
        assert!(marks == [1] || marks == [1, 2], "{marks:?}");
    });
}

#[test]
fn a_full_journal_refuses_and_goes_on_when_it_is_drained() {
    let sim = world(2);
    live(&sim, |core| async move {
        let mut node = Node::start(&core, options()).await;
        let mut mark = 0;
        for round in 0..5 {
            while node.journal.refuses().is_none() {
                mark += 1;
                node.append(id(mark as u32 % 3), mark, 2000).unwrap();
                node.turn().await.unwrap();
                node.prepare().await.unwrap();
            }
            assert_eq!(node.journal.refuses(), Some(Refusal::Full), "round {round}");
            assert!(node.journal.stats().journal_total_bytes <= options().journal_bytes_max);
            // What was accepted before still fits, for a while.
            mark += 1;
            node.append(id(mark as u32 % 3), mark, 2000).unwrap();
            node.commit_all();
            assert!(node.journal.chores().sweep && node.journal.chores().checkpoint);
            let held = node.journal.sweep(node.logs.values_mut()).drains;
            assert_eq!(held.len(), 3, "every log holds back a file");
            node.drain_all().await.unwrap();
            node.checkpoint().await.unwrap();
            node.checkpoint().await.unwrap();
        }
        assert_eq!(node.journal.refuses(), None);
        for partition in 0..3 {
            let want: Vec<u64> = (1..=mark)
                .filter(|m| m % 3 == u64::from(partition))
                .collect();
            assert_eq!(node.marks(id(partition)).await, want);
        }
    });
}

/// The first start was killed when it had made the directory, and a power loss follows the second.
#[test]
fn a_data_directory_that_a_killed_start_has_made_is_durable() {
    let sim = world(22);
    let control = (*sim).clone();
    let name = live(&sim, |core| async move {
        core.disk().create_dir_all(Path::new(DATA)).await.unwrap();
    });
    live(&sim, move |core| {
        let control = control.clone();
        async move {
            open(&core, 1).await;
            let mut node = Node::start(&core, options()).await;
            node.append(id(0), 1, 10).unwrap();
            node.turn().await.unwrap();
            let durable = control.durable_files(name);
            assert!(durable.iter().any(|f| f.starts_with(DATA)), "{durable:?}");
        }
    });
}

/// Also where exactly the reserve is left: one byte less must not be needed to begin making room.
#[test]
fn a_journal_that_refuses_calls_for_what_makes_room() {
    for refusal in [Refusal::Full, Refusal::DiskFull] {
        let sim = world(20);
        let control = (*sim).clone();
        let name = live(&sim, |core| async move {
            Node::start(&core, options()).await;
        });
        live(&sim, move |core| {
            let control = control.clone();
            async move {
                if refusal == Refusal::DiskFull {
                    control.set_capacity(name, Some(120 << 10));
                }
                let never_by_size = Options {
                    checkpoint_bytes: u64::MAX,
                    ..options()
                };
                let mut node = Node::start(&core, never_by_size).await;
                let mut mark = 0;
                while node.journal.refuses().is_none() {
                    mark += 1;
                    node.append(id(0), mark, 2000).unwrap();
                    node.turn().await.unwrap();
                    let _ = node.prepare().await;
                }
                assert_eq!(node.journal.refuses(), Some(refusal));
                node.commit_all();
                let chores = node.journal.chores();
                assert!(chores.sweep && chores.checkpoint, "{refusal:?}: {chores:?}");
                let swept = node.journal.sweep(node.logs.values_mut());
                assert_eq!(swept.drains, [id(0)]);
            }
        });
    }
}

/// A group without a majority commits nothing, so nothing of it is drained: its core's journal must not stop for that.
#[test]
fn what_waits_for_its_commit_does_not_hold_the_journal_back() {
    const WAITING: u64 = 10;
    let sim = world(24);
    live(&sim, |core| async move {
        let mut node = Node::start(&core, options()).await;
        for mark in 1..=WAITING {
            node.append(id(0), mark, 700).unwrap();
        }
        // More than the journal holds, several times over.
        for mark in 0..400 {
            node.append(id(1), mark, 2000).unwrap();
            node.turn().await.unwrap();
            node.prepare().await.unwrap();
            let log = node.logs.get_mut(&id(1)).unwrap();
            log.commit_to(log.last_index());
            log.applied_to(log.commit());
            for _ in 0..3 {
                let chores = node.journal.chores();
                if chores.sweep {
                    node.journal.sweep(node.logs.values_mut());
                    node.drain_all().await.unwrap();
                }
                if chores.checkpoint {
                    node.checkpoint().await.unwrap();
                }
            }
            assert_eq!(node.journal.refuses(), None, "after {mark}");
        }
        let in_journal = node.journal.stats().journal_bytes;
        assert!(in_journal > 3 * options().journal_bytes_max);
    });
    live(&sim, |core| async move {
        let mut node = Node::start(&core, options()).await;
        let waiting: Vec<u64> = (1..=WAITING).collect();
        assert_eq!(node.marks(id(0)).await, waiting);
        // A new leader has another end of the log.
        let log = node.logs.get_mut(&id(0)).unwrap();
        let other = node::batch(77, 50);
        let staged = node
            .journal
            .stage_entry(log, 2, 6, EntryKind::Batch, &other);
        staged.unwrap();
        node.turn().await.unwrap();
        node.commit_all();
        node.drain_all().await.unwrap();
        node.turn().await.unwrap();
    });
    live(&sim, |core| async move {
        let node = Node::start(&core, options()).await;
        assert_eq!(node.marks(id(0)).await, [1, 2, 3, 4, 5, 77]);
        assert_eq!(node.marks(id(1)).await.len(), 400);
    });
}

/// The files of a young journal are small; one entry may be larger than any of them.
#[test]
fn an_entry_larger_than_the_files_at_hand_gets_one_of_its_own() {
    let sim = world(23);
    live(&sim, |core| async move {
        let young = Options {
            journal_bytes_max: 1 << 20,
            journal_first_file_bytes: 16 << 10,
            journal_file_bytes: 256 << 10,
            entry_bytes_max: 100 << 10,
            ..options()
        };
        let mut node = Node::start(&core, young).await;
        node.prepare().await.unwrap();
        node.append(id(0), 1, 10).unwrap();
        node.turn().await.unwrap();
        let refused = node.append(id(0), 2, 99 << 10);
        assert_eq!(refused, Err(StageError::Refused(Refusal::Full)));
        assert!(node.journal.chores().prepare, "it asks for what it lacks");
        node.prepare().await.unwrap();
        node.append(id(0), 2, 99 << 10).unwrap();
        node.turn().await.unwrap();
    });
    live(&sim, |core| async move {
        let node = Node::start(&core, options()).await;
        assert_eq!(node.marks(id(0)).await, [1, 2]);
    });
}

/// With the journal full to the last byte, drains cannot even be noted; checkpoints still free it.
#[test]
fn a_journal_without_room_for_a_marker_recovers_by_a_checkpoint() {
    let sim = world(3);
    live(&sim, |core| async move {
        let mut node = Node::start(&core, options()).await;
        node.prepare().await.unwrap();
        let mut mark = 0;
        while node.append(id(0), mark + 1, 3000).is_ok() {
            mark += 1;
            node.turn().await.unwrap();
        }
        let mut vote = 0;
        loop {
            vote += 1;
            let log = node.logs.get_mut(&id(0)).unwrap();
            let hard_state = HardState {
                term: 9,
                vote,
                commit: 0,
            };
            if node.journal.stage_hard_state(log, hard_state).is_err() {
                break;
            }
            node.turn().await.unwrap();
        }
        node.commit_all();
        node.drain_all().await.unwrap();
        node.checkpoint().await.unwrap();
        node.checkpoint().await.unwrap();
        assert_eq!(node.journal.refuses(), None);
        node.append(id(0), mark + 1, 3000).unwrap();
        node.turn().await.unwrap();
        assert_eq!(node.marks(id(0)).await.len() as u64, mark + 1);
        assert_eq!(node.logs[&id(0)].hard_state().vote, vote - 1);
    });
}

#[test]
fn a_full_disk_refuses_cleanly_and_goes_on_when_there_is_space() {
    let sim = world(4);
    let control = (*sim).clone();
    let name = live(&sim, |core| async move {
        Node::start(&core, options()).await;
    });
    live(&sim, move |core| {
        let control = control.clone();
        async move {
            control.set_capacity(name, Some(120 << 10));
            let mut node = Node::start(&core, options()).await;
            let mut mark = 0;
            let mut full = None;
            while full.is_none() {
                mark += 1;
                if node.append(id(0), mark, 2000).is_err() {
                    break;
                }
                node.turn()
                    .await
                    .expect("journal space was written beforehand");
                let _ = node.prepare().await;
                full = node.journal.refuses();
            }
            assert_eq!(full, Some(Refusal::DiskFull));
            node.commit_all();
            control.set_capacity(name, Some(0));
            let drained = node.drain_all().await;
            assert_eq!(drained.unwrap_err().kind(), ErrorKind::StorageFull);
            let marks = node.marks(id(0)).await;
            control.set_capacity(name, None);
            node.prepare().await.unwrap();
            assert_eq!(node.journal.refuses(), None, "it goes on by itself");
            node.drain_all().await.unwrap();
            node.checkpoint().await.unwrap();
            assert_eq!(node.marks(id(0)).await, marks);
        }
    });
}

/// A journal that has all its files refuses because of the disk too when it cannot be drained for want of room: that
/// does not pass by waiting for a drain.
#[test]
fn a_full_journal_that_cannot_be_drained_says_that_the_disk_is_full() {
    let sim = world(21);
    let control = (*sim).clone();
    let name = live(&sim, |core| async move {
        Node::start(&core, options()).await;
    });
    live(&sim, move |core| {
        let control = control.clone();
        async move {
            let mut node = Node::start(&core, options()).await;
            node.fill().await;
            assert_eq!(node.journal.refuses(), Some(Refusal::Full));
            node.commit_all();
            control.set_capacity(name, Some(0));
            let drained = node.drain_all().await;
            assert_eq!(drained.unwrap_err().kind(), ErrorKind::StorageFull);
            assert_eq!(node.journal.refuses(), Some(Refusal::DiskFull));
            control.set_capacity(name, None);
            node.drain_all().await.unwrap();
            assert_eq!(node.journal.refuses(), Some(Refusal::Full));
            node.checkpoint().await.unwrap();
            node.checkpoint().await.unwrap();
            assert_eq!(node.journal.refuses(), None);
        }
    });
}

/// Nothing more is written to a journal that is full, so a checkpoint that fails has to call for the next one by itself.
#[test]
fn a_full_journal_goes_on_after_a_checkpoint_that_failed() {
    let sim = world(22);
    let control = (*sim).clone();
    let name = live(&sim, |core| async move {
        Node::start(&core, options()).await;
    });
    live(&sim, move |core| {
        let control = control.clone();
        async move {
            let mut node = Node::start(&core, options()).await;
            node.fill().await;
            node.commit_all();
            node.checkpoint().await.unwrap();
            node.checkpoint().await.unwrap();
            assert!(!node.journal.chores().checkpoint, "nothing is drained yet");
            node.drain_all().await.unwrap();
            node.turn().await.unwrap();
            control.set_capacity(name, Some(0));
            node.checkpoint().await.unwrap_err();
            control.set_capacity(name, None);
            let mut checkpoints = 0;
            while node.journal.chores().checkpoint {
                node.checkpoint().await.unwrap();
                checkpoints += 1;
            }
            assert_eq!(node.journal.refuses(), None, "after {checkpoints}");
        }
    });
}

/// What came after the damage could not be drained, and held the journal until that was full.
#[test]
fn a_damaged_segment_does_not_hold_the_journal() {
    let sim = world(23);
    let control = (*sim).clone();
    let name = live(&sim, |core| async move {
        let mut node = Node::start(&core, options()).await;
        node.append(id(0), 1, 500).unwrap();
        node.turn().await.unwrap();
        node.commit_all();
        node.drain_all().await.unwrap();
        node.checkpoint().await.unwrap();
    });
    live(&sim, move |core| {
        let control = control.clone();
        async move {
            let mut node = Node::start(&core, options()).await;
            let files = control.durable_files(name);
            let segment = files
                .iter()
                .find(|path| path.extension().is_some_and(|it| it == "segment"));
            let segment = segment.expect("it was drained");
            for byte in 0..4 {
                assert!(control.flip_bit(name, segment, byte, 0));
            }
            // An index that is not there is made anew from the frames.
            let index = segment.with_extension("index");
            core.disk().remove_file(&index).await.unwrap();
            node.append(id(0), 2, 500).unwrap();
            node.turn().await.unwrap();
            node.commit_all();
            let drained = node.drain_all().await;
            assert_eq!(drained.unwrap_err().kind(), ErrorKind::InvalidData);
            node.drain_all().await.expect("into another segment");
            assert_eq!(node.logs[&id(0)].undrained_bytes(), 0);
        }
    });
}

#[test]
fn a_drain_or_checkpoint_that_fails_is_tried_again() {
    let failures = Rc::new(Cell::new(0));
    for nth in 1..12 {
        let sim = world(100 + nth);
        let control = (*sim).clone();
        let seen = Rc::clone(&failures);
        let name = live(&sim, |core| async move {
            Node::start(&core, options()).await;
        });
        live(&sim, move |core| {
            let (control, seen) = (control.clone(), Rc::clone(&seen));
            async move {
                let mut node = Node::start(&core, options()).await;
                for mark in 1..=20 {
                    node.append(id(0), mark, 500).unwrap();
                }
                node.turn().await.unwrap();
                node.commit_all();
                control.fail_op(name, control.disk_ops(name) + nth, ErrorKind::Other);
                for _ in 0..3 {
                    seen.set(seen.get() + u32::from(node.drain_all().await.is_err()));
                    node.turn().await.expect("the failure is not the journal's");
                    seen.set(seen.get() + u32::from(node.checkpoint().await.is_err()));
                }
                assert_eq!(node.marks(id(0)).await, (1..=20).collect::<Vec<_>>());
            }
        });
        live(&sim, |core| async move {
            let node = Node::start(&core, options()).await;
            assert_eq!(node.marks(id(0)).await, (1..=20).collect::<Vec<_>>());
        });
    }
    assert!(failures.get() >= 5, "{} failures were seen", failures.get());
}

fn identity() -> NodeIdentity {
    NodeIdentity {
        node_id: 1,
        cluster_id: None,
        fresh: 0x1234_5678_9abc_def0_1122_3344 << 32,
    }
}

async fn open(core: &Core, cores: usize) -> DataDir {
    DataDir::open(core.disk(), Path::new(DATA), &identity(), cores, &options())
        .await
        .expect("it opens")
}

/// Every partition's marks, votes and state, over all cores.
async fn contents(core: &Core, cores: usize) -> BTreeMap<PartitionId, (Vec<u64>, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for index in 0..cores {
        let node = Node::start_core(core, index, cores, options()).await;
        for (partition, log) in &node.logs {
            assert_eq!(
                owner(*partition, cores),
                index,
                "{partition} is with its owner"
            );
            assert_eq!(*log.condition(), Condition::Healthy);
            let marks = node.marks(*partition).await;
            let state = node.states[partition].1.to_vec();
            found.insert(*partition, (marks, log.hard_state().vote, state));
        }
    }
    found
}

/// Some drained, some in a checkpoint, some in the journal only.
async fn fill_nine_partitions(core: &Core) {
    open(core, 1).await;
    let mut node = Node::start(core, options()).await;
    node.prepare().await.unwrap();
    for mark in 1..=40 {
        node.append(id(mark as u32 % 7), mark, 300).unwrap();
        node.vote(
            id(mark as u32 % 7),
            HardState {
                term: 1,
                vote: mark,
                commit: 0,
            },
        );
    }
    node.turn().await.unwrap();
    node.commit_all();
    node.drain_all().await.unwrap();
    node.checkpoint().await.unwrap();
    for mark in 41..=60 {
        node.append(id(mark as u32 % 9), mark, 300).unwrap();
    }
    node.turn().await.unwrap();
}

/// From one core to three, to two, with a power loss at any operation of the move.
#[test]
fn partitions_move_to_new_owners_whatever_happens() {
    let mut crashes = 0;
    for seed in 0..60 {
        let sim = world(1000 + seed);
        let control = (*sim).clone();
        let truth = Rc::new(RefCell::new(BTreeMap::new()));
        let told = Rc::clone(&truth);
        let name = live(&sim, move |core| {
            let told = Rc::clone(&told);
            async move {
                fill_nine_partitions(&core).await;
                told.replace(contents(&core, 1).await);
            }
        });
        assert_eq!(truth.borrow().len(), 9);
        for cores in [3, 2] {
            let done = Rc::new(Cell::new(false));
            for attempt in 0.. {
                if attempt < 2 {
                    let at = (seed * 7 + attempt * 13) % 120;
                    control.crash_at_op(name, control.disk_ops(name) + 1 + at);
                }
                let flag = Rc::clone(&done);
                live(&sim, move |core| {
                    let flag = Rc::clone(&flag);
                    async move {
                        open(&core, cores).await;
                        flag.set(true);
                    }
                });
                if done.get() {
                    break;
                }
                crashes += 1;
            }
            let truth = Rc::clone(&truth);
            live(&sim, move |core| {
                let truth = Rc::clone(&truth);
                async move {
                    let opened = open(&core, cores).await;
                    assert_eq!(opened.moved(), None, "the move is done");
                    assert_eq!(contents(&core, cores).await, *truth.borrow());
                    for left in ["journal.next", "journal.old"] {
                        assert!(
                            !core
                                .disk()
                                .exists(&Path::new(DATA).join(left))
                                .await
                                .unwrap()
                        );
                    }
                }
            });
        }
    }
    assert!(crashes > 60, "only {crashes} crashes");
}

#[test]
fn a_start_is_counted_on_a_full_disk_too() {
    let sim = world(6);
    let counted = Rc::new(Cell::new(0));
    for expected in 1..=4 {
        let told = counted.clone();
        let node = live(&sim, move |core| {
            let told = told.clone();
            async move { told.set(open(&core, 1).await.start().number) }
        });
        assert_eq!(counted.get(), expected);
        sim.set_capacity(node, Some(sim.disk_used_bytes(node)));
    }
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let sim = world(5);
    live(&sim, |core| async move {
        let first = open(&core, 1).await;
        let again = open(&core, 1).await;
        assert_eq!(
            first.identity(),
            again.identity(),
            "the identity is drawn once"
        );
        assert_eq!((first.start().number, again.start().number), (1, 2));
        let other = NodeIdentity {
            node_id: 2,
            ..identity()
        };
        let refused = DataDir::open(core.disk(), Path::new(DATA), &other, 1, &options()).await;
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("belongs to node 1, this node is node 2"),
            "{error}"
        );
        core.disk()
            .remove_file(&Path::new(DATA).join("node"))
            .await
            .unwrap();
        let refused = DataDir::open(core.disk(), Path::new(DATA), &identity(), 1, &options()).await;
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("holds \"journal\" but no file \"node\""),
            "{error}"
        );
    });
}

/// Start-up reads checkpoint and journal, and no partition's directory.
#[test]
fn ten_thousand_partitions_cost_no_look_at_their_directories() {
    const PARTITIONS: u32 = 10_000;
    let big = || Options {
        journal_first_file_bytes: 4 << 20,
        journal_file_bytes: 16 << 20,
        journal_bytes_max: 64 << 20,
        ..options()
    };
    let sim = world(6);
    let control = (*sim).clone();
    let name = live(&sim, move |core| async move {
        let mut node = Node::start(&core, big()).await;
        for partition in 0..PARTITIONS {
            node.append(id(partition), u64::from(partition), 20)
                .unwrap();
            if partition % 1000 == 0 {
                node.turn().await.unwrap();
                node.prepare().await.unwrap();
            }
        }
        node.turn().await.unwrap();
        node.checkpoint().await.unwrap();
    });
    live(&sim, move |core| {
        let control = control.clone();
        async move {
            let before = control.disk_ops(name);
            let node = Node::start(&core, big()).await;
            let ops = control.disk_ops(name) - before;
            assert_eq!(node.logs.len(), PARTITIONS as usize);
            assert!(ops < 300, "{ops} disk operations");
            assert_eq!(node.marks(id(77)).await, [77]);
        }
    });
}

#[test]
fn a_dropped_partition_can_be_made_again() {
    let sim = world(7);
    live(&sim, |core| async move {
        let mut node = Node::start(&core, options()).await;
        for life in 1..=3 {
            for mark in 0..5 {
                node.append(id(0), life * 100 + mark, 100).unwrap();
            }
            node.turn().await.unwrap();
            node.commit_all();
            node.drain_all().await.unwrap();
            assert_eq!(node.marks(id(0)).await[0], life * 100);
            let log = node.logs.remove(&id(0)).unwrap();
            node.journal.stage_drop(log).map_err(|(_, e)| e).unwrap();
            assert!(
                node.journal.begin_drop().is_none(),
                "not before the marker is durable"
            );
            node.turn().await.unwrap();
            let job = node.journal.begin_drop().expect("it is durable");
            assert!(node.journal.is_dropping(id(0)));
            let done = job.run(&node.disk).await;
            node.journal.finish_drop(done).unwrap();
            assert!(!node.journal.is_dropping(id(0)));
            core.sleep(Duration::from_millis(1)).await;
        }
    });
}
