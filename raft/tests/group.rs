//! Groups of several replicas: scenarios, and random runs under faults. See `cluster`.

mod cluster;

use cluster::disk::run;
use cluster::{Cluster, Faults, batch, id};
use raft_group::{
    Body, Change, Event, MembersError, Message, Outputs, ProposeError, Proposed, Reject, Role,
    StepError, TransferError,
};
use runtime::Core;
use storage::EntryKind;

/// A random run of `steps` under all faults, then healed; the hash of everything that happened.
async fn random_run(core: &Core, seed: u64, steps: usize) -> Cluster {
    let mut cluster = Cluster::new(core, seed, &[1, 2, 3], &[]).await;
    cluster.faults = Faults::ALL;
    for step in 0..steps {
        cluster.step().await;
        if step % 100 == 0 {
            cluster.check_log_matching();
        }
    }
    cluster.heal().await;
    cluster
}

#[test]
fn three_elect_one_and_replicate() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 1, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        let first = cluster.propose(leader, 3, b"abc").unwrap();
        let second = cluster.propose(leader, 2, b"de").unwrap();
        assert_eq!(
            second,
            Proposed {
                index: first.index + 1,
                base_offset: 3,
                ..first
            }
        );
        cluster.settle().await;
        assert_eq!(cluster.heal().await, leader);
        for node in &cluster.nodes {
            assert_eq!(node.applied[&second.index], (second.term, 5));
        }
        // No-op, the record of the members, and the two batches.
        assert_eq!(cluster.committed.len(), 4);
        assert_eq!(cluster.committed[&2].1, EntryKind::Membership);
        // What a follower holds is what was written: offset and epoch in place.
        let data = &cluster.committed[&second.index].2;
        assert_eq!(data[..8], 3i64.to_be_bytes());
        assert_eq!(data[12..16], (second.term as u32).to_be_bytes());
    });
}

#[test]
fn a_sole_voter_leads_at_once_and_serves_after_its_first_commit() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 1, &[1], &[]).await;
        assert_eq!(cluster.replica(0).role(), Role::Leader);
        assert!(!cluster.replica(0).is_serving());
        assert!(
            !cluster.nodes[0].replicas.wants_ticks(),
            "nothing to wait for"
        );
        cluster.pass(0);
        assert!(!cluster.replica(0).is_serving(), "written, not yet synced");
        cluster.finish_write(0).await;
        cluster.pass(0);
        assert!(cluster.replica(0).is_serving());
        assert_eq!(cluster.nodes[0].events[0], Event::BecameLeader { term: 1 });

        let proposed = cluster.propose(0, 4, b"x").unwrap();
        cluster.pass(0);
        assert_eq!(cluster.replica(0).commit_index(), proposed.index - 1);
        cluster.finish_write(0).await;
        cluster.pass(0);
        assert_eq!(cluster.nodes[0].applied[&proposed.index], (1, 4));

        cluster.crash(0).await;
        assert_eq!(cluster.replica(0).role(), Role::Leader);
        assert_eq!(cluster.replica(0).term(), 2);
        assert!(!cluster.replica(0).is_serving());
        cluster.settle().await;
        assert!(cluster.replica(0).is_serving());
        assert_eq!(cluster.replica(0).next_offset(), 4);
        assert_eq!(cluster.nodes[0].applied[&proposed.index], (1, 4));
    });
}

#[test]
fn a_leader_serves_only_after_a_commit_of_its_own_term() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 3, &[1, 2, 3], &[]).await;
        let old = cluster.heal().await;
        cluster.propose(old, 1, b"kept").unwrap();
        cluster.settle().await;
        // The next leader can be elected, but its no-op cannot be committed.
        let next = (old + 1) % 3;
        let to = cluster.nodes[next].id;
        cluster.replica_mut(old).transfer_leader(to).unwrap();
        for _ in 0..100 {
            if cluster.replica(next).role() == Role::Leader {
                break;
            }
            for at in 0..3 {
                cluster.pass(at);
                cluster.finish_write(at).await;
                cluster.pass(at);
            }
            cluster.deliver_all();
        }
        assert_eq!(cluster.replica(next).role(), Role::Leader);
        assert!(
            !cluster.replica(next).is_serving(),
            "its own term is not committed"
        );
        cluster.isolate(Some(to));
        cluster.settle().await;
        assert!(!cluster.replica(next).is_serving(), "nobody has its no-op");
        cluster.heal().await;
    });
}

#[test]
fn a_conflicting_tail_is_replaced() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 5, &[1, 2, 3], &[]).await;
        let old = cluster.heal().await;
        let kept = cluster.propose(old, 2, b"kept").unwrap();
        cluster.settle().await;
        cluster.isolate(Some(cluster.nodes[old].id));
        for body in [b"lost1", b"lost2", b"lost3"] {
            cluster.propose(old, 5, body).unwrap();
        }
        cluster.settle().await;
        assert_eq!(cluster.replica(old).log().next_offset(), 17);
        // The others elect one of themselves and go on.
        for _ in 0..100 {
            cluster
                .nodes
                .iter_mut()
                .for_each(|node| node.replicas.tick());
            cluster.settle().await;
        }
        let new = cluster.leader().unwrap();
        assert_ne!(new, old);
        assert_ne!(
            cluster.replica(old).role(),
            Role::Leader,
            "check-quorum unseats it"
        );
        let won = cluster.propose(new, 1, b"won").unwrap();
        assert_eq!(won.base_offset, 2);
        cluster.heal().await;
        assert_eq!(cluster.replica(old).log().next_offset(), 3);
        assert_eq!(cluster.nodes[old].applied[&kept.index], (kept.term, 2));
        assert_eq!(cluster.nodes[old].applied[&won.index], (won.term, 3));
        // What the owner made of the lost ones can be taken back.
        let told = |event: &&Event| matches!(event, Event::Truncated { .. });
        let told: Vec<&Event> = cluster.nodes[old].events.iter().filter(told).collect();
        let from = kept.index + 1;
        assert_eq!(told, [&Event::Truncated { from }]);
    });
}

#[test]
fn a_restarted_follower_catches_up() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 9, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        let follower = (leader + 1) % 3;
        cluster.isolate(Some(cluster.nodes[follower].id));
        for number in 0..50u64 {
            cluster.propose(leader, 1, &number.to_le_bytes()).unwrap();
        }
        cluster.settle().await;
        cluster.crash(follower).await;
        assert_eq!(cluster.heal().await, leader);
        assert_eq!(
            cluster.nodes[follower].applied,
            cluster.nodes[leader].applied
        );
        assert_eq!(cluster.replica(follower).log().next_offset(), 50);
    });
}

#[test]
fn random_runs_keep_every_invariant() {
    run(async |core| {
        let mut commits = 0;
        let mut terms = 0;
        for seed in 0..40 {
            let cluster = random_run(&core, seed, 3_000).await;
            commits += cluster.committed.len();
            terms += cluster.replica(0).term();
        }
        // A run in which nothing happens would prove nothing.
        assert!(commits > 40 * 100, "{commits} commits in all");
        assert!(terms > 40 * 3, "{terms} terms in all");
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    run(async |core| {
        let mut traces = Vec::new();
        for seed in 0..50 {
            let first = random_run(&core, seed, 1_000).await.trace();
            let second = random_run(&core, seed, 1_000).await.trace();
            assert_eq!(first, second, "seed {seed} gives two different runs");
            traces.push(first);
        }
        traces.sort_unstable();
        traces.dedup();
        assert_eq!(traces.len(), 50, "different seeds give different runs");
    });
}

#[test]
#[should_panic(expected = "its disk has")]
fn the_checks_notice_a_disk_that_confirms_too_early() {
    run(async |core| {
        for seed in 0..20 {
            let mut cluster = Cluster::new(&core, seed, &[1, 2, 3], &[]).await;
            cluster.lying_disks = true;
            for _ in 0..3_000 {
                cluster.step().await;
            }
        }
    });
}

#[test]
fn leadership_is_handed_over() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 11, &[1, 2, 3], &[]).await;
        let old = cluster.heal().await;
        let new = (old + 1) % 3;
        let to = cluster.nodes[new].id;
        let own = cluster.nodes[old].id;
        let refused = cluster.replica_mut(old).transfer_leader(own);
        assert_eq!(refused, Err(TransferError::NotVoter(own)));
        cluster.replica_mut(old).transfer_leader(to).unwrap();
        assert_eq!(cluster.propose(old, 1, b"no"), Err(ProposeError::Dropped));
        cluster.settle().await;
        assert_eq!(cluster.replica(new).role(), Role::Leader);
        let leader = Some(to);
        assert_eq!(
            cluster.propose(old, 1, b"no"),
            Err(ProposeError::NotLeader { leader })
        );
        let term = cluster.replica(new).term();
        assert!(
            cluster.nodes[old]
                .events
                .contains(&Event::LostLeadership { term, leader: None })
        );
        cluster.propose(new, 1, b"yes").unwrap();
        cluster.heal().await;
    });
}

#[test]
fn a_learner_joins_is_promoted_and_another_is_removed() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 13, &[1, 2, 3], &[4]).await;
        let leader = cluster.heal().await;
        for _ in 0..20 {
            cluster.propose(leader, 1, b"before").unwrap();
        }
        let change = |change| [change];
        cluster
            .replica_mut(leader)
            .propose_members(&change(Change::AddLearner(id(4))))
            .unwrap();
        let again = cluster
            .replica_mut(leader)
            .propose_members(&[Change::AddLearner(id(4))]);
        assert_eq!(again, Err(MembersError::Pending));
        cluster.settle().await;
        cluster.heal().await;
        assert_eq!(cluster.replica(leader).members().learners(), [id(4)]);
        assert!(
            !cluster.replica(leader).members().is_joint(),
            "left by itself"
        );
        assert_eq!(cluster.nodes[3].applied, cluster.nodes[leader].applied);

        let own = cluster.nodes[leader].id;
        let unseat = cluster
            .replica_mut(leader)
            .propose_members(&[Change::Remove(own)]);
        assert_eq!(unseat, Err(MembersError::WouldUnseatLeader));
        let gone = cluster.nodes[(leader + 1) % 3].id;
        let swap = [Change::AddVoter(id(4)), Change::Remove(gone)];
        cluster.replica_mut(leader).propose_members(&swap).unwrap();
        cluster.settle().await;
        let leader = cluster.heal().await;
        let members = cluster.replica(leader).members();
        assert!(
            members.is_voter(id(4)) && !members.contains(gone),
            "{members:?}"
        );
        // Every remaining member knows, also after a restart.
        let members = members.clone();
        for at in 0..4 {
            if cluster.nodes[at].id != gone {
                cluster.crash(at).await;
            }
        }
        let leader = cluster.heal().await;
        assert_eq!(*cluster.replica(leader).members(), members);
        cluster.propose(leader, 1, b"after").unwrap();
        cluster.settle().await;
    });
}

/// A replica that has left is removed at the leader's word. All others lose power right then: the entry by which it left is
/// in their logs, and they may not know that it is committed. They went by the members before and needed its vote.
#[test]
fn who_has_left_is_not_needed_by_those_who_stay() {
    run(async |core| {
        for seed in 0..20 {
            let mut cluster = Cluster::new(&core, seed, &[1, 2], &[3]).await;
            let leader = cluster.heal().await;
            let gone = cluster.nodes[1 - leader].id;
            let add = [Change::AddLearner(id(3))];
            cluster.replica_mut(leader).propose_members(&add).unwrap();
            cluster.settle().await;
            let swap = [Change::AddVoter(id(3)), Change::Remove(gone)];
            cluster.replica_mut(leader).propose_members(&swap).unwrap();
            let mut rounds = 0;
            while cluster.replica(leader).members().is_voter(gone)
                || !cluster.replica_mut(leader).members_are_known()
            {
                rounds += 1;
                assert!(rounds < 100, "seed {seed}: {:#?}", cluster.states());
                for at in 0..3 {
                    cluster.pass(at);
                    cluster.finish_write(at).await;
                }
                cluster.deliver_all();
            }
            cluster.isolate(Some(gone));
            for at in [leader, 2] {
                cluster.crash(at).await;
            }
            let mut ticks = 0;
            while !cluster
                .leader()
                .is_some_and(|at| cluster.replica(at).is_serving())
            {
                ticks += 1;
                assert!(ticks < 200, "seed {seed}: {:#?}", cluster.states());
                cluster.tick_all().await;
            }
        }
    });
}

/// With pre-votes and check-quorum, a group can be left without a leader although a majority is
/// connected, if links fail in one direction only. With three replicas and one broken link, in one
/// direction or both, somebody reaches everybody, so there must be progress.
#[test]
fn one_broken_link_never_stops_a_group_of_three() {
    run(async |core| {
        for (from, to, both) in (0..18).map(|n| (n % 3, (n % 3 + 1 + n / 3 % 2) % 3, n < 6)) {
            let mut cluster = Cluster::new(&core, 37, &[1, 2, 3], &[]).await;
            cluster.heal().await;
            let ends = (cluster.nodes[from].id, cluster.nodes[to].id);
            cluster.blocked.push(ends);
            if both {
                cluster.blocked.push((ends.1, ends.0));
            }
            let committed = cluster.committed.len();
            let mut served = 0;
            for _ in 0..100 {
                cluster
                    .nodes
                    .iter_mut()
                    .for_each(|node| node.replicas.tick());
                cluster.settle().await;
                let leader = cluster
                    .leader()
                    .filter(|at| cluster.replica(*at).is_serving());
                if let Some(leader) = leader {
                    served += u32::from(cluster.propose(leader, 1, b"on").is_ok());
                }
            }
            let more = cluster.committed.len() - committed;
            assert!(
                served > 50 && more > 50,
                "{ends:?}: {more} commits, served {served} times"
            );
            cluster.heal().await;
        }
    });
}

#[test]
fn nobody_campaigns_while_a_change_of_members_is_unapplied() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 15, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        let victim = (leader + 1) % 3;
        let (from, to) = (cluster.nodes[leader].id, cluster.nodes[victim].id);
        let term = cluster.replica(leader).term();
        let change = [Change::AddLearner(id(4))];
        let index = cluster
            .replica_mut(leader)
            .propose_members(&change)
            .unwrap()
            .index;
        cluster.pass(leader);
        cluster.deliver_all();
        assert_eq!(cluster.replica(victim).last_index(), index);
        cluster.replica_mut(victim).campaign();
        assert_eq!(
            cluster.replica(victim).role(),
            Role::Follower,
            "it is not staged yet"
        );
        cluster.pass(victim);
        cluster.finish_write(victim).await;
        let body = Body::Heartbeat {
            commit: index,
            sleep: false,
            read: 0,
        };
        cluster
            .replica_mut(victim)
            .step(Message {
                from,
                to,
                term,
                body,
            })
            .unwrap();
        assert_eq!(cluster.replica(victim).commit_index(), index);
        cluster.replica_mut(victim).campaign();
        assert_eq!(
            cluster.replica(victim).role(),
            Role::Follower,
            "committed, not applied"
        );
        cluster.pass(victim);
        assert!(cluster.replica(victim).members().is_joint());
        cluster.replica_mut(victim).campaign();
        assert_eq!(cluster.replica(victim).role(), Role::PreCandidate);
    });
}

#[test]
fn members_change_under_faults() {
    run(async |core| {
        let mut changed = 0;
        for seed in 100..116 {
            let mut cluster = Cluster::new(&core, seed, &[1, 2, 3], &[4]).await;
            cluster.faults = Faults::ALL;
            for step in 0..8_000u64 {
                cluster.step().await;
                if let (0, Some(leader)) = (step % 10, cluster.leader()) {
                    let node = 1 + cluster.random.below(4) as i32;
                    let change = match cluster.random.below(3) {
                        0 => Change::AddVoter(id(node)),
                        1 => Change::AddLearner(id(node)),
                        _ => Change::Remove(id(node)),
                    };
                    // Two voters at least: one alone would make the run too easy.
                    let members = cluster.replica(leader).members();
                    let left = members
                        .voters()
                        .iter()
                        .filter(|voter| **voter != id(node))
                        .count();
                    if left >= 2 {
                        let replica = cluster.replica_mut(leader);
                        changed += u32::from(replica.propose_members(&[change]).is_ok());
                    }
                }
            }
            let leader = cluster.heal().await;
            assert!(!cluster.replica(leader).members().is_joint(), "seed {seed}");
        }
        assert!(changed > 30, "{changed} changes");
    });
}

/// A replica that was given up and comes back begins anew under its old identity: nothing that was said of or by the
/// one before counts.
#[test]
fn what_concerns_an_earlier_life_of_a_replica_is_not_taken() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 18, &[1, 2, 3], &[4]).await;
        let leader = cluster.heal().await;
        for _ in 0..5 {
            cluster.propose(leader, 1, b"x").unwrap();
        }
        cluster.settle().await;
        let known = cluster.replica(leader).last_index();
        let (from, to) = (cluster.nodes[leader].id, cluster.nodes[3].id);
        let term = cluster.replica(leader).term();
        let body = Body::Heartbeat {
            commit: known,
            sleep: false,
            read: 0,
        };
        let beat = Message {
            from,
            to,
            term,
            body,
        };
        assert_eq!(cluster.replica_mut(3).step(beat), Ok(()));
        assert_eq!(cluster.replica(3).fenced(), None);
        let comes = [Change::AddLearner(to)];
        cluster.replica_mut(leader).propose_members(&comes).unwrap();
        while cluster.replica(leader).matched(to).is_none() {
            // It hears nothing yet.
            cluster.pass(leader);
            cluster.finish_write(leader).await;
            cluster.deliver_to_others(3);
            for other in 0..3 {
                cluster.pass(other);
                cluster.finish_write(other).await;
            }
        }
        let body = Body::AppendReply {
            index: known,
            commit: known,
            reject: None,
        };
        let late = Message {
            from: to,
            to: from,
            term,
            body,
        };
        assert_eq!(cluster.replica_mut(leader).step(late), Ok(()));
        assert_eq!(cluster.replica(leader).matched(to), Some(0));
        cluster.heal().await;
        let last_index = cluster.replica(leader).last_index();
        assert_eq!(cluster.replica(leader).matched(to), Some(last_index));
    });
}

#[test]
fn a_replica_that_lost_acknowledged_entries_is_fenced() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 17, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        let last_index = cluster.replica(leader).last_index();
        let (from, term) = (cluster.nodes[leader].id, cluster.replica(leader).term());
        let victim = (leader + 1) % 3;
        let to = cluster.nodes[victim].id;
        let body = Body::Heartbeat {
            commit: last_index + 10,
            sleep: false,
            read: 0,
        };
        let message = Message {
            from,
            to,
            term,
            body,
        };
        assert_eq!(
            cluster.replica_mut(victim).step(message),
            Err(StepError::Fenced)
        );
        assert!(
            cluster
                .replica(victim)
                .fenced()
                .unwrap()
                .contains("are gone")
        );
        assert_eq!(cluster.replica(victim).leader(), None);
        assert_eq!(
            cluster
                .replica_mut(victim)
                .propose(EntryKind::Batch, batch(1, b"")),
            Err(ProposeError::Fenced)
        );
    });
}

#[test]
fn an_old_rejection_does_not_turn_the_leader_back() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 19, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        for _ in 0..5 {
            cluster.propose(leader, 1, b"held").unwrap();
        }
        let leader = cluster.heal().await;
        let matched = cluster.replica(leader).last_index();
        let term = cluster.replica(leader).term();
        let (from, to) = (cluster.nodes[(leader + 1) % 3].id, cluster.nodes[leader].id);
        // The leader probes from where the follower is known to be, and an old rejection of just
        // that index comes in late.
        cluster.replica_mut(leader).unreachable(from);
        let reject = Some(Reject {
            hint_index: 0,
            hint_term: 0,
        });
        let body = Body::AppendReply {
            index: matched,
            commit: 0,
            reject,
        };
        cluster
            .replica_mut(leader)
            .step(Message {
                from,
                to,
                term,
                body,
            })
            .unwrap();
        cluster.propose(leader, 1, b"next").unwrap();
        let mut out = Outputs::default();
        let node = &mut cluster.nodes[leader];
        node.replicas.pass(&mut node.disk.journal, &mut out);
        let appends = out
            .messages
            .iter()
            .filter(|(_, message)| message.to == from);
        let starts: Vec<u64> = appends
            .filter_map(|(_, message)| match &message.body {
                Body::Append(append) => Some(append.prev_index),
                _ => None,
            })
            .collect();
        assert_eq!(
            starts,
            [matched],
            "nothing that the follower holds is sent again"
        );
    });
}

#[test]
fn a_full_journal_chokes_a_replica_and_does_not_break_it() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 31, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        cluster.nodes[leader].disk.may_grow = false;
        let body = vec![7; 20_000];
        let mut proposed = Vec::new();
        // An owner that does not look at the journal's room.
        let refused = loop {
            match cluster.propose(leader, 2, &body) {
                Ok(position) => proposed.push(position),
                Err(error) => break error,
            }
            for _ in 0..3 {
                cluster.pass(leader);
                cluster.finish_write(leader).await;
            }
            cluster.settle().await;
        };
        assert_eq!(refused, ProposeError::JournalFull);
        assert!(proposed.len() > 5, "{} batches fit", proposed.len());
        let stuck = proposed.last().unwrap().index;
        assert!(cluster.replica(leader).commit_index() < stuck);
        cluster.pass(leader);
        assert!(
            !cluster.nodes[leader].replicas.wants_pass(),
            "nothing spins"
        );
        assert_eq!(cluster.replica(leader).fenced(), None);
        // The others cannot reach it and elect another; what is stuck may be lost, nothing else.
        cluster.nodes[leader].disk.may_grow = true;
        cluster.nodes[leader].disk.grow().await;
        let healed = cluster.heal().await;
        for position in &proposed[..proposed.len() - 1] {
            let (term, _) = cluster.nodes[healed].applied[&position.index];
            assert_eq!(term, position.term, "committed before the journal was full");
        }
        cluster.propose(healed, 1, b"goes on").unwrap();
        cluster.settle().await;
    });
}
