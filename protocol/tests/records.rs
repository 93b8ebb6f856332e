//! Record batches from building to reading, and the rules of produce.

use bytes::Bytes;
use protocol::compression::{Budget, Codec, Compression};
use protocol::error::ErrorCode;
use protocol::records::*;

const NOW_MS: i64 = 1_760_000_000_000;
const MIB: usize = 1024 * 1024;

fn budget() -> Budget {
    Budget::new(64 * MIB)
}

/// Three records with all that a record can have: nulls, empties, duplicate headers.
fn sample(builder: BatchBuilder) -> Batch {
    let mut builder = builder;
    let headers: [HeaderRef; 3] = [(b"h", Some(b"1")), (b"h", Some(b"2")), (b"", None)];
    builder.push(NOW_MS, Some(b"key"), Some(b"value"), &headers);
    builder.push(NOW_MS + 7, None, Some(b""), &[]);
    builder.push(NOW_MS + 3, Some(b""), None, &[]);
    builder.build()
}

fn read(batch: &Batch) -> Vec<Record> {
    let records = records(batch, &mut budget()).expect("the batch decompresses");
    records
        .map(|record| record.expect("the framing is right"))
        .collect()
}

fn check(batch: &Batch, rules: &Rules) -> Result<Validated, Invalid> {
    validate(batch, rules, NOW_MS, &mut budget())
}

/// The batch with `bytes` written over it at `offset`, and a right CRC.
fn altered(batch: &Batch, offset: usize, bytes: &[u8]) -> Batch {
    let mut copy = batch.bytes().to_vec();
    copy[offset..offset + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&copy[at::ATTRIBUTES..]);
    copy[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    Batch::new(copy.into()).expect("the length was not altered")
}

#[test]
fn what_is_built_is_read_back_under_every_codec() {
    for codec in Codec::ALL {
        let builder = BatchBuilder::new()
            .compression(Compression::of(codec))
            .base_offset(1000);
        let batch = sample(builder);
        let view = batch.view();
        assert_eq!(view.check_crc(), Ok(()));
        assert_eq!(view.attributes().codec(), Ok(codec));
        assert_eq!(
            (view.base_offset(), view.last_offset(), view.next_offset()),
            (1000, 1002, 1003)
        );
        assert_eq!(
            (view.base_timestamp(), view.max_timestamp()),
            (NOW_MS, NOW_MS + 7)
        );
        assert_eq!((view.record_count(), view.magic()), (3, 2));
        assert_eq!(
            view.size(),
            view.batch_length() as usize + LOG_OVERHEAD_BYTES
        );
        assert!(!view.has_producer_id());

        let records = read(&batch);
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [1000, 1001, 1002]);
        assert_eq!(records[1].timestamp, NOW_MS + 7);
        assert_eq!(records[0].key.as_deref(), Some(b"key".as_slice()));
        assert_eq!(
            (records[1].key.as_deref(), records[1].value.as_deref()),
            (None, Some(&[][..]))
        );
        assert_eq!(
            (records[2].key.as_deref(), records[2].value.as_deref()),
            (Some(&[][..]), None)
        );
        let headers: Vec<(&[u8], Option<&[u8]>)> = records[0]
            .headers
            .iter()
            .map(|h| (&h.key[..], h.value.as_deref()))
            .collect();
        let expected: [HeaderRef; 3] = [(b"h", Some(b"1")), (b"h", Some(b"2")), (b"", None)];
        assert_eq!(headers, expected);
    }
}

#[test]
fn an_honest_batch_passes_untouched_under_every_codec() {
    for codec in Codec::ALL {
        let batch = sample(BatchBuilder::new().compression(Compression::of(codec)));
        let validated = check(&batch, &Rules::default()).expect("the batch is valid");
        assert_eq!(validated.batch, batch);
        assert!(!validated.rewritten);
        assert_eq!(validated.record_count, 3);
        assert_eq!(
            (
                validated.max_timestamp,
                validated.max_timestamp_offset_delta
            ),
            (NOW_MS + 7, 1)
        );
    }
}

#[test]
fn offset_and_epoch_are_patched_outside_the_crc() {
    let batch = sample(BatchBuilder::new());
    let mut copy = batch.bytes().to_vec();
    patch_header(&mut copy, 42, 7);
    let patched = Batch::new(Bytes::from(copy)).expect("still a batch");
    let view = patched.view();
    assert_eq!((view.base_offset(), view.partition_leader_epoch()), (42, 7));
    assert_eq!(view.check_crc(), Ok(()));
    assert_eq!(view.body(), batch.view().body());
}

#[test]
fn a_damaged_byte_is_a_corrupt_message() {
    let batch = sample(BatchBuilder::new());
    let mut copy = batch.bytes().to_vec();
    *copy.last_mut().expect("a batch has bytes") ^= 1;
    let damaged = Batch::new(copy.into()).expect("the length is right");
    let refused = check(&damaged, &Rules::default()).expect_err("the CRC is wrong");
    assert!(matches!(refused, Invalid::Crc(_)), "{refused}");
    assert_eq!(refused.code(), ErrorCode::CORRUPT_MESSAGE);
}

#[test]
fn log_append_time_overrides_the_producers_clock() {
    let rules = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        ..Rules::default()
    };
    for codec in Codec::ALL {
        let batch = sample(BatchBuilder::new().compression(Compression::of(codec)));
        let validated = check(&batch, &rules).expect("the batch is valid");
        let view = validated.batch.view();
        assert!(validated.rewritten);
        assert_eq!(view.check_crc(), Ok(()));
        assert_eq!(
            view.attributes().timestamp_type(),
            TimestampType::LogAppendTime
        );
        assert_eq!(view.max_timestamp(), NOW_MS);
        assert_eq!(view.body(), batch.view().body());
        assert!(
            read(&validated.batch)
                .iter()
                .all(|record| record.timestamp == NOW_MS)
        );
    }
    let twice = check(&sample(BatchBuilder::new().log_append_time(NOW_MS)), &rules);
    assert_eq!(twice, Err(Invalid::LogAppendTime));
}

#[test]
fn headers_that_contradict_are_invalid_records() {
    let plain = sample(BatchBuilder::new());
    let idempotent = sample(BatchBuilder::new().producer(9, 0, 0));
    let cases: [(Batch, &str); 9] = [
        (
            altered(&plain, at::BASE_OFFSET, &1i64.to_be_bytes()),
            "base offset",
        ),
        (
            altered(&plain, at::LAST_OFFSET_DELTA, &3i32.to_be_bytes()),
            "declares 3 records",
        ),
        (
            altered(&plain, at::RECORD_COUNT, &0i32.to_be_bytes()),
            "declares 0 records",
        ),
        (
            altered(&plain, at::RECORD_COUNT, &(-1i32).to_be_bytes()),
            "declares -1 records",
        ),
        (sample(BatchBuilder::new().control(true)), "control records"),
        (
            sample(BatchBuilder::new().delete_horizon(NOW_MS)),
            "delete horizon",
        ),
        (
            sample(BatchBuilder::new().transactional(true)),
            "needs a producer id",
        ),
        (
            altered(&idempotent, at::BASE_SEQUENCE, &(-1i32).to_be_bytes()),
            "base sequence -1",
        ),
        (
            altered(&idempotent, at::PRODUCER_EPOCH, &(-1i16).to_be_bytes()),
            "epoch -1",
        ),
    ];
    for (batch, reason) in cases {
        let refused = check(&batch, &Rules::default()).expect_err(reason);
        assert!(
            refused.to_string().contains(reason),
            "{refused} does not say {reason}"
        );
        assert_eq!(refused.code(), ErrorCode::INVALID_RECORD, "{reason}");
    }
    assert!(check(&idempotent, &Rules::default()).is_ok());
}

#[test]
fn end_of_transaction_markers_are_control_batches() {
    for control_type in [ControlType::Abort, ControlType::Commit] {
        let marker = EndTxnMarker {
            control_type,
            coordinator_epoch: 5,
        };
        let batch = marker.batch(77, 3, NOW_MS);
        let attributes = batch.view().attributes();
        assert!(attributes.is_control() && attributes.is_transactional());
        assert_eq!(
            (batch.view().producer_id(), batch.view().producer_epoch()),
            (77, 3)
        );
        assert_eq!(batch.view().base_sequence(), NO_SEQUENCE);
        let record = read(&batch).remove(0);
        let (key, value) = (record.key.expect("a key"), record.value.expect("a value"));
        assert_eq!(&key[..], [0, 0, 0, control_type as u8]);
        assert_eq!(&value[..], [0, 0, 0, 0, 0, 5]);
        assert_eq!(EndTxnMarker::from_record(&key, &value), Some(marker));
        assert_eq!(EndTxnMarker::from_record(&key[..3], &value), None);
        assert_eq!(EndTxnMarker::from_record(&key, &value[..5]), None);
    }
}
