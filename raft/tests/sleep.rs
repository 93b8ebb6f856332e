//! Time, sleep and alarms: what an idle group costs, what wakes it, and how soon a lost leader is
//! replaced. See `cluster`.

mod cluster;

use std::path::Path;

use cluster::disk::run;
use cluster::{Cluster, batch, id};
use raft_group::{Members, Outputs, Replica, ReplicaConfig, Replicas, Role};
use runtime::Core;
use storage::{EntryKind, Journal, Options, PartitionId, recover};

/// A group of three at rest, awake: the cluster and its leader.
async fn at_rest(core: &Core, seed: u64) -> (Cluster, usize) {
    let mut cluster = Cluster::new(core, seed, &[1, 2, 3], &[]).await;
    let leader = cluster.heal().await;
    (cluster, leader)
}

/// A group of three that sleeps.
async fn asleep(core: &Core, seed: u64) -> (Cluster, usize) {
    let (mut cluster, leader) = at_rest(core, seed).await;
    let ticks = until_asleep(&mut cluster, 100).await;
    assert!((10..30).contains(&ticks), "asleep after {ticks} ticks");
    (cluster, leader)
}

fn sleepers(cluster: &Cluster) -> usize {
    let asleep = |at: &usize| cluster.replica(*at).is_asleep();
    (0..cluster.nodes.len()).filter(asleep).count()
}

/// Ticks until everybody sleeps.
async fn until_asleep(cluster: &mut Cluster, ticks_max: usize) -> usize {
    for tick in 0..ticks_max {
        if sleepers(cluster) == cluster.nodes.len() {
            return tick;
        }
        cluster.tick_all().await;
    }
    panic!("somebody is awake: {:#?}", cluster.states());
}

/// Ticks of the nodes other than `without` until one of them leads.
async fn until_led(cluster: &mut Cluster, without: usize, ticks_max: usize) -> (usize, usize) {
    for tick in 1..=ticks_max {
        for at in (0..cluster.nodes.len()).filter(|at| *at != without) {
            cluster.nodes[at].replicas.tick();
        }
        cluster.settle().await;
        let leader = cluster.leader().filter(|at| *at != without);
        if let Some(leader) = leader.filter(|at| cluster.replica(*at).is_serving()) {
            return (tick, leader);
        }
    }
    panic!("nobody leads: {:#?}", cluster.states());
}

fn node_of(cluster: &Cluster, at: usize) -> i32 {
    cluster.nodes[at].id.node()
}

#[test]
fn followers_learn_of_a_commit_at_the_next_tick() {
    run(async |core| {
        let (mut cluster, leader) = at_rest(&core, 1).await;
        // Heartbeats are due at every second tick: one of two would hear of it by these anyway.
        for round in 0..6 {
            let index = cluster.propose(leader, 1, b"x").unwrap().index;
            cluster.settle().await;
            assert_eq!(cluster.replica(leader).commit_index(), index);
            for at in (0..3).filter(|at| *at != leader) {
                assert_eq!(cluster.replica(at).commit_index(), index - 1);
            }
            cluster.tick_all().await;
            for at in 0..3 {
                let commit = cluster.replica(at).commit_index();
                assert_eq!(commit, index, "round {round}");
            }
        }
        // A follower that cannot be reached is not beaten for it at every tick.
        let gone = (leader + 1) % 3;
        cluster.isolate(Some(cluster.nodes[gone].id));
        cluster.propose(leader, 1, b"x").unwrap();
        for _ in 0..25 {
            cluster.tick_all().await;
        }
        let before = cluster.coverage.beats;
        for _ in 0..20 {
            cluster.tick_all().await;
        }
        let beats = cluster.coverage.beats - before;
        assert!(beats <= 20, "{beats}; ten heartbeats to two");
    });
}

#[test]
fn a_beat_that_is_due_when_the_leader_falls_asleep_wakes_nobody() {
    run(async |core| {
        // Answers that take longer than a tick come before one at which a beat is due, or before
        // one at which none is.
        for earlier in 0..2 {
            let (mut cluster, leader) = at_rest(&core, 10).await;
            let term = cluster.replica(leader).term();
            for _ in 0..earlier {
                cluster.tick_all().await;
            }
            for _ in 0..60 {
                for _ in 0..2 {
                    for node in &mut cluster.nodes {
                        node.replicas.tick();
                    }
                }
                cluster.settle().await;
            }
            assert_eq!(sleepers(&cluster), 3, "{:#?}", cluster.states());
            assert_eq!(cluster.replica(leader).term(), term, "nobody campaigned");
        }
    });
}

#[test]
fn an_idle_group_falls_asleep_and_costs_nothing() {
    run(async |core| {
        let (mut cluster, leader) = asleep(&core, 2).await;
        let term = cluster.replica(leader).term();
        let before = cluster.coverage.beats;
        for _ in 0..1_000 {
            cluster.tick_all().await;
        }
        assert_eq!(cluster.coverage.beats, before);
        assert!(
            cluster
                .nodes
                .iter()
                .all(|node| !node.replicas.wants_ticks())
        );
        assert_eq!(cluster.leader(), Some(leader));
        assert!(
            cluster.replica(leader).is_serving(),
            "it serves in its sleep"
        );
        // A proposal wakes, and is committed without a tick.
        let index = cluster.propose(leader, 1, b"awake").unwrap().index;
        cluster.settle().await;
        assert_eq!(cluster.replica(leader).commit_index(), index);
        assert_eq!(sleepers(&cluster), 0);
        until_asleep(&mut cluster, 100).await;
        assert!((0..3).all(|at| cluster.replica(at).commit_index() == index));
        assert_eq!(cluster.replica(leader).term(), term);
    });
}

#[test]
fn lost_messages_delay_sleep_and_prevent_nothing() {
    run(async |core| {
        for seed in 0..20 {
            let (mut cluster, _) = at_rest(&core, 100 + seed).await;
            let mut ticks = 0;
            while sleepers(&cluster) < 3 {
                ticks += 1;
                assert!(ticks < 300, "{:#?}", cluster.states());
                cluster
                    .nodes
                    .iter_mut()
                    .for_each(|node| node.replicas.tick());
                for at in 0..3 {
                    cluster.pass(at);
                }
                // Some heartbeats are lost, and some answers.
                if cluster.random.percent(30) {
                    cluster.lose_letters();
                }
                cluster.deliver_all();
                for at in 0..3 {
                    cluster.pass(at);
                }
                if cluster.random.percent(30) {
                    cluster.lose_letters();
                }
                cluster.settle().await;
            }
            // Somebody may have campaigned meanwhile; all agree on who won.
            let leader = cluster.leader().unwrap();
            let agrees = |at| cluster.replica(at).leader() == Some(cluster.nodes[leader].id);
            assert!((0..3).all(agrees), "{:#?}", cluster.states());
        }
    });
}

#[test]
fn a_member_that_restarts_wakes_its_group_and_changes_nothing() {
    run(async |core| {
        for at in 0..3 {
            let (mut cluster, leader) = asleep(&core, 4).await;
            let term = cluster.replica(leader).term();
            cluster.crash(at).await;
            until_asleep(&mut cluster, 200).await;
            if at != leader {
                assert_eq!(cluster.leader(), Some(leader));
                assert_eq!(cluster.replica(leader).term(), term);
            }
            assert!(cluster.leader().is_some());
        }
    });
}

#[test]
fn the_silence_of_a_node_alarms_those_that_it_leads() {
    run(async |core| {
        let (mut cluster, leader) = asleep(&core, 5).await;
        cluster.isolate(Some(cluster.nodes[leader].id));
        for _ in 0..100 {
            cluster.tick_all().await;
        }
        assert_eq!(sleepers(&cluster), 3, "nobody knows");
        let node = node_of(&cluster, leader);
        let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        for at in &others {
            // Not led by these: nothing happens.
            let other = node_of(&cluster, others[0]);
            cluster.nodes[*at].replicas.peer_silent(other);
            assert!(cluster.replica(*at).is_asleep());
            cluster.nodes[*at].replicas.peer_silent(node);
            assert!(!cluster.replica(*at).is_asleep());
        }
        let (ticks, next) = until_led(&mut cluster, leader, 50).await;
        assert!(
            (3..10).contains(&ticks),
            "not before a beat would have come, and before an election timeout: {ticks}"
        );
        // The old leader sleeps on, until somebody asks; then it finds out.
        assert!(cluster.replica(leader).is_asleep());
        assert_eq!(cluster.replica(leader).role(), Role::Leader);
        let asker = node_of(&cluster, next);
        cluster.nodes[leader].replicas.wake_with(asker);
        for tick in 1..=25 {
            cluster.nodes[leader].replicas.tick();
            cluster.pass(leader);
            let leads = cluster.replica(leader).role() == Role::Leader;
            assert_eq!(leads, tick < 10, "after {tick} ticks");
        }
        cluster.heal().await;
    });
}

#[test]
fn a_leader_that_hears_from_no_majority_resigns_and_names_a_successor() {
    run(async |core| {
        let (mut cluster, leader) = at_rest(&core, 9).await;
        let term = cluster.replica(leader).term();
        let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
        // One of them lags.
        cluster.isolate(Some(cluster.nodes[one].id));
        cluster.propose(leader, 1, b"without it").unwrap();
        cluster.settle().await;
        cluster.isolate(None);
        let (lost, silent) = (node_of(&cluster, one), node_of(&cluster, other));
        let replicas = &mut cluster.nodes[leader].replicas;
        replicas.peer_unheard(silent);
        replicas.peer_heard(silent);
        replicas.peer_unheard(lost);
        assert_eq!(cluster.replica(leader).role(), Role::Leader, "two are left");
        cluster.nodes[leader].replicas.peer_unheard(silent);
        assert_eq!(cluster.replica(leader).role(), Role::Follower);
        // What it sends does arrive, so nobody has to wait for time to pass.
        cluster.settle().await;
        assert_eq!(cluster.leader(), Some(other), "{:#?}", cluster.states());
        assert_eq!(cluster.replica(other).term(), term + 1);
        cluster.heal().await;
    });
}

#[test]
fn a_leader_that_wakes_is_not_unseated_by_ticks_that_it_slept_through() {
    run(async |core| {
        for seed in 0..10 {
            let (mut cluster, leader) = asleep(&core, 200 + seed).await;
            let term = cluster.replica(leader).term();
            // Again and again, at any distance to its last check of the quorum.
            for round in 0..10 {
                let other = node_of(&cluster, (leader + 1) % 3);
                cluster.nodes[leader].replicas.wake_with(other);
                for _ in 0..round {
                    cluster.tick_all().await;
                }
                until_asleep(&mut cluster, 100).await;
                assert_eq!(cluster.leader(), Some(leader));
                assert_eq!(cluster.replica(leader).term(), term);
            }
        }
    });
}

#[test]
fn a_member_that_is_gone_costs_less_and_less_and_once_known_nothing() {
    run(async |core| {
        let (mut cluster, leader) = at_rest(&core, 7).await;
        let gone = (leader + 1) % 3;
        let (node, other) = (node_of(&cluster, gone), (leader + 2) % 3);
        cluster.isolate(Some(cluster.nodes[gone].id));
        cluster.propose(leader, 1, b"without it").unwrap();
        let beats = async |cluster: &mut Cluster, ticks: u32| {
            let before = cluster.coverage.beats;
            for _ in 0..ticks {
                cluster.nodes[leader].replicas.tick();
                cluster.nodes[other].replicas.tick();
                cluster.settle().await;
            }
            cluster.coverage.beats - before
        };
        beats(&mut cluster, 100).await;
        assert!(cluster.replica(other).is_asleep());
        assert!(
            !cluster.replica(leader).is_asleep(),
            "it tries now and then"
        );
        beats(&mut cluster, 1_000).await;
        let few = beats(&mut cluster, 1_280).await;
        assert!((5..=10).contains(&few), "{few} beats in 1,280 ticks");
        // Its owner hears that the node is lost.
        cluster.nodes[leader].replicas.peer_lost(node);
        beats(&mut cluster, 100).await;
        assert!(cluster.replica(leader).is_asleep() && cluster.replica(other).is_asleep());
        assert_eq!(beats(&mut cluster, 1_000).await, 0);
        // To hear it again, with every attempt to connect, changes nothing.
        cluster.nodes[leader].replicas.peer_lost(node);
        cluster.nodes[other].replicas.peer_lost(node);
        assert_eq!(beats(&mut cluster, 100).await, 0);
        assert!(cluster.replica(leader).is_asleep() && cluster.replica(other).is_asleep());
        // So do proposals, which go on.
        let index = cluster
            .propose(leader, 1, b"still without it")
            .unwrap()
            .index;
        beats(&mut cluster, 100).await;
        assert!(cluster.replica(leader).is_asleep());
        assert_eq!(cluster.replica(leader).commit_index(), index);
        // It is back: woken, brought up, and to bed with all.
        cluster.isolate(None);
        cluster.nodes[leader].replicas.peer_back(node);
        let mut ticks = 0;
        while cluster.replica(gone).commit_index() < index {
            ticks += 1;
            assert!(ticks < 100, "{:#?}", cluster.states());
            cluster.tick_all().await;
        }
        until_asleep(&mut cluster, 100).await;
    });
}

#[test]
fn two_that_are_gone_unseat_a_leader_as_ever() {
    run(async |core| {
        let (mut cluster, leader) = asleep(&core, 8).await;
        cluster.isolate(Some(cluster.nodes[leader].id));
        for at in (0..3).filter(|at| *at != leader) {
            let node = node_of(&cluster, at);
            cluster.nodes[leader].replicas.peer_lost(node);
        }
        for _ in 0..30 {
            cluster.nodes[leader].replicas.tick();
            cluster.pass(leader);
        }
        assert_ne!(cluster.replica(leader).role(), Role::Leader);
        assert!(!cluster.replica(leader).is_asleep());
    });
}

#[test]
fn a_lost_leader_is_replaced_within_a_few_ticks() {
    run(async |core| {
        let mut slowest = 0;
        for seed in 0..30 {
            let (mut cluster, leader) = match seed % 2 {
                0 => at_rest(&core, 300 + seed).await,
                _ => asleep(&core, 300 + seed).await,
            };
            let node = node_of(&cluster, leader);
            let term = cluster.replica(leader).term();
            cluster.isolate(Some(cluster.nodes[leader].id));
            for at in (0..3).filter(|at| *at != leader) {
                cluster.nodes[at].replicas.peer_lost(node);
                assert_eq!(cluster.replica(at).leader(), None);
            }
            let (ticks, next) = until_led(&mut cluster, leader, 50).await;
            assert_eq!(cluster.replica(next).term(), term + 1, "the first one won");
            slowest = slowest.max(ticks);
            cluster.heal().await;
        }
        assert!(
            slowest <= 5,
            "{slowest} ticks, an election timeout is 10 to 19"
        );
    });
}

#[test]
fn an_election_after_an_alarm_that_fails_is_repeated_soon() {
    run(async |core| {
        for seed in 0..30 {
            let (mut cluster, leader) = at_rest(&core, 900 + seed).await;
            let node = node_of(&cluster, leader);
            cluster.isolate(Some(cluster.nodes[leader].id));
            let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
            for at in &others {
                cluster.nodes[*at].replicas.peer_lost(node);
            }
            // Nothing that anybody says in the first attempts arrives.
            for _ in 0..6 {
                for at in &others {
                    cluster.nodes[*at].replicas.tick();
                    cluster.pass(*at);
                }
                cluster.lose_letters();
                cluster.settle().await;
                cluster.lose_letters();
            }
            let (ticks, _) = until_led(&mut cluster, leader, 50).await;
            assert!(ticks <= 9, "{ticks} ticks, an election timeout is 10 to 19");
            cluster.heal().await;
        }
    });
}

#[test]
fn a_false_alarm_unseats_nobody() {
    run(async |core| {
        for seed in 0..30 {
            let (mut cluster, leader) = match seed % 2 {
                0 => at_rest(&core, 400 + seed).await,
                _ => asleep(&core, 400 + seed).await,
            };
            let node = node_of(&cluster, leader);
            let term = cluster.replica(leader).term();
            let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
            // Of one, or of both; a link that breaks is noticed at both its ends.
            let alarmed = if seed % 3 == 0 {
                &others[..]
            } else {
                &others[..1]
            };
            for at in alarmed {
                let other = node_of(&cluster, *at);
                cluster.nodes[*at].replicas.peer_lost(node);
                cluster.nodes[leader].replicas.peer_lost(other);
            }
            for _ in 0..40 {
                cluster.tick_all().await;
                assert_eq!(cluster.leader(), Some(leader));
            }
            for at in 0..3 {
                assert_eq!(cluster.replica(at).term(), term);
                assert_eq!(cluster.replica(at).leader(), Some(cluster.nodes[leader].id));
            }
        }
    });
}

#[test]
fn a_removed_member_that_does_not_know_wakes_nobody() {
    run(async |core| {
        let (mut cluster, leader) = at_rest(&core, 9).await;
        let gone = (leader + 1) % 3;
        let removed = cluster.nodes[gone].id;
        cluster.isolate(Some(removed));
        let change = [raft_group::Change::Remove(removed)];
        cluster
            .replica_mut(leader)
            .propose_members(&change)
            .unwrap();
        for _ in 0..100 {
            cluster.tick_all().await;
        }
        assert_eq!(sleepers(&cluster), 2);
        cluster.isolate(None);
        for _ in 0..100 {
            cluster.tick_all().await;
        }
        assert_ne!(
            cluster.replica(gone).leader(),
            Some(cluster.nodes[leader].id)
        );
        assert_eq!(sleepers(&cluster), 2);
    });
}

/// One core of each of three nodes, with a replica of every group.
struct Shard {
    journal: Journal,
    replicas: Replicas,
    out: Outputs,
}

const GROUPS: u32 = 200;

impl Shard {
    async fn new(core: &Core, node: i32) -> Shard {
        let data = format!("/{}/{node}", core.random());
        let recovered = recover(core.disk(), Path::new(&data), 0, 1, Options::default());
        let mut journal = recovered.await.unwrap().journal;
        let mut replicas = Replicas::new();
        for group in 0..GROUPS {
            let log = journal.create_log(partition(group));
            let bootstrap = Members::of_voters((1..=3).map(id));
            let config = ReplicaConfig::new(id(node), bootstrap, u64::from(group));
            replicas.insert(Replica::open(log, &config, None, 0).unwrap());
        }
        let out = Outputs::default();
        Shard {
            journal,
            replicas,
            out,
        }
    }

    async fn turn(&mut self) {
        self.replicas.pass(&mut self.journal, &mut self.out);
        if let Some(write) = self.journal.seal() {
            self.journal.written(write.run().await).unwrap();
            if let Some(job) = self.journal.begin_prepare() {
                drop(job); // what is ready at the start is enough
            }
        }
        self.replicas.persisted(self.journal.durable_turn());
        self.replicas.pass(&mut self.journal, &mut self.out);
        for (partition, range) in self.out.committed.drain(..) {
            self.replicas.applied(partition, *range.end());
        }
    }
}

fn partition(group: u32) -> PartitionId {
    PartitionId {
        topic: 5,
        partition: group,
    }
}

/// A tick of all, and everything that follows; how many messages and beats that were.
async fn tick(shards: &mut [Shard]) -> usize {
    let mut sent = 0;
    shards.iter_mut().for_each(|shard| shard.replicas.tick());
    for _ in 0..6 {
        for at in 0..shards.len() {
            shards[at].turn().await;
            let messages = std::mem::take(&mut shards[at].out.messages);
            let frames = shards[at].out.beats.take();
            shards[at].out.clear();
            sent += messages.len() + frames.iter().map(|frame| frame.beats.len()).sum::<usize>();
            for (partition, message) in messages {
                let to = &mut shards[message.to.node() as usize - 1];
                to.replicas.step(partition, message).unwrap();
            }
            for frame in frames {
                let to = &mut shards[frame.to.node() as usize - 1];
                assert_eq!(to.replicas.step_beats(frame), 0);
            }
        }
    }
    sent
}

#[test]
fn hundreds_of_idle_groups_sleep_and_wake_one_by_one() {
    run(async |core| {
        let mut shards = Vec::new();
        for node in 1..=3 {
            shards.push(Shard::new(&core, node).await);
        }
        let mut ticks = 0;
        while shards.iter().any(|shard| shard.replicas.wants_ticks()) {
            tick(&mut shards).await;
            ticks += 1;
            assert!(ticks < 200, "after {ticks} ticks somebody is awake");
        }
        for _ in 0..100 {
            assert_eq!(tick(&mut shards).await, 0);
            assert!(shards.iter().all(|shard| !shard.replicas.wants_pass()));
        }
        let leads = |shard: &Shard, group| {
            shard.replicas.get(partition(group)).unwrap().role() == Role::Leader
        };
        let at = shards.iter().position(|shard| leads(shard, 7)).unwrap();
        let leader = shards[at].replicas.get_mut(partition(7)).unwrap();
        leader.propose(EntryKind::Batch, batch(1, b"x")).unwrap();
        let sent = tick(&mut shards).await;
        assert!((4..12).contains(&sent), "{sent} messages for one group");
        let awake = shards.iter().flat_map(|shard| shard.replicas.iter());
        assert_eq!(awake.filter(|replica| !replica.is_asleep()).count(), 3);
        // A node is lost: the groups that it led are led by the others, evenly, and sleep again.
        let led = |shard: &Shard| (0..GROUPS).filter(|group| leads(shard, *group)).count();
        let before = [0, 1, 2].map(|at| led(&shards[at]));
        let mut gone = shards.pop().unwrap();
        gone.replicas = Replicas::new();
        shards
            .iter_mut()
            .for_each(|shard| shard.replicas.peer_lost(3));
        let mut ticks = 0;
        while shards.iter().any(|shard| shard.replicas.wants_ticks()) {
            tick_two(&mut shards).await;
            ticks += 1;
            assert!(ticks < 100, "after {ticks} ticks somebody is awake");
        }
        let gained = [0, 1].map(|at| led(&shards[at]) - before[at]);
        assert_eq!(gained[0] + gained[1], before[2]);
        assert!(
            gained.iter().all(|gained| *gained * 4 > before[2]),
            "{gained:?}"
        );
    });
}

/// As [`tick`], with the third node gone.
async fn tick_two(shards: &mut [Shard]) {
    shards.iter_mut().for_each(|shard| shard.replicas.tick());
    for _ in 0..6 {
        for at in 0..2 {
            shards[at].turn().await;
            let messages = std::mem::take(&mut shards[at].out.messages);
            let frames = shards[at].out.beats.take();
            shards[at].out.clear();
            for (partition, message) in messages {
                if let Some(to) = shards.get_mut(message.to.node() as usize - 1) {
                    to.replicas.step(partition, message).unwrap();
                }
            }
            for frame in frames {
                if let Some(to) = shards.get_mut(frame.to.node() as usize - 1) {
                    to.replicas.step_beats(frame);
                }
            }
        }
    }
}

/// Its node lives, so nobody is told that the leader of a group is gone; and in a group that sleeps nobody misses its beats.
#[test]
fn a_leader_that_is_fenced_is_replaced_in_a_group_that_sleeps() {
    run(async |core| {
        let (mut cluster, leader) = asleep(&core, 61).await;
        cluster.replica_mut(leader).fence("for the test".to_owned());
        let (_, next) = until_led(&mut cluster, leader, 2).await;
        assert_ne!(next, leader);
    });
}
