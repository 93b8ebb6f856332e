//! Arguments of `corelane start`.

use std::path::PathBuf;

use clap::Args;

use super::parse_pair;

/// Where a node's configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StartArguments {
    /// Configuration file: TOML, or Kafka's server.properties if its name ends so
    #[arg(short, long, value_name = "FILE", env = "CORELANE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one config, by the names of docs/configuration.md; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Data directory (log.dirs)
    #[arg(long, value_name = "DIRECTORY")]
    pub data: Option<PathBuf>,
    /// Address for clients (listeners), such as 0.0.0.0:9092
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// This node's number in its cluster (node.id)
    #[arg(long, value_name = "NUMBER")]
    pub node_id: Option<i32>,
    /// Cores to use: a count, or CPUs by number as in 0,2-3 (corelane.cores)
    ///
    /// Every core is a shard of its own. A count takes the first CPUs that this process may use; CPUs
    /// that are named belong to the broker, and each core stays on its own (CPU 3 alone is 3-3). By
    /// default all CPUs that this process may use serve.
    #[arg(long, value_name = "COUNT|LIST")]
    pub cores: Option<String>,
    /// Memory to use, such as 512MiB, 2GiB or 50% (corelane.memory)
    ///
    /// For requests, tails and caches of all cores together; a core needs 64MiB. By default 80 % of
    /// what is available, or of the cgroup's limit if that is less.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// The CPUs are shared with other programs: pin nothing, never spin (corelane.overprovisioned)
    ///
    /// That is so by default, unless --cores names CPUs. --overprovisioned=false pins each core to a
    /// CPU and lets it look for work briefly before it sleeps.
    #[arg(
        long,
        value_name = "BOOLEAN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub overprovisioned: Option<bool>,
}

impl StartArguments {
    /// All flags as configs; `--set` comes last and wins.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let data = self.data.as_ref().map(|path| path.display().to_string());
        let listen = self
            .listen
            .as_ref()
            .map(|address| format!("PLAINTEXT://{address}"));
        let overprovisioned = self.overprovisioned.map(|shared| shared.to_string());
        let flags = [
            ("log.dirs", data),
            ("listeners", listen),
            ("node.id", self.node_id.map(|id| id.to_string())),
            ("corelane.cores", self.cores.clone()),
            ("corelane.memory", self.memory.clone()),
            ("corelane.overprovisioned", overprovisioned),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        flags.chain(self.set.iter().cloned()).collect()
    }
}
