//! The turn: decide all that has arrived, then write once, sync once, answer once (law 5).
//!
//! While a turn's write is on its way to the disk, new mail is decided and staged into the next one. So the
//! batch grows with the load by itself, and an idle core waits for nothing.

use super::Shard;
use runtime::timeout;
use std::rc::Rc;
use std::time::Duration;
use storage::{JournalWrite, JournalWritten};

/// How often a turn that found the disk full is tried again.
const FULL_DISK_RETRY: Duration = Duration::from_millis(250);

/// Passes turns for as long as the core runs.
pub async fn run(shard: Rc<Shard>) {
    loop {
        shard.work.wait().await;
        // Everything that is ready now, mail and completions included, gets into this turn.
        shard.core.yield_now().await;
        while turn(&shard).await {
            shard.core.yield_now().await;
        }
    }
}

/// One turn. False if nothing is left to do.
async fn turn(shard: &Rc<Shard>) -> bool {
    let started = shard.core.now();
    let (write, more) = {
        let mut owned = shard.owned.borrow_mut();
        owned.pass(started, shard.core.wall_ms());
        (owned.journal.seal(), owned.replicas.wants_pass())
    };
    shard.metrics.borrow_mut().pass(shard.core.now() - started);
    shard.after_pass();
    let Some(write) = write else { return more };
    let written = write_out(shard, write).await;
    shard.owned.borrow_mut().written(written);
    let took = shard.core.now() - started;
    shard.metrics.borrow_mut().turn(took);
    true
}

/// Writes a turn. On a full disk it waits for room: what was accepted is neither lost nor acknowledged meanwhile,
/// and nothing new is accepted.
async fn write_out(shard: &Rc<Shard>, mut write: JournalWrite) -> JournalWritten {
    let mut told = false;
    loop {
        match write.try_run().await {
            Ok(written) => return written,
            Err(held) => write = held,
        }
        shard.owned.borrow_mut().hold(shard.core.wall_ms());
        if !told {
            tracing::error!("the disk is full: writes wait, reads go on; free some space");
            told = true;
        }
        pass_meanwhile(shard).await;
    }
}

/// The node goes on to take part while a turn waits for room: leads are handed over, and the leaders elsewhere hear
/// that it lives. What is staged meanwhile leaves with the next turn, and what promises something about this disk waits
/// for it.
async fn pass_meanwhile(shard: &Rc<Shard>) {
    let until = shard.core.now() + FULL_DISK_RETRY;
    loop {
        let left = until - shard.core.now();
        let work = timeout(&shard.core, left, shard.work.wait()).await;
        if left.is_zero() || work.is_err() {
            return;
        }
        shard.core.yield_now().await;
        let now = shard.core.now();
        shard.owned.borrow_mut().pass(now, shard.core.wall_ms());
        shard.after_pass();
    }
}

impl Shard {
    /// What a pass made possible: waiting fetches are looked at, views are acknowledged, background work is told.
    fn after_pass(self: &Rc<Shard>) {
        self.flush_peers();
        self.start_reads();
        self.look_at_watches();
        self.acknowledge_views();
        self.note_deadline();
        self.begin_logs_anew();
        self.background.look(&mut self.owned.borrow_mut());
    }
}
