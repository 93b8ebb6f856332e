//! The offsets that a group has committed.

use std::collections::BTreeMap;

use protocol::ErrorCode;
use protocol::messages::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest,
};

use super::client::Client;
use super::error::{ShellError, check};
use super::offsets::Place;

/// Newest version that asks for one group, its topics by name.
const OFFSET_FETCH_NEWEST: i16 = 7;
/// Newest version before members of the new protocol and topic ids.
const OFFSET_COMMIT_NEWEST: i16 = 8;

/// On whose behalf offsets are committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committer {
    pub member_id: String,
    pub generation: i32,
}

impl Committer {
    /// An operator, outside any generation; accepted only while the group has no members.
    pub(crate) fn operator() -> Committer {
        Committer {
            member_id: String::new(),
            generation: -1,
        }
    }
}

/// Everything that a group has committed.
pub(crate) fn fetch(client: &mut Client, group: &str) -> Result<BTreeMap<Place, i64>, ShellError> {
    let request = OffsetFetchRequest {
        group_id: group.to_owned().into(),
        topics: None,
        ..OffsetFetchRequest::default()
    };
    let response =
        client.ask_coordinator(group, &request, OFFSET_FETCH_NEWEST, |it| it.error_code)?;
    check(
        || format!("read the offsets of group {group}"),
        response.error_code,
        None,
    )?;
    let mut committed = BTreeMap::new();
    for topic in &response.topics {
        for partition in topic
            .partitions
            .iter()
            .filter(|it| it.committed_offset >= 0)
        {
            let place = (String::from(&topic.name), partition.partition_index);
            committed.insert(place, partition.committed_offset);
        }
    }
    Ok(committed)
}

/// Commits offsets. The result is the code of the first partition that was refused.
pub(crate) fn commit(
    client: &mut Client,
    group: &str,
    committer: &Committer,
    offsets: &BTreeMap<Place, i64>,
) -> Result<Result<(), ErrorCode>, ShellError> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        topics
            .entry(topic)
            .or_default()
            .push(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_metadata: Some("".into()),
                ..OffsetCommitRequestPartition::default()
            });
    }
    let request = OffsetCommitRequest {
        group_id: group.to_owned().into(),
        generation_id_or_member_epoch: committer.generation,
        member_id: committer.member_id.clone().into(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| OffsetCommitRequestTopic {
                name: name.to_owned().into(),
                partitions,
                ..OffsetCommitRequestTopic::default()
            })
            .collect(),
        ..OffsetCommitRequest::default()
    };
    let first_error =
        |response: &<OffsetCommitRequest as protocol::api::RequestMessage>::Response| {
            let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let failed = partitions.find(|partition| !partition.error_code.is_none());
            failed.map_or(ErrorCode::NONE, |partition| partition.error_code)
        };
    let response = client.ask_coordinator(group, &request, OFFSET_COMMIT_NEWEST, first_error)?;
    Ok(first_error(&response).ok())
}
