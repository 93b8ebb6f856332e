//! A core's shard: everything that the core owns, and the loops that move it.
//!
//! [`Owned`] decides, synchronously; this file waits. Three loops make a shard: mail is taken in
//! ([`Shard::receive`]), turns are passed ([`turn`]), and background work is done ([`background`]).
//! Handlers reach owners only through [`Shard::ask`], whether the owner is this core or another.

pub mod anew;
pub mod asks;
pub mod background;
pub mod balancing;
mod between_leads;
pub mod catch_up;
mod decliners;
mod echoes;
pub mod everywhere;
pub mod fetching;
mod group_reads;
pub mod groups_host;
pub mod in_sync;
pub mod kept;
pub mod lags;
pub mod leading;
pub mod limits;
pub mod mail;
pub mod membership;
pub mod metadata;
pub mod moves;
pub mod opening;
pub mod owned;
pub mod peer_mail;
pub mod peering;
pub mod produces;
pub mod quorum;
pub mod reading;
pub mod recovering;
pub mod remembered;
mod settling;
pub mod survey;
pub mod throttle;
pub mod turn;
mod unchanged;
pub mod view;
pub mod watch;

use crate::cluster::{ClusterAsk, METADATA_CORE, OFFSETS_TOPIC, partition_id};
use crate::groups;
use crate::node::StartError;
use asks::AskSlots;
use limits::Budget;
use mail::{Answer, AskId, Asks, Mail, Question};
use metadata::Asker;
use owned::Owned;
use raft_group::ReplicaId;
use runtime::{Core, Inbox, Instant, Notify, Post};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use storage::PartitionId;
use uuid::Uuid;
use view::View;

/// A hasher without random keys: maps that use it are looked up, never iterated.
pub type FixedHasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// What does not change while the node runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node_id: i32,
    /// Which disk of that node this is: a node that lost its disk comes back with another number.
    pub incarnation: u32,
    /// Which start of the node with this disk it is.
    pub start: storage::Start,
    pub cluster_id: String,
    pub data: std::path::PathBuf,
    /// Where clients connect, and what they are told.
    pub listeners: Vec<crate::node::ClientListener>,
    pub rack: Option<String>,
    /// Bytes of requests and cold reads that each core lends out.
    pub request_bytes_max: usize,
    /// Bytes from which on a log that is a state is begun anew (see [`anew`]).
    pub anew_bytes_min: u64,
    /// None but in the simulator.
    pub mutations: crate::node::Mutations,
    pub raft: RaftTiming,
    /// Node and incarnation of those that founded the cluster together; empty if one node did, alone.
    pub founders: Vec<(i32, u32)>,
}

impl Settings {
    /// Where this start begins to number what it asks of other nodes: an answer that was meant for a start before is
    /// not taken for one of its own.
    pub fn first_number(&self) -> u64 {
        u64::from(self.start.drawn) << 32
    }
}

/// How time passes for the replicas of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTiming {
    pub tick: Duration,
    pub heartbeat_ticks: usize,
    pub election_ticks: usize,
}

impl RaftTiming {
    /// Two ticks for a heartbeat, and as many as fit for an election.
    pub fn of(heartbeat_ms: u64, election_ms: u64) -> RaftTiming {
        let heartbeat_ticks = 2;
        let tick_ms = (heartbeat_ms / heartbeat_ticks).max(1);
        RaftTiming {
            tick: Duration::from_millis(tick_ms),
            heartbeat_ticks: heartbeat_ticks as usize,
            election_ticks: (election_ms / tick_ms).max(heartbeat_ticks + 1) as usize,
        }
    }
}

impl Settings {
    /// The identity under which this node's replicas take part in their groups.
    pub fn replica_id(&self) -> ReplicaId {
        ReplicaId::new(self.node_id, self.incarnation)
            .expect("node ids and incarnations are checked at start-up")
    }
}

/// One core's shard, shared by the tasks of that core.
pub struct Shard {
    pub core: Core,
    pub post: Post<Mail>,
    pub settings: Settings,
    pub view: RefCell<View>,
    pub owned: RefCell<Owned>,
    pub budget: Budget,
    pub connections: RefCell<crate::connection::Connections>,
    pub fetch_sessions: RefCell<crate::handlers::fetch_session::FetchSessions>,
    pub producer_ids: RefCell<crate::handlers::producer_ids::Block>,
    pub metrics: RefCell<crate::observe::CoreMetrics>,
    asks: RefCell<AskSlots>,
    /// Something may be dirty: the turn loop looks.
    work: Notify,
    /// The earliest deadline changed.
    deadline_moved: Notify,
    sleeping_until: Cell<Option<Instant>>,
    views: opening::ViewQueue,
    pub background: background::Background,
    /// The ports that clients are told, one for each listener; 0 before it listens.
    told_ports: RefCell<Vec<u16>>,
    /// On core 0: every core serves what the metadata names.
    pub serving: Notify,
    pub stopping: Cell<bool>,
    pub stopped: Notify,
    /// Nobody new is let in any more.
    pub closing: Notify,
    /// Somebody has said what it leads.
    led: Notify,
    /// To the other nodes; not set on a node that is alone.
    pub links: OnceCell<Rc<crate::peers::Links>>,
    catch_ups: catch_up::CatchUps,
    throttles: throttle::Throttles,
    handing_over: Cell<bool>,
    leads_looked_at: Cell<Instant>,
    surveys: survey::Surveys,
    /// The last number of what this core has asked other nodes, but for changes of the metadata.
    asked_others: Cell<u64>,
    /// Why this node ends by itself: it may not be part of its cluster any more, or cannot.
    pub failed: RefCell<Option<StartError>>,
    /// Addresses of other nodes that the configuration of this one names.
    named_peers: RefCell<BTreeMap<i32, String>>,
}

impl Shard {
    pub fn new(
        core: Core,
        post: Post<Mail>,
        settings: Settings,
        view: View,
        owned: Owned,
    ) -> Rc<Shard> {
        let budget = Budget::new(settings.request_bytes_max);
        let listeners = settings.listeners.iter();
        let told_ports = listeners.map(|listener| listener.advertised_port).collect();
        Rc::new(Shard {
            post,
            view: RefCell::new(view),
            owned: RefCell::new(owned),
            budget,
            connections: RefCell::default(),
            fetch_sessions: RefCell::default(),
            producer_ids: RefCell::default(),
            metrics: RefCell::default(),
            asks: RefCell::default(),
            work: Notify::new(),
            deadline_moved: Notify::new(),
            sleeping_until: Cell::new(None),
            views: opening::ViewQueue::default(),
            background: background::Background::default(),
            told_ports: RefCell::new(told_ports),
            serving: Notify::new(),
            stopping: Cell::new(false),
            stopped: Notify::new(),
            closing: Notify::new(),
            led: Notify::new(),
            links: OnceCell::new(),
            catch_ups: catch_up::CatchUps::default(),
            throttles: throttle::Throttles::default(),
            handing_over: Cell::new(false),
            leads_looked_at: Cell::new(core.now()),
            surveys: survey::Surveys::default(),
            asked_others: Cell::new(settings.first_number()),
            failed: RefCell::default(),
            named_peers: RefCell::default(),
            settings,
            core,
        })
    }

    /// Asks the owner on `core` and waits for the answer. The mail leaves before the first wait, so asks of
    /// one task reach an owner in the order in which they were made.
    pub async fn ask<Q: Asks>(&self, core: usize, question: Q) -> Q::Answer {
        self.ask_later(core, question).await
    }

    /// As [`Shard::ask`], but hands out the pending ask, so that several owners can be asked at once.
    pub fn ask_later<Q: Asks>(&self, core: usize, question: Q) -> Pending<'_, Q> {
        let (ask, receiver) = self.asks.borrow_mut().open();
        self.post.send(
            core,
            Mail::Ask {
                ask,
                question: question.question(),
            },
        );
        let kind = std::marker::PhantomData;
        Pending {
            shard: self,
            core,
            ask,
            receiver,
            answered: false,
            kind,
        }
    }

    /// Numbers what is asked of another node.
    fn next_number(&self) -> u64 {
        let number = self.asked_others.get() + 1;
        self.asked_others.set(number);
        number
    }

    /// The core of this node that owns a partition.
    pub fn owner(&self, partition: PartitionId) -> usize {
        storage::owner(partition, self.core.cores())
    }

    /// The partition of the offsets topic that a group lives in, with its owner core; None while that topic does
    /// not exist.
    pub fn coordinator_of(&self, group: &str) -> Option<(PartitionId, usize)> {
        let view = self.view.borrow();
        let topic = view.cluster.topic(OFFSETS_TOPIC)?;
        let partition = groups::partition_for(group, topic.partitions.len() as u32);
        let id = partition_id(topic.id, partition);
        Some((id, self.owner(id)))
    }

    /// Waits until all partitions of these topics have had a leader, at the latest until `deadline`: a client that has
    /// made a topic may use it at once.
    pub async fn await_leaders(&self, names: impl Iterator<Item = &str>, deadline: Instant) {
        for name in names {
            loop {
                let is_led = {
                    let view = self.view.borrow();
                    let topic = view.cluster.topic(name);
                    topic.is_none_or(|topic| view.shown(topic) == topic.partitions.len())
                };
                if is_led {
                    break;
                }
                if self.core.now() >= deadline {
                    return;
                }
                self.hear_of_leaders(deadline).await;
            }
        }
    }

    /// Waits until somebody says what it leads, at the latest until `deadline`.
    pub async fn hear_of_leaders(&self, deadline: Instant) {
        runtime::select(self.led.wait(), self.core.sleep_until(deadline)).await;
    }

    /// What a client that came through this listener is told to connect to.
    pub fn advertised(&self, listener: usize) -> (&str, u16) {
        let host = &self.settings.listeners[listener].advertised_host;
        (host, self.told_ports.borrow()[listener])
    }

    /// The node listens on these ports. Clients are told them where nothing else is advertised.
    pub fn listening(&self, ports: &[u16]) {
        let mut told = self.told_ports.borrow_mut();
        assert_eq!(told.len(), ports.len(), "one port for each listener");
        for (told, port) in told.iter_mut().zip(ports) {
            if *told == 0 {
                *told = *port;
            }
        }
    }

    /// A fresh topic id: random (version 4), from the core's own source.
    pub fn fresh_id(&self) -> Uuid {
        let (high, low) = (self.core.random(), self.core.random());
        let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Takes mail in for as long as the core runs: first what came before the shard was there.
    pub async fn receive(self: Rc<Shard>, mut inbox: Inbox<Mail>, early: Vec<(usize, Mail)>) {
        for (from, mail) in early {
            self.on_mail(from, mail);
        }
        loop {
            for (from, mail) in inbox.take().await {
                self.on_mail(from, mail);
            }
            self.work.notify_one();
        }
    }

    /// Takes one piece of mail in.
    pub fn on_mail(self: &Rc<Shard>, from: usize, mail: Mail) {
        match mail {
            Mail::Ask { ask, question } if self.stopping.get() => {
                drop((ask, question));
            }
            Mail::Ask { ask, question } => self.on_ask(from, ask, question),
            Mail::DecideAgain {
                asker,
                request,
                hops,
            } => self.on_cluster(asker, *request, hops),
            Mail::PeerConnection { parcel, hello } => self.take_link(parcel, *hello),
            Mail::Peer { from, mail } => self.on_peer_mail(from, mail),
            Mail::Nodes(nodes) => self.reach_unknown(&nodes),
            Mail::Raft(messages) => self.on_raft(messages),
            Mail::Beats(frame) => self.on_beats(frame),
            Mail::Answer { ask, answer } => self.asks.borrow_mut().answer(ask, answer),
            Mail::Unwatch { ask } => self.on_unwatch(from, ask),
            Mail::View { version, records } => self.views.push(version, records),
            Mail::ViewApplied { version } => {
                let is_last_core = self.owned.borrow_mut().view_applied(version);
                if is_last_core {
                    self.serving.notify_one();
                    self.flush_peers();
                }
            }
            Mail::Purged { topic } => self.owned.borrow_mut().purged(topic),
            Mail::Leaders(word) => {
                self.view.borrow_mut().lead(&word);
                self.heard_of_lagging(&word);
                self.led.notify_all();
            }
            Mail::ReplicaClosed(id) => self.view.borrow_mut().replica_closed(id),
            Mail::Connection { parcel, listener } => {
                crate::connection::adopt(self, parcel, listener);
            }
            Mail::ConnectionClosed { address, listener } => {
                crate::connection::closed_on(self, from, address, listener);
            }
            Mail::Observe(request) => crate::observe::answer(self, request),
            Mail::Begin(..) => {}
            Mail::Listening { ports } => self.listening(&ports),
            Mail::Heard { node, heard } => self.on_heard(node, heard),
            Mail::TakenIn { node, version } => {
                self.owned.borrow_mut().newcomers.heard(node, version);
            }
            Mail::Declines { node, why } => self.on_declines(node, why),
            Mail::Transfer { partition, to } => {
                self.owned.borrow_mut().transfer_if_wanted(partition, to);
                self.wake_turn();
            }
            Mail::Survey {
                asker,
                number,
                partition,
            } => self.answer_survey(asker, number, partition),
            Mail::Surveyed { number, holding } => self.surveys.heard(number, *holding),
            Mail::Abreast => self.set_abreast(),
            Mail::Stop => self.begin_to_stop(),
        }
    }

    fn on_ask(self: &Rc<Shard>, from: usize, ask: AskId, question: Question) {
        let (now, wall_ms) = (self.core.now(), self.core.wall_ms());
        let answer = match question {
            Question::Produce(produce) => {
                return self.owned.borrow_mut().produce(from, ask, produce, wall_ms);
            }
            Question::Fetch(fetch) => return self.on_fetch(from, ask, fetch),
            Question::ListOffsets(wanted) => return self.on_list_offsets(from, ask, wanted),
            Question::DeleteRecords(wanted) => {
                return self.owned.borrow_mut().delete_records(from, ask, wanted);
            }
            Question::Cluster(request) => {
                assert_eq!(
                    self.core.id(),
                    METADATA_CORE,
                    "metadata is asked of its owner"
                );
                return self.on_cluster(Asker::Core(from, ask), *request, 0);
            }
            Question::Group { partition, request } => {
                let mut ids =
                    || u128::from(self.core.random()) << 64 | u128::from(self.core.random());
                let mut owned = self.owned.borrow_mut();
                owned.group(from, ask, partition, *request, now, wall_ms, &mut ids);
                drop(owned);
                return self.note_deadline();
            }
            Question::Groups(filter) => Answer::Groups(self.owned.borrow().list_groups(&filter)),
            Question::EpochEnds(wanted) => {
                let mut owned = self.owned.borrow_mut();
                Answer::EpochEnds(wanted.iter().map(|ask| owned.epoch_end(ask)).collect())
            }
            Question::TakeRoom(wanted) => Answer::TakeRoom(self.take_room(wanted)),
            Question::LogSizes(which) => Answer::LogSizes(self.owned.borrow().log_sizes(which)),
        };
        self.post.send(from, Mail::Answer { ask, answer });
    }

    /// A request to change the metadata.
    fn on_cluster(self: &Rc<Shard>, asker: Asker, request: ClusterAsk, hops: u8) {
        let broker = self.view.borrow().broker().clone();
        let now = self.core.now();
        let mut owned = self.owned.borrow_mut();
        owned.cluster(asker, request, hops, now, &broker, &mut || self.fresh_id());
        drop(owned);
        self.flush_peers();
    }

    /// Work may have come up outside the mail: the turn loop is to look.
    pub fn wake_turn(&self) {
        self.work.notify_one();
    }

    /// Wakes the deadline loop if something is due earlier than it sleeps.
    fn note_deadline(&self) {
        let next = self.owned.borrow().next_deadline();
        let earlier = match (next, self.sleeping_until.get()) {
            (Some(next), Some(sleeping)) => next < sleeping,
            (next, None) => next.is_some(),
            (None, Some(_)) => false,
        };
        if earlier {
            self.deadline_moved.notify_one();
        }
    }

    /// Sleeps until the earliest deadline of watches and groups, then lets them act.
    pub async fn keep_deadlines(self: Rc<Shard>) {
        loop {
            let next = self.owned.borrow().next_deadline();
            self.sleeping_until.set(next);
            match next {
                Some(at) if at > self.core.now() => {
                    let sleep = self.core.sleep_until(at);
                    runtime::select(sleep, self.deadline_moved.wait()).await;
                }
                Some(_) => {}
                None => self.deadline_moved.wait().await,
            }
            self.on_deadlines();
        }
    }

    fn on_deadlines(self: &Rc<Shard>) {
        let (now, wall_ms) = (self.core.now(), self.core.wall_ms());
        loop {
            let overdue = self.owned.borrow().watches.overdue(now);
            let Some(slot) = overdue else { break };
            self.finish_watch(slot);
        }
        if self.owned.borrow_mut().groups_deadline(now, wall_ms) {
            self.work.notify_one();
        }
    }

    fn stop(&self) {
        self.stopping.set(true);
        self.closing.notify_all();
        self.stopped.notify_all();
    }
}

impl Owned {
    /// When something falls due next.
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.watches.next_deadline(), self.groups.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// An ask in flight: a future of the owner's answer. Dropping it gives the ask up.
pub struct Pending<'a, Q: Asks> {
    shard: &'a Shard,
    core: usize,
    ask: AskId,
    receiver: runtime::oneshot::Receiver<Answer>,
    answered: bool,
    kind: std::marker::PhantomData<fn() -> Q>,
}

impl<Q: Asks> Pending<'_, Q> {
    /// Tells the owner that a fetch has waited enough; its answer then comes at once.
    pub fn hurry(&self) {
        self.shard
            .post
            .send(self.core, Mail::Unwatch { ask: self.ask });
    }
}

impl<Q: Asks> Future for Pending<'_, Q> {
    type Output = Q::Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Q::Answer> {
        let received = std::task::ready!(Pin::new(&mut self.receiver).poll(context));
        self.answered = true;
        let answer = received.expect("an ask's slot lives until it is answered or given up");
        Poll::Ready(Q::answer(answer).expect("an owner answers in kind"))
    }
}

impl<Q: Asks> Drop for Pending<'_, Q> {
    fn drop(&mut self) {
        if !self.answered {
            self.shard.asks.borrow_mut().close(self.ask);
        }
    }
}
