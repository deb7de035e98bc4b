//! Names of containers inside of others, as the API has them: each with all those around it.

use std::fmt;

use mesita_isolation::cgroups::At;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::pb::mesos::v1::ContainerId;

/// Bytes of one name: it is a directory's.
const NAME_MAX: usize = 242;
/// Names of one container: that of a task, which may be in an executor's, and those inside.
pub(in crate::agent) const NAMES_MAX: usize = 10;

/// Names from the outermost on; never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::agent) struct Chain(Vec<String>);

impl Chain {
    /// Checks an id. Mesos: `validateContainerId`.
    pub(super) fn read(id: &ContainerId) -> Result<Self, String> {
        let mut names = Vec::new();
        let mut at = Some(id);
        while let Some(id) = at {
            check(&id.value)?;
            names.push(id.value.clone());
            if names.len() > NAMES_MAX {
                return Err(format!("more than {NAMES_MAX} containers inside of one another"));
            }
            at = id.parent.as_deref();
        }
        names.reverse();
        Ok(Self(names))
    }

    /// The container that it is directly inside of.
    pub(super) fn parent(&self) -> Option<Self> {
        let (_, around) = self.0.split_last()?;
        (!around.is_empty()).then(|| Self(around.to_vec()))
    }

    /// How many containers it is inside of.
    pub(super) fn depth(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// The same inside of an executor's container.
    pub(super) fn in_executor(self, around: mesita_core::wire::ContainerId) -> Self {
        Self([vec![around.to_string()], self.0].concat())
    }

    /// All names.
    pub(super) fn names(&self) -> &[String] {
        &self.0
    }

    /// Its own name.
    pub(in crate::agent) fn name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// True when it is inside of the other one, however far.
    pub(super) fn is_inside(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.0.starts_with(&other.0)
    }

    /// As the API tells it.
    pub(in crate::agent) fn told(&self) -> ContainerId {
        let mut told: Option<ContainerId> = None;
        for name in &self.0 {
            told = Some(ContainerId { value: name.clone(), parent: told.map(Box::new) });
        }
        told.unwrap_or_default()
    }

    /// The same in the JSON of the read endpoints.
    pub(in crate::agent) fn json(&self) -> Value {
        let mut told = Value::Null;
        for name in &self.0 {
            let around = std::mem::replace(&mut told, json!({ "value": name }));
            if !around.is_null() {
                told["parent"] = around;
            }
        }
        told
    }
}

impl From<At> for Chain {
    fn from(at: At) -> Self {
        let around = at.inside.map(|id| id.to_string());
        Self(around.into_iter().chain([at.id.to_string()]).collect())
    }
}

/// As Mesos prints it, which is why no name has a period in it.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

fn check(name: &str) -> Result<(), String> {
    let bad = |c: char| c.is_control() || matches!(c, '/' | '\\' | '.' | ' ');
    match name {
        "" => Err("ID must not be empty".to_owned()),
        name if name.len() > NAME_MAX => {
            Err(format!("ID must not be greater than {NAME_MAX} characters"))
        }
        "." | ".." => Err(format!("'{name}' is disallowed")),
        name if name.contains(bad) => {
            let shown = name.escape_debug();
            Err(format!("'ContainerID.value' '{shown}' contains invalid characters"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(names: &[&str]) -> ContainerId {
        Chain(names.iter().map(|&name| name.to_owned()).collect()).told()
    }

    #[test]
    fn an_id_is_read_with_all_around_it_and_told_as_it_was() {
        let chain = Chain::read(&id(&["1-2", "redis", "backup"])).unwrap();
        assert_eq!((chain.to_string().as_str(), chain.name()), ("1-2.redis.backup", "backup"));
        assert_eq!(chain.told(), id(&["1-2", "redis", "backup"]));
        let around = chain.parent().unwrap();
        assert!(chain.is_inside(&around) && !around.is_inside(&chain));
        let told = json!({"value": "redis", "parent": {"value": "1-2"}});
        assert_eq!(around.json(), told);
    }

    #[test]
    fn a_name_leads_nowhere_else_and_no_chain_is_endless() {
        for name in ["", ".", "..", "a/b", "a\\b", "a.b", "a b", "a\n", "\0"] {
            assert!(Chain::read(&id(&["1-2", name])).is_err(), "{name:?}");
            assert!(Chain::read(&id(&[name, "a"])).is_err(), "{name:?}");
        }
        assert!(Chain::read(&id(&[&"x".repeat(NAME_MAX)])).is_ok());
        assert!(Chain::read(&id(&[&"x".repeat(NAME_MAX + 1)])).is_err());
        assert!(Chain::read(&id(&["x"; NAMES_MAX])).is_ok());
        assert!(Chain::read(&id(&["x"; NAMES_MAX + 1])).is_err());
    }
}
