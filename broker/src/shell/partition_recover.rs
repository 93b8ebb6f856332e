//! `corelane partition recover` and `recoveries`, `corelane cluster recover-metadata`: what is left when a majority is
//! gone for good.
//!
//! The node decides; here its plan is told in words that leave no doubt about what may be lost.

use std::fmt::Write as _;
use std::io::Write;

use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::arguments::{LossArguments, MetadataRecover, PartitionRecover, Recoveries};
use super::client::Client;
use super::error::ShellError;
use super::orders::Order;
use super::output::Output;
use super::table::Table;
use super::{moment, partition};

pub(crate) fn run(
    arguments: &PartitionRecover,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let (Some(topic), Some(partition)) = (&arguments.topic, arguments.partition) else {
        return all(arguments, output);
    };
    let told = recover(arguments, topic, partition)?;
    let text = || text(&name(topic, partition), &told, &arguments.loss.lost);
    output.show(arguments.format.format, text, || told.clone())?;
    Ok(())
}

fn name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// Gives the order for one partition: its plan, or what was done.
fn recover(arguments: &PartitionRecover, topic: &str, partition: i32) -> Result<Value, ShellError> {
    let what = format!("recover {}", name(topic, partition));
    let order = Order::new(what, "/partitions/recover");
    let order = order.with("topic", topic);
    let order = order.with("partition", &partition.to_string());
    order.with_loss(&arguments.loss).give(&arguments.admin)
}

/// Every partition without a leader, each for itself: one that is refused stays as it is, and the others go on.
fn all(arguments: &PartitionRecover, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let offline = partition::offline(&mut client, arguments.topic.as_deref())?;
    let mut outcomes = Vec::with_capacity(offline.len());
    let bar = ProgressBar::new(offline.len() as u64);
    for (topic, partition) in bar.wrap_iter(offline.into_iter()) {
        let told = recover(arguments, &topic, partition).map_err(|error| error.to_string());
        outcomes.push((topic, partition, told));
    }
    bar.finish_and_clear();
    let text = || all_text(&outcomes, &arguments.loss);
    let json = || outcomes.iter().map(outcome_json).collect();
    output.show(arguments.format.format, text, json)?;
    output.flush()?;
    let refused = outcomes.iter().filter(|(_, _, told)| told.is_err()).count();
    match refused {
        0 => Ok(()),
        _ => Err(ShellError::impossible(
            format!("recover {refused} of {} partitions", outcomes.len()),
            "the reasons stand above. The others are not touched by that.",
        )),
    }
}

/// A partition, and its plan or why there is none.
type Outcome = (String, i32, Result<Value, String>);

fn outcome_json((topic, partition, told): &Outcome) -> Value {
    let mut one = json!({"topic": topic, "partition": partition});
    match told {
        Ok(Value::Object(told)) => one
            .as_object_mut()
            .expect("made above")
            .extend(told.clone()),
        Ok(told) => one["told"] = told.clone(),
        Err(error) => one["error"] = Value::from(error.as_str()),
    }
    one
}

fn all_text(outcomes: &[Outcome], loss: &LossArguments) -> String {
    if outcomes.is_empty() {
        return "every partition has a leader: there is nothing to recover\n".to_owned();
    }
    let mut table = Table::new(&[
        "TOPIC",
        ">PARTITION",
        ">NODE",
        ">COMMITTED",
        ">END",
        "STATE",
    ]);
    let mut refusals = String::new();
    for (topic, partition, told) in outcomes {
        let survivor = |field: &str| match told {
            Ok(told) => told["survivor"][field].to_string(),
            Err(_) => "-".to_owned(),
        };
        let state = match told {
            Ok(told) if told["done"] == true => format!("goes on alone, in term {}", told["term"]),
            Ok(_) => "would go on alone".to_owned(),
            Err(_) => "refused".to_owned(),
        };
        if let Err(error) = told {
            let _ = writeln!(refusals, "{error}");
        }
        table.row([
            topic.clone(),
            partition.to_string(),
            survivor("node"),
            survivor("committed_offset"),
            survivor("end_offset"),
            state,
        ]);
    }
    let mut text = format!("{table}\n{refusals}");
    if outcomes.iter().all(|(_, _, told)| told.is_err()) {
        return text;
    }
    text.push_str(
        "kept: all that the node has, up to END. What lies behind COMMITTED is kept although nobody may have got an\n  \
         acknowledgement for it.\n\
         may be lost: every record that was acknowledged and is not on that node. How many these are nobody can\n  \
         say: only the lost nodes knew.\n",
    );
    retired(&mut text, &loss.lost, loss.accept_data_loss);
    text
}

/// What becomes of the disks of the lost nodes, and how to go on.
fn retired(text: &mut String, lost: &[i32], is_done: bool) {
    let names: Vec<String> = lost.iter().map(i32::to_string).collect();
    if !names.is_empty() {
        let (are, names) = (if is_done { "are" } else { "would be" }, names.join(", "));
        let _ = writeln!(
            text,
            "the disks of nodes {names} {are} retired: they are refused if they come back, and need\n  empty \
             directories. That goes for everything on them."
        );
    }
    if !is_done {
        let _ = writeln!(text, "\nTo do it, add --accept-data-loss.");
    }
}

/// The metadata of the cluster.
pub(crate) fn metadata(
    arguments: &MetadataRecover,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let order = Order::new("recover the metadata", "/metadata/recover");
    let told = order.with_loss(&arguments.loss).give(&arguments.admin)?;
    let text = || text("the metadata", &told, &arguments.loss.lost);
    output.show(arguments.format.format, text, || told.clone())?;
    Ok(())
}

fn text(name: &str, told: &Value, lost: &[i32]) -> String {
    let is_done = told["done"] == true;
    let survivor = &told["survivor"];
    let node = &survivor["node"];
    let (committed, end) = (&survivor["committed_offset"], &survivor["end_offset"]);
    let mut text = match is_done {
        true => format!(
            "{name} goes on from node {node} alone, in term {}.\n",
            told["term"]
        ),
        false => format!("{name} would go on from node {node} alone; nothing was changed yet.\n"),
    };
    let mut table = Table::new(&[
        ">NODE",
        "ROLE",
        ">LAST TERM",
        ">LAST INDEX",
        ">COMMITTED",
        ">END",
        "NOTE",
    ]);
    let row = |holding: &Value, role: &str| {
        [
            holding["node"].to_string(),
            role.to_owned(),
            holding["last_term"].to_string(),
            holding["last_index"].to_string(),
            holding["committed_offset"].to_string(),
            holding["end_offset"].to_string(),
            note(holding),
        ]
    };
    table.row(row(survivor, "goes on"));
    for follower in told["followers"].as_array().into_iter().flatten() {
        table.row(row(follower, "follows it"));
    }
    let _ = write!(text, "\n{table}\n");
    let _ = writeln!(
        text,
        "kept: all that node {node} has, up to offset {end}. It knows that {committed} and below"
    );
    let _ = writeln!(
        text,
        "  was committed; records from there to {end} are kept although nobody may have got an"
    );
    let _ = writeln!(text, "  acknowledgement for them.");
    if let Some(missing @ 1..) = survivor["missing_entries"].as_u64() {
        let _ = writeln!(
            text,
            "lost: what was in {missing} entries behind its end. It was taking the partition over and has only what\n               came of them: producers, committed offsets, the cluster's metadata."
        );
    }
    let _ = writeln!(
        text,
        "may be lost: every record that was acknowledged and is not on node {node}. How many these"
    );
    let _ = writeln!(text, "  are nobody can say: only the lost nodes knew.");
    retired(&mut text, lost, is_done);
    text
}

/// What is to be said of a replica.
fn note(holding: &Value) -> String {
    let missing = holding["missing_entries"].as_u64().unwrap_or(0);
    match (holding["unfit"].as_str(), missing) {
        (Some(unfit), _) => unfit.to_owned(),
        (None, 0) => "-".to_owned(),
        (None, missing) => format!("{missing} entries never came"),
    }
}

/// What was recovered so far.
pub(crate) fn list(
    arguments: &Recoveries,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let order = Order::new("read what was recovered", "/partitions/recoveries");
    let told = order.give(&arguments.admin)?;
    let text = || {
        let mut table = Table::new(&[
            "WHEN",
            "BY",
            "TOPIC",
            ">PARTITION",
            ">NODE",
            "GONE",
            ">COMMITTED",
            ">END",
        ]);
        for one in told.as_array().into_iter().flatten() {
            let gone = one["gone"].as_array().into_iter().flatten();
            let gone: Vec<&str> = gone.filter_map(Value::as_str).collect();
            table.row([
                moment::show(one["at_ms"].as_i64().unwrap_or(0)),
                one["by"].as_str().unwrap_or("-").to_owned(),
                one["topic"].as_str().unwrap_or("-").to_owned(),
                one["partition"].to_string(),
                one["survivor"].to_string(),
                gone.join(","),
                one["committed_offset"].to_string(),
                one["end_offset"].to_string(),
            ]);
        }
        match table.is_empty() {
            true => "nothing was ever recovered from a minority\n".to_owned(),
            false => table.to_string(),
        }
    };
    output.show(arguments.format.format, text, || told.clone())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(done: bool) -> Value {
        let holding = |node: i32, end: i64| json!({"node": node, "last_term": 4, "last_index": 20, "committed_offset": 90, "end_offset": end, "unfit": null});
        json!({
            "survivor": holding(1, 100),
            "followers": [holding(5, 95)],
            "term": 1_004,
            "done": done,
        })
    }

    #[test]
    fn a_plan_says_what_is_kept_what_may_be_lost_and_how_to_go_on() {
        let text = text("t-0", &told(false), &[2, 3]);
        for words in [
            "nothing was changed",
            "up to offset 100",
            "90 and below",
            "not on node 1",
            "nodes 2, 3 would be retired",
            "--accept-data-loss",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_log_that_is_behind_its_state_is_told() {
        let mut plan = told(false);
        plan["survivor"]["missing_entries"] = json!(12);
        let text = text("t-0", &plan, &[2, 3]);
        assert!(text.contains("12 entries never came"), "{text}");
        assert!(text.contains("lost: what was in 12 entries"), "{text}");
    }

    #[test]
    fn what_was_done_is_not_offered_again() {
        let text = text("t-0", &told(true), &[2, 3]);
        assert!(
            text.starts_with("t-0 goes on from node 1 alone, in term 1004."),
            "{text}"
        );
        assert!(!text.contains("--accept-data-loss"), "{text}");
    }

    #[test]
    fn of_many_partitions_each_is_told_and_one_that_is_refused_says_why() {
        let outcomes = [
            ("t".to_owned(), 0, Ok(told(false))),
            (
                "t".to_owned(),
                1,
                Err("cannot recover t-1: Node 2 runs.".to_owned()),
            ),
        ];
        let loss = LossArguments {
            lost: vec![2, 3],
            accept_data_loss: false,
            by: None,
        };
        let text = all_text(&outcomes, &loss);
        for words in [
            "would go on alone",
            "cannot recover t-1: Node 2 runs.",
            "nodes 2, 3 would be retired",
            "--accept-data-loss",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let refused = all_text(&outcomes[1..], &loss);
        assert!(!refused.contains("--accept-data-loss"), "{refused}");
        assert!(all_text(&[], &loss).starts_with("every partition has a leader"));
        let told: Vec<Value> = outcomes.iter().map(outcome_json).collect();
        assert_eq!(told[0]["survivor"]["end_offset"], 100);
        assert_eq!(told[1]["partition"], 1);
        assert_eq!(told[1]["error"], "cannot recover t-1: Node 2 runs.");
    }
}
