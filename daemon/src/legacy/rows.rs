//! Agents, frameworks, executors and offers as these endpoints tell them. Mesos: `master/http.cpp`,
//! `common/http.cpp`.

use std::collections::BTreeMap;

use mesita_core::master::rows::FrameworkState;
use mesita_core::table::Id;
use mesita_core::wire::Seq;
use mesita_core::wire::call::Capability;
use mesita_core::wire::resource::Resource;
use mesita_core::wire::task::TaskState;
use prost::Message;
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::amounts::{Sum, ranges_text};
use super::held::Holdings;
use crate::catalog::Tables;
use crate::catalog::rows::{Agent, Drain, Executor, Framework, Offer};
use crate::pb::mesita::FrameworkPublic;
use crate::pb::mesos::v1::value::Ranges;
use crate::pb::mesos::v1::{Attribute, CommandInfo, ExecutorInfo, Labels};
use crate::v1::amounts::seconds;
use crate::v1::calls::capability_list;
use crate::v1::events::{MESOS_VERSION, domain};
use crate::v1::reads;
use crate::v1::resources::{self, Form, Stack, one_of_wire};

/// What every agent of ours can do.
pub(crate) const AGENT_CAPABILITIES: [&str; 7] = [
    "MULTI_ROLE",
    "HIERARCHICAL_ROLE",
    "RESERVATION_REFINEMENT",
    "RESIZE_VOLUME",
    "AGENT_OPERATION_FEEDBACK",
    "AGENT_DRAINING",
    "TASK_RESOURCE_LIMITS",
];

/// Resources as operators see them.
const FORM: Form = Form { stack: Stack::Both, allocated: true };

/// Resources in full.
type Full = Vec<Box<RawValue>>;

/// Attributes: numbers as such, all others as text. Mesos: `model(Attributes)`.
pub(crate) fn attributes(of: &[Attribute]) -> BTreeMap<String, Value> {
    let ranges = |of: &Ranges| -> Value {
        ranges_text(&of.range.iter().map(|one| (one.begin, one.end)).collect()).into()
    };
    let told = of.iter().map(|one| {
        let value: Value = match (&one.scalar, &one.ranges) {
            (Some(scalar), _) => scalar.value.into(),
            (None, Some(of)) => ranges(of),
            (None, None) => one.text.as_ref().map_or("", |text| &text.value).into(),
        };
        (one.name.clone(), value)
    });
    told.collect()
}

/// Resources in full: those that are reserved by role, and those that are not.
pub(crate) fn full_by_role(list: &Seq<'_, Resource<'_>>) -> (BTreeMap<String, Full>, Full) {
    let (mut reserved, mut free) = (BTreeMap::<String, Full>::new(), Full::new());
    for resource in list.iter() {
        let told = message(&one_of_wire(&resource, "", FORM));
        match resource.traits.reservations.iter().last() {
            Some(layer) => reserved.entry(layer.role.to_owned()).or_default().push(told),
            None => free.push(told),
        }
    }
    (reserved, free)
}

/// An agent.
#[derive(Debug, Serialize)]
pub(super) struct AgentRow {
    id: String,
    hostname: String,
    port: u16,
    attributes: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<Box<RawValue>>,
    pid: String,
    registered_time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reregistered_time: Option<f64>,
    resources: Sum,
    used_resources: Sum,
    offered_resources: Sum,
    reserved_resources: BTreeMap<String, Sum>,
    unreserved_resources: Sum,
    active: bool,
    deactivated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_info: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_drain_start_time_seconds: Option<f64>,
    version: &'static str,
    capabilities: [&'static str; 7],
}

/// An agent with its resources in full.
#[derive(Debug, Serialize)]
pub(super) struct FullAgentRow {
    #[serde(flatten)]
    row: AgentRow,
    reserved_resources_full: BTreeMap<String, Full>,
    unreserved_resources_full: Full,
    used_resources_full: Full,
    offered_resources_full: Full,
}

impl FullAgentRow {
    pub(super) fn of(tables: &Tables, id: Id, agent: &Agent, holdings: &Holdings) -> Self {
        let (mut reserved, unreserved) = full_by_role(&agent.resources.list());
        reserved.retain(|role, _| tables.sees_role(role));
        let told = reads::agent(tables, id, agent);
        Self {
            row: AgentRow::of(tables, id, agent, holdings),
            reserved_resources_full: reserved,
            unreserved_resources_full: unreserved,
            used_resources_full: told.allocated_resources.iter().map(message).collect(),
            offered_resources_full: told.offered_resources.iter().map(message).collect(),
        }
    }
}

/// How an agent is being emptied, as Mesos' web page reads it.
fn drain_info(drain: &Drain) -> Option<Value> {
    let told = crate::v1::maintenance::drain_info(drain)?;
    let grace = told.config.max_grace_period.as_ref();
    let grace = grace.map(|one| json!({ "nanoseconds": one.nanoseconds }));
    let mut config = json!({ "mark_gone": told.config.mark_gone() });
    if let Some(grace) = grace {
        config["max_grace_period"] = grace;
    }
    Some(json!({ "state": told.state().as_str_name(), "config": config }))
}

/// Where an agent answers: its own address, else port 0.
pub(crate) fn address(address: &str) -> (String, u16) {
    let known = address.rsplit_once(':').and_then(|(ip, port)| Some((ip, port.parse().ok()?)));
    known.map_or_else(|| (String::new(), 0), |(ip, port)| (ip.to_owned(), port))
}

impl AgentRow {
    pub(super) fn of(tables: &Tables, id: Id, agent: &Agent, holdings: &Holdings) -> Self {
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let info = agent.info.info();
        let (ip, port) = address(info.map_or("", |info| info.address));
        let list = agent.resources.list();
        let (mut reserved_resources, unreserved_resources) = Sum::by_role(&list);
        reserved_resources.retain(|role, _| tables.sees_role(role));
        Self {
            id: agent.id.shown(cluster).to_string(),
            hostname: info.map_or("", |info| info.hostname).to_owned(),
            port,
            attributes: info
                .map(|info| attributes(&resources::attributes(&info.attributes)))
                .unwrap_or_default(),
            domain: info.and_then(|info| domain(info.region, info.zone)).as_ref().map(message),
            pid: format!("slave(1)@{ip}:{port}"),
            registered_time: seconds(agent.registered_us),
            reregistered_time: (agent.reregistered_us > 0).then(|| seconds(agent.reregistered_us)),
            resources: Sum::of(&list),
            used_resources: holdings.used_of_agent(id),
            offered_resources: holdings.offered_of_agent(id),
            reserved_resources,
            unreserved_resources,
            active: agent.is_active(),
            deactivated: agent.deactivated,
            drain_info: drain_info(&agent.drain),
            estimated_drain_start_time_seconds: (agent.drain.since_us > 0)
                .then(|| seconds(agent.drain.since_us)),
            version: MESOS_VERSION,
            capabilities: AGENT_CAPABILITIES,
        }
    }
}

/// A framework without what belongs to it.
#[derive(Debug, Serialize)]
pub(super) struct FrameworkHead {
    pub(super) id: String,
    name: String,
    used_resources: Sum,
    offered_resources: Sum,
    capabilities: Vec<&'static str>,
    hostname: String,
    webui_url: String,
    active: bool,
    connected: bool,
    recovered: bool,
}

/// What only the whole of a framework says.
#[derive(Debug, Serialize)]
pub(super) struct FrameworkDetail {
    #[serde(flatten)]
    head: FrameworkHead,
    user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    principal: String,
    failover_timeout: f64,
    checkpoint: bool,
    registered_time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reregistered_time: Option<f64>,
    unregistered_time: f64,
    resources: Sum,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Box<RawValue>>,
    offer_constraints: Box<RawValue>,
}

impl FrameworkHead {
    pub(super) fn of(tables: &Tables, id: Id, framework: &Framework, holdings: &Holdings) -> Self {
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let active = framework.state == FrameworkState::Active;
        let capabilities = capability_list(framework.capabilities).into_iter();
        Self {
            id: framework.id.shown(cluster).to_string(),
            name: framework.name.to_string(),
            used_resources: holdings.used_of_framework(id),
            offered_resources: holdings.offered_of_framework(id),
            capabilities: capabilities.map(|one| one.r#type().as_str_name()).collect(),
            hostname: framework.hostname.to_string(),
            webui_url: framework.webui_url.to_string(),
            active,
            connected: active,
            recovered: framework.state == FrameworkState::Known,
        }
    }
}

impl FrameworkDetail {
    pub(super) fn of(tables: &Tables, id: Id, framework: &Framework, holdings: &Holdings) -> Self {
        let head = FrameworkHead::of(tables, id, framework, holdings);
        let mut resources = head.used_resources.clone();
        resources.join(&head.offered_resources);
        let many = framework.capabilities & Capability::MultiRole.bit() != 0;
        let roles: Vec<String> = framework.roles.iter().map(|role| role.to_string()).collect();
        let gone = framework.state == FrameworkState::Leaving;
        let public = FrameworkPublic::decode(&*framework.public).unwrap_or_default();
        Self {
            user: framework.user.to_string(),
            principal: framework.principal.to_string(),
            failover_timeout: seconds(framework.failover_us),
            checkpoint: true,
            registered_time: seconds(framework.registered_us),
            reregistered_time: (framework.reregistered_us > 0)
                .then(|| seconds(framework.reregistered_us)),
            unregistered_time: if gone { seconds(framework.since_us) } else { 0.0 },
            resources,
            role: (!many).then(|| roles.first().cloned().unwrap_or_default()),
            roles: many.then_some(roles),
            labels: public.labels.as_ref().map(labels),
            offer_constraints: message(&reads::offer_constraints(framework)),
            head,
        }
    }
}

/// Labels as a list.
pub(crate) fn labels(of: &Labels) -> Box<RawValue> {
    raw(&of.labels.iter().map(Label::of).collect::<Vec<_>>())
}

/// A command. Mesos: `common/http.cpp`, `json(CommandInfo)`.
fn command(of: &CommandInfo) -> Value {
    let uris = of.uris.iter();
    let uris = uris.map(|uri| json!({ "value": uri.value, "executable": uri.executable() }));
    let mut told = json!({ "argv": of.arguments, "uris": uris.collect::<Vec<Value>>() });
    if let Some(shell) = of.shell {
        told["shell"] = shell.into();
    }
    if let Some(value) = &of.value {
        told["value"] = value.as_str().into();
    }
    if let Some(environment) = &of.environment {
        told["environment"] = json!(message(environment));
    }
    told
}

#[derive(Debug, Serialize)]
struct Label<'l> {
    key: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'l str>,
}

impl<'l> Label<'l> {
    fn of(label: &'l crate::pb::mesos::v1::Label) -> Self {
        Self { key: &label.key, value: label.value.as_deref() }
    }
}

fn raw<T: Serialize>(value: &T) -> Box<RawValue> {
    // Our own rows have no way to fail.
    let null = || serde_json::value::to_raw_value(&()).unwrap_or_default();
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| null())
}

/// A message of the API within a row.
pub(crate) fn message<M: Message + prost::Name>(message: &M) -> Box<RawValue> {
    let text = crate::http::transcode::to_json(message);
    let text = String::from_utf8(text).unwrap_or_default();
    RawValue::from_string(text).unwrap_or_else(|_| raw(&()))
}

/// An executor of a framework.
#[derive(Debug, Serialize)]
pub(super) struct ExecutorRow {
    executor_id: String,
    name: String,
    framework_id: String,
    command: Value,
    resources: Sum,
    role: String,
    slave_id: String,
    #[serde(flatten)]
    kind: ExecutorKind,
}

/// What an executor says of itself beside its name.
#[derive(Debug, Serialize)]
struct ExecutorKind {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Box<RawValue>>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

impl ExecutorKind {
    #[allow(deprecated)] // Old clients look at the source.
    fn of(info: &ExecutorInfo) -> Self {
        Self {
            source: info.source.clone(),
            labels: info.labels.as_ref().map(labels),
            kind: info.r#type.is_some().then(|| info.r#type().as_str_name()),
        }
    }
}

impl ExecutorRow {
    pub(super) fn of(tables: &Tables, one: &Executor) -> Self {
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let framework = tables.frameworks.get(one.framework);
        let agent = tables.agents.get(one.agent);
        let info = one.described();
        Self {
            executor_id: one.name.to_string(),
            name: info.name().to_owned(),
            command: command(&info.command.clone().unwrap_or_default()),
            role: one.role.to_string(),
            kind: ExecutorKind::of(&info),
            framework_id: framework.map(|of| of.id.shown(cluster).to_string()).unwrap_or_default(),
            resources: Sum::of(&one.resources.list()),
            slave_id: agent.map(|of| of.id.shown(cluster).to_string()).unwrap_or_default(),
        }
    }
}

/// An offer of a framework.
#[derive(Debug, Serialize)]
pub(super) struct OfferRow {
    id: String,
    framework_id: String,
    allocation_info: Allocation,
    slave_id: String,
    resources: Sum,
}

/// The role that an offer is for.
#[derive(Debug, Serialize)]
struct Allocation {
    role: String,
}

impl OfferRow {
    pub(super) fn of(tables: &Tables, offer: &Offer) -> Self {
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let framework = tables.frameworks.get(offer.framework);
        let agent = tables.agents.get(offer.agent);
        Self {
            id: offer.id.shown(cluster).to_string(),
            framework_id: framework.map(|of| of.id.shown(cluster).to_string()).unwrap_or_default(),
            allocation_info: Allocation { role: offer.role.to_string() },
            slave_id: agent.map(|of| of.id.shown(cluster).to_string()).unwrap_or_default(),
            resources: Sum::of(&offer.resources.list()),
        }
    }
}

/// How many tasks are in each state; written as `TASK_…` beside other fields.
#[derive(Debug, Default)]
pub(super) struct Counts([u64; 14]);

impl Counts {
    const TOLD: [TaskState; 10] = [
        TaskState::Staging,
        TaskState::Starting,
        TaskState::Running,
        TaskState::Killing,
        TaskState::Finished,
        TaskState::Killed,
        TaskState::Failed,
        TaskState::Lost,
        TaskState::Error,
        TaskState::Unreachable,
    ];

    pub(super) fn add(&mut self, state: TaskState) {
        self.0[state as usize] += 1;
    }
}

impl Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Self::TOLD.len()))?;
        for state in Self::TOLD {
            map.serialize_entry(state.name(), &self.0[state as usize])?;
        }
        map.end()
    }
}
