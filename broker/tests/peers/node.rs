//! Nodes that have nothing but links, in the simulator, and a record of what their hosts are told.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use broker::peers::{
    Door, Hello, Host, Identity, Introduction, LEVEL, LinkEnd, Links, Names, Origin, PeerServer,
    Refusal, ServerCounters, Settings,
};
use bytes::Bytes;
use runtime::sim::{NodeId, Options, Sim};
use runtime::{Core, Inbox, Instant, Parcel, Post};

pub const PORT: u16 = 9192;

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What a core's host is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Up {
        node: i32,
        cores: u16,
    },
    Down {
        node: i32,
        reason: LinkEnd,
    },
    Silent {
        node: i32,
    },
    HeardAgain {
        node: i32,
    },
    Heard {
        origin: Origin,
        to: u16,
        kind: u8,
        payload: Bytes,
    },
}

/// An event, when it happened, and on which core of which node.
#[derive(Clone, Debug)]
pub struct Told {
    pub at: Instant,
    pub node: i32,
    pub core: u16,
    pub event: Event,
}

/// By node and core.
type LinksByCore = BTreeMap<(i32, u16), Rc<Links>>;

/// What the test and the nodes share.
#[derive(Clone, Default)]
pub struct Shared {
    pub told: Rc<RefCell<Vec<Told>>>,
    links: Rc<RefCell<LinksByCore>>,
    cores: Rc<RefCell<BTreeMap<(i32, u16), Core>>>,
    servers: Rc<RefCell<BTreeMap<i32, PeerServer>>>,
    /// Nobody admits these.
    pub retired: Rc<RefCell<BTreeSet<(i32, u32)>>>,
    /// These have not recovered: they answer requests only.
    pub recovering: Rc<RefCell<BTreeSet<i32>>>,
    /// Who sends this kind is expelled while it is heard.
    pub expelled_by: Rc<Cell<Option<u8>>>,
}

pub enum Mail {
    Connection { parcel: Parcel, hello: Hello },
}

struct TestHost {
    me: Introduction,
    core: Core,
    shared: Shared,
}

impl TestHost {
    fn tell(&self, event: Event) {
        self.shared.told.borrow_mut().push(Told {
            at: self.core.now(),
            node: self.me.node,
            core: self.core.id() as u16,
            event,
        });
    }
}

impl Identity for TestHost {
    fn introduction(&self) -> Introduction {
        self.me.clone()
    }

    fn admit(&self, who: &Introduction) -> Result<(), Refusal> {
        if self
            .shared
            .retired
            .borrow()
            .contains(&(who.node, who.incarnation))
        {
            return Err(Refusal::not_admitted(format!(
                "node {} was removed",
                who.node
            )));
        }
        Ok(())
    }
}

impl Host for TestHost {
    fn heard(&self, origin: Origin, to: u16, kind: u8, payload: Bytes) {
        if self.shared.expelled_by.get() == Some(kind) {
            let key = (self.me.node, self.core.id() as u16);
            let links = self.shared.links.borrow()[&key].clone();
            links.expel(origin.node, &Refusal::not_admitted("go away"));
        }
        self.tell(Event::Heard {
            origin,
            to,
            kind,
            payload,
        });
    }

    fn link_up(&self, reached: &Introduction) {
        let (node, cores) = (reached.node, reached.cores);
        self.tell(Event::Up { node, cores });
    }

    fn link_down(&self, node: i32, reason: &LinkEnd) {
        let reason = reason.clone();
        self.tell(Event::Down { node, reason });
    }

    fn silent(&self, node: i32) {
        self.tell(Event::Silent { node });
    }

    fn heard_again(&self, node: i32) {
        self.tell(Event::HeardAgain { node });
    }
}

struct TestDoor {
    host: Rc<TestHost>,
    post: Post<Mail>,
}

impl Identity for TestDoor {
    fn introduction(&self) -> Introduction {
        self.host.introduction()
    }

    fn admit(&self, who: &Introduction) -> Result<(), Refusal> {
        if self
            .host
            .shared
            .recovering
            .borrow()
            .contains(&self.host.me.node)
        {
            return Err(Refusal::not_ready("the node is recovering"));
        }
        self.host.admit(who)
    }
}

impl Door for TestDoor {
    /// Answers with the request, as many times over as its first byte says; never if that is 0.
    fn sought(&self, request: Bytes) -> Pin<Box<dyn Future<Output = Bytes>>> {
        Box::pin(async move {
            match request.first() {
                None => Bytes::new(),
                Some(0) => std::future::pending().await,
                Some(times) => Bytes::from(request.repeat(usize::from(*times))),
            }
        })
    }

    fn hand_over(&self, core: u16, parcel: Parcel, hello: Hello) {
        self.post
            .send(usize::from(core), Mail::Connection { parcel, hello });
    }
}

/// A node to start.
#[derive(Clone, Debug)]
pub struct Spec {
    pub node: i32,
    pub cores: u16,
    pub incarnation: u32,
    pub cluster_id: &'static str,
    pub level: u16,
}

impl Spec {
    pub fn new(node: i32, cores: u16) -> Spec {
        Spec {
            node,
            cores,
            incarnation: 1,
            cluster_id: "blue",
            level: LEVEL,
        }
    }
}

pub struct World {
    pub sim: Sim,
    pub shared: Shared,
    pub settings: Settings,
    ids: BTreeMap<i32, NodeId>,
}

impl World {
    pub fn new(options: Options) -> World {
        World {
            sim: Sim::new(options),
            shared: Shared::default(),
            settings: Settings::default(),
            ids: BTreeMap::new(),
        }
    }

    /// Nodes of two cores each, numbered from 1, with links between all.
    pub fn of(nodes: i32, seed: u64) -> World {
        let mut world = World::new(Options::seeded(seed));
        for node in 1..=nodes {
            world.start(&Spec::new(node, 2));
        }
        world.sim.run_for(ms(5));
        world.link_all();
        world.sim.run_for(ms(50));
        world
    }

    pub fn start(&mut self, spec: &Spec) -> NodeId {
        let (spec, shared) = (spec.clone(), self.shared.clone());
        let settings = self.settings.clone();
        shared
            .links
            .borrow_mut()
            .retain(|(node, _), _| *node != spec.node);
        shared.servers.borrow_mut().remove(&spec.node);
        let name = format!("node {}", spec.node);
        let (node, cores) = (spec.node, usize::from(spec.cores));
        let run = move |core: Core, post: Post<Mail>, inbox: Inbox<Mail>| {
            run(
                core,
                post,
                inbox,
                spec.clone(),
                shared.clone(),
                settings.clone(),
            )
        };
        let id = self.sim.start(&name, cores, run);
        self.ids.insert(node, id);
        id
    }

    pub fn id(&self, node: i32) -> NodeId {
        self.ids[&node]
    }

    pub fn address(&self, node: i32) -> String {
        format!("{}:{PORT}", self.sim.ip(self.id(node)))
    }

    pub fn links(&self, node: i32, core: u16) -> Rc<Links> {
        self.shared.links.borrow()[&(node, core)].clone()
    }

    pub fn core(&self, node: i32, core: u16) -> Core {
        self.shared.cores.borrow()[&(node, core)].clone()
    }

    /// Lets every core of a node reach another node.
    pub fn reach(&self, from: i32, to: i32) {
        let address = self.address(to);
        for ((node, _), links) in &*self.shared.links.borrow() {
            if *node == from {
                links.reach(to, address.clone(), None);
            }
        }
    }

    pub fn link_all(&self) {
        for from in self.ids.keys() {
            for to in self.ids.keys().filter(|to| *to != from) {
                self.reach(*from, *to);
            }
        }
    }

    pub fn server(&self, node: i32) -> ServerCounters {
        self.shared.servers.borrow()[&node].counters()
    }

    /// What a core was told since the last call.
    pub fn take_told(&self, node: i32, core: u16) -> Vec<Event> {
        let mut all = self.shared.told.borrow_mut();
        let here = |told: &Told| (told.node, told.core) == (node, core);
        let taken = all
            .iter()
            .filter(|told| here(told))
            .map(|told| told.event.clone());
        let taken = taken.collect();
        all.retain(|told| !here(told));
        taken
    }

    pub fn clear_told(&self) {
        self.shared.told.borrow_mut().clear();
    }

    /// When a core was told something for the first time, since the last look.
    pub fn first(&self, node: i32, is: impl Fn(&Event) -> bool) -> Option<Instant> {
        let all = self.shared.told.borrow();
        let mut here = all.iter().filter(|told| told.node == node);
        here.find(|told| is(&told.event)).map(|told| told.at)
    }

    /// The payloads that a core has heard, in order.
    pub fn heard(&self, node: i32, core: u16) -> Vec<Bytes> {
        let payload = |event| match event {
            Event::Heard { payload, .. } => Some(payload),
            _ => None,
        };
        let told = self.take_told(node, core);
        told.into_iter().filter_map(payload).collect()
    }
}

async fn run(
    core: Core,
    post: Post<Mail>,
    mut inbox: Inbox<Mail>,
    spec: Spec,
    shared: Shared,
    settings: Settings,
) {
    let me = Introduction {
        cluster_id: spec.cluster_id.to_owned(),
        node: spec.node,
        incarnation: spec.incarnation,
        start: storage::Start::default(),
        cores: core.cores() as u16,
        level: spec.level,
    };
    let host = Rc::new(TestHost {
        me,
        core: core.clone(),
        shared: shared.clone(),
    });
    let links = Links::new(&core, host.clone(), Names::literal(), settings.clone());
    let key = (spec.node, core.id() as u16);
    shared.links.borrow_mut().insert(key, links.clone());
    shared.cores.borrow_mut().insert(key, core.clone());
    if core.id() == 0 {
        let address = ([0, 0, 0, 0], PORT).into();
        let listener = core.listen(address, 128).await.expect("a free port");
        let door = Rc::new(TestDoor { host, post });
        let server = PeerServer::start(&core, listener, door, settings);
        shared.servers.borrow_mut().insert(spec.node, server);
    }
    loop {
        for (_, mail) in inbox.take().await {
            let Mail::Connection { parcel, hello } = mail;
            links.adopt(parcel, hello);
        }
    }
}
