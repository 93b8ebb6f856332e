//! `corelane dev`: clusters on this machine, to see what a broker does when its nodes, its network
//! and its disks do not.
//!
//! `start` stays in the foreground with the nodes as its children; the other commands tell it what
//! to do and wait until that is so. A node is the same program with generated settings. Nothing
//! here is for production: no other machine takes part, and nothing starts a node that died.
//!
//! - [`foreground`]: the process that all nodes are children of; [`node`], [`process`]: those.
//! - [`doors`], [`relay`]: the network between the nodes.
//! - [`layout`]: ports, settings, files; [`control`]: orders; [`show`]: what is printed.

mod control;
mod doors;
mod foreground;
mod layout;
mod node;
mod process;
mod relay;
mod show;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::arguments::{DevClusterCommand, DevCommand, DevDown, DevNodes, DevPlace, DevWaiting};
use super::error::ShellError;
use super::output::Output;
use control::{Answer, NodeReport, NodeState, Order, tell};
use layout::ClusterFile;
use process::{ProcessId, Signal};

/// Pause before a cluster is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(command: DevCommand, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let DevCommand::Cluster(command) = command;
    match command {
        DevClusterCommand::Start(arguments) => foreground::run(&arguments, output),
        DevClusterCommand::Show(place) => {
            let answer = order(&place.data, &Order::Show)?;
            show::nodes(place.format.format, &answer.nodes, output)
        }
        DevClusterCommand::Kill(arguments) => {
            let order = Order::Kill(arguments.nodes.clone());
            carry_out(&order, &arguments, has_ended, output)
        }
        DevClusterCommand::Stop(arguments) => {
            let order = Order::Stop(arguments.nodes.clone());
            carry_out(&order, &arguments, has_ended, output)
        }
        DevClusterCommand::StartNode(arguments) => {
            let order = Order::Start(arguments.nodes.clone());
            carry_out(&order, &arguments, has_started, output)
        }
        DevClusterCommand::Pause(arguments) => {
            let order = Order::Pause(arguments.nodes);
            at_once(&order, &arguments.waiting.place, output)
        }
        DevClusterCommand::Resume(arguments) => {
            let order = Order::Resume(arguments.nodes);
            at_once(&order, &arguments.waiting.place, output)
        }
        DevClusterCommand::Wipe(arguments) => {
            let order = Order::Wipe(arguments.nodes);
            at_once(&order, &arguments.waiting.place, output)
        }
        DevClusterCommand::Cut(arguments) => {
            let order = Order::Cut {
                from: arguments.from,
                to: arguments.to,
                one_way: arguments.one_way,
                reset: arguments.reset,
            };
            at_once(&order, &arguments.place, output)
        }
        DevClusterCommand::Isolate(arguments) => {
            let order = Order::Isolate {
                node: arguments.node,
                reset: arguments.reset,
            };
            at_once(&order, &arguments.place, output)
        }
        DevClusterCommand::Heal(place) => at_once(&Order::Heal, &place, output),
        DevClusterCommand::Add(waiting) => add(&waiting, output),
        DevClusterCommand::Down(arguments) => down(&arguments, output),
    }
}

/// Gives an order to the cluster that runs in a directory.
fn order(directory: &Path, order: &Order) -> Result<Answer, ShellError> {
    tell(directory, order)?.ok_or_else(|| foreground::nothing_runs(directory))
}

/// Gives an order, and what was done. A refusal is an error.
fn obeyed(directory: &Path, given: &Order) -> Result<(Vec<String>, Vec<NodeReport>), ShellError> {
    let answer = order(directory, given)?;
    match answer.outcome {
        Ok(done) => Ok((done, answer.nodes)),
        Err(reason) => Err(ShellError::impossible("do that", reason)),
    }
}

fn at_once(
    given: &Order,
    place: &DevPlace,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let (done, _) = obeyed(&place.data, given)?;
    tell_done(&done, place, output)
}

fn tell_done(
    done: &[String],
    place: &DevPlace,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let text = || done.iter().map(|done| format!("{done}\n")).collect();
    output.show(place.format.format, text, || json!({"done": done}))?;
    Ok(())
}

/// Gives an order about nodes, and waits until it is so with all of them.
fn carry_out(
    given: &Order,
    arguments: &DevNodes,
    is_so: impl Fn(NodeState) -> bool,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    obeyed(&arguments.waiting.place.data, given)?;
    let done = wait(&arguments.waiting, &arguments.nodes, is_so)?;
    tell_done(&done, &arguments.waiting.place, output)
}

fn add(waiting: &DevWaiting, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let (_, nodes) = obeyed(&waiting.place.data, &Order::Add)?;
    let added: Vec<i32> = nodes
        .iter()
        .map(|node| node.node)
        .max()
        .into_iter()
        .collect();
    let done = wait(waiting, &added, has_started)?;
    tell_done(&done, &waiting.place, output)
}

fn has_ended(state: NodeState) -> bool {
    matches!(
        state,
        NodeState::Stopped | NodeState::Killed | NodeState::Failed
    )
}

fn has_started(state: NodeState) -> bool {
    state == NodeState::Running
}

/// Looks until all these nodes have come to what they should; says what that is.
fn wait(
    waiting: &DevWaiting,
    nodes: &[i32],
    is_so: impl Fn(NodeState) -> bool,
) -> Result<Vec<String>, ShellError> {
    let began = Instant::now();
    let spinner = show::spinner();
    loop {
        let answer = order(&waiting.place.data, &Order::Show)?;
        let all = answer.nodes.iter();
        let asked: Vec<&NodeReport> = all.filter(|node| nodes.contains(&node.node)).collect();
        let told = |node: &&NodeReport| format!("node {} is {}", node.node, node.state.name());
        let states: Vec<String> = asked.iter().map(told).collect();
        if asked.iter().all(|node| is_so(node.state)) {
            spinner.finish_and_clear();
            return Ok(states);
        }
        let is_lost = |node: &&&NodeReport| has_ended(node.state) && !is_so(node.state);
        if let Some(node) = asked.iter().find(is_lost) {
            let log = node.log.display();
            let reason = format!("it is {}. Its log {log} says why.", node.state.name());
            return Err(ShellError::impossible(
                format!("start node {}", node.node),
                reason,
            ));
        }
        if began.elapsed() >= waiting.timeout {
            let reason = format!("{} after {:?}.", states.join(", "), waiting.timeout);
            return Err(ShellError::impossible("see it done", reason));
        }
        spinner.set_message(states.join(", "));
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Stops the cluster of a directory, whoever is left of it.
fn down(arguments: &DevDown, output: &mut Output<impl Write>) -> Result<(), ShellError> {
    let place = &arguments.waiting.place;
    let Some(cluster) = ClusterFile::read(&place.data)? else {
        return Err(foreground::nothing_runs(&place.data));
    };
    let mut done = Vec::new();
    let foreground = cluster.process.filter(|process| process.lives());
    let left = match foreground {
        Some(process) => {
            obeyed(&place.data, &Order::Down)?;
            vec![process]
        }
        None => {
            let left: Vec<ProcessId> = cluster.living().into_iter().map(|(_, id)| id).collect();
            for process in &left {
                // One that was frozen takes note of nothing.
                let told = process
                    .signal(Signal::CONT)
                    .and_then(|_| process.signal(Signal::TERM));
                told.map_err(|error| ShellError::impossible("stop a node", error.to_string()))?;
            }
            left
        }
    };
    if wait_for_end(&left, arguments.waiting.timeout)? {
        done.push("all nodes have stopped".to_owned());
    } else if foreground.is_none() {
        done.push("no node was running".to_owned());
    }
    if arguments.remove {
        // Nodes that were added since are in the file now.
        let cluster = ClusterFile::read(&place.data)?.unwrap_or(cluster);
        cluster.remove(&place.data)?;
        control::forget(&place.data);
        // It stays if somebody else keeps something in it.
        let _ = std::fs::remove_dir(&place.data);
        done.push("their data and logs are deleted".to_owned());
    }
    tell_done(&done, place, output)
}

/// Waits until all of these processes have ended. False if there were none.
fn wait_for_end(processes: &[ProcessId], timeout: Duration) -> Result<bool, ShellError> {
    let began = Instant::now();
    let spinner = show::spinner();
    spinner.set_message("the nodes stop");
    while processes.iter().any(|process| process.lives()) {
        if began.elapsed() >= timeout {
            let reason = format!("some still run after {timeout:?}. Try again, or kill them.");
            return Err(ShellError::impossible("stop all nodes", reason));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    spinner.finish_and_clear();
    Ok(!processes.is_empty())
}
