//! Generated load: values that look like text and compress about as well.

/// Bytes that values are cut from.
const POOL_BYTES: usize = 1 << 20;

/// Hands out values of one size. The same every time: a load can be repeated.
pub(crate) struct Generator {
    pool: Vec<u8>,
    at: usize,
    size: usize,
}

impl Generator {
    pub(crate) fn new(size: usize) -> Generator {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz      ";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let pool = (0..POOL_BYTES + size)
            .map(|_| {
                // xorshift64: good enough to look like text.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ALPHABET[(state >> 59) as usize]
            })
            .collect();
        Generator { pool, at: 0, size }
    }

    /// The next value.
    pub(crate) fn value(&mut self) -> &[u8] {
        // An odd stride, so that values differ until the whole pool was used as a beginning.
        self.at = (self.at + 7_919) % POOL_BYTES;
        &self.pool[self.at..self.at + self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_differ() {
        let mut generator = Generator::new(64);
        let values: std::collections::BTreeSet<Vec<u8>> =
            (0..10_000).map(|_| generator.value().to_vec()).collect();
        assert!(values.iter().all(|value| value.len() == 64));
        assert_eq!(values.len(), 10_000);
        assert!(Generator::new(0).value().is_empty());
        assert_eq!(Generator::new(2 * POOL_BYTES).value().len(), 2 * POOL_BYTES);
    }
}
