//! Random bits from the kernel, a block at a time. Must not know what they are for.

use std::io;

/// Words per system call: a call costs about as much as copying 512 bytes.
const WORDS: usize = 64;

pub(crate) struct Entropy {
    block: [u64; WORDS],
    used: usize,
}

impl Entropy {
    pub(crate) fn new() -> Entropy {
        Entropy {
            block: [0; WORDS],
            used: WORDS,
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        if self.used == WORDS {
            self.refill();
        }
        // A word is forgotten once it is drawn.
        let word = std::mem::take(&mut self.block[self.used]);
        self.used += 1;
        word
    }

    fn refill(&mut self) {
        let size = size_of_val(&self.block);
        // SAFETY: `size` writable bytes. Requests up to 256 bytes are never cut short; for larger
        // ones a signal may, so the count is checked.
        let got = loop {
            let got = unsafe { libc::getrandom(self.block.as_mut_ptr().cast(), size, 0) };
            if got == size as isize {
                break got;
            }
            let error = io::Error::last_os_error();
            let cut_short = got >= 0 || error.kind() == io::ErrorKind::Interrupted;
            assert!(cut_short, "the kernel gives no random bits: {error}");
        };
        debug_assert_eq!(got, size as isize);
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_differ_across_refills() {
        let mut entropy = Entropy::new();
        let words: BTreeSet<u64> = (0..1000).map(|_| entropy.next()).collect();
        assert_eq!(words.len(), 1000);
    }
}
