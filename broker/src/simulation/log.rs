//! The broker's log while it is simulated: to stderr, each line with the virtual time and with the node and core whose
//! turn it is.
//!
//! Only on request (`CORELANE_LOG`), for one seed at a time: what a story leaves open shows here.

use runtime::sim::running;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

struct Whose;

impl FormatTime for Whose {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        let Some(running) = running() else {
            return write!(out, "outside");
        };
        let (us, node) = (running.now.as_micros(), running.node + 1);
        write!(out, "{us:>10} us  node-{node}/{}", running.core)
    }
}

/// Writes the log of the simulations that follow to stderr, if `CORELANE_LOG` names levels.
pub fn log_if_asked() {
    let Ok(filter) = EnvFilter::try_from_env("CORELANE_LOG") else {
        return;
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(Whose)
        .with_ansi(false);
    // Somebody else's log, in a test, is left alone.
    let _ = log.try_init();
}
