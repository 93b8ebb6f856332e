//! Which CPUs a thread may run on.

use std::{io, mem};

/// A set of CPUs, as the kernel takes it.
#[derive(Clone)]
pub(crate) struct Cpus(libc::cpu_set_t);

impl Cpus {
    /// Those that the calling thread may use now.
    pub(crate) fn allowed() -> io::Result<Cpus> {
        // SAFETY: all zeros is an empty set.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: the size is that of `set`, which is writable.
        let done = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Cpus(set))
    }

    pub(crate) fn contains(&self, cpu: usize) -> bool {
        // SAFETY: the number is within the set's size.
        cpu < libc::CPU_SETSIZE as usize && unsafe { libc::CPU_ISSET(cpu, &self.0) }
    }

    pub(crate) fn raw(&self) -> &libc::cpu_set_t {
        &self.0
    }

    /// Ties the calling thread to one of these CPUs.
    pub(crate) fn pin_to(&self, cpu: usize) -> io::Result<()> {
        if !self.contains(cpu) {
            let sentence = format!(
                "CPU {cpu} is not among those that this process may use; \
                 choose others or widen its affinity (taskset, cpuset)"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        // SAFETY: all zeros is an empty set; `contains` has checked that the number fits.
        let set = unsafe {
            let mut set: libc::cpu_set_t = mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            set
        };
        // SAFETY: the size is that of `set`, which is readable.
        let done = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
        if done != 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}
