//! Asks the kernel, before anything is started, whether it offers what the driver needs.

use std::{fmt, fs, io};

use io_uring::{IoUring, opcode};

/// Why this machine cannot run the driver. Displays as one sentence with the remedy.
#[derive(Debug)]
pub enum Unsupported {
    /// The kernel was built without io_uring or is too old to know it.
    Absent,
    /// The administrator has switched io_uring off; the value of `kernel.io_uring_disabled`.
    SwitchedOff(u8),
    /// A seccomp filter, as container engines install by default, forbids it.
    Forbidden,
    /// Not enough lockable memory for a ring (kernels before 5.12 count it).
    LockedMemory,
    /// The kernel lacks an operation.
    Operation(&'static str),
    /// The kernel lacks a feature of the ring itself.
    Feature(&'static str),
    /// Anything else that creating a ring met.
    Other(io::Error),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsupported::Absent => f.write_str(
                "this kernel has no io_uring: use Linux 6.1 or newer, built with CONFIG_IO_URING",
            ),
            Unsupported::SwitchedOff(value) => write!(
                f,
                "io_uring is switched off on this machine (kernel.io_uring_disabled = {value}): \
                 run `sysctl kernel.io_uring_disabled=0`"
            ),
            Unsupported::Forbidden => f.write_str(
                "a seccomp filter forbids io_uring, as the default profiles of Docker and \
                 containerd do: start the container with a profile that allows io_uring_setup, \
                 io_uring_enter and io_uring_register",
            ),
            Unsupported::LockedMemory => f.write_str(
                "too little lockable memory for io_uring: raise the limit to 8 MiB or more \
                 (`ulimit -l`, LimitMEMLOCK= in systemd)",
            ),
            Unsupported::Operation(name) => {
                write!(
                    f,
                    "this kernel's io_uring lacks {name}: use Linux 6.1 or newer"
                )
            }
            Unsupported::Feature(name) => {
                write!(
                    f,
                    "this kernel's io_uring lacks {name}: use Linux 6.1 or newer"
                )
            }
            Unsupported::Other(e) => write!(f, "io_uring cannot be set up: {e}"),
        }
    }
}

impl std::error::Error for Unsupported {}

/// The operations without which the driver cannot work.
const NEEDED: [(u8, &str); 16] = [
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Fsync::CODE, "fsync"),
    (opcode::Fallocate::CODE, "fallocate"),
    (opcode::OpenAt::CODE, "openat"),
    (opcode::Statx::CODE, "statx"),
    (opcode::RenameAt::CODE, "renameat"),
    (opcode::UnlinkAt::CODE, "unlinkat"),
    (opcode::MkDirAt::CODE, "mkdirat"),
    (opcode::Accept::CODE, "accept"),
    (opcode::Connect::CODE, "connect"),
    (opcode::Recv::CODE, "recv"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
    (opcode::AsyncCancel::CODE, "async cancel"),
];

/// Whether io_uring is here, allowed, and knows the operations that the driver needs.
pub fn probe() -> Result<(), Unsupported> {
    let ring = IoUring::new(4).map_err(reason)?;
    let params = ring.params();
    if !params.is_feature_nodrop() {
        return Err(Unsupported::Feature("lossless completions"));
    }
    if !params.is_feature_ext_arg() {
        return Err(Unsupported::Feature("waiting with a time limit"));
    }
    if !params.is_feature_fast_poll() {
        return Err(Unsupported::Feature("fast polling of sockets"));
    }
    let mut known = io_uring::Probe::new();
    ring.submitter()
        .register_probe(&mut known)
        .map_err(Unsupported::Other)?;
    match NEEDED.iter().find(|(code, _)| !known.is_supported(*code)) {
        Some((_, name)) => Err(Unsupported::Operation(name)),
        None => Ok(()),
    }
}

fn reason(e: io::Error) -> Unsupported {
    let switch = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    classify(e, switch.and_then(|text| text.trim().parse().ok()))
}

/// `switch` is the value of `kernel.io_uring_disabled`, if the kernel has it.
fn classify(e: io::Error, switch: Option<u8>) -> Unsupported {
    match (e.raw_os_error(), switch) {
        (Some(libc::ENOSYS), _) => Unsupported::Absent,
        (Some(libc::EPERM), Some(value @ 1..)) => Unsupported::SwitchedOff(value),
        (Some(libc::EPERM | libc::EACCES), _) => Unsupported::Forbidden,
        (Some(libc::ENOMEM), _) => Unsupported::LockedMemory,
        _ => Unsupported::Other(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_remedy() {
        let sentence =
            |code, switch| classify(io::Error::from_raw_os_error(code), switch).to_string();
        assert!(sentence(libc::ENOSYS, None).contains("6.1 or newer"));
        assert!(sentence(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(sentence(libc::EPERM, None).contains("seccomp"));
        assert!(sentence(libc::EPERM, Some(2)).contains("io_uring_disabled = 2"));
        assert!(sentence(libc::ENOMEM, Some(0)).contains("LimitMEMLOCK"));
        assert!(sentence(libc::EMFILE, Some(0)).contains("cannot be set up"));
    }
}
