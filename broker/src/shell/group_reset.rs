//! `corelane group reset`: shows where the offsets would go, and moves them if told to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde_json::json;

use super::arguments::GroupReset;
use super::client::{Client, now_ms, topic_name};
use super::committed::{self, Committer};
use super::error::ShellError;
use super::group::{describe_members, existing};
use super::moment;
use super::offsets::{self, Place, Wanted};
use super::output::Output;
use super::reset::{Position, Rule, Step, plan};
use super::table::{Table, known};

pub(crate) fn run(
    arguments: &GroupReset,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let rule = rule(arguments)?;
    let mut client = Client::connect(&arguments.client)?;
    refuse_members(&mut client, &arguments.group)?;
    let steps = plan(&positions(&mut client, arguments, rule)?, rule);
    if steps.is_empty() {
        return Err(ShellError::impossible(
            format!("reset group {}", arguments.group),
            "no partition is meant. `corelane group describe` shows what the group has read.",
        ));
    }
    if arguments.execute {
        execute(&mut client, &arguments.group, &steps)?;
    }
    show(arguments, rule, &steps, output)
}

fn rule(arguments: &GroupReset) -> Result<Rule, ShellError> {
    if arguments.to_earliest {
        return Ok(Rule::Earliest);
    }
    if let Some(offset) = arguments.to_offset {
        return Ok(Rule::Offset(offset));
    }
    if let Some(by) = arguments.shift_by {
        return Ok(Rule::Shift(by));
    }
    match &arguments.to_time {
        None => Ok(Rule::Latest),
        Some(text) => moment::parse(text, now_ms())
            .map(Rule::Moment)
            .ok_or_else(|| {
                ShellError::impossible(
                    format!("reset group {}", arguments.group),
                    format!("{text:?} is no time. Write 2026-01-01T08:00:00Z, Unix ms or -15m."),
                )
            }),
    }
}

/// Members would overwrite the offsets, so brokers refuse them as long as there are any.
fn refuse_members(client: &mut Client, group: &str) -> Result<(), ShellError> {
    match describe_members(client, group)? {
        Some(described) if !described.members.is_empty() => {
            let count = described.members.len();
            Err(ShellError::impossible(
                format!("reset group {group}"),
                format!("it has {count} member(s). Stop its consumers first."),
            ))
        }
        _ => Ok(()),
    }
}

/// What is known of every partition that is meant.
fn positions(
    client: &mut Client,
    arguments: &GroupReset,
    rule: Rule,
) -> Result<Vec<Position>, ShellError> {
    let committed = committed::fetch(client, &arguments.group)?;
    let places = if arguments.all_topics {
        let all: BTreeSet<Place> = committed.keys().cloned().collect();
        existing(client, &all)?
    } else {
        named(client, arguments)?
    };
    let starts = offsets::list(client, &places, Wanted::Start)?;
    let ends = offsets::list(client, &places, Wanted::End)?;
    let moments = match rule {
        Rule::Moment(ms) => offsets::list(client, &places, Wanted::Moment(ms))?,
        _ => BTreeMap::new(),
    };
    let position = |place: Place| Position {
        committed: committed.get(&place).copied(),
        start: starts.get(&place).copied().unwrap_or(0),
        end: ends.get(&place).copied().unwrap_or(0),
        at_moment: moments.get(&place).copied(),
        topic: place.0,
        partition: place.1,
    };
    Ok(places.into_iter().map(position).collect())
}

/// The partitions of `--topic`, which may be new to the group.
fn named(client: &mut Client, arguments: &GroupReset) -> Result<Vec<Place>, ShellError> {
    let names: BTreeSet<String> = arguments
        .topic
        .iter()
        .map(|scope| scope.topic.clone())
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    let mut known = BTreeSet::new();
    for topic in client.topics(&names, false)? {
        let name = topic_name(&topic);
        known.extend(
            topic
                .partitions
                .iter()
                .map(|it| (name.clone(), it.partition_index)),
        );
    }
    for scope in &arguments.topic {
        let numbers = scope.partitions.iter().flatten();
        for number in numbers {
            if !known.contains(&(scope.topic.clone(), *number)) {
                return Err(ShellError::impossible(
                    format!("reset group {}", arguments.group),
                    format!("topic {} has no partition {number}.", scope.topic),
                ));
            }
        }
    }
    let meant = |(topic, partition): &Place| {
        arguments
            .topic
            .iter()
            .any(|scope| scope.includes(topic, *partition))
    };
    Ok(known.into_iter().filter(meant).collect())
}

fn execute(client: &mut Client, group: &str, steps: &[Step]) -> Result<(), ShellError> {
    let targets: BTreeMap<Place, i64> = steps
        .iter()
        .map(|step| ((step.topic.clone(), step.partition), step.to))
        .collect();
    committed::commit(client, group, &Committer::operator(), &targets)?
        .map_err(|code| ShellError::refused(format!("reset group {group}"), code, None))
}

fn show(
    arguments: &GroupReset,
    rule: Rule,
    steps: &[Step],
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    output.show(
        arguments.format.format,
        || {
            let mut table = Table::new(&["TOPIC", ">PARTITION", ">FROM", ">TO", ">BY", "NOTE"]);
            for step in steps {
                table.row([
                    step.topic.clone(),
                    step.partition.to_string(),
                    known(step.from),
                    step.to.to_string(),
                    step.moves_by()
                        .map_or("-".to_owned(), |by| format!("{by:+}")),
                    step.note.unwrap_or_default().to_owned(),
                ]);
            }
            let moment = match rule {
                Rule::Moment(ms) => format!("first record at or after {}\n", moment::show(ms)),
                _ => String::new(),
            };
            let ending = match arguments.execute {
                true => "the offsets are moved",
                false => "nothing was done; add --execute to move the offsets",
            };
            format!("{moment}{table}\n{ending}\n")
        },
        || {
            let step = |step: &Step| {
                json!({
                    "topic": step.topic,
                    "partition": step.partition,
                    "from": step.from,
                    "to": step.to,
                    "note": step.note,
                })
            };
            json!({
                "group": arguments.group,
                "executed": arguments.execute,
                "steps": steps.iter().map(step).collect::<Vec<_>>(),
            })
        },
    )?;
    Ok(())
}
