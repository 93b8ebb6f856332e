//! What a replica refuses: messages that make no sense, entries that form no log, proposals beyond the limits;
//! and what becomes of proposals that are replaced.

mod cluster;

use bytes::Bytes;
use cluster::disk::run;
use cluster::{Cluster, PARTITION, batch, id};
use raft_group::{
    Append, Body, Entry, Event, Message, Outputs, ProposeError, ReplicaId, StepError, TERM_MAX,
};
use runtime::Core;
use storage::EntryKind;

/// A group of three at rest: the cluster, its leader, and a follower's and the leader's identity.
async fn at_rest(core: &Core) -> (Cluster, usize, ReplicaId, ReplicaId) {
    let mut cluster = Cluster::new(core, 23, &[1, 2, 3], &[]).await;
    let leader = cluster.heal().await;
    let (from, to) = (cluster.nodes[(leader + 1) % 3].id, cluster.nodes[leader].id);
    (cluster, leader, from, to)
}

#[test]
fn senseless_messages_are_refused() {
    run(async |core| {
        let (mut cluster, leader, from, to) = at_rest(&core).await;
        let last_index = cluster.replica(leader).last_index();
        let term = cluster.replica(leader).term();
        let mut step = |from, to, term, index| {
            let (commit, reject) = (0, None);
            let body = Body::AppendReply {
                index,
                commit,
                reject,
            };
            let message = Message {
                from,
                to,
                term,
                body,
            };
            cluster.replica_mut(leader).step(message).unwrap_err()
        };
        assert_eq!(step(from, from, term, 1), StepError::NotForUs(from));
        assert_eq!(step(to, to, term, 1), StepError::FromOurselves);
        assert_eq!(step(from, to, 0, 1), StepError::Term(0));
        let late = TERM_MAX + 1;
        assert_eq!(step(from, to, late, 1), StepError::Term(late));
        assert_eq!(step(id(9), to, term, 1), StepError::Stranger(id(9)));
        let index = last_index + 1;
        let beyond = StepError::Acknowledged {
            from,
            index,
            last_index,
        };
        assert_eq!(step(from, to, term, index), beyond);
        assert_eq!(cluster.replica(leader).term(), term, "no effect");
        assert_eq!(cluster.heal().await, leader);
    });
}

#[test]
fn entries_that_form_no_log_are_refused() {
    run(async |core| {
        let (mut cluster, leader, from, to) = at_rest(&core).await;
        let term = cluster.replica(leader).term();
        let entry = |term, kind, data| {
            let data = Bytes::from_static(data);
            vec![Entry { term, kind, data }]
        };
        let senseless = [
            (1, 1, entry(term + 2, EntryKind::NoOp, b"")),
            (1, 1, entry(0, EntryKind::NoOp, b"")),
            (1, term + 1, entry(term, EntryKind::NoOp, b"")),
            (1, 1, entry(term, EntryKind::Batch, b"not a batch")),
            (1, 1, entry(term, EntryKind::Membership, b"no record")),
            (1, 1, entry(term, EntryKind::LogStart, b"short")),
            (u64::MAX, 1, Vec::new()),
        ];
        for (prev_index, prev_term, entries) in senseless {
            let commit = 0;
            let body = Body::Append(Append {
                prev_index,
                prev_term,
                commit,
                entries,
            });
            let message = Message {
                from,
                to,
                term: term + 1,
                body,
            };
            let refused = cluster.replica_mut(leader).step(message);
            assert_eq!(refused, Err(StepError::Entries { prev_index }));
        }
        assert_eq!(cluster.replica(leader).term(), term, "no effect");
        assert_eq!(cluster.heal().await, leader);
    });
}

#[test]
fn proposals_have_limits() {
    run(async |core| {
        let mut cluster = Cluster::new(&core, 29, &[1, 2, 3], &[]).await;
        let leader = cluster.heal().await;
        let bytes_max = cluster.config(id(1)).uncommitted_bytes_max;
        let big = vec![0; 30_000];
        cluster.isolate(Some(cluster.nodes[leader].id));
        for _ in 0..3 {
            cluster.propose(leader, 1, &big).unwrap();
        }
        let bytes = cluster.replica(leader).uncommitted_bytes();
        let full = ProposeError::TooMuchUncommitted { bytes, bytes_max };
        assert_eq!(cluster.propose(leader, 1, &big), Err(full));
        let index = cluster.replica(leader).last_index();
        let next_offset = cluster.replica(leader).next_offset();
        let too_large = cluster.propose(leader, 1, &vec![0; 50_000]);
        assert!(
            matches!(too_large, Err(ProposeError::TooLarge { .. })),
            "{too_large:?}"
        );
        let cut = batch(1, b"cut").slice(..62);
        let malformed = cluster.replica_mut(leader).propose(EntryKind::Batch, cut);
        assert_eq!(malformed, Err(ProposeError::Malformed(EntryKind::Batch)));
        assert_eq!(
            cluster.replica(leader).last_index(),
            index,
            "nothing was appended"
        );
        assert_eq!(
            cluster.replica(leader).next_offset(),
            next_offset,
            "no offset was taken"
        );
        let leader = cluster.heal().await;
        assert_eq!(cluster.replica(leader).uncommitted_bytes(), 0);
        cluster.propose(leader, 1, &big).unwrap();
    });
}

/// The owner knows of a proposal before it is staged, and has made something of it.
#[test]
fn proposals_that_are_replaced_before_they_are_staged_are_told() {
    run(async |core| {
        let (mut cluster, leader, from, to) = at_rest(&core).await;
        let prev_index = cluster.replica(leader).last_index();
        let prev_term = cluster.replica(leader).term();
        for _ in 0..3 {
            let proposed = cluster.propose(leader, 1, b"never staged").unwrap();
            assert!(proposed.index > cluster.replica(leader).log().last_index());
        }
        // Somebody else was elected meanwhile, and has one entry there.
        let term = prev_term + 1;
        let entry = Entry {
            term,
            kind: EntryKind::NoOp,
            data: Bytes::new(),
        };
        let body = Body::Append(Append {
            prev_index,
            prev_term,
            commit: prev_index,
            entries: vec![entry],
        });
        let message = Message {
            from,
            to,
            term,
            body,
        };
        let mut out = Outputs::default();
        let node = &mut cluster.nodes[leader];
        node.replicas.step(PARTITION, message).unwrap();
        node.replicas.pass(&mut node.disk.journal, &mut out);
        let events: Vec<Event> = out.events.into_iter().map(|(_, event)| event).collect();
        let truncated = Event::Truncated {
            from: prev_index + 1,
        };
        assert_eq!(events[0], truncated);
        assert!(matches!(events[1], Event::LostLeadership { .. }));
        assert_eq!(events.len(), 2);
    });
}
