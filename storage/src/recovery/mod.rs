//! Start-up: from what lies on the disk to the logs and the journal of a core.
//!
//! The checkpoint brings everything up to some point, the journal the rest; neither needs a look
//! at the partitions' directories, so ten thousand partitions cost one file. Only when both
//! checkpoints are damaged are the logs rebuilt from their segments (`rebuild`), which is slow
//! and leaves them without a vote.
//!
//! Nothing is deleted here, and nothing is guessed: a torn tail that nobody was promised is
//! passed over, whatever else is missing fences the partition that misses it.

mod load;
mod rebuild;
mod replay;
pub(crate) mod reshard;
mod scan;

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use runtime::{Disk, OpenOptions};

use self::replay::{Replay, Replayed};
use self::scan::{Scanner, Source, probe_blocks};
use crate::cache::SegmentCache;
use crate::error::RecoverError;
use crate::format::PAGE_BYTES;
use crate::format::block::FileHeader;
use crate::format::checkpoint::CheckpointFile;
use crate::journal::checkpoint::checkpoint_path;
use crate::journal::files::{Active, Full, JournalFiles, PrepareJob, Slot, parse_slot, slot_path};
use crate::journal::{Checkpoints, Journal, Memory, Opened};
use crate::log::drain::create_directory;
use crate::log::{Condition, Log};
use crate::options::{Mutation, Options};
use crate::partition::PartitionId;

/// A core's storage, ready for work.
pub struct Recovered {
    pub logs: Vec<RecoveredLog>,
    pub journal: Journal,
    pub report: RecoveryReport,
}

/// A log as it was found.
pub struct RecoveredLog {
    pub log: Log,
    /// What the owner had made of the entries up to here, when the last checkpoint was taken.
    pub applied: u64,
    /// The owner's state as of that index; empty if it was never in a checkpoint.
    pub state: Bytes,
}

impl From<Replayed> for RecoveredLog {
    fn from(replayed: Replayed) -> RecoveredLog {
        let Replayed {
            log,
            applied,
            state,
            ..
        } = replayed;
        // A fenced log may have lost entries that the state was made of.
        match applied <= log.commit().max(log.installed()) {
            true => RecoveredLog {
                log,
                applied,
                state,
            },
            false => RecoveredLog {
                log,
                applied: 0,
                state: Bytes::new(),
            },
        }
    }
}

/// What start-up found, for the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// There was nothing: a first start.
    pub fresh: bool,
    /// Journal blocks and frames that were replayed.
    pub blocks: u64,
    pub frames: u64,
    /// The last write was cut off. Nothing in it had been promised.
    pub torn: bool,
    /// Something durable could not be read. The partitions concerned are fenced.
    pub damaged: bool,
    /// Checkpoint files that could not be read.
    pub damaged_checkpoints: u32,
    /// The logs were rebuilt from their segments.
    pub rebuilt: bool,
    /// Partitions that are fenced, with the reason.
    pub fenced: Vec<(PartitionId, String)>,
}

impl RecoveryReport {
    fn take(&mut self, replayed: &RecoveryReport, torn: bool) {
        self.blocks = replayed.blocks;
        self.frames = replayed.frames;
        self.damaged = replayed.damaged;
        self.torn = torn;
    }
}

/// Brings back the storage of core `core` of `cores` from the data directory `data`, or begins
/// it. The layout must be for that many cores (see `DataDir::open`).
pub async fn recover(
    disk: &Disk,
    data: &Path,
    core: usize,
    cores: usize,
    options: Options,
) -> Result<Recovered, RecoverError> {
    let directory = core_directory(data, core);
    let recovered = recover_from(disk, data, &directory, core, cores, options).await?;
    let report = &recovered.report;
    for (partition, reason) in &report.fenced {
        tracing::error!(%partition, reason, "partition is fenced");
    }
    tracing::info!(
        core,
        partitions = recovered.logs.len(),
        blocks = report.blocks,
        frames = report.frames,
        torn = report.torn,
        "storage recovered"
    );
    Ok(recovered)
}

/// The journal directory of a core.
pub(crate) fn core_directory(data: &Path, core: usize) -> PathBuf {
    data.join("journal").join(format!("core-{core}"))
}

/// As [`recover`], with the journal in any directory.
pub(crate) async fn recover_from(
    disk: &Disk,
    data: &Path,
    directory: &Path,
    core: usize,
    cores: usize,
    options: Options,
) -> Result<Recovered, RecoverError> {
    let at = |what| move |source| io_error(what, directory, source);
    create_directory(disk, data, directory)
        .await
        .map_err(at("create"))?;
    let cache = SegmentCache::new(disk, data, &options);
    cache.look_at_space().await;
    let slots = open_slots(disk, directory).await.map_err(at("read"))?;
    let place = Place {
        disk,
        data,
        directory,
        core,
        cores,
    };
    let Start {
        mut replay,
        checkpoints,
        mut report,
    } = place.read_checkpoints(!slots.is_empty(), &cache).await?;
    let mut memory = Memory::default();
    let [newest, previous] = checkpoints.replay_from;
    let mutation = options.mutation;
    let scanned = scan(slots, core, &mut replay, &mut memory, newest, mutation);
    let mut scanned = scanned.await.map_err(at("read"))?;
    scanned.files.recycle_below(newest.min(previous));
    complete(disk, &mut replay).await.map_err(at("read"))?;
    report.take(&replay.report, scanned.torn);
    let drops = replay.drops.iter().copied().collect();
    let mut logs: Vec<RecoveredLog> = replay.logs.into_values().map(RecoveredLog::from).collect();
    settle_memory(&mut logs, &mut memory, &options);
    report.fenced = fenced(&logs);
    let opened = Opened {
        core: core as u32,
        cores: cores as u32,
        directory: directory.to_path_buf(),
        cache,
        files: scanned.files,
        last_sequence: scanned.last_sequence,
        previous_crc: scanned.previous_crc,
        checkpoints,
        drops,
        memory,
    };
    let mut journal = Journal::new(opened, options);
    // After damage, too: what is fenced now stays so, and what is not is not doubted again.
    let checkpoint = report.fresh || report.rebuilt || report.damaged;
    let begun = begin(disk, directory, &mut journal, &mut logs, checkpoint);
    begun.await.map_err(at("write"))?;
    Ok(Recovered {
        logs,
        journal,
        report,
    })
}

/// What is recovered, and from where.
struct Place<'a> {
    disk: &'a Disk,
    data: &'a Path,
    directory: &'a Path,
    core: usize,
    cores: usize,
}

/// Where the replay of the journal begins.
struct Start {
    replay: Replay,
    checkpoints: Checkpoints,
    report: RecoveryReport,
}

impl Place<'_> {
    /// From the newest readable checkpoint; from the segments if there is none.
    async fn read_checkpoints(
        &self,
        journal_begun: bool,
        cache: &Rc<SegmentCache>,
    ) -> Result<Start, RecoverError> {
        let (newest, older, damaged) = read_checkpoints(self.disk, self.directory).await?;
        let mut report = RecoveryReport {
            damaged_checkpoints: damaged,
            ..RecoveryReport::default()
        };
        let mut checkpoints = Checkpoints::default();
        if let Some(file) = newest {
            check_layout(&file, self.directory, self.core, self.cores)?;
            checkpoints.number = file.number;
            checkpoints.replay_from = [file.replay_from, older.unwrap_or(0)];
            let replay = Replay::new(cache, file);
            return Ok(Start {
                replay,
                checkpoints,
                report,
            });
        }
        let logs = rebuild::logs(self.disk, self.data, self.core, self.cores, cache).await?;
        report.fresh = !journal_begun && damaged == 0 && logs.is_empty();
        report.rebuilt = !report.fresh;
        if report.rebuilt {
            tracing::error!(
                path = %self.directory.display(),
                partitions = logs.len(),
                "no checkpoint can be read: the logs are rebuilt from their segments"
            );
        }
        let mut replay = Replay::new(cache, CheckpointFile::empty(self.core, self.cores));
        logs.into_iter().for_each(|log| replay.add_rebuilt(log));
        Ok(Start {
            replay,
            checkpoints,
            report,
        })
    }
}

/// The journal was read: decides what is still in doubt, and reads what it only refers to.
async fn complete(disk: &Disk, replay: &mut Replay) -> io::Result<()> {
    for replayed in replay.logs.values_mut().filter(|r| r.recut) {
        rebuild::measure(disk, &mut replayed.log).await?;
    }
    replay.finish();
    load::hollow_entries(disk, replay).await
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> RecoverError {
    RecoverError::Io {
        what,
        path: path.display().to_string(),
        source,
    }
}

fn check_layout(
    file: &CheckpointFile,
    directory: &Path,
    core: usize,
    cores: usize,
) -> Result<(), RecoverError> {
    if file.cores as usize != cores {
        return Err(RecoverError::Layout {
            found: file.cores as usize,
            wanted: cores,
        });
    }
    if file.core as usize != core {
        return Err(RecoverError::Damaged {
            path: directory.display().to_string(),
            what: format!("the checkpoint is of core {}, not {core}", file.core),
        });
    }
    Ok(())
}

/// The newest readable checkpoint, where the one before it would begin to replay, and how many
/// are there that cannot be read.
async fn read_checkpoints(
    disk: &Disk,
    directory: &Path,
) -> Result<(Option<CheckpointFile>, Option<u64>, u32), RecoverError> {
    let mut files: Vec<CheckpointFile> = Vec::new();
    let mut damaged = 0;
    for number in 0..2 {
        let path = checkpoint_path(directory, number);
        let bytes = match disk.read_to_end(&path).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(io_error("read", &path, e)),
        };
        match CheckpointFile::decode(&bytes) {
            Ok(file) => files.push(file),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "checkpoint cannot be read");
                damaged += 1;
            }
        }
    }
    files.sort_by_key(|f| f.number);
    let newest = files.pop();
    Ok((newest, files.pop().map(|f| f.replay_from), damaged))
}

/// Opens the journal files. One that is not whole pages long was being prepared.
async fn open_slots(disk: &Disk, directory: &Path) -> io::Result<Vec<Slot>> {
    let mut slots = Vec::new();
    for entry in disk.read_dir(directory).await? {
        let Some(number) = parse_slot(&entry.name).filter(|_| !entry.is_dir) else {
            continue;
        };
        let bytes = entry.len - entry.len % PAGE_BYTES as u64;
        if bytes < 4 * PAGE_BYTES as u64 {
            continue;
        }
        let path = slot_path(directory, number);
        let file = disk.open(&path, OpenOptions::READ_WRITE.direct()).await?;
        slots.push(Slot {
            number,
            file,
            bytes,
        });
    }
    // So do the names.
    disk.sync_dir(directory).await?;
    Ok(slots)
}

/// What the journal files hold.
struct Scanned {
    files: JournalFiles,
    last_sequence: u64,
    previous_crc: u32,
    torn: bool,
}

/// Reads the files in the order of their use, and sorts them into full, active and ready.
async fn scan(
    slots: Vec<Slot>,
    core: usize,
    replay: &mut Replay,
    memory: &mut Memory,
    replay_from: u64,
    mutation: Option<Mutation>,
) -> io::Result<Scanned> {
    let (mut sources, unused) = read_headers(slots, core).await?;
    sources.sort_by_key(|s| (s.header.first_sequence, s.header.number));
    let next_number = sources
        .iter()
        .map(|s| s.header.number + 1)
        .max()
        .unwrap_or(1);
    let needed = sources.partition_point(|s| s.header.first_sequence <= replay_from);
    let passed: Vec<Source> = sources.drain(..needed.saturating_sub(1)).collect();
    let first = sources
        .first()
        .map_or(replay_from, |s| s.header.first_sequence);
    // A first file that begins too late means that blocks are missing, if any block says so.
    let expected = if replay_from == 0 {
        first
    } else {
        first.min(replay_from)
    };
    let mut scanner = Scanner::new(replay, memory, replay_from, expected.max(1), mutation);
    for i in 0..sources.len() {
        let next = sources.get(i + 1).map(|s| s.header.first_sequence);
        scanner.file(&mut sources[i], next).await?;
    }
    scanner.finish();
    let torn = scanner.torn;
    let last_sequence = scanner.expected - 1;
    let previous_crc = scanner.previous_crc.unwrap_or(0);
    let files = sort_files(passed, sources, unused, next_number);
    if let Some(active) = &files.active {
        // A write that was under way when the process ended may not have reached the platter.
        active.slot.file.sync_data().await?;
    }
    Ok(Scanned {
        files,
        last_sequence,
        previous_crc,
        torn,
    })
}

/// The files that were used, and those that never were.
async fn read_headers(slots: Vec<Slot>, core: usize) -> io::Result<(Vec<Source>, Vec<Slot>)> {
    let mut sources = Vec::new();
    let mut unused = Vec::new();
    for slot in slots {
        let page = slot.file.read_at(0, PAGE_BYTES).await?;
        let read = FileHeader::decode(&page).filter(|h| h.core as usize == core);
        let written = page.iter().any(|b| *b != 0);
        let header = match read {
            None if written => probe_blocks(&slot, core as u32).await?,
            header => header,
        };
        match header {
            Some(header) => sources.push(Source {
                slot,
                header,
                header_lost: read.is_none(),
                end: 0,
                last_sequence: 0,
            }),
            None => {
                // It may have been prepared just before a crash: its length, too, has to last.
                slot.file.sync_all().await?;
                unused.push(slot);
            }
        }
    }
    Ok((sources, unused))
}

fn sort_files(
    passed: Vec<Source>,
    sources: Vec<Source>,
    unused: Vec<Slot>,
    next_number: u64,
) -> JournalFiles {
    let mut files = JournalFiles::new(next_number);
    for i in 0..passed.len() {
        let next = passed.get(i + 1).or(sources.first());
        let last_sequence = next.map_or(0, |n| n.header.first_sequence.saturating_sub(1));
        files.full.push_back(Full {
            slot: passed[i].slot.clone(),
            last_sequence,
        });
    }
    let last = sources.iter().rposition(|s| s.end > 0);
    for (i, source) in sources.into_iter().enumerate() {
        let Source {
            slot,
            header,
            last_sequence,
            end,
            header_lost,
        } = source;
        let continues = Some(i) == last && !header_lost;
        if continues {
            let epoch = header.epoch;
            files.active = Some(Active {
                slot,
                epoch,
                offset: end,
                last_sequence,
            });
        } else if last.is_some_and(|last| i <= last) {
            // One without a block that counts may still lie before blocks that do.
            let last_sequence = last_sequence.max(header.first_sequence);
            files.full.push_back(Full {
                slot,
                last_sequence,
            });
        } else {
            files.ready.push_back(slot);
        }
    }
    files.ready.extend(unused);
    files
}

/// Entries that take little room are copied out of the large pieces that were read.
fn settle_memory(logs: &mut [RecoveredLog], memory: &mut Memory, options: &Options) {
    let bytes: u64 = logs.iter().map(|r| r.log.memory_bytes()).sum();
    if bytes <= options.memory_bytes_max / 4 {
        for recovered in logs {
            recovered.log.leave_buffers_below(u64::MAX);
        }
        memory.clear();
    }
}

fn fenced(logs: &[RecoveredLog]) -> Vec<(PartitionId, String)> {
    logs.iter()
        .filter_map(|r| match r.log.condition() {
            Condition::Fenced(reason) => Some((r.log.id(), reason.clone())),
            _ => None,
        })
        .collect()
}

/// Makes sure that there is a checkpoint and a file to write to.
async fn begin(
    disk: &Disk,
    directory: &Path,
    journal: &mut Journal,
    logs: &mut [RecoveredLog],
    checkpoint: bool,
) -> io::Result<()> {
    if checkpoint {
        let mut draft = journal.begin_checkpoint().expect("none is under way");
        for RecoveredLog {
            log,
            applied,
            state,
        } in logs.iter_mut()
        {
            draft.add(journal, log, *applied, state);
        }
        let job = journal
            .begin_checkpoint_write(draft)
            .expect("nothing was staged");
        journal
            .finish_checkpoint(job.run(disk).await)
            .map_err(io::Error::other)?;
    }
    if journal.files.free_bytes() < 16 * PAGE_BYTES as u64 {
        // At the limit this goes beyond it by one small file: without any the journal could not
        // even note what makes room again.
        let bytes = journal.options.journal_first_file_bytes;
        let slot = journal.files.next_slot();
        let job = PrepareJob {
            directory: directory.to_path_buf(),
            slot,
            bytes,
        };
        journal.finish_prepare(job.run(disk).await)?;
    }
    Ok(())
}
