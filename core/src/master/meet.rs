//! Two tasks of one framework and id: its agent was given up, another one was started in its place, and
//! the agent is back. Which of the two stays is said by the task's rule ([`OnReturn`]); the other one is
//! killed, and its end, which the master itself has asked for, is told to nobody.

use super::rows::AgentState;
use super::{Cx, Master};
use crate::Refusal;
use crate::registry::rows::Life;
use crate::table::Id;
use crate::time::Time;
use crate::wire::agent::{AgentCall, AgentEvent, TaskHeld, TaskRan};
use crate::wire::task::{OnReturn, TaskOf, TaskState};
use crate::wire::{Head, Seq, Session};

/// µs of a second.
const SECOND_US: u64 = 1_000_000;

/// A moment as rows keep it: never 0, which is none.
pub(super) fn seconds(at: Time) -> u32 {
    u32::try_from(at.0 / SECOND_US).unwrap_or(u32::MAX).max(1)
}

impl Master<'_> {
    /// True when the task that is known, on another agent, is the one that goes: by what a report says
    /// alone.
    pub(super) fn gives_way(&self, agent: Id, known: Id, held: &TaskHeld<'_>) -> bool {
        let stays = match held.restart.on_return {
            OnReturn::KeepOriginal => self.is_original(agent, known),
            OnReturn::KeepReplacement | OnReturn::Unsaid => !self.is_original(agent, known),
            OnReturn::LongestRunning => false,
        };
        stays && self.may_give_way(agent, known, held)
    }

    /// True when both are there, and nobody wants the task to end. One that waits to be started again
    /// makes no other one go that runs.
    fn may_give_way(&self, agent: Id, known: Id, held: &TaskHeld<'_>) -> bool {
        let there = match held.restart.on_return {
            OnReturn::KeepOriginal | OnReturn::LongestRunning => held.state == TaskState::Running,
            OnReturn::KeepReplacement | OnReturn::Unsaid => !held.state.is_terminal(),
        };
        there
            && self.tasks.get_ref(known).is_some_and(|row| {
                row.agent != agent.index && !row.state.is_terminal() && !row.killed
            })
    }

    /// True when what an agent reports was there before the task that is known: its agent had been given
    /// up, or that of the other had not. Whoever leads now may have heard of the two in any order.
    fn is_original(&self, agent: Id, known: Id) -> bool {
        let given_up = self.agents.get_ref(agent).is_some_and(|row| row.life == Life::Unreachable);
        given_up || self.tasks.get_ref(known).is_some_and(|row| !row.returned)
    }

    /// True when the agent says in a moment how long this task has run, and that decides.
    pub(super) fn tells_how_long(&self, agent: Id, held: &TaskHeld<'_>) -> bool {
        let decides = held.restart.on_return == OnReturn::LongestRunning;
        let head =
            Head::AgentCall(AgentCall::Ran { session: Session::default(), tasks: Seq::EMPTY });
        let conn = self.agents.get_ref(agent).and_then(|row| self.conn(row.conn));
        decides && conn.is_some_and(|row| row.version >= head.since())
    }

    /// Makes room for a reported task that stays.
    pub(super) fn meet(&mut self, cx: &mut Cx<'_>, agent: Id, held: &TaskHeld<'_>) {
        let framework = self.framework_by_id(held.framework);
        let known = framework.and_then(|framework| self.task_named(framework, held.task));
        if let Some(known) = known.filter(|known| self.gives_way(agent, *known, held)) {
            self.give_way(cx, known, held);
        }
    }

    /// The task that is known is killed, and forgotten: the other one of its id takes its place.
    fn give_way(&mut self, cx: &mut Cx<'_>, known: Id, held: &TaskHeld<'_>) {
        let there = self.tasks.get_ref(known).and_then(|row| self.agents.id_at(row.agent));
        if let Some(there) = there {
            self.kill_copy(cx, there, held);
        }
        self.remove_task(cx, known);
    }

    fn kill_copy(&mut self, cx: &mut Cx<'_>, agent: Id, held: &TaskHeld<'_>) {
        let task = TaskOf { framework: held.framework, task: held.task };
        // An agent that is away is told when it comes back, and reports it.
        self.order(cx, agent, AgentEvent::Kill { task, grace_us: None }, &[]);
    }

    /// How long tasks have run that an agent has reported: where two of one id have met, the one stays
    /// that has run longest. O(tasks).
    pub(super) fn ran(
        &mut self,
        cx: &mut Cx<'_>,
        agent: Id,
        session: Session,
        tasks: &Seq<'_, TaskRan<'_>>,
    ) -> Result<(), Refusal> {
        let state = self.in_session(agent, session)?.state;
        if state == AgentState::Active {
            return Err(Refusal::OutOfTurn);
        }
        for TaskRan { held, us } in tasks.iter() {
            let framework = self.framework_by_id(held.framework);
            let known = framework.and_then(|framework| self.task_named(framework, held.task));
            let Some(known) = known else { continue };
            let Some(row) = self.tasks.get(known) else { continue };
            if row.agent == agent.index {
                self.note_since(cx, known, us);
            } else if !held.state.is_terminal() {
                let other = match row.since_s {
                    0 => 0,
                    since => u64::from(seconds(cx.now).saturating_sub(since)),
                };
                let stays = us / SECOND_US > other && self.may_give_way(agent, known, &held);
                if stays && self.has_room_for(&held) {
                    self.give_way(cx, known, &held);
                    self.task_held(cx, agent, &held);
                    self.take_in(cx, agent, session, &held);
                    if state == AgentState::Confirming {
                        // What is free was counted before it was there.
                        self.count_free(agent);
                    }
                    let framework = self.framework_by_id(held.framework);
                    let known = framework.and_then(|id| self.task_named(id, held.task));
                    known.into_iter().for_each(|known| self.note_since(cx, known, us));
                } else {
                    self.kill_copy(cx, agent, &held);
                }
            }
        }
        Ok(())
    }

    /// A task has run for so long; 0 = nobody knows.
    fn note_since(&mut self, cx: &Cx<'_>, known: Id, us: u64) {
        if let Some(row) = self.tasks.get_mut(known).filter(|_| us > 0) {
            row.since_s = seconds(Time(cx.now.0.saturating_sub(us)));
        }
    }

    /// Room for one task, beside that of the one that it takes the place of.
    fn has_room_for(&mut self, held: &TaskHeld<'_>) -> bool {
        let need = self.pool.admit(&self.names, &held.resources);
        let fits = need.is_ok_and(|need| need.saturating_mul(2) <= self.pool.room());
        let role = self.framework_by_id(held.framework).is_some_and(|framework| {
            self.allocator.client(&self.names, held.role, framework.index).is_some()
        });
        fits && role && self.names.has_room_for([held.task])
    }

    /// Asks for what everybody may see of a task.
    fn take_in(&mut self, cx: &mut Cx<'_>, agent: Id, session: Session, held: &TaskHeld<'_>) {
        if held.public.len == 0 {
            return;
        }
        self.with_scratch(|master, outer, _| {
            let mut outer = crate::wire::Scratch::new(outer);
            let mut wanted = outer.list::<TaskOf<'static>>();
            let _ = wanted.push(&TaskOf { framework: held.framework, task: held.task });
            master.order(cx, agent, AgentEvent::Want { session, tasks: wanted.end() }, &[]);
        });
    }
}
