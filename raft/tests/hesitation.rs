//! A replica that would rather not lead, since its node has no room: others are elected in its place, if they can be.

mod cluster;

use cluster::Cluster;
use cluster::disk::run;

/// A group of three at rest, its leader, and the others: one that hesitates and one that does not.
async fn at_rest(core: &runtime::Core, seed: u64) -> (Cluster, usize, usize, usize) {
    let mut cluster = Cluster::new(core, seed, &[1, 2, 3], &[]).await;
    let leader = cluster.heal().await;
    let (hesitant, other) = match seed % 2 {
        0 => ((leader + 1) % 3, (leader + 2) % 3),
        _ => ((leader + 2) % 3, (leader + 1) % 3),
    };
    cluster.nodes[hesitant].replicas.hesitate(true);
    (cluster, leader, hesitant, other)
}

/// Who leads when the leader is not heard any more, and whether its followers know that its node is lost.
async fn successor(cluster: &mut Cluster, leader: usize, alarm: bool, ticks_max: usize) -> usize {
    let lost = cluster.nodes[leader].id;
    cluster.isolate(Some(lost));
    if alarm {
        for at in (0..3).filter(|at| *at != leader) {
            cluster.nodes[at].replicas.peer_lost(lost.node());
        }
    }
    for _ in 0..ticks_max {
        for at in (0..3).filter(|at| *at != leader) {
            cluster.nodes[at].replicas.tick();
        }
        cluster.settle().await;
        let next = cluster.leader().filter(|at| *at != leader);
        if let Some(next) = next.filter(|at| cluster.replica(*at).is_serving()) {
            return next;
        }
    }
    panic!("nobody leads: {:#?}", cluster.states());
}

#[test]
fn another_one_is_elected_in_its_place() {
    run(async |core| {
        for seed in 0..24 {
            for alarm in [false, true] {
                let (mut cluster, leader, _, other) = at_rest(&core, seed).await;
                // As soon as if nobody hesitated: two election timeouts of ten ticks, or what an alarm takes.
                let ticks_max = if alarm { 8 } else { 24 };
                let next = successor(&mut cluster, leader, alarm, ticks_max).await;
                assert_eq!(next, other, "seed {seed}, alarm: {alarm}");
            }
        }
    });
}

#[test]
fn it_leads_if_nobody_else_has_what_is_committed() {
    run(async |core| {
        for seed in 0..12 {
            for alarm in [false, true] {
                let (mut cluster, leader, hesitant, other) = at_rest(&core, seed).await;
                cluster.isolate(Some(cluster.nodes[other].id));
                let index = cluster.propose(leader, 1, b"x").unwrap().index;
                cluster.settle().await;
                assert!(cluster.replica(leader).commit_index() >= index);
                let next = successor(&mut cluster, leader, alarm, 100).await;
                assert_eq!(next, hesitant, "seed {seed}, alarm: {alarm}");
            }
        }
    });
}

#[test]
fn it_is_like_the_others_when_it_has_room_again() {
    run(async |core| {
        let mut led = 0;
        for seed in 0..24 {
            let (mut cluster, leader, hesitant, _) = at_rest(&core, seed).await;
            cluster.nodes[hesitant].replicas.hesitate(false);
            led += usize::from(successor(&mut cluster, leader, true, 8).await == hesitant);
        }
        assert!((4..=20).contains(&led), "{led} of 24");
    });
}
