//! Broker knobs of replication, node identity and the metadata quorum.
//! Names, types, defaults and ranges are Apache Kafka 4.4's.

use super::prelude::*;

knobs! { REPLICATION: "Replication",
    "controller.socket.timeout.ms", Int, "30000", Any, Static, Reported(RAFT);
    "default.replication.factor", Int, "1", AtLeast(1), Static, Honoured,
        "Replicas of a topic that is created without a factor.";
    "replica.lag.time.max.ms", Long, "30000", Any, Static, Honoured,
        "A replica that has not had the end of its leader's log for this long is not in sync.";
    "replica.socket.timeout.ms", Int, "30000", Any, Static, Reported(RAFT);
    "replica.socket.receive.buffer.bytes", Int, "65536", Any, Static, Reported(RAFT);
    "replica.fetch.max.bytes", Int, "1048576", AtLeast(0), Static, Reported(RAFT);
    "replica.fetch.wait.max.ms", Int, "500", Any, Static, Reported(RAFT);
    "replica.fetch.backoff.ms", Int, "1000", AtLeast(0), Static, Reported(RAFT);
    "replica.fetch.min.bytes", Int, "1", Any, Static, Reported(RAFT);
    "replica.fetch.response.max.bytes", Int, "10485760", AtLeast(0), Static, Reported(RAFT);
    "num.replica.fetchers", Int, "1", AtLeast(1), Cluster, Reported(RAFT);
    "replica.high.watermark.checkpoint.interval.ms", Long, "5000", Any, Static, Reported(RAFT);
    "fetch.purgatory.purge.interval.requests", Int, "1000", Any, Static, Reported(PURGATORY);
    "producer.purgatory.purge.interval.requests", Int, "1000", Any, Static, Reported(PURGATORY);
    "delete.records.purgatory.purge.interval.requests", Int, "1", Any, Static, Reported(PURGATORY);
    "auto.leader.rebalance.enable", Boolean, "true", Any, Static, Honoured,
        "Leads go back to the first replica of a partition when its node has been back for some \
         seconds.";
    "leader.imbalance.check.interval.seconds", Long, "300", AtLeast(1), Static, Reported(BALANCE);
    "unclean.leader.election.enable", Boolean, "false", Any, Cluster, Reported(CLEAN_ONLY);
    "security.inter.broker.protocol", String, "PLAINTEXT", OneOf(SECURITY_PROTOCOLS), Static,
        Refused(SECURITY);
    "inter.broker.listener.name", String, unset, Any, Static, Reported(PEER_LISTENER);
    "replica.selector.class", String, unset, OneOf(REPLICA_SELECTORS), Static, Honoured,
        "Which replica serves a consumer that names its client.rack: the leader (unset, or \
         LeaderSelector), or an in-sync replica on a node with the same broker.rack.";
    "follower.fetch.last.tiered.offset.enable", Boolean, "false", Any, Cluster, Reported(TIERED);
}

knobs! { NODE: "Node and liveness",
    "process.roles", List, "broker,controller", EachOf(&["broker", "controller"]), Static,
        Reported(ROLES);
    "node.id", Int, "1", AtLeast(0), Static, Honoured,
        "This node's number, unique in its cluster. Differs from Kafka: optional, 1 if unset.";
    "initial.broker.registration.timeout.ms", Int, "60000", Any, Static, Reported(KRAFT);
    "broker.heartbeat.interval.ms", Int, "2000", AtLeast(1), Static, Reported(LINKS),
        "How often a node tells the metadata leader that it lives.";
    "broker.session.timeout.ms", Int, "9000", AtLeast(1), Static, Honoured,
        "Without a heartbeat for this long a node counts as gone.";
    "controller.listener.names", List, "CONTROLLER", Distinct, Static, Honoured,
        "Names that Kafka gives to the listeners of its controllers. They are left out of \
         listeners: nodes talk on corelane.peer.listener.";
    "sasl.mechanism.controller.protocol", String, "GSSAPI", Any, Static, Refused(SECURITY);
}

knobs! { QUORUM: "Metadata quorum",
    "controller.quorum.voters", List, "", Any, Static, Honoured,
        "The first nodes of the cluster as id@host:port of their peer listeners, the same list on \
         every node: they found it together, and nodes that come later ask them. Empty: a cluster \
         of one.";
    "controller.quorum.bootstrap.servers", List, "", Any, Static, Reported(VOTERS_LISTED);
    "controller.quorum.election.timeout.ms", Int, "1000", AtLeast(0), Static, Reported(KRAFT);
    "controller.quorum.fetch.timeout.ms", Int, "2000", AtLeast(0), Static, Reported(KRAFT);
    "controller.quorum.election.backoff.max.ms", Int, "1000", AtLeast(0), Static, Reported(KRAFT);
    "controller.quorum.append.linger.ms", Int, "25", AtLeast(0), Static, Reported(KRAFT);
    "controller.quorum.request.timeout.ms", Int, "2000", AtLeast(0), Static, Reported(KRAFT);
    "controller.quorum.retry.backoff.ms", Int, "20", AtLeast(0), Static, Reported(KRAFT);
    "controller.quorum.auto.join.enable", Boolean, "false", Any, Static, Reported(KRAFT);
    "controller.quorum.fetch.snapshot.max.bytes", Int, "1048576", AtLeast(1), Static,
        Reported(KRAFT);
    "controller.quorum.fetch.max.bytes", Int, "1048576", AtLeast(1), Static, Reported(KRAFT);
}

knobs! { METADATA_LOG: "Metadata log",
    "metadata.log.max.record.bytes.between.snapshots", Long, "20971520", AtLeast(1), Static,
        Reported(KRAFT);
    "metadata.log.max.snapshot.interval.ms", Long, "3600000", AtLeast(0), Static, Reported(KRAFT);
    "metadata.log.dir", String, unset, Any, Static, Reported(KRAFT);
    "metadata.log.segment.bytes", Int, "1073741824", AtLeast(8388608), Static, Reported(KRAFT);
    "metadata.log.segment.ms", Long, "604800000", Any, Static, Reported(KRAFT);
    "metadata.max.retention.bytes", Long, "104857600", Any, Static, Reported(KRAFT);
    "metadata.max.retention.ms", Long, "604800000", Any, Static, Reported(KRAFT);
    "metadata.max.idle.interval.ms", Int, "500", AtLeast(0), Static, Reported(KRAFT);
}
