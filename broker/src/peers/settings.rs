//! Times and limits of the links of a node. Production takes the default; the simulator may scale the times.

use std::time::Duration;

const MIB: usize = 1 << 20;

/// Times and limits. The nodes of a cluster should agree on the times: each is judged by the other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A link over which nothing was sent for so long sends an empty PING.
    pub keep_alive: Duration,
    /// How often a PING asks for its echo, which measures the round trip and proves that the other end reads.
    pub echo_every: Duration,
    /// A node that was not heard for so long is reported silent.
    pub silent_after: Duration,
    /// A connection is given up when its echo, a write, or (on the receiving side) anything at all is overdue by this.
    pub dead_after: Duration,
    /// For an attempt to connect, the resolving of the name included.
    pub connect_within: Duration,
    /// For each message of the handshake.
    pub handshake_within: Duration,
    /// For the answer to a request for discovery or joining.
    pub answer_within: Duration,
    /// The pause before the first new attempt; it doubles up to `retry_max`. Drawn from its upper half.
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// The pause after a refusal that does not pass by itself.
    pub refused_retry: Duration,
    /// Bytes that may wait in the queue of one link; what comes beyond is dropped.
    pub queue_bytes_max: usize,
    /// The length that a frame may have. Of one node's frames that are being received, twice this much is held in
    /// memory on each core.
    pub frame_bytes_max: usize,
    /// Requests and answers of discovery and joining.
    pub request_bytes_max: usize,
    pub answer_bytes_max: usize,
    /// Connections that are no links: not introduced yet, or answered; when another comes, the oldest is closed.
    pub strangers_max: usize,
    /// Requests of discovery and joining that are answered at a time.
    pub requests_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            keep_alive: Duration::from_millis(100),
            echo_every: Duration::from_millis(500),
            silent_after: Duration::from_millis(400),
            dead_after: Duration::from_secs(10),
            connect_within: Duration::from_secs(2),
            handshake_within: Duration::from_secs(5),
            answer_within: Duration::from_secs(30),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(1),
            refused_retry: Duration::from_secs(5),
            queue_bytes_max: 32 * MIB,
            frame_bytes_max: 64 * MIB,
            request_bytes_max: MIB,
            answer_bytes_max: 64 * MIB,
            strangers_max: 256,
            requests_max: 16,
        }
    }
}

impl Settings {
    /// Silence is noticed early enough for a group to have another leader within its election timeout.
    pub fn for_elections_after(timeout: Duration) -> Settings {
        let base = Settings::default();
        let silent_after = timeout.mul_f64(0.4);
        Settings {
            keep_alive: base.keep_alive.min(silent_after / 4),
            silent_after,
            ..base
        }
    }

    /// The same limits, with all times multiplied by `factor`.
    pub fn scaled(mut self, factor: f64) -> Settings {
        for time in [
            &mut self.keep_alive,
            &mut self.echo_every,
            &mut self.silent_after,
            &mut self.dead_after,
            &mut self.connect_within,
            &mut self.handshake_within,
            &mut self.answer_within,
            &mut self.retry_min,
            &mut self.retry_max,
            &mut self.refused_retry,
        ] {
            *time = time.mul_f64(factor);
        }
        self
    }
}
