//! The apis that we know, and in which versions: the one table from which requests are dispatched,
//! headers are chosen and ApiVersions is answered.
//!
//! Source of the versions: the message descriptions of Apache Kafka 4.4. Versions that Kafka marks
//! as unstable are left out (InitProducerId 6).

use crate::codec::{DecodeError, DecodeProblem, Decoder, EncodeError, Encoder, Form, Wire};
use crate::frame;
use crate::messages::*;
use bytes::Bytes;
use std::fmt;

/// Hands the table to the macro named by `$then`, as rows of
/// `Name = key, min..=max, flexible first, Request, Response;`.
#[macro_export]
macro_rules! every_api {
    ($then:ident) => {
        $then! {
            Produce = 0, 3..=13, flexible 9, ProduceRequest, ProduceResponse;
            Fetch = 1, 4..=18, flexible 12, FetchRequest, FetchResponse;
            ListOffsets = 2, 1..=11, flexible 6, ListOffsetsRequest, ListOffsetsResponse;
            Metadata = 3, 0..=13, flexible 9, MetadataRequest, MetadataResponse;
            OffsetCommit = 8, 2..=10, flexible 8, OffsetCommitRequest, OffsetCommitResponse;
            OffsetFetch = 9, 1..=10, flexible 6, OffsetFetchRequest, OffsetFetchResponse;
            FindCoordinator = 10, 0..=6, flexible 3,
                FindCoordinatorRequest, FindCoordinatorResponse;
            JoinGroup = 11, 0..=9, flexible 6, JoinGroupRequest, JoinGroupResponse;
            Heartbeat = 12, 0..=4, flexible 4, HeartbeatRequest, HeartbeatResponse;
            LeaveGroup = 13, 0..=5, flexible 4, LeaveGroupRequest, LeaveGroupResponse;
            SyncGroup = 14, 0..=5, flexible 4, SyncGroupRequest, SyncGroupResponse;
            DescribeGroups = 15, 0..=6, flexible 5, DescribeGroupsRequest, DescribeGroupsResponse;
            ListGroups = 16, 0..=5, flexible 3, ListGroupsRequest, ListGroupsResponse;
            ApiVersions = 18, 0..=5, flexible 3, ApiVersionsRequest, ApiVersionsResponse;
            CreateTopics = 19, 2..=7, flexible 5, CreateTopicsRequest, CreateTopicsResponse;
            DeleteTopics = 20, 1..=6, flexible 4, DeleteTopicsRequest, DeleteTopicsResponse;
            DeleteRecords = 21, 0..=2, flexible 2, DeleteRecordsRequest, DeleteRecordsResponse;
            InitProducerId = 22, 0..=5, flexible 2, InitProducerIdRequest, InitProducerIdResponse;
            OffsetForLeaderEpoch = 23, 2..=4, flexible 4,
                OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
            DescribeConfigs = 32, 1..=4, flexible 4,
                DescribeConfigsRequest, DescribeConfigsResponse;
            AlterConfigs = 33, 0..=2, flexible 2, AlterConfigsRequest, AlterConfigsResponse;
            DescribeLogDirs = 35, 1..=5, flexible 2,
                DescribeLogDirsRequest, DescribeLogDirsResponse;
            CreatePartitions = 37, 0..=3, flexible 2,
                CreatePartitionsRequest, CreatePartitionsResponse;
            DeleteGroups = 42, 0..=3, flexible 2, DeleteGroupsRequest, DeleteGroupsResponse;
            ElectLeaders = 43, 0..=2, flexible 2, ElectLeadersRequest, ElectLeadersResponse;
            IncrementalAlterConfigs = 44, 0..=1, flexible 1,
                IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
            AlterPartitionReassignments = 45, 0..=1, flexible 0,
                AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
            ListPartitionReassignments = 46, 0..=0, flexible 0,
                ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
            OffsetDelete = 47, 0..=0, flexible NEVER, OffsetDeleteRequest, OffsetDeleteResponse;
            DescribeQuorum = 55, 0..=2, flexible 0,
                DescribeQuorumRequest, DescribeQuorumResponse;
            UpdateFeatures = 57, 0..=2, flexible 0,
                UpdateFeaturesRequest, UpdateFeaturesResponse;
            DescribeCluster = 60, 0..=2, flexible 0,
                DescribeClusterRequest, DescribeClusterResponse;
            UnregisterBroker = 64, 0..=0, flexible 0,
                UnregisterBrokerRequest, UnregisterBrokerResponse;
            DescribeTopicPartitions = 75, 0..=0, flexible 0,
                DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
        }
    };
}

/// The first flexible version of an api that has none.
pub const NEVER: i16 = i16::MAX;

/// An inclusive range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// The newest version that both sides know, if there is one.
    pub fn newest_in_both(self, other: Versions) -> Option<i16> {
        let newest = self.max.min(other.max);
        (self.contains(newest) && other.contains(newest)).then_some(newest)
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = i16> {
        self.min..=self.max
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    pub key: ApiKey,
    /// Kafka's name, such as `ListOffsets`.
    pub name: &'static str,
    /// Versions that we decode, encode and serve.
    pub versions: Versions,
    /// From this version on messages have compact lengths and tagged fields; [`NEVER`] for none.
    pub first_flexible: i16,
}

impl Api {
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.first_flexible
    }

    /// 1, or 2 with tagged fields.
    pub const fn request_header_version(&self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// 0, or 1 with tagged fields. Always 0 for ApiVersions: the client that asks does not know yet
    /// what we understand (KIP-511).
    pub const fn response_header_version(&self, version: i16) -> i16 {
        let old = matches!(self.key, ApiKey::ApiVersions) || !self.is_flexible(version);
        if old { 0 } else { 1 }
    }

    /// The range for the ApiVersions answer. Produce claims a minimum of 0, as Kafka does, although
    /// 0 to 2 are not served: some versions of librdkafka do not produce otherwise (KAFKA-18659).
    pub const fn advertised(&self) -> Versions {
        match self.key {
            ApiKey::Produce => Versions {
                min: 0,
                max: self.versions.max,
            },
            _ => self.versions,
        }
    }
}

/// The table as ApiVersions tells it, in the order of the keys.
pub fn advertised_versions() -> Vec<ApiVersion> {
    let row = |key: &ApiKey| {
        let Versions { min, max } = key.api().advertised();
        ApiVersion {
            api_key: *key as i16,
            min_version: min,
            max_version: max,
        }
    };
    ApiKey::ALL.iter().map(row).collect()
}

/// A request's or a response's body.
pub trait Message: Wire + Default + Clone + fmt::Debug + PartialEq + Send + 'static {
    const KEY: ApiKey;

    /// Reads a body. What follows it is left in `input`; Kafka overlooks it too.
    fn decode(input: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        match form(Self::KEY, version) {
            Some(form) => Self::read(input, form),
            None => Err(input.error(DecodeProblem::UnknownVersion(version))),
        }
    }

    fn encode(&self, out: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        match form(Self::KEY, version) {
            Some(form) => self.write(out, form),
            None => Err(EncodeError::UnknownVersion(version)),
        }
    }
}

/// The form in which `version` of an api is written; `None` if the version is unknown.
fn form(key: ApiKey, version: i16) -> Option<Form> {
    let api = key.api();
    api.versions
        .contains(version)
        .then(|| Form::new(version, api.is_flexible(version)))
}

/// The body of a request.
pub trait RequestMessage: Message {
    type Response: ResponseMessage;
}

/// The body of a response.
pub trait ResponseMessage: Message {}

macro_rules! define {
    ($(
        $name:ident = $key:literal, $min:literal ..= $max:literal, flexible $flexible:tt,
            $request:ident, $response:ident;
    )*) => {
        /// An api, with Kafka's number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $( $name = $key, )*
        }

        impl ApiKey {
            /// All of them, by number.
            pub const ALL: &'static [ApiKey] = &[$( ApiKey::$name, )*];

            /// The api of that number, if we know it.
            pub const fn from_i16(key: i16) -> Option<ApiKey> {
                match key {
                    $( $key => Some(ApiKey::$name), )*
                    _ => None,
                }
            }

            /// The api's row in the table.
            pub const fn api(self) -> &'static Api {
                match self {
                    $( ApiKey::$name => &Api {
                        key: ApiKey::$name,
                        name: stringify!($name),
                        versions: Versions { min: $min, max: $max },
                        first_flexible: $flexible,
                    }, )*
                }
            }
        }

        $(
            impl Message for $request {
                const KEY: ApiKey = ApiKey::$name;
            }

            impl Message for $response {
                const KEY: ApiKey = ApiKey::$name;
            }

            impl RequestMessage for $request {
                type Response = $response;
            }

            impl ResponseMessage for $response {}

            impl From<$request> for Request {
                fn from(request: $request) -> Request {
                    Request::$name(request)
                }
            }

            impl From<$response> for Response {
                fn from(response: $response) -> Response {
                    Response::$name(response)
                }
            }
        )*

        /// Any request.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $( $name($request), )*
        }

        impl Request {
            /// Reads the body that follows `header`. For an ApiVersions request of an unknown
            /// version the body is not read, and the result is the default.
            pub fn decode(
                header: &RequestHeader,
                input: &mut Decoder,
            ) -> Result<Request, DecodeError> {
                if !header.is_supported() && header.key == ApiKey::ApiVersions {
                    return Ok(Request::ApiVersions(ApiVersionsRequest::default()));
                }
                match header.key {
                    $( ApiKey::$name => {
                        $request::decode(input, header.version).map(Request::$name)
                    } )*
                }
            }

            pub fn key(&self) -> ApiKey {
                match self {
                    $( Request::$name(_) => ApiKey::$name, )*
                }
            }
        }

        /// Any response.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response {
            $( $name($response), )*
        }

        impl Response {
            pub fn key(&self) -> ApiKey {
                match self {
                    $( Response::$name(_) => ApiKey::$name, )*
                }
            }

            /// The whole frame; see [`frame::response`].
            pub fn frame(
                &self,
                correlation_id: i32,
                version: i16,
            ) -> Result<Vec<Bytes>, EncodeError> {
                match self {
                    $( Response::$name(body) => frame::response(correlation_id, version, body), )*
                }
            }
        }
    };
}

every_api!(define);

impl fmt::Display for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.api().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_found_by_number() {
        assert!(ApiKey::ALL.is_sorted());
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::from_i16(*key as i16), Some(*key));
            assert_eq!(key.api().key, *key);
        }
        assert_eq!(ApiKey::from_i16(4), None);
        assert_eq!(ApiKey::from_i16(-1), None);
    }

    #[test]
    fn produce_claims_a_minimum_that_it_does_not_serve() {
        let advertised = advertised_versions();
        let produce = ApiVersion {
            api_key: 0,
            min_version: 0,
            max_version: 13,
        };
        let fetch = ApiVersion {
            api_key: 1,
            min_version: 4,
            max_version: 18,
        };
        assert_eq!(advertised[..2], [produce, fetch]);
        assert_eq!(advertised.len(), ApiKey::ALL.len());
        assert!(!ApiKey::Produce.api().versions.contains(2));
    }

    #[test]
    fn the_newest_version_in_both() {
        let ours = Versions { min: 3, max: 9 };
        assert_eq!(ours.newest_in_both(Versions { min: 0, max: 7 }), Some(7));
        assert_eq!(ours.newest_in_both(Versions { min: 9, max: 12 }), Some(9));
        assert_eq!(ours.newest_in_both(Versions { min: 0, max: 2 }), None);
        assert_eq!(ours.newest_in_both(Versions { min: 10, max: 12 }), None);
    }

    #[test]
    fn an_unknown_version_is_an_error_both_ways() {
        let mut input = Decoder::new(Bytes::from_static(&[0; 64]));
        let error = MetadataRequest::decode(&mut input, 14).unwrap_err();
        assert_eq!(error.problem, DecodeProblem::UnknownVersion(14));
        let result = MetadataRequest::default().encode(&mut Encoder::new(), -1);
        assert_eq!(result, Err(EncodeError::UnknownVersion(-1)));
    }

    #[test]
    fn a_field_that_the_version_lacks_is_dropped_or_reported() {
        let mut request = FetchRequest {
            rack_id: "r".into(),
            ..FetchRequest::default()
        };
        assert_eq!(
            request.encode(&mut Encoder::new(), 4),
            Ok(()),
            "rack_id is ignorable"
        );
        request
            .forgotten_topics_data
            .push(ForgottenTopic::default());
        let result = request.encode(&mut Encoder::new(), 4);
        let absent = EncodeError::FieldAbsent {
            message: "FetchRequest",
            field: "forgotten_topics_data",
            version: 4,
        };
        assert_eq!(
            result,
            if cfg!(debug_assertions) {
                Err(absent)
            } else {
                Ok(())
            }
        );
    }

    #[test]
    fn null_is_refused_where_the_version_allows_none() {
        let everything = MetadataRequest {
            topics: None,
            ..MetadataRequest::default()
        };
        let result = everything.encode(&mut Encoder::new(), 0);
        assert_eq!(result, Err(EncodeError::Null { version: 0 }));
        let null = Bytes::from_static(&[0xff; 4]);
        let error = MetadataRequest::decode(&mut Decoder::new(null.clone()), 0).unwrap_err();
        assert_eq!(error.problem, DecodeProblem::Null);
        let all = MetadataRequest::decode(&mut Decoder::new(null), 1).unwrap();
        assert_eq!(all, everything);
    }
}
