//! Reading partitions: one fetch to every leader, batches into records, aborted transactions left
//! out if asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use protocol::ErrorCode;
use protocol::compression::Budget;
use protocol::messages::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchTopic, FetchablePartitionResponse,
};
use protocol::records::{Batch, ControlType, Malformed, Record, records, split};

use super::arguments::Isolation;
use super::client::{Attempts, Client};
use super::error::ShellError;
use super::offsets::{self, Place, Wanted, by_leader, by_topic};

/// Newest version with topics by name.
const FETCH_NEWEST: i16 = 12;

/// How long a broker may hold a fetch back while there is nothing to read.
pub(crate) const FETCH_WAIT: Duration = Duration::from_millis(500);

const PARTITION_BYTES_MAX: i32 = 1 << 20;
const FETCH_BYTES_MAX: i32 = 50 << 20;

/// What a batch may unpack to: far more than any broker takes.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// Records of one partition, in order.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub place: Place,
    pub records: Vec<Record>,
    /// Where the next fetch goes on; beyond the last record if markers follow it.
    pub next_offset: i64,
}

/// Reads a set of partitions, each from its own position.
pub(crate) struct Fetcher {
    isolation: Isolation,
    positions: BTreeMap<Place, i64>,
    /// Empty if they must be asked for.
    leaders: BTreeMap<i32, Vec<Place>>,
    attempts: Option<Attempts>,
}

impl Fetcher {
    pub(crate) fn new(positions: BTreeMap<Place, i64>, isolation: Isolation) -> Fetcher {
        Fetcher {
            isolation,
            positions,
            leaders: BTreeMap::new(),
            attempts: None,
        }
    }

    /// True if every partition has been read up to `ends`.
    pub(crate) fn has_reached(&self, ends: &BTreeMap<Place, i64>) -> bool {
        self.positions
            .iter()
            .all(|(place, position)| ends.get(place).is_none_or(|end| position >= end))
    }

    /// Stops reading a partition.
    pub(crate) fn drop_place(&mut self, place: &Place) {
        self.positions.remove(place);
        for places in self.leaders.values_mut() {
            places.retain(|other| other != place);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.positions.is_empty()
    }

    /// Asks every leader once and returns what they have; nothing after [`FETCH_WAIT`] if they have
    /// nothing.
    pub(crate) fn poll(&mut self, client: &mut Client) -> Result<Vec<Fetched>, ShellError> {
        if self.leaders.is_empty() {
            let places: Vec<Place> = self.positions.keys().cloned().collect();
            self.leaders = by_leader(client, &places)?;
        }
        let leaders: Vec<i32> = self.leaders.keys().copied().collect();
        for leader in &leaders {
            let request = self.request(&self.leaders[leader]);
            client.node(*leader)?.send(&request, FETCH_NEWEST)?;
        }
        let mut fetched = Vec::new();
        let mut trouble = None;
        for leader in leaders {
            let response = client.node(leader)?.receive::<FetchRequest>(FETCH_WAIT)?;
            if let Err(code) = response.error_code.ok() {
                return Err(ShellError::refused(
                    format!("read from node {leader}"),
                    code,
                    None,
                ));
            }
            for topic in response.responses {
                let name = String::from(&topic.topic);
                for partition in topic.partitions {
                    let place = (name.clone(), partition.partition_index);
                    match partition.error_code.ok() {
                        Ok(()) => fetched.extend(self.take(place, partition)?),
                        Err(code) => trouble = Some((place, code)),
                    }
                }
            }
        }
        match trouble {
            None => self.attempts = None,
            Some((place, code)) => self.recover(client, &place, code)?,
        }
        Ok(fetched)
    }

    fn request(&self, places: &[Place]) -> FetchRequest {
        let partition = |topic: &str, number: &i32| FetchPartition {
            partition: *number,
            fetch_offset: self.positions[&(topic.to_owned(), *number)],
            partition_max_bytes: PARTITION_BYTES_MAX,
            ..FetchPartition::default()
        };
        FetchRequest {
            max_wait_ms: FETCH_WAIT.as_millis() as i32,
            min_bytes: 1,
            max_bytes: FETCH_BYTES_MAX,
            isolation_level: i8::from(self.isolation == Isolation::ReadCommitted),
            topics: by_topic(places)
                .into_iter()
                .map(|(topic, numbers)| FetchTopic {
                    topic: topic.to_owned().into(),
                    partitions: numbers
                        .iter()
                        .map(|number| partition(topic, number))
                        .collect(),
                    ..FetchTopic::default()
                })
                .collect(),
            ..FetchRequest::default()
        }
    }

    /// The records of an answer from the position on.
    fn take(
        &mut self,
        place: Place,
        answer: FetchablePartitionResponse,
    ) -> Result<Option<Fetched>, ShellError> {
        let Some(position) = self.positions.get_mut(&place) else {
            return Ok(None);
        };
        let aborted = match self.isolation {
            Isolation::ReadCommitted => answer.aborted_transactions.unwrap_or_default(),
            Isolation::ReadUncommitted => Vec::new(),
        };
        let bytes = answer
            .records
            .map(|records| records.joined())
            .unwrap_or_default();
        let (records, next_offset) = unpack(bytes, *position, aborted).map_err(|problem| {
            let (topic, partition) = &place;
            ShellError::impossible(
                format!("read partition {partition} of {topic} at offset {position}"),
                format!("the broker sent a damaged batch ({problem})."),
            )
        })?;
        *position = next_offset;
        Ok(Some(Fetched {
            place,
            records,
            next_offset,
        }))
    }

    /// Waits for a new leader, or moves to where the partition begins now.
    fn recover(
        &mut self,
        client: &mut Client,
        place: &Place,
        code: ErrorCode,
    ) -> Result<(), ShellError> {
        if code == ErrorCode::OFFSET_OUT_OF_RANGE {
            return self.move_into_range(client, place);
        }
        let attempts = self
            .attempts
            .get_or_insert_with(|| Attempts::new(client.timeout()));
        if !code.retriable() || !attempts.again() {
            let what = format!("read partition {} of {}", place.1, place.0);
            return Err(ShellError::refused(what, code, None));
        }
        self.leaders.clear();
        Ok(())
    }

    /// Retention may have overtaken a reader; beyond the end there is nothing to wait for.
    fn move_into_range(&mut self, client: &mut Client, place: &Place) -> Result<(), ShellError> {
        let places = [place.clone()];
        let start = offsets::list(client, &places, Wanted::Start)?
            .get(place)
            .copied();
        let Some(position) = self.positions.get_mut(place) else {
            return Ok(());
        };
        match start {
            Some(start) if *position < start => {
                *position = start;
                Ok(())
            }
            _ => {
                let what = format!("read partition {} of {}", place.1, place.0);
                let reason = format!(
                    "offset {position} is beyond its end. `corelane topic describe` shows the end."
                );
                Err(ShellError::impossible(what, reason))
            }
        }
    }
}

/// Records at or after `from`, without markers and without the records of `aborted` transactions,
/// and the offset after the last whole batch.
fn unpack(
    bytes: Bytes,
    from: i64,
    mut aborted: Vec<AbortedTransaction>,
) -> Result<(Vec<Record>, i64), String> {
    aborted.sort_by_key(|transaction| transaction.first_offset);
    let mut aborted = aborted.into_iter().peekable();
    let mut aborting = BTreeSet::new();
    let (mut kept, mut next_offset) = (Vec::new(), from);
    for batch in split(bytes) {
        let batch = match batch {
            Ok(batch) => batch,
            // The last batch of an answer may be cut off.
            Err(Malformed::Partial { .. }) => break,
            Err(error) => return Err(error.to_string()),
        };
        let view = batch.view();
        while let Some(begun) = aborted.next_if(|it| it.first_offset <= view.last_offset()) {
            aborting.insert(begun.producer_id);
        }
        next_offset = next_offset.max(view.next_offset());
        if view.attributes().is_control() {
            if is_abort_marker(&batch) {
                aborting.remove(&view.producer_id());
            }
            continue;
        }
        if view.attributes().is_transactional() && aborting.contains(&view.producer_id()) {
            continue;
        }
        view.check_crc().map_err(|error| error.to_string())?;
        let mut budget = Budget::new(UNPACKED_BYTES_MAX);
        for record in records(&batch, &mut budget).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            if record.offset >= from {
                kept.push(record);
            }
        }
    }
    Ok((kept, next_offset))
}

fn is_abort_marker(batch: &Batch) -> bool {
    let first = records(batch, &mut Budget::new(UNPACKED_BYTES_MAX))
        .ok()
        .and_then(|mut all| all.next());
    let key = first.and_then(Result::ok).and_then(|record| record.key);
    key.and_then(|key| ControlType::from_key(&key)) == Some(ControlType::Abort)
}

#[cfg(test)]
mod tests {
    use protocol::records::{BatchBuilder, EndTxnMarker};

    use super::*;

    fn batch(base_offset: i64, producer_id: i64, values: &[&str]) -> Bytes {
        let mut batch = BatchBuilder::new().base_offset(base_offset);
        if producer_id >= 0 {
            batch = batch.producer(producer_id, 0, 0).transactional(true);
        }
        for value in values {
            batch.push(0, None, Some(value.as_bytes()), &[]);
        }
        batch.build().into_bytes()
    }

    fn marker(base_offset: i64, producer_id: i64, control_type: ControlType) -> Bytes {
        let marker = EndTxnMarker {
            control_type,
            coordinator_epoch: 0,
        };
        let mut bytes = marker.batch(producer_id, 0, 0).into_bytes().to_vec();
        protocol::records::patch_header(&mut bytes, base_offset, 0);
        bytes.into()
    }

    fn values(records: &[Record]) -> Vec<String> {
        let text = |record: &Record| String::from_utf8(record.value.clone().unwrap().to_vec());
        records.iter().map(|record| text(record).unwrap()).collect()
    }

    #[test]
    fn records_before_the_position_and_torn_batches_are_left_out() {
        let whole = [batch(0, -1, &["a", "b"]), batch(2, -1, &["c"])].concat();
        let torn = Bytes::from([whole.clone(), batch(3, -1, &["d"])[..40].to_vec()].concat());
        let (records, next) = unpack(torn, 1, Vec::new()).unwrap();
        assert_eq!(
            (values(&records), next),
            (vec!["b".to_owned(), "c".to_owned()], 3)
        );
        let (records, next) = unpack(Bytes::new(), 7, Vec::new()).unwrap();
        assert_eq!((records.len(), next), (0, 7));
    }

    #[test]
    fn aborted_transactions_vanish_up_to_their_marker() {
        let bytes = Bytes::from(
            [
                batch(0, 1, &["lost"]),
                batch(1, 2, &["kept"]),
                marker(2, 1, ControlType::Abort),
                batch(3, 1, &["later"]),
                marker(4, 2, ControlType::Commit),
            ]
            .concat(),
        );
        let aborted = vec![AbortedTransaction {
            producer_id: 1,
            first_offset: 0,
        }];
        let (records, next) = unpack(bytes.clone(), 0, aborted).unwrap();
        assert_eq!(
            (values(&records), next),
            (vec!["kept".to_owned(), "later".to_owned()], 5)
        );
        let (records, _) = unpack(bytes, 0, Vec::new()).unwrap();
        assert_eq!(records.len(), 3);
    }

    #[test]
    fn damage_is_told() {
        let mut bytes = batch(0, -1, &["a"]).to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(unpack(bytes.into(), 0, Vec::new()).is_err());
    }
}
