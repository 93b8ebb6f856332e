//! Files through the ring. Must not know what they contain.
//!
//! Three questions are asked of the kernel directly, because it answers them from memory: the
//! length of an open file, the room of a file system, and (at start-up) a directory's names.

use std::ffi::CString;
use std::fs::{self, DirEntry as StdEntry};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::{io, mem};

use bytes::Bytes;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};

use super::driver::{Driver, fd_of};
use super::op::Held;
use crate::aligned::{ALIGN, AlignedBuf};
use crate::disk::{DirEntry, Durability, OpenOptions, Space};

const HERE: Fd = Fd(libc::AT_FDCWD);

/// The most that one read or write moves: the kernel's own limit, in whole blocks.
const MAX_TRANSFER: usize = 0x7fff_f000;

/// An open file of this core.
pub(crate) struct RingFile {
    driver: Rc<Driver>,
    fd: Rc<OwnedFd>,
}

pub(crate) async fn open(driver: &Rc<Driver>, path: &Path, o: OpenOptions) -> io::Result<RingFile> {
    let mut flags = libc::O_CLOEXEC
        | match (o.read, o.write) {
            (true, false) => libc::O_RDONLY,
            (false, true) => libc::O_WRONLY,
            (true, true) => libc::O_RDWR,
            (false, false) => return Err(invalid("a file is opened to be read or written")),
        };
    let options = [
        (o.create, libc::O_CREAT),
        (o.create_new, libc::O_CREAT | libc::O_EXCL),
        (o.truncate, libc::O_TRUNC),
        (o.direct, libc::O_DIRECT),
    ];
    for (wanted, flag) in options {
        if wanted {
            flags |= flag;
        }
    }
    let fd = open_raw(driver, path, flags).await?;
    Ok(RingFile {
        driver: Rc::clone(driver),
        fd: Rc::new(fd),
    })
}

async fn open_raw(driver: &Rc<Driver>, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let held = Held::Path(c_path(path)?);
    let build = |held: &mut Held| {
        opcode::OpenAt::new(HERE, path_in(held))
            .flags(flags)
            .mode(0o644)
            .build()
    };
    driver.start_opening(None, held, build).await.into_fd()
}

impl RingFile {
    pub(crate) async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut buf = AlignedBuf::with_capacity(len);
        while buf.len() < len {
            let at = offset + buf.len() as u64;
            let want = (len - buf.len()).min(MAX_TRANSFER) as u32;
            let build = |held: &mut Held| {
                let Held::Aligned(buf) = held else {
                    unreachable!("a read holds its buffer")
                };
                opcode::Read::new(fd_of(&self.fd), buf.spare().0, want)
                    .offset(at)
                    .build()
            };
            let done = self
                .driver
                .start(Some(&self.fd), Held::Aligned(buf), build)
                .await;
            let Held::Aligned(back) = done.held else {
                unreachable!("a read holds its buffer")
            };
            buf = back;
            let got = match done.result {
                Err(e) if is_retry(&e) => continue,
                result => result? as usize,
            };
            // SAFETY: the kernel has written `got` bytes after the length.
            unsafe { buf.set_len(buf.len() + got) };
            // The end of the file. A piece that is no whole block can only be its last one.
            if got == 0 || !got.is_multiple_of(ALIGN) {
                break;
            }
        }
        Ok(buf.freeze())
    }

    pub(crate) async fn write_at(
        &self,
        mut data: Bytes,
        mut offset: u64,
        durability: Durability,
    ) -> io::Result<()> {
        let flags = match durability {
            Durability::Volatile => 0,
            Durability::Synced => libc::RWF_DSYNC,
        };
        while !data.is_empty() {
            let len = data.len().min(MAX_TRANSFER) as u32;
            let start = data.as_ptr();
            let build = |_: &mut Held| {
                opcode::Write::new(fd_of(&self.fd), start, len)
                    .offset(offset)
                    .rw_flags(flags)
                    .build()
            };
            let done = self
                .driver
                .start(Some(&self.fd), Held::Bytes(data.clone()), build)
                .await;
            let written = match done.result {
                Err(e) if is_retry(&e) => continue,
                result => result? as usize,
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            data = data.slice(written..);
            offset += written as u64;
        }
        Ok(())
    }

    pub(crate) async fn sync(&self, data_only: bool) -> io::Result<()> {
        fsync(&self.driver, &self.fd, data_only).await
    }

    pub(crate) async fn set_len(&self, len: u64) -> io::Result<()> {
        if self.driver.can_truncate() {
            return self
                .change(|fd| opcode::Ftruncate::new(fd, len).build())
                .await;
        }
        let len = libc::off_t::try_from(len).map_err(|_| invalid("a length beyond 2^63"))?;
        // SAFETY: the descriptor is open; no memory is involved.
        check(unsafe { libc::ftruncate(self.fd.as_raw_fd(), len) })
    }

    pub(crate) async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(|fd| opcode::Fallocate::new(fd, len).offset(offset).build())
            .await
    }

    /// An operation on the file without memory. Retried when a signal has cut it short.
    async fn change(&self, entry: impl Fn(Fd) -> squeue::Entry) -> io::Result<()> {
        loop {
            let build = |_: &mut Held| entry(fd_of(&self.fd));
            let done = self
                .driver
                .start(Some(&self.fd), Held::Nothing, build)
                .await;
            match done.result {
                Err(e) if is_retry(&e) => {}
                result => return result.map(drop),
            }
        }
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        // SAFETY: all zeros is a valid `stat`, which is writable; the descriptor is open.
        let mut stat: libc::stat = unsafe { mem::zeroed() };
        check(unsafe { libc::fstat(self.fd.as_raw_fd(), &mut stat) })?;
        Ok(stat.st_size as u64)
    }
}

async fn fsync(driver: &Rc<Driver>, fd: &Rc<OwnedFd>, data_only: bool) -> io::Result<()> {
    let flags = if data_only {
        FsyncFlags::DATASYNC
    } else {
        FsyncFlags::empty()
    };
    let build = |_: &mut Held| opcode::Fsync::new(fd_of(fd)).flags(flags).build();
    // Never retried: after a failed sync the kernel may have forgotten what was to be written.
    driver
        .start(Some(fd), Held::Nothing, build)
        .await
        .result
        .map(drop)
}

pub(crate) async fn rename(driver: &Rc<Driver>, from: &Path, to: &Path) -> io::Result<()> {
    let held = Held::Paths(c_path(from)?, c_path(to)?);
    let build = |held: &mut Held| {
        let Held::Paths(from, to) = held else {
            unreachable!("a rename holds two paths")
        };
        opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build()
    };
    driver.start(None, held, build).await.result.map(drop)
}

pub(crate) async fn unlink(driver: &Rc<Driver>, path: &Path, is_dir: bool) -> io::Result<()> {
    let flags = if is_dir { libc::AT_REMOVEDIR } else { 0 };
    let held = Held::Path(c_path(path)?);
    let build = |held: &mut Held| {
        opcode::UnlinkAt::new(HERE, path_in(held))
            .flags(flags)
            .build()
    };
    driver.start(None, held, build).await.result.map(drop)
}

pub(crate) async fn make_dir(driver: &Rc<Driver>, path: &Path) -> io::Result<()> {
    let held = Held::Path(c_path(path)?);
    let build = |held: &mut Held| {
        opcode::MkDirAt::new(HERE, path_in(held))
            .mode(0o755)
            .build()
    };
    driver.start(None, held, build).await.result.map(drop)
}

pub(crate) async fn sync_dir(driver: &Rc<Driver>, path: &Path) -> io::Result<()> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let dir = Rc::new(open_raw(driver, path, flags).await?);
    fsync(driver, &dir, false).await
}

pub(crate) async fn exists(driver: &Rc<Driver>, path: &Path) -> io::Result<bool> {
    // SAFETY: all zeros is a valid `statx`.
    let held = Held::Metadata(Box::new((c_path(path)?, unsafe { mem::zeroed() })));
    let build = |held: &mut Held| {
        let Held::Metadata(inner) = held else {
            unreachable!("a statx holds its metadata")
        };
        let target: *mut libc::statx = &mut inner.1;
        opcode::Statx::new(HERE, inner.0.as_ptr(), target.cast())
            .mask(libc::STATX_TYPE)
            .build()
    };
    match driver.start(None, held, build).await.result {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
        Err(e) => Err(e),
    }
}

pub(crate) fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let describe = |entry: StdEntry| {
        let metadata = entry.metadata()?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| invalid("a file name is not UTF-8"))?;
        let is_dir = metadata.is_dir();
        Ok(DirEntry {
            name,
            is_dir,
            len: if is_dir { 0 } else { metadata.len() },
        })
    };
    let mut entries = fs::read_dir(path)?
        .map(|entry| entry.and_then(describe))
        .collect::<io::Result<Vec<DirEntry>>>()?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

pub(crate) fn space(path: &Path) -> io::Result<Space> {
    let path = c_path(path)?;
    // SAFETY: all zeros is a valid `statvfs`, which is writable; the path ends in a zero byte.
    let mut room: libc::statvfs = unsafe { mem::zeroed() };
    check(unsafe { libc::statvfs(path.as_ptr(), &mut room) })?;
    Ok(Space {
        total_bytes: room.f_blocks.saturating_mul(room.f_frsize),
        available_bytes: room.f_bavail.saturating_mul(room.f_frsize),
    })
}

fn path_in(held: &Held) -> *const libc::c_char {
    let Held::Path(path) = held else {
        unreachable!("the operation holds its path")
    };
    path.as_ptr()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| invalid("a path with a zero byte"))
}

fn is_retry(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn invalid(sentence: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, sentence)
}
