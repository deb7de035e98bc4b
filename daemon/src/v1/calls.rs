//! Calls of schedulers → heads for the core. What can be said of a call without the master's state
//! is said here, in the order in which Mesos says it (`scheduler/validation.cpp`).

// The older form of roles, which frameworks without MULTI_ROLE speak.
#![allow(deprecated)]

use std::fmt;

use mesita_core::limits::{HEAD_MAX, NAME_MAX, ROLE_DEPTH_MAX, TASKS_PER_HEAD_MAX};
use mesita_core::master::OPERATION_PLACES;
use mesita_core::resources::Amount;
use mesita_core::table::{Full, Id};
use mesita_core::wire::agent::OperationRef;
use mesita_core::wire::call::{
    self, Accept, Capability, Change, Constraint, ConstraintGroup, Constraints, Minimum, Operation,
    Ownership, Predicate, Quantities, Quantity, Selector, Subscribe, Verb,
};
use mesita_core::wire::resource::{Resource, Value};
use mesita_core::wire::task::{Launch, TaskAt};
use mesita_core::wire::{
    AgentId, Body, Check as _, FrameworkId, Head, OfferId, Scratch, Seq, Uuid,
};
use prost::Message;

use super::amounts::{amount, duration, micros};
use super::resources::{self, BadResource};
use super::tasks::{self, Bodies};
use crate::pb::mesita::FrameworkPublic;
use crate::pb::mesos::v1 as pb;
use pb::scheduler::call::{Reconcile, Type, UpdateFramework};
use pb::scheduler::{AttributeConstraint, Call, OfferConstraints};

/// Memory for the lists of one call: each is written once for every list that it is in.
const MEMORY: usize = 6 * HEAD_MAX;
/// An agent that there never is: what names it is answered as what names a stranger.
pub(crate) const NO_AGENT: AgentId = AgentId { epoch: u32::MAX, number: u32::MAX };
/// An offer that there never is.
const NO_OFFER: OfferId =
    OfferId { epoch: u32::MAX, id: Id { index: u32::MAX, generation: u32::MAX } };
/// How long an answer refuses when its filter makes no sense, in µs. Mesos: 5 s.
const REFUSE_US: u64 = 5_000_000;

/// Why a call is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadCall {
    /// Something that must be there is not, or contradicts something else. HTTP 400.
    Invalid(String),
    /// A description that a framework cannot have: told on its stream.
    Framework(String),
    /// More than one message may hold. HTTP 400.
    TooLong,
}

impl fmt::Display for BadCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "Failed to validate scheduler::Call: {why}"),
            Self::Framework(why) => f.write_str(why),
            Self::TooLong => write!(
                f,
                "Failed to validate scheduler::Call: The call takes more than {HEAD_MAX} bytes; shorten \
                 its names and lists, or send it in parts"
            ),
        }
    }
}

impl From<Full> for BadCall {
    fn from(_: Full) -> Self {
        Self::TooLong
    }
}

impl From<BadResource> for BadCall {
    fn from(bad: BadResource) -> Self {
        match bad {
            BadResource::TooMany => Self::TooLong,
            BadResource::NoValue(_)
            | BadResource::Number(..)
            | BadResource::Ranges(_)
            | BadResource::Reservation(_)
            | BadResource::ReadOnly(_)
            | BadResource::Moved(_)
            | BadResource::Role(..)
            | BadResource::Path(_)
            | BadResource::Disk(_)
            | BadResource::Volume(_) => Self::Invalid(bad.to_string()),
        }
    }
}

/// A call as the core takes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The head, encoded.
    pub(crate) head: Vec<u8>,
    /// The bodies that it names, in order.
    pub(crate) bodies: Vec<Vec<u8>>,
    /// What is wrong with its tasks, by their place among all of the call, and with its operations,
    /// by theirs from [`OPERATION_PLACES`].
    pub(crate) bad: Vec<(u16, String)>,
}

/// Everything that a call must have whoever makes it.
pub(crate) fn validate(call: &Call) -> Result<(), BadCall> {
    let missing = |what| Err(BadCall::Invalid(format!("Expecting '{what}' to be present")));
    if call.r#type.is_none() {
        return missing("type");
    }
    if call.r#type() == Type::Subscribe {
        let Some(subscribe) = &call.subscribe else { return missing("subscribe") };
        if subscribe.framework_info.id != call.framework_id {
            let why = "'framework_id' differs from 'subscribe.framework_info.id'";
            return Err(BadCall::Invalid(why.to_owned()));
        }
        return Ok(());
    }
    if call.framework_id.is_none() {
        return missing("framework_id");
    }
    let part = match call.r#type() {
        Type::Accept => ("accept", call.accept.is_some()),
        Type::Decline => ("decline", call.decline.is_some()),
        Type::AcceptInverseOffers => {
            ("accept_inverse_offers", call.accept_inverse_offers.is_some())
        }
        Type::DeclineInverseOffers => {
            ("decline_inverse_offers", call.decline_inverse_offers.is_some())
        }
        Type::Kill => ("kill", call.kill.is_some()),
        Type::Shutdown => ("shutdown", call.shutdown.is_some()),
        Type::Acknowledge => ("acknowledge", call.acknowledge.is_some()),
        Type::AcknowledgeOperationStatus => {
            ("acknowledge_operation_status", call.acknowledge_operation_status.is_some())
        }
        Type::Reconcile => ("reconcile", call.reconcile.is_some()),
        Type::ReconcileOperations => ("reconcile_operations", call.reconcile_operations.is_some()),
        Type::Message => ("message", call.message.is_some()),
        Type::Request => ("request", call.request.is_some()),
        Type::UpdateFramework => ("update_framework", call.update_framework.is_some()),
        // REVIVE and SUPPRESS without roles are of all roles.
        Type::Revive | Type::Suppress | Type::Teardown | Type::Subscribe | Type::Unknown => {
            ("", true)
        }
    };
    if !part.1 {
        return missing(part.0);
    }
    if let Some(acknowledge) = &call.acknowledge {
        uuid(&acknowledge.uuid)?;
    }
    if let Some(acknowledge) = &call.acknowledge_operation_status {
        uuid(&acknowledge.uuid)?;
        if acknowledge.agent_id.is_none() {
            return missing("agent_id");
        }
    }
    if let Some(UpdateFramework { framework_info, .. }) = &call.update_framework
        && framework_info.id != call.framework_id
    {
        let why = "'framework_id' differs from 'update_framework.framework_info.id'";
        return Err(BadCall::Invalid(why.to_owned()));
    }
    Ok(())
}

fn uuid(bytes: &[u8]) -> Result<Uuid, BadCall> {
    let bytes = <[u8; 16]>::try_from(bytes);
    let bytes = bytes.map_err(|_| BadCall::Invalid("Not a valid UUID".to_owned()))?;
    Ok(Uuid::from_bytes(bytes))
}

/// Bytes of names of one part of a call; the rest of a head is theirs twice over.
const PART: usize = HEAD_MAX / 3;

/// A call as calls that each fit the core: what asks about any number of tasks asks about some at a time.
pub(crate) fn parts(mut call: Call) -> Vec<Call> {
    let Some(reconcile) = &mut call.reconcile else { return vec![call] };
    let tasks = std::mem::take(&mut reconcile.tasks);
    let mut lists = vec![Vec::new()];
    let mut bytes = 0;
    for task in tasks {
        bytes += task.encoded_len();
        let last = lists.last().map_or(0, Vec::len);
        if last > 0 && (last >= TASKS_PER_HEAD_MAX || bytes > PART) {
            bytes = task.encoded_len();
            lists.push(Vec::new());
        }
        lists.last_mut().into_iter().for_each(|list| list.push(task.clone()));
    }
    let part = |tasks| Call { reconcile: Some(Reconcile { tasks }), ..call.clone() };
    lists.into_iter().map(part).collect()
}

/// A valid call of a framework for the core of this cluster.
pub(crate) fn to_wire(call: &Call, framework: FrameworkId, cluster: u64) -> Result<Said, BadCall> {
    let mut memory = vec![0; MEMORY];
    let mut writer = Writer {
        framework,
        cluster,
        scratch: Scratch::new(&mut memory),
        bodies: Bodies::default(),
        bad: Vec::new(),
        place: 0,
        groups: 0,
    };
    let verb = writer.verb(call)?;
    let head = Head::Call(call::Call { framework, ticket: 0, verb });
    // Our own types have no way to fail.
    let head = postcard::to_allocvec(&head).unwrap_or_default();
    if head.len() > HEAD_MAX {
        return Err(Full.into());
    }
    let Writer { bodies, bad, .. } = writer;
    Ok(Said { head, bodies: bodies.0, bad })
}

/// A call that is being said.
struct Writer<'s> {
    framework: FrameworkId,
    cluster: u64,
    scratch: Scratch<'s>,
    bodies: Bodies,
    bad: Vec<(u16, String)>,
    /// Tasks so far.
    place: u16,
    /// Groups of tasks so far.
    groups: u16,
}

impl<'s> Writer<'s> {
    fn verb(&mut self, call: &'s Call) -> Result<Verb<'s>, BadCall> {
        let absent = || BadCall::Invalid("Expecting 'type' to be present".to_owned());
        match call.r#type() {
            Type::Unknown => Err(absent()),
            Type::Subscribe => {
                let call = call.subscribe.as_ref().ok_or_else(absent)?;
                let constraints = call.offer_constraints.as_ref();
                let (info, suppressed) = (&call.framework_info, &call.suppressed_roles);
                let mut subscribe = self.subscribe(info, suppressed, constraints)?;
                if is_choosy(constraints) {
                    // Nothing is offered before its constraints are known: see `revive`.
                    subscribe.suppressed = subscribe.roles;
                }
                Ok(Verb::Subscribe(subscribe))
            }
            Type::UpdateFramework => {
                let call = call.update_framework.as_ref().ok_or_else(absent)?;
                let constraints = call.offer_constraints.as_ref();
                let (info, suppressed) = (&call.framework_info, &call.suppressed_roles);
                Ok(Verb::UpdateFramework(self.subscribe(info, suppressed, constraints)?))
            }
            Type::Teardown => Ok(Verb::Teardown),
            Type::Accept => {
                let call = call.accept.as_ref().ok_or_else(absent)?;
                few("operations", call.operations.len())?;
                let operations = (OPERATION_PLACES..u16::MAX).zip(&call.operations);
                let operations = operations
                    .map(|(place, operation)| self.operation(place, operation))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(Verb::Accept(Accept {
                    offers: self.offers(&call.offer_ids, true)?,
                    operations: self.scratch.seq::<Operation<'static>>(operations)?,
                    refuse_us: refusal(call.filters.as_ref()),
                }))
            }
            Type::Decline => {
                let call = call.decline.as_ref().ok_or_else(absent)?;
                let offers = self.offers(&call.offer_ids, false)?;
                Ok(Verb::Decline { offers, refuse_us: refusal(call.filters.as_ref()) })
            }
            Type::AcceptInverseOffers => {
                let call = call.accept_inverse_offers.as_ref().ok_or_else(absent)?;
                let offers = self.offers(&call.inverse_offer_ids, false)?;
                Ok(Verb::AcceptInverse { offers, refuse_us: refusal(call.filters.as_ref()) })
            }
            Type::DeclineInverseOffers => {
                let call = call.decline_inverse_offers.as_ref().ok_or_else(absent)?;
                let offers = self.offers(&call.inverse_offer_ids, false)?;
                Ok(Verb::DeclineInverse { offers, refuse_us: refusal(call.filters.as_ref()) })
            }
            Type::Revive => {
                let roles = call.revive.as_ref().map_or(&[][..], |call| &call.roles);
                Ok(Verb::Revive { roles: self.texts(roles)? })
            }
            Type::Suppress => {
                let roles = call.suppress.as_ref().map_or(&[][..], |call| &call.roles);
                Ok(Verb::Suppress { roles: self.texts(roles)? })
            }
            Type::Kill => {
                let call = call.kill.as_ref().ok_or_else(absent)?;
                let policy = call.kill_policy.as_ref();
                let grace = policy.and_then(|policy| policy.grace_period.as_ref());
                let agent = self.agent_if(call.agent_id.as_ref());
                let task = TaskAt { task: &call.task_id.value, agent };
                Ok(Verb::Kill { task, grace_us: grace.and_then(duration) })
            }
            Type::Shutdown => {
                let call = call.shutdown.as_ref().ok_or_else(absent)?;
                let agent = self.agent(&call.agent_id);
                Ok(Verb::Shutdown { executor: &call.executor_id.value, agent })
            }
            Type::Acknowledge => {
                let call = call.acknowledge.as_ref().ok_or_else(absent)?;
                Ok(Verb::Acknowledge { task: &call.task_id.value, uuid: uuid(&call.uuid)? })
            }
            Type::AcknowledgeOperationStatus => {
                let call = call.acknowledge_operation_status.as_ref().ok_or_else(absent)?;
                let (id, agent) = (&call.operation_id, call.agent_id.as_ref());
                let operation = self.operation_at(id, agent, call.resource_provider_id.as_ref());
                Ok(Verb::AcknowledgeOperation { operation, uuid: uuid(&call.uuid)? })
            }
            Type::Reconcile => {
                let call = call.reconcile.as_ref().ok_or_else(absent)?;
                let tasks = call.tasks.iter().map(|task| TaskAt {
                    task: &task.task_id.value,
                    agent: self.agent_if(task.agent_id.as_ref()),
                });
                let tasks: Vec<TaskAt<'_>> = tasks.collect();
                few("tasks", tasks.len())?;
                Ok(Verb::Reconcile { tasks: self.scratch.seq::<TaskAt<'static>>(tasks)? })
            }
            Type::ReconcileOperations => {
                let call = call.reconcile_operations.as_ref().ok_or_else(absent)?;
                let operations = call.operations.iter().map(|one| {
                    let provider = one.resource_provider_id.as_ref();
                    self.operation_at(&one.operation_id, one.agent_id.as_ref(), provider)
                });
                let operations: Vec<OperationRef<'_>> = operations.collect();
                let operations = self.scratch.seq::<OperationRef<'static>>(operations)?;
                Ok(Verb::ReconcileOperations { operations })
            }
            Type::Message => {
                let call = call.message.as_ref().ok_or_else(absent)?;
                let agent = self.agent(&call.agent_id);
                let data = self.bodies.put(call.data.clone());
                Ok(Verb::Message { agent, executor: &call.executor_id.value, data })
            }
            Type::Request => {
                let call = call.request.as_ref().ok_or_else(absent)?;
                let mut requests = Vec::new();
                for request in &call.requests {
                    let amounts = self.quantities(&request.resources)?;
                    let agent = self.agent_if(request.agent_id.as_ref());
                    requests.push(call::Request { agent, amounts });
                }
                Ok(Verb::Request {
                    requests: self.scratch.seq::<call::Request<'static>>(requests)?,
                })
            }
        }
    }

    fn texts(&mut self, texts: &'s [String]) -> Result<Seq<'s, &'s str>, Full> {
        self.scratch.seq::<&'static str>(texts.iter().map(String::as_str))
    }

    fn agent(&self, id: &pb::AgentId) -> AgentId {
        AgentId::parse(&id.value, self.cluster).unwrap_or(NO_AGENT)
    }

    fn agent_if(&self, id: Option<&pb::AgentId>) -> AgentId {
        id.map_or(AgentId::NONE, |id| self.agent(id))
    }

    /// Offers by their ids. What is no id of ours is left out, or stands for an invalid one.
    fn offers(&mut self, ids: &[pb::OfferId], whole: bool) -> Result<Seq<'s, OfferId>, Full> {
        let cluster = self.cluster;
        let ids = ids.iter().filter_map(|id| {
            OfferId::parse(&id.value, cluster).or_else(|| whole.then_some(NO_OFFER))
        });
        self.scratch.seq::<OfferId>(ids)
    }

    fn operation_at(
        &self,
        id: &'s pb::OperationId,
        agent: Option<&pb::AgentId>,
        provider: Option<&'s pb::ResourceProviderId>,
    ) -> OperationRef<'s> {
        OperationRef {
            operation: &id.value,
            agent: self.agent_if(agent),
            provider: provider.map_or("", |provider| &provider.value),
        }
    }

    fn quantities(
        &mut self,
        resources: &'s [pb::Resource],
    ) -> Result<Seq<'s, Quantity<'s>>, BadCall> {
        let resources = resources::to_wire(resources, &mut self.scratch)?;
        let mut sums = Vec::<Quantity<'_>>::new();
        for Resource { name, value, .. } in resources.iter() {
            let Value::Scalar(amount) = value else { continue };
            match sums.iter_mut().find(|sum| sum.name == name) {
                Some(sum) => {
                    let milli = sum.amount.milli().saturating_add(amount.milli());
                    sum.amount = Amount::from_milli(milli);
                }
                None => sums.push(Quantity { name, amount }),
            }
        }
        Ok(self.scratch.seq::<Quantity<'static>>(sums)?)
    }

    /// One operation. What is wrong with it alone keeps no other from being done: it is told to its
    /// framework if it has an id, as Mesos drops it.
    fn operation(
        &mut self,
        place: u16,
        operation: &'s pb::offer::Operation,
    ) -> Result<Operation<'s>, BadCall> {
        let said = self.operation_itself(operation);
        // Tasks have their own verdicts.
        if operation.launch.is_some() || operation.launch_group.is_some() {
            return said;
        }
        let why = match said {
            Ok(said) => match said.check() {
                Ok(()) => return Ok(said),
                Err(malformed) => malformed.to_string(),
            },
            Err(BadCall::Invalid(why)) => why,
            Err(bad) => return Err(bad),
        };
        log::info!("an operation of a framework is refused: {why}");
        self.bad.push((place, why));
        let id = operation.id.as_ref().map_or("", |id| id.value.as_str());
        let id = if id.len() <= NAME_MAX { id } else { "" };
        Ok(Operation::Reserve(Change { id, resources: Seq::EMPTY }))
    }

    fn operation_itself(
        &mut self,
        operation: &'s pb::offer::Operation,
    ) -> Result<Operation<'s>, BadCall> {
        use pb::offer::operation::Type;
        let id = operation.id.as_ref().map_or("", |id| &id.value);
        let missing = |what: &str| {
            BadCall::Invalid(format!("Expecting 'accept.operations.{what}' to be present"))
        };
        match operation.r#type() {
            Type::Unknown => Err(missing("type")),
            Type::Launch => {
                let launch = operation.launch.as_ref().ok_or_else(|| missing("launch"))?;
                let tasks = self.launches(&launch.task_infos, None, id)?;
                Ok(Operation::Launch { tasks })
            }
            Type::LaunchGroup => {
                let group =
                    operation.launch_group.as_ref().ok_or_else(|| missing("launch_group"))?;
                self.group(group, id)
            }
            Type::Reserve => {
                let reserve = operation.reserve.as_ref().ok_or_else(|| missing("reserve"))?;
                if !reserve.source.is_empty() {
                    let (source, list) = (&reserve.source, &reserve.resources);
                    let (source, resources) = resources::moved(source, list, &mut self.scratch)?;
                    return Ok(Operation::Move { id, source, resources });
                }
                Ok(Operation::Reserve(self.change(id, &reserve.resources)?))
            }
            Type::Unreserve => {
                let unreserve = operation.unreserve.as_ref().ok_or_else(|| missing("unreserve"))?;
                Ok(Operation::Unreserve(self.change(id, &unreserve.resources)?))
            }
            Type::Create => {
                let create = operation.create.as_ref().ok_or_else(|| missing("create"))?;
                resources::makeable(&create.volumes)?;
                Ok(Operation::Create(self.change(id, &create.volumes)?))
            }
            Type::Destroy => {
                let destroy = operation.destroy.as_ref().ok_or_else(|| missing("destroy"))?;
                Ok(Operation::Destroy(self.change(id, &destroy.volumes)?))
            }
            Type::GrowVolume => {
                let grow = operation.grow_volume.as_ref().ok_or_else(|| missing("grow_volume"))?;
                let volume = self.resource(&grow.volume)?;
                let addition = self.resource(&grow.addition)?;
                Ok(Operation::Grow { id, volume, addition })
            }
            Type::ShrinkVolume => {
                let shrink =
                    operation.shrink_volume.as_ref().ok_or_else(|| missing("shrink_volume"))?;
                let volume = self.resource(&shrink.volume)?;
                let subtract = amount(shrink.subtract.value)
                    .map_err(|bad| BadCall::Invalid(format!("'shrink_volume.subtract' {bad}")))?;
                Ok(Operation::Shrink { id, volume, subtract })
            }
            Type::CreateDisk | Type::DestroyDisk => {
                let why = "CREATE_DISK and DESTROY_DISK are for disks of resource providers, which no \
                           agent here has";
                Err(BadCall::Invalid(why.to_owned()))
            }
        }
    }

    fn resource(&mut self, resource: &'s pb::Resource) -> Result<Resource<'s>, BadCall> {
        let one = resources::to_wire(std::slice::from_ref(resource), &mut self.scratch)?;
        one.first().ok_or_else(|| Full.into())
    }

    fn change(&mut self, id: &'s str, list: &'s [pb::Resource]) -> Result<Change<'s>, BadCall> {
        Ok(Change { id, resources: resources::to_wire(list, &mut self.scratch)? })
    }

    /// True for an executor that says it is another framework's.
    fn is_foreign(&self, executor: &pb::ExecutorInfo) -> bool {
        let said = executor.framework_id.as_ref();
        said.is_some_and(|id| FrameworkId::parse(&id.value, self.cluster) != Some(self.framework))
    }

    /// Tasks, each by itself: one that makes no sense is refused alone.
    fn launches(
        &mut self,
        infos: &'s [pb::TaskInfo],
        group: Option<(u16, &'s pb::ExecutorInfo)>,
        id: &str,
    ) -> Result<Seq<'s, Launch<'s>>, BadCall> {
        few("task_infos", usize::from(self.place) + infos.len())?;
        let mut launches = Vec::new();
        for info in infos {
            let agent = self.agent(&info.agent_id);
            let launch = tasks::to_wire(info, agent, group, &mut self.bodies, &mut self.scratch);
            let launch = match launch {
                Ok(_) if !id.is_empty() => {
                    Err("Operation 'id' must not be set for LAUNCH and LAUNCH_GROUP".to_owned())
                }
                Ok(_) if info.executor.as_ref().is_some_and(|one| self.is_foreign(one)) => {
                    Err(FOREIGN.to_owned())
                }
                // What its message may not hold is wrong with this task alone.
                Ok(launch) => launch.check().map(|()| launch).map_err(|bad| bad.to_string()),
                Err(bad) => Err(bad.to_string()),
            };
            launches.push(launch.unwrap_or_else(|why| {
                self.bad.push((self.place, why));
                tasks::nothing_of(info, agent)
            }));
            self.place += 1;
        }
        Ok(self.scratch.seq::<Launch<'static>>(launches)?)
    }

    fn group(
        &mut self,
        group: &'s pb::offer::operation::LaunchGroup,
        id: &str,
    ) -> Result<Operation<'s>, BadCall> {
        let number = self.groups;
        self.groups += 1;
        let infos = &group.task_group.tasks;
        let (bodies, scratch) = (&mut self.bodies, &mut self.scratch);
        let executor = tasks::group_executor(&group.executor)
            .and_then(|()| tasks::executor_to_wire(&group.executor, bodies, scratch))
            .map_err(|bad| bad.to_string());
        let executor = executor.and_then(|executor| {
            executor.check().map(|()| executor).map_err(|malformed| malformed.to_string())
        });
        let shares = infos.iter().filter(|info| tasks::shares_cgroups(info)).count();
        let executor = if self.is_foreign(&group.executor) {
            Err(FOREIGN.to_owned())
        } else if shares != 0 && shares != infos.len() {
            Err("'share_cgroups' must be the same for all tasks of a task group".to_owned())
        } else {
            executor
        };
        let executor = executor.unwrap_or_else(|why| {
            // What is wrong with it is wrong with all of them.
            let places = (self.place..).take(infos.len());
            self.bad.extend(places.map(|place| (place, why.clone())));
            tasks::NO_EXECUTOR
        });
        let tasks = self.launches(infos, Some((number, &group.executor)), id)?;
        Ok(Operation::LaunchGroup { executor, tasks })
    }

    fn subscribe(
        &mut self,
        info: &'s pb::FrameworkInfo,
        suppressed: &'s [String],
        constraints: Option<&OfferConstraints>,
    ) -> Result<Subscribe<'s>, BadCall> {
        let capabilities = capabilities(info);
        let multi_role = capabilities & Capability::MultiRole.bit() != 0;
        let roles = self.roles(info, multi_role)?;
        let of_filters =
            info.offer_filters.keys().map(|role| ("FrameworkInfo.offer_filters", role));
        let named = suppressed.iter().map(|role| ("suppressed_roles", role)).chain(of_filters);
        for (field, role) in named {
            if !roles.iter().any(|own| own == role) {
                let role = role.escape_debug();
                let why = format!("'{field}' names role '{role}', which the framework is not in");
                return Err(BadCall::Framework(why));
            }
        }
        let failover_us = micros(info.failover_timeout()).ok_or_else(|| {
            let why = "'FrameworkInfo.failover_timeout' must be a number that is not negative";
            BadCall::Framework(why.to_owned())
        })?;
        if let Some(constraints) = constraints {
            check_constraints(constraints, &roles)?;
        }
        let public = FrameworkPublic {
            checkpoint: info.checkpoint,
            role: info.role.clone(),
            hostname: info.hostname.clone(),
            webui_url: info.webui_url.clone(),
            labels: info.labels.clone(),
            offer_filters: info.offer_filters.clone(),
            offer_constraints: constraints.cloned(),
        };
        Ok(Subscribe {
            name: &info.name,
            user: &info.user,
            principal: info.principal(),
            hostname: info.hostname(),
            webui_url: info.webui_url(),
            roles,
            suppressed: self.texts(suppressed)?,
            minimums: self.minimums(info)?,
            failover_us,
            capabilities,
            owned: Ownership::Scheduler,
            public: self.public(&public),
        })
    }

    fn public(&mut self, public: &FrameworkPublic) -> Body {
        self.bodies.put(public.encode_to_vec())
    }

    fn roles(
        &mut self,
        info: &'s pb::FrameworkInfo,
        multi_role: bool,
    ) -> Result<Seq<'s, &'s str>, BadCall> {
        let bad = |why: String| Err(BadCall::Framework(why));
        if multi_role {
            if info.role.is_some() {
                let why =
                    "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable";
                return bad(why.to_owned());
            }
            for (index, role) in info.roles.iter().enumerate() {
                if let Some(why) = role_trouble(role) {
                    return bad(format!("'FrameworkInfo.roles' contains invalid role: {why}"));
                }
                if info.roles[..index].contains(role) {
                    return bad(format!("'FrameworkInfo.roles' contains duplicate role: {role}"));
                }
            }
            return Ok(self.texts(&info.roles)?);
        }
        if !info.roles.is_empty() {
            let why = "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable";
            return bad(why.to_owned());
        }
        let role = info.role.as_deref().unwrap_or("*");
        if let Some(why) = role_trouble(role) {
            return bad(format!("'FrameworkInfo.role' is not a valid role: {why}"));
        }
        Ok(self.scratch.seq::<&'static str>([role])?)
    }

    fn minimums(&mut self, info: &'s pb::FrameworkInfo) -> Result<Seq<'s, Minimum<'s>>, BadCall> {
        let mut minimums = Vec::new();
        for (role, filters) in &info.offer_filters {
            let Some(least) = &filters.min_allocatable_resources else { continue };
            let mut alternatives = Vec::new();
            for one in &least.quantities {
                let mut amounts = Vec::new();
                for (name, scalar) in &one.quantities {
                    let amount = amount(scalar.value).map_err(|bad| {
                        BadCall::Framework(format!("Invalid 'offer_filters': '{name}' {bad}"))
                    })?;
                    amounts.push(Quantity { name, amount });
                }
                let amounts = self.scratch.seq::<Quantity<'static>>(amounts)?;
                alternatives.push(Quantities { amounts });
            }
            let alternatives = self.scratch.seq::<Quantities<'static>>(alternatives)?;
            minimums.push(Minimum { role, alternatives });
        }
        Ok(self.scratch.seq::<Minimum<'static>>(minimums)?)
    }
}

/// What can be said of constraints by themselves. Mesos: `OfferConstraintsFilter::create`.
fn check_constraints(constraints: &OfferConstraints, roles: &Seq<'_, &str>) -> Result<(), BadCall> {
    let bad = |why: String| Err(BadCall::Framework(format!("Invalid 'offer_constraints': {why}")));
    for (role, of_role) in &constraints.role_constraints {
        if !roles.iter().any(|own| own == role) {
            return bad(format!("the framework is not in role '{role}'"));
        }
        if of_role.groups.is_empty() {
            return bad(format!("role '{role}' has no group of constraints"));
        }
        for one in of_role.groups.iter().flat_map(|group| &group.attribute_constraints) {
            let checked = constraint(one).and_then(|one| match one.predicate {
                Predicate::TextMatches | Predicate::TextNotMatches => {
                    super::patterns::read(one.value).map(drop)
                }
                Predicate::Exists
                | Predicate::NotExists
                | Predicate::TextEquals
                | Predicate::TextNotEquals => Ok(()),
            });
            checked.map_err(|why| {
                BadCall::Framework(format!("Invalid 'offer_constraints' of role '{role}': {why}"))
            })?;
        }
        if of_role.groups.iter().any(|group| group.attribute_constraints.is_empty()) {
            return bad(format!("a group of role '{role}' has no constraints"));
        }
    }
    Ok(())
}

/// One constraint for the core.
pub(super) fn constraint(one: &AttributeConstraint) -> Result<Constraint<'_>, String> {
    use pb::scheduler::attribute_constraint::predicate::Predicate as Told;
    use pb::scheduler::attribute_constraint::selector::{PseudoattributeType, Selector as Of};
    let (selector, attribute) = match &one.selector.selector {
        Some(Of::AttributeName(name)) => (Selector::Attribute, name.as_str()),
        Some(Of::PseudoattributeType(number)) => {
            let kind = PseudoattributeType::try_from(*number);
            match kind.unwrap_or(PseudoattributeType::Unknown) {
                PseudoattributeType::Hostname => (Selector::Hostname, ""),
                PseudoattributeType::Region => (Selector::Region, ""),
                PseudoattributeType::Zone => (Selector::Zone, ""),
                PseudoattributeType::Unknown => {
                    return Err("an unknown pseudoattribute".to_owned());
                }
            }
        }
        None => return Err("a constraint without a selector".to_owned()),
    };
    let (predicate, value) = match &one.predicate.predicate {
        Some(Told::Exists(_)) => (Predicate::Exists, ""),
        Some(Told::NotExists(_)) => (Predicate::NotExists, ""),
        Some(Told::TextEquals(text)) => (Predicate::TextEquals, text.value.as_str()),
        Some(Told::TextNotEquals(text)) => (Predicate::TextNotEquals, text.value.as_str()),
        Some(Told::TextMatches(told)) => (Predicate::TextMatches, told.regex.as_str()),
        Some(Told::TextNotMatches(told)) => (Predicate::TextNotMatches, told.regex.as_str()),
        None => return Err("a constraint without a predicate".to_owned()),
    };
    Ok(Constraint { selector, attribute, predicate, value })
}

/// True when a framework does not want every agent.
pub(crate) fn is_choosy(constraints: Option<&OfferConstraints>) -> bool {
    constraints.is_some_and(|one| !one.role_constraints.is_empty())
}

/// The call that wants offers in all roles but those that a subscription suppresses.
pub(crate) fn revive(call: &pb::scheduler::call::Subscribe, framework: FrameworkId) -> Said {
    let mut memory = vec![0; MEMORY];
    let wanted = |role: &&String| !call.suppressed_roles.contains(role);
    let roles = call.framework_info.roles.iter().filter(wanted).map(String::as_str);
    // All of them, when it names none to be left out.
    let roles = if call.suppressed_roles.is_empty() {
        Seq::EMPTY
    } else {
        Scratch::new(&mut memory).seq::<&'static str>(roles).unwrap_or_default()
    };
    let head = Head::Call(call::Call { framework, ticket: 0, verb: Verb::Revive { roles } });
    // Our own types have no way to fail.
    let head = postcard::to_allocvec(&head).unwrap_or_default();
    Said { head, bodies: Vec::new(), bad: Vec::new() }
}

/// The call that sets a framework's constraints to those that were checked; none = all agents.
pub(crate) fn constrain(
    constraints: Option<&OfferConstraints>,
    framework: FrameworkId,
) -> Result<Said, BadCall> {
    let mut memory = vec![0; MEMORY];
    let mut scratch = Scratch::new(&mut memory);
    let mut roles = Vec::new();
    for (role, of_role) in constraints.iter().flat_map(|one| &one.role_constraints) {
        let mut groups = Vec::new();
        for group in &of_role.groups {
            let all = group.attribute_constraints.iter().flat_map(constraint);
            let all = scratch.seq::<Constraint<'static>>(all)?;
            groups.push(ConstraintGroup { all });
        }
        let groups = scratch.seq::<ConstraintGroup<'static>>(groups)?;
        roles.push(Constraints { role, groups });
    }
    let roles = scratch.seq::<Constraints<'static>>(roles)?;
    let verb = Verb::Constrain { roles };
    let head = Head::Call(call::Call { framework, ticket: 0, verb });
    // Our own types have no way to fail.
    let head = postcard::to_allocvec(&head).unwrap_or_default();
    if head.len() > HEAD_MAX {
        return Err(Full.into());
    }
    Ok(Said { head, bodies: Vec::new(), bad: Vec::new() })
}

fn few(what: &str, count: usize) -> Result<(), BadCall> {
    if count <= TASKS_PER_HEAD_MAX {
        return Ok(());
    }
    let why = format!("At most {TASKS_PER_HEAD_MAX} '{what}' fit one call; send it in parts");
    Err(BadCall::Invalid(why))
}

/// What is wrong with a task under an executor of another framework.
const FOREIGN: &str =
    "ExecutorInfo has an invalid FrameworkID: leave it out, or name the framework itself";

/// For how long what is left is refused. Mesos: `Filters`, with what makes no sense as its default.
fn refusal(filters: Option<&pb::Filters>) -> Option<u64> {
    let seconds = filters?.refuse_seconds?;
    Some(micros(seconds).unwrap_or(REFUSE_US))
}

/// Capabilities of the wire, and of the API.
const CAPABILITIES: [(Capability, pb::framework_info::capability::Type); 8] = {
    use pb::framework_info::capability::Type;
    [
        (Capability::RevocableResources, Type::RevocableResources),
        (Capability::TaskKillingState, Type::TaskKillingState),
        (Capability::GpuResources, Type::GpuResources),
        (Capability::SharedResources, Type::SharedResources),
        (Capability::PartitionAware, Type::PartitionAware),
        (Capability::MultiRole, Type::MultiRole),
        (Capability::ReservationRefinement, Type::ReservationRefinement),
        (Capability::RegionAware, Type::RegionAware),
    ]
};

/// What a framework says it understands, as bits; what is not known is left out.
pub(crate) fn capabilities(info: &pb::FrameworkInfo) -> u32 {
    let bits = info.capabilities.iter().map(|told| {
        let known = CAPABILITIES.into_iter().find(|(_, kind)| told.r#type() == *kind);
        known.map_or(0, |(capability, _)| capability.bit())
    });
    bits.fold(0, |all, bit| all | bit)
}

/// What a framework understands, for the API.
pub(crate) fn capability_list(bits: u32) -> Vec<pb::framework_info::Capability> {
    let set = CAPABILITIES.into_iter().filter(|(capability, _)| bits & capability.bit() != 0);
    set.map(|(_, kind)| pb::framework_info::Capability { r#type: Some(kind.into()) }).collect()
}

/// What is wrong with the name of a role. Mesos: `roles::validate`.
pub(crate) fn role_trouble(role: &str) -> Option<String> {
    if role == "*" {
        return None;
    }
    if role.is_empty() {
        return Some("Empty role name is invalid".to_owned());
    }
    let trouble = |why: &str| Some(format!("Role '{}' {why}", role.escape_debug()));
    if role.len() > NAME_MAX || role.split('/').count() > ROLE_DEPTH_MAX {
        return Some(format!(
            "A role has at most {NAME_MAX} bytes, and {ROLE_DEPTH_MAX} components"
        ));
    }
    if role.starts_with('/') {
        return trouble("cannot start with a slash");
    }
    if role.ends_with('/') {
        return trouble("cannot end with a slash");
    }
    for part in role.split('/') {
        if part.is_empty() {
            return trouble("cannot contain two adjacent slashes");
        }
        if part == "." || part == ".." {
            return trouble("cannot include '.' or '..' as a component");
        }
        if part == "*" {
            return trouble("cannot include '*' as a component");
        }
        if part.starts_with('-') {
            return trouble("cannot start with '-' in a component");
        }
        let forbidden = |c: char| matches!(c, ' ' | '\\') || c.is_ascii_control();
        if part.contains(forbidden) {
            return trouble("cannot contain white space, control characters or backslashes");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::transcode::from_json;
    use mesita_core::wire::decode;

    const CLUSTER: u64 = 7;
    const FRAMEWORK: FrameworkId = FrameworkId { epoch: 1, number: 1 };

    fn said(json: &str) -> Result<Said, BadCall> {
        let call: Call = from_json(json.as_bytes()).unwrap();
        validate(&call)?;
        to_wire(&call, FRAMEWORK, CLUSTER)
    }

    fn refused(json: &str) -> String {
        said(json).unwrap_err().to_string()
    }

    #[test]
    fn what_must_be_there_is_said_in_the_words_of_mesos() {
        for (json, words) in [
            (r#"{}"#, "Expecting 'type' to be present"),
            (r#"{"type":"FOO"}"#, "Expecting 'type' to be present"),
            (r#"{"type":"SUBSCRIBE"}"#, "Expecting 'subscribe' to be present"),
            (r#"{"type":"TEARDOWN"}"#, "Expecting 'framework_id' to be present"),
            (
                r#"{"type":"ACCEPT","framework_id":{"value":"f"}}"#,
                "Expecting 'accept' to be present",
            ),
            (
                r#"{"type":"ACKNOWLEDGE","framework_id":{"value":"f"},"acknowledge":
                    {"agent_id":{"value":"a"},"task_id":{"value":"t"},"uuid":"AAAA"}}"#,
                "Not a valid UUID",
            ),
            (
                r#"{"type":"SUBSCRIBE","framework_id":{"value":"a"},"subscribe":
                    {"framework_info":{"user":"u","name":"n","id":{"value":"b"}}}}"#,
                "'framework_id' differs from 'subscribe.framework_info.id'",
            ),
        ] {
            let whole = format!("Failed to validate scheduler::Call: {words}");
            assert_eq!(refused(json), whole, "{json}");
        }
    }

    #[test]
    fn a_bad_task_is_refused_alone() {
        let json = r#"{"type":"ACCEPT","framework_id":{"value":"f"},"accept":{
            "offer_ids":[{"value":"0000000000000007-1-O0"},{"value":"stranger"}],
            "operations":[{"type":"LAUNCH","launch":{"task_infos":[
              {"name":"a","task_id":{"value":"a"},"agent_id":{"value":"0000000000000007-1-S1"}},
              {"name":"b","task_id":{"value":"b"},"agent_id":{"value":"0000000000000007-1-S1"},
               "command":{"value":"true"},"resources":[
                 {"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]},
              {"name":"c","task_id":{"value":"c"},"agent_id":{"value":"nobody"},
               "command":{"value":"true"},"resources":[
                 {"name":"cpus","type":"SCALAR","scalar":{"value":-1}}]}]}}],
            "filters":{"refuse_seconds":-3}}}"#;
        let said = said(json).unwrap();
        let bad: Vec<u16> = said.bad.iter().map(|(place, _)| *place).collect();
        assert_eq!(bad, [0, 2]);
        let Head::Call(call) = decode(&said.head).unwrap() else { panic!() };
        let Verb::Accept(accept) = call.verb else { panic!() };
        assert_eq!(accept.refuse_us, Some(REFUSE_US));
        assert_eq!(accept.offers.iter().last(), Some(NO_OFFER));
        let Some(Operation::Launch { tasks }) = accept.operations.first() else { panic!() };
        let names: Vec<&str> = tasks.iter().map(|task| task.task).collect();
        assert_eq!(names, ["a", "b", "c"]);
        // The public body of the one that is well, and its command.
        assert_eq!(said.bodies.len(), 2);
    }

    #[test]
    fn what_is_wrong_with_one_operation_keeps_no_other_from_being_done() {
        let json = r#"{"type":"ACCEPT","framework_id":{"value":"f"},"accept":{
            "offer_ids":[{"value":"0000000000000007-1-O0"}],"operations":[
            {"type":"NEWER"},
            {"type":"RESERVE","id":{"value":"r"},"reserve":{"resources":[
              {"name":"cpus","type":"SCALAR","scalar":{"value":1},
               "reservations":[{"type":"DYNAMIC","role":"-x"}]}]}},
            {"type":"LAUNCH","launch":{"task_infos":[
              {"name":"a","task_id":{"value":"a"},"agent_id":{"value":"0000000000000007-1-S1"},
               "executor":{"executor_id":{"value":"a/b"},"command":{"value":"true"}},
               "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]},
              {"name":"b","task_id":{"value":"b"},"agent_id":{"value":"0000000000000007-1-S1"},
               "command":{"value":"true"},
               "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]}]}},
            {"type":"LAUNCH_GROUP","launch_group":{
              "executor":{"type":"DEFAULT","executor_id":{"value":""}},
              "task_group":{"tasks":[
              {"name":"c","task_id":{"value":"c"},"agent_id":{"value":"0000000000000007-1-S1"},
               "command":{"value":"true"},
               "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]}]}}}]}}"#;
        let said = said(json).unwrap();
        let bad: Vec<u16> = said.bad.iter().map(|(place, _)| *place).collect();
        assert_eq!(bad, [OPERATION_PLACES, OPERATION_PLACES + 1, 0, 2]);
        let Head::Call(call) = decode(&said.head).unwrap() else { panic!() };
        let Verb::Accept(accept) = call.verb else { panic!() };
        let ids: Vec<&str> = accept.operations.iter().map(|one| one.id()).collect();
        assert_eq!(ids, ["", "r", "", ""]);
    }

    #[test]
    fn roles_are_one_or_many_but_never_both() {
        let framework = |more: &str| {
            let info = format!(r#"{{"user":"u","name":"n",{more}}}"#);
            let call = format!(r#"{{"type":"SUBSCRIBE","subscribe":{{"framework_info":{info}}}}}"#);
            said(&call)
        };
        let many = r#""capabilities":[{"type":"MULTI_ROLE"}]"#;
        assert!(framework(r#""role":"a/b""#).is_ok());
        assert!(framework(&format!(r#""roles":["a","b"],{many}"#)).is_ok());
        for (more, words) in [
            (r#""roles":["a"]"#.to_owned(), "is not MULTI_ROLE capable"),
            (format!(r#""role":"a",{many}"#), "is MULTI_ROLE capable"),
            (format!(r#""roles":["a","a"],{many}"#), "duplicate role: a"),
            (format!(r#""roles":["/bad/"],{many}"#), "Role '/bad/' cannot start with a slash"),
            (format!(r#""roles":["a\u0000b"],{many}"#), "Role 'a\\0b' cannot contain white space"),
            (format!(r#""roles":["{}"],{many}"#, ["a"; 17].join("/")), "16 components"),
            (
                format!(r#""roles":["a"],{many},"offer_filters":{{"b":{{}}}}"#),
                "'FrameworkInfo.offer_filters' names role 'b'",
            ),
            (r#""failover_timeout":-1"#.to_owned(), "failover_timeout"),
        ] {
            let Err(BadCall::Framework(why)) = framework(&more) else { panic!("{more}") };
            assert!(why.contains(words), "{why}");
        }
    }
}
