//! Frames that real clients sent: each is understood to its last byte, and written as it was.
//!
//! The frames stand in `golden/`, one file for each client; the file's head says how they were
//! made.

use bytes::{Bytes, BytesMut};
use protocol::api::{ApiKey, Message, Request};
use protocol::codec::{Decoder, Encoder};
use protocol::frame;
use protocol::messages::*;
use std::collections::BTreeSet;

const CLIENTS: &[(&str, &str)] = &[
    ("java", include_str!("golden/requests-java.hex")),
    ("librdkafka", include_str!("golden/requests-librdkafka.hex")),
    (
        "kafka-python",
        include_str!("golden/requests-kafka-python.hex"),
    ),
    ("aiokafka", include_str!("golden/requests-aiokafka.hex")),
];

/// The id that the broker of the recording gave to its topic `t`.
const TOPIC_ID: uuid::Uuid = uuid::uuid!("12345678-9abc-4def-8000-000000000001");

/// Client, name of the api, version, and the frame without its length.
fn golden() -> Vec<(&'static str, &'static str, i16, Bytes)> {
    let mut frames = Vec::new();
    for (client, text) in CLIENTS {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let [api, version, hex] = words[..] else {
                panic!("not a frame: {line}")
            };
            frames.push((*client, api, version.parse().unwrap(), from_hex(hex)));
        }
    }
    frames
}

fn from_hex(hex: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hexadecimal digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn decode(bytes: &Bytes) -> (RequestHeader, Request) {
    let mut input = Decoder::new(bytes.clone());
    let header = RequestHeader::decode(&mut input).unwrap();
    let request = Request::decode(&header, &mut input).unwrap_or_else(|error| {
        panic!("{header:?}: {error}");
    });
    input
        .finish()
        .unwrap_or_else(|error| panic!("{header:?}: {error}"));
    (header, request)
}

/// The requests of `client` for one api.
fn requests(client: &str, key: ApiKey) -> Vec<Request> {
    let golden = golden()
        .into_iter()
        .filter(|(it, api, _, _)| *it == client && *api == key.api().name);
    golden.map(|(_, _, _, bytes)| decode(&bytes).1).collect()
}

macro_rules! encode_again {
    ($(
        $name:ident = $key:literal, $min:literal ..= $max:literal, flexible $flexible:tt,
            $request:ident, $response:ident;
    )*) => {
        fn encode_again(header: &RequestHeader, request: &Request) -> Vec<Bytes> {
            let client_id = header.client_id.as_ref();
            let (id, version) = (header.correlation_id, header.version);
            match request {
                $( Request::$name(body) => frame::request(client_id, id, version, body), )*
            }
            .unwrap()
        }
    };
}

protocol::every_api!(encode_again);

#[test]
fn each_frame_is_understood_and_written_as_it_was() {
    for (client, api, version, bytes) in golden() {
        let (header, request) = decode(&bytes);
        assert_eq!(
            (header.key.api().name, header.version),
            (api, version),
            "{client}"
        );
        assert_eq!(request.key(), header.key);
        let mut again = BytesMut::from(&encode_again(&header, &request).concat()[..]);
        let again = frame::cut(&mut again, usize::MAX).unwrap().unwrap();
        assert_eq!(again, bytes, "{client} {api} {version}: {request:?}");
    }
}

#[test]
fn the_frames_are_of_many_apis_and_versions() {
    let kinds: BTreeSet<_> = golden()
        .iter()
        .map(|(_, api, version, _)| (*api, *version))
        .collect();
    let apis: BTreeSet<_> = kinds.iter().map(|(api, _)| *api).collect();
    assert!(
        apis.len() >= 24 && kinds.len() >= 55,
        "{} apis: {kinds:?}",
        apis.len()
    );
}

#[test]
fn clients_say_who_they_are() {
    let software = |client| {
        let [Request::ApiVersions(request)] = &requests(client, ApiKey::ApiVersions)[..] else {
            panic!("one ApiVersions request of {client}");
        };
        let name = request.client_software_name.as_str().to_owned();
        (name, request.client_software_version.as_str().to_owned())
    };
    assert_eq!(
        software("java"),
        ("apache-kafka-java".into(), "4.3.1".into())
    );
    assert_eq!(
        software("kafka-python"),
        ("kafka-python".into(), "3.0.12".into())
    );
    assert_eq!(software("librdkafka").0, "confluent-kafka-python");
}

#[test]
fn what_was_produced_is_found_where_it_should_be() {
    for (client, _) in CLIENTS {
        let [Request::Produce(request)] = &requests(client, ApiKey::Produce)[..] else {
            panic!("one Produce request of {client}");
        };
        assert_eq!(
            (request.acks, request.topic_data.len()),
            (-1, 1),
            "{client}"
        );
        let topic = &request.topic_data[0];
        assert!(
            topic.name == "t" || topic.topic_id == TOPIC_ID,
            "{client}: {topic:?}"
        );
        let partition = &request.topic_data[0].partition_data[0];
        let records = partition.records.as_ref().expect("records");
        assert_eq!(
            (partition.index, records[16]),
            (0, 2),
            "{client}: a batch of format v2"
        );
        let length = i32::from_be_bytes(records[8..12].try_into().unwrap());
        assert_eq!(
            records.len(),
            12 + length as usize,
            "{client}: exactly one batch"
        );
    }
}

#[test]
fn members_name_their_group() {
    for (client, _) in CLIENTS {
        let [Request::JoinGroup(join)] = &requests(client, ApiKey::JoinGroup)[..] else {
            panic!("one JoinGroup request of {client}");
        };
        assert_eq!(
            (join.group_id.as_str(), join.protocol_type.as_str()),
            ("g", "consumer")
        );
        assert!(
            join.session_timeout_ms >= 6000 && !join.protocols.is_empty(),
            "{client}"
        );
        let [Request::OffsetCommit(commit)] = &requests(client, ApiKey::OffsetCommit)[..] else {
            panic!("one OffsetCommit request of {client}");
        };
        assert_eq!(commit.group_id, "g");
        assert_eq!(commit.generation_id_or_member_epoch, 1);
        assert_eq!(
            commit.topics[0].partitions[0].committed_offset, 3,
            "{client}"
        );
    }
}

#[test]
fn an_answer_is_what_its_request_expects() {
    let body = ApiVersionsResponse {
        api_keys: protocol::api::advertised_versions(),
        ..Default::default()
    };
    let parts = frame::response(7, 3, &body).unwrap();
    let mut input = Decoder::new(parts.concat().into());
    input.i32().unwrap();
    let header = ResponseHeader::decode(&mut input, ApiKey::ApiVersions, 3).unwrap();
    assert_eq!(header.correlation_id, 7);
    assert_eq!(ApiVersionsResponse::decode(&mut input, 3), Ok(body.clone()));
    assert_eq!(input.finish(), Ok(()));
    let mut out = Encoder::new();
    body.encode(&mut out, 0).unwrap();
    assert_eq!(
        out.len(),
        2 + 4 + 6 * body.api_keys.len(),
        "version 0 is what a first guess reads"
    );
}
