//! Agents, frameworks, tasks and roles as these endpoints tell them. Mesos: `master/http.cpp`,
//! `common/http.cpp`.

use std::collections::BTreeMap;

use mesita_core::master::rows::{AgentState, FrameworkState};
use mesita_core::table::Id;
use mesita_core::wire::call::Capability;
use mesita_core::wire::resource::Resource;
use mesita_core::wire::task::TaskState;
use mesita_core::wire::{ContainerId, Seq};
use prost::Message;
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::amounts::{Sum, ranges_text};
use crate::catalog::Tables;
use crate::catalog::rows::{Agent, Completed, Drain, Executor, Framework, Offer, Status, Task};
use crate::encoded::Resources;
use crate::pb::mesita::{FrameworkPublic, TaskPublic};
use crate::pb::mesos::v1::value::{Ranges, Scalar};
use crate::pb::mesos::v1::{Attribute, CommandInfo, ExecutorInfo, Labels};
use crate::v1::amounts::seconds;
use crate::v1::calls::capability_list;
use crate::v1::events::{MESOS_VERSION, domain, own_address};
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

/// What tasks, executors and offers hold, by agent and by framework.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    pub(super) used_of_agent: BTreeMap<Id, Sum>,
    pub(super) used_of_framework: BTreeMap<Id, Sum>,
    pub(super) offered_of_agent: BTreeMap<Id, Sum>,
    pub(super) offered_of_framework: BTreeMap<Id, Sum>,
}

impl Holdings {
    /// Of all that there is.
    pub(super) fn of(tables: &Tables) -> Self {
        let (mut holdings, tables) = (Self::default(), tables.whole());
        for (_, task) in tables.tasks.iter().filter(|(_, task)| !task.latest.is_terminal()) {
            holdings.use_by(task.agent, task.framework, |sum| sum.add(&task.resources.list()));
        }
        for (_, one) in tables.executors.iter() {
            holdings.use_by(one.agent, one.framework, |sum| sum.add(&one.resources.list()));
        }
        for (_, offer) in tables.offers.iter() {
            let list = offer.resources.list();
            holdings.offered_of_agent.entry(offer.agent).or_default().add(&list);
            holdings.offered_of_framework.entry(offer.framework).or_default().add(&list);
        }
        holdings
    }

    fn use_by(&mut self, agent: Id, framework: Id, add: impl Fn(&mut Sum)) {
        add(self.used_of_agent.entry(agent).or_default());
        add(self.used_of_framework.entry(framework).or_default());
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
        let held = |of: &BTreeMap<Id, Sum>| of.get(&id).cloned().unwrap_or_default();
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
            used_resources: held(&holdings.used_of_agent),
            offered_resources: held(&holdings.offered_of_agent),
            reserved_resources,
            unreserved_resources,
            active: agent.state == AgentState::Active && !agent.deactivated,
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
        let held = |of: &BTreeMap<Id, Sum>| of.get(&id).cloned().unwrap_or_default();
        let active = framework.state == FrameworkState::Active;
        let capabilities = capability_list(framework.capabilities).into_iter();
        Self {
            id: framework.id.shown(cluster).to_string(),
            name: framework.name.to_string(),
            used_resources: held(&holdings.used_of_framework),
            offered_resources: held(&holdings.offered_of_framework),
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
        let mut resources = holdings.used_of_framework.get(&id).cloned().unwrap_or_default();
        for (_, offer) in tables.offers.iter().filter(|(_, offer)| offer.framework == id) {
            resources.add(&offer.resources.list());
        }
        let many = framework.capabilities & Capability::MultiRole.bit() != 0;
        let roles: Vec<String> = framework.roles.iter().map(|role| role.to_string()).collect();
        let gone = framework.state != FrameworkState::Active;
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

/// A task.
#[derive(Debug, Serialize)]
pub(crate) struct TaskRow {
    id: String,
    name: String,
    framework_id: String,
    executor_id: String,
    slave_id: String,
    state: &'static str,
    resources: Sum,
    role: String,
    statuses: Vec<StatusRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_check: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<String, Value>,
}

#[derive(Debug, Serialize)]
struct StatusRow {
    state: &'static str,
    timestamp: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_status: Option<ContainerStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthy: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ContainerStatus {
    container_id: ContainerName,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    network_infos: Vec<NetworkInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executor_pid: Option<u32>,
}

#[derive(Clone, Debug, Serialize)]
struct NetworkInfo {
    ip_addresses: [IpAddress; 1],
}

#[derive(Clone, Debug, Serialize)]
struct IpAddress {
    protocol: &'static str,
    ip_address: String,
}

impl ContainerStatus {
    /// Of a container, inside of another or not, on the agent at this address, which is its own.
    /// Mesos: `Slave::statusUpdate`.
    pub(crate) fn of(
        container: ContainerId,
        inside: Option<ContainerId>,
        address: &str,
        executor_pid: Option<u32>,
    ) -> Self {
        let name = |id: ContainerId, parent| ContainerName { value: id.to_string(), parent };
        let parent = inside.map(|around| Box::new(name(around, None)));
        let network_infos = own_address(address).map(|(ip, _)| NetworkInfo {
            ip_addresses: [IpAddress {
                protocol: if ip.is_ipv4() { "IPv4" } else { "IPv6" },
                ip_address: ip.to_string(),
            }],
        });
        Self {
            container_id: name(container, parent),
            network_infos: network_infos.into_iter().collect(),
            executor_pid,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct ContainerName {
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Box<ContainerName>>,
}

/// What a task's row is made of, at the master and at its agent.
pub(crate) struct TaskParts<'p> {
    pub(crate) id: &'p str,
    pub(crate) framework_id: String,
    /// Empty for a command at the master.
    pub(crate) executor_id: &'p str,
    pub(crate) slave_id: String,
    pub(crate) state: TaskState,
    pub(crate) role: &'p str,
    pub(crate) resources: &'p Resources,
    /// What everybody may see of it.
    pub(crate) public: &'p [u8],
    pub(crate) statuses: &'p [(TaskState, Status)],
    pub(crate) container: Option<ContainerStatus>,
}

impl TaskRow {
    pub(super) fn of(tables: &Tables, task: &Task) -> Self {
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let framework = tables.frameworks.get(task.framework);
        let agent = tables.agents.get(task.agent);
        Self::with(
            tables,
            task,
            framework.map(|one| one.id.shown(cluster).to_string()).unwrap_or_default(),
            agent.map(|one| one.id.shown(cluster).to_string()).unwrap_or_default(),
        )
    }

    pub(super) fn completed(tables: &Tables, one: &Completed) -> Self {
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let framework = one.framework_id.shown(cluster).to_string();
        Self::with(tables, &one.task, framework, one.agent_id.shown(cluster).to_string())
    }

    fn with(tables: &Tables, task: &Task, framework_id: String, slave_id: String) -> Self {
        let agent = tables.agents.get(task.agent).and_then(|agent| agent.info.info());
        let address = agent.map_or("", |info| info.address);
        let contained = task.container != ContainerId::default();
        Self::made(TaskParts {
            id: &task.name,
            framework_id,
            executor_id: &task.executor,
            slave_id,
            state: task.state,
            role: &task.role,
            resources: &task.resources,
            public: &task.public,
            statuses: &task.statuses,
            container: contained.then(|| ContainerStatus::of(task.container, None, address, None)),
        })
    }

    /// Of these parts.
    pub(crate) fn made(parts: TaskParts<'_>) -> Self {
        let public = TaskPublic::decode(parts.public).unwrap_or_default();
        let statuses = parts.statuses.iter().map(|(state, status)| StatusRow {
            state: state.name(),
            timestamp: seconds(status.told_us),
            container_status: parts.container.clone().map(|own| ContainerStatus {
                executor_pid: own.executor_pid.or(status.pid),
                ..own
            }),
            healthy: status.healthy,
        });
        Self {
            statuses: statuses.collect(),
            id: parts.id.to_owned(),
            name: public.name.unwrap_or_default(),
            framework_id: parts.framework_id,
            executor_id: parts.executor_id.to_owned(),
            slave_id: parts.slave_id,
            state: parts.state.name(),
            resources: Sum::of(&parts.resources.list()),
            role: parts.role.to_owned(),
            labels: public.labels.as_ref().map(labels),
            discovery: public.discovery.as_ref().map(message),
            container: public.container.as_ref().map(message),
            health_check: public.health_check.as_ref().map(message),
            limits: limits(&public.limits),
        }
    }
}

/// How far a task may go above what it has; without a number where there is no limit.
fn limits(of: &BTreeMap<String, Scalar>) -> BTreeMap<String, Value> {
    let told =
        |value: f64| -> Value { if value.is_finite() { value.into() } else { "Infinity".into() } };
    of.iter().map(|(name, limit)| (name.clone(), told(limit.value))).collect()
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
    slave_id: String,
    resources: Sum,
}

impl OfferRow {
    pub(super) fn of(tables: &Tables, offer: &Offer) -> Self {
        let cluster = tables.leading.map_or(0, |(cluster, _)| cluster);
        let framework = tables.frameworks.get(offer.framework);
        let agent = tables.agents.get(offer.agent);
        Self {
            id: offer.id.shown(cluster).to_string(),
            framework_id: framework.map(|of| of.id.shown(cluster).to_string()).unwrap_or_default(),
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
