//! Every message, in every version that both know, byte for byte against the `kafka-protocol`
//! crate; and in every version of ours against itself.
//!
//! A random value of ours is written, read by the oracle, written by the oracle, and read by ours:
//! bytes and values must come back as they were. That covers both directions of both sides. The
//! oracle's own defaults are read and written by ours too, so that a field of which ours knows
//! nothing is noticed. The oracle takes null in any version of a nullable field; which versions
//! Kafka allows it in is tested in `messages`.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use protocol::api::{ApiKey, Message};
use protocol::codec::{Decoder, Encoder, Form, Random};
use protocol::messages::*;

/// Random values for each version of each message.
const VALUES: u64 = 60;

fn encode<M: Message>(value: &M, version: i16) -> Bytes {
    let mut out = Encoder::new();
    value.encode(&mut out, version).unwrap_or_else(|error| {
        panic!("{} {version}: {error} in {value:?}", M::KEY);
    });
    let expected = out.len();
    let whole: Vec<u8> = out.finish().concat();
    assert_eq!(
        whole.len(),
        expected,
        "{} {version}: the parts make up the whole",
        M::KEY
    );
    whole.into()
}

fn decode<M: Message>(bytes: &Bytes, version: i16) -> M {
    let mut input = Decoder::new(bytes.clone());
    let value = M::decode(&mut input, version)
        .unwrap_or_else(|error| panic!("{} {version}: {error} in {bytes:x?}", M::KEY));
    input
        .finish()
        .unwrap_or_else(|error| panic!("{} {version}: {error}", M::KEY));
    value
}

/// Each random value of ours with its bytes, in all of our versions.
fn for_each_value<M: Message>(mut check: impl FnMut(i16, &M, &Bytes)) {
    let api = M::KEY.api();
    for version in api.versions.iter() {
        let form = Form::new(version, api.is_flexible(version));
        for seed in 0..VALUES {
            let seed = seed + 1000 * version as u64 + 1_000_000 * M::KEY as u64;
            let value = M::arbitrary(&mut Random::new(seed), form);
            let bytes = encode(&value, version);
            check(version, &value, &bytes);
        }
        let bytes = encode(&M::default(), version);
        check(version, &decode::<M>(&bytes, version), &bytes);
    }
}

fn round_trip<M: Message>() {
    for_each_value(|version, value: &M, bytes| {
        assert_eq!(decode::<M>(bytes, version), *value, "{} {version}", M::KEY);
    });
}

fn oracle_encode<O: Encodable>(value: &O, key: ApiKey, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    value
        .encode(&mut out, version)
        .unwrap_or_else(|error| panic!("{key} {version}: oracle: {error}"));
    out.freeze()
}

/// Versions in which ours was compared with the oracle's.
fn compare<M, O>() -> Vec<i16>
where
    M: Message,
    O: Encodable + Decodable + Default + std::fmt::Debug + kafka_protocol::protocol::Message,
{
    let key = M::KEY;
    let known = |version: i16| (O::VERSIONS.min..=O::VERSIONS.max).contains(&version);
    for_each_value(|version, value: &M, bytes| {
        if !known(version) {
            return;
        }
        let mut input = bytes.clone();
        let theirs = O::decode(&mut input, version)
            .unwrap_or_else(|error| panic!("{key} {version}: oracle: {error} for {value:?}"));
        assert!(
            input.is_empty(),
            "{key} {version}: the oracle leaves {} bytes",
            input.len()
        );
        let again = oracle_encode(&theirs, key, version);
        assert_eq!(again, bytes, "{key} {version}: {value:?} is {theirs:?}");
        assert_eq!(decode::<M>(&again, version), *value, "{key} {version}");
    });
    let compared: Vec<i16> = key
        .api()
        .versions
        .iter()
        .filter(|version| known(*version))
        .collect();
    for version in &compared {
        let bytes = oracle_encode(&O::default(), key, *version);
        assert_eq!(
            encode(&decode::<M>(&bytes, *version), *version),
            bytes,
            "{key} {version}"
        );
    }
    compared
}

/// Versions newer than the oracle's, which are only compared with themselves.
const UNKNOWN_TO_ORACLE: &[(&str, &[i16])] = &[
    ("ListOffsetsRequest", &[11]),
    ("ListOffsetsResponse", &[11]),
    ("OffsetCommitRequest", &[10]),
    ("OffsetFetchRequest", &[10]),
    ("ApiVersionsRequest", &[5]),
    ("ApiVersionsResponse", &[5]),
    ("DescribeLogDirsRequest", &[5]),
    ("DescribeLogDirsResponse", &[5]),
    ("DeleteGroupsRequest", &[3]),
    ("DeleteGroupsResponse", &[3]),
];

fn is_complete(key: ApiKey, message: &str, compared: &[i16]) {
    let versions = key.api().versions.iter();
    let missing: Vec<i16> = versions
        .filter(|version| !compared.contains(version))
        .collect();
    let row = UNKNOWN_TO_ORACLE.iter().find(|(name, _)| *name == message);
    let expected = row.map_or(&[][..], |(_, versions)| versions);
    assert_eq!(
        missing, expected,
        "{message}: versions that were not compared"
    );
}

macro_rules! tests {
    ($(
        $name:ident = $key:literal, $min:literal ..= $max:literal, flexible $flexible:tt,
            $request:ident, $response:ident;
    )*) => {
        $(
            #[test]
            #[allow(non_snake_case)]
            fn $name() {
                round_trip::<$request>();
                round_trip::<$response>();
                let compared = compare::<$request, oracle::$request>();
                is_complete(ApiKey::$name, stringify!($request), &compared);
                let compared = compare::<$response, oracle::$response>();
                is_complete(ApiKey::$name, stringify!($response), &compared);
                for version in ApiKey::$name.api().versions.iter() {
                    let api = ApiKey::$name.api();
                    assert_eq!(
                        (
                            api.request_header_version(version),
                            api.response_header_version(version),
                        ),
                        (
                            oracle::$request::header_version(version),
                            oracle::$response::header_version(version),
                        ),
                        "{} {version}", api.name,
                    );
                }
            }
        )*
    };
}

protocol::every_api!(tests);
