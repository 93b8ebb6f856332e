//! How much a leader has proposed and not seen committed.
//!
//! Must not know entries. Deliberately absent: an exact count, which would need a list of them.

use std::mem;

use crate::refusal::ProposeError;

/// Payload bytes between the commit index and the end of a leader's log, in constant space: bytes
/// are released in two generations, so the count is never too low and at most two windows late.
#[derive(Default)]
pub(crate) struct Backlog {
    bytes_max: u64,
    older: u64,
    /// The last index that `older` counts.
    older_until: u64,
    newer: u64,
}

impl Backlog {
    pub(crate) fn new(bytes_max: u64) -> Backlog {
        Backlog {
            bytes_max,
            ..Backlog::default()
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.older + self.newer
    }

    pub(crate) fn admit(&self, bytes: u64) -> Result<(), ProposeError> {
        let held = self.bytes();
        if held > 0 && held.saturating_add(bytes) > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(ProposeError::TooMuchUncommitted {
                bytes: held,
                bytes_max,
            });
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, index: u64, bytes: u64) {
        if self.older == 0 {
            self.older = mem::take(&mut self.newer) + bytes;
            self.older_until = index;
        } else {
            self.newer += bytes;
        }
    }

    pub(crate) fn committed(&mut self, index: u64, last_index: u64) {
        if index >= last_index {
            self.clear();
        } else if index >= self.older_until {
            self.older = mem::take(&mut self.newer);
            self.older_until = last_index;
        }
    }

    pub(crate) fn clear(&mut self) {
        (self.older, self.newer, self.older_until) = (0, 0, 0);
    }
}
