//! The messages of one partition on their way: what is sent when, to whom, and how often. Knows no
//! clock and no connection.

use protocol::records::advance_sequence;

/// Messages that are sent together, and again and again until they are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Sequence number of its first message.
    pub sequence: i32,
    pub messages: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Sent to this node, and not answered.
    Sent(i32),
    /// To be sent again at this time, or as soon as there is another leader.
    Pausing(u64),
}

/// One partition.
#[derive(Debug, Default)]
pub struct Stream {
    /// Messages that are in no batch yet.
    waiting: u32,
    next_sequence: i32,
    batch: Option<(Batch, State)>,
    /// Node and epoch.
    leader: Option<(i32, i32)>,
    /// Messages acknowledged in all.
    pub acked: u64,
}

impl Stream {
    /// One more message is meant to leave.
    pub fn push(&mut self) {
        self.waiting += 1;
    }

    pub fn leader(&self) -> Option<i32> {
        self.leader.map(|(node, _)| node)
    }

    /// Whether everything is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && self.batch.is_none()
    }

    /// The node to which something would be sent now.
    pub fn wants(&self, now_ns: u64) -> Option<i32> {
        let ready = match self.batch {
            None => self.waiting > 0,
            Some((_, State::Ready)) => true,
            Some((_, State::Pausing(until_ns))) => until_ns <= now_ns,
            Some((_, State::Sent(_))) => false,
        };
        self.leader().filter(|_| ready)
    }

    /// What is sent now: the batch that is not acknowledged, or a new one of at most
    /// `messages_max`.
    pub fn take(&mut self, now_ns: u64, messages_max: u32) -> Option<Batch> {
        let node = self.wants(now_ns)?;
        let batch = match self.batch {
            Some((batch, _)) => batch,
            None => {
                let messages = self.waiting.min(messages_max);
                let sequence = self.next_sequence;
                self.waiting -= messages;
                self.next_sequence = advance_sequence(sequence, messages as i32);
                Batch { sequence, messages }
            }
        };
        self.batch = Some((batch, State::Sent(node)));
        Some(batch)
    }

    /// The batch that is under way was acknowledged.
    pub fn acknowledged(&mut self) {
        if let Some((batch, _)) = self.batch.take() {
            self.acked += u64::from(batch.messages);
        }
    }

    /// The batch has to be sent again, not before `again_ns` unless another leader is known then.
    pub fn refused(&mut self, again_ns: u64) {
        if let Some((_, state)) = &mut self.batch {
            *state = State::Pausing(again_ns);
        }
    }

    /// The connection to `node` is gone, and with it the answer if the batch was sent there. Says
    /// whether it was.
    pub fn lost(&mut self, node: i32, again_ns: u64) -> bool {
        let was_sent = matches!(self.batch, Some((_, State::Sent(to))) if to == node);
        if was_sent {
            self.refused(again_ns);
        }
        was_sent
    }

    /// When a pause ends.
    pub fn pauses_until(&self) -> Option<u64> {
        match self.batch {
            Some((_, State::Pausing(until_ns))) => Some(until_ns),
            _ => None,
        }
    }

    /// Whether somebody ought to find out who leads.
    pub fn wants_news(&self) -> bool {
        self.leader.is_none() || self.pauses_until().is_some()
    }

    /// Somebody said who leads. An older epoch than the one that is known is old news. Says
    /// whether something may be sent now that could not be sent before.
    pub fn led_by(&mut self, node: i32, epoch: i32) -> bool {
        let is_news = node >= 0 && self.leader.is_none_or(|(_, known)| epoch > known);
        if !is_news {
            return false;
        }
        self.leader = Some((node, epoch));
        if let Some((_, state @ State::Pausing(_))) = &mut self.batch {
            *state = State::Ready;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led() -> Stream {
        let mut stream = Stream::default();
        assert!(stream.wants_news());
        assert!(stream.led_by(1, 5));
        stream
    }

    #[test]
    fn one_batch_is_under_way_at_a_time() {
        let mut stream = led();
        (0..5).for_each(|_| stream.push());
        let (sequence, messages) = (0, 3);
        assert_eq!(stream.take(0, 3), Some(Batch { sequence, messages }));
        assert_eq!(stream.take(0, 3), None);
        stream.acknowledged();
        let (sequence, messages) = (3, 2);
        assert_eq!(stream.take(0, 3), Some(Batch { sequence, messages }));
        stream.acknowledged();
        assert!(stream.is_idle());
        assert_eq!((stream.acked, stream.take(0, 3)), (5, None));
    }

    #[test]
    fn what_was_refused_is_sent_again_as_it_was() {
        let mut stream = led();
        stream.push();
        let first = stream.take(0, 9);
        stream.push();
        stream.refused(100);
        assert_eq!(
            (stream.take(99, 9), stream.pauses_until()),
            (None, Some(100))
        );
        assert!(stream.wants_news());
        assert_eq!(stream.take(100, 9), first, "the message after it waits");
        assert_eq!(stream.acked, 0);
    }

    #[test]
    fn another_leader_ends_the_pause() {
        let mut stream = led();
        stream.push();
        let first = stream.take(0, 9);
        assert!(!stream.lost(2, 50), "it was sent to another node");
        assert!(stream.lost(1, 50));
        assert!(!stream.led_by(1, 5), "that is known");
        assert!(!stream.led_by(3, 4), "an older epoch");
        assert!(!stream.led_by(-1, 6), "nobody leads");
        assert_eq!(stream.take(0, 9), None);
        assert!(stream.led_by(2, 6));
        assert_eq!((stream.wants(0), stream.take(0, 9)), (Some(2), first));
        assert!(!stream.wants_news());
    }

    #[test]
    fn a_new_leader_does_not_take_back_what_is_under_way() {
        let mut stream = led();
        stream.push();
        stream.take(0, 9);
        assert!(stream.led_by(2, 6));
        assert_eq!(stream.take(0, 9), None, "the old leader has not answered");
        assert!(stream.lost(1, 0));
        assert!(stream.take(0, 9).is_some());
    }
}
