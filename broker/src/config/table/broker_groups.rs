//! Broker knobs of group coordination: classic, consumer, share and streams groups.
//! Names, types, defaults and ranges are Apache Kafka 4.4's.

use super::prelude::*;

knobs! { GROUPS: "Group coordinator",
    "group.coordinator.rebalance.protocols", List, "classic,consumer,streams",
        EachOf(&["classic", "consumer", "share", "streams"]), Static, Reported(PROTOCOLS);
    "group.coordinator.threads", Int, "4", AtLeast(1), Static, Reported(CORES);
    "group.coordinator.background.threads", Int, "2", AtLeast(1), Static, Reported(CORES);
    "group.coordinator.append.linger.ms", Int, "-1", AtLeast(-1), Static, Reported(TURNS);
    "offsets.commit.timeout.ms", Int, "5000", AtLeast(1), Static, Honoured,
        "How long an offset commit may take before the client is told to try again.";
    "offsets.load.buffer.size", Int, "5242880", AtLeast(1), Static, Reported(LOADING);
    "offsets.topic.replication.factor", Short, "3", AtLeast(1), Static, Honoured,
        "Replicas of __consumer_offsets; a smaller cluster uses all the nodes it has.";
    "offsets.topic.num.partitions", Int, "50", AtLeast(1), Static, Honoured,
        "Partitions of __consumer_offsets; fixed once the topic exists.";
    "offsets.topic.segment.bytes", Int, "104857600", AtLeast(1), Static, Honoured,
        "Segment size of __consumer_offsets.";
    "offsets.topic.compression.codec", Int, "0", Any, Static, Reported(INTERNAL_CODEC);
    "group.coordinator.cached.buffer.max.bytes", Int, "1048588", AtLeast(524288), Cluster,
        Reported(LOADING);
    "offset.metadata.max.bytes", Int, "4096", Any, Static, Honoured,
        "Largest metadata string that comes with a committed offset.";
    "offsets.retention.minutes", Int, "10080", AtLeast(1), Static, Honoured,
        "How long the offsets of an empty group are kept.";
    "offsets.retention.check.interval.ms", Long, "600000", AtLeast(1), Static, Honoured,
        "How often expired offsets are looked for.";
    "group.min.session.timeout.ms", Int, "6000", Any, Static, Honoured,
        "Shortest session timeout a classic member may ask for.";
    "group.max.session.timeout.ms", Int, "1800000", Any, Static, Honoured,
        "Longest session timeout a classic member may ask for.";
    "group.initial.rebalance.delay.ms", Int, "3000", Any, Static, Honoured,
        "How long an empty classic group waits for further members before its first \
         rebalance.";
    "group.max.size", Int, "2147483647", AtLeast(1), Static, Honoured,
        "Most members of a classic group.";
    "group.consumer.session.timeout.ms", Int, "45000", AtLeast(1), Static,
        Reported(CONSUMER_PROTOCOL),
        "Without a heartbeat for this long a member of a consumer group is removed.";
    "group.consumer.min.session.timeout.ms", Int, "45000", AtLeast(1), Static,
        Reported(CONSUMER_PROTOCOL),
        "Smallest consumer.session.timeout.ms of a group.";
    "group.consumer.max.session.timeout.ms", Int, "60000", AtLeast(1), Static,
        Reported(CONSUMER_PROTOCOL),
        "Largest consumer.session.timeout.ms of a group.";
    "group.consumer.heartbeat.interval.ms", Int, "5000", AtLeast(1), Static,
        Reported(CONSUMER_PROTOCOL),
        "How often members of a consumer group are told to send a heartbeat.";
    "group.consumer.min.heartbeat.interval.ms", Int, "5000", AtLeast(1), Static,
        Reported(CONSUMER_PROTOCOL),
        "Smallest consumer.heartbeat.interval.ms of a group.";
    "group.consumer.max.heartbeat.interval.ms", Int, "15000", AtLeast(1), Static,
        Reported(CONSUMER_PROTOCOL),
        "Largest consumer.heartbeat.interval.ms of a group.";
    "group.consumer.max.size", Int, "2147483647", AtLeast(1), Static, Reported(CONSUMER_PROTOCOL),
        "Most members of a consumer group.";
    "group.consumer.assignors", List, "uniform,range", EachOf(&["uniform", "range"]), Static,
        Reported(CONSUMER_PROTOCOL),
        "Server-side assignors on offer; the first is the default. Built in: uniform, range.";
    "group.consumer.migration.policy", String, "bidirectional", OneOf(MIGRATION_POLICIES),
        Static, Reported(CONSUMER_PROTOCOL);
    "group.consumer.assignment.interval.ms", Int, "1000", AtLeast(0), Cluster,
        Reported(CONSUMER_PROTOCOL),
        "Least time between two assignments of a consumer group.";
    "group.consumer.min.assignment.interval.ms", Int, "0", AtLeast(0), Static,
        Reported(CONSUMER_PROTOCOL),
        "Smallest consumer.assignment.interval.ms of a group.";
    "group.consumer.max.assignment.interval.ms", Int, "15000", AtLeast(0), Static,
        Reported(CONSUMER_PROTOCOL),
        "Largest consumer.assignment.interval.ms of a group.";
    "group.share.session.timeout.ms", Int, "45000", AtLeast(1), Static, Reported(SHARE);
    "group.share.min.session.timeout.ms", Int, "45000", AtLeast(1), Static, Reported(SHARE);
    "group.share.max.session.timeout.ms", Int, "60000", AtLeast(1), Static, Reported(SHARE);
    "group.share.heartbeat.interval.ms", Int, "5000", AtLeast(1), Static, Reported(SHARE);
    "group.share.min.heartbeat.interval.ms", Int, "5000", AtLeast(1), Static, Reported(SHARE);
    "group.share.max.heartbeat.interval.ms", Int, "15000", AtLeast(1), Static, Reported(SHARE);
    "group.share.max.size", Int, "200", Between(1, 1000), Static, Reported(SHARE);
    "group.share.assignors", List, "simple", Distinct, Static, Reported(SHARE);
    "group.share.assignment.interval.ms", Int, "1000", AtLeast(0), Cluster, Reported(SHARE);
    "group.share.min.assignment.interval.ms", Int, "0", AtLeast(0), Static, Reported(SHARE);
    "group.share.max.assignment.interval.ms", Int, "15000", AtLeast(0), Static, Reported(SHARE);
    "errors.deadletterqueue.auto.create.topics.enable", Boolean, "false", Any, Cluster,
        Refused(SHARE);
    "errors.deadletterqueue.topic.name.prefix", String, "dlq.", Any, Cluster, Reported(SHARE);
    "group.streams.session.timeout.ms", Int, "45000", AtLeast(1), Static, Reported(STREAMS);
    "group.streams.min.session.timeout.ms", Int, "45000", AtLeast(1), Static, Reported(STREAMS);
    "group.streams.max.session.timeout.ms", Int, "60000", AtLeast(1), Static, Reported(STREAMS);
    "group.streams.heartbeat.interval.ms", Int, "5000", AtLeast(1), Static, Reported(STREAMS);
    "group.streams.min.heartbeat.interval.ms", Int, "5000", AtLeast(1), Static, Reported(STREAMS);
    "group.streams.max.heartbeat.interval.ms", Int, "15000", AtLeast(1), Static, Reported(STREAMS);
    "group.streams.max.size", Int, "2147483647", AtLeast(1), Static, Reported(STREAMS);
    "group.streams.num.standby.replicas", Int, "0", AtLeast(0), Static, Reported(STREAMS);
    "group.streams.max.standby.replicas", Int, "2", AtLeast(0), Static, Reported(STREAMS);
    "group.streams.initial.rebalance.delay.ms", Int, "3000", AtLeast(0), Static, Reported(STREAMS);
    "group.streams.assignment.interval.ms", Int, "1000", AtLeast(0), Cluster, Reported(STREAMS);
    "group.streams.min.assignment.interval.ms", Int, "0", AtLeast(0), Static, Reported(STREAMS);
    "group.streams.max.assignment.interval.ms", Int, "15000", AtLeast(0), Static, Reported(STREAMS);
    "group.streams.assignors", List, "sticky", Distinct, Static, Reported(STREAMS);
    "group.streams.rack.aware.assignment.tags", List, "", Distinct, Static, Reported(STREAMS);
    "group.streams.topology.description.plugin.class", Class, unset, Any, Static, Refused(JVM);
}

knobs! { SHARE_GROUPS: "Share groups",
    "group.share.delivery.count.limit", Int, "5", Between(2, 10), Static, Reported(SHARE);
    "group.share.max.delivery.count.limit", Int, "10", Between(5, 25), Static, Reported(SHARE);
    "group.share.min.delivery.count.limit", Int, "2", Between(2, 5), Static, Reported(SHARE);
    "group.share.record.lock.duration.ms", Int, "30000", Between(1000, 3600000), Static,
        Reported(SHARE);
    "group.share.min.record.lock.duration.ms", Int, "15000", Between(1000, 30000), Static,
        Reported(SHARE);
    "group.share.max.record.lock.duration.ms", Int, "60000", Between(30000, 3600000), Static,
        Reported(SHARE);
    "group.share.partition.max.record.locks", Int, "2000", Between(100, 10000), Static,
        Reported(SHARE);
    "group.share.max.partition.max.record.locks", Int, "4000", Between(2000, 10000), Static,
        Reported(SHARE);
    "group.share.min.partition.max.record.locks", Int, "100", Between(100, 2000), Static,
        Reported(SHARE);
    "share.fetch.purgatory.purge.interval.requests", Int, "1000", Any, Static, Reported(PURGATORY);
    "group.share.max.share.sessions", Int, "2000", AtLeast(1), Static, Reported(SHARE);
}

knobs! { SHARE_COORDINATOR: "Share coordinator",
    "share.coordinator.state.topic.num.partitions", Int, "50", AtLeast(1), Static, Reported(SHARE);
    "share.coordinator.state.topic.replication.factor", Short, "3", AtLeast(1), Static,
        Reported(SHARE);
    "share.coordinator.state.topic.min.isr", Short, "2", AtLeast(1), Static, Reported(SHARE);
    "share.coordinator.state.topic.segment.bytes", Int, "104857600", AtLeast(1), Static,
        Reported(SHARE);
    "share.coordinator.threads", Int, "1", AtLeast(1), Static, Reported(SHARE);
    "share.coordinator.snapshot.update.records.per.snapshot", Int, "500", Between(0, 500),
        Static, Reported(SHARE);
    "share.coordinator.load.buffer.size", Int, "5242880", AtLeast(1), Static, Reported(SHARE);
    "share.coordinator.state.topic.compression.codec", Int, "0", Any, Static, Reported(SHARE);
    "share.coordinator.append.linger.ms", Int, "-1", AtLeast(-1), Static, Reported(SHARE);
    "share.coordinator.write.timeout.ms", Int, "5000", AtLeast(1), Static, Reported(SHARE);
    "share.coordinator.cached.buffer.max.bytes", Int, "1048588", AtLeast(524288), Cluster,
        Reported(SHARE);
}
