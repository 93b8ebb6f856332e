//! The owner of the metadata replica, on core 0: decides requests one after another, proposes the records, tells
//! every core once they are committed, and answers when every core has taken them in and serves what they brought.

use super::anew::Growth;
use super::mail::{Answer, AskId, Mail};
use super::owned::Owned;
use crate::cluster::{
    self, Cluster, ClusterAnswer, ClusterAsk, METADATA, Record, Records, decide::Context,
};
use crate::config::BrokerConfig;
use bytes::Bytes;
use protocol::error::ErrorCode;
use runtime::Post;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use storage::EntryKind;
use uuid::Uuid;

/// State of the metadata's owner.
pub struct MetadataOwner {
    /// What is committed.
    committed: Cluster,
    /// `committed` plus everything decided and not yet committed.
    ahead: Cluster,
    /// Decided and proposed, in order of their index.
    proposed: VecDeque<Proposed>,
    /// Committed; every core has been told, some have not taken it in yet.
    spreading: BTreeMap<u64, Spreading>,
    /// The last version that was told to the cores.
    told: u64,
    /// Asks that came before this replica serves.
    early: Vec<(usize, AskId, ClusterAsk)>,
    /// Cores that still hold data of a deleted topic.
    purging: BTreeMap<Uuid, usize>,
    serving: bool,
    pub(super) growth: Growth,
}

struct Proposed {
    index: u64,
    asked: Option<(usize, AskId, ClusterAnswer)>,
}

struct Spreading {
    cores_left: usize,
    asked: Option<(usize, AskId, ClusterAnswer)>,
}

impl MetadataOwner {
    /// `restored` is the state as of the checkpoint; entries above it come as commits. `bytes` is the log's size.
    pub fn new(restored: Cluster, bytes: u64) -> MetadataOwner {
        MetadataOwner {
            ahead: restored.clone(),
            committed: restored,
            proposed: VecDeque::new(),
            spreading: BTreeMap::new(),
            told: 0,
            early: Vec::new(),
            purging: BTreeMap::new(),
            serving: false,
            growth: Growth::of(bytes),
        }
    }

    /// The committed state, for a checkpoint.
    pub fn committed(&self) -> &Cluster {
        &self.committed
    }

    /// It serves, and nothing is decided that is not committed.
    pub(super) fn is_settled(&self) -> bool {
        self.serving && self.proposed.is_empty()
    }

    /// Has this node's own view of the metadata been established?
    pub fn is_serving(&self) -> bool {
        self.serving
    }
}

impl Owned {
    /// A request to change the metadata.
    pub fn cluster(
        &mut self,
        from: usize,
        ask: AskId,
        request: ClusterAsk,
        broker: &BrokerConfig,
        next_id: &mut dyn FnMut() -> Uuid,
    ) {
        let Some(metadata) = self.metadata.as_mut() else {
            return answer(
                &self.post,
                from,
                ask,
                unavailable(ErrorCode::NOT_CONTROLLER),
            );
        };
        if !metadata.serving {
            metadata.early.push((from, ask, request));
            return;
        }
        if self.journal.refuses().is_some() {
            return answer(
                &self.post,
                from,
                ask,
                unavailable(ErrorCode::KAFKA_STORAGE_ERROR),
            );
        }
        let mut context = Context {
            node_id: self.node_id,
            broker,
            next_id,
        };
        let (records, reply) = cluster::decide::decide(&mut metadata.ahead, &request, &mut context);
        if records.is_empty() {
            return answer(&self.post, from, ask, reply);
        }
        self.propose_records(records, Some((from, ask, reply)));
    }

    fn propose_records(
        &mut self,
        records: Vec<Record>,
        asked: Option<(usize, AskId, ClusterAnswer)>,
    ) {
        let replica = self.replicas.get_mut(METADATA).expect("its owner is here");
        let metadata = self.metadata.as_mut().expect("its owner is here");
        let payload = Bytes::from(Records(records).encode());
        metadata.growth.add(payload.len());
        match replica.propose(EntryKind::Command, payload) {
            Ok(proposed) => {
                metadata.proposed.push_back(Proposed {
                    index: proposed.index,
                    asked,
                });
            }
            Err(_) => {
                // What was decided on top of entries still in flight stays valid only with them.
                if metadata.proposed.is_empty() {
                    metadata.ahead = metadata.committed.clone();
                }
                if let Some((from, ask, _)) = asked {
                    answer(
                        &self.post,
                        from,
                        ask,
                        unavailable(ErrorCode::NOT_CONTROLLER),
                    );
                }
            }
        }
    }

    /// Entries of the metadata log are committed: applies them, tells the cores.
    pub(super) fn metadata_committed(&mut self, range: RangeInclusive<u64>) {
        let (low, high) = (*range.start(), *range.end());
        let replica = self.replicas.get_mut(METADATA).expect("its owner is here");
        let entries = match replica.log().entries(low, high + 1, u64::MAX) {
            Ok(entries) => entries,
            Err(missing) => {
                let reason =
                    format!("committed metadata {low}..={high} is not in memory: {missing:?}");
                replica.fence(reason);
                return;
            }
        };
        let mut news = Vec::new();
        for entry in &entries {
            if entry.kind != EntryKind::Command {
                continue;
            }
            match Records::decode(&entry.data, entry.index) {
                Ok(records) => news.push((entry.index, records.0)),
                Err(unreadable) => {
                    replica.fence(unreadable.to_string());
                    return;
                }
            }
        }
        replica.applied(high);
        let serves_now = replica.is_serving();
        for (index, records) in news {
            self.spread(index, records);
        }
        if serves_now && !self.metadata.as_ref().expect("its owner is here").serving {
            self.metadata_serves(high);
        }
    }

    fn spread(&mut self, index: u64, records: Vec<Record>) {
        let metadata = self.metadata.as_mut().expect("its owner is here");
        for record in &records {
            metadata.committed.apply(record);
        }
        let mut asked = None;
        while let Some(proposed) = metadata
            .proposed
            .front()
            .filter(|front| front.index <= index)
        {
            if proposed.index == index {
                asked = metadata
                    .proposed
                    .pop_front()
                    .expect("front was there")
                    .asked;
                break;
            }
            metadata.proposed.pop_front();
        }
        if !metadata.serving {
            // The cores learn the whole state once this replica serves; until then it only grows here.
            metadata.ahead = metadata.committed.clone();
            return;
        }
        if let [Record::Snapshot { .. }] = records.as_slice() {
            // Of what the cores know already: the log was begun anew.
            return;
        }
        let cores_left = self.cores;
        metadata
            .spreading
            .insert(index, Spreading { cores_left, asked });
        metadata.told = index;
        let records = Arc::new(records);
        for core in 0..self.cores {
            self.post.send(
                core,
                Mail::View {
                    version: index,
                    records: records.clone(),
                },
            );
        }
    }

    /// The metadata replica serves for the first time: every core gets the whole state.
    fn metadata_serves(&mut self, version: u64) {
        let cores = self.cores;
        let metadata = self.metadata.as_mut().expect("its owner is here");
        metadata.serving = true;
        metadata.told = version;
        metadata.purging = metadata
            .committed
            .deleted()
            .keys()
            .map(|id| (*id, cores))
            .collect();
        let state = Box::new(metadata.committed.image());
        let records = Arc::new(vec![Record::Snapshot { state }]);
        metadata.spreading.insert(
            version,
            Spreading {
                cores_left: cores,
                asked: None,
            },
        );
        let early = std::mem::take(&mut metadata.early);
        for core in 0..cores {
            self.post.send(
                core,
                Mail::View {
                    version,
                    records: records.clone(),
                },
            );
        }
        for (from, ask, request) in early {
            // Back through the mail, behind the view that the asker needs to see first.
            let question = super::mail::Question::Cluster(Box::new(request));
            self.post.send(
                self.core,
                Mail::Again {
                    from,
                    ask,
                    question,
                },
            );
        }
    }

    /// A core has taken a version in and serves what it brought. True if that was the last core.
    pub fn view_applied(&mut self, version: u64) -> bool {
        let Some(metadata) = self.metadata.as_mut() else {
            return false;
        };
        let Some(spreading) = metadata.spreading.get_mut(&version) else {
            return false;
        };
        spreading.cores_left -= 1;
        if spreading.cores_left > 0 {
            return false;
        }
        let done = metadata
            .spreading
            .remove(&version)
            .expect("looked up above");
        if let Some((from, ask, reply)) = done.asked {
            answer(&self.post, from, ask, reply);
        }
        true
    }

    /// A topic was deleted: its data is gone once every core has said so.
    pub fn topic_deleted(&mut self, topic: Uuid) {
        let cores = self.cores;
        if let Some(metadata) = self.metadata.as_mut() {
            metadata.purging.entry(topic).or_insert(cores);
        }
    }

    /// A core holds nothing of a deleted topic any more.
    pub fn purged(&mut self, topic: Uuid) {
        let node = self.node_id;
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        let Some(left) = metadata.purging.get_mut(&topic) else {
            return;
        };
        *left -= 1;
        if *left > 0 {
            return;
        }
        metadata.purging.remove(&topic);
        let record = Record::TopicPurged { id: topic, node };
        metadata.ahead.apply(&record);
        self.propose_records(vec![record], None);
    }

    pub(super) fn metadata_fenced(&mut self) {
        let Some(metadata) = self.metadata.as_mut() else {
            return;
        };
        metadata.serving = false;
        for proposed in std::mem::take(&mut metadata.proposed) {
            if let Some((from, ask, _)) = proposed.asked {
                answer(
                    &self.post,
                    from,
                    ask,
                    unavailable(ErrorCode::KAFKA_STORAGE_ERROR),
                );
            }
        }
        for (from, ask, _) in std::mem::take(&mut metadata.early) {
            answer(
                &self.post,
                from,
                ask,
                unavailable(ErrorCode::KAFKA_STORAGE_ERROR),
            );
        }
    }
}

fn unavailable(code: ErrorCode) -> ClusterAnswer {
    ClusterAnswer::Unavailable(code)
}

fn answer(post: &Post<Mail>, to: usize, ask: AskId, reply: ClusterAnswer) {
    post.send(
        to,
        Mail::Answer {
            ask,
            answer: Answer::Cluster(Box::new(reply)),
        },
    );
}
