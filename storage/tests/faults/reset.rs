//! A log that is replaced by what a snapshot says, with a power loss at every operation on the way.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use runtime::Core;
use storage::{Condition, EntryKind, HardState, LogConfig, Reset, StageError};

use super::node::{DATA, Node, batch, id, live, options, world};

const OLD: HardState = HardState {
    term: 1,
    vote: 3,
    commit: 30,
};
const NEW: HardState = HardState {
    term: 3,
    vote: 2,
    commit: 100,
};

/// What was durable when the power went.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Promised {
    OldLog,
    NewLog,
    TwoEntriesMore,
}

fn state() -> Bytes {
    Bytes::from(vec![7; 10_000])
}

fn reset() -> Reset {
    Reset {
        last_index: 100,
        last_term: 3,
        next_offset: 500,
        epochs: vec![(1, 0), (3, 400)],
        applied: 120,
        state: state(),
    }
}

/// A log of thirty entries in a segment and a checkpoint.
async fn old_log(core: &Core) {
    let mut node = Node::start(core, options()).await;
    for mark in 1..=30 {
        node.append(id(0), mark, 300).unwrap();
    }
    node.vote(id(0), OLD);
    node.turn().await.unwrap();
    node.commit_all();
    node.drain_all().await.unwrap();
    node.checkpoint().await.unwrap();
    node.prepare().await.unwrap();
}

/// Replaces it while a drain is under way, removes the old files, goes on and writes a checkpoint.
async fn install(node: &mut Node, promised: &Cell<Promised>) {
    for mark in 31..=35 {
        node.append(id(0), mark, 300).unwrap();
    }
    node.turn().await.unwrap();
    let log = node.logs.get_mut(&id(0)).unwrap();
    log.commit_to(33);
    // The drain begins a segment of its own, which nothing knows of yet.
    log.configure(LogConfig {
        segment_bytes: 4096,
        ..LogConfig::default()
    });
    let drain = log.begin_drain(2_000, true).unwrap();
    node.journal.stage_reset(log, reset()).unwrap();
    node.journal.stage_hard_state(log, NEW).unwrap();
    node.turn().await.unwrap();
    promised.set(Promised::NewLog);
    let done = drain.run(&node.disk).await;
    let log = node.logs.get_mut(&id(0)).unwrap();
    node.journal.finish_drain(log, done).unwrap();
    remove_files(node).await;
    for mark in 101..=102 {
        append(node, mark);
    }
    node.turn().await.unwrap();
    promised.set(Promised::TwoEntriesMore);
    let mut draft = node.journal.begin_checkpoint().unwrap();
    draft.add(&node.journal, &node.logs[&id(0)], 120, &state());
    let job = node.journal.begin_checkpoint_write(draft).unwrap();
    let done = job.run(&node.disk).await;
    node.journal.finish_checkpoint(done).unwrap();
}

fn append(node: &mut Node, mark: u64) {
    let log = node.logs.get_mut(&id(0)).unwrap();
    let index = log.last_index() + 1;
    let data = batch(mark, 300);
    node.journal
        .stage_entry(log, 3, index, EntryKind::Batch, &data)
        .unwrap();
}

async fn remove_files(node: &mut Node) {
    let log = node.logs.get_mut(&id(0)).unwrap();
    while let Some(job) = node.journal.begin_removal(log, u64::MAX) {
        let done = job.run(&node.disk).await;
        node.journal.finish_removal(log, done).unwrap();
    }
}

/// The log is the old one or the new one, with the state that belongs to it, and goes on.
async fn check(node: &mut Node, promised: Promised) -> bool {
    let log = &node.logs[&id(0)];
    assert_eq!(*log.condition(), Condition::Healthy);
    let installed = log.first_index() > 1;
    let marks = node.marks(id(0)).await;
    let (applied, kept) = node.states[&id(0)].clone();
    let (log_start, next) = (log.log_start_offset(), log.next_offset());
    if installed {
        assert_eq!((log.first_index(), log.term(100)), (101, Some(3)));
        assert_eq!(log.hard_state(), NEW);
        assert_eq!((applied, kept), (120, state()));
        assert_eq!((log.installed(), log.commit()), (120, 100));
        assert_eq!((log_start, next - marks.len() as i64), (500, 500));
        assert_eq!(log.epoch_end_offset(1), Some((1, 500)), "below the start");
        assert!(promised < Promised::TwoEntriesMore || marks.len() == 2);
        assert_eq!(marks, (101..101 + marks.len() as u64).collect::<Vec<_>>());
    } else {
        assert_eq!(promised, Promised::OldLog, "an installed log is gone");
        assert_eq!(log.hard_state(), OLD);
        assert_eq!(
            (applied, kept),
            (30, Bytes::from(30u64.to_le_bytes().to_vec()))
        );
        assert!(marks.len() >= 30, "{marks:?}");
        assert_eq!(marks, (1..=marks.len() as u64).collect::<Vec<_>>());
        assert_eq!((log_start, next), (0, marks.len() as i64));
    }
    append(node, 1_000);
    node.turn().await.unwrap();
    node.commit_all();
    node.drain_all().await.unwrap();
    installed
}

#[test]
fn a_reset_that_is_cut_leaves_the_old_log_or_the_new_one() {
    let (mut old, mut new) = (0, 0);
    for op in 1.. {
        let sim = world(300 + op);
        let control = (*sim).clone();
        let promised = Rc::new(Cell::new(Promised::OldLog));
        let ended = Rc::new(Cell::new(false));
        let name = live(&sim, |core| async move { old_log(&core).await });
        let (told, whole) = (Rc::clone(&promised), Rc::clone(&ended));
        live(&sim, move |core| {
            let (control, told, whole) = (control.clone(), Rc::clone(&told), Rc::clone(&whole));
            async move {
                let mut node = Node::start(&core, options()).await;
                control.crash_at_op(name, control.disk_ops(name) + op);
                install(&mut node, &told).await;
                whole.set(true);
            }
        });
        let promised = promised.get();
        let kept = Rc::new(Cell::new(false));
        let found = Rc::clone(&kept);
        live(&sim, move |core| {
            let found = Rc::clone(&found);
            async move {
                let mut node = Node::start(&core, options()).await;
                found.set(check(&mut node, promised).await);
                if !found.get() {
                    return;
                }
                // Whatever was there before is removed, also what nobody had noted yet.
                remove_files(&mut node).await;
                let topic = format!("{:032x}", id(0).topic);
                let directory = Path::new(DATA).join("partitions").join(topic).join("0");
                for file in core.disk().read_dir(&directory).await.unwrap() {
                    assert!(file.name.as_str() > "00000000000000000100", "{}", file.name);
                }
            }
        });
        if kept.get() {
            new += 1;
        } else {
            old += 1;
        }
        if ended.get() {
            break;
        }
    }
    assert!(old >= 2 && new >= 6, "{old} old logs, {new} new ones");
}

#[test]
fn a_reset_never_goes_below_the_commit_index_or_beyond_the_limits() {
    let sim = world(30);
    live(&sim, |core| async move {
        let mut node = Node::start(&core, options()).await;
        for mark in 1..=5 {
            node.append(id(0), mark, 10).unwrap();
        }
        node.commit_all();
        let log = node.logs.get_mut(&id(0)).unwrap();
        let below = Reset {
            last_index: 4,
            ..reset()
        };
        let refused = node.journal.stage_reset(log, below.clone());
        let (index, commit) = (4, 5);
        assert_eq!(refused, Err(StageError::BelowCommit { index, commit }));
        let (bytes, bytes_max) = (options().entry_bytes_max + 1, options().entry_bytes_max);
        let large = Reset {
            state: Bytes::from(vec![0; bytes]),
            ..reset()
        };
        let refused = node.journal.stage_reset(log, large);
        assert_eq!(refused, Err(StageError::TooLarge { bytes, bytes_max }));
        assert_eq!((log.last_index(), log.first_index()), (5, 1), "unchanged");
        // What a fenced log knew is in doubt, its commit index too.
        log.fence("for a test".to_owned());
        node.journal.stage_reset(log, below).unwrap();
        assert_eq!(*log.condition(), Condition::Healthy);
        assert_eq!((log.last_index(), log.first_index()), (4, 5));
    });
}
