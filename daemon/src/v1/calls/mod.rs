//! Calls of schedulers → heads for the core. What can be said of a call without the master's state
//! is said here, in the order in which Mesos says it (`scheduler/validation.cpp`).
//!
//! | file | concern |
//! |---|---|
//! | `accepts` | what a framework makes of its offers: operations, tasks, groups |
//! | `frameworks` | what a framework says of itself, and its capabilities |
//! | `constraints` | which agents it wants |
//! | `parts` | calls that are longer than what the core takes at once |
//! | `roles` | what a role can be called |

use std::fmt;

use mesita_core::limits::{BODIES_PER_FRAME_MAX, HEAD_MAX};
use mesita_core::master::OPERATION_PLACES;
use mesita_core::resources::Amount;
use mesita_core::table::{Full, Id};
use mesita_core::wire::agent::OperationRef;
use mesita_core::wire::call::{self, Accept, Operation, Quantity, Verb};
use mesita_core::wire::resource::{Resource, Value};
use mesita_core::wire::task::TaskAt;
use mesita_core::wire::{AgentId, FrameworkId, Head, OfferId, Scratch, Seq, Uuid};

use super::amounts::{duration, micros};
use super::resources::{self, BadResource};
use super::tasks::Bodies;
use crate::pb::mesos::v1 as pb;
use parts::Part;
use pb::scheduler::Call;
use pb::scheduler::call::{Type, UpdateFramework};

mod accepts;
mod constraints;
mod frameworks;
mod parts;
mod roles;

pub(super) use constraints::constraint;
pub(crate) use constraints::{constrain, is_choosy};
pub(crate) use frameworks::{capabilities, capability_list, revive};
pub(crate) use parts::{accepts, declines, reconciliations};
pub(crate) use roles::role_trouble;

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
            | BadResource::Everybodys(..)
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
        if named(&subscribe.framework_info.id) != named(&call.framework_id) {
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
        && named(&framework_info.id) != named(&call.framework_id)
    {
        let why = "'framework_id' differs from 'update_framework.framework_info.id'";
        return Err(BadCall::Invalid(why.to_owned()));
    }
    Ok(())
}

/// An id; one that is empty is none.
fn named(id: &Option<pb::FrameworkId>) -> &str {
    id.as_ref().map_or("", |id| &id.value)
}

fn uuid(bytes: &[u8]) -> Result<Uuid, BadCall> {
    let bytes = <[u8; 16]>::try_from(bytes);
    let bytes = bytes.map_err(|_| BadCall::Invalid("Not a valid UUID".to_owned()))?;
    Ok(Uuid::from_bytes(bytes))
}

/// A valid call of a framework for the core of this cluster.
pub(crate) fn to_wire(call: &Call, framework: FrameworkId, cluster: u64) -> Result<Said, BadCall> {
    part_to_wire(call, framework, cluster, Part { last: true, too_long: false })
}

fn part_to_wire(
    call: &Call,
    framework: FrameworkId,
    cluster: u64,
    part: Part,
) -> Result<Said, BadCall> {
    let mut memory = vec![0; MEMORY];
    let mut writer = Writer {
        framework,
        cluster,
        part,
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
    if bodies.0.len() > BODIES_PER_FRAME_MAX {
        return Err(Full.into());
    }
    Ok(Said { head, bodies: bodies.0, bad })
}

/// A call that is being said.
struct Writer<'s> {
    framework: FrameworkId,
    cluster: u64,
    part: Part,
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
                accepts::few(&call.operations)?;
                let operations = (OPERATION_PLACES..u16::MAX).zip(&call.operations);
                let operations = operations
                    .map(|(place, operation)| self.operation(place, operation))
                    .collect::<Result<Vec<_>, _>>()?;
                let accept = Accept {
                    offers: self.offers(&call.offer_ids, true)?,
                    operations: self.scratch.seq::<Operation<'static>>(operations)?,
                    refuse_us: refusal(call.filters.as_ref()),
                };
                Ok(if self.part.last { Verb::Accept(accept) } else { Verb::AcceptPart(accept) })
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
}

/// For how long what is left is refused. Mesos: `Filters`, with what makes no sense as its default.
fn refusal(filters: Option<&pb::Filters>) -> Option<u64> {
    let seconds = filters?.refuse_seconds?;
    Some(micros(seconds).unwrap_or(REFUSE_US))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::transcode::from_json;

    pub(super) const CLUSTER: u64 = 7;
    pub(super) const FRAMEWORK: FrameworkId = FrameworkId { epoch: 1, number: 1 };

    pub(super) fn said(json: &str) -> Result<Said, BadCall> {
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
}
