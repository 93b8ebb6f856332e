//! What an operator on the machine of a node may ask it to do, beside what Kafka's protocol has words for: to hand a
//! lead to a certain replica, and to go on after the majority of a group is gone for good.
//!
//! Orders come from the admin server, as mail to the core that has the metadata; it answers with a value for people and
//! programs, or with a sentence. Must not know HTTP. Deliberately absent: who may ask. The admin server takes orders
//! from the machine itself only.

use crate::cluster::recovery::{Holding, Recovery, RecoveryAsk, RecoveryPlan, check_by};
use crate::cluster::{ClusterAnswer, ClusterAsk, METADATA, METADATA_CORE, partition_id};
use crate::shard::Shard;
use raft_group::ReplicaId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use storage::PartitionId;
use tokio::sync::oneshot;

/// A transfer takes milliseconds if the heir has everything.
const TRANSFER_WITHIN: Duration = Duration::from_secs(5);
/// A replica that goes on alone serves within some ticks; more is a slow disk.
const SERVES_WITHIN: Duration = Duration::from_secs(20);
/// What the metadata's group is called.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The lead of a partition is to go to the replica on this node.
    Transfer {
        topic: String,
        partition: i32,
        to: i32,
    },
    /// What is left of a partition without a majority; with `accept_data_loss` it goes on from there.
    RecoverPartition {
        topic: String,
        partition: i32,
        lost: BTreeSet<i32>,
        by: String,
        accept_data_loss: bool,
    },
    /// The same of the cluster's metadata, with the node that is asked as the one that goes on.
    RecoverMetadata {
        lost: BTreeSet<i32>,
        by: String,
        accept_data_loss: bool,
    },
    /// What was recovered so far.
    Recoveries,
}

/// The answer, or a sentence.
pub type Outcome = Result<Value, String>;

/// Carries an order out; on the core that has the metadata.
pub fn carry_out(shard: &Rc<Shard>, order: Order, reply: oneshot::Sender<Outcome>) {
    let doing = shard.clone();
    shard.core.spawn("order", async move {
        let outcome = match order {
            Order::Transfer {
                topic,
                partition,
                to,
            } => transfer(&doing, &topic, partition, to).await,
            Order::RecoverPartition {
                topic,
                partition,
                lost,
                by,
                accept_data_loss,
            } => {
                let ask = RecoveryAsk {
                    topic,
                    partition,
                    lost,
                    holdings: Vec::new(),
                    epoch: -1,
                    by,
                    at_ms: doing.core.wall_ms(),
                    accept_data_loss,
                };
                recover_partition(&doing, ask).await
            }
            Order::RecoverMetadata {
                lost,
                by,
                accept_data_loss,
            } => recover_metadata(&doing, lost, &by, accept_data_loss).await,
            Order::Recoveries => Ok(recoveries(&doing)),
        };
        // The asker may have given up; then nobody misses the answer.
        let _ = reply.send(outcome);
    });
}

/// A partition and its replicas, the preferred leader first.
fn find(shard: &Shard, topic: &str, partition: i32) -> Result<(PartitionId, Vec<i32>), String> {
    let view = shard.view.borrow();
    let found = view.cluster.topic(topic);
    let found = found.ok_or_else(|| format!("There is no topic {topic}"))?;
    let absent = || format!("There is no partition {topic}-{partition}");
    let index = u32::try_from(partition).map_err(|_| absent())?;
    let replicas = found.partitions.get(index as usize).ok_or_else(absent)?;
    Ok((partition_id(found.id, index), replicas.clone()))
}

async fn transfer(shard: &Shard, topic: &str, partition: i32, to: i32) -> Outcome {
    let (id, replicas) = find(shard, topic, partition)?;
    if !replicas.contains(&to) {
        return Err(format!(
            "Node {to} has no replica of {topic}-{partition}; these have: {replicas:?}"
        ));
    }
    let deadline = shard.core.now() + TRANSFER_WITHIN;
    let before = shard.view.borrow().leader(id);
    let Some(before) = before else {
        return Err(format!(
            "Nobody leads {topic}-{partition}: a lead that nobody has cannot be handed over"
        ));
    };
    if before.node != to {
        shard.ask_for_transfer(id, before.node, to);
    }
    loop {
        let now = shard.view.borrow().leader(id);
        if let Some(leader) = now.filter(|leader| leader.node == to) {
            return Ok(json!({
                "topic": topic,
                "partition": partition,
                "from": before.node,
                "leader": leader.node,
                "leader_epoch": leader.epoch,
            }));
        }
        if shard.core.now() >= deadline {
            return Err(format!(
                "Node {to} did not take the lead of {topic}-{partition} within {} s: it votes only when it is nearly \
                 caught up, and takes a lead only when it has everything and room on its disk. Nothing is lost by that",
                TRANSFER_WITHIN.as_secs()
            ));
        }
        shard.hear_of_leaders(deadline).await;
    }
}

async fn recover_partition(shard: &Shard, mut ask: RecoveryAsk) -> Outcome {
    check_by(&ask.by)?;
    let (id, replicas) = find(shard, &ask.topic, ask.partition)?;
    let asked = replicas.iter().filter(|node| !ask.lost.contains(node));
    ask.holdings = shard.survey(id, &asked.copied().collect()).await;
    ask.epoch = shard
        .view
        .borrow()
        .leader(id)
        .map_or(-1, |leader| leader.epoch);
    let (topic, partition) = (ask.topic.clone(), ask.partition);
    let (by, accepted) = (ask.by.clone(), ask.accept_data_loss);
    let decided = shard.ask(METADATA_CORE, ClusterAsk::RecoverPartition(Box::new(ask)));
    let plan = match *decided.await {
        ClusterAnswer::Recovery(Ok(plan)) => plan,
        ClusterAnswer::Recovery(Err(refusal)) => return Err(refusal.message),
        ClusterAnswer::Unavailable(_) => {
            return Err(
                "The metadata has no leader, so nothing can be decided. If its majority is gone for good, too, recover \
                 it first: corelane cluster recover-metadata"
                    .to_owned(),
            );
        }
        _ => unreachable!("the metadata's owner answers in kind"),
    };
    let mut told = tell(&topic, partition, &plan);
    told["by"] = json!(by);
    told["done"] = json!(false);
    if accepted {
        let survivor = plan.survivor.node;
        let deadline = shard.core.now() + SERVES_WITHIN;
        while shard.view.borrow().leader(id).map(|leader| leader.node) != Some(survivor) {
            if shard.core.now() >= deadline {
                return Err(format!(
                    "It is decided that node {survivor} goes on alone, but it does not lead yet: it will when it runs \
                     and its disk takes writes. Its log says more"
                ));
            }
            shard.hear_of_leaders(deadline).await;
        }
        told["done"] = json!(true);
    }
    Ok(told)
}

async fn recover_metadata(shard: &Shard, lost: BTreeSet<i32>, by: &str, accepted: bool) -> Outcome {
    check_by(by)?;
    let own = shard.settings.node_id;
    let members: BTreeSet<i32> = {
        let owned = shard.owned.borrow();
        let replica = owned.replicas.get(METADATA);
        let replica = replica.ok_or("This core has no replica of the metadata")?;
        let peers = replica.members().peers_of(replica.id());
        let peers = peers.into_iter().map(ReplicaId::node);
        peers.chain([own]).collect()
    };
    let asked: BTreeSet<i32> = members.difference(&lost).copied().collect();
    let holdings = shard.survey(METADATA, &asked).await;
    let members: Vec<i32> = members.into_iter().collect();
    let plan = {
        let cluster = shard.metadata_to_come();
        let cluster =
            cluster.ok_or("The metadata's log cannot be read: this node's log says why")?;
        let connected = &shard.owned.borrow().connected;
        let connected = |node| connected.contains_key(&node);
        cluster.plan_metadata(&members, &lost, &holdings, own, connected)?
    };
    let mut told = tell(METADATA_TOPIC, 0, &plan);
    told["by"] = json!(by);
    told["done"] = json!(false);
    if accepted {
        shard.force_metadata(plan.term).await?;
        let recovery = Recovery::of(METADATA_TOPIC, 0, &plan, by, shard.core.wall_ms());
        let ask = ClusterAsk::MetadataRecovered { recovery, lost };
        let answer = shard.ask(METADATA_CORE, ask).await;
        if !matches!(*answer, ClusterAnswer::Done) {
            return Err(format!(
                "The metadata goes on from this node, but that could not be written down, nor the lost nodes retired \
                 ({answer:?}): the recovery of any partition retires them, too; keep them from starting until then"
            ));
        }
        told["done"] = json!(true);
    }
    Ok(told)
}

/// A plan for people and programs.
fn tell(topic: &str, partition: i32, plan: &RecoveryPlan) -> Value {
    json!({
        "topic": topic,
        "partition": partition,
        "survivor": holding(&plan.survivor),
        "followers": plan.followers.iter().map(holding).collect::<Vec<_>>(),
        "gone": identities(&plan.gone),
        "term": plan.term,
    })
}

fn holding(holding: &Holding) -> Value {
    json!({
        "node": holding.node,
        "term": holding.term,
        "last_term": holding.last_term,
        "last_index": holding.last_index,
        "commit_index": holding.commit_index,
        "start_offset": holding.log_start_offset,
        "committed_offset": holding.high_watermark,
        "end_offset": holding.end_offset,
        "missing_entries": holding.lacks,
        "unfit": holding.unfit,
    })
}

fn identities(ids: &[u64]) -> Vec<String> {
    let known = ids.iter().filter_map(|id| ReplicaId::from_u64(*id));
    known.map(|id| id.to_string()).collect()
}

fn recoveries(shard: &Shard) -> Value {
    let view = shard.view.borrow();
    let told = view.cluster.recoveries().map(|recovery| {
        json!({
            "topic": recovery.topic,
            "partition": recovery.partition,
            "survivor": ReplicaId::from_u64(recovery.survivor).map(ReplicaId::node),
            "gone": identities(&recovery.gone),
            "term": recovery.term,
            "last_term": recovery.last_term,
            "last_index": recovery.last_index,
            "committed_offset": recovery.high_watermark,
            "end_offset": recovery.end_offset,
            "by": recovery.by,
            "at_ms": recovery.at_ms,
        })
    });
    told.collect()
}
