//! A majority that is gone for good: of three disks two are lost, wherever things stand, and an operator has the third go
//! on alone, first with the metadata and then with every partition.
//!
//! What only the lost disks had is lost, whatever had been said about it. Everything else has to stay: what was
//! acknowledged and is on the platter of the survivor stands at its offset in the end, and the survivor has all that it
//! said it had when it was chosen. What it had without an acknowledgement may stay as well, and is judged as ever.
//!
//! Clients end with the lost nodes, and others come: who was answered by what is lost has to be told so by people.
//! Deliberately absent: two survivors that differ (three disks of five), and partitions on the move.

use super::Stage;
use super::client::Client;
use super::cluster::{End, Fate, name};
use super::history::Place;
use super::platter;
use super::violation::Violation;
use super::{admin, produce, read, views};
use crate::operate::{Order, Outcome};
use bytes::Bytes;
use protocol::error::ErrorCode;
use protocol::messages::*;
use runtime::sim::NodeId;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

const BY: &str = "ada@simulation";
/// An order is answered within this virtual time, or by the next one.
const ANSWERED_WITHIN: Duration = Duration::from_secs(40);
/// Virtual time in which the survivor knows that it is alone, and goes on with the metadata.
const METADATA_WITHIN: Duration = Duration::from_secs(90);
/// The same for all partitions.
const PARTITIONS_WITHIN: Duration = Duration::from_secs(60);
/// Virtual time in which a node with an empty disk is taken in.
const TAKEN_IN_WITHIN: Duration = Duration::from_secs(60);
const SERVED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Of a batch: where the number of its last record stands, counted from its first.
const LAST_RECORD_AT: std::ops::Range<usize> = 23..27;

/// What a node says of the partitions: their topics, and who leads them.
type Found = BTreeMap<(String, i32), Option<usize>>;

/// What the survivor said that it had of a partition: up to where it knew all to be committed, and its end.
struct Claim {
    committed: i64,
    end: i64,
}

impl Fate {
    /// False if nothing more can be asked of what is left.
    pub(super) fn lose_majority(&mut self) -> bool {
        let survivor = self.any_node();
        for (_, client) in std::mem::take(&mut self.clients) {
            self.sim.kill(client);
        }
        self.lose_the_others(survivor);
        if !self.recover_metadata(survivor) {
            return false;
        }
        let Some(claims) = self.recover_partitions(survivor) else {
            return false;
        };
        self.stage.history().count("majorities lost");
        if self.replace_the_lost() && self.compare_views() {
            self.check_claims(survivor, &claims);
            self.serve_others();
        }
        true
    }

    /// Ends all faults and two disks. What the third one has of what was acknowledged is owed from here on.
    fn lose_the_others(&mut self, survivor: usize) {
        let node = self.members[survivor].node;
        let lost: Vec<usize> = (0..self.members.len())
            .filter(|index| *index != survivor)
            .collect();
        for index in &lost {
            self.members[*index].is_lost = true;
        }
        // Some are switched off, and some die so that everybody notices at once.
        let by_power = self.draw.below(2) == 0;
        // Before it loses power: a write that is cut off then leaves parts of what nobody can read.
        self.owe(node);
        // One whose disk has failed is started again by its operator.
        let has_failed = self.under_way.iter().any(|(_, end)| {
            matches!(end, End::Failed(index, operation)
                if *index == survivor && self.sim.disk_ops(node) >= *operation)
        });
        let stays_up = self.draw.below(2) == 0 && self.sim.is_up(node) && !has_failed;
        for index in &lost {
            match by_power {
                true => self.sim.crash(self.members[*index].node),
                false => self.sim.kill(self.members[*index].node),
            }
        }
        if !stays_up {
            self.sim.crash(node);
        }
        for index in lost {
            self.sim.wipe_disk(self.members[index].node);
            self.sim.forget_planned_faults(self.members[index].node);
            self.members[index].is_another = true;
        }
        for (_, end) in std::mem::take(&mut self.under_way) {
            if !matches!(end, End::Start(_) | End::Failed(..)) {
                self.end(end);
            }
        }
        self.sim.heal_all();
        self.sim.forget_planned_faults(node);
        self.stage.history().count(match stays_up {
            true => "survivors that went on",
            false => "survivors that lost power",
        });
        let how = if stays_up { "goes on" } else { "loses power" };
        self.tell(format!(
            "{} survives and {how}; the other disks are lost",
            name(survivor)
        ));
        if !stays_up {
            self.start_later(survivor);
        }
    }

    /// Forgets what nobody has any more.
    fn owe(&self, survivor: NodeId) {
        let mut promised = self.stage.promised.take();
        let mut history = self.stage.history();
        // What was sent again may lie on the platter from an attempt that was taken back.
        promised.retain(|(place, offset, _)| {
            history.keeps_all(*place) && history.was_acked_at_once(*place, *offset)
        });
        let wanted: Vec<(i64, Bytes)> = promised
            .iter()
            .map(|(_, offset, batch)| (*offset, batch.clone()))
            .collect();
        let held = platter::held(&self.sim, survivor, &wanted);
        let mut is_held = held.iter();
        promised.retain(|_| is_held.next().is_some_and(|held| *held));
        let mut kept: BTreeMap<Place, BTreeSet<i64>> = BTreeMap::new();
        for (place, offset, batch) in &promised {
            kept.entry(*place)
                .or_default()
                .extend(*offset..*offset + records_of(batch));
        }
        for is_held in &held {
            history.count(match is_held {
                true => "acknowledged batches that the survivor has",
                false => "acknowledged batches that nobody has",
            });
        }
        history.begin_anew(&kept);
        drop(history);
        *self.stage.promised.borrow_mut() = promised;
    }

    // --- orders ------------------------------------------------------------------------------

    fn order(&mut self, index: usize, order: Order) -> Outcome {
        let answer = RefCell::new(self.members[index].hand.give(order));
        let told = RefCell::new(None);
        self.run_until(ANSWERED_WITHIN, |_| match answer.borrow_mut().try_recv() {
            Ok(outcome) => {
                told.replace(Some(outcome));
                true
            }
            Err(error) => error == tokio::sync::oneshot::error::TryRecvError::Closed,
        });
        let told = told.into_inner();
        told.unwrap_or_else(|| Err("there was no answer".to_owned()))
    }

    fn lost(&self) -> BTreeSet<i32> {
        let lost = (0..self.members.len()).filter(|index| self.members[*index].is_lost);
        lost.map(|index| index as i32 + 1).collect()
    }

    fn recover_metadata(&mut self, survivor: usize) -> bool {
        let end = self.sim.now() + METADATA_WITHIN;
        let lost = self.lost();
        while self.sim.now() < end && !self.stage.is_over() {
            if self.sim.is_up(self.members[survivor].node) {
                let outcome = self.order(
                    survivor,
                    Order::RecoverMetadata {
                        lost: lost.clone(),
                        by: BY.to_owned(),
                        accept_data_loss: true,
                    },
                );
                match outcome {
                    Ok(_) => return true,
                    Err(sentence) => self.stage.history().tell(|| sentence),
                }
            }
            self.run_for(LOOK_AGAIN);
        }
        self.not_served("the operator who recovers the metadata", METADATA_WITHIN);
        false
    }

    /// Recovers every partition that nobody leads; what the survivor had of each.
    fn recover_partitions(&mut self, survivor: usize) -> Option<BTreeMap<(String, i32), Claim>> {
        let end = self.sim.now() + PARTITIONS_WITHIN;
        let mut claims = BTreeMap::new();
        while self.sim.now() < end && !self.stage.is_over() {
            self.run_for(LOOK_AGAIN);
            let Some(found) = self.survey(survivor) else {
                continue;
            };
            if found.values().all(|leader| *leader == Some(survivor)) {
                return Some(claims);
            }
            for ((topic, partition), leader) in found {
                if leader.is_some() {
                    continue;
                }
                let outcome = self.order(
                    survivor,
                    Order::RecoverPartition {
                        topic: topic.clone(),
                        partition,
                        lost: self.lost(),
                        by: BY.to_owned(),
                        accept_data_loss: true,
                    },
                );
                match outcome {
                    Ok(told) => {
                        let number = |what: &str| told["survivor"][what].as_i64().unwrap_or(-1);
                        let (committed, end) = (number("committed_offset"), number("end_offset"));
                        self.stage.history().count("partitions recovered");
                        if number("missing_entries") > 0 {
                            self.stage.history().count("partitions behind their state");
                        }
                        self.tell(format!(
                            "{topic}/{partition} goes on from {committed}..{end}"
                        ));
                        claims.insert((topic, partition), Claim { committed, end });
                    }
                    Err(sentence) => self.stage.history().tell(|| sentence),
                }
            }
        }
        self.not_served("the operator who recovers partitions", PARTITIONS_WITHIN);
        None
    }

    /// What a node says of all partitions; clients take over the topics that it knows.
    fn survey(&mut self, at: usize) -> Option<Found> {
        let found = Rc::new(RefCell::new(None));
        let told = found.clone();
        let (_, client) = self.client("surveyor", 17, move |stage, mut client, _| async move {
            client.at = at;
            let seen = look(&stage, &mut client).await;
            told.replace(seen);
        });
        self.run_until(LOOK_AGAIN, |fate| fate.sim.is_done(client));
        self.sim.kill(client);
        found.take()
    }

    // --- afterwards --------------------------------------------------------------------------

    /// The lost nodes come back with empty disks.
    fn replace_the_lost(&mut self) -> bool {
        let before: Vec<u64> = self.members.iter().map(|member| member.starts).collect();
        let lost: Vec<usize> = (0..self.members.len())
            .filter(|index| self.members[*index].is_lost)
            .collect();
        for index in &lost {
            self.members[*index].is_lost = false;
            self.start(*index);
        }
        let are_in = |fate: &Fate| {
            let mut lost = lost.iter();
            lost.all(|index| fate.members[*index].starts > before[*index])
        };
        let are_in = self.run_until(TAKEN_IN_WITHIN, are_in);
        if !are_in {
            self.not_served("nodes that come back with empty disks", TAKEN_IN_WITHIN);
        }
        are_in && !self.stage.is_over()
    }

    fn compare_views(&mut self) -> bool {
        let viewer = self.client("viewer of the recovered", 18, |stage, client, _| {
            views::compare(stage, client)
        });
        let done = self.run_until(SERVED_WITHIN, |fate| fate.sim.is_done(viewer.1));
        if !done {
            self.not_served("replicas that are to follow the survivor", SERVED_WITHIN);
        }
        done && !self.stage.is_over()
    }

    /// The survivor still has what it had when it was chosen.
    fn check_claims(&mut self, survivor: usize, claims: &BTreeMap<(String, i32), Claim>) {
        let ends = Rc::new(RefCell::new(BTreeMap::new()));
        let told = ends.clone();
        let (_, client) = self.client("surveyor of ends", 19, move |stage, client, _| async move {
            let found = read::ends(stage, client).await;
            told.replace(found);
        });
        if !self.run_until(SERVED_WITHIN, |fate| fate.sim.is_done(client)) {
            return self.not_served("whoever asks for the ends of logs", SERVED_WITHIN);
        }
        for ((topic, partition), end) in ends.borrow().iter() {
            let Some(claim) = claims.get(&(topic.clone(), *partition)) else {
                continue;
            };
            if claim.end < claim.committed || *end < claim.end {
                let what = format!(
                    "{topic}/{partition} ends at {end}; {} had it up to {}, {} of it committed",
                    name(survivor),
                    claim.end,
                    claim.committed
                );
                self.stage.history().violate(Violation::Lost, what);
            }
        }
    }

    /// New clients are served as if nothing had been. Topics that the survivor had not heard of are created again.
    fn serve_others(&mut self) {
        self.stage.healed.set(true);
        if !self.stage.has_lasting_topics() {
            let creator = self.client("creator of what is gone", 20, |stage, client, _| {
                admin::create_lasting(stage, client)
            });
            if !self.run_until(SERVED_WITHIN, |fate| fate.sim.is_done(creator.1)) {
                return self.not_served("whoever creates topics again", SERVED_WITHIN);
            }
        }
        self.clients = vec![
            self.client("idempotent", 14, produce::idempotent),
            self.client("idempotent", 15, produce::idempotent),
            self.client("reader", 16, read::reader),
        ];
        let clients: Vec<NodeId> = self.clients.iter().map(|(_, node)| *node).collect();
        let is_done = |fate: &Fate| clients.iter().all(|node| fate.sim.is_done(*node));
        if !self.run_until(SERVED_WITHIN, is_done) {
            self.not_served("clients of the recovered cluster", SERVED_WITHIN);
        }
    }
}

fn records_of(batch: &[u8]) -> i64 {
    let last = batch[LAST_RECORD_AT].try_into().expect("four bytes");
    i64::from(i32::from_be_bytes(last)) + 1
}

async fn look(stage: &Stage, client: &mut Client) -> Option<Found> {
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    let version = client.version::<MetadataRequest>(10);
    let response = client.call(&request, version).await?;
    let mut found = Found::new();
    stage.topics.borrow_mut().clear();
    for topic in &response.topics {
        if topic.error_code != ErrorCode::NONE {
            return None;
        }
        let name = topic.name.as_deref().unwrap_or_default();
        for partition in &topic.partitions {
            let leader = stage.node_of(partition.leader_id);
            let leader = leader.filter(|_| partition.error_code == ErrorCode::NONE);
            found.insert((name.to_owned(), partition.partition_index), leader);
        }
        if !name.starts_with("__") {
            stage.add_topic(name, topic.topic_id, topic.partitions.len() as i32);
        }
    }
    Some(found)
}
