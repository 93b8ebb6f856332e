//! Bytes from strangers: damaged handshakes and frames, lying lengths, and noise.
//!
//! For each case: nothing panics, and what is allocated stays within what has come, measured by the allocator of this
//! test. `FUZZ_SEED=n` repeats another run, `FUZZ_CASES=n` makes it longer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use broker::peers::{
    Cutter, Door, HEADER_BYTES, Hello, Host, Identity, Introduction, LEVEL, LinkEnd, Links,
    Message, Names, Origin, PeerServer, Refusal, Settings,
};
use bytes::{Bytes, BytesMut};
use runtime::sim::{Options, Sim};
use runtime::{Core, Inbox, Parcel, Post, Stream};

/// The system's allocator, which also counts what each thread holds, and the most of it.
struct Counting;

thread_local! {
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
    static MOST_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // The cells are gone while a thread ends; nothing is measured then.
    let _ = HELD_BYTES.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST_BYTES.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: all the work is done by `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it is copied both places are held.
        count(size as isize);
        count(-(layout.size() as isize));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that is held beyond the present during some work.
fn most_held_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD_BYTES.get();
    MOST_BYTES.set(before);
    let result = work();
    (
        result,
        usize::try_from(MOST_BYTES.get() - before).unwrap_or(0),
    )
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// Changes a few bytes, cuts, or puts something in.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => {
                    let more = self.below(40);
                    bytes.extend(self.bytes(more));
                }
                2 => {
                    let noise = self.bytes(3);
                    bytes.splice(at..at, noise);
                }
                3 if at + 4 <= bytes.len() => {
                    let lies = [0, 1, 2, 3, 65_535, 65_536, 67_108_864, u32::MAX];
                    let lie = lies[self.below(lies.len())];
                    bytes[at..at + 4].copy_from_slice(&lie.to_be_bytes());
                }
                _ if at < bytes.len() => bytes[at] = self.next() as u8,
                _ => {}
            }
        }
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}

fn introduction(node: i32) -> Introduction {
    Introduction {
        cluster_id: "blue".into(),
        node,
        incarnation: 1,
        start: storage::Start::default(),
        cores: 1,
        level: LEVEL,
    }
}

fn hello() -> Hello {
    Hello {
        who: introduction(2),
        core: 0,
        expects_node: 1,
        expects_incarnation: None,
    }
}

fn frame(kind: u8, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ((payload.len() + 3) as u32).to_be_bytes().to_vec();
    frame.push(kind);
    frame.extend(to.to_be_bytes());
    frame.extend(payload);
    frame
}

#[test]
fn damaged_messages_are_refused_or_come_back_the_same() {
    let mut random = Random(from_environment("FUZZ_SEED", 1));
    let refused = Message::Refused(Refusal::not_admitted("node 2 was removed"));
    let seeds = [
        Message::Hello(hello()).encode(),
        Message::Welcome(introduction(3)).encode(),
        refused.encode(),
        Message::Seek { request_bytes: 9 }.encode(),
        Message::Found { answer_bytes: 9 }.encode(),
    ];
    let (mut accepted, mut unreadable) = (0, 0);
    for case in 0..from_environment("FUZZ_CASES", 20_000) {
        let mut bytes = seeds[case as usize % seeds.len()].to_vec();
        random.damage(&mut bytes);
        let mut input = BytesMut::from(&bytes[..]);
        let (read, held) = most_held_bytes(|| Message::cut(&mut input));
        assert!(held <= 2 * bytes.len() + 256, "{held} for {}", bytes.len());
        match read {
            Ok(Some(message)) => {
                // A later level's message loses what we do not know.
                let mut again = BytesMut::from(&message.encode()[..]);
                let read = Message::cut(&mut again).expect("it was written here");
                assert_eq!(read, Some(message));
                accepted += 1;
            }
            Ok(None) => {}
            Err(_) => unreadable += 1,
        }
    }
    assert!(
        accepted > 100 && unreadable > 100,
        "{accepted}, {unreadable}"
    );
}

#[test]
fn damaged_frames_take_no_more_memory_than_they_bring() {
    let mut random = Random(from_environment("FUZZ_SEED", 2));
    let mut kinds = [0; 3];
    for _ in 0..from_environment("FUZZ_CASES", 4_000) {
        let mut wire = Vec::new();
        for _ in 0..random.below(6) {
            let size = [0, 8, 100, 9_000, 100_000][random.below(5)];
            let payload = random.bytes(size);
            wire.extend(frame(random.next() as u8, random.next() as u16, &payload));
        }
        random.damage(&mut wire);
        let piece = 1 + random.below(20_000);
        let (came, held) = most_held_bytes(|| {
            let mut cutter = Cutter::new(BytesMut::new(), 64 << 20);
            let mut frames: Vec<Bytes> = Vec::new();
            for mut piece in wire.chunks(piece) {
                while !piece.is_empty() {
                    let mut room = cutter.room();
                    let count = (room.capacity() - room.len()).min(piece.len());
                    room.extend_from_slice(&piece[..count]);
                    piece = &piece[count..];
                    cutter.filled(room, count);
                    loop {
                        match cutter.next_frame() {
                            Ok(Some(frame)) => frames.push(frame.payload),
                            Ok(None) => break,
                            Err(_) => return Err(()),
                        }
                    }
                }
            }
            Ok(frames.len())
        });
        // What has come may lie in a buffer twice its size, and in an earlier one while that is copied.
        let limit = 4 * wire.len() + (192 << 10);
        assert!(held <= limit, "{held} bytes for {}", wire.len());
        kinds[match came {
            Ok(0) => 0,
            Ok(_) => 1,
            Err(()) => 2,
        }] += 1;
    }
    assert!(kinds.iter().all(|count| *count > 100), "{kinds:?}");
}

/// A node that takes whatever it is sent, and counts it.
struct Sink {
    heard: Rc<Cell<usize>>,
    post: Post<(Parcel, Hello)>,
}

impl Identity for Sink {
    fn introduction(&self) -> Introduction {
        introduction(1)
    }

    fn admit(&self, _: &Introduction) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Host for Sink {
    fn heard(&self, _: Origin, to: u16, kind: u8, _: Bytes) {
        assert!(to == 0 && kind < 0xf0);
        self.heard.set(self.heard.get() + 1);
    }
    fn link_up(&self, _: &Introduction) {}
    fn link_down(&self, _: i32, _: &LinkEnd) {}
    fn silent(&self, _: i32) {}
    fn heard_again(&self, _: i32) {}
}

impl Door for Sink {
    fn sought(&self, request: Bytes) -> Pin<Box<dyn Future<Output = Bytes>>> {
        Box::pin(async move { request })
    }

    fn hand_over(&self, core: u16, parcel: Parcel, hello: Hello) {
        self.post.send(usize::from(core), (parcel, hello));
    }
}

/// What a caller does before it talks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Nothing,
    /// It says hello and waits for the welcome.
    Hello,
}

/// Says hello, and waits for the welcome.
async fn be_let_in(stream: &Stream) {
    let hello = Message::Hello(hello()).encode();
    stream.write_all(vec![hello]).await.expect("it is taken");
    let mut buffer = BytesMut::new();
    loop {
        match Message::cut(&mut buffer).expect("an answer") {
            Some(answer) => return assert_eq!(answer, Message::Welcome(introduction(1))),
            None => buffer.reserve(1_000),
        }
        let (received, filled) = stream.read(buffer).await;
        assert_ne!(received.expect("the node lives"), 0);
        buffer = filled;
    }
}

/// Runs node 1, and next to it a caller that connects to it again and again and says what `talk` gives it. Returns how
/// many frames the node has heard, and the most memory that all of it held.
fn call(cases: u64, first: First, talk: impl FnMut() -> Vec<u8> + 'static) -> (usize, usize) {
    let sim = Sim::new(Options::seeded(1));
    let heard = Rc::new(Cell::new(0));
    let counted = heard.clone();
    let node = sim.start(
        "node",
        1,
        move |core: Core, post: Post<(Parcel, Hello)>, mut inbox: Inbox<(Parcel, Hello)>| {
            let heard = counted.clone();
            async move {
                let sink = Rc::new(Sink { heard, post });
                let settings = Settings::default();
                let links = Links::new(&core, sink.clone(), Names::literal(), settings.clone());
                let address = SocketAddr::from(([0, 0, 0, 0], 9192));
                let listener = core.listen(address, 16).await.expect("a free port");
                let _server = PeerServer::start(&core, listener, sink, settings);
                loop {
                    for (_, (parcel, hello)) in inbox.take().await {
                        links.adopt(parcel, hello);
                    }
                }
            }
        },
    );
    let address = SocketAddr::new(sim.ip(node), 9192);
    let talk = RefCell::new(talk);
    let caller = sim.client("caller", move |core| async move {
        core.sleep(Duration::from_millis(1)).await;
        for _ in 0..cases {
            let bytes = (talk.borrow_mut())();
            let stream = core.connect(address).await.expect("the node lives");
            if first == First::Hello {
                be_let_in(&stream).await;
            }
            let _ = stream.write_all(vec![Bytes::from(bytes)]).await;
            // Long enough for what comes to be read, and for the answer.
            core.sleep(Duration::from_millis(20)).await;
        }
        // After all that a node is let in as ever.
        let stream = core.connect(address).await.expect("the node lives");
        be_let_in(&stream).await;
    });
    let patience = Duration::from_secs(3_600);
    let (done, held) = most_held_bytes(|| sim.run_until_done(caller, patience));
    assert!(done);
    assert!(sim.is_up(node));
    (heard.get(), held)
}

#[test]
fn a_node_survives_whatever_a_stranger_says() {
    let mut random = Random(from_environment("FUZZ_SEED", 3));
    let cases = from_environment("FUZZ_CASES", 1_000);
    let (_, held) = call(cases, First::Nothing, move || {
        let mut wire = match random.below(3) {
            0 => [
                &Message::Seek { request_bytes: 40 }.encode()[..],
                &random.bytes(40),
            ]
            .concat(),
            _ => Message::Hello(hello()).encode().to_vec(),
        };
        let introduced = wire.len();
        for _ in 0..random.below(20) {
            let size = random.below(200);
            let payload = random.bytes(size);
            wire.extend(frame(random.next() as u8, 0xffff, &payload));
        }
        if random.below(2) == 0 {
            random.damage(&mut wire);
        } else if random.below(4) > 0 {
            // What is left are those whose frames come too early: nobody has said welcome.
            wire.truncate(introduced);
        }
        wire
    });
    assert!(held < 8 << 20, "{held} bytes");
}

#[test]
fn damaged_frames_of_a_node_that_was_let_in_end_its_connection_and_nothing_else() {
    let mut random = Random(from_environment("FUZZ_SEED", 4));
    let cases = from_environment("FUZZ_CASES", 1_000);
    let (heard, _) = call(cases, First::Hello, move || {
        let mut wire = Vec::new();
        for _ in 0..1 + random.below(20) {
            let size = random.below(2_000);
            let payload = random.bytes(size);
            wire.extend(frame(random.next() as u8 % 0xf0, 0xffff, &payload));
        }
        random.damage(&mut wire);
        wire
    });
    assert!(heard > 1_000, "{heard} frames were heard");
}

#[test]
fn announcing_a_lot_costs_nothing() {
    let mut announced = frame(1, 0, &[]);
    announced[..4].copy_from_slice(&(64u32 << 20).to_be_bytes());
    assert_eq!(announced.len(), HEADER_BYTES);
    let (_, held) = call(50, First::Hello, move || announced.clone());
    assert!(held < 4 << 20, "{held} bytes");
    let seek = Message::Seek {
        request_bytes: 1 << 20,
    };
    let (_, held) = call(50, First::Nothing, move || seek.encode().to_vec());
    assert!(held < 4 << 20, "{held} bytes");
}

#[test]
fn a_link_survives_whatever_it_is_answered() {
    let mut random = Random(from_environment("FUZZ_SEED", 5));
    let cases = from_environment("FUZZ_CASES", 300);
    let sim = Sim::new(Options::seeded(3));
    // Node 1 is what is called, and damaged at first; node 2 calls.
    let answered = Rc::new(Cell::new(0));
    let counted = answered.clone();
    let called = sim.client("called", move |core: Core| async move {
        let address = SocketAddr::from(([0, 0, 0, 0], 9192));
        let listener = core.listen(address, 16).await.expect("a free port");
        loop {
            let stream = listener.accept().await.expect("a caller");
            let mut wire = Message::Welcome(introduction(1)).encode().to_vec();
            if counted.get() < cases {
                for _ in 0..random.below(4) {
                    let kind = [0xf0, 0xf1, 0xf1, 0xf2, 1][random.below(5)];
                    let size = [0, 8, 8, 200][random.below(4)];
                    wire.extend(frame(kind, 0xffff, &random.bytes(size)));
                }
                random.damage(&mut wire);
            }
            counted.set(counted.get() + 1);
            let _ = stream.write_all(vec![Bytes::from(wire)]).await;
            // Long enough to be read, and then it is closed, but for the good one.
            let rest = match counted.get() > cases {
                true => Duration::from_secs(3_600),
                false => Duration::from_millis(20),
            };
            core.sleep(rest).await;
        }
    });
    let address = format!("{}:9192", sim.ip(called));
    let links = Rc::new(RefCell::new(None));
    let started = links.clone();
    let caller = sim.start(
        "caller",
        1,
        move |core: Core, post: Post<(Parcel, Hello)>, mut inbox: Inbox<(Parcel, Hello)>| {
            let (started, address) = (started.clone(), address.clone());
            async move {
                let heard = Rc::default();
                let host = Rc::new(Sink { heard, post });
                // Refusals are many here, and the time between them is of no interest.
                let mut settings = Settings::default();
                settings.refused_retry = settings.retry_min;
                settings.handshake_within = settings.retry_min;
                let links = Links::new(&core, host, Names::literal(), settings);
                links.reach(1, address, None);
                started.replace(Some(links));
                inbox.take().await;
            }
        },
    );
    // An attempt for each case, and never more than seconds between two.
    let patience = Duration::from_secs(60 + 3 * cases);
    let up = || {
        let links = links.borrow();
        let is_up = links.as_ref().is_some_and(|links| links.is_up(1));
        is_up && answered.get() > cases
    };
    let (came_up, held) = most_held_bytes(|| sim.run_until(patience, up));
    assert!(came_up && sim.is_up(caller), "after {}", answered.get());
    assert!(held < 4 << 20, "{held} bytes");
}
