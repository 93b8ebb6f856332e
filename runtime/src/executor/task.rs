//! A spawned task as seen by whoever awaits or cancels it.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::ready::TaskKey;
use crate::handle::Core;

struct Outcome<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// A running task. Awaiting it gives its value; dropping it cancels it (its future is dropped);
/// [`detach`](Task::detach) lets it run on its own.
///
/// Awaiting a task whose core has been stopped never ends; but then nothing on that core runs.
pub struct Task<T> {
    outcome: Rc<RefCell<Outcome<T>>>,
    /// `None` once detached.
    job: Option<(Core, TaskKey)>,
}

impl<T: 'static> Task<T> {
    pub(crate) fn spawn(
        core: &Core,
        name: &'static str,
        future: impl Future<Output = T> + 'static,
    ) -> Task<T> {
        let outcome = Rc::new(RefCell::new(Outcome {
            value: None,
            waker: None,
        }));
        let result = Rc::clone(&outcome);
        let job = async move {
            let value = future.await;
            let waker = {
                let mut outcome = result.borrow_mut();
                outcome.value = Some(value);
                outcome.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        let key = core.executor().spawn(name, Box::pin(job));
        Task {
            outcome,
            job: Some((core.clone(), key)),
        }
    }
}

impl<T> Task<T> {
    /// Lets the task run to its end; its value is dropped.
    pub fn detach(mut self) {
        self.job = None;
    }

    /// Whether the task has ended and its value waits to be taken.
    pub fn is_finished(&self) -> bool {
        self.outcome.borrow().value.is_some()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut outcome = self.outcome.borrow_mut();
        match outcome.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                outcome.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some((core, key)) = self.job.take() {
            core.executor().cancel(key);
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({:?})", self.job.as_ref().map(|(_, key)| key))
    }
}
