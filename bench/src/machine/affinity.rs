//! Which CPUs a thread or a child process may use.

use std::io;
use std::mem;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The CPUs that this thread may use, by number.
pub fn available_cpus() -> Vec<usize> {
    // SAFETY: all zeros is a valid (empty) set, which is writable and of the size given.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        set
    };
    // SAFETY: the set is valid, and CPU_ISSET checks the number against its size.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
        .collect()
}

/// Restricts this thread, and the threads that it will start, to `cpus`.
pub fn pin_thread(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: the set is valid; CPU_SET checks the number against its size.
    let code = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        cpus.iter().for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Restricts the process that `command` will start to `cpus`, from its first instruction on: a
/// JVM counts its CPUs when it starts.
pub fn pin_command(command: &mut Command, cpus: Vec<usize>) {
    // SAFETY: between fork and exec the closure only makes a system call; it allocates nothing.
    unsafe {
        command.pre_exec(move || pin_thread(&cpus));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_that_cpu_only() {
        let cpus = available_cpus();
        assert!(!cpus.is_empty());
        let last = *cpus.last().unwrap();
        let seen = std::thread::spawn(move || {
            pin_thread(&[last]).unwrap();
            available_cpus()
        });
        assert_eq!(seen.join().unwrap(), [last]);
        assert_eq!(available_cpus(), cpus, "other threads stay free");
    }
}
