//! What a replica takes of an append while its journal has no room.
//!
//! Must not know how much room there is: its owner asks the journal. Deliberately absent: a way to make room, which
//! is draining what is committed.

use crate::message::{Body, Message};
use crate::replica::Replica;

impl Replica {
    /// The journal has no room: of an append only those entries are left that the log has already. So the replica
    /// stages nothing, and still says what it has and hears what is committed of it; only what is committed can be
    /// drained, and the journal may be full of nothing else. The leader sends the rest again.
    ///
    /// But a new leader commits what its predecessor has left only together with an entry of its own term. If all
    /// other replicas are away, that takes this one; and what is uncommitted here may be the very thing that holds on
    /// to the journal. So a log that ends in such entries takes what is new up to the first entry of the leader's
    /// term: that goes into the journal's reserve, once in a term.
    pub fn leave_out_what_is_new(&self, message: &mut Message) {
        let term = message.term;
        let Body::Append(append) = &mut message.body else {
            return;
        };
        let log = self.log();
        let indexes = append.prev_index.saturating_add(1)..;
        let known = append.entries.iter().zip(indexes);
        let known = known.take_while(|(entry, index)| log.term(*index) == Some(entry.term));
        let mut left = known.count();
        if log.commit() < log.last_index() && log.last_term() < term {
            let news = &append.entries[left..];
            let its_first = news.iter().position(|entry| entry.term == term);
            left += its_first.map_or(news.len(), |at| at + 1);
        }
        append.entries.truncate(left);
    }
}
