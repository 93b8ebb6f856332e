//! The bench on which brokers are measured: binaries, cores, folders, and whether it was quiet.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::Plan;
use super::broker::{Home, Running};
use super::brokers::Brokers;
use super::figures::short;
use super::{corelane, kafka};
use crate::arguments::{BrokerName, CompareArguments, Layout};
use crate::error::{BenchError, During, Result};
use crate::load::{self, Outcome, Spec};
use crate::machine::{available_cpus, pin_command, pin_thread, wait_until_quiet};
use crate::null;
use crate::table::number;
use crate::wire::{Control, Placement, Topic};

/// A client that used more of its core than this measured itself.
const CLIENT_CPU_SHARE_MAX: f64 = 0.9;

/// Everything that runs have in common.
pub struct Lab {
    pub plan: Plan,
    pub layout: Layout,
    pub quick: bool,
    pub kafka_version: String,
    pressure_max: f64,
    patience: Duration,
    root: PathBuf,
    /// Brokers of a run.
    pub nodes: i32,
    first_port: u16,
    corelane: PathBuf,
    corelane_settings: Vec<(String, String)>,
    kafka_jars: Option<PathBuf>,
    broker_cpus: Vec<usize>,
    client_cpus: Vec<usize>,
    prints_json: bool,
    /// Median acknowledgement of the null broker.
    pub floor_ack_us: Option<f64>,
    /// The run at hand.
    run: (&'static str, usize, BrokerName),
    /// What a reader of the figures must know.
    pub notes: BTreeSet<String>,
}

impl Lab {
    pub fn open(arguments: &CompareArguments, plan: Plan) -> Result<Lab> {
        // Ten thousand partitions need descriptors; brokers inherit this limit.
        rlimit::increase_nofile_limit(u64::MAX).during("raising the limit of open files")?;
        let this = env::current_exe().during("finding this binary")?;
        let beside = this.parent().unwrap_or(Path::new("."));
        let root = match &arguments.data {
            Some(root) => root.clone(),
            None => beside.parent().unwrap_or(beside).join("bench-data"),
        };
        fs::create_dir_all(&root).during(format!("creating {}", root.display()))?;
        let root = root.canonicalize().during("finding the data folder")?;
        let wants = |broker| arguments.brokers.contains(&broker);
        let kafka_jars = match (&arguments.kafka_jars, wants(BrokerName::Kafka)) {
            (Some(jars), _) => Some(jars.clone()),
            (None, false) if !wants(BrokerName::KafkaSync) => None,
            _ => Some(kafka::jars(&arguments.kafka_version)?),
        };
        let cpus = available_cpus();
        let (broker_cpus, client_cpus) = match arguments.layout {
            Layout::A if arguments.nodes > 1 => {
                let (last, others) = cpus.split_last().unwrap_or((&0, &[]));
                let shared = if others.is_empty() { &cpus[..] } else { others };
                (shared.to_vec(), vec![*last])
            }
            Layout::A => (vec![cpus[0]], vec![cpus[cpus.len() - 1]]),
            Layout::B => (cpus.clone(), cpus),
        };
        let quiet_patience = Duration::from_secs(if arguments.quick { 0 } else { 120 });
        Ok(Lab {
            plan,
            layout: arguments.layout,
            quick: arguments.quick,
            kafka_version: arguments.kafka_version.clone(),
            pressure_max: arguments.pressure_max,
            patience: arguments.patience.unwrap_or(quiet_patience),
            root,
            nodes: arguments.nodes,
            first_port: arguments.first_port,
            corelane: arguments
                .corelane
                .clone()
                .unwrap_or_else(|| beside.join("corelane")),
            corelane_settings: arguments.corelane_set.clone(),
            kafka_jars,
            broker_cpus,
            client_cpus,
            prints_json: arguments.json,
            floor_ack_us: None,
            run: ("", 0, BrokerName::Corelane),
            notes: BTreeSet::new(),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// From here on this thread is the client.
    pub fn pin_client(&self) -> Result<()> {
        pin_thread(&self.client_cpus).during("pinning the client")
    }

    /// Says what comes, and waits until the machine is quiet.
    pub fn begin(
        &mut self,
        workload: &'static str,
        round: usize,
        broker: BrokerName,
    ) -> Result<()> {
        self.run = (workload, round, broker);
        // What the run before left in the page cache is not this one's business.
        // SAFETY: no pointers are involved.
        unsafe { libc::sync() };
        let pressure = wait_until_quiet(self.pressure_max, self.patience);
        let shown = pressure.map_or_else(|| "unknown".to_owned(), |percent| number(percent) + " %");
        eprintln!(
            "{workload}, round {round}, {}: CPU pressure {shown}",
            short(broker)
        );
        if pressure.is_none_or(|percent| percent >= self.pressure_max) {
            self.notes.insert(format!(
                "Not to be quoted: some runs began with a CPU pressure (some avg10) of {} % or \
                 more, so other programs were running.",
                number(self.pressure_max)
            ));
        }
        Ok(())
    }

    /// An empty folder for a broker.
    pub fn home(&self) -> Result<Home> {
        Home::new(&self.root)
    }

    /// Starts `broker` in `home`, on the broker's cores.
    pub fn start(&self, broker: BrokerName, home: &Home) -> Result<Running> {
        let command = self.command(broker, home, std::slice::from_ref(home))?;
        self.start_on(command, &self.broker_cpus, home)
    }

    /// Starts what a run needs in empty folders: one broker, or the nodes of a cluster.
    pub fn brokers(&self, broker: BrokerName) -> Result<Brokers> {
        self.brokers_on(broker, &self.broker_cpus)
    }

    /// The nodes of a cluster on all cores, for workloads that measure times and no rates.
    pub fn brokers_everywhere(&self, broker: BrokerName) -> Result<Brokers> {
        self.brokers_on(broker, &self.all_cpus())
    }

    fn brokers_on(&self, broker: BrokerName, cpus: &[usize]) -> Result<Brokers> {
        let homes = match self.nodes {
            1 => vec![self.home()?],
            nodes => Home::of_cluster(&self.root, nodes, self.first_port)?,
        };
        let mut running = Vec::with_capacity(homes.len());
        for home in &homes {
            running.push(self.start_on(self.command(broker, home, &homes)?, cpus, home)?);
        }
        Ok(Brokers::new(homes, running))
    }

    /// Starts a node of `brokers` again, on all cores.
    pub fn start_again(&self, broker: BrokerName, brokers: &mut Brokers, node: i32) -> Result<()> {
        let home = brokers.homes.iter().find(|home| home.node == node);
        let home = home.ok_or_else(|| BenchError::Unusable(format!("there is no node {node}")))?;
        let command = self.command(broker, home, &brokers.homes)?;
        let running = self.start_on(command, &self.all_cpus(), home)?;
        brokers.replace(node, running)
    }

    fn all_cpus(&self) -> Vec<usize> {
        let all = self.broker_cpus.iter().chain(&self.client_cpus).copied();
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn command(&self, broker: BrokerName, home: &Home, cluster: &[Home]) -> Result<Command> {
        match (broker, &self.kafka_jars) {
            (BrokerName::Corelane, _) => {
                // Nodes of a cluster share what there is.
                let cores = if cluster.len() > 1 {
                    1
                } else {
                    self.broker_cpus.len()
                };
                corelane::command(
                    &self.corelane,
                    &self.corelane_settings,
                    cores,
                    home,
                    cluster,
                )
            }
            (_, Some(jars)) => kafka::command(jars, home, cluster),
            (_, None) => Err(BenchError::Unusable("Kafka's jars are missing".to_owned())),
        }
    }

    fn start_on(&self, mut command: Command, cpus: &[usize], home: &Home) -> Result<Running> {
        pin_command(&mut command, cpus.to_vec());
        home.start(command)
    }

    /// A new topic, led and writable: every partition has taken a first record. In a cluster each
    /// node has a replica of every partition, two must have a record before it is acknowledged,
    /// and leaders have stopped moving.
    pub fn topic(
        &self,
        broker: BrokerName,
        control: &mut Control,
        name: &str,
        partitions: i32,
    ) -> Result<Topic> {
        let placement = Placement::Anywhere(i16::try_from(self.nodes).unwrap_or(i16::MAX));
        self.topic_placed(broker, control, name, partitions, placement)
    }

    /// The same with replicas at certain places.
    pub fn topic_placed(
        &self,
        broker: BrokerName,
        control: &mut Control,
        name: &str,
        partitions: i32,
        placement: Placement<'_>,
    ) -> Result<Topic> {
        let mut configs = Vec::new();
        if broker == BrokerName::KafkaSync {
            configs.push(("flush.messages".to_owned(), "1".to_owned()));
        }
        if self.nodes > 1 {
            configs.push(("min.insync.replicas".to_owned(), "2".to_owned()));
        }
        control.create_topic(name, partitions, placement, &configs)?;
        if self.nodes > 1 {
            let nodes = self.nodes as usize;
            super::whole::wait(
                &[control.address()?],
                name,
                nodes,
                true,
                super::broker::PATIENCE,
            )?;
        }
        let topic = control.topic(name)?;
        if topic.partitions != partitions {
            let what = format!(
                "{name} has {} partitions, not {partitions}",
                topic.partitions
            );
            return Err(BenchError::Unusable(what));
        }
        control.fill(&topic, 0..partitions, 1, 8)?;
        Ok(topic)
    }

    /// Runs a load and notes what is wrong with it.
    pub fn load(&mut self, what: &str, spec: &Spec) -> Result<Outcome> {
        let outcome = load::run(spec)?;
        let (workload, round, broker) = self.run;
        let broker = short(broker);
        if self.prints_json {
            let line = serde_json::json!({
                "workload": workload, "run": what, "round": round, "broker": broker,
                "outcome": outcome,
            });
            println!("{line}");
        }
        if !outcome.errors.is_empty() {
            self.notes.insert(format!(
                "{workload} {what}, {broker}: errors {:?}.",
                outcome.errors
            ));
        }
        if outcome.missing > 0 || outcome.unanswered > 0 {
            self.notes.insert(format!(
                "{workload} {what}, {broker}: {} messages unanswered, {} not received.",
                outcome.unanswered, outcome.missing
            ));
        }
        if let Some(target) = outcome.target_per_s.filter(|_| !outcome.sustained) {
            let share = 100.0 * outcome.achieved_per_s / target;
            eprintln!(
                "{workload} {what}, {broker}: reached {} % of the rate",
                number(share)
            );
        }
        let client_share = outcome.spent.client_cpu_s / outcome.spent.wall_s;
        if client_share > CLIENT_CPU_SHARE_MAX {
            self.notes.insert(format!(
                "{workload} {what}, {broker}: bound by the client's core."
            ));
        }
        Ok(outcome)
    }

    /// What the generator itself costs: the fixed rate of W1 against a broker that does nothing.
    pub fn generator_floor(&mut self) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").during("binding the null broker")?;
        let address = listener.local_addr().during("binding the null broker")?;
        let cpus = self.broker_cpus.clone();
        // Lives until this process ends; without clients it costs nothing.
        thread::spawn(move || pin_thread(&cpus).map(|()| null::serve(listener)));
        self.run = ("floor", 0, BrokerName::Corelane);
        super::traffic::floor(self, address)
    }
}
