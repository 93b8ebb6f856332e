//! Moving every partition to its new owner when the number of cores has changed.
//!
//! The new journals are written beside the old ones and take their place by two renames, so a
//! crash at any point leaves either the old set, untouched, or the new one, complete:
//!
//! ```text
//! journal                 the old set                 build journal.next; its layout file last
//! journal, journal.next   both are complete           rename journal to journal.old
//! journal.next, .old      the new set has no name yet rename journal.next to journal
//! journal, journal.old    the new set                 remove journal.old
//! ```
//!
//! Committed entries are drained on the way, so only what is not committed has to be carried
//! over. A drain that is repeated after a crash writes over the same place.

use std::io;
use std::path::{Path, PathBuf};

use runtime::Disk;

use super::{RecoveredLog, recover_from};
use crate::cache::SegmentCache;
use crate::error::RecoverError;
use crate::journal::files::{JournalFiles, PrepareJob};
use crate::journal::{Checkpoints, Journal, Memory, Opened};
use crate::log::Log;
use crate::log::drain::create_directory;
use crate::options::Options;
use crate::partition::{PartitionId, owner};

/// The directories that take part.
struct Places {
    data: PathBuf,
    current: PathBuf,
    next: PathBuf,
    old: PathBuf,
}

impl Places {
    fn new(data: &Path) -> Places {
        Places {
            data: data.to_path_buf(),
            current: data.join("journal"),
            next: data.join("journal.next"),
            old: data.join("journal.old"),
        }
    }
}

fn layout_path(journal: &Path) -> PathBuf {
    journal.join("layout")
}

/// The number of cores that a set of journals is for; `None` if it is not complete.
async fn read_layout(disk: &Disk, journal: &Path) -> io::Result<Option<usize>> {
    match disk.read_to_end(&layout_path(journal)).await {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let cores = text
                .strip_prefix("cores ")
                .and_then(|n| n.trim().parse().ok());
            cores.filter(|n| *n > 0).map(Some).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "the layout file is damaged")
            })
        }
    }
}

async fn write_layout(disk: &Disk, journal: &Path, cores: usize) -> io::Result<()> {
    disk.replace(&layout_path(journal), format!("cores {cores}\n").as_bytes())
        .await
}

/// Makes the journals be those of `cores` cores. Done by one core, before any recovers. Returns
/// the number of partitions that were moved, `None` if nothing had to be.
pub(crate) async fn lay_out(
    disk: &Disk,
    data: &Path,
    cores: usize,
    options: &Options,
) -> Result<Option<usize>, RecoverError> {
    let places = Places::new(data);
    let at = |what| {
        let path = places.current.display().to_string();
        move |source| RecoverError::Io { what, path, source }
    };
    settle(disk, &places).await.map_err(at("switch"))?;
    let present = read_layout(disk, &places.current)
        .await
        .map_err(at("read"))?;
    let Some(present) = present else {
        if has_journals(disk, &places.current)
            .await
            .map_err(at("read"))?
        {
            return Err(RecoverError::Damaged {
                path: layout_path(&places.current).display().to_string(),
                what: "it is missing, so it is unknown for how many cores the journals are; \
                       restore it (one line, \"cores N\" with the number of core directories)"
                    .into(),
            });
        }
        create_directory(disk, data, &places.current)
            .await
            .map_err(at("create"))?;
        write_layout(disk, &places.current, cores)
            .await
            .map_err(at("write"))?;
        return Ok(None);
    };
    if present == cores {
        return Ok(None);
    }
    tracing::info!(
        from = present,
        to = cores,
        "the number of cores has changed: moving partitions"
    );
    let moved = build(disk, &places, present, cores, options).await?;
    settle(disk, &places).await.map_err(at("switch"))?;
    Ok(Some(moved))
}

async fn has_journals(disk: &Disk, journal: &Path) -> io::Result<bool> {
    if !disk.exists(journal).await? {
        return Ok(false);
    }
    Ok(disk
        .read_dir(journal)
        .await?
        .iter()
        .any(|e| e.is_dir && e.name.starts_with("core-")))
}

/// Ends a switch that was begun, or forgets one that was not ready. See the table above.
async fn settle(disk: &Disk, places: &Places) -> io::Result<()> {
    let Places {
        data,
        current,
        next,
        old,
    } = places;
    if disk.exists(next).await? && read_layout(disk, next).await?.is_some() {
        if disk.exists(current).await? {
            disk.rename(current, old).await?;
            disk.sync_dir(data).await?;
        }
        disk.rename(next, current).await?;
        disk.sync_dir(data).await?;
    }
    if read_layout(disk, current).await.is_ok_and(|l| l.is_some()) {
        for left in [next, old] {
            if disk.exists(left).await? {
                disk.remove_dir_all(left).await?;
                disk.sync_dir(data).await?;
            }
        }
    }
    Ok(())
}

/// Writes the journals of the new layout.
async fn build(
    disk: &Disk,
    places: &Places,
    from: usize,
    to: usize,
    options: &Options,
) -> Result<usize, RecoverError> {
    let mut logs: Vec<Vec<RecoveredLog>> = (0..to).map(|_| Vec::new()).collect();
    let mut drops: Vec<Vec<PartitionId>> = vec![Vec::new(); to];
    let mut moved = 0;
    for core in 0..from {
        let directory = places.current.join(format!("core-{core}"));
        let options = options.clone();
        let recovered = recover_from(disk, &places.data, &directory, core, from, options).await?;
        for mut recovered in recovered.logs {
            drain_all(disk, &mut recovered.log)
                .await
                .map_err(|source| RecoverError::Io {
                    what: "drain",
                    path: recovered.log.id().to_string(),
                    source,
                })?;
            moved += 1;
            logs[owner(recovered.log.id(), to)].push(recovered);
        }
        for id in recovered.journal.drops.keys() {
            drops[owner(*id, to)].push(*id);
        }
    }
    let at = |source| RecoverError::Io {
        what: "write",
        path: places.next.display().to_string(),
        source,
    };
    for (core, (logs, drops)) in logs.into_iter().zip(drops).enumerate() {
        write_core(disk, places, core, to, logs, drops, options)
            .await
            .map_err(at)?;
    }
    write_layout(disk, &places.next, to).await.map_err(at)?;
    disk.sync_dir(&places.data).await.map_err(at)?;
    Ok(moved)
}

/// Drains everything committed. The old journal is not told: it stays as it is.
async fn drain_all(disk: &Disk, log: &mut Log) -> io::Result<()> {
    while let Some(job) = log.begin_drain(0, true) {
        let done = job.run(disk).await;
        done.result?;
        log.drained_to(done.segment);
        log.release_drained();
    }
    Ok(())
}

/// Writes the journal of one core: a checkpoint of its logs, and their undrained entries.
async fn write_core(
    disk: &Disk,
    places: &Places,
    core: usize,
    cores: usize,
    mut logs: Vec<RecoveredLog>,
    drops: Vec<PartitionId>,
    options: &Options,
) -> io::Result<()> {
    let directory = places.next.join(format!("core-{core}"));
    create_directory(disk, &places.data, &directory).await?;
    let opened = Opened {
        core: core as u32,
        cores: cores as u32,
        directory: directory.clone(),
        cache: SegmentCache::new(disk, &places.data, options),
        files: JournalFiles::new(1),
        last_sequence: 0,
        previous_crc: 0,
        checkpoints: Checkpoints::default(),
        drops,
        memory: Memory::default(),
    };
    let mut journal = Journal::new(opened, options.clone());
    let mut draft = journal.begin_checkpoint().expect("none is under way");
    for RecoveredLog {
        log,
        applied,
        state,
    } in &mut logs
    {
        make_room(disk, &mut journal, &directory, log.undrained_bytes()).await?;
        journal.stage_again(log).map_err(io::Error::other)?;
        draft.add(&journal, log, *applied, state);
        if let Some(write) = journal.seal() {
            journal
                .written(write.run().await)
                .map_err(io::Error::other)?;
        }
    }
    make_room(disk, &mut journal, &directory, 0).await?;
    let job = journal
        .begin_checkpoint_write(draft)
        .expect("all is durable");
    journal
        .finish_checkpoint(job.run(disk).await)
        .map_err(io::Error::other)
}

/// Prepares files until `bytes` of frames fit.
async fn make_room(
    disk: &Disk,
    journal: &mut Journal,
    directory: &Path,
    bytes: u64,
) -> io::Result<()> {
    while journal.room() < 2 * bytes + 65536 {
        let slot = journal.files.next_slot();
        let bytes = match slot {
            0 => journal.options.journal_first_file_bytes,
            _ => journal.options.journal_file_bytes,
        };
        let job = PrepareJob {
            directory: directory.to_path_buf(),
            slot,
            bytes,
        };
        journal.finish_prepare(job.run(disk).await)?;
    }
    Ok(())
}
