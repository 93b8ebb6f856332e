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

#[test]
fn exactly_one_batch_of_magic_2_may_be_produced() {
    let batch = sample(BatchBuilder::new());
    let bytes = batch.bytes();
    let with = |tail: &[u8]| Bytes::from([&bytes[..], tail].concat());
    let set = |offset: usize, value: &[u8]| {
        let mut copy = bytes.to_vec();
        copy[offset..offset + value.len()].copy_from_slice(value);
        Bytes::from(copy)
    };
    let code = |records: &Bytes| produced_batch(records, 13).map_err(|error| error.code());

    // What Kafka drops: less behind the batch than another batch would be.
    for tail in [&[][..], &[0; 11], &bytes[..16], &bytes[..bytes.len() - 1]] {
        assert_eq!(
            code(&with(tail)).as_ref(),
            Ok(&batch),
            "{} bytes more",
            tail.len()
        );
    }
    assert_eq!(code(&with(bytes)), Err(ErrorCode::INVALID_RECORD));
    assert_eq!(
        code(&with(&[0; 12])),
        Err(ErrorCode::CORRUPT_MESSAGE),
        "a length of 0"
    );

    assert_eq!(code(&Bytes::new()), Err(ErrorCode::INVALID_RECORD));
    assert_eq!(
        code(&bytes.slice(..bytes.len() - 1)),
        Err(ErrorCode::INVALID_RECORD)
    );
    for magic in [0, 1] {
        assert_eq!(
            code(&set(at::MAGIC, &[magic])),
            Err(ErrorCode::INVALID_RECORD)
        );
    }
    for magic in [3, 0xff] {
        assert_eq!(
            code(&set(at::MAGIC, &[magic])),
            Err(ErrorCode::CORRUPT_MESSAGE)
        );
    }
    for length in [i32::MIN, -1, 0, 13, 48] {
        let lie = set(at::BATCH_LENGTH, &length.to_be_bytes());
        assert_eq!(
            code(&lie),
            Err(ErrorCode::CORRUPT_MESSAGE),
            "length {length}"
        );
    }
    let lie = set(at::BATCH_LENGTH, &i32::MAX.to_be_bytes());
    assert_eq!(
        code(&lie),
        Err(ErrorCode::INVALID_RECORD),
        "the batch is not there"
    );

    let zstd = sample(BatchBuilder::new().compression(Compression::of(Codec::Zstd)));
    assert!(produced_batch(zstd.bytes(), 7).is_ok());
    let refused = produced_batch(zstd.bytes(), 6).expect_err("KIP-110");
    assert_eq!(refused.code(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
}

#[test]
fn a_sequence_of_batches_is_cut_up_to_the_damage() {
    let batches: Vec<Batch> = (0..3)
        .map(|i| sample(BatchBuilder::new().base_offset(i * 3)))
        .collect();
    let bytes: Vec<u8> = batches
        .iter()
        .flat_map(|batch| batch.bytes().to_vec())
        .collect();
    let whole: Vec<Batch> = split(bytes.clone().into())
        .map(|b| b.expect("whole"))
        .collect();
    assert_eq!(whole, batches);

    let size = batches[0].view().size();
    let mut cut = split(Bytes::from(bytes[..bytes.len() - 1].to_vec()));
    assert_eq!(cut.by_ref().take(2).flatten().count(), 2);
    assert_eq!(
        cut.next(),
        Some(Err(Malformed::Partial {
            have: size - 1,
            need: size
        }))
    );
    assert_eq!(cut.next(), None);
    assert_eq!(cut.rest()[..], bytes[2 * size..bytes.len() - 1]);
    assert_eq!(
        BatchView::new(&bytes),
        Err(Malformed::Trailing {
            size,
            have: 3 * size
        })
    );
    assert_eq!(BatchView::first(&bytes).map(BatchView::size), Ok(size));
}

#[test]
fn timestamps_are_held_between_before_and_after() {
    let at_time = |timestamps: &[i64]| {
        let mut builder = BatchBuilder::new();
        for timestamp in timestamps {
            builder.push(*timestamp, None, Some(b"v"), &[]);
        }
        builder.build()
    };
    let rules = Rules {
        timestamp_before_max_ms: 500,
        ..Rules::default()
    };
    let hour = rules.timestamp_after_max_ms;
    assert!(
        check(
            &at_time(&[NOW_MS - 500, NOW_MS + hour, NO_TIMESTAMP]),
            &rules
        )
        .is_ok()
    );
    let late_and_early = at_time(&[NOW_MS, NOW_MS - 501, NOW_MS + hour + 1]);
    let refused = check(&late_and_early, &rules).expect_err("two records are out of bounds");
    assert_eq!(refused.code(), ErrorCode::INVALID_TIMESTAMP);
    let named: Vec<i32> = refused
        .record_faults()
        .iter()
        .map(|fault| fault.batch_index)
        .collect();
    assert_eq!(named, [1, 2]);
    // The default takes any past; under LogAppendTime the producer's clock is nobody's business.
    assert!(check(&at_time(&[0, 1, NOW_MS]), &Rules::default()).is_ok());
    let appended = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        ..rules
    };
    assert!(check(&late_and_early, &appended).is_ok());

    let tie = at_time(&[NOW_MS, NOW_MS + 1, NOW_MS + 1]);
    let first = check(&tie, &Rules::default())
        .expect("valid")
        .max_timestamp_offset_delta;
    assert_eq!(first, 1, "the first of the latest");
    let none = check(&at_time(&[NO_TIMESTAMP]), &Rules::default()).expect("records without a time");
    assert_eq!((none.max_timestamp, none.rewritten), (NO_TIMESTAMP, false));
}

#[test]
fn a_maximum_timestamp_that_lies_is_put_right() {
    let honest = sample(BatchBuilder::new());
    let lie = altered(&honest, at::MAX_TIMESTAMP, &(NOW_MS + 99_999).to_be_bytes());
    let validated = check(&lie, &Rules::default()).expect("Kafka repairs this too");
    assert!(validated.rewritten);
    assert_eq!(validated.batch, honest);
}

#[test]
fn compacted_topics_need_keys() {
    let rules = Rules {
        require_key: true,
        ..Rules::default()
    };
    let refused = check(&sample(BatchBuilder::new()), &rules).expect_err("one key is null");
    assert_eq!(refused.code(), ErrorCode::INVALID_RECORD);
    let fault = RecordFault {
        batch_index: 1,
        reason: FaultReason::NoKey,
    };
    assert_eq!(refused.record_faults(), [fault]);
    let mut empty_key = BatchBuilder::new();
    empty_key.push(NOW_MS, Some(b""), None, &[]);
    assert!(
        check(&empty_key.build(), &rules).is_ok(),
        "an empty key is a key"
    );

    let mut many = BatchBuilder::new();
    for _ in 0..RECORD_FAULTS_MAX + 1 {
        many.push(NOW_MS, None, None, &[]);
    }
    let refused = check(&many.build(), &rules).expect_err("no record has a key");
    assert_eq!(refused.record_faults().len(), RECORD_FAULTS_MAX);
}

#[test]
fn a_topics_codec_replaces_the_producers() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let batch = sample(
                BatchBuilder::new()
                    .compression(Compression::of(from))
                    .producer(5, 1, 10),
            );
            let rules = Rules {
                compression: Some(Compression::of(to)),
                ..Rules::default()
            };
            let validated = check(&batch, &rules).expect("the batch is valid");
            let view = validated.batch.view();
            assert_eq!(validated.rewritten, from != to);
            assert_eq!(
                (view.attributes().codec(), view.check_crc()),
                (Ok(to), Ok(()))
            );
            assert_eq!((view.producer_id(), view.base_sequence()), (5, 10));
            assert_eq!(read(&validated.batch), read(&batch));

            let rules = Rules {
                timestamp_type: TimestampType::LogAppendTime,
                ..rules
            };
            let stamped = check(&batch, &rules).expect("the batch is valid").batch;
            assert_eq!(stamped.view().attributes().codec(), Ok(to));
            assert_eq!(stamped.view().check_crc(), Ok(()));
            assert!(
                read(&stamped)
                    .iter()
                    .all(|record| record.timestamp == NOW_MS)
            );
        }
    }
}

#[test]
fn the_size_limit_holds_before_and_after_recompression() {
    let mut builder = BatchBuilder::new().compression(Compression::of(Codec::Gzip));
    builder.push(NOW_MS, None, Some(&[b'a'; 5000]), &[]);
    let batch = builder.build();
    let size = batch.view().size();
    let fits = Rules {
        max_message_bytes: size,
        ..Rules::default()
    };
    assert!(check(&batch, &fits).is_ok());
    let refused = check(
        &batch,
        &Rules {
            max_message_bytes: size - 1,
            ..Rules::default()
        },
    );
    assert_eq!(
        refused,
        Err(Invalid::TooLarge {
            size,
            max: size - 1
        })
    );
    let plain = Rules {
        compression: Some(Compression::NONE),
        ..fits
    };
    let refused = check(&batch, &plain).expect_err("5000 bytes are more than gzip made of them");
    assert_eq!(refused.code(), ErrorCode::MESSAGE_TOO_LARGE);
    let refused = validate(&batch, &Rules::default(), NOW_MS, &mut Budget::new(4999))
        .expect_err("the budget is smaller than the records");
    assert_eq!(refused.code(), ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn wrong_offset_deltas_are_put_right() {
    let expected = sample(BatchBuilder::new());
    // The records of `expected` at deltas 1, 2 and 5, under a header that says 0 to 2.
    let body = expected.view().body().to_vec();
    let mut gaps = BatchBuilder::new();
    let refs = RecordRefs::new(&body, 3).expect("three records");
    for (delta, record) in [1, 2, 5].into_iter().zip(refs) {
        let record = record.expect("framing");
        gaps.push_at(delta, NOW_MS + record.timestamp_delta, &record);
    }
    let gaps = altered(&gaps.build(), at::LAST_OFFSET_DELTA, &2i32.to_be_bytes());
    let validated = check(&gaps, &Rules::default()).expect("Kafka repairs this too");
    assert!(validated.rewritten);
    assert_eq!(validated.batch, expected);
    let rules = Rules {
        timestamp_type: TimestampType::LogAppendTime,
        ..Rules::default()
    };
    let stamped = check(&gaps, &rules).expect("both at once").batch;
    let times = read(&stamped)
        .into_iter()
        .map(|record| (record.offset, record.timestamp));
    assert_eq!(
        times.collect::<Vec<_>>(),
        [(0, NOW_MS), (1, NOW_MS), (2, NOW_MS)]
    );
    let zstd = recompress(&gaps, Compression::of(Codec::Zstd), &mut budget()).expect("plain");
    let validated = check(&zstd, &Rules::default()).expect("compressed, likewise");
    assert_eq!(validated.batch.view().attributes().codec(), Ok(Codec::Zstd));
    assert_eq!(read(&validated.batch), read(&expected));
}

#[test]
fn framing_that_lies_is_an_invalid_record() {
    let one = |body: &[u8], count: i32| {
        let mut builder = BatchBuilder::new();
        builder.push(NOW_MS, None, None, &[]);
        let mut bytes = builder.build().bytes()[..HEADER_BYTES].to_vec();
        bytes.extend_from_slice(body);
        let length = (bytes.len() - LOG_OVERHEAD_BYTES) as i32;
        bytes[at::BATCH_LENGTH..at::PARTITION_LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
        let batch = Batch::new(bytes.into()).expect("a batch");
        let batch = altered(&batch, at::LAST_OFFSET_DELTA, &(count - 1).to_be_bytes());
        altered(&batch, at::RECORD_COUNT, &count.to_be_bytes())
    };
    // Length 6 (12 zigzag): attributes, timestamp delta, offset delta, null key, null value, no
    // headers.
    let record = [12, 0, 0, 0, 1, 1, 0];
    assert!(check(&one(&record, 1), &Rules::default()).is_ok());
    let cases: [(&[u8], i32, FramingError); 11] = [
        (
            &[14, 0, 0, 0, 1, 1, 2, 0],
            1,
            FramingError::HeaderCount { count: 1, have: 1 },
        ),
        (&record, 2, FramingError::EndsEarly),
        (
            &[12, 0, 0, 0, 1, 1, 0, 7],
            1,
            FramingError::Leftover { bytes: 1 },
        ),
        (
            &[14, 0, 0, 0, 1, 1, 0],
            1,
            FramingError::RecordLength { length: 7, have: 6 },
        ),
        (
            &[1, 0, 0, 0, 1, 1, 0],
            1,
            FramingError::RecordLength {
                length: -1,
                have: 6,
            },
        ),
        (&[14, 0, 0, 0, 1, 1, 0, 0], 1, FramingError::FieldsDoNotFill),
        (
            &[0],
            1,
            FramingError::Field {
                field: "attributes",
            },
        ),
        (
            &[12, 0, 0, 0, 1, 200, 0],
            1,
            FramingError::Field { field: "value" },
        ),
        (
            &[12, 0, 0, 0, 8, 1, 0],
            1,
            FramingError::Field { field: "key" },
        ),
        (
            &[12, 0, 0, 0, 1, 1, 1],
            1,
            FramingError::HeaderCount { count: -1, have: 0 },
        ),
        (
            &[16, 0, 0, 0, 1, 1, 2, 1, 1],
            1,
            FramingError::Field { field: "header" },
        ),
    ];
    for (body, count, expected) in cases {
        let refused = check(&one(body, count), &Rules::default()).expect_err("a lie");
        assert_eq!(
            refused,
            Invalid::Unreadable(ReadError::Framing(expected)),
            "{body:?}"
        );
        assert_eq!(refused.code(), ErrorCode::INVALID_RECORD);
    }
    let codec = altered(&one(&record, 1), at::ATTRIBUTES, &[0, 7]);
    let refused = check(&codec, &Rules::default()).expect_err("codec 7 is nobody's");
    assert_eq!(refused.code(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    let gzip = altered(&one(&record, 1), at::ATTRIBUTES, &[0, 1]);
    let refused = check(&gzip, &Rules::default()).expect_err("this is not gzip");
    assert_eq!(refused.code(), ErrorCode::INVALID_RECORD);
}

#[test]
fn records_are_found_by_time() {
    for codec in Codec::ALL {
        let batch = sample(
            BatchBuilder::new()
                .base_offset(10)
                .compression(Compression::of(codec)),
        );
        let find = |target| find_by_timestamp(&batch, target, &mut budget()).expect("readable");
        let found = |offset, timestamp| Some(TimestampedOffset { offset, timestamp });
        assert_eq!(find(0), found(10, NOW_MS));
        assert_eq!(find(NOW_MS + 1), found(11, NOW_MS + 7));
        assert_eq!(find(NOW_MS + 8), None);
        let max = max_timestamp_offset(&batch, &mut budget()).expect("readable");
        assert_eq!(max, found(11, NOW_MS + 7));
    }
    let appended = sample(BatchBuilder::new().base_offset(10).log_append_time(NOW_MS));
    let first = Some(TimestampedOffset {
        offset: 10,
        timestamp: NOW_MS,
    });
    assert_eq!(
        find_by_timestamp(&appended, NOW_MS, &mut Budget::new(0)),
        Ok(first)
    );
    assert_eq!(
        find_by_timestamp(&appended, NOW_MS + 1, &mut Budget::new(0)),
        Ok(None)
    );
    assert_eq!(
        max_timestamp_offset(&appended, &mut Budget::new(0)),
        Ok(first)
    );
}

#[test]
fn compaction_keeps_the_range_of_offsets() {
    let batch = sample(
        BatchBuilder::new()
            .base_offset(100)
            .producer(9, 2, 40)
            .transactional(true),
    );
    let view = batch.view();
    let mut kept = BatchBuilder::like(view).delete_horizon(NOW_MS + 1000);
    let body = body(view, &mut budget()).expect("not compressed");
    let refs = RecordRefs::new(&body, view.record_count()).expect("a count");
    let last = refs.last().expect("three records").expect("framing");
    kept.push_at(
        last.offset_delta,
        Bases::of(view).timestamp_of(&last),
        &last,
    );
    let kept = kept.build();
    let compacted = kept.view();
    assert_eq!(
        (compacted.base_offset(), compacted.last_offset()),
        (100, 102)
    );
    assert_eq!(
        (compacted.record_count(), compacted.last_sequence()),
        (1, 42)
    );
    assert_eq!(compacted.delete_horizon_ms(), Some(NOW_MS + 1000));
    assert_eq!(compacted.max_timestamp(), NOW_MS + 3);
    assert_eq!(read(&kept), read(&batch)[2..]);

    let empty = BatchBuilder::like(view).build();
    assert_eq!(empty.view().size(), HEADER_BYTES);
    assert_eq!(
        (empty.view().next_offset(), empty.view().last_sequence()),
        (103, 42)
    );
    assert_eq!(empty.view().max_timestamp(), view.max_timestamp());
    assert_eq!(read(&empty), []);
}

#[test]
fn sequence_numbers_wrap_to_zero() {
    assert_eq!(advance_sequence(5, 3), 8);
    assert_eq!(advance_sequence(i32::MAX - 1, 1), i32::MAX);
    assert_eq!(advance_sequence(i32::MAX, 1), 0);
    assert_eq!(advance_sequence(i32::MAX - 1, 5), 3);
    let batch = sample(BatchBuilder::new().producer(1, 0, i32::MAX));
    assert_eq!(batch.view().last_sequence(), 1);
}
