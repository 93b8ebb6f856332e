//! All the replicas of a core: one pass, one write; removal, failure, and what stays untouched.

mod cluster;

use std::path::Path;

use bytes::Bytes;
use cluster::disk::run;
use cluster::{batch, id};
use raft_group::{
    Event, Members, OpenError, Outputs, ProposeError, Replica, ReplicaConfig, Replicas, Role,
};
use runtime::Core;
use storage::{EntryKind, Journal, JournalWrite, Options, PartitionId, recover};

fn partition(number: u32) -> PartitionId {
    PartitionId {
        topic: 5,
        partition: number,
    }
}

/// The replicas of a core that are each alone in their groups.
struct Shard {
    journal: Journal,
    replicas: Replicas,
    out: Outputs,
}

impl Shard {
    async fn new(core: &Core, groups: u32) -> Shard {
        let data = format!("/{}", core.random());
        let options = Options::default();
        let recovered = recover(core.disk(), Path::new(&data), 0, 1, options)
            .await
            .unwrap();
        let (replicas, out) = (Replicas::new(), Outputs::default());
        let mut shard = Shard {
            journal: recovered.journal,
            replicas,
            out,
        };
        (0..groups).for_each(|number| shard.add(number));
        shard
    }

    fn add(&mut self, number: u32) {
        let log = self.journal.create_log(partition(number));
        let config = ReplicaConfig::new(id(1), Members::of_voters([id(1)]), u64::from(number));
        self.replicas
            .insert(Replica::open(log, &config, None, 0).unwrap());
    }

    fn propose(&mut self, number: u32, body: &[u8]) -> u64 {
        let replica = self.replicas.get_mut(partition(number)).unwrap();
        replica
            .propose(EntryKind::Batch, batch(1, body))
            .unwrap()
            .index
    }

    fn pass(&mut self) -> bool {
        let staged = self.replicas.pass(&mut self.journal, &mut self.out);
        for (partition, range) in &self.out.committed {
            self.replicas.applied(*partition, *range.end());
        }
        staged
    }

    async fn write(&mut self, write: JournalWrite) {
        let done = write.run().await;
        self.journal.written(done).unwrap();
        self.replicas.persisted(self.journal.durable_turn());
    }

    /// A whole turn; what was committed in it.
    async fn turn(&mut self) -> Vec<(u32, u64)> {
        self.out.clear();
        self.pass();
        if let Some(write) = self.journal.seal() {
            self.write(write).await;
        }
        self.pass();
        let ends = self
            .out
            .committed
            .iter()
            .map(|(p, range)| (p.partition, *range.end()));
        ends.collect()
    }
}

#[test]
fn one_write_serves_all_groups_and_idle_ones_are_left_alone() {
    run(async |core| {
        let mut shard = Shard::new(&core, 100).await;
        assert!(!shard.replicas.wants_ticks(), "nobody waits for anybody");
        let elected = shard.turn().await;
        assert_eq!(
            elected,
            (0..100).map(|number| (number, 2)).collect::<Vec<_>>()
        );
        assert!(shard.replicas.iter().all(Replica::is_serving));
        assert_eq!(shard.out.messages.len(), 0);

        let writes = shard.journal.stats().journal_writes;
        for number in [7, 3, 50] {
            assert_eq!(shard.propose(number, b"one"), 3);
            assert_eq!(shard.propose(number, b"two"), 4);
        }
        assert_eq!(
            shard.turn().await,
            [(7, 4), (3, 4), (50, 4)],
            "in order of arrival"
        );
        assert_eq!(shard.journal.stats().journal_writes, writes + 1);
        shard.turn().await;
        assert!(!shard.replicas.wants_pass());
        shard.replicas.log_mut(partition(7)).unwrap();
        shard.replicas.tick();
        assert!(
            !shard.replicas.wants_pass(),
            "neither a read nor time gives work"
        );
        assert_eq!(shard.turn().await, []);
    });
}

#[test]
fn turns_overlap_and_are_confirmed_in_order() {
    run(async |core| {
        let mut shard = Shard::new(&core, 2).await;
        shard.turn().await;
        shard.turn().await;
        shard.out.clear();
        shard.propose(0, b"first");
        assert!(shard.pass());
        let first = shard.journal.seal().unwrap();
        // While that is written, the next turns gather.
        shard.propose(0, b"second");
        assert!(shard.pass());
        shard.propose(1, b"second");
        assert!(shard.pass());
        assert!(shard.journal.seal().is_none(), "one write at a time");
        assert_eq!(shard.out.committed, []);
        shard.write(first).await;
        shard.pass();
        assert_eq!(shard.out.committed, [(partition(0), 3..=3)]);
        shard.out.clear();
        let second = shard.journal.seal().unwrap();
        shard.write(second).await;
        shard.pass();
        assert_eq!(
            shard.out.committed,
            [(partition(0), 4..=4), (partition(1), 3..=3)]
        );
    });
}

#[test]
fn a_successor_in_the_same_place_inherits_no_confirmation() {
    run(async |core| {
        let mut shard = Shard::new(&core, 1).await;
        shard.turn().await;
        shard.propose(0, b"gone");
        shard.pass();
        let write = shard.journal.seal().unwrap();
        assert!(shard.replicas.remove(partition(0)).is_some());
        assert!(shard.replicas.get(partition(0)).is_none());
        shard.add(9);
        shard.out.clear();
        // It stages its first entries into the turn after the one that is being written.
        shard.pass();
        shard.write(write).await;
        shard.pass();
        assert_eq!(shard.out.committed, []);
        assert!(!shard.replicas.get(partition(9)).unwrap().is_serving());
        assert_eq!(shard.turn().await, [(9, 2)]);
        assert_eq!(shard.replicas.len(), 1);
    });
}

#[test]
fn a_failed_journal_fences_everything_and_acknowledges_nothing() {
    run(async |core| {
        let mut shard = Shard::new(&core, 3).await;
        shard.turn().await;
        shard.propose(1, b"lost");
        shard.pass();
        shard.out.clear();
        shard.replicas.journal_failed("no such luck");
        shard.pass();
        let reason = || "the journal failed: no such luck".to_owned();
        let fenced = (0..3).map(|number| (partition(number), Event::Fenced { reason: reason() }));
        let lost = |event: &(PartitionId, Event)| matches!(event.1, Event::LostLeadership { .. });
        let (lost, told): (Vec<_>, Vec<_>) = shard.out.events.drain(..).partition(lost);
        assert_eq!(told, fenced.collect::<Vec<_>>());
        assert_eq!(lost.len(), 3);
        // Even a confirmation that comes after all is too late.
        shard.replicas.persisted(shard.journal.staged_turn());
        shard.pass();
        assert_eq!(shard.out.committed, []);
        let refused = shard
            .replicas
            .get_mut(partition(0))
            .unwrap()
            .propose(EntryKind::Command, Bytes::from_static(b"x"));
        assert_eq!(refused, Err(ProposeError::Fenced));
    });
}

#[test]
fn a_fenced_replica_does_not_disturb_its_neighbours() {
    run(async |core| {
        let mut shard = Shard::new(&core, 3).await;
        shard.turn().await;
        for number in 0..3 {
            shard.propose(number, b"x");
        }
        shard
            .replicas
            .get_mut(partition(1))
            .unwrap()
            .fence("for a test".to_owned());
        assert_eq!(shard.turn().await, [(0, 3), (2, 3)]);
        let fenced = shard.replicas.get(partition(1)).unwrap();
        assert_eq!(
            (fenced.role(), fenced.is_serving()),
            (Role::Follower, false)
        );
    });
}

#[test]
fn logs_that_do_not_fit_are_not_opened() {
    run(async |core| {
        let mut shard = Shard::new(&core, 0).await;
        let alone = ReplicaConfig::new(id(1), Members::of_voters([id(1)]), 1);
        let log = shard.journal.create_log(partition(0));
        let opened = Replica::open(log, &alone, None, 3);
        let lost = OpenError::EntriesLost {
            index: 3,
            last_index: 0,
        };
        let unopened = opened.err().unwrap();
        assert_eq!(unopened.error, lost, "applied what is not there");
        assert_eq!(unopened.log.unwrap().id(), partition(0), "it is given back");
        let mut log = shard.journal.create_log(partition(1));
        log.fence("damaged".to_owned());
        let opened = Replica::open(log, &alone, None, 0);
        assert_eq!(
            opened.err().unwrap().error,
            OpenError::Fenced("damaged".to_owned())
        );
    });
}
