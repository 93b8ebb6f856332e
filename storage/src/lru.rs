//! A map that forgets what was used least recently, by weight. Ordered inside, so that two runs
//! of the same history forget the same things.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub(crate) struct Lru<K, V> {
    entries: BTreeMap<K, Slot<V>>,
    /// Keys by the time of their last use.
    by_use: BTreeMap<u64, K>,
    clock: u64,
    weight: u64,
    weight_max: u64,
}

struct Slot<V> {
    value: V,
    weight: u64,
    used: u64,
}

impl<K: Ord + Copy, V: Clone> Lru<K, V> {
    pub fn new(weight_max: u64) -> Lru<K, V> {
        Lru {
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
            clock: 0,
            weight: 0,
            weight_max,
        }
    }

    pub fn get(&mut self, key: K) -> Option<V> {
        let slot = self.entries.get_mut(&key)?;
        self.clock += 1;
        self.by_use.remove(&slot.used);
        slot.used = self.clock;
        self.by_use.insert(self.clock, key);
        Some(slot.value.clone())
    }

    /// Keeps `value`, and forgets others until all together weigh at most the limit. A value that
    /// is heavier than the limit is not kept.
    pub fn put(&mut self, key: K, value: V, weight: u64) {
        self.remove(key);
        if weight > self.weight_max {
            return;
        }
        self.clock += 1;
        self.weight += weight;
        self.by_use.insert(self.clock, key);
        self.entries.insert(
            key,
            Slot {
                value,
                weight,
                used: self.clock,
            },
        );
        while self.weight > self.weight_max {
            let oldest = *self.by_use.first_key_value().expect("something weighs").1;
            self.remove(oldest);
        }
    }

    pub fn remove(&mut self, key: K) {
        if let Some(slot) = self.entries.remove(&key) {
            self.by_use.remove(&slot.used);
            self.weight -= slot.weight;
        }
    }

    pub fn remove_range(&mut self, keys: RangeInclusive<K>) {
        let gone: Vec<K> = self.entries.range(keys).map(|(k, _)| *k).collect();
        for key in gone {
            self.remove(key);
        }
    }

    pub fn weight(&self) -> u64 {
        self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = Lru::new(3);
        for key in 1..=3 {
            lru.put(key, key * 10, 1);
        }
        assert_eq!(lru.get(1), Some(10));
        lru.put(4, 40, 1);
        assert_eq!(lru.get(2), None);
        assert_eq!(
            (lru.get(1), lru.get(3), lru.get(4)),
            (Some(10), Some(30), Some(40))
        );
    }

    #[test]
    fn weights_are_kept_through_replacement_and_removal() {
        let mut lru = Lru::new(10);
        lru.put(1, 'a', 4);
        lru.put(1, 'b', 6);
        lru.put(2, 'c', 4);
        assert_eq!((lru.weight(), lru.get(1)), (10, Some('b')));
        lru.put(3, 'd', 11);
        assert_eq!(lru.get(3), None, "too heavy to keep");
        lru.remove_range(1..=1);
        assert_eq!(lru.weight(), 4);
        lru.remove_range(0..=9);
        assert_eq!(lru.weight(), 0);
        assert!(lru.by_use.is_empty());
    }
}
