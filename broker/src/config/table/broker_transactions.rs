//! Broker knobs of producer ids and transactions.
//! Names, types, defaults and ranges are Apache Kafka 4.4's.

use super::prelude::*;

knobs! { TRANSACTIONS: "Transactions",
    "transaction.state.log.min.isr", Int, "2", AtLeast(1), Static, Reported(NO_TRANSACTIONS),
        "min.insync.replicas of __transaction_state.";
    "transaction.state.log.load.buffer.size", Int, "5242880", AtLeast(1), Static,
        Reported(NO_TRANSACTIONS);
    "transaction.state.log.replication.factor", Short, "3", AtLeast(1), Static,
        Reported(NO_TRANSACTIONS),
        "Replicas of __transaction_state; a smaller cluster uses all the nodes it has.";
    "transaction.state.log.num.partitions", Int, "50", AtLeast(1), Static,
        Reported(NO_TRANSACTIONS),
        "Partitions of __transaction_state; fixed once the topic exists.";
    "transaction.state.log.segment.bytes", Int, "104857600", AtLeast(1), Static,
        Reported(NO_TRANSACTIONS),
        "Segment size of __transaction_state.";
    "transaction.partition.verification.enable", Boolean, "true", Any, Cluster,
        Reported(NO_TRANSACTIONS);
    "producer.id.expiration.ms", Int, "86400000", AtLeast(1), Cluster, Honoured,
        "How long an idle producer id is remembered by a partition.";
    "transactional.id.expiration.ms", Int, "604800000", AtLeast(1), Static,
        Reported(NO_TRANSACTIONS),
        "How long an idle transactional id is remembered.";
    "transaction.max.timeout.ms", Int, "900000", AtLeast(1), Static, Reported(NO_TRANSACTIONS),
        "Longest transaction timeout a producer may ask for.";
    "transaction.abort.timed.out.transaction.cleanup.interval.ms", Int, "10000", AtLeast(1),
        Static, Reported(NO_TRANSACTIONS),
        "How often transactions that ran out of time are aborted.";
    "transaction.remove.expired.transaction.cleanup.interval.ms", Int, "3600000", AtLeast(1),
        Static, Reported(NO_TRANSACTIONS),
        "How often expired transactional ids are removed.";
    "transaction.two.phase.commit.enable", Boolean, "false", Any, Static, Refused(TWO_PHASE);
    "add.partitions.to.txn.retry.backoff.max.ms", Int, "100", AtLeast(0), Static,
        Reported(NO_TRANSACTIONS);
    "add.partitions.to.txn.retry.backoff.ms", Int, "20", AtLeast(1), Static,
        Reported(NO_TRANSACTIONS);
}
