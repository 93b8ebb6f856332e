//! A node of two cores in the simulator, and a client that speaks Kafka to it.

#[path = "wire.rs"]
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use broker::config::{BrokerConfig, Overrides};
use broker::node::{ClientListener, News, Plan, run_core, storage_limits};
use broker::shard::mail::Mail;
use runtime::sim::{NodeId, Options, Sim};
use runtime::{Core, Inbox, Post, Stream};

pub use wire::call;

pub const CORES: usize = 2;
const PORT: u16 = 9092;
const MEMORY_BYTES: usize = 64 << 20;
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub sim: Sim,
    pub node: NodeId,
}

impl World {
    /// A node that is ready to serve. `beside` runs on each core next to it.
    pub fn new(beside: impl Fn(&Core, &Post<Mail>) + Clone + 'static) -> World {
        let sim = Sim::new(Options::seeded(7));
        let knobs = [
            ("corelane.journal.bytes", "16777216"),
            ("log.dirs", "/data"),
        ];
        let statics: Overrides = knobs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let (news, heard) = mpsc::channel();
        let config = BrokerConfig::resolve(statics, "node").expect("a good configuration");
        let plan = Plan {
            peers: None,
            listeners: ClientListener::only(SocketAddr::from(([0, 0, 0, 0], PORT)), "node", PORT),
            memory_per_core: MEMORY_BYTES,
            storage: storage_limits(&config, MEMORY_BYTES),
            anew_bytes_min: broker::node::ANEW_BYTES_MIN,
            mutations: Default::default(),
            config: Arc::new(config),
            news,
        };
        let node = sim.start(
            "node",
            CORES,
            move |core: Core, post: Post<Mail>, inbox: Inbox<Mail>| {
                let plan = plan.clone();
                beside(&core, &post);
                async move { run_core(core, post, inbox, plan).await }
            },
        );
        let ready = |news| matches!(news, News::Ready { .. });
        let starts = sim.run_until(PATIENCE, || heard.try_recv().is_ok_and(ready));
        assert!(starts, "the node does not start");
        World { sim, node }
    }

    /// Runs a client to its end.
    pub fn client<F, Fut>(&self, talk: F)
    where
        F: FnOnce(Core, Stream) -> Fut + 'static,
        Fut: Future<Output = ()>,
    {
        let ip: IpAddr = self.sim.ip(self.node);
        let client = self.sim.client("client", move |core| async move {
            let stream = core
                .connect(SocketAddr::new(ip, PORT))
                .await
                .expect("a connection");
            talk(core, stream).await;
        });
        assert!(
            self.sim.run_until_done(client, PATIENCE),
            "the client does not come to its end"
        );
    }
}
