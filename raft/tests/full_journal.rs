//! What a replica does whose journal has no room, when it is needed for a majority.

mod cluster;

use cluster::Cluster;
use cluster::disk::run;

/// An entry of a leader that froze is held by the other two, whose acknowledgements were lost. One of them has no
/// room; the other one is elected.
#[test]
fn a_full_follower_helps_a_new_leader_to_commit_what_the_last_one_left() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 37, &[1, 2, 3], &[]).await;
        cluster.minds_room = true;
        let frozen = cluster.heal().await;
        let (full, next) = ((frozen + 1) % 3, (frozen + 2) % 3);
        let left = cluster.propose(frozen, 1, b"left behind").unwrap().index;
        cluster.pass(frozen);
        cluster.finish_write(frozen).await;
        cluster.deliver_all();
        for at in [full, next] {
            cluster.pass(at);
            cluster.finish_write(at).await;
        }
        cluster.isolate(Some(cluster.nodes[frozen].id));
        for at in [full, next] {
            assert_eq!(cluster.replica(at).last_index(), left);
            assert!(cluster.replica(at).commit_index() < left);
        }
        cluster.nodes[full].disk.fill().await;

        // Votes are refused as long as the last leader may be there.
        for _ in 0..200 {
            cluster.tick_all().await;
            cluster.replica_mut(next).campaign();
            cluster.settle().await;
            if cluster.replica(next).is_serving() {
                break;
            }
        }
        assert!(
            cluster.replica(next).is_serving(),
            "{:#?}",
            cluster.states()
        );
        assert!(cluster.replica(full).commit_index() >= left);

        // That was all: what clients bring now waits until there is room.
        let its_first = cluster.replica(full).last_index();
        let new = cluster.propose(next, 1, b"new").unwrap().index;
        for _ in 0..20 {
            cluster.tick_all().await;
        }
        assert_eq!(cluster.replica(full).last_index(), its_first);
        assert!(cluster.replica(next).commit_index() < new);

        cluster.nodes[full].disk.may_grow = true;
        cluster.nodes[full].disk.grow().await;
        let leader = cluster.heal().await;
        assert!(cluster.replica(leader).commit_index() >= new);
        assert!(cluster.nodes[leader].applied.contains_key(&left));
    });
}
