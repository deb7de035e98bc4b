//! What the operator API tells of the catalog's rows.

use mesita_core::master::rows::FrameworkState;
use mesita_core::resources::Amount;
use mesita_core::table::Id;
use mesita_core::wire::call::Capability;
use mesita_core::wire::resource::Resource;
use mesita_core::wire::task::{Reason, Source, TaskState};
use mesita_core::wire::{AgentId, FrameworkId, Seq, Uuid};
use prost::Message;
use std::collections::BTreeMap;

use super::amounts::{double, seconds};
use super::calls::capability_list;
use super::events::{self, MESOS_VERSION, agent_id, domain, framework_id, offer_id};
use super::maintenance;
use super::resources::{Form, Stack, attributes, of_holder, of_wire, one_of_wire};
use crate::catalog::Tables;
use crate::catalog::rows::{Agent, Completed, Executor, Framework, Offer, Status, Task};
use crate::command::shown_check;
use crate::encoded::Resources;
use crate::legacy::address;
use crate::legacy::roles::{Has, has_by_role};
use crate::pb::mesita::{FrameworkPublic, TaskPublic};
use crate::pb::mesos::v1 as pb;
use pb::master::response::{
    GetAgents, GetExecutors, GetFrameworks, GetRoles, GetState, GetTasks, get_agents,
    get_executors, get_frameworks,
};

/// Resources as operators see them.
const FORM: Form = Form { stack: Stack::Both, allocated: true };
/// Those of a task or an executor, and those that an agent was described with, which Mesos tells as it
/// keeps them.
pub(crate) const KEPT: Form = Form { stack: Stack::New, allocated: true };

pub(super) fn cluster(tables: &Tables) -> u64 {
    tables.leading.map_or(0, |(cluster, _)| cluster)
}

pub(crate) fn time(us: u64) -> pb::TimeInfo {
    pb::TimeInfo { nanoseconds: i64::try_from(us.saturating_mul(1000)).unwrap_or(i64::MAX) }
}

/// Everything.
pub(crate) fn state(tables: &Tables) -> GetState {
    GetState {
        get_tasks: Some(tasks(tables)),
        get_executors: Some(executors(tables)),
        get_frameworks: Some(frameworks(tables)),
        get_agents: Some(agents(tables)),
    }
}

/// Agents that are registered, or were and may come back.
pub(crate) fn agents(tables: &Tables) -> GetAgents {
    let known = tables.agents.iter().filter(|(_, agent)| !agent.is_lost());
    let (recovered, here): (Vec<_>, Vec<_>) = known.partition(|(_, row)| row.is_recovered());
    let mut found = Found::all(tables.whole(), &OF_AGENT);
    let mut told = |id, row| with_found(tables, row, &found.remove(&id).unwrap_or_default());
    let agents = here.into_iter().map(|(id, row)| told(id, row)).collect();
    let infos = recovered.into_iter().map(|(id, row)| told(id, row).agent_info);
    GetAgents { agents, recovered_agents: infos.collect() }
}

/// What a caller sees of resources that are allocated to a role.
fn seen_of_wire(
    tables: &Tables,
    list: &Seq<'_, Resource<'_>>,
    role: &str,
    form: Form,
) -> Vec<pb::Resource> {
    let seen = list.iter().filter(|one| tables.sees_resource(one, role));
    seen.map(|one| one_of_wire(&one, role, form)).collect()
}

/// What tasks that live, executors and offers somebody has.
#[derive(Default)]
struct Found<'t> {
    tasks: Vec<&'t Task>,
    executors: Vec<&'t Executor>,
    offers: Vec<&'t Offer>,
}

/// Whose each of them is.
struct Owner {
    task: fn(&Task) -> Id,
    executor: fn(&Executor) -> Id,
    offer: fn(&Offer) -> Id,
}

const OF_AGENT: Owner =
    Owner { task: |one| one.agent, executor: |one| one.agent, offer: |one| one.agent };
const OF_FRAMEWORK: Owner =
    Owner { task: |one| one.framework, executor: |one| one.framework, offer: |one| one.framework };

impl<'t> Found<'t> {
    /// What everybody has, at once: O(n log n), where each on its own is O(n).
    fn all(tables: &'t Tables, owner: &Owner) -> BTreeMap<Id, Self> {
        let mut all = BTreeMap::<Id, Self>::new();
        for task in tables.tasks.iter().map(|(_, row)| row).filter(|row| !row.latest.is_terminal())
        {
            all.entry((owner.task)(task)).or_default().tasks.push(task);
        }
        for (_, executor) in tables.executors.iter() {
            all.entry((owner.executor)(executor)).or_default().executors.push(executor);
        }
        for (_, offer) in tables.offers.iter() {
            all.entry((owner.offer)(offer)).or_default().offers.push(offer);
        }
        all
    }

    /// What one has.
    fn of(tables: &'t Tables, owner: &Owner, id: Id) -> Self {
        let tasks = tables.tasks.iter().map(|(_, row)| row);
        let executors = tables.executors.iter().map(|(_, row)| row);
        let offers = tables.offers.iter().map(|(_, row)| row);
        let lives = |row: &&Task| (owner.task)(row) == id && !row.latest.is_terminal();
        Self {
            tasks: tasks.filter(lives).collect(),
            executors: executors.filter(|row| (owner.executor)(row) == id).collect(),
            offers: offers.filter(|row| (owner.offer)(row) == id).collect(),
        }
    }
}

/// One agent.
pub(crate) fn agent(tables: &Tables, id: Id, row: &Agent) -> get_agents::Agent {
    with_found(tables, row, &Found::of(tables.whole(), &OF_AGENT, id))
}

fn with_found(tables: &Tables, row: &Agent, found: &Found<'_>) -> get_agents::Agent {
    let info = row.info.info();
    let (ip, port) = address(info.map_or("", |info| info.address));
    let list = row.resources.list();
    let own = Form { allocated: false, ..FORM };
    let of_tasks = found.tasks.iter().map(|one| (&one.resources, &*one.role));
    let of_executors = found.executors.iter().map(|one| (&one.resources, &*one.role));
    let seen = |(list, role): (&Resources, &str)| seen_of_wire(tables, &list.list(), role, FORM);
    let allocated = of_tasks.chain(of_executors).flat_map(seen).collect();
    let offered = found.offers.iter().map(|one| (&one.resources, &*one.role)).flat_map(seen);
    get_agents::Agent {
        agent_info: pb::AgentInfo {
            hostname: info.map_or("", |info| info.hostname).to_owned(),
            port: Some(port.into()),
            resources: seen_of_wire(tables, &list, "", Form { allocated: false, ..KEPT }),
            attributes: info.map(|info| attributes(&info.attributes)).unwrap_or_default(),
            id: Some(agent_id(row.id, cluster(tables))),
            domain: info.and_then(|info| domain(info.region, info.zone)),
        },
        active: row.is_active(),
        deactivated: Some(row.deactivated),
        version: MESOS_VERSION.to_owned(),
        pid: Some(format!("slave(1)@{ip}:{port}")),
        registered_time: Some(time(row.registered_us)),
        reregistered_time: (row.reregistered_us > 0).then(|| time(row.reregistered_us)),
        total_resources: seen_of_wire(tables, &list, "", own),
        allocated_resources: summed(allocated),
        offered_resources: summed(offered.collect()),
        capabilities: agent_capabilities(),
        drain_info: maintenance::drain_info(&row.drain),
        estimated_drain_start_time: (row.drain.since_us > 0).then(|| time(row.drain.since_us)),
        ..get_agents::Agent::default()
    }
}

fn agent_capabilities() -> Vec<pb::agent_info::Capability> {
    use pb::agent_info::capability::Type;
    let known = crate::legacy::AGENT_CAPABILITIES.into_iter();
    let known = known.filter_map(Type::from_str_name);
    known.map(|kind| pb::agent_info::Capability { r#type: Some(kind.into()) }).collect()
}

/// Equal resources added up; what cannot be added stands beside.
fn summed(resources: Vec<pb::Resource>) -> Vec<pb::Resource> {
    let mut sums = Vec::<pb::Resource>::new();
    for resource in resources {
        let same = sums.iter_mut().find(|sum| {
            let alike = pb::Resource { scalar: None, ..resource.clone() };
            resource.scalar.is_some() && pb::Resource { scalar: None, ..(*sum).clone() } == alike
        });
        match same.and_then(|sum| sum.scalar.as_mut()) {
            Some(sum) => {
                let more = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
                // Both are thousandths, and so is their sum.
                sum.value = ((sum.value + more) * 1000.0).round() / 1000.0;
            }
            None => sums.push(resource),
        }
    }
    sums
}

/// Frameworks that this master knows.
pub(crate) fn frameworks(tables: &Tables) -> GetFrameworks {
    let mut found = Found::all(tables, &OF_FRAMEWORK);
    let mut told =
        |id, row| framework_with(tables, id, row, &found.remove(&id).unwrap_or_default());
    GetFrameworks {
        frameworks: tables.frameworks.iter().map(|(id, row)| told(id, row)).collect(),
        completed_frameworks: {
            let gone = tables.completed_frameworks.iter();
            gone.map(|(id, row)| told(*id, row)).collect()
        },
        ..GetFrameworks::default()
    }
}

/// One framework.
pub(crate) fn framework(tables: &Tables, id: Id, row: &Framework) -> get_frameworks::Framework {
    framework_with(tables, id, row, &Found::of(tables, &OF_FRAMEWORK, id))
}

fn framework_with(
    tables: &Tables,
    id: Id,
    row: &Framework,
    found: &Found<'_>,
) -> get_frameworks::Framework {
    let active = row.state == FrameworkState::Active;
    let of_tasks = found.tasks.iter().map(|one| (&one.resources, &*one.role));
    let of_executors = found.executors.iter().map(|one| (&one.resources, &*one.role));
    let told = |(list, role): (&Resources, &str)| of_wire(&list.list(), role, FORM);
    let allocated = of_tasks.chain(of_executors).flat_map(told).collect();
    let offered = found.offers.iter().map(|one| (&one.resources, &*one.role)).flat_map(told);
    get_frameworks::Framework {
        framework_info: framework_info(tables, row),
        active,
        connected: active,
        recovered: row.state == FrameworkState::Known,
        registered_time: Some(time(row.registered_us)),
        // Mesos: the first time counts as one, too.
        reregistered_time: Some(time(row.registered_us.max(row.reregistered_us))),
        unregistered_time: (row.state == FrameworkState::Leaving).then(|| time(row.since_us)),
        allocated_resources: summed(allocated),
        offered_resources: summed(offered.collect()),
        offers: found.offers.iter().map(|one| offer(tables, row, one)).collect(),
        inverse_offers: maintenance::inverse_offers(tables, id),
        offer_constraints: Some(offer_constraints(row)),
    }
}

/// An offer that a framework has not answered.
fn offer(tables: &Tables, of: &Framework, row: &Offer) -> pb::Offer {
    let agent = tables.agents.get(row.agent);
    let info = agent.and_then(|agent| agent.info.info());
    let role = Some(row.role.to_string());
    pb::Offer {
        id: offer_id(row.id, cluster(tables)),
        framework_id: framework_id(of.id, cluster(tables)),
        agent_id: agent_id(agent.map_or(AgentId::NONE, |agent| agent.id), cluster(tables)),
        hostname: info.as_ref().map_or("", |info| info.hostname).to_owned(),
        resources: of_wire(&row.resources.list(), &row.role, FORM),
        attributes: info.as_ref().map(|info| attributes(&info.attributes)).unwrap_or_default(),
        allocation_info: Some(pb::resource::AllocationInfo { role }),
        domain: info.and_then(|info| domain(info.region, info.zone)),
        ..pb::Offer::default()
    }
}

/// What a framework wants of agents that it is offered, role by role.
pub(crate) fn offer_constraints(row: &Framework) -> pb::scheduler::OfferConstraints {
    let public = FrameworkPublic::decode(&*row.public).unwrap_or_default();
    public.offer_constraints.unwrap_or_default()
}

/// A framework's description.
#[allow(deprecated)] // Frameworks without MULTI_ROLE have a role and no roles.
pub(crate) fn framework_info(tables: &Tables, row: &Framework) -> pb::FrameworkInfo {
    let many = row.capabilities & Capability::MultiRole.bit() != 0;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let roles: Vec<String> = row.roles.iter().map(|role| role.to_string()).collect();
    let public = FrameworkPublic::decode(&*row.public).unwrap_or_default();
    pb::FrameworkInfo {
        user: row.user.to_string(),
        name: row.name.to_string(),
        id: Some(framework_id(row.id, cluster(tables))),
        failover_timeout: Some(seconds(row.failover_us)),
        checkpoint: Some(true),
        role: if many { None } else { roles.first().cloned() },
        roles: if many { roles } else { Vec::new() },
        hostname: given(&row.hostname),
        principal: given(&row.principal),
        webui_url: given(&row.webui_url),
        capabilities: capability_list(row.capabilities),
        labels: public.labels,
        offer_filters: public.offer_filters,
    }
}

/// Executors that live.
pub(crate) fn executors(tables: &Tables) -> GetExecutors {
    let rows = tables.executors.iter().map(|(_, row)| executor(tables, row));
    GetExecutors { executors: rows.collect(), ..GetExecutors::default() }
}

fn executor(tables: &Tables, row: &Executor) -> get_executors::Executor {
    let cluster = cluster(tables);
    let framework = tables.frameworks.get(row.framework);
    let agent = tables.agents.get(row.agent).map_or(AgentId::NONE, |agent| agent.id);
    let described = row.described();
    get_executors::Executor {
        executor_info: pb::ExecutorInfo {
            executor_id: pb::ExecutorId { value: row.name.to_string() },
            framework_id: framework.map(|one| framework_id(one.id, cluster)),
            resources: of_holder(&row.resources.list(), &row.role, KEPT, &described.resources),
            ..described
        },
        agent_id: agent_id(agent, cluster),
    }
}

/// Tasks: those that live, those whose agent does not answer, those that are over.
pub(crate) fn tasks(tables: &Tables) -> GetTasks {
    let over = |one| completed(tables, one);
    GetTasks {
        tasks: tables.tasks.iter().map(|(_, row)| task(tables, row)).collect(),
        unreachable_tasks: tables.unreachable.iter().map(over).collect(),
        completed_tasks: tables.completed.iter().map(over).collect(),
        ..GetTasks::default()
    }
}

/// One task.
pub(crate) fn task(tables: &Tables, row: &Task) -> pb::Task {
    let framework = tables.frameworks.get(row.framework).map_or(FrameworkId::NONE, |one| one.id);
    let agent = tables.agents.get(row.agent).map_or(AgentId::NONE, |one| one.id);
    task_of(tables, row, framework, agent)
}

fn completed(tables: &Tables, one: &Completed) -> pb::Task {
    task_of(tables, &one.task, one.framework_id, one.agent_id)
}

fn task_of(tables: &Tables, row: &Task, framework: FrameworkId, agent: AgentId) -> pb::Task {
    let cluster = cluster(tables);
    let public = TaskPublic::decode(&*row.public).unwrap_or_default();
    let executor = &row.executor;
    let host = tables.agents.get(row.agent).and_then(|agent| agent.info.info());
    let contained = row.container != Default::default();
    let of = StatusOf {
        cluster,
        task: &row.name,
        executor: if executor.is_empty() { &row.name } else { executor },
        agent,
        container: contained.then(|| events::placed(row.container, row.own_ip(), host.as_ref())),
        check: public.check,
    };
    let statuses = row.statuses.iter().map(|(state, one)| of.told(*state, one));
    let mut told = pb::Task {
        name: public.name.unwrap_or_default(),
        task_id: pb::TaskId { value: row.name.to_string() },
        framework_id: framework_id(framework, cluster),
        executor_id: (!executor.is_empty()).then(|| pb::ExecutorId { value: executor.to_string() }),
        agent_id: agent_id(agent, cluster),
        resources: of_holder(&row.resources.list(), &row.role, KEPT, &public.read_only),
        statuses: statuses.collect(),
        status_update_state: Some(events::state(row.state).into()),
        labels: public.labels,
        discovery: public.discovery,
        container: public.container,
        health_check: public.health_check.map(shown_check),
        kill_policy: public.kill_policy,
        limits: public.limits,
        user: public.user,
        ..pb::Task::default()
    };
    told.status_update_uuid = told.statuses.last().and_then(|status| status.uuid.clone());
    told.set_state(events::state(row.latest));
    told
}

/// Which task a status is of, and where that is.
pub(crate) struct StatusOf<'t> {
    pub(crate) cluster: u64,
    pub(crate) task: &'t str,
    /// A command runs under one of its own name. Mesos: `mesos-executor`.
    pub(crate) executor: &'t str,
    pub(crate) agent: AgentId,
    pub(crate) container: Option<pb::ContainerStatus>,
    pub(crate) check: Option<pb::CheckInfo>,
}

impl StatusOf<'_> {
    /// One status of it.
    pub(crate) fn told(&self, state: TaskState, status: &Status) -> pb::TaskStatus {
        let mut carried = pb::TaskStatus::decode(&*status.public).unwrap_or_default();
        let short = (!status.message.is_empty()).then(|| status.message.to_string());
        let message = carried.message.take().or(short);
        let by_master = status.source == Source::Master;
        let uuid = |sequence| Uuid { agent: self.agent, sequence }.to_bytes().to_vec();
        let mut told = pb::TaskStatus {
            task_id: pb::TaskId { value: self.task.to_owned() },
            message,
            agent_id: Some(agent_id(self.agent, self.cluster)),
            executor_id: (!by_master).then(|| pb::ExecutorId { value: self.executor.to_owned() }),
            timestamp: Some(seconds(status.told_us)),
            uuid: status.uuid.map(uuid),
            healthy: status.healthy,
            unreachable_time: (state == TaskState::Unreachable).then(|| time(status.told_us)),
            ..carried
        };
        told.set_state(events::state(state));
        told.set_source(source(status.source));
        told.reason = status.reason.map(|reason: Reason| events::reason(reason).into());
        if let Some(own) = &self.container {
            events::place(&mut told, own);
        }
        super::checks::expect(&mut told, self.check.as_ref());
        told
    }
}

fn source(source: Source) -> pb::task_status::Source {
    match source {
        Source::Master => pb::task_status::Source::Master,
        Source::Agent => pb::task_status::Source::Agent,
        Source::Executor => pb::task_status::Source::Executor,
    }
}

/// Roles that are known, with what is allocated and offered to them.
pub(crate) fn roles(tables: &Tables) -> GetRoles {
    let mut frameworks = BTreeMap::<&str, Vec<pb::FrameworkId>>::new();
    for (_, row) in tables.frameworks.iter() {
        for role in &row.roles {
            frameworks.entry(role).or_default().push(framework_id(row.id, cluster(tables)));
        }
    }
    let mut has = has_by_role(tables);
    let roles = tables.roles_told().into_iter().map(|role| {
        let Has { allocated: mut sum, offered, .. } = has.remove(&role).unwrap_or_default();
        sum.join(&offered);
        pb::Role {
            weight: weight(tables, &role),
            frameworks: frameworks.remove(&*role).unwrap_or_default(),
            resources: sum.scalars().into_iter().map(|(name, sum)| plain(name, sum)).collect(),
            name: role,
        }
    });
    GetRoles { roles: roles.collect() }
}

/// The weight of a role; 1 if nobody has set it.
fn weight(tables: &Tables, role: &str) -> f64 {
    tables.weights.get(role).map_or(1.0, |milli| double(Amount::from_milli((*milli).into())))
}

/// Weights that somebody has set.
pub(crate) fn weights(tables: &Tables) -> Vec<pb::WeightInfo> {
    let roles = tables.weights.keys();
    let told = roles
        .map(|role| pb::WeightInfo { weight: weight(tables, role), role: Some(role.to_string()) });
    told.collect()
}

/// Quotas that somebody has set, in the form that Mesos has given up, too.
#[allow(deprecated)]
pub(crate) fn quota_status(tables: &Tables) -> pb::quota::QuotaStatus {
    let infos = tables.quotas.iter().map(|(role, quota)| pb::quota::QuotaInfo {
        role: Some(role.to_string()),
        principal: None,
        guarantee: quota
            .guarantees
            .iter()
            .map(|(name, amount)| plain(name, double(*amount)))
            .collect(),
    });
    pb::quota::QuotaStatus { infos: infos.collect(), configs: quotas(tables) }
}

/// A scalar resource of which nothing else is to be said.
fn plain(name: &str, value: f64) -> pb::Resource {
    let mut told = pb::Resource { name: name.to_owned(), ..pb::Resource::default() };
    told.set_type(pb::value::Type::Scalar);
    told.scalar = Some(pb::value::Scalar { value });
    told
}

fn quotas(tables: &Tables) -> Vec<pb::quota::QuotaConfig> {
    let scalars = |amounts: &BTreeMap<Box<str>, Amount>| {
        let each = amounts.iter();
        each.map(|(name, &amount)| (name.to_string(), pb::value::Scalar { value: double(amount) }))
            .collect()
    };
    let told = tables.quotas.iter().map(|(role, quota)| pb::quota::QuotaConfig {
        role: role.to_string(),
        guarantees: scalars(&quota.guarantees),
        limits: scalars(&quota.limits),
    });
    told.collect()
}
