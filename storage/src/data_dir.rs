//! The data directory of a node: whose it is, in which format, that nobody else uses it, and that
//! its journals are laid out for the present number of cores.
//!
//! `<data>/node` is a small text file, replaced as a whole:
//!
//! ```text
//! format=1
//! cluster_id=3Db5QLSqSZieL3rJBUUegA
//! node_id=1
//! incarnation=2744935417
//! founders=1.2744935417,2.991,3.17   (only in a cluster that was founded by several)
//! crc32c=0f1e2d3c                      (of the lines before it)
//! ```
//!
//! A directory without it is new, or not ours: a new one is founded, one that holds data is
//! refused. Without a cluster id it is a draft: the node knows who it will be, and looks for its cluster. For how many cores the journals are is said beside them (`recovery/reshard`).

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use runtime::Disk;

use crate::error::DataDirError;
use crate::format::VERSION;
use crate::log::drain::create_directory;
use crate::options::Options;
use crate::recovery::reshard;
use crate::starts::{self, Start};

/// Name of the file that says whose directory this is.
const NODE_FILE: &str = "node";
/// Name of the file that the process using the directory has locked.
const LOCK_FILE: &str = "lock";
/// Pause before the lock is tried again.
const LOCK_AGAIN: Duration = Duration::from_millis(5);

/// Held for as long as the process uses the directory. The system lets it go when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    file: Arc<fs::File>,
}

impl DirLock {
    /// Whoever keeps this keeps the lock. Of a process that is killed, what it had begun to write may still be on its
    /// way to the disk; the kernel has to keep it until then.
    #[must_use]
    pub fn file(&self) -> Arc<fs::File> {
        Arc::clone(&self.file)
    }
}

/// What a node wants its directory to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    pub node_id: i32,
    /// None: whatever the directory says, or a new one.
    pub cluster_id: Option<String>,
    /// Random; the identity of what has to be founded.
    pub fresh: u128,
}

/// Whose directory it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataIdentity {
    /// Empty while the node has not found its cluster.
    pub cluster_id: String,
    pub node_id: i32,
    /// Tells one disk of a node from the next: a node that lost its disk founds a new one, and its
    /// replicas come back under new identities. At least 1.
    pub incarnation: u32,
    /// Node and incarnation of those that founded the cluster together; empty if one node did, alone.
    pub founders: Vec<(i32, u32)>,
}

/// Makes the name of the data directory itself durable, whoever has created it: an earlier start may have, and was
/// killed before it had synced anything. A parent that we may not read was not made by us.
async fn sync_name(disk: &Disk, path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    match disk.sync_dir(parent).await {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// An opened data directory.
#[derive(Debug)]
pub struct DataDir {
    identity: DataIdentity,
    start: Start,
    cores: usize,
    moved: Option<usize>,
}

impl DataDir {
    /// Makes sure that no other process on this machine uses the directory, which is created if
    /// need be. One that has just ended may take a moment to let go of it. Blocks the thread: before
    /// any core runs; not for the simulator, whose nodes share a process.
    ///
    /// # Errors
    /// [`DataDirError::InUse`] if another process holds it for longer than `patience`.
    pub fn lock(path: &Path, patience: Duration) -> Result<DirLock, DataDirError> {
        let file_path = path.join(LOCK_FILE);
        fs::create_dir_all(path).map_err(failed("create", path))?;
        let mut options = fs::File::options();
        options.create(true).truncate(false).write(true);
        let file = options
            .open(&file_path)
            .map_err(failed("open", &file_path))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => {
                    let file = Arc::new(file);
                    return Ok(DirLock { file });
                }
                Err(fs::TryLockError::WouldBlock) if began.elapsed() < patience => {
                    thread::sleep(LOCK_AGAIN);
                }
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(DataDirError::InUse(path.display().to_string()));
                }
                Err(fs::TryLockError::Error(source)) => {
                    return Err(failed("lock", &file_path)(source));
                }
            }
        }
    }

    /// Who the node of this directory is. A new directory becomes a draft, which keeps the incarnation that the
    /// node tells others before there is a cluster. By one core, before [`DataDir::open`].
    ///
    /// # Errors
    /// As for [`DataDir::open`].
    pub async fn draft(
        disk: &Disk,
        path: &Path,
        wanted: &NodeIdentity,
    ) -> Result<DataIdentity, DataDirError> {
        let draft = DataIdentity {
            cluster_id: String::new(),
            ..found(wanted)
        };
        read_or_write(disk, path, wanted, draft).await
    }

    /// Writes down which cluster the node belongs to. A draft becomes an identity for good.
    ///
    /// # Errors
    /// The disk's own.
    pub async fn settle(
        disk: &Disk,
        path: &Path,
        identity: &DataIdentity,
    ) -> Result<(), DataDirError> {
        write(disk, path, identity).await
    }

    /// Opens the directory, or founds it if it holds no data. By one core, before any recovers. If
    /// the number of cores has changed, every partition is handed to its new owner first.
    ///
    /// # Errors
    /// Another node's or cluster's directory, a newer format, damage, or the disk's own.
    pub async fn open(
        disk: &Disk,
        path: &Path,
        wanted: &NodeIdentity,
        cores: usize,
        options: &Options,
    ) -> Result<DataDir, DataDirError> {
        let mut identity = read_or_write(disk, path, wanted, found(wanted)).await?;
        if identity.cluster_id.is_empty() {
            // It looked for a cluster and now is to be one.
            identity.cluster_id = found(wanted).cluster_id;
            write(disk, path, &identity).await?;
        }
        let start = starts::begin(disk, path, wanted.fresh as u32).await?;
        let moved = reshard::lay_out(disk, path, cores, options).await?;
        Ok(DataDir {
            identity,
            start,
            cores,
            moved,
        })
    }

    pub fn identity(&self) -> &DataIdentity {
        &self.identity
    }

    /// Which start with this directory it is.
    pub fn start(&self) -> Start {
        self.start
    }

    /// Cores that the journals are laid out for.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// How many partitions were handed to new owners, if the number of cores had changed.
    pub fn moved(&self) -> Option<usize> {
        self.moved
    }
}

/// The identity in the directory, checked; or a new one, in a directory that holds no data.
async fn read_or_write(
    disk: &Disk,
    path: &Path,
    wanted: &NodeIdentity,
    new: DataIdentity,
) -> Result<DataIdentity, DataDirError> {
    let node_file = path.join(NODE_FILE);
    create_directory(disk, path, path)
        .await
        .map_err(failed("create", path))?;
    sync_name(disk, path).await.map_err(failed("sync", path))?;
    let identity = match disk.read_to_end(&node_file).await {
        Ok(text) => parse(&node_file, &text)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            check_without_data(disk, path).await?;
            write(disk, path, &new).await?;
            new
        }
        Err(e) => return Err(failed("read", &node_file)(e)),
    };
    check(&node_file, &identity, wanted)?;
    Ok(identity)
}

async fn write(disk: &Disk, path: &Path, identity: &DataIdentity) -> Result<(), DataDirError> {
    let node_file = path.join(NODE_FILE);
    let written = disk.replace(&node_file, print(identity).as_bytes()).await;
    written.map_err(failed("write", &node_file))
}

pub(crate) fn failed(
    what: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> DataDirError + use<> {
    let path = path.display().to_string();
    move |source| DataDirError::Io { what, path, source }
}

/// A directory without a node file must not hold data: the replicas in it would not know the
/// identity that it would get.
async fn check_without_data(disk: &Disk, path: &Path) -> Result<(), DataDirError> {
    for name in ["journal", "partitions"] {
        if disk
            .exists(&path.join(name))
            .await
            .map_err(failed("read", path))?
        {
            return Err(DataDirError::Damaged {
                path: path.display().to_string(),
                what: format!(
                    "it holds {name:?} but no file {NODE_FILE:?}: restore that file, or choose \
                     another data directory"
                ),
            });
        }
    }
    Ok(())
}

/// The identity of a new directory.
fn found(wanted: &NodeIdentity) -> DataIdentity {
    DataIdentity {
        cluster_id: wanted
            .cluster_id
            .clone()
            .unwrap_or_else(|| cluster_id(wanted.fresh)),
        node_id: wanted.node_id,
        incarnation: ((wanted.fresh >> 64) as u32).max(1),
        founders: Vec::new(),
    }
}

/// A cluster id in Kafka's form: 16 random bytes in URL-safe base64 without padding, 22
/// characters.
pub fn cluster_id(random: u128) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 128 bits are 21 letters of 6 bits and one of 2. No dash in front: tools take it for a flag.
    let letters = (0..22).map(|n| {
        let letter = LETTERS[((random >> (n * 6)) & 63) as usize] as char;
        if n == 0 && letter == '-' { 'A' } else { letter }
    });
    letters.collect()
}

fn print(identity: &DataIdentity) -> String {
    let DataIdentity {
        cluster_id,
        node_id,
        incarnation,
        founders,
    } = identity;
    let mut text = format!(
        "format={VERSION}\ncluster_id={cluster_id}\nnode_id={node_id}\nincarnation={incarnation}\n"
    );
    if !founders.is_empty() {
        let founders = founders.iter().map(|(node, disk)| format!("{node}.{disk}"));
        let founders: Vec<String> = founders.collect();
        text.push_str(&format!("founders={}\n", founders.join(",")));
    }
    let checksum = crc32c::crc32c(text.as_bytes());
    format!("{text}crc32c={checksum:08x}\n")
}

/// Reads `node.incarnation,...`.
fn parse_founders(text: &str) -> Option<Vec<(i32, u32)>> {
    let founder = |text: &str| {
        let (node, incarnation) = text.split_once('.')?;
        Some((node.parse().ok()?, incarnation.parse().ok()?))
    };
    text.split(',').map(founder).collect()
}

fn parse(file: &Path, bytes: &[u8]) -> Result<DataIdentity, DataDirError> {
    let path = file.display().to_string();
    let damaged = |what: &str| DataDirError::Damaged {
        path: path.clone(),
        what: what.to_string(),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(key, _)| *key == name).map(|(_, value)| value);
        found.ok_or_else(|| damaged(&format!("no line {name}=...")))
    };
    let number = |name: &str| {
        value(name)?
            .parse::<u32>()
            .map_err(|_| damaged(&format!("{name} is no number")))
    };
    let format = number("format")?;
    if format > u32::from(VERSION) {
        return Err(DataDirError::Newer {
            path,
            found: format,
            known: u32::from(VERSION),
        });
    }
    let body = text.find("crc32c=").map(|at| &text[..at]).unwrap_or(text);
    if value("crc32c")? != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err(damaged("its checksum does not match"));
    }
    Ok(DataIdentity {
        cluster_id: value("cluster_id")?.to_string(),
        node_id: i32::try_from(number("node_id")?).map_err(|_| damaged("node_id is too large"))?,
        incarnation: number("incarnation")?.max(1),
        founders: match value("founders") {
            Ok(text) => parse_founders(text).ok_or_else(|| damaged("founders is no list"))?,
            Err(_) => Vec::new(),
        },
    })
}

fn check(file: &Path, found: &DataIdentity, wanted: &NodeIdentity) -> Result<(), DataDirError> {
    let foreign = |found: String, wanted: String| {
        Err(DataDirError::Foreign {
            path: file.display().to_string(),
            found,
            wanted,
        })
    };
    if found.node_id != wanted.node_id {
        return foreign(
            format!("node {}", found.node_id),
            format!("node {}", wanted.node_id),
        );
    }
    match &wanted.cluster_id {
        Some(id) if *id != found.cluster_id && !found.cluster_id.is_empty() => foreign(
            format!("cluster {}", found.cluster_id),
            format!("of cluster {id}"),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> NodeIdentity {
        NodeIdentity {
            node_id: 3,
            cluster_id: None,
            fresh: u128::MAX / 7,
        }
    }

    #[test]
    fn the_node_file_comes_back() {
        let identity = found(&wanted());
        assert_eq!(identity.cluster_id.len(), 22);
        assert_eq!(
            parse(Path::new("node"), print(&identity).as_bytes()).unwrap(),
            identity
        );
        let several = DataIdentity {
            founders: vec![(1, 7), (3, identity.incarnation)],
            ..identity
        };
        let text = print(&several);
        assert_eq!(parse(Path::new("node"), text.as_bytes()).unwrap(), several);
    }

    #[test]
    fn each_way_of_being_wrong_has_its_sentence() {
        let identity = found(&wanted());
        let text = print(&identity);
        let say = |text: &str| {
            parse(Path::new("d/node"), text.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(say(""), "d/node is damaged: no line format=...");
        assert!(say(&text.replace("format=1", "format=9")).contains("newer version (format 9"));
        assert!(say(&text.replace("node_id=3", "node_id=4")).contains("checksum does not match"));
        let check = |node_id, cluster_id| {
            let wanted = NodeIdentity {
                node_id,
                cluster_id,
                fresh: 0,
            };
            super::check(Path::new("d/node"), &identity, &wanted).map_err(|e| e.to_string())
        };
        assert_eq!(check(3, None), Ok(()));
        assert_eq!(check(3, Some(identity.cluster_id.clone())), Ok(()));
        assert!(
            check(4, None)
                .unwrap_err()
                .contains("belongs to node 3, this node is node 4")
        );
        assert!(
            check(3, Some("x".into()))
                .unwrap_err()
                .contains("this node is of cluster x")
        );
    }

    #[test]
    fn a_locked_directory_is_in_use() {
        let path = std::env::temp_dir().join(format!("storage-lock-{}", std::process::id()));
        let lock = DataDir::lock(&path, Duration::ZERO).unwrap();
        let refused = DataDir::lock(&path, Duration::ZERO);
        assert!(matches!(refused, Err(DataDirError::InUse(_))));
        let kept = lock.file();
        drop(lock);
        let refused = DataDir::lock(&path, Duration::ZERO);
        assert!(matches!(refused, Err(DataDirError::InUse(_))), "it is kept");
        let (waits, next) = (path.clone(), Duration::from_secs(600));
        let next = thread::spawn(move || DataDir::lock(&waits, next));
        thread::sleep(LOCK_AGAIN);
        drop(kept);
        next.join().unwrap().unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
