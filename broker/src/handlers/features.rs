//! UpdateFeatures (57) v0-2, and the features that ApiVersions tells.
//!
//! There is one feature: the level of what nodes say to one another and write into the metadata. The level that holds
//! is the lowest that a registered node speaks: it rises by itself when the last node has been upgraded, and nobody
//! can set it. Kafka's own features are promises that are not made here (see `api_versions`).

use super::Session;
use crate::peers::{LEVEL, LEVEL_MIN};
use crate::shard::view::View;
use protocol::codec::Str;
use protocol::error::ErrorCode;
use protocol::messages::*;

const FEATURE: &str = "corelane.level";
/// The levels never change in a release that knows one.
const EPOCH: i64 = 0;

/// Adds what holds in the cluster.
pub fn tell(view: &View, response: &mut ApiVersionsResponse) {
    let level = level(view);
    response.supported_features.push(SupportedFeatureKey {
        name: Str::copied(FEATURE),
        min_version: LEVEL_MIN as i16,
        max_version: LEVEL as i16,
    });
    response.finalized_features.push(FinalizedFeatureKey {
        name: Str::copied(FEATURE),
        max_version_level: level,
        min_version_level: level,
    });
    response.finalized_features_epoch = EPOCH;
}

fn level(view: &View) -> i16 {
    let nodes = view.cluster.nodes().values();
    let levels = nodes.map(|node| node.registration.level);
    levels.min().unwrap_or(LEVEL) as i16
}

pub fn update(
    session: &Session,
    version: i16,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let level = level(&session.shard.view.borrow());
    let results = request.feature_updates.into_iter().map(|update| {
        let refusal = refusal(&update, level);
        UpdatableFeatureResult {
            error_code: match refusal {
                Some(_) => ErrorCode::INVALID_UPDATE_VERSION,
                None => ErrorCode::NONE,
            },
            error_message: refusal.map(Str::from),
            feature: update.feature,
        }
    });
    let results: Vec<UpdatableFeatureResult> = results.collect();
    // From v2 on there is one answer for all.
    let mut refused = results
        .iter()
        .filter(|result| result.error_message.is_some());
    let first = refused.next().filter(|_| version >= 2);
    UpdateFeaturesResponse {
        error_code: first.map_or(ErrorCode::NONE, |result| result.error_code),
        error_message: first.and_then(|result| result.error_message.clone()),
        results,
        ..UpdateFeaturesResponse::default()
    }
}

fn refusal(update: &FeatureUpdateKey, level: i16) -> Option<String> {
    let (feature, wanted) = (&*update.feature, update.max_version_level);
    if feature != FEATURE {
        return Some(format!(
            "Invalid update version {wanted} for feature {feature}: this cluster has no such feature."
        ));
    }
    (wanted != level).then(|| {
        format!(
            "Invalid update version {wanted} for feature {feature}: the level is {level}, which is what all nodes \
             speak, and rises by itself when all nodes run a newer release."
        )
    })
}
