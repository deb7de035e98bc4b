//! Groups of tasks that live and die together, under an executor of the agent's own (Mesos:
//! `launcher/default_executor.cpp`), or given all at once to one of the framework's own, which sees to
//! the rest.
//!
//! The agent's own executor has no process. It is charged for as long as one of its tasks is not settled, and
//! each of its tasks runs in a container of its own, inside the executor's. A group is accepted as a
//! whole or not at all; when one of its tasks fails or is killed, the others are killed.

use super::executors::given;
use super::launch::{Accepted, Taken};
use super::rows::{GIVEN, OF_EXECUTOR, Ordered, Stage, Task};
use super::{Agent, Cx, Hand, Output, Record};
use crate::Refusal;
use crate::doors;
use crate::index::after;
use crate::limits::TASKS_PER_GROUP_MAX;
use crate::table::Id;
use crate::wire::agent::FrameworkHeld;
use crate::wire::executor::ExecutorEvent;
use crate::wire::resource::Resource;
use crate::wire::task::{
    Executor as WireExecutor, Exit, Kind, Launch, Reason, RestartRule, TaskState,
};
use crate::wire::{BodyRef, Head, Scratch, Seq};

/// Bytes of the resources of one task.
const RESOURCES_BYTES: usize = 4096;

/// A group on its way in.
pub(super) struct Group<'g, 'w> {
    pub(super) held: &'g FrameworkHeld<'w>,
    pub(super) role: &'g str,
    /// All tasks of the launch, and which of them are the group's.
    pub(super) tasks: &'g Seq<'w, Launch<'w>>,
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) bodies: &'g [BodyRef],
}

impl<'g, 'w> Group<'g, 'w> {
    /// Those from `first` on that are of one group; none if that is of no group.
    pub(super) fn at(
        held: &'g FrameworkHeld<'w>,
        role: &'g str,
        tasks: &'g Seq<'w, Launch<'w>>,
        first: usize,
        bodies: &'g [BodyRef],
    ) -> Option<Self> {
        let kind = tasks.iter().nth(first)?.kind;
        if !kind.is_of_group() {
            return None;
        }
        let count = tasks.iter().skip(first).take_while(|task| task.kind == kind).count();
        Some(Self { held, role, tasks, first, count, bodies })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Launch<'w>> + '_ {
        self.tasks.iter().skip(self.first).take(self.count)
    }

    /// The agent itself runs them.
    fn is_builtin(&self) -> bool {
        self.iter().next().is_some_and(|task| matches!(task.kind, Kind::Group { .. }))
    }

    /// Their executor, which comes with the first.
    fn executor(&self) -> Option<WireExecutor<'w>> {
        self.iter().next().and_then(|task| task.executor)
    }
}

impl Agent<'_> {
    /// Takes a group in, or tells all of it dropped.
    pub(super) fn launch_group(&mut self, cx: &mut Cx<'_>, framework: Id, group: &Group<'_, '_>) {
        match self.check_group(framework, group) {
            Ok(executor) => self.accept_group(cx, framework, group, &executor),
            Err(refusal) => {
                for task in group.iter() {
                    // One that lives here already came in with its own group.
                    if self.check_new(group.held, &task).is_ok() {
                        self.drop_launch(cx, group.held, &task, refusal);
                    }
                }
            }
        }
    }

    /// Everything that can keep a group from being accepted here.
    fn check_group<'w>(
        &mut self,
        framework: Id,
        group: &Group<'_, 'w>,
    ) -> Result<WireExecutor<'w>, Refusal> {
        let executor = group.executor().ok_or(Refusal::UnknownExecutor)?;
        if group.count > TASKS_PER_GROUP_MAX {
            return Err(Refusal::TasksFull);
        }
        let known = self.executor_named(framework, executor.id);
        if let Some(row) = known.and_then(|id| self.executors.get_ref(id)) {
            let body = executor.body.of(group.bodies);
            if row.builtin != group.is_builtin()
                || (row.body.len, row.body.hash) != (body.len, body.hash)
            {
                return Err(Refusal::Exists);
            }
        }
        for task in group.iter() {
            self.check_new(group.held, &task)?;
            self.check_taker(framework, group.held, &task, executor.user)?;
        }
        self.check_rooms(group.count, known.is_none())?;
        let texts = group.iter().flat_map(|task| [task.task, group.role, task.user]);
        let shared = [executor.id, executor.user, group.held.user, group.held.caller];
        if !self.names.has_room_for(texts.chain(shared)) {
            return Err(Refusal::NamesFull);
        }
        self.check_group_resources(group, executor.resources, known.is_none())?;
        Ok(executor)
    }

    /// The resources of all tasks together, and of the executor if it is new.
    fn check_group_resources(
        &mut self,
        group: &Group<'_, '_>,
        of_executor: Seq<'_, Resource<'_>>,
        new: bool,
    ) -> Result<(), Refusal> {
        let of_executor = if new { of_executor } else { Seq::EMPTY };
        self.with_scratch(|agent, outer, _| {
            let mut all = Scratch::new(outer);
            let mut all = all.list::<Resource<'static>>();
            let lists = group.iter().map(|task| task.resources).chain([of_executor]);
            for resources in lists {
                agent.pool.admit(&agent.names, &resources)?;
                for resource in resources.iter() {
                    all.push(&resource).map_err(|_| Refusal::ResourcesFull)?;
                }
            }
            agent.check_fits(&all.end())
        })
    }

    fn accept_group(
        &mut self,
        cx: &mut Cx<'_>,
        framework: Id,
        group: &Group<'_, '_>,
        executor: &WireExecutor<'_>,
    ) {
        let Group { held, role, bodies, .. } = *group;
        let (known, builtin) = (self.executor_named(framework, executor.id), group.is_builtin());
        let id = known
            .or_else(|| self.accept_executor(cx, framework, held, role, executor, bodies, builtin));
        let Some(id) = id else { return };
        let number = self.next_group(id);
        // In the ledger each task names its executor; what that holds is on record already.
        let named = WireExecutor {
            resources: Seq::EMPTY,
            user: "",
            grace_us: None,
            body: crate::wire::Body::NONE,
            ..*executor
        };
        for task in group.iter() {
            let user = doors::user(task.user, executor.user, held.user, held.caller);
            let (container, kind, named) = match self.executors.get_ref(id) {
                Some(row) if !builtin => (row.container, Kind::Given { group: number }, None),
                _ => (self.next_container(), Kind::Group { group: number }, Some(named)),
            };
            let launch = Launch { kind, executor: named, ..task };
            let taken = Taken { framework, held, role, user, container, executor: Some(id) };
            self.take_in(cx, &taken, &Accepted { launch, bodies });
        }
    }

    /// A number that none of the executor's groups has.
    fn next_group(&self, executor: Id) -> u16 {
        let chain = self.executors.get_ref(executor).map(|row| row.tasks);
        let has = |number: u32| {
            let mut next = chain.and_then(|chain| chain.first(&self.tasks));
            while let Some(task) = next {
                next = after(&self.tasks, OF_EXECUTOR, task);
                if self.tasks.get_ref(task).is_some_and(|row| row.group & !GIVEN == number) {
                    return true;
                }
            }
            false
        };
        // Fewer tasks than numbers: one is free.
        (0..u16::MAX).find(|number| !has(u32::from(*number).saturating_add(1))).unwrap_or(u16::MAX)
    }

    /// The others of a group end with one that did not end well.
    pub(super) fn end_rest_of_group(&mut self, cx: &mut Cx<'_>, of: &Task) {
        if of.group == 0 || of.is_given() {
            // The executor that was given them ends them, or does not.
            return;
        }
        // All are marked first: the end of one of them then finds nobody left to be ended.
        self.each_of_group(of, |agent, id, row| {
            if row.ordered == Ordered::No {
                if let Some(row) = agent.tasks.get_mut(id) {
                    row.ordered = Ordered::Group;
                }
                agent.with_task_of(&row, |agent, task| {
                    let sync = row.restart.rule != RestartRule::Never;
                    agent.persist(cx, Record::Kill { task }, sync, &[]);
                });
            }
        });
        self.each_of_group(of, |agent, id, row| {
            if row.ordered == Ordered::Group {
                if let Some(row) = agent.tasks.get_mut(id) {
                    row.ordered = Ordered::Kill;
                }
                agent.begin_end(cx, id);
            }
        });
    }

    /// Every task of a group that has not ended.
    pub(super) fn each_of_group(&mut self, of: &Task, mut what: impl FnMut(&mut Self, Id, Task)) {
        let executor = of.executor.checked_sub(1).and_then(|slot| self.executors.row(slot));
        let mut next = executor.and_then(|row| row.tasks.first(&self.tasks));
        while let Some(id) = next {
            next = after(&self.tasks, OF_EXECUTOR, id);
            let Some(row) = self.tasks.get(id) else { continue };
            if row.group == of.group && !row.state.is_terminal() {
                what(self, id, row);
            }
        }
    }

    /// Gives an executor all of a group, when all of it is written down and it is subscribed; else when it
    /// subscribes. Mesos: `Slave::launchExecutor`, `queuedTaskGroups`.
    pub(super) fn hand_group(&mut self, cx: &mut Cx<'_>, executor: Id, of: &Task) {
        let Some(conn) = self.executors.get_ref(executor).and_then(|row| row.conn.some()) else {
            return;
        };
        let mut members = heapless::Vec::<Task, TASKS_PER_GROUP_MAX>::new();
        let mut waits = false;
        self.each_of_group(of, |_, _, row| {
            waits |= row.stage == Stage::Recording;
            if row.stage == Stage::Starting {
                // No group has more.
                let _ = members.push(row);
            }
        });
        if waits {
            return;
        }
        self.each_of_group(of, |agent, id, _| {
            if let Some(row) = agent.tasks.get_mut(id) {
                row.stage = Stage::Running;
            }
        });
        let mut with = heapless::Vec::<BodyRef, { 2 * TASKS_PER_GROUP_MAX }>::new();
        self.with_scratch(|agent, outer, inner| {
            let mut outer = Scratch::new(outer);
            let mut list = outer.list::<Launch<'static>>();
            for row in &members {
                let (name, user) = (agent.text(row.name), agent.text(row.user));
                let mut memory = [0u8; RESOURCES_BYTES];
                let mut held = Scratch::new(&mut memory);
                let resources = agent.pool.write(&agent.names, row.held, "", &mut held, inner);
                let places = [row.public, row.private].map(|body| {
                    let place = u16::try_from(with.len()).unwrap_or(u16::MAX);
                    if !body.is_none() {
                        let _ = with.push(body);
                    }
                    place
                });
                let resources = resources.unwrap_or_default();
                let launch = given(agent.agent, row, [&name, &user], resources, places);
                let fits = list.push(&launch).is_ok();
                invariant!(fits, "a group that came in one head does not fit another");
            }
            let head = Head::ExecutorEvent(ExecutorEvent::LaunchGroup { tasks: list.end() });
            cx.emit_with(Output::Send { conn, head }, &with);
        });
    }

    /// A group of which one is killed before its executor has it never begins. Mesos: `Slave::kill`.
    pub(super) fn end_unhanded(&mut self, cx: &mut Cx<'_>, of: &Task) {
        self.each_of_group(of, |agent, id, _| {
            let (state, reason) = (TaskState::Killed, Some(Reason::TaskKilledDuringLaunch));
            agent.end_task(cx, id, state, reason, "Killed before its executor had it", [0; 2]);
        });
    }

    /// SHUTDOWN: every task of it is killed, over as many ticks as it takes, and with the last of
    /// them it goes.
    pub(super) fn end_builtin(&mut self, cx: &mut Cx<'_>, executor: Id) {
        let mut next =
            self.executors.get_ref(executor).and_then(|row| row.tasks.first(&self.tasks));
        while let Some(task) = next {
            next = after(&self.tasks, OF_EXECUTOR, task);
            if !cx.has_room() {
                self.shutdowns.set(executor.index, cx.now);
                return;
            }
            let row = self.tasks.get_ref(task);
            if row.is_some_and(|row| row.ordered == Ordered::No && !row.state.is_terminal()) {
                self.kill_task(cx, task, None);
            }
        }
        self.tidy_builtin(cx, executor);
    }

    /// An executor of the agent's own goes with the last of its tasks.
    pub(super) fn tidy_builtin(&mut self, cx: &mut Cx<'_>, executor: Id) {
        let row = self.executors.get(executor);
        let Some(row) = row.filter(|row| row.builtin && row.tasks.is_empty()) else { return };
        if row.stage == Stage::Recording {
            return;
        }
        cx.hand(Hand::Destroy { container: row.container });
        self.executor_ended(cx, executor, Exit::Code(0), None, "");
    }
}
