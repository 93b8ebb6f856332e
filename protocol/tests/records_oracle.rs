//! Our batches against the `kafka-protocol` crate, in both directions.
//!
//! The crate keeps headers in a map (duplicates are lost), takes the smallest timestamp as the
//! base and knows no LogAppendTime when it writes; the records here stay clear of that.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use protocol::compression::{Budget, Codec, Compression};
use protocol::records::*;

const BASE_TIMESTAMP: i64 = 1_650_000_000_000;

/// A stream of numbers that is the same on every machine (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }

    fn bytes(&mut self) -> Bytes {
        let length = [0, 1, 63, 64, 300, 2000][self.below(6) as usize];
        // Half-random bytes: compressible, but not by a single run.
        (0..length)
            .map(|i| {
                if i % 2 == 0 {
                    b'a'
                } else {
                    self.below(256) as u8
                }
            })
            .collect()
    }

    fn nullable(&mut self) -> Option<Bytes> {
        if self.below(4) == 0 {
            None
        } else {
            Some(self.bytes())
        }
    }
}

fn theirs_of(codec: Codec) -> oracle::Compression {
    match codec {
        Codec::None => oracle::Compression::None,
        Codec::Gzip => oracle::Compression::Gzip,
        Codec::Snappy => oracle::Compression::Snappy,
        Codec::Lz4 => oracle::Compression::Lz4,
        Codec::Zstd => oracle::Compression::Zstd,
    }
}

fn random_records(numbers: &mut Numbers, base_offset: i64) -> Vec<oracle::Record> {
    let count = 1 + numbers.below(40) as i64;
    let mut timestamp = BASE_TIMESTAMP;
    (0..count)
        .map(|delta| {
            timestamp += numbers.below(100_000) as i64;
            let header_count = numbers.below(4);
            let headers: IndexMap<StrBytes, Option<Bytes>> = (0..header_count)
                .map(|i| {
                    let key = StrBytes::from_string(format!("header-{i}"));
                    (key, numbers.nullable())
                })
                .collect();
            oracle::Record {
                transactional: true,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 12,
                producer_id: 4711,
                producer_epoch: 3,
                timestamp_type: oracle::TimestampType::Creation,
                offset: base_offset + delta,
                sequence: 100 + delta as i32,
                timestamp,
                key: numbers.nullable(),
                value: numbers.nullable(),
                headers,
            }
        })
        .collect()
}

fn build(records: &[oracle::Record], codec: Codec) -> Batch {
    let mut builder = BatchBuilder::new()
        .compression(Compression::of(codec))
        .base_offset(records[0].offset)
        .partition_leader_epoch(12)
        .producer(4711, 3, 100)
        .transactional(true);
    for record in records {
        let headers: Vec<HeaderRef> = record
            .headers
            .iter()
            .map(|(k, v)| (k.as_bytes(), v.as_deref()))
            .collect();
        builder.push(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
    }
    builder.build()
}

fn encode(records: &[oracle::Record], codec: Codec) -> Batch {
    let options = oracle::RecordEncodeOptions {
        version: 2,
        compression: theirs_of(codec),
    };
    let mut bytes = BytesMut::new();
    oracle::RecordBatchEncoder::encode(&mut bytes, records, &options).expect("they encode");
    Batch::new(bytes.freeze()).expect("they wrote one batch")
}

#[test]
fn they_read_what_we_build_and_we_read_what_they_encode() {
    let mut numbers = Numbers(7);
    for round in 0..100 {
        let codec = Codec::ALL[round % Codec::ALL.len()];
        let expected = random_records(&mut numbers, round as i64 * 1000);
        let ours = build(&expected, codec);
        let theirs = encode(&expected, codec);
        if codec == Codec::None {
            assert_eq!(ours, theirs, "round {round}: the encoding leaves no choice");
        }
        let decoded = oracle::RecordBatchDecoder::decode(&mut ours.bytes().clone())
            .unwrap_or_else(|error| panic!("round {round}, {}: {error:#}", codec.name()));
        assert_eq!(decoded.records, expected, "round {round}");

        assert_eq!(theirs.view().check_crc(), Ok(()));
        let mut budget = Budget::new(8 << 20);
        let from_ours = records(&ours, &mut budget).expect("ours decompress");
        let from_theirs = records(&theirs, &mut budget).expect("theirs decompress");
        let from_ours: Vec<Record> = from_ours.map(|r| r.expect("framing")).collect();
        let from_theirs: Vec<Record> = from_theirs.map(|r| r.expect("framing")).collect();
        assert_eq!(from_theirs, from_ours, "round {round}");
        for (record, expected) in from_ours.iter().zip(&expected) {
            assert_eq!(
                (record.offset, record.timestamp),
                (expected.offset, expected.timestamp)
            );
            assert_eq!(
                (&record.key, &record.value),
                (&expected.key, &expected.value)
            );
            assert_eq!(record.headers.len(), expected.headers.len());
        }
    }
}

#[test]
fn they_agree_on_headers_flags_and_log_append_time() {
    let mut numbers = Numbers(11);
    let expected = random_records(&mut numbers, 5);
    let batch = build(&expected, Codec::Zstd);
    let info = oracle::RecordBatchDecoder::decode_batch_info(&mut batch.bytes().clone())
        .expect("they read headers");
    let view = batch.view();
    assert_eq!(info.len(), 1);
    assert_eq!(info[0].record_count, view.record_count());
    assert_eq!(info[0].min_offset, view.base_offset());
    assert_eq!(info[0].min_timestamp, view.base_timestamp());
    assert_eq!(info[0].base_sequence, view.base_sequence());
    assert_eq!((info[0].transactional, info[0].control), (true, false));
    assert_eq!(
        info[0].partition_leader_epoch,
        view.partition_leader_epoch()
    );
    assert_eq!((info[0].producer_id, info[0].producer_epoch), (4711, 3));
    assert_eq!(info[0].compression, oracle::Compression::Zstd);

    let mut stamped = BatchBuilder::new().log_append_time(BASE_TIMESTAMP + 9);
    stamped.push(BASE_TIMESTAMP, None, Some(b"v"), &[]);
    let stamped = stamped.build();
    let decoded = oracle::RecordBatchDecoder::decode(&mut stamped.bytes().clone()).expect("read");
    assert_eq!(
        decoded.records[0].timestamp_type,
        oracle::TimestampType::LogAppend
    );
}
