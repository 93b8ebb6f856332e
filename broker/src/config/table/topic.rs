//! The topic configs, and the broker configs that supply their values.

use super::prelude::*;
use super::{Synonym, Unit};

knobs! { TOPIC: "Topics",
    "segment.bytes", Int, "1073741824", AtLeast(1048576), Cluster, Honoured,
        "Size at which a new segment file is started.";
    "segment.ms", Long, "604800000", AtLeast(1), Cluster, Honoured,
        "Age at which a new segment is started even if the old one is not full.";
    "segment.jitter.ms", Long, "0", AtLeast(0), Cluster, Honoured,
        "Random time taken off segment.ms, so that the segments of many partitions do not \
         roll at once.";
    "segment.index.bytes", Int, "10485760", AtLeast(4), Cluster, Honoured,
        "Size of a segment's index at which a new segment is started.";
    "flush.messages", Long, "9223372036854775807", AtLeast(1), Cluster, Reported(SYNCED);
    "flush.ms", Long, "9223372036854775807", AtLeast(0), Cluster, Reported(SYNCED);
    "retention.bytes", Long, "-1", Any, Cluster, Honoured,
        "Bytes kept per partition; the oldest segments beyond it are deleted. Negative: no \
         limit.";
    "retention.ms", Long, "604800000", AtLeast(-1), Cluster, Honoured,
        "How long records are kept; segments whose newest record is older are deleted. -1: \
         for ever.";
    "max.message.bytes", Int, "1048588", AtLeast(0), Cluster, Honoured,
        "Largest record batch that is accepted, as it arrives, compressed.";
    "index.interval.bytes", Int, "4096", AtLeast(0), Cluster, Honoured,
        "Bytes of log between two entries of a segment's index, at least. Differs from Kafka: \
         taken as 32768 where it is less, and as 1048576 where it is more.";
    "delete.retention.ms", Long, "86400000", AtLeast(0), Cluster, Reported(COMPACTS);
    "min.compaction.lag.ms", Long, "0", AtLeast(0), Cluster, Reported(COMPACTS);
    "max.compaction.lag.ms", Long, "9223372036854775807", AtLeast(1), Cluster, Reported(COMPACTS);
    "file.delete.delay.ms", Long, "60000", AtLeast(0), Cluster, Honoured,
        "How long the file of a segment stays after its last record was deleted. Differs from \
         Kafka: the files of a deleted topic go at once.";
    "min.cleanable.dirty.ratio", Double, "0.5", Share(0.0, 1.0), Cluster, Reported(COMPACTS);
    "cleanup.policy", List, "delete", EachOf(CLEANUP_POLICIES), Cluster, Refused(COMPACTION);
    "unclean.leader.election.enable", Boolean, "false", Any, Cluster, Reported(CLEAN_ONLY);
    "min.insync.replicas", Int, "1", AtLeast(1), Cluster, Honoured,
        "Replicas that must be in sync before a produce request with acks=all is accepted. \
         Whatever the value, an acknowledged record is on the stable storage of a majority.";
    "compression.type", String, "producer", OneOf(CODECS), Cluster, Honoured,
        "Codec that batches are stored with; producer keeps each batch byte for byte as it \
         came.";
    "compression.gzip.level", Int, "-1", GzipLevel, Cluster, Honoured,
        "Level used when compression.type is gzip; -1 is the codec's own default.";
    "compression.lz4.level", Int, "9", Between(1, 17), Cluster, Honoured,
        "Level used when compression.type is lz4.";
    "compression.zstd.level", Int, "3", Between(-131072, 22), Cluster, Honoured,
        "Level used when compression.type is zstd.";
    "preallocate", Boolean, "false", Any, Cluster, Reported(PREALLOCATED);
    "message.timestamp.type", String, "CreateTime", OneOf(TIMESTAMP_TYPES), Cluster, Honoured,
        "CreateTime keeps the producer's timestamps; LogAppendTime replaces them with the \
         time of the append.";
    "message.timestamp.before.max.ms", Long, "9223372036854775807", AtLeast(0), Cluster, Honoured,
        "A record whose timestamp lies further in the past is refused (CreateTime only).";
    "message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), Cluster, Honoured,
        "A record whose timestamp lies further in the future is refused (CreateTime only).";
    "leader.replication.throttled.replicas", List, "", ThrottledReplicas, Cluster, Honoured,
        "Replicas whose node, where it leads, sends to followers that are not in sync at \
         leader.replication.throttled.rate.";
    "follower.replication.throttled.replicas", List, "", ThrottledReplicas, Cluster, Honoured,
        "Replicas that catch up at follower.replication.throttled.rate while they are not in sync.";
    "remote.storage.enable", Boolean, "false", Any, Cluster, Refused(TIERING);
    "local.retention.ms", Long, "-2", AtLeast(-2), Cluster, Reported(TIERED);
    "local.retention.bytes", Long, "-2", AtLeast(-2), Cluster, Reported(TIERED);
    "remote.log.copy.disable", Boolean, "false", Any, Cluster, Reported(TIERED);
    "remote.copy.lag.ms", Long, "0", AtLeast(-1), Cluster, Reported(TIERED);
    "remote.copy.lag.bytes", Long, "-1", AtLeast(-1), Cluster, Reported(TIERED);
    "remote.log.delete.on.disable", Boolean, "false", Any, Cluster, Reported(TIERED);
    "errors.deadletterqueue.group.enable", Boolean, "false", Any, Cluster, Refused(SHARE);
}

/// The broker configs that a topic inherits `name` from, the one with priority first. Empty for
/// configs that only a topic has.
pub fn server_synonyms(name: &str) -> &'static [Synonym] {
    const fn same(name: &'static str) -> Synonym {
        Synonym {
            name,
            unit: Unit::AsIs,
        }
    }
    const fn minutes(name: &'static str) -> Synonym {
        Synonym {
            name,
            unit: Unit::Minutes,
        }
    }
    const fn hours(name: &'static str) -> Synonym {
        Synonym {
            name,
            unit: Unit::Hours,
        }
    }
    match name {
        "segment.bytes" => const { &[same("log.segment.bytes")] },
        "segment.ms" => const { &[same("log.roll.ms"), hours("log.roll.hours")] },
        "segment.jitter.ms" => {
            const { &[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")] }
        }
        "segment.index.bytes" => const { &[same("log.index.size.max.bytes")] },
        "flush.messages" => const { &[same("log.flush.interval.messages")] },
        "flush.ms" => {
            const {
                &[
                    same("log.flush.interval.ms"),
                    same("log.flush.scheduler.interval.ms"),
                ]
            }
        }
        "retention.bytes" => const { &[same("log.retention.bytes")] },
        "retention.ms" => {
            const {
                &[
                    same("log.retention.ms"),
                    minutes("log.retention.minutes"),
                    hours("log.retention.hours"),
                ]
            }
        }
        "max.message.bytes" => const { &[same("message.max.bytes")] },
        "index.interval.bytes" => const { &[same("log.index.interval.bytes")] },
        "delete.retention.ms" => const { &[same("log.cleaner.delete.retention.ms")] },
        "min.compaction.lag.ms" => const { &[same("log.cleaner.min.compaction.lag.ms")] },
        "max.compaction.lag.ms" => const { &[same("log.cleaner.max.compaction.lag.ms")] },
        "file.delete.delay.ms" => const { &[same("log.segment.delete.delay.ms")] },
        "min.cleanable.dirty.ratio" => const { &[same("log.cleaner.min.cleanable.ratio")] },
        "cleanup.policy" => const { &[same("log.cleanup.policy")] },
        "unclean.leader.election.enable" => const { &[same("unclean.leader.election.enable")] },
        "min.insync.replicas" => const { &[same("min.insync.replicas")] },
        "compression.type" => const { &[same("compression.type")] },
        "compression.gzip.level" => const { &[same("compression.gzip.level")] },
        "compression.lz4.level" => const { &[same("compression.lz4.level")] },
        "compression.zstd.level" => const { &[same("compression.zstd.level")] },
        "preallocate" => const { &[same("log.preallocate")] },
        "message.timestamp.type" => const { &[same("log.message.timestamp.type")] },
        "message.timestamp.before.max.ms" => {
            const { &[same("log.message.timestamp.before.max.ms")] }
        }
        "message.timestamp.after.max.ms" => const { &[same("log.message.timestamp.after.max.ms")] },
        "local.retention.ms" => const { &[same("log.local.retention.ms")] },
        "local.retention.bytes" => const { &[same("log.local.retention.bytes")] },
        "remote.copy.lag.ms" => const { &[same("log.remote.copy.lag.ms")] },
        "remote.copy.lag.bytes" => const { &[same("log.remote.copy.lag.bytes")] },
        _ => &[],
    }
}
