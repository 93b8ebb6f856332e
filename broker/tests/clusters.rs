//! Three nodes in the simulator, and clients that look at their replicas.

#[path = "clusters/cluster.rs"]
mod cluster;
#[path = "clusters/damage.rs"]
mod damage;
#[path = "clusters/followers.rs"]
mod followers;
#[path = "clusters/full_disk.rs"]
mod full_disk;
#[path = "clusters/in_sync.rs"]
mod in_sync;
#[path = "clusters/newcomers.rs"]
mod newcomers;
#[path = "clusters/stopping.rs"]
mod stopping;
#[path = "clusters/throttle.rs"]
mod throttle;
#[path = "simulated/wire.rs"]
mod wire;
