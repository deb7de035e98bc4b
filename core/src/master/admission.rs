//! Which agents belong to the cluster: what the registry keeps of each, and what follows from it.
//!
//! An agent is admitted once, and told so when the registry has it; after that it comes and goes
//! without a write. Whatever its tasks are told because it is given up waits until the registry has
//! the mark: no later master thinks otherwise. A master that begins to lead knows every agent of
//! its predecessor, and waits for them: until most have come back it makes no offers where somebody
//! has a quota, or what comes first would be given to whoever asks first. Mesos:
//! `Master::recover`, `recoveredSlavesTimeout`, `markUnreachable`, `HierarchicalAllocator::recover`.

use super::rows::{Agent, AgentState, Emptying, Farewell};
use super::{Cx, Fact, Master, Output};
use crate::Refusal;
use crate::allocator::hosts::Description;
use crate::limits::NAME_MAX;
use crate::mutant::{Mutant, planted};
use crate::registry::rows::{Admission, Life};
use crate::table::Id;
use crate::time::Time;
use crate::wire::event::AgentInfo;
use crate::wire::{AgentId, Seq, Session};

/// An agent of which only that is known.
fn recalled_fact(cx: &mut Cx<'_>, row: Id, agent: AgentId, hostname: &str) {
    let (region, zone, address, attributes) = ("", "", "", Seq::EMPTY);
    let info = AgentInfo { agent, hostname, region, zone, attributes, address };
    let (resources, session) = (Seq::EMPTY, Session::default());
    cx.fact(Fact::Agent { row, info, resources, session, tasks_max: 0, task_kinds: 0 });
}

/// So many thousandths of a number, rounded down.
fn share(of: u32, milli: u32) -> u32 {
    let part = u64::from(of).saturating_mul(milli.min(1_000).into()) / 1_000;
    u32::try_from(part).unwrap_or(of)
}

impl Master<'_> {
    /// An agent that the registry has; before this master leads. O(1).
    ///
    /// `OutOfTurn`, `Exists`, `AgentsFull`.
    pub(super) fn recall(&mut self, cx: &mut Cx<'_>, admission: &Admission) -> Result<(), Refusal> {
        let Admission { agent, key, life, deactivated, emptying } = *admission;
        if self.cluster != 0 || agent.is_none() {
            return Err(Refusal::OutOfTurn);
        }
        if self.agent_by_id(agent).is_some() || self.agent_by_key(&key).is_some() {
            return Err(Refusal::Exists);
        }
        let row = Agent { id: agent, key, life, admitted: true, ..bytemuck::Zeroable::zeroed() };
        let id = self.agents.insert(row).map_err(|_| Refusal::AgentsFull)?;
        self.index_agent(id);
        recalled_fact(cx, id, agent, "");
        let state = match life {
            Life::Admitted => AgentState::Recovered,
            Life::Unreachable => AgentState::Unreachable,
            Life::Gone => AgentState::Gone,
        };
        if life == Life::Gone
            && let Some(row) = self.agents.get_mut(id)
        {
            row.farewell = Farewell::Gone;
        }
        self.counters.recovered =
            self.counters.recovered.saturating_add(u32::from(life == Life::Admitted));
        self.set_agent_state(cx, id, state);
        if let Some(emptied) = emptying {
            self.empty(cx, id, emptied.grace_us, emptied.gone);
        } else {
            // The registry knows better than an agent that still says so.
            if let Some(row) = self.agents.get_mut(id) {
                row.reactivated = true;
            }
            if deactivated {
                self.set_deactivated(cx, id, true);
            }
        }
        Ok(())
    }

    /// What the host of such an agent is called: it is told so until the agent says it itself. O(1).
    ///
    /// `OutOfTurn`, `UnknownAgent`, `TooLong`, `NamesFull`.
    pub(super) fn recall_host(
        &mut self,
        cx: &mut Cx<'_>,
        agent: AgentId,
        hostname: &str,
    ) -> Result<(), Refusal> {
        if self.cluster != 0 {
            return Err(Refusal::OutOfTurn);
        }
        let id = self.agent_by_id(agent).ok_or(Refusal::UnknownAgent)?;
        if hostname.len() > NAME_MAX {
            return Err(Refusal::TooLong);
        }
        if !self.names.has_room_for([hostname]) {
            return Err(Refusal::NamesFull);
        }
        let attributes = Seq::EMPTY;
        let description = Description { hostname, region: "", zone: "", attributes };
        self.allocator.describe(&mut self.names, id.index, &description);
        recalled_fact(cx, id, agent, hostname);
        Ok(())
    }

    /// What the registry keeps of agents is known from now on: they are given time to come back.
    /// O(agents).
    ///
    /// Of all that it has, those that earlier masters gave up are part of what may be given up, or a few
    /// changes of leader would give up everyone.
    pub(super) fn begin_recovery(&mut self, now: Time) {
        let expected = self.counters.recovered;
        let due = now.after(self.config.reregister_us);
        let mut lost = 0_u32;
        for slot in 0..self.agents.high_water() {
            match self.agents.row(slot).map(|row| row.state) {
                Some(AgentState::Recovered) => self.agent_timers.set(slot, due),
                Some(AgentState::Unreachable) => lost = lost.saturating_add(1),
                _ => {}
            }
        }
        let limit = self.config.removal_share_milli;
        let most = share(expected.saturating_add(lost), limit).max(u32::from(limit > 0));
        self.counters.removals_left = most.saturating_sub(lost);
        let awaited = share(expected, self.config.recovery_share_milli);
        if awaited > 0 && self.allocator.has_quotas() {
            self.counters.awaited = awaited;
            self.counters.recovery_ends = now.after(self.config.recovery_timeout_us);
            self.allocator.pause(true);
        }
    }

    /// When offers are made again at the latest.
    pub(super) fn recovery_ends(&self) -> Time {
        if self.counters.awaited > 0 { self.counters.recovery_ends } else { Time::NEVER }
    }

    /// An agent came back: with enough of them, or after long enough, offers are made again. O(1).
    pub(super) fn recover_some(&mut self, back: u32, now: Time) {
        if self.counters.awaited == 0 {
            return;
        }
        let left = self.counters.awaited.saturating_sub(back);
        self.counters.awaited = if now >= self.counters.recovery_ends { 0 } else { left };
        if self.counters.awaited == 0 {
            self.allocator.pause(false);
        }
    }

    /// An agent is about to be told that it is registered: the registry has it first.
    pub(super) fn admit(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get_mut(agent) else { return };
        if !core::mem::replace(&mut row.admitted, true) {
            row.life = Life::Admitted;
            self.keep_agent(cx, agent);
        }
    }

    /// An agent that was given up is back, and everything that it held has been decided on.
    pub(super) fn admit_again(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get_mut(agent) else { return };
        if core::mem::replace(&mut row.life, Life::Admitted) != Life::Admitted {
            self.keep_agent(cx, agent);
        }
    }

    /// What the registry is to have of an agent from now on, if it is admitted.
    pub(super) fn keep_agent(&self, cx: &mut Cx<'_>, agent: Id) {
        if let Some(row) = self.agents.get_ref(agent).filter(|row| row.admitted) {
            cx.fact(Fact::Admission(row.admission()));
        }
    }

    /// The registry is to have nothing of an agent.
    pub(super) fn dismiss(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get_mut(agent) else { return };
        if core::mem::take(&mut row.admitted) {
            let id = row.id;
            cx.fact(Fact::Dismissed { agent: id });
        }
    }

    /// An agent is given up: what its tasks are told waits for the registry. Said by whoever has
    /// just counted it among the long work, or found it there.
    pub(super) fn mark(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let Some(row) = self.agents.get_mut(agent).filter(|row| row.admitted) else { return };
        if !planted(Mutant::GivesUpEarly) {
            if row.has_chore() {
                self.counters.chores = self.counters.chores.saturating_sub(1);
            }
            row.marks = row.marks.saturating_add(1);
        }
        match row.farewell {
            Farewell::Silent => row.life = Life::Unreachable,
            Farewell::Gone => row.life = Life::Gone,
            Farewell::Left | Farewell::Down => {
                self.dismiss(cx, agent);
                cx.emit(Output::Await { agent });
                return;
            }
        }
        self.keep_agent(cx, agent);
        cx.emit(Output::Await { agent });
    }

    /// The registry has a mark. `UnknownAgent`, `OutOfTurn` for one that nobody waits for.
    pub(super) fn marked(&mut self, cx: &mut Cx<'_>, agent: Id) -> Result<(), Refusal> {
        let row = self.agents.get_mut(agent).ok_or(Refusal::UnknownAgent)?;
        row.marks = row.marks.checked_sub(1).ok_or(Refusal::OutOfTurn)?;
        if row.has_chore() {
            self.counters.chores = self.counters.chores.saturating_add(1);
        }
        self.shut_down(cx, agent);
        Ok(())
    }

    /// An agent was silent for too long. Of those that never came back to this master only a share
    /// is given up without an operator: that more are lost is less likely than that they cannot
    /// reach it.
    pub(super) fn lose_silent(&mut self, cx: &mut Cx<'_>, agent: Id) {
        let state = self.agents.get_ref(agent).map(|row| row.state);
        if state == Some(AgentState::Recovered) {
            let Some(left) = self.counters.removals_left.checked_sub(1) else {
                self.counters.kept_back = self.counters.kept_back.saturating_add(1);
                cx.fact(Fact::AgentKept { row: agent });
                return;
            };
            self.counters.removals_left = left;
        }
        self.counters.next_removal = cx.now.after(self.config.removal_every_us);
        self.lose(cx, agent, Farewell::Silent);
    }

    /// True while an agent that is not here yet may have a task that nobody knows.
    pub(super) fn may_come_back(&self, agent: AgentId) -> bool {
        agent.is_none() && self.counters.recovered > 0
    }
}

impl Agent {
    /// What the registry keeps of it.
    fn admission(&self) -> Admission {
        Admission {
            agent: self.id,
            key: self.key,
            life: self.life,
            deactivated: self.deactivated,
            emptying: (self.emptying != Emptying::No).then_some(self.emptied()),
        }
    }

    /// True while it has a place among the long work.
    pub(super) fn has_chore(&self) -> bool {
        match self.state {
            AgentState::Settling => true,
            AgentState::Losing => self.marks == 0,
            AgentState::Recovered
            | AgentState::Registering
            | AgentState::Confirming
            | AgentState::Active
            | AgentState::Away
            | AgentState::Unreachable
            | AgentState::Gone => false,
        }
    }
}
