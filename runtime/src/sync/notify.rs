//! "Something changed; look again", between the tasks of one core. Carries no data.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Copy, Clone, PartialEq, Eq)]
enum Told {
    No,
    /// By `notify_one`: if the waiter goes away unpolled, the next one is told instead.
    Alone,
    WithAll,
}

struct Waiter {
    told: Cell<Told>,
    waker: RefCell<Option<Waker>>,
}

/// Wakes tasks that wait for a change. Waiters are served in the order in which they first polled.
#[derive(Default)]
pub struct Notify {
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    permit: Cell<bool>,
}

impl Notify {
    /// Nobody waits, no permit is stored.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Waits for the next notification, or takes the permit that [`notify_one`](Self::notify_one)
    /// stored while nobody waited.
    pub fn wait(&self) -> Wait<'_> {
        Wait {
            notify: self,
            waiter: None,
        }
    }

    /// Wakes the longest waiting task. If nobody waits, the next waiter returns at once; permits
    /// do not add up.
    pub fn notify_one(&self) {
        let next = self.waiters.borrow_mut().pop_front();
        match next {
            Some(waiter) => waiter.tell(Told::Alone),
            None => self.permit.set(true),
        }
    }

    /// Wakes every task that waits now. Stores nothing.
    pub fn notify_all(&self) {
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for waiter in waiters {
            waiter.tell(Told::WithAll);
        }
    }

    /// Tasks that wait now.
    pub fn waiting(&self) -> usize {
        self.waiters.borrow().len()
    }
}

impl Waiter {
    fn tell(&self, told: Told) {
        self.told.set(told);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Future of [`Notify::wait`].
pub struct Wait<'a> {
    notify: &'a Notify,
    waiter: Option<Rc<Waiter>>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiter) = &self.waiter else {
            if self.notify.permit.replace(false) {
                return Poll::Ready(());
            }
            let waker = RefCell::new(Some(cx.waker().clone()));
            let waiter = Rc::new(Waiter {
                told: Cell::new(Told::No),
                waker,
            });
            self.notify
                .waiters
                .borrow_mut()
                .push_back(Rc::clone(&waiter));
            self.waiter = Some(waiter);
            return Poll::Pending;
        };
        if waiter.told.get() == Told::No {
            *waiter.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.waiter = None;
        Poll::Ready(())
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        match waiter.told.get() {
            Told::No => self
                .notify
                .waiters
                .borrow_mut()
                .retain(|w| !Rc::ptr_eq(w, &waiter)),
            Told::Alone => self.notify.notify_one(),
            Told::WithAll => {}
        }
    }
}
