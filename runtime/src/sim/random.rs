//! Seeded random streams. One per purpose, so that a draw more for the disk does not change the
//! network's fate. Not for secrets.

use std::time::Duration;

/// A stream (xoshiro256**, seeded through splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream of `purpose` under `seed`.
    pub(crate) fn new(seed: u64, purpose: &str) -> Random {
        let mut mixed = seed;
        for byte in purpose.bytes() {
            mixed = scramble(mixed ^ u64::from(byte));
        }
        let mut state = [0; 4];
        for word in &mut state {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            *word = scramble(mixed);
        }
        Random { state }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let [s0, s1, s2, s3] = self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (s2, s3) = (s2 ^ s0, s3 ^ s1);
        self.state = [s0 ^ s3, s1 ^ s2, s2 ^ (s1 << 17), s3.rotate_left(45)];
        result
    }

    /// Below `bound`, which is above 0. The bias of the plain product is below 2^-32 for the
    /// bounds used here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a random number below 0");
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            low
        } else {
            low + self.below(high - low + 1)
        }
    }

    pub(crate) fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_nanos(self.between(low.as_nanos() as u64, high.as_nanos() as u64))
    }

    /// True `n` times in a million.
    pub(crate) fn per_million(&mut self, n: u32) -> bool {
        // No draw for "never", so that switching a fault on moves only what follows it.
        n > 0 && self.below(1_000_000) < u64::from(n)
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

/// The finaliser of splitmix64: every bit of the input moves about half of the output.
pub(crate) fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, purpose| {
            let mut random = Random::new(seed, purpose);
            (0..8).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, "disk"), draw(1, "disk"));
        assert_ne!(draw(1, "disk"), draw(1, "network"));
        assert_ne!(draw(1, "disk"), draw(2, "disk"));
    }

    #[test]
    fn bounds_hold_and_are_reached() {
        let mut random = Random::new(7, "bounds");
        let draws: Vec<u64> = (0..1000).map(|_| random.between(3, 6)).collect();
        for expected in 3..=6 {
            assert!(draws.contains(&expected));
        }
        assert!(draws.iter().all(|d| (3..=6).contains(d)));
        assert!(!random.per_million(0));
        assert!(random.per_million(1_000_000));
    }
}
