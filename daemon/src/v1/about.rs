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

/// The release of Mesos whose API this is.
pub(crate) fn version() -> pb::VersionInfo {
    pb::VersionInfo { version: MESOS_VERSION.to_owned(), ..pb::VersionInfo::default() }
}

/// What `/metrics/snapshot` tells.
pub(crate) fn metrics(snapshot: &Value) -> Vec<pb::Metric> {
    let told = snapshot.as_object().into_iter().flatten();
    told.map(|(name, value)| pb::Metric { name: name.clone(), value: value.as_f64() }).collect()
}
