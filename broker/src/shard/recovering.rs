//! Groups whose majority is gone for good: the replica that was chosen goes on alone, and says when it serves.
//!
//! Who is chosen, and whether at all, is for [`crate::cluster::recovery`]. Here a committed record is carried out, as
//! often as it takes: a replica whose configuration still has voters that are gone is forced, and one that has none of
//! them and serves is what was wanted. After that the members follow the metadata by the ordinary steps
//! ([`super::membership`]).

use super::Shard;
use super::metadata::Asker;
use super::owned::Owned;
use crate::cluster::{Cluster, ClusterAsk, METADATA, METADATA_CORE, Record, Records};
use raft_group::{ForceError, Forced, ReplicaId};
use std::time::Duration;
use storage::{EntryKind, PartitionId};
use uuid::Uuid;

/// For how many ticks a survivor waits to see that its word was taken up before it says it again.
const SAY_AGAIN_TICKS: u32 = 100;
/// A metadata replica that goes on alone leads within this time, or something is wrong with its disk.
const METADATA_LEADS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Owned {
    /// Carries out what was decided of a partition that lost its majority, if its replica here is the one that goes on
    /// alone. True if that is not over.
    pub(super) fn go_on_alone(&mut self, cluster: &Cluster, id: PartitionId) -> bool {
        let topic = Uuid::from_u128(id.topic);
        let found = cluster.topic_by_id(topic);
        let pending = found.and_then(|topic| {
            let mut pending = topic.recoveries.iter();
            pending.find(|one| one.partition == id.partition)
        });
        let replica = self.replicas.get(id);
        let (Some(pending), Some(replica)) = (pending, replica) else {
            self.told_recoveries.remove(&id);
            return false;
        };
        if replica.id().as_u64() != pending.survivor || replica.fenced().is_some() {
            return false;
        }
        let is_gone = |voter: &ReplicaId| pending.gone.contains(&voter.as_u64());
        let members = replica.members();
        let is_forced = !members
            .voters()
            .iter()
            .chain(members.outgoing())
            .any(is_gone);
        if !is_forced {
            self.force(id, pending.term);
            return true;
        }
        if !replica.is_serving() {
            self.campaign_alone(id);
            return true;
        }
        let ticks_left = self.told_recoveries.entry(id).or_insert(0);
        if *ticks_left > 0 {
            *ticks_left -= 1;
            return true;
        }
        *ticks_left = SAY_AGAIN_TICKS;
        let done = ClusterAsk::RecoveryDone {
            topic,
            partition: id.partition,
            number: pending.number,
        };
        self.decide_behind_mail(Asker::Nobody, done, 0);
        true
    }

    fn force(&mut self, id: PartitionId, term: u64) {
        let Some(replica) = self.replicas.get_mut(id) else {
            return;
        };
        let before = format!("{:?}", replica.members());
        let lacks = replica.lacks();
        match replica.force_alone(term) {
            Ok(Forced::Partly) => tracing::info!(
                topic = %Uuid::from_u128(id.topic),
                partition = id.partition,
                lacks,
                "the log of a replica that is to go on alone is behind its state: what is missing is lost, and is made up for"
            ),
            Ok(Forced::Whole) => tracing::warn!(
                topic = %Uuid::from_u128(id.topic),
                partition = id.partition,
                term,
                last_index = replica.last_index(),
                lacks,
                before,
                "the majority of a partition is gone for good: this replica goes on alone, as an operator asked for"
            ),
            Err(ForceError::Busy) => {}
            Err(error) => tracing::error!(
                topic = %Uuid::from_u128(id.topic),
                partition = id.partition,
                %error,
                "a replica that was chosen to go on alone cannot"
            ),
        }
    }

    /// It is the only voter: it need not wait for an election timeout.
    fn campaign_alone(&mut self, id: PartitionId) {
        if let Some(replica) = self.replicas.get_mut(id)
            && replica.leader().is_none()
            && replica.members().is_sole_voter(replica.id())
        {
            replica.campaign();
        }
    }
}

impl Shard {
    /// The metadata as it is once this node goes on alone with it: all of its log is committed then. None if that
    /// cannot be read.
    pub fn metadata_to_come(&self) -> Option<Cluster> {
        let owned = self.owned.borrow();
        let mut cluster = owned.metadata.as_ref()?.committed().clone();
        let replica = owned.replicas.get(METADATA)?;
        let (first, last) = (replica.applied_index() + 1, replica.log().last_index());
        if first > last {
            return Some(cluster);
        }
        // What is not applied is in memory.
        let left = replica.log().entries(first, last + 1, u64::MAX).ok()?;
        for entry in left.iter().filter(|it| it.kind == EntryKind::Command) {
            for record in Records::decode(&entry.data, entry.index).ok()?.0 {
                cluster.apply(&record);
            }
        }
        Some(cluster)
    }

    /// Makes this node's replica of the metadata its only voter. To be asked on the core that has it.
    ///
    /// # Errors
    /// A sentence; then nothing has changed, or it is not known whether it will.
    pub async fn force_metadata(&self, term: u64) -> Result<(), String> {
        loop {
            let forced = {
                let mut owned = self.owned.borrow_mut();
                let replica = owned.replicas.get_mut(METADATA);
                replica.map(|replica| replica.force_alone(term))
            };
            match forced {
                Some(Ok(Forced::Whole)) => break,
                Some(Ok(Forced::Partly)) => {}
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("there is no replica of the metadata on this core".to_owned()),
            }
            self.wake_turn();
            self.core.sleep(LOOK_AGAIN).await;
        }
        tracing::warn!(
            term,
            "the majority of the metadata is gone for good: this node goes on alone, as an operator asked for"
        );
        let deadline = self.core.now() + METADATA_LEADS_WITHIN;
        loop {
            self.wake_turn();
            self.core.sleep(LOOK_AGAIN).await;
            let mut owned = self.owned.borrow_mut();
            // One that led before does not know at once that it had to stop.
            let replica = owned.replicas.get(METADATA);
            let serves = replica.is_some_and(|replica| replica.is_serving());
            let owner = owned.metadata.as_ref();
            if serves && owner.is_some_and(|owner| owner.is_leading()) {
                return Ok(());
            }
            if self.core.now() >= deadline {
                return Err(
                    "the metadata has no leader yet; the log of this node says why".to_owned(),
                );
            }
            owned.campaign_alone(METADATA);
        }
    }

    /// Says in the log of each node what an operator has decided about lost majorities.
    pub(super) fn tell_recoveries(&self, records: &[Record]) {
        if self.core.id() != METADATA_CORE {
            return;
        }
        for record in records {
            match record {
                Record::NodeLost { node, incarnation } => tracing::warn!(
                    node,
                    incarnation,
                    "an operator says that a node is lost for good: its disk is retired"
                ),
                Record::PartitionRecovered { recovery, .. }
                | Record::MetadataRecovered { recovery } => tracing::warn!(
                    topic = recovery.topic,
                    partition = recovery.partition,
                    survivor = ReplicaId::from_u64(recovery.survivor).map_or(-1, ReplicaId::node),
                    kept_up_to = recovery.end_offset,
                    known_committed_up_to = recovery.high_watermark,
                    by = recovery.by,
                    "a majority is gone for good: one replica goes on alone, and records may be lost"
                ),
                _ => {}
            }
        }
    }
}
