//! What is compared with the model: whole logs after a restart, and reads in between.

use bytes::Bytes;
use storage::{
    Condition, EntriesPlan, PartitionId, ReadError, ReadPlan, TimestampFound, TimestampPlan,
};

use crate::partition::{ModelEntry, State};
use crate::scenario::{Owner, World};

impl Owner {
    /// Every partition is in a state that the model allows. After a restart that state is what
    /// counts from now on, else only the newest one will do.
    pub async fn compare_all(&mut self, restarted: bool) {
        let ids: Vec<PartitionId> = {
            let world = self.world.borrow();
            for id in self.logs.keys() {
                assert!(world.partitions.contains_key(id), "{id} was never staged");
            }
            world.partitions.keys().copied().collect()
        };
        for id in ids {
            if self.world.borrow().damaged {
                self.compare_beside_damage(id).await;
                continue;
            }
            let found = match self.logs.get(&id) {
                // A log that was created and of which nothing was staged.
                Some(log) if !restarted && log.last_index() == 0 && log.first_index() == 1 => {
                    let found = self.read_state(id).await;
                    let pristine = State {
                        exists: true,
                        ..State::default()
                    };
                    (found != pristine || self.world.borrow().partitions[&id].now().exists)
                        .then_some(found)
                }
                Some(_) => Some(self.read_state(id).await),
                None => None,
            };
            let mut world = self.world.borrow_mut();
            let partition = world.partitions.get_mut(&id).unwrap();
            let allowed = partition.versions.iter().rposition(|(_, s)| match &found {
                None => !s.exists,
                Some(found) => s.exists && matches(found, s),
            });
            let Some(i) = allowed else {
                panic!(
                    "{id}: found {}, allowed {}",
                    found.map_or("nothing".into(), |f| summary(&f)),
                    partition
                        .versions
                        .iter()
                        .map(|v| summary(&v.1))
                        .collect::<Vec<_>>()
                        .join(" ")
                );
            };
            let state = partition.versions[i].1.clone();
            if !restarted {
                assert_eq!(state, *partition.now(), "{id}");
                continue;
            }
            // A log that begins with a reset is worth nothing without the state that came along.
            let applied = self.applied.get(&id).copied().unwrap_or(0);
            assert!(
                applied >= state.installed,
                "{id}: the state stands at {applied}, {} was installed",
                state.installed
            );
            let commit = self.logs.get(&id).map_or(0, |l| l.commit());
            if found.is_some() {
                assert!(state.hard_state.commit.min(state.last_index()) <= commit);
                assert_eq!(
                    self.logs[&id].high_watermark(),
                    state.offset_after(commit),
                    "{id}"
                );
            }
            partition.survived(state, commit);
            world.coverage.survived_late += u64::from(i > 0);
        }
    }

    /// After damage a partition may be fenced or unreadable, but never wrong.
    async fn compare_beside_damage(&self, id: PartitionId) {
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        let closing = id.topic == 8; // Its last turn is the one that nobody can vouch for.
        if closing || matches!(log.condition(), Condition::Fenced(_)) {
            return;
        }
        let found = self.try_read_state(id).await;
        let mut shared = self.world.borrow_mut();
        let world = &mut *shared;
        let Ok(found) = found else {
            world.coverage.failed_reads += 1;
            return;
        };
        let rebuilt = *log.condition() == Condition::Rebuilt;
        let versions = &world.partitions[&id].versions;
        let allowed = versions.iter().any(|(_, s)| s.exists && matches(&found, s));
        // What was rebuilt may lack what was not drained, and the vote.
        let partly = rebuilt && versions.iter().any(|(_, s)| begins_like(&found, s));
        assert!(
            allowed || partly,
            "{id}: found {}, allowed {}",
            summary(&found),
            versions
                .iter()
                .map(|v| summary(&v.1))
                .collect::<Vec<_>>()
                .join(" ")
        );
        world.coverage.healthy_beside_damage += 1;
    }

    /// Everything that can be read of a log, by index.
    pub async fn read_state(&self, id: PartitionId) -> State {
        assert_eq!(*self.logs[&id].condition(), Condition::Healthy, "{id}");
        self.try_read_state(id).await.expect("readable")
    }

    pub async fn try_read_state(&self, id: PartitionId) -> Result<State, ReadError> {
        let log = &self.logs[&id];
        let mut state = State {
            exists: true,
            base_index: log.first_index() - 1,
            base_term: log.term(log.first_index() - 1).unwrap_or(u64::MAX),
            hard_state: log.hard_state(),
            ..State::default()
        };
        let mut low = log.first_index();
        let high = log.last_index() + 1;
        while low < high {
            let max_bytes = self.world.borrow_mut().random.below(20_000);
            let entries = match log.plan_entries(low, high, max_bytes) {
                EntriesPlan::Memory(entries) => entries,
                EntriesPlan::Disk(job) => job.run(self.core.disk()).await?,
                EntriesPlan::Compacted => panic!("{id}: {low} is not below the first index"),
            };
            assert!(!entries.is_empty(), "{id}: nothing at {low} of {high}");
            for entry in entries {
                assert_eq!(entry.index, low);
                if state.entries.is_empty() {
                    state.base_offset = entry.base_offset;
                }
                assert_eq!(log.term(low), Some(entry.term), "{id}: term of {low}");
                state.entries.push(ModelEntry {
                    term: entry.term,
                    kind: entry.kind,
                    base_offset: entry.base_offset,
                    end_offset: entry.base_offset + i64::from(entry.offset_count),
                    timestamp: entry.max_timestamp,
                    data: entry.data,
                });
                low += 1;
            }
        }
        if state.entries.is_empty() {
            state.base_offset = log.next_offset();
        }
        assert_eq!(state.next_offset(), log.next_offset(), "{id}");
        Ok(state)
    }

    pub async fn read_some(&mut self) {
        let ids: Vec<PartitionId> = self.logs.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.world.borrow_mut().random.below(ids.len() as u64) as usize];
        let disk = self.core.disk().clone();
        let log = &self.logs[&id];
        let (offset, plan, expected, by_time) = {
            let mut world = self.world.borrow_mut();
            let World {
                random, partitions, ..
            } = &mut *world;
            let state = partitions[&id].now();
            let start = log.log_start_offset();
            let offset = start + random.below((log.next_offset() - start) as u64 + 1) as i64;
            let max_bytes = random.below(12_000) as usize;
            let min_one = random.one_in(2);
            let end = log.high_watermark();
            assert!(matches!(
                log.read(start - 1, 1, end, true),
                ReadPlan::OutOfRange
            ));
            let plan = log.read(offset, max_bytes, end, min_one);
            let mut expected = Vec::new();
            let mut bytes = 0;
            for e in state.batches().filter(|e| e.end_offset > offset) {
                let fits = bytes + e.data.len() <= max_bytes || (min_one && expected.is_empty());
                if e.end_offset > end || !fits {
                    break;
                }
                bytes += e.data.len();
                expected.push(e.data.clone());
            }
            let timestamp = 900 + random.below(5200) as i64;
            let found = state
                .batches()
                .find(|e| e.end_offset > start && e.timestamp >= timestamp);
            (
                offset,
                plan,
                expected,
                (timestamp, found.map(|e| e.data.clone())),
            )
        };
        match plan {
            ReadPlan::OutOfRange => panic!("{id}: in range"),
            ReadPlan::Memory(found) => {
                assert_eq!(found, expected, "{id}");
                self.world.borrow_mut().coverage.memory_reads += 1;
            }
            ReadPlan::Disk(job) => {
                let found = job.run(&disk).await.expect("readable");
                assert!(
                    found.len() <= expected.len() && found == expected[..found.len()],
                    "{id}"
                );
                // Between batches (commands take offsets, too) the next one may be in memory.
                if found.is_empty() && !expected.is_empty() {
                    let base = i64::from_be_bytes(expected[0][..8].try_into().unwrap());
                    assert!(base > offset, "{id}: nothing at {offset}");
                }
                self.world.borrow_mut().coverage.disk_reads += 1;
            }
        }
        self.read_by_time(id, by_time).await;
    }

    async fn read_by_time(&self, id: PartitionId, (timestamp, expected): (i64, Option<Bytes>)) {
        let disk = self.core.disk().clone();
        let mut from = 0;
        let found = loop {
            match self.logs[&id].find_by_timestamp(timestamp, from) {
                TimestampPlan::Memory(found) => break found,
                TimestampPlan::Disk(job) => match job.run(&disk).await.expect("readable") {
                    TimestampFound::Batch(found) => break Some(found),
                    TimestampFound::SearchFrom(offset) => from = offset,
                },
            }
        };
        assert_eq!(found, expected, "{id} at {timestamp}");
        let log = &self.logs[&id];
        let world = self.world.borrow();
        let state = world.partitions[&id].now();
        let newest = state
            .batches()
            .filter(|e| e.end_offset > log.log_start_offset())
            .map(|e| (e.timestamp, -e.base_offset))
            .max();
        // A segment's own maximum may lie below the log start offset: it is a bound then.
        if log.log_start_offset() == 0 {
            assert_eq!(log.max_timestamp(), newest.map(|(t, o)| (t, -o)), "{id}");
        }
        let epoch = state.last_term() as i32;
        if !state.entries.is_empty() {
            assert_eq!(
                log.epoch_end_offset(epoch),
                Some((epoch, log.next_offset())),
                "{id}"
            );
        }
    }
}

/// Whether what was found (which may begin later, where segments were removed) is `state`.
fn matches(found: &State, state: &State) -> bool {
    let skip = match found.base_index.checked_sub(state.base_index) {
        Some(skip) if skip as usize <= state.entries.len() => skip as usize,
        _ => return false,
    };
    found.hard_state == state.hard_state
        && found.entries == state.entries[skip..]
        && found.next_offset() == state.next_offset()
        && found.base_term == state.term(found.base_index)
}

/// Whether the entries that were found are the first ones of `state`.
fn begins_like(found: &State, state: &State) -> bool {
    let skip = found.base_index.checked_sub(state.base_index);
    let entries = skip.and_then(|skip| state.entries.get(skip as usize..));
    entries.is_some_and(|entries| entries.starts_with(&found.entries))
}

fn summary(s: &State) -> String {
    if !s.exists {
        return "(absent)".into();
    }
    format!(
        "({}..={} of terms {}..{}, next offset {}, {:?})",
        s.base_index + 1,
        s.last_index(),
        s.base_term,
        s.last_term(),
        s.next_offset(),
        s.hard_state
    )
}
