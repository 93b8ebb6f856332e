//! Cores, clock, disk, network and mail, as seams with two backends.
//!
//! Each core runs one [`Core`]: a single-threaded executor that shares nothing with its
//! neighbours. What it waits for comes from a *driver*: [`uring`] (one io_uring per core thread)
//! or [`sim`] (one thread, virtual time, seeded order, a disk and a network that fail on purpose).
//! Both drive the same executor, so what the simulator explores is what production runs.
//! The backend is a value inside the handles: no cargo feature and no type parameter chooses it.
//!
//! This crate must not know what a topic, a log or a Kafka message is. Deliberately absent: work
//! stealing, priorities, blocking pools, UDP, TLS, and any lock or atomic that a caller can see.
//!
//! Cancellation: dropping a future is always safe. Memory that the kernel may still touch stays
//! owned by the operation until its completion is in. What a dropped operation has done to the
//! world is said at each operation.

mod aligned;
mod append;
mod disk;
mod executor;
mod handle;
mod mail;
mod net;
pub mod sim;
mod sync;
mod time;
pub mod uring;

pub use aligned::{ALIGN, AlignedBuf};
pub use append::AppendBuf;
pub use disk::{DirEntry, Disk, Durability, File, OpenOptions, Space};
pub use executor::task::Task;
pub use handle::{Core, CoreStats};
pub use mail::{Gateway, Inbox, Post};
pub use net::{Listener, Parcel, Stream};
pub use sync::combine::{Either, Elapsed, join_all, select, timeout};
pub use sync::notify::Notify;
pub use sync::oneshot::{self, oneshot};
pub use time::Instant;
