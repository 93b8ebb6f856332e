//! All the replicas of a core.
//!
//! The caller changes replicas through [`Replicas::get_mut`], which puts them on the dirty list,
//! and once per turn makes a [`Replicas::pass`] over that list: what they have decided goes into
//! the journal's open turn and into the outputs. When the journal says how far it is durable,
//! [`Replicas::persisted`] confirms every replica that had a share in those turns.
//!
//! A replica that nobody touched costs nothing: it is not visited, not ticked unless it has peers
//! and is awake ([`crate::sleep`]), and owns no timer. All orders here are the order of arrival, so
//! that a run can be replayed.
//!
//! # What the owner does for nodes
//!
//! Groups that sleep detect no failures; the owner does, once per node:
//!
//! - the link to a node was reset: [`Replicas::peer_lost`]; it is there again:
//!   [`Replicas::peer_back`];
//! - nothing was heard from a node for some time (nodes ask each other when they have nothing else
//!   to say): [`Replicas::peer_silent`] on the core that hears nothing, and the groups that it leads
//!   look for another leader; [`Replicas::peer_unheard`] on all cores until [`Replicas::peer_heard`] if
//!   it is the node as a whole, and leaders count who is left.
//!   [`Replicas::wake_with`] wakes all groups with a member there, to find out by their own means.
//!
//! This module must not know what a partition is for. Deliberately absent: time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;

use crate::catch_up::CatchUp;
use crate::heartbeats::{Beat, BeatFrame};
use crate::members::ReplicaId;
use crate::message::Message;
use crate::ready::Outputs;
use crate::refusal::StepError;
use crate::replica::Replica;
use storage::{Entry, Journal, Log, PartitionId};

/// The replicas of one core. See the module's head.
#[derive(Default)]
pub struct Replicas {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Never iterated.
    by_partition: HashMap<PartitionId, usize, BuildHasherDefault<PartitionHasher>>,
    /// Slots to visit in the next pass, in order of arrival; each once.
    dirty: Vec<usize>,
    /// Slots whose replicas the journal had no room for; each pass tries them again, first.
    choked: Vec<usize>,
    /// Slots whose replicas wait for time to pass.
    ticking: BTreeSet<usize>,
    /// Nodes that are known to be lost.
    away: BTreeSet<i32>,
    /// Nodes of which nothing is heard, whatever their links say.
    unheard: BTreeSet<i32>,
    /// The node has no room for what a leader would get.
    hesitates: bool,
    /// Journal turns that are not durable, oldest first, and who has a share in them.
    turns: VecDeque<Turn>,
    /// Emptied lists of shares, to be used again.
    spare: Vec<Vec<Share>>,
}

#[derive(Default)]
struct Slot {
    replica: Option<Box<Replica>>,
    /// Tells the replicas apart that used this slot one after the other.
    generation: u64,
    /// The last Ready that was confirmed and that the replica was not told of yet (0: none).
    confirmed: u64,
    dirty: bool,
}

struct Turn {
    number: u64,
    shares: Vec<Share>,
}

/// A Ready that was staged in a turn.
struct Share {
    slot: usize,
    generation: u64,
    ready: u64,
}

/// A message for a partition that has no replica on this core, or one that its replica refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeliverError {
    #[error("no replica of this partition is here")]
    Absent,
    #[error(transparent)]
    Step(#[from] StepError),
}

impl Replicas {
    pub fn new() -> Replicas {
        Replicas::default()
    }

    /// Takes a replica in; it is visited by the next pass. A partition has one replica on a core.
    pub fn insert(&mut self, replica: Replica) {
        let partition = replica.partition();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let before = self.by_partition.insert(partition, slot);
        assert!(
            before.is_none(),
            "{partition:?} has a replica in slot {before:?} already"
        );
        self.slots[slot].replica = Some(Box::new(replica));
        self.mark(slot);
        self.note_ticking(slot);
    }

    /// Gives a replica back. What it staged and was not confirmed stays unconfirmed for ever.
    pub fn remove(&mut self, partition: PartitionId) -> Option<Replica> {
        let slot = self.by_partition.remove(&partition)?;
        self.ticking.remove(&slot);
        self.slots[slot].generation += 1;
        self.slots[slot].confirmed = 0;
        self.free.push(slot);
        self.slots[slot].replica.take().map(|replica| *replica)
    }

    pub fn len(&self) -> usize {
        self.by_partition.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_partition.is_empty()
    }

    pub fn get(&self, partition: PartitionId) -> Option<&Replica> {
        self.slots[*self.by_partition.get(&partition)?]
            .replica
            .as_deref()
    }

    /// The replica, to be changed: the next pass visits it.
    pub fn get_mut(&mut self, partition: PartitionId) -> Option<&mut Replica> {
        let slot = *self.by_partition.get(&partition)?;
        self.mark(slot);
        self.slots[slot].replica.as_deref_mut()
    }

    /// The caller has applied everything up to `index`: see [`Replica::applied`]. Unlike
    /// [`Replicas::get_mut`], this makes no work for the next pass unless there is some.
    pub fn applied(&mut self, partition: PartitionId, index: u64) {
        let Some(slot) = self.by_partition.get(&partition).copied() else {
            return;
        };
        let Some(replica) = self.slots[slot].replica.as_deref_mut() else {
            return;
        };
        replica.applied(index);
        if replica.wants_collect() {
            self.mark(slot);
        }
    }

    /// The replica's log, for reads and upkeep, which give the next pass nothing to do.
    pub fn log_mut(&mut self, partition: PartitionId) -> Option<&mut Log> {
        let slot = *self.by_partition.get(&partition)?;
        self.slots[slot]
            .replica
            .as_deref_mut()
            .map(Replica::log_mut)
    }

    /// All replicas, in a stable order.
    pub fn iter(&self) -> impl Iterator<Item = &Replica> {
        self.slots.iter().filter_map(|slot| slot.replica.as_deref())
    }

    /// Those that wait for time to pass, in the same order: in the others nothing happens.
    pub fn awake(&self) -> impl Iterator<Item = &Replica> {
        let slots = self.ticking.iter().map(|slot| &self.slots[*slot]);
        slots.filter_map(|slot| slot.replica.as_deref())
    }

    /// All logs, in the same order.
    pub fn logs_mut(&mut self) -> impl Iterator<Item = &mut Log> {
        self.slots
            .iter_mut()
            .filter_map(|slot| slot.replica.as_deref_mut())
            .map(Replica::log_mut)
    }

    /// Hands a peer's message to its replica.
    pub fn step(&mut self, partition: PartitionId, message: Message) -> Result<(), DeliverError> {
        let replica = self.get_mut(partition).ok_or(DeliverError::Absent)?;
        Ok(replica.step(message)?)
    }

    /// Hands a frame of heartbeats out to the replicas; returns how many found none or were
    /// refused.
    pub fn step_beats(&mut self, frame: BeatFrame) -> usize {
        let (from, to) = (frame.from, frame.to);
        let step = |beat: Beat| {
            self.step(beat.partition, beat.into_message(from, to))
                .is_err()
        };
        frame
            .beats
            .into_iter()
            .map(step)
            .filter(|refused| *refused)
            .count()
    }

    /// Messages to this peer are known to be lost. Visits every replica that has peers.
    pub fn unreachable(&mut self, peer: ReplicaId) {
        let affected: Vec<usize> = self.ticking.iter().copied().collect();
        for slot in affected {
            self.mark(slot);
            if let Some(replica) = &mut self.slots[slot].replica {
                replica.unreachable(peer);
            }
        }
    }

    /// Gives entries back that were read for a follower: see [`Replica::fetched`].
    pub fn fetched(&mut self, partition: PartitionId, read: &CatchUp, entries: Vec<Entry>) {
        if let Some(replica) = self.get_mut(partition) {
            replica.fetched(read, entries);
        }
    }

    /// The node is lost, probably: the link to it was reset. The groups that it led look for another
    /// leader at once; leaders with members there beat once more, in case that it is only the link,
    /// and wait for it no longer until [`Replicas::peer_back`]. To say it again while the node is
    /// away disturbs nobody but those that it leads.
    pub fn peer_lost(&mut self, node: i32) {
        let news = self.away.insert(node);
        self.change_with(node, |replica| replica.peer_lost(node, news));
    }

    /// The node can be reached again: its groups wake, to bring it up if it lags.
    pub fn peer_back(&mut self, node: i32) {
        self.away.remove(&node);
        self.wake_with(node);
    }

    /// Wakes the groups that have a member on the node.
    pub fn wake_with(&mut self, node: i32) {
        self.change_with(node, Replica::wake);
    }

    /// Nothing has come from the node to this core for a while, though no link was reset: it froze, or
    /// is cut off, or the core that speaks to this one stands still. Followers of leaders there look
    /// for another one, soon.
    pub fn peer_silent(&mut self, node: i32) {
        self.change_with(node, |replica| replica.alarm(node));
    }

    /// Nothing was heard from the node for a while, on no core. Followers do as for
    /// [`Replicas::peer_silent`]. A leader that hears from less than a majority of its voters resigns:
    /// it cannot commit, and its clients wait for nothing.
    pub fn peer_unheard(&mut self, node: i32) {
        self.unheard.insert(node);
        let gone: BTreeSet<i32> = self.unheard.union(&self.away).copied().collect();
        self.change_with(node, |replica| {
            replica.alarm(node);
            replica.resign_without_majority(&gone);
        });
    }

    /// The node is heard again.
    pub fn peer_heard(&mut self, node: i32) {
        self.unheard.remove(&node);
    }

    /// Whether the node is heard, as far as is known.
    pub fn is_heard(&self, node: i32) -> bool {
        !self.unheard.contains(&node) && !self.away.contains(&node)
    }

    /// From now on the replicas here leave campaigns to others, or not any more: see [`Replica::tick`].
    pub fn hesitate(&mut self, hesitates: bool) {
        self.hesitates = hesitates;
    }

    /// Changes every replica whose group has a member on the node.
    fn change_with(&mut self, node: i32, mut change: impl FnMut(&mut Replica)) {
        for slot in 0..self.slots.len() {
            let Some(replica) = &mut self.slots[slot].replica else {
                continue;
            };
            if replica.members().has_node(node) {
                change(replica);
                self.mark(slot);
                self.note_ticking(slot);
            }
        }
    }

    /// Lets time pass for every replica that has peers and is awake.
    pub fn tick(&mut self) {
        let Replicas {
            slots,
            dirty,
            ticking,
            away,
            hesitates,
            ..
        } = self;
        ticking.retain(|slot| {
            let place = &mut slots[*slot];
            let Some(replica) = &mut place.replica else {
                return false;
            };
            if replica.tick(away, *hesitates) && !mem::replace(&mut place.dirty, true) {
                dirty.push(*slot);
            }
            replica.wants_ticks()
        });
    }

    /// Whether [`Replicas::tick`] has anything to do.
    pub fn wants_ticks(&self) -> bool {
        !self.ticking.is_empty()
    }

    /// Whether [`Replicas::pass`] has anything to do, apart from trying those again that the
    /// journal had no room for.
    pub fn wants_pass(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Collects every dirty replica: into the journal's open turn, and into `out`. Returns whether
    /// something was staged that somebody waits for, so that the journal should be sealed.
    pub fn pass(&mut self, journal: &mut Journal, out: &mut Outputs) -> bool {
        let turn = journal.staged_turn();
        let mut staged = false;
        for slot in mem::take(&mut self.choked) {
            self.mark(slot);
        }
        let mut dirty = mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let place = &mut self.slots[slot];
            place.dirty = false;
            let generation = place.generation;
            let Some(replica) = &mut place.replica else {
                continue;
            };
            // Told only now, so that a replica is visited once per pass: with many of them, to
            // fetch one into the cache costs more than what is done with it.
            match mem::take(&mut place.confirmed) {
                0 => {}
                ready => replica.persisted(ready),
            }
            let collected = replica.collect(journal, out);
            if let Some(ready) = collected.staged {
                staged = true;
                self.share(
                    turn,
                    Share {
                        slot,
                        generation,
                        ready,
                    },
                );
            }
            if collected.more {
                self.mark(slot);
            } else if collected.journal_full {
                self.choked.push(slot);
            }
            self.note_ticking(slot);
        }
        // What was marked meanwhile goes first next time; the larger list's memory is kept.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        assert_eq!(
            turn,
            journal.staged_turn(),
            "the journal's turn changed within a pass"
        );
        staged
    }

    fn share(&mut self, turn: u64, share: Share) {
        match self.turns.back_mut() {
            Some(last) if last.number == turn => last.shares.push(share),
            last => {
                let before = last.map(|last| last.number);
                assert!(before < Some(turn), "turn {turn} follows turn {before:?}");
                let mut shares = self.spare.pop().unwrap_or_default();
                shares.push(share);
                self.turns.push_back(Turn {
                    number: turn,
                    shares,
                });
            }
        }
    }

    /// Everything that was staged up to and in this turn of the journal is on stable storage. The
    /// next pass gives the commits and messages that waited for it.
    pub fn persisted(&mut self, durable_turn: u64) {
        while self
            .turns
            .front()
            .is_some_and(|turn| turn.number <= durable_turn)
        {
            let Some(mut turn) = self.turns.pop_front() else {
                break;
            };
            for share in turn.shares.drain(..) {
                let place = &mut self.slots[share.slot];
                if place.generation == share.generation {
                    place.confirmed = share.ready;
                    self.mark(share.slot);
                }
            }
            self.spare.push(turn.shares);
        }
    }

    /// The journal has failed: nothing here can promise anything any more. Not to be retried, since
    /// nobody knows what a failed sync has left on the disk.
    pub fn journal_failed(&mut self, reason: &str) {
        self.turns.clear();
        for slot in 0..self.slots.len() {
            self.slots[slot].confirmed = 0;
            if let Some(replica) = &mut self.slots[slot].replica {
                replica.fence(format!("the journal failed: {reason}"));
                self.mark(slot);
            }
        }
    }

    fn mark(&mut self, slot: usize) {
        if !mem::replace(&mut self.slots[slot].dirty, true) {
            self.dirty.push(slot);
        }
    }

    fn note_ticking(&mut self, slot: usize) {
        let wants = self.slots[slot]
            .replica
            .as_ref()
            .is_some_and(|replica| replica.wants_ticks());
        if wants {
            self.ticking.insert(slot);
        } else if !self.ticking.is_empty() {
            self.ticking.remove(&slot);
        }
    }
}

/// Fixed, so that nothing depends on a process's luck. Topic ids are random numbers of our own
/// making, so nobody can choose keys that collide.
#[derive(Default)]
struct PartitionHasher(u64);

impl Hasher for PartitionHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(29) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }

    fn write_u128(&mut self, value: u128) {
        self.write_u64(value as u64);
        self.write_u64((value >> 64) as u64);
    }
}
