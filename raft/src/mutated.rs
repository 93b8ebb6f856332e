//! Known bugs, brought back one at a time for simulations that must find them ([`Mutation`]). Without one of them
//! nothing in here has any effect.

use crate::message::{Body, Message, to_raft};
use crate::open::Mutation;
use crate::replica::{Replica, Role};

/// The bug of a replica, if it has one.
#[derive(Default)]
pub(crate) struct Mutated {
    mutation: Option<Mutation>,
    /// The append that came before the newest one.
    last: Option<Box<Message>>,
}

impl Mutated {
    pub(crate) fn by(mutation: Option<Mutation>) -> Mutated {
        Mutated {
            mutation,
            last: None,
        }
    }

    pub(crate) fn acks_early(&self) -> bool {
        self.mutation == Some(Mutation::AckBeforeSync)
    }

    pub(crate) fn serves_early(&self) -> bool {
        self.mutation == Some(Mutation::ServeBeforeCommit)
    }

    pub(crate) fn believes_itself(&self) -> bool {
        self.mutation == Some(Mutation::ReadWithoutProof)
    }

    /// The append before this one, which is to come once more.
    pub(crate) fn repeats(&mut self, message: &Message) -> Option<Box<Message>> {
        let appends = match &message.body {
            Body::Append(append) => !append.entries.is_empty(),
            _ => false,
        };
        if self.mutation != Some(Mutation::StaleAppendTruncates) || !appends {
            return None;
        }
        self.last.replace(Box::new(message.clone()))
    }
}

impl Replica {
    /// Takes an append that was taken before as if all that it says were new.
    pub(crate) fn append_again(&mut self, stale: Option<Box<Message>>) {
        let Some(stale) = stale else { return };
        let log = &self.node.raft.raft_log;
        let Body::Append(append) = &stale.body else {
            return;
        };
        let fits = stale.term == self.node.raft.term
            && self.role() == Role::Follower
            && self.may_act()
            && append.prev_index >= log.committed
            && log.match_term(append.prev_index, append.prev_term);
        if !fits {
            return;
        }
        let prev_index = append.prev_index;
        let message = to_raft(*stale);
        self.guarded("a stale append", |node| {
            let log = &mut node.raft.raft_log;
            log.append(message.get_entries());
            log.persisted = log.persisted.min(prev_index);
        });
    }
}
