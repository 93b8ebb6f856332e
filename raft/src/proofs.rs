//! What waits for a proof of the lead (`confirm`).
//!
//! Must not know what it is that waits, nor when it has waited for too long.

use std::collections::VecDeque;

/// What may be done once a majority has confirmed that this replica led when it came, in the order in which it came.
///
/// The numbers are those of [`Replica::confirm_lead`](crate::Replica::confirm_lead) of one replica; as they grow, a
/// proof is one for all that came before, too.
#[derive(Debug)]
pub struct Proofs<T> {
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    /// The proof is there.
    proved: bool,
    /// What is to be applied first.
    index: u64,
    what: T,
}

impl<T> Default for Proofs<T> {
    fn default() -> Proofs<T> {
        Proofs {
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Proofs<T> {
    /// Waits for the proof of that number, and until everything up to `index` is applied (0: for nothing).
    pub fn push(&mut self, number: u64, index: u64, what: T) {
        self.waiting.push_back(Waiting {
            number,
            proved: false,
            index,
            what,
        });
    }

    /// The proof of that number is there: what was committed when it was asked for has to be applied, too.
    pub fn confirmed(&mut self, number: u64, index: u64) {
        let waiting = self.waiting.iter_mut();
        for one in waiting.take_while(|one| one.number <= number) {
            // Of an earlier proof, what was committed then is enough.
            if !std::mem::replace(&mut one.proved, true) {
                one.index = one.index.max(index);
            }
        }
    }

    /// The oldest, if it need not wait any more.
    pub fn take_ready(&mut self, applied: u64) -> Option<T> {
        let oldest = self.waiting.front()?;
        if !oldest.proved || oldest.index > applied {
            return None;
        }
        self.waiting.pop_front().map(|one| one.what)
    }

    /// Gives up on the oldest, for as long as they are such.
    pub fn take_while(&mut self, gone: impl Fn(&T) -> bool) -> impl Iterator<Item = T> {
        let gone = self.waiting.partition_point(|one| gone(&one.what));
        self.waiting.drain(..gone).map(|one| one.what)
    }

    /// Gives up on all of them.
    pub fn take_all(&mut self) -> impl Iterator<Item = T> {
        self.waiting.drain(..).map(|one| one.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready<T>(proofs: &mut Proofs<T>, applied: u64) -> Vec<T> {
        std::iter::from_fn(|| proofs.take_ready(applied)).collect()
    }

    #[test]
    fn what_was_committed_when_it_came_is_applied_first() {
        let mut proofs = Proofs::default();
        for number in 1..=3 {
            proofs.push(number, 0, number);
        }
        assert!(ready(&mut proofs, u64::MAX).is_empty(), "nothing is proved");
        proofs.confirmed(2, 10);
        assert!(ready(&mut proofs, 9).is_empty(), "10 is not applied");
        assert_eq!(ready(&mut proofs, 10), [1, 2]);
        proofs.confirmed(3, 12);
        assert_eq!(proofs.take_all().collect::<Vec<_>>(), [3]);
    }

    /// A leader that stops once answered that a config has its value already; the change that had set it was never
    /// proposed. (Seed 27648 of three nodes.)
    #[test]
    fn what_it_was_decided_on_is_applied_first() {
        let mut proofs = Proofs::default();
        for (number, index) in [(1, 0), (2, 12), (3, 12)] {
            proofs.push(number, index, number);
        }
        proofs.confirmed(2, 10);
        assert_eq!(ready(&mut proofs, 11), [1], "12 is not applied");
        proofs.confirmed(3, 13);
        assert_eq!(ready(&mut proofs, 12), [2]);
        assert_eq!(ready(&mut proofs, 13), [3]);
    }

    #[test]
    fn an_earlier_proof_is_not_made_later() {
        let mut proofs = Proofs::default();
        proofs.push(1, 0, "first");
        proofs.push(2, 0, "second");
        proofs.confirmed(1, 5);
        proofs.confirmed(2, 9);
        assert_eq!(ready(&mut proofs, 5), ["first"]);
    }

    #[test]
    fn those_that_have_waited_too_long_go_first() {
        let mut proofs = Proofs::default();
        for deadline in [3, 5, 9] {
            proofs.push(deadline, 0, deadline);
        }
        assert_eq!(proofs.take_while(|deadline| *deadline <= 5).count(), 2);
        proofs.confirmed(9, 1);
        assert_eq!(ready(&mut proofs, 1), [9]);
    }
}
