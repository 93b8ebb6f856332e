//! The doors of the nodes: where the others believe that each of them listens.
//!
//! All nodes are told the same addresses, and behind each is this process, which passes
//! connections on to the node, or does not. Who calls is said by the first bytes of a connection
//! (docs/peers.md), so one door serves all ordered pairs that end at a node, also for nodes that
//! come later. Nothing else of that protocol is known here.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::relay::{Gate, Watch, relay};

/// Connections that one door has open at a time; those beyond wait in the kernel.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes within which a caller has said who it is.
const GREETING_BYTES_MAX: usize = 8 << 10;
const GREETING_WITHIN: Duration = Duration::from_secs(5);
/// How long a door rests when it cannot accept (no descriptors, mostly).
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Which links are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cuts {
    /// From the node that sends to the one that listens.
    links: BTreeMap<(i32, i32), Gate>,
    /// Nodes without any link.
    isolated: BTreeMap<i32, Gate>,
}

impl Cuts {
    pub(super) fn cut(&mut self, from: i32, to: i32, gate: Gate) {
        self.links.insert((from, to), gate);
    }

    pub(super) fn isolate(&mut self, node: i32, gate: Gate) {
        self.isolated.insert(node, gate);
    }

    /// What holds for connections from one node to another. A caller that is not known is nobody
    /// whose link was cut, but does not reach an isolated node either.
    pub(super) fn gate(&self, from: Option<i32>, to: i32) -> Gate {
        let link = from.and_then(|from| self.links.get(&(from, to)));
        let from = from.and_then(|from| self.isolated.get(&from));
        let found = link.or(from).or_else(|| self.isolated.get(&to));
        found.copied().unwrap_or_default()
    }
}

/// Opens the door of a node, which itself listens on `address`. Gives the door's address; it stays
/// open as long as the runtime.
pub(super) async fn open(
    node: i32,
    address: SocketAddr,
    cuts: watch::Receiver<Arc<Cuts>>,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let door = listener.local_addr()?;
    tokio::spawn(serve(listener, node, address, cuts));
    Ok(door)
}

async fn serve(
    listener: TcpListener,
    node: i32,
    address: SocketAddr,
    cuts: watch::Receiver<Arc<Cuts>>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_REST).await;
            continue;
        };
        let cuts = cuts.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let Ok(Ok((caller, first))) = timeout(GREETING_WITHIN, greeting(&stream)).await else {
                return;
            };
            let link = LinkWatch {
                cuts,
                from: caller,
                to: node,
            };
            relay(stream, &first, address, link).await;
        });
    }
}

struct LinkWatch {
    cuts: watch::Receiver<Arc<Cuts>>,
    from: Option<i32>,
    to: i32,
}

impl Watch for LinkWatch {
    fn gate(&mut self) -> Gate {
        self.cuts.borrow_and_update().gate(self.from, self.to)
    }

    async fn changed(&mut self) {
        let before = self.cuts.borrow().gate(self.from, self.to);
        // Whoever could change something has gone: the process ends.
        while self.cuts.changed().await.is_ok() {
            if self.cuts.borrow().gate(self.from, self.to) != before {
                return;
            }
        }
        std::future::pending().await
    }
}

/// Reads until the caller has said who it is, or clearly does not. Gives the bytes, too.
async fn greeting(stream: &TcpStream) -> io::Result<(Option<i32>, Vec<u8>)> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(512);
    loop {
        match caller(&bytes) {
            Caller::Node(node) => return Ok((Some(node), bytes)),
            Caller::Unknown => return Ok((None, bytes)),
            Caller::More if bytes.len() >= GREETING_BYTES_MAX => return Ok((None, bytes)),
            Caller::More => {}
        }
        stream.readable().await?;
        let mut more = [0; 512];
        match stream.try_read(&mut more) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes.extend_from_slice(&more[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Caller {
    Node(i32),
    /// More bytes are needed.
    More,
    /// It does not say, or speaks another protocol.
    Unknown,
}

const MAGIC: &[u8] = b"CORELANE";
const HELLO: u8 = 1;
const SEEK: u8 = 2;
/// Length, magic, kind and level.
const HEAD_BYTES: usize = 4 + 8 + 1 + 2;

/// Who sent these first bytes of a connection.
fn caller(bytes: &[u8]) -> Caller {
    let magic = bytes.get(4..).unwrap_or_default();
    let known = magic.len().min(MAGIC.len());
    if magic[..known] != MAGIC[..known] {
        return Caller::Unknown;
    }
    let Some((head, body)) = bytes.split_at_checked(HEAD_BYTES) else {
        return Caller::More;
    };
    match head[12] {
        // The cluster's id and the node.
        HELLO => {
            let Some(length) = body.first_chunk().copied().map(u16::from_be_bytes) else {
                return Caller::More;
            };
            let node = body.get(2 + usize::from(length)..);
            let node = node.and_then(|rest| rest.first_chunk().copied());
            node.map_or(Caller::More, |node| Caller::Node(i32::from_be_bytes(node)))
        }
        // The length of a request, and behind the message that: JSON that names the node.
        SEEK => {
            let ends = [bytes.first_chunk(), body.first_chunk()];
            let [Some(message), Some(request)] = ends.map(|field| field.copied()) else {
                return Caller::More;
            };
            let start = (u32::from_be_bytes(message) as usize).saturating_add(4);
            let end = start.saturating_add(u32::from_be_bytes(request) as usize);
            let Some(request) = bytes.get(start..end) else {
                return Caller::More;
            };
            let said: Option<serde_json::Value> = serde_json::from_slice(request).ok();
            let node = said.as_ref().and_then(|said| said.get("node")?.as_i64());
            let node = node.and_then(|node| i32::try_from(node).ok());
            node.map_or(Caller::Unknown, Caller::Node)
        }
        _ => Caller::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The HELLO of docs/peers.md: core 2 of node 3 of the cluster `blue`.
    const HELLO_OF_3: &[u8] = &[
        0x00, 0x00, 0x00, 0x26, 0x43, 0x4f, 0x52, 0x45, 0x4c, 0x41, 0x4e, 0x45, 0x01, 0x00, 0x01,
        0x00, 0x04, 0x62, 0x6c, 0x75, 0x65, 0x00, 0x00, 0x00, 0x03, 0x01, 0x02, 0x03, 0x04, 0x00,
        0x04, 0x00, 0x02, 0xff, 0xff, 0xff, 0xfb, 0x01, 0x00, 0x00, 0x00, 0x09,
    ];

    fn seek(request: &str) -> Vec<u8> {
        let mut bytes = b"\0\0\0\x0fCORELANE\x02\0\x01".to_vec();
        bytes.extend((request.len() as u32).to_be_bytes());
        bytes.extend(request.as_bytes());
        bytes
    }

    #[test]
    fn callers_are_known_by_their_first_bytes() {
        assert_eq!(caller(HELLO_OF_3), Caller::Node(3));
        let seek_of_7 = seek(r#"{"node":7,"incarnation":1}"#);
        assert_eq!(caller(&seek_of_7), Caller::Node(7));
        for cut in 0..25 {
            assert_eq!(caller(&HELLO_OF_3[..cut]), Caller::More, "{cut} bytes");
        }
        for cut in 0..seek_of_7.len() {
            assert_eq!(caller(&seek_of_7[..cut]), Caller::More, "{cut} bytes");
        }
    }

    #[test]
    fn strangers_are_strangers() {
        assert_eq!(caller(b"GET / HTTP/1.1"), Caller::Unknown);
        assert_eq!(caller(b"\0\0\0\x0bCORELANE\x09\0\x01"), Caller::Unknown);
        assert_eq!(caller(&seek("[]")), Caller::Unknown);
        assert_eq!(caller(&seek(r#"{"node":99999999999}"#)), Caller::Unknown);
        let mut endless = seek("");
        endless[15..19].fill(0xff);
        assert_eq!(caller(&endless), Caller::More);
    }

    #[test]
    fn links_are_cut_one_by_one_or_all_of_a_node() {
        let mut cuts = Cuts::default();
        cuts.cut(1, 2, Gate::Held);
        assert_eq!(cuts.gate(Some(1), 2), Gate::Held);
        assert_eq!(cuts.gate(Some(2), 1), Gate::Open);
        assert_eq!(cuts.gate(None, 2), Gate::Open);
        cuts.isolate(3, Gate::Reset);
        let open = |from, to| cuts.gate(from, to) == Gate::Open;
        assert!(!open(Some(1), 3) && !open(Some(3), 1) && !open(None, 3));
        assert!(open(Some(2), 1));
    }
}
