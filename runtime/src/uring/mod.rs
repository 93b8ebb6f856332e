//! The backend for real machines: one thread, one executor and one io_uring per core.
//!
//! [`launch`] starts the threads; [`probe`] says beforehand, in a sentence, what is missing.
//! Must not know what runs on the cores. Deliberately absent: kernel-side submission threads
//! (they cost a CPU), registered buffers (they lock memory), one ring shared by cores.

mod address;
mod affinity;
pub(crate) mod disk;
mod driver;
mod entropy;
mod lane;
pub(crate) mod mesh;
pub(crate) mod net;
mod op;
mod pages;
mod probe;

use std::any::Any;
use std::fs::File;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, io, thread};

use crate::executor::ready::Bell;
use crate::handle::Core;
use crate::mail::{Gateway, Inbox, Post};
use mesh::Mesh;

pub(crate) use driver::Driver;
pub use pages::fault_small_pages;
pub use probe::{Unsupported, probe};

/// How to lay out a node over the machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// CPU numbers; one executor each. Without `pin` only their count matters.
    pub cores: Vec<usize>,
    /// Whether each executor stays on its CPU.
    pub pin: bool,
    /// How long an executor without work looks for some before it sleeps in the kernel; zero means
    /// not at all. Saves a wake-up of tens of microseconds, costs a CPU that nobody else may need.
    pub spin: Duration,
    /// Size of a ring's submission queue; its completion queue is four times that.
    pub ring_entries: u32,
    /// A file that stays open until the kernel has ended the last operation of the last ring, which may be after the
    /// process is gone: one that is killed leaves writes behind that are still on their way to the disk. A lock on it
    /// (`flock(2)`) keeps the next process from its files until then.
    pub closed_last: Option<Arc<File>>,
}

impl Options {
    /// `n` executors, neither pinned nor spinning, with rings of 512 entries.
    pub fn cores(n: usize) -> Options {
        let cores = (0..n).collect();
        Options {
            cores,
            pin: false,
            spin: Duration::ZERO,
            ring_entries: 512,
            closed_last: None,
        }
    }
}

/// A core's task panicked, and its executor with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// Which core.
    pub core: usize,
    /// What the panic said.
    pub message: String,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {} panicked: {}", self.core, self.message)
    }
}

impl std::error::Error for Panicked {}

/// A running node. Dropping it neither stops nor awaits the cores.
pub struct Node<M> {
    threads: Vec<thread::JoinHandle<()>>,
    ends: Receiver<(usize, Result<(), String>)>,
    mesh: Arc<Mesh<M>>,
}

impl<M> Node<M> {
    /// For threads that are no cores.
    pub fn gateway(&self) -> Gateway<M> {
        Gateway(Arc::clone(&self.mesh))
    }

    /// Waits until every core has ended, or until one has panicked: then at once, since the others
    /// may wait for it for ever.
    pub fn join(self) -> Result<(), Panicked> {
        for _ in 0..self.threads.len() {
            // Every thread reports before it ends, so a closed channel means that all have.
            let Ok((core, end)) = self.ends.recv() else {
                break;
            };
            end.map_err(|message| Panicked { core, message })?;
        }
        for thread in self.threads {
            // A thread reports its panic, and does nothing after the report that could panic.
            let _ = thread.join();
        }
        Ok(())
    }
}

/// Starts the executors on their own threads and runs `main` on each. A core ends when its `main`
/// ends or the core is stopped. Fails, with no thread left behind, if a ring cannot be set up or a
/// CPU cannot be had.
pub fn launch<M, F, Fut>(options: Options, main: F) -> io::Result<Node<M>>
where
    M: Send + 'static,
    F: Fn(Core, Post<M>, Inbox<M>) -> Fut + Send + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    if options.cores.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a node needs at least one core",
        ));
    }
    let cores = options.cores.len();
    let bells: Vec<Arc<Bell>> = (0..cores)
        .map(|_| lane::eventfd_bell().map(Arc::new))
        .collect::<io::Result<_>>()?;
    let mesh = Arc::new(Mesh::new(bells.clone()));
    let allowed = affinity::Cpus::allowed()?;
    let (end, ends) = mpsc::channel();
    let (ready, readies) = mpsc::channel();
    let mut threads = Vec::with_capacity(cores);
    let mut starts = Vec::with_capacity(cores);
    for (id, &cpu) in options.cores.iter().enumerate() {
        let (start, started) = mpsc::channel();
        let place = lane::Place {
            id,
            cores,
            cpu: options.pin.then_some(cpu),
            spin: options.spin,
            ring_entries: options.ring_entries,
            closed_last: options.closed_last.clone(),
            allowed: allowed.clone(),
            bell: Arc::clone(&bells[id]),
        };
        let (main, mesh) = (main.clone(), Arc::clone(&mesh));
        let (ready, end) = (ready.clone(), end.clone());
        let body = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                run_core(place, mesh, main, ready, started)
            }));
            let _ = end.send((id, outcome.map_err(message_of)));
        };
        threads.push(
            thread::Builder::new()
                .name(format!("core-{id}"))
                .spawn(body)?,
        );
        starts.push(start);
    }
    drop(ready);
    // A thread whose `start` sender is dropped unsent ends at once, so an early return here leaves
    // none behind.
    for _ in 0..cores {
        match readies.recv() {
            Ok(prepared) => prepared?,
            Err(_) => return Err(io::Error::other("a core ended while it was set up")),
        }
    }
    for start in starts {
        let _ = start.send(());
    }
    Ok(Node {
        threads,
        ends,
        mesh,
    })
}

fn run_core<M, F, Fut>(
    place: lane::Place,
    mesh: Arc<Mesh<M>>,
    main: F,
    ready: Sender<io::Result<()>>,
    started: Receiver<()>,
) where
    M: Send + 'static,
    F: Fn(Core, Post<M>, Inbox<M>) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let lane = match lane::Lane::new(place, mesh) {
        Ok(lane) => lane,
        Err(e) => {
            let _ = ready.send(Err(e));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    drop(ready);
    if started.recv().is_ok() {
        lane.run(main);
    }
}

fn message_of(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => match panic.downcast_ref::<&'static str>() {
            Some(message) => (*message).to_string(),
            None => "a panic without a message".to_string(),
        },
    }
}

/// Unix time in ms; 0 if the clock is set before 1970.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
