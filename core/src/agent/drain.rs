//! An end to everything here: an agent that leaves, and one that an operator empties.
//!
//! Mesos: `Slave::shutdown`, `Slave::drain`. Tasks are ended over as many ticks as it takes, so
//! that no step emits more than its bound. Being emptied is kept in the ledger until an operator
//! has the agent offered again: it survives restarts of the agent and of the master.

use super::{Agent, AgentCall, Cx, Head, Output, Record, Task};
use crate::Refusal;
use crate::wire::task::{Reason, TaskState};

/// What an operator said about the emptying of this agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Drain {
    /// It is being emptied.
    pub(super) on: bool,
    /// No task gets more grace than this, in µs; none = what each task says.
    pub(super) grace_us: Option<u64>,
    /// It will be marked gone then.
    pub(super) gone: bool,
}

impl Agent<'_> {
    /// Ends every task and accepts no more. Said again, the newest bound and what follows count.
    pub(super) fn drain(
        &mut self,
        cx: &mut Cx<'_>,
        grace_us: Option<u64>,
        gone: bool,
    ) -> Result<(), Refusal> {
        let drain = Drain { on: true, grace_us, gone };
        if self.drain == drain {
            return Ok(());
        }
        self.drain = drain;
        self.persist(cx, draining(&self.drain), true, &[]);
        self.begin_ending(cx);
        Ok(())
    }

    /// Tells a new session that this agent is being emptied: its master may not know.
    pub(super) fn tell_draining(&mut self, cx: &mut Cx<'_>) {
        let Drain { on, grace_us, gone } = self.drain;
        if on {
            let session = self.link.session;
            let call = AgentCall::Draining { session, grace_us, gone };
            self.tell_master(cx, Head::AgentCall(call), &[]);
        }
    }

    /// Tells its master that it is to offer nothing here any more.
    pub(super) fn tell_leaving(&mut self, cx: &mut Cx<'_>) {
        if self.counters.leaving && !self.counters.left {
            let session = self.link.session;
            self.tell_master(cx, Head::AgentCall(AgentCall::Leaving { session }), &[]);
        }
    }

    /// Goes on with what its ledger says, after a start.
    pub(super) fn drain_again(&mut self, cx: &mut Cx<'_>) {
        if self.drain.on {
            self.begin_ending(cx);
        }
    }

    /// Ends everything, and leaves when every end is acknowledged.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        self.counters.hurries = self.counters.leaving;
        self.counters.leaving = true;
        self.tell_leaving(cx);
        self.begin_ending(cx);
    }

    fn begin_ending(&mut self, cx: &mut Cx<'_>) {
        self.counters.ending = 1;
        self.end_some(cx);
    }

    /// Ends tasks, and executors if the agent leaves, as many as a step has room for.
    pub(super) fn end_some(&mut self, cx: &mut Cx<'_>) {
        let grace_us = self.drain.grace_us.filter(|_| self.drain.on);
        let tasks = self.tasks.high_water();
        let executors = if self.counters.leaving { self.executors.high_water() } else { 0 };
        while let Some(at) = self.counters.ending.checked_sub(1)
            && cx.has_room()
        {
            self.counters.ending = at.saturating_add(2);
            if at < tasks {
                if let Some((id, row)) = self.tasks.at(at) {
                    let grace_us = grace_us.map(|most| most.min(row.grace_us));
                    self.kill_task(cx, id, grace_us);
                }
            } else if at < tasks.saturating_add(executors) {
                if let Some(id) = self.executors.id_at(at.saturating_sub(tasks)) {
                    self.end_executor(cx, id);
                }
            } else {
                self.counters.ending = 0;
                self.check_left(cx);
            }
        }
    }

    /// It is offered again, and accepts tasks.
    pub(super) fn reactivate(&mut self, cx: &mut Cx<'_>) {
        if self.drain.on {
            self.drain = Drain::default();
            self.persist(cx, Record::Reactivated, true, &[]);
        }
    }

    /// Says that it leaves, once nothing lives here any more, and every end is acknowledged: nobody
    /// could tell it afterwards.
    pub(super) fn check_left(&mut self, cx: &mut Cx<'_>) {
        let unfinished = self.counters.ending != 0 || !self.counters.recovered;
        if unfinished || !self.counters.leaving || self.counters.left {
            return;
        }
        let hurries = self.counters.hurries;
        let stays = |task: &Task| !(hurries && task.state.is_terminal());
        // One of the agent's own lives as long as its tasks are not settled.
        let lives = self.executors.iter().any(|(_, executor)| !executor.builtin);
        if self.tasks.iter().any(|(_, task)| stays(task)) || lives {
            return;
        }
        self.counters.left = true;
        let session = self.link.session;
        self.tell_master(cx, Head::AgentCall(AgentCall::Leave { session }), &[]);
        cx.emit(Output::Left);
    }

    /// Why a task is told in a state: while the agent is being emptied, kills are for that.
    pub(super) fn reason_of(&self, state: TaskState, reason: Option<Reason>) -> Option<Reason> {
        let killed = matches!(state, TaskState::Killing | TaskState::Killed);
        if self.drain.on && killed { Some(Reason::AgentDraining) } else { reason }
    }

    /// Writes down that it is being emptied, in a ledger that is made anew.
    pub(super) fn snapshot_drain(&mut self, cx: &mut Cx<'_>) {
        if self.drain.on {
            self.persist(cx, draining(&self.drain), false, &[]);
        }
    }
}

const fn draining(drain: &Drain) -> Record<'static> {
    Record::Draining { grace_us: drain.grace_us, gone: drain.gone }
}
