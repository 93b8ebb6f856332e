//! What an owner does for its logs beside passes: drains, sweeps, checkpoints, retention, reads for
//! followers and snapshots; replicas that lose their disk; and the checks that belong to these.

use raft_group::{Change, Event, Members, Outputs, ReplicaId, Role};
use storage::{EntriesPlan, EntryKind};

use super::state::{Applied, encode, last_of};
use super::{Cluster, Node, PARTITION};

/// What happened, so that a quiet run is noticed.
#[derive(Clone, Copy, Default, Debug)]
pub struct Coverage {
    pub commits: u64,
    pub reads: u64,
    pub failed_reads: u64,
    pub offers: u64,
    pub installs: u64,
    pub trims: u64,
    pub truncations: u64,
    pub wiped: u64,
    pub slept: u64,
    pub beats: u64,
    pub proofs: u64,
}

impl Coverage {
    pub fn add(&mut self, other: Coverage) {
        self.commits += other.commits;
        self.reads += other.reads;
        self.failed_reads += other.failed_reads;
        self.offers += other.offers;
        self.installs += other.installs;
        self.trims += other.trims;
        self.truncations += other.truncations;
        self.wiped += other.wiped;
        self.slept += other.slept;
        self.beats += other.beats;
    }
}

impl Cluster {
    /// One step of a random run that is no raft.
    pub async fn step_upkeep(&mut self, at: usize) {
        self.coverage.slept += u64::from(self.replica(at).is_asleep());
        match self.random.below(20) {
            0..3 => self.drain(at).await,
            3..6 => self.sweep(at),
            6 => self.checkpoint(at).await,
            7 if self.idle => {}
            7 => {
                let log = self.replica(at).log();
                let (start, end) = (log.log_start_offset(), log.high_watermark());
                let offset = start + self.random.below((end - start) as u64 + 1) as i64;
                self.move_log_start(at, offset);
            }
            8 => self.trim(at).await,
            9..18 => drop(self.serve(at).await),
            _ => self.replace_step(),
        }
    }

    /// Moves what is committed to segments.
    pub async fn drain(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let log = node.replicas.log_mut(PARTITION).unwrap();
        while let Some(job) = log.begin_drain(1_000, true) {
            let done = job.run(&node.disk.disk).await;
            node.disk.journal.finish_drain(log, done).unwrap();
        }
    }

    /// Lets drained entries leave memory.
    pub fn sweep(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.disk.journal.sweep(node.replicas.logs_mut());
    }

    /// Writes a checkpoint, if what it would say is durable.
    pub async fn checkpoint(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let Some(mut draft) = node.disk.journal.begin_checkpoint() else {
            return;
        };
        let replica = node.replicas.get(PARTITION).unwrap();
        let applied = replica.applied_index();
        assert_eq!(applied, last_of(&node.applied));
        let state = encode(replica.configuration(), &node.applied);
        draft.add(&node.disk.journal, replica.log(), applied, &state);
        match node.disk.journal.begin_checkpoint_write(draft) {
            Ok(job) => {
                let done = job.run(&node.disk.disk).await;
                node.disk.journal.finish_checkpoint(done).unwrap();
                node.covered = applied;
            }
            Err(early) => node.disk.journal.abandon_checkpoint(early),
        }
    }

    /// A leader deletes records, up to an offset that all may read.
    pub fn move_log_start(&mut self, at: usize, offset: i64) {
        let data = bytes::Bytes::copy_from_slice(&offset.to_le_bytes());
        if self.replica(at).is_serving() {
            let replica = self.replica_mut(at);
            if let Ok(proposed) = replica.propose(EntryKind::LogStart, data) {
                let followed = &mut self.nodes[at].followed;
                followed.insert(proposed.index, proposed.term);
            }
        }
    }

    /// Removes the segments that lie below the log start, as far as a checkpoint has them.
    pub async fn trim(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let log = node.replicas.log_mut(PARTITION).unwrap();
        let first = log.first_index();
        let job = node.disk.journal.begin_removal(log, node.covered + 1);
        self.coverage.trims += u64::from(log.first_index() > first);
        if let Some(job) = job {
            let done = job.run(&node.disk.disk).await;
            let log = node.replicas.log_mut(PARTITION).unwrap();
            node.disk.journal.finish_removal(log, done).unwrap();
        }
    }

    /// Does what a leader asked for on behalf of its followers. Says whether there was something.
    pub async fn serve(&mut self, at: usize) -> bool {
        let mut served = self.offer(at);
        if !self.nodes[at].reads.is_empty() {
            let read = self.nodes[at].reads.remove(0);
            let log = self.replica(at).log();
            let mut entries = match log.plan_entries(read.low, read.high, read.bytes_max) {
                EntriesPlan::Memory(entries) => entries,
                EntriesPlan::Disk(job) => {
                    self.coverage.reads += 1;
                    job.run(&self.nodes[at].disk.disk).await.unwrap()
                }
                EntriesPlan::Compacted => Vec::new(),
            };
            if self.faults.drop > 0 && self.random.percent(10) {
                self.coverage.failed_reads += 1;
                entries.clear();
            }
            let replicas = &mut self.nodes[at].replicas;
            replicas.fetched(PARTITION, &read, entries);
            served = true;
        }
        served
    }

    fn offer(&mut self, at: usize) -> bool {
        if !std::mem::take(&mut self.nodes[at].snapshot_wanted) {
            return false;
        }
        // An owner that was busy is asked again.
        if self.faults.drop > 0 && self.random.percent(20) {
            return false;
        }
        let applied = self.nodes[at].applied.clone();
        let state = encode(self.replica(at).configuration(), &applied);
        let replica = self.replica_mut(at);
        self.coverage.offers += u64::from(replica.offer_snapshot(state, last_of(&applied)).is_ok());
        true
    }

    /// Whether one disk can be lost without losing a majority: everybody must know that the last
    /// replacement has ended. Who does not may still count on the votes of a disk that is gone.
    pub fn can_lose_a_disk(&self) -> bool {
        let ids: Vec<ReplicaId> = self.nodes.iter().map(|node| node.id).collect();
        let settled = Members::of_voters(ids);
        let knows = |at| *self.replica(at).members() == settled;
        self.replacing.is_none() && (0..self.nodes.len()).all(knows)
    }

    /// The node loses its disk and comes back with an empty one, under a new identity.
    pub async fn wipe(&mut self, at: usize) {
        let old = self.nodes[at].id;
        assert_eq!(self.replacing, None, "one at a time");
        let new = ReplicaId::new(old.node(), old.incarnation() + 1).unwrap();
        self.note(format!("wipe {old}").as_bytes());
        self.letters
            .retain(|letter| letter.from != old && letter.to != old);
        let others = self
            .nodes
            .iter()
            .map(|node| node.id)
            .filter(|id| *id != old);
        let bootstrap = Members::of_voters(others.collect::<Vec<_>>());
        let node = self.new_node(new, bootstrap).await;
        let gone = std::mem::replace(&mut self.nodes[at], node);
        self.lost.push((old, gone.disk));
        self.replacing = Some((old, new));
        self.coverage.wiped += 1;
    }

    /// Brings a wiped replica's successor in, as a learner first, and removes the old one.
    pub fn replace_step(&mut self) {
        let (Some((old, new)), Some(leader)) = (self.replacing, self.leader()) else {
            return;
        };
        let applied = |node: &Node| (node.id == new).then(|| last_of(&node.applied));
        let applied = self.nodes.iter().find_map(applied).unwrap_or(0);
        let replica = self.replica_mut(leader);
        let members = replica.members();
        let change = if !members.contains(new) {
            Change::AddLearner(new)
        } else if members.learners().contains(&new) {
            // A voter that lags would hold up everybody: the old one does not vote any more.
            if applied + 20 < replica.commit_index() {
                return;
            }
            Change::AddVoter(new)
        } else if members.contains(old) {
            Change::Remove(old)
        } else if !members.is_joint() {
            self.replacing = None;
            return;
        } else {
            return;
        };
        let _ = replica.propose_members(&[change]);
    }

    /// What a state says must be what was committed, without a gap.
    pub(super) fn check_state(&self, applied: &Applied) {
        let seed = self.seed;
        for ((index, (term, _)), expected) in applied.iter().zip(1..) {
            assert_eq!(*index, expected, "seed {seed}: a gap in a state");
            let known = self.committed.get(index).map(|fact| fact.0);
            assert_eq!(
                known,
                Some(*term),
                "seed {seed}: a state with something else at {index}"
            );
        }
    }

    /// What is committed is the same in every log.
    pub(super) fn check_logs_agree(&self) {
        for (at, node) in self.nodes.iter().enumerate() {
            let log = self.replica(at).log();
            for index in log.first_index()..=log.commit() {
                let known = self.committed.get(&index).map(|fact| fact.0);
                assert_eq!(
                    log.term(index),
                    known,
                    "seed {}: {} at {index}",
                    self.seed,
                    node.id
                );
            }
        }
    }

    /// Log matching: where two logs have an entry of the same term at an index, they agree on all
    /// entries before it.
    pub fn check_log_matching(&self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                let (one, other) = (self.replica(a).log(), self.replica(b).log());
                let first = one.first_index().max(other.first_index());
                let last = one.last_index().min(other.last_index());
                let differs = (first..=last).find(|i| one.term(*i) != other.term(*i));
                let agrees = (first..=last).rfind(|i| one.term(*i) == other.term(*i));
                assert!(
                    differs.is_none() || agrees < differs,
                    "seed {}: {} and {} differ at {differs:?} and agree at {agrees:?}",
                    self.seed,
                    self.nodes[a].id,
                    self.nodes[b].id
                );
            }
        }
    }

    /// Replaced entries are told, and only those.
    pub(super) fn check_truncations(&mut self, at: usize, out: &Outputs) {
        let node = &mut self.nodes[at];
        let replica = node.replicas.get(PARTITION).unwrap();
        let log = replica.log();
        let installed = |event: &Event| matches!(event, Event::Installed { .. });
        let anew = out.events.iter().any(|(_, event)| installed(event));
        let last_known = node
            .followed
            .last_key_value()
            .map_or(0, |(index, _)| *index);
        let told = out.events.iter().filter_map(|(_, event)| match event {
            // Above are entries that came and went within this pass.
            Event::Truncated { from } if *from <= last_known => Some(*from),
            _ => None,
        });
        let told = told.min();
        let leads = replica.role() == Role::Leader;
        // A proposal that is not staged yet is still there, and may be as long as nothing else is.
        let staged = |index: u64| !leads && index <= log.last_index();
        let replaced = node
            .followed
            .iter()
            .find(|(index, term)| {
                log.term(**index) != Some(**term) && (staged(**index) || told.is_some())
            })
            .map(|(index, _)| *index);
        let id = node.id;
        if !anew {
            assert_eq!(
                told, replaced,
                "seed {}: {id}: what was replaced",
                self.seed
            );
        }
        self.coverage.truncations += u64::from(told.is_some());
        if told.is_some() || anew {
            node.followed.clear();
        }
        let commit = replica.commit_index();
        node.followed = node.followed.split_off(&(commit + 1));
        for index in commit + 1..=log.last_index() {
            node.followed.insert(index, log.term(index).unwrap());
        }
    }
}
