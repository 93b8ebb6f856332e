//! Nodes that start: the cluster takes them in, or says why it does not.
//!
//! A node registers at each start. It is its id, its disk, and the start with that disk: a disk that was replaced and an
//! older copy of the one that it has now have forgotten what was promised with them. Peers look at the same before they
//! speak with anybody.

use super::decide::{Context, Draft, Refusal};
use super::record::{Record, Registration};
use super::state::{Cluster, Node};
use protocol::error::ErrorCode;
use raft_group::ReplicaId;
use storage::Start;

impl Cluster {
    /// What is said to a node whose start is ruled out by one that the cluster has seen with the same disk.
    pub fn older_copy(&self, node: i32, incarnation: u32, start: Start) -> Option<String> {
        let known = &self.nodes().get(&node)?.registration;
        let is_ruled_out = known.incarnation == incarnation && known.start.rules_out(start);
        let (start, seen) = (start.number, known.start.number);
        is_ruled_out.then(|| {
            format!(
                "the data directory of node {node} is an older copy: this would be its start {start}, and it was \
                 started {seen} times; put the directory back that it had, or give the node an empty one"
            )
        })
    }
}

impl Draft<'_> {
    /// A node that has started.
    pub(super) fn register(
        &mut self,
        registration: &Registration,
        context: &Context,
    ) -> Result<(), Refusal> {
        let Registration {
            node,
            incarnation,
            start,
            ..
        } = *registration;
        let refused = |message: String| {
            let code = ErrorCode::INCONSISTENT_CLUSTER_ID;
            Err(Refusal::new(code, message))
        };
        let Some(id) = ReplicaId::new(node, incarnation) else {
            return refused(format!("{node}.{incarnation} is no identity of a node"));
        };
        if self.state.is_retired(id) {
            return refused(format!(
                "the data directory is an old one of node {node}, which has been replaced: give this node an \
                 empty directory"
            ));
        }
        if let Some(sentence) = self.state.older_copy(node, incarnation, start) {
            return refused(sentence);
        }
        let before = self.state.nodes().get(&node);
        let other = before.filter(|known| known.registration.incarnation != incarnation);
        // Whoever asks may be connected itself by now: that is not the one before.
        let runs =
            |known: &Node| context.connected.get(&node) == Some(&known.registration.incarnation);
        if other.is_some_and(runs) {
            return refused(format!(
                "node.id {node} is taken by a node that runs now: give this one an id of its own"
            ));
        }
        self.push(Record::NodeRegistered(registration.clone()));
        Ok(())
    }
}
