//! Proof of the lead: who may answer from its state without an append.

mod cluster;

use cluster::disk::run;
use cluster::{Cluster, Faults};
use raft_group::{Event, Mutation, Role};
use runtime::Core;

/// The reads that a node has had confirmed, with what they may read up to.
fn confirmed(cluster: &Cluster, at: usize) -> Vec<(u64, u64)> {
    let events = cluster.nodes[at].events.iter();
    let confirmed = events.filter_map(|event| match event {
        Event::LeadConfirmed { read, index } => Some((*read, *index)),
        _ => None,
    });
    confirmed.collect()
}

#[test]
fn a_majority_confirms_the_lead_and_a_sole_voter_its_own() {
    run(async |core| {
        for voters in [&[1][..], &[1, 2, 3]] {
            let mut cluster = Cluster::new(&core, 1, voters, &[]).await;
            let leader = cluster.heal().await;
            let proposed = cluster.propose(leader, 1, b"seen").unwrap();
            cluster.settle().await;
            let read = cluster.ask_for_lead(leader).unwrap();
            cluster.settle().await;
            assert_eq!(confirmed(&cluster, leader), [(read, proposed.index)]);
        }
    });
}

#[test]
fn who_does_not_lead_or_does_not_serve_has_nothing_to_prove() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 2, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        assert_eq!(cluster.replica_mut((leader + 1) % 3).confirm_lead(), None);
        let mut alone = Cluster::new(&core, 2, &[1], &[]).await;
        assert_eq!(alone.replica(0).role(), Role::Leader);
        assert_eq!(alone.replica_mut(0).confirm_lead(), None, "not serving yet");
        alone.settle().await;
        assert!(alone.ask_for_lead(0).is_some());
    });
}

/// A leader is cut off, another one commits more, and the first one is asked to read.
async fn read_at_a_deposed_leader(core: &Core, mutation: Option<Mutation>) {
    let mut cluster = Cluster::new(core, 3, &[1, 2, 3], &[]).await;
    cluster.mutation = mutation;
    for at in 0..3 {
        cluster.crash(at).await;
    }
    let old = cluster.heal().await;
    let id = cluster.nodes[old].id;
    cluster.isolate(Some(id));
    let next = loop {
        for at in (0..3).filter(|at| *at != old) {
            cluster.nodes[at].replicas.tick();
        }
        cluster.settle().await;
        match (0..3).find(|at| *at != old && cluster.replica(*at).is_serving()) {
            Some(next) => break next,
            None => continue,
        }
    };
    cluster.propose(next, 1, b"unknown to the old one").unwrap();
    cluster.settle().await;
    assert!(cluster.replica(old).is_serving(), "as far as it knows");
    cluster.ask_for_lead(old).expect("it may try");
    cluster.settle().await;
    assert!(confirmed(&cluster, old).is_empty());
    // What it hears first when it is back is that it leads no more.
    assert_eq!(cluster.heal().await, next);
    assert!(confirmed(&cluster, old).is_empty());
    assert_eq!(cluster.replica(old).role(), Role::Follower);
}

#[test]
fn a_deposed_leader_that_does_not_know_it_proves_nothing() {
    run(async |core| read_at_a_deposed_leader(&core, None).await);
}

#[test]
#[should_panic(expected = "was committed, and reads")]
fn one_that_asks_nobody_reads_what_is_not_true_any_more() {
    run(async |core| read_at_a_deposed_leader(&core, Some(Mutation::ReadWithoutProof)).await);
}

#[test]
fn a_read_whose_beats_are_lost_is_confirmed_by_later_ones_and_wakes_a_group_that_sleeps() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 4, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        for _ in 0..200 {
            cluster.tick_all().await;
        }
        assert!(cluster.replica(leader).is_asleep());
        let first = cluster.ask_for_lead(leader).unwrap();
        cluster.pass(leader);
        cluster.lose_letters();
        let second = cluster.ask_for_lead(leader).unwrap();
        cluster.pass(leader);
        cluster.lose_letters();
        assert!(confirmed(&cluster, leader).is_empty());
        for _ in 0..10 {
            cluster.tick_all().await;
        }
        let reads: Vec<u64> = confirmed(&cluster, leader)
            .into_iter()
            .map(|(read, _)| read)
            .collect();
        assert_eq!(reads, [first, second]);
        for _ in 0..200 {
            cluster.tick_all().await;
        }
        assert!(cluster.replica(leader).is_asleep(), "and it sleeps again");
    });
}

/// Random runs under all faults, in which `on_event` compares each confirmed read with what was committed when it began.
#[test]
fn no_read_misses_what_was_committed_before_it_began() {
    run(async |core| {
        let mut proofs = 0;
        for seed in 0..30 {
            let mut cluster = Cluster::new(&core, 700 + seed, &[1, 2, 3, 4, 5], &[]).await;
            cluster.faults = Faults::ALL;
            for _ in 0..3_000 {
                let at = cluster.random.below(5) as usize;
                if cluster.random.percent(10) {
                    cluster.ask_for_lead(at);
                }
                cluster.step().await;
            }
            cluster.heal().await;
            proofs += cluster.coverage.proofs;
        }
        assert!(proofs > 500, "{proofs} reads were confirmed");
    });
}
