//! `corelane topic alter`: configs, and more partitions.

use std::io::Write;

use protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsTopic, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource, IncrementalAlterableConfig,
};
use serde_json::json;

use super::arguments::TopicAlter;
use super::client::Client;
use super::error::{ShellError, check};
use super::output::Output;
use super::topic::TOPIC_RESOURCE;

const ALTER_CONFIGS_NEWEST: i16 = 1;
const CREATE_PARTITIONS_NEWEST: i16 = 3;

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) fn run(
    arguments: &TopicAlter,
    output: &mut Output<impl Write>,
) -> Result<(), ShellError> {
    let mut client = Client::connect(&arguments.client)?;
    let configs = changes(arguments);
    if !configs.is_empty() {
        alter_configs(&mut client, arguments, configs)?;
    }
    if let Some(count) = arguments.partitions {
        add_partitions(&mut client, arguments, count)?;
    }
    let (topic, dry_run) = (arguments.topic.as_str(), arguments.dry_run);
    output.show(
        arguments.format.format,
        || {
            format!(
                "topic {topic} {}\n",
                if dry_run {
                    "could be altered"
                } else {
                    "altered"
                }
            )
        },
        || json!({"topic": topic, "altered": !dry_run}),
    )?;
    Ok(())
}

fn changes(arguments: &TopicAlter) -> Vec<IncrementalAlterableConfig> {
    let with_value = |operation| {
        move |(name, value): &(String, String)| IncrementalAlterableConfig {
            name: name.clone().into(),
            config_operation: operation,
            value: Some(value.clone().into()),
        }
    };
    let deletion = |name: &String| IncrementalAlterableConfig {
        name: name.clone().into(),
        config_operation: DELETE,
        value: None,
    };
    let set = arguments.config.iter().map(with_value(SET));
    set.chain(arguments.delete_config.iter().map(deletion))
        .chain(arguments.append_config.iter().map(with_value(APPEND)))
        .chain(arguments.subtract_config.iter().map(with_value(SUBTRACT)))
        .collect()
}

fn alter_configs(
    client: &mut Client,
    arguments: &TopicAlter,
    configs: Vec<IncrementalAlterableConfig>,
) -> Result<(), ShellError> {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![IncrementalAlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: arguments.topic.clone().into(),
            configs,
        }],
        validate_only: arguments.dry_run,
    };
    let response = client.ask(&request, ALTER_CONFIGS_NEWEST)?;
    response.responses.iter().try_for_each(|result| {
        let what = || format!("alter configs of topic {}", arguments.topic);
        check(what, result.error_code, result.error_message.as_deref())
    })
}

fn add_partitions(
    client: &mut Client,
    arguments: &TopicAlter,
    count: i32,
) -> Result<(), ShellError> {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: arguments.topic.clone().into(),
            count,
            assignments: None,
        }],
        timeout_ms: client.timeout_ms(),
        validate_only: arguments.dry_run,
    };
    let response = client.ask(&request, CREATE_PARTITIONS_NEWEST)?;
    response.results.iter().try_for_each(|result| {
        let what = || format!("add partitions to topic {}", arguments.topic);
        check(what, result.error_code, result.error_message.as_deref())
    })
}
