//! A running hash over all that is scheduled: two runs with one hash did the same things.

use super::random::scramble;

#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
}

impl Trace {
    /// Takes in one event: when, what kind, and which one.
    pub(crate) fn note(&mut self, now: u64, kind: &str, which: u64) {
        let mut hash = self.hash;
        for word in [now, which] {
            hash = scramble(hash ^ word);
        }
        for byte in kind.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.hash = hash;
        self.events += 1;
    }

    pub(crate) fn hash(self) -> u64 {
        scramble(self.hash ^ self.events)
    }

    pub(crate) fn events(self) -> u64 {
        self.events
    }
}
