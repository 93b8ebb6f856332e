//! Batches as four real clients send them, under every codec they have.
//!
//! The files hold the `records` field of a produce request in hex, captured from the wire (Java:
//! from the client's own batch builder). Each client wrote the same 53 records, see
//! [`expected_records`].

use std::path::{Path, PathBuf};

use bytes::Bytes;
use protocol::compression::{Budget, Codec, Compression};
use protocol::records::*;

const BASE_TIMESTAMP: i64 = 1_700_000_000_000;
const CLIENTS: [&str; 4] = ["franz-go", "java", "kafka-python", "librdkafka"];

struct Golden {
    name: String,
    codec: Codec,
    bytes: Bytes,
}

fn golden(client: &str, codec: Codec) -> Golden {
    let name = format!("batches-{client}-{}.hex", codec.name());
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(&name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let stated = text.lines().find_map(|line| line.strip_prefix("# codec: "));
    assert_eq!(stated, Some(codec.name()), "{name}");
    let hex: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hex digits");
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    Golden {
        name,
        codec,
        bytes: bytes.into(),
    }
}

fn all() -> impl Iterator<Item = Golden> {
    CLIENTS
        .into_iter()
        .flat_map(|client| Codec::ALL.map(|codec| golden(client, codec)))
}

type Expected = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<HeaderRef<'static>>);

/// What every client was told to send; timestamps count up from [`BASE_TIMESTAMP`].
fn expected_records() -> Vec<Expected> {
    let headers: Vec<HeaderRef> = vec![
        (b"h", Some(b"1")),
        (b"h", Some(b"2")),
        (b"other", Some(b"")),
    ];
    let mut records: Vec<Expected> = vec![
        (Some(b"k0".to_vec()), Some(b"v0".to_vec()), headers),
        (None, Some(vec![b'x'; 100]), vec![]),
        (Some(b"k2".to_vec()), None, vec![]),
    ];
    records.extend((3..53).map(|i| {
        let value = format!("value-{i} ").repeat(4);
        (
            Some(format!("key-{i}").into_bytes()),
            Some(value.into_bytes()),
            vec![],
        )
    }));
    records
}

fn assert_records(batch: &Batch, name: &str) {
    let expected = expected_records();
    let read: Vec<Record> = records(batch, &mut Budget::new(1 << 20))
        .and_then(|records| Ok(records.collect::<Result<_, _>>()?))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(read.len(), expected.len(), "{name}");
    for (index, (record, (key, value, headers))) in (0..).zip(read.iter().zip(&expected)) {
        assert_eq!(
            (record.offset, record.timestamp),
            (index, BASE_TIMESTAMP + index),
            "{name}"
        );
        assert_eq!(record.key.as_deref(), key.as_deref(), "{name} {index}");
        assert_eq!(record.value.as_deref(), value.as_deref(), "{name} {index}");
        let got: Vec<HeaderRef> = record
            .headers
            .iter()
            .map(|h| (&h.key[..], h.value.as_deref()))
            .collect();
        assert_eq!(&got, headers, "{name} {index}");
    }
}

#[test]
fn every_clients_batch_is_accepted_as_it_is_and_read() {
    for Golden { name, codec, bytes } in all() {
        let batch = produced_batch(&bytes, 9).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(batch.bytes(), &bytes, "{name}");
        assert_eq!(batch.view().attributes().codec(), Ok(codec), "{name}");
        let now_ms = BASE_TIMESTAMP + 1000;
        let validated = validate(&batch, &Rules::default(), now_ms, &mut Budget::new(1 << 20))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!validated.rewritten && validated.batch == batch, "{name}");
        assert_eq!(validated.record_count, 53, "{name}");
        assert_eq!(validated.max_timestamp, BASE_TIMESTAMP + 52, "{name}");
        assert_eq!(validated.max_timestamp_offset_delta, 52, "{name}");
        assert_records(&batch, &name);
    }
}

#[test]
fn every_clients_batch_survives_every_codec_of_ours() {
    for Golden { name, bytes, .. } in all() {
        let batch = Batch::new(bytes).expect("one batch");
        for codec in Codec::ALL {
            let compression = Compression::of(codec);
            let other = recompress(&batch, compression, &mut Budget::new(1 << 20))
                .unwrap_or_else(|error| panic!("{name} to {}: {error}", codec.name()));
            assert_eq!(other.view().check_crc(), Ok(()));
            assert_eq!(other.view().attributes().codec(), Ok(codec));
            assert_records(&other, &name);
        }
    }
}

#[test]
fn our_builder_writes_the_same_bytes_as_the_clients() {
    for client in CLIENTS {
        let golden = golden(client, Codec::None);
        let theirs = Batch::new(golden.bytes).expect("one batch");
        let view = theirs.view();
        let (id, epoch) = (view.producer_id(), view.producer_epoch());
        let mut builder = BatchBuilder::new()
            .partition_leader_epoch(view.partition_leader_epoch())
            .producer(id, epoch, view.base_sequence())
            .transactional(view.attributes().is_transactional());
        for (timestamp, (key, value, headers)) in (BASE_TIMESTAMP..).zip(expected_records()) {
            builder.push(timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        assert_eq!(builder.build(), theirs, "{}", golden.name);
    }
}

#[test]
fn java_compresses_snappy_and_lz4_in_the_framing_that_we_write() {
    for (codec, framing_bytes) in [(Codec::Snappy, 16), (Codec::Lz4, 7)] {
        let theirs = Batch::new(golden("java", codec).bytes).expect("one batch");
        let ours = recompress(&theirs, Compression::of(codec), &mut Budget::new(1 << 20))
            .expect("it decompresses");
        let (theirs, ours) = (theirs.view().body(), ours.view().body());
        assert_eq!(
            theirs[..framing_bytes],
            ours[..framing_bytes],
            "{}",
            codec.name()
        );
    }
}
