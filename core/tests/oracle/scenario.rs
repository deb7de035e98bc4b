//! The form of `core/tests/fixtures/mesos/scenarios.json`; its README says what each action is.

use std::collections::BTreeMap;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

#[derive(Deserialize)]
pub struct Fixture {
    pub mesos: String,
    pub scenarios: Vec<Scenario>,
}

#[derive(Deserialize)]
pub struct Scenario {
    pub name: String,
    #[serde(default)]
    pub flags: Flags,
    pub agents: Vec<Agent>,
    pub steps: Vec<Step>,
}

/// Flags of the master that are not the default.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flags {
    pub min_allocatable_resources: Option<String>,
    pub filter_gpu_resources: Option<String>,
    pub fair_sharing_excluded_resource_names: Option<String>,
    pub domain: Option<String>,
    pub whitelist: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    pub name: String,
    pub resources: String,
    #[serde(default)]
    pub attributes: String,
    #[serde(default)]
    pub region: String,
    #[serde(default)]
    pub zone: String,
}

#[derive(Deserialize)]
pub struct Step {
    #[serde(rename = "do")]
    pub actions: Actions,
    #[serde(default)]
    pub refused: bool,
    pub holds: Vec<Row>,
    #[serde(default)]
    pub used: Vec<Row>,
}

/// Framework, role, agent, resources.
pub type Row = [String; 4];

/// Actions between which nothing is allocated; in the file one that is alone is no list.
pub struct Actions(pub Vec<Action>);

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let actions = match Value::deserialize(from)? {
            Value::Array(actions) => actions,
            action => vec![action],
        };
        let actions = actions.into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
        actions.map(Self).map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    AddAgent(Agent),
    RemoveAgent(String),
    RestartAgent(Agent),
    DeactivateAgent(String),
    ReactivateAgent(String),
    Oversubscribe { agent: String, resources: String },
    Whitelist(Vec<String>),
    Subscribe(Framework),
    UpdateFramework(Framework),
    RemoveFramework(String),
    Disconnect(String),
    Reconnect(String),
    Decline(Decline),
    Launch(Launch),
    Finish { framework: String, task: String },
    Suppress(Roles),
    Revive(Roles),
    Weights(BTreeMap<String, f64>),
    Quota(Quota),
    Wait(f64),
    Reserve(Operate),
    Unreserve(Operate),
    Create(Operate),
    Destroy(Operate),
    OperatorReserve { agent: String, resources: String },
    // What there is no such call for here.
    SetQuota(IgnoredAny),
    RemoveQuota(IgnoredAny),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Framework {
    pub framework: String,
    pub roles: Vec<String>,
    #[serde(default)]
    pub suppressed: Vec<String>,
    /// Beside those that all have but those it lacks.
    #[serde(default)]
    pub capabilities: Vec<String>,
    #[serde(default)]
    pub lacks: Vec<String>,
    /// By role, alternatives; none of them = anything.
    #[serde(default)]
    pub minimum: BTreeMap<String, Vec<String>>,
    /// By role, groups of which one must hold, of constraints that all must hold.
    #[serde(default)]
    pub constraints: BTreeMap<String, Vec<Vec<Constraint>>>,
}

/// Attribute (or `@hostname`, `@region`, `@zone`), predicate and, if it has one, value.
pub type Constraint = Vec<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decline {
    pub framework: String,
    pub role: Option<String>,
    pub agent: Option<String>,
    pub refuse: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    pub framework: String,
    pub role: Option<String>,
    pub agent: String,
    pub task: String,
    pub resources: String,
    pub refuse: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operate {
    pub framework: String,
    pub role: Option<String>,
    pub agent: String,
    pub resources: String,
    pub refuse: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    pub framework: String,
    #[serde(default)]
    pub roles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    pub role: String,
    pub guarantees: String,
    #[serde(default)]
    pub limits: String,
    #[serde(default)]
    pub force: bool,
}
