//! The metadata's group as its leader sees it, for those who ask.

use super::owned::Owned;
use crate::cluster::METADATA;
use crate::cluster::decide::{Quorum, QuorumMember};
use raft_group::ReplicaId;
use std::collections::BTreeSet;

impl Owned {
    /// Who holds the metadata, and how far. Only its leader knows that of the others.
    pub(super) fn quorum(&self) -> Quorum {
        let replica = self.replicas.get(METADATA).expect("its owner is here");
        let (own, last) = (replica.id(), replica.last_index());
        let member = |id: ReplicaId| {
            let held = match id == own {
                true => last,
                false => replica.matched(id).unwrap_or(0),
            };
            QuorumMember {
                node: id.node(),
                incarnation: id.incarnation(),
                log_end: held + 1,
                is_caught_up: held == last,
            }
        };
        let members = replica.members();
        let all = |voting: bool| {
            let mut ids: BTreeSet<ReplicaId> = BTreeSet::from([own]);
            ids.extend(members.peers_of(own));
            let of_kind = ids.into_iter().filter(|id| members.is_voter(*id) == voting);
            of_kind.map(member).collect()
        };
        Quorum {
            leader: own.node(),
            epoch: replica.term() as i32,
            high_watermark: replica.commit_index() + 1,
            voters: all(true),
            observers: all(false),
        }
    }
}
