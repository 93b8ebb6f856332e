//! A leader that is deposed with a proposal that it has not staged yet.

mod cluster;

use cluster::disk::run;
use cluster::{Cluster, PARTITION};
use raft_group::{Body, Message, Reject};

/// In one turn a follower asks for entries again, among them a proposal that has no offset before it is staged, and
/// another leader makes itself known. What was meant for the follower must not leave without offsets.
#[test]
fn a_deposed_leader_sends_no_proposal_without_its_offset() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 41, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        cluster.propose(leader, 3, b"offsets 0 to 2").unwrap();
        cluster.settle().await;
        let (asking, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let [from, to, rival] = [asking, leader, other].map(|at| cluster.nodes[at].id);
        let term = cluster.replica(leader).term();
        let matched = cluster.replica(leader).commit_index();

        let proposed = cluster.propose(leader, 1, b"offset 3").unwrap();
        assert_eq!((proposed.base_offset, proposed.index), (3, matched + 1));
        let reject = Some(Reject {
            hint_index: matched,
            hint_term: term,
        });
        let (index, commit) = (proposed.index, matched);
        let asked = Body::AppendReply {
            index,
            commit,
            reject,
        };
        let known = Body::Heartbeat {
            commit,
            sleep: false,
            read: 0,
        };
        let messages = [(from, term, asked), (rival, term + 1, known)];
        for (from, term, body) in messages {
            let message = Message {
                from,
                to,
                term,
                body,
            };
            let replicas = &mut cluster.nodes[leader].replicas;
            replicas.step(PARTITION, message).unwrap();
        }
        // A replica that is sent anything else than what follows from its log is fenced, which ends the test.
        for _ in 0..3 {
            cluster.pass(leader);
            cluster.finish_write(leader).await;
            cluster.deliver_all();
            cluster.pass(asking);
            cluster.finish_write(asking).await;
        }
        assert_eq!(cluster.replica(asking).fenced(), None);
        let leader = cluster.heal().await;
        cluster.propose(leader, 1, b"goes on").unwrap();
        cluster.settle().await;
    });
}
