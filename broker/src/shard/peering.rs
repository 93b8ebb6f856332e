//! A core's part in the cluster: what it hears from other nodes goes to its owners, what its owners say leaves.
//!
//! Raft messages and beats go from core to core; whoever gets one for a partition of another core of this node passes
//! it on by mail. Nothing is promised about delivery ([`crate::peers`]): Raft says again what matters, asks have
//! their own patience, and who leads what is told anew whenever a link comes up.

use super::Shard;
use super::mail::{Leadership, Mail};
use super::owned::{Owned, ToPeer};
use super::peer_mail::{PeerMail, kind};
use crate::cluster::{Cluster, METADATA_CORE, Registration};
use crate::founding::Standing;
use crate::node::{PeerPlan, StartError};
use crate::peers::{
    Destination, Door, Hello, Host, Identity, Introduction, LEVEL, LinkEnd, Links, Origin, Refusal,
    RefusalCode, Sent,
};
use bytes::Bytes;
use raft_group::heartbeats::{Beat, BeatFrame};
use raft_group::wire::{FrameReader, FrameWriter};
use raft_group::{Message, Outputs, ReplicaId};
use runtime::Parcel;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use storage::PartitionId;

/// For how many ticks the preferred leader of a new group tries to be elected before it waits like the others.
const LEAD_FIRST_TICKS: u32 = 8;

impl Owned {
    /// Queues a frame for a core of another node.
    pub(super) fn say(&mut self, node: i32, core: u16, mail: PeerMail) {
        let (kind, payload) = mail.encode();
        self.to_peers.push(ToPeer {
            node,
            core: Some(core),
            kind,
            payload: vec![payload],
        });
    }

    /// Queues a frame for core 0 of every node that is connected.
    pub(super) fn say_to_all(&mut self, mail: PeerMail) {
        let (kind, payload) = mail.encode();
        self.to_peers
            .extend(self.connected.keys().map(|node| ToPeer {
                node: *node,
                core: Some(0),
                kind,
                payload: vec![payload.clone()],
            }));
    }

    /// Takes what replicas have for other nodes: one frame of messages and one of beats for each.
    pub(super) fn gather_for_peers(&mut self, outputs: &mut Outputs) {
        if outputs.messages.is_empty() && outputs.beats.is_empty() {
            return;
        }
        let mut frames: BTreeMap<i32, FrameWriter> = BTreeMap::new();
        for (partition, message) in outputs.messages.drain(..) {
            let frame = frames.entry(message.to.node()).or_default();
            frame.push(partition, &message);
        }
        for (node, frame) in frames {
            self.to_peers.push(ToPeer {
                node,
                core: None,
                kind: kind::RAFT,
                payload: frame.finish(),
            });
        }
        for frame in outputs.beats.frames() {
            self.to_peers.push(ToPeer {
                node: frame.to.node(),
                core: None,
                kind: kind::BEATS,
                payload: vec![Bytes::from(frame.encode())],
            });
        }
    }

    /// Everything that this core's replicas serve now.
    fn led(&self) -> Vec<Leadership> {
        let serving = self.replicas.iter().filter(|replica| replica.is_serving());
        serving
            .map(|replica| Leadership {
                partition: replica.partition(),
                leader: Some(replica.id()),
                epoch: replica.term() as i32,
                lagging: Some(self.in_sync.lagging(replica.partition())),
            })
            .collect()
    }

    /// A new group: nobody leads it, and this node is preferred. It does not wait for an election timeout, but asks for
    /// the votes of the others as soon as they have heard of the group.
    pub(crate) fn lead_first(&mut self, id: PartitionId) {
        self.to_lead.insert(id, LEAD_FIRST_TICKS);
    }

    fn campaign_first(&mut self) {
        if self.decliners.contains(self.node_id) {
            return self.to_lead.clear();
        }
        let replicas = &mut self.replicas;
        self.to_lead.retain(|id, ticks| {
            let Some(replica) = replicas.get_mut(*id) else {
                return false;
            };
            if replica.leader().is_some() || replica.members().is_sole_voter(replica.id()) {
                return false;
            }
            replica.campaign();
            *ticks -= 1;
            *ticks > 0
        });
    }

    /// Whether a node is connected, and heard.
    pub(super) fn is_there(&self, node: i32) -> bool {
        self.connected.contains_key(&node) && self.replicas.is_heard(node)
    }

    /// A node is not connected any more. False if it was not.
    fn unlink(&mut self, node: i32) -> bool {
        self.connected_at.remove(&node);
        self.connected.remove(&node).is_some()
    }

    /// What followers take between two passes must fit into the journal together: a replica that waits for room in the
    /// middle of it hears nothing of what is committed, and so never gets any if the journal is full of its own entries.
    fn leave_out_what_does_not_fit(&mut self, id: PartitionId, message: &mut Message) {
        let (room, at_least) = match self.journal.refuses() {
            Some(_) => (0, 0),
            None => {
                let left = self.journal.room().saturating_sub(self.taken_bytes);
                (left, usize::from(self.taken_bytes == 0))
            }
        };
        if let Some(replica) = self.replicas.get(id) {
            self.taken_bytes += replica.leave_out_what_does_not_fit(message, room, at_least);
        }
    }

    /// Time passes for the replicas that have others.
    fn tick(&mut self) {
        if !self.to_lead.is_empty() {
            self.campaign_first();
        }
        if self.replicas.wants_ticks() {
            self.replicas.tick();
        }
    }
}

impl Shard {
    /// Sends what has been gathered for other nodes.
    pub(super) fn flush_peers(&self) {
        let frames = std::mem::take(&mut self.owned.borrow_mut().to_peers);
        let Some(links) = self.links.get() else {
            return;
        };
        for frame in frames {
            let to = frame.core.map_or(Destination::Landing, Destination::Core);
            let sent = links.send(frame.node, to, frame.kind, frame.payload);
            if sent != Sent::Queued {
                tracing::trace!(
                    node = frame.node,
                    kind = frame.kind,
                    ?sent,
                    "a frame is lost"
                );
            }
        }
    }

    /// Lets time pass for replicas, asks and members, for as long as the core runs.
    pub async fn keep_time(self: Rc<Shard>) {
        loop {
            self.core.sleep(self.settings.raft.tick).await;
            let now = self.core.now();
            {
                let mut owned = self.owned.borrow_mut();
                let disk_matters = !self.settings.mutations.full_leader_stays;
                owned.look_at_own_leads(now, disk_matters);
                owned.tick();
                if self.core.id() == METADATA_CORE {
                    let broker = self.view.borrow().broker().clone();
                    owned.metadata_tick(now, &broker);
                }
                self.look_at_followers(&mut owned, now);
                self.settle_members(&mut owned);
                self.prefer_leaders(&mut owned, now);
                owned.look_at_lags(now);
            }
            self.flush_peers();
            self.wake_turn();
        }
    }

    /// What another node said.
    pub(super) fn on_peer_mail(self: &Rc<Shard>, from: i32, mail: PeerMail) {
        match mail {
            PeerMail::Ask {
                number,
                hops,
                request,
            } => self.on_cluster(super::metadata::Asker::Node(from, number), request, hops),
            PeerMail::Answer {
                number,
                version,
                answer,
            } => {
                let now = self.core.now();
                let mut owned = self.owned.borrow_mut();
                owned.cluster_answered(number, version, answer, now);
            }
            PeerMail::Transfer { partition, to } => {
                let transfer = Mail::Transfer { partition, to };
                self.post.send(self.owner(partition), transfer);
            }
            PeerMail::TakenIn { version } => {
                self.owned.borrow_mut().taken_in(from, version);
                for core in 0..self.core.cores() {
                    let node = from;
                    self.post.send(core, Mail::TakenIn { node, version });
                }
                self.flush_peers();
            }
            PeerMail::TakeRoom {
                number,
                core,
                bytes,
            } => self.on_take_room(from, number, core, bytes),
            PeerMail::Room { number, wait_us } => self.on_room(number, wait_us),
            PeerMail::Survey { number, partition } => self.on_survey(from, number, partition),
            PeerMail::Surveyed { number, holding } => self.surveys.heard(number, *holding),
            PeerMail::Nodes(nodes) => {
                let nodes = std::sync::Arc::new(nodes);
                for core in 0..self.core.cores() {
                    self.post.send(core, Mail::Nodes(nodes.clone()));
                }
            }
            PeerMail::Declines { core, why } => {
                tracing::debug!(node = from, core, ?why, "a node wants no leads");
                for core in 0..self.core.cores() {
                    self.post.send(core, Mail::Declines { node: from, why });
                }
            }
            PeerMail::Leaders(word) => {
                let word = std::sync::Arc::new(word);
                for core in 0..self.core.cores() {
                    self.post.send(core, Mail::Leaders(word.clone()));
                }
            }
        }
    }

    /// Raft messages for this core's partitions.
    pub(super) fn on_raft(&self, messages: Vec<(PartitionId, Message)>) {
        let mut owned = self.owned.borrow_mut();
        for (partition, mut message) in messages {
            owned.leave_out_what_does_not_fit(partition, &mut message);
            if let Err(error) = owned.replicas.step(partition, message) {
                // A partition that is about to be opened, or is gone: Raft says it again if it matters.
                tracing::trace!(%error, ?partition, "a Raft message was not taken");
            }
        }
        drop(owned);
        self.wake_turn();
    }

    /// Beats for this core's partitions.
    pub(super) fn on_beats(&self, frame: BeatFrame) {
        self.owned.borrow_mut().replicas.step_beats(frame);
        self.wake_turn();
    }

    /// Gives a frame of Raft messages to the cores that own their partitions.
    pub(super) fn sort_raft(&self, from: ReplicaId, payload: Bytes) -> Result<(), String> {
        let reader = FrameReader::new(payload).map_err(|error| error.to_string())?;
        let mut by_core: Vec<Vec<(PartitionId, Message)>> = vec![Vec::new(); self.core.cores()];
        for message in reader {
            let (partition, message) = message.map_err(|error| error.to_string())?;
            if message.from != from {
                return Err(format!("{} speaks for {}", from, message.from));
            }
            by_core[self.owner(partition)].push((partition, message));
        }
        for (core, messages) in by_core.into_iter().enumerate() {
            match core == self.core.id() {
                _ if messages.is_empty() => {}
                true => self.on_raft(messages),
                false => self.post.send(core, Mail::Raft(messages)),
            }
        }
        Ok(())
    }

    pub(super) fn sort_beats(&self, from: ReplicaId, payload: &[u8]) -> Result<(), String> {
        let frame = BeatFrame::decode(payload).map_err(|error| error.to_string())?;
        if frame.from != from {
            return Err(format!("{} speaks for {}", from, frame.from));
        }
        let (from, to) = (frame.from, frame.to);
        let mut by_core: Vec<Vec<Beat>> = vec![Vec::new(); self.core.cores()];
        for beat in frame.beats {
            by_core[self.owner(beat.partition)].push(beat);
        }
        for (core, beats) in by_core.into_iter().enumerate() {
            let frame = BeatFrame { from, to, beats };
            match core == self.core.id() {
                _ if frame.beats.is_empty() => {}
                true => self.on_beats(frame),
                false => self.post.send(core, Mail::Beats(frame)),
            }
        }
        Ok(())
    }

    /// Opens this core's links, and lets time pass, if the node has others beside it.
    pub fn join_others(self: &Rc<Shard>, plan: &PeerPlan) {
        let host = PeerHost::of(self);
        let links = Links::new(&self.core, host, plan.names.clone(), plan.settings.clone());
        if self.links.set(links).is_err() {
            return; // It has them already.
        }
        let links = self.links.get().expect("just set");
        let named = plan.voters.iter();
        for voter in named.filter(|voter| voter.node_id != self.settings.node_id) {
            let address = voter.peer.to_string();
            links.reach(voter.node_id, address.clone(), None);
            self.named_peers.borrow_mut().insert(voter.node_id, address);
        }
        self.core.spawn("time", self.clone().keep_time());
    }

    /// The whole state of the metadata is new.
    pub(super) fn all_nodes_changed(&self) {
        let nodes: Vec<i32> = {
            let view = self.view.borrow();
            view.cluster.nodes().keys().copied().collect()
        };
        for node in nodes {
            self.node_changed(node);
        }
    }

    /// Keeps links to nodes that the metadata here does not know yet: the leader of the metadata may be one of them, and
    /// what it says is not heard for long if it gets no answer.
    pub(super) fn reach_unknown(&self, nodes: &[(i32, String)]) {
        let Some(links) = self.links.get() else {
            return;
        };
        let view = self.view.borrow();
        let named = self.named_peers.borrow();
        let unknown = nodes.iter().filter(|(node, _)| {
            let is_known = view.cluster.nodes().contains_key(node) || named.contains_key(node);
            *node != self.settings.node_id && !is_known
        });
        for (node, address) in unknown {
            links.reach(*node, address.clone(), None);
        }
    }

    /// A node registered, left, or was fenced: links follow, and so do the members of the groups led here.
    pub(super) fn node_changed(&self, node: i32) {
        if node == self.settings.node_id {
            return self.own_node_changed();
        }
        if let Some(links) = self.links.get() {
            let view = self.view.borrow();
            match view.cluster.nodes().get(&node) {
                Some(known) => {
                    let Registration { peer, .. } = &known.registration;
                    // What the operator of this node says of the way to another one counts more.
                    let named = self.named_peers.borrow().get(&node).cloned();
                    let address = named.unwrap_or_else(|| peer.clone());
                    let identity = known.replica_id();
                    if view.cluster.is_retired(identity) {
                        // Lost for good, or so it was said: if it lives, it is not heard any more. With an empty disk
                        // it is another one, which may be there already and is not registered yet.
                        let incarnation = identity.incarnation();
                        links.expel_identity(node, incarnation, &retired(node));
                        let reached = self.owned.borrow().connected.get(&node).copied();
                        if reached == Some(incarnation) {
                            links.forget(node);
                            self.disconnected(node);
                        }
                    }
                    links.reach(node, address, None);
                    if !links.is_up(node) {
                        // It has another address now: the link begins anew, and does not tell either.
                        self.disconnected(node);
                    }
                }
                None => {
                    let sentence = format!("node {node} was let go");
                    self.leave_behind(links, node, &Refusal::not_admitted(sentence));
                }
            }
        }
        self.owned.borrow_mut().unsettle_all();
    }

    /// Speaks with a node no more. Its links do not tell that they are down, as this node has ended them: but another
    /// one with the same id may come, and what is said to it before a link is up must wait for that.
    fn leave_behind(&self, links: &Links, node: i32, refusal: &Refusal) {
        links.expel(node, refusal);
        links.forget(node);
        self.disconnected(node);
    }

    fn disconnected(&self, node: i32) {
        let mut owned = self.owned.borrow_mut();
        if owned.unlink(node) && self.core.id() == METADATA_CORE {
            owned.metadata_link_lost(node);
        }
    }
}

/// What the links of a core bring goes to its shard, and so do those who come to the accepting core.
pub struct PeerHost(Weak<Shard>);

impl PeerHost {
    /// The shard has its links, and they have this: so this does not keep the shard.
    pub fn of(shard: &Rc<Shard>) -> Rc<PeerHost> {
        Rc::new(PeerHost(Rc::downgrade(shard)))
    }

    fn shard(&self) -> Rc<Shard> {
        let shard = self.0.upgrade();
        shard.expect("links run on the core of their shard, and end with it")
    }
}

/// Whether a node has the disk that the cluster knows, and not what that was at an earlier start: a node that has forgotten
/// what it promised may not vote.
fn has_current_disk(cluster: &Cluster, who: &Introduction) -> Result<(), Refusal> {
    let Introduction {
        node,
        incarnation,
        start,
        ..
    } = *who;
    if ReplicaId::new(node, incarnation).is_none_or(|id| cluster.is_retired(id)) {
        return Err(retired(node));
    }
    match cluster.older_copy(node, incarnation, start) {
        Some(sentence) => Err(Refusal::retired(sentence)),
        None => Ok(()),
    }
}

fn retired(node: i32) -> Refusal {
    Refusal::retired(format!(
        "the disk of node {node} has been replaced, or was given up for lost: give the node an empty data directory"
    ))
}

impl Identity for PeerHost {
    fn introduction(&self) -> Introduction {
        let shard = self.shard();
        let settings = &shard.settings;
        Introduction {
            cluster_id: settings.cluster_id.clone(),
            node: settings.node_id,
            incarnation: settings.incarnation,
            start: settings.start,
            cores: shard.core.cores() as u16,
            level: LEVEL,
        }
    }

    fn admit(&self, who: &Introduction) -> Result<(), Refusal> {
        let shard = self.shard();
        let own = &shard.settings;
        if who.node == own.node_id {
            let sentence = format!(
                "this is node {} itself: each node needs an id of its own",
                who.node
            );
            return Err(Refusal::not_admitted(sentence));
        }
        has_current_disk(&shard.view.borrow().cluster, who)
    }
}

impl Host for PeerHost {
    fn heard(&self, from: Origin, to: u16, kind: u8, payload: Bytes) {
        let shard = &self.shard();
        let Some(identity) = ReplicaId::new(from.node, from.incarnation) else {
            return; // Was not admitted.
        };
        shard.echo(identity, kind, &payload);
        let taken = match kind {
            kind::RAFT => shard.sort_raft(identity, payload),
            kind::BEATS => shard.sort_beats(identity, &payload),
            other => match PeerMail::decode(other, payload) {
                Ok(mail) if usize::from(to) == shard.core.id() => {
                    shard.on_peer_mail(from.node, mail);
                    Ok(())
                }
                Ok(mail) if usize::from(to) < shard.core.cores() => {
                    let from = from.node;
                    shard.post.send(usize::from(to), Mail::Peer { from, mail });
                    Ok(())
                }
                Ok(_) => Err(format!("there is no core {to}")),
                Err(error) => Err(error.to_string()),
            },
        };
        if let Err(reason) = taken {
            tracing::warn!(
                node = from.node,
                kind,
                reason,
                "a frame of another node was not taken"
            );
        }
    }

    fn link_up(&self, reached: &Introduction) {
        let (node, incarnation) = (reached.node, reached.incarnation);
        let shard = &self.shard();
        if has_current_disk(&shard.view.borrow().cluster, reached).is_err() {
            return; // It lets us in, but nobody listens to it any more.
        }
        let mut owned = shard.owned.borrow_mut();
        owned.connected.insert(node, incarnation);
        owned.connected_at.insert(node, shard.core.now());
        owned.replicas.peer_back(node);
        let led = owned.led();
        if !led.is_empty() {
            owned.say(node, 0, PeerMail::Leaders(led));
        }
        owned.unsettle_all();
        if shard.core.id() == METADATA_CORE {
            owned.metadata_link_up(node, shard.core.now());
            let view = shard.view.borrow();
            let nodes = view.cluster.nodes().iter();
            let nodes = nodes.map(|(id, known)| (*id, known.registration.peer.clone()));
            owned.say(node, METADATA_CORE as u16, PeerMail::Nodes(nodes.collect()));
        }
        drop(owned);
        shard.flush_peers();
        shard.wake_turn();
    }

    fn link_down(&self, node: i32, reason: &LinkEnd) {
        let shard = &self.shard();
        if let LinkEnd::Rejected(refusal) = reason {
            match refusal.code {
                RefusalCode::NotAdmitted if shard.leaves() => shard.end(),
                // One that starts after it has left is refused as any other.
                RefusalCode::Retired if shard.leaves() && shard.is_abreast() => shard.end(),
                RefusalCode::Retired => shard.end_retired(node, &refusal.sentence),
                _ => {}
            }
        }
        if shard.owned.borrow_mut().unlink(node) {
            tracing::warn!(node, %reason, "a node is not connected any more");
        }
        let identity = shard.view.borrow().cluster.replica_id(node);
        let mut owned = shard.owned.borrow_mut();
        if let Some(identity) = identity {
            owned.replicas.unreachable(identity);
        }
        // A process that has died is not waited for; one that cannot be reached may lead on.
        match reason.is_gone() {
            true => owned.replicas.peer_lost(node),
            false => owned.replicas.wake_with(node),
        }
        if shard.core.id() == METADATA_CORE {
            owned.metadata_link_lost(node);
        }
        drop(owned);
        shard.flush_peers();
        shard.wake_turn();
    }

    fn silent(&self, node: i32) {
        tracing::debug!(node, "nothing is heard from a node");
        let shard = &self.shard();
        shard.owned.borrow_mut().replicas.peer_silent(node);
        shard.wake_turn();
        shard.tell_heard(node, false);
    }

    fn heard_again(&self, node: i32) {
        tracing::debug!(node, "a node is heard again");
        self.shard().tell_heard(node, true);
    }
}

/// What the accepting core does with those who come, once the node has recovered.
impl Door for PeerHost {
    fn sought(&self, _request: Bytes) -> Pin<Box<dyn Future<Output = Bytes>>> {
        let shard = self.shard();
        let settings = &shard.settings;
        let standing = Standing {
            node: settings.node_id,
            incarnation: settings.incarnation,
            cluster_id: settings.cluster_id.clone(),
            founders: settings.founders.clone(),
        };
        Box::pin(std::future::ready(standing.encode()))
    }

    fn hand_over(&self, core: u16, parcel: Parcel, hello: Hello) {
        let shard = &self.shard();
        match usize::from(core) == shard.core.id() {
            true => shard.take_link(parcel, hello),
            false => shard.post.send(
                usize::from(core),
                Mail::PeerConnection {
                    parcel,
                    hello: Box::new(hello),
                },
            ),
        }
    }
}

impl Shard {
    /// Whether a node as a whole is heard is for core 0 to say: every node sends to it, but one with fewer cores sends
    /// nothing to those beyond.
    fn tell_heard(&self, node: i32, heard: bool) {
        if self.core.id() == METADATA_CORE {
            for core in 0..self.core.cores() {
                self.post.send(core, Mail::Heard { node, heard });
            }
        }
    }

    pub(super) fn on_heard(&self, node: i32, heard: bool) {
        let replicas = &mut self.owned.borrow_mut().replicas;
        match heard {
            true => replicas.peer_heard(node),
            false => replicas.peer_unheard(node),
        }
        self.wake_turn();
    }

    /// Another node of the cluster says that this one's disk was given up for good: that is a committed fact and stays
    /// one. To go on would be to serve, perhaps with others of its kind, what the cluster has left behind.
    fn end_retired(&self, told_by: i32, sentence: &str) {
        tracing::debug!(told_by, "the disk of this node was given up");
        self.fail(StartError::NotTakenIn(sentence.to_owned()));
    }

    /// This node ends by itself, and says why.
    pub(super) fn fail(&self, error: StartError) {
        if self.failed.borrow().is_some() {
            return;
        }
        tracing::error!("this node stops: {error}");
        self.failed.replace(Some(error));
        for core in (0..self.core.cores()).rev() {
            self.post.send(core, Mail::Stop);
        }
    }

    /// Another node's connection that is to land on this core.
    pub(super) fn take_link(&self, parcel: Parcel, hello: Hello) {
        if let Some(links) = self.links.get() {
            links.adopt(parcel, hello);
        }
    }
}
