//! An operation in the kernel's hands, and what it owns meanwhile.
//!
//! The kernel may read or write an operation's memory until its completion is in, whatever
//! becomes of the future. So memory and descriptor belong to the operation's slot in the driver;
//! the future has only the slot's number. A dropped future asks the kernel to cancel and leaves;
//! the slot is freed when the completion comes.

use std::ffi::CString;
use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::driver::Driver;
use crate::aligned::AlignedBuf;

/// Memory that an operation owns. Every variant keeps its address when it is moved.
pub(crate) enum Held {
    Nothing,
    /// Sent or written.
    Bytes(#[expect(dead_code, reason = "only the kernel reads it")] Bytes),
    /// Received into, after its length.
    Buffer(BytesMut),
    /// Read into, after its length.
    Aligned(AlignedBuf),
    /// Sent by gathering.
    Message(Box<Message>),
    /// A socket address, given or received.
    Address(Box<Address>),
    Path(CString),
    Paths(CString, CString),
    /// Metadata of a path.
    Metadata(Box<(CString, libc::statx)>),
}

/// A gathering send: the header points to the pieces, the pieces into the parts.
pub(crate) struct Message {
    pub(crate) header: libc::msghdr,
    #[expect(dead_code, reason = "only the kernel reads it")]
    pub(crate) pieces: Vec<libc::iovec>,
    pub(crate) parts: Vec<Bytes>,
}

pub(crate) struct Address {
    pub(crate) storage: libc::sockaddr_storage,
    pub(crate) len: libc::socklen_t,
}

pub(crate) enum Progress {
    /// In the kernel's hands; the waker is absent until the first poll.
    Running(Option<Waker>),
    /// Result and flags of the completion, not yet collected by the future.
    Done(i32, u32),
    /// The future is gone, the completion is not yet in.
    Abandoned,
}

/// What the driver keeps for an operation until its completion is in.
pub(crate) struct Slot {
    pub(crate) progress: Progress,
    pub(crate) held: Held,
    /// Open until the kernel is done: a closed number could be reused before submission.
    #[expect(dead_code, reason = "only its destructor matters")]
    pub(crate) fd: Option<Rc<OwnedFd>>,
    /// A result of at least 0 is a new descriptor that somebody must own.
    pub(crate) opens: bool,
}

impl Slot {
    /// Closes the descriptor that an operation has opened for nobody.
    pub(crate) fn discard(self, result: i32) {
        if self.opens && result >= 0 {
            // SAFETY: the kernel has just given us this descriptor and nobody else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
    }
}

/// What came of an operation.
pub(crate) struct Completed {
    pub(crate) result: io::Result<u32>,
    /// Flags of the completion entry.
    pub(crate) flags: u32,
    pub(crate) held: Held,
}

impl Completed {
    /// The new descriptor of an operation that opens one.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        let fd = self.result?;
        // SAFETY: called once, for operations marked as opening, whose result is a descriptor
        // that nobody else knows.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }
}

/// Future of a submitted operation.
pub(crate) struct Op {
    pub(crate) driver: Rc<Driver>,
    /// `None` once the outcome has been collected.
    pub(crate) key: Option<usize>,
}

impl Future for Op {
    type Output = Completed;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Completed> {
        let key = self.key.expect("an operation was polled after its end");
        let completed = self.driver.collect(key, cx);
        if completed.is_ready() {
            self.key = None;
        }
        completed
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.driver.abandon(key);
        }
    }
}
