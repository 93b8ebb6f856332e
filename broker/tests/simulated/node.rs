//! A node of two cores in the simulator, and a client that speaks Kafka to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use broker::config::{BrokerConfig, Overrides};
use broker::node::{ClientListener, News, Plan, run_core, storage_limits};
use broker::shard::mail::Mail;
use bytes::BytesMut;
use protocol::api::{Message, RequestMessage};
use protocol::codec::Decoder;
use protocol::frame;
use runtime::sim::{NodeId, Options, Sim};
use runtime::{Core, Inbox, Post, Stream};

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

/// One request, one answer.
pub async fn call<R: RequestMessage>(stream: &Stream, version: i16, request: R) -> R::Response {
    let parts =
        frame::request(None, 1, version, &request).expect("a request that fits its version");
    stream.write_all(parts).await.expect("the node takes it");
    let mut received = BytesMut::new();
    loop {
        if let Some(answer) = frame::cut(&mut received, 16 << 20).expect("a frame") {
            let mut input = Decoder::new(answer);
            assert_eq!(input.i32().expect("a correlation id"), 1);
            if R::KEY.api().response_header_version(version) >= 1 {
                input
                    .tagged_fields(|_, _| Ok(false))
                    .expect("tagged fields");
            }
            return R::Response::decode(&mut input, version).expect("an answer");
        }
        received.reserve(64 << 10);
        let (got, buffer) = stream.read(received).await;
        received = buffer;
        assert_ne!(
            got.expect("the node answers"),
            0,
            "the node closed the connection"
        );
    }
}
