//! What operators do to resources that nobody uses: reserve them, make volumes of them, and back.
//!
//! Mesos: `RESERVE_RESOURCES`, `UNRESERVE_RESOURCES`, `CREATE_VOLUMES`, `DESTROY_VOLUMES`,
//! `GROW_VOLUME`, `SHRINK_VOLUME`, and `/reserve`, `/unreserve`, `/create-volumes`,
//! `/destroy-volumes` before them. Answered with 202 when the agent has done it, durably.

use std::rc::Rc;

use hyper::StatusCode;
use mesita_core::limits::HEAD_MAX;
use mesita_core::wire::Scratch;
use mesita_core::wire::call::{Change, Operation};
use mesita_core::wire::operator::OperatorVerb;

use super::MasterNode;
use crate::doors::Caller;
use crate::http::{Early, Reply, Visit, early, only, request, status, transcode};
use crate::legacy;
use crate::pb::mesos::v1 as pb;
use crate::v1::amounts::amount;
use crate::v1::resources::{self, BadResource};
use pb::master::Call;
use pb::master::call::{CreateVolumes, ReserveResources, Type};

/// What is done to a list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listed {
    Reserve,
    Unreserve,
    Create,
    Destroy,
}

impl Listed {
    /// By the path without `/master`.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/reserve" => Some(Self::Reserve),
            "/unreserve" => Some(Self::Unreserve),
            "/create-volumes" => Some(Self::Create),
            "/destroy-volumes" => Some(Self::Destroy),
            _ => None,
        }
    }

    const fn operation<'a>(self, change: Change<'a>) -> Operation<'a> {
        match self {
            Self::Reserve => Operation::Reserve(change),
            Self::Unreserve => Operation::Unreserve(change),
            Self::Create => Operation::Create(change),
            Self::Destroy => Operation::Destroy(change),
        }
    }

    /// What the list is called in a form.
    const fn field(self) -> &'static str {
        match self {
            Self::Reserve | Self::Unreserve => "resources",
            Self::Create | Self::Destroy => "volumes",
        }
    }
}

impl MasterNode {
    /// A call that changes what resources are; false when it is none.
    pub(super) async fn change_resources(
        self: &Rc<Self>,
        call: &Call,
        caller: &Caller,
    ) -> Result<bool, Early> {
        let kind = call.r#type();
        let (what, agent, list) = if kind == Type::ReserveResources {
            let call = call.reserve_resources.as_ref();
            if let Some(ReserveResources { agent_id, source, resources }) =
                call.filter(|call| !call.source.is_empty())
            {
                self.move_reservation(agent_id, (source, resources), caller).await?;
                return Ok(true);
            }
            (Listed::Reserve, call.map(|one| &one.agent_id), call.map(|one| &one.resources))
        } else if kind == Type::UnreserveResources {
            let call = call.unreserve_resources.as_ref();
            (Listed::Unreserve, call.map(|one| &one.agent_id), call.map(|one| &one.resources))
        } else if kind == Type::CreateVolumes {
            let call = call.create_volumes.as_ref();
            (Listed::Create, call.map(|one| &one.agent_id), call.map(|one| &one.volumes))
        } else if kind == Type::DestroyVolumes {
            let call = call.destroy_volumes.as_ref();
            (Listed::Destroy, call.map(|one| &one.agent_id), call.map(|one| &one.volumes))
        } else {
            return self.resize(call, caller).await;
        };
        let list = list.map(Vec::as_slice).unwrap_or_default();
        self.change_list(what, agent, list, caller).await?;
        Ok(true)
    }

    async fn change_list(
        self: &Rc<Self>,
        what: Listed,
        agent: Option<&pb::AgentId>,
        list: &[pb::Resource],
        caller: &Caller,
    ) -> Result<(), Early> {
        if matches!(what, Listed::Create) {
            resources::makeable(list).map_err(|bad| invalid(&bad))?;
        }
        let mut memory = vec![0; HEAD_MAX];
        let mut scratch = Scratch::new(&mut memory);
        let resources = resources::to_wire(list, &mut scratch).map_err(|bad| invalid(&bad))?;
        let operation = what.operation(Change { id: "", resources });
        self.operate_on(agent, operation, caller).await
    }

    /// RESERVE_RESOURCES with `source`: what is reserved in one way is reserved in another from now on,
    /// all of it or nothing of it.
    async fn move_reservation(
        self: &Rc<Self>,
        agent: &pb::AgentId,
        (source, resources): (&[pb::Resource], &[pb::Resource]),
        caller: &Caller,
    ) -> Result<(), Early> {
        let mut memory = vec![0; HEAD_MAX];
        let mut scratch = Scratch::new(&mut memory);
        let moved = resources::moved(source, resources, &mut scratch);
        let (source, resources) = moved.map_err(|bad| invalid(&bad))?;
        let operation = Operation::Move { id: "", source, resources };
        self.operate_on(Some(agent), operation, caller).await
    }

    /// GROW_VOLUME and SHRINK_VOLUME.
    async fn resize(self: &Rc<Self>, call: &Call, caller: &Caller) -> Result<bool, Early> {
        let missing = || bad("Expecting the call's own field to be present");
        let mut memory = vec![0; HEAD_MAX];
        let mut scratch = Scratch::new(&mut memory);
        let id = "";
        let (agent, operation) = if call.r#type() == Type::GrowVolume {
            let call = call.grow_volume.as_ref().ok_or_else(missing)?;
            let both = [call.volume.clone(), call.addition.clone()];
            let list = resources::to_wire(&both, &mut scratch).map_err(|bad| invalid(&bad))?;
            let mut list = list.iter();
            let (volume, addition) = (list.next(), list.next());
            let (volume, addition) = volume.zip(addition).ok_or_else(missing)?;
            let grow = Operation::Grow { id, volume, addition };
            return self.operate_on(call.agent_id.as_ref(), grow, caller).await.map(|()| true);
        } else if call.r#type() == Type::ShrinkVolume {
            let call = call.shrink_volume.as_ref().ok_or_else(missing)?;
            let volume = std::slice::from_ref(&call.volume);
            let list = resources::to_wire(volume, &mut scratch).map_err(|bad| invalid(&bad))?;
            let volume = list.first().ok_or_else(missing)?;
            let subtract = amount(call.subtract.value)
                .map_err(|why| bad(format!("'shrink_volume.subtract' {why}")))?;
            (call.agent_id.as_ref(), Operation::Shrink { id, volume, subtract })
        } else {
            return Ok(false);
        };
        self.operate_on(agent, operation, caller).await.map(|()| true)
    }

    async fn operate_on(
        self: &Rc<Self>,
        agent: Option<&pb::AgentId>,
        operation: Operation<'_>,
        caller: &Caller,
    ) -> Result<(), Early> {
        let agent = agent.and_then(|id| self.agent_called(&id.value));
        let agent = agent.ok_or_else(|| bad("No agent found with specified ID"))?;
        if let Some(principal) = caller.principal() {
            check_principal(&operation, principal)?;
        }
        let mut memory = vec![0; HEAD_MAX];
        let operation = Scratch::new(&mut memory).seq::<Operation<'static>>([operation]);
        let operation = operation.map_err(|_| bad("more than fits a message of 64 KiB"))?;
        self.operate(caller, OperatorVerb::Operate { agent, operation }).await
    }

    /// `POST /reserve` and its likes: a form with an agent and a list in JSON.
    pub(super) async fn post_resources(self: Rc<Self>, visit: Visit, what: Listed) -> Reply {
        let change = async {
            self.leads_or_not()?;
            only(visit.request.method(), &[hyper::Method::POST])?;
            let bytes = request::whole(&self.port.bodies, visit.request.into_body()).await?;
            let form = legacy::query(Some(&String::from_utf8_lossy(&bytes)));
            let given = |name: &str| {
                let missing =
                    || bad(format!("Missing '{name}' query parameter in the request body"));
                form.get(name).cloned().ok_or_else(missing)
            };
            let agent = pb::AgentId { value: given("slaveId")? };
            let list = given(what.field())?;
            let list = read_list(what.field(), &list)?;
            match form.get("source").filter(|_| matches!(what, Listed::Reserve)) {
                None => self.change_list(what, Some(&agent), &list, &visit.caller).await,
                Some(source) => {
                    let source = read_list("source", source)?;
                    self.move_reservation(&agent, (&source, &list), &visit.caller).await
                }
            }
        };
        match change.await {
            Ok(()) => status(StatusCode::ACCEPTED),
            Err(reply) => *reply,
        }
    }
}

/// A list of resources in a form.
fn read_list(field: &str, list: &str) -> Result<Vec<pb::Resource>, Early> {
    // A list is no message: it is read as the one field of one.
    let value = r#"{"value":""}"#;
    let wrapped = format!(r#"{{"agent_id":{value},"volumes":{list}}}"#);
    let call = transcode::from_json::<CreateVolumes>(wrapped.as_bytes());
    let call =
        call.map_err(|why| bad(format!("Error in parsing '{field}' in the request body: {why}")))?;
    Ok(call.volumes)
}

fn bad(message: impl Into<String>) -> Early {
    early(StatusCode::BAD_REQUEST, message.into())
}

fn invalid(why: &BadResource) -> Early {
    bad(why.to_string())
}

/// What somebody makes has the principal that they have shown, and no other. Mesos:
/// `validation::operation::validate` of Reserve and Create.
fn check_principal(operation: &Operation<'_>, principal: &str) -> Result<(), Early> {
    let (what, list) = match operation {
        Operation::Reserve(change) => ("reservation", change.resources),
        Operation::Move { resources, .. } => ("reservation", *resources),
        Operation::Create(change) => ("volume", change.resources),
        Operation::Launch { .. }
        | Operation::LaunchGroup { .. }
        | Operation::Unreserve(_)
        | Operation::Destroy(_)
        | Operation::Grow { .. }
        | Operation::Shrink { .. } => return Ok(()),
    };
    let made = |of: mesita_core::wire::resource::Resource<'_>| match what {
        "volume" => of.traits.disk.map_or("", |disk| disk.principal) == principal,
        _ => of.traits.reservations.iter().last().is_some_and(|one| one.principal == principal),
    };
    if list.iter().all(made) {
        return Ok(());
    }
    Err(bad(format!("a {what} must name the principal that makes it, '{principal}'")))
}
