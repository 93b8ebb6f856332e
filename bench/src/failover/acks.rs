//! When each partition was acknowledged, and how long it was not. Pure: times in, times out.

/// Since an incident began, by partition.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// When it was last acknowledged, ever.
    last_ns: u64,
    /// The longest wait that ended since.
    longest_ns: u64,
    /// When another node than the one that fails first acknowledged it.
    elsewhere_ns: Option<u64>,
    /// Led by the node that fails.
    concerned: bool,
}

/// All partitions of a topic.
#[derive(Debug)]
pub struct Acks {
    seen: Vec<Seen>,
    began_ns: u64,
    failing: Option<i32>,
    /// Partitions that are concerned and were not acknowledged elsewhere yet.
    missing: usize,
}

impl Acks {
    /// Nothing was acknowledged yet; waits count from `now_ns`.
    pub fn new(partitions: usize, now_ns: u64) -> Acks {
        let nothing = Seen {
            last_ns: now_ns,
            ..Seen::default()
        };
        Acks {
            seen: vec![nothing; partitions],
            began_ns: now_ns,
            failing: None,
            missing: 0,
        }
    }

    /// `node` is about to fail, and leads these partitions.
    pub fn begin(&mut self, node: i32, leads: impl Fn(usize) -> bool, now_ns: u64) {
        (self.failing, self.began_ns, self.missing) = (Some(node), now_ns, 0);
        for (partition, seen) in self.seen.iter_mut().enumerate() {
            *seen = Seen {
                last_ns: seen.last_ns,
                concerned: leads(partition),
                ..Seen::default()
            };
            self.missing += usize::from(seen.concerned);
        }
    }

    /// A partition was idle until now, so its next wait begins here.
    pub fn rested(&mut self, now_ns: u64) {
        self.seen.iter_mut().for_each(|seen| seen.last_ns = now_ns);
    }

    pub fn acknowledged(&mut self, partition: usize, node: i32, now_ns: u64) {
        let seen = &mut self.seen[partition];
        seen.longest_ns = seen.longest_ns.max(now_ns - seen.last_ns);
        seen.last_ns = now_ns;
        if seen.concerned && seen.elsewhere_ns.is_none() && self.failing != Some(node) {
            seen.elsewhere_ns = Some(now_ns);
            self.missing -= 1;
        }
    }

    /// Whether every partition concerned was acknowledged by another node.
    pub fn all_elsewhere(&self) -> bool {
        self.missing == 0
    }

    /// What the incident was, by now. `None` if it concerned no partition.
    pub fn incident(&self, now_ns: u64) -> Option<Incident> {
        let concerned = || self.seen.iter().filter(|seen| seen.concerned);
        let wait = |seen: &Seen| seen.longest_ns.max(now_ns - seen.last_ns);
        let elsewhere = |seen: &Seen| seen.elsewhere_ns.unwrap_or(now_ns) - self.began_ns;
        let mut waits: Vec<u64> = concerned().map(wait).collect();
        waits.sort_unstable();
        Some(Incident {
            partitions: waits.len(),
            longest_ns: *waits.last()?,
            median_ns: quantile(&waits, 0.5)?,
            elsewhere_ns: concerned().map(elsewhere).max()?,
        })
    }
}

/// What clients saw when a node failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// That the node led.
    pub partitions: usize,
    /// Longest time between two acknowledgements of one of them, and that of the one in the middle.
    pub longest_ns: u64,
    pub median_ns: u64,
    /// From the failure until another node had acknowledged something in each of them.
    pub elsewhere_ns: u64,
}

/// The value at `quantile`, by nearest rank, of values that are sorted. With few of them a high
/// quantile is the greatest.
pub fn quantile(sorted: &[u64], quantile: f64) -> Option<u64> {
    let rank = (sorted.len() as f64 * quantile).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=20).collect();
        assert_eq!(quantile(&values, 0.5), Some(10));
        assert_eq!(quantile(&values, 0.99), Some(20), "of twenty, the greatest");
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!(quantile(&values, 0.99), Some(198));
        assert_eq!((quantile(&[7], 0.0), quantile(&[], 0.5)), (Some(7), None));
    }

    #[test]
    fn the_wait_spans_the_failure() {
        let mut acks = Acks::new(3, 0);
        acks.acknowledged(0, 1, 90);
        acks.acknowledged(1, 1, 95);
        acks.acknowledged(2, 2, 20);
        assert_eq!(acks.incident(95), None, "nothing failed");
        acks.begin(1, |partition| partition < 2, 100);
        acks.acknowledged(0, 1, 101);
        assert!(!acks.all_elsewhere(), "an answer that was on its way");
        acks.acknowledged(0, 2, 400);
        acks.acknowledged(0, 2, 410);
        acks.acknowledged(1, 3, 300);
        assert!(acks.all_elsewhere());
        let expected = Incident {
            partitions: 2,
            longest_ns: 299,
            median_ns: 205,
            elsewhere_ns: 300,
        };
        assert_eq!(acks.incident(420), Some(expected));
    }

    #[test]
    fn a_wait_that_has_not_ended_counts() {
        let mut acks = Acks::new(1, 0);
        acks.begin(1, |_| true, 100);
        let incident = acks.incident(5000).unwrap();
        assert_eq!((incident.longest_ns, incident.elsewhere_ns), (5000, 4900));
        acks.rested(5000);
        assert_eq!(acks.incident(5001).unwrap().longest_ns, 1);
    }
}
