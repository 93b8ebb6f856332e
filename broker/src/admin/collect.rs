//! Puts together what the cores say: one report of each, partitions page by page, and the lag of
//! groups, which takes two cores to know: the coordinator's has the committed offset, the partition's
//! owner the high watermark.
//!
//! Bounded: [`LAG_ROWS_MAX`] and [`PARTITION_ROWS_MAX`] rows; what is beyond is left out and the page
//! says so. A core that stops answering half-way is left out from there on.

use std::collections::{BTreeMap, BTreeSet};

use storage::PartitionId;

use super::cores::Cores;
use crate::groups::GroupState;
use crate::observe::{
    CoreReport, OFFSETS_PER_PAGE, OffsetRow, PartitionRow, PartitionTally, Request,
};

/// Rows of lag (group, topic and partition) in one scrape.
pub(super) const LAG_ROWS_MAX: usize = 10_000;
/// Partitions that one scrape lists.
pub(super) const PARTITION_ROWS_MAX: usize = 20_000;

/// Everything that `/metrics` tells of the cores.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) cores: Vec<CoreFigures>,
    pub(super) states: BTreeMap<GroupState, usize>,
    pub(super) lag: Lag,
}

/// What one core said.
#[derive(Debug, Default)]
pub(super) struct CoreFigures {
    /// `None`: it does not answer.
    pub(super) report: Option<CoreReport>,
    pub(super) partitions: PartitionTally,
}

/// How far groups are behind, in offsets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lag {
    /// By group, topic and partition.
    pub(super) rows: BTreeMap<(String, String, i32), u64>,
    /// There are more than [`LAG_ROWS_MAX`].
    pub(super) is_truncated: bool,
}

/// The partitions of this node by name.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    pub(super) rows: Vec<PartitionRow>,
    /// There are more than [`PARTITION_ROWS_MAX`].
    pub(super) is_truncated: bool,
}

/// Asks every core for everything but the rows of partitions.
pub(super) async fn snapshot(cores: &Cores) -> Snapshot {
    let reports = cores.ask_all(Request::Report).await;
    let mut snapshot = Snapshot::default();
    let mut offsets = Vec::new();
    for (core, report) in reports.into_iter().enumerate() {
        let mut figures = CoreFigures {
            report,
            ..CoreFigures::default()
        };
        if figures.report.is_some() {
            figures.partitions = tally(cores, core).await;
            groups(cores, core, &mut snapshot.states).await;
            snapshot.lag.is_truncated |= !committed(cores, core, &mut offsets).await;
        }
        snapshot.cores.push(figures);
    }
    snapshot.lag.rows = lag(cores, offsets).await;
    snapshot
}

/// Asks every core for its partitions.
pub(super) async fn partitions(cores: &Cores) -> Partitions {
    let mut found = Partitions::default();
    for core in 0..cores.count() {
        let mut after = None;
        loop {
            let ask = |reply| Request::Partitions {
                after,
                rows: true,
                reply,
            };
            let Some(page) = cores.ask(core, ask).get().await else {
                break;
            };
            found.rows.extend(page.rows);
            after = page.next;
            if after.is_none() {
                break;
            }
            if found.rows.len() >= PARTITION_ROWS_MAX {
                found.is_truncated = true;
                break;
            }
        }
    }
    found.is_truncated |= found.rows.len() > PARTITION_ROWS_MAX;
    found.rows.truncate(PARTITION_ROWS_MAX);
    found
        .rows
        .sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    found
}

async fn tally(cores: &Cores, core: usize) -> PartitionTally {
    let mut tally = PartitionTally::default();
    let mut after = None;
    loop {
        let ask = |reply| Request::Partitions {
            after,
            rows: false,
            reply,
        };
        let Some(page) = cores.ask(core, ask).get().await else {
            return tally;
        };
        tally.merge(&page.tally);
        after = page.next;
        if after.is_none() {
            return tally;
        }
    }
}

async fn groups(cores: &Cores, core: usize, states: &mut BTreeMap<GroupState, usize>) {
    let mut after = None;
    loop {
        let ask = |reply| Request::Groups { after, reply };
        let Some(page) = cores.ask(core, ask).get().await else {
            return;
        };
        for (state, count) in page.states {
            *states.entry(state).or_default() += count;
        }
        after = page.next;
        if after.is_none() {
            return;
        }
    }
}

/// Adds the committed offsets of a core; false if there are more than may be told.
async fn committed(cores: &Cores, core: usize, rows: &mut Vec<OffsetRow>) -> bool {
    let mut after = None;
    loop {
        let ask = |reply| Request::Offsets { after, reply };
        let Some(page) = cores.ask(core, ask).get().await else {
            return true;
        };
        rows.extend(page.rows);
        after = page.next;
        if rows.len() > LAG_ROWS_MAX {
            rows.truncate(LAG_ROWS_MAX);
            return false;
        }
        if after.is_none() {
            return true;
        }
    }
}

/// Joins committed offsets with the high watermarks of their partitions. A partition that no core of
/// this node serves has no lag that we know.
async fn lag(cores: &Cores, offsets: Vec<OffsetRow>) -> BTreeMap<(String, String, i32), u64> {
    let wanted: BTreeSet<PartitionId> = offsets.iter().map(|row| row.id).collect();
    let mut by_owner = vec![Vec::new(); cores.count()];
    for id in wanted {
        by_owner[storage::owner(id, cores.count())].push(id);
    }
    let mut high_watermarks = BTreeMap::new();
    for (core, ids) in by_owner.iter().enumerate() {
        for ids in ids.chunks(OFFSETS_PER_PAGE) {
            let partitions = ids.to_vec();
            let ask = |reply| Request::HighWatermarks { partitions, reply };
            let Some(answers) = cores.ask(core, ask).get().await else {
                break;
            };
            let known = ids
                .iter()
                .zip(answers)
                .filter_map(|(id, answer)| Some((*id, answer?)));
            high_watermarks.extend(known);
        }
    }
    let lag = |row: OffsetRow| {
        // A commit may lie beyond the log's end: the client said so, and it is then not behind.
        let behind = high_watermarks
            .get(&row.id)?
            .saturating_sub(row.committed_offset)
            .max(0);
        Some(((row.group, row.topic, row.partition), behind as u64))
    };
    offsets.into_iter().filter_map(lag).collect()
}
