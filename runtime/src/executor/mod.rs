//! The executor of one core: tasks, the queue of those that are ready, timers. It runs what is
//! ready and knows nothing else: a driver decides when a pass ends, what time it is and which of
//! the ready tasks comes next.
//!
//! Deliberately absent: priorities and preemption. A task that computes for long makes its whole
//! core late; it must yield.

pub(crate) mod ready;
pub(crate) mod task;
pub(crate) mod timers;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use slab::Slab;

use crate::time::Instant;
use ready::{Bell, Ready, TaskKey, TaskWaker};
use timers::Timers;

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// What is taken out of its slot while it is polled.
struct Body {
    job: Job,
    waker: Waker,
    header: Arc<TaskWaker>,
}

struct Slot {
    generation: u32,
    name: &'static str,
    body: Option<Body>,
    /// Set when a task is cancelled during its own poll.
    cancelled: bool,
}

pub(crate) struct Executor {
    ready: Arc<Ready>,
    tasks: RefCell<Slab<Slot>>,
    timers: RefCell<Timers>,
    yielded: RefCell<Vec<Waker>>,
    now: Cell<Instant>,
    generation: Cell<u32>,
    stopping: Cell<bool>,
    closed: Cell<bool>,
}

impl Executor {
    /// For the calling thread: wake-ups from other threads ring `bell`.
    pub(crate) fn new(bell: Arc<Bell>) -> Executor {
        Executor {
            ready: Arc::new(Ready::new(bell)),
            tasks: RefCell::new(Slab::new()),
            timers: RefCell::new(Timers::default()),
            yielded: RefCell::new(Vec::new()),
            now: Cell::new(Instant::ZERO),
            generation: Cell::new(0),
            stopping: Cell::new(false),
            closed: Cell::new(false),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Never goes back.
    pub(crate) fn set_now(&self, now: Instant) {
        self.now.set(now.max(self.now.get()));
    }

    /// Puts a new task at the end of the ready queue. After [`close`](Self::close) it is dropped.
    pub(crate) fn spawn(&self, name: &'static str, job: Job) -> TaskKey {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        if self.closed.get() {
            return TaskKey {
                index: u32::MAX,
                generation,
            };
        }
        let key = {
            let mut tasks = self.tasks.borrow_mut();
            let entry = tasks.vacant_entry();
            let index = u32::try_from(entry.key()).expect("more than 4 billion tasks");
            let key = TaskKey { index, generation };
            let header = Arc::new(TaskWaker::new(Arc::clone(&self.ready), key));
            let waker = Waker::from(Arc::clone(&header));
            let body = Some(Body { job, waker, header });
            entry.insert(Slot {
                generation,
                name,
                body,
                cancelled: false,
            });
            key
        };
        self.ready.push(key);
        key
    }

    /// Drops a task, or marks it to be dropped if it is the one that runs now.
    pub(crate) fn cancel(&self, key: TaskKey) {
        let body = {
            let mut tasks = self.tasks.borrow_mut();
            let Some(slot) = tasks.get_mut(key.index as usize) else {
                return;
            };
            if slot.generation != key.generation {
                return;
            }
            match slot.body.take() {
                Some(body) => {
                    tasks.remove(key.index as usize);
                    body
                }
                None => {
                    slot.cancelled = true;
                    return;
                }
            }
        };
        // Outside the borrow: the future's destructor may spawn or cancel.
        body.header.retire();
        drop(body);
    }

    /// Runs a ready task once. A key of a task that has ended is ignored.
    pub(crate) fn poll(&self, key: TaskKey) {
        let mut body = {
            let mut tasks = self.tasks.borrow_mut();
            let Some(slot) = tasks.get_mut(key.index as usize) else {
                return;
            };
            if slot.generation != key.generation {
                return;
            }
            let Some(body) = slot.body.take() else { return };
            body
        };
        body.header.begin();
        let done = body
            .job
            .as_mut()
            .poll(&mut Context::from_waker(&body.waker))
            .is_ready();
        let over = {
            let mut tasks = self.tasks.borrow_mut();
            let slot = &mut tasks[key.index as usize];
            if done || slot.cancelled {
                tasks.remove(key.index as usize);
                Some(body)
            } else {
                slot.body = Some(body);
                None
            }
        };
        if let Some(body) = over {
            body.header.retire();
            drop(body);
        }
    }

    pub(crate) fn name_of(&self, key: TaskKey) -> &'static str {
        let tasks = self.tasks.borrow();
        match tasks.get(key.index as usize) {
            Some(slot) if slot.generation == key.generation => slot.name,
            _ => "(ended)",
        }
    }

    pub(crate) fn tasks(&self) -> usize {
        self.tasks.borrow().len()
    }

    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    pub(crate) fn timers(&self) -> &RefCell<Timers> {
        &self.timers
    }

    /// Wakes the tasks whose time has come.
    pub(crate) fn fire_timers(&self) -> usize {
        let now = self.now.get();
        let mut fired = 0;
        loop {
            let waker = self.timers.borrow_mut().pop_due(now);
            let Some(waker) = waker else { return fired };
            waker.wake();
            fired += 1;
        }
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.borrow().next()
    }

    /// Registers a task to be woken at the end of this pass.
    pub(crate) fn wake_next_pass(&self, waker: Waker) {
        self.yielded.borrow_mut().push(waker);
    }

    /// Whether some task waits for the next pass, so that the driver must not park.
    pub(crate) fn has_yielded(&self) -> bool {
        !self.yielded.borrow().is_empty()
    }

    /// Wakes those that yielded. The driver calls this last in a pass, after completions and mail:
    /// so their tasks run after the tasks that these have woken.
    pub(crate) fn wake_yielded(&self) {
        if self.yielded.borrow().is_empty() {
            return;
        }
        let mut yielded = mem::take(&mut *self.yielded.borrow_mut());
        yielded.drain(..).for_each(Waker::wake);
        // Keep the allocation.
        let mut current = self.yielded.borrow_mut();
        if current.is_empty() {
            *current = yielded;
        }
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Drops every task. Their destructors may still use the core, but can spawn nothing.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.stopping.set(true);
        let mut tasks = mem::take(&mut *self.tasks.borrow_mut());
        for slot in tasks.drain() {
            if let Some(body) = slot.body {
                body.header.retire();
                drop(body);
            }
        }
        self.yielded.borrow_mut().clear();
    }
}
