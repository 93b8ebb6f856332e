//! The error codes in an answer, wherever they stand in it: what a node counts of its refusals.
//!
//! One for each partition, topic, group or resource that got one, as Kafka counts them. Must not know
//! what becomes of the counts. That no api and no field is forgotten is for the test to say.

use protocol::api::Response;
use protocol::error::ErrorCode;

/// The codes of an answer that are not "success"; nothing is allocated where there are none.
pub fn errors(response: &Response) -> Vec<ErrorCode> {
    let mut found = Found(Vec::new());
    match response {
        Response::Produce(answer) => found.nested(
            &answer.responses,
            |topic| &topic.partition_responses,
            |partition| partition.error_code,
        ),
        Response::Fetch(answer) => {
            found.one(answer.error_code);
            found.nested(
                &answer.responses,
                |topic| &topic.partitions,
                |partition| partition.error_code,
            );
        }
        Response::ListOffsets(answer) => found.nested(
            &answer.topics,
            |topic| &topic.partitions,
            |partition| partition.error_code,
        ),
        Response::OffsetForLeaderEpoch(answer) => found.nested(
            &answer.topics,
            |topic| &topic.partitions,
            |partition| partition.error_code,
        ),
        Response::DeleteRecords(answer) => found.nested(
            &answer.topics,
            |topic| &topic.partitions,
            |partition| partition.error_code,
        ),
        Response::InitProducerId(answer) => found.one(answer.error_code),
        Response::ApiVersions(answer) => found.one(answer.error_code),
        _ => {
            of_groups(response, &mut found);
            of_administration(response, &mut found);
        }
    }
    found.0
}

fn of_groups(response: &Response, found: &mut Found) {
    match response {
        Response::FindCoordinator(answer) => {
            found.one(answer.error_code);
            found.each(&answer.coordinators, |one| one.error_code);
        }
        Response::JoinGroup(answer) => found.one(answer.error_code),
        Response::SyncGroup(answer) => found.one(answer.error_code),
        Response::Heartbeat(answer) => found.one(answer.error_code),
        Response::LeaveGroup(answer) => {
            found.one(answer.error_code);
            found.each(&answer.members, |member| member.error_code);
        }
        Response::ListGroups(answer) => found.one(answer.error_code),
        Response::DescribeGroups(answer) => found.each(&answer.groups, |group| group.error_code),
        Response::DeleteGroups(answer) => found.each(&answer.results, |group| group.error_code),
        Response::OffsetCommit(answer) => found.nested(
            &answer.topics,
            |topic| &topic.partitions,
            |partition| partition.error_code,
        ),
        Response::OffsetFetch(answer) => {
            found.one(answer.error_code);
            found.nested(
                &answer.topics,
                |topic| &topic.partitions,
                |partition| partition.error_code,
            );
            for group in &answer.groups {
                found.one(group.error_code);
                found.nested(
                    &group.topics,
                    |topic| &topic.partitions,
                    |partition| partition.error_code,
                );
            }
        }
        Response::OffsetDelete(answer) => {
            found.one(answer.error_code);
            found.nested(
                &answer.topics,
                |topic| &topic.partitions,
                |partition| partition.error_code,
            );
        }
        _ => {}
    }
}

fn of_administration(response: &Response, found: &mut Found) {
    match response {
        Response::Metadata(answer) => {
            found.one(answer.error_code);
            found.each(&answer.topics, |topic| topic.error_code);
            found.nested(
                &answer.topics,
                |topic| &topic.partitions,
                |partition| partition.error_code,
            );
        }
        Response::DescribeTopicPartitions(answer) => {
            found.each(&answer.topics, |topic| topic.error_code);
            found.nested(
                &answer.topics,
                |topic| &topic.partitions,
                |partition| partition.error_code,
            );
        }
        Response::DescribeCluster(answer) => found.one(answer.error_code),
        Response::DescribeLogDirs(answer) => {
            found.one(answer.error_code);
            found.each(&answer.results, |directory| directory.error_code);
        }
        Response::CreateTopics(answer) => found.each(&answer.topics, |topic| topic.error_code),
        Response::DeleteTopics(answer) => found.each(&answer.responses, |topic| topic.error_code),
        Response::CreatePartitions(answer) => {
            found.each(&answer.results, |topic| topic.error_code);
        }
        Response::ElectLeaders(answer) => {
            found.one(answer.error_code);
            found.nested(
                &answer.replica_election_results,
                |topic| &topic.partition_result,
                |partition| partition.error_code,
            );
        }
        Response::AlterPartitionReassignments(answer) => {
            found.one(answer.error_code);
            found.nested(
                &answer.responses,
                |topic| &topic.partitions,
                |partition| partition.error_code,
            );
        }
        Response::ListPartitionReassignments(answer) => found.one(answer.error_code),
        Response::DescribeQuorum(answer) => {
            found.one(answer.error_code);
            found.nested(
                &answer.topics,
                |topic| &topic.partitions,
                |partition| partition.error_code,
            );
        }
        Response::UpdateFeatures(answer) => {
            found.one(answer.error_code);
            found.each(&answer.results, |feature| feature.error_code);
        }
        Response::UnregisterBroker(answer) => found.one(answer.error_code),
        Response::DescribeConfigs(answer) => found.each(&answer.results, |one| one.error_code),
        Response::AlterConfigs(answer) => found.each(&answer.responses, |one| one.error_code),
        Response::IncrementalAlterConfigs(answer) => {
            found.each(&answer.responses, |one| one.error_code);
        }
        _ => {}
    }
}

struct Found(Vec<ErrorCode>);

impl Found {
    fn one(&mut self, code: ErrorCode) {
        if code != ErrorCode::NONE {
            self.0.push(code);
        }
    }

    fn each<T>(&mut self, all: &[T], code: fn(&T) -> ErrorCode) {
        for one in all {
            self.one(code(one));
        }
    }

    fn nested<T, U>(&mut self, all: &[T], inner: fn(&T) -> &[U], code: fn(&U) -> ErrorCode) {
        for one in all {
            self.each(inner(one), code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::api::Message;
    use protocol::codec::{Form, Random};
    use protocol::every_api;

    /// The codes in an answer as its fields tell them: every field that is called `error_code`.
    fn told(answer: &impl Message) -> Vec<String> {
        let text = format!("{answer:?}");
        let fields = text.split(" error_code: ").skip(1);
        let codes = fields.filter_map(|rest| Some(format!("{})", rest.split_once(')')?.0)));
        codes.filter(|code| code != "NONE (0)").collect()
    }

    fn counts_all<M: Message + Into<Response>>() -> usize {
        let api = M::KEY.api();
        let mut random = Random::new(M::KEY as u64);
        let mut found = 0;
        for _ in 0..50 {
            for version in api.versions.iter() {
                let form = Form::new(version, api.is_flexible(version));
                let answer = M::arbitrary(&mut random, form);
                let mut expected = told(&answer);
                let codes = errors(&answer.into());
                let mut codes: Vec<String> = codes.iter().map(ErrorCode::to_string).collect();
                expected.sort();
                codes.sort();
                assert_eq!(codes, expected, "{} v{version}", M::KEY);
                found += codes.len();
            }
        }
        found
    }

    macro_rules! count_every_api {
        ($($name:ident = $key:literal, $min:literal ..= $max:literal, flexible $flexible:tt,
            $request:ident, $response:ident;)*) => {
            [$((stringify!($name), counts_all::<protocol::messages::$response>()),)*]
        };
    }

    #[test]
    fn every_code_of_every_api_is_found() {
        for (api, found) in every_api!(count_every_api) {
            assert!(found > 0, "{api}: no answer had an error");
        }
    }
}
