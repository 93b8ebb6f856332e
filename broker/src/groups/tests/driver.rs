//! The world around a coordinator: clients as values, a clock that moves when told to, and a log
//! that commits when told to. Asserts on the way what must hold in every scenario: a token is
//! answered once, and appends are never empty.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use protocol::ErrorCode;
use runtime::Instant;

use crate::groups::*;

/// A consumer as its client library remembers it.
#[derive(Clone, Debug)]
pub struct Client {
    pub group_id: String,
    pub client_id: String,
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub generation_id: i32,
    pub protocol_type: String,
    pub protocols: Vec<(String, Bytes)>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub join_version: i16,
}

/// A subscription of a "consumer", version 0, without user data.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.into()
}

impl Client {
    /// A consumer of "orders" with the range assignor.
    pub fn new(client_id: &str) -> Self {
        Client {
            group_id: "g".into(),
            client_id: client_id.into(),
            member_id: String::new(),
            group_instance_id: None,
            generation_id: -1,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), subscription(&["orders"]))],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            join_version: 9,
        }
    }

    pub fn with_instance(mut self, instance_id: &str) -> Self {
        self.group_instance_id = Some(instance_id.into());
        self
    }

    pub fn with_protocols(mut self, names: &[&str]) -> Self {
        let offer = |name: &&str| (name.to_string(), subscription(&["orders"]));
        self.protocols = names.iter().map(offer).collect();
        self
    }

    pub fn with_subscription(mut self, topics: &[&str]) -> Self {
        self.protocols = vec![("range".into(), subscription(topics))];
        self
    }

    pub fn join(&self) -> GroupRequest {
        let offer = |(name, metadata): &(String, Bytes)| JoinGroupProtocol {
            name: name.clone(),
            metadata: metadata.clone(),
        };
        GroupRequest::JoinGroup(JoinGroup {
            api_version: self.join_version,
            group_id: self.group_id.clone(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            protocol_type: self.protocol_type.clone(),
            protocols: self.protocols.iter().map(offer).collect(),
            client_id: self.client_id.clone(),
            client_host: "/127.0.0.1".into(),
        })
    }

    /// With assignments, if it is the leader.
    pub fn sync(&self, assignments: &[(&str, &str)]) -> GroupRequest {
        let assign = |(member_id, assignment): &(&str, &str)| SyncGroupAssignment {
            member_id: member_id.to_string(),
            assignment: Bytes::copy_from_slice(assignment.as_bytes()),
        };
        GroupRequest::SyncGroup(SyncGroup {
            group_id: self.group_id.clone(),
            generation_id: self.generation_id,
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            protocol_type: Some(self.protocol_type.clone()),
            protocol_name: None,
            assignments: assignments.iter().map(assign).collect(),
        })
    }

    pub fn heartbeat(&self) -> GroupRequest {
        GroupRequest::Heartbeat(Heartbeat {
            group_id: self.group_id.clone(),
            generation_id: self.generation_id,
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
        })
    }

    pub fn leave(&self) -> GroupRequest {
        leave(
            &self.group_id,
            &[(&self.member_id, self.group_instance_id.as_deref())],
        )
    }

    pub fn commit(&self, topic: &str, partition: i32, offset: i64) -> GroupRequest {
        GroupRequest::OffsetCommit(self.offset_commit(topic, partition, offset))
    }

    pub fn offset_commit(&self, topic: &str, partition: i32, offset: i64) -> OffsetCommit {
        OffsetCommit {
            generation_id: self.generation_id,
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            ..bare_commit(&self.group_id, topic, partition, offset)
        }
    }
}

/// A commit from outside of any membership.
pub fn bare_commit(group_id: &str, topic: &str, partition: i32, offset: i64) -> OffsetCommit {
    OffsetCommit {
        api_version: 9,
        group_id: group_id.into(),
        generation_id: -1,
        member_id: String::new(),
        group_instance_id: None,
        retention_time_ms: -1,
        topics: vec![OffsetCommitTopic {
            name: topic.into(),
            topic_id: 0,
            partitions: vec![OffsetCommitPartition {
                partition_index: partition,
                committed_offset: offset,
                committed_leader_epoch: 3,
                committed_metadata: Some("m".into()),
            }],
        }],
    }
}

pub fn leave(group_id: &str, members: &[(&str, Option<&str>)]) -> GroupRequest {
    let identity = |(member_id, instance_id): &(&str, Option<&str>)| MemberIdentity {
        member_id: member_id.to_string(),
        group_instance_id: instance_id.map(str::to_owned),
    };
    let members = members.iter().map(identity).collect();
    GroupRequest::LeaveGroup(LeaveGroup {
        group_id: group_id.into(),
        members,
    })
}

pub fn fetch(group_id: &str, topic: &str, partition: i32) -> OffsetFetch {
    OffsetFetch {
        group_id: group_id.into(),
        topics: Some(vec![OffsetFetchTopic {
            name: topic.into(),
            topic_id: 0,
            partition_indexes: vec![partition],
        }]),
        require_stable: false,
    }
}

pub fn offset_delete(group_id: &str, topic: &str, partition: i32) -> GroupRequest {
    let topics = vec![OffsetDeleteTopic {
        name: topic.into(),
        partitions: vec![partition],
    }];
    GroupRequest::OffsetDelete(OffsetDelete {
        group_id: group_id.into(),
        topics,
    })
}

pub fn delete_group(group_id: &str) -> GroupRequest {
    GroupRequest::DeleteGroup(DeleteGroup {
        group_id: group_id.into(),
    })
}

/// What stands in the log.
#[derive(Clone, Debug)]
pub enum Entry {
    Record {
        producer: Option<i64>,
        key: Bytes,
        value: Option<Bytes>,
    },
    Marker {
        producer: i64,
        committed: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Pending {
    pub write: WriteId,
    pub records: Vec<RecordToWrite>,
    pub producer: Option<Producer>,
}

pub struct Driver {
    pub coordinator: Coordinator,
    pub settings: Settings,
    pub at: Moment,
    /// Writes commit as soon as they come out.
    pub commits_at_once: bool,
    pub pending: VecDeque<Pending>,
    pub log: Vec<Entry>,
    /// In the order in which they were given.
    pub answers: Vec<(Token, GroupResponse)>,
    pub asked: u64,
    answered: BTreeSet<Token>,
    drawn: u128,
}

impl Driver {
    pub fn new() -> Self {
        // The tests that are about the delay of first rebalances ask for it.
        Driver::with(Settings {
            initial_rebalance_delay_ms: 0,
            ..Settings::default()
        })
    }

    pub fn with(settings: Settings) -> Self {
        let mut driver = Driver {
            coordinator: Coordinator::new(settings.clone()),
            settings,
            at: Moment {
                now: Instant(5_000_000_000),
                wall_ms: 1_700_000_000_000,
            },
            commits_at_once: true,
            pending: VecDeque::new(),
            log: vec![],
            answers: vec![],
            asked: 0,
            answered: Default::default(),
            drawn: 0,
        };
        driver.coordinator.loaded(driver.at, &mut vec![]);
        driver
    }

    /// Lets something happen to the coordinator, and takes what comes of it.
    pub fn step(&mut self, act: impl FnOnce(&mut Coordinator, Moment, &mut Vec<Output>)) {
        let mut out = vec![];
        act(&mut self.coordinator, self.at, &mut out);
        for output in out {
            match output {
                Output::Reply { token, response } => {
                    assert!(self.answered.insert(token), "{token:?} was answered twice");
                    self.answers.push((token, response));
                }
                Output::Append {
                    write,
                    records,
                    producer,
                } => {
                    assert!(!records.is_empty(), "{write:?} appends nothing");
                    self.pending.push_back(Pending {
                        write,
                        records,
                        producer,
                    });
                }
            }
        }
        while self.commits_at_once && !self.pending.is_empty() {
            self.commit_next();
        }
    }

    /// Sends a request.
    pub fn ask(&mut self, request: GroupRequest) -> Token {
        self.asked += 1;
        let token = Token(self.asked);
        let mut drawn = self.drawn;
        self.step(|coordinator, at, out| {
            let mut ids = || {
                drawn += 1;
                drawn
            };
            coordinator.handle(token, request, &mut ids, at, out);
        });
        self.drawn += 1;
        token
    }

    /// Sends a request that is answered at once.
    pub fn get(&mut self, request: GroupRequest) -> GroupResponse {
        let token = self.ask(request);
        self.answer(token)
    }

    /// Takes the answer that must be there.
    pub fn answer(&mut self, token: Token) -> GroupResponse {
        let place = self
            .answers
            .iter()
            .position(|(answered, _)| *answered == token);
        self.answers
            .remove(place.unwrap_or_else(|| panic!("{token:?} has no answer")))
            .1
    }

    pub fn is_waiting(&self, token: Token) -> bool {
        !self.answered.contains(&token)
    }

    pub fn unanswered(&self) -> u64 {
        self.asked - self.answered.len() as u64
    }

    pub fn join_answer(&mut self, token: Token) -> JoinGroupResponse {
        match self.answer(token) {
            GroupResponse::JoinGroup(response) => response,
            other => panic!("{other:?} does not answer a join"),
        }
    }

    pub fn sync_answer(&mut self, token: Token) -> SyncGroupResponse {
        match self.answer(token) {
            GroupResponse::SyncGroup(response) => response,
            other => panic!("{other:?} does not answer a sync"),
        }
    }

    /// Sends a request and takes the one code of its answer.
    pub fn code(&mut self, request: GroupRequest) -> ErrorCode {
        let token = self.ask(request);
        self.code_of(token)
    }

    pub fn code_of(&mut self, token: Token) -> ErrorCode {
        code(&self.answer(token))
    }

    /// Sends a first join of a dynamic member, which only gets it an id.
    pub fn introduce(&mut self, client: &mut Client) {
        client.member_id.clear();
        let token = self.ask(client.join());
        let answer = self.join_answer(token);
        assert_eq!(answer.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        client.member_id = answer.member_id;
    }

    /// Sends a client's join, after an introduction where that is needed.
    pub fn join(&mut self, client: &mut Client) -> Token {
        let needs_id = client.member_id.is_empty() && client.group_instance_id.is_none();
        if needs_id && client.join_version >= 4 {
            self.introduce(client);
        }
        self.ask(client.join())
    }

    /// Takes the answer to a join that has completed well.
    pub fn joined(&mut self, token: Token, client: &mut Client) -> JoinGroupResponse {
        let answer = self.join_answer(token);
        assert_eq!(answer.error_code, ErrorCode::NONE, "{client:?}");
        client.member_id = answer.member_id.clone();
        client.generation_id = answer.generation_id;
        answer
    }

    /// Brings all clients through a join and a sync; the leader assigns each its client id. Members
    /// that are not among them must be gone by then. Returns who led.
    pub fn stabilise(&mut self, clients: &mut [&mut Client]) -> usize {
        let mut tokens = vec![];
        for client in clients.iter_mut() {
            tokens.push(self.join(client));
        }
        self.pass(0);
        let mut leader = None;
        for (index, (client, token)) in clients.iter_mut().zip(tokens).enumerate() {
            let answer = self.joined(token, client);
            if answer.leader == answer.member_id {
                assert_eq!(answer.members.len(), clients_len(&answer));
                leader = Some(index);
            } else {
                assert_eq!(answer.members, vec![], "only the leader sees the members");
            }
        }
        let leader = leader.expect("one of them leads");
        self.sync_all(clients, leader);
        leader
    }

    /// Lets all sync; the leader last.
    pub fn sync_all(&mut self, clients: &mut [&mut Client], leader: usize) {
        let assignments: Vec<(String, String)> = clients
            .iter()
            .map(|client| (client.member_id.clone(), client.client_id.clone()))
            .collect();
        let assignments: Vec<(&str, &str)> = assignments
            .iter()
            .map(|(id, what)| (id.as_str(), what.as_str()))
            .collect();
        let mut tokens = vec![];
        for (index, client) in clients.iter().enumerate() {
            if index != leader {
                tokens.push((client.client_id.clone(), self.ask(client.sync(&[]))));
            }
        }
        let token = self.ask(clients[leader].sync(&assignments));
        tokens.push((clients[leader].client_id.clone(), token));
        for (client_id, token) in tokens {
            let answer = self.sync_answer(token);
            assert_eq!(answer.error_code, ErrorCode::NONE, "{client_id}");
            assert_eq!(answer.assignment, client_id.as_bytes());
        }
        assert_eq!(self.state(&clients[leader].group_id), GroupState::Stable);
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, ms: u64) {
        let until = self.at.now + Duration::from_millis(ms);
        while let Some(deadline) = self.coordinator.next_deadline().filter(|at| *at <= until) {
            self.go_to(deadline.max(self.at.now));
            self.step(|coordinator, at, out| coordinator.on_deadline(at, out));
        }
        self.go_to(until);
    }

    fn go_to(&mut self, now: Instant) {
        self.at.wall_ms += now.as_millis() as i64 - self.at.now.as_millis() as i64;
        self.at.now = now;
    }

    /// Puts the oldest write into the log and says so.
    pub fn commit_next(&mut self) {
        let pending = self.pending.pop_front().expect("a write is under way");
        let (write, base_offset) = (pending.write, self.store(pending));
        self.step(|coordinator, at, out| coordinator.committed(write, base_offset, at, out));
    }

    pub fn store(&mut self, pending: Pending) -> i64 {
        let base_offset = self.log.len() as i64;
        let producer = pending.producer.map(|producer| producer.id);
        for RecordToWrite { key, value } in pending.records {
            self.log.push(Entry::Record {
                producer,
                key,
                value,
            });
        }
        base_offset
    }

    /// Loses the oldest write and says so.
    pub fn fail_next(&mut self, error: ErrorCode) {
        let pending = self.pending.pop_front().expect("a write is under way");
        self.step(|coordinator, at, out| coordinator.failed(pending.write, error, at, out));
    }

    /// Ends a transaction.
    pub fn end_transaction(&mut self, producer: i64, committed: bool) {
        let offset = self.log.len() as i64;
        self.log.push(Entry::Marker {
            producer,
            committed,
        });
        self.step(|coordinator, at, out| {
            coordinator.end_transaction(producer, committed, offset, at, out);
        });
    }

    pub fn expire(&mut self) {
        self.step(|coordinator, at, out| coordinator.expire_offsets(at, out));
    }

    /// Replaces the coordinator by one that has read the log. Those who wait are sent away.
    pub fn restart(&mut self) {
        self.step(|coordinator, _, out| coordinator.resign(out));
        self.pending.clear();
        self.coordinator = replayed(&self.settings, &self.log);
        self.step(|coordinator, at, out| coordinator.loaded(at, out));
    }

    pub fn state(&self, group_id: &str) -> GroupState {
        self.coordinator
            .describe(group_id)
            .map_or(GroupState::Dead, |group| group.group_state)
    }

    /// The committed offset of one partition, -1 if there is none.
    pub fn committed(&self, group_id: &str, topic: &str, partition: i32) -> i64 {
        let key = (group_id, topic, partition);
        let mut offsets = self.coordinator.committed_offsets();
        let found =
            offsets.find(|(group, topic, partition, _)| (*group, *topic, *partition) == key);
        found.map_or(-1, |(.., committed)| committed.value.offset)
    }

    /// What a client reads of one partition.
    pub fn fetched(&mut self, request: OffsetFetch) -> (ErrorCode, i64) {
        let token = self.ask(GroupRequest::OffsetFetch(request));
        self.fetched_by(token)
    }

    pub fn fetched_by(&mut self, token: Token) -> (ErrorCode, i64) {
        match self.answer(token) {
            GroupResponse::OffsetFetch(response) => {
                let partition = &response.topics[0].partitions[0];
                (partition.error_code, partition.committed_offset)
            }
            other => panic!("{other:?} does not answer a fetch"),
        }
    }
}

fn clients_len(answer: &JoinGroupResponse) -> usize {
    answer
        .members
        .iter()
        .map(|member| &member.member_id)
        .collect::<BTreeSet<_>>()
        .len()
}

/// The one code of an answer: the first that is an error, or none.
pub fn code(response: &GroupResponse) -> ErrorCode {
    let codes: Vec<ErrorCode> = match response {
        GroupResponse::JoinGroup(response) => vec![response.error_code],
        GroupResponse::SyncGroup(response) => vec![response.error_code],
        GroupResponse::Heartbeat(response) => vec![response.error_code],
        GroupResponse::LeaveGroup(response) => {
            let members = response.members.iter().map(|member| member.error_code);
            std::iter::once(response.error_code)
                .chain(members)
                .collect()
        }
        GroupResponse::OffsetCommit(response) | GroupResponse::TxnOffsetCommit(response) => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.error_code).collect()
        }
        GroupResponse::OffsetFetch(response) => vec![response.error_code],
        GroupResponse::OffsetDelete(response) => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let partitions = partitions.map(|partition| partition.error_code);
            std::iter::once(response.error_code)
                .chain(partitions)
                .collect()
        }
        GroupResponse::DeleteGroup(response) => vec![response.error_code],
        GroupResponse::DescribeGroup(response) => vec![response.error_code],
        GroupResponse::ListGroups(response) => vec![response.error_code],
    };
    codes
        .into_iter()
        .find(|code| !code.is_none())
        .unwrap_or_default()
}

/// A coordinator that has read a log and is not loaded yet.
pub fn replayed(settings: &Settings, log: &[Entry]) -> Coordinator {
    let mut coordinator = Coordinator::new(settings.clone());
    for (offset, entry) in log.iter().cloned().enumerate() {
        let offset = offset as i64;
        match entry {
            Entry::Record {
                producer: None,
                key,
                value,
            } => coordinator.replay(key, value, offset),
            Entry::Record {
                producer: Some(producer),
                key,
                value,
            } => {
                coordinator.replay_transactional(producer, key, value, offset);
            }
            Entry::Marker {
                producer,
                committed,
            } => {
                coordinator.replay_end_transaction(producer, committed, offset);
            }
        }
    }
    coordinator
}

/// A snapshot as a log.
pub fn as_log(snapshot: Vec<SnapshotRecord>) -> Vec<Entry> {
    let entry = |record: SnapshotRecord| Entry::Record {
        producer: record.producer_id,
        key: record.key,
        value: Some(record.value),
    };
    snapshot.into_iter().map(entry).collect()
}
