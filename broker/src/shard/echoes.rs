//! Frames of other nodes that come once more, later: in simulations only.
//!
//! Connections repeat nothing, and nothing is heard of one that was replaced. Raft is safe without that, and this is
//! how a simulation sees that it is: old appends, votes and beats arrive among new ones.

use super::Shard;
use super::peer_mail::kind;
use bytes::Bytes;
use raft_group::ReplicaId;
use std::rc::Rc;
use std::time::Duration;

/// One frame in so many comes again.
const ONE_IN: u64 = 24;
/// The longest time after which it does.
const LATEST_US: u64 = 600_000;

impl Shard {
    /// Lets a frame come again some time, if this simulation does so.
    pub(super) fn echo(self: &Rc<Shard>, from: ReplicaId, kind: u8, payload: &Bytes) {
        let repeated = matches!(kind, kind::RAFT | kind::BEATS);
        let echoes = self.settings.mutations.frames_come_again && repeated;
        if !echoes || !self.core.random().is_multiple_of(ONE_IN) {
            return;
        }
        let (shard, payload) = (self.clone(), payload.clone());
        self.core.spawn("echo", async move {
            let later = Duration::from_micros(shard.core.random() % LATEST_US);
            shard.core.sleep(later).await;
            // What is wrong with it was said when it came first.
            let _ = match kind {
                kind::RAFT => shard.sort_raft(from, payload),
                _ => shard.sort_beats(from, &payload),
            };
        });
    }
}
