//! Asks the nodes that have a replica of a partition what it holds, for an operator who wants to know what is left of
//! it. Seldom, and never on the way of a record.
//!
//! A node that does not answer in time is left out: what that means is for [`crate::cluster::recovery`] to say.

use super::Shard;
use super::mail::Mail;
use super::owned::Owned;
use super::peer_mail::PeerMail;
use crate::cluster::METADATA_CORE;
use crate::cluster::recovery::Holding;
use raft_group::{Replica, ReplicaId};
use runtime::{Instant, Notify};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use storage::PartitionId;

/// How long a node may take to say what it holds.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Surveys that this core makes.
#[derive(Default)]
pub struct Surveys {
    open: RefCell<BTreeMap<u64, BTreeMap<i32, Holding>>>,
    heard: Notify,
}

impl Surveys {
    /// A node has answered.
    pub(super) fn heard(&self, number: u64, holding: Holding) {
        if let Some(found) = self.open.borrow_mut().get_mut(&number) {
            found.insert(holding.node, holding);
            self.heard.notify_all();
        }
    }
}

impl Shard {
    /// What the replicas of a partition on these nodes hold: of those nodes that answer. To be asked on the core that
    /// has the metadata.
    pub async fn survey(&self, partition: PartitionId, nodes: &BTreeSet<i32>) -> Vec<Holding> {
        assert_eq!(self.core.id(), METADATA_CORE, "answers come to this core");
        let number = self.next_number();
        self.surveys
            .open
            .borrow_mut()
            .insert(number, BTreeMap::new());
        for node in nodes {
            match *node == self.settings.node_id {
                true => self.on_survey(*node, number, partition),
                false => {
                    let said = PeerMail::Survey { number, partition };
                    self.owned
                        .borrow_mut()
                        .say(*node, METADATA_CORE as u16, said);
                }
            }
        }
        self.flush_peers();
        let deadline: Instant = self.core.now() + ANSWER_WITHIN;
        loop {
            let answered = self.surveys.open.borrow()[&number].len();
            if answered == nodes.len() || self.core.now() >= deadline {
                break;
            }
            runtime::select(self.surveys.heard.wait(), self.core.sleep_until(deadline)).await;
        }
        let found = self.surveys.open.borrow_mut().remove(&number);
        found.unwrap_or_default().into_values().collect()
    }

    /// A node wants to know what this one holds: passed on to the owner of the partition.
    pub(super) fn on_survey(&self, asker: i32, number: u64, partition: PartitionId) {
        let survey = Mail::Survey {
            asker,
            number,
            partition,
        };
        self.post.send(self.owner(partition), survey);
    }

    /// To the owner: says what it holds.
    pub(super) fn answer_survey(&self, asker: i32, number: u64, partition: PartitionId) {
        let own = self.settings.replica_id();
        let holding = self.owned.borrow().holding(partition, own);
        if asker == self.settings.node_id {
            let holding = Box::new(holding);
            return self
                .post
                .send(METADATA_CORE, Mail::Surveyed { number, holding });
        }
        let said = PeerMail::Surveyed {
            number,
            holding: Box::new(holding),
        };
        self.owned
            .borrow_mut()
            .say(asker, METADATA_CORE as u16, said);
        self.flush_peers();
    }
}

impl Owned {
    /// What this core has of a partition.
    fn holding(&self, id: PartitionId, own: ReplicaId) -> Holding {
        let reaches = self.connected.keys().copied().collect();
        match self.replicas.get(id) {
            Some(replica) => Holding {
                reaches,
                ..holding_of(replica)
            },
            None => Holding {
                node: own.node(),
                incarnation: own.incarnation(),
                reaches,
                unfit: Some(match self.fenced.contains(&id) {
                    true => "its log was found damaged at the start".to_owned(),
                    false => "there is no replica of it".to_owned(),
                }),
                ..Holding::default()
            },
        }
    }
}

fn holding_of(replica: &Replica) -> Holding {
    let log = replica.log();
    let numbers = |ids: &[ReplicaId]| ids.iter().map(|id| id.as_u64()).collect();
    Holding {
        node: replica.id().node(),
        incarnation: replica.id().incarnation(),
        term: replica.term(),
        last_term: log.last_term(),
        last_index: log.last_index(),
        commit_index: replica.commit_index(),
        log_start_offset: log.log_start_offset(),
        high_watermark: log.high_watermark(),
        end_offset: log.next_offset(),
        voters: numbers(replica.members().voters()),
        outgoing: numbers(replica.members().outgoing()),
        leader: replica.leader().map(ReplicaId::node),
        lacks: replica.lacks(),
        reaches: Vec::new(),
        unfit: replica.check_force().err().map(|error| error.to_string()),
    }
}
