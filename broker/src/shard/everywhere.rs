//! What a client is told is done can be seen on every node that is connected.
//!
//! Kafka answers CreateTopics once the controllers have it, and a client that goes on to another broker may be told
//! that there is no such topic. Here every node tells the others how far all of its cores have got, and the
//! metadata's leader holds the answer to a change that clients see until all of them have that version, for
//! [`PATIENCE`] at most: one node that does not get on delays an answer, and never keeps it.
//!
//! Leaders of partitions go by it, too, before they take a newcomer in ([`super::settling`]).
//!
//! Deliberately absent: answers about what only nodes see (registrations, blocks of producer ids), which are not held;
//! and the asker's own node, which waits for itself in any case ([`super::metadata`]).

use super::metadata::{Asker, MetadataOwner};
use super::owned::Owned;
use super::peer_mail::PeerMail;
use crate::cluster::{ClusterAnswer, METADATA_CORE};
use runtime::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an answer waits for nodes that are connected and do not get on.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often everybody is told again: a link that is full drops what it is given.
const SAY_AGAIN: Duration = Duration::from_secs(5);
/// Answers that wait; beyond it they are given at once.
const HELD_MAX: usize = 10_000;

/// How far the nodes are, as they say, and who is told when all have got there.
#[derive(Default)]
pub(super) struct Everywhere {
    /// By node.
    taken_in: BTreeMap<i32, u64>,
    held: Vec<Held>,
    /// What this node has said last to each of the others.
    said: BTreeMap<i32, u64>,
    say_again_at: Instant,
}

struct Held {
    version: u64,
    asker: Asker,
    reply: ClusterAnswer,
    /// Set by the first tick that finds it here.
    until: Option<Instant>,
}

impl Everywhere {
    /// The connection to a node is gone, and with it what either has said to the other.
    fn forget(&mut self, node: i32) {
        self.taken_in.remove(&node);
        self.said.remove(&node);
    }
}

impl Owned {
    /// Gives an answer once every node that is connected has taken `version` in.
    pub(super) fn reply_everywhere(&mut self, asker: Asker, version: u64, reply: ClusterAnswer) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let held = &mut metadata.everywhere.held;
        if !reply.is_seen_by_clients() || held.len() >= HELD_MAX {
            return self.reply(asker, version, reply);
        }
        held.push(Held {
            version,
            asker,
            reply,
            until: None,
        });
        self.give_held();
    }

    /// Another node's cores have all taken a version in.
    pub(super) fn taken_in(&mut self, node: i32, version: u64) {
        if let Some(metadata) = self.metadata.as_mut() {
            metadata.everywhere.taken_in.insert(node, version);
            self.give_held();
        }
    }

    /// This node's cores have got further.
    pub(super) fn spread_further(&mut self) {
        self.say_taken_in();
        self.give_held();
    }

    /// The connection to a node is gone: nobody waits for it, and it must be told anew.
    pub(super) fn everywhere_but(&mut self, lost: i32) {
        if let Some(metadata) = self.metadata.as_mut() {
            metadata.everywhere.forget(lost);
            self.give_held();
        }
    }

    /// Tells those who do not know yet how far this node is; gives the answers that have waited for long enough.
    pub(super) fn everywhere_tick(&mut self, now: Instant) {
        if let Some(metadata) = self.metadata.as_mut()
            && metadata.everywhere.say_again_at <= now
        {
            metadata.everywhere.say_again_at = now + SAY_AGAIN;
            metadata.everywhere.said.clear();
        }
        self.say_taken_in();
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        for held in &mut metadata.everywhere.held {
            held.until.get_or_insert(now + PATIENCE);
        }
        let is_late = |held: &Held| held.until.is_some_and(|until| until <= now);
        self.give_those(is_late);
    }

    /// Who leads now does not know what is held here; it is done, and said to be.
    pub(super) fn give_all_held(&mut self) {
        self.give_those(|_| true);
    }

    fn say_taken_in(&mut self) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let version = metadata.spread_up_to();
        let said = &mut metadata.everywhere.said;
        let connected = self.connected.keys().copied();
        let others: Vec<i32> = connected
            .filter(|node| said.insert(*node, version) != Some(version))
            .collect();
        for node in others {
            self.say(node, METADATA_CORE as u16, PeerMail::TakenIn { version });
        }
    }

    /// Gives what all have taken in.
    fn give_held(&mut self) {
        let Some(metadata) = self.metadata.as_ref() else {
            return;
        };
        if !metadata.everywhere.held.is_empty() {
            let up_to = metadata.taken_in_by_all(self.connected.keys());
            self.give_those(|held| held.version <= up_to);
        }
    }

    fn give_those(&mut self, is_due: impl Fn(&Held) -> bool) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let held = std::mem::take(&mut metadata.everywhere.held);
        let (due, later): (Vec<Held>, Vec<Held>) = held.into_iter().partition(is_due);
        metadata.everywhere.held = later;
        for held in due {
            self.reply(held.asker, held.version, held.reply);
        }
    }
}

impl MetadataOwner {
    /// The version that all cores of this node, and of the nodes that are connected and in service, have.
    fn taken_in_by_all<'a>(&self, connected: impl Iterator<Item = &'a i32>) -> u64 {
        let in_service = connected.filter(|node| {
            let known = self.committed().nodes().get(*node);
            known.is_some_and(|known| !known.fenced)
        });
        let taken_in = |node| self.everywhere.taken_in.get(node).copied().unwrap_or(0);
        in_service.map(taken_in).fold(self.spread_up_to(), u64::min)
    }
}
