//! `corelane group`: list, describe, reset, delete.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write;

use protocol::ErrorCode;
use protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, DescribedGroup, ListGroupsRequest, ListedGroup,
};
use serde_json::{Value, json};

use super::arguments::{GroupCommand, GroupDelete, GroupDescribe, GroupList};
use super::assignor::{self, Partitions};
use super::client::Client;
use super::committed;
use super::error::{ShellError, check};
use super::group_reset;
use super::offsets::{self, Place, Wanted};
use super::output::Output;
use super::table::{Table, known};

const LIST_GROUPS_NEWEST: i16 = 5;
const DESCRIBE_GROUPS_NEWEST: i16 = 6;
const DELETE_GROUPS_NEWEST: i16 = 3;

pub(crate) fn run(
    command: GroupCommand,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    match command {
        GroupCommand::List(arguments) => list(&arguments, output),
        GroupCommand::Describe(arguments) => describe(&arguments, output),
        GroupCommand::Reset(arguments) => group_reset::run(&arguments, output),
        GroupCommand::Delete(arguments) => delete(&arguments, output),
    }
}

/// The groups of every node, with the node that coordinates them.
fn all_groups(client: &mut Client) -> Result<Vec<(i32, ListedGroup)>, ShellError> {
    let mut groups = Vec::new();
    for broker in client.metadata(Some(&[]), false)?.brokers {
        let node = broker.node_id;
        let response = client.ask_node(node, &ListGroupsRequest::default(), LIST_GROUPS_NEWEST)?;
        check(
            || format!("list the groups of node {node}"),
            response.error_code,
            None,
        )?;
        groups.extend(response.groups.into_iter().map(|group| (node, group)));
    }
    groups.sort_by(|(_, a), (_, b)| a.group_id.as_str().cmp(b.group_id.as_str()));
    Ok(groups)
}

fn list(arguments: &GroupList, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let mut groups = all_groups(&mut client)?;
    if let Some(state) = &arguments.state {
        groups.retain(|(_, group)| group.group_state.as_str().eq_ignore_ascii_case(state));
    }
    output.show(
        arguments.format.format,
        || {
            if groups.is_empty() {
                return "no groups\n".to_owned();
            }
            let mut table = Table::new(&["GROUP", "STATE", "TYPE", "PROTOCOL", ">COORDINATOR"]);
            for (node, group) in &groups {
                table.row([
                    String::from(&group.group_id),
                    or_dash(&group.group_state),
                    or_dash(&group.group_type),
                    or_dash(&group.protocol_type),
                    node.to_string(),
                ]);
            }
            table.to_string()
        },
        || {
            let json = |(node, group): &(i32, ListedGroup)| {
                json!({
                    "group": group.group_id.as_str(),
                    "state": group.group_state.as_str(),
                    "type": group.group_type.as_str(),
                    "protocol_type": group.protocol_type.as_str(),
                    "coordinator": node,
                })
            };
            groups.iter().map(json).collect()
        },
    )?;
    Ok(())
}

fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

/// A member with its share.
struct MemberView {
    id: String,
    client: String,
    host: String,
    share: Partitions,
}

/// One partition that the group reads.
struct Progress {
    place: Place,
    committed: Option<i64>,
    end: Option<i64>,
    member: Option<String>,
}

impl Progress {
    /// Records that are still to be read.
    fn lag(&self) -> Option<i64> {
        self.committed
            .zip(self.end)
            .map(|(committed, end)| (end - committed).max(0))
    }
}

struct GroupView {
    group: String,
    state: String,
    assignor: String,
    coordinator: i32,
    members: Vec<MemberView>,
    progress: Vec<Progress>,
}

fn describe(arguments: &GroupDescribe, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let mut views = Vec::new();
    for group in &arguments.groups {
        views.push(view(&mut client, group)?);
    }
    output.show(
        arguments.format.format,
        || {
            views
                .iter()
                .map(GroupView::text)
                .collect::<Vec<_>>()
                .join("\n")
        },
        || views.iter().map(GroupView::json).collect(),
    )?;
    Ok(())
}

fn view(client: &mut Client, group: &str) -> Result<GroupView, ShellError> {
    let coordinator = client.coordinator(group)?;
    let committed = committed::fetch(client, group)?;
    let (state, assignor, members) = match describe_members(client, group)? {
        Some(described) => {
            let members = described.members.iter().map(member_view).collect();
            (
                String::from(&described.group_state),
                String::from(&described.protocol_data),
                members,
            )
        }
        // A group of the consumer protocol, or none at all.
        None => {
            let listed = all_groups(client)?
                .into_iter()
                .find(|(_, it)| it.group_id == *group);
            let Some((_, listed)) = listed.filter(|_| !group.is_empty()) else {
                let what = format!("describe group {group}");
                return Err(ShellError::refused(
                    what,
                    ErrorCode::GROUP_ID_NOT_FOUND,
                    None,
                ));
            };
            (
                String::from(&listed.group_state),
                String::from(&listed.group_type),
                Vec::new(),
            )
        }
    };
    let progress = progress(client, &committed, &members)?;
    let group = group.to_owned();
    Ok(GroupView {
        group,
        state,
        assignor,
        coordinator,
        members,
        progress,
    })
}

/// A classic group as its coordinator describes it.
pub(super) fn describe_members(
    client: &mut Client,
    group: &str,
) -> Result<Option<DescribedGroup>, ShellError> {
    let request = DescribeGroupsRequest {
        groups: vec![group.to_owned().into()],
        include_authorized_operations: false,
    };
    let code = |response: &<DescribeGroupsRequest as protocol::api::RequestMessage>::Response| {
        response
            .groups
            .first()
            .map_or(ErrorCode::NONE, |group| group.error_code)
    };
    let response = client.ask_coordinator(group, &request, DESCRIBE_GROUPS_NEWEST, code)?;
    let Some(described) = response.groups.into_iter().next() else {
        return Ok(None);
    };
    match described.error_code {
        ErrorCode::GROUP_ID_NOT_FOUND => Ok(None),
        code => {
            let message = described.error_message.as_deref();
            check(|| format!("describe group {group}"), code, message)?;
            Ok(Some(described).filter(|described| described.group_state != "Dead"))
        }
    }
}

fn member_view(member: &protocol::messages::DescribedGroupMember) -> MemberView {
    MemberView {
        id: String::from(&member.member_id),
        client: String::from(&member.client_id),
        host: String::from(&member.client_host),
        // Members of Connect or Streams have shares in formats of their own.
        share: assignor::read_assignment(&member.member_assignment).unwrap_or_default(),
    }
}

/// Every partition that has a committed offset or an owner.
fn progress(
    client: &mut Client,
    committed: &BTreeMap<Place, i64>,
    members: &[MemberView],
) -> Result<Vec<Progress>, ShellError> {
    let mut owners: BTreeMap<Place, String> = BTreeMap::new();
    for member in members {
        for (topic, numbers) in &member.share {
            for number in numbers {
                owners.insert((topic.clone(), *number), member.id.clone());
            }
        }
    }
    let places: BTreeSet<Place> = committed.keys().chain(owners.keys()).cloned().collect();
    let existing = existing(client, &places)?;
    let ends = offsets::list(client, &existing, Wanted::End)?;
    let progress = |place: Place| Progress {
        committed: committed.get(&place).copied(),
        end: ends.get(&place).copied(),
        member: owners.get(&place).cloned(),
        place,
    };
    Ok(places.into_iter().map(progress).collect())
}

/// Those of the partitions that still exist and have a leader: offsets outlive topics.
pub(super) fn existing(
    client: &mut Client,
    places: &BTreeSet<Place>,
) -> Result<Vec<Place>, ShellError> {
    let names: BTreeSet<String> = places.iter().map(|(topic, _)| topic.clone()).collect();
    let names: Vec<String> = names.into_iter().collect();
    let topics = client.metadata(Some(&names), false)?.topics;
    let led: BTreeSet<Place> = topics
        .iter()
        .flat_map(|topic| {
            let name = super::client::topic_name(topic);
            let led = topic
                .partitions
                .iter()
                .filter(|partition| partition.leader_id >= 0);
            led.map(move |partition| (name.clone(), partition.partition_index))
        })
        .collect();
    Ok(places.intersection(&led).cloned().collect())
}

impl GroupView {
    fn lag(&self) -> i64 {
        self.progress.iter().filter_map(Progress::lag).sum()
    }

    fn text(&self) -> String {
        let mut text = format!(
            "group {}\n  state        {}\n  assignor     {}\n  coordinator  {}\n  \
             members      {}\n  lag          {}\n",
            self.group,
            or_dash(&self.state),
            or_dash(&self.assignor),
            self.coordinator,
            self.members.len(),
            self.lag(),
        );
        if !self.members.is_empty() {
            let mut table = Table::new(&["MEMBER", "CLIENT", "HOST", ">PARTITIONS"]);
            for member in &self.members {
                let count: usize = member.share.values().map(Vec::len).sum();
                let (id, client) = (member.id.clone(), or_dash(&member.client));
                table.row([id, client, or_dash(&member.host), count.to_string()]);
            }
            let _ = write!(text, "\n{table}");
        }
        let mut table = Table::new(&[
            "TOPIC",
            ">PARTITION",
            ">COMMITTED",
            ">END",
            ">LAG",
            "MEMBER",
        ]);
        for progress in &self.progress {
            table.row([
                progress.place.0.clone(),
                progress.place.1.to_string(),
                known(progress.committed),
                known(progress.end),
                known(progress.lag()),
                progress.member.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        if !table.is_empty() {
            let _ = write!(text, "\n{table}");
        }
        text
    }

    fn json(&self) -> Value {
        let member = |member: &MemberView| {
            json!({
                "member": member.id,
                "client": member.client,
                "host": member.host,
                "partitions": member.share,
            })
        };
        let progress = |progress: &Progress| {
            json!({
                "topic": progress.place.0,
                "partition": progress.place.1,
                "committed": progress.committed,
                "end": progress.end,
                "lag": progress.lag(),
                "member": progress.member,
            })
        };
        json!({
            "group": self.group,
            "state": self.state,
            "assignor": self.assignor,
            "coordinator": self.coordinator,
            "lag": self.lag(),
            "members": self.members.iter().map(member).collect::<Vec<_>>(),
            "partitions": self.progress.iter().map(progress).collect::<Vec<_>>(),
        })
    }
}

fn delete(arguments: &GroupDelete, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let code = |response: &<DeleteGroupsRequest as protocol::api::RequestMessage>::Response| {
        response
            .results
            .first()
            .map_or(ErrorCode::NONE, |result| result.error_code)
    };
    let mut deleted: Vec<&str> = Vec::new();
    let mut failure = None;
    for group in &arguments.groups {
        let request = DeleteGroupsRequest {
            groups_names: vec![group.clone().into()],
        };
        let response = client.ask_coordinator(group, &request, DELETE_GROUPS_NEWEST, code)?;
        let message = response
            .results
            .first()
            .and_then(|result| result.error_message.as_deref());
        match check(|| format!("delete group {group}"), code(&response), message) {
            Ok(()) => deleted.push(group),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    output.show(
        arguments.format.format,
        || {
            deleted
                .iter()
                .map(|group| format!("group {group} deleted\n"))
                .collect()
        },
        || {
            deleted
                .iter()
                .map(|group| json!({"group": group, "outcome": "deleted"}))
                .collect()
        },
    )?;
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_what_is_left_and_never_negative() {
        let progress = |committed, end| Progress {
            place: ("t".into(), 0),
            committed,
            end,
            member: None,
        };
        assert_eq!(progress(Some(3), Some(10)).lag(), Some(7));
        assert_eq!(progress(Some(11), Some(10)).lag(), Some(0));
        assert_eq!(progress(None, Some(10)).lag(), None);
        let view = GroupView {
            group: "g".into(),
            state: "Stable".into(),
            assignor: "range".into(),
            coordinator: 1,
            members: vec![MemberView {
                id: "m".into(),
                client: String::new(),
                host: "/127.0.0.1".into(),
                share: Partitions::from([("t".into(), vec![0, 1])]),
            }],
            progress: vec![progress(Some(3), Some(10)), progress(None, Some(1))],
        };
        assert_eq!(view.json()["lag"], 7);
        let text = view.text();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(rows.contains(&vec!["m", "-", "/127.0.0.1", "2"]), "{text}");
        assert!(
            rows.contains(&vec!["t", "0", "3", "10", "7", "-"]),
            "{text}"
        );
    }
}
