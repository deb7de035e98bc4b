//! Operations: what resources are is changed here, kept, and told until acknowledged.
//!
//! Mesos: `Slave::applyOperation`, `syncCheckpointedResources`. The ledger has what operations have
//! made in one record with the end of the operation, so a start knows both or neither; directories
//! of volumes follow what the ledger says. What the master thought possible and was not is told with
//! all that the agent has then, and so is whatever is done after it in that session: what was on its
//! way meanwhile was decided on other grounds.

use super::rows::Operation;
use super::{Agent, Cx, Hand, Head, Output, RETRY_MAX_US, RETRY_MIN_US, Record, VolumeOrder};
use crate::Refusal;
use crate::limits::ONCE_NAME;
use crate::names::Name;
use crate::resources::Holding;
use crate::resources::change::{Conversion, Step};
use crate::resources::made::Planned;
use crate::table::Id;
use crate::wire::agent::{AgentCall, OperationOf, OperationRef, OperationState, OperationStatus};
use crate::wire::call::Operation as WireOperation;
use crate::wire::resource::Resource;
use crate::wire::{FrameworkId, Scratch, Seq};

/// Bytes for the list of an operation that does not bring one: a volume and a disk.
const LIST_BYTES: usize = 4096;

impl Agent<'_> {
    /// Does operations in order, each by itself. O(list · (identities + total) + tasks).
    pub(super) fn operate(
        &mut self,
        cx: &mut Cx<'_>,
        framework: FrameworkId,
        operations: &Seq<'_, WireOperation<'_>>,
    ) -> Result<(), Refusal> {
        for operation in operations.iter() {
            if self.was_done(cx, framework, operation.id()) {
                continue;
            }
            let mut memory = [0u8; LIST_BYTES];
            let planned = Planned::of(&operation, &mut memory).ok().flatten();
            let checked = match &planned {
                // Each writes down all that operations have made; masters order them one by one.
                Some(_) if !cx.has_room() => Err(Refusal::QueueFull),
                Some(planned) => self.check_planned(planned),
                None => Err(Refusal::BadOperation),
            };
            match (checked, planned) {
                (Ok(()), Some(planned)) => self.do_planned(cx, framework, &planned),
                (refused, _) => {
                    self.link.diverged = true;
                    let refusal = refused.err().unwrap_or(Refusal::BadOperation);
                    self.tell_dropped(cx, framework, operation.id(), refusal.sentence());
                }
            }
        }
        if self.link.diverged {
            self.tell_totals(cx);
        }
        self.show_resources(cx);
        Ok(())
    }

    /// True for an operator's operation that is done once and was: that is told again.
    fn was_done(&mut self, cx: &mut Cx<'_>, framework: FrameworkId, name: &str) -> bool {
        let known = self.operation_of(framework, name);
        let Some((id, _)) = known.filter(|_| framework.is_none() && name.len() == ONCE_NAME) else {
            return false;
        };
        self.send_operation(cx, id);
        // The master has counted it once more.
        self.link.diverged = true;
        true
    }

    /// True for an operation whose end is told until somebody has acknowledged it: one that a
    /// framework has named, or that an operator may ask for again.
    fn is_kept(&self, row: &Operation) -> bool {
        let name = self.text(row.name);
        !name.is_empty() && (!row.framework.is_none() || name.len() == ONCE_NAME)
    }

    /// Everything that can keep an operation from being done here.
    fn check_planned(&self, planned: &Planned<'_>) -> Result<(), Refusal> {
        let Planned { id, step, list, source } = *planned;
        if self.counters.leaving {
            return Err(Refusal::AgentAway);
        }
        if self.operations.room() == 0 {
            return Err(Refusal::OperationsFull);
        }
        if !self.names.has_room_for([id]) {
            return Err(Refusal::NamesFull);
        }
        if step == Step::Destroy && self.is_used(&list) {
            return Err(Refusal::InUse);
        }
        if step == Step::Move {
            self.pool.check_move(&self.names, &source, &list, &[self.free])?;
        } else {
            self.pool.check_change(&self.names, step, &list, &[self.free], self.total)?;
        }
        // All that the agent has, twice, what it comes from, and what is told of it.
        let parts = self.pool.need(&self.names, &list).saturating_mul(8);
        let all = self.pool.parts_of(self.total).saturating_mul(3);
        if parts.saturating_add(all) > self.pool.room() {
            return Err(Refusal::ResourcesFull);
        }
        let bytes = self.pool.wire_bytes(&self.names, self.total);
        let bytes = bytes.saturating_add(list.bytes().saturating_mul(3)).saturating_add(1024);
        if bytes > self.scratch.len() / 2 || bytes > self.link.head_max as usize {
            return Err(Refusal::ResourcesFull);
        }
        Ok(())
    }

    /// True when a task or an executor has any of `list`.
    fn is_used(&self, list: &Seq<'_, Resource<'_>>) -> bool {
        let has = |held: Holding| self.pool.has_any(&self.names, held, list);
        self.tasks.iter().any(|(_, task)| !task.state.is_terminal() && has(task.held))
            || self.executors.iter().any(|(_, executor)| has(executor.held))
    }

    fn do_planned(&mut self, cx: &mut Cx<'_>, framework: FrameworkId, planned: &Planned<'_>) {
        let Planned { id, step, list, source } = *planned;
        let conversion = self.pool.change_to(&mut self.names, step, &source, &list);
        self.convert(&conversion);
        let Conversion { mut consumed, converted } = conversion;
        self.pool.clear(&mut self.names, &mut consumed);
        let volumes = matches!(step, Step::Create | Step::Destroy);
        let row = Operation {
            framework,
            name: self.names.intern(id).unwrap_or(Name::EMPTY),
            sequence: self.next_update(),
            state: OperationState::Finished,
            converted,
            busy: volumes,
            makes: step == Step::Create,
            ..bytemuck::Zeroable::zeroed()
        };
        let Ok(id) = self.operations.insert(row) else { return };
        self.record_operation(cx, id);
        if volumes {
            let order = if row.makes { VolumeOrder::MakeNew } else { VolumeOrder::Remove };
            let sequence = row.sequence;
            cx.hand(Hand::Volumes { sequence, order, volumes: list });
        }
    }

    /// Tells readers what the agent has.
    pub(super) fn show_resources(&mut self, cx: &mut Cx<'_>) {
        let total = self.total;
        self.with_scratch(|agent, outer, inner| {
            let mut outer = Scratch::new(outer);
            let list = agent.pool.write(&agent.names, total, "", &mut outer, inner);
            cx.emit(Output::Resources { resources: list.unwrap_or_default() });
        });
    }

    /// Changes what the agent has, and what of it is free. It was checked that both have it.
    fn convert(&mut self, conversion: &Conversion) {
        let (mut total, mut free) = (self.total, self.free);
        for holding in [&mut total, &mut free] {
            let applied = self.pool.apply(&mut self.names, holding, conversion);
            invariant!(applied.is_ok(), "an operation on what is not free here");
        }
        (self.total, self.free) = (total, free);
    }

    /// Writes down what operations have made, with the end of this one if somebody wants to hear it.
    fn record_operation(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.operations.get(id) else { return };
        let Operation { framework, sequence, .. } = row;
        let told = self.is_kept(&row);
        let record = self.with_made(|agent, resources| {
            if !told {
                return agent.persist(cx, Record::Resources { resources }, true, &[]);
            }
            agent.with_operation_status(&row, |agent, status| {
                let status = *status;
                let record = Record::Operated { framework, sequence, status, resources };
                agent.persist(cx, record, true, &[])
            })
        });
        if let Some(row) = self.operations.get_mut(id) {
            (row.record, row.durable) = (record, false);
        }
    }

    /// What operations have made of all that the agent has, as a list.
    pub(super) fn with_made<T>(
        &mut self,
        work: impl FnOnce(&mut Self, Seq<'_, Resource<'_>>) -> T,
    ) -> T {
        let total = self.total;
        self.with_scratch(|agent, outer, inner| {
            let mut outer = Scratch::new(outer);
            let list = agent.pool.write_made(&agent.names, total, &mut outer, inner);
            invariant!(list.is_ok(), "what operations have made is larger than was measured");
            work(agent, list.unwrap_or_default())
        })
    }

    /// Runs `work` with the status of an operation.
    pub(super) fn with_operation_status<T>(
        &mut self,
        row: &Operation,
        work: impl FnOnce(&mut Self, &OperationStatus<'_>) -> T,
    ) -> T {
        let (name, message) = (self.text(row.name), self.text(row.message));
        // The memory for lists may be in use for what the agent has.
        let (mut outer, mut inner) = ([0u8; LIST_BYTES], [0u8; LIST_BYTES]);
        let mut scratch = Scratch::new(&mut outer);
        let list = self.pool.write(&self.names, row.converted, "", &mut scratch, &mut inner);
        let operation = OperationRef { operation: &name, agent: self.agent, provider: "" };
        let wanted = self.is_kept(row);
        let status = OperationStatus {
            operation,
            state: row.state,
            uuid: wanted.then_some(row.sequence),
            message: &message,
            // What is too long to be told is what the agent is offered with anyway.
            converted: list.unwrap_or_default(),
        };
        work(self, &status)
    }

    /// The directories of volumes are as an operation wants them, or could not be made so.
    pub(super) fn volumes_done(
        &mut self,
        cx: &mut Cx<'_>,
        sequence: u64,
        failed: &str,
    ) -> Result<(), Refusal> {
        let found = self.operations.find(|row| row.sequence == sequence && row.busy);
        let (id, row) = found.ok_or(Refusal::UnknownOperation)?;
        if let Some(row) = self.operations.get_mut(id) {
            row.busy = false;
        }
        if !failed.is_empty() {
            self.volumes_failed(cx, id, &row, failed);
        }
        self.operations_durable(cx);
        Ok(())
    }

    /// Volumes that have no directories are no volumes; data that could not be removed is told.
    fn volumes_failed(&mut self, cx: &mut Cx<'_>, id: Id, row: &Operation, failed: &str) {
        let message = self.short_name(failed);
        let mut state = OperationState::Finished;
        let mut converted = row.converted;
        if row.makes && self.pool.contains(self.free, row.converted) {
            state = OperationState::Failed;
            let disk = self.pool.disk_of(&mut self.names, row.converted);
            let conversion = Conversion { consumed: row.converted, converted: disk };
            self.convert(&conversion);
            let Conversion { mut consumed, converted: mut disk } = conversion;
            self.pool.clear(&mut self.names, &mut consumed);
            self.pool.clear(&mut self.names, &mut disk);
            converted = Holding::EMPTY;
            self.link.diverged = true;
        }
        if let Some(row) = self.operations.get_mut(id) {
            (row.state, row.message, row.converted) = (state, message, converted);
        }
        self.record_operation(cx, id);
        self.show_resources(cx);
        if self.link.diverged {
            self.tell_totals(cx);
        }
    }

    /// Operations whose record is on disk and whose directories are made: told.
    pub(super) fn operations_durable(&mut self, cx: &mut Cx<'_>) {
        let written = self.counters.persisted;
        while let Some((id, row)) =
            self.operations.find(|row| !row.durable && !row.busy && row.record <= written)
        {
            if let Some(row) = self.operations.get_mut(id) {
                row.durable = true;
            }
            if self.is_kept(&row) {
                self.send_operation(cx, id);
                continue;
            }
            if !row.name.is_empty() {
                // An operator's: it asks its master again if this is lost.
                self.tell_operation(cx, &row);
            }
            self.remove_operation(id);
        }
    }

    fn tell_operation(&mut self, cx: &mut Cx<'_>, row: &Operation) -> bool {
        let framework = row.framework;
        self.with_operation_status(row, |agent, status| {
            let call = AgentCall::OperationUpdate { framework, status: *status };
            agent.tell_master(cx, Head::AgentCall(call), &[])
        })
    }

    /// Tells the end of an operation, and again until it is acknowledged.
    fn send_operation(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.operations.get(id).filter(|row| row.durable) else { return };
        if self.tell_operation(cx, &row)
            && let Some(row) = self.operations.get_mut(id)
        {
            row.tries = row.tries.saturating_add(1);
            let doubled = row.tries.saturating_sub(1).min(6);
            let wait = RETRY_MIN_US.checked_shl(doubled).unwrap_or(RETRY_MAX_US);
            self.operation_retries.set(id.index, cx.now.after(wait.min(RETRY_MAX_US)));
        }
    }

    /// Ends that were not acknowledged for too long.
    pub(super) fn send_operations_again(&mut self, cx: &mut Cx<'_>) {
        while cx.has_room()
            && let Some(slot) = self.operation_retries.expired(cx.now)
        {
            if let Some(id) = self.operations.id_at(slot) {
                self.send_operation(cx, id);
            }
        }
    }

    /// A new session hears what operators may ask for again before anything can be asked for.
    pub(super) fn tell_operators(&mut self, cx: &mut Cx<'_>) {
        for slot in 0..self.operations.high_water() {
            let known = self.operations.at(slot).filter(|(_, row)| row.framework.is_none());
            if let Some((id, _)) = known.filter(|_| cx.has_room()) {
                self.send_operation(cx, id);
            }
        }
    }

    /// A new session hears all ends that nobody acknowledged, as many as a step has room for; the
    /// rest when they are due again.
    pub(super) fn tell_operations(&mut self, cx: &mut Cx<'_>) {
        for slot in 0..self.operations.high_water() {
            let known = self.operations.at(slot).filter(|(_, row)| !row.framework.is_none());
            if let Some((id, _)) = known.filter(|_| cx.has_room()) {
                self.send_operation(cx, id);
            }
        }
    }

    /// A status of an operation that leaves nothing here.
    fn tell_dropped(&mut self, cx: &mut Cx<'_>, framework: FrameworkId, id: &str, message: &str) {
        if id.is_empty() {
            return;
        }
        let operation = OperationRef { operation: id, agent: self.agent, provider: "" };
        let (state, converted) = (OperationState::Dropped, Seq::EMPTY);
        let status = OperationStatus { operation, state, uuid: None, message, converted };
        let call = AgentCall::OperationUpdate { framework, status };
        self.tell_master(cx, Head::AgentCall(call), &[]);
    }

    /// Tells all that the agent has.
    pub(super) fn tell_totals(&mut self, cx: &mut Cx<'_>) {
        let (session, total) = (self.link.session, self.total);
        self.with_scratch(|agent, outer, inner| {
            let mut outer = Scratch::new(outer);
            let list = agent.pool.write(&agent.names, total, "", &mut outer, inner);
            let resources = list.unwrap_or_default();
            let call = AgentCall::Totals { session, resources };
            agent.tell_master(cx, Head::AgentCall(call), &[]);
        });
    }

    /// A scheduler took an operation's end in: nobody asks for it any more.
    pub(super) fn operation_acknowledged(
        &mut self,
        cx: &mut Cx<'_>,
        framework: FrameworkId,
        operation: OperationRef<'_>,
        sequence: u64,
    ) -> Result<(), Refusal> {
        let known = self.operation_of(framework, operation.operation);
        let known = known.filter(|(_, row)| row.sequence == sequence && row.durable);
        let (id, _) = known.ok_or(Refusal::UnknownOperation)?;
        let record = Record::OperationAcknowledged { framework, operation, sequence };
        self.persist(cx, record, true, &[]);
        self.remove_operation(id);
        Ok(())
    }

    /// Of operations that the master thinks are here, those that are not are told so.
    pub(super) fn reconcile_operations(
        &mut self,
        cx: &mut Cx<'_>,
        operations: &Seq<'_, OperationOf<'_>>,
    ) {
        for OperationOf { framework, operation } in operations.iter() {
            if self.operation_of(framework, operation).is_none() {
                let message = "The agent never heard of the operation";
                self.tell_dropped(cx, framework, operation, message);
            }
        }
    }

    fn operation_of(&self, framework: FrameworkId, name: &str) -> Option<(Id, Operation)> {
        let name = self.names.find(name).filter(|name| !name.is_empty())?;
        self.operations.find(|row| (row.framework, row.name) == (framework, name))
    }

    fn remove_operation(&mut self, id: Id) {
        let Some(mut row) = self.operations.remove(id) else { return };
        self.operation_retries.clear(id.index);
        self.pool.clear(&mut self.names, &mut row.converted);
        self.names.release_one(row.name);
        self.names.release_one(row.message);
    }

    // ---------------------------------------------------------------- recovery

    /// What a record says operations had made by then.
    pub(super) fn replay_made(&mut self, resources: &Seq<'_, Resource<'_>>) -> Result<(), Refusal> {
        self.pool.admit(&self.names, resources)?;
        let before = core::mem::replace(&mut self.made, Holding::EMPTY);
        // Volumes of before may be gone: kept, to look for what a crash left of them.
        let (mut before, mut gone) = (before, self.gone);
        self.pool.add(&mut self.names, &mut gone, &mut before);
        self.gone = gone;
        self.made = self.pool.take(&mut self.names, resources);
        Ok(())
    }

    /// What a record says became of an operation.
    pub(super) fn replay_operation(
        &mut self,
        framework: FrameworkId,
        sequence: u64,
        status: &OperationStatus<'_>,
    ) -> Result<(), Refusal> {
        let name = status.operation.operation;
        if let Some((id, _)) = self.operation_of(framework, name) {
            self.remove_operation(id);
        }
        self.pool.admit(&self.names, &status.converted)?;
        let converted = self.pool.take(&mut self.names, &status.converted);
        let row = Operation {
            framework,
            name: self.names.intern(name).map_err(|_| Refusal::NamesFull)?,
            sequence,
            state: status.state,
            message: self.short_name(status.message),
            converted,
            durable: true,
            ..bytemuck::Zeroable::zeroed()
        };
        self.operations.insert(row).map(|_| ()).map_err(|_| Refusal::OperationsFull)
    }

    pub(super) fn replay_acknowledged(
        &mut self,
        framework: FrameworkId,
        operation: &OperationRef<'_>,
    ) {
        if let Some((id, _)) = self.operation_of(framework, operation.operation) {
            self.remove_operation(id);
        }
    }

    /// Makes again of what the flags give what operations had made of it, when everything was read.
    ///
    /// `NotAvailable` when the flags give less: such an agent does not start, for it would have to
    /// give up what frameworks keep on it.
    pub(super) fn make_again(&mut self) -> Result<(), Refusal> {
        let (mut total, mut made) = (self.total, self.made);
        let mut again = self.pool.copy(&mut self.names, made)?;
        self.pool.make_again(&mut self.names, &mut total, &mut again)?;
        self.total = total;
        self.pool.clear(&mut self.names, &mut made);
        self.made = Holding::EMPTY;
        Ok(())
    }

    /// The directories of all volumes are made, if need be; what is left of others goes.
    pub(super) fn tidy_volumes(&mut self, cx: &mut Cx<'_>) {
        let mut gone = core::mem::replace(&mut self.gone, Holding::EMPTY);
        let total = self.total;
        self.pool.subtract_volumes(&mut self.names, &mut gone, total);
        for (of, order) in [(gone, VolumeOrder::Remove), (total, VolumeOrder::Make)] {
            self.with_scratch(|agent, outer, inner| {
                let mut outer = Scratch::new(outer);
                let volumes = agent.pool.write_volumes(&agent.names, of, &mut outer, inner);
                let volumes = volumes.unwrap_or_default();
                if !volumes.is_empty() {
                    cx.hand(Hand::Volumes { sequence: 0, order, volumes });
                }
            });
        }
        self.pool.clear(&mut self.names, &mut gone);
    }

    /// Writes down what operations have made, in a ledger that is made anew.
    pub(super) fn snapshot_made(&mut self, cx: &mut Cx<'_>) {
        self.with_made(|agent, resources| {
            if !resources.is_empty() {
                agent.persist(cx, Record::Resources { resources }, false, &[]);
            }
        });
    }

    /// Writes down an end that was not acknowledged.
    pub(super) fn snapshot_operation(&mut self, cx: &mut Cx<'_>, slot: u32) {
        let Some((_, row)) = self.operations.at(slot) else { return };
        let Operation { framework, sequence, .. } = row;
        if !self.is_kept(&row) {
            return;
        }
        self.with_operation_status(&row, |agent, status| {
            let record = Record::Operation { framework, sequence, status: *status };
            agent.persist(cx, record, false, &[]);
        });
    }
}
