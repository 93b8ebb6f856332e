//! One value from one task to another of the same core. Must not know executors: it only wakes.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The sender went away without a value.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender went away without a value")
    }
}

impl std::error::Error for Dropped {}

struct Slot<T> {
    value: Option<T>,
    sender_gone: bool,
    receiver_gone: bool,
    waker: Option<Waker>,
}

/// Hands over the value. Dropping it unsent wakes the receiver with [`Dropped`].
pub struct Sender<T>(Rc<RefCell<Slot<T>>>);

/// Awaits the value.
pub struct Receiver<T>(Rc<RefCell<Slot<T>>>);

/// A sender and the receiver it serves.
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Slot {
        value: None,
        sender_gone: false,
        receiver_gone: false,
        waker: None,
    };
    let slot = Rc::new(RefCell::new(slot));
    (Sender(Rc::clone(&slot)), Receiver(slot))
}

impl<T> Sender<T> {
    /// Gives the value to the receiver, or back if the receiver went away.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut slot = self.0.borrow_mut();
        if slot.receiver_gone {
            return Err(value);
        }
        slot.value = Some(value);
        Ok(())
    }

    /// Whether nobody can receive the value any more.
    pub fn is_closed(&self) -> bool {
        self.0.borrow().receiver_gone
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.sender_gone = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The value, if it has been sent.
    pub fn try_take(&mut self) -> Option<T> {
        self.0.borrow_mut().value.take()
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, Dropped>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.borrow_mut();
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Ok(value));
        }
        if slot.sender_gone {
            return Poll::Ready(Err(Dropped));
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // The unreceived value is dropped outside the borrow: its destructor may be anything.
        let unreceived = {
            let mut slot = self.0.borrow_mut();
            slot.receiver_gone = true;
            slot.waker = None;
            slot.value.take()
        };
        drop(unreceived);
    }
}
