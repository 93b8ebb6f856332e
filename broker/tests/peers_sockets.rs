//! Links between two nodes of this process, on real cores and real sockets of the loopback.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use broker::peers::{
    Destination, Door, Hello, Host, Identity, Introduction, LEVEL, LinkEnd, Links, Names, Origin,
    PeerServer, Refusal, Sent, Settings, exchange,
};
use bytes::Bytes;
use runtime::{Core, Gateway, Inbox, Parcel, Post, uring};

const PATIENCE: Duration = Duration::from_secs(30);
const CORES: u16 = 2;
/// Asks a core to answer with a frame of kind [`ECHOED`] to the same core of the sender.
const ECHO: u8 = 1;
const ECHOED: u8 = 2;

#[derive(Debug, PartialEq, Eq)]
enum News {
    Listening(SocketAddr),
    Up { core: u16, node: i32 },
    Down { core: u16, is_gone: bool },
    Echoed { core: u16, payload: Bytes },
    Answer(Bytes),
}

enum Mail {
    Connection {
        parcel: Parcel,
        hello: Hello,
    },
    Frame {
        origin: Origin,
        kind: u8,
        payload: Bytes,
    },
    Reach {
        node: i32,
        address: String,
    },
    Send {
        node: i32,
        payload: Bytes,
    },
    Exchange {
        address: String,
        request: Bytes,
    },
    Stop,
}

struct CoreHost {
    node: i32,
    core: Core,
    post: Post<Mail>,
    news: mpsc::Sender<News>,
}

impl CoreHost {
    fn tell(&self, news: News) {
        // The test may have seen enough.
        let _ = self.news.send(news);
    }

    fn number(&self) -> u16 {
        self.core.id() as u16
    }
}

impl Identity for CoreHost {
    fn introduction(&self) -> Introduction {
        Introduction {
            cluster_id: "blue".into(),
            node: self.node,
            incarnation: 1,
            start: storage::Start::default(),
            cores: CORES,
            level: LEVEL,
        }
    }

    fn admit(&self, _: &Introduction) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Host for CoreHost {
    fn heard(&self, origin: Origin, to: u16, kind: u8, payload: Bytes) {
        let frame = Mail::Frame {
            origin,
            kind,
            payload,
        };
        self.post.send(usize::from(to), frame);
    }

    fn link_up(&self, reached: &Introduction) {
        let node = reached.node;
        let core = self.number();
        self.tell(News::Up { core, node });
    }

    fn link_down(&self, _: i32, reason: &LinkEnd) {
        let (core, is_gone) = (self.number(), reason.is_gone());
        self.tell(News::Down { core, is_gone });
    }

    fn silent(&self, _: i32) {}
    fn heard_again(&self, _: i32) {}
}

impl Door for CoreHost {
    fn sought(&self, request: Bytes) -> Pin<Box<dyn Future<Output = Bytes>>> {
        Box::pin(async move { Bytes::from(request.repeat(100)) })
    }

    fn hand_over(&self, core: u16, parcel: Parcel, hello: Hello) {
        self.post
            .send(usize::from(core), Mail::Connection { parcel, hello });
    }
}

async fn run(
    core: Core,
    post: Post<Mail>,
    mut inbox: Inbox<Mail>,
    node: i32,
    names: Names,
    news: mpsc::Sender<News>,
) {
    let host = Rc::new(CoreHost {
        node,
        core: core.clone(),
        post,
        news,
    });
    let settings = Settings::default();
    let links = Links::new(&core, host.clone(), names.clone(), settings.clone());
    let mut server = None;
    if core.id() == 0 {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = core.listen(any, 16).await.expect("a free port");
        let started = PeerServer::start(&core, listener, host.clone(), settings);
        host.tell(News::Listening(started.local_addr()));
        server = Some(started);
    }
    loop {
        for (_, mail) in inbox.take().await {
            match mail {
                Mail::Connection { parcel, hello } => links.adopt(parcel, hello),
                Mail::Reach { node, address } => links.reach(node, address, None),
                Mail::Frame {
                    origin,
                    kind,
                    payload,
                } => match kind {
                    ECHO => {
                        let to = Destination::Core(origin.core);
                        let sent = links.send(origin.node, to, ECHOED, vec![payload]);
                        assert_eq!(sent, Sent::Queued);
                    }
                    _ => {
                        let core = core.id() as u16;
                        host.tell(News::Echoed { core, payload });
                    }
                },
                Mail::Send { node, payload } => {
                    let to = Destination::Core((core.id() as u16 + 1) % CORES);
                    assert_eq!(links.send(node, to, ECHO, vec![payload]), Sent::Queued);
                }
                Mail::Exchange { address, request } => {
                    let answer = exchange(&core, &names, &address, request, PATIENCE).await;
                    host.tell(News::Answer(answer.expect("an answer")));
                }
                Mail::Stop => {
                    drop(server.take());
                    links.shut();
                    core.yield_now().await;
                    return;
                }
            }
        }
    }
}

struct Node {
    gateway: Gateway<Mail>,
    news: mpsc::Receiver<News>,
    port: u16,
    joined: JoinHandle<Result<(), uring::Panicked>>,
}

impl Node {
    fn start(number: i32, names: &Names) -> Node {
        let (tell, news) = mpsc::channel();
        let names = names.clone();
        let main =
            move |core, post, inbox| run(core, post, inbox, number, names.clone(), tell.clone());
        let options = uring::Options::cores(usize::from(CORES));
        let launched = uring::launch(options, main).expect("cores");
        let gateway = launched.gateway();
        let News::Listening(address) = news.recv_timeout(PATIENCE).expect("it starts") else {
            panic!("it listens first");
        };
        Node {
            gateway,
            news,
            port: address.port(),
            joined: std::thread::spawn(move || launched.join()),
        }
    }

    fn each(&self, mail: impl Fn() -> Mail) {
        for core in 0..usize::from(CORES) {
            self.gateway.send(core, mail());
        }
    }

    /// The next news of each core, in the order of the cores.
    fn next(&self) -> Vec<News> {
        let wait = |_| self.news.recv_timeout(PATIENCE).expect("there is news");
        let mut news: Vec<News> = (0..CORES).map(wait).collect();
        news.sort_by_key(|news| match news {
            News::Up { core, .. } | News::Down { core, .. } | News::Echoed { core, .. } => *core,
            News::Listening(_) | News::Answer(_) => CORES,
        });
        news
    }

    fn stop(self) {
        self.each(|| Mail::Stop);
        self.joined.join().expect("joined").expect("no core panics");
    }
}

#[test]
fn cores_of_two_nodes_talk_over_the_loopback() {
    uring::probe().expect("a kernel with io_uring");
    let (names, desk) = Names::asking();
    let resolver = std::thread::spawn(move || desk.serve());
    let (one, two) = (Node::start(1, &names), Node::start(2, &names));
    drop(names);
    // One is reached by its address, the other by a name.
    one.each(|| Mail::Reach {
        node: 2,
        address: format!("127.0.0.1:{}", two.port),
    });
    two.each(|| Mail::Reach {
        node: 1,
        address: format!("localhost:{}", one.port),
    });
    let up = |node| [0, 1].map(|core| News::Up { core, node });
    assert_eq!(one.next(), up(2));
    assert_eq!(two.next(), up(1));
    // Small frames, and one that takes many receives; from each core to the other core of the other node and back.
    for bytes in [0, 5, 3_000, 20_000_000, 1_000_000, 1_000_000, 1] {
        let payload = Bytes::from((0..bytes).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
        one.each(|| Mail::Send {
            node: 2,
            payload: payload.clone(),
        });
        for (core, news) in one.next().into_iter().enumerate() {
            let core = core as u16;
            let News::Echoed {
                core: at,
                payload: back,
            } = news
            else {
                panic!("{news:?}");
            };
            assert_eq!(at, core);
            assert!(back == payload, "{bytes} bytes came back as {}", back.len());
        }
    }
    let request = Bytes::from(vec![3; 100_000]);
    let ask = Mail::Exchange {
        address: format!("127.0.0.1:{}", one.port),
        request,
    };
    two.gateway.send(1, ask);
    let answer = two.news.recv_timeout(PATIENCE).expect("an answer");
    assert_eq!(answer, News::Answer(Bytes::from(vec![3; 10_000_000])));
    // A node that goes is known to be gone.
    two.stop();
    let gone = [0, 1].map(|core| News::Down {
        core,
        is_gone: true,
    });
    assert_eq!(one.next(), gone);
    one.stop();
    resolver.join().expect("it ends with its askers");
}
