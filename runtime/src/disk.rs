//! Files and directories, as a seam: what callers hold, and which backend serves it.
//! Must not know what a file contains. Deliberately absent: memory mapping, and any cache of ours.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use crate::aligned::ALIGN;
use crate::{sim, uring};

/// The file system of a node. Paths are absolute or relative to the working directory.
#[derive(Clone)]
pub struct Disk(pub(crate) DiskBackend);

#[derive(Clone)]
pub(crate) enum DiskBackend {
    Uring(Rc<uring::Driver>),
    Sim(Rc<sim::Port>),
}

/// How to open a file.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    pub read: bool,
    pub write: bool,
    /// Create it if it is missing.
    pub create: bool,
    /// Create it, and fail with `AlreadyExists` if it is there.
    pub create_new: bool,
    /// Cut an existing file to no bytes.
    pub truncate: bool,
    /// Past the page cache: memory, offsets and lengths must be multiples of [`ALIGN`].
    pub direct: bool,
}

impl OpenOptions {
    const CLOSED: OpenOptions = OpenOptions {
        read: false,
        write: false,
        create: false,
        create_new: false,
        truncate: false,
        direct: false,
    };
    /// An existing file, to be read.
    pub const READ: OpenOptions = OpenOptions {
        read: true,
        ..OpenOptions::CLOSED
    };
    /// An existing file, to be read and written.
    pub const READ_WRITE: OpenOptions = OpenOptions {
        write: true,
        ..OpenOptions::READ
    };
    /// A file to be read and written, created if it is missing.
    pub const CREATE: OpenOptions = OpenOptions {
        create: true,
        ..OpenOptions::READ_WRITE
    };
    /// A file to be read and written that must not exist yet.
    pub const CREATE_NEW: OpenOptions = OpenOptions {
        create_new: true,
        ..OpenOptions::READ_WRITE
    };

    /// The same with direct I/O.
    pub const fn direct(self) -> OpenOptions {
        OpenOptions {
            direct: true,
            ..self
        }
    }

    /// The same, cutting an existing file to no bytes.
    pub const fn truncate(self) -> OpenOptions {
        OpenOptions {
            truncate: true,
            ..self
        }
    }
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
}

/// Room of the file system that holds a path, in bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Space {
    pub total_bytes: u64,
    pub available_bytes: u64,
}

/// What a completed write promises.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Readers see it; it survives a power loss only after a later sync.
    Volatile,
    /// It, and the file length it needs, survive a power loss (RWF_DSYNC).
    Synced,
}

impl Disk {
    /// Opens a file. Parents must exist. A created name is durable only after
    /// [`sync_dir`](Disk::sync_dir). `InvalidInput` if direct I/O is asked for and refused by the
    /// file system.
    pub async fn open(&self, path: &Path, o: OpenOptions) -> io::Result<File> {
        let backend = match &self.0 {
            DiskBackend::Uring(driver) => {
                FileBackend::Uring(uring::disk::open(driver, path, o).await?)
            }
            DiskBackend::Sim(port) => FileBackend::Sim(sim::disk::open(port, path, o).await?),
        };
        Ok(File(Rc::new(Open {
            backend,
            direct: o.direct,
        })))
    }

    /// Renames a file or directory, replacing a file at `to`.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match &self.0 {
            DiskBackend::Uring(driver) => uring::disk::rename(driver, from, to).await,
            DiskBackend::Sim(port) => sim::disk::rename(port, from, to).await,
        }
    }

    /// Removes a file's name; open handles keep working.
    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.unlink(path, false).await
    }

    /// Creates a directory and its missing parents, each made durable in its parent.
    pub async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut so_far = PathBuf::new();
        for part in path.components() {
            let parent = so_far.clone();
            so_far.push(part);
            if !matches!(part, Component::Normal(_)) || self.exists(&so_far).await? {
                continue;
            }
            let made = match &self.0 {
                DiskBackend::Uring(driver) => uring::disk::make_dir(driver, &so_far).await,
                DiskBackend::Sim(port) => sim::disk::make_dir(port, &so_far).await,
            };
            match made {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
                Ok(()) => self.sync_dir(or_here(&parent)).await?,
            }
        }
        Ok(())
    }

    /// Removes a directory with all it holds. Not atomic, and durable only after
    /// [`sync_dir`](Disk::sync_dir) of its parent.
    pub async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        // A stack instead of recursion: a directory is visited, then removed once it is empty.
        let mut stack = vec![(path.to_path_buf(), false)];
        while let Some((dir, emptied)) = stack.pop() {
            if emptied {
                self.unlink(&dir, true).await?;
                continue;
            }
            let entries = self.read_dir(&dir).await?;
            stack.push((dir.clone(), true));
            for entry in entries {
                let inner = dir.join(&entry.name);
                if entry.is_dir {
                    stack.push((inner, false));
                } else {
                    self.unlink(&inner, false).await?;
                }
            }
        }
        Ok(())
    }

    /// What a directory holds, sorted by name. Symbolic links count as files. May block the core
    /// for the time of a directory read: for start-up and rare housekeeping.
    pub async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        match &self.0 {
            DiskBackend::Uring(_) => uring::disk::read_dir(path),
            DiskBackend::Sim(port) => sim::disk::read_dir(port, path).await,
        }
    }

    /// Makes the creates, renames and removes in a directory durable.
    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            DiskBackend::Uring(driver) => uring::disk::sync_dir(driver, path).await,
            DiskBackend::Sim(port) => sim::disk::sync_dir(port, path).await,
        }
    }

    /// Whether a file or directory is there.
    pub async fn exists(&self, path: &Path) -> io::Result<bool> {
        match &self.0 {
            DiskBackend::Uring(driver) => uring::disk::exists(driver, path).await,
            DiskBackend::Sim(port) => sim::disk::exists(port, path).await,
        }
    }

    /// Room of the file system that holds `path`.
    pub async fn space(&self, path: &Path) -> io::Result<Space> {
        match &self.0 {
            DiskBackend::Uring(_) => uring::disk::space(path),
            DiskBackend::Sim(port) => sim::disk::space(port, path).await,
        }
    }

    /// The content of a small file.
    pub async fn read_to_end(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenOptions::READ).await?;
        let mut content = Vec::new();
        loop {
            let piece = file.read_at(content.len() as u64, 64 << 10).await?;
            if piece.is_empty() {
                return Ok(content);
            }
            content.extend_from_slice(&piece);
        }
    }

    /// Replaces the content of a small file: after a crash the file holds the old content or the
    /// new one, and once this returns the new one. Needs `path` to itself, and `path` + ".tmp".
    pub async fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".tmp");
        let draft = PathBuf::from(draft);
        let file = self.open(&draft, OpenOptions::CREATE.truncate()).await?;
        file.write_at(Bytes::copy_from_slice(content), 0, Durability::Volatile)
            .await?;
        file.sync_all().await?;
        self.rename(&draft, path).await?;
        self.sync_dir(or_here(path.parent().unwrap_or(Path::new(""))))
            .await
    }

    async fn unlink(&self, path: &Path, is_dir: bool) -> io::Result<()> {
        match &self.0 {
            DiskBackend::Uring(driver) => uring::disk::unlink(driver, path, is_dir).await,
            DiskBackend::Sim(port) => sim::disk::unlink(port, path, is_dir).await,
        }
    }
}

/// The parent of a bare name is the working directory.
fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    }
}

/// An open file. Clones share it; it closes when the last one drops. Operations may overlap; the
/// caller orders those that must not.
#[derive(Clone)]
pub struct File(Rc<Open>);

struct Open {
    backend: FileBackend,
    direct: bool,
}

enum FileBackend {
    Uring(uring::disk::RingFile),
    Sim(sim::disk::SimFile),
}

impl File {
    /// Reads `len` bytes at `offset` into aligned memory; fewer at the end of the file. The caller
    /// has checked `len`, which is allocated. Asserts alignment if the file is direct.
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.check_alignment(offset, len);
        if len == 0 {
            return Ok(Bytes::new());
        }
        match &self.0.backend {
            FileBackend::Uring(file) => file.read_at(offset, len).await,
            FileBackend::Sim(file) => file.read_at(offset, len).await,
        }
    }

    /// Writes all of `data` at `offset`, or fails with an unknown part of it written. Asserts
    /// alignment, also of the memory, if the file is direct. Dropping the future leaves it unknown
    /// whether and when the data is written.
    pub async fn write_at(
        &self,
        data: Bytes,
        offset: u64,
        durability: Durability,
    ) -> io::Result<()> {
        self.check_alignment(offset, data.len());
        let address = data.as_ptr() as usize;
        assert!(
            !self.0.direct || data.is_empty() || address.is_multiple_of(ALIGN),
            "direct write of memory at {address:#x}"
        );
        if data.is_empty() {
            return Ok(());
        }
        match &self.0.backend {
            FileBackend::Uring(file) => file.write_at(data, offset, durability).await,
            FileBackend::Sim(file) => file.write_at(data, offset, durability).await,
        }
    }

    /// Makes completed writes, and the length they need, durable. After an error it is unknown
    /// what is durable, and trying again proves nothing.
    pub async fn sync_data(&self) -> io::Result<()> {
        match &self.0.backend {
            FileBackend::Uring(file) => file.sync(true).await,
            FileBackend::Sim(file) => file.sync().await,
        }
    }

    /// As [`sync_data`](File::sync_data), with all metadata of the file (but not its name: see
    /// [`Disk::sync_dir`]).
    pub async fn sync_all(&self) -> io::Result<()> {
        match &self.0.backend {
            FileBackend::Uring(file) => file.sync(false).await,
            FileBackend::Sim(file) => file.sync().await,
        }
    }

    /// Cuts the file, or extends it with a hole that reads as zeros.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        match &self.0.backend {
            FileBackend::Uring(file) => file.set_len(len).await,
            FileBackend::Sim(file) => file.set_len(len).await,
        }
    }

    /// Allocates space, extending the file if the range goes beyond its end. New space reads as
    /// zeros. (Writes into it are slower than into space that was written before.)
    pub async fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        match &self.0.backend {
            FileBackend::Uring(file) => file.allocate(offset, len).await,
            FileBackend::Sim(file) => file.allocate(offset, len).await,
        }
    }

    /// Length in bytes.
    // Emptiness of a file is no question that anyone asks, and the length is a fallible future.
    #[allow(clippy::len_without_is_empty)]
    pub async fn len(&self) -> io::Result<u64> {
        match &self.0.backend {
            FileBackend::Uring(file) => file.len(),
            FileBackend::Sim(file) => file.len(),
        }
    }

    /// Whether it was opened for direct I/O.
    pub fn is_direct(&self) -> bool {
        self.0.direct
    }

    fn check_alignment(&self, offset: u64, len: usize) {
        assert!(
            !self.0.direct || (offset.is_multiple_of(ALIGN as u64) && len.is_multiple_of(ALIGN)),
            "direct I/O of {len} bytes at {offset}"
        );
    }
}
