//! How many producers a core remembers (`corelane.producer.ids.max`).
//!
//! Producer state is counted by partition, as it takes memory by partition. The limit is kept with
//! some slack, so that looking for those unused for longest is worth its price.

use super::owned::Owned;
use storage::PartitionId;

/// The slack beyond the limit, as a share of it.
const SLACK_SHARE: usize = 16;

/// What is known of the number of producers.
#[derive(Debug, Default)]
pub struct Remembered {
    max: usize,
    /// At least as many as there are: what was forgotten since is not taken off.
    count: usize,
    /// At this count it is worth looking.
    look_at: usize,
}

impl Remembered {
    /// With this limit, and nothing remembered.
    pub fn up_to(max: usize) -> Remembered {
        Remembered {
            max,
            count: 0,
            look_at: max.saturating_add(max / SLACK_SHARE + 1),
        }
    }

    /// So many more.
    pub fn grown(&mut self, by: usize) {
        self.count += by;
    }

    fn is_worth_a_look(&self) -> bool {
        self.count >= self.look_at
    }

    /// There are so many now.
    fn counted(&mut self, count: usize) {
        self.count = count;
        let slack = self.max / SLACK_SHARE + 1;
        // Those that could not be forgotten do not call for the next look.
        self.look_at = self.max.max(count).saturating_add(slack);
    }
}

impl Owned {
    /// Forgets the producers unused for longest if there are too many. One with a batch that is not
    /// committed stays.
    pub(super) fn bound_producers(&mut self) {
        if !self.remembered.is_worth_a_look() {
            return;
        }
        let sizes = self.partitions.values().map(|p| p.producers.len());
        let count: usize = sizes.sum();
        let excess = count.saturating_sub(self.remembered.max);
        let mut idle: Vec<(i64, PartitionId, i64)> = Vec::new();
        for (id, partition) in self.partitions.iter().filter(|_| excess > 0) {
            let replica = self.replicas.get(*id);
            let committed = replica.map_or(0, |replica| replica.commit_index());
            let known = partition.producers.idle(committed);
            idle.extend(known.map(|(producer, seen_ms)| (seen_ms, *id, producer)));
        }
        let excess = excess.min(idle.len());
        if excess > 0 {
            idle.select_nth_unstable(excess - 1);
        }
        for (_, id, producer) in &idle[..excess] {
            let partition = self.partitions.get_mut(id).expect("listed above");
            partition.producers.forget(*producer);
        }
        if excess > 0 {
            tracing::debug!(excess, "producers unused for longest are forgotten");
        }
        self.remembered.counted(count - excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_worth_it_only_after_some_growth() {
        let mut remembered = Remembered::up_to(1_600);
        remembered.grown(1_700);
        assert!(!remembered.is_worth_a_look(), "within the slack");
        remembered.grown(1);
        assert!(remembered.is_worth_a_look());
        remembered.counted(1_600);
        assert!(!remembered.is_worth_a_look());
        // Nothing could be forgotten: not every further one calls for a look.
        remembered.counted(5_000);
        remembered.grown(100);
        assert!(!remembered.is_worth_a_look());
        remembered.grown(1);
        assert!(remembered.is_worth_a_look());
    }
}
