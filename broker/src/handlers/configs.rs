//! DescribeConfigs (32) v1-4, AlterConfigs (33) v0-2, IncrementalAlterConfigs (44) v0-1.
//!
//! Behaviour: topics, brokers (one, or all with an empty name) and groups, from the one table of knobs
//! (`crate::config`). Alterations are decided by the owner of the metadata and answered once every core has them.
//! Values of sensitive configs are never told.
//!
//! Not done: broker loggers (8) and client metrics (16) are answered with INVALID_REQUEST; log levels are set by
//! `CORELANE_LOG`, and clients are not asked for metrics.

use super::Session;
use super::topics::unavailable;
use crate::cluster::decide::ConfigAlteration;
use crate::cluster::{ClusterAnswer, ClusterAsk, METADATA_CORE, Refusal, Resource};
use crate::config::ops::{Change, Operation};
use crate::config::{
    BrokerConfig, DescribeOptions, Described, Overrides, ResourceKind, describe as describe_knobs,
};
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;

/// Resource types of the wire.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

/// The rows of a resource.
pub(super) fn described(
    kind: ResourceKind,
    overrides: &Overrides,
    broker: &BrokerConfig,
    options: &DescribeOptions<'_>,
) -> Vec<Described> {
    describe_knobs(kind, overrides, broker, options)
}

pub async fn describe(
    session: &Session,
    version: i16,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let mut response = DescribeConfigsResponse::default();
    for wanted in request.resources {
        let mut result = DescribeConfigsResult {
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name.clone(),
            ..DescribeConfigsResult::default()
        };
        let names: Option<Vec<String>> = wanted
            .configuration_keys
            .as_ref()
            .filter(|keys| !keys.is_empty() || version == 0)
            .map(|keys| keys.iter().map(|key| key.to_string()).collect());
        let options = DescribeOptions {
            names: names.as_deref(),
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        match describe_one(
            session,
            wanted.resource_type,
            &wanted.resource_name,
            &options,
        ) {
            Ok(rows) => result.configs = rows.into_iter().map(row).collect(),
            Err(refusal) => {
                result.error_code = refusal.code;
                result.error_message = Some(refusal.message.into());
            }
        }
        response.results.push(result);
    }
    response
}

fn describe_one(
    session: &Session,
    resource_type: i8,
    name: &str,
    options: &DescribeOptions<'_>,
) -> Result<Vec<Described>, Refusal> {
    let resource = resource(resource_type, name)?;
    let view = session.shard.view.borrow();
    let nothing = Overrides::new();
    let (kind, overrides) = match &resource {
        Resource::Topic(name) => {
            if view.cluster.topic(name).is_none() {
                let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                return Err(Refusal::new(
                    code,
                    format!("The topic '{name}' does not exist."),
                ));
            }
            (
                ResourceKind::Topic,
                view.cluster.configs(&resource).unwrap_or(&nothing),
            )
        }
        Resource::Broker(node) => {
            let own = session.shard.settings.node_id;
            if *node != own {
                let message = format!("Unexpected broker id {node}: this node is {own}.");
                return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
            }
            (ResourceKind::Broker, &nothing)
        }
        Resource::BrokerDefault => (ResourceKind::BrokerDefault, &nothing),
        Resource::Group(_) => (
            ResourceKind::Group,
            view.cluster.configs(&resource).unwrap_or(&nothing),
        ),
    };
    Ok(described(kind, overrides, view.broker(), options))
}

fn row(row: Described) -> DescribeConfigsResourceResult {
    let hide = row.sensitive;
    DescribeConfigsResourceResult {
        name: row.name.into(),
        value: row.value.filter(|_| !hide).map(Str::from),
        read_only: row.read_only,
        config_source: row.source.code(),
        is_sensitive: row.sensitive,
        synonyms: row
            .synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: synonym.value.filter(|_| !hide).map(Str::from),
                source: synonym.source.code(),
            })
            .collect(),
        config_type: row.kind.code(),
        documentation: row.documentation.map(Str::from),
    }
}

fn resource(resource_type: i8, name: &str) -> Result<Resource, Refusal> {
    match resource_type {
        TOPIC => Ok(Resource::Topic(name.to_owned())),
        BROKER if name.is_empty() => Ok(Resource::BrokerDefault),
        BROKER => name.parse().map(Resource::Broker).map_err(|_| {
            let message = format!("Node id must be an integer, but it is: {name}");
            Refusal::new(ErrorCode::INVALID_REQUEST, message)
        }),
        GROUP => Ok(Resource::Group(name.to_owned())),
        other => {
            let message = format!("Resource type {other} has no configs on this broker.");
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
        }
    }
}

pub async fn alter(session: &Session, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let wanted = request.resources.iter().map(|wanted| {
        let alteration = resource(wanted.resource_type, &wanted.resource_name).map(|resource| {
            let operations = wanted.configs.iter().map(|config| Operation {
                name: config.name.to_string(),
                change: match &config.value {
                    Some(value) => Change::Set(value.to_string()),
                    None => Change::Delete,
                },
            });
            ConfigAlteration {
                resource,
                replace: true,
                operations: operations.collect(),
            }
        });
        (
            wanted.resource_type,
            wanted.resource_name.clone(),
            alteration,
        )
    });
    let responses = carry_out(session, wanted.collect(), request.validate_only).await;
    AlterConfigsResponse {
        responses,
        ..AlterConfigsResponse::default()
    }
}

pub async fn alter_incrementally(
    session: &Session,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let wanted = request.resources.iter().map(|wanted| {
        let alteration =
            resource(wanted.resource_type, &wanted.resource_name).and_then(|resource| {
                let operations: Result<Vec<Operation>, Refusal> = wanted
                    .configs
                    .iter()
                    .map(|config| {
                        let value = config.value.as_deref();
                        Operation::from_wire(&config.name, config.config_operation, value)
                            .map_err(|invalid| Refusal::new(invalid.code, invalid.message))
                    })
                    .collect();
                Ok(ConfigAlteration {
                    resource,
                    replace: false,
                    operations: operations?,
                })
            });
        (
            wanted.resource_type,
            wanted.resource_name.clone(),
            alteration,
        )
    });
    let responses = carry_out(session, wanted.collect(), request.validate_only).await;
    IncrementalAlterConfigsResponse {
        responses,
        ..IncrementalAlterConfigsResponse::default()
    }
}

type Wanted = (i8, Str, Result<ConfigAlteration, Refusal>);

/// Asks the metadata's owner for what could be read, and answers for all.
async fn carry_out(
    session: &Session,
    wanted: Vec<Wanted>,
    validate_only: bool,
) -> Vec<AlterConfigsResourceResponse> {
    let resources: Vec<ConfigAlteration> = wanted
        .iter()
        .filter_map(|(_, _, alteration)| alteration.as_ref().ok().cloned())
        .collect();
    let count = resources.len();
    let mut outcomes = match count {
        0 => Vec::new(),
        _ => {
            let ask = ClusterAsk::AlterConfigs {
                resources,
                validate_only,
            };
            match *session.shard.ask(METADATA_CORE, ask).await {
                ClusterAnswer::AlterConfigs(outcomes) => outcomes,
                other => unavailable(&other, count),
            }
        }
    }
    .into_iter();
    let respond = |(resource_type, resource_name, alteration): Wanted| {
        let mut response = AlterConfigsResourceResponse {
            resource_type,
            resource_name,
            ..AlterConfigsResourceResponse::default()
        };
        let outcome =
            alteration.and_then(|_| outcomes.next().expect("one for each that was asked"));
        if let Err(refusal) = outcome {
            response.error_code = refusal.code;
            response.error_message = Some(refusal.message.into());
        }
        response
    };
    wanted.into_iter().map(respond).collect()
}
