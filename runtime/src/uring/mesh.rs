//! How batches of mail cross between threads.
//!
//! Each receiver owns one stack of batches that any thread may push to and that the receiver
//! takes whole. One word per receiver means that a core looks at one cache line per pass however
//! many cores there are; a push happens once per (sender, receiver) and pass, so contention on the
//! word is slight. Taking the whole stack leaves no room for the ABA problem. Reversed, a stack
//! is a queue, so the batches of one sender keep their order.
//!
//! Must not know what mail says. Deliberately absent: bounds (see [`crate::mail`]).

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::executor::ready::Bell;

struct Batch<M> {
    from: usize,
    mail: Vec<M>,
    /// Owned; the batch pushed before this one.
    below: *mut Batch<M>,
}

/// Kept apart so that pushes to one core do not slow the looks of another.
#[repr(align(128))]
struct Pile<M> {
    top: AtomicPtr<Batch<M>>,
    bell: Arc<Bell>,
}

pub(crate) struct Mesh<M> {
    piles: Vec<Pile<M>>,
}

// SAFETY: the raw pointers are owned batches that change hands through atomics with
// release/acquire order; nothing refers to a batch but the stack or the one who took it. Sharing
// a mesh moves mail between threads, hence `M: Send`.
unsafe impl<M: Send> Send for Mesh<M> {}
// SAFETY: as above; no `&M` is ever shared, so `M: Sync` is not needed.
unsafe impl<M: Send> Sync for Mesh<M> {}

impl<M> Mesh<M> {
    /// One receiver per bell.
    pub(crate) fn new(bells: Vec<Arc<Bell>>) -> Mesh<M> {
        let empty = |bell| Pile {
            top: AtomicPtr::new(ptr::null_mut()),
            bell,
        };
        Mesh {
            piles: bells.into_iter().map(empty).collect(),
        }
    }

    pub(crate) fn cores(&self) -> usize {
        self.piles.len()
    }

    /// Pushes a batch and wakes the receiver if it sleeps.
    pub(crate) fn send(&self, from: usize, to: usize, mail: Vec<M>) {
        assert!(
            to < self.piles.len(),
            "mail for core {to} of {}",
            self.piles.len()
        );
        let target = &self.piles[to];
        let batch = Box::into_raw(Box::new(Batch {
            from,
            mail,
            below: ptr::null_mut(),
        }));
        let mut top = target.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: `batch` is ours until the exchange succeeds.
            unsafe { (*batch).below = top };
            // Release: the batch's content is visible to whoever takes it.
            let pushed =
                target
                    .top
                    .compare_exchange_weak(top, batch, Ordering::Release, Ordering::Relaxed);
            match pushed {
                Ok(_) => break,
                Err(current) => top = current,
            }
        }
        target.bell.ring();
    }

    /// Whether `core` has a batch to take.
    pub(crate) fn has_mail(&self, core: usize) -> bool {
        !self.piles[core].top.load(Ordering::Relaxed).is_null()
    }

    /// Gives every batch for `core` to `deliver`, oldest first.
    pub(crate) fn take(&self, core: usize, mut deliver: impl FnMut(usize, Vec<M>)) {
        if !self.has_mail(core) {
            return;
        }
        let mut top = self.piles[core]
            .top
            .swap(ptr::null_mut(), Ordering::Acquire);
        let mut newest_first = Vec::new();
        while !top.is_null() {
            // SAFETY: the swap made the whole stack ours; each batch was made by `Box::into_raw`
            // and is visited once.
            let batch = unsafe { Box::from_raw(top) };
            top = batch.below;
            newest_first.push((batch.from, batch.mail));
        }
        for (from, mail) in newest_first.into_iter().rev() {
            deliver(from, mail);
        }
    }
}

impl<M> Drop for Mesh<M> {
    fn drop(&mut self) {
        for core in 0..self.piles.len() {
            self.take(core, |_, mail| drop(mail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_keep_their_order_under_contention() {
        const SENDERS: usize = 3;
        const BATCHES: u64 = 20_000;
        let mesh: Arc<Mesh<u64>> = Arc::new(Mesh::new(vec![Arc::new(Bell::new(None))]));
        let senders: Vec<_> = (0..SENDERS)
            .map(|from| {
                let mesh = Arc::clone(&mesh);
                std::thread::spawn(move || {
                    for i in 0..BATCHES {
                        mesh.send(from, 0, vec![2 * i, 2 * i + 1]);
                    }
                })
            })
            .collect();
        let mut next = [0u64; SENDERS];
        while next.iter().any(|&n| n < 2 * BATCHES) {
            mesh.take(0, |from, mail| {
                for m in mail {
                    assert_eq!(m, next[from], "from {from}");
                    next[from] += 1;
                }
            });
            std::thread::yield_now();
        }
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(!mesh.has_mail(0));
    }

    #[test]
    fn unread_mail_is_dropped_with_the_mesh() {
        let marker = Arc::new(());
        let mesh = Mesh::new(vec![Arc::new(Bell::new(None))]);
        for _ in 0..5 {
            mesh.send(0, 0, vec![Arc::clone(&marker); 3]);
        }
        assert_eq!(Arc::strong_count(&marker), 16);
        drop(mesh);
        assert_eq!(Arc::strong_count(&marker), 1);
    }
}
