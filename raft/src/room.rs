//! What a replica takes of an append when its journal has little room, or none.
//!
//! Must not know how much room there is: its owner asks the journal. Deliberately absent: a way to make room, which
//! is draining what is committed.

use crate::message::{Body, Message};
use crate::replica::Replica;

/// Room that an entry takes beside its data, at most.
const ENTRY_OVERHEAD_BYTES: u64 = 128;

impl Replica {
    /// The journal has room for so many bytes more: of an append only those entries are left that the log has already,
    /// and as many new ones as fit. So the replica stages all that it takes, says what it has and hears what is committed
    /// of it; only what is committed can be drained, and the journal may be full of nothing else. The leader sends the
    /// rest again. Gives the bytes that the new ones take. `at_least` so many are taken even if they do not fit: a journal
    /// that is young grows by what it is asked for.
    ///
    /// But a new leader commits what its predecessor has left only together with an entry of its own term. If all
    /// other replicas are away, that takes this one; and what is uncommitted here may be the very thing that holds on
    /// to the journal. So a log that ends in entries which the leader does not call committed takes what is new up to the
    /// first entry of the leader's term, room or not: that goes into the journal's reserve, once in a term. And one that
    /// ends in entries which the leader does not have takes one that replaces them.
    pub fn leave_out_what_does_not_fit(
        &self,
        message: &mut Message,
        room_bytes: u64,
        at_least: usize,
    ) -> u64 {
        let term = message.term;
        let Body::Append(append) = &mut message.body else {
            return 0;
        };
        let log = self.log();
        let indexes = append.prev_index.saturating_add(1)..;
        let known = append.entries.iter().zip(indexes);
        let known = known.take_while(|(entry, index)| log.term(*index) == Some(entry.term));
        let known = known.count();
        let news = &append.entries[known..];
        let mut needed = at_least;
        let last = log.last_index();
        if !news.is_empty() && append.prev_index.saturating_add(known as u64) < last {
            needed = needed.max(1);
        }
        // A log that catches up with a long history ends in an old term, too: what it has is committed, and room comes
        // by draining it.
        if log.commit().max(append.commit) < last && log.last_term() < term {
            let its_first = news.iter().position(|entry| entry.term == term);
            needed = needed.max(its_first.map_or(news.len(), |at| at + 1));
        }
        let (mut taken, mut bytes) = (0, 0);
        for entry in news {
            let with_it = bytes + entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES;
            if taken >= needed && with_it > room_bytes {
                break;
            }
            (taken, bytes) = (taken + 1, with_it);
        }
        append.entries.truncate(known + taken);
        bytes
    }
}
