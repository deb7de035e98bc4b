//! What a master and an agent tell of themselves in the same words.

use std::collections::BTreeMap;

use serde_json::Value;

use super::events::MESOS_VERSION;
use crate::pb::mesos::v1 as pb;

/// What the flags say.
pub(crate) fn flags(flags: &BTreeMap<String, String>) -> Vec<pb::Flag> {
    let told = flags.iter();
    told.map(|(name, value)| pb::Flag { name: name.clone(), value: Some(value.clone()) }).collect()
}

/// The release of Mesos whose API this is, and what is known of this build.
pub(crate) fn version() -> pb::VersionInfo {
    pb::VersionInfo {
        version: MESOS_VERSION.to_owned(),
        build_date: BUILD_DATE.map(str::to_owned),
        build_time: build_time(),
        git_sha: GIT_SHA.map(str::to_owned),
        ..pb::VersionInfo::default()
    }
}

/// When its commit was made, and which that was: what a release is built with, by `ci/dist`.
const BUILD_DATE: Option<&str> = option_env!("MESITA_BUILD_DATE");
/// See `BUILD_DATE`; in seconds of Unix time.
const BUILD_TIME: Option<&str> = option_env!("MESITA_BUILD_TIME");
/// See `BUILD_DATE`.
const GIT_SHA: Option<&str> = option_env!("MESITA_GIT_SHA");

fn build_time() -> Option<f64> {
    BUILD_TIME?.parse().ok()
}

/// The same as fields of JSON, as far as it is known.
pub(crate) fn built() -> impl Iterator<Item = (&'static str, Value)> {
    let told = [
        ("build_date", BUILD_DATE.map(Value::from)),
        ("build_time", build_time().map(Value::from)),
        ("git_sha", GIT_SHA.map(Value::from)),
    ];
    told.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// What `/metrics/snapshot` tells.
pub(crate) fn metrics(snapshot: &Value) -> Vec<pb::Metric> {
    let told = snapshot.as_object().into_iter().flatten();
    told.map(|(name, value)| pb::Metric { name: name.clone(), value: value.as_f64() }).collect()
}
