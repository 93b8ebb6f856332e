//! Readers: fetches with and without sessions, by name and by id, from anywhere and to the end; offsets by time; ends
//! of epochs. And the last reading of everything.

use super::Stage;
use super::client::Client;
use super::history::{Floor, Place, served_up_to};
use super::violation::Violation;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// Fetches of one walk through a log.
const STEPS_MAX: u64 = 6;
/// The longest pause of a client that asks any node.
const ASK_AGAIN_US: u64 = 8_000;
/// The version of Fetch from which on it names the leader epoch.
const EPOCHS_SINCE: i16 = 9;

/// Walks through logs until the end of the simulation; keeps a fetch session now and then.
pub(super) async fn reader(stage: Rc<Stage>, client: Client, _number: u32) {
    let mut reader = Reader { stage, client };
    let mut healed_rounds = 0;
    while healed_rounds < 3 && !reader.stage.is_over() {
        let pause = reader.client.below(6_000) * reader.stage.pace;
        reader.client.core.sleep(Duration::from_micros(pause)).await;
        let Some((topic, place)) = reader.stage.any_place(&reader.client, 4) else {
            continue;
        };
        let led = reader.stage.go_to_leader(&mut reader.client, &topic, place);
        if !led.await {
            continue;
        }
        let done = match reader.client.below(6) {
            0 => reader.list_offsets(&topic, place).await.is_some(),
            1 => reader.epoch_end(&topic, place).await.is_some(),
            2 => reader.poll_in_session(&topic, place).await.is_some(),
            _ => reader.walk(&topic, place).await.is_some(),
        };
        healed_rounds += u32::from(done && reader.stage.healed.get());
    }
}

/// Asks any node of a cluster how far every partition goes, as clients do whose metadata is old, as long as there are
/// faults. A node that takes itself for the leader says for which epoch.
pub(super) async fn asker(stage: Rc<Stage>, mut client: Client, _number: u32) {
    while !stage.healed.get() && !stage.is_over() {
        let pause = Duration::from_micros(client.below(ASK_AGAIN_US));
        client.core.sleep(pause).await;
        client.roam();
        ask_ends(&stage, &mut client).await;
    }
}

async fn ask_ends(stage: &Stage, client: &mut Client) -> Option<()> {
    let lasting = stage.topics().into_iter();
    let lasting = lasting.filter(|(name, _)| stage.is_lasting(name));
    let lasting: BTreeMap<String, (Uuid, i32)> = lasting.collect();
    let latest = |partition_index| ListOffsetsPartition {
        partition_index,
        timestamp: LATEST,
        ..ListOffsetsPartition::default()
    };
    let topic = |(name, (_, partitions)): (&String, &(Uuid, i32))| ListOffsetsTopic {
        name: Str::copied(name),
        partitions: (0..*partitions).map(latest).collect(),
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: lasting.iter().map(topic).collect(),
        ..ListOffsetsRequest::default()
    };
    let before = stage.history().served_by_now();
    let asked_us = stage.history().now_us;
    let version = client.version::<ListOffsetsRequest>(4);
    let response = client.call(&request, version).await?;
    for topic in &response.topics {
        let (id, _) = lasting.get(topic.name.as_str())?;
        let served = topic.partitions.iter();
        for answer in served.filter(|answer| answer.error_code == ErrorCode::NONE) {
            let place = (*id, answer.partition_index);
            let epoch = answer.leader_epoch;
            let before = served_up_to(&before, place, epoch);
            let mut history = stage.history();
            history.served(place, epoch, client.at, asked_us, before, answer.offset);
        }
    }
    Some(())
}

/// Reads every partition that must still be there, from its start to its end.
pub(super) async fn last_reading(stage: Rc<Stage>, client: Client) {
    let mut reader = Reader { stage, client };
    for (topic, place) in reader.stage.all_places() {
        while !reader.stage.is_over() {
            let led = reader.stage.go_to_leader(&mut reader.client, &topic, place);
            if led.await && reader.read_whole(&topic, place).await.is_some() {
                break;
            }
            reader.client.core.sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Where the logs of all topics end, by their leaders.
pub(super) async fn ends(stage: Rc<Stage>, client: Client) -> BTreeMap<(String, i32), i64> {
    let mut reader = Reader { stage, client };
    let mut ends = BTreeMap::new();
    for (topic, (id, partitions)) in reader.stage.topics() {
        for partition in 0..partitions {
            let place = (id, partition);
            while !reader.stage.is_over() {
                let led = reader.stage.go_to_leader(&mut reader.client, &topic, place);
                if led.await
                    && let Some(end) = reader.ask_offset(&topic, place, LATEST).await
                {
                    ends.insert((topic.clone(), partition), end);
                    break;
                }
                reader.client.core.sleep(Duration::from_millis(20)).await;
            }
        }
    }
    ends
}

struct Reader {
    stage: Rc<Stage>,
    client: Client,
}

/// What one fetch brought.
struct Fetched {
    next: i64,
    high_watermark: i64,
}

impl Reader {
    fn fetch_request(&self, topic: &str, place: Place, from: i64) -> FetchRequest {
        FetchRequest {
            max_wait_ms: 30,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: Str::copied(topic),
                topic_id: place.0,
                partitions: vec![FetchPartition {
                    partition: place.1,
                    fetch_offset: from,
                    current_leader_epoch: self.known_epoch(place),
                    partition_max_bytes: 200 + self.client.below(8_000) as i32,
                    ..FetchPartition::default()
                }],
            }],
            ..FetchRequest::default()
        }
    }

    /// Since which epoch the node that is asked leads, as far as the client knows. It then answers for that epoch, or
    /// refuses.
    fn known_epoch(&self, place: Place) -> i32 {
        self.client
            .leaders
            .get(&place)
            .map_or(-1, |(_, epoch)| *epoch)
    }

    /// Whether a session begins (`0`), goes on, or is not wanted is what the request says.
    async fn fetch(
        &mut self,
        place: Place,
        request: &FetchRequest,
        version: i16,
        from: i64,
    ) -> Option<(i32, Option<Fetched>)> {
        let before = self.stage.history().floor(place);
        let asked_epoch = request.topics[0].partitions[0].current_leader_epoch;
        let epoch = Some(asked_epoch).filter(|epoch| *epoch >= 0 && version >= EPOCHS_SINCE);
        let marked = epoch.map(|epoch| self.stage.history().served_floor(place, epoch));
        let asked_us = self.stage.history().now_us;
        let response = self.client.call(request, version).await?;
        let code = self.stage.history().code("Fetch", response.error_code);
        self.stage.follow(&mut self.client, code);
        if code != ErrorCode::NONE {
            return Some((0, None));
        }
        let answers = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions);
        let Some(answer) = answers
            .into_iter()
            .find(|answer| answer.partition_index == place.1)
        else {
            return Some((response.session_id, None));
        };
        self.stage.follow(&mut self.client, answer.error_code);
        let mut history = self.stage.history();
        let code = history.code("Fetch", answer.error_code);
        if code != ErrorCode::NONE {
            if code == ErrorCode::OFFSET_OUT_OF_RANGE
                && history.keeps_all(place)
                && from <= before.high_watermark
            {
                history.violate(
                    Violation::Lost,
                    format!("offset {from} of {place:?} is out of range, {before:?}"),
                );
            }
            return Some((response.session_id, None));
        }
        if self.stage.full.get() {
            history.count("reads on a full disk");
        }
        let told = Floor {
            high_watermark: answer.high_watermark,
            log_start: answer.log_start_offset,
            leader_epoch: -1,
        };
        history.stands("Fetch", place, before, told);
        if let (Some(epoch), Some(marked)) = (epoch, marked) {
            let (node, told) = (self.client.at, told.high_watermark);
            history.served(place, epoch, node, asked_us, marked, told);
        }
        let bytes = answer
            .records
            .as_ref()
            .map(|records| records.joined())
            .unwrap_or_default();
        let next = history.fetched(place, from, bytes);
        // Behind uncommitted records nothing is read, and that is right.
        if next > from.max(answer.high_watermark) {
            let what = format!(
                "{place:?} was read up to {next}, above the high watermark {}",
                told.high_watermark
            );
            history.violate(Violation::ReadAboveTheHighWatermark, what);
        }
        if next == from && from < answer.high_watermark {
            history.violate(
                Violation::Gap,
                format!("a fetch from {from} of {place:?} brought nothing: {told:?}"),
            );
        }
        let fetched = Fetched {
            next,
            high_watermark: answer.high_watermark,
        };
        Some((response.session_id, Some(fetched)))
    }

    fn version(&self, topic: &str) -> i16 {
        let min = if self.stage.is_lasting(topic) { 4 } else { 13 };
        self.client.version::<FetchRequest>(min)
    }

    async fn walk(&mut self, topic: &str, place: Place) -> Option<()> {
        let floor = self.stage.history().floor(place);
        let span = (floor.high_watermark - floor.log_start + 2).max(1) as u64;
        let mut from = match self.client.below(3) {
            0 => floor.log_start,
            _ => floor.log_start + self.client.below(span) as i64,
        };
        for _ in 0..self.client.below(STEPS_MAX) + 1 {
            let request = self.fetch_request(topic, place, from);
            let version = self.version(topic);
            let (_, fetched) = self.fetch(place, &request, version, from).await?;
            from = fetched?.next;
        }
        Some(())
    }

    /// A session of some fetches: the first names the partition, the others only its new offset.
    async fn poll_in_session(&mut self, topic: &str, place: Place) -> Option<()> {
        let mut from = self.stage.history().floor(place).log_start;
        let min = if self.stage.is_lasting(topic) { 7 } else { 13 };
        let version = self.client.version::<FetchRequest>(min);
        let mut request = self.fetch_request(topic, place, from);
        request.session_epoch = 0;
        for epoch in 1..=STEPS_MAX as i32 {
            let (session, fetched) = self.fetch(place, &request, version, from).await?;
            if session == 0 {
                return None;
            }
            let moved = fetched.map_or(from, |fetched| fetched.next);
            request.session_id = session;
            request.session_epoch = epoch;
            request.topics[0].partitions[0].fetch_offset = moved;
            from = moved;
        }
        self.stage.history().count("fetch sessions");
        request.session_epoch = -1;
        self.fetch(place, &request, version, from).await.map(|_| ())
    }

    async fn list_offsets(&mut self, topic: &str, place: Place) -> Option<i64> {
        if !self.stage.is_lasting(topic) {
            return Some(-1);
        }
        let timestamp = if self.client.below(2) == 0 {
            LATEST
        } else {
            EARLIEST
        };
        self.ask_offset(topic, place, timestamp).await
    }

    async fn ask_offset(&mut self, topic: &str, place: Place, timestamp: i64) -> Option<i64> {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: Str::copied(topic),
                partitions: vec![ListOffsetsPartition {
                    partition_index: place.1,
                    timestamp,
                    ..ListOffsetsPartition::default()
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let before = self.stage.history().floor(place);
        let version = self.client.version::<ListOffsetsRequest>(1);
        let response = self.client.call(&request, version).await?;
        let answer = response.topics.first()?.partitions.first()?;
        self.stage.follow(&mut self.client, answer.error_code);
        let mut history = self.stage.history();
        if history.code("ListOffsets", answer.error_code) != ErrorCode::NONE {
            return None;
        }
        let offset = answer.offset;
        let (high_watermark, log_start) = if timestamp == LATEST {
            (offset, -1)
        } else {
            (-1, offset)
        };
        // Of the earliest offset the epoch is that of its record.
        let leader_epoch = if timestamp == LATEST {
            answer.leader_epoch
        } else {
            -1
        };
        let told = Floor {
            high_watermark,
            log_start,
            leader_epoch,
        };
        history.stands(
            "ListOffsets",
            place,
            Floor {
                leader_epoch: -1,
                ..before
            },
            told,
        );
        Some(offset)
    }

    async fn epoch_end(&mut self, topic: &str, place: Place) -> Option<()> {
        if !self.stage.is_lasting(topic) {
            return Some(());
        }
        let before = self.stage.history().floor(place);
        let asked = self.client.below(before.leader_epoch as u64 + 3) as i32;
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: Str::copied(topic),
                partitions: vec![OffsetForLeaderPartition {
                    partition: place.1,
                    current_leader_epoch: -1,
                    leader_epoch: asked,
                }],
            }],
        };
        let version = self.client.version::<OffsetForLeaderEpochRequest>(3);
        let response = self.client.call(&request, version).await?;
        let answer = response.topics.first()?.partitions.first()?;
        self.stage.follow(&mut self.client, answer.error_code);
        let mut history = self.stage.history();
        if history.code("OffsetForLeaderEpoch", answer.error_code) == ErrorCode::NONE
            && answer.leader_epoch > asked
        {
            let what = format!(
                "epoch {asked} of {place:?} was answered with epoch {}",
                answer.leader_epoch
            );
            history.violate(Violation::WrongAnswer, what);
        }
        history.count("epoch ends");
        Some(())
    }

    /// From the first offset to the high watermark, without a gap. None if that has to be done again.
    async fn read_whole(&mut self, topic: &str, place: Place) -> Option<()> {
        let floor = self.stage.history().floor(place);
        // Nothing is deleted any more, so the name is the topic's.
        let keeps_all = self.stage.history().keeps_all(place);
        let start = match keeps_all {
            true => 0,
            false => self.ask_offset(topic, place, EARLIEST).await?,
        };
        let mut from = start;
        loop {
            let mut request = self.fetch_request(topic, place, from);
            request.max_wait_ms = 0;
            request.topics[0].partitions[0].partition_max_bytes = 64 << 10;
            let version = self.version(topic);
            let (_, fetched) = self.fetch(place, &request, version, from).await?;
            let fetched = fetched?;
            from = fetched.next;
            if fetched.next >= fetched.high_watermark || self.stage.is_over() {
                break;
            }
        }
        let mut history = self.stage.history();
        let is_judged = history.read_whole(place, start, from, floor);
        is_judged.then(|| history.count("whole logs"))
    }
}
