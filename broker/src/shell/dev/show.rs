//! What is printed about a cluster: its nodes, and what to try with them.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::super::arguments::ClientArguments;
use super::super::client::Client;
use super::super::error::ShellError;
use super::super::output::{Format, Output};
use super::super::table::{Table, list};
use super::control::{NodeReport, NodeState};

/// How long one node is asked what it leads.
const LEADERS_WITHIN: Duration = Duration::from_secs(2);

/// A sign of life on stderr; it stays away by itself if that is no terminal.
pub(super) fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// All nodes are ready: where they are, and what to do with them.
pub(super) fn welcome(
    format: Format,
    nodes: &[NodeReport],
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let text = || {
        let mut table = Table::new(&[">NODE", "CLIENTS", "ADMIN", ">PID", "LOG"]);
        for node in nodes {
            table.row([
                node.node.to_string(),
                node.client.to_string(),
                node.admin.to_string(),
                pid(node),
                node.log.display().to_string(),
            ]);
        }
        let bootstrap: Vec<String> = nodes.iter().map(|node| node.client.to_string()).collect();
        let bootstrap = bootstrap.join(",");
        format!(
            "{table}\nIn another terminal:\n  \
             export CORELANE_BOOTSTRAP={bootstrap}\n  \
             corelane topic create orders --partitions 6\n  \
             corelane produce orders --count 100000 --size 100\n  \
             corelane dev cluster kill 1       then `show`, then `start-node 1`\n  \
             corelane dev cluster isolate 2    then `heal`\n  \
             corelane cluster health\n\nCtrl-C stops all nodes.\n"
        )
    };
    output.show(format, text, || report_json(nodes, None))?;
    Ok(output.flush()?)
}

/// What each node does.
pub(super) fn nodes(
    format: Format,
    nodes: &[NodeReport],
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let leads = leads(nodes);
    let text = || {
        let heads = [
            ">NODE", "STATE", ">UPTIME", ">LEADS", "CUT TO", "CLIENTS", "ADMIN", ">PID",
        ];
        let mut table = Table::new(&heads);
        for node in nodes {
            let leads = leads.as_ref().map(|leads| leads.get(&node.node));
            let leads = leads.map(|count| count.copied().unwrap_or(0).to_string());
            table.row([
                node.node.to_string(),
                node.state.name().to_owned(),
                node.uptime_ms.map_or_else(|| "-".to_owned(), uptime),
                leads.unwrap_or_else(|| "-".to_owned()),
                list(&node.cut_to),
                node.client.to_string(),
                node.admin.to_string(),
                pid(node),
            ]);
        }
        table.to_string()
    };
    output.show(format, text, || report_json(nodes, leads.as_ref()))?;
    Ok(())
}

pub(super) fn report_json(nodes: &[NodeReport], leads: Option<&BTreeMap<i32, usize>>) -> Value {
    let node = |node: &NodeReport| {
        json!({
            "node": node.node,
            "state": node.state.name(),
            "pid": node.pid,
            "uptime_ms": node.uptime_ms,
            "leads": leads.map(|leads| leads.get(&node.node).copied().unwrap_or(0)),
            "cut_to": node.cut_to,
            "client": node.client.to_string(),
            "admin": node.admin.to_string(),
            "log": node.log,
        })
    };
    json!({"nodes": nodes.iter().map(node).collect::<Vec<_>>()})
}

fn pid(node: &NodeReport) -> String {
    node.pid
        .map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

fn uptime(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h {minutes:02}m"),
    }
}

/// Partitions that each node leads. Nodes that are cut off may believe in leaders of the past, so
/// all that run are asked, and the highest epoch of a partition is believed. `None`: none answers.
fn leads(nodes: &[NodeReport]) -> Option<BTreeMap<i32, usize>> {
    let running = nodes.iter().filter(|node| node.state == NodeState::Running);
    let mut views = Vec::new();
    for node in running {
        let arguments = ClientArguments {
            bootstrap: node.client.to_string(),
            timeout: LEADERS_WITHIN,
        };
        let asked = Client::connect(&arguments).and_then(|mut client| client.metadata(None, false));
        let Ok(metadata) = asked else { continue };
        let mut view = BTreeMap::new();
        for topic in &metadata.topics {
            for partition in &topic.partitions {
                let place = (topic.topic_id, partition.partition_index);
                view.insert(place, (partition.leader_epoch, partition.leader_id));
            }
        }
        views.push(view);
    }
    (!views.is_empty()).then(|| count_newest(&views))
}

/// Leaders by node, of the highest epoch that any view knows.
fn count_newest<P: Ord + Copy>(views: &[BTreeMap<P, (i32, i32)>]) -> BTreeMap<i32, usize> {
    let mut newest: BTreeMap<P, (i32, i32)> = BTreeMap::new();
    for (place, told) in views.iter().flatten() {
        let known = newest.entry(*place).or_insert(*told);
        *known = (*known).max(*told);
    }
    let mut leads = BTreeMap::new();
    for (_, leader) in newest.into_values().filter(|(_, leader)| *leader >= 0) {
        *leads.entry(leader).or_insert(0) += 1;
    }
    leads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_of_the_past_is_not_counted() {
        let isolated = BTreeMap::from([(0, (4, 1)), (1, (7, 2)), (2, (-1, -1))]);
        let others = BTreeMap::from([(0, (5, 2)), (1, (7, 2)), (2, (-1, -1))]);
        let leads = count_newest(&[isolated, others]);
        assert_eq!(leads, BTreeMap::from([(2, 2)]));
    }

    #[test]
    fn uptimes_are_short() {
        let told = [900, 61_000, 3_600_000 + 120_000].map(uptime);
        assert_eq!(told, ["0s", "1m 01s", "1h 02m"]);
    }

    #[test]
    fn what_is_printed_names_every_node() {
        let report = |node| NodeReport {
            node,
            state: NodeState::Killed,
            pid: None,
            uptime_ms: None,
            client: ([127, 0, 0, 1], 9091 + node as u16).into(),
            admin: ([127, 0, 0, 1], 1).into(),
            log: "node.log".into(),
            cut_to: vec![3 - node],
        };
        let reports = [report(1), report(2)];
        let mut bytes = Vec::new();
        nodes(Format::Table, &reports, &mut Output::new(&mut bytes)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.contains("killed") && text.contains("127.0.0.1:9093"),
            "{text}"
        );
        let mut bytes = Vec::new();
        welcome(Format::Json, &reports, &mut Output::new(&mut bytes)).unwrap();
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["nodes"][1]["cut_to"], json!([1]));
    }
}
