//! The cores as the side thread sees them: a request goes out by mail, its answer comes back within
//! [`ANSWER_WITHIN`] or not at all.
//!
//! A core that stalls is asked no more once [`OVERDUE_MAX`] answers are overdue: health checks that
//! go on for hours must not fill its mailbox.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::observe::{Reply, Request};

/// How long a core may take to answer before it counts as stalled.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Overdue answers that a core may owe and still be asked.
pub(super) const OVERDUE_MAX: usize = 8;

/// The way to the cores of this node. To be used within a [`tokio::task::LocalSet`].
pub(super) struct Cores {
    ask: Box<dyn Fn(usize, Request)>,
    /// By core: answers that nobody waits for any more, and that have not come.
    overdue: Vec<Rc<Cell<usize>>>,
}

/// An answer on its way.
pub(super) struct Answer<T> {
    /// `None` if the core was not asked. The task lives on when nobody waits for it: it keeps count.
    coming: Option<JoinHandle<Option<T>>>,
    until: Instant,
}

impl Cores {
    /// `ask` brings a request to a core and never blocks.
    pub(super) fn new(cores: usize, ask: impl Fn(usize, Request) + 'static) -> Cores {
        let overdue = (0..cores).map(|_| Rc::default()).collect();
        Cores {
            ask: Box::new(ask),
            overdue,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.overdue.len()
    }

    /// Sends one request. The time for its answer runs from now on, so that several can be under
    /// way at once.
    pub(super) fn ask<T: 'static>(
        &self,
        core: usize,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Answer<T> {
        self.ask_within(core, ANSWER_WITHIN, request)
    }

    /// The same for what may take longer.
    pub(super) fn ask_within<T: 'static>(
        &self,
        core: usize,
        within: Duration,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Answer<T> {
        let until = Instant::now() + within;
        let overdue = self.overdue[core].clone();
        if overdue.get() >= OVERDUE_MAX {
            return Answer {
                coming: None,
                until,
            };
        }
        let (reply, mut answer) = oneshot::channel();
        (self.ask)(core, request(reply));
        let coming = tokio::task::spawn_local(async move {
            if let Ok(answer) = timeout_at(until, &mut answer).await {
                return answer.ok();
            }
            overdue.set(overdue.get() + 1);
            let late = answer.await;
            overdue.set(overdue.get() - 1);
            late.ok()
        });
        Answer {
            coming: Some(coming),
            until,
        }
    }

    /// Asks every core at once; `None` where one does not answer.
    pub(super) async fn ask_all<T: 'static>(
        &self,
        request: impl Fn(Reply<T>) -> Request,
    ) -> Vec<Option<T>> {
        let asked: Vec<Answer<T>> = (0..self.count())
            .map(|core| self.ask(core, &request))
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.get().await);
        }
        answers
    }
}

impl<T> Answer<T> {
    /// The answer; `None` if the core does not give one in time.
    pub(super) async fn get(self) -> Option<T> {
        timeout_at(self.until, self.coming?).await.ok()?.ok()?
    }
}
