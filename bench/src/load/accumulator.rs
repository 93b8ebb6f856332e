//! Messages of one producer that wait to leave, gathered into batches by partition.
//!
//! Decides as Kafka's own producer does: a batch is ready when it is full or has lingered; then a
//! request takes the oldest batch of every partition until it is full, ready or not. Only intended
//! times are kept, so a producer far behind its schedule needs eight bytes a message. Knows no
//! clock and no connection.

use std::collections::VecDeque;

/// Messages that will be one record batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub partition: i32,
    pub intended_ns: Vec<u64>,
    opened_ns: u64,
}

/// What is full when. All batches have messages of one size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages that fill a batch.
    pub batch_messages_max: usize,
    /// Batches that fill a request.
    pub request_batches_max: usize,
    pub linger_ns: u64,
}

impl Limits {
    /// `record_bytes` is the size of a message with its share of the format. A batch has one
    /// message and a request one batch at least, however large they are.
    pub fn of(
        record_bytes: usize,
        batch_bytes: usize,
        request_bytes: usize,
        linger_ns: u64,
    ) -> Self {
        let batch_messages_max = (batch_bytes / record_bytes).max(1);
        let full_bytes = batch_messages_max * record_bytes;
        let request_batches_max = (request_bytes / full_bytes).max(1);
        Limits {
            batch_messages_max,
            request_batches_max,
            linger_ns,
        }
    }
}

/// The batches of one producer.
#[derive(Debug)]
pub struct Accumulator {
    limits: Limits,
    /// By partition, oldest first; only the last may be open.
    batches: Vec<VecDeque<Pending>>,
    /// Partitions that have batches, by the age of their oldest.
    waiting: VecDeque<i32>,
    /// Batches that are full.
    full: usize,
}

impl Accumulator {
    pub fn new(partitions: i32, limits: Limits) -> Accumulator {
        let batches = (0..partitions).map(|_| VecDeque::new()).collect();
        Accumulator {
            limits,
            batches,
            waiting: VecDeque::new(),
            full: 0,
        }
    }

    /// Takes a message. True if it has filled its batch.
    pub fn push(&mut self, partition: i32, intended_ns: u64, now_ns: u64) -> bool {
        let limit = self.limits.batch_messages_max;
        let batches = &mut self.batches[partition as usize];
        if batches.is_empty() {
            self.waiting.push_back(partition);
        }
        match batches.back_mut() {
            Some(open) if open.intended_ns.len() < limit => open.intended_ns.push(intended_ns),
            _ => batches.push_back(Pending {
                partition,
                intended_ns: vec![intended_ns],
                opened_ns: now_ns,
            }),
        }
        let filled = batches
            .back()
            .is_some_and(|batch| batch.intended_ns.len() == limit);
        self.full += usize::from(filled);
        filled
    }

    /// Whether the partition has a batch that takes one more message.
    pub fn has_open(&self, partition: i32) -> bool {
        let limit = self.limits.batch_messages_max;
        let last = self.batches[partition as usize].back();
        last.is_some_and(|batch| batch.intended_ns.len() < limit)
    }

    /// The batches of the next request; none if nothing is ready.
    pub fn take(&mut self, now_ns: u64) -> Vec<Pending> {
        if self.ready_ns().is_none_or(|ready_ns| ready_ns > now_ns) {
            return Vec::new();
        }
        let count = self.waiting.len().min(self.limits.request_batches_max);
        let mut taken = Vec::with_capacity(count);
        for partition in self.waiting.drain(..count).collect::<Vec<_>>() {
            let batches = &mut self.batches[partition as usize];
            let batch = batches
                .pop_front()
                .expect("a waiting partition has a batch");
            self.full -= usize::from(batch.intended_ns.len() == self.limits.batch_messages_max);
            if !batches.is_empty() {
                self.waiting.push_back(partition);
            }
            taken.push(batch);
        }
        taken
    }

    /// When something is ready; 0 if it is already.
    pub fn ready_ns(&self) -> Option<u64> {
        let oldest = self.batches[*self.waiting.front()? as usize].front()?;
        match self.full {
            0 => Some(oldest.opened_ns + self.limits.linger_ns),
            _ => Some(0),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        batch_messages_max: 2,
        request_batches_max: 2,
        linger_ns: 10,
    };

    fn partitions(batches: &[Pending]) -> Vec<(i32, usize)> {
        batches
            .iter()
            .map(|batch| (batch.partition, batch.intended_ns.len()))
            .collect()
    }

    #[test]
    fn a_lone_message_lingers() {
        let mut accumulator = Accumulator::new(1, LIMITS);
        assert_eq!(accumulator.ready_ns(), None);
        assert!(!accumulator.push(0, 90, 100));
        assert_eq!(
            accumulator.ready_ns(),
            Some(110),
            "lingering begins when the batch does"
        );
        assert_eq!(accumulator.take(109), []);
        let taken = accumulator.take(110);
        assert_eq!(partitions(&taken), [(0, 1)]);
        assert_eq!(taken[0].intended_ns, [90]);
        assert!(accumulator.is_empty());
    }

    #[test]
    fn a_full_batch_is_ready_at_once_and_takes_others_along() {
        let mut accumulator = Accumulator::new(3, LIMITS);
        accumulator.push(2, 1, 1);
        assert!(accumulator.has_open(2));
        accumulator.push(0, 2, 2);
        assert!(accumulator.push(0, 3, 3));
        assert!(!accumulator.has_open(0));
        assert_eq!(partitions(&accumulator.take(3)), [(2, 1), (0, 2)]);
        assert_eq!(accumulator.ready_ns(), None);
    }

    #[test]
    fn a_request_has_one_batch_of_a_partition_in_order() {
        let mut accumulator = Accumulator::new(2, LIMITS);
        for message in 0..5 {
            accumulator.push(1, message, 0);
        }
        let times: Vec<_> = std::iter::from_fn(|| accumulator.take(5).pop())
            .map(|batch| batch.intended_ns)
            .collect();
        assert_eq!(times, [vec![0, 1], vec![2, 3]], "the fifth still lingers");
        assert_eq!(accumulator.take(10).pop().unwrap().intended_ns, [4]);
    }

    #[test]
    fn a_full_request_leaves_the_rest_for_the_next() {
        let mut accumulator = Accumulator::new(3, LIMITS);
        for partition in [2, 0, 1] {
            accumulator.push(partition, 0, 0);
        }
        assert_eq!(partitions(&accumulator.take(10)), [(2, 1), (0, 1)]);
        assert_eq!(partitions(&accumulator.take(10)), [(1, 1)]);
    }

    #[test]
    fn limits_in_bytes_become_counts() {
        let limits = Limits::of(1040, 16 << 10, 1 << 20, 0);
        assert_eq!(
            (limits.batch_messages_max, limits.request_batches_max),
            (15, 67)
        );
        let limits = Limits::of(2000, 1, 1, 0);
        assert_eq!(
            (limits.batch_messages_max, limits.request_batches_max),
            (1, 1)
        );
    }
}
