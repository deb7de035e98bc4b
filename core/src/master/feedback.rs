//! What becomes of operations: told by agents, passed on until acknowledged, asked for.
//!
//! Mesos: `Master::updateOperationStatus`, `acknowledgeOperationStatus`, `reconcileOperations`. A
//! master that did not order an operation learns of it when its agent tells its end again.

use super::operations::framework_slot;
use super::rows::{AgentState, FrameworkState, Operation};
use super::{Cx, Fact, Master};
use crate::Refusal;
use crate::limits::ONCE_NAME;
use crate::table::Id;
use crate::time::Time;
use crate::wire::agent::{AgentEvent, OperationRef, OperationState, OperationStatus};
use crate::wire::call::Ownership;
use crate::wire::event::Event;
use crate::wire::{FrameworkId, Seq, Uuid};

/// For so long after a master began to lead, an operation of a framework that it has not heard of
/// may still be that of one which comes back, in µs. Mesos: 10 min.
const ORPHAN_US: u64 = 600_000_000;

impl Master<'_> {
    /// A status from an agent. O(operations).
    pub(super) fn operation_update(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        framework: FrameworkId,
        status: &OperationStatus<'_>,
    ) -> Result<(), Refusal> {
        if framework.is_none() {
            return self.operator_done(cx, agent, status);
        }
        let Some(owner) = self.framework_by_id(framework) else {
            if self.is_orphan(cx.now, framework) || self.was_sent_away(agent) {
                self.acknowledge_for(cx, agent, framework, status);
            }
            return Ok(());
        };
        if let Some(id) = self.known_operation(cx, owner, agent, status) {
            let session = self.agents.get_ref(agent).map(|row| row.session).unwrap_or_default();
            if let Some(row) = self.operations.get_mut(id) {
                (row.state, row.session) = (status.state, session);
                row.forwarded = status.uuid.unwrap_or(row.forwarded);
            }
            cx.fact(Fact::OperationState { row: id, status: *status });
        }
        self.tell(cx, owner, Event::OperationUpdate { status: *status }, &[]);
        let row = self.frameworks.get_ref(owner).ok_or(Refusal::UnknownFramework)?;
        let ours = row.state == FrameworkState::Leaving || row.owned == Ownership::Master;
        if ours || status.uuid.is_none() {
            self.acknowledge_for(cx, agent, framework, status);
            if let Some(id) = self.operation_named(owner, status.operation.operation) {
                self.remove_operation(cx, id);
            }
        }
        Ok(())
    }

    /// The row of an operation, made if this master did not order it. None when there is no room:
    /// it is passed on nevertheless, and acknowledged as any other.
    fn known_operation(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        agent: Id,
        status: &OperationStatus<'_>,
    ) -> Option<Id> {
        let name = status.operation.operation;
        if let Some(known) = self.operation_named(framework, name) {
            return Some(known);
        }
        if self.operations.room() == 0 || !self.names.has_room_for([name]) {
            return None;
        }
        let row = Operation {
            name: self.names.intern(name).ok()?,
            framework: framework.index.saturating_add(1),
            agent: agent.index,
            ..bytemuck::Zeroable::zeroed()
        };
        let id = self.operations.insert(row).ok()?;
        cx.fact(Fact::Operation { row: id, framework, agent, operation: Seq::EMPTY });
        Some(id)
    }

    /// The agent has an operator's operation on disk, or could not do it.
    fn operator_done(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        status: &OperationStatus<'_>,
    ) -> Result<(), Refusal> {
        let name = status.operation.operation;
        let Some(id) = self.operators_operation(name) else {
            // Who waited for it may have asked another master.
            return if name.len() < ONCE_NAME { Err(Refusal::UnknownOperation) } else { Ok(()) };
        };
        let row = self.operations.get(id).filter(|row| row.agent == agent.index);
        let row = row.filter(|row| row.framework == 0).ok_or(Refusal::UnknownOperation)?;
        let done = status.state == OperationState::Finished;
        let result = if done { Ok(()) } else { Err(Refusal::NotAvailable) };
        self.answer_operator(cx, &row, result, status.message);
        self.remove_operation(cx, id);
        Ok(())
    }

    /// True when nobody will come to hear of an operation of a framework that is not known.
    fn is_orphan(&self, now: Time, framework: FrameworkId) -> bool {
        let late = self.counters.leads_since.after(ORPHAN_US.max(self.config.failover_min_us));
        self.was_removed(framework) || now >= late
    }

    fn acknowledge_for(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        framework: FrameworkId,
        status: &OperationStatus<'_>,
    ) {
        if let Some(sequence) = status.uuid {
            let operation = status.operation;
            let event = AgentEvent::AcknowledgeOperation { framework, operation, sequence };
            self.order(cx, agent, event, &[]);
        }
    }

    /// ACKNOWLEDGE_OPERATION_STATUS: passed on to the agent; the last one of an operation ends it
    /// here. O(operations).
    pub(super) fn acknowledge_operation(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        operation: &str,
        uuid: Uuid,
    ) -> Result<(), Refusal> {
        let agent = self.agent_by_id(uuid.agent).ok_or(Refusal::UnknownAgent)?;
        let id = self.frameworks.get_ref(framework).map_or(FrameworkId::NONE, |row| row.id);
        let named = OperationRef { operation, agent: uuid.agent, provider: "" };
        let sequence = uuid.sequence;
        let event = AgentEvent::AcknowledgeOperation { framework: id, operation: named, sequence };
        if !self.order(cx, agent, event, &[]) {
            return Err(Refusal::UnknownAgent);
        }
        let known = self.operation_named(framework, operation);
        let row = known.and_then(|id| self.operations.get(id));
        if let (Some(id), Some(row)) = (known, row)
            && row.state.is_terminal()
            && row.forwarded == sequence
            && row.agent == agent.index
        {
            self.remove_operation(cx, id);
        }
        Ok(())
    }

    /// RECONCILE_OPERATIONS: those named, or all. O(named · operations).
    pub(super) fn reconcile_operations(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        operations: &Seq<'_, OperationRef<'_>>,
    ) -> Result<(), Refusal> {
        for named in operations.iter() {
            match self.operation_named(framework, named.operation) {
                Some(id) => self.tell_latest(cx, framework, id),
                None => self.tell_unknown_operation(cx, framework, &named),
            }
        }
        if operations.is_empty() {
            for slot in 0..self.operations.high_water() {
                let Some((id, row)) = self.operations.at(slot) else { continue };
                if framework_slot(&row) == Some(framework.index) {
                    self.tell_latest(cx, framework, id);
                }
            }
        }
        Ok(())
    }

    /// The latest state of an operation, as an answer.
    fn tell_latest(&mut self, cx: &mut Cx<'_>, framework: Id, id: Id) {
        let Some(row) = self.operations.get(id) else { return };
        let (name, agent) = (self.text(row.name), self.agents.id_at(row.agent));
        let message = "Reconciliation: Latest operation state";
        self.tell_operation(cx, framework, agent, &name, row.state, message);
    }

    /// What is to be thought of an operation that is not here (Mesos: `Master::reconcileOperations`).
    fn tell_unknown_operation(&mut self, cx: &mut Cx<'_>, framework: Id, named: &OperationRef<'_>) {
        let agent = self.agent_by_id(named.agent);
        let state = match agent.and_then(|id| self.agents.get_ref(id)).map(|row| row.state) {
            Some(
                AgentState::Recovered
                | AgentState::Registering
                | AgentState::Settling
                | AgentState::Confirming,
            ) => OperationState::Recovering,
            // What it did is told when it is back.
            Some(AgentState::Away) => OperationState::Recovering,
            Some(AgentState::Active) => OperationState::Unknown,
            Some(AgentState::Losing | AgentState::Unreachable) => OperationState::Unreachable,
            Some(AgentState::Gone) => OperationState::GoneByOperator,
            None if self.may_come_back(named.agent) => OperationState::Recovering,
            None => OperationState::Unknown,
        };
        let message = match state {
            OperationState::Recovering => "Reconciliation: Agent is recovered and not back yet",
            OperationState::Unreachable => "Reconciliation: Agent is unreachable",
            OperationState::GoneByOperator => "Reconciliation: Agent was marked gone",
            OperationState::Pending
            | OperationState::Finished
            | OperationState::Failed
            | OperationState::Error
            | OperationState::Dropped
            | OperationState::Unknown => "Reconciliation: Operation is unknown",
        };
        self.tell_operation(cx, framework, agent, named.operation, state, message);
    }
}
