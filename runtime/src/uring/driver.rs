//! One core's io_uring and the operations in it.
//!
//! Must not know tasks or mail: it takes operations and wakes wakers. Operations are queued as
//! they are made and enter the kernel once per loop pass.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, mem};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use slab::Slab;

use super::affinity::Cpus;
use super::entropy::Entropy;
use super::op::{Completed, Held, Op, Progress, Slot};
use crate::executor::ready::Bell;
use crate::handle::CoreStats;
use crate::time::Instant;

/// Marks completions of cancellations, which nobody awaits.
const CANCEL: u64 = u64::MAX;
/// Marks the completion of the read on the bell.
const BELL: u64 = u64::MAX - 1;

/// Completion entries per submission entry. More only spill into kernel memory for a while.
const COMPLETIONS_PER_ENTRY: u32 = 4;

pub(crate) struct Driver {
    ring: RefCell<IoUring>,
    ops: RefCell<Slab<Slot>>,
    bell: Arc<Bell>,
    /// Where the kernel puts the bell's count. Boxed: the kernel writes to it.
    bell_count: RefCell<Box<u64>>,
    bell_armed: Cell<bool>,
    can_truncate: bool,
    entropy: RefCell<Entropy>,
    completions: RefCell<Vec<(u64, i32, u32)>>,
    enters: Cell<u64>,
    pub(crate) passes: Cell<u64>,
    pub(crate) parked_ns: Cell<u64>,
    pub(crate) started: Instant,
}

impl Driver {
    /// A ring for the calling thread, which alone may use it. `workers` are the CPUs for the
    /// kernel's own workers: by default they would inherit the pin of this thread and take turns
    /// with it, which makes a write into unwritten space 20 times slower. `closed_last`: see
    /// [`Options`](super::Options).
    pub(crate) fn new(
        entries: u32,
        bell: Arc<Bell>,
        workers: &Cpus,
        closed_last: Option<&File>,
    ) -> io::Result<Driver> {
        let ring = build_ring(entries)?;
        ring.submitter().register_iowq_aff(workers.raw())?;
        if let Some(file) = closed_last {
            // A ring lets go of what is registered when its last request has ended.
            ring.submitter().register_files(&[file.as_raw_fd()])?;
        }
        let mut known = io_uring::Probe::new();
        ring.submitter().register_probe(&mut known)?;
        Ok(Driver {
            ring: RefCell::new(ring),
            ops: RefCell::new(Slab::new()),
            bell,
            bell_count: RefCell::new(Box::new(0)),
            bell_armed: Cell::new(false),
            can_truncate: known.is_supported(opcode::Ftruncate::CODE),
            entropy: RefCell::new(Entropy::new()),
            completions: RefCell::new(Vec::new()),
            enters: Cell::new(0),
            passes: Cell::new(0),
            parked_ns: Cell::new(0),
            started: clock(),
        })
    }

    /// Whether the kernel truncates without blocking us (Linux 6.9).
    pub(crate) fn can_truncate(&self) -> bool {
        self.can_truncate
    }

    pub(crate) fn random(&self) -> u64 {
        self.entropy.borrow_mut().next()
    }

    pub(crate) fn stats(&self) -> CoreStats {
        let parked_ns = self.parked_ns.get();
        let alive_ns = clock().since(self.started).as_nanos() as u64;
        CoreStats {
            busy_ns: alive_ns.saturating_sub(parked_ns),
            parked_ns,
            passes: self.passes.get(),
            ring_enters: self.enters.get(),
            tasks: 0,
            ops_in_flight: self.ops.borrow().len(),
        }
    }

    /// Queues an operation. `build` makes its entry from the memory that the operation will own.
    pub(crate) fn start(
        self: &Rc<Driver>,
        fd: Option<&Rc<OwnedFd>>,
        held: Held,
        build: impl FnOnce(&mut Held) -> squeue::Entry,
    ) -> Op {
        self.start_slot(fd, held, false, build)
    }

    /// As [`start`](Self::start), for an operation whose result is a new descriptor.
    pub(crate) fn start_opening(
        self: &Rc<Driver>,
        fd: Option<&Rc<OwnedFd>>,
        held: Held,
        build: impl FnOnce(&mut Held) -> squeue::Entry,
    ) -> Op {
        self.start_slot(fd, held, true, build)
    }

    fn start_slot(
        self: &Rc<Driver>,
        fd: Option<&Rc<OwnedFd>>,
        mut held: Held,
        opens: bool,
        build: impl FnOnce(&mut Held) -> squeue::Entry,
    ) -> Op {
        let entry = build(&mut held);
        let slot = Slot {
            progress: Progress::Running(None),
            held,
            fd: fd.cloned(),
            opens,
        };
        let key = self.ops.borrow_mut().insert(slot);
        self.push(entry.user_data(key as u64));
        Op {
            driver: Rc::clone(self),
            key: Some(key),
        }
    }

    fn push(&self, entry: squeue::Entry) {
        let mut ring = self.ring.borrow_mut();
        loop {
            // SAFETY: what the entry points to is owned by its slot (or by the driver, for the
            // bell), stays where it is when the slot moves, and outlives the completion.
            if unsafe { ring.submission().push(&entry) }.is_ok() {
                return;
            }
            // The queue is full: this pass enters the kernel early. The kernel may refuse until
            // completions are taken in; these are worked off with the others of this pass.
            self.enters.set(self.enters.get() + 1);
            if let Err(e) = ring.submit() {
                assert!(is_transient(&e), "io_uring refuses submissions: {e}");
                self.gather(&mut ring);
            }
        }
    }

    /// The outcome of an operation, if it is in.
    pub(crate) fn collect(&self, key: usize, cx: &mut Context<'_>) -> Poll<Completed> {
        let mut ops = self.ops.borrow_mut();
        match &mut ops[key].progress {
            Progress::Running(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Progress::Done(result, flags) => {
                let (result, flags) = (*result, *flags);
                let Slot { held, .. } = ops.remove(key);
                Poll::Ready(Completed {
                    result: outcome(result),
                    flags,
                    held,
                })
            }
            Progress::Abandoned => unreachable!("operation {key} was collected after its end"),
        }
    }

    /// The future of an operation is gone: cancels it, or cleans up if it is done.
    pub(crate) fn abandon(&self, key: usize) {
        let finished = {
            let mut ops = self.ops.borrow_mut();
            match mem::replace(&mut ops[key].progress, Progress::Abandoned) {
                Progress::Done(result, _) => Some((ops.remove(key), result)),
                Progress::Running(_) | Progress::Abandoned => None,
            }
        };
        match finished {
            Some((slot, result)) => slot.discard(result),
            None => self.push(
                opcode::AsyncCancel::new(key as u64)
                    .build()
                    .user_data(CANCEL),
            ),
        }
    }

    /// Lets the kernel see what was queued, and takes in what is complete. Does not wait.
    pub(crate) fn turn(&self) {
        let due = {
            let mut ring = self.ring.borrow_mut();
            let queue = ring.submission();
            !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
        };
        if due {
            self.enter(0, None);
        }
        self.reap();
    }

    /// As [`turn`](Self::turn), but waits for a completion until `deadline` or until the bell
    /// rings.
    pub(crate) fn wait(&self, deadline: Option<Instant>, now: Instant) {
        self.arm_bell();
        let limit = deadline.map(|at| at.since(now));
        let gathered = !self.completions.borrow().is_empty();
        if gathered || limit == Some(Duration::ZERO) {
            self.enter(0, None);
        } else {
            self.enter(1, limit);
        }
        self.reap();
    }

    fn enter(&self, want: usize, limit: Option<Duration>) {
        self.enters.set(self.enters.get() + 1);
        let ring = self.ring.borrow();
        let submitter = ring.submitter();
        let entered = match limit {
            Some(limit) => {
                let timespec = Timespec::from(limit);
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&timespec))
            }
            None => submitter.submit_and_wait(want),
        };
        if let Err(e) = entered {
            // Time is up, a signal came, or completions must be taken in first.
            assert!(is_transient(&e), "io_uring refuses to be entered: {e}");
        }
    }

    fn arm_bell(&self) {
        let Some(fd) = self.bell.fd() else { return };
        if self.bell_armed.replace(true) {
            return;
        }
        let count: *mut u64 = &mut **self.bell_count.borrow_mut();
        self.push(
            opcode::Read::new(Fd(fd), count.cast(), 8)
                .build()
                .user_data(BELL),
        );
    }

    /// Moves completions out of the ring.
    fn gather(&self, ring: &mut IoUring) {
        let entries = ring
            .completion()
            .map(|c| (c.user_data(), c.result(), c.flags()));
        self.completions.borrow_mut().extend(entries);
    }

    /// Takes in completions and wakes who waits for them.
    fn reap(&self) {
        self.gather(&mut self.ring.borrow_mut());
        let mut completions = mem::take(&mut *self.completions.borrow_mut());
        for (key, result, flags) in completions.drain(..) {
            match key {
                CANCEL => {}
                BELL => self.bell_armed.set(false),
                key => self.complete(key as usize, result, flags),
            }
        }
        // Keep the allocation, unless a destructor has made the ring overflow meanwhile.
        let mut gathered = self.completions.borrow_mut();
        if gathered.is_empty() {
            *gathered = completions;
        }
    }

    fn complete(&self, key: usize, result: i32, flags: u32) {
        let (waker, abandoned) = {
            let mut ops = self.ops.borrow_mut();
            let slot = &mut ops[key];
            match mem::replace(&mut slot.progress, Progress::Done(result, flags)) {
                Progress::Running(waker) => (waker, None),
                Progress::Abandoned => (None, Some(ops.remove(key))),
                Progress::Done(..) => unreachable!("operation {key} was completed twice"),
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(slot) = abandoned {
            slot.discard(result);
        }
    }

    /// Waits until the kernel has let go of all memory, after every future has been dropped.
    /// Operations that do not end in time (a dead disk) keep their memory for ever.
    pub(crate) fn drain(&self, limit: Duration) {
        let deadline = clock() + limit;
        if self.bell_armed.get() {
            self.push(opcode::AsyncCancel::new(BELL).build().user_data(CANCEL));
        }
        while self.bell_armed.get() || !self.ops.borrow().is_empty() {
            let now = clock();
            if now >= deadline {
                return;
            }
            self.enter(1, Some(deadline.since(now)));
            self.reap();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The kernel may still write to what is in flight, even after the ring is closed.
        mem::forget(mem::take(&mut *self.ops.borrow_mut()));
        if self.bell_armed.get() {
            mem::forget(mem::take(&mut *self.bell_count.borrow_mut()));
        }
    }
}

/// The best ring that this kernel offers. Single issuer with deferred task work (6.1) means that
/// completions are worked off when we ask for them, not by interrupting us.
fn build_ring(entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_clamp()
        .setup_cqsize(entries.saturating_mul(COMPLETIONS_PER_ENTRY));
    let mut best = builder.clone();
    best.setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag();
    let mut middle = builder.clone();
    middle
        .setup_submit_all()
        .setup_coop_taskrun()
        .setup_taskrun_flag();
    let refused = |e: &io::Error| e.raw_os_error() == Some(libc::EINVAL);
    match best.build(entries) {
        Err(e) if refused(&e) => match middle.build(entries) {
            Err(e) if refused(&e) => builder.build(entries),
            built => built,
        },
        built => built,
    }
}

fn outcome(result: i32) -> io::Result<u32> {
    if result < 0 {
        Err(io::Error::from_raw_os_error(-result))
    } else {
        Ok(result as u32)
    }
}

fn is_transient(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN | libc::ENOMEM)
    )
}

/// The raw descriptor, as an entry takes it.
pub(crate) fn fd_of(fd: &Rc<OwnedFd>) -> Fd {
    Fd(fd.as_raw_fd())
}

/// Monotonic time in ns since the machine's start.
pub(crate) fn clock() -> Instant {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is writable; the clock exists on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    Instant(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
