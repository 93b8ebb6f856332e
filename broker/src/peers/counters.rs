//! What links have done so far, as plain numbers for metrics.

use std::ops::AddAssign;
use std::time::Duration;

/// One core's links with one peer, since the core started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Frames given to the socket whole, the link's own included, bytes given to it, and in how many writes.
    pub frames_out: u64,
    pub bytes_out: u64,
    pub writes_out: u64,
    /// Frames and bytes received, the link's own included.
    pub frames_in: u64,
    pub bytes_in: u64,
    /// Frames that were lost here: not taken, or not with the socket whole when the connection ended.
    pub frames_dropped: u64,
    /// How often the link came up, and how often an attempt failed or a connection ended.
    pub connected: u64,
    pub disconnected: u64,
    /// Connections from the peer that were taken in.
    pub arrived: u64,
    /// Refusals that the peer gave to this core, and this core to the peer.
    pub refusals_received: u64,
    pub refusals_given: u64,
    /// Connections of the peer that ended because their bytes made no sense.
    pub malformed: u64,
    /// Bytes in the queue now.
    pub queued_bytes: u64,
    /// Smoothed time from a PING to its echo; zero before the first.
    pub round_trip: Duration,
}

/// The side of a node that accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    pub accepted: u64,
    /// Handed to the core where they land.
    pub handed_over: u64,
    pub requests_answered: u64,
    pub refusals_given: u64,
    /// Closed because what came is not this protocol, or did not come in time.
    pub malformed: u64,
    /// Closed for others, as too many had not introduced themselves.
    pub evicted: u64,
}

impl AddAssign for LinkCounters {
    /// For the sum over cores; of the round trips the longest counts.
    fn add_assign(&mut self, other: LinkCounters) {
        let LinkCounters {
            frames_out,
            bytes_out,
            writes_out,
            frames_in,
            bytes_in,
            frames_dropped,
            connected,
            disconnected,
            arrived,
            refusals_received,
            refusals_given,
            malformed,
            queued_bytes,
            round_trip,
        } = other;
        self.frames_out += frames_out;
        self.bytes_out += bytes_out;
        self.writes_out += writes_out;
        self.frames_in += frames_in;
        self.bytes_in += bytes_in;
        self.frames_dropped += frames_dropped;
        self.connected += connected;
        self.disconnected += disconnected;
        self.arrived += arrived;
        self.refusals_received += refusals_received;
        self.refusals_given += refusals_given;
        self.malformed += malformed;
        self.queued_bytes += queued_bytes;
        self.round_trip = self.round_trip.max(round_trip);
    }
}
