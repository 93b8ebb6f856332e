//! Random values for tests, the same for the same seed on every machine.

use bytes::Bytes;

/// A small seeded generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `limit - 1`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// Any integer, with a liking for the small and the extreme.
    pub fn integer(&mut self) -> i64 {
        match self.below(4) {
            0 => self.below(5) as i64 - 2,
            1 => [i64::MIN, i64::MAX, i32::MIN.into(), i32::MAX.into()][self.below(4)],
            _ => self.bits() as i64,
        }
    }

    /// Mostly short, sometimes empty, sometimes long enough for a two-byte varint.
    pub fn text(&mut self) -> String {
        const LETTERS: [char; 8] = ['a', 'b', '-', '_', '.', '7', 'ß', '語'];
        (0..self.length())
            .map(|_| LETTERS[self.below(LETTERS.len())])
            .collect()
    }

    /// Lengths as for text; now and then long enough to be gathered by reference.
    pub fn bytes(&mut self) -> Bytes {
        let length = match self.below(16) {
            0 => super::GATHER_MIN_BYTES + self.below(100),
            _ => self.length(),
        };
        (0..length).map(|_| self.bits() as u8).collect()
    }

    fn length(&mut self) -> usize {
        match self.below(16) {
            0 => 0,
            1 => 120 + self.below(40),
            _ => self.below(12),
        }
    }
}
