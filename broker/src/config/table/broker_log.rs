//! Broker knobs of logs: what a topic inherits when it sets nothing itself, and the cleaner.
//! Names, types, defaults and ranges are Apache Kafka 4.4's.

use super::prelude::*;

knobs! { LOG: "Logs and retention",
    "num.partitions", Int, "1", AtLeast(1), Static, Honoured,
        "Partitions of a topic that is created without a count.";
    "log.dir", List, "data", Distinct, Static, Honoured,
        "The data directory, if log.dirs is not set.";
    "log.dirs", List, unset, Distinct, Static, Honoured,
        "The data directory. One path: a node keeps everything it owns under it.";
    "cordoned.log.dirs", List, "", Distinct, Node, Refused(ONE_DIRECTORY);
    "log.segment.bytes", Int, "1073741824", AtLeast(1048576), Cluster, Honoured,
        "Size at which a partition starts a new segment file.";
    "log.roll.ms", Long, unset, AtLeast(1), Cluster, Honoured,
        "Age in ms at which a partition starts a new segment; beats log.roll.hours.";
    "log.roll.hours", Int, "168", AtLeast(1), Static, Honoured,
        "Age in hours at which a partition starts a new segment.";
    "log.roll.jitter.ms", Long, unset, AtLeast(0), Cluster, Honoured,
        "Random ms taken off the roll age, so that segments do not roll together; beats \
         hours.";
    "log.roll.jitter.hours", Int, "0", AtLeast(0), Static, Honoured,
        "Random hours taken off the roll age, so that segments do not roll together.";
    "log.retention.ms", Long, unset, AtLeast(-1), Cluster, Honoured,
        "How long records are kept, in ms; -1 is for ever. Beats minutes and hours.";
    "log.retention.minutes", Int, unset, Any, Static, Honoured,
        "How long records are kept, in minutes; beats hours.";
    "log.retention.hours", Int, "168", Any, Static, Honoured,
        "How long records are kept, in hours; negative is for ever.";
    "log.retention.bytes", Long, "-1", Any, Cluster, Honoured,
        "Bytes kept per partition; negative is no limit.";
    "log.retention.check.interval.ms", Long, "300000", AtLeast(1), Static, Honoured,
        "How often retention looks for segments to delete.";
    "log.cleanup.policy", List, "delete", EachOf(CLEANUP_POLICIES), Cluster, Refused(COMPACTION);
    "log.index.size.max.bytes", Int, "10485760", AtLeast(4), Cluster, Honoured,
        "Size of a segment's index at which a new segment is started.";
    "log.index.interval.bytes", Int, "4096", AtLeast(0), Cluster, Honoured,
        "Bytes of log between two entries of a segment's index, at least. Differs from Kafka: \
         taken as 32768 where it is less, and as 1048576 where it is more.";
    "log.flush.interval.messages", Long, "9223372036854775807", AtLeast(1), Cluster,
        Reported(SYNCED);
    "log.segment.delete.delay.ms", Long, "60000", AtLeast(0), Cluster, Honoured,
        "How long the file of a segment stays after its last record was deleted. Differs from \
         Kafka: the files of a deleted topic go at once.";
    "log.flush.scheduler.interval.ms", Long, "9223372036854775807", Any, Static, Reported(SYNCED);
    "log.flush.interval.ms", Long, unset, Any, Cluster, Reported(SYNCED);
    "log.flush.offset.checkpoint.interval.ms", Int, "60000", AtLeast(0), Static,
        Reported(NO_CHECKPOINTS);
    "log.flush.start.offset.checkpoint.interval.ms", Int, "60000", AtLeast(0), Static,
        Reported(NO_CHECKPOINTS);
    "log.preallocate", Boolean, "false", Any, Cluster, Reported(PREALLOCATED);
    "num.recovery.threads.per.data.dir", Int, "2", AtLeast(1), Cluster, Reported(CORES);
    "auto.create.topics.enable", Boolean, "true", Any, Static, Honoured,
        "Whether asking for the metadata of an unknown topic may create it.";
    "min.insync.replicas", Int, "1", AtLeast(1), Cluster, Honoured,
        "Replicas that must be in sync before acks=all is accepted. A majority has the record \
         on stable storage before any acknowledgement, whatever the value.";
    "log.message.timestamp.type", String, "CreateTime", OneOf(TIMESTAMP_TYPES), Cluster, Honoured,
        "Whether a record keeps the time its producer gave it or gets the time of its append.";
    "log.message.timestamp.before.max.ms", Long, "9223372036854775807", AtLeast(0), Cluster,
        Honoured,
        "How far in the past a producer's timestamp may lie.";
    "log.message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), Cluster, Honoured,
        "How far in the future a producer's timestamp may lie.";
    "create.topic.policy.class.name", Class, unset, Any, Static, Refused(JVM);
    "alter.config.policy.class.name", Class, unset, Any, Static, Refused(JVM);
    "log.dir.failure.timeout.ms", Long, "30000", AtLeast(1), Static, Reported(ONE_DISK);
}

knobs! { CLEANER: "Log cleaner",
    "log.cleaner.threads", Int, "1", AtLeast(0), Cluster, Reported(NO_CLEANER);
    "log.cleaner.io.max.bytes.per.second", Double, "1.7976931348623157E308", Any, Cluster,
        Reported(NO_CLEANER);
    "log.cleaner.dedupe.buffer.size", Long, "134217728", Any, Cluster, Reported(NO_CLEANER);
    "log.cleaner.io.buffer.size", Int, "524288", AtLeast(0), Cluster, Reported(NO_CLEANER);
    "log.cleaner.io.buffer.load.factor", Double, "0.9", Any, Cluster, Reported(NO_CLEANER);
    "log.cleaner.backoff.ms", Long, "15000", AtLeast(0), Cluster, Reported(NO_CLEANER);
    "log.cleaner.min.cleanable.ratio", Double, "0.5", Share(0.0, 1.0), Cluster, Reported(COMPACTS);
    "log.cleaner.enable", Boolean, "true", Any, Static, Reported(NO_CLEANER);
    "log.cleaner.delete.retention.ms", Long, "86400000", AtLeast(0), Cluster, Reported(COMPACTS);
    "log.cleaner.min.compaction.lag.ms", Long, "0", AtLeast(0), Cluster, Reported(COMPACTS);
    "log.cleaner.max.compaction.lag.ms", Long, "9223372036854775807", AtLeast(1), Cluster,
        Reported(COMPACTS);
}
