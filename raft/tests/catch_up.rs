//! Followers that their leader's memory cannot serve: reads from segments, snapshots, and random
//! runs in which owners drain, trim and lose disks. See `cluster`.

mod cluster;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use cluster::disk::run;
use cluster::state::{encode, last_of};
use cluster::{Cluster, Coverage, Faults, PARTITION};
use raft_group::snapshot::STATE_BYTES_MAX;
use raft_group::{
    Body, CatchUp, Event, Forced, Members, Message, Outputs, Role, Snapshot, SnapshotRefused,
    StepError,
};
use runtime::Core;
use storage::{EntriesMissing, EntriesPlan, Entry, EntryKind, PartitionId};

/// Three replicas, of which one follower was cut off while the others went on, until the leader's
/// memory had nothing left that it lacks: the cluster, the leader, and the follower.
async fn lagging(core: &Core, seed: u64) -> (Cluster, usize, usize) {
    let mut cluster = Cluster::with_upkeep(core, seed, &[1, 2, 3]).await;
    let leader = cluster.heal().await;
    let follower = (leader + 1) % 3;
    let away = cluster.nodes[follower].id;
    cluster.isolate(Some(away));
    cluster.nodes[leader].replicas.unreachable(away);
    go_on(&mut cluster, leader).await;
    for at in [leader, (leader + 2) % 3] {
        cluster.drain(at).await;
        cluster.sweep(at);
    }
    cluster.settle().await;
    let low = cluster.replica(follower).last_index() + 1;
    let found = cluster.replica(leader).log().entries(low, low + 1, 1);
    assert_eq!(found, Err(EntriesMissing::OnDisk));
    (cluster, leader, follower)
}

async fn go_on(cluster: &mut Cluster, leader: usize) {
    for round in 0..10u8 {
        for _ in 0..20 {
            cluster.propose(leader, 2, &[round; 100]).unwrap();
        }
        cluster.settle().await;
    }
}

/// The leader's records are deleted, and the segments go.
async fn delete_records(cluster: &mut Cluster, leader: usize) {
    let end = cluster.replica(leader).log().high_watermark();
    cluster.move_log_start(leader, end - 100);
    cluster.settle().await;
    cluster.drain(leader).await;
    cluster.settle().await;
    cluster.checkpoint(leader).await;
    cluster.trim(leader).await;
    cluster.settle().await;
}

/// As [`lagging`], and what the follower lacks is gone.
async fn trimmed(core: &Core, seed: u64) -> (Cluster, usize, usize) {
    let (mut cluster, leader, follower) = lagging(core, seed).await;
    delete_records(&mut cluster, leader).await;
    let first_index = cluster.replica(leader).log().first_index();
    assert!(first_index > cluster.replica(follower).last_index() + 1);
    (cluster, leader, follower)
}

/// Lets time pass until the leader wants a read.
async fn next_read(cluster: &mut Cluster, leader: usize) -> CatchUp {
    for _ in 0..30 {
        cluster.tick_all().await;
        assert!(cluster.nodes[leader].reads.len() <= 1, "one at a time");
        if let Some(read) = cluster.nodes[leader].reads.pop() {
            return read;
        }
    }
    panic!("nothing is read: {:#?}", cluster.states());
}

async fn read_entries(cluster: &Cluster, leader: usize, read: &CatchUp) -> Vec<Entry> {
    let log = cluster.replica(leader).log();
    match log.plan_entries(read.low, read.high, read.bytes_max) {
        EntriesPlan::Disk(job) => job.run(&cluster.nodes[leader].disk.disk).await.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_follower_lacks_comes_from_segments() {
    run(async |core| {
        let (mut cluster, leader, follower) = lagging(&core, 1).await;
        let term = cluster.replica(leader).term();
        assert_eq!(cluster.heal().await, leader);
        assert_eq!(cluster.replica(leader).term(), term);
        let log = cluster.replica(follower).log();
        assert_eq!(log.next_offset(), 400);
        assert_eq!(log.first_index(), 1);
        assert_eq!(
            cluster.nodes[follower].applied,
            cluster.nodes[leader].applied
        );
        assert!(cluster.coverage.reads > 10, "{:?}", cluster.coverage);
        assert_eq!(cluster.coverage.installs, 0);
    });
}

#[test]
fn a_leader_that_is_paced_sends_what_is_committed_by_reads_alone() {
    run(async |core| {
        let mut cluster = Cluster::with_upkeep(&core, 9, &[1, 2, 3]).await;
        let leader = cluster.heal().await;
        let follower = (leader + 1) % 3;
        let away = cluster.nodes[follower].id;
        cluster.isolate(Some(away));
        cluster.nodes[leader].replicas.unreachable(away);
        go_on(&mut cluster, leader).await;
        let low = cluster.replica(follower).last_index() + 1;
        let found = cluster.replica(leader).log().entries(low, low + 1, 1);
        assert!(found.is_ok(), "it is in memory: {found:?}");
        cluster.replica_mut(leader).pace(true);
        cluster.isolate(None);
        let read = next_read(&mut cluster, leader).await;
        assert_eq!((read.to, read.low), (away, low));
        for _ in 0..30 {
            cluster.tick_all().await;
        }
        let last = cluster.replica(follower).last_index();
        assert_eq!(last, low - 1, "nothing comes by itself");
        // Who has everything gets what is new as ever.
        let commit = cluster.replica(leader).commit_index();
        cluster.propose(leader, 1, b"new").unwrap();
        cluster.settle().await;
        assert!(cluster.replica(leader).commit_index() > commit);
        let log = cluster.replica(leader).log();
        let entries = log.entries(read.low, read.high, read.bytes_max).unwrap();
        let end = entries.last().unwrap().index;
        cluster.nodes[leader]
            .replicas
            .fetched(PARTITION, &read, entries);
        let next = next_read(&mut cluster, leader).await;
        assert_eq!(cluster.replica(follower).last_index(), end);
        assert_eq!((next.to, next.low), (away, end + 1));
        cluster.nodes[leader].reads.push(next);
        cluster.replica_mut(leader).pace(false);
        assert_eq!(cluster.heal().await, leader);
    });
}

#[test]
fn a_read_gives_one_append_and_is_forgotten() {
    run(async |core| {
        let (mut cluster, leader, follower) = lagging(&core, 2).await;
        cluster.isolate(None);
        let read = next_read(&mut cluster, leader).await;
        let to = cluster.nodes[follower].id;
        let low = cluster.replica(follower).last_index() + 1;
        assert_eq!((read.to, read.low), (to, low));
        // Time passes, and nothing more is asked for.
        for _ in 0..10 {
            cluster.tick_all().await;
        }
        assert_eq!(cluster.nodes[leader].reads, []);
        let entries = read_entries(&cluster, leader, &read).await;
        let bytes: usize = entries.iter().map(|entry| entry.data.len()).sum();
        assert!(entries.len() > 5 && bytes as u64 <= read.bytes_max);
        let mut out = Outputs::default();
        for _ in 0..2 {
            let node = &mut cluster.nodes[leader];
            // The second time nobody waits for them.
            node.replicas.fetched(PARTITION, &read, entries.clone());
            node.replicas.pass(&mut node.disk.journal, &mut out);
        }
        let appends: Vec<(u64, usize)> = out
            .messages
            .iter()
            .filter_map(|(_, message)| match &message.body {
                Body::Append(append) if message.to == to => {
                    Some((append.prev_index, append.entries.len()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(appends, [(read.low - 1, entries.len())]);
        // That message is lost. The next heartbeat's answer asks for the same read again: nothing
        // was kept.
        let again = next_read(&mut cluster, leader).await;
        assert!(again.low >= read.low, "{again:?}");
        cluster.nodes[leader].reads.push(again);
        cluster.heal().await;
    });
}

#[test]
fn reads_that_fail_are_asked_for_again() {
    run(async |core| {
        let (mut cluster, leader, _) = lagging(&core, 3).await;
        cluster.isolate(None);
        for _ in 0..5 {
            let read = next_read(&mut cluster, leader).await;
            let replicas = &mut cluster.nodes[leader].replicas;
            replicas.fetched(PARTITION, &read, Vec::new());
            // Not at once: a disk that fails is not asked in a loop.
            cluster.pass(leader);
            assert_eq!(cluster.nodes[leader].reads, []);
        }
        // Entries of another term, or of another place, are as good as none.
        let read = next_read(&mut cluster, leader).await;
        let mut entries = read_entries(&cluster, leader, &read).await;
        entries[1].term += 1;
        let replicas = &mut cluster.nodes[leader].replicas;
        replicas.fetched(PARTITION, &read, entries);
        let read = next_read(&mut cluster, leader).await;
        let mut entries = read_entries(&cluster, leader, &read).await;
        entries.remove(0);
        let replicas = &mut cluster.nodes[leader].replicas;
        replicas.fetched(PARTITION, &read, entries);
        assert_eq!(cluster.heal().await, leader);
    });
}

#[test]
fn entries_that_go_while_they_are_read_give_way_to_a_snapshot() {
    run(async |core| {
        let (mut cluster, leader, follower) = lagging(&core, 4).await;
        cluster.isolate(None);
        let read = next_read(&mut cluster, leader).await;
        cluster.isolate(Some(cluster.nodes[follower].id));
        delete_records(&mut cluster, leader).await;
        cluster.isolate(None);
        let log = cluster.replica(leader).log();
        let plan = log.plan_entries(read.low, read.high, read.bytes_max);
        assert!(matches!(plan, EntriesPlan::Compacted));
        let replicas = &mut cluster.nodes[leader].replicas;
        replicas.fetched(PARTITION, &read, Vec::new());
        assert_eq!(cluster.heal().await, leader);
        assert_eq!(cluster.coverage.installs, 1);
    });
}

#[test]
fn a_follower_that_needs_what_is_gone_gets_a_snapshot() {
    run(async |core| {
        let (mut cluster, leader, follower) = trimmed(&core, 5).await;
        assert_eq!(cluster.heal().await, leader);
        let (log, of) = (
            cluster.replica(follower).log(),
            cluster.replica(leader).log(),
        );
        let index = of.first_index() - 1;
        assert_eq!(log.first_index(), index + 1);
        assert_eq!(log.term(index), of.term(index));
        assert_eq!(log.next_offset(), of.next_offset());
        assert_eq!(log.log_start_offset(), of.log_start_offset());
        assert_eq!(log.epoch_end_offset(1), of.epoch_end_offset(1));
        let installed = |event: &&Event| matches!(event, Event::Installed { .. });
        let events = &cluster.nodes[follower].events;
        let events: Vec<&Event> = events.iter().filter(installed).collect();
        let [
            Event::Installed {
                index: at, applied, ..
            },
        ] = events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(*at, index);
        assert!(*applied > index + 20, "the state is ahead of the log");
        assert_eq!(
            cluster.replica(follower).configuration(),
            cluster.replica(leader).configuration()
        );
        // It is a replica like the others: it restarts, and it can lead.
        cluster.checkpoint(follower).await;
        cluster.crash(follower).await;
        assert_eq!(cluster.heal().await, leader);
        let to = cluster.nodes[follower].id;
        cluster.replica_mut(leader).transfer_leader(to).unwrap();
        cluster.settle().await;
        assert_eq!(cluster.heal().await, follower);
        cluster.propose(follower, 1, b"on").unwrap();
        cluster.heal().await;
    });
}

/// Steps until the follower has taken a snapshot in, without its write being finished.
async fn until_installed(cluster: &mut Cluster, leader: usize, follower: usize) {
    cluster.isolate(None);
    for _ in 0..200 {
        cluster
            .nodes
            .iter_mut()
            .for_each(|node| node.replicas.tick());
        for at in [leader, (leader + 2) % 3] {
            cluster.pass(at);
            cluster.finish_write(at).await;
            cluster.serve(at).await;
            cluster.pass(at);
        }
        cluster.deliver_all();
        cluster.pass(follower);
        if cluster.coverage.installs > 0 {
            return;
        }
        cluster.finish_write(follower).await;
        cluster.pass(follower);
        cluster.deliver_all();
    }
    panic!("no snapshot: {:#?}", cluster.states());
}

#[test]
fn a_crash_during_an_install_leads_back_or_forth() {
    run(async |core| {
        let (mut back, mut forth) = (0, 0);
        for seed in 10..30 {
            let (mut cluster, leader, follower) = trimmed(&core, seed).await;
            let before = cluster.replica(follower).last_index();
            until_installed(&mut cluster, leader, follower).await;
            let log = cluster.replica(follower).log();
            let (index, held) = (
                log.first_index() - 1,
                cluster.replica(follower).commit_index(),
            );
            assert_eq!(
                index, held,
                "nothing is committed but what the snapshot says"
            );
            cluster.replica_mut(follower).campaign();
            assert_eq!(cluster.replica(follower).role(), Role::Follower, "not now");
            assert_eq!(cluster.replica(follower).fenced(), None);
            cluster.crash(follower).await;
            let log = cluster.replica(follower).log();
            if log.first_index() == 1 {
                assert_eq!(log.last_index(), before);
                back += 1;
            } else {
                assert_eq!((log.first_index(), log.last_index()), (index + 1, index));
                let applied = cluster.replica(follower).applied_index();
                assert_eq!(applied, last_of(&cluster.nodes[follower].applied));
                assert!(applied > index, "the state is ahead of the log");
                forth += 1;
            }
            let leader = cluster.heal().await;
            assert_eq!(
                cluster.nodes[follower].applied,
                cluster.nodes[leader].applied
            );
        }
        assert!(back > 3 && forth > 3, "{back} old logs, {forth} new ones");
    });
}

#[test]
fn a_log_that_is_behind_its_state_stays_so_until_it_has_caught_up() {
    run(async |core| {
        let (mut cluster, leader, follower) = trimmed(&core, 6).await;
        until_installed(&mut cluster, leader, follower).await;
        let applied = cluster.replica(follower).applied_index();
        cluster.isolate(Some(cluster.nodes[follower].id));
        cluster.finish_write(follower).await;
        cluster.pass(follower);
        // Whatever happens to it: by a checkpoint, by the journal, by nothing but that.
        for _ in 0..3 {
            cluster.checkpoint(follower).await;
            cluster.crash(follower).await;
            let replica = cluster.replica(follower);
            assert!(replica.commit_index() < applied);
            assert_eq!(replica.applied_index(), applied);
        }
        // It knows the group, but nobody elects it.
        for _ in 0..50 {
            cluster.nodes[follower].replicas.tick();
            cluster.pass(follower);
        }
        assert_eq!(cluster.heal().await, leader);
        assert!(cluster.replica(follower).commit_index() >= applied);
    });
}

/// The others are gone for good before the rest of the log came.
#[test]
fn a_log_that_is_behind_its_state_goes_on_alone_with_it() {
    for crashes in [false, true] {
        run(async move |core| {
            let (mut cluster, leader, follower) = lagging(&core, 8).await;
            for _ in 0..10 {
                go_on(&mut cluster, leader).await;
            }
            // The state has more than is made up for in one turn.
            delete_records(&mut cluster, leader).await;
            for _ in 0..10 {
                go_on(&mut cluster, leader).await;
            }
            until_installed(&mut cluster, leader, follower).await;
            let own = cluster.nodes[follower].id;
            cluster.isolate(Some(own));
            cluster.finish_write(follower).await;
            cluster.pass(follower);
            let before = cluster.nodes[follower].applied.clone();
            let installed = cluster.replica(follower).applied_index();
            assert!(cluster.replica(follower).lacks() > 1_500);
            let mut turns = 0;
            cluster.forced_term = 1_000;
            while cluster.replica_mut(follower).force_alone(1_000) != Ok(Forced::Whole) {
                turns += 1;
                assert!(cluster.replica(follower).commit_index() < installed);
                cluster.pass(follower);
                cluster.finish_write(follower).await;
                if crashes {
                    cluster.crash(follower).await;
                }
            }
            assert!(turns > 1, "{turns}");
            for _ in 0..50 {
                cluster.nodes[follower].replicas.tick();
                cluster.pass(follower);
                cluster.finish_write(follower).await;
            }
            assert!(cluster.replica(follower).is_serving());
            assert_eq!(
                *cluster.replica(follower).members(),
                Members::of_voters([own])
            );
            let kept = cluster.nodes[follower].applied.range(..=installed);
            assert!(kept.eq(&before), "its state stays");
            let next = cluster.propose(follower, 1, b"on").unwrap();
            assert!(next.index > installed);
            cluster.pass(follower);
            cluster.finish_write(follower).await;
            cluster.pass(follower);
            assert_eq!(last_of(&cluster.nodes[follower].applied), next.index);
            // And it is what a start finds.
            cluster.checkpoint(follower).await;
            cluster.crash(follower).await;
            assert_eq!(last_of(&cluster.nodes[follower].applied), next.index);
        });
    }
}

#[test]
fn an_install_waits_for_room_in_the_journal() {
    run(async |core| {
        let (mut cluster, leader, follower) = trimmed(&core, 31).await;
        let node = &mut cluster.nodes[follower];
        node.disk.may_grow = false;
        // Another partition has filled the journal.
        let mut other = node.disk.journal.create_log(PartitionId {
            topic: 8,
            partition: 0,
        });
        let data = Bytes::from(vec![0; 5_000]);
        let kind = EntryKind::Command;
        let full = (1..).find(|index| {
            let staged = node
                .disk
                .journal
                .stage_entry(&mut other, 1, *index, kind, &data);
            staged.is_err()
        });
        assert!(full > Some(20), "{full:?}");
        cluster.pass(follower);
        cluster.isolate(None);
        for _ in 0..40 {
            cluster.tick_all().await;
            cluster.serve(leader).await;
        }
        assert!(cluster.coverage.offers > 0);
        assert_eq!(cluster.coverage.installs, 0, "it is parked");
        assert_eq!(cluster.replica(follower).log().first_index(), 1);
        cluster.nodes[follower].disk.may_grow = true;
        cluster.nodes[follower].disk.grow().await;
        let leader = cluster.heal().await;
        assert_eq!(cluster.coverage.installs, 1);
        assert_eq!(
            cluster.nodes[follower].applied,
            cluster.nodes[leader].applied
        );
    });
}

/// A snapshot of a group's log as it is at the leader, as its owner would offer it.
fn snapshot_of(cluster: &Cluster, at: usize, index: u64) -> Snapshot {
    let replica = cluster.replica(at);
    let applied = &cluster.nodes[at].applied;
    Snapshot {
        index,
        term: replica.log().term(index).unwrap(),
        next_offset: applied[&index].1,
        applied: last_of(applied),
        epochs: Vec::new(),
        configuration: replica.configuration().clone(),
        state: encode(replica.configuration(), applied),
    }
}

#[test]
fn stale_snapshots_are_ignored_and_senseless_ones_refused() {
    run(async |core| {
        let mut cluster = Cluster::with_upkeep(&core, 7, &[1, 2, 3]).await;
        let leader = cluster.heal().await;
        go_on(&mut cluster, leader).await;
        cluster.heal().await;
        let follower = (leader + 1) % 3;
        let (from, to) = (cluster.nodes[leader].id, cluster.nodes[follower].id);
        let term = cluster.replica(leader).term();
        let last_index = cluster.replica(follower).last_index();
        let stale = [1, last_index - 1, last_index];
        let stale = stale.map(|index| snapshot_of(&cluster, leader, index));
        let whole = stale[2].clone();
        let mut step = |snapshot: Snapshot| {
            let body = Body::Snapshot(Box::new(snapshot));
            let message = Message {
                from,
                to,
                term,
                body,
            };
            let taken = cluster.replica_mut(follower).step(message);
            cluster.pass(follower);
            (taken, cluster.replica(follower).log().first_index())
        };
        for snapshot in stale {
            assert_eq!(step(snapshot), (Ok(()), 1), "it has everything");
        }
        let refused = |index| (Err(StepError::Snapshot { index }), 1);
        let index = last_index + 10;
        let later = Snapshot {
            index,
            applied: index,
            term: term + 1,
            ..whole.clone()
        };
        assert_eq!(step(later), refused(index));
        let empty = Snapshot {
            applied: last_index - 1,
            ..whole.clone()
        };
        let large = Snapshot {
            state: Bytes::from(vec![0; 300_000]),
            ..whole
        };
        assert_eq!(step(large), refused(last_index));
        assert_eq!(step(empty), refused(last_index));
        assert_eq!(cluster.coverage.installs, 0);
        assert_eq!(cluster.heal().await, leader);
    });
}

#[test]
fn a_snapshot_that_is_lost_is_sent_again() {
    run(async |core| {
        let (mut cluster, leader, follower) = trimmed(&core, 8).await;
        cluster.isolate(None);
        let sent = async |cluster: &mut Cluster, ticks_max: usize| {
            for tick in 0..ticks_max {
                cluster.tick_all().await;
                let offers = cluster.coverage.offers;
                cluster.serve(leader).await;
                if cluster.coverage.offers > offers {
                    return tick;
                }
            }
            panic!("no snapshot is wanted: {:#?}", cluster.states());
        };
        sent(&mut cluster, 30).await;
        cluster.pass(leader);
        cluster.lose_letters();
        // Nobody says that it was lost.
        let ticks = sent(&mut cluster, 100).await;
        assert!((40..70).contains(&ticks), "after {ticks} ticks");
        cluster.pass(leader);
        cluster.lose_letters();
        // This time the link does.
        let peer = cluster.nodes[follower].id;
        cluster.nodes[leader].replicas.unreachable(peer);
        let ticks = sent(&mut cluster, 100).await;
        assert!(ticks < 10, "after {ticks} ticks");
        assert_eq!(cluster.heal().await, leader);
        assert_eq!(cluster.coverage.installs, 1);
    });
}

#[test]
fn offers_of_snapshots_are_checked() {
    run(async |core| {
        let (mut cluster, leader, follower) = trimmed(&core, 9).await;
        // As large as an entry, and no larger than any follower would accept.
        let bytes_max = cluster.config(cluster.nodes[leader].id).entry_bytes_max;
        const { assert!(STATE_BYTES_MAX == 16 << 20) };
        let large = Bytes::from(vec![0; bytes_max + 1]);
        let bytes = large.len();
        let index = cluster.replica(leader).log().first_index() - 1;
        let handed = cluster.replica(leader).commit_index();
        let mut offer = |at, state, applied| cluster.replica_mut(at).offer_snapshot(state, applied);
        let too_large = SnapshotRefused::TooLarge { bytes, bytes_max };
        assert_eq!(offer(leader, large, handed), Err(too_large));
        for applied in [index - 1, handed + 1] {
            let refused = SnapshotRefused::Applied {
                applied,
                index,
                handed,
            };
            assert_eq!(offer(leader, Bytes::new(), applied), Err(refused));
        }
        let refused = offer(follower, Bytes::new(), 1);
        assert_eq!(refused, Err(SnapshotRefused::NotLeader));
        // Nobody can be reached who would need it: it is not kept.
        assert_eq!(offer(leader, Bytes::new(), handed), Ok(()));
        assert_eq!(cluster.heal().await, leader);
    });
}

#[test]
fn a_replica_that_lost_its_disk_comes_back_under_a_new_name() {
    run(async |core| {
        let (mut cluster, leader, _) = lagging(&core, 40).await;
        cluster.isolate(None);
        delete_records(&mut cluster, leader).await;
        let wiped = (leader + 2) % 3;
        cluster.wipe(wiped).await;
        let (old, new) = cluster.replacing.unwrap();
        for _ in 0..100 {
            cluster.replace_step();
            cluster.tick_all().await;
            cluster.settle().await;
        }
        assert_eq!(cluster.replacing, None);
        let leader = cluster.heal().await;
        let members = cluster.replica(leader).members();
        assert!(members.voters().contains(&new) && !members.contains(old));
        assert!(
            cluster.coverage.installs > 0,
            "its log begins with a snapshot"
        );
        let members = members.clone();
        cluster.crash(wiped).await;
        cluster.heal().await;
        assert_eq!(*cluster.replica(wiped).members(), members);
    });
}

/// A random run with everything that an owner does for its logs, quiet times, and disks that are
/// lost.
async fn random_run(core: &Core, seed: u64, steps: usize) -> Cluster {
    let mut cluster = Cluster::with_upkeep(core, seed, &[1, 2, 3]).await;
    cluster.faults = Faults {
        crash: 1 + seed % 2,
        ..Faults::ALL
    };
    for step in 0..steps {
        cluster.idle = step % 5_000 >= 3_000;
        cluster.step().await;
        if step % 100 == 0 {
            cluster.check_log_matching();
        }
        // A leader is cut off for long enough that another is elected.
        match (step % 4_000, cluster.leader()) {
            (0, Some(leader)) => cluster.isolate(Some(cluster.nodes[leader].id)),
            (2_000, _) => cluster.isolate(None),
            _ => {}
        }
        if step % 4_000 == 2_500 && cluster.can_lose_a_disk() {
            let at = cluster.random.below(3) as usize;
            cluster.wipe(at).await;
        }
    }
    cluster.heal().await;
    while cluster.replacing.is_some() {
        cluster.replace_step();
        cluster.heal().await;
    }
    cluster
}

/// The seeds to run: `RAFT_SEEDS=from..to`, else `default`.
fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("RAFT_SEEDS") else {
        return default;
    };
    let (from, to) = text.split_once("..").expect("from..to");
    from.parse().expect("a seed")..to.parse().expect("a seed")
}

#[test]
fn random_runs_with_lagging_followers_and_lost_disks_keep_every_invariant() {
    let total: Rc<RefCell<Coverage>> = Rc::default();
    let seeds = seeds(200..216);
    for seed in seeds.clone() {
        let total = Rc::clone(&total);
        run(async move |core| {
            let cluster = random_run(&core, seed, 20_000).await;
            total.borrow_mut().add(cluster.coverage);
            total.borrow_mut().commits += cluster.committed.len() as u64;
        });
    }
    let total = total.take();
    println!("{total:?}");
    // A run in which nothing happens would prove nothing.
    let runs = seeds.count() as u64;
    assert!(total.commits > 150 * runs && total.truncations > 0);
    assert!(total.reads > 5 * runs && total.installs > runs && total.trims > runs);
    assert!(total.wiped >= runs && total.slept > runs);
}

#[test]
fn the_same_seed_is_the_same_run_with_all_that() {
    run(async |core| {
        let first = random_run(&core, 77, 8_000).await.trace();
        let second = random_run(&core, 77, 8_000).await.trace();
        assert_eq!(first, second);
    });
}
