//! In which pieces the kernel gives memory to this process.

use std::io;

/// From now on every fault brings one small page, whatever the allocator advised the kernel.
///
/// The first touch of a huge page makes the core wait until 2 MiB are found and cleared: 5 ms on a virtual
/// machine whose host has to find them too, milliseconds on any machine whose memory is in fragments. A
/// broker whose tails grow meets one every few hundred requests. With small pages the same work comes in
/// pieces of microseconds, and in all it measured no more of it (`docs/benchmarks.md`).
///
/// # Errors
/// What the kernel says; a kernel built without huge pages has nothing to turn off and may refuse.
pub fn fault_small_pages() -> io::Result<()> {
    const ZERO: libc::c_ulong = 0;
    // SAFETY: takes four numbers and touches no memory of ours.
    match unsafe {
        libc::prctl(
            libc::PR_SET_THP_DISABLE,
            1 as libc::c_ulong,
            ZERO,
            ZERO,
            ZERO,
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::fault_small_pages;
    use std::path::Path;

    #[test]
    fn the_kernel_says_that_huge_pages_are_off() {
        let huge_pages = Path::new("/sys/kernel/mm/transparent_hugepage");
        assert_eq!(fault_small_pages().is_ok(), huge_pages.exists());
        if !huge_pages.exists() {
            return;
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.contains("THP_enabled:\t0"), "{status}");
    }
}
