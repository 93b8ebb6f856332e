//! The metadata replica of a node, on core 0.
//!
//! Whoever leads the metadata decides requests one after another and proposes the records. Every node applies what
//! is committed, tells its cores, and answers its own askers when all of them have taken it in and serve what it
//! brought. A node that does not lead sends what it is asked on to the one that does ([`super::peering`]); a node
//! that does not know who leads keeps it for a while.

use super::anew::Growth;
use super::balancing::Balancing;
use super::everywhere::Everywhere;
use super::mail::{Answer, AskId, Mail};
use super::owned::Owned;
use super::peer_mail::PeerMail;
use super::unchanged::{Answered, Unchanged};
use crate::cluster::{
    self, Cluster, ClusterAnswer, ClusterAsk, METADATA, METADATA_CORE, Record, Records,
    decide::Context,
};
use crate::config::BrokerConfig;
use crate::partition::Covered;
use bytes::Bytes;
use protocol::error::ErrorCode;
use runtime::{Instant, Post};
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use storage::{EntryKind, Refusal};
use uuid::Uuid;

/// How long an ask waits for a leader, or for the answer of one.
const PATIENCE: Duration = Duration::from_secs(15);
/// Asks that wait here or elsewhere; beyond it they are refused.
const WAITING_MAX: usize = 10_000;
/// Answers kept for nodes that are about to be reached; beyond it they are lost, and the asker's patience ends.
const UNSENT_MAX: usize = 1_000;
/// An ask is sent on at most this often: by who was asked, and by a node that a newcomer asked.
const HOPS_MAX: u8 = 3;

/// State of the metadata's owner.
pub struct MetadataOwner {
    /// What is committed.
    committed: Cluster,
    /// `committed` plus everything decided and not yet committed. Counts while this node leads.
    pub(super) ahead: Cluster,
    /// Decided and proposed, in order of their index.
    proposed: VecDeque<Proposed>,
    /// Committed; every core has been told, some have not taken it in yet.
    spreading: BTreeMap<u64, Spreading>,
    /// The last version that was told to the cores.
    pub(super) told: u64,
    /// Asks that wait for a leader.
    pub(super) early: Vec<Waiting>,
    /// Asks that the leader on another node decides, by the number that we gave them.
    sent_on: BTreeMap<u64, SentOn>,
    next_number: u64,
    /// Answers to nodes that our link does not reach yet.
    unsent: Vec<(i32, PeerMail)>,
    /// Answers from elsewhere that wait for this node to get as far: by version.
    awaited: BTreeMap<u64, Vec<(usize, AskId, ClusterAnswer)>>,
    /// Cores that still hold data of a deleted topic.
    purging: BTreeMap<Uuid, usize>,
    /// The cores have been told the whole state.
    established: bool,
    /// Leads and serves: may decide.
    leading: bool,
    /// Registered nodes that are not connected, and since when; counts while leading.
    pub(super) unheard: BTreeMap<i32, Instant>,
    pub(super) everywhere: Everywhere,
    pub(super) unchanged: Unchanged,
    pub(super) balancing: Balancing,
    pub(super) growth: Growth,
    pub(super) covered: Covered,
}

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A core of this node.
    Core(usize, AskId),
    /// Another node, by its own number.
    Node(i32, u64),
    /// This node for itself; it asks again if need be.
    Nobody,
}

struct Proposed {
    index: u64,
    /// [`Records`], as they are in the log.
    records: Bytes,
    asked: Option<(Asker, ClusterAnswer)>,
}

struct Spreading {
    cores_left: usize,
    asked: Option<(usize, AskId, ClusterAnswer)>,
}

/// An ask that is not answered yet.
pub(super) struct Waiting {
    pub(super) asker: Asker,
    pub(super) request: ClusterAsk,
    pub(super) hops: u8,
    pub(super) deadline: Instant,
}

struct SentOn {
    waiting: Waiting,
    to: i32,
}

impl MetadataOwner {
    /// Every core has taken in all versions up to here.
    pub(super) fn spread_up_to(&self) -> u64 {
        let first = self.spreading.first_key_value();
        let before = |version: &u64| version.saturating_sub(1).min(self.told);
        first.map_or(self.told, |(version, _)| before(version))
    }

    /// Up to where `ahead` stands for the log.
    pub(super) fn last_proposed(&self) -> u64 {
        self.proposed.back().map_or(0, |proposed| proposed.index)
    }

    /// Forgets what was decided and could not be proposed.
    fn step_back(&mut self) {
        self.ahead = self.committed.clone();
        for proposed in &self.proposed {
            let records = Records::decode(&proposed.records, proposed.index);
            for record in records.expect("encoded here").0 {
                self.ahead.apply(&record);
            }
        }
    }

    fn has_spread(&self, version: u64) -> bool {
        version <= self.spread_up_to()
    }

    /// `restored` is the state as of the checkpoint; entries above it come as commits. `bytes` is the log's size.
    /// `checkpointed`: up to where the checkpoint has the state. `number` is the first one of what others are asked.
    pub fn new(restored: Cluster, checkpointed: u64, bytes: u64, number: u64) -> MetadataOwner {
        let mut covered = Covered::default();
        covered.checkpointed(checkpointed);
        MetadataOwner {
            covered,
            ahead: Cluster::default(),
            committed: restored,
            proposed: VecDeque::new(),
            spreading: BTreeMap::new(),
            told: 0,
            early: Vec::new(),
            sent_on: BTreeMap::new(),
            next_number: number,
            unsent: Vec::new(),
            awaited: BTreeMap::new(),
            purging: BTreeMap::new(),
            established: false,
            leading: false,
            unheard: BTreeMap::new(),
            everywhere: Everywhere::default(),
            unchanged: Unchanged::default(),
            balancing: Balancing::default(),
            growth: Growth::of(bytes),
        }
    }

    /// The committed state, for a checkpoint.
    pub fn committed(&self) -> &Cluster {
        &self.committed
    }

    /// It leads, and nothing is decided that is not committed.
    pub(super) fn is_settled(&self) -> bool {
        self.leading && self.proposed.is_empty()
    }

    /// Whether this node decides what becomes of the metadata.
    pub fn is_leading(&self) -> bool {
        self.leading
    }
}

impl Owned {
    /// A request to change the metadata.
    pub fn cluster(
        &mut self,
        asker: Asker,
        request: ClusterAsk,
        hops: u8,
        now: Instant,
        broker: &BrokerConfig,
        next_id: &mut dyn FnMut() -> Uuid,
    ) {
        let Some(metadata) = self.metadata.as_mut() else {
            return self.reply(asker, 0, unavailable(ErrorCode::NOT_CONTROLLER));
        };
        let waiting = |request| Waiting {
            asker,
            request,
            hops,
            deadline: now + PATIENCE,
        };
        if !metadata.leading {
            // The newest word about a disk is enough.
            let is_disk = |request: &ClusterAsk| matches!(request, ClusterAsk::DiskUsed { .. });
            if asker == Asker::Nobody && is_disk(&request) {
                let stale = |it: &Waiting| it.asker == Asker::Nobody && is_disk(&it.request);
                metadata.early.retain(|waiting| !stale(waiting));
            }
            if metadata.early.len() + metadata.sent_on.len() >= WAITING_MAX {
                return self.reply(asker, 0, unavailable(ErrorCode::REQUEST_TIMED_OUT));
            }
            metadata.early.push(waiting(request));
            return self.send_early_on(now);
        }
        match self.journal.refuses() {
            None => {}
            // For a moment only: see `decide_held`.
            Some(Refusal::Full) if metadata.early.len() < WAITING_MAX => {
                metadata.early.push(waiting(request));
                return;
            }
            Some(_) => {
                let storage_error = unavailable(ErrorCode::KAFKA_STORAGE_ERROR);
                return self.reply(asker, 0, storage_error);
            }
        }
        match request {
            ClusterAsk::DescribeQuorum => {
                let quorum = ClusterAnswer::Quorum(self.quorum());
                return self.reply(asker, 0, quorum);
            }
            ClusterAsk::DiskUsed { node, disk } => {
                if metadata.committed.nodes().contains_key(&node) {
                    metadata.balancing.disk_used(node, disk, broker);
                }
                return self.reply(asker, 0, ClusterAnswer::Done);
            }
            _ => {}
        }
        let mut context = Context {
            node_id: self.node_id,
            connected: &self.connected,
            full: &metadata.balancing.full(broker),
            broker,
            next_id,
        };
        let (records, reply) = cluster::decide::decide(&mut metadata.ahead, &request, &mut context);
        if records.is_empty() {
            return self.reply_unchanged(waiting(request), reply);
        }
        self.propose_records(records, Some((asker, reply)));
    }

    /// Answers now. Another node gives the answer on when it has got as far as `version`.
    pub(super) fn reply(&mut self, asker: Asker, version: u64, reply: ClusterAnswer) {
        match asker {
            Asker::Core(from, ask) => answer(&self.post, from, ask, reply),
            Asker::Node(node, number) => {
                let said = PeerMail::Answer {
                    number,
                    version,
                    answer: reply,
                };
                match (self.connected.contains_key(&node), self.metadata.as_mut()) {
                    (false, Some(metadata)) if metadata.unsent.len() < UNSENT_MAX => {
                        metadata.unsent.push((node, said));
                    }
                    _ => self.say(node, METADATA_CORE as u16, said),
                }
            }
            Asker::Nobody => {
                if let ClusterAnswer::Unavailable(code) = reply {
                    tracing::debug!(%code, "the metadata did not take what this node had to say");
                }
            }
        }
    }

    /// Sends asks that wait to whoever leads, if somebody is known to.
    pub(super) fn send_early_on(&mut self, now: Instant) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        if metadata.early.is_empty() {
            return;
        }
        let replica = self.replicas.get(METADATA).expect("its owner is here");
        let to = match replica.leader() {
            Some(leader) if leader == replica.id() => {
                return; // About to serve.
            }
            Some(leader) => Some(leader.node()).filter(|node| self.connected.contains_key(node)),
            // Who is no member yet hears of no leader: any other node knows more.
            None if !replica.members().contains(replica.id()) => {
                let turn = metadata.next_number as usize % self.connected.len().max(1);
                self.connected.keys().nth(turn).copied()
            }
            None => None,
        };
        let Some(to) = to else { return };
        let mut said = Vec::new();
        for mut waiting in std::mem::take(&mut metadata.early) {
            if waiting.hops >= HOPS_MAX || waiting.deadline <= now {
                metadata.early.push(waiting);
                continue;
            }
            waiting.hops += 1;
            metadata.next_number += 1;
            let number = metadata.next_number;
            said.push(PeerMail::Ask {
                number,
                hops: waiting.hops,
                request: waiting.request.clone(),
            });
            metadata.sent_on.insert(number, SentOn { waiting, to });
        }
        for ask in said {
            self.say(to, METADATA_CORE as u16, ask);
        }
    }

    /// The leader has answered what we had sent on.
    pub fn cluster_answered(
        &mut self,
        number: u64,
        version: u64,
        reply: ClusterAnswer,
        now: Instant,
    ) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let Some(sent) = metadata.sent_on.remove(&number) else {
            return;
        };
        let mut waiting = sent.waiting;
        if matches!(reply, ClusterAnswer::Unavailable(ErrorCode::NOT_CONTROLLER))
            && waiting.deadline > now
        {
            // It does not lead any more, and has done nothing: once more, to the next.
            waiting.hops = 0;
            metadata.early.push(waiting);
            return;
        }
        // Who is not taken in never gets as far.
        let is_final = matches!(reply, ClusterAnswer::RegisterNode(Err(_)));
        match waiting.asker {
            Asker::Core(from, ask) if !is_final && !metadata.has_spread(version) => {
                let awaited = metadata.awaited.entry(version).or_default();
                awaited.push((from, ask, reply));
            }
            asker => self.reply(asker, version, reply),
        }
    }

    /// A node is connected: it hears what it has asked for before our link to it was up.
    pub(super) fn metadata_link_up(&mut self, node: i32, now: Instant) {
        if let Some(metadata) = self.metadata.as_mut() {
            let unsent = std::mem::take(&mut metadata.unsent);
            let (due, later): (Vec<_>, Vec<_>) =
                unsent.into_iter().partition(|(to, _)| *to == node);
            metadata.unsent = later;
            for (node, said) in due {
                self.say(node, METADATA_CORE as u16, said);
            }
        }
        self.send_early_on(now);
    }

    /// A node is not connected any more: what becomes of asks that were sent there is not known.
    pub(super) fn metadata_link_lost(&mut self, node: i32) {
        self.give_up_asks(|sent| sent.to == node);
        self.everywhere_but(node);
    }

    /// Asks that have waited too long are answered so; nodes that were not heard of for a session are fenced.
    pub(super) fn metadata_tick(&mut self, now: Instant, broker: &BrokerConfig) {
        let session = Duration::from_millis(broker.broker_session_timeout_ms);
        self.send_early_on(now);
        self.everywhere_tick(now);
        self.fence_unheard(now, session);
        self.balance(now, broker);
        self.give_up_asks(|sent| sent.waiting.deadline <= now);
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let (late, early) = std::mem::take(&mut metadata.early)
            .into_iter()
            .partition::<Vec<_>, _>(|waiting| {
                waiting.deadline <= now && waiting.asker != Asker::Nobody
            });
        metadata.early = early;
        let late_too = |answered: &Answered| answered.ask.deadline <= now;
        let unproved = metadata.unchanged.take_while(late_too);
        let unproved: Vec<_> = unproved.map(|answered| answered.ask).collect();
        for waiting in late.into_iter().chain(unproved) {
            self.reply(waiting.asker, 0, unavailable(ErrorCode::REQUEST_TIMED_OUT));
        }
    }

    fn fence_unheard(&mut self, now: Instant, session: Duration) {
        let Some(metadata) = self.metadata.as_mut().filter(|metadata| metadata.leading) else {
            return;
        };
        let mut found = Vec::new();
        for (node, known) in metadata.committed.nodes() {
            let heard = *node == self.node_id || self.connected.contains_key(node);
            if heard {
                metadata.unheard.remove(node);
            }
            let since = match heard {
                true => now,
                false => *metadata.unheard.entry(*node).or_insert(now),
            };
            let fenced = !heard && now - since >= session;
            // One that is not heard of stays fenced, whoever led when it was.
            if fenced != known.fenced && (fenced || heard) {
                found.push((*node, fenced));
            }
        }
        for (node, fenced) in found {
            self.decide_behind_mail(Asker::Nobody, ClusterAsk::FenceNode { node, fenced }, 0);
        }
    }

    fn give_up_asks(&mut self, lost: impl Fn(&SentOn) -> bool) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let numbers: Vec<u64> = metadata
            .sent_on
            .iter()
            .filter(|(_, sent)| lost(sent))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let metadata = self.metadata.as_mut().expect("looked up above");
            let sent = metadata.sent_on.remove(&number).expect("listed above");
            let mut waiting = sent.waiting;
            match waiting.asker {
                Asker::Nobody if matches!(waiting.request, ClusterAsk::DiskUsed { .. }) => {}
                // What a node says of itself may be said twice.
                Asker::Nobody => {
                    waiting.hops = 0;
                    metadata.early.push(waiting);
                }
                asker => self.reply(asker, 0, unavailable(ErrorCode::REQUEST_TIMED_OUT)),
            }
        }
    }

    pub(super) fn propose_records(
        &mut self,
        records: Vec<Record>,
        asked: Option<(Asker, ClusterAnswer)>,
    ) {
        let replica = self.replicas.get_mut(METADATA).expect("its owner is here");
        let metadata = self.metadata.as_mut().expect("its owner is here");
        let records = Bytes::from(Records(records).encode());
        metadata.growth.add(records.len());
        match replica.propose(EntryKind::Command, records.clone()) {
            Ok(proposed) => {
                metadata.proposed.push_back(Proposed {
                    index: proposed.index,
                    records,
                    asked,
                });
            }
            Err(_) => {
                metadata.step_back();
                if let Some((asker, _)) = asked {
                    self.reply(asker, 0, unavailable(ErrorCode::NOT_CONTROLLER));
                }
            }
        }
    }

    /// Entries of the metadata log are committed: applies them, tells the cores.
    pub(super) fn metadata_committed(&mut self, range: RangeInclusive<u64>) {
        let (low, high) = (*range.start(), *range.end());
        let replica = self.replicas.get_mut(METADATA).expect("its owner is here");
        let entries = match replica.log().entries(low, high + 1, u64::MAX) {
            Ok(entries) => entries,
            Err(missing) => {
                let reason =
                    format!("committed metadata {low}..={high} is not in memory: {missing:?}");
                replica.fence(reason);
                return;
            }
        };
        let mut news = Vec::new();
        for entry in &entries {
            if entry.kind != EntryKind::Command {
                continue;
            }
            match Records::decode(&entry.data, entry.index) {
                Ok(records) => news.push((entry.index, records.0)),
                Err(unreadable) => {
                    replica.fence(unreadable.to_string());
                    return;
                }
            }
        }
        replica.applied(high);
        let serves_now = replica.is_serving();
        for (index, records) in news {
            self.spread(index, records);
        }
        let metadata = self.metadata.as_mut().expect("its owner is here");
        if serves_now && !metadata.leading {
            metadata.leading = true;
            metadata.ahead = metadata.committed.clone();
            self.lead(METADATA);
            self.establish(high);
            self.decide_early();
        }
        self.give_unchanged();
    }

    fn spread(&mut self, index: u64, records: Vec<Record>) {
        let metadata = self.metadata.as_mut().expect("its owner is here");
        for record in &records {
            metadata.committed.apply(record);
        }
        let mut asked = None;
        while let Some(proposed) = metadata
            .proposed
            .front()
            .filter(|front| front.index <= index)
        {
            if proposed.index == index {
                asked = metadata
                    .proposed
                    .pop_front()
                    .expect("front was there")
                    .asked;
                break;
            }
            metadata.proposed.pop_front();
        }
        if !metadata.established {
            // The cores learn the whole state in one; until then it only grows here.
            return;
        }
        if let [Record::Snapshot { .. }] = records.as_slice() {
            // Of what the cores know already: the log was begun anew.
            return;
        }
        let asked = match asked {
            Some((Asker::Core(from, ask), reply)) => Some((from, ask, reply)),
            Some((asker, reply)) => {
                self.reply_everywhere(asker, index, reply);
                None
            }
            None => None,
        };
        self.tell_cores(index, records, asked);
    }

    /// Sends a version to every core; who asked for it is answered when all have taken it in.
    fn tell_cores(
        &mut self,
        version: u64,
        records: Vec<Record>,
        asked: Option<(usize, AskId, ClusterAnswer)>,
    ) {
        let cores_left = self.cores;
        let metadata = self.metadata.as_mut().expect("its owner is here");
        metadata
            .spreading
            .insert(version, Spreading { cores_left, asked });
        metadata.told = version;
        let records = Arc::new(records);
        for core in 0..self.cores {
            let records = records.clone();
            self.post.send(core, Mail::View { version, records });
        }
    }

    /// Every core gets the whole state as of `version`, if it was not told before. Where others have a say this is
    /// at the start, and what the node has missed follows; a node that is alone waits until it has applied its log.
    pub fn establish(&mut self, version: u64) {
        let cores = self.cores;
        let metadata = self.metadata.as_mut().expect("its owner is here");
        if std::mem::replace(&mut metadata.established, true) {
            return;
        }
        metadata.purging = metadata
            .committed
            .deleted()
            .keys()
            .map(|id| (*id, cores))
            .collect();
        self.spread_state(version);
    }

    fn spread_state(&mut self, version: u64) {
        let metadata = self.metadata.as_mut().expect("its owner is here");
        let state = Box::new(metadata.committed.image());
        self.tell_cores(version, vec![Record::Snapshot { state }], None);
    }

    /// The leader has given the whole state, since what led to it is gone from its log.
    pub(super) fn metadata_replaced(&mut self, image: cluster::Image, applied: u64) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let state = Box::new(image);
        metadata.committed.apply(&Record::Snapshot { state });
        metadata.told = applied;
        if metadata.established {
            self.spread_state(applied);
        }
    }

    /// This node leads now: what was asked before it did goes back through the mail, behind the view that the
    /// asker needs to see first.
    fn decide_early(&mut self) {
        let metadata = self.metadata.as_mut().expect("its owner is here");
        let early = std::mem::take(&mut metadata.early);
        for waiting in early {
            self.decide_behind_mail(waiting.asker, waiting.request, waiting.hops);
        }
    }

    /// Puts a request to the metadata's owner behind the mail that this core has sent so far.
    pub(super) fn decide_behind_mail(&self, asker: Asker, request: ClusterAsk, hops: u8) {
        let request = Box::new(request);
        let again = Mail::DecideAgain {
            asker,
            request,
            hops,
        };
        self.post.send(METADATA_CORE, again);
    }

    /// Takes up what waited for room in the journal.
    pub(super) fn decide_held(&mut self) {
        let held = self
            .metadata
            .as_ref()
            .is_some_and(|metadata| metadata.leading && !metadata.early.is_empty());
        if held && self.journal.refuses() != Some(Refusal::Full) {
            self.decide_early();
        }
    }

    /// Another node leads from now on, or nobody: what was proposed may or may not be in the log.
    pub(super) fn metadata_unseated(&mut self) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        metadata.leading = false;
        metadata.unheard.clear();
        metadata.balancing = Balancing::default();
        metadata.ahead = Cluster::default();
        let unproved = metadata.unchanged.take_all();
        metadata.early.extend(unproved.map(|answered| answered.ask));
        for proposed in std::mem::take(&mut metadata.proposed) {
            if let Some((asker, _)) = proposed.asked {
                self.reply(asker, 0, unavailable(ErrorCode::REQUEST_TIMED_OUT));
            }
        }
        self.give_all_held();
    }

    /// A core has taken a version in and serves what it brought. True if that was the last core.
    pub fn view_applied(&mut self, version: u64) -> bool {
        let Some(metadata) = self.metadata.as_mut() else {
            return false;
        };
        let Some(spreading) = metadata.spreading.get_mut(&version) else {
            return false;
        };
        spreading.cores_left -= 1;
        if spreading.cores_left > 0 {
            return false;
        }
        let done = metadata
            .spreading
            .remove(&version)
            .expect("looked up above");
        if let Some((from, ask, reply)) = done.asked {
            self.reply_everywhere(Asker::Core(from, ask), version, reply);
        }
        self.spread_further();
        self.answer_awaited();
        true
    }

    /// Gives on the answers from elsewhere that this node has got as far as.
    fn answer_awaited(&mut self) {
        let metadata = self.metadata.as_mut().expect("its owner is here");
        let up_to = metadata.spread_up_to();
        let later = metadata.awaited.split_off(&(up_to + 1));
        let now = std::mem::replace(&mut metadata.awaited, later);
        for (from, ask, reply) in now.into_values().flatten() {
            answer(&self.post, from, ask, reply);
        }
    }

    /// A topic was deleted: its data is gone once every core has said so.
    pub fn topic_deleted(&mut self, topic: Uuid) {
        let cores = self.cores;
        if let Some(metadata) = self.metadata.as_mut() {
            metadata.purging.entry(topic).or_insert(cores);
        }
    }

    /// A core holds nothing of a deleted topic any more.
    pub fn purged(&mut self, topic: Uuid) {
        let node = self.node_id;
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let Some(left) = metadata.purging.get_mut(&topic) else {
            return;
        };
        *left -= 1;
        if *left > 0 {
            return;
        }
        metadata.purging.remove(&topic);
        let holds = metadata.committed.deleted().get(&topic);
        if holds.is_some_and(|deleted| deleted.holders.contains(&node)) {
            self.decide_behind_mail(Asker::Nobody, ClusterAsk::TopicPurged { topic, node }, 0);
        }
    }

    pub(super) fn metadata_fenced(&mut self) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        metadata.leading = false;
        let proposed = std::mem::take(&mut metadata.proposed);
        let proposed = proposed
            .into_iter()
            .filter_map(|proposed| Some(proposed.asked?.0));
        let early = std::mem::take(&mut metadata.early).into_iter();
        let unproved = metadata.unchanged.take_all();
        let waiting = early.chain(unproved.map(|answered| answered.ask));
        let askers: Vec<Asker> = proposed
            .chain(waiting.map(|waiting| waiting.asker))
            .collect();
        for asker in askers {
            self.reply(asker, 0, unavailable(ErrorCode::KAFKA_STORAGE_ERROR));
        }
    }
}

fn unavailable(code: ErrorCode) -> ClusterAnswer {
    ClusterAnswer::Unavailable(code)
}

fn answer(post: &Post<Mail>, to: usize, ask: AskId, reply: ClusterAnswer) {
    post.send(
        to,
        Mail::Answer {
            ask,
            answer: Answer::Cluster(Box::new(reply)),
        },
    );
}
