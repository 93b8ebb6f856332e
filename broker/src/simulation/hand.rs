//! What reaches a node otherwise than by the network: the signal to stop, and orders as the admin server passes them on.

use crate::cluster::METADATA_CORE;
use crate::observe::Request;
use crate::operate::{Order, Outcome};
use crate::shard::mail::Mail;
use runtime::{Notify, Post};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::oneshot;

/// The hand of whoever looks after a node, for one life of it.
#[derive(Default)]
pub(super) struct Hand {
    moved: Notify,
    orders: RefCell<Vec<Request>>,
}

impl Hand {
    /// As SIGTERM. No order is under way.
    pub fn stop(&self) {
        self.moved.notify_one();
    }

    /// An order, and where its outcome comes.
    pub fn give(&self, order: Order) -> oneshot::Receiver<Outcome> {
        let (reply, outcome) = oneshot::channel();
        self.orders
            .borrow_mut()
            .push(Request::Operate { order, reply });
        self.moved.notify_one();
        outcome
    }

    /// What the process does with it, up to the signal.
    pub async fn pass_on(self: Rc<Hand>, post: Post<Mail>, cores: usize) {
        loop {
            self.moved.wait().await;
            let orders = self.orders.take();
            if orders.is_empty() {
                break;
            }
            for order in orders {
                post.send(METADATA_CORE, Mail::Observe(order));
            }
        }
        for core in (0..cores).rev() {
            post.send(core, Mail::Stop);
        }
    }
}
