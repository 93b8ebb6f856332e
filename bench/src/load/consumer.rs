//! The part of a reader that is at one broker: fetches all partitions that are led there over one
//! connection, with a fetch session as real consumers have (KIP-227): after the first request only
//! partitions that moved are named.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::api::{ApiKey, Message};
use protocol::codec::{Decoder, Str};
use protocol::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchablePartitionResponse,
    ReplicaState, ResponseHeader,
};
use protocol::records::{BatchView, RecordRefs};

use super::stamp;
use super::tally::Tally;
use super::{ReadFrom, Reading};
use crate::clock::monotonic_ns;
use crate::error::{BenchError, Result};
use crate::wire::{Connection, Poll, Topic};

pub struct Consumer {
    pub connection: Connection,
    topic: Topic,
    version: i16,
    reading: Reading,
    /// Next offset wanted of the partitions that are read here, and whether the broker's session
    /// knows it.
    positions: BTreeMap<i32, Position>,
    session: Session,
    in_flight: Option<i32>,
    /// Messages received in the whole run.
    pub received: u64,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    offset: i64,
    is_told: bool,
    /// End of the log when reading began; readers from the beginning start over there.
    end: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Session {
    id: i32,
    epoch: i32,
}

impl Session {
    /// After an answer without error.
    fn next(self, id: i32) -> Session {
        match id {
            // The broker has no room for a session: every request names everything.
            0 => Session::default(),
            // Epochs wrap to 1; 0 would begin a new session.
            id => Session {
                id,
                epoch: self.epoch.checked_add(1).unwrap_or(1),
            },
        }
    }
}

impl Consumer {
    /// `broker` is the place of the broker in the topic; `ends` are the ends of the logs, by
    /// partition.
    pub fn new(
        connection: Connection,
        version: i16,
        topic: Topic,
        broker: usize,
        reading: Reading,
        ends: &[i64],
    ) -> Consumer {
        let position = |partition: i32| {
            let end = ends[partition as usize];
            let offset = match reading.from {
                ReadFrom::End => end,
                ReadFrom::Beginning => 0,
            };
            let is_told = false;
            Position {
                offset,
                is_told,
                end,
            }
        };
        let positions = topic
            .led_by(broker)
            .map(|partition| (partition, position(partition)))
            .collect();
        Consumer {
            connection,
            topic,
            version,
            reading,
            positions,
            session: Session::default(),
            in_flight: None,
            received: 0,
        }
    }

    /// Asks for more unless an answer is awaited.
    pub fn send(&mut self, poll: &Poll) -> Result<()> {
        if self.in_flight.is_none() {
            let request = self.request();
            self.in_flight = Some(self.connection.request(&request, self.version)?);
        }
        self.connection.flush(poll)
    }

    fn request(&mut self) -> FetchRequest {
        let names_all = self.session.id == 0;
        let mut partitions = Vec::new();
        for (partition, position) in &mut self.positions {
            if names_all || !position.is_told {
                partitions.push(FetchPartition {
                    partition: *partition,
                    fetch_offset: position.offset,
                    partition_max_bytes: self.reading.partition_bytes,
                    ..Default::default()
                });
            }
            position.is_told = true;
        }
        let topic = FetchTopic {
            topic: Str::copied(&self.topic.name),
            topic_id: self.topic.id,
            partitions,
        };
        FetchRequest {
            replica_id: -1,
            max_wait_ms: self.reading.wait_ms,
            min_bytes: 1,
            max_bytes: self.reading.answer_bytes,
            session_id: self.session.id,
            session_epoch: self.session.epoch,
            topics: if topic.partitions.is_empty() {
                Vec::new()
            } else {
                vec![topic]
            },
            replica_state: ReplicaState::default(),
            ..Default::default()
        }
    }

    /// Reads what has arrived.
    pub fn receive(&mut self, tally: &mut Tally) -> Result<()> {
        if !self.connection.receive()? {
            return Err(BenchError::Unusable(
                "the broker closed a reader's connection".into(),
            ));
        }
        while let Some(frame) = self.connection.frame()? {
            self.answered(frame, monotonic_ns(), tally)?;
        }
        Ok(())
    }

    fn answered(&mut self, frame: Bytes, now_ns: u64, tally: &mut Tally) -> Result<()> {
        let mut input = Decoder::new(frame);
        let header = ResponseHeader::decode(&mut input, ApiKey::Fetch, self.version)?;
        if self.in_flight.take() != Some(header.correlation_id) {
            let what = format!("answer {} out of turn", header.correlation_id);
            return Err(BenchError::Garbled(what));
        }
        let response = FetchResponse::decode(&mut input, self.version)?;
        if !response.error_code.is_none() {
            // The session is gone: begin another.
            tally.error(response.error_code);
            self.session = Session::default();
            return Ok(());
        }
        self.session = self.session.next(response.session_id);
        for topic in &response.responses {
            for partition in &topic.partitions {
                self.partition(partition, now_ns, tally)?;
            }
        }
        Ok(())
    }

    fn partition(
        &mut self,
        answer: &FetchablePartitionResponse,
        now_ns: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        if !answer.error_code.is_none() {
            tally.error(answer.error_code);
            return Ok(());
        }
        let Some(position) = self.positions.get_mut(&answer.partition_index) else {
            let what = format!("a fetch of partition {}", answer.partition_index);
            return Err(BenchError::Garbled(what));
        };
        let pieces = answer.records.iter().flat_map(|records| records.pieces());
        for piece in pieces {
            let mut rest = &piece[..];
            while let Some(batch) = whole_batch(rest)? {
                rest = &rest[batch.size()..];
                if batch.next_offset() > position.offset {
                    let messages = messages(batch, position.offset, self.reading, now_ns, tally)?;
                    self.received += messages;
                    position.offset = batch.next_offset();
                    position.is_told = false;
                }
            }
        }
        let starts_over = self.reading.from == ReadFrom::Beginning;
        if starts_over && position.offset >= position.end && position.offset > 0 {
            position.offset = 0;
            position.is_told = false;
        }
        Ok(())
    }
}

/// The first batch of `bytes`; `None` at their end, where a batch may be cut off.
fn whole_batch(bytes: &[u8]) -> Result<Option<BatchView<'_>>> {
    match BatchView::first(bytes) {
        Ok(batch) => Ok(Some(batch)),
        Err(protocol::records::Malformed::Partial { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Counts the messages of a batch from `from_offset` on, and times them if that is wanted.
fn messages(
    batch: BatchView<'_>,
    from_offset: i64,
    reading: Reading,
    now_ns: u64,
    tally: &mut Tally,
) -> Result<u64> {
    let mut count = u64::try_from(batch.record_count()).unwrap_or(0);
    if reading.from == ReadFrom::End {
        count = 0;
        for record in RecordRefs::new(batch.body(), batch.record_count())? {
            let record = record?;
            if batch.base_offset() + i64::from(record.offset_delta) < from_offset {
                continue;
            }
            count += 1;
            if let Some(intended_ns) = record.value.and_then(stamp::read) {
                tally.message_received(intended_ns, now_ns);
            }
        }
    }
    tally.batch_received(count, batch.size(), now_ns);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Window;
    use protocol::records::BatchBuilder;

    fn batch(base_offset: i64, times_ns: &[u64]) -> Bytes {
        let mut builder = BatchBuilder::new().base_offset(base_offset);
        for time_ns in times_ns {
            builder.push(1, None, Some(&time_ns.to_be_bytes()), &[]);
        }
        builder.build().into_bytes()
    }

    #[test]
    fn messages_before_the_position_do_not_count() {
        let mut tally = Tally::new(Window {
            start_ns: 0,
            end_ns: 1000,
        });
        let bytes = batch(10, &[1, 2, 3]);
        let view = whole_batch(&bytes).unwrap().unwrap();
        let reading = Reading::new(1, ReadFrom::End);
        assert_eq!(messages(view, 11, reading, 500, &mut tally).unwrap(), 2);
        assert_eq!(tally.received_in_window, 2);
        let reading = Reading::new(1, ReadFrom::Beginning);
        assert_eq!(messages(view, 10, reading, 2000, &mut tally).unwrap(), 3);
        assert_eq!(tally.received_in_window, 2, "the window was closed");
    }

    #[test]
    fn a_batch_that_is_cut_off_is_left_for_the_next_answer() {
        let bytes = batch(0, &[1, 2]);
        assert!(whole_batch(&bytes[..bytes.len() - 1]).unwrap().is_none());
        assert!(whole_batch(&[]).unwrap().is_none());
        assert!(whole_batch(&[0xff; 80]).is_err());
    }

    #[test]
    fn sessions_count_their_requests() {
        let first = Session::default().next(7);
        assert_eq!(first, Session { id: 7, epoch: 1 });
        assert_eq!(
            Session {
                id: 7,
                epoch: i32::MAX
            }
            .next(7)
            .epoch,
            1
        );
        assert_eq!(first.next(0), Session::default());
    }
}
