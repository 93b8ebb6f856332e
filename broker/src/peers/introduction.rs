//! Who a node is, as it tells others.

use storage::Start;

/// The level of the protocol between nodes that this build speaks.
pub const LEVEL: u16 = 1;
/// The oldest level that it still speaks. Nodes are upgraded one by one, so this rises a release after [`LEVEL`].
pub const LEVEL_MIN: u16 = 1;

/// A cluster's id has at most so many bytes.
pub(super) const CLUSTER_ID_BYTES_MAX: usize = 255;

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub cluster_id: String,
    pub node: i32,
    /// Of its disk: a node that has lost its disk comes back as another one.
    pub incarnation: u32,
    /// Which start of the node with this disk it is.
    pub start: Start,
    /// At least one.
    pub cores: u16,
    /// The level of the protocol between nodes that it speaks; a link uses the lower of both.
    pub level: u16,
}

impl Introduction {
    /// Whether this is how a node may introduce itself: it has a core, and a cluster id that fits.
    pub(super) fn is_sound(&self) -> bool {
        self.cores > 0 && self.cluster_id.len() <= CLUSTER_ID_BYTES_MAX
    }

    /// The core of this node on which connections from another node's core land.
    pub fn landing(&self, core: u16) -> u16 {
        assert!(self.cores > 0, "node {} has no cores", self.node);
        core % self.cores
    }

    /// The level at which this node and another speak.
    pub(super) fn level_with(&self, other: &Introduction) -> u16 {
        self.level.min(other.level)
    }
}
