//! What a run has seen so far.

use std::collections::BTreeMap;

use protocol::ErrorCode;

use crate::latency::Latency;
use crate::schedule::Window;

/// Counts and latencies, of producers and readers together.
#[derive(Debug)]
pub struct Tally {
    pub window: Window,
    /// From intended time to acknowledgement, of messages meant to leave in the window.
    pub ack: Latency,
    /// From intended time to receipt, likewise.
    pub end_to_end: Latency,
    /// Messages handed to producers, in the whole run.
    pub generated: u64,
    /// Messages acknowledged (written, without acknowledgements), in the whole run.
    pub acked: u64,
    /// Messages, batches and requests acknowledged while the window was open.
    pub acked_in_window: u64,
    pub batches_in_window: u64,
    pub requests_in_window: u64,
    /// Messages, and bytes of their batches, received while the window was open.
    pub received_in_window: u64,
    pub received_bytes_in_window: u64,
    /// Messages that the broker refused, and answers with errors, by code.
    pub failed: u64,
    pub errors: BTreeMap<ErrorCode, u64>,
}

impl Tally {
    pub fn new(window: Window) -> Tally {
        Tally {
            window,
            ack: Latency::default(),
            end_to_end: Latency::default(),
            generated: 0,
            acked: 0,
            acked_in_window: 0,
            batches_in_window: 0,
            requests_in_window: 0,
            received_in_window: 0,
            received_bytes_in_window: 0,
            failed: 0,
            errors: BTreeMap::new(),
        }
    }

    /// A batch whose messages were meant to leave at `intended_ns` was acknowledged.
    pub fn batch_acked(&mut self, intended_ns: &[u64], now_ns: u64) {
        self.acked += intended_ns.len() as u64;
        if self.window.contains(now_ns) {
            self.acked_in_window += intended_ns.len() as u64;
            self.batches_in_window += 1;
        }
        for time_ns in intended_ns
            .iter()
            .filter(|time_ns| self.window.contains(**time_ns))
        {
            self.ack.record(*time_ns, now_ns);
        }
    }

    pub fn batch_failed(&mut self, messages: usize, code: ErrorCode) {
        self.failed += messages as u64;
        self.error(code);
    }

    pub fn error(&mut self, code: ErrorCode) {
        *self.errors.entry(code).or_default() += 1;
    }

    pub fn request_answered(&mut self, now_ns: u64) {
        self.requests_in_window += u64::from(self.window.contains(now_ns));
    }

    pub fn batch_received(&mut self, messages: u64, bytes: usize, now_ns: u64) {
        if self.window.contains(now_ns) {
            self.received_in_window += messages;
            self.received_bytes_in_window += bytes as u64;
        }
    }

    pub fn message_received(&mut self, intended_ns: u64, now_ns: u64) {
        if self.window.contains(intended_ns) {
            self.end_to_end.record(intended_ns, now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_by_arrival_and_latencies_by_intention() {
        let mut tally = Tally::new(Window {
            start_ns: 100,
            end_ns: 200,
        });
        tally.batch_acked(&[90, 99], 150);
        tally.batch_acked(&[150, 199, 200], 250);
        tally.batch_acked(&[90], 99);
        assert_eq!(
            (tally.acked, tally.acked_in_window, tally.batches_in_window),
            (6, 2, 1)
        );
        let mut latencies = tally.ack.clone();
        // Only 150 and 199 were meant for the window: with 198 others they make a median.
        (0..198).for_each(|_| latencies.record(0, 1_000_000));
        assert_eq!(latencies.quantiles().unwrap().count, 200);
        assert_eq!(tally.end_to_end.quantiles(), None);
    }

    #[test]
    fn failures_are_counted_by_code() {
        let mut tally = Tally::new(Window {
            start_ns: 0,
            end_ns: 1,
        });
        tally.batch_failed(3, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        tally.batch_failed(2, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!((tally.failed, tally.acked), (5, 0));
        assert_eq!(tally.errors[&ErrorCode::NOT_LEADER_OR_FOLLOWER], 2);
    }
}
