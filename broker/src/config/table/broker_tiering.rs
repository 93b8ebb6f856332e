//! Broker knobs of tiered storage.
//! Names, types, defaults and ranges are Apache Kafka 4.4's.

use super::prelude::*;

knobs! { REMOTE_LOG: "Tiered storage",
    "remote.log.storage.system.enable", Boolean, "false", Any, Static, Refused(TIERING);
    "remote.log.storage.manager.impl.prefix", String, "rsm.config.", NonEmpty, Static,
        Reported(TIERED);
    "remote.log.metadata.manager.impl.prefix", String, "rlmm.config.", NonEmpty, Static,
        Reported(TIERED);
    "remote.log.storage.manager.class.name", String, unset, NonEmpty, Static, Refused(JVM);
    "remote.log.storage.manager.class.path", String, unset, Any, Static, Refused(JVM);
    "remote.log.metadata.manager.class.name", String,
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        NonEmpty, Static, Refused(JVM);
    "remote.log.metadata.manager.class.path", String, unset, Any, Static, Refused(JVM);
    "remote.log.metadata.manager.listener.name", String, unset, NonEmpty, Static, Reported(TIERED);
    "remote.log.metadata.custom.metadata.max.bytes", Int, "128", AtLeast(0), Static,
        Reported(TIERED);
    "remote.log.index.file.cache.total.size.bytes", Long, "1073741824", AtLeast(1), Cluster,
        Reported(TIERED);
    "remote.log.manager.thread.pool.size", Int, "2", AtLeast(1), Static, Reported(TIERED);
    "remote.log.manager.copier.thread.pool.size", Int, "10", AtLeast(1), Cluster, Reported(TIERED);
    "remote.log.manager.expiration.thread.pool.size", Int, "10", AtLeast(1), Cluster,
        Reported(TIERED);
    "remote.log.manager.follower.thread.pool.size", Int, "2", AtLeast(1), Cluster, Reported(TIERED);
    "remote.log.manager.task.interval.ms", Long, "30000", AtLeast(1), Static, Reported(TIERED);
    "remote.log.reader.threads", Int, "10", AtLeast(1), Cluster, Reported(TIERED);
    "remote.log.reader.max.pending.tasks", Int, "100", AtLeast(1), Static, Reported(TIERED);
    "log.local.retention.ms", Long, "-2", AtLeast(-2), Cluster, Reported(TIERED);
    "log.local.retention.bytes", Long, "-2", AtLeast(-2), Cluster, Reported(TIERED);
    "log.remote.copy.lag.ms", Long, "0", AtLeast(-1), Cluster, Reported(TIERED);
    "log.remote.copy.lag.bytes", Long, "-1", AtLeast(-1), Cluster, Reported(TIERED);
    "remote.log.manager.copy.max.bytes.per.second", Long, "9223372036854775807", AtLeast(1),
        Cluster, Reported(TIERED);
    "remote.log.manager.copy.quota.window.num", Int, "11", AtLeast(1), Static, Reported(TIERED);
    "remote.log.manager.copy.quota.window.size.seconds", Int, "1", AtLeast(1), Static,
        Reported(TIERED);
    "remote.log.manager.fetch.max.bytes.per.second", Long, "9223372036854775807", AtLeast(1),
        Cluster, Reported(TIERED);
    "remote.log.manager.fetch.quota.window.num", Int, "11", AtLeast(1), Static, Reported(TIERED);
    "remote.log.manager.fetch.quota.window.size.seconds", Int, "1", AtLeast(1), Static,
        Reported(TIERED);
    "remote.fetch.max.wait.ms", Int, "500", AtLeast(1), Cluster, Reported(TIERED);
    "remote.list.offsets.request.timeout.ms", Long, "30000", AtLeast(1), Cluster, Reported(TIERED);
}

knobs! { REMOTE_METADATA: "Metadata of tiered storage",
    "remote.log.metadata.topic.replication.factor", Short, "3", AtLeast(1), Static,
        Reported(TIERED);
    "remote.log.metadata.topic.num.partitions", Int, "50", AtLeast(1), Static, Reported(TIERED);
    "remote.log.metadata.topic.retention.ms", Long, "-1", Any, Static, Reported(TIERED);
    "remote.log.metadata.topic.min.isr", Short, "2", AtLeast(1), Static, Reported(TIERED);
    "remote.log.metadata.consume.wait.ms", Long, "120000", AtLeast(0), Static, Reported(TIERED);
    "remote.log.metadata.initialization.retry.max.timeout.ms", Long, "120000", AtLeast(0),
        Static, Reported(TIERED);
    "remote.log.metadata.initialization.retry.interval.ms", Long, "100", AtLeast(0), Static,
        Reported(TIERED);
}
