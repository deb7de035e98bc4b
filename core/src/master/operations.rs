//! Operations on resources: reserve, create and their likes, by frameworks and by operators.
//!
//! Mesos: `Master::_accept`, `Master::Http::_operation`, `validation::operation`. An operation is
//! done here at once, so that what follows it in an ACCEPT can use what it makes, and ordered from
//! the agent, which keeps it: what an agent has is its own word. One that the agent could not do is
//! told by it, and so is all it has then. A framework that named its operation hears its end until
//! it acknowledges it; an operator is answered when the agent has it on disk.

use core::mem;

use super::launch::Taking;
use super::rows::{AgentState, OF_AGENT, Operation};
use super::{Cx, Fact, Master, OFFERS_PER_AGENT_MAX, Output, REFUSE_DEFAULT_US};
use crate::Refusal;
use crate::index::after;
use crate::limits::ONCE_NAME as ONCE;
use crate::resources::Holding;
use crate::resources::change::{Conversion, Misfit, Step, misfit};
use crate::resources::made::Planned;
use crate::table::Id;
use crate::wire::agent::{AgentEvent, OperationOf, OperationState, OperationStatus};
use crate::wire::call::{Capability, Operation as WireOperation};
use crate::wire::operator::OperatorEvent;
use crate::wire::resource::Resource;
use crate::wire::{AgentId, FrameworkId, Head, OfferId, Scratch, Seq};

/// Bytes for the list of an operation that does not bring one: a volume and a disk.
const LIST_BYTES: usize = 4096;
/// The protocol that knows operations.
const SINCE: u16 = 3;

/// Why an operation is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) refusal: Refusal,
    pub(super) message: &'static str,
}

impl From<Refusal> for Unfit {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, message: refusal.sentence() }
    }
}

impl Unfit {
    /// Why a list is not changed, as exactly as it is known.
    fn about(refusal: Refusal, planned: &Planned<'_>) -> Self {
        let Planned { step, ref list, ref source, .. } = *planned;
        let message = if refusal == Refusal::Exists {
            Some("the agent has a persistent volume of that persistence id")
        } else {
            misfit(step, source, list).map(Misfit::sentence)
        };
        Self { refusal, message: message.unwrap_or(refusal.sentence()) }
    }

    const fn bad(message: &'static str) -> Self {
        Self { refusal: Refusal::BadOperation, message }
    }
}

/// Who hears what becomes of an operation.
enum Taker {
    /// A framework, by its slot.
    Framework { slot: u32 },
    /// An operator, on its connection.
    Operator { conn: Id, ticket: u32 },
}

/// Whose an operation is, and where it is done.
struct Done<'o> {
    agent: Id,
    /// The framework, and the client that holds what is changed; none: an operator's, of what is
    /// free.
    by: Option<(Id, u32)>,
    operation: WireOperation<'o>,
    planned: Planned<'o>,
    row: Option<Id>,
}

impl Master<'_> {
    /// One operation of an ACCEPT, or why it is not done. O(list · (identities + total) + tasks of
    /// the agent).
    pub(super) fn operate(
        &mut self,
        cx: &mut Cx<'_>,
        taking: &mut Taking,
        operation: &WireOperation<'_>,
    ) {
        let mut memory = [0u8; LIST_BYTES];
        let Ok(Some(planned)) = Planned::of(operation, &mut memory) else {
            let message = "the volume's description is too long";
            return self.refuse_operation(
                cx,
                taking.framework,
                taking.agent,
                operation.id(),
                message,
            );
        };
        let checked = self
            .check_owner(taking, &planned)
            .and_then(|()| self.check_planned(taking.agent, &[taking.rest], &planned));
        if let Err(Unfit { refusal, message }) = checked {
            let lacks = refusal == Refusal::NotAvailable;
            let message =
                if lacks { "the offers do not hold all of these resources" } else { message };
            return self.refuse_operation(cx, taking.framework, taking.agent, planned.id, message);
        }
        let taker = Taker::Framework { slot: taking.framework.index };
        let row = if planned.id.is_empty() {
            None
        } else {
            self.add_operation(planned.id, taker, taking.agent)
        };
        let by = Some((taking.framework, taking.client));
        let done = Done { agent: taking.agent, by, operation: *operation, planned, row };
        let conversion = self.do_operation(cx, &done);
        self.keep_in_hand(taking, planned.step, conversion);
    }

    /// An operator's operation, on what nobody uses: offers of it are rescinded, as few as need be,
    /// and answered when the agent has it on disk. O(offers² · list · identities).
    pub(super) fn operate_for(
        &mut self,
        cx: &mut Cx<'_>,
        (conn, ticket): (Id, u32),
        agent: AgentId,
        operation: &WireOperation<'_>,
    ) -> Result<(), Unfit> {
        let mut memory = [0u8; LIST_BYTES];
        let planned = Planned::of(operation, &mut memory).ok().flatten();
        let planned = planned.ok_or(Refusal::BadOperation)?;
        let agent = self.agent_by_id(agent).ok_or(Refusal::UnknownAgent)?;
        if self.operations.room() == 0 {
            return Err(Refusal::OperationsFull.into());
        }
        if !self.names.has_room_for([operation.id()]) {
            return Err(Refusal::NamesFull.into());
        }
        let offers = self.offers_needed(agent, &planned)?;
        for offer in offers {
            self.rescind(cx, offer, Some(REFUSE_DEFAULT_US));
        }
        let row = self.add_operation(operation.id(), Taker::Operator { conn, ticket }, agent);
        let id = row.map(number).unwrap_or_default();
        // One that is done once, however often it is asked for, has a name that its agent keeps.
        let named = if operation.id().is_empty() { operation.named(&id) } else { *operation };
        let done = Done { agent, by: None, operation: named, planned, row };
        let mut conversion = self.do_operation(cx, &done);
        self.clear(&mut conversion);
        self.agent_resources_fact(cx, agent);
        Ok(())
    }

    /// The offers that must end for an operation to be done, as few as need be.
    fn offers_needed(
        &self,
        agent: Id,
        planned: &Planned<'_>,
    ) -> Result<heapless::Vec<Id, { OFFERS_PER_AGENT_MAX as usize }>, Unfit> {
        const MOST: usize = OFFERS_PER_AGENT_MAX as usize;
        let mut needed = heapless::Vec::<Id, MOST>::new();
        let mut from = heapless::Vec::<Holding, { MOST + 1 }>::new();
        let mut next = self.agents.get_ref(agent).and_then(|row| row.offers.first(&self.offers));
        while let Some(id) = next {
            next = after(&self.offers, OF_AGENT, id);
            let held = self.offers.get_ref(id).map_or(Holding::EMPTY, |row| row.held);
            let pushed = needed.push(id).is_ok() && from.push(held).is_ok();
            invariant!(pushed, "an agent has more offers than it may");
        }
        let free = self.allocator.agent_holdings(agent.index).map_or(Holding::EMPTY, |has| has.1);
        let _ = from.push(free);
        self.check_planned(agent, &from, planned)?;
        let mut at = 0usize;
        while at < needed.len() {
            // What an offer of it holds is not needed if all the rest is enough.
            let held = mem::take(from.get_mut(at).ok_or(Refusal::NotAvailable)?);
            if self.check_planned(agent, &from, planned).is_ok() {
                let _ = (needed.remove(at), from.remove(at));
                continue;
            }
            if let Some(place) = from.get_mut(at) {
                *place = held;
            }
            at = at.saturating_add(1);
        }
        Ok(needed)
    }

    /// What only the framework's own operations must be. Mesos: `validation::operation::validate`.
    fn check_owner(&self, taking: &Taking, planned: &Planned<'_>) -> Result<(), Unfit> {
        let framework = self.frameworks.get_ref(taking.framework);
        let framework = framework.ok_or(Refusal::UnknownFramework)?;
        let named = !planned.id.is_empty();
        if named && self.operation_named(taking.framework, planned.id).is_some() {
            return Err(Refusal::Exists.into());
        }
        if named && self.operations.room() == 0 {
            return Err(Refusal::OperationsFull.into());
        }
        let has = |capability: Capability| framework.capabilities & capability.bit() != 0;
        let role = self.allocator.role_of(&self.names, taking.client);
        let principal = self.text(framework.principal);
        let other = |told: &str| !principal.is_empty() && told != principal.as_str();
        for resource in planned.list.iter() {
            let traits = &resource.traits;
            let innermost = traits.reservations.iter().last();
            if traits.reservations.len() > 1 && !has(Capability::ReservationRefinement) {
                return Err(Unfit::bad(
                    "a refined reservation needs the RESERVATION_REFINEMENT capability",
                ));
            }
            if traits.shared && !has(Capability::SharedResources) {
                return Err(Unfit::bad("a shared volume needs the SHARED_RESOURCES capability"));
            }
            match planned.step {
                Step::Reserve | Step::Move
                    if innermost.is_some_and(|layer| layer.role != role.as_str()) =>
                {
                    return Err(Unfit::bad(
                        "a reservation must be for the role that the resources are allocated to",
                    ));
                }
                Step::Reserve | Step::Move
                    if innermost.is_some_and(|layer| other(layer.principal)) =>
                {
                    return Err(Unfit::bad(
                        "a reservation must name the principal of its framework",
                    ));
                }
                Step::Create if traits.disk.is_some_and(|disk| other(disk.principal)) => {
                    return Err(Unfit::bad("a volume must name the principal of its framework"));
                }
                Step::Reserve
                | Step::Create
                | Step::Unreserve
                | Step::Destroy
                | Step::Grow
                | Step::Move
                | Step::Shrink => {}
            }
        }
        Ok(())
    }

    /// Everything that can keep an operation on what `from` has together from being done.
    fn check_planned(
        &self,
        agent: Id,
        from: &[Holding],
        planned: &Planned<'_>,
    ) -> Result<(), Unfit> {
        let Planned { step, list, source, .. } = *planned;
        let row = self.agents.get_ref(agent).ok_or(Refusal::UnknownAgent)?;
        if row.state != AgentState::Active {
            return Err(Refusal::AgentAway.into());
        }
        if self.conn(row.conn).is_none_or(|conn| conn.version < SINCE) {
            return Err(Unfit {
                refusal: Refusal::Unsupported,
                message: "the agent is of an older release, which has no operations",
            });
        }
        if list.iter().any(|resource| !resource.traits.provider.is_empty()) {
            return Err(Unfit::bad("resources of a provider are not changed by operations here"));
        }
        if step == Step::Destroy && self.is_used(agent, &list) {
            return Err(Refusal::InUse.into());
        }
        let total = self.allocator.agent_holdings(agent.index).map_or(Holding::EMPTY, |has| has.0);
        let checked = if step == Step::Move {
            self.pool.check_move(&self.names, &source, &list, from)
        } else {
            self.pool.check_change(&self.names, step, &list, from, total)
        };
        checked.map_err(|refusal| Unfit::about(refusal, planned))?;
        if self.pool.need(&self.names, &list).saturating_mul(8) > self.pool.room() {
            return Err(Refusal::ResourcesFull.into());
        }
        if list.iter().any(|one| one.traits.shared) && list.len() > self.allocator.claims_room() {
            return Err(Refusal::ResourcesFull.into());
        }
        let layers = list.iter().flat_map(|resource| resource.traits.reservations.iter());
        self.allocator.has_room_for_paths(&self.names, layers.map(|layer| layer.role))?;
        // All that an agent has goes in one head, in its registration and to readers.
        let bytes = self.pool.wire_bytes(&self.names, total);
        let bytes = bytes.saturating_add(list.bytes().saturating_mul(2)).saturating_add(1024);
        if bytes > self.head_max(row.conn) {
            return Err(Refusal::ResourcesFull.into());
        }
        Ok(())
    }

    /// True when a task or an executor on an agent has any of `list`.
    fn is_used(&self, agent: Id, list: &Seq<'_, Resource<'_>>) -> bool {
        let Some(row) = self.agents.get_ref(agent) else { return false };
        let has = |held: Holding| self.pool.has_any(&self.names, held, list);
        let mut next = row.tasks.first(&self.tasks);
        while let Some(id) = next {
            if self.tasks.get_ref(id).is_some_and(|task| task.charged && has(task.held)) {
                return true;
            }
            next = after(&self.tasks, OF_AGENT, id);
        }
        let mut next = row.executors.first(&self.executors);
        while let Some(id) = next {
            if self.executors.get_ref(id).is_some_and(|executor| has(executor.held)) {
                return true;
            }
            next = after(&self.executors, OF_AGENT, id);
        }
        false
    }

    /// Does an operation that was checked, and orders it from the agent.
    fn do_operation(&mut self, cx: &mut Cx<'_>, done: &Done<'_>) -> Conversion {
        let Done { agent, by, planned, row, .. } = *done;
        if planned.step == Step::Destroy {
            self.rescind_shared(cx, agent, &planned.list);
        }
        let Planned { step, source, list, .. } = planned;
        let conversion = self.pool.change_to(&mut self.names, step, &source, &list);
        let client = by.map(|(_, client)| client);
        let (allocator, mut world) = self.world();
        allocator.convert(&mut world, agent.index, client, &conversion);
        let framework = by.and_then(|(id, _)| self.frameworks.get_ref(id)).map(|row| row.id);
        self.send_operation(cx, agent, framework.unwrap_or(FrameworkId::NONE), &done.operation);
        if let (Some(row), Some((framework, _))) = (row, by) {
            self.with_scratch(|_, outer, _| {
                let list = Scratch::new(outer).seq::<WireOperation<'static>>([done.operation]);
                let operation = list.unwrap_or_default();
                cx.fact(Fact::Operation { row, framework, agent, operation });
            });
        }
        conversion
    }

    /// A shared volume that is destroyed may be in offers to others.
    fn rescind_shared(&mut self, cx: &mut Cx<'_>, agent: Id, list: &Seq<'_, Resource<'_>>) {
        let mut next = self.agents.get_ref(agent).and_then(|row| row.offers.first(&self.offers));
        while let Some(id) = next {
            next = after(&self.offers, OF_AGENT, id);
            let held = self.offers.get_ref(id).map_or(Holding::EMPTY, |row| row.held);
            if self.pool.has_any(&self.names, held, list) {
                self.rescind(cx, id, None);
            }
        }
    }

    fn send_operation(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        framework: FrameworkId,
        operation: &WireOperation<'_>,
    ) {
        let (fence, agents) = (self.fence(), self.agents.get(agent));
        let session = agents.map(|row| row.session).unwrap_or_default();
        self.with_scratch(|master, outer, _| {
            let list = Scratch::new(outer).seq::<WireOperation<'static>>([*operation]);
            invariant!(list.is_ok(), "an operation that was measured does not fit a head");
            let operations = list.unwrap_or_default();
            let event = AgentEvent::Operate { fence, session, framework, operations };
            master.order(cx, agent, event, &[]);
        });
    }

    /// What is left of the offers after an operation. What a volume is resized to is not for what
    /// follows in the same call, as in Mesos.
    fn keep_in_hand(&mut self, taking: &mut Taking, step: Step, mut conversion: Conversion) {
        let (pool, names) = (&mut self.pool, &mut self.names);
        let resizes = matches!(step, Step::Grow | Step::Shrink);
        let taken = if resizes {
            let later = mem::replace(&mut conversion.converted, Holding::EMPTY);
            let taken = pool.apply(names, &mut taking.rest, &conversion);
            let mut later = later;
            pool.add(names, &mut taking.later, &mut later);
            taken
        } else {
            pool.apply(names, &mut taking.rest, &conversion)
        };
        invariant!(taken.is_ok(), "an operation that was checked is not of its offers");
        pool.subtract_what_is_there(names, &mut taking.fresh, conversion.consumed);
        pool.add(names, &mut taking.fresh, &mut conversion.converted);
        taking.changed = true;
        self.clear(&mut conversion);
    }

    fn clear(&mut self, conversion: &mut Conversion) {
        for holding in [&mut conversion.consumed, &mut conversion.converted] {
            self.pool.clear(&mut self.names, holding);
        }
    }

    /// What is left of the offers of an ACCEPT is free: what operations made of it without a filter,
    /// the rest with the one that the framework asked for.
    pub(super) fn give_rest(
        &mut self,
        cx: &mut Cx<'_>,
        taking: &mut Taking,
        refuse_us: Option<u64>,
    ) {
        let Taking { agent, client, .. } = *taking;
        let (pool, names) = (&mut self.pool, &mut self.names);
        let mut made = pool.common(names, taking.rest, taking.fresh);
        pool.subtract_what_is_there(names, &mut taking.rest, made);
        pool.clear(names, &mut taking.fresh);
        pool.add(names, &mut made, &mut taking.later);
        self.recover(cx.now, agent.index, client, taking.rest, refuse_us);
        taking.rest = Holding::EMPTY;
        self.free_made(cx, taking, made);
    }

    /// What operations made is free, without a filter.
    fn free_made(&mut self, cx: &mut Cx<'_>, taking: &Taking, made: Holding) {
        if taking.changed {
            let (allocator, mut world) = self.world();
            allocator.recover(&mut world, taking.agent.index, taking.client, made, None);
            self.agent_resources_fact(cx, taking.agent);
        }
    }

    /// What is left after a part of an ACCEPT stays with the first of its offers, for the next part.
    /// What volumes were resized to is for no part of it, so it is free at once. What operations of
    /// this part made is offered like the rest of the offers from now on: the filter of the last part
    /// is for that, too, where it would not be in an ACCEPT of one part.
    pub(super) fn keep_rest(
        &mut self,
        cx: &mut Cx<'_>,
        taking: &mut Taking,
        offers: &Seq<'_, OfferId>,
    ) {
        self.pool.clear(&mut self.names, &mut taking.fresh);
        if let Some(offer) = offers.first()
            && let Some(row) = self.offers.get_mut(offer.id)
        {
            row.held = mem::replace(&mut taking.rest, Holding::EMPTY);
        }
        offers.iter().for_each(|offer| self.offer_fact(cx, offer.id));
        let later = mem::replace(&mut taking.later, Holding::EMPTY);
        self.free_made(cx, taking, later);
    }

    /// Tells readers what an agent has.
    pub(super) fn agent_resources_fact(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let total = self.allocator.agent_holdings(agent.index).map_or(Holding::EMPTY, |has| has.0);
        self.with_scratch(|master, outer, inner| {
            let mut outer = Scratch::new(outer);
            let resources = master.pool.write(&master.names, total, "", &mut outer, inner);
            let resources = resources.unwrap_or_default();
            cx.fact(Fact::AgentResources { row: agent, resources });
        });
    }

    // ------------------------------------------------------------------- rows

    fn add_operation(&mut self, id: &str, taker: Taker, agent: Id) -> Option<Id> {
        let name = self.names.intern(id).ok()?;
        let session = self.agents.get_ref(agent).map(|row| row.session).unwrap_or_default();
        let mut row =
            Operation { name, agent: agent.index, session, ..bytemuck::Zeroable::zeroed() };
        match taker {
            Taker::Framework { slot } => row.framework = slot.saturating_add(1),
            Taker::Operator { conn, ticket } => (row.conn, row.ticket) = (conn, ticket),
        }
        self.operations.insert(row).ok()
    }

    pub(super) fn operation_named(&self, framework: Id, id: &str) -> Option<Id> {
        let name = self.names.find(id).filter(|name| !name.is_empty())?;
        let slot = framework.index.saturating_add(1);
        let found = self.operations.find(|row| (row.framework, row.name) == (slot, name));
        found.map(|(id, _)| id)
    }

    /// The row of an operator's operation, by what its agent calls it.
    pub(super) fn operators_operation(&self, called: &str) -> Option<Id> {
        if called.len() < ONCE {
            return row_of(called);
        }
        let name = self.names.find(called)?;
        let found = self.operations.find(|row| (row.framework, row.name) == (0, name));
        found.map(|(id, _)| id)
    }

    pub(super) fn remove_operation(&mut self, cx: &mut Cx<'_>, id: Id) {
        let Some(row) = self.operations.remove(id) else { return };
        self.names.release_one(row.name);
        if row.framework != 0 {
            cx.fact(Fact::OperationGone { row: id });
        }
    }

    /// Operations of a framework that is no more.
    pub(super) fn forget_operations(&mut self, cx: &mut Cx<'_>, framework: Id) {
        let slot = framework.index.saturating_add(1);
        while let Some((id, _)) = self.operations.find(|row| row.framework == slot) {
            self.remove_operation(cx, id);
        }
    }

    // ------------------------------------------------------------- what is told

    pub(super) fn refuse_operation(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        agent: Id,
        id: &str,
        message: &str,
    ) {
        let state = OperationState::Error;
        self.tell_operation(cx, framework, Some(agent), id, state, message);
    }

    /// A status of an operation that the master makes itself: nothing to acknowledge.
    pub(super) fn tell_operation(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        agent: Option<Id>,
        id: &str,
        state: OperationState,
        message: &str,
    ) {
        if id.is_empty() {
            return;
        }
        let agent = agent.and_then(|agent| self.agents.get_ref(agent));
        let agent = agent.map_or(AgentId::NONE, |row| row.id);
        let operation = crate::wire::agent::OperationRef { operation: id, agent, provider: "" };
        let status =
            OperationStatus { operation, state, uuid: None, message, converted: Seq::EMPTY };
        self.tell(cx, framework, crate::wire::event::Event::OperationUpdate { status }, &[]);
    }

    pub(super) fn answer_operator(
        &self,
        cx: &mut Cx<'_>,
        row: &Operation,
        result: Result<(), Refusal>,
        message: &str,
    ) {
        let there = self.conn(row.conn).is_some();
        if row.ticket != 0 && there {
            let reply = OperatorEvent::Reply { ticket: row.ticket, result, message };
            cx.emit(Output::Send { conn: row.conn, head: Head::OperatorEvent(reply) });
        }
    }

    /// An agent is not there to say what became of operations that operators wait for.
    pub(super) fn give_up_waiting(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let waits = |row: &Operation| row.agent == agent.index && row.framework == 0;
        while let Some((id, row)) = self.operations.find(waits) {
            let message = "the agent went away before it said whether it did this: see what it has";
            self.answer_operator(cx, &row, Err(Refusal::OutcomeUnknown), message);
            self.remove_operation(cx, id);
        }
    }

    /// An agent is given up: its operations are told so, and come back with it.
    pub(super) fn lose_operations(&mut self, cx: &mut Cx<'_>, agent: Id, gone: bool) {
        self.give_up_waiting(cx, agent);
        while let Some((id, row)) = self.operations.find(|row| row.agent == agent.index) {
            let name = self.text(row.name);
            let (state, message) = if gone {
                (OperationState::GoneByOperator, "The agent was sent away by an operator")
            } else {
                (OperationState::Unreachable, "The agent did not answer for too long, or left")
            };
            if let Some(framework) = framework_slot(&row).and_then(|at| self.frameworks.id_at(at))
                && !row.state.is_terminal()
            {
                self.tell_operation(cx, framework, Some(agent), &name, state, message);
            }
            self.remove_operation(cx, id);
        }
    }

    /// An agent is back: whether it has heard of what was ordered in an older session is asked.
    pub(super) fn ask_for_operations(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let session = self.agents.get_ref(agent).map(|row| row.session).unwrap_or_default();
        for slot in 0..self.operations.high_water() {
            let Some((_, row)) = self.operations.at(slot) else { continue };
            let here = row.agent == agent.index && row.session != session;
            let of = framework_slot(&row).and_then(|at| self.frameworks.row(at)).map(|row| row.id);
            let (true, Some(framework)) = (here && row.state == OperationState::Pending, of) else {
                continue;
            };
            let name = self.text(row.name);
            self.with_scratch(|master, outer, _| {
                let one = OperationOf { framework, operation: &name };
                let list = Scratch::new(outer).seq::<OperationOf<'static>>([one]);
                let operations = list.unwrap_or_default();
                master.order(cx, agent, AgentEvent::ReconcileOperations { operations }, &[]);
            });
        }
    }
}

/// The slot of the framework whose an operation is.
pub(super) fn framework_slot(row: &Operation) -> Option<u32> {
    row.framework.checked_sub(1)
}

/// What the agent calls an operator's operation: its row, as text.
fn number(id: Id) -> heapless::String<16> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = heapless::String::new();
    for byte in [id.generation, id.index].into_iter().flat_map(u32::to_be_bytes) {
        for digit in [byte >> 4, byte & 15] {
            let digit = DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0');
            let _ = text.push(char::from(digit));
        }
    }
    text
}

/// The row that an agent calls so, unless it has a name.
fn row_of(number: &str) -> Option<Id> {
    let (generation, index) = number.split_at_checked(8)?;
    let part = |text: &str| u32::from_str_radix(text, 16).ok();
    Some(Id { index: part(index)?, generation: part(generation)? })
}
