//! Clients of consumer groups: one that only commits and looks, and members that join, share partitions, commit under
//! their generation and leave or vanish. Commits of a group only grow, so going back is seen.

use super::client::Client;
use super::violation::Violation;
use super::{LEDGER, Stage};
use bytes::Bytes;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::rc::Rc;
use std::time::Duration;

const TEAM: &str = "team";
const ROUNDS_HEALED: u32 = 2;
/// Versions of OffsetCommit and OffsetFetch that name topics; later ones take ids.
const NAMED_MAX: i16 = 9;

struct GroupClient {
    stage: Rc<Stage>,
    client: Client,
    group: String,
    /// A membership that has ended: nothing is taken under it any more.
    ended: Option<Membership>,
    /// The client asks the group's coordinator, as far as it knows.
    knows_coordinator: bool,
}

/// Generation and member id; -1 and nobody for a client outside the group's membership.
type Membership = (i32, Str);

/// Commits to a group of its own, and looks.
pub(super) async fn committer(stage: Rc<Stage>, client: Client, number: u32) {
    let mut client = GroupClient {
        knows_coordinator: !stage.is_cluster(),
        stage,
        client,
        group: format!("solo-{number}"),
        ended: None,
    };
    let mut healed_rounds = 0;
    while healed_rounds < ROUNDS_HEALED && !client.stage.is_over() {
        client.pause(8_000).await;
        if !client.knows_coordinator && !client.find_coordinator().await {
            continue;
        }
        let partition = client.client.below(2) as i32;
        let outside = (-1, Str::new());
        let done = match client.client.below(3) {
            0 => client.find_coordinator().await,
            1 => client.look_anywhere(partition).await,
            _ => client.commit(partition, &outside).await == Some(ErrorCode::NONE),
        };
        client.knows_coordinator &= done || !client.stage.is_cluster();
        healed_rounds += u32::from(done && client.stage.healed.get());
    }
}

/// Joins, works for a while and leaves, over and over.
pub(super) async fn member(stage: Rc<Stage>, client: Client, _number: u32) {
    let mut client = GroupClient {
        knows_coordinator: !stage.is_cluster(),
        stage,
        client,
        group: TEAM.to_owned(),
        ended: None,
    };
    let mut healed_rounds = 0;
    while healed_rounds < 1 && !client.stage.is_over() {
        client.pause(10_000).await;
        if !client.find_coordinator().await {
            continue;
        }
        let healed = client.stage.healed.get();
        let Some((membership, partition)) = client.join().await else {
            continue;
        };
        client.stage.history().count("generations joined");
        client.commit_too_late(partition).await;
        let worked = client.work(&membership, partition).await;
        healed_rounds += u32::from(worked && healed);
        let left = match client.client.below(3) {
            0 if !healed => {
                client.client.hang_up();
                false
            }
            _ => client.leave(&membership).await,
        };
        client.ended = Some(membership);
        if left && client.client.below(2) == 0 {
            client.commit_too_late(partition).await;
        }
    }
}

impl GroupClient {
    async fn pause(&self, us_max: u64) {
        let us = self.client.below(us_max) * self.stage.pace;
        self.client.core.sleep(Duration::from_micros(us)).await;
    }

    fn code(&self, api: &'static str, code: ErrorCode) -> ErrorCode {
        self.stage.history().code(api, code)
    }

    async fn find_coordinator(&mut self) -> bool {
        self.client.roam();
        let version = self.client.version::<FindCoordinatorRequest>(0);
        let mut request = FindCoordinatorRequest::default();
        match version {
            4.. => request.coordinator_keys = vec![Str::copied(&self.group)],
            _ => request.key = Str::copied(&self.group),
        }
        let Some(response) = self.client.call(&request, version).await else {
            return false;
        };
        let (code, node) = match response.coordinators.first() {
            Some(found) => (found.error_code, found.node_id),
            None => (response.error_code, response.node_id),
        };
        if self.code("FindCoordinator", code) != ErrorCode::NONE {
            return false;
        }
        if self.stage.is_cluster() {
            let Some(node) = self.stage.node_of(node) else {
                return false;
            };
            self.client.at = node;
            self.knows_coordinator = true;
        }
        true
    }

    async fn commit(&mut self, partition: i32, membership: &Membership) -> Option<ErrorCode> {
        let offset = self.stage.next_commit();
        self.stage
            .history()
            .committing(&self.group, partition, offset);
        let code = self.send_commit(partition, offset, membership).await?;
        let mut history = self.stage.history();
        match code {
            ErrorCode::NONE => history.committed(&self.group, partition, offset),
            // A commit that timed out may have been written.
            code if code.retriable() => {}
            _ => history.not_committed(&self.group, partition, offset),
        }
        history.tell(|| format!("{} {partition} commits {offset}: {code}", self.group));
        Some(code)
    }

    /// Commits under a membership that has ended, by leaving or by joining again since. Its offset is never noted as
    /// possible: seen later, it is an invention.
    async fn commit_too_late(&mut self, partition: i32) {
        let Some(ended) = self.ended.take() else {
            return;
        };
        let offset = self.stage.next_commit();
        let Some(code) = self.send_commit(partition, offset, &ended).await else {
            return;
        };
        let mut history = self.stage.history();
        match code {
            // A generation is on the disk when its leader has said who does what: before, a loss of power ends the group.
            ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::GROUP_ID_NOT_FOUND => {
                history.count("commits of ended generations refused");
            }
            ErrorCode::NONE => {
                let what = format!("{offset} of {} {partition} under {ended:?}", self.group);
                history.violate(Violation::StaleCommitTaken, what);
            }
            code if code.retriable() => {}
            code => {
                let what = format!("a commit of an ended generation got {code}");
                history.violate(Violation::WrongAnswer, what);
            }
        }
    }

    async fn send_commit(
        &mut self,
        partition: i32,
        offset: i64,
        membership: &Membership,
    ) -> Option<ErrorCode> {
        let min = if membership.0 < 0 { 0 } else { 1 };
        let version = self
            .client
            .version::<OffsetCommitRequest>(min)
            .min(NAMED_MAX);
        let request = OffsetCommitRequest {
            group_id: Str::copied(&self.group),
            generation_id_or_member_epoch: membership.0,
            member_id: membership.1.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: Str::copied(LEDGER),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let response = self.client.call(&request, version).await?;
        Some(self.code("OffsetCommit", response.topics[0].partitions[0].error_code))
    }

    /// Looks at the node that is known to coordinate, or at any: one that coordinated until lately must not answer
    /// from what it knew then.
    async fn look_anywhere(&mut self, partition: i32) -> bool {
        let coordinator = self.client.at;
        if self.client.below(2) == 0 {
            self.client.roam();
        }
        let looked = self.look(partition).await;
        let roamed = std::mem::replace(&mut self.client.at, coordinator) != coordinator;
        looked || roamed
    }

    async fn look(&mut self, partition: i32) -> bool {
        let before = self.stage.history().committed_floor(&self.group, partition);
        let version = self.client.version::<OffsetFetchRequest>(1).min(NAMED_MAX);
        let mut request = OffsetFetchRequest::default();
        if version >= 8 {
            request.groups = vec![OffsetFetchRequestGroup {
                group_id: Str::copied(&self.group),
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: Str::copied(LEDGER),
                    partition_indexes: vec![partition],
                    ..OffsetFetchRequestTopics::default()
                }]),
                ..OffsetFetchRequestGroup::default()
            }];
        } else {
            request.group_id = Str::copied(&self.group);
            request.topics = Some(vec![OffsetFetchRequestTopic {
                name: Str::copied(LEDGER),
                partition_indexes: vec![partition],
            }]);
        }
        let Some(response) = self.client.call(&request, version).await else {
            return false;
        };
        let (whole, found) = match response.groups.first() {
            Some(group) => {
                let found = group
                    .topics
                    .first()
                    .and_then(|topic| topic.partitions.first());
                (
                    group.error_code,
                    found.map(|found| (found.error_code, found.committed_offset)),
                )
            }
            None => {
                let found = response
                    .topics
                    .first()
                    .and_then(|topic| topic.partitions.first());
                (
                    response.error_code,
                    found.map(|found| (found.error_code, found.committed_offset)),
                )
            }
        };
        let Some((code, offset)) = found.filter(|_| whole == ErrorCode::NONE) else {
            self.code("OffsetFetch", whole);
            return false;
        };
        if self.code("OffsetFetch", code) != ErrorCode::NONE {
            return false;
        }
        let mut history = self.stage.history();
        history.tell(|| format!("{} {partition} has committed {offset}", self.group));
        history.offset_fetched(&self.group, partition, offset, before);
        true
    }

    /// Joins the group and receives a partition. The leader gives the members partitions by their order.
    async fn join(&mut self) -> Option<(Membership, i32)> {
        let mut request = JoinGroupRequest {
            group_id: Str::copied(&self.group),
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 300,
            protocol_type: Str::copied("consumer"),
            protocols: vec![JoinGroupRequestProtocol {
                name: Str::copied("by-order"),
                metadata: Bytes::from_static(b"\0\x01\0\0\0\0\xff\xff\xff\xff"),
            }],
            ..JoinGroupRequest::default()
        };
        let version = self.client.version::<JoinGroupRequest>(1);
        let mut joined = self.client.call(&request, version).await?;
        if joined.error_code == ErrorCode::MEMBER_ID_REQUIRED {
            request.member_id = joined.member_id;
            joined = self.client.call(&request, version).await?;
        }
        if self.code("JoinGroup", joined.error_code) != ErrorCode::NONE {
            return None;
        }
        let assignment =
            |(order, member): (usize, &JoinGroupResponseMember)| SyncGroupRequestAssignment {
                member_id: member.member_id.clone(),
                assignment: Bytes::copy_from_slice(&(order as i32).to_be_bytes()),
            };
        let request = SyncGroupRequest {
            group_id: Str::copied(&self.group),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            protocol_type: Some(Str::copied("consumer")),
            protocol_name: Some(Str::copied("by-order")),
            assignments: joined.members.iter().enumerate().map(assignment).collect(),
            ..SyncGroupRequest::default()
        };
        let version = self.client.version::<SyncGroupRequest>(0);
        let synced = self.client.call(&request, version).await?;
        if self.code("SyncGroup", synced.error_code) != ErrorCode::NONE {
            return None;
        }
        let order = synced
            .assignment
            .first_chunk()
            .map(|bytes| i32::from_be_bytes(*bytes));
        Some(((joined.generation_id, joined.member_id), order? % 2))
    }

    /// Heartbeats, commits and looks until the generation ends; true if a commit went through.
    async fn work(&mut self, membership: &Membership, partition: i32) -> bool {
        let mut committed = false;
        for _ in 0..2 + self.client.below(4) {
            self.pause(3_000).await;
            let request = HeartbeatRequest {
                group_id: Str::copied(&self.group),
                generation_id: membership.0,
                member_id: membership.1.clone(),
                ..HeartbeatRequest::default()
            };
            let version = self.client.version::<HeartbeatRequest>(0);
            let Some(response) = self.client.call(&request, version).await else {
                return committed;
            };
            if self.code("Heartbeat", response.error_code) != ErrorCode::NONE {
                return committed;
            }
            match self.commit(partition, membership).await {
                Some(ErrorCode::NONE) => committed = true,
                _ => return committed,
            }
            self.look(partition).await;
        }
        committed
    }

    /// True if the group says that the member has left.
    async fn leave(&mut self, membership: &Membership) -> bool {
        let version = self.client.version::<LeaveGroupRequest>(0);
        let mut request = LeaveGroupRequest {
            group_id: Str::copied(&self.group),
            ..Default::default()
        };
        match version {
            3.. => {
                request.members = vec![MemberIdentity {
                    member_id: membership.1.clone(),
                    ..Default::default()
                }];
            }
            _ => request.member_id = membership.1.clone(),
        }
        let Some(response) = self.client.call(&request, version).await else {
            return false;
        };
        let of_member = response
            .members
            .iter()
            .all(|member| member.error_code == ErrorCode::NONE);
        self.code("LeaveGroup", response.error_code) == ErrorCode::NONE && of_member
    }
}
