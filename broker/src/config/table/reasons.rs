//! The sentences that say why a knob changes nothing here, or why only its default is accepted.

// Accepted, without effect.

pub(super) const SYNCED: &str = "Every acknowledgement is synced to stable storage first, so any \
    flush interval is met already.";
pub(super) const NO_CHECKPOINTS: &str =
    "State is rebuilt from the log and the journal; there are no checkpoint files.";
pub(super) const PREALLOCATED: &str = "Every write goes to the journal first, whose files are \
    always allocated ahead; segments are written behind it in large pieces.";
pub(super) const CORES: &str =
    "There are no thread pools to size: corelane.cores says how many cores do all the work.";
pub(super) const ONE_DISK: &str = "A node keeps its data in one directory and fails with it; \
    replicas do not move between directories.";
pub(super) const INTER_BROKER: &str =
    "Nodes talk over links of their own, which have limits and times of their own.";
pub(super) const ONE_START: &str =
    "All listeners open at the same moment, when the node is ready to serve.";
pub(super) const GRACEFUL: &str = "A stop by signal is always a controlled one: what is under \
    way is answered, and a checkpoint written.";
pub(super) const SOCKET_BUFFERS: &str = "The kernel sizes socket buffers by itself.";
pub(super) const NO_AUTHENTICATION: &str =
    "Read when a client fails to authenticate; this version has no authentication.";
pub(super) const QUEUED: &str = "There is no queue of requests to size: what is under way is \
    bounded by its bytes (queued.max.request.bytes) and, by connection, by its number.";
pub(super) const COMPACTS: &str = "As in Kafka it matters to compacted topics only, and \
    cleanup.policy=compact is refused in this version.";
pub(super) const NO_CLEANER: &str =
    "The cleaner compacts topics, and log compaction is not available in this version.";
pub(super) const PROTOCOLS: &str = "The classic protocol is always served, and the only one.";
pub(super) const TURNS: &str = "Writes are batched by turn, not by timer.";
pub(super) const LOADING: &str =
    "State is loaded and written with buffers that are sized by what is there.";
pub(super) const INTERNAL_CODEC: &str = "Internal topics are stored uncompressed.";
pub(super) const QUOTAS: &str = "Read by quotas, which are not available in this version.";
pub(super) const METRICS: &str =
    "Metrics are served over HTTP by corelane.admin.listener; there are no reporters.";
pub(super) const TELEMETRY: &str = "Client metrics are not collected in this version.";
pub(super) const RAFT: &str = "Replicas follow by Raft and have no fetchers to tune.";
pub(super) const CLEAN_ONLY: &str = "It permits what Raft never does: no leader is elected that \
    lacks committed records.";
pub(super) const BALANCE: &str = "Leads are looked at once a second.";
pub(super) const PURGATORY: &str =
    "A waiting request is woken by what it waits for; nothing is left behind to purge.";
pub(super) const PEER_LISTENER: &str =
    "Nodes talk to each other on corelane.peer.listener, which serves no clients.";
pub(super) const ROLES: &str = "Every node is a broker and takes part in the metadata quorum.";
pub(super) const KRAFT: &str =
    "The cluster's metadata is a Raft group that sizes and times itself.";
pub(super) const VOTERS_LISTED: &str = "Nodes find the cluster through controller.quorum.voters.";
pub(super) const LINKS: &str = "The links between nodes keep themselves alive, ten times a second.";
pub(super) const CONSUMER_PROTOCOL: &str =
    "Read by the consumer protocol (KIP-848), which is not available in this version.";
pub(super) const NO_TRANSACTIONS: &str =
    "Read by transactions, which are not available in this version.";
pub(super) const SHARE: &str = "Share groups are not available in this version.";
pub(super) const STREAMS: &str = "Streams groups are not available in this version.";
pub(super) const TIERED: &str = "As in Kafka it matters to tiered storage only, which is not \
    available in this version (remote.storage.enable=true is refused).";
pub(super) const DEAD_LETTERS: &str =
    "Read by the dead-letter queues of share groups, which are not available in this version.";

// Refused, except for the default.

pub(super) const COMPACTION: &str =
    "Log compaction is not available in this version; only cleanup.policy=delete is.";
pub(super) const TIERING: &str = "Tiered storage is not available in this version.";
pub(super) const ONE_DIRECTORY: &str = "A node has one data directory and cannot cordon it.";
pub(super) const JVM: &str = "It asks for Java code to be loaded, which this broker never does.";
pub(super) const SECURITY: &str =
    "TLS and SASL are not available in this version; only PLAINTEXT listeners are served.";
pub(super) const AUTHORIZING: &str =
    "Authorization is not available in this version: every client may do everything.";
pub(super) const TOKENS: &str = "Delegation tokens are not available in this version.";
pub(super) const TWO_PHASE: &str =
    "Transactions prepared by an external coordinator are not available in this version.";
