//! The ready queue and the wakers that feed it.
//!
//! A waker may be cloned to and woken on any thread. On the thread of its executor it pushes into
//! a plain queue; elsewhere it pushes into a locked one and rings the core's bell. Must not know
//! what a task is beyond its key.

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

/// Names a task. Slots are reused, generations are not (for 4 billion spawns).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct TaskKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A number for the calling thread that no other thread ever has, unlike an address in its
/// thread-local storage.
pub(crate) fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// Wakes a core that sleeps in the kernel.
///
/// No wake-up is lost. The core does: `parked = true`; full fence; look for work; sleep on the
/// eventfd. A ringer does: publish work; full fence; look at `parked`. Of the two fences one comes
/// first in the single order of sequentially consistent fences. If the core's is first, the ringer
/// sees `parked` and writes the eventfd, whose counter keeps the wake-up even if the core has not
/// yet gone to sleep. If the ringer's is first, the core sees the work and does not sleep.
/// Of several ringers the one that takes `parked` away writes; the others' work is published
/// before their fences, and the core looks for work after it wakes.
pub(crate) struct Bell {
    parked: AtomicBool,
    /// Absent in the simulator, where nothing sleeps in the kernel.
    eventfd: Option<OwnedFd>,
}

impl Bell {
    pub(crate) fn new(eventfd: Option<OwnedFd>) -> Bell {
        Bell {
            parked: AtomicBool::new(false),
            eventfd,
        }
    }

    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.eventfd.as_ref().map(OwnedFd::as_raw_fd)
    }

    /// Announces sleep. Work must be looked for once more after this call.
    pub(crate) fn park(&self) {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Back from sleep.
    pub(crate) fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Called by whoever has just published work for the core.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if !self.parked.load(Ordering::Relaxed) || !self.parked.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Some(fd) = self.fd() {
            let one = 1u64;
            // SAFETY: eight readable bytes; the descriptor is open as long as `self` lives. The
            // call can fail only if the counter is at its maximum, and then the core wakes anyway.
            unsafe { libc::write(fd, (&raw const one).cast(), 8) };
        }
    }
}

/// Keys of the tasks that are ready, oldest first.
pub(crate) struct Ready {
    owner: u64,
    local: UnsafeCell<VecDeque<TaskKey>>,
    remote: Mutex<Vec<TaskKey>>,
    has_remote: AtomicBool,
    bell: Arc<Bell>,
}

// SAFETY: `local` is the only field that is not `Sync` by itself. It is touched in `with_local`
// alone, which asserts that the caller is on the owner's thread; thread numbers are never reused.
unsafe impl Sync for Ready {}
// SAFETY: the fields are `Send`; moving the value moves no thread-bound resource.
unsafe impl Send for Ready {}

impl Ready {
    /// Owned by the calling thread.
    pub(crate) fn new(bell: Arc<Bell>) -> Ready {
        Ready {
            owner: thread_number(),
            local: UnsafeCell::new(VecDeque::new()),
            remote: Mutex::new(Vec::new()),
            has_remote: AtomicBool::new(false),
            bell,
        }
    }

    fn with_local<R>(&self, f: impl FnOnce(&mut VecDeque<TaskKey>) -> R) -> R {
        assert_eq!(
            thread_number(),
            self.owner,
            "a ready queue was used by a foreign thread"
        );
        // SAFETY: only the owner's thread comes here, and every `f` in this file is a plain queue
        // operation that runs no foreign code, so no second reference can arise meanwhile.
        f(unsafe { &mut *self.local.get() })
    }

    pub(crate) fn push(&self, key: TaskKey) {
        if thread_number() == self.owner {
            self.with_local(|queue| queue.push_back(key));
            return;
        }
        self.remote
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(key);
        self.has_remote.store(true, Ordering::Release);
        self.bell.ring();
    }

    pub(crate) fn pop(&self) -> Option<TaskKey> {
        self.with_local(VecDeque::pop_front)
    }

    /// Takes the task at `index`; the last one takes its place.
    pub(crate) fn pop_at(&self, index: usize) -> Option<TaskKey> {
        self.with_local(|queue| queue.swap_remove_back(index))
    }

    pub(crate) fn len(&self) -> usize {
        self.with_local(|queue| queue.len())
    }

    /// Takes in what other threads have woken.
    pub(crate) fn collect_remote(&self) {
        // The flag goes down before the list is taken: a push in between raises it again, and at
        // worst the next look finds an empty list.
        if !self.has_remote() || !self.has_remote.swap(false, Ordering::Acquire) {
            return;
        }
        let keys = std::mem::take(&mut *self.remote.lock().unwrap_or_else(PoisonError::into_inner));
        self.with_local(|queue| queue.extend(keys));
    }

    pub(crate) fn has_remote(&self) -> bool {
        self.has_remote.load(Ordering::Acquire)
    }
}

/// The part of a task that its wakers share.
pub(crate) struct TaskWaker {
    ready: Arc<Ready>,
    key: TaskKey,
    /// The key is in the queue, or the task has ended: wake-ups have nothing to do.
    queued: AtomicBool,
}

impl TaskWaker {
    /// Of a task that its maker puts into the queue.
    pub(crate) fn new(ready: Arc<Ready>, key: TaskKey) -> TaskWaker {
        TaskWaker {
            ready,
            key,
            queued: AtomicBool::new(true),
        }
    }

    /// Before a poll. Acquires what wakers wrote before they woke.
    pub(crate) fn begin(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }

    /// The task has ended.
    pub(crate) fn retire(&self) {
        self.queued.store(true, Ordering::Release);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.push(self.key);
        }
    }
}
