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
    /// Cores to use (corelane.cores)
    #[arg(long, value_name = "COUNT")]
    pub cores: Option<u32>,
}

impl StartArguments {
    /// All flags as configs; `--set` comes last and wins.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let data = self.data.as_ref().map(|path| path.display().to_string());
        let listen = self
            .listen
            .as_ref()
            .map(|address| format!("PLAINTEXT://{address}"));
        let flags = [
            ("log.dirs", data),
            ("listeners", listen),
            ("node.id", self.node_id.map(|id| id.to_string())),
            ("corelane.cores", self.cores.map(|cores| cores.to_string())),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        flags.chain(self.set.iter().cloned()).collect()
    }
}
