//! ApiVersions (18): what the broker speaks. The first request of most clients.
//!
//! Versions: 3 flexible, client software (KIP-511), feature levels (KIP-584); 4 features whose
//! minimum is 0; 5 lets the client check whom it talks to (KIP-1242). The answer's header is
//! version 0 in every version, since the client cannot know yet what we understand.

use crate::codec::{Str, describe, since};
use crate::error::ErrorCode;

describe! {
    /// Who asks.
    pub struct ApiVersionsRequest {
        /// Name of the client library.
        client_software_name: Str [since(3).ignorable()];
        /// Its version.
        client_software_version: Str [since(3).ignorable()];
        /// The cluster that the client expects; null if it does not mind.
        cluster_id: Option<Str> [since(5).ignorable()];
        /// The node that the client expects; -1 if it does not mind.
        node_id: i32 [since(5).ignorable()] = -1;
    }
}

describe! {
    /// What we speak.
    pub struct ApiVersionsResponse {
        /// Error code; UNSUPPORTED_VERSION goes out in version 0, and with the list all the same.
        error_code: ErrorCode;
        /// The apis.
        api_keys: Vec<ApiVersion>;
        /// How long the client was, or should consider itself, held back by its quota, in ms.
        throttle_time_ms: i32 [since(1).ignorable()];
    } tagged {
        /// Features that this broker knows.
        0 => supported_features: Vec<SupportedFeatureKey> [since(3).ignorable()];
        /// How often the cluster's feature levels have changed; -1 if unknown.
        1 => finalized_features_epoch: i64 [since(3).ignorable()] = -1;
        /// Feature levels that hold in the cluster.
        2 => finalized_features: Vec<FinalizedFeatureKey> [since(3).ignorable()];
        /// Always false: there is no ZooKeeper to migrate from.
        3 => zk_migration_ready: bool [since(3).ignorable()];
    }

    /// Versions of one api.
    pub struct ApiVersion {
        /// The api's key.
        api_key: i16;
        /// Oldest version served.
        min_version: i16;
        /// Newest version served.
        max_version: i16;
    }

    /// A feature that the broker knows.
    pub struct SupportedFeatureKey {
        /// The feature's name.
        name: Str [since(3)];
        /// Lowest level that it can run.
        min_version: i16 [since(3)];
        /// Highest level that it can run.
        max_version: i16 [since(3)];
    }

    /// A feature level that holds in the cluster.
    pub struct FinalizedFeatureKey {
        /// The feature's name.
        name: Str [since(3)];
        /// The level.
        max_version_level: i16 [since(3)];
        /// The lowest level that all members support.
        min_version_level: i16 [since(3)];
    }
}
