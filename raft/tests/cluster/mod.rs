//! A few nodes in one thread: the crate's own replicas, journals and wire format, a network that
//! drops, delays, reorders and duplicates, disks whose writes take time, and crashes. Everything is
//! drawn from one seed.
//!
//! The fault plan leaves what Raft promises to survive: a disk never loses what it confirmed. So a
//! failed check is a bug. Checked at every step: one leader per term; whatever is handed out as
//! committed is the same everywhere and for ever, lies on the *durable* disks of a majority at that
//! moment, and takes offsets without a gap; no acknowledgement and no vote leaves a node whose disk
//! does not hold what it says; a leader serves only when an entry of its own term is applied; every
//! replaced entry is told, and nothing else; a snapshot's state is what applying would have given.
#![allow(dead_code)] // each test file uses a part of it

pub mod disk;
pub mod random;
pub mod state;
mod upkeep;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use raft_group::wire::{FrameReader, FrameWriter};
use raft_group::{
    Body, CatchUp, Event, Members, Message, Mutation, Outputs, ProposeError, Proposed, Replica,
    ReplicaConfig, ReplicaId, Replicas, Role,
};

use runtime::Core;
use storage::{EntryKind, PartitionId};

use disk::NodeDisk;
use random::Random;
use state::{Applied, last_of};
pub use upkeep::Coverage;

pub const PARTITION: PartitionId = PartitionId {
    topic: 7,
    partition: 0,
};

pub fn id(node: i32) -> ReplicaId {
    ReplicaId::new(node, 1).unwrap()
}

/// A record batch (magic 2) of `count` records whose body is `body`.
pub fn batch(count: i32, body: &[u8]) -> Bytes {
    let mut batch = BytesMut::zeroed(61);
    batch[8..12].copy_from_slice(&(49 + body.len() as i32).to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[35..43].copy_from_slice(&1_000i64.to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(body);
    batch.freeze()
}

pub struct Node {
    pub id: ReplicaId,
    pub replicas: Replicas,
    pub disk: NodeDisk,
    /// What the node has made of its log.
    pub applied: Applied,
    pub events: Vec<Event>,
    /// Reads for followers that are not done yet.
    pub reads: Vec<CatchUp>,
    /// A follower needs a snapshot.
    pub snapshot_wanted: bool,
    /// What is committed up to here is in a checkpoint, or came with a snapshot.
    covered: u64,
    bootstrap: Members,
    /// The terms of what may still be replaced, as the owner knows them: staged, or proposed.
    followed: BTreeMap<u64, u64>,
}

/// A message on its way, as bytes.
struct Letter {
    from: ReplicaId,
    to: ReplicaId,
    frame: Bytes,
}

/// What the network and the machines do to the nodes, in percent per step.
#[derive(Clone, Copy)]
pub struct Faults {
    pub drop: u64,
    pub duplicate: u64,
    pub reorder: u64,
    pub crash: u64,
    pub isolate: u64,
    /// Alarms about nodes, most of them false, and waking for no reason.
    pub alarm: u64,
}

impl Faults {
    pub const NONE: Faults = Faults {
        drop: 0,
        duplicate: 0,
        reorder: 0,
        crash: 0,
        isolate: 0,
        alarm: 0,
    };
    pub const ALL: Faults = Faults {
        drop: 3,
        duplicate: 3,
        reorder: 10,
        crash: 1,
        isolate: 1,
        alarm: 2,
    };
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub random: Random,
    pub faults: Faults,
    /// Confirms writes before they are done: a disk that lies, to see the checks fail.
    /// Whether owners look at the journal's room before they hand a message on.
    pub minds_room: bool,
    pub lying_disks: bool,
    pub uncommitted_bytes_max: u64,
    /// A bug that replicas have that are opened from now on.
    pub mutation: Option<Mutation>,
    /// Logs are drained, leave memory, and are trimmed.
    pub upkeep: bool,
    /// No client proposes anything, and nodes fail seldom.
    pub idle: bool,
    /// The first term of a configuration that was forced: who follows it may still have the one before in force.
    pub forced_term: u64,
    /// A replica that lost its disk, and the one that takes its place.
    pub replacing: Option<(ReplicaId, ReplicaId)>,
    /// Disks that were lost: what they held was acknowledged while they were there.
    lost: Vec<(ReplicaId, NodeDisk)>,
    pub coverage: Coverage,
    core: Core,
    bootstrap: Members,
    seed: u64,
    letters: Vec<Letter>,
    isolated: Option<ReplicaId>,
    /// Directions in which nothing gets through.
    pub blocked: Vec<(ReplicaId, ReplicaId)>,
    /// Everything that was ever handed out: term, kind and content by index.
    pub committed: BTreeMap<u64, (u64, EntryKind, Bytes)>,
    leaders: BTreeMap<u64, ReplicaId>,
    /// Reads that wait for the proof of the lead, and what was committed anywhere when they began.
    asked: BTreeMap<(ReplicaId, u64, u64), u64>,
    trace: u64,
    pub proposed: u64,
    out: Outputs,
}

impl Cluster {
    pub async fn new(core: &Core, seed: u64, voters: &[i32], others: &[i32]) -> Cluster {
        Cluster::build(core, seed, voters, others, false).await
    }

    /// A group whose owners look after their logs.
    pub async fn with_upkeep(core: &Core, seed: u64, voters: &[i32]) -> Cluster {
        Cluster::build(core, seed, voters, &[], true).await
    }

    async fn build(
        core: &Core,
        seed: u64,
        voters: &[i32],
        others: &[i32],
        upkeep: bool,
    ) -> Cluster {
        let bootstrap = Members::of_voters(voters.iter().map(|node| id(*node)));
        let mut cluster = Cluster {
            nodes: Vec::new(),
            random: Random::new(seed),
            faults: Faults::NONE,
            minds_room: false,
            lying_disks: false,
            uncommitted_bytes_max: 100_000,
            mutation: None,
            upkeep,
            idle: false,
            forced_term: u64::MAX,
            replacing: None,
            lost: Vec::new(),
            coverage: Coverage::default(),
            core: core.clone(),
            bootstrap,
            seed,
            letters: Vec::new(),
            isolated: None,
            blocked: Vec::new(),
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            asked: BTreeMap::new(),
            trace: 0,
            proposed: 0,
            out: Outputs::default(),
        };
        for node in voters.iter().chain(others) {
            // One that joins later knows the group as it is told, which need not be accurate.
            let bootstrap = match others.contains(node) {
                true => Members::of_voters([id(1)]),
                false => cluster.bootstrap.clone(),
            };
            let node = cluster.new_node(id(*node), bootstrap).await;
            cluster.nodes.push(node);
        }
        cluster
    }

    /// A node with an empty disk.
    async fn new_node(&self, id: ReplicaId, bootstrap: Members) -> Node {
        let data = PathBuf::from(format!("/{}/{id}", self.core.random()));
        let (disk, log) = NodeDisk::new(&self.core, data, PARTITION).await;
        let mut replicas = Replicas::new();
        let config = ReplicaConfig {
            bootstrap: bootstrap.clone(),
            ..self.config(id)
        };
        replicas.insert(Replica::open(log, &config, None, 0).unwrap());
        Node {
            id,
            replicas,
            disk,
            applied: Applied::new(),
            events: Vec::new(),
            reads: Vec::new(),
            snapshot_wanted: false,
            covered: 0,
            bootstrap,
            followed: BTreeMap::new(),
        }
    }

    pub fn config(&self, id: ReplicaId) -> ReplicaConfig {
        let mut config = ReplicaConfig::new(id, self.bootstrap.clone(), self.seed);
        config.uncommitted_bytes_max = self.uncommitted_bytes_max;
        config.entry_bytes_max = if self.upkeep { 200_000 } else { 50_000 };
        config.append_bytes_max = if self.upkeep { 2_000 } else { 400 };
        config.appends_inflight_max = 4;
        config.mutation = self.mutation;
        config
    }

    pub fn replica(&self, at: usize) -> &Replica {
        self.nodes[at].replicas.get(PARTITION).unwrap()
    }

    pub fn replica_mut(&mut self, at: usize) -> &mut Replica {
        self.nodes[at].replicas.get_mut(PARTITION).unwrap()
    }

    pub fn trace(&self) -> u64 {
        self.trace
    }

    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The node that leads in the highest term, if any does.
    pub fn leader(&self) -> Option<usize> {
        (0..self.nodes.len())
            .filter(|at| self.replica(*at).role() == Role::Leader)
            .max_by_key(|at| self.replica(*at).term())
    }

    pub fn propose(
        &mut self,
        at: usize,
        records: i32,
        body: &[u8],
    ) -> Result<Proposed, ProposeError> {
        let data = batch(records, body);
        let proposed = self.replica_mut(at).propose(EntryKind::Batch, data)?;
        self.proposed += 1;
        let followed = &mut self.nodes[at].followed;
        followed.insert(proposed.index, proposed.term);
        Ok(proposed)
    }

    /// Begins a read at a node that believes to lead. Gives its number.
    pub fn ask_for_lead(&mut self, at: usize) -> Option<u64> {
        let committed = self.committed.last_key_value();
        let committed = committed.map_or(0, |(index, _)| *index);
        let read = self.replica_mut(at).confirm_lead()?;
        let term = self.replica(at).term();
        self.asked
            .insert((self.nodes[at].id, term, read), committed);
        Some(read)
    }

    pub fn isolate(&mut self, node: Option<ReplicaId>) {
        self.isolated = node;
        let cut = |letter: &Letter| Some(letter.from) == node || Some(letter.to) == node;
        self.letters.retain(|letter| !cut(letter));
    }

    /// One node makes a pass; what comes out is checked, applied and sent.
    pub fn pass(&mut self, at: usize) {
        let mut out = std::mem::take(&mut self.out);
        let node = &mut self.nodes[at];
        node.replicas.pass(&mut node.disk.journal, &mut out);
        let replica = node.replicas.get(PARTITION).unwrap();
        node.disk.seal(replica.log());
        self.check_truncations(at, &out);
        for (partition, event) in out.events.drain(..) {
            assert_eq!(partition, PARTITION);
            self.on_event(at, event);
        }
        let reads = out.reads.drain(..).map(|(_, read)| read);
        self.nodes[at].reads.extend(reads);
        for (_, range) in out.committed.drain(..) {
            for index in range {
                self.on_committed(at, index);
            }
        }
        for (partition, message) in out.messages.drain(..) {
            self.check_promise(at, &message);
            self.send(partition, message);
        }
        for frame in out.beats.take() {
            let again = raft_group::heartbeats::BeatFrame::decode(&frame.encode()).unwrap();
            assert_eq!(again, frame);
            for beat in again.beats {
                self.send(beat.partition, beat.into_message(frame.from, frame.to));
            }
        }
        out.clear();
        self.out = out;
        self.check_serving(at);
    }

    fn send(&mut self, partition: PartitionId, message: Message) {
        let mut writer = FrameWriter::new();
        writer.push(partition, &message);
        let frame = Bytes::from(writer.finish().concat());
        self.note(&frame);
        let (from, to) = (message.from, message.to);
        self.coverage.beats += u64::from(matches!(message.body, Body::Heartbeat { .. }));
        let blocked = self.blocked.contains(&(from, to));
        if !blocked && self.isolated != Some(from) && self.isolated != Some(to) {
            self.letters.push(Letter { from, to, frame });
        }
    }

    fn on_event(&mut self, at: usize, event: Event) {
        let seed = self.seed;
        let id = self.nodes[at].id;
        match &event {
            Event::BecameLeader { term } => {
                let before = self.leaders.insert(*term, id);
                assert!(
                    before.is_none_or(|before| before == id),
                    "seed {seed}: {before:?} and {id} both lead term {term}"
                );
            }
            Event::Fenced { reason } if reason.contains("for the test") => {}
            Event::Fenced { reason } => panic!("seed {seed}: {id} fenced: {reason}"),
            Event::SnapshotWanted => self.nodes[at].snapshot_wanted = true,
            Event::LeadConfirmed { read, index } => {
                self.coverage.proofs += 1;
                let asked = (id, self.replica(at).term(), *read);
                let known = self.asked.remove(&asked);
                assert!(
                    known.is_some_and(|known| known <= *index),
                    "seed {seed}: {asked:?} began after {known:?} was committed, and reads {index}"
                );
            }
            Event::Installed {
                index,
                applied,
                state,
            } => {
                self.coverage.installs += 1;
                let (_, brought) = state::decode(state.clone());
                assert!(index <= applied && last_of(&brought) == *applied);
                self.check_state(&brought);
                let node = &mut self.nodes[at];
                assert!(last_of(&node.applied) <= *applied, "seed {seed}: {id}");
                (node.applied, node.covered) = (brought, *applied);
            }
            _ => {}
        }
        self.note(format!("{id} {event:?}").as_bytes());
        self.nodes[at].events.push(event);
    }

    fn on_committed(&mut self, at: usize, index: u64) {
        let seed = self.seed;
        let node = &self.nodes[at];
        let id = node.id;
        let log = node.replicas.get(PARTITION).unwrap().log();
        let entry = log.entries(index, index + 1, u64::MAX).unwrap().remove(0);
        let next = node.applied.last_key_value();
        let (last, offset) = next.map_or((0, 0), |(index, (_, offset))| (*index, *offset));
        assert_eq!(index, last + 1, "seed {seed}: {id} applies out of order");
        // A log that is behind its state goes on with its own offsets, if it has to go on alone.
        let is_lost = entry.term >= self.forced_term && entry.base_offset < offset;
        assert!(
            entry.base_offset == offset || is_lost,
            "seed {seed}: {id}: {} for {offset} at {index}",
            entry.base_offset
        );
        let fact = (entry.term, entry.kind, entry.data.clone());
        let known = self.committed.entry(index).or_insert_with(|| fact.clone());
        assert_eq!(
            *known, fact,
            "seed {seed}: {id} commits something else at {index}"
        );
        self.check_majority_holds(at, index, entry.term);
        let after = entry.base_offset + i64::from(entry.offset_count);
        self.note(&[index.to_le_bytes(), entry.term.to_le_bytes()].concat());
        self.nodes[at].applied.insert(index, (entry.term, after));
        self.nodes[at].replicas.applied(PARTITION, index);
    }

    /// The durability oracle, at the moment of commit.
    fn check_majority_holds(&self, at: usize, index: u64, term: u64) {
        let members = self.replica(at).members();
        let holds = |id: &ReplicaId| {
            let disks = self.nodes.iter().map(|node| (node.id, &node.disk));
            let lost = self.lost.iter().map(|(id, disk)| (*id, disk));
            disks
                .chain(lost)
                .any(|(of, disk)| of == *id && disk.holds(index, term))
        };
        let majority =
            |voters: &[ReplicaId]| voters.iter().filter(|id| holds(id)).count() > voters.len() / 2;
        // Only the bootstrap configuration is checked: a commit that changes the members was
        // decided under the one before.
        if *members == self.bootstrap && self.replica(at).term() < self.forced_term {
            assert!(
                majority(members.voters()),
                "seed {}: {} commits {index}, which no majority has on disk",
                self.seed,
                self.nodes[at].id
            );
        }
    }

    /// What a message vouches for must be on its sender's disk when it leaves.
    fn check_promise(&self, at: usize, message: &Message) {
        let disk = &self.nodes[at].disk;
        let state = disk.durable_hard_state();
        let told = format!("seed {}: {} says {message:?}", self.seed, self.nodes[at].id);
        match message.body {
            Body::AppendReply {
                index,
                reject: None,
                ..
            } => {
                assert!(
                    index <= disk.durable_last_index(),
                    "{told}, its disk has {state:?}"
                );
                assert!(
                    message.term <= state.term || index == 0,
                    "{told}, its disk has {state:?}"
                );
            }
            Body::VoteReply {
                pre: false,
                reject: false,
                ..
            } => {
                let voted = state.term > message.term
                    || (state.term == message.term && state.vote == message.to.as_u64());
                assert!(voted, "{told}, its disk has {state:?}");
            }
            Body::Vote(vote) if !vote.pre => {
                assert!(state.term >= message.term, "{told}, its disk has {state:?}");
            }
            _ => {}
        }
    }

    fn check_serving(&self, at: usize) {
        let replica = self.replica(at);
        if replica.is_serving() {
            assert_eq!(replica.role(), Role::Leader);
            let own = self.nodes[at]
                .applied
                .values()
                .any(|(term, _)| *term == replica.term());
            assert!(
                own,
                "seed {}: serves before its own term is applied",
                self.seed
            );
        }
    }

    /// Finishes the write that is under way at a node.
    pub async fn finish_write(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.disk.writing() {
            return;
        }
        node.disk.finish_write().await;
        let turn = node.disk.journal.durable_turn();
        node.replicas.persisted(turn);
    }

    /// A disk that lies: the write is confirmed without being done.
    fn lie(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let turn = node.disk.journal.staged_turn();
        node.replicas.persisted(turn);
    }

    pub async fn crash(&mut self, at: usize) {
        let id = self.nodes[at].id;
        self.note(format!("crash {id}").as_bytes());
        self.letters
            .retain(|letter| letter.from != id && letter.to != id);
        self.nodes[at].replicas = Replicas::new();
        let write_was_done = self.random.percent(50);
        let found = self.nodes[at].disk.crash(write_was_done).await;
        let disk = self.nodes[at].disk.disk.clone();
        let (recorded, applied) = state::replay(&disk, &found.log, found.state).await;
        // A follower may know, durably, of a commit that the leader has not handed out itself yet,
        // because its own disk is the slowest.
        let known = self
            .committed
            .last_key_value()
            .map_or(0, |(index, _)| *index);
        for index in known + 1..=last_of(&applied) {
            let entry = found
                .log
                .entries(index, index + 1, u64::MAX)
                .unwrap()
                .remove(0);
            let fact = (entry.term, entry.kind, entry.data);
            self.committed.insert(index, fact);
        }
        self.check_state(&applied);
        let config = ReplicaConfig {
            bootstrap: self.nodes[at].bootstrap.clone(),
            ..self.config(id)
        };
        // An owner may say how far its state stands, or only how far it read the log.
        let from = match self.random.percent(50) {
            true => last_of(&applied),
            false => last_of(&applied).min(found.log.commit()),
        };
        let replica = Replica::open(found.log, &config, recorded, from)
            .unwrap_or_else(|error| panic!("seed {}: {id}: {error}", self.seed));
        let node = &mut self.nodes[at];
        node.applied = applied;
        node.covered = found.applied;
        node.reads.clear();
        node.snapshot_wanted = false;
        node.followed.clear();
        node.replicas.insert(replica);
    }

    /// Delivers the letter at this place.
    fn deliver(&mut self, place: usize, keep: bool) {
        let letter = match keep {
            true => {
                let Letter { from, to, frame } = &self.letters[place];
                Letter {
                    from: *from,
                    to: *to,
                    frame: frame.clone(),
                }
            }
            false => self.letters.remove(place),
        };
        let Some(node) = self.nodes.iter_mut().find(|node| node.id == letter.to) else {
            return;
        };
        let full = self.minds_room && node.disk.journal.refuses().is_some();
        for read in FrameReader::new(letter.frame).unwrap() {
            let (partition, mut message) = read.unwrap();
            if full && let Some(replica) = node.replicas.get(partition) {
                replica.leave_out_what_does_not_fit(&mut message, 0, 0);
            }
            // Strangers are part of the game: a removed replica may still talk.
            let _ = node.replicas.step(partition, message);
        }
    }

    /// Delivers what is under way now.
    pub fn deliver_all(&mut self) {
        for _ in 0..self.letters.len() {
            self.deliver(0, false);
        }
    }

    /// Delivers what is under way, but to one node.
    pub fn deliver_to_others(&mut self, deaf: usize) {
        let deaf = self.nodes[deaf].id;
        self.letters.retain(|letter| letter.to != deaf);
        self.deliver_all();
    }

    /// What is under way is lost.
    pub fn lose_letters(&mut self) {
        self.letters.clear();
    }

    /// A tick at every node, and what follows from it, but for what owners do.
    pub async fn tick_all(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.replicas.tick());
        for _ in 0..10 {
            for at in 0..self.nodes.len() {
                self.pass(at);
                self.finish_write(at).await;
                self.pass(at);
            }
            self.deliver_all();
        }
    }

    /// Everything that is under way comes to its end, in order, without time passing.
    pub async fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = !self.letters.is_empty();
            for at in 0..self.nodes.len() {
                busy |= self.nodes[at].replicas.wants_pass() || self.nodes[at].disk.writing();
                busy |= self.serve(at).await;
                self.pass(at);
                self.finish_write(at).await;
                self.pass(at);
            }
            self.deliver_all();
            if !busy {
                return;
            }
        }
        panic!("seed {}: the nodes never come to rest", self.seed);
    }

    /// Lets ticks pass and everything settle until a leader serves and all have applied the same.
    pub async fn heal(&mut self) -> usize {
        self.faults = Faults::NONE;
        self.isolate(None);
        self.blocked.clear();
        for at in 0..self.nodes.len() {
            for other in 0..self.nodes.len() {
                let node = self.nodes[other].id.node();
                self.nodes[at].replicas.peer_back(node);
            }
        }
        for _ in 0..200 {
            self.nodes.iter_mut().for_each(|node| node.replicas.tick());
            self.settle().await;
            let Some(at) = self.leader() else { continue };
            let last = self.replica(at).last_index();
            let members = self.replica(at).members().clone();
            let caught_up = |node: &Node| {
                // A state can be ahead of its log, so what was applied does not say all.
                let commit = node.replicas.get(PARTITION).unwrap().commit_index();
                !members.contains(node.id) || (commit == last && last_of(&node.applied) == last)
            };
            if self.replica(at).is_serving() && self.nodes.iter().all(caught_up) {
                self.check_logs_agree();
                return at;
            }
        }
        panic!("seed {}: no convergence: {:#?}", self.seed, self.states());
    }

    pub fn states(&self) -> Vec<String> {
        (0..self.nodes.len())
            .map(|at| format!("{:?}", self.replica(at)))
            .collect()
    }

    /// One step of a random run.
    pub async fn step(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        if self.upkeep && self.random.percent(20) {
            return self.step_upkeep(at).await;
        }
        match self.random.below(100) {
            0..40 => {
                // More than is sent on average, or what is under way would only ever be old.
                for _ in 0..1 + self.random.below(6) {
                    self.step_network();
                }
            }
            40..55 => self.pass(at),
            55..70 if self.lying_disks => self.lie(at),
            55..70 => self.finish_write(at).await,
            70..80 => {
                // A pass always precedes the tick, as in a core's turn.
                self.pass(at);
                self.nodes[at].replicas.tick();
            }
            80..95 => {
                let body = self.random.next().to_le_bytes();
                let records = 1 + self.random.below(3) as i32;
                // No client goes on for ever without an answer.
                let patient = |at: &usize| {
                    let replica = self.replica(*at);
                    replica.last_index() < replica.commit_index() + 60
                };
                // A client may not know yet that somebody else leads.
                let believed = match self.replica(at).role() == Role::Leader {
                    true => Some(at),
                    false => self.leader(),
                };
                if let Some(leader) = believed.filter(patient).filter(|_| !self.idle) {
                    let _ = self.propose(leader, records, &body);
                }
                if self.random.percent(20) {
                    self.ask_for_lead(at);
                }
            }
            // What takes long to come about, such as a trimmed log, needs calmer times.
            _ if self.upkeep && self.random.percent(if self.idle { 90 } else { 70 }) => {}
            _ => self.step_faults(at).await,
        }
    }

    fn step_network(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let place = match self.random.percent(self.faults.reorder) {
            true => self.random.below(self.letters.len() as u64) as usize,
            false => 0,
        };
        if self.random.percent(self.faults.drop) {
            self.letters.remove(place);
        } else {
            let keep = self.random.percent(self.faults.duplicate);
            self.deliver(place, keep);
        }
    }

    async fn step_faults(&mut self, at: usize) {
        if self.random.percent(self.faults.crash * 10) {
            self.crash(at).await;
        }
        // Long enough, mostly, for the others to elect somebody else.
        let isolated = self.isolated.is_some();
        if self
            .random
            .percent(self.faults.isolate * if isolated { 3 } else { 5 })
        {
            let whom = (!isolated).then_some(self.nodes[at].id);
            self.isolate(whom);
        }
        if self.random.percent(self.faults.alarm * 10) {
            let node = self.random.below(self.nodes.len() as u64) as usize;
            let node = self.nodes[node].id.node();
            let replicas = &mut self.nodes[at].replicas;
            match self.random.below(6) {
                0 => replicas.peer_lost(node),
                1 => replicas.peer_back(node),
                2 => replicas.peer_heard(node),
                3 => replicas.peer_unheard(node),
                4 => replicas.wake_with(node),
                _ => replicas.peer_silent(node),
            }
        }
    }
}
