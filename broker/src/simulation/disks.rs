//! What becomes of the disks of a cluster: replaced by empty ones, put back by mistake, damaged at rest.
//!
//! One node of a run loses what it had promised, at most: of three replicas two are left, and a cluster owes nothing
//! more to anybody. So a run has one disk that is wiped or damaged. A damaged node is judged by what it answers; whether
//! it starts is its own decision, and its operator may give it an empty disk in the end.

use super::cluster::{End, Fate, name};
use runtime::sim::DiskCopy;
use std::time::Duration;

/// The longest time for which a disk that was replaced is back.
const RETURNED_MS: u64 = 2_500;
const FLIPS_MAX: u64 = 3;

/// The disk of a node that is not what it was.
pub(super) struct Changed {
    pub index: usize,
    pub how: How,
}

#[derive(Clone, Debug)]
pub(super) enum How {
    /// Replaced by an empty one. The old one is kept in a drawer.
    Wiped {
        before: DiskCopy,
    },
    /// In the node is the old one, in the drawer the new one.
    Returned {
        own: DiskCopy,
    },
    Damaged,
}

impl Fate {
    /// The node comes back as another one of the same id.
    pub(super) fn wipe(&mut self, index: usize) {
        let node = self.members[index].node;
        if !self.may_change(index) || !self.lose_power_for_good(index) {
            return;
        }
        let before = self.sim.copy_disk(node);
        let how = How::Wiped { before };
        self.changed = Some(Changed { index, how });
        self.empty(index);
        self.start_later(index);
    }

    /// One disk of a run, and not that of a node that leaves.
    fn may_change(&self, index: usize) -> bool {
        self.changed.is_none() && !self.stage.is_to_leave(index)
    }

    fn empty(&mut self, index: usize) {
        self.sim.wipe_disk(self.members[index].node);
        self.members[index].is_another = true;
        self.members[index].starts_as_is = 0;
        self.forget_promises();
    }

    /// Somebody finds the disk that was replaced, and puts it in. It must not be let in, wherever it says that it is.
    pub(super) fn put_old_disk_in(&mut self) {
        let Some(Changed { index, how }) = &self.changed else {
            return;
        };
        let (index, How::Wiped { before }) = (*index, how.clone()) else {
            return;
        };
        // As long as the new one is not known, the old one is the node's.
        if self.members[index].starts_as_is == 0 || !self.lose_power_for_good(index) {
            return;
        }
        let node = self.members[index].node;
        let own = self.sim.copy_disk(node);
        self.sim.replace_disk(node, &before);
        let how = How::Returned { own };
        self.changed = Some(Changed { index, how });
        self.forget_promises();
        self.start(index);
        self.later(RETURNED_MS, End::OwnDisk);
    }

    pub(super) fn put_own_disk_in(&mut self) {
        let Some(Changed { index, how }) = self.changed.take() else {
            return;
        };
        let How::Returned { own } = how else {
            return;
        };
        if self.lose_power_for_good(index) {
            let node = self.members[index].node;
            let before = self.sim.copy_disk(node);
            self.sim.replace_disk(node, &own);
            self.tell(format!("{} has its own disk again", name(index)));
            let how = How::Wiped { before };
            self.changed = Some(Changed { index, how });
            self.start_later(index);
        }
    }

    /// Whether the node has a disk that others know to be replaced.
    pub(super) fn has_old_disk(&self, index: usize) -> bool {
        let is_old = |changed: &Changed| {
            changed.index == index && matches!(changed.how, How::Returned { .. })
        };
        self.changed.as_ref().is_some_and(is_old)
    }

    pub(super) fn is_damaged(&self, index: usize) -> bool {
        let damaged =
            |changed: &Changed| changed.index == index && matches!(changed.how, How::Damaged);
        self.changed.as_ref().is_some_and(damaged)
    }

    pub(super) fn flip_bits(&mut self, index: usize) {
        if !self.may_change(index) || !self.lose_power_for_good(index) {
            return;
        }
        let node = self.members[index].node;
        let files = self.sim.durable_files(node);
        let sizes = files.iter().map(|path| self.sim.durable_len(node, path));
        let sizes: Vec<u64> = sizes.map(|bytes| bytes.unwrap_or(0)).collect();
        if sizes.iter().all(|bytes| *bytes == 0) {
            return self.start_later(index);
        }
        let mut flips = 1 + self.draw.below(FLIPS_MAX);
        while flips > 0 {
            let file = self.draw.below(files.len() as u64) as usize;
            if sizes[file] == 0 {
                continue;
            }
            let (offset, bit) = (self.draw.below(sizes[file]), self.draw.below(8) as u8);
            if self.sim.flip_bit(node, &files[file], offset, bit) {
                let path = files[file].display();
                self.tell(format!("bit {bit} of byte {offset} of {path} is flipped"));
                flips -= 1;
            }
        }
        let how = How::Damaged;
        self.changed = Some(Changed { index, how });
        self.members[index].starts_as_is = 0;
        self.forget_promises();
        self.start_later(index);
    }

    /// Whoever looks after a damaged node gives it an empty disk: always if it did not start, else sometimes.
    pub(super) fn replace_damaged(&mut self) {
        let damaged = (0..self.members.len()).find(|index| self.is_damaged(*index));
        let Some(index) = damaged else { return };
        let node = self.members[index].node;
        let has_started = self.members[index].starts_as_is > 0 && !self.sim.is_done(node);
        // A replica that a damaged node keeps to itself cannot be moved for a node that leaves.
        let may_stay = has_started && self.stage.leaver.get().is_none();
        if may_stay && self.draw.below(2) == 0 {
            self.stage.history().count("damaged nodes go on");
            return self.stage.damaged.set(Some(index));
        }
        self.replace_damaged_one(index);
    }

    pub(super) fn replace_damaged_one(&mut self, index: usize) {
        if self.lose_power_for_good(index) {
            self.stage.damaged.set(None);
            self.changed = None;
            self.empty(index);
            self.tell(format!("{} gets an empty disk", name(index)));
            self.stage.history().count("damaged nodes are replaced");
            // Its peers take it for alive until they miss it.
            self.run_for(Duration::from_millis(1));
            self.start_later(index);
        }
    }

    /// What was promised until now may have been promised by a disk that is gone.
    fn forget_promises(&self) {
        let now_us = self.sim.now().0 / 1_000;
        self.stage.wiped_us.set(Some(now_us));
    }

    /// False if it did not end at once.
    fn lose_power_for_good(&self, index: usize) -> bool {
        let node = self.members[index].node;
        self.sim.crash(node);
        self.sim.is_done(node)
    }
}
