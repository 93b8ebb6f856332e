//! The kinds of violations: what was promised and did not hold.
//!
//! Typed, so that a test can demand that a bug is found by what it breaks, and not by something beside it.

use std::fmt;

/// What a simulation found to be wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Violation {
    /// A batch was acknowledged while a power loss would have taken it.
    NotOnThePlatter,
    /// Two values stood at one offset.
    OffsetTakenTwice,
    /// A value that may stand once stood at two offsets.
    WrittenTwice,
    /// An acknowledged value is beyond the end of its log.
    Lost,
    /// A partition holds what its producer sent elsewhere, or nobody sent.
    NeverSent,
    /// What was refused for good is in the log.
    RefusedAndWritten,
    /// A batch that must be refused was acknowledged.
    TakenAgainstTheRules,
    /// Values of one producer are not in the order of their sending.
    OutOfOrder,
    /// The next batch in a sequence, or a retry of it, was refused for good.
    RefusedInSequence,
    /// A log has a hole, or a fetch below the high watermark brings nothing.
    Gap,
    /// Bytes that are no batch, or a batch that its CRC does not fit.
    Damaged,
    /// A high watermark, log start, leader epoch or committed offset that was told was taken back.
    WentBack,
    /// Leader epochs of records that change, or fall.
    EpochsDisordered,
    /// Records were read that were not committed yet.
    ReadAboveTheHighWatermark,
    /// Records are gone whose deletion nobody asked for.
    DeletedUnasked,
    /// A commit of an ended generation was taken.
    StaleCommitTaken,
    /// A group has an offset that nobody committed.
    OffsetInvented,
    /// A producer id was given out twice.
    IdGivenTwice,
    /// An acknowledged topic, partition or config is not there, or a deleted topic is.
    MetadataWrong,
    /// An answer that no state of the broker explains.
    WrongAnswer,
    /// The node does not start on what is on its disk.
    NotStarted,
    /// The node was told to stop and does not, or leaves work to the next start.
    NotStopped,
    /// A node serves with a disk that was replaced before.
    OldDiskTaken,
    /// Two nodes led a partition in the same epoch.
    TwoLeaders,
    /// A replica lacks what is committed, long after the last fault, or has something else there.
    ReplicasDiffer,
    /// A task goes on and on without waiting for anything.
    TurnsRound,
    /// A client is not served although nothing goes wrong any more.
    NotServed,
    /// A producer waited long although a majority had room and nothing else was wrong.
    KeptWaiting,
    /// The broker panicked.
    Panic,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Violation::NotOnThePlatter => "acknowledged and not on the platter",
            Violation::OffsetTakenTwice => "two values at one offset",
            Violation::WrittenTwice => "one value at two offsets",
            Violation::Lost => "acknowledged and lost",
            Violation::NeverSent => "never sent to where it stands",
            Violation::RefusedAndWritten => "refused for good and in the log",
            Violation::TakenAgainstTheRules => "acknowledged though it must be refused",
            Violation::OutOfOrder => "not in the order of sending",
            Violation::RefusedInSequence => "in its sequence and refused for good",
            Violation::Gap => "a hole in a log",
            Violation::Damaged => "bytes that are no batch",
            Violation::WentBack => "taken back",
            Violation::EpochsDisordered => "leader epochs of records in disorder",
            Violation::ReadAboveTheHighWatermark => "read above the high watermark",
            Violation::DeletedUnasked => "deleted unasked",
            Violation::StaleCommitTaken => "a commit of an ended generation taken",
            Violation::OffsetInvented => "an offset that nobody committed",
            Violation::IdGivenTwice => "a producer id given out twice",
            Violation::MetadataWrong => "not the metadata that was acknowledged",
            Violation::WrongAnswer => "an answer that nothing explains",
            Violation::NotStarted => "the node does not start",
            Violation::NotStopped => "the node does not stop in order",
            Violation::OldDiskTaken => "a disk that was replaced is let in",
            Violation::TwoLeaders => "two leaders in one epoch",
            Violation::ReplicasDiffer => "not the same on all replicas",
            Violation::TurnsRound => "a core turns round and does nothing",
            Violation::NotServed => "not served after the last fault",
            Violation::KeptWaiting => "kept waiting by a full disk",
            Violation::Panic => "panic",
        })
    }
}
