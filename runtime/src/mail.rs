//! Typed mail between the cores of a node. Posting never blocks and never fails: mail gathers per
//! destination and leaves once per loop pass as one batch. Order holds per (from, to) pair.
//!
//! Must not know what the mail says. Deliberately absent: limits. Whoever posts bounds what it
//! has outstanding, since only it knows what an answer costs.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::sim;
use crate::uring::mesh::Mesh;

/// How batches travel.
pub(crate) enum Route<M> {
    Mesh(Arc<Mesh<M>>),
    Sim(sim::Route<M>),
}

/// Both ends of one core: what it has posted in this pass and what has arrived.
pub(crate) struct Desk<M> {
    core: usize,
    outgoing: RefCell<Vec<Vec<M>>>,
    has_outgoing: Cell<bool>,
    arrived: RefCell<Vec<(usize, M)>>,
    reader: RefCell<Option<Waker>>,
    route: Route<M>,
}

/// What a driver does with a desk, whatever the mail's type.
pub(crate) trait Courier {
    /// Sends off what was posted in this pass.
    fn flush(&self);
    /// Takes in what has arrived.
    fn collect(&self);
    /// Whether a batch waits to be taken in.
    fn has_arrivals(&self) -> bool;
}

impl<M: Send + 'static> Desk<M> {
    pub(crate) fn new(core: usize, cores: usize, route: Route<M>) -> Rc<Desk<M>> {
        let outgoing = RefCell::new((0..cores).map(|_| Vec::new()).collect());
        Rc::new(Desk {
            core,
            outgoing,
            has_outgoing: Cell::new(false),
            arrived: RefCell::new(Vec::new()),
            reader: RefCell::new(None),
            route,
        })
    }

    /// Puts a batch into the inbox.
    pub(crate) fn deliver(&self, from: usize, batch: Vec<M>) {
        self.arrived
            .borrow_mut()
            .extend(batch.into_iter().map(|mail| (from, mail)));
        let reader = self.reader.borrow_mut().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<M: Send + 'static> Courier for Desk<M> {
    fn flush(&self) {
        if !self.has_outgoing.replace(false) {
            return;
        }
        let cores = self.outgoing.borrow().len();
        for to in 0..cores {
            let batch = mem::take(&mut self.outgoing.borrow_mut()[to]);
            if batch.is_empty() {
                continue;
            }
            if to == self.core {
                self.deliver(to, batch);
                continue;
            }
            match &self.route {
                Route::Mesh(mesh) => mesh.send(self.core, to, batch),
                Route::Sim(route) => route.send(self.core, to, batch),
            }
        }
    }

    fn collect(&self) {
        if let Route::Mesh(mesh) = &self.route {
            mesh.take(self.core, |from, batch| self.deliver(from, batch));
        }
    }

    fn has_arrivals(&self) -> bool {
        matches!(&self.route, Route::Mesh(mesh) if mesh.has_mail(self.core))
    }
}

/// Posts mail from this core. One per core; clones share it.
pub struct Post<M>(pub(crate) Rc<Desk<M>>);

impl<M: Send + 'static> Post<M> {
    /// Posts to a core of this node, which may be this one (then it arrives in the next pass).
    /// Asserts that there is such a core.
    pub fn send(&self, to: usize, mail: M) {
        let mut outgoing = self.0.outgoing.borrow_mut();
        assert!(
            to < outgoing.len(),
            "mail for core {to} of {}",
            outgoing.len()
        );
        outgoing[to].push(mail);
        self.0.has_outgoing.set(true);
    }
}

impl<M> Clone for Post<M> {
    fn clone(&self) -> Post<M> {
        Post(Rc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Post<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Post(core {})", self.0.core)
    }
}

/// Receives the mail of this core. One per core.
pub struct Inbox<M>(pub(crate) Rc<Desk<M>>);

impl<M> Inbox<M> {
    /// Everything that has arrived, at least one, as (from, mail) in order of arrival. Mail of a
    /// [`Gateway`] comes from this core's own number.
    pub async fn take(&mut self) -> Vec<(usize, M)> {
        poll_fn(|cx| {
            let arrived = self.try_take();
            if arrived.is_empty() {
                *self.0.reader.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(arrived)
        })
        .await
    }

    /// Everything that has arrived, which may be nothing.
    pub fn try_take(&mut self) -> Vec<(usize, M)> {
        mem::take(&mut *self.0.arrived.borrow_mut())
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Inbox(core {}, {} arrived)",
            self.0.core,
            self.0.arrived.borrow().len()
        )
    }
}

/// Posts mail to cores from threads that are none. Wakes the core if it is parked.
pub struct Gateway<M>(pub(crate) Arc<Mesh<M>>);

impl<M: Send> Gateway<M> {
    /// Posts to a core. After that core has ended the mail is kept unread and dropped with the
    /// node. Asserts that there is such a core.
    pub fn send(&self, to: usize, mail: M) {
        self.0.send(to, to, vec![mail]);
    }

    /// How many cores the node has.
    pub fn cores(&self) -> usize {
        self.0.cores()
    }
}

impl<M> Clone for Gateway<M> {
    fn clone(&self) -> Gateway<M> {
        Gateway(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Gateway<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gateway")
    }
}
