//! Which term an index has, and where each leader epoch begins: one table for raft's `term(index)`
//! and for Kafka's OffsetForLeaderEpoch (KIP-320), since the leader epoch is the term.

/// A run of entries of one term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TermRun {
    pub term: u64,
    /// The first index of the run.
    pub index: u64,
    /// The base offset of the entry at that index: where the leader epoch starts.
    pub offset: i64,
}

/// The runs of a log, by ascending term and index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TermRuns {
    runs: Vec<TermRun>,
}

impl TermRuns {
    pub fn from_runs(runs: Vec<TermRun>) -> Option<TermRuns> {
        let sorted = runs
            .windows(2)
            .all(|w| w[0].term < w[1].term && w[0].index <= w[1].index);
        sorted.then_some(TermRuns { runs })
    }

    pub fn runs(&self) -> &[TermRun] {
        &self.runs
    }

    /// The term of the entry at `index`; `None` before the first run.
    pub fn term(&self, index: u64) -> Option<u64> {
        let after = self.runs.partition_point(|r| r.index <= index);
        self.runs[..after].last().map(|r| r.term)
    }

    pub fn last_term(&self) -> u64 {
        self.runs.last().map_or(0, |r| r.term)
    }

    /// Notes the entry at `index`, which follows all that were noted before.
    pub fn push(&mut self, term: u64, index: u64, offset: i64) {
        let last = self.last_term();
        assert!(
            term >= last,
            "term {term} at index {index} after term {last}"
        );
        if self.runs.is_empty() || term > last {
            self.runs.push(TermRun {
                term,
                index,
                offset,
            });
        }
    }

    /// Forgets the entries above `index`.
    pub fn truncate_to(&mut self, index: u64) {
        let keep = self.runs.partition_point(|r| r.index <= index);
        self.runs.truncate(keep);
    }

    /// Forgets what is not needed to answer for `index` and above.
    pub fn trim_below(&mut self, index: u64) {
        let after = self.runs.partition_point(|r| r.index <= index);
        self.runs.drain(..after.saturating_sub(1));
    }

    /// The largest epoch not above `epoch`, and the offset at which it ended. `None` when the
    /// epoch is newer than the log. Below the oldest epoch: `epoch` itself ends where that begins.
    pub fn epoch_end(&self, epoch: u64, log_end_offset: i64) -> Option<(u64, i64)> {
        let after = self.runs.partition_point(|r| r.term <= epoch);
        let floor = after.checked_sub(1).map(|i| self.runs[i].term);
        match (floor, self.runs.get(after)) {
            (Some(found), Some(next)) => Some((found, next.offset)),
            (Some(found), None) if found == epoch => Some((found, log_end_offset)),
            (None, Some(next)) => Some((epoch, next.offset)),
            (_, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> TermRuns {
        let mut runs = TermRuns::default();
        for (term, index, offset) in [(1, 1, 0), (1, 2, 10), (3, 3, 20), (3, 9, 80), (7, 10, 90)] {
            runs.push(term, index, offset);
        }
        runs
    }

    #[test]
    fn terms_by_index() {
        let runs = runs();
        let terms: Vec<_> = [0, 1, 2, 3, 9, 10, 99]
            .iter()
            .map(|&i| runs.term(i))
            .collect();
        let want = [None, Some(1), Some(1), Some(3), Some(3), Some(7), Some(7)];
        assert_eq!(terms, want);
    }

    #[test]
    fn truncation_and_trimming() {
        let mut runs = runs();
        runs.truncate_to(9);
        assert_eq!(runs.last_term(), 3);
        runs.truncate_to(2);
        assert_eq!(runs.last_term(), 1);
        runs.push(9, 3, 20);
        runs.trim_below(3);
        assert_eq!(runs.runs().len(), 1);
        assert_eq!(runs.term(3), Some(9));
        assert_eq!(runs.term(2), None);
    }

    #[test]
    fn epochs_as_kip_320_asks() {
        let runs = runs();
        assert_eq!(runs.epoch_end(0, 100), Some((0, 0)), "before the oldest");
        assert_eq!(runs.epoch_end(1, 100), Some((1, 20)));
        assert_eq!(
            runs.epoch_end(2, 100),
            Some((1, 20)),
            "an epoch without entries"
        );
        assert_eq!(runs.epoch_end(3, 100), Some((3, 90)));
        assert_eq!(
            runs.epoch_end(7, 100),
            Some((7, 100)),
            "the latest ends at the log's end"
        );
        assert_eq!(runs.epoch_end(8, 100), None, "newer than the log");
        assert_eq!(TermRuns::default().epoch_end(1, 0), None);
    }

    #[test]
    #[should_panic(expected = "term 2 at index 11 after term 7")]
    fn terms_never_fall() {
        runs().push(2, 11, 0);
    }
}
