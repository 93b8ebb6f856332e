//! Memory that a core lends to requests and cold reads (law 8).
//!
//! Every frame's bytes are reserved before they are read, and held until the request is answered. Who does not
//! get memory waits, in order, without reading from its socket: back-pressure reaches the client through TCP.
//! A reservation larger than the whole budget is granted when it would be the only one, so that the largest
//! admissible frame always gets through.

use runtime::oneshot;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A budget of bytes, shared by handle within one core.
#[derive(Clone)]
pub struct Budget(Rc<RefCell<Inner>>);

struct Inner {
    total: usize,
    used: usize,
    waiting: VecDeque<(usize, oneshot::Sender<Reservation>)>,
}

/// Bytes held; they return to the budget when this is dropped.
pub struct Reservation {
    bytes: usize,
    budget: Budget,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Budget {
        Budget(Rc::new(RefCell::new(Inner {
            total,
            used: 0,
            waiting: VecDeque::new(),
        })))
    }

    /// Waits until `bytes` are to be had. First come, first served.
    pub async fn reserve(&self, bytes: usize) -> Reservation {
        let receiver = {
            let mut inner = self.0.borrow_mut();
            if inner.waiting.is_empty() && inner.fits(bytes) {
                inner.used += bytes;
                return Reservation {
                    bytes,
                    budget: self.clone(),
                };
            }
            let (sender, receiver) = runtime::oneshot();
            inner.waiting.push_back((bytes, sender));
            receiver
        };
        receiver
            .await
            .expect("a budget keeps its waiters until it serves them")
    }

    /// Bytes lent out.
    pub fn used(&self) -> usize {
        self.0.borrow().used
    }

    /// Requests that wait for memory.
    pub fn waiting(&self) -> usize {
        self.0.borrow().waiting.len()
    }

    fn give_back(&self, bytes: usize) {
        let mut inner = self.0.borrow_mut();
        assert!(
            inner.used >= bytes,
            "{bytes} bytes come back, {} were lent",
            inner.used
        );
        inner.used -= bytes;
        let mut granted = Vec::new();
        while let Some((wanted, _)) = inner.waiting.front() {
            let wanted = *wanted;
            if !inner.fits(wanted) {
                break;
            }
            let (_, sender) = inner.waiting.pop_front().expect("front was there");
            inner.used += wanted;
            granted.push((
                sender,
                Reservation {
                    bytes: wanted,
                    budget: self.clone(),
                },
            ));
        }
        // Outside the borrow: a waiter that has gone away drops its reservation right here.
        drop(inner);
        for (sender, reservation) in granted {
            // Given back by its drop if the waiter has gone away.
            let _ = sender.send(reservation);
        }
    }
}

impl Inner {
    fn fits(&self, bytes: usize) -> bool {
        self.used == 0 || self.used + bytes <= self.total
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}
