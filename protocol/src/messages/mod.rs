//! Kafka's messages, one file for each family of apis.
//!
//! Each file describes requests and answers in the language of `codec/describe`, in all versions of
//! Apache Kafka 4.4. Names of structs and fields are Kafka's, in Rust's spelling; where Kafka uses
//! one name for two things, the head of the struct says what Kafka calls it. Which versions exist
//! is said in [`crate::api`], once.
//!
//! A nullable string is null by default; a nullable array is empty, since null mostly means "all".

mod api_versions;
mod cluster;
mod configs;
mod fetch;
mod group_admin;
mod groups;
mod header;
mod leaders;
mod list_offsets;
mod metadata;
mod offsets;
mod produce;
mod producer_ids;
mod quorum;
mod reassignments;
mod topics;

pub use api_versions::*;
pub use cluster::*;
pub use configs::*;
pub use fetch::*;
pub use group_admin::*;
pub use groups::*;
pub use header::*;
pub use leaders::*;
pub use list_offsets::*;
pub use metadata::*;
pub use offsets::*;
pub use produce::*;
pub use producer_ids::*;
pub use quorum::*;
pub use reassignments::*;
pub use topics::*;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Message;
    use crate::codec::{DecodeProblem, Decoder, EncodeError, Encoder};

    /// `value` has a null in a field that may be null from version `first_null` on.
    fn null_since<M: Message>(first_null: i16, value: M) {
        for version in M::KEY.api().versions.iter() {
            let mut out = Encoder::new();
            let encoded = value.encode(&mut out, version);
            if version < first_null {
                assert_eq!(
                    encoded,
                    Err(EncodeError::Null { version }),
                    "{} {version}",
                    M::KEY
                );
                continue;
            }
            assert_eq!(encoded, Ok(()), "{} {version}", M::KEY);
            let decoded = M::decode(&mut Decoder::new(out.into_bytes()), version);
            assert_eq!(decoded.as_ref(), Ok(&value), "{} {version}", M::KEY);
        }
    }

    #[test]
    fn some_fields_may_be_null_only_in_later_versions() {
        null_since(
            1,
            MetadataRequest {
                topics: None,
                ..Default::default()
            },
        );
        let topic = MetadataRequestTopic {
            name: None,
            ..Default::default()
        };
        null_since(
            10,
            MetadataRequest {
                topics: Some(vec![topic]),
                ..Default::default()
            },
        );
        let topic = MetadataResponseTopic {
            name: None,
            ..Default::default()
        };
        null_since(
            12,
            MetadataResponse {
                topics: vec![topic],
                ..Default::default()
            },
        );
        let topic = DeletableTopicResult {
            name: None,
            ..Default::default()
        };
        null_since(
            6,
            DeleteTopicsResponse {
                responses: vec![topic],
                ..Default::default()
            },
        );
        null_since(
            7,
            JoinGroupResponse {
                protocol_name: None,
                ..Default::default()
            },
        );
    }

    #[test]
    fn all_topics_of_a_group_are_a_null_from_version_2_to_7() {
        let all = OffsetFetchRequest {
            topics: None,
            ..Default::default()
        };
        assert_eq!(
            all.encode(&mut Encoder::new(), 1),
            Err(EncodeError::Null { version: 1 })
        );
        for version in 2..=7 {
            let mut out = Encoder::new();
            all.encode(&mut out, version).unwrap();
            let decoded = OffsetFetchRequest::decode(&mut Decoder::new(out.into_bytes()), version);
            assert_eq!(decoded.as_ref(), Ok(&all), "version {version}");
        }
    }

    #[test]
    fn a_null_is_refused_when_it_comes_too_early() {
        let null = |bytes: &'static [u8]| Decoder::new(bytes::Bytes::from_static(bytes));
        let group_then_null_topics = b"\0\x01g\xff\xff\xff\xff";
        let error = OffsetFetchRequest::decode(&mut null(group_then_null_topics), 1).unwrap_err();
        assert_eq!((error.problem, error.offset), (DecodeProblem::Null, 7));
        assert!(OffsetFetchRequest::decode(&mut null(group_then_null_topics), 2).is_ok());
        let one_topic_without_name = b"\0\0\0\x01\xff\xff";
        let error = MetadataRequest::decode(&mut null(one_topic_without_name), 0).unwrap_err();
        assert_eq!((error.problem, error.offset), (DecodeProblem::Null, 6));
    }

    #[test]
    fn a_null_struct_is_one_byte() {
        let mut request = DescribeTopicPartitionsRequest::default();
        let length = |request: &DescribeTopicPartitionsRequest| {
            let mut out = Encoder::new();
            request.encode(&mut out, 0).unwrap();
            out.len()
        };
        let without = length(&request);
        request.cursor = Some(TopicPartitionsCursor {
            topic_name: "t".into(),
            partition_index: 1,
        });
        // The name with its length, the index, and the count of tagged fields.
        assert_eq!(length(&request), without + 2 + 4 + 1);
    }
}
