//! The knobs of the group coordinator. Must not know where they are configured.

/// Limits and delays of a [`Coordinator`](super::Coordinator); defaults are Kafka's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more first members.
    pub initial_rebalance_delay_ms: i32,
    /// `group.min.session.timeout.ms`: shorter sessions get `INVALID_SESSION_TIMEOUT`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: longer sessions get `INVALID_SESSION_TIMEOUT`.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members of one group; further ones get `GROUP_MAX_SIZE_REACHED`.
    pub max_size: usize,
    /// Members of one group that were given an id and have not joined with it yet; further ones get
    /// `GROUP_MAX_SIZE_REACHED`. Ours: in Kafka nothing bounds them but their session timeout.
    pub max_pending_members: usize,
    /// Groups of one coordinator; a request that would make one more gets `POLICY_VIOLATION`. Ours.
    pub max_groups: usize,
    /// `offset.metadata.max.bytes`: longer ones get `OFFSET_METADATA_TOO_LARGE`. Counted, as Kafka
    /// does it, in UTF-16 units.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// How long a new member may wait for its first join to complete before it must ask again.
    pub new_member_join_timeout_ms: i32,
    /// Tombstones that one write of [`expire_offsets`](super::Coordinator::expire_offsets) or
    /// [`topics_deleted`](super::Coordinator::topics_deleted) holds before a next one is begun.
    pub max_tombstones_per_write: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            max_pending_members: 10_000,
            max_groups: 100_000,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            new_member_join_timeout_ms: 5 * 60 * 1_000,
            max_tombstones_per_write: 1_000,
        }
    }
}
