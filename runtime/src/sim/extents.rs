//! A set of block numbers as disjoint ranges.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Default, Debug)]
pub(crate) struct Extents {
    /// Start to end; disjoint and not adjacent.
    ranges: BTreeMap<u64, u64>,
    /// Blocks in all of them.
    total: u64,
}

impl Extents {
    /// How many blocks are in the set.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// How many of these are not in the set.
    pub(crate) fn missing(&self, range: Range<u64>) -> u64 {
        let there: u64 = self
            .ranges
            .range(..range.end)
            .map(|(&start, &end)| end.min(range.end).saturating_sub(start.max(range.start)))
            .sum();
        range.end.saturating_sub(range.start) - there
    }

    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        let touching: Vec<u64> = self
            .ranges
            .range(..=end)
            .filter(|&(_, &stop)| stop >= start)
            .map(|(&begin, _)| begin)
            .collect();
        for begin in touching {
            let stop = self.ranges.remove(&begin).unwrap_or(begin);
            self.total -= stop - begin;
            start = start.min(begin);
            end = end.max(stop);
        }
        self.ranges.insert(start, end);
        self.total += end - start;
    }

    /// Takes out every block from `first` on.
    pub(crate) fn cut(&mut self, first: u64) {
        let beyond = self.ranges.split_off(&first);
        self.total -= beyond.iter().map(|(start, end)| end - start).sum::<u64>();
        if let Some(mut last) = self.ranges.last_entry() {
            let end = (*last.get()).min(first);
            self.total -= *last.get() - end;
            last.insert(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_plain_set() {
        use std::collections::BTreeSet;
        let mut random = super::super::random::Random::new(3, "extents");
        for _ in 0..200 {
            let (mut extents, mut set) = (Extents::default(), BTreeSet::new());
            for _ in 0..30 {
                let start = random.below(50);
                let range = start..start + random.below(12);
                if random.below(5) == 0 {
                    extents.cut(start);
                    set.split_off(&start);
                } else {
                    let missing = range.clone().filter(|b| !set.contains(b)).count();
                    assert_eq!(extents.missing(range.clone()), missing as u64);
                    extents.insert(range.clone());
                    set.extend(range);
                }
                assert_eq!(extents.total(), set.len() as u64);
            }
        }
    }
}
