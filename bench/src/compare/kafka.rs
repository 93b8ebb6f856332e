//! Apache Kafka as a process: a KRaft node that is broker and controller, as its own start script
//! would run it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::broker::Home;
use crate::error::{BenchError, During, Result};

/// Which Maven project names Kafka's jars, from the root of the repository.
const PROJECT: &str = ".ci/kafka";

/// Warnings only.
const LOGGING: &str = "\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
";

/// The heap and the collector that Kafka's start script chooses.
const JVM_FLAGS: [&str; 8] = [
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// The folder with the jars of `version`, fetched from Maven Central unless they are in the cache.
pub fn jars(version: &str) -> Result<PathBuf> {
    let project = project()?;
    let pom = fs::read_to_string(project.join("pom.xml")).during("reading Kafka's pom.xml")?;
    if pom.contains(&format!("<kafka.version>{version}</kafka.version>")) {
        // The version of the compatibility suites: its cache is shared with them.
        let mut command = Command::new(project.join("fetch-jars"));
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .during("fetching Kafka's jars")?;
        if !output.status.success() {
            return Err(BenchError::Unusable(
                "Kafka's jars could not be fetched".to_owned(),
            ));
        }
        return Ok(PathBuf::from(
            String::from_utf8_lossy(&output.stdout).trim(),
        ));
    }
    let folder = cache()?.join(format!("kafka-{version}"));
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    let mut maven = Command::new("mvn");
    maven.args([
        "-q",
        "-B",
        "-DincludeScope=runtime",
        "dependency:copy-dependencies",
    ]);
    maven.arg("-f").arg(project.join("pom.xml"));
    maven.arg(format!("-Dkafka.version={version}"));
    maven.arg(format!("-DoutputDirectory={}", folder.display()));
    let status = maven
        .stdout(Stdio::null())
        .status()
        .during("starting mvn")?;
    if !status.success() {
        return Err(BenchError::Unusable(format!(
            "mvn could not fetch Kafka {version}"
        )));
    }
    fs::write(folder.join("complete"), "").during("marking Kafka's jars as complete")?;
    Ok(folder)
}

/// The Maven project: in this folder or in one above it.
fn project() -> Result<PathBuf> {
    let here = env::current_dir().during("reading the working directory")?;
    let found = here
        .ancestors()
        .map(|folder| folder.join(PROJECT))
        .find(|path| path.exists());
    found.ok_or_else(|| {
        let what =
            format!("{PROJECT} is not here; run this in the repository or give --kafka-jars");
        BenchError::Unusable(what)
    })
}

fn cache() -> Result<PathBuf> {
    let own = env::var_os("CORELANE_CACHE").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/corelane"));
    let unknown = || BenchError::Unusable("set CORELANE_CACHE: there is no HOME".to_owned());
    own.or_else(home).ok_or_else(unknown)
}

/// How to start the broker; on the first start its folder is formatted, which does not count.
pub fn command(jars: &Path, home: &Home, cluster: &[Home]) -> Result<Command> {
    let config = home.data.join("server.properties");
    let logging = home.data.join("log4j2.properties");
    if !config.exists() {
        fs::write(&config, properties(home, cluster)).during("writing Kafka's configuration")?;
        fs::write(&logging, LOGGING).during("writing Kafka's configuration")?;
        format(jars, &logging, &config)?;
    }
    let mut command = java(jars, &logging);
    command.args(JVM_FLAGS).arg("kafka.Kafka").arg(&config);
    Ok(command)
}

fn java(jars: &Path, logging: &Path) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(jars.join("*"));
    command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    command
}

fn format(jars: &Path, logging: &Path, config: &Path) -> Result<()> {
    let mut command = java(jars, logging);
    command.args([
        "-XX:TieredStopAtLevel=1",
        "kafka.tools.StorageTool",
        "format",
    ]);
    command
        .args(["-t", "AAAAAAAAQACAAAAAAAAAAQ", "-c"])
        .arg(config);
    let output = command.output().during("starting java")?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stdout).into_owned();
    Err(BenchError::Unusable(format!(
        "Kafka's folder could not be formatted: {why}"
    )))
}

/// Kafka's defaults, but for what one node needs to be one, and several to find each other.
fn properties(home: &Home, cluster: &[Home]) -> String {
    let [port, controller_port] = home.ports;
    let voter = |home: &Home| format!("{}@127.0.0.1:{}", home.node, home.ports[1]);
    let voters: Vec<String> = cluster.iter().map(voter).collect();
    let replicas = cluster.len().min(3);
    let in_sync = replicas.div_ceil(2);
    let log_dirs = home.data.join("log");
    format!(
        "process.roles=broker,controller\n\
         node.id={node}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={log_dirs}\n\
         offsets.topic.replication.factor={replicas}\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n\
         share.coordinator.state.topic.replication.factor={replicas}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n",
        node = home.node,
        voters = voters.join(","),
        log_dirs = log_dirs.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_and_three_are_configured_alike() {
        let root = env::temp_dir().join(format!("bench-properties-{}", std::process::id()));
        let homes = Home::of_cluster(&root, 3, 24_200).unwrap();
        let has = |text: &str, line: &str| text.lines().any(|found| found == line);
        let one = properties(&homes[0], &homes[..1]);
        assert!(has(&one, "controller.quorum.voters=1@127.0.0.1:24201"));
        assert!(has(&one, "offsets.topic.replication.factor=1"));
        assert!(has(&one, "transaction.state.log.min.isr=1"));
        let third = properties(&homes[2], &homes);
        let voters = "1@127.0.0.1:24201,2@127.0.0.1:24203,3@127.0.0.1:24205";
        assert!(has(&third, &format!("controller.quorum.voters={voters}")));
        assert!(has(&third, "node.id=3"));
        assert!(has(
            &third,
            "advertised.listeners=PLAINTEXT://127.0.0.1:24204"
        ));
        assert!(has(&third, "offsets.topic.replication.factor=3"));
        assert!(has(&third, "transaction.state.log.min.isr=2"));
        drop(homes);
        fs::remove_dir_all(&root).unwrap();
    }
}
