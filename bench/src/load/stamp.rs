//! The value of a message: the intended time in its first eight bytes, then filler.

/// Room for the stamp; the smallest message.
pub const BYTES: usize = 8;

/// A value of `bytes` bytes whose filler does not compress.
pub fn blank(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    (0..bytes).map(|_| next_random(&mut state) as u8).collect()
}

pub fn put(value: &mut [u8], intended_ns: u64) {
    value[..BYTES].copy_from_slice(&intended_ns.to_be_bytes());
}

/// The intended time, if the value is long enough to have one.
pub fn read(value: &[u8]) -> Option<u64> {
    value.first_chunk().copied().map(u64::from_be_bytes)
}

/// SplitMix64: spreads keys and fills values; the same seed gives the same numbers.
pub fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back() {
        let mut value = blank(20, 1);
        let filler = value[BYTES..].to_vec();
        put(&mut value, 123_456_789);
        assert_eq!(read(&value), Some(123_456_789));
        assert_eq!(value[BYTES..], filler);
        assert_eq!(read(&value[..7]), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |mut seed| [next_random(&mut seed), next_random(&mut seed)];
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }
}
