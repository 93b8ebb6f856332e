//! `corelane partition recover` and `recoveries`, `corelane cluster recover-metadata`: what is left when a majority is
//! gone for good.
//!
//! The node decides; here its plan is told in words that leave no doubt about what may be lost.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::Value;

use super::arguments::{MetadataRecover, PartitionRecover, Recoveries};
use super::error::ShellError;
use super::moment;
use super::orders::Order;
use super::output::Output;
use super::table::Table;

pub(crate) fn run(
    arguments: &PartitionRecover,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let name = format!("{}-{}", arguments.topic, arguments.partition);
    let order = Order::new(format!("recover {name}"), "/partitions/recover");
    let order = order.with("topic", &arguments.topic);
    let order = order.with("partition", &arguments.partition.to_string());
    let told = order.with_loss(&arguments.loss).give(&arguments.admin)?;
    let text = || text(&name, &told, &arguments.loss.lost);
    output.show(arguments.format.format, text, || told.clone())?;
    Ok(())
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
            holding["unfit"].as_str().unwrap_or("-").to_owned(),
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
    let _ = writeln!(
        text,
        "may be lost: every record that was acknowledged and is not on node {node}. How many these"
    );
    let _ = writeln!(text, "  are nobody can say: only the lost nodes knew.");
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
    text
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
    use serde_json::json;

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
    fn what_was_done_is_not_offered_again() {
        let text = text("t-0", &told(true), &[2, 3]);
        assert!(
            text.starts_with("t-0 goes on from node 1 alone, in term 1004."),
            "{text}"
        );
        assert!(!text.contains("--accept-data-loss"), "{text}");
    }
}
