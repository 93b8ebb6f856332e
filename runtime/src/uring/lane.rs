//! The loop of one core: run what is ready, send the mail off, enter the kernel once, take in what
//! came. One round is a pass, which is what callers know as a turn.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::affinity::Cpus;
use super::driver::{Driver, clock};
use super::mesh::Mesh;
use crate::disk::{Disk, DiskBackend};
use crate::executor::Executor;
use crate::executor::ready::Bell;
use crate::handle::{Backend, Core, CoreState};
use crate::mail::{Courier, Desk, Inbox, Post, Route};

/// Polls of one pass beyond the tasks that were ready at its start: tasks that wake each other
/// share a pass, but cannot keep it from ending.
const EXTRA_POLLS: usize = 256;

/// How long a core that ends waits for the kernel to let go of its memory.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// What a core's thread is told at its start.
pub(crate) struct Place {
    pub(crate) id: usize,
    pub(crate) cores: usize,
    /// Where to stay, if anywhere.
    pub(crate) cpu: Option<usize>,
    pub(crate) spin: Duration,
    pub(crate) ring_entries: u32,
    pub(crate) closed_last: Option<Arc<File>>,
    pub(crate) allowed: Cpus,
    pub(crate) bell: Arc<Bell>,
}

pub(crate) struct Lane<M> {
    core: Core,
    driver: Rc<Driver>,
    desk: Rc<Desk<M>>,
    bell: Arc<Bell>,
    spin: Duration,
}

/// A bell that a sleeping ring hears.
pub(crate) fn eventfd_bell() -> io::Result<Bell> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    Ok(Bell::new(Some(unsafe { OwnedFd::from_raw_fd(fd) })))
}

impl<M: Send + 'static> Lane<M> {
    /// Prepares the calling thread to be a core.
    pub(crate) fn new(place: Place, mesh: Arc<Mesh<M>>) -> io::Result<Lane<M>> {
        if let Some(cpu) = place.cpu {
            place.allowed.pin_to(cpu)?;
        }
        let bell = Arc::clone(&place.bell);
        let driver = Rc::new(Driver::new(
            place.ring_entries,
            Arc::clone(&bell),
            &place.allowed,
            place.closed_last.as_deref(),
        )?);
        let executor = Executor::new(Arc::clone(&bell));
        executor.set_now(clock());
        let core = Core(Rc::new(CoreState {
            id: place.id,
            cores: place.cores,
            executor,
            backend: Backend::Uring(Rc::clone(&driver)),
            disk: Disk(DiskBackend::Uring(Rc::clone(&driver))),
        }));
        let desk = Desk::new(place.id, place.cores, Route::Mesh(mesh));
        Ok(Lane {
            core,
            driver,
            desk,
            bell,
            spin: place.spin,
        })
    }

    /// Runs `main` until it ends or the core is stopped.
    pub(crate) fn run<F, Fut>(self, main: F)
    where
        F: Fn(Core, Post<M>, Inbox<M>) -> Fut,
        Fut: Future<Output = ()> + 'static,
    {
        let post = Post(Rc::clone(&self.desk));
        let inbox = Inbox(Rc::clone(&self.desk));
        let core = self.core.clone();
        let main = main(self.core.clone(), post, inbox);
        self.core.spawn("main", async move {
            main.await;
            core.stop();
        });
        while self.pass() {}
        self.core.executor().close();
        self.driver.drain(DRAIN_LIMIT);
    }

    /// One pass; false if it was the last.
    fn pass(&self) -> bool {
        let executor = self.core.executor();
        self.driver.passes.set(self.driver.passes.get() + 1);
        let mut budget = executor.ready().len() + EXTRA_POLLS;
        while budget > 0 {
            let Some(key) = executor.ready().pop() else {
                break;
            };
            executor.poll(key);
            budget -= 1;
        }
        self.desk.flush();
        if executor.is_stopping() {
            return false;
        }
        if self.has_work() {
            self.driver.turn();
        } else {
            self.idle();
        }
        executor.set_now(clock());
        executor.ready().collect_remote();
        self.desk.collect();
        executor.fire_timers();
        executor.wake_yielded();
        true
    }

    /// Whether the next pass has something to do, kernel and timers aside.
    fn has_work(&self) -> bool {
        let executor = self.core.executor();
        executor.ready().len() > 0 || executor.has_yielded() || self.has_arrivals()
    }

    fn has_arrivals(&self) -> bool {
        self.core.executor().ready().has_remote() || self.desk.has_arrivals()
    }

    /// Nothing is ready: looks around for a while if told to, then sleeps until a completion, a
    /// timer or the bell.
    fn idle(&self) {
        let mut now = clock();
        let deadline = self.core.executor().next_timer();
        if !self.spin.is_zero() {
            let until = now + self.spin;
            while now < until {
                self.driver.turn();
                let due = deadline.is_some_and(|at| at <= now);
                if due || self.has_work() {
                    return;
                }
                std::hint::spin_loop();
                now = clock();
            }
        }
        self.bell.park();
        if self.has_arrivals() {
            self.bell.unpark();
            self.driver.turn();
            return;
        }
        self.driver.wait(deadline, now);
        self.bell.unpark();
        let slept = clock().since(now).as_nanos() as u64;
        self.driver
            .parked_ns
            .set(self.driver.parked_ns.get() + slept);
    }
}
