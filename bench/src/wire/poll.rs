//! Readiness of many sockets with one epoll, and timeouts in ns.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::clock::{NS_PER_S, monotonic_ns};

const EVENTS_MAX: usize = 256;

/// What a socket is ready for. An error or a hang-up shows as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub token: usize,
    pub readable: bool,
    pub writable: bool,
}

/// A level-triggered epoll.
pub struct Poll {
    fd: OwnedFd,
    ready: Vec<libc::epoll_event>,
}

impl Poll {
    pub fn new() -> io::Result<Poll> {
        // SAFETY: no pointers are involved; a valid descriptor that comes back is ours alone.
        let fd = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // Timeouts as exact as the timer: the usual slack of 50 us would show in every latency.
        // SAFETY: this option takes a number.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
        Ok(Poll {
            fd,
            ready: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Watches `fd` for reading, under `token`.
    pub fn add(&self, fd: RawFd, token: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, false)
    }

    /// Watches `fd` for reading, and for writing if `writing`.
    pub fn watch(&self, fd: RawFd, token: usize, writing: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, writing)
    }

    fn control(&self, operation: i32, fd: RawFd, token: usize, writing: bool) -> io::Result<()> {
        let events = if writing {
            libc::EPOLLIN | libc::EPOLLOUT
        } else {
            libc::EPOLLIN
        };
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: token as u64,
        };
        // SAFETY: `event` is valid for the call, which keeps no pointer to it.
        match unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until something is ready, or until `deadline_ns` (CLOCK_MONOTONIC; `None` is never).
    /// A deadline that has passed still takes what is ready.
    pub fn wait(&mut self, deadline_ns: Option<u64>) -> io::Result<Vec<Event>> {
        let left_ns = deadline_ns.map(|deadline_ns| deadline_ns.saturating_sub(monotonic_ns()));
        let timeout = left_ns.map(|left_ns| libc::timespec {
            tv_sec: (left_ns / NS_PER_S) as libc::time_t,
            tv_nsec: (left_ns % NS_PER_S) as libc::c_long,
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the buffer has room for EVENTS_MAX events, the timeout is null or valid, and no
        // signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.ready.as_mut_ptr(),
                EVENTS_MAX as libc::c_int,
                timeout,
                ptr::null::<libc::sigset_t>(),
                size_of::<u64>(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::Interrupted => Ok(Vec::new()),
                _ => Err(error),
            };
        }
        // SAFETY: the kernel has filled so many events.
        unsafe { self.ready.set_len(count as usize) };
        Ok(self.ready.iter().map(|event| event_of(*event)).collect())
    }
}

fn event_of(event: libc::epoll_event) -> Event {
    let has = |flags: i32| event.events & flags as u32 != 0;
    let broken = has(libc::EPOLLERR | libc::EPOLLHUP);
    Event {
        token: event.u64 as usize,
        readable: broken || has(libc::EPOLLIN),
        writable: broken || has(libc::EPOLLOUT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_socket_is_readable_once_something_came() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.add(far.as_raw_fd(), 7).unwrap();
        assert_eq!(poll.wait(Some(0)).unwrap(), []);
        near.write_all(b"x").unwrap();
        let expected = Event {
            token: 7,
            readable: true,
            writable: false,
        };
        assert_eq!(poll.wait(None).unwrap(), [expected]);
        poll.watch(far.as_raw_fd(), 7, true).unwrap();
        assert!(poll.wait(None).unwrap()[0].writable);
    }

    #[test]
    fn a_hang_up_wakes_the_reader() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.add(far.as_raw_fd(), 1).unwrap();
        drop(near);
        assert!(poll.wait(None).unwrap()[0].readable);
    }
}
