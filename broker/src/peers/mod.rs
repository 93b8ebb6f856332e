//! The links between the nodes of a cluster: opaque payloads from a core of one node to a core of another.
//!
//! Each core has, for each other node, one connection of its own on which it only sends ([`Links::reach`],
//! [`Links::send`]); what others send to this core arrives on connections that they have opened. A connection from
//! core `c` lands on core `c` modulo the cores of the other node, so nodes of equal size need no hop between cores.
//! docs/peers.md has every byte.
//!
//! What is promised: within one connection frames arrive in the order of their sending, whole, and once. What is
//! not: that they arrive. A frame that was queued or under way when its connection ended is lost, and nobody sends it
//! again; whoever speaks over a link repeats what matters, or asks anew ([`Host::link_up`] says when).
//!
//! This module must not know what a payload means: Raft, asks, beats and leaderships are its user's. Nothing here
//! decides about membership either: the host admits ([`Identity::admit`]). Deliberately absent: encryption,
//! compression, priorities between frames, and delivery across a reconnection.

mod arrivals;
mod counters;
mod exchange;
mod frame;
mod handshake;
mod introduction;
mod link;
mod links;
mod names;
mod queue;
mod refusal;
mod server;
mod settings;

pub use counters::{LinkCounters, ServerCounters};
pub use exchange::{ExchangeError, exchange};
pub use frame::{Cutter, Frame, HEADER_BYTES, KIND_MAX, Malformed};
pub use handshake::{Hello, MESSAGE_BYTES_MAX, Message, Unreadable};
pub use introduction::{Introduction, LEVEL, LEVEL_MIN};
pub use link::LinkEnd;
pub use links::{Destination, Links, Sent};
pub use names::{NameDesk, Names, Unresolved};
pub use refusal::{Refusal, RefusalCode};
pub use server::PeerServer;
pub use settings::Settings;

use bytes::Bytes;
use runtime::Parcel;
use std::future::Future;
use std::pin::Pin;

/// Who this node is, and with whom it speaks.
pub trait Identity {
    /// This node as it introduces itself. Asked at every handshake.
    fn introduction(&self) -> Introduction;

    /// Whether this node speaks with another one of its own cluster: not with an identity that is retired, nor with
    /// an impostor. Asked where a connection is accepted and again on the core where it lands. It is also asked about
    /// a node of which another incarnation is connected at the moment: admitting the new one ends the connections of
    /// the old one.
    ///
    /// # Errors
    /// The refusal that the other node is told; [`Refusal::not_ready`] if it should try again soon.
    fn admit(&self, who: &Introduction) -> Result<(), Refusal>;
}

/// What a core does with what its links bring. No method is called from within a method of [`Links`]: they come from
/// tasks of their own, so a host may call [`Links`] from any of them.
pub trait Host: Identity {
    /// A frame for core `to` of this node, which need not be the core that received it. The payload shares the
    /// receive buffer: whoever keeps a small one for long copies it, or keeps the whole buffer.
    fn heard(&self, from: Origin, to: u16, kind: u8, payload: Bytes);

    /// The link to a node is up; what was sent over the one before it may be lost.
    fn link_up(&self, reached: &Introduction);

    /// The link to a node is down, and why. Told once when it goes down, or when the first attempt fails; told again
    /// while it is down only if the reason becomes one of another kind, since a process that refuses connections
    /// ([`LinkEnd::is_gone`]) is known to be dead and one that does not answer is not.
    fn link_down(&self, node: i32, reason: &LinkEnd);

    /// Nothing has come from a node for [`Settings::silent_after`], on any of its connections to this core. Each core
    /// tells of what it hears itself: where a node restarts with fewer cores, one that it no longer sends to hears
    /// it no more.
    fn silent(&self, node: i32);

    /// A node that was [`silent`](Host::silent) is heard again.
    fn heard_again(&self, node: i32);
}

/// What the core that accepts does with those who come. May be exchanged while the server runs: discovery is answered
/// before a node has recovered, links come only after.
pub trait Door: Identity {
    /// Answers a request for discovery or joining, at most [`Settings::request_bytes_max`] long.
    fn sought(&self, request: Bytes) -> Pin<Box<dyn Future<Output = Bytes>>>;

    /// Gives a connection to the core where it lands, which calls [`Links::adopt`]. May be the accepting core itself.
    fn hand_over(&self, core: u16, parcel: Parcel, hello: Hello);
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub node: i32,
    pub incarnation: u32,
    /// The sender's core.
    pub core: u16,
    /// The level of the protocol that both ends speak.
    pub level: u16,
}
