//! What a node makes of its log: the term of every entry that it applied and the offset after it.
//! As bytes it goes into checkpoints and snapshots, with the configuration, as the owner's state.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft_group::members::Step;
use raft_group::{Configuration, Membership};
use storage::{EntriesPlan, EntryKind, Log};

/// By index: the term, and the offset after the entry.
pub type Applied = BTreeMap<u64, (u64, i64)>;

/// The last index that was applied.
pub fn last_of(applied: &Applied) -> u64 {
    applied.last_key_value().map_or(0, |(index, _)| *index)
}

pub fn encode(configuration: &Configuration, applied: &Applied) -> Bytes {
    let record = Membership {
        step: Step::Declare,
        members: configuration.members.clone(),
    };
    let record = record.encode();
    let mut out = BytesMut::new();
    out.put_u64_le(configuration.index);
    out.put_u32_le(record.len() as u32);
    out.put_slice(&record);
    for (index, (term, offset)) in applied {
        out.put_u64_le(*index);
        out.put_u64_le(*term);
        out.put_i64_le(*offset);
    }
    out.freeze()
}

/// Nothing for a log that was in no checkpoint yet.
pub fn decode(mut state: Bytes) -> (Option<Configuration>, Applied) {
    if state.is_empty() {
        return (None, Applied::new());
    }
    let index = state.get_u64_le();
    let len = state.get_u32_le() as usize;
    let members = Membership::decode(&state.split_to(len)).unwrap().members;
    // Before the log has recorded any, the group's creator says who belongs to it.
    let recorded = (index > 0).then_some(Configuration { index, members });
    let mut applied = Applied::new();
    while state.has_remaining() {
        let index = state.get_u64_le();
        applied.insert(index, (state.get_u64_le(), state.get_i64_le()));
    }
    (recorded, applied)
}

/// What a node does with its log at start-up: applies what is known to be committed again, from
/// where its state ends.
pub async fn replay(
    disk: &runtime::Disk,
    log: &Log,
    state: Bytes,
) -> (Option<Configuration>, Applied) {
    let (mut recorded, mut applied) = decode(state);
    let commit = log.commit().max(log.hard_state().commit);
    while last_of(&applied) < commit {
        let entries = match log.plan_entries(last_of(&applied) + 1, commit + 1, 10_000) {
            EntriesPlan::Memory(entries) => entries,
            EntriesPlan::Disk(job) => job.run(disk).await.unwrap(),
            EntriesPlan::Compacted => panic!("the state ends at {}", last_of(&applied)),
        };
        assert!(!entries.is_empty(), "{log:?}");
        for entry in entries {
            let newer = recorded
                .as_ref()
                .is_none_or(|known| known.index < entry.index);
            if entry.kind == EntryKind::Membership && newer {
                let members = Membership::decode(&entry.data).unwrap().members;
                recorded = Some(Configuration {
                    index: entry.index,
                    members,
                });
            }
            let after = entry.base_offset + i64::from(entry.offset_count);
            applied.insert(entry.index, (entry.term, after));
        }
    }
    (recorded, applied)
}
