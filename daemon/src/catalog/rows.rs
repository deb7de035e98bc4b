//! Rows of the catalog, and how they print as JSON.

use std::net::IpAddr;
use std::sync::Arc;

use mesita_core::limits::NAME_MAX;
use mesita_core::master::FrameworkInfo;
use mesita_core::master::rows::{AgentState, Emptying, FrameworkState, Willing};
use mesita_core::resources::Amount;
use mesita_core::table::Id;
use mesita_core::wire::Seq;
use mesita_core::wire::call::{Capability, Ownership, Quantity};
use mesita_core::wire::event::Unavailability;
use mesita_core::wire::task::{Reason, Source, TaskState};
use mesita_core::wire::{AgentId, ContainerId, FrameworkId, OfferId};
use prost::Message;
use serde_json::{Map, Value, json};

use super::Tables;
use crate::encoded::{Described, Encoded, Resources, attribute_text, number};
use crate::pb::mesita::TaskPublic;
use crate::pb::mesos::v1::{ExecutorInfo, NetworkInfo, TaskStatus};

/// Statuses of a task that are remembered.
const STATUSES_MAX: usize = 8;

/// An agent.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) info: Described,
    pub(crate) resources: Resources,
    pub(crate) tasks_max: u32,
    pub(crate) state: AgentState,
    /// Since when it is in that state, in µs of Unix time.
    pub(crate) since_us: u64,
    /// When this master first heard of it, in µs of Unix time.
    pub(crate) registered_us: u64,
    /// When it came back last, in µs of Unix time; 0 = it never went.
    pub(crate) reregistered_us: u64,
    /// It was here before, or the registry has it from another master.
    pub(crate) known: bool,
    /// Who listens was told that it is here, and not that it is gone.
    pub(crate) shown: bool,
    /// Nothing new of it is offered.
    pub(crate) deactivated: bool,
    /// Whether it is being emptied, and how.
    pub(crate) drain: Drain,
}

/// How an agent is being emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drain {
    pub(crate) emptying: Emptying,
    /// No task gets more grace than this, in µs; none = what each says.
    pub(crate) grace_us: Option<u64>,
    /// It is marked gone then.
    pub(crate) gone: bool,
    /// Since when, in µs of Unix time, as far as this master knows; 0 = it is not.
    pub(crate) since_us: u64,
}

/// A machine in the maintenance schedule.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) hostname: Box<str>,
    pub(crate) ip: Box<str>,
    pub(crate) window: Unavailability,
    pub(crate) down: bool,
}

/// A request to a framework to give back what it has of an agent.
#[derive(Clone, Debug)]
pub(crate) struct Inverse {
    pub(crate) framework: Id,
    pub(crate) agent: Id,
    /// The agent's machine in the schedule.
    pub(crate) machine: Id,
    /// Its id, while it waits for an answer.
    pub(crate) offer: Option<OfferId>,
    pub(crate) willing: Willing,
    /// When it was answered last, in µs of Unix time.
    pub(crate) answered_us: u64,
}

/// An operation on resources whose end was not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) framework: Id,
    pub(crate) agent: Id,
    /// Which, as the wire has it: a list of one, or of none if this master only knows its end.
    pub(crate) asked: Encoded,
    /// What was told of it last, as the wire has it; nothing yet = it is pending.
    pub(crate) status: Option<Encoded>,
}

impl Operation {
    /// One that was ordered from its agent.
    pub(crate) fn of(
        framework: Id,
        agent: Id,
        asked: &Seq<'_, mesita_core::wire::call::Operation<'_>>,
    ) -> Self {
        Self { framework, agent, asked: Encoded::of(asked), status: None }
    }

    /// Its agent told of it.
    pub(crate) fn told(&mut self, status: &mesita_core::wire::agent::OperationStatus<'_>) {
        self.status = Some(Encoded::of(status));
    }
}

/// A framework.
#[derive(Clone, Debug)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) name: Box<str>,
    pub(crate) user: Box<str>,
    pub(crate) principal: Box<str>,
    pub(crate) caller: Box<str>,
    pub(crate) hostname: Box<str>,
    pub(crate) webui_url: Box<str>,
    pub(crate) roles: Vec<Box<str>>,
    pub(crate) failover_us: u64,
    pub(crate) capabilities: u32,
    pub(crate) owned: Ownership,
    pub(crate) state: FrameworkState,
    /// Since when it is in that state, in µs of Unix time.
    pub(crate) since_us: u64,
    /// When this master first heard of it, in µs of Unix time.
    pub(crate) registered_us: u64,
    /// When its scheduler came back last, in µs of Unix time; 0 = it never did.
    pub(crate) reregistered_us: u64,
    /// It was here before it was described last.
    pub(crate) known: bool,
    /// What is told of it and not decided by.
    pub(crate) public: Arc<[u8]>,
}

/// A task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) framework: Id,
    pub(crate) agent: Id,
    pub(crate) name: Box<str>,
    pub(crate) executor: Box<str>,
    pub(crate) role: Box<str>,
    /// As its framework was told, and as is known.
    pub(crate) state: TaskState,
    pub(crate) latest: TaskState,
    pub(crate) container: ContainerId,
    pub(crate) resources: Resources,
    pub(crate) public: Arc<[u8]>,
    /// When this master first heard of it, in µs of Unix time.
    pub(crate) since_us: u64,
    pub(crate) status: Status,
    /// What was told since this master heard of it, the oldest first; the newest is `status`.
    pub(crate) statuses: Vec<(TaskState, Status)>,
}

/// What was told of a task last.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) source: Source,
    pub(crate) reason: Option<Reason>,
    pub(crate) message: Box<str>,
    pub(crate) healthy: Option<bool>,
    /// In µs of Unix time, by the clock of who told it.
    pub(crate) told_us: u64,
    /// Labels, container status, check results.
    pub(crate) public: Arc<[u8]>,
    /// The process that it was about, out of `public`.
    pub(crate) pid: Option<u32>,
    /// The address of its container, if it has one of its own, out of the same.
    pub(crate) ip: Option<IpAddr>,
    /// There is more in that than these two which `/state` tells.
    pub(crate) more: bool,
    /// Names the update to its agent; none = there was nothing to acknowledge.
    pub(crate) uuid: Option<u64>,
}

impl Task {
    /// The address of its container's own, which each of its statuses means, also one that was told
    /// before there was any.
    pub(crate) fn own_ip(&self) -> Option<IpAddr> {
        self.statuses.iter().rev().find_map(|(_, status)| status.ip)
    }
}

/// A task whose end was acknowledged, with what its rows said of its agent and framework.
#[derive(Clone, Debug)]
pub(crate) struct Completed {
    pub(crate) task: Task,
    pub(crate) agent_id: AgentId,
    pub(crate) agent: Box<str>,
    pub(crate) framework_id: FrameworkId,
    pub(crate) framework: Box<str>,
    pub(crate) caller: Box<str>,
    /// The user of its framework.
    pub(crate) user: Box<str>,
}

/// A custom executor.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    pub(crate) framework: Id,
    pub(crate) agent: Id,
    pub(crate) name: Box<str>,
    /// What it has is allocated to this role.
    pub(crate) role: Box<str>,
    pub(crate) resources: Resources,
    /// What everybody may see of a task of it, which says what it is; empty as long as there was none.
    pub(crate) of_task: Arc<[u8]>,
}

impl Executor {
    /// A task is where this executor is.
    pub(crate) fn is_at(&self, task: &Task) -> bool {
        (self.framework, self.agent) == (task.framework, task.agent)
    }

    /// Its name, source, labels, command and type, as far as they are known.
    pub(crate) fn described(&self) -> ExecutorInfo {
        TaskPublic::decode(&*self.of_task).unwrap_or_default().executor.unwrap_or_default()
    }
}

/// An offer that was not answered.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) id: OfferId,
    pub(crate) framework: Id,
    pub(crate) agent: Id,
    pub(crate) role: Box<str>,
    pub(crate) resources: Resources,
}

impl Completed {
    /// Bytes that it has carried, and what a row takes at least.
    pub(crate) fn bytes(&self) -> usize {
        let statuses = self.task.statuses.iter();
        let told = statuses.map(|(_, status)| status.message.len() + status.public.len());
        self.task.public.len() + told.sum::<usize>() + size_of::<Self>()
    }
}

/// Keeps one more status of a task, the newest last; instead of the last one, where that was of the same
/// state. Mesos: `Master::updateTask`.
pub(crate) fn keep_status(
    statuses: &mut Vec<(TaskState, Status)>,
    state: TaskState,
    status: Status,
) {
    if let Some((_, last)) = statuses.last_mut().filter(|(of, _)| *of == state) {
        *last = status;
        return;
    }
    if statuses.len() >= STATUSES_MAX {
        // Its beginning and what came last tell most.
        statuses.remove(1);
    }
    statuses.push((state, status));
}

/// What a status's body says of its task, of what `/state` tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    /// The process.
    pub(crate) pid: Option<u32>,
    /// An address of its container's own.
    pub(crate) ip: Option<IpAddr>,
    /// Labels, or more of its networks than that.
    pub(crate) more: bool,
}

impl Carried {
    /// Of a body.
    pub(crate) fn of(public: &[u8]) -> Self {
        let told = if public.is_empty() { None } else { TaskStatus::decode(public).ok() };
        let Some(told) = told else { return Self::default() };
        let place = told.container_status.unwrap_or_default();
        let addresses = place.network_infos.iter().flat_map(|network| &network.ip_addresses);
        let ip = addresses.clone().find_map(|address| address.ip_address().parse().ok());
        let plain = |network: &NetworkInfo| {
            let bare = NetworkInfo {
                ip_addresses: network.ip_addresses.clone(),
                ..NetworkInfo::default()
            };
            *network == bare
        };
        let bare = addresses.count() <= 1 && place.network_infos.iter().all(plain);
        Self { pid: place.executor_pid, ip, more: told.labels.is_some() || !bare }
    }
}

/// What was said with a status; of what a master is told of before it led, out of its body.
pub(crate) fn message_of(message: &str, public: &[u8]) -> Box<str> {
    let carried = || TaskStatus::decode(public).ok()?.message;
    let carried = if message.is_empty() && !public.is_empty() { carried() } else { None };
    carried
        .map_or_else(|| message.into(), |whole| whole[..whole.floor_char_boundary(NAME_MAX)].into())
}

impl Status {
    /// The status of a task of which nothing was told yet.
    pub(crate) fn new(told_us: u64) -> Self {
        Self {
            source: Source::Master,
            reason: None,
            message: "".into(),
            healthy: None,
            told_us,
            public: Arc::from([]),
            pid: None,
            ip: None,
            more: false,
            uuid: None,
        }
    }
}

impl Framework {
    /// The user that its tasks run as, unless they say otherwise.
    pub(crate) fn of_user(&self) -> &str {
        mesita_core::doors::user("", "", &self.user, &self.caller)
    }

    /// A framework as a fact describes it, and what is known of it from before.
    pub(crate) fn of(
        info: &FrameworkInfo<'_>,
        before: Option<&Self>,
        wall_us: u64,
        public: Arc<[u8]>,
    ) -> Self {
        Self {
            id: info.framework,
            name: info.name.into(),
            user: info.user.into(),
            principal: info.principal.into(),
            caller: info.caller.into(),
            hostname: info.hostname.into(),
            webui_url: info.webui_url.into(),
            roles: info.roles.iter().map(Into::into).collect(),
            failover_us: info.failover_us,
            capabilities: info.capabilities,
            owned: info.owned,
            state: before.map_or_else(Default::default, |framework| framework.state),
            since_us: before.map_or(wall_us, |framework| framework.since_us),
            registered_us: before.map_or(wall_us, |framework| framework.registered_us),
            reregistered_us: before.map_or(0, |framework| framework.reregistered_us),
            known: before.is_some(),
            public,
        }
    }

    /// It is somewhere else in its life. Its scheduler is described whenever it subscribes.
    pub(crate) fn enter(&mut self, state: FrameworkState, wall_us: u64) {
        (self.state, self.since_us) = (state, wall_us);
        if state == FrameworkState::Active && self.known {
            self.reregistered_us = wall_us;
        }
    }
}

/// The word for a state of an agent.
pub(crate) const fn agent_word(state: AgentState) -> &'static str {
    match state {
        AgentState::Registering | AgentState::Settling | AgentState::Confirming => "registering",
        AgentState::Active => "active",
        AgentState::Away => "away",
        AgentState::Losing | AgentState::Unreachable => "unreachable",
        AgentState::Gone => "gone",
        AgentState::Recovered => "recovered",
    }
}

/// The word for a state of a framework.
pub(crate) const fn framework_word(state: FrameworkState) -> &'static str {
    match state {
        FrameworkState::Known => "recovered",
        FrameworkState::Active => "active",
        FrameworkState::Away => "away",
        FrameworkState::Leaving => "leaving",
    }
}

impl Agent {
    /// It is somewhere else in its life.
    pub(crate) fn enter(&mut self, state: AgentState, wall_us: u64) {
        // Giving it up takes a while; it does not answer since that began.
        if (self.state, state) != (AgentState::Losing, AgentState::Unreachable) {
            self.since_us = wall_us;
        }
        if state == AgentState::Active && self.state != state && self.known {
            self.reregistered_us = wall_us;
        }
        self.known |= matches!(state, AgentState::Active | AgentState::Recovered);
        self.state = state;
        self.shown = (self.shown || state == AgentState::Active) && !self.is_lost();
    }

    /// Since when it does not answer, in µs of Unix time; none when it does, or is gone for good.
    pub(crate) fn unreachable_us(&self) -> Option<u64> {
        let lost = matches!(self.state, AgentState::Losing | AgentState::Unreachable);
        lost.then_some(self.since_us)
    }

    /// The word for its state, and for what an operator does to it.
    pub(crate) const fn word(&self) -> &'static str {
        match (self.state, self.drain.emptying, self.deactivated) {
            (AgentState::Active, Emptying::Draining, _) => "draining",
            (AgentState::Active, Emptying::Drained, _) => "drained",
            (AgentState::Active, Emptying::No, true) => "deactivated",
            (state, _, _) => agent_word(state),
        }
    }

    /// True when all that is known of it is what the registry keeps.
    pub(crate) const fn is_recovered(&self) -> bool {
        matches!(self.state, AgentState::Recovered)
    }

    /// True when it is here, and what it has may be offered.
    pub(crate) const fn is_active(&self) -> bool {
        matches!(self.state, AgentState::Active) && !self.deactivated
    }

    /// True when it is registered, or was and may come back.
    pub(crate) const fn is_known(&self) -> bool {
        !self.is_lost() && !self.is_recovered()
    }

    /// True when nothing of it is left but its name.
    pub(crate) const fn is_lost(&self) -> bool {
        matches!(self.state, AgentState::Unreachable | AgentState::Gone)
    }
}

impl Tables {
    fn cluster(&self) -> u64 {
        self.leading.map_or(0, |(cluster, _)| cluster)
    }

    /// An agent as an object of JSON. `used` is what tasks and executors hold of it.
    pub(crate) fn agent_json(&self, id: Id, agent: &Agent, used: &Used) -> Value {
        let offers = self.offers.iter().filter(|(_, offer)| offer.agent == id);
        let executors = self.executors.iter().filter(|(_, executor)| executor.agent == id);
        let info = agent.info.info();
        let attributes: Map<String, Value> = info
            .iter()
            .flat_map(|info| info.attributes.iter())
            .map(|attribute| (attribute.name.to_owned(), attribute_text(&attribute.value).into()))
            .collect();
        json!({
            "id": agent.id.shown(self.cluster()).to_string(),
            "hostname": info.map_or("", |info| info.hostname),
            "address": info.map_or("", |info| info.address),
            "state": agent.word(),
            "since": seconds(agent.since_us),
            "resources": agent.resources,
            "used_resources": used.to_json(),
            "tasks_max": agent.tasks_max,
            "offers": offers.count(),
            "executors": executors.map(|(_, one)| &one.name).collect::<Vec<_>>(),
            "attributes": attributes,
        })
    }

    /// A framework as an object of JSON.
    pub(crate) fn framework_json(&self, id: Id, framework: &Framework) -> Value {
        let tasks = self.tasks.iter().filter(|(_, task)| task.framework == id).count();
        let executors = self.executors.iter().filter(|(_, one)| one.framework == id).count();
        let offers = self.offers.iter().filter(|(_, offer)| offer.framework == id);
        let offers = offers.map(|(_, offer)| self.offer_json(offer)).collect::<Vec<_>>();
        json!({
            "id": framework.id.shown(self.cluster()).to_string(),
            "name": framework.name,
            "user": framework.user,
            "principal": framework.principal,
            "caller": framework.caller,
            "hostname": framework.hostname,
            "roles": framework.roles,
            "state": framework_word(framework.state),
            "since": seconds(framework.since_us),
            "failover_timeout": seconds(framework.failover_us),
            "owned_by_master": framework.owned == Ownership::Master,
            "webui_url": framework.webui_url,
            "capabilities": capabilities(framework.capabilities),
            "tasks": tasks,
            "executors": executors,
            "offers": offers,
        })
    }

    fn offer_json(&self, offer: &Offer) -> Value {
        let cluster = self.cluster();
        let agent = self.agents.get(offer.agent);
        json!({
            "id": offer.id.shown(cluster).to_string(),
            "agent_id": agent.map(|agent| agent.id.shown(cluster).to_string()),
            "resources": offer.resources,
        })
    }

    /// A task as an object of JSON.
    pub(crate) fn task_json(&self, task: &Task) -> Value {
        let agent = self.agents.get(task.agent);
        let info = agent.and_then(|agent| agent.info.info());
        let framework = self.frameworks.get(task.framework);
        self.row_json(
            task,
            framework.map(|framework| (framework.id, &*framework.name)),
            agent.map(|agent| (agent.id, info.map_or("", |info| info.hostname))),
        )
    }

    /// A task that is over as an object of JSON.
    pub(crate) fn completed_json(&self, one: &Completed) -> Value {
        let framework = Some((one.framework_id, &*one.framework));
        self.row_json(&one.task, framework, Some((one.agent_id, &*one.agent)))
    }

    fn row_json(
        &self,
        task: &Task,
        framework: Option<(FrameworkId, &str)>,
        agent: Option<(AgentId, &str)>,
    ) -> Value {
        let cluster = self.cluster();
        let public = TaskPublic::decode(&*task.public).unwrap_or_default();
        let labels = public.labels.unwrap_or_default().labels.into_iter();
        let labels = labels.map(|label| (label.key, label.value.unwrap_or_default().into()));
        json!({
            "id": task.name,
            "name": public.name,
            "labels": labels.collect::<Map<String, Value>>(),
            "executor_id": task.executor,
            "framework_id": framework.map(|(id, _)| id.shown(cluster).to_string()),
            "framework": framework.map(|(_, name)| name),
            "agent_id": agent.map(|(id, _)| id.shown(cluster).to_string()),
            "agent": agent.map(|(_, name)| name),
            "role": task.role,
            "state": task.latest.name(),
            "told": task.state.name(),
            "container": task.container.to_string(),
            "resources": task.resources,
            "since": seconds(task.since_us),
            "source": source(task.status.source),
            "reason": task.status.reason.map(Reason::name),
            "message": task.status.message,
            "healthy": task.status.healthy,
            "timestamp": seconds(task.status.told_us),
        })
    }

    /// What tasks and executors hold, by agent.
    pub(crate) fn used(&self) -> std::collections::BTreeMap<Id, Used> {
        let mut used = std::collections::BTreeMap::<Id, Used>::new();
        for (_, task) in self.whole().tasks.iter().filter(|(_, task)| !task.latest.is_terminal()) {
            used.entry(task.agent).or_default().add(&task.resources);
        }
        for (_, executor) in self.whole().executors.iter() {
            used.entry(executor.agent).or_default().add(&executor.resources);
        }
        used
    }
}

/// What a role is guaranteed, and may have at most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quota {
    pub(crate) guarantees: std::collections::BTreeMap<Box<str>, Amount>,
    pub(crate) limits: std::collections::BTreeMap<Box<str>, Amount>,
}

impl Quota {
    pub(crate) fn of(guarantees: &Seq<'_, Quantity<'_>>, limits: &Seq<'_, Quantity<'_>>) -> Self {
        let read = |list: &Seq<'_, Quantity<'_>>| {
            list.iter().map(|one| (one.name.into(), one.amount)).collect()
        };
        Self { guarantees: read(guarantees), limits: read(limits) }
    }
}

/// A role's weight as an object of JSON.
pub(crate) fn weight_json(role: &str, weight: u32) -> Value {
    json!({ "role": role, "weight": number(Amount::from_milli(weight.into())) })
}

impl Tables {
    /// A machine in the maintenance schedule as an object of JSON.
    pub(crate) fn machine_json(&self, machine: &Machine) -> Value {
        let Unavailability { start_wall_us, duration_us } = machine.window;
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        json!({
            "hostname": given(&machine.hostname),
            "ip": given(&machine.ip),
            "start": seconds(start_wall_us),
            "duration": (duration_us != 0).then(|| seconds(duration_us)),
            "mode": if machine.down { "DOWN" } else { "DRAINING" },
        })
    }

    /// A role's quota as an object of JSON, with what the tasks of it and the roles below it hold.
    pub(crate) fn quota_json(&self, role: &str, quota: &Quota) -> Value {
        let amounts = |of: &std::collections::BTreeMap<Box<str>, Amount>| {
            let each =
                of.iter().map(|(name, amount)| (name.to_string(), Value::Number(number(*amount))));
            each.collect::<Map<String, Value>>()
        };
        let within = |of: &str| {
            of.strip_prefix(role).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut used = Used::default();
        let tasks = self.tasks.iter().map(|(_, task)| task);
        tasks
            .filter(|task| !task.latest.is_terminal() && within(&task.role))
            .for_each(|task| used.add(&task.resources));
        json!({
            "role": role,
            "guarantees": amounts(&quota.guarantees),
            "limits": amounts(&quota.limits),
            "used": used.to_json(),
        })
    }
}

/// Sums of scalar resources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used(std::collections::BTreeMap<String, u64>);

impl Used {
    fn add(&mut self, resources: &Resources) {
        for name in resources.scalars() {
            let milli = resources.scalar(&name).milli();
            *self.0.entry(name).or_default() += milli;
        }
    }

    /// As Mesos has it: every resource that tasks commonly have, and all others that they do have.
    fn to_json(&self) -> Value {
        let common = ["cpus", "mem", "disk"].map(|name| (name.to_owned(), Value::from(0)));
        let mut map: Map<String, Value> = common.into_iter().collect();
        for (name, &milli) in &self.0 {
            map.insert(name.clone(), Value::Number(number(Amount::from_milli(milli))));
        }
        Value::Object(map)
    }
}

/// Mesos' name of who says something.
pub(crate) const fn source(source: Source) -> &'static str {
    match source {
        Source::Master => "SOURCE_MASTER",
        Source::Agent => "SOURCE_AGENT",
        Source::Executor => "SOURCE_EXECUTOR",
    }
}

/// Mesos' names of what a framework understands.
fn capabilities(bits: u32) -> Vec<&'static str> {
    let all = [
        (Capability::RevocableResources, "REVOCABLE_RESOURCES"),
        (Capability::TaskKillingState, "TASK_KILLING_STATE"),
        (Capability::GpuResources, "GPU_RESOURCES"),
        (Capability::SharedResources, "SHARED_RESOURCES"),
        (Capability::PartitionAware, "PARTITION_AWARE"),
        (Capability::MultiRole, "MULTI_ROLE"),
        (Capability::ReservationRefinement, "RESERVATION_REFINEMENT"),
        (Capability::RegionAware, "REGION_AWARE"),
    ];
    all.into_iter().filter(|(one, _)| bits & one.bit() != 0).map(|(_, name)| name).collect()
}

/// µs as seconds with a fraction.
fn seconds(us: u64) -> Value {
    #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 µs: 285 years.
    Value::from(us as f64 / 1e6)
}
