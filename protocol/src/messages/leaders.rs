//! What Produce and Fetch answers tell a client whose view of the leaders is stale (KIP-951), so
//! that it can go on without asking for metadata.

use crate::codec::{Str, describe};

describe! {
    /// Who leads a partition now.
    pub struct LeaderIdAndEpoch {
        /// Node id of the leader; -1 if there is none, or none is known.
        leader_id: i32 = -1;
        /// The leader's epoch; -1 if unknown.
        leader_epoch: i32 = -1;
    }

    /// Where a node that is named as a leader can be reached.
    pub struct NodeEndpoint {
        /// The node's id.
        node_id: i32;
        /// Its advertised host name or address.
        host: Str;
        /// Its advertised port.
        port: i32;
        /// The rack it stands in, if configured.
        rack: Option<Str>;
    }
}
