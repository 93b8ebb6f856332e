//! The records, byte for byte. The bytes were put together by hand from the message definitions.

use bytes::Bytes;

use crate::groups::*;

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            other => panic!("{other} is no hex digit"),
        })
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn offset(value: OffsetValue) -> Record {
    Record::Offset {
        group: "grp".into(),
        topic: "tpc".into(),
        partition: 258,
        value: Some(value),
    }
}

fn offset_value() -> OffsetValue {
    OffsetValue {
        offset: 4_660,
        leader_epoch: 7,
        metadata: "met".into(),
        commit_timestamp: 1_700_000_000_000,
        expire_timestamp: None,
        topic_id: 0,
    }
}

const OFFSET_KEY: &str = "0001 0003 677270 0003 747063 00000102";

fn decoded(key: &str, value: &str) -> Record {
    match Record::decode(hex(key), Some(hex(value))) {
        Ok(Decoded::Record(record)) => record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_offset_is_written_in_version_four() {
    let written = offset(offset_value()).encode();
    assert_eq!(written.key, hex(OFFSET_KEY));
    let value = "0004 0000000000001234 00000007 04 6d6574 0000018bcfe56800 00";
    assert_eq!(written.value, Some(hex(value)));
    assert_eq!(decoded(OFFSET_KEY, value), offset(offset_value()));
}

#[test]
fn a_topic_id_is_a_tagged_field() {
    let with_id = OffsetValue {
        topic_id: 0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00,
        ..offset_value()
    };
    let value = "0004 0000000000001234 00000007 04 6d6574 0000018bcfe56800
                 01 00 10 112233445566778899aabbccddeeff00";
    assert_eq!(offset(with_id.clone()).encode().value, Some(hex(value)));
    assert_eq!(decoded(OFFSET_KEY, value), offset(with_id.clone()));
    // Tags of the future are passed over, whatever stands in them.
    let future = "0004 0000000000001234 00000007 04 6d6574 0000018bcfe56800
                  02 00 10 112233445566778899aabbccddeeff00 8501 02 ffff";
    assert_eq!(decoded(OFFSET_KEY, future), offset(with_id));
}

#[test]
fn an_offset_with_an_expiry_of_its_own_is_written_in_version_one() {
    let expiring = OffsetValue {
        expire_timestamp: Some(1_700_000_001_000),
        ..offset_value()
    };
    let value = "0001 0000000000001234 0003 6d6574 0000018bcfe56800 0000018bcfe56be8";
    assert_eq!(offset(expiring.clone()).encode().value, Some(hex(value)));
    // That version has no leader epoch.
    assert_eq!(
        decoded(OFFSET_KEY, value),
        offset(OffsetValue {
            leader_epoch: -1,
            ..expiring
        })
    );
}

#[test]
fn all_versions_of_an_offset_are_read() {
    let plain = OffsetValue {
        leader_epoch: -1,
        ..offset_value()
    };
    let v0 = "0000 0000000000001234 0003 6d6574 0000018bcfe56800";
    let v1_without_expiry = "0001 0000000000001234 0003 6d6574 0000018bcfe56800 ffffffffffffffff";
    let v2 = "0002 0000000000001234 0003 6d6574 0000018bcfe56800";
    for value in [v0, v1_without_expiry, v2] {
        assert_eq!(decoded(OFFSET_KEY, value), offset(plain.clone()));
    }
    let v3 = "0003 0000000000001234 00000007 0003 6d6574 0000018bcfe56800";
    assert_eq!(decoded(OFFSET_KEY, v3), offset(offset_value()));
    let legacy_key = "0000 0003 677270 0003 747063 00000102";
    assert_eq!(decoded(legacy_key, v0), offset(plain));
}

fn group_value() -> GroupValue {
    GroupValue {
        protocol_type: "consumer".into(),
        generation: 5,
        protocol: Some("range".into()),
        leader: Some("m-1".into()),
        current_state_timestamp: 1_700_000_000_000,
        members: vec![MemberValue {
            member_id: "m-1".into(),
            group_instance_id: Some("i".into()),
            client_id: "cl".into(),
            client_host: "/h".into(),
            rebalance_timeout: 60_000,
            session_timeout: 10_000,
            subscription: hex("0a0b"),
            assignment: hex("0c"),
        }],
    }
}

const GROUP_KEY: &str = "0002 0003 677270";

fn group(value: GroupValue) -> Record {
    Record::Group {
        group: "grp".into(),
        value: Some(value),
    }
}

#[test]
fn a_group_is_written_in_version_three() {
    let written = group(group_value()).encode();
    assert_eq!(written.key, hex(GROUP_KEY));
    let value = "0003 0008 636f6e73756d6572 00000005 0005 72616e6765 0003 6d2d31 0000018bcfe56800
                 00000001 0003 6d2d31 0001 69 0002 636c 0002 2f68 0000ea60 00002710
                 00000002 0a0b 00000001 0c";
    assert_eq!(written.value, Some(hex(value)));
    assert_eq!(decoded(GROUP_KEY, value), group(group_value()));
}

#[test]
fn an_empty_group_has_nulls() {
    let empty = GroupValue {
        protocol: None,
        leader: None,
        members: vec![],
        ..group_value()
    };
    let value = "0003 0008 636f6e73756d6572 00000005 ffff ffff 0000018bcfe56800 00000000";
    assert_eq!(group(empty.clone()).encode().value, Some(hex(value)));
    assert_eq!(decoded(GROUP_KEY, value), group(empty));
}

#[test]
fn all_versions_of_a_group_are_read() {
    let mut expected = group_value();
    expected.members[0].group_instance_id = None;
    let v2 = "0002 0008 636f6e73756d6572 00000005 0005 72616e6765 0003 6d2d31 0000018bcfe56800
              00000001 0003 6d2d31 0002 636c 0002 2f68 0000ea60 00002710 00000002 0a0b 00000001 0c";
    assert_eq!(decoded(GROUP_KEY, v2), group(expected.clone()));
    expected.current_state_timestamp = -1;
    let v1 = "0001 0008 636f6e73756d6572 00000005 0005 72616e6765 0003 6d2d31
              00000001 0003 6d2d31 0002 636c 0002 2f68 0000ea60 00002710 00000002 0a0b 00000001 0c";
    assert_eq!(decoded(GROUP_KEY, v1), group(expected.clone()));
    expected.members[0].rebalance_timeout = -1;
    let v0 = "0000 0008 636f6e73756d6572 00000005 0005 72616e6765 0003 6d2d31
              00000001 0003 6d2d31 0002 636c 0002 2f68 00002710 00000002 0a0b 00000001 0c";
    assert_eq!(decoded(GROUP_KEY, v0), group(expected));
    let v4 = "0004 09 636f6e73756d6572 00000005 06 72616e6765 04 6d2d31 0000018bcfe56800
              02 04 6d2d31 02 69 03 636c 03 2f68 0000ea60 00002710 03 0a0b 02 0c 00 00";
    assert_eq!(decoded(GROUP_KEY, v4), group(group_value()));
}

#[test]
fn a_tombstone_has_a_key_alone() {
    let dead = Record::Group {
        group: "grp".into(),
        value: None,
    };
    let expected = RecordToWrite {
        key: hex(GROUP_KEY),
        value: None,
    };
    assert_eq!(dead.encode(), expected);
    assert_eq!(
        Record::decode(expected.key, None),
        Ok(Decoded::Record(dead))
    );
}

#[test]
fn no_cut_or_damage_of_a_record_does_more_than_fail() {
    let v4 = "0004 09 636f6e73756d6572 00000005 06 72616e6765 04 6d2d31 0000018bcfe56800
              02 04 6d2d31 02 69 03 636c 03 2f68 0000ea60 00002710 03 0a0b 02 0c 00 00";
    let with_id = OffsetValue {
        topic_id: 1,
        ..offset_value()
    };
    let offset_v4 = offset(with_id).encode();
    let group_v3 = group(group_value()).encode();
    let samples = [
        (hex(GROUP_KEY), hex(v4)),
        (group_v3.key, group_v3.value.expect("it has one")),
        (offset_v4.key, offset_v4.value.expect("it has one")),
    ];
    for (key, value) in samples {
        for length in 0..value.len() {
            let cut = Record::decode(key.clone(), Some(value.slice(..length)));
            assert!(
                cut.is_err(),
                "{length} of {} bytes are no record",
                value.len()
            );
        }
        for position in 0..value.len() {
            for damage in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut damaged = value.to_vec();
                damaged[position] = damage;
                if let Ok(Decoded::Record(record)) =
                    Record::decode(key.clone(), Some(damaged.into()))
                {
                    // What is read can be written, and then says the same.
                    let written = record.encode();
                    Record::decode(written.key, written.value).expect("our own records are sound");
                }
            }
        }
    }
}

#[test]
fn lengths_are_not_believed() {
    let key = || hex(GROUP_KEY);
    let read = |value: &str| Record::decode(key(), Some(hex(value))).expect_err("it is unsound");
    // Two billion members, a protocol type of -2 bytes, a compact length of five bytes and more.
    let many = "0003 0000 00000005 ffff ffff 0000018bcfe56800 7fffffff";
    assert_eq!(read(many), Malformed::Truncated);
    assert_eq!(read("0003 fffe"), Malformed::Length);
    assert_eq!(read("0004 ffffffff7f"), Malformed::Length);
    assert_eq!(read("0004 ffffffffff01"), Malformed::Length);
    assert_eq!(read("0004 ffffffff0f"), Malformed::Length);
    assert_eq!(read("0004 00"), Malformed::Null);
    assert_eq!(read("0003 ffff"), Malformed::Null);
    assert_eq!(read("0003 0001 ff"), Malformed::NotUtf8);
    assert_eq!(read("ffff"), Malformed::Version(-1));
    assert_eq!(read("0005"), Malformed::Version(5));
    assert_eq!(read(""), Malformed::Truncated);
}
