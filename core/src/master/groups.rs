//! LAUNCH_GROUP: tasks that live and die together, launched all or none.
//!
//! Mesos: `Master::_accept`, `validation::task::group`. Their executor is the agent itself; it is
//! charged as any other, and an executor of this id that lives already must be the same. A group goes
//! to its agent in one message, so its size has a bound.

use super::launch::{Bad, Taking};
use super::{Cx, Master, Verdict};
use crate::Refusal;
use crate::limits::{BODIES_PER_FRAME_MAX, TASKS_PER_GROUP_MAX};
use crate::table::Id;
use crate::wire::resource::{Resource, Value};
use crate::wire::task::{Executor as WireExecutor, Launch, Reason, TaskState};
use crate::wire::{BodyRef, Scratch, Seq, encode};

/// What a group is refused with; what is wrong with one of its tasks is told of all.
struct BadGroup<'v> {
    state: TaskState,
    reason: Reason,
    message: &'v str,
}

impl From<Bad> for BadGroup<'_> {
    fn from(bad: Bad) -> Self {
        let Bad { state, reason, message } = bad;
        let reason = if reason == Reason::TaskInvalid {
            Reason::TaskGroupInvalid
        } else if reason == Reason::TaskUnauthorized {
            Reason::TaskGroupUnauthorized
        } else {
            reason
        };
        Self { state, reason, message }
    }
}

/// A group on its way.
pub(super) struct Group<'g, 'w> {
    pub(super) executor: WireExecutor<'w>,
    pub(super) tasks: &'g Seq<'w, Launch<'w>>,
    pub(super) bodies: &'g [BodyRef],
}

impl<'w> Group<'_, 'w> {
    fn iter(&self) -> impl Iterator<Item = Launch<'w>> + '_ {
        // Each is checked and charged as under its executor.
        self.tasks.iter().map(|task| Launch { executor: Some(self.executor), ..task })
    }
}

impl Master<'_> {
    /// Launches a group, or tells of every task why not. `first` is the place of its first task
    /// among all of the call. O(tasks² + tasks · resources).
    pub(super) fn launch_group(
        &mut self,
        cx: &mut Cx<'_>,
        taking: &mut Taking,
        group: &Group<'_, '_>,
        verdicts: &Seq<'_, Verdict<'_>>,
        first: u16,
    ) {
        if let Err(bad) = self.check_group(taking, group, verdicts, first) {
            for task in group.tasks.iter() {
                let BadGroup { state, reason, message } = bad;
                self.tell_bad(cx, taking.framework, &task, state, reason, message);
            }
            return;
        }
        for task in group.iter() {
            self.launch_one(cx, taking, &task, group.bodies);
        }
        let mut ready = heapless::Vec::<u16, TASKS_PER_GROUP_MAX>::new();
        ready.extend((0u16..).take(group.tasks.len() as usize));
        let executor = Some(group.executor);
        let sent = self.send_launch(cx, taking, group.tasks, &ready, group.bodies, executor);
        invariant!(sent == ready.len(), "a group that was measured does not fit its message");
    }

    fn check_group<'v>(
        &mut self,
        taking: &Taking,
        group: &Group<'_, '_>,
        verdicts: &Seq<'v, Verdict<'v>>,
        first: u16,
    ) -> Result<(), BadGroup<'v>> {
        let count = group.tasks.len();
        if count as usize > TASKS_PER_GROUP_MAX {
            return Err(Bad::invalid("A task group has at most 64 tasks").into());
        }
        let places = first..first.saturating_add(u16::try_from(count).unwrap_or(u16::MAX));
        if let Some(verdict) = verdicts.iter().find(|verdict| places.contains(&verdict.task)) {
            let denied = verdict.denied;
            let reason =
                if denied { Reason::TaskGroupUnauthorized } else { Reason::TaskGroupInvalid };
            let (state, message) = (TaskState::Error, verdict.message);
            return Err(BadGroup { state, reason, message });
        }
        for (place, task) in group.iter().enumerate() {
            self.check_member(taking, &task)?;
            if group.tasks.iter().take(place).any(|earlier| earlier.task == task.task) {
                return Err(Bad::invalid("Two tasks of the group have the same id").into());
            }
        }
        let known = self.executor_named(taking.framework, taking.agent, group.executor.id);
        if let Some(known) = known {
            self.check_same_executor(known, group.executor.body.of(group.bodies))?;
        }
        self.check_group_resources(taking, group, known.is_none())?;
        self.check_group_room(taking, group, known.is_none())?;
        self.check_group_fits(taking, group)?;
        Ok(())
    }

    /// What is checked of one task by itself.
    fn check_member(&self, taking: &Taking, task: &Launch<'_>) -> Result<(), Bad> {
        let (framework, agent) = self.check_task_itself(taking, task)?;
        self.check_taken(agent, task)?;
        if !task.kind.is_of_group() {
            return Err(Bad::invalid("A task of a group has a command"));
        }
        self.check_user(framework, task)?;
        self.check_own_resources(taking, task)
    }

    /// All tasks and their executor, if it is new, must fit the offers together.
    fn check_group_resources(
        &mut self,
        taking: &Taking,
        group: &Group<'_, '_>,
        new: bool,
    ) -> Result<(), Bad> {
        let of_executor = if new { group.executor.resources } else { Seq::EMPTY };
        self.check_allocated(taking, &of_executor)?;
        if let Err(refusal) = self.pool.admit(&self.names, &of_executor) {
            return Err(Bad::full(refusal));
        }
        let rest = taking.rest;
        self.with_scratch(|master, outer, _| {
            let tasks = group.tasks.iter().flat_map(|task| task.resources.iter());
            let all = tasks.chain(of_executor.iter());
            let Ok(all) = Scratch::new(outer).seq::<Resource<'static>>(all) else {
                return Err(Bad::full(Refusal::ResourcesFull));
            };
            if master.pool.contains_wire(&master.names, rest, &all) {
                Ok(())
            } else {
                Err(Bad::invalid("Task group uses more resources than were offered"))
            }
        })
    }

    fn check_group_room(
        &self,
        taking: &Taking,
        group: &Group<'_, '_>,
        new: bool,
    ) -> Result<(), Bad> {
        let agent = self.agents.get_ref(taking.agent);
        let held = agent.map_or(0, |agent| agent.tasks.len());
        let max = agent.map_or(0, |agent| agent.tasks_max);
        let count = group.tasks.len();
        let of_executor = if new { group.executor.resources } else { Seq::EMPTY };
        let pieces = |resource: Resource<'_>| match resource.value {
            Value::Ranges(ranges) => ranges.len().saturating_mul(2).saturating_add(1),
            Value::Scalar(_) | Value::Set(_) => 2,
        };
        let resources = group.tasks.iter().flat_map(|task| task.resources.iter());
        let needed =
            resources.chain(of_executor.iter()).map(pieces).fold(0u32, u32::saturating_add);
        let names = group.tasks.iter().map(|task| task.task).chain([group.executor.id]);
        let full = if max != 0 && held.saturating_add(count) > max {
            Some(Refusal::AgentFull)
        } else if self.tasks.room() < count {
            Some(Refusal::TasksFull)
        } else if new && self.executors.room() == 0 {
            Some(Refusal::ExecutorsFull)
        } else if !self.names.has_room_for(names) {
            Some(Refusal::NamesFull)
        } else if needed > self.pool.room() {
            Some(Refusal::ResourcesFull)
        } else {
            None
        };
        full.map_or(Ok(()), |refusal| Err(Bad::full(refusal)))
    }

    /// The message that the agent gets must hold all of it.
    fn check_group_fits(&mut self, taking: &Taking, group: &Group<'_, '_>) -> Result<(), Bad> {
        // Two bodies of each task, and the executor's.
        let bodies = group.tasks.len().saturating_mul(2).saturating_add(1);
        let conn = self.agents.get(taking.agent).map_or(Id::NONE, |agent| agent.conn);
        let role = self.allocator.role_of(&self.names, taking.client);
        let (executor, tasks) = (group.executor, group.tasks);
        let fits = self.with_held(taking.framework, |master, held, _| {
            let head_max = master.head_max(conn);
            master.with_scratch(|_, outer, _| {
                let len = |bytes: Option<usize>| bytes.unwrap_or(usize::MAX);
                let beside = len(encode(held, outer).ok().map(|bytes| bytes.len()));
                let beside = beside.saturating_add(role.len()).saturating_add(96);
                let mut first = Some(executor);
                let all = tasks.iter().fold(beside, |all, task| {
                    let launch = Launch { executor: first.take(), ..task };
                    // References to bodies may take more in the other frame.
                    let bytes = len(encode(&launch, outer).ok().map(|bytes| bytes.len()));
                    all.saturating_add(bytes).saturating_add(8)
                });
                all <= head_max.min(outer.len())
            })
        });
        if fits && bodies as usize <= BODIES_PER_FRAME_MAX {
            Ok(())
        } else {
            Err(Bad::invalid("The task group is too large for one message to its agent"))
        }
    }
}
