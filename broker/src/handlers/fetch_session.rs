//! Fetch sessions (KIP-227): what a consumer fetches, remembered, so that it sends and gets only what changed.
//!
//! A session lives on the core of the connection that began it. A client that continues it through another
//! connection is told FETCH_SESSION_ID_NOT_FOUND and begins anew, as after any eviction. At the limit
//! (`max.incremental.fetch.session.cache.slots`, per core) the session that was idle for longest leaves.

use crate::shard::mail::Fetched;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::{FetchPartition, FetchRequest};
use runtime::Instant;
use std::collections::BTreeMap;
use uuid::Uuid;

/// "No session": a full fetch that is not remembered.
pub const FINAL_EPOCH: i32 = -1;
/// "Begin a session."
pub const INITIAL_EPOCH: i32 = 0;

/// A topic as the client names it: by id from v13 on, by name before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicKey {
    pub id: Uuid,
    pub name: Str,
}

/// One partition that is to be fetched.
#[derive(Clone, Debug)]
pub struct Entry {
    pub topic: TopicKey,
    pub wanted: FetchPartition,
    /// What the client was last told: high watermark, log start. None before the first answer.
    told: Option<(i64, i64)>,
}

/// The sessions of a core.
#[derive(Default)]
pub struct FetchSessions {
    by_id: BTreeMap<i32, FetchSession>,
    evicted: u64,
}

struct FetchSession {
    epoch: i32,
    by_topic_id: bool,
    entries: Vec<Entry>,
    used: Instant,
}

/// What one fetch reads, and how its answer is told.
pub struct Plan {
    pub entries: Vec<Entry>,
    /// 0: not remembered.
    pub session_id: i32,
    /// Only what changed is told.
    incremental: bool,
}

impl FetchSessions {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Sessions that left because of the limit.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Works out what a request reads. The plan of a session has to come back through
    /// [`FetchSessions::finish`].
    ///
    /// # Errors
    /// The code for the whole answer.
    pub fn plan(
        &mut self,
        version: i16,
        request: &FetchRequest,
        now: Instant,
        slots: usize,
        random: impl FnMut() -> u64,
    ) -> Result<Plan, ErrorCode> {
        let by_topic_id = version >= 13;
        let full = matches!(request.session_epoch, FINAL_EPOCH | INITIAL_EPOCH);
        if version < 7 || full {
            if request.session_id != 0 {
                self.by_id.remove(&request.session_id);
            }
            let entries: Vec<Entry> = entries(request).collect();
            let remember = version >= 7
                && request.session_epoch == INITIAL_EPOCH
                && !entries.is_empty()
                && slots > 0;
            let session_id = match remember {
                true => self.begin(&entries, by_topic_id, now, slots, random),
                false => 0,
            };
            return Ok(Plan {
                entries,
                session_id,
                incremental: false,
            });
        }
        let session = self
            .by_id
            .get_mut(&request.session_id)
            .ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.by_topic_id != by_topic_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.epoch = if session.epoch == i32::MAX {
            1
        } else {
            session.epoch + 1
        };
        session.used = now;
        session.update(request);
        let entries = session.entries.clone();
        Ok(Plan {
            entries,
            session_id: request.session_id,
            incremental: true,
        })
    }

    fn begin(
        &mut self,
        entries: &[Entry],
        by_topic_id: bool,
        now: Instant,
        slots: usize,
        mut random: impl FnMut() -> u64,
    ) -> i32 {
        while self.by_id.len() >= slots {
            let idle = self.by_id.iter().min_by_key(|(_, session)| session.used);
            let Some(id) = idle.map(|(id, _)| *id) else {
                break;
            };
            self.by_id.remove(&id);
            self.evicted += 1;
        }
        let id = loop {
            let id = (random() & i32::MAX as u64) as i32;
            if id != 0 && !self.by_id.contains_key(&id) {
                break id;
            }
        };
        let entries = entries.iter().map(Entry::detached).collect();
        self.by_id.insert(
            id,
            FetchSession {
                epoch: 1,
                by_topic_id,
                entries,
                used: now,
            },
        );
        id
    }

    /// Notes what the answer tells, and says which positions of the plan it has to tell. Partitions that gave
    /// data go to the end of the session, so that the others come first next time.
    pub fn finish(&mut self, plan: &Plan, fetched: &[Fetched]) -> Vec<bool> {
        let tell: Vec<bool> = plan
            .entries
            .iter()
            .zip(fetched)
            .map(|(entry, fetched)| !plan.incremental || entry.is_news(fetched))
            .collect();
        if let Some(session) = self.by_id.get_mut(&plan.session_id) {
            session.note(plan, fetched);
        }
        tell
    }
}

impl FetchSession {
    fn update(&mut self, request: &FetchRequest) {
        for topic in &request.forgotten_topics_data {
            self.entries.retain(|entry| {
                let same = entry.topic.id == topic.topic_id && entry.topic.name == topic.topic;
                !(same && topic.partitions.contains(&entry.wanted.partition))
            });
        }
        let places: BTreeMap<(TopicKey, i32), usize> = self
            .entries
            .iter()
            .enumerate()
            .map(|(at, entry)| ((entry.topic.clone(), entry.wanted.partition), at))
            .collect();
        for entry in entries(request) {
            match places.get(&(entry.topic.clone(), entry.wanted.partition)) {
                Some(at) => self.entries[*at].wanted = entry.wanted,
                None => self.entries.push(entry.detached()),
            }
        }
    }

    fn note(&mut self, plan: &Plan, fetched: &[Fetched]) {
        let mut quiet = Vec::with_capacity(plan.entries.len());
        let mut gave = Vec::new();
        for (entry, fetched) in plan.entries.iter().zip(fetched) {
            let mut entry = entry.detached();
            entry.told = (fetched.error == ErrorCode::NONE)
                .then_some((fetched.high_watermark, fetched.log_start_offset));
            if fetched.records.is_empty() {
                quiet.push(entry)
            } else {
                gave.push(entry)
            }
        }
        quiet.append(&mut gave);
        self.entries = quiet;
    }
}

impl Entry {
    /// Is there anything that the client does not know yet?
    fn is_news(&self, fetched: &Fetched) -> bool {
        !fetched.records.is_empty()
            || fetched.error != ErrorCode::NONE
            || fetched.diverging.is_some()
            || fetched.preferred_replica >= 0
            || self.told != Some((fetched.high_watermark, fetched.log_start_offset))
    }

    /// The same without the frame that it came with.
    fn detached(&self) -> Entry {
        let topic = TopicKey {
            id: self.topic.id,
            name: self.topic.name.detached(),
        };
        Entry {
            topic,
            wanted: self.wanted.clone(),
            told: self.told,
        }
    }
}

fn entries(request: &FetchRequest) -> impl Iterator<Item = Entry> {
    request.topics.iter().flat_map(|topic| {
        let key = TopicKey {
            id: topic.topic_id,
            name: topic.topic.clone(),
        };
        topic.partitions.iter().map(move |wanted| Entry {
            topic: key.clone(),
            wanted: wanted.clone(),
            told: None,
        })
    })
}
