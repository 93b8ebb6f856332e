//! `corelane cluster decommission`: a node is to leave the cluster, or to stay after all.
//!
//! The cluster does it: this command puts the node on the list of those that leave (a config of all
//! brokers), and looks how far it is. It can be given again at any time to go on looking.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use protocol::messages::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource, IncrementalAlterableConfig,
};
use serde_json::{Value, json};

use super::arguments::{ClientArguments, DecommissionArguments};
use super::client::Client;
use super::cluster::{described, nodes};
use super::error::{ShellError, check};
use super::output::Output;
use super::under_way::{BROKER_RESOURCE, LEAVING, UnderWay};

const ALTER_CONFIGS_NEWEST: i16 = 1;
/// Operations of IncrementalAlterConfigs.
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
/// Pause before it is looked again how far the node is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(crate) fn run(
    arguments: &DecommissionArguments,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let began = Instant::now();
    let mut client = Client::connect(&arguments.client)?;
    mark(&mut client, arguments)?;
    let mut progress = Progress::ask(&mut client, arguments.node)?;
    if !arguments.cancel && !arguments.wait.is_zero() {
        let others = others(&mut client, arguments)?;
        progress = wait(client, arguments, &others, began, progress)?;
    }
    output.show(
        arguments.format.format,
        || progress.text(),
        || progress.json(),
    )?;
    output.flush()?;
    let is_late = !arguments.wait.is_zero() && progress.state == State::Leaves;
    match is_late && !arguments.cancel {
        true => Err(ShellError::impossible(
            format!("see node {} leave in time", arguments.node),
            "it goes on leaving; give the command again to look on.",
        )),
        false => Ok(()),
    }
}

fn mark(client: &mut Client, arguments: &DecommissionArguments) -> Result<(), ShellError> {
    let (node, cancel) = (arguments.node, arguments.cancel);
    let change = IncrementalAlterableConfig {
        name: LEAVING.into(),
        config_operation: if cancel { SUBTRACT } else { APPEND },
        value: Some(node.to_string().into()),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![IncrementalAlterConfigsResource {
            resource_type: BROKER_RESOURCE,
            resource_name: "".into(),
            configs: vec![change],
        }],
        validate_only: false,
    };
    let response = client.ask(&request, ALTER_CONFIGS_NEWEST)?;
    response.responses.iter().try_for_each(|result| {
        let what = || match cancel {
            true => format!("keep node {node}"),
            false => format!("decommission node {node}"),
        };
        check(what, result.error_code, result.error_message.as_deref())
    })
}

/// How to reach the cluster without the node: it may be the only one that was named.
fn others(
    client: &mut Client,
    arguments: &DecommissionArguments,
) -> Result<ClientArguments, ShellError> {
    let metadata = client.metadata(None, false)?;
    let others = metadata.brokers.iter();
    let others = others.filter(|broker| broker.node_id != arguments.node);
    let others = others.map(|broker| format!("{}:{}", broker.host.as_str(), broker.port));
    let named = arguments.client.bootstrap.clone();
    let all: Vec<String> = others.chain([named]).collect();
    Ok(ClientArguments {
        bootstrap: all.join(","),
        timeout: arguments.client.timeout,
    })
}

/// Looks until the node has left, or for as long as was asked for.
fn wait(
    mut client: Client,
    arguments: &DecommissionArguments,
    others: &ClientArguments,
    began: Instant,
    first: Progress,
) -> Result<Progress, ShellError> {
    let bar = ProgressBar::new(first.replicas as u64);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    let mut progress = first;
    while progress.state == State::Leaves && began.elapsed() < arguments.wait {
        bar.set_length(bar.length().unwrap_or(0).max(progress.replicas as u64));
        bar.set_position(bar.length().unwrap_or(0) - progress.replicas as u64);
        bar.set_message(progress.text().trim_end().to_owned());
        std::thread::sleep(LOOK_EVERY);
        match Progress::ask(&mut client, arguments.node) {
            Ok(now) => progress = now,
            // Perhaps it was the node itself that was asked, and it has left.
            Err(error) => match Client::connect(others) {
                Ok(other) => client = other,
                Err(_) => return Err(error),
            },
        }
    }
    bar.finish_and_clear();
    Ok(progress)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stays,
    Leaves,
    Left,
}

/// How far a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    node: i32,
    state: State,
    /// What it holds, or is to hold.
    replicas: usize,
    /// Those that are on their way to others.
    going: usize,
}

impl Progress {
    fn ask(client: &mut Client, node: i32) -> Result<Progress, ShellError> {
        let metadata = client.metadata(None, false)?;
        let nodes = nodes(&metadata, &described(client)?);
        let under_way = UnderWay::ask(client)?;
        let known = nodes.iter().find(|known| known.id == node);
        Ok(Progress {
            node,
            state: match known {
                None => State::Left,
                Some(_) if under_way.leaving.contains(&node) => State::Leaves,
                Some(_) => State::Stays,
            },
            replicas: known.map_or(0, |known| known.replicas),
            going: under_way.going.get(&node).copied().unwrap_or(0),
        })
    }

    fn text(&self) -> String {
        let Progress {
            node,
            state,
            replicas,
            going,
        } = self;
        match (state, replicas) {
            (State::Left, _) => format!("node {node} has left the cluster\n"),
            (State::Stays, _) => format!("node {node} stays, with {replicas} replicas\n"),
            (State::Leaves, 0) => format!("node {node} is empty and about to leave\n"),
            (State::Leaves, _) => format!(
                "node {node} leaves: {replicas} replicas are still there, {going} on their way to other nodes\n"
            ),
        }
    }

    fn json(&self) -> Value {
        let state = match self.state {
            State::Stays => "stays",
            State::Leaves => "leaves",
            State::Left => "left",
        };
        json!({
            "node": self.node,
            "state": state,
            "replicas": self.replicas,
            "going": self.going,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_fits_how_far_it_is() {
        let mut progress = Progress {
            node: 4,
            state: State::Leaves,
            replicas: 12,
            going: 8,
        };
        assert!(
            progress
                .text()
                .contains("12 replicas are still there, 8 on")
        );
        assert_eq!(progress.json()["state"], "leaves");
        progress.replicas = 0;
        assert!(progress.text().contains("is empty"));
        progress.state = State::Left;
        assert_eq!(progress.text(), "node 4 has left the cluster\n");
    }
}
