//! How a replica starts: from a log, and what else was recovered.
//!
//! Must not know how a log is recovered. Deliberately absent: repair. What does not fit together is
//! refused with the numbers, and the owner decides.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use raft::{Config, RawNode};
use slog::{Discard, Logger, o};

use crate::members::{Members, Membership, ReplicaId};
use crate::replica::{Replica, panic_text};
use crate::store::Store;
use storage::{Condition, EntryKind, HardState, Log};

/// How a replica is set up. Ticks are the caller's: it decides how long one is.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// This replica's own identity.
    pub id: ReplicaId,
    /// The configuration that the group was created with; counts only while the log records none.
    /// A replica that joins a group later is given the group's voters *without itself*: until it
    /// has the log it must not decide anything.
    pub bootstrap: Members,
    /// Seeds the election timeouts; should differ between groups.
    pub seed: u64,
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: usize,
    /// Least number of ticks without a leader before a campaign; the most is just below twice that.
    pub election_ticks: usize,
    /// Payload bytes that may be proposed and not yet committed; beyond, proposals are refused.
    /// One proposal is always admitted, whatever its size.
    pub uncommitted_bytes_max: u64,
    /// Payload bytes in one append message; an entry larger than that travels alone.
    pub append_bytes_max: u64,
    /// Payload bytes of one entry, as much as the journal takes; larger proposals are refused.
    pub entry_bytes_max: usize,
    /// Append messages to one follower that may be unanswered; beyond, the leader waits.
    pub appends_inflight_max: usize,
    /// None but in a simulation.
    pub mutation: Option<Mutation>,
}

/// Known bugs, for simulations that must find them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// A follower acknowledges entries, and votes, before they are on stable storage.
    AckBeforeSync,
    /// A leader serves although no entry of its term is committed.
    ServeBeforeCommit,
    /// A leader believes that it leads, and asks nobody.
    ReadWithoutProof,
    /// An append that comes a second time takes away what is behind it in the log.
    StaleAppendTruncates,
}

impl ReplicaConfig {
    /// The house's defaults for a group with these members.
    pub fn new(id: ReplicaId, bootstrap: Members, seed: u64) -> ReplicaConfig {
        ReplicaConfig {
            id,
            bootstrap,
            seed,
            heartbeat_ticks: 2,
            election_ticks: 10,
            uncommitted_bytes_max: 64 << 20,
            append_bytes_max: 1 << 20,
            entry_bytes_max: 16 << 20,
            appends_inflight_max: 256,
            mutation: None,
        }
    }

    fn to_raft(&self, applied: u64) -> Config {
        Config {
            id: self.id.as_u64(),
            election_tick: self.election_ticks,
            heartbeat_tick: self.heartbeat_ticks,
            applied,
            max_size_per_msg: self.append_bytes_max,
            max_inflight_msgs: self.appends_inflight_max,
            check_quorum: true,
            pre_vote: true,
            // A follower hears of a commit with the next append or heartbeat. Only leaders serve,
            // so nobody waits for it, and every idle commit would cost a round of messages.
            skip_bcast_commit: true,
            ..Config::default()
        }
    }
}

/// A configuration and the index of the Membership entry that it stems from. Belongs into the
/// checkpoint of the partition's state, since the entry itself may be trimmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configuration {
    pub index: u64,
    pub members: Members,
}

/// Why a log cannot be opened as a replica.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the log is fenced: {0}")]
    Fenced(String),
    #[error("the vote of this replica is unknown; it must rejoin with a new identity")]
    VoteUnknown,
    #[error("the log ends at {last_index} although {index} was committed or applied")]
    EntriesLost { index: u64, last_index: u64 },
    #[error("the applied index {applied} lies before the log, which starts at {first_index}")]
    AppliedTrimmed { applied: u64, first_index: u64 },
    #[error("entry {0} is a membership record that cannot be read")]
    Membership(u64),
    #[error("uncommitted entries from {0} on are not in memory")]
    NotInMemory(u64),
    #[error("raft refused to start: {0}")]
    Refused(String),
}

/// A log that was not opened, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unopened {
    pub error: OpenError,
    /// To be kept: a checkpoint without it would forget it. `None` only if the raft crate refused what looked right,
    /// and had it then.
    pub log: Option<Box<Log>>,
}

impl Unopened {
    fn refused(reason: String) -> Unopened {
        let error = OpenError::Refused(reason);
        Unopened { error, log: None }
    }
}

impl Replica {
    /// Opens the replica of a recovered or created log.
    ///
    /// `recorded` is the newest configuration at or below the commit index (from the checkpoint
    /// and the replay after it); `None` if the log never recorded one. `applied` is what the
    /// caller's state covers; entries after it are handed out again, except those that came with a
    /// snapshot's state ([`Log::installed`]). A group's sole voter is leader when this returns,
    /// though not yet serving.
    pub fn open(
        log: Log,
        config: &ReplicaConfig,
        recorded: Option<Configuration>,
        applied: u64,
    ) -> Result<Replica, Unopened> {
        let alone = sole_voter(config, recorded.as_ref());
        let start = match starting_point(&log, alone, applied) {
            Ok(start) => start,
            Err(error) => {
                let log = Some(Box::new(log));
                return Err(Unopened { error, log });
            }
        };
        let configuration = recorded.unwrap_or_else(|| Configuration {
            index: 0,
            members: config.bootstrap.clone(),
        });
        let partition = log.id();
        let applied = applied.min(start.hard_state.commit);
        let store = start.into_store(log, &configuration, config.append_bytes_max);
        let logger = Logger::root(Discard, o!());
        let opened = catch_unwind(AssertUnwindSafe(|| {
            RawNode::new(&config.to_raft(applied), store, &logger)
        }));
        let mut node = match opened {
            Ok(Ok(node)) => node,
            Ok(Err(error)) => return Err(Unopened::refused(error.to_string())),
            Err(panic) => return Err(Unopened::refused(panic_text(&*panic))),
        };
        node.mut_store().started();
        let mut replica = Replica::new(node, partition, config, configuration, applied);
        if alone {
            replica.campaign();
        }
        Ok(replica)
    }
}

fn sole_voter(config: &ReplicaConfig, recorded: Option<&Configuration>) -> bool {
    let members = recorded.map_or(&config.bootstrap, |c| &c.members);
    members.is_sole_voter(config.id)
}

/// What a replica starts with.
struct StartingPoint {
    hard_state: HardState,
    /// Membership entries that are not yet known to be committed, with their indexes.
    memberships: Vec<(u64, Bytes)>,
}

/// Looks at a log, whether it can be opened.
fn starting_point(log: &Log, alone: bool, applied: u64) -> Result<StartingPoint, OpenError> {
    match log.condition() {
        Condition::Fenced(reason) => return Err(OpenError::Fenced(reason.clone())),
        // Nobody else can have had the vote that a sole voter forgot.
        Condition::Rebuilt if !alone => return Err(OpenError::VoteUnknown),
        _ => {}
    }
    let hard_state = starting_state(log, applied)?;
    let (low, high) = (hard_state.commit + 1, log.last_index() + 1);
    let uncommitted = match low < high {
        true => log
            .entries(low, high, u64::MAX)
            .map_err(|_| OpenError::NotInMemory(low))?,
        false => Vec::new(),
    };
    let memberships: Vec<(u64, Bytes)> = uncommitted
        .into_iter()
        .filter(|entry| entry.kind == EntryKind::Membership)
        .map(|entry| (entry.index, entry.data))
        .collect();
    for (index, data) in &memberships {
        Membership::decode(data).map_err(|_| OpenError::Membership(*index))?;
    }
    Ok(StartingPoint {
        hard_state,
        memberships,
    })
}

impl StartingPoint {
    fn into_store(self, log: Log, configuration: &Configuration, append_bytes_max: u64) -> Store {
        let members = configuration.members.clone();
        let mut store = Store::new(log, members, self.hard_state, append_bytes_max);
        for (index, data) in self.memberships {
            store.members_staged(index, data);
        }
        store
    }
}

/// The hard state to start with: what is on disk, and what follows from the log.
fn starting_state(log: &Log, applied: u64) -> Result<HardState, OpenError> {
    let (first_index, last_index) = (log.first_index(), log.last_index());
    if applied + 1 < first_index {
        return Err(OpenError::AppliedTrimmed {
            applied,
            first_index,
        });
    }
    let mut state = log.hard_state();
    // A commit index alone never causes a sync, so what is applied may be ahead of it; but what
    // came with a snapshot may be ahead of the whole log.
    state.commit = state.commit.max(log.commit());
    if applied > log.installed() {
        state.commit = state.commit.max(applied);
    }
    // Entries are staged before the hard state of their turn: a commit index is never on disk
    // without the entries that it covers, unless the disk lost some.
    if state.commit > last_index {
        return Err(OpenError::EntriesLost {
            index: state.commit,
            last_index,
        });
    }
    // For the same reason a torn turn may have left entries of a term without that term's hard
    // state. Nothing of that turn was answered, no vote either.
    let last_term = log.term(last_index).unwrap_or(0);
    if last_term > state.term {
        state.term = last_term;
        state.vote = 0;
    }
    Ok(state)
}
