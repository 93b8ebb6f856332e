//! Broker knobs of the server itself: limits, sockets, quotas, telemetry.
//! Names, types, defaults and ranges are Apache Kafka 4.4's.

use super::prelude::*;

knobs! { SERVER: "Server",
    "broker.id", Int, "-1", Any, Static, Honoured,
        "The old name of node.id, read if node.id is not set; -1 is unset.";
    "message.max.bytes", Int, "1048588", AtLeast(0), Cluster, Honoured,
        "Largest record batch that is accepted, after compression.";
    "num.io.threads", Int, "8", AtLeast(1), Cluster, Reported(CORES);
    "num.replica.alter.log.dirs.threads", Int, unset, Any, Static, Reported(ONE_DISK);
    "background.threads", Int, "10", AtLeast(1), Cluster, Reported(CORES);
    "request.timeout.ms", Int, "30000", Any, Static, Reported(INTER_BROKER);
    "socket.connection.setup.timeout.ms", Long, "10000", Any, Static, Reported(INTER_BROKER);
    "socket.connection.setup.timeout.max.ms", Long, "30000", Any, Static, Reported(INTER_BROKER);
    "config.providers", List, "", Any, Cluster, Refused(JVM);
    "authorizer.class.name", String, "", Any, Static, Refused(AUTHORIZING);
    "early.start.listeners", List, unset, Distinct, Static, Reported(ONE_START);
    "broker.rack", String, unset, Any, Static, Honoured,
        "Where this node stands; replicas are spread over racks.";
    "controlled.shutdown.enable", Boolean, "true", Any, Static, Reported(GRACEFUL);
    "delete.topic.enable", Boolean, "true", Any, Static, Honoured,
        "Whether clients may delete topics.";
    "compression.type", String, "producer", OneOf(CODECS), Cluster, Honoured,
        "Codec that batches are stored with; producer keeps them as they came.";
    "compression.gzip.level", Int, "-1", GzipLevel, Cluster, Honoured,
        "Level of gzip, if compression.type is gzip; -1 is the codec's default.";
    "compression.lz4.level", Int, "9", Between(1, 17), Cluster, Honoured,
        "Level of lz4, if compression.type is lz4.";
    "compression.zstd.level", Int, "3", Between(-131072, 22), Cluster, Honoured,
        "Level of zstd, if compression.type is zstd.";
    "max.incremental.fetch.session.cache.slots", Int, "1000", AtLeast(0), Static, Honoured,
        "Incremental fetch sessions kept on this node; beyond it the least recently used \
         goes.";
    "fetch.max.bytes", Int, "57671680", AtLeast(1024), Static, Honoured,
        "Most bytes one fetch response carries.";
    "max.request.partition.size.limit", Int, "2000", AtLeast(1), Static, Honoured,
        "Most partitions in one answer of DescribeTopicPartitions; the client asks for the rest.";
}

knobs! { SOCKETS: "Listeners and connections",
    "listeners", List, "PLAINTEXT://127.0.0.1:9092", Distinct, Static, Honoured,
        "Where clients connect, as NAME://host:port,... Differs from Kafka: loopback only until \
         told otherwise.";
    "advertised.listeners", List, unset, Distinct, Static, Honoured,
        "What the clients of each listener are told to connect to, as NAME://host:port,...; a \
         listener that is not named here tells its own address, or the host's name where it is \
         bound to every interface.";
    "listener.security.protocol.map", String,
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL", Any,
        Static, Honoured,
        "The security protocol of each listener name, as NAME:PLAINTEXT,... Only PLAINTEXT is \
         served in this version.";
    "socket.send.buffer.bytes", Int, "102400", Any, Static, Reported(SOCKET_BUFFERS);
    "socket.receive.buffer.bytes", Int, "102400", Any, Static, Reported(SOCKET_BUFFERS);
    "socket.request.max.bytes", Int, "104857600", AtLeast(1), Static, Honoured,
        "Largest request frame; a larger one closes the connection before memory is reserved.";
    "socket.listen.backlog.size", Int, "50", AtLeast(1), Static, Honoured,
        "Connections the kernel queues before they are accepted.";
    "max.connections.per.ip", Int, "2147483647", AtLeast(0), Cluster, Honoured,
        "Connections from one address; further ones are closed.";
    "max.connections.per.ip.overrides", String, "", AddressLimits, Cluster, Honoured,
        "Connections from single addresses, in place of max.connections.per.ip.";
    "max.connections", Int, "2147483647", AtLeast(0), Cluster, Honoured,
        "Connections to this node; further ones are closed. Also for one listener: \
         listener.name.<listener>.max.connections.";
    "max.connection.creation.rate", Int, "2147483647", AtLeast(0), Cluster, Honoured,
        "New connections a second; further ones wait, each up to a second and those behind it in \
         the kernel's queue. Also for one listener: \
         listener.name.<listener>.max.connection.creation.rate.";
    "connections.max.idle.ms", Long, "600000", Any, Static, Honoured,
        "A connection without a request for this long is closed; negative keeps it.";
    "connection.failed.authentication.delay.ms", Int, "100", AtLeast(0), Static,
        Reported(NO_AUTHENTICATION);
    "queued.max.requests", Int, "500", AtLeast(1), Static, Reported(QUEUED);
    "queued.max.request.bytes", Long, "-1", Any, Static, Honoured,
        "Bytes of requests that may be under way on this node, shared out among its cores; beyond \
         it nothing is read. Negative: as many as corelane.memory leaves for them.";
    "num.network.threads", Int, "3", AtLeast(1), Cluster, Reported(CORES);
}

knobs! { QUOTA: "Quotas",
    "quota.window.num", Int, "11", AtLeast(1), Static, Reported(QUOTAS);
    "replication.quota.window.num", Int, "11", AtLeast(1), Static, Reported(QUOTAS);
    "alter.log.dirs.replication.quota.window.num", Int, "11", AtLeast(1), Static, Reported(QUOTAS);
    "controller.quota.window.num", Int, "11", AtLeast(1), Static, Reported(QUOTAS);
    "quota.window.size.seconds", Int, "1", AtLeast(1), Static, Reported(QUOTAS);
    "replication.quota.window.size.seconds", Int, "1", AtLeast(1), Static, Reported(QUOTAS);
    "alter.log.dirs.replication.quota.window.size.seconds", Int, "1", AtLeast(1), Static,
        Reported(QUOTAS);
    "controller.quota.window.size.seconds", Int, "1", AtLeast(1), Static, Reported(QUOTAS);
    "client.quota.callback.class", Class, unset, Any, Static, Refused(JVM);
    "leader.replication.throttled.rate", Long, "9223372036854775807", AtLeast(0), Cluster, Honoured,
        "Bytes a second that the node reads for the followers that \
         leader.replication.throttled.replicas is about.";
    "follower.replication.throttled.rate", Long, "9223372036854775807", AtLeast(0), Cluster,
        Honoured,
        "Bytes a second that the node is sent for its replicas that \
         follower.replication.throttled.replicas names.";
    "replica.alter.log.dirs.io.max.bytes.per.second", Long, "9223372036854775807", AtLeast(0),
        Cluster, Reported(ONE_DISK);
}

knobs! { REPORTING: "Telemetry and metrics",
    "metrics.num.samples", Int, "2", AtLeast(1), Static, Reported(METRICS);
    "metrics.sample.window.ms", Long, "30000", AtLeast(1), Static, Reported(METRICS);
    "metric.reporters", List, "org.apache.kafka.common.metrics.JmxReporter", Any, Cluster,
        Reported(METRICS);
    "metrics.recording.level", String, "INFO", Any, Static, Reported(METRICS);
    "kafka.metrics.reporters", List, "", Distinct, Static, Reported(METRICS);
    "kafka.metrics.polling.interval.secs", Int, "10", AtLeast(1), Static, Reported(METRICS);
    "telemetry.max.bytes", Int, "1048576", AtLeast(1), Static, Reported(TELEMETRY);
}
