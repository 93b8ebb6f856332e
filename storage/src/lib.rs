//! A core's storage: one journal for all its partitions, and segments per partition.
//!
//! What decides here is synchronous and holds no handle; what waits is a job that goes out
//! (`begin_x -> XJob`), runs (`XJob::run(&disk).await -> XDone`) and comes back (`finish_x`), so
//! that the owner of the logs holds no borrow across an await. The README tells the story.
//!
//! Must not know Kafka's requests, raft's messages, or time: the caller brings the clock.

mod cache;
mod data_dir;
mod error;
mod format;
mod journal;
mod log;
mod lru;
mod options;
mod partition;
mod recovery;
mod starts;
mod stats;

pub use data_dir::{DataDir, DataIdentity, DirLock, NodeIdentity, cluster_id};
pub use error::{
    BatchError, DataDirError, EntriesMissing, JournalError, ReadError, RecoverError, Refusal,
    StageError,
};
pub use format::VERSION;
pub use journal::{
    Checkpoint, CheckpointDone, CheckpointJob, Chores, DropDone, DropJob, Journal, JournalWrite,
    JournalWritten, PrepareDone, PrepareJob, Staged, Swept,
};
pub use log::append::Reset;
pub use log::{
    Condition, DrainDone, DrainJob, EntriesJob, EntriesPlan, Entry, EntryKind, HardState, Log,
    ReadJob, ReadPlan, RemovalDone, RemovalJob, TimestampFound, TimestampJob, TimestampPlan,
};
pub use options::{LogConfig, Mutation, Options};
pub use partition::{PartitionId, owner};
pub use recovery::{Recovered, RecoveredLog, RecoveryReport, recover};
pub use starts::Start;
pub use stats::Stats;
