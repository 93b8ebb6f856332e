//! The turn: decide all that has arrived, then write once, sync once, answer once (law 5).
//!
//! While a turn's write is on its way to the disk, new mail is decided and staged into the next one. So the
//! batch grows with the load by itself, and an idle core waits for nothing.

use super::Shard;
use std::rc::Rc;

/// Passes turns for as long as the core runs.
pub async fn run(shard: Rc<Shard>) {
    loop {
        shard.work.wait().await;
        // Everything that is ready now, mail and completions included, gets into this turn.
        shard.core.yield_now().await;
        while turn(&shard).await {}
    }
}

/// One turn. False if nothing is left to do.
async fn turn(shard: &Rc<Shard>) -> bool {
    let started = shard.core.now();
    let (write, more) = {
        let mut owned = shard.owned.borrow_mut();
        owned.pass(shard.core.now(), shard.core.wall_ms());
        (owned.journal.seal(), owned.replicas.wants_pass())
    };
    shard.after_pass();
    let Some(write) = write else { return more };
    let written = write.run().await;
    shard.owned.borrow_mut().written(written);
    let took = shard.core.now() - started;
    shard.metrics.borrow_mut().turn(took);
    true
}

impl Shard {
    /// What a pass made possible: waiting fetches are looked at, views are acknowledged, background work is told.
    fn after_pass(self: &Rc<Shard>) {
        self.look_at_watches();
        self.acknowledge_views();
        self.note_deadline();
        self.background.look(&mut self.owned.borrow_mut());
    }
}
