//! The configs of one group and of one client-metrics subscription.

use super::prelude::*;

knobs! { GROUP: "Groups",
    "consumer.session.timeout.ms", Int, "45000", AtLeast(1), Cluster, Reported(CONSUMER_PROTOCOL),
        "Without a heartbeat for this long a member is removed from the group.";
    "consumer.heartbeat.interval.ms", Int, "5000", AtLeast(1), Cluster, Reported(CONSUMER_PROTOCOL),
        "How often members are told to send a heartbeat.";
    "consumer.assignment.interval.ms", Int, "1000", AtLeast(0), Cluster,
        Reported(CONSUMER_PROTOCOL),
        "Least time between two assignments of the group.";
    "share.session.timeout.ms", Int, "45000", AtLeast(1), Cluster, Reported(SHARE);
    "share.heartbeat.interval.ms", Int, "5000", AtLeast(1), Cluster, Reported(SHARE);
    "share.record.lock.duration.ms", Int, "30000", AtLeast(1000), Cluster, Reported(SHARE);
    "share.delivery.count.limit", Int, "5", AtLeast(2), Cluster, Reported(SHARE);
    "share.partition.max.record.locks", Int, "2000", AtLeast(100), Cluster, Reported(SHARE);
    "share.auto.offset.reset", String, "latest", OffsetReset, Cluster, Reported(SHARE);
    "share.isolation.level", String, "read_uncommitted", OneOf(&["read_committed",
        "read_uncommitted"]), Cluster, Reported(SHARE);
    "share.renew.acknowledge.enable", Boolean, "true", Any, Cluster, Reported(SHARE);
    "share.assignment.interval.ms", Int, "1000", AtLeast(0), Cluster, Reported(SHARE);
    "streams.session.timeout.ms", Int, "45000", AtLeast(1), Cluster, Reported(STREAMS);
    "streams.heartbeat.interval.ms", Int, "5000", AtLeast(1), Cluster, Reported(STREAMS);
    "streams.num.standby.replicas", Int, "0", AtLeast(0), Cluster, Reported(STREAMS);
    "streams.initial.rebalance.delay.ms", Int, "3000", AtLeast(0), Cluster, Reported(STREAMS);
    "streams.assignment.interval.ms", Int, "1000", AtLeast(0), Cluster, Reported(STREAMS);
    "streams.rack.aware.assignment.tags", List, "", Distinct, Cluster, Reported(STREAMS);
    "streams.assignor.name", String, unset, Any, Cluster, Reported(STREAMS);
    "errors.deadletterqueue.topic.name", String, "", Any, Cluster, Reported(DEAD_LETTERS);
    "errors.deadletterqueue.copy.record.enable", Boolean, "false", Any, Cluster,
        Reported(DEAD_LETTERS);
}

knobs! { CLIENT_METRICS: "Client metrics subscriptions",
    "metrics", List, "", Distinct, Cluster, Reported(TELEMETRY);
    "interval.ms", Int, "300000", Between(100, 3600000), Cluster, Reported(TELEMETRY);
    "match", List, "", Distinct, Cluster, Reported(TELEMETRY);
}

/// The broker config that a group inherits `name` from.
pub fn broker_synonym(name: &str) -> Option<&'static str> {
    Some(match name {
        "consumer.session.timeout.ms" => "group.consumer.session.timeout.ms",
        "consumer.heartbeat.interval.ms" => "group.consumer.heartbeat.interval.ms",
        "consumer.assignment.interval.ms" => "group.consumer.assignment.interval.ms",
        "share.session.timeout.ms" => "group.share.session.timeout.ms",
        "share.heartbeat.interval.ms" => "group.share.heartbeat.interval.ms",
        "share.record.lock.duration.ms" => "group.share.record.lock.duration.ms",
        "share.delivery.count.limit" => "group.share.delivery.count.limit",
        "share.partition.max.record.locks" => "group.share.partition.max.record.locks",
        "share.assignment.interval.ms" => "group.share.assignment.interval.ms",
        "streams.session.timeout.ms" => "group.streams.session.timeout.ms",
        "streams.heartbeat.interval.ms" => "group.streams.heartbeat.interval.ms",
        "streams.num.standby.replicas" => "group.streams.num.standby.replicas",
        "streams.initial.rebalance.delay.ms" => "group.streams.initial.rebalance.delay.ms",
        "streams.assignment.interval.ms" => "group.streams.assignment.interval.ms",
        "streams.rack.aware.assignment.tags" => "group.streams.rack.aware.assignment.tags",
        _ => return None,
    })
}
