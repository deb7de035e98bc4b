//! Heads for a framework → events of the API.

use std::net::IpAddr;
use std::sync::Arc;

use mesita_core::wire::agent::OperationState;
use mesita_core::wire::call::Capability;
use mesita_core::wire::event::{AgentInfo, Event, InverseOffer, Offer, Unavailability};
use mesita_core::wire::resource::AttributeValue;
use mesita_core::wire::task::{Exit, Reason, Source, Status, TaskState};
use mesita_core::wire::{AgentId, Body, ContainerId, FrameworkId, Uuid};
use prost::Message;

use super::amounts::seconds;
use super::checks;
use super::operations;
use super::resources::{Form, Stack, attributes, of_wire};
use crate::catalog::Catalog;
use crate::catalog::rows::Agent;
use crate::pb::mesita::TaskPublic;
use crate::pb::mesos::v1 as pb;
use pb::scheduler::event::{self, Type};

/// Silence for so long makes a client come again, a few times over. Mesos: 15 s.
pub(crate) const HEARTBEAT_US: u64 = 15_000_000;
/// The release of Mesos whose API this is: clients compare it.
pub(crate) const MESOS_VERSION: &str = "1.11.0";

/// What events are told with.
pub(crate) struct Telling<'t> {
    /// The cluster.
    pub(crate) cluster: u64,
    /// Whose.
    pub(crate) framework: FrameworkId,
    /// What it understands.
    pub(crate) capabilities: u32,
    /// The master, for SUBSCRIBED.
    pub(crate) master: &'t pb::MasterInfo,
    /// Now, in µs of Unix time.
    pub(crate) wall_us: u64,
    /// What is known of agents and tasks.
    pub(crate) catalog: &'t Catalog,
    /// The bytes of a body.
    pub(crate) bytes: &'t dyn Fn(Body) -> Arc<[u8]>,
}

impl Telling<'_> {
    /// An event for the framework; none for what only our own drivers understand.
    pub(crate) fn event(&self, event: &Event<'_>) -> Option<pb::scheduler::Event> {
        let mut told = pb::scheduler::Event::default();
        match event {
            Event::Subscribed { framework, .. } => {
                told.set_type(Type::Subscribed);
                told.subscribed = Some(event::Subscribed {
                    framework_id: framework_id(*framework, self.cluster),
                    heartbeat_interval_seconds: Some(seconds(HEARTBEAT_US)),
                    master_info: Some(self.master.clone()),
                });
            }
            Event::Offers { offers } => {
                told.set_type(Type::Offers);
                let offers = offers.iter().map(|offer| self.offer(&offer)).collect();
                told.offers = Some(event::Offers { offers });
            }
            Event::InverseOffers { offers } => {
                told.set_type(Type::InverseOffers);
                let inverse_offers = offers.iter().map(|offer| self.inverse(&offer)).collect();
                told.inverse_offers = Some(event::InverseOffers { inverse_offers });
            }
            Event::Rescind { offer } => {
                told.set_type(Type::Rescind);
                let offer_id = offer_id(*offer, self.cluster);
                told.rescind = Some(event::Rescind { offer_id });
            }
            Event::RescindInverse { offer } => {
                told.set_type(Type::RescindInverseOffer);
                let inverse_offer_id = offer_id(*offer, self.cluster);
                told.rescind_inverse_offer = Some(event::RescindInverseOffer { inverse_offer_id });
            }
            Event::Update { status } => {
                told.set_type(Type::Update);
                told.update = Some(event::Update { status: self.status(status) });
            }
            Event::OperationUpdate { status } => {
                told.set_type(Type::UpdateOperationStatus);
                let status = operations::told(status, self.form(), self.cluster);
                told.update_operation_status = Some(event::UpdateOperationStatus { status });
            }
            Event::Message { agent, executor, data } => {
                told.set_type(Type::Message);
                told.message = Some(event::Message {
                    agent_id: agent_id(*agent, self.cluster),
                    executor_id: pb::ExecutorId { value: (*executor).to_owned() },
                    data: (self.bytes)(*data).to_vec(),
                });
            }
            Event::Failure { agent, executor, exit } => {
                told.set_type(Type::Failure);
                told.failure = Some(self.failure(*agent, executor, *exit));
            }
            Event::Error { message } => {
                told.set_type(Type::Error);
                told.error = Some(event::Error { message: (*message).to_owned() });
            }
            Event::Reply { .. } | Event::Agents { .. } | Event::Waiting { .. } => return None,
        }
        Some(told)
    }

    fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.catalog.agent(id).map(|(_, agent)| agent)
    }

    fn has(&self, capability: Capability) -> bool {
        self.capabilities & capability.bit() != 0
    }

    fn form(&self) -> Form {
        let refined = self.has(Capability::ReservationRefinement);
        let stack = if refined { Stack::New } else { Stack::Old };
        Form { stack, allocated: self.has(Capability::MultiRole) }
    }

    fn offer(&self, offer: &Offer<'_>) -> pb::Offer {
        let form = self.form();
        let allocation = pb::resource::AllocationInfo { role: Some(offer.role.to_owned()) };
        let mut told = pb::Offer {
            id: offer_id(offer.id, self.cluster),
            framework_id: framework_id(self.framework, self.cluster),
            agent_id: agent_id(offer.agent, self.cluster),
            resources: of_wire(&offer.resources, offer.role, form),
            allocation_info: form.allocated.then_some(allocation),
            ..pb::Offer::default()
        };
        if let Some(info) = self.agent(offer.agent).and_then(|agent| agent.info.info()) {
            told.hostname = info.hostname.to_owned();
            told.url = Some(url(&info, &told.agent_id.value, self.master));
            told.attributes = attributes(&info.attributes);
            told.domain = domain(info.region, info.zone);
        }
        if let Some(detail) = &offer.detail {
            let executors = detail.executors.iter();
            told.executor_ids =
                executors.map(|id| pb::ExecutorId { value: id.to_owned() }).collect();
            told.unavailability = detail.unavailable.as_ref().map(unavailability);
        }
        told
    }

    fn inverse(&self, offer: &InverseOffer) -> pb::InverseOffer {
        let mut told = pb::InverseOffer {
            id: offer_id(offer.id, self.cluster),
            framework_id: framework_id(self.framework, self.cluster),
            agent_id: Some(agent_id(offer.agent, self.cluster)),
            unavailability: unavailability(&offer.unavailable),
            ..pb::InverseOffer::default()
        };
        if let Some(info) = self.agent(offer.agent).and_then(|agent| agent.info.info()) {
            let name = agent_id(offer.agent, self.cluster).value;
            told.url = Some(url(&info, &name, self.master));
        }
        told
    }

    fn status(&self, status: &Status<'_>) -> pb::TaskStatus {
        let detail = status.detail();
        // What was carried, and then what is known.
        let carried = (self.bytes)(detail.public);
        let mut told = pb::TaskStatus::default();
        // A part that cannot be read is left out, and what was read of it stays.
        let _ = told.merge(&*carried);
        let data = (self.bytes)(detail.data);
        if !data.is_empty() {
            told.data = Some(data.to_vec());
        }
        told.task_id = pb::TaskId { value: status.task.to_owned() };
        told.set_state(state(status.state));
        told.set_source(source(status.source));
        told.reason = detail.reason.map(|reason| self::reason(reason).into());
        // A message that is longer is carried whole.
        let carried = told.message.as_ref().is_some_and(|whole| whole.starts_with(detail.message));
        if !detail.message.is_empty() && !carried {
            told.message = Some(detail.message.to_owned());
        }
        // What the master says itself, it says now.
        let wall_us = if status.wall_us == 0 { self.wall_us } else { status.wall_us };
        told.timestamp = Some(seconds(wall_us));
        // The master's own answer tells what it knows of the task. Mesos: `Master::_reconcileTasks`.
        let asked =
            status.source == Source::Master && detail.reason == Some(Reason::Reconciliation);
        let known = self.catalog.task(self.framework, status.task).filter(|_| asked);
        let known = known.map(|(_, task)| task);
        told.healthy = detail.healthy.or_else(|| known?.status.healthy);
        if !status.agent.is_none() {
            told.agent_id = Some(agent_id(status.agent, self.cluster));
        }
        if let Some(sequence) = status.uuid {
            told.uuid = Some(Uuid { agent: status.agent, sequence }.to_bytes().to_vec());
        }
        let container = detail.container.or_else(|| Some(known?.container));
        if let Some(container) = container.filter(|one| *one != ContainerId::default()) {
            let agent = self.agent(status.agent).and_then(|agent| agent.info.info());
            let task = self.catalog.task(self.framework, status.task);
            let own = placed(container, task.and_then(|(_, task)| task.own_ip()), agent.as_ref());
            let executor_pid = known.and_then(|task| task.status.pid);
            place(&mut told, &pb::ContainerStatus { executor_pid, ..own });
        }
        let executor = match known {
            Some(task) if detail.executor.is_empty() => &*task.executor,
            Some(_) | None => detail.executor,
        };
        if detail.container.is_some() || !executor.is_empty() {
            // A command runs under an executor of its own name. Mesos: `mesos-executor`.
            let executor = if executor.is_empty() { status.task } else { executor };
            told.executor_id = Some(pb::ExecutorId { value: executor.to_owned() });
        }
        // That of which the agent does not answer, and whatever is asked of such an agent.
        let by_master = status.source == Source::Master;
        if asked || by_master && status.state == TaskState::Unreachable {
            let since_us = self.agent(status.agent).and_then(Agent::unreachable_us);
            told.unreachable_time = since_us.map(time_info);
        }
        if status.source == Source::Executor && told.check_status.is_none() {
            let of = self.catalog.task(self.framework, status.task);
            // What cannot be read has no check: it was read when the task was launched.
            let public = of.and_then(|(_, task)| TaskPublic::decode(&*task.public).ok());
            checks::expect(&mut told, public.and_then(|public| public.check).as_ref());
        }
        told
    }

    fn failure(&self, agent: AgentId, executor: &str, exit: Exit) -> event::Failure {
        let status = match exit {
            // There is one of every executor: clients do not ask whether it is there.
            Exit::Unseen => -1,
            // As waitpid(2) has it.
            Exit::Code(code) => i32::from(code) << 8,
            Exit::Signal(signal) => i32::from(signal),
        };
        let executor =
            (!executor.is_empty()).then(|| pb::ExecutorId { value: executor.to_owned() });
        event::Failure {
            agent_id: Some(agent_id(agent, self.cluster)),
            status: executor.as_ref().map(|_| status),
            executor_id: executor,
        }
    }
}

/// The event that says nothing but that the stream is alive.
pub(crate) fn heartbeat() -> pb::scheduler::Event {
    pb::scheduler::Event { r#type: Some(Type::Heartbeat.into()), ..Default::default() }
}

/// UPDATE, of a status that is made here.
pub(crate) fn update(status: pb::TaskStatus) -> pb::scheduler::Event {
    pb::scheduler::Event {
        r#type: Some(Type::Update.into()),
        update: Some(event::Update { status }),
        ..Default::default()
    }
}

/// ERROR, after which a stream ends.
pub(crate) fn error(message: &str) -> pb::scheduler::Event {
    pb::scheduler::Event {
        r#type: Some(Type::Error.into()),
        error: Some(event::Error { message: message.to_owned() }),
        ..Default::default()
    }
}

/// A framework's id for the API.
pub(crate) fn framework_id(id: FrameworkId, cluster: u64) -> pb::FrameworkId {
    pb::FrameworkId { value: id.shown(cluster).to_string() }
}

/// An agent's id for the API.
pub(crate) fn agent_id(id: AgentId, cluster: u64) -> pb::AgentId {
    pb::AgentId { value: id.shown(cluster).to_string() }
}

/// An offer's id for the API.
pub(crate) fn offer_id(id: mesita_core::wire::OfferId, cluster: u64) -> pb::OfferId {
    pb::OfferId { value: id.shown(cluster).to_string() }
}

/// Where an agent's own API is: at the agent, or at the leader, under the agent's id.
fn url(info: &AgentInfo<'_>, id: &str, master: &pb::MasterInfo) -> pb::Url {
    let (address, path) = match own_address(info.address) {
        Some((ip, port)) => {
            let (hostname, ip) = (Some(info.hostname.to_owned()), Some(ip.to_string()));
            (pb::Address { hostname, ip, port }, "/slave(1)".to_owned())
        }
        None => (master.address.clone().unwrap_or_default(), format!("/agent/{id}/slave(1)")),
    };
    pb::Url {
        scheme: "http".to_owned(),
        address,
        path: Some(path),
        query: Vec::new(),
        fragment: None,
    }
}

/// Where an agent listens; none when it does not.
pub(crate) fn own_address(address: &str) -> Option<(IpAddr, i32)> {
    let (ip, port) = address.rsplit_once(':')?;
    Some((ip.trim_matches(['[', ']']).parse().ok()?, port.parse().ok()?))
}

/// A network in which somebody has an address.
pub(crate) fn network_info(ip: IpAddr) -> pb::NetworkInfo {
    pb::NetworkInfo {
        ip_addresses: vec![pb::network_info::IpAddress {
            // IPv4 and IPv6.
            protocol: Some(if ip.is_ipv4() { 1 } else { 2 }),
            ip_address: Some(ip.to_string()),
        }],
        ..pb::NetworkInfo::default()
    }
}

/// A container and its agent's address, for those that have none of their own.
pub(crate) fn contained(container: ContainerId, address: &str) -> pb::ContainerStatus {
    let id = pb::ContainerId { value: container.to_string(), ..Default::default() };
    let network_infos = own_address(address).map(|(ip, _)| network_info(ip));
    pb::ContainerStatus {
        container_id: Some(id),
        network_infos: network_infos.into_iter().collect(),
        ..Default::default()
    }
}

/// Where a container is: at an address of its own, as far as that is known; nowhere before, where each
/// has one; else at its agent's.
pub(crate) fn placed(
    container: ContainerId,
    own: Option<IpAddr>,
    agent: Option<&AgentInfo<'_>>,
) -> pb::ContainerStatus {
    let of_agent = contained(container, agent.map_or("", |info| info.address));
    let network_infos = match own {
        Some(ip) => vec![network_info(ip)],
        None if agent.is_some_and(parts_networks) => Vec::new(),
        None => return of_agent,
    };
    pb::ContainerStatus { network_infos, ..of_agent }
}

/// True when an agent says that `namespaces/net` is on.
fn parts_networks(agent: &AgentInfo<'_>) -> bool {
    let told = agent.attributes.iter().filter_map(|attribute| match attribute.value {
        AttributeValue::Text(text) if attribute.name == "isolation" => Some(text),
        AttributeValue::Text(_) | AttributeValue::Scalar(_) | AttributeValue::Ranges(_) => None,
    });
    let families = told.flat_map(|text| text.split(','));
    let mut names = families.filter_map(|family| family.strip_prefix("namespaces/"));
    names.any(|names| names.split('+').any(|name| name == "net"))
}

/// Says of a status where its task is, and leaves what its executor said of that. Mesos:
/// `Slave::statusUpdate`.
pub(crate) fn place(told: &mut pb::TaskStatus, own: &pb::ContainerStatus) {
    let into = told.container_status.get_or_insert_with(Default::default);
    into.container_id.clone_from(&own.container_id);
    into.executor_pid = into.executor_pid.or(own.executor_pid);
    if into.network_infos.is_empty() {
        into.network_infos.clone_from(&own.network_infos);
    }
}

/// A region and a zone; none when neither is said.
pub(crate) fn domain(region: &str, zone: &str) -> Option<pb::DomainInfo> {
    use pb::domain_info::{FaultDomain, fault_domain};
    if region.is_empty() && zone.is_empty() {
        return None;
    }
    let fault_domain = FaultDomain {
        region: fault_domain::RegionInfo { name: region.to_owned() },
        zone: fault_domain::ZoneInfo { name: zone.to_owned() },
    };
    Some(pb::DomainInfo { fault_domain: Some(fault_domain) })
}

pub(crate) fn unavailability(window: &Unavailability) -> pb::Unavailability {
    let duration = super::amounts::duration_info(window.duration_us);
    pb::Unavailability {
        start: time_info(window.start_wall_us),
        duration: (window.duration_us > 0).then_some(duration),
    }
}

fn time_info(us: u64) -> pb::TimeInfo {
    pb::TimeInfo { nanoseconds: i64::try_from(us.saturating_mul(1000)).unwrap_or(i64::MAX) }
}

/// A state by its number, which is Mesos'.
pub(crate) fn state(state: TaskState) -> pb::TaskState {
    pb::TaskState::try_from(i32::from(state as u8)).unwrap_or(pb::TaskState::TaskUnknown)
}

fn source(source: Source) -> pb::task_status::Source {
    let number = i32::from(source as u8);
    pb::task_status::Source::try_from(number).unwrap_or(pb::task_status::Source::Master)
}

/// A reason by its number, which is Mesos'.
pub(crate) fn reason(reason: Reason) -> pb::task_status::Reason {
    let unknown = pb::task_status::Reason::TaskUnknown;
    pb::task_status::Reason::try_from(i32::from(reason as u8)).unwrap_or(unknown)
}

pub(crate) fn operation_state(state: OperationState) -> pb::OperationState {
    match state {
        OperationState::Pending => pb::OperationState::OperationPending,
        OperationState::Finished => pb::OperationState::OperationFinished,
        OperationState::Failed => pb::OperationState::OperationFailed,
        OperationState::Error => pb::OperationState::OperationError,
        OperationState::Dropped => pb::OperationState::OperationDropped,
        OperationState::Unreachable => pb::OperationState::OperationUnreachable,
        OperationState::GoneByOperator => pb::OperationState::OperationGoneByOperator,
        OperationState::Recovering => pb::OperationState::OperationRecovering,
        OperationState::Unknown => pb::OperationState::OperationUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_reason_has_the_name_that_mesos_gives_it() {
        for number in 0..=13 {
            let ours: TaskState = postcard::from_bytes(&[number]).unwrap();
            assert_eq!(state(ours).as_str_name(), ours.name());
        }
        for number in 0..=34 {
            let ours: Reason = postcard::from_bytes(&[number]).unwrap();
            assert_eq!(reason(ours).as_str_name(), ours.name());
        }
        assert_eq!(source(Source::Executor).as_str_name(), "SOURCE_EXECUTOR");
    }
}
