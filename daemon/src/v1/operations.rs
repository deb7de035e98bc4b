//! Operations on resources, as schedulers and operators are told of them.

use mesita_core::table::Id;
use mesita_core::wire::agent::OperationStatus;
use mesita_core::wire::call::Operation as WireOperation;
use mesita_core::wire::resource::Resource;
use mesita_core::wire::{AgentId, FrameworkId, Seq, Uuid};

use super::amounts::double;
use super::events::{agent_id, framework_id, operation_state};
use super::reads::cluster;
use super::resources::{Form, Stack, of_wire, one_of_wire};
use crate::catalog::Tables;
use crate::catalog::rows::Operation;
use crate::pb::mesos::v1 as pb;
use pb::master::response::GetOperations;
use pb::offer::operation::{self as asked, Type};

/// Resources as operators see them.
const FORM: Form = Form { stack: Stack::New, allocated: false };

/// A status of an operation.
pub(crate) fn told(status: &OperationStatus<'_>, form: Form, cluster: u64) -> pb::OperationStatus {
    let operation = &status.operation;
    let mut told = pb::OperationStatus {
        operation_id: Some(pb::OperationId { value: operation.operation.to_owned() }),
        converted_resources: of_wire(&status.converted, "", form),
        ..pb::OperationStatus::default()
    };
    told.set_state(operation_state(status.state));
    if !status.message.is_empty() {
        told.message = Some(status.message.to_owned());
    }
    if !operation.agent.is_none() {
        told.agent_id = Some(agent_id(operation.agent, cluster));
    }
    if let Some(sequence) = status.uuid {
        told.uuid = Some(uuid(operation.agent, sequence));
    }
    told
}

fn uuid(agent: AgentId, sequence: u64) -> pb::Uuid {
    pb::Uuid { value: Uuid { agent, sequence }.to_bytes().to_vec() }
}

/// Operations whose end was not acknowledged.
pub(crate) fn operations(tables: &Tables) -> GetOperations {
    let told = tables.operations.iter().map(|(id, row)| operation(tables, id, row));
    GetOperations { operations: told.collect() }
}

fn operation(tables: &Tables, id: Id, row: &Operation) -> pb::Operation {
    let cluster = cluster(tables);
    let framework = tables.frameworks.get(row.framework).map(|one| one.id);
    let agent = tables.agents.get(row.agent).map_or(AgentId::NONE, |one| one.id);
    let asked = row.asked.read::<Seq<'_, WireOperation<'_>>>();
    let asked = asked.and_then(|list| list.first());
    let latest = row.status.as_ref().and_then(|one| one.read::<OperationStatus<'_>>());
    let mut status =
        latest.map_or_else(pb::OperationStatus::default, |latest| told(&latest, FORM, cluster));
    if latest.is_none() {
        let id = asked.map_or("", |one| one.id()).to_owned();
        status.operation_id = Some(pb::OperationId { value: id });
        status.set_state(pb::OperationState::OperationPending);
    }
    pb::Operation {
        framework_id: framework.map(|id| framework_id(id, cluster)),
        agent_id: Some(agent_id(agent, cluster)),
        info: asked.map(|one| info(&one)).unwrap_or_default(),
        latest_status: status.clone(),
        statuses: latest.map(|_| status).into_iter().collect(),
        uuid: uuid(agent, u64::from(id.generation) << 32 | u64::from(id.index)),
    }
}

/// An operation of which only its end is known; none if that is no end.
pub(crate) fn ended(
    framework: FrameworkId,
    status: &OperationStatus<'_>,
    cluster: u64,
) -> Option<pb::Operation> {
    let agent = status.operation.agent;
    let latest_status = told(status, FORM, cluster);
    Some(pb::Operation {
        framework_id: Some(framework_id(framework, cluster)),
        agent_id: Some(agent_id(agent, cluster)),
        info: pb::offer::Operation {
            id: latest_status.operation_id.clone(),
            ..pb::offer::Operation::default()
        },
        statuses: vec![latest_status.clone()],
        latest_status,
        uuid: uuid(agent, status.uuid?),
    })
}

/// What was asked for. Launches are no operations in this sense.
fn info(operation: &WireOperation<'_>) -> pb::offer::Operation {
    let mut told = pb::offer::Operation::default();
    let id = operation.id();
    told.id = (!id.is_empty()).then(|| pb::OperationId { value: id.to_owned() });
    let list = |list: &Seq<'_, Resource<'_>>| of_wire(list, "", FORM);
    let one = |resource: &Resource<'_>| one_of_wire(resource, "", FORM);
    match operation {
        WireOperation::Launch { .. } | WireOperation::LaunchGroup { .. } => {}
        WireOperation::Reserve(change) => {
            told.set_type(Type::Reserve);
            let resources = list(&change.resources);
            told.reserve = Some(asked::Reserve { resources, ..Default::default() });
        }
        WireOperation::Move { source, resources, .. } => {
            told.set_type(Type::Reserve);
            let (source, resources) = (list(source), list(resources));
            told.reserve = Some(asked::Reserve { source, resources });
        }
        WireOperation::Unreserve(change) => {
            told.set_type(Type::Unreserve);
            told.unreserve = Some(asked::Unreserve { resources: list(&change.resources) });
        }
        WireOperation::Create(change) => {
            told.set_type(Type::Create);
            told.create = Some(asked::Create { volumes: list(&change.resources) });
        }
        WireOperation::Destroy(change) => {
            told.set_type(Type::Destroy);
            told.destroy = Some(asked::Destroy { volumes: list(&change.resources) });
        }
        WireOperation::Grow { volume, addition, .. } => {
            told.set_type(Type::GrowVolume);
            let (volume, addition) = (one(volume), one(addition));
            told.grow_volume = Some(asked::GrowVolume { volume, addition });
        }
        WireOperation::Shrink { volume, subtract, .. } => {
            told.set_type(Type::ShrinkVolume);
            let subtract = pb::value::Scalar { value: double(*subtract) };
            told.shrink_volume = Some(asked::ShrinkVolume { volume: one(volume), subtract });
        }
    }
    told
}
