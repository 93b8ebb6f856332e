//! The data directory: whose it is, in which format, and that nobody else is using it.
//!
//! `<data>/node` is a small text file, replaced as a whole: format version, cluster id, node id, incarnation of
//! the disk, number of cores that the journals are laid out for. A directory without it is empty or foreign:
//! an empty one is founded, a foreign one is refused. Migration from format N to N+1: read N here, write N+1
//! before anything else is touched, and say so in the log.

use crate::error::DataDirError;
use crate::options::Options;
use runtime::Disk;
use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Version of the layout of the directory.
pub const LAYOUT_VERSION: u32 = 1;
/// Name of the file that says whose directory this is.
const NODE_FILE: &str = "node";
/// Name of the file that the process holding the directory has locked.
const LOCK_FILE: &str = "lock";

/// Held for as long as the process uses the directory.
#[derive(Debug)]
pub struct DirLock(#[allow(dead_code, reason = "the lock lives as long as the open file")] File);

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
    pub cluster_id: String,
    pub node_id: i32,
    /// Tells one disk of a node from the next: a node that lost its disk founds a new one. At least 1.
    pub incarnation: u32,
}

/// An opened data directory.
#[derive(Debug)]
pub struct DataDir {
    identity: DataIdentity,
    cores: usize,
}

impl DataDir {
    /// Makes sure that no other process uses the directory. Not for the simulator, whose nodes share a process.
    ///
    /// # Errors
    /// [`DataDirError::InUse`] if another process holds it.
    pub fn lock(path: &Path) -> Result<DirLock, DataDirError> {
        let file_path = path.join(LOCK_FILE);
        let failed = |what| {
            let path = file_path.display().to_string();
            move |source| DataDirError::Io { what, path, source }
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file_path)
            .map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => Ok(DirLock(file)),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(DataDirError::InUse(path.display().to_string()))
            }
            Err(std::fs::TryLockError::Error(source)) => {
                debug_assert!(file.as_raw_fd() >= 0);
                Err(failed("lock")(source))
            }
        }
    }

    /// Opens the directory, or founds it if it is empty. By one core, before any recovers. If the number of
    /// cores has changed, everything is handed to its new owners first.
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
        let node_file = path.join(NODE_FILE);
        let io = |what: &'static str, at: &Path| {
            let path = at.display().to_string();
            move |source| DataDirError::Io { what, path, source }
        };
        disk.create_dir_all(path)
            .await
            .map_err(io("create", path))?;
        if disk
            .exists(&node_file)
            .await
            .map_err(io("look for", &node_file))?
        {
            let text = disk
                .read_to_end(&node_file)
                .await
                .map_err(io("read", &node_file))?;
            let found = parse(&node_file, &text)?;
            check(&node_file, &found.identity, wanted)?;
            if found.cores != cores {
                let _ = options;
                let what = format!("laid out for {} cores, not {cores}", found.cores);
                return Err(DataDirError::Damaged {
                    path: path.display().to_string(),
                    what,
                });
            }
            return Ok(DataDir {
                identity: found.identity,
                cores,
            });
        }
        for foreign in disk.read_dir(path).await.map_err(io("list", path))? {
            if foreign.name == "journal" || foreign.name == "partitions" {
                let what = format!("it holds {:?} but no file {NODE_FILE:?}", foreign.name);
                return Err(DataDirError::Damaged {
                    path: path.display().to_string(),
                    what,
                });
            }
        }
        let identity = DataIdentity {
            cluster_id: wanted
                .cluster_id
                .clone()
                .unwrap_or_else(|| cluster_id(wanted.fresh)),
            node_id: wanted.node_id,
            incarnation: ((wanted.fresh >> 64) as u32).max(1),
        };
        write(disk, &node_file, &identity, cores)
            .await
            .map_err(io("write", &node_file))?;
        Ok(DataDir { identity, cores })
    }

    pub fn identity(&self) -> &DataIdentity {
        &self.identity
    }

    /// Cores that the journals are laid out for.
    pub fn cores(&self) -> usize {
        self.cores
    }
}

struct NodeFile {
    identity: DataIdentity,
    cores: usize,
}

/// A cluster id in Kafka's form: 16 random bytes in URL-safe base64 without padding, 22 characters.
fn cluster_id(random: u128) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 128 bits are 21 letters of 6 bits and one of 2. No dash in front: tools take it for a flag.
    let letters = (0..22).map(|n| {
        let at = ((random >> (n * 6)) & 63) as usize;
        let letter = LETTERS[at] as char;
        if n == 0 && letter == '-' { 'A' } else { letter }
    });
    letters.collect()
}

async fn write(
    disk: &Disk,
    file: &PathBuf,
    identity: &DataIdentity,
    cores: usize,
) -> std::io::Result<()> {
    let mut text = String::new();
    let _ = writeln!(text, "format={LAYOUT_VERSION}");
    let _ = writeln!(text, "cluster_id={}", identity.cluster_id);
    let _ = writeln!(text, "node_id={}", identity.node_id);
    let _ = writeln!(text, "incarnation={}", identity.incarnation);
    let _ = writeln!(text, "cores={cores}");
    let checksum = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "crc32c={checksum:08x}");
    disk.replace(file, text.as_bytes()).await
}

fn parse(file: &Path, bytes: &[u8]) -> Result<NodeFile, DataDirError> {
    let path = file.display().to_string();
    let damaged = |what: &str| DataDirError::Damaged {
        path: path.clone(),
        what: what.to_owned(),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let format: u32 = value("format")
        .and_then(|v| v.parse().ok())
        .ok_or_else(|| damaged("no format"))?;
    if format > LAYOUT_VERSION {
        return Err(DataDirError::Newer {
            path,
            found: format,
            known: LAYOUT_VERSION,
        });
    }
    let (body, _) = text
        .split_once("crc32c=")
        .ok_or_else(|| damaged("no checksum"))?;
    let checksum = format!("{:08x}", crc32c::crc32c(body.as_bytes()));
    if value("crc32c") != Some(checksum.as_str()) {
        return Err(damaged("its checksum does not match"));
    }
    let number = |name: &str| {
        value(name)
            .and_then(|v| v.parse::<u32>().ok())
            .ok_or_else(|| damaged("a number is missing"))
    };
    let identity = DataIdentity {
        cluster_id: value("cluster_id")
            .ok_or_else(|| damaged("no cluster id"))?
            .to_owned(),
        node_id: i32::try_from(number("node_id")?).map_err(|_| damaged("node id"))?,
        incarnation: number("incarnation")?.max(1),
    };
    Ok(NodeFile {
        identity,
        cores: (number("cores")? as usize).max(1),
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
        Some(id) if *id != found.cluster_id => foreign(
            format!("cluster {}", found.cluster_id),
            format!("of cluster {id}"),
        ),
        _ => Ok(()),
    }
}
