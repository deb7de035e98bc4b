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
        build_date: Some(BUILD_DATE.unwrap_or_default().to_owned()),
        build_time: Some(build_time()),
        build_user: Some(String::new()),
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

/// 0 of what was not built as a release.
fn build_time() -> f64 {
    BUILD_TIME.and_then(|time| time.parse().ok()).unwrap_or(0.0)
}

/// The same as fields of JSON. Nobody is told as who has built it: a release is the same whoever builds it.
pub(crate) fn built() -> impl Iterator<Item = (&'static str, Value)> {
    let told = [
        ("build_date", Some(BUILD_DATE.unwrap_or_default().into())),
        ("build_time", Some(build_time().into())),
        ("build_user", Some("".into())),
        ("git_sha", GIT_SHA.map(Value::from)),
    ];
    told.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// What `/metrics/snapshot` tells.
pub(crate) fn metrics(snapshot: &Value) -> Vec<pb::Metric> {
    let told = snapshot.as_object().into_iter().flatten();
    told.map(|(name, value)| pb::Metric { name: name.clone(), value: value.as_f64() }).collect()
}
