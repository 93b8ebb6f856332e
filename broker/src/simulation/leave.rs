//! A node that leaves: of four nodes one is decommissioned while everything else goes wrong.
//!
//! The operator gives the order again and again, as its answer may be lost and as it is refused while too few of the
//! others are heard of; now and then he thinks better of it for a while. It is over when the cluster does not know the
//! node any more, which is what it says to the order then. From there on the node must not serve: if it runs it ends by
//! itself, and its disk is refused.
//!
//! The disk of the node that leaves is never wiped or damaged: with an empty one it may come back, and stay.

use super::Stage;
use super::client::Client;
use super::cluster::{Fate, name};
use super::violation::Violation;
use crate::cluster::leaving::LEAVING;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::rc::Rc;
use std::time::Duration;

/// Of so many nodes one leaves.
pub(super) const NODES: usize = 4;
/// `BROKER` among Kafka's kinds of resources; the empty name means all of them.
const BROKERS: i8 = 4;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
/// The order is given within this time for the first time.
const BEGINS_WITHIN_US: u64 = 1_500_000;
const AGAIN_US: u64 = 400_000;
/// One time in so many the node is to stay for a moment.
const SECOND_THOUGHTS: u64 = 12;
/// Time in which everything is connected before replicas leave, and the time from then on in which faults begin.
const BEGINS_AFTER: Duration = Duration::from_millis(10_500);
const BEGINS_SPAN_US: u64 = 4_000_000;
/// Virtual time in which a node that was let go ends.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Virtual time in which it is refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// Of a node that is to leave, as its operator knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaver {
    pub index: usize,
    pub stands: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was not said yet, or not heard.
    Stays,
    Leaves,
    /// Replicas are on their way from it to others.
    IsEmptied,
    /// The cluster does not know it any more.
    Gone,
}

impl Stage {
    /// Whether this node was let go, as somebody knows.
    pub fn has_left(&self, index: usize) -> bool {
        let leaver = self.leaver.get();
        leaver.is_some_and(|leaver| leaver.index == index && leaver.stands == Standing::Gone)
    }

    pub fn is_to_leave(&self, index: usize) -> bool {
        let leaver = self.leaver.get();
        leaver.is_some_and(|leaver| leaver.index == index)
    }

    /// The nodes that are of the cluster.
    pub fn members(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|index| !self.has_left(*index))
    }

    fn leaver_stands(&self, stands: Standing) {
        let leaver = self.leaver.get();
        self.leaver
            .set(leaver.map(|leaver| Leaver { stands, ..leaver }));
    }
}

/// The operator who decommissions a node.
pub(super) async fn operator(stage: Rc<Stage>, mut client: Client, _number: u32) {
    let Some(Leaver { index, .. }) = stage.leaver.get() else {
        return;
    };
    let node = index as i32 + 1;
    let mut pause_us = client.below(BEGINS_WITHIN_US);
    while !stage.is_over() {
        client.core.sleep(Duration::from_micros(pause_us)).await;
        pause_us = 1 + client.below(AGAIN_US);
        client.roam();
        if !stage.healed.get() && client.below(SECOND_THOUGHTS) == 0 {
            if order(&stage, &mut client, SUBTRACT, node).await == Some(ErrorCode::NONE) {
                stage.history().count("nodes that were to stay after all");
            }
            continue;
        }
        match order(&stage, &mut client, APPEND, node).await {
            Some(ErrorCode::NONE) => {
                stage.history().count("orders to leave");
                stage.leaver_stands(match gives_away(&mut client, node).await {
                    Some(true) => Standing::IsEmptied,
                    _ => Standing::Leaves,
                });
            }
            Some(ErrorCode::BROKER_ID_NOT_REGISTERED) => {
                stage.leaver_stands(Standing::Gone);
                let mut history = stage.history();
                history.count(match stage.healed.get() {
                    true => "nodes that left after the last fault",
                    false => "nodes that left among faults",
                });
                return history.tell_fate(format!("{} has left", name(index)));
            }
            _ => {}
        }
    }
}

/// Whether replicas are on their way from a node to others.
async fn gives_away(client: &mut Client, node: i32) -> Option<bool> {
    let request = ListPartitionReassignmentsRequest {
        timeout_ms: 1_000,
        topics: None,
    };
    let listed = client.call(&request, 0).await?;
    let mut moving = listed.topics.iter().flat_map(|topic| &topic.partitions);
    Some(moving.any(|partition| partition.removing_replicas.contains(&node)))
}

/// Puts a node on the list of those that leave, or takes it off.
async fn order(stage: &Stage, client: &mut Client, operation: i8, node: i32) -> Option<ErrorCode> {
    let change = IncrementalAlterableConfig {
        name: Str::copied(LEAVING),
        config_operation: operation,
        value: Some(Str::copied(&node.to_string())),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![IncrementalAlterConfigsResource {
            resource_type: BROKERS,
            resource_name: Str::copied(""),
            configs: vec![change],
        }],
        validate_only: false,
    };
    let version = client.version::<IncrementalAlterConfigsRequest>(0);
    let response = client.call(&request, version).await?;
    let code = response.responses.first()?.error_code;
    Some(stage.history().code("IncrementalAlterConfigs", code))
}

impl Fate {
    /// Nodes are emptied only while all the others have been connected for ten seconds. What happens next happens while
    /// replicas are on their way.
    pub(super) fn let_it_begin(&mut self) {
        for (_, end) in std::mem::take(&mut self.under_way) {
            self.end(end);
        }
        self.sim.set_resets(0);
        let calm = BEGINS_AFTER + Duration::from_micros(self.draw.below(BEGINS_SPAN_US));
        self.run_for(calm);
        self.sim.set_resets(self.resets_per_million);
    }

    /// Counts a fault that comes at the right time.
    pub(super) fn note_fault(&self) {
        let leaver = self.stage.leaver.get();
        if leaver.is_some_and(|leaver| leaver.stands == Standing::IsEmptied) {
            self.stage.history().count("faults while a node is emptied");
        }
    }

    /// In the end the node that was let go does not run, and is refused if somebody starts it.
    pub(super) fn see_it_gone(&mut self) {
        let Some(Leaver { index, .. }) = self.stage.leaver.get() else {
            return;
        };
        let node = self.members[index].node;
        if !self.run_until(ENDS_WITHIN, |fate| fate.sim.is_done(node)) {
            let what = format!("{} has left and runs", name(index));
            return self.stage.history().violate(Violation::NotStopped, what);
        }
        let refusals = "starts refused to a node that left";
        let before = self.stage.counted(refusals);
        self.start(index);
        let refused = |fate: &Fate| fate.stage.counted(refusals) > before;
        if !self.run_until(REFUSED_WITHIN, refused) && !self.stage.is_over() {
            let what = format!("{} has left and is not refused", name(index));
            return self.stage.history().violate(Violation::OldDiskTaken, what);
        }
        self.sim.crash(node);
    }
}
