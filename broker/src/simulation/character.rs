//! What a seed is like: how large the node is, how tight its storage, how rough its network.

use super::cluster::PEER_PORT;
use super::{DATA, MEMORY_PER_CORE, Mutation, Options, REPLICAS};
use crate::config::{BrokerConfig, load};
use crate::node::storage_limits;
use runtime::sim;

/// What is drawn for a seed.
pub(super) struct Character {
    pub cores: usize,
    pub lives: u64,
    pub storage: storage::Options,
    pub world: sim::Options,
}

/// A small generator for what is drawn outside the simulation.
pub(super) struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }
}

impl Character {
    pub fn draw(options: Options, config: &BrokerConfig, draw: &mut Draw) -> Character {
        let file = 32_768 << draw.below(2);
        let storage = storage::Options {
            journal_bytes_max: file * (10 + draw.below(16)),
            journal_first_file_bytes: file,
            journal_file_bytes: file * 2,
            checkpoint_bytes: file,
            memory_bytes_max: 131_072 << draw.below(3),
            cache_bytes_max: 65_536 << draw.below(4),
            files_max: 4 + draw.below(8) as usize,
            direct_bytes: 3_000 << draw.below(4),
            direct_space_bytes: 0,
            drain_bytes: 1_024 << draw.below(5),
            entry_bytes_max: 16_384,
            buffer_bytes: 32_768,
            mutation: options.mutation.and_then(Mutation::in_storage),
            ..storage_limits(config, MEMORY_PER_CORE)
        };
        let mut world = sim::Options::rough(options.seed);
        world.network.stall = sim::Latency::micros(1_000, 40_000);
        world.network.reset_per_million = [0, 500, 5_000][draw.below(3) as usize];
        Character {
            cores: 1 + draw.below(2) as usize,
            lives: 2 + draw.below(4),
            storage,
            world,
        }
    }
}

pub(super) fn config() -> BrokerConfig {
    resolve(Vec::new())
}

/// Of the `id`th of so many nodes.
pub(super) fn cluster_config(id: usize, nodes: usize) -> BrokerConfig {
    let voters = (1..=nodes).map(|id| format!("{id}@10.0.0.{id}:{PEER_PORT}"));
    let voters: Vec<String> = voters.collect();
    resolve(vec![
        ("node.id", id.to_string()),
        ("controller.quorum.voters", voters.join(",")),
        ("default.replication.factor", REPLICAS.to_string()),
        ("offsets.topic.replication.factor", REPLICAS.to_string()),
        ("broker.session.timeout.ms", "2000".to_owned()),
        ("corelane.raft.heartbeat.interval.ms", "40".to_owned()),
        ("corelane.raft.election.timeout.ms", "300".to_owned()),
    ])
}

fn resolve(more: Vec<(&str, String)>) -> BrokerConfig {
    let flags = [
        ("log.dirs", DATA),
        ("num.partitions", "2"),
        ("offsets.topic.num.partitions", "2"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.min.session.timeout.ms", "300"),
        ("log.retention.check.interval.ms", "100"),
        // Files are removed within a life, as retention asks for it.
        ("log.segment.delete.delay.ms", "100"),
        ("message.max.bytes", "4500"),
    ];
    let flags = flags.map(|(name, value)| (name, value.to_owned()));
    let flags = flags.into_iter().chain(more);
    let flags: Vec<(String, String)> = flags
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let loaded = load(None, [], &flags).expect("the simulation's configuration is right");
    BrokerConfig::resolve(loaded.statics, "broker")
        .expect("the simulation's configuration is right")
}
