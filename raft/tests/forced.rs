//! Groups whose majority is gone for good, and that go on from one replica. The oracle of `cluster` holds here too:
//! what was once handed out as committed stays, whoever leads.

mod cluster;

use std::cell::Cell;
use std::rc::Rc;

use cluster::disk::run;
use cluster::{Cluster, PARTITION, id};
use raft_group::{Change, Forced, Members, Role};
use runtime::Core;

/// A term that nobody can have been in.
const TERM: u64 = 1_000;

/// Nothing passes between these two.
fn cut(cluster: &mut Cluster, one: i32, other: i32) {
    cluster.blocked.push((id(one), id(other)));
    cluster.blocked.push((id(other), id(one)));
}

/// Nodes 3, 4 and 5 are never heard of again.
fn lose_three(cluster: &mut Cluster) {
    for lost in 3..=5 {
        (1..=5)
            .filter(|other| *other != lost)
            .for_each(|other| cut(cluster, lost, other));
    }
    cluster.lose_letters();
    cluster.forced_term = TERM;
}

/// Five nodes, led by the node at this place.
async fn led_by(core: &Core, seed: u64, at: usize) -> Cluster {
    let mut cluster = Cluster::new(core, seed, &[1, 2, 3, 4, 5], &[]).await;
    for _ in 0..100 {
        let leader = cluster.heal().await;
        if leader == at {
            return cluster;
        }
        let to = cluster.nodes[at].id;
        cluster.replica_mut(leader).transfer_leader(to).unwrap();
        cluster.settle().await;
    }
    panic!("seed {seed}: node {at} never leads");
}

/// Ticks until this node serves.
async fn until_serving(cluster: &mut Cluster, at: usize) {
    for _ in 0..100 {
        if cluster.replica(at).is_serving() {
            return;
        }
        cluster.tick_all().await;
    }
    panic!("{:#?}", cluster.states());
}

/// Carries a change of members through at a leader.
async fn change(cluster: &mut Cluster, at: usize, changes: &[Change]) {
    cluster.replica_mut(at).propose_members(changes).unwrap();
    for _ in 0..100 {
        cluster.settle().await;
        if !cluster.replica(at).members().is_joint() {
            return;
        }
        cluster.tick_all().await;
    }
    panic!("{:#?}", cluster.states());
}

#[test]
fn the_longest_log_goes_on_and_the_other_survivor_follows_it() {
    run(async |core| {
        let mut cluster = led_by(&core, 11, 0).await;
        let kept = cluster.propose(0, 3, b"acknowledged").unwrap();
        cluster.settle().await;
        lose_three(&mut cluster);
        let followed = cluster.propose(0, 2, b"at two").unwrap();
        cluster.settle().await;
        cut(&mut cluster, 1, 2);
        let alone = cluster.propose(0, 2, b"at one").unwrap();
        cluster.settle().await;
        assert!(cluster.replica(0).commit_index() < followed.index);

        assert_eq!(cluster.replica_mut(0).force_alone(TERM), Ok(Forced::Whole));
        until_serving(&mut cluster, 0).await;
        let replica = cluster.replica(0);
        assert!(replica.term() > TERM, "{replica:?}");
        assert_eq!(*replica.members(), Members::of_voters([id(1)]));
        for index in [kept.index, followed.index, alone.index] {
            assert_eq!(replica.log().term(index), Some(kept.term));
            assert!(cluster.committed.contains_key(&index));
        }
        let more = cluster.propose(0, 1, b"served again").unwrap();
        cluster.settle().await;
        assert!(cluster.committed.contains_key(&more.index));

        // The other one comes back with the old configuration in its head.
        cluster
            .blocked
            .retain(|(from, to)| from.node() > 2 || to.node() > 2);
        change(&mut cluster, 0, &[Change::AddLearner(id(2))]).await;
        for _ in 0..50 {
            cluster.tick_all().await;
        }
        change(&mut cluster, 0, &[Change::AddVoter(id(2))]).await;
        let last = cluster.propose(0, 1, b"by two").unwrap();
        for _ in 0..20 {
            cluster.tick_all().await;
        }
        assert_eq!(cluster.nodes[1].applied[&last.index].0, last.term);
        assert_eq!(
            *cluster.replica(1).members(),
            Members::of_voters([id(1), id(2)])
        );
        // Who was lost lives in a past that nobody hears of.
        assert!(cluster.replica(2).term() < TERM);
    });
}

#[test]
fn a_survivor_with_a_tail_of_its_own_gives_it_up() {
    run(async |core| {
        let mut cluster = led_by(&core, 12, 1).await;
        // Node 2 leads on without a majority, while the others elect another leader.
        cluster.isolate(Some(id(2)));
        let lost = cluster.propose(1, 4, b"never acknowledged").unwrap();
        let deposed = |cluster: &Cluster| {
            let leader = cluster.leader();
            leader.is_some_and(|at| at != 1 && cluster.replica(at).is_serving())
        };
        for _ in 0..200 {
            if deposed(&cluster) {
                break;
            }
            cluster.tick_all().await;
        }
        let leader = cluster.leader().expect("the others are a majority");
        let acknowledged = cluster.propose(leader, 1, b"acknowledged").unwrap();
        cluster.settle().await;
        assert!(cluster.committed.contains_key(&acknowledged.index));
        assert!(acknowledged.term > lost.term);
        cluster.isolate(None);
        lose_three(&mut cluster);
        cut(&mut cluster, 1, 2);
        cluster.lose_letters();

        assert_eq!(cluster.replica_mut(0).force_alone(TERM), Ok(Forced::Whole));
        until_serving(&mut cluster, 0).await;
        cluster
            .blocked
            .retain(|(from, to)| from.node() > 2 || to.node() > 2);
        change(&mut cluster, 0, &[Change::AddLearner(id(2))]).await;
        for _ in 0..50 {
            cluster.tick_all().await;
        }
        let (one, two) = (cluster.replica(0), cluster.replica(1));
        assert_eq!(two.log().term(acknowledged.index), Some(acknowledged.term));
        assert_eq!(two.log().last_index(), one.log().last_index());
        assert_eq!(two.role(), Role::Follower);
    });
}

#[test]
fn any_configuration_may_be_in_force_a_joint_one_too() {
    run(async |core| {
        let mut cluster = led_by(&core, 13, 0).await;
        let changes = [Change::Remove(id(5)), Change::AddLearner(id(4))];
        cluster.replica_mut(0).propose_members(&changes).unwrap();
        for _ in 0..1_000 {
            if cluster.replica(0).members().is_joint() {
                break;
            }
            for at in 0..5 {
                cluster.pass(at);
                cluster.finish_write(at).await;
            }
            cluster.deliver_all();
        }
        assert!(cluster.replica(0).members().is_joint());
        lose_three(&mut cluster);
        cut(&mut cluster, 1, 2);
        assert_eq!(cluster.replica_mut(0).force_alone(TERM), Ok(Forced::Whole));
        until_serving(&mut cluster, 0).await;
        assert_eq!(*cluster.replica(0).members(), Members::of_voters([id(1)]));
        // And it is what a start finds.
        cluster.crash(0).await;
        until_serving(&mut cluster, 0).await;
        assert_eq!(*cluster.replica(0).members(), Members::of_voters([id(1)]));
        // The follower goes through the same configurations, the joint one included.
        cluster
            .blocked
            .retain(|(from, to)| from.node() > 2 || to.node() > 2);
        change(&mut cluster, 0, &[Change::AddLearner(id(2))]).await;
        for _ in 0..50 {
            cluster.tick_all().await;
        }
        assert_eq!(cluster.replica(1).members(), cluster.replica(0).members());
    });
}

#[test]
fn what_is_not_on_the_disk_yet_has_not_happened() {
    // Bit 0: it had not happened; bit 1: it had.
    let outcomes = Rc::new(Cell::new(0u8));
    for seed in 20..40 {
        let outcomes = outcomes.clone();
        run(async move |core| {
            let mut cluster = led_by(&core, seed, 0).await;
            let kept = cluster.propose(0, 1, b"kept").unwrap();
            cluster.settle().await;
            lose_three(&mut cluster);
            cut(&mut cluster, 1, 2);
            assert_eq!(cluster.replica_mut(0).force_alone(TERM), Ok(Forced::Whole));
            cluster.pass(0);
            // The write may have been done or not.
            cluster.crash(0).await;
            let happened = *cluster.replica(0).members() == Members::of_voters([id(1)]);
            for _ in 0..50 {
                cluster.tick_all().await;
            }
            assert_eq!(cluster.replica(0).is_serving(), happened, "seed {seed}");
            if !happened {
                assert_eq!(cluster.replica_mut(0).force_alone(TERM), Ok(Forced::Whole));
                until_serving(&mut cluster, 0).await;
            }
            outcomes.set(outcomes.get() | 1 << u8::from(happened));
            assert_eq!(*cluster.replica(0).members(), Members::of_voters([id(1)]));
            assert!(cluster.committed.contains_key(&kept.index));
        });
    }
    assert_eq!(outcomes.get(), 0b11, "both have been seen");
}

#[test]
fn who_takes_part_in_nothing_cannot_go_on_alone() {
    run(async |core| {
        let mut cluster = led_by(&core, 14, 0).await;
        cluster.replica_mut(0).fence("for the test".to_owned());
        let refused = cluster.replica_mut(0).force_alone(TERM).unwrap_err();
        assert!(refused.to_string().contains("for the test"), "{refused}");
        let refused = cluster.replica_mut(1).force_alone(u64::from(u32::MAX));
        assert!(refused.is_err(), "no leader epoch is so high");
        assert!(
            cluster.nodes[1]
                .replicas
                .get(PARTITION)
                .unwrap()
                .fenced()
                .is_none()
        );
    });
}
