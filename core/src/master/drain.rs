//! Agents that get nothing new: deactivated, being emptied, drained.
//!
//! Mesos: `DRAIN_AGENT`, `DEACTIVATE_AGENT`, `REACTIVATE_AGENT`, `Master::checkAndTransitionDrainingAgent`.
//! The agent ends its tasks itself and keeps in its ledger that it does; the master waits until the
//! last end was acknowledged. What an agent says after a restart of the master counts as if it had
//! been told here.

use super::rows::{Agent, AgentState, Emptying, Farewell, Framework};
use super::{Cx, Fact, Master};
use crate::Refusal;
use crate::allocator::Bar;
use crate::mutant::{Mutant, planted};
use crate::registry::rows::Emptied;
use crate::table::Id;
use crate::wire::agent::AgentEvent;
use crate::wire::call::Capability;
use crate::wire::task::TaskState;
use crate::wire::{AgentId, Session};

/// Grace of tasks while their agent is emptied, when nobody sets a bound.
const NO_BOUND: u64 = u64::MAX;

impl Master<'_> {
    /// Nothing new of an agent is offered, or it is again. What runs there goes on. O(offers of it).
    pub(super) fn deactivate(
        &mut self,
        cx: &mut Cx<'_>,
        agent: AgentId,
        deactivated: bool,
    ) -> Result<(), Refusal> {
        let id = self.known_agent(agent)?;
        let row = self.agents.get(id).ok_or(Refusal::UnknownAgent)?;
        if !deactivated && row.emptying == Emptying::Draining {
            return Err(Refusal::Draining);
        }
        if !deactivated && !row.deactivated {
            return Err(Refusal::NotDeactivated);
        }
        if !deactivated && row.emptying == Emptying::Drained {
            self.set_emptying(cx, id, Emptying::No);
            self.tell_reactivated(cx, id);
        }
        self.set_deactivated(cx, id, deactivated);
        Ok(())
    }

    /// DRAIN_AGENT: its tasks are ended, and nothing new is offered until it is reactivated. Said
    /// again, the newest bound and what follows count. O(offers of it).
    ///
    /// `Planned` for an agent whose machine has a maintenance window.
    pub(super) fn drain(
        &mut self,
        cx: &mut Cx<'_>,
        agent: AgentId,
        grace_us: Option<u64>,
        gone: bool,
    ) -> Result<(), Refusal> {
        let id = self.known_agent(agent)?;
        if self.machine_of(id).is_some() {
            return Err(Refusal::Planned);
        }
        self.empty(cx, id, grace_us, gone);
        self.order_drain(cx, id);
        self.check_drained(cx, id);
        Ok(())
    }

    /// An agent says that it is being emptied: an operator told another master, or this one before
    /// it was started again.
    pub(super) fn draining(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        session: Session,
        grace_us: Option<u64>,
        gone: bool,
    ) -> Result<(), Refusal> {
        let row = self.in_session(agent, session)?;
        if row.reactivated {
            self.tell_reactivated(cx, agent);
        } else if row.emptying == Emptying::No {
            self.empty(cx, agent, grace_us, gone);
            self.check_drained(cx, agent);
        }
        Ok(())
    }

    /// An agent says that it ends its tasks and goes: until then nothing of it is offered. O(offers of it).
    pub(super) fn leaving(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        session: Session,
    ) -> Result<(), Refusal> {
        self.in_session(agent, session)?;
        if let Some(row) = self.agents.get_mut(agent) {
            row.departing = true;
        }
        self.bar_closed(agent);
        self.rescind_agent_offers(cx, agent);
        Ok(())
    }

    /// An agent that was emptied hears that it is offered again, now or when it is back.
    fn tell_reactivated(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let there = self.agents.get_ref(agent).is_some_and(|row| row.state == AgentState::Active);
        if there {
            self.order(cx, agent, AgentEvent::Reactivate, &[]);
        }
        // Whether it heard that is known only when it does not say otherwise: it stays so.
        if let Some(row) = self.agents.get_mut(agent) {
            row.reactivated = true;
        }
    }

    pub(super) fn empty(&mut self, cx: &mut Cx<'_>, agent: Id, grace_us: Option<u64>, gone: bool) {
        if let Some(row) = self.agents.get_mut(agent) {
            (row.then_gone, row.grace_us) = (gone, grace_us.unwrap_or(NO_BOUND));
            row.reactivated = false;
        }
        self.set_emptying(cx, agent, Emptying::Draining);
        self.set_deactivated(cx, agent, true);
    }

    /// Tells an agent that is to be emptied, or is empty, so, once it has a session: it may never have
    /// heard it.
    pub(super) fn order_drain(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get(agent) else { return };
        if row.emptying != Emptying::No && row.state == AgentState::Active {
            let grace_us = Some(row.grace_us).filter(|us| *us != NO_BOUND);
            let event = AgentEvent::Drain { grace_us, gone: row.then_gone };
            self.order(cx, agent, event, &[]);
        }
    }

    /// An agent that is to be emptied is, when nothing of it is left to be told. O(1).
    pub(super) fn check_drained(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get(agent) else { return };
        let empty = row.state == AgentState::Active && row.tasks.is_empty();
        if row.emptying != Emptying::Draining || !empty {
            return;
        }
        self.set_emptying(cx, agent, Emptying::Drained);
        if row.then_gone {
            self.send_away(cx, agent, Farewell::Gone);
        }
    }

    /// What a framework is told of a task that is killed because its agent is emptied to be gone
    /// then, if it knows of partitions.
    pub(super) fn told_state(
        &self,
        agent: Id,
        framework: &Framework,
        state: TaskState,
    ) -> TaskState {
        let aware = framework.capabilities & Capability::PartitionAware.bit() != 0;
        let goes = self
            .agents
            .get_ref(agent)
            .is_some_and(|row| row.emptying == Emptying::Draining && row.then_gone);
        if goes && aware && state == TaskState::Killed { TaskState::GoneByOperator } else { state }
    }

    fn set_emptying(&mut self, cx: &mut Cx<'_>, agent: Id, emptying: Emptying) {
        let Some(row) = self.agents.get_mut(agent) else { return };
        row.emptying = emptying;
        let (grace_us, gone) = (row.grace_us, row.then_gone);
        let grace_us = Some(grace_us).filter(|us| *us != NO_BOUND);
        cx.fact(Fact::AgentEmptying { row: agent, emptying, grace_us, gone });
        self.keep_agent(cx, agent);
        self.bar_closed(agent);
    }

    pub(super) fn set_deactivated(&mut self, cx: &mut Cx<'_>, agent: Id, deactivated: bool) {
        if let Some(row) = self.agents.get_mut(agent) {
            row.deactivated = deactivated;
        }
        cx.fact(Fact::AgentDeactivated { row: agent, deactivated });
        self.keep_agent(cx, agent);
        self.bar_closed(agent);
        if deactivated && !planted(Mutant::OffersTheClosed) {
            self.rescind_agent_offers(cx, agent);
        }
    }

    /// Tells the allocator, which forgets it when the agent registers anew.
    pub(super) fn bar_closed(&mut self, agent: Id) {
        let Some(row) = self.agents.get(agent) else { return };
        let emptied = row.emptying != Emptying::No;
        let deactivated = row.deactivated && !emptied;
        self.allocator.set_barred(&self.pool, agent.index, Bar::Leaving, row.departing);
        self.allocator.set_barred(&self.pool, agent.index, Bar::Draining, emptied);
        self.allocator.set_barred(&self.pool, agent.index, Bar::Deactivated, deactivated);
    }

    /// An agent that was not sent away.
    fn known_agent(&self, agent: AgentId) -> Result<Id, Refusal> {
        let id = self.agent_by_id(agent).ok_or(Refusal::UnknownAgent)?;
        let gone = self.agents.get_ref(id).is_none_or(|row| row.state == AgentState::Gone);
        if gone { Err(Refusal::UnknownAgent) } else { Ok(id) }
    }
}

impl Agent {
    /// How it is emptied, while it is.
    pub(super) fn emptied(&self) -> Emptied {
        Emptied { grace_us: Some(self.grace_us).filter(|us| *us != NO_BOUND), gone: self.then_gone }
    }
}
