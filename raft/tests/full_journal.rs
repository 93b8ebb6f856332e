//! What a replica does whose journal has no room, when it is needed for a majority.

mod cluster;

use bytes::Bytes;
use cluster::Cluster;
use cluster::disk::run;
use raft_group::{Append, Body, Entry, Message};
use storage::EntryKind;

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

/// What a follower takes must fit all at once, or it waits in the middle and hears nothing of what is committed.
#[test]
fn a_follower_takes_of_an_append_what_fits() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 38, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        let follower = cluster.replica((leader + 1) % 3);
        let (from, to, term) = (cluster.nodes[leader].id, follower.id(), follower.term());
        let entry = |bytes: usize| Entry {
            term,
            kind: EntryKind::Command,
            data: Bytes::from(vec![7; bytes]),
        };
        // The last entry that it has comes again, and four new ones behind it.
        let last = follower.last_index();
        let known = Entry {
            term: follower.log().last_term(),
            ..entry(8)
        };
        let left = |room_bytes, at_least| {
            let entries = vec![known.clone(), entry(800), entry(100), entry(900), entry(1)];
            let body = Body::Append(Append {
                prev_index: last - 1,
                prev_term: 0,
                commit: 0,
                entries,
            });
            let mut message = Message {
                from,
                to,
                term,
                body,
            };
            let bytes = follower.leave_out_what_does_not_fit(&mut message, room_bytes, at_least);
            let Body::Append(append) = message.body else {
                panic!("it was an append");
            };
            (append.entries.len(), bytes > 0)
        };
        assert_eq!(left(0, 0), (1, false), "only what it has");
        assert_eq!(left(0, 1), (2, true));
        assert_eq!(
            left(700, 0),
            (1, false),
            "none behind one that does not fit"
        );
        assert_eq!(left(1_200, 0), (3, true));
        assert_eq!(left(1_200, 1), (3, true));
        assert_eq!(left(1 << 20, 0), (5, true));
    });
}

/// A newcomer to a log that many leaders have written took all that it was sent, room or not, as long as it had not got as
/// far as the present leader's term: its journal was full of entries of which it had not heard that they are committed,
/// and it waited in the middle of some more, and never heard. (Found by a mix of faults on real processes.)
#[test]
fn what_is_committed_elsewhere_is_no_reason_to_take_more_than_fits() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 39, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        let at = (leader + 1) % 3;
        let last = cluster.propose(leader, 1, b"not yet committed").unwrap();
        cluster.pass(leader);
        cluster.finish_write(leader).await;
        cluster.deliver_all();
        cluster.pass(at);
        cluster.finish_write(at).await;
        let follower = cluster.replica(at);
        assert_eq!(follower.last_index(), last.index);
        assert!(follower.commit_index() < last.index);
        // Of the third leader since, which has not come to its own entries yet.
        let taken = |prev_index, commit| {
            let entry = Entry {
                term: last.term + 1,
                kind: EntryKind::Command,
                data: Bytes::from_static(b"history"),
            };
            let body = Body::Append(Append {
                prev_index,
                prev_term: last.term,
                commit,
                entries: vec![entry; 5],
            });
            let mut message = Message {
                from: cluster.nodes[leader].id,
                to: follower.id(),
                term: last.term + 3,
                body,
            };
            follower.leave_out_what_does_not_fit(&mut message, 0, 0);
            let Body::Append(append) = message.body else {
                panic!("it was an append");
            };
            append.entries.len()
        };
        assert_eq!(taken(last.index, last.index + 1_000), 0);
        assert_eq!(taken(last.index, last.index), 0);
        assert_eq!(
            taken(last.index, last.index - 1),
            5,
            "it may have to be committed by them"
        );
        assert_eq!(
            taken(last.index - 1, last.index + 1_000),
            1,
            "it replaces what only this one has"
        );
    });
}
