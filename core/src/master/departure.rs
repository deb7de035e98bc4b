//! Agents that go: away for a while, lost, in good order, or because an operator says so.
//!
//! A broken connection is no evidence of a death. Whoever was silent for too long, left, or was
//! sent away is given up: its tasks are told so, over as many ticks as it takes. Mesos:
//! `Master::exited`, `markUnreachable`, `markGone`, `removeSlave`.

use super::image::key_hash;
use super::rows::{Agent, AgentState, BY_ID, BY_KEY, Farewell};
use super::{CHORE_BATCH, Cx, Fact, Master, Output};
use crate::Refusal;
use crate::mutant::{Mutant, planted};
use crate::resources::Holding;
use crate::table::Id;
use crate::time::Time;
use crate::wire::agent::AgentEvent;
use crate::wire::call::Capability;
use crate::wire::event::Event;
use crate::wire::link::Parting;
use crate::wire::task::{Detail, Exit, Reason, Source, Status, TaskState};
use crate::wire::{AgentId, Session};

impl Master<'_> {
    /// An agent goes away for good, in good order.
    pub(super) fn leave(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        session: Session,
    ) -> Result<(), Refusal> {
        self.in_session(agent, session)?;
        if self.was_sent_away(agent) {
            // It has done what it was told.
            self.hang_up(cx, agent);
            return Ok(());
        }
        self.lose(cx, agent, Farewell::Left);
        Ok(())
    }

    /// Its connection is gone. Its tasks live on; it is given until `since` + A + 2T to come back.
    pub(super) fn agent_away(&mut self, cx: &mut Cx<'_>, agent: Id, since: Time) {
        let Some(row) = self.agents.get_mut(agent) else { return };
        row.conn = Id::NONE;
        let (state, has_chore) = (row.state, row.has_chore());
        self.give_up_waiting(cx, agent);
        let given_up = [AgentState::Losing, AgentState::Unreachable, AgentState::Gone];
        if given_up.contains(&state) {
            return;
        }
        if has_chore {
            self.counters.chores = self.counters.chores.saturating_sub(1);
        }
        self.allocator.set_agent_active(&self.pool, agent.index, false);
        self.rescind_agent_offers(cx, agent);
        self.set_agent_state(cx, agent, AgentState::Away);
        let margin = self.config.timing_us.saturating_mul(2);
        // A clock of another life, or none, gives the agent its whole time from now on.
        let since = since.min(cx.now);
        let due = since.after(self.config.agent_timeout_us).after(margin);
        self.agent_timers.set(agent.index, due);
    }

    pub(super) fn expire_agents(&mut self, cx: &mut Cx<'_>) {
        while cx.has_room()
            && self.counters.next_removal <= cx.now
            && let Some(slot) = self.agent_timers.expired(cx.now)
        {
            if let Some(agent) = self.agents.id_at(slot) {
                self.lose_silent(cx, agent);
            }
        }
    }

    /// Gives an agent up: its tasks are told so, over as many ticks as it takes. Whoever is given up
    /// already is so for the newest reason, but never comes back from being gone.
    pub(super) fn lose(&mut self, cx: &mut Cx<'_>, agent: Id, farewell: Farewell) {
        self.rescind_agent_offers(cx, agent);
        self.forget_inverse_of_agent(cx, agent);
        let Some(row) = self.agents.get_mut(agent) else { return };
        let renewed = row.farewell != Farewell::Gone && row.farewell != farewell;
        if row.farewell != Farewell::Gone {
            row.farewell = farewell;
        }
        match row.state {
            AgentState::Losing | AgentState::Gone => {
                if renewed {
                    self.mark(cx, agent);
                }
                return;
            }
            AgentState::Unreachable => {
                if farewell != Farewell::Silent {
                    self.mark(cx, agent);
                    self.set_agent_state(cx, agent, AgentState::Gone);
                }
                return;
            }
            // It has a place among the long work already.
            AgentState::Settling => {}
            AgentState::Recovered
            | AgentState::Registering
            | AgentState::Confirming
            | AgentState::Active
            | AgentState::Away => {
                self.counters.chores = self.counters.chores.saturating_add(1);
            }
        }
        self.agent_timers.clear(agent.index);
        self.allocator.set_agent_active(&self.pool, agent.index, false);
        self.set_agent_state(cx, agent, AgentState::Losing);
        self.mark(cx, agent);
    }

    pub(super) fn lose_some(&mut self, cx: &mut Cx<'_>, agent: Id) -> bool {
        for _ in 0..CHORE_BATCH {
            let first = self.agents.get_ref(agent).and_then(|row| row.tasks.first(&self.tasks));
            let Some(task) = first else {
                self.lost(cx, agent);
                return true;
            };
            let (state, reason, message) = match self.farewell(agent) {
                Farewell::Silent => {
                    let message = "The agent did not answer for too long";
                    (TaskState::Unreachable, Reason::AgentRemoved, message)
                }
                Farewell::Left => {
                    (TaskState::Gone, Reason::AgentRemoved, "The agent has left the cluster")
                }
                Farewell::Gone => {
                    let message = "The agent was marked gone by an operator";
                    (TaskState::GoneByOperator, Reason::AgentRemovedByOperator, message)
                }
                // Whatever the framework knows of partitions, as in Mesos.
                Farewell::Down => {
                    let message = "The agent's machine is down for maintenance";
                    (TaskState::Lost, Reason::AgentRemoved, message)
                }
            };
            self.lose_task(cx, task, reason, state, message);
        }
        false
    }

    /// True for an agent that an operator sent away, itself or with its machine.
    pub(super) fn was_sent_away(&self, agent: Id) -> bool {
        self.agents.get_ref(agent).is_some_and(|row| {
            matches!(row.state, AgentState::Losing | AgentState::Gone)
                && matches!(row.farewell, Farewell::Gone | Farewell::Down)
        })
    }

    fn farewell(&self, agent: Id) -> Farewell {
        self.agents.get_ref(agent).map_or(Farewell::Silent, |row| row.farewell)
    }

    /// Ends an agent's connection, after everything that it was to be told.
    fn hang_up(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get_mut(agent) else { return };
        let Some(conn) = core::mem::replace(&mut row.conn, Id::NONE).some() else { return };
        cx.emit(Output::Close { conn, reason: Parting::Leaving, message: "" });
        if let Some(conn) = self.conn_mut(conn) {
            conn.who = Id::NONE;
        }
    }

    /// Sends an agent away: it ends everything and itself, and its tasks are told lost, as soon as the
    /// registry has it.
    pub(super) fn send_away(&mut self, cx: &mut Cx<'_>, agent: Id, farewell: Farewell) {
        self.lose(cx, agent, farewell);
        self.shut_down(cx, agent);
    }

    /// Tells an agent that was sent away to end itself. Whoever leads next is to know of it, so not
    /// before the registry does.
    pub(super) fn shut_down(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let waits = |row: &Agent| row.marks > 0;
        if !self.was_sent_away(agent) || self.agents.get_ref(agent).is_some_and(waits) {
            return;
        }
        let message = match self.farewell(agent) {
            Farewell::Gone => "an operator marked this agent gone",
            Farewell::Down => "the machine goes down for maintenance",
            Farewell::Silent | Farewell::Left => return,
        };
        self.order(cx, agent, AgentEvent::Shutdown { message }, &[]);
    }

    /// MARK_AGENT_GONE: it will not come back, an operator says; nor may it (Mesos: `markGone`).
    /// Once more for one that is gone already changes nothing.
    pub(super) fn mark_gone(&mut self, cx: &mut Cx<'_>, agent: AgentId) -> Result<(), Refusal> {
        let id = self.agent_by_id(agent).ok_or(Refusal::UnknownAgent)?;
        self.send_away(cx, id, Farewell::Gone);
        Ok(())
    }

    /// Nothing of an agent is left but its name, for those who ask.
    fn lost(&mut self, cx: &mut Cx<'_>, agent: Id) {
        while let Some(executor) =
            self.agents.get_ref(agent).and_then(|row| row.executors.first(&self.executors))
        {
            self.remove_executor(cx, executor);
        }
        let gone = self.farewell(agent) == Farewell::Gone;
        self.lose_operations(cx, agent, gone);
        let (allocator, mut world) = self.world();
        allocator.remove_agent(&mut world, agent.index, false);
        let Some(row) = self.agents.get(agent) else { return };
        let mut total = row.total;
        self.pool.clear(&mut self.names, &mut total);
        if let Some(row) = self.agents.get_mut(agent) {
            (row.total, row.lost) = (Holding::EMPTY, cx.now);
        }
        let farewell = row.farewell;
        let state = match farewell {
            Farewell::Silent | Farewell::Left => AgentState::Unreachable,
            Farewell::Gone | Farewell::Down => AgentState::Gone,
        };
        self.set_agent_state(cx, agent, state);
        for slot in 0..self.frameworks.high_water() {
            if let Some(framework) = self.frameworks.id_at(slot) {
                let event = Event::Failure { agent: row.id, executor: "", exit: Exit::Unseen };
                self.tell(cx, framework, event, &[]);
            }
        }
        if farewell == Farewell::Left {
            // Nobody will ask for it again.
            self.hang_up(cx, agent);
            self.forget_agent(cx, agent);
            cx.fact(Fact::AgentGone { row: agent });
        }
    }

    /// A task is no more where it was. Partition-aware frameworks hear `fine`, others LOST.
    pub(super) fn lose_task(
        &mut self,
        cx: &mut Cx<'_>,
        task: Id,
        reason: Reason,
        fine: TaskState,
        message: &str,
    ) {
        let Some(row) = self.tasks.get(task) else { return };
        let framework = self.frameworks.id_at(row.framework);
        if let Some(framework) = framework
            && (!row.state.is_terminal() || planted(Mutant::LosesTheEnded))
        {
            let aware = self
                .frameworks
                .get_ref(framework)
                .is_some_and(|row| row.capabilities & Capability::PartitionAware.bit() != 0);
            if fine == TaskState::Unreachable
                && let Some(row) = self.frameworks.get_mut(framework)
            {
                row.lost = row.lost.saturating_add(1);
            }
            let state = if aware { fine } else { TaskState::Lost };
            self.tell_task(cx, framework, task, state, reason, message);
            self.task_state_fact(cx, task, state, Source::Master, Some(reason), message);
        }
        self.remove_task(cx, task);
    }

    /// A status of a task that the master makes itself: nothing to acknowledge.
    pub(super) fn tell_task(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        task: Id,
        state: TaskState,
        reason: Reason,
        message: &str,
    ) {
        let Some(row) = self.tasks.get(task) else { return };
        let name = self.text(row.name);
        let agent = self.agents.row(row.agent).map_or(AgentId::NONE, |agent| agent.id);
        let detail = Detail { reason: Some(reason), message, ..Detail::default() };
        let status = Status {
            task: &name,
            state,
            source: Source::Master,
            agent,
            uuid: None,
            wall_us: 0,
            detail: Some(detail),
        };
        self.tell(cx, framework, Event::Update { status }, &[]);
    }

    /// Forgets the row of an agent that has neither session nor tasks.
    pub(super) fn forget_agent(&mut self, cx: &mut Cx<'_>, agent: Id) {
        self.dismiss(cx, agent);
        let Some(row) = self.agents.get(agent) else { return };
        invariant!(row.tasks.is_empty(), "an agent with tasks is forgotten");
        self.agent_timers.clear(agent.index);
        let [by_id, by_key] = &mut self.agents_by;
        let hash = by_id.hash(row.id.epoch.into(), row.id.number.into());
        by_id.remove(&mut self.agents, BY_ID, hash, agent);
        let hash = key_hash(by_key, &row.key);
        by_key.remove(&mut self.agents, BY_KEY, hash, agent);
        self.names.release_one(row.address);
        self.allocator.undescribe(&mut self.names, agent.index);
        self.agents.remove(agent);
    }

    /// The agent lost longest ago, whose row may go when another agent needs it.
    pub(super) fn oldest_unreachable(&self) -> Option<Id> {
        let lost = self
            .agents
            .iter()
            .filter(|(_, row)| matches!(row.state, AgentState::Unreachable | AgentState::Gone));
        lost.min_by_key(|(id, row)| (row.lost, id.index)).map(|(id, _)| id)
    }
}
