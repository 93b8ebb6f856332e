//! The knobs that only this broker has. They are few: each one is a question an operator must
//! answer.

use super::prelude::*;

knobs! { OWN: "This broker's own",
    "corelane.cores", String, "0", Cores, Static, Honoured,
        "Cores that serve, one executor each: a count, from the first CPU that this process may \
         use; or the numbers of the CPUs, as in 0,2-3 (CPU 3 alone is 3-3). 0 takes every CPU \
         that this process may use.";
    "corelane.overprovisioned", Boolean, unset, Any, Static, Honoured,
        "The CPUs are shared with other programs: executors are not pinned and sleep as soon \
         as they are idle. Set it to false on a machine that belongs to the broker. If unset, it \
         is false where corelane.cores names CPUs, and else true.";
    "corelane.spin.us", Int, "50", Between(0, 1000000), Static, Honoured,
        "How long an idle core looks for work before it sleeps; only if not overprovisioned.";
    "corelane.memory", String, "80%", Memory, Static, Honoured,
        "Memory for requests, tails and caches of all cores together: bytes, also as in 512MiB \
         or 2GiB, or a share of what is available, or of the cgroup's limit if that is less. A \
         core needs 64 MiB. At the limit clients are held back, not refused.";
    "corelane.journal.bytes", Long, "1073741824", AtLeast(16777216), Static, Honoured,
        "Journal of one core; bounds what a restart replays.";
    "corelane.ring.entries", Int, "1024", Between(64, 32768), Static, Honoured,
        "Entries of one core's io_uring submission queue.";
    "corelane.admin.listener", String, "127.0.0.1:9644", Any, Static, Honoured,
        "Address of the HTTP server with health, metrics and administration; empty switches \
         it off.";
    "corelane.peer.listener", String, "127.0.0.1:9192", NonEmpty, Static, Honoured,
        "Address where the other nodes of the cluster connect. If unset, that of this node's own \
         entry in controller.quorum.voters; a node that is not listed there has to set it. Not \
         opened on a node that is alone.";
    "corelane.cluster.id", String, unset, NonEmpty, Static, Honoured,
        "Identity the cluster must have; a data directory of another cluster is refused. \
         Generated at the first start if unset.";
    "corelane.raft.election.timeout.ms", Int, "1000", Between(100, 60000), Static,
        Honoured,
        "A follower that hears nothing for about this long asks for an election. If the leader's \
         node as a whole is silent, two fifths of it are enough to begin to look for another one.";
    "corelane.raft.heartbeat.interval.ms", Int, "150", Between(10, 10000), Static,
        Honoured,
        "How often a leader shows its followers that it lives, one frame per peer node.";
    "corelane.shutdown.timeout.ms", Int, "30000", AtLeast(0), Static, Honoured,
        "How long a stopping node, once it has handed over its leaderships, may take to answer what \
         is under way and to write its last checkpoint, before it stops anyway.";
    "corelane.producer.ids.max", Int, "100000", AtLeast(1), Static, Honoured,
        "Producer ids remembered by one core, counted by partition; a sixteenth beyond it those \
         unused for longest go.";
    "corelane.groups.max", Int, "100000", AtLeast(1), Static, Honoured,
        "Groups of one partition of __consumer_offsets; beyond it a new group is told \
         POLICY_VIOLATION.";
    "corelane.connections.max.per.core", Int, "20000", AtLeast(1), Static, Honoured,
        "Connections of one core, whatever max.connections says; further ones are closed.";
    "max.decompressed.message.bytes", Int, "104857600", AtLeast(1), Static, Honoured,
        "Most bytes one record batch may unpack to where the broker must look inside it; a \
         larger one is refused. Those of one request together: 256 MiB, or this if it is more. \
         The name is that of a coming Kafka release.";
}
