//! Zigzag varints, as records use them for every length, count and delta.

/// Reads a zigzag varint of at most 5 bytes; `None` if it breaks off or runs on.
pub(super) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    // Nearly all varints of real records fit one byte.
    if let [byte @ 0..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return Some(unzigzag(u64::from(*byte)) as i32);
    }
    // The fifth byte may carry bits above 32, which Kafka drops; so do we.
    take_unsigned(bytes, 5).map(|raw| unzigzag(u64::from(raw as u32)) as i32)
}

/// Reads a zigzag varint of at most 10 bytes; `None` if it breaks off or runs on.
pub(super) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    if let [byte @ 0..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return Some(unzigzag(u64::from(*byte)));
    }
    take_unsigned(bytes, 10).map(unzigzag)
}

fn take_unsigned(bytes: &mut &[u8], length_max: usize) -> Option<u64> {
    let mut number = 0u64;
    for (index, byte) in bytes.iter().take(length_max).enumerate() {
        // The tenth byte adds one bit; the shift drops the others, as in Kafka's readers.
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Some(number);
        }
    }
    None
}

const fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

const fn zigzag(number: i64) -> u64 {
    (number << 1) as u64 ^ (number >> 63) as u64
}

pub(super) fn put_i64(output: &mut Vec<u8>, number: i64) {
    let mut raw = zigzag(number);
    while raw >= 0x80 {
        output.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    output.push(raw as u8);
}

pub(super) fn put_i32(output: &mut Vec<u8>, number: i32) {
    put_i64(output, i64::from(number));
}

/// How many bytes `put_i64` appends for `number`.
pub(super) const fn size_i64(number: i64) -> usize {
    let bits = 64 - (zigzag(number) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

pub(super) const fn size_i32(number: i32) -> usize {
    size_i64(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_have_the_size_foretold() {
        let edges = (0..63).flat_map(|shift| [1i64 << shift, -(1i64 << shift), (1 << shift) - 1]);
        for number in edges.chain([i64::MIN, i64::MAX, i64::from(i32::MIN), i64::from(i32::MAX)]) {
            let mut bytes = Vec::new();
            put_i64(&mut bytes, number);
            assert_eq!(bytes.len(), size_i64(number), "{number}");
            assert_eq!(take_i64(&mut bytes.as_slice()), Some(number));
            if let Ok(small) = i32::try_from(number) {
                assert_eq!(size_i32(small), bytes.len());
                let mut rest = bytes.as_slice();
                assert_eq!(take_i32(&mut rest), Some(small));
                assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn overlong_and_broken_varints_are_refused() {
        assert_eq!(take_i32(&mut [0x80; 5].as_slice()), None);
        assert_eq!(take_i32(&mut [0x80, 0x80].as_slice()), None);
        assert_eq!(take_i32(&mut [].as_slice()), None);
        assert_eq!(take_i64(&mut [0xff; 11].as_slice()), None);
    }
}
