//! Offsets of partitions: where they begin and end, and where a moment lies.

use std::collections::BTreeMap;

use protocol::ErrorCode;
use protocol::messages::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};

use super::client::{Attempts, Client, topic_name};
use super::error::ShellError;

/// Newest version used: the next ones are about tiered storage.
const LIST_OFFSETS_NEWEST: i16 = 7;

/// A topic's name and a partition's number.
pub(crate) type Place = (String, i32);

/// What is wanted of each partition; the numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Start,
    End,
    /// End of what readers of committed transactions see.
    StableEnd,
    /// First record at or after a moment, in Unix ms.
    Moment(i64),
}

impl Wanted {
    fn timestamp(self) -> i64 {
        match self {
            Wanted::Start => -2,
            Wanted::End | Wanted::StableEnd => -1,
            Wanted::Moment(ms) => ms,
        }
    }
}

/// The offsets of these partitions. One that has no record at or after the moment is left out.
pub(crate) fn list(
    client: &mut Client,
    places: &[Place],
    wanted: Wanted,
) -> Result<BTreeMap<Place, i64>, ShellError> {
    let mut found = BTreeMap::new();
    let mut open: Vec<Place> = places.to_vec();
    let mut attempts = Attempts::new(client.timeout());
    while !open.is_empty() {
        let mut trouble = None;
        for (leader, places) in by_leader(client, &open)? {
            ask(client, leader, &places, wanted, &mut found, &mut trouble)?;
        }
        match trouble {
            None => break,
            Some((_, code)) if code.retriable() && attempts.again() => {}
            Some(((topic, partition), code)) => {
                let what = format!("find offsets of {topic} {partition}");
                return Err(ShellError::refused(what, code, None));
            }
        }
        open.retain(|place| !found.contains_key(place));
    }
    Ok(found
        .into_iter()
        .filter(|(_, offset)| *offset >= 0)
        .collect())
}

fn ask(
    client: &mut Client,
    leader: i32,
    places: &[Place],
    wanted: Wanted,
    found: &mut BTreeMap<Place, i64>,
    trouble: &mut Option<(Place, ErrorCode)>,
) -> Result<(), ShellError> {
    let partition = |number: &i32| ListOffsetsPartition {
        partition_index: *number,
        timestamp: wanted.timestamp(),
        ..ListOffsetsPartition::default()
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(wanted == Wanted::StableEnd),
        topics: by_topic(places)
            .into_iter()
            .map(|(name, numbers)| ListOffsetsTopic {
                name: name.to_owned().into(),
                partitions: numbers.iter().map(partition).collect(),
            })
            .collect(),
        ..ListOffsetsRequest::default()
    };
    let response = client.ask_node(leader, &request, LIST_OFFSETS_NEWEST)?;
    for topic in &response.topics {
        for partition in &topic.partitions {
            let place = (String::from(&topic.name), partition.partition_index);
            match partition.error_code.ok() {
                Ok(()) => {
                    found.insert(place, partition.offset);
                }
                Err(code) => *trouble = Some((place, code)),
            }
        }
    }
    Ok(())
}

/// The partitions by the node that leads them now.
pub(crate) fn by_leader(
    client: &mut Client,
    places: &[Place],
) -> Result<BTreeMap<i32, Vec<Place>>, ShellError> {
    let mut names: Vec<String> = places.iter().map(|(topic, _)| topic.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let mut leaders: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
    for topic in client.topics(&names, false)? {
        let name = topic_name(&topic);
        for partition in &topic.partitions {
            let place = (name.clone(), partition.partition_index);
            if places.contains(&place) {
                leaders.entry(partition.leader_id).or_default().push(place);
            }
        }
    }
    let known: usize = leaders.values().map(Vec::len).sum();
    if known < places.len() {
        let missing = places
            .iter()
            .find(|place| !leaders.values().flatten().any(|p| p == *place));
        let (topic, partition) = missing.cloned().unwrap_or_default();
        return Err(ShellError::impossible(
            format!("find partition {partition} of {topic}"),
            "the topic has no such partition. `corelane topic describe` shows what it has.",
        ));
    }
    Ok(leaders)
}

/// The partitions by topic.
pub(crate) fn by_topic(places: &[Place]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic).or_default().push(*partition);
    }
    topics
}
