//! [`Core`]: what a task sees of the core it runs on.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use crate::disk::Disk;
use crate::executor::Executor;
use crate::executor::task::Task;
use crate::executor::timers::TimerKey;
use crate::net::{Listener, Parcel, Stream};
use crate::time::Instant;
use crate::{sim, uring};

/// Handle of the core that the calling task runs on. Cheap to clone; cannot leave its thread.
#[derive(Clone)]
pub struct Core(pub(crate) Rc<CoreState>);

pub(crate) struct CoreState {
    pub(crate) id: usize,
    pub(crate) cores: usize,
    pub(crate) executor: Executor,
    pub(crate) backend: Backend,
    pub(crate) disk: Disk,
}

/// Who drives this core.
pub(crate) enum Backend {
    Uring(Rc<uring::Driver>),
    Sim(Rc<sim::Port>),
}

/// Counters of one core since its start.
#[derive(Copy, Clone, Default, Debug, PartialEq, Eq)]
pub struct CoreStats {
    /// Time outside the kernel's wait, in ns.
    pub busy_ns: u64,
    /// Time asleep in the kernel's wait, in ns.
    pub parked_ns: u64,
    /// Loop passes.
    pub passes: u64,
    /// Calls of io_uring_enter.
    pub ring_enters: u64,
    /// Tasks alive now.
    pub tasks: usize,
    /// Operations that the kernel (or the simulator) has not completed, dropped ones included.
    pub ops_in_flight: usize,
}

impl Core {
    /// This core's number within its node, from 0.
    pub fn id(&self) -> usize {
        self.0.id
    }

    /// How many cores the node has.
    pub fn cores(&self) -> usize {
        self.0.cores
    }

    /// The time when this loop pass began.
    pub fn now(&self) -> Instant {
        match &self.0.backend {
            Backend::Uring(_) => self.0.executor.now(),
            Backend::Sim(port) => port.now(),
        }
    }

    /// Unix time in milliseconds. May jump; never compare it with anything that must be ordered.
    pub fn wall_ms(&self) -> i64 {
        match &self.0.backend {
            Backend::Uring(_) => uring::wall_ms(),
            Backend::Sim(port) => port.wall_ms(),
        }
    }

    /// Random bits: from the kernel's generator, or from the simulation's seed.
    pub fn random(&self) -> u64 {
        match &self.0.backend {
            Backend::Uring(driver) => driver.random(),
            Backend::Sim(port) => port.random(),
        }
    }

    /// Starts a task that nobody awaits. It runs in a later turn of the ready queue, never inside
    /// this call. A panic in it ends the core.
    pub fn spawn(&self, name: &'static str, f: impl Future<Output = ()> + 'static) {
        self.0.executor.spawn(name, Box::pin(f));
    }

    /// Starts a task that can be awaited, and that is cancelled when the [`Task`] is dropped.
    pub fn spawn_task<T: 'static>(
        &self,
        name: &'static str,
        f: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        Task::spawn(self, name, f)
    }

    /// Waits until `at`; at once if that has passed.
    pub async fn sleep_until(&self, at: Instant) {
        Sleep {
            core: self,
            at,
            timer: None,
        }
        .await;
    }

    /// Waits for `d` from the start of this pass.
    pub async fn sleep(&self, d: Duration) {
        self.sleep_until(self.now() + d).await;
    }

    /// Waits for the end of the turn: resumes after every task that is ready now, and every task
    /// that those wake on this core, has run and new completions and mail were taken in once.
    /// (At most a bounded number of polls, so that two tasks that keep waking each other cannot
    /// hold the turn open for ever.)
    pub async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|cx| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            self.0.executor.wake_next_pass(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The files of this node.
    pub fn disk(&self) -> &Disk {
        &self.0.disk
    }

    /// Opens a listening socket. Port 0 means any free port, see [`Listener::local_addr`].
    pub async fn listen(&self, addr: SocketAddr, backlog: u32) -> io::Result<Listener> {
        match &self.0.backend {
            Backend::Uring(driver) => uring::net::listen(driver, addr, backlog),
            Backend::Sim(port) => sim::net::listen(port, addr, backlog),
        }
    }

    /// Opens a connection. Dropping the future gives it up.
    pub async fn connect(&self, addr: SocketAddr) -> io::Result<Stream> {
        match &self.0.backend {
            Backend::Uring(driver) => uring::net::connect(driver, addr).await,
            Backend::Sim(port) => sim::net::connect(port, addr).await,
        }
    }

    /// Takes over a connection that another core has sent.
    pub fn adopt(&self, parcel: Parcel) -> Stream {
        match &self.0.backend {
            Backend::Uring(driver) => uring::net::adopt(driver, parcel),
            Backend::Sim(port) => sim::net::adopt(port, parcel),
        }
    }

    /// What this core has done so far.
    pub fn stats(&self) -> CoreStats {
        let tasks = self.0.executor.tasks();
        match &self.0.backend {
            Backend::Uring(driver) => CoreStats {
                tasks,
                ..driver.stats()
            },
            Backend::Sim(port) => CoreStats {
                tasks,
                ..port.stats()
            },
        }
    }

    /// Ends this core's executor after the current pass; tasks that still wait are dropped.
    pub fn stop(&self) {
        self.0.executor.stop();
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.0.executor
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Core({} of {})", self.0.id, self.0.cores)
    }
}

struct Sleep<'a> {
    core: &'a Core,
    at: Instant,
    timer: Option<TimerKey>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let executor = self.core.executor();
        if self.core.now() >= self.at {
            return Poll::Ready(());
        }
        let mut timers = executor.timers().borrow_mut();
        if self.timer.is_none_or(|key| !timers.update(key, cx.waker())) {
            let timer = timers.insert(self.at, cx.waker().clone());
            drop(timers);
            self.timer = Some(timer);
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            self.core.executor().timers().borrow_mut().remove(key);
        }
    }
}
