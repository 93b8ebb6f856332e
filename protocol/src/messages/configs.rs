//! DescribeConfigs (32), AlterConfigs (33), IncrementalAlterConfigs (44): configs of topics,
//! brokers, loggers, groups and client metrics.
//!
//! Versions: DescribeConfigs 1 synonyms, 3 types and documentation, 4 flexible. AlterConfigs, which
//! replaces all configs of a resource, 2 flexible. IncrementalAlterConfigs (KIP-339) 1 flexible.
//!
//! Resource types: 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.

use crate::codec::{Str, describe, since};
use crate::error::ErrorCode;

describe! {
    /// Whose configs are wanted.
    pub struct DescribeConfigsRequest {
        /// The resources.
        resources: Vec<DescribeConfigsResource>;
        /// Whether to say from where each value could come.
        include_synonyms: bool [since(1)];
        /// Whether to say what each config means.
        include_documentation: bool [since(3)];
    }

    /// One resource.
    pub struct DescribeConfigsResource {
        /// Its type.
        resource_type: i8;
        /// Its name: a topic, a node id, a group.
        resource_name: Str;
        /// Keys that are wanted; null for all.
        configuration_keys: Option<Vec<Str>> = Some(Vec::new());
    }
}

describe! {
    /// The configs.
    pub struct DescribeConfigsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// By resource.
        results: Vec<DescribeConfigsResult>;
    }

    /// One resource's configs.
    pub struct DescribeConfigsResult {
        /// Error code, or 0.
        error_code: ErrorCode;
        /// What is wrong, for people.
        error_message: Option<Str>;
        /// The resource's type.
        resource_type: i8;
        /// Its name.
        resource_name: Str;
        /// Its configs.
        configs: Vec<DescribeConfigsResourceResult>;
    }

    /// One config.
    pub struct DescribeConfigsResourceResult {
        /// Its key.
        name: Str;
        /// Its value; null if it has none, or is a secret.
        value: Option<Str>;
        /// Whether it can never be changed.
        read_only: bool;
        /// Where the value comes from: 1 topic, 2 dynamic of this broker, 3 dynamic of all brokers,
        /// 4 static of this broker, 5 default, 6 dynamic logger, 7 client metrics, 8 group. From
        /// version 1 on it must be one of these: Kafka's Java client refuses -1.
        config_source: i8 [since(1).ignorable()] = -1;
        /// Whether the value is a secret, and therefore not shown.
        is_sensitive: bool;
        /// From where else the value could come, strongest first.
        synonyms: Vec<DescribeConfigsSynonym> [since(1).ignorable()];
        /// Type of the value: 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list,
        /// 8 class, 9 password; 0 unknown.
        config_type: i8 [since(3).ignorable()];
        /// What the config means.
        documentation: Option<Str> [since(3).ignorable()];
    }

    /// One place from where a value could come.
    pub struct DescribeConfigsSynonym {
        /// The key there.
        name: Str [since(1)];
        /// The value there.
        value: Option<Str> [since(1)];
        /// The place; numbers as in `config_source`.
        source: i8 [since(1)];
    }
}

describe! {
    /// Resources that get wholly new configs: what is not named falls back to its default.
    pub struct AlterConfigsRequest {
        /// The resources.
        resources: Vec<AlterConfigsResource>;
        /// Only say whether it would work.
        validate_only: bool;
    }

    /// One resource.
    pub struct AlterConfigsResource {
        /// Its type.
        resource_type: i8;
        /// Its name.
        resource_name: Str;
        /// All its configs.
        configs: Vec<AlterableConfig>;
    }

    /// One config.
    pub struct AlterableConfig {
        /// Its key.
        name: Str;
        /// Its value.
        value: Option<Str>;
    }
}

describe! {
    /// What became of the changes.
    pub struct AlterConfigsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// By resource.
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// What became of one resource. Also part of [`IncrementalAlterConfigsResponse`].
    pub struct AlterConfigsResourceResponse {
        /// Error code; 0 if the configs are changed.
        error_code: ErrorCode;
        /// Why they are not, for people.
        error_message: Option<Str>;
        /// The resource's type.
        resource_type: i8;
        /// Its name.
        resource_name: Str;
    }
}

describe! {
    /// Configs to change one by one.
    pub struct IncrementalAlterConfigsRequest {
        /// The resources.
        resources: Vec<IncrementalAlterConfigsResource>;
        /// Only say whether it would work.
        validate_only: bool;
    }

    /// One resource. (Kafka calls this `AlterConfigsResource`.)
    pub struct IncrementalAlterConfigsResource {
        /// Its type.
        resource_type: i8;
        /// Its name.
        resource_name: Str;
        /// Configs to change.
        configs: Vec<IncrementalAlterableConfig>;
    }

    /// One config. (Kafka calls this `AlterableConfig`.)
    pub struct IncrementalAlterableConfig {
        /// Its key.
        name: Str;
        /// What to do: 0 set, 1 delete, 2 append to a list, 3 take out of a list.
        config_operation: i8;
        /// The value; null to delete.
        value: Option<Str>;
    }

    /// What became of the changes.
    pub struct IncrementalAlterConfigsResponse {
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32;
        /// By resource.
        responses: Vec<AlterConfigsResourceResponse>;
    }
}
