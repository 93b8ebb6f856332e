//! The name of a partition and the core that owns it.
//! Must not know what a topic is called: names change, identifiers do not.

use std::fmt;

/// A partition of a topic. The topic is named by its UUID, so a topic that was deleted and made
/// again under the same name can never meet the data of its predecessor.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic's UUID as one number.
    pub topic: u128,
    /// The partition within the topic, from 0.
    pub partition: u32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}/{}", self.topic, self.partition)
    }
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The core that owns a partition on a node with `cores` cores: `(hash(topic) + partition) %
/// cores`, so that the partitions of one topic are spread evenly and topics start anywhere.
///
/// Topics of the house itself have ids below 2^64, which no random UUID is: they belong to core 0, however many
/// cores there are.
///
/// The hash is fixed for ever (the finaliser of SplitMix64 over both halves of the UUID): a
/// journal holds the partitions of its core, and another answer would orphan them.
pub fn owner(id: PartitionId, cores: usize) -> usize {
    assert!(cores > 0, "a node has at least one core");
    if id.topic >> 64 == 0 {
        return 0;
    }
    let hash = mix((id.topic >> 64) as u64 ^ mix(id.topic as u64));
    (hash.wrapping_add(u64::from(id.partition)) % cores as u64) as usize
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_topic_are_spread_evenly() {
        for topic in 16..66u128 {
            let mut seen = [0; 4];
            for partition in 0..40 {
                seen[owner(
                    PartitionId {
                        topic: topic << 60,
                        partition,
                    },
                    4,
                )] += 1;
            }
            assert_eq!(seen, [10; 4]);
        }
    }

    #[test]
    fn topics_of_the_house_are_on_core_0() {
        for cores in 1..20 {
            let (topic, partition) = (1, 0);
            assert_eq!(owner(PartitionId { topic, partition }, cores), 0);
        }
    }

    #[test]
    fn the_hash_never_changes() {
        let id = PartitionId {
            topic: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
            partition: 3,
        };
        let owners: Vec<usize> = [3, 5, 7, 11, 64].iter().map(|&n| owner(id, n)).collect();
        assert_eq!(owners, GOLDEN, "a changed hash orphans every journal");
    }
    const GOLDEN: [usize; 5] = [0, 1, 4, 4, 24];
}
