//! Asks in flight: what this core has asked owners and still awaits.

use super::mail::{Answer, AskId};
use runtime::oneshot;

/// The slots of a core's asks. A slot is reused under a new generation, so a late answer to an ask that was
/// given up finds nobody and is dropped.
#[derive(Default)]
pub struct AskSlots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    waiting: Option<oneshot::Sender<Answer>>,
}

impl AskSlots {
    /// Takes a slot; the answer comes out of the receiver.
    pub fn open(&mut self) -> (AskId, oneshot::Receiver<Answer>) {
        let (sender, receiver) = runtime::oneshot();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                waiting: None,
            });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        assert!(entry.waiting.is_none(), "slot {slot} is free and awaited");
        entry.waiting = Some(sender);
        (
            AskId {
                slot,
                generation: entry.generation,
            },
            receiver,
        )
    }

    /// Hands an answer to whoever awaits it.
    pub fn answer(&mut self, ask: AskId, answer: Answer) {
        if let Some(sender) = self.take(ask) {
            // Refused if the asker has just gone away: then nobody misses it.
            let _ = sender.send(answer);
        }
    }

    /// Gives an ask up.
    pub fn close(&mut self, ask: AskId) {
        self.take(ask);
    }

    /// Asks in flight.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&mut self, ask: AskId) -> Option<oneshot::Sender<Answer>> {
        let entry = self.slots.get_mut(ask.slot as usize)?;
        if entry.generation != ask.generation {
            return None;
        }
        let sender = entry.waiting.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(ask.slot);
        Some(sender)
    }
}
